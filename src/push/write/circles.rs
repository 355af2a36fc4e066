//! Rows that can be written together only, as far as keys say so: new rows that refer to each other, rows that did and are deleted, rows that pass on a unique value in a circle.

use std::collections::{HashMap, HashSet};

use super::Work;
use crate::push::apply::{Applied, Outcome};
use crate::push::item::{Item, What};
use crate::push::order;
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::server::subxact;

impl Work<'_, '_> {
    /// Writes what could not be written alone, for it refers to each other in a circle.
    pub(super) fn write_circles(&self, outcome: &mut Outcome) -> Result<()> {
        let failed = |outcome: &Outcome| outcome.failed.iter().map(|(item, _)| *item).gather::<Vec<Item>>();
        let circles = self.circles(&failed(outcome))?;
        let written = write_each(&circles, &|items| self.writer.apply(items, true), &mut outcome.kept)?;
        outcome.failed.retain(|(item, _)| !written.contains(item));
        let written = self.link_circles(&failed(outcome), &mut outcome.kept)?;
        outcome.failed.retain(|(item, _)| !written.contains(item));
        Ok(())
    }

    /// The same in two steps (linked.rs).
    pub(super) fn link_circles(&self, failed: &[Item], kept: &mut Vec<Item>) -> Result<HashSet<Item>> {
        let mut written = HashSet::new();
        for turned in [false, true] {
            let left: Vec<Item> = failed.iter().copied().filter(|item| !written.contains(item)).gather();
            let circles = self.circles_to_link(&left, turned)?;
            let write = |items: &[Item]| match self.linked(items, turned)? {
                Some(linked) => self.writer.apply_linked(&linked),
                None => self.writer.apply(items, true),
            };
            memory::extend(&mut written, write_each(&circles, &write, kept)?);
        }
        Ok(written)
    }

    /// The circles among these items, in an order in which each comes after what it hangs on. (A value that cannot be read, or is sent otherwise than it is stored, ties nothing.)
    pub(super) fn circles(&self, items: &[Item]) -> Result<Vec<Vec<Item>>> {
        if items.len() < 2 {
            return Ok(Vec::new());
        }
        let parts = self.parts(items)?;
        Ok(parts.into_iter().filter(|part| part.len() > 1).gather())
    }

    /// All of these items, each after what it hangs on, else in their own order; in one part what hangs on each other.
    pub(super) fn parts(&self, items: &[Item]) -> Result<Vec<Vec<Item>>> {
        let keys = self.keys()?;
        let stored = self.stored(items, keys)?;
        let relation = |item: &Item| self.relation(item.target);
        let mut edges: Vec<Vec<usize>> = memory::filled(Vec::new(), items.len());
        for key in keys {
            // What another one must come before, or with: what is created under the values, what gives them up. A node stands for the values, so that rows which have
            // them in common make no more edges than they are.
            let mut by_values: HashMap<(bool, Vec<String>), usize> = HashMap::new();
            for (place, item) in items.iter().enumerate().filter(|(_, item)| relation(item) == key.parent) {
                memory::heed();
                let deletes = item.what == What::Delete;
                let values = match key.unique || deletes {
                    true => stored.of(item, &key.referenced),
                    false if item.changes_row() => None,
                    false => self.sent(item, &key.referenced),
                };
                if let Some(values) = values {
                    let node = *by_values.entry((deletes && !key.unique, values)).or_insert(edges.len());
                    if node == edges.len() {
                        memory::push(&mut edges, Vec::new())?;
                    }
                    memory::extend(&mut edges[node], [place]);
                }
            }
            for (place, item) in items.iter().enumerate().filter(|(_, item)| relation(item) == key.child) {
                memory::heed();
                let deletes = item.what == What::Delete;
                let values = match deletes {
                    true if key.unique => None,
                    true => stored.of(item, &key.columns),
                    false => self.sent(item, &key.columns),
                };
                let node = values.and_then(|values| by_values.get(&(deletes, values)).copied());
                memory::extend(&mut edges[place], node);
            }
        }
        // (The nodes of values are no items.)
        let parts = order::components(&edges).into_iter().map(|part| {
            let rows = part.into_iter().filter_map(|place| items.get(place).copied());
            rows.gather::<Vec<Item>>()
        });
        Ok(parts.filter(|part| !part.is_empty()).gather())
    }
}

/// Writes each of these circles as a whole, or not at all. Returns what is written.
fn write_each(
    circles: &[Vec<Item>],
    write: &dyn Fn(&[Item]) -> Result<Applied>,
    kept: &mut Vec<Item>,
) -> Result<HashSet<Item>> {
    let places: Vec<usize> = (0..circles.len()).gather();
    let mut written = HashSet::new();
    let work = |places: &[usize]| -> Result<(Vec<Item>, Applied)> {
        let items: Vec<Item> = places.iter().flat_map(|place| &circles[*place]).copied().gather();
        let applied = write(&items)?;
        Ok((items, applied))
    };
    if !circles.is_empty() {
        subxact::in_halves(&places, &work, &mut |tried| {
            if let Ok((items, applied)) = tried {
                memory::extend(kept, applied.kept);
                memory::extend(&mut written, items);
            }
            Ok(true)
        })?;
    }
    Ok(written)
}
