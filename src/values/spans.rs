//! Stamps at which something happened, in so few words that they fit into a token.

use crate::server::memory::Gather;

/// In order, and apart: from one stamp to another, both included. Where there would be too many, the nearest two become one with what lies between.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spans(pub(super) Vec<(i64, i64)>);

const MOST: usize = 16;

impl Spans {
    pub fn add(&mut self, stamp: i64) {
        let spans = &mut self.0;
        let at = spans.partition_point(|(_, last)| *last < stamp);
        if spans.get(at).is_some_and(|(first, _)| *first <= stamp) {
            return;
        }
        spans.insert(at, (stamp, stamp));
        if spans.len() > MOST {
            let apart = |at: &usize| spans[at + 1].0.saturating_sub(spans[*at].1);
            if let Some(nearest) = (0..spans.len() - 1).min_by_key(apart) {
                (_, spans[nearest].1) = spans.remove(nearest + 1);
            }
        }
    }

    /// What of them lies below this stamp.
    pub fn below(&self, stamp: i64) -> Spans {
        let spans = self.0.iter().filter(|(first, _)| *first < stamp);
        Spans(spans.map(|(first, last)| (*first, stamp.saturating_sub(1).min(*last))).gather())
    }

    /// What of them lies from this stamp on.
    pub fn since(&self, stamp: i64) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.0.iter().filter(move |(_, last)| stamp <= *last).map(move |(first, last)| (stamp.max(*first), *last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(stamps: impl IntoIterator<Item = i64>) -> Spans {
        let mut spans = Spans::default();
        stamps.into_iter().for_each(|stamp| spans.add(stamp));
        spans
    }

    proptest! {
        #[test]
        fn all_that_was_added_is_there(stamps in proptest::collection::vec(0..200i64, 0..60), cut in 0..200i64) {
            let spans = of(stamps.iter().copied());
            prop_assert!(spans.0.len() <= MOST);
            prop_assert!(spans.0.iter().all(|(first, last)| first <= last));
            prop_assert!(spans.0.windows(2).all(|two| two[0].1 < two[1].0));
            let has = |spans: &Spans, stamp: i64| spans.since(stamp).any(|(first, last)| first <= stamp && stamp <= last);
            for stamp in stamps.iter().copied() {
                prop_assert!(has(&spans, stamp));
                prop_assert_eq!(has(&spans.below(cut), stamp), stamp < cut);
            }
            prop_assert!(spans.below(cut).since(cut).next().is_none());
            prop_assert!(spans.since(cut).all(|(first, last)| cut <= first && first <= last));
        }
    }

    #[test]
    fn few_stay_as_they_are_and_of_many_the_nearest_become_one() {
        let far = (0..MOST as i64).map(|n| n * 1_000);
        let mut expected: Vec<_> = far.clone().map(|stamp| (stamp, stamp)).collect();
        assert_eq!(of(far.clone()).0, expected);
        expected[3].1 = 3_010;
        assert_eq!(of(far.chain([3_010])).0, expected);
    }
}
