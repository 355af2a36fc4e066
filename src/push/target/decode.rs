//! How a pushed JSON value becomes a column's value: the SQL that reads it. Every digit is kept, because Postgres's own
//! input functions see the text as it was sent; nothing goes through a float on the way.

use pgrx::pg_sys;

use crate::collections::catalog::Column;
use crate::values::device::Device;
use crate::values::dialect::Dialect;

/// The largest Date that JavaScript knows, in ms since the epoch: our wire form of `infinity` (ECMA-262, 21.4.1.1).
const JS_MAX_MILLIS: &str = "8640000000000000";

/// Of a time it depends on the value what becomes of it: a number and a text are read in different ways.
pub fn is_time(column: &Column) -> bool {
    matches!(column.facts.base, pg_sys::TIMESTAMPTZOID | pg_sys::TIMESTAMPOID | pg_sys::DATEOID)
}

/// A text that a time without an offset is. (Without backslashes, of which settings decide.)
const WITHOUT_OFFSET: &str = "'^ *[0-9]{4,6}-[0-9]{2}-[0-9]{2}([T ][0-9:.]*)? *$'";
const WITH_OFFSET: &str = "'^ *[0-9]{4,6}-[0-9]{2}-[0-9]{2}[T ][0-9:.]* *(Z|[+-][0-9:]+) *$'";

/// The time that a text means which a device has sent: where it does not say how far it is from UTC, the device's place does. A column without a zone has
/// the time of UTC.
fn device_time(device: Device, text: &str, column: &Column) -> String {
    let (offset, target) = (device.offset / 1_000_000, &column.type_name);
    let like = |form: &str| format!("({text}) COLLATE pg_catalog.\"C\" OPERATOR(pg_catalog.~) {form}");
    let here =
        format!("pg_catalog.timezone(pg_catalog.make_interval(secs => {offset}), ({text})::pg_catalog.timestamp)");
    let (without, with) = (like(WITHOUT_OFFSET), like(WITH_OFFSET));
    match column.facts.base {
        pg_sys::TIMESTAMPTZOID => format!("CASE WHEN {without} THEN {here}::{target} ELSE ({text})::{target} END"),
        // (The type's own input passes an offset over.)
        _ => format!(
            "CASE WHEN {without} THEN pg_catalog.timezone('UTC', {here})::{target} \
             WHEN {with} THEN pg_catalog.timezone('UTC', ({text})::pg_catalog.timestamptz)::{target} ELSE ({text})::{target} END"
        ),
    }
}

/// How a column of the recordset is declared, and the expression that makes its value. `field` is its name there; with
/// `is_text`, no value is anything else than a text or null.
pub fn value((dialect, device): (Dialect, Device), column: &Column, field: &str, is_text: bool) -> (String, String) {
    let target = &column.type_name;
    let plain = || (target.clone(), format!("r.{field}"));
    let text = format!("(r.{field} OPERATOR(pg_catalog.#>>) '{{}}')");
    let json_typeof = format!("pg_catalog.json_typeof(r.{field})");
    let of_device = dialect == Dialect::Drift && column.facts.base != pg_sys::DATEOID && is_time(column);
    match column.facts.base {
        _ if is_text && of_device => ("pg_catalog.text".into(), device_time(device, &format!("r.{field}"), column)),
        _ if is_text && is_time(column) => plain(),
        pg_sys::TIMESTAMPTZOID | pg_sys::TIMESTAMPOID | pg_sys::DATEOID => {
            // A number is ms since the epoch in every dialect; a string is what the type reads. Counted in days and the
            // rest of a day, in numeric: a float cannot hold the microseconds of a date beyond the year 2255, and an
            // interval of hours would not know daylight saving time, nor need to.
            let millis = format!("{text}::pg_catalog.numeric");
            let days = format!("pg_catalog.floor({millis} OPERATOR(pg_catalog./) 86400000)");
            let micros = format!(
                "pg_catalog.round(({millis} OPERATOR(pg_catalog.-) ({days} OPERATOR(pg_catalog.*) 86400000)) \
                 OPERATOR(pg_catalog.*) 1000)::pg_catalog.float8"
            );
            let instant = format!(
                "CASE WHEN {millis} OPERATOR(pg_catalog.=) {JS_MAX_MILLIS} THEN 'infinity'::pg_catalog.timestamp \
                 WHEN {millis} OPERATOR(pg_catalog.=) -{JS_MAX_MILLIS} THEN '-infinity'::pg_catalog.timestamp \
                 ELSE '1970-01-01 00:00:00'::pg_catalog.timestamp \
                      OPERATOR(pg_catalog.+) pg_catalog.make_interval(days => {days}::pg_catalog.int4) \
                      OPERATOR(pg_catalog.+) ('1 microsecond'::pg_catalog.interval OPERATOR(pg_catalog.*) {micros}) END"
            );
            let local = match column.facts.base {
                pg_sys::TIMESTAMPTZOID => format!("pg_catalog.timezone('UTC', {instant})"),
                _ => instant,
            };
            let read = if of_device { device_time(device, &text, column) } else { format!("{text}::{target}") };
            let expression = format!(
                "CASE WHEN {json_typeof} OPERATOR(pg_catalog.=) 'number' THEN ({local})::{target} ELSE {read} END"
            );
            ("pg_catalog.json".into(), expression)
        }
        pg_sys::JSONOID | pg_sys::JSONBOID if dialect == Dialect::WatermelonDb => {
            let expression = format!(
                "CASE WHEN {json_typeof} OPERATOR(pg_catalog.=) 'string' THEN {text}::{target} ELSE r.{field}::{target} END"
            );
            ("pg_catalog.json".into(), expression)
        }
        _ if dialect == Dialect::WatermelonDb && column.facts.is_nested() => {
            // JSON text in a string ("[1,2]", "{\"a\":1}"), nested JSON, or the type's own text form ("{1,2}", "(1,2)").
            let opening = if column.facts.is_array() { "[" } else { "{" };
            let read = |json: &str| {
                format!(
                    "(SELECT x.v FROM pg_catalog.json_to_record(pg_catalog.json_build_object('v', {json})) AS x(v {target}))"
                )
            };
            let expression = format!(
                "CASE WHEN {json_typeof} OPERATOR(pg_catalog.<>) 'string' THEN {} \
                 WHEN pg_catalog.left(pg_catalog.ltrim({text}), 1) OPERATOR(pg_catalog.=) '{opening}' THEN {} \
                 ELSE {text}::{target} END",
                read(&format!("r.{field}")),
                read(&format!("{text}::pg_catalog.json"))
            );
            ("pg_catalog.json".into(), expression)
        }
        _ => plain(),
    }
}

/// The value that a column of an existing row `t` gets: the stored one where the client's is the same at the precision
/// that it can have. A row that comes back with a time in ms must not lose the microseconds of the stored one.
pub fn over_stored(column: &Column, field: &str, value: String) -> String {
    let kind = match column.facts.base {
        pg_sys::TIMESTAMPTZOID => "timestamptz",
        pg_sys::TIMESTAMPOID => "timestamp",
        _ => return value,
    };
    let stored = format!("t.{}", column.ident);
    format!(
        "CASE WHEN pg_catalog.json_typeof(r.{field}) OPERATOR(pg_catalog.=) 'number' \
              AND pg_catalog.date_trunc('milliseconds', {stored}::pg_catalog.{kind}) OPERATOR(pg_catalog.=) \
                  ({value})::pg_catalog.{kind} \
         THEN {stored} ELSE {value} END"
    )
}
