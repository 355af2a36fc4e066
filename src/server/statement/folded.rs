//! Functions that planning calls: somebody has made them, they are marked IMMUTABLE, and their arguments have nothing of a row.
//!
//! The planner calls such a function and puts what it answers into the plan. One that reads a setting (who is it that asks?) is marked
//! wrongly; that happens, and does no harm where a plan serves one statement. In a plan that is kept, what it said to one user would hold for
//! those who have the session next. So where there is such a function no plan is kept. What it reads cannot be known.

use std::collections::BTreeSet;
use std::ffi::{c_void, CStr};

use pgrx::pg_sys::{self, NodeTag, RTEKind, SysCacheIdentifier::PROCOID};
use pgrx::prelude::*;

use crate::server::error::Result;
use crate::server::memory;
use crate::server::node::walk;
use crate::server::pg::Lasting;
use crate::server::spi::pointers;
use crate::server::subxact;

/// SQLlanguageId and FirstNormalObjectId of the server's headers.
const SQL: u32 = 14;
const FIRST_MADE: u32 = 16384;

/// A query reads through others, and those through others again, as somebody has written them; what takes more steps is taken for folded.
const STEPS: usize = 10_000;

/// Does planning these queries, in which policies and views stand already, call such a function?
///
/// # Safety
/// A list of rewritten queries, or one.
pub unsafe fn calls_any(queries: *mut pg_sys::Node) -> Result<bool> {
    let mut search = FoldedSearch { found: BTreeSet::new(), opened: BTreeSet::new(), steps: 0, texts: true };
    // SAFETY: see above.
    unsafe { search.look(queries, None)? };
    Ok(!search.found.is_empty())
}

/// Those that a condition calls. Bodies that are texts are not looked into: that would read their literals, as whoever asks.
///
/// # Safety
/// A stored tree.
pub unsafe fn named_in(condition: *mut pg_sys::Node) -> Result<BTreeSet<u32>> {
    let mut search = FoldedSearch { found: BTreeSet::new(), opened: BTreeSet::new(), steps: 0, texts: false };
    // SAFETY: see above.
    unsafe { search.look(condition, None)? };
    Ok(search.found)
}

struct FoldedSearch {
    found: BTreeSet<u32>,
    /// Functions whose bodies were looked at, with which of their arguments have something of a row.
    opened: BTreeSet<(u32, Vec<bool>)>,
    steps: usize,
    texts: bool,
}

/// A call of a function that somebody has made.
struct MadeCall {
    function: pg_sys::Oid,
    /// Which of its arguments have something of a row, where their order is known.
    of_row: Vec<bool>,
}

impl FoldedSearch {
    /// `of_row`: where the tree is a body, which of the function's arguments have something of a row.
    ///
    /// # Safety
    /// A tree that nobody changes.
    unsafe fn look(&mut self, tree: *mut pg_sys::Node, of_row: Option<&[bool]>) -> Result<()> {
        let (mut around, mut calls): (Vec<*mut pg_sys::Query>, Vec<MadeCall>) = (Vec::new(), Vec::new());
        // SAFETY: nodes with this tag are queries; `around` are those that the node stands in.
        unsafe {
            walk(tree, &mut |node, depth| {
                if (*node).type_ == NodeTag::T_Query {
                    around.truncate(depth as usize - 1);
                    around.push(node.cast());
                    return;
                }
                around.truncate(depth as usize);
                let row = FromRow { around: &around, arguments: of_row };
                for function in functions_of(node) {
                    if pg_sys::func_volatile(function) as u8 == pg_sys::PROVOLATILE_IMMUTABLE
                        && !row.is_in(node, &mut self.steps)
                    {
                        self.found.insert(function.to_u32());
                    }
                    let arguments = arguments_of(node);
                    let of_row = arguments.into_iter().map(|node| row.is_in(node, &mut self.steps));
                    calls.push(MadeCall { function, of_row: of_row.collect() });
                }
            });
            calls.into_iter().try_for_each(|call| self.look_into(call))
        }
    }

    /// What the planner puts in the place of a call: what is left to defaults, and a body in SQL.
    ///
    /// # Safety
    /// As for `look`.
    unsafe fn look_into(&mut self, call: MadeCall) -> Result<()> {
        memory::heed();
        let given = call.of_row.len();
        if !self.found.is_empty() && self.texts || !self.opened.insert((call.function.to_u32(), call.of_row.clone())) {
            return Ok(());
        }
        // SAFETY: an existing function; what is read of it is copied.
        unsafe {
            let Some(function) = Function::of(call.function) else { return Ok(()) };
            if let Some(defaults) = function.defaults(given) {
                self.look(defaults, Some(&[]))?;
            }
            match function.body(self.texts)? {
                Body::None => Ok(()),
                Body::Tree(tree) => self.look(tree, Some(&call.of_row)),
                Body::Unreadable => {
                    self.found.insert(call.function.to_u32());
                    Ok(())
                }
            }
        }
    }
}

/// What of a tree comes from a row, so that it is no constant to the planner.
struct FromRow<'a> {
    /// The queries around.
    around: &'a [*mut pg_sys::Query],
    arguments: Option<&'a [bool]>,
}

impl FromRow<'_> {
    /// Has the node something of a row, or of what is known when the plan runs? (A subquery is never made a constant.)
    ///
    /// # Safety
    /// A node that stands in these queries.
    unsafe fn is_in(&self, node: *mut pg_sys::Node, steps: &mut usize) -> bool {
        let mut found = false;
        // SAFETY: nodes with these tags are of these types.
        unsafe {
            walk(node, &mut |inner, _| {
                *steps += 1;
                if found || *steps > STEPS {
                    return;
                }
                found = match (*inner).type_ {
                    NodeTag::T_SubLink | NodeTag::T_Aggref | NodeTag::T_WindowFunc | NodeTag::T_GroupingFunc => true,
                    NodeTag::T_Var => self.is_column(inner.cast(), steps),
                    NodeTag::T_Param => {
                        let at = ((*inner.cast::<pg_sys::Param>()).paramid as usize).wrapping_sub(1);
                        // A statement's own: a plan that is kept is made for any.
                        self.arguments.is_none_or(|arguments| arguments.get(at) == Some(&true))
                    }
                    _ => false,
                };
            });
        }
        found
    }

    /// Is it a table's column? Those of subqueries can be constants, as what they stand for.
    ///
    /// # Safety
    /// As for `is_in`.
    unsafe fn is_column(&self, var: *mut pg_sys::Var, steps: &mut usize) -> bool {
        // SAFETY: range table entries of the query that the Var names. Without a query around, it is the policy's own table.
        unsafe {
            let Some(at) = self.around.len().checked_sub(1 + (*var).varlevelsup as usize) else { return true };
            let entries = pointers::<pg_sys::RangeTblEntry>((*self.around[at]).rtable);
            let Some(entry) = entries.get(((*var).varno as usize).wrapping_sub(1)) else { return true };
            let column = usize::try_from((*var).varattno).ok().and_then(|number| number.checked_sub(1));
            let mut around = self.around[..=at].to_vec();
            let stands_for = match (**entry).rtekind {
                RTEKind::RTE_RELATION | RTEKind::RTE_NAMEDTUPLESTORE | RTEKind::RTE_TABLEFUNC => return true,
                RTEKind::RTE_JOIN => {
                    let all = pointers::<pg_sys::Node>((**entry).joinaliasvars);
                    column.and_then(|column| all.get(column).copied())
                }
                RTEKind::RTE_SUBQUERY if (*(**entry).subquery).setOperations.is_null() => {
                    around.push((**entry).subquery);
                    let all = pointers::<pg_sys::TargetEntry>((*(**entry).subquery).targetList);
                    column.and_then(|column| all.get(column).map(|target| (**target).expr.cast()))
                }
                _ => None,
            };
            let row = FromRow { around: &around, arguments: self.arguments };
            stands_for.is_some_and(|node: *mut pg_sys::Node| !node.is_null() && row.is_in(node, steps))
        }
    }
}

/// The functions made by somebody that a node calls itself; aggregates are never called by the planner.
///
/// # Safety
/// A node.
unsafe fn functions_of(node: *mut pg_sys::Node) -> Vec<pg_sys::Oid> {
    /// # Safety
    /// Called by `check_functions_in_node`, with the list below.
    #[pg_guard]
    unsafe extern "C-unwind" fn note(function: pg_sys::Oid, list: *mut c_void) -> bool {
        if function.to_u32() >= FIRST_MADE {
            // SAFETY: see above.
            unsafe { (*list.cast::<Vec<pg_sys::Oid>>()).push(function) };
        }
        false
    }
    let mut functions: Vec<pg_sys::Oid> = Vec::new();
    // SAFETY: the list outlives the call. (It fills in which function an operator has, where that is not known yet.)
    unsafe {
        if !matches!((*node).type_, NodeTag::T_Aggref | NodeTag::T_WindowFunc) {
            pg_sys::check_functions_in_node(node, Some(note), (&raw mut functions).cast());
        }
    }
    functions
}

/// The arguments of a call in their order; none where that is not known.
///
/// # Safety
/// A node.
unsafe fn arguments_of(node: *mut pg_sys::Node) -> Vec<*mut pg_sys::Node> {
    // SAFETY: nodes with these tags are of these types; the next three are the same.
    unsafe {
        let arguments = match (*node).type_ {
            NodeTag::T_FuncExpr => pointers((*node.cast::<pg_sys::FuncExpr>()).args),
            NodeTag::T_OpExpr | NodeTag::T_DistinctExpr | NodeTag::T_NullIfExpr => {
                pointers((*node.cast::<pg_sys::OpExpr>()).args)
            }
            _ => Vec::new(),
        };
        let is_named = |node: &*mut pg_sys::Node| (**node).type_ == NodeTag::T_NamedArgExpr;
        if arguments.iter().any(is_named) {
            Vec::new()
        } else {
            arguments
        }
    }
}

enum Body {
    /// The planner leaves the call as it is.
    None,
    Tree(*mut pg_sys::Node),
    Unreadable,
}

/// A function's row in the catalog, held until it is dropped.
struct Function(pg_sys::HeapTuple);

impl Drop for Function {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: found by `of`.
            unsafe { pg_sys::ReleaseSysCache(self.0) };
        }
    }
}

// SAFETY: as in executor/functions.h.
unsafe extern "C-unwind" {
    fn prepare_sql_fn_parse_info(
        function: pg_sys::HeapTuple,
        call: *mut pg_sys::Node,
        collation: pg_sys::Oid,
    ) -> *mut c_void;
    fn sql_fn_parser_setup(state: *mut pg_sys::ParseState, info: *mut c_void);
}

impl Function {
    /// # Safety
    /// None: a syscache look-up.
    unsafe fn of(function: pg_sys::Oid) -> Option<Function> {
        // SAFETY: released by `drop`.
        let tuple = unsafe { pg_sys::SearchSysCache1(PROCOID as i32, pg_sys::Datum::from(function)) };
        (!tuple.is_null()).then_some(Function(tuple))
    }

    fn row(&self) -> &pg_sys::FormData_pg_proc {
        // SAFETY: the row of a tuple of pg_proc, which is held.
        unsafe { &*pg_sys::heap_tuple_get_struct(self.0) }
    }

    fn text(&self, attribute: u32) -> Option<&CStr> {
        let mut is_null = false;
        // SAFETY: a text of this tuple; the copy is palloc'd and lives longer than this.
        unsafe {
            let datum = pg_sys::SysCacheGetAttr(PROCOID as i32, self.0, attribute as i16, &mut is_null);
            (!is_null).then(|| CStr::from_ptr(pg_sys::text_to_cstring(datum.cast_mut_ptr())))
        }
    }

    /// What stands for arguments that a call with so many leaves out.
    fn defaults(&self, given: usize) -> Option<*mut pg_sys::Node> {
        let lacks = self.row().pronargdefaults > 0 && given < self.row().pronargs as usize;
        let text = self.text(pg_sys::Anum_pg_proc_proargdefaults).filter(|_| lacks)?;
        // SAFETY: a stored tree.
        Some(unsafe { pg_sys::stringToNode(text.as_ptr()) }.cast())
    }

    /// The body, where the planner may put it in the place of the call (inline_function() of optimizer/util/clauses.c); with texts, those too.
    fn body(&self, texts: bool) -> Result<Body> {
        let row = self.row();
        let is_plain = row.prolang.to_u32() == SQL && row.prokind as u8 == pg_sys::PROKIND_FUNCTION && !row.prosecdef;
        let has_settings = self.text_is_there(pg_sys::Anum_pg_proc_proconfig);
        if !is_plain || has_settings || !may_execute(row.oid) {
            return Ok(Body::None);
        }
        // SAFETY: trees of our own.
        unsafe {
            if let Some(stored) = self.text(pg_sys::Anum_pg_proc_prosqlbody) {
                return Ok(Body::Tree(self.rewritten(pg_sys::stringToNode(stored.as_ptr()).cast(), texts)));
            }
            let Some(source) = self.text(pg_sys::Anum_pg_proc_prosrc).filter(|_| texts) else { return Ok(Body::None) };
            let types = std::slice::from_raw_parts(row.proargtypes.values.as_ptr(), row.pronargs as usize);
            if types.iter().any(|t| pg_sys::get_typtype(*t) as u8 == pg_sys::TYPTYPE_PSEUDO) {
                return Ok(Body::Unreadable);
            }
            // The planner reads it in just this way, but only if it comes to that: an error in it is not the statement's.
            let lasting = Lasting::here();
            let parse = || {
                let parsed = pointers::<pg_sys::RawStmt>(pg_sys::pg_parse_query(source.as_ptr()));
                let [statement] = parsed[..] else { return Ok(Body::None) };
                let info = prepare_sql_fn_parse_info(self.0, std::ptr::null_mut(), pg_sys::InvalidOid);
                let state = pg_sys::make_parsestate(std::ptr::null_mut());
                (*state).p_sourcetext = source.as_ptr();
                sql_fn_parser_setup(state, info);
                let tree = pg_sys::transformTopLevelStmt(state, statement);
                pg_sys::free_parsestate(state);
                Ok(Body::Tree(self.rewritten(tree.cast(), true)))
            };
            let read = subxact::try_out(|| lasting.run(parse));
            match read {
                Err(e) if e.is_cancellation() || subxact::is_transient(&e) => Err(e),
                read => Ok(read.unwrap_or(Body::Unreadable)),
            }
        }
    }

    /// With views and policies in it, where the planner has the rewriter see to that: of a function in FROM.
    ///
    /// # Safety
    /// A tree of our own, which is changed.
    unsafe fn rewritten(&self, tree: *mut pg_sys::Node, may_lock: bool) -> *mut pg_sys::Node {
        // SAFETY: see above; a body in standard SQL is a query, or a list that holds a list of them.
        unsafe {
            let mut query = tree;
            while !query.is_null() && (*query).type_ == NodeTag::T_List {
                let [only] = pointers::<pg_sys::Node>(query.cast())[..] else { return tree };
                query = only;
            }
            let is_query = !query.is_null() && (*query).type_ == NodeTag::T_Query;
            if !is_query
                || !may_lock
                || !self.row().proretset
                || (*query.cast::<pg_sys::Query>()).commandType != pg_sys::CmdType::CMD_SELECT
            {
                return tree;
            }
            pg_sys::AcquireRewriteLocks(query.cast(), true, false);
            pg_sys::pg_rewrite_query(query.cast()).cast()
        }
    }

    fn text_is_there(&self, attribute: u32) -> bool {
        let mut is_null = false;
        // SAFETY: an attribute of this tuple.
        unsafe { pg_sys::SysCacheGetAttr(PROCOID as i32, self.0, attribute as i16, &mut is_null) };
        !is_null
    }
}

fn may_execute(function: pg_sys::Oid) -> bool {
    let (user, mode) = (crate::server::pg::current_user(), pg_sys::ACL_EXECUTE as pg_sys::AclMode);
    // SAFETY: a look-up of an existing function.
    unsafe {
        #[cfg(feature = "pg15")]
        let result = pg_sys::pg_proc_aclcheck(function, user, mode);
        #[cfg(not(feature = "pg15"))]
        let result = pg_sys::object_aclcheck(pg_sys::ProcedureRelationId, function, user, mode);
        result == pg_sys::AclResult::ACLCHECK_OK
    }
}
