//! What becomes of each pushed row: found out under the rows' locks, before anything is written.
//!
//! A conflict is a pushed row that somebody else changed since the client's cursor and that the caller can or could see.
//! The collection's policy decides it. Two things are no conflict under any policy: a row deleted on both sides, and
//! a created row that is stored already as it is pushed (a push that is repeated because its answer was lost).

use std::collections::HashMap;

use super::pusher::{Baseline, Pusher};
use super::rejection::Rejection;
use super::target::{Stored, Target};
use crate::log::change::Op;
use crate::log::clock;
use crate::log::read::Logged;
use crate::server::error::{code, Result, SyncError};
use crate::server::pg;
use crate::values::conflict::ConflictPolicy;
use crate::values::json;

mod ask;
mod fates;
mod history;
mod stored;
mod version;

use fates::Deciding;

/// What to do with a row of the payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// The row exists: UPDATE.
    Update,
    /// The row does not exist: INSERT.
    Insert,
    Delete,
    /// The stored row stands, and the client gets it with its next pull.
    Keep,
    /// There is nothing to do.
    Nothing,
    Rejected,
}

/// The fates of one target's rows.
pub struct Fates {
    pub records: Vec<Fate>,
    pub deletions: Vec<Fate>,
}

/// What all targets' rows become, and why some are refused.
pub struct Decisions {
    pub fates: Vec<Fates>,
    pub rejections: Vec<Rejection>,
    /// What conflict functions returned, as a payload of its own.
    pub settled: String,
    /// All entries of the log that the decisions did not see carry a stamp >= this one.
    pub snapmin: i64,
}

/// What happened to a row on the server since the baseline, by others.
enum Change<'l> {
    Entries(Vec<&'l Logged>),
    /// The log does not reach back to the client's cursor.
    Unknown,
}

impl Change<'_> {
    fn deleted_last(&self) -> bool {
        matches!(self, Change::Entries(entries) if entries.last().is_some_and(|e| e.op == Op::Delete))
    }
}

pub fn conflict_error() -> SyncError {
    SyncError::new(code::CONFLICT, "the row was changed on the server since last_pulled_at")
}

/// All conflicts of a push as one error, in the form that clients parse.
pub fn conflicts_error(rejections: &[Rejection], targets: &[Target]) -> SyncError {
    let mut list: Vec<(&str, &str)> =
        rejections.iter().map(|r| (targets[r.target].collection.name.as_str(), r.id.as_str())).collect();
    list.sort_unstable();
    let mut detail = Vec::from(b"[");
    for (i, (collection, id)) in list.iter().enumerate() {
        pgrx::check_for_interrupts!();
        detail.extend_from_slice(if i > 0 { b", {\"collection\": " } else { b"{\"collection\": " });
        json::escape_json(&mut detail, collection.as_bytes());
        detail.extend_from_slice(b", \"id\": ");
        json::escape_json(&mut detail, id.as_bytes());
        detail.push(b'}');
    }
    detail.push(b']');
    SyncError::new(code::CONFLICT, "pushed rows were changed on the server since last_pulled_at")
        .detail(String::from_utf8_lossy(&detail))
        .hint("Nothing was applied. Pull, let the client resolve, and push again.")
}

fn stale() -> SyncError {
    SyncError::new(code::CONFLICT, "last_pulled_at is too old to tell what changed since")
        .detail("[]")
        .hint("Nothing was applied. Pull, let the client resolve, and push again.")
}

/// Why the quick attempt gives up: something is to be decided with more care, as after any error that the push itself is to
/// blame for. Never seen by anybody.
pub fn not_quickly() -> SyncError {
    SyncError::new(code::NOT_IN_STATE, "not to be decided quickly")
}

/// Locks the rows and decides about all of them.
pub fn decide(push: &Pusher, targets: &[Target]) -> Result<Decisions> {
    let mut unreadable: Vec<HashMap<String, SyncError>> = Vec::with_capacity(targets.len());
    for target in targets {
        let mut refused = target.unreadable_ids()?;
        for (id, e) in &target.misfits {
            pgrx::check_for_interrupts!();
            refused.insert(id.clone(), e.clone());
        }
        unreadable.push(refused);
    }
    // One global order for locks, whatever the payload's: two pushes cannot wait for each other.
    let mut by_oid: Vec<usize> = (0..targets.len()).collect();
    by_oid.sort_by_key(|&i| targets[i].collection.relation.to_u32());
    let new: Vec<bool> =
        targets.iter().zip(&unreadable).map(|(t, u)| push.quick.get() && u.is_empty() && t.is_all_new()).collect();
    let itself = match targets {
        [target] => push.quick.get() && unreadable[0].is_empty() && target.can_lock_itself(),
        _ => false,
    };
    for target in targets {
        target.locks_itself.set(itself);
        let asks = push.quick.get() && target.may_read_key();
        target.shows_inserted.set(asks && target.may_hide_inserted()?);
    }
    let mut stored: Vec<Vec<Stored>> = Vec::with_capacity(targets.len());
    stored.extend(targets.iter().map(|t| vec![Stored::default(); t.ids().len()]));
    for i in by_oid.into_iter().filter(|i| !new[*i] && !itself) {
        let (places, ids) = readable(&targets[i], &unreadable[i], |_| true);
        for (at, deleted) in targets[i].lock(&ids)? {
            stored[i][places[at]] = Stored { visible: true, locked: true, deleted };
        }
    }
    // After the locks: whatever was committed before we got them is seen, and nothing can come after.
    let reading = clock::read_snapmin()?;
    let mut decisions = Decisions {
        fates: Vec::with_capacity(targets.len()),
        rejections: Vec::new(),
        settled: String::new(),
        snapmin: reading.snapmin,
    };
    let mut settled: Vec<(usize, Vec<String>, Vec<String>)> = Vec::new();
    for (index, target) in targets.iter().enumerate() {
        let mut stored = std::mem::take(&mut stored[index]);
        if !new[index] && !itself {
            let (places, ids) = readable(target, &unreadable[index], |place| !stored[place].visible);
            for (at, deleted) in target.visible_now(&ids)? {
                stored[places[at]] = Stored { visible: true, locked: false, deleted };
            }
        }
        let mut one = Deciding::new(push, index, target, stored, reading.newest);
        one.assumed = if itself { Some(Fate::Update) } else { new[index].then_some(Fate::Insert) };
        for (id, e) in std::mem::take(&mut unreadable[index]) {
            pgrx::check_for_interrupts!();
            one.reject(&id, target.about(&id, e));
        }
        let fates = one.fates()?;
        decisions.fates.push(fates);
        if !one.written.is_empty() || !one.deleted.is_empty() {
            settled.push((index, one.written, one.deleted));
        }
        decisions.rejections.append(&mut one.rejections);
    }
    decisions.settled = settled_payload(targets, &settled);
    Ok(decisions)
}

/// The ids of a target that can be read, of those whose place is wanted, with their places.
fn readable<'t>(
    target: &'t Target,
    unreadable: &HashMap<String, SyncError>,
    wanted: impl Fn(usize) -> bool,
) -> (Vec<usize>, Vec<&'t str>) {
    let ids = target.ids().into_iter().enumerate();
    ids.filter(|(place, id)| wanted(*place) && !unreadable.contains_key(*id)).unzip()
}

fn settled_payload(targets: &[Target], settled: &[(usize, Vec<String>, Vec<String>)]) -> String {
    let mut out = Vec::from(b"{");
    for (i, (target, written, deleted)) in settled.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json::escape_json(&mut out, targets[*target].asked.as_bytes());
        out.extend_from_slice(b":{\"updated\":[");
        out.extend_from_slice(written.join(",").as_bytes());
        out.extend_from_slice(b"],\"deleted\":[");
        for (j, id) in deleted.iter().enumerate() {
            if j > 0 {
                out.push(b',');
            }
            json::escape_json(&mut out, id.as_bytes());
        }
        out.extend_from_slice(b"]}");
    }
    out.push(b'}');
    String::from_utf8_lossy(&out).into_owned()
}

/// A row that is known to be deleted.
const GONE: Change<'static> = Change::Entries(Vec::new());

/// Are there rows among those just written that somebody else wrote since the decisions? They were not locked then: they were
/// not there, or the UPDATE itself locked them. Whoever wrote them has an entry in the log now.
///
/// `snapmin` is that of the decisions: what came before was seen then.
pub fn written_by_others(push: &Pusher, target: &Target, ids: &[&str], snapmin: i64) -> Result<bool> {
    let snapshot = pg::ActiveSnapshot::take();
    let from = match push.baseline {
        Baseline::Stamp(stamp) => stamp.max(snapmin),
        // What is newer stands, whatever the client has seen.
        _ if target.collection.conflict == ConflictPolicy::LastWriteWins => snapmin,
        _ => return Ok(false),
    };
    let entries = target.logged(ids, from, &snapshot)?;
    Ok(entries.iter().any(|e| e.op != Op::Reset && push.is_by_others(e)))
}
