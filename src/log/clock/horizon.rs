//! `snapsync.horizon`: snapmins that writers have computed, and when; for snapshots that are older than any reading of the clock, and
//! for clients that only remember when they last synced.
//!
//! *Times.* Rows are read by their time, and a wall clock can be set back. So a row is never given a time before the newest one's: as
//! long as the wall clock is behind, rows have that one's time. The smallest snapmin of a time is the one that was known at its first
//! passing, and whoever pulled at any passing has seen what came before. (Who pulled while nobody wrote, before the clock was set
//! back by more than `snapsync.timestamp_slack`, cannot be told from who pulls after it.)
//!
//! *How many.* One each 5 ms in a database (more where several commit within that), of which writers keep one a second when they are ten
//! seconds old, and one a minute after an hour: 1,440 a day (thin.rs). Each row is true by itself; with fewer of them a time gives a smaller
//! cursor, and a few rows come twice.

use std::cell::Cell;
use std::ffi::c_int;
use std::time::{Duration, Instant};

use pgrx::{pg_sys, FromDatum};

use super::history::{cursor_is_of_this_history, gaps, in_one_branch};
use super::{Reading, FIRST};
use crate::server::error::Result;
use crate::server::pg::{OwnTable, WrittenBy};
use crate::server::session::PerTransaction;
use crate::server::{memory, pg, spi};

mod thin;

pub use thin::thin_if_due;

/// How often a row is added. 5 ms bounds what old snapshots and standbys see twice, above all resets; it costs a writer of 10,000
/// transactions a second 0.6 %.
const EVERY: Duration = Duration::from_millis(5);

thread_local! {
    /// When this backend last added a row.
    static WRITTEN: Cell<Option<Instant>> = const { Cell::new(None) };
    /// This transaction must add one, however soon it comes after another.
    static WANTED: PerTransaction<bool> = PerTransaction::until_end();
}

/// This transaction resets clients. Who pulls under a snapshot that keeps, or from a standby, would be reset again and again, until somebody else writes, if
/// the newest row were from before it.
pub fn want() {
    WANTED.with(|w| w.with(|wanted| *wanted = true));
}

fn is_wanted() -> bool {
    WANTED.with(|w| w.with(|wanted| *wanted))
}

fn is_due() -> bool {
    is_wanted() || WRITTEN.with(Cell::get).is_none_or(|at| at.elapsed() >= EVERY)
}

pub const HORIZON: OwnTable = OwnTable {
    name: c"horizon",
    columns: &[
        (pg_sys::INT8OID, false),
        (pg_sys::TIMESTAMPTZOID, false),
        (pg_sys::INT8OID, false),
        (pg_sys::PG_LSNOID, false),
        (pg_sys::INT8OID, false),
        (pg_sys::INT8OID, false),
    ],
    written: WrittenBy::Catalog,
};

/// `snapsync.horizon`, open in the order of one of its indexes.
struct Horizon {
    relation: pg_sys::Relation,
    index: pg_sys::Relation,
    order: Order,
    lock: u32,
}

/// By which column.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    Snapmin,
    /// And those of one time by their snapmin.
    Time,
}

use Way::{Backwards, Forwards};

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Backwards,
    Forwards,
}

// Column numbers, in the order of sql/02_tables.sql.
const SNAPMIN: c_int = 1;
const AT: c_int = 2;
const NEWEST: c_int = 3;
const LSN: c_int = 4;
const SYSTEM: c_int = 5;
const BEYOND: c_int = 6;

/// After all times, and all snapmins.
const END: i64 = i64::MAX - 1;

/// One of its rows, while it is being read.
struct HorizonRow(*mut pg_sys::TupleTableSlot);

impl HorizonRow {
    fn column(&self, number: c_int) -> Option<i64> {
        let mut is_null = false;
        // SAFETY: the slot has a row of the table, which has so many columns. Each of them is a number of 64 bits.
        unsafe { i64::from_datum(pg_sys::slot_getattr(self.0, number, &mut is_null), is_null) }
    }

    fn at(&self) -> i64 {
        self.column(AT).unwrap_or(0)
    }

    fn snapmin(&self) -> i64 {
        self.column(SNAPMIN).unwrap_or(FIRST)
    }

    fn place(&self) -> pg_sys::ItemPointerData {
        // SAFETY: as above.
        unsafe { (*self.0).tts_tid }
    }

    /// Has this transaction written it?
    fn is_own(&self) -> bool {
        // SAFETY: as above; the row is a heap's.
        unsafe {
            let tuple = pg_sys::ExecFetchSlotHeapTuple(self.0, false, std::ptr::null_mut());
            pg::is_own_transaction((*(*tuple).t_data).t_choice.t_heap.t_xmin)
        }
    }
}

impl Horizon {
    /// For writing: the lock stays until the transaction ends.
    fn open() -> Result<Horizon> {
        Horizon::open_by(Order::Time, pg_sys::RowExclusiveLock)
    }

    fn open_by(order: Order, lock: u32) -> Result<Horizon> {
        let relation = HORIZON.open(lock)?;
        // SAFETY: both exist; on an ERROR the resource owner closes them. The index is looked up under the table's lock.
        unsafe {
            let index = match order {
                Order::Time => pg::own_index(relation, c"horizon_at", &[AT as i16, SNAPMIN as i16])?,
                Order::Snapmin => pg::own_index(relation, c"horizon_snapmin", &[SNAPMIN as i16])?,
            };
            let index = pg_sys::index_open(index, pg_sys::AccessShareLock as c_int);
            Ok(Horizon { relation, index, order, lock })
        }
    }

    /// The rows from this one on backwards, until `each` says false. Of an entry whose row the active
    /// snapshot does not see there is nothing to tell, but that it was looked at.
    fn backwards(&self, from: i64, each: impl FnMut(Option<HorizonRow>) -> bool) {
        self.scan(Backwards, from, each);
    }

    fn scan(&self, way: Way, from: i64, mut each: impl FnMut(Option<HorizonRow>) -> bool) {
        let (strategy, direction) = match way {
            Backwards => (pg_sys::BTLessEqualStrategyNumber, pg_sys::ScanDirection::BackwardScanDirection),
            Forwards => (pg_sys::BTGreaterEqualStrategyNumber, pg_sys::ScanDirection::ForwardScanDirection),
        };
        let compares = match (self.order, way) {
            (Order::Time, Backwards) => pg_sys::F_TIMESTAMPTZ_LE,
            (Order::Time, Forwards) => pg_sys::F_TIMESTAMPTZ_GE,
            (Order::Snapmin, Backwards) => pg_sys::F_INT8LE,
            (Order::Snapmin, Forwards) => pg_sys::F_INT8GE,
        };
        // SAFETY: the scan copies its key; both relations stay open; the slot has the table's row, while it is full.
        unsafe {
            let mut key = pg_sys::ScanKeyData::default();
            // The index's first column.
            pg_sys::ScanKeyInit(&mut key, 1, strategy as u16, compares.into(), pg_sys::Datum::from(from));
            let beheld = pg::Beheld::under(pg_sys::GetActiveSnapshot());
            let scanned = beheld.scanned();
            #[cfg(not(feature = "pg18"))]
            let scan = pg_sys::index_beginscan(self.relation, self.index, scanned, 1, 0);
            #[cfg(feature = "pg18")]
            let scan = pg_sys::index_beginscan(self.relation, self.index, scanned, std::ptr::null_mut(), 1, 0);
            pg_sys::index_rescan(scan, &mut key, 1, std::ptr::null_mut(), 0);
            let slot = pg_sys::table_slot_create(self.relation, std::ptr::null_mut());
            loop {
                memory::heed();
                if pg_sys::index_getnext_tid(scan, direction).is_null() {
                    break;
                }
                let mut sees = false;
                while !sees && pg_sys::index_fetch_heap(scan, slot) {
                    sees = beheld.sees(self.relation, slot);
                    if !(*scan).xs_heap_continue {
                        break;
                    }
                }
                if !each(sees.then_some(HorizonRow(slot))) {
                    break;
                }
            }
            pg_sys::ExecDropSingleTupleTableSlot(slot);
            pg_sys::index_endscan(scan);
        }
    }

    fn newest_time(&self) -> Option<i64> {
        let mut newest = None;
        self.backwards(END, |row| {
            newest = row.map(|row| row.at());
            newest.is_none()
        });
        newest
    }

    fn close(self) {
        let until = if self.lock == pg_sys::AccessShareLock { self.lock } else { pg_sys::NoLock };
        // SAFETY: what `open_by` opened.
        unsafe {
            pg_sys::index_close(self.index, pg_sys::AccessShareLock as c_int);
            pg_sys::table_close(self.relation, until as c_int);
        }
    }
}

/// Reads the rows that the active snapshot sees, from this one on, until `each` says false.
fn read(order: Order, way: Way, from: i64, mut each: impl FnMut(HorizonRow) -> bool) -> Result<()> {
    let horizon = Horizon::open_by(order, pg_sys::AccessShareLock)?;
    horizon.scan(way, from, |row| row.is_none_or(&mut each));
    horizon.close();
    Ok(())
}

/// A writer's, once its stamp is registered: adds what it knows unless somebody just has. Whatever the transaction's own snapshot, for what it says
/// is true of those that see this transaction.
pub fn write_if_due(stamp: i64) -> Result<()> {
    if !is_due() {
        return Ok(());
    }
    let _now = pg::ActiveSnapshot::latest();
    let horizon = Horizon::open()?;
    let newest = horizon.newest_time().unwrap_or(i64::MIN);
    // SAFETY: reads the clock.
    let now = unsafe { pg_sys::GetCurrentTimestamp() };
    if is_wanted() || !(0..EVERY.as_micros() as i64).contains(&now.saturating_sub(newest)) {
        // (In this order: position.rs.)
        let reached = super::position::reached();
        let reading = super::read_snapmin()?;
        let beyond = beyond(reading, stamp);
        // Not the time before: a transaction with a smaller stamp may have been under way then, whose changes a client that read at
        // that time has not seen.
        // SAFETY: as above.
        let now = unsafe { pg_sys::GetCurrentTimestamp() };
        // SAFETY: one tuple of the table's own shape (sql/02_tables.sql), inserted with its indexes.
        unsafe {
            let values = [
                pg_sys::Datum::from(reading.snapmin),
                pg_sys::Datum::from(now.max(newest)),
                pg_sys::Datum::from(reading.newest),
                pg_sys::Datum::from(reached),
                pg_sys::Datum::from(pg::database().1),
                pg_sys::Datum::from(beyond),
            ];
            let indexes = pg::OwnIndexes::open(&HORIZON, horizon.relation)?;
            let tuple = HORIZON.row(horizon.relation, &values.map(Some));
            indexes.insert(horizon.relation, tuple);
            pg_sys::heap_freetuple(tuple);
            indexes.close();
        }
    }
    horizon.close();
    WRITTEN.with(|w| w.set(Some(Instant::now())));
    Ok(())
}

/// A reading without one's own stamp. It is what a snapshot may go by that sees the writer: his own changes, too. (Not who pulled at that time. He did
/// not see them.)
fn beyond(reading: Reading, own: i64) -> i64 {
    // (A clock that somebody else has just set says nothing.)
    if reading.snapmin != own || reading.newest == i64::MAX {
        return reading.snapmin;
    }
    super::first_registered_between(own, reading.newest).unwrap_or(super::next(reading.newest))
}

/// A snapmin of the active snapshot: the largest of a writer that it sees; 1 where there is none.
///
/// What this transaction has written itself does not count: its snapshot may be older. (It writes when it commits; only a callback of another
/// extension's could still ask.)
pub fn snapmin_of_old_snapshot() -> Result<i64> {
    let mut found = None;
    read(Order::Snapmin, Backwards, END, |row| {
        if !row.is_own() {
            found = Some(row.column(BEYOND).unwrap_or(row.snapmin()));
        }
        found.is_none()
    })?;
    Ok(found.unwrap_or(FIRST))
}

/// The same of what is committed now.
pub fn newest() -> Result<i64> {
    let _now = pg::ActiveSnapshot::latest();
    snapmin_of_old_snapshot()
}

/// The newest position in the WAL that the active snapshot sees, from before a reading of the clock below this snapmin; 0 where there is
/// none. (A dump brings those of another system's WAL along.)
pub(super) fn position_before(snapmin: i64) -> Result<pg_sys::XLogRecPtr> {
    let (mut found, system) = (None, pg::database().1 as i64);
    read(Order::Snapmin, Backwards, snapmin, |row| {
        if row.column(SYSTEM) == Some(system) && row.column(NEWEST).is_some_and(|newest| newest < snapmin) {
            found = row.column(LSN);
        }
        found.is_none()
    })?;
    Ok(found.unwrap_or(0) as pg_sys::XLogRecPtr)
}

/// The newest that is older than the newest one by this; 1 where there is none.
pub(super) fn newest_before(margin: &str) -> Result<i64> {
    let sql = format!(
        "SELECT max(snapmin) FROM snapsync.horizon \
         WHERE at <= (SELECT at FROM snapsync.horizon ORDER BY at DESC LIMIT 1) - {margin}"
    );
    spi::as_owner(|| {
        let _now = pg::ActiveSnapshot::latest();
        Ok(spi::query(&sql, &[], spi::Mode::Read)?.first().and_then(|r| r.i64(0)).unwrap_or(FIRST))
    })
}

/// A cursor for a client that only remembers when it last synced (microseconds since the Unix epoch, by a clock that may be wrong by
/// `slack`): the snapmin known that much earlier. None when nothing that old is recorded, or when the client may have read a branch
/// of history that is lost.
pub fn cursor_at(micros: i64, slack: i64) -> Result<Option<i64>> {
    let Some(earliest) = snapmin_at(micros.saturating_sub(slack), First)? else { return Ok(None) };
    let latest = snapmin_at(micros.saturating_add(slack), Last)?.unwrap_or(earliest);
    let of_this_history = cursor_is_of_this_history(earliest)? && cursor_is_of_this_history(latest)?;
    Ok((of_this_history && in_one_branch(&gaps()?, earliest, latest)).then_some(earliest))
}

use Passing::{First, Last};

/// Which passing of a time, where the wall clock was set back.
#[derive(Clone, Copy, PartialEq)]
enum Passing {
    First,
    Last,
}

/// Postgres's time begins with 2000: so many microseconds after Unix's.
const EPOCH: i64 = 10_957 * 86_400_000_000;

/// The snapmin known at a wall-clock time: that of the newest horizon that is no younger.
fn snapmin_at(micros: i64, passing: Passing) -> Result<Option<i64>> {
    let (mut found, micros) = (None, micros.saturating_sub(EPOCH).min(END));
    read(Order::Time, Backwards, micros, |row| {
        found = Some((row.at(), row.snapmin()));
        false
    })?;
    // (Of that time this was the last one.)
    if let (Some((time, snapmin)), First) = (&mut found, passing) {
        read(Order::Time, Forwards, *time, |row| {
            *snapmin = row.snapmin();
            false
        })?;
    }
    Ok(found.map(|(_, snapmin)| snapmin))
}
