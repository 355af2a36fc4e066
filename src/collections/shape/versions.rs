//! What apps must know of the collections, version by version: columns, types, key, references. Each change of a collection's makes a new
//! version; they are numbered through the database, in the order in which they are committed and without gaps, so whoever has seen one has
//! seen all before it.
//!
//! A number is drawn while the transaction commits, under a lock that is held from then on: a stranger's transaction that sits on its DDL
//! keeps nobody waiting.

use pgrx::pg_sys;
use serde::Deserialize;

use crate::server::error::{code, Result, SyncError};
use crate::server::session::PerTransaction;
use crate::server::{pg, spi, talk};

thread_local! {
    /// Has this transaction written versions down, which have no number yet?
    static PENDING: PerTransaction<bool> = PerTransaction::until_end();
}

const DOCUMENT: &str = include_str!("versions/document.sql");

/// Of a collection.
#[derive(Deserialize, Clone, Debug)]
pub struct Document {
    pub key: Vec<String>,
    pub columns: Vec<DocumentColumn>,
    pub references: Vec<Reference>,
}

#[derive(Deserialize, Clone, Debug)]
pub struct DocumentColumn {
    pub name: String,
    #[serde(rename = "type")]
    pub type_name: String,
    pub nullable: bool,
    pub readonly: bool,
    /// What WatermelonDB keeps it as: string, number or boolean.
    pub watermelondb: String,
}

/// A foreign key.
#[derive(Deserialize, Clone, Debug)]
pub struct Reference {
    pub columns: Vec<String>,
    /// `schema.table`, quoted.
    pub table: String,
    pub to: Vec<String>,
}

impl Document {
    pub fn column(&self, name: &str) -> Option<&DocumentColumn> {
        self.columns.iter().find(|c| c.name == name)
    }
}

/// Must versions be numbered before this transaction commits?
pub fn are_pending() -> bool {
    PENDING.with(|pending| pending.with(|pending| *pending))
}

/// The name of the collection that this table is, what it looks like now, and whether that is news.
fn look(relation: pg_sys::Oid) -> Result<Option<(String, String, bool)>> {
    let rows = spi::read_now(DOCUMENT, &[spi::arg(relation)])?;
    Ok(rows.first().map(|row| (row.string(0), row.string(1), row.bool(2))))
}

/// As it is now. The table is locked.
pub fn present(relation: pg_sys::Oid) -> Result<Option<Document>> {
    let rows = spi::query_now(DOCUMENT, &[spi::arg(relation)])?;
    rows.first().map(|row| row.json(1)).transpose()
}

/// After `enable` or DDL: writes down what the collection is now, if it was another.
pub fn note(relation: pg_sys::Oid) -> Result<()> {
    match look(relation)? {
        Some((name, document, true)) => add(&name, Some(&document)),
        _ => Ok(()),
    }
}

/// No collection is called so any more.
pub fn gone(name: &str) -> Result<()> {
    let last = spi::read_now(
        "SELECT document IS NOT NULL FROM snapsync.schema_version WHERE name = $1 ORDER BY version DESC NULLS FIRST, ord DESC LIMIT 1",
        &[spi::arg(name)],
    )?;
    if last.first().is_some_and(|row| row.bool(0)) {
        add(name, None)?;
    }
    Ok(())
}

fn add(name: &str, document: Option<&str>) -> Result<()> {
    PENDING.with(|p| p.with(|pending| *pending = true));
    spi::owner_execute(
        "INSERT INTO snapsync.schema_version (name, document, ord) \
         SELECT $1, $2::jsonb, count(*) FROM snapsync.schema_version WHERE version IS NULL",
        &[spi::arg(name), spi::arg(document)],
    )
    .map(drop)
}

/// Gives this transaction's new versions their numbers. (A deferred trigger would keep the extension from being dropped before.)
pub fn before_commit(prepared: bool) -> Result<()> {
    // The extension itself may be gone by now.
    if !PENDING.with(|p| p.with(|pending| *pending)) || pg::relation_if_created(c"schema_version")?.is_none() {
        return Ok(());
    }
    // Others' DDL waits from here on.
    talk::hush();
    // No command is under way any more that has one.
    let _snapshot = pg::ActiveSnapshot::latest();
    if spi::read_now("SELECT 1 FROM snapsync.schema_version WHERE version IS NULL LIMIT 1", &[])?.is_empty() {
        return Ok(());
    }
    if prepared {
        return Err(SyncError::new(
            code::FEATURE_NOT_SUPPORTED,
            "cannot PREPARE a transaction that has changed what clients can pull",
        )
        .detail(
            "Versions of the schema are numbered by who commits; a prepared transaction would keep all others waiting.",
        )
        .hint("Commit the DDL in a transaction of its own."));
    }
    // The first one, which is there always, is what is locked.
    spi::owner_query("SELECT FROM snapsync.schema_version WHERE version = 1 FOR UPDATE", &[])?;
    let newest = spi::read_now("SELECT max(version)::int8 FROM snapsync.schema_version", &[])?;
    spi::owner_execute(
        "UPDATE snapsync.schema_version AS v SET version = $1::int8 + n.place \
         FROM (SELECT ord, row_number() OVER (ORDER BY ord) AS place FROM snapsync.schema_version WHERE version IS NULL) AS n \
         WHERE v.version IS NULL AND v.ord = n.ord",
        &[spi::arg(newest.first().and_then(|row| row.i64(0)).unwrap_or(1))],
    )
    .map(drop)
}

/// The newest version. What this transaction has not committed yet counts as if it had.
pub fn newest() -> Result<i64> {
    let rows = spi::query_now(
        "SELECT (SELECT max(version)::int8 FROM snapsync.schema_version) \
              + (SELECT count(*) FROM snapsync.schema_version WHERE version IS NULL)",
        &[],
    )?;
    Ok(rows.first().and_then(|row| row.i64(0)).unwrap_or(1))
}

/// What this collection was in each version that changed it, from the first on; None where it was none.
pub fn of(name: &str) -> Result<Vec<(i64, Option<Document>)>> {
    let rows = spi::query_now(
        "SELECT coalesce(version::int8, (SELECT max(version)::int8 FROM snapsync.schema_version) + ord + 1), document::text \
         FROM snapsync.schema_version WHERE name = $1 ORDER BY version NULLS LAST, ord",
        &[spi::arg(name)],
    )?;
    let version = |row: &spi::Row| {
        let document = row.text(1).map(|_| row.json(1)).transpose()?;
        Ok((row.i64(0).unwrap_or_default(), document))
    };
    rows.iter().map(version).collect()
}
