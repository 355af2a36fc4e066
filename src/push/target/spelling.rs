//! Ids as the server writes them, and as clients send them: a uuid in capitals, `007`, blanks for which a `varchar(n)` has no room.

use std::cell::OnceCell;
use std::collections::HashMap;

use pgrx::pg_sys;

use super::{is_number, Target};
use crate::collections::catalog::{Collection, Column};
use crate::collections::lookup;
use crate::server::error::Result;
use crate::server::memory::Gather;
use crate::server::modifier;
use crate::server::pg;
use crate::server::spi::{self, Mode};
use crate::values::wire_id;

/// How a part of a key is written.
#[derive(Clone, Copy)]
pub(super) enum KeyForm {
    Uuid,
    Integer,
    /// With so many digits behind the point, if its type says how many.
    Numeric(Option<usize>),
    /// No longer than so many letters.
    Text(Option<usize>),
}

impl KeyForm {
    pub fn of(collection: &Collection, column: &Column) -> KeyForm {
        match column.facts.base {
            pg_sys::UUIDOID => KeyForm::Uuid,
            pg_sys::INT2OID | pg_sys::INT4OID | pg_sys::INT8OID => KeyForm::Integer,
            pg_sys::NUMERICOID => {
                // (numeric.c, numeric_typmod_scale; a negative one is as rare as it is left to the server.)
                let scale = modifier(collection, column).map(|bits| ((bits & 0x7ff) ^ 1024) - 1024);
                KeyForm::Numeric(scale.and_then(|scale| usize::try_from(scale).ok()))
            }
            _ => KeyForm::Text(modifier(collection, column).and_then(|length| usize::try_from(length).ok())),
        }
    }

    pub fn canonical(self, text: &str) -> Option<String> {
        match self {
            KeyForm::Uuid => wire_id::canonical_uuid(text),
            KeyForm::Integer => wire_id::canonical_integer(text),
            KeyForm::Numeric(scale) => wire_id::canonical_numeric(text, scale),
            KeyForm::Text(length) => wire_id::canonical_varchar(text, length?),
        }
    }

    /// May the server write otherwise what is canonical? (`0x1F`; a numeric has the zeros that it was stored with.)
    pub fn is_doubtful(self, text: &str) -> bool {
        match self {
            KeyForm::Uuid | KeyForm::Text(_) => false,
            KeyForm::Integer => !wire_id::is_canonical_integer(text),
            KeyForm::Numeric(_) => true,
        }
    }
}

/// The modifier of a column's type under all domains, without the length of a header that it counts.
fn modifier(collection: &Collection, column: &Column) -> Option<i32> {
    let header = pg_sys::VARHDRSZ as i32;
    modifier::of_column(collection.relation, column.attnum).checked_sub(header).filter(|bits| *bits >= 0)
}

impl Target<'_> {
    /// These rows are in place of those of another target, which the client has sent.
    pub fn stand_in_for(&mut self, sent: &Target) {
        self.spellings = OnceCell::from(sent.sent_as().clone());
    }

    /// The id as its client knows it.
    pub fn as_sent<'t>(&'t self, id: &'t str) -> &'t str {
        self.sent_as().get(id).map_or(id, String::as_str)
    }

    fn sent_as(&self) -> &HashMap<String, String> {
        self.spellings.get_or_init(|| {
            let spellings = self.plan.spellings.iter();
            spellings.map(|s| (s.id.to_string(), s.sent.to_string())).gather()
        })
    }

    /// Does a client that keeps rows by the texts of their ids find the row of this id by the text that it sent? (Where rows have numbers, it
    /// may know `1.50` as `1.5`.)
    pub fn is_found_by(&self, id: &str, sent: &str) -> bool {
        let key = &self.collection.key;
        let (Ok(parts), Ok(sent_parts)) = (wire_id::decode(id, key.len()), wire_id::decode(sent, key.len())) else {
            return false;
        };
        key.iter().zip(parts.iter().zip(&sent_parts)).all(|(column, (part, sent))| {
            let is_number = is_number(self.dialect, &self.collection, column) && part.contains('.');
            part == sent || is_number && part.trim_end_matches('0').trim_end_matches('.') == sent
        })
    }

    /// The ids that the rows of these have as the server writes them, by their places, of those that the caller can see now.
    pub fn ids_now(&self, ids: &[&str]) -> Result<HashMap<usize, String>> {
        if ids.is_empty() || !self.may_read_key() {
            return Ok(HashMap::new());
        }
        let (rows, args) = self.id_rows(ids);
        let key = self.collection.key.iter().map(|k| format!("t.{}::pg_catalog.text", k.ident));
        let (key, from) = (key.gather::<Vec<_>>().join(", "), lookup::join(&self.collection, &rows));
        let _now = pg::ActiveSnapshot::take();
        let found = spi::query(&format!("SELECT r.n, {key} FROM {from}"), &args, Mode::Read)?;
        let of = |row: &spi::Row| {
            let parts = (1..=self.collection.key.len()).map(|i| row.text(i)).gather::<Option<Vec<&str>>>()?;
            Some((row.i64(0)? as usize - 1, wire_id::encode(&parts).into_owned()))
        };
        Ok(found.iter().filter_map(of).gather())
    }
}
