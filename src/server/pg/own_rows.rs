//! Rows of the extension's own tables, read and written past ACLs; and which versions of catalogs' rows came and went.

use std::ffi::CStr;

use pgrx::{pg_sys, FromDatum};

use super::{relation_oid, ActiveSnapshot, Beheld};
use crate::server::error::{code, Result, SyncError};
use crate::server::memory::{self, Gather};

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

    /// Where it stands.
    pub fn place(&self) -> pg_sys::ItemPointerData {
        // SAFETY: as above.
        unsafe { (*self.tuple).t_self }
    }
}

/// A scan's condition on the first column of an index: the strategy, what compares, and the value.
type Condition = (u32, u32, pg_sys::Datum);

/// The number of that column in one of the extension's own tables, which are all made so.
const FIRST: i16 = 1;

/// Reads the row of one of the extension's own tables whose first column, a unique name, is this one.
pub fn row_by_name<R>(
    table: &'static CStr,
    index: &'static CStr,
    name: &CStr,
    snapshot: &ActiveSnapshot,
    read: impl FnOnce(&OwnRow) -> R,
) -> Result<Option<R>> {
    // A name's comparison stops at its NUL.
    let is = (pg_sys::BTEqualStrategyNumber, pg_sys::F_NAMEEQ, pg_sys::Datum::from(name.as_ptr()));
    first_row(table, Some((index, &[is])), snapshot, read)
}

/// Has one of the extension's own tables a row whose first column, a unique name, is between these two?
pub fn has_name_between(
    table: &'static CStr,
    index: &'static CStr,
    (after, before): (&CStr, &CStr),
    snapshot: &ActiveSnapshot,
) -> Result<bool> {
    let conditions = [
        (pg_sys::BTGreaterStrategyNumber, pg_sys::F_NAMEGT, pg_sys::Datum::from(after.as_ptr())),
        (pg_sys::BTLessStrategyNumber, pg_sys::F_NAMELT, pg_sys::Datum::from(before.as_ptr())),
    ];
    Ok(first_row(table, Some((index, &conditions)), snapshot, |_| ())?.is_some())
}

/// Reads the row of one of the extension's own tables that has no other.
pub fn only_row<R>(
    table: &'static CStr,
    snapshot: &ActiveSnapshot,
    read: impl FnOnce(&OwnRow) -> R,
) -> Result<Option<R>> {
    first_row(table, None, snapshot, read)
}

/// Reads all rows of one of the extension's own tables.
pub fn each_row(table: &'static CStr, snapshot: &ActiveSnapshot, mut read: impl FnMut(&OwnRow)) -> Result<()> {
    let all = |row: &OwnRow| {
        read(row);
        true
    };
    // SAFETY: the snapshot lives as long as it is lent.
    unsafe { scan(relation_oid(table)?, None::<(fn() -> _, _, _)>, Beheld::under(snapshot.raw()), all) }
}

/// Is there a row of one of the extension's own tables, as they are now, whose first column is this Oid?
pub fn has_row_of(table: &'static CStr, index: &'static CStr, oid: pg_sys::Oid) -> Result<bool> {
    let now = ActiveSnapshot::latest();
    let is = (pg_sys::BTEqualStrategyNumber, pg_sys::F_OIDEQ, pg_sys::Datum::from(oid));
    Ok(first_row(table, Some((index, &[is])), &now, |_| ())?.is_some())
}

fn first_row<R>(
    table: &'static CStr,
    by: Option<(&'static CStr, &[Condition])>,
    snapshot: &ActiveSnapshot,
    read: impl FnOnce(&OwnRow) -> R,
) -> Result<Option<R>> {
    let by = by.map(|(index, conditions)| (move || relation_oid(index), FIRST, conditions));
    let (mut read, mut found) = (Some(read), None);
    let first = |row: &OwnRow| {
        found = read.take().map(|read| read(row));
        false
    };
    // SAFETY: the snapshot lives as long as it is lent; the conditions' values, too.
    unsafe { scan(relation_oid(table)?, by, Beheld::under(snapshot.raw()), first)? }
    Ok(found)
}

/// By an index whose first column has this number in the table, or without one; as long as `each` says so.
///
/// # Safety
/// The snapshot is valid, and what the conditions' values point to outlives the call.
unsafe fn scan(
    table: pg_sys::Oid,
    by: Option<(impl FnOnce() -> Result<pg_sys::Oid>, i16, &[Condition])>,
    beheld: Beheld,
    mut each: impl FnMut(&OwnRow) -> bool,
) -> Result<()> {
    let by_index = by.is_some();
    // SAFETY: the relations exist; on an ERROR the resource owner closes them.
    unsafe {
        let relation = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
        let (index, mut keys) = match by {
            // Not before there is a lock: REINDEX CONCURRENTLY puts another index in the place of this one.
            Some((index, column, conditions)) => (index()?, keys(column, conditions)),
            None => (pg_sys::InvalidOid, Vec::new()),
        };
        let count = keys.len() as i32;
        let scan = pg_sys::systable_beginscan(relation, index, by_index, beheld.scanned(), count, keys.as_mut_ptr());
        loop {
            memory::heed();
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let sees = beheld.sees(relation, (*scan).slot);
            if sees && !each(&OwnRow { tuple, descriptor: (*relation).rd_att }) {
                break;
            }
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
        Ok(())
    }
}

fn keys(column: i16, conditions: &[Condition]) -> Vec<pg_sys::ScanKeyData> {
    let key = |(strategy, compares, value): &Condition| {
        let mut key = pg_sys::ScanKeyData::default();
        // SAFETY: fills it in; the function exists.
        unsafe { pg_sys::ScanKeyInit(&mut key, column, *strategy as u16, (*compares).into(), *value) };
        key
    };
    conditions.iter().map(key).gather()
}

/// A catalog, an index of it, and which of the catalog's columns is the first of that.
pub type CatalogIndex = (pg_sys::Oid, pg_sys::Oid, u32);

/// Reads those versions of a catalog's rows that came or went after a snapshot: whose transactions have committed since, or this one since. The first
/// column of the index is this Oid.
///
/// As long as the snapshot is held, none of them is taken away: to it, they are not dead.
pub fn versions_since(
    (catalog, index, column): CatalogIndex,
    oid: pg_sys::Oid,
    snapshot: &ActiveSnapshot,
    mut read: impl FnMut(&OwnRow),
) -> Result<()> {
    let is = [(pg_sys::BTEqualStrategyNumber, pg_sys::F_OIDEQ, pg_sys::Datum::from(oid))];
    let by = Some((move || Ok(index), column as i16, &is[..]));
    let mut each = |row: &OwnRow| {
        // SAFETY: a tuple of the scan, and a snapshot that is lent.
        if unsafe { came_since(row.tuple, snapshot.raw()) || went_since(row.tuple, snapshot.raw()) } {
            read(row);
        }
        true
    };
    // SAFETY: there is no snapshot.
    unsafe { scan(catalog, by, Beheld::all(), &mut each) }
}

/// # Safety
/// A valid tuple and snapshot.
unsafe fn came_since(tuple: pg_sys::HeapTuple, snapshot: pg_sys::Snapshot) -> bool {
    // SAFETY: see above; the command's number is asked for where the transaction is this one.
    unsafe {
        let header = (*tuple).t_data;
        let frozen = pg_sys::HEAP_XMIN_FROZEN as u16;
        (*header).t_infomask & frozen != frozen
            && is_since((*header).t_choice.t_heap.t_xmin, snapshot, || pg_sys::HeapTupleHeaderGetCmin(header))
    }
}

/// # Safety
/// A valid tuple and snapshot.
unsafe fn went_since(tuple: pg_sys::HeapTuple, snapshot: pg_sys::Snapshot) -> bool {
    // SAFETY: as above. Who only locks a row does not take it away.
    unsafe {
        let header = (*tuple).t_data;
        let has = |mask: u32| u32::from((*header).t_infomask) & mask;
        let several = has(pg_sys::HEAP_XMAX_IS_MULTI) != 0;
        let locked = has(pg_sys::HEAP_XMAX_LOCK_ONLY) != 0
            || !several && has(pg_sys::HEAP_LOCK_MASK) == pg_sys::HEAP_XMAX_EXCL_LOCK;
        if has(pg_sys::HEAP_XMAX_INVALID) != 0 || locked {
            return false;
        }
        let by = match several {
            true => pg_sys::HeapTupleGetUpdateXid(header),
            false => (*header).t_choice.t_heap.t_xmax,
        };
        is_since(by, snapshot, || pg_sys::HeapTupleHeaderGetCmax(header))
    }
}

/// # Safety
/// A valid snapshot.
unsafe fn is_since(
    transaction: pg_sys::TransactionId,
    snapshot: pg_sys::Snapshot,
    command: impl FnOnce() -> u32,
) -> bool {
    // SAFETY: look-ups in shared memory and in pg_xact.
    unsafe {
        if pg_sys::TransactionIdIsCurrentTransactionId(transaction) {
            return command() >= (*snapshot).curcid;
        }
        pg_sys::XidInMVCCSnapshot(transaction, snapshot) && pg_sys::TransactionIdDidCommit(transaction)
    }
}

/// One of the extension's own tables, to be written past the SQL layer, as catalogs are. Who does it has his turn: rows that somebody else is
/// writing are an ERROR here.
pub struct OwnTable {
    relation: pg_sys::Relation,
    indexes: pg_sys::CatalogIndexState,
}

impl OwnTable {
    /// It must have so many columns, and no index but plain ones: nobody computes an index's expressions, or another column, here.
    pub fn open(table: &'static CStr, columns: usize) -> Result<OwnTable> {
        // SAFETY: it exists; on an ERROR the resource owner closes it. The indexes are as many as it says.
        unsafe {
            let relation = pg_sys::table_open(relation_oid(table)?, pg_sys::RowExclusiveLock as i32);
            let indexes = pg_sys::CatalogOpenIndexes(relation);
            let computed = |at: usize| {
                let info = *(*indexes).ri_IndexRelationInfo.add(at);
                !(*info).ii_Expressions.is_null() || !(*info).ii_Predicate.is_null()
            };
            let altered = (*(*relation).rd_att).natts as usize != columns;
            if altered || (0..(*indexes).ri_NumIndices as usize).any(computed) {
                let name = table.to_string_lossy();
                return Err(SyncError::new(code::NOT_IN_STATE, format!("table snapsync.{name} was altered"))
                    .hint("Drop the columns, and the indexes with expressions or conditions, that the extension has not made."));
            }
            Ok(OwnTable { relation, indexes })
        }
    }

    /// In the place of the row that stands there, or beside all others.
    ///
    /// # Safety
    /// The values are those of the table's columns, all of them.
    pub unsafe fn write(&mut self, in_place_of: Option<pg_sys::ItemPointerData>, values: &mut [pg_sys::Datum]) {
        let mut nulls = vec![false; values.len()];
        // SAFETY: the caller's promise.
        unsafe {
            let descriptor = (*self.relation).rd_att;
            let tuple = pg_sys::heap_form_tuple(descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
            match in_place_of {
                Some(mut place) => {
                    pg_sys::CatalogTupleUpdateWithInfo(self.relation, &mut place, tuple, self.indexes);
                }
                None => pg_sys::CatalogTupleInsertWithInfo(self.relation, tuple, self.indexes),
            }
            pg_sys::heap_freetuple(tuple);
        }
    }

    /// Takes a row away.
    pub fn take_out(&mut self, mut place: pg_sys::ItemPointerData) {
        // SAFETY: a row that a snapshot of this moment sees.
        unsafe { pg_sys::CatalogTupleDelete(self.relation, &mut place) }
    }

    /// Ends it. The lock stays until the transaction ends, as after any INSERT, and what was written can be read.
    pub fn close(self) {
        // SAFETY: what `open` opened.
        unsafe {
            pg_sys::CatalogCloseIndexes(self.indexes);
            pg_sys::table_close(self.relation, pg_sys::NoLock as i32);
            pg_sys::CommandCounterIncrement();
        }
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
