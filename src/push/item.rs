//! A row that is to be written, as all who write name it.

use std::collections::BTreeMap;

use super::target::Target;
use crate::collections::catalog::Collection;
use crate::collections::facts::{DELETE, INSERT, UPDATE};

/// One row to write or to delete.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Item {
    pub target: usize,
    pub what: What,
    /// Index into the plan's records, or its deletions.
    pub row: u32,
}

/// How. The number is that of the group of columns: of `Target::updates` for updates, of the plan's for an insert.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum What {
    Update(u32),
    /// An update that sets the mark of deletion, as the record itself says: what others would have deleted.
    Mark(u32),
    /// An update that takes the mark of deletion away, which the record itself does not name.
    Revive(u32),
    Insert(u32),
    Delete,
}

impl What {
    /// The update of an existing row by this record, which is one of this group of `Target::updates`.
    pub fn of_update(target: &Target, row: u32, group: u32) -> What {
        match target.marks(row, group) {
            true => What::Mark(group),
            false => What::Update(group),
        }
    }

    /// Is it a deletion to the client? In the order of a push it goes where deletions go.
    pub fn deletes(self) -> bool {
        matches!(self, What::Delete | What::Mark(_))
    }

    /// What it does to the collection's table, as `tgtype` has it.
    pub fn event(self, collection: &Collection) -> i16 {
        match self {
            What::Insert(_) => INSERT,
            What::Delete if collection.soft_delete.is_none() => DELETE,
            What::Delete | What::Mark(_) | What::Update(_) | What::Revive(_) => UPDATE,
        }
    }
}

impl Item {
    /// Is it to be written in the same way, to the same table?
    pub fn is_like(&self, other: &Item) -> bool {
        self.target == other.target && std::mem::discriminant(&self.what) == std::mem::discriminant(&other.what)
    }

    pub fn inserts(&self) -> bool {
        matches!(self.what, What::Insert(_))
    }

    /// (One that takes the mark of deletion away is as good as an insert.)
    pub fn is_update(&self) -> bool {
        matches!(self.what, What::Update(_) | What::Mark(_))
    }

    /// An update, whatever becomes of the row's mark.
    pub fn changes_row(&self) -> bool {
        self.is_update() || matches!(self.what, What::Revive(_))
    }

    /// The same of a row that is to live on.
    pub fn keeps_row(&self) -> bool {
        self.changes_row() && !self.what.deletes()
    }

    pub fn id<'t>(&self, targets: &'t [Target]) -> &'t str {
        let plan = &targets[self.target].plan;
        match self.what {
            What::Delete => &plan.deletions[self.row as usize].id,
            _ => &plan.records[self.row as usize].id,
        }
    }
}

/// Items by the number of their target.
pub fn by_target(items: impl Iterator<Item = Item>) -> BTreeMap<usize, Vec<Item>> {
    let mut by_target: BTreeMap<usize, Vec<Item>> = BTreeMap::new();
    items.for_each(|item| by_target.entry(item.target).or_default().push(item));
    by_target
}
