//! New rows that refer to each other in a circle, in two steps: they are inserted one after the other without what refers to rows that are not there yet, and that is set when all are.
//!
//! One statement writes a circle as well, and shorter ([`ItemWriter::apply`], `together`). But what policies and triggers ask in it does not find the rows that it is just writing.

use std::collections::HashSet;

use super::{refuse_ruled, Applied, ItemWriter};
use crate::collections::facts::{Facts, INSERT, UPDATE};
use crate::push::item::{by_target, Item, What};
use crate::push::statement::{Later, WriteStatement};
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::server::subxact;

/// New rows, as they are written so.
#[derive(PartialEq)]
pub struct TwoSteps {
    /// Each part is of one table, and refers to parts before it, but for what is set later.
    pub parts: Vec<Vec<Item>>,
    pub later: Later,
}

impl TwoSteps {
    pub fn items(&self) -> impl Iterator<Item = Item> + '_ {
        self.parts.iter().flatten().copied()
    }
}

impl ItemWriter<'_, '_> {
    pub fn apply_linked(&self, linked: &TwoSteps) -> Result<Applied> {
        let mut applied = Applied::default();
        for part in &linked.parts {
            let alike = |one: &Item, other: &Item| (one.target, one.what) == (other.target, other.what);
            // (Where triggers run after each row, as in `statements`.)
            let Some(first) = part.first() else { continue };
            match self.fires_after_rows(first.target, INSERT)? {
                true => {
                    let mut rows: Vec<Item> = part.iter().copied().gather();
                    memory::sort_by(&mut rows, |a, b| (a.target, a.row).cmp(&(b.target, b.row)));
                    rows.chunks(1).try_for_each(|row| self.insert_without(row, linked, &mut applied))?;
                }
                false => part.chunk_by(alike).try_for_each(|rows| self.insert_without(rows, linked, &mut applied))?,
            }
        }
        self.set_later(linked.items(), linked, &mut applied)?;
        Ok(applied)
    }

    /// The same row by row. Those that are not needed are left out where they fail. Returns what is written.
    pub fn apply_linked_singly(&self, linked: &TwoSteps, needed: &HashSet<Item>) -> Result<(Vec<Item>, Applied)> {
        let (mut written, mut applied) = (Vec::new(), Applied::default());
        for item in linked.items() {
            match subxact::run(|| self.insert_without(&[item], linked, &mut applied)) {
                Err(e) if subxact::is_transient(&e) || needed.contains(&item) => return Err(e),
                Err(_) => {}
                Ok(()) => written.push(item),
            }
        }
        self.set_later(written.iter().copied(), linked, &mut applied)?;
        Ok((written, applied))
    }

    fn fires_after_rows(&self, target: usize, event: i16) -> Result<bool> {
        Ok(Facts::of(&self.targets[target].collection)?.fires_after_rows(event))
    }

    /// Rows of one target, kind and set of columns.
    fn insert_without(&self, rows: &[Item], linked: &TwoSteps, applied: &mut Applied) -> Result<()> {
        let (target, What::Insert(group)) = (rows[0].target, rows[0].what) else { return Ok(()) };
        let statement = WriteStatement::without(target, group, rows.iter().gather(), self.targets, &linked.later);
        self.run(&statement, false, applied)
    }

    fn set_later(&self, written: impl Iterator<Item = Item>, linked: &TwoSteps, applied: &mut Applied) -> Result<()> {
        let later = written.filter(|item| linked.later.contains_key(item));
        for (target, items) in by_target(later) {
            let size = if self.fires_after_rows(target, UPDATE)? { 1 } else { items.len() };
            for items in items.chunks(size) {
                for statement in WriteStatement::later(target, items, self.targets, &linked.later) {
                    refuse_ruled(&statement, &self.targets[target])?;
                    self.run(&statement, false, applied)?;
                }
            }
        }
        Ok(())
    }
}
