//! Foreign keys that were not enforced for a time: with their triggers disabled, or in a session with `session_replication_role =
//! replica`. They count as valid all the same (`convalidated`), and rows may hang on none. When a row comes for these later, they
//! are seen without a change of theirs, so what is read by such a key is a grant and no parent (access.rs) until the key is made
//! anew, which checks it. The shape of the table that has the key remembers which ones these are, by Oid.

use std::collections::BTreeSet;

use pgrx::pg_sys;

use crate::collections::registry;
use crate::log::journal;
use crate::policies::access::{self, Kind};
use crate::server::error::Result;
use crate::server::session::PerTransaction;
use crate::server::spi;

/// A part of the shape of `c`.
pub const UNENFORCED: &str = "'unenforced', (SELECT json_agg(f.oid::text ORDER BY f.oid) FROM pg_constraint AS f \
     WHERE f.contype = 'f' AND f.conrelid = c.relation AND (c.shape -> 'unenforced' ? f.oid::text \
        OR EXISTS (SELECT FROM pg_trigger AS g WHERE g.tgconstraint = f.oid AND g.tgenabled IN ('D', 'R'))))";

thread_local! {
    /// Tables for which this transaction has seen to it.
    static SEEN: PerTransaction<BTreeSet<u32>> = PerTransaction::until_rollback();
}

/// A session that enforces no foreign keys has changed a row of this table: the keys from it and to it.
pub fn changed_by_replica(relation: pg_sys::Oid) -> Result<()> {
    if !SEEN.with(|s| s.with(|seen| seen.insert(relation.to_u32()))) {
        return Ok(());
    }
    const NEW: &str = "FROM (SELECT oid, conrelid FROM pg_constraint WHERE conrelid = $1 AND contype = 'f' \
             UNION SELECT f.oid, f.conrelid FROM pg_depend AS d JOIN pg_constraint AS f ON f.oid = d.objid AND f.contype = 'f' \
              WHERE d.classid = 'pg_constraint'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = $1) AS f \
         JOIN snapsync.collection AS c ON c.relation = f.conrelid \
         WHERE NOT coalesce(c.shape -> 'unenforced' ? f.oid::text, false)";
    if spi::owner_query(&format!("SELECT 1 {NEW} LIMIT 1"), &[spi::arg(relation)])?.is_empty() {
        return Ok(());
    }
    let mark = format!(
        "UPDATE snapsync.collection AS c SET shape = c.shape || jsonb_build_object('unenforced', \
             coalesce(nullif(c.shape -> 'unenforced', 'null'), '[]') || keys.new) \
         FROM (SELECT c.relation, jsonb_agg(f.oid::text) AS new {NEW} GROUP BY c.relation) AS keys \
         WHERE keys.relation = c.relation"
    );
    spi::owner_execute(&mark, &[spi::arg(relation)])?;
    let parents = spi::owner_query(
        "SELECT DISTINCT relation::oid FROM snapsync.access WHERE kind = 'parent' AND $1 IN (relation::oid, access::oid) ORDER BY 1",
        &[spi::arg(relation)],
    )?;
    for reader in parents.iter().map(|r| r.oid(0)) {
        let stored = registry::load(reader)?.unwrap_or_default();
        let mut differs = 0;
        for found in access::find(reader, stored.access_tables.as_deref(), stored.scope_reads.as_deref())? {
            if found.kind == Kind::Grant {
                differs += spi::owner_execute(
                    "UPDATE snapsync.access SET kind = 'grant' WHERE relation = $1 AND access = $2 AND kind = 'parent'",
                    &[spi::arg(reader), spi::arg(found.access)],
                )?;
            }
        }
        if differs > 0 {
            registry::changed(reader);
            journal::reset(reader)?;
        }
    }
    Ok(())
}
