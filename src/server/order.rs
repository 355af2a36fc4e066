//! Orders of types.

use pgrx::pg_sys;

use super::node;

/// Do values of this type have an order: an operator `>` and `>=` in pg_catalog, as a statement of ours finds it, and what compares them, in arrays and rows
/// each part of them?
pub fn is_ordered(type_: pg_sys::Oid) -> bool {
    // SAFETY: catalog look-ups of an existing type. An operator that is found is a tuple of the syscache's, which is given back.
    unsafe {
        let has = |name: &std::ffi::CStr| {
            let text = |text: &std::ffi::CStr| pg_sys::makeString(pg_sys::pstrdup(text.as_ptr()));
            let name = node::list(&[text(c"pg_catalog"), text(name)]);
            let found = pg_sys::oper(std::ptr::null_mut(), name, type_, type_, true, -1);
            if !found.is_null() {
                pg_sys::ReleaseSysCache(found);
            }
            !found.is_null()
        };
        let compares = || {
            let cache = pg_sys::lookup_type_cache(type_, pg_sys::TYPECACHE_CMP_PROC as i32);
            (*cache).cmp_proc != pg_sys::InvalidOid
        };
        has(c">") && has(c">=") && compares()
    }
}
