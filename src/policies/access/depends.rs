//! What policies and views rest on, as far as the catalogs know.

use std::collections::BTreeSet;

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::server::error::Result;
use crate::server::spi::{self, pointers, read_now as owner_query};
use crate::server::subxact;

/// One step down: what a view, function or operator depends on, and what the policies of an *indirectly* read table depend on. (A
/// table that is read directly is judged in `reach.rs` by what the caller sees.)
const STEP: &str = "\
        SELECT d.refclassid, d.refobjid, false, r.in_function OR r.classid <> 'pg_class'::regclass FROM read AS r CROSS JOIN LATERAL ( \
            SELECT 'pg_rewrite'::regclass::oid AS classid, w.oid AS objid FROM pg_rewrite AS w \
             WHERE r.classid = 'pg_class'::regclass AND w.ev_class = r.objid AND w.ev_type = '1' \
            UNION ALL SELECT 'pg_policy'::regclass, p.oid FROM pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid \
             WHERE r.classid = 'pg_class'::regclass AND NOT r.direct AND p.polrelid = r.objid AND p.polcmd IN ('*', 'r') AND c.relrowsecurity \
            UNION ALL SELECT r.classid, r.objid WHERE r.classid <> 'pg_class'::regclass) AS via \
          JOIN pg_depend AS d ON d.classid = via.classid AND d.objid = via.objid \
         WHERE d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_operator'::regclass)";

/// `read(classid, objid, direct, in_function)`: what the SELECT policies of table $1 rest on, also behind views and functions, as far as
/// `pg_depend` knows; direct if the policies name it themselves and read it under its own policies for the caller, which a partition
/// has apart from its root's; whether a function or an operator stands between.
pub fn policies_rest_on() -> String {
    format!(
        "read(classid, objid, direct, in_function) AS ( \
            SELECT d.refclassid, d.refobjid, NOT coalesce(c.relispartition AND c.oid <> p.polrelid, false), false FROM pg_policy AS p \
              JOIN pg_depend AS d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid \
              LEFT JOIN pg_class AS c ON d.refclassid = 'pg_class'::regclass AND c.oid = d.refobjid \
             WHERE p.polrelid = $1 AND p.polcmd IN ('*', 'r') \
               AND d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_operator'::regclass) \
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

/// The functions that a tree calls, by name, by an operator or to sort and group: not those of the system, nor those that read and write
/// the texts of types.
///
/// # Safety
/// The node is NULL or of a parsed tree.
pub unsafe fn functions_called(node: *mut pg_sys::Node) -> Vec<pg_sys::Oid> {
    /// # Safety
    /// Called by `check_functions_in_node`, with the list.
    #[pg_guard]
    unsafe extern "C-unwind" fn add(function: pg_sys::Oid, called: *mut std::ffi::c_void) -> bool {
        // SAFETY: see above.
        unsafe { (*called.cast::<Vec<pg_sys::Oid>>()).push(function) };
        false
    }
    let mut called: Vec<pg_sys::Oid> = Vec::new();
    // SAFETY: nodes of the tree, which are of the types that their tags say and are only read (but that an operator's function is looked up).
    unsafe {
        super::walk(node, &mut |node, _| match (*node).type_ {
            pg_sys::NodeTag::T_CoerceViaIO => {}
            pg_sys::NodeTag::T_Query => {
                let query = &*node.cast::<pg_sys::Query>();
                let windows = pointers::<pg_sys::WindowClause>(query.windowClause).into_iter();
                let windows = windows.flat_map(|w| [(*w).partitionClause, (*w).orderClause]);
                for list in windows.chain([query.sortClause, query.groupClause, query.distinctClause]) {
                    for by in pointers::<pg_sys::SortGroupClause>(list) {
                        let operators = [(*by).eqop, (*by).sortop].into_iter().filter(|o| *o != pg_sys::InvalidOid);
                        called.extend(operators.map(|o| pg_sys::get_opcode(o)));
                    }
                }
            }
            _ => _ = pg_sys::check_functions_in_node(node, Some(add), (&raw mut called).cast()),
        });
    }
    called.retain(|f| f.to_u32() >= pg_sys::FirstNormalObjectId);
    called.sort_unstable_by_key(|f| f.to_u32());
    called.dedup();
    called
}

/// The signatures of functions, with full names: what a text that calls them keeps of them, for a dump carries no oids.
pub fn signatures(functions: &[pg_sys::Oid]) -> Result<BTreeSet<String>> {
    if functions.is_empty() {
        return Ok(BTreeSet::new());
    }
    let rows =
        owner_query("SELECT f::regprocedure::text FROM unnest($1::oid[]) AS f", &[spi::arg(functions.to_vec())])?;
    Ok(rows.iter().map(|r| r.string(0)).collect())
}

/// The functions of these signatures; whether all are there.
pub fn of_signatures(signatures: &BTreeSet<String>) -> Result<(Vec<pg_sys::Oid>, bool)> {
    if signatures.is_empty() {
        return Ok((Vec::new(), true));
    }
    let find = || {
        owner_query(
            "SELECT to_regprocedure(s)::oid FROM unnest($1::text[]) AS s WHERE to_regprocedure(s) IS NOT NULL",
            &[spi::arg(signatures.iter().cloned().collect::<Vec<_>>())],
        )
    };
    // That a type of an argument is gone is an ERROR.
    match subxact::run(find) {
        Err(e) if subxact::is_transient(&e) => Err(e),
        Err(_) => Ok((Vec::new(), false)),
        Ok(rows) => Ok((rows.iter().map(|r| r.oid(0)).collect(), rows.len() == signatures.len())),
    }
}

/// Has the table columns of all these names?
pub fn has_columns(relation: pg_sys::Oid, columns: &BTreeSet<String>) -> Result<bool> {
    let rows = owner_query(
        "SELECT 1 FROM pg_attribute WHERE attrelid = $1 AND attname = ANY ($2::text[]) AND attnum > 0 AND NOT attisdropped",
        &[spi::arg(relation), spi::arg(columns.iter().cloned().collect::<Vec<_>>())],
    )?;
    Ok(rows.len() == columns.len())
}
