//! What happened to the pushed rows on the server since the client's cursor, as far as the caller may know.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use super::fates::Deciding;
use super::RowHistory;
use crate::collections::catalog;
use crate::log::change::{Image, Op};
use crate::log::read::{self, Logged};
use crate::log::{clock, journal, roles};
use crate::push::pusher::{Baseline, Pusher};
use crate::push::target::{Stored, Target};
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::server::pg;
use crate::sight::reach::Reach;
use crate::values::conflict::ServerChange;
use crate::values::dialect::Dialect;

/// So many entries of the log are looked at for updated rows that are not there, and for each row so many. Whatever the log's size:
/// anybody may push such a row, at any time.
const REMEMBERED: usize = 10_000;
const FOR_EACH: usize = 20;

/// A row as it was until this stamp.
struct Old {
    stamp: i64,
    image: Image,
}

impl Old {
    fn of(entry: &Logged) -> Option<Old> {
        entry.image.clone().map(|image| Old { stamp: entry.stamp, image })
    }
}

/// The log's entries about the target's rows, by others and since the baseline; None where the log does not reach back that far.
/// Nothing was committed after `newest`.
pub(super) fn entries(pusher: &Pusher, target: &Target, newest: i64) -> Result<Option<Vec<Logged>>> {
    let from = match pusher.baseline {
        // Who may not read the key hears nothing from pulls, and nothing here: all that he is told is what becomes of his rows.
        _ if !target.may_read_key() => return Ok(Some(Vec::new())),
        Baseline::None => return Ok(Some(Vec::new())),
        Baseline::Stamp(stamp) => stamp,
        Baseline::Unknown => return Ok(None),
    };
    // Nothing has been written since: the usual case, which needs no look at the log.
    if newest < from {
        return Ok(Some(Vec::new()));
    }
    let snapshot = pg::ActiveSnapshot::take();
    let mut entries = target.logged(&target.ids(), from, &snapshot)?;
    if entries.iter().any(|e| pusher.is_by_others(e)) {
        let made = made_since(pusher, target, &entries);
        entries
            .retain(|e| pusher.is_by_others(e) && made.get(&*target.comparable(&e.key)).is_none_or(|at| e.stamp > *at));
    } else {
        entries.clear();
    }
    Ok(if entries.iter().any(|e| e.op == Op::Reset) { None } else { Some(entries) })
}

/// Which of the rows the client itself has made since the baseline, by this transaction or another, and when. What others did before that is of
/// another row: it is no conflict, which would tell that there was one.
fn made_since(pusher: &Pusher, target: &Target, entries: &[Logged]) -> HashMap<String, i64> {
    let made = entries.iter().filter(|e| e.op == Op::Insert && !pusher.is_by_others(e));
    let mut made: HashMap<String, i64> = made.map(|e| (target.comparable(&e.key).into_owned(), e.stamp)).gather();
    journal::each_inserted(target.collection.relation, |key| {
        made.insert(target.comparable(key).into_owned(), i64::MAX);
    });
    made
}

/// Did others change rows of this target since the baseline that the caller sees or could see, or is that not known?
pub(super) fn are_known(pusher: &Pusher, index: usize, target: &Target, newest: i64) -> Result<bool> {
    let Some(entries) = entries(pusher, target, newest)? else { return Ok(true) };
    if entries.is_empty() {
        return Ok(false);
    }
    let mut stored = memory::filled(Stored::default(), target.ids().len());
    let changed: HashSet<&str> = entries.iter().map(|entry| entry.key.as_str()).gather();
    let ids = target.ids().into_iter().enumerate().filter(|(_, id)| changed.contains(id));
    let (places, ids): (Vec<usize>, Vec<&str>) = ids.gather_pairs();
    for (at, deleted) in target.visible_now(&ids)? {
        stored[places[at]] = Stored { visible: true, locked: false, deleted };
    }
    let one = Deciding::new(pusher, index, target, stored, newest, false);
    Ok(!one.changed(Some(&entries))?.is_empty())
}

impl<'d> Deciding<'d, '_> {
    /// The pushed rows that others changed and that the caller can see or could: another's row is not his conflict to hear of.
    pub(super) fn changed<'l>(&self, entries: Option<&'l [Logged]>) -> Result<HashMap<String, RowHistory<'l>>> {
        let Some(entries) = entries else {
            return Ok(self.target.ids().into_iter().map(|id| (id.to_string(), RowHistory::Unknown)).gather());
        };
        if entries.is_empty() {
            return Ok(HashMap::new());
        }
        let mut changed: HashMap<&str, Vec<&Logged>> = HashMap::new();
        for entry in entries {
            changed.entry(&entry.key).or_default().push(entry);
        }
        let hidden = changed.iter().filter(|(id, _)| !self.stored(id).visible);
        let (ids, past): (Vec<&str>, Vec<Old>) =
            hidden.flat_map(|(id, entries)| entries.iter().filter_map(|e| Some((*id, Old::of(e)?)))).gather_pairs();
        // (Where the log was reset there are no entries here.)
        let seen = self.could_see(&past, None)?;
        let could_see: HashSet<&str> = ids.into_iter().zip(seen).filter(|(_, seen)| *seen).map(|(id, _)| id).gather();
        changed.retain(|id, _| self.stored(id).visible || could_see.contains(id));
        Ok(changed.into_iter().map(|(id, entries)| (id.to_string(), RowHistory::Entries(entries))).gather())
    }

    /// Which of these old rows the caller could see, as far as that can be told. What policies say of an old row they say as things
    /// are now, so of rows from before the caller's access moved nothing is known: he may have gained it since, and what was deleted
    /// before is to him as if it had never been. No more does a pull tell. `reset` is the last reset among the entries that were read.
    fn could_see(&self, old: &[Old], reset: Option<i64>) -> Result<Vec<bool>> {
        let nothing = memory::filled(false, old.len());
        if old.is_empty() || self.blind {
            return Ok(nothing);
        }
        let snapshot = pg::ActiveSnapshot::take();
        let standing = roles::standing(&snapshot)?;
        let mut stamps: Vec<i64> = old.iter().map(|o| o.stamp).filter(|s| reset.is_none_or(|r| *s > r)).gather();
        stamps.sort_unstable();
        stamps.dedup();
        // From the first of them on, most often; else from the first after which nothing moved.
        let (mut first, mut at, mut end) = (0, 0, stamps.len());
        let mut reach = None;
        while first < end {
            memory::heed();
            let mut since = Reach::since(stamps[at], &snapshot);
            since.was_not_reset(&self.target.collection);
            if standing.held_since(stamps[at]) && !since.moved(&self.target.collection, false)? {
                end = at;
                reach = Some(since);
            } else {
                first = at + 1;
            }
            at = first + (end - first) / 2;
        }
        let Some(mut reach) = reach else { return Ok(nothing) };
        let in_question: Vec<usize> = (0..old.len()).filter(|i| old[*i].stamp >= stamps[end]).gather();
        let images: Vec<Image> = in_question.iter().map(|i| old[*i].image.clone()).gather();
        let mut all = nothing;
        // Not to be told: then nothing is said, for a conflict would tell that there was a row.
        if let Some(seen) = reach.visible(&self.target.collection, &images, None)? {
            in_question.into_iter().zip(seen).for_each(|(i, seen)| all[i] = seen);
        }
        Ok(all)
    }

    /// The updated records whose row is gone and is known to have been deleted, also before the client's cursor: the client must hear
    /// of it and not bring it back.
    pub(super) fn known_deleted(&self, refused: &HashSet<String>) -> Result<HashSet<String>> {
        // The Drift client has no cursor to conflict with, and is told of it all the same.
        let silent = matches!(self.pusher.baseline, Baseline::None) && self.target.dialect != Dialect::Drift;
        if self.blind || silent {
            return Ok(HashSet::new());
        }
        let records = self.target.plan.records.iter().zip(&self.stored);
        let missing = records.filter(|(r, stored)| !r.created && !stored.visible);
        let missing: Vec<&str> = missing.map(|(r, _)| &*r.id).filter(|id| !refused.contains(*id)).gather();
        if missing.is_empty() {
            return Ok(HashSet::new());
        }
        let snapshot = pg::ActiveSnapshot::take();
        let entries = self.target.logged(&missing, self.remembered(missing.len(), &snapshot)?, &snapshot)?;
        let reset = entries.iter().filter(|e| e.op == Op::Reset).map(|e| e.stamp).max();
        let mut last: HashMap<&str, &Logged> = HashMap::new();
        for entry in entries.iter().filter(|e| e.op != Op::Reset) {
            last.insert(&entry.key, entry);
        }
        let deleted = last.into_values().filter(|e| e.op == Op::Delete);
        // Without an image it was made and deleted by one transaction: nobody ever knew it.
        let (keys, old): (Vec<&str>, Vec<Old>) =
            deleted.filter_map(|e| Some((e.key.as_str(), Old::of(e)?))).gather_pairs();
        let seen = self.could_see(&old, reset)?;
        Ok(keys.into_iter().zip(seen).filter(|(_, seen)| *seen).map(|(key, _)| key.to_string()).gather())
    }

    /// From which stamp on deletions are looked for, of so many rows. There is no index by key; and whether the caller knew the row may take
    /// all changes since then of the tables that his policies read. What is further back than so many of each is as if it had never been.
    fn remembered(&self, rows: usize, snapshot: &pg::ActiveSnapshot) -> Result<i64> {
        let most = REMEMBERED + FOR_EACH * rows;
        let (mut from, mut tables) = (clock::FIRST, HashSet::new());
        let mut open = vec![Rc::clone(&self.target.collection)];
        while let Some(table) = open.pop() {
            memory::heed();
            if tables.insert(table.relation.to_u32()) {
                from = from.max(read::newest(table.relation, most, snapshot)?);
                for access in table.access.iter().filter(|access| !access.untracked) {
                    memory::extend(&mut open, catalog::tracked(access.relation)?);
                }
            }
        }
        Ok(from)
    }

    /// The columns that a change touched, by name.
    pub(super) fn touched(&self, change: &RowHistory) -> ServerChange<'d> {
        let RowHistory::Entries(entries) = change else { return ServerChange::Unknown };
        let Some(last) = entries.last() else { return ServerChange::Deleted };
        if last.op == Op::Delete {
            return ServerChange::Deleted;
        }
        let mut touched: BTreeSet<&'d str> = BTreeSet::new();
        for entry in entries {
            let (Op::Update, Some(numbers)) = (entry.op, &entry.touched) else { return ServerChange::Unknown };
            let columns = &self.target.collection.columns;
            memory::extend(
                &mut touched,
                columns.iter().filter(|c| numbers.contains(&c.attnum)).map(|c| c.name.as_str()),
            );
        }
        ServerChange::Columns(touched)
    }
}
