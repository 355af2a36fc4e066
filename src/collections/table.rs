//! What a table must be to be synced, or tracked: asked by `enable`, and again after DDL on it.

use pgrx::pg_sys;
use serde::Deserialize;

use crate::collections::registry::{self, StoredSettings};
use crate::server::error::{code, listed, Result, SyncError};
use crate::server::{order, pg, spi};

/// Key types: their text form is the same in every session and reads back as the same value. (Domains over these too.)
const KEY_TYPES: [pg_sys::Oid; 7] = [
    pg_sys::UUIDOID,
    pg_sys::TEXTOID,
    pg_sys::VARCHAROID,
    pg_sys::INT2OID,
    pg_sys::INT4OID,
    pg_sys::INT8OID,
    pg_sys::NUMERICOID,
];

const FITNESS: &str = include_str!("table/fitness.sql");
const ATTRIBUTES: &str = include_str!("table/attributes.sql");
const UNIQUE: &str = include_str!("table/unique.sql");

/// How catalogs are read: as they are, or as they were.
type CatalogReader = fn(&str, &[spi::Arg]) -> Result<Vec<spi::Row>>;

/// A table that is administered, as the catalogs have it.
pub struct Table {
    pub relation: pg_sys::Oid,
    schema: String,
    pub name: String,
}

/// What `unfit` goes by (fitness.sql).
#[derive(Deserialize)]
struct Fitness {
    /// As in pg_class.
    kind: String,
    persistence: String,
    partition: bool,
    inherited: bool,
    inherits: bool,
    other_method: bool,
    unlogged_part: bool,
    foreign_part: bool,
}

#[derive(Deserialize)]
pub struct Attribute {
    pub name: String,
    /// For all rows: since PostgreSQL 18 a constraint may not have been checked for those that were there before it.
    not_null: bool,
    type_oid: u32,
    type_name: String,
    /// Its equality is that of the bytes.
    deterministic: bool,
    /// The table is partitioned by it, and maybe others.
    divides: bool,
    /// Computed when it is read (PostgreSQL 18): triggers are not given it.
    is_virtual: bool,
}

impl Attribute {
    fn base_type(&self) -> pg_sys::Oid {
        pg::base_type(self.type_oid.into())
    }
}

impl Table {
    pub fn find(relation: pg_sys::Oid) -> Result<Table> {
        let gone = || {
            SyncError::new(code::UNDEFINED_TABLE, format!("table with OID {} does not exist", relation.to_u32()))
                .hint("Name the table: 'public.todos'.")
        };
        pg::qualified_name(relation).ok_or_else(gone)?;
        let rows = spi::read_now(
            "SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = $1",
            &[spi::arg(relation)],
        )?;
        let row = rows.first().ok_or_else(gone)?;
        Ok(Table { relation, schema: row.string(0), name: row.string(1) })
    }

    /// As of now, whatever the transaction's snapshot. Who has to wait for a lock first asks again when he has it.
    pub fn check_owner(&self, what: &str) -> Result<()> {
        if registry::may(self.relation, registry::Right::Own)? {
            return Ok(());
        }
        Err(SyncError::new(
            code::INSUFFICIENT_PRIVILEGE,
            format!("must be owner of table \"{}\" to {what} it", self.name),
        )
        .hint("Call it as the table's owner, or as a superuser."))
    }

    /// Why this table cannot be synced, and what helps, as `read` finds it in the catalogs.
    pub fn unfit(&self, read: CatalogReader) -> Result<Option<(&'static str, &'static str)>> {
        let Some(found) = spi::typed::<Fitness>(&read(FITNESS, &[spi::arg(self.relation)])?)?.pop() else {
            return Ok(None);
        };
        let system = ["snapsync", "pg_catalog", "information_schema"].contains(&self.schema.as_str());
        Ok(match (&*found.kind, &*found.persistence) {
            ("v", _) => {
                Some(("It is a view: changes to its rows cannot be tracked.", "Sync the tables that it reads."))
            }
            ("m", _) => Some(("It is a materialized view.", "Sync the tables that it reads.")),
            ("f", _) => Some(("It is a foreign table: changes are made elsewhere.", "Sync it where it is stored.")),
            ("r" | "p", "t") => Some(("It is a temporary table: no other session sees it.", "Sync a permanent table.")),
            ("r" | "p", "u") => Some((
                "It is an unlogged table: a crash empties it without a trace.",
                "ALTER TABLE ... SET LOGGED first.",
            )),
            ("r" | "p", _) if system => Some(("It is a system table.", "Name a table of your own.")),
            ("r" | "p", _) if found.partition => {
                Some(("It is a partition.", "Sync the partitioned table that it belongs to."))
            }
            ("r" | "p", _) if found.inherited => Some((
                "Other tables inherit from it: their rows would show up in queries without being tracked.",
                "Use a partitioned table.",
            )),
            ("r" | "p", _) if found.other_method => {
                Some(("It is not stored as a heap.", "Only tables of the access method \"heap\" can be tracked."))
            }
            ("r" | "p", _) if found.inherits => Some(("It inherits from another table.", "Use a partitioned table.")),
            ("r" | "p", _) if found.unlogged_part => Some((
                "A partition of it is unlogged: a crash empties that without a trace.",
                "ALTER TABLE ... SET LOGGED the partition first.",
            )),
            ("r" | "p", _) if found.foreign_part => Some((
                "A partition of it is a foreign table: changes are made elsewhere.",
                "Sync the partitioned table without it.",
            )),
            ("r" | "p", _) => None,
            _ => Some(("It is not a table.", "Name a table.")),
        })
    }

    pub fn check(&self, s: &StoredSettings, old: Option<&StoredSettings>, attributes: &[Attribute]) -> Result<()> {
        self.check_key(&s.key, attributes)?;
        let one = |name: &Option<String>| name.iter().cloned().collect::<Vec<_>>();
        // Those that are set go by name, also while there is no such column.
        let new = |names: &[String], of: fn(&StoredSettings) -> &[String]| {
            let set = old.map(of).unwrap_or_default();
            names.iter().filter(|n| !set.contains(n)).cloned().collect::<Vec<_>>()
        };
        for (setting, names) in [
            ("columns", new(s.columns.as_deref().unwrap_or_default(), |o| o.columns.as_deref().unwrap_or_default())),
            ("exclude", new(&s.exclude, |o| &o.exclude)),
            ("readonly", new(&s.readonly, |o| &o.readonly)),
            ("scope_column", one(&s.scope_column)),
            ("soft_delete_column", one(&s.soft_delete_column)),
            ("version_column", one(&s.version_column)),
        ] {
            if let Some(unknown) = names.iter().find(|n| !attributes.iter().any(|a| a.name == **n)) {
                return Err(SyncError::new(
                    code::UNDEFINED_COLUMN,
                    format!("column \"{unknown}\" of table \"{}\" does not exist", self.name),
                )
                .detail(format!("It is named in {setting}."))
                .hint("Name columns that the table has."));
            }
        }
        if let Some(hidden) = s.key.iter().find(|k| s.exclude.contains(k)) {
            return Err(SyncError::new(code::INVALID_PARAMETER, format!("key column \"{hidden}\" cannot be excluded"))
                .hint("Clients know a row by its key."));
        }
        if s.scope_values.is_some() && s.scope_column.is_none() {
            return Err(SyncError::new(code::INVALID_PARAMETER, "scope_values needs a scope_column")
                .hint("Name the column that divides the rows: enable(..., scope_column => 'org_id')."));
        }
        check_version(s, attributes)?;
        self.check_scope_and_mark(s, attributes)
    }

    fn check_scope_and_mark(&self, s: &StoredSettings, attributes: &[Attribute]) -> Result<()> {
        if let Some(column) = s.scope_column.as_ref().and_then(|c| attributes.iter().find(|a| a.name == *c)) {
            // Not numeric: 42 and 42.00 are one value with two texts.
            if !KEY_TYPES.contains(&column.base_type()) || column.base_type() == pg_sys::NUMERICOID {
                return Err(SyncError::new(
                    code::INVALID_PARAMETER,
                    format!("scope column \"{}\" has type {}", column.name, column.type_name),
                )
                .hint("A scope is a uuid, text, varchar, smallint, integer or bigint column."));
            }
            if !column.deterministic {
                return Err(SyncError::new(
                    code::INVALID_PARAMETER,
                    format!("scope column \"{}\" has a nondeterministic collation", column.name),
                )
                .detail("Different texts would be the same scope.")
                .hint("ALTER TABLE ... ALTER COLUMN ... TYPE text COLLATE \"default\" first."));
            }
        }
        for name in s.scope_column.iter().chain(&s.soft_delete_column) {
            if attributes.iter().any(|a| a.name == *name && a.is_virtual) {
                return Err(SyncError::new(
                    code::INVALID_PARAMETER,
                    format!("column \"{name}\" is a virtual generated column"),
                )
                .detail("Its old values cannot be logged: triggers are not given them.")
                .hint("Make it a stored one, GENERATED ALWAYS AS (...) STORED."));
            }
        }
        if let Some(column) = s.soft_delete_column.as_ref().and_then(|c| attributes.iter().find(|a| a.name == *c)) {
            let suits = [pg_sys::BOOLOID, pg_sys::TIMESTAMPTZOID, pg_sys::TIMESTAMPOID, pg_sys::DATEOID];
            if !suits.contains(&column.base_type()) {
                return Err(SyncError::new(
                    code::INVALID_PARAMETER,
                    format!("soft-delete column \"{}\" has type {}", column.name, column.type_name),
                )
                .hint("A soft-delete column is a boolean, or a time that is null while the row lives."));
            }
        }
        Ok(())
    }

    pub fn attributes(&self) -> Result<Vec<Attribute>> {
        spi::typed(&spi::read_now(ATTRIBUTES, &[spi::arg(self.relation)])?)
    }

    pub fn primary_key(&self) -> Result<Vec<String>> {
        let rows = spi::read_now(
            "SELECT a.attname FROM pg_index AS i, unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n) \
             JOIN pg_attribute AS a ON a.attnum = k.attnum \
             WHERE i.indrelid = $1 AND i.indisprimary AND a.attrelid = i.indrelid AND k.n <= i.indnkeyatts ORDER BY k.n",
            &[spi::arg(self.relation)],
        )?;
        if rows.is_empty() {
            return Err(SyncError::new(
                code::INVALID_TABLE_DEFINITION,
                format!("table \"{}\" has no primary key", self.name),
            )
            .detail("A client needs a stable id for every row.")
            .hint("Add a primary key, or name the columns of another unique key: enable(..., key => '{code}')."));
        }
        Ok(rows.iter().map(|r| r.string(0)).collect())
    }

    /// The primary key, if it can tell rows apart; else nothing.
    fn usable_key(&self) -> Result<Vec<String>> {
        let attributes = self.attributes()?;
        let key = self.primary_key().or_else(|e| if e.code == code::INTERNAL { Err(e) } else { Ok(Vec::new()) })?;
        Ok(if self.is_key(&key, &attributes)? { key } else { Vec::new() })
    }

    /// What goes wrong while it is looked up is no answer.
    fn is_key(&self, key: &[String], attributes: &[Attribute]) -> Result<bool> {
        match self.check_key(key, attributes) {
            Err(e) if e.code == code::INTERNAL => Err(e),
            checked => Ok(checked.is_ok()),
        }
    }

    fn check_key(&self, key: &[String], attributes: &[Attribute]) -> Result<()> {
        let bad = |message: String| SyncError::new(code::INVALID_TABLE_DEFINITION, message);
        if key.is_empty() {
            return Err(SyncError::new(code::INVALID_PARAMETER, "the key must name at least one column")
                .hint("Leave the key out to use the primary key."));
        }
        for column in key {
            let Some(attribute) = attributes.iter().find(|a| a.name == *column) else {
                return Err(SyncError::new(
                    code::UNDEFINED_COLUMN,
                    format!("column \"{column}\" of table \"{}\" does not exist", self.name),
                )
                .detail("It is named in key.")
                .hint("Name columns that the table has."));
            };
            if !attribute.not_null {
                return Err(bad(format!("key column \"{column}\" can be null"))
                    .hint("ALTER TABLE ... ALTER COLUMN ... SET NOT NULL first, or choose another key."));
            }
            if !KEY_TYPES.contains(&attribute.base_type()) {
                return Err(bad(format!("key column \"{column}\" has type {}", attribute.type_name))
                    .detail("A key is made of uuid, text, varchar, smallint, integer, bigint or numeric columns.")
                    .hint(if attribute.divides {
                        "The table is partitioned by this column, so each unique key has it. Partition it by one of another type (an integer as 202601, \
                         say), or sync one that is not partitioned."
                    } else {
                        "Choose another unique key: enable(..., key => '{...}')."
                    }));
            }
            if !attribute.deterministic {
                return Err(bad(format!("key column \"{column}\" has a nondeterministic collation"))
                    .detail("Different texts would be the same id.")
                    .hint("Choose another unique key: enable(..., key => '{...}')."));
            }
        }
        if !is_unique(self.relation, key)? {
            return Err(bad(format!("columns {} of table \"{}\" are no unique key", listed(key), self.name)).hint(
                "Create a unique index on exactly these columns (not partial, not deferrable), or choose another key.",
            ));
        }
        Ok(())
    }
}

/// A push asks whether the stored version is the greater one (push/decide/version.rs).
fn check_version(s: &StoredSettings, attributes: &[Attribute]) -> Result<()> {
    match s.version_column.as_ref().and_then(|c| attributes.iter().find(|a| a.name == *c)) {
        Some(column) if !order::is_ordered(column.type_oid.into()) => Err(SyncError::new(
            code::INVALID_PARAMETER,
            format!("version column \"{}\" has type {}", column.name, column.type_name),
        )
        .detail("PostgreSQL has no order for its values: none is later than another.")
        .hint("A version column is a time or a number that grows with every change.")),
        _ => Ok(()),
    }
}

/// After DDL on a tracked table: refuses it if the table is such as cannot be synced, or tracked, now, and was not before this
/// transaction. (What was done behind our back fails no other command; `doctor` tells of it.)
pub fn check_still_fit(relation: pg_sys::Oid, synced: bool) -> Result<()> {
    let table = Table::find(relation)?;
    let Some((reason, _)) = table.unfit(spi::read_now)? else { return Ok(()) };
    if table.unfit(spi::read_as_before)?.is_some() {
        return Ok(());
    }
    let message = match synced {
        true => format!("table \"{}\" is synced, and could not be any more", table.name),
        // Others may inherit from it, or it from others.
        false if !reason.contains("unlogged") => return Ok(()),
        false => {
            format!("policies of synced tables read table \"{}\", which could not be tracked any more", table.name)
        }
    };
    let disable =
        format!("Call snapsync.disable('{}') first", pg::qualified_name(relation).map(|n| n.0).unwrap_or_default());
    let hint = match synced {
        true => format!("{disable}."),
        false => format!("{disable}: those tables are replaced with every pull then. Or change their policies."),
    };
    Err(SyncError::new(code::NOT_IN_STATE, message).detail(reason).hint(hint))
}

/// Are the columns that a collection rests on, after DDL, still such as `enable` takes?
pub fn check_columns(relation: pg_sys::Oid, s: &StoredSettings) -> Result<()> {
    let table = Table::find(relation)?;
    let attributes = table.attributes()?;
    table.check_key(&s.key, &attributes)?;
    check_version(s, &attributes)?;
    table.check_scope_and_mark(s, &attributes)
}

/// Tracks a table that policies of synced tables read. Its rows are told apart by its primary key; without a usable one,
/// any change counts for everybody.
pub fn track_for_access(relation: pg_sys::Oid) -> Result<()> {
    let table = Table::find(relation)?;
    let key = table.usable_key()?;
    registry::store(relation, &StoredSettings { key, conflict: "reject".into(), ..Default::default() })?;
    pgrx::notice!("tracking table \"{}\", because policies or scopes of synced tables read it", table.name);
    Ok(())
}

/// Gives such a table the key that it has now: the one it had (`kept`, by the columns' present names) while that is a key, else its
/// primary key. True if another one tells its rows apart than before.
pub fn find_key_for_access(relation: pg_sys::Oid, stored: &StoredSettings, kept: Option<Vec<String>>) -> Result<bool> {
    let table = Table::find(relation)?;
    let attributes = table.attributes()?;
    let is_kept = kept.as_ref().map_or(Ok(false), |key| table.is_key(key, &attributes))?;
    let kept = kept.filter(|_| is_kept);
    let is_other = kept.is_none();
    let key = kept.map_or_else(|| table.usable_key(), Ok)?;
    if key == stored.key {
        return Ok(false);
    }
    registry::store(relation, &StoredSettings { key, ..stored.clone() })?;
    Ok(is_other)
}

/// Do exactly these columns make a unique key: not partial, not deferrable, without expressions?
pub fn is_unique(relation: pg_sys::Oid, key: &[String]) -> Result<bool> {
    let rows = spi::read_now(UNIQUE, &[spi::arg(relation), spi::arg(key.to_vec())])?;
    Ok(!rows.is_empty())
}
