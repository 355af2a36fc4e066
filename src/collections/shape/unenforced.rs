//! Foreign keys that were not enforced for a time: with their triggers disabled, or in a session with `session_replication_role =
//! replica`; or where a trigger or a rule may have kept rows from following their parent (`snapsync.kept_by`). They count as
//! valid all the same (`convalidated`), and rows may hang on none. When a row comes for these later, they are seen without a change
//! of theirs, so what is read by such a key is a grant and no parent (access.rs) until the key is made anew, which checks it. The
//! shape of the table that has the key remembers which ones these are: by Oid, and for another database by name (`snapsync.was_unenforced`).
//!
//! Such a session may be a worker of logical replication, and the keys strangers': a foreign key takes no more than REFERENCES. So whoever
//! writes there only inserts, which waits for nobody, and reads no policies: a mark in `snapsync.dependency` (`unenforced`) for the table that
//! has the key and for each one whose policies may follow it. Where there is one, all that a table reads is a grant
//! (catalog/read.sql), and the key counts as not enforced. The next look at the table takes its marks over into its shape and its edges.
//! A command that switches a key's triggers off leaves such marks, too: not all who follow the key rest on the table where that was, and
//! looks that cannot be had come when the triggers may be on again. So does one that changes the type of a column: PostgreSQL makes the keys there
//! anew, under other Oids, and does not check them where the values stay as they are.

use std::collections::BTreeSet;

use pgrx::pg_sys;

use crate::collections::registry;
use crate::log::journal;
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::server::session::PerTransaction;
use crate::server::{pg, spi};

const KEYS: &str = include_str!("unenforced/keys.sql");

thread_local! {
    /// Tables for which this transaction has seen to it.
    static SEEN: PerTransaction<BTreeSet<u32>> = PerTransaction::until_rollback();
}

/// Is this the name of a mark?
pub fn is_mark(name: Option<&str>) -> bool {
    name == Some("unenforced")
}

/// A session that enforces no foreign keys has changed a row of this table: the keys from it and to it.
pub fn changed_by_replica(relation: pg_sys::Oid) -> Result<()> {
    if !SEEN.with(|s| s.with(|seen| seen.insert(relation.to_u32()))) {
        return Ok(());
    }
    mark(relation, Marked::All).map(|_| ())
}

/// A command has perhaps switched triggers of this table off, or of a part of it: the keys from it and to it.
pub fn switched(relation: pg_sys::Oid) -> Result<()> {
    mark(relation, Marked::Off).map(|_| ())
}

/// A command has changed the type of a column of this table, or of a part of it: keys from it and to it that are made anew, in the place of some that
/// were not enforced.
pub fn made_anew(relation: pg_sys::Oid) -> Result<()> {
    for table in mark(relation, Marked::Anew)? {
        memory::heed();
        // (Of the keys in whose place they are nothing else is told.)
        dropped(table.into())?;
    }
    Ok(())
}

/// The command has given constraints other names: marks go by these where PostgreSQL makes the keys anew.
pub fn renamed() -> Result<()> {
    const SQL: &str = "UPDATE snapsync.dependency AS d SET owner = concat(pg_current_xact_id(), ' ', f.conname) \
         FROM (SELECT objid FROM pg_event_trigger_ddl_commands() WHERE classid = 'pg_constraint'::regclass) AS c \
         CROSS JOIN LATERAL (SELECT oid, conname FROM pg_constraint WHERE oid = c.objid OFFSET 0) AS f \
         WHERE d.ctid = ANY (ARRAY(SELECT ctid FROM snapsync.dependency WHERE classid = 'pg_constraint'::regclass AND objid = f.oid \
                                                                         AND name = 'unenforced' AND own FOR UPDATE SKIP LOCKED))";
    spi::owner_execute(SQL, &[]).map(|_| ())
}

/// A part of this table was dropped, maybe a key. While the table is tracked, the next look sees to it. While it is not, its marks wait for somebody
/// to track it again (registry.rs), and go with their keys.
pub fn dropped(relation: pg_sys::Oid) -> Result<()> {
    const SQL: &str = "DELETE FROM snapsync.dependency WHERE ctid = ANY (ARRAY( \
         SELECT ctid FROM snapsync.dependency AS d \
         WHERE relation = $1 AND name = 'unenforced' AND NOT EXISTS (SELECT FROM snapsync.collection WHERE relation = $1) \
           AND NOT EXISTS (SELECT FROM pg_constraint WHERE oid = d.objid AND conrelid = $1 OFFSET 0) FOR UPDATE SKIP LOCKED))";
    spi::owner_execute(SQL, &[spi::arg(relation)]).map(|_| ())
}

/// Which keys of a table are to be marked (unenforced/keys.sql).
#[derive(Clone, Copy, PartialEq, Debug)]
enum Marked {
    All,
    Off,
    Anew,
}

/// Marks keys of a table, or to it; gives the tables that have these.
fn mark(relation: pg_sys::Oid, which: Marked) -> Result<BTreeSet<u32>> {
    let which = match which {
        Marked::All => "all",
        Marked::Off => "off",
        Marked::Anew => "anew",
    };
    let since = pg::KeptSnapshot::latest();
    let found = spi::read_now(KEYS, &[spi::arg(relation), spi::arg(which)])?;
    if found.is_empty() {
        return Ok(BTreeSet::new());
    }
    // (With the keys' names, for another database.)
    spi::owner_execute(
        "INSERT INTO snapsync.dependency (relation, classid, objid, own, name, owner) \
         SELECT k.relation, 'pg_constraint'::regclass, k.key, k.own, 'unenforced', concat(pg_current_xact_id(), ' ', k.name) \
         FROM unnest($1::oid[], $2::oid[], $3::bool[], $4::text[]) AS k(relation, key, own, name)",
        &[
            spi::arg(found.iter().map(|r| r.oid(0)).gather::<Vec<_>>()),
            spi::arg(found.iter().map(|r| r.oid(1)).gather::<Vec<_>>()),
            spi::arg(found.iter().map(|r| r.bool(2)).gather::<Vec<_>>()),
            spi::arg(found.iter().map(|r| r.string(3)).gather::<Vec<_>>()),
        ],
    )?;
    let mut tables = BTreeSet::new();
    let mut ends = BTreeSet::new();
    let mut readers = BTreeSet::new();
    for row in &found {
        memory::heed();
        tables.insert(row.oid(4).to_u32());
        ends.extend([row.oid(4).to_u32(), row.oid(5).to_u32()]);
        readers.extend(row.bool(6).then(|| row.oid(0).to_u32()));
    }
    for reader in readers.into_iter().map(pg_sys::Oid::from) {
        memory::heed();
        if pg::qualified_name(reader).is_some() {
            registry::changed(reader);
        }
        journal::reset(reader)?;
    }
    // Others may be making policies that follow these keys, and have not seen the marks.
    let ends: Vec<_> = ends.into_iter().map(|end| (pg_sys::RelationRelationId, pg_sys::Oid::from(end))).gather();
    super::put_off_others(&ends, &since)?;
    Ok(tables)
}

/// Marks that have come with a dump, or through an upgrade, are about keys which have other Oids here: they are found by their names. Before
/// the first look in a database, for who follows a key may be looked at before the table that has it.
pub fn find_keys_anew() -> Result<()> {
    spi::owner_execute(
        "UPDATE snapsync.dependency AS d SET objid = f.oid FROM pg_constraint AS f \
         WHERE d.classid = 'pg_constraint'::regclass AND d.name = 'unenforced' AND d.own AND d.objid <> f.oid \
           AND f.contype = 'f' AND f.conrelid = d.relation AND f.conname = substr(d.owner, strpos(d.owner, ' ') + 1)",
        &[],
    )
    .map(|_| ())
}
