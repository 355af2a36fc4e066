//! What is known about a collection: its table, key, columns and settings. Loaded once per backend, dropped when Postgres
//! says that the table changed.

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap};
use std::ffi::CStr;
use std::rc::Rc;

use pgrx::pg_sys;

use crate::collections::facts::{Facts, Stores};
use crate::policies::access;
use crate::server::error::{code, Result, SyncError};
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
    /// A look at its definition is due (shape.rs): nothing is sure of what was logged.
    pub due: bool,
    /// Or at that of a table that its policies read, maybe through others; or one of these is not tracked: then an empty log says
    /// nothing.
    pub unsure: bool,
    /// What only pushes ask for.
    pub facts: OnceCell<Facts>,
    pub stores: OnceCell<Rc<Stores>>,
}

/// A table that policies of another one read; see access.rs.
#[derive(Debug)]
pub struct Access {
    pub relation: pg_sys::Oid,
    pub parent: bool,
    /// Whom changes of its rows concern.
    pub concerns: access::Concerns,
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

fn load(relation: pg_sys::Oid) -> Result<Option<Collection>> {
    let rows = spi::query_now(
        "SELECT coalesce(c.name, ''), to_json(c.key), to_json(c.columns), to_json(c.exclude), to_json(c.image), c.conflict, \
                r.relkind = 'p', to_json(c.readonly), c.scope_column, c.scope_values, c.soft_delete_column, \
                c.version_column, c.conflict_function, c.access_tables, c.scope_reads, c.qualified_name, \
                EXISTS (SELECT FROM snapsync.dependency AS d WHERE d.relation = c.relation AND d.classid = 0), \
                EXISTS (WITH RECURSIVE read(oid) AS (SELECT c.relation UNION \
                            SELECT a.access FROM read JOIN snapsync.access AS a ON a.relation = read.oid AND NOT a.untracked) \
                        SELECT FROM read WHERE EXISTS (SELECT FROM snapsync.access WHERE relation = read.oid AND untracked) \
                                            OR EXISTS (SELECT FROM snapsync.dependency WHERE relation = read.oid AND classid = 0)) \
         FROM snapsync.collection AS c JOIN pg_class AS r ON r.oid = c.relation WHERE c.relation = $1",
        &[spi::arg(relation)],
    )?;
    let Some(row) = rows.first() else { return Ok(None) };
    let Some((table, relname)) = pg::qualified_name(relation) else { return Ok(None) };
    let name = row.string(0);
    let all = columns(relation);
    let named = |names: Vec<String>| {
        names
            .iter()
            .map(|n| {
                all.iter().find(|c| c.name == *n).cloned().ok_or_else(|| {
                    SyncError::new(
                        code::UNDEFINED_COLUMN,
                        format!("column \"{n}\" of collection \"{name}\" does not exist"),
                    )
                    .hint("Call snapsync.enable() for the table again to tell it about the columns it has now.")
                })
            })
            .collect::<Result<Vec<_>>>()
    };
    let one = |column: usize| -> Result<Option<Column>> {
        Ok(named(row.text(column).map(str::to_string).into_iter().collect())?.pop())
    };
    let key = named(row.list(1).unwrap_or_default())?;
    let image = named(row.list(4).unwrap_or_default())?;
    let (scope, soft_delete, version) = (one(8)?, one(10)?, one(11)?);
    let (only, exclude) = (row.list(2), row.list(3).unwrap_or_default());
    let synced = |c: &Column| {
        key.iter().any(|k| k.name == c.name)
            || (only.as_ref().is_none_or(|o| o.contains(&c.name)) && !exclude.contains(&c.name))
    };
    let columns = all.iter().filter(|c| synced(c)).cloned().collect();
    let from = if row.bool(6) { table.clone() } else { format!("ONLY {table}") };
    let rows = spi::query_now(
        "SELECT access::oid, kind = 'parent', predicate, whole, untracked FROM snapsync.access WHERE relation = $1",
        &[spi::arg(relation)],
    )?;
    let access = rows
        .iter()
        .map(|r| {
            let concerns = access::concerns(relation, r.oid(0), r.text(2), row.text(13), row.text(14))?;
            let (parent, whole, untracked) = (r.bool(1), r.bool(3), r.bool(4));
            Ok(Access { relation: r.oid(0), parent, concerns, whole, untracked })
        })
        .collect::<Result<_>>()?;
    Ok(Some(Collection {
        relation,
        name: name.clone(),
        qualified_name: row.text(15).map(str::to_string),
        table,
        relname,
        from,
        key,
        columns,
        traits: access::traits(relation)?,
        image,
        readonly: row.list(7).unwrap_or_default(),
        scope,
        scope_values: row.text(9).map(str::to_string),
        owned_calls: access::calls(row.text(14)),
        soft_delete,
        conflict: ConflictPolicy::parse(&row.string(5)).unwrap_or_default(),
        version,
        conflict_function: row.text(12).map(str::to_string),
        access,
        due: row.bool(16),
        unsure: row.bool(17),
        facts: OnceCell::new(),
        stores: OnceCell::new(),
    }))
}

/// The live columns of a relation that the caller has locked.
pub fn columns(relation: pg_sys::Oid) -> Vec<Column> {
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
