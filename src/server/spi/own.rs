//! Statements of our own: constant texts over catalogs and snapsync's own tables, which the caller need not be able to read. They run as
//! the extension's owner, so each that is written stands on a list with its reason (src/tests/rights.list).

use pgrx::pg_sys;

use super::planner::Planner;
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

/// Runs a statement that goes through all of a table of snapsync's own, under a plan for the sizes that the tables have now.
pub fn owner_maintain(sql: &str, args: &[Arg]) -> Result<Vec<Row>> {
    as_owner(|| {
        let _in_one_go = Planner::in_one_go();
        query_planned(sql, args, Mode::Write, Planned::Anew)
    })
}

/// Reads snapsync's own tables as they are at this instant, whatever the transaction's snapshot: what is cached from them
/// must never be older than the invalidation that was processed last.
pub fn query_now(sql: &str, args: &[Arg]) -> Result<Vec<Row>> {
    as_owner(|| {
        let _now = pg::ActiveSnapshot::latest();
        let _by_index = Planner::by_index();
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
        let _by_index = Planner::by_index();
        query_planned(sql, args, Mode::Read, Planned::Once)
    })
}

/// The same as it was before the transaction.
pub fn read_as_before(sql: &str, args: &[Arg]) -> Result<Vec<Row>> {
    as_owner(|| {
        let _before = pg::ActiveSnapshot::before_transaction();
        let _by_index = Planner::by_index();
        query_planned(sql, args, Mode::Read, Planned::Once)
    })
}
