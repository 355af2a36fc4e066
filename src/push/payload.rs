//! Decodes what a client pushes: `{"todos": {"created": [{...}], "updated": [{...}], "deleted": ["id", ...]}, ...}`.
//!
//! Two stages, because the second needs to know the table:
//!
//! 1. [`parse()`] checks the shape of the whole payload and finds every field of every record, in one pass. No value is
//!    interpreted: a field stays the slice of the payload that it was, so that `1.10` and `12345678901234567890.12345`
//!    arrive digit by digit. PostgreSQL interprets the values.
//! 2. [`RawCollection::resolve`] works out the id of each record from the table's key, merges records that stand in the batch
//!    more than once, and groups the records by the columns they carry, so that the core can apply one statement per group.
//!    [`Plan::render_rows`] gives the one parameter of that statement.
//!
//! Both are linear in the size of the payload: a field is a slice, the names of a record's fields are stored once per
//! *shape* (list of field names) and not per record, and an id is hashed once.
//!
//! # Rules
//!
//! From WatermelonDB's rules for backends, and where those are silent the strictest reading that no
//! known client violates, because a batch that is misunderstood is lost silently and one that is refused is not:
//!
//! - `_status` and `_changed` are no columns. `_changed` is kept as the list of columns that the client changed: text with
//!   commas between the names, as WatermelonDB writes it, or an array of names.
//! - A missing array, or null in its place, is an empty array. Anything else beside `created`, `updated` and `deleted` is
//!   an error: it would be dropped silently.
//! - The same collection, or the same array in a collection, twice: an error. The same field twice in one record: the last
//!   one counts, as in `jsonb`.
//! - A deleted entry is an id or a whole record (the Drift client sends rows); of a record only the id counts.
//! - The same id twice: deletion wins; otherwise the fields are merged, later ones win, and `updated` is later than `created`.
//! - Text that PostgreSQL cannot store (`\u0000`, half a surrogate pair) is refused here, where the path is known,
//!   and so is nesting below [`MAX_DEPTH`].
//! - All names are data. `__proto__` is a name like any other.

use thiserror::Error;

use crate::values::excerpt::{cut, NAME};

mod inspect;
mod parse;
mod plan;
#[cfg(test)]
mod properties;
mod resolve;
#[cfg(test)]
mod tests;

pub use parse::{parse, RawCollection, Rows};
pub use plan::{Group, Plan, Record};
pub use resolve::{IdField, TableFacts};

/// How deeply the value of a field may be nested. PostgreSQL's own parser uses the stack and gives up at a depth that depends
/// on its settings; this one says so beforehand, with the path.
pub const MAX_DEPTH: usize = 512;

/// Called at every step of whatever goes through a payload: the server's check for interrupts, which does not return when there is
/// one. It is handed to [`parse()`] and kept, so that nothing here needs a server.
pub type Check = fn();

/// Why a batch is refused. Nothing of it has been applied.
///
/// Every variant has the path of the offending piece, as one would write it in JavaScript: `changes.todos.created[3].title`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BatchError {
    /// The text is no JSON. PostgreSQL's `json` type refuses all of these but half surrogate pairs.
    #[error("{path}: invalid JSON: {problem}")]
    Syntax {
        /// The innermost array element or collection that was being read.
        path: String,
        /// The parser's words, with line and column. They repeat nothing of the payload.
        problem: String,
    },
    /// A value of the wrong JSON type.
    #[error("{path}: found {found}, expected {expected}")]
    Shape {
        /// Where.
        path: String,
        /// What stands there: "a string", "null", ...
        found: &'static str,
        /// What should.
        expected: &'static str,
    },
    /// A key beside `created`, `updated` and `deleted`.
    #[error("{path}: unknown key \"{key}\"")]
    UnknownKey {
        /// The collection.
        path: String,
        /// The key, cut.
        key: String,
    },
    /// The same collection, or the same array of a collection, twice.
    #[error("{path} stands there twice")]
    Duplicate {
        /// What.
        path: String,
    },
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("{path}: nested deeper than {MAX_DEPTH} levels")]
    TooDeep {
        /// The field.
        path: String,
    },
    /// `\u0000` in a string, which PostgreSQL cannot store in text or jsonb.
    #[error("{path}: \\u0000 cannot be stored in text")]
    Nul {
        /// The field or name.
        path: String,
    },
    /// Half of a surrogate pair in a string: no character.
    #[error("{path}: \\u{unit:04x} is half of a surrogate pair, which is no character")]
    Surrogate {
        /// The field.
        path: String,
        /// The UTF-16 code unit.
        unit: u16,
    },
    /// Neither an `id` nor all columns of the key.
    #[error("{path}: {missing} is missing")]
    NoId {
        /// The record.
        path: String,
        /// The fields that would have given an id.
        missing: String,
    },
    /// An `id`, or a column of the key, that cannot be one.
    #[error("{path}: {problem}")]
    BadId {
        /// The field, or the element of `deleted`.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// `id` and the columns of the key name different rows.
    #[error("{path}: id \"{id}\" does not agree with the key column {column}, which is \"{value}\"")]
    IdMismatch {
        /// The record.
        path: String,
        /// The wire id in `id`, cut.
        id: String,
        /// The column.
        column: String,
        /// What the column has, cut.
        value: String,
    },
}

impl BatchError {
    /// The SQLSTATE: those of PostgreSQL for what its own `jsonb` refuses, `22023` (invalid_parameter_value) for the shape.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            BatchError::Syntax { .. } | BatchError::Surrogate { .. } => "22P02",
            BatchError::Nul { .. } => "22P05",
            BatchError::TooDeep { .. } => "54000",
            _ => "22023",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            BatchError::Syntax { .. } | BatchError::Shape { .. } | BatchError::Duplicate { .. } => {
                "Changes are written {\"<collection>\": {\"created\": [{...}], \"updated\": [{...}], \"deleted\": [\"<id>\"]}}."
            }
            BatchError::UnknownKey { .. } => "The keys of a collection are \"created\", \"updated\" and \"deleted\".",
            BatchError::TooDeep { .. } => "Store deeply nested data as text.",
            BatchError::Nul { .. } | BatchError::Surrogate { .. } => {
                "Remove the character on the client, or store the value as bytea."
            }
            BatchError::NoId { .. } | BatchError::BadId { .. } => {
                "A record has its id in \"id\", or all columns of its key, each a text or a number."
            }
            BatchError::IdMismatch { .. } => "Send the id or the columns of the key, or both as the pull gave them.",
        }
    }
}

/// The three arrays of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Array {
    /// `created`
    Created,
    /// `updated`
    Updated,
    /// `deleted`
    Deleted,
}

impl Array {
    const ALL: [Array; 3] = [Array::Created, Array::Updated, Array::Deleted];

    /// The key in the payload.
    pub fn name(self) -> &'static str {
        match self {
            Array::Created => "created",
            Array::Updated => "updated",
            Array::Deleted => "deleted",
        }
    }
}

/// Where in the payload a record stands; [`RawCollection::path`] and [`Plan::path`] write it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// In which array.
    pub array: Array,
    /// At which place, from 0.
    pub index: u32,
}

/// Writes a step of a path: `.name`, or `["na me"]` for a name that is no identifier.
fn step(path: &mut String, name: &str) {
    let first_is_digit = name.starts_with(|c: char| c.is_ascii_digit());
    if !name.is_empty() && !first_is_digit && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'$')
    {
        path.push('.');
        path.push_str(&cut(name, NAME));
    } else {
        path.push_str("[\"");
        path.push_str(&cut(name, NAME));
        path.push_str("\"]");
    }
}

fn collection_path(collection: &str) -> String {
    let mut path = String::from("changes");
    step(&mut path, collection);
    path
}

fn source_path(collection: &str, source: Source) -> String {
    format!("{}.{}[{}]", collection_path(collection), source.array.name(), source.index)
}

fn field_path(collection: &str, source: Source, field: &str) -> String {
    let mut path = source_path(collection, source);
    step(&mut path, field);
    path
}

/// A position in a payload. PostgreSQL's texts end at 1 GB, so 32 bits are enough for fields, records and names; anything
/// larger is a bug in the caller.
fn small(n: usize) -> u32 {
    u32::try_from(n).expect("a payload is smaller than 4 GB")
}

/// The JSON type of a raw value, for messages.
fn kind(raw: &str) -> &'static str {
    match raw.as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}
