//! Which rows cannot be written, where all at once they could not in any order: the others are.
//!
//! Step by step, each in halves of halves; and then once more, for what was written since may be what the others waited for: a parent that came, a value that was given
//! up, a project that was opened. What nobody can wait for is that something was not written yet. So it depends on the order of the steps what can be
//! written: the first one is tried, that which has last what may close something, and then what these left before everything else (ahead.rs).

use std::collections::{HashMap, HashSet};

use super::ahead::{Tries, MOST_TRIED};
use super::violators::Violation;
use super::{items, Attempt, Work};
use crate::push::apply::Outcome;
use crate::push::constraints::{self, Constraint};
use crate::push::decide::{self, Fate, RowKind};
use crate::push::item::{by_target, Item, What};
use crate::push::order::Ties;
use crate::push::rejection::Rejection;
use crate::push::standing;
use crate::push::steps::{Foremost, Step};
use crate::server::error::{code, Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::subxact::{self, End};
use crate::values::dialect::Dialect;

/// With `abort`, how many culprits of one kind are looked for before giving up: enough to see whether the order was all that was wrong. What else the push has is tried
/// all the same: it may be what these wait for.
const ENOUGH: usize = 32;

/// How often what failed is tried again because something else has been written since; where few fail, more often.
const ROUNDS: usize = 8;

/// So many failures, of whatever kinds, are enough to see that nobody waits for what was not tried yet.
const ENOUGH_IN_ALL: usize = 1_000;

/// So often what failed is put ahead of everything else, and no more rows than these: so many do not fail for the order's sake.
const TRIALS_AHEAD: usize = 3;
const MOST_AHEAD: usize = 1_000;

/// How rows are tried.
#[derive(Clone, Copy)]
pub(super) struct Pace<'t> {
    /// So many that fail are enough, of one kind in one step.
    pub(super) enough: usize,
    /// What failed is tried again after each step that wrote something and is tied to it, and not only after all of them: the next may close what it hangs on.
    pub(super) again: Option<&'t Ties>,
    /// These are tried before everything else, and again after each part of it (ahead.rs).
    pub(super) ahead: &'t [Item],
    /// A deletion is done where the push has hidden the row from the caller before ([`ItemWriter::forgives`]).
    pub(super) forgives: bool,
}

/// An order in which rows are written one by one.
#[derive(Clone)]
struct Trial<'t> {
    attempt: &'t Attempt,
    ahead: Vec<Item>,
    /// As `Pace` has it.
    forgives: bool,
}

/// What came of a trial.
enum Improved<'t> {
    Done(Option<PartWritten>),
    Yes,
    Not(Trial<'t>, PartWritten),
    Failed,
}

/// What came of writing rows one by one.
#[derive(Default)]
pub(super) struct Partial {
    /// As in [`Surprises`](super::Surprises).
    pub(super) kept: Vec<Item>,
    /// Those that were to be inserted, and were there by then, as updates.
    found: Vec<Item>,
    /// Those of them, as they were to be inserted, that are left, for the policy wants the stored ones to stand.
    pub(super) stood: Vec<Item>,
    pub(super) failed: Vec<(Item, SyncError)>,
    /// So many of them, the last ones, violate what is deferred, which no order changes.
    violators: usize,
    /// With `abort`: what was not tried, for enough had failed.
    pub(super) untried: Vec<Item>,
}

impl Partial {
    pub(super) fn unwritten(&self) -> impl Iterator<Item = Item> + '_ {
        self.failed.iter().map(|(item, _)| *item).chain(self.stood.iter().copied())
    }

    fn count_left(&self) -> usize {
        self.failed.len() + self.untried.len()
    }

    /// Those of which the order may be to blame.
    fn may_wait(&self) -> impl Iterator<Item = Item> + '_ {
        let by_order = &self.failed[..self.failed.len() - self.violators];
        let failed = by_order.iter().filter(|(item, e)| !e.lasting && !spares(item, e)).map(|(item, _)| *item);
        failed.chain(self.untried.iter().copied())
    }

    /// Adds what came of a part.
    pub(super) fn take(&mut self, part: Partial) {
        memory::extend(&mut self.kept, part.kept);
        memory::extend(&mut self.found, part.found);
        memory::extend(&mut self.stood, part.stood);
        memory::extend(&mut self.failed, part.failed);
    }
}

/// What came of a step.
pub(super) struct Progress {
    /// Some of it is written now.
    pub(super) written: bool,
    /// So many of what is left, the first ones, were not tried: enough had failed before.
    pub(super) untried: usize,
    pub(super) failed: usize,
}

/// With the rows that are missing.
type PartWritten = (Partial, Vec<Item>);

/// Constraints that can be deferred, and the rows that they have refused.
#[derive(Default)]
struct Refusals {
    constraints: Vec<Constraint>,
    rows: Vec<(Item, SyncError)>,
}

/// Why rows that were written one by one are undone.
enum Undone {
    /// Somebody else was quicker, or the push brings rows into its user's sight: then it is decided about these, and all is written anew.
    Disturbed,
    /// Two that swap a value, say. (Later, when all else is written, a cascade may have taken the row along.)
    ToDefer(Refusals),
    Violated(Box<Violation>),
}

impl Work<'_, '_> {
    /// Finds out which rows cannot be written, and writes the others; None, with nothing done, where somebody else was quicker.
    ///
    /// In the first order, as long as no other leaves fewer: that which has last what may close something, and then the better one with what it left ahead of everything else.
    pub(super) fn one_by_one(&self, attempts: &[Attempt]) -> Result<Option<PartWritten>> {
        let (first, others) = attempts.split_first().expect("the first order was tried");
        let turned = others.iter().find(|attempt| attempt.order == Foremost::Children);
        let first = Trial { attempt: first, ahead: Vec::new(), forgives: false };
        let left = match self.try_order(&first, turned.is_none())? {
            End::Keep(done) => return Ok(done),
            End::Undo(left) => left,
        };
        let mut reasons = Reasons::default();
        reasons.learn(&left.0);
        let mut next = turned.map(|attempt| Trial { attempt, ..first.clone() }).or_else(|| put_ahead(&first, &left.0));
        let mut best = (first, left);
        for _ in 0..=TRIALS_AHEAD {
            let Some(trial) = next.take() else { break };
            next = match self.improve(trial, &mut best, &mut reasons)? {
                Improved::Done(done) => return Ok(done),
                Improved::Not(trial, others) if !trial.ahead.is_empty() => put_ahead(&trial, &others.0),
                Improved::Yes | Improved::Not(..) => put_ahead(&best.0, &best.1 .0),
                Improved::Failed => None,
            };
        }
        if best.1 .0.failed.iter().any(|(item, e)| item.what.deletes() && !spares(item, e)) {
            let forgiving = Trial { forgives: true, ..best.0.clone() };
            if let Improved::Done(done) = self.improve(forgiving, &mut best, &mut reasons)? {
                return Ok(done);
            }
        }
        let (trial, mut left) = best;
        reasons.tell(&mut left.0);
        match self.pusher.report {
            // That they cannot be written is known.
            true => self.singly(&trial, left.0.failed),
            // (What was not tried is not written either.)
            false if left.0.failed.is_empty() => Err(attempts[0].error.clone()),
            // Then nothing is.
            false => Ok(Some(left)),
        }
    }

    /// Is this order better than the best so far? (Then its errors are not of the order's making.)
    fn improve<'t>(
        &self,
        trial: Trial<'t>,
        best: &mut (Trial<'t>, PartWritten),
        reasons: &mut Reasons,
    ) -> Result<Improved<'t>> {
        let left = match self.try_order(&trial, false) {
            Ok(End::Keep(done)) => return Ok(Improved::Done(done)),
            Ok(End::Undo(left)) => left,
            Err(e) if subxact::is_transient(&e) => return Err(e),
            Err(_) => return Ok(Improved::Failed),
        };
        reasons.learn(&left.0);
        if left.0.count_left() < best.1 .0.count_left() {
            *best = (trial, left);
            return Ok(Improved::Yes);
        }
        Ok(Improved::Not(trial, left))
    }

    /// Undone, unless all is written, or in no other order more would be; `is_last`: there is no other but with what failed ahead.
    fn try_order(&self, trial: &Trial, is_last: bool) -> Result<End<Option<PartWritten>, PartWritten>> {
        subxact::run_or_undo(|| {
            let Some(found) = self.singly(trial, Vec::new())? else { return Ok(End::Keep(None)) };
            let is_final = is_last && self.pusher.report && found.0.may_wait().next().is_none();
            let is_all = found.0.failed.is_empty() && found.0.untried.is_empty();
            Ok(if is_all || is_final { End::Keep(Some(found)) } else { End::Undo(found) })
        })
    }

    /// In this order, without those that are refused already.
    fn singly(&self, trial: &Trial, refused: Vec<(Item, SyncError)>) -> Result<Option<PartWritten>> {
        let attempt = trial.attempt;
        let (mut steps, mut deferred) = (attempt.steps.clone(), attempt.deferred.iter().cloned().gather::<Vec<_>>());
        leave_out(&mut steps, &refused);
        let mut refused = refused;
        let ties = match attempt.order {
            Foremost::Children => Some(self.ties()?),
            _ => None,
        };
        let enough = if self.pusher.report { usize::MAX } else { ENOUGH };
        let pace = Pace { enough, again: ties, ahead: &trial.ahead, forgives: trial.forgives };
        let mut at_once: Vec<(Item, SyncError)> = Vec::new();
        loop {
            let violation = match subxact::run_or_undo(|| self.write_singly(&steps, &deferred, pace)) {
                Ok(End::Keep((mut partial, missing))) => {
                    partial.violators = refused.len();
                    memory::extend(&mut partial.failed, refused);
                    return Ok(Some((partial, missing)));
                }
                Ok(End::Undo(Undone::Disturbed)) => return Ok(None),
                Ok(End::Undo(Undone::ToDefer(found))) => {
                    memory::extend(&mut deferred, found.constraints);
                    memory::extend(&mut at_once, found.rows);
                    continue;
                }
                Ok(End::Undo(Undone::Violated(violation))) => *violation,
                Err(e) if subxact::is_transient(&e) => return Err(e),
                Err(error) => Violation { error, failed: Vec::new() },
            };
            let violators = self.violators(&steps, &deferred, pace, &violation, &at_once)?;
            if violators.is_empty() {
                return Err(violation.error);
            }
            leave_out(&mut steps, &violators);
            memory::extend(&mut refused, violators);
        }
    }

    fn write_singly(&self, steps: &[Step], deferred: &[Constraint], pace: Pace) -> Result<End<PartWritten, Undone>> {
        constraints::defer(deferred)?;
        let partial = self.bisect(steps, pace)?;
        if self.has_opened(partial.failed.iter().map(|(item, _)| *item))? {
            return Ok(End::Undo(Undone::Disturbed));
        }
        let to_defer = self.to_defer(&partial.failed, deferred)?;
        if !to_defer.constraints.is_empty() {
            return Ok(End::Undo(Undone::ToDefer(to_defer)));
        }
        let unwritten: HashSet<Item> = partial.unwritten().gather();
        let unlocked = self.unlocked().filter(|item| !unwritten.contains(item));
        if !self.undisturbed(partial.found.iter().copied().chain(unlocked))? {
            return Ok(End::Undo(Undone::Disturbed));
        }
        match self.before.check(deferred) {
            Ok(()) => {}
            Err(e) if subxact::is_transient(&e) => return Err(e),
            // Aborted in any case, and by an error that names its record.
            Err(_) if !partial.failed.is_empty() && !self.pusher.report => return Ok(End::Keep((partial, Vec::new()))),
            Err(error) => {
                let failed = partial.unwritten().gather();
                return Ok(End::Undo(Undone::Violated(Box::new(Violation { error, failed }))));
            }
        }
        constraints::undefer(deferred)?;
        let written = items(steps).filter(|i| !unwritten.contains(i));
        let missing = standing::missing(self.targets, &self.decisions.fates, written)?;
        Ok(End::Keep((partial, missing)))
    }

    /// What these rows failed with that can be deferred.
    fn to_defer(&self, failed: &[(Item, SyncError)], deferred: &[Constraint]) -> Result<Refusals> {
        let mut known: HashMap<[Option<String>; 2], bool> = HashMap::new();
        let mut found = Refusals::default();
        for (item, e) in failed {
            memory::heed();
            let name = [e.names[0].clone(), e.names[4].clone()];
            let can_be = match known.get(&name) {
                Some(can_be) => *can_be,
                None => {
                    let constraint = constraints::to_defer(e, deferred, self.before)?;
                    let can_be = constraint.is_some();
                    known.insert(name, can_be);
                    memory::extend(&mut found.constraints, constraint);
                    can_be
                }
            };
            if can_be {
                found.rows.push((*item, e.clone()));
            }
        }
        Ok(found)
    }

    /// (With `abort` not all that cannot be written are among those that failed.)
    pub(super) fn bisect(&self, steps: &[Step], pace: Pace) -> Result<Partial> {
        self.writer.forgives.set(pace.forgives);
        let mut tries = Tries::of(self, steps, pace)?;
        tries.go_ahead()?;
        self.in_rounds(&mut tries)?;
        while tries.let_followers()? {
            self.in_rounds(&mut tries)?;
        }
        let mut partial = tries.end();
        self.take_standing(&mut partial)?;
        Ok(partial)
    }

    /// What failed and stands as it is sent, now that nothing more is written, is done. Its client gets it where the row is not just what was sent.
    fn take_standing(&self, partial: &mut Partial) -> Result<()> {
        let asked = partial.failed.iter().filter(|(_, e)| !e.lasting).map(|(item, _)| *item);
        let standing = self.writer.stand_as_sent(asked)?;
        if standing.is_empty() {
            return Ok(());
        }
        let (stand, failed) =
            std::mem::take(&mut partial.failed).into_iter().gather_parts(|(i, _)| standing.contains(i));
        partial.failed = failed;
        for (target, items) in by_target(stand.into_iter().map(|(item, _)| item)) {
            let lost = self.writer.lost(target, &items.iter().map(|item| item.row).gather::<Vec<u32>>())?;
            let lost: HashSet<u32> = lost.into_iter().gather();
            memory::extend(&mut partial.kept, items.into_iter().filter(|item| lost.contains(&item.row)));
        }
        Ok(())
    }

    /// As often as more is written.
    fn in_rounds(&self, tries: &mut Tries) -> Result<()> {
        let mut before = usize::MAX;
        while tries.rounds < ROUNDS || tries.failures <= MOST_TRIED {
            tries.failures += tries.round()?;
            tries.rounds += 1;
            let mut unwritten = items(&tries.left).count();
            let goes_on = unwritten < before || tries.any_untried() && tries.failures <= ENOUGH_IN_ALL;
            // What was written since may be what the others waited for.
            if unwritten > 0 && !goes_on && tries.link()? {
                unwritten = items(&tries.left).count();
            } else if unwritten == 0 || !goes_on {
                break;
            }
            before = unwritten;
            tries.lay_gone_aside(tries.left.len())?;
        }
        Ok(())
    }

    pub(super) fn stage_of(&self, step: &Step) -> Option<usize> {
        let target = step.items.first()?.target;
        self.stages.iter().position(|stage| stage.targets.contains(&target))
    }

    /// Writes what can be written of a step, and leaves the rest in it: what was not tried before what failed.
    pub(super) fn write_step(
        &self,
        step: &mut Step,
        pace: Pace,
        errors: &mut HashMap<Item, SyncError>,
        partial: &mut Partial,
    ) -> Result<Progress> {
        let count = step.items.len();
        let all = self.open(step, errors)?;
        let (mut rest, mut left_untried, mut failed) = (&all[..], Vec::new(), 0);
        while !rest.is_empty() {
            let mut outcome = Outcome::default();
            let (tried, untried) = rest.split_at(self.writer.bisect(rest, step.together, pace.enough, &mut outcome)?);
            if step.together && !outcome.failed.is_empty() {
                self.write_circles(&mut outcome)?;
            }
            // Before the next step: parents are deleted last.
            let found = std::mem::take(&mut outcome.found);
            let mut left: HashSet<Item> = self.write_found(&found, pace.enough, &mut outcome, partial)?;
            memory::extend(&mut left, outcome.failed.iter().map(|(item, _)| *item));
            memory::extend(&mut step.items, tried.iter().copied().filter(|item| left.contains(item)));
            memory::extend(&mut partial.kept, outcome.kept);
            failed += outcome.failed.len();
            outcome.failed.into_iter().for_each(|(item, e)| note(errors, item, e));
            let of_a_kind =
                untried.iter().take_while(|item| tried.last().is_some_and(|last| item.is_like(last))).count();
            let (untried, others) = untried.split_at(of_a_kind);
            memory::extend(&mut left_untried, untried.iter().copied());
            rest = others;
        }
        let untried = left_untried.len();
        memory::extend(&mut left_untried, std::mem::take(&mut step.items));
        step.items = left_untried;
        Ok(Progress { written: step.items.len() < count, untried, failed })
    }

    /// Takes all out of the step but those which no policy lets their user change by now: that is found out of all of them at once.
    fn open(&self, step: &mut Step, errors: &mut HashMap<Item, SyncError>) -> Result<Vec<Item>> {
        let may_be_closed =
            |item: &Item| item.changes_row() && self.decisions.fates[item.target].closed.contains(&item.row);
        let (asked, mut open) = std::mem::take(&mut step.items).into_iter().gather_parts(may_be_closed);
        for (index, items) in by_target(asked.into_iter()) {
            let target = &self.targets[index];
            let ids: Vec<&str> = items.iter().map(|item| item.id(self.targets)).gather();
            let locked: HashSet<usize> = target.lock(&ids)?.into_iter().map(|(place, _)| place).gather();
            for (place, item) in items.into_iter().enumerate() {
                memory::heed();
                if locked.contains(&place) {
                    open.push(item);
                } else {
                    note(errors, item, target.refused("updated", item.id(self.targets)));
                    step.items.push(item);
                }
            }
        }
        Ok(open)
    }

    /// Decides about records that were to be inserted and whose rows are there by now, and writes them where that is what becomes of them. Those to which it has
    /// not come are returned.
    fn write_found(
        &self,
        found: &[Item],
        enough: usize,
        outcome: &mut Outcome,
        partial: &mut Partial,
    ) -> Result<HashSet<Item>> {
        let mut untried = HashSet::new();
        for (index, items) in by_target(found.iter().copied()) {
            let target = &self.targets[index];
            let rows: Vec<u32> = items.iter().map(|item| item.row).gather();
            let found = decide::found(self.pusher, index, target, (RowKind::Records, &rows))?;
            let (fates, rejections) = (found.fates, found.rejections);
            let mut errors: HashMap<String, Rejection> = rejections.into_iter().map(|r| (r.id.clone(), r)).gather();
            let mut updates: Vec<Item> = Vec::new();
            for item in &items {
                memory::heed();
                let (item, group) = (*item, target.group_of_update(item.row));
                let update = Item { what: What::of_update(target, item.row, group), ..item };
                partial.found.push(update);
                match fates[&item.row] {
                    // (Its INSERT has been tried.)
                    Fate::Update | Fate::Insert => updates.push(update),
                    Fate::Revive => updates.push(Item { what: What::Revive(group), ..item }),
                    Fate::Keep => partial.kept.push(update),
                    Fate::Rejected => match errors.remove(item.id(self.targets)) {
                        Some(Rejection { expected: false, error, .. }) => partial.failed.push((item, error)),
                        _ => partial.stood.push(item),
                    },
                    Fate::Nothing if target.dialect == Dialect::Drift => {}
                    // A conflict function is not asked any more.
                    Fate::Nothing => partial.stood.push(item),
                    // What is said of a row that is to be inserted only its client hears.
                    _ => partial.kept.push(item),
                }
            }
            let failed = outcome.failed.len();
            let tried = self.writer.bisect(&updates, false, enough, outcome)?;
            let to_insert: HashMap<u32, Item> = items.into_iter().map(|item| (item.row, item)).gather();
            for (item, _) in &mut outcome.failed[failed..] {
                *item = to_insert[&item.row];
            }
            memory::extend(&mut untried, updates[tried..].iter().map(|item| to_insert[&item.row]));
        }
        Ok(untried)
    }
}

/// The same order, with what it left ahead of everything else; None where nothing is, that was not.
fn put_ahead<'t>(trial: &Trial<'t>, left: &Partial) -> Option<Trial<'t>> {
    let known: HashSet<Item> = trial.ahead.iter().copied().gather();
    let mut ahead: Vec<Item> = left.may_wait().filter(|item| !known.contains(item)).gather();
    if ahead.is_empty() || ahead.len() + known.len() > MOST_AHEAD {
        return None;
    }
    memory::extend(&mut ahead, trial.ahead.iter().copied());
    Some(Trial { ahead, ..trial.clone() })
}

/// Is it a deletion that would take along what is still to be moved? It passes after that, if at all: rounds come back to it.
pub(super) fn spares(item: &Item, e: &SyncError) -> bool {
    item.what.deletes() && e.code == code::CHANGED_BY_ITS_OWN
}

fn leave_out(steps: &mut [Step], refused: &[(Item, SyncError)]) {
    let refused: HashSet<Item> = refused.iter().map(|(item, _)| *item).gather();
    for step in steps {
        step.items.retain(|item| !refused.contains(item));
    }
}

/// Why this cannot be written, as far as is known by now: that the push has closed the row, or taken it along, by the time that it is tried again does not take the place of what was
/// wrong with it before. (Of a deletion that waited for a move what it fails with after that.)
pub(super) fn note(errors: &mut HashMap<Item, SyncError>, item: Item, error: SyncError) {
    match errors.get(&item) {
        Some(known) if weight(&error) < weight(known) && !spares(&item, known) => {}
        _ => {
            errors.insert(item, error);
        }
    }
}

/// How much an error tells of its row: less, where the order may have made it, or something that a trigger found.
fn weight(e: &SyncError) -> u8 {
    match e.code.as_str() {
        code::INSUFFICIENT_PRIVILEGE => 0,
        code::CHANGED_BY_ITS_OWN => 1,
        // (A trigger may have filled in what a CHECK refuses; but most often the row was sent so.)
        code::CHECK_VIOLATION if !e.is_of_inner_code() => 3,
        _ if e.lasting => 3,
        _ => 2,
    }
}

/// What is wrong with rows, as one order or another has shown.
#[derive(Default)]
struct Reasons(HashMap<Item, SyncError>);

impl Reasons {
    fn learn(&mut self, of: &Partial) {
        for (item, e) in of.failed.iter().filter(|(_, e)| weight(e) >= 2) {
            memory::heed();
            if self.0.get(item).is_none_or(|known| weight(known) <= weight(e)) {
                memory::extend(&mut self.0, Some((*item, e.clone())));
            }
        }
    }

    /// Tells it of those of which this order says only that the push takes them along, or what a trigger found, where their values are wrong.
    fn tell(mut self, of: &mut Partial) {
        for (item, e) in &mut of.failed {
            memory::heed();
            let is_better = |reason: &SyncError| e.code == code::CHANGED_BY_ITS_OWN || weight(reason) > 2;
            if let Some(reason) = self.0.remove(item).filter(is_better) {
                *e = reason;
            }
        }
    }
}
