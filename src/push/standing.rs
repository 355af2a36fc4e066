//! Inserted rows that are not there, although no statement failed: a trigger returned NULL for them, gave them another key, moved
//! them elsewhere or deleted them; a cascade of the same push took them; or no policy lets the caller see them.
//!
//! Their client has them and believes that they are stored. No old row of them was ever visible, so no image could tell it. So an
//! entry of the log that only it understands says that they are gone: one that is addressed to the pusher (by what
//! [`crate::log::client::who`] knows, and the `client_id`), by which others learn nothing.

use std::collections::{BTreeMap, HashSet};

use super::decide::{Fate, Fates};
use super::item::{by_target, Item, What};
use super::order;
use super::target::Target;
use crate::collections::facts::{Facts, DELETE, UPDATE};
use crate::log::client::Address;
use crate::log::journal;
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::server::{deferred, pg, subxact};
use crate::sight::policy;
use crate::sight::scope::Filter;
use crate::values::dialect::Dialect;

/// Which of the rows that were inserted the caller does not see now, or may not when the transaction has committed. Looked at only where that is
/// possible: after a plain push it is not.
pub fn missing(targets: &[Target], fates: &[Fates], written: impl Iterator<Item = Item>) -> Result<Vec<Item>> {
    let mut inserted: Vec<Item> = Vec::new();
    let mut fired = memory::filled(0, targets.len());
    let mut written_to: HashSet<u32> = HashSet::new();
    for item in written {
        fired[item.target] |= item.what.event(&targets[item.target].collection);
        written_to.insert(targets[item.target].collection.relation.to_u32());
        if matches!(item.what, What::Insert(_)) || is_found(targets, item) {
            inserted.push(item);
        }
    }
    if inserted.is_empty() {
        return Ok(Vec::new());
    }
    let meddling = Meddling::of(targets, &fired)?;
    let mut missing = Vec::new();
    for (index, items) in by_target(inserted.into_iter()) {
        let target = &targets[index];
        // Who may not read the key has no copy to mend.
        if !target.may_read_key() {
            continue;
        }
        // What becomes of them at the commit nobody knows now. Of a row that is there the word is harmless: the client gets it once more.
        // (An edited row's client has it, and hears by its entry.)
        let is_open = |item: &Item| meddling.at_commit && !is_edited(targets, *item);
        let (open, items) = items.into_iter().gather_parts(is_open);
        memory::extend(&mut missing, open);
        if items.is_empty() {
            continue;
        }
        let scopes = scopes_now(target)?;
        let all_in_doubt = meddling.now || may_hide(target, &fates[index])? || decided_anew(target, &written_to)?;
        let is_in_doubt =
            |i: &Item| all_in_doubt || is_found(targets, *i) || may_be_left_out(target, i, scopes.as_deref());
        let items: Vec<Item> = items.into_iter().filter(is_in_doubt).gather();
        let ids: Vec<&str> = items.iter().map(|i| i.id(targets)).gather();
        let unsent = places_unsent(target, &ids, scopes.as_deref())?;
        memory::extend(&mut missing, unsent.into_iter().map(|place| items[place]));
    }
    Ok(missing)
}

/// Those of these missing rows that another order of the push may bring: triggers may have looked for what is written after them. (Not those of which the client itself says why
/// no pull sends them.)
pub fn swallowed(targets: &[Target], missing: &[Item], written: impl Iterator<Item = Item>) -> Result<Vec<Item>> {
    let mut fired = memory::filled(0, targets.len());
    written.for_each(|item| fired[item.target] |= item.what.event(&targets[item.target].collection));
    let mut swallowed = Vec::new();
    if missing.is_empty() || !Meddling::of(targets, &fired)?.now {
        return Ok(swallowed);
    }
    let inserted = missing.iter().copied().filter(|item| matches!(item.what, What::Insert(_)));
    for (index, items) in by_target(inserted) {
        let target = &targets[index];
        let scopes = scopes_now(target)?;
        let items: Vec<Item> = items.into_iter().filter(|item| !is_left_out(target, item, scopes.as_deref())).gather();
        let ids: Vec<&str> = items.iter().map(|i| i.id(targets)).gather();
        let places = places_unsent(target, &ids, scopes.as_deref())?;
        memory::extend(&mut swallowed, places.into_iter().map(|place| items[place]));
    }
    Ok(swallowed)
}

/// Does something besides a push's own statements change the rows that it writes?
struct Meddling {
    /// It may have done so.
    now: bool,
    /// It may when the transaction commits.
    at_commit: bool,
}

impl Meddling {
    /// By the events that were fired, for each target.
    fn of(targets: &[Target], fired: &[i16]) -> Result<Meddling> {
        let (mut now, mut at_commit) = (false, false);
        for (target, fired) in targets.iter().zip(fired) {
            let facts = Facts::of(&target.collection)?;
            at_commit |= facts.fires_late & fired != 0;
            // What refers to a row that is deleted may go with it, and what refers to a column follows it.
            now |= facts.fires & fired != 0
                || fired & DELETE != 0 && !facts.referenced_by.is_empty()
                || fired & UPDATE != 0 && facts.followed;
        }
        // A trigger of another table's, to which one of these has written.
        at_commit = at_commit || now && deferred::is_users_code_waiting()?;
        Ok(Meddling { now, at_commit })
    }
}

/// Those of these ids whose rows no pull would send now.
pub fn unsent_now<'t>(target: &Target, ids: &[&'t str]) -> Result<Vec<&'t str>> {
    let places = places_unsent(target, ids, scopes_now(target)?.as_deref())?;
    Ok(places.into_iter().map(|place| ids[place]).gather())
}

/// The places of those of these ids whose rows no pull would send now.
fn places_unsent(target: &Target, ids: &[&str], scopes: Option<&[String]>) -> Result<Vec<usize>> {
    let mut stands = memory::filled(false, ids.len());
    target.synced_now(ids, scopes)?.into_iter().for_each(|place| stands[place] = true);
    Ok((0..ids.len()).filter(|place| !stands[*place]).gather())
}

/// Do policies let the caller insert rows that they do not show him? (Where the INSERTs fail for such rows there are none.)
fn may_hide(target: &Target, fates: &Fates) -> Result<bool> {
    Ok(!fates.manner.shows_inserted && target.may_hide_inserted()?)
}

/// Has the push changed what decides who sees this target's rows? It may have given up what shows those that it inserted.
fn decided_anew(target: &Target, written_to: &HashSet<u32>) -> Result<bool> {
    Ok(!order::read_by_policies(&target.collection)?.is_disjoint(written_to))
}

/// Of these records, by target: the ids that were sent, and by which no row stands now, because the server writes them otherwise. Whoever keeps
/// rows by the text of their ids has such a row twice, or what became of it in vain.
pub fn misspelt(targets: &[Target], rows: &[HashSet<u32>]) -> Result<Vec<(usize, String)>> {
    let mut misspelt = Vec::new();
    for (index, (target, rows)) in targets.iter().zip(rows).enumerate() {
        // Who may not read the key has no copy to mend; for what a conflict function returned stands what was sent.
        if target.plan.spellings.is_empty() || target.settled || !target.may_read_key() {
            continue;
        }
        let spellings = target.plan.spellings.iter().filter(|s| s.record.is_some_and(|row| rows.contains(&row)));
        let spellings: Vec<_> = spellings.gather();
        let ids: Vec<&str> = spellings.iter().map(|s| &*s.id).gather();
        let stands = target.ids_now(&ids)?;
        let otherwise = spellings
            .iter()
            .enumerate()
            .filter(|(place, s)| stands.get(place).is_none_or(|id| !target.is_found_by(id, &s.sent)));
        memory::extend(&mut misspelt, otherwise.map(|(_, s)| (index, s.sent.to_string())));
    }
    Ok(misspelt)
}

/// Records that were left as the row stands, of which no pull would send the row: it is in another scope, or marked as deleted. (The Drift client
/// repeats what it has, tombstones among them.)
pub fn unsent<'t>(targets: &'t [Target], fates: &[Fates]) -> Result<Vec<(usize, &'t str)>> {
    let mut unsent = Vec::new();
    for (index, (target, fates)) in targets.iter().zip(fates).enumerate() {
        let is_asked = !target.settled && target.dialect != Dialect::Drift && target.may_read_key();
        if !is_asked || !is_narrowed(target) {
            continue;
        }
        let stays = |fate: &Fate| fate.stands() || matches!(fate, Fate::Asked | Fate::Nothing);
        let left = target.plan.records.iter().zip(&fates.records).filter(|(_, fate)| stays(fate));
        let ids: Vec<&str> = left.map(|(record, _)| &*record.id).gather();
        if ids.is_empty() {
            continue;
        }
        let places = places_unsent(target, &ids, scopes_now(target)?.as_deref())?;
        memory::extend(&mut unsent, places.into_iter().map(|place| (index, ids[place])));
    }
    Ok(unsent)
}

/// Are there rows that the caller sees, and no pull sends him?
fn is_narrowed(target: &Target) -> bool {
    target.collection.scope_values.is_some() || target.collection.soft_delete.is_some()
}

/// Without that right it is not known of a row whether it is a tombstone.
fn may_read_mark(target: &Target) -> bool {
    let mark = target.collection.soft_delete.as_ref();
    mark.is_none_or(|mark| pg::may_select(target.collection.relation, mark.attnum))
}

/// Was it a new row to its client, or what a conflict function made of one, and there already: in another scope, or marked as deleted? (In another scope it may
/// be for who edited it before it went there: clients keep such a row when the collection is replaced.)
fn is_found(targets: &[Target], item: Item) -> bool {
    let target = &targets[item.target];
    match item.what {
        What::Update(_) | What::Mark(_) => {
            let is_new = target.settled || target.plan.records[item.row as usize].created;
            is_edited(targets, item) || is_narrowed(target) && (is_new || !may_read_mark(target))
        }
        What::Revive(_) => true,
        What::Insert(_) | What::Delete => false,
    }
}

/// Is it a row that its client had, of a collection where it may be in another scope by now?
fn is_edited(targets: &[Target], item: Item) -> bool {
    let target = &targets[item.target];
    let is_new = || target.settled || target.plan.records[item.row as usize].created;
    item.is_update() && target.collection.scope_values.is_some() && !is_new()
}

/// The scopes that `scope_values` gives the caller; None for all. (Where it fails his pulls will say so.)
fn scopes_now(target: &Target) -> Result<Option<Vec<String>>> {
    let collection = &target.collection;
    if collection.scope_values.is_none() {
        return Ok(None);
    }
    let _now = pg::ActiveSnapshot::take();
    let scopes = subxact::run(|| Filter::default().scopes(&collection.name, collection));
    Ok(policy::or_unknown(scopes)?.flatten())
}

/// By what was sent: may the row be of another scope, or marked as deleted?
fn may_be_left_out(target: &Target, item: &Item, scopes: Option<&[String]>) -> bool {
    scopes.is_some() && sent_scope(target, item).is_none() || is_left_out(target, item, scopes)
}

/// By what was sent: is the row of another scope, or marked as deleted?
fn is_left_out(target: &Target, item: &Item, scopes: Option<&[String]>) -> bool {
    let is_elsewhere = |scopes: &[String]| {
        let scope = sent_scope(target, item);
        scope.is_some_and(|scope| scopes.binary_search(&scope).is_err())
    };
    scopes.is_some_and(is_elsewhere) || target.sets_mark(item.row)
}

/// The scope that was sent of a row.
fn sent_scope(target: &Target, item: &Item) -> Option<String> {
    let record = &target.plan.records[item.row as usize];
    let raw = target.plan.raw(record, &target.collection.scope.as_ref()?.name)?;
    match raw.as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw).ok(),
        _ => Some(raw.to_string()),
    }
}

/// Leaves word for the pusher's next pull that these rows (by target and id) are not there.
pub fn leave_word(client_id: Option<&str>, targets: &[Target], missing: &[(usize, &str)]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let address = Address::of(client_id)?;
    for (target, id) in missing {
        journal::notify(targets[*target].collection.relation, id, &address)?;
    }
    Ok(())
}

/// Makes the next pulls send these rows (by target and id) once more: those of their scopes, as with any change. Returns the rows that the pusher does not
/// see any more, of which he has to be told otherwise: their scopes are not known, and others have nothing to do with it.
pub fn send_again<'t>(targets: &[Target], rows: &[(usize, &'t str)]) -> Result<Vec<(usize, &'t str)>> {
    let mut by_target: BTreeMap<usize, Vec<&'t str>> = BTreeMap::new();
    rows.iter().for_each(|(target, id)| by_target.entry(*target).or_default().push(id));
    let mut unseen = Vec::new();
    for (index, ids) in by_target {
        let target = &targets[index];
        let scopes = target.logged_scopes_now(&ids)?;
        for (place, id) in ids.into_iter().enumerate() {
            memory::heed();
            match scopes.as_ref().map(|scopes| scopes.get(&place)) {
                Some(None) => unseen.push((index, id)),
                scope => {
                    let scope = scope.flatten().and_then(Option::as_deref);
                    journal::touch(target.collection.relation, id, scope)?;
                }
            }
        }
    }
    Ok(unseen)
}
