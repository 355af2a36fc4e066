//! Rows of the extension's own tables, read past ACLs; which version of its row in `pg_authid` a role has; and which rows others are changing.

use std::ffi::CStr;

use pgrx::{pg_sys, FromDatum};

use super::{own_index, ActiveSnapshot, KeptSnapshot, OwnTable};
use crate::server::error::Result;

/// A row of one of the extension's own tables, while it is being read.
pub struct OwnRow {
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
    slot: *mut pg_sys::TupleTableSlot,
}

impl OwnRow {
    /// The column of this number, whose type is `T`.
    pub fn column<T: FromDatum>(&self, attnum: i16) -> Option<T> {
        let mut is_null = false;
        // SAFETY: the tuple is of the descriptor, and valid as long as it is lent out.
        unsafe {
            let datum = pg_sys::heap_getattr(self.tuple, i32::from(attnum), self.descriptor, &mut is_null);
            T::from_datum(datum, is_null)
        }
    }

    /// Does a transaction of another session that has not ended change this row, or has it locked it to do so?
    ///
    /// SQL's `xmax` does not tell that: it may be the number of a multixact, under which several stand who have locked the row or changed it. (Subtransactions of one
    /// transaction suffice, and each look of ours is one.)
    fn is_being_changed(&self) -> bool {
        // SAFETY: a scan of a heap keeps the row's buffer pinned while it lends the row out. Under the buffer's lock the bits are about that number.
        let (infomask, xmax) = unsafe {
            let buffer = (*self.slot.cast::<pg_sys::BufferHeapTupleTableSlot>()).buffer;
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
            let header = (*self.tuple).t_data;
            let read = ((*header).t_infomask, (*header).t_choice.t_heap.t_xmax);
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_UNLOCK as i32);
            read
        };
        let is = |bit: u32| u32::from(infomask) & bit != 0;
        if is(pg_sys::HEAP_XMAX_INVALID) {
            return false;
        }
        if !is(pg_sys::HEAP_XMAX_IS_MULTI) {
            return is_anothers_under_way(xmax);
        }
        let only_locks = is(pg_sys::HEAP_XMAX_LOCK_ONLY);
        // SAFETY: the row's multixact, of which nobody has taken the members away while the row has it. They are palloc'd, if there are any.
        unsafe {
            let mut members = std::ptr::null_mut();
            let count = pg_sys::GetMultiXactIdMembers(xmax, &mut members, false, only_locks);
            if count <= 0 {
                return false;
            }
            let found = (0..count as usize).any(|i| is_anothers_under_way((*members.add(i)).xid));
            pg_sys::pfree(members.cast());
            found
        }
    }

    /// Did this snapshot not see yet who has made this version of the row? The running transaction does not count.
    fn is_newer_than(&self, snapshot: &KeptSnapshot) -> bool {
        // SAFETY: a tuple's header, in a pinned buffer; its first number never changes, and of the bits only those that say more of it.
        unsafe {
            let header = (*self.tuple).t_data;
            let xmin = (*header).t_choice.t_heap.t_xmin;
            let frozen = pg_sys::HEAP_XMIN_FROZEN as u16;
            (*header).t_infomask & frozen != frozen
                && !pg_sys::TransactionIdIsCurrentTransactionId(xmin)
                && !snapshot.sees(xmin)
        }
    }
}

/// Is this another session's transaction, and has it not ended?
fn is_anothers_under_way(xid: pg_sys::TransactionId) -> bool {
    // SAFETY: look-ups in shared memory.
    unsafe { pg_sys::TransactionIdIsInProgress(xid) && !pg_sys::TransactionIdIsCurrentTransactionId(xid) }
}

/// A scan's key on the first column: what compares, and the value.
type FirstColumn = (u32, pg_sys::Datum);

/// Reads the row of one of the extension's own tables whose first column, a unique name, is this one.
pub fn row_by_name<R>(
    table: &OwnTable,
    index: &'static CStr,
    name: &CStr,
    snapshot: &ActiveSnapshot,
    read: impl FnOnce(&OwnRow) -> R,
) -> Result<Option<R>> {
    // A name's comparison stops at its NUL.
    first_row(table, Some((index, (pg_sys::F_NAMEEQ, pg_sys::Datum::from(name.as_ptr())))), snapshot, read)
}

/// Reads the row of one of the extension's own tables that has no other.
pub fn only_row<R>(table: &OwnTable, snapshot: &ActiveSnapshot, read: impl FnOnce(&OwnRow) -> R) -> Result<Option<R>> {
    first_row(table, None, snapshot, read)
}

/// Reads all rows of one of the extension's own tables, in the order in which they stand there.
pub fn all_rows(table: &OwnTable, snapshot: &ActiveSnapshot, mut read: impl FnMut(&OwnRow)) -> Result<()> {
    let relation = table.open(pg_sys::AccessShareLock)?;
    // SAFETY: the open table; on an ERROR the resource owner closes it.
    unsafe {
        let none = pg_sys::InvalidOid;
        let scan = pg_sys::systable_beginscan(relation, none, false, snapshot.raw(), 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            read(&OwnRow { tuple, descriptor: (*relation).rd_att, slot: (*scan).slot });
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
    }
    Ok(())
}

/// Is there a row of one of the extension's own tables, as they are now, whose first column is this Oid?
pub fn has_row_of(table: &OwnTable, index: &'static CStr, oid: pg_sys::Oid) -> Result<bool> {
    let now = ActiveSnapshot::latest();
    Ok(first_row(table, Some((index, (pg_sys::F_OIDEQ, pg_sys::Datum::from(oid)))), &now, |_| ())?.is_some())
}

/// Does a transaction of another session that has not ended change the row of one of the extension's own tables whose first column is this Oid, or has it locked it
/// to do so?
pub fn is_being_changed(table: &OwnTable, index: &'static CStr, oid: pg_sys::Oid) -> Result<bool> {
    let by = (index, (pg_sys::F_OIDEQ, pg_sys::Datum::from(oid)));
    Ok(first_row(table, Some(by), &ActiveSnapshot::latest(), OwnRow::is_being_changed)?.unwrap_or(false))
}

/// The same of a function's or a relation's row in its catalog; or has it become what it is, or gone, since this snapshot?
pub fn is_changed_since(snapshot: &KeptSnapshot, catalog: pg_sys::Oid, oid: pg_sys::Oid) -> Result<bool> {
    let index =
        if catalog == pg_sys::ProcedureRelationId { pg_sys::ProcedureOidIndexId } else { pg_sys::ClassOidIndexId };
    let by = (index.into(), (pg_sys::F_OIDEQ, pg_sys::Datum::from(oid)));
    let now = ActiveSnapshot::latest();
    // SAFETY: the snapshot lives as long as it is lent; on an ERROR the resource owner closes the catalog.
    unsafe {
        let relation = pg_sys::table_open(catalog, pg_sys::AccessShareLock as i32);
        let changed = scan(relation, Some(by), now.raw(), |row| row.is_being_changed() || row.is_newer_than(snapshot));
        Ok(changed.unwrap_or(true))
    }
}

/// The number of the transaction that has made this role's row, as the active snapshot sees it: `pg_authid.xmin`, which `pg_roles` has not, and which only a
/// superuser may read. The extension's owner need not be one any more.
pub fn version_of_role(role: pg_sys::Oid) -> Result<Option<u32>> {
    // SAFETY: the snapshot of the statement that asks. A tuple has its system columns, and this one is never NULL.
    unsafe {
        let relation = pg_sys::table_open(pg_sys::AuthIdRelationId, pg_sys::AccessShareLock as i32);
        let by = (pg_sys::AuthIdOidIndexId.into(), (pg_sys::F_OIDEQ, pg_sys::Datum::from(role)));
        Ok(scan(relation, Some(by), pg_sys::GetActiveSnapshot(), |row| {
            (*(*row.tuple).t_data).t_choice.t_heap.t_xmin.into_inner()
        }))
    }
}

/// By an index on the first column, or without one.
fn first_row<R>(
    table: &OwnTable,
    by: Option<(&'static CStr, FirstColumn)>,
    snapshot: &ActiveSnapshot,
    read: impl FnOnce(&OwnRow) -> R,
) -> Result<Option<R>> {
    let relation = table.open(pg_sys::AccessShareLock)?;
    // SAFETY: the snapshot, and what the key's value points to, live as long as they are lent; the relation is open.
    unsafe {
        let by = match by {
            Some((index, key)) => Some((own_index(relation, index, &[1])?, key)),
            None => None,
        };
        Ok(scan(relation, by, snapshot.raw(), read))
    }
}

/// Closes the relation.
///
/// # Safety
/// An open relation, and an index of it whose first column is the relation's; the snapshot is valid, and what the key's value points to outlives the call.
unsafe fn scan<R>(
    relation: pg_sys::Relation,
    by: Option<(pg_sys::Oid, FirstColumn)>,
    snapshot: pg_sys::Snapshot,
    read: impl FnOnce(&OwnRow) -> R,
) -> Option<R> {
    // SAFETY: see above; on an ERROR the resource owner closes them.
    unsafe {
        let mut key = pg_sys::ScanKeyData::default();
        let by_index = by.is_some();
        let (index, keys) = match by {
            Some((index, (equality, value))) => {
                pg_sys::ScanKeyInit(&mut key, 1, pg_sys::BTEqualStrategyNumber as u16, equality.into(), value);
                (index, 1)
            }
            None => (pg_sys::InvalidOid, 0),
        };
        let scan = pg_sys::systable_beginscan(relation, index, by_index, snapshot, keys, &mut key);
        let tuple = pg_sys::systable_getnext(scan);
        let found =
            (!tuple.is_null()).then(|| read(&OwnRow { tuple, descriptor: (*relation).rd_att, slot: (*scan).slot }));
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
        found
    }
}

/// Reads the rows of one of the extension's own tables that transactions are inserting which have not ended: of others, and with these Oids in
/// the columns of the index.
pub fn being_made(
    table: &OwnTable,
    index: &'static CStr,
    oids: &[(i16, pg_sys::Oid)],
    mut read: impl FnMut(&OwnRow),
) -> Result<()> {
    let mut dirty = pg_sys::SnapshotData { snapshot_type: pg_sys::SnapshotType::SNAPSHOT_DIRTY, ..Default::default() };
    let dirty = &raw mut dirty;
    // SAFETY: a dirty snapshot is filled in for each row that a scan returns (HeapTupleSatisfiesDirty): with the transaction that has made
    // the row, where that has not ended and is not ours.
    unsafe {
        scan_by(table, index, oids, dirty, |row| {
            if u32::from((*dirty).xmin) != 0 {
                read(row);
            }
            true
        })
    }
}

/// Is there a row of one of the extension's own tables, as they are now, with these Oids in columns of the index?
pub fn has_row_with(table: &OwnTable, index: &'static CStr, oids: &[(i16, pg_sys::Oid)]) -> Result<bool> {
    let (now, mut found) = (ActiveSnapshot::latest(), false);
    // SAFETY: the snapshot lives as long as it is lent.
    unsafe {
        scan_by(table, index, oids, now.raw(), |_| {
            found = true;
            false
        })
    }?;
    Ok(found)
}

/// Reads rows with these Oids in columns of the index, as long as `read` wants more.
///
/// # Safety
/// The snapshot is valid.
unsafe fn scan_by(
    table: &OwnTable,
    index: &'static CStr,
    oids: &[(i16, pg_sys::Oid)],
    snapshot: pg_sys::Snapshot,
    mut read: impl FnMut(&OwnRow) -> bool,
) -> Result<()> {
    let relation = table.open(pg_sys::AccessShareLock)?;
    let columns: Vec<i16> = oids.iter().map(|(attnum, _)| *attnum).collect();
    let mut keys: Vec<pg_sys::ScanKeyData> = vec![Default::default(); oids.len()];
    // SAFETY: the relations exist; on an ERROR the resource owner closes them.
    unsafe {
        let index = own_index(relation, index, &columns)?;
        for (key, (attnum, oid)) in keys.iter_mut().zip(oids) {
            let equal = pg_sys::BTEqualStrategyNumber as u16;
            pg_sys::ScanKeyInit(key, *attnum, equal, pg_sys::F_OIDEQ.into(), pg_sys::Datum::from(*oid));
        }
        let scan = pg_sys::systable_beginscan(relation, index, true, snapshot, keys.len() as i32, keys.as_mut_ptr());
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() || !read(&OwnRow { tuple, descriptor: (*relation).rd_att, slot: (*scan).slot }) {
                break;
            }
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
    }
    Ok(())
}
