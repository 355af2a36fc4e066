//! What a statement of a push says of itself: which rows it stores as they were sent. And what it is told of in turn: which rows it left as
//! they were, and which it reached at all.

use std::collections::{HashMap, HashSet};

use pgrx::pg_sys;

use super::JOURNAL;
use crate::log::change::{Change, OldVersion, Op};
use crate::server::error::Result;
use crate::server::memory;

/// Rows of which the client that pushes them knows what they will be: by relation and key, with what happens to each.
pub type SentRows = HashMap<u32, HashMap<Box<[u8]>, Op>>;

/// What one statement of a push does to rows as the client sent them.
pub(super) struct SentStatement {
    /// The statement's command. What a trigger, a cascade or a function of the user's does to the same rows is done by another
    /// one, so it is never taken for what the client sent.
    command: u32,
    /// A rule has other commands run before it.
    ruled: bool,
    rows: SentRows,
    stayed: Vec<StayedRow>,
    /// Of these tables it is asked which rows something was logged of.
    watched: HashSet<u32>,
    /// Its own changes of these are being logged: all rows are there.
    fires: bool,
    /// (A reset has no key.)
    reached: Vec<(u32, Option<Box<[u8]>>)>,
}

/// A row that a statement of a push updated, and left as it was.
pub struct StayedRow {
    pub relation: u32,
    pub key: String,
    pub scope: Option<String>,
}

impl SentStatement {
    pub(super) fn covers(&self, change: &Change) -> bool {
        let op = self.rows.get(&change.relation.to_u32()).and_then(|keys| keys.get(change.key));
        // Gone is gone, whoever was quicker.
        op == Some(&change.op) && (change.op == Op::Delete || change.when.command == self.command)
    }

    /// Remembers that something is logged of this row, whoever does it.
    pub(super) fn reaches(&mut self, change: &Change) -> Result<()> {
        let relation = change.relation.to_u32();
        if !self.watched.contains(&relation) {
            return Ok(());
        }
        self.fires |= change.when.command == self.command;
        // (A trigger in front of the INSERT may do it in its own way. Those that fire when it is done may change any row.)
        if self.fires && change.op == Op::Update && change.when.old == OldVersion::Found {
            return Ok(());
        }
        let key = (change.op != Op::Reset).then(|| change.key.into());
        memory::push(&mut self.reached, (relation, key))
    }

    /// What it has reached so far, for a savepoint.
    pub(super) fn mark(&self) -> usize {
        self.reached.len()
    }

    pub(super) fn back_to(&mut self, mark: usize) {
        self.reached.truncate(mark);
    }
}

/// While this lives, one statement of a push runs; its changes of these rows are logged as what the client sent. They count as
/// such in the end if nothing else happened to the row in this transaction (see [`super::net`]). The marks are on the entries, so
/// a savepoint that is rolled back takes them along.
pub struct Sending(Option<SentStatement>);

/// What came of a statement.
#[derive(Default)]
pub struct Outcomes {
    /// The rows that it updated and left as they were.
    pub stayed: Vec<StayedRow>,
    /// By the tables that were watched: the keys of which something was logged.
    reached: HashMap<u32, HashSet<Box<[u8]>>>,
    /// Those that were reset, which says all there is to say.
    reset: HashSet<u32>,
}

impl Outcomes {
    /// Was something logged of this row of a table that was watched?
    pub fn reached(&self, relation: pg_sys::Oid, key: &str) -> bool {
        let relation = relation.to_u32();
        let is_among = |keys: &HashSet<Box<[u8]>>| keys.contains(key.as_bytes());
        self.reset.contains(&relation) || self.reached.get(&relation).is_some_and(is_among)
    }
}

impl Sending {
    /// To be called immediately before the statement.
    pub fn start(rows: SentRows, watched: HashSet<u32>, ruled: bool) -> Sending {
        // The number of the next command: the running one's, which is marked as used, so that SPI begins another one.
        // SAFETY: inside a transaction that may write.
        let command = unsafe { pg_sys::GetCurrentCommandId(true) } + 1;
        let sent =
            SentStatement { command, ruled, rows, stayed: Vec::new(), watched, fires: false, reached: Vec::new() };
        JOURNAL.with(|j| Sending(j.borrow_mut().sending.replace(sent)))
    }

    pub fn end(self) -> Outcomes {
        let (stayed, keys) = JOURNAL.with(|j| {
            let mut j = j.borrow_mut();
            let taken =
                |sent: &mut SentStatement| (std::mem::take(&mut sent.stayed), std::mem::take(&mut sent.reached));
            j.sending.as_mut().map(taken).unwrap_or_default()
        });
        let mut sent = Outcomes { stayed, ..Outcomes::default() };
        for (relation, key) in keys {
            memory::heed();
            match key {
                Some(key) => sent.reached.entry(relation).or_default().insert(key),
                None => sent.reset.insert(relation),
            };
        }
        sent
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        JOURNAL.with(|j| {
            if let Ok(mut j) = j.try_borrow_mut() {
                j.sending = self.0.take();
            }
        });
    }
}

/// Does the statement of a push that is under way make these versions of rows? (Beside a rule, maybe. A row is sent once more then, which does no harm.)
pub fn is_sending(made_by: u32) -> bool {
    let makes = |sent: &SentStatement| sent.command == made_by || sent.ruled && sent.command < made_by;
    JOURNAL.with(|j| j.borrow().sending.as_ref().is_some_and(makes))
}

/// Remembers of such a row that it was updated, and stayed as it was: nothing is logged of it.
pub fn stays(relation: pg_sys::Oid, key: &[u8], scope: Option<&[u8]>) -> Result<()> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    JOURNAL.with(|j| match &mut j.borrow_mut().sending {
        Some(sent) => {
            let row = StayedRow { relation: relation.to_u32(), key: text(key), scope: scope.map(text) };
            memory::push(&mut sent.stayed, row)
        }
        None => Ok(()),
    })
}
