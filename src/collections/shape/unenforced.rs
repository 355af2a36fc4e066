//! Foreign keys that were not enforced for a time: with their triggers disabled, or in a session with `session_replication_role =
//! replica`; or where a trigger or a rule may have kept rows from following their parent (`snapsync.can_keep_rows`). They count as
//! valid all the same (`convalidated`), and rows may hang on none. When a row comes for these later, they are seen without a change
//! of theirs, so what is read by such a key is a grant and no parent (access.rs) until the key is made anew, which checks it. The
//! shape of the table that has the key remembers which ones these are, by Oid.

use std::collections::BTreeSet;

use pgrx::pg_sys;

use crate::collections::registry;
use crate::log::journal;
use crate::policies::access::{self, Kind};
use crate::server::error::Result;
use crate::server::session::PerTransaction;
use crate::server::spi;

const MARK: &str = include_str!("unenforced/mark.sql");

thread_local! {
    /// Tables for which this transaction has seen to it.
    static SEEN: PerTransaction<BTreeSet<u32>> = PerTransaction::until_rollback();
}

/// A session that enforces no foreign keys has changed a row of this table: the keys from it and to it.
pub fn changed_by_replica(relation: pg_sys::Oid) -> Result<()> {
    if !SEEN.with(|s| s.with(|seen| seen.insert(relation.to_u32()))) {
        return Ok(());
    }
    if spi::owner_execute(MARK, &[spi::arg(relation)])? == 0 {
        return Ok(());
    }
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
