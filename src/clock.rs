//! The clock: which number a transaction's changes carry, and from which number on a reader may still be missing some.
//!
//! > Every change that is not visible to a pull's snapshot carries a stamp >= the snapmin that the pull returns.
//!
//! A **writer**, once per transaction, while it commits (`journal::flush`), in one critical section on the clock's page:
//!  1. `stamp = last_value + 1`
//!  2. takes a share lock on the advisory tag (stamp, field4 = 3): "I stamp this". Everybody sees it in `pg_locks`.
//!  3. `last_value = stamp`. It then writes its entries and commits; the lock goes after the commit is visible.
//!
//! A **reader**: 1. `n = last_value`; 2. looks for the smallest stamp up to n that is registered; `snapmin` is that one, or
//! n + 1 where there is none; 3. then takes its snapshot.
//!
//! *Proof.* Let t be a writer that the snapshot does not see. If t's lock was there in 2: snapmin <= stamp(t). If not, t
//! had either not reached its critical section by 1, so stamp(t) > n, hence stamp(t) >= n + 1 >= snapmin; or had released
//! its lock before 2, so its commit was visible before 3 and the snapshot sees it, a contradiction. QED
//!
//! Snapmins never go back: what is registered after a reader's 1 is larger than its n. So a stamp once found finished stays
//! so, and step 2 need not look at it again.
//!
//! A reader whose snapshot is older than step 1 (REPEATABLE READ, SERIALIZABLE) or that has no lock table (hot standby)
//! uses the largest `snapsync.horizon.snapmin` that its snapshot sees. A writer w put it there: computed by steps 1 and 2
//! before w committed. *Proof.* Let t be invisible in a snapshot that sees w, another transaction. When w computed: t was
//! registered, so snapmin <= stamp(t); or registered later, so stamp(t) > n; or had released, but then t committed before w
//! and would be visible. QED (A transaction whose own snapshot is that old writes no such row: it would see its own.)
//!
//! Why not `nextval`: it sets the session's `lastval()`, which PDO's and others' `lastInsertId()` read after their own
//! INSERT committed. The clock is still an ordinary sequence (dumped, visible, `setval` works); `advance` does on its page
//! what nextval does, with the public generic WAL interface.

use std::cell::{Cell, RefCell};

use pgrx::pg_sys;

use crate::error::{code, Result, SyncError};
use crate::{pg, spi};

/// Cursors and stamps start at 1: 0 and null mean "nothing yet" (WatermelonDB: a timestamp must be > 0).
pub const FIRST: i64 = 1;

/// How many values are logged ahead. nextval uses 32; a reader must see the logged value flushed (see `read_durable`), so
/// a larger step makes that wait 32 times rarer. A crash skips at most this many numbers.
const LOGGED_AHEAD: i64 = 1024;

/// After a fail-over or a restore the clock leaps by this much, past everything the lost branch can have handed out.
pub const LEAP: i64 = 1 << 32;

/// `field4` of our advisory locks. pg_advisory_lock's tags have 1 or 2 there, so SQL can neither take nor release these.
const REGISTRATION: u16 = 3;

/// A sequence's only tuple: FormData_pg_sequence_data in commands/sequence.h.
#[repr(C)]
struct SequenceData {
    last_value: i64,
    log_cnt: i64,
    is_called: bool,
}

/// The value of the sequence before its first advance reads as 0.
fn current(data: &SequenceData) -> i64 {
    if data.is_called {
        data.last_value
    } else {
        data.last_value - 1
    }
}

/// The clock's page, locked, for the duration of `work`.
///
/// # Safety
/// `work` must not raise an ERROR while it has changed the page half-way.
unsafe fn with_page<R>(mode: u32, work: impl FnOnce(pg_sys::Relation, pg_sys::Buffer) -> R) -> Result<R> {
    let oid = pg::relation_oid(c"clock")?;
    // Who has moved the clock keeps his lock on it, as with nextval: ALTER SEQUENCE, which gives it another file, waits for him.
    let (lock, until) = match mode {
        pg_sys::BUFFER_LOCK_SHARE => (pg_sys::AccessShareLock, pg_sys::AccessShareLock),
        _ => (pg_sys::RowExclusiveLock, pg_sys::NoLock),
    };
    // SAFETY: a sequence has exactly one page, number 0; pin and lock are released in order, or by the abort on ERROR.
    unsafe {
        let relation = pg_sys::relation_open(oid, lock as i32);
        let buffer = pg_sys::ReadBuffer(relation, 0);
        pg_sys::LockBuffer(buffer, mode as i32);
        let result = work(relation, buffer);
        pg_sys::UnlockReleaseBuffer(buffer);
        pg_sys::relation_close(relation, until as i32);
        Ok(result)
    }
}

/// # Safety
/// `page` is the clock's page, and stays locked as long as the result is used.
unsafe fn data<'a>(page: pg_sys::Page) -> &'a mut SequenceData {
    // SAFETY: a sequence's page holds one heap tuple at the first line pointer, whose columns are SequenceData.
    unsafe {
        let item = pg_sys::PageGetItem(page as _, pg_sys::PageGetItemId(page as _, 1) as _);
        let header = item as pg_sys::HeapTupleHeader;
        &mut *(item.cast::<u8>().add((*header).t_hoff as usize).cast::<SequenceData>())
    }
}

/// # Safety
/// `page` is a locked page.
unsafe fn page_lsn(page: pg_sys::Page) -> u64 {
    // SAFETY: pd_lsn is the first member of every page header.
    unsafe {
        let lsn = (*(page as pg_sys::PageHeader)).pd_lsn;
        (u64::from(lsn.xlogid) << 32) | u64::from(lsn.xrecoff)
    }
}

/// The largest stamp handed out so far.
pub fn read() -> Result<i64> {
    // SAFETY: only reads under a share lock.
    unsafe { with_page(pg_sys::BUFFER_LOCK_SHARE, |_, buffer| current(data(pg_sys::BufferGetPage(buffer)))) }
}

/// The same for a reader, who turns it into a cursor that leaves the server: after a crash the clock must not fall behind a
/// cursor that a client holds. The last logged value is flushed first if it is not yet (once in 1024 transactions).
fn read_durable() -> Result<i64> {
    // SAFETY: only reads under a share lock; XLogFlush after it is released, and not in recovery.
    unsafe {
        let (value, lsn) = with_page(pg_sys::BUFFER_LOCK_SHARE, |_, buffer| {
            let page = pg_sys::BufferGetPage(buffer);
            (current(data(page)), page_lsn(page))
        })?;
        if !pg::in_recovery() && pg_sys::XLogNeedsFlush(lsn) {
            pg_sys::XLogFlush(lsn);
        }
        Ok(value)
    }
}

/// Adds `by` to the clock, atomically, and returns the new value. With `register` the value is registered first: taking that
/// lock under the page's is what makes registration and draw one step. It cannot deadlock: the lock is new, so nobody
/// waits for it, and the lock manager never waits for a page.
fn advance(by: i64, register: bool) -> Result<i64> {
    // SAFETY: all changes happen under the page's exclusive lock, after everything that can raise an ERROR. As in
    // nextval_internal, what is in the WAL is always ahead of or equal to what is on the page, also when the last record
    // came before the last checkpoint's redo point; the logged page is a full image, because a delta against the page's
    // unlogged state would not replay.
    unsafe {
        with_page(pg_sys::BUFFER_LOCK_EXCLUSIVE, |relation, buffer| {
            let page = pg_sys::BufferGetPage(buffer);
            let sequence = data(page);
            let next = current(sequence) + by;
            if register {
                // Charged to the top transaction: the registration outlives the subtransaction we may be in.
                let owner = pg_sys::CurrentResourceOwner;
                pg_sys::CurrentResourceOwner = pg_sys::TopTransactionResourceOwner;
                let taken = pg_sys::LockAcquire(&tag(next), pg_sys::ShareLock as i32, false, true);
                pg_sys::CurrentResourceOwner = owner;
                if taken == pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL {
                    return None;
                }
            }
            if sequence.is_called && by <= sequence.log_cnt && page_lsn(page) > pg_sys::GetRedoRecPtr() {
                sequence.log_cnt -= by;
                sequence.last_value = next;
                pg_sys::MarkBufferDirty(buffer);
            } else {
                let state = pg_sys::GenericXLogStart(relation);
                let image =
                    data(pg_sys::GenericXLogRegisterBuffer(state, buffer, pg_sys::GENERIC_XLOG_FULL_IMAGE as i32));
                image.is_called = true;
                image.last_value = next + LOGGED_AHEAD;
                image.log_cnt = 0;
                pg_sys::GenericXLogFinish(state);
                let sequence = data(page);
                sequence.last_value = next;
                sequence.log_cnt = LOGGED_AHEAD;
                pg_sys::MarkBufferDirty(buffer);
            }
            Some(next)
        })?
    }
    .ok_or_else(|| {
        SyncError::new(code::INTERNAL, "the stamp's registration is held by somebody else")
            .hint("Does another extension take advisory locks of class 3? It must not.")
    })
}

fn tag(h: i64) -> pg_sys::LOCKTAG {
    pg_sys::LOCKTAG {
        // SAFETY: set once at backend start.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.into(),
        locktag_field2: (h >> 32) as u32,
        locktag_field3: h as u32,
        locktag_field4: REGISTRATION,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
    }
}

/// A writer's steps 1 to 3. The registration lasts until the top transaction's end and moves to the prepared transaction
/// with PREPARE TRANSACTION.
pub fn register_and_stamp() -> Result<i64> {
    advance(1, true)
}

/// What a reader learns from the clock.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Reading {
    /// The largest stamp handed out before: no entry with a larger one was committed by then.
    pub newest: i64,
    pub snapmin: i64,
}

/// A reader's steps 1 and 2. The snapshot must be taken afterwards (or, for `snapsync.horizon`, never).
pub fn read_snapmin() -> Result<Reading> {
    let newest = read_durable()?;
    Ok(Reading { newest, snapmin: first_unfinished(newest)?.unwrap_or(newest + 1) })
}

pub fn snapmin() -> Result<i64> {
    Ok(read_snapmin()?.snapmin)
}

thread_local! {
    /// The clock, and a stamp up to which all transactions are known to have finished. That stays so.
    static FINISHED: Cell<(pg_sys::Oid, i64)> = const { Cell::new((pg_sys::InvalidOid, 0)) };
}

/// Up to so many stamps are looked up one by one (0.3 us each). Reading the whole lock table takes 12 us with 100 connections
/// allowed and 58 us with 600, whoever is connected, and holds up everybody who takes a lock meanwhile.
const LOOKED_UP: i64 = 64;

/// The smallest registered stamp up to `newest`.
fn first_unfinished(newest: i64) -> Result<Option<i64>> {
    let clock = pg::relation_oid(c"clock")?;
    let (of, finished) = FINISHED.with(Cell::get);
    // Not if the clock is another one, or was set back.
    let known = of == clock && (0..=LOOKED_UP).contains(&(newest - finished));
    let first = if known { (finished + 1..=newest).find(|&stamp| is_registered(stamp)) } else { registered_min() };
    let first = first.filter(|&stamp| stamp <= newest);
    FINISHED.with(|f| f.set((clock, first.map_or(newest, |stamp| stamp - 1))));
    Ok(first)
}

/// Does a transaction under way, or a prepared one, hold this stamp's registration?
fn is_registered(stamp: i64) -> bool {
    let tag = tag(stamp);
    // SAFETY: look-ups in the lock table; the list of holders (all but ourselves) is palloc'd.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        let own = pg_sys::LockHeldByMe(&tag, pg_sys::ShareLock as i32);
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        let own = pg_sys::LockHeldByMe(&tag, pg_sys::ShareLock as i32, false);
        if own {
            return true;
        }
        let mut count = 0;
        let holders = pg_sys::GetLockConflicts(&tag, pg_sys::ExclusiveLock as i32, &mut count);
        pg_sys::pfree(holders.cast());
        count > 0
    }
}

/// The smallest registered stamp of all.
fn registered_min() -> Option<i64> {
    // SAFETY: GetLockStatusData returns a palloc'd copy of the lock table, taken under all its partition locks at once.
    unsafe {
        let status = pg_sys::GetLockStatusData();
        let locks = std::slice::from_raw_parts((*status).locks, (*status).nelements as usize);
        let database = u32::from(pg_sys::MyDatabaseId);
        let min = locks
            .iter()
            .filter(|l| {
                let t = &l.locktag;
                t.locktag_type == pg_sys::LockTagType::LOCKTAG_ADVISORY as u8
                    && t.locktag_field4 == REGISTRATION
                    && t.locktag_field1 == database
                    && l.holdMask != 0
            })
            .map(|l| (i64::from(l.locktag.locktag_field2) << 32) | i64::from(l.locktag.locktag_field3))
            .min();
        pg_sys::pfree((*status).locks.cast());
        pg_sys::pfree(status.cast());
        min
    }
}

/// The largest snapmin that the active snapshot sees in `snapsync.horizon`; 1 where there is none.
pub fn snapmin_of_old_snapshot() -> Result<i64> {
    let rows = spi::as_owner(|| {
        spi::query("SELECT snapmin FROM snapsync.horizon ORDER BY snapmin DESC LIMIT 1", &[], spi::Mode::Read)
    })?;
    Ok(rows.first().and_then(|r| r.i64(0)).unwrap_or(FIRST))
}

/// A cursor for a client that only remembers when it last synced (microseconds since the Unix epoch, by a clock that may be wrong by
/// `slack`): the snapmin known that much earlier. None when nothing that old is recorded, or when the client may have read a branch
/// of history that is lost.
pub fn cursor_at(micros: i64, slack: i64) -> Result<Option<i64>> {
    let Some(earliest) = snapmin_at(micros.saturating_sub(slack))? else { return Ok(None) };
    let latest = snapmin_at(micros.saturating_add(slack))?.unwrap_or(earliest);
    let of_this_history = cursor_is_of_this_history(earliest)? && cursor_is_of_this_history(latest)?;
    Ok((of_this_history && in_one_branch(&all_gaps()?, earliest, latest)).then_some(earliest))
}

/// Is there no gap between these two, neither of which is in one?
fn in_one_branch(gaps: &[(i64, i64)], earliest: i64, latest: i64) -> bool {
    !gaps.iter().any(|&(from, to)| earliest < from && to <= latest)
}

/// The snapmin known at a wall-clock time: that of the newest horizon that is no younger.
fn snapmin_at(micros: i64) -> Result<Option<i64>> {
    let rows = spi::as_owner(|| {
        spi::query(
            "SELECT snapmin FROM snapsync.horizon \
             WHERE at <= ('epoch'::timestamptz + \
                   $1 * '1 microsecond'::interval) \
             ORDER BY at DESC LIMIT 1",
            &[spi::arg(micros as f64)],
            spi::Mode::Read,
        )
    })?;
    Ok(rows.first().and_then(|r| r.i64(0)))
}

/// Where this database's history runs. Another system identifier, timeline or database Oid than the last recorded one
/// means a fail-over, a point-in-time recovery or a restored dump: stamps may be handed out a second time.
fn identity() -> (String, i64, i64) {
    // SAFETY: reads of control data; not in recovery (callers).
    unsafe {
        let timeline = pg_sys::GetWALInsertionTimeLine();
        (pg_sys::GetSystemIdentifier().to_string(), i64::from(timeline), i64::from(u32::from(pg_sys::MyDatabaseId)))
    }
}

const IS_CURRENT: &str =
    "SELECT 1 FROM (SELECT system, timeline, database FROM snapsync.epoch ORDER BY number DESC LIMIT 1) AS e \
     WHERE e.system = $1 AND e.timeline = $2 AND e.database = $3";

type Gaps = Vec<(i64, i64)>;

thread_local! {
    /// The gaps of all epochs, and the table that they were read from (the extension may have been created anew). Set only once
    /// this backend has seen that the newest epoch is the one it runs in, which cannot change while it is out of recovery.
    static GAPS: RefCell<Option<(pg_sys::Oid, Gaps)>> = const { RefCell::new(None) };
    /// This transaction wrote the newest epoch itself and may still abort: nothing may be remembered from it.
    static RECORDING: Cell<bool> = const { Cell::new(false) };
}

/// At the end of every transaction.
pub fn end_of_transaction() {
    RECORDING.with(|r| r.set(false));
}

fn identity_args() -> [spi::Arg; 3] {
    let (system, timeline, database) = identity();
    [spi::arg(system), spi::arg(timeline), spi::arg(database)]
}

fn known_gaps() -> Result<Option<Gaps>> {
    let table = pg::relation_oid(c"epoch")?;
    Ok(GAPS.with(|g| g.borrow().clone()).filter(|(from, _)| *from == table).map(|(_, gaps)| gaps))
}

fn all_gaps() -> Result<Gaps> {
    match known_gaps()? {
        Some(known) => Ok(known),
        None => spi::as_owner(|| gaps(spi::Mode::Read)),
    }
}

fn gaps(mode: spi::Mode) -> Result<Gaps> {
    let rows = spi::query("SELECT gap_from, gap_to FROM snapsync.epoch", &[], mode)?;
    Ok(rows.iter().filter_map(|r| r.i64(0).zip(r.i64(1))).collect())
}

/// Has the history that this database is on been recorded by a writer? (Not asked in recovery.)
pub fn epoch_is_current(mode: spi::Mode) -> Result<bool> {
    let table = pg::relation_oid(c"epoch")?;
    if GAPS.with(|g| g.borrow().as_ref().is_some_and(|(from, _)| *from == table)) {
        return Ok(true);
    }
    spi::as_owner(|| {
        // As it is now, whatever the transaction's snapshot: it is remembered.
        let _now = pg::ActiveSnapshot::latest();
        let current = !spi::query(IS_CURRENT, &identity_args(), mode)?.is_empty();
        if current && !RECORDING.with(Cell::get) {
            let known = gaps(mode)?;
            let table = pg::relation_oid(c"epoch")?;
            GAPS.with(|g| *g.borrow_mut() = Some((table, known)));
        }
        Ok(current)
    })
}

/// A writer's first act in a backend: on a new history it records it and makes the clock leap. The cursors of the gap,
/// from the newest snapmin that survived (every pull that saw a lost transaction returned at least that: snapmins only
/// grow) to the leap's end, belong to the lost branch. False: somebody else is recording it, and until he has, nobody may
/// write a horizon, by which the next one would take the gap for smaller than it is.
pub fn ensure_epoch() -> Result<bool> {
    if epoch_is_current(spi::Mode::Write)? {
        return Ok(true);
    }
    spi::as_owner(|| {
        // Another session may be recording it and take long, or be prepared; nobody waits. If it aborts, the stamps handed out
        // meanwhile lie in the gap that the next recorder writes, and cursors from there are reset.
        if !pg::try_lock_for_recording(pg::relation_oid(c"epoch")?) {
            return Ok(false);
        }
        // Another backend may have been first; Mode::Write takes a new snapshot that sees it.
        if !spi::query(IS_CURRENT, &identity_args(), spi::Mode::Write)?.is_empty() {
            return Ok(true);
        }
        let (from, to) = if gaps(spi::Mode::Write)?.is_empty() {
            (0, 0)
        } else {
            let newest = spi::query("SELECT max(snapmin) FROM snapsync.horizon", &[], spi::Mode::Write)?;
            (newest.first().and_then(|r| r.i64(0)).unwrap_or(FIRST), advance(LEAP, false)?)
        };
        let [system, timeline, database] = identity_args();
        RECORDING.with(|r| r.set(true));
        spi::execute(
            "INSERT INTO snapsync.epoch (number, system, timeline, database, gap_from, gap_to) \
             SELECT coalesce(max(number), 0) + 1, $1, $2, $3, $4, $5 FROM snapsync.epoch",
            &[system, timeline, database, spi::arg(from), spi::arg(to)],
            spi::Mode::Write,
        )?;
        Ok(true)
    })
}

/// May a client trust what it holds under this cursor? Not when it is ahead of the clock (a restored backup) or was issued
/// by a branch of history that is lost.
pub fn cursor_is_of_this_history(cursor: i64) -> Result<bool> {
    let standby = pg::in_recovery();
    if !standby && cursor > read()? + 1 {
        return Ok(false);
    }
    let current = !standby && epoch_is_current(spi::Mode::Read)?;
    let known = all_gaps()?;
    if known.iter().any(|&(from, to)| from <= cursor && cursor < to) {
        return Ok(false);
    }
    // A new history that no writer has recorded yet: what will be its gap is in doubt already.
    Ok(standby || current || known.is_empty() || cursor < snapmin_of_old_snapshot()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_belongs_to_one_branch_of_history() {
        // The first epoch has no gap; the second begins after a branch that was lost from 20 on.
        let gaps = [(0, 0), (20, 100)];
        assert!(in_one_branch(&gaps, 5, 19));
        assert!(in_one_branch(&gaps, 100, 130));
        assert!(!in_one_branch(&gaps, 5, 100));
        assert!(!in_one_branch(&gaps, 19, 130));
    }
}
