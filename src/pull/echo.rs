//! What a client need not be told, because it said so itself: rows that stand as it pushed them.

use std::collections::{HashMap, HashSet};

use super::changes::Changed;
use super::delta::Past;
use super::life::Life;
use super::CollectionPull;
use crate::collections::tombstone;
use crate::server::error::{code, Result, SyncError};
use crate::server::memory::Gather;
use crate::server::spi;
use crate::values::wire_id;

/// Echoes of whose pushes?
pub fn whose() -> SyncError {
    SyncError::new(code::INVALID_PARAMETER, "skip_echoes needs a client_id")
        .detail("What a client pushed itself is known by the client_id that it pushed with.")
        .hint("Pass the same client_id in pull_changes and push_changes, or leave skip_echoes out.")
}

impl CollectionPull<'_> {
    /// Leaves out the rows of which the client knows all that happened since the cursor. Each of their entries is its own push, stored
    /// as sent, so its rows are as it has them; what is left to find out is whether it still sees them, where that could change.
    pub(super) fn leave_out_echoes(&self, rows: &mut Vec<Changed>, past: &Past) -> Result<()> {
        // What it has of a row may be older than its push, as a standby sent it. It may have been told meanwhile that they went. And what it
        // pushed outside of what it asked for until now, it need not have kept.
        if !self.basis.exact
            || self.wanted.before.differs()
            || matches!(past, Past::Moved(moved) if moved.has_several())
        {
            return Ok(());
        }
        // Without an image nothing changed in who sees the row, unless other rows did that.
        let stays = |row: &Changed| !row.has_images && row.life != Life::Others && matches!(past, Past::Steady(_));
        let moved: Vec<&str> = rows.iter().filter(|r| r.life.is_echo() && !stays(r)).map(|r| &*r.id).gather();
        let there = if moved.is_empty() { HashMap::new() } else { self.there(&moved)? };
        let stands = |row: &Changed| match there.get(&row.id) {
            _ if stays(row) => true,
            // It deleted its row. Of others' since then the caller could see nothing, unless it is there for him now.
            there if row.life == Life::Others => there.is_none(),
            // Not one that it changed without having it whole.
            Some(false) => row.inserted || row.life == Life::Made || row.first_seen.is_none_or(|seen| seen),
            // It pushed the deletion: a row that is sent with the mark does not count as stored so (push/echo.rs).
            Some(true) => true,
            // Deleted, or out of its sight now.
            None => row.deleted,
        };
        let echoes: HashSet<String> =
            rows.iter().filter(|r| r.life.is_echo() && stands(r)).map(|r| r.id.clone()).gather();
        rows.retain(|row| !echoes.contains(&row.id));
        Ok(())
    }

    /// Which of these rows the caller sees, and whether each is marked as deleted.
    pub(super) fn there(&self, ids: &[&str]) -> Result<HashMap<String, bool>> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let key = &self.collection.key;
        let mut fields: Vec<String> = key.iter().map(|k| format!("t.{}::pg_catalog.text", k.ident)).gather();
        fields.push(match &self.collection.soft_delete {
            Some(mark) => format!("({})::pg_catalog.text", tombstone::is_marked(mark)),
            None => "'false'::pg_catalog.text".into(),
        });
        let select = format!("pg_catalog.array_to_json(ARRAY[{}])", fields.join(", "));
        let by_keys = self.by_keys(&select, ids, true)?;
        let of = |mut texts: Vec<String>| {
            let marked = texts.pop().is_some_and(|marked| marked == "true");
            let parts: Vec<&str> = texts.iter().map(String::as_str).gather();
            (wire_id::encode(&parts).into_owned(), marked)
        };
        let (beside, hidden) = ([by_keys.keys.relation()], self.hidden());
        if !hidden.is_empty() {
            let rows = self.statement(&beside, &by_keys.sql, &by_keys.args, &hidden)?.run()?;
            return Ok(rows.into_iter().flatten().filter_map(|row| serde_json::from_str(&row).ok()).map(of).gather());
        }
        let rows = spi::query_beside(&beside, &by_keys.sql, &by_keys.args, by_keys.keys.planned())?;
        Ok(rows.iter().filter_map(|r| r.list(0)).map(of).gather())
    }
}
