//! What a client need not be told, because it said so itself: rows that stand as it pushed them.

use std::collections::{HashMap, HashSet};

use super::{CollectionPull, KeyState};
use crate::error::{code, Result, SyncError};
use crate::spi::{self, Mode};
use crate::{policy, wire_id};

/// Echoes of whose pushes?
pub fn whose() -> SyncError {
    SyncError::new(code::INVALID_PARAMETER, "skip_echoes needs a client_id")
        .detail("What a client pushed itself is known by the client_id that it pushed with.")
        .hint("Pass the same client_id in pull_changes and push_changes, or leave skip_echoes out.")
}

impl CollectionPull<'_> {
    /// The keys of which the client knows all that happened since the cursor. Each of their entries is its own push, stored as
    /// sent, so its rows are as it has them; what is left to find out is whether it still sees them, where that could change.
    pub(super) fn echoes<'k>(&self, keys: &HashMap<&'k str, KeyState>, visible: &[bool]) -> Result<HashSet<&'k str>> {
        // Without an image nothing changed in who sees the row.
        let (moved, mut echoes): (Vec<_>, Vec<_>) =
            keys.iter().filter(|(_, state)| state.echo).partition(|(_, state)| !state.images.is_empty());
        if !moved.is_empty() {
            let there = self.there(&moved.iter().map(|(key, _)| **key).collect::<Vec<_>>())?;
            echoes.extend(moved.into_iter().filter(|(key, state)| match there.get(**key) {
                // Not one that it changed without having it whole.
                Some(false) => state.inserted || state.first_image.is_none_or(|i| visible[i]),
                // It pushed the deletion: a row that is sent with the mark does not count as stored so (push/echo.rs).
                Some(true) => true,
                // Deleted, or out of its sight now.
                None => state.deleted,
            }));
        }
        Ok(echoes.into_iter().map(|(key, _)| *key).collect())
    }

    /// Which of these rows the caller sees, and whether each is marked as deleted.
    fn there(&self, ids: &[&str]) -> Result<HashMap<String, bool>> {
        let key = &self.collection.key;
        let mut select: Vec<String> = key.iter().map(|k| format!("t.{}::pg_catalog.text", k.ident)).collect();
        select.push(match &self.collection.soft_delete {
            Some(column) => format!("NOT ({})", policy::not_deleted("t", column)),
            None => "false".into(),
        });
        let (sql, args, planned) = self.by_keys(&select.join(", "), ids, true);
        let rows = spi::query_planned(&sql, &args, Mode::Read, planned)?;
        let row = |r: &spi::Row| {
            let parts: Vec<&str> = (0..key.len()).map(|i| r.text(i).unwrap_or_default()).collect();
            (wire_id::encode(&parts).into_owned(), r.bool(key.len()))
        };
        Ok(rows.iter().map(row).collect())
    }
}
