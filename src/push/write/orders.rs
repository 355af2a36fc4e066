//! In which order all of it is written, and which order counts.
//!
//! An order in which nothing fails may still lack rows: a trigger kept what was to be changed or deleted, put it back, or let a new row not be there. That may be of the order's making, as an
//! error may be. So the others are tried, too, and the one counts that lacks the fewest; of equals the first, which is what the triggers want then. Where there is one order only nothing
//! is tried again.

use super::{items, Attempt, Surprises, Work, Written};
use crate::push::apply::TwoSteps;
use crate::push::constraints::Constraint;
use crate::push::item::Item;
use crate::push::standing;
use crate::push::steps::{Foremost, Sorter, Step};
use crate::server::error::{code, Result, SyncError};
use crate::server::memory;
use crate::server::subxact::End;

/// All of it was written at once, and undone: it lacked these.
pub(super) struct Lacking {
    pub(super) order: Foremost,
    pub(super) steps: Vec<Step>,
    /// What is written in two steps (linked.rs).
    pub(super) linked: Option<TwoSteps>,
    pub(super) deferred: Vec<Constraint>,
    pub(super) rows: Vec<Item>,
}

/// What another order may be for, besides those that are tried in any case.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Occasion {
    Any,
    /// A value was taken.
    Taken,
    /// Rows were lacking.
    Lacking,
    /// A deletion was.
    Kept,
}

/// The orders, as they are tried.
const ORDERS: [(Foremost, Occasion); 7] = [
    (Foremost::Parents, Occasion::Any),
    // The same with heirs in mind, if the push passes values on (heirs.rs), as all those after it.
    (Foremost::Parents, Occasion::Any),
    (Foremost::Deciding, Occasion::Any),
    (Foremost::Values, Occasion::Taken),
    (Foremost::Children, Occasion::Any),
    (Foremost::Values, Occasion::Lacking),
    (Foremost::Deletions, Occasion::Kept),
];

impl Work<'_, '_> {
    /// Written in the order that lacks the fewest rows, of those in which nothing fails; or the attempts, if all fail.
    pub(super) fn in_any_order(&self) -> Result<std::result::Result<Written, Vec<Attempt>>> {
        let (mut failed, mut lacking): (Vec<Attempt>, Vec<Lacking>) = (Vec::new(), Vec::new());
        let first = usize::from(self.has_heirs_at_once()?);
        for (place, (order, occasion)) in ORDERS.into_iter().enumerate().skip(first) {
            if !is_given(occasion, &failed, &lacking) {
                continue;
            }
            let Some(steps) = self.in_order(order)? else { continue };
            // The first time nobody has asked for heirs: if there are any, something fails.
            let ways = if place == 0 { vec![steps] } else { self.with_heirs(steps)? };
            for steps in ways {
                let has_failed = failed.iter().any(|attempt| items(&attempt.steps).eq(items(&steps)));
                if has_failed || lacking.iter().any(|l| are_alike(&l.steps, &steps)) {
                    continue;
                }
                let mut deferred = Vec::new();
                match self.write_all((&steps, None), &mut deferred, false)? {
                    Ok(End::Keep(written)) => return Ok(Ok(written)),
                    Ok(End::Undo(rows)) => lacking.push(Lacking { order, steps, linked: None, deferred, rows }),
                    Err(error) => failed.push(Attempt { order, steps, deferred, error }),
                }
            }
        }
        if lacking.is_empty() {
            if let Some(written) = self.in_two_steps(&mut lacking)? {
                return Ok(Ok(written));
            }
        }
        if let Some(written) = self.at_once(&lacking, &mut failed)? {
            return Ok(Ok(written));
        }
        // (What fails the second time has failed.)
        while let Some((best, _)) = lacking.iter().enumerate().min_by_key(|(_, l)| l.rows.len()) {
            let Lacking { order, steps, linked, mut deferred, .. } = lacking.remove(best);
            match self.write_all((&steps, linked.as_ref()), &mut deferred, true)? {
                Ok(End::Keep(written)) => return Ok(Ok(written)),
                Ok(End::Undo(_)) => {}
                Err(error) => failed.push(Attempt { order, steps, deferred, error }),
            }
        }
        Ok(Err(failed))
    }

    /// Where nothing else passes: each circle of tables in one statement, whatever their rows have to do with each other (a value may be stored
    /// otherwise than it was sent); and the first order with rows in sets, if that may be all that is wrong.
    fn at_once(&self, lacking: &[Lacking], failed: &mut Vec<Attempt>) -> Result<Option<Written>> {
        if !lacking.is_empty() {
            return Ok(None);
        }
        for (order, _) in ORDERS {
            let Some(mut steps) = self.in_circles(order)? else { continue };
            steps.iter_mut().try_for_each(|step| self.sort_as_sent(&mut step.items))?;
            if failed.iter().any(|attempt| are_alike(&attempt.steps, &steps)) {
                continue;
            }
            let mut deferred = Vec::new();
            match self.write_all((&steps, None), &mut deferred, true)? {
                Ok(End::Keep(written)) => return Ok(Some(written)),
                Ok(End::Undo(_)) => {}
                Err(error) => failed.push(Attempt { order, steps, deferred, error }),
            }
        }
        if !self.may_be_sets()? {
            return Ok(None);
        }
        self.writer.set_wise.set(true);
        let written = self.write_all((&self.steps, None), &mut Vec::new(), true);
        self.writer.set_wise.set(false);
        match written? {
            Ok(End::Keep(written)) => Ok(Some(written)),
            _ => Ok(None),
        }
    }

    /// What is to be written, in this order, whatever is passed on; None where there is none such.
    pub(super) fn in_order(&self, order: Foremost) -> Result<Option<Vec<Step>>> {
        if order == Foremost::Parents {
            return Ok(Some(self.steps.clone()));
        }
        self.in_circles(order)?.map(|steps| self.in_turn(steps, false)).transpose()
    }

    /// The same, with each circle of tables in one statement.
    fn in_circles(&self, order: Foremost) -> Result<Option<Vec<Step>>> {
        let sorter = Sorter { targets: self.targets, decisions: self.decisions, stages: &self.stages };
        Ok(Some(match order {
            Foremost::Parents => sorter.parents_first(false),
            Foremost::Deciding if !self.stages.iter().any(|stage| stage.decides) => return Ok(None),
            Foremost::Deciding => sorter.parents_first(true),
            Foremost::Values => sorter.values_first(self.ties()?),
            Foremost::Children => sorter.children_first(self.ties()?),
            Foremost::Deletions => sorter.deletions_turned(self.ties()?),
        }))
    }

    /// Is there no other order? Rows of one table that are written in one way have one.
    fn is_only_order(&self) -> Result<bool> {
        if self.items().zip(self.items().skip(1)).all(|(one, next)| one.is_like(&next)) {
            return Ok(true);
        }
        for (order, _) in &ORDERS[1..] {
            if self.in_order(*order)?.is_some_and(|steps| !are_alike(&steps, &self.steps)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What a trigger may have kept from being as it was sent because this is the order; nothing where there is no other.
    pub(super) fn lacking(&self, surprises: &Surprises) -> Result<Vec<Item>> {
        let (held, missing) = (&surprises.held, &surprises.missing);
        if held.is_empty() && missing.is_empty() || self.is_only_order()? {
            return Ok(Vec::new());
        }
        let mut lacking = standing::swallowed(self.targets, missing, self.items())?;
        let taken = self.writer.taken_since(&lacking);
        lacking.retain(|item| !taken.contains(item));
        memory::extend(&mut lacking, self.writer.withheld(held)?);
        Ok(lacking)
    }
}

/// Are they the same statements? (One that writes several tables runs what it inserts last.)
pub(super) fn are_alike(one: &[Step], other: &[Step]) -> bool {
    fn joined(step: &Step) -> impl Iterator<Item = (Item, bool)> + '_ {
        step.items.iter().enumerate().map(|(place, item)| (*item, step.together && place > 0))
    }
    one.iter().flat_map(joined).eq(other.iter().flat_map(joined))
}

fn is_given(occasion: Occasion, failed: &[Attempt], lacking: &[Lacking]) -> bool {
    let is_taken = |e: &SyncError| [code::UNIQUE_VIOLATION, code::EXCLUSION_VIOLATION].contains(&e.code.as_str());
    match occasion {
        Occasion::Any => true,
        Occasion::Taken => failed.iter().any(|attempt| is_taken(&attempt.error)),
        Occasion::Lacking => !lacking.is_empty(),
        Occasion::Kept => lacking.iter().flat_map(|l| &l.rows).any(|item| item.what.deletes()),
    }
}
