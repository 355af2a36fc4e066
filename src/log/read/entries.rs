//! What the log says since a cursor, key by key. A few entries are kept as they are; many, which are mostly others', go through a sort that
//! spills to disk, so that they take no more memory than `work_mem`.

use std::rc::Rc;

use pgrx::{pg_sys, FromDatum, IntoDatum};

use super::{by_key, show_what_was_found, Log, Logged};
use crate::log::change::{column, Image, Op};
use crate::log::journal;
use crate::server::error::Result;
use crate::server::memory::Gather;
use crate::server::{memory, pg};

/// So many entries are kept in memory, and so many bytes of what is in them.
const FEW: usize = 10_000;
const FEW_BYTES: usize = 4 << 20;

pub struct Entries {
    was_reset: bool,
    have_images: bool,
    have_inner: bool,
    few: Vec<Logged>,
    bytes: usize,
    many: Option<Sorted>,
    /// Only the transactions that have one of a row version of their own.
    inner: bool,
}

impl Entries {
    pub(super) fn new() -> Entries {
        let (was_reset, have_images, have_inner, inner) = (false, false, false, false);
        Entries { was_reset, have_images, have_inner, few: Vec::new(), bytes: 0, many: None, inner }
    }

    /// Of each key only the transactions that have an entry of a row version which they had made before.
    pub(super) fn of_inner() -> Entries {
        Entries { inner: true, ..Entries::new() }
    }

    pub(super) fn add(&mut self, entry: Logged, log: &Log) -> Result<()> {
        if entry.op == Op::Reset {
            self.was_reset = true;
            return Ok(());
        }
        self.have_images |= entry.image.is_some();
        self.have_inner |= entry.inner;
        if let Some(many) = &mut self.many {
            many.put(entry);
            return Ok(());
        }
        let origin = self.few.last().and_then(|last| last.origin.as_ref());
        let shared = matches!((origin, &entry.origin), (Some(a), Some(b)) if Rc::ptr_eq(a, b));
        let origin = entry.origin.as_ref().filter(|_| !shared).map_or(0, |o| o.len());
        self.bytes += entry.key.len() + origin + entry.image.as_ref().map_or(0, Image::size);
        memory::push(&mut self.few, entry)?;
        if self.few.len() > FEW || self.bytes > FEW_BYTES {
            let many = self.many.insert(Sorted::begin(log));
            self.few.drain(..).for_each(|entry| many.put(entry));
        }
        Ok(())
    }

    pub(super) fn complete(&mut self) {
        match &mut self.many {
            Some(many) => many.complete(),
            None => memory::sort_by(&mut self.few, by_key),
        }
    }

    /// Is there a reset among them, which concerns every key and scope?
    pub fn was_reset(&self) -> bool {
        self.was_reset
    }

    /// Has any of them an old state of its row?
    pub fn have_images(&self) -> bool {
        self.have_images
    }

    /// Is any of them of a row version that its transaction had made before?
    pub(super) fn have_inner(&self) -> bool {
        self.have_inner
    }

    pub fn is_empty(&self) -> bool {
        self.few.is_empty() && self.many.is_none()
    }

    pub fn are_more_than(&self, some: usize) -> bool {
        self.many.is_some() || self.few.len() > some
    }

    /// Are they too many for their keys to be kept in memory?
    pub fn are_many(&self) -> bool {
        self.many.is_some()
    }

    /// Calls `each` for each key and transaction with the entries of both, in order of the keys, until it says false. (Not for each key:
    /// a row that others change a million times has a million.)
    pub fn each(&self, each: &mut dyn FnMut(&str, &[Logged]) -> Result<bool>) -> Result<()> {
        let running = journal::own_stamp();
        let Some(many) = &self.many else {
            for entries in self.few.chunk_by(|a, b| (&a.key, a.stamp) == (&b.key, b.stamp)) {
                memory::heed();
                memory::check()?;
                let has_inner = entries.iter().any(|l| l.inner);
                if self.inner && !has_inner {
                    continue;
                }
                let more = if has_inner {
                    let mut entries: Vec<Logged> = entries.iter().cloned().gather();
                    show_what_was_found(&mut entries, running);
                    each(&entries[0].key, &entries)?
                } else {
                    each(&entries[0].key, entries)?
                };
                if !more {
                    break;
                }
            }
            return Ok(());
        };
        many.rewind();
        let mut entries: Vec<Logged> = Vec::new();
        loop {
            memory::heed();
            memory::check()?;
            let next = many.next()?;
            let same = |entry: &Logged| entries.first().is_none_or(|f| (&f.key, f.stamp) == (&entry.key, entry.stamp));
            if !next.as_ref().is_some_and(same) && !entries.is_empty() {
                if !self.inner || entries.iter().any(|l| l.inner) {
                    show_what_was_found(&mut entries, running);
                    if !each(&entries[0].key, &entries)? {
                        return Ok(());
                    }
                }
                entries.clear();
            }
            match next {
                Some(entry) => memory::push(&mut entries, entry)?,
                None => return Ok(()),
            }
        }
    }
}

/// Entries in a sort by key, stamp and order. Rows have the descriptor of snapsync.change.
struct Sorted {
    state: *mut pg_sys::Tuplesortstate,
    slot: *mut pg_sys::TupleTableSlot,
    /// For what is made of an entry to be put.
    per_row: pg::PerRow,
    row: *mut pg_sys::TupleTableSlot,
}

impl Sorted {
    fn begin(log: &Log) -> Sorted {
        // SAFETY: the log is open; the columns are those of its descriptor, the operators of their types. All is allocated in the
        // current memory context; temporary files belong to the current resource owner.
        unsafe {
            let descriptor = pg_sys::CreateTupleDescCopy(log.descriptor());
            let mut columns = [column::KEY, column::STAMP, column::ORD];
            let mut operators =
                [pg_sys::Oid::from(pg_sys::TextLessOperator), less_than(pg_sys::INT8OID), less_than(pg_sys::INT4OID)];
            let mut collations = [pg_sys::C_COLLATION_OID, pg_sys::InvalidOid, pg_sys::InvalidOid];
            let mut nulls_first = [false; 3];
            let state = pg_sys::tuplesort_begin_heap(
                descriptor,
                3,
                columns.as_mut_ptr(),
                operators.as_mut_ptr(),
                collations.as_mut_ptr(),
                nulls_first.as_mut_ptr(),
                pg_sys::work_mem,
                std::ptr::null_mut(),
                RANDOM_ACCESS,
            );
            let slot = pg_sys::MakeSingleTupleTableSlot(descriptor, &pg_sys::TTSOpsVirtual);
            let row = pg_sys::MakeSingleTupleTableSlot(descriptor, &pg_sys::TTSOpsMinimalTuple);
            Sorted { state, slot, per_row: pg::PerRow::new(c"snapsync log entry"), row }
        }
    }

    fn put(&mut self, entry: Logged) {
        // SAFETY: the slot has the columns of snapsync.change; the sort copies the row, and the slot lets go of it.
        unsafe {
            let slot = self.slot;
            self.per_row.run(|| {
                let natts = (*(*slot).tts_tupleDescriptor).natts as usize;
                let values = std::slice::from_raw_parts_mut((*slot).tts_values, natts);
                let nulls = std::slice::from_raw_parts_mut((*slot).tts_isnull, natts);
                nulls.fill(true);
                let mut set = |column: i16, datum: Option<pg_sys::Datum>| {
                    let place = column as usize - 1;
                    nulls[place] = datum.is_none();
                    values[place] = datum.unwrap_or(pg_sys::Datum::null());
                };
                set(column::KEY, entry.key.into_datum());
                set(column::STAMP, entry.stamp.into_datum());
                set(column::ORD, entry.ord.into_datum());
                set(column::OP, (entry.op.byte(entry.inner) as i8).into_datum());
                set(column::IMAGE, entry.image.as_ref().map(Image::datum));
                set(column::ORIGIN, entry.origin.as_deref().into_datum());
                set(column::TOUCHED, entry.touched.into_datum());
                set(column::AS_SENT, entry.as_sent.into_datum());
                pg_sys::ExecStoreVirtualTuple(slot);
                pg_sys::tuplesort_puttupleslot(self.state, slot);
                pg_sys::ExecClearTuple(slot);
            });
        }
    }

    fn complete(&mut self) {
        // SAFETY: a sort that has all its rows.
        unsafe { pg_sys::tuplesort_performsort(self.state) }
    }

    fn rewind(&self) {
        // SAFETY: a completed sort with random access.
        unsafe { pg_sys::tuplesort_rescan(self.state) }
    }

    fn next(&self) -> Result<Option<Logged>> {
        // SAFETY: a completed sort; the row stays in its slot until the next one is fetched, and what is returned is a copy.
        unsafe {
            let (forward, copy, no_abbreviation) = (true, false, std::ptr::null_mut());
            if !pg_sys::tuplesort_gettupleslot(self.state, forward, copy, self.row, no_abbreviation) {
                return Ok(None);
            }
            let value = |column: i16| crate::server::slot::value(self.row, column);
            let (op, inner) =
                value(column::OP).and_then(|d| Op::from_byte(d.value() as u8)).unwrap_or((Op::Reset, false));
            let stamp = value(column::STAMP).map_or(0, |d| d.value() as i64);
            Ok(Some(Logged {
                stamp,
                ord: value(column::ORD).map_or(0, |d| d.value() as i32),
                op,
                inner,
                key: value(column::KEY).and_then(|d| String::from_datum(d, false)).unwrap_or_default(),
                image: value(column::IMAGE).map(|d| Image::of(d, stamp)).transpose()?,
                origin: value(column::ORIGIN).and_then(|d| <&str>::from_datum(d, false)).map(Rc::from),
                touched: value(column::TOUCHED).and_then(|d| Vec::<i16>::from_datum(d, false)),
                as_sent: value(column::AS_SENT).is_some_and(|d| d.value() as u8 != 0),
            }))
        }
    }
}

impl Drop for Sorted {
    fn drop(&mut self) {
        // While an ERROR unwinds through us the abort closes its files, and the memory goes with its context.
        if !std::thread::panicking() {
            // SAFETY: made in `begin`; no row of it is referred to.
            unsafe {
                pg_sys::ExecDropSingleTupleTableSlot(self.slot);
                pg_sys::ExecDropSingleTupleTableSlot(self.row);
                pg_sys::tuplesort_end(self.state);
            }
        }
    }
}

/// TUPLESORT_RANDOMACCESS (utils/tuplesort.h): the rows can be read again from the first one on.
const RANDOM_ACCESS: i32 = 1;

fn less_than(type_oid: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: a built-in type, which has a default order.
    unsafe { (*pg_sys::lookup_type_cache(type_oid, pg_sys::TYPECACHE_LT_OPR as i32)).lt_opr }
}
