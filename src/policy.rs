//! Which old rows the caller could see: row-level security applied to images.
//!
//! A row that is gone cannot be selected any more, so its logged image (the old values of all columns that the policies
//! read) is put where the row would be: the table's SELECT policies, deparsed by Postgres, run as the caller over
//! `jsonb_to_record(image) AS todos(...)`. The alias carries the table's name, so the policies' own column references and
//! correlated subqueries resolve. Rows of other tables that are gone too are put back by common table expressions of those
//! tables' names.
//!
//! What cannot be judged so (None) is nobody's error: the client takes the collection anew.

use std::cell::Cell;
use std::rc::Rc;

use pgrx::pg_sys;

use crate::catalog::{self, Collection, Column};
use crate::error::{Result, SyncError};
use crate::judge::Statement;
use crate::{pg, spi, subxact};

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

/// For each image: is that true of the row, under the policies as they are now? None when that cannot be told.
pub fn visible(
    collection: &Collection,
    images: &[pg_sys::Datum],
    rows: Rows,
    shadows: &[Shadow],
) -> Result<Option<Vec<bool>>> {
    let secured = pg::rls_active(collection.relation);
    if collection.traits.unlogged_column && secured {
        return Ok(None);
    }
    let alias = pg::ident(&collection.relname);
    let mut args = vec![spi::jsonb_array(images)];
    let mut conditions = Vec::new();
    if let Rows::Synced(scopes) = rows {
        if let (Some(scope), Some(scopes)) = (&collection.scope, scopes) {
            args.push(spi::arg(scopes.to_vec()));
            conditions.push(in_scopes(&alias, scope, args.len()));
        }
        if let Some(column) = &collection.soft_delete {
            conditions.push(not_deleted(&alias, column));
        }
    }
    if !secured && conditions.is_empty() {
        return Ok(Some(vec![true; images.len()]));
    }
    let names = Names::safe(collection.relation, shadows, collection.traits.bare_operator)?;
    if secured {
        match names.filter(shadows)? {
            None => return Ok(None),
            Some(Filter::Nothing) => return Ok(Some(vec![false; images.len()])),
            Some(Filter::Where(condition)) => conditions.push(condition),
        }
    }
    test(collection, images.len(), &conditions.join(" AND "), args, shadows, &names)
}

/// For each image: does the row satisfy the predicate, for the caller? None when that cannot be told. The predicate is of the policies
/// of `reader`, or of what its owner declared.
pub fn matching(
    collection: &Collection,
    images: &[pg_sys::Datum],
    predicate: &str,
    reader: pg_sys::Oid,
) -> Result<Option<Vec<bool>>> {
    let names = Names::safe(reader, &[], true)?;
    test(collection, images.len(), &format!("({predicate})"), vec![spi::jsonb_array(images)], &[], &names)
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

/// Up to so many images are judged one by one, looking up what a policy reads for each. For more a plan may read that once: all
/// parents that the caller sees, say (20,000 for ten images: 10 ms instead of 1).
const JUDGED_ONE_BY_ONE: usize = 100;

fn test(
    collection: &Collection,
    count: usize,
    condition: &str,
    mut args: Vec<spi::Arg>,
    shadows: &[Shadow],
    names: &Names,
) -> Result<Option<Vec<bool>>> {
    let mut ctes = Vec::new();
    for shadow in shadows {
        args.push(spi::jsonb_array(&shadow.images));
        let table = &shadow.table;
        // What the caller may not read, the policies that he runs do not read either.
        let readable = table.image.iter().filter(|c| pg::may_select(table.relation, c.attnum));
        let columns: Vec<String> = readable.map(|c| c.ident.clone()).collect();
        // Looked into by its keys also if policies name it twice: made once, it is the whole table (1M rows: 270 ms instead of 0.3).
        ctes.push(format!(
            "{} AS NOT MATERIALIZED (SELECT {columns} FROM {} UNION ALL SELECT {records} FROM pg_catalog.unnest(${}) AS i(image) \
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
    let row = (!collection.image.is_empty()).then(|| {
        let alias = pg::ident(&collection.relname);
        row_of(collection, "\"snapsync i\".\"snapsync image\"", &alias)
    });
    let images =
        "ROWS FROM (pg_catalog.unnest($1)) WITH ORDINALITY AS \"snapsync i\"(\"snapsync image\", \"snapsync n\")";
    let of_these = if count <= JUDGED_ONE_BY_ONE {
        let row = row.map_or(String::new(), |row| format!("FROM {row} "));
        format!("{images} CROSS JOIN LATERAL (SELECT {row}WHERE {condition} OFFSET 0) AS \"snapsync w\"")
    } else {
        let row = row.map_or(String::new(), |row| format!(" CROSS JOIN LATERAL {row}"));
        format!("{images}{row} WHERE {condition}")
    };
    let sql = format!("{with}SELECT \"snapsync i\".\"snapsync n\" FROM {of_these}");
    let analyzed = Cell::new(false);
    let outcome = subxact::run(|| {
        let statement = names.looked_up(|| Statement::analyze(&sql, &args))?;
        analyzed.set(true);
        // Its common table expression names a shadowed table once. Named elsewhere, with its schema because a policy has a common
        // table expression of that name itself, the table is without the rows that are gone.
        if shadows.iter().any(|s| statement.mentions(s.table.relation) > 1) {
            return Ok(None);
        }
        statement.run().map(Some)
    });
    let found = match outcome {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(None),
        Err(e) if cannot_be_told(&e, analyzed.get()) => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut seen = vec![false; count];
    for n in found.iter().flatten().filter_map(|n| n.parse::<usize>().ok()) {
        seen[n - 1] = true;
    }
    Ok(Some(seen))
}

/// Is the error one of images, and not of the policies, whose errors a SELECT of the caller's has as well? Before the statement
/// is analyzed: a name that the table's owner may not look up, or that images do not have (a system column). Afterwards: a value
/// that does not read back, as its type was changed or what it names is gone.
fn cannot_be_told(e: &SyncError, analyzed: bool) -> bool {
    match e.code.get(..2).unwrap_or("") {
        "22" | "23" | "3F" => true,
        "42" => !analyzed || matches!(&*e.code, "42704" | "42P01" | "42883"),
        _ => false,
    }
}

/// The image as a row under the table's name; of the table's own type where its policies read the row as a whole.
fn row_of(collection: &Collection, image: &str, alias: &str) -> String {
    if !collection.traits.whole_row {
        return record(image, alias, &collection.image);
    }
    let logged = |c: &Column| collection.image.iter().any(|i| i.attnum == c.attnum);
    let all = catalog::columns(collection.relation);
    let fields: Vec<String> =
        all.iter().map(|c| if logged(c) { format!("r.{}", c.ident) } else { "NULL".into() }).collect();
    // A function's result, because a subquery's row is of no type. Without fields to populate it is its argument.
    format!(
        "pg_catalog.jsonb_populate_record((SELECT ROW({})::{} FROM {}), '{{}}'::pg_catalog.jsonb) AS {alias}",
        fields.join(", "),
        collection.table,
        record(image, "r", &collection.image)
    )
}

/// `jsonb_to_record(image) AS alias(column type, ...)`; JSON is logged as its text (track.rs).
fn record(image: &str, alias: &str, columns: &[Column]) -> String {
    let is_json = |c: &Column| matches!(c.facts.base, pg_sys::JSONOID | pg_sys::JSONBOID);
    let definition = |c: &Column| {
        let type_name = if is_json(c) { "pg_catalog.text" } else { &c.base_type_name };
        let collation = c.collation.as_ref().map_or(String::new(), |name| format!(" COLLATE {name}"));
        format!("{} {type_name}{collation}", c.ident)
    };
    let definitions: Vec<String> = columns.iter().map(definition).collect();
    let function = |alias| format!("pg_catalog.jsonb_to_record({image}) AS {alias}({})", definitions.join(", "));
    if !columns.iter().any(is_json) {
        return function(alias);
    }
    let field = |c: &Column| {
        let cast = if is_json(c) { format!("::{}", c.base_type_name) } else { String::new() };
        format!("r.{ident}{cast} AS {ident}", ident = c.ident)
    };
    let fields: Vec<String> = columns.iter().map(field).collect();
    format!("(SELECT {} FROM {}) AS {alias}", fields.join(", "), function("r"))
}

/// What the policies let the caller see.
#[derive(Debug, PartialEq)]
enum Filter {
    Nothing,
    /// An SQL condition over the table's columns.
    Where(String),
}

/// How the names in policies' texts are looked up: as the owner of the policies' table, because running a stored policy requires no
/// rights on the schemas that it names, and under a search path in which the text means what its author meant. Literals are
/// read as that owner, too, who must be the text's author, and nobody with more rights.
///
/// The text is deparsed by the very role and under the very path that it is parsed with, so that every name resolves to the same
/// object whatever the caller put into his path. It then runs as the caller and under the caller's own path: functions in the
/// policies find what they always find.
struct Names {
    relation: pg_sys::Oid,
    path: String,
}

impl Names {
    /// With `bare_operators` the policies have constructs whose operator cannot be named with its schema (CASE x WHEN, IS DISTINCT
    /// FROM, ...): then only schemas are searched in which nobody but superusers, the database's owner and the table's can
    /// create objects, or the caller could slip in an `=` of his own, or of a friend's, that sees the values. The schemas of
    /// shadowed tables come last, so that these are named without schema and resolve to the common table expressions.
    fn safe(relation: pg_sys::Oid, shadows: &[Shadow], bare_operators: bool) -> Result<Self> {
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
                                             ON n.oid OPERATOR(pg_catalog.=) c.relnamespace WHERE c.oid OPERATOR(pg_catalog.=) ANY ($1)))",
            &[
                spi::arg(shadows.iter().map(|s| s.table.relation).collect::<Vec<_>>()),
                spi::arg(bare_operators),
                spi::arg(relation),
            ],
            spi::Mode::Read,
        )?;
        let list = |column: usize| rows.first().and_then(|r| r.list(column)).unwrap_or_default();
        let mut path: Vec<String> = vec!["pg_catalog".into()];
        for schema in list(0).iter().chain(&list(1)) {
            if !path.contains(&pg::ident(schema)) {
                path.push(pg::ident(schema));
            }
        }
        // Last, for it would be first otherwise: nothing in a policy is temporary.
        path.push("pg_temp".into());
        Ok(Names { relation, path: path.join(", ") })
    }

    fn looked_up<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<R> {
        spi::as_table_owner(self.relation, || spi::with_search_path(&self.path, work))
    }

    /// The table's SELECT policies for the calling role: permissive ones OR-ed, restrictive ones AND-ed (rowsecurity.c). None when
    /// a shadowed table cannot be named without its schema.
    fn filter(&self, shadows: &[Shadow]) -> Result<Option<Filter>> {
        let caller = pg::current_user();
        self.looked_up(|| {
            for shadow in shadows {
                if !is_visible(shadow.table.relation)? {
                    return Ok(None);
                }
            }
            filter(self.relation, caller).map(Some)
        })
    }
}

fn filter(relation: pg_sys::Oid, caller: pg_sys::Oid) -> Result<Filter> {
    let policies = spi::query(
        "SELECT p.polpermissive, pg_catalog.pg_get_expr(p.polqual, p.polrelid) \
         FROM pg_catalog.pg_policy AS p \
         WHERE p.polrelid OPERATOR(pg_catalog.=) $1 \
           AND p.polcmd OPERATOR(pg_catalog.=) ANY ('{*,r}'::\"char\"[]) \
           AND EXISTS (SELECT FROM pg_catalog.unnest(p.polroles) AS r(role) \
                       WHERE r.role OPERATOR(pg_catalog.=) 0::pg_catalog.oid OR pg_catalog.pg_has_role($2, r.role, 'USAGE')) \
         ORDER BY p.polname",
        &[spi::arg(relation), spi::arg(caller)],
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
