//! What an expression for scopes reads: tables that decide what a user pulls as policies do.

use std::collections::{BTreeMap, BTreeSet};

use pgrx::pg_sys;
use serde::{Deserialize, Serialize};

use super::{any_of, tree, walk, Analysis};
use crate::error::{code, Result, SyncError};
use crate::registry::owner_query;
use crate::spi;

/// What an expression for scopes reads. Looked at once, by `enable`, because its names mean what they mean there.
#[derive(Serialize, Deserialize, Default)]
pub(super) struct ScopeReads {
    /// Tables and views, each with the condition on its rows alone under which they matter (None: to whom they are visible,
    /// for the expression runs with the caller's rights).
    pub(super) tables: BTreeMap<String, Option<String>>,
    /// What it calls may read others: `doctor` says so.
    functions: BTreeSet<String>,
}

/// The tables that `scope_values` reads, and the functions that it calls, as JSON text.
pub fn scope_reads(relation: pg_sys::Oid, expression: &str) -> Result<String> {
    let path = spi::query("SELECT pg_catalog.current_setting('search_path')", &[], spi::Mode::Read)?;
    let path = path.first().map(|r| r.string(0)).unwrap_or_default();
    let sql = format!("SELECT (({expression})::pg_catalog.text[])");
    let mut occurrences = Vec::new();
    let (mut relations, mut functions) = (BTreeSet::new(), BTreeSet::new());
    let mut read: BTreeMap<u32, usize> = BTreeMap::new();
    // As the extension's owner, whom no policy concerns: those would be in the tree, too. Nothing is run.
    spi::as_owner(|| {
        let each = |query: *mut pg_sys::Query, reads: &[pg_sys::Oid]| {
            relations.extend(reads.iter().map(|oid| oid.to_u32()));
            // SAFETY: the tree of an analyzed query, which is only read.
            unsafe {
                walk(query.cast(), &mut |node, _| {
                    if (*node).type_ == pg_sys::NodeTag::T_FuncExpr {
                        functions.insert((*node.cast::<pg_sys::FuncExpr>()).funcid.to_u32());
                    }
                });
                tree::relations_read(query.cast()).into_iter().for_each(|(oid, n)| *read.entry(oid).or_insert(0) += n);
                Analysis { relation, occurrences: &mut occurrences, ties: true }.query(query, None, &[])
            }
        };
        spi::analyzed(&sql, &path, each)
    })?;
    let mut reads = ScopeReads::default();
    for oid in relations {
        // Not those of the system: they have no triggers.
        let rows = owner_query(
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
    for oid in functions.into_iter().filter(|oid| *oid >= 16384) {
        let rows = owner_query("SELECT $1::regprocedure::text", &[spi::arg(pg_sys::Oid::from(oid))])?;
        reads.functions.extend(rows.first().map(|r| r.string(0)));
    }
    serde_json::to_string(&reads)
        .map_err(|e| SyncError::new(code::INTERNAL, "could not write what scope_values reads").detail(e.to_string()))
}
