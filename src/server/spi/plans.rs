//! The plans of statements: kept by this backend, made on first use.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;

use pgrx::pg_sys;

use super::{c_string, guard, is_outermost, pointers, Arg, Planned};
use crate::server::error::{code, Result, SyncError};
use crate::server::memory::Gather;
use crate::server::pg;
use crate::server::session::{self, Event};
use crate::server::statement::folded;

const PLANS_KEPT: usize = 512;

/// Text, types, the calling role, and what is known of the roles. Postgres replans by itself when a table, the role or the search
/// path changes (plancache.c), but not when that role is granted another, to which a policy applies; and a pooled session that has
/// several roles in turn would plan anew for each (0.4 to 2 ms a pull instead of 0.14).
///
/// And whether the statement is a constant of ours (guard.rs): that one calls nothing that a user has made, so DDL on functions is nothing to it.
type PlanKey = (Box<str>, Vec<u32>, u32, u64, Planned, bool);

/// What was found out of a statement when it was prepared.
struct Prepared {
    /// None: planning calls functions whose answers must not be kept (folded.rs), so it is planned each time.
    plan: Option<pg_sys::SPIPlanPtr>,
    seen: SeenWith,
}

/// When that was: which functions the planner finds, and puts into plans, changes with these.
#[derive(PartialEq, Eq)]
struct SeenWith {
    functions: u64,
    /// plancache.c says of a plan itself whether it is outdated.
    others: Option<u64>,
    path: Box<CStr>,
}

impl Prepared {
    fn is_current(&self) -> bool {
        // SAFETY: guc.c's own copy of the setting; a kept plan.
        let (path, is_valid) = unsafe {
            let path = CStr::from_ptr(pg_sys::namespace_search_path);
            (path, self.plan.is_none_or(|plan| sources(plan).into_iter().all(|source| (*source).is_valid)))
        };
        is_valid
            && *self.seen.path == *path
            && self.seen.functions == session::count(Event::Function)
            && self.seen.others.is_none_or(|count| count == session::count(Event::Plan))
    }
}

/// # Safety
/// A plan of SPI's.
unsafe fn sources(plan: pg_sys::SPIPlanPtr) -> Vec<*mut pg_sys::CachedPlanSource> {
    // SAFETY: the list of its sources.
    unsafe { pointers(pg_sys::SPI_plan_get_plan_sources(plan)) }
}

#[derive(Default)]
struct Plans {
    kept: HashMap<PlanKey, Prepared>,
    /// What was known of the roles when these were made: none of another time is found again.
    roles: u64,
    /// Outdated, and perhaps still running in a statement around.
    outdated: Vec<pg_sys::SPIPlanPtr>,
}

impl Plans {
    /// Only the outermost statement may throw plans away: an outer one could still be running one of them.
    fn drop_some(&mut self) {
        if !is_outermost() {
            return;
        }
        let mut old = std::mem::take(&mut self.outdated);
        // Policies and column lists vary by role, so texts do too.
        let roles = session::count(Event::Role);
        if self.kept.len() >= PLANS_KEPT || self.roles != roles {
            self.kept.drain().for_each(|(_, kept)| kept.plan.into_iter().for_each(|plan| old.push(plan)));
            self.roles = roles;
        }
        for plan in old {
            // SAFETY: kept plans of this backend, none of them running.
            unsafe { pg_sys::SPI_freeplan(plan) };
        }
    }
}

thread_local! {
    static PLANS: RefCell<Plans> = RefCell::default();
}

/// The kept plan for this text, made on first use; or one that serves once, where none may be kept.
///
/// # Safety
/// Within an SPI connection.
pub(super) unsafe fn plan(sql: &str, args: &[Arg], planned: Planned) -> Result<pg_sys::SPIPlanPtr> {
    let types_key = args.iter().map(|a| a.oid.to_u32()).gather();
    let ours = guard::is_ours();
    let key: PlanKey = (sql.into(), types_key, pg::current_user().to_u32(), session::count(Event::Role), planned, ours);
    let known =
        PLANS.with_borrow(|plans| plans.kept.get(&key).filter(|kept| ours || kept.is_current()).map(|kept| kept.plan));
    match known {
        Some(Some(plan)) => return Ok(plan),
        // SAFETY: within an SPI connection (caller).
        Some(None) => return unsafe { prepare(sql, args, planned) },
        None => {}
    }
    // SAFETY: within an SPI connection (caller); the plan is moved to permanent memory by keepplan.
    unsafe {
        // guc.c's own copy of the setting.
        let path = CStr::from_ptr(pg_sys::namespace_search_path).into();
        let (functions, others) = (session::count(Event::Function), session::count(Event::Plan));
        let plan = prepare(sql, args, planned)?;
        let mut is_folded = false;
        for source in sources(plan).into_iter().take_while(|_| !ours) {
            is_folded |= folded::calls_any((*source).query_list.cast())?;
        }
        if !is_folded && pg_sys::SPI_keepplan(plan) != 0 {
            return Err(SyncError::new(code::INTERNAL, "could not keep a plan").detail(sql.to_string()));
        }
        let seen = SeenWith { functions, others: is_folded.then_some(others), path };
        let kept = Prepared { plan: (!is_folded).then_some(plan), seen };
        PLANS.with_borrow_mut(|plans| {
            plans.drop_some();
            if let Some(old) = plans.kept.insert(key, kept).and_then(|old| old.plan) {
                plans.outdated.push(old);
            }
        });
        Ok(plan)
    }
}

/// A plan for this text, which lives as long as the SPI connection.
///
/// # Safety
/// Within an SPI connection.
pub(super) unsafe fn prepare(sql: &str, args: &[Arg], planned: Planned) -> Result<pg_sys::SPIPlanPtr> {
    let mut types: Vec<pg_sys::Oid> = args.iter().map(|a| a.oid).gather();
    let text = c_string(sql)?;
    let options = match planned {
        Planned::ByCost => 0,
        Planned::Once => pg_sys::CURSOR_OPT_GENERIC_PLAN,
        Planned::Anew => pg_sys::CURSOR_OPT_CUSTOM_PLAN,
    };
    // SAFETY: within an SPI connection (caller); text and types outlive the call.
    let plan =
        unsafe { pg_sys::SPI_prepare_cursor(text.as_ptr(), types.len() as i32, types.as_mut_ptr(), options as i32) };
    if plan.is_null() {
        return Err(SyncError::new(code::INTERNAL, "could not prepare a statement").detail(sql.to_string()));
    }
    Ok(plan)
}
