//! What policies and views rest on, as far as the catalogs know.

use pgrx::pg_sys;

use crate::server::error::Result;
use crate::server::spi::{self, read_now as owner_query};

/// One step down. (What is looked up one by one stands in subqueries with OFFSET 0: of catalogs without statistics, or whose statistics know
/// no policies, the planner expects that there are none, and would begin with all that there are in the database.)
///
/// It is what a view, function or operator depends on, and what the policies of an *indirectly* read table depend on. (A
/// table that is read directly is judged in `reach.rs` by what the caller sees.)
const STEP: &str = "\
        SELECT d.refclassid, d.refobjid, false, r.in_function OR r.classid <> 'pg_class'::regclass FROM read AS r CROSS JOIN LATERAL ( \
            SELECT 'pg_rewrite'::regclass::oid AS classid, w.oid AS objid FROM pg_rewrite AS w \
             WHERE r.classid = 'pg_class'::regclass AND w.ev_class = r.objid AND w.ev_type = '1' \
            UNION ALL SELECT 'pg_policy'::regclass, p.oid FROM pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid \
             WHERE r.classid = 'pg_class'::regclass AND NOT r.direct AND p.polrelid = r.objid AND p.polcmd IN ('*', 'r') AND c.relrowsecurity \
            UNION ALL SELECT r.classid, r.objid WHERE r.classid <> 'pg_class'::regclass) AS via \
         CROSS JOIN LATERAL (SELECT refclassid, refobjid FROM pg_depend WHERE classid = via.classid AND objid = via.objid OFFSET 0) AS d \
         WHERE d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_operator'::regclass)";

/// `read(classid, objid, direct, in_function)`: what the SELECT policies of table $1 rest on, also behind views and functions, as far as
/// `pg_depend` knows; direct if the policies name it themselves and read it under its own policies for the caller, which a partition
/// has apart from its root's; whether a function or an operator stands between.
pub fn policies_rest_on() -> String {
    format!(
        "read(classid, objid, direct, in_function) AS ( \
            SELECT d.refclassid, d.refobjid, NOT coalesce(c.relispartition AND c.oid <> $1, false), false \
              FROM (SELECT oid FROM pg_policy WHERE polrelid = $1 AND polcmd IN ('*', 'r') OFFSET 0) AS p \
             CROSS JOIN LATERAL (SELECT refclassid, refobjid FROM pg_depend WHERE classid = 'pg_policy'::regclass AND objid = p.oid OFFSET 0) AS d \
              LEFT JOIN pg_class AS c ON d.refclassid = 'pg_class'::regclass AND c.oid = d.refobjid \
             WHERE d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_operator'::regclass) \
          UNION {STEP})"
    )
}

/// A table that policies rest on.
pub struct Read {
    pub table: pg_sys::Oid,
    /// The policies name it themselves.
    pub direct: bool,
    /// A function that they call reads it.
    pub in_function: bool,
}

/// The tables among these with those that inherit from them. Not the system's, nor our own.
pub fn read_by_policies(relation: pg_sys::Oid) -> Result<Vec<Read>> {
    let rows = owner_query(
        &format!(
            "WITH RECURSIVE {}, tree(oid, direct, in_function) AS ( \
                SELECT objid, direct, in_function FROM read WHERE classid = 'pg_class'::regclass AND (objid <> $1 OR NOT direct) \
              UNION SELECT i.inhrelid, false, in_function FROM tree JOIN pg_inherits AS i ON i.inhparent = tree.oid \
                      JOIN pg_class AS p ON p.oid = i.inhparent AND p.relkind = 'r') \
             SELECT tree.oid, direct, in_function FROM tree JOIN pg_class AS c ON c.oid = $1 AND c.relrowsecurity \
               JOIN pg_class AS t ON t.oid = tree.oid \
             WHERE {NOT_OURS}",
            policies_rest_on()
        ),
        &[spi::arg(relation)],
    )?;
    Ok(rows.iter().map(|r| Read { table: r.oid(0), direct: r.bool(1), in_function: r.bool(2) }).collect())
}

const NOT_OURS: &str = "t.relnamespace::regnamespace::text <> ALL ('{snapsync,pg_catalog,information_schema}')";

/// The tables that a view reads, or that a table's policies do, with those that inherit from them; for who reads it with other rights
/// than the caller's.
pub fn tables_under(relation: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>> {
    let rows = owner_query(
        &format!(
            "WITH RECURSIVE read(classid, objid, direct, in_function) AS (SELECT 'pg_class'::regclass::oid, $1, false, false UNION {STEP}), tree(oid) AS ( \
                SELECT objid FROM read WHERE classid = 'pg_class'::regclass \
              UNION SELECT i.inhrelid FROM tree JOIN pg_inherits AS i ON i.inhparent = tree.oid \
                      JOIN pg_class AS p ON p.oid = i.inhparent AND p.relkind = 'r') \
             SELECT tree.oid FROM tree JOIN pg_class AS t ON t.oid = tree.oid WHERE t.relkind IN ('r', 'p') AND {NOT_OURS}"
        ),
        &[spi::arg(relation)],
    )?;
    Ok(rows.iter().map(|r| r.oid(0)).collect())
}

/// The tables that inherit from this one, at any depth.
pub fn children(relation: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>> {
    let rows = owner_query(
        "WITH RECURSIVE tree(oid) AS (SELECT $1 UNION SELECT i.inhrelid FROM tree JOIN pg_inherits AS i ON i.inhparent = tree.oid \
            JOIN pg_class AS p ON p.oid = i.inhparent AND p.relkind = 'r') \
         SELECT oid FROM tree WHERE oid <> $1",
        &[spi::arg(relation)],
    )?;
    Ok(rows.iter().map(|r| r.oid(0)).collect())
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

/// The functions that an expression calls, by name or by an operator.
///
/// # Safety
/// The node is NULL or of a parsed tree.
pub unsafe fn functions_called(node: *mut pg_sys::Node) -> Vec<u32> {
    let mut called = Vec::new();
    // SAFETY: nodes of the tree, which are of the types that their tags say and are only read.
    unsafe {
        super::walk(node, &mut |node, _| match (*node).type_ {
            pg_sys::NodeTag::T_FuncExpr => called.push((*node.cast::<pg_sys::FuncExpr>()).funcid.to_u32()),
            pg_sys::NodeTag::T_OpExpr => {
                called.push(pg_sys::get_opcode((*node.cast::<pg_sys::OpExpr>()).opno).to_u32())
            }
            pg_sys::NodeTag::T_ScalarArrayOpExpr => {
                called.push(pg_sys::get_opcode((*node.cast::<pg_sys::ScalarArrayOpExpr>()).opno).to_u32())
            }
            _ => {}
        });
    }
    called
}
