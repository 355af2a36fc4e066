//! Rows as a whole (`members.*`) in trees that read something else in place of their table.
//!
//! Of a row that a table has stored, PostgreSQL leaves out the columns that were dropped: `row IS NOT NULL` asks for the others. Where the
//! row is made of its columns, a dropped one is a NULL among them, and the planner, which takes a test of the row apart into tests of the
//! expressions that it is made of, would test that, too. So the row is converted to its own type, which the planner does not look into:
//! whatever is done with it then is done with a value of that type.

use pgrx::pg_sys::{self, NodeTag};

use crate::policies::access::tree::walk;
use crate::server::node::node;
use crate::server::pg;
use crate::server::spi::pointers;
use crate::sight::old_rows::OldRows;

/// Every Var in memory of its own can become the other one where it stands.
const _: () = assert!(std::mem::size_of::<pg_sys::Var>() >= std::mem::size_of::<pg_sys::ConvertRowtypeExpr>());

/// The row as a whole of range table entry 1 becomes a row of its columns, of which the old rows' relation has one more.
///
/// # Safety
/// Expressions over the columns of the rows' table as range table entry 1, which are changed; old rows stand in their place from now on.
pub(super) unsafe fn as_rows(conditions: *mut pg_sys::List, rows: &OldRows) -> *mut pg_sys::List {
    // SAFETY: see above; nodes of our own. The table is in use, so it is locked.
    unsafe {
        let found = find(conditions.cast(), 1, 0);
        if found.is_empty() {
            return conditions;
        }
        if has_lost_columns(rows) {
            convert(found);
        }
        let relation = pg_sys::relation_open(rows.table(), pg_sys::NoLock as i32);
        let state = pg_sys::make_parsestate(std::ptr::null_mut());
        let (lock, no_alias) = (pg_sys::AccessShareLock as i32, std::ptr::null_mut());
        let table = (*pg_sys::addRangeTableEntryForRelation(state, relation, lock, no_alias, false, true)).p_rte;
        let descriptor = rows.descriptor();
        let mut columns: *mut pg_sys::List = std::ptr::null_mut();
        for i in 1..rows.number_column() {
            let column = pg::attribute(descriptor, i as usize - 1);
            if !column.attisdropped {
                let var = pg_sys::makeVar(1, i, column.atttypid, column.atttypmod, column.attcollation, 0);
                let name = pg_sys::pstrdup(column.attname.data.as_ptr());
                columns = pg_sys::lappend(columns, pg_sys::makeTargetEntry(var.cast(), i, name, false).cast());
            }
        }
        let mut has_sublinks = true;
        let report = pg_sys::ReplaceVarsNoMatchOption::REPLACEVARS_REPORT_ERROR;
        #[cfg(not(feature = "pg18"))]
        let replaced =
            pg_sys::ReplaceVarsFromTargetList(conditions.cast(), 1, 0, table, columns, report, 0, &mut has_sublinks);
        #[cfg(feature = "pg18")]
        let replaced =
            pg_sys::ReplaceVarsFromTargetList(conditions.cast(), 1, 0, table, columns, 0, report, 0, &mut has_sublinks);
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
        replaced.cast()
    }
}

/// Whatever the query reads as the whole row of this entry stays a row of the table's type, also when the entry has become a subquery.
///
/// # Safety
/// An entry of the query, of the rows' table; the query is changed, so nobody else refers to it.
pub(super) unsafe fn keep_type(query: *mut pg_sys::Query, entry: *mut pg_sys::RangeTblEntry, rows: &OldRows) {
    // SAFETY: see above.
    unsafe {
        if !has_lost_columns(rows) {
            return;
        }
        let entries = pointers::<pg_sys::RangeTblEntry>((*query).rtable);
        if let Some(at) = entries.iter().position(|other| *other == entry) {
            convert(find(query.cast(), at as u32 + 1, 1));
        }
    }
}

/// The Vars in this part that stand for the whole row of the entry of this number. Around the entry's own columns are `depth` queries of
/// this part.
///
/// # Safety
/// A node of a parsed tree, which is only read.
unsafe fn find(part: *mut pg_sys::Node, number: u32, depth: u32) -> Vec<*mut pg_sys::Var> {
    let mut found: Vec<*mut pg_sys::Var> = Vec::new();
    // SAFETY: nodes with this tag are Vars.
    unsafe {
        walk(part, &mut |inner, around| {
            if (*inner).type_ == NodeTag::T_Var {
                let var = &*inner.cast::<pg_sys::Var>();
                if var.varattno == 0 && var.varno as u32 == number && var.varlevelsup + depth == around {
                    found.push(inner.cast());
                }
            }
        });
    }
    // Of a node that stands in two places.
    found.sort_unstable();
    found.dedup();
    found
}

/// Were any of the table's columns dropped?
fn has_lost_columns(rows: &OldRows) -> bool {
    // SAFETY: the descriptor lives as long as the rows, and has so many attributes.
    (1..rows.number_column()).any(|i| unsafe { pg::attribute(rows.descriptor(), i as usize - 1).attisdropped })
}

/// Each becomes itself, converted to its own type.
///
/// # Safety
/// Vars of a tree that nobody else refers to, each once, for whole rows of a table.
unsafe fn convert(found: Vec<*mut pg_sys::Var>) {
    for var in found {
        // SAFETY: there is room for the other node in place of the Var (above), which moves to one of its own.
        unsafe {
            let moved: *mut pg_sys::Var = node(NodeTag::T_Var);
            std::ptr::copy_nonoverlapping(var, moved, 1);
            let converted = var.cast::<pg_sys::ConvertRowtypeExpr>();
            std::ptr::write_bytes(converted, 0, 1);
            (*converted).xpr.type_ = NodeTag::T_ConvertRowtypeExpr;
            (*converted).arg = moved.cast();
            (*converted).resulttype = (*moved).vartype;
            (*converted).convertformat = pg_sys::CoercionForm::COERCE_IMPLICIT_CAST;
            (*converted).location = -1;
        }
    }
}
