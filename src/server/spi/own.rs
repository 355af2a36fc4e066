//! Statements of our own: constant texts over catalogs and snapsync's own tables, which the caller need not be able to read. They run as
//! the extension's owner, so each that is written stands on a list with its reason (src/tests/rights.list).

use std::ffi::c_int;

use pgrx::pg_sys;

use super::{as_owner, execute, query, query_planned, Arg, Mode, Planned, Row};
use crate::server::error::Result;
use crate::server::pg;

/// Runs a statement on catalogs and snapsync's own tables, which the caller need not be able to read.
pub fn owner_query(sql: &str, args: &[Arg]) -> Result<Vec<Row>> {
    as_owner(|| query(sql, args, Mode::Write))
}

pub fn owner_execute(sql: &str, args: &[Arg]) -> Result<u64> {
    as_owner(|| execute(sql, args, Mode::Write))
}

/// Reads snapsync's own tables as they are at this instant, whatever the transaction's snapshot: what is cached from them
/// must never be older than the invalidation that was processed last.
pub fn query_now(sql: &str, args: &[Arg]) -> Result<Vec<Row>> {
    as_owner(|| {
        let _now = pg::ActiveSnapshot::latest();
        let _by_index = ByIndex::only();
        query_planned(sql, args, Mode::Read, Planned::Once)
    })
}

/// Reads catalogs and snapsync's own tables as they are at this instant, also in REPEATABLE READ: what was committed meanwhile counts,
/// and so does what this command has done.
pub fn read_now(sql: &str, args: &[Arg]) -> Result<Vec<Row>> {
    // SAFETY: inside a transaction, in a function that may write.
    unsafe { pg_sys::CommandCounterIncrement() };
    as_owner(|| {
        let _now = pg::ActiveSnapshot::latest();
        let _by_index = ByIndex::only();
        query_planned(sql, args, Mode::Read, Planned::Once)
    })
}

/// While this lives, plans are made that find rows by indexes and nothing else: what is looked up is about one table, and catalogs are as
/// large as the database has tables. Such a plan serves any of them, so it is made once. (Nor are all rows of a catalog put aside, to be gone
/// through for each table.)
///
/// Hash tables begin small: a recursive query makes one, cleared, of the size of the planner's guess, which is far off and bounded
/// by `work_mem` alone. In a database with 1,000 tables that was half of the time of their DDL.
struct ByIndex {
    seqscan: bool,
    hashjoin: bool,
    mergejoin: bool,
    material: bool,
    work_mem: c_int,
    hash_mem_multiplier: f64,
}

/// In kB.
const WORK_MEM: c_int = 256;

impl ByIndex {
    fn only() -> Self {
        // SAFETY: backend-local settings, put back in `drop`, also when an ERROR unwinds.
        unsafe {
            ByIndex {
                seqscan: std::ptr::replace(&raw mut pg_sys::enable_seqscan, false),
                hashjoin: std::ptr::replace(&raw mut pg_sys::enable_hashjoin, false),
                mergejoin: std::ptr::replace(&raw mut pg_sys::enable_mergejoin, false),
                material: std::ptr::replace(&raw mut pg_sys::enable_material, false),
                work_mem: std::ptr::replace(&raw mut pg_sys::work_mem, WORK_MEM),
                hash_mem_multiplier: std::ptr::replace(&raw mut pg_sys::hash_mem_multiplier, 1.0),
            }
        }
    }
}

impl Drop for ByIndex {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe {
            pg_sys::enable_seqscan = self.seqscan;
            pg_sys::enable_hashjoin = self.hashjoin;
            pg_sys::enable_mergejoin = self.mergejoin;
            pg_sys::enable_material = self.material;
            pg_sys::work_mem = self.work_mem;
            pg_sys::hash_mem_multiplier = self.hash_mem_multiplier;
        }
    }
}

/// The same as it was before the transaction.
pub fn read_as_before(sql: &str, args: &[Arg]) -> Result<Vec<Row>> {
    as_owner(|| {
        let _before = pg::ActiveSnapshot::before_transaction();
        let _by_index = ByIndex::only();
        query_planned(sql, args, Mode::Read, Planned::Once)
    })
}
