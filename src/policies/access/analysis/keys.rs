//! Foreign keys that policies follow from row to row.

use std::collections::{HashMap, HashSet};

use pgrx::pg_sys;

use super::ColumnRef;
use crate::server::error::Result;
use crate::server::memory;
use crate::server::spi;

const REFERENCES: &str = include_str!("references.sql");

/// What is known of tables between which policies of one table compare columns. Each table is asked once, however many columns and policies compare.
#[derive(Default)]
pub(crate) struct ForeignKeys {
    /// May the table's triggers and rules keep rows from being deleted, or updated?
    kept: HashMap<pg_sys::Oid, (bool, bool)>,
    /// From one table to another: from which column to which.
    known: HashMap<(pg_sys::Oid, pg_sys::Oid), HashSet<(i64, i64)>>,
}

impl ForeignKeys {
    /// Is `from` a column with a foreign key to `to`, which is what rows of that table are known by in the log, and has it been enforced
    /// since it was made? Not with its triggers disabled, nor with session_replication_role = replica (shape/unenforced.rs), nor by
    /// logical replication, nor for tables that inherit. Another key of the row would come and go unnoticed while the row is there; and
    /// so would one that equals another of a different text (numeric, or a collation that is not deterministic).
    pub(super) fn lead(&mut self, from: ColumnRef, to: ColumnRef) -> Result<bool> {
        let tables = (from.0, to.0);
        if !self.known.contains_key(&tables) {
            let (deletes, updates) = self.kept_by(from.0)?;
            let rows =
                spi::read_now(REFERENCES, &[spi::arg(from.0), spi::arg(to.0), spi::arg(deletes), spi::arg(updates)])?;
            let mut keys = HashSet::new();
            for row in &rows {
                memory::heed();
                keys.extend(row.i64(0).zip(row.i64(1)));
            }
            self.known.insert(tables, keys);
        }
        Ok(self.known.get(&tables).is_some_and(|keys| keys.contains(&(from.1.into(), to.1.into()))))
    }

    fn kept_by(&mut self, table: pg_sys::Oid) -> Result<(bool, bool)> {
        if let Some(known) = self.kept.get(&table) {
            return Ok(*known);
        }
        let rows = spi::read_now("SELECT deletes, updates FROM snapsync.kept_by($1)", &[spi::arg(table)])?;
        // (A table that nothing is known of keeps everything.)
        let kept = rows.first().map_or((true, true), |row| (row.bool(0), row.bool(1)));
        self.kept.insert(table, kept);
        Ok(kept)
    }
}
