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
use super::FIRST;
use crate::server::error::Result;
use crate::server::pg::{OwnTable, WrittenBy};
use crate::server::{memory, pg, spi};

mod thin;

pub use thin::thin_if_due;

/// How often a row is added. 5 ms bounds what old snapshots and standbys see twice, above all resets; it costs a writer of 10,000
/// transactions a second 0.6 %.
const EVERY: Duration = Duration::from_millis(5);

thread_local! {
    /// When this backend last added a row.
    static WRITTEN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// May this transaction add a row? One whose snapshot is older than this moment would see its own row, which says nothing about others that
/// committed in between (clock.rs).
fn is_due() -> bool {
    !pg::transaction_snapshot_is_fixed() && WRITTEN.with(Cell::get).is_none_or(|at| at.elapsed() >= EVERY)
}

pub const HORIZON: OwnTable = OwnTable {
    name: c"horizon",
    columns: &[
        (pg_sys::INT8OID, false),
        (pg_sys::TIMESTAMPTZOID, false),
        (pg_sys::INT8OID, false),
        (pg_sys::PG_LSNOID, false),
        (pg_sys::INT8OID, false),
    ],
    written: WrittenBy::Catalog,
};

/// `snapsync.horizon`, open for reading by time.
struct Horizon {
    relation: pg_sys::Relation,
    index: pg_sys::Relation,
}

// Column numbers, in the order of sql/02_tables.sql; the index is on (at, snapmin).
const AT: c_int = 2;

/// After all times.
const END: i64 = i64::MAX - 1;

impl Horizon {
    /// For writing: the lock stays until the transaction ends.
    fn open() -> Result<Horizon> {
        let relation = HORIZON.open(pg_sys::RowExclusiveLock)?;
        // SAFETY: both exist; on an ERROR the resource owner closes them. The index is looked up under the table's lock.
        unsafe {
            let index = pg::own_index(relation, c"horizon_at", &[AT as i16, 1])?;
            Ok(Horizon { relation, index: pg_sys::index_open(index, pg_sys::AccessShareLock as c_int) })
        }
    }

    /// The rows from this time on backwards, until `each` says false: where they stand and their time. Of an entry whose row the active
    /// snapshot does not see there is nothing to tell, but that it was looked at.
    fn backwards(&self, from: i64, mut each: impl FnMut(Option<(pg_sys::ItemPointerData, i64)>) -> bool) {
        // SAFETY: the scan copies its key; both relations stay open; the slot has the table's row, while it is full.
        unsafe {
            let mut key = pg_sys::ScanKeyData::default();
            // The index's first column.
            pg_sys::ScanKeyInit(
                &mut key,
                1,
                pg_sys::BTLessEqualStrategyNumber as u16,
                pg_sys::F_TIMESTAMPTZ_LE.into(),
                pg_sys::Datum::from(from),
            );
            let snapshot = pg_sys::GetActiveSnapshot();
            #[cfg(not(feature = "pg18"))]
            let scan = pg_sys::index_beginscan(self.relation, self.index, snapshot, 1, 0);
            #[cfg(feature = "pg18")]
            let scan = pg_sys::index_beginscan(self.relation, self.index, snapshot, std::ptr::null_mut(), 1, 0);
            pg_sys::index_rescan(scan, &mut key, 1, std::ptr::null_mut(), 0);
            let slot = pg_sys::table_slot_create(self.relation, std::ptr::null_mut());
            loop {
                memory::heed();
                if pg_sys::index_getnext_tid(scan, pg_sys::ScanDirection::BackwardScanDirection).is_null() {
                    break;
                }
                let row = pg_sys::index_fetch_heap(scan, slot).then(|| {
                    let mut is_null = false;
                    let datum = pg_sys::slot_getattr(slot, AT, &mut is_null);
                    ((*slot).tts_tid, i64::from_datum(datum, is_null).unwrap_or(0))
                });
                if !each(row) {
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
            newest = row.map(|(_, at)| at);
            newest.is_none()
        });
        newest
    }

    fn close(self) {
        // SAFETY: what `open` opened.
        unsafe {
            pg_sys::index_close(self.index, pg_sys::AccessShareLock as c_int);
            pg_sys::table_close(self.relation, pg_sys::NoLock as c_int);
        }
    }
}

/// A writer's, once its stamp is registered: adds what it knows unless somebody just has.
pub fn write_if_due() -> Result<()> {
    if !is_due() {
        return Ok(());
    }
    let horizon = Horizon::open()?;
    let newest = horizon.newest_time().unwrap_or(i64::MIN);
    // SAFETY: reads the clock.
    let now = unsafe { pg_sys::GetCurrentTimestamp() };
    if !(0..EVERY.as_micros() as i64).contains(&now.saturating_sub(newest)) {
        // (In this order: position.rs.)
        let reached = super::position::reached();
        let reading = super::read_snapmin()?;
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

/// The largest snapmin that the active snapshot sees; 1 where there is none.
pub fn snapmin_of_old_snapshot() -> Result<i64> {
    let rows = spi::as_owner(|| {
        spi::query("SELECT snapmin FROM snapsync.horizon ORDER BY snapmin DESC LIMIT 1", &[], spi::Mode::Read)
    })?;
    Ok(rows.first().and_then(|r| r.i64(0)).unwrap_or(FIRST))
}

/// The same of what is committed now.
pub fn newest() -> Result<i64> {
    let _now = pg::ActiveSnapshot::latest();
    snapmin_of_old_snapshot()
}

/// The newest position in the WAL that the active snapshot sees, from before a reading of the clock below this snapmin; 0 where there is
/// none. (A dump brings those of another system's WAL along.)
pub(super) fn position_before(snapmin: i64) -> Result<pg_sys::XLogRecPtr> {
    let sql = "SELECT h.lsn - '0/0'::pg_lsn FROM snapsync.horizon AS h \
               WHERE h.snapmin <= $1 AND h.newest < $1 AND h.system = $2 ORDER BY h.snapmin DESC LIMIT 1";
    let args = [spi::arg(snapmin), spi::arg(pg::database().1 as i64)];
    let rows = spi::as_owner(|| spi::query(sql, &args, spi::Mode::Read))?;
    let found = rows.first().and_then(|r| r.text(0)).and_then(|lsn| lsn.parse().ok());
    Ok(found.unwrap_or(0))
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

/// The snapmin known at a wall-clock time: that of the newest horizon that is no younger.
fn snapmin_at(micros: i64, passing: Passing) -> Result<Option<i64>> {
    let order = if passing == First { "ASC" } else { "DESC" };
    let sql = format!(
        "SELECT snapmin FROM snapsync.horizon WHERE at = ( \
             SELECT at FROM snapsync.horizon WHERE at <= ('epoch'::timestamptz + $1 * '1 microsecond'::interval) \
             ORDER BY at DESC LIMIT 1) \
         ORDER BY snapmin {order} LIMIT 1"
    );
    let rows = spi::as_owner(|| spi::query(&sql, &[spi::arg(micros as f64)], spi::Mode::Read))?;
    Ok(rows.first().and_then(|r| r.i64(0)))
}
