//! Rows of the extension's own tables, read past ACLs; and which versions of catalogs' rows came and went.

use std::ffi::CStr;

use pgrx::{pg_sys, FromDatum};

use super::{attribute, datum_image_eq, own_index, ActiveSnapshot, Beheld, KeptSnapshot, OwnTable};
use crate::server::error::Result;
use crate::server::memory::{self, Gather};

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

    /// Where it stands.
    pub fn place(&self) -> pg_sys::ItemPointerData {
        // SAFETY: as above.
        unsafe { (*self.tuple).t_self }
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
}

/// Is this another session's transaction, and has it not ended?
fn is_anothers_under_way(xid: pg_sys::TransactionId) -> bool {
    // SAFETY: look-ups in shared memory.
    unsafe { pg_sys::TransactionIdIsInProgress(xid) && !pg_sys::TransactionIdIsCurrentTransactionId(xid) }
}

/// Is it one that this snapshot does not see, and that has committed since or may yet?
fn is_anothers_since(xid: pg_sys::TransactionId, snapshot: &KeptSnapshot) -> bool {
    if snapshot.sees(xid) {
        return false;
    }
    // (In this order: who ends in between has committed, or changed nothing.)
    // SAFETY: a look-up in pg_xact, and one in this backend.
    let committed =
        || unsafe { pg_sys::TransactionIdDidCommit(xid) && !pg_sys::TransactionIdIsCurrentTransactionId(xid) };
    is_anothers_under_way(xid) || committed()
}

/// A scan's condition: the column's number in the table, the strategy, what compares, and the value.
type Condition = (i16, u32, u32, pg_sys::Datum);

/// The number of that column in one of the extension's own tables, which are all made so.
const FIRST: i16 = 1;

fn is(column: i16, compares: u32, value: pg_sys::Datum) -> Condition {
    (column, pg_sys::BTEqualStrategyNumber, compares, value)
}

/// Reads the row of one of the extension's own tables whose first column, a unique name, is this one.
pub fn row_by_name<R>(
    table: &OwnTable,
    index: &'static CStr,
    name: &CStr,
    snapshot: &ActiveSnapshot,
    read: impl FnOnce(&OwnRow) -> R,
) -> Result<Option<R>> {
    // A name's comparison stops at its NUL.
    first_row(table, Some((index, &[is(FIRST, pg_sys::F_NAMEEQ, pg_sys::Datum::from(name.as_ptr()))])), snapshot, read)
}

/// Reads the first row of one of the extension's own tables: most have no other.
pub fn only_row<R>(table: &OwnTable, snapshot: &ActiveSnapshot, read: impl FnOnce(&OwnRow) -> R) -> Result<Option<R>> {
    first_row(table, None, snapshot, read)
}

/// Reads all rows of one of the extension's own tables, in the order in which they stand there.
pub fn each_row(table: &OwnTable, snapshot: &ActiveSnapshot, mut read: impl FnMut(&OwnRow)) -> Result<()> {
    let all = |row: &OwnRow| {
        read(row);
        true
    };
    let relation = table.open(pg_sys::AccessShareLock)?;
    // SAFETY: the snapshot lives as long as it is lent; the relation is open.
    unsafe { scan(relation, None, Beheld::under(snapshot.raw()), all) }
    Ok(())
}

/// Is there a row of one of the extension's own tables, as they are now, whose first column is this Oid?
pub fn has_row_of(table: &OwnTable, index: &'static CStr, oid: pg_sys::Oid) -> Result<bool> {
    let (now, of) = (ActiveSnapshot::latest(), [is(FIRST, pg_sys::F_OIDEQ, pg_sys::Datum::from(oid))]);
    Ok(first_row(table, Some((index, &of)), &now, |_| ())?.is_some())
}

/// Does a transaction of another session that has not ended change the row of one of the extension's own tables whose first column is this Oid, or has it locked it
/// to do so?
pub fn is_being_changed(table: &OwnTable, index: &'static CStr, oid: pg_sys::Oid) -> Result<bool> {
    let of = [is(FIRST, pg_sys::F_OIDEQ, pg_sys::Datum::from(oid))];
    let now = ActiveSnapshot::latest();
    Ok(first_row(table, Some((index, &of)), &now, OwnRow::is_being_changed)?.unwrap_or(false))
}

/// By an index on the first column, or without one.
fn first_row<R>(
    table: &OwnTable,
    by: Option<(&'static CStr, &[Condition])>,
    snapshot: &ActiveSnapshot,
    read: impl FnOnce(&OwnRow) -> R,
) -> Result<Option<R>> {
    let (mut read, mut found) = (Some(read), None);
    let first = |row: &OwnRow| {
        found = read.take().map(|read| read(row));
        false
    };
    let relation = table.open(pg_sys::AccessShareLock)?;
    // SAFETY: the snapshot, and what the conditions' values point to, live as long as they are lent; the relation is open.
    unsafe {
        let by = match by {
            Some((index, conditions)) => Some((own_index(relation, index, &[FIRST])?, conditions)),
            None => None,
        };
        scan(relation, by, Beheld::under(snapshot.raw()), first);
    }
    Ok(found)
}

/// By an index on the columns of the conditions, or one that begins with them, or without one; as long as `each` says so. Closes the relation.
///
/// # Safety
/// An open relation, and an index of it; the snapshot is valid, and what the conditions' values point to outlives the call.
unsafe fn scan(
    relation: pg_sys::Relation,
    by: Option<(pg_sys::Oid, &[Condition])>,
    beheld: Beheld,
    mut each: impl FnMut(&OwnRow) -> bool,
) {
    let by_index = by.is_some();
    // SAFETY: see above; on an ERROR the resource owner closes them.
    unsafe {
        let (index, mut keys) = match by {
            Some((index, conditions)) => (index, keys(conditions)),
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
            let slot = (*scan).slot;
            if beheld.sees(relation, slot) && !each(&OwnRow { tuple, descriptor: (*relation).rd_att, slot }) {
                break;
            }
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
    }
}

fn keys(conditions: &[Condition]) -> Vec<pg_sys::ScanKeyData> {
    let key = |(column, strategy, compares, value): &Condition| {
        let mut key = pg_sys::ScanKeyData::default();
        // SAFETY: fills it in; the function exists.
        unsafe { pg_sys::ScanKeyInit(&mut key, *column, *strategy as u16, (*compares).into(), *value) };
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
    let is = [is(column as i16, pg_sys::F_OIDEQ, pg_sys::Datum::from(oid))];
    let by = Some((index, &is[..]));
    let mut each = |row: &OwnRow| {
        // SAFETY: a tuple of the scan, and a snapshot that is lent.
        if unsafe { came_since(row.tuple, snapshot.raw()) || went_since(row.tuple, snapshot.raw()) } {
            read(row);
        }
        true
    };
    // SAFETY: there is no snapshot; on an ERROR the resource owner closes the catalog.
    unsafe {
        let relation = pg_sys::table_open(catalog, pg_sys::AccessShareLock as i32);
        scan(relation, by, Beheld::all(), &mut each);
    }
    Ok(())
}

/// Has another session made or taken away rows of a catalog that count, with this Oid in the first column of the index, which the snapshot does not see; or is
/// its transaction, which has not ended, about to?
///
/// A row that says what one said that it takes the place of is no change. GRANT leaves such rows where nothing is granted, whoever calls it; and who
/// may call a function, or use a type, says nothing of what these are.
pub fn others_have_changed(
    (catalog, index, column): CatalogIndex,
    oid: pg_sys::Oid,
    snapshot: &KeptSnapshot,
    counts: fn(&OwnRow) -> bool,
) -> bool {
    let is = [is(column as i16, pg_sys::F_OIDEQ, pg_sys::Datum::from(oid))];
    let (mut came, mut went): (Vec<pg_sys::HeapTuple>, Vec<pg_sys::HeapTuple>) = (Vec::new(), Vec::new());
    let did = |xid| is_anothers_since(xid, snapshot);
    let each = |row: &OwnRow| {
        // SAFETY: a tuple of the scan; a copy of it, in the current memory context.
        unsafe {
            let (is_new, is_gone) = (made_by(row.tuple).is_some_and(did), taken_away_by(row.tuple).is_some_and(did));
            if is_new != is_gone && counts(row) {
                let rows = if is_new { &mut came } else { &mut went };
                rows.push(pg_sys::heap_copytuple(row.tuple));
            }
        }
        true
    };
    let privileges = match catalog {
        pg_sys::ProcedureRelationId => pg_sys::Anum_pg_proc_proacl,
        pg_sys::TypeRelationId => pg_sys::Anum_pg_type_typacl,
        _ => 0,
    };
    // SAFETY: there is no snapshot; on an ERROR the resource owner closes the catalog, whose description the copies have.
    unsafe {
        let open = || pg_sys::table_open(catalog, pg_sys::AccessShareLock as i32);
        let relation = open();
        scan(open(), Some((index, &is[..])), Beheld::all(), each);
        let same = |a: &pg_sys::HeapTuple, b: &pg_sys::HeapTuple| say_the_same(*a, *b, (*relation).rd_att, privileges);
        let is_new = |row: &pg_sys::HeapTuple| match went.iter().position(|old| same(row, old)) {
            Some(at) => {
                went.swap_remove(at);
                false
            }
            None => true,
        };
        let changed = came.iter().any(is_new) || !went.is_empty();
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
        changed
    }
}

/// Have two rows the same in all columns but this one?
///
/// # Safety
/// Tuples of this description.
unsafe fn say_the_same(a: pg_sys::HeapTuple, b: pg_sys::HeapTuple, all: pg_sys::TupleDesc, but: u32) -> bool {
    // SAFETY: see above; values of one type, that are not null.
    unsafe {
        (1..=(*all).natts).filter(|number| *number != but as i32).all(|number| {
            let (mut a_null, mut b_null) = (false, false);
            let a = pg_sys::heap_getattr(a, number, all, &mut a_null);
            let b = pg_sys::heap_getattr(b, number, all, &mut b_null);
            let column = attribute(all, number as usize - 1);
            a_null == b_null && (a_null || datum_image_eq(a, b, column.attbyval, column.attlen))
        })
    }
}

/// Who has made this version of a row; none, if that is long ago.
///
/// # Safety
/// A valid tuple.
unsafe fn made_by(tuple: pg_sys::HeapTuple) -> Option<pg_sys::TransactionId> {
    // SAFETY: see above.
    unsafe {
        let header = (*tuple).t_data;
        let frozen = pg_sys::HEAP_XMIN_FROZEN as u16;
        ((*header).t_infomask & frozen != frozen).then_some((*header).t_choice.t_heap.t_xmin)
    }
}

/// # Safety
/// A valid tuple and snapshot.
unsafe fn came_since(tuple: pg_sys::HeapTuple, snapshot: pg_sys::Snapshot) -> bool {
    // SAFETY: see above; the command's number is asked for where the transaction is this one.
    unsafe {
        made_by(tuple).is_some_and(|by| is_since(by, snapshot, || pg_sys::HeapTupleHeaderGetCmin((*tuple).t_data)))
    }
}

/// # Safety
/// A valid tuple and snapshot.
unsafe fn went_since(tuple: pg_sys::HeapTuple, snapshot: pg_sys::Snapshot) -> bool {
    // SAFETY: as above.
    unsafe {
        taken_away_by(tuple)
            .is_some_and(|by| is_since(by, snapshot, || pg_sys::HeapTupleHeaderGetCmax((*tuple).t_data)))
    }
}

/// Who has taken this version of a row away, or tried to. Who only locks it does not.
///
/// # Safety
/// A valid tuple.
unsafe fn taken_away_by(tuple: pg_sys::HeapTuple) -> Option<pg_sys::TransactionId> {
    // SAFETY: see above.
    unsafe {
        let header = (*tuple).t_data;
        let has = |mask: u32| u32::from((*header).t_infomask) & mask;
        let several = has(pg_sys::HEAP_XMAX_IS_MULTI) != 0;
        let locked = has(pg_sys::HEAP_XMAX_LOCK_ONLY) != 0
            || !several && has(pg_sys::HEAP_LOCK_MASK) == pg_sys::HEAP_XMAX_EXCL_LOCK;
        if has(pg_sys::HEAP_XMAX_INVALID) != 0 || locked {
            return None;
        }
        Some(match several {
            true => pg_sys::HeapTupleGetUpdateXid(header),
            false => (*header).t_choice.t_heap.t_xmax,
        })
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
        scan_by(table, index, oids, Beheld::dirty(dirty), |row| {
            if u32::from((*dirty).xmin) != 0 {
                read(row);
            }
            true
        })
    }
}

/// The same, and those that have come since this snapshot: who looks at what is there, after it was taken, and then at these has missed none.
pub fn made_since(
    table: &OwnTable,
    index: &'static CStr,
    oids: &[(i16, pg_sys::Oid)],
    snapshot: &KeptSnapshot,
    mut read: impl FnMut(&OwnRow),
) -> Result<()> {
    // SAFETY: there is no snapshot; the row is one of the scan.
    unsafe {
        scan_by(table, index, oids, Beheld::all(), |row| {
            if made_by(row.tuple).is_some_and(|xid| is_anothers_since(xid, snapshot)) {
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
        scan_by(table, index, oids, Beheld::under(now.raw()), |_| {
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
    beheld: Beheld,
    read: impl FnMut(&OwnRow) -> bool,
) -> Result<()> {
    let relation = table.open(pg_sys::AccessShareLock)?;
    let columns: Vec<i16> = oids.iter().map(|(attnum, _)| *attnum).gather();
    let of = oids.iter().map(|(attnum, oid)| is(*attnum, pg_sys::F_OIDEQ, pg_sys::Datum::from(*oid)));
    let conditions: Vec<Condition> = of.gather();
    // SAFETY: the open relation, and its index on these columns.
    unsafe { scan(relation, Some((own_index(relation, index, &columns)?, &conditions)), beheld, read) }
    Ok(())
}
