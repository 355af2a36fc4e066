//! Runs the statements: all rows of a set at once, or, where that fails, in halves of halves.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

use super::decide::{Fates, Manner};
use super::echo::{self, Echo};
use super::item::{by_target, Item, What};
use super::statement::WriteStatement;
use super::target::{json_arg, Target};
use crate::collections::facts::{self, Facts};
use crate::log::journal::{self, Sending, SentRows, StayedRow};
use crate::server::error::{code, Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::pg;
use crate::server::spi::{self, Mode, Planned};
use crate::server::subxact;
use crate::sight::policy;

/// What statements left undone, without an error.
#[derive(Default)]
pub struct Applied {
    /// Rows that are as they were, which the client does not know: a trigger kept them, or it changed what it cannot write.
    pub kept: Vec<Item>,
    /// There is a row that nobody had looked at before, and the statement that should find it out did not reach it.
    pub unreached: bool,
}

/// What came of writing items one by one.
#[derive(Default)]
pub struct Outcome {
    /// As in [`Applied`].
    pub kept: Vec<Item>,
    /// Those that were to be inserted, and were there by then.
    pub updated: Vec<Item>,
    pub failed: Vec<(Item, SyncError)>,
}

/// Writes rows of these targets.
pub struct ItemWriter<'w, 'a> {
    targets: &'w [Target<'a>],
    /// By target.
    manners: Vec<Manner>,
    echoes: Vec<OnceCell<Option<Echo>>>,
}

impl<'w, 'a> ItemWriter<'w, 'a> {
    pub fn of(targets: &'w [Target<'a>], fates: &[Fates]) -> Result<Self> {
        let echoes = targets.iter().map(|_| OnceCell::new()).gather();
        Ok(ItemWriter { targets, manners: fates.iter().map(|f| f.manner).gather(), echoes })
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
        let mut order: Vec<(usize, What)> = Vec::new();
        let mut by_statement: HashMap<(usize, What), Vec<&Item>> = HashMap::new();
        // Most often one after the other.
        for run in items.chunk_by(|a, b| (a.target, a.what) == (b.target, b.what)) {
            let key = (run[0].target, run[0].what);
            let list = by_statement.entry(key).or_insert_with(|| {
                order.push(key);
                Vec::new()
            });
            memory::extend(list, run);
        }
        let mut statements: Vec<WriteStatement> = memory::list(order.len());
        for (target, what) in order {
            let items = by_statement.remove(&(target, what)).unwrap_or_default();
            statements.push(WriteStatement::of(target, what, items, self.targets));
        }
        let mut applied = Applied::default();
        for nothing in statements.iter().filter(|s| s.writes_nothing(self.targets)) {
            let target = &self.targets[nothing.target];
            // Who may not read the key has no copy to mend.
            let lost = |i: &&&Item| !echo::is_known(target, &target.plan.records[i.row as usize]);
            let items = nothing.items.iter().filter(|_| target.may_read_key()).filter(lost);
            memory::extend(&mut applied.kept, items.map(|item| **item));
        }
        statements.retain(|s| !s.writes_nothing(self.targets));
        if together && statements.len() > 1 {
            self.run_as_one(&statements, &mut applied)?;
        } else {
            for statement in &statements {
                self.run(statement, &mut applied)?;
            }
        }
        Ok(applied)
    }

    fn run(&self, statement: &WriteStatement, applied: &mut Applied) -> Result<()> {
        let target = &self.targets[statement.target];
        let sql = statement.sql(target, self.manners[statement.target], 1);
        let sending = self.sending(std::slice::from_ref(statement))?;
        let done =
            spi::numbers(&sql, &[json_arg(&statement.payload)], Mode::Write).map_err(|e| target.while_pushing(e))?;
        self.touch(std::slice::from_ref(statement), sending)?;
        if statement.returns() && done.len() < statement.items.len() {
            self.check(statement, &done.into_iter().map(|(n, _)| n).gather(), applied)?;
        }
        Ok(())
    }

    /// One statement with a WITH query for each: Postgres checks foreign keys at the end of it, so that rows may refer to each
    /// other whatever their columns and tables.
    fn run_as_one(&self, statements: &[WriteStatement], applied: &mut Applied) -> Result<()> {
        let mut with = Vec::new();
        let mut select = Vec::new();
        let mut args = Vec::new();
        for (i, statement) in statements.iter().enumerate() {
            let sql = statement.sql(&self.targets[statement.target], self.manners[statement.target], i + 1);
            with.push(format!("s{i} AS ({sql})"));
            if statement.returns() {
                select.push(format!("pg_catalog.to_json(ARRAY(SELECT n FROM s{i}))"));
            }
            args.push(json_arg(&statement.payload));
        }
        // (As arms of a UNION ALL, a thousand of them took ten seconds to plan.)
        let reached = format!("pg_catalog.to_json(ARRAY[{}]::pg_catalog.json[])", select.join(", "));
        let sql = format!("WITH {} SELECT {reached}", with.join(", "));
        let sending = self.sending(statements)?;
        let rows = spi::query_planned(&sql, &args, Mode::Write, Planned::Once)?;
        self.touch(statements, sending)?;
        let done: Vec<HashSet<u32>> = rows.first().map_or_else(|| Ok(Vec::new()), |row| row.json(0))?;
        for (statement, done) in statements.iter().filter(|s| s.returns()).zip(&done) {
            self.check(statement, done, applied)?;
        }
        Ok(())
    }

    /// Marks what these statements, which run as one, will store as it was sent. Nothing may run before them.
    fn sending(&self, statements: &[WriteStatement]) -> Result<Option<Sending>> {
        let mut sent = SentRows::new();
        for statement in statements {
            let target = &self.targets[statement.target];
            if !target.echoes {
                continue;
            }
            let Some(echo) = self.echo(statement.target)? else { continue };
            let rows = echo.rows(target, statement.what, &statement.items);
            if !rows.is_empty() {
                memory::extend(sent.entry(target.collection.relation.to_u32()).or_default(), rows);
            }
        }
        let updates = statements.iter().any(WriteStatement::returns);
        Ok((updates || !sent.is_empty()).then(|| Sending::start(sent)))
    }

    /// Of rows that these statements left as they were the log has nothing. Unless they are just what was sent, their client has them
    /// otherwise: a trigger put a column back, a value was rounded, an unwritable column was left out.
    fn touch(&self, statements: &[WriteStatement], sending: Option<Sending>) -> Result<()> {
        let stayed = sending.map(Sending::stayed).unwrap_or_default();
        if stayed.is_empty() {
            return Ok(());
        }
        for statement in statements {
            let (target, what) = (&self.targets[statement.target], statement.what);
            let relation = target.collection.relation;
            let rows = stayed.iter().filter(|row| row.relation == relation.to_u32());
            let rows: HashMap<Cow<str>, &StayedRow> = rows.map(|row| (target.comparable(&row.key), row)).gather();
            // Who may not read the key has no copy to mend.
            if rows.is_empty() || !target.may_read_key() {
                continue;
            }
            let items = statement.items.iter().copied();
            let items: Vec<&Item> =
                items.filter(|i| rows.contains_key(&target.comparable(i.id(self.targets)))).gather();
            // A deletion that left the row as it was is none; and what a conflict function returned nobody sent.
            let as_sent = match self.echo(statement.target)?.filter(|_| !target.settled) {
                Some(echo) => echo.kept(target, what, &items),
                None => HashSet::new(),
            };
            for id in items.iter().map(|i| i.id(self.targets)).filter(|id| !as_sent.contains(id.as_bytes())) {
                memory::heed();
                let row = rows[&target.comparable(id)];
                journal::touch(relation, &row.key, row.scope.as_deref())?;
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

    /// Rows that an UPDATE or DELETE did not reach: a trigger of the table's owner kept them, or no policy lets the caller
    /// change them, and then the client must not believe it.
    fn check(&self, statement: &WriteStatement, done: &HashSet<u32>, applied: &mut Applied) -> Result<()> {
        if !statement.returns() || done.len() == statement.items.len() {
            return Ok(());
        }
        if self.manners[statement.target].locks_itself {
            applied.unreached = true;
            return Ok(());
        }
        let target = &self.targets[statement.target];
        let deletes = statement.what == What::Delete;
        let left: Vec<&Item> = statement.items.iter().copied().filter(|i| !done.contains(&i.row)).gather();
        let soft = target.collection.soft_delete.is_some();
        let event = if deletes && !soft { facts::DELETE } else { facts::UPDATE };
        let may_veto = Facts::of(&target.collection)?.vetoes & event != 0;
        let ids: Vec<&str> = left.iter().map(|i| i.id(self.targets)).gather();
        let visible: HashMap<usize, bool> = target.visible_now(&ids)?.into_iter().gather();
        let what = if deletes { "deleted" } else { "updated" };
        let unseen: Vec<&str> = (0..ids.len()).filter(|place| !visible.contains_key(place)).map(|p| ids[p]).gather();
        if let Some(id) = left_standing(target, &unseen)?.first() {
            // Something that this push did took it out of the caller's sight.
            return Err(target.refused(what, id));
        }
        for (place, (item, id)) in left.iter().zip(&ids).enumerate() {
            match visible.get(&place) {
                // Marked as deleted already.
                Some(true) if deletes && soft => {}
                Some(_) if may_veto => applied.kept.push(**item),
                Some(_) => return Err(target.refused(what, id)),
                // Gone meanwhile, through this very push (a cascade): the client hears of it with its next pull.
                None => {}
            }
        }
        Ok(())
    }

    /// Those of the failed items whose row is gone by now, taken along by a cascade: there is nothing to try again.
    pub fn gone(&self, failed: &[(Item, SyncError)]) -> Result<HashSet<Item>> {
        let mut gone = HashSet::new();
        let updates =
            failed.iter().map(|(item, _)| *item).filter(|i| matches!(i.what, What::Update(_) | What::Revive(_)));
        for (target, updates) in by_target(updates) {
            let ids: Vec<&str> = updates.iter().map(|i| i.id(self.targets)).gather();
            let visible = self.targets[target].visible_now(&ids)?;
            let visible: HashSet<usize> = visible.into_iter().map(|(place, _)| place).gather();
            let unseen: Vec<usize> = (0..ids.len()).filter(|place| !visible.contains(place)).gather();
            let asked: Vec<&str> = unseen.iter().map(|&place| ids[place]).gather();
            let standing: HashSet<&str> = left_standing(&self.targets[target], &asked)?.into_iter().gather();
            let is_gone = |place: &usize| !standing.contains(ids[*place]);
            memory::extend(&mut gone, unseen.into_iter().filter(is_gone).map(|place| updates[place]));
        }
        Ok(gone)
    }

    /// Writes the items, each in a subtransaction of its own where it must be: halves what fails until the culprits stand alone.
    /// With `enough`, stops when so many have failed.
    pub fn bisect(&self, items: &[Item], together: bool, enough: usize, outcome: &mut Outcome) -> Result<()> {
        if items.is_empty() || outcome.failed.len() >= enough {
            return Ok(());
        }
        subxact::in_halves(items, &|items: &[Item]| self.apply(items, together), &mut |tried| {
            match tried {
                Ok(applied) => memory::extend(&mut outcome.kept, applied.kept),
                Err((item, e)) => self.failed(item, e, outcome)?,
            }
            Ok(outcome.failed.len() < enough)
        })?;
        Ok(())
    }

    /// An item that cannot be written by itself. If it is a new row that has come to be there, made by a trigger or by somebody else,
    /// it is an update after all: a created row that exists is updated.
    fn failed(&self, item: Item, e: SyncError, outcome: &mut Outcome) -> Result<()> {
        let (target, id) = (&self.targets[item.target], item.id(self.targets));
        let is_taken = matches!(item.what, What::Insert(_)) && e.code == code::UNIQUE_VIOLATION;
        let mut e = e;
        let found = if is_taken { target.visible_now(&[id])? } else { Vec::new() };
        if let Some((_, deleted)) = found.first() {
            let group = target.group_of_update(item.row);
            let update = Item { what: if *deleted { What::Revive(group) } else { What::Update(group) }, ..item };
            match subxact::run(|| self.apply(&[update], false)) {
                Ok(applied) => {
                    memory::extend(&mut outcome.kept, applied.kept);
                    outcome.updated.push(update);
                    return Ok(());
                }
                Err(error) if subxact::is_transient(&error) => return Err(error),
                Err(error) => e = error,
            }
        } else if is_taken && pg::transaction_snapshot_is_fixed() && target.is_seen_later(id)? {
            return Err(SyncError::new(
                code::SERIALIZATION_FAILURE,
                "could not serialize access due to concurrent update",
            )
            .detail(format!("It is about {}.", target.path_of(id)))
            .hint("Nothing was applied. Push again, in a new transaction."));
        }
        outcome.failed.push((item, target.about(id, e)));
        Ok(())
    }
}

/// Those of these rows, which the caller does not see any more, that stand there all the same.
fn left_standing<'i>(target: &Target, ids: &[&'i str]) -> Result<Vec<&'i str>> {
    if !policy::any_stands(&target.collection, ids)? {
        return Ok(Vec::new());
    }
    let mut standing = Vec::new();
    for id in ids {
        if policy::any_stands(&target.collection, std::slice::from_ref(id))? {
            standing.push(*id);
        }
    }
    Ok(standing)
}
