//! Old rows as rows again: a tuplestore of a table's own row type, which a query can read like a table.
//!
//! PostgreSQL gives triggers their transition tables in the same way (an ephemeral named relation). Column numbers, types, domains and
//! collations are those of the table, so the trees of its policies fit as they are stored. One column follows the table's own: which of
//! the old rows it is.

use std::ffi::{CStr, CString};

use pgrx::pg_sys;

use crate::collections::catalog::{self, Collection};
use crate::log::change::Image;
use crate::server::error::{code, Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::{pg, spi, statement};

/// A column's place in the row, and how its text is read.
struct Reader {
    name: String,
    place: usize,
    input: pg_sys::FmgrInfo,
    parameter: pg_sys::Oid,
}

/// Rows of a table's type, for `policy.rs` to judge. Lives within one subtransaction, which owns its temporary files.
pub struct OldRows {
    table: pg_sys::Oid,
    name: CString,
    store: *mut pg_sys::Tuplestorestate,
    descriptor: pg_sys::TupleDesc,
    readers: Vec<Reader>,
    count: usize,
    /// For what is made of an image to be put into the store.
    per_row: pg::PerRow,
    _in_use: pg::InUse,
}

impl OldRows {
    /// None yet. The table is locked (`catalog::tracked`); this transaction itself may have altered it since it was loaded.
    pub fn of(table: &Collection) -> Result<OldRows> {
        OldRows::called(table, NAME)
    }

    /// The same under another name, which the table's number follows.
    pub fn called(table: &Collection, name: &str) -> Result<OldRows> {
        let mut rows = OldRows::without_images(table, name)?;
        // An array of a domain, say, is read by the domain's check, which may be a stranger's.
        if let Some(column) = table.image.iter().find(|column| !statement::input_runs_nothing(column.facts.base)) {
            let message = format!("old values of column \"{}\" of table {} are not read", column.name, table.table);
            return Err(SyncError::new(code::NOT_IN_STATE, message));
        }
        // SAFETY: their types are those of the table's columns.
        rows.readers = table.image.iter().map(|column| unsafe { Reader::of(column) }).gather();
        Ok(rows)
    }

    /// For rows that stand in the table now. (A plan that is kept reads these, too.)
    pub fn present(table: &Collection) -> Result<OldRows> {
        OldRows::without_images(table, NAME)
    }

    fn without_images(table: &Collection, name: &str) -> Result<OldRows> {
        let in_use = pg::InUse::mark(table.relation);
        let name = CString::new(format!("{name} {}", table.relation.to_u32())).unwrap_or_default();
        // SAFETY: the relation is locked and stays open while its descriptor is copied. What is allocated here lives in the current
        // memory context, the store's temporary files with the current resource owner.
        unsafe {
            let relation = pg_sys::relation_open(table.relation, pg_sys::NoLock as i32);
            let own = (*relation).rd_att;
            let natts = (*own).natts;
            let descriptor = pg_sys::CreateTemplateTupleDesc(natts + 1);
            for i in 1..=natts as i16 {
                pg_sys::TupleDescCopyEntry(descriptor, i, own, i);
            }
            pg_sys::TupleDescInitEntry(descriptor, natts as i16 + 1, NUMBER.as_ptr(), pg_sys::INT8OID, -1, 0);
            let altered = table.image.iter().chain(&table.key).any(|column| !Reader::fits(own, column));
            pg_sys::relation_close(relation, pg_sys::NoLock as i32);
            if altered {
                return Err(SyncError::new(code::NOT_IN_STATE, format!("table {} was altered meanwhile", table.table)));
            }
            let store = pg_sys::tuplestore_begin_heap(false, false, pg_sys::work_mem);
            let (table, readers, per_row) = (table.relation, Vec::new(), pg::PerRow::new(c"snapsync old row"));
            Ok(OldRows { table, name, store, descriptor, readers, count: 0, per_row, _in_use: in_use })
        }
    }

    /// Adds a row as its image shows it; columns that are not logged are NULL. A value that does not read back raises an ERROR.
    pub fn add(&mut self, image: &Image) -> Result<()> {
        memory::heed();
        // SAFETY: the arrays have a place for each column of the descriptor. Reading a text may raise an ERROR, which ends the
        // subtransaction; the store copies the row. What an input function keeps lives where it was looked up.
        unsafe {
            let natts = (*self.descriptor).natts as usize;
            let mut values = memory::filled(pg_sys::Datum::null(), natts);
            let mut nulls = memory::filled(true, natts);
            values[natts - 1] = pg_sys::Datum::from(self.count as i64);
            nulls[natts - 1] = false;
            let (store, descriptor, readers) = (self.store, self.descriptor, &mut self.readers);
            self.per_row.run(|| -> Result<()> {
                for reader in readers {
                    if let Some(text) = image.text(&reader.name) {
                        let text = spi::c_string(&String::from_utf8_lossy(text))?;
                        let (input, text) = (&mut reader.input, text.as_ptr().cast_mut());
                        values[reader.place] = pg_sys::InputFunctionCall(input, text, reader.parameter, -1);
                        nulls[reader.place] = false;
                    }
                }
                pg_sys::tuplestore_putvalues(store, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
                Ok(())
            })?;
        }
        self.count += 1;
        Ok(())
    }

    /// Adds a row as a query gives it, with the columns of this relation.
    ///
    /// # Safety
    /// The executor's slot.
    pub unsafe fn add_slot(&mut self, slot: *mut pg_sys::TupleTableSlot) {
        // SAFETY: see above; the store copies the row.
        unsafe { pg_sys::tuplestore_puttupleslot(self.store, slot) };
        self.count += 1;
    }

    /// The number of the column that says which old row it is.
    pub fn number_column(&self) -> i16 {
        // SAFETY: the descriptor lives as long as the store.
        unsafe { (*self.descriptor).natts as i16 }
    }

    /// Have they all columns of their table?
    pub fn are_whole(&self) -> bool {
        (1..self.number_column()).all(|number| {
            // SAFETY: the descriptor lives as long as the store, and has an attribute of that number.
            let column = unsafe { pg::attribute(self.descriptor, number as usize - 1) };
            column.attisdropped || self.readers.iter().any(|reader| reader.place == number as usize - 1)
        })
    }

    pub fn descriptor(&self) -> pg_sys::TupleDesc {
        self.descriptor
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The table whose rows they are.
    pub fn table(&self) -> pg_sys::Oid {
        self.table
    }

    pub fn name(&self) -> &CStr {
        &self.name
    }

    /// Under which a query finds it, with the number of rows to plan for.
    pub fn relation(&self, rows: f64) -> spi::NamedRelation {
        spi::named_relation(&self.name, self.descriptor, self.store, rows)
    }
}

impl Drop for OldRows {
    fn drop(&mut self) {
        // While an ERROR unwinds through us the subtransaction's abort closes the files, and the memory goes with its context.
        if !std::thread::panicking() {
            // SAFETY: no query reads it any more.
            unsafe { pg_sys::tuplestore_end(self.store) }
        }
    }
}

const NAME: &str = "snapsync old rows of";
const NUMBER: &CStr = c"snapsync number";

impl Reader {
    /// Is the column where it was, and of the type that it had?
    ///
    /// # Safety
    /// The descriptor of the column's table.
    unsafe fn fits(descriptor: pg_sys::TupleDesc, column: &catalog::Column) -> bool {
        let place = column.attnum as usize - 1;
        // SAFETY: an attribute that the descriptor has; a look-up of its type.
        unsafe {
            place < (*descriptor).natts as usize && {
                let attribute = pg::attribute(descriptor, place);
                !attribute.attisdropped && pg_sys::getBaseType(attribute.atttypid) == column.facts.base
            }
        }
    }

    /// # Safety
    /// The column's type exists.
    unsafe fn of(column: &catalog::Column) -> Reader {
        // SAFETY: look-ups of an existing type.
        unsafe {
            // Without the constraints of domains, which may have changed since.
            let (mut function, mut parameter) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
            let base = column.facts.base;
            let by_number = pg::is_object_name(base);
            let read_as = if by_number { pg_sys::OIDOID } else { base };
            pg_sys::getTypeInputInfo(read_as, &mut function, &mut parameter);
            let mut input = pg_sys::FmgrInfo::default();
            pg_sys::fmgr_info(function, &mut input);
            Reader { name: column.name.clone(), place: column.attnum as usize - 1, input, parameter }
        }
    }
}
