//! What becomes of each pushed row: found out under the rows' locks, before anything is written.
//!
//! A conflict is a pushed row that somebody else changed since the client's cursor and that the caller can or could see.
//! The collection's policy decides it. Two things are no conflict under any policy: a row deleted on both sides, and
//! a created row that is stored already as it is pushed (a push that is repeated because its answer was lost).

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap, HashSet};

use super::target::{json_arg, Stored, Target};
use super::{Baseline, Push, Rejection};
use crate::batch;
use crate::conflict::{merge, ConflictPolicy, Merge, ServerChange};
use crate::error::{code, Result, SyncError};
use crate::journal::Op;
use crate::log::Logged;
use crate::old_rows::Image;
use crate::pg::Privilege;
use crate::reach::Reach;
use crate::spi::{self, Mode};
use crate::{clock, json, pg, subxact};

mod ask;

/// What to do with a row of the payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// The row exists: UPDATE.
    Update,
    /// The row does not exist: INSERT.
    Insert,
    /// As Insert, but a row that somebody creates at this moment is updated.
    Upsert,
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

/// The quick attempt gives up: something is to be decided with more care.
pub fn not_quickly() -> SyncError {
    SyncError::new("SS003", "not to be decided quickly")
}

/// Locks the rows and decides about all of them.
pub fn decide(push: &Push, targets: &[Target]) -> Result<Decisions> {
    let mut unreadable: Vec<HashMap<String, SyncError>> = Vec::with_capacity(targets.len());
    for target in targets {
        unreadable.push(target.unreadable_ids()?);
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
    targets.iter().for_each(|t| t.locks_itself.set(itself));
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
        let mut one = Deciding {
            push,
            index,
            target,
            assumed: if itself { Some(Fate::Update) } else { new[index].then_some(Fate::Insert) },
            newest: reading.newest,
            stored,
            places: OnceCell::new(),
            may_update: target.may(Privilege::Update),
            rejections: Vec::new(),
            written: Vec::new(),
            deleted: Vec::new(),
        };
        for (id, e) in std::mem::take(&mut unreadable[index]) {
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

/// One target's decisions in the making.
struct Deciding<'d, 'a> {
    push: &'d Push<'d>,
    index: usize,
    target: &'d Target<'a>,
    /// In the quick attempt: what all rows are taken to become, until the statement finds otherwise.
    assumed: Option<Fate>,
    /// No entry of the log with a larger stamp was committed when the rows were locked.
    newest: i64,
    /// In the order of `Target::ids`.
    stored: Vec<Stored>,
    places: OnceCell<HashMap<&'d str, usize>>,
    may_update: bool,
    rejections: Vec<Rejection>,
    /// What the conflict function returned: rows to write, as JSON, and ids to delete.
    written: Vec<String>,
    deleted: Vec<String>,
}

impl<'d> Deciding<'d, '_> {
    fn reject(&mut self, id: &str, error: SyncError) {
        self.rejections.push(Rejection { target: self.index, id: id.to_string(), error, expected: false });
    }

    fn stored(&self, id: &str) -> Stored {
        self.places().get(id).map(|place| self.stored[*place]).unwrap_or_default()
    }

    fn places(&self) -> &HashMap<&'d str, usize> {
        self.places.get_or_init(|| self.target.ids().into_iter().enumerate().map(|(place, id)| (id, place)).collect())
    }

    fn fates(&mut self) -> Result<Fates> {
        let target = self.target;
        let policy = if target.settled { ConflictPolicy::ClientWins } else { target.collection.conflict };
        let refused: HashSet<String> = self.rejections.iter().map(|r| r.id.clone()).collect();
        let entries = self.entries()?;
        if let Some(fate) = self.assumed {
            return match entries.as_deref() {
                Some([]) => Ok(Fates { records: vec![fate; target.plan.records.len()], deletions: Vec::new() }),
                _ => Err(not_quickly()),
            };
        }
        let changed = self.changed(entries.as_deref())?;
        let deleted = if policy == ConflictPolicy::ClientWins { HashSet::new() } else { self.known_deleted(&refused)? };
        let stored_already = self.stored_already(&changed)?;
        let older = if policy == ConflictPolicy::LastWriteWins { self.older()? } else { HashMap::new() };

        let blind = !target.may_read_key();
        let mut records = Vec::with_capacity(target.plan.records.len());
        for (row, record) in target.plan.records.iter().enumerate() {
            let (id, row) = (&*record.id, row as u32);
            let stored = self.stored[row as usize];
            if refused.contains(id) {
                records.push(Fate::Rejected);
                continue;
            }
            let write = match (stored.visible || blind, record.created || target.settled) {
                // Without the right to read the key, let Postgres say so.
                (true, false) => Fate::Update,
                (true, true) if !blind => Fate::Update,
                (true, true) => Fate::Upsert,
                (false, true) => Fate::Upsert,
                (false, false) => Fate::Insert,
            };
            // A tombstone that is sent as a row is a change of that row like any other.
            let revives = stored.deleted && !self.sends_soft_delete(target.plan.fields(record).map(|(name, _)| name));
            let conflict = match changed.get(id) {
                _ if stored_already.contains(&row) => None,
                Some(change) => Some(change),
                None if deleted.contains(id) || revives && !matches!(self.push.baseline, Baseline::None) => Some(&GONE),
                None => None,
            };
            let fate = match (policy, conflict) {
                (ConflictPolicy::LastWriteWins, _) => match older.get(&row) {
                    Some(None) => Fate::Keep,
                    Some(Some(e)) => {
                        self.reject(id, e.clone());
                        Fate::Rejected
                    }
                    None if !stored.visible && conflict.is_some() => self.conflict(id, conflict),
                    None => write,
                },
                (_, None) | (ConflictPolicy::ClientWins, _) => write,
                (ConflictPolicy::Reject, _) => self.conflict(id, conflict),
                (ConflictPolicy::ServerWins, _) => self.server_wins(id),
                (ConflictPolicy::Merge, Some(change)) => {
                    let touched = self.touched(change);
                    match merge(target.changed_columns(record), &touched) {
                        Merge::Apply => write,
                        Merge::Conflict(_) => self.conflict(id, conflict),
                    }
                }
                (ConflictPolicy::Custom, _) => self.ask(id, Some(&target.plan.object(record)))?,
            };
            records.push(self.permitted(id, stored, fate));
        }

        let mut deletions = Vec::with_capacity(target.plan.deletions.len());
        for (deletion, place) in target.plan.deletions.iter().zip(target.plan.records.len()..) {
            let id = &*deletion.id;
            let stored = self.stored[place];
            let conflict = changed.get(id).filter(|c| !c.deleted_last());
            let fate = match (policy, conflict) {
                _ if refused.contains(id) => Fate::Rejected,
                _ if blind => Fate::Delete,
                _ if !stored.visible || stored.deleted => Fate::Nothing,
                (_, None) | (ConflictPolicy::ClientWins, _) => Fate::Delete,
                (ConflictPolicy::Reject | ConflictPolicy::Merge, _) => self.conflict(id, conflict),
                (ConflictPolicy::ServerWins, _) => self.server_wins(id),
                // A deletion carries no version: what changed after the client looked stands.
                (ConflictPolicy::LastWriteWins, _) => Fate::Keep,
                (ConflictPolicy::Custom, _) => self.ask(id, None)?,
            };
            deletions.push(fate);
        }
        Ok(Fates { records, deletions })
    }

    /// A row that can be seen but was not locked: no policy lets the caller update it.
    fn permitted(&mut self, id: &str, stored: Stored, fate: Fate) -> Fate {
        if fate == Fate::Update && stored.visible && self.may_update && !stored.locked {
            self.reject(id, self.target.refused("updated", id));
            return Fate::Rejected;
        }
        fate
    }

    fn conflict(&mut self, id: &str, change: Option<&Change>) -> Fate {
        let error = match change {
            Some(Change::Unknown) => stale(),
            _ => conflict_error(),
        };
        self.reject(id, error);
        Fate::Rejected
    }

    fn server_wins(&mut self, id: &str) -> Fate {
        let error = SyncError::new(code::CONFLICT, "the row was changed on the server, and the stored one stands");
        self.rejections.push(Rejection { target: self.index, id: id.to_string(), error, expected: true });
        Fate::Rejected
    }

    fn sends_soft_delete(&self, mut columns: impl Iterator<Item = &'d str>) -> bool {
        self.target.collection.soft_delete.as_ref().is_some_and(|c| columns.any(|name| name == c.name))
    }

    /// The log's entries about these rows, by others and since the baseline; None where the log does not reach back that far.
    fn entries(&self) -> Result<Option<Vec<Logged>>> {
        let from = match self.push.baseline {
            Baseline::None => return Ok(Some(Vec::new())),
            Baseline::Stamp(stamp) => stamp,
            Baseline::Unknown => return Ok(None),
        };
        // Nothing has been written since: the usual case, which needs no look at the log.
        if self.newest < from {
            return Ok(Some(Vec::new()));
        }
        let snapshot = pg::ActiveSnapshot::take();
        let mut entries = self.target.logged(&self.target.ids(), from, &snapshot)?;
        entries.retain(|e| self.push.is_by_others(e));
        Ok(if entries.iter().any(|e| e.op == Op::Reset) { None } else { Some(entries) })
    }

    /// The pushed rows that others changed and that the caller can see or could: another's row is not his conflict to hear of.
    fn changed<'l>(&self, entries: Option<&'l [Logged]>) -> Result<HashMap<String, Change<'l>>> {
        let Some(entries) = entries else {
            return Ok(self.target.ids().into_iter().map(|id| (id.to_string(), Change::Unknown)).collect());
        };
        if entries.is_empty() {
            return Ok(HashMap::new());
        }
        let mut changed: HashMap<&str, Vec<&Logged>> = HashMap::new();
        for entry in entries {
            changed.entry(&entry.key).or_default().push(entry);
        }
        let hidden = changed.iter().filter(|(id, _)| !self.stored(id).visible);
        let past: Vec<(&str, Image)> =
            hidden.flat_map(|(id, entries)| entries.iter().filter_map(|e| e.image.map(|i| (*id, i)))).collect();
        let images: Vec<Image> = past.iter().map(|(_, image)| *image).collect();
        let seen = self.visible(&images)?;
        let could_see: HashSet<&str> = past.iter().zip(seen).filter(|(_, s)| *s).map(|((id, _), _)| *id).collect();
        changed.retain(|id, _| self.stored(id).visible || could_see.contains(id));
        Ok(changed.into_iter().map(|(id, entries)| (id.to_string(), Change::Entries(entries))).collect())
    }

    /// Which of these old rows the caller could see; all, where that cannot be told.
    fn visible(&self, images: &[Image]) -> Result<Vec<bool>> {
        let from = match self.push.baseline {
            Baseline::Stamp(stamp) => stamp,
            _ => clock::FIRST,
        };
        let snapshot = pg::ActiveSnapshot::take();
        let seen = Reach::since(from, &snapshot).visible(&self.target.collection, images, None)?;
        Ok(seen.unwrap_or_else(|| vec![true; images.len()]))
    }

    /// The updated records whose row is gone and is known to have been deleted, however long ago: the client must hear of
    /// it and not bring it back.
    fn known_deleted(&self, refused: &HashSet<String>) -> Result<HashSet<String>> {
        let records = self.target.plan.records.iter().zip(&self.stored);
        let missing = records.filter(|(r, stored)| !r.created && !stored.visible);
        let missing: Vec<&str> = missing.map(|(r, _)| &*r.id).filter(|id| !refused.contains(*id)).collect();
        if missing.is_empty() || matches!(self.push.baseline, Baseline::None) {
            return Ok(HashSet::new());
        }
        let snapshot = pg::ActiveSnapshot::take();
        let entries = self.target.logged(&missing, clock::FIRST, &snapshot)?;
        let mut last: HashMap<&str, &Logged> = HashMap::new();
        for entry in entries.iter().filter(|e| e.op != Op::Reset) {
            last.insert(&entry.key, entry);
        }
        let deleted: Vec<&Logged> = last.into_values().filter(|e| e.op == Op::Delete).collect();
        // Without an image it was made and deleted by one transaction: nobody ever knew it.
        let (keys, images): (Vec<&str>, Vec<Image>) =
            deleted.iter().filter_map(|e| e.image.map(|image| (e.key.as_str(), image))).unzip();
        let seen = self.visible(&images)?;
        Ok(keys.into_iter().zip(seen).filter(|(_, seen)| *seen).map(|(key, _)| key.to_string()).collect())
    }

    /// The created records in conflict that are stored already as they are pushed: the push is repeated.
    fn stored_already(&self, changed: &HashMap<String, Change>) -> Result<HashSet<u32>> {
        if changed.is_empty() {
            return Ok(HashSet::new());
        }
        let records = self.target.plan.records.iter().enumerate();
        // An updated row that two clients changed alike is a conflict all the same: both may have added one to the same number.
        let in_conflict =
            records.filter(|(row, r)| r.created && changed.contains_key(&*r.id) && self.stored[*row].visible);
        let rows: HashSet<u32> = in_conflict.map(|(row, _)| row as u32).collect();
        if rows.is_empty() {
            return Ok(rows);
        }
        self.target.stored_already(&self.target.updates, &rows)
    }

    /// The columns that a change touched, by name.
    fn touched(&self, change: &Change) -> ServerChange<'d> {
        let Change::Entries(entries) = change else { return ServerChange::Unknown };
        let Some(last) = entries.last() else { return ServerChange::Deleted };
        if last.op == Op::Delete {
            return ServerChange::Deleted;
        }
        let mut touched: BTreeSet<&'d str> = BTreeSet::new();
        for entry in entries {
            let (Op::Update, Some(numbers)) = (entry.op, &entry.touched) else { return ServerChange::Unknown };
            let columns = &self.target.collection.columns;
            touched.extend(columns.iter().filter(|c| numbers.contains(&c.attnum)).map(|c| c.name.as_str()));
        }
        ServerChange::Columns(touched)
    }

    /// Under last_write_wins: the records that are older than what is stored, and those that do not say how old they are.
    fn older(&self) -> Result<HashMap<u32, Option<SyncError>>> {
        let target = self.target;
        let Some(version) = &target.collection.version else { return Ok(HashMap::new()) };
        let mut older = HashMap::new();
        let name = pg::ident(&version.name);
        for group in target.plan.regroup(|_, column| column == version.name) {
            let records = |row: &u32| &target.plan.records[*row as usize];
            let rows: Vec<u32> = group.rows.iter().copied().filter(|r| self.stored[*r as usize].visible).collect();
            let (sent, silent): (Vec<u32>, Vec<u32>) =
                rows.iter().partition(|r| target.plan.raw(records(r), &version.name).is_some_and(|v| v != "null"));
            for row in silent {
                let error = SyncError::new(code::NULL_NOT_ALLOWED, format!("the record has no {name}"))
                    .detail(format!("It is about {}.", target.plan.path(records(&row).source)))
                    .hint("Under last_write_wins every pushed record carries its version.");
                older.insert(row, Some(error));
            }
            if sent.is_empty() {
                continue;
            }
            let columns = target.columns_over_stored(&group);
            let sql = format!(
                "SELECT r.n FROM {} JOIN {} AS t ON {} WHERE t.{name} OPERATOR(pg_catalog.>) ({})",
                target.recordset(1, &columns.declared),
                target.collection.from,
                target.key_match(),
                columns.values[0]
            );
            self.older_of(&sql, &group, &sent, &mut older)?;
        }
        Ok(older)
    }

    fn older_of(
        &self,
        sql: &str,
        group: &batch::Group,
        rows: &[u32],
        older: &mut HashMap<u32, Option<SyncError>>,
    ) -> Result<()> {
        let target = self.target;
        let payload = target.plan.render_rows(group, rows);
        let found = subxact::run(|| {
            let _now = pg::ActiveSnapshot::take();
            spi::numbers(sql, &[json_arg(&payload)], Mode::Read)
        });
        match found {
            Ok(found) => older.extend(found.into_iter().map(|(n, _)| (n, None))),
            Err(e) if subxact::is_transient(&e) => return Err(e),
            Err(e) if rows.len() == 1 => {
                let id = &target.plan.records[rows[0] as usize].id;
                older.insert(rows[0], Some(target.about(id, e)));
            }
            Err(_) => {
                let (left, right) = rows.split_at(rows.len() / 2);
                self.older_of(sql, group, left, older)?;
                self.older_of(sql, group, right, older)?;
            }
        }
        Ok(())
    }
}

/// A row that is known to be deleted.
const GONE: Change<'static> = Change::Entries(Vec::new());

/// Are there rows among those just written that somebody else wrote since the decisions? Those created were not there to be
/// locked: the INSERT waited for such a row and updated it. Its entry is in the log now.
///
/// `snapmin` is that of the decisions: what came before was seen then.
pub fn written_by_others(push: &Push, target: &Target, ids: &[&str], snapmin: i64) -> Result<bool> {
    let snapshot = pg::ActiveSnapshot::take();
    let from = match push.baseline {
        Baseline::Stamp(stamp) => stamp.max(snapmin),
        _ => return Ok(false),
    };
    let entries = target.logged(ids, from, &snapshot)?;
    Ok(entries.iter().any(|e| e.op != Op::Reset && push.is_by_others(e)))
}
