//! Rows that the push moves elsewhere, and of which it has not written that: nothing that it writes may take them along, by a cascade or by a trigger. Where the
//! stored row stands, it would not stand any more.

use std::collections::{BTreeMap, HashMap};

use super::left::{left_standing, taken_in};
use super::ItemWriter;
use crate::log::journal;
use crate::push::target::Target;
use crate::server::error::Result;
use crate::server::memory::Gather;

impl ItemWriter<'_, '_> {
    /// From now on the rows of these records are spared, by the number of their target.
    pub fn spare(&self, records: BTreeMap<usize, Vec<u32>>) {
        self.spared.replace(records);
    }

    /// An error where a statement, before which so many changes were logged, has taken one of them along.
    pub(super) fn check_spared(&self, logged: i32) -> Result<()> {
        let spared = self.spared.borrow();
        if spared.is_empty() || journal::logged() == logged {
            return Ok(());
        }
        for (index, records) in &*spared {
            let target = &self.targets[*index];
            let mut ids: Vec<&str> = records.iter().map(|row| &*target.plan.records[*row as usize].id).gather();
            if journal::is_kept_since(logged) {
                let taken = taken_in(target, &ids, logged..i32::MAX, &|_| true);
                ids.retain(|id| taken.contains(&*target.comparable(id)));
            }
            if let Some(id) = self.first_deleted(target, &ids, logged)? {
                return Err(target.spared(id));
            }
        }
        Ok(())
    }

    /// The first of these rows that is gone or marked by now.
    fn first_deleted<'i>(&self, target: &Target, ids: &[&'i str], logged: i32) -> Result<Option<&'i str>> {
        if ids.is_empty() {
            return Ok(None);
        }
        let visible: HashMap<usize, bool> = target.visible_now(ids)?.into_iter().gather();
        let marked = (0..ids.len()).find(|place| visible.get(place) == Some(&true));
        if let Some(place) = marked {
            return Ok(Some(ids[place]));
        }
        let unseen = (0..ids.len()).filter(|place| !visible.contains_key(place));
        let unseen: Vec<&str> = unseen.map(|place| ids[place]).gather();
        // What policies hide by now may be marked. (A key that made a column NULL has deleted nothing.)
        if target.collection.soft_delete.is_some() && !self.may_follow(target, logged)? {
            return Ok(unseen.first().copied());
        }
        let standing = left_standing(target, &unseen)?;
        Ok(unseen.into_iter().find(|id| !standing.contains(id)))
    }
}
