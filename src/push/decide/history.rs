//! What happened to the pushed rows on the server since the client's cursor, as far as the caller may know.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::fates::Deciding;
use super::{Baseline, Change};
use crate::log::change::{Image, Op};
use crate::log::clock;
use crate::log::read::Logged;
use crate::server::error::Result;
use crate::server::pg;
use crate::sight::reach::Reach;
use crate::values::conflict::ServerChange;

impl<'d> Deciding<'d, '_> {
    /// The log's entries about these rows, by others and since the baseline; None where the log does not reach back that far.
    pub(super) fn entries(&self) -> Result<Option<Vec<Logged>>> {
        let from = match self.push.baseline {
            Baseline::None => return Ok(Some(Vec::new())),
            Baseline::Stamp(stamp) => stamp,
            Baseline::Unknown => return Ok(None),
        };
        // Nothing has been written since: the usual case, which needs no look at the log.
        if self.newest < from {
            return Ok(Some(Vec::new()));
        }
        let snapshot = pg::ActiveSnapshot::take();
        let mut entries = self.target.logged(&self.target.ids(), from, &snapshot)?;
        entries.retain(|e| self.push.is_by_others(e));
        Ok(if entries.iter().any(|e| e.op == Op::Reset) { None } else { Some(entries) })
    }

    /// The pushed rows that others changed and that the caller can see or could: another's row is not his conflict to hear of.
    pub(super) fn changed<'l>(&self, entries: Option<&'l [Logged]>) -> Result<HashMap<String, Change<'l>>> {
        let Some(entries) = entries else {
            return Ok(self.target.ids().into_iter().map(|id| (id.to_string(), Change::Unknown)).collect());
        };
        if entries.is_empty() {
            return Ok(HashMap::new());
        }
        let mut changed: HashMap<&str, Vec<&Logged>> = HashMap::new();
        for entry in entries {
            changed.entry(&entry.key).or_default().push(entry);
        }
        let hidden = changed.iter().filter(|(id, _)| !self.stored(id).visible);
        let past: Vec<(&str, &Image)> = hidden
            .flat_map(|(id, entries)| entries.iter().filter_map(|e| e.image.as_ref().map(|i| (*id, i))))
            .collect();
        let images: Vec<Image> = past.iter().map(|(_, image)| (*image).clone()).collect();
        let seen = self.visible(&images)?;
        let could_see: HashSet<&str> = past.iter().zip(seen).filter(|(_, s)| *s).map(|((id, _), _)| *id).collect();
        changed.retain(|id, _| self.stored(id).visible || could_see.contains(id));
        Ok(changed.into_iter().map(|(id, entries)| (id.to_string(), Change::Entries(entries))).collect())
    }

    /// Which of these old rows the caller could see, as far as that can be told.
    fn visible(&self, images: &[Image]) -> Result<Vec<bool>> {
        let from = match self.push.baseline {
            Baseline::Stamp(stamp) => stamp,
            _ => clock::FIRST,
        };
        let snapshot = pg::ActiveSnapshot::take();
        let seen = Reach::since(from, &snapshot).visible(&self.target.collection, images, None)?;
        // Not to be told: then nothing is said, for a conflict would tell that there was a row.
        Ok(seen.unwrap_or_else(|| vec![false; images.len()]))
    }

    /// The updated records whose row is gone and is known to have been deleted, however long ago: the client must hear of
    /// it and not bring it back.
    pub(super) fn known_deleted(&self, refused: &HashSet<String>) -> Result<HashSet<String>> {
        let records = self.target.plan.records.iter().zip(&self.stored);
        let missing = records.filter(|(r, stored)| !r.created && !stored.visible);
        let missing: Vec<&str> = missing.map(|(r, _)| &*r.id).filter(|id| !refused.contains(*id)).collect();
        if missing.is_empty() || matches!(self.push.baseline, Baseline::None) {
            return Ok(HashSet::new());
        }
        let snapshot = pg::ActiveSnapshot::take();
        let entries = self.target.logged(&missing, clock::FIRST, &snapshot)?;
        let mut last: HashMap<&str, &Logged> = HashMap::new();
        for entry in entries.iter().filter(|e| e.op != Op::Reset) {
            last.insert(&entry.key, entry);
        }
        let deleted: Vec<&Logged> = last.into_values().filter(|e| e.op == Op::Delete).collect();
        // Without an image it was made and deleted by one transaction: nobody ever knew it.
        let (keys, images): (Vec<&str>, Vec<Image>) =
            deleted.iter().filter_map(|e| e.image.clone().map(|image| (e.key.as_str(), image))).unzip();
        let seen = self.visible(&images)?;
        Ok(keys.into_iter().zip(seen).filter(|(_, seen)| *seen).map(|(key, _)| key.to_string()).collect())
    }

    /// The columns that a change touched, by name.
    pub(super) fn touched(&self, change: &Change) -> ServerChange<'d> {
        let Change::Entries(entries) = change else { return ServerChange::Unknown };
        let Some(last) = entries.last() else { return ServerChange::Deleted };
        if last.op == Op::Delete {
            return ServerChange::Deleted;
        }
        let mut touched: BTreeSet<&'d str> = BTreeSet::new();
        for entry in entries {
            let (Op::Update, Some(numbers)) = (entry.op, &entry.touched) else { return ServerChange::Unknown };
            let columns = &self.target.collection.columns;
            touched.extend(columns.iter().filter(|c| numbers.contains(&c.attnum)).map(|c| c.name.as_str()));
        }
        ServerChange::Columns(touched)
    }
}
