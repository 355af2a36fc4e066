//! `push_changes`: a client's changes, applied as the calling role.
//!
//! In the order of the rules for backends that WatermelonDB gives: the payload is checked as a whole; the rows are locked;
//! what changed on the server since the client's cursor is a conflict, which the collection's policy decides
//! ([`decide`]); then everything is applied set-wise, one statement per collection and set of columns ([`apply`]), parents
//! before children ([`order`]).
//!
//! All of it is tried in one subtransaction, which costs next to nothing. Only if that fails, the rows are written again in
//! halves of halves, to find out which of them cannot be written: with `on_rejected => 'abort'` the error names the record,
//! with `'report'` the others are applied.

use std::cell::Cell;
use std::collections::HashSet;

use crate::batch::{self, BatchError, RawCollection};
use crate::catalog;
use crate::cursor::{self, Cursor};
use crate::error::{code, Result, SyncError};
use crate::journal::{self, Origin};
use crate::log::Logged;
use crate::{clock, json, pg, pull, roles, settings, spi, subxact};

mod apply;
mod decide;
pub mod echo;
pub mod facts;
pub mod mutate;
mod once;
mod order;
mod target;

use apply::{Item, Outcome, What};
use decide::{Decisions, Fate};
use facts::Facts;
use order::Stage;
use target::Target;

/// The arguments of `push_changes`.
pub struct Request<'a> {
    pub changes: &'a str,
    pub last_pulled_at: Option<&'a str>,
    pub dialect: Option<&'a str>,
    pub client_id: Option<&'a str>,
    pub push_id: Option<String>,
    pub on_rejected: Option<&'a str>,
}

impl From<BatchError> for SyncError {
    fn from(e: BatchError) -> Self {
        SyncError::new(e.sqlstate(), "malformed changes").detail(e.to_string()).hint(e.hint())
    }
}

/// From where on a change on the server conflicts with the client's.
#[derive(Clone, Copy)]
pub(crate) enum Baseline {
    /// The client makes no claim about what it has seen: nothing conflicts.
    None,
    Stamp(i64),
    /// The client's state is older than the log reaches: everything may have changed.
    Unknown,
}

/// What holds for the whole push.
pub(crate) struct Push<'p> {
    baseline: Baseline,
    client_id: Option<&'p str>,
    report: bool,
    /// A unique key that is taken may have been taken while we waited for it: then everything is decided anew, once.
    retry_unique: Cell<bool>,
    /// The first attempt is under way: whatever is not plain goes back to be done with care.
    quick: Cell<bool>,
}

/// A row that is not applied.
pub(crate) struct Rejection {
    target: usize,
    id: String,
    error: SyncError,
    /// The collection's policy wants it so (`server_wins`): no reason to abort.
    expected: bool,
}

impl Push<'_> {
    /// Is this entry of the log somebody else's, neither this transaction's nor this client's?
    fn is_by_others(&self, e: &Logged) -> bool {
        Some(e.stamp) != journal::own_stamp() && !(e.origin.is_some() && e.origin.as_deref() == self.client_id)
    }
}

pub fn push(request: &Request) -> Result<String> {
    let report = match request.on_rejected.unwrap_or("abort") {
        "abort" => false,
        "report" => true,
        other => {
            return Err(SyncError::new(
                code::INVALID_PARAMETER,
                format!("unknown on_rejected \"{}\"", catalog::clip(other)),
            )
            .hint("It is 'abort' (apply all or nothing) or 'report' (leave out what is refused and say so)."))
        }
    };
    let push = Push {
        baseline: baseline(request.last_pulled_at)?,
        client_id: request.client_id,
        report,
        retry_unique: Cell::new(true),
        quick: Cell::new(false),
    };
    let raw = batch::parse(request.changes)?;
    let targets = resolve(&raw, request, false)?;
    let claim = match &request.push_id {
        Some(id) => match once::claim(id, request)? {
            once::Claim::Answered(answer) => return Ok(answer),
            once::Claim::First(claim) => Some(claim),
        },
        None => None,
    };
    let answer = if targets.is_empty() {
        "{}".into()
    } else {
        let _origin = Origin::set(request.client_id);
        push.carry_out(targets, request)?
    };
    if let Some(claim) = claim {
        claim.answer(&answer)?;
    }
    Ok(answer)
}

fn resolve<'a>(raw: &'a [RawCollection<'_>], request: &Request, settled: bool) -> Result<Vec<Target<'a>>> {
    let dialect = pull::parse_dialect(request.dialect)?;
    let mut targets: Vec<Target> = Vec::new();
    // Where a mutator pushes, the client has not sent these rows.
    let echo = !settled && request.client_id.is_some() && !journal::has_origin();
    for changes in raw {
        let collection = catalog::collection(changes.name())?;
        if targets.iter().any(|t| t.collection.relation == collection.relation) {
            return Err(SyncError::new(code::INVALID_PARAMETER, "malformed changes")
                .detail(format!("{} names a collection that stands there under another name.", changes.path()))
                .hint("Use one name for each collection."));
        }
        targets.push(Target::resolve(changes, collection, dialect, settled, echo)?);
    }
    targets.retain(|t| !t.is_empty());
    for target in &targets {
        target.check_columns()?;
    }
    Ok(targets)
}

fn baseline(last_pulled_at: Option<&str>) -> Result<Baseline> {
    let cursor = cursor::parse(last_pulled_at).map_err(|e| {
        SyncError::new(code::INVALID_PARAMETER, "malformed last_pulled_at")
            .detail(e.to_string())
            .hint("Pass the timestamp of the last pull, an ISO 8601 time, or null to overwrite whatever changed.")
    })?;
    Ok(match cursor {
        Cursor::Start => Baseline::None,
        Cursor::Stamp(stamp) => {
            // Clock, then snapshot (clock.rs): who is about to commit is a conflict, also if the snapshot does not see his record.
            pg::accept_invalidations();
            let clock = clock::read_snapmin()?;
            let snapshot = pg::ActiveSnapshot::take();
            if roles::standing(&snapshot)?.stands_for_now(stamp)? {
                Baseline::Stamp(clock.snapmin)
            } else if clock::history::cursor_is_of_this_history(stamp)? {
                Baseline::Stamp(stamp)
            } else {
                Baseline::Unknown
            }
        }
        Cursor::At { micros_since_unix_epoch } => {
            let cursor = clock::horizon::cursor_at(micros_since_unix_epoch, settings::timestamp_slack_micros())?;
            cursor.map_or(Baseline::Unknown, Baseline::Stamp)
        }
    })
}

/// How often a push begins anew because somebody created one of its rows meanwhile.
const ATTEMPTS: usize = 5;

/// Raised and caught in here only: begin anew.
const AGAIN: &str = "SS001";

const UNIQUE_VIOLATION: &str = "23505";

/// With `abort`, how many culprits are looked for before giving up: enough to see whether the order was all that was wrong.
const ENOUGH: usize = 32;

/// How often what failed is tried again because something else has been written since.
const ROUNDS: usize = 8;

impl Push<'_> {
    fn carry_out(&self, mut targets: Vec<Target>, request: &Request) -> Result<String> {
        if self.quickly(&targets)? {
            return Ok("{}".into());
        }
        let own = targets.len();
        for _ in 0..ATTEMPTS {
            targets.truncate(own);
            let decisions = decide::decide(self, &targets)?;
            self.abort_on_rejections(&decisions.rejections, &targets)?;
            // What conflict functions returned is a payload of its own, written together with the rest.
            let settled = batch::parse(&decisions.settled)?;
            let mut settled = resolve(&settled, request, true)?;
            let outcome = if settled.is_empty() {
                self.write(&targets, &decisions)
            } else {
                let more = decide::decide(self, &settled)?;
                // Lifetimes differ: the settled rows live only this long, so the targets are shortened to that, too.
                let mut all: Vec<Target> = std::mem::take(&mut targets);
                let mut decisions = Decisions { settled: String::new(), ..decisions };
                decisions.fates.extend(more.fates);
                decisions
                    .rejections
                    .extend(more.rejections.into_iter().map(|r| Rejection { target: r.target + own, ..r }));
                all.append(&mut settled);
                self.abort_on_rejections(&decisions.rejections, &all)?;
                self.retry_unique.set(false);
                return match self.write(&all, &decisions) {
                    Ok(rejections) => Ok(answer(&rejections, &all)),
                    Err(e) if e.code == AGAIN => Err(SyncError::new(code::CONFLICT, "rows were created meanwhile")
                        .detail("[]")
                        .hint("Nothing was applied. Push again.")),
                    Err(e) => Err(e),
                };
            };
            match outcome {
                Ok(rejections) => return Ok(answer(&rejections, &targets)),
                Err(e) if e.code == AGAIN => continue,
                Err(e) => return Err(e),
            }
        }
        Err(SyncError::new(code::CONFLICT, "pushed rows are created by others again and again")
            .detail("[]")
            .hint("Nothing was applied. Push again."))
    }

    /// The whole push in one subtransaction, as almost every push can be carried out: nothing to reject, nothing to ask the
    /// user's functions. False, with nothing done, where it cannot.
    ///
    /// Rows are locked by the same subtransaction that writes them (else each tuple would get a multixact of two), and
    /// created rows are inserted without looking for them first: that look cost a quarter of the INSERT. Updates alone are
    /// locked by the UPDATE itself: 1.2 times an UPDATE without locks, where a statement for the locks made it 1.4 times.
    fn quickly(&self, targets: &[Target]) -> Result<bool> {
        self.quick.set(true);
        let outcome = subxact::run(|| {
            let decisions = decide::decide(self, targets)?;
            if !decisions.rejections.is_empty() || decisions.settled != "{}" {
                return Err(decide::not_quickly());
            }
            let steps = steps(targets, &decisions, &order::stages(targets)?);
            let vetoed = self.at_once(targets, &steps, decisions.snapmin)?;
            touch(targets, &decisions, &vetoed)
        });
        self.quick.set(false);
        match outcome {
            Ok(()) => Ok(true),
            Err(e) if subxact::is_transient(&e) => Err(e),
            Err(_) => Ok(false),
        }
    }

    /// Unless they are to be reported.
    fn abort_on_rejections(&self, rejections: &[Rejection], targets: &[Target]) -> Result<()> {
        if self.report {
            return Ok(());
        }
        let mut unexpected = rejections.iter().filter(|r| !r.expected);
        let Some(first) = unexpected.next() else { return Ok(()) };
        // Anything else than a conflict says more about what to do.
        if let Some(other) = rejections.iter().find(|r| !r.expected && r.error.code != code::CONFLICT) {
            return Err(other.error.clone());
        }
        if let (Some(_), true) = (&first.error.detail, rejections.iter().all(|r| r.error.detail.is_some())) {
            return Err(first.error.clone());
        }
        let conflicts: Vec<Rejection> = rejections
            .iter()
            .filter(|r| !r.expected)
            .map(|r| Rejection { target: r.target, id: r.id.clone(), error: r.error.clone(), expected: false })
            .collect();
        Err(decide::conflicts_error(&conflicts, targets))
    }

    /// Applies what was decided; returns the rows that are left out.
    fn write(&self, targets: &[Target], decisions: &Decisions) -> Result<Vec<Rejection>> {
        let stages = order::stages(targets)?;
        let steps = steps(targets, decisions, &stages);
        let outcome = match subxact::run(|| self.at_once(targets, &steps, decisions.snapmin)) {
            Ok(vetoed) => Outcome { vetoed, failed: Vec::new() },
            Err(e) if subxact::is_transient(&e) || e.code == AGAIN => return Err(e),
            Err(e) if e.code == UNIQUE_VIOLATION && self.retry_unique.replace(false) => {
                return Err(SyncError::new(AGAIN, "a row was created by somebody else meanwhile"))
            }
            Err(_) => self.one_by_one(targets, steps, decisions.snapmin)?,
        };
        touch(targets, decisions, &outcome.vetoed)?;
        let known = decisions.rejections.iter().map(|r| Rejection {
            target: r.target,
            id: r.id.clone(),
            error: r.error.clone(),
            expected: r.expected,
        });
        let failed = outcome.failed.into_iter().map(|(item, error)| Rejection {
            target: item.target,
            id: item.id(targets).to_string(),
            error,
            expected: false,
        });
        Ok(known.chain(failed).collect())
    }

    fn at_once(&self, targets: &[Target], steps: &[Step], snapmin: i64) -> Result<Vec<Item>> {
        let mut vetoed = Vec::new();
        for step in steps {
            vetoed.append(&mut apply::apply(targets, &step.items, step.together)?);
        }
        self.check(targets, steps, snapmin)?;
        Ok(vetoed)
    }

    /// What can only be known when everything is written.
    fn check(&self, targets: &[Target], steps: &[Step], snapmin: i64) -> Result<()> {
        // Unless nobody has committed anything since the decisions.
        let moved = clock::read()? >= snapmin;
        for (index, target) in targets.iter().enumerate().filter(|(_, t)| moved && !t.settled) {
            let written = steps.iter().flat_map(|s| &s.items).filter(|i| i.target == index);
            let locks = target.locks_itself.get();
            let written = written.filter(|i| matches!(i.what, What::Upsert(_)) || locks);
            let ids: Vec<&str> = written.map(|i| i.id(targets)).collect();
            if !ids.is_empty() && decide::written_by_others(self, target, &ids, snapmin)? {
                return Err(SyncError::new(AGAIN, "a row was created by somebody else meanwhile"));
            }
        }
        check_deferred(targets)
    }

    /// Finds out which rows cannot be written, and writes the others.
    fn one_by_one(&self, targets: &[Target], mut steps: Vec<Step>, snapmin: i64) -> Result<Outcome> {
        let mut refused: Vec<(Item, SyncError)> = Vec::new();
        loop {
            let attempt = subxact::run(|| {
                let outcome = self.bisect(targets, &steps)?;
                match self.check(targets, &steps, snapmin) {
                    Ok(()) => Ok(outcome),
                    // Aborted in any case, and by an error that names its record.
                    Err(_) if !outcome.failed.is_empty() && !self.report => Ok(outcome),
                    Err(e) => Err(e),
                }
            });
            match attempt {
                Ok(mut outcome) => {
                    outcome.failed.append(&mut refused);
                    if !self.report {
                        if let Some((_, e)) = outcome.failed.into_iter().next() {
                            return Err(e);
                        }
                        return Ok(Outcome { vetoed: outcome.vetoed, failed: Vec::new() });
                    }
                    return Ok(outcome);
                }
                Err(e) if subxact::is_transient(&e) || e.code == AGAIN => return Err(e),
                Err(e) => {
                    // A deferred constraint. It does not say which row: leave out those that cannot pass it alone.
                    let suspects = suspects(targets, &steps, &e);
                    let mut left_out = HashSet::new();
                    let others = |item: Item| suspects.iter().copied().filter(|i| *i != item).collect::<HashSet<_>>();
                    for &item in &suspects {
                        if self.passes(targets, &steps, &others(item))?.is_some() {
                            left_out.insert(item);
                        }
                    }
                    // One that cannot pass alone may pass with those that can.
                    for &item in &suspects {
                        if left_out.remove(&item) {
                            if let Some(e) = self.passes(targets, &steps, &left_out)? {
                                left_out.insert(item);
                                refused.push((item, targets[item.target].about(item.id(targets), e)));
                            }
                        }
                    }
                    if left_out.is_empty() {
                        return Err(e);
                    }
                    for step in &mut steps {
                        step.items.retain(|i| !left_out.contains(i));
                    }
                }
            }
        }
    }

    /// Do the deferred constraints hold without these items? The error if not; undone in any case.
    fn passes(&self, targets: &[Target], steps: &[Step], without: &HashSet<Item>) -> Result<Option<SyncError>> {
        const PASSED: &str = "SS002";
        let outcome = subxact::run(|| -> Result<()> {
            for step in steps {
                let items: Vec<Item> = step.items.iter().copied().filter(|i| !without.contains(i)).collect();
                apply::bisect(targets, &items, step.together, usize::MAX, &mut Outcome::default())?;
            }
            check_deferred(targets)?;
            Err(SyncError::new(PASSED, ""))
        });
        match outcome {
            Err(e) if e.code == PASSED => Ok(None),
            Err(e) if subxact::is_transient(&e) => Err(e),
            Err(e) => Ok(Some(e)),
            Ok(()) => Ok(None),
        }
    }

    fn bisect(&self, targets: &[Target], steps: &[Step]) -> Result<Outcome> {
        let enough = if self.report { usize::MAX } else { ENOUGH };
        let mut outcome = Outcome::default();
        let mut lost: Vec<(Item, SyncError)> = Vec::new();
        let mut left: Vec<Step> = steps.to_vec();
        let mut before = usize::MAX;
        for _ in 0..ROUNDS {
            outcome.failed.clear();
            for step in &left {
                apply::bisect(targets, &step.items, step.together, enough, &mut outcome)?;
            }
            let failed = outcome.failed.len();
            // What was written since may be what the others waited for.
            if failed == 0 || failed >= before || failed >= enough {
                break;
            }
            before = failed;
            let gone = apply::gone(targets, &outcome.failed)?;
            let (gone, again) = outcome.failed.drain(..).partition(|(item, _)| gone.contains(item));
            lost.extend::<Vec<_>>(gone);
            outcome.failed = again;
            let failed: HashSet<Item> = outcome.failed.iter().map(|(item, _)| *item).collect();
            for step in &mut left {
                step.items.retain(|i| failed.contains(i));
            }
        }
        outcome.failed.append(&mut lost);
        Ok(outcome)
    }
}

/// Statements that belong together, in the order of the push.
#[derive(Clone)]
struct Step {
    items: Vec<Item>,
    together: bool,
}

/// Rows that nothing refers to are deleted first, so that a unique value can move from a deleted row to a new one; rows that
/// others refer to go last, when their children have moved away or are gone: else ON DELETE CASCADE could take a child that
/// the same push has just given another parent.
fn steps(targets: &[Target], decisions: &Decisions, stages: &[Stage]) -> Vec<Step> {
    let deletions = |stage: &Stage| {
        let rows = |&target: &usize| {
            let fates = decisions.fates[target].deletions.iter().enumerate();
            let doomed = fates.filter(|(_, fate)| **fate == Fate::Delete);
            doomed.map(|(row, _)| Item { target, what: What::Delete, row: row as u32 }).collect::<Vec<_>>()
        };
        Step { items: stage.targets.iter().flat_map(rows).collect(), together: stage.circular }
    };
    let writes = |stage: &Stage| {
        let rows = |&target: &usize| writes_of(target, &targets[target], &decisions.fates[target].records);
        Step { items: stage.targets.iter().flat_map(rows).collect(), together: stage.circular }
    };
    let first = stages.iter().rev().filter(|s| !s.referenced).map(deletions);
    let last = stages.iter().rev().filter(|s| s.referenced).map(deletions);
    first.chain(stages.iter().map(writes)).chain(last).filter(|s| !s.items.is_empty()).collect()
}

fn writes_of(target: usize, of: &Target, fates: &[Fate]) -> Vec<Item> {
    let mut items = Vec::new();
    for (group, rows) in of.plan.groups.iter().enumerate() {
        for &row in &rows.rows {
            let what = match fates[row as usize] {
                Fate::Insert => What::Insert(group as u32),
                Fate::Upsert => What::Upsert(group as u32),
                _ => continue,
            };
            items.push(Item { target, what, row });
        }
    }
    for (group, rows) in of.updates.iter().enumerate() {
        let updated = rows.rows.iter().filter(|&&row| fates[row as usize] == Fate::Update);
        items.extend(updated.map(|&row| Item { target, what: What::Update(group as u32), row }));
    }
    items
}

/// Who believes something else of a row than what is stored gets the row with the next pull.
fn touch(targets: &[Target], decisions: &Decisions, vetoed: &[Item]) -> Result<()> {
    for item in vetoed {
        journal::touch(targets[item.target].collection.relation, item.id(targets))?;
    }
    for (target, fates) in targets.iter().zip(&decisions.fates) {
        let kept = |(row, fate): (usize, &Fate)| (*fate == Fate::Keep).then_some(row);
        for row in fates.records.iter().enumerate().filter_map(kept) {
            journal::touch(target.collection.relation, &target.plan.records[row].id)?;
        }
        for row in fates.deletions.iter().enumerate().filter_map(kept) {
            journal::touch(target.collection.relation, &target.plan.deletions[row].id)?;
        }
    }
    Ok(())
}

/// Deferred constraints are checked now, while the error can still be told apart from others and answered; then put back,
/// with their triggers, to fire at commit as usual. All of that is what rolling back does.
fn check_deferred(targets: &[Target]) -> Result<()> {
    const PASSED: &str = "SS002";
    let mut deferrable = false;
    for target in targets {
        deferrable |= Facts::of(&target.collection)?.deferrable;
    }
    if !deferrable {
        return Ok(());
    }
    let outcome = subxact::run(|| -> Result<()> {
        spi::utility("SET CONSTRAINTS ALL IMMEDIATE")?;
        Err(SyncError::new(PASSED, ""))
    });
    match outcome {
        Err(e) if e.code == PASSED => Ok(()),
        Err(e) => Err(e),
        Ok(()) => Ok(()),
    }
}

/// The items of the table that a constraint's error names; all where it names none of the push's.
fn suspects(targets: &[Target], steps: &[Step], e: &SyncError) -> Vec<Item> {
    let all = || steps.iter().flat_map(|s| &s.items).copied();
    let table = e.names[1].as_deref();
    let named: Vec<Item> = all().filter(|i| Some(targets[i.target].collection.relname.as_str()) == table).collect();
    if named.is_empty() {
        all().collect()
    } else {
        named
    }
}

/// `{}`, or what was left out.
fn answer(rejections: &[Rejection], targets: &[Target]) -> String {
    if rejections.is_empty() {
        return "{}".into();
    }
    let mut sorted: Vec<&Rejection> = rejections.iter().collect();
    sorted.sort_by(|a, b| (targets[a.target].asked, &a.id).cmp(&(targets[b.target].asked, &b.id)));
    sorted.dedup_by(|a, b| targets[a.target].asked == targets[b.target].asked && a.id == b.id);
    let mut out = Vec::from(b"{\"experimentalRejectedIds\":{");
    let mut last: Option<&str> = None;
    for r in &sorted {
        let asked = targets[r.target].asked;
        if last == Some(asked) {
            out.push(b',');
        } else {
            out.extend_from_slice(if last.is_some() { b"]," } else { b"" });
            json::escape_json(&mut out, asked.as_bytes());
            out.extend_from_slice(b":[");
            last = Some(asked);
        }
        json::escape_json(&mut out, r.id.as_bytes());
    }
    out.extend_from_slice(b"]},\"rejected\":[");
    for (i, r) in sorted.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let fields = [("collection", Some(targets[r.target].asked)), ("id", Some(r.id.as_str()))].into_iter();
        write_failure(&mut out, fields, &r.error);
    }
    out.extend_from_slice(b"]}");
    String::from_utf8_lossy(&out).into_owned()
}

/// `{<fields>, "code": ..., "message": ..., "constraint": ...}`.
fn write_failure<'s>(out: &mut Vec<u8>, fields: impl Iterator<Item = (&'s str, Option<&'s str>)>, e: &'s SyncError) {
    let rest =
        [("code", Some(e.code.as_str())), ("message", Some(e.message.as_str())), ("constraint", e.names[4].as_deref())];
    out.push(b'{');
    for (i, (name, value)) in fields.chain(rest).enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json::escape_json(out, name.as_bytes());
        out.push(b':');
        match value {
            Some(value) => json::escape_json(out, value.as_bytes()),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
}
