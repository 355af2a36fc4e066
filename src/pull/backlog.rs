//! A collection's part of a page. Rows come in the order of their keys (rows.rs); changes since a cursor window by window of the log, and
//! in each window in the order of their ids.
//!
//! What a window has below S (pages.rs) is there in every snapshot that a page of it is read under, and the same. What it has from there on may
//! become more between two pages of it, and comes once more with the next pull. A row comes as it is now, with whichever of its entries is come
//! upon first, and again with each later window that has some of it.

use std::rc::Rc;

use super::arrays::{Added, Arrays};
use super::delta::Past;
use super::next_cursor::Extent;
use super::pages::Page;
use super::walk::Walked;
use super::{CollectionPull, Reaches, Start};
use crate::collections::catalog::Collection;
use crate::log::read::{Entries, Log, Scopes, Window};
use crate::server::error::Result;
use crate::server::pg;
use crate::sight::cause::Cause;
use crate::sight::policy::Judge;
use crate::sight::reach::{Movement, Reach};
use crate::sight::scope::derived::{Derived, Patience};
use crate::values::json::{Output, Writer};
use crate::values::token::{Changes, LogPart, Place};

/// A window holds about so many entries, if its stamps allow: at first few more than the page has room for, as the next page reads what is
/// left of it again; then, since they seem to be others', twice as many each time.
const SMALLEST: usize = 200;
const LARGEST: usize = 10_000;

/// A page is made of at most so many windows: others' entries take time, too, and a page without a row is one.
const WINDOWS: usize = 15;

/// What is looked at of the log at a time.
struct Piece {
    entries: Entries,
    /// Of the ids behind this one.
    after: Option<String>,
    /// Where it ends: below this stamp, or block.
    below: i64,
    /// What there is behind it.
    rest: Changes,
    is_last: bool,
}

/// Who judges old rows, once there are any.
struct Judging<'r, 's> {
    reach: &'r mut Reach<'s>,
    judge: Option<Judge>,
}

impl Judging<'_, '_> {
    fn judge(&mut self, collection: &Rc<Collection>) -> Result<Option<&Judge>> {
        if self.judge.is_none() {
            self.judge = self.reach.judge(collection)?;
        }
        Ok(self.judge.as_ref())
    }
}

impl CollectionPull<'_> {
    /// Appends what the page has of this collection, the one at this place of the call.
    pub(super) fn write_page<'s>(
        &self,
        from: Start,
        (place, at): (Place, usize),
        page: &mut Page<'s>,
        reaches: &mut Reaches<'s>,
        out: &mut Writer<Output>,
    ) -> Result<Extent> {
        let begins = matches!(place, Place::Begin | Place::Changes(_));
        let (changes, place) = match (place, from) {
            (Place::Begin, Start::Stamp(from)) => {
                (Some(Changes { from, held: from, parents: None, part: None, within: None }), Place::Begin)
            }
            (Place::Changes(changes), Start::Stamp(_)) => (Some(changes), Place::Begin),
            (Place::Begin | Place::Changes(_), _) => (None, Place::Begin),
            (place, _) => (None, place),
        };
        if let Some(keys) = &self.wanted.keys {
            let rows = match place {
                Place::Rows(rows) => rows,
                _ => None,
            };
            return self.write_page_of_keys(from, keys, (rows.map(|rows| rows.after), at), page, reaches, out);
        }
        let room = page.room();
        let mut from = from;
        if let Some(changes) = changes {
            let before = out.mark();
            match self.write_windows(changes, page, reaches, out)? {
                Ok(next) => {
                    if let Some(changes) = next {
                        page.cut(at, Place::Changes(changes));
                    }
                    return Ok(Extent::Changes);
                }
                Err(cause) => {
                    out.back_to(before);
                    page.take_out(room);
                    from = Start::Anything(cause);
                }
            }
        } else if !begins && matches!(from, Start::Stamp(_)) {
            // Why was said where it began.
            from = Start::Anything(Cause::Cursor);
        }
        page.begin_rows();
        if let Some(place) = self.write_rows(from, place, page, out)? {
            page.cut(at, place);
        }
        Ok(Extent::All(from.cause().filter(|_| begins)))
    }

    /// Rows from there on, as many as the page has room for; where the others begin.
    fn write_rows(
        &self,
        from: Start,
        place: Place,
        page: &mut Page,
        out: &mut Writer<Output>,
    ) -> Result<Option<Place>> {
        let (walk, rows) = match place {
            Place::Rows(rows) => (None, Some(rows)),
            Place::Walk(walk) => (Some(walk), None),
            _ => (None, None),
        };
        if rows.is_none() {
            match self.walk(from, walk, page, out)? {
                Walked::All => return Ok(None),
                Walked::To(walk) => return Ok(Some(Place::Walk(walk))),
                Walked::Otherwise => {}
            }
        }
        let next = self.write_some(from, rows.flatten().as_ref(), page, out)?;
        Ok(next.map(|rows| Place::Rows(Some(rows))))
    }

    /// The changes from there on, as many as the page has room for, and what is left of them; or why the client must replace what
    /// it has.
    fn write_windows<'s>(
        &self,
        mut changes: Changes,
        page: &mut Page<'s>,
        reaches: &mut Reaches<'s>,
        out: &mut Writer<Output>,
    ) -> Result<std::result::Result<Option<Changes>, Cause>> {
        let log = Log::open(page.snapshot)?;
        // Also where the page before has looked: what prune drops it says with a stamp of then, and what is still to be read may be gone.
        if log.was_reset(self.collection.relation, changes.held.min(changes.from))? {
            return Ok(Err(Cause::Reset));
        }
        let mut of_page = None;
        let reach = match self.unmoved(&changes, page.snapshot, reaches, &mut of_page)? {
            Ok(reach) => reach,
            Err(cause) => return Ok(Err(cause)),
        };
        changes.held = changes.held.max(page.snapmin);
        let Derived { scopes, judge } = self.derived(reach, Patience::Pull)?;
        let mut judging = Judging { reach, judge };
        let scopes = self.scopes().or(scopes.as_deref()).map_or(Scopes::All, Scopes::Only);
        let next = self.write_some_windows(&log, changes, scopes, &mut judging, page, out)?;
        let Judging { reach, judge } = judging;
        let parents = judge.map(|_| reach.gone_below(page.snapmin));
        Ok(next.map(|next| next.map(|next| Changes { parents: parents.or(next.parents), ..next })))
    }

    /// What happened since what is still to be sent, for who judges old rows, if the caller's access did not move; or why the client must replace what it has.
    ///
    /// On the first page of a collection it is asked for the whole time since the cursor, and all collections share what is read for that. From then on it is
    /// asked for what came since the page before. That page cannot know of a parent's key that comes again: if the parent was deleted before it, the caller could not see that one,
    /// and sees the new one now, old rows of children would pass for his. So where a parent came that he sees, and of course where anything else moved, all since
    /// what is still to be sent is asked. (The state of a child that is to be judged ended no later than its parent went. So what had gone before does not
    /// count.)
    fn unmoved<'r, 's>(
        &self,
        changes: &Changes,
        snapshot: &'s pg::ActiveSnapshot,
        reaches: &'r mut Reaches<'s>,
        of_page: &'r mut Option<Reach<'s>>,
    ) -> Result<std::result::Result<&'r mut Reach<'s>, Cause>> {
        let (from, held) = (changes.from, changes.held);
        let reach = if from == held {
            reaches.entry(from).or_insert_with(|| Reach::since(from, snapshot))
        } else {
            if let Movement::None { .. } = self.movement_of(&mut Reach::since(held, snapshot).with_births())? {
                return Ok(Ok(of_page.insert(Reach::since(from, snapshot).knowing(changes.parents.clone()))));
            }
            of_page.insert(Reach::since(from.min(held), snapshot))
        };
        Ok(match self.movement_of(reach)? {
            Movement::None { .. } => Ok(reach),
            Movement::Untold(cause) => Err(cause),
            Movement::Access { .. } => Err(Cause::Pages),
        })
    }

    /// Where resets of the collection itself were looked for.
    fn movement_of(&self, reach: &mut Reach) -> Result<Movement> {
        reach.was_not_reset(self.collection);
        reach.movement(self.collection, self.collection.logged_scope.is_some())
    }

    fn write_some_windows(
        &self,
        log: &Log,
        mut changes: Changes,
        scopes: Scopes,
        judging: &mut Judging,
        page: &mut Page,
        out: &mut Writer<Output>,
    ) -> Result<std::result::Result<Option<Changes>, Cause>> {
        let mut arrays = Arrays::begin(self, out)?;
        let mut size = page.rows.saturating_mul(4).clamp(SMALLEST, LARGEST);
        for windows in 1.. {
            // Without an end on the first page: up to what its snapshot shows.
            let last = page.ends_below().unwrap_or(i64::MAX);
            let piece = self.piece(log, &mut changes, last, scopes, size)?;
            let entries = &piece.entries;
            let none = Judge::of_none(self.collection);
            let judge = match self.needs_judge(entries) {
                true => judging.judge(self.collection)?,
                false => Some(&none),
            };
            let Some(judge) = judge else { return Ok(Err(Cause::OldRows)) };
            match self.write_window(entries, judge, piece.after, &mut arrays, page)? {
                None => return Ok(Err(Cause::OldRows)),
                Some(Added::UpTo(after)) => {
                    changes.within = after.map(|after| (piece.below, after));
                    arrays.end();
                    return Ok(Ok(Some(changes)));
                }
                Some(Added::All) => changes = piece.rest,
            }
            if piece.is_last {
                break;
            }
            size = (size * 2).min(LARGEST);
            if windows == WINDOWS || page.is_full(arrays.length()) {
                arrays.end();
                return Ok(Ok(Some(changes)));
            }
        }
        arrays.end();
        Ok(Ok(None))
    }

    /// What comes next of the log: a window, or some blocks of a transaction that has written much.
    fn piece(&self, log: &Log, changes: &mut Changes, last: i64, scopes: Scopes, size: usize) -> Result<Piece> {
        let relation = self.collection.relation;
        if let Some(part) = &changes.part {
            if log.places()? != (part.file, part.compactions) || changes.from >= last {
                (changes.part, changes.within) = (None, None);
            }
        }
        let (mut below, after) = match changes.within.take() {
            Some((below, after)) => (Some(below), Some(after)),
            None => (None, None),
        };
        if changes.part.is_none() && below.is_none() {
            let end = log.end_of(relation, changes.from, scopes, size)?;
            below = Some(end.map_or(i64::MAX, |end| end.below));
            if let Some(end) = end.filter(|end| end.large && end.below <= last) {
                let stamp = end.below - 1;
                match log.large(relation, stamp, scopes, size * 2)? {
                    Some(part) if end.alone => {
                        (changes.from, changes.part, below) = (stamp, Some(part), None);
                    }
                    // What comes before it is one window.
                    Some(_) => below = Some(stamp),
                    None => {}
                }
            }
        }
        let (held, parents) = (changes.held, changes.parents.clone());
        let rest = |from| Changes { from, held, parents: parents.clone(), part: None, within: None };
        let Some(part) = &changes.part else {
            let below = below.unwrap_or(i64::MAX).min(last);
            let is_last = below == last;
            let window = Window { from: changes.from, below: (below < i64::MAX).then_some(below), own: is_last };
            let entries = log.within(relation, window, scopes, after.as_deref(), false)?;
            return Ok(Piece { entries, after, below, rest: rest(below), is_last });
        };
        let behind = changes.from + 1;
        if part.block > part.last {
            let window = Window { from: changes.from, below: Some(behind), own: false };
            let entries = log.within(relation, window, scopes, after.as_deref(), true)?;
            return Ok(Piece { entries, after, below: behind, rest: rest(behind), is_last: false });
        }
        // To the same block as on the page before, or as far as there are so many.
        let (last, size) = match below {
            Some(below) => (u32::try_from(below - 1).unwrap_or(part.last).min(part.last), usize::MAX),
            None => (part.last, size),
        };
        let (entries, end) = log.part(relation, changes.from, &LogPart { last, ..*part }, scopes, size)?;
        let rest = match end <= part.last || part.inner {
            true => Changes { part: Some(LogPart { block: end, ..*part }), ..rest(changes.from) },
            false => rest(behind),
        };
        Ok(Piece { entries, after, below: end.into(), rest, is_last: false })
    }

    /// The changes of one window, of the ids after this one; up to which id, if the page has no room for all.
    fn write_window(
        &self,
        entries: &Entries,
        judge: &Judge,
        mut after: Option<String>,
        arrays: &mut Arrays,
        page: &mut Page,
    ) -> Result<Option<Added>> {
        let mut said = after.clone();
        loop {
            let past = Past::Steady(judge);
            let Some((mut rows, all)) = self.changed(entries, &past, after.as_deref(), page.rows)? else {
                return Ok(None);
            };
            after = rows.last().map(|row| row.id.clone()).or(after);
            if self.request.skip_echoes {
                self.leave_out_echoes(&mut rows, &past)?;
            }
            match arrays.add(self, &mut rows, Some(page))? {
                Added::UpTo(last) => return Ok(Some(Added::UpTo(last.or(said)))),
                Added::All if all => return Ok(Some(Added::All)),
                // Which ids come next is known to the caller if rows were sent up to here.
                Added::All => said = rows.iter().rfind(|row| row.returned || row.seen).map(|r| r.id.clone()).or(said),
            }
        }
    }
}
