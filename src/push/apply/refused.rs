//! A record that cannot be written by itself: its row may stand as it is sent all the same, and the order of the push may have nothing to do with what is wrong.

use std::collections::{HashMap, HashSet};

use super::ItemWriter;
use crate::collections::facts::Facts;
use crate::push::decide;
use crate::push::item::{Item, What};
use crate::server::error::{Result, SyncError};
use crate::server::memory::{self, Gather};

impl ItemWriter<'_, '_> {
    /// Those of these items that are updates of rows which stand just so. A push is sent once more, because its answer was lost; and what else it did makes a trigger refuse such a row
    /// since: its list is archived, say. (What a role may not update at all is asked before anything is written.)
    pub fn stand_as_sent(&self, items: impl Iterator<Item = Item>) -> Result<HashSet<Item>> {
        let mut by_group: HashMap<(usize, u32), Vec<Item>> = HashMap::new();
        for item in items {
            memory::heed();
            if let What::Update(group) | What::Mark(group) = item.what {
                by_group.entry((item.target, group)).or_default().push(item);
            }
        }
        let mut standing = HashSet::new();
        for ((target, group), items) in by_group {
            let target = &self.targets[target];
            if target.settled {
                continue;
            }
            let rows: Vec<u32> = items.iter().map(|item| item.row).gather();
            let as_sent = decide::stand_as_sent(target, &target.updates[group as usize], &rows)?;
            memory::extend(&mut standing, items.into_iter().filter(|item| as_sent.contains(&item.row)));
        }
        Ok(standing)
    }

    /// Would it fail so in any order? Values that its columns do not take would, or that a constraint of its own table refuses as they are. Not what comes out of a
    /// trigger, a cascade or a function, which may find other rows at another time; nor what a constraint says of a row that a trigger may have filled in.
    pub(super) fn is_wrong_by_itself(&self, item: Item, e: &SyncError) -> Result<bool> {
        let target = &self.targets[item.target];
        if !e.is_of_values_alone() {
            return Ok(false);
        }
        let is_filled = Facts::of(&target.collection)?.vetoes & item.what.event(&target.collection) != 0;
        Ok(e.code.starts_with("22") || !is_filled)
    }
}
