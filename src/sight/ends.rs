//! The changes that end a sight: those of access tables that move what a user sees.

use std::collections::BTreeSet;

use super::delta::SIGHTS;
use crate::log::change::Op;
use crate::log::journal;
use crate::log::read::Entries;
use crate::server::error::Result;
use crate::server::memory::Gather;

/// Their stamps. Others' can be many, and no more sights are told apart than [`SIGHTS`]: so the first ones are kept, and the last.
#[derive(Clone, Default, Debug, PartialEq)]
pub(super) struct Ends {
    first: BTreeSet<i64>,
    last: Option<i64>,
    own: bool,
}

impl Ends {
    /// `own`: the stamp of the running transaction.
    pub fn add(&mut self, stamp: i64, own: Option<i64>) {
        self.own |= own == Some(stamp);
        self.last = self.last.max(Some(stamp));
        if self.first.len() < SIGHTS || self.first.last().is_some_and(|last| stamp < *last) {
            self.first.insert(stamp);
            if self.first.len() > SIGHTS {
                self.first.pop_last();
            }
        }
    }

    /// Would adding this one change nothing? It stays so, whatever is added.
    pub fn knows(&self, stamp: i64, own: Option<i64>) -> bool {
        let full = self.first.len() == SIGHTS && self.first.last().is_some_and(|last| *last < stamp);
        let within = full && self.last.is_some_and(|last| stamp <= last);
        (within || self.first.contains(&stamp)) && (self.own || own != Some(stamp))
    }

    pub fn add_all(&mut self, others: &Ends) {
        let stamps = others.first.iter().copied().chain(others.last);
        stamps.for_each(|stamp| self.add(stamp, None));
        self.own |= others.own;
    }

    pub fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// Is one of them the running transaction's?
    pub fn has_own(&self) -> bool {
        self.own
    }

    /// In order. What lies between the last but one and the last cannot be told apart.
    pub fn stamps(&self) -> Vec<i64> {
        let beyond = self.last.filter(|last| !self.first.contains(last));
        self.first.iter().copied().chain(beyond).gather()
    }
}

/// What ends a sight, whomever it concerned, of an access table.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Unjudged {
    All,
    /// (The rows that hung on a deleted one have entries of their own.)
    OfParent,
    Births,
}

impl Unjudged {
    pub fn of(self, entries: &Entries) -> Result<Ends> {
        let (mut ends, own) = (Ends::default(), journal::own_stamp());
        entries.each(&mut |_, changes| {
            for entry in changes.iter().filter(|entry| !entry.is_notice()) {
                let counts = match entry.op {
                    Op::Insert => true,
                    Op::Update => self != Unjudged::Births && entry.image.is_some(),
                    Op::Delete | Op::Reset => self == Unjudged::All,
                };
                if counts {
                    ends.add(entry.stamp, own);
                }
            }
            Ok(true)
        })?;
        Ok(ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(stamps: impl Iterator<Item = i64>) -> Ends {
        let mut ends = Ends::default();
        stamps.for_each(|stamp| ends.add(stamp, Some(42)));
        ends
    }

    #[test]
    fn the_first_and_the_last_are_kept() {
        let mut expected: Vec<i64> = (1..=SIGHTS as i64).collect();
        assert_eq!(of((1..=SIGHTS as i64).rev()).stamps(), expected);
        expected.push(1_000);
        assert_eq!(of((1..=1_000).rev()).stamps(), expected);
        assert_eq!(of(1..=1_000).stamps(), expected);
        assert!(of(1..=1_000).has_own() && !of(1..=41).has_own());
    }

    #[test]
    fn two_lots_are_one_of_both() {
        let mut both = of((1..=1_000).step_by(2));
        both.add_all(&of((2..=990).step_by(2)));
        assert_eq!(both.stamps(), of((1..=999).chain([999])).stamps());
        assert!(both.has_own() && !both.is_empty() && Ends::default().is_empty());
    }

    proptest! {
        #[test]
        fn what_is_known_adds_nothing(
            stamps in proptest::collection::vec(0..200i64, 0..150),
            stamp in 0..200i64,
            own in proptest::option::of(0..200i64),
            more in proptest::collection::vec(0..200i64, 0..150),
        ) {
            let mut ends = Ends::default();
            stamps.into_iter().for_each(|stamp| ends.add(stamp, own));
            let mut with = ends.clone();
            with.add(stamp, own);
            let known = ends.knows(stamp, own);
            prop_assert_eq!(known, with == ends);
            more.into_iter().for_each(|stamp| ends.add(stamp, own));
            prop_assert!(!known || ends.knows(stamp, own));
        }
    }
}
