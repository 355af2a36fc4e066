//! Access tables that an owner has named, because functions hide them: names and predicates are texts, which PostgreSQL does not
//! keep right when what they name is renamed.

use pgrx::pg_sys;

use crate::server::error::Result;
use crate::server::spi;

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
