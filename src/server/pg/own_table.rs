//! The extension's own tables as code knows them that reads and writes them past the SQL layer: by numbers of columns, whose types it trusts, and by
//! the names of indexes.
//!
//! Their owner, or a superuser, can give them other columns and indexes, or give their names to other tables. Such code would take whatever stands in
//! memory for a value, and the server would end all sessions. So it looks, each time that it opens one: that takes less than the lock. DDL that would do
//! it is refused (collections/ddl/own.rs), but event triggers can be switched off.

use std::ffi::CStr;

use pgrx::pg_sys;

use super::{attribute, relation_oid};
use crate::server::error::{code, Result, SyncError};
use crate::server::memory::Gather;
use crate::server::session::{Cached, Event};

/// For the type `snapsync.regtable`, whose number each database chooses: an Oid, by value.
pub const REGTABLE: pg_sys::Oid = pg_sys::InvalidOid;

/// A column's type, and whether NULL is written there.
pub type OwnColumn = (pg_sys::Oid, bool);

/// So many columns more may have been added and dropped again. Whoever writes a row leaves room for them.
pub const DROPPED: usize = 8;

/// A table, with its columns in their order.
pub struct OwnTable {
    pub name: &'static CStr,
    pub columns: &'static [OwnColumn],
    pub written: WrittenBy,
}

/// How rows of a table are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum WrittenBy {
    /// By SQL, which knows all columns and indexes. There may be others than we know.
    Statements,
    /// By the functions that write catalogs (`CatalogTupleInsert` and the like): an index must be of columns, and of all rows.
    Catalog,
    /// By the heap's alone: an index would miss the rows.
    Heap,
}

impl OwnTable {
    /// Opens it under this lock.
    pub fn open(&self, lock: u32) -> Result<pg_sys::Relation> {
        // SAFETY: an ERROR where there is none of that name. The caller closes it, or the abort does.
        unsafe {
            let relation = pg_sys::table_open(relation_oid(self.name)?, lock as i32);
            self.check(relation)?;
            Ok(relation)
        }
    }

    /// A tuple of it, in the current memory context.
    ///
    /// # Safety
    /// The open table, and datums of its columns' types, as many as these are.
    pub unsafe fn row(&self, relation: pg_sys::Relation, datums: &[Option<pg_sys::Datum>]) -> pg_sys::HeapTuple {
        // SAFETY: see above. What was dropped is NULL.
        unsafe {
            let descriptor = (*relation).rd_att;
            let dropped = (*descriptor).natts as usize - datums.len();
            let all = || datums.iter().copied().chain(std::iter::repeat_n(None, dropped));
            let mut values: Vec<pg_sys::Datum> = all().map(|d| d.unwrap_or(pg_sys::Datum::null())).gather();
            let mut nulls: Vec<bool> = all().map(|d| d.is_none()).gather();
            pg_sys::heap_form_tuple(descriptor, values.as_mut_ptr(), nulls.as_mut_ptr())
        }
    }

    /// Is it as it was made, as far as whoever reads and writes it has to know?
    ///
    /// # Safety
    /// An open relation.
    pub unsafe fn check(&self, relation: pg_sys::Relation) -> Result<()> {
        // SAFETY: see above.
        unsafe {
            let descriptor = (*relation).rd_att;
            let (count, by_sql) = ((*descriptor).natts as usize, self.written == WrittenBy::Statements);
            let is_as_made = |i: usize, (wanted, writes_null): OwnColumn| {
                let column = attribute(descriptor, i);
                let fits = match wanted {
                    REGTABLE => column.attbyval && column.attlen == 4,
                    wanted => column.atttypid == wanted,
                };
                // (Compiled code reads no mark of a NULL where there can be none.)
                fits && !column.attisdropped && (by_sql || !(writes_null && column.attnotnull))
            };
            // (What is not logged is empty after a crash, and clients would miss it.)
            let is_plain = (*(*relation).rd_rel).relkind as u8 == pg_sys::RELKIND_RELATION
                && (*(*relation).rd_rel).relpersistence as u8 == pg_sys::RELPERSISTENCE_PERMANENT
                && (*relation).rd_tableam == pg_sys::GetHeapamTableAmRoutine();
            let own = self.columns.len();
            let are_dropped = |mut more: std::ops::Range<usize>| more.all(|i| attribute(descriptor, i).attisdropped);
            let has_all = count >= own && (by_sql || count <= own + DROPPED && are_dropped(own..count));
            if !is_plain || !has_all || !(0..).zip(self.columns).all(|(i, column)| is_as_made(i, *column)) {
                return Err(altered(
                    self.name,
                    "It has other columns than it was made with, or is another kind of table.",
                ));
            }
            if self.written == WrittenBy::Heap {
                let indexes = pg_sys::RelationGetIndexList(relation);
                let has_any = !indexes.is_null();
                pg_sys::list_free(indexes);
                if has_any {
                    return Err(
                        altered(self.name, "It has an index. Rows are written past it.").hint("Drop the index.")
                    );
                }
            }
            Ok(())
        }
    }
}

fn altered(name: &CStr, detail: &str) -> SyncError {
    SyncError::new(code::NOT_IN_STATE, format!("snapsync.{} is not as snapsync made it", name.to_string_lossy()))
        .detail(detail)
        .hint("Take back what was altered: snapsync reads and writes it as it was.")
}

thread_local! {
    /// Indexes that have been looked at: of which table, by which name.
    static INDEXES: Cached<Vec<(pg_sys::Oid, &'static CStr, pg_sys::Oid)>> = Cached::until(Event::Definition);
}

/// The index of this name, which is a btree on these columns of the table, in this order, and nothing else. To be asked for under a lock on the table:
/// REINDEX CONCURRENTLY puts another one in its place.
///
/// # Safety
/// An open relation.
pub unsafe fn own_index(relation: pg_sys::Relation, name: &'static CStr, columns: &[i16]) -> Result<pg_sys::Oid> {
    // SAFETY: see above.
    let table = unsafe { (*relation).rd_id };
    let then = INDEXES.with(Cached::now);
    let is_it = |known: &&(pg_sys::Oid, &CStr, pg_sys::Oid)| (known.0, known.1) == (table, name);
    if let Some(index) = INDEXES.with(|i| i.look(|all| all.iter().find(is_it).map(|(_, _, index)| *index))) {
        return Ok(index);
    }
    // SAFETY: an open relation, with these columns.
    let remade = || unsafe { remade(relation, name, columns) };
    let index = relation_oid(name).map_err(|_| {
        SyncError::new(code::NOT_IN_STATE, format!("snapsync has lost its index {}", name.to_string_lossy()))
            .detail("It was dropped, or given another name, where event triggers were off.")
            .hint(format!("Give it its name again, or make it anew: {}", remade()))
    })?;
    if !is_index_on(table, index, columns) {
        return Err(altered(name, "It is not the index that snapsync made, or not of that table.").hint(format!(
            "Drop what is called so, with event triggers switched off, and make the index anew: {}",
            remade()
        )));
    }
    INDEXES.with(|i| i.remember(then, |all| all.push((table, name, index))));
    Ok(index)
}

/// The command that makes it.
///
/// # Safety
/// An open relation, with these columns.
unsafe fn remade(relation: pg_sys::Relation, name: &CStr, columns: &[i16]) -> String {
    // SAFETY: see above; names are NUL-terminated.
    unsafe {
        let table = CStr::from_ptr((*(*relation).rd_rel).relname.data.as_ptr()).to_string_lossy();
        let column = |attnum: &i16| {
            let column = attribute((*relation).rd_att, *attnum as usize - 1);
            CStr::from_ptr(column.attname.data.as_ptr()).to_string_lossy().into_owned()
        };
        let (name, columns) = (name.to_string_lossy(), columns.iter().map(column).collect::<Vec<_>>().join(", "));
        match name.ends_with("_pkey") {
            true => format!("ALTER TABLE snapsync.{table} ADD CONSTRAINT {name} PRIMARY KEY ({columns});"),
            false => format!("CREATE INDEX {name} ON snapsync.{table} ({columns});"),
        }
    }
}

fn is_index_on(table: pg_sys::Oid, index: pg_sys::Oid, columns: &[i16]) -> bool {
    // SAFETY: syscache look-ups; the tuples are released before returning, and nothing of them leaves. Both vectors are as long as the index has
    // columns.
    unsafe {
        let look =
            |cache: pg_sys::SysCacheIdentifier::Type| pg_sys::SearchSysCache1(cache as i32, pg_sys::Datum::from(index));
        let class = look(pg_sys::SysCacheIdentifier::RELOID);
        let tuple = look(pg_sys::SysCacheIdentifier::INDEXRELID);
        let mut is_it = false;
        if !class.is_null() && !tuple.is_null() {
            let form = &*(pg_sys::GETSTRUCT(tuple) as pg_sys::Form_pg_index);
            let is_null = |attnum: u32| pg_sys::heap_attisnull(tuple, attnum as i32, std::ptr::null_mut());
            let mut null = false;
            let options = pg_sys::SysCacheGetAttr(
                pg_sys::SysCacheIdentifier::INDEXRELID as i32,
                tuple,
                pg_sys::Anum_pg_index_indoption as i16,
                &mut null,
            );
            is_it = (*(pg_sys::GETSTRUCT(class) as pg_sys::Form_pg_class)).relam == pg_sys::BTREE_AM_OID
                && form.indrelid == table
                && (form.indisvalid && form.indisready && form.indislive)
                && form.indnatts as usize == columns.len()
                && form.indkey.values.as_slice(columns.len()) == columns
                && is_null(pg_sys::Anum_pg_index_indpred)
                && !null
                && (*options.cast_mut_ptr::<pg_sys::int2vector>())
                    .values
                    .as_slice(columns.len())
                    .iter()
                    .all(|o| *o == 0);
        }
        [class, tuple].into_iter().filter(|t| !t.is_null()).for_each(|t| pg_sys::ReleaseSysCache(t));
        is_it
    }
}

/// The indexes of a table that is written to as catalogs are, open.
pub struct OwnIndexes(pg_sys::CatalogIndexState);

impl OwnIndexes {
    /// # Safety
    /// Of a table that is open for writing, and closed after these.
    pub unsafe fn open(table: &OwnTable, relation: pg_sys::Relation) -> Result<OwnIndexes> {
        // SAFETY: see above. So many indexes are open, with what is known of each.
        unsafe {
            let indexes = pg_sys::CatalogOpenIndexes(relation);
            let known = (0..(*indexes).ri_NumIndices as usize).map(|i| &**(*indexes).ri_IndexRelationInfo.add(i));
            if known.into_iter().all(is_simple) {
                return Ok(OwnIndexes(indexes));
            }
            Err(altered(
                table.name,
                "It has an index with an expression, a condition or operators of its own, which nobody evaluates here.",
            )
            .hint("Drop the index."))
        }
    }

    /// # Safety
    /// A tuple of that table's.
    pub unsafe fn insert(&self, relation: pg_sys::Relation, tuple: pg_sys::HeapTuple) {
        // SAFETY: see above.
        unsafe { pg_sys::CatalogTupleInsertWithInfo(relation, tuple, self.0) }
    }

    pub fn raw(&self) -> pg_sys::CatalogIndexState {
        self.0
    }

    pub fn close(self) {
        // SAFETY: opened in `open`.
        unsafe { pg_sys::CatalogCloseIndexes(self.0) }
    }
}

fn is_simple(index: &pg_sys::IndexInfo) -> bool {
    index.ii_Expressions.is_null() && index.ii_Predicate.is_null() && index.ii_ExclusionOps.is_null()
}

/// One of them, to be written as catalogs are, row by row. Who does it has his turn: rows that somebody else is writing are an ERROR here.
pub struct OwnWriter {
    table: &'static OwnTable,
    relation: pg_sys::Relation,
    indexes: OwnIndexes,
}

impl OwnWriter {
    pub fn open(table: &'static OwnTable) -> Result<OwnWriter> {
        let relation = table.open(pg_sys::RowExclusiveLock)?;
        // SAFETY: the table is open; on an ERROR the resource owner closes it.
        let indexes = unsafe { OwnIndexes::open(table, relation)? };
        Ok(OwnWriter { table, relation, indexes })
    }

    /// In the place of the row that stands there, or beside all others.
    ///
    /// # Safety
    /// The values are those of the table's columns, all of them.
    pub unsafe fn write(&mut self, in_place_of: Option<pg_sys::ItemPointerData>, values: &[Option<pg_sys::Datum>]) {
        // SAFETY: the caller's promise.
        unsafe {
            let tuple = self.table.row(self.relation, values);
            match in_place_of {
                Some(mut place) => {
                    pg_sys::CatalogTupleUpdateWithInfo(self.relation, &mut place, tuple, self.indexes.raw());
                }
                None => self.indexes.insert(self.relation, tuple),
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
        self.indexes.close();
        // SAFETY: what `open` opened.
        unsafe {
            pg_sys::table_close(self.relation, pg_sys::NoLock as i32);
            pg_sys::CommandCounterIncrement();
        }
    }
}
