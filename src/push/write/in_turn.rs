//! Which rows of a step are written in turn, where triggers may look at what was written before them.

use super::Work;
use crate::collections::facts::Facts;
use crate::push::item::Item;
use crate::push::steps::Step;
use crate::server::error::Result;
use crate::server::memory;

impl Work<'_, '_> {
    /// The same steps, but for the order of the rows in them. Where triggers run after each row, rows of a kind come as they were sent, whatever columns they have. And where tables
    /// refer to each other, or to themselves, one statement would write rows that no trigger of another one sees (PostgreSQL inserts last, there): if triggers run, each row comes
    /// after those that it hangs on, and only what is a circle of rows is written by one statement. `always`: also if none do.
    pub(super) fn in_turn(&self, steps: Vec<Step>, always: bool) -> Result<Vec<Step>> {
        let mut in_turn = Vec::new();
        for mut step in steps {
            self.sort_as_sent(&mut step.items)?;
            let writes = step.items.len() > 1 && !step.items.iter().any(|item| item.what.deletes());
            if step.together && writes && (always || self.fires(&step.items)?) {
                self.add_parts(step.items, &mut in_turn)?;
            } else {
                in_turn.push(step);
            }
        }
        Ok(in_turn)
    }

    pub(super) fn sort_as_sent(&self, items: &mut [Item]) -> Result<()> {
        for run in items.chunk_by_mut(|a, b| a.is_like(b)) {
            memory::heed();
            let collection = &self.targets[run[0].target].collection;
            if Facts::of(collection)?.fires_after_rows(run[0].what.event(collection)) {
                memory::sort_by(run, |a, b| a.row.cmp(&b.row));
            }
        }
        Ok(())
    }

    /// Do triggers or rules run where these are written?
    fn fires(&self, items: &[Item]) -> Result<bool> {
        for run in items.chunk_by(Item::is_like) {
            memory::heed();
            let collection = &self.targets[run[0].target].collection;
            if Facts::of(collection)?.fires & run[0].what.event(collection) != 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn add_parts(&self, items: Vec<Item>, steps: &mut Vec<Step>) -> Result<()> {
        let mut single = Step { items: Vec::new(), together: false };
        for part in self.parts(&items)? {
            memory::heed();
            if let [item] = part[..] {
                memory::push(&mut single.items, item)?;
                continue;
            }
            let before = std::mem::replace(&mut single, Step { items: Vec::new(), together: false });
            memory::extend(steps, [before, Step { items: part, together: true }]);
        }
        memory::extend(steps, [single]);
        steps.retain(|step| !step.items.is_empty());
        Ok(())
    }
}
