//! Work that may fail and be undone: Postgres's internal subtransactions, as plpgsql's EXCEPTION blocks use them.
//!
//! The only place where an ERROR is caught and the transaction goes on: everything the work did is rolled back first.

use std::convert::Infallible;

use pgrx::pg_sys;

use crate::server::error::{caught, Result, SyncError};
use crate::server::{memory, pg};

/// How work ended that went well. What comes of it is a value, never an error of a code of our own: any SQLSTATE can also be
/// raised by a trigger of the user's.
pub enum End<K, U> {
    /// What it did stays.
    Keep(K),
    /// What it did is undone.
    Undo(U),
}

/// Runs `work` in a subtransaction: what it did stays when it returns Ok, and is undone when it returns Err or raises an
/// ERROR. An error that is nobody's fault (see [`is_transient`]) is undone as well; the caller passes it on.
pub fn run<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    match run_or_undo(|| work().map(End::<R, Infallible>::Keep))? {
        End::Keep(result) => Ok(result),
        End::Undo(never) => match never {},
    }
}

/// Runs `work` only to see what comes of it: it is undone in any case.
pub fn try_out<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    match run_or_undo(|| work().map(End::<Infallible, R>::Undo))? {
        End::Keep(never) => match never {},
        End::Undo(result) => Ok(result),
    }
}

/// The same as [`run`], with work that decides itself what becomes of what it did.
///
/// What `work` has allocated with PostgreSQL (parameters of statements above all) goes with the subtransaction, however that ends: thousands are tried where
/// rows of a push fail, each with as much. What comes of it is in memory of Rust's, then; or [`pg::Lasting`] has allocated it.
pub fn run_or_undo<K, U>(work: impl FnOnce() -> Result<End<K, U>>) -> Result<End<K, U>> {
    // SAFETY: the order of calls, memory context and resource owner is that of plpgsql's exec_stmt_block; `caught` has left
    // the error stack clean. Between begin and end nothing of ours holds a snapshot, a pin or an SPI connection: all that
    // `work` opened is closed, or closed by the rollback. Then nothing refers to what was allocated for it.
    unsafe {
        let scratch = pg::Scratch::new(c"snapsync subtransaction");
        let context = pg_sys::CurrentMemoryContext;
        let owner = pg_sys::CurrentResourceOwner;
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
        // Its end is part of what may fail: it flushes the journal where that is full.
        let outcome = caught(|| {
            let end = work()?;
            if matches!(end, End::Keep(_)) {
                pg_sys::ReleaseCurrentSubTransaction();
            }
            Ok(end)
        });
        if !matches!(outcome, Ok(End::Keep(_))) {
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
        }
        pg_sys::CurrentResourceOwner = owner;
        drop(scratch);
        outcome
    }
}

/// What came of an attempt at some of many things; or for which one alone it fails, and why.
pub type Tried<T, R> = std::result::Result<R, (T, SyncError)>;

/// Does `work` for all items at once; where that fails, for halves of halves, until those for which it fails stand alone. `take` gets
/// what came of each, and says whether to go on.
pub fn in_halves<T: Copy, R>(
    items: &[T],
    work: &dyn Fn(&[T]) -> Result<R>,
    take: &mut dyn FnMut(Tried<T, R>) -> Result<bool>,
) -> Result<bool> {
    memory::heed();
    match run(|| work(items)) {
        Ok(done) => take(Ok(done)),
        Err(e) if is_transient(&e) => Err(e),
        Err(e) => match items {
            [] => Err(e),
            [item] => take(Err((*item, e))),
            _ => {
                let (left, right) = items.split_at(items.len() / 2);
                Ok(in_halves(left, work, take)? && in_halves(right, work, take)?)
            }
        },
    }
}

/// Errors that say nothing about the data: the same call may succeed later. They end the whole call, so that the client
/// tries again: a cancelled statement, a deadlock, a serialization failure, lack of memory or disk, a damaged page or index.
///
/// Any other internal error is not among them: types' input functions and extensions raise XX000 (elog) for values that they
/// do not like, and then it is one record's.
pub fn is_transient(e: &SyncError) -> bool {
    matches!(e.code.get(..2).unwrap_or(""), "08" | "40" | "53" | "57" | "58")
        || matches!(e.code.as_str(), "XX001" | "XX002" | "55P03" | "25006")
}
