//! What an iterator gives, in a collection: `collect` and `extend` that ask for memory.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, Hash};

use super::{asking, heed_memory, must, out_of_memory, room};

pub trait Gather: Iterator + Sized {
    /// As `collect` does; without the memory, an ERROR.
    fn gather<C: Gathers<Self::Item>>(self) -> C {
        C::of(self)
    }

    /// As `unzip` does.
    fn gather_pairs<A, B>(self) -> (Vec<A>, Vec<B>)
    where
        Self: Iterator<Item = (A, B)>,
    {
        let mut both = (Vec::new(), Vec::new());
        for (a, b) in self {
            heed_memory();
            both.0.add(a);
            both.1.add(b);
        }
        both
    }

    /// As `partition` does.
    fn gather_parts(self, is_first: impl Fn(&Self::Item) -> bool) -> (Vec<Self::Item>, Vec<Self::Item>) {
        let mut both = (Vec::new(), Vec::new());
        for item in self {
            heed_memory();
            if is_first(&item) {
                both.0.add(item);
            } else {
                both.1.add(item);
            }
        }
        both
    }
}

impl<I: Iterator> Gather for I {}

/// Adds what an iterator gives, as `extend` does; without the memory, an ERROR.
pub fn extend<T>(all: &mut impl Grows<T>, more: impl IntoIterator<Item = T>) {
    let more = more.into_iter();
    all.make_room(more.size_hint().0);
    for item in more {
        heed_memory();
        all.add(item);
    }
}

/// A collection that can be made so.
pub trait Gathers<T>: Sized {
    fn of(items: impl Iterator<Item = T>) -> Self;
}

/// One that grows item by item.
pub trait Grows<T>: Default {
    /// For so many more.
    fn make_room(&mut self, more: usize);
    fn add(&mut self, item: T);
}

impl<T, C: Grows<T>> Gathers<T> for C {
    fn of(items: impl Iterator<Item = T>) -> Self {
        let mut all = C::default();
        extend(&mut all, items);
        all
    }
}

impl<T, E, C: Gathers<T>> Gathers<Result<T, E>> for Result<C, E> {
    fn of(items: impl Iterator<Item = Result<T, E>>) -> Self {
        let mut failed = None;
        let all = C::of(items.map_while(|item| item.map_err(|e| failed = Some(e)).ok()));
        failed.map_or(Ok(all), Err)
    }
}

impl<T, C: Gathers<T>> Gathers<Option<T>> for Option<C> {
    fn of(items: impl Iterator<Item = Option<T>>) -> Self {
        let mut missing = false;
        let all = C::of(items.map_while(|item| {
            missing |= item.is_none();
            item
        }));
        (!missing).then_some(all)
    }
}

impl<T> Grows<T> for Vec<T> {
    fn make_room(&mut self, more: usize) {
        must(room(self, more));
    }
    #[inline(always)]
    fn add(&mut self, item: T) {
        must(room(self, 1));
        self.push(item);
    }
}

fn for_a_table(room: Result<(), std::collections::TryReserveError>) {
    must(room.map_err(|_| out_of_memory("for a table")));
}

impl<K: Eq + Hash, V, S: BuildHasher + Default> Grows<(K, V)> for HashMap<K, V, S> {
    fn make_room(&mut self, more: usize) {
        for_a_table(asking(|| self.try_reserve(more)));
    }
    #[inline(always)]
    fn add(&mut self, (key, value): (K, V)) {
        if self.len() == self.capacity() {
            self.make_room(1);
        }
        self.insert(key, value);
    }
}

impl<T: Eq + Hash, S: BuildHasher + Default> Grows<T> for HashSet<T, S> {
    fn make_room(&mut self, more: usize) {
        for_a_table(asking(|| self.try_reserve(more)));
    }
    #[inline(always)]
    fn add(&mut self, item: T) {
        if self.len() == self.capacity() {
            self.make_room(1);
        }
        self.insert(item);
    }
}

// The nodes of trees are small.

impl<K: Ord, V> Grows<(K, V)> for BTreeMap<K, V> {
    fn make_room(&mut self, _more: usize) {}
    fn add(&mut self, (key, value): (K, V)) {
        self.insert(key, value);
    }
}

impl<T: Ord> Grows<T> for BTreeSet<T> {
    fn make_room(&mut self, _more: usize) {}
    fn add(&mut self, item: T) {
        self.insert(item);
    }
}

impl<T: AsRef<str>> Grows<T> for String {
    fn make_room(&mut self, _more: usize) {}
    fn add(&mut self, item: T) {
        let item = item.as_ref();
        must(asking(|| self.try_reserve(item.len())).map_err(|_| out_of_memory("for a text")));
        self.push_str(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathers_as_collect_does() {
        let numbers = || (0..1_000).map(|n| n * 7 % 500);
        assert_eq!(numbers().gather::<Vec<i32>>(), numbers().collect::<Vec<i32>>());
        assert_eq!(numbers().gather::<HashSet<i32>>(), numbers().collect::<HashSet<i32>>());
        assert_eq!(numbers().gather::<BTreeSet<i32>>(), numbers().collect::<BTreeSet<i32>>());
        let pairs = || numbers().enumerate().map(|(at, n)| (n, at));
        assert_eq!(pairs().gather::<HashMap<i32, usize>>(), pairs().collect::<HashMap<i32, usize>>());
        assert_eq!(pairs().gather::<BTreeMap<i32, usize>>(), pairs().collect::<BTreeMap<i32, usize>>());
        let texts = || numbers().map(|n| n.to_string());
        assert_eq!(texts().gather::<String>(), texts().collect::<String>());
        let few = |bad: i32| (0..9).map(move |n| if n == bad { Err(n) } else { Ok(n) });
        for bad in [3, 10] {
            assert_eq!(few(bad).gather::<Result<Vec<i32>, i32>>(), few(bad).collect::<Result<Vec<i32>, i32>>());
            let maybe = || few(bad).map(Result::ok);
            assert_eq!(maybe().gather::<Option<Vec<i32>>>(), maybe().collect::<Option<Vec<i32>>>());
        }
        assert_eq!(pairs().gather_pairs(), pairs().unzip());
        assert_eq!(numbers().gather_parts(|n| n % 2 == 0), numbers().partition(|n| n % 2 == 0));
    }
}
