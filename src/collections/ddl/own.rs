//! DDL on snapsync's own tables is refused where they could not be read and written any more: code knows their columns by number, their indexes by
//! name, and writes entries of the log as the server writes catalogs. (Where event triggers are off, it finds out when it opens them:
//! server/pg/own_table.rs.)

use std::ffi::{c_char, CStr};

use pgrx::pg_sys;

use super::{alters, emptied, is_event_trigger, renames, statement};
use crate::log::{change, clock, roles, salt};
use crate::server::error::{code, Result, SyncError};
use crate::server::pg::{self, OwnIndexes, OwnTable, WrittenBy};
use crate::server::spi;

/// Those that are written past the SQL layer.
const WRITTEN: [&OwnTable; 6] =
    [&change::LOG, &salt::SALT, &change::EARLY, &clock::horizon::HORIZON, &clock::history::EPOCH, &roles::TABLE];

/// The indexes of all, those of constraints, too: code knows them by name, or a statement goes by what they make unique. PostgreSQL lets an
/// index of an extension's table go as any other. (The test `own_tables` tries to drop each one that there is.)
const INDEXES: [&str; 24] = [
    "access_access",
    "access_pkey",
    "change_relation_bucket_stamp",
    "change_relation_stamp",
    "collection_name_key",
    "collection_pkey",
    "collection_qualified_name_key",
    "dependency_name",
    "dependency_object",
    "dependency_relation",
    "early_class",
    "early_number",
    "early_stamp",
    "horizon_at",
    "horizon_snapmin",
    "mutation_client_pkey",
    "mutation_failure_at",
    "mutation_failure_pkey",
    "mutator_pkey",
    "push_at",
    "push_pkey",
    "role_pkey",
    "schema_version_name",
    "schema_version_version_key",
];

/// The other relations. (Who has renamed one, where event triggers were off, may give it its name again.)
const RELATIONS: [&str; 17] = [
    "access",
    "change",
    "clock",
    "collection",
    "compaction",
    "dependency",
    "early",
    "epoch",
    "horizon",
    "mutation_client",
    "mutation_failure",
    "mutator",
    "push",
    "role",
    "salt",
    "schema_version",
    "status",
];

/// Before CREATE INDEX and DROP INDEX. What is done CONCURRENTLY is done when the command has ended, and half of it is committed before.
pub fn before_index(fcinfo: pg_sys::FunctionCallInfo) -> Result<()> {
    is_event_trigger(fcinfo)?;
    if let Some(drop) = statement::<pg_sys::DropStmt>(fcinfo, pg_sys::NodeTag::T_DropStmt) {
        // SAFETY: a node of this type, whose objects are lists of names.
        return unsafe { refuse_concurrent_drop(drop) };
    }
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
    refuse_renamed(fcinfo)?;
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

/// After RENAME and SET SCHEMA: of what the extension has made in its schema. (Functions that clients call are in another, and may move.)
fn refuse_renamed(fcinfo: pg_sys::FunctionCallInfo) -> Result<()> {
    use pg_sys::ObjectType::{OBJECT_SCHEMA, OBJECT_TABCONSTRAINT, OBJECT_TRIGGER};
    let renamed = statement::<pg_sys::RenameStmt>(fcinfo, pg_sys::NodeTag::T_RenameStmt);
    let moved = statement::<pg_sys::AlterObjectSchemaStmt>(fcinfo, pg_sys::NodeTag::T_AlterObjectSchemaStmt);
    if renamed.is_none() && moved.is_none() || is_script() {
        return Ok(());
    }
    // SAFETY: look-ups in catalogs, without a lock; nodes of these types, whose names are NUL-terminated or NULL.
    unsafe {
        let (extension, ours) = (extension(), pg_sys::get_namespace_oid(c"snapsync".as_ptr(), true));
        let range = renamed.map(|r| (*r).relation).or(moved.map(|m| (*m).relation));
        let relation = range.and_then(|range| range.as_ref()).map(|range| text(range.relname)).unwrap_or_default();
        let (kind, part) = renamed.map_or((0, String::new()), |r| ((*r).renameType, text((*r).subname)));
        let is_part = kind == OBJECT_TABCONSTRAINT && INDEXES.contains(&&*part)
            || kind == OBJECT_TRIGGER && part == emptied::TRIGGER;
        let mut is_own = is_part && range.is_some_and(|range| own(range).is_some());
        // (Without these nothing else can be asked.)
        let is_first = relation == "collection" || kind == OBJECT_SCHEMA && part == "snapsync";
        is_own |= is_first && extension != pg_sys::InvalidOid && pg::relation_oid(c"collection").is_err();
        if is_own {
            return Err(keeps_its_name());
        }
        let (is_index, is_relation) = (INDEXES.contains(&&*relation), RELATIONS.contains(&&*relation));
        super::each_collected(|command| {
            if command.type_ != pg_sys::CollectedCommandType::SCT_Simple || ours == pg_sys::InvalidOid {
                return;
            }
            let simple = command.d.simple;
            // (Of a column there is a word of its own.)
            if simple.address.objectSubId != 0 {
                return;
            }
            let (class, object) = (simple.address.classId, simple.address.objectId);
            let is_member = || pg_sys::getExtensionOfObject(class, object) == extension;
            is_own |= if moved.is_some() {
                simple.secondaryObject.objectId == ours && is_member()
            } else if class == pg_sys::RelationRelationId {
                let is_its = is_index && pg_sys::get_rel_relkind(object) as u8 == pg_sys::RELKIND_INDEX;
                pg_sys::get_rel_namespace(object) == ours && (is_its || is_relation && is_member())
            } else {
                pg_sys::get_object_namespace(&simple.address) == ours && is_member()
            };
        })?;
        if is_own {
            Err(keeps_its_name())
        } else {
            Ok(())
        }
    }
}

fn keeps_its_name() -> SyncError {
    SyncError::new(code::NOT_IN_STATE, "what snapsync has made for itself keeps its name and its schema")
        .detail("Its code knows it by these: writes, pulls and pushes would fail.")
        .hint("An index that is to be built anew keeps its name with REINDEX INDEX CONCURRENTLY.")
}

/// After DROP, of whatever kind: an index goes with its constraint, too.
pub fn refuse_dropped() -> Result<()> {
    if is_script() {
        return Ok(());
    }
    let rows = spi::read_now(
        "SELECT object_type, coalesce(object_name, address_names[3]) FROM pg_event_trigger_dropped_objects() \
         WHERE classid = 'pg_class'::regclass AND object_type = 'index' AND schema_name = 'snapsync' AND object_name = ANY ($1) \
            OR classid = 'pg_trigger'::regclass AND address_names[1] = 'snapsync' AND address_names[3] = $2 LIMIT 1",
        &[spi::arg(INDEXES.to_vec()), spi::arg(emptied::TRIGGER)],
    )?;
    let Some(row) = rows.first() else { return Ok(()) };
    let (kind, name) = (row.string(0), row.string(1));
    Err(match &*kind {
        "index" => index_stays(&name),
        _ => SyncError::new(code::NOT_IN_STATE, format!("{kind} \"{name}\" of snapsync's own cannot be dropped"))
            .detail("Clients would not hear of what TRUNCATE takes."),
    })
}

/// # Safety
/// A node of this type, of DROP INDEX.
unsafe fn refuse_concurrent_drop(drop: *mut pg_sys::DropStmt) -> Result<()> {
    // SAFETY: see above; look-ups in catalogs, without a lock.
    unsafe {
        if !(*drop).concurrent || (*drop).removeType != pg_sys::ObjectType::OBJECT_INDEX || is_script() {
            return Ok(());
        }
        for names in spi::pointers::<pg_sys::List>((*drop).objects) {
            let range = pg_sys::makeRangeVarFromNameList(names);
            let name = text((*range).relname);
            if INDEXES.contains(&&*name) && in_our_schema(range).is_some() {
                return Err(index_stays(&name));
            }
        }
        Ok(())
    }
}

fn index_stays(name: &str) -> SyncError {
    SyncError::new(code::NOT_IN_STATE, format!("index \"{name}\" of snapsync's own cannot be dropped"))
        .detail("Its code knows it by its name: writes, pulls and pushes would fail.")
        .hint(format!("REINDEX INDEX CONCURRENTLY snapsync.{name} builds it anew."))
}

/// # Safety
/// NUL-terminated, or NULL.
unsafe fn text(name: *const c_char) -> String {
    if name.is_null() {
        return String::new();
    }
    // SAFETY: see above.
    unsafe { CStr::from_ptr(name).to_string_lossy().into_owned() }
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
    // SAFETY: see above; a look-up in a catalog.
    unsafe {
        let found = in_our_schema(range)?;
        let is_own = pg_sys::getExtensionOfObject(pg_sys::RelationRelationId, found) == extension();
        (is_own && !is_script()).then_some(found)
    }
}

/// The relation of this name, if it is in the extension's schema.
///
/// # Safety
/// A node of this type, or NULL.
unsafe fn in_our_schema(range: *const pg_sys::RangeVar) -> Option<pg_sys::Oid> {
    if range.is_null() {
        return None;
    }
    // SAFETY: see above; look-ups in catalogs, without a lock.
    unsafe {
        let (missing_ok, no_lock) = (pg_sys::RVROption::RVR_MISSING_OK, pg_sys::NoLock as i32);
        let found = pg_sys::RangeVarGetRelidExtended(range, no_lock, missing_ok, None, std::ptr::null_mut());
        let ours = pg_sys::get_namespace_oid(c"snapsync".as_ptr(), true);
        (found != pg_sys::InvalidOid && pg_sys::get_rel_namespace(found) == ours).then_some(found)
    }
}

fn extension() -> pg_sys::Oid {
    // SAFETY: a look-up in a catalog.
    unsafe { pg_sys::get_extension_oid(c"snapsync".as_ptr(), true) }
}

/// Is a script of the extension's running?
fn is_script() -> bool {
    // SAFETY: reads two variables of this backend.
    unsafe { pg_sys::creating_extension && pg_sys::CurrentExtensionObject == extension() }
}

fn written(table: pg_sys::Oid) -> Option<&'static OwnTable> {
    WRITTEN.into_iter().find(|own| pg::relation_oid(own.name).ok() == Some(table))
}
