//! The mark of a row that is deleted and still stored (`soft_delete_column`): a flag that is true, or a time that is not null.

use pgrx::pg_sys;

use crate::collections::catalog::Column;

fn is_flag(mark: &Column) -> bool {
    mark.facts.base == pg_sys::BOOLOID
}

/// The row `t` is marked.
pub fn is_marked(mark: &Column) -> String {
    format!("t.{} {}", mark.ident, if is_flag(mark) { "IS TRUE" } else { "IS NOT NULL" })
}

/// The row `t` is not.
pub fn is_unmarked(mark: &Column) -> String {
    format!("t.{} {}", mark.ident, if is_flag(mark) { "IS NOT TRUE" } else { "IS NULL" })
}

/// What marks it. (A time or a day without a zone is sent as one of UTC, whatever the session's zone.)
pub fn value(mark: &Column) -> String {
    match mark.facts.base {
        pg_sys::BOOLOID => "true".into(),
        pg_sys::TIMESTAMPTZOID => format!("pg_catalog.now()::{}", mark.type_name),
        _ => format!("pg_catalog.timezone('UTC', pg_catalog.now())::{}", mark.type_name),
    }
}

/// What a row has there that is not deleted.
pub fn none(mark: &Column) -> &'static str {
    match is_flag(mark) {
        true => "false",
        false => "NULL",
    }
}

/// Does this JSON value, as a client sends it, mark a row?
pub fn is_set_by(mark: &Column, raw: &str) -> bool {
    let text = raw.trim_matches(|c: char| c == '"' || c.is_ascii_whitespace()).to_ascii_lowercase();
    match is_flag(mark) {
        // (As the type itself reads a text: by its beginning.)
        true => matches!(text.as_bytes().first(), Some(b't' | b'y' | b'1')) || text == "on",
        false => raw != "null",
    }
}

/// Is a row marked in which the column has this value, in the type's own text form?
pub fn marks(mark: &Column, value: Option<&[u8]>) -> bool {
    match is_flag(mark) {
        true => value == Some(b"t"),
        false => value.is_some(),
    }
}
