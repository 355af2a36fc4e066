//! Inserted rows that are not there, although no statement failed: a trigger returned NULL for them, gave them another key, moved
//! them elsewhere or deleted them; a cascade of the same push took them; or no policy lets the caller see them.
//!
//! Their client has them and believes that they are stored. No old row of them was ever visible, so no image could tell it. So an
//! entry of the log that only it understands says that they are gone: one that is addressed to the pusher (by what
//! [`client::who`] knows, and the `client_id`), by which others learn nothing.

use super::decide::Fates;
use super::item::{by_target, Item, What};
use super::target::Target;
use crate::collections::facts::{Facts, DELETE, INSERT, UPDATE};
use crate::log::{client, journal};
use crate::server::error::Result;
use crate::server::memory::{self, Gather};

/// Which of the rows that were inserted the caller does not see now. Looked at only where that is possible: after a plain push it
/// is not.
pub fn missing(targets: &[Target], fates: &[Fates], written: impl Iterator<Item = Item>) -> Result<Vec<Item>> {
    let mut inserted: Vec<Item> = Vec::new();
    let mut fired = memory::filled(0, targets.len());
    for item in written {
        fired[item.target] |= event(targets, item);
        if matches!(item.what, What::Insert(_)) {
            inserted.push(item);
        }
    }
    if inserted.is_empty() {
        return Ok(Vec::new());
    }
    let mut meddled = false;
    for (target, fired) in targets.iter().zip(fired) {
        let facts = Facts::of(&target.collection)?;
        // What refers to a row that is deleted may go with it.
        meddled |= facts.fires & fired != 0 || fired & DELETE != 0 && !facts.referenced_by.is_empty();
    }
    let mut missing = Vec::new();
    for (index, items) in by_target(inserted.into_iter()) {
        let target = &targets[index];
        let hidden = || -> Result<bool> { Ok(!fates[index].manner.shows_inserted && target.may_hide_inserted()?) };
        // Who may not read the key has no copy to mend.
        if !target.may_read_key() || !(meddled || hidden()?) {
            continue;
        }
        let ids: Vec<&str> = items.iter().map(|i| i.id(targets)).gather();
        let mut stands = memory::filled(false, items.len());
        for (place, deleted) in target.visible_now(&ids)? {
            stands[place] = !deleted;
        }
        memory::extend(&mut missing, items.iter().zip(stands).filter(|(_, stands)| !stands).map(|(item, _)| *item));
    }
    Ok(missing)
}

/// What the item does to its table, as `tgtype` has it.
fn event(targets: &[Target], item: Item) -> i16 {
    match item.what {
        What::Insert(_) => INSERT,
        What::Delete if targets[item.target].collection.soft_delete.is_none() => DELETE,
        What::Delete | What::Update(_) => UPDATE,
    }
}

/// Leaves word for the pusher's next pull that these rows (by target and id) are not there.
pub fn tell(client_id: Option<&str>, targets: &[Target], missing: &[(usize, &str)]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let address = client::address(client_id)?;
    for (target, id) in missing {
        journal::notify(targets[*target].collection.relation, id, &address)?;
    }
    Ok(())
}
