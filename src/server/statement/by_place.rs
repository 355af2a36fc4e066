//! A SELECT over one table, from some place of its file on, or at some places.
//!
//! PostgreSQL has plans for that (TID range scans), but makes them only where it takes them for cheapest, and says nothing of the order that
//! rows come in. So a plan that reads the table from one end to the other, which the planner has chosen over others, gets such a scan in
//! the place of its own: the same conditions, policies included, and the same columns.

use pgrx::pg_sys::{self, NodeTag};

use super::{plan, run, Statement};
use crate::server::error::Result;
use crate::server::heap::Tid;
use crate::server::node::{list, node};
use crate::server::receiver::Each;
use crate::server::spi::{self, pointers};

/// Which rows of the table.
#[derive(Clone, Copy)]
pub enum Tids<'a> {
    /// All behind this one.
    After(Tid),
    These(&'a [Tid]),
}

impl Statement<'_> {
    /// Runs it over these rows of the table, in the order of their places, as long as `each` wants more. False, and nothing is read, where
    /// the planner would read the table otherwise than from one end to the other.
    pub fn each_by_place(self, table: pg_sys::Oid, tids: Tids, each: Each) -> Result<bool> {
        // SAFETY: the tree was analyzed just now, which has locked what it reads; the parameters are those that it was analyzed for. The plan
        // is ours.
        unsafe {
            let params = spi::params(self.args);
            let plan = plan(self.tree, &self.text, params, |_| Ok(()))?;
            let Some(scan) = whole_scan(plan, table) else { return Ok(false) };
            *scan = scan_of_tids((*scan).cast(), tids);
            run(plan, &self.text, params, self.environment, each);
        }
        Ok(true)
    }
}

/// Where the plan refers to its scan of the whole table, if it is nothing but that. (It may be asked before whether anything is to be read.)
///
/// # Safety
/// A plan.
unsafe fn whole_scan(plan: *mut pg_sys::PlannedStmt, table: pg_sys::Oid) -> Option<*mut *mut pg_sys::Plan> {
    // SAFETY: see above; nodes are of the types that their tags say, and each plan node begins with a `Plan`.
    unsafe {
        let mut at = &raw mut (*plan).planTree;
        while !(*at).is_null() && (**at.cast::<*mut pg_sys::Node>()).type_ == NodeTag::T_Result {
            at = &raw mut (**at).lefttree;
        }
        if (*at).is_null() || (**at.cast::<*mut pg_sys::Node>()).type_ != NodeTag::T_SeqScan {
            return None;
        }
        let number = (*(*at).cast::<pg_sys::Scan>()).scanrelid as usize;
        let entries = pointers::<pg_sys::RangeTblEntry>((*plan).rtable);
        let entry = entries.get(number.checked_sub(1)?)?;
        ((**entry).relid == table).then_some(at)
    }
}

/// # Safety
/// A sequential scan of a plan, which is used no more.
unsafe fn scan_of_tids(scan: *mut pg_sys::Scan, tids: Tids) -> *mut pg_sys::Plan {
    // SAFETY: nodes of our own; the executor looks at the operator's number and at its other side.
    unsafe {
        let table = (*scan).scanrelid as i32;
        let number = pg_sys::SelfItemPointerAttributeNumber as i16;
        let place = pg_sys::makeVar(table as _, number, pg_sys::TIDOID, -1, pg_sys::InvalidOid, 0);
        let length = std::mem::size_of::<pg_sys::ItemPointerData>() as i32;
        let none = pg_sys::InvalidOid;
        match tids {
            Tids::After(after) => {
                let after = pg_sys::makeConst(pg_sys::TIDOID, -1, none, length, after.datum(), false, false);
                let operator = pg_sys::Oid::from(pg_sys::TIDGreaterOperator);
                let is_after =
                    pg_sys::make_opclause(operator, pg_sys::BOOLOID, false, place.cast(), after.cast(), none, none);
                let made: *mut pg_sys::TidRangeScan = node(NodeTag::T_TidRangeScan);
                (*made).scan = *scan;
                (*made).scan.plan.type_ = NodeTag::T_TidRangeScan;
                (*made).tidrangequals = list(&[is_after]);
                made.cast()
            }
            Tids::These(tids) => {
                let mut datums: Vec<pg_sys::Datum> = tids.iter().map(|tid| tid.datum()).collect();
                const SHORT: std::ffi::c_char = b's' as std::ffi::c_char;
                let count = datums.len() as i32;
                let array = pg_sys::construct_array(datums.as_mut_ptr(), count, pg_sys::TIDOID, length, false, SHORT);
                let array = pg_sys::makeConst(pg_sys::TIDARRAYOID, -1, none, -1, array.into(), false, false);
                let is_one: *mut pg_sys::ScalarArrayOpExpr = node(NodeTag::T_ScalarArrayOpExpr);
                (*is_one).opno = pg_sys::Oid::from(pg_sys::TIDEqualOperator);
                (*is_one).useOr = true;
                (*is_one).args = list(&[place.cast::<pg_sys::Node>(), array.cast()]);
                (*is_one).location = -1;
                let made: *mut pg_sys::TidScan = node(NodeTag::T_TidScan);
                (*made).scan = *scan;
                (*made).scan.plan.type_ = NodeTag::T_TidScan;
                (*made).tidquals = list(&[is_one]);
                made.cast()
            }
        }
    }
}
