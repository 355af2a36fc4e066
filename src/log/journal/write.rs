//! Entries into `snapsync.change`, past the SQL layer.
//!
//! An entry of its own costs a heap row and an index entry: 3 us of a bulk transaction for each of its rows, where the row's
//! own UPDATE takes 5. So keys to which the same happened, with nothing else to say about each, share an entry: 100,000 keys
//! then take 3,500 rows and 0.3 us each.

use pgrx::{pg_sys, IntoDatum};

use super::net::{self, Effect, Net};
use super::Journal;
use crate::log::change::{column, early, Op, Salt, BY_BUCKET, BY_STAMP, EARLY, LOG};
use crate::log::clock;
use crate::server::error::Result;
use crate::server::memory::Gather;
use crate::server::slot::Slot;
use crate::server::{memory, pg, spi};

/// Rows that may be toasted (from 2 kB on) are inserted one by one: the multi-insert of catalog tuples, which never are, would
/// index the place of the tuple as it was before, which has none.
const LARGEST_AT_ONCE: usize = 1_500;

/// Keys of one entry, so that it stays below that.
const PACK_BYTES: usize = 1_200;

/// What an array spends on each of its texts: a header of four bytes, and up to three to align the next.
const ELEMENT_BYTES: usize = 7;

/// Fewer keys than this are written one by one.
const PACK_FROM: usize = 8;

/// So many kinds of changes are collected at a time: those of the tables that a transaction writes in turn.
const PACKS: usize = 8;

/// Rows per multi-insert, like COPY's MAX_BUFFERED_TUPLES.
const CHUNK: usize = 1000;

/// Entries that say the same about different keys.
struct Pack<'a> {
    like: Effect<'a>,
    keys: Vec<&'a str>,
    bytes: usize,
}

impl<'a> Pack<'a> {
    fn takes(&self, effect: &Effect) -> bool {
        let like = &self.like;
        (like.relation, like.op, like.inner, like.scope, like.origin, like.touched, like.as_sent, like.ord < 0)
            == (
                effect.relation,
                effect.op,
                effect.inner,
                effect.scope,
                effect.origin,
                effect.touched,
                effect.as_sent,
                effect.ord < 0,
            )
    }

    fn add(&mut self, key: &'a str) {
        self.bytes += key.len() + ELEMENT_BYTES;
        self.keys.push(key);
    }
}

/// Inserts the entries. `later`: all of them are about later changes than those that are written already, so that keys which share an entry
/// may share its place as well. `salt`: there, if any of them has a scope.
///
/// # Safety
/// Inside a transaction that holds an xid and has an active snapshot.
pub(super) unsafe fn insert(journal: &Journal, nets: &[Net], later: bool, salt: Option<Salt>) -> Result<()> {
    if nets.len() == 1 {
        // SAFETY: the caller's promise.
        if unsafe { insert_few(journal, nets, salt)? } {
            return Ok(());
        }
    }
    // SAFETY: the caller's promise.
    let mut table = unsafe { LogWriter::open(journal, salt)? };
    let mut packs: Vec<Pack> = Vec::new();
    for effect in net::entries(journal, nets) {
        memory::check()?;
        let alone = effect.image.is_some() || !matches!(effect.op, Op::Insert | Op::Update);
        if alone || !later || nets.len() < PACK_FROM {
            table.add(&effect, &[effect.key])?;
            continue;
        }
        match packs.iter_mut().find(|p| p.takes(&effect)) {
            Some(pack) if pack.bytes < PACK_BYTES => pack.add(effect.key),
            Some(pack) => {
                table.add_pack(pack)?;
                pack.keys.clear();
                pack.bytes = 0;
                pack.add(effect.key);
            }
            None => {
                if packs.len() == PACKS {
                    table.add_pack(&packs.remove(0))?;
                }
                let key = effect.key;
                let mut pack = Pack { like: effect, keys: Vec::new(), bytes: 0 };
                pack.add(key);
                packs.push(pack);
            }
        }
    }
    for pack in &packs {
        table.add_pack(pack)?;
    }
    table.close()
}

/// Closes what was written to, without giving its lock back: that lasts until the transaction ends, as after any INSERT. Who waits
/// for the writers of a table asks its locks who they are. `REINDEX ... CONCURRENTLY` took a writer that had given its lock back for
/// one that had ended, and built an index without its entries.
///
/// # Safety
/// An open relation, not used any more.
pub(super) unsafe fn close_written(relation: pg_sys::Relation) {
    let lock = if cfg!(feature = "naive-locks") { pg_sys::RowExclusiveLock } else { pg_sys::NoLock };
    // SAFETY: the caller's promise.
    unsafe { pg_sys::table_close(relation, lock as i32) }
}

/// Fast path for one change, as most transactions have: without slots, memory context and CatalogIndexState, which pay off only for
/// many. Returns false, having inserted nothing, if the table has other indexes.
///
/// # Safety
/// As for `insert`.
unsafe fn insert_few(journal: &Journal, nets: &[Net], salt: Option<Salt>) -> Result<bool> {
    let lock = pg_sys::RowExclusiveLock as i32;
    let relation = LOG.open(pg_sys::RowExclusiveLock)?;
    // SAFETY: table and indexes exist and have these columns; on an ERROR everything goes with the transaction. A btree
    // asks nothing of its IndexInfo, the indexes being neither unique nor partial.
    unsafe {
        let by_bucket = pg::own_index(relation, c"change_relation_bucket_stamp", &BY_BUCKET)?;
        let by_stamp = pg::own_index(relation, c"change_relation_stamp", &BY_STAMP)?;
        // REINDEX CONCURRENTLY builds another one that must not miss a row.
        let all = pg_sys::RelationGetIndexList(relation);
        let length = all.as_ref().map_or(0, |all| all.length as usize);
        let known = length == 2 && (0..2).all(|i| [by_bucket, by_stamp].contains(&(*(*all).elements.add(i)).oid_value));
        pg_sys::list_free(all);
        if !known {
            close_written(relation);
            return Ok(false);
        }
        let (by_bucket, by_stamp) = (pg_sys::index_open(by_bucket, lock), pg_sys::index_open(by_stamp, lock));
        for effect in net::entries(journal, nets) {
            let (mut values, mut nulls) = datums(journal, salt, &effect, &[effect.key])?;
            let tuple = pg_sys::heap_form_tuple((*relation).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::simple_heap_insert(relation, tuple);
            let insert = |index, values: *mut pg_sys::Datum, nulls: *mut bool| {
                let (unique, info) = (pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO, std::ptr::null_mut());
                let place = &raw mut (*tuple).t_self;
                pg_sys::index_insert(index, values, nulls, place, relation, unique, false, info);
            };
            let (value, null) = (|i: i16| values[i as usize - 1], |i: i16| nulls[i as usize - 1]);
            insert(by_bucket, BY_BUCKET.map(value).as_mut_ptr(), BY_BUCKET.map(null).as_mut_ptr());
            insert(by_stamp, BY_STAMP.map(value).as_mut_ptr(), BY_STAMP.map(null).as_mut_ptr());
            pg_sys::heap_freetuple(tuple);
        }
        pg_sys::index_close(by_bucket, lock);
        pg_sys::index_close(by_stamp, lock);
        close_written(relation);
        Ok(true)
    }
}

/// Says which stamp the transaction has got whose entries bear this number.
///
/// # Safety
/// Inside a transaction that holds an xid.
pub(super) unsafe fn insert_early(number: i64, stamp: i64) -> Result<()> {
    let relation = EARLY.open(pg_sys::RowExclusiveLock)?;
    // SAFETY: one tuple of the table's own shape (sql/02_tables.sql), inserted with its indexes.
    unsafe {
        let indexes = pg::OwnIndexes::open(&EARLY, relation)?;
        let class = early::class_of(number, stamp).into_datum();
        let tuple = EARLY.row(relation, &[Some(number.into()), Some(stamp.into()), class]);
        indexes.insert(relation, tuple);
        pg_sys::heap_freetuple(tuple);
        indexes.close();
        close_written(relation);
    }
    Ok(())
}

/// `snapsync.change`, open for inserting.
struct LogWriter<'a> {
    journal: &'a Journal,
    salt: Option<Salt>,
    relation: pg_sys::Relation,
    indexes: pg::OwnIndexes,
    /// Datums of the rows that are collected; emptied when they have been copied into the heap.
    context: pg_sys::MemoryContext,
    /// Of the slots: a copy, because each slot would register with the resource owner that it uses the relation's (8 % of a
    /// bulk INSERT).
    descriptor: pg_sys::TupleDesc,
    slots: Vec<Slot>,
    filled: usize,
}

impl<'a> LogWriter<'a> {
    /// # Safety
    /// As for `insert`.
    unsafe fn open(journal: &'a Journal, salt: Option<Salt>) -> Result<LogWriter<'a>> {
        let relation = LOG.open(pg_sys::RowExclusiveLock)?;
        // SAFETY: what is open or allocated here goes with the transaction on an ERROR.
        unsafe {
            Ok(LogWriter {
                journal,
                salt,
                relation,
                indexes: pg::OwnIndexes::open(&LOG, relation)?,
                context: pg_sys::AllocSetContextCreateInternal(
                    pg_sys::CurrentMemoryContext,
                    c"snapsync flush".as_ptr(),
                    pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                    pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                    pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
                ),
                descriptor: std::ptr::null_mut(),
                slots: Vec::new(),
                filled: 0,
            })
        }
    }

    fn add_pack(&mut self, pack: &Pack) -> Result<()> {
        if pack.keys.len() >= PACK_FROM {
            return self.add(&pack.like, &pack.keys);
        }
        pack.keys.iter().try_for_each(|key| self.add(&pack.like, &[key]))
    }

    /// Collects an entry about these keys.
    fn add(&mut self, effect: &Effect, keys: &[&str]) -> Result<()> {
        // SAFETY: the slots have the table's descriptor. The datums live until the slots have been copied into the heap.
        unsafe {
            let caller = pg_sys::MemoryContextSwitchTo(self.context);
            let (mut values, mut nulls) = datums(self.journal, self.salt, effect, keys)?;
            let descriptor = (*self.relation).rd_att;
            if pg_sys::heap_compute_data_size(descriptor, values.as_mut_ptr(), nulls.as_mut_ptr()) > LARGEST_AT_ONCE {
                let tuple = pg_sys::heap_form_tuple(descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
                self.indexes.insert(self.relation, tuple);
                pg_sys::MemoryContextSwitchTo(caller);
                // This one and those collected.
                self.insert_collected();
                pg_sys::MemoryContextReset(self.context);
                return Ok(());
            }
            pg_sys::MemoryContextSwitchTo(caller);
            let slot = self.next_slot();
            pg_sys::ExecClearTuple(slot);
            let count = (*descriptor).natts as usize;
            values.as_ptr().copy_to_nonoverlapping((*slot).tts_values, count);
            nulls.as_ptr().copy_to_nonoverlapping((*slot).tts_isnull, count);
            pg_sys::ExecStoreVirtualTuple(slot);
        }
        self.filled += 1;
        if self.filled == CHUNK {
            self.insert_collected();
        }
        Ok(())
    }

    fn next_slot(&mut self) -> Slot {
        // SAFETY: the copy of the descriptor outlives the slots.
        unsafe {
            if self.descriptor.is_null() {
                self.descriptor = pg_sys::CreateTupleDescCopy((*self.relation).rd_att);
            }
            if self.slots.len() <= self.filled {
                self.slots.push(pg_sys::MakeSingleTupleTableSlot(self.descriptor, &pg_sys::TTSOpsHeapTuple));
            }
        }
        self.slots[self.filled]
    }

    fn insert_collected(&mut self) {
        if self.filled > 0 {
            // SAFETY: so many slots hold rows of this table.
            unsafe {
                pg_sys::CatalogTuplesMultiInsertWithInfo(
                    self.relation,
                    self.slots.as_mut_ptr(),
                    self.filled as i32,
                    self.indexes.raw(),
                );
                pg_sys::MemoryContextReset(self.context);
            }
            self.filled = 0;
        }
    }

    fn close(mut self) -> Result<()> {
        self.insert_collected();
        // SAFETY: what `open` and `next_slot` made.
        unsafe {
            for slot in self.slots {
                pg_sys::ExecDropSingleTupleTableSlot(slot);
            }
            if !self.descriptor.is_null() {
                pg_sys::FreeTupleDesc(self.descriptor);
            }
            pg_sys::MemoryContextDelete(self.context);
            self.indexes.close();
            close_written(self.relation);
        }
        Ok(())
    }
}

/// So many columns the table has at most, with those that were dropped.
const MOST: usize = column::COUNT + pg::DROPPED;

/// A row of snapsync.change, in the current memory context: its values, and which are NULL. The column order is that of CREATE TABLE in
/// sql/02_tables.sql, checked by a test.
fn datums(
    journal: &Journal,
    salt: Option<Salt>,
    effect: &Effect,
    keys: &[&str],
) -> Result<([pg_sys::Datum; MOST], [bool; MOST])> {
    let (key, keys) = match keys {
        [key] => (key.into_datum(), None),
        _ => (None, Some(text_array(keys))),
    };
    let own: [Option<pg_sys::Datum>; column::COUNT] = [
        effect.relation.into_datum(),
        effect.ord.into_datum(),
        journal.stamp.unwrap_or(clock::FIRST).into_datum(),
        (effect.op.byte(effect.inner) as i8).into_datum(),
        effect.bucket(salt).into_datum(),
        effect.scope.into_datum(),
        key,
        effect.image.map(spi::jsonb).transpose()?,
        effect.origin.into_datum(),
        effect.touched.map(column_numbers),
        effect.as_sent.then(|| pg_sys::Datum::from(true)),
        keys,
    ];
    let (mut values, mut nulls) = ([pg_sys::Datum::null(); MOST], [true; MOST]);
    for (i, datum) in own.into_iter().enumerate() {
        if let Some(datum) = datum {
            (values[i], nulls[i]) = (datum, false);
        }
    }
    Ok((values, nulls))
}

/// A text[] without nulls (utils/array.h), written in one go: building it text by text took 2 % of a bulk INSERT.
fn text_array(texts: &[&str]) -> pg_sys::Datum {
    const ALIGNMENT: usize = 4;
    let dimensions = std::mem::size_of::<pg_sys::ArrayType>();
    let header = dimensions + 2 * std::mem::size_of::<i32>();
    let size = texts.iter().fold(header, |at, t| (at + pg_sys::VARHDRSZ + t.len()).next_multiple_of(ALIGNMENT));
    // SAFETY: all is written within `size` bytes, aligned as its types ask; palloc0 aligns to 8 and leaves zeros between texts.
    unsafe {
        let array: *mut pg_sys::ArrayType = pg_sys::palloc0(size).cast();
        pgrx::varlena::set_varsize_4b(array.cast(), size as i32);
        (*array).ndim = 1;
        (*array).elemtype = pg_sys::TEXTOID;
        // The only dimension's length, and its lower bound.
        let dimension = array.cast::<u8>().add(dimensions).cast::<i32>();
        *dimension = texts.len() as i32;
        *dimension.add(1) = 1;
        let mut at = header;
        for text in texts {
            let element = array.cast::<u8>().add(at);
            pgrx::varlena::set_varsize_4b(element.cast(), (pg_sys::VARHDRSZ + text.len()) as i32);
            element.add(pg_sys::VARHDRSZ).copy_from_nonoverlapping(text.as_ptr(), text.len());
            at = (at + pg_sys::VARHDRSZ + text.len()).next_multiple_of(ALIGNMENT);
        }
        pg_sys::Datum::from(array)
    }
}

/// An int2[] of the distinct column numbers.
fn column_numbers(touched: &[u8]) -> pg_sys::Datum {
    let numbers = touched.chunks_exact(2).map(|b| i16::from_ne_bytes([b[0], b[1]]));
    let distinct: std::collections::BTreeSet<i16> = numbers.gather();
    let numbers: Vec<i16> = distinct.into_iter().gather();
    numbers.into_datum().unwrap_or(pg_sys::Datum::null())
}
