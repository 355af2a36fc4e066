//! Which tables a table's policies read, and for whose sake tables are tracked that are no collections.
//!
//! A table that a policy reads gets a trigger, which takes a lock on it and costs its writers: that takes what CREATE TRIGGER takes,
//! the TRIGGER privilege on *that* table, for the owner of the table that reads it, or whoever enables it or makes the policy. Where
//! nobody has it, nothing is done to the table, and what reads it is replaced with every pull.

use std::collections::{BTreeMap, BTreeSet};

use pgrx::pg_sys;
use serde::Deserialize;

use crate::collections::registry::{self, StoredSettings};
use crate::collections::triggers;
use crate::policies::access::{self, depends};
use crate::server::error::{code, Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::pg::{self, OwnTable, TableLock, WrittenBy, REGTABLE};
use crate::server::{spi, subxact};

/// One table's reading of another.
#[derive(Deserialize, Clone, PartialEq, Debug)]
pub struct Edge {
    pub kind: String,
    pub predicate: Option<String>,
    pub whole: bool,
    pub columns: BTreeSet<String>,
    /// The role whose privilege lets the other be tracked for this one; none: it is not.
    pub voucher: Option<String>,
    /// The owner of the other has taken that away: a privilege alone does not bring it back.
    pub refused: bool,
}

pub type Edges = BTreeMap<u32, Edge>;

#[derive(Deserialize)]
struct KnownEdge {
    access: u32,
    edge: Edge,
}

// Column numbers of snapsync.access, in the order of sql/02_tables.sql.
pub const TABLE: OwnTable = OwnTable {
    name: c"access",
    columns: &[
        (REGTABLE, false),
        (REGTABLE, false),
        (pg_sys::TEXTOID, false),
        (pg_sys::TEXTOID, true),
        (pg_sys::BOOLOID, false),
        (pg_sys::BOOLOID, false),
    ],
    written: WrittenBy::Statements,
};
const RELATION: i16 = 1;
const ACCESS: i16 = 2;
const UNTRACKED: i16 = 6;

const KNOWN: &str = include_str!("edges/known.sql");
const VOUCHERS: &str = include_str!("edges/vouchers.sql");

/// Could the tables that are to be tracked for this one from now on be locked for that, as far as the catalogs know them? Reads no policy, and
/// keeps no lock.
pub fn can_be_tracked_now(relation: pg_sys::Oid) -> Result<bool> {
    let mut read = Vec::new();
    for table in depends::read_by_policies(relation)? {
        let table = pg::root_of(table.oid);
        if table != relation && !triggers::is_installed(table)? {
            memory::push(&mut read, table)?;
        }
    }
    let vouchers = spi::read_now(VOUCHERS, &[spi::arg(relation), spi::arg(read), spi::arg(pg_sys::InvalidOid)])?;
    let mut wanted = vouchers.iter().filter(|row| row.text(1).is_some()).map(|row| row.oid(0));
    subxact::try_out(|| Ok(wanted.all(|table| pg::lock_table_without_waiting(table, TableLock::Writers))))
}

/// The edges of a table as its policies and settings are now. `acting`: a role besides its owner that may stand up for them.
pub fn wanted(relation: pg_sys::Oid, stored: &StoredSettings, acting: Option<pg_sys::Oid>) -> Result<Edges> {
    let mut edges = Edges::new();
    for found in access::find(relation, stored.access_tables.as_deref(), stored.scope_reads.as_deref())? {
        memory::heed();
        let (kind, voucher, refused) = (found.kind.name().into(), None, false);
        let access::AccessFinding { predicate, whole, columns, .. } = found;
        let edge = Edge { kind, predicate, whole, columns, voucher, refused };
        edges.insert(found.access.to_u32(), edge);
    }
    let read: Vec<pg_sys::Oid> = edges.keys().map(|a| pg_sys::Oid::from(*a)).collect();
    if read.is_empty() {
        return Ok(edges);
    }
    // A table that reads itself is tracked by its own right; an unlogged one would be emptied by a crash without a trace.
    let vouchers =
        spi::read_now(VOUCHERS, &[spi::arg(relation), spi::arg(read), spi::arg(acting.unwrap_or(pg_sys::InvalidOid))])?;
    for row in &vouchers {
        if let Some(edge) = edges.get_mut(&row.oid(0).to_u32()) {
            edge.voucher = row.text(1).map(str::to_string);
            edge.refused = edge.voucher.is_none() && row.bool(2);
        }
    }
    Ok(edges)
}

/// The edges as they were when the table was looked at last.
pub fn known(relation: pg_sys::Oid) -> Result<Edges> {
    let known: Vec<KnownEdge> = spi::typed(&spi::read_now(KNOWN, &[spi::arg(relation)])?)?;
    Ok(known.into_iter().map(|k| (k.access, k.edge)).collect())
}

/// Do these say the same of who sees what? Who stands up for them does not matter.
pub fn same_for_clients(a: &Edges, b: &Edges) -> bool {
    let seen = |e: &Edge| (e.kind.clone(), e.predicate.clone(), e.whole, e.columns.clone(), e.voucher.is_some());
    a.len() == b.len() && a.iter().zip(b).all(|((x, a), (y, b))| x == y && seen(a) == seen(b))
}

/// The tables that are tracked for this one no more.
pub fn let_go(known: &Edges, wanted: &Edges) -> Vec<pg_sys::Oid> {
    let tracked = |edges: &Edges, access| edges.get(access).is_some_and(|e| e.voucher.is_some());
    let gone = known.keys().filter(|a| tracked(known, a) && !tracked(wanted, a));
    gone.map(|a| pg_sys::Oid::from(*a)).collect()
}

/// Tables that other sessions are about to make rest on how this one is tracked. (Who may do something to it has locked its settings instead.)
pub fn being_made(access: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>> {
    let mut readers = Vec::new();
    pg::being_made(&TABLE, c"access_access", &[(ACCESS, access)], |row| {
        if row.column(UNTRACKED) == Some(false) {
            readers.extend(row.column::<pg_sys::Oid>(RELATION));
        }
    })?;
    Ok(readers)
}

/// Writes the edges that differ, and those to `anew`, as something that others can see being made. True if one is left that is no more: the
/// other's owner, who is taking the tracking of his table away, has it locked, and nobody waits for him to get rid of that table.
pub fn store(relation: pg_sys::Oid, known: &Edges, wanted: &Edges, anew: &[pg_sys::Oid]) -> Result<bool> {
    let differing: Vec<u32> = known.keys().chain(wanted.keys()).copied().collect();
    let differs = |a: &u32| known.get(a) != wanted.get(a) || anew.contains(&pg_sys::Oid::from(*a));
    let mut differing: Vec<u32> = differing.into_iter().filter(differs).collect();
    differing.sort_unstable();
    differing.dedup();
    let mut left = false;
    for access in differing.iter().map(|a| pg_sys::Oid::from(*a)) {
        let args = [spi::arg(relation), spi::arg(access)];
        let Some(edge) = wanted.get(&access.to_u32()) else {
            let deleted = spi::owner_execute(
                "DELETE FROM snapsync.access WHERE ctid = ANY (ARRAY( \
                     SELECT ctid FROM snapsync.access WHERE relation = $1 AND access = $2 FOR UPDATE SKIP LOCKED))",
                &args,
            )?;
            left |= deleted == 0;
            continue;
        };
        spi::owner_execute("DELETE FROM snapsync.access WHERE relation = $1 AND access = $2", &args)?;
        spi::owner_execute(
            "INSERT INTO snapsync.access (relation, access, kind, predicate, whole, voucher, untracked, refused, columns) \
             VALUES ($1, $2, $3, $4, $5, $6::name, $6 IS NULL, $7, $8::text[]::name[])",
            &[
                args[0],
                args[1],
                spi::arg(edge.kind.as_str()),
                spi::arg(edge.predicate.as_deref()),
                spi::arg(edge.whole),
                spi::arg(edge.voucher.as_deref()),
                spi::arg(edge.refused),
                spi::arg(edge.columns.iter().cloned().collect::<Vec<_>>()),
            ],
        )?;
    }
    Ok(left)
}

/// Its owner takes the tracking of a table away that others' policies have asked for. Returns those that read it; and those of which somebody else is
/// just changing that, who is not waited for (`note`).
pub fn refuse(relation: pg_sys::Oid) -> Result<(Vec<pg_sys::Oid>, Vec<pg_sys::Oid>)> {
    let readers = spi::owner_query(
        "UPDATE snapsync.access SET refused = true, untracked = true, voucher = NULL WHERE ctid = ANY (ARRAY( \
             SELECT ctid FROM snapsync.access WHERE access = $1 AND relation <> $1 AND NOT untracked FOR UPDATE SKIP LOCKED)) \
         RETURNING relation::oid",
        &[spi::arg(relation)],
    )?;
    Ok((readers.iter().map(|r| r.oid(0)).collect(), registry::tracked_for(relation)?))
}

/// What becomes of an edge when the read table's owner ends the tracking.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Ended {
    /// It is made anew, by who may.
    Forgotten,
    Refused,
}

/// The same where a stranger has the edge locked, and it cannot be written: whoever looks at the reader next knows of it (edges/vouchers.sql).
pub fn note(ended: Ended, relation: pg_sys::Oid, readers: &[pg_sys::Oid]) -> Result<()> {
    let name = match ended {
        Ended::Forgotten => "forgotten",
        Ended::Refused => "refused",
    };
    if readers.is_empty() {
        return Ok(());
    }
    spi::owner_execute(
        "INSERT INTO snapsync.dependency (relation, classid, objid, own, name) \
         SELECT reader, 'pg_class'::regclass, $2, false, $3 FROM unnest($1::oid[]) AS reader \
         WHERE NOT EXISTS (SELECT FROM snapsync.dependency AS d WHERE d.relation = reader AND d.classid = 'pg_class'::regclass \
                             AND d.objid = $2 AND d.name = $3)",
        &[spi::arg(readers.to_vec()), spi::arg(relation), spi::arg(name)],
    )
    .map(|_| ())
}

/// `enable` does not take a table on that it could only replace with every pull.
pub fn refuse_untracked(relation: pg_sys::Oid, edges: &Edges) -> Result<()> {
    let Some((&access, _)) = edges.iter().find(|(_, e)| e.voucher.is_none()) else { return Ok(()) };
    let name = |oid| pg::qualified_name(oid).map(|(table, _)| table).unwrap_or_default();
    let (reader, read) = (name(relation), name(pg_sys::Oid::from(access)));
    let detail = format!("Policies or scopes of {reader} read it, so its changes must be logged.");
    let barred = spi::read_now(
        "SELECT reason, because, hint FROM snapsync.untrackable($1) LIMIT 1",
        &[spi::arg(pg_sys::Oid::from(access))],
    )?;
    if let Some(row) = barred.first() {
        let detail = row.text(1).map_or(detail.clone(), |because| format!("{detail} {because}"));
        let message = format!("cannot track table {read}: {}", row.string(0));
        return Err(SyncError::new(code::WRONG_OBJECT_TYPE, message).detail(detail).hint(row.string(2)));
    }
    let role = pg::ident(&spi::owner(relation).and_then(pg::role_name)?.to_string_lossy());
    Err(SyncError::new(code::INSUFFICIENT_PRIVILEGE, format!("permission denied to track table {read}"))
        .detail(format!("{detail} That takes the TRIGGER privilege on it."))
        .hint(format!("GRANT TRIGGER ON {read} TO {role}; or let somebody who has it call snapsync.enable().")))
}

/// Must the table be tracked: is it a collection, or do the policies of one read it, maybe through others?
pub fn is_needed(relation: pg_sys::Oid) -> Result<bool> {
    let rows = spi::read_now(
        "WITH RECURSIVE reader(oid) AS (SELECT $1 UNION \
             SELECT a.relation::oid FROM reader JOIN snapsync.access AS a ON a.access = reader.oid AND NOT a.untracked) \
         SELECT 1 FROM reader JOIN snapsync.collection AS c ON c.relation = reader.oid WHERE c.name IS NOT NULL LIMIT 1",
        &[spi::arg(relation)],
    )?;
    Ok(!rows.is_empty())
}

/// Stops tracking those of these tables that nothing needs any more, and what was tracked for theirs. Only for who owns them, and where
/// nobody uses them: it takes a lock on the table that keeps everybody out. Otherwise it is left for the next DDL on them.
pub fn abandon(mut open: Vec<pg_sys::Oid>) -> Result<()> {
    while let Some(relation) = open.pop() {
        memory::heed();
        let Some(stored) = registry::load(relation)? else { continue };
        if stored.name.is_some() || pg::qualified_name(relation).is_none() || is_needed(relation)? {
            continue;
        }
        if !registry::may(relation, registry::Right::Own)? {
            continue;
        }
        match subxact::run(|| spi::without_waiting(|| untrack(relation))) {
            Ok(read) => open.extend(read),
            // A trigger too many does no harm. Who reads the table would be waited for, and all others would wait behind that lock.
            Err(e) if e.is_lock_timeout() || e.is_in_use() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Gives the tables that were tracked for this one's sake.
fn untrack(relation: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>> {
    if !pg::lock_alone_without_waiting(relation) || !registry::lock(relation, true)? {
        return Ok(Vec::new());
    }
    // (In this order: who begins to need it without a lock is seen as one or the other, or sees the lock.)
    if !being_made(relation)?.is_empty() || is_needed(relation)? {
        return Ok(Vec::new());
    }
    if !registry::may(relation, registry::Right::Own)? {
        return Ok(Vec::new());
    }
    let read = known(relation)?;
    triggers::drop(relation, || Ok(true))?;
    registry::forget(relation)?;
    Ok(read.into_keys().map(pg_sys::Oid::from).gather())
}
