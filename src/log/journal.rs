//! The backend's own log of what its transaction changed, and its flush into `snapsync.change`.
//!
//! `track.rs` appends one entry per row change, in memory. When the transaction commits (PRE_COMMIT) or is prepared
//! (PRE_PREPARE), the entries are merged to one per key, stamped, and inserted past the SQL layer: rows and index entries
//! only, no planner, no triggers, no ACL, as catalog code does. Savepoints truncate the log.
//!
//! A transaction that writes more than `snapsync.flush_threshold` entries, or pulls after it has written, flushes early. Its stamp is
//! drawn while it commits all the same, or every client's cursor would wait for its end. Its entries bear another number of the clock;
//! with the stamp, it adds to `snapsync.early` which number that stands for. Who sees the entries sees that row, too, and takes the one
//! for the other (read.rs).

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;

use pgrx::pg_sys;

use crate::log::change::{Change, Op, When, NOTICE};
use crate::log::client::Address;
use crate::log::clock::{self, history, horizon};
use crate::log::{poke, roles, salt, wake};
use crate::server::error::Result;
use crate::server::memory::Gather;
use crate::server::{memory, pg, talk, trigger};
use crate::values::settings;

mod inside;
mod net;
mod sending;
mod texts;
mod write;

use inside::Statements;
pub use net::Effect;
use sending::SentStatement;
pub use sending::{is_sending, stays, Outcomes, Sending, SentRows, StayedRow};
use texts::Texts;

/// One change as the trigger saw it. A bulk transaction has as many as it changes rows.
struct Entry {
    relation: pg_sys::Oid,
    op: Op,
    texts: Texts,
    when: When,
    /// How many were logged before it in this transaction.
    number: i32,
    origin: Option<Rc<str>>,
    /// This change is what the client sent, no more and no less: see [`Sending`].
    as_sent: bool,
}

impl Entry {
    /// Is it of [`touch`]?
    fn is_touch(&self) -> bool {
        self.op == Op::Update && self.texts.image().is_none() && self.texts.touched().is_some_and(|t| t.is_empty())
    }
}

#[derive(Default)]
struct Journal {
    entries: Vec<Entry>,
    arena: Vec<u8>,
    /// Open subtransactions: their id and where the log stood when they began.
    marks: Vec<SavepointMark>,
    statements: Statements,
    /// Parts of savepoints that are written, while entries from before them are not: the numbers of the first entry in each, and of the first one after it. In
    /// their order.
    written_inside: Vec<(i32, i32)>,
    /// The tables of the parts that are written.
    in_parts: BTreeSet<u32>,
    /// What this transaction's entries have as their stamp, once some are written.
    stamp: Option<i64>,
    /// That is only a number: the transaction has no stamp yet.
    early: bool,
    /// The stamp, once it is drawn.
    drawn: Option<i64>,
    /// Changes logged so far, also those that were rolled back.
    logged: i32,
    /// What was logged before this was written, some of it at least, and a pull may have told of it.
    flushed: i32,
    /// The same of what stands there: not what a savepoint took back.
    in_log: i32,
    /// The client_id of the push under way.
    origin: Option<Rc<str>>,
    /// What the push's statement under way does if nobody interferes.
    sending: Option<SentStatement>,
    /// The transaction is committing: what comes now (from another extension's callback) has no later flush to wait for.
    committing: bool,
}

struct SavepointMark {
    subtransaction: pg_sys::SubTransactionId,
    entries: usize,
    arena: usize,
    /// What is noted for pokes (poke.rs).
    noted: usize,
    /// Of the statement under way.
    reached: usize,
    /// The journal's, as they were when it began.
    in_log: i32,
    written_inside: usize,
    /// So many entries that were logged before it were written in it, for a pull: they stand in the log for as long as it lasts, and stay
    /// there if it ends well.
    written: usize,
}

thread_local! {
    static JOURNAL: RefCell<Journal> = RefCell::new(Journal::default());
}

/// When the transaction is about to commit, or to be prepared.
pub fn before_commit(prepared: bool) -> Result<()> {
    // From its stamp on everybody's cursor waits for the transaction: what takes long comes before.
    let is_long = |j: &Journal| j.arena.len() >= LONG_TO_WRITE || j.entries.len() >= settings::flush_threshold();
    if JOURNAL.with(|j| is_long(&j.borrow())) {
        flush(Flush::All)?;
    }
    poke::merge(0, 0);
    flush(if prepared { Flush::Prepare } else { Flush::End })?;
    JOURNAL.with(|j| j.borrow_mut().committing = true);
    if let Some(stamp) = JOURNAL.with(|j| j.borrow().drawn).filter(|_| !prepared) {
        // What a broadcast writes is logged, and pokes nobody.
        poke::send(stamp)?;
        wake::find_sleepers();
    }
    Ok(())
}

/// Has the transaction logged anything?
pub fn has_logged() -> bool {
    JOURNAL.with(|j| {
        let j = j.borrow();
        j.early || !j.entries.is_empty()
    })
}

/// The tables whose rows the transaction has changed. (Maybe in a savepoint that is rolled back.)
pub fn tables() -> Vec<pg_sys::Oid> {
    let tables = JOURNAL.with(|j| {
        let j = j.borrow();
        let mut tables = j.relations(0);
        tables.extend(&j.in_parts);
        tables
    });
    tables.into_iter().map(pg_sys::Oid::from).gather()
}

/// When the transaction has ended. Nothing here may fail: that would take the backend down.
pub fn end() {
    with_log(|j| {
        // A bulk transaction's memory is not kept for the rest of the session.
        j.entries.clear();
        j.arena.clear();
        j.entries.shrink_to(1 << 12);
        j.arena.shrink_to(1 << 18);
        j.marks.clear();
        j.statements = Statements::default();
        j.written_inside.clear();
        j.in_parts.clear();
        j.stamp = None;
        j.early = false;
        j.drawn = None;
        j.logged = 0;
        j.flushed = 0;
        j.in_log = 0;
        j.origin = None;
        j.sending = None;
        j.committing = false;
    });
    poke::back_to(0);
    wake::forget();
}

pub fn subtransaction_began(id: pg_sys::SubTransactionId) {
    with_log(|j| {
        let (entries, arena, noted) = (j.entries.len(), j.arena.len(), poke::mark());
        let reached = j.sending.as_ref().map_or(0, SentStatement::mark);
        let (in_log, written_inside) = (j.in_log, j.written_inside.len());
        let mark =
            SavepointMark { subtransaction: id, entries, arena, noted, reached, in_log, written_inside, written: 0 };
        j.marks.push(mark);
    });
}

pub fn subtransaction_released(id: pg_sys::SubTransactionId) {
    with_log(|j| {
        if let Some(at) = j.marks.iter().rposition(|m| m.subtransaction == id) {
            let written = j.marks[at].written.min(j.entries.len());
            j.marks.truncate(at);
            j.wrote(written);
        }
    });
}

pub fn subtransaction_rolled_back(id: pg_sys::SubTransactionId) {
    with_log(|j| {
        // A subtransaction without a mark was open before this library was loaded, so all that is logged is its own.
        let at = j.marks.iter().rposition(|m| m.subtransaction == id);
        let (entries, arena, noted, reached, in_log, inside) = at.map_or((0, 0, 0, 0, 0, 0), |at| {
            let mark = &j.marks[at];
            (mark.entries, mark.arena, mark.noted, mark.reached, mark.in_log, mark.written_inside)
        });
        j.entries.truncate(entries);
        j.arena.truncate(arena);
        j.in_log = in_log;
        j.written_inside.truncate(inside);
        poke::back_to(noted);
        if let Some(sending) = &mut j.sending {
            sending.back_to(reached);
        }
        j.marks.truncate(at.unwrap_or(0));
    });
}

/// An ERROR inside one of our own borrows has released it by unwinding; try_borrow only makes sure that a callback cannot panic.
fn with_log(work: impl FnOnce(&mut Journal)) {
    JOURNAL.with(|j| {
        if let Ok(mut j) = j.try_borrow_mut() {
            work(&mut j);
        }
    });
}

/// Logs a change of the current transaction.
pub fn append(change: Change) -> Result<()> {
    memory::check()?;
    let full = JOURNAL.with(|j| -> Result<bool> {
        let mut j = j.borrow_mut();
        let texts = Texts::store(&mut j.arena, &change);
        let origin = j.origin.clone();
        let as_sent = match &mut j.sending {
            Some(sending) => {
                sending.reaches(&change)?;
                sending.covers(&change)
            }
            None => false,
        };
        // (What is said of a row is no change of a statement's.)
        if change.when.is_of_command() {
            j.statements.fires(change.when.command);
        }
        let Change { relation, op, when, .. } = change;
        let number = j.logged;
        j.logged = number.saturating_add(1);
        let entry = Entry { relation, op, texts, when, number, origin, as_sent };
        memory::push(&mut j.entries, entry)?;
        // (In our own trigger.)
        Ok(j.committing || j.is_full(j.innermost(), 1))
    })?;
    if full {
        flush(Flush::Innermost)?;
    }
    Ok(())
}

/// Logs that every client must forget what it has of `relation`.
pub fn reset(relation: pg_sys::Oid) -> Result<()> {
    horizon::want();
    append(Change::of(relation, Op::Reset, b"", When::RESET))
}

/// When a subtransaction is about to end well. Otherwise a loop that begins one for each row would keep them all: none of them has
/// enough for a flush of its own.
pub fn before_release() -> Result<()> {
    let full = JOURNAL.with(|j| {
        let mut j = j.borrow_mut();
        if trigger::depth() == 0 {
            j.statements.none_fires();
        }
        j.is_full(j.outer(), 0)
    });
    if full {
        flush(Flush::Outer)?;
    }
    Ok(())
}

/// While this lives, changes are those of a client's push; its client_id goes into `change.origin`. Then it is given back
/// to whose it was: a mutator may push.
pub struct Origin(Option<Rc<str>>);

impl Origin {
    pub fn set(client: Option<&str>) -> Origin {
        JOURNAL.with(|j| Origin(std::mem::replace(&mut j.borrow_mut().origin, client.map(Rc::from))))
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        JOURNAL.with(|j| {
            if let Ok(mut j) = j.try_borrow_mut() {
                j.origin = self.0.take();
            }
        });
    }
}

/// Is there a push, or a mutation, under way whose client is known?
pub fn has_origin() -> bool {
    JOURNAL.with(|j| j.borrow().origin.is_some())
}

/// How many changes this transaction has logged so far.
pub fn logged() -> i32 {
    JOURNAL.with(|j| j.borrow().logged)
}

/// Is nothing of what was logged since then written to the log already?
pub fn is_kept_since(logged: i32) -> bool {
    JOURNAL.with(|j| j.borrow().flushed <= logged)
}

/// Calls this with the key of each row of the table that these changes, by how many were logged before, deleted, or of which they changed something that decides who
/// sees it, and with what the row had there before, as JSON text. (Not of what is written to the log already.)
pub fn taken_in(changes: Range<i32>, relation: pg_sys::Oid, each: &mut dyn FnMut(&str, &str)) {
    JOURNAL.with(|j| {
        let j = j.borrow();
        let place = |number| j.entries.partition_point(|e| e.number < number);
        for entry in &j.entries[place(changes.start)..place(changes.end)] {
            memory::heed();
            if let Some(image) = entry.texts.image().filter(|_| entry.relation == relation) {
                each(j.text(entry.texts.key()), j.text(image));
            }
        }
    });
}

/// Has a row of the table been deleted since so many changes were logged, or may it have been? (As far as nothing is written to the log already.)
pub fn has_deleted_since(logged: i32, relation: pg_sys::Oid) -> bool {
    JOURNAL.with(|j| {
        let j = j.borrow();
        let from = j.entries.partition_point(|e| e.number < logged);
        j.entries[from..].iter().any(|entry| {
            memory::heed();
            entry.relation == relation && matches!(entry.op, Op::Delete | Op::Reset)
        })
    })
}

/// Makes the next pulls of the row's scope send this row although it did not change: a client believes something else of it. It is a conflict
/// to nobody.
pub fn touch(relation: pg_sys::Oid, key: &str, scope: Option<&str>) -> Result<()> {
    let scope = scope.map(str::as_bytes);
    append(Change { touched: Some(&[]), scope, ..Change::of(relation, Op::Update, key.as_bytes(), When::SAID) })
}

/// Tells a client of this user, with its next pull, that this row is not there.
pub fn notify(relation: pg_sys::Oid, key: &str, address: &Address) -> Result<()> {
    let _address = Origin::set(Some(&address.text));
    let (scope, touched) = (Some(address.who.as_bytes()), Some(&NOTICE[0].to_ne_bytes()[..]));
    append(Change { touched, scope, ..Change::of(relation, Op::Update, key.as_bytes(), When::SAID) })
}

/// What this transaction's entries have as their stamp, if it has written some already.
pub fn own_stamp() -> Option<i64> {
    JOURNAL.with(|j| j.borrow().stamp)
}

/// A command has changed a row, and nothing of it is logged.
pub fn fires(command: u32) {
    JOURNAL.with(|j| j.borrow_mut().statements.fires(command));
}

/// Gives `take` the keys of this table's rows that this transaction has inserted, as far as they are not in the log yet.
pub fn each_inserted(relation: pg_sys::Oid, mut take: impl FnMut(&str)) {
    JOURNAL.with(|j| {
        let j = j.borrow();
        for entry in j.entries.iter().filter(|e| e.relation == relation && e.op == Op::Insert) {
            memory::heed();
            take(j.text(entry.texts.key()));
        }
    });
}

/// A pull or push in a transaction that has itself written must see its own changes in the log.
pub fn flush_before_reading() -> Result<()> {
    if JOURNAL.with(|j| j.borrow().entries.is_empty()) {
        return Ok(());
    }
    flush(Flush::All)?;
    // SAFETY: makes our inserts visible to the next snapshot of this transaction.
    unsafe { pg_sys::CommandCounterIncrement() };
    Ok(())
}

impl Journal {
    /// The tables of the entries from this one on.
    fn relations(&self, from: usize) -> BTreeSet<u32> {
        let mut relations = BTreeSet::new();
        for part in self.entries[from..].chunk_by(|a, b| a.relation == b.relation) {
            relations.insert(part[0].relation.to_u32());
        }
        relations
    }

    /// Where the entries, and their texts, of the innermost subtransaction begin. Rows inserted now belong to it and vanish with
    /// it, so a flush in mid-transaction may only write its own.
    fn innermost(&self) -> (usize, usize) {
        self.marks.last().map_or((0, 0), |m| (m.entries, m.arena))
    }

    /// The same of the one that it is in.
    fn outer(&self) -> (usize, usize) {
        self.marks.iter().nth_back(1).map_or((0, 0), |m| (m.entries, m.arena))
    }

    /// So many entries stand in the log, for as long as the innermost subtransaction does.
    fn written(&self) -> usize {
        self.marks.iter().map(|m| m.written).max().unwrap_or(0)
    }

    /// The entries up to this one are written by what is now the innermost subtransaction. Its own are done with; those from below stay.
    fn wrote(&mut self, up_to: usize) {
        let (own, _) = self.innermost();
        if let Some(mark) = self.marks.last_mut() {
            mark.written = mark.written.max(own.min(up_to));
        }
        if up_to > own {
            self.entries.drain(own..up_to);
        }
    }

    /// Is there enough for a part of the log, and may one end here (inside.rs)?
    fn is_full(&self, (entries, arena): (usize, usize), outside: i32) -> bool {
        self.statements.is_settled(self.entries.len() - entries, settings::flush_threshold(), outside)
            || self.statements.is_settled(self.arena.len() - arena, LARGEST_ARENA, outside)
    }

    /// A key, image or scope.
    fn text(&self, range: Range<usize>) -> &str {
        // SAFETY: these are the bytes of Postgres texts in a UTF8 database (checked at CREATE EXTENSION).
        unsafe { std::str::from_utf8_unchecked(&self.arena[range]) }
    }
}

/// Texts of so many bytes are written as if they were `snapsync.flush_threshold` entries: an image may have 16 MB.
const LARGEST_ARENA: usize = 64 << 20;

/// Texts of so many bytes are written before the transaction has its stamp: they are compressed. (So are `snapsync.flush_threshold` entries.)
const LONG_TO_WRITE: usize = 4 << 20;

/// Which entries a flush writes.
#[derive(Clone, Copy, PartialEq)]
enum Flush {
    /// Those of the innermost subtransaction, to free memory in a bulk transaction.
    Innermost,
    /// When that is about to become a part of the one that it is in: those of this one, too, for from now on they stay or vanish
    /// together.
    Outer,
    /// All: before a pull reads. Inside a savepoint the rows inserted now vanish if it is rolled back, so the entries from below it stay
    /// until it ends: an entry twice is harmless, an entry lost is not.
    All,
    /// The transaction is about to commit.
    End,
    /// Or to be prepared.
    Prepare,
}

impl Flush {
    fn ends(self) -> bool {
        matches!(self, Flush::End | Flush::Prepare)
    }
}

fn flush(which: Flush) -> Result<()> {
    // The entries from `from` on are written, those from `done` on forgotten.
    let (from, done, length, end, early) = JOURNAL.with(|j| {
        let j = j.borrow();
        let (from, done) = match which {
            Flush::Innermost => (j.innermost().0, j.innermost()),
            Flush::Outer => (j.outer().0, j.outer()),
            Flush::All | Flush::End | Flush::Prepare => (0, j.innermost()),
        };
        (from.max(j.written()), done, j.entries.len(), which.ends() || j.committing, j.early)
    });
    if length <= from && !(end && early) {
        return Ok(());
    }
    // The extension was dropped after these rows had changed: nobody is to be told.
    if pg::relation_if_created(c"change")?.is_none() {
        return Ok(());
    }
    // At commit no statement runs any more whose snapshot could serve.
    let _snapshot = pg::ActiveSnapshot::take();
    number(which, end, early)?;
    if length <= from {
        return Ok(());
    }
    let relations = JOURNAL.with(|j| j.borrow().relations(from));
    let watched = poke::watched(relations.iter().copied())?;
    // Only read while inserting: if that fails in a subtransaction which the user catches, the log is still whole.
    JOURNAL.with(|j| {
        let j = j.borrow();
        let nets = net::effects(&j, from)?;
        let has_scopes = net::entries(&j, &nets).any(|effect| effect.scope.is_some());
        let salt = has_scopes.then(salt::own).transpose()?;
        // SAFETY: inside a transaction that holds an xid: it has changed rows.
        unsafe { write::insert(&j, &nets, j.entries[from].number >= j.in_log, salt)? };
        match end {
            true => wake::wrote(net::entries(&j, &nets), salt),
            false => wake::wrote_early(net::entries(&j, &nets), salt),
        }
        let together = match which {
            Flush::Outer => j.marks.iter().nth_back(1).map_or(0, |m| m.noted),
            _ => j.marks.last().map_or(0, |m| m.noted),
        };
        poke::note(
            &watched,
            together,
            net::entries(&j, &nets).filter(|effect| !effect.is_notice()).map(Effect::written),
        );
        Result::Ok(())
    })?;
    JOURNAL.with(|j| {
        let j = &mut *j.borrow_mut();
        if matches!(which, Flush::Innermost | Flush::Outer) && from > 0 {
            let inside = (j.entries[from].number, j.logged);
            memory::push(&mut j.written_inside, inside)?;
        }
        (j.flushed, j.in_log) = (j.logged, j.logged);
        j.in_parts.extend(relations);
        j.entries.truncate(done.0);
        j.arena.truncate(done.1);
        if which == Flush::All {
            j.wrote(done.0);
        }
        Ok(())
    })
}

/// Sees to it that the entries have a number, and at the end the transaction its stamp.
fn number(which: Flush, end: bool, early: bool) -> Result<()> {
    match own_stamp() {
        None if !end => {
            history::ensure()?;
            let number = clock::draw()?;
            JOURNAL.with(|j| {
                let mut j = j.borrow_mut();
                (j.stamp, j.early) = (Some(number), true);
            });
        }
        None => {
            let (recorded, stamp) = draw_stamp(which)?;
            JOURNAL.with(|j| {
                let mut j = j.borrow_mut();
                (j.stamp, j.drawn) = (Some(stamp), Some(stamp));
            });
            leave_behind(recorded, stamp)?;
        }
        Some(number) if end && early => {
            let (recorded, stamp) = draw_stamp(which)?;
            // SAFETY: inside a transaction that holds an xid: it has written entries.
            unsafe { write::insert_early(number, stamp)? };
            JOURNAL.with(|j| {
                let mut j = j.borrow_mut();
                (j.early, j.drawn) = (false, Some(stamp));
            });
            leave_behind(recorded, stamp)?;
        }
        Some(stamp) if !early && roles::record_was_undone() => roles::record(stamp)?,
        Some(_) => {}
    }
    Ok(())
}

/// The stamp, and is the history that it is on recorded? Others wait from here on, so the client hears nothing.
fn draw_stamp(which: Flush) -> Result<(bool, i64)> {
    talk::hush();
    let recorded = history::ensure()?;
    if recorded && which == Flush::End {
        horizon::thin_if_due()?;
    }
    Ok((recorded, clock::register_and_stamp()?))
}

/// What a writer notes for readers besides its entries, where the history that it is on is recorded.
fn leave_behind(recorded: bool, stamp: i64) -> Result<()> {
    if !recorded {
        return Ok(());
    }
    roles::record(stamp)?;
    horizon::write_if_due(stamp)
}
