//! The policy `custom`: the collection's own function decides.

use pgrx::pg_sys;

use super::fates::Deciding;
use super::{conflict_error, Fate};
use crate::push::payload::{IdField, RawCollection, Rows};
use crate::push::target::Target;
use crate::server::error::{code, Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::spi::{self, Mode};
use crate::server::{pg, subxact};
use crate::values::json;

/// What the conflict function made of rows of one target.
pub struct Answers {
    /// The index of the target.
    pub target: usize,
    /// Rows to write: the key's columns with their values, and the row that was returned, all as JSON.
    written: Vec<(Vec<(String, String)>, String)>,
    /// Ids of rows to delete, as JSON.
    deleted: Vec<String>,
}

impl Answers {
    pub(super) fn of(target: usize) -> Self {
        Answers { target, written: Vec::new(), deleted: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.written.is_empty() && self.deleted.is_empty()
    }

    /// The rows, as if they had been pushed to the collection that the client calls so.
    pub fn rows<'s>(&'s self, asked: &'s str) -> Result<RawCollection<'s>> {
        let mut rows = Rows::of(asked, memory::heed);
        for (key, row) in &self.written {
            let key: Vec<(&str, &str)> = key.iter().map(|(name, value)| (name.as_str(), value.as_str())).gather();
            rows.updated(&key, row)?;
        }
        for id in &self.deleted {
            rows.deleted(id);
        }
        Ok(rows.done())
    }
}

impl Deciding<'_, '_> {
    /// Calls the collection's conflict function, as the caller. It returns the row to write, JSON null to delete the row (or
    /// leave it deleted), or SQL NULL to reject what was pushed.
    pub(super) fn ask(&mut self, id: &str, incoming: Option<&str>) -> Result<Fate> {
        let target = self.target;
        if !self.may_ask {
            self.would_ask = true;
            return Ok(Fate::Nothing);
        }
        let Some(signature) = &target.collection.conflict_function else { return Ok(self.conflict(id, None)) };
        if !is_meant(target)? {
            self.reject(id, target.about(id, another_owners(signature)));
            return Ok(Fate::Rejected);
        }
        let mut args = vec![
            spi::arg(target.collection.name.as_str()),
            spi::arg(id),
            spi::Arg { oid: pg_sys::JSONOID, ..spi::arg(incoming) },
        ];
        memory::extend(&mut args, target.plan.key_parts(id).into_iter().map(spi::arg));
        let (answer, is_same) = match subxact::run(|| spi::query(&statement(target, signature), &args, Mode::Write)) {
            Ok(rows) => rows.first().map_or((None, true), |r| (r.text(0).map(str::to_string), r.bool(1))),
            Err(e) if subxact::is_transient(&e) => return Err(e),
            Err(e) => {
                self.reject(id, target.about(id, e));
                return Ok(Fate::Rejected);
            }
        };
        match answer.as_deref() {
            None => {
                self.reject(id, conflict_error());
                return Ok(Fate::Rejected);
            }
            Some(_) if !is_same => {
                let error = SyncError::new(code::INVALID_PARAMETER, format!("{signature} returned another row"))
                    .hint("A conflict function decides about the row that it is called for: it returns its columns, with or without its key.");
                self.reject(id, target.about(id, error));
                return Ok(Fate::Rejected);
            }
            Some("null") if self.stored(id).visible && !self.stored(id).deleted => {
                self.answers.deleted.push(json::text(id))
            }
            Some("null") => return Ok(Fate::Gone),
            Some(row) if row.starts_with('{') => self.answers.written.push((key(target, id), row.to_string())),
            Some(_) => {
                let error = SyncError::new(code::INVALID_PARAMETER, format!("{signature} returned no row")).hint(
                    "A conflict function returns an object of columns, JSON null to delete the row, or NULL to reject.",
                );
                self.reject(id, target.about(id, error));
                return Ok(Fate::Rejected);
            }
        }
        Ok(Fate::Asked)
    }
}

const MEANT: &str = include_str!("ask/meant.sql");

/// Is what the conflict function's name means now the one that was named? A name passes to others without a change of any function: schemas are
/// renamed, and roles lose others' rights. So it is asked each time.
fn is_meant(target: &Target) -> Result<bool> {
    Ok(!spi::query_now(MEANT, &[spi::arg(target.collection.relation)])?.is_empty())
}

fn another_owners(signature: &str) -> SyncError {
    SyncError::new(code::NOT_IN_STATE, format!("{signature} is not the conflict function that was named"))
        .detail("It is gone, or has another owner now, or somebody else has made one of the same name in its place.")
        .hint("If it is meant, let the table's owner name it again: snapsync.enable(..., conflict_function => ...).")
}

/// Calls the function with the collection's name, the id, what is stored (`$4`, ... are the key's parts) and what was pushed. Gives what
/// it returns, without the key, and whether it is about the same row: its key is the one that was asked about, as far as it has one.
fn statement(target: &Target, signature: &str) -> String {
    let collection = &target.collection;
    let function = signature.rfind('(').map_or(signature, |at| &signature[..at]);
    let readable = collection.columns.iter().filter(|c| pg::may_select(collection.relation, c.attnum));
    let readable: Vec<String> = readable.map(|c| format!("t.{}", c.ident)).gather();
    let (mut conditions, mut same, mut names) = (Vec::new(), Vec::new(), Vec::new());
    let mut field = |name: &str, base: &str, value: &str| {
        let name = pg::literal(name);
        same.push(format!(
            "COALESCE((f.v OPERATOR(pg_catalog.->>) {name})::{base} OPERATOR(pg_catalog.=) {value}, true)"
        ));
        names.push(name);
    };
    for (column, number) in collection.key.iter().zip(4..) {
        let base = column.facts.base_type_name();
        let value = format!("${number}::{base}");
        conditions.push(format!("t.{} OPERATOR(pg_catalog.=) {value}", column.ident));
        field(&column.name, base, &value);
    }
    // (A column "id" is what the function knows by that name.)
    if target.id_field() == IdField::WireId && collection.column("id").is_none() {
        field("id", "pg_catalog.text", "$2");
    } else if target.id_field() == IdField::WireId && !collection.key_is_id() {
        names.push(pg::literal("id"));
    }
    format!(
        "SELECT CASE WHEN pg_catalog.jsonb_typeof(f.v) OPERATOR(pg_catalog.=) 'object' THEN f.v OPERATOR(pg_catalog.-) ARRAY[{}]::pg_catalog.text[] \
                ELSE f.v END, {} \
         FROM (SELECT {function}($1, $2, (SELECT pg_catalog.to_jsonb(s) FROM (SELECT {} FROM {} AS t WHERE {}) AS s), \
                                 $3::pg_catalog.jsonb) AS v OFFSET 0) AS f",
        names.join(", "),
        same.join(" AND "),
        readable.join(", "),
        collection.from,
        conditions.join(" AND ")
    )
}

/// What says which row a record is of: the key's columns with the values that they have in this id, as JSON; or the whole id, where that stands in place of one of them.
fn key(target: &Target, id: &str) -> Vec<(String, String)> {
    if has_part_named_id(target) {
        return vec![("id".into(), json::text(id))];
    }
    let key = target.collection.key.iter().zip(target.plan.key_parts(id));
    key.map(|(column, part)| (column.name.clone(), json::text(&part))).gather()
}

/// Is the whole id called as one of the columns that it is made of?
fn has_part_named_id(target: &Target) -> bool {
    let key = &target.collection.key;
    target.id_field() == IdField::WireId && key.len() > 1 && key.iter().any(|column| column.name == "id")
}
