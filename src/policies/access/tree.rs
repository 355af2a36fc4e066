//! Walking the parsed tree of a policy: what stands where in it. Nothing here changes a tree.

use std::collections::{BTreeMap, BTreeSet};

use pgrx::pg_sys;

use crate::server::memory;
pub use crate::server::node::walk;
use crate::server::node::{replaced, walk_but};
use crate::server::spi::pointers;

/// Adds the AND-ed conditions of a FROM clause (WHERE and ON of inner joins); false if there is another kind of join.
///
/// # Safety
/// The node is NULL or of a parsed tree.
pub unsafe fn conjuncts(node: *mut pg_sys::Node, out: &mut Vec<*mut pg_sys::Node>) -> bool {
    memory::descend();
    if node.is_null() {
        return true;
    }
    // SAFETY: a jointree: FromExpr, JoinExpr and RangeTblRef nodes, with conditions in `quals`.
    unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_FromExpr => {
                let from = &*node.cast::<pg_sys::FromExpr>();
                and_parts(from.quals, out);
                pointers::<pg_sys::Node>(from.fromlist).into_iter().all(|item| conjuncts(item, out))
            }
            pg_sys::NodeTag::T_JoinExpr => {
                let join = &*node.cast::<pg_sys::JoinExpr>();
                and_parts(join.quals, out);
                join.jointype == pg_sys::JoinType::JOIN_INNER && conjuncts(join.larg, out) && conjuncts(join.rarg, out)
            }
            _ => true,
        }
    }
}

/// # Safety
/// The node is NULL or of a parsed tree.
pub unsafe fn and_parts(node: *mut pg_sys::Node, out: &mut Vec<*mut pg_sys::Node>) {
    memory::descend();
    if node.is_null() {
        return;
    }
    // SAFETY: an expression node.
    unsafe {
        if (*node).type_ == pg_sys::NodeTag::T_BoolExpr {
            let expr = &*node.cast::<pg_sys::BoolExpr>();
            if expr.boolop == pg_sys::BoolExprType::AND_EXPR {
                return pointers::<pg_sys::Node>(expr.args).into_iter().for_each(|part| and_parts(part, out));
            }
        }
        out.push(node);
    }
}

/// Both sides of `a = b`.
///
/// # Safety
/// The node is NULL or of a parsed tree.
pub unsafe fn equality(node: *mut pg_sys::Node) -> Option<(*mut pg_sys::Node, *mut pg_sys::Node)> {
    // SAFETY: an expression node or NULL.
    unsafe {
        if node.is_null() || (*node).type_ != pg_sys::NodeTag::T_OpExpr {
            return None;
        }
        let op = &*node.cast::<pg_sys::OpExpr>();
        let args = pointers::<pg_sys::Node>(op.args);
        if args.len() != 2
            || op.inputcollid != pg_sys::InvalidOid && !pg_sys::get_collation_isdeterministic(op.inputcollid)
        {
            return None;
        }
        let (left, right) = (strip(args[0]), strip(args[1]));
        (is_key_equality(op.opno, left) && is_key_equality(op.opno, right)).then_some((left, right))
    }
}

/// Is it the operator by which a key of this value's type is compared? What is named "=" may be anybody's, and a cast that changes no bits
/// can lead to a type with an equality of its own, to which several keys are the same (text to character or citext).
///
/// # Safety
/// An expression.
unsafe fn is_key_equality(operator: pg_sys::Oid, value: *mut pg_sys::Node) -> bool {
    // SAFETY: catalog look-ups; the entry of the type cache lives as long as the backend.
    unsafe {
        let family =
            (*pg_sys::lookup_type_cache(pg_sys::exprType(value), pg_sys::TYPECACHE_BTREE_OPFAMILY as i32)).btree_opf;
        family != pg_sys::InvalidOid
            && pg_sys::get_op_opfamily_strategy(operator, family) == pg_sys::BTEqualStrategyNumber as i32
    }
}

/// Without casts that change no bits (varchar to text).
///
/// # Safety
/// The node is NULL or of a parsed tree.
pub unsafe fn strip(node: *mut pg_sys::Node) -> *mut pg_sys::Node {
    let mut node = node;
    // SAFETY: an expression node.
    unsafe {
        while !node.is_null() && (*node).type_ == pg_sys::NodeTag::T_RelabelType {
            node = (*node.cast::<pg_sys::RelabelType>()).arg.cast();
        }
    }
    node
}

/// The subqueries that stand directly in an expression, not those inside them.
///
/// # Safety
/// The node is NULL or of a parsed tree.
pub unsafe fn sublinks(node: *mut pg_sys::Node) -> Vec<*mut pg_sys::SubLink> {
    // SAFETY: nodes with this tag are of this type.
    unsafe { outermost(node, pg_sys::NodeTag::T_SubLink) }
}

/// Those of them with nothing but AND and OR above: of these it is the same whether they say false or nothing.
///
/// # Safety
/// The node is NULL or of a parsed tree.
pub(super) unsafe fn asserted(node: *mut pg_sys::Node) -> Vec<*mut pg_sys::SubLink> {
    let (mut found, mut open) = (Vec::new(), vec![node]);
    while let Some(node) = open.pop().filter(|node| !node.is_null()) {
        // SAFETY: nodes with these tags are of these types.
        unsafe {
            match (*node).type_ {
                pg_sys::NodeTag::T_SubLink => found.push(node.cast()),
                pg_sys::NodeTag::T_BoolExpr => {
                    let expr = &*node.cast::<pg_sys::BoolExpr>();
                    if expr.boolop != pg_sys::BoolExprType::NOT_EXPR {
                        open.extend(pointers::<pg_sys::Node>(expr.args));
                    }
                }
                _ => {}
            }
        }
    }
    found
}

/// Does the subquery say the same for each row, as what it selects would without it? It stands for itself: `(SELECT auth.uid())`, with nothing in
/// a FROM clause, and nothing of the queries around it.
///
/// # Safety
/// A subquery of a parsed tree.
unsafe fn is_constant(link: *mut pg_sys::SubLink) -> bool {
    let mut alone = true;
    // SAFETY: a tree that nobody changes (callers); nodes with this tag are queries.
    unsafe {
        let query = (*link).subselect;
        walk(query, &mut |inner, _| {
            if (*inner).type_ == pg_sys::NodeTag::T_Query {
                let query = &*inner.cast::<pg_sys::Query>();
                alone &= query.rtable.is_null() && query.cteList.is_null();
            }
        });
        alone && is_uncorrelated(query.cast()) && !pg_sys::contain_volatile_functions(query)
    }
}

/// Could the expression let out something of a row, in an error or through a function of somebody's own? PostgreSQL knows, but takes it for granted
/// of subqueries, `coalesce` and domains, also where nothing of the row is in them: these are left out.
///
/// # Safety
/// An expression of a parsed tree.
pub(super) unsafe fn may_let_out(node: *mut pg_sys::Node) -> bool {
    use pg_sys::NodeTag::*;
    // SAFETY: a tree that nobody changes (callers); nodes with this tag are of this type. What is given instead is made here, or a test, in which
    // parameters stand for what the subquery gives.
    unsafe {
        if !sublinks(node).into_iter().all(|link| is_constant(link)) {
            return true;
        }
        let alone = replaced(node, &mut |inner| match (*inner).type_ {
            T_SubLink if !(*inner.cast::<pg_sys::SubLink>()).testexpr.is_null() => {
                Some((*inner.cast::<pg_sys::SubLink>()).testexpr)
            }
            T_SubLink => Some(pg_sys::makeBoolConst(false, true)),
            T_CoalesceExpr | T_CoerceToDomain if pg_sys::contain_var_clause(inner) => Some(inner),
            T_CoalesceExpr | T_CoerceToDomain => Some(pg_sys::makeBoolConst(false, true)),
            _ => None,
        });
        pg_sys::contain_leaked_vars(alone)
    }
}

/// What `(SELECT expression)` gives, if there is no more to it.
///
/// # Safety
/// An expression of a parsed tree.
pub unsafe fn selected(node: *mut pg_sys::Node) -> Option<*mut pg_sys::Node> {
    // SAFETY: nodes with these tags are of these types.
    unsafe {
        let link = node.cast::<pg_sys::SubLink>();
        if (*node).type_ != pg_sys::NodeTag::T_SubLink || (*link).subLinkType != pg_sys::SubLinkType::EXPR_SUBLINK {
            return None;
        }
        let query = (*link).subselect.cast::<pg_sys::Query>();
        let from = (*query).jointree;
        let alone =
            (*query).rtable.is_null() && (*query).cteList.is_null() && (from.is_null() || (*from).quals.is_null());
        match pointers::<pg_sys::TargetEntry>((*query).targetList)[..] {
            [target] if alone && returns_rows_as_they_are(query) => Some((*target).expr.cast()),
            _ => None,
        }
    }
}

/// Does the query refer to nothing around it?
///
/// # Safety
/// A query of a parsed or a rewritten tree.
pub unsafe fn is_uncorrelated(query: *mut pg_sys::Query) -> bool {
    let mut inside = true;
    // SAFETY: nodes with these tags are of these types.
    unsafe {
        walk(query.cast(), &mut |node, depth| match (*node).type_ {
            pg_sys::NodeTag::T_Var => inside &= (*node.cast::<pg_sys::Var>()).varlevelsup < depth,
            pg_sys::NodeTag::T_Aggref => inside &= (*node.cast::<pg_sys::Aggref>()).agglevelsup < depth,
            pg_sys::NodeTag::T_GroupingFunc => inside &= (*node.cast::<pg_sys::GroupingFunc>()).agglevelsup < depth,
            pg_sys::NodeTag::T_Param => {
                inside &= (*node.cast::<pg_sys::Param>()).paramkind != pg_sys::ParamKind::PARAM_EXTERN;
            }
            _ => {}
        });
    }
    inside
}

/// The Vars in an expression, not those in its subqueries.
///
/// # Safety
/// The node is NULL or of a parsed tree.
pub(super) unsafe fn vars(node: *mut pg_sys::Node) -> Vec<*mut pg_sys::Var> {
    // SAFETY: as above.
    unsafe { outermost(node, pg_sys::NodeTag::T_Var) }
}

/// The nodes with this tag, which are of type `T`, in an expression but not in its subqueries.
///
/// # Safety
/// The node is NULL or of a parsed tree.
unsafe fn outermost<T>(node: *mut pg_sys::Node, tag: pg_sys::NodeTag) -> Vec<*mut T> {
    let mut found = Vec::new();
    // SAFETY: an expression of a tree that nobody changes (callers).
    unsafe {
        walk(node, &mut |inner, depth| {
            if depth == 0 && (*inner).type_ == tag {
                found.push(inner.cast());
            }
        });
    }
    found
}

/// How often each relation stands in a FROM clause, anywhere in an expression or a query.
///
/// # Safety
/// The node is NULL or of a parsed tree.
pub unsafe fn relations_read(node: *mut pg_sys::Node) -> BTreeMap<u32, usize> {
    let mut read = BTreeMap::new();
    // SAFETY: a tree that nobody changes (callers).
    unsafe {
        for entry in relation_entries(node) {
            *read.entry((*entry).relid.to_u32()).or_insert(0) += 1;
        }
    }
    read
}

/// The entries of relations in FROM clauses, anywhere in an expression or a query.
///
/// # Safety
/// The node is NULL or of a parsed tree.
pub unsafe fn relation_entries(node: *mut pg_sys::Node) -> Vec<*mut pg_sys::RangeTblEntry> {
    let mut found = Vec::new();
    // SAFETY: a tree that nobody changes (callers); nodes with this tag are queries.
    unsafe {
        walk(node, &mut |inner, _| {
            if (*inner).type_ == pg_sys::NodeTag::T_Query {
                let entries = pointers::<pg_sys::RangeTblEntry>((*inner.cast::<pg_sys::Query>()).rtable).into_iter();
                let relations = entries.filter(|entry| (**entry).rtekind == pg_sys::RTEKind::RTE_RELATION);
                memory::extend(&mut found, relations);
            }
        });
    }
    found
}

/// Range table entries (from 1) of which a query, or a subquery of it, reads more than columns: the row as a whole (`members.*`), or
/// what only a stored row has (`tableoid`).
///
/// # Safety
/// An analyzed query.
pub(super) unsafe fn whole_rows(query: *mut pg_sys::Query) -> BTreeSet<usize> {
    let mut whole = BTreeSet::new();
    let mut all = false;
    // SAFETY: a tree that nobody changes (callers).
    unsafe {
        let entries = pointers::<pg_sys::RangeTblEntry>((*query).rtable);
        walk(query.cast(), &mut |inner, depth| {
            if (*inner).type_ != pg_sys::NodeTag::T_Var {
                return;
            }
            let var = &*inner.cast::<pg_sys::Var>();
            if var.varattno > 0 || var.varlevelsup + 1 != depth {
                return;
            }
            match entries.get(var.varno as usize - 1) {
                // An alias of a join stands for all that is joined; which that is, is not worth knowing.
                Some(entry) if (**entry).rtekind == pg_sys::RTEKind::RTE_JOIN => all = true,
                _ => _ = whole.insert(var.varno as usize),
            }
        });
        if all {
            whole.extend(1..=entries.len());
        }
    }
    whole
}

/// The columns of its range table entries (by number, from 1) that a query reads, itself or in subqueries: 0 for the row as a whole, and
/// numbers below for what only a stored row has.
///
/// # Safety
/// An analyzed query.
pub unsafe fn columns_read(query: *mut pg_sys::Query) -> BTreeMap<usize, BTreeSet<i16>> {
    let mut read: BTreeMap<usize, BTreeSet<i16>> = BTreeMap::new();
    let mut open: Vec<(usize, i16)> = Vec::new();
    let mut add = |node: *mut pg_sys::Node, depth: u32, open: &mut Vec<(usize, i16)>| {
        // SAFETY: nodes with this tag are of this type.
        let var = unsafe {
            if (*node).type_ != pg_sys::NodeTag::T_Var {
                return;
            }
            &*node.cast::<pg_sys::Var>()
        };
        if var.varlevelsup == depth && read.entry(var.varno as usize).or_default().insert(var.varattno) {
            open.push((var.varno as usize, var.varattno));
        }
    };
    // SAFETY: a tree that nobody changes (callers). What columns of joins stand for is looked up for those that are read.
    unsafe {
        let entries = pointers::<pg_sys::RangeTblEntry>((*query).rtable);
        walk_but(query.cast(), pg_sys::QTW_IGNORE_JOINALIASES, &mut |node, depth| {
            if depth > 0 {
                add(node, depth - 1, &mut open);
            }
        });
        while let Some((entry, column)) = open.pop() {
            let Some(join) = entries.get(entry.wrapping_sub(1)) else { continue };
            if (**join).rtekind == pg_sys::RTEKind::RTE_JOIN {
                let all = pointers::<pg_sys::Node>((**join).joinaliasvars);
                let meant = match usize::try_from(column).ok().and_then(|c| c.checked_sub(1)) {
                    Some(at) => all.get(at).map(std::slice::from_ref).unwrap_or_default(),
                    None => &all[..],
                };
                meant.iter().for_each(|node| walk(*node, &mut |inner, depth| add(inner, depth, &mut open)));
            }
        }
    }
    read
}

/// Can what the query returns say anything but the column's value in one row: do LIMIT, DISTINCT, aggregates or a set operation
/// choose among its rows?
///
/// # Safety
/// An analyzed query.
pub unsafe fn returns_rows_as_they_are(query: *mut pg_sys::Query) -> bool {
    // SAFETY: a query of a tree that nobody changes.
    let q = unsafe { &*query };
    q.limitCount.is_null()
        && q.limitOffset.is_null()
        && q.distinctClause.is_null()
        && q.groupClause.is_null()
        && q.groupingSets.is_null()
        && q.havingQual.is_null()
        && q.setOperations.is_null()
        && !q.hasAggs
        && !q.hasWindowFuncs
        && !q.hasTargetSRFs
}
