//! The settings of tracked tables: rows of `snapsync.collection` and `snapsync.access`. `admin.rs` changes them on request,
//! `shape.rs` when DDL changed what they rest on.

use pgrx::pg_sys;
use serde::Deserialize;

use crate::server::error::Result;
use crate::server::pg::{self, OwnTable, WrittenBy, REGTABLE};
use crate::server::spi;
use crate::values::notify::Notify;

/// As far as it is read past the SQL layer.
pub const TABLE: OwnTable =
    OwnTable { name: c"collection", columns: &[(REGTABLE, false)], written: WrittenBy::Statements };

/// A row of snapsync.collection, but for its shape.
#[derive(Deserialize)]
pub struct CollectionSettings {
    #[serde(flatten)]
    pub stored: StoredSettings,
    /// The columns whose old values are logged.
    pub image: Vec<String>,
    /// The column that the policies divide the rows by; see shape/scope.rs.
    pub found_scope: Option<String>,
    /// The second name that clients may use; see names.rs.
    pub qualified_name: Option<String>,
}

const SETTINGS: &str = include_str!("registry/settings.sql");
const STORE: &str = include_str!("registry/store.sql");

/// What of it is set, and not derived.
#[derive(Deserialize, Debug, PartialEq, Clone, Default)]
pub struct StoredSettings {
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
    /// Who owned it when it was named.
    pub conflict_owner: Option<String>,
    /// As given: JSON text.
    pub access_tables: Option<String>,
    pub notify: Notify,
}

/// What the calling role has of a table.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Right {
    /// As CREATE TRIGGER asks for it.
    Trigger,
    Own,
}

pub fn may(relation: pg_sys::Oid, right: Right) -> Result<bool> {
    let rows = spi::read_now(
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
    Ok(!spi::owner_query(&sql, &[spi::arg(relation)])?.is_empty())
}

/// Has another session, whose transaction has not ended, changed the table's settings or locked them to do so?
pub fn is_being_changed(relation: pg_sys::Oid) -> Result<bool> {
    pg::is_being_changed(&TABLE, c"collection_pkey", relation)
}

/// As a pull or push needs it.
pub fn settings(relation: pg_sys::Oid) -> Result<Option<CollectionSettings>> {
    spi::query_now(SETTINGS, &[spi::arg(relation)])?.first().map(|row| row.json(0)).transpose()
}

/// As DDL needs it.
fn settings_now(relation: pg_sys::Oid) -> Result<Option<CollectionSettings>> {
    spi::read_now(SETTINGS, &[spi::arg(relation)])?.first().map(|row| row.json(0)).transpose()
}

/// The columns whose old values are logged.
pub fn image(relation: pg_sys::Oid) -> Result<Vec<String>> {
    Ok(settings_now(relation)?.map(|s| s.image).unwrap_or_default())
}

/// The column whose value the entries of its log carry.
pub fn logged_scope(relation: pg_sys::Oid) -> Result<Option<String>> {
    Ok(settings_now(relation)?.and_then(|s| s.stored.scope_column.or(s.found_scope)))
}

pub fn load(relation: pg_sys::Oid) -> Result<Option<StoredSettings>> {
    Ok(settings_now(relation)?.map(|s| s.stored))
}

pub fn store(relation: pg_sys::Oid, s: &StoredSettings) -> Result<()> {
    spi::owner_execute(
        STORE,
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
            spi::arg(s.notify.name()),
            spi::arg(s.conflict_owner.as_deref()),
        ],
    )?;
    changed(relation);
    Ok(())
}

/// Tells all backends to load this table's settings anew.
pub fn changed(relation: pg_sys::Oid) {
    pg::invalidate(relation);
}

const REMEMBER_UNENFORCED: &str = "INSERT INTO snapsync.dependency (relation, classid, objid, own, name, owner) \
     SELECT $1::oid::regclass, 'pg_constraint'::regclass, f.oid, true, 'unenforced', concat(pg_current_xact_id(), ' ', f.conname) \
     FROM (SELECT oid, conname, contype, conparentid FROM pg_constraint WHERE conrelid = $1 OFFSET 0) AS f \
     WHERE f.contype = 'f' AND f.conparentid = 0 AND snapsync.was_unenforced(f.oid) \
       AND NOT EXISTS (SELECT FROM (SELECT classid, own, name FROM snapsync.dependency WHERE objid = f.oid AND relation = $1 OFFSET 0) AS d \
                       WHERE d.classid = 'pg_constraint'::regclass AND d.own AND d.name = 'unenforced')";

/// Removes a table's settings and its log. That others read it is left to be seen to (`forget_readers`). True if something is left of it:
/// a stranger's open transaction has that locked (whose table it reads, on whom it rests), and nobody waits for him with the table locked
/// against everybody. What is left says nothing of a table that has no settings. Which of its keys were not enforced stays known, as marks
/// (shape/unenforced.rs): the table may be tracked again.
pub fn forget(relation: pg_sys::Oid) -> Result<bool> {
    spi::owner_execute(REMEMBER_UNENFORCED, &[spi::arg(relation)])?;
    const KEPT: &str = "AND (name IS DISTINCT FROM 'unenforced' OR NOT own OR NOT EXISTS (SELECT FROM pg_constraint WHERE oid = objid AND conrelid = $1 OFFSET 0))";
    for (table, but) in [("collection", ""), ("access", ""), ("dependency", KEPT)] {
        let sql = format!(
            "DELETE FROM snapsync.{table} WHERE ctid = ANY (ARRAY( \
                 SELECT ctid FROM snapsync.{table} WHERE relation = $1 {but} FOR UPDATE SKIP LOCKED))"
        );
        spi::owner_execute(&sql, &[spi::arg(relation)])?;
    }
    // (Nobody but the extension's owner has these locked.)
    spi::owner_execute("DELETE FROM snapsync.change WHERE relation = $1", &[spi::arg(relation)])?;
    if pg::qualified_name(relation).is_some() {
        changed(relation);
    }
    const LEFT: &str = "SELECT 1 WHERE EXISTS (SELECT FROM snapsync.collection WHERE relation = $1) \
         OR EXISTS (SELECT FROM snapsync.access WHERE relation = $1) OR EXISTS (SELECT FROM snapsync.dependency WHERE relation = $1)";
    Ok(!spi::read_now(LEFT, &[spi::arg(relation)])?.is_empty())
}

/// Forgets who reads the table. Gives the tracked ones of which somebody else is just changing that: he is not waited for.
pub fn forget_readers(relation: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>> {
    spi::owner_execute(
        "DELETE FROM snapsync.access WHERE ctid = ANY (ARRAY(SELECT ctid FROM snapsync.access WHERE access = $1 FOR UPDATE SKIP LOCKED))",
        &[spi::arg(relation)],
    )?;
    tracked_for(relation)
}

/// The other tables for whose sake this one is tracked, as far as is known.
pub fn tracked_for(relation: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>> {
    const SQL: &str =
        "SELECT a.relation::oid FROM snapsync.access AS a JOIN snapsync.collection AS c ON c.relation = a.relation \
         WHERE a.access = $1 AND a.relation <> $1 AND NOT a.untracked";
    Ok(spi::read_now(SQL, &[spi::arg(relation)])?.iter().map(|r| r.oid(0)).collect())
}

/// All tracked tables that exist.
pub fn tracked() -> Result<Vec<pg_sys::Oid>> {
    let rows = spi::owner_query(
        "SELECT relation::oid FROM snapsync.collection AS c WHERE EXISTS (SELECT FROM pg_class WHERE oid = c.relation) \
         ORDER BY relation::oid",
        &[],
    )?;
    Ok(rows.iter().map(|r| r.oid(0)).collect())
}
