//! Which rows of a step are written in turn, where triggers may look at what was written before them.

use super::Work;
use crate::collections::facts::Facts;
use crate::push::item::{Item, What};
use crate::push::steps::Step;
use crate::server::error::Result;
use crate::server::memory::{self, Gather};

impl Work<'_, '_> {
    /// The same steps, but for the order of the rows in them. Where triggers run after each row, rows of a kind come as they were sent, whatever columns they have. And where tables
    /// refer to each other, or to themselves, one statement would write rows that no trigger of another one sees (PostgreSQL inserts last, there): if triggers run, each row comes
    /// after those that it hangs on. Not where rows are a circle: one statement writes these, with all that it wrote else in the order in which it was sent (of a conversation's messages the last one, which
    /// it names, must not come first). `always`: of steps that have been through this; so each row comes if none run, too, by one statement or in parts of it.
    pub(super) fn in_turn(&self, steps: Vec<Step>, always: bool) -> Result<Vec<Step>> {
        let mut in_turn = Vec::new();
        for mut step in steps {
            // (The second time they are in their order.)
            if step.together || !always {
                self.sort_as_sent(&mut step.items)?;
            }
            let is_apart = !step.together || step.items.len() < 2 || step.items.iter().any(|item| item.what.deletes());
            let fires = !is_apart && self.fires(&step.items)?;
            if !is_apart && (always || fires) {
                let are_circular = |parts: &[Vec<Item>]| parts.iter().any(|part| part.len() > 1);
                let mut parts = self.parts(&step.items, true)?;
                if are_circular(&parts) {
                    parts = self.parts(&step.items, false)?;
                }
                let circular = are_circular(&parts);
                if always || !circular {
                    step.items = parts.into_iter().flatten().gather();
                }
                step.together = circular || !fires;
            }
            in_turn.push(step);
        }
        Ok(in_turn)
    }

    pub(super) fn sort_as_sent(&self, items: &mut [Item]) -> Result<()> {
        for run in items.chunk_by_mut(|a, b| a.is_like(b)) {
            memory::heed();
            let Item { target, what, .. } = run[0];
            let collection = &self.targets[target].collection;
            if !Facts::of(collection)?.fires_after_rows(what.event(collection)) {
                continue;
            }
            // What is locked only as it is deleted goes in the same order in every push, so that two cannot deadlock.
            match what == What::Delete && self.decisions.fates[target].deletes_unlocked {
                true => memory::sort_by(run, |a, b| a.id(self.targets).cmp(b.id(self.targets))),
                false => memory::sort_by(run, |a, b| a.row.cmp(&b.row)),
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

    /// Are there rows that triggers run after, each by itself, and may they as well be written by one statement? What they check of several rows (that one is the default, that entries
    /// balance) then holds when all are there. Not where a trigger looks at the table before each row, too: it would not find what those after the rows before it have made of them.
    pub(super) fn may_be_sets(&self) -> Result<bool> {
        let mut may_be = false;
        for run in self.steps.iter().flat_map(|step| step.items.chunk_by(Item::is_like)) {
            memory::heed();
            let collection = &self.targets[run[0].target].collection;
            let (facts, event) = (Facts::of(collection)?, run[0].what.event(collection));
            if run.len() > 1 && facts.fires_after_rows(event) {
                if facts.looks_before_rows(collection, event)? {
                    return Ok(false);
                }
                may_be = true;
            }
        }
        Ok(may_be)
    }
}
