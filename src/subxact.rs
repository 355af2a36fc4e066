//! Work that may fail and be undone: Postgres's internal subtransactions, as plpgsql's EXCEPTION blocks use them.
//!
//! The only place where an ERROR is caught and the transaction goes on: everything the work did is rolled back first.

use pgrx::pg_sys;

use crate::error::{caught, Result, SyncError};

/// Runs `work` in a subtransaction: what it did stays when it returns Ok, and is undone when it returns Err or raises an
/// ERROR. An error that is nobody's fault (see [`is_transient`]) is undone as well; the caller passes it on.
pub fn run<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    // SAFETY: the order of calls, memory context and resource owner is that of plpgsql's exec_stmt_block; `caught` has left
    // the error stack clean. Between begin and end nothing of ours holds a snapshot, a pin or an SPI connection: all that
    // `work` opened is closed, or closed by the rollback.
    unsafe {
        let context = pg_sys::CurrentMemoryContext;
        let owner = pg_sys::CurrentResourceOwner;
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
        // Its end is part of what may fail: it flushes the journal where that is full.
        let outcome = caught(|| {
            let result = work()?;
            pg_sys::ReleaseCurrentSubTransaction();
            Ok(result)
        });
        if outcome.is_err() {
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
        }
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
        outcome
    }
}

/// Errors that say nothing about the data: the same call may succeed later. They end the whole call, so that the client
/// tries again: a cancelled statement, a deadlock, a serialization failure, lack of memory or disk, an internal error.
pub fn is_transient(e: &SyncError) -> bool {
    matches!(e.code.get(..2).unwrap_or(""), "08" | "40" | "53" | "57" | "58" | "XX")
        || e.code == "55P03"
        || e.code == "25006"
}
