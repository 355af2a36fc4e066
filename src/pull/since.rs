//! Where the pull of each collection begins: at the cursor, at one of its own (`since`), or at nothing, because the client has only just
//! got a table for it (`migration`); and which columns the client has only just got.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::PullRequest;
use crate::collections::catalog::{Collection, Column};
use crate::server::checked::Checked;
use crate::server::error::{code, Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::pg;
use crate::values::cursor::{self, Cursor};
use crate::values::excerpt;

/// What the arguments say of the client's own state.
pub(super) struct Since {
    /// For collections that have none of their own.
    pub cursor: Cursor,
    own: BTreeMap<String, Cursor>,
    new_tables: BTreeSet<String>,
    new_columns: BTreeMap<String, BTreeSet<String>>,
}

/// As WatermelonDB sends it: from which version of the app's schema the device has come, and what it has got on the way.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Migration {
    #[serde(default, rename = "from")]
    _from: Option<i64>,
    #[serde(default)]
    tables: Vec<Checked<String>>,
    #[serde(default)]
    columns: Vec<Checked<NewColumns>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewColumns {
    table: String,
    columns: Vec<Checked<String>>,
}

fn invalid(what: &str, detail: impl Into<String>, hint: &str) -> SyncError {
    SyncError::new(code::INVALID_PARAMETER, format!("malformed {what}")).detail(detail).hint(hint)
}

/// A JSON value, unless it is null.
fn given(text: Option<&str>) -> Option<&str> {
    text.filter(|text| *text != "null")
}

impl Since {
    pub fn parse(request: &PullRequest) -> Result<Since> {
        const HINT: &str = "Pass the timestamp of the previous pull, an ISO 8601 time, or null for the first pull.";
        let cursor =
            cursor::parse(request.last_pulled_at).map_err(|e| invalid("last_pulled_at", e.to_string(), HINT))?;
        if request.schema_version.is_some_and(|version| version < 1) {
            return Err(SyncError::new(code::INVALID_PARAMETER, "schema_version must be at least 1")
                .hint("Pass the version of the app's schema, or leave it out."));
        }
        let migration = match given(request.migration.as_deref()) {
            None => Migration::default(),
            Some(text) => {
                const HINT: &str = "Pass it as WatermelonDB gives it: {\"from\": 1, \"tables\": [\"todos\"], \
                                    \"columns\": [{\"table\": \"lists\", \"columns\": [\"colour\"]}]}, or null.";
                if !text.starts_with('{') {
                    return Err(invalid("migration", "It is not an object.", HINT));
                }
                serde_json::from_str(text).map_err(|e| invalid("migration", e.to_string(), HINT))?
            }
        };
        let mut new_columns: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for Checked(new) in migration.columns {
            let columns = new_columns.entry(new.table).or_default();
            memory::extend(columns, new.columns.into_iter().map(|Checked(column)| column));
        }
        let new_tables = migration.tables.into_iter().map(|Checked(table)| table).gather();
        Ok(Since { cursor, own: own(given(request.since.as_deref()))?, new_tables, new_columns })
    }

    /// The cursor of the collection that the caller names so.
    pub fn of(&self, name: &str) -> Cursor {
        if self.new_tables.contains(name) {
            return Cursor::Start;
        }
        self.own.get(name).copied().unwrap_or(self.cursor)
    }

    /// Does the client say that it has got columns of it? They may not be known here (a standby that lags).
    pub fn names_columns(&self, name: &str) -> bool {
        self.new_columns.contains_key(name)
    }

    /// The columns of it that the client has only just got. (Others may be the client's alone, or hidden from the caller.)
    pub fn new_columns(&self, name: &str, collection: &Collection) -> Vec<Column> {
        let Some(asked) = self.new_columns.get(name) else { return Vec::new() };
        let columns = collection.columns.iter().filter(|c| asked.contains(&c.name));
        columns.filter(|c| pg::may_select(collection.relation, c.attnum)).cloned().gather()
    }
}

/// `{"projects": 217344552435712, "tasks": null}`.
fn own(text: Option<&str>) -> Result<BTreeMap<String, Cursor>> {
    const HINT: &str = "Name each collection with the timestamp of its previous pull, or null: {\"projects\": 217344552435712, \"tasks\": null}.";
    let Some(text) = text else { return Ok(BTreeMap::new()) };
    let cursors: BTreeMap<String, Checked<Box<RawValue>>> =
        serde_json::from_str(text).map_err(|_| invalid("since", "It is not an object.", HINT))?;
    let cursors = cursors.into_iter().map(|(name, Checked(raw))| {
        let text: String = match raw.get().as_bytes().first() {
            Some(b'"') => serde_json::from_str(raw.get()).unwrap_or_default(),
            Some(b'{' | b'[' | b't' | b'f') => {
                let detail = format!("The cursor of \"{}\" is neither a number nor a text.", excerpt::name(&name));
                return Err(invalid("since", detail, HINT));
            }
            _ => raw.get().to_string(),
        };
        let cursor = cursor::parse(Some(&text))
            .map_err(|e| invalid("since", format!("Of \"{}\": {e}", excerpt::name(&name)), HINT))?;
        Ok((name, cursor))
    });
    cursors.gather()
}
