//! The clock: which number a transaction's changes carry, and from which number on a reader may still be missing some.
//!
//! > Every change that is not visible to a pull's snapshot carries a stamp >= the snapmin that the pull returns.
//!
//! A **writer**, once per transaction, while it commits (`journal::flush`), in one critical section on the clock's page:
//!  1. `stamp` = the next multiple of four after `last_value`
//!  2. takes a share lock on the advisory tag (stamp, field4 = 3): "I stamp this". Everybody sees it in `pg_locks`.
//!  3. `last_value = stamp`. It then writes its entries and commits; the lock goes after the commit is visible. (Where it fails, before the
//!     ERROR is sent to the client: server/talk.rs.)
//!
//! A **reader**: 1. `n = last_value`; 2. looks for the smallest stamp up to n that is registered; `snapmin` is that one, or
//! the next after n where there is none; 3. then takes its snapshot.
//!
//! *Proof.* Let t be a writer that the snapshot does not see. If t's lock was there in 2: snapmin <= stamp(t). If not, t
//! had either not reached its critical section by 1, so stamp(t) > n, hence stamp(t) >= next(n) >= snapmin; or had released
//! its lock before 2, so its commit was visible before 3 and the snapshot sees it, a contradiction. QED
//! (The server leaves a holder out as soon as its transaction is none of the running ones, a moment before its lock goes: its commit is visible by then. PREPARE hands
//! the lock over before that. Entries that are written early carry a number, for which readers take the transaction's stamp: `draw`.)
//!
//! Stamps are multiples of four. So a cursor can be another number, and mean the stamp before it: pulls say by that that their snapshot has seen more
//! than what came before ([`INEXACT`], pull/exact.rs), that the role stood otherwise than recorded ([`UNRECORDED`], roles.rs), or that the stamp is older
//! than what the client has ([`WENT_BACK`], pull/next_cursor.rs).
//!
//! Snapmins never go back, whoever reads: what is registered after a reader's 1 is larger than its n. So a stamp once found finished stays
//! so, step 2 need not look at it again, and what a later reader finds registered up to that n the earlier one found, too.
//!
//! A reader whose snapshot is older than step 1 (REPEATABLE READ, SERIALIZABLE) or that has no lock table (hot standby)
//! uses the largest `snapsync.horizon.snapmin` that its snapshot sees. A writer w put it there: computed by steps 1 and 2
//! before w committed. *Proof.* Let t be invisible in a snapshot that sees w, another transaction. When w computed: t was
//! registered, so snapmin <= stamp(t); or registered later, so stamp(t) > n; or had released, but then t committed before w
//! and would be visible. QED It says nothing of w's own snapshot, so a w whose snapshot is that old writes such a row as well, of a reading of the
//! clock at that moment. Only w itself must not go by it: it sees its row, and not what has committed since its snapshot. Nor need w count among the
//! registered, for who sees the row sees what w has changed: `horizon.beyond`.
//!
//! What of this a crash, a fail-over or a copy leaves standing is argued in `history.rs` (cursors of branches that are lost) and
//! `durable.rs` (changes that were seen and are lost); `horizon.rs` has the old snapshots, and times.
//!
//! Stamps are never given twice on one history, also if the clock is set back (`setval`, by a script that copies all sequences, or a
//! restore). Whoever does that leaves a sequence's `log_cnt` at 0, and `advance`, which never does, finds it: then the clock leaps past
//! all that can have been given, by the time and the newest horizon. Until that, a reader may return a smaller snapmin, which is right.
//!
//! Why not `nextval`: it sets the session's `lastval()`, which PDO's and others' `lastInsertId()` read after their own
//! INSERT committed. The clock is still an ordinary sequence (dumped, visible, `setval` works); `advance` does on its page
//! what nextval does, with the public generic WAL interface.

use std::cell::Cell;
use std::time::{Duration, Instant};

use pgrx::pg_sys;

use crate::server::error::{code, Result, SyncError};
use crate::server::{memory, pg, talk};

pub mod durable;
pub mod history;
pub mod horizon;
pub mod position;

/// Cursors and stamps start at 1: 0 and null mean "nothing yet" (WatermelonDB: a timestamp must be > 0).
pub const FIRST: i64 = 1;

/// How many values are logged ahead: those of 1,024 transactions. nextval uses 32; a reader must see the logged value flushed (see
/// `read_durable`), so a larger step makes that wait 32 times rarer. A crash skips at most this many numbers.
const LOGGED_AHEAD: i64 = 4096;

/// What `log_cnt` is when nothing that is logged ahead is left. A sequence that somebody else has set has 0 there.
const OURS: i64 = 1;

/// `field4` of our advisory locks. pg_advisory_lock's tags have 1 or 2 there, so SQL can neither take nor release these.
const REGISTRATION: u16 = 3;

/// A sequence's only tuple: FormData_pg_sequence_data in commands/sequence.h.
#[repr(C)]
struct SequenceData {
    last_value: i64,
    log_cnt: i64,
    is_called: bool,
}

/// Was the clock last set by somebody else (`setval`, `ALTER SEQUENCE ... RESTART`, a restore, CREATE EXTENSION)?
fn is_foreign(data: &SequenceData) -> bool {
    data.log_cnt < OURS
}

/// The last value that was given. (A sequence that begins with one has not given it yet.)
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
        if (*(*relation).rd_rel).relkind as u8 != pg_sys::RELKIND_SEQUENCE {
            return Err(SyncError::new(code::WRONG_OBJECT_TYPE, "snapsync.clock is no sequence")
                .hint("Give the extension's sequence its name again."));
        }
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
/// cursor that a client holds. The last logged value is flushed first if it is not yet (once in 1024 transactions), and the clock
/// read again: between that and the snapshot nothing waits for a disk. Also: was the clock set by somebody else?
fn read_durable() -> Result<(i64, bool)> {
    loop {
        // SAFETY: only reads under a share lock; XLogFlush after it is released, and not in recovery.
        unsafe {
            let (value, foreign, lsn) = with_page(pg_sys::BUFFER_LOCK_SHARE, |_, buffer| {
                let page = pg_sys::BufferGetPage(buffer);
                let data = data(page);
                (current(data), is_foreign(data), page_lsn(page))
            })?;
            if pg::in_recovery() || !pg_sys::XLogNeedsFlush(lsn) {
                return Ok((value, foreign));
            }
            pg_sys::XLogFlush(lsn);
        }
    }
}

/// From one stamp to the next.
pub const STEP: i64 = 4;

/// What a cursor can say besides its stamp: that its snapshot had seen more, or that the next pull replaces what the client has, and why.
pub const INEXACT: i64 = 1;
pub const UNRECORDED: i64 = 2;
pub const WENT_BACK: i64 = 3;

/// The stamp that a cursor means.
pub fn stamp_of(cursor: i64) -> i64 {
    cursor & !(STEP - 1)
}

/// The stamp after this value of the clock.
pub fn next(clock: i64) -> i64 {
    (clock | (STEP - 1)).saturating_add(1)
}

/// Moves the clock on to the next stamp, atomically, and returns it, registered. Taking that lock under the page's is what makes
/// registration and draw one step. It cannot deadlock: the lock is new, so nobody waits for it, and the lock manager never waits for a
/// page.
fn advance() -> Result<i64> {
    advance_to(next, true)
}

/// Moves the clock to this value, unless it is past it.
fn advance_past(value: i64) -> Result<()> {
    advance_to(|clock| clock.max(value), false).map(|_| ())
}

fn advance_to(next: impl Fn(i64) -> i64, register: bool) -> Result<i64> {
    let mut leap = None;
    loop {
        match try_advance(&next, leap, register)? {
            Advance::To(value) => return Ok(value),
            Advance::Foreign(clock) => leap = Some(history::target(history::reached(clock)?, false)?),
            Advance::Unregistered(value) => why_unregistered(value)?,
        }
    }
}

enum Advance {
    To(i64),
    /// Somebody else has set the clock to this value.
    Foreign(i64),
    /// The next value, which could not be registered.
    Unregistered(i64),
}

/// Raises the ERROR that there is no room for a lock, now that the clock's page is not locked; if there is room by now, all is well.
fn why_unregistered(stamp: i64) -> Result<()> {
    memory::heed();
    // SAFETY: nobody waits for a stamp that nobody has.
    let taken = unsafe { pg_sys::LockAcquire(&tag(stamp), pg_sys::ShareLock as i32, false, true) };
    if taken == pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL {
        return Err(SyncError::new(code::INTERNAL, "the stamp's registration is held by somebody else")
            .hint("Does another extension take advisory locks of class 3? It must not."));
    }
    // SAFETY: as it was taken.
    unsafe { pg_sys::LockRelease(&tag(stamp), pg_sys::ShareLock as i32, false) };
    Ok(())
}

/// Takes the registration, charged to the top transaction: it outlives the subtransaction that we may be in. Nothing is raised where there is no room
/// for a lock: the clock's page is locked, and an ERROR is sent to the client before that is given back.
///
/// # Safety
/// Inside a transaction.
unsafe fn register(stamp: i64) -> bool {
    // SAFETY: an advisory lock, not waited for.
    unsafe {
        let owner = std::ptr::replace(&raw mut pg_sys::CurrentResourceOwner, pg_sys::TopTransactionResourceOwner);
        let (tag, mode, lock) = (tag(stamp), pg_sys::ShareLock as i32, std::ptr::null_mut());
        #[cfg(any(feature = "pg15", feature = "pg16", feature = "pg17"))]
        let taken = pg_sys::LockAcquireExtended(&tag, mode, false, true, false, lock);
        #[cfg(feature = "pg18")]
        let taken = pg_sys::LockAcquireExtended(&tag, mode, false, true, false, lock, false);
        pg_sys::CurrentResourceOwner = owner;
        taken != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }
}

fn try_advance(next: &impl Fn(i64) -> i64, leap: Option<i64>, register_it: bool) -> Result<Advance> {
    // SAFETY: all changes happen under the page's exclusive lock, after everything that can raise an ERROR. As in
    // nextval_internal, what is in the WAL is always ahead of or equal to what is on the page, also when the last record
    // came before the last checkpoint's redo point; the logged page is a full image, because a delta against the page's
    // unlogged state would not replay.
    unsafe {
        with_page(pg_sys::BUFFER_LOCK_EXCLUSIVE, |relation, buffer| {
            let page = pg_sys::BufferGetPage(buffer);
            let sequence = data(page);
            let clock = current(sequence);
            let next = match (is_foreign(sequence), leap) {
                (false, _) => next(clock),
                (true, Some(leap)) => next(clock.max(leap)),
                (true, None) => return Advance::Foreign(clock),
            };
            if register_it && !register(next) {
                return Advance::Unregistered(next);
            }
            let by = next - clock;
            let ahead = !is_foreign(sequence) && by <= sequence.log_cnt - OURS;
            if sequence.is_called && ahead && page_lsn(page) > pg_sys::GetRedoRecPtr() {
                sequence.log_cnt -= by;
                sequence.last_value = next;
                pg_sys::MarkBufferDirty(buffer);
            } else {
                let state = pg_sys::GenericXLogStart(relation);
                let image =
                    data(pg_sys::GenericXLogRegisterBuffer(state, buffer, pg_sys::GENERIC_XLOG_FULL_IMAGE as i32));
                image.is_called = true;
                image.last_value = next + LOGGED_AHEAD;
                image.log_cnt = OURS;
                pg_sys::GenericXLogFinish(state);
                let sequence = data(page);
                sequence.last_value = next;
                sequence.log_cnt = OURS + LOGGED_AHEAD;
                pg_sys::MarkBufferDirty(buffer);
            }
            Advance::To(next)
        })
    }
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
    let stamp = advance()?;
    talk::hold(tag(stamp), pg_sys::ShareLock);
    Ok(stamp)
}

/// What the next writer does before it takes its stamp: the history that this database runs on is recorded, and a clock that somebody has set back leaps. It
/// stands, whatever becomes of the transaction. A push must do it before it judges its cursor: where nobody else writes, it would be refused by what its own commit puts
/// right, and never commit.
pub fn catch_up() -> Result<()> {
    if history::ensure_next()? && was_set()? {
        advance_past(FIRST)?;
    }
    Ok(())
}

fn was_set() -> Result<bool> {
    // SAFETY: only reads under a share lock.
    unsafe { with_page(pg_sys::BUFFER_LOCK_SHARE, |_, buffer| is_foreign(data(pg_sys::BufferGetPage(buffer)))) }
}

/// A number that nobody else has, for entries that are written before their transaction commits. It is no stamp: nothing is registered,
/// and no reader waits for it. `snapsync.early` says which stamp the transaction got in the end, and that counts (journal.rs).
pub fn draw() -> Result<i64> {
    advance_to(|clock| next(clock) + EARLY, false)
}

/// What such numbers are more than multiples of four.
const EARLY: i64 = 1;

/// Is it such a number?
pub fn is_early(number: i64) -> bool {
    number - stamp_of(number) == EARLY
}

/// What a reader learns from the clock.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Reading {
    /// The largest stamp handed out before: no entry with a larger one was committed by then. (i64::MAX where that is not known.)
    pub newest: i64,
    pub snapmin: i64,
}

/// A reader's steps 1 and 2. The snapshot must be taken afterwards (or, for `snapsync.horizon`, never).
pub fn read_snapmin() -> Result<Reading> {
    let (clock, foreign) = read_durable()?;
    let snapmin = first_unfinished(clock)?.unwrap_or(next(clock));
    Ok(Reading { newest: if foreign { i64::MAX } else { clock }, snapmin })
}

/// A pull's snapshot is not older than this when it has it, counted from its reading of the clock (history.rs asks for that).
const OBSERVED_WITHIN: Duration = Duration::from_millis(100);

/// A reader's three steps: the clock, then a snapshot. If the processor was taken away in between, they are done again.
pub fn observe() -> Result<(Reading, pg::ActiveSnapshot)> {
    loop {
        memory::heed();
        let begun = Instant::now();
        let reading = read_snapmin()?;
        let snapshot = pg::ActiveSnapshot::take();
        if begun.elapsed() < OBSERVED_WITHIN {
            return Ok((reading, snapshot));
        }
    }
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
    let known = of == clock && (0..=STEP * LOOKED_UP).contains(&(newest - finished));
    let mut stamps = (next(finished)..=newest).step_by(STEP as usize);
    let first = if known { stamps.find(|&stamp| is_registered(stamp)) } else { registered_min(FIRST) };
    let first = first.filter(|&stamp| stamp <= newest);
    FINISHED.with(|f| f.set((clock, first.map_or(newest, |stamp| stamp - 1))));
    Ok(first)
}

/// The smallest registered stamp after this one and up to `newest`.
fn first_registered_between(after: i64, newest: i64) -> Option<i64> {
    match (newest - after) / STEP {
        ..=LOOKED_UP => (next(after)..=newest).step_by(STEP as usize).find(|&stamp| is_registered(stamp)),
        _ => registered_min(after + 1).filter(|&stamp| stamp <= newest),
    }
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

/// The smallest registered stamp from this one on.
fn registered_min(from: i64) -> Option<i64> {
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
            .filter(|&stamp| stamp >= from)
            .min();
        pg_sys::pfree((*status).locks.cast());
        pg_sys::pfree(status.cast());
        min
    }
}
