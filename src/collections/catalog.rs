//! What is known about a collection: its table, key, columns and settings. Loaded once per backend, dropped when Postgres
//! says that the table changed.

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap};
use std::ffi::CStr;
use std::rc::Rc;

use pgrx::pg_sys;
use serde::Deserialize;

use crate::collections::facts::{Facts, Stores};
use crate::collections::registry::{self, CollectionSettings};
use crate::collections::shape::dependency;
use crate::policies::access::{self, Readings};
use crate::server::error::{code, Result, SyncError};
use crate::server::memory;
use crate::server::pg::{self, Barred};
use crate::server::session::{Cached, Event};
use crate::server::spi;
use crate::values::conflict::ConflictPolicy;
use crate::values::dialect::TypeFacts;
use crate::values::excerpt;

#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    /// The name as an SQL identifier.
    pub ident: String,
    pub attnum: i16,
    /// The type as SQL, with its modifier: `character varying(20)`.
    pub type_name: String,
    /// The type under all domains.
    pub base_type_name: String,
    pub facts: TypeFacts,
    pub generated: bool,
    pub identity_always: bool,
    pub not_null: bool,
}

#[derive(Debug)]
pub struct Collection {
    pub relation: pg_sys::Oid,
    pub name: String,
    /// The second name that clients may use, if it has one; see names.rs.
    pub qualified_name: Option<String>,
    /// `schema.table`, quoted.
    pub table: String,
    /// The bare table name: policies are evaluated under it.
    pub relname: String,
    /// `ONLY schema.table`, or `schema.table` for a partitioned table.
    pub from: String,
    pub key: Vec<Column>,
    /// The synced columns in table order, whoever may read them.
    pub columns: Vec<Column>,
    pub image: Vec<Column>,
    /// How its policies read the row.
    pub traits: access::Traits,
    pub readonly: Vec<String>,
    pub scope: Option<Column>,
    /// The column whose values the log's entries carry: that one, or the one that the policies divide the rows by.
    pub logged_scope: Option<Column>,
    /// SQL whose value, as the caller, is the array of his scopes.
    pub scope_values: Option<String>,
    /// The functions that it may call.
    pub owned_calls: BTreeSet<String>,
    pub soft_delete: Option<Column>,
    pub conflict: ConflictPolicy,
    /// The column whose greater value stands, under the policy `last_write_wins`.
    pub version: Option<Column>,
    /// The function that decides conflicts, under the policy `custom`.
    pub conflict_function: Option<String>,
    /// The tables that decide who sees which row.
    pub access: Vec<Access>,
    /// Of what DDL last left it as: differs if its columns, policies or what they rest on do.
    pub shape: String,
    /// A look at its definition is due (shape.rs): nothing is sure of what was logged.
    pub due: bool,
    /// Or at that of a table that its policies read, maybe through others; or one of these is not tracked: then an empty log says
    /// nothing.
    pub unsure: bool,
    /// What only pushes ask for.
    pub facts: OnceCell<Facts>,
    pub stores: OnceCell<Rc<Stores>>,
}

/// A way in which another table is read, by policies or functions; see access.rs.
#[derive(Debug)]
pub struct Access {
    pub relation: pg_sys::Oid,
    pub parent: bool,
    pub reading: access::TableReading,
    /// A whole row of it is read.
    pub whole: bool,
    /// Its changes are not logged for this one.
    pub untracked: bool,
}

impl Collection {
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// Is the key the single column `id`? Then rows carry their wire id by themselves.
    pub fn key_is_id(&self) -> bool {
        self.key.len() == 1 && self.key[0].name == "id"
    }

    pub fn key_names(&self) -> Vec<&str> {
        self.key.iter().map(|c| c.name.as_str()).collect()
    }
}

#[derive(Default)]
struct Cache {
    by_relation: HashMap<u32, Rc<Collection>>,
    by_name: HashMap<String, pg_sys::Oid>,
}

thread_local! {
    static CACHE: Cached<Cache> = Cached::until(Event::Definition);
}

/// The collection that a client calls `name`: by the one that `enable` gave it, or by the table's own with its schema. Locks its
/// table as a query would, which only who may do something with the table can make it do.
pub fn collection(name: &str) -> Result<Rc<Collection>> {
    // Before anything is asked of what is cached: a name may have been given to another table.
    pg::accept_invalidations();
    let found = match relation_of(name)? {
        Some(relation) => {
            check_access(relation)?;
            let found = tracked(relation)?.filter(|c| c.name == name || c.qualified_name.as_deref() == Some(name));
            // Who waited for the lock may have lost his rights to whoever had it.
            check_access(relation)?;
            found
        }
        None => None,
    };
    found.ok_or_else(|| {
        SyncError::new(code::UNDEFINED_TABLE, format!("collection \"{}\" does not exist", excerpt::name(name)))
            .detail("No table is synced under this name.")
            .hint(
                "Let the table's owner call snapsync.enable('table'), or ask for one of the names in snapsync.status.",
            )
    })
}

/// May the caller name this table at all, to push to it or to pull it? Who may do nothing with it hears so in PostgreSQL's words,
/// before it is locked and before anything of what it holds or held is looked at: he learns nothing of its rows, and keeps nobody
/// waiting.
fn check_access(relation: pg_sys::Oid) -> Result<()> {
    let Some(barred) = pg::barred(relation) else { return Ok(()) };
    let name = pg::qualified_name(relation).map_or_else(String::new, |(name, _)| name);
    let (message, detail, hint) = match barred {
        Barred::Schema(schema) => (
            format!("permission denied for schema {schema}"),
            "The role may not enter the schema of the collection's table.",
            format!("GRANT USAGE ON SCHEMA {} TO the role that syncs.", pg::ident(&schema)),
        ),
        Barred::Table(table) => (
            format!("permission denied for table {table}"),
            "The role has no privilege on the collection's table.",
            format!("GRANT SELECT ON {name} TO the role that syncs, and INSERT, UPDATE and DELETE where it pushes."),
        ),
    };
    Err(SyncError::new(code::INSUFFICIENT_PRIVILEGE, message).detail(detail).hint(hint))
}

/// The table that clients know by this name. What is cached may have changed until it is locked.
fn relation_of(name: &str) -> Result<Option<pg_sys::Oid>> {
    let then = CACHE.with(Cached::now);
    if let Some(known) = CACHE.with(|c| c.look(|cache| cache.by_name.get(name).copied())) {
        return Ok(Some(known));
    }
    let rows = spi::query_now(
        "SELECT relation::oid FROM snapsync.collection WHERE name = $1 OR qualified_name = $1",
        &[spi::arg(name)],
    )?;
    let Some(relation) = rows.first().map(|r| r.oid(0)) else { return Ok(None) };
    CACHE.with(|c| c.remember(then, |cache| _ = cache.by_name.insert(name.to_string(), relation)));
    Ok(Some(relation))
}

/// A tracked table, synced or not; None when it is not tracked (any more). Locks it as a query would.
pub fn tracked(relation: pg_sys::Oid) -> Result<Option<Rc<Collection>>> {
    // Waits for DDL under way and processes its invalidations; then what is cached is current, or dropped here.
    pg::lock_for_reading(relation);
    let then = CACHE.with(Cached::now);
    if let Some(known) = CACHE.with(|c| c.look(|cache| cache.by_relation.get(&relation.to_u32()).cloned())) {
        return Ok(Some(known));
    }
    if pg::qualified_name(relation).is_none() {
        return Ok(None);
    }
    let Some(loaded) = load(relation)? else { return Ok(None) };
    let loaded = Rc::new(loaded);
    CACHE.with(|c| c.remember(then, |cache| _ = cache.by_relation.insert(relation.to_u32(), Rc::clone(&loaded))));
    Ok(Some(loaded))
}

/// How a table is read, and what its log is worth.
#[derive(Deserialize)]
struct TableRead {
    partitioned: bool,
    shape: String,
    due: bool,
    unsure: bool,
    access: Vec<AccessRead>,
}

#[derive(Deserialize)]
struct AccessRead {
    access: u32,
    parent: bool,
    predicate: Option<String>,
    whole: bool,
    untracked: bool,
}

const READ: &str = include_str!("catalog/read.sql");

fn load(relation: pg_sys::Oid) -> Result<Option<Collection>> {
    let Some(CollectionSettings { stored, image, found_scope, qualified_name }) = registry::settings(relation)? else {
        return Ok(None);
    };
    let [database, system] = dependency::database();
    let rows = spi::query_now(READ, &[spi::arg(relation), database, system])?;
    let Some(read) = rows.first().map(|row| row.json::<TableRead>(0)).transpose()? else { return Ok(None) };
    let Some((table, relname)) = pg::qualified_name(relation) else { return Ok(None) };
    let name = stored.name.unwrap_or_default();
    let all = columns(relation)?;
    let named = |n: &String| {
        all.iter().find(|c| c.name == *n).cloned().ok_or_else(|| {
            SyncError::new(code::UNDEFINED_COLUMN, format!("column \"{n}\" of collection \"{name}\" does not exist"))
                .hint("Call snapsync.enable() for the table again to tell it about the columns it has now.")
        })
    };
    let key = stored.key.iter().map(named).collect::<Result<Vec<_>>>()?;
    let synced = |c: &Column| {
        key.iter().any(|k| k.name == c.name)
            || (stored.columns.as_ref().is_none_or(|o| o.contains(&c.name)) && !stored.exclude.contains(&c.name))
    };
    let readings = Readings::of(relation, stored.access_tables.as_deref(), stored.scope_reads.as_deref())?;
    let mut access = Vec::new();
    for AccessRead { access: read, parent, predicate, whole, untracked } in read.access {
        memory::heed();
        let read = pg_sys::Oid::from(read);
        let ways = readings.of_table(read, predicate.as_deref())?.into_iter();
        access.extend(ways.map(|reading| Access { relation: read, parent, reading, whole, untracked }));
    }
    Ok(Some(Collection {
        relation,
        qualified_name,
        from: if read.partitioned { table.clone() } else { format!("ONLY {table}") },
        table,
        relname,
        columns: all.iter().filter(|c| synced(c)).cloned().collect(),
        traits: access::traits(relation)?,
        image: image.iter().map(named).collect::<Result<_>>()?,
        readonly: stored.readonly,
        scope: stored.scope_column.as_ref().map(named).transpose()?,
        logged_scope: match (&stored.scope_column, &found_scope) {
            (Some(column), _) => Some(named(column)?),
            (None, found) => found.as_ref().and_then(|column| named(column).ok()),
        },
        owned_calls: access::calls(stored.scope_reads.as_deref()),
        scope_values: stored.scope_values,
        soft_delete: stored.soft_delete_column.as_ref().map(named).transpose()?,
        conflict: ConflictPolicy::parse(&stored.conflict).unwrap_or_default(),
        version: stored.version_column.as_ref().map(named).transpose()?,
        conflict_function: stored.conflict_function,
        access,
        due: read.due,
        shape: read.shape,
        unsure: read.unsure,
        facts: OnceCell::new(),
        stores: OnceCell::new(),
        key,
        name,
    }))
}

/// The live columns of a relation that the caller has locked.
pub fn columns(relation: pg_sys::Oid) -> Result<Vec<Column>> {
    // (Types' names are compared between sessions, in tokens of pages.)
    spi::pinned(|| Ok(live_columns(relation)))
}

fn live_columns(relation: pg_sys::Oid) -> Vec<Column> {
    // SAFETY: the relation is locked (callers), so its descriptor stays while it is open here.
    unsafe {
        let open = pg_sys::relation_open(relation, pg_sys::NoLock as i32);
        let descriptor = (*open).rd_att;
        let columns = (0..(*descriptor).natts as usize)
            .map(|i| pg::attribute(descriptor, i))
            .filter(|a| !a.attisdropped)
            .map(|a| {
                let type_name = pg_sys::format_type_extended(
                    a.atttypid,
                    a.atttypmod,
                    (pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN | pg_sys::FORMAT_TYPE_FORCE_QUALIFY) as u16,
                );
                let name = CStr::from_ptr(a.attname.data.as_ptr()).to_string_lossy().into_owned();
                let base = pg_sys::getBaseType(a.atttypid);
                Column {
                    ident: pg::ident(&name),
                    name,
                    attnum: a.attnum,
                    // "Without a modifier" has to be said: `character` is character(1), `bit` is bit(1).
                    base_type_name: CStr::from_ptr(pg_sys::format_type_extended(
                        base,
                        -1,
                        (pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN | pg_sys::FORMAT_TYPE_FORCE_QUALIFY) as u16,
                    ))
                    .to_string_lossy()
                    .into_owned(),
                    type_name: CStr::from_ptr(type_name).to_string_lossy().into_owned(),
                    facts: type_facts(a.atttypid),
                    generated: a.attgenerated != 0,
                    identity_always: a.attidentity as u8 == pg_sys::ATTRIBUTE_IDENTITY_ALWAYS,
                    not_null: a.attnotnull,
                }
            })
            .collect();
        pg_sys::relation_close(open, pg_sys::NoLock as i32);
        columns
    }
}

fn type_facts(type_oid: pg_sys::Oid) -> TypeFacts {
    // SAFETY: syscache look-ups of an existing type; only copied fields leave.
    unsafe {
        let base = pg_sys::getBaseType(type_oid);
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::TYPEOID as i32, pg_sys::Datum::from(base));
        let form = &*(pg_sys::GETSTRUCT(tuple) as pg_sys::Form_pg_type);
        let facts =
            TypeFacts { base, typtype: form.typtype as u8, category: form.typcategory as u8, output: form.typoutput };
        pg_sys::ReleaseSysCache(tuple);
        facts
    }
}
