//! Rows that can be written together only, as far as keys say so: new rows that refer to each other, rows that did and are deleted, rows that pass on a unique value in a circle.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use super::Work;
use crate::collections::catalog::Column;
use crate::collections::lookup;
use crate::push::apply::{Applied, Outcome};
use crate::push::item::{by_target, Item, What};
use crate::push::order;
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::server::spi::{self, Mode};
use crate::server::{pg, subxact};

/// A foreign key, or one by which values are unique: then it is the table's own.
#[derive(Deserialize)]
pub(super) struct CircleKey {
    child: u32,
    parent: u32,
    columns: Vec<String>,
    referenced: Vec<String>,
    unique: bool,
}

/// The keys within these tables. (Keys of partitions are the root's.)
const KEYS: &str = include_str!("circles/keys.sql");

impl Work<'_, '_> {
    /// Writes what could not be written alone, for it refers to each other in a circle.
    pub(super) fn write_circles(&self, outcome: &mut Outcome) -> Result<()> {
        let failed: Vec<Item> = outcome.failed.iter().map(|(item, _)| *item).gather();
        let circles = self.circles(&failed)?;
        let places: Vec<usize> = (0..circles.len()).gather();
        let mut written = HashSet::new();
        let work = |places: &[usize]| -> Result<(Vec<Item>, Applied)> {
            let items: Vec<Item> = places.iter().flat_map(|place| &circles[*place]).copied().gather();
            let applied = self.writer.apply(&items, true)?;
            Ok((items, applied))
        };
        if !circles.is_empty() {
            subxact::in_halves(&places, &work, &mut |tried| {
                if let Ok((items, applied)) = tried {
                    memory::extend(&mut outcome.kept, applied.kept);
                    memory::extend(&mut written, items);
                }
                Ok(true)
            })?;
        }
        outcome.failed.retain(|(item, _)| !written.contains(item));
        Ok(())
    }

    /// The circles among these items, in an order in which each comes after what it hangs on. (A value that cannot be read, or is sent otherwise than it is stored, ties nothing.)
    pub(super) fn circles(&self, items: &[Item]) -> Result<Vec<Vec<Item>>> {
        if items.len() < 2 {
            return Ok(Vec::new());
        }
        let keys = self.keys()?;
        let stored = self.stored(items, keys)?;
        let relation = |item: &Item| self.targets[item.target].collection.relation.to_u32();
        let mut edges: Vec<Vec<usize>> = memory::filled(Vec::new(), items.len());
        for key in keys {
            // What another one must come before, or with: what is created under the values, what gives them up.
            let mut by_values: HashMap<(bool, Vec<String>), Vec<usize>> = HashMap::new();
            for (place, item) in items.iter().enumerate().filter(|(_, item)| relation(item) == key.parent) {
                memory::heed();
                let deletes = item.what == What::Delete;
                let values = match key.unique || deletes {
                    true => stored.of(item, &key.referenced),
                    false if item.changes_row() => None,
                    false => self.sent(item, &key.referenced),
                };
                if let Some(values) = values {
                    by_values.entry((deletes && !key.unique, values)).or_default().push(place);
                }
            }
            for (place, item) in items.iter().enumerate().filter(|(_, item)| relation(item) == key.child) {
                memory::heed();
                let deletes = item.what == What::Delete;
                let values = match deletes {
                    true if key.unique => None,
                    true => stored.of(item, &key.columns),
                    false => self.sent(item, &key.columns),
                };
                let others = values.and_then(|values| by_values.get(&(deletes, values))).into_iter().flatten();
                memory::extend(&mut edges[place], others.copied().filter(|other| *other != place));
            }
        }
        let circles = order::components(&edges).into_iter().filter(|circle| circle.len() > 1);
        Ok(circles.map(|circle| circle.into_iter().map(|place| items[place]).gather()).gather())
    }

    /// Asked for once, if at all.
    fn keys(&self) -> Result<&[CircleKey]> {
        if let Some(known) = self.keys.get() {
            return Ok(known);
        }
        let relations: Vec<_> = self.targets.iter().map(|target| target.collection.relation).gather();
        let keys = spi::typed(&spi::query_now(KEYS, &[spi::arg(relations)])?)?;
        Ok(self.keys.get_or_init(|| keys))
    }

    /// What the push has in these columns of the row; None where it has nothing, or NULL, in one of them.
    fn sent(&self, item: &Item, columns: &[String]) -> Option<Vec<String>> {
        let target = &self.targets[item.target];
        let (key, plan) = (&target.collection.key, &target.plan);
        let record = &plan.records[item.row as usize];
        let value = |column: &String| match key.iter().position(|k| k.name == *column) {
            Some(place) => plan.key_parts(item.id(self.targets)).into_iter().nth(place),
            None => plan.raw(record, column).and_then(plain),
        };
        columns.iter().map(|column| value(column).ok_or(())).gather::<std::result::Result<_, ()>>().ok()
    }

    /// What stands in these keys' columns of the rows that are changed or deleted, as far as the caller may read it.
    fn stored(&self, items: &[Item], keys: &[CircleKey]) -> Result<StoredValues> {
        let mut stored = StoredValues::default();
        let there = items.iter().copied().filter(|item| item.changes_row() || item.what == What::Delete);
        for (index, items) in by_target(there) {
            let target = &self.targets[index];
            let collection = &target.collection;
            let relation = collection.relation.to_u32();
            let is_asked = |column: &&Column| {
                let of_key = |key: &CircleKey| {
                    key.child == relation && key.columns.contains(&column.name)
                        || key.parent == relation && key.referenced.contains(&column.name)
                };
                keys.iter().any(of_key) && pg::may_select(collection.relation, column.attnum)
            };
            let columns: Vec<&Column> = collection.columns.iter().filter(is_asked).gather();
            if columns.is_empty() || !target.may_read_key() {
                continue;
            }
            let values: Vec<String> = columns.iter().map(|c| format!("t.{}", c.ident)).gather();
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
                    values.iter().zip(&columns).map(|(value, column)| (column.name.clone(), plain(value.get())));
                let known = plain.filter_map(|(name, value)| Some((name, value?)));
                stored.values.insert(*item, known.gather());
            }
        }
        Ok(stored)
    }
}

/// By their columns.
#[derive(Default)]
struct StoredValues {
    values: HashMap<Item, HashMap<String, String>>,
}

impl StoredValues {
    fn of(&self, item: &Item, columns: &[String]) -> Option<Vec<String>> {
        let values = self.values.get(item)?;
        columns.iter().map(|column| values.get(column).cloned().ok_or(())).gather::<std::result::Result<_, ()>>().ok()
    }
}

/// A value without the quotes that texts have; None: NULL.
fn plain(raw: &str) -> Option<String> {
    match raw {
        "null" => None,
        _ if raw.starts_with('"') => serde_json::from_str(raw).ok(),
        _ => Some(raw.into()),
    }
}
