//! One collection of a push: its rows as the payload has them, and what the database says about them now.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use pgrx::pg_sys;

use super::decode;
use super::echo::Echo;
use super::payload::{Group, IdField, Plan, RawCollection, Record, Source, Table};
use crate::collections::catalog::{Collection, Column};
use crate::collections::facts::Facts;
use crate::collections::lookup;
use crate::log::change::Op;
use crate::log::read::{self, Logged};
use crate::log::{clock, journal};
use crate::server::error::{code, Result, SyncError};
use crate::server::pg::{self, Privilege};
use crate::server::spi::{self, Arg, Mode};
use crate::server::subxact;
use crate::values::conflict::ConflictPolicy;
use crate::values::dialect::Dialect;
use crate::values::{excerpt, wire_id};

pub struct Target<'a> {
    /// The collection's name as the client wrote it.
    pub asked: &'a str,
    pub collection: Rc<Collection>,
    pub plan: Plan<'a>,
    pub dialect: Dialect,
    /// These rows are what a conflict function made of two: they are written without asking again.
    pub settled: bool,
    /// The records by the columns that are written where the row exists already.
    pub updates: Vec<Group<'a>>,
    /// What must be known to tell which rows will be stored as they were sent; None where nobody asks.
    pub echo: Option<Echo>,
    /// Its UPDATE takes the locks.
    pub locks_itself: Cell<bool>,
    /// Its INSERTs are to fail for rows that no policy shows to the caller.
    pub shows_inserted: Cell<bool>,
    /// The records that name columns which are not synced, where they are to be reported.
    pub misfits: HashMap<String, SyncError>,
    /// Where each id stands in the payload.
    sources: OnceCell<HashMap<String, Source>>,
    /// The number of each record's group in `updates`.
    update_groups: OnceCell<Vec<u32>>,
}

/// A row of the payload as it is stored now.
#[derive(Clone, Copy, Default)]
pub struct Stored {
    /// The caller can see it.
    pub visible: bool,
    /// It is locked, so the caller may update it.
    pub locked: bool,
    /// It is marked as deleted.
    pub deleted: bool,
}

/// The columns of a group: recordset declarations, quoted names, value expressions.
pub struct Columns {
    pub declared: Vec<String>,
    pub names: Vec<String>,
    pub values: Vec<String>,
}

/// So many ids that cannot be read are named one by one, each at the price of a few statements. More of them are no mistakes of
/// some records: all are refused.
const MOST_UNREADABLE: usize = 1_000;

impl<'a> Target<'a> {
    pub fn resolve(
        raw: &'a RawCollection<'_>,
        collection: Rc<Collection>,
        dialect: Dialect,
        settled: bool,
        echo: bool,
    ) -> Result<Target<'a>> {
        let key_columns = collection.key_names();
        let own_id = collection.column("id").is_some() && !collection.key_is_id();
        let id_field = match dialect {
            Dialect::Postgrest if own_id => IdField::Column,
            _ => IdField::WireId,
        };
        // Whole rows carry what a client cannot write; it is taken off.
        let computed = collection.columns.iter().filter(|c| c.generated || c.identity_always);
        let readonly: Vec<&str> =
            computed.map(|c| c.name.as_str()).chain(collection.readonly.iter().map(String::as_str)).collect();
        let types: Vec<pg_sys::Oid> = collection.key.iter().map(|k| k.facts.base).collect();
        let canonical = move |part: usize, text: &str| match types[part] {
            pg_sys::UUIDOID => wire_id::canonical_uuid(text),
            pg_sys::INT2OID | pg_sys::INT4OID | pg_sys::INT8OID => wire_id::canonical_integer(text),
            _ => None,
        };
        let numbers: Vec<bool> = collection.key.iter().map(|k| is_number(dialect, &collection, k)).collect();
        let table = Table {
            key_columns: &key_columns,
            readonly: &readonly,
            id_field,
            canonical: Some(&canonical),
            numbers: echo.then_some(&numbers),
        };
        let plan = raw.resolve(&table)?;
        let whole = settled || collection.conflict == ConflictPolicy::LastWriteWins;
        let mut changed = Changed::default();
        let updates = plan.regroup(|record, column| whole || changed.has(&plan, record, column));
        let echo = if echo { Echo::of(&collection)? } else { None };
        Ok(Target {
            asked: raw.name(),
            collection,
            plan,
            dialect,
            settled,
            updates,
            echo,
            locks_itself: Cell::new(false),
            shows_inserted: Cell::new(false),
            misfits: HashMap::new(),
            sources: OnceCell::new(),
            update_groups: OnceCell::new(),
        })
    }

    pub fn is_empty(&self) -> bool {
        self.plan.records.is_empty() && self.plan.deletions.is_empty()
    }

    /// Every column must be one that is synced: a misspelt one would be lost silently. With `report` that is the fault of each
    /// record that has another: an old version of an app goes on sending a column that was dropped.
    pub fn check_columns(&mut self, report: bool) -> Result<()> {
        let known: HashSet<&str> = self.collection.columns.iter().map(|c| c.name.as_str()).collect();
        let mut misfits = HashMap::new();
        for group in &self.plan.groups {
            pgrx::check_for_interrupts!();
            let Some(name) = group.columns.iter().find(|name| !known.contains(*name)) else { continue };
            for row in &group.rows {
                pgrx::check_for_interrupts!();
                let record = &self.plan.records[*row as usize];
                let error = self.no_column(name, record);
                if !report {
                    return Err(error);
                }
                misfits.insert(record.id.to_string(), error);
            }
        }
        self.misfits = misfits;
        Ok(())
    }

    fn no_column(&self, name: &str, record: &Record) -> SyncError {
        let (column, collection) = (excerpt::name(name), &self.collection.name);
        SyncError::new(
            code::UNDEFINED_COLUMN,
            format!("column \"{column}\" of collection \"{collection}\" does not exist"),
        )
        .detail(format!("It is in {}.", self.plan.field_path(record.source, name)))
        .hint("Send only synced columns. A table's columns are synced unless snapsync.enable() left them out.")
    }

    /// Are all rows created ones, of a caller who could tell whether they exist? (A row in `created` that exists is updated.)
    pub fn is_all_new(&self) -> bool {
        !self.settled
            && self.plan.deletions.is_empty()
            && self.plan.records.iter().all(|r| r.created)
            && self.may_read_key()
    }

    /// Can one UPDATE lock all there is in key order, and change it? Only where every row is an update in the same columns that
    /// asks for nothing of the stored row.
    pub fn can_lock_itself(&self) -> bool {
        let collection = &self.collection;
        !self.settled
            && self.plan.deletions.is_empty()
            && self.plan.records.iter().all(|r| !r.created)
            && matches!(&self.updates[..], [group] if !group.columns.is_empty())
            && collection.conflict != ConflictPolicy::LastWriteWins
            && collection.soft_delete.is_none()
            && collection.from.starts_with("ONLY ")
            && self.may_read_key()
            && pg::may_select(collection.relation, pg_sys::SelfItemPointerAttributeNumber as i16)
            && self.may(Privilege::Update)
    }

    /// All ids, records first.
    pub fn ids(&self) -> Vec<&str> {
        let written = self.plan.records.iter().map(|r| &*r.id);
        written.chain(self.plan.deletions.iter().map(|d| &*d.id)).collect()
    }

    /// One text for all ids of one row, by which an id and a key of the log compare: numeric keeps the zeros that it was given,
    /// so `1.0` finds the row that was stored as `1`.
    pub fn comparable<'k>(&self, id: &'k str) -> Cow<'k, str> {
        let key = &self.collection.key;
        if key.iter().all(|k| k.facts.base != pg_sys::NUMERICOID) {
            return Cow::Borrowed(id);
        }
        // An entry from before the key was another one has no such parts, and is about no row of now.
        let Ok(mut parts) = wire_id::decode(id, key.len()) else { return Cow::Borrowed(id) };
        for (part, _) in parts.iter_mut().zip(key).filter(|(_, k)| k.facts.base == pg_sys::NUMERICOID) {
            *part = wire_id::comparable_number(part);
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        Cow::Owned(wire_id::encode(&parts).into_owned())
    }

    /// What the log says of these ids from this stamp on, with the ids as the keys. (Not what it says to one client.)
    pub fn logged(&self, ids: &[&str], from: i64, snapshot: &pg::ActiveSnapshot) -> Result<Vec<Logged>> {
        let by_key: HashMap<Cow<str>, &str> = ids.iter().map(|id| (self.comparable(id), *id)).collect();
        let wanted = |key: &str| by_key.contains_key(&self.comparable(key));
        let mut entries = read::since_of(self.collection.relation, from, &wanted, snapshot)?;
        entries.retain(|e| !e.is_notice());
        for entry in &mut entries {
            if let Some(id) = by_key.get(&self.comparable(&entry.key)).filter(|id| **id != entry.key) {
                entry.key = id.to_string();
            }
        }
        Ok(entries)
    }

    /// Has somebody created this row since the transaction's snapshot, which does not see it (REPEATABLE READ)?
    pub fn was_created_unseen(&self, id: &str) -> Result<bool> {
        let from = {
            let _seen = pg::ActiveSnapshot::take();
            clock::horizon::snapmin_of_old_snapshot()?
        };
        let entries = self.logged(&[id], from, &pg::ActiveSnapshot::latest())?;
        Ok(entries.iter().any(|e| e.op == Op::Insert && Some(e.stamp) != journal::own_stamp()))
    }

    /// Where an id stands in the payload.
    pub fn path_of(&self, id: &str) -> String {
        let sources = self.sources.get_or_init(|| {
            let records = self.plan.records.iter().map(|r| (r.id.to_string(), r.source));
            records.chain(self.plan.deletions.iter().map(|d| (d.id.to_string(), d.source))).collect()
        });
        sources.get(id).map(|s| self.plan.path(*s)).unwrap_or_default()
    }

    /// The number of a record's group in `updates`.
    pub fn group_of_update(&self, row: u32) -> u32 {
        self.update_groups.get_or_init(|| groups_of(&self.updates, self.plan.records.len()))[row as usize]
    }

    /// `t.key = r.k` for all parts of the key, with the recordset's columns for it.
    pub fn key_match(&self) -> String {
        let parts = self.collection.key.iter().enumerate();
        let parts: Vec<String> = parts.map(|(i, k)| format!("t.{} OPERATOR(pg_catalog.=) r.k{i}", k.ident)).collect();
        parts.join(" AND ")
    }

    /// The rows of a parameter, `r(n, k0, ...)` with the key and these columns. The key has its own types here and in `id_rows`:
    /// row-level security lets no condition use an index that calls a function which might tell what it was given, and a cast
    /// from text is one.
    pub fn recordset(&self, parameter: usize, columns: &[String]) -> String {
        let key = self.collection.key.iter().enumerate();
        let keys = key.map(|(i, k)| format!("k{i} {}", k.facts.base_type_name()));
        let number = std::iter::once("n pg_catalog.int4".to_string());
        let all: Vec<String> = number.chain(keys).chain(columns.iter().cloned()).collect();
        lookup::keys(&self.collection, &format!("pg_catalog.json_to_recordset(${parameter})"), &all.join(", "))
    }

    /// The ids as a set of rows `r(k0, ..., n)`, n from 1.
    pub fn id_rows(&self, ids: &[&str]) -> (String, Vec<Arg>) {
        let key = &self.collection.key;
        let args = if key.len() == 1 {
            vec![spi::arg(ids.to_vec())]
        } else {
            let mut parts: Vec<Vec<String>> = vec![Vec::with_capacity(ids.len()); key.len()];
            for id in ids {
                for (part, value) in parts.iter_mut().zip(self.plan.key_parts(id)) {
                    part.push(value);
                }
            }
            parts.into_iter().map(spi::arg).collect()
        };
        let typed = |(i, k): (usize, &Column)| format!("pg_catalog.unnest(${}::{}[])", i + 1, k.facts.base_type_name());
        let arrays: Vec<String> = key.iter().enumerate().map(typed).collect();
        let names: Vec<String> = (0..key.len()).map(|i| format!("k{i}")).collect();
        let functions = format!("ROWS FROM ({}) WITH ORDINALITY", arrays.join(", "));
        (lookup::keys(&self.collection, &functions, &format!("{}, n", names.join(", "))), args)
    }

    /// The columns of a group as a new row has them.
    pub fn columns(&self, group: &Group) -> Columns {
        let mut columns = Columns { declared: Vec::new(), names: Vec::new(), values: Vec::new() };
        for (i, name) in group.columns.iter().enumerate() {
            let Some(column) = self.collection.column(name) else { continue };
            let (declaration, value) =
                decode::value(self.dialect, column, &format!("c{i}"), self.is_text(group, i, column));
            columns.declared.push(format!("c{i} {declaration}"));
            columns.names.push(pg::ident(name));
            columns.values.push(value);
        }
        columns
    }

    /// The columns of a group as an existing row `t` gets them: what only lost digits on its way is left as it is.
    pub fn columns_over_stored(&self, group: &Group) -> Columns {
        let mut columns = self.columns(group);
        for (i, (name, value)) in group.columns.iter().zip(&mut columns.values).enumerate() {
            let Some(column) = self.collection.column(name) else { continue };
            if !self.is_text(group, i, column) && pg::may_select(self.collection.relation, column.attnum) {
                *value = decode::over_stored(column, &format!("c{i}"), std::mem::take(value));
            }
        }
        columns
    }

    /// The declaration of a column of the recordset whose values may be of any kind, and its value where a row exists.
    pub fn value_over_stored(&self, column: &Column, field: &str) -> (String, String) {
        let (declaration, value) = decode::value(self.dialect, column, field, false);
        let readable = pg::may_select(self.collection.relation, column.attnum);
        let value = if readable { decode::over_stored(column, field, value) } else { value };
        (format!("{field} {declaration}"), value)
    }

    /// Is every value of this column of the group a text or null? Then the column's type reads it without more ado: taking
    /// json apart once more for each value cost 3 us.
    fn is_text(&self, group: &Group<'a>, index: usize, column: &Column) -> bool {
        decode::depends_on_kind(column) && self.plan.all(group, index, |raw| raw.starts_with('"') || raw == "null")
    }

    pub fn may(&self, privilege: Privilege) -> bool {
        pg::may(self.collection.relation, privilege)
    }

    /// May policies let the caller insert rows that he does not see then?
    pub fn may_hide_inserted(&self) -> Result<bool> {
        Ok(pg::rls_active(self.collection.relation) && !Facts::of(&self.collection)?.shows_inserted)
    }

    pub fn may_read_key(&self) -> bool {
        self.collection.key.iter().all(|k| pg::may_select(self.collection.relation, k.attnum))
    }

    /// The ids that cannot be read as the key's types, with the error.
    pub fn unreadable_ids(&self) -> Result<HashMap<String, SyncError>> {
        let texts = [pg_sys::TEXTOID, pg_sys::VARCHAROID];
        let mut bad = HashMap::new();
        if self.collection.key.iter().any(|k| !texts.contains(&k.facts.base)) {
            let mut doubtful = self.ids();
            // Not worth a statement in a subtransaction: a uuid shows that it is one.
            if let [key] = &self.collection.key[..] {
                doubtful.retain(|id| key.facts.base != pg_sys::UUIDOID || !wire_id::is_canonical_uuid(id));
            }
            if !doubtful.is_empty() {
                self.find_unreadable(&doubtful, &mut bad)?;
            }
        }
        Ok(bad)
    }

    fn find_unreadable(&self, ids: &[&str], bad: &mut HashMap<String, SyncError>) -> Result<()> {
        pgrx::check_for_interrupts!();
        let (rows, args) = self.id_rows(ids);
        let sql = format!("SELECT pg_catalog.count(*) FROM {rows}");
        match subxact::run(|| spi::query(&sql, &args, Mode::Read)) {
            Ok(_) => {}
            Err(e) if subxact::is_transient(&e) => return Err(e),
            Err(e) if bad.len() == MOST_UNREADABLE => {
                let name = &self.collection.name;
                return Err(e
                    .detail(format!("More than {MOST_UNREADABLE} ids of collection \"{name}\" cannot be read."))
                    .hint("Nothing was applied. Send ids as pull_changes writes them."));
            }
            Err(e) if ids.len() == 1 => drop(bad.insert(ids[0].to_string(), e)),
            Err(_) => {
                let (left, right) = ids.split_at(ids.len() / 2);
                self.find_unreadable(left, bad)?;
                self.find_unreadable(right, bad)?;
            }
        }
        Ok(())
    }

    /// Locks the rows that are there, in key order, all of them at once: two pushes cannot wait for each other. A role that
    /// may only insert locks nothing: it changes no row. Returns the places of those locked, and whether each is marked as
    /// deleted.
    pub fn lock(&self, ids: &[&str]) -> Result<Vec<(usize, bool)>> {
        if ids.is_empty() || !self.may_read_key() || !self.may(Privilege::Update) {
            return Ok(Vec::new());
        }
        let (rows, args) = self.id_rows(ids);
        let order: Vec<String> = self.collection.key.iter().map(|k| format!("t.{}", k.ident)).collect();
        let sql = format!(
            "SELECT r.n, {} FROM {rows} JOIN {} AS t ON {} ORDER BY {} FOR NO KEY UPDATE OF t",
            self.is_deleted(),
            self.collection.from,
            self.key_match(),
            order.join(", ")
        );
        let found = spi::numbers(&sql, &args, Mode::Write)?;
        Ok(found.into_iter().map(|(n, deleted)| (n as usize - 1, deleted)).collect())
    }

    /// Which of these ids the caller can see now, by their places, and whether each is marked as deleted.
    pub fn visible_now(&self, ids: &[&str]) -> Result<Vec<(usize, bool)>> {
        if ids.is_empty() || !self.may_read_key() {
            return Ok(Vec::new());
        }
        let (rows, args) = self.id_rows(ids);
        let sql = format!(
            "SELECT r.n, {} FROM {rows} JOIN {} AS t ON {}",
            self.is_deleted(),
            self.collection.from,
            self.key_match()
        );
        let _now = pg::ActiveSnapshot::take();
        let found = spi::numbers(&sql, &args, Mode::Read)?;
        Ok(found.into_iter().map(|(n, deleted)| (n as usize - 1, deleted)).collect())
    }

    /// SQL that says whether `t` is marked as deleted.
    fn is_deleted(&self) -> String {
        match &self.collection.soft_delete {
            Some(c) if pg::may_select(self.collection.relation, c.attnum) => match c.facts.base {
                pg_sys::BOOLOID => format!("COALESCE(t.{}, false)", c.ident),
                _ => format!("t.{} IS NOT NULL", c.ident),
            },
            _ => "false".into(),
        }
    }

    /// A row that the caller sees and no policy lets him change.
    pub fn refused(&self, what: &str, id: &str) -> SyncError {
        SyncError::new(
            code::INSUFFICIENT_PRIVILEGE,
            format!("a row of collection \"{}\" may not be {what}", self.collection.name),
        )
        .detail(format!("Row-level security refuses {}.", self.path_of(id)))
        .hint("The role can see the row but no policy lets it change the row.")
    }

    /// The columns that the client changed in a record: `_changed`, or those sent.
    pub fn changed_columns(&self, record: &Record<'a>) -> Vec<&'a str> {
        let mut changed = Changed::default();
        let fields = self.plan.fields(record).map(|(name, _)| name);
        fields.filter(|name| changed.has(&self.plan, record, name)).collect()
    }

    /// An error of Postgres about one record, with the record's place in the payload.
    pub fn about(&self, id: &str, e: SyncError) -> SyncError {
        self.located(e, format!("It is about {} (id \"{}\").", self.path_of(id), excerpt::name(id)))
    }

    /// An error of Postgres about the collection.
    pub fn while_pushing(&self, e: SyncError) -> SyncError {
        self.located(e, format!("While pushing collection \"{}\".", self.collection.name))
    }

    fn located(&self, e: SyncError, place: String) -> SyncError {
        // RAISE leaves an empty text where nothing was to be said.
        let said = |text: Option<String>| text.filter(|t| !t.is_empty());
        let e = SyncError { detail: said(e.detail), hint: said(e.hint), ..e };
        let says_so = |text: &Option<String>| text.as_ref().is_some_and(|t| t.contains("changes."));
        let lists_rows = e.code == code::CONFLICT && e.detail.as_ref().is_some_and(|d| d.starts_with('['));
        if lists_rows || says_so(&e.detail) || says_so(&e.hint) {
            return e;
        }
        // A trigger of the user's may tell its clients something in JSON: that stays as it is.
        if e.detail.as_ref().is_some_and(|d| serde_json::from_str::<serde::de::IgnoredAny>(d).is_ok()) {
            let hint = Some(e.hint.map_or(place.clone(), |h| format!("{h} {place}")));
            return SyncError { message: excerpt::cut(&e.message, 400), hint, ..e };
        }
        let hint = match e.code.get(..2).unwrap_or("") {
            "22" => "Send values as pull_changes writes them, in the same dialect.",
            "23" => "Nothing was applied. Correct the record on the client, or let the constraint allow it.",
            "42" => "The role needs the table's privileges and a row-level security policy that allows the change.",
            _ => "Nothing was applied.",
        };
        SyncError {
            // Postgres quotes the whole value, which may be megabytes that the client sent.
            message: excerpt::cut(&e.message, 400),
            detail: Some(e.detail.map_or(place.clone(), |d| format!("{d} {place}"))),
            hint: Some(e.hint.unwrap_or_else(|| hint.to_string())),
            ..e
        }
    }
}

/// Which columns of an updated record are to be written. WatermelonDB sends whole rows and says in `_changed` what of them the
/// user changed: the rest is what the client last saw, perhaps without the digits that JavaScript cannot hold. A created
/// record, and one that says nothing, counts with all it has.
#[derive(Default)]
struct Changed<'p> {
    /// Of the record that was asked about last: a client may send thousands of names with thousands of columns.
    names: HashSet<&'p str>,
    of: Option<usize>,
}

impl<'p> Changed<'p> {
    fn has<'a>(&mut self, plan: &'p Plan<'a>, record: &Record<'a>, column: &str) -> bool {
        match plan.changed(record) {
            Some(changed) if !record.created && !changed.is_empty() => {
                let of = Some(changed.as_ptr() as usize);
                if self.of != of {
                    self.names = changed.iter().map(|name| &**name).collect();
                    self.of = of;
                }
                self.names.contains(column)
            }
            _ => true,
        }
    }
}

/// By row: the number of its group.
pub fn groups_of(groups: &[Group], rows: usize) -> Vec<u32> {
    let mut of = vec![0; rows];
    for (number, group) in (0..).zip(groups) {
        group.rows.iter().for_each(|row| of[*row as usize] = number);
    }
    of
}

/// Does a pull write this column of the key as a number? WatermelonDB's ids are texts.
fn is_number(dialect: Dialect, collection: &Collection, key: &Column) -> bool {
    let numbers = [pg_sys::INT2OID, pg_sys::INT4OID, pg_sys::INT8OID, pg_sys::NUMERICOID];
    numbers.contains(&key.facts.base) && !(dialect == Dialect::WatermelonDb && collection.key_is_id())
}

pub fn json_arg(text: &str) -> Arg {
    spi::text_as(pg_sys::JSONOID, text)
}
