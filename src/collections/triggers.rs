//! The triggers of tracked tables, and what they say: made to follow from the settings (registry.rs), never the other way round.

use std::cell::Cell;

use pgrx::pg_sys;
use serde::{Deserialize, Serialize};

use crate::collections::registry::{self, Right};
use crate::server::error::{code, Result, SyncError};
use crate::server::memory;
use crate::server::pg;
use crate::server::spi;
use crate::values::conflict::ConflictPolicy;

/// The row trigger's name sorts before every ordinary name: triggers fire in alphabetical order, and the first old state of
/// a row must be logged before another AFTER trigger changes the row again.
pub const ROW_TRIGGER: &str = "00_snapsync_track";
pub const TRUNCATE_TRIGGER: &str = "00_snapsync_truncate";

/// What to track of a table: the argument of its triggers, where the relation cache carries it to track.rs, and `\d` shows it.
#[derive(Serialize, Deserialize, Default, Clone, PartialEq, Debug)]
pub struct Spec {
    pub key: Vec<String>,
    /// Columns whose old values decide who could see a row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Only these columns are synced; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Log which columns an UPDATE touched: for merging conflicts by column.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub touched: bool,
    /// Rows of other tables hang on its rows by foreign keys: what comes and goes here is told by their entries (access.rs).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub parent: bool,
}

/// What the table's triggers must say.
fn spec(relation: pg_sys::Oid) -> Result<Option<Spec>> {
    let Some(s) = registry::load(relation)? else { return Ok(None) };
    let image = registry::image(relation)?;
    // A table that is only tracked for its influence on others: nothing but its images matters.
    let columns = if s.name.is_none() { Some(Vec::new()) } else { s.columns };
    let touched = s.conflict == ConflictPolicy::Merge.name();
    let parent = spi::read_now(
        "SELECT 1 FROM snapsync.access WHERE access = $1 AND kind = 'parent' AND NOT untracked LIMIT 1",
        &[spi::arg(relation)],
    )?;
    let (scope, exclude, parent) = (registry::logged_scope(relation)?, s.exclude, !parent.is_empty());
    Ok(Some(Spec { key: s.key, image, scope, columns, exclude, touched, parent }))
}

fn written(spec: &Spec) -> Result<String> {
    serde_json::to_string(spec)
        .map_err(|e| SyncError::new(code::INTERNAL, "could not write the trigger's argument").detail(e.to_string()))
}

/// The argument of its triggers. None: the table is not tracked.
pub fn argument(relation: pg_sys::Oid) -> Result<Option<String>> {
    spec(relation)?.as_ref().map(written).transpose()
}

/// Are those of our triggers that are there as the settings want them? When they fire is another matter. They may still tell of parents where
/// nobody hangs on these any more: whoever leaves last may have had no right to change them.
pub fn are_ours(relation: pg_sys::Oid) -> Result<bool> {
    let Some(spec) = spec(relation)? else { return Ok(true) };
    let ours = |state: State| matches!(state, State::Missing | State::Right(_));
    for spec in [Spec { parent: true, ..spec.clone() }, spec] {
        if parts(relation, &written(&spec)?)?.iter().all(|p| ours(p.row) && ours(p.truncate)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes the triggers of a table and its partitions say what the settings say; touches only those that differ. The row
/// trigger of a partitioned table is cloned to its partitions by Postgres; statement triggers (TRUNCATE) are not. All fire
/// ALWAYS: rows that logical replication applies are changes too. One that is disabled stays so ([`enable`]), which a WARNING
/// says where one is asked for. True when changes may have gone unnoticed: the row trigger was missing, one did not fire always, or was another.
pub fn sync(relation: pg_sys::Oid, warn: bool) -> Result<bool> {
    let Some(argument) = argument(relation)? else { return Ok(false) };
    let parts = parts(relation, &argument)?;
    let ours = |part: &Part| [(part.root, ROW_TRIGGER, part.row), (true, TRUNCATE_TRIGGER, part.truncate)];
    let lost = |p: &Part| {
        p.root && p.row == State::Missing
            || [p.row, p.truncate].into_iter().any(|state| matches!(state, State::Forged(_)))
    };
    let mut gap = parts.iter().any(lost);
    let mut commands = Vec::new();
    let mut disabled = None;
    for part in &parts {
        for (made_here, name, state) in ours(part) {
            if made_here && matches!(state, State::Forged(_)) {
                // What it is may be nothing that can be replaced.
                commands.push(format!("DROP TRIGGER {} ON {}", pg::ident(name), part.table));
            }
            if made_here && !matches!(state, State::Right(_)) {
                commands.push(create(part, name, &argument));
            }
            match state {
                State::Right('A') => continue,
                // The row trigger of the root brings those of the partitions along, enabled as it is when it is made.
                State::Wrong('A') | State::Forged('A') | State::Missing => {}
                State::Right('D') | State::Wrong('D') | State::Forged('D') => {
                    disabled = disabled.or(Some((name, &part.table)));
                    // Replaced, it would fire again.
                    if !matches!(state, State::Right(_)) {
                        let off = format!("ALTER TABLE {} DISABLE TRIGGER {}", part.table, pg::ident(name));
                        commands.push(off);
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
        if !registry::may(relation, Right::Trigger)? {
            return Err(not_allowed(relation));
        }
        hold(relation)?;
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
pub fn enable(relation: pg_sys::Oid) -> Result<bool> {
    let parts = parts(relation, "")?;
    let disabled = |part: &Part| {
        let both = [(ROW_TRIGGER, part.row), (TRUNCATE_TRIGGER, part.truncate)];
        let both = both
            .into_iter()
            .filter(|(_, state)| matches!(state, State::Right('D') | State::Wrong('D') | State::Forged('D')));
        both.map(|(name, _)| enable_always(part, name)).collect::<Vec<_>>()
    };
    let commands: Vec<String> = parts.iter().flat_map(disabled).collect();
    if !commands.is_empty() {
        hold(relation)?;
    }
    utility(&commands)?;
    Ok(!commands.is_empty())
}

fn enable_always(part: &Part, trigger: &str) -> String {
    format!("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}", part.table, pg::ident(trigger))
}

pub fn drop(relation: pg_sys::Oid) -> Result<()> {
    let mut commands = Vec::new();
    for part in parts(relation, "")? {
        if part.truncate != State::Missing {
            let gone = format!("DROP TRIGGER IF EXISTS {} ON {}", pg::ident(TRUNCATE_TRIGGER), part.table);
            commands.push(gone);
        }
        if part.root && part.row != State::Missing {
            let gone = format!("DROP TRIGGER IF EXISTS {} ON {}", pg::ident(ROW_TRIGGER), part.table);
            commands.push(gone);
        }
    }
    utility(&commands)
}

/// Does the table have its row trigger? It has not in the middle of a restore.
pub fn is_installed(relation: pg_sys::Oid) -> Result<bool> {
    let rows = spi::read_now(
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
    let rows = spi::read_now(
        "SELECT 1 FROM snapsync.collection AS c CROSS JOIN LATERAL ( \
             SELECT * FROM snapsync.parts(c.relation)) AS part(oid) \
         JOIN pg_class AS r ON r.oid = part.oid AND r.relkind IN ('r', 'p') \
         WHERE (SELECT count(*) FROM pg_trigger AS g WHERE g.tgrelid = r.oid AND g.tgname IN ($1::name, $2::name)) < 2 LIMIT 1",
        &[spi::arg(ROW_TRIGGER), spi::arg(TRUNCATE_TRIGGER)],
    )?;
    Ok(!rows.is_empty())
}

/// How one of our triggers stands, and when it fires (`pg_trigger.tgenabled`).
#[derive(Deserialize, Clone, Copy, PartialEq, Debug)]
#[serde(rename_all = "lowercase")]
enum State {
    Missing,
    /// It is called like ours, and is another kind of trigger.
    Forged(char),
    /// It says something else than it must.
    Wrong(char),
    Right(char),
}

/// One relation of a partition tree (or the table itself).
#[derive(Deserialize)]
struct Part {
    oid: u32,
    #[serde(skip)]
    table: String,
    root: bool,
    row: State,
    truncate: State,
}

const PARTS: &str = include_str!("triggers/parts.sql");

/// The table and its partitions with the state of their triggers, which are right if they have this argument.
fn parts(relation: pg_sys::Oid, argument: &str) -> Result<Vec<Part>> {
    let args = [spi::arg(relation), spi::arg(argument), spi::arg(ROW_TRIGGER), spi::arg(TRUNCATE_TRIGGER)];
    let parts: Vec<Part> = spi::typed(&spi::read_now(PARTS, &args)?)?;
    let named = |part: Part| pg::qualified_name(part.oid.into()).map(|(table, _)| Part { table, ..part });
    Ok(parts.into_iter().filter_map(named).collect())
}

/// Runs DDL as the extension's owner (the caller's right to it has been checked), without notices. What the server evaluates of a table
/// meanwhile calls nobody's functions (`hold`).
fn utility(commands: &[String]) -> Result<()> {
    if commands.is_empty() {
        return Ok(());
    }
    let _own = own_commands();
    spi::as_owner(|| spi::quietly(|| commands.iter().try_for_each(|command| spi::utility(command))))
}

/// Keeps a partitioned table and its partitions as they are, with the locks that making triggers takes anyway. The server evaluates a
/// partition key when it first looks at it, in whatever session and with whatever rights that is; so triggers are made only where no key
/// calls a function that somebody has made.
fn hold(relation: pg_sys::Oid) -> Result<()> {
    let mut held: Vec<u32> = Vec::new();
    loop {
        memory::heed();
        let parts = spi::read_now("SELECT oid FROM snapsync.parts($1) AS part(oid)", &[spi::arg(relation)])?;
        let new: Vec<pg_sys::Oid> =
            parts.iter().map(|r| r.oid(0)).filter(|oid| !held.contains(&oid.to_u32())).collect();
        if new.is_empty() {
            break;
        }
        for part in new {
            pg::lock_against_ddl(part);
            held.push(part.to_u32());
        }
    }
    if spi::read_now("SELECT snapsync.calls_in_key($1)", &[spi::arg(relation)])?.first().is_some_and(|r| r.bool(0)) {
        return Err(SyncError::new(
            code::WRONG_OBJECT_TYPE,
            "cannot make triggers on a table whose partition key calls functions",
        )
        .hint("Partition it by columns, or by the system's own functions."));
    }
    Ok(())
}

/// An error that says that a table's triggers would have to change, which the session's role may not do.
pub fn not_allowed(relation: pg_sys::Oid) -> SyncError {
    let table = pg::qualified_name(relation).map(|(table, _)| table).unwrap_or_default();
    SyncError::new(code::INSUFFICIENT_PRIVILEGE, format!("permission denied to track table {table}"))
        .detail("Its triggers have to be changed, which takes the TRIGGER privilege on it.")
        .hint("Let somebody who has it call snapsync.enable() for the table that reads it.")
}

thread_local! {
    /// DDL of our own under way, which fires event triggers like any other.
    static OWN: Cell<u32> = const { Cell::new(0) };
}

/// While this lives, DDL is our own and changes nothing that the event triggers (ddl.rs) would have to look at.
struct OwnCommands(());

fn own_commands() -> OwnCommands {
    OWN.with(|o| o.set(o.get() + 1));
    OwnCommands(())
}

impl Drop for OwnCommands {
    fn drop(&mut self) {
        OWN.with(|o| o.set(o.get() - 1));
    }
}

/// Is DDL of our own under way?
pub fn own_commands_run() -> bool {
    OWN.with(Cell::get) > 0
}
