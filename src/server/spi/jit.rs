//! No JIT under a statement of ours. Policies that chain through tables make the planner expect costs that pass `jit_above_cost`, and
//! compiling took 300 ms where running takes 1 ms.
//!
//! The setting `jit` is left alone: a function that a user has made may set it meanwhile, and whoever writes the variable past guc.c gives what he
//! has put there to the session for good, or takes what was set away again.

use std::ffi::c_char;

use pgrx::pg_sys;

use super::is_any;

static mut NEXT_HOOK: pg_sys::planner_hook_type = None;

/// Whose turn it is within `on_plan`.
///
/// # Safety
/// Called once, by who hooks it in.
pub unsafe fn chain(next: pg_sys::planner_hook_type) {
    // SAFETY: a backend has one thread.
    unsafe { NEXT_HOOK = next };
}

/// By `planner_hook`: what is planned while a statement of ours is under way is run as it is.
///
/// Everybody's statements are planned through here, so nothing is put around the planner: pgrx would carry its errors on as something less. An
/// ERROR jumps over this frame, which holds nothing.
///
/// # Safety
/// Called by the planner, with what it was given.
pub unsafe extern "C-unwind" fn on_plan(
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: i32,
    params: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: the arguments are handed on; the plan is new, and nobody else's yet.
    unsafe {
        let plan = match NEXT_HOOK {
            Some(next) => next(query, text, options, params),
            None => unbound::standard_planner(query, text, options, params),
        };
        if is_any() {
            (*plan).jitFlags = pg_sys::PGJIT_NONE as i32;
        }
        plan
    }
}

mod unbound {
    use super::{c_char, pg_sys};

    // SAFETY: as in optimizer/planner.h.
    unsafe extern "C-unwind" {
        /// Without pgrx's guard around it.
        pub fn standard_planner(
            query: *mut pg_sys::Query,
            text: *const c_char,
            options: i32,
            params: pg_sys::ParamListInfo,
        ) -> *mut pg_sys::PlannedStmt;
    }
}
