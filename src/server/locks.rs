//! The tables that this transaction may have written to, as its own locks say.

use std::mem::offset_of;

use pgrx::pg_sys;

use crate::server::memory;

/// Who writes to a table has it locked like this, or more strongly: until the transaction, or the part of it that wrote, is rolled back or ends.
/// (The server relies on it: it opens the table of what is deferred without a lock, AfterTriggerExecute.)
const WRITES: i32 = pg_sys::RowExclusiveLock as i32;

/// The tables of this database that are locked for writing, some twice; and what else is.
///
/// From what shared memory has of this backend's own locks. No SQL tells of these alone: pg_locks goes through everybody's, and keeps
/// everybody waiting meanwhile.
pub fn written() -> Vec<pg_sys::Oid> {
    let mut tables = memory::list(16);
    // SAFETY: this backend's own entry. Other backends move locks from the first place to the second, holding the locks of both: so what is
    // not in the first any more is in the second.
    unsafe {
        add_weak(&mut tables);
        for part in 0..pg_sys::NUM_LOCK_PARTITIONS as usize {
            add_strong(part, &mut tables);
        }
    }
    tables
}

/// Those that it keeps to itself as long as nobody else locks the table more strongly.
///
/// # Safety
/// In a backend.
unsafe fn add_weak(tables: &mut Vec<pg_sys::Oid>) {
    // In a slot's bits the weakest lock is the first (lock.c, FAST_PATH_LOCKNUMBER_OFFSET).
    const BIT: i32 = WRITES - 1;
    const BITS_OF_SLOT: usize = 3;
    // SAFETY: see above; nothing between raises an ERROR that would keep the lock, and an abort releases it.
    unsafe {
        let me = pg_sys::MyProc;
        let lock = &raw mut (*me).fpInfoLock;
        pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_SHARED);
        #[cfg(not(feature = "pg18"))]
        let (groups, slots, bits, relations) = (
            1,
            pg_sys::FP_LOCK_SLOTS_PER_BACKEND as usize,
            &raw const (*me).fpLockBits,
            (&raw const (*me).fpRelId).cast::<pg_sys::Oid>(),
        );
        #[cfg(feature = "pg18")]
        let (groups, slots, bits, relations) = (
            pg_sys::FastPathLockGroupsPerBackend as usize,
            pg_sys::FP_LOCK_SLOTS_PER_GROUP as usize,
            (*me).fpLockBits.cast_const(),
            (*me).fpRelId.cast_const(),
        );
        for group in 0..groups {
            let bits = *bits.add(group);
            for slot in (0..slots).filter(|slot| bits >> (slot * BITS_OF_SLOT) >> BIT & 1 == 1) {
                tables.push(*relations.add(group * slots + slot));
            }
        }
        pg_sys::LWLockRelease(lock);
    }
}

/// Those in one part of the table that everybody looks at.
///
/// # Safety
/// In a backend; there are so many parts.
unsafe fn add_strong(part: usize, tables: &mut Vec<pg_sys::Oid>) {
    // SAFETY: see above. As long as a part is locked nobody changes the list of a backend's locks in it, which is a ring; the locks that
    // these are of last as long.
    unsafe {
        let of_part = pg_sys::MainLWLockArray.add(pg_sys::LOCK_MANAGER_LWLOCK_OFFSET as usize + part);
        let lock = &raw mut (*of_part).lock;
        pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_SHARED);
        let ring = &raw mut (*pg_sys::MyProc).myProcLocks[part];
        #[cfg(not(feature = "pg15"))]
        let ring = &raw mut (*ring).head;
        let mut link = (*ring).next;
        // (NULL: nothing was ever in it.)
        while !link.is_null() && link != ring {
            let held = &*link.byte_sub(offset_of!(pg_sys::PROCLOCK, procLink)).cast::<pg_sys::PROCLOCK>();
            let of = &(*held.tag.myLock).tag;
            let is_table = u32::from(of.locktag_lockmethodid) == pg_sys::DEFAULT_LOCKMETHOD
                && u32::from(of.locktag_type) == pg_sys::LockTagType::LOCKTAG_RELATION
                && of.locktag_field1 == pg_sys::MyDatabaseId.to_u32();
            if is_table && held.holdMask >> WRITES != 0 {
                tables.push(of.locktag_field2.into());
            }
            link = (*link).next;
        }
        pg_sys::LWLockRelease(lock);
    }
}
