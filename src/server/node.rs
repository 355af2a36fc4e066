//! Nodes of trees: built, not parsed, and visited.

use std::ffi::c_void;

use pgrx::pg_sys::{self, NodeTag};
use pgrx::prelude::*;

/// What PostgreSQL's walkers call for each node: true ends the walk.
///
/// # Safety
/// Called with a node of the tree that is walked, or NULL, and the context that the walker was given.
pub type Walker = unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut c_void) -> bool;

/// What PostgreSQL's mutators call for each node: what stands in its place in the copy.
///
/// # Safety
/// Called with a node of the tree that is copied, or NULL, and the context that the mutator was given.
pub type TreeMutator = unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut c_void) -> *mut pg_sys::Node;

/// makeNode() of nodes/nodes.h: zeroed, with its tag.
pub fn node<T>(tag: NodeTag) -> *mut T {
    // SAFETY: palloc'd room for one; the first member of each type of nodes is its tag.
    unsafe {
        let node = pg_sys::palloc0(std::mem::size_of::<T>());
        (*node.cast::<pg_sys::Node>()).type_ = tag;
        node.cast()
    }
}

/// # Safety
/// Members and list are pointers to what the list's reader expects.
pub unsafe fn list<T>(members: &[*mut T]) -> *mut pg_sys::List {
    // SAFETY: see above; lists are palloc'd.
    members.iter().fold(std::ptr::null_mut(), |list, member| unsafe { pg_sys::lappend(list, member.cast()) })
}

// SAFETY: as in nodes/nodeFuncs.h.
unsafe extern "C-unwind" {
    #[cfg_attr(any(feature = "pg16", feature = "pg17", feature = "pg18"), link_name = "expression_tree_walker_impl")]
    fn expression_tree_walker(node: *mut pg_sys::Node, walker: Walker, context: *mut c_void) -> bool;
    #[cfg_attr(any(feature = "pg16", feature = "pg17", feature = "pg18"), link_name = "query_tree_walker_impl")]
    fn query_tree_walker(query: *mut pg_sys::Query, walker: Walker, context: *mut c_void, flags: i32) -> bool;
    #[cfg_attr(any(feature = "pg16", feature = "pg17", feature = "pg18"), link_name = "expression_tree_mutator_impl")]
    pub fn expression_tree_mutator(
        node: *mut pg_sys::Node,
        mutator: TreeMutator,
        context: *mut c_void,
    ) -> *mut pg_sys::Node;
}

/// A copy of an expression in which nodes have given way to what `put` gives for them. What is given is not looked into; subqueries stay what they are.
///
/// # Safety
/// The node is NULL or of a parsed expression; what is put there is an expression, where one was.
pub unsafe fn replaced(
    node: *mut pg_sys::Node,
    put: &mut dyn FnMut(*mut pg_sys::Node) -> Option<*mut pg_sys::Node>,
) -> *mut pg_sys::Node {
    struct Context<'a>(&'a mut dyn FnMut(*mut pg_sys::Node) -> Option<*mut pg_sys::Node>);
    /// # Safety
    /// Called by `expression_tree_mutator`, with what `replaced` gave it.
    #[pg_guard]
    unsafe extern "C-unwind" fn copy(node: *mut pg_sys::Node, context: *mut c_void) -> *mut pg_sys::Node {
        // SAFETY: called with nodes of the expression and the context given below.
        unsafe {
            if node.is_null() || (*node).type_ == NodeTag::T_Query {
                return node;
            }
            match ((*context.cast::<Context>()).0)(node) {
                Some(other) => other,
                None => expression_tree_mutator(node, copy, context),
            }
        }
    }
    let mut context = Context(put);
    // SAFETY: the context outlives the copying; an ERROR in it unwinds.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| copy(node, (&raw mut context).cast())) }
}

/// Calls `each` for every node of an expression and of its subqueries, with the number of subqueries around it; for a subquery
/// itself it counts as one of them.
///
/// # Safety
/// The node is NULL or of a parsed tree.
pub unsafe fn walk(node: *mut pg_sys::Node, each: &mut dyn FnMut(*mut pg_sys::Node, u32)) {
    // SAFETY: see above.
    unsafe { walk_but(node, 0, each) }
}

/// The same, but for these parts of queries (QTW_IGNORE_... of nodes/nodeFuncs.h).
///
/// # Safety
/// The node is NULL or of a parsed tree.
pub unsafe fn walk_but(node: *mut pg_sys::Node, ignored: u32, each: &mut dyn FnMut(*mut pg_sys::Node, u32)) {
    struct Context<'a> {
        each: &'a mut dyn FnMut(*mut pg_sys::Node, u32),
        ignored: i32,
        depth: u32,
    }
    /// # Safety
    /// Called by `expression_tree_walker`, with what `walk` gave it.
    #[pg_guard]
    unsafe extern "C-unwind" fn visit(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
        // SAFETY: called by the walkers with nodes of the tree and the context given below.
        unsafe {
            if node.is_null() {
                return false;
            }
            let c = &mut *context.cast::<Context>();
            if (*node).type_ == pg_sys::NodeTag::T_Query {
                c.depth += 1;
                (c.each)(node, c.depth);
                query_tree_walker(node.cast(), visit, context, c.ignored);
                c.depth -= 1;
                return false;
            }
            (c.each)(node, c.depth);
            expression_tree_walker(node, visit, context)
        }
    }
    let mut context = Context { each, ignored: ignored as i32, depth: 0 };
    // SAFETY: the context outlives the walk; an ERROR in it unwinds.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| visit(node, (&raw mut context).cast()));
    }
}
