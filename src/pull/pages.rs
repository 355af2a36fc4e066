//! A pull in pages. Each is a pull of its own, under a snapshot of its own, and what the next one has to know is in the token that the
//! client brings back: the server keeps nothing.
//!
//! *Why the client ends up right.* Let S be the smallest snapmin of the pages, which the last one gives as the cursor. What the client was
//! sent stood so in the snapshot of some page, or is a row that a later page left to the next pull. A change that this snapshot did not
//! see has, by the clock's invariant, a stamp of at least that page's snapmin, so of at least S. So the pull from S sends what changed
//! between and behind the pages, deletions of rows that were sent included, and finds out, as any pull does, whether the caller's access
//! moved since S. That the role itself stands as it did on the first page is looked at on each.
//!
//! *Where changes end.* All changes since the cursor with stamps below S have to be in some page, and are: every snapshot sees them, so each
//! window has all of its part of them. What has a stamp from S on may be in a page or not. The pages' snapshots see some of these changes and not
//! others (of a transaction that is prepared, or waits in its commit), and one may become visible when the window that it belongs to is past;
//! the pull from S sends them all, once more or for the first time. So any end that is not below S is right. With S itself nothing would
//! ever come behind the first page while a transaction stays prepared, for S stays, too. With what is there on each page the pages would not end
//! while others write. So changes end where the clock stood on the first page.
//!
//! What else the pages rest on (the history of the clock, the shape of the tables, the log since S) does not have to hold for that: the
//! pull from S would notice and replace everything. But then the pages to come would be sent for nothing, so the pull begins anew at once.
//! (While nobody has written on a history, the pull from S replaces everything in any case. There pages go on that were begun there, or they would not end.)

use std::rc::Rc;

use super::{PullRequest, Start};
use crate::collections::catalog::Collection;
use crate::log::client;
use crate::log::clock::{self, history};
use crate::log::read::Log;
use crate::server::error::{code, Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::pg;
use crate::sight::cause::Cause;
use crate::values::cursor::Cursor;
use crate::values::dialect::Dialect;
use crate::values::settings;
use crate::values::token::{digest, Place, Token};

/// The page that is being filled.
pub(super) struct Page<'a> {
    asked: &'a Asked<'a>,
    pub snapshot: &'a pg::ActiveSnapshot,
    /// Where it begins.
    pub token: Token,
    /// The client brought a token: this is not the first page.
    pub resumed: bool,
    /// The snapmin of this page's own snapshot.
    pub snapmin: i64,
    /// That sees all that earlier pages' snapshots saw.
    pub fresh: bool,
    /// So many rows fit in, counting deleted ones.
    pub rows: usize,
    /// It ends when it is as long.
    bytes: usize,
    any: bool,
    /// The cursor is lower than the page before could have given.
    lowered: bool,
    /// Where the next one begins.
    next: Option<(u32, Place)>,
}

/// Who asks for what, for the token that belongs to it.
pub(super) struct Asked<'a> {
    pub request: &'a PullRequest<'a>,
    pub names: &'a [String],
    pub cursor: Cursor,
    pub dialect: Dialect,
    pub collections: &'a [Rc<Collection>],
    /// The version that the calling role stands in.
    pub role: &'a str,
}

fn malformed(detail: impl Into<String>) -> SyncError {
    SyncError::new(code::INVALID_PARAMETER, "malformed next")
        .detail(detail)
        .hint("Pass the next of the page before as it was, or leave it out to begin anew.")
}

fn foreign(detail: &str) -> SyncError {
    SyncError::new(code::INVALID_PARAMETER, "next belongs to another pull")
        .detail(detail)
        .hint("Pass the same arguments for each page (page_size may differ), or leave next out to begin anew.")
}

/// Of texts, each for itself.
fn digest_of<S: AsRef<str>>(texts: &[S]) -> u64 {
    let mut bytes = Vec::new();
    for text in texts {
        let text = text.as_ref().as_bytes();
        memory::append(&mut bytes, &(text.len() as u64).to_be_bytes());
        memory::append(&mut bytes, text);
    }
    digest(&bytes)
}

/// Of the first page.
const FIRST: Token = Token {
    snapmin: i64::MAX,
    newest: 0,
    until: 0,
    whole: true,
    begun: false,
    again: false,
    changes: false,
    arguments: 0,
    caller: 0,
    state: 0,
    at: 0,
    place: Place::Begin,
};

impl Asked<'_> {
    /// The token, with whose it is.
    fn identify(&self, token: Token) -> Result<Token> {
        let caller = digest(client::who()?.as_bytes());
        Ok(Token { arguments: self.arguments(), caller, state: self.state()?, ..token })
    }

    /// Of the arguments that say what is pulled, and how it is written.
    fn arguments(&self) -> u64 {
        let request = self.request;
        let mut texts: Vec<String> = self.names.iter().cloned().gather();
        texts.push(format!("{:?}", (self.cursor, self.dialect, &request.filter, request.client_id)));
        texts.push(format!("{:?}", (request.send_created_as_updated, request.skip_echoes)));
        texts.push(format!("{:?}", (&request.since, &request.migration, &request.last_filter)));
        digest_of(&texts)
    }

    /// Of what a page must find as the first one found it.
    fn state(&self) -> Result<u64> {
        let (database, system) = pg::database();
        let mut texts = vec![system.to_string(), database.to_u32().to_string(), self.role.to_string()];
        texts.push(format!("{:?}", history::unrecorded()?));
        for collection in self.collections {
            texts.push(collection.relation.to_u32().to_string());
            texts.push(collection.shape.clone());
            let key = collection.key.iter().map(|k| (k.attnum, k.facts.base.to_u32()));
            texts.push(format!("{:?}", key.gather::<Vec<_>>()));
            let scope = collection.scope.as_ref().map(|c| c.attnum);
            let soft_delete = collection.soft_delete.as_ref().map(|c| c.attnum);
            texts.push(format!("{:?}", (scope, &collection.scope_values, soft_delete)));
            let mine = collection.columns.iter().filter(|c| pg::may_select(collection.relation, c.attnum));
            texts.push(format!("{:?}", mine.map(|c| (&c.name, &c.type_name)).gather::<Vec<_>>()));
        }
        Ok(digest_of(&texts))
    }
}

impl<'a> Page<'a> {
    /// None where the caller does not ask for pages.
    pub fn begin(
        asked: &'a Asked<'a>,
        snapshot: &'a pg::ActiveSnapshot,
        snapmin: i64,
        fresh: bool,
    ) -> Result<Option<Page<'a>>> {
        let request = asked.request;
        if request.page_size.is_none() && request.next.is_none() {
            return Ok(None);
        }
        let rows = match request.page_size {
            Some(size) if size < 1 => {
                return Err(SyncError::new(code::INVALID_PARAMETER, "page_size must be at least 1")
                    .hint("Pass how many rows a page may have, or leave it out to get all in one answer."))
            }
            Some(size) => size as usize,
            // The rest.
            None => usize::MAX,
        };
        let bytes = if request.page_size.is_none() { usize::MAX } else { settings::page_bytes() };
        let (mut token, mut resumed) = (FIRST, false);
        if let Some(next) = request.next {
            let (brought, sealed) = Token::decode(next, &pg::secret()).map_err(|e| malformed(format!("{e}.")))?;
            let now = asked.identify(FIRST)?;
            if brought.arguments != now.arguments {
                return Err(foreign("Other arguments were passed when it was given."));
            }
            if brought.caller != now.caller {
                return Err(foreign("It was given to somebody else."));
            }
            // (Of another cluster, since an upgrade say, or made up.)
            resumed = sealed && brought.state == now.state && still_holds(&brought, asked, snapshot)?;
            token = if resumed { brought } else { Token { again: brought.begun, begun: brought.begun, ..FIRST } };
        }
        if !resumed {
            token.until = clock::next(clock::read()?);
        }
        let (any, lowered, next) = (false, false, None);
        Ok(Some(Page { asked, snapshot, token, resumed, snapmin, fresh, rows, bytes, any, lowered, next }))
    }

    /// The cursor, if this is the last page, from the one that this page alone could give.
    pub fn cursor(&mut self, cursor: i64) -> i64 {
        self.lowered = cursor < self.token.snapmin;
        self.token.snapmin = self.token.snapmin.min(cursor);
        self.token.snapmin
    }

    /// Where this collection's part of the page begins; None where it has none.
    pub fn place(&mut self, at: usize) -> Option<Place> {
        if self.next.is_some() || (at as u32) < self.token.at {
            return None;
        }
        let here = at as u32 == self.token.at;
        Some(if here { std::mem::replace(&mut self.token.place, Place::Begin) } else { Place::Begin })
    }

    /// The next page begins there.
    pub fn cut(&mut self, at: usize, place: Place) {
        self.next = Some((at as u32, place));
    }

    /// If nothing more fits in, the next page begins with this one of so many collections.
    pub fn cut_before(&mut self, at: usize, collections: usize, length: usize) {
        if self.next.is_none() && at < collections && self.is_full(length) {
            self.cut(at, Place::Begin);
        }
    }

    /// The token of the next page; None where this is the last one.
    pub fn next(self) -> Result<Option<String>> {
        let Some((at, place)) = self.next else { return Ok(None) };
        let newest = self.token.newest.max(self.snapmin);
        let mut token = Token { at, place, newest, ..self.token };
        if self.lowered {
            token.whole = !is_pruned(token.snapmin, self.asked.collections, self.snapshot)?;
        }
        if !self.resumed {
            token = self.asked.identify(token)?;
        }
        Ok(Some(token.encode(&pg::secret())))
    }

    /// So many rows were put in, deleted ones included.
    pub fn holds(&mut self, rows: usize) {
        self.rows -= rows;
        self.any |= rows > 0;
    }

    /// All rows of a collection begin here.
    pub fn begin_rows(&mut self) {
        self.token.begun = true;
    }

    /// The room that is left, to go back to.
    pub fn room(&self) -> (usize, bool) {
        (self.rows, self.any)
    }

    pub fn take_out(&mut self, room: (usize, bool)) {
        (self.rows, self.any) = room;
    }

    /// Does nothing fit in any more, with the answer so long? Every page has a row.
    pub fn is_full(&self, length: usize) -> bool {
        self.rows == 0 || self.any && self.is_long(length)
    }

    pub fn is_long(&self, length: usize) -> bool {
        length >= self.bytes
    }

    pub fn is_empty(&self) -> bool {
        !self.any
    }

    /// No change from this stamp on is sent: the next pull begins there, or before. The first page sends what its snapshot shows.
    pub fn ends_below(&self) -> Option<i64> {
        // (Who has set the clock back has not set S back.)
        self.resumed.then_some(self.token.until.max(self.token.snapmin))
    }

    pub fn start(&self, start: Start) -> Start {
        if self.token.again {
            return Start::Anything(Cause::Pages);
        }
        start
    }
}

/// Does the clock run on the history that the first page saw, is the log since then still there, and is the place one?
fn still_holds(token: &Token, asked: &Asked, snapshot: &pg::ActiveSnapshot) -> Result<bool> {
    if token.at as usize >= asked.collections.len() {
        return Err(malformed("It is of a collection that is not pulled."));
    }
    // (What a branch that was lost has done, any of the pages may have shown. The state says where the token was given.)
    if !history::cursor_given_here_holds(token.snapmin)? || !history::cursor_given_here_holds(token.newest)? {
        return Ok(false);
    }
    Ok(!(token.whole && is_pruned(token.snapmin, asked.collections, snapshot)?))
}

/// Does the log say that what came after this cursor was pruned, of any of these collections?
fn is_pruned(cursor: i64, collections: &[Rc<Collection>], snapshot: &pg::ActiveSnapshot) -> Result<bool> {
    let log = Log::open(snapshot)?;
    for collection in collections {
        if log.begins_with_reset(collection.relation, cursor)? {
            return Ok(true);
        }
    }
    Ok(false)
}
