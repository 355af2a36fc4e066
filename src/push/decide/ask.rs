//! The policy `custom`: the collection's own function decides.

use pgrx::pg_sys;

use super::fates::Deciding;
use super::{conflict_error, Fate};
use crate::push::payload::{RawCollection, Rows};
use crate::push::target::Target;
use crate::server::error::{code, Result, SyncError};
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
        let mut rows = Rows::of(asked, pg::check_for_interrupts);
        for (key, row) in &self.written {
            let key: Vec<(&str, &str)> = key.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
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
        let function = signature.rfind('(').map_or(signature.as_str(), |at| &signature[..at]);
        let columns = target.collection.key.iter().enumerate();
        let conditions: Vec<String> = columns
            .map(|(i, k)| format!("t.{} OPERATOR(pg_catalog.=) ${}::{}", k.ident, i + 4, k.facts.base_type_name()))
            .collect();
        let readable = target.collection.columns.iter();
        let readable: Vec<String> = readable
            .filter(|c| pg::may_select(target.collection.relation, c.attnum))
            .map(|c| format!("t.{}", c.ident))
            .collect();
        let sql = format!(
            "SELECT {function}($1, $2, (SELECT pg_catalog.to_jsonb(s) FROM (SELECT {} FROM {} AS t WHERE {}) AS s), \
             $3::pg_catalog.jsonb)",
            readable.join(", "),
            target.collection.from,
            conditions.join(" AND ")
        );
        let mut args = vec![
            spi::arg(target.collection.name.as_str()),
            spi::arg(id),
            spi::Arg { oid: pg_sys::JSONOID, ..spi::arg(incoming) },
        ];
        args.extend(target.plan.key_parts(id).into_iter().map(spi::arg));
        let answer = match subxact::run(|| spi::query(&sql, &args, Mode::Write)) {
            Ok(rows) => rows.first().and_then(|r| r.text(0).map(str::to_string)),
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
            Some("null") if self.stored(id).visible => self.answers.deleted.push(json::text(id)),
            Some("null") => return Ok(Fate::Keep),
            Some(row) if row.starts_with('{') => self.answers.written.push((key(target, id), row.to_string())),
            Some(_) => {
                let error = SyncError::new(code::INVALID_PARAMETER, format!("{signature} returned no row")).hint(
                    "A conflict function returns an object of columns, JSON null to delete the row, or NULL to reject.",
                );
                self.reject(id, target.about(id, error));
                return Ok(Fate::Rejected);
            }
        }
        // What was returned is written in its place.
        Ok(Fate::Nothing)
    }
}

/// The key's columns with the values that they have in this id, as JSON.
fn key(target: &Target, id: &str) -> Vec<(String, String)> {
    let key = target.collection.key.iter().zip(target.plan.key_parts(id));
    key.map(|(column, part)| (column.name.clone(), json::text(&part))).collect()
}
