//! New rows that refer to each other in a circle, in two steps: they are inserted one after the other without what refers to rows that are not there yet, and that is set when all are.
//!
//! One statement writes a circle as well, and shorter ([`ItemWriter::apply`], `together`). But what policies and triggers ask in it does not find the rows that it is just writing.

use super::{refuse_ruled, Applied, ItemWriter};
use crate::push::item::{by_target, Item, What};
use crate::push::statement::{Later, WriteStatement};
use crate::server::error::Result;
use crate::server::memory::Gather;

/// New rows, as they are written so.
#[derive(PartialEq)]
pub struct TwoSteps {
    /// Each part refers to parts before it, but for what is set later.
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
            for items in part.chunk_by(|a, b| (a.target, a.what) == (b.target, b.what)) {
                let (target, What::Insert(group)) = (items[0].target, items[0].what) else { continue };
                let items = items.iter().gather();
                let statement = WriteStatement::without(target, group, items, self.targets, &linked.later);
                self.run(&statement, false, &mut applied)?;
            }
        }
        let later = linked.items().filter(|item| linked.later.contains_key(item));
        for (target, items) in by_target(later) {
            for statement in WriteStatement::later(target, &items, self.targets, &linked.later) {
                refuse_ruled(&statement, &self.targets[target])?;
                self.run(&statement, false, &mut applied)?;
            }
        }
        Ok(applied)
    }
}
