//! Constraints that can be deferred, where rows are written one by one: which rows pass if they are, and which violate those that were.

use std::collections::{HashMap, HashSet};

use super::singly::{Pace, Partial};
use super::Work;
use crate::push::apply::Applied;
use crate::push::constraints::{self, Constraint, DeferredBefore};
use crate::push::item::Item;
use crate::push::steps::Step;
use crate::push::target::Target;
use crate::server::error::{Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::subxact::{self, Tried};

/// How often a push is written to find the rows that violate deferred constraints, which do not say which they are. Each
/// time costs as much as the push.
const PROBES: usize = 1_000;

impl<'w, 't> Work<'w, 't> {
    /// A deferred constraint does not say which row violates it: the rows that have to be left out for all of them to hold.
    pub(super) fn violators(
        &self,
        steps: &[Step],
        deferred: &[Constraint],
        pace: Pace,
        e: &SyncError,
    ) -> Result<Vec<(Item, SyncError)>> {
        let suspects = suspects(self.targets, steps, e);
        let mut search = ViolatorSearch {
            work: self,
            steps,
            deferred,
            before: self.before,
            pace: Pace { enough: usize::MAX, ahead: &[], ..pace },
            without: suspects.iter().copied().gather(),
            refused: Vec::new(),
            probes: 0,
            exhausted: e,
        };
        search.sift(&suspects)?;
        // One that does not pass by itself may pass with those that do.
        loop {
            let again: Vec<Item> = std::mem::take(&mut search.refused).into_iter().map(|(item, _)| item).gather();
            search.sift(&again)?;
            if search.refused.is_empty() || search.refused.len() == again.len() {
                break;
            }
        }
        let about = |(item, e): (Item, SyncError)| (item, self.targets[item.target].about(item.id(self.targets), e));
        Ok(search.refused.into_iter().map(about).gather())
    }
}

/// Of more rows that a constraint refuses it is not found out which of them pass when it is deferred, but only whether all do.
const MOST_DEFERRED: usize = 100;

impl Work<'_, '_> {
    /// Writes, on top of what is written, those of the failed rows that pass where the constraints that refused them are deferred: two that swap a value. Returns all
    /// constraints that are deferred then.
    pub(super) fn write_deferred(&self, partial: &mut Partial, deferred: &[Constraint]) -> Result<Vec<Constraint>> {
        let mut known = deferred.iter().cloned().gather::<Vec<Constraint>>();
        let mut can_be: HashMap<[Option<String>; 2], bool> = HashMap::new();
        let mut waiting: Vec<Item> = Vec::new();
        for (item, e) in &partial.failed {
            memory::heed();
            let name = [e.names[0].clone(), e.names[4].clone()];
            let can_be = match can_be.get(&name) {
                Some(can_be) => *can_be,
                None => {
                    let found = constraints::to_defer(e, &known, self.before)?;
                    let is_found = found.is_some();
                    can_be.insert(name, is_found);
                    memory::extend(&mut known, found);
                    is_found
                }
            };
            if can_be {
                waiting.push(*item);
            }
        }
        // What one row alone waits for has been written by now.
        if waiting.len() < 2 {
            return Ok(deferred.iter().cloned().gather());
        }
        let work = |items: &[Item]| {
            constraints::defer(&known)?;
            let applied = self.writer.apply(items, false)?;
            self.before.check(&known)?;
            Ok((items.iter().copied().gather::<HashSet<Item>>(), applied))
        };
        let mut written: HashSet<Item> = HashSet::new();
        let mut take = |tried: Tried<Item, (HashSet<Item>, Applied)>| {
            if let Ok((items, applied)) = tried {
                memory::extend(&mut written, items);
                memory::extend(&mut partial.kept, applied.kept);
            }
            Ok(true)
        };
        match waiting.len() > MOST_DEFERRED {
            true => match subxact::run(|| work(&waiting)) {
                Err(e) if subxact::is_transient(&e) => return Err(e),
                Err(_) => {}
                Ok(done) => _ = take(Ok(done))?,
            },
            false => _ = subxact::in_halves(&waiting, &work, &mut take)?,
        }
        partial.failed.retain(|(item, _)| !written.contains(item));
        Ok(if written.is_empty() { deferred.iter().cloned().gather() } else { known })
    }
}

/// The search for rows that violate deferred constraints.
struct ViolatorSearch<'s, 'w, 't> {
    work: &'s Work<'w, 't>,
    steps: &'s [Step],
    deferred: &'s [Constraint],
    before: DeferredBefore,
    pace: Pace<'s>,
    /// Rows that are left out so far.
    without: HashSet<Item>,
    /// Those of them that were tried alone, with why they did not pass.
    refused: Vec<(Item, SyncError)>,
    probes: usize,
    /// The error if it takes too long.
    exhausted: &'s SyncError,
}

impl ViolatorSearch<'_, '_, '_> {
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
        memory::extend(&mut self.without, candidates.iter().copied());
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
            let mut steps: Vec<Step> = self.steps.iter().cloned().gather();
            steps.iter_mut().for_each(|step| step.items.retain(|item| !self.without.contains(item)));
            self.work.bisect(&steps, self.pace)?;
            self.before.check(self.deferred)
        });
        match outcome {
            Ok(()) => Ok(None),
            Err(e) if subxact::is_transient(&e) => Err(e),
            Err(e) => Ok(Some(e)),
        }
    }
}

/// The items of the table that a constraint's error names; all where it names none of the push's.
fn suspects(targets: &[Target], steps: &[Step], e: &SyncError) -> Vec<Item> {
    let all = || steps.iter().flat_map(|s| &s.items).copied();
    let table = e.names[1].as_deref();
    let named: Vec<Item> = all().filter(|i| Some(targets[i.target].collection.relname.as_str()) == table).gather();
    if named.is_empty() {
        all().gather()
    } else {
        named
    }
}
