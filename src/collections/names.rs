//! What clients call a collection.
//!
//! A collection has a name, and a second one with its schema (`public.todos`), by which clients may ask for it as well. Names with
//! a schema belong to the table that is called so, bare names of tables in `public` to those tables: nobody gets pushes that were
//! meant for somebody else's. Both names stay with the collection when the table is renamed, because devices go on using them;
//! and no name that is in use ever passes to another table by itself. So a bare name that somebody was quicker to take does not
//! keep a table in `public` from being synced: it has the one with its schema.

use pgrx::pg_sys;

use crate::collections::registry::{self, StoredSettings};
use crate::server::error::{code, Result, SyncError};
use crate::server::{pg, spi};

/// In bytes; a table's own name is shorter: two identifiers of 63, one of them with all its quotes doubled.
const LONGEST: usize = 255;

/// The two names of a collection.
#[derive(Debug, PartialEq)]
pub struct Names {
    pub name: String,
    /// The one with the schema; None where a renamed table still has it.
    qualified: Option<String>,
}

/// The table's own name with its schema, for clients. Schemas with a dot or a quote are quoted, or `"a.b".c` and `a."b.c"` would
/// be one name.
fn own(schema: &str, table: &str) -> String {
    if schema.contains(['.', '"']) {
        format!("\"{}\".{table}", schema.replace('"', "\"\""))
    } else {
        format!("{schema}.{table}")
    }
}

fn is_bare(name: &str) -> bool {
    !name.contains('.')
}

/// The names that `enable` gives: what it is asked for, else what the table has, else its own.
pub fn decide(relation: pg_sys::Oid, asked: Option<&str>, old: Option<&StoredSettings>) -> Result<Names> {
    let rows = spi::read_now(
        "SELECT n.nspname, r.relname, (SELECT c.qualified_name FROM snapsync.collection AS c WHERE c.relation = r.oid) \
         FROM pg_class AS r JOIN pg_namespace AS n ON n.oid = r.relnamespace WHERE r.oid = $1",
        &[spi::arg(relation)],
    )?;
    let Some(row) = rows.first() else {
        return Err(SyncError::new(code::UNDEFINED_TABLE, "the table has vanished").hint("Name a table that exists."));
    };
    let has = old.and_then(|o| o.name.as_deref());
    if let Some(name) = has.filter(|name| asked.is_none_or(|asked| asked == *name)) {
        return Ok(Names { name: name.to_string(), qualified: row.text(2).map(str::to_string) });
    }
    let (schema, table) = (row.string(0), row.string(1));
    let own = own(&schema, &table);
    let qualified = taken(&own, relation)?.is_none().then(|| own.clone());
    if let Some(name) = asked {
        check(name, &own, relation)?;
        return Ok(Names { name: name.to_string(), qualified });
    }
    if schema == "public" && is_bare(&table) {
        match taken(&table, relation)? {
            None => return Ok(Names { name: table, qualified }),
            // Who has both names is this table under its former name: `check` says so.
            Some(other) if qualified.is_some() => pgrx::warning!(
                "table \"{table}\" is synced as \"{own}\", because clients know table {other} as \"{table}\""
            ),
            Some(_) => {}
        }
    }
    check(&own, &own, relation)?;
    Ok(Names { name: own, qualified })
}

/// May the table be called so?
fn check(name: &str, own: &str, relation: pg_sys::Oid) -> Result<()> {
    if name.is_empty() {
        return Err(SyncError::new(code::INVALID_PARAMETER, "the collection's name must not be empty")
            .hint("Leave the name out to use the table's own."));
    }
    if name.len() > LONGEST {
        return Err(SyncError::new(code::INVALID_PARAMETER, "the collection's name is too long")
            .detail(format!("It has {} bytes, {LONGEST} at most.", name.len()))
            .hint("Give it a shorter one."));
    }
    if !is_bare(name) && name != own {
        return Err(SyncError::new(code::INVALID_PARAMETER, format!("the name \"{name}\" belongs to another table"))
            .detail("A name with a dot in it is that of the table which is called so.")
            .hint(format!("Leave the name out, which gives \"{own}\", or give one without a dot.")));
    }
    if let Some(other) = taken(name, relation)? {
        return Err(SyncError::new(code::DUPLICATE_OBJECT, format!("collection \"{name}\" already exists"))
            .detail(format!("It is table {other}."))
            .hint("Give this one another name, or first that one: enable(..., name => '...')."));
    }
    if is_bare(name) && is_anothers(name, relation)? {
        return Err(SyncError::new(
            code::INSUFFICIENT_PRIVILEGE,
            format!("the name \"{name}\" belongs to table \"{name}\" of schema public"),
        )
        .detail("Clients that ask for it mean that table, which has another owner.")
        .hint(format!("Leave the name out, which gives \"{own}\", or give another one.")));
    }
    Ok(())
}

/// The other table that clients know by this name.
fn taken(name: &str, relation: pg_sys::Oid) -> Result<Option<String>> {
    let rows = spi::read_now(
        "SELECT relation::text FROM snapsync.collection WHERE (name = $1 OR qualified_name = $1) AND relation <> $2",
        &[spi::arg(name), spi::arg(relation)],
    )?;
    Ok(rows.first().map(|r| r.string(0)))
}

/// Is there another table of this name in `public`, synced or not, that the caller does not own? (A text that is longer than a name is none's.)
fn is_anothers(name: &str, relation: pg_sys::Oid) -> Result<bool> {
    let rows = spi::read_now(
        "SELECT 1 FROM pg_class AS r JOIN pg_namespace AS n ON n.oid = r.relnamespace \
          WHERE n.nspname = 'public' AND r.relname = $1::name AND r.relname::text = $1 AND r.oid <> $2 AND r.relkind IN ('r', 'p', 'v', 'm', 'f') \
            AND NOT pg_has_role($3, r.relowner, 'USAGE')",
        &[spi::arg(name), spi::arg(relation), spi::arg(pg::current_user())],
    )?;
    Ok(!rows.is_empty())
}

/// Stores the second name; the first is among the settings.
pub fn remember(relation: pg_sys::Oid, names: &Names) -> Result<()> {
    spi::owner_execute(
        "UPDATE snapsync.collection SET qualified_name = $2 WHERE relation = $1 AND qualified_name IS DISTINCT FROM $2",
        &[spi::arg(relation), spi::arg(names.qualified.as_deref())],
    )?;
    registry::changed(relation);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_tables_have_one_name() {
        let parts = ["a", "b", "a.b", "b.c", "\"a", "b\".c", "\"a.b\"", ".", "\"", "\"\"", "a\".b"];
        let mut seen = std::collections::HashMap::new();
        for schema in parts {
            for table in parts {
                let before = seen.insert(own(schema, table), (schema, table));
                assert_eq!(before, None, "{schema:?} {table:?}");
            }
        }
        assert_eq!(own("app", "todos"), "app.todos");
        assert_eq!(own("app", "to.dos"), "app.to.dos");
    }

    #[test]
    fn a_name_with_a_schema_is_never_bare() {
        assert!(!is_bare(&own("public", "todos")));
        assert!(!is_bare(&own("a.b", "todos")));
        assert!(is_bare("todos"));
    }
}
