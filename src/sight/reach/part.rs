//! Which part of a table that policies read can decide anything for the caller, where its log is divided by a column that these policies
//! compare with something of his: `user_id = auth.uid()`. What others do to their own memberships is not read at all.
//!
//! *The part* is the rows whose column has one of the values V that the caller's conditions leave it (`scope/derived.rs`).
//!
//! *Why no more is needed.* Each place where the reader's policies read the table puts one of these conditions on its rows alone, and a row
//! for which it is not true has no effect there (analysis.rs: the conditions of a WHERE with inner joins only). Or it is read there as the
//! caller, under its own policies, and what bounds the column in these asks no table, so it said the same at any time. So the reader's policies
//! say the same of any two states of the table that have the same rows in the part. So it is where `scope_values` read it; and where a function
//! does, its owner has said by a predicate which rows have an effect there. Where one place has no such condition, or the table is read through a
//! view, the whole table is the part.
//!
//! *Why the entries of the buckets of V, and of none, tell the part.* An entry stands in the bucket of the value that its row has behind
//! the change, and in that of the value before (`journal/net.rs`). So a change that takes a row out of the part or into it, or leaves it there with
//! other values, is read. What is not read led from a state outside to one outside.
//! - *Whom a change concerns*: a state that satisfies the condition, or that the caller could see, is in the part, so the entries that began
//!   and ended it are read, the latter with its image.
//! - *Former states* (`policy/former.rs`): a key that was in the part at a moment is as it was then until the first entry with an image since,
//!   which is read. Of a key that was not, the first entry that is read is one that took it into the part, and shows it outside or absent; where none is
//!   read, it stands outside still. So the former table has the same rows in the part as the true one.
//!
//! Of parents all is read: their deleted rows are put back while old rows are judged, and a key that comes again has to be known.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::rc::Rc;

use pgrx::pg_sys;

use crate::collections::catalog::{Access, Collection};
use crate::policies::access::{self, Concerns};
use crate::policies::owned::{self, Purpose};
use crate::server::error::Result;
use crate::server::memory::Gather;
use crate::server::pg;
use crate::server::subxact;
use crate::sight::reach::Reach;
use crate::sight::scope::derived::{self, OwnedConditions};

/// The values of the column that the table's entries carry; None: all rows.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AccessPart(Option<Rc<[String]>>);

impl AccessPart {
    /// Of a table, by one that reads it.
    pub fn of(table: &Collection, access: &Access, reader: &Collection, reach: &Reach) -> Result<AccessPart> {
        let (relation, column) = (table.relation, table.logged_scope.as_ref());
        let Some(column) = column.filter(|_| !access.parent) else { return Ok(AccessPart(None)) };
        let values = match &access.reading.concerns {
            Concerns::Satisfying { trees, texts, calls } if access::may_judge_all(reader.relation, relation) => {
                let reader = reader.relation;
                let read = |text: &str| condition_of(relation, text, calls, reader);
                let owned = OwnedConditions { reader, texts, read: &read };
                derived::satisfying(relation, column.attnum, trees, &owned, reach)?
            }
            Concerns::WhoSees
                if !access.reading.hidden && reader.scope_values.is_none() && pg::rls_active(relation) =>
            {
                derived::seen(relation, column.attnum, reach)?
            }
            _ => None,
        };
        Ok(AccessPart(values.map(Rc::from)))
    }

    pub fn values(&self) -> Option<&[String]> {
        self.0.as_deref()
    }

    fn and(self, other: AccessPart) -> AccessPart {
        let both = self.0.zip(other.0);
        let both = both.map(|(a, b)| a.iter().chain(b.iter()).cloned().gather::<BTreeSet<_>>());
        AccessPart(both.map(|values| values.into_iter().gather::<Vec<_>>().into()))
    }
}

/// A table that decides what the caller sees of a collection.
pub struct ReadTable {
    pub table: Rc<Collection>,
    pub(super) part: AccessPart,
}

impl ReadTable {
    /// Each table once, by all that read it.
    pub(super) fn merged(mut tables: Vec<ReadTable>) -> Vec<ReadTable> {
        tables.sort_unstable_by_key(|read| read.table.relation.to_u32());
        let mut merged: Vec<ReadTable> = Vec::new();
        for read in tables {
            match merged.last_mut().filter(|last| last.table.relation == read.table.relation) {
                Some(last) => last.part = last.part.clone().and(read.part),
                None => merged.push(read),
            }
        }
        merged
    }
}

/// The condition that an owner has given in `access_tables` or `scope_values` for rows of this table, as a tree: nodeToString of an
/// expression over range table entry 1. Its names are looked up with the rights of the owner of `reader`. None where it cannot be read.
pub(super) fn condition_of(
    table: pg_sys::Oid,
    text: &str,
    calls: &BTreeSet<String>,
    reader: pg_sys::Oid,
) -> Result<Option<CString>> {
    let read = subxact::run(|| {
        let statement = owned::read(reader, &Purpose::Rows(table), text, calls)?;
        // SAFETY: an analyzed SELECT from one table, which is range table entry 1.
        Ok(unsafe { CStr::from_ptr(pg_sys::nodeToString((*(*statement.tree()).jointree).quals.cast())).to_owned() })
    });
    match read {
        Ok(condition) => Ok(Some(condition)),
        Err(e) if subxact::is_transient(&e) => Err(e),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::AccessPart;

    #[test]
    fn two_parts_are_the_values_of_both_and_all_is_all() {
        let part = |values: &[&str]| AccessPart(Some(values.iter().map(ToString::to_string).collect()));
        assert_eq!(part(&["b", "c"]).and(part(&["a", "b"])), part(&["a", "b", "c"]));
        assert_eq!(part(&["a"]).and(AccessPart(None)), AccessPart(None));
        assert_eq!(AccessPart(None).and(part(&[])), AccessPart(None));
        assert_eq!(part(&[]).and(part(&[])), part(&[]));
    }
}
