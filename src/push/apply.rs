//! Runs the statements: all rows of a set at once, or, where that fails, in halves of halves.
//!
//! What a statement is taken to have done hangs on some things besides its answer: [`Manner`](super::decide::Manner) (what its target's statements find out by themselves),
//! [`Care`] (are rows looked at before it, to tell a veto from a policy), `Fates::repeated` (created rows that are known to stand, for a trigger to answer), `trusted` (a
//! created row that is known not to be there without its INSERT), [`ItemWriter::forgives`], and what is spared (spared.rs).

use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, HashSet};

use super::decide::Fates;
use super::echo::{self, Echo};
use super::item::{Item, What};
use super::statement::WriteStatement;
use super::target::{json_arg, Target};
use crate::collections::facts::{Facts, DELETE, INSERT, UPDATE};
use crate::log::journal::{self, Outcomes, Sending, SentRows, StayedRow};
use crate::server::error::{code, Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::pg;
use crate::server::spi::{self, Mode, Planned};
use crate::server::subxact;

mod held;
mod left;
mod linked;
mod refused;
mod spared;

use left::{Beforehand, TouchedRows};
pub use linked::TwoSteps;
use spared::Spared;

/// What statements left undone, without an error.
#[derive(Default)]
pub struct Applied {
    /// Rows that are as they were, which the client does not know: a trigger kept them, or it changed what it cannot write.
    pub kept: Vec<Item>,
    /// Those that a trigger may have kept, or put back. In another order it might have let them pass (held.rs).
    pub held: Vec<Item>,
    /// There is a row that nobody had looked at before, and the statement that should find it out did not reach it.
    pub unreached: bool,
}

/// Are rows looked at before a statement that a trigger or a rule may have do something else?
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Care {
    /// No: what only that would tell counts as refused, and everything is tried once more.
    Quick,
    Full,
}

/// What came of writing items one by one.
#[derive(Default)]
pub struct Outcome {
    /// As in [`Applied`].
    pub kept: Vec<Item>,
    /// Those that were to be inserted, and were there by then. What becomes of them is still to be decided.
    pub found: Vec<Item>,
    pub failed: Vec<(Item, SyncError)>,
}

/// So many WITH queries one statement has at most. PostgreSQL compares the name of each with all others, without asking whether it is to stop, and its memory
/// for them grows as their square, too.
const MOST_AT_ONCE: usize = 500;

/// Writes rows of these targets.
pub struct ItemWriter<'w, 'a> {
    targets: &'w [Target<'a>],
    fates: &'w [Fates],
    echoes: Vec<OnceCell<Option<Echo>>>,
    care: Care,
    /// So many changes were logged before.
    logged: i32,
    /// Records whose rows must not be taken along.
    spared: RefCell<Spared>,
    /// A deletion counts as done where the push has hidden the row from its caller before: a trigger of another table may have marked it as deleted. That is for the
    /// last: in another order the deletion may come first.
    pub forgives: Cell<bool>,
    /// Rows are not written one by one, whatever triggers run after each.
    pub set_wise: Cell<bool>,
    /// By target: rows that the push has deleted or hidden, as far as its journal was read.
    touched: RefCell<HashMap<usize, TouchedRows>>,
}

impl<'w, 'a> ItemWriter<'w, 'a> {
    /// To be called before anything is written.
    pub fn of(targets: &'w [Target<'a>], fates: &'w [Fates], care: Care) -> Self {
        let echoes = targets.iter().map(|_| OnceCell::new()).gather();
        let (logged, spared, touched) = (journal::logged(), RefCell::default(), RefCell::default());
        let (forgives, set_wise) = (Cell::new(false), Cell::new(false));
        ItemWriter { targets, fates, echoes, care, logged, spared, touched, forgives, set_wise }
    }

    fn echo(&self, target: usize) -> Result<Option<&Echo>> {
        if let Some(known) = self.echoes[target].get() {
            return Ok(known.as_ref());
        }
        let echo = Echo::of(&self.targets[target])?;
        Ok(self.echoes[target].get_or_init(|| echo).as_ref())
    }

    /// Writes the items. With `together`, all of them in one statement.
    pub fn apply(&self, items: &[Item], together: bool) -> Result<Applied> {
        self.apply_as(items, together, false)
    }

    /// The same; `trusted`: no created row is there without its INSERT.
    fn apply_as(&self, items: &[Item], together: bool, trusted: bool) -> Result<Applied> {
        let mut statements = self.statements(items, together)?;
        let mut applied = Applied::default();
        for nothing in statements.iter().filter(|s| s.writes_nothing(self.targets)) {
            let target = &self.targets[nothing.target];
            // Who may not read the key has no copy to mend.
            let lost = |i: &&&Item| target.settled || !echo::is_known(target, &target.plan.records[i.row as usize]);
            let items = nothing.items.iter().filter(|_| target.may_read_key()).filter(lost);
            memory::extend(&mut applied.kept, items.map(|item| **item));
        }
        statements.retain(|s| !s.writes_nothing(self.targets));
        statements.iter().try_for_each(|s| refuse_ruled(s, &self.targets[s.target]))?;
        if together && statements.len() > 1 {
            self.run_as_one(&statements, trusted, &mut applied)?;
        } else {
            for statement in &statements {
                self.run(statement, trusted, &mut applied)?;
            }
        }
        Ok(applied)
    }

    /// One for each target, kind and set of columns; if they are not to be one, as far as such rows stand one after the other. But where triggers run after each row, each row has
    /// one of its own: a trigger that counts, numbers or closes what was there before must not find rows that come after.
    fn statements<'i>(&self, items: &'i [Item], together: bool) -> Result<Vec<WriteStatement<'i>>> {
        let mut by_statement: Vec<(usize, What, Vec<&Item>)> = Vec::new();
        let mut places: HashMap<(usize, What), usize> = HashMap::new();
        let set_wise = together || self.set_wise.get();
        let mut in_turn = HashSet::new();
        for run in items.chunk_by(Item::is_like).filter(|run| !set_wise && run[0].changes_row()) {
            let collection = &self.targets[run[0].target].collection;
            let is_in_turn = Facts::of(collection)?.goes_in_turn(UPDATE, collection.relation);
            memory::extend(&mut in_turn, is_in_turn.then_some(run[0].target));
        }
        // (New rows of a statement come as they were sent, others by their ids.)
        let joins = |a: &Item, b: &Item| match (a.target, a.what) == (b.target, b.what) {
            true if a.inserts() => together || a.row < b.row,
            true if a.changes_row() && in_turn.contains(&a.target) => a.id(self.targets) <= b.id(self.targets),
            is_like => is_like,
        };
        for run in items.chunk_by(joins) {
            memory::heed();
            let Item { target, what, .. } = run[0];
            let collection = &self.targets[target].collection;
            if !set_wise && Facts::of(collection)?.fires_after_rows(what.event(collection)) {
                memory::extend(&mut by_statement, run.iter().map(|item| (target, what, vec![item])));
                continue;
            }
            let next = by_statement.len();
            let place = if together { *places.entry((target, what)).or_insert(next) } else { next };
            if place == next {
                by_statement.push((target, what, Vec::new()));
            }
            memory::extend(&mut by_statement[place].2, run);
        }
        let statement = |(target, what, items)| WriteStatement::of(target, what, items, self.targets);
        Ok(by_statement.into_iter().map(statement).gather())
    }

    fn run(&self, statement: &WriteStatement, trusted: bool, applied: &mut Applied) -> Result<()> {
        let target = &self.targets[statement.target];
        let sql = statement.sql(target, self.fates[statement.target].manner, 1);
        let before = self.before(statement)?;
        let sending = self.sending(std::slice::from_ref(statement))?;
        let done =
            spi::numbers(&sql, &[json_arg(&statement.payload)], Mode::Write).map_err(|e| target.while_pushing(e))?;
        let sent = sending.map(Sending::end).unwrap_or_default();
        self.check_spared(std::slice::from_ref(statement), before.logged)?;
        self.mend_copies(std::slice::from_ref(statement), &sent, applied)?;
        if !statement.returns() {
            return self.check_inserted(statement, &sent, trusted, applied);
        }
        if done.len() == statement.items.len() {
            return Ok(());
        }
        let done: HashSet<u32> = done.into_iter().map(|(n, _)| n).gather();
        let missed = statement.items.iter().find(|item| statement.sets_later() && !done.contains(&item.row));
        // (As it is now, the row was not sent.)
        missed.map_or(Ok(()), |item| Err(target.refused("updated", item.id(self.targets))))?;
        self.check(statement, &done, &before, applied)
    }

    /// One statement with a WITH query for each: Postgres checks foreign keys at the end of it, so that rows may refer to each
    /// other whatever their columns and tables.
    fn run_as_one(&self, statements: &[WriteStatement], trusted: bool, applied: &mut Applied) -> Result<()> {
        if statements.len() > MOST_AT_ONCE {
            // (They are halved then, as whatever fails.)
            return Err(SyncError::new(code::PROGRAM_LIMIT, "too many sets of columns for one statement"));
        }
        let mut with = Vec::new();
        let mut select = Vec::new();
        let mut args = Vec::new();
        for (i, statement) in statements.iter().enumerate() {
            let sql = statement.sql(&self.targets[statement.target], self.fates[statement.target].manner, i + 1);
            with.push(format!("s{i} AS ({sql})"));
            if statement.returns() {
                select.push(format!("pg_catalog.to_json(ARRAY(SELECT n FROM s{i}))"));
            }
            args.push(json_arg(&statement.payload));
        }
        // PostgreSQL runs those that nothing refers to, the INSERTs, from the last one to the first (es_auxmodifytables).
        with.reverse();
        // (As arms of a UNION ALL, a thousand of them took ten seconds to plan.)
        let reached = format!("pg_catalog.to_json(ARRAY[{}]::pg_catalog.json[])", select.join(", "));
        let sql = format!("WITH {} SELECT {reached}", with.join(", "));
        let before = statements.iter().map(|statement| self.before(statement)).gather::<Result<Vec<Beforehand>>>()?;
        let (logged, sending) = (journal::logged(), self.sending(statements)?);
        let rows = spi::query_planned(&sql, &args, Mode::Write, Planned::Once)?;
        let sent = sending.map(Sending::end).unwrap_or_default();
        self.check_spared(statements, logged)?;
        self.mend_copies(statements, &sent, applied)?;
        let done: Vec<HashSet<u32>> = rows.first().map_or_else(|| Ok(Vec::new()), |row| row.json(0))?;
        let mut done = done.into_iter();
        for (statement, before) in statements.iter().zip(&before) {
            match statement.returns() {
                true => self.check(statement, &done.next().unwrap_or_default(), before, applied)?,
                false => self.check_inserted(statement, &sent, trusted, applied)?,
            }
        }
        Ok(())
    }

    /// Marks what these statements, which run as one, will store as it was sent. Nothing may run before them.
    fn sending(&self, statements: &[WriteStatement]) -> Result<Option<Sending>> {
        let mut sent = SentRows::new();
        for statement in statements {
            let target = &self.targets[statement.target];
            // (What is written in two steps comes to its client once more.)
            let items = statement.written_whole();
            if !target.echoes || items.is_empty() {
                continue;
            }
            let Some(echo) = self.echo(statement.target)? else { continue };
            let rows = echo.rows(target, statement.what, &items);
            if !rows.is_empty() {
                memory::extend(sent.entry(target.collection.relation.to_u32()).or_default(), rows);
            }
        }
        let watched = self.watched(statements)?;
        let updates = statements.iter().any(WriteStatement::returns);
        let mut ruled = false;
        for statement in statements {
            ruled |= Facts::of(&self.targets[statement.target].collection)?.ruled;
        }
        Ok((updates || !sent.is_empty() || !watched.is_empty()).then(|| Sending::start(sent, watched, ruled)))
    }

    /// Of rows that these statements left as they were the log has nothing. Unless they are just what was sent, their client has them
    /// otherwise: a trigger put a column back, a value was rounded, an unwritable column was left out.
    fn mend_copies(&self, statements: &[WriteStatement], sent: &Outcomes, applied: &mut Applied) -> Result<()> {
        let stayed = &sent.stayed;
        if stayed.is_empty() {
            return Ok(());
        }
        let mut by_target: HashMap<usize, HashMap<Cow<str>, &StayedRow>> = HashMap::new();
        for statement in statements {
            let (target, what) = (&self.targets[statement.target], statement.what);
            let relation = target.collection.relation;
            let rows = by_target.entry(statement.target).or_insert_with(|| {
                let rows = stayed.iter().filter(|row| row.relation == relation.to_u32());
                rows.map(|row| (target.comparable(&row.key), row)).gather()
            });
            // Who may not read the key has no copy to mend.
            if rows.is_empty() || !target.may_read_key() {
                continue;
            }
            let items = statement.items.iter().copied();
            let items: Vec<&Item> =
                items.filter(|i| rows.contains_key(&target.comparable(i.id(self.targets)))).gather();
            // A deletion that left the row as it was is none; and what a conflict function returned nobody sent.
            let as_sent = match self.echo(statement.target)?.filter(|_| !target.settled) {
                Some(echo) => echo.as_sent(target, what, &items),
                None => HashSet::new(),
            };
            let may_veto = self.may_veto(statement)?;
            for item in items.into_iter().filter(|i| !as_sent.contains(i.id(self.targets).as_bytes())) {
                memory::heed();
                let row = rows[&target.comparable(item.id(self.targets))];
                journal::touch(relation, &row.key, row.scope.as_deref())?;
                memory::extend(&mut applied.held, may_veto.then_some(*item));
            }
        }
        Ok(())
    }

    /// Those of these records, which stand as they were sent as far as their columns tell, that are not just what was sent.
    pub fn lost(&self, target: usize, records: &[u32]) -> Result<Vec<u32>> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let equal = match self.echo(target)? {
            Some(echo) => echo.equal(&self.targets[target], records),
            None => HashSet::new(),
        };
        Ok(records.iter().copied().filter(|row| !equal.contains(row)).gather())
    }

    /// Writes the items, each in a subtransaction of its own where it must be: halves what fails until the culprits stand alone.
    /// Stops when so many of them have failed as are `enough`, besides those that stand as they are sent. Returns how many it has come to.
    pub fn bisect(&self, items: &[Item], together: bool, enough: usize, outcome: &mut Outcome) -> Result<usize> {
        if items.is_empty() {
            return Ok(0);
        }
        let mut asked = outcome.failed.len();
        let mut most = asked.saturating_add(enough);
        let is_done = subxact::in_halves(items, &|items: &[Item]| self.apply(items, together), &mut |tried| {
            match tried {
                Ok(applied) => memory::extend(&mut outcome.kept, applied.kept),
                Err((item, e)) => self.failed(item, e, outcome)?,
            }
            if outcome.failed.len() >= most {
                most += self.stand_as_sent(outcome.failed[asked..].iter().map(|(item, _)| *item))?.len();
                asked = outcome.failed.len();
            }
            Ok(outcome.failed.len() < most)
        })?;
        let last = outcome.failed.last().filter(|_| !is_done);
        let place = last.and_then(|(last, _)| items.iter().position(|item| item == last));
        Ok(place.map_or(items.len(), |place| place + 1))
    }

    /// An item that cannot be written by itself. If it is a new row that has come to be there, made by a trigger or by somebody else, or that has come
    /// into sight, it is not the INSERT that failed.
    fn failed(&self, item: Item, e: SyncError, outcome: &mut Outcome) -> Result<()> {
        let (target, id) = (&self.targets[item.target], item.id(self.targets));
        let is_taken = matches!(item.what, What::Insert(_)) && e.code == code::UNIQUE_VIOLATION;
        let mut e = e;
        let found = if is_taken { target.visible_now(&[id])? } else { Vec::new() };
        if !found.is_empty() {
            outcome.found.push(item);
            return Ok(());
        }
        if is_taken && target.may_suppress_inserts()? {
            // Nothing is there without the INSERT: what stood after it was of its making, whatever the log has of it.
            match subxact::run(|| self.apply_as(&[item], false, true)) {
                Ok(applied) => {
                    memory::extend(&mut outcome.kept, applied.kept);
                    return Ok(());
                }
                Err(error) if subxact::is_transient(&error) => return Err(error),
                Err(error) => e = error,
            }
        }
        if is_taken && pg::transaction_snapshot_is_fixed() && target.is_seen_later(id)? {
            return Err(SyncError::new(
                code::SERIALIZATION_FAILURE,
                "could not serialize access due to concurrent update",
            )
            .detail(format!("It is about {}.", target.path_of(id)))
            .hint("Nothing was applied. Push again, in a new transaction."));
        }
        let lasting = e.lasting || self.is_wrong_by_itself(item, &e)?;
        outcome.failed.push((item, SyncError { lasting, ..target.about(id, e) }));
        Ok(())
    }
}

/// PostgreSQL does not tell which rows a statement has changed if a rule has something else done instead (and from a function's rows of no type it may not
/// even survive that).
fn refuse_ruled(statement: &WriteStatement, target: &Target) -> Result<()> {
    let event = statement.event(&target.collection);
    if event == INSERT || !target.is_ruled(event)? {
        return Ok(());
    }
    let (event, collection) = (if event == DELETE { "DELETE" } else { "UPDATE" }, &target.collection.name);
    Err(target.while_pushing(
        SyncError::new(
            code::FEATURE_NOT_SUPPORTED,
            format!("cannot push to collection \"{collection}\", whose table has a rule ON {event} DO INSTEAD"),
        )
        .hint("Use a BEFORE trigger in place of the rule."),
    ))
}
