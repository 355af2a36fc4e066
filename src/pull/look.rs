//! What a pull would bring, without bringing it: which collections have changed for the caller since a cursor, and how. For who waits.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;

use serde_json::value::RawValue;

use super::delta::Past;
use super::wanted::Filters;
use super::{begin, exact, may_read, observe, CollectionPull, Observed, PullRequest, Start};
use crate::collections::catalog::{self, Collection};
use crate::log::clock;
use crate::log::wake::{buckets_of, Watched};
use crate::log::{client, roles, wake};
use crate::server::error::{code, Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::{pg, signal};
use crate::sight::keys::KeySet;
use crate::sight::policy::Judge;
use crate::sight::reach::{Movement, Reach};
use crate::sight::scope::derived::{Derived, Patience};
use crate::values::cursor::Cursor;
use crate::values::dialect::Dialect;
use crate::values::json::{Output, Writer};
use crate::values::notify::Actions;

/// What is watched.
pub(super) struct Watch<'a> {
    pub names: Vec<String>,
    pub dialect: Dialect,
    pub filters: Filters,
    pub wanted: Actions,
    /// A pull's arguments, for what it does with rows.
    pub request: PullRequest<'a>,
}

/// What a look has found.
pub(super) struct WaitLook {
    /// Collections of which something that was asked for has changed.
    pub changed: Vec<String>,
    /// Where the next look begins.
    pub cursor: Cursor,
    pub seen: SeenUpTo,
    /// A pull would return no later cursor than this look began at: it may have brought all of this already, and would again.
    pub stuck: bool,
    /// Whose changes may concern the caller.
    pub watched: Watched,
}

/// How far a look has seen.
#[derive(Clone, Copy)]
pub(super) enum SeenUpTo {
    Clock(clock::Reading),
    /// On a standby: how far it had replayed.
    Replayed(u64),
}

impl SeenUpTo {
    /// May there be something new? Cheap.
    pub fn is_outdated(self) -> Result<bool> {
        match self {
            // Who was about to commit may have.
            SeenUpTo::Clock(then) => Ok(then.snapmin <= then.newest || clock::read()? != then.newest),
            SeenUpTo::Replayed(then) => Ok(!pg::in_recovery() || signal::replayed() != then),
        }
    }

    /// Has it seen all transactions that had their stamp when the clock was this?
    pub fn has_seen_all_of(self, clock: i64) -> bool {
        match self {
            SeenUpTo::Clock(then) => then.snapmin > clock,
            SeenUpTo::Replayed(_) => true,
        }
    }
}

/// To be run in a subtransaction that is undone: it locks tables.
pub(super) fn look(asked: &Watch, cursor: Cursor) -> Result<WaitLook> {
    for name in &asked.names {
        catalog::collection(name)?;
    }
    let replayed = signal::replayed();
    let Observed { seen_by_clock: clock, snapshot, snapmin, .. } = observe(false)?;
    let seen = clock.map_or(SeenUpTo::Replayed(replayed), SeenUpTo::Clock);
    pg::accept_invalidations();
    let collections = asked.names.iter().map(|n| catalog::collection(n)).gather::<Result<Vec<_>>>()?;
    let _in_use: Vec<pg::InUse> = collections.iter().map(|c| pg::InUse::mark(c.relation)).gather();
    let standing = roles::standing(&snapshot)?;
    asked.filters.check(&asked.names, &collections)?;
    let (start, timestamp) = begin(cursor, &[], &standing, snapmin, None)?;
    let (mut changed, mut watched) = (Vec::new(), Watched::new());
    // Nothing has happened that the next look must know of: an update may be all that comes of a deletion and what follows it.
    let mut settled = true;
    let mut reach = match start {
        Start::Stamp(stamp) => Some((stamp, Reach::since(stamp, &snapshot))),
        _ => None,
    };
    for (name, collection) in asked.names.iter().zip(&collections) {
        may_read(collection)?;
        let Some((stamp, reach)) = &mut reach else {
            changed.push(name.clone());
            continue;
        };
        let pull = CollectionPull {
            collection,
            dialect: asked.dialect,
            request: &asked.request,
            wanted: asked.filters.wanted(name, collection)?,
            new_columns: &[],
            basis: exact::Basis { exact: exact::is_exact(cursor), older: false, may_lack: false },
        };
        let happened = pull.happened(*stamp, asked.wanted, reach)?;
        if happened.actions.has(asked.wanted) {
            changed.push(name.clone());
        }
        settled &= happened.settled && !happened.actions.has(Actions::ANY);
        // Whoever chose the scopes would learn from pg_locks what their places are, and who else waits there.
        let buckets = happened.buckets.filter(|_| !asked.filters.name(name));
        watch(&mut watched, collection, buckets)?;
    }
    let stuck = is_stuck(cursor, snapmin);
    let inexact = |odd| matches!(cursor, Cursor::Stamp(c) if c >= odd);
    let cursor = match settled && changed.is_empty() {
        true => Cursor::Stamp(exact::cursor(timestamp, &inexact, snapmin, clock, &collections, &snapshot)?),
        false => cursor,
    };
    Ok(WaitLook { changed, cursor, seen, stuck, watched })
}

fn is_stuck(cursor: Cursor, snapmin: i64) -> bool {
    matches!(cursor, Cursor::Stamp(c) if snapmin <= clock::stamp_of(c))
}

/// Would a pull return no later cursor than this now?
pub(super) fn is_stuck_now(cursor: Cursor) -> Result<bool> {
    let snapmin = if pg::in_recovery() { clock::horizon::newest()? } else { clock::read_snapmin()?.snapmin };
    Ok(is_stuck(cursor, snapmin))
}

/// Adds a collection, and the tables that decide who sees its rows.
fn watch(watched: &mut Watched, collection: &Rc<Collection>, buckets: Option<BTreeSet<i16>>) -> Result<()> {
    let mut add = |relation: u32, buckets: Option<BTreeSet<i16>>| match watched.get_mut(&relation) {
        None => _ = watched.insert(relation, buckets),
        Some(known) => {
            *known = match (known.take(), buckets) {
                (Some(known), Some(more)) => Some(&known | &more),
                _ => None,
            }
        }
    };
    add(collection.relation.to_u32(), buckets);
    let mut open = vec![Rc::clone(collection)];
    let mut seen: HashSet<u32> = HashSet::new();
    while let Some(table) = open.pop() {
        for access in table.access.iter().filter(|access| !access.untracked) {
            let relation = access.relation.to_u32();
            add(relation, None);
            if seen.insert(relation) {
                memory::extend(&mut open, catalog::tracked(access.relation)?);
            }
        }
    }
    Ok(())
}

/// What happened to a collection.
struct Happened {
    actions: Actions,
    /// Nothing that a later look must find again: access stayed as it was.
    settled: bool,
    /// Of the scopes whose entries were read; None: of all.
    buckets: Option<BTreeSet<i16>>,
}

impl Happened {
    /// The client would get all rows anew.
    fn anything() -> Happened {
        Happened::moved(Actions::ANY)
    }

    fn moved(actions: Actions) -> Happened {
        Happened { actions, settled: false, buckets: None }
    }
}

impl CollectionPull<'_> {
    fn happened(&self, from: i64, wanted: Actions, reach: &mut Reach) -> Result<Happened> {
        if let Some(keys) = &self.wanted.keys {
            return self.happened_to_keys(from, keys, reach);
        }
        match reach.movement(self.collection, self.collection.logged_scope.is_some())? {
            Movement::Untold(_) => Ok(Happened::anything()),
            // Rows that came into view or went out of it count as inserted and deleted.
            Movement::Access { stamps, tables } => {
                let mut out = Writer::new(Output::new());
                match self.write_moved(from, stamps, &tables, reach, &mut out)? {
                    Some(_) => Ok(Happened::anything()),
                    None => Ok(Happened::moved(self.actions_in(out.done().bytes())?)),
                }
            }
            Movement::None { .. } => self.happened_to_rows(wanted, reach),
        }
    }

    fn happened_to_keys(&self, from: i64, keys: &KeySet, reach: &mut Reach) -> Result<Happened> {
        let mut out = Writer::new(Output::new());
        if self.write_keys(Start::Stamp(from), keys, Some(reach), &mut out)?.cause().is_some() {
            return Ok(Happened::anything());
        }
        let settled = matches!(reach.movement(self.collection, true)?, Movement::None { .. });
        Ok(Happened { settled, ..Happened::moved(self.actions_in(out.done().bytes())?) })
    }

    fn happened_to_rows(&self, wanted: Actions, reach: &mut Reach) -> Result<Happened> {
        let relation = self.collection.relation;
        let Derived { scopes, judge } = self.derived(reach, Patience::Wait)?;
        let scopes = self.scopes().or(scopes.as_deref());
        let entries = match scopes {
            Some(scopes) => Rc::new(reach.entries_in(relation, scopes)?),
            None => reach.entries(relation)?,
        };
        let buckets = match scopes {
            Some(scopes) => buckets_of(scopes, &client::who()?)?,
            None => None,
        };
        let nothing = Happened { actions: Actions::default(), settled: true, buckets };
        if entries.is_empty() {
            return Ok(nothing);
        }
        let judge = match judge {
            None if self.needs_judge(&entries) => reach.judge(self.collection)?,
            None => Some(Judge::of_none(self.collection)),
            known => known,
        };
        let Some(judge) = judge else { return Ok(Happened::anything()) };
        // Where it is all the same what happened, one row is enough.
        let enough = if wanted == Actions::ANY { 1 } else { usize::MAX };
        let Some((rows, _)) = self.changed(&entries, &Past::Steady(&judge), None, enough)? else {
            return Ok(Happened::anything());
        };
        let ids: Vec<&str> = rows.iter().map(|row| &*row.id).gather();
        let there = self.there(&ids)?;
        let mut actions = Actions::default();
        for row in &rows {
            match there.get(&row.id) {
                Some(false) if row.inserted || row.first_seen == Some(false) => actions.add(Actions::INSERT),
                Some(false) => actions.add(Actions::UPDATE),
                // It travels as a row that says so itself.
                Some(true) if self.shown_mark().is_some() => actions.add(Actions::DELETE),
                _ if row.seen => actions.add(Actions::DELETE),
                _ => {}
            }
        }
        Ok(Happened { actions, ..nothing })
    }

    /// What an answer tells. (To the Drift client rows that are gone travel as rows, so any may be one.)
    fn actions_in(&self, json: &[u8]) -> Result<Actions> {
        let told = actions_in(json)?;
        Ok(if self.dialect == Dialect::Drift && !told.is_empty() { Actions::ANY } else { told })
    }
}

/// What stands in `{"created":[...],"updated":[...],"deleted":[...]}`.
fn actions_in(json: &[u8]) -> Result<Actions> {
    let arrays: BTreeMap<&str, &RawValue> = serde_json::from_slice(json)
        .map_err(|e| SyncError::new(code::INTERNAL, "unexpected answer").detail(e.to_string()))?;
    let mut actions = Actions::default();
    for (name, action) in [("created", Actions::INSERT), ("updated", Actions::UPDATE), ("deleted", Actions::DELETE)] {
        if arrays.get(name).is_some_and(|rows| rows.get() != "[]") {
            actions.add(action);
        }
    }
    Ok(actions)
}

/// Waits where such changes are told of.
pub(super) fn wait_at(watched: &Watched) -> wake::Waiting {
    wake::Waiting::begin(watched)
}
