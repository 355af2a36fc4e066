//! Trees that take long to be written as SQL. PostgreSQL compares the name of each column of a join with those of all before it, tries name after name where
//! several are equal, and heeds no cancellation meanwhile: seconds for one policy over a few tables of a thousand columns, or over one whose columns all have
//! one alias. It does so again for each field of a row without a type that a subquery gives. Whoever writes a stranger's tree asks here first: of many that are
//! written at once, for all of them together.

use std::collections::BTreeMap;
use std::ffi::CStr;

use pgrx::pg_sys;

use super::access::tree::walk;
use crate::server::error::Result;
use crate::server::memory;
use crate::server::spi::{self, pointers};

/// So many columns, each counted once for each join that has it, take about 20 ms; so do so many comparisons of names.
const COLUMNS: usize = 5_000;
const COMPARISONS: usize = 12_500_000;

/// More than that is not even looked at.
const BYTES: usize = 4 << 20;

/// Does this tree of the table's, in the form in which catalogs store it, take long to be written?
pub fn is_wide(tree: &str, table: pg_sys::Oid) -> Result<bool> {
    Effort::default().grows_long(tree, table)
}

/// Is this a field of which only what gives the row has the name? (Nobody writes such a policy by hand.)
///
/// # Safety
/// A node of an analyzed tree.
unsafe fn names_field(node: *mut pg_sys::Node) -> bool {
    // SAFETY: see above; nodes with these tags are of these types.
    unsafe {
        if (*node).type_ != pg_sys::NodeTag::T_FieldSelect {
            return false;
        }
        let of: *mut pg_sys::Node = (*node.cast::<pg_sys::FieldSelect>()).arg.cast();
        (*of).type_ == pg_sys::NodeTag::T_Var && (*of.cast::<pg_sys::Var>()).vartype == pg_sys::RECORDOID
    }
}

/// What writing a query takes, or all that are written at once: each column is counted once for each join.
#[derive(Default)]
pub struct Effort {
    bytes: usize,
    columns: usize,
    /// To find names for columns that are called as others are.
    comparisons: usize,
    names_fields: bool,
}

impl Effort {
    /// Does it take long to write this tree, too, by the columns of this table, if it is one of a table's?
    pub fn grows_long(&mut self, tree: &str, table: pg_sys::Oid) -> Result<bool> {
        // (Each is compared with all before it, whether the tree names them or not.)
        let columns = columns_of(table);
        self.comparisons = self.comparisons.saturating_add(columns * columns / 2);
        self.bytes = self.bytes.saturating_add(tree.len());
        if self.bytes > BYTES {
            return Ok(true);
        }
        let tree = spi::c_string(tree)?;
        // SAFETY: a stored tree; nodes with this tag are queries. Nobody else has them.
        unsafe {
            walk(pg_sys::stringToNode(tree.as_ptr()).cast(), &mut |node, _| {
                if (*node).type_ == pg_sys::NodeTag::T_Query {
                    self.add_query(node.cast());
                }
                self.names_fields |= names_field(node);
            });
        }
        Ok(self.columns > COLUMNS || self.comparisons > COMPARISONS || self.names_fields)
    }

    /// # Safety
    /// An analyzed query.
    unsafe fn add_query(&mut self, query: *mut pg_sys::Query) {
        // SAFETY: see above.
        let (columns, comparisons) = unsafe { written_columns(query) };
        self.columns = self.columns.saturating_add(columns);
        self.comparisons = self.comparisons.saturating_add(comparisons);
    }
}

/// How many columns, and comparisons of names.
///
/// # Safety
/// An analyzed query.
unsafe fn written_columns(query: *mut pg_sys::Query) -> (usize, usize) {
    let (mut columns, mut joins) = (0, 1);
    let mut names: BTreeMap<&[u8], usize> = BTreeMap::new();
    // SAFETY: see above.
    for entry in unsafe { pointers::<pg_sys::RangeTblEntry>((*query).rtable) } {
        memory::heed();
        // SAFETY: as above; what an entry is called is NULL or an alias.
        unsafe {
            let colnames = (*entry).eref.as_ref().map_or(std::ptr::null_mut(), |alias| alias.colnames);
            let colnames = pointers::<pg_sys::String>(colnames);
            match (*entry).rtekind {
                pg_sys::RTEKind::RTE_JOIN => {
                    joins += 1;
                    // (Whose columns have no names of their own, then.)
                    if (*entry).alias.is_null() {
                        continue;
                    }
                    columns += colnames.len();
                }
                // As many as it has now.
                pg_sys::RTEKind::RTE_RELATION => columns += columns_of((*entry).relid),
                _ => columns += colnames.len(),
            }
            // (Those without a name were dropped before.)
            for name in
                colnames.into_iter().map(|name| CStr::from_ptr((*name).sval).to_bytes()).filter(|n| !n.is_empty())
            {
                *names.entry(tried(name)).or_default() += 1;
            }
        }
    }
    let comparisons = tries(&names).saturating_mul(columns);
    (columns * joins, comparisons.saturating_mul(joins))
}

/// What a number is put behind: a long name is cut to make room for it.
fn tried(name: &[u8]) -> &[u8] {
    const ROOM: usize = pg_sys::NAMEDATALEN as usize - "_12345".len() - 1;
    &name[..name.len().min(ROOM)]
}

/// How many names are tried for those that are called as others are: `a_1`, `a_2` and so on, past all that are called so already.
fn tries(names: &BTreeMap<&[u8], usize>) -> usize {
    let mut tries = 0_usize;
    for (name, count) in names.iter().filter(|(_, count)| **count > 1) {
        memory::heed_memory();
        let from = [name, &b"_"[..]].concat();
        let numbered = names.range(&from[..]..).take_while(|(other, _)| other.starts_with(&from));
        let taken: usize = numbered.map(|(_, count)| count).sum();
        tries = tries.saturating_add((count - 1).saturating_mul(taken + count));
    }
    tries
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

#[cfg(test)]
mod tests {
    use super::{tried, tries};

    #[test]
    fn names_that_are_taken_are_tried_as_well() {
        let of = |names: &[(&'static str, usize)]| tries(&names.iter().map(|(n, k)| (n.as_bytes(), *k)).collect());
        assert_eq!(of(&[("a", 1), ("a_1", 1), ("b", 1)]), 0);
        assert_eq!(of(&[("a", 3), ("b", 2)]), 2 * 3 + 2);
        assert_eq!(of(&[("a", 160), ("a_1", 1), ("a_2", 1339)]), 159 * 1500 + 1338 * 1339);
    }

    #[test]
    fn long_names_that_differ_at_their_ends_are_tried_alike() {
        let (one, other) = (format!("{}b", "a".repeat(62)), format!("{}c", "a".repeat(62)));
        assert_eq!(tried(one.as_bytes()), tried(other.as_bytes()));
        assert_eq!(tried(b"id"), b"id");
    }
}
