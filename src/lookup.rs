//! Rows that were pushed, or that the log names, are looked up in the table by their key, whatever the planner makes of its other
//! indexes.
//!
//! Policies have an index as well, and plans are made for unknown users and numbers of rows. So the planner would read all rows of
//! the user, who may have thousands of times more than others (10 updates of a user with 200,000 of 1M rows: 46 ms instead of
//! 0.6), or all partitions. Telling it that there are few keys does not help where it expects one row of the user, too (tenant
//! and user, which it takes for independent): the user's index looks as cheap as the key's, and each key is compared with each of
//! the user's rows (a nested loop of 1,000 and 20,000: 6 s). In these statements it therefore hears of no other index than the key's.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{c_char, CStr};

use pgrx::{pg_guard, pg_sys};

use crate::catalog::Collection;
use crate::spi;

/// A source of keys has this alias in our SQL, by which the planner's hook knows statements that look rows up.
const KEYS_OF: &CStr = c"snapsync_keys";

/// A smaller table is planned for as if it had so many pages and rows: few rows would be read from one end to the other, for
/// each key, and the plan stays when there are more.
const PAGES: u32 = 10_000;
const ROWS: f64 = 1_000_000.0;

thread_local! {
    /// The columns of the keys of the collections whose rows this backend has looked up.
    static KEYS: RefCell<HashMap<pg_sys::Oid, Vec<String>>> = RefCell::new(HashMap::new());
}

static mut NEXT_HOOK: pg_sys::get_relation_info_hook_type = None;

/// Called once per backend, when the library is loaded.
pub fn register_hook() {
    // SAFETY: a backend has one thread; hooks are chained, as everybody does.
    unsafe { NEXT_HOOK = std::ptr::replace(&raw mut pg_sys::get_relation_info_hook, Some(on_relation)) };
}

/// The keys that a function gives, as rows `r(columns)` to join with the collection's table: it is looked up by its key.
pub fn keys(collection: &Collection, function: &str, columns: &str) -> String {
    KEYS.with_borrow_mut(|keys| {
        let names = collection.key_names();
        if keys.get(&collection.relation).is_none_or(|known| *known != names) {
            keys.insert(collection.relation, names.into_iter().map(str::to_string).collect());
        }
    });
    format!("(SELECT * FROM {function} AS {}({columns})) AS r", KEYS_OF.to_string_lossy())
}

/// The planner has read what it has to know of a relation.
///
/// # Safety
/// Called by the planner.
#[pg_guard]
unsafe extern "C-unwind" fn on_relation(
    root: *mut pg_sys::PlannerInfo,
    relation: pg_sys::Oid,
    inhparent: bool,
    rel: *mut pg_sys::RelOptInfo,
) {
    // SAFETY: the planner's structures, in the planner; the lists hold what their names say.
    unsafe {
        if let Some(next) = NEXT_HOOK {
            next(root, relation, inhparent, rel);
        }
        let Some(key) = KEYS.with_borrow(|keys| keys.get(&collection_of(root, rel)).cloned()) else { return };
        if !has_keys((*(*root).parse).rtable) {
            return;
        }
        let mut kept: *mut pg_sys::List = std::ptr::null_mut();
        for index in spi::pointers::<pg_sys::IndexOptInfo>((*rel).indexlist) {
            if is_of_key(relation, index, &key) {
                kept = pg_sys::lappend(kept, index.cast());
            }
        }
        // A foreign table that is a partition has none.
        if !kept.is_null() {
            (*rel).indexlist = kept;
            (*rel).pages = (*rel).pages.max(PAGES);
            (*rel).tuples = (*rel).tuples.max(ROWS);
        }
    }
}

/// Are such keys among these, or in a subquery among them (rows that are locked, to be updated by their ctid)?
///
/// # Safety
/// The range table of a query.
unsafe fn has_keys(rtable: *mut pg_sys::List) -> bool {
    // SAFETY: a list of RangeTblEntry, whose aliases the parser has made.
    unsafe {
        spi::pointers::<pg_sys::RangeTblEntry>(rtable).into_iter().any(|rte| match (*rte).rtekind {
            pg_sys::RTEKind::RTE_FUNCTION => CStr::from_ptr((*(*rte).eref).aliasname) == KEYS_OF,
            pg_sys::RTEKind::RTE_SUBQUERY => !(*rte).subquery.is_null() && has_keys((*(*rte).subquery).rtable),
            _ => false,
        })
    }
}

/// The table that the query names, of which this one may be a partition.
///
/// # Safety
/// The planner's structures.
unsafe fn collection_of(root: *mut pg_sys::PlannerInfo, rel: *mut pg_sys::RelOptInfo) -> pg_sys::Oid {
    // SAFETY: the arrays have a place for each relation of the query; append_rel_array is NULL where nothing is inherited.
    unsafe {
        let (parents, mut at) = ((*root).append_rel_array, (*rel).relid);
        while !parents.is_null() && !(*parents.add(at as usize)).is_null() {
            at = (**parents.add(at as usize)).parent_relid;
        }
        (**(*root).simple_rte_array.add(at as usize)).relid
    }
}

/// Is this a unique index on just these columns? (By name: those of a partition may stand in another order.)
///
/// # Safety
/// An index of this relation, as the planner knows it.
unsafe fn is_of_key(relation: pg_sys::Oid, index: *mut pg_sys::IndexOptInfo, key: &[String]) -> bool {
    let collation = |attnum| {
        let (mut oid, mut modifier, mut collation) = (pg_sys::InvalidOid, 0, pg_sys::InvalidOid);
        // SAFETY: a column that an index is on.
        unsafe { pg_sys::get_atttypetypmodcoll(relation, attnum, &mut oid, &mut modifier, &mut collation) };
        collation
    };
    // SAFETY: `indexkeys` and `indexcollations` have a place for each key column; 0 is an expression.
    unsafe {
        let index = &*index;
        let is_key_column = |at: usize| {
            let attnum = *index.indexkeys.add(at) as i16;
            attnum > 0 && {
                let name = pg_sys::get_attname(relation, attnum, true);
                !name.is_null()
                    && key.iter().any(|k| k.as_bytes() == CStr::from_ptr(name as *const c_char).to_bytes())
                    // An index in another collation does not serve `=`.
                    && *index.indexcollations.add(at) == collation(attnum)
            }
        };
        index.unique
            && index.immediate
            && index.indpred.is_null()
            && index.nkeycolumns as usize == key.len()
            && (0..key.len()).all(is_key_column)
    }
}
