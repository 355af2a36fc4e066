//! Which sights have to be asked. Where policies show the more rows the more there are in the tables that decide (`grows.rs`), a change that only
//! adds rows to these takes nothing out of view, and one that only takes rows away brings nothing into it. So of sights that grow one after the
//! other the last one has what any of them has, and the first one what all of them have.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::Tables;
use crate::log::change::Op;
use crate::server::error::Result;
use crate::server::memory::Gather;

/// What the change that ended a sight did to the tables that decide.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AccessStep {
    /// Nothing, or it added rows: what the sight showed the next one shows, too.
    Grows,
    /// It took rows away.
    Shrinks,
    Either,
}

impl AccessStep {
    fn with(self, op: Op) -> AccessStep {
        match (self, op) {
            (AccessStep::Grows, Op::Insert) => AccessStep::Grows,
            (AccessStep::Shrinks, Op::Delete) => AccessStep::Shrinks,
            _ => AccessStep::Either,
        }
    }

    fn of(op: Op) -> AccessStep {
        match op {
            Op::Insert => AccessStep::Grows,
            Op::Delete => AccessStep::Shrinks,
            Op::Update | Op::Reset => AccessStep::Either,
        }
    }
}

/// The steps from each sight to the next.
pub(super) struct Steps {
    steps: Vec<AccessStep>,
    /// The first sight is asked about in other scopes than those after it, which are among theirs (`SightScopes::all`).
    apart: bool,
}

impl Steps {
    /// By the entries of the changes that ended sights; and the tables that these are of. What else happened concerns the caller in no sight.
    pub fn of(ends: &[i64], tables: &Tables, apart: bool) -> Result<(Steps, BTreeSet<u32>)> {
        let mut found: BTreeMap<i64, AccessStep> = BTreeMap::new();
        let mut changed = BTreeSet::new();
        for (table, entries) in tables {
            entries.each(&mut |_, changes| {
                for entry in
                    changes.iter().filter(|entry| !entry.is_notice() && ends.binary_search(&entry.stamp).is_ok())
                {
                    let op = match (entry.op, &entry.image) {
                        // It has changed nothing that policies read.
                        (Op::Update, None) => continue,
                        // It was there before.
                        (Op::Insert, Some(_)) => Op::Update,
                        (op, _) => op,
                    };
                    changed.insert(table.relation.to_u32());
                    let step = found.entry(entry.stamp);
                    step.and_modify(|step| *step = step.with(op)).or_insert(AccessStep::of(op));
                }
                Ok(true)
            })?;
        }
        let steps = ends.iter().map(|end| found.get(end).copied().unwrap_or(AccessStep::Grows)).gather();
        Ok((Steps { steps, apart }, changed))
    }

    fn is(&self, sight: usize, step: AccessStep) -> bool {
        self.steps.get(sight) == Some(&step)
    }

    /// Does it take this sight, of these, to know what any of them shows? `next`: or what the one after them does.
    pub fn is_large(&self, sight: usize, among: &Range<usize>, next: bool) -> bool {
        let in_next = (next || sight + 1 < among.end) && self.is(sight, AccessStep::Grows);
        let has_last = sight > among.start && (sight != 1 || !self.apart);
        let in_last = has_last && self.is(sight - 1, AccessStep::Shrinks);
        among.contains(&sight) && !in_next && !in_last
    }

    /// Does it take this sight, of all before now, to know what each of them shows, and now does, too?
    pub fn is_small(&self, sight: usize) -> bool {
        let in_last = sight > 0 && self.is(sight - 1, AccessStep::Grows);
        !in_last && !self.is(sight, AccessStep::Shrinks)
    }
}

#[cfg(test)]
mod tests {
    use super::{AccessStep, AccessStep::*, Steps};

    fn large(steps: &[AccessStep], next: bool, apart: bool) -> Vec<usize> {
        let steps = Steps { steps: steps.to_vec(), apart };
        let all = 0..steps.steps.len();
        all.clone().filter(|sight| steps.is_large(*sight, &all, next)).collect()
    }

    fn small(steps: &[AccessStep]) -> Vec<usize> {
        let steps = Steps { steps: steps.to_vec(), apart: false };
        (0..steps.steps.len()).filter(|sight| steps.is_small(*sight)).collect()
    }

    #[test]
    fn of_sights_that_grow_the_last_has_all_and_the_first_what_each_has() {
        assert_eq!(large(&[Grows, Grows, Grows], true, false), [0; 0], "now shows all");
        assert_eq!(large(&[Grows, Grows, Grows], false, false), [2]);
        assert_eq!(small(&[Grows, Grows, Grows]), [0]);
    }

    #[test]
    fn of_those_that_shrink_it_is_the_other_way_round() {
        assert_eq!(large(&[Shrinks, Shrinks, Shrinks], true, false), [0]);
        assert_eq!(small(&[Shrinks, Shrinks, Shrinks]), [0; 0], "each shows what now does");
        assert_eq!(large(&[Shrinks, Shrinks, Shrinks], true, true), [0, 1], "the first one is asked otherwise");
    }

    #[test]
    fn of_both_the_turns_count() {
        let steps = [Grows, Grows, Shrinks, Shrinks, Grows, Either, Either];
        assert_eq!(large(&steps, true, false), [2, 5, 6]);
        assert_eq!(small(&steps), [0, 4, 6]);
        assert_eq!(large(&[Either, Either], true, false), [0, 1]);
    }

    /// Whatever sets of rows there are: those that count give what all give.
    #[test]
    fn those_that_count_are_enough() {
        let mut random = 42_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        for _ in 0..10_000 {
            let count = 1 + next(7) as usize;
            let (mut sights, mut steps) = (vec![next(64)], Vec::new());
            for _ in 0..count {
                let (last, other) = (sights[sights.len() - 1], next(64) & next(64));
                let (step, then) = match next(3) {
                    0 => (Grows, last | other),
                    1 => (Shrinks, last & !other),
                    _ => (Either, next(64)),
                };
                steps.push(step);
                sights.push(then);
            }
            let now = sights[count];
            // Where the first one is asked about apart, it shows less than it would.
            let mask = if next(2) == 0 { u64::MAX } else { next(64) };
            let shown = |sight: usize| if sight == 0 { sights[0] & mask } else { sights[sight] };
            let any = |of: &[usize]| of.iter().fold(0, |any, sight| any | shown(*sight));
            let each = |of: &[usize]| of.iter().fold(u64::MAX, |each, sight| each & sights[*sight]);
            let all: Vec<usize> = (0..count).collect();
            let apart = mask != u64::MAX;
            assert_eq!(any(&all), any(&large(&steps, false, apart)), "{steps:?}");
            assert_eq!(any(&all) & !now, any(&large(&steps, true, apart)) & !now, "{steps:?}");
            assert_eq!(now & !each(&all), now & !each(&small(&steps)), "{steps:?}");
        }
    }
}
