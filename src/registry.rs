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

/// Reads catalogs and snapsync's own tables as they are at this instant, also in REPEATABLE READ: what was committed meanwhile counts,
/// and so does what this command has done.
pub fn read_now(sql: &str, args: &[spi::Arg]) -> Result<Vec<Row>> {
    // SAFETY: inside a transaction, in a function that may write.
    unsafe { pg_sys::CommandCounterIncrement() };
    spi::as_owner(|| {
        let _now = pg::ActiveSnapshot::latest();
        let _by_index = ByIndex::only();
        spi::query_planned(sql, args, Mode::Read, spi::Planned::Once)
    })
}

/// While this lives, plans are made that find rows by indexes and nothing else: what is looked up is about one table, and catalogs are as
/// large as the database has tables. Such a plan serves any of them, so it is made once.
struct ByIndex {
    seqscan: bool,
    hashjoin: bool,
    mergejoin: bool,
}

impl ByIndex {
    fn only() -> Self {
        // SAFETY: backend-local settings, put back in `drop`, also when an ERROR unwinds.
        unsafe {
            ByIndex {
                seqscan: std::ptr::replace(&raw mut pg_sys::enable_seqscan, false),
                hashjoin: std::ptr::replace(&raw mut pg_sys::enable_hashjoin, false),
                mergejoin: std::ptr::replace(&raw mut pg_sys::enable_mergejoin, false),
            }
        }
    }
}

impl Drop for ByIndex {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe {
            pg_sys::enable_seqscan = self.seqscan;
            pg_sys::enable_hashjoin = self.hashjoin;
            pg_sys::enable_mergejoin = self.mergejoin;
        }
    }
}

/// The same as it was before the transaction.
pub fn read_as_before(sql: &str, args: &[spi::Arg]) -> Result<Vec<Row>> {
    spi::as_owner(|| {
        let _before = pg::ActiveSnapshot::before_transaction();
        let _by_index = ByIndex::only();
        spi::query_planned(sql, args, Mode::Read, spi::Planned::Once)
    })
}

/// What the calling role has of a table.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Right {
    /// As CREATE TRIGGER asks for it.
    Trigger,
    Own,
}

pub fn may(relation: pg_sys::Oid, right: Right) -> Result<bool> {
    let rows = read_now(
        "SELECT CASE WHEN $3 THEN pg_has_role($2, relowner, 'USAGE') ELSE has_table_privilege($2, oid, 'TRIGGER') END \
         FROM pg_class WHERE oid = $1",
        &[spi::arg(relation), spi::arg(pg::current_user()), spi::arg(right == Right::Own)],
    )?;
    Ok(rows.first().is_some_and(|r| r.bool(0)))
}

/// Keeps the table's row for this transaction. False if there is none, or, unless it waits, if another transaction has it.
pub fn lock(relation: pg_sys::Oid, wait: bool) -> Result<bool> {
    let skip = if wait { "" } else { " SKIP LOCKED" };
    let sql = format!("SELECT FROM snapsync.collection WHERE relation = $1 FOR UPDATE{skip}");
    Ok(!owner_query(&sql, &[spi::arg(relation)])?.is_empty())
}

/// The columns whose old values are logged.
pub fn image(relation: pg_sys::Oid) -> Result<Vec<String>> {
    let rows = read_now("SELECT to_json(image) FROM snapsync.collection WHERE relation = $1", &[spi::arg(relation)])?;
    Ok(rows.first().and_then(|r| r.list(0)).unwrap_or_default())
}

pub fn load(relation: pg_sys::Oid) -> Result<Option<Stored>> {
    let rows = read_now(
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

/// Removes a table's settings and its log. That others read it is left to be seen to (`forget_readers`).
pub fn forget(relation: pg_sys::Oid) -> Result<()> {
    for table in ["collection", "change", "access", "dependency"] {
        owner_execute(&format!("DELETE FROM snapsync.{table} WHERE relation = $1"), &[spi::arg(relation)])?;
    }
    if pg::qualified_name(relation).is_some() {
        changed(relation);
    }
    Ok(())
}

pub fn forget_readers(relation: pg_sys::Oid) -> Result<()> {
    owner_execute("DELETE FROM snapsync.access WHERE access = $1", &[spi::arg(relation)]).map(|_| ())
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
    let image = image(relation)?;
    // A table that is only tracked for its influence on others: nothing but its images matters.
    let columns = if s.name.is_none() { Some(Vec::new()) } else { s.columns };
    let touched = s.conflict == ConflictPolicy::Merge.name();
    let parent = read_now(
        "SELECT 1 FROM snapsync.access WHERE access = $1 AND kind = 'parent' AND NOT untracked LIMIT 1",
        &[spi::arg(relation)],
    )?;
    let (scope, exclude, parent) = (s.scope_column, s.exclude, !parent.is_empty());
    Ok(Some(Spec { key: s.key, image, scope, columns, exclude, touched, parent }))
}

/// Makes the triggers of a table and its partitions say what the settings say; touches only those that differ. The row
/// trigger of a partitioned table is cloned to its partitions by Postgres; statement triggers (TRUNCATE) are not. All fire
/// ALWAYS: rows that logical replication applies are changes too. One that is disabled stays so (`enable_triggers`), which a WARNING
/// says where one is asked for. True when changes may have gone unnoticed: the row trigger was missing, or one did not fire always.
pub fn sync_triggers(relation: pg_sys::Oid, warn: bool) -> Result<bool> {
    let Some(spec) = spec(relation)? else { return Ok(false) };
    let argument = serde_json::to_string(&spec)
        .map_err(|e| SyncError::new(code::INTERNAL, "could not write the trigger's argument").detail(e.to_string()))?;
    let parts = parts(relation, &argument)?;
    let ours = |part: &Part| [(part.root, ROW_TRIGGER, part.row), (true, TRUNCATE_TRIGGER, part.truncate)];
    let mut gap = parts.iter().any(|p| p.root && p.row == State::Missing);
    let mut commands = Vec::new();
    let mut disabled = None;
    for part in &parts {
        for (made_here, name, state) in ours(part) {
            if made_here && !matches!(state, State::Right(_)) {
                commands.push(create(part, name, &argument));
            }
            match state {
                State::Right('A') => continue,
                // The row trigger of the root brings those of the partitions along, enabled as it is when it is made.
                State::Wrong('A') | State::Missing => {}
                State::Right('D') | State::Wrong('D') => {
                    disabled = disabled.or(Some((name, &part.table)));
                    // Replaced, it would fire again.
                    if matches!(state, State::Wrong(_)) {
                        commands.push(format!("ALTER TABLE {} DISABLE TRIGGER {}", part.table, pg::ident(name)));
                    }
                    continue;
                }
                // A trigger starts as 'O'; of one that was there before it means that somebody has switched it.
                _ => gap = true,
            }
            commands.push(enable_always(part, name));
        }
    }
    if !commands.is_empty() {
        if !may(relation, Right::Trigger)? {
            let table = pg::qualified_name(relation).map(|(table, _)| table).unwrap_or_default();
            return Err(crate::shape::not_allowed(&table));
        }
        utility(&commands)?;
    }
    if let Some((name, table)) = disabled.filter(|_| warn) {
        pgrx::warning!(
            "trigger {name} of {table} is disabled: changes are not tracked until it is enabled, which resets the clients"
        );
    }
    Ok(gap)
}

fn create(part: &Part, name: &str, argument: &str) -> String {
    let when = match name {
        ROW_TRIGGER => "AFTER INSERT OR UPDATE OR DELETE",
        _ => "AFTER TRUNCATE",
    };
    let each = if name == ROW_TRIGGER { "ROW" } else { "STATEMENT" };
    // Replaced where it is there, which locks out writers only.
    format!(
        "CREATE OR REPLACE TRIGGER {} {when} ON {} FOR EACH {each} EXECUTE FUNCTION snapsync.track({})",
        pg::ident(name),
        part.table,
        pg::literal(argument)
    )
}

/// Switches triggers on again that somebody has disabled; true if there were any.
pub fn enable_triggers(relation: pg_sys::Oid) -> Result<bool> {
    let parts = parts(relation, "")?;
    let disabled = |part: &Part| {
        let both = [(ROW_TRIGGER, part.row), (TRUNCATE_TRIGGER, part.truncate)];
        let both = both.into_iter().filter(|(_, state)| matches!(state, State::Right('D') | State::Wrong('D')));
        both.map(|(name, _)| enable_always(part, name)).collect::<Vec<_>>()
    };
    let commands: Vec<String> = parts.iter().flat_map(disabled).collect();
    utility(&commands)?;
    Ok(!commands.is_empty())
}

fn enable_always(part: &Part, trigger: &str) -> String {
    format!("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}", part.table, pg::ident(trigger))
}

pub fn drop_triggers(relation: pg_sys::Oid) -> Result<()> {
    let mut commands = Vec::new();
    for part in parts(relation, "")? {
        if part.truncate != State::Missing {
            commands.push(format!("DROP TRIGGER IF EXISTS {} ON {}", pg::ident(TRUNCATE_TRIGGER), part.table));
        }
        if part.root && part.row != State::Missing {
            commands.push(format!("DROP TRIGGER IF EXISTS {} ON {}", pg::ident(ROW_TRIGGER), part.table));
        }
    }
    utility(&commands)
}

/// Does the table have its row trigger? It has not in the middle of a restore.
pub fn is_installed(relation: pg_sys::Oid) -> Result<bool> {
    let rows = read_now(
        "SELECT 1 FROM pg_trigger WHERE tgrelid = $1 AND tgname = $2::name",
        &[spi::arg(relation), spi::arg(ROW_TRIGGER)],
    )?;
    Ok(!rows.is_empty())
}

/// Has it, and have its partitions, all of their triggers? Not in the middle of a restore.
pub fn is_complete(relation: pg_sys::Oid) -> Result<bool> {
    Ok(parts(relation, "")?.iter().all(|p| p.row != State::Missing && p.truncate != State::Missing))
}

/// Has any tracked table, or a partition of one, not all of its triggers?
pub fn is_any_incomplete() -> Result<bool> {
    let rows = read_now(
        "SELECT 1 FROM snapsync.collection AS c CROSS JOIN LATERAL ( \
             SELECT relid::oid AS oid FROM pg_partition_tree(c.relation) UNION SELECT c.relation) AS part \
         JOIN pg_class AS r ON r.oid = part.oid AND r.relkind IN ('r', 'p') \
         WHERE (SELECT count(*) FROM pg_trigger AS g WHERE g.tgrelid = r.oid AND g.tgname IN ($1::name, $2::name)) < 2 LIMIT 1",
        &[spi::arg(ROW_TRIGGER), spi::arg(TRUNCATE_TRIGGER)],
    )?;
    Ok(!rows.is_empty())
}

/// How one of our triggers stands, and when it fires (`pg_trigger.tgenabled`).
#[derive(Clone, Copy, PartialEq, Debug)]
enum State {
    Missing,
    /// It says something else than it must, or is another kind of trigger.
    Wrong(char),
    Right(char),
}

/// One relation of a partition tree (or the table itself).
struct Part {
    table: String,
    root: bool,
    row: State,
    truncate: State,
}

/// The table and its partitions with the state of their triggers, which are right if they have this argument.
fn parts(relation: pg_sys::Oid, argument: &str) -> Result<Vec<Part>> {
    // tgtype: AFTER ROW INSERT, DELETE, UPDATE, and AFTER STATEMENT TRUNCATE (catalog/pg_trigger.h).
    let rows = read_now(
        "SELECT t.oid, t.oid = $1, r.state, s.state \
         FROM (SELECT relid::oid AS oid FROM pg_partition_tree($1) UNION SELECT $1) AS t \
         JOIN pg_class AS c ON c.oid = t.oid AND c.relkind IN ('r', 'p') \
         LEFT JOIN LATERAL (SELECT concat(g.tgenabled, (g.tgtype = 29 AND g.tgfoid = 'snapsync.track'::regproc AND g.tgqual IS NULL AND g.tgattr = '' \
                   AND NOT g.tgdeferrable AND g.tgargs = convert_to($2, 'UTF8') || '\\x00'::bytea)) AS state \
               FROM pg_trigger AS g WHERE g.tgrelid = t.oid AND g.tgname = $3::name) AS r ON true \
         LEFT JOIN LATERAL (SELECT concat(g.tgenabled, (g.tgtype = 32 AND g.tgfoid = 'snapsync.track'::regproc AND g.tgqual IS NULL \
                   AND NOT g.tgdeferrable AND g.tgargs = convert_to($2, 'UTF8') || '\\x00'::bytea)) AS state \
               FROM pg_trigger AS g WHERE g.tgrelid = t.oid AND g.tgname = $4::name) AS s ON true \
         ORDER BY t.oid <> $1, t.oid",
        &[spi::arg(relation), spi::arg(argument), spi::arg(ROW_TRIGGER), spi::arg(TRUNCATE_TRIGGER)],
    )?;
    let state = |text: Option<&str>| match (text.and_then(|t| t.chars().next()), text) {
        (Some(enabled), Some(text)) if text.ends_with('t') => State::Right(enabled),
        (Some(enabled), _) => State::Wrong(enabled),
        _ => State::Missing,
    };
    let part = |r: &Row| {
        let (table, _) = pg::qualified_name(r.oid(0))?;
        Some(Part { table, root: r.bool(1), row: state(r.text(2)), truncate: state(r.text(3)) })
    };
    Ok(rows.iter().filter_map(part).collect())
}

/// Runs DDL as the extension's owner (the caller's right to it has been checked), without notices.
fn utility(commands: &[String]) -> Result<()> {
    if commands.is_empty() {
        return Ok(());
    }
    let _own = crate::ddl::own_commands();
    spi::as_owner(|| spi::quietly(|| commands.iter().try_for_each(|command| spi::utility(command))))
}
