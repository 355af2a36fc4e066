//! Rows that the push moves elsewhere, and of which it has not written that: nothing that it writes may take them along, by a cascade or by a trigger. Where the
//! stored row stands, it would not stand any more.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::left::left_standing;
use super::ItemWriter;
use crate::collections::facts::{Facts, DELETE};
use crate::log::journal;
use crate::push::statement::WriteStatement;
use crate::push::target::Target;
use crate::server::error::{Result, SyncError};
use crate::server::memory::{self, Gather};

#[derive(Default)]
pub(super) struct Spared {
    /// By the number of their target.
    records: BTreeMap<usize, Vec<u32>>,
    /// Those of them that stay as they are, whatever else is written.
    standing: BTreeMap<usize, Vec<u32>>,
    /// The same by their ids, comparable, once somebody asks.
    by_id: OnceCell<BTreeMap<usize, HashMap<String, u32>>>,
}

impl Spared {
    fn by_id(&self, targets: &[Target]) -> &BTreeMap<usize, HashMap<String, u32>> {
        let id = |index: usize, row: u32| {
            memory::heed();
            let target = &targets[index];
            (target.comparable(&target.plan.records[row as usize].id).into_owned(), row)
        };
        let of = |(index, rows): (&usize, &Vec<u32>)| (*index, rows.iter().map(|row| id(*index, *row)).gather());
        self.by_id.get_or_init(|| self.records.iter().map(of).gather())
    }
}

impl ItemWriter<'_, '_> {
    /// From now on the rows of these records are spared, by the number of their target: those that stand by decision, and those that are still to be moved.
    pub fn spare(&self, standing: BTreeMap<usize, Vec<u32>>, to_move: BTreeMap<usize, Vec<u32>>) {
        let mut records = to_move;
        for (target, rows) in &standing {
            memory::extend(records.entry(*target).or_default(), rows.iter().copied());
        }
        self.spared.replace(Spared { records, standing, by_id: OnceCell::new() });
    }

    /// An error where these statements, before which so many changes were logged, have taken one of them along.
    pub(super) fn check_spared(&self, statements: &[WriteStatement], logged: i32) -> Result<()> {
        let spared = self.spared.borrow();
        if spared.records.is_empty() || journal::logged() == logged || !self.may_take_along(statements)? {
            return Ok(());
        }
        let deletes = statements.iter().any(|statement| statement.what.deletes());
        for (index, records) in &spared.records {
            let target = &self.targets[*index];
            let touched: Vec<u32> = match journal::is_kept_since(logged) {
                true => touched(target, &spared.by_id(self.targets)[index], logged),
                false => records.iter().copied().gather(),
            };
            let ids: Vec<&str> = touched.iter().map(|row| &*target.plan.records[*row as usize].id).gather();
            if let Some(id) = self.first_deleted(target, &ids, logged, deletes)? {
                let is_it = |row: &u32| *target.plan.records[*row as usize].id == *id;
                let lasting = spared.standing.get(index).is_some_and(|rows| rows.iter().any(is_it));
                return Err(SyncError { lasting, ..target.spared(id) });
            }
        }
        Ok(())
    }

    /// May other rows be deleted by that, or be marked?
    fn may_take_along(&self, statements: &[WriteStatement]) -> Result<bool> {
        for statement in statements {
            let collection = &self.targets[statement.target].collection;
            let (facts, event) = (Facts::of(collection)?, statement.event(collection));
            if facts.fires & event != 0 || event == DELETE && !facts.referenced_by.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The first of these rows, which were changed, that is gone or marked by now.
    fn first_deleted<'i>(
        &self,
        target: &Target,
        ids: &[&'i str],
        logged: i32,
        by_deletion: bool,
    ) -> Result<Option<&'i str>> {
        if ids.is_empty() {
            return Ok(None);
        }
        let visible: HashMap<usize, bool> = target.visible_now(ids)?.into_iter().gather();
        let marked = (0..ids.len()).find(|place| visible.get(place) == Some(&true));
        if let Some(place) = marked {
            return Ok(Some(ids[place]));
        }
        let unseen = (0..ids.len()).filter(|place| !visible.contains_key(place));
        let unseen: Vec<&str> = unseen.map(|place| ids[place]).gather();
        // What policies hide since a deletion is marked. (A key that made a column NULL has deleted nothing.)
        if by_deletion && target.collection.soft_delete.is_some() && !self.may_follow(target, logged)? {
            return Ok(unseen.first().copied());
        }
        let standing: HashSet<&str> = left_standing(target, &unseen)?.into_iter().gather();
        Ok(unseen.into_iter().find(|id| !standing.contains(id)))
    }
}

/// Those of these records of whose rows the log has, since so many changes were logged, that they were deleted, or that something which shows them changed.
fn touched(target: &Target, by_id: &HashMap<String, u32>, logged: i32) -> Vec<u32> {
    let mut touched = Vec::new();
    journal::taken_in(logged..i32::MAX, target.collection.relation, &mut |key, _| {
        memory::extend(&mut touched, by_id.get(&*target.comparable(key)).copied());
    });
    touched
}
