//! Which rows cannot be written, where all at once they could not: the others are.

use std::collections::{HashMap, HashSet};

use super::Work;
use crate::push::apply::Outcome;
use crate::push::constraints::{self, Constraint};
use crate::push::decide::{self, Fate};
use crate::push::item::{by_target, Item, What};
use crate::push::rejection::Rejection;
use crate::push::standing;
use crate::push::steps::Step;
use crate::server::error::{Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::subxact::{self, End};
use crate::values::dialect::Dialect;

/// With `abort`, how many culprits are looked for before giving up: enough to see whether the order was all that was wrong.
const ENOUGH: usize = 32;

/// How often what failed is tried again because something else has been written since.
const ROUNDS: usize = 8;

/// What came of writing rows one by one.
#[derive(Default)]
pub(super) struct Partial {
    /// As in [`Surprises`](super::Surprises).
    pub(super) kept: Vec<Item>,
    /// Those that were to be inserted, and were there by then, as updates.
    found: Vec<Item>,
    /// Those of them, as they were to be inserted, that are left, for the policy wants the stored ones to stand.
    pub(super) stood: Vec<Item>,
    pub(super) failed: Vec<(Item, SyncError)>,
}

impl Partial {
    pub(super) fn unwritten(&self) -> impl Iterator<Item = Item> + '_ {
        self.failed.iter().map(|(item, _)| *item).chain(self.stood.iter().copied())
    }
}

impl Work<'_, '_> {
    /// Finds out which rows cannot be written, and writes the others; None, with nothing done, where somebody else was quicker.
    /// With it come the rows that are missing.
    pub(super) fn one_by_one(&self, deferred: &[Constraint]) -> Result<Option<(Partial, Vec<Item>)>> {
        let mut steps = self.steps.clone();
        let mut refused: Vec<(Item, SyncError)> = Vec::new();
        let enough = if self.pusher.report { usize::MAX } else { ENOUGH };
        loop {
            let attempt = subxact::run_or_undo(|| {
                constraints::defer(deferred)?;
                let partial = self.bisect(&steps, enough)?;
                let unwritten: HashSet<Item> = partial.unwritten().gather();
                let unlocked = self.unlocked().filter(|item| !unwritten.contains(item));
                if !self.undisturbed(partial.found.iter().copied().chain(unlocked))? {
                    return Ok(End::Undo(()));
                }
                match self.before.check(deferred) {
                    // Aborted in any case, and by an error that names its record.
                    Err(_) if !partial.failed.is_empty() && !self.pusher.report => {
                        return Ok(End::Keep((partial, Vec::new())))
                    }
                    checked => checked?,
                }
                constraints::undefer(deferred)?;
                let written = steps.iter().flat_map(|s| &s.items).copied().filter(|i| !unwritten.contains(i));
                let missing = standing::missing(self.targets, &self.decisions.fates, written)?;
                Ok(End::Keep((partial, missing)))
            });
            match attempt {
                Ok(End::Keep((mut partial, missing))) => {
                    memory::extend(&mut partial.failed, refused);
                    return Ok(Some((partial, missing)));
                }
                Ok(End::Undo(())) => return Ok(None),
                Err(e) if subxact::is_transient(&e) => return Err(e),
                Err(e) => {
                    let violators = self.violators(&steps, deferred, &e)?;
                    if violators.is_empty() {
                        return Err(e);
                    }
                    let left_out: HashSet<Item> = violators.iter().map(|(item, _)| *item).gather();
                    for step in &mut steps {
                        step.items.retain(|i| !left_out.contains(i));
                    }
                    memory::extend(&mut refused, violators);
                }
            }
        }
    }

    pub(super) fn bisect(&self, steps: &[Step], enough: usize) -> Result<Partial> {
        let (mut partial, mut outcome) = (Partial::default(), Outcome::default());
        let mut left: Vec<Step> = steps.iter().cloned().gather();
        let mut before = usize::MAX;
        for _ in 0..ROUNDS {
            outcome.failed.clear();
            for step in &left {
                self.writer.bisect(&step.items, step.together, enough, &mut outcome)?;
                // Before the next step: parents are deleted last.
                let found = std::mem::take(&mut outcome.found);
                self.write_found(&found, enough, &mut outcome, &mut partial)?;
            }
            let failed = outcome.failed.len();
            // What was written since may be what the others waited for.
            if failed == 0 || failed >= before || failed >= enough {
                break;
            }
            before = failed;
            let gone = self.writer.gone(&outcome.failed)?;
            let (gone, again) = outcome.failed.drain(..).gather_parts(|(item, _)| gone.contains(item));
            memory::extend(&mut partial.failed, gone);
            outcome.failed = again;
            let failed: HashSet<Item> = outcome.failed.iter().map(|(item, _)| *item).gather();
            for step in &mut left {
                step.items.retain(|i| failed.contains(i));
            }
        }
        memory::extend(&mut partial.kept, outcome.kept);
        memory::extend(&mut partial.failed, outcome.failed);
        Ok(partial)
    }

    /// Decides about records that were to be inserted and whose rows are there by now, and writes them where that is what becomes of them.
    fn write_found(&self, found: &[Item], enough: usize, outcome: &mut Outcome, partial: &mut Partial) -> Result<()> {
        for (index, items) in by_target(found.iter().copied()) {
            let target = &self.targets[index];
            let rows: Vec<u32> = items.iter().map(|item| item.row).gather();
            let (fates, rejections) = decide::found(self.pusher, index, target, &rows)?;
            let mut errors: HashMap<String, Rejection> = rejections.into_iter().map(|r| (r.id.clone(), r)).gather();
            let mut updates: Vec<Item> = Vec::new();
            for item in &items {
                memory::heed();
                let (item, group) = (*item, target.group_of_update(item.row));
                let update = Item { what: What::Update(group), ..item };
                partial.found.push(update);
                match fates[&item.row] {
                    // (Its INSERT has been tried.)
                    Fate::Update | Fate::Insert => updates.push(update),
                    Fate::Revive => updates.push(Item { what: What::Revive(group), ..item }),
                    Fate::Keep => partial.kept.push(update),
                    Fate::Rejected => match errors.remove(item.id(self.targets)) {
                        Some(Rejection { expected: false, error, .. }) => partial.failed.push((item, error)),
                        _ => partial.stood.push(item),
                    },
                    Fate::Nothing if target.dialect == Dialect::Drift => {}
                    // A conflict function is not asked any more.
                    Fate::Nothing => partial.stood.push(item),
                    // What is said of a row that is to be inserted only its client hears.
                    _ => partial.kept.push(item),
                }
            }
            let failed = outcome.failed.len();
            self.writer.bisect(&updates, false, failed.saturating_add(enough), outcome)?;
            let to_insert: HashMap<u32, Item> = items.into_iter().map(|item| (item.row, item)).gather();
            for (item, _) in &mut outcome.failed[failed..] {
                *item = to_insert[&item.row];
            }
        }
        Ok(())
    }
}
