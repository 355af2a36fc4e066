//! Trees that take long to be written as SQL. PostgreSQL compares the name of each column of a join with those of all before it, tries name after name where
//! several are equal, and heeds no cancellation meanwhile: seconds for one policy over a few tables of a thousand columns, or over one whose columns all have
//! one alias. Whoever writes a stranger's tree asks here first.

use std::collections::HashMap;
use std::ffi::CStr;

use pgrx::pg_sys;

use super::access::tree::walk;
use crate::server::error::Result;
use crate::server::memory;
use crate::server::spi::{self, pointers};

/// So many columns, each counted once for each join that has it, take about 20 ms.
const COLUMNS: usize = 5_000;

/// A longer tree is not even looked at.
const BYTES: usize = 4 << 20;

/// Does this tree, in the form in which catalogs store it, take long to be written?
pub fn is_wide(tree: &str) -> Result<bool> {
    if tree.len() > BYTES {
        return Ok(true);
    }
    let tree = spi::c_string(tree)?;
    let mut columns = 0;
    // SAFETY: a stored tree; nodes with this tag are queries. Nobody else has them.
    unsafe {
        walk(pg_sys::stringToNode(tree.as_ptr()).cast(), &mut |node, _| {
            if (*node).type_ == pg_sys::NodeTag::T_Query {
                columns = written_columns(node.cast()).saturating_add(columns);
            }
        });
    }
    Ok(columns > COLUMNS)
}

/// So many columns of one name, of all tables of a query, count as their square, divided by this: few of them, in tables that are alike, are nothing.
const EQUAL: usize = 8;

/// # Safety
/// An analyzed query.
unsafe fn written_columns(query: *mut pg_sys::Query) -> usize {
    let (mut columns, mut joins) = (0, 1);
    let mut names: HashMap<&CStr, usize> = HashMap::new();
    // SAFETY: see above.
    for entry in unsafe { pointers::<pg_sys::RangeTblEntry>((*query).rtable) } {
        memory::heed();
        // SAFETY: as above; what an entry is called is NULL or an alias.
        unsafe {
            match (*entry).rtekind {
                pg_sys::RTEKind::RTE_JOIN => {
                    joins += 1;
                    // (Whose columns have no names of their own, then.)
                    if (*entry).alias.is_null() {
                        continue;
                    }
                    columns += pointers::<pg_sys::String>((*(*entry).eref).colnames).len();
                }
                // As many as it has now.
                pg_sys::RTEKind::RTE_RELATION => columns += columns_of((*entry).relid),
                _ if (*entry).eref.is_null() || (*(*entry).eref).colnames.is_null() => {}
                _ => columns += (*(*(*entry).eref).colnames).length as usize,
            }
            if let Some(alias) = (*entry).eref.as_ref() {
                for name in pointers::<pg_sys::String>(alias.colnames) {
                    *names.entry(CStr::from_ptr((*name).sval)).or_default() += 1;
                }
            }
        }
    }
    let equal: usize = names.values().map(|count| count * count / EQUAL).sum();
    (columns + equal) * joins
}

fn columns_of(relation: pg_sys::Oid) -> usize {
    // SAFETY: a syscache look-up; the tuple is released before returning and only a copied number leaves.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::RELOID as i32, pg_sys::Datum::from(relation));
        if tuple.is_null() {
            return 0;
        }
        let natts = (*(pg_sys::GETSTRUCT(tuple) as pg_sys::Form_pg_class)).relnatts;
        pg_sys::ReleaseSysCache(tuple);
        natts as usize
    }
}
