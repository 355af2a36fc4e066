//! Which scopes a pull reads: those the caller asks for in `filter`, else those that the collection's `scope_values` gives
//! him. Scopes only narrow; row-level security stays the authority. A filter may also name rows by their keys (`keys.rs`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use pgrx::pg_sys;
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::collections::catalog::{Collection, Column};
use crate::policies::owned::{self, Purpose};
use crate::server::checked::Checked;
use crate::server::error::{code, in_sql_of, Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::pg;
use crate::server::spi::{self, Mode};
use crate::server::statement::{self, kept::Key};
use crate::sight::delta::Delta;
use crate::sight::keys;
use crate::values::dialect::Dialect;
use crate::values::{excerpt, wire_id};

pub mod derived;

/// `{"todos": {"org_id": ["42", "43"]}, "projects": {"id": "7"}}`.
#[derive(Default)]
pub struct Filter(BTreeMap<String, BTreeMap<String, Vec<String>>>);

/// Which of the two filters a call has.
#[derive(Clone, Copy, PartialEq)]
pub enum Which {
    Filter,
    LastFilter,
}

impl Which {
    fn name(self) -> &'static str {
        match self {
            Which::Filter => "filter",
            Which::LastFilter => "last_filter",
        }
    }

    fn malformed(self, detail: String) -> SyncError {
        SyncError::new(code::INVALID_PARAMETER, format!("malformed {}", self.name())).detail(detail).hint(
            "Name the collection, its scope column or its key, and the values: {\"todos\": {\"org_id\": [\"42\"]}}.",
        )
    }

    fn object(self, raw: &RawValue, what: &str) -> Result<BTreeMap<String, Checked<Box<RawValue>>>> {
        serde_json::from_str(raw.get()).map_err(|_| self.malformed(format!("{what} is not an object.")))
    }
}

impl Filter {
    /// None where the argument is not given.
    pub fn parse(which: Which, text: Option<&str>) -> Result<Option<Filter>> {
        let Some(text) = text else { return Ok(None) };
        let raw: &RawValue = serde_json::from_str(text).map_err(|e| which.malformed(e.to_string()))?;
        if raw.get() == "null" {
            return Ok(None);
        }
        let mut filter = BTreeMap::new();
        for (collection, Checked(columns)) in which.object(raw, "It")? {
            let mut values = BTreeMap::new();
            let what = format!("The filter of \"{}\"", excerpt::name(&collection));
            for (column, Checked(wanted)) in which.object(&columns, &what)? {
                let texts = texts(which, &column, wanted)?;
                values.insert(column, texts);
            }
            filter.insert(collection, values);
        }
        Ok(Some(Filter(filter)))
    }

    /// Everything in the filter must mean something: a misspelt name would silently pull all rows.
    pub fn check(&self, names: &[String], collections: &[Rc<Collection>], dialect: Dialect) -> Result<()> {
        let pulled: HashMap<&String, &Rc<Collection>> = names.iter().zip(collections).gather();
        for (name, columns) in &self.0 {
            let Some(collection) = pulled.get(name) else {
                return Err(Which::Filter.malformed(format!("Collection \"{}\" is not pulled.", excerpt::name(name))));
            };
            for column in columns.keys() {
                if !is_scope(collection, column) && !keys::is_key(collection, column, dialect) {
                    return Err(cannot_filter(name, collection, column, dialect));
                }
            }
        }
        Ok(())
    }

    /// Does it ask for scopes or keys of this collection?
    pub fn names(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Does it still mean something? (The settings may have changed since the call that it was made for.)
    pub fn holds(&self, name: &str, collection: &Collection, dialect: Dialect) -> bool {
        let columns = self.0.get(name);
        columns.into_iter().flat_map(BTreeMap::keys).all(|column| match is_scope(collection, column) {
            true => collection.scope.as_ref().is_some_and(|scope| pg::may_select(collection.relation, scope.attnum)),
            false => keys::is_key(collection, column, dialect),
        })
    }

    /// The values that it names of the scope column.
    fn of_scope(&self, name: &str, collection: &Collection) -> Option<&Vec<String>> {
        let scope = collection.scope.as_ref()?;
        self.0.get(name)?.get(&scope.name)
    }

    /// Does it name scopes?
    pub fn names_scopes(&self, name: &str, collection: &Collection) -> bool {
        self.of_scope(name, collection).is_some()
    }

    /// The scopes to read of this collection, each once, in order, in the column's own text form; None for all.
    pub fn scopes(&self, name: &str, collection: &Collection) -> Result<Option<Vec<String>>> {
        let Some(scope) = &collection.scope else { return Ok(None) };
        let asked = self.of_scope(name, collection);
        if asked.is_some() && !pg::may_select(collection.relation, scope.attnum) {
            // Which rows are of a scope that the caller names would tell him what he may not read.
            return Err(SyncError::new(
                code::INSUFFICIENT_PRIVILEGE,
                format!("permission denied for the scope column of collection \"{}\"", excerpt::name(name)),
            )
            .detail("Only who may read the column can filter by it.")
            .hint("Leave the filter out, or let the table's owner grant SELECT on the column."));
        }
        let given = match (asked, &collection.scope_values) {
            (Some(asked), _) => asked.clone(),
            (None, None) => return Ok(None),
            // The owner's expression runs with the caller's rights, like a policy; where policies would not run, neither
            // does it: a superuser pulls all.
            (None, Some(_)) if pg::bypasses_policies() => return Ok(None),
            (None, Some(expression)) => {
                let place = || format!("It is in scope_values of collection \"{name}\".");
                in_sql_of(place, || values_of(collection, expression))?
            }
        };
        let place = || format!("It is a scope of collection \"{name}\", of its column \"{}\".", scope.name);
        in_sql_of(place, || own_texts(scope, given)).map(Some)
    }

    /// The ids of the rows to read of this collection, each once, in order, as the server writes them; None where it names none.
    pub fn keys(&self, name: &str, collection: &Collection, dialect: Dialect) -> Result<Option<Vec<String>>> {
        let Some(columns) = self.0.get(name) else { return Ok(None) };
        let mut named = columns
            .iter()
            .filter(|(column, _)| !is_scope(collection, column) && keys::is_key(collection, column, dialect));
        let Some((_, first)) = named.next() else { return Ok(None) };
        let mut ids = keys::own_ids(name, collection, first)?;
        // (Called `id` and by its column, it has to be of both.)
        for (_, more) in named {
            let more: BTreeSet<String> = keys::own_ids(name, collection, more)?.into_iter().gather();
            ids.retain(|id| more.contains(id));
        }
        Ok(Some(ids))
    }
}

/// A scope that the policies give is shown by `snapsync.status`, and yet no client can filter by it.
fn cannot_filter(name: &str, collection: &Collection, column: &str, dialect: Dialect) -> SyncError {
    let found = collection.logged_scope.as_ref().is_some_and(|scope| scope.name == column);
    let (column, name, called) = (excerpt::name(column), excerpt::name(name), keys::called(collection, dialect));
    let error = |message| SyncError::new(code::INVALID_PARAMETER, message);
    if found {
        return error(format!("collection \"{name}\" cannot be filtered by column \"{column}\""))
            .detail(format!(
                "It is a scope that was found in the policies, which makes pulls cheaper and nothing else. {called}"
            ))
            .hint(format!("Let the table's owner name it: snapsync.enable(..., scope_column => '{column}')."));
    }
    error(format!("column \"{column}\" is neither the scope column nor the key of collection \"{name}\""))
        .detail(called)
        .hint("Filter by the key, or by a scope column: snapsync.enable(..., scope_column => '...').")
}

fn is_scope(collection: &Collection, column: &str) -> bool {
    collection.scope.as_ref().is_some_and(|scope| scope.name == column)
}

/// The texts and numbers in an array, or one of either by itself.
fn texts(which: Which, column: &str, wanted: Box<RawValue>) -> Result<Vec<String>> {
    let wanted = match wanted.get().as_bytes().first() {
        Some(b'[') => serde_json::from_str(wanted.get()).map_err(|e| which.malformed(e.to_string()))?,
        _ => vec![Checked(wanted)],
    };
    // A number as it is written: it may have more digits than any type of Rust's.
    let texts = wanted.iter().map(|Checked(v)| {
        memory::heed();
        match v.get().as_bytes().first() {
            Some(b'"') => serde_json::from_str(v.get()).map_err(|e| which.malformed(e.to_string())),
            Some(b'-' | b'0'..=b'9') => Ok(v.get().to_string()),
            _ => {
                let column = excerpt::name(column);
                Err(which.malformed(format!("A value for \"{column}\" is neither a text nor a number.")))
            }
        }
    });
    texts.gather()
}

/// The caller's scopes by the owner's expression. Where that gives NULL there are none, and a NULL among them is passed over: what is
/// not known is nobody's scope.
fn values_of(collection: &Collection, expression: &str) -> Result<Vec<String>> {
    // How it writes dates and numbers is no matter of the session's settings. The functions that it calls find what they always find.
    let relation = collection.relation;
    let key = Key::of(relation, Some(&spi::c_string(expression)?));
    let rows = spi::pinned_but_path(|| {
        statement::rows_of(key, || owned::read(relation, &Purpose::Scopes, expression, &collection.owned_calls))
    })?;
    Ok(scopes_in(rows))
}

fn scopes_in(rows: Vec<Option<String>>) -> Vec<String> {
    let given = rows.into_iter().flatten().next().and_then(|json| serde_json::from_str(&json).ok());
    given.map_or(Vec::new(), |FlatTexts(scopes)| scopes)
}

/// What the expression gave during a sight, each scope once, in order, in the column's own text form.
pub fn values_during(sight: usize, collection: &Collection, expression: &str, delta: &Delta) -> Result<Vec<String>> {
    let Some(scope) = &collection.scope else { return Ok(Vec::new()) };
    let read = || owned::read(collection.relation, &Purpose::Scopes, expression, &collection.owned_calls);
    let rows = spi::pinned_but_path(|| delta.rows_during(sight, read))?;
    own_texts(scope, scopes_in(rows))
}

/// These values, each once, in order, in the column's own text form.
pub(in crate::sight) fn own_texts(scope: &Column, given: Vec<String>) -> Result<Vec<String>> {
    if given.iter().all(|v| is_own_text(scope.facts.base, v)) {
        return Ok(given.into_iter().gather::<BTreeSet<_>>().into_iter().gather());
    }
    let sql = format!(
        "SELECT pg_catalog.to_json(ARRAY(SELECT DISTINCT v::pg_catalog.text FROM pg_catalog.unnest($1::{}[]) AS v))",
        scope.facts.base_type_name()
    );
    let rows = spi::query(&sql, &[spi::arg(given)], Mode::Read)?;
    let mut scopes = rows.first().and_then(|r| r.list(0)).unwrap_or_default();
    scopes.sort_unstable();
    Ok(scopes)
}

/// The texts in an array, of whatever dimensions, as `= ANY` sees them.
struct FlatTexts(Vec<String>);

impl<'de> Deserialize<'de> for FlatTexts {
    fn deserialize<D: Deserializer<'de>>(json: D) -> std::result::Result<Self, D::Error> {
        json.deserialize_any(FlatTextsVisitor)
    }
}

struct FlatTextsVisitor;

impl<'de> Visitor<'de> for FlatTextsVisitor {
    type Value = FlatTexts;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("texts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> std::result::Result<FlatTexts, A::Error> {
        let mut texts = Vec::new();
        while let Some(Checked(FlatTexts(member))) = members.next_element()? {
            memory::extend(&mut texts, member);
        }
        Ok(FlatTexts(texts))
    }

    fn visit_str<E>(self, text: &str) -> std::result::Result<FlatTexts, E> {
        Ok(FlatTexts(vec![text.to_string()]))
    }

    fn visit_unit<E>(self) -> std::result::Result<FlatTexts, E> {
        Ok(FlatTexts(Vec::new()))
    }
}

/// Is this how the type writes the value? Then there is nothing to ask the server for: 40 us, an eighth of a small pull.
pub(in crate::sight) fn is_own_text(base: pg_sys::Oid, value: &str) -> bool {
    match base {
        pg_sys::TEXTOID | pg_sys::VARCHAROID => true,
        pg_sys::UUIDOID => wire_id::is_canonical_uuid(value),
        pg_sys::INT2OID => value.parse().is_ok_and(|n: i16| n.to_string() == value),
        pg_sys::INT4OID => value.parse().is_ok_and(|n: i32| n.to_string() == value),
        pg_sys::INT8OID => value.parse().is_ok_and(|n: i64| n.to_string() == value),
        _ => false,
    }
}
