//! The server's clock.

use pgrx::pg_sys;

/// From 1970-01-01, from which clients count, to 2000-01-01, from which PostgreSQL does, in microseconds.
pub const EPOCH: i64 = 946_684_800_000_000;

/// Now, in microseconds since 1970-01-01 UTC.
pub fn now() -> i64 {
    // SAFETY: reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() + EPOCH }
}
