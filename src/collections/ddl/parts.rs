//! Partitions that a command brings or takes.

use pgrx::pg_sys;

use super::{each_collected, statement};
use crate::collections::shape::parts::{self, PartMove};
use crate::server::error::{code, Result, SyncError};
use crate::server::{memory, pg, spi};

/// Notes which of those that the command brings or takes have no row (shape/parts.rs). (What is dropped was noted as it went.)
pub fn note(fcinfo: pg_sys::FunctionCallInfo) -> Result<()> {
    use pg_sys::NodeTag::{T_AlterTableStmt, T_CreateSchemaStmt, T_CreateStmt};
    let is = |tag| statement::<pg_sys::Node>(fcinfo, tag).is_some();
    let moved = if is(T_CreateStmt) || is(T_CreateSchemaStmt) {
        created()?
    } else if let Some(altered) = statement::<pg_sys::AlterTableStmt>(fcinfo, T_AlterTableStmt) {
        // SAFETY: a node of this type, whose commands are a list of AlterTableCmd.
        let commands = unsafe { spi::pointers::<pg_sys::AlterTableCmd>((*altered).cmds) };
        // SAFETY: as above.
        commands.into_iter().filter_map(|command| unsafe { moved(command) }).collect()
    } else {
        Vec::new()
    };
    if moved.is_empty() {
        return Ok(());
    }
    parts::forget();
    for (moves, top) in moved {
        for row in &spi::read_now("SELECT oid FROM snapsync.parts($1) AS part(oid)", &[spi::arg(top)])? {
            memory::heed();
            parts::note(moves, row.oid(0))?;
        }
    }
    Ok(())
}

/// The tables that the command has created. (CREATE SCHEMA creates several.)
fn created() -> Result<Vec<(PartMove, pg_sys::Oid)>> {
    let mut created = Vec::new();
    each_collected(|command| {
        // SAFETY: of a simple command it is the variant `simple`, and there is its tree.
        unsafe {
            if command.type_ == pg_sys::CollectedCommandType::SCT_Simple
                && (*command.parsetree).type_ == pg_sys::NodeTag::T_CreateStmt
            {
                created.push((PartMove::In, command.d.simple.address.objectId));
            }
        }
    })?;
    Ok(created)
}

/// The partition that this part of ALTER TABLE brings or takes. (Before PostgreSQL 16 its record of the command does not say which. The command has locked what
/// has this name.) Not where it takes it CONCURRENTLY: what was deleted there after the first half of that is not logged under the root any more.
///
/// # Safety
/// A node of this type.
unsafe fn moved(command: *const pg_sys::AlterTableCmd) -> Option<(PartMove, pg_sys::Oid)> {
    // SAFETY: see above; these two commands have a PartitionCmd. A look-up in a catalog, without a lock.
    unsafe {
        let moves = match (*command).subtype {
            pg_sys::AlterTableType::AT_AttachPartition => PartMove::In,
            pg_sys::AlterTableType::AT_DetachPartition => PartMove::Out,
            _ => return None,
        };
        let part = (*command).def.cast::<pg_sys::PartitionCmd>();
        if (*part).concurrent {
            return None;
        }
        let (missing_ok, no_lock) = (pg_sys::RVROption::RVR_MISSING_OK, pg_sys::NoLock as i32);
        let found = pg_sys::RangeVarGetRelidExtended((*part).name, no_lock, missing_ok, None, std::ptr::null_mut());
        (found != pg_sys::InvalidOid).then_some((moves, found))
    }
}

/// A synced table does not become a partition: its changes would be logged under the root, which is not synced. Only the command
/// that does it fails, no later one where it was done behind our back; of that `doctor` tells.
pub fn refuse_partitions() -> Result<()> {
    let rows = spi::read_now(
        "SELECT c.relation::oid FROM pg_event_trigger_ddl_commands() AS d CROSS JOIN LATERAL snapsync.parts(d.objid) AS p(relid) \
         CROSS JOIN LATERAL (SELECT relation, name FROM snapsync.collection WHERE relation = p.relid OFFSET 0) AS c \
         WHERE d.classid = 'pg_class'::regclass AND d.object_type = 'table' AND c.name IS NOT NULL \
           AND pg_partition_root(c.relation) <> c.relation",
        &[],
    )?;
    rows.first().map_or(Ok(()), |row| Err(refuse_partition(row.oid(0))))
}

/// Refuses to make a synced table a partition.
fn refuse_partition(relation: pg_sys::Oid) -> SyncError {
    let table = pg::qualified_name(relation).map(|(table, _)| table).unwrap_or_default();
    SyncError::new(code::NOT_IN_STATE, format!("table {table} is synced by itself and cannot become a partition"))
        .detail("Partitions are tracked on the partitioned table.")
        .hint(format!("Call snapsync.disable('{table}') first."))
}
