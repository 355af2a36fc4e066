//! Rows of the extension's own tables, read past ACLs; and which version of its row in `pg_authid` a role has.

use std::ffi::CStr;

use pgrx::{pg_sys, FromDatum};

use super::{relation_oid, ActiveSnapshot};
use crate::server::error::Result;

/// A row of one of the extension's own tables, while it is being read.
pub struct OwnRow {
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
}

impl OwnRow {
    /// The column of this number, whose type is `T`.
    pub fn column<T: FromDatum>(&self, attnum: i16) -> Option<T> {
        let mut is_null = false;
        // SAFETY: the tuple is of the descriptor, and valid as long as `row_by_name` lends it out.
        unsafe {
            let datum = pg_sys::heap_getattr(self.tuple, i32::from(attnum), self.descriptor, &mut is_null);
            T::from_datum(datum, is_null)
        }
    }
}

/// A scan's key on the first column: the index, what compares, and the value.
type FirstColumn<I> = (I, u32, pg_sys::Datum);

/// Reads the row of one of the extension's own tables whose first column, a unique name, is this one.
pub fn row_by_name<R>(
    table: &'static CStr,
    index: &'static CStr,
    name: &CStr,
    snapshot: &ActiveSnapshot,
    read: impl FnOnce(&OwnRow) -> R,
) -> Result<Option<R>> {
    // A name's comparison stops at its NUL.
    first_row(table, Some((index, pg_sys::F_NAMEEQ, pg_sys::Datum::from(name.as_ptr()))), snapshot, read)
}

/// Reads the row of one of the extension's own tables that has no other.
pub fn only_row<R>(
    table: &'static CStr,
    snapshot: &ActiveSnapshot,
    read: impl FnOnce(&OwnRow) -> R,
) -> Result<Option<R>> {
    first_row(table, None, snapshot, read)
}

/// Reads all rows of one of the extension's own tables, in the order in which they stand there.
pub fn all_rows(table: &'static CStr, snapshot: &ActiveSnapshot, mut read: impl FnMut(&OwnRow)) -> Result<()> {
    // SAFETY: the table exists; on an ERROR the resource owner closes it.
    unsafe {
        let relation = pg_sys::table_open(relation_oid(table)?, pg_sys::AccessShareLock as i32);
        let none = pg_sys::InvalidOid;
        let scan = pg_sys::systable_beginscan(relation, none, false, snapshot.raw(), 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            read(&OwnRow { tuple, descriptor: (*relation).rd_att });
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
    }
    Ok(())
}

/// Is there a row of one of the extension's own tables, as they are now, whose first column is this Oid?
pub fn has_row_of(table: &'static CStr, index: &'static CStr, oid: pg_sys::Oid) -> Result<bool> {
    let now = ActiveSnapshot::latest();
    Ok(first_row(table, Some((index, pg_sys::F_OIDEQ, pg_sys::Datum::from(oid))), &now, |_| ())?.is_some())
}

/// The number of the transaction that has made this role's row, as the active snapshot sees it: `pg_authid.xmin`, which `pg_roles` has not, and which only a
/// superuser may read. The extension's owner need not be one any more.
pub fn version_of_role(role: pg_sys::Oid) -> Result<Option<u32>> {
    // SAFETY: the snapshot of the statement that asks. A tuple has its system columns, and this one is never NULL.
    unsafe {
        let by = (|| Ok(pg_sys::Oid::from(pg_sys::AuthIdOidIndexId)), pg_sys::F_OIDEQ, pg_sys::Datum::from(role));
        scan(pg_sys::AuthIdRelationId, Some(by), pg_sys::GetActiveSnapshot(), |row| {
            (*(*row.tuple).t_data).t_choice.t_heap.t_xmin.into_inner()
        })
    }
}

/// By an index on the first column, or without one.
fn first_row<R>(
    table: &'static CStr,
    by: Option<FirstColumn<&'static CStr>>,
    snapshot: &ActiveSnapshot,
    read: impl FnOnce(&OwnRow) -> R,
) -> Result<Option<R>> {
    let by = by.map(|(index, equality, value)| (move || relation_oid(index), equality, value));
    // SAFETY: the snapshot lives as long as it is lent.
    unsafe { scan(relation_oid(table)?, by, snapshot.raw(), read) }
}

/// # Safety
/// The snapshot is valid, and what the key's value points to outlives the call.
unsafe fn scan<R>(
    table: pg_sys::Oid,
    by: Option<FirstColumn<impl FnOnce() -> Result<pg_sys::Oid>>>,
    snapshot: pg_sys::Snapshot,
    read: impl FnOnce(&OwnRow) -> R,
) -> Result<Option<R>> {
    // SAFETY: the relations exist; on an ERROR the resource owner closes them.
    unsafe {
        let relation = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
        let mut key = pg_sys::ScanKeyData::default();
        let by_index = by.is_some();
        let (index, keys) = match by {
            Some((index, equality, value)) => {
                pg_sys::ScanKeyInit(&mut key, 1, pg_sys::BTEqualStrategyNumber as u16, equality.into(), value);
                // Not before there is a lock: REINDEX CONCURRENTLY puts another index in the place of this one.
                (index()?, 1)
            }
            None => (pg_sys::InvalidOid, 0),
        };
        let scan = pg_sys::systable_beginscan(relation, index, by_index, snapshot, keys, &mut key);
        let tuple = pg_sys::systable_getnext(scan);
        let found = (!tuple.is_null()).then(|| read(&OwnRow { tuple, descriptor: (*relation).rd_att }));
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
        Ok(found)
    }
}

/// Reads the rows of one of the extension's own tables that transactions are inserting which have not ended: of others, and with these Oids in
/// columns of the index.
pub fn being_made(
    table: &'static CStr,
    index: &'static CStr,
    oids: &[(i16, pg_sys::Oid)],
    mut read: impl FnMut(&OwnRow),
) -> Result<()> {
    let table = relation_oid(table)?;
    let mut keys: Vec<pg_sys::ScanKeyData> = vec![Default::default(); oids.len()];
    // SAFETY: the relations exist; on an ERROR the resource owner closes them. A dirty snapshot is filled in for each row that a scan
    // returns (HeapTupleSatisfiesDirty): with the transaction that has made the row, where that has not ended and is not ours.
    unsafe {
        let relation = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
        let index = relation_oid(index)?;
        let mut snapshot =
            pg_sys::SnapshotData { snapshot_type: pg_sys::SnapshotType::SNAPSHOT_DIRTY, ..Default::default() };
        for (key, (attnum, oid)) in keys.iter_mut().zip(oids) {
            let equal = pg_sys::BTEqualStrategyNumber as u16;
            pg_sys::ScanKeyInit(key, *attnum, equal, pg_sys::F_OIDEQ.into(), pg_sys::Datum::from(*oid));
        }
        let scan =
            pg_sys::systable_beginscan(relation, index, true, &mut snapshot, keys.len() as i32, keys.as_mut_ptr());
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            if u32::from(snapshot.xmin) != 0 {
                read(&OwnRow { tuple, descriptor: (*relation).rd_att });
            }
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
    }
    Ok(())
}
