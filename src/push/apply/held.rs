//! What triggers held when its statement ran: whether it is still not as it was sent when everything is written.

use std::collections::{HashMap, HashSet};

use super::ItemWriter;
use crate::log::journal;
use crate::push::decide;
use crate::push::item::{by_target, Item, What};
use crate::server::error::Result;
use crate::server::memory::{self, Gather};

impl ItemWriter<'_, '_> {
    /// Those of the held items that are not as they were sent by now. (What a trigger keeps because there is nothing to change is as it was sent.)
    pub fn withheld(&self, held: &[Item]) -> Result<Vec<Item>> {
        let mut withheld = Vec::new();
        for (index, items) in by_target(held.iter().copied()) {
            let target = &self.targets[index];
            let ids: Vec<&str> = items.iter().map(|i| i.id(self.targets)).gather();
            let marked: HashMap<usize, bool> = target.visible_now(&ids)?.into_iter().gather();
            let mut by_group: HashMap<u32, Vec<u32>> = HashMap::new();
            for item in items.iter().filter(|i| i.changes_row()) {
                by_group.entry(target.group_of_update(item.row)).or_default().push(item.row);
            }
            let mut as_sent = HashSet::new();
            for (group, rows) in by_group {
                memory::extend(&mut as_sent, decide::stand_as_sent(target, &target.updates[group as usize], &rows)?);
            }
            let is_held = |(place, item): &(usize, Item)| match (item.what, marked.get(place)) {
                (What::Delete, is_marked) => is_marked == Some(&false),
                (What::Revive(_), Some(true)) => true,
                _ => !as_sent.contains(&item.row),
            };
            memory::extend(&mut withheld, items.into_iter().enumerate().filter(is_held).map(|(_, item)| item));
        }
        // (The push itself has taken these along since.)
        let gone = self.gone(&withheld)?;
        withheld.retain(|item| !gone.contains(item));
        Ok(withheld)
    }

    /// Those of these rows that this push has deleted, or hidden, after it had inserted them; all where that cannot be told.
    pub fn taken_since(&self, inserted: &[Item]) -> HashSet<Item> {
        if !journal::is_kept_since(self.logged) {
            return inserted.iter().copied().gather();
        }
        let mut taken = HashSet::new();
        for (index, items) in by_target(inserted.iter().copied()) {
            let rows: Vec<(&Item, &str)> = items.iter().map(|item| (item, item.id(self.targets))).gather();
            let found = self.touched_before(&self.targets[index], &rows, journal::logged(), &|_| true);
            let found: HashSet<&str> = found.into_iter().gather();
            let is_taken = |item: &Item| found.contains(item.id(self.targets));
            memory::extend(&mut taken, items.iter().copied().filter(is_taken));
        }
        taken
    }
}
