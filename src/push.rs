//! `push_changes`: a client's changes, applied as the calling role.
//!
//! In the order of the rules for backends that WatermelonDB gives: the payload is checked as a whole; the rows are locked;
//! what changed on the server since the client's cursor is a conflict, which the collection's policy decides
//! ([`decide`]); then everything is applied set-wise, one statement per collection and set of columns ([`apply`]), parents
//! before children ([`order`]).
//!
//! All of it is tried in one subtransaction, which costs next to nothing. Only if that fails, in whatever order ([`steps`]), the rows are written again in
//! halves of halves ([`write`]), to find out which of them cannot be written: with `on_rejected => 'abort'` the error names the
//! record, with `'report'` the others are applied. In the end what was inserted is compared with what stands ([`standing`]).

use crate::collections::catalog;
use crate::log::client;
use crate::log::journal::{self, Origin};
use crate::server::error::{code, Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::pg;
use crate::server::subxact::{self, End};
use crate::values::device::Device;
use crate::values::{excerpt, settings};

mod again;
mod answer;
mod apply;
mod constraints;
mod decide;
pub mod drift;
mod echo;
mod item;
pub mod mutate;
pub mod once;
mod order;
mod payload;
mod pusher;
mod rejection;
mod standing;
mod statement;
mod steps;
mod target;
mod write;

use answer::answer;
use apply::Care;
use constraints::DeferredBefore;
use decide::{Answers, Decisions};
use payload::{BatchError, RawCollection};
use pusher::{baseline, Baseline, Pusher};
use rejection::Rejection;
use target::Target;
use write::{Work, Written};

/// The arguments of `push_changes`.
pub struct PushRequest<'a> {
    pub changes: &'a str,
    pub last_pulled_at: Option<&'a str>,
    pub dialect: Option<&'a str>,
    pub client_id: Option<&'a str>,
    pub push_id: Option<String>,
    pub on_rejected: Option<&'a str>,
    /// Whose times the changes have.
    pub device: Device,
}

impl From<BatchError> for SyncError {
    fn from(e: BatchError) -> Self {
        SyncError::new(e.sqlstate(), "malformed changes").detail(e.to_string()).hint(e.hint())
    }
}

pub fn push(request: &PushRequest) -> Result<String> {
    let report = match request.on_rejected.unwrap_or("abort") {
        "abort" => false,
        "report" => true,
        other => {
            return Err(SyncError::new(
                code::INVALID_PARAMETER,
                format!("unknown on_rejected \"{}\"", excerpt::name(other)),
            )
            .hint("It is 'abort' (apply all or nothing) or 'report' (leave out what is refused and say so)."))
        }
    };
    client::check(request.client_id)?;
    pg::check_may_write(c"push_changes()");
    let cursor = pusher::cursor(request.last_pulled_at)?;
    let raw = payload::parse(request.changes, memory::heed)?;
    let before = DeferredBefore::look()?;
    // Before the collections are looked at: what was carried out is answered, whatever has become of them.
    let claim = match &request.push_id {
        Some(id) => match once::claim(id, request.changes)? {
            once::Claim::Answered(once::Answered { answer, since }) => {
                again::leave_word(&raw, request, &answer, since)?;
                return Ok(answer);
            }
            once::Claim::First(claim) => Some(claim),
        },
        None => None,
    };
    let targets = resolve(&raw, request, false)?;
    // Who has nothing to write begins no history.
    let baseline = if targets.is_empty() { Baseline::None } else { baseline(cursor)? };
    let answer = carry_out(targets, &Pusher { baseline, client_id: request.client_id, report }, request, before)?;
    if let Some(claim) = claim {
        claim.answer(&answer)?;
    }
    before.leave()?;
    Ok(answer)
}

/// What a push answers.
fn carry_out(targets: Vec<Target>, pusher: &Pusher, request: &PushRequest, before: DeferredBefore) -> Result<String> {
    if targets.is_empty() {
        return Ok("{}".into());
    }
    let _origin = Origin::set(request.client_id);
    pusher.carry_out(targets, request, before)
}

fn resolve<'a>(raw: &'a [RawCollection<'_>], request: &PushRequest, settled: bool) -> Result<Vec<Target<'a>>> {
    let dialect = settings::dialect(request.dialect)?;
    let mut targets: Vec<Target> = Vec::new();
    // Where a mutator pushes, the client has not sent these rows.
    let echoes = !settled && request.client_id.is_some() && !journal::has_origin();
    for changes in raw {
        let collection = catalog::collection(changes.name())?;
        if targets.iter().any(|t| t.collection.relation == collection.relation) {
            return Err(SyncError::new(code::INVALID_PARAMETER, "malformed changes")
                .detail(format!("{} names a collection that stands there under another name.", changes.path()))
                .hint("Use one name for each collection."));
        }
        targets.push(Target::resolve(changes, collection, (dialect, request.device), settled, echoes)?);
    }
    targets.retain(|t| !t.is_empty());
    for target in &mut targets {
        target.check_columns(request.on_rejected == Some("report"))?;
    }
    Ok(targets)
}

/// How often a push begins anew because somebody created one of its rows meanwhile.
const ATTEMPTS: usize = 5;

/// How often a push is written anew because it brings more rows into its user's sight: each time it costs a push.
const OPENED: usize = 32;

fn created_meanwhile(message: &str) -> SyncError {
    SyncError::new(code::CONFLICT, message).detail("[]").hint("Nothing was applied. Push again.")
}

impl Pusher<'_> {
    fn carry_out(&self, targets: Vec<Target>, request: &PushRequest, before: DeferredBefore) -> Result<String> {
        if self.quickly(&targets, before)? {
            return Ok("{}".into());
        }
        for _ in 0..ATTEMPTS {
            let mut decisions = decide::decide(self, &targets)?;
            self.abort_on_rejections(&decisions.rejections, &targets)?;
            if !decisions.answers.is_empty() {
                let answers = std::mem::take(&mut decisions.answers);
                return self.settle(targets, decisions, &answers, request, before);
            }
            if let Some(failed) = self.write(&targets, &mut decisions, before)? {
                return Ok(answer(decisions.rejections, failed, &targets));
            }
        }
        Err(created_meanwhile("pushed rows are created by others again and again"))
    }

    /// Writes what was decided, with what comes into sight as it is written; what could not be. None, with nothing done, where it is to be decided anew.
    fn write(
        &self,
        targets: &[Target],
        decisions: &mut Decisions,
        before: DeferredBefore,
    ) -> Result<Option<Vec<Rejection>>> {
        for _ in 0..OPENED {
            let opened = match Work::of(self, targets, decisions, before, Care::Full)?.write()? {
                Written::But(failed) => return Ok(Some(failed)),
                Written::Nothing => return Ok(None),
                Written::Opened(opened) => opened,
            };
            opened.into_iter().for_each(|found| decisions.open(targets, found));
            self.abort_on_rejections(&decisions.rejections, targets)?;
        }
        let message = format!("rows of a push come into sight one after the other, more than {OPENED} times");
        Err(SyncError::new(code::PROGRAM_LIMIT, message)
            .detail("Each is seen only since another row of the push has been written.")
            .hint("Nothing was applied. Push what opens the others first."))
    }

    /// The whole push in one subtransaction, as almost every push can be carried out: nothing to reject, nothing to ask the
    /// user's functions. False, with nothing done, where it cannot.
    ///
    /// Rows are locked by the same subtransaction that writes them (else each tuple would get a multixact of two), and
    /// created rows are inserted without looking for them first: that look cost a quarter of the INSERT. Updates alone are
    /// locked by the UPDATE itself: 1.2 times an UPDATE without locks, where a statement for the locks made it 1.4 times.
    fn quickly(&self, targets: &[Target], before: DeferredBefore) -> Result<bool> {
        let outcome = subxact::run_or_undo(|| match decide::quickly(self, targets)? {
            Some(decisions) => Work::of(self, targets, &decisions, before, Care::Quick)?.quickly(),
            None => Ok(End::Undo(())),
        });
        match outcome {
            Ok(End::Keep(())) => Ok(true),
            Ok(End::Undo(())) => Ok(false),
            Err(e) if subxact::is_transient(&e) => Err(e),
            Err(_) => Ok(false),
        }
    }

    /// Writes the rows that conflict functions returned together with all others. Once: the functions may have written, too.
    fn settle<'s>(
        &self,
        targets: Vec<Target<'s>>,
        mut decisions: Decisions,
        answers: &'s [Answers],
        request: &PushRequest,
        before: DeferredBefore,
    ) -> Result<String> {
        let rows = answers.iter().map(|a| a.rows(targets[a.target].asked)).gather::<Result<Vec<_>>>()?;
        let own = targets.len();
        let mut targets = targets;
        let mut settled = resolve(&rows, request, true)?;
        for one in &mut settled {
            if let Some(sent) = targets.iter().find(|sent| sent.collection.relation == one.collection.relation) {
                one.stand_in_for(sent);
            }
        }
        memory::extend(&mut targets, settled);
        decide::settle(self, own, &targets[own..], &mut decisions)?;
        self.abort_on_rejections(&decisions.rejections, &targets)?;
        match self.write(&targets, &mut decisions, before)? {
            Some(failed) => Ok(answer(decisions.rejections, failed, &targets)),
            None => Err(created_meanwhile("rows were created meanwhile")),
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
        let conflicts: Vec<Rejection> = rejections.iter().filter(|r| !r.expected).cloned().gather();
        Err(decide::conflicts_error(&conflicts, targets))
    }
}
