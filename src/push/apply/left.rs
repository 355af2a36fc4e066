//! What a statement of a push left undone, or did otherwise, with no error: triggers and rules of the table's owner do that, and so do policies.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::{Applied, Care, ItemWriter};
use crate::collections::catalog;
use crate::collections::facts::{self, Facts, Followed, DELETE};
use crate::collections::tombstone;
use crate::log::journal::{self, Outcomes};
use crate::push::decide::{Fate, RowKind};
use crate::push::item::{by_target, Item, What};
use crate::push::statement::WriteStatement;
use crate::push::target::Target;
use crate::server::error::{code, Result, SyncError};
use crate::server::locks;
use crate::server::memory::{self, Gather};
use crate::server::pg;
use crate::sight::policy::{self, Judge, RowCommand};

/// What is known when a statement begins.
pub(super) struct Beforehand {
    /// So many changes were logged.
    pub(super) logged: i32,
    /// The number of its command.
    command: u32,
    /// Its items whose rows the caller sees, where it may be vetoed and that is looked at.
    seen: HashSet<u32>,
}

/// Rows of a target that the push has deleted, or of which it has changed something that shows them.
pub(super) struct TouchedRows {
    /// By how many changes were logged.
    until: i32,
    /// Comparable.
    ids: HashSet<String>,
}

impl ItemWriter<'_, '_> {
    /// (An error where it would write what an earlier statement has marked as deleted.)
    pub(super) fn before(&self, statement: &WriteStatement) -> Result<Beforehand> {
        self.refuse_marked(statement)?;
        let mut seen = HashSet::new();
        if self.care == Care::Full && statement.returns() && self.may_veto(statement)? {
            let ids: Vec<&str> = statement.items.iter().map(|i| i.id(self.targets)).gather();
            let visible = self.targets[statement.target].visible_now(&ids)?;
            seen = visible.into_iter().map(|(place, _)| statement.items[place].row).gather();
        }
        Ok(Beforehand { logged: journal::logged(), command: pg::next_command(), seen })
    }

    /// May a trigger or a rule veto what it does to a row, or do something else?
    pub(super) fn may_veto(&self, statement: &WriteStatement) -> Result<bool> {
        let collection = &self.targets[statement.target].collection;
        Ok(Facts::of(collection)?.vetoes & statement.event(collection) != 0)
    }

    /// The tables of which these statements, which run as one, have to be told what they inserted: no error and a row that is there are no proof.
    pub(super) fn watched(&self, statements: &[WriteStatement]) -> Result<HashSet<u32>> {
        let mut watched = HashSet::new();
        for statement in statements.iter().filter(|s| !s.returns()) {
            let target = &self.targets[statement.target];
            if target.may_suppress_inserts()? {
                watched.insert(target.collection.relation.to_u32());
            }
        }
        Ok(watched)
    }

    /// A row that is there, and that the INSERT has not written: a trigger or a rule ignores what is there already. It is what it would be without
    /// them, a key that is taken; but it stays so where that was known, and the caller may not update it.
    pub(super) fn check_inserted(
        &self,
        statement: &WriteStatement,
        sent: &Outcomes,
        trusted: bool,
        applied: &mut Applied,
    ) -> Result<()> {
        let target = &self.targets[statement.target];
        if trusted || !target.may_suppress_inserts()? {
            return Ok(());
        }
        let repeated = &self.fates[statement.target].repeated;
        let ids: Vec<&str> = statement.items.iter().map(|i| i.id(self.targets)).gather();
        for place in unwritten(target, &ids, sent)? {
            let item = statement.items[place];
            if !repeated.contains(&item.row) {
                let name = &target.collection.name;
                let message = format!("a row of collection \"{name}\" is there already and was not written");
                return Err(target.about(ids[place], SyncError::new(code::UNIQUE_VIOLATION, message)));
            }
            applied.kept.push(*item);
        }
        Ok(())
    }

    /// Rows that an UPDATE or DELETE did not reach: a trigger of the table's owner kept them, or no policy lets the caller
    /// change them, and then the client must not believe it.
    pub(super) fn check(
        &self,
        statement: &WriteStatement,
        done: &HashSet<u32>,
        before: &Beforehand,
        applied: &mut Applied,
    ) -> Result<()> {
        let target = &self.targets[statement.target];
        if done.len() == statement.items.len() {
            return Ok(());
        }
        if self.fates[statement.target].manner.locks_itself {
            applied.unreached = true;
            return Ok(());
        }
        let deletes = statement.what.deletes();
        let (soft, may_veto) = (target.collection.soft_delete.is_some(), self.may_veto(statement)?);
        let left: Vec<&Item> = statement.items.iter().copied().filter(|i| !done.contains(&i.row)).gather();
        let ids: Vec<&str> = left.iter().map(|i| i.id(self.targets)).gather();
        let visible: HashMap<usize, bool> = target.visible_now(&ids)?.into_iter().gather();
        let what = if deletes { "deleted" } else { "updated" };
        let unseen = (0..ids.len()).filter(|place| !visible.contains_key(place));
        let unseen: Vec<(&Item, &str)> = unseen.map(|place| (left[place], ids[place])).gather();
        if let Some(id) = left_standing(target, &self.not_taken(statement, &unseen, before)?)?.first() {
            // Something that this push did took it out of the caller's sight.
            return Err(target.refused(what, id));
        }
        if let Some(id) = self.not_yet_there(target, &unseen) {
            return Err(target.refused(what, id));
        }
        let gone = if deletes { &[] } else { &unseen[..] };
        if let Some(id) = self.touched_before(target, gone, before.logged, &|_| true).first() {
            return Err(target.taken_along(id));
        }
        // (Not those that are marked as deleted already, which a deletion passes over; nor what is gone meanwhile, through this very push (a cascade), or out of the caller's sight: the client hears of it with
        // its next pull.)
        let passes_over = statement.what == What::Delete && soft;
        let stands = |place: &usize| visible.get(place).is_some_and(|marked| !(*marked && passes_over));
        let kept: Vec<usize> = (0..ids.len()).filter(stands).gather();
        let standing: Vec<&str> = kept.iter().map(|place| ids[*place]).gather();
        let refused = match may_veto {
            true => self.first_refused(statement, &standing, before)?,
            false => standing.first().copied(),
        };
        if let Some(id) = refused {
            return Err(target.refused(what, id));
        }
        memory::extend(&mut applied.kept, kept.iter().map(|place| *left[*place]));
        memory::extend(&mut applied.held, kept.into_iter().map(|place| *left[place]));
        Ok(())
    }

    /// The first of these rows that something else of the push brings into the caller's sight, and which the push has not taken along either.
    fn not_yet_there<'i>(&self, target: &Target, unseen: &[(&Item, &'i str)]) -> Option<&'i str> {
        let is_opened = |item: &Item| {
            let kind = if item.what == What::Delete { RowKind::Deletions } else { RowKind::Records };
            self.fates[item.target].opened.contains(&(kind, item.row))
        };
        let opened: Vec<(&Item, &str)> = unseen.iter().copied().filter(|(item, _)| is_opened(item)).gather();
        let taken = self.touched_before(target, &opened, journal::logged(), &|_| true);
        opened.into_iter().map(|(_, id)| id).find(|id| !taken.contains(id))
    }

    /// Those of these rows, which the caller does not see any more, that no trigger is known to have taken: it may have marked them instead of deleting them. Of
    /// such a row the log has something since the statement began; or it began with the row in sight, and what shows it has changed. Either tells its client.
    fn not_taken<'i>(
        &self,
        statement: &WriteStatement,
        unseen: &[(&Item, &'i str)],
        before: &Beforehand,
    ) -> Result<Vec<&'i str>> {
        let target = &self.targets[statement.target];
        let deletes = statement.what.deletes();
        let all = || unseen.iter().map(|(_, id)| *id).gather();
        if unseen.is_empty() {
            return Ok(all());
        }
        // (What an earlier statement did is of the order in which the push is written.)
        let forgives = deletes && self.forgives.get() && !self.may_follow(target, self.logged)?;
        if !forgives && !self.may_veto(statement)? {
            return Ok(all());
        }
        let since = if forgives { self.logged } else { before.logged };
        let ids: Vec<&str> = unseen.iter().map(|(_, id)| *id).gather();
        let logged = taken_in(target, &ids, since..i32::MAX, &|_| true);
        let (mut left, mut asked) = (Vec::new(), Vec::new());
        for &(item, id) in unseen {
            let (is_logged, was_seen) = (logged.contains(&*target.comparable(id)), before.seen.contains(&item.row));
            memory::extend(&mut left, (!is_logged && !was_seen).then_some(id));
            memory::extend(&mut asked, (was_seen && !is_logged || is_logged && !forgives).then_some(id));
        }
        // What the same statement did to another row may have hidden it (a key, a membership that ends), and policies have kept it.
        let standing = left_standing(target, &asked)?;
        memory::extend(&mut left, self.refused_as_met(statement, &standing, before)?.flatten());
        Ok(left)
    }

    /// May a key have changed columns of this table's rows, as what they refer to was deleted since so many changes were logged, or updated? That hides rows and deletes none. A cascade may
    /// have done so, or a trigger. What was deleted of a tracked table the journal tells; that others were written to, if for another reason, the locks tell.
    pub(super) fn may_follow(&self, target: &Target, since: i32) -> Result<bool> {
        if !Facts::of(&target.collection)?.follows {
            return Ok(false);
        }
        let written: HashSet<u32> = locks::written().into_iter().map(|table| pg::root_of(table).to_u32()).gather();
        let followed = facts::followed_by(target.collection.relation)?;
        for Followed { table, deleted, updated } in followed.into_iter().filter(|f| written.contains(&f.table.to_u32()))
        {
            memory::heed();
            let by_deletion = deleted
                && match catalog::tracked(table)? {
                    Some(_) => !journal::is_kept_since(since) || journal::has_deleted_since(since, table),
                    None => true,
                };
            if by_deletion || updated {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// An UPDATE of a row that an earlier statement of this push has marked as deleted, as a trigger does that takes a parent's children along: what the client has
    /// changed would be gone with the row, or bring it back where whole records are sent, with the mark as it was. (One that sets the mark itself is a deletion. And a row that was
    /// marked before the push is brought back, whatever else the push has done to it.)
    fn refuse_marked(&self, statement: &WriteStatement) -> Result<()> {
        let target = &self.targets[statement.target];
        let (What::Update(_), Some(mark)) = (statement.what, &target.collection.soft_delete) else { return Ok(()) };
        // (Of those that nobody saw before the push, only what it has changed of them tells.)
        let was_unmarked = |image: &str| {
            let values: HashMap<String, Option<String>> = serde_json::from_str(image).unwrap_or_default();
            !tombstone::marks(mark, values.get(&mark.name).and_then(Option::as_deref).map(str::as_bytes))
        };
        let marked = &self.fates[statement.target].marked;
        let items = statement.items.iter().filter(|item| !marked.contains(&item.row));
        let rows: Vec<(&Item, &str)> = items.map(|item| (*item, item.id(self.targets))).gather();
        let touched = self.touched_before(target, &rows, journal::logged(), &was_unmarked);
        match target.visible_now(&touched)?.into_iter().find(|(_, is_marked)| *is_marked) {
            Some((place, _)) => Err(target.taken_along(touched[place])),
            None => Ok(()),
        }
    }

    /// Those of these rows that an earlier statement of this push deleted, or of which it changed something that decides who sees them, if what they had there before counts.
    /// (Where that cannot be told, those that it may be.)
    pub(super) fn touched_before<'i>(
        &self,
        target: &Target,
        rows: &[(&Item, &'i str)],
        logged: i32,
        counts: &dyn Fn(&str) -> bool,
    ) -> Vec<&'i str> {
        if rows.is_empty() || self.logged == logged {
            return Vec::new();
        }
        if !journal::is_kept_since(self.logged) {
            return rows.iter().filter(|(item, _)| self.was_held(item)).map(|(_, id)| *id).gather();
        }
        let mut ids: Vec<&str> = rows.iter().map(|(_, id)| *id).gather();
        self.retain_touched(rows[0].0.target, logged, &mut ids);
        let taken = match ids.is_empty() {
            true => HashSet::new(),
            false => taken_in(target, &ids, self.logged..logged, counts),
        };
        ids.retain(|id| taken.contains(&*target.comparable(id)));
        ids
    }

    /// Leaves those of these ids of whose rows the push's journal has such a change, or had it before that was undone. (Where rows are written one by one each of them asks: what was
    /// read of the journal is remembered.)
    fn retain_touched(&self, target: usize, logged: i32, ids: &mut Vec<&str>) {
        let mut touched = self.touched.borrow_mut();
        let touched = touched.entry(target).or_insert_with(|| TouchedRows { until: self.logged, ids: HashSet::new() });
        let target = &self.targets[target];
        if touched.until < logged {
            journal::taken_in(touched.until..logged, target.collection.relation, &mut |key, _| {
                touched.ids.insert(target.comparable(key).into_owned());
            });
            touched.until = logged;
        }
        ids.retain(|id| touched.ids.contains(&*target.comparable(id)));
    }

    /// Was the record's row there, and locked, when it was decided about it? Then whatever has become of the row since, this push has done.
    fn was_held(&self, item: &Item) -> bool {
        let fates = &self.fates[item.target];
        matches!(fates.records[item.row as usize], Fate::Update | Fate::Revive)
            && !fates.closed.contains(&item.row)
            && self.targets[item.target].may_read_key()
    }

    /// The first of these rows, which the caller sees, that the policies do not let him change. The others a trigger kept.
    fn first_refused<'i>(
        &self,
        statement: &WriteStatement,
        rows: &[&'i str],
        before: &Beforehand,
    ) -> Result<Option<&'i str>> {
        let target = &self.targets[statement.target];
        match self.refused_as_met(statement, rows, before)? {
            Some(refused) => Ok(refused),
            // Which rows he may update as they are now, locking them tells. Of a deletion nothing does: he hears of the row, as of one that a trigger kept.
            None if statement.event(&target.collection) == DELETE => Ok(None),
            None => {
                let open: HashSet<usize> = target.lock(rows)?.into_iter().map(|(place, _)| place).gather();
                Ok((0..rows.len()).find(|place| !open.contains(place)).map(|place| rows[place]))
            }
        }
    }

    /// The first of these rows that the policies do not let the caller change, as the statement met it; None where that cannot be told. What a policy goes by can have changed since
    /// the rows were locked, through this very push, or others'. (As they are now, the trigger may have made what the policy refuses: a mark, say.)
    fn refused_as_met<'i>(
        &self,
        statement: &WriteStatement,
        rows: &[&'i str],
        before: &Beforehand,
    ) -> Result<Option<Option<&'i str>>> {
        let collection = &self.targets[statement.target].collection;
        let deletes = statement.event(collection) == DELETE;
        let command = if deletes { RowCommand::Delete } else { RowCommand::Update };
        let _then = pg::ActiveSnapshot::before_command(before.command);
        let judge = Judge::of_changes(collection, command);
        let mut part = rows;
        match judge.count_present(part)? {
            Some(count) if count < part.len() => {}
            Some(_) => return Ok(Some(None)),
            None => return Ok(None),
        }
        while part.len() > 1 {
            memory::heed();
            let (first, second) = part.split_at(part.len() / 2);
            let refuses = judge.count_present(first)?.is_some_and(|count| count < first.len());
            part = if refuses { first } else { second };
        }
        Ok(Some(part.first().copied()))
    }

    /// Those of these rows that the caller could change: he sees them, policies let him, and they are not marked as deleted, unless they were before the push, or the item brings them back.
    pub fn open(&self, updates: &[Item]) -> Result<HashSet<Item>> {
        let mut open = HashSet::new();
        for (target, updates) in by_target(updates.iter().copied()) {
            let ids: Vec<&str> = updates.iter().map(|i| i.id(self.targets)).gather();
            let (target, before) = (&self.targets[target], &self.fates[target].marked);
            let brings_back = |item: &Item| matches!(item.what, What::Revive(_)) || before.contains(&item.row);
            let locked = target.lock(&ids)?.into_iter();
            let locked = locked.filter(|(place, is_marked)| !is_marked || brings_back(&updates[*place]));
            memory::extend(&mut open, locked.map(|(place, _)| updates[place]));
        }
        Ok(open)
    }

    /// Those of the failed items whose row is gone by now, taken along by a cascade: there is nothing to try again.
    pub fn gone(&self, failed: &[Item]) -> Result<HashSet<Item>> {
        let mut gone = HashSet::new();
        let updates = failed.iter().copied().filter(Item::keeps_row);
        for (target, updates) in by_target(updates) {
            let ids: Vec<&str> = updates.iter().map(|i| i.id(self.targets)).gather();
            let visible: HashSet<usize> =
                self.targets[target].visible_now(&ids)?.into_iter().map(|(place, _)| place).gather();
            let unseen: Vec<usize> = (0..ids.len()).filter(|place| !visible.contains(place)).gather();
            let asked: Vec<&str> = unseen.iter().map(|&place| ids[place]).gather();
            let standing: HashSet<&str> = left_standing(&self.targets[target], &asked)?.into_iter().gather();
            let is_gone = |place: &usize| !standing.contains(ids[*place]);
            memory::extend(&mut gone, unseen.into_iter().filter(is_gone).map(|place| updates[place]));
        }
        Ok(gone)
    }
}

/// The places of those of these ids whose rows the caller sees, and of which nothing was logged: no statement wrote them.
fn unwritten(target: &Target, ids: &[&str], sent: &Outcomes) -> Result<Vec<usize>> {
    let relation = target.collection.relation;
    let doubtful: Vec<usize> = (0..ids.len()).filter(|place| !sent.reached(relation, ids[*place])).gather();
    let asked: Vec<&str> = doubtful.iter().map(|place| ids[*place]).gather();
    // The server may write the id otherwise.
    let stored = target.ids_now(&asked)?;
    let stands = |at: &usize| stored.get(at).is_some_and(|id| !sent.reached(relation, id));
    Ok((0..doubtful.len()).filter(stands).map(|at| doubtful[at]).gather())
}

/// Those of these ids, comparable, of whose rows the log has among these changes that they were deleted, or that something which shows them changed, if what they had there before
/// counts.
fn taken_in(target: &Target, ids: &[&str], changes: Range<i32>, counts: &dyn Fn(&str) -> bool) -> HashSet<String> {
    let asked: HashSet<Cow<str>> = ids.iter().map(|id| target.comparable(id)).gather();
    let mut taken = HashSet::new();
    journal::taken_in(changes, target.collection.relation, &mut |key, image| {
        if let Some(id) = asked.get(&target.comparable(key)).filter(|_| counts(image)) {
            taken.insert(id.to_string());
        }
    });
    taken
}

/// Those of these rows, which the caller does not see any more, that stand there all the same.
pub(super) fn left_standing<'i>(target: &Target, ids: &[&'i str]) -> Result<Vec<&'i str>> {
    memory::heed();
    let count = policy::count_standing(&target.collection, ids)?;
    if count == 0 || count == ids.len() {
        return Ok(ids[..count].iter().copied().gather());
    }
    let (first, second) = ids.split_at(ids.len() / 2);
    let mut standing = left_standing(target, first)?;
    memory::extend(&mut standing, left_standing(target, second)?);
    Ok(standing)
}
