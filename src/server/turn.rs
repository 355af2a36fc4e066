//! Taking turns: what one session of a database does at a time.
//!
//! Whose turn it is says an advisory lock of a class that SQL's own have not, so no user can take it. The table that is written would do, too,
//! but others lock that, for hours maybe: ANALYZE in a transaction that goes on, VACUUM, CREATE INDEX CONCURRENTLY. Who has to
//! wait for these while he commits keeps everybody waiting who waits for him; and these would wait for whoever has his turn.

use pgrx::pg_sys;

/// `field4` of these advisory locks. pg_advisory_lock's have 1 or 2 there, those of the room log 3 and 4 (clock.rs, wake.rs).
const CLASS: u16 = 5;

pub(super) const MODE: u32 = pg_sys::ExclusiveLock;

/// Each has a number of its own.
#[derive(Clone, Copy)]
pub struct Turn(pub u32);

impl Turn {
    /// Waits for it. It is ours until the (sub)transaction ends.
    pub fn take(self) {
        // SAFETY: an advisory lock; waits are interruptible.
        unsafe { pg_sys::LockAcquire(&self.tag(), MODE as i32, false, false) };
    }

    /// The same without waiting: false if it is another's.
    pub fn try_take(self) -> bool {
        // SAFETY: as above.
        let taken = unsafe { pg_sys::LockAcquire(&self.tag(), MODE as i32, false, true) };
        taken != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }

    pub(super) fn tag(self) -> pg_sys::LOCKTAG {
        pg_sys::LOCKTAG {
            // SAFETY: set once at backend start.
            locktag_field1: unsafe { pg_sys::MyDatabaseId }.into(),
            locktag_field2: 0,
            locktag_field3: self.0,
            locktag_field4: CLASS,
            locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
            locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
        }
    }
}
