//! What the hashes of scopes are made of besides: a random number of the database's own. Whoever chooses the values of his scopes could write into
//! another's bucket otherwise, and let him read there as much as he likes.
//!
//! It belongs to the entries, so it stands beside them in a table, which is dumped with them. The first writer of a scope makes it, and not CREATE EXTENSION:
//! a restore creates the extension before it loads what the dump has. (Nor is it a sequence: scripts copy those to other databases.)
//!
//! A database may have several all the same, where a dump's data went into one that had a log. Writers use the one that was there first, readers look
//! where each of them leads.

use pgrx::pg_sys;

use crate::log::change::Salt;
use crate::log::MAKING_SALT;
use crate::server::error::{code, Result, SyncError};
use crate::server::pg::{self, OwnTable, WrittenBy};
use crate::server::{memory, talk};

pub const SALT: OwnTable = OwnTable { name: c"salt", columns: &[(pg_sys::INT8OID, false)], written: WrittenBy::Heap };

/// All that entries which this snapshot sees may have been written with.
pub fn known(snapshot: &pg::ActiveSnapshot) -> Result<Vec<Salt>> {
    let mut known = Vec::new();
    pg::each_row(&SALT, snapshot, |row| memory::extend(&mut known, row.column(1).map(Salt)))?;
    Ok(known)
}

/// The one that writers use. Not remembered: what a restore brings, or CREATE EXTENSION anew, nobody is told of, and reading a row takes less than a
/// hundredth of what a transaction does that writes.
pub fn own() -> Result<Salt> {
    if let Some(first) = first()? {
        return Ok(first);
    }
    let _turn = talk::Brief::take(MAKING_SALT);
    match first()? {
        // Somebody was quicker.
        Some(first) => Ok(first),
        None => make(),
    }
}

fn first() -> Result<Option<Salt>> {
    Ok(pg::only_row(&SALT, &pg::ActiveSnapshot::latest(), |row| row.column(1).map(Salt))?.flatten())
}

/// One that everybody sees from now on, whether or not this transaction commits: others write with it before that.
fn make() -> Result<Salt> {
    let mut bytes = [0u8; 8];
    // SAFETY: fills so many bytes.
    if !unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len()) } {
        return Err(SyncError::new(code::INTERNAL, "could not generate random numbers"));
    }
    let salt = Salt(i64::from_ne_bytes(bytes));
    // SAFETY: one tuple of the table's own shape; the table has no index. A frozen tuple is visible at once and for ever.
    unsafe {
        let relation = SALT.open(pg_sys::RowExclusiveLock)?;
        let tuple = SALT.row(relation, &[Some(salt.0.into())]);
        let command = pg_sys::GetCurrentCommandId(true);
        pg_sys::heap_insert(relation, tuple, command, pg_sys::HEAP_INSERT_FROZEN as i32, std::ptr::null_mut());
        pg_sys::heap_freetuple(tuple);
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
    }
    Ok(salt)
}
