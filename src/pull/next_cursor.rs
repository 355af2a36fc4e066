//! The cursor that an answer gives, one for all of its collections.
//!
//! By itself each collection would go on from the snapshot's snapmin; or from its own cursor, where the snapshot is older, for what lies between the client has. The
//! earliest of these will do for all: to whom had a later one, changes between come again.
//!
//! *Under a snapshot that is older than a cursor* (REPEATABLE READ, a standby that lags) a collection is told nothing but changes, or all, as that snapshot shows it. All of it is
//! older than its cursor said, so the answer's cursor goes back to the snapmin. Then this says nothing any more of what the client has of those collections that were told only
//! changes: if the primary is lost with commits that they came from, the gap of the new history begins behind it. So it says that it went back
//! ([`clock::WENT_BACK`]), and the next pull replaces all.

use super::pages::Page;
use super::since::Since;
use super::{exact, Observed, PullRequest, Start};
use crate::collections::catalog::Collection;
use crate::log::clock;
use crate::log::roles::Standing;
use crate::server::error::Result;
use crate::sight::cause::Cause;
use crate::values::cursor::Cursor;

use std::rc::Rc;

/// What a collection's part of an answer has told.
pub(super) enum Extent {
    /// What has changed since its cursor. (And what the client asks for only now, where the snapshot is no older than that.)
    Changes,
    /// All that the client asks for. Why, where that replaces what it has, and is not said yet.
    All(Option<Cause>),
}

impl Extent {
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Extent::Changes => None,
            Extent::All(cause) => *cause,
        }
    }
}

pub(super) struct NextCursor {
    cursor: i64,
    snapmin: i64,
    /// The latest cursor of a collection that was told only changes.
    kept: i64,
}

impl NextCursor {
    /// As far as it is known before anything is read; `earliest`: see above.
    pub fn begin(
        earliest: i64,
        since: &Since,
        (request, names): (&PullRequest, &[String]),
        seen: &Observed,
        collections: &[Rc<Collection>],
        page: Option<&mut Page>,
    ) -> Result<NextCursor> {
        // Earlier pages may have seen less than this one.
        let whole = seen.seen_by_clock.filter(|_| page.is_none());
        let resumed = page.as_ref().is_some_and(|page| page.resumed);
        let timestamp = page.map_or(earliest, |page| page.cursor(earliest));
        // It does not go back behind an odd one. Nor is it exact of a collection that a later cursor was given for, or of what pages of several
        // snapshots have; nor where an old snapshot, a standby's too, has rows as they were before a push, of which the next pull may leave out the echo (echo.rs).
        let several = resumed || request.client_id.is_some() && seen.seen_by_clock.is_none();
        let inexact = |odd| several || names.iter().any(|name| matches!(since.of(name), Cursor::Stamp(c) if c >= odd));
        let cursor = exact::cursor(timestamp, &inexact, seen.snapmin, whole, collections, &seen.snapshot)?;
        Ok(NextCursor { cursor, snapmin: seen.snapmin, kept: 0 })
    }

    /// A collection that began there was told this.
    pub fn tell(&mut self, from: Start, told: &Extent, page: Option<&mut Page>) {
        match (told, from) {
            (Extent::Changes, Start::Stamp(cursor)) => {
                self.kept = self.kept.max(cursor);
                if let Some(page) = page {
                    page.token.changes = true;
                }
            }
            // (Why may have come up only when it was written.)
            _ if self.snapmin < clock::stamp_of(self.cursor) => {
                let snapmin = page.map_or(self.snapmin, |page| page.cursor(self.snapmin));
                self.cursor = clock::stamp_of(snapmin) + clock::INEXACT;
            }
            _ => {}
        }
    }

    /// `starts`: those of all collections, of which earlier pages may have told.
    pub fn end(self, standing: Standing, starts: &[(Start, i64)], page: Option<&Page>) -> i64 {
        let of_pages = starts.iter().filter_map(|(start, _)| match start {
            Start::Stamp(cursor) if page.is_some_and(|page| page.token.changes) => Some(*cursor),
            _ => None,
        });
        let kept = of_pages.fold(self.kept, i64::max);
        let stamp = clock::stamp_of(self.cursor);
        standing.mark(if stamp < kept { stamp + clock::WENT_BACK } else { self.cursor })
    }
}
