//! The policy `custom`: the collection's own function decides.

use pgrx::pg_sys;

use super::fates::Deciding;
use super::{conflict_error, not_quickly, Fate};
use crate::push::target::Target;
use crate::server::error::{code, Result, SyncError};
use crate::server::spi::{self, Mode};
use crate::server::{pg, subxact};
use crate::values::json;

impl Deciding<'_, '_> {
    /// Calls the collection's conflict function, as the caller. It returns the row to write, JSON null to delete the row (or
    /// leave it deleted), or SQL NULL to reject what was pushed.
    pub(super) fn ask(&mut self, id: &str, incoming: Option<&str>) -> Result<Fate> {
        let target = self.target;
        if self.push.quick.get() {
            return Err(not_quickly());
        }
        let Some(signature) = &target.collection.conflict_function else { return Ok(self.conflict(id, None)) };
        let function = signature.rfind('(').map_or(signature.as_str(), |at| &signature[..at]);
        let key = target.collection.key.iter().enumerate();
        let conditions: Vec<String> = key
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
            Some("null") if self.stored(id).visible => self.deleted.push(id.to_string()),
            Some("null") => return Ok(Fate::Keep),
            Some(row) if row.starts_with('{') => self.written.push(with_key(target, id, row)),
            Some(_) => {
                let error = SyncError::new(code::INVALID_PARAMETER, format!("{signature} returned no row")).hint(
                    "A conflict function returns an object of columns, JSON null to delete the row, or NULL to reject.",
                );
                self.reject(id, target.about(id, error));
                return Ok(Fate::Rejected);
            }
        }
        // Its part is taken over by the payload of settled rows.
        Ok(Fate::Nothing)
    }
}

/// The row that a conflict function returned, with the key's columns in front.
fn with_key(target: &Target, id: &str, row: &str) -> String {
    let mut out = Vec::from(b"{");
    for (column, part) in target.collection.key.iter().zip(target.plan.key_parts(id)) {
        json::escape_json(&mut out, column.name.as_bytes());
        out.push(b':');
        json::escape_json(&mut out, part.as_bytes());
        out.push(b',');
    }
    let rest = row[1..].trim_start();
    if rest.starts_with('}') {
        out.pop();
    }
    out.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&out).into_owned()
}
