//! What of the log is read to say what a caller sees, and saw: each table's entries once.

use std::rc::Rc;

use pgrx::pg_sys;

use super::{Reach, ReadTable};
use crate::collections::catalog::Collection;
use crate::log::read::{Entries, Log, Scopes, Wanted, Window};
use crate::server::error::Result;
use crate::server::memory::Gather;

/// What else is read of a table whose resets are looked for.
pub(super) enum Reads {
    /// Nothing without which it could not do.
    NoScope,
    /// What happened to its rows.
    Rows,
    /// Who sees what.
    Access,
}

impl<'a> Reach<'a> {
    /// The caller has looked for resets of this collection since the cursor, and there are none: to find that out here takes all entries.
    pub fn was_not_reset(&mut self, collection: &Collection) {
        self.reset.insert(collection.relation.to_u32(), false);
    }

    /// Is there a reset entry? (Those concern every scope.)
    pub(super) fn was_reset(&mut self, table: &Collection, reads: Reads) -> Result<bool> {
        if let Some(&known) = self.reset.get(&table.relation.to_u32()) {
            return Ok(known);
        }
        let reset = match reads {
            Reads::NoScope => self.entries_in(table.relation, &[])?.was_reset(),
            Reads::Rows => self.entries(table.relation)?.was_reset(),
            Reads::Access => self.entries_of_access(table.relation, None)?.was_reset(),
        };
        self.reset.insert(table.relation.to_u32(), reset);
        Ok(reset)
    }

    /// The entries of a table since the cursor.
    pub fn entries(&mut self, relation: pg_sys::Oid) -> Result<Rc<Entries>> {
        if let Some(known) = self.entries.get(&relation.to_u32()) {
            return Ok(Rc::clone(known));
        }
        let read = Rc::new(self.read(relation, Scopes::All)?);
        self.entries.insert(relation.to_u32(), Rc::clone(&read));
        Ok(read)
    }

    /// Of a table, or this part of it, those that say who sees what.
    pub(super) fn entries_of_access(&mut self, relation: pg_sys::Oid, part: Option<&[String]>) -> Result<Rc<Entries>> {
        let all = self.entries.get(&relation.to_u32()).filter(|all| part.is_none() && !all.are_many());
        if let Some(known) = all {
            return Ok(Rc::clone(known));
        }
        let key = (relation.to_u32(), part.map(|values| values.iter().cloned().gather()));
        if let Some(known) = self.of_access.get(&key) {
            return Ok(Rc::clone(known));
        }
        let windows = self.windows();
        let read = self.log()?.of_access(relation, &windows, part.map_or(Scopes::All, Scopes::Only))?;
        let read = Rc::new(read);
        self.of_access.insert(key, Rc::clone(&read));
        Ok(read)
    }

    /// Those of a table that decides what the caller sees, as far as it does.
    pub fn entries_read(&mut self, read: &ReadTable) -> Result<Rc<Entries>> {
        self.entries_of_access(read.table.relation, read.part.values())
    }

    /// About how many rows of a table have entries since the cursor, counted as far as so many. (What is opened for that is closed again: it may
    /// be asked in a subtransaction.)
    pub fn count_changed(&self, relation: pg_sys::Oid, most: usize) -> Result<usize> {
        Log::open(self.snapshot)?.count_since(relation, self.from, most)
    }

    /// Are there any?
    pub fn has_entries(&mut self, relation: pg_sys::Oid) -> Result<bool> {
        let entries = self.entries(relation)?;
        Ok(!entries.is_empty() || entries.was_reset())
    }

    /// Those in these scopes.
    pub fn entries_in(&mut self, relation: pg_sys::Oid, scopes: &[String]) -> Result<Entries> {
        self.read(relation, Scopes::Only(scopes))
    }

    /// Those of wanted keys, in these scopes or in all; None where more than so many would have to be looked at for them.
    pub fn entries_among(
        &mut self,
        relation: pg_sys::Oid,
        scopes: Option<&[String]>,
        wanted: Wanted,
        most: usize,
    ) -> Result<Option<Entries>> {
        let from = self.from;
        self.log()?.among(relation, from, scopes.map_or(Scopes::All, Scopes::Only), wanted, most)
    }

    fn read(&mut self, relation: pg_sys::Oid, scopes: Scopes) -> Result<Entries> {
        let from = self.from;
        self.log()?.since(relation, from, scopes)
    }

    fn log(&mut self) -> Result<&Log<'a>> {
        Ok(match &mut self.log {
            Some(log) => log,
            none => none.insert(Log::open(self.snapshot)?),
        })
    }

    /// Where what says who sees what is read.
    ///
    /// With what is told of deleted parents (`knowing`), of what lies below where that was found out only what there was of these. The rest is others' and
    /// puts nothing back: who judges old rows asks this of parents alone, and of these for nothing but rows that are gone and that the caller could see, and for keys of
    /// such rows that came again. What he could not see then he could not see: his access did not move, so the rows that show a parent or do not are the same, or are
    /// gone with a later stamp, and put back.
    fn windows(&self) -> Vec<Window> {
        let Some(told) = &self.told else { return vec![Window::since(self.from)] };
        let gone = told.spans.since(self.from);
        let gone = gone.map(|(from, last)| Window { from, below: Some(last + 1), own: false });
        gone.chain([Window::since(self.from.max(told.below))]).gather()
    }
}
