//! The ways to read a collection's table that the planner chooses among, where we give it keys.
//!
//! *What a policy's subquery costs.* Of `project_id IN (SELECT id FROM projects)` a hash table is made before the first row is compared, and it
//! serves all scans that follow. The planner takes it for made anew by each scan inside a nested loop: to look up n keys costs n times what it
//! costs, and to read the whole table has it once. So for a thousand keys under a subquery that costs as much as 20 pages, and for one key
//! under one that costs as much as the table, it would read the whole table. In statements that name a source of ours it counts for no scan.
//!
//! *Keys that are to be looked up* are: where there is a way to find the rows by them the others count as dearer. So that does not hang on what a
//! session, or an administrator, has set for the planner.

use std::ffi::CStr;

use pgrx::{pg_guard, pg_sys};

use super::{collection_of, names_any, KEYS, KEYS_OF};
use crate::server::spi;

static mut NEXT_HOOK: pg_sys::set_rel_pathlist_hook_type = None;

/// More than whatever the planner adds where a session has switched a kind of plan off (`disable_cost` of costsize.c; PostgreSQL 18 counts how often, before it
/// compares costs).
const DEAR: f64 = 1.0e12;
#[cfg(feature = "pg18")]
const DISABLED: i32 = 1_000;

/// Whose turn it is before `on_paths`.
///
/// # Safety
/// Called once, by who hooks it in.
pub unsafe fn chain(next: pg_sys::set_rel_pathlist_hook_type) {
    // SAFETY: a backend has one thread.
    unsafe { NEXT_HOOK = next };
}

/// The planner has found the ways to read a relation, and has not chosen one yet. All of them begin with the same, so those that it has dropped
/// were dearer all the same.
///
/// # Safety
/// Called by the planner.
#[pg_guard]
pub unsafe extern "C-unwind" fn on_paths(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    number: pg_sys::Index,
    entry: *mut pg_sys::RangeTblEntry,
) {
    // SAFETY: the planner's structures, in the planner; the lists hold what their names say.
    unsafe {
        if let Some(next) = NEXT_HOOK {
            next(root, rel, number, entry);
        }
        if !spi::is_any() || (*entry).rtekind != pg_sys::RTEKind::RTE_RELATION {
            return;
        }
        let rtable = (*(*root).parse).rtable;
        // (What a foreign table costs, its wrapper says.)
        let begins = (*rel).baserestrictcost.startup;
        let is_ours = |name: &CStr| name.to_bytes().starts_with(b"snapsync_");
        if begins > 0.0 && (*rel).fdwroutine.is_null() && names_any(rtable, &is_ours) {
            discount(rel, begins);
        }
        let is_known = || KEYS.with_borrow(|keys| keys.contains_key(&collection_of(root, rel)));
        let is_whole = (*rel).reloptkind == pg_sys::RelOptKind::RELOPT_BASEREL;
        if is_whole && is_known() && names_any(rtable, &|name| name == KEYS_OF) {
            prefer_look_ups(rel);
        }
    }
}

/// Takes off what they all begin with. (Not below nothing: an index may have answered the condition.)
///
/// # Safety
/// As the planner has it, before it chooses.
unsafe fn discount(rel: *mut pg_sys::RelOptInfo, begins: f64) {
    // SAFETY: lists of paths.
    unsafe {
        for list in [(*rel).pathlist, (*rel).partial_pathlist] {
            for path in spi::pointers::<pg_sys::Path>(list) {
                let begins = begins.min((*path).startup_cost);
                (*path).startup_cost -= begins;
                (*path).total_cost -= begins;
            }
        }
    }
}

/// Where there are ways that begin with a row of something else, which can only be the keys, the others count as dearer than those. (They stay: a rule may
/// have its own query in the statement, in which no key is at hand.)
///
/// # Safety
/// As above.
unsafe fn prefer_look_ups(rel: *mut pg_sys::RelOptInfo) {
    // SAFETY: lists of paths.
    unsafe {
        let all = spi::pointers::<pg_sys::Path>((*rel).pathlist);
        let begins_with_key = |path: &*mut pg_sys::Path| !(**path).param_info.is_null();
        if !all.iter().any(begins_with_key) {
            return;
        }
        let partial = spi::pointers::<pg_sys::Path>((*rel).partial_pathlist);
        for path in all.into_iter().chain(partial).filter(|path| !begins_with_key(path)) {
            (*path).startup_cost += DEAR;
            (*path).total_cost += DEAR;
            #[cfg(feature = "pg18")]
            {
                (*path).disabled_nodes += DISABLED;
            }
        }
    }
}
