//! No JIT under a statement of ours. Policies that chain through tables make the planner expect costs that pass `jit_above_cost`, and
//! compiling took 300 ms where running takes 1 ms.
//!
//! The setting `jit` is left alone: a function that a user has made may set it meanwhile, and whoever writes the variable past guc.c gives what he
//! has put there to the session for good, or takes what was set away again.

use pgrx::{pg_guard, pg_sys};

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
/// # Safety
/// Called by the planner, with what it was given.
#[pg_guard]
pub unsafe extern "C-unwind" fn on_plan(
    query: *mut pg_sys::Query,
    text: *const std::ffi::c_char,
    options: i32,
    params: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: the arguments are handed on; the plan is new, and nobody else's yet.
    unsafe {
        let plan = match NEXT_HOOK {
            Some(next) => next(query, text, options, params),
            None => pg_sys::standard_planner(query, text, options, params),
        };
        if is_any() {
            (*plan).jitFlags = pg_sys::PGJIT_NONE as i32;
        }
        plan
    }
}
