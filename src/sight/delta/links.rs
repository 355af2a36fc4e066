//! Which rows can have come into view or gone out of it at all, where policies ask for it in the usual ways: `project IN (SELECT ...)`,
//! `project = ANY (ARRAY(SELECT ...))`, or `EXISTS (SELECT ... WHERE x = project ...)`. What such a question says of a row follows from one column, its *link*, and from the set of
//! values that the subquery gives. So only rows whose link is a value that the subquery gave and gives no more, or the other way round, can
//! have moved; they are found by an index, if there is one.

use std::collections::BTreeSet;

use pgrx::pg_sys::{self, NodeTag};

use crate::policies::access::tree;
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::server::spi::pointers;
use crate::server::statement;
use crate::sight::policy::Former;

/// More values are not worth collecting: all rows are looked at.
const VALUES: usize = 100_000;

/// Rows with one of these values in this column may have moved.
#[derive(PartialEq, Eq)]
pub struct Link {
    pub attnum: i16,
    /// In the type's text form.
    pub values: Vec<String>,
}

/// A subquery that policies ask about a row.
struct Subquery {
    link: *mut pg_sys::SubLink,
    /// What is compared with each member of the array that it makes; or NULL.
    member: *mut pg_sys::Node,
    /// Whether it says false or nothing is the same.
    positive: bool,
}

/// What it costs to ask a subquery, as the planner sees it.
pub struct Costs {
    pub before: f64,
    pub now: f64,
}

/// What a subquery gives.
#[derive(PartialEq, Eq, Default)]
struct Given {
    values: BTreeSet<String>,
    null: bool,
}

/// The links of these policies; None where any row may have moved. Before a subquery is asked, its costs must be granted.
///
/// # Safety
/// Conditions of the range table entry of this number, of a rewritten query; the former tables are registered in the environment.
pub unsafe fn of(
    policies: *mut pg_sys::List,
    entry: i32,
    former: &Former,
    environment: *mut pg_sys::QueryEnvironment,
    grant: &mut dyn FnMut(Costs) -> Result<()>,
) -> Result<Option<Vec<Link>>> {
    let mut asked = Vec::new();
    let mut links = Vec::new();
    // SAFETY: nodes of the policies' trees, which are only read; what is run and changed are copies.
    unsafe {
        former.find(policies.cast())?;
        pointers::<pg_sys::Node>(policies).into_iter().for_each(|policy| collect(policy, true, &mut asked));
        for Subquery { link, member, positive } in asked {
            if !former.is_read_by((*link).subselect) {
                continue;
            }
            let Some((attnum, query)) = linked(link, member, entry) else { return Ok(None) };
            let before = pg_sys::copyObjectImpl(query.cast()).cast::<pg_sys::Query>();
            former.put_into(before.cast(), environment)?;
            let (before, now) = (planned(before), planned(query));
            let cost = |plan: *mut pg_sys::PlannedStmt| (*(*plan).planTree).total_cost;
            grant(Costs { before: cost(before), now: cost(now) })?;
            let (Some(before), Some(now)) = (given(before, environment)?, given(now, environment)?) else {
                return Ok(None);
            };
            let same_else = before.null == now.null && before.values.is_empty() == now.values.is_empty();
            if !same_else && !positive && (*link).subLinkType != pg_sys::SubLinkType::EXISTS_SUBLINK {
                return Ok(None);
            }
            let values: Vec<String> = before.values.symmetric_difference(&now.values).cloned().gather();
            let link = Link { attnum, values };
            if !link.values.is_empty() && !links.contains(&link) {
                links.push(link);
            }
        }
    }
    Ok(Some(links))
}

/// Collects the subqueries of a condition, not those inside them.
///
/// # Safety
/// A node of a policy's tree.
unsafe fn collect(node: *mut pg_sys::Node, positive: bool, asked: &mut Vec<Subquery>) {
    memory::descend();
    // SAFETY: nodes with these tags are of these types.
    unsafe {
        match (*node).type_ {
            NodeTag::T_BoolExpr => {
                let expression = &*node.cast::<pg_sys::BoolExpr>();
                let positive = positive && expression.boolop != pg_sys::BoolExprType::NOT_EXPR;
                pointers::<pg_sys::Node>(expression.args).into_iter().for_each(|part| collect(part, positive, asked));
            }
            NodeTag::T_SubLink => {
                let link = node.cast::<pg_sys::SubLink>();
                asked.push(Subquery { link, member: std::ptr::null_mut(), positive });
                if !(*link).testexpr.is_null() {
                    collect((*link).testexpr, false, asked);
                }
            }
            _ => {
                let member = compared_with_array(node);
                let inside = tree::sublinks(node).into_iter();
                let positive = positive && member.is_some();
                let member = member.unwrap_or(std::ptr::null_mut());
                memory::extend(asked, inside.map(|link| Subquery { link, member, positive }));
            }
        }
    }
}

/// `column = ANY (ARRAY(SELECT ...))`: the column.
///
/// # Safety
/// A node of a policy's tree.
unsafe fn compared_with_array(node: *mut pg_sys::Node) -> Option<*mut pg_sys::Node> {
    // SAFETY: nodes with these tags are of these types.
    unsafe {
        if (*node).type_ != NodeTag::T_ScalarArrayOpExpr {
            return None;
        }
        let test = &*node.cast::<pg_sys::ScalarArrayOpExpr>();
        let name = pg_sys::get_opname(test.opno);
        let equal = !name.is_null() && std::ffi::CStr::from_ptr(name).to_bytes() == b"=";
        let args = pointers::<pg_sys::Node>(test.args);
        let [member, array] = args[..] else { return None };
        let is_array = (*tree::strip(array)).type_ == NodeTag::T_SubLink && (*member).type_ != NodeTag::T_SubLink;
        let is_column = (*tree::strip(member)).type_ == NodeTag::T_Var;
        (equal && test.useOr && is_array && is_column && is_plain(test.opno, test.inputcollid)).then_some(member)
    }
}

/// Is it PostgreSQL's own operator, and one that takes equal texts for equal?
///
/// # Safety
/// A look-up of a collation that a tree refers to.
unsafe fn is_plain(operator: pg_sys::Oid, collation: pg_sys::Oid) -> bool {
    // SAFETY: see above.
    let deterministic = collation == pg_sys::InvalidOid || unsafe { pg_sys::get_collation_isdeterministic(collation) };
    operator.to_u32() < pg_sys::FirstNormalObjectId && deterministic
}

/// The column that links a row with what the subquery gives, and a query for that, which nobody else refers to. None where there is none.
///
/// # Safety
/// A subquery of a policy on the entry of this number.
unsafe fn linked(
    link: *mut pg_sys::SubLink,
    member: *mut pg_sys::Node,
    entry: i32,
) -> Option<(i16, *mut pg_sys::Query)> {
    // SAFETY: nodes of the tree; a copy is changed.
    unsafe {
        let query = pg_sys::copyObjectImpl((*link).subselect.cast()).cast::<pg_sys::Query>();
        let own = |node: *mut pg_sys::Node, up: u32| {
            let node = tree::strip(node);
            let var = ((*node).type_ == NodeTag::T_Var).then(|| &*node.cast::<pg_sys::Var>());
            var.filter(|var| i64::from(var.varno) == i64::from(entry) && var.varlevelsup == up && var.varattno > 0)
        };
        match (*link).subLinkType {
            pg_sys::SubLinkType::ANY_SUBLINK => {
                let (left, right) = equality((*link).testexpr)?;
                let column = own(left, 0)?;
                let output = pointers::<pg_sys::TargetEntry>((*query).targetList).into_iter().next()?;
                let is_output = (*tree::strip(right)).type_ == NodeTag::T_Param;
                (is_output && is_same_type(column, (*output).expr.cast()) && tree::is_uncorrelated(query))
                    .then_some((column.varattno, query))
            }
            pg_sys::SubLinkType::ARRAY_SUBLINK if !member.is_null() => {
                let column = own(member, 0)?;
                let output = pointers::<pg_sys::TargetEntry>((*query).targetList).into_iter().next()?;
                (is_same_type(column, (*output).expr.cast()) && tree::is_uncorrelated(query))
                    .then_some((column.varattno, query))
            }
            pg_sys::SubLinkType::EXISTS_SUBLINK => {
                let mut conditions = Vec::new();
                if !tree::returns_rows_as_they_are(query) || !tree::conjuncts((*query).jointree.cast(), &mut conditions)
                {
                    return None;
                }
                for condition in conditions {
                    let Some((left, right)) = equality(condition) else { continue };
                    for (column, output, first) in [(left, right, true), (right, left, false)] {
                        let Some(column) = own(column, 1) else { continue };
                        if !is_same_type(column, output) {
                            return None;
                        }
                        // The condition becomes one of the output with itself, which asks that there is one.
                        let args = (*condition.cast::<pg_sys::OpExpr>()).args;
                        let other = pointers::<pg_sys::Node>(args)[usize::from(first)];
                        let mine = (*args).elements.add(usize::from(!first));
                        (*mine).ptr_value = pg_sys::copyObjectImpl(other.cast()).cast();
                        let output = pg_sys::copyObjectImpl(other.cast()).cast();
                        let target = pg_sys::makeTargetEntry(output, 1, std::ptr::null_mut(), false);
                        (*query).targetList = pg_sys::lappend(std::ptr::null_mut(), target.cast());
                        (*query).sortClause = std::ptr::null_mut();
                        let attnum = column.varattno;
                        return tree::is_uncorrelated(query).then_some((attnum, query));
                    }
                }
                None
            }
            _ => None,
        }
    }
}

/// Both sides of an equality that is PostgreSQL's own and takes equal texts for equal.
///
/// # Safety
/// The node is NULL or of a parsed tree.
unsafe fn equality(node: *mut pg_sys::Node) -> Option<(*mut pg_sys::Node, *mut pg_sys::Node)> {
    // SAFETY: see above; look-ups of what the tree refers to.
    unsafe {
        let (left, right) = tree::equality(node)?;
        let operator = &*node.cast::<pg_sys::OpExpr>();
        is_plain(operator.opno, operator.inputcollid).then_some((left, right))
    }
}

/// Have both the same type under domains, one whose values are equal if their texts are?
///
/// # Safety
/// An expression of a parsed tree.
unsafe fn is_same_type(column: &pg_sys::Var, output: *mut pg_sys::Node) -> bool {
    const TYPES: [pg_sys::Oid; 6] =
        [pg_sys::INT2OID, pg_sys::INT4OID, pg_sys::INT8OID, pg_sys::UUIDOID, pg_sys::TEXTOID, pg_sys::VARCHAROID];
    // SAFETY: see above.
    let (a, b) = unsafe { (pg_sys::getBaseType(column.vartype), pg_sys::getBaseType(pg_sys::exprType(output))) };
    let is_text = |t| t == pg_sys::TEXTOID || t == pg_sys::VARCHAROID;
    TYPES.contains(&a) && (a == b || is_text(a) && is_text(b))
}

const TEXT: &std::ffi::CStr = c"snapsync: what policies ask for";

/// # Safety
/// A rewritten query that nobody else refers to; what it reads is locked.
unsafe fn planned(query: *mut pg_sys::Query) -> *mut pg_sys::PlannedStmt {
    // SAFETY: see above.
    unsafe { pg_sys::pg_plan_query(query, TEXT.as_ptr(), 0, std::ptr::null_mut()) }
}

/// What a query gives in its first column; None where that is too much.
///
/// # Safety
/// The query's plan; what it reads is locked.
unsafe fn given(plan: *mut pg_sys::PlannedStmt, environment: *mut pg_sys::QueryEnvironment) -> Result<Option<Given>> {
    let (mut given, no_params) = (Given::default(), std::ptr::null_mut());
    let mut too_many = false;
    // SAFETY: see above; the executor's slot, of one column at least.
    unsafe {
        statement::run_unheard(plan, TEXT, no_params, environment, &mut |slot| {
            too_many |= given.values.len() >= VALUES;
            if !too_many {
                match statement::first_as_text(slot) {
                    Some(value) => _ = given.values.insert(value),
                    None => given.null = true,
                }
            }
            !too_many
        });
    }
    Ok((!too_many).then_some(given))
}
