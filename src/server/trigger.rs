//! Triggers on users' tables, made, switched and dropped by the numbers of the tables. A command would name the table, and the server looks
//! that name up when it has got its lock: another table may be called so by then.
//!
//! What the server runs of a table meanwhile is expressions in its partition key, and in those of its parts, where a trigger for each row is made: there
//! must be none (`has_expression_key`). No event trigger fires, as with what the server itself does beside a command.

use std::ffi::{c_char, CStr};

use pgrx::pg_sys::{self, NodeTag};

use crate::server::error::{Remembering, Result};
use crate::server::node::{list, node};
use crate::server::pg::{self, ActiveSnapshot};
use crate::server::spi;

/// When a trigger fires (`pg_trigger.tgenabled`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fires {
    Always,
    Never,
}

impl Fires {
    fn code(self) -> c_char {
        let code = match self {
            Fires::Always => pg_sys::TRIGGER_FIRES_ALWAYS,
            Fires::Never => pg_sys::TRIGGER_DISABLED,
        };
        code as c_char
    }
}

/// An AFTER trigger.
pub struct Definition<'a> {
    pub name: &'a str,
    /// For each row that is inserted, updated or deleted; else for TRUNCATE.
    pub for_rows: bool,
    /// With its schema: nothing of a user's.
    pub function: [&'static CStr; 2],
    pub argument: &'a str,
    pub fires: Fires,
}

/// Makes a trigger, or puts it in the place of the one that is called so. The table is locked against writers; where a trigger for rows is
/// made on a partitioned table, all of its parts are, on which the server makes it as well.
pub fn make(table: pg_sys::Oid, trigger: &Definition) -> Result<()> {
    let _remembering = Remembering::start();
    let (name, argument) = (spi::c_string(trigger.name)?, spi::c_string(trigger.argument)?);
    // By it the server finds out which parts are being detached concurrently, and are none any more. An older one has parts that nobody has
    // looked at.
    let _snapshot = ActiveSnapshot::latest();
    let events = match trigger.for_rows {
        true => pg_sys::TRIGGER_TYPE_INSERT | pg_sys::TRIGGER_TYPE_UPDATE | pg_sys::TRIGGER_TYPE_DELETE,
        false => pg_sys::TRIGGER_TYPE_TRUNCATE,
    };
    // SAFETY: the statement as the parser makes it, but for the table's name, which is not looked at where its number is given; its strings
    // outlive the call. There is no WHEN, so nothing asks for the text of the command.
    unsafe {
        let string = |text: &CStr| pg_sys::makeString(text.as_ptr().cast_mut());
        let statement: *mut pg_sys::CreateTrigStmt = node(NodeTag::T_CreateTrigStmt);
        (*statement).replace = true;
        (*statement).trigname = name.as_ptr().cast_mut();
        (*statement).funcname = list(&trigger.function.map(string));
        (*statement).args = list(&[string(&argument)]);
        (*statement).row = trigger.for_rows;
        (*statement).timing = pg_sys::TRIGGER_TYPE_AFTER as i16;
        (*statement).events = events as i16;
        let (no_text, none, no_condition) = (std::ptr::null(), pg_sys::InvalidOid, std::ptr::null_mut());
        pg_sys::CreateTriggerFiringOn(
            statement,
            no_text,
            table,
            none,
            none,
            none,
            none,
            none,
            no_condition,
            false,
            false,
            trigger.fires.code(),
        );
        pg_sys::CommandCounterIncrement();
    }
    Ok(())
}

/// Lets the trigger of this name fire so; not those on the table's parts. The table is locked against writers.
///
/// (What ALTER TABLE calls for it goes on to the parts in PostgreSQL 15, and has other arguments in each version.)
pub fn set_fires(table: pg_sys::Oid, name: &str, fires: Fires) -> Result<()> {
    let _remembering = Remembering::start();
    let name = spi::c_string(name)?;
    // SAFETY: an index scan of a catalog for one row; the row that is changed is a copy. On an ERROR the resource owner closes all.
    unsafe {
        let trigger = pg_sys::get_trigger_oid(table, name.as_ptr(), false);
        let catalog = pg_sys::table_open(pg_sys::TriggerRelationId, pg_sys::RowExclusiveLock as i32);
        let no_snapshot = std::ptr::null_mut();
        scan_for(catalog, trigger, no_snapshot, |tuple| {
            let changed = pg_sys::heap_copytuple(tuple);
            let form = pg_sys::GETSTRUCT(changed).cast::<pg_sys::FormData_pg_trigger>();
            if (*form).tgenabled != fires.code() {
                (*form).tgenabled = fires.code();
                pg_sys::CatalogTupleUpdate(catalog, &raw mut (*changed).t_self, changed);
            }
            pg_sys::heap_freetuple(changed);
        });
        if (&raw const pg_sys::object_access_hook).read().is_some() {
            pg_sys::RunObjectPostAlterHook(pg_sys::TriggerRelationId, trigger, 0, pg_sys::InvalidOid, false);
        }
        pg_sys::table_close(catalog, pg_sys::RowExclusiveLock as i32);
        pg::invalidate(table);
        pg_sys::CommandCounterIncrement();
    }
    Ok(())
}

/// Drops the trigger of this name, if there is one, and with it those that the server has made of it on the table's parts. The table, and
/// the parts of a trigger for rows, are locked against everybody; one that this very session is using is an ERROR.
pub fn remove(table: pg_sys::Oid, name: &str) -> Result<()> {
    let _remembering = Remembering::start();
    let name = spi::c_string(name)?;
    let _snapshot = ActiveSnapshot::latest();
    // SAFETY: a look-up in a catalog, and a trigger that exists.
    unsafe {
        let trigger = pg_sys::get_trigger_oid(table, name.as_ptr(), true);
        if trigger != pg_sys::InvalidOid {
            let class = pg_sys::TriggerRelationId;
            let address = pg_sys::ObjectAddress { classId: class, objectId: trigger, objectSubId: 0 };
            // No command of anybody's: it is not among what the one under way has dropped.
            let internal = pg_sys::PERFORM_DELETION_INTERNAL as i32;
            pg_sys::performDeletion(&address, pg_sys::DropBehavior::DROP_RESTRICT, internal);
            pg_sys::CommandCounterIncrement();
        }
    }
    Ok(())
}

/// How many triggers are being fired, one inside of another.
pub fn depth() -> i32 {
    // SAFETY: reads a variable of this backend; the arguments are not looked at.
    unsafe { pg_sys::pg_trigger_depth(std::ptr::null_mut()).value() as i32 }
}

/// The table of a trigger that this transaction has dropped.
pub fn table_of_dropped(trigger: pg_sys::Oid) -> Option<pg_sys::Oid> {
    let mut table = None;
    // SAFETY: an index scan of a catalog for all versions of one row, none of which is vacuumed before this transaction ends. A row keeps its
    // table, and no other row gets its number while it stands there.
    unsafe {
        let catalog = pg_sys::table_open(pg_sys::TriggerRelationId, pg_sys::AccessShareLock as i32);
        scan_for(catalog, trigger, &raw mut pg_sys::SnapshotAnyData, |tuple| {
            table = Some((*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_trigger>()).tgrelid);
        });
        pg_sys::table_close(catalog, pg_sys::AccessShareLock as i32);
    }
    table
}

/// Gives the catalog's row of this trigger, as the snapshot shows it, to `each`; NULL: as catalogs are read.
///
/// # Safety
/// The catalog of triggers, open; a snapshot.
unsafe fn scan_for(
    catalog: pg_sys::Relation,
    trigger: pg_sys::Oid,
    snapshot: pg_sys::Snapshot,
    each: impl FnOnce(pg_sys::HeapTuple),
) {
    // SAFETY: see above. The row is valid until the scan ends.
    unsafe {
        let mut key = pg_sys::ScanKeyData::default();
        let (column, equal) = (pg_sys::Anum_pg_trigger_oid as i16, pg_sys::BTEqualStrategyNumber as u16);
        pg_sys::ScanKeyInit(&mut key, column, equal, pg_sys::F_OIDEQ.into(), pg_sys::Datum::from(trigger));
        let scan = pg_sys::systable_beginscan(catalog, pg_sys::TriggerOidIndexId.into(), true, snapshot, 1, &mut key);
        let tuple = pg_sys::systable_getnext(scan);
        if !tuple.is_null() {
            each(tuple);
        }
        pg_sys::systable_endscan(scan);
    }
}
