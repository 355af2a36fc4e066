//! Which rows violate constraints that are deferred, where rows are written one by one: such a constraint does not say.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::sift::{sift, Trials};
use super::singly::{Pace, Partial};
use super::{items, only, Work};
use crate::push::constraints::{self, Constraint};
use crate::push::item::Item;
use crate::push::steps::Step;
use crate::server::error::{Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::subxact::{self, End};

/// How often a push is written, at least and at most, to find the rows that violate deferred constraints, where it does not do to write the suspects after the others; and as many rows as are
/// written so. What has not been found innocent by then is refused.
const WRITTEN: (usize, usize) = (256, 1_000);
const ROWS: usize = 1_000_000;

/// Of these trials so many are for combinations of rows that pass only together, and so many rows are written for them.
const COMBINATIONS: (usize, usize) = (16, 500);
const ROWS_IN_COMBINATIONS: usize = 50_000;

/// With every constraint IMMEDIATE, so many failures of a kind in a step are enough: all others of the kind are suspects as well.
const ENOUGH: usize = 1_000;

/// What is deferred does not hold.
pub(super) struct Violation {
    pub(super) error: SyncError,
    /// Rows that had not been written, for other reasons.
    pub(super) failed: Vec<Item>,
}

impl<'w, 't> Work<'w, 't> {
    /// The rows that have to be left out for all deferred constraints to hold. `at_once`: rows that the constraints refused before they were deferred.
    pub(super) fn violators(
        &self,
        steps: &[Step],
        deferred: &[Constraint],
        pace: Pace,
        violation: &Violation,
        at_once: &[(Item, SyncError)],
    ) -> Result<Vec<(Item, SyncError)>> {
        let failed: HashSet<Item> = violation.failed.iter().copied().gather();
        let steps = only(steps, |item| !failed.contains(item));
        let rows = items(&steps).count().max(1);
        let mut search = ViolatorSearch {
            work: self,
            steps: &steps,
            deferred,
            pace: Pace { enough: usize::MAX, ..pace },
            without: HashSet::new(),
            unwritten: usize::MAX,
            errors: HashMap::new(),
        };
        let mut suspects = search.suspects(&violation.error, at_once)?;
        let circles = self.circles(&suspects)?;
        // Without one the constraints hold, and with it they did not.
        let is_known = suspects.len() == 1;
        if !is_known && self.before.may_be_immediate() {
            suspects = search.sift_on_top(suspects, &circles)?;
        }
        if !is_known && !suspects.is_empty() {
            let trials = Trials { all: (ROWS / rows).clamp(WRITTEN.0, WRITTEN.1), of_combinations: combinations(rows) };
            _ = sift(&suspects, &circles, trials, &mut |part| search.take_in(part))?;
        }
        let refused = items(&steps).filter(|item| search.without.contains(item));
        let refused: Vec<Item> = refused.gather();
        let mut errors = search.errors;
        let with_error = |item: Item| {
            let error = errors.remove(&item).unwrap_or_else(|| violation.error.clone());
            (item, self.targets[item.target].about(item.id(self.targets), error))
        };
        Ok(refused.into_iter().map(with_error).gather())
    }
}

fn combinations(rows: usize) -> usize {
    (ROWS_IN_COMBINATIONS / rows.max(1)).clamp(COMBINATIONS.0, COMBINATIONS.1)
}

/// The search for rows that violate deferred constraints.
struct ViolatorSearch<'s, 'w, 't> {
    work: &'s Work<'w, 't>,
    steps: &'s [Step],
    deferred: &'s [Constraint],
    pace: Pace<'s>,
    /// Rows that are left out so far.
    without: HashSet<Item>,
    /// So many are not written then, these included.
    unwritten: usize,
    /// Why rows did not pass alone.
    errors: HashMap<Item, SyncError>,
}

impl ViolatorSearch<'_, '_, '_> {
    /// Rows without which the constraints hold: as few as are easily found.
    ///
    /// The table that the error names is that of a foreign key, also where it is the deletion of what the key refers to that violates it.
    fn suspects(&mut self, e: &SyncError, at_once: &[(Item, SyncError)]) -> Result<Vec<Item>> {
        let all: Vec<Item> = items(self.steps).gather();
        let table = e.names[1].as_deref();
        let name = |item: &Item| self.work.targets[item.target].collection.relname.as_str();
        let named: HashSet<Item> = all.iter().copied().filter(|item| Some(name(item)) == table).gather();
        memory::extend(&mut self.errors, at_once.iter().map(|(item, e)| (*item, e.clone())));
        let at_once: HashSet<Item> = at_once.iter().map(|(item, _)| *item).gather();
        let mut failed = e.clone();
        for round in 0..4 {
            let suspects = match round {
                0 => at_once.iter().copied().gather(),
                1 => self.refused_at_once()?,
                2 => named.iter().copied().gather(),
                _ => all.iter().copied().gather::<HashSet<Item>>(),
            };
            if suspects.is_empty() {
                continue;
            }
            match self.try_without(&suspects)? {
                Ok(unwritten) => {
                    let found = all.iter().copied().filter(|item| suspects.contains(item)).gather();
                    (self.without, self.unwritten) = (suspects, unwritten);
                    return Ok(found);
                }
                Err(e) => failed = e,
            }
        }
        Err(failed)
    }

    /// The rows that fail where every constraint is IMMEDIATE, or, if what is deferred may not fire in between, those at least that the push has deferred itself. Some of them only because others that they
    /// need come later, or with them.
    fn refused_at_once(&mut self) -> Result<HashSet<Item>> {
        let is_all = self.work.before.may_be_immediate();
        if !is_all && self.deferred.is_empty() {
            return Ok(HashSet::new());
        }
        let tried = subxact::try_out(|| {
            if is_all {
                constraints::all_immediate()?;
            }
            self.work.bisect(self.steps, Pace { enough: ENOUGH, ..self.pace })
        });
        match tried {
            Ok(Partial { failed, untried, .. }) => {
                let refused = failed.iter().map(|(item, _)| *item).chain(untried).gather();
                memory::extend(&mut self.errors, failed);
                Ok(refused)
            }
            Err(e) if subxact::is_transient(&e) => Err(e),
            Err(_) => Ok(HashSet::new()),
        }
    }

    /// Takes in again what passes where it is written after all others, each trial for the price of its rows alone. Returns the suspects of which that does not tell: others of the push may have closed
    /// or deleted their rows by then, or what they refer to.
    fn sift_on_top(&mut self, suspects: Vec<Item>, circles: &[Vec<Item>]) -> Result<Vec<Item>> {
        let mut unclear: HashSet<Item> = HashSet::new();
        let (work, pace) = (self.work, self.pace);
        let (steps, others) = (self.steps, self.steps_without(&self.without));
        let deletes = items(steps).any(|item| item.what.deletes());
        let (deferred, errors) = (self.deferred, &mut self.errors);
        let places: HashMap<Item, usize> = place_of_each(steps).gather();
        let mut take_in = |part: &[Item]| {
            // (No more is looked at than these.)
            let mut few: BTreeMap<usize, Step> = BTreeMap::new();
            for item in part {
                let place = places[item];
                let step = || Step { items: Vec::new(), together: steps[place].together };
                memory::extend(&mut few.entry(place).or_insert_with(step).items, [*item]);
            }
            let few: Vec<Step> = few.into_values().gather();
            let written = subxact::run_or_undo(|| {
                let partial = work.bisect(&few, pace)?;
                if partial.unwritten().next().is_some() {
                    return Ok(End::Undo(()));
                }
                constraints::all_immediate()?;
                constraints::all_deferred()?;
                Ok(End::Keep(()))
            });
            match written {
                Ok(End::Keep(())) => return Ok(true),
                Err(e) if subxact::is_transient(&e) => return Err(e),
                written => {
                    let [item] = part else { return Ok(false) };
                    memory::extend(&mut unclear, (deletes || written.is_ok()).then_some(*item));
                    memory::extend(errors, written.err().map(|e| (*item, e)));
                }
            }
            Ok(false)
        };
        let trials =
            Trials { all: 4 * suspects.len() + COMBINATIONS.1, of_combinations: combinations(suspects.len().pow(2)) };
        let refused = subxact::try_out(|| {
            constraints::defer(deferred)?;
            work.bisect(&others, pace)?;
            constraints::all_immediate()?;
            constraints::all_deferred()?;
            sift(&suspects, circles, trials, &mut take_in)
        });
        let refused = match refused {
            Err(e) if subxact::is_transient(&e) => return Err(e),
            Err(_) => return Ok(suspects),
            Ok(refused) => refused,
        };
        let part: HashSet<Item> = refused.iter().copied().gather();
        let part: Vec<Item> = suspects.iter().copied().filter(|item| !part.contains(item)).gather();
        // In their places, too.
        if !part.is_empty() && !self.take_in(&part)? {
            return Ok(suspects);
        }
        let is_clear = refused.iter().all(|item| !unclear.contains(item));
        Ok(if is_clear { Vec::new() } else { refused })
    }

    /// Takes these in again, if the constraints hold and more is written then.
    fn take_in(&mut self, part: &[Item]) -> Result<bool> {
        let mut without: HashSet<Item> = self.without.iter().copied().gather();
        part.iter().for_each(|item| _ = without.remove(item));
        match self.try_without(&without)? {
            Ok(unwritten) if unwritten < self.unwritten => {
                (self.without, self.unwritten) = (without, unwritten);
                return Ok(true);
            }
            Ok(_) => {}
            Err(e) => {
                if let [item] = part {
                    self.errors.insert(*item, e);
                }
            }
        }
        Ok(false)
    }

    /// Do the deferred constraints hold without these? How many are not written then, these included; or the error. Undone in any case.
    fn try_without(&self, without: &HashSet<Item>) -> Result<std::result::Result<usize, SyncError>> {
        let outcome = subxact::try_out(|| {
            constraints::defer(self.deferred)?;
            let partial = self.work.bisect(&self.steps_without(without), self.pace)?;
            self.work.before.check(self.deferred)?;
            Ok(partial.unwritten().count() + without.len())
        });
        match outcome {
            Err(e) if subxact::is_transient(&e) => Err(e),
            outcome => Ok(outcome),
        }
    }

    fn steps_without(&self, without: &HashSet<Item>) -> Vec<Step> {
        only(self.steps, |item| !without.contains(item))
    }
}

/// Of which step each item is.
fn place_of_each(steps: &[Step]) -> impl Iterator<Item = (Item, usize)> + '_ {
    steps.iter().enumerate().flat_map(|(place, step)| step.items.iter().map(move |item| (*item, place)))
}
