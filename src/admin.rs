//! `snapsync.enable`, `disable`, `reset`: which tables are synced, and how.

use pgrx::pg_sys;

use crate::conflict::{ConflictPolicy, ConflictPolicyError};
use crate::error::{code, listed, Result, SyncError};
use crate::registry::{self, owner_query, read_now, Stored};
use crate::spi::{self, Mode};
use crate::{access, names, pg, shape, track};

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

/// The optional arguments of `enable`; None keeps what is set, or the default.
#[derive(Default, Debug)]
pub struct Settings {
    pub name: Option<String>,
    pub key: Option<Vec<String>>,
    pub columns: Option<Vec<String>>,
    pub exclude: Option<Vec<String>>,
    pub readonly: Option<Vec<String>>,
    pub scope_column: Option<String>,
    pub scope_values: Option<String>,
    pub soft_delete_column: Option<String>,
    pub conflict: Option<String>,
    pub version_column: Option<String>,
    /// A function, for the policy `custom`.
    pub conflict_function: Option<pg_sys::Oid>,
    pub access_tables: Option<String>,
}

/// Starts syncing a table, or changes its settings. Instant for a table of any size: a row here and two triggers; no column
/// is added and no row is touched.
pub fn enable(relation: pg_sys::Oid, settings: Settings) -> Result<()> {
    let table = Table::find(relation)?;
    table.check_owner("sync")?;
    // What is checked must hold until the triggers are there: no DDL by others meanwhile. Their writes go on.
    pg::lock_against_ddl(relation);
    if let Some((reason, hint)) = table.unfit(read_now)? {
        return Err(SyncError::new(code::WRONG_OBJECT_TYPE, format!("cannot sync \"{}\"", table.name))
            .detail(reason)
            .hint(hint));
    }
    let attributes = table.attributes()?;
    // A table that was tracked for its influence only is new as a collection.
    let old = registry::load(relation)?.filter(|o| o.name.is_some());
    let mut new = table.merge(settings, old.as_ref())?;
    table.check(&new, old.as_ref(), &attributes)?;
    let names = names::decide(relation, new.name.as_deref(), old.as_ref())?;
    new.name = Some(names.name.clone());

    registry::store(relation, &new)?;
    names::remember(relation, &names)?;
    let was_off = registry::enable_triggers(relation)?;
    shape::refresh(relation)?;
    // Whatever a client has of this collection from before may be incomplete or have other columns. How conflicts are
    // resolved and what may be written changes nothing on the clients.
    let on_clients = |s: &Stored| {
        let (version_column, conflict_function) = (None, None);
        Stored { conflict: String::new(), version_column, conflict_function, readonly: Vec::new(), ..s.clone() }
    };
    if was_off || old.as_ref().map(on_clients) != Some(on_clients(&new)) {
        track::reset(relation)?;
    }
    let has_id = |columns: &[String]| columns.iter().any(|c| c == "id");
    let sent = new.columns.as_deref().map_or_else(|| attributes.iter().any(|a| a.name == "id"), has_id);
    let hidden = sent && !has_id(&new.key) && !has_id(&new.exclude);
    if hidden && old.is_none_or(|o| o.key != new.key) {
        pgrx::notice!(
            "the dialect watermelondb does not send column \"id\" of table \"{}\": its \"id\" is made of the key",
            table.name
        );
    }
    Ok(())
}

/// Stops syncing a table and forgets its log. Clients that still ask for it get an error.
pub fn disable(relation: pg_sys::Oid) -> Result<()> {
    let table = Table::find(relation)?;
    table.check_owner("stop syncing")?;
    table.check_enabled()?;
    // It may still be read by other tables' policies.
    let readers: Vec<_> = shape::readers(relation)?.into_iter().map(|reader| (reader, false)).collect();
    registry::drop_triggers(relation)?;
    shape::forget(relation)?;
    shape::look_again(&readers)
}

/// Makes every client forget what it has of this collection and take it anew.
pub fn reset(relation: pg_sys::Oid) -> Result<()> {
    let table = Table::find(relation)?;
    table.check_owner("reset")?;
    table.check_enabled()?;
    track::reset(relation)
}

/// How catalogs are read: as they are, or as they were.
type Read = fn(&str, &[spi::Arg]) -> Result<Vec<spi::Row>>;

/// A table that is being administered.
struct Table {
    relation: pg_sys::Oid,
    schema: String,
    name: String,
}

struct Attribute {
    name: String,
    not_null: bool,
    base_type: pg_sys::Oid,
    type_name: String,
    /// Its equality is that of the bytes.
    deterministic: bool,
    /// Computed when it is read (PostgreSQL 18): triggers are not given it.
    is_virtual: bool,
}

impl Table {
    fn find(relation: pg_sys::Oid) -> Result<Table> {
        let gone = || {
            SyncError::new(code::UNDEFINED_TABLE, format!("table with OID {} does not exist", relation.to_u32()))
                .hint("Name the table: 'public.todos'.")
        };
        pg::qualified_name(relation).ok_or_else(gone)?;
        let rows = owner_query(
            "SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = $1",
            &[spi::arg(relation)],
        )?;
        let row = rows.first().ok_or_else(gone)?;
        Ok(Table { relation, schema: row.string(0), name: row.string(1) })
    }

    fn check_owner(&self, what: &str) -> Result<()> {
        let rows = spi::query(
            "SELECT pg_catalog.pg_has_role(relowner, 'USAGE') FROM pg_catalog.pg_class WHERE oid OPERATOR(pg_catalog.=) $1",
            &[spi::arg(self.relation)],
            Mode::Read,
        )?;
        if rows.first().is_some_and(|r| r.bool(0)) {
            return Ok(());
        }
        Err(SyncError::new(
            code::INSUFFICIENT_PRIVILEGE,
            format!("must be owner of table \"{}\" to {what} it", self.name),
        )
        .hint("Call it as the table's owner, or as a superuser."))
    }

    fn check_enabled(&self) -> Result<()> {
        if registry::load(self.relation)?.is_some_and(|s| s.name.is_some()) {
            return Ok(());
        }
        Err(SyncError::new(code::UNDEFINED_TABLE, format!("table \"{}\" is not synced", self.name))
            .hint("snapsync.status lists the synced tables."))
    }

    /// Why this table cannot be synced, and what helps, as `read` finds it in the catalogs.
    fn unfit(&self, read: Read) -> Result<Option<(&'static str, &'static str)>> {
        // Not pg_partition_tree(), which sees what is there now, whatever the snapshot.
        let rows = read(
            "WITH RECURSIVE part(oid) AS (SELECT $1 UNION SELECT i.inhrelid FROM part JOIN pg_inherits AS i ON i.inhparent = part.oid) \
             SELECT relkind, relpersistence, relispartition, \
                    relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid), \
                    EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid) AND NOT relispartition, \
                    EXISTS (SELECT FROM part JOIN pg_class AS p ON p.oid = part.oid AND p.relkind = 'r' JOIN pg_am AS m ON m.oid = p.relam \
                             WHERE m.amname <> 'heap'), \
                    EXISTS (SELECT FROM part JOIN pg_class AS p ON p.oid = part.oid WHERE p.relpersistence = 'u' AND p.relispartition), \
                    EXISTS (SELECT FROM part JOIN pg_class AS p ON p.oid = part.oid WHERE p.relkind = 'f' AND p.relispartition) \
             FROM pg_class AS c WHERE oid = $1",
            &[spi::arg(self.relation)],
        )?;
        let Some(row) = rows.first() else { return Ok(None) };
        let system = ["snapsync", "pg_catalog", "information_schema"].contains(&self.schema.as_str());
        Ok(match (row.text(0).unwrap_or(""), row.text(1).unwrap_or("")) {
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
            ("r" | "p", _) if row.bool(2) => {
                Some(("It is a partition.", "Sync the partitioned table that it belongs to."))
            }
            ("r" | "p", _) if row.bool(3) => Some((
                "Other tables inherit from it: their rows would show up in queries without being tracked.",
                "Use a partitioned table.",
            )),
            ("r" | "p", _) if row.bool(5) => {
                Some(("It is not stored as a heap.", "Only tables of the access method \"heap\" can be tracked."))
            }
            ("r" | "p", _) if row.bool(4) => Some(("It inherits from another table.", "Use a partitioned table.")),
            ("r" | "p", _) if row.bool(6) => Some((
                "A partition of it is unlogged: a crash empties that without a trace.",
                "ALTER TABLE ... SET LOGGED the partition first.",
            )),
            ("r" | "p", _) if row.bool(7) => Some((
                "A partition of it is a foreign table: changes are made elsewhere.",
                "Sync the partitioned table without it.",
            )),
            ("r" | "p", _) => None,
            _ => Some(("It is not a table.", "Name a table.")),
        })
    }

    /// The settings asked for, over those that are set, over the defaults.
    fn merge(&self, s: Settings, old: Option<&Stored>) -> Result<Stored> {
        let key = match s.key.or_else(|| old.map(|o| o.key.clone())) {
            Some(key) => key,
            None => self.primary_key()?,
        };
        if s.columns.is_some() && s.exclude.as_ref().is_some_and(|e| !e.is_empty()) {
            return Err(SyncError::new(code::INVALID_PARAMETER, "columns and exclude cannot both be given")
                .hint("Name the columns to sync, or those to leave out."));
        }
        let (columns, exclude) = match (s.columns, s.exclude, old) {
            (Some(columns), _, _) => (Some(columns), Vec::new()),
            (None, Some(exclude), _) => (None, exclude),
            (None, None, Some(old)) => (old.columns.clone(), old.exclude.clone()),
            (None, None, None) => (None, Vec::new()),
        };
        let (scope_values, scope_reads) = match s.scope_values {
            // Read anew only where it is given anew: whoever calls now need not be who wrote it.
            None => old.map(|o| (o.scope_values.clone(), o.scope_reads.clone())).unwrap_or_default(),
            Some(given) if given.is_empty() => (None, None),
            Some(given) => access::take_scope_values(self.relation, &given).map(|(v, r)| (Some(v), Some(r)))?,
        };
        // An empty text takes a setting away again.
        let text = |new: Option<String>, old: Option<&String>| new.or(old.cloned()).filter(|t| !t.is_empty());
        Ok(Stored {
            // Which one if it is left out, names.rs decides.
            name: s.name,
            key,
            columns,
            exclude,
            readonly: s.readonly.or(old.map(|o| o.readonly.clone())).unwrap_or_default(),
            scope_column: text(s.scope_column, old.and_then(|o| o.scope_column.as_ref())),
            scope_values,
            scope_reads,
            soft_delete_column: text(s.soft_delete_column, old.and_then(|o| o.soft_delete_column.as_ref())),
            conflict: s.conflict.or(old.map(|o| o.conflict.clone())).unwrap_or_else(|| "reject".into()),
            version_column: text(s.version_column, old.and_then(|o| o.version_column.as_ref())),
            conflict_function: match s.conflict_function {
                Some(function) => Some(conflict_function(self.relation, function)?),
                None => old.and_then(|o| o.conflict_function.clone()),
            },
            access_tables: match s.access_tables {
                Some(given) => Some(access::normalize(self.relation, &given)?),
                None => old.and_then(|o| o.access_tables.clone()),
            },
        })
    }

    fn check(&self, s: &Stored, old: Option<&Stored>, attributes: &[Attribute]) -> Result<()> {
        self.check_key(&s.key, attributes)?;
        let one = |name: &Option<String>| name.iter().cloned().collect::<Vec<_>>();
        // Those that are set go by name, also while there is no such column.
        let new = |names: &[String], of: fn(&Stored) -> &[String]| {
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
        self.check_scope_and_mark(s, attributes)?;
        check_conflict(s)
    }

    fn check_scope_and_mark(&self, s: &Stored, attributes: &[Attribute]) -> Result<()> {
        if let Some(column) = s.scope_column.as_ref().and_then(|c| attributes.iter().find(|a| a.name == *c)) {
            // Not numeric: 42 and 42.00 are one value with two texts.
            if !KEY_TYPES.contains(&column.base_type) || column.base_type == pg_sys::NUMERICOID {
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
            if !suits.contains(&column.base_type) {
                return Err(SyncError::new(
                    code::INVALID_PARAMETER,
                    format!("soft-delete column \"{}\" has type {}", column.name, column.type_name),
                )
                .hint("A soft-delete column is a boolean, or a time that is null while the row lives."));
            }
        }
        Ok(())
    }

    fn attributes(&self) -> Result<Vec<Attribute>> {
        let rows = owner_query(
            "SELECT attname, attnotnull, atttypid, format_type(atttypid, atttypmod), \
                    NOT EXISTS (SELECT FROM pg_collation AS l WHERE l.oid = attcollation AND NOT l.collisdeterministic), \
                    attgenerated = 'v', \
                    EXISTS (SELECT FROM pg_constraint AS n WHERE n.contype = 'n' AND n.conrelid = attrelid AND n.conkey = ARRAY[attnum] \
                               AND NOT n.convalidated) \
             FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            &[spi::arg(self.relation)],
        )?;
        Ok(rows
            .iter()
            .map(|r| Attribute {
                name: r.string(0),
                // Since PostgreSQL 18 the constraint may not have been checked for the rows that were there before it.
                not_null: r.bool(1) && !r.bool(6),
                // SAFETY: a syscache look-up of an existing type.
                base_type: unsafe { pg_sys::getBaseType(r.oid(2)) },
                type_name: r.string(3),
                deterministic: r.bool(4),
                is_virtual: r.bool(5),
            })
            .collect())
    }

    fn primary_key(&self) -> Result<Vec<String>> {
        let rows = owner_query(
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
        Ok(self.primary_key().and_then(|key| self.check_key(&key, &attributes).map(|()| key)).unwrap_or_default())
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
            if !KEY_TYPES.contains(&attribute.base_type) {
                return Err(bad(format!("key column \"{column}\" has type {}", attribute.type_name))
                    .detail("A key is made of uuid, text, varchar, smallint, integer, bigint or numeric columns.")
                    .hint("Choose another unique key: enable(..., key => '{...}')."));
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

/// After DDL on a tracked table: refuses it if the table is such as cannot be synced, or tracked, now, and was not before this
/// transaction. (What was done behind our back fails no other command; `doctor` tells of it.)
pub fn check_still_fit(relation: pg_sys::Oid, synced: bool) -> Result<()> {
    let table = Table::find(relation)?;
    let Some((reason, _)) = table.unfit(read_now)? else { return Ok(()) };
    if table.unfit(registry::read_as_before)?.is_some() {
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
    let hint = match synced {
        true => {
            format!("Call snapsync.disable('{}') first.", pg::qualified_name(relation).map(|n| n.0).unwrap_or_default())
        }
        false => "Change these policies, or stop syncing their tables, first.".into(),
    };
    Err(SyncError::new(code::NOT_IN_STATE, message).detail(reason).hint(hint))
}

/// Are the columns that a collection rests on, after DDL, still such as `enable` takes?
pub fn check_columns(relation: pg_sys::Oid, s: &Stored) -> Result<()> {
    let table = Table::find(relation)?;
    let attributes = table.attributes()?;
    table.check_key(&s.key, &attributes)?;
    table.check_scope_and_mark(s, &attributes)
}

/// The policy must be one, and have what it needs.
fn check_conflict(s: &Stored) -> Result<()> {
    let invalid = |message: String| SyncError::new(code::INVALID_PARAMETER, message);
    let policy =
        ConflictPolicy::parse(&s.conflict).map_err(|e| invalid(e.to_string()).hint(ConflictPolicyError::HINT))?;
    if policy == ConflictPolicy::LastWriteWins && s.version_column.is_none() {
        return Err(invalid("the conflict policy last_write_wins needs a version column".into())
            .hint("Name the column that grows with every change: enable(..., version_column => 'updated_at')."));
    }
    if policy == ConflictPolicy::Custom && s.conflict_function.is_none() {
        return Err(invalid("the conflict policy custom needs a function".into())
            .hint("Name it: enable(..., conflict_function => 'my_function(text, text, jsonb, jsonb)')."));
    }
    Ok(())
}

/// The signature of a function that decides conflicts, as it is stored: by its full name, because a dump carries no oids and the
/// search path of who pushes decides nothing. It runs as whoever pushes; the table's owner must be one who may call it.
fn conflict_function(relation: pg_sys::Oid, function: pg_sys::Oid) -> Result<String> {
    let rows = owner_query(
        "SELECT p.proargtypes = '25 25 3802 3802'::oidvector \
                AND p.prorettype = 'jsonb'::regtype AND p.prokind = 'f' AND NOT p.proretset, p.oid::regprocedure::text, \
                has_function_privilege(c.relowner, p.oid, 'EXECUTE'), starts_with(p.pronamespace::regnamespace::text, 'pg_temp_'), \
                c.relowner::regrole::text \
         FROM pg_proc AS p, pg_class AS c WHERE p.oid = $1 AND c.oid = $2",
        &[spi::arg(function), spi::arg(relation)],
    )?;
    let row = rows.first().ok_or_else(|| SyncError::new("42883", "the conflict function does not exist"))?;
    if !row.bool(0) || row.bool(3) {
        return Err(SyncError::new(code::INVALID_PARAMETER, format!("{} cannot decide conflicts", row.string(1)))
            .hint("Write it as function(collection text, id text, stored jsonb, incoming jsonb) RETURNS jsonb."));
    }
    if !row.bool(2) {
        return Err(SyncError::new(
            code::INSUFFICIENT_PRIVILEGE,
            format!("permission denied for conflict function {}", row.string(1)),
        )
        .detail(format!("The table's owner, {}, may not execute it.", row.string(4)))
        .hint("Name a function that the owner of the table may execute: GRANT EXECUTE ON FUNCTION ... TO ..."));
    }
    Ok(row.string(1))
}

/// Tracks a table that policies of synced tables read. Its rows are told apart by its primary key; without a usable one,
/// any change counts for everybody.
pub fn track_for_access(relation: pg_sys::Oid) -> Result<()> {
    let table = Table::find(relation)?;
    let key = table.usable_key()?;
    registry::store(relation, &Stored { key, conflict: "reject".into(), ..Default::default() })?;
    pgrx::notice!("tracking table \"{}\", because policies or scopes of synced tables read it", table.name);
    Ok(())
}

/// Gives such a table the key that it has now: the one it had (`kept`, by the columns' present names) while that is a key, else its
/// primary key. True if another one tells its rows apart than before.
pub fn find_key_for_access(relation: pg_sys::Oid, stored: &Stored, kept: Option<Vec<String>>) -> Result<bool> {
    let table = Table::find(relation)?;
    let attributes = table.attributes()?;
    let kept = kept.filter(|key| table.check_key(key, &attributes).is_ok());
    let is_other = kept.is_none();
    let key = kept.map_or_else(|| table.usable_key(), Ok)?;
    if key == stored.key {
        return Ok(false);
    }
    registry::store(relation, &Stored { key, ..stored.clone() })?;
    Ok(is_other)
}

/// Do exactly these columns make a unique key: not partial, not deferrable, without expressions?
pub fn is_unique(relation: pg_sys::Oid, key: &[String]) -> Result<bool> {
    let rows = owner_query(
        "SELECT 1 FROM pg_index AS i WHERE i.indrelid = $1 AND i.indisunique AND i.indimmediate AND i.indisvalid \
            AND i.indpred IS NULL AND i.indexprs IS NULL \
            AND (SELECT array_agg(a.attname ORDER BY a.attname) FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n) \
                 JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum WHERE k.n <= i.indnkeyatts) \
              = (SELECT array_agg(k ORDER BY k) FROM unnest($2::name[]) AS k)",
        &[spi::arg(relation), spi::arg(key.to_vec())],
    )?;
    Ok(!rows.is_empty())
}
