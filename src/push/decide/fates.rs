//! One target's decisions in the making: the collection's policy, and what the caller may do.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

use super::ask::Answers;
use super::history::entries;
use super::stored::Equal;
use super::version::Versions;
use super::{conflict_error, stale, Fate, Fates, RowHistory, Unfit, GONE};
use crate::push::payload::{Group, Record};
use crate::push::pusher::{Baseline, Pusher};
use crate::push::rejection::Rejection;
use crate::push::target::{groups_of, Stored, Target};
use crate::server::error::{code, Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::pg::{self, Privilege};
use crate::values::conflict::{merge, ConflictPolicy, Merge};
use crate::values::dialect::Dialect;

pub(super) struct Deciding<'d, 'a> {
    pub pusher: &'d Pusher<'d>,
    pub index: usize,
    pub target: &'d Target<'a>,
    /// No entry of the log with a larger stamp was committed when the rows were locked.
    pub newest: i64,
    /// In the order of `Target::ids`.
    pub stored: Vec<Stored>,
    places: OnceCell<HashMap<&'d str, usize>>,
    /// The caller may not read the key.
    pub blind: bool,
    /// By the number of the group of `Target::updates`: may the caller write all its columns?
    pub may_update: Vec<bool>,
    /// By row: may the caller insert all its columns?
    may_insert: Vec<bool>,
    may_delete: bool,
    /// May the conflict function be called now? If not, and it has to be, nothing that was decided counts.
    pub may_ask: bool,
    pub would_ask: bool,
    pub rejections: Vec<Rejection>,
    /// What the conflict function returned.
    pub answers: Answers,
}

/// What is known of the rows before each is decided about.
struct Known<'l> {
    policy: ConflictPolicy,
    /// Ids that have been rejected already.
    refused: HashSet<String>,
    changed: HashMap<String, RowHistory<'l>>,
    deleted: HashSet<String>,
    equal: Equal,
    versions: Versions,
}

impl<'d, 'a> Deciding<'d, 'a> {
    pub fn new(
        pusher: &'d Pusher<'d>,
        index: usize,
        target: &'d Target<'a>,
        stored: Vec<Stored>,
        newest: i64,
        may_ask: bool,
    ) -> Self {
        Deciding {
            pusher,
            index,
            target,
            newest,
            stored,
            places: OnceCell::new(),
            blind: !target.may_read_key(),
            may_update: target.updates.iter().map(|g| may(target, Privilege::Update, g)).gather(),
            may_insert: may_insert(target),
            may_delete: match &target.collection.soft_delete {
                Some(mark) => pg::may_write(target.collection.relation, Privilege::Update, mark.attnum),
                None => target.may(Privilege::Delete),
            },
            may_ask,
            would_ask: false,
            rejections: Vec::new(),
            answers: Answers::of(index),
        }
    }

    /// In the order of the push: with 'abort' the first one is told.
    pub fn reject_unfit(&mut self, mut unfit: Unfit) {
        if unfit.is_empty() {
            return;
        }
        for id in self.target.ids() {
            memory::heed();
            if let Some(e) = unfit.remove(id) {
                self.reject(id, self.target.about(id, e));
            }
        }
    }

    pub fn reject(&mut self, id: &str, error: SyncError) -> Fate {
        self.rejections.push(Rejection { target: self.index, id: id.to_string(), error, expected: false });
        Fate::Rejected
    }

    pub fn stored(&self, id: &str) -> Stored {
        self.places().get(id).map(|place| self.stored[*place]).unwrap_or_default()
    }

    fn places(&self) -> &HashMap<&'d str, usize> {
        self.places.get_or_init(|| self.target.ids().into_iter().enumerate().map(|(place, id)| (id, place)).gather())
    }

    pub fn fates(&mut self) -> Result<Fates> {
        let target = self.target;
        let entries = entries(self.pusher, target, self.newest)?;
        let policy = target.collection.conflict;
        let refused = self.refused();
        let changed = self.changed(entries.as_deref())?;
        let keeps_deleted = policy != ConflictPolicy::ClientWins;
        let known = Known {
            policy,
            deleted: if keeps_deleted { self.known_deleted(&refused)? } else { HashSet::new() },
            equal: self.stored_already(&changed)?,
            versions: if policy == ConflictPolicy::LastWriteWins { self.versions()? } else { Versions::default() },
            refused,
            changed,
        };
        let mut fates = Fates::of_none();
        for (row, record) in (0..).zip(&target.plan.records) {
            memory::heed();
            let fate = self.record(&known, row, record)?;
            let fate = self.permitted_record(row, &record.id, fate);
            let Stored { visible, locked, deleted } = self.stored[row as usize];
            if deleted && fate == Fate::Update {
                fates.marked.insert(row);
            }
            match fate {
                Fate::Insert if visible => {
                    fates.repeated.insert(row);
                }
                Fate::Update | Fate::Revive if visible && !locked => {
                    fates.closed.insert(row);
                }
                _ => {}
            }
            fates.records.push(fate);
        }
        for (row, deletion) in (0..).zip(&target.plan.deletions) {
            memory::heed();
            let fate = self.deletion(&known, row, &deletion.id)?;
            let fate = self.permitted_deletion(&deletion.id, fate);
            let is_locked = self.stored[target.plan.records.len() + row as usize].locked;
            fates.deletes_unlocked |= fate == Fate::Delete && !is_locked;
            fates.deletions.push(fate);
        }
        Ok(fates)
    }

    /// The same of rows that a conflict function returned.
    pub fn settled(&mut self) -> Fates {
        let (target, refused) = (self.target, self.refused());
        let mut fates = Fates::of_none();
        for (row, record) in (0..).zip(&target.plan.records) {
            memory::heed();
            let Stored { visible, locked, deleted } = self.stored[row as usize];
            if deleted {
                fates.marked.insert(row);
            }
            fates.records.push(match visible {
                _ if refused.contains(&*record.id) => Fate::Rejected,
                // What the function saw of it may be out of date by the time that something else has opened it.
                true if !locked && !self.is_denied(row, Fate::Update) => {
                    self.reject(&record.id, self.target.refused("updated", &record.id))
                }
                true if self.revives(row, record) => self.permitted_record(row, &record.id, Fate::Revive),
                true => self.permitted_record(row, &record.id, Fate::Update),
                false => self.permitted_record(row, &record.id, Fate::Insert),
            });
        }
        for (row, deletion) in target.plan.deletions.iter().enumerate() {
            memory::heed();
            let stored = self.stored[target.plan.records.len() + row];
            fates.deletions.push(match stored.visible && !stored.deleted {
                _ if refused.contains(&*deletion.id) => Fate::Rejected,
                true => self.permitted_deletion(&deletion.id, Fate::Delete),
                false => Fate::Nothing,
            });
        }
        fates
    }

    /// Ids that have been rejected already.
    fn refused(&self) -> HashSet<String> {
        self.rejections.iter().map(|r| r.id.clone()).gather()
    }

    /// A row that stands, and that the caller may only insert. A trigger may do more for him than he may.
    fn only_inserted(&mut self, known: &Known, row: u32, id: &str) -> Fate {
        match (known.policy, known.changed.get(id), known.versions.records.get(&row)) {
            (ConflictPolicy::LastWriteWins, _, Some(None)) if self.target.dialect == Dialect::Drift => Fate::Nothing,
            (ConflictPolicy::LastWriteWins, _, Some(None)) => Fate::KeepForHim,
            (ConflictPolicy::LastWriteWins, _, Some(Some(e))) => self.reject(id, e.clone()),
            (ConflictPolicy::LastWriteWins | ConflictPolicy::ClientWins, ..) | (_, None, _) => Fate::Insert,
            (ConflictPolicy::ServerWins, ..) => self.stands(id),
            (_, change, _) => self.conflict(id, change),
        }
    }

    fn record(&mut self, known: &Known, row: u32, record: &Record<'a>) -> Result<Fate> {
        let id = &*record.id;
        let stored = self.stored[row as usize];
        if known.refused.contains(id) {
            return Ok(Fate::Rejected);
        }
        // A tombstone that is sent as a row is a change of that row like any other.
        let revives = self.revives(row, record);
        let write = match stored.visible {
            true if revives => Fate::Revive,
            true if record.created && self.may_only_insert(row)? => Fate::Insert,
            true => Fate::Update,
            // Whether an updated record exists is for Postgres to say where the caller may not read the key.
            false if self.blind && !record.created => Fate::Update,
            false => Fate::Insert,
        };
        let is_equal = known.equal.rows.contains(&row);
        let is_drift = self.target.dialect == Dialect::Drift;
        // Before any conflict: of rows that the caller may not write he is not told what became of them.
        if !is_equal && self.is_denied(row, write) {
            return Ok(self.deny(id));
        }
        // Those that he may only insert have answers of their own.
        if !is_equal && stored.visible && write == Fate::Insert {
            return Ok(self.only_inserted(known, row, id));
        }
        // One that is created says nothing of what was there before, as where rows are deleted and gone.
        let buried = revives && !record.created && !matches!(self.pusher.baseline, Baseline::None);
        let conflict = match known.changed.get(id) {
            // A created row that is stored as it is pushed: the push is repeated. An updated row that two clients changed alike is a
            // conflict all the same: both may have added one to the same number.
            _ if is_equal && record.created => None,
            Some(change) => Some(change),
            None if known.deleted.contains(id) || buried => Some(&GONE),
            None => None,
        };
        // Where what others did since the baseline and what is sent go together, the deletion is theirs, and stands. But where one of both
        // wins, the row is as that one has it.
        let one_wins = matches!(known.policy, ConflictPolicy::ClientWins | ConflictPolicy::LastWriteWins);
        let write = match conflict {
            Some(_) if revives && !one_wins => Fate::Update,
            _ => write,
        };
        Ok(match (known.policy, conflict) {
            (_, None) if is_equal => self.equal(row, known.equal.lacking.contains(&row)),
            (ConflictPolicy::LastWriteWins, _) => match known.versions.records.get(&row) {
                // The Drift client takes the tombstone itself.
                Some(None) if stored.deleted && !is_drift => Fate::Gone,
                Some(None) => Fate::Keep,
                Some(Some(e)) => self.reject(id, e.clone()),
                None if !stored.visible && conflict.is_some() && is_drift => Fate::Gone,
                None if !stored.visible && conflict.is_some() => self.conflict(id, conflict),
                None if buried && !known.changed.contains_key(id) => self.conflict(id, conflict),
                None => write,
            },
            (_, None) | (ConflictPolicy::ClientWins, _) => write,
            (ConflictPolicy::Reject, _) => self.conflict(id, conflict),
            (ConflictPolicy::ServerWins, _) => self.stands(id),
            (ConflictPolicy::Merge, Some(change)) => {
                let touched = self.touched(change);
                match merge(self.target.changed_columns(record), &touched) {
                    Merge::Apply => write,
                    Merge::Conflict(_) => self.conflict(id, conflict),
                }
            }
            (ConflictPolicy::Custom, _) => self.ask(id, Some(&self.target.plan.object(record)))?,
        })
    }

    /// What stands as it is sent. Only who could write the row can make others hear of it. (The Drift client repeats what it has, under the
    /// time of the stored row, of which it has heard.)
    fn equal(&self, row: u32, lacks: bool) -> Fate {
        let may_write = self.stored[row as usize].locked && self.may_update[self.target.group_of_update(row) as usize];
        match may_write {
            _ if self.target.dialect == Dialect::Drift => Fate::Nothing,
            true if lacks => Fate::Keep,
            true => Fate::Equal,
            false if lacks => Fate::KeepForHim,
            false => Fate::EqualForHim,
        }
    }

    fn deletion(&mut self, known: &Known, row: u32, id: &str) -> Result<Fate> {
        let stored = self.stored[self.target.plan.records.len() + row as usize];
        let conflict = known.changed.get(id).filter(|c| !c.deleted_last());
        Ok(match (known.policy, conflict) {
            _ if known.refused.contains(id) => Fate::Rejected,
            _ if self.blind => Fate::Delete,
            _ if !stored.visible || stored.deleted => Fate::Nothing,
            _ if !self.may_delete => self.deny(id),
            (ConflictPolicy::LastWriteWins, _) if known.versions.with_version.contains(&row) => {
                match known.versions.deletions.get(&row) {
                    Some(None) if !stored.locked => self.stands(id),
                    Some(None) => Fate::Keep,
                    Some(Some(e)) => self.reject(id, e.clone()),
                    None => Fate::Delete,
                }
            }
            (_, None) | (ConflictPolicy::ClientWins, _) => Fate::Delete,
            (ConflictPolicy::Reject | ConflictPolicy::Merge, _) => self.conflict(id, conflict),
            // Under last_write_wins, a deletion without a version: what changed after the client looked stands.
            (ConflictPolicy::ServerWins | ConflictPolicy::LastWriteWins, _) => self.stands(id),
            (ConflictPolicy::Custom, _) => self.ask(id, None)?,
        })
    }

    /// Is it for a trigger or a rule to say what becomes of a created record whose row stands? The caller may not update it.
    fn may_only_insert(&self, row: u32) -> Result<bool> {
        let may_update = self.stored[row as usize].locked && !self.is_denied(row, Fate::Update);
        Ok(!may_update && self.target.may_suppress_inserts()?)
    }

    /// May the caller do this to no row, with these columns? To find it out row by row would take as many statements.
    fn is_denied(&self, row: u32, fate: Fate) -> bool {
        match fate {
            Fate::Insert => !self.may_insert[row as usize],
            Fate::Update | Fate::Revive => !self.may_update[self.target.group_of_update(row) as usize],
            _ => false,
        }
    }

    fn permitted_record(&mut self, row: u32, id: &str, fate: Fate) -> Fate {
        let stored = self.stored[row as usize];
        match fate {
            fate if self.is_denied(row, fate) => self.deny(id),
            // A row that can be seen but was not locked: no policy lets the caller update it. (If he is to, the UPDATE says whether that is still so.) Where the
            // stored one stands, others would get it once more by his word. (The Drift client repeats what it has.)
            Fate::Keep if stored.visible && !stored.locked && self.target.dialect == Dialect::Drift => Fate::Nothing,
            Fate::Keep if stored.visible && !stored.locked => Fate::KeepForHim,
            fate => fate,
        }
    }

    fn permitted_deletion(&mut self, id: &str, fate: Fate) -> Fate {
        match fate {
            Fate::Delete if !self.may_delete => self.deny(id),
            fate => fate,
        }
    }

    /// In the words of Postgres.
    fn deny(&mut self, id: &str) -> Fate {
        let message = format!("permission denied for table {}", self.target.collection.relname);
        let error = self.target.about(id, SyncError::new(code::INSUFFICIENT_PRIVILEGE, message));
        self.reject(id, error)
    }

    pub fn conflict(&mut self, id: &str, change: Option<&RowHistory>) -> Fate {
        let error = match change {
            Some(RowHistory::Unknown) => stale(),
            _ => conflict_error(),
        };
        self.reject(id, error)
    }

    /// What is stored stands because the policy wants it so.
    fn stands(&mut self, id: &str) -> Fate {
        let (id, error) = (id.to_string(), super::stands_error());
        self.rejections.push(Rejection { target: self.index, id, error, expected: true });
        Fate::Rejected
    }

    /// Is a tombstone stored, of which the record does not say itself what becomes of the mark?
    fn revives(&self, row: u32, record: &Record<'a>) -> bool {
        self.stored[row as usize].deleted && !self.sends_soft_delete(record)
    }

    fn sends_soft_delete(&self, record: &Record<'a>) -> bool {
        let mut columns = self.target.plan.fields(record).map(|(name, _)| name);
        self.target.collection.soft_delete.as_ref().is_some_and(|c| columns.any(|name| name == c.name))
    }
}

/// By row: may the caller insert all its columns?
fn may_insert(target: &Target) -> Vec<bool> {
    let relation = target.collection.relation;
    let key = target.collection.key.iter().all(|k| pg::may_write(relation, Privilege::Insert, k.attnum));
    let groups = &target.plan.groups;
    let allowed: Vec<bool> = groups.iter().map(|g| key && may(target, Privilege::Insert, g)).gather();
    let of = groups_of(groups, target.plan.records.len());
    of.into_iter().map(|group| allowed[group as usize]).gather()
}

/// May the caller write all columns of the group?
fn may(target: &Target, privilege: Privilege, group: &Group) -> bool {
    memory::heed();
    let column = |name: &&str| target.collection.column(name);
    let mut columns = group.columns.iter().filter_map(column);
    columns.all(|c| pg::may_write(target.collection.relation, privilege, c.attnum))
}
