//! Rows as the Drift client takes them. It looks at `created` and `updated` only, and stores a row if it has none of that id or if
//! the row's `updated_at` is strictly later than that of its own. So
//!
//! - a row that is marked as deleted travels as the row that it is, as late as the mark;
//! - a row that is gone travels as one, too: its id, times, and of the other columns what stands for nothing (the client fails on a
//!   null where its own column has none). It says nothing that an id in `deleted` does not say;
//! - `updated_at` travels a millisecond later than it is stored. A client has the row that it pushed at that very time; this way it hears what became
//!   of it (of two rows of the same time, or after a trigger), and that it need not be pushed again. The order of times stays: what
//!   is stored later is later than what the client got, and what the client writes upon it is later than what is stored. No less than a
//!   millisecond, because Dart's times end there in a browser.

use pgrx::pg_sys;

use super::CollectionPull;
use crate::collections::catalog::{Collection, Column};
use crate::server::memory::Gather;
use crate::server::{pg, time};
use crate::values::dialect::Dialect;
use crate::values::json::{self, Output, Writer};
use crate::values::{settings, wire_id};

/// The latest version that is written so, in the text form of PostgreSQL: a millisecond more, and it is the last that [`Dialect::Drift`] knows.
const LAST: &str = "9999-12-31 23:59:59.998999";

fn is_time(column: &Column) -> bool {
    matches!(column.facts.base, pg_sys::TIMESTAMPTZOID | pg_sys::TIMESTAMPOID)
}

impl CollectionPull<'_> {
    /// The column by which rows that are marked as deleted are shown as rows; None where they count as gone.
    pub(super) fn shown_mark(&self) -> Option<&Column> {
        let mark = self.collection.soft_delete.as_ref().filter(|_| self.dialect == Dialect::Drift)?;
        (is_time(mark) && is_sent(self.collection, mark)).then_some(mark)
    }

    /// The SQL by which the column that says how late a row is travels, if it is this one.
    pub(super) fn shown_version(&self, column: &Column) -> Option<String> {
        let version = self.collection.version.as_ref().filter(|_| self.dialect == Dialect::Drift)?;
        if version.attnum != column.attnum || !is_time(version) {
            return None;
        }
        let base = &version.base_type_name;
        let mark = self.shown_mark().filter(|mark| mark.facts.base == version.facts.base);
        let mark = mark.map_or(String::new(), |mark| format!(", t.{}::{base}", mark.ident));
        let zone = if version.facts.base == pg_sys::TIMESTAMPTZOID { "+00" } else { "" };
        // The client fails on a null here.
        let latest =
            format!("COALESCE(GREATEST(t.{}::{base}{mark}), '1970-01-01 00:00:00{zone}'::{base})", version.ident);
        Some(format!(
            "LEAST({latest}, '{LAST}{zone}'::{base}) OPERATOR(pg_catalog.+) '1 millisecond'::pg_catalog.interval"
        ))
    }

    /// How rows that are gone are written, where that is as rows.
    pub(super) fn gone_row(&self) -> Option<GoneRow> {
        (self.dialect == Dialect::Drift).then(|| GoneRow::of(self.collection))
    }
}

/// Does the caller get this column?
fn is_sent(collection: &Collection, column: &Column) -> bool {
    collection.column(&column.name).is_some() && pg::may_select(collection.relation, column.attnum)
}

/// A row that is gone, but for its id.
pub(super) struct GoneRow {
    /// The names of the key's columns, and whether each is a number.
    key: Vec<(String, bool)>,
    /// The other members, as they stand behind the id.
    rest: String,
}

impl GoneRow {
    fn of(collection: &Collection) -> Self {
        let now = time::now();
        let at = utc(now);
        // Devices whose clocks are ahead have rows from then, not later.
        let later = utc(now.saturating_add(settings::timestamp_slack_micros()));
        let version = collection.version.as_ref().filter(|c| is_time(c)).map_or("updated_at", |c| &c.name);
        let mark = collection.soft_delete.as_ref().filter(|c| is_time(c)).map_or("deleted_at", |c| &c.name);
        let mut rest = Writer::new(Vec::new());
        let is_key = |column: &Column| collection.key.iter().any(|k| k.attnum == column.attnum);
        let others = |c: &&Column| !is_key(c) && ![version, mark, "id"].contains(&&*c.name);
        for column in collection.columns.iter().filter(others).filter(|c| is_sent(collection, c)) {
            rest.name(&column.name);
            rest.raw(&nothing(column, &at));
        }
        rest.name(version);
        rest.raw(&later);
        rest.name(mark);
        rest.raw(&at);
        let key = collection.key.iter().map(|k| (k.name.clone(), is_number(k)));
        GoneRow { key: key.gather(), rest: rest.into_text() }
    }

    pub fn write(&self, id: &str, out: &mut Writer<Output>) {
        out.object();
        out.name("id");
        out.text(id);
        let parts = wire_id::decode(id, self.key.len()).unwrap_or_default();
        for ((name, is_number), part) in self.key.iter().zip(parts).filter(|((name, _), _)| name != "id") {
            out.name(name);
            // (A numeric may be NaN or Infinity, which are no numbers in JSON.)
            match *is_number && part.ends_with(|c: char| c.is_ascii_digit()) {
                true => out.raw(&part),
                false => out.text(&part),
            }
        }
        out.raw(&self.rest);
        out.end_object();
    }
}

fn is_number(column: &Column) -> bool {
    matches!(column.facts.base, pg_sys::INT2OID | pg_sys::INT4OID | pg_sys::INT8OID | pg_sys::NUMERICOID)
}

/// A time, as JSON.
fn utc(micros_since_unix_epoch: i64) -> String {
    let mut text: Vec<u8> = Vec::new();
    json::write_timestamp_utc(&mut text, micros_since_unix_epoch.saturating_sub(time::EPOCH));
    String::from_utf8_lossy(&text).into_owned()
}

/// What stands for no value of this column, as JSON.
fn nothing(column: &Column, now: &str) -> String {
    let text = match column.facts.base {
        _ if !column.not_null => "null",
        pg_sys::BOOLOID => "false",
        pg_sys::FLOAT4OID | pg_sys::FLOAT8OID => "0",
        _ if is_number(column) => "0",
        pg_sys::TIMESTAMPTZOID | pg_sys::TIMESTAMPOID => now,
        pg_sys::DATEOID => return format!("{}\"", &now[..11]),
        pg_sys::UUIDOID => "\"00000000-0000-0000-0000-000000000000\"",
        pg_sys::JSONOID | pg_sys::JSONBOID => "{}",
        _ if column.facts.is_array() => "[]",
        _ => "\"\"",
    };
    text.to_string()
}
