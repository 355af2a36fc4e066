//! Rows that can be written together only, as far as keys say so: new rows that refer to each other, rows that did and are deleted, rows that pass on a unique value in a circle.

use std::collections::{HashMap, HashSet};

use super::by_values::Holders;
use super::linked::{Circle, TableOrder, TABLE_ORDERS};
use super::Work;
use crate::push::apply::{Applied, Outcome, TwoSteps};
use crate::push::item::{Item, What};
use crate::push::order;
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::server::subxact;

/// What is written, and what its statements left undone.
type AppliedItems = (Vec<Item>, Applied);

impl Work<'_, '_> {
    /// Writes what could not be written alone, for it refers to each other in a circle.
    pub(super) fn write_circles(&self, outcome: &mut Outcome) -> Result<()> {
        let failed = |outcome: &Outcome| outcome.failed.iter().map(|(item, _)| *item).gather::<Vec<Item>>();
        let circles = self.circles(&failed(outcome))?;
        let write = |circles: &[&Vec<Item>]| {
            let items: Vec<Item> = circles.iter().flat_map(|circle| circle.iter()).copied().gather();
            let applied = self.writer.apply(&items, true)?;
            Ok((items, applied))
        };
        let circles: Vec<&Vec<Item>> = circles.iter().gather();
        let written = write_each(&circles, &write, &mut outcome.kept)?;
        outcome.failed.retain(|(item, _)| !written.contains(item));
        let written = self.link_circles(&failed(outcome), false, &mut outcome.kept)?;
        outcome.failed.retain(|(item, _)| !written.contains(item));
        Ok(())
    }

    /// The same in two steps (linked.rs). `fully`: in every way, with what comes in between, also row by row.
    pub(super) fn link_circles(&self, failed: &[Item], fully: bool, kept: &mut Vec<Item>) -> Result<HashSet<Item>> {
        let mut written: HashSet<Item> = HashSet::new();
        for singly in [false, true] {
            let mut tried: HashMap<Item, Vec<TwoSteps>> = HashMap::new();
            for way in TABLE_ORDERS.into_iter().filter(|way| fully || !singly && !way.is_wide()) {
                let left: Vec<Item> = failed.iter().copied().filter(|item| !written.contains(item)).gather();
                let mut circles = Vec::new();
                for circle in self.circles_to_link(&left, way)? {
                    memory::heed();
                    let Some(linked) = self.linked(&circle.items().gather::<Vec<Item>>(), way)? else { continue };
                    let tried = tried.entry(circle.rows[0]).or_default();
                    let is_other = !singly || linked.parts.iter().any(|part| part.len() > 1);
                    if is_other && !tried.contains(&linked) {
                        tried.push(linked);
                        circles.push(circle);
                    }
                }
                let write = |circles: &[&Circle]| self.link(circles, way, singly);
                let circles: Vec<&Circle> = circles.iter().gather();
                memory::extend(&mut written, write_each(&circles, &write, kept)?);
            }
        }
        Ok(written)
    }

    /// Writes these circles in two steps; row by row (`singly`) without what fails of the rows in between.
    fn link(&self, circles: &[&Circle], way: TableOrder, singly: bool) -> Result<AppliedItems> {
        let items: Vec<Item> = circles.iter().flat_map(|circle| circle.items()).gather();
        let Some(linked) = self.linked(&items, way)? else { return Ok((Vec::new(), Applied::default())) };
        if !singly {
            let applied = self.writer.apply_linked(&linked)?;
            return Ok((linked.items().gather(), applied));
        }
        let needed: HashSet<Item> = circles.iter().flat_map(|circle| &circle.rows).copied().gather();
        self.writer.apply_linked_singly(&linked, &needed)
    }

    /// The circles among these items, in an order in which each comes after what it hangs on. (A value that cannot be read, or is sent otherwise than it is stored, ties nothing.)
    pub(super) fn circles(&self, items: &[Item]) -> Result<Vec<Vec<Item>>> {
        if items.len() < 2 {
            return Ok(Vec::new());
        }
        let parts = self.parts(items, false)?;
        Ok(parts.into_iter().filter(|part| part.len() > 1).gather())
    }

    /// All of these items, each after what it hangs on, and no later than that; in one part what hangs on each other.
    /// `looked_at`: also what a trigger may look at, and no key waits for: a row that is there, and is changed, also where another one of its table keeps
    /// referring to it. (Not one of another table: whether a list is closed before or after its items are edited is not known.)
    pub(super) fn parts(&self, items: &[Item], looked_at: bool) -> Result<Vec<Vec<Item>>> {
        let keys = self.keys()?;
        let stored = self.stored(items, keys)?;
        let relation = |item: &Item| self.relation(item.target);
        let mut edges: Vec<Vec<usize>> = memory::filled(Vec::new(), items.len());
        for key in keys {
            // What another one must come before, or with: what is created under the values, what gives them up. A node stands for the values, so that rows which have
            // them in common make no more edges than they are.
            let mut by_values: HashMap<(bool, Vec<String>), usize> = HashMap::new();
            let (mut written, mut deleted) = (Holders::default(), Holders::default());
            for (place, item) in items.iter().enumerate().filter(|(_, item)| relation(item) == key.parent) {
                memory::heed();
                let deletes = item.what == What::Delete;
                let values = match key.unique || deletes {
                    true => stored.of(item, &key.referenced),
                    false if !item.changes_row() || self.moves(item, &key.referenced, &stored) => {
                        self.sent(item, &key.referenced)
                    }
                    false => looked_at.then(|| stored.of(item, &key.referenced)).flatten(),
                };
                if let Some(values) = values {
                    let goes = deletes && !key.unique;
                    let node = *by_values.entry((goes, values.iter().cloned().gather())).or_insert(edges.len());
                    if node == edges.len() {
                        memory::push(&mut edges, Vec::new())?;
                        if goes { &mut deleted } else { &mut written }.add(values, node);
                    }
                    memory::extend(&mut edges[node], [place]);
                }
            }
            for (place, item) in items.iter().enumerate().filter(|(_, item)| relation(item) == key.child) {
                memory::heed();
                let node = match item.what == What::Delete {
                    true if key.unique => None,
                    true => {
                        let values = stored.of(item, &key.columns);
                        values.and_then(|values| deleted.find(&values.into_iter().map(Some).gather::<Vec<_>>()))
                    }
                    false => {
                        let values = match looked_at && !key.unique && key.child == key.parent {
                            true => self.after(item, &key.columns, &key.filled, &stored),
                            false => self.taken(item, (&key.columns, &key.filled), &stored),
                        };
                        values.and_then(|values| written.find(&values))
                    }
                };
                memory::extend(&mut edges[place], node.map(|(_, node)| node));
            }
        }
        // (The nodes of values are no items.)
        let parts = order::components_in_order(&edges, items.len()).into_iter().map(|part| {
            let rows = part.into_iter().filter_map(|place| items.get(place).copied());
            rows.gather::<Vec<Item>>()
        });
        Ok(parts.filter(|part| !part.is_empty()).gather())
    }
}

/// Writes each of these circles as a whole, or not at all. Returns what is written.
fn write_each<C>(
    circles: &[&C],
    write: &dyn Fn(&[&C]) -> Result<AppliedItems>,
    kept: &mut Vec<Item>,
) -> Result<HashSet<Item>> {
    let mut written = HashSet::new();
    if !circles.is_empty() {
        subxact::in_halves(circles, &write, &mut |tried| {
            if let Ok((items, applied)) = tried {
                memory::extend(kept, applied.kept);
                memory::extend(&mut written, items);
            }
            Ok(true)
        })?;
    }
    Ok(written)
}
