//! Which changed rows concern the caller: what the log says of each, and which of its old states he could see.
//!
//! The log has everybody's changes. Those of rows that the caller neither sees nor saw are let go batch by batch, so a pull takes memory
//! for its user's changes, however many others there were.

use super::delta::Past;
use super::life::{Happening, Life};
use super::CollectionPull;
use crate::collections::{lookup, tombstone};
use crate::log::change::{Image, Op};
use crate::log::client::{self, Address};
use crate::log::read::{Entries, Logged};
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::server::pg;
use crate::sight::reach::{BATCH, BATCH_BYTES};

/// A row that changed since the cursor.
pub(super) struct Changed {
    pub id: String,
    /// The first entry was an insert.
    pub inserted: bool,
    /// Could the caller see the state at the cursor? Changes before its image left its columns alone. None: no image shows it.
    pub first_seen: Option<bool>,
    /// Could he see any? Or is he left word that the row, which he pushed, is not there?
    pub seen: bool,
    /// Old states are logged.
    pub has_images: bool,
    /// What the client's own pushes have made of it on the client. None: none of the entries comes from one.
    pub own: Option<PushedByClient>,
    /// Whose entries these are: does the client know of all?
    pub life: Life,
    /// The last entry is a deletion.
    pub deleted: bool,
    pub returned: bool,
    /// The client asked for it with its last pull and does not now, or pushed it under an id that the server writes otherwise: whoever sees
    /// it, it is not looked up.
    pub unasked: bool,
    /// When it became as it is now: the stamp of its last entry that says so. None: it is as it was at the cursor, as far as policies read.
    pub since: Option<i64>,
}

impl Changed {
    /// A row of which the log has not been asked; the client has it, or may have it, if it was `seen`.
    pub fn unknown(id: String, inserted: bool, seen: bool) -> Changed {
        Changed {
            id,
            inserted,
            first_seen: None,
            seen,
            has_images: false,
            own: None,
            life: Life::Told,
            deleted: false,
            returned: false,
            unasked: false,
            since: None,
        }
    }
}

/// What a client knows of a row by its own pushes.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum PushedByClient {
    /// It has the row.
    There,
    /// It has deleted the row. Who sees it now sees what somebody else has made anew.
    Gone,
}

/// Which state of which row an image shows.
pub(super) struct ImageOf {
    /// The row's place among those that are being looked at.
    pub row: usize,
    /// It is the state at the cursor.
    pub first: bool,
    /// When that state came to be; None: before the cursor.
    pub from: Option<i64>,
    pub until: i64,
    /// It is of what others did once the client had deleted its own row.
    pub others: bool,
}

/// When the caller could see a row as an image shows it.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Saw {
    No,
    AtCursor,
    /// Only after it.
    Since,
}

/// The first batch has `BATCH` rows and images, which may be enough for a page. Each next one has twice as many as the one before, up to so
/// many: what the policies' subqueries read is read anew for each.
const LARGEST_BATCH: usize = 10 * BATCH;

/// Rows that are being looked at.
#[derive(Default)]
struct RowBatch {
    rows: Vec<Changed>,
    images: Vec<Image>,
    /// For each image: of what it is.
    of: Vec<ImageOf>,
    bytes: usize,
    /// The entry before comes from the client's own push.
    pushed: bool,
    /// There is word about the last row.
    told: bool,
    /// There are entries about it that are not word.
    begun: bool,
    word: Word,
}

/// Tells which word is for the caller.
#[derive(Default)]
pub(super) struct Word {
    /// Whom it is addressed to then, once there is any.
    address: Option<String>,
}

impl Word {
    /// Is one of the entries word for the caller?
    pub(super) fn is_told(&mut self, entries: &[Logged], pull: &CollectionPull) -> Result<bool> {
        let mut told = false;
        for entry in entries.iter().filter(|e| e.is_notice()) {
            let address = match &self.address {
                Some(known) => known,
                None if pull.request.any_device => self.address.insert(client::addresses()?),
                None => self.address.insert(Address::of(pull.request.client_id)?.text),
            };
            told |= entry.origin.as_deref().is_some_and(|origin| match pull.request.any_device {
                true => origin.starts_with(address.as_str()),
                false => origin == address.as_str(),
            });
        }
        Ok(told)
    }
}

impl RowBatch {
    fn add(&mut self, id: &str, entries: &[Logged], pull: &CollectionPull) -> Result<()> {
        let told = self.word.is_told(entries, pull)?;
        let mut entries = entries.iter().filter(|e| !e.is_notice()).peekable();
        if entries.peek().is_none() && !told {
            return Ok(());
        }
        if self.rows.last().is_none_or(|row| row.id != id) {
            self.bytes += id.len();
            (self.pushed, self.told, self.begun) = (false, false, false);
            let life = if pull.request.skip_echoes { Life::AsSent } else { Life::Told };
            let unasked = entries.peek().is_none() && !lookup::is_as_written(pull.collection, id)?;
            memory::push(&mut self.rows, Changed { life, unasked, ..Changed::unknown(id.to_string(), false, false) })?;
        }
        let at = self.rows.len() - 1;
        let row = &mut self.rows[at];
        row.seen |= told;
        self.told |= told;
        if told {
            row.life = Life::Told;
        }
        let mark = pull.collection.soft_delete.as_ref();
        for entry in entries {
            // (Word may stand before it.)
            row.inserted |= !std::mem::replace(&mut self.begun, true) && entry.op == Op::Insert;
            let own = entry.origin.is_some() && entry.origin.as_deref() == pull.request.client_id;
            let after_deletion = std::mem::replace(&mut row.deleted, entry.op == Op::Delete);
            row.life = row.life.next(Happening {
                made: own && entry.op == Op::Insert,
                as_sent: own && entry.as_sent,
                after_deletion,
            });
            let marks = |image: &Image| mark.is_some_and(|mark| tombstone::marks(mark, image.text(&mark.name)));
            // (What has no image has changed no mark.)
            if self.pushed && entry.image.as_ref().is_some_and(marks) {
                row.own = Some(PushedByClient::Gone);
            }
            self.pushed &= entry.image.is_none();
            if let Some(image) = entry.image.clone() {
                // A row that was inserted since has no state at the cursor.
                let first = !std::mem::replace(&mut row.has_images, true) && row.since.is_none();
                let (from, until, others) = (row.since, entry.stamp, row.life.is_others());
                memory::push(&mut self.of, ImageOf { row: at, first, from, until, others })?;
                self.bytes += image.size();
                memory::push(&mut self.images, image)?;
            }
            if entry.op == Op::Insert || entry.image.is_some() {
                row.since = Some(entry.stamp);
            }
            if entry.op == Op::Insert && self.told {
                // What the client pushed was not there, and is now: it has that row.
                row.own.get_or_insert(PushedByClient::There);
            }
            if own {
                row.own = Some(if row.deleted { PushedByClient::Gone } else { PushedByClient::There });
                self.pushed = true;
            }
        }
        Ok(())
    }

    fn is_full(&self, size: usize) -> bool {
        self.rows.len() + self.images.len() >= size || self.bytes >= BATCH_BYTES
    }

    /// Finds out which old states the caller could see; false when that cannot be told.
    fn judge(&mut self, pull: &CollectionPull, past: &Past) -> Result<bool> {
        let Some(seen) = past.saw(pull, &self.images, &self.of)? else { return Ok(false) };
        for (of, saw) in self.of.drain(..).zip(seen) {
            let row = &mut self.rows[of.row];
            row.seen |= saw != Saw::No;
            if saw != Saw::No && of.others {
                row.life = row.life.others_seen();
            }
            if of.first {
                row.first_seen = Some(saw == Saw::AtCursor);
            }
        }
        self.images.clear();
        self.bytes = 0;
        Ok(true)
    }
}

/// For each row that was found to be the caller's, so many are kept unasked: they are looked up anyway, and if most of them are his, as in a
/// backlog of his own, asking for each first would take as long as what follows. What others changed takes no more than that many times
/// the memory of his own.
const UNCHECKED: usize = 8;

/// Rows that concern the caller, or may.
#[derive(Default)]
struct Kept {
    rows: Vec<Changed>,
    /// So many were found to do so.
    own: usize,
    /// So many may be others'.
    foreign: usize,
    unchecked: usize,
}

impl CollectionPull<'_> {
    /// The changed rows that may concern the caller, in the order of their ids, from the one after this id on; and whether these are all. (It
    /// stops when there are more than so many, if that spares memory.) None when that cannot be told.
    pub(super) fn changed(
        &self,
        entries: &Entries,
        past: &Past,
        after: Option<&str>,
        enough: usize,
    ) -> Result<Option<(Vec<Changed>, bool)>> {
        let mut kept = Kept { unchecked: if enough == usize::MAX { UNCHECKED } else { 0 }, ..Kept::default() };
        let mut batch = RowBatch::default();
        let mut scratch = pg::Scratch::new(c"snapsync pull");
        let (mut told, mut all, mut size) = (true, true, BATCH);
        entries.each(&mut |id, changes| {
            if after.is_some_and(|after| id <= after) {
                return Ok(true);
            }
            batch.add(id, changes, self)?;
            if entries.are_many() && batch.is_full(size) {
                size = (2 * size).min(LARGEST_BATCH);
                told = batch.judge(self, past)?;
                if told {
                    // There may be more of the last one.
                    let last = batch.rows.pop();
                    past.settle(self, &mut batch.rows)?;
                    self.keep(&mut kept, std::mem::take(&mut batch.rows))?;
                    memory::extend(&mut batch.rows, last);
                    scratch.reset();
                    all = kept.rows.len() < enough;
                }
            }
            Ok(told && all)
        })?;
        if told && !all {
            return Ok(Some((kept.rows, false)));
        }
        if !told || !batch.judge(self, past)? {
            return Ok(None);
        }
        past.settle(self, &mut batch.rows)?;
        if kept.rows.is_empty() {
            return Ok(Some((batch.rows, true)));
        }
        self.keep(&mut kept, batch.rows)?;
        Ok(Some((kept.rows, true)))
    }

    /// Of these rows keeps those that the caller sees, or could see; of some it does not ask.
    fn keep(&self, kept: &mut Kept, rows: Vec<Changed>) -> Result<()> {
        if kept.foreign + rows.len() <= kept.own * kept.unchecked {
            kept.foreign += rows.len();
            memory::extend(&mut kept.rows, rows);
            return Ok(());
        }
        let ids: Vec<&str> = rows.iter().filter(|row| !row.seen).map(|row| &*row.id).gather();
        let there = self.there(&ids)?;
        let before = kept.rows.len();
        memory::extend(&mut kept.rows, rows.into_iter().filter(|row| row.seen || there.contains_key(&row.id)));
        kept.own += kept.rows.len() - before;
        Ok(())
    }
}
