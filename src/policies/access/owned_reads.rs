//! What an owner's SQL reads and calls: tables that decide what a user pulls as policies do, and functions that must be the same when the
//! text is read again.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;

use pgrx::pg_sys;
use serde::{Deserialize, Serialize};

use super::analysis::{Analysis, ForeignKeys, Occurrence};
use super::{any_of, depends, tree, walk};
use crate::policies::owned::{self, Purpose};
use crate::policies::scope::read;
use crate::server::error::{code, Result, SyncError};
use crate::server::memory::Gather;
use crate::server::spi;

/// What the owner's SQL reads. Looked at once, by `enable`, because its names mean what they mean there.
#[derive(Serialize, Deserialize, Default)]
pub struct OwnedReads {
    /// Of `scope_values`: tables and views, each with the condition on its rows alone under which they matter (None: to whom they
    /// are visible, for the expression runs with the caller's rights).
    #[serde(default)]
    pub(super) tables: BTreeMap<String, Option<String>>,
    /// What it calls, which may read others: `doctor` says so.
    #[serde(default)]
    functions: BTreeSet<String>,
    /// The types that it names, whose labels may be scopes.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    types: BTreeSet<String>,
    /// What it names that somebody has made, with who that was.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    owners: BTreeSet<String>,
    /// Of the conditions among `tables`: the columns that each bounds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    bounds: BTreeMap<String, BTreeSet<String>>,
    /// Of predicates of `access_tables`, by their stored text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    predicates: BTreeMap<String, PredicateReads>,
}

/// What a predicate reads and calls. DDL looks at these, never at the text: to analyze it takes locks on what its owner has named.
#[derive(Serialize, Deserialize, Default)]
pub(super) struct PredicateReads {
    columns: BTreeSet<String>,
    functions: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    owners: BTreeSet<String>,
    /// The columns that are something of the caller's wherever it is true.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    bounds: BTreeSet<String>,
}

impl PredicateReads {
    /// # Safety
    /// The tree of an analyzed `owned::Purpose::Rows` of this table.
    pub(super) unsafe fn of(table: pg_sys::Oid, tree: *mut pg_sys::Query) -> Result<PredicateReads> {
        let mut columns = BTreeSet::new();
        // SAFETY: the tree is only read; nodes with this tag are of this type. A column that a tree has just named has a name.
        let (called, named, bounds) = unsafe {
            let condition = (*(*tree).jointree).quals;
            walk(condition, &mut |node, depth| {
                if (*node).type_ == pg_sys::NodeTag::T_Var {
                    let var = &*node.cast::<pg_sys::Var>();
                    if var.varlevelsup == depth && var.varattno > 0 {
                        let name = pg_sys::get_attname(table, var.varattno, false);
                        columns.insert(CStr::from_ptr(name).to_string_lossy().into_owned());
                    }
                }
            });
            let bounds = read::bounded(table, &[condition])?;
            (depends::functions_called(condition), depends::objects_named(condition), bounds)
        };
        let owners = depends::owners(&named, None)?;
        Ok(PredicateReads { columns, functions: depends::signatures(&called)?, owners, bounds })
    }
}

impl OwnedReads {
    pub(super) fn stored(text: Option<&str>) -> OwnedReads {
        text.and_then(|r| serde_json::from_str(r).ok()).unwrap_or_default()
    }

    /// As it is stored; None if there is nothing.
    fn written(&self) -> Result<Option<String>> {
        let of_scopes = [&self.functions, &self.types, &self.owners];
        if self.tables.is_empty() && of_scopes.iter().all(|s| s.is_empty()) && self.predicates.is_empty() {
            return Ok(None);
        }
        let written = serde_json::to_string(self);
        written.map(Some).map_err(|e| {
            SyncError::new(code::INTERNAL, "could not write what an owner's SQL reads").detail(e.to_string())
        })
    }

    /// Everything that it may name when it is read again: functions, and objects with their owners.
    pub(super) fn calls(self) -> BTreeSet<String> {
        let predicates = self.predicates.into_values().flat_map(|p| p.functions.into_iter().chain(p.owners));
        self.functions.into_iter().chain(self.owners).chain(predicates).collect()
    }

    /// The columns that a condition of the owner's bounds, by its stored text.
    fn bounds_of(mut self, text: &str) -> BTreeSet<String> {
        let predicate = self.predicates.remove(text).map(|p| p.bounds);
        predicate.or_else(|| self.bounds.remove(text)).unwrap_or_default()
    }

    /// The columns that this predicate names; None where one of them, or a function, is not there any more.
    pub(super) fn read_by(&self, predicate: &str, table: pg_sys::Oid) -> Result<Option<BTreeSet<String>>> {
        let Some(reads) = self.predicates.get(predicate) else { return Ok(None) };
        let is_whole =
            depends::missing_column(table, &reads.columns)?.is_none() && depends::are_there(&reads.functions)?;
        Ok(is_whole.then(|| reads.columns.clone()))
    }
}

/// What an owner's SQL may call, of what is stored of it.
pub fn calls(owned_reads: Option<&str>) -> BTreeSet<String> {
    OwnedReads::stored(owned_reads).calls()
}

/// The columns that a condition of the owner's bounds, of what is stored of his SQL.
pub fn bounds(owned_reads: Option<&str>, text: &str) -> BTreeSet<String> {
    OwnedReads::stored(owned_reads).bounds_of(text)
}

/// What is stored of what the owner's SQL reads, of a part that is there and one that is given now.
pub(super) fn with_predicates(
    owned_reads: Option<&str>,
    given: BTreeMap<String, PredicateReads>,
) -> Result<Option<String>> {
    OwnedReads { predicates: given, ..OwnedReads::stored(owned_reads) }.written()
}

/// The same without what `scope_values` read.
pub fn without_scopes(owned_reads: Option<&str>) -> Result<Option<String>> {
    OwnedReads { predicates: OwnedReads::stored(owned_reads).predicates, ..OwnedReads::default() }.written()
}

/// What is stored of `scope_values` that are given for `relation` now: the expression (`owned.rs`), and as JSON text the tables that it
/// reads and the functions that it calls, beside what was stored of other SQL.
pub fn take_scope_values(relation: pg_sys::Oid, given: &str, beside: Option<&str>) -> Result<(String, Option<String>)> {
    let mut occurrences = Vec::new();
    let (mut called, mut named) = (Vec::new(), BTreeSet::new());
    let mut read: BTreeMap<u32, usize> = BTreeMap::new();
    // Analyzed, but not rewritten: the policies of what it reads are not in the tree.
    let stored = owned::take(relation, &Purpose::Scopes, given, "scope_values", |tree| {
        // SAFETY: the tree of an analyzed query, which is only read.
        unsafe {
            called = depends::functions_called(tree.cast());
            named = depends::objects_named(tree.cast());
            read = tree::relations_read(tree.cast());
            Analysis::of(relation, &mut occurrences, Some(&mut ForeignKeys::default())).query(tree, None, &[])
        }
    })?;
    let relations = read.keys().copied();
    let predicates = OwnedReads::stored(beside).predicates;
    let (functions, owners) = (depends::signatures(&called)?, depends::owners(&named, None)?);
    let mut reads =
        OwnedReads { types: depends::types(&named)?, predicates, functions, owners, ..OwnedReads::default() };
    for oid in relations {
        // Not those of the system: they have no triggers.
        let rows = spi::owner_query(
            "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
             WHERE c.oid = $1 AND c.oid >= 16384 AND c.relpersistence <> 't' AND n.nspname <> 'snapsync'",
            &[spi::arg(pg_sys::Oid::from(oid))],
        )?;
        if let Some(row) = rows.first() {
            let all: Vec<_> = occurrences.iter().filter(|o| o.relation == oid).collect();
            let understood = !all.is_empty() && read.get(&oid).is_none_or(|n| *n <= all.len());
            let predicate = if understood {
                any_of(all.iter().map(|o| o.predicate.as_ref().map(|p| &*p.text)))
            } else {
                Some("true".to_string())
            };
            if let Some(text) = predicate.as_ref().filter(|_| understood) {
                let bounds = Some(bounds_in(oid, &all)?).filter(|bounds| !bounds.is_empty());
                reads.bounds.extend(bounds.map(|bounds| (text.clone(), bounds)));
            }
            reads.tables.insert(row.string(0), predicate);
        }
    }
    Ok((stored, reads.written()?))
}

/// The columns that all conditions on this table bound, at the places where it is read.
fn bounds_in(table: u32, at: &[&Occurrence]) -> Result<BTreeSet<String>> {
    let trees = at.iter().filter_map(|o| o.predicate.as_ref());
    // SAFETY: the texts of trees that this server wrote, in this session.
    unsafe {
        let trees: Vec<_> = trees.map(|p| pg_sys::stringToNode(p.tree.as_ptr()).cast()).gather();
        read::bounded(table.into(), &trees)
    }
}
