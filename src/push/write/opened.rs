//! Rows that their user sees only since the same push: he joins a list again, takes a project back from the archive, creates a channel that a trigger makes him a member of. When it was decided about
//! the push nobody could know of them: a deletion had nothing to delete, a record was a new row. So there are looks while the push is written. If one finds such rows, what was written is undone, it is decided
//! about them as if he had seen them before, and all is written anew, in whatever order that takes.

use std::collections::HashSet;

use super::{items, Work};
use crate::push::apply::Outcome;
use crate::push::decide::{self, Fate, FoundRows, RowKind};
use crate::push::item::{by_target, Item, What};
use crate::push::steps::Step;
use crate::server::error::Result;
use crate::server::memory::Gather;
use crate::server::subxact::{self, End};

/// So many of a kind that fail in a step are enough to see what opens rows.
const ENOUGH: usize = 32;

impl Work<'_, '_> {
    /// Those that were found, for [`decide::Decisions::open`].
    pub fn take_opened(&self) -> Vec<FoundRows> {
        self.opened.take()
    }

    /// To be called after a step. Has it, or what is just before it, opened rows whose deletions had nothing to delete? (Most often those are deleted already, and sent once more.)
    pub(super) fn has_opened_deletions(&self, steps: &[Step], place: usize) -> Result<bool> {
        Ok(!goes_on(steps, place) && self.has_opened(std::iter::empty())?)
    }

    /// Does the caller see rows now of which deletions had nothing to delete, or that these items, which have failed, were to insert?
    pub(super) fn has_opened(&self, failed: impl Iterator<Item = Item>) -> Result<bool> {
        let mut asked: Vec<(usize, RowKind, Vec<u32>)> = Vec::new();
        for (index, items) in by_target(failed.filter(|item| matches!(item.what, What::Insert(_)))) {
            asked.push((index, RowKind::Records, items.iter().map(|item| item.row).gather()));
        }
        for (index, fates) in self.decisions.fates.iter().enumerate() {
            let unseen = (0..).zip(&fates.deletions).filter(|(_, fate)| **fate == Fate::Nothing).map(|(row, _)| row);
            asked.push((index, RowKind::Deletions, unseen.gather()));
        }
        for (index, kind, rows) in &mut asked {
            rows.retain(|row| !self.decisions.fates[*index].opened.contains(&(*kind, *row)));
        }
        // (A conflict function has seen what it returned.)
        asked.retain(|(index, _, rows)| !rows.is_empty() && !self.targets[*index].settled);
        let found = if asked.is_empty() { Vec::new() } else { self.look(&asked)? };
        let is_any = !found.is_empty();
        self.opened.replace(found);
        Ok(is_any)
    }

    /// What a policy raises in the midst of a push opens nothing. Nor does what a deferred constraint refuses: who sees a row by that is to hear nothing of it.
    fn look(&self, asked: &[(usize, RowKind, Vec<u32>)]) -> Result<Vec<FoundRows>> {
        let look = || {
            let mut found = Vec::new();
            for (index, kind, rows) in asked {
                let target = &self.targets[*index];
                let id = |row: &u32| match kind {
                    RowKind::Records => &*target.plan.records[*row as usize].id,
                    RowKind::Deletions => &*target.plan.deletions[*row as usize].id,
                };
                let visible = target.visible_now(&rows.iter().map(id).gather::<Vec<&str>>())?.into_iter();
                let is_there = |(_, marked): &(usize, bool)| *kind == RowKind::Records || !marked;
                let opened: Vec<u32> = visible.filter(is_there).map(|(place, _)| rows[place]).gather();
                if !opened.is_empty() {
                    found.push(decide::found(self.pusher, *index, target, (*kind, &opened))?);
                }
            }
            if !found.is_empty() {
                self.before.check(&[])?;
            }
            Ok(found)
        };
        match subxact::run(look) {
            Err(e) if subxact::is_transient(&e) => Err(e),
            found => Ok(found.unwrap_or_default()),
        }
    }

    /// Where nothing passes: are there rows that were to be inserted, and that something else of the push opens? In the first order what shows rows is inserted early, and deleted last; what opens and closes them
    /// again by changes of other tables is seen in between.
    pub(super) fn opens_any(&self) -> Result<bool> {
        let mut unwritten: HashSet<Item> = self.items().filter(|item| self.is_new(item)).gather();
        if unwritten.is_empty() {
            return Ok(false);
        }
        let steps = &self.steps;
        subxact::run_or_undo(|| {
            for (place, step) in steps.iter().enumerate() {
                let mut outcome = Outcome::default();
                let tried = self.writer.bisect(&step.items, step.together, ENOUGH, &mut outcome)?;
                let failed = outcome.failed.into_iter().map(|(item, _)| item).chain(outcome.found);
                let failed: HashSet<Item> = failed.chain(step.items[tried..].iter().copied()).gather();
                step.items.iter().filter(|item| !failed.contains(item)).for_each(|item| _ = unwritten.remove(item));
                let left = items(steps).filter(|item| unwritten.contains(item));
                if !goes_on(steps, place) && self.has_opened(left)? {
                    break;
                }
            }
            Ok(End::Undo::<(), ()>(()))
        })?;
        Ok(!self.opened.borrow().is_empty())
    }
}

/// Does the next step write the same table?
fn goes_on(steps: &[Step], place: usize) -> bool {
    let table = |step: &Step| step.items.first().map(|item| item.target);
    steps.get(place + 1).is_some_and(|next| table(next) == table(&steps[place]))
}
