//! What the settings name goes on being what it is: columns that are renamed are followed, and DDL that takes away what a
//! collection cannot be without is refused.

use std::collections::BTreeMap;

use pgrx::pg_sys;

use super::dependency::{self, Due};
use crate::collections::registry::{self, StoredSettings};
use crate::collections::table;
use crate::server::error::{code, Result, SyncError};
use crate::server::{pg, spi};

/// The numbers of the columns, by their names when the table was looked at last, and their names now, by number. None where the
/// old shape is of another database: a restored dump numbers columns anew.
struct ColumnNames {
    before: BTreeMap<String, String>,
    now: BTreeMap<String, String>,
}

impl ColumnNames {
    fn of(relation: pg_sys::Oid) -> Result<Option<ColumnNames>> {
        const KNOWN: &str = "SELECT shape -> 'columns', shape ->> 'identity' = snapsync.identity_of(relation) \
             FROM snapsync.collection WHERE relation = $1";
        let rows = spi::read_now(KNOWN, &[spi::arg(relation)])?;
        let Some(old) = rows.first().filter(|r| r.bool(1)) else { return Ok(None) };
        let old: serde_json::Value = old.text(0).and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default();
        let before = old.as_object().into_iter().flatten();
        let before = before.filter_map(|(n, c)| Some((c[0].as_str()?.to_string(), n.clone()))).collect();
        let rows = spi::read_now(
            "SELECT attnum, attname FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped",
            &[spi::arg(relation)],
        )?;
        Ok(Some(ColumnNames { before, now: rows.iter().map(|r| (r.string(0), r.string(1))).collect() }))
    }

    /// One column has got another name, whatever its number.
    fn renamed(old: &str, new: &str) -> ColumnNames {
        let one = |key: &str, value: &str| BTreeMap::from([(key.to_string(), value.to_string())]);
        ColumnNames { before: one(old, "it"), now: one("it", new) }
    }

    /// The column's name now; None: dropped. A name that was no column's is taken as it is.
    fn follow(&self, name: &String) -> Option<String> {
        match self.before.get(name) {
            // Dropped and added anew in one command: still the column of that name.
            Some(number) => self.now.get(number).or_else(|| self.now.values().find(|n| *n == name)).cloned(),
            None => Some(name.clone()),
        }
    }

    /// Settings that protect a column do so by its name, also while there is none: one that is dropped and added again (as another
    /// type, say) is not sent or written all at once.
    fn follow_all(&self, names: &[String]) -> Vec<String> {
        let mut followed: Vec<String> = Vec::new();
        for name in names.iter().map(|n| self.follow(n).unwrap_or_else(|| n.clone())) {
            if !followed.contains(&name) {
                followed.push(name);
            }
        }
        followed
    }
}

/// After DDL on the table itself: takes its columns' new names over, and refuses the command if the table cannot be synced any
/// more. True if the rows of a table that is no collection are told apart by other columns now.
pub fn follow(relation: pg_sys::Oid) -> Result<bool> {
    let Some(stored) = registry::load(relation)? else { return Ok(false) };
    table::check_still_fit(relation, stored.name.is_some())?;
    let Some(columns) = ColumnNames::of(relation)? else { return Ok(false) };
    // The key of an access table was not chosen by a user, so its columns may be dropped.
    if stored.name.is_none() {
        super::scope::follow(relation, |name| columns.follow(name))?;
        let key = stored.key.iter().map(|name| columns.follow(name)).collect();
        return table::find_key_for_access(relation, &stored, key);
    }
    let followed = take_over(relation, &stored, &columns)?;
    if !table::is_unique(relation, &followed.key)? {
        return Err(refuse_loss(relation, &followed.key.join(", "), "the key, which must stay unique,"));
    }
    table::check_columns(relation, &followed)?;
    Ok(false)
}

/// Settings, and the scope that was found, go by the new names; gives the settings. What a collection cannot be without must be there.
fn take_over(relation: pg_sys::Oid, stored: &StoredSettings, columns: &ColumnNames) -> Result<StoredSettings> {
    let needed = |name: &String, role: &str| columns.follow(name).ok_or_else(|| refuse_loss(relation, name, role));
    let one = |name: &Option<String>, role: &str| name.as_ref().map(|n| needed(n, role)).transpose();
    let followed = StoredSettings {
        key: stored.key.iter().map(|k| needed(k, "part of the key")).collect::<Result<_>>()?,
        columns: stored.columns.as_deref().map(|c| columns.follow_all(c)),
        exclude: columns.follow_all(&stored.exclude),
        readonly: columns.follow_all(&stored.readonly),
        scope_column: one(&stored.scope_column, "the scope column")?,
        soft_delete_column: one(&stored.soft_delete_column, "the soft-delete column")?,
        version_column: one(&stored.version_column, "the version column")?,
        ..stored.clone()
    };
    if followed != *stored {
        registry::store(relation, &followed)?;
    }
    super::scope::follow(relation, |name| columns.follow(name))?;
    Ok(followed)
}

/// A column has got another name in a table whose columns nobody knows by their numbers yet: what is set goes by its new name, what was
/// derived waits for the first look, for which a reset is due. (Clients have its values under the old name.)
pub fn rename(relation: pg_sys::Oid, old: &str, new: &str) -> Result<()> {
    let Some(stored) = registry::load(relation)? else { return Ok(()) };
    take_over(relation, &stored, &ColumnNames::renamed(old, new))?;
    spi::owner_execute(
        "UPDATE snapsync.collection SET image = array_replace(image, $2::name, $3::name) WHERE relation = $1 AND $2::name = ANY (image)",
        &[spi::arg(relation), spi::arg(old), spi::arg(new)],
    )?;
    dependency::mark_due(relation, Due::Busy, "a column was renamed before it was looked at in this database")
}

/// The same where the rest of a look is put off: names go with the columns' numbers, and the next time from what they are now. (Or from what they were,
/// where another session has the settings locked: then nothing had to be followed, or it would have been waited for.)
pub fn follow_aside(relation: pg_sys::Oid) -> Result<()> {
    follow(relation)?;
    spi::owner_execute(
        "UPDATE snapsync.collection SET shape = jsonb_set(shape, '{columns}', snapsync.columns_of(relation)) \
         WHERE ctid = ANY (ARRAY(SELECT ctid FROM snapsync.collection WHERE relation = $1 AND shape ? 'columns' FOR UPDATE SKIP LOCKED)) \
           AND snapsync.is_seen_here(relation)",
        &[spi::arg(relation)],
    )
    .map(|_| ())
}

/// Refuses DDL that takes a column away that a collection cannot be without.
fn refuse_loss(relation: pg_sys::Oid, column: &str, role: &str) -> SyncError {
    let table = pg::qualified_name(relation).map(|(_, name)| name).unwrap_or_default();
    SyncError::new(code::NOT_IN_STATE, format!("column \"{column}\" of table \"{table}\" is in use"))
        .detail(format!("It is {role} of a synced table."))
        .hint("Change the settings with snapsync.enable(), or call snapsync.disable(), first.")
}
