//! The backend's own log of what its transaction changed, and its flush into `snapsync.change`.
//!
//! `track.rs` appends one entry per row change, in memory. When the transaction commits (PRE_COMMIT) or is prepared
//! (PRE_PREPARE), the entries are merged to one per key, stamped, and inserted past the SQL layer: rows and index entries
//! only, no planner, no triggers, no ACL, as catalog code does. Savepoints truncate the log; a transaction that writes more
//! than `snapsync.flush_threshold` entries flushes early, which the clock allows: its registration holds until it ends.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use pgrx::prelude::*;
use pgrx::{pg_sys, IntoDatum};

use crate::error::Result;
use crate::{clock, pg, roles, settings, spi};

/// What happened to a key. `Reset`: forget the whole collection (TRUNCATE, policy DDL, `snapsync.reset()`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Op {
    Insert = b'I',
    Update = b'U',
    Delete = b'D',
    Reset = b'R',
}

impl Op {
    pub fn from_byte(byte: u8) -> Option<Op> {
        [Op::Insert, Op::Update, Op::Delete, Op::Reset].into_iter().find(|op| *op as u8 == byte)
    }
}

/// One change as the trigger saw it. Texts live in the journal's arena; an absent range is SQL NULL.
struct Entry {
    relation: pg_sys::Oid,
    op: Op,
    key: Range<usize>,
    /// The old row's part that decides who could see it, as JSON text.
    image: Option<Range<usize>>,
    scope: Option<Range<usize>>,
    /// Where the row's scope was before an UPDATE that moved it.
    scope_before: Option<Option<Range<usize>>>,
    when: When,
    origin: Option<Rc<str>>,
    /// The columns that an UPDATE touched, as int2 numbers of the root table in native byte order; None where nobody asked
    /// (see `Spec::touched`) or where the row came into being.
    touched: Option<Range<usize>>,
}

/// What a caller appends; the journal copies it.
pub struct Change<'a> {
    pub relation: pg_sys::Oid,
    pub op: Op,
    pub key: &'a [u8],
    pub image: Option<&'a [u8]>,
    pub scope: Option<&'a [u8]>,
    pub scope_before: Option<Option<&'a [u8]>>,
    pub when: When,
    pub touched: Option<&'a [u8]>,
}

/// When in its transaction a change happened: the order of the changes of one key. Triggers do not fire in that order (those
/// of a statement inside another one fire first).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum When {
    /// The old row version was there before the transaction: this is the key's first change.
    First,
    /// A version was inserted by this command.
    InsertedBy(u32),
    /// The old version was made by this command of the transaction itself. Nobody outside ever saw it.
    AfterCommand(u32),
}

impl When {
    /// Command by command; a version is made before it is changed.
    fn order(self) -> (u64, u8) {
        match self {
            When::First => (0, 0),
            When::InsertedBy(command) => (u64::from(command) + 1, 0),
            When::AfterCommand(command) => (u64::from(command) + 1, 1),
        }
    }
}

#[derive(Default)]
struct Journal {
    entries: Vec<Entry>,
    arena: Vec<u8>,
    /// Open subtransactions: their id and where the log stood when they began.
    marks: Vec<Mark>,
    /// This transaction's stamp, once it is registered with the clock.
    stamp: Option<i64>,
    /// Entries of this transaction flushed so far: their order within the stamp.
    written: i32,
    /// The client_id of the push under way.
    origin: Option<Rc<str>>,
    /// When this backend last wrote a horizon row.
    horizon_written: pg_sys::TimestampTz,
}

struct Mark {
    subtransaction: pg_sys::SubTransactionId,
    entries: usize,
    arena: usize,
}

thread_local! {
    static JOURNAL: RefCell<Journal> = RefCell::new(Journal::default());
}

/// How often a backend adds to `snapsync.horizon`, which only REPEATABLE READ callers, standbys and wall-clock cursors use.
/// 5 ms bounds what those see twice; at 2,000 transactions a second it is one extra row per ten.
const HORIZON_EVERY_MICROS: i64 = 5_000;

/// Rows per multi-insert, like COPY's MAX_BUFFERED_TUPLES.
const CHUNK: usize = 1000;

pub fn register_callbacks() {
    // SAFETY: called once per backend when the library is loaded; the callbacks are guarded functions.
    unsafe {
        pg_sys::RegisterXactCallback(Some(on_transaction), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(on_subtransaction), std::ptr::null_mut());
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_transaction(event: pg_sys::XactEvent::Type, _arg: *mut std::ffi::c_void) {
    use pg_sys::XactEvent::*;
    match event {
        // Everything that can fail happens here, where an ERROR still aborts the transaction.
        XACT_EVENT_PRE_COMMIT | XACT_EVENT_PRE_PREPARE => {
            if let Err(e) = flush(Flush::All) {
                e.raise()
            }
        }
        XACT_EVENT_COMMIT | XACT_EVENT_ABORT | XACT_EVENT_PREPARE => {
            clock::end_of_transaction();
            roles::end_of_transaction();
            // An ERROR inside one of our own borrows has released it by unwinding; try_borrow only makes sure that this
            // callback cannot panic, which would take the backend down.
            JOURNAL.with(|j| {
                if let Ok(mut j) = j.try_borrow_mut() {
                    j.entries.clear();
                    j.arena.clear();
                    // A bulk transaction's memory is not kept for the rest of the session.
                    j.entries.shrink_to(1 << 12);
                    j.arena.shrink_to(1 << 18);
                    j.marks.clear();
                    j.stamp = None;
                    j.written = 0;
                    j.origin = None;
                }
            });
        }
        _ => {}
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_subtransaction(
    event: pg_sys::SubXactEvent::Type,
    id: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _arg: *mut std::ffi::c_void,
) {
    use pg_sys::SubXactEvent::*;
    JOURNAL.with(|j| {
        let Ok(mut j) = j.try_borrow_mut() else { return };
        match event {
            SUBXACT_EVENT_START_SUB => {
                let mark = Mark { subtransaction: id, entries: j.entries.len(), arena: j.arena.len() };
                j.marks.push(mark);
            }
            SUBXACT_EVENT_COMMIT_SUB => {
                if let Some(at) = j.marks.iter().rposition(|m| m.subtransaction == id) {
                    j.marks.truncate(at);
                }
            }
            SUBXACT_EVENT_ABORT_SUB => {
                roles::subtransaction_aborted();
                // A subtransaction without a mark was open before this library was loaded, so all that is logged is its own.
                let at = j.marks.iter().rposition(|m| m.subtransaction == id);
                let (entries, arena) = at.map_or((0, 0), |at| (j.marks[at].entries, j.marks[at].arena));
                j.entries.truncate(entries);
                j.arena.truncate(arena);
                j.marks.truncate(at.unwrap_or(0));
            }
            _ => {}
        }
    });
}

/// Logs a change of the current transaction.
pub fn append(change: Change) -> Result<()> {
    let full = JOURNAL.with(|j| {
        let mut j = j.borrow_mut();
        let key = j.store(change.key);
        let image = change.image.map(|i| j.store(i));
        let scope = change.scope.map(|s| j.store(s));
        let scope_before = change.scope_before.map(|before| before.map(|s| j.store(s)));
        let origin = j.origin.clone();
        let touched = change.touched.map(|t| j.store(t));
        let Change { relation, op, when, .. } = change;
        j.entries.push(Entry { relation, op, key, image, scope, scope_before, when, origin, touched });
        j.entries.len() - j.own_start() >= settings::flush_threshold()
    });
    if full {
        flush(Flush::Own)?;
    }
    Ok(())
}

/// While this lives, changes are those of a client's push; its client_id goes into `change.origin`. Then it is given back
/// to whose it was: a mutator may push.
pub struct Origin(Option<Rc<str>>);

impl Origin {
    pub fn set(client: Option<&str>) -> Origin {
        JOURNAL.with(|j| Origin(std::mem::replace(&mut j.borrow_mut().origin, client.map(Rc::from))))
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        JOURNAL.with(|j| {
            if let Ok(mut j) = j.try_borrow_mut() {
                j.origin = self.0.take();
            }
        });
    }
}

/// Makes the next pulls send this row although it did not change: a client believes something else of it.
pub fn touch(relation: pg_sys::Oid, key: &str) -> Result<()> {
    let _nobody = Origin::set(None);
    append(Change {
        relation,
        op: Op::Update,
        key: key.as_bytes(),
        image: None,
        scope: None,
        scope_before: None,
        // After whatever else happened to the row.
        when: When::AfterCommand(u32::MAX),
        touched: Some(&[]),
    })
}

/// This transaction's stamp, if it has written entries already.
pub fn own_stamp() -> Option<i64> {
    JOURNAL.with(|j| j.borrow().stamp)
}

/// A pull or push in a transaction that has itself written must see its own changes in the log.
pub fn flush_before_reading() -> Result<()> {
    if JOURNAL.with(|j| j.borrow().entries.is_empty()) {
        return Ok(());
    }
    flush(Flush::All)?;
    // SAFETY: makes our inserts visible to the next snapshot of this transaction.
    unsafe { pg_sys::CommandCounterIncrement() };
    Ok(())
}

impl Journal {
    fn store(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        start..self.arena.len()
    }

    /// Where the entries of the innermost subtransaction begin. Rows inserted now belong to it and vanish with it, so a
    /// flush in mid-transaction may only write its own.
    fn own_start(&self) -> usize {
        self.marks.last().map_or(0, |m| m.entries)
    }

    fn text(&self, range: &Range<usize>) -> &str {
        // SAFETY: the arena only ever receives the bytes of Postgres texts in a UTF8 database (checked at CREATE EXTENSION).
        unsafe { std::str::from_utf8_unchecked(&self.arena[range.clone()]) }
    }
}

/// The net effect of a transaction on one key, as nobody outside can see anything in between: the first old state, the last
/// new one.
struct Net {
    first: usize,
    last: usize,
    image: Option<(When, Range<usize>)>,
    /// All of it was one client's push (or nobody's).
    one_origin: bool,
    /// The union of the columns touched; None: not known.
    touched: Option<Vec<u8>>,
}

fn net_effects(journal: &Journal, from: usize) -> Vec<Net> {
    let entries = &journal.entries;
    let mut at: HashMap<(u32, &[u8]), usize> = HashMap::with_capacity(entries.len() - from);
    let mut nets: Vec<Net> = Vec::with_capacity(entries.len() - from);
    // A reset says all there is to say about its relation.
    let reset: Vec<u32> = entries[from..].iter().filter(|e| e.op == Op::Reset).map(|e| e.relation.to_u32()).collect();
    for (i, entry) in entries.iter().enumerate().skip(from) {
        let relation = entry.relation.to_u32();
        if entry.op != Op::Reset && !reset.is_empty() && reset.contains(&relation) {
            continue;
        }
        let image = entry.image.clone().map(|image| (entry.when, image));
        match at.entry((relation, &journal.arena[entry.key.clone()])) {
            std::collections::hash_map::Entry::Vacant(slot) => {
                slot.insert(nets.len());
                let touched = entry.touched.as_ref().map(|t| journal.arena[t.clone()].to_vec());
                nets.push(Net { first: i, last: i, image, one_origin: true, touched });
            }
            std::collections::hash_map::Entry::Occupied(slot) => {
                let net = &mut nets[*slot.get()];
                let order = entry.when.order();
                if order < entries[net.first].when.order() {
                    net.first = i;
                }
                if order > entries[net.last].when.order() {
                    net.last = i;
                }
                // The earliest: changes without an image left the image's columns alone.
                if let Some((when, _)) = &image {
                    if net.image.as_ref().is_none_or(|(known, _)| when.order() < known.order()) {
                        net.image = image;
                    }
                }
                net.one_origin &= entry.origin == entries[net.first].origin;
                net.touched = match (net.touched.take(), &entry.touched) {
                    (Some(mut before), Some(now)) => {
                        before.extend_from_slice(&journal.arena[now.clone()]);
                        Some(before)
                    }
                    _ => None,
                };
            }
        }
    }
    nets.retain_mut(|net| {
        let (first, last) = (&entries[net.first], &entries[net.last]);
        if first.op == Op::Insert {
            // What the row was in between, nobody else could see; and inserted and deleted again, it never was.
            net.image = None;
            return last.op != Op::Delete;
        }
        true
    });
    nets
}

/// A row of snapsync.change.
struct ChangeRow<'a> {
    relation: pg_sys::Oid,
    op: Op,
    scope: Option<&'a str>,
    key: &'a str,
    image: Option<&'a str>,
    origin: Option<&'a str>,
    touched: Option<&'a [u8]>,
}

fn rows<'a>(journal: &'a Journal, nets: &'a [Net]) -> impl Iterator<Item = ChangeRow<'a>> + 'a {
    nets.iter().flat_map(move |net| {
        let (first, last) = (&journal.entries[net.first], &journal.entries[net.last]);
        let op = match (first.op, last.op) {
            (Op::Reset, _) => Op::Reset,
            (Op::Insert, _) => Op::Insert,
            (_, Op::Delete) => Op::Delete,
            _ => Op::Update,
        };
        let row = |scope: Option<&Range<usize>>| ChangeRow {
            relation: first.relation,
            op,
            scope: scope.map(|s| journal.text(s)),
            key: journal.text(&first.key),
            image: net.image.as_ref().map(|(_, i)| journal.text(i)),
            origin: if net.one_origin { first.origin.as_deref() } else { None },
            touched: net.touched.as_deref(),
        };
        let before = match &first.scope_before {
            Some(before) => before.as_ref(),
            None => first.scope.as_ref(),
        };
        let after = if op == Op::Delete { before } else { last.scope.as_ref() };
        let moved = op == Op::Update && before.map(|s| journal.text(s)) != after.map(|s| journal.text(s));
        // A row that moved between scopes concerns both.
        std::iter::once(row(after)).chain(moved.then(|| row(before)))
    })
}

/// Which entries a flush writes.
#[derive(Clone, Copy, PartialEq)]
enum Flush {
    /// Those of the innermost subtransaction, to free memory in a bulk transaction.
    Own,
    /// All: at commit, or before a pull reads. Inside a savepoint the rows inserted now vanish if it is rolled back, so the
    /// entries from below it stay logged and are written again later: an entry twice is harmless, an entry lost is not.
    All,
}

fn flush(which: Flush) -> Result<()> {
    let (own, length) = JOURNAL.with(|j| (j.borrow().own_start(), j.borrow().entries.len()));
    let from = if which == Flush::All { 0 } else { own };
    if length <= from {
        return Ok(());
    }
    // At commit no statement runs any more whose snapshot could serve.
    let _snapshot = pg::ActiveSnapshot::take();
    match own_stamp() {
        Some(stamp) if roles::record_was_undone() => roles::record(stamp)?,
        Some(_) => {}
        None => {
            let recorded = clock::ensure_epoch()?;
            let stamp = clock::register_and_stamp()?;
            JOURNAL.with(|j| j.borrow_mut().stamp = Some(stamp));
            if recorded {
                write_horizon_if_due()?;
            }
            roles::record(stamp)?;
        }
    }
    // Only read while inserting: if that fails in a subtransaction which the user catches, the log is still whole.
    let written = JOURNAL.with(|j| {
        let j = j.borrow();
        let nets = net_effects(&j, from);
        // SAFETY: inside a transaction that holds an xid: it has changed rows.
        unsafe { insert(&j, &nets) }
    })?;
    JOURNAL.with(|j| {
        let j = &mut *j.borrow_mut();
        j.written += written;
        j.entries.truncate(own);
        j.arena.truncate(j.marks.last().map_or(0, |m| m.arena));
    });
    Ok(())
}

/// Inserts the rows into snapsync.change with its index, a thousand at a time.
unsafe fn insert(journal: &Journal, nets: &[Net]) -> Result<i32> {
    let change = pg::relation_oid(c"change")?;
    let stamp = journal.stamp.unwrap_or(clock::FIRST);
    // SAFETY: the column order is that of CREATE TABLE snapsync.change in sql/02_tables.sql, checked by a test; datums are
    // made in a memory context that is reset after each chunk has been copied into the heap.
    unsafe {
        let relation = pg_sys::table_open(change, pg_sys::RowExclusiveLock as i32);
        let indexes = pg_sys::CatalogOpenIndexes(relation);
        let context = pg_sys::AllocSetContextCreateInternal(
            pg_sys::CurrentMemoryContext,
            c"snapsync flush".as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        );
        let mut slots: Vec<*mut pg_sys::TupleTableSlot> = Vec::new();
        let mut filled = 0;
        let mut written = 0;
        let insert_chunk = |slots: &mut Vec<*mut pg_sys::TupleTableSlot>, filled: usize| {
            if filled > 0 {
                pg_sys::CatalogTuplesMultiInsertWithInfo(relation, slots.as_mut_ptr(), filled as i32, indexes);
                pg_sys::MemoryContextReset(context);
            }
        };
        for row in rows(journal, nets) {
            if slots.len() <= filled {
                slots.push(pg_sys::MakeSingleTupleTableSlot((*relation).rd_att, &pg_sys::TTSOpsHeapTuple));
            }
            let slot = slots[filled];
            let caller = pg_sys::MemoryContextSwitchTo(context);
            let datums = [
                row.relation.into_datum(),
                (journal.written + written).into_datum(),
                stamp.into_datum(),
                (row.op as i8).into_datum(),
                row.scope.into_datum(),
                row.key.into_datum(),
                row.image.map(spi::jsonb).transpose()?,
                row.origin.into_datum(),
                row.touched.map(column_numbers),
            ];
            pg_sys::MemoryContextSwitchTo(caller);
            pg_sys::ExecClearTuple(slot);
            for (i, datum) in datums.into_iter().enumerate() {
                *(*slot).tts_values.add(i) = datum.unwrap_or(pg_sys::Datum::null());
                *(*slot).tts_isnull.add(i) = datum.is_none();
            }
            pg_sys::ExecStoreVirtualTuple(slot);
            filled += 1;
            written += 1;
            if filled == CHUNK {
                insert_chunk(&mut slots, filled);
                filled = 0;
            }
        }
        insert_chunk(&mut slots, filled);
        for slot in slots {
            pg_sys::ExecDropSingleTupleTableSlot(slot);
        }
        pg_sys::MemoryContextDelete(context);
        pg_sys::CatalogCloseIndexes(indexes);
        pg_sys::table_close(relation, pg_sys::RowExclusiveLock as i32);
        Ok(written)
    }
}

/// An int2[] of the distinct column numbers.
fn column_numbers(touched: &[u8]) -> pg_sys::Datum {
    let numbers = touched.chunks_exact(2).map(|b| i16::from_ne_bytes([b[0], b[1]]));
    let distinct: std::collections::BTreeSet<i16> = numbers.collect();
    let numbers: Vec<i16> = distinct.into_iter().collect();
    numbers.into_datum().unwrap_or(pg_sys::Datum::null())
}

fn write_horizon_if_due() -> Result<()> {
    // SAFETY: reads the clock.
    let now = unsafe { pg_sys::GetCurrentTimestamp() };
    // A transaction whose snapshot is older than this moment would see its own row, which says nothing about others that
    // committed in between (clock.rs).
    if pg::transaction_snapshot_is_fixed() {
        return Ok(());
    }
    if JOURNAL.with(|j| now - j.borrow().horizon_written < HORIZON_EVERY_MICROS) {
        return Ok(());
    }
    let snapmin = clock::snapmin()?;
    let oid = pg::relation_oid(c"horizon")?;
    // SAFETY: one tuple of the table's own shape (sql/02_tables.sql), inserted with its indexes.
    unsafe {
        let relation = pg_sys::table_open(oid, pg_sys::RowExclusiveLock as i32);
        let mut values = [pg_sys::Datum::from(snapmin), pg_sys::Datum::from(now)];
        let mut nulls = [false, false];
        let tuple = pg_sys::heap_form_tuple((*relation).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
        pg_sys::CatalogTupleInsert(relation, tuple);
        pg_sys::heap_freetuple(tuple);
        pg_sys::table_close(relation, pg_sys::RowExclusiveLock as i32);
    }
    JOURNAL.with(|j| j.borrow_mut().horizon_written = now);
    Ok(())
}
