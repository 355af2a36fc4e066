//! From one session to others, and sleeping until somebody has something to say.

use std::ffi::CStr;

use pgrx::pg_sys;

/// Server functions that pgrx's bindings leave out (commands/async.h).
mod unbound {
    use std::ffi::c_char;

    // SAFETY: as in that header.
    unsafe extern "C-unwind" {
        pub fn Async_Notify(channel: *const c_char, payload: *const c_char);
    }
}

/// Notifies who listens, when the transaction commits. Equal ones are sent once.
pub fn notify(channel: &CStr, payload: &CStr) {
    // SAFETY: both are copied; the boundary turns an ERROR (too long a text) into an unwinding panic.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| unbound::Async_Notify(channel.as_ptr(), payload.as_ptr()));
    }
}

/// How much of the queue of notifications is in use, of all databases: 0 to 1.
pub fn notification_queue_usage() -> f64 {
    // SAFETY: a function of the server without arguments.
    unsafe { pgrx::direct_function_call(pg_sys::pg_notification_queue_usage, &[]) }.unwrap_or(0.0)
}

/// Fires the triggers that are deferred to the end of the transaction, where it has come to that already.
pub fn fire_deferred_triggers() {
    // SAFETY: inside a transaction, with no statement under way that queues triggers.
    unsafe { pg_sys::AfterTriggerFireDeferred() }
}
