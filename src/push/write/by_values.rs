//! What rows have to do with each other by the values of keys: those that are sent, and those that are stored.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::iter::zip;

use serde::Deserialize;

use super::Work;
use crate::collections::catalog::Column;
use crate::collections::lookup;
use crate::push::item::{by_target, Item, What};
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::server::spi::{self, Mode};
use crate::server::{pg, subxact};

/// A foreign key, or one by which values are unique: then it is the table's own.
#[derive(Deserialize, Clone)]
pub(super) struct ValueKey {
    pub(super) child: u32,
    pub(super) parent: u32,
    pub(super) columns: Vec<String>,
    pub(super) referenced: Vec<String>,
    pub(super) unique: bool,
    /// What refers by it is deleted with what it refers to.
    pub(super) cascades: bool,
    /// Those of the columns, on either side, that a default fills.
    pub(super) filled: Vec<String>,
    pub(super) filled_there: Vec<String>,
    /// The numbers of the columns, on either side: also such as are not synced.
    numbers: Vec<i16>,
    numbers_there: Vec<i16>,
}

impl ValueKey {
    /// Where it refers to the id and more (the tenant's, which a default fills and no client sends), the id says which row is meant.
    fn leave_id(&mut self, id: &[Column]) {
        let is_of_id = |name: &String| id.iter().any(|column| column.name == *name);
        if id.is_empty() || !id.iter().all(|column| self.referenced.contains(&column.name)) {
            return;
        }
        let kept: Vec<bool> = self.referenced.iter().map(is_of_id).gather();
        let of = |names: &mut Vec<String>| retain(names, &kept);
        [&mut self.columns, &mut self.referenced].into_iter().for_each(of);
        [&mut self.numbers, &mut self.numbers_there].into_iter().for_each(|numbers| retain(numbers, &kept));
    }
}

/// Leaves what is at these places.
fn retain<T>(all: &mut Vec<T>, kept: &[bool]) {
    let mut kept = kept.iter();
    all.retain(|_| kept.next() == Some(&true));
}

/// The keys within these tables. (Keys of partitions are the root's.)
const KEYS: &str = include_str!("by_values/keys.sql");

impl Work<'_, '_> {
    /// Asked for once, if at all.
    pub(super) fn keys(&self) -> Result<&[ValueKey]> {
        if let Some(known) = self.keys.get() {
            return Ok(known);
        }
        let relations: Vec<_> = self.targets.iter().map(|target| target.collection.relation).gather();
        let mut keys: Vec<ValueKey> = spi::typed(&spi::query_now(KEYS, &[spi::arg(relations)])?)?;
        for key in keys.iter_mut().filter(|key| !key.unique) {
            let parent = self.targets.iter().find(|target| target.collection.relation.to_u32() == key.parent);
            parent.iter().for_each(|parent| key.leave_id(&parent.collection.key));
        }
        Ok(self.keys.get_or_init(|| keys))
    }

    /// What the push has in these columns of the row; None where it has nothing, or NULL, in one of them.
    pub(super) fn sent(&self, item: &Item, columns: &[String]) -> Option<Vec<String>> {
        all(columns, |column| self.value(item, column).flatten())
    }

    /// What stands in them when that is written, as far as it is known (what a default fills is not); None where one is NULL then, or nothing is known.
    pub(super) fn after(
        &self,
        item: &Item,
        columns: &[String],
        filled: &[String],
        stored: &StoredValues,
    ) -> Option<Vec<Option<String>>> {
        let after = |column: &String| match self.value(item, column) {
            Some(value) => value.map(Some).ok_or(()),
            None if !item.changes_row() && filled.contains(column) => Ok(None),
            None => stored.value(item, column).map(Some).ok_or(()),
        };
        let after = columns.iter().map(after).gather::<std::result::Result<Vec<_>, ()>>().ok()?;
        after.iter().any(Option::is_some).then_some(after)
    }

    /// The same of what the push writes something to: what it takes, or refers to.
    pub(super) fn taken(
        &self,
        item: &Item,
        (columns, filled): (&[String], &[String]),
        stored: &StoredValues,
    ) -> Option<Vec<Option<String>>> {
        self.writes_any(item, columns).then(|| self.after(item, columns, filled, stored)).flatten()
    }

    /// Is something written to one of them?
    pub(super) fn writes_any(&self, item: &Item, columns: &[String]) -> bool {
        columns.iter().any(|column| self.value(item, column).is_some())
    }

    /// Is something else written to one of them than what stands there, as far as that is known?
    pub(super) fn moves(&self, item: &Item, columns: &[String], stored: &StoredValues) -> bool {
        columns.iter().any(|column| self.value(item, column).is_some_and(|sent| sent != stored.value(item, column)))
    }

    /// What is written to this column; None: nothing.
    fn value(&self, item: &Item, column: &str) -> Option<Option<String>> {
        let target = &self.targets[item.target];
        let (key, plan) = (&target.collection.key, &target.plan);
        if item.what == What::Delete {
            return None;
        }
        if let Some(place) = key.iter().position(|k| k.name == column) {
            return Some(plan.key_parts(item.id(self.targets)).into_iter().nth(place));
        }
        let is_written = match item.what {
            What::Update(group) | What::Mark(group) | What::Revive(group) => {
                target.updates[group as usize].columns.contains(&column)
            }
            What::Insert(_) | What::Delete => true,
        };
        plan.raw(&plan.records[item.row as usize], column).filter(|_| is_written).map(plain)
    }

    /// What stands in these keys' columns of the rows that are changed or deleted, as far as the caller may read it.
    pub(super) fn stored(&self, items: &[Item], keys: &[ValueKey]) -> Result<StoredValues> {
        let mut stored = StoredValues::default();
        let there = items.iter().copied().filter(|item| item.changes_row() || item.what == What::Delete);
        for (index, items) in by_target(there) {
            let target = &self.targets[index];
            let collection = &target.collection;
            let relation = collection.relation.to_u32();
            let mut columns: BTreeMap<&String, i16> = BTreeMap::new();
            for key in keys {
                let of = |names, numbers: &[i16]| -> Vec<_> { zip(names, numbers.iter().copied()).gather() };
                let own = if key.child == relation { of(&key.columns, &key.numbers) } else { Vec::new() };
                let there = if key.parent == relation { of(&key.referenced, &key.numbers_there) } else { Vec::new() };
                memory::extend(&mut columns, own.into_iter().chain(there));
            }
            columns.retain(|_, number| pg::may_select(collection.relation, *number));
            if columns.is_empty() || !target.may_read_key() {
                continue;
            }
            let values: Vec<String> = columns.keys().map(|name| format!("t.{}", pg::ident(name))).gather();
            let ids: Vec<&str> = items.iter().map(|item| item.id(self.targets)).gather();
            let (rows, args) = target.id_rows(&ids);
            let sql = format!(
                "SELECT r.n, pg_catalog.json_build_array({}) FROM {}",
                values.join(", "),
                lookup::join(collection, &rows)
            );
            let read = || {
                let _now = pg::ActiveSnapshot::take();
                spi::query(&sql, &args, Mode::Read)
            };
            // (What a policy raises is no reason to fail: then nothing is known.)
            let rows = match subxact::run(read) {
                Err(e) if subxact::is_transient(&e) => return Err(e),
                read => read.unwrap_or_default(),
            };
            for row in rows {
                memory::heed();
                let values: Vec<&serde_json::value::RawValue> =
                    serde_json::from_str(row.text(1).unwrap_or("[]")).unwrap_or_default();
                let item = row.i64(0).and_then(|n| items.get(n as usize - 1));
                let Some(item) = item else { continue };
                let plain =
                    values.iter().zip(columns.keys()).map(|(value, name)| (name.to_string(), plain(value.get())));
                let known = plain.filter_map(|(name, value)| Some((name, value?)));
                stored.values.insert(*item, known.gather());
            }
        }
        Ok(stored)
    }
}

/// By their columns.
#[derive(Default)]
pub(super) struct StoredValues {
    values: HashMap<Item, HashMap<String, String>>,
}

impl StoredValues {
    pub(super) fn of(&self, item: &Item, columns: &[String]) -> Option<Vec<String>> {
        all(columns, |column| self.value(item, column))
    }

    fn value(&self, item: &Item, column: &str) -> Option<String> {
        self.values.get(item)?.get(column).cloned()
    }
}

/// By values of some columns: a place in a list.
type Places = HashMap<Vec<String>, usize>;

/// Whose some values are.
pub(super) struct Holders<T> {
    all: Vec<(Vec<String>, T)>,
    /// By those of the columns that are asked for: places among all.
    by_known: RefCell<HashMap<Vec<bool>, Places>>,
}

impl<T> Default for Holders<T> {
    fn default() -> Self {
        Holders { all: Vec::new(), by_known: RefCell::default() }
    }
}

impl<T: Copy> Holders<T> {
    pub(super) fn add(&mut self, values: Vec<String>, holder: T) {
        self.all.push((values, holder));
        self.by_known.get_mut().clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Who has these values, as far as they are known.
    pub(super) fn find(&self, known: &[Option<String>]) -> Option<(&[String], T)> {
        let mask: Vec<bool> = known.iter().map(Option::is_some).gather();
        let mut by_known = self.by_known.borrow_mut();
        let places = by_known.entry(mask.iter().copied().gather()).or_insert_with(|| {
            let asked = |values: &[String]| -> Vec<String> {
                memory::heed();
                values.iter().zip(&mask).filter(|(_, asked)| **asked).map(|(value, _)| value.clone()).gather()
            };
            self.all.iter().enumerate().map(|(place, (values, _))| (asked(values), place)).gather()
        });
        let asked: Vec<String> = known.iter().flatten().cloned().gather();
        let (values, holder) = &self.all[*places.get(&asked)?];
        Some((values, *holder))
    }
}

/// What there is of each column; None where one has nothing.
fn all(columns: &[String], value: impl Fn(&str) -> Option<String>) -> Option<Vec<String>> {
    columns.iter().map(|column| value(column).ok_or(())).gather::<std::result::Result<_, ()>>().ok()
}

/// A value without the quotes that texts have; None: NULL.
fn plain(raw: &str) -> Option<String> {
    match raw {
        "null" => None,
        _ if raw.starts_with('"') => serde_json::from_str(raw).ok(),
        _ => Some(raw.into()),
    }
}
