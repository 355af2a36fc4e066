//! `snapsync.horizon`: snapmins that writers have computed, and when; for snapshots that are older than any reading of the clock, and
//! for clients that only remember when they last synced.
//!
//! *Times.* Rows are read by their time, and a wall clock can be set back. So a row is never given a time before the newest one's: as
//! long as the wall clock is behind, rows have that one's time. The smallest snapmin of a time is the one that was known at its first
//! passing, and whoever pulled at any passing has seen what came before. (Who pulled while nobody wrote, before the clock was set
//! back by more than `snapsync.timestamp_slack`, cannot be told from who pulls after it.)
//!
//! *How many.* At most one each 5 ms in a database, of which writers keep one a second when they are ten seconds old, and one a minute
//! after an hour: 1,440 a day. Each row is true by itself; with fewer of them a time gives a smaller cursor, and a few rows come twice.

use std::cell::Cell;
use std::ffi::c_int;
use std::time::{Duration, Instant};

use pgrx::{pg_sys, FromDatum};

use super::history::{cursor_is_of_this_history, gaps, in_one_branch};
use super::FIRST;
use crate::server::error::Result;
use crate::server::memory;
use crate::server::session::PerTransaction;
use crate::server::{pg, spi};

/// How often a row is added. 5 ms bounds what old snapshots and standbys see twice, above all resets; it costs a writer of 10,000
/// transactions a second 0.6 %.
const EVERY: Duration = Duration::from_millis(5);

/// How often a backend that adds rows looks for old ones to drop.
const THIN_EVERY: Duration = Duration::from_secs(2);

/// From which age on one row of how much time is kept, in microseconds.
const KEPT: [(i64, i64); 2] = [(10_000_000, 1_000_000), (3_600_000_000, 60_000_000)];

/// So many rows in a row that are kept: those before them have been looked at.
const LOOKED_AT: usize = 32;

thread_local! {
    /// When this backend last added a row, and when it last looked for old ones.
    static WRITTEN: Cell<Option<Instant>> = const { Cell::new(None) };
    static THINNED: Cell<Option<Instant>> = const { Cell::new(None) };
    /// This transaction has added a row.
    static WROTE: PerTransaction<bool> = PerTransaction::until_end();
}

fn is_due(since: Option<Instant>, every: Duration) -> bool {
    since.is_none_or(|at| at.elapsed() >= every)
}

/// `snapsync.horizon`, open for reading by time.
struct Horizon {
    relation: pg_sys::Relation,
    index: pg_sys::Relation,
}

// Column numbers, in the order of sql/02_tables.sql; the index is on (at, snapmin).
const AT: c_int = 2;

impl Horizon {
    /// For writing: the lock stays until the transaction ends.
    fn open() -> Result<Horizon> {
        // SAFETY: both exist; on an ERROR the resource owner closes them. The index is looked up under the table's lock.
        unsafe {
            let lock = pg_sys::RowExclusiveLock as c_int;
            let relation = pg_sys::table_open(pg::relation_oid(c"horizon")?, lock);
            let index = pg_sys::index_open(pg::relation_oid(c"horizon_at")?, pg_sys::AccessShareLock as c_int);
            Ok(Horizon { relation, index })
        }
    }

    /// The rows from this time on backwards, as the active snapshot sees them, until `each` says false.
    fn backwards(&self, from: i64, mut each: impl FnMut(pg_sys::HeapTuple, i64) -> bool) {
        // SAFETY: the scan copies its key; both relations stay open; tuples are valid until the next one.
        unsafe {
            let mut key = pg_sys::ScanKeyData::default();
            pg_sys::ScanKeyInit(
                &mut key,
                AT as i16,
                pg_sys::BTLessEqualStrategyNumber as u16,
                pg_sys::F_TIMESTAMPTZ_LE.into(),
                pg_sys::Datum::from(from),
            );
            let snapshot = pg_sys::GetActiveSnapshot();
            let scan = pg_sys::systable_beginscan_ordered(self.relation, self.index, snapshot, 1, &mut key);
            loop {
                memory::heed();
                let tuple = pg_sys::systable_getnext_ordered(scan, pg_sys::ScanDirection::BackwardScanDirection);
                if tuple.is_null() {
                    break;
                }
                let mut is_null = false;
                let datum = pg_sys::heap_getattr(tuple, AT, (*self.relation).rd_att, &mut is_null);
                if !each(tuple, i64::from_datum(datum, is_null).unwrap_or(0)) {
                    break;
                }
            }
            pg_sys::systable_endscan_ordered(scan);
        }
    }

    fn newest_time(&self) -> Option<i64> {
        let mut newest = None;
        self.backwards(i64::MAX - 1, |_, at| {
            newest = Some(at);
            false
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

/// A writer's, once its stamp is registered, under a snapshot taken since: adds what it knows unless somebody just has.
pub fn write_if_due() -> Result<()> {
    // A transaction whose snapshot is older than this moment would see its own row, which says nothing about others that
    // committed in between (clock.rs).
    if pg::transaction_snapshot_is_fixed() || !is_due(WRITTEN.with(Cell::get), EVERY) {
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
            let mut values = [
                pg_sys::Datum::from(reading.snapmin),
                pg_sys::Datum::from(now.max(newest)),
                pg_sys::Datum::from(reading.newest),
                pg_sys::Datum::from(reached),
                pg_sys::Datum::from(pg::database().1),
            ];
            let mut nulls = [false; 5];
            let row = (*horizon.relation).rd_att;
            let tuple = pg_sys::heap_form_tuple(row, values.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::CatalogTupleInsert(horizon.relation, tuple);
            pg_sys::heap_freetuple(tuple);
        }
        WROTE.with(|w| w.with(|wrote| *wrote = true));
    }
    horizon.close();
    WRITTEN.with(|w| w.set(Some(Instant::now())));
    Ok(())
}

/// A writer's that has added a row and is about to commit (not to be prepared: nobody may wait for what it deletes).
pub fn thin_if_due() -> Result<()> {
    if !WROTE.with(|w| w.with(std::mem::take)) || !is_due(THINNED.with(Cell::get), THIN_EVERY) {
        return Ok(());
    }
    THINNED.with(|t| t.set(Some(Instant::now())));
    let _snapshot = pg::ActiveSnapshot::take();
    let horizon = Horizon::open()?;
    // SAFETY: reads the clock.
    let now = unsafe { pg_sys::GetCurrentTimestamp() };
    for (age, bucket) in KEPT {
        let mut spare = Vec::new();
        let (mut last, mut kept) = (None, 0);
        horizon.backwards(now - age, |tuple, at| {
            if last.replace(at.div_euclid(bucket)) == Some(at.div_euclid(bucket)) {
                // SAFETY: a tuple of the scan.
                spare.push(unsafe { (*tuple).t_self });
                kept = 0;
            } else {
                kept += 1;
            }
            kept < LOOKED_AT
        });
        for mut place in spare {
            // SAFETY: a row that the snapshot sees. Who is deleting it already, or has, is not waited for.
            unsafe {
                let command = pg_sys::GetCurrentCommandId(true);
                let mut failure = pg_sys::TM_FailureData::default();
                pg_sys::heap_delete(
                    horizon.relation,
                    &mut place,
                    command,
                    std::ptr::null_mut(),
                    false,
                    &mut failure,
                    false,
                );
            }
        }
    }
    horizon.close();
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
pub(super) fn newest() -> Result<i64> {
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
