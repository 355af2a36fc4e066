//! When a row version came to be, in the running transaction: from its header, as the server's macros read it.

use pgrx::pg_sys;

use crate::log::change::When;

/// When the change of this old version happened.
///
/// # Safety
/// A version as it is in the table.
pub unsafe fn when(old: pg_sys::HeapTuple) -> When {
    // SAFETY: see above; a version of the running transaction has a command number.
    unsafe {
        let header = (*old).t_data;
        // Known to have committed (or frozen): not of the running transaction.
        let committed = (*header).t_infomask & pg_sys::HEAP_XMIN_COMMITTED as u16 != 0;
        if !committed && pg_sys::TransactionIdIsCurrentTransactionId((*header).t_choice.t_heap.t_xmin) {
            When::AfterCommand(made_by(old))
        } else {
            When::First
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
