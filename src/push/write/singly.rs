//! Which rows cannot be written, where all at once they could not in any order: the others are.
//!
//! Step by step, each in halves of halves; and then once more, for what was written since may be what the others waited for: a parent that came, a value that was given
//! up, a project that was opened. What nobody can wait for is that something was not written yet. So it depends on the order of the steps what can be
//! written, and two are tried: the first one, and that which has last what may close something.

use std::collections::{HashMap, HashSet};

use super::{items, Attempt, Work};
use crate::push::apply::Outcome;
use crate::push::constraints::{self, Constraint};
use crate::push::decide::{self, Fate};
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

/// How often what failed is tried again because something else has been written since.
const ROUNDS: usize = 8;

/// So many failures, of whatever kinds, are enough to see that nobody waits for what was not tried yet.
const ENOUGH_IN_ALL: usize = 1_000;

/// How rows are tried.
#[derive(Clone, Copy)]
pub(super) struct Pace<'t> {
    /// So many that fail are enough, of one kind in one step.
    pub(super) enough: usize,
    /// What failed is tried again after each step that wrote something and is tied to it, and not only after all of them: the next may close what it hangs on.
    pub(super) again: Option<&'t Ties>,
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
}

impl Partial {
    pub(super) fn unwritten(&self) -> impl Iterator<Item = Item> + '_ {
        self.failed.iter().map(|(item, _)| *item).chain(self.stood.iter().copied())
    }
}

/// What came of a step.
struct Progress {
    /// Some of it is written now.
    written: bool,
    /// Enough had failed before all of it was tried.
    untried: bool,
    failed: usize,
}

/// With the rows that are missing.
type Found = (Partial, Vec<Item>);

impl Work<'_, '_> {
    /// Finds out which rows cannot be written, and writes the others; None, with nothing done, where somebody else was quicker.
    ///
    /// In the first order, as long as no other has fewer that cannot be.
    pub(super) fn one_by_one(&self, first: &Attempt, turned: Option<&Attempt>) -> Result<Option<Found>> {
        let Some(turned) = turned else { return self.singly(first, Vec::new()) };
        let refused = match self.singly_but(0, first)? {
            End::Keep(done) => return Ok(done),
            End::Undo(refused) => refused,
        };
        // With `abort` the whole push is, unless there are none.
        let most = if self.pusher.report { refused.0.failed.len() - 1 } else { 0 };
        match self.singly_but(most, turned) {
            Ok(End::Keep(done)) => return Ok(done),
            // It comes nearer: its errors are not of the order's making.
            Ok(End::Undo(fewer)) if fewer.0.failed.len() < refused.0.failed.len() => return Ok(Some(fewer)),
            Ok(End::Undo(_)) => {}
            Err(e) if subxact::is_transient(&e) => return Err(e),
            Err(_) => {}
        }
        match self.pusher.report {
            // That they cannot be written is known.
            true => self.singly(first, refused.0.failed),
            false => Ok(Some(refused)),
        }
    }

    /// Undone where more than so many fail.
    fn singly_but(&self, most: usize, attempt: &Attempt) -> Result<End<Option<Found>, Found>> {
        subxact::run_or_undo(|| {
            Ok(match self.singly(attempt, Vec::new())? {
                Some(found) if found.0.failed.len() > most => End::Undo(found),
                done => End::Keep(done),
            })
        })
    }

    /// In the order of this attempt, without those that are refused already.
    fn singly(&self, attempt: &Attempt, refused: Vec<(Item, SyncError)>) -> Result<Option<Found>> {
        let (mut steps, deferred) = (attempt.steps.clone(), &attempt.deferred);
        leave_out(&mut steps, &refused);
        let mut refused = refused;
        let enough = if self.pusher.report { usize::MAX } else { ENOUGH };
        let ties = match attempt.order {
            Foremost::Children => Some(self.ties()?),
            _ => None,
        };
        let pace = Pace { enough, again: ties };
        loop {
            match subxact::run_or_undo(|| self.write_singly(&steps, deferred, pace)) {
                Ok(End::Keep((mut partial, missing))) => {
                    memory::extend(&mut partial.failed, refused);
                    return Ok(Some((partial, missing)));
                }
                Ok(End::Undo(())) => return Ok(None),
                Err(e) if subxact::is_transient(&e) => return Err(e),
                Err(e) => {
                    let violators = self.violators(&steps, deferred, pace, &e)?;
                    if violators.is_empty() {
                        return Err(e);
                    }
                    leave_out(&mut steps, &violators);
                    memory::extend(&mut refused, violators);
                }
            }
        }
    }

    fn write_singly(&self, steps: &[Step], deferred: &[Constraint], pace: Pace) -> Result<End<Found, ()>> {
        constraints::defer(deferred)?;
        let partial = self.bisect(steps, pace)?;
        let unwritten: HashSet<Item> = partial.unwritten().gather();
        let unlocked = self.unlocked().filter(|item| !unwritten.contains(item));
        if !self.undisturbed(partial.found.iter().copied().chain(unlocked))? {
            return Ok(End::Undo(()));
        }
        match self.before.check(deferred) {
            // Aborted in any case, and by an error that names its record.
            Err(_) if !partial.failed.is_empty() && !self.pusher.report => return Ok(End::Keep((partial, Vec::new()))),
            checked => checked?,
        }
        constraints::undefer(deferred)?;
        let written = items(steps).filter(|i| !unwritten.contains(i));
        let missing = standing::missing(self.targets, &self.decisions.fates, written)?;
        Ok(End::Keep((partial, missing)))
    }

    /// (With `abort` not all that cannot be written are among those that failed.)
    pub(super) fn bisect(&self, steps: &[Step], pace: Pace) -> Result<Partial> {
        let mut partial = Partial::default();
        let mut left: Vec<Step> = steps.iter().cloned().gather();
        let mut errors: HashMap<Item, SyncError> = HashMap::new();
        let (mut before, mut failures) = (usize::MAX, 0);
        for _ in 0..ROUNDS {
            let mut any_untried = false;
            for step in 0..left.len() {
                let stage = self.stage_of(&left[step]);
                let Progress { written, untried, failed } =
                    self.write_step(&mut left[step], pace, &mut errors, &mut partial)?;
                failures += failed;
                any_untried |= untried;
                let Some((ties, stage)) = pace.again.zip(stage).filter(|_| written) else { continue };
                self.lay_gone_aside(&mut left[..step], &mut errors, &mut partial)?;
                for earlier in &mut left[..step] {
                    if self.stage_of(earlier).is_some_and(|earlier| ties.are_tied(earlier, stage)) {
                        self.write_step(earlier, pace, &mut errors, &mut partial)?;
                    }
                }
            }
            let unwritten = items(&left).count();
            // What was written since may be what the others waited for.
            if unwritten == 0 || unwritten >= before && (!any_untried || failures > ENOUGH_IN_ALL) {
                break;
            }
            before = unwritten;
            self.lay_gone_aside(&mut left, &mut errors, &mut partial)?;
        }
        memory::extend(&mut partial.failed, items(&left).filter_map(|item| errors.remove_entry(&item)));
        Ok(partial)
    }

    fn stage_of(&self, step: &Step) -> Option<usize> {
        let target = step.items.first()?.target;
        self.stages.iter().position(|stage| stage.targets.contains(&target))
    }

    /// What failed, and whose row is gone since, has failed for good: an UPDATE of it would be taken for one of a row that somebody else has deleted.
    fn lay_gone_aside(
        &self,
        left: &mut [Step],
        errors: &mut HashMap<Item, SyncError>,
        partial: &mut Partial,
    ) -> Result<()> {
        let failed: Vec<Item> = items(left).filter(|item| errors.contains_key(item)).gather();
        let gone = self.writer.gone(&failed)?;
        if gone.is_empty() {
            return Ok(());
        }
        for step in left {
            step.items.retain(|item| !gone.contains(item));
        }
        memory::extend(&mut partial.failed, gone.into_iter().filter_map(|item| errors.remove_entry(&item)));
        Ok(())
    }

    /// Writes what can be written of a step, and leaves the rest in it: what was not tried before what failed.
    fn write_step(
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
        let untried = !left_untried.is_empty();
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
            let (fates, rejections) = decide::found(self.pusher, index, target, &rows)?;
            let mut errors: HashMap<String, Rejection> = rejections.into_iter().map(|r| (r.id.clone(), r)).gather();
            let mut updates: Vec<Item> = Vec::new();
            for item in &items {
                memory::heed();
                let (item, group) = (*item, target.group_of_update(item.row));
                let update = Item { what: What::Update(group), ..item };
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

fn leave_out(steps: &mut [Step], refused: &[(Item, SyncError)]) {
    let refused: HashSet<Item> = refused.iter().map(|(item, _)| *item).gather();
    for step in steps {
        step.items.retain(|item| !refused.contains(item));
    }
}

/// Why this cannot be written, as far as is known by now: that it is closed, when it is tried again after the push has closed it, does not take the place of what was wrong with it before.
fn note(errors: &mut HashMap<Item, SyncError>, item: Item, error: SyncError) {
    let is_refusal = |e: &SyncError| e.code == code::INSUFFICIENT_PRIVILEGE;
    match errors.get(&item) {
        Some(known) if is_refusal(&error) && !is_refusal(known) => {}
        _ => {
            errors.insert(item, error);
        }
    }
}
