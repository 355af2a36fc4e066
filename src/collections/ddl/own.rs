//! DDL on snapsync's own tables is refused where they could not be read and written any more: code knows their columns by number, and writes entries of
//! the log as the server writes catalogs. (Where event triggers are off, it finds out when it opens them: server/pg/own_table.rs.)

use pgrx::pg_sys;

use super::{alters, is_event_trigger, renames, statement};
use crate::log::{change, clock, roles, salt};
use crate::server::error::{code, Result, SyncError};
use crate::server::pg::{self, OwnIndexes, OwnTable, WrittenBy};
use crate::server::spi;

/// Those that are written past the SQL layer.
const WRITTEN: [&OwnTable; 6] =
    [&change::LOG, &salt::SALT, &change::EARLY, &clock::horizon::HORIZON, &clock::history::EPOCH, &roles::TABLE];

/// Before CREATE INDEX. One that is made CONCURRENTLY stands when the command has ended, and who writes meets it before.
pub fn before_index(fcinfo: pg_sys::FunctionCallInfo) -> Result<()> {
    is_event_trigger(fcinfo)?;
    let Some(index) = statement::<pg_sys::IndexStmt>(fcinfo, pg_sys::NodeTag::T_IndexStmt) else { return Ok(()) };
    // SAFETY: a node of this type, whose parameters are a list of IndexElem.
    let (named, is_simple) = unsafe {
        let mut of = spi::pointers::<pg_sys::IndexElem>((*index).indexParams).into_iter();
        (own((*index).relation), (*index).whereClause.is_null() && of.all(|e| (*e).expr.is_null()))
    };
    let refused = |detail: &str| {
        Err(SyncError::new(code::NOT_IN_STATE, "this table of snapsync cannot have such an index").detail(detail))
    };
    match named.and_then(written).map(|table| table.written) {
        Some(WrittenBy::Catalog) if !is_simple => {
            refused("Its rows are written as those of catalogs: an index is of columns, and of all rows.")
        }
        Some(WrittenBy::Heap) => refused("Its rows are written past indexes."),
        _ => Ok(()),
    }
}

/// After ALTER TABLE, or a rule.
pub fn refuse_altered(fcinfo: pg_sys::FunctionCallInfo) -> Result<()> {
    use pg_sys::AlterTableType::{AT_AddColumn, AT_AddInherit, AT_AlterColumnType, AT_DropColumn, AT_SetUnLogged};
    let altered = statement::<pg_sys::AlterTableStmt>(fcinfo, pg_sys::NodeTag::T_AlterTableStmt);
    let renamed = statement::<pg_sys::RenameStmt>(fcinfo, pg_sys::NodeTag::T_RenameStmt);
    let rule = statement::<pg_sys::RuleStmt>(fcinfo, pg_sys::NodeTag::T_RuleStmt);
    // SAFETY: nodes of these types.
    let named = unsafe {
        let range = altered.map(|s| (*s).relation).or(renamed.map(|s| (*s).relation)).or(rule.map(|s| (*s).relation));
        range.and_then(|range| own(range))
    };
    if is_own_attached(fcinfo) {
        return Err(not_ours());
    }
    let Some(table) = named else { return Ok(()) };
    let columns = [AT_AddColumn, AT_AlterColumnType, AT_DropColumn].into_iter().any(|what| alters(fcinfo, what));
    if columns || renames(fcinfo) == Some(pg_sys::ObjectType::OBJECT_COLUMN) {
        return Err(SyncError::new(code::NOT_IN_STATE, "columns of snapsync's own tables cannot be altered")
            .detail("They are read and written as they were made, and so a dump of them is loaded."));
    }
    if alters(fcinfo, AT_SetUnLogged) || alters(fcinfo, AT_AddInherit) {
        return Err(not_ours());
    }
    let Some(own) = written(table) else { return Ok(()) };
    // SAFETY: the command has locked the table; what is opened is closed, or by the abort.
    unsafe {
        let relation = pg_sys::relation_open(table, pg_sys::NoLock as i32);
        own.check(relation)?;
        if own.written == WrittenBy::Catalog {
            OwnIndexes::open(own, relation)?.close();
        }
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
    }
    Ok(())
}

fn not_ours() -> SyncError {
    SyncError::new(code::NOT_IN_STATE, "snapsync's own tables cannot be unlogged, nor children or partitions of others").detail(
        "After a crash clients would miss what a table that is not logged has lost. A parent's columns and indexes are its children's.",
    )
}

/// Has ALTER TABLE ... ATTACH PARTITION named one of our own?
fn is_own_attached(fcinfo: pg_sys::FunctionCallInfo) -> bool {
    let Some(altered) = statement::<pg_sys::AlterTableStmt>(fcinfo, pg_sys::NodeTag::T_AlterTableStmt) else {
        return false;
    };
    // SAFETY: a node of this type, whose commands are a list of AlterTableCmd; that of ATTACH PARTITION has a PartitionCmd.
    unsafe {
        spi::pointers::<pg_sys::AlterTableCmd>((*altered).cmds).into_iter().any(|command| {
            (*command).subtype == pg_sys::AlterTableType::AT_AttachPartition
                && own((*(*command).def.cast::<pg_sys::PartitionCmd>()).name).is_some()
        })
    }
}

/// The relation of this name, if it is one that the extension has made for itself. (Its scripts may alter it: those of a new version.)
///
/// # Safety
/// A node of this type, or NULL.
unsafe fn own(range: *const pg_sys::RangeVar) -> Option<pg_sys::Oid> {
    if range.is_null() {
        return None;
    }
    // SAFETY: see above; look-ups in catalogs, without a lock.
    unsafe {
        let (missing_ok, no_lock) = (pg_sys::RVROption::RVR_MISSING_OK, pg_sys::NoLock as i32);
        let found = pg_sys::RangeVarGetRelidExtended(range, no_lock, missing_ok, None, std::ptr::null_mut());
        let ours = pg_sys::get_namespace_oid(c"snapsync".as_ptr(), true);
        if found == pg_sys::InvalidOid || pg_sys::get_rel_namespace(found) != ours {
            return None;
        }
        let extension = pg_sys::get_extension_oid(c"snapsync".as_ptr(), true);
        let is_script = pg_sys::creating_extension && pg_sys::CurrentExtensionObject == extension;
        let is_own = pg_sys::getExtensionOfObject(pg_sys::RelationRelationId, found) == extension;
        (is_own && !is_script).then_some(found)
    }
}

fn written(table: pg_sys::Oid) -> Option<&'static OwnTable> {
    WRITTEN.into_iter().find(|own| pg::relation_oid(own.name).ok() == Some(table))
}
