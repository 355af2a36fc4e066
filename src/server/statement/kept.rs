//! Plans that are kept, of queries that judge a few old rows and of owners' expressions for scopes: planning takes longer than judging
//! ten rows.
//!
//! plancache.c cannot keep them, for it analyzes a plan's text again where it has to; so what it watches is watched here, and one
//! invalidation drops all.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;

use pgrx::pg_sys;

use super::folded;
use crate::server::error::Result;
use crate::server::pg;
use crate::server::session::{self, Event};
use crate::server::spi::{self, pointers};

/// What a plan depends on besides the catalogs: what is asked of which table, by whom, and the path by which the functions that
/// are planned along find things.
#[derive(PartialEq, Eq, Hash, Clone)]
pub struct Key {
    relation: u32,
    /// What is not the table's policies.
    text: Option<Box<CStr>>,
    role: u32,
    roles: u64,
    path: Box<CStr>,
    row_security: bool,
}

impl Key {
    pub fn of(relation: pg_sys::Oid, text: Option<&CStr>) -> Key {
        // SAFETY: guc.c's own copy of the setting, and a setting.
        let (path, row_security) =
            unsafe { (CStr::from_ptr(pg_sys::namespace_search_path).into(), pg_sys::row_security) };
        Key {
            relation: relation.to_u32(),
            text: text.map(Box::from),
            role: pg::current_user().to_u32(),
            roles: session::count(Event::Role),
            path,
            row_security,
        }
    }
}

#[derive(Default)]
struct KeptPlans {
    /// When they were made, by the count of events.
    generation: u64,
    plans: HashMap<Key, KeptPlan>,
}

/// In a memory context of its own.
#[derive(Clone, Copy)]
struct KeptPlan {
    statement: *mut pg_sys::PlannedStmt,
    context: pg_sys::MemoryContext,
}

const KEPT: usize = 256;

thread_local! {
    static PLANS: RefCell<KeptPlans> = RefCell::new(KeptPlans::default());
}

/// The kept plan, after what it reads is locked as a query would lock it.
pub fn find(key: &Key) -> Option<*mut pg_sys::PlannedStmt> {
    let plan = PLANS.with_borrow(|kept| current(kept).then(|| kept.plans.get(key).copied()).flatten())?;
    // SAFETY: a plan that nothing frees meanwhile; taking a lock processes invalidations, which only count.
    unsafe {
        for entry in pointers::<pg_sys::RangeTblEntry>((*plan.statement).rtable) {
            if (*entry).rtekind == pg_sys::RTEKind::RTE_RELATION {
                pg_sys::LockRelationOid((*entry).relid, (*entry).rellockmode);
            }
        }
    }
    PLANS.with_borrow(current).then_some(plan.statement)
}

fn current(kept: &KeptPlans) -> bool {
    kept.generation == session::count(Event::Plan)
}

/// Takes the key of a plan that must not be kept: what functions say while it is made stays in it (folded.rs).
///
/// # Safety
/// A rewritten query, which is not planned yet.
pub unsafe fn decide(key: &mut Option<Key>, query: *mut pg_sys::Query) -> Result<()> {
    // SAFETY: see above.
    if key.is_some() && unsafe { folded::calls_any(query.cast())? } {
        *key = None;
    }
    Ok(())
}

/// Keeps a copy of a plan that was made in this generation of the catalogs, if it has a key.
///
/// # Safety
/// A plan as the planner gives it.
pub unsafe fn keep(key: Option<Key>, statement: *mut pg_sys::PlannedStmt, generation: u64) {
    let Some(key) = key else { return };
    // SAFETY: see above; the copy lives in a context of its own until it is dropped here.
    unsafe {
        // Inside another statement of ours one of the plans may be running: a policy's function can pull.
        if (*statement).transientPlan || generation != session::count(Event::Plan) || !spi::is_outermost() {
            return;
        }
        let context = pg_sys::AllocSetContextCreateInternal(
            pg_sys::TopMemoryContext,
            c"snapsync judging plan".as_ptr(),
            pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
            pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        );
        let before = pg_sys::MemoryContextSwitchTo(context);
        let statement = pg_sys::copyObjectImpl(statement.cast()).cast();
        pg_sys::MemoryContextSwitchTo(before);
        PLANS.with_borrow_mut(|kept| {
            if kept.generation != generation || kept.plans.len() >= KEPT {
                kept.plans.drain().for_each(|(_, old)| pg_sys::MemoryContextDelete(old.context));
                kept.generation = generation;
            }
            if let Some(old) = kept.plans.insert(key, KeptPlan { statement, context }) {
                pg_sys::MemoryContextDelete(old.context);
            }
        });
    }
}
