//! When a row version came to be, and went, in the running transaction: from its header, as the server's macros read it.

use pgrx::pg_sys;

use crate::log::change::OldVersion;
use crate::server::slot::Slot;

/// When this old version was made.
///
/// # Safety
/// A version as it is in the table.
pub unsafe fn old(old: pg_sys::HeapTuple) -> OldVersion {
    // SAFETY: see above; a version of the running transaction has a command number.
    unsafe {
        let header = (*old).t_data;
        // Known to have committed (or frozen): not of the running transaction.
        let committed = (*header).t_infomask & pg_sys::HEAP_XMIN_COMMITTED as u16 != 0;
        if !committed && pg_sys::TransactionIdIsCurrentTransactionId((*header).t_choice.t_heap.t_xmin) {
            OldVersion::MadeBy(made_by(old))
        } else {
            OldVersion::Found
        }
    }
}

/// Which command made this version.
///
/// # Safety
/// The running transaction made it.
pub unsafe fn made_by(new: pg_sys::HeapTuple) -> u32 {
    // SAFETY: see above. Only a version that the transaction has also deleted stands for two commands.
    unsafe {
        let header = (*new).t_data;
        if (*header).t_infomask & pg_sys::HEAP_COMBOCID as u16 == 0 {
            (*header).t_choice.t_heap.t_field3.t_cid
        } else {
            pg_sys::HeapTupleHeaderGetCmin(header)
        }
    }
}

/// Which command took this version away.
///
/// # Safety
/// The running transaction took it away.
pub unsafe fn taken_by(old: pg_sys::HeapTuple) -> u32 {
    // SAFETY: as above.
    unsafe {
        let header = (*old).t_data;
        if (*header).t_infomask & pg_sys::HEAP_COMBOCID as u16 == 0 {
            (*header).t_choice.t_heap.t_field3.t_cid
        } else {
            pg_sys::HeapTupleHeaderGetCmax(header)
        }
    }
}

/// What has become of a version that the running transaction made.
pub enum Left {
    Stands,
    /// There is another one after it, here.
    Changed(pg_sys::ItemPointerData),
    Gone,
}

impl Left {
    /// # Safety
    /// A version as it is in the table, which the running transaction made.
    pub unsafe fn of(tuple: pg_sys::HeapTuple) -> Left {
        // SAFETY: see above.
        unsafe {
            let header = (*tuple).t_data;
            let has = |mask: u32| u32::from((*header).t_infomask) & mask;
            // All but a few: one test.
            if has(pg_sys::HEAP_XMAX_INVALID) != 0 {
                return Left::Stands;
            }
            let several = has(pg_sys::HEAP_XMAX_IS_MULTI) != 0;
            let locked = has(pg_sys::HEAP_XMAX_LOCK_ONLY) != 0
                || !several && has(pg_sys::HEAP_LOCK_MASK) == pg_sys::HEAP_XMAX_EXCL_LOCK;
            if locked {
                return Left::Stands;
            }
            let by = match several {
                true => pg_sys::HeapTupleGetUpdateXid(header),
                false => (*header).t_choice.t_heap.t_xmax,
            };
            // What took it away was rolled back.
            if !pg_sys::TransactionIdIsCurrentTransactionId(by) {
                return Left::Stands;
            }
            let (place, next) = ((*tuple).t_self, (*header).t_ctid);
            let page = |at: pg_sys::ItemPointerData| (at.ip_blkid.bi_hi, at.ip_blkid.bi_lo);
            match next {
                next if page(next) == page(place) && next.ip_posid == place.ip_posid => Left::Gone,
                // It is in another partition now (ItemPointerIndicatesMovedPartitions).
                next if page(next) == (u16::MAX, u16::MAX) => Left::Gone,
                next => Left::Changed(next),
            }
        }
    }
}

/// Is the row there whose version stands at this place, and is each version of it from that one on a wanted one?
///
/// # Safety
/// An open table, and the place of a version that the running transaction made there.
pub unsafe fn is_there(
    table: pg_sys::Relation,
    mut place: pg_sys::ItemPointerData,
    mut wanted: impl FnMut(Slot) -> bool,
) -> bool {
    // SAFETY: see above; what is in the slot is valid until it is cleared. A version that its own transaction made stays where it is.
    unsafe {
        let slot = pg_sys::table_slot_create(table, std::ptr::null_mut());
        let fetch = (*(*table).rd_tableam).tuple_fetch_row_version;
        let there = loop {
            crate::server::memory::heed();
            let found = fetch.is_some_and(|fetch| fetch(table, &mut place, &raw mut pg_sys::SnapshotAnyData, slot));
            if !found || !wanted(slot) {
                break false;
            }
            let tuple = pg_sys::ExecFetchSlotHeapTuple(slot, false, std::ptr::null_mut());
            match Left::of(tuple) {
                Left::Stands => break true,
                Left::Gone => break false,
                Left::Changed(next) => place = next,
            }
        };
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        there
    }
}
