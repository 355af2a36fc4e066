//! Cursors that say exactly what a client knows of the rows that decide what it sees.
//!
//! A pull's snapshot has seen all changes before its snapmin, and maybe some after it. Of a collection's own rows these come once more, and
//! no harm is done. But a membership that came and went after the cursor leaves a client with rows or without them, as its pull has seen it
//! come or not; and a row that came after the cursor is with the client or not, when a membership goes. So a pull that has seen such changes
//! says so: its cursor is odd, which no stamp is.

use std::collections::HashSet;
use std::rc::Rc;

use super::{Observed, Start};
use crate::collections::catalog::{self, Collection};
use crate::log::clock::{self, Reading};
use crate::log::journal;
use crate::server::error::Result;
use crate::server::memory::Gather;
use crate::server::pg;
use crate::sight::reach::Reach;
use crate::values::cursor::Cursor;

/// What the changes that a collection is told build on: how this snapshot stands to what the client has.
pub(super) struct Basis {
    /// Its cursor says what it knows of memberships and the like.
    pub exact: bool,
    /// The snapshot is older than the cursor.
    pub older: bool,
    /// It may lack something that the client has.
    pub may_lack: bool,
}

impl Basis {
    pub fn of(from: Start, cursor: Cursor, seen: &Observed) -> Basis {
        let exact = is_exact(cursor);
        let Start::Stamp(stamp) = from else { return Basis { exact, older: false, may_lack: false } };
        let older = seen.snapmin < stamp;
        // What an inexact cursor's answer had seen besides, this snapshot may not see, beside others' commits; nor on a standby what the client has pushed.
        let beside = !exact && seen.seen_by_clock.is_none_or(|clock| clock.snapmin <= clock.newest);
        Basis { exact, older, may_lack: older || beside || pg::in_recovery() }
    }
}

/// Does a cursor say so?
pub(super) fn is_exact(cursor: Cursor) -> bool {
    matches!(cursor, Cursor::Stamp(stamp) if stamp & clock::INEXACT == 0)
}

/// The cursor to return, which changes from this stamp on follow. That it cannot be exact, and so must be
/// this odd number, is what `inexact` says.
pub(super) fn cursor(
    stamp: i64,
    inexact: &dyn Fn(i64) -> bool,
    snapmin: i64,
    clock: Option<Reading>,
    collections: &[Rc<Collection>],
    snapshot: &pg::ActiveSnapshot,
) -> Result<i64> {
    let stamp = clock::stamp_of(stamp);
    if inexact(stamp + clock::INEXACT) || stamp < clock::FIRST {
        return Ok(stamp + clock::INEXACT);
    }
    // Nobody was committing, and nobody has begun to since.
    let is_whole = match clock {
        Some(reading) if clock::next(reading.newest) == stamp && snapmin <= stamp && journal::own_stamp().is_none() => {
            clock::read()? == reading.newest
        }
        _ => false,
    };
    let exact = is_whole || snapmin >= stamp && !has_seen_since(stamp, collections, snapshot)?;
    Ok(if exact { stamp } else { stamp + clock::INEXACT })
}

/// Does the snapshot see changes from this stamp on in tables that decide who sees what, or in those that they, or a filter, decide about?
fn has_seen_since(stamp: i64, collections: &[Rc<Collection>], snapshot: &pg::ActiveSnapshot) -> Result<bool> {
    let mut reach = Reach::since(stamp, snapshot);
    let mut open: Vec<Rc<Collection>> = collections.iter().map(Rc::clone).gather();
    let mut seen: HashSet<u32> = HashSet::new();
    // (Of those with a scope a client may ask otherwise the next time: what it has of them must be known then, too.)
    let matters = |table: &&Rc<Collection>| !table.access.is_empty() || table.scope.is_some();
    for table in collections.iter().filter(matters) {
        if reach.has_entries(table.relation)? {
            return Ok(true);
        }
    }
    while let Some(table) = open.pop() {
        // (One whose changes are not logged is a reason to replace with every pull.)
        for access in table.access.iter().filter(|access| !access.untracked) {
            let Some(read) = catalog::tracked(access.relation)? else { continue };
            if seen.insert(access.relation.to_u32()) {
                if reach.has_entries(access.relation)? {
                    return Ok(true);
                }
                open.push(read);
            }
        }
    }
    Ok(false)
}
