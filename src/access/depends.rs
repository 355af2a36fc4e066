//! What policies and views rest on, as far as the catalogs know.

use pgrx::pg_sys;

use crate::error::Result;
use crate::registry::owner_query;
use crate::spi;

/// What the SELECT policies of table $1 rest on, also behind views and functions, as far as `pg_depend` knows.
pub const POLICIES_REST_ON: &str = "read(classid, objid, direct) AS ( \
        SELECT d.refclassid, d.refobjid, true FROM pg_policy AS p \
          JOIN pg_depend AS d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid \
         WHERE p.polrelid = $1 AND p.polcmd IN ('*', 'r') \
           AND d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_operator'::regclass) \
      UNION \
        SELECT d.refclassid, d.refobjid, false FROM read AS r \
          LEFT JOIN pg_rewrite AS w ON r.classid = 'pg_class'::regclass AND w.ev_class = r.objid AND w.ev_type = '1' \
          JOIN pg_depend AS d ON d.classid = CASE r.classid WHEN 'pg_class'::regclass THEN 'pg_rewrite'::regclass ELSE r.classid END \
                             AND d.objid = CASE r.classid WHEN 'pg_class'::regclass THEN w.oid ELSE r.objid END \
         WHERE d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_operator'::regclass))";

/// The tables among these with those that inherit from them; whether the policies name them themselves. Not the system's,
/// nor our own.
pub fn read_by_policies(relation: pg_sys::Oid) -> Result<Vec<(pg_sys::Oid, bool)>> {
    let rows = owner_query(
        &format!(
            "WITH RECURSIVE {POLICIES_REST_ON}, tree(oid, direct) AS ( \
                SELECT objid, direct FROM read WHERE classid = 'pg_class'::regclass AND (objid <> $1 OR NOT direct) \
              UNION SELECT i.inhrelid, false FROM tree JOIN pg_inherits AS i ON i.inhparent = tree.oid \
                      JOIN pg_class AS p ON p.oid = i.inhparent AND p.relkind = 'r') \
             SELECT tree.oid, direct FROM tree JOIN pg_class AS c ON c.oid = $1 AND c.relrowsecurity \
               JOIN pg_class AS t ON t.oid = tree.oid \
             WHERE t.relnamespace::regnamespace::text <> ALL ('{{snapsync,pg_catalog,information_schema}}')"
        ),
        &[spi::arg(relation)],
    )?;
    Ok(rows.iter().map(|r| (r.oid(0), r.bool(1))).collect())
}

/// May the owner of `relation` read all rows of `access`?
pub fn may_read_all(relation: pg_sys::Oid, access: pg_sys::Oid) -> bool {
    owner_query(
        "SELECT 1 FROM pg_class AS r JOIN pg_roles AS o ON o.oid = r.relowner, pg_class AS a \
         WHERE r.oid = $1 AND a.oid = $2 AND (pg_has_role(o.oid, a.relowner, 'USAGE') \
            OR has_table_privilege(o.oid, a.oid, 'SELECT') AND (NOT a.relrowsecurity OR o.rolsuper OR o.rolbypassrls))",
        &[spi::arg(relation), spi::arg(access)],
    )
    .is_ok_and(|rows| !rows.is_empty())
}

pub fn tables_of_view(view: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>> {
    let rows = owner_query(
        "WITH RECURSIVE read(oid) AS (SELECT $1 UNION SELECT d.refobjid FROM read JOIN pg_rewrite AS w ON w.ev_class = read.oid \
            JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass) \
         SELECT oid FROM read JOIN pg_class USING (oid) WHERE relkind IN ('r', 'p')",
        &[spi::arg(view)],
    )?;
    Ok(rows.iter().map(|r| r.oid(0)).collect())
}
