//! Rows on their way into the tables one by one, step by step and round by round; and those that go ahead.
//!
//! What something else must wait for, no round finds: it failed when its turn came, since what it hangs on was closed by then, or its value not yet free. So it is put *ahead*: tried before
//! everything else, and again after each part of that, until it passes. As who works offline does: he edits an item as soon as he may, and closes its list after that. What of the
//! rest would close a row that still waits, or take it along (a membership that is given up, a deletion, by a cascade), is put off.

use std::collections::{HashMap, HashSet};

use super::items;
use super::singly::{note, spares, Pace, Partial, Progress};
use super::Work;
use crate::push::item::Item;
use crate::push::steps::Step;
use crate::server::error::{Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::subxact::{self, End};

/// So often, in all, rows are tried again in vain, for others to come first.
pub(super) const MOST_TRIED: usize = 4_000;

/// So many parts the rest has at most.
const PARTS: usize = 250;

pub(super) struct Tries<'s, 'w, 'a> {
    work: &'s Work<'w, 'a>,
    pace: Pace<'s>,
    /// What is left of each step. First come those that go ahead.
    pub(super) left: Vec<Step>,
    ahead: usize,
    errors: HashMap<Item, SyncError>,
    partial: Partial,
    /// Those of all that are to be written that move their rows, as long as they are not.
    to_move: HashSet<Item>,
    /// Those that are not to be written any more.
    left_out: Vec<Item>,
    /// Followers, by the same steps, as long as they wait for their heirs (heirs.rs).
    waiting: Vec<Step>,
    /// So many rounds there were, and failures in them.
    pub(super) rounds: usize,
    pub(super) failures: usize,
    /// What failed since something was written last.
    in_vain: HashSet<Item>,
    /// Deletions that would have taken some of these along, since one of them was written last.
    held_up: HashSet<Item>,
    /// So often rows that go ahead may still be tried in vain.
    budget: usize,
    /// Those of them that are changed, and can be now, where that is known.
    open: Option<HashSet<Item>>,
}

impl<'s, 'w, 'a> Tries<'s, 'w, 'a> {
    pub(super) fn of(work: &'s Work<'w, 'a>, steps: &[Step], pace: Pace<'s>) -> Result<Self> {
        let moving = work.moving()?;
        let to_move: HashSet<Item> = items(steps).filter(|item| moving.contains(item)).gather();
        let left_out = moving.iter().copied().filter(|item| !to_move.contains(item)).gather();
        let is_ahead: HashSet<Item> = pace.ahead.iter().copied().gather();
        let heirs = work.heirs()?;
        let (mut left, mut rest): (Vec<Step>, Vec<Step>) = (memory::list(steps.len()), memory::list(steps.len()));
        let mut waiting: Vec<Step> = memory::list(steps.len());
        for step in steps {
            let (followers, others) = step.items.iter().copied().gather_parts(|item| heirs.follows(item));
            waiting.push(Step { items: followers, together: step.together });
            let (ahead, others) = others.into_iter().gather_parts(|item| is_ahead.contains(item));
            if !ahead.is_empty() {
                left.push(Step { items: ahead, together: step.together });
            }
            rest.push(Step { items: others, together: step.together });
        }
        let ahead = left.len();
        memory::extend(&mut left, rest);
        Ok(Tries {
            work,
            pace,
            left,
            ahead,
            errors: HashMap::new(),
            partial: Partial::default(),
            to_move,
            left_out,
            waiting,
            rounds: 0,
            failures: 0,
            in_vain: HashSet::new(),
            held_up: HashSet::new(),
            budget: MOST_TRIED,
            open: None,
        })
    }

    /// Tries those that go ahead, and again after each part of the rest.
    pub(super) fn go_ahead(&mut self) -> Result<()> {
        if self.ahead == 0 {
            return Ok(());
        }
        self.try_ahead(false)?;
        let rest = items(&self.left[self.ahead..]).count();
        let waiting = items(&self.left[..self.ahead]).count();
        let parts = (MOST_TRIED / waiting.max(1)).clamp(1, PARTS);
        let size = rest.div_ceil(parts).max(1);
        for step in self.ahead..self.left.len() {
            let Step { items, together } = &mut self.left[step];
            let (whole, together) = (std::mem::take(items), *together);
            // Where tables refer to each other what waits for a new row must not wait for changes as well.
            let (mut whole, changes) = whole.into_iter().gather_parts(|item| !together || !item.is_update());
            memory::extend(&mut whole, changes);
            let mut failed = Step { items: Vec::new(), together };
            for part in whole.chunks(size) {
                memory::heed();
                let mut part = Step { items: part.iter().copied().gather(), together };
                if self.write_sparing(&mut part)? {
                    self.try_ahead(true)?;
                }
                memory::extend(&mut failed.items, part.items);
            }
            // Rows that refer to each other can be written together only.
            if together && failed.items.len() > 1 && self.write_sparing(&mut failed)? {
                self.try_ahead(true)?;
            }
            self.left[step] = failed;
        }
        Ok(())
    }

    fn try_ahead(&mut self, again: bool) -> Result<()> {
        self.open = None;
        for step in 0..self.ahead {
            if !again || self.budget > 0 {
                _ = self.try_step(step, again)?;
            }
        }
        Ok(())
    }

    /// Tries a step once more: not those of its rows that never pass.
    fn try_step(&mut self, step: usize, again: bool) -> Result<Progress> {
        let whole = std::mem::replace(&mut self.left[step], Step { items: Vec::new(), together: false });
        let together = whole.together;
        let never =
            |item: &Item| again && (self.errors.get(item).is_some_and(|e| e.lasting) || self.held_up.contains(item));
        let (failed, tried) = whole.items.into_iter().gather_parts(never);
        let mut part = Step { items: tried, together };
        let progress = self.write(&mut part)?;
        self.budget = self.budget.saturating_sub(progress.failed);
        memory::extend(&mut part.items, failed);
        self.left[step] = part;
        Ok(progress)
    }

    /// Writes a part of the rest, unless that closes a row which still waits, or takes it along. Has anything been written?
    fn write_sparing(&mut self, part: &mut Step) -> Result<bool> {
        let (work, pace) = (self.work, self.pace);
        let waiting: Vec<Item> = items(&self.left[..self.ahead]).filter(Item::keeps_row).gather();
        if waiting.is_empty() {
            return Ok(self.write(part)?.written);
        }
        self.spare_others(&part.items);
        let before = match self.open.take() {
            Some(open) => open,
            None => work.writer.open(&waiting)?,
        };
        let written = subxact::run_or_undo(|| {
            let (mut part, mut errors, mut partial) = (part.clone(), HashMap::new(), Partial::default());
            let progress = work.write_step(&mut part, pace, &mut errors, &mut partial)?;
            let open = work.writer.open(&waiting)?;
            Ok(match before.is_subset(&open) {
                true => End::Keep((part, errors, partial, progress.written, open)),
                false => End::Undo(()),
            })
        })?;
        let End::Keep((left, errors, partial, written, open)) = written else {
            self.open = Some(before);
            return Ok(false);
        };
        self.open = Some(open);
        if written {
            self.in_vain.clear();
        }
        self.partial.take(partial);
        errors.into_iter().for_each(|(item, e)| note(&mut self.errors, item, e));
        self.moved(&part.items, &left.items);
        *part = left;
        Ok(written)
    }

    /// No part takes rows along that are to be moved, or that could not be. (Those of the part itself are just being written.)
    fn spare_others(&self, part: &[Item]) {
        let own: HashSet<&Item> = part.iter().gather();
        let others = self.to_move.iter().copied().filter(|item| !own.contains(item));
        self.work.spare(others.chain(self.left_out.iter().copied()));
    }

    /// Of this part these are left.
    fn moved(&mut self, part: &[Item], left: &[Item]) {
        let to_move = self.to_move.len();
        let is_left: HashSet<&Item> = left.iter().gather();
        part.iter().filter(|item| !is_left.contains(item)).for_each(|item| _ = self.to_move.remove(item));
        if self.to_move.len() < to_move {
            self.held_up.clear();
        }
        let held_up = left.iter().copied().filter(|item| self.errors.get(item).is_some_and(|e| spares(item, e)));
        memory::extend(&mut self.held_up, held_up);
    }

    fn write(&mut self, step: &mut Step) -> Result<Progress> {
        let part: Vec<Item> = step.items.iter().copied().gather();
        self.spare_others(&part);
        let progress = self.work.write_step(step, self.pace, &mut self.errors, &mut self.partial)?;
        self.moved(&part, &step.items);
        match progress.written {
            // (Also of this step some were tried before that.)
            true => self.in_vain.clear(),
            false => memory::extend(&mut self.in_vain, step.items[progress.untried..].iter().copied()),
        }
        Ok(progress)
    }

    /// With `abort`: is there anything that was not tried since something was written last?
    pub(super) fn any_untried(&self) -> bool {
        items(&self.left).any(|item| !self.in_vain.contains(&item))
    }

    /// Each step once. How often rows failed.
    pub(super) fn round(&mut self) -> Result<usize> {
        let mut failed = 0;
        for step in 0..self.left.len() {
            let stage = self.work.stage_of(&self.left[step]);
            let mut written = false;
            if self.left[step].together {
                // (What never passes would have the others halved.)
                let done = self.try_step(step, true)?;
                (failed, written) = (failed + done.failed, done.written);
            }
            let mut part = std::mem::replace(&mut self.left[step], Step { items: Vec::new(), together: false });
            let done = self.write(&mut part)?;
            self.left[step] = part;
            (failed, written) = (failed + done.failed, written || done.written);
            if let Some(stage) = stage.filter(|_| written) {
                self.try_tied(step, stage)?;
            }
        }
        Ok(failed)
    }

    /// New rows that refer to each other in a circle, with what comes in between of other steps (linked.rs). Has that written anything?
    pub(super) fn link(&mut self) -> Result<bool> {
        if self.join()? {
            return Ok(true);
        }
        let failed: Vec<Item> = items(&self.left).filter(|item| self.errors.contains_key(item)).gather();
        self.spare_others(&[]);
        let written = self.work.link_circles(&failed, true, &mut self.partial.kept)?;
        if !written.is_empty() {
            self.left.iter_mut().for_each(|step| step.items.retain(|item| !written.contains(item)));
            self.in_vain.clear();
        }
        Ok(!written.is_empty())
    }

    /// What is left, of tables that refer to each other, in one statement, whatever its rows have to do with each other as far as that is known (in_turn.rs); and in sets, where that may be what
    /// its triggers want. Not with what is wrong in itself: that would have the others halved. Has that written anything?
    fn join(&mut self) -> Result<bool> {
        let mut written = false;
        for stage in self.work.stages.iter().filter(|stage| stage.circular) {
            written |= self.write_left(true, &|item| stage.targets.contains(&item.target))?;
        }
        if self.work.may_be_sets()? {
            self.work.writer.set_wise.set(true);
            let in_sets: Result<bool> = (0..self.work.targets.len())
                .try_fold(false, |any, target| Ok(any | self.write_left(false, &|item| item.target == target)?));
            self.work.writer.set_wise.set(false);
            written |= in_sets?;
        }
        Ok(written)
    }

    fn write_left(&mut self, together: bool, wanted: &dyn Fn(&Item) -> bool) -> Result<bool> {
        let is_wrong = |item: &Item| self.errors.get(item).is_some_and(SyncError::is_of_values_alone);
        let is_asked = |item: &Item| wanted(item) && !item.what.deletes() && !is_wrong(item);
        let asked: Vec<Item> = items(&self.left).filter(is_asked).gather();
        if asked.len() < 2 {
            return Ok(false);
        }
        let mut written: HashSet<Item> = asked.iter().copied().gather();
        let mut step = Step { items: asked, together };
        let progress = self.write(&mut step)?;
        step.items.iter().for_each(|item| _ = written.remove(item));
        self.left.iter_mut().for_each(|step| step.items.retain(|item| !written.contains(item)));
        Ok(progress.written)
    }

    /// What failed and is tied to this step, which wrote something, is tried again before the next one.
    fn try_tied(&mut self, step: usize, stage: usize) -> Result<()> {
        let (work, ties) = (self.work, self.pace.again);
        let is_tied = |earlier| ties.is_some_and(|ties| ties.are_tied(earlier, stage));
        if self.ahead == 0 && ties.is_none() {
            return Ok(());
        }
        self.lay_gone_aside(step + 1)?;
        for earlier in 0..=step {
            if earlier < self.ahead || work.stage_of(&self.left[earlier]).is_some_and(is_tied) {
                _ = self.try_step(earlier, true)?;
            }
        }
        Ok(())
    }

    /// What failed, and whose row is gone since, has failed for good: an UPDATE of it would be taken for one of a row that somebody else has deleted.
    pub(super) fn lay_gone_aside(&mut self, steps: usize) -> Result<()> {
        let left = &mut self.left[..steps];
        let failed: Vec<Item> = items(left).filter(|item| self.errors.contains_key(item)).gather();
        let gone = self.work.writer.gone(&failed)?;
        // (In the order in which they failed: with 'abort' the first one is told.)
        let gone: Vec<Item> = failed.into_iter().filter(|item| gone.contains(item)).gather();
        self.lay_aside(&gone);
        Ok(())
    }

    /// These have failed for good.
    fn lay_aside(&mut self, failed: &[Item]) {
        if failed.is_empty() {
            return;
        }
        let is_failed: HashSet<Item> = failed.iter().copied().gather();
        for step in &mut self.left {
            step.items.retain(|item| !is_failed.contains(item));
        }
        let errors = &mut self.errors;
        memory::extend(&mut self.partial.failed, failed.iter().filter_map(|item| errors.remove_entry(item)));
    }

    /// Lets followers in that need not wait any more, and writes what it can of them, until there are none. If nobody is ready, some wait in vain: the givers of their heirs have failed for good, and what is put
    /// under the givers' values hangs on these. False where nobody waits.
    pub(super) fn let_followers(&mut self) -> Result<bool> {
        let heirs = self.work.heirs()?;
        let mut any = false;
        loop {
            memory::heed();
            let waiting: Vec<Item> = items(&self.waiting).gather();
            if waiting.is_empty() {
                return Ok(any);
            }
            let open = items(&self.left).chain(waiting.iter().copied()).chain(self.partial.unwritten()).gather();
            let mut let_in = heirs.ready(waiting.iter().copied(), &open);
            if let_in.is_empty() && any {
                return Ok(true);
            }
            if let_in.is_empty() {
                let (in_vain, givers) = heirs.in_vain(&waiting, &open);
                let has_failed = |item: &Item| givers.contains(item) && self.errors.contains_key(item);
                let failed: Vec<Item> = items(&self.left).filter(has_failed).gather();
                self.lay_aside(&failed);
                let_in = in_vain;
            }
            any = true;
            for place in 0..self.waiting.len() {
                let Step { items, together } = &mut self.waiting[place];
                let (now, later) = std::mem::take(items).into_iter().gather_parts(|item| let_in.contains(item));
                *items = later;
                let mut part = Step { items: now, together: *together };
                self.failures += self.write(&mut part)?.failed;
                memory::extend(&mut self.left[self.ahead + place].items, part.items);
            }
        }
    }

    pub(super) fn end(mut self) -> Partial {
        for item in items(&self.left) {
            match self.errors.remove_entry(&item) {
                Some(failed) => self.partial.failed.push(failed),
                None => self.partial.untried.push(item),
            }
        }
        self.partial
    }
}
