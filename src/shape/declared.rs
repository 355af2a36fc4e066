//! Access tables that an owner has named, because functions hide them: names and predicates are texts, which PostgreSQL does not
//! keep right when what they name is renamed.

use pgrx::pg_sys;

use crate::access::Found;
use crate::error::Result;
use crate::owned::{self, Purpose};
use crate::registry::owner_execute;

/// A declared table is known by its number in the shape. One that has another name now is declared under that one as well, and
/// stays declared under the old: which of the two a function reads that names it in a string, nobody knows, and another table
/// may take its place there (a new version of it that was filled aside). `doctor` tells of names that name nothing.
pub fn follow_names() -> Result<()> {
    let sql = format!(
        "UPDATE snapsync.collection AS c SET access_tables = c.access_tables || renamed.now \
         FROM (SELECT c.relation, jsonb_object_agg(format('%I.%I', n.nspname, r.relname), c.access_tables -> d.key) AS now \
               FROM snapsync.collection AS c \
               CROSS JOIN LATERAL jsonb_each_text(coalesce(nullif(c.shape -> 'declared', 'null'), '{{}}')) AS d \
               JOIN pg_class AS r ON r.oid = d.value::oid JOIN pg_namespace AS n ON n.oid = r.relnamespace \
               WHERE c.shape ->> 'identity' = {} AND c.access_tables ? d.key \
                 AND NOT c.access_tables ? format('%I.%I', n.nspname, r.relname) \
               GROUP BY c.relation) AS renamed \
         WHERE renamed.relation = c.relation",
        super::IDENTITY
    );
    owner_execute(&sql, &[]).map(|_| ())
}

/// Can the predicate, which the owner of `reader` gave, still be read? A column or function that it names may be gone; then every row
/// concerns everybody.
pub fn makes_sense(reader: pg_sys::Oid, found: &Found) -> Result<bool> {
    match found.predicate.as_deref().filter(|p| *p != "true") {
        None => Ok(true),
        Some(predicate) => owned::makes_sense(reader, &Purpose::Rows(found.access), predicate),
    }
}
