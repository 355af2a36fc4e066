//! Records that stand as they are pushed: there is nothing to write, so it takes no right to write either. A push is repeated when
//! its answer was lost, perhaps by a role that may insert rows and not update them.

use std::collections::{HashMap, HashSet};

use super::fates::Deciding;
use super::RowHistory;
use crate::collections::catalog::Column;
use crate::collections::lookup;
use crate::push::payload::Group;
use crate::push::target::{json_arg, Columns, Target};
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::server::pg;
use crate::server::spi::{self, Mode, Planned};
use crate::server::subxact;
use crate::values::dialect::Dialect;

/// Records whose columns stand as they are sent.
#[derive(Default)]
pub(super) struct Equal {
    pub rows: HashSet<u32>,
    /// Those that are created and were not sent with all that the row has: the client does not know the row, and lacks the rest.
    pub lacking: HashSet<u32>,
}

/// A record that stands as it is sent, and how many of its columns that are not the key's are not null.
type Same = (u32, i64);

impl Deciding<'_, '_> {
    /// The records, of those that are compared, whose columns stand as they are sent: created ones that exist, and updated ones
    /// that the caller may not write. (Of the others it costs more to find out than to write them.)
    pub(super) fn stored_already(&self, changed: &HashMap<String, RowHistory>) -> Result<Equal> {
        let mut equal = Equal::default();
        let readable = readable(self.target);
        // Of these it is asked once what else their rows have: a client may send as many sets of columns as records.
        let mut partial: Vec<Same> = Vec::new();
        for (number, group) in self.target.updates.iter().enumerate() {
            let rows = group.rows.iter().copied().filter(|row| {
                let (record, stored) = (&self.target.plan.records[*row as usize], self.stored[*row as usize]);
                let in_question = if self.target.dialect == Dialect::Drift {
                    // That client repeats whatever it has, and says of every row whether it is deleted.
                    true
                } else if record.created {
                    // What is marked as deleted does not stand.
                    !stored.deleted || changed.contains_key(&*record.id)
                } else {
                    !(stored.deleted || stored.locked && self.may_update[number])
                };
                stored.visible && in_question
            });
            let rows: Vec<u32> = rows.gather();
            if rows.is_empty() || !may_compare(self.target, group) {
                continue;
            }
            let sent = group.columns.iter().filter_map(|name| self.target.collection.column(name));
            let sent: Vec<&Column> = sent.filter(|c| !is_key(self.target, c)).gather();
            let same = compare(self.target, group, &sql(self.target, group, &sent), &rows)?;
            memory::extend(&mut equal.rows, same.iter().map(|(row, _)| *row));
            if sent.len() < readable.len() {
                // Of a row that it updates the client knows the rest.
                let is_created = |row: u32| self.target.plan.records[row as usize].created;
                memory::extend(&mut partial, same.into_iter().filter(|(row, _)| is_created(*row)));
            }
        }
        equal.lacking = lacking(self.target, &readable, &partial)?;
        Ok(equal)
    }
}

fn is_key(target: &Target, column: &Column) -> bool {
    target.collection.key.iter().any(|k| k.attnum == column.attnum)
}

/// The columns besides the key that the caller may read.
fn readable<'t>(target: &'t Target) -> Vec<&'t Column> {
    let may_read = |c: &&Column| !is_key(target, c) && pg::may_select(target.collection.relation, c.attnum);
    target.collection.columns.iter().filter(may_read).gather()
}

/// May the caller read what is to be compared?
fn may_compare(target: &Target, group: &Group) -> bool {
    let collection = &target.collection;
    let readable = |name: &&str| collection.column(name).is_some_and(|c| pg::may_select(collection.relation, c.attnum));
    target.may_read_key() && group.columns.iter().all(readable)
}

fn sql<'a>(target: &Target<'a>, group: &Group<'a>, sent: &[&Column]) -> String {
    let Columns { declared, names, values } = target.columns_over_stored(group);
    let collection = &target.collection;
    // `*=` compares the values' bytes: it knows every type, and calls nobody's operator.
    let same = if names.is_empty() {
        "true".to_string()
    } else {
        let stored: Vec<String> = names.iter().map(|n| format!("t.{n}")).gather();
        let typed =
            group.columns.iter().zip(&values).map(|(name, value)| {
                format!("({value})::{}", collection.column(name).map_or("text", |c| &c.type_name))
            });
        format!(
            "ROW({})::pg_catalog.record OPERATOR(pg_catalog.*=) ROW({})::pg_catalog.record",
            stored.join(", "),
            typed.gather::<Vec<_>>().join(", ")
        )
    };
    let row = format!("pg_catalog.json_build_array(r.n, {})", not_null(sent));
    format!("SELECT {row} FROM {} WHERE {same}", lookup::join(collection, &target.recordset(1, &declared)))
}

/// How many of these columns are not null. (A composite value with an empty field is not.)
fn not_null(columns: &[&Column]) -> String {
    // A function takes 100 arguments.
    let some = columns.chunks(100).map(|some| {
        let names: Vec<String> = some.iter().map(|c| format!("t.{}", c.ident)).gather();
        format!("pg_catalog.num_nonnulls({})", names.join(", "))
    });
    std::iter::once("0".to_string()).chain(some).gather::<Vec<_>>().join(" OPERATOR(pg_catalog.+) ")
}

/// Those of these records of a group whose rows stand as they are sent, as far as the caller may compare them.
pub fn stand_as_sent<'a>(target: &Target<'a>, group: &Group<'a>, rows: &[u32]) -> Result<HashSet<u32>> {
    if !may_compare(target, group) {
        return Ok(HashSet::new());
    }
    Ok(compare(target, group, &sql(target, group, &[]), rows)?.into_iter().map(|(row, _)| row).gather())
}

/// The rows of the group that `sql` finds stored as they are sent.
fn compare<'a>(target: &Target<'a>, group: &Group<'a>, sql: &str, rows: &[u32]) -> Result<Vec<Same>> {
    let find = |rows: &[u32]| {
        let _now = pg::ActiveSnapshot::take();
        let args = [json_arg(&target.plan.render_rows(group, rows))];
        spi::typed::<Same>(&spi::query_planned(sql, &args, Mode::Read, Planned::Once)?)
    };
    let mut same = Vec::new();
    subxact::in_halves(rows, &find, &mut |tried| {
        // A value that its column cannot hold is not stored.
        if let Ok(found) = tried {
            memory::extend(&mut same, found);
        }
        Ok(true)
    })?;
    Ok(same)
}

/// Those of these records whose rows have more columns that are not null: one statement for whatever was sent, as long as the table is wide.
fn lacking(target: &Target, readable: &[&Column], partial: &[Same]) -> Result<HashSet<u32>> {
    if partial.is_empty() {
        return Ok(HashSet::new());
    }
    let ids: Vec<&str> = partial.iter().map(|(row, _)| &*target.plan.records[*row as usize].id).gather();
    let (rows, args) = target.id_rows(&ids);
    let row = format!("pg_catalog.json_build_array(r.n, {})", not_null(readable));
    let sql = format!("SELECT {row} FROM {}", lookup::join(&target.collection, &rows));
    let _now = pg::ActiveSnapshot::take();
    let found: Vec<(usize, i64)> = spi::typed(&spi::query_planned(&sql, &args, Mode::Read, Planned::Once)?)?;
    let records = found.into_iter().map(|(n, stands)| (partial[n - 1], stands));
    Ok(records.filter(|((_, sent), stands)| stands > sent).map(|((row, _), _)| row).gather())
}
