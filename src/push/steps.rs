//! What was decided, as items to write in the order in which they can be written.

use super::decide::{Decisions, Fate};
use super::item::{Item, What};
use super::order::Stage;
use super::target::Target;

use crate::server::memory::{self, Gather};

/// Statements that belong together, in the order of the push.
#[derive(Clone)]
pub struct Step {
    pub items: Vec<Item>,
    pub together: bool,
}

/// Rows that nothing refers to are deleted first, so that a unique value can move from a deleted row to a new one; rows that
/// others refer to go last, when their children have moved away or are gone: else ON DELETE CASCADE could take a child that
/// the same push has just given another parent. Rows that decide who sees others of the push are inserted before these, and changed and
/// deleted after them: who edits an item and leaves its list meant the edit first. `first`: changed and deleted before them, too, which is
/// the other order that can have been meant.
pub fn steps(targets: &[Target], decisions: &Decisions, stages: &[Stage], first: bool) -> Vec<Step> {
    let deletions = |stage: &Stage| {
        let rows = |&target: &usize| {
            let fates = decisions.fates[target].deletions.iter().enumerate();
            let doomed = fates.filter(|(_, fate)| **fate == Fate::Delete);
            doomed.map(|(row, _)| Item { target, what: What::Delete, row: row as u32 }).gather::<Vec<_>>()
        };
        Step { items: stage.targets.iter().flat_map(rows).gather(), together: stage.circular }
    };
    let writes = |stage: &Stage, late: bool| {
        let rows = |&target: &usize| writes_of(target, &targets[target], &decisions.fates[target].records);
        // What refers to each other in a circle is written by one statement, which sees everything as it was before.
        let is_late = |item: &Item| !first && stage.decides && !stage.circular && matches!(item.what, What::Update(_));
        let items = stage.targets.iter().flat_map(rows).filter(|item| is_late(item) == late).gather();
        Step { items, together: stage.circular }
    };
    let waits = |s: &&Stage| s.referenced || s.decides && !first;
    let begin = stages.iter().rev().filter(|s| !waits(s)).map(deletions);
    let last = stages.iter().rev().filter(waits).map(deletions);
    let (ahead, rest): (Vec<&Stage>, Vec<&Stage>) = stages.iter().gather_parts(|stage| stage.early);
    let in_order = || ahead.iter().chain(&rest);
    let written = [false, true].into_iter().flat_map(|late| in_order().map(move |stage| writes(stage, late)));
    begin.chain(written).chain(last).filter(|s| !s.items.is_empty()).gather()
}

fn writes_of(target: usize, of: &Target, fates: &[Fate]) -> Vec<Item> {
    let mut items = Vec::new();
    for (groups, wanted) in [(&of.plan.groups, Fate::Insert), (&of.updates, Fate::Revive), (&of.updates, Fate::Update)]
    {
        for (group, rows) in (0..).zip(groups) {
            let what = match wanted {
                Fate::Insert => What::Insert(group),
                Fate::Revive => What::Revive(group),
                _ => What::Update(group),
            };
            let rows = rows.rows.iter().filter(|&&row| fates[row as usize] == wanted);
            memory::extend(&mut items, rows.map(|&row| Item { target, what, row }));
        }
    }
    items
}
