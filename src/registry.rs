//! The settings of tracked tables: rows of `snapsync.collection` and `snapsync.access`, and the triggers that follow from
//! them. `admin.rs` changes them on request, `shape.rs` when DDL changed what they rest on.

use pgrx::pg_sys;

use crate::conflict::ConflictPolicy;
use crate::error::{code, Result, SyncError};
use crate::pg;
use crate::spi::{self, Mode, Row};
use crate::track::Spec;

/// The row trigger's name sorts before every ordinary name: triggers fire in alphabetical order, and the first old state of
/// a row must be logged before another AFTER trigger changes the row again.
pub const ROW_TRIGGER: &str = "00_snapsync_track";
pub const TRUNCATE_TRIGGER: &str = "00_snapsync_truncate";

/// A row of snapsync.collection, except what is derived (`image`, `shape`).
#[derive(Debug, PartialEq, Clone, Default)]
pub struct Stored {
    /// None: tracked only because other tables' policies read it.
    pub name: Option<String>,
    pub key: Vec<String>,
    pub columns: Option<Vec<String>>,
    pub exclude: Vec<String>,
    pub readonly: Vec<String>,
    pub scope_column: Option<String>,
    pub scope_values: Option<String>,
    /// The tables and functions in it: JSON text.
    pub scope_reads: Option<String>,
    pub soft_delete_column: Option<String>,
    pub conflict: String,
    pub version_column: Option<String>,
    /// The signature of the function that decides conflicts.
    pub conflict_function: Option<String>,
    /// As given: JSON text.
    pub access_tables: Option<String>,
}

/// Runs a statement on catalogs and snapsync's own tables, which the caller need not be able to read.
pub fn owner_query(sql: &str, args: &[spi::Arg]) -> Result<Vec<Row>> {
    spi::as_owner(|| spi::query(sql, args, Mode::Write))
}

pub fn owner_execute(sql: &str, args: &[spi::Arg]) -> Result<u64> {
    spi::as_owner(|| spi::execute(sql, args, Mode::Write))
}

pub fn load(relation: pg_sys::Oid) -> Result<Option<Stored>> {
    let rows = owner_query(
        "SELECT name, to_json(key), to_json(columns), to_json(exclude), to_json(readonly), scope_column, scope_values, \
                soft_delete_column, conflict, access_tables, version_column, conflict_function, scope_reads \
         FROM snapsync.collection WHERE relation = $1",
        &[spi::arg(relation)],
    )?;
    let text = |r: &Row, i: usize| r.text(i).map(str::to_string);
    Ok(rows.first().map(|r| Stored {
        name: text(r, 0),
        key: r.list(1).unwrap_or_default(),
        columns: r.list(2),
        exclude: r.list(3).unwrap_or_default(),
        readonly: r.list(4).unwrap_or_default(),
        scope_column: text(r, 5),
        scope_values: text(r, 6),
        soft_delete_column: text(r, 7),
        conflict: r.string(8),
        access_tables: text(r, 9),
        version_column: text(r, 10),
        conflict_function: text(r, 11),
        scope_reads: text(r, 12),
    }))
}

pub fn store(relation: pg_sys::Oid, s: &Stored) -> Result<()> {
    owner_execute(
        "INSERT INTO snapsync.collection AS c (relation, name, key, columns, exclude, readonly, scope_column, scope_values, \
                soft_delete_column, conflict, access_tables, version_column, conflict_function, scope_reads) \
         VALUES ($1, $2, $3::name[], $4::name[], $5::name[], $6::name[], $7::name, $8, $9::name, $10, $11::jsonb, $12::name, $13, $14::jsonb) \
         ON CONFLICT (relation) DO UPDATE SET name = excluded.name, key = excluded.key, columns = excluded.columns, \
             exclude = excluded.exclude, readonly = excluded.readonly, scope_column = excluded.scope_column, \
             scope_values = excluded.scope_values, soft_delete_column = excluded.soft_delete_column, \
             conflict = excluded.conflict, access_tables = excluded.access_tables, \
             version_column = excluded.version_column, conflict_function = excluded.conflict_function, \
             scope_reads = excluded.scope_reads",
        &[
            spi::arg(relation),
            spi::arg(s.name.as_deref()),
            spi::arg(s.key.clone()),
            spi::arg(s.columns.clone()),
            spi::arg(s.exclude.clone()),
            spi::arg(s.readonly.clone()),
            spi::arg(s.scope_column.as_deref()),
            spi::arg(s.scope_values.as_deref()),
            spi::arg(s.soft_delete_column.as_deref()),
            spi::arg(s.conflict.as_str()),
            spi::arg(s.access_tables.as_deref()),
            spi::arg(s.version_column.as_deref()),
            spi::arg(s.conflict_function.as_deref()),
            spi::arg(s.scope_reads.as_deref()),
        ],
    )?;
    changed(relation);
    Ok(())
}

/// Tells all backends to load this table's settings anew.
pub fn changed(relation: pg_sys::Oid) {
    // SAFETY: queues an invalidation of the relation's cache entry, sent at commit.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(relation) }
}

/// Removes a table's settings and its log.
pub fn forget(relation: pg_sys::Oid) -> Result<()> {
    for table in ["collection", "change", "access"] {
        owner_execute(&format!("DELETE FROM snapsync.{table} WHERE relation = $1"), &[spi::arg(relation)])?;
    }
    owner_execute("DELETE FROM snapsync.access WHERE access = $1", &[spi::arg(relation)])?;
    if pg::qualified_name(relation).is_some() {
        changed(relation);
    }
    Ok(())
}

/// All tracked tables that exist.
pub fn tracked() -> Result<Vec<pg_sys::Oid>> {
    let rows = owner_query(
        "SELECT relation::oid FROM snapsync.collection AS c WHERE EXISTS (SELECT FROM pg_class WHERE oid = c.relation) \
         ORDER BY relation::oid",
        &[],
    )?;
    Ok(rows.iter().map(|r| r.oid(0)).collect())
}

/// What the table's triggers must say.
fn spec(relation: pg_sys::Oid) -> Result<Option<Spec>> {
    let Some(s) = load(relation)? else { return Ok(None) };
    let image =
        owner_query("SELECT to_json(image) FROM snapsync.collection WHERE relation = $1", &[spi::arg(relation)])?;
    let image = image.first().and_then(|r| r.list(0)).unwrap_or_default();
    // A table that is only tracked for its influence on others: nothing but its images matters.
    let columns = if s.name.is_none() { Some(Vec::new()) } else { s.columns };
    let touched = s.conflict == ConflictPolicy::Merge.name();
    let parent =
        owner_query("SELECT 1 FROM snapsync.access WHERE access = $1 AND kind = 'parent'", &[spi::arg(relation)])?;
    let (scope, exclude, parent) = (s.scope_column, s.exclude, !parent.is_empty());
    Ok(Some(Spec { key: s.key, image, scope, columns, exclude, touched, parent }))
}

/// Makes the triggers of a table and its partitions say what the settings say; touches only those that differ. The row
/// trigger of a partitioned table is cloned to its partitions by Postgres; statement triggers (TRUNCATE) are not. All fire
/// ALWAYS: rows that logical replication applies are changes too. One that is disabled stays so (`enable_triggers`).
/// True when changes may have gone unnoticed: the row trigger was missing, or one did not fire always.
pub fn sync_triggers(relation: pg_sys::Oid) -> Result<bool> {
    let Some(spec) = spec(relation)? else { return Ok(false) };
    let argument = serde_json::to_string(&spec)
        .map_err(|e| SyncError::new(code::INTERNAL, "could not write the trigger's argument").detail(e.to_string()))?;
    let parts = parts(relation)?;
    let mut gap = !is_installed(relation)?;
    // Relations that get a trigger here.
    let mut fresh: Vec<pg_sys::Oid> = Vec::new();
    for part in &parts {
        let state = |name: &str| trigger_state(part.relation, name, &argument);
        let (row, truncate) = (pg::ident(ROW_TRIGGER), pg::ident(TRUNCATE_TRIGGER));
        let (table, literal) = (&part.table, pg::literal(&argument));
        let mut commands = Vec::new();
        if part.root && state(ROW_TRIGGER)? != Trigger::Right {
            commands.push(format!("DROP TRIGGER IF EXISTS {row} ON {table}"));
            commands.push(format!(
                "CREATE TRIGGER {row} AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION snapsync.track({literal})"
            ));
        }
        if state(TRUNCATE_TRIGGER)? != Trigger::Right {
            commands.push(format!("DROP TRIGGER IF EXISTS {truncate} ON {table}"));
            commands.push(format!(
                "CREATE TRIGGER {truncate} AFTER TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION snapsync.track({literal})"
            ));
        }
        if !commands.is_empty() {
            // The row trigger of the root brings those of the partitions along.
            fresh.extend(if part.root { parts.iter().map(|p| p.relation).collect() } else { vec![part.relation] });
        }
        utility(&commands)?;
    }
    for part in &parts {
        for name in [ROW_TRIGGER, TRUNCATE_TRIGGER] {
            match trigger_enabled(part.relation, name)? {
                Some('A') => continue,
                Some('D') => pgrx::warning!(
                    "trigger {name} of {} is disabled: changes are not tracked until it is enabled, which resets the clients",
                    part.table
                ),
                Some('R') => gap = true,
                // A trigger starts as 'O'; of one that was there before it means that somebody has switched it.
                _ => gap |= !fresh.contains(&part.relation),
            }
            if trigger_enabled(part.relation, name)? != Some('D') {
                utility(&[enable_always(part, name)])?;
            }
        }
    }
    Ok(gap)
}

/// Switches triggers on again that somebody has disabled; true if there were any.
pub fn enable_triggers(relation: pg_sys::Oid) -> Result<bool> {
    let mut disabled = false;
    for part in parts(relation)? {
        for name in [ROW_TRIGGER, TRUNCATE_TRIGGER] {
            if trigger_enabled(part.relation, name)? == Some('D') {
                utility(&[enable_always(&part, name)])?;
                disabled = true;
            }
        }
    }
    Ok(disabled)
}

fn enable_always(part: &Part, trigger: &str) -> String {
    format!("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}", part.table, pg::ident(trigger))
}

pub fn drop_triggers(relation: pg_sys::Oid) -> Result<()> {
    for part in parts(relation)? {
        let mut commands = vec![format!("DROP TRIGGER IF EXISTS {} ON {}", pg::ident(TRUNCATE_TRIGGER), part.table)];
        if part.root {
            commands.push(format!("DROP TRIGGER IF EXISTS {} ON {}", pg::ident(ROW_TRIGGER), part.table));
        }
        utility(&commands)?;
    }
    Ok(())
}

#[derive(PartialEq)]
enum Trigger {
    Wrong,
    Right,
}

fn trigger_state(relation: pg_sys::Oid, name: &str, argument: &str) -> Result<Trigger> {
    let rows = owner_query(
        "SELECT tgargs = convert_to($3, 'UTF8') || '\\x00'::bytea FROM pg_trigger WHERE tgrelid = $1 AND tgname = $2::name",
        &[spi::arg(relation), spi::arg(name), spi::arg(argument)],
    )?;
    Ok(match rows.first() {
        Some(r) if r.bool(0) => Trigger::Right,
        _ => Trigger::Wrong,
    })
}

fn trigger_enabled(relation: pg_sys::Oid, name: &str) -> Result<Option<char>> {
    let rows = owner_query(
        "SELECT tgenabled FROM pg_trigger WHERE tgrelid = $1 AND tgname = $2::name",
        &[spi::arg(relation), spi::arg(name)],
    )?;
    Ok(rows.first().and_then(|r| r.text(0)).and_then(|t| t.chars().next()))
}

/// Does the table have its row trigger? It has not in the middle of a restore.
pub fn is_installed(relation: pg_sys::Oid) -> Result<bool> {
    Ok(trigger_enabled(relation, ROW_TRIGGER)?.is_some())
}

/// One relation of a partition tree (or the table itself).
struct Part {
    relation: pg_sys::Oid,
    table: String,
    root: bool,
}

fn parts(relation: pg_sys::Oid) -> Result<Vec<Part>> {
    let rows = owner_query(
        "SELECT t.oid, t.oid = $1 FROM (SELECT relid::oid AS oid FROM pg_partition_tree($1) UNION SELECT $1) AS t \
         JOIN pg_class AS c ON c.oid = t.oid WHERE c.relkind IN ('r', 'p') ORDER BY t.oid <> $1, t.oid",
        &[spi::arg(relation)],
    )?;
    let part = |r: &Row| {
        let (table, _) = pg::qualified_name(r.oid(0))?;
        Some(Part { relation: r.oid(0), table, root: r.bool(1) })
    };
    Ok(rows.iter().filter_map(part).collect())
}

/// Runs DDL as the extension's owner (the caller's right to it has been checked), without notices.
fn utility(commands: &[String]) -> Result<()> {
    let _own = crate::ddl::own_commands();
    spi::as_owner(|| spi::quietly(|| commands.iter().try_for_each(|command| spi::utility(command))))
}
