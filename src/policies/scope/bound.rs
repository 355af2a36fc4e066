//! What bounds a column in a policy's condition: `t.c = E` lets only rows be seen whose c is E. Found in the parsed tree, kept as a tree.
//!
//! A bound may give too much (a condition that has the row in it is left out of a subquery), never too little: wherever the condition is
//! true of a row, its value of the column is among those that the bound's queries give, put under the same circumstances.

use pgrx::pg_sys::{self, NodeTag};

use crate::policies::access::tree::{self, and_parts, strip, walk};
use crate::server::memory;
use crate::server::node::{list, node};
use crate::server::spi::pointers;

/// How a query says which values there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gives {
    /// In each row a value.
    Values,
    /// In each row an array of values.
    Arrays,
    /// True: the condition may hold for any row, whatever its value.
    Everything,
}

/// A part of a bound.
pub struct BoundPart {
    pub gives: Gives,
    /// A SELECT of its own, not rewritten.
    pub query: *mut pg_sys::Query,
    /// Which of its columns.
    pub column: i16,
    /// It is the same for everybody.
    pub is_constant: bool,
    /// The policy asks just that itself, in each statement that it is put to; not something else of each row.
    pub whole: bool,
}

/// What to look for. The relaxed ways only tell why there is no bound.
#[derive(Clone, Copy, Default)]
pub struct Search {
    /// The column; None: whichever.
    pub column: Option<i16>,
    /// Equality of any type, by any operator of that name.
    pub any_type: bool,
    /// What a volatile function gives counts, too.
    pub volatile: bool,
}

impl Search {
    /// The values that the column can have in rows of which the condition is true; None: any, for all that is known.
    ///
    /// # Safety
    /// An expression over range table entry 1, as policies are stored. It is only read; what is found are copies.
    pub unsafe fn bound(&self, condition: *mut pg_sys::Node) -> Option<Vec<BoundPart>> {
        // SAFETY: nodes with these tags are of these types.
        unsafe {
            memory::descend();
            match (*condition).type_ {
                NodeTag::T_BoolExpr => {
                    let expression = &*condition.cast::<pg_sys::BoolExpr>();
                    let parts = pointers::<pg_sys::Node>(expression.args).into_iter();
                    match expression.boolop {
                        // One of them is enough.
                        pg_sys::BoolExprType::AND_EXPR => {
                            parts.filter_map(|part| self.bound(part)).min_by_key(|sources| dearness(sources))
                        }
                        pg_sys::BoolExprType::OR_EXPR => {
                            let all = parts.map(|part| self.bound(part)).collect::<Option<Vec<_>>>()?;
                            Some(all.into_iter().flatten().collect())
                        }
                        _ => self.gate(condition),
                    }
                }
                NodeTag::T_Const => {
                    let constant = &*condition.cast::<pg_sys::Const>();
                    (constant.constisnull || constant.constvalue.value() == 0).then(Vec::new)
                }
                NodeTag::T_BooleanTest
                    if (*condition.cast::<pg_sys::BooleanTest>()).booltesttype == pg_sys::BoolTestType::IS_TRUE =>
                {
                    self.bound((*condition.cast::<pg_sys::BooleanTest>()).arg.cast())
                }
                _ => {
                    let found = self.leaf(condition).filter(|source| self.is_steady(source));
                    found.map(|source| vec![source]).or_else(|| self.gate(condition))
                }
            }
        }
    }

    /// A condition that has nothing of the row in it holds for all rows or for none.
    ///
    /// # Safety
    /// As for `bound`.
    unsafe fn gate(&self, condition: *mut pg_sys::Node) -> Option<Vec<BoundPart>> {
        // SAFETY: as in `bound`.
        unsafe {
            if mentions_row(condition, 0) {
                return None;
            }
            let source = BoundPart::of(condition, Gives::Everything);
            self.is_steady(&source).then(|| vec![source])
        }
    }

    /// Does it give the same each time that it is asked in one snapshot?
    ///
    /// # Safety
    /// A source that was just made.
    unsafe fn is_steady(&self, source: &BoundPart) -> bool {
        // SAFETY: a query of our own, which is only read.
        self.volatile || unsafe { !pg_sys::contain_volatile_functions(source.query.cast()) }
    }

    /// # Safety
    /// As in `bound`; neither AND nor OR.
    unsafe fn leaf(&self, condition: *mut pg_sys::Node) -> Option<BoundPart> {
        // SAFETY: nodes with these tags are of these types.
        unsafe {
            match (*condition).type_ {
                NodeTag::T_OpExpr => {
                    let operation = &*condition.cast::<pg_sys::OpExpr>();
                    let [a, b] = pointers::<pg_sys::Node>(operation.args)[..] else { return None };
                    let equal = |x, y| self.is_column(x, 0) && self.is_equality(operation) && !mentions_row(y, 0);
                    for (x, y) in [(a, b), (b, a)] {
                        if equal(x, y) {
                            return Some(BoundPart::of(y, Gives::Values));
                        }
                    }
                    // `E = (SELECT p.owner FROM parents AS p WHERE p.id = t.c)`: nothing is equal to NULL, so there is such a row.
                    for (x, y) in [(a, b), (b, a)] {
                        if let Some(link) = sublink(y, pg_sys::SubLinkType::EXPR_SUBLINK) {
                            if pg_sys::op_strict(operation.opno) && !mentions_row(x, 0) {
                                return self.through(link, &[condition]);
                            }
                        }
                    }
                    None
                }
                NodeTag::T_ScalarArrayOpExpr => {
                    let operation = as_operation(condition)?;
                    let [x, array] = pointers::<pg_sys::Node>(operation.args)[..] else { return None };
                    let bounds = self.is_column(x, 0) && self.is_equality(&operation) && !mentions_row(array, 0);
                    bounds.then(|| BoundPart::of(array, Gives::Arrays))
                }
                NodeTag::T_SubLink => {
                    let link = condition.cast::<pg_sys::SubLink>();
                    match (*link).subLinkType {
                        pg_sys::SubLinkType::EXISTS_SUBLINK => self.through(link, &[]),
                        pg_sys::SubLinkType::ANY_SUBLINK => self.any(link),
                        _ => None,
                    }
                }
                _ => None,
            }
        }
    }

    /// `t.c IN (SELECT ...)`, or `E IN (SELECT ... WHERE x = t.c)`.
    ///
    /// # Safety
    /// An ANY_SUBLINK of such an expression.
    unsafe fn any(&self, link: *mut pg_sys::SubLink) -> Option<BoundPart> {
        // SAFETY: nodes of that expression; the test compares with the subquery's columns, as parameters.
        unsafe {
            let mut tests = Vec::new();
            and_parts((*link).testexpr, &mut tests);
            let query = (*link).subselect.cast::<pg_sys::Query>();
            if !mentions_row(query.cast(), 0) {
                let output = tests.iter().find_map(|test| self.compared(*test));
                return output.map(|column| BoundPart { column, ..BoundPart::made(copy(query), Gives::Values) });
            }
            self.through(link, &tests)
        }
    }

    /// Which of a subquery's columns this test compares with the column.
    ///
    /// # Safety
    /// A test of an ANY_SUBLINK of such an expression.
    unsafe fn compared(&self, test: *mut pg_sys::Node) -> Option<i16> {
        // SAFETY: nodes with these tags are of these types.
        unsafe {
            if (*test).type_ != NodeTag::T_OpExpr {
                return None;
            }
            let operation = &*test.cast::<pg_sys::OpExpr>();
            let [x, y] = pointers::<pg_sys::Node>(operation.args)[..] else { return None };
            let output = parameter(y)?;
            (self.is_column(x, 0) && self.is_equality(operation)).then_some(output)
        }
    }

    /// A subquery that the row is in, and that must have a row for the condition to be true: what it says of its rows alone is asked,
    /// and what it says of ours but that the column is equal to something of its own is left out. `tests` compare with its output.
    ///
    /// # Safety
    /// A sublink of such an expression, and tests of it.
    unsafe fn through(&self, link: *mut pg_sys::SubLink, tests: &[*mut pg_sys::Node]) -> Option<BoundPart> {
        // SAFETY: nodes of that expression; what is changed is a copy.
        unsafe {
            let query = copy((*link).subselect.cast::<pg_sys::Query>());
            let q = &mut *query;
            let whole = q.setOperations.is_null()
                && q.groupClause.is_null()
                && q.groupingSets.is_null()
                && q.havingQual.is_null()
                && !(q.hasAggs || q.hasWindowFuncs || q.hasTargetSRFs)
                && !q.jointree.is_null();
            if !whole {
                return None;
            }
            let outputs = pointers::<pg_sys::TargetEntry>(q.targetList);
            let output = |n: i16| outputs.iter().find(|t| (***t).resno == n).map(|t| (**t).expr.cast::<pg_sys::Node>());
            let mut ties = Vec::new();
            let mut kept = Vec::new();
            self.prune(q.jointree.cast(), &mut ties);
            for test in tests {
                if let Some(tie) = self.compared(*test).and_then(output) {
                    ties.push((tie, Gives::Values));
                }
                kept.extend(inside(*test, link, &output));
            }
            let (tie, gives) = ties.into_iter().find(|(tie, _)| !mentions_row(*tie, 1))?;
            for condition in kept.into_iter().filter(|condition| !mentions_row(*condition, 1)) {
                (*q.jointree).quals = pg_sys::make_and_qual((*q.jointree).quals, condition);
            }
            let tie = pg_sys::copyObjectImpl(tie.cast()).cast();
            q.targetList = list(&[pg_sys::makeTargetEntry(tie, 1, pg_sys::pstrdup(NAME.as_ptr()), false)]);
            (q.distinctClause, q.sortClause, q.rowMarks) = (NONE, NONE, NONE);
            (q.limitOffset, q.limitCount, q.hasDistinctOn) = (std::ptr::null_mut(), std::ptr::null_mut(), false);
            q.hasForUpdate = false;
            q.hasSubLinks = true;
            (!mentions_row(query.cast(), 0)).then(|| BoundPart { whole: false, ..BoundPart::made(query, gives) })
        }
    }

    /// Leaves conditions out that have the row in them, of WHERE and of inner joins. `ties` gets what the column is equal to.
    ///
    /// # Safety
    /// A jointree of a subquery directly in such an expression, which is changed; ties are nodes of it.
    unsafe fn prune(&self, item: *mut pg_sys::Node, ties: &mut Vec<(*mut pg_sys::Node, Gives)>) {
        memory::descend();
        // SAFETY: nodes with these tags are of these types.
        unsafe {
            let quals = match (*item).type_ {
                NodeTag::T_FromExpr => {
                    let from = item.cast::<pg_sys::FromExpr>();
                    pointers::<pg_sys::Node>((*from).fromlist).into_iter().for_each(|item| self.prune(item, ties));
                    &raw mut (*from).quals
                }
                NodeTag::T_JoinExpr if (*item.cast::<pg_sys::JoinExpr>()).jointype == pg_sys::JoinType::JOIN_INNER => {
                    let join = item.cast::<pg_sys::JoinExpr>();
                    self.prune((*join).larg, ties);
                    self.prune((*join).rarg, ties);
                    &raw mut (*join).quals
                }
                _ => return,
            };
            let mut parts = Vec::new();
            and_parts(*quals, &mut parts);
            let (with_row, without): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| mentions_row(*part, 1));
            ties.extend(with_row.into_iter().filter_map(|part| self.tie(part)));
            *quals = match without[..] {
                [] => std::ptr::null_mut(),
                [one] => one,
                _ => pg_sys::makeBoolExpr(pg_sys::BoolExprType::AND_EXPR, list(&without), -1).cast(),
            };
        }
    }

    /// What this condition inside a subquery says that the column is equal to.
    ///
    /// # Safety
    /// A condition of a subquery directly in such an expression.
    unsafe fn tie(&self, condition: *mut pg_sys::Node) -> Option<(*mut pg_sys::Node, Gives)> {
        // SAFETY: nodes with these tags are of these types.
        unsafe {
            match (*condition).type_ {
                NodeTag::T_OpExpr => {
                    let operation = &*condition.cast::<pg_sys::OpExpr>();
                    let [a, b] = pointers::<pg_sys::Node>(operation.args)[..] else { return None };
                    let other = [(a, b), (b, a)].into_iter().find(|(x, _)| self.is_column(*x, 1))?.1;
                    self.is_equality(operation).then_some((other, Gives::Values))
                }
                NodeTag::T_ScalarArrayOpExpr => {
                    let operation = as_operation(condition)?;
                    let [x, array] = pointers::<pg_sys::Node>(operation.args)[..] else { return None };
                    (self.is_column(x, 1) && self.is_equality(&operation)).then_some((array, Gives::Arrays))
                }
                _ => None,
            }
        }
    }

    /// Is it the column, or its text? `up`: how many subqueries around it.
    ///
    /// # Safety
    /// A node of such an expression.
    unsafe fn is_column(&self, x: *mut pg_sys::Node, up: u32) -> bool {
        // SAFETY: see above.
        unsafe { column_at(x, up).is_some_and(|found| self.column.is_none_or(|column| column == found)) }
    }

    /// Does it hold of two values only if their texts are the same? The log has the column's text, and is asked for those of the bound.
    /// So it is of types that write each value in one way: uuid, smallint, integer, bigint (also with each other), text and varchar
    /// under a collation to which different texts are different. Not so are numeric (1.0 = 1), citext, character (blanks), dates and
    /// floats (settings).
    ///
    /// # Safety
    /// An analyzed operation.
    unsafe fn is_equality(&self, operation: &pg_sys::OpExpr) -> bool {
        // SAFETY: catalog look-ups.
        unsafe {
            if self.any_type {
                let name = pg_sys::get_opname(operation.opno);
                return !name.is_null() && std::ffi::CStr::from_ptr(name).to_bytes() == b"=";
            }
            if operation.opno.to_u32() >= pg_sys::FirstNormalObjectId {
                return false;
            }
            [pg_sys::UUIDOID, pg_sys::INT4OID, pg_sys::TEXTOID].into_iter().any(|type_| {
                let family = (*pg_sys::lookup_type_cache(type_, pg_sys::TYPECACHE_BTREE_OPFAMILY as i32)).btree_opf;
                let strategy = pg_sys::get_op_opfamily_strategy(operation.opno, family);
                strategy == pg_sys::BTEqualStrategyNumber as i32
                    && (type_ != pg_sys::TEXTOID || pg_sys::get_collation_isdeterministic(operation.inputcollid))
            })
        }
    }
}

/// Which column of the policy's row it is, or the text of which. `up`: how many subqueries around it.
///
/// # Safety
/// A node of such an expression.
pub unsafe fn column_at(x: *mut pg_sys::Node, up: u32) -> Option<i16> {
    // SAFETY: nodes with these tags are of these types.
    unsafe {
        let mut x = strip(x);
        if (*x).type_ == NodeTag::T_CoerceViaIO {
            let text = &*x.cast::<pg_sys::CoerceViaIO>();
            if ![pg_sys::TEXTOID, pg_sys::VARCHAROID].contains(&text.resulttype) {
                return None;
            }
            x = strip(text.arg.cast());
        }
        if (*x).type_ != NodeTag::T_Var {
            return None;
        }
        let var = &*x.cast::<pg_sys::Var>();
        (var.varlevelsup == up && var.varno as u32 == 1 && var.varattno > 0).then_some(var.varattno)
    }
}

const NAME: &std::ffi::CStr = c"scope";
const NONE: *mut pg_sys::List = std::ptr::null_mut();

impl BoundPart {
    /// `SELECT expression`.
    ///
    /// # Safety
    /// An expression without anything of a row.
    unsafe fn of(expression: *mut pg_sys::Node, gives: Gives) -> BoundPart {
        // SAFETY: nodes of our own, and a copy.
        unsafe {
            let query: *mut pg_sys::Query = node(NodeTag::T_Query);
            (*query).commandType = pg_sys::CmdType::CMD_SELECT;
            (*query).jointree = pg_sys::makeFromExpr(NONE, std::ptr::null_mut());
            (*query).hasSubLinks = pg_sys::checkExprHasSubLink(expression);
            let copy = pg_sys::copyObjectImpl(expression.cast()).cast();
            (*query).targetList = list(&[pg_sys::makeTargetEntry(copy, 1, pg_sys::pstrdup(NAME.as_ptr()), false)]);
            BoundPart { is_constant: is_constant(expression), ..BoundPart::made(query, gives) }
        }
    }

    /// # Safety
    /// A query of our own.
    unsafe fn made(query: *mut pg_sys::Query, gives: Gives) -> BoundPart {
        // SAFETY: see above.
        unsafe { (*query).canSetTag = true };
        BoundPart { gives, query, column: 1, is_constant: false, whole: true }
    }

    /// Does it say whose rows the caller's are, by the column?
    pub fn tells(&self) -> bool {
        self.gives != Gives::Everything && !self.is_constant
    }
}

/// Of several bounds the least is taken: those that need no table before others, those that say nothing of the caller last.
pub fn dearness(sources: &[BoundPart]) -> u8 {
    let of = |source: &BoundPart| match source.gives {
        _ if source.is_constant => 3,
        Gives::Everything => 2,
        // SAFETY: a query of our own, which is only read.
        _ if unsafe { crate::policies::access::tree::relations_read(source.query.cast()) }.is_empty() => 0,
        _ => 1,
    };
    sources.iter().map(of).max().unwrap_or(0)
}

/// Is anything of the policy's row in it, which is `up` levels up from here? (A query's own nodes are one level further down than it.)
///
/// # Safety
/// A node of such an expression.
unsafe fn mentions_row(inner: *mut pg_sys::Node, up: u32) -> bool {
    let mut found = false;
    // SAFETY: a tree that is only read; nodes with this tag are Vars.
    unsafe {
        walk(inner, &mut |n, depth| {
            if (*n).type_ == NodeTag::T_Var {
                found |= (*n.cast::<pg_sys::Var>()).varlevelsup == depth + up;
            }
        });
    }
    found
}

/// `x = ANY (array)` as an operation on x and the array.
///
/// # Safety
/// A ScalarArrayOpExpr.
unsafe fn as_operation(condition: *mut pg_sys::Node) -> Option<pg_sys::OpExpr> {
    // SAFETY: see above.
    let operation = unsafe { &*condition.cast::<pg_sys::ScalarArrayOpExpr>() };
    operation.useOr.then(|| pg_sys::OpExpr {
        opno: operation.opno,
        inputcollid: operation.inputcollid,
        args: operation.args,
        ..Default::default()
    })
}

/// # Safety
/// A node of an analyzed expression.
unsafe fn sublink(x: *mut pg_sys::Node, kind: pg_sys::SubLinkType::Type) -> Option<*mut pg_sys::SubLink> {
    // SAFETY: nodes with this tag are of this type.
    unsafe {
        let link = strip(x).cast::<pg_sys::SubLink>();
        ((*link.cast::<pg_sys::Node>()).type_ == NodeTag::T_SubLink && (*link).subLinkType == kind).then_some(link)
    }
}

/// The column of a subquery's output that a test compares with.
///
/// # Safety
/// A node of an analyzed expression.
unsafe fn parameter(x: *mut pg_sys::Node) -> Option<i16> {
    // SAFETY: nodes with this tag are of this type.
    unsafe {
        let param = strip(x).cast::<pg_sys::Param>();
        let is = (*param.cast::<pg_sys::Node>()).type_ == NodeTag::T_Param;
        (is && (*param).paramkind == pg_sys::ParamKind::PARAM_SUBLINK).then(|| (*param).paramid as i16)
    }
}

/// A test of a subquery's output as a condition inside of it; None where that cannot be said.
///
/// # Safety
/// A test of this sublink, in such an expression.
unsafe fn inside(
    test: *mut pg_sys::Node,
    link: *mut pg_sys::SubLink,
    output: &dyn Fn(i16) -> Option<*mut pg_sys::Node>,
) -> Option<*mut pg_sys::Node> {
    // SAFETY: nodes with these tags are of these types; what is changed is a copy, of the operation alone.
    unsafe {
        if (*test).type_ != NodeTag::T_OpExpr {
            return None;
        }
        let operation = &*test.cast::<pg_sys::OpExpr>();
        let mut sides = Vec::new();
        for side in pointers::<pg_sys::Node>(operation.args) {
            let is_link = strip(side) == link.cast();
            sides.push(match if is_link { Some(1) } else { parameter(side) } {
                Some(n) => {
                    let value = output(n)?;
                    // With a cast that changes no bits, it would have to be written again.
                    (pg_sys::exprType(value) == pg_sys::exprType(side)).then_some(value)?
                }
                None if mentions_row(side, 0) => return None,
                None => side,
            });
        }
        let made: *mut pg_sys::OpExpr = pg_sys::palloc0(std::mem::size_of::<pg_sys::OpExpr>()).cast();
        *made = *operation;
        (*made).args = pg_sys::copyObjectImpl(list(&sides).cast()).cast();
        Some(made.cast())
    }
}

/// # Safety
/// An analyzed expression.
unsafe fn is_constant(expression: *mut pg_sys::Node) -> bool {
    // SAFETY: nodes with these tags are of these types.
    unsafe {
        let is = |x: *mut pg_sys::Node| (*strip(x)).type_ == NodeTag::T_Const;
        let mut x = strip(expression);
        while let Some(alone) = tree::selected(x) {
            x = strip(alone);
        }
        is(x)
            || (*x).type_ == NodeTag::T_ArrayExpr
                && pointers::<pg_sys::Node>((*x.cast::<pg_sys::ArrayExpr>()).elements).into_iter().all(is)
    }
}

/// # Safety
/// A query.
unsafe fn copy(query: *mut pg_sys::Query) -> *mut pg_sys::Query {
    // SAFETY: see above.
    unsafe { pg_sys::copyObjectImpl(query.cast()).cast() }
}
