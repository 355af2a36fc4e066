//! `wait_for_changes`: returns when a pull would bring something, or when the time is up.
//!
//! A look is a pull that stops short of the rows, under a snapshot of its own and in a subtransaction that is undone, so that no lock is
//! held in between. Then the session sleeps until a writer wakes it (log/wake.rs, with the argument why none is missed). The clock is looked
//! at once in a while, too: of prepared transactions nobody tells, and on a standby there are no writers.

use std::time::{Duration, Instant};

use pgrx::datum::Interval;

use super::look::{is_stuck_now, look, wait_at, Watch};
use super::wanted::Filters;
use super::PullRequest;
use crate::log::clock;
use crate::log::journal;
use crate::log::wake::{Waiting, Watched};
use crate::server::error::{code, Result, SyncError};
use crate::server::{pg, signal, subxact};
use crate::values::cursor;
use crate::values::excerpt;
use crate::values::notify::Actions;
use crate::values::settings;

/// The arguments of `wait_for_changes`.
pub struct WaitRequest {
    pub collections: Vec<Option<String>>,
    pub last_pulled_at: Option<String>,
    pub filter: Option<String>,
    pub actions: Option<String>,
    pub timeout: Option<Interval>,
    pub dialect: Option<String>,
}

/// How often the clock is looked at while nobody wakes us.
const POLL: Duration = Duration::from_secs(1);

/// On a standby it is all there is; and so long a look waits after one that was in vain, so that others' changes do not keep a waiter busy.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(250));
const STANDBY: Duration = Duration::from_millis(25);

/// While cursors stand still (beside a prepared transaction, on a standby of a quiet server, for the time of a commit) a wait does not end
/// before, if a pull may have brought all there is.
const STUCK: Duration = Duration::from_secs(1);

/// What happens between two looks: it ends the transaction.
type Between<'a> = &'a mut dyn FnMut();

/// Waits; the answer is JSON: `{"changed": ["todos"]}`, or nothing in it when the time is up.
pub fn wait(request: &WaitRequest, let_go: Option<Between>) -> Result<String> {
    let (cursor, asked) = parse(request)?;
    let timeout = timeout(request.timeout.as_ref())?;
    if pg::transaction_snapshot_is_fixed() {
        return Err(SyncError::new(
            code::FEATURE_NOT_SUPPORTED,
            "a transaction with one snapshot cannot wait for changes",
        )
        .detail("In REPEATABLE READ and SERIALIZABLE it sees nothing that others commit.")
        .hint("Wait in READ COMMITTED."));
    }
    journal::flush_before_reading()?;
    let changed = until_changed(&asked, cursor, Instant::now() + timeout, let_go)?;
    Ok(serde_json::json!({ "changed": changed }).to_string())
}

fn until_changed(
    asked: &Watch,
    mut cursor: cursor::Cursor,
    deadline: Instant,
    mut let_go: Option<Between>,
) -> Result<Vec<String>> {
    let left = || deadline.saturating_duration_since(Instant::now());
    let mut waiting: Option<(Watched, Waiting, i64)> = None;
    let (mut pause, mut woken, mut first) = (PAUSES.0, false, true);
    loop {
        signal::stay_awake();
        let found = subxact::try_out(|| look(asked, cursor))?;
        if !found.changed.is_empty() {
            // Who waits and pulls in turn is not to do nothing else.
            if !found.stuck || !first || left().is_zero() {
                return Ok(found.changed);
            }
            first = false;
            stay_while_stuck(cursor, STUCK.min(left()))?;
            continue;
        }
        first = false;
        cursor = found.cursor;
        if let Some(let_go) = &mut let_go {
            // It is of the transaction.
            waiting = None;
            let_go();
            signal::let_go_of_catalogs();
        }
        if waiting.as_ref().is_none_or(|(watched, ..)| *watched != found.watched) {
            drop(waiting.take());
            let at = wait_at(&found.watched);
            waiting = Some((found.watched, at, clock::read()?));
        }
        let begun_at = waiting.as_ref().map_or(0, |(_, _, clock)| *clock);
        let standby = pg::in_recovery();
        let missed = !standby && !found.seen.has_seen_all_of(begun_at);
        if woken || missed {
            signal::sleep_on(pause.min(left()));
            pause = (pause * 2).min(PAUSES.1);
        }
        if missed && !left().is_zero() {
            continue;
        }
        let poll = if standby { pause.max(STANDBY) } else { POLL };
        loop {
            if left().is_zero() {
                return Ok(Vec::new());
            }
            woken = signal::sleep(poll.min(left()));
            signal::stay_awake();
            if found.seen.is_outdated()? {
                break;
            }
            pause = PAUSES.0;
        }
        if standby {
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

/// Sleeps until a pull would return a later cursor than this, so long at most: mostly it is somebody who is just committing.
fn stay_while_stuck(cursor: cursor::Cursor, longest: Duration) -> Result<()> {
    let (begun, mut pause) = (Instant::now(), PAUSES.0);
    loop {
        let left = longest.saturating_sub(begun.elapsed());
        if left.is_zero() || !is_stuck_now(cursor)? {
            return Ok(());
        }
        signal::sleep_on(pause.min(left));
        pause = (pause * 2).min(PAUSES.1);
    }
}

fn parse(request: &WaitRequest) -> Result<(cursor::Cursor, Watch<'static>)> {
    const HINT: &str = "Pass the timestamp of the last pull, or an ISO 8601 time.";
    let names = super::names(&request.collections)?;
    let cursor = cursor::parse(request.last_pulled_at.as_deref()).map_err(|e| {
        SyncError::new(code::INVALID_PARAMETER, "malformed last_pulled_at").detail(e.to_string()).hint(HINT)
    })?;
    let pull = PullRequest { filter: request.filter.clone(), any_device: true, ..PullRequest::default() };
    let dialect = settings::dialect(request.dialect.as_deref())?;
    let filters = Filters::parse(&pull, dialect)?;
    let wanted = actions(request.actions.as_deref())?;
    Ok((cursor, Watch { names, dialect, filters, wanted, request: pull }))
}

fn actions(asked: Option<&str>) -> Result<Actions> {
    Ok(match asked {
        None | Some("changes") => Actions::ANY,
        Some("collection") => Actions::INSERT_OR_DELETE,
        Some("inserts") => Actions::INSERT,
        Some("updates") => Actions::UPDATE,
        Some("deletes") => Actions::DELETE,
        Some(other) => {
            return Err(SyncError::new(
                code::INVALID_PARAMETER,
                format!("unknown actions \"{}\"", excerpt::name(other)),
            )
            .hint("The actions are inserts, updates, deletes, collection (inserts and deletes) and changes."))
        }
    })
}

/// As long as is asked for, but no longer than may be.
fn timeout(asked: Option<&Interval>) -> Result<Duration> {
    let longest = Duration::from_secs(settings::wait_timeout_seconds());
    let Some(asked) = asked else { return Ok(longest) };
    const DAY: i128 = 24 * 60 * 60 * 1_000_000;
    let micros = i128::from(asked.months()) * 30 * DAY + i128::from(asked.days()) * DAY + i128::from(asked.micros());
    let micros = u64::try_from(micros.min(i128::from(u64::MAX))).map_err(|_| {
        SyncError::new(code::INVALID_PARAMETER, "timeout must not be negative")
            .hint("Pass an interval, for example '10 s'.")
    })?;
    Ok(Duration::from_micros(micros).min(longest))
}
