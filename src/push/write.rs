//! Writing what was decided: all at once in one subtransaction, which is what almost every push gets. If that fails, in another order, of the few that there
//! are ([`steps`](super::steps)), and the one counts that lacks the fewest rows ([`orders`]); and only if none does, in halves of halves, to find out which rows cannot be written ([`singly`]).

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashSet;

use super::apply::{Applied, Care, ItemWriter, TwoSteps};
use super::constraints::{self, Constraint, DeferredBefore};
use super::decide::{self, Decisions, Fate, FoundRows, Unlocked};
use super::item::{by_target, Item, What};
use super::order::{self, Stage, Ties};
use super::pusher::Pusher;
use super::rejection::Rejection;
use super::standing;
use super::steps::{Foremost, Sorter, Step};
use super::target::Target;
use crate::log::clock;
use crate::server::error::{code, Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::subxact::{self, End};

mod ahead;
mod by_values;
mod circles;
mod heirs;
mod in_turn;
mod linked;
mod opened;
mod orders;
mod sift;
mod singly;
mod spared;
mod violators;

use by_values::ValueKey;
use heirs::Heirs;

/// What came of writing.
pub enum Written {
    /// All is written but these.
    But(Vec<Rejection>),
    /// Nothing is: somebody else created or changed some of the rows since the decisions, so they are to be made anew.
    Nothing,
    /// Nothing is: these rows come into the caller's sight by what was written.
    Opened(Vec<FoundRows>),
}

/// Rows of which the client believes something else than what stands.
#[derive(Default)]
pub struct Surprises {
    /// These are as they were.
    pub kept: Vec<Item>,
    /// As [`Applied`] has them.
    held: Vec<Item>,
    /// Inserted without an error, and not there.
    pub missing: Vec<Item>,
    /// Written under ids that the server writes otherwise: their targets, and the ids as they were sent.
    pub misspelt: Vec<(usize, String)>,
}

/// All of it was tried at once.
struct Attempt {
    order: Foremost,
    steps: Vec<Step>,
    /// What had to be deferred.
    deferred: Vec<Constraint>,
    /// Why it failed.
    error: SyncError,
}

fn items(steps: &[Step]) -> impl Iterator<Item = Item> + '_ {
    steps.iter().flat_map(|step| &step.items).copied()
}

fn only(steps: &[Step], wanted: impl Fn(&Item) -> bool) -> Vec<Step> {
    let only =
        |step: &Step| Step { items: step.items.iter().copied().filter(&wanted).gather(), together: step.together };
    steps.iter().map(only).filter(|step| !step.items.is_empty()).gather()
}

/// What was decided, on its way into the tables.
pub struct Work<'w, 'a> {
    pusher: &'w Pusher<'w>,
    targets: &'w [Target<'a>],
    decisions: &'w Decisions,
    stages: Vec<Stage>,
    /// Asked for once, if at all.
    ties: OnceCell<Ties>,
    /// The same.
    keys: OnceCell<Vec<ValueKey>>,
    heirs: OnceCell<Heirs>,
    /// Records that are not written, and would move their rows: what these hang on must not take them along.
    decided: spared::Records,
    spares_decided: Cell<bool>,
    /// The changes that move their rows, once somebody asks.
    moving: OnceCell<HashSet<Item>>,
    /// In the first order.
    steps: Vec<Step>,
    writer: ItemWriter<'w, 'a>,
    before: DeferredBefore,
    /// Rows that have come into sight.
    opened: RefCell<Vec<FoundRows>>,
}

impl<'w, 'a> Work<'w, 'a> {
    pub fn of(
        pusher: &'w Pusher,
        targets: &'w [Target<'a>],
        decisions: &'w Decisions,
        before: DeferredBefore,
        care: Care,
    ) -> Result<Self> {
        let stages = order::stages(targets)?;
        let steps = Sorter { targets, decisions, stages: &stages }.parents_first(false);
        let writer = ItemWriter::of(targets, &decisions.fates, care);
        let decided = spared::decided(targets, decisions, &steps)?;
        writer.spare(decided.clone(), spared::Records::new());
        let (ties, keys, heirs) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        let (moving, spares_decided) = (OnceCell::new(), Cell::new(true));
        let mut work = Work {
            pusher,
            targets,
            decisions,
            stages,
            ties,
            keys,
            heirs,
            decided,
            spares_decided,
            moving,
            steps,
            writer,
            before,
            opened: RefCell::default(),
        };
        let steps = std::mem::take(&mut work.steps);
        work.steps = work.in_turn(steps, false)?;
        Ok(work)
    }

    /// The first attempt, without a second one: false, with nothing done, where something turns up that might not in another order.
    pub fn quickly(&self) -> Result<End<(), ()>> {
        if self.has_heirs_at_once()? {
            return Ok(End::Undo(()));
        }
        let Some(applied) = self.apply(&self.steps, None)? else { return Ok(End::Undo(())) };
        let End::Keep(surprises) = self.finish(applied, &[])? else { return Ok(End::Undo(())) };
        match self.lacking(&surprises)?.is_empty() {
            true => self.tell(&surprises).map(End::Keep),
            false => Ok(End::Undo(())),
        }
    }

    /// Applies what was decided: in the order in which all of it can be written, and the least is lacking, or, if there is none, what can be.
    pub fn write(&self) -> Result<Written> {
        let mut attempts = match self.in_any_order()? {
            Ok(written) => return Ok(self.or_opened(written)),
            Err(attempts) => attempts,
        };
        if attempts.iter().any(|a| a.error.code == code::UNIQUE_VIOLATION) && self.created_meanwhile()? {
            return Ok(Written::Nothing);
        }
        if self.opens_any()? {
            return Ok(self.or_opened(Written::Nothing));
        }
        for attempt in &mut attempts {
            attempt.steps = self.in_turn(std::mem::take(&mut attempt.steps), true)?;
        }
        if self.waits_for_decided(&attempts)? {
            let pusher = Pusher { report: true, ..*self.pusher };
            let work = Work::of(&pusher, self.targets, self.decisions, self.before, Care::Full)?;
            return work.write_singly_at_last(&attempts, true);
        }
        self.write_singly_at_last(&attempts, false)
    }

    /// What can be; `waits`: it may be for a row that is refused that the others fail.
    fn write_singly_at_last(&self, attempts: &[Attempt], waits: bool) -> Result<Written> {
        let Some((partial, missing)) = self.one_by_one(attempts)? else {
            return Ok(self.or_opened(Written::Nothing));
        };
        let unwritten: HashSet<Item> = partial.unwritten().gather();
        let rejected = partial.failed.into_iter().map(|(item, error)| self.rejection(item, error, waits));
        let stood = partial.stood.into_iter().map(|item| self.rejection(item, decide::stands_error(), true));
        let rejections: Vec<Rejection> = rejected.chain(stood).gather();
        self.pusher.abort_on_rejections(&rejections, self.targets)?;
        let misspelt = self.misspelt(|item| !unwritten.contains(&item))?;
        self.tell(&Surprises { kept: partial.kept, missing, misspelt, ..Surprises::default() })?;
        Ok(Written::But(rejections))
    }

    /// The same, if it is not for rows that have come into sight that nothing is written.
    fn or_opened(&self, written: Written) -> Written {
        match self.take_opened() {
            opened if !opened.is_empty() => Written::Opened(opened),
            _ => written,
        }
    }

    fn ties(&self) -> Result<&Ties> {
        if let Some(known) = self.ties.get() {
            return Ok(known);
        }
        let ties = Ties::of(self.targets, &self.stages)?;
        Ok(self.ties.get_or_init(|| ties))
    }

    fn rejection(&self, item: Item, error: SyncError, expected: bool) -> Rejection {
        Rejection { target: item.target, id: item.id(self.targets).to_string(), error, expected }
    }

    /// All of it, in this order, with one step of it in two (linked.rs), or nothing: then what it failed with; or what is lacking, unless it is to be written all the same (`anyhow`).
    fn write_all(
        &self,
        (steps, linked): (&[Step], Option<&TwoSteps>),
        deferred: &mut Vec<Constraint>,
        anyhow: bool,
    ) -> Result<std::result::Result<End<Written, Vec<Item>>, SyncError>> {
        loop {
            let mut in_statement = true;
            let attempt = subxact::run_or_undo(|| {
                constraints::defer(deferred)?;
                let applied = self.apply(steps, linked)?;
                in_statement = false;
                let Some(applied) = applied else { return Ok(End::Undo(Vec::new())) };
                let End::Keep(surprises) = self.finish(applied, deferred)? else { return Ok(End::Undo(Vec::new())) };
                let lacking = if anyhow { Vec::new() } else { self.lacking(&surprises)? };
                Ok(if lacking.is_empty() { End::Keep(surprises) } else { End::Undo(lacking) })
            });
            match attempt {
                Ok(End::Keep(surprises)) => {
                    self.tell(&surprises)?;
                    return Ok(Ok(End::Keep(Written::But(Vec::new()))));
                }
                Ok(End::Undo(lacking)) if lacking.is_empty() => return Ok(Ok(End::Keep(Written::Nothing))),
                Ok(End::Undo(lacking)) => return Ok(Ok(End::Undo(lacking))),
                Err(e) if subxact::is_transient(&e) => return Err(e),
                Err(e) => match constraints::to_defer(&e, deferred, self.before)?.filter(|_| in_statement) {
                    Some(constraint) => deferred.push(constraint),
                    None => return Ok(Err(e)),
                },
            }
        }
    }

    fn relation(&self, target: usize) -> u32 {
        self.targets[target].collection.relation.to_u32()
    }

    fn items(&self) -> impl Iterator<Item = Item> + '_ {
        items(&self.steps)
    }

    /// Everything in as few statements as possible; None where a statement did not reach what nobody had looked at, or has opened rows (opened.rs).
    fn apply(&self, steps: &[Step], linked: Option<&TwoSteps>) -> Result<Option<Applied>> {
        let mut all = Applied::default();
        for (place, step) in steps.iter().enumerate() {
            let applied = match linked.filter(|linked| step.items.first() == linked.items().next().as_ref()) {
                Some(linked) => self.writer.apply_linked(linked)?,
                None => self.writer.apply(&step.items, step.together)?,
            };
            if applied.unreached || self.has_opened_deletions(steps, place)? {
                return Ok(None);
            }
            memory::extend(&mut all.kept, applied.kept);
            memory::extend(&mut all.held, applied.held);
        }
        Ok(Some(all))
    }

    /// What is to be looked at when everything is written; all is undone where somebody else was quicker.
    fn finish(&self, applied: Applied, deferred: &[Constraint]) -> Result<End<Surprises, ()>> {
        if !self.undisturbed(self.unlocked())? {
            return Ok(End::Undo(()));
        }
        self.before.check(deferred)?;
        constraints::undefer(deferred)?;
        let missing = standing::missing(self.targets, &self.decisions.fates, self.items())?;
        let Applied { kept, held, .. } = applied;
        Ok(End::Keep(Surprises { kept, held, missing, misspelt: self.misspelt(|_| true)? }))
    }

    /// The records that were not refused, of those whose ids the server writes otherwise. Their rows come to the client, but for those that
    /// are gone.
    fn misspelt(&self, is_written: impl Fn(Item) -> bool) -> Result<Vec<(usize, String)>> {
        if self.targets.iter().all(|target| target.plan.spellings.is_empty()) {
            return Ok(Vec::new());
        }
        let mut rows: Vec<HashSet<u32>> = memory::filled(HashSet::new(), self.targets.len());
        // What is refused of the rows that a conflict function returned, is of those for which it was asked.
        let mut refused: HashSet<(u32, &str)> =
            self.decisions.rejections.iter().map(|r| (self.relation(r.target), r.id.as_str())).gather();
        for item in self.items() {
            match is_written(item) {
                true if item.what != What::Delete => _ = rows[item.target].insert(item.row),
                true => {}
                false => _ = refused.insert((self.relation(item.target), item.id(self.targets))),
            }
        }
        for (index, (rows, fates)) in rows.iter_mut().zip(&self.decisions.fates).enumerate() {
            let (relation, records) = (self.relation(index), &self.targets[index].plan.records);
            let told = |row: &u32| match fates.records[*row as usize] {
                Fate::Asked => !refused.contains(&(relation, &*records[*row as usize].id)),
                fate => fate.stands() || fate == Fate::Gone,
            };
            memory::extend(rows, (0..fates.records.len() as u32).filter(told));
        }
        standing::misspelt(self.targets, &rows)
    }

    /// Is it to be inserted, and was not there when that was decided?
    fn is_new(&self, item: &Item) -> bool {
        matches!(item.what, What::Insert(_)) && !self.decisions.fates[item.target].repeated.contains(&item.row)
    }

    /// Has somebody else created rows that were to be inserted?
    fn created_meanwhile(&self) -> Result<bool> {
        // Or a conflict function has.
        if self.targets.iter().any(|target| target.settled) {
            return Ok(false);
        }
        for (target, items) in by_target(self.items().filter(|i| self.is_new(i))) {
            let ids: Vec<&str> = items.iter().map(|i| i.id(self.targets)).gather();
            if !self.targets[target].visible_now(&ids)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Those whose rows were not locked when it was decided about them: they were not there, the caller may only delete them, or not change them yet, or the UPDATE
    /// itself locks them. Their statements wait for whoever is just writing the rows.
    fn unlocked(&self) -> impl Iterator<Item = Item> + '_ {
        self.items().filter(|item| {
            let fates = &self.decisions.fates[item.target];
            match item.what {
                What::Insert(_) => true,
                What::Delete => fates.deletes_unlocked,
                What::Update(_) | What::Mark(_) | What::Revive(_) => {
                    fates.manner.locks_itself || fates.closed.contains(&item.row)
                }
            }
        })
    }

    /// Did nobody else write these rows, which were not locked when it was decided about them? Whoever did has written to the
    /// log by now.
    fn undisturbed(&self, items: impl Iterator<Item = Item>) -> Result<bool> {
        let (targets, snapmin) = (self.targets, self.decisions.snapmin);
        let mut items = items.filter(|i| !targets[i.target].settled).peekable();
        // Most often nobody has committed anything since the decisions.
        if items.peek().is_none() || clock::read()? < snapmin {
            return Ok(true);
        }
        for (target, items) in by_target(items) {
            let (inserted, stood) = items.into_iter().gather_parts(|i| self.is_new(i));
            let ids = |items: Vec<Item>| items.iter().map(|i| i.id(targets)).gather();
            let written = Unlocked { inserted: ids(inserted), stood: ids(stood) };
            if self.decisions.outdated(self.pusher, target, &targets[target], &written)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Who believes something else of a row than what stands gets the row, or hears that it is gone, with the next pull.
    fn tell(&self, surprises: &Surprises) -> Result<()> {
        let targets = self.targets;
        // Whether a trigger or a policy kept a deletion off is not always known, so others hear nothing of it. Nor do they of a row that the pusher may only insert, or that
        // no policy let him change.
        let is_for_him =
            |item: &Item| !item.changes_row() || self.decisions.fates[item.target].closed.contains(&item.row);
        let (for_him, unchanged): (Vec<Item>, Vec<Item>) = surprises.kept.iter().copied().gather_parts(is_for_him);
        let mut again: Vec<(usize, &str)> = unchanged.iter().map(|item| (item.target, item.id(targets))).gather();
        let mut to_him = Vec::new();
        for (index, (target, fates)) in targets.iter().zip(&self.decisions.fates).enumerate() {
            let plan = &target.plan;
            let records = plan.records.iter().zip(&fates.records).map(|(record, fate)| (&*record.id, fate));
            let deletions = plan.deletions.iter().zip(&fates.deletions).map(|(deletion, fate)| (&*deletion.id, fate));
            for (id, fate) in records.chain(deletions) {
                match fate {
                    Fate::Keep => again.push((index, id)),
                    Fate::KeepForHim => to_him.push((index, id)),
                    _ => {}
                }
            }
            for (fate, of) in [(Fate::Equal, &mut again), (Fate::EqualForHim, &mut to_him)] {
                let equal = (0..).zip(&fates.records).filter(|(_, f)| **f == fate).map(|(row, _)| row);
                let lost = self.writer.lost(index, &equal.gather::<Vec<u32>>())?;
                memory::extend(of, lost.into_iter().map(|row| (index, &*plan.records[row as usize].id)));
            }
        }
        let unseen = standing::send_again(targets, &again)?;
        let misspelt = surprises.misspelt.iter().map(|(target, id)| (*target, id.as_str()));
        let missing = surprises.missing.iter().chain(&for_him).map(|i| (i.target, i.id(targets)));
        let deleted = self.decisions.fates.iter().enumerate().flat_map(|(index, fates)| {
            let rows = fates.records.iter().enumerate().filter(|(_, fate)| **fate == Fate::Gone);
            rows.map(move |(row, _)| (index, &*targets[index].plan.records[row].id))
        });
        let unsent = standing::unsent(targets, &self.decisions.fates)?;
        let gone: Vec<(usize, &str)> =
            missing.chain(deleted).chain(misspelt).chain(unsent).chain(unseen).chain(to_him).gather();
        standing::leave_word(self.pusher.client_id, targets, &gone)
    }
}
