//! Which of some things have to be left out for the others to pass, where some pass only together: two rows that swap a value, rows that refer to each other.
//!
//! A trial says only whether all that is in passes. So halves of halves find all that fail whatever else is in; what is left then is what fails, and what passes only with
//! something that stood in another half. In whatever order they came, these are found as circles of which is known that they belong together (circles.rs), and if that does
//! not help, by trying all small combinations, and all that is left but these.

use std::collections::HashSet;
use std::hash::Hash;

use crate::server::error::Result;
use crate::server::memory::{self, Gather};

/// How many trials there are.
#[derive(Clone, Copy)]
pub(super) struct Trials {
    pub(super) all: usize,
    /// So many of them for combinations.
    pub(super) of_combinations: usize,
}

/// Which of these cannot be taken in: with nothing of them taken in all is well. `take_in` tries some in addition to those that were taken in before, and says whether they are in now.
/// `circles` are tried as such.
pub(super) fn sift<T: Copy + Eq + Hash>(
    all: &[T],
    circles: &[Vec<T>],
    trials: Trials,
    take_in: &mut dyn FnMut(&[T]) -> Result<bool>,
) -> Result<Vec<T>> {
    let mut sieve = Sieve { out: all.iter().copied().gather(), failed: HashSet::new(), trials, take_in };
    sieve.run(circles)?;
    Ok(sieve.out)
}

struct Sieve<'s, T> {
    /// Those that are not in yet, in their order.
    out: Vec<T>,
    /// What does not pass with what is in by now.
    failed: HashSet<Vec<T>>,
    trials: Trials,
    take_in: &'s mut dyn FnMut(&[T]) -> Result<bool>,
}

impl<T: Copy + Eq + Hash> Sieve<'_, T> {
    fn run(&mut self, circles: &[Vec<T>]) -> Result<()> {
        loop {
            let all: Vec<T> = self.out.iter().copied().gather();
            if self.take(&all)? {
                return Ok(());
            }
            let is_out: HashSet<T> = all.iter().copied().gather();
            for circle in circles {
                let circle: Vec<T> = circle.iter().copied().filter(|one| is_out.contains(one)).gather();
                self.take(&circle)?;
            }
            let left: Vec<T> = self.out.iter().copied().gather();
            self.halves(&left)?;
            let is_stuck = self.out.len() == all.len();
            if self.out.is_empty() || is_stuck && !self.combinations()? {
                return Ok(());
            }
        }
    }

    /// Tries some of those that are not in.
    fn take(&mut self, part: &[T]) -> Result<bool> {
        memory::heed();
        if part.is_empty() || self.trials.all == 0 || self.failed.contains(part) {
            return Ok(false);
        }
        self.trials.all -= 1;
        if !(self.take_in)(part)? {
            self.failed.insert(part.iter().copied().gather());
            return Ok(false);
        }
        let taken: HashSet<T> = part.iter().copied().gather();
        self.out.retain(|one| !taken.contains(one));
        self.failed.clear();
        Ok(true)
    }

    fn halves(&mut self, part: &[T]) -> Result<()> {
        if part.len() < 2 {
            return Ok(());
        }
        let (left, right) = part.split_at(part.len() / 2);
        for half in [left, right] {
            if !self.take(half)? {
                self.halves(half)?;
            }
        }
        Ok(())
    }

    /// Tries all but each one, and each one; then pairs, and so on. Has that taken something in?
    fn combinations(&mut self) -> Result<bool> {
        let count = self.out.len();
        let left = self.trials.all.saturating_sub(self.trials.of_combinations);
        for size in 1..=count / 2 {
            let mut chosen: Vec<usize> = (0..size).gather();
            loop {
                let (few, most): (Vec<usize>, Vec<usize>) = (0..count).gather_parts(|i| chosen.contains(i));
                for part in [most, few] {
                    let part: Vec<T> = part.into_iter().map(|i| self.out[i]).gather();
                    let before = self.trials.all;
                    let is_taken = before > left && self.take(&part)?;
                    self.trials.of_combinations -= before - self.trials.all;
                    if is_taken {
                        return Ok(true);
                    }
                }
                if self.trials.all <= left {
                    return Ok(false);
                }
                if !step(&mut chosen, count) {
                    break;
                }
            }
        }
        Ok(false)
    }
}

/// The next choice of as many out of so many; false after the last one.
fn step(chosen: &mut [usize], count: usize) -> bool {
    let size = chosen.len();
    let Some(at) = (0..size).rev().find(|&at| chosen[at] < count - size + at) else { return false };
    chosen[at] += 1;
    for next in at + 1..size {
        chosen[next] = chosen[next - 1] + 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::{sift, Trials};

    const TRIALS: Trials = Trials { all: 1_000, of_combinations: 300 };

    /// What is left out of these, each of which passes only with the others of its circle; and in how many trials.
    fn left(all: &[u32], circle_of: &dyn Fn(u32) -> Option<Vec<u32>>, circles: &[Vec<u32>]) -> (Vec<u32>, usize) {
        let (mut within, mut trials) = (Vec::new(), 0);
        let mut take_in = |part: &[u32]| {
            trials += 1;
            let with = [&within, part].concat();
            let passes = with.iter().all(|one| circle_of(*one).is_some_and(|c| c.iter().all(|c| with.contains(c))));
            if passes {
                within = with;
            }
            Ok(passes)
        };
        let mut left = sift(all, circles, TRIALS, &mut take_in).expect("no error");
        left.sort_unstable();
        (left, trials)
    }

    /// Multiples of 10 never pass; of the others pass those together that have the tens in common.
    fn tens(one: u32, all: &[u32]) -> Option<Vec<u32>> {
        let of = |other: &u32| other / 10 == one / 10 && !other.is_multiple_of(10);
        (!one.is_multiple_of(10)).then(|| all.iter().copied().filter(of).collect())
    }

    fn orders(all: &[u32]) -> Vec<Vec<u32>> {
        let Some((first, rest)) = all.split_first() else { return vec![vec![]] };
        let put = |order: Vec<u32>| {
            (0..=order.len()).map(move |at| [&order[..at], &[*first], &order[at..]].concat()).collect::<Vec<_>>()
        };
        orders(rest).into_iter().flat_map(put).collect()
    }

    #[test]
    fn whatever_the_order() {
        for all in [&[11, 12, 0][..], &[11, 12, 0, 10], &[11, 12, 13, 0, 10], &[11, 12, 21, 22, 0, 10]] {
            for order in orders(all) {
                let mut bad: Vec<u32> = all.iter().copied().filter(|one| one % 10 == 0).collect();
                bad.sort_unstable();
                assert_eq!(left(&order, &|one| tens(one, all), &[]).0, bad, "{order:?}");
            }
        }
    }

    #[test]
    fn what_is_known_to_belong_together_costs_one_trial() {
        let all: Vec<u32> = (0..40).flat_map(|i| [i * 10, i * 10 + 1]).chain((0..40).map(|i| i * 10 + 2)).collect();
        let circles: Vec<Vec<u32>> = (0..40).map(|i| vec![i * 10 + 1, i * 10 + 2]).collect();
        let (left, trials) = left(&all, &|one| tens(one, &all), &circles);
        assert_eq!(left, (0..40).map(|i| i * 10).collect::<Vec<u32>>());
        assert!(trials < 600, "{trials}");
    }

    #[test]
    fn few_of_many_are_found_by_halves() {
        let all: Vec<u32> = (1..=1_024).collect();
        let (left, trials) = left(&all, &|one| (one % 500 != 0).then(Vec::new), &[]);
        assert_eq!(left, [500, 1_000]);
        assert!(trials < 60, "{trials}");
    }
}
