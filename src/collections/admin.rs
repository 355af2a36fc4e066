//! `snapsync.enable`, `disable`, `reset`: which tables are synced, and how.

use std::collections::HashSet;

use pgrx::pg_sys;
use serde::Deserialize;

use crate::collections::registry::{self, StoredSettings};
use crate::collections::table::Table;
use crate::collections::{names, shape, triggers};
use crate::log::{journal, poke};
use crate::policies::access;
use crate::server::error::{code, Result, SyncError};
use crate::server::memory;
use crate::server::subxact::{self, End};
use crate::server::{pg, spi};
use crate::values::conflict::{ConflictPolicy, ConflictPolicyError};
use crate::values::notify::Notify;

/// The optional arguments of `enable`; None keeps what is set, or the default.
#[derive(Default, Debug)]
pub struct EnableArguments {
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
    pub notify: Option<String>,
}

/// Starts syncing a table, or changes its settings. Instant for a table of any size: a row here and two triggers; no column
/// is added and no row is touched.
pub fn enable(relation: pg_sys::Oid, settings: EnableArguments) -> Result<()> {
    let table = Table::find(relation)?;
    table.check_owner("sync")?;
    // What is checked must hold until the triggers are there: no DDL by others meanwhile. Their writes go on.
    pg::lock_against_ddl(relation);
    // It may be called otherwise since, and be another's.
    let table = Table::find(relation)?;
    table.check_owner("sync")?;
    if let Some((reason, hint)) = table.unfit(spi::read_now)? {
        return Err(SyncError::new(code::WRONG_OBJECT_TYPE, format!("cannot sync \"{}\"", table.name))
            .detail(reason)
            .hint(hint));
    }
    let attributes = table.attributes()?;
    shape::lost::forget()?;
    // A table that was tracked for its influence only is new as a collection.
    let old = registry::load(relation)?.filter(|o| o.name.is_some());
    let mut new = merge(&table, settings, old.as_ref())?;
    table.check(&new, old.as_ref(), &attributes)?;
    check_conflict(&new)?;
    let names = names::decide(relation, new.name.as_deref(), old.as_ref())?;
    new.name = Some(names.name.clone());

    store(relation, &new, old.as_ref())?;
    names::remember(relation, &names)?;
    if let Some(name) = old.as_ref().and_then(|o| o.name.as_deref()).filter(|name| *name != names.name) {
        shape::versions::gone(name)?;
    }
    let was_off = triggers::enable(relation)?;
    shape::refresh(relation)?;
    // Whatever a client has of this collection from before may be incomplete or have other columns. How conflicts are
    // resolved, what may be written and who is poked changes nothing on the clients.
    let on_clients = |s: &StoredSettings| {
        let (conflict, version_column, conflict_function, conflict_owner) = Default::default();
        let (readonly, notify) = (Vec::new(), Notify::None);
        StoredSettings { conflict, version_column, conflict_function, conflict_owner, readonly, notify, ..s.clone() }
    };
    if was_off || old.as_ref().map(on_clients) != Some(on_clients(&new)) {
        journal::reset(relation)?;
    }
    let has_id = |columns: &[String]| columns.iter().any(|c| c == "id");
    let sent = new.columns.as_deref().map_or_else(|| attributes.iter().any(|a| a.name == "id"), has_id);
    let hidden = sent && !has_id(&new.key) && !has_id(&new.exclude);
    if hidden && old.is_none_or(|o| o.key != new.key) {
        pgrx::notice!(
            "the dialects watermelondb and drift do not send column \"id\" of table \"{}\": its \"id\" is made of the key",
            table.name
        );
    }
    Ok(())
}

/// Whoever is giving this name to another table has not committed, and may be in no hurry: he is not waited for. Who is at work on this table is.
fn store(relation: pg_sys::Oid, new: &StoredSettings, old: Option<&StoredSettings>) -> Result<()> {
    let has = old.and_then(|o| o.name.clone());
    if has == new.name {
        return registry::store(relation, new);
    }
    registry::store(relation, &StoredSettings { name: has, ..new.clone() })?;
    subxact::run(|| spi::without_waiting(|| registry::store(relation, new))).map_err(|e| match e.is_lock_timeout() {
        true => {
            let name = new.name.as_deref().unwrap_or_default();
            SyncError::new("55P03", format!("another session is giving the name \"{name}\" to a table"))
                .detail("Its transaction has not ended.")
                .hint("Try again, or give this table another name: enable(..., name => '...').")
        }
        false => e,
    })
}

/// Stops syncing a table and forgets its log. Clients that still ask for it get an error. One that is tracked only because others' policies
/// read it is tracked no more.
pub fn disable(relation: pg_sys::Oid) -> Result<()> {
    let table = Table::find(relation)?;
    table.check_owner("stop syncing")?;
    lock_to_disable(relation)?;
    table.check_owner("stop syncing")?;
    if registry::load(relation)?.is_some_and(|s| s.name.is_none()) {
        triggers::drop(relation, || Ok(true))?;
        shape::stop_tracking(relation)?;
        pgrx::notice!("table \"{}\" was not synced, but tracked for others: what reads it in policies is replaced with every pull now", table.name);
        return Ok(());
    }
    check_enabled(&table)?;
    triggers::drop(relation, || Ok(true))?;
    // It may still be read by other tables' policies: also by those that were just being made while the locks were waited for. From here
    // on they see that it is being changed.
    let readers: Vec<_> =
        shape::readers(relation)?.into_iter().map(|reader| (reader, shape::Because::Elsewhere)).collect();
    shape::forget(relation)?;
    shape::look_again(&readers)
}

/// Locks the table against everybody, and its settings. The table at once: who already reads it, and wants more of it, goes first then. A stranger may have its
/// settings locked (who made a policy upon it, or changed what its own policies call), for as long as he likes: he is waited for without a lock on the table,
/// behind which everybody would wait.
fn lock_to_disable(relation: pg_sys::Oid) -> Result<()> {
    loop {
        memory::heed();
        let both = subxact::run_or_undo(|| {
            triggers::lock_to_drop(relation)?;
            let settled = registry::load(relation)?.is_none() || registry::lock(relation, false)?;
            Ok(if settled { End::Keep(()) } else { End::Undo(()) })
        })?;
        if matches!(both, End::Keep(())) {
            return Ok(());
        }
        if !subxact::try_out(|| registry::lock(relation, true))? {
            // A snapshot that is older than these settings: there is nothing to lock.
            return triggers::lock_to_drop(relation);
        }
    }
}

/// Makes every client forget what it has of this collection and take it anew.
pub fn reset(relation: pg_sys::Oid) -> Result<()> {
    pg::check_may_write(c"snapsync.reset()");
    let table = Table::find(relation)?;
    table.check_owner("reset")?;
    check_enabled(&table)?;
    journal::reset(relation)
}

fn check_enabled(table: &Table) -> Result<()> {
    if registry::load(table.relation)?.is_some_and(|s| s.name.is_some()) {
        return Ok(());
    }
    Err(SyncError::new(code::UNDEFINED_TABLE, format!("table \"{}\" is not synced", table.name))
        .hint("snapsync.status lists the synced tables."))
}

/// The settings asked for, over those that are set, over the defaults.
fn merge(table: &Table, s: EnableArguments, old: Option<&StoredSettings>) -> Result<StoredSettings> {
    let key = match s.key {
        // Twice the same makes no key, as `check` says.
        Some(key) => few("key", key)?,
        None => old.map_or_else(|| table.primary_key(), |o| Ok(o.key.clone()))?,
    };
    let given = |setting, names: Option<Vec<String>>| names.map(|names| few(setting, once(names))).transpose();
    let (columns, exclude, readonly) =
        (given("columns", s.columns)?, given("exclude", s.exclude)?, given("readonly", s.readonly)?);
    if columns.is_some() && exclude.as_ref().is_some_and(|e| !e.is_empty()) {
        return Err(SyncError::new(code::INVALID_PARAMETER, "columns and exclude cannot both be given")
            .hint("Name the columns to sync, or those to leave out."));
    }
    let (columns, exclude) = match (columns, exclude, old) {
        (Some(columns), _, _) => (Some(columns), Vec::new()),
        (None, Some(exclude), _) => (None, exclude),
        (None, None, Some(old)) => (old.columns.clone(), old.exclude.clone()),
        (None, None, None) => (None, Vec::new()),
    };
    let old_reads = old.and_then(|o| o.scope_reads.as_deref());
    let (scope_values, scope_reads) = match s.scope_values {
        // Read anew only where it is given anew: whoever calls now need not be who wrote it.
        None => (old.and_then(|o| o.scope_values.clone()), old_reads.map(str::to_string)),
        Some(given) if given.is_empty() => (None, access::without_scopes(old_reads)?),
        Some(given) => access::take_scope_values(table.relation, &given, old_reads).map(|(v, r)| (Some(v), r))?,
    };
    let (access_tables, scope_reads) = match s.access_tables {
        None => (old.and_then(|o| o.access_tables.clone()), scope_reads),
        Some(given) => access::normalize(table.relation, &given, scope_reads.as_deref()).map(|(a, r)| (Some(a), r))?,
    };
    let (conflict_function, conflict_owner) = match s.conflict_function {
        Some(function) => conflict_function(table.relation, function).map(|(f, owner)| (Some(f), Some(owner)))?,
        None => old.map(|o| (o.conflict_function.clone(), o.conflict_owner.clone())).unwrap_or_default(),
    };
    // An empty text takes a setting away again.
    let text = |new: Option<String>, old: Option<&String>| new.or(old.cloned()).filter(|t| !t.is_empty());
    Ok(StoredSettings {
        // Which one if it is left out, names.rs decides.
        name: s.name,
        key,
        columns,
        exclude,
        readonly: readonly.or(old.map(|o| o.readonly.clone())).unwrap_or_default(),
        scope_column: text(s.scope_column, old.and_then(|o| o.scope_column.as_ref())),
        scope_values,
        scope_reads,
        soft_delete_column: text(s.soft_delete_column, old.and_then(|o| o.soft_delete_column.as_ref())),
        conflict: s.conflict.or(old.map(|o| o.conflict.clone())).unwrap_or_else(|| "reject".into()),
        version_column: text(s.version_column, old.and_then(|o| o.version_column.as_ref())),
        conflict_function,
        conflict_owner,
        access_tables,
        notify: match s.notify {
            Some(notify) => poke::realtime::checked(table.relation, &notify)?,
            None => old.map(|o| o.notify).unwrap_or_default(),
        },
    })
}

/// As many as a table has columns, with dropped ones (MaxHeapAttributeNumber). Whoever looks at the table reads them all, for others' commands, too.
const MOST_NAMES: usize = 1600;

/// Each name once, in the order in which they are given.
fn once(names: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    names.into_iter().filter(|name| seen.insert(name.clone())).collect()
}

fn few(setting: &str, names: Vec<String>) -> Result<Vec<String>> {
    if names.len() <= MOST_NAMES {
        return Ok(names);
    }
    Err(SyncError::new(code::INVALID_PARAMETER, format!("too many names in {setting}: {}", names.len()))
        .detail(format!("A table has {MOST_NAMES} columns at most."))
        .hint("Name columns that the table has."))
}

/// The policy must be one, and have what it needs.
fn check_conflict(s: &StoredSettings) -> Result<()> {
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

const CONFLICT_FUNCTION: &str = include_str!("admin/conflict_function.sql");

#[derive(Deserialize)]
struct ConflictFunction {
    signature: String,
    /// Its arguments and its result are as they must be.
    fits: bool,
    function_owner: String,
    /// The table's.
    owner: String,
    owner_may_execute: bool,
}

/// The signature of a function that decides conflicts, as it is stored: by its full name, because a dump carries no oids and the
/// search path of who pushes decides nothing; and its owner, because the name may pass to others. It runs as whoever pushes; the table's owner must be one who may call it.
fn conflict_function(relation: pg_sys::Oid, function: pg_sys::Oid) -> Result<(String, String)> {
    let rows = spi::owner_query(CONFLICT_FUNCTION, &[spi::arg(function), spi::arg(relation)])?;
    let found: Option<ConflictFunction> = spi::typed(&rows)?.pop();
    let found = found.ok_or_else(|| SyncError::new("42883", "the conflict function does not exist"))?;
    if !found.fits {
        return Err(SyncError::new(code::INVALID_PARAMETER, format!("{} cannot decide conflicts", found.signature))
            .hint("Write it as function(collection text, id text, stored jsonb, incoming jsonb) RETURNS jsonb."));
    }
    if !found.owner_may_execute {
        return Err(SyncError::new(
            code::INSUFFICIENT_PRIVILEGE,
            format!("permission denied for conflict function {}", found.signature),
        )
        .detail(format!("The table's owner, {}, may not execute it.", found.owner))
        .hint("Name a function that the owner of the table may execute: GRANT EXECUTE ON FUNCTION ... TO ..."));
    }
    Ok((found.signature, found.function_owner))
}
