//! A record that cannot be written by itself: its row may stand as it is sent all the same, and the order of the push may have nothing to do with what is wrong.

use std::collections::HashSet;

use super::ItemWriter;
use crate::collections::facts::Facts;
use crate::push::decide;
use crate::push::item::{Item, What};
use crate::server::error::{Result, SyncError};

/// Records with the same columns, of which some fail.
#[derive(Default)]
pub(super) struct Standing {
    /// Of so many it was asked whether they stand as they are sent.
    asked: usize,
    /// Those that stood so when it was asked of all.
    rows: Option<HashSet<u32>>,
}

/// Of so many it is asked one by one.
const FEW: usize = 8;

impl ItemWriter<'_, '_> {
    /// Is it an update of a row that stands just so? The push is sent once more, because its answer was lost; and what else it did makes a trigger refuse the row
    /// since: its list is archived, say. (Whom a policy refuses is asked before anything is written.)
    ///
    /// Where more than a few fail that were sent with the same columns, it is asked once which of all these stand so; and then of each of them, for what the push has
    /// written may have changed it.
    pub(super) fn stands_as_sent(&self, item: Item) -> Result<bool> {
        let target = &self.targets[item.target];
        let (What::Update(number) | What::Mark(number)) = item.what else { return Ok(false) };
        if target.settled {
            return Ok(false);
        }
        let group = &target.updates[number as usize];
        let mut standing = self.standing.borrow_mut();
        let standing = standing.entry((item.target, number)).or_default();
        standing.asked += 1;
        if standing.asked > FEW && standing.rows.is_none() {
            standing.rows = Some(decide::stand_as_sent(target, group, &group.rows)?);
        }
        let may_stand = standing.rows.as_ref().is_none_or(|rows| rows.contains(&item.row));
        Ok(may_stand && decide::stand_as_sent(target, group, &[item.row])?.contains(&item.row))
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
