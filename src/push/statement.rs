//! The statements: set-wise, one per collection, kind and set of columns.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::decide::Manner;
use super::item::{Item, What};
use super::payload::Group;
use super::target::{Columns, Target};
use crate::collections::catalog::{Collection, Column};
use crate::collections::facts::UPDATE;
use crate::collections::{lookup, tombstone};
use crate::server::memory::{self, Gather};
use crate::server::pg::{self, Privilege};
use crate::server::session::{Cached, Event};
use crate::values::device::Device;
use crate::values::dialect::Dialect;

/// An INSERT as it was written before: that took a sixth of a push of one row.
struct Insert {
    collection: Rc<Collection>,
    shape: Shape,
    sql: String,
}

/// What an INSERT into a collection depends on.
#[derive(PartialEq)]
struct Shape {
    columns: String,
    dialect: Dialect,
    device: Device,
    shows_inserted: bool,
    parameter: usize,
}

/// So many INSERTs are remembered, of so many bytes.
const MOST_KNOWN: usize = 64;
const LONGEST_KNOWN: usize = 8_192;

thread_local! {
    static INSERTS: Cached<Vec<Insert>> = Cached::until(Event::Definition);
}

/// Columns of new rows that refer to what is not there yet: they are set later.
pub type Later = HashMap<Item, Vec<String>>;

/// What it writes of its records.
enum Portion<'i> {
    Whole,
    /// New rows; of these without what is set later.
    Without(HashSet<u32>),
    /// That, when they are there: an update of these columns.
    Later(Group<'i>),
}

/// A statement over some rows of one target.
pub struct WriteStatement<'i> {
    pub target: usize,
    pub what: What,
    pub items: Vec<&'i Item>,
    pub payload: String,
    extent: Portion<'i>,
}

impl<'i> WriteStatement<'i> {
    pub fn of(target: usize, what: What, mut items: Vec<&'i Item>, targets: &[Target]) -> Self {
        match what {
            // As they were made: a trigger may look for a row's parent, a default may count. (Two pushes that create the same rows in different orders at once can
            // deadlock, and one of them is told so. A push that is sent twice has one order.)
            What::Insert(_) => memory::sort_by(&mut items, |a, b| a.row.cmp(&b.row)),
            // The same order in every push, so that two cannot deadlock.
            _ => memory::sort_by(&mut items, |a, b| a.id(targets).cmp(b.id(targets))),
        }
        let rows: Vec<u32> = items.iter().map(|i| i.row).gather();
        let plan = &targets[target].plan;
        let payload = match what {
            What::Update(group) | What::Mark(group) | What::Revive(group) => {
                plan.render_rows(&targets[target].updates[group as usize], &rows)
            }
            What::Insert(group) => plan.render_rows(&plan.groups[group as usize], &rows),
            What::Delete => plan.render_deletions_of(&rows),
        };
        WriteStatement { target, what, items, payload, extent: Portion::Whole }
    }

    /// New rows of a group of the plan's, without what is set later.
    pub fn without(target: usize, group: u32, mut items: Vec<&'i Item>, targets: &[Target], later: &Later) -> Self {
        // (As above.)
        memory::sort_by(&mut items, |a, b| a.row.cmp(&b.row));
        let rows: Vec<u32> = items.iter().map(|i| i.row).gather();
        let (plan, what) = (&targets[target].plan, What::Insert(group));
        let left_out = |row: u32| later.get(&Item { target, what, row }).map(Vec::as_slice);
        let set_later = items.iter().filter(|item| later.contains_key(item)).map(|item| item.row).gather();
        let payload = plan.render_rows_without(&plan.groups[group as usize], &rows, &left_out);
        WriteStatement { target, what, items, payload, extent: Portion::Without(set_later) }
    }

    /// What is set later of new rows of one target: one statement for each set of columns.
    pub fn later(target: usize, items: &'i [Item], targets: &'i [Target], later: &Later) -> Vec<Self> {
        let plan = &targets[target].plan;
        let by_row: HashMap<u32, &'i Item> = items.iter().map(|item| (item.row, item)).gather();
        let is_set =
            |row: u32, column: &str| later.get(by_row[&row]).is_some_and(|names| names.iter().any(|n| n == column));
        let groups = plan.group(items.iter().map(|item| item.row), |row, _, column| is_set(row, column));
        let statement = |group: Group<'i>| {
            let items: Vec<&Item> = group.rows.iter().map(|row| by_row[row]).gather();
            let (what, payload) = (items[0].what, plan.render_rows(&group, &group.rows));
            WriteStatement { target, what, items, payload, extent: Portion::Later(group) }
        };
        groups.into_iter().map(statement).gather()
    }

    /// Does it set what other statements of the push have left out?
    pub fn sets_later(&self) -> bool {
        matches!(self.extent, Portion::Later(_))
    }

    /// Those of its items of which it writes all that was sent.
    pub fn written_whole(&self) -> Cow<'_, [&'i Item]> {
        match &self.extent {
            Portion::Whole => Cow::Borrowed(&self.items),
            Portion::Without(rows) => {
                self.items.iter().copied().filter(|item| !rows.contains(&item.row)).gather::<Vec<_>>().into()
            }
            Portion::Later(_) => Cow::Borrowed(&[]),
        }
    }

    /// What it does to the collection's table, as `tgtype` has it.
    pub fn event(&self, collection: &Collection) -> i16 {
        match self.extent {
            Portion::Later(_) => UPDATE,
            _ => self.what.event(collection),
        }
    }

    /// An update of no column.
    pub fn writes_nothing(&self, targets: &[Target]) -> bool {
        matches!(self.what, What::Update(group) if targets[self.target].updates[group as usize].columns.is_empty())
    }

    /// Does it return the numbers of the rows that it reached?
    pub fn returns(&self) -> bool {
        !matches!(self.what, What::Insert(_)) || self.sets_later()
    }

    /// `parameter` is the number of the parameter that is its payload.
    pub fn sql(&self, target: &Target, manner: Manner, parameter: usize) -> String {
        if let Portion::Later(group) = &self.extent {
            return update(target, group, None, manner, parameter);
        }
        match self.what {
            What::Update(group) | What::Mark(group) => {
                update(target, &target.updates[group as usize], None, manner, parameter)
            }
            What::Revive(group) => {
                let mark = target.collection.soft_delete.as_ref();
                update(target, &target.updates[group as usize], mark, manner, parameter)
            }
            What::Insert(group) => insert(target, &target.plan.groups[group as usize], manner, parameter),
            What::Delete => delete(target, parameter),
        }
    }
}

/// `revived`: the mark that goes.
fn update(target: &Target, group: &Group, revived: Option<&Column>, manner: Manner, parameter: usize) -> String {
    let Columns { declared, names, values } = target.columns_over_stored(group);
    let unmarked = revived
        .filter(|mark| !names.contains(&mark.ident))
        .map(|mark| format!("{} = {}", mark.ident, tombstone::none(mark)));
    let set = names.iter().zip(&values).map(|(n, v)| format!("{n} = {v}"));
    let set: Vec<String> = set.chain(unmarked).gather();
    let (from, recordset) = (&target.collection.from, target.recordset(parameter, &declared));
    let (rows, matching) = if manner.locks_itself {
        let locked = format!(
            "(SELECT r.*, t.ctid AS at FROM {} ORDER BY {} FOR NO KEY UPDATE OF t) AS r",
            lookup::join(&target.collection, &recordset),
            lookup::order(&target.collection)
        );
        (locked, "t.ctid OPERATOR(pg_catalog.=) r.at".to_string())
    } else {
        (recordset, lookup::on(&target.collection))
    };
    format!("UPDATE {from} AS t SET {} FROM {rows} WHERE {matching} RETURNING r.n", set.join(", "))
}

/// Without ON CONFLICT, for which PostgreSQL checks more than for an INSERT: SELECT policies for the new row, the UPDATE privilege.
/// RETURNING makes it check the former, too, which in the quick attempt is wanted: looking for 10,000 rows afterwards would add half
/// of what it takes to push them, and this adds nothing that can be measured.
fn insert<'a>(target: &Target<'a>, group: &Group<'a>, manner: Manner, parameter: usize) -> String {
    let shape = Shape {
        columns: target.shape(group),
        dialect: target.dialect,
        device: target.device,
        shows_inserted: manner.shows_inserted,
        parameter,
    };
    let is_same = |i: &&Insert| Rc::ptr_eq(&i.collection, &target.collection) && i.shape == shape;
    if let Some(sql) = INSERTS.with(|i| i.look(|known| known.iter().find(is_same).map(|i| i.sql.clone()))) {
        lookup::know(&target.collection);
        return sql;
    }
    let then = INSERTS.with(Cached::now);
    let sql = insert_anew(target, group, manner, parameter);
    if sql.len() <= LONGEST_KNOWN {
        let insert = Insert { collection: Rc::clone(&target.collection), shape, sql: sql.clone() };
        INSERTS.with(|i| {
            i.remember(then, |known| {
                if known.len() == MOST_KNOWN {
                    known.clear();
                }
                known.push(insert);
            });
        });
    }
    sql
}

fn insert_anew<'a>(target: &Target<'a>, group: &Group<'a>, manner: Manner, parameter: usize) -> String {
    let Columns { declared, names, values } = target.columns(group);
    let collection = &target.collection;
    let keys: Vec<String> = collection.key.iter().map(|k| k.ident.clone()).gather();
    let key_values: Vec<String> = (0..keys.len()).map(|i| format!("r.k{i}")).gather();
    let columns: Vec<&str> = keys.iter().chain(&names).map(String::as_str).gather();
    let source: Vec<&str> = key_values.iter().chain(&values).map(String::as_str).gather();
    let overriding = if collection.key.iter().any(|k| k.identity_always) { " OVERRIDING SYSTEM VALUE" } else { "" };
    let returning = match manner.shows_inserted {
        true => format!(" RETURNING t.{} IS NULL", keys[0]),
        false => String::new(),
    };
    format!(
        "INSERT INTO {} AS t ({}){overriding} SELECT {} FROM {}{returning}",
        collection.table,
        columns.join(", "),
        source.join(", "),
        target.recordset(parameter, &declared)
    )
}

fn delete(target: &Target, parameter: usize) -> String {
    let (rows, keys) = (target.recordset(parameter, &[]), lookup::on(&target.collection));
    let from = &target.collection.from;
    match &target.collection.soft_delete {
        None => format!("DELETE FROM {from} AS t USING {rows} WHERE {keys} RETURNING r.n"),
        Some(mark) => format!(
            "UPDATE {from} AS t SET {} = {}{} FROM {rows} WHERE {keys} AND {} RETURNING r.n",
            mark.ident,
            tombstone::value(mark),
            later(target),
            tombstone::is_unmarked(mark)
        ),
    }
}

/// A deletion that says no time of its own is the latest change of its row, of which other devices go by the version.
fn later(target: &Target) -> String {
    let Some((version, mark)) = target.version_and_mark() else { return String::new() };
    let may_write = pg::may_write(target.collection.relation, Privilege::Update, version.attnum);
    let may_read = pg::may_select(target.collection.relation, version.attnum);
    if !may_write || !may_read {
        return String::new();
    }
    format!(", {} = GREATEST(t.{}, {})", version.ident, version.ident, tombstone::value(mark))
}
