//! Do policies show the more rows the more there are in the tables that they read? So they do where they ask whether there is one: by EXISTS, IN,
//! `= ANY`, or by comparing with what a subquery gives, joined by AND and OR. Not so with NOT, EXCEPT, aggregates, LIMIT or outer joins.
//!
//! A condition grows if it is still true when rows are added. (Whether it is false or NULL before is the same to a policy. A scalar subquery of
//! which another row makes two is an error, now as then.)

use std::collections::BTreeSet;

use pgrx::pg_sys::{self, NodeTag};

use crate::policies::access::tree;
use crate::server::spi::pointers;
use crate::server::{memory, pg};

/// Does the condition grow with these tables?
///
/// # Safety
/// NULL, a condition of a rewritten tree or a list of such, which is only read.
pub(super) unsafe fn grows(condition: *mut pg_sys::Node, tables: &BTreeSet<u32>) -> bool {
    memory::descend();
    // SAFETY: nodes with these tags are of these types.
    unsafe {
        if is_steady(condition, tables) {
            return true;
        }
        match (*condition).type_ {
            NodeTag::T_List => all(condition.cast(), tables),
            NodeTag::T_BoolExpr => {
                let expression = &*condition.cast::<pg_sys::BoolExpr>();
                expression.boolop != pg_sys::BoolExprType::NOT_EXPR && all(expression.args, tables)
            }
            NodeTag::T_OpExpr => {
                let test = &*condition.cast::<pg_sys::OpExpr>();
                let is_operand = |arg| is_steady(arg, tables) || is_subquery(arg, EXPRESSION, tables);
                pg_sys::op_strict(test.opno) && pointers::<pg_sys::Node>(test.args).into_iter().all(is_operand)
            }
            NodeTag::T_ScalarArrayOpExpr => {
                let test = &*condition.cast::<pg_sys::ScalarArrayOpExpr>();
                match pointers::<pg_sys::Node>(test.args)[..] {
                    [member, array] => test.useOr && is_steady(member, tables) && is_subquery(array, ARRAY, tables),
                    _ => false,
                }
            }
            NodeTag::T_SubLink => {
                let kind = (*condition.cast::<pg_sys::SubLink>()).subLinkType;
                let asks_for_one = [EXISTS, ANY, EXPRESSION].contains(&kind);
                asks_for_one && is_subquery(condition, kind, tables)
            }
            _ => false,
        }
    }
}

const EXISTS: pg_sys::SubLinkType::Type = pg_sys::SubLinkType::EXISTS_SUBLINK;
const ANY: pg_sys::SubLinkType::Type = pg_sys::SubLinkType::ANY_SUBLINK;
const EXPRESSION: pg_sys::SubLinkType::Type = pg_sys::SubLinkType::EXPR_SUBLINK;
const ARRAY: pg_sys::SubLinkType::Type = pg_sys::SubLinkType::ARRAY_SUBLINK;

/// # Safety
/// A list of conditions.
unsafe fn all(conditions: *mut pg_sys::List, tables: &BTreeSet<u32>) -> bool {
    // SAFETY: see above.
    unsafe { pointers::<pg_sys::Node>(conditions).into_iter().all(|condition| grows(condition, tables)) }
}

/// The log knows partitions as their root.
fn root(table: u32) -> u32 {
    pg::root_of(table.into()).to_u32()
}

/// Is none of these tables read there?
///
/// # Safety
/// NULL or a node of a parsed tree.
unsafe fn is_steady(node: *mut pg_sys::Node, tables: &BTreeSet<u32>) -> bool {
    // SAFETY: see above.
    node.is_null() || unsafe { tree::relations_read(node) }.keys().all(|read| !tables.contains(&root(*read)))
}

/// Is it a subquery of this kind that gives more rows when there are more?
///
/// # Safety
/// An expression of a rewritten tree.
unsafe fn is_subquery(node: *mut pg_sys::Node, kind: pg_sys::SubLinkType::Type, tables: &BTreeSet<u32>) -> bool {
    // SAFETY: nodes with these tags are of these types.
    unsafe {
        let link = tree::strip(node).cast::<pg_sys::SubLink>();
        (*link).xpr.type_ == NodeTag::T_SubLink
            && (*link).subLinkType == kind
            && is_steady((*link).testexpr, tables)
            && query_grows((*link).subselect.cast(), tables)
    }
}

/// Does a query give the rows that it gave, and maybe others, when rows are added?
///
/// # Safety
/// A query of a rewritten tree.
unsafe fn query_grows(query: *mut pg_sys::Query, tables: &BTreeSet<u32>) -> bool {
    memory::descend();
    // SAFETY: entries of the query, and what it asks for.
    unsafe {
        if is_steady(query.cast(), tables) {
            return true;
        }
        let q = &*query;
        let chooses = q.hasAggs || q.hasWindowFuncs || q.hasDistinctOn || q.commandType != pg_sys::CmdType::CMD_SELECT;
        let lists = [q.groupClause, q.groupingSets, q.cteList, q.rowMarks];
        !chooses
            && lists.iter().all(|list| list.is_null())
            && [q.limitCount, q.limitOffset, q.havingQual].iter().all(|node| node.is_null())
            && is_union(q.setOperations)
            && is_steady(q.targetList.cast(), tables)
            && from_grows(q.jointree.cast(), tables)
            && pointers::<pg_sys::RangeTblEntry>(q.rtable).into_iter().all(|entry| entry_grows(entry, tables))
    }
}

/// # Safety
/// NULL or the set operations of a query.
unsafe fn is_union(node: *mut pg_sys::Node) -> bool {
    memory::descend();
    // SAFETY: set operations, or references to entries.
    unsafe {
        if node.is_null() || (*node).type_ != NodeTag::T_SetOperationStmt {
            return true;
        }
        let operation = &*node.cast::<pg_sys::SetOperationStmt>();
        operation.op == pg_sys::SetOperation::SETOP_UNION && is_union(operation.larg) && is_union(operation.rarg)
    }
}

/// # Safety
/// NULL or a jointree of a rewritten query.
unsafe fn from_grows(from: *mut pg_sys::Node, tables: &BTreeSet<u32>) -> bool {
    let mut conditions = Vec::new();
    // SAFETY: see above. Outer joins have no conjuncts.
    unsafe {
        tree::conjuncts(from, &mut conditions) && conditions.into_iter().all(|condition| grows(condition, tables))
    }
}

/// # Safety
/// An entry of a rewritten query.
unsafe fn entry_grows(entry: *mut pg_sys::RangeTblEntry, tables: &BTreeSet<u32>) -> bool {
    // SAFETY: see above.
    unsafe {
        let e = &*entry;
        let rows = match e.rtekind {
            pg_sys::RTEKind::RTE_RELATION => e.tablesample.is_null(),
            pg_sys::RTEKind::RTE_SUBQUERY => query_grows(e.subquery, tables),
            pg_sys::RTEKind::RTE_FUNCTION => is_steady(e.functions.cast(), tables),
            pg_sys::RTEKind::RTE_VALUES => is_steady(e.values_lists.cast(), tables),
            // What it joins has entries of its own.
            pg_sys::RTEKind::RTE_JOIN | pg_sys::RTEKind::RTE_RESULT => true,
            _ => false,
        };
        rows && grows(e.securityQuals.cast(), tables)
    }
}
