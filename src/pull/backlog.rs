//! A collection's part of a page. Rows come in the order of their keys (rows.rs); changes since a cursor window by window of the log, and
//! in each window in the order of their ids.
//!
//! What a window has is below S (pages.rs), so it is there in every snapshot that a page of it is read under, and the same. A row comes as it is
//! now, with whichever of its entries is come upon first, and again with each later window that has some of it.

use super::arrays::{Added, Arrays};
use super::delta::Past;
use super::pages::Page;
use super::{CollectionPull, Start};
use crate::log::read::{Entries, Log, Scopes, Window};
use crate::server::error::Result;
use crate::sight::cause::Cause;
use crate::sight::policy::Judge;
use crate::sight::reach::{Movement, Reach};
use crate::sight::scope::derived::Derived;
use crate::values::json::{Output, Writer};
use crate::values::token::{Changes, Place};

/// A window holds about so many entries, if its stamps allow: at first few more than the page has room for, as the next page reads what is
/// left of it again; then, since they seem to be others', twice as many each time.
const SMALLEST: usize = 200;
const LARGEST: usize = 10_000;

/// A page is made of at most so many windows: others' entries take time, too, and a page without a row is one.
const WINDOWS: usize = 15;

impl CollectionPull<'_> {
    /// Appends what the page has of this collection, the one at this place of the call; says why when a replacement begins here.
    pub(super) fn write_page(
        &self,
        from: Start,
        place: Place,
        at: usize,
        page: &mut Page,
        out: &mut Writer<Output>,
    ) -> Result<Option<Cause>> {
        let (changes, after) = match (place, from) {
            (Place::Begin, Start::Stamp(from)) => (Some(Changes { from, held: from, within: None }), None),
            (Place::Begin, _) => (None, None),
            (Place::Changes(changes), Start::Stamp(_)) => (Some(changes), None),
            (Place::Changes(_), _) => (None, None),
            (Place::Rows { after }, _) => (None, Some(after)),
        };
        if let Some(keys) = &self.wanted.keys {
            return self.write_page_of_keys(from, keys, after, at, page, out);
        }
        let (begins, room) = (after.is_none(), page.room());
        let mut from = from;
        if let Some(changes) = changes {
            let before = out.mark();
            match self.write_windows(changes, page, out)? {
                Ok(next) => {
                    if let Some(changes) = next {
                        page.cut(at, Place::Changes(changes));
                    }
                    return Ok(None);
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
        if let Some(after) = self.write_some(from, after.as_deref(), page, out)? {
            page.cut(at, Place::Rows { after });
        }
        Ok(match from {
            Start::Anything(cause) if begins => Some(cause),
            _ => None,
        })
    }

    /// The changes from there on, as many as the page has room for, and what is left of them; or why the client must replace what
    /// it has.
    fn write_windows(
        &self,
        mut changes: Changes,
        page: &mut Page,
        out: &mut Writer<Output>,
    ) -> Result<std::result::Result<Option<Changes>, Cause>> {
        let (snapshot, relation) = (page.snapshot, self.collection.relation);
        let log = Log::open(snapshot)?;
        if log.was_reset(relation, changes.held)? {
            return Ok(Err(Cause::Reset));
        }
        let mut held = Reach::since(changes.held, snapshot);
        held.was_not_reset(self.collection);
        match held.movement(self.collection, self.collection.logged_scope.is_some())? {
            Movement::None { .. } => {}
            Movement::Untold(cause) => return Ok(Err(cause)),
            Movement::Access { .. } => return Ok(Err(Cause::Pages)),
        }
        changes.held = changes.held.max(page.snapmin);
        let mut reach = Reach::since(changes.from, snapshot);
        let Derived { scopes: found, mut judge } = self.derived(&mut reach)?;
        let scopes = self.scopes().or(found.as_deref()).map_or(Scopes::All, Scopes::Only);
        let mut arrays = Arrays::begin(self, out)?;
        let mut size = page.rows.saturating_mul(4).clamp(SMALLEST, LARGEST);
        for windows in 1.. {
            let (end, after) = match changes.within.take() {
                Some((end, after)) => (end, Some(after)),
                None => (log.end_of(relation, changes.from, scopes, size)?.unwrap_or(i64::MAX), None),
            };
            // Without an end on the first page: up to what its snapshot shows.
            let last = page.ends_below().unwrap_or(i64::MAX);
            let end = end.min(last);
            let window = Window { from: changes.from, below: (end < i64::MAX).then_some(end), own: end == last };
            let entries = log.within(relation, window, scopes, after.as_deref())?;
            if self.needs_judge(&entries) && judge.is_none() {
                match reach.judge(self.collection)? {
                    Some(found) => judge = Some(found),
                    None => return Ok(Err(Cause::OldRows)),
                }
            }
            let none = Judge::of_none(self.collection);
            let judge = if self.needs_judge(&entries) { judge.as_ref().unwrap_or(&none) } else { &none };
            match self.write_window(&entries, judge, after, &mut arrays, page)? {
                None => return Ok(Err(Cause::OldRows)),
                Some(Added::UpTo(after)) => {
                    changes.within = after.map(|after| (end, after));
                    arrays.end();
                    return Ok(Ok(Some(changes)));
                }
                Some(Added::All) => changes.from = end,
            }
            if end == last {
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
