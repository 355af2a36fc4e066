//! The statements: set-wise, one per collection, kind and set of columns.

use std::collections::{HashMap, HashSet};

use super::decide::not_quickly;
use super::echo;
use super::item::{by_target, Item, What};
use super::payload::Group;
use super::target::{json_arg, Columns, Target};
use crate::collections::facts::{self, Facts};
use crate::log::journal::Sending;
use crate::server::error::{code, Result, SyncError};
use crate::server::spi::{self, Mode, Planned};
use crate::server::{pg, subxact};

/// A statement over some rows of one target.
struct Statement<'i> {
    items: Vec<&'i Item>,
    what: What,
    target: usize,
    payload: String,
}

/// Writes the items; what a trigger vetoed is returned. With `together`, all of them in one statement.
pub fn apply(targets: &[Target], items: &[Item], together: bool) -> Result<Vec<Item>> {
    let mut order: Vec<(usize, What)> = Vec::new();
    let mut by_statement: HashMap<(usize, What), Vec<&Item>> = HashMap::new();
    // Most often one after the other.
    for run in items.chunk_by(|a, b| (a.target, a.what) == (b.target, b.what)) {
        let key = (run[0].target, run[0].what);
        let list = by_statement.entry(key).or_insert_with(|| {
            order.push(key);
            Vec::new()
        });
        list.extend(run);
    }
    let mut statements: Vec<Statement> = Vec::with_capacity(order.len());
    for key in order {
        let mut items = by_statement.remove(&key).unwrap_or_default();
        let (target, what) = (key.0, key.1);
        // The same order in every push, so that two that create the same rows cannot deadlock.
        items.sort_by(|a, b| a.id(targets).cmp(b.id(targets)));
        let rows: Vec<u32> = items.iter().map(|i| i.row).collect();
        let plan = &targets[target].plan;
        let payload = match what {
            What::Update(group) => plan.render_rows(&targets[target].updates[group as usize], &rows),
            What::Insert(group) => plan.render_rows(&plan.groups[group as usize], &rows),
            What::Delete => plan.render_deletions_of(&rows),
        };
        statements.push(Statement { items, what, target, payload });
    }
    statements.retain(|s| !s.writes_nothing(targets));
    let mut vetoed = Vec::new();
    if together && statements.len() > 1 {
        apply_together(targets, &statements, &mut vetoed)?;
    } else {
        for statement in &statements {
            let target = &targets[statement.target];
            let sql = statement.sql(target, 1);
            let _sending = sending(targets, std::slice::from_ref(statement));
            let done = spi::numbers(&sql, &[json_arg(&statement.payload)], Mode::Write)
                .map_err(|e| target.while_pushing(e))?;
            if statement.returns() && done.len() < statement.items.len() {
                if target.locks_itself.get() {
                    return Err(not_quickly());
                }
                statement.check(targets, &done.into_iter().map(|(n, _)| n).collect(), &mut vetoed)?;
            }
        }
    }
    Ok(vetoed)
}

/// One statement with a WITH query for each: Postgres checks foreign keys at the end of it, so that rows may refer to each
/// other whatever their columns and tables.
fn apply_together(targets: &[Target], statements: &[Statement], vetoed: &mut Vec<Item>) -> Result<()> {
    let mut with = Vec::new();
    let mut select = Vec::new();
    let mut args = Vec::new();
    for (i, statement) in statements.iter().enumerate() {
        with.push(format!("s{i} AS ({})", statement.sql(&targets[statement.target], i + 1)));
        if statement.returns() {
            select.push(format!("SELECT {i}, n FROM s{i}"));
        }
        args.push(json_arg(&statement.payload));
    }
    let select = if select.is_empty() { "SELECT 0, 0 WHERE false".into() } else { select.join(" UNION ALL ") };
    let sql = format!("WITH {} {select}", with.join(", "));
    let sending = sending(targets, statements);
    let rows = spi::query_planned(&sql, &args, Mode::Write, Planned::Once)?;
    drop(sending);
    let mut done: Vec<HashSet<u32>> = vec![HashSet::new(); statements.len()];
    for row in rows {
        if let (Some(statement), Some(n)) = (row.i64(0), row.i64(1)) {
            done[statement as usize].insert(n as u32);
        }
    }
    for (statement, done) in statements.iter().zip(&done) {
        statement.check(targets, done, vetoed)?;
    }
    Ok(())
}

/// Marks what these statements, which run as one, will store as it was sent. Nothing may run before them.
fn sending(targets: &[Target], statements: &[Statement]) -> Option<Sending> {
    let rows = echo::rows(targets, statements.iter().map(|s| (s.target, s.what, s.items.as_slice())));
    (!rows.is_empty()).then(|| Sending::start(rows))
}

impl Statement<'_> {
    /// An update of no column.
    fn writes_nothing(&self, targets: &[Target]) -> bool {
        matches!(self.what, What::Update(group) if targets[self.target].updates[group as usize].columns.is_empty())
    }

    fn returns(&self) -> bool {
        matches!(self.what, What::Update(_) | What::Delete)
    }

    fn sql(&self, target: &Target, parameter: usize) -> String {
        match self.what {
            What::Update(group) => update(target, &target.updates[group as usize], parameter),
            What::Insert(group) => insert(target, &target.plan.groups[group as usize], parameter),
            What::Delete => delete(target, parameter),
        }
    }

    /// Rows that an UPDATE or DELETE did not reach: a trigger of the table's owner kept them, or no policy lets the caller
    /// change them, and then the client must not believe it.
    fn check(&self, targets: &[Target], done: &HashSet<u32>, vetoed: &mut Vec<Item>) -> Result<()> {
        if !self.returns() || done.len() == self.items.len() {
            return Ok(());
        }
        let target = &targets[self.target];
        let left: Vec<&Item> = self.items.iter().copied().filter(|i| !done.contains(&i.row)).collect();
        let soft = target.collection.soft_delete.is_some();
        let event = if self.what == What::Delete && !soft { facts::DELETE } else { facts::UPDATE };
        let may_veto = Facts::of(&target.collection)?.vetoes & event != 0;
        let ids: Vec<&str> = left.iter().map(|i| i.id(targets)).collect();
        let visible: HashMap<usize, bool> = target.visible_now(&ids)?.into_iter().collect();
        let what = if self.what == What::Delete { "deleted" } else { "updated" };
        for (place, (item, id)) in left.iter().zip(&ids).enumerate() {
            match visible.get(&place) {
                // Marked as deleted already.
                Some(true) if self.what == What::Delete && soft => {}
                Some(_) if may_veto => vetoed.push(**item),
                Some(_) => return Err(target.refused(what, id)),
                // Gone meanwhile, through this very push (a cascade): the client hears of it with its next pull.
                None => {}
            }
        }
        Ok(())
    }
}

fn update(target: &Target, group: &Group, parameter: usize) -> String {
    let Columns { declared, names, values } = target.columns_over_stored(group);
    let set: Vec<String> = names.iter().zip(&values).map(|(n, v)| format!("{n} = {v}")).collect();
    let (from, recordset, keys) = (&target.collection.from, target.recordset(parameter, &declared), target.key_match());
    let (rows, matching) = if target.locks_itself.get() {
        let order: Vec<String> = target.collection.key.iter().map(|k| format!("t.{}", k.ident)).collect();
        let locked = format!(
            "(SELECT r.*, t.ctid AS at FROM {recordset} JOIN {from} AS t ON {keys} ORDER BY {} FOR NO KEY UPDATE OF t) AS r",
            order.join(", ")
        );
        (locked, "t.ctid OPERATOR(pg_catalog.=) r.at".to_string())
    } else {
        (recordset, keys)
    };
    format!("UPDATE {from} AS t SET {} FROM {rows} WHERE {matching} RETURNING r.n", set.join(", "))
}

/// Without ON CONFLICT, for which PostgreSQL checks more than for an INSERT: SELECT policies for the new row, the UPDATE privilege.
/// RETURNING makes it check the former, too, which in the quick attempt is wanted: looking for 10,000 rows afterwards would add half
/// of what it takes to push them, and this adds nothing that can be measured.
fn insert(target: &Target, group: &Group, parameter: usize) -> String {
    let Columns { declared, names, values } = target.columns(group);
    let collection = &target.collection;
    let keys: Vec<String> = collection.key.iter().map(|k| k.ident.clone()).collect();
    let key_values: Vec<String> = (0..keys.len()).map(|i| format!("r.k{i}")).collect();
    let columns: Vec<&str> = keys.iter().chain(&names).map(String::as_str).collect();
    let source: Vec<&str> = key_values.iter().chain(&values).map(String::as_str).collect();
    let overriding = if collection.key.iter().any(|k| k.identity_always) { " OVERRIDING SYSTEM VALUE" } else { "" };
    let returning = match target.shows_inserted.get() {
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
    let (from, keys) = (target.recordset(parameter, &[]), target.key_match());
    let table = &target.collection.from;
    match &target.collection.soft_delete {
        None => format!("DELETE FROM {table} AS t USING {from} WHERE {keys} RETURNING r.n"),
        Some(column) => {
            let name = &column.ident;
            let (mark, unmarked) = match column.facts.base {
                pgrx::pg_sys::BOOLOID => ("true".to_string(), format!("t.{name} IS NOT TRUE")),
                _ => (format!("pg_catalog.now()::{}", column.type_name), format!("t.{name} IS NULL")),
            };
            format!("UPDATE {table} AS t SET {name} = {mark} FROM {from} WHERE {keys} AND {unmarked} RETURNING r.n")
        }
    }
}

/// Rows of which the client believes something else than what stands.
#[derive(Default)]
pub struct Surprises {
    /// A trigger kept these as they were.
    pub vetoed: Vec<Item>,
    /// Inserted without an error, and not there.
    pub missing: Vec<Item>,
}

/// What came of writing items one by one.
#[derive(Default)]
pub struct Outcome {
    pub surprises: Surprises,
    /// Those that were to be inserted, and were there by then.
    pub updated: Vec<Item>,
    pub failed: Vec<(Item, SyncError)>,
}

/// Those of the failed items whose row is gone by now, taken along by a cascade: there is nothing to try again.
pub fn gone(targets: &[Target], failed: &[(Item, SyncError)]) -> Result<HashSet<Item>> {
    let mut gone = HashSet::new();
    let updates = failed.iter().map(|(item, _)| *item).filter(|i| matches!(i.what, What::Update(_)));
    for (target, updates) in by_target(updates) {
        let ids: Vec<&str> = updates.iter().map(|i| i.id(targets)).collect();
        let visible: HashSet<usize> = targets[target].visible_now(&ids)?.into_iter().map(|(place, _)| place).collect();
        gone.extend(updates.iter().enumerate().filter(|(place, _)| !visible.contains(place)).map(|(_, i)| *i));
    }
    Ok(gone)
}

/// Writes the items, each in a subtransaction of its own where it must be: halves what fails until the culprits stand alone.
/// With `enough`, stops when so many have failed.
pub fn bisect(targets: &[Target], items: &[Item], together: bool, enough: usize, outcome: &mut Outcome) -> Result<()> {
    pgrx::check_for_interrupts!();
    if items.is_empty() || outcome.failed.len() >= enough {
        return Ok(());
    }
    match subxact::run(|| apply(targets, items, together)) {
        Ok(mut vetoed) => outcome.surprises.vetoed.append(&mut vetoed),
        Err(e) if subxact::is_transient(&e) => return Err(e),
        Err(e) if items.len() == 1 => failed(targets, items[0], e, outcome)?,
        Err(_) => {
            let (left, right) = items.split_at(items.len() / 2);
            bisect(targets, left, together, enough, outcome)?;
            bisect(targets, right, together, enough, outcome)?;
        }
    }
    Ok(())
}

/// An item that cannot be written by itself. If it is a new row that has come to be there, made by a trigger or by somebody else,
/// it is an update after all: a created row that exists is updated.
fn failed(targets: &[Target], item: Item, e: SyncError, outcome: &mut Outcome) -> Result<()> {
    let (target, id) = (&targets[item.target], item.id(targets));
    let is_taken = matches!(item.what, What::Insert(_)) && e.code == code::UNIQUE_VIOLATION;
    let mut e = e;
    if is_taken && !target.visible_now(&[id])?.is_empty() {
        let update = Item { what: What::Update(target.group_of_update(item.row)), ..item };
        match subxact::run(|| apply(targets, &[update], false)) {
            Ok(mut vetoed) => {
                outcome.surprises.vetoed.append(&mut vetoed);
                outcome.updated.push(update);
                return Ok(());
            }
            Err(error) if subxact::is_transient(&error) => return Err(error),
            Err(error) => e = error,
        }
    } else if is_taken && pg::transaction_snapshot_is_fixed() && target.was_created_unseen(id)? {
        return Err(SyncError::new(code::SERIALIZATION_FAILURE, "could not serialize access due to concurrent update")
            .detail(format!("It is about {}.", target.path_of(id)))
            .hint("Nothing was applied. Push again, in a new transaction."));
    }
    outcome.failed.push((item, target.about(id, e)));
    Ok(())
}
