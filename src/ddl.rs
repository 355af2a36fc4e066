//! The event triggers: tracked tables stay right when their columns, policies, partitions or readers change.

use std::cell::Cell;

use pgrx::pg_sys;

use crate::error::{code, Result, SyncError};
use crate::registry::{self, owner_query};
use crate::shape::{self, Because};
use crate::spi;

thread_local! {
    /// DDL of our own under way, which fires event triggers like any other.
    static OWN: Cell<u32> = const { Cell::new(0) };
}

/// While this lives, DDL is our own and changes nothing that we would have to look at.
pub struct OwnCommands(());

pub fn own_commands() -> OwnCommands {
    OWN.with(|o| o.set(o.get() + 1));
    OwnCommands(())
}

impl Drop for OwnCommands {
    fn drop(&mut self) {
        OWN.with(|o| o.set(o.get() - 1));
    }
}

fn is_event_trigger(fcinfo: pg_sys::FunctionCallInfo) -> Result<()> {
    // SAFETY: fcinfo is valid; its context says what kind of call this is (CALLED_AS_EVENT_TRIGGER).
    let called_right = unsafe {
        let context = (*fcinfo).context;
        !context.is_null() && (*context).type_ == pg_sys::NodeTag::T_EventTriggerData
    };
    if called_right {
        return Ok(());
    }
    Err(SyncError::new("39P03", "this function can only be called by an event trigger")
        .hint("It works by itself; there is nothing to call."))
}

/// DROP OWNED takes roles out of policies and privileges, and lists none of it; nor is a subscription listed.
fn lists_nothing(fcinfo: pg_sys::FunctionCallInfo) -> bool {
    // SAFETY: is_event_trigger has seen that the context is an EventTriggerData, whose parse tree is the command's.
    unsafe {
        let tree = (*(*fcinfo).context.cast::<pg_sys::EventTriggerData>()).parsetree;
        let unlisted = [pg_sys::NodeTag::T_DropOwnedStmt, pg_sys::NodeTag::T_DropSubscriptionStmt];
        !tree.is_null() && unlisted.contains(&(*tree).type_)
    }
}

/// Is it ALTER TABLE ... ATTACH PARTITION?
fn attaches(fcinfo: pg_sys::FunctionCallInfo) -> bool {
    // SAFETY: as above; nodes with these tags are of these types, and `cmds` is a list of AlterTableCmd.
    unsafe {
        let tree = (*(*fcinfo).context.cast::<pg_sys::EventTriggerData>()).parsetree;
        if tree.is_null() || (*tree).type_ != pg_sys::NodeTag::T_AlterTableStmt {
            return false;
        }
        let commands = (*tree.cast::<pg_sys::AlterTableStmt>()).cmds;
        let mut commands = spi::pointers::<pg_sys::AlterTableCmd>(commands).into_iter();
        commands.any(|c| (*c).subtype == pg_sys::AlterTableType::AT_AttachPartition)
    }
}

/// Looks again at everything tracked, after a command that may have changed it.
pub fn on_command_end(fcinfo: pg_sys::FunctionCallInfo) -> Result<()> {
    is_event_trigger(fcinfo)?;
    if OWN.with(Cell::get) > 0 || restoring()? || !lists_nothing(fcinfo) && !concerns_us()? {
        return Ok(());
    }
    if attaches(fcinfo) {
        refuse_partitions()?;
    }
    shape::refresh_all(Because::Ddl)
}

/// Forgets tables that are dropped, and resets those whose policies were.
pub fn on_drop(fcinfo: pg_sys::FunctionCallInfo) -> Result<()> {
    is_event_trigger(fcinfo)?;
    if OWN.with(Cell::get) > 0 {
        return Ok(());
    }
    // With DROP EXTENSION our own tables are on their way out.
    if crate::pg::relation_oid(c"collection").is_err() {
        return Ok(());
    }
    let dropped = owner_query(
        "SELECT d.objid FROM pg_event_trigger_dropped_objects() AS d \
         WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0 \
           AND EXISTS (SELECT FROM snapsync.collection WHERE relation = d.objid)",
        &[],
    )?;
    for row in &dropped {
        // What a function of theirs read is no more, or another table under its name soon; no policy may have gone with it.
        let readers = owner_query(
            "SELECT relation::oid FROM snapsync.access WHERE access = $1 AND relation <> $1 \
             AND EXISTS (SELECT FROM pg_class WHERE oid = relation)",
            &[spi::arg(row.oid(0))],
        )?;
        registry::forget(row.oid(0))?;
        readers.iter().try_for_each(|reader| crate::track::reset(reader.oid(0)))?;
    }
    let kinds = owner_query(
        "SELECT bool_or(object_type = 'trigger' AND original AND object_identity ~ '^\"?00_snapsync_(track|truncate)\"? on '), \
                bool_or(object_type IN ('policy', 'table', 'table column', 'table constraint', 'index', 'function')) \
         FROM pg_event_trigger_dropped_objects() WHERE NOT is_temporary",
        &[],
    )?;
    let Some(kinds) = kinds.first() else { return Ok(()) };
    if kinds.bool(0) {
        return Err(SyncError::new(code::NOT_IN_STATE, "a trigger of snapsync cannot be dropped")
            .detail("Changes would go unnoticed.")
            .hint("Call snapsync.disable() for the table to stop syncing it."));
    }
    // A transaction that drops its temporary tables must not make others wait.
    if !kinds.bool(1) {
        return Ok(());
    }
    shape::refresh_all(Because::Ddl)
}

/// Not every table that is created (a temporary one, say) or altered is worth a look: a tracked one, the root of its partition
/// tree, or one that it has been attached to; one that has got the name of a declared access table.
fn concerns_us() -> Result<bool> {
    let rows = owner_query(
        "SELECT EXISTS (SELECT FROM pg_event_trigger_ddl_commands() AS d \
           WHERE NOT starts_with(coalesce(d.schema_name, ''), 'pg_temp') \
             AND (d.classid <> 'pg_class'::regclass OR d.object_type <> ALL ('{table,table column,index,sequence}') OR d.command_tag IN ('GRANT', 'REVOKE') \
                  OR EXISTS (SELECT FROM snapsync.collection AS c WHERE c.relation IN (d.objid, pg_partition_root(d.objid)) \
                                OR c.relation IN (SELECT inhparent FROM pg_inherits WHERE inhrelid = d.objid) \
                                OR c.relation IN (SELECT relid FROM pg_partition_tree(d.objid)) \
                                OR c.access_tables ? d.object_identity OR c.scope_reads -> 'tables' ? d.object_identity)))",
        &[],
    )?;
    Ok(rows.first().is_some_and(|r| r.bool(0)))
}

/// A synced table does not become a partition: its changes would be logged under the root, which is not synced. Only the command
/// that does it fails, no later one where it was done behind our back; of that `doctor` tells.
fn refuse_partitions() -> Result<()> {
    let rows = owner_query(
        "SELECT c.relation::oid FROM pg_event_trigger_ddl_commands() AS d, pg_partition_tree(d.objid) AS p \
           JOIN snapsync.collection AS c ON c.relation = p.relid \
         WHERE d.classid = 'pg_class'::regclass AND d.object_type = 'table' AND c.name IS NOT NULL \
           AND pg_partition_root(c.relation) <> c.relation",
        &[],
    )?;
    rows.first().map_or(Ok(()), |row| Err(refuse_partition(row.oid(0))))
}

/// Is this a dump being loaded? Then table, data, triggers and policies come one after the other, each complete in the end.
/// Dumps begin by setting both of these, but so may a migration: only in a database on which the log's history has not
/// begun yet, because it is another one's, is it a restore.
fn restoring() -> Result<bool> {
    if crate::pg::in_recovery() || crate::clock::history::is_known()? {
        return Ok(false);
    }
    // SAFETY: reads variables of this backend. (A query of ours would see row_security as it is pinned.)
    Ok(unsafe { !pg_sys::check_function_bodies && !pg_sys::row_security })
}

/// After ALTER TABLE ... that rewrites the table: its values may have changed without a trigger.
pub fn on_rewrite(fcinfo: pg_sys::FunctionCallInfo) -> Result<()> {
    is_event_trigger(fcinfo)?;
    let rows = owner_query("SELECT pg_event_trigger_table_rewrite_oid()", &[])?;
    let Some(relation) = rows.first().map(|r| crate::pg::root_of(r.oid(0))) else { return Ok(()) };
    if !restoring()? && registry::load(relation)?.is_some() {
        crate::track::reset(relation)?;
    }
    Ok(())
}

/// Refuses to make a synced table a partition.
fn refuse_partition(relation: pg_sys::Oid) -> SyncError {
    let table = crate::pg::qualified_name(relation).map(|(table, _)| table).unwrap_or_default();
    SyncError::new(code::NOT_IN_STATE, format!("table {table} is synced by itself and cannot become a partition"))
        .detail("Partitions are tracked on the partitioned table.")
        .hint(format!("Call snapsync.disable('{table}') first."))
}

/// Refuses DDL that takes a column away that a collection cannot be without.
pub fn refuse_loss(table: &str, column: &str, role: &str) -> SyncError {
    SyncError::new(code::NOT_IN_STATE, format!("column \"{column}\" of table \"{table}\" is in use"))
        .detail(format!("It is {role} of a synced table."))
        .hint("Change the settings with snapsync.enable(), or call snapsync.disable(), first.")
}
