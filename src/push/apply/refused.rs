//! A record that cannot be written by itself: its row may stand as it is sent all the same, and the order of the push may have nothing to do with what is wrong.

use std::collections::HashSet;

use super::ItemWriter;
use crate::collections::facts::Facts;
use crate::push::decide;
use crate::push::item::{Item, What};
use crate::server::error::{Result, SyncError};

impl ItemWriter<'_, '_> {
    /// Is it an update of a row that stands just so? The push is sent once more, because its answer was lost; and what else it did makes a trigger refuse the row
    /// since: its list is archived, say. (Whom a policy refuses is asked before anything is written.)
    ///
    /// Which rows stand so is asked once for all that were sent with the same columns, when the first of them fails; and then of each of these, for what the push has
    /// written may have changed it.
    pub(super) fn stands_as_sent(&self, item: Item) -> Result<bool> {
        let target = &self.targets[item.target];
        let (What::Update(number) | What::Mark(number)) = item.what else { return Ok(false) };
        if target.settled {
            return Ok(false);
        }
        let group = &target.updates[number as usize];
        let key = (item.target, number);
        if !self.standing.borrow().contains_key(&key) {
            let standing = decide::stand_as_sent(target, group, &group.rows)?;
            self.standing.borrow_mut().insert(key, standing);
        }
        let stood = self.standing.borrow().get(&key).is_some_and(|rows: &HashSet<u32>| rows.contains(&item.row));
        Ok(stood && decide::stand_as_sent(target, group, &[item.row])?.contains(&item.row))
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
