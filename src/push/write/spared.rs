//! Which rows are spared ([`ItemWriter::spare`](crate::push::apply::ItemWriter::spare)): those that the push moves, where it was decided that they stay as they are, and those that are still to be
//! written, or cannot be.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{items, Attempt, Work};
use crate::collections::facts;
use crate::push::decide::{Decisions, Fate};
use crate::push::item::{by_target, Item, What};
use crate::push::order::MOST_KEYS;
use crate::push::steps::Step;
use crate::push::target::moved::Endangered;
use crate::push::target::Target;
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::server::subxact;
use crate::values::dialect::Dialect;

/// Records by the number of their target.
pub(super) type Records = BTreeMap<usize, Vec<u32>>;

impl Endangered {
    /// None where it deletes nothing.
    fn by(targets: &[Target], steps: &[Step]) -> Result<Option<Endangered>> {
        let mut named: HashMap<u32, Vec<String>> = HashMap::new();
        let deleting = by_target(items(steps).filter(|item| item.what.deletes()));
        for (target, items) in &deleting {
            let ids = named.entry(targets[*target].collection.relation.to_u32()).or_default();
            memory::extend(ids, items.iter().map(|item| item.id(targets).to_string()));
        }
        if deleting.is_empty() {
            return Ok(None);
        }
        let relations = targets.iter().map(|target| target.collection.relation).gather();
        let Some(keys) = facts::referred_to(relations, MOST_KEYS)? else {
            return Ok(Some(Endangered { tables: None, named }));
        };
        let mut tables: HashSet<u32> = named.keys().copied().gather();
        let mut known = 0;
        while tables.len() > known {
            memory::heed();
            known = tables.len();
            let hanging = keys.iter().filter(|(to, _)| tables.contains(to)).map(|(_, from)| *from);
            let hanging: Vec<u32> = hanging.gather();
            memory::extend(&mut tables, hanging);
        }
        Ok(Some(Endangered { tables: Some(tables), named }))
    }
}

/// Those that would move their rows, and are not written: refused, or older than what is stored.
pub(super) fn decided(targets: &[Target], decisions: &Decisions, steps: &[Step]) -> Result<Records> {
    let stays = |fate: &Fate| matches!(fate, Fate::Rejected | Fate::Keep | Fate::KeepForHim | Fate::Asked);
    let mut decided = Records::new();
    if !decisions.fates.iter().any(|fates| fates.records.iter().any(stays)) {
        return Ok(decided);
    }
    let Some(endangered) = Endangered::by(targets, steps)? else { return Ok(decided) };
    for (index, (target, fates)) in targets.iter().zip(&decisions.fates).enumerate() {
        let rows = (0..).zip(&fates.records).filter(|(_, fate)| stays(fate)).map(|(row, _)| row);
        let rows = rows.gather::<Vec<u32>>();
        let mut moved = target.moved(&rows, &endangered)?;
        memory::extend(&mut moved, rows.into_iter().filter(|row| fates.moving.contains(row)));
        if moved.iter().any(|row| fates.records[*row as usize] == Fate::Asked) {
            let answered = answered(targets, index, &endangered)?;
            moved.retain(|row| !answered.contains(&*target.plan.records[*row as usize].id));
        }
        if !moved.is_empty() {
            decided.insert(index, moved);
        }
    }
    Ok(decided)
}

/// The ids of this target's rows that a conflict function has deleted, or moved as well.
fn answered<'t>(targets: &'t [Target], of: usize, endangered: &Endangered) -> Result<HashSet<&'t str>> {
    let mut answered = HashSet::new();
    let is_answer = |t: &&Target| t.settled && t.collection.relation == targets[of].collection.relation;
    for target in targets.iter().filter(is_answer) {
        let moved = target.moved(&(0..target.plan.records.len() as u32).gather::<Vec<u32>>(), endangered)?;
        memory::extend(&mut answered, moved.into_iter().map(|row| &*target.plan.records[row as usize].id));
        memory::extend(&mut answered, target.plan.deletions.iter().map(|deletion| &*deletion.id));
    }
    Ok(answered)
}

impl Work<'_, '_> {
    /// The changes that move their rows. To be called before anything is written; only who writes rows one by one asks.
    pub(super) fn moving(&self) -> Result<&HashSet<Item>> {
        if let Some(known) = self.moving.get() {
            return Ok(known);
        }
        let mut moving = HashSet::new();
        if let Some(endangered) = Endangered::by(self.targets, &self.steps)? {
            for (index, items) in by_target(self.items().filter(|item| matches!(item.what, What::Update(_)))) {
                let rows: Vec<u32> = items.iter().map(|item| item.row).gather();
                let moved = self.targets[index].moved(&rows, &endangered)?;
                let moved: HashSet<u32> = moved.into_iter().gather();
                let of_opened = &self.decisions.fates[index].moving;
                let moves = |item: &Item| moved.contains(&item.row) || of_opened.contains(&item.row);
                memory::extend(&mut moving, items.into_iter().filter(moves));
            }
        }
        Ok(self.moving.get_or_init(|| moving))
    }

    /// Spares, besides the rows that stay by decision, those of these changes.
    pub(super) fn spare(&self, unwritten: impl Iterator<Item = Item>) {
        let standing = if self.spares_decided.get() { self.decided.clone() } else { Records::new() };
        let of = |(target, items): (usize, Vec<Item>)| (target, items.into_iter().map(|item| item.row).gather());
        self.writer.spare(standing, by_target(unwritten).into_iter().map(of).gather());
    }

    /// With `abort`: could all of it be written, if no rows were spared that stay by decision? Then what fails has to wait until its client has pulled them, and is no reason to
    /// refuse the rest again and again. (The Drift client hears of nothing that is left out.)
    pub(super) fn waits_for_decided(&self, attempts: &[Attempt]) -> Result<bool> {
        let is_told = self.targets.iter().all(|target| target.dialect != Dialect::Drift);
        if self.pusher.report || self.decided.is_empty() || !is_told {
            return Ok(false);
        }
        self.spares_decided.set(false);
        self.spare(std::iter::empty());
        let passes = subxact::try_out(|| {
            for attempt in attempts {
                if self.write_all((&attempt.steps, None), &mut attempt.deferred.iter().cloned().gather(), true)?.is_ok()
                {
                    return Ok(true);
                }
            }
            let written = self.one_by_one(attempts)?;
            Ok(written.is_some_and(|(partial, _)| partial.failed.is_empty() && partial.untried.is_empty()))
        });
        self.spares_decided.set(true);
        self.spare(std::iter::empty());
        match passes {
            Err(e) if subxact::is_transient(&e) => Err(e),
            passes => Ok(passes.unwrap_or(false)),
        }
    }
}
