//! What waits for the commit to be looked at: constraints that are deferred, and triggers of users that are.
//!
//! PostgreSQL before 18 runs a deferred trigger as whoever is the current user when it fires, and all of them run it under the settings that are in
//! force then. At the commit that is the session's user, or the one of its SET ROLE. In the middle of a function that is SECURITY DEFINER it would be
//! that function's owner: whoever calls it could queue a trigger of his own before, which then had the owner's rights. So here nothing fires that
//! the commit would fire otherwise.

use pgrx::pg_sys;

use crate::server::error::{Remembering, Result};
use crate::server::session::PerTransaction;
use crate::server::{locks, memory, pg, subxact};

/// Fires it now, while an error can still be told apart from others and answered; then it is put back, to fire at commit as usual, and what the
/// transaction has set by SET CONSTRAINTS is as it was. All of that is what rolling back does.
///
/// It is `SET CONSTRAINTS ALL IMMEDIATE` without the parser: where nothing waits, a few microseconds. Only where [`may_be_tried_out`].
pub fn try_out() -> Result<()> {
    subxact::try_out(|| {
        let _remembering = Remembering::told("");
        let mut all_immediate = pg_sys::ConstraintsSetStmt {
            type_: pg_sys::NodeTag::T_ConstraintsSetStmt,
            constraints: std::ptr::null_mut(),
            deferred: false,
        };
        // SAFETY: inside a transaction; the statement is only read. Triggers see what was written until now.
        unsafe {
            pg_sys::CommandCounterIncrement();
            pg_sys::AfterTriggerSetState(&mut all_immediate);
        }
        Ok(())
    })
}

/// Is something deferred that was not tried out? (Too often yes where a statement around this one is not at its end.)
pub fn is_any_waiting() -> Result<bool> {
    // Only writing a row queues what can be deferred, and that takes a number.
    // SAFETY: reads a variable of this backend.
    if unsafe { pg_sys::GetTopTransactionIdIfAny() } == pg_sys::TransactionId::INVALID {
        return Ok(false);
    }
    let now = (pg::next_command(), role());
    if TRIED_OUT.with(|t| t.with(|tried_out| *tried_out == Some(now))) {
        return Ok(false);
    }
    is_waiting(|_| true)
}

thread_local! {
    /// What is deferred by now was tried out, all of it, for this role: as long as no command writes. (Another's push would run the first one's triggers.)
    static TRIED_OUT: PerTransaction<Option<(pg_sys::CommandId, pg_sys::Oid)>> = PerTransaction::until_rollback();
}

/// All that is deferred now has been tried out, and holds. (What a statement around this one has written it queues at its end.)
pub fn is_tried_out() {
    TRIED_OUT.with(|t| t.with(|tried_out| *tried_out = Some((pg::next_command(), role()))));
}

/// As whom a trigger fires at the commit, as things are: the session's user, or the one of its SET ROLE.
fn role() -> pg_sys::Oid {
    // SAFETY: reads a variable of this backend.
    unsafe { pg_sys::GetOuterUserId() }
}

/// Does code of users' wait for the commit?
pub fn is_users_code_waiting() -> Result<bool> {
    is_waiting(|of_users| of_users)
}

/// Is all that is deferred carried out as at the commit, where it fires now?
///
/// What the server itself has made for a constraint is, wherever: the trigger of a foreign key runs its query as the tables' owner, under a search
/// path of its own, and that of a unique value compares columns. (Where an index has expressions or a condition, these are users' code.)
pub fn may_be_tried_out() -> Result<bool> {
    Ok(is_as_at_commit() || !is_users_code_waiting()?)
}

/// Does a trigger that fires now run with the rights and settings that it has at the commit? It does not while a function runs that is SECURITY
/// DEFINER or has a SET clause, nor where the server does something in another's name (an index expression, a foreign key's cascade).
pub fn is_as_at_commit() -> bool {
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: reads variables of this backend. Each subtransaction has one level of settings (xact.c), as the transaction has, and so has each
    // function with a SET clause: the next one has the number of all, and is closed at once, with nothing set in it.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        let next = pg_sys::NewGUCNestLevel();
        pg_sys::AtEOXact_GUC(true, next);
        user == role() && context == 0 && next - 1 == pg_sys::GetCurrentTransactionNestLevel()
    }
}

/// Does a trigger wait that can be deferred? `of`: told whether it runs code that is not the server's.
///
/// The server says only whether anything waits on a table. So it is asked of those that this transaction may have written to, as far as they
/// have such triggers: however many there are in the database, and whatever others do to these.
fn is_waiting(of: impl Fn(bool) -> bool) -> Result<bool> {
    let _remembering = Remembering::start();
    for table in locks::written() {
        memory::heed();
        // SAFETY: looks through the backend's own list of events.
        if deferrable(table).is_some_and(&of) && unsafe { pg_sys::AfterTriggerPendingOnRel(table) } {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Has the table triggers that can be deferred; and does one of them run code that is not the server's?
fn deferrable(table: pg_sys::Oid) -> Option<bool> {
    // SAFETY: the server's own description of the table, which is locked by this transaction, and closed again. (NULL: it is gone.)
    unsafe {
        let relation = pg_sys::RelationIdGetRelation(table);
        if relation.is_null() {
            return None;
        }
        let triggers = match (*relation).trigdesc.as_ref() {
            Some(all) => std::slice::from_raw_parts(all.triggers, all.numtriggers as usize),
            None => &[],
        };
        let mut deferrable = triggers.iter().filter(|trigger| trigger.tgdeferrable).peekable();
        let has = deferrable.peek().is_some().then(|| deferrable.any(|trigger| is_of_users(trigger)));
        pg_sys::RelationClose(relation);
        has
    }
}

/// Its function is a user's, or what the index of its constraint computes.
///
/// # Safety
/// A trigger of an open table.
unsafe fn is_of_users(trigger: &pg_sys::Trigger) -> bool {
    // (Numbers below this are the server's own objects.)
    if trigger.tgfoid.to_u32() >= pg_sys::FirstNormalObjectId {
        return true;
    }
    // SAFETY: a look-up in a cache, whose row is released.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::INDEXRELID as i32;
        let index = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(trigger.tgconstrindid));
        if index.is_null() {
            return false;
        }
        let has = |column: u32| {
            let mut null = true;
            pg_sys::SysCacheGetAttr(cache, index, column as i16, &mut null);
            !null
        };
        let computes = has(pg_sys::Anum_pg_index_indexprs) || has(pg_sys::Anum_pg_index_indpred);
        pg_sys::ReleaseSysCache(index);
        computes
    }
}
