//! What was decided, as items to write, in the orders in which it may be possible to write them.
//!
//! Whoever worked offline did one thing after the other, and a push does not say in which order. Foreign keys leave some open: a parent is
//! inserted before its children, and deleted after them, but whether it was updated before they were or after is not known. So there are few orders, of as
//! few statements each, which are tried one after the other ([`Foremost`]). That is no search: where rows of one table want different orders, they are written one by one
//! (write/singly.rs).

use super::decide::{Decisions, Fate};
use super::item::{Item, What};
use super::order::{Stage, Ties};
use super::target::Target;

use crate::server::memory::{self, Gather};

/// Statements that belong together, in the order of the push.
#[derive(Clone)]
pub struct Step {
    pub items: Vec<Item>,
    pub together: bool,
}

/// Which order: what goes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Foremost {
    /// Parents are written before their children: who opens a project and adds to it. Rows that decide who sees others of the push are inserted before these, and
    /// changed and deleted after them: who edits an item and leaves its list meant the edit first.
    Parents,
    /// The same, but these are changed and deleted before the others, too: who joins a list again and edits its items.
    Deciding,
    /// The first, but who gives a unique value up goes before who takes it: deletions before updates, and these before inserts.
    Values,
    /// The first turned around as far as foreign keys allow: who edits items, and closes then what they hang on (archives it, signs it, gives it away, deletes it).
    Children,
    /// The first, but of tables that have nothing to do with each other, as far as keys and policies say, rows are deleted in the other order: a trigger may keep one while
    /// others are there.
    Deletions,
}

/// Sorts what was decided.
pub struct Sorter<'s, 'a> {
    pub targets: &'s [Target<'a>],
    pub decisions: &'s Decisions,
    pub stages: &'s [Stage],
}

impl Sorter<'_, '_> {
    /// Rows that nothing refers to are deleted first, so that a unique value can move from a deleted row to a new one; rows that
    /// others refer to, or with which triggers may delete others, go last, when their children have moved away or are gone: else ON DELETE CASCADE could take a child that
    /// the same push has just given another parent. So do records that mark such rows, as deletions do: a trigger takes along what is in the row by then. `deciding_first`: in
    /// the order of that name.
    pub fn parents_first(&self, deciding_first: bool) -> Vec<Step> {
        self.deleting(deciding_first, (0..self.stages.len()).rev().gather())
    }

    /// The same, with the deletions of tables that are not tied in the other order.
    pub fn deletions_turned(&self, ties: &Ties) -> Vec<Step> {
        self.deleting(false, ties.turned.iter().copied().gather())
    }

    fn deleting(&self, deciding_first: bool, deleted: Vec<usize>) -> Vec<Step> {
        let waits = |stage: &&Stage| stage.referenced || stage.cascades || stage.decides && !deciding_first;
        let is_late = |stage: &Stage, item: &Item| !deciding_first && stage.is_changed_late(item);
        let is_last = |stage: &Stage, item: &Item| item.what.deletes() && waits(&stage);
        let deleted = || deleted.iter().map(|stage| &self.stages[*stage]);
        let begin = deleted().filter(|s| !waits(s)).map(|stage| self.deletions(stage));
        let last = deleted().filter(waits).map(|stage| self.deletions_and_marks(stage));
        let written = [false, true].into_iter().flat_map(|late| {
            let is_now = move |stage: &Stage, item: &Item| !is_last(stage, item) && is_late(stage, item) == late;
            self.deciding_ahead().map(move |stage| self.writes(stage, |item| is_now(stage, item)))
        });
        in_use(begin.chain(written).chain(last))
    }

    /// Rows that others refer to are deleted first, too, unless others that hang on them are changed: ON DELETE CASCADE would take them. Nor are they where triggers
    /// would miss what is created in them.
    pub fn values_first(&self, ties: &Ties) -> Vec<Step> {
        let is_written = |stage: &usize, cascades: bool| {
            let counts = |item: &Item| item.keeps_row() || cascades && !item.changes_row();
            !self.writes(&self.stages[*stage], counts).items.is_empty()
        };
        let waits = |place: usize| {
            let Stage { decides, cascades, .. } = self.stages[place];
            decides || ties.below[place].iter().any(|below| is_written(below, cascades))
        };
        let waiting: Vec<bool> = (0..self.stages.len()).map(waits).gather();
        let waiting = &waiting;
        let stages = |late: bool| (0..waiting.len()).rev().filter(move |place| waiting[*place] == late);
        let begin = stages(false).map(|place| self.deletions_and_marks(&self.stages[place]));
        let last = stages(true).map(|place| self.deletions_and_marks(&self.stages[place]));
        let written = self.deciding_ahead().flat_map(|stage| {
            let is = move |item: &Item| !item.what.deletes() && !stage.is_changed_late(item);
            let is_new = move |item: &Item| !stage.circular && !item.is_update();
            [false, true].into_iter().map(move |new| self.writes(stage, |item| is(item) && is_new(item) == new))
        });
        let late = |item: &Item, stage: &Stage| !item.what.deletes() && stage.is_changed_late(item);
        let late = self.deciding_ahead().map(|stage| self.writes(stage, |item| late(item, stage)));
        in_use(begin.chain(written).chain(late).chain(last))
    }

    /// What others of the push refer to is inserted, parents before children (in a circle: in the other order, as far as keys leave it open). Then each stage is written as a whole, its deletions last. A row is
    /// deleted when all have been written that hang on it, for the reason that `parents_first` has.
    pub fn children_first(&self, ties: &Ties) -> Vec<Step> {
        let inserts =
            |stage: usize| self.writes_in(&self.stages[stage], &self.stages[stage].turned, |i| !i.is_update());
        let is_parent = |stage: &usize| !ties.below[*stage].is_empty();
        let mut steps: Vec<Step> = (0..self.stages.len()).filter(is_parent).map(inserts).gather();
        let mut written = memory::filled(false, self.stages.len());
        let mut to_delete: Vec<usize> = Vec::new();
        for &stage in &ties.children_first {
            memory::heed();
            if !is_parent(&stage) {
                steps.push(inserts(stage));
            }
            let targets: Vec<usize> = self.stages[stage].targets.iter().rev().copied().gather();
            let wanted = |item: &Item| item.is_update() && !item.what.deletes();
            steps.push(self.writes_in(&self.stages[stage], &targets, wanted));
            written[stage] = true;
            to_delete.push(stage);
            let (ready, waiting) = to_delete.into_iter().gather_parts(|s| ties.below[*s].iter().all(|b| written[*b]));
            memory::extend(
                &mut steps,
                ready.into_iter().map(|stage: usize| self.deletions_and_marks(&self.stages[stage])),
            );
            to_delete = waiting;
        }
        in_use(steps.into_iter())
    }

    /// Those that decide, or that these refer to, before the others.
    fn deciding_ahead(&self) -> impl Iterator<Item = &Stage> + '_ {
        let ahead = self.stages.iter().filter(|stage| stage.early);
        ahead.chain(self.stages.iter().filter(|stage| !stage.early))
    }

    fn deletions(&self, stage: &Stage) -> Step {
        let rows = |&target: &usize| {
            let fates = self.decisions.fates[target].deletions.iter().enumerate();
            let doomed = fates.filter(|(_, fate)| **fate == Fate::Delete);
            doomed.map(|(row, _)| Item { target, what: What::Delete, row: row as u32 }).gather::<Vec<_>>()
        };
        // (In a circle, too, children before parents.)
        Step { items: stage.targets.iter().rev().flat_map(rows).gather(), together: stage.circular }
    }

    /// The same with the records that mark rows as deleted, of which `deleted` says nothing.
    fn deletions_and_marks(&self, stage: &Stage) -> Step {
        let mut step = self.deletions(stage);
        memory::extend(&mut step.items, self.writes(stage, |item| item.what.deletes()).items);
        step
    }

    fn writes(&self, stage: &Stage, wanted: impl Fn(&Item) -> bool) -> Step {
        self.writes_in(stage, &stage.targets, wanted)
    }

    fn writes_in(&self, stage: &Stage, targets: &[usize], wanted: impl Fn(&Item) -> bool) -> Step {
        let rows = |&target: &usize| writes_of(target, &self.targets[target], &self.decisions.fates[target].records);
        Step { items: targets.iter().flat_map(rows).filter(wanted).gather(), together: stage.circular }
    }
}

impl Stage {
    /// What refers to each other in a circle is written by one statement, which sees everything as it was before.
    fn is_changed_late(&self, item: &Item) -> bool {
        self.decides && !self.circular && item.is_update()
    }
}

fn in_use(steps: impl Iterator<Item = Step>) -> Vec<Step> {
    steps.filter(|step| !step.items.is_empty()).gather()
}

fn writes_of(target: usize, of: &Target, fates: &[Fate]) -> Vec<Item> {
    let mut items = Vec::new();
    for (groups, wanted) in [(&of.plan.groups, Fate::Insert), (&of.updates, Fate::Revive), (&of.updates, Fate::Update)]
    {
        for (group, rows) in (0..).zip(groups) {
            let what = |row: u32| match wanted {
                Fate::Insert => What::Insert(group),
                Fate::Revive => What::Revive(group),
                _ => What::of_update(of, row, group),
            };
            let rows = rows.rows.iter().filter(|&&row| fates[row as usize] == wanted);
            memory::extend(&mut items, rows.map(|&row| Item { target, what: what(row), row }));
        }
    }
    items
}
