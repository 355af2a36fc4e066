//! On which history does this database run, and which cursors come from one that is lost?
//!
//! A history ends, and another one begins that does not know what it did last, when a standby takes over, a backup is restored or a
//! copy is started. The new one may hand out stamps again that the lost one has used for other changes. So each beginning is recorded
//! in `snapsync.epoch`, the clock leaps (`leap`), and cursors that may come from the lost branch are refused: those of the *gap*.
//!
//! *What is a beginning.* The database runs on the same history as before if it has the same system identifier, timeline and
//! database Oid, the table `epoch` itself has the Oid that it had (not after `pg_restore --clean`), and the file that every server
//! has from its first day to its last, `global/pg_control`, was born at the same time (not that of a copied directory). Otherwise a
//! branch may be lost: the gap begins with the newest cursor that can be told to be older than the branch.
//!
//! A snapshot of a volume or a machine that is put back shows none of these. But whoever puts it back starts a server. So each start
//! is a beginning, too, with a gap that no cursor of its own history can be in: from what the clock had reached to the leap's end,
//! that is all that a lost branch may have handed out since. A plain restart resets nobody. What cannot be seen: a client of such a
//! lost branch that pulled within its first 1,024 transactions and not later, or whose cursor was held back by a transaction
//! that had been prepared before; and one that syncs by wall-clock time.
//!
//! *Why the gap begins there.* Let t be lost, and p a pull that saw it. The newest horizon that survives, h, was computed by a
//! writer w whose commit is in the log before t's. Had p computed its snapmin after w, it would return at least h (snapmins never go
//! back). It may have computed it before w, and then have waited for the processor while w and t committed, before it took its
//! snapshot. But it does not take one more than [`OBSERVED_WITHIN`](super::OBSERVED_WITHIN) later (`clock::observe`). So p returns
//! at least what horizons said [`MARGIN`] before the newest one's time. Pulls under an older snapshot return the newest horizon that
//! it sees, which is at least that one if transactions become visible within the margin after their commit is in the log; not so those
//! that wait for a synchronous standby while others do not. The server's wall clock must not have jumped ahead in that moment.
//! What a crash takes away on the same history was shown to nobody (durable.rs). QED
//!
//! *Who records it.* The first writer of a backend, before it takes a stamp; he has his turn to himself. Where it is recorded nobody takes
//! turns. The entry stands at once and stays, whatever becomes of his transaction, as the clock's leap does: it is inserted frozen. If the
//! server crashes between the two, the entry makes up for the leap; so it does for who finds the entry before the clock has leapt.

use std::cell::RefCell;
use std::time::UNIX_EPOCH;

use pgrx::{pg_sys, IntoDatum};

use super::{advance_past, first_unfinished, horizon, next, position, read};
use crate::log::RECORDING_HISTORY;
use crate::server::error::{code, Result, SyncError};
use crate::server::memory::Gather;
use crate::server::pg::{self, OwnTable, WrittenBy};
use crate::server::{spi, talk};

/// A beginning of history leaps at least by this much, past what a lost branch can have handed out that was ahead of time.
const LEAP: i64 = 1 << 32;
/// The same after a plain start of the server.
const LEAP_AT_START: i64 = 1 << 28;
/// And it leaps on by something random below this, so that two copies of one database that begin in the same moment part.
const SPREAD: i64 = 1 << 36;
const SPREAD_AT_START: i64 = 1 << 28;

/// Stamps of a second since 2020, as in CREATE EXTENSION. No server commits so many, so time is always ahead of the clock.
const PER_SECOND: i64 = 1 << 20;
/// 2020-01-01 in microseconds of Postgres's time, which begins with 2000.
const SINCE: i64 = 7_305 * 86_400_000_000;
/// Cursors are whole numbers in JavaScript below 2^53. A wall clock that says it is after 2156 is not believed.
const LATEST: i64 = 1 << 52;

/// See above; twice what a pull may take between clock and snapshot.
const MARGIN: &str = "interval '0.2 s'";

/// So many plain starts are remembered.
const STARTS: i64 = 1000;

/// Where a clock that has reached `clock` leaps to: to what the time says, or by `least` where it is ahead of time, and on by `random`.
///
/// Time alone makes the leap larger than any of a sibling that began earlier, and than all that it has handed out since (fewer than
/// 2^18 a second). What is random parts siblings that begin in the same second, or have a clock that is ahead of time: of two with
/// 10^7 stamps each, they meet with a probability of 4 * 10^7 / 2^36 = 0.0006.
///
/// *How long it lasts.* Time reaches 2^52 in 2156. A restore while the clock is ahead of time takes 2^32 + 2^35 (mean), that is
/// 10 hours of time: 100,000 restores one after another, or a server that starts anew every ten seconds for seven years, before
/// cursors are no longer exact in JavaScript.
fn leap(clock: i64, least: i64, time: pg_sys::TimestampTz, random: i64) -> i64 {
    let micros = i128::from(time) - i128::from(SINCE);
    let by_time = (micros * i128::from(PER_SECOND) / 1_000_000).clamp(0, i128::from(LATEST)) as i64;
    let by_time = if by_time == LATEST { 0 } else { by_time };
    (clock + least).max(by_time) + random
}

fn random_below(bound: i64) -> Result<i64> {
    let mut bytes = [0u8; 8];
    // SAFETY: fills so many bytes.
    if !unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len()) } {
        return Err(SyncError::new(code::INTERNAL, "could not generate random numbers"));
    }
    Ok(i64::from_ne_bytes(bytes).rem_euclid(bound))
}

/// How far the clock has been, as far as is known, where it is here now.
pub(super) fn reached(clock: i64) -> Result<i64> {
    let ends = gaps()?.iter().map(|gap| gap.to).max();
    Ok(clock.max(horizon::newest()?).max(ends.unwrap_or(clock)))
}

/// The target of a leap from here; `lost`: a branch of history may be lost, or one that nothing is known of.
pub(super) fn target(clock: i64, lost: bool) -> Result<i64> {
    let (least, spread) = if lost { (LEAP, SPREAD) } else { (LEAP_AT_START, SPREAD_AT_START) };
    if cfg!(feature = "naive-leap") {
        return Ok(clock + LEAP);
    }
    // SAFETY: reads the clock.
    let now = unsafe { pg_sys::GetCurrentTimestamp() };
    // (A stamp, as cursors mean them: else one that means the end would lie before it.)
    Ok(next(leap(clock, least, now, random_below(spread)?)))
}

pub const EPOCH: OwnTable = OwnTable {
    name: c"epoch",
    columns: &[
        (pg_sys::INT4OID, false),
        (pg_sys::TEXTOID, false),
        (pg_sys::INT8OID, false),
        (pg_sys::INT8OID, false),
        (pg_sys::INT8OID, false),
        (pg_sys::TEXTOID, false),
        (pg_sys::TIMESTAMPTZOID, false),
        (pg_sys::BOOLOID, false),
        (pg_sys::INT8OID, false),
        (pg_sys::INT8OID, false),
        (pg_sys::INT8OID, false),
        (pg_sys::PG_LSNOID, false),
        (pg_sys::INT8OID, false),
    ],
    written: WrittenBy::Heap,
};

/// Where this database's history runs (not asked in recovery).
struct Identity {
    system: String,
    timeline: i64,
    database: i64,
    /// The Oid of snapsync.epoch.
    home: i64,
    /// When the server's control file was born, as far as the file system knows: in nanoseconds, or nothing.
    place: String,
    /// When the server was started.
    started: pg_sys::TimestampTz,
}

impl Identity {
    fn now() -> Result<Identity> {
        let born = std::fs::metadata("global/pg_control").and_then(|file| file.created()).ok();
        let place = born.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        // SAFETY: reads of control data, and of what the postmaster set; the working directory is the data directory.
        unsafe {
            Ok(Identity {
                system: pg_sys::GetSystemIdentifier().to_string(),
                timeline: i64::from(pg_sys::GetWALInsertionTimeLine()),
                database: i64::from(u32::from(pg_sys::MyDatabaseId)),
                home: i64::from(u32::from(pg::relation_oid(c"epoch")?)),
                place: place.map_or(String::new(), |at| at.as_nanos().to_string()),
                started: pg_sys::PgStartTime,
            })
        }
    }

    fn args(&self) -> [spi::Arg; 5] {
        let Identity { system, timeline, database, home, place, .. } = self;
        [spi::arg(system.as_str()), spi::arg(*timeline), spi::arg(*database), spi::arg(*home), spi::arg(place.as_str())]
    }
}

/// A beginning of history: cursors from `from` to below `to` are refused.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Gap {
    pub from: i64,
    pub to: i64,
    /// A branch may be lost, as far as one can see; otherwise it was a plain start.
    pub lost: bool,
}

/// How does this database's history stand to what is recorded of it?
#[derive(Clone, Copy, PartialEq, Debug)]
enum Recorded {
    /// It runs on, and the clock must be past this.
    Current(i64),
    /// The server was started since.
    Started,
    /// It is another one.
    Other,
    /// Nothing is recorded yet.
    Nothing,
}

thread_local! {
    /// The gaps, and where they were read (the extension may have been created anew, or the table emptied). Set only once this backend has
    /// seen that the history it runs on is recorded, which cannot change while it is out of recovery.
    static GAPS: RefCell<Option<(pg::OwnFile, Vec<Gap>)>> = const { RefCell::new(None) };
}

fn known_gaps() -> Result<Option<Vec<Gap>>> {
    let table = pg::own_file(c"epoch")?;
    Ok(GAPS.with(|g| g.borrow().clone()).filter(|(from, _)| *from == table).map(|(_, gaps)| gaps))
}

fn is_known_to_be_current() -> Result<bool> {
    let table = pg::own_file(c"epoch")?;
    Ok(GAPS.with(|g| g.borrow().as_ref().is_some_and(|(from, _)| *from == table)))
}

pub(super) fn gaps() -> Result<Vec<Gap>> {
    if let Some(known) = known_gaps()? {
        return Ok(known);
    }
    spi::as_owner(|| {
        let rows = spi::query("SELECT gap_from, gap_to, lost FROM snapsync.epoch", &[], spi::Mode::Read)?;
        Ok(rows.iter().filter_map(|r| Some(Gap { from: r.i64(0)?, to: r.i64(1)?, lost: r.bool(2) })).gather())
    })
}

fn recorded() -> Result<Recorded> {
    spi::as_owner(|| {
        // As it is now, whatever the transaction's snapshot: it is remembered.
        let _now = pg::ActiveSnapshot::latest();
        let identity = Identity::now()?;
        let [system, timeline, database, home, place] = identity.args();
        // SAFETY: a timestamptz is passed by value.
        let started = spi::Arg { oid: pg_sys::TIMESTAMPTZOID, datum: Some(pg_sys::Datum::from(identity.started)) };
        let rows = spi::query(
            "SELECT max(gap_to) FILTER (WHERE started = $6), count(*) FROM snapsync.epoch \
             WHERE system = $1 AND timeline = $2 AND database = $3 AND home = $4 AND place = $5",
            &[system, timeline, database, home, place, started],
            spi::Mode::Read,
        )?;
        let row = rows.first();
        if let Some(past) = row.and_then(|r| r.i64(0)) {
            return Ok(Recorded::Current(past));
        }
        if row.and_then(|r| r.i64(1)) > Some(0) {
            return Ok(Recorded::Started);
        }
        let any = spi::query("SELECT 1 FROM snapsync.epoch LIMIT 1", &[], spi::Mode::Read)?;
        Ok(if any.is_empty() { Recorded::Nothing } else { Recorded::Other })
    })
}

/// Is the history that this database runs on one that its log knows? (Not asked in recovery.)
pub fn is_known() -> Result<bool> {
    Ok(is_known_to_be_current()? || matches!(recorded()?, Recorded::Current(_) | Recorded::Started))
}

/// Remembers the gaps, once what is recorded is right.
fn remember() -> Result<()> {
    let table = pg::own_file(c"epoch")?;
    let gaps = {
        let _now = pg::ActiveSnapshot::latest();
        gaps()?
    };
    GAPS.with(|g| *g.borrow_mut() = Some((table, gaps)));
    Ok(())
}

/// The gap that a writer will record, or that a reader must assume where none has.
fn gap(recorded: Recorded) -> Result<(i64, bool)> {
    Ok(match recorded {
        // In a restored database without horizons, nothing is known of any cursor.
        Recorded::Other => (horizon::newest_before(MARGIN)?, true),
        // The largest cursor that can have been given is the clock's next value.
        _ => (next(read()?) + 1, false),
    })
}

/// Is this a dump being loaded, into a database that has no history of its own? (Dumps begin by setting this.) What its triggers
/// log is older than the history that comes with it, which must find the tables empty.
///
/// Believed of who could load it, as long as nothing was synced in this database: `enable`, and the first look at restored tables, leave a note.
fn is_loading() -> Result<bool> {
    Ok(pg::has_setting_of_dumps() && !is_known()? && pg::owner_is_connected()? && !is_at_home()?)
}

/// Is what the extension knows of tables known of this database (collections/shape/dependency.rs)?
fn is_at_home() -> Result<bool> {
    let (database, system) = pg::database();
    let note = "SELECT 1 FROM snapsync.dependency WHERE relation::oid = 0 AND classid = 0 AND objid = $1 AND name = $2 LIMIT 1";
    spi::as_owner(|| {
        let _now = pg::ActiveSnapshot::latest();
        Ok(!spi::query(note, &[spi::arg(database), spi::arg(system.to_string())], spi::Mode::Read)?.is_empty())
    })
}

/// A push's, before it judges its cursor: the same where a history has ended that was recorded. (A database without any may be one that is just being restored.)
pub(super) fn ensure_next() -> Result<bool> {
    Ok(is_known_to_be_current()? || recorded()? != Recorded::Nothing && ensure()?)
}

/// A writer's first act in a backend: records on which history it is, where nobody has yet. False: there is nothing to record now, of a
/// horizon or roles neither; the stamps handed out meanwhile lie in the gap that will be.
pub fn ensure() -> Result<bool> {
    if is_known_to_be_current()? {
        return Ok(true);
    }
    if is_loading()? {
        return Ok(false);
    }
    match recorded()? {
        Recorded::Current(past) => advance_past(past)?,
        _ => record()?,
    }
    remember()?;
    Ok(true)
}

fn record() -> Result<()> {
    // For as long as recording takes: what is recorded stands at once, for everybody.
    let _turn = talk::Brief::take(RECORDING_HISTORY);
    match recorded()? {
        // Somebody was quicker.
        Recorded::Current(past) => advance_past(past),
        what => {
            let ((from, lost), clock) = (gap(what)?, read()?);
            // Where nothing is recorded the extension may have been there before, and dropped: of that one nothing is known but that its
            // clock was ahead of time, too. What `enable` resets is older than this leap; cursors beyond would be valid once the clock has come there.
            let to = target(reached(clock)?, lost || what == Recorded::Nothing)?;
            let gap = if what == Recorded::Nothing { Gap { from: 0, to: 0, lost } } else { Gap { from, to, lost } };
            insert(gap)?;
            advance_past(to)
        }
    }
}

/// An entry that everybody sees from now on, whether or not this transaction commits.
fn insert(gap: Gap) -> Result<()> {
    let identity = Identity::now()?;
    let number = spi::as_owner(|| {
        let _now = pg::ActiveSnapshot::latest();
        let newest = "SELECT coalesce(max(number), 0) FROM snapsync.epoch";
        Ok(spi::query(newest, &[], spi::Mode::Read)?.first().and_then(|r| r.i64(0)).unwrap_or(0) + 1)
    })?;
    if !gap.lost && number > STARTS && !pg::transaction_snapshot_is_fixed() {
        // What a prepared transaction has dropped goes when that ends, however late. (An older snapshot cannot drop what others have dropped since.)
        let old = "DELETE FROM snapsync.epoch WHERE ctid = ANY (ARRAY( \
                       SELECT ctid FROM snapsync.epoch WHERE NOT lost AND number < $1 FOR UPDATE SKIP LOCKED))";
        spi::as_owner(|| spi::execute(old, &[spi::arg((number - STARTS) as i32)], spi::Mode::Write))?;
    }
    // The column order is that of CREATE TABLE in sql/02_tables.sql, checked by a test.
    let columns = [
        (number as i32).into_datum(),
        identity.system.as_str().into_datum(),
        identity.timeline.into_datum(),
        identity.database.into_datum(),
        identity.home.into_datum(),
        identity.place.as_str().into_datum(),
        Some(pg_sys::Datum::from(identity.started)),
        gap.lost.into_datum(),
        gap.from.into_datum(),
        gap.to.into_datum(),
        // No stamp has been drawn on this history yet: what is registered was prepared before it.
        first_unfinished(read()?)?.unwrap_or(next(gap.to)).into_datum(),
        Some(pg_sys::Datum::from(position::reached())),
        Some(pg_sys::Datum::from(pg::next_full_xid())),
    ];
    let relation = EPOCH.open(pg_sys::RowExclusiveLock)?;
    // SAFETY: one tuple of the table's own shape. The table has no index. A frozen tuple is visible at once and for ever: to be
    // true whatever becomes of this transaction is what it is for.
    unsafe {
        let tuple = EPOCH.row(relation, &columns);
        let command = pg_sys::GetCurrentCommandId(true);
        let frozen = pg_sys::HEAP_INSERT_FROZEN as i32;
        pg_sys::heap_insert(relation, tuple, command, frozen, std::ptr::null_mut());
        pg_sys::heap_freetuple(tuple);
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
    }
    Ok(())
}

/// May a client trust what it holds under this cursor? Not when it is ahead of the clock (a restored backup) or was issued
/// by a branch of history that is lost.
pub fn cursor_is_of_this_history(cursor: i64) -> Result<bool> {
    // No writer has recorded this history yet: what will be its gap is in doubt already.
    is_of_this_history(cursor, |what| Ok(cursor < gap(what)?.0))
}

/// The same of a cursor that was given while `unrecorded` was what it is now: nobody has written on this history, so it has no gap yet.
pub fn cursor_given_here_holds(cursor: i64) -> Result<bool> {
    is_of_this_history(cursor, |_| Ok(true))
}

/// The history that this database runs on, where its log knows others and not this one, for nobody has written on it yet.
pub fn unrecorded() -> Result<Option<String>> {
    if pg::in_recovery() || is_known_to_be_current()? || recorded()? != Recorded::Other {
        return Ok(None);
    }
    let Identity { system, timeline, database, home, place, started } = Identity::now()?;
    Ok(Some(format!("{:?}", (system, timeline, database, home, place, started))))
}

fn is_of_this_history(cursor: i64, unrecorded: impl FnOnce(Recorded) -> Result<bool>) -> Result<bool> {
    let standby = pg::in_recovery();
    if !standby && cursor > next(read()?) {
        return Ok(false);
    }
    if gaps()?.iter().any(|gap| gap.from <= cursor && cursor < gap.to) {
        return Ok(false);
    }
    if standby || is_known_to_be_current()? {
        return Ok(true);
    }
    match recorded()? {
        Recorded::Current(past) => {
            // (The clock has not leapt yet after a crash.)
            if read()? >= past {
                remember()?;
            }
            Ok(true)
        }
        Recorded::Nothing => Ok(true),
        what => unrecorded(what),
    }
}

/// The snapmin of a pull whose snapshot is an old one, and which knows this one by the horizons: these are silent until somebody has committed on this history. It may
/// be in the gap before it then, and its cursor good for no pull and no push. So it is what the history began with.
///
/// *Proof.* On the server that records it no stamp is drawn on a history before it is recorded; so whatever of this history a snapshot does not see has a stamp after the
/// gap. What was before is visible to all snapshots taken here, but for what was prepared. That is registered, if it had not ended by then; and to a snapshot from before it ended it is
/// under way. So one is not believed to which a transaction is under way that had begun when the history was recorded: in whatever database, for a snapshot does not say
/// in which. A snapshot of the time before, that a session has kept when the standby that it is on was promoted, is told by itself. A standby sees what was before once it
/// has replayed as much as was flushed then: `replayed`, asked before its snapshot was taken.
pub fn past_gap(snapmin: i64, replayed: Option<position::Lsn>, snapshot: &pg::ActiveSnapshot) -> Result<i64> {
    let in_gap = |gap: &Gap| gap.from <= snapmin && snapmin < gap.to;
    // SAFETY: an active snapshot of transactions.
    let is_of_standby = unsafe { (*snapshot.raw()).takenDuringRecovery };
    if !gaps()?.iter().any(in_gap) || is_of_standby && !pg::in_recovery() {
        return Ok(snapmin);
    }
    let row = spi::as_owner(|| {
        let _now = pg::ActiveSnapshot::latest();
        // (The gap may be an earlier one's: of a history on which nobody has committed either.)
        let newest = "SELECT gap_to, snapmin, (lsn - '0/0')::bigint, next_xid, system FROM snapsync.epoch ORDER BY number DESC LIMIT 1";
        spi::query(newest, &[], spi::Mode::Read)
    })?;
    let Some(row) = row.first() else { return Ok(snapmin) };
    let columns = (row.i64(0), row.i64(1), row.i64(2), row.i64(3));
    let (Some(to), Some(began_with), Some(lsn), Some(next_xid)) = columns else { return Ok(snapmin) };
    let replayed = !is_of_standby || replayed.is_some_and(|replayed| lsn as u64 <= replayed);
    // (A dump brings another server's numbers along.)
    let all_since = row.string(4) == pg::database().1.to_string() && snapshot.oldest_under_way() >= next_xid as u64;
    Ok(if snapmin < to && replayed && all_since { snapmin.max(began_with) } else { snapmin })
}

/// Is there no branch that may be lost between these two, neither of which is in a gap? (For times: a plain start is not in question.)
pub(super) fn in_one_branch(gaps: &[Gap], earliest: i64, latest: i64) -> bool {
    !gaps.iter().any(|gap| gap.lost && earliest < gap.from && gap.to <= latest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: i64 = 365 * 86_400_000_000;
    const TODAY: i64 = SINCE + 7 * YEAR;

    #[test]
    fn a_time_belongs_to_one_branch_of_history() {
        // The first epoch has no gap; the second begins after a branch that was lost from 20 on.
        let gap = |from, to, lost| Gap { from, to, lost };
        let gaps = [gap(0, 0, false), gap(20, 100, true), gap(110, 120, false)];
        assert!(in_one_branch(&gaps, 5, 19));
        assert!(in_one_branch(&gaps, 100, 130));
        assert!(!in_one_branch(&gaps, 5, 100));
        assert!(!in_one_branch(&gaps, 19, 130));
    }

    #[test]
    fn siblings_leap_apart() {
        let clock = PER_SECOND * 7 * 365 * 86_400 - 12_345;
        // One begins a second after the other: it leaps past all that the other handed out in that second.
        let first = leap(clock, LEAP, TODAY, 0);
        assert!(leap(clock, LEAP, TODAY + 1_000_000, 0) >= first + PER_SECOND || first == clock + LEAP);
        let later = TODAY + 5 * 3_600_000_000;
        assert!(leap(clock, LEAP, later, 0) > leap(clock, LEAP, TODAY, 0));
        // In the same microsecond, only what is random parts them.
        assert_eq!(leap(clock, LEAP, TODAY, 7) - leap(clock, LEAP, TODAY, 3), 4);
        // Past all of the lost branch, also where the clock is ahead of time, or time is nonsense.
        for time in [0, TODAY, TODAY + 3 * YEAR, i64::MIN, i64::MAX] {
            assert!(leap(clock, LEAP, time, 0) >= clock + LEAP);
            assert!(leap(clock, LEAP, time, SPREAD) < 1 << 53);
        }
    }

    #[test]
    fn cursors_stay_exact_in_javascript_for_decades() {
        const EXACT: i64 = 1 << 53;
        // A restore an hour, for ten years; each time with the largest leap there is.
        let mut clock = PER_SECOND;
        for hour in 0..10 * 365 * 24 {
            clock = leap(clock, LEAP, TODAY + hour * 3_600_000_000, SPREAD - 1);
        }
        assert!(clock < EXACT, "{clock}");
        // A crash every ten seconds, for a year.
        let mut clock = PER_SECOND;
        for start in 0..365 * 24 * 360 {
            clock = leap(clock, LEAP_AT_START, TODAY + start * 10_000_000, SPREAD_AT_START - 1);
        }
        assert!(clock < EXACT / 4, "{clock}");
        // 120 years from now, one restore a day.
        let mut clock = PER_SECOND;
        for day in 0..120 * 365 {
            clock = leap(clock, LEAP, TODAY + day * 86_400_000_000, SPREAD / 2);
        }
        assert!(clock < EXACT, "{clock}");
    }
}
