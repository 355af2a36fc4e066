//! `pull_schema`: what the caller can pull of some collections, for who writes or generates an app. Of columns that he may not select, and
//! of references to what he may not, nothing is said.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde::Serialize;

use super::{may_read, names};
use crate::collections::catalog::{self, Collection};
use crate::collections::shape::versions::{self, Document, Reference};
use crate::server::error::{code, Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::{pg, spi};
use crate::values::dialect::Dialect;
use crate::values::settings;

/// The arguments of `pull_schema`.
pub struct SchemaRequest<'a> {
    pub collections: Vec<Option<String>>,
    pub dialect: Option<&'a str>,
    /// The version that the app has.
    pub schema_version: Option<i32>,
}

#[derive(Serialize)]
struct Answer<'a> {
    version: i64,
    collections: BTreeMap<&'a str, Described<'a>>,
}

#[derive(Serialize)]
struct Described<'a> {
    key: &'a [String],
    columns: Vec<DescribedColumn<'a>>,
    references: Vec<DescribedReference<'a>>,
}

#[derive(Serialize)]
struct DescribedColumn<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    type_name: &'a str,
    nullable: bool,
    readonly: bool,
}

#[derive(Serialize)]
struct DescribedReference<'a> {
    columns: &'a [String],
    collection: String,
    to: &'a [String],
}

/// As WatermelonDB's appSchema and schemaMigrations take them.
#[derive(Serialize)]
struct AppAnswer<'a> {
    version: i64,
    schema: AppSchema<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    migrations: Option<Option<Vec<AppMigration<'a>>>>,
}

#[derive(Serialize)]
struct AppSchema<'a> {
    version: i64,
    tables: Vec<AppTable<'a>>,
}

#[derive(Serialize)]
struct AppTable<'a> {
    name: &'a str,
    columns: Vec<AppColumn<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AppColumn<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_optional: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_indexed: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AppMigration<'a> {
    to_version: i64,
    steps: Vec<MigrationStep<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum MigrationStep<'a> {
    CreateTable { name: &'a str, columns: Vec<AppColumn<'a>> },
    AddColumns { table: &'a str, columns: Vec<AppColumn<'a>> },
}

/// A collection as the caller sees it.
struct VisibleCollection {
    name: String,
    document: Document,
    versions: Vec<(i64, Option<Document>)>,
}

pub fn pull_schema(request: &SchemaRequest) -> Result<String> {
    let dialect = settings::dialect(request.dialect)?;
    if request.schema_version.is_some_and(|version| version < 1) {
        return Err(SyncError::new(code::INVALID_PARAMETER, "schema_version must be at least 1")
            .hint("Pass the version that the app has, or leave it out."));
    }
    let names = names(&request.collections)?;
    // Locks the tables: what is read from now on fits together.
    let collections = names.iter().map(|n| catalog::collection(n)).gather::<Result<Vec<_>>>()?;
    let seen = names.iter().zip(&collections).map(|(name, collection)| see(name, collection));
    let seen = seen.gather::<Result<Vec<_>>>()?;
    let version = versions::newest()?;
    let written = match dialect {
        Dialect::Postgrest | Dialect::Drift => {
            let described = seen.iter().map(|seen| Ok((seen.name.as_str(), describe(&seen.document)?)));
            text_of(&Answer { version, collections: described.gather::<Result<_>>()? })
        }
        Dialect::WatermelonDb => {
            let tables = seen.iter().map(|s| AppTable { name: &s.name, columns: app_columns(&s.document, |_| true) });
            let schema = AppSchema { version, tables: tables.gather() };
            let migrations = request.schema_version.map(|from| migrations(&seen, from.into(), version));
            text_of(&AppAnswer { version, schema, migrations })
        }
    };
    written.map_err(|e| SyncError::new(code::INTERNAL, "could not write the schema").detail(e.to_string()))
}

/// As JSON. There may be thousands of collections.
fn text_of(answer: &impl Serialize) -> serde_json::Result<String> {
    struct JsonText(Vec<u8>);
    impl std::io::Write for JsonText {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            memory::append(&mut self.0, bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut text = JsonText(Vec::new());
    serde_json::to_writer(&mut text, answer)?;
    Ok(String::from_utf8(text.0).unwrap_or_default())
}

fn see(name: &str, collection: &Rc<Collection>) -> Result<VisibleCollection> {
    memory::heed();
    may_read(collection)?;
    let Some(mut document) = versions::present(collection.relation)? else {
        return Err(SyncError::new(code::UNDEFINED_TABLE, format!("collection \"{name}\" does not exist")));
    };
    document.columns.retain(|column| is_seen(collection, &column.name));
    document.references.retain(|reference| reference.columns.iter().all(|column| is_seen(collection, column)));
    Ok(VisibleCollection { name: name.to_string(), document, versions: versions::of(&collection.name)? })
}

fn is_seen(collection: &Collection, column: &str) -> bool {
    collection.column(column).is_some_and(|c| pg::may_select(collection.relation, c.attnum))
}

fn describe(document: &Document) -> Result<Described<'_>> {
    let mut references = Vec::new();
    for Reference { columns, table, to } in &document.references {
        if let Some(collection) = referenced(table, to)? {
            references.push(DescribedReference { columns, collection, to });
        }
    }
    let columns = document.columns.iter().map(|c| DescribedColumn {
        name: &c.name,
        type_name: &c.type_name,
        nullable: c.nullable,
        readonly: c.readonly,
    });
    let columns = columns.gather();
    Ok(Described { key: &document.key, columns, references })
}

/// The collection that this table is, if it is one, and the caller sees these columns of it.
fn referenced(table: &str, columns: &[String]) -> Result<Option<String>> {
    let rows = spi::query_now(
        "SELECT relation::oid FROM snapsync.collection WHERE relation = to_regclass($1) AND name IS NOT NULL",
        &[spi::arg(table)],
    )?;
    let Some(relation) = rows.first().map(|row| row.oid(0)).filter(|r| pg::barred(*r).is_none()) else {
        return Ok(None);
    };
    let Some(collection) = catalog::tracked(relation)? else { return Ok(None) };
    Ok(columns.iter().all(|column| is_seen(&collection, column)).then(|| collection.name.clone()))
}

/// What WatermelonDB keeps of a row besides its id, of those columns that are wanted.
fn app_columns(document: &Document, wanted: impl Fn(&str) -> bool) -> Vec<AppColumn<'_>> {
    let by_key = |name: &str| document.references.iter().any(|r| r.columns.len() == 1 && r.columns[0] == name);
    let columns = document.columns.iter().filter(|c| c.name != "id" && wanted(&c.name));
    let columns = columns.map(|c| AppColumn {
        name: &c.name,
        kind: &c.watermelondb,
        is_optional: c.nullable,
        is_indexed: by_key(&c.name),
    });
    columns.gather()
}

/// A migration for each version after `from`. None where no steps lead from there to what the collections are now: WatermelonDB can make
/// tables and columns, and none twice; it changes and drops none.
fn migrations(seen: &[VisibleCollection], from: i64, to: i64) -> Option<Vec<AppMigration<'_>>> {
    if from > to {
        return None;
    }
    let mut steps: BTreeMap<i64, Vec<MigrationStep>> = BTreeMap::new();
    for collection in seen {
        for (version, step) in steps_of(collection, from)? {
            steps.entry(version).or_default().push(step);
        }
    }
    // It wants them without gaps.
    let migration = |version| AppMigration { to_version: version, steps: steps.remove(&version).unwrap_or_default() };
    Some((from + 1..=to).map(migration).gather())
}

/// Those of one collection.
fn steps_of(collection: &VisibleCollection, from: i64) -> Option<Vec<(i64, MigrationStep<'_>)>> {
    let wanted: BTreeSet<&str> = collection.document.columns.iter().map(|c| c.name.as_str()).gather();
    let (before, after): (Vec<_>, Vec<_>) = collection.versions.iter().gather_parts(|(version, _)| *version <= from);
    // All columns that a device may have, from any version on.
    let mut known: Option<BTreeSet<&str>> = None;
    let mut present: Option<&Document> = None;
    let mut steps = Vec::new();
    for (version, document) in before.iter().chain(&after).map(|(version, document)| (*version, document.as_ref())) {
        let Some(document) = document else {
            present = None;
            continue;
        };
        let columns: BTreeSet<&str> = document.columns.iter().map(|c| c.name.as_str()).gather();
        if version > from {
            match present {
                // A table that was away: some devices have it, and others have not.
                None if known.is_some() => return None,
                None => {
                    let columns = app_columns(document, |name| wanted.contains(name));
                    steps.push((version, MigrationStep::CreateTable { name: &collection.name, columns }));
                }
                Some(last) => {
                    let kept_as = |d: &Document, name: &str| d.column(name).map(|c| c.watermelondb.clone());
                    let differs = |name: &&str| {
                        let was = kept_as(last, name);
                        was.is_some() && was != kept_as(document, name)
                    };
                    let is_new = |name: &str| wanted.contains(name) && last.column(name).is_none();
                    // As another type, or once more.
                    let known = known.as_ref();
                    let cannot =
                        |name: &&str| differs(name) || is_new(name) && known.is_some_and(|k| k.contains(*name));
                    if last.key != document.key || columns.iter().filter(|c| wanted.contains(*c)).any(cannot) {
                        return None;
                    }
                    let columns = app_columns(document, is_new);
                    if !columns.is_empty() {
                        steps.push((version, MigrationStep::AddColumns { table: &collection.name, columns }));
                    }
                }
            }
        }
        memory::extend(known.get_or_insert_default(), columns);
        present = Some(document);
    }
    Some(steps)
}
