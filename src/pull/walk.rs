//! All rows of a collection in the order in which they stand in the table's file: in pages that is several times cheaper than the order of
//! their keys, where each row of random keys is in another block.
//!
//! An UPDATE that changes nothing of what is synced leaves no entry in the log, and moves the row all the same: maybe from blocks that are
//! still to be read to some that were read. So the walk goes in rounds. The first takes all rows. In each that follows only row versions
//! count that were made by transactions which the first snapshot of the round before did not see: a row version says who made it. The walk is
//! at its end when one page, and so one snapshot, has come from some place over the end of the table to the same place again. Mostly the last
//! page does that: it looks at each row version's header once more, and finds nothing.
//!
//! *Why nothing is missed.* Let a row be visible in the last page's snapshot P, and without an entry since S (pages.rs). P sees one version
//! v of it, and has passed v's place in the last round: v was sent, or the first snapshot of the round before saw who made it. So did all
//! snapshots of that round, for each sees what those before it saw. One of them passed the place of v, where v was not out of date, as it
//! is not in P, which sees no less. So v was sent in that round, or the first snapshot of the round before saw who made it; and so on, down to
//! the first round, which sent all it saw. What was sent of a row that has no entry since S is what it still is.
//!
//! The order holds as long as the table's file does. With another one (VACUUM FULL, CLUSTER) the walk begins anew. Each snapshot must see
//! what those of earlier pages saw, which is so in new ones of one server, but not on a standby that lags, or in a transaction that keeps its
//! snapshot: there rows come in the order of their keys. So they do where the planner finds another way to them than reading the table from
//! one end to the other, where the table is so large that it cannot be passed in one page, and when writers are faster than the walk, or the
//! same rows would come again, because who made them cannot be told from a transaction that lasts.

use super::pages::Page;
use super::rows::UntilFull;
use super::{CollectionPull, Start};
use crate::server::error::Result;
use crate::server::heap::{self, Tid, Unseen};
use crate::server::pg;
use crate::server::slot;
use crate::server::statement::by_place::Tids;
use crate::values::json::{self, Output, Writer};
use crate::values::token::WalkPlace;

/// A larger table (1 GB) is not walked.
const BLOCKS: u32 = 131_072;

/// After so many rounds rows come in the order of their keys. Each is as long as what was written in the one before.
const ROUNDS: u8 = 10;

/// So many places are read at a time.
const AT_A_TIME: usize = 1_000;

/// A transaction so far behind cannot be told any more from one in the future.
const PAST: u64 = 1 << 30;

/// How far a page has come.
pub(super) enum Walked {
    All,
    /// The next one goes on there.
    To(WalkPlace),
    /// Rows have to come in the order of their keys; nothing is written.
    Otherwise,
}

impl CollectionPull<'_> {
    /// As many rows as the page has room for, from there on.
    pub(super) fn walk(
        &self,
        from: Start,
        walk: Option<WalkPlace>,
        page: &mut Page,
        out: &mut Writer<Output>,
    ) -> Result<Walked> {
        let table = self.collection.relation;
        let file = heap::file_of(table).filter(|(_, blocks)| page.fresh && *blocks <= BLOCKS);
        let Some((file, _)) = file.filter(|_| pg::may_select(table, heap::NUMBER)) else {
            return Ok(Walked::Otherwise);
        };
        let (unseen, exact) = Unseen::by(page.snapshot);
        let goes_on = |walk: &WalkPlace| walk.file == file && unseen.from.saturating_sub(walk.before.from) < PAST;
        let begun = || WalkPlace { file, round: 0, after: Tid::START, before: unseen.clone(), first: unseen.clone() };
        let walk = walk.filter(goes_on);
        // What committed since would count as unseen for as long as some transaction of many savepoints lasts: each round would send it again.
        if !exact && walk.as_ref().is_none_or(|walk| walk.round > 0) {
            return Ok(Walked::Otherwise);
        }
        let mut walk = walk.unwrap_or_else(begun);
        let (before, room) = (out.mark(), page.room());
        let created = self.begin_all(from, out);
        let walked = self.walk_on(&mut walk, &unseen, page, out)?;
        match walked {
            Some(true) => self.end_all(created, out),
            Some(false) => {
                self.end_all(created, out);
                return Ok(Walked::To(walk));
            }
            None => {
                out.back_to(before);
                page.take_out(room);
                return Ok(Walked::Otherwise);
            }
        }
        Ok(Walked::All)
    }

    /// True: to the end. False: until the page was full. None: it cannot go on.
    fn walk_on(
        &self,
        walk: &mut WalkPlace,
        unseen: &Unseen,
        page: &mut Page,
        out: &mut Writer<Output>,
    ) -> Result<Option<bool>> {
        let (begin, mut upto) = (walk.after, None);
        loop {
            if walk.round == 0 {
                match self.write_tids(Tids::After(walk.after), walk, page, out)? {
                    Some(true) => {}
                    other => return Ok(other),
                }
            } else {
                let table = self.collection.relation;
                loop {
                    let tids = heap::made_by(table, walk.after, upto, &walk.before, AT_A_TIME);
                    let Some(last) = tids.last() else { break };
                    match self.write_tids(Tids::These(&tids), walk, page, out)? {
                        Some(true) => walk.after = *last,
                        other => return Ok(other),
                    }
                }
            }
            if upto.is_some() || begin == Tid::START {
                return Ok(Some(true));
            }
            // The next one would be over the same transactions: one of them lasts.
            let repeats = walk.round > 0 && walk.first == walk.before;
            if walk.round == ROUNDS || repeats {
                return Ok(None);
            }
            upto = Some(begin);
            (walk.round, walk.after) = (walk.round + 1, Tid::START);
            walk.before = std::mem::replace(&mut walk.first, unseen.clone());
        }
    }

    /// Takes the walk on over these rows: true if over all of them, false if the page has no room for more, None if it cannot read them so.
    fn write_tids(
        &self,
        tids: Tids,
        walk: &mut WalkPlace,
        page: &mut Page,
        out: &mut Writer<Output>,
    ) -> Result<Option<bool>> {
        let (select, spec) = self.select(false)?;
        let place = (spec.key.len() + spec.fields.len() + 1) as i16;
        let mut args = Vec::new();
        let conditions = self.conditions(self.scopes(), &mut args, false);
        let condition =
            if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        let comma = if select.is_empty() { "" } else { ", " };
        let sql = format!("SELECT {select}{comma}t.ctid FROM {} AS t{condition}", self.collection.from);
        let mut sink = UntilFull { out, page, last: String::new(), more: false };
        let mut writer = json::RowWriter::new(&spec, &mut sink);
        let mut each = |row| {
            // SAFETY: a row of the one query below, whose last column is its place.
            unsafe {
                let more = writer.row(row);
                if let Some(datum) = slot::value(row, place).filter(|_| more) {
                    walk.after = Tid::of(datum);
                }
                more
            }
        };
        let statement = self.statement(&[], &sql, &args, &self.hidden())?;
        let read = statement.each_by_place(self.collection.relation, tids, &mut each)?;
        Ok(read.then_some(!sink.more))
    }
}
