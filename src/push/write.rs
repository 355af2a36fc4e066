//! Writing what was decided: all at once in one subtransaction, which is what almost every push gets; and only if that fails in
//! halves of halves, to find out which rows cannot be written.

use std::cell::Cell;
use std::collections::HashSet;

use super::apply::{self, Outcome, Surprises};
use super::constraints::{self, Constraint};
use super::decide::{self, Decisions, Fate};
use super::item::{by_target, Item, What};
use super::pusher::Pusher;
use super::rejection::Rejection;
use super::steps::{steps, Step};
use super::target::Target;
use super::{order, standing};
use crate::log::{clock, journal};
use crate::server::error::{code, Result, SyncError};
use crate::server::subxact::{self, End};

/// With `abort`, how many culprits are looked for before giving up: enough to see whether the order was all that was wrong.
const ENOUGH: usize = 32;

/// How often what failed is tried again because something else has been written since.
const ROUNDS: usize = 8;

/// How often a push is written to find the rows that violate deferred constraints, which do not say which they are. Each
/// time costs as much as the push.
const PROBES: usize = 1_000;

/// What came of writing.
pub enum Written {
    /// All is written but these.
    But(Vec<Rejection>),
    /// Nothing is: somebody else created or changed some of the rows since the decisions, so they are to be made anew.
    Nothing,
}

impl Pusher<'_> {
    /// Applies what was decided.
    pub fn write(&self, targets: &[Target], decisions: &mut Decisions) -> Result<Written> {
        let steps = steps(targets, decisions, &order::stages(targets)?);
        let mut deferred: Vec<Constraint> = Vec::new();
        let failure = loop {
            let in_statement = Cell::new(true);
            match subxact::run_or_undo(|| self.at_once(targets, &steps, decisions, &deferred, &in_statement)) {
                Ok(End::Keep(surprises)) => {
                    self.tell(targets, decisions, &surprises)?;
                    return Ok(Written::But(std::mem::take(&mut decisions.rejections)));
                }
                Ok(End::Undo(())) => return Ok(Written::Nothing),
                Err(e) if subxact::is_transient(&e) => return Err(e),
                Err(e) => match constraints::to_defer(&e, &deferred).map(|c| c.filter(|_| in_statement.get()))? {
                    Some(constraint) => deferred.push(constraint),
                    None => break e,
                },
            }
        };
        if failure.code == code::UNIQUE_VIOLATION && created_meanwhile(targets, &steps)? {
            return Ok(Written::Nothing);
        }
        let Some(outcome) = self.one_by_one(targets, steps, decisions.snapmin, &deferred)? else {
            return Ok(Written::Nothing);
        };
        self.tell(targets, decisions, &outcome.surprises)?;
        let failed = outcome.failed.into_iter().map(|(item, error)| Rejection {
            target: item.target,
            id: item.id(targets).to_string(),
            error,
            expected: false,
        });
        let mut rejections = std::mem::take(&mut decisions.rejections);
        rejections.extend(failed);
        Ok(Written::But(rejections))
    }

    /// Everything in as few statements as possible; undone where somebody else was quicker.
    pub fn at_once(
        &self,
        targets: &[Target],
        steps: &[Step],
        decisions: &Decisions,
        deferred: &[Constraint],
        in_statement: &Cell<bool>,
    ) -> Result<End<Surprises, ()>> {
        constraints::defer(deferred)?;
        let mut surprises = Surprises::default();
        for step in steps {
            surprises.vetoed.append(&mut apply::apply(targets, &step.items, step.together)?);
        }
        in_statement.set(false);
        let items = || steps.iter().flat_map(|s| &s.items).copied();
        let unlocked = items().filter(|i| targets[i.target].locks_itself.get());
        if !self.undisturbed(targets, unlocked, decisions.snapmin)? {
            return Ok(End::Undo(()));
        }
        constraints::check(targets)?;
        constraints::settle(deferred)?;
        surprises.missing = standing::missing(targets, items())?;
        Ok(End::Keep(surprises))
    }

    /// Did nobody else write these rows, which were not locked when it was decided about them? Whoever did has written to the
    /// log by now.
    fn undisturbed(&self, targets: &[Target], items: impl Iterator<Item = Item>, snapmin: i64) -> Result<bool> {
        for (target, items) in by_target(items) {
            let ids: Vec<&str> = items.iter().map(|i| i.id(targets)).collect();
            let target = &targets[target];
            // Unless nobody has committed anything since the decisions.
            let moved = !target.settled && clock::read()? >= snapmin;
            if moved && decide::written_by_others(self, target, &ids, snapmin)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Finds out which rows cannot be written, and writes the others; None, with nothing done, where somebody else was quicker.
    fn one_by_one(
        &self,
        targets: &[Target],
        mut steps: Vec<Step>,
        snapmin: i64,
        deferred: &[Constraint],
    ) -> Result<Option<Outcome>> {
        let mut refused: Vec<(Item, SyncError)> = Vec::new();
        loop {
            let attempt = subxact::run_or_undo(|| {
                constraints::defer(deferred)?;
                let mut outcome = self.bisect(targets, &steps)?;
                if !self.undisturbed(targets, outcome.updated.iter().copied(), snapmin)? {
                    return Ok(End::Undo(()));
                }
                match constraints::check(targets) {
                    // Aborted in any case, and by an error that names its record.
                    Err(_) if !outcome.failed.is_empty() && !self.report => return Ok(End::Keep(outcome)),
                    checked => checked?,
                }
                constraints::settle(deferred)?;
                let failed: HashSet<Item> = outcome.failed.iter().map(|(item, _)| *item).collect();
                let written = steps.iter().flat_map(|s| &s.items).copied().filter(|i| !failed.contains(i));
                outcome.surprises.missing = standing::missing(targets, written)?;
                Ok(End::Keep(outcome))
            });
            match attempt {
                Ok(End::Keep(mut outcome)) => {
                    outcome.failed.append(&mut refused);
                    if self.report {
                        return Ok(Some(outcome));
                    }
                    return match outcome.failed.into_iter().next() {
                        Some((_, e)) => Err(e),
                        None => Ok(Some(Outcome { failed: Vec::new(), ..outcome })),
                    };
                }
                Ok(End::Undo(())) => return Ok(None),
                Err(e) if subxact::is_transient(&e) => return Err(e),
                Err(e) => {
                    let violators = self.violators(targets, &steps, deferred, &e)?;
                    if violators.is_empty() {
                        return Err(e);
                    }
                    let left_out: HashSet<Item> = violators.iter().map(|(item, _)| *item).collect();
                    for step in &mut steps {
                        step.items.retain(|i| !left_out.contains(i));
                    }
                    refused.extend(violators);
                }
            }
        }
    }

    /// A deferred constraint does not say which row violates it: the rows that have to be left out for all of them to hold.
    fn violators(
        &self,
        targets: &[Target],
        steps: &[Step],
        deferred: &[Constraint],
        e: &SyncError,
    ) -> Result<Vec<(Item, SyncError)>> {
        let suspects = suspects(targets, steps, e);
        let mut search = Search {
            targets,
            steps,
            deferred,
            without: suspects.iter().copied().collect(),
            refused: Vec::new(),
            probes: 0,
            exhausted: e,
        };
        search.sift(&suspects)?;
        // One that does not pass by itself may pass with those that do.
        loop {
            let again: Vec<Item> = std::mem::take(&mut search.refused).into_iter().map(|(item, _)| item).collect();
            search.sift(&again)?;
            if search.refused.is_empty() || search.refused.len() == again.len() {
                break;
            }
        }
        let about = |(item, e): (Item, SyncError)| (item, targets[item.target].about(item.id(targets), e));
        Ok(search.refused.into_iter().map(about).collect())
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

    /// Who believes something else of a row than what stands gets the row, or hears that it is gone, with the next pull.
    pub fn tell(&self, targets: &[Target], decisions: &Decisions, surprises: &Surprises) -> Result<()> {
        for item in &surprises.vetoed {
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
        standing::tell(self.client_id, targets, &surprises.missing)
    }
}

/// The search for rows that violate deferred constraints.
struct Search<'s, 't> {
    targets: &'s [Target<'t>],
    steps: &'s [Step],
    deferred: &'s [Constraint],
    /// Rows that are left out so far.
    without: HashSet<Item>,
    /// Those of them that were tried alone, with why they did not pass.
    refused: Vec<(Item, SyncError)>,
    probes: usize,
    /// The error if it takes too long.
    exhausted: &'s SyncError,
}

impl Search<'_, '_> {
    /// Takes as many of these in again as can pass with what is in already: all, or those of the halves.
    fn sift(&mut self, candidates: &[Item]) -> Result<()> {
        if candidates.is_empty() {
            return Ok(());
        }
        self.probes += 1;
        if self.probes > PROBES {
            return Err(self.exhausted.clone());
        }
        for item in candidates {
            self.without.remove(item);
        }
        let Some(e) = self.passes()? else { return Ok(()) };
        self.without.extend(candidates);
        if let [item] = candidates {
            self.refused.push((*item, e));
            return Ok(());
        }
        let (left, right) = candidates.split_at(candidates.len() / 2);
        self.sift(left)?;
        self.sift(right)
    }

    /// Do the deferred constraints hold now? The error if not; undone in any case.
    fn passes(&self) -> Result<Option<SyncError>> {
        let outcome = subxact::try_out(|| {
            constraints::defer(self.deferred)?;
            for step in self.steps {
                let items: Vec<Item> = step.items.iter().copied().filter(|i| !self.without.contains(i)).collect();
                apply::bisect(self.targets, &items, step.together, usize::MAX, &mut Outcome::default())?;
            }
            constraints::check(self.targets)
        });
        match outcome {
            Ok(()) => Ok(None),
            Err(e) if subxact::is_transient(&e) => Err(e),
            Err(e) => Ok(Some(e)),
        }
    }
}

/// Has somebody else created rows that were to be inserted?
fn created_meanwhile(targets: &[Target], steps: &[Step]) -> Result<bool> {
    let items = steps.iter().flat_map(|s| &s.items).copied();
    for (target, items) in by_target(items.filter(|i| matches!(i.what, What::Insert(_)))) {
        let ids: Vec<&str> = items.iter().map(|i| i.id(targets)).collect();
        if !targets[target].visible_now(&ids)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
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
