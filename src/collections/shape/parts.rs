//! Partitions that come or go without a row. Nobody lacks anything then, and no client is reset for them.
//!
//! What has come is looked at when its command ends, and what is detached, too; what is dropped is gone by then, so that is looked at as the server drops
//! it. Each of these commands keeps the partition to itself, so nobody writes there meanwhile.
//!
//! *What comes* must not have a row version at all: until it came, no log told of its rows. One that was deleted a moment ago an older snapshot still sees, and
//! whoever pulls by that would get the row, which nothing would take from him again.
//!
//! *What goes* must not have a row that is committed, or this transaction's. That rows were deleted, the log tells, whoever still sees them.

use std::collections::BTreeSet;

use pgrx::{pg_guard, pg_sys};
use serde_json::Value;

use crate::collections::registry;
use crate::server::error::{relieved, Result};
use crate::server::heap::{self, Remnant};
use crate::server::session::PerTransaction;
use crate::server::{pg, subxact, talk};

/// What becomes of a partition: it comes into its table, or goes out of it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum PartMove {
    In,
    Out,
}

/// Those that the command under way brings and takes, and that have no row: by the names that a shape has.
#[derive(Default)]
struct EmptyParts {
    came: BTreeSet<String>,
    gone: BTreeSet<String>,
}

thread_local! {
    static EMPTY: PerTransaction<EmptyParts> = PerTransaction::until_end();
}

static mut NEXT_HOOK: pg_sys::object_access_hook_type = None;

/// Whose turn it is before `on_access`.
///
/// # Safety
/// Called once, by who hooks it in.
pub unsafe fn chain(next: pg_sys::object_access_hook_type) {
    // SAFETY: a backend has one thread.
    unsafe { NEXT_HOOK = next };
}

/// # Safety
/// Called by the server, before it drops an object among others.
#[pg_guard]
pub unsafe extern "C-unwind" fn on_access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    sub: i32,
    argument: *mut std::ffi::c_void,
) {
    // SAFETY: what the server has passed; a backend has one thread.
    unsafe {
        if let Some(next) = NEXT_HOOK {
            next(access, class, object, sub, argument);
        }
    }
    let is_dropped = access == pg_sys::ObjectAccessType::OAT_DROP;
    if is_dropped && class == pg_sys::RelationRelationId && sub == 0 && has_own_rows(object) {
        let _failing = talk::Unwinding;
        if let Err(e) = relieved(|| note_if(PartMove::Out, object, is_tracked)) {
            e.raise()
        }
    }
}

/// Is it a partition with rows of its own, which could be tracked?
fn has_own_rows(part: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in a syscache, which say so where there is no such relation.
    unsafe {
        pg_sys::get_rel_relispartition(part)
            && pg_sys::get_rel_relkind(part) as u8 == pg_sys::RELKIND_RELATION
            && pg_sys::get_rel_persistence(part) as u8 == pg_sys::RELPERSISTENCE_PERMANENT
    }
}

/// Is the table that it is a part of tracked? (The extension itself may be on its way out.)
fn is_tracked(part: pg_sys::Oid) -> Result<bool> {
    Ok(pg::relation_if_created(c"collection")?.is_some()
        && pg::has_row_of(&registry::TABLE, c"collection_pkey", pg::root_of(part))?)
}

/// The look is over that the command has caused, or another command is under way.
pub fn forget() {
    EMPTY.with(|parts| parts.with(|parts| *parts = EmptyParts::default()));
}

/// Remembers whether the partition has no row.
pub fn note(moves: PartMove, part: pg_sys::Oid) -> Result<()> {
    note_if(moves, part, |_| Ok(true))
}

fn note_if(moves: PartMove, part: pg_sys::Oid, counts: impl FnOnce(pg_sys::Oid) -> Result<bool>) -> Result<()> {
    let Some((name, _)) = pg::qualified_name(part) else { return Ok(()) };
    // What cannot be read (a damaged file) may be dropped all the same.
    let is_empty = match subxact::run(|| Ok(counts(part)? && is_empty(moves, part))) {
        Err(e) if e.is_cancellation() => return Err(e),
        answer => answer.unwrap_or(false),
    };
    EMPTY.with(|parts| {
        parts.with(|parts| {
            let names = match moves {
                PartMove::In => &mut parts.came,
                PartMove::Out => &mut parts.gone,
            };
            match is_empty {
                true => names.insert(name),
                false => names.remove(&name),
            }
        })
    });
    Ok(())
}

fn is_empty(moves: PartMove, part: pg_sys::Oid) -> bool {
    match moves {
        PartMove::In => heap::has_no(Remnant::Version, part),
        PartMove::Out => heap::has_no(Remnant::Row(&pg::ActiveSnapshot::latest()), part),
    }
}

/// The parts of a shape that have rows, by name.
fn names(shape: &Value) -> BTreeSet<&str> {
    shape["partitions"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Have partitions come or gone that may have had a row?
pub fn differ(old: &Value, new: &Value) -> bool {
    let (before, now) = (names(old), names(new));
    if before == now {
        return false;
    }
    let here = old["identity"] == new["identity"];
    let are = |names: BTreeSet<&str>, empty: &BTreeSet<String>| names.iter().all(|name| empty.contains(*name));
    let difference = |a: &BTreeSet<_>, b: &BTreeSet<_>| a.difference(b).copied().collect::<BTreeSet<&str>>();
    let told = EMPTY.with(|parts| {
        parts.with(|parts| are(difference(&before, &now), &parts.gone) && are(difference(&now, &before), &parts.came))
    });
    !(here && told)
}
