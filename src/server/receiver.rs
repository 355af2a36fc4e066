//! Takes rows from the executor, one by one.

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::server::memory;

/// Takes a row; false: no more rows are wanted.
pub type Each<'a> = &'a mut dyn FnMut(*mut pg_sys::TupleTableSlot) -> bool;

/// A `DestReceiver` that gives each row to a closure.
#[repr(C)]
pub struct EachRow<'a> {
    /// What the executor sees; must be first.
    dest: pg_sys::DestReceiver,
    each: Each<'a>,
}

impl<'a> EachRow<'a> {
    pub fn new(each: Each<'a>) -> Self {
        let dest = pg_sys::DestReceiver {
            receiveSlot: Some(receive),
            rStartup: Some(startup),
            rShutdown: Some(shutdown),
            rDestroy: Some(shutdown),
            mydest: pg_sys::CommandDest::DestNone,
        };
        EachRow { dest, each }
    }

    /// What to give to the executor; valid while this is neither moved nor touched.
    pub fn dest(&mut self) -> *mut pg_sys::DestReceiver {
        std::ptr::from_mut(self).cast()
    }
}

/// # Safety
/// Called by the executor.
#[pg_guard]
unsafe extern "C-unwind" fn startup(_dest: *mut pg_sys::DestReceiver, _operation: i32, _columns: pg_sys::TupleDesc) {
    // Each row brings its own descriptor.
}

/// # Safety
/// Called by the executor, with what `EachRow::dest` gave it.
#[pg_guard]
unsafe extern "C-unwind" fn receive(slot: *mut pg_sys::TupleTableSlot, dest: *mut pg_sys::DestReceiver) -> bool {
    memory::heed();
    // SAFETY: `dest` is what `EachRow::dest` returned, and the executor's call is its only use at this time.
    unsafe { ((*dest.cast::<EachRow>()).each)(slot) }
}

/// # Safety
/// Called by the executor.
#[pg_guard]
unsafe extern "C-unwind" fn shutdown(_dest: *mut pg_sys::DestReceiver) {
    // There is nothing of its own.
}
