//! What an expression for scopes reads: tables that decide what a user pulls as policies do.

use std::collections::{BTreeMap, BTreeSet};

use pgrx::pg_sys;
use serde::{Deserialize, Serialize};

use super::analysis::Analysis;
use super::{any_of, tree, walk};
use crate::policies::owned::{self, Purpose};
use crate::server::error::{code, Result, SyncError};
use crate::server::spi;

/// What an expression for scopes reads. Looked at once, by `enable`, because its names mean what they mean there.
#[derive(Serialize, Deserialize, Default)]
pub(super) struct ScopeReads {
    /// Tables and views, each with the condition on its rows alone under which they matter (None: to whom they are visible,
    /// for the expression runs with the caller's rights).
    pub(super) tables: BTreeMap<String, Option<String>>,
    /// What it calls may read others: `doctor` says so.
    functions: BTreeSet<String>,
}

/// What is stored of `scope_values` that are given for `relation` now: the expression (`owned.rs`), and as JSON text the tables that it
/// reads and the functions that it calls.
pub fn take_scope_values(relation: pg_sys::Oid, given: &str) -> Result<(String, String)> {
    let mut occurrences = Vec::new();
    let mut functions = BTreeSet::new();
    let mut read: BTreeMap<u32, usize> = BTreeMap::new();
    // Analyzed, but not rewritten: the policies of what it reads are not in the tree.
    let stored = owned::take(relation, &Purpose::Scopes, given, "scope_values", |tree| {
        // SAFETY: the tree of an analyzed query, which is only read.
        unsafe {
            walk(tree.cast(), &mut |node, _| functions.extend(function_of(node)));
            read = tree::relations_read(tree.cast());
            Analysis { relation, occurrences: &mut occurrences, ties: true, references: Default::default() }.query(
                tree,
                None,
                &[],
            )
        }
    })?;
    let relations = read.keys().copied();
    let mut reads = ScopeReads::default();
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
            reads.tables.insert(row.string(0), predicate);
        }
    }
    for oid in functions.into_iter().filter(|oid| *oid >= pg_sys::FirstNormalObjectId) {
        let rows = spi::owner_query("SELECT $1::regprocedure::text", &[spi::arg(pg_sys::Oid::from(oid))])?;
        reads.functions.extend(rows.first().map(|r| r.string(0)));
    }
    let reads = serde_json::to_string(&reads)
        .map_err(|e| SyncError::new(code::INTERNAL, "could not write what scope_values reads").detail(e.to_string()))?;
    Ok((stored, reads))
}

/// The function that a node calls, by itself or as an operator.
///
/// # Safety
/// A node of an analyzed tree.
unsafe fn function_of(node: *mut pg_sys::Node) -> Option<u32> {
    use pg_sys::NodeTag;
    // SAFETY: nodes with these tags are of these types; DistinctExpr and NullIfExpr are OpExprs by another name.
    let function = unsafe {
        match (*node).type_ {
            NodeTag::T_FuncExpr => (*node.cast::<pg_sys::FuncExpr>()).funcid,
            NodeTag::T_OpExpr | NodeTag::T_DistinctExpr | NodeTag::T_NullIfExpr => {
                pg_sys::get_opcode((*node.cast::<pg_sys::OpExpr>()).opno)
            }
            NodeTag::T_ScalarArrayOpExpr => pg_sys::get_opcode((*node.cast::<pg_sys::ScalarArrayOpExpr>()).opno),
            _ => return None,
        }
    };
    Some(function.to_u32())
}
