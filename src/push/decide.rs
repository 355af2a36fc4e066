//! What becomes of each pushed row: found out under the rows' locks, before anything is written.
//!
//! A conflict is a pushed row that somebody else changed since the client's cursor and that the caller can or could see.
//! The collection's policy decides it. Two things are no conflict under any policy: a row deleted on both sides, and
//! a created row that is stored already as it is pushed (a push that is repeated because its answer was lost).

use std::collections::{HashMap, HashSet};

use super::pusher::{Baseline, Pusher};
use super::rejection::Rejection;
use super::target::moved::Endangered;
use super::target::{Stored, Target};
use crate::collections::facts::{Facts, INSERT, UPDATE};
use crate::log::change::Op;
use crate::log::clock;
use crate::log::read::Logged;
use crate::server::error::{code, Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::pg::{self, Privilege};
use crate::values::conflict::ConflictPolicy;
use crate::values::dialect::Dialect;
use crate::values::json::Writer;

mod ask;
mod fates;
mod history;
mod stored;
mod version;

pub use ask::Answers;
use fates::Deciding;
pub use stored::stand_as_sent;

/// What to do with a row of the payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// The row exists: UPDATE.
    Update,
    /// A tombstone of the row is stored: UPDATE, which takes the mark away.
    Revive,
    /// The row does not exist: INSERT.
    Insert,
    Delete,
    /// The stored row stands, and the client gets it with its next pull.
    Keep,
    /// The row is, or stays, deleted, and the client hears so with its next pull.
    Gone,
    /// The row stands as it is sent, as far as its columns tell; if the client has lost anything by that, it gets it with its next pull.
    Equal,
    /// The same where the caller may not write the row: nobody else is to hear of that.
    EqualForHim,
    /// So it is, and the row has more than was sent.
    KeepForHim,
    /// What the conflict function returned is written in its place (`settle`).
    Asked,
    /// There is nothing to do.
    Nothing,
    Rejected,
}

impl Fate {
    /// Does the stored row stand, for a record that is not refused?
    pub fn stands(self) -> bool {
        matches!(self, Fate::Keep | Fate::Equal | Fate::EqualForHim | Fate::KeepForHim)
    }
}

/// The fates of one target's rows.
pub struct Fates {
    pub records: Vec<Fate>,
    pub deletions: Vec<Fate>,
    /// Rows are to be deleted that could not be locked: who may delete need not be allowed to update. Or they are to be marked, and are `closed`.
    pub deletes_unlocked: bool,
    /// Records to be updated whose rows could not be locked: no policy lets the caller change them now, but something else that he pushes may open them.
    pub closed: HashSet<u32>,
    /// Records to be updated whose rows were marked as deleted.
    pub marked: HashSet<u32>,
    /// Records to be inserted although their rows stand: a trigger or a rule may ignore what is there, and the caller may not update them.
    pub repeated: HashSet<u32>,
    /// Those whose rows were not to be seen, and which something else of the push brings into the caller's sight (write/opened.rs).
    pub opened: HashSet<(RowKind, u32)>,
    /// Records among these that would move their rows.
    pub moving: HashSet<u32>,
    /// Stamps from [`Decisions::snapmin`] on that the decisions have seen all the same: others were just committing, or had prepared to.
    stamps_seen: HashSet<i64>,
    pub manner: Manner,
}

impl Fates {
    pub fn of_none() -> Fates {
        Fates {
            records: Vec::new(),
            deletions: Vec::new(),
            deletes_unlocked: false,
            closed: HashSet::new(),
            marked: HashSet::new(),
            repeated: HashSet::new(),
            opened: HashSet::new(),
            moving: HashSet::new(),
            stamps_seen: HashSet::new(),
            manner: Manner::default(),
        }
    }
}

/// How a target's statements are written, where they find out what was not looked at before.
#[derive(Clone, Copy, Default)]
pub struct Manner {
    /// Its UPDATE takes the locks.
    pub locks_itself: bool,
    /// Its INSERTs are to fail for rows that no policy shows to the caller.
    pub shows_inserted: bool,
}

/// What all targets' rows become, and why some are refused.
pub struct Decisions {
    pub fates: Vec<Fates>,
    pub rejections: Vec<Rejection>,
    /// What conflict functions made of rows, in place of what was pushed.
    pub answers: Vec<Answers>,
    /// All entries of the log that the decisions did not see carry a stamp >= this one.
    pub snapmin: i64,
}

/// What happened to a row on the server since the baseline, by others.
enum RowHistory<'l> {
    Entries(Vec<&'l Logged>),
    /// The log does not reach back to the client's cursor.
    Unknown,
}

impl RowHistory<'_> {
    fn deleted_last(&self) -> bool {
        matches!(self, RowHistory::Entries(entries) if entries.last().is_some_and(|e| e.op == Op::Delete))
    }
}

pub fn conflict_error() -> SyncError {
    SyncError::new(code::CONFLICT, "the row was changed on the server since last_pulled_at")
}

/// Where the policy wants it so.
pub fn stands_error() -> SyncError {
    SyncError::new(code::CONFLICT, "the row was changed on the server, and the stored one stands")
}

/// All conflicts of a push as one error, in the form that clients parse.
pub fn conflicts_error(rejections: &[Rejection], targets: &[Target]) -> SyncError {
    let mut list: Vec<(&str, &str)> =
        rejections.iter().map(|r| (&*targets[r.target].collection.name, targets[r.target].as_sent(&r.id))).gather();
    list.sort_unstable();
    let mut detail = Writer::spaced(Vec::new());
    detail.array();
    for (collection, id) in list {
        memory::heed();
        detail.object();
        detail.name("collection");
        detail.text(collection);
        detail.name("id");
        detail.text(id);
        detail.end_object();
    }
    detail.end_array();
    SyncError::new(code::CONFLICT, "pushed rows were changed on the server since last_pulled_at")
        .detail(detail.into_text())
        .hint("Nothing was applied. Pull, let the client resolve, and push again.")
}

fn stale() -> SyncError {
    SyncError::new(code::CONFLICT, "last_pulled_at is too old to tell what changed since")
        .detail("[]")
        .hint("Nothing was applied. Pull, let the client resolve, and push again.")
}

/// The ids of a target that are refused whatever is stored, with the reason.
type Unfit = HashMap<String, SyncError>;

/// Locks the rows and decides about all of them.
pub fn decide(pusher: &Pusher, targets: &[Target]) -> Result<Decisions> {
    let mut decisions = Decisions::after(clock::FIRST);
    decisions.snapmin = with_care(pusher, 0, targets, &mut decisions, |one| one.fates())?;
    Ok(decisions)
}

/// Decides about the rows that conflict functions returned: they are written, where the caller may. They are targets of their own, the
/// first of which has this index. A function can have changed any row, so they are looked at once more.
pub fn settle(pusher: &Pusher, first: usize, targets: &[Target], decisions: &mut Decisions) -> Result<()> {
    with_care(pusher, first, targets, decisions, |one| Ok(one.settled())).map(|_| ())
}

/// Rows of a target that were not to be seen, and are there by now: the push itself has brought them into the caller's sight, or has had them made.
pub struct FoundRows {
    index: usize,
    kind: RowKind,
    /// What becomes of them is what would have become of them if he had seen them before.
    pub fates: HashMap<u32, Fate>,
    /// Their tombstones are stored.
    marked: HashSet<u32>,
    /// The records that would move their rows.
    moving: Vec<u32>,
    /// Those of them that are refused.
    pub rejections: Vec<Rejection>,
}

/// What of the payload.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowKind {
    Records,
    Deletions,
}

/// Looks at these rows once more.
pub fn found(pusher: &Pusher, index: usize, target: &Target, (kind, rows): (RowKind, &[u32])) -> Result<FoundRows> {
    let all = target.ids();
    let first = if kind == RowKind::Records { 0 } else { target.plan.records.len() };
    let ids: Vec<&str> = rows.iter().map(|row| all[first + *row as usize]).gather();
    let mut stored = memory::filled(Stored::default(), all.len());
    let locked: HashSet<usize> = target.lock(&ids)?.into_iter().map(|(at, _)| at).gather();
    for (at, deleted) in target.visible_now(&ids)? {
        stored[first + rows[at] as usize] = Stored { visible: true, locked: locked.contains(&at), deleted };
    }
    let newest = clock::read_snapmin()?.newest;
    let mut one = Deciding::new(pusher, index, target, stored, newest, false);
    let Fates { records, deletions, marked, .. } = if target.settled { one.settled() } else { one.fates()? };
    let of_kind = if kind == RowKind::Records { records } else { deletions };
    let asked: HashSet<&str> = ids.into_iter().gather();
    let mut rejections = one.rejections;
    rejections.retain(|rejection| asked.contains(&*rejection.id));
    let fates = rows.iter().map(|row| (*row, of_kind[*row as usize])).gather();
    let moving = if kind == RowKind::Records { target.moved(rows, &Endangered::any())? } else { Vec::new() };
    Ok(FoundRows { index, kind, fates, marked, moving, rejections })
}

/// Locks the rows of these targets, and adds what `fates` says about each. All entries of the log that were not seen then carry a stamp
/// >= the one returned.
fn with_care(
    pusher: &Pusher,
    first: usize,
    targets: &[Target],
    decisions: &mut Decisions,
    fates: impl Fn(&mut Deciding) -> Result<Fates>,
) -> Result<i64> {
    let mut unfit = targets.iter().map(unfit).gather::<Result<Vec<Unfit>>>()?;
    let mut stored = lock(targets, &unfit, |_| true)?;
    let (clock, mut stamps) = loop {
        let clock = clock::read_snapmin()?;
        let stamps = targets.iter().map(|target| stamps_seen(pusher, target, &clock)).gather::<Result<Vec<_>>>()?;
        let mut again = false;
        for ((target, unfit), stored) in targets.iter().zip(&unfit).zip(&mut stored) {
            let found = look(target, unfit, stored)?;
            again |= lock_found(target, stored, &found)?;
        }
        if !again {
            break (clock, stamps);
        }
    };
    for (index, target) in targets.iter().enumerate() {
        let (stored, stamps_seen) = (std::mem::take(&mut stored[index]), std::mem::take(&mut stamps[index]));
        let mut one = Deciding::new(pusher, first + index, target, stored, clock.newest, true);
        one.reject_unfit(std::mem::take(&mut unfit[index]));
        let fates = fates(&mut one)?;
        decisions.take(Fates { stamps_seen, ..fates }, one);
    }
    Ok(clock.snapmin)
}

/// The same as almost every push can be decided: with nothing to reject, and nothing to ask the user's functions. None where it
/// cannot. What is not looked at here, the statements find out.
pub fn quickly(pusher: &Pusher, targets: &[Target]) -> Result<Option<Decisions>> {
    let fit = Unfit::new();
    let mut assumed: Vec<Option<Fate>> = memory::list(targets.len());
    for target in targets {
        if !target.misfits.is_empty() || !target.unreadable_ids()?.is_empty() {
            return Ok(None);
        }
        // (Where an INSERT may find a row and do something else to it, it is not the INSERT that says that there is one.)
        let is_told = !target.may_suppress_inserts()? || !target.weighs_stored();
        assumed.push((target.is_all_new() && is_told).then_some(Fate::Insert));
    }
    if let ([target], [assumed]) = (targets, &mut assumed[..]) {
        // (Rows that are written one after the other are locked before, in the order of their keys.)
        let facts = Facts::of(&target.collection)?;
        let in_turn = facts.goes_in_turn(UPDATE, target.collection.relation);
        if target.can_lock_itself() && !facts.fires_after_rows(UPDATE) && !in_turn {
            *assumed = Some(Fate::Update);
        }
    }
    let mut stored = lock(targets, &memory::filled(Unfit::new(), targets.len()), |index| assumed[index].is_none())?;
    let clock = clock::read_snapmin()?;
    let mut decisions = Decisions::after(clock.snapmin);
    for (index, target) in targets.iter().enumerate() {
        let manner = Manner {
            locks_itself: assumed[index] == Some(Fate::Update),
            shows_inserted: target.may_read_key() && target.may_hide_inserted()? && !target.is_ruled(INSERT)?,
        };
        if let Some(fate) = assumed[index] {
            // What others did since the baseline is a conflict, or may be. Of rows that the caller never saw nothing is said, and nothing done: in
            // which command his own rows were written would tell him that there was one.
            if history::are_known(pusher, index, target, clock.newest)? {
                return Ok(None);
            }
            let records = memory::filled(fate, target.plan.records.len());
            decisions.fates.push(Fates { records, manner, ..Fates::of_none() });
            continue;
        }
        let mut stored = std::mem::take(&mut stored[index]);
        // They may have been made while others' locks were waited for.
        if !look(target, &fit, &mut stored)?.is_empty() && target.may(Privilege::Update) {
            return Ok(None);
        }
        let mut one = Deciding::new(pusher, index, target, stored, clock.newest, false);
        let fates = one.fates()?;
        if one.would_ask || !one.rejections.is_empty() {
            return Ok(None);
        }
        decisions.take(Fates { manner, ..fates }, one);
    }
    Ok(Some(decisions))
}

impl Decisions {
    fn after(snapmin: i64) -> Self {
        Decisions { fates: Vec::new(), rejections: Vec::new(), answers: Vec::new(), snapmin }
    }

    /// From now on these are rows that stand, and that nobody lets the caller change before something else of the push does.
    pub fn open(&mut self, targets: &[Target], found: FoundRows) {
        let FoundRows { index, kind, fates: found, marked, moving, rejections } = found;
        let (fates, plan) = (&mut self.fates[index], &targets[index].plan);
        memory::extend(&mut fates.moving, moving);
        memory::extend(&mut self.rejections, rejections);
        for (row, fate) in found {
            memory::heed();
            fates.opened.insert((kind, row));
            let (of_kind, id) = match kind {
                RowKind::Records => (&mut fates.records, &plan.records[row as usize].id),
                RowKind::Deletions => (&mut fates.deletions, &plan.deletions[row as usize].id),
            };
            // (A conflict function is not asked any more: the stored row stands.)
            let stands = fate == Fate::Nothing && targets[index].dialect != Dialect::Drift;
            of_kind[row as usize] = if stands { Fate::Rejected } else { fate };
            if stands {
                let (id, error) = (id.to_string(), stands_error());
                self.rejections.push(Rejection { target: index, id, error, expected: true });
            }
            match (kind, fate) {
                (RowKind::Records, Fate::Update | Fate::Revive) => _ = fates.closed.insert(row),
                (RowKind::Records, Fate::Insert) => _ = fates.repeated.insert(row),
                (RowKind::Deletions, Fate::Delete) => fates.deletes_unlocked = true,
                _ => {}
            }
            if kind == RowKind::Records && marked.contains(&row) {
                fates.marked.insert(row);
            }
        }
    }

    fn take(&mut self, fates: Fates, of: Deciding) {
        self.fates.push(fates);
        memory::extend(&mut self.rejections, of.rejections);
        if !of.answers.is_empty() {
            self.answers.push(of.answers);
        }
    }
}

fn unfit(target: &Target) -> Result<Unfit> {
    let mut refused = target.unreadable_ids()?;
    for (id, e) in &target.misfits {
        memory::heed();
        refused.insert(id.clone(), e.clone());
    }
    Ok(refused)
}

/// Locks the rows of these targets. Whatever is read afterwards sees what was committed before they were ours, and nothing can come
/// after.
fn lock(targets: &[Target], unfit: &[Unfit], wanted: impl Fn(usize) -> bool) -> Result<Vec<Vec<Stored>>> {
    let mut stored: Vec<Vec<Stored>> = memory::list(targets.len());
    memory::extend(&mut stored, targets.iter().map(|t| memory::filled(Stored::default(), t.ids().len())));
    // One global order for locks, whatever the payload's: two pushes cannot wait for each other.
    let mut by_oid: Vec<usize> = (0..targets.len()).filter(|i| wanted(*i)).gather();
    by_oid.sort_unstable_by_key(|&i| targets[i].collection.relation.to_u32());
    for i in by_oid {
        let (places, ids) = readable(&targets[i], &unfit[i], |_| true);
        for (at, deleted) in targets[i].lock(&ids)? {
            stored[i][places[at]] = Stored { visible: true, locked: true, deleted };
        }
    }
    Ok(stored)
}

/// Which of the rows that could not be locked are there all the same: their places.
fn look(target: &Target, unfit: &Unfit, stored: &mut [Stored]) -> Result<Vec<usize>> {
    let (places, ids) = readable(target, unfit, |place| !stored[place].visible);
    let mut found = Vec::new();
    for (at, deleted) in target.visible_now(&ids)? {
        stored[places[at]] = Stored { visible: true, locked: false, deleted };
        found.push(places[at]);
    }
    Ok(found)
}

/// Locks those of these rows that can be: they were made while others' locks were waited for. (What still cannot is not the caller's to change.)
/// True if there are any.
fn lock_found(target: &Target, stored: &mut [Stored], places: &[usize]) -> Result<bool> {
    if places.is_empty() {
        return Ok(false);
    }
    let all = target.ids();
    let ids: Vec<&str> = places.iter().map(|place| all[*place]).gather();
    let locked = target.lock(&ids)?;
    for (at, deleted) in &locked {
        stored[places[*at]] = Stored { visible: true, locked: true, deleted: *deleted };
    }
    Ok(!locked.is_empty())
}

/// The ids of a target that can be read, of those whose place is wanted, with their places.
fn readable<'t>(target: &'t Target, unfit: &Unfit, wanted: impl Fn(usize) -> bool) -> (Vec<usize>, Vec<&'t str>) {
    let ids = target.ids().into_iter().enumerate();
    ids.filter(|(place, id)| wanted(*place) && !unfit.contains_key(*id)).gather_pairs()
}

/// A row that is known to be deleted.
const GONE: RowHistory<'static> = RowHistory::Entries(Vec::new());

/// Rows of a target just written that were not locked when it was decided about them.
pub struct Unlocked<'t> {
    /// They were not there.
    pub inserted: Vec<&'t str>,
    /// The caller may only delete them, or the UPDATE itself locked them.
    pub stood: Vec<&'t str>,
}

/// From which stamp on others' entries are looked for when everything is written; None where nothing that they say would count.
fn looked_at_from(pusher: &Pusher, target: &Target, snapmin: i64) -> Option<i64> {
    match pusher.baseline {
        // He is told of no conflict.
        _ if !target.may_read_key() => None,
        Baseline::Stamp(stamp) => Some(stamp.max(snapmin)),
        // What is newer stands, whatever the client has seen.
        _ if target.collection.conflict == ConflictPolicy::LastWriteWins => Some(snapmin),
        _ => None,
    }
}

/// The stamps of what is in the log of that already, before it is decided.
fn stamps_seen(pusher: &Pusher, target: &Target, clock: &clock::Reading) -> Result<HashSet<i64>> {
    let from = looked_at_from(pusher, target, clock.snapmin).filter(|from| *from <= clock.newest);
    let Some(from) = from else { return Ok(HashSet::new()) };
    let entries = target.logged(&target.ids(), from, &pg::ActiveSnapshot::take())?;
    Ok(entries.iter().map(|e| e.stamp).gather())
}

impl Decisions {
    /// Are there rows among these that somebody else wrote since the decisions, and that the caller sees or could see? Whoever wrote them has an entry
    /// in the log now. (Of rows that he never saw nothing is said, and nothing done: see `quickly`.)
    pub fn outdated(&self, pusher: &Pusher, index: usize, target: &Target, written: &Unlocked) -> Result<bool> {
        let Some(from) = looked_at_from(pusher, target, self.snapmin) else { return Ok(false) };
        let ids: Vec<&str> = written.inserted.iter().chain(&written.stood).copied().gather();
        let mut entries = target.logged(&ids, from, &pg::ActiveSnapshot::take())?;
        let seen = &self.fates[index].stamps_seen;
        entries.retain(|e| e.op != Op::Reset && pusher.is_by_others(e) && !seen.contains(&e.stamp));
        if entries.is_empty() {
            return Ok(false);
        }
        let stood: HashSet<&str> = written.stood.iter().copied().gather();
        let visible = |id: &str| Stored { visible: stood.contains(id), ..Stored::default() };
        let stored = target.ids().into_iter().map(visible).gather();
        let one = Deciding::new(pusher, index, target, stored, clock::FIRST, false);
        Ok(!one.changed(Some(&entries))?.is_empty())
    }
}
