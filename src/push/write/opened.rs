//! Rows that their user sees only since the same push: he joins a list again, takes a project back from the archive, creates a channel that a trigger makes him a member of. What he did to these rows
//! is decided about as if he had seen them before.

use std::collections::{HashMap, HashSet};

use super::singly::Partial;
use super::Work;
use crate::push::apply::{Applied, Outcome};
use crate::push::decide::{self, Fate, Found};
use crate::push::item::{by_target, Item, What};
use crate::push::rejection::Rejection;
use crate::server::error::{Result, SyncError};
use crate::server::memory::{self, Gather};

/// Deletions of rows that were not to be seen, and are now.
#[derive(Default)]
struct Opened {
    /// They are to be carried out.
    deleted: Vec<Item>,
    kept: Vec<Item>,
    /// The collection's policy wants the stored ones to stand.
    stood: Vec<Item>,
    refused: Vec<(Item, SyncError)>,
}

impl Work<'_, '_> {
    /// To be called when all else is written. (What was not to be seen most often is deleted already, and the deletion sent once more.)
    fn opened(&self) -> Result<Opened> {
        let mut opened = Opened::default();
        if self.items().next().is_none() {
            return Ok(opened);
        }
        for (index, (target, fates)) in self.targets.iter().zip(&self.decisions.fates).enumerate() {
            let unseen = (0..).zip(&fates.deletions).filter(|(_, fate)| **fate == Fate::Nothing).map(|(row, _)| row);
            let unseen: Vec<u32> = unseen.gather();
            let ids: Vec<&str> = unseen.iter().map(|row| &*target.plan.deletions[*row as usize].id).gather();
            let visible = target.visible_now(&ids)?.into_iter().filter(|(_, deleted)| !deleted);
            let rows: Vec<u32> = visible.map(|(place, _)| unseen[place]).gather();
            if rows.is_empty() {
                continue;
            }
            let (fates, rejections) = decide::found(self.pusher, index, target, (Found::Deletions, &rows))?;
            let mut errors: HashMap<String, Rejection> = rejections.into_iter().map(|r| (r.id.clone(), r)).gather();
            for row in rows {
                memory::heed();
                let item = Item { target: index, what: What::Delete, row };
                match fates[&row] {
                    Fate::Delete => opened.deleted.push(item),
                    Fate::Rejected => match errors.remove(item.id(self.targets)) {
                        Some(Rejection { expected: false, error, .. }) => opened.refused.push((item, error)),
                        _ => opened.stood.push(item),
                    },
                    Fate::Keep => opened.kept.push(item),
                    // A conflict function is not asked any more.
                    _ => opened.stood.push(item),
                }
            }
        }
        Ok(opened)
    }

    /// Deletes them after all else is written, or fails where one is refused or stands; false where somebody else was quicker.
    pub(super) fn delete_opened(&self, applied: &mut Applied) -> Result<bool> {
        let Opened { deleted, kept, stood, refused } = self.opened()?;
        if let Some(error) =
            refused.into_iter().map(|(_, error)| error).chain(stood.first().map(|_| decide::stands_error())).next()
        {
            return Err(error);
        }
        let more = self.writer.apply(&deleted, false)?;
        memory::extend(&mut applied.kept, kept.into_iter().chain(more.kept));
        memory::extend(&mut applied.held, more.held);
        Ok(!more.unreached && self.undisturbed(deleted.into_iter())?)
    }

    /// The same where rows are written one by one.
    pub(super) fn delete_opened_singly(&self, enough: usize, partial: &mut Partial) -> Result<()> {
        let opened = self.opened()?;
        let mut outcome = Outcome::default();
        let tried = self.writer.bisect(&opened.deleted, false, enough, &mut outcome)?;
        memory::extend(&mut partial.untried, opened.deleted[tried..].iter().copied());
        memory::extend(&mut partial.found, opened.deleted);
        memory::extend(&mut partial.kept, opened.kept.into_iter().chain(outcome.kept));
        memory::extend(&mut partial.stood, opened.stood);
        memory::extend(&mut partial.failed, opened.refused.into_iter().chain(outcome.failed));
        Ok(())
    }

    /// What failed as a new row, whatever it failed with (a policy, a column that the record leaves out), and is there by now, is changed as it was sent.
    pub(super) fn take_opened(&self, enough: usize, partial: &mut Partial) -> Result<()> {
        let new = |item: &Item| matches!(item.what, What::Insert(_));
        let mut found: HashSet<Item> = HashSet::new();
        for (index, items) in by_target(partial.failed.iter().map(|(item, _)| *item).filter(new)) {
            let ids: Vec<&str> = items.iter().map(|item| item.id(self.targets)).gather();
            let visible = self.targets[index].visible_now(&ids)?;
            memory::extend(&mut found, visible.into_iter().map(|(place, _)| items[place]));
        }
        if found.is_empty() {
            return Ok(());
        }
        let (opened, failed) =
            std::mem::take(&mut partial.failed).into_iter().gather_parts(|(item, _)| found.contains(item));
        partial.failed = failed;
        let opened: Vec<Item> = opened.into_iter().map(|(item, _)| item).gather();
        let mut outcome = Outcome::default();
        let untried = self.write_found(&opened, enough, &mut outcome, partial)?;
        memory::extend(&mut partial.untried, untried);
        memory::extend(&mut partial.kept, outcome.kept);
        memory::extend(&mut partial.failed, outcome.failed);
        Ok(())
    }
}
