//! A part of the log, from one stamp to another: what a page of a long backlog is made of.

use std::collections::BTreeMap;

use pgrx::{pg_sys, IntoDatum};

use super::{scan_key, stamp_from, stamp_is, Early, Entries, EntryFilter, Log, Scopes};
use crate::log::change::{column, Op, NO_BUCKET};
use crate::log::{clock, journal};
use crate::server::error::Result;
use crate::server::memory::{self, Gather};

/// The stamps from one on, and below another.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Window {
    pub from: i64,
    /// None: all there are.
    pub below: Option<i64>,
    /// The running transaction's own entries are in it, which have no stamp yet.
    pub own: bool,
}

/// What an entry that is about several keys counts for (journal/write.rs puts about as many into one).
const SHARED: usize = 30;

impl Window {
    pub fn since(from: i64) -> Window {
        Window { from, below: None, own: true }
    }

    /// Is this number of entries, which stands for this stamp, in it?
    pub(super) fn has(self, (number, stamp): Early) -> bool {
        match journal::own_stamp() {
            Some(own) if own == number => self.own,
            _ => self.reaches(stamp),
        }
    }

    fn reaches(self, stamp: i64) -> bool {
        self.from <= stamp && self.below.is_none_or(|below| stamp < below)
    }

    /// Is it to be looked for by its own, because the number is none of these stamps?
    pub(super) fn has_beside(self, early: Early) -> bool {
        self.has(early) && !self.reaches(early.0)
    }

    pub(super) fn keys(self) -> Vec<pg_sys::ScanKeyData> {
        let below =
            |stamp: i64| scan_key(column::STAMP, pg_sys::BTLessStrategyNumber, pg_sys::F_INT8LT, stamp.into_datum());
        std::iter::once(stamp_from(self.from)).chain(self.below.map(below)).gather()
    }
}

/// Where a window ends.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct WindowEnd {
    pub below: i64,
    /// All that is in it is of one transaction.
    pub alone: bool,
    /// The last transaction in it would fill one by itself.
    pub large: bool,
}

impl Log<'_> {
    /// The entries of `relation` in this window, of the ids that come after this one; with `inner` only those of keys that have one that is.
    pub fn within(
        &self,
        relation: pg_sys::Oid,
        window: Window,
        scopes: Scopes,
        after: Option<&str>,
        inner: bool,
    ) -> Result<Entries> {
        let mut entries = if inner { Entries::of_inner() } else { Entries::new() };
        let wanted = |key: &str| after.is_none_or(|after| key > after);
        let filter = EntryFilter { wanted: Some(&wanted), ..EntryFilter::default() };
        self.read(relation, window, scopes, filter, &mut |entry| entries.add(entry, self))?;
        entries.complete();
        Ok(entries)
    }

    /// Where a window from this stamp on has to end to hold about so many entries: those of one transaction stay together. None where
    /// there are fewer.
    pub fn end_of(
        &self,
        relation: pg_sys::Oid,
        from: i64,
        scopes: Scopes,
        entries: usize,
    ) -> Result<Option<WindowEnd>> {
        let mut found = First { wanted: entries, counted: 0, by_stamp: BTreeMap::new() };
        let own = journal::own_stamp();
        self.each_bucket(scopes, &mut |bucket, _| {
            self.tuples(relation, bucket, vec![stamp_from(from)], |tuple| {
                // SAFETY: a tuple of snapsync.change.
                let (number, size) = unsafe {
                    let number = self.value(tuple, column::STAMP).map_or(0, |d| d.value() as i64);
                    (number, self.size_of(tuple))
                };
                // What a number stands for is larger.
                if found.is_past(number) {
                    return Ok(false);
                }
                if Some(number) != own {
                    found.add(self.stamp_of(number)?, size);
                }
                Ok(true)
            })?;
            // Of transactions that were under way when the window's first stamp was drawn.
            for &(number, stamp) in self.under_way(from)?.iter() {
                memory::heed();
                let mut count = 0;
                if !found.is_past(stamp) {
                    self.tuples(relation, bucket, vec![stamp_is(number)], |tuple| {
                        // SAFETY: a tuple of snapsync.change.
                        count += unsafe { self.size_of(tuple) };
                        Ok(count < entries)
                    })?;
                }
                if count > 0 {
                    found.add(stamp, count);
                }
            }
            Ok(())
        })?;
        Ok(found.end())
    }

    /// About how many keys is it about?
    ///
    /// # Safety
    /// A tuple of snapsync.change.
    pub(super) unsafe fn size_of(&self, tuple: pg_sys::HeapTuple) -> usize {
        // SAFETY: see above.
        match unsafe { self.value(tuple, column::KEY) } {
            Some(_) => 1,
            None => SHARED,
        }
    }

    /// About how many keys the entries of `relation` since this stamp are about, counted as far as so many.
    pub fn count_since(&self, relation: pg_sys::Oid, from: i64, most: usize) -> Result<usize> {
        let mut count = 0;
        let mut look = |stamps| {
            self.tuples(relation, None, vec![stamps], |tuple| {
                // SAFETY: a tuple of snapsync.change.
                count += unsafe { self.size_of(tuple) };
                Ok(count < most)
            })
        };
        look(stamp_from(from))?;
        // (Of each that is looked for when there are enough an entry is read.)
        self.under_way(from)?.iter().try_for_each(|(number, _)| look(stamp_is(*number)))?;
        Ok(count)
    }

    /// From which stamp on there are no more than about so many entries to look at.
    pub fn newest(&self, relation: pg_sys::Oid, most: usize) -> Result<i64> {
        let (mut from, mut left) = (clock::FIRST, most);
        let backward = pg_sys::ScanDirection::BackwardScanDirection;
        let mut goes_on = |tuple| {
            // SAFETY: a tuple of snapsync.change.
            left = left.saturating_sub(match unsafe { self.size_of(tuple) } {
                // As `decode` counts it.
                SHARED => 1 + SHARED / 10,
                one => one,
            });
            left > 0
        };
        self.tuples_towards(backward, relation, None, Vec::new(), |tuple| {
            let more = goes_on(tuple);
            if !more {
                // Of this number there may be others.
                // SAFETY: a tuple of snapsync.change.
                from = unsafe { self.value(tuple, column::STAMP) }.map_or(from, |d| d.value() as i64 + 1);
            }
            Ok(more)
        })?;
        // What stands for a stamp from there on, and is further back. The running transaction's own it always reads.
        for (number, stamp) in self.under_way(from)?.iter() {
            let mut more = true;
            self.tuples(relation, None, vec![stamp_is(*number)], |tuple| {
                more = goes_on(tuple);
                Ok(more)
            })?;
            if !more {
                from = from.max(stamp + 1);
            }
        }
        Ok(from)
    }

    /// Has the collection been reset since this stamp?
    pub fn was_reset(&self, relation: pg_sys::Oid, from: i64) -> Result<bool> {
        let mut found = false;
        let mut look = |stamps| {
            self.tuples(relation, Some(NO_BUCKET), vec![stamps], |tuple| {
                found |= self.is_reset(tuple);
                Ok(!found)
            })
        };
        look(stamp_from(from))?;
        let numbers = self.under_way(from)?;
        let own = journal::own_stamp().filter(|own| *own < from);
        numbers.iter().map(|(number, _)| *number).chain(own).try_for_each(|number| look(stamp_is(number)))?;
        Ok(found)
    }

    /// Is a reset the first of what is left of the log from this stamp on? So it is where what came before was pruned.
    pub fn begins_with_reset(&self, relation: pg_sys::Oid, from: i64) -> Result<bool> {
        let mut found = false;
        self.tuples(relation, Some(NO_BUCKET), vec![stamp_from(from)], |tuple| {
            found = self.is_reset(tuple);
            Ok(false)
        })?;
        Ok(found)
    }

    fn is_reset(&self, tuple: pg_sys::HeapTuple) -> bool {
        // SAFETY: a tuple of snapsync.change.
        unsafe { self.value(tuple, column::OP) }.is_some_and(|op| op.value() as u8 == Op::Reset as u8)
    }
}

/// The first entries, by stamp, as many as are wanted.
struct First {
    wanted: usize,
    counted: usize,
    by_stamp: BTreeMap<i64, usize>,
}

impl First {
    /// Do entries with this stamp come behind those?
    fn is_past(&self, stamp: i64) -> bool {
        self.counted >= self.wanted && self.by_stamp.last_key_value().is_some_and(|(last, _)| stamp > *last)
    }

    fn add(&mut self, stamp: i64, count: usize) {
        if self.is_past(stamp) {
            return;
        }
        *self.by_stamp.entry(stamp).or_default() += count;
        self.counted += count;
        while let Some(last) = self.by_stamp.last_entry() {
            if self.counted - last.get() < self.wanted {
                break;
            }
            self.counted -= last.remove();
        }
    }

    fn end(&self) -> Option<WindowEnd> {
        let (last, count) = self.by_stamp.last_key_value().filter(|_| self.counted >= self.wanted)?;
        Some(WindowEnd { below: last + 1, alone: self.by_stamp.len() == 1, large: *count >= self.wanted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_window_ends_with_the_entry_that_fills_it(entries in proptest::collection::vec((1i64..50, 1usize..5), 0..60), wanted in 1usize..40) {
            let mut first = First { wanted, counted: 0, by_stamp: BTreeMap::new() };
            for (stamp, count) in &entries {
                first.add(*stamp, *count);
            }
            let below = |end: i64| entries.iter().filter(|(stamp, _)| *stamp < end).map(|(_, count)| count).sum::<usize>();
            match first.end() {
                None => prop_assert!(below(i64::MAX) < wanted),
                Some(WindowEnd { below: end, alone, large }) => {
                    prop_assert!(below(end) >= wanted && below(end - 1) < wanted);
                    prop_assert_eq!(alone, below(end - 1) == 0);
                    prop_assert_eq!(large, below(end) - below(end - 1) >= wanted);
                }
            }
            prop_assert!(first.by_stamp.len() <= wanted);
        }
    }
}
