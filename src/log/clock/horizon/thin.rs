//! Writers drop what nobody needs so exactly.
//!
//! *When.* Before the writer has its stamp: nobody's cursor waits for it. One writer every two seconds in a database; who is first in
//! them the newest row's time tells, and a lock that nobody waits for keeps others from doing the same meanwhile.
//!
//! *How far.* Backwards from where rows are old enough, as long as there are some to drop. An old snapshot keeps dropped rows, and their
//! entries in the index, from being removed: so entries are counted, not rows.
//!
//! *Which.* Of each second or minute the last time is kept, and of the rows of one time the first and the last: when the wall clock was set
//! back, there are many (see [`super`]). While it is still behind, rows of the newest time are thinned as they come.

use pgrx::pg_sys;

use super::{is_due, Horizon, END};
use crate::log::THINNING_HORIZONS;
use crate::server::error::Result;
use crate::server::{memory, pg};

/// A writer looks for old rows once in this time, in microseconds.
const THIN_EVERY: i64 = 2_000_000;

/// From which age on one row of how much time is kept, in microseconds.
const KEPT: [(i64, i64); 2] = [(10_000_000, 1_000_000), (3_600_000_000, 60_000_000)];

/// So many rows in a row that are kept, or so many entries without a row to drop: those before them have been looked at.
const KEPT_IN_A_ROW: usize = 32;
const LOOKED_AT: usize = 8_192;

/// So many are dropped at a time.
const DROPPED: usize = 20_000;

/// So many entries of a time ahead are looked at.
const AHEAD: usize = 256;

/// Rows to drop, found going backwards.
#[derive(Default)]
struct Spare {
    rows: Vec<pg_sys::ItemPointerData>,
    /// The time that is kept of the present bucket, and its first row so far, if it has several.
    time: Option<i64>,
    first: Option<pg_sys::ItemPointerData>,
}

impl Spare {
    /// Is this row, which is in the same bucket as the one before or begins another, to be kept? (Or one that was to be, instead of it.)
    fn add(&mut self, place: pg_sys::ItemPointerData, at: i64, begins: bool) -> Result<bool> {
        if begins {
            (self.time, self.first) = (Some(at), None);
            return Ok(true);
        }
        let spare = if self.time == Some(at) { self.first.replace(place) } else { Some(place) };
        match spare {
            Some(spare) => memory::push(&mut self.rows, spare).map(|()| false),
            None => Ok(true),
        }
    }
}

/// A writer's that is about to draw its stamp, and to commit (not to be prepared: nobody may wait for what it deletes).
pub fn thin_if_due() -> Result<()> {
    if !is_due() {
        return Ok(());
    }
    let _now = pg::ActiveSnapshot::latest();
    let horizon = Horizon::open()?;
    // SAFETY: reads the clock.
    let now = unsafe { pg_sys::GetCurrentTimestamp() };
    match horizon.newest_time() {
        Some(newest) if newest > now => horizon.thin_ahead(newest)?,
        Some(newest) if newest.div_euclid(THIN_EVERY) != now.div_euclid(THIN_EVERY) => horizon.thin_old(now)?,
        _ => {}
    }
    horizon.close();
    Ok(())
}

impl Horizon {
    fn thin_old(&self, now: i64) -> Result<()> {
        if !THINNING_HORIZONS.try_take() {
            return Ok(());
        }
        for (age, bucket) in KEPT {
            let (mut spare, mut last, mut failed) = (Spare::default(), None, Ok(()));
            let (mut kept, mut looked_at) = (0, 0);
            self.backwards(now - age, |row| {
                looked_at += 1;
                if let Some((place, at)) = row.map(|row| (row.place(), row.at())) {
                    let begins = last.replace(at.div_euclid(bucket)) != Some(at.div_euclid(bucket));
                    match spare.add(place, at, begins) {
                        Ok(true) => kept += 1,
                        Ok(false) => (kept, looked_at) = (0, 0),
                        Err(e) => failed = Err(e),
                    }
                }
                let is_enough = kept >= KEPT_IN_A_ROW || looked_at >= LOOKED_AT || spare.rows.len() >= DROPPED;
                failed.is_ok() && !is_enough
            });
            failed?;
            self.drop_rows(spare.rows);
        }
        Ok(())
    }

    /// Of the rows of a time that is still to come. Those looked at are the last ones; the first of them may be the first of all.
    fn thin_ahead(&self, newest: i64) -> Result<()> {
        let (mut spare, mut looked_at, mut failed) = (Spare::default(), 0, Ok(()));
        self.backwards(END, |row| {
            looked_at += 1;
            let is_of_it = row.as_ref().is_none_or(|row| row.at() == newest);
            if let Some(row) = row.filter(|_| is_of_it) {
                let begins = spare.time.is_none();
                failed = spare.add(row.place(), row.at(), begins).map(|_| ());
            }
            failed.is_ok() && is_of_it && looked_at < AHEAD
        });
        failed?;
        if !spare.rows.is_empty() && THINNING_HORIZONS.try_take() {
            self.drop_rows(spare.rows);
        }
        Ok(())
    }

    fn drop_rows(&self, rows: Vec<pg_sys::ItemPointerData>) {
        for mut place in rows {
            memory::heed();
            // SAFETY: a row that the snapshot sees. Who is deleting it already, or has, is not waited for.
            unsafe {
                let command = pg_sys::GetCurrentCommandId(true);
                let mut failure = pg_sys::TM_FailureData::default();
                pg_sys::heap_delete(
                    self.relation,
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
}
