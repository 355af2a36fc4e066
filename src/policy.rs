//! Which old rows the caller could see: row-level security applied to images.
//!
//! A row that is gone cannot be selected any more, so its logged image (the old values of all columns that the policies
//! read) is put where the row would be: the table's SELECT policies, deparsed by Postgres, run as the caller over
//! `jsonb_to_record(image) AS todos(...)`. The alias carries the table's name, so the policies' own column references and
//! correlated subqueries resolve. Rows of other tables that are gone too are put back by common table expressions of those
//! tables' names.

use std::rc::Rc;

use pgrx::pg_sys;

use crate::catalog::{Collection, Column};
use crate::error::Result;
use crate::{pg, spi};

/// Deleted rows of a table that policies read, to be seen again while old rows are judged.
pub struct Shadow {
    pub table: Rc<Collection>,
    /// Only those that the caller could see.
    pub images: Vec<pg_sys::Datum>,
}

/// What is asked of old rows.
#[derive(Clone, Copy)]
pub enum Rows<'a> {
    /// Could the caller select them? So another table's policies see them: to those a soft-deleted row is a row as any.
    Selected,
    /// Could they be on a client of his: were they in these scopes (None: whichever) and not soft-deleted, besides?
    Synced(Option<&'a [String]>),
}

/// For each image: is that true of the row, under the policies as they are now? None when a shadowed table cannot be named
/// without its schema.
pub fn visible(
    collection: &Collection,
    images: &[pg_sys::Datum],
    rows: Rows,
    shadows: &[Shadow],
) -> Result<Option<Vec<bool>>> {
    // Images have no system columns.
    if collection.traits.system_column && pg::rls_active(collection.relation) {
        return Ok(None);
    }
    under_safe_path(collection.relation, shadows, collection.traits.bare_operator, || {
        for shadow in shadows {
            if !is_visible(shadow.table.relation)? {
                return Ok(None);
            }
        }
        let mut conditions = Vec::new();
        if pg::rls_active(collection.relation) {
            match filter(collection.relation)? {
                Filter::Nothing => return Ok(Some(vec![false; images.len()])),
                Filter::Where(condition) => conditions.push(condition),
            }
        }
        let alias = pg::ident(&collection.relname);
        let mut args = vec![spi::jsonb_array(images)];
        if let Rows::Synced(scopes) = rows {
            if let (Some(scope), Some(scopes)) = (&collection.scope, scopes) {
                args.push(spi::arg(scopes.to_vec()));
                conditions.push(in_scopes(&alias, scope, args.len()));
            }
            if let Some(column) = &collection.soft_delete {
                conditions.push(not_deleted(&alias, column));
            }
        }
        if conditions.is_empty() {
            return Ok(Some(vec![true; images.len()]));
        }
        test(collection, images.len(), &conditions.join(" AND "), args, shadows).map(Some)
    })
}

/// For each image: does the row satisfy the predicate, for the caller?
pub fn matching(collection: &Collection, images: &[pg_sys::Datum], predicate: &str) -> Result<Vec<bool>> {
    under_safe_path(collection.relation, &[], true, || {
        test(collection, images.len(), &format!("({predicate})"), vec![spi::jsonb_array(images)], &[])
    })
}

/// `todos.org_id = ANY ($n)`.
pub fn in_scopes(alias: &str, scope: &Column, parameter: usize) -> String {
    format!("{alias}.{} OPERATOR(pg_catalog.=) ANY (${parameter}::{}[])", scope.ident, scope.facts.base_type_name())
}

/// The row is not soft-deleted: the flag is not true, or the time is null.
pub fn not_deleted(alias: &str, column: &Column) -> String {
    let unset = if column.facts.base == pg_sys::BOOLOID { "IS NOT TRUE" } else { "IS NULL" };
    format!("{alias}.{} {unset}", column.ident)
}

fn test(
    collection: &Collection,
    count: usize,
    condition: &str,
    mut args: Vec<spi::Arg>,
    shadows: &[Shadow],
) -> Result<Vec<bool>> {
    let mut ctes = Vec::new();
    for shadow in shadows {
        args.push(spi::jsonb_array(&shadow.images));
        let table = &shadow.table;
        // What the caller may not read, the policies that he runs do not read either.
        let readable = table.image.iter().filter(|c| pg::may_select(table.relation, c.attnum));
        let columns: Vec<String> = readable.map(|c| c.ident.clone()).collect();
        ctes.push(format!(
            "{} AS (SELECT {columns} FROM {} UNION ALL SELECT {records} FROM pg_catalog.unnest(${}) AS i(image) \
             CROSS JOIN LATERAL {})",
            pg::ident(&table.relname),
            table.from,
            args.len(),
            record("i.image", "r", &table.image),
            columns = columns.join(", "),
            records = columns.iter().map(|c| format!("r.{c}")).collect::<Vec<_>>().join(", "),
        ));
    }
    let with = if ctes.is_empty() { String::new() } else { format!("WITH {} ", ctes.join(", ")) };
    let row = if collection.image.is_empty() {
        String::new()
    } else {
        let alias = pg::ident(&collection.relname);
        format!(" CROSS JOIN LATERAL {}", row_of(collection, "\"snapsync i\".\"snapsync image\"", &alias))
    };
    let sql = format!(
        "{with}SELECT \"snapsync i\".\"snapsync n\" \
         FROM ROWS FROM (pg_catalog.unnest($1)) WITH ORDINALITY AS \"snapsync i\"(\"snapsync image\", \"snapsync n\"){row} \
         WHERE {condition}"
    );
    let mut seen = vec![false; count];
    for found in spi::query(&sql, &args, spi::Mode::Read)? {
        if let Some(n) = found.i64(0).and_then(|n| usize::try_from(n - 1).ok()) {
            seen[n] = true;
        }
    }
    Ok(seen)
}

/// The image as a row under the table's name; with the table's own type where its policies read the row as a whole (not
/// otherwise: naming the type needs a right on its schema, which a policy's caller may lack).
fn row_of(collection: &Collection, image: &str, alias: &str) -> String {
    if collection.traits.whole_row {
        format!("pg_catalog.jsonb_populate_record(NULL::{}, {image}) AS {alias}", collection.table)
    } else {
        record(image, alias, &collection.image)
    }
}

/// `jsonb_to_record(image) AS alias(column type, ...)`.
fn record(image: &str, alias: &str, columns: &[Column]) -> String {
    let columns: Vec<String> = columns.iter().map(|c| format!("{} {}", c.ident, c.base_type_name)).collect();
    format!("pg_catalog.jsonb_to_record({image}) AS {alias}({})", columns.join(", "))
}

/// What the policies let the caller see.
#[derive(Debug, PartialEq)]
enum Filter {
    Nothing,
    /// An SQL condition over the table's columns.
    Where(String),
}

/// The table's SELECT policies for the calling role: permissive ones OR-ed, restrictive ones AND-ed (rowsecurity.c).
fn filter(relation: pg_sys::Oid) -> Result<Filter> {
    let policies = spi::query(
        "SELECT p.polpermissive, pg_catalog.pg_get_expr(p.polqual, p.polrelid) \
         FROM pg_catalog.pg_policy AS p \
         WHERE p.polrelid OPERATOR(pg_catalog.=) $1 \
           AND p.polcmd OPERATOR(pg_catalog.=) ANY ('{*,r}'::\"char\"[]) \
           AND EXISTS (SELECT FROM pg_catalog.unnest(p.polroles) AS r(role) \
                       WHERE r.role OPERATOR(pg_catalog.=) 0::pg_catalog.oid OR pg_catalog.pg_has_role(r.role, 'USAGE')) \
         ORDER BY p.polname",
        &[spi::arg(relation)],
        spi::Mode::Read,
    )?;
    let conditions = |permissive: bool| -> Vec<String> {
        policies
            .iter()
            .filter(|p| p.bool(0) == permissive)
            .filter_map(|p| p.text(1).map(|c| format!("({c})")))
            .collect()
    };
    let (permissive, mut all) = (conditions(true), conditions(false));
    if permissive.is_empty() {
        return Ok(Filter::Nothing);
    }
    all.push(format!("({})", permissive.join(" OR ")));
    Ok(Filter::Where(all.join(" AND ")))
}

fn is_visible(relation: pg_sys::Oid) -> Result<bool> {
    let rows = spi::query("SELECT pg_catalog.pg_table_is_visible($1)", &[spi::arg(relation)], spi::Mode::Read)?;
    Ok(rows.first().is_some_and(|r| r.bool(0)))
}

/// Runs `work` under a search path in which the policies' text means what their author meant. The text is deparsed under the
/// very path that it is parsed under, so that every name resolves to the same object whatever the caller put into his path;
/// then the caller's own path serves, and functions in the policies find what they always find. With `bare_operators` the
/// policies have constructs whose operator cannot be named with its schema (CASE x WHEN, IS DISTINCT FROM, ...): then only
/// schemas are searched in which nobody but superusers, the database's owner and the table's can create objects, or the caller
/// could slip in an `=` of his own, or of a friend's, that sees the values. The schemas of shadowed tables come last, so that
/// these are named without schema and resolve to the common table expressions.
fn under_safe_path<R>(
    relation: pg_sys::Oid,
    shadows: &[Shadow],
    bare_operators: bool,
    work: impl FnOnce() -> Result<R>,
) -> Result<R> {
    let rows = spi::query(
        "WITH searched AS MATERIALIZED ( \
            SELECT n.oid, n.nspname FROM pg_catalog.pg_namespace AS n WHERE NOT $2 OR NOT EXISTS ( \
                SELECT FROM (SELECT n.nspowner UNION ALL \
                             SELECT a.grantee FROM pg_catalog.aclexplode(n.nspacl) AS a \
                              WHERE a.privilege_type OPERATOR(pg_catalog.=) 'CREATE') AS c(creator) \
                 WHERE NOT EXISTS ( \
                    SELECT FROM pg_catalog.pg_roles AS r WHERE r.oid OPERATOR(pg_catalog.=) c.creator AND (r.rolsuper \
                        OR r.rolname OPERATOR(pg_catalog.=) 'pg_database_owner' \
                        OR r.oid OPERATOR(pg_catalog.=) (SELECT d.datdba FROM pg_catalog.pg_database AS d \
                                                          WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()) \
                        OR r.oid OPERATOR(pg_catalog.=) (SELECT t.relowner FROM pg_catalog.pg_class AS t \
                                                          WHERE t.oid OPERATOR(pg_catalog.=) $3))))) \
         SELECT pg_catalog.to_json(ARRAY(SELECT s.n FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) WITH ORDINALITY AS s(n, i) \
                                          WHERE EXISTS (SELECT FROM searched AS x WHERE x.nspname OPERATOR(pg_catalog.=) s.n) ORDER BY s.i)), \
                pg_catalog.to_json(ARRAY(SELECT DISTINCT n.nspname FROM pg_catalog.pg_class AS c JOIN searched AS n \
                                         ON n.oid OPERATOR(pg_catalog.=) c.relnamespace WHERE c.oid OPERATOR(pg_catalog.=) ANY ($1))), \
                pg_catalog.to_json(pg_catalog.current_schemas(false))",
        &[
            spi::arg(shadows.iter().map(|s| s.table.relation).collect::<Vec<_>>()),
            spi::arg(bare_operators),
            spi::arg(relation),
        ],
        spi::Mode::Read,
    )?;
    let list = |column: usize| rows.first().and_then(|r| r.list(column)).unwrap_or_default();
    let (schemas, extra, callers) = (list(0), list(1), list(2));
    let pg_catalog_first = schemas.iter().skip(1).all(|s| s != "pg_catalog");
    if schemas == callers && pg_catalog_first && extra.iter().all(|s| schemas.contains(s)) {
        return work();
    }
    let mut path: Vec<String> = vec!["pg_catalog".into()];
    for schema in schemas.iter().chain(&extra) {
        if !path.contains(&pg::ident(schema)) {
            path.push(pg::ident(schema));
        }
    }
    spi::with_search_path(&path.join(", "), work)
}
