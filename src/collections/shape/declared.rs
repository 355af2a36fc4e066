//! Access tables that an owner has named, because functions hide them: names and predicates are texts, which PostgreSQL does not
//! keep right when what they name is renamed.

use pgrx::pg_sys;

use crate::policies::access::{self, Found};
use crate::policies::owned::{self, Purpose};
use crate::server::error::Result;
use crate::server::{spi, subxact};

/// A declared table is known by its number in the shape. One that has another name now is declared under that one as well, and
/// stays declared under the old: which of the two a function reads that names it in a string, nobody knows, and another table
/// may take its place there (a new version of it that was filled aside). `doctor` tells of names that name nothing.
pub fn follow_names(relation: pg_sys::Oid) -> Result<bool> {
    let sql = format!(
        "UPDATE snapsync.collection AS c SET access_tables = c.access_tables || renamed.now \
         FROM (SELECT c.relation, jsonb_object_agg(format('%I.%I', n.nspname, r.relname), c.access_tables -> d.key) AS now \
               FROM snapsync.collection AS c \
               CROSS JOIN LATERAL jsonb_each_text(coalesce(nullif(c.shape -> 'declared', 'null'), '{{}}')) AS d \
               JOIN pg_class AS r ON r.oid = d.value::oid JOIN pg_namespace AS n ON n.oid = r.relnamespace \
               WHERE c.relation = $1 AND c.shape ->> 'identity' = {} AND c.access_tables ? d.key \
                 AND NOT c.access_tables ? format('%I.%I', n.nspname, r.relname) \
               GROUP BY c.relation) AS renamed \
         WHERE renamed.relation = c.relation",
        super::definition::IDENTITY
    );
    Ok(spi::owner_execute(&sql, &[spi::arg(relation)])? > 0)
}

/// The functions that the predicate calls, which the owner of `reader` gave. None if it cannot be read any more, because a column or
/// function that it names is gone: then every row concerns everybody.
pub fn functions_in(reader: pg_sys::Oid, found: &Found) -> Result<Option<Vec<pg_sys::Oid>>> {
    let Some(predicate) = found.predicate.as_deref().filter(|p| *p != "true") else { return Ok(Some(Vec::new())) };
    let read = || {
        let statement = owned::read(reader, &Purpose::Rows(found.access), predicate)?;
        // SAFETY: the tree of an analyzed query.
        let mut called = unsafe { access::depends::functions_called(statement.tree().cast()) };
        called.sort_unstable();
        called.dedup();
        Ok(called.into_iter().map(pg_sys::Oid::from).collect())
    };
    match subxact::run(read) {
        Err(e) if subxact::is_transient(&e) => Err(e),
        parsed => Ok(parsed.ok()),
    }
}
