//! Nodes of trees: built, not parsed, and visited.

use std::ffi::c_void;

use pgrx::pg_sys::{self, NodeTag};

/// What PostgreSQL's walkers call for each node: true ends the walk.
pub type Walker = unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut c_void) -> bool;

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
