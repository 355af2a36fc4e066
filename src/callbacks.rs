//! The only place that registers callbacks and hooks with the server. They count what happens (session.rs), and hand on to the
//! journal what it must do at the ends of transactions.

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::collections::lookup::{self, paths};
use crate::collections::shape::{parts, unseen, versions};
use crate::log::{journal, wake};
use crate::push::once;
use crate::server::error::{self, relieved};
use crate::server::session::{happened, Event};
use crate::server::spi::jit;
use crate::server::{commit, memory, pg, talk};

/// Called once per backend, when the library is loaded.
pub fn register() {
    use pg_sys::SysCacheIdentifier::{
        AMOPOPID, AUTHMEMROLEMEM, AUTHOID, CASTSOURCETARGET, DATABASEOID, FOREIGNDATAWRAPPEROID, FOREIGNSERVEROID,
        NAMESPACEOID, OPEROID, PROCOID, TYPEOID,
    };
    let watch = |caches: &[_], callback| {
        for cache in caches {
            // SAFETY: once per backend; these callbacks cannot be removed, nor need they. They are guarded functions.
            unsafe { pg_sys::CacheRegisterSyscacheCallback(*cache as i32, callback, pg_sys::Datum::null()) };
        }
    };
    // A domain's default, a cast to json, the owner of a function and the name of a schema, which is a part of what we call its tables, change no relation.
    watch(&[CASTSOURCETARGET, TYPEOID, NAMESPACEOID], Some(on_definition));
    watch(&[PROCOID], Some(on_function));
    // What plancache.c watches, too (relations and types besides).
    watch(&[OPEROID, AMOPOPID, FOREIGNSERVEROID, FOREIGNDATAWRAPPEROID], Some(on_plan));
    // The owner of the database is a member of pg_database_owner.
    watch(&[AUTHOID, AUTHMEMROLEMEM, DATABASEOID], Some(on_role));
    // SAFETY: as above; a backend has one thread; hooks are chained, as everybody does.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(on_relation), pg_sys::Datum::null());
        pg_sys::RegisterXactCallback(Some(on_transaction), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(on_subtransaction), std::ptr::null_mut());
        pg_sys::RegisterResourceReleaseCallback(Some(on_release), std::ptr::null_mut());
        talk::chain(std::ptr::replace(&raw mut pg_sys::emit_log_hook, Some(on_report)));
        lookup::chain(std::ptr::replace(&raw mut pg_sys::get_relation_info_hook, Some(lookup::on_relation)));
        paths::chain(std::ptr::replace(&raw mut pg_sys::set_rel_pathlist_hook, Some(paths::on_paths)));
        parts::chain(std::ptr::replace(&raw mut pg_sys::object_access_hook, Some(parts::on_access)));
        jit::chain(std::ptr::replace(&raw mut pg_sys::planner_hook, Some(jit::on_plan)));
    }
}

/// Any relation's change outdates all that was read from the catalogs: DDL is rare, a wrong cache is a lost row.
///
/// # Safety
/// Called by the cache that it is registered with.
#[pg_guard]
unsafe extern "C-unwind" fn on_relation(_arg: pg_sys::Datum, _relation: pg_sys::Oid) {
    happened(Event::Definition);
    happened(Event::Plan);
}

/// # Safety
/// Called by the cache that it is registered with.
#[pg_guard]
unsafe extern "C-unwind" fn on_definition(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
    happened(Event::Definition);
    happened(Event::Plan);
}

/// # Safety
/// Called by the cache that it is registered with.
#[pg_guard]
unsafe extern "C-unwind" fn on_function(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
    happened(Event::Definition);
    happened(Event::Plan);
    happened(Event::Function);
}

/// # Safety
/// Called by the cache that it is registered with.
#[pg_guard]
unsafe extern "C-unwind" fn on_plan(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
    happened(Event::Plan);
}

/// # Safety
/// Called by the cache that it is registered with.
#[pg_guard]
unsafe extern "C-unwind" fn on_role(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
    happened(Event::Role);
}

/// # Safety
/// Called by the transaction manager, which it is registered with.
#[pg_guard]
unsafe extern "C-unwind" fn on_transaction(event: pg_sys::XactEvent::Type, _arg: *mut std::ffi::c_void) {
    use pg_sys::XactEvent::*;
    match event {
        // Everything that can fail happens here, where an ERROR still aborts the transaction.
        XACT_EVENT_PRE_COMMIT | XACT_EVENT_PRE_PREPARE => {
            let prepared = event == XACT_EVENT_PRE_PREPARE;
            let _failing = talk::Crucial;
            // Versions last: whoever numbers them keeps all others' DDL waiting, and pokes take their time. What may wait for somebody's lock comes
            // first: before anybody waits for this transaction.
            let work = || {
                if !prepared {
                    if journal::has_logged() || versions::are_pending() {
                        let _snapshot = pg::ActiveSnapshot::take();
                        // SAFETY: in PRE_COMMIT.
                        unsafe { commit::run_on_commit_actions() };
                    }
                    once::before_commit();
                }
                unseen::look_at_some(prepared)?;
                journal::before_commit(prepared)?;
                versions::before_commit(prepared)
            };
            if let Err(e) = relieved(work) {
                e.raise()
            }
        }
        XACT_EVENT_COMMIT | XACT_EVENT_ABORT | XACT_EVENT_PREPARE => {
            if event == XACT_EVENT_COMMIT {
                wake::wake();
            }
            happened(Event::End);
            error::forget();
            memory::refill();
            journal::end();
            talk::forget();
        }
        _ => {}
    }
}

/// # Safety
/// Called by the transaction manager, which it is registered with.
#[pg_guard]
unsafe extern "C-unwind" fn on_subtransaction(
    event: pg_sys::SubXactEvent::Type,
    id: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _arg: *mut std::ffi::c_void,
) {
    use pg_sys::SubXactEvent::*;
    match event {
        SUBXACT_EVENT_START_SUB => journal::subtransaction_began(id),
        // Here an ERROR still aborts the subtransaction.
        SUBXACT_EVENT_PRE_COMMIT_SUB => {
            let _failing = talk::Unwinding;
            if let Err(e) = relieved(journal::before_release) {
                e.raise()
            }
        }
        SUBXACT_EVENT_COMMIT_SUB => journal::subtransaction_released(id),
        SUBXACT_EVENT_ABORT_SUB => {
            happened(Event::Rollback);
            error::caught_by_somebody();
            journal::subtransaction_rolled_back(id);
        }
        _ => {}
    }
}

/// # Safety
/// Called by the resource owners, which it is registered with.
#[pg_guard]
unsafe extern "C-unwind" fn on_release(
    phase: pg_sys::ResourceReleasePhase::Type,
    is_commit: bool,
    is_top: bool,
    _arg: *mut std::ffi::c_void,
) {
    talk::at_release(phase, is_commit, is_top);
}

/// # Safety
/// Called by `EmitErrorReport` with the message at hand.
#[pg_guard]
unsafe extern "C-unwind" fn on_report(message: *mut pg_sys::ErrorData) {
    // SAFETY: see above.
    unsafe { talk::on_report(message) }
}
