//! Looks that are not had now: a stranger's, those that another session keeps waiting, and those that fail.

use pgrx::pg_sys;

use super::dependency::{self, Due};
use super::{definition, follow, Because, BUSY};
use crate::collections::registry;
use crate::log::journal;
use crate::server::error::{code, Result, SyncError};
use crate::server::{pg, spi, stack, subxact};

/// A command does not look at everybody's tables again and again, however often that was in vain. What is due already a stranger's command
/// adds to; what takes long to read is read by who alters it or enables it.
pub(super) fn is_left_to_its_owner(relation: pg_sys::Oid, why: Because) -> Result<bool> {
    match why {
        Because::Due if definition::is_large(relation)? => dependency::give_up(relation)?,
        Because::Elsewhere if !registry::may(relation, registry::Right::Own)? => {
            if dependency::is_due(relation)? {
                put_off(relation, why, "what it rests on was changed while a look was due")?;
            } else if definition::is_large(relation)? {
                put_off_as(relation, Due::Failed, "what its policies say takes long to read")?;
            } else {
                return Ok(false);
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Is it an error about what the session has too little of? That says nothing of the table.
pub(super) fn is_for_want(e: &SyncError) -> bool {
    e.code.starts_with("53") || e.code == code::STACK_DEPTH && !stack::has_room()
}

/// What becomes of a look that has failed; as `look_at`.
pub(super) fn not_had(relation: pg_sys::Oid, why: Because, e: SyncError) -> Result<bool> {
    let is_transient = e.is_lock_timeout() || e.is_in_use() || e.code.starts_with("40");
    let busy = e.code == BUSY || why.is_aside() && is_transient;
    // (By CASCADE, and by who owns a part of it, a stranger's command changes the table itself.)
    let barred = e.code == code::INSUFFICIENT_PRIVILEGE;
    if why == Because::Due && (busy || barred) {
        // It stays so: nothing has changed that the table rests on.
        let is_strangers = dependency::is_strangers(relation)?;
        if is_strangers {
            dependency::tried_in_vain(relation)?;
        }
        return Ok(is_strangers);
    }
    let reason = match () {
        _ if e.is_lock_timeout() => "another session had locked what it rests on",
        _ if e.is_in_use() => &e.message,
        // In REPEATABLE READ, somebody else has changed it since; or both wait for each other.
        _ if busy || is_transient => "another session was changing it",
        _ => &e.message,
    };
    if busy {
        return put_off(relation, why, reason).map(|()| false);
    }
    if barred && !registry::may(relation, registry::Right::Own)? {
        return put_off(relation, why, &e.message).map(|()| false);
    }
    // Code of a stranger's may raise whatever it likes.
    if e.is_cancellation() || is_for_want(&e) {
        return Err(e);
    }
    let table = pg::qualified_name(relation).map(|(table, _)| table).unwrap_or_default();
    pgrx::warning!(
        "{}",
        format!("could not follow this command for table {table}, which is replaced with every pull now: {reason}")
    );
    match why {
        Because::Due => dependency::give_up(relation),
        _ if is_transient => put_off_as(relation, Due::Busy, reason),
        _ => put_off_as(relation, Due::Failed, reason),
    }
    .map(|()| false)
}

/// Tables that other sessions are about to make rest on what a command has changed, or have since this snapshot: they may have seen it as it was.
pub fn put_off_others(objects: &[(pg_sys::Oid, pg_sys::Oid)], since: &pg::KeptSnapshot) -> Result<()> {
    for relation in dependency::being_made(objects, since)? {
        put_off_as(relation, Due::Busy, "another session was changing what it rests on")?;
    }
    Ok(())
}

/// The same for those that are about to read a table of which less is logged from now on.
pub(super) fn put_off_readers(readers: &[pg_sys::Oid]) -> Result<()> {
    readers.iter().try_for_each(|r| put_off_as(*r, Due::Busy, "another session was changing what it rests on"))
}

/// The same for a table that cannot be looked at yet. What its settings name is followed all the same.
pub fn put_off(relation: pg_sys::Oid, why: Because, reason: &str) -> Result<()> {
    if why.is_altered() {
        follow::follow_aside(relation)?;
    }
    put_off_as(relation, Due::Busy, reason)
}

/// Notes that a look is due; until then nothing that clients have of the table is taken for right.
pub(super) fn put_off_as(relation: pg_sys::Oid, due: Due, reason: &str) -> Result<()> {
    dependency::mark_due(relation, due, reason)?;
    if pg::qualified_name(relation).is_some() {
        registry::changed(relation);
    }
    journal::reset(relation)
}

/// What DDL on the table itself cannot do without, and others can keep from it: everybody waits behind the lock that it has on the table.
pub fn only_briefly<R>(relation: pg_sys::Oid, detail: &str, work: impl FnOnce() -> Result<R>) -> Result<R> {
    subxact::run(|| spi::waiting_briefly(work)).map_err(|e| match e.is_lock_timeout() {
        true => {
            let name = pg::qualified_name(relation).map(|(name, _)| name).unwrap_or_default();
            SyncError::new("55P03", format!("another session is changing how table {name} is synced"))
                .detail(detail)
                .hint("Try again when its transaction has ended.")
        }
        false => e,
    })
}
