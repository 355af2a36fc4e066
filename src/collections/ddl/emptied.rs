//! TRUNCATE of snapsync's own tables. It takes what is there from everybody, under any snapshot, and no statement of ours does it: it is an operator's
//! who wants space, or a clean table. Where clients can begin anew, they are told to, as `prune()` tells them. What else is lost with a table nobody
//! could make up for, so there it is refused.
//!
//! `horizon` and `role` have no such trigger: who finds nothing there takes all cursors and roles for unknown, and replaces.

use pgrx::pg_sys;

use crate::log::journal;
use crate::server::error::{code, Result, SyncError};
use crate::server::{memory, pg, spi};

/// What it is called (sql/06_event_triggers.sql).
pub const TRIGGER: &str = "snapsync_emptied";

/// The trigger function. After TRUNCATE (of `change`, and of what its entries cannot be found or told apart without) all clients are reset, by entries
/// with the stamp of the transaction that has emptied it. Nobody else has written since, for it has the table locked until it ends; who drew his
/// stamp before and waits to write has a smaller one, and what he writes stays.
///
/// # Safety
/// `fcinfo` is a function call's.
pub unsafe fn emptied(fcinfo: pg_sys::FunctionCallInfo) -> Result<()> {
    // SAFETY: the context says whether this is a trigger call (CALLED_AS_TRIGGER). If so, the relation is valid during the call.
    let (before, table) = unsafe {
        let context = (*fcinfo).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
            return Err(misused());
        }
        let data = &*context.cast::<pg_sys::TriggerData>();
        let timing = data.tg_event & pg_sys::TRIGGER_EVENT_TIMINGMASK;
        if data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK != pg_sys::TRIGGER_EVENT_TRUNCATE {
            return Err(misused());
        }
        (timing == pg_sys::TRIGGER_EVENT_BEFORE, (*data.tg_relation).rd_id)
    };
    let Some((table, name)) = pg::qualified_name(table).filter(|(table, _)| table.starts_with("snapsync.")) else {
        return Err(misused());
    };
    if before {
        return Err(SyncError::new(code::NOT_IN_STATE, format!("table {table} cannot be emptied"))
            .detail("What snapsync has there cannot be found out again.")
            .hint(hint(&name)));
    }
    // As of now, whatever the transaction's snapshot: somebody may have enabled a table, and written there, while this waited for its lock.
    const TRACKED: &str = "SELECT r.oid FROM snapsync.collection AS c JOIN pg_class AS r ON r.oid = c.relation";
    for row in &spi::read_now(TRACKED, &[])? {
        memory::heed();
        journal::reset(row.oid(0))?;
    }
    Ok(())
}

fn misused() -> SyncError {
    SyncError::new("39P01", "snapsync.emptied() is for triggers of snapsync's own tables")
        .hint("It works by itself; there is nothing to call.")
}

/// What to do instead.
fn hint(table: &str) -> &'static str {
    match table {
        "collection" | "access" => "Call snapsync.disable() for each table that is not to be synced any more.",
        "push" => "Answers to pushes go by themselves, after snapsync.push_retention: let that be shorter.",
        "mutation_client" | "mutation_failure" => {
            "snapsync.prune() takes what is known of clients that were away for longer."
        }
        "mutator" => "snapsync.register_mutator(name, NULL) takes a mutator away.",
        _ => "It is small, and has no more than it needs.",
    }
}
