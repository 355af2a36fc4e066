//! Transactions that wrote entries before they had their stamp: which stamp the number of these stands for (journal.rs).
//!
//! Everybody may leave rows in `snapsync.early`, one with each transaction that writes and then pulls. So nobody reads them all. An entry shows whether its
//! stamp is such a number ([`clock::is_early`]), and only what is met in the entries is looked up. What is further back than a cursor, and stands for a stamp that is not, was
//! under way when the cursor's stamp was drawn. It is found by how far number and stamp are apart: in classes ([`early::class_of`]), of each of which only those are read whose
//! stamps are so near.

use std::ffi::{c_int, CStr};
use std::rc::Rc;

use pgrx::{pg_sys, IntoDatum};

use super::{scan_key, Log};
use crate::log::change::{early, EARLY};
use crate::log::{clock, journal};
use crate::server::error::Result;
use crate::server::memory;
use crate::server::pg;

/// A number of entries, and the stamp that it stands for.
pub(super) type Early = (i64, i64);

const CLASSES: i16 = (i64::BITS / early::CLASS_BITS) as i16;

/// No stamp from this one on belongs to a number of the class that is below `from`.
fn end_of(class: i16, from: i64) -> i64 {
    let bits = early::CLASS_BITS * (class as u32 + 1);
    if bits >= i64::BITS - 1 {
        i64::MAX
    } else {
        from.saturating_add(1 << bits)
    }
}

impl Log<'_> {
    /// The stamp of an entry that bears this number. This transaction's own number stands for itself.
    pub(super) fn stamp_of(&self, number: i64) -> Result<i64> {
        if !clock::is_early(number) || journal::own_stamp() == Some(number) {
            return Ok(number);
        }
        // A transaction's entries are one after the other.
        let (last, stamp) = self.last_early.get();
        if last == number {
            return Ok(stamp);
        }
        let key = scan_key(early::NUMBER, pg_sys::BTEqualStrategyNumber, pg_sys::F_INT8EQ, number.into_datum());
        let found = self.read_early(c"early_number", &[early::NUMBER], vec![key], |_| true, 1)?;
        let stamp = found.first().map_or(number, |(_, stamp)| *stamp);
        self.last_early.set((number, stamp));
        Ok(stamp)
    }

    /// The number that stands for this stamp, where there is one.
    pub(super) fn number_of(&self, stamp: i64) -> Result<Option<i64>> {
        let key = scan_key(early::STAMP, pg_sys::BTEqualStrategyNumber, pg_sys::F_INT8EQ, stamp.into_datum());
        let found = self.read_early(c"early_stamp", &[early::STAMP], vec![key], |_| true, 1)?;
        Ok(found.first().map(|(number, _)| *number))
    }

    /// The numbers below this stamp that stand for it or for a later one, in order.
    pub(super) fn under_way(&self, from: i64) -> Result<Rc<Vec<Early>>> {
        if let Some((_, known)) = self.under_way.borrow().iter().find(|(of, _)| *of == from) {
            return Ok(Rc::clone(known));
        }
        let found = Rc::new(self.read_under_way(from)?);
        memory::push(&mut self.under_way.borrow_mut(), (from, Rc::clone(&found)))?;
        Ok(found)
    }

    fn read_under_way(&self, from: i64) -> Result<Vec<Early>> {
        let since = |from: i64| {
            scan_key(early::STAMP, pg_sys::BTGreaterEqualStrategyNumber, pg_sys::F_INT8GE, from.into_datum())
        };
        // Most often there is none at all since then.
        if self.read_early(c"early_stamp", &[early::STAMP], vec![since(from)], |_| true, 1)?.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for class in 0..CLASSES {
            let of_class = scan_key(early::CLASS, pg_sys::BTEqualStrategyNumber, pg_sys::F_INT2EQ, class.into_datum());
            let end = end_of(class, from).into_datum();
            let near = scan_key(early::STAMP, pg_sys::BTLessStrategyNumber, pg_sys::F_INT8LT, end);
            let keys = vec![of_class, since(from), near];
            let columns = [early::CLASS, early::STAMP];
            let of = self.read_early(c"early_class", &columns, keys, |(number, _)| number < from, usize::MAX)?;
            memory::extend(&mut found, of);
        }
        found.sort_unstable();
        Ok(found)
    }

    /// The first so many of the rows of `snapsync.early` with these keys that are wanted.
    fn read_early(
        &self,
        index: &'static CStr,
        columns: &[i16],
        mut keys: Vec<pg_sys::ScanKeyData>,
        wanted: impl Fn(Early) -> bool,
        most: usize,
    ) -> Result<Vec<Early>> {
        let mut found = Vec::new();
        // SAFETY: the table exists, and its index is looked up under a lock on it; on an ERROR the resource owner closes both.
        unsafe {
            let relation = EARLY.open(pg_sys::AccessShareLock)?;
            let index = pg::own_index(relation, index, columns)?;
            let count = keys.len() as c_int;
            let snapshot = self.snapshot.raw();
            let scan = pg_sys::systable_beginscan(relation, index, true, snapshot, count, keys.as_mut_ptr());
            while found.len() < most {
                memory::heed();
                let tuple = pg_sys::systable_getnext(scan);
                if tuple.is_null() {
                    break;
                }
                let column = |column: i16| {
                    let mut null = false;
                    pg_sys::heap_getattr(tuple, c_int::from(column), (*relation).rd_att, &mut null).value() as i64
                };
                let row = (column(early::NUMBER), column(early::STAMP));
                if wanted(row) {
                    memory::push(&mut found, row)?;
                }
            }
            pg_sys::systable_endscan(scan);
            pg_sys::table_close(relation, pg_sys::AccessShareLock as c_int);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever was under way at a stamp is found in its class.
        #[test]
        fn what_was_under_way_is_near(number in 1i64..1 << 53, distance in prop_oneof![1i64..100_000, 1i64..1 << 52], at in 0.0f64..1.0) {
            let stamp = number + distance;
            let from = (number + 1 + (distance as f64 * at) as i64).min(stamp);
            prop_assert!(number < from && from <= stamp);
            prop_assert!(stamp < end_of(early::class_of(number, stamp), from));
        }
    }
}
