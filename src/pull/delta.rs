//! What a client is told when its user's access moved: the rows that came into view, the ids of those that went out of it, and nothing of the
//! rest. Rows with entries of their own go their own way (`changes.rs`); what the caller could see of them is asked of the time that it
//! was so.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::CString;
use std::rc::Rc;

use pgrx::pg_sys;

use super::changes::{Changed, ImageOf, Saw, Word};
use super::life::Life;
use super::wanted::LastScopes;
use super::CollectionPull;
use crate::collections::catalog;
use crate::collections::lookup::{self, Keys, TextStore};
use crate::log::change::Image;
use crate::log::clock::durable;
use crate::log::journal;
use crate::log::read::Entries;
use crate::server::error::{Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::pg;
use crate::server::spi::{self, NamedRelation};
use crate::server::statement::{self, Statement};
use crate::server::subxact;
use crate::sight::cause::Cause;
use crate::sight::delta::{Delta, Link, Seen, Tables};
use crate::sight::keys;
use crate::sight::policy::{self, Judge};
use crate::sight::reach::{Reach, ReadTable};
use crate::sight::scope::{
    self,
    derived::{self, Patience},
};
use crate::values::json::{self, Output, RowSink, RowSpec, Writer};
use crate::values::wire_id;

/// By what the caller could see old rows.
pub(super) enum Past<'a> {
    /// What other rows let him see stayed the same.
    Steady(&'a Judge),
    Moved(&'a Moved<'a>),
}

/// What his access was.
pub(super) struct Moved<'a> {
    delta: &'a Delta<'a>,
    /// Else the client only asks for other scopes.
    access_moved: bool,
    /// As it is now.
    now: Option<&'a Judge>,
    /// The scopes at the cursor; with those since; and those of all sights before now.
    scopes: Option<&'a [String]>,
    all_scopes: Option<&'a [String]>,
    steady_scopes: Option<&'a [String]>,
    /// The keys of the rows that have entries of their own.
    own: &'a Keys<'a>,
    /// For each sight: which of the other rows can have moved since; None: any. Behind them: since any of them.
    links: Vec<Option<Vec<Linked>>>,
}

/// Values of a column, as a relation that statements can name.
struct Linked {
    attnum: i16,
    column: String,
    name: CString,
    values: TextStore,
}

/// Scopes that the client's rows were of: during any sight, and during all before now.
struct SightScopes {
    all: Vec<String>,
    steady: Vec<String>,
}

/// A part of the scopes: these, or all, but for some.
struct ScopePart {
    only: Option<Vec<String>>,
    but: Option<Vec<String>>,
}

impl ScopePart {
    fn of(only: Option<Vec<String>>) -> ScopePart {
        ScopePart { only, but: None }
    }

    fn is_empty(&self) -> bool {
        self.only.as_ref().is_some_and(Vec::is_empty)
    }
}

/// With more changed rows of its own a collection is replaced when access moved.
const OWN: usize = 50_000;

/// With so many changes of access rows, whosever they are, a collection whose rows cannot be looked up by them is replaced.
const UNLINKED: usize = 100;

const OWN_KEYS: &std::ffi::CStr = c"snapsync_changed_keys";

impl CollectionPull<'_> {
    /// What this collection's rows and a moved access stand for; says why, with nothing written, when that cannot be told.
    pub(super) fn write_moved(
        &self,
        cursor: i64,
        stamps: Vec<i64>,
        tables: &[ReadTable],
        reach: &mut Reach,
        out: &mut Writer<Output>,
    ) -> Result<Option<Cause>> {
        if let Some(cause) = self.not_by_delta(stamps.len()) {
            return Ok(Some(cause));
        }
        let access_moved = !stamps.is_empty();
        let tables = tables.iter().map(|read| Ok((Rc::clone(&read.table), reach.entries_read(read)?)));
        let mut tables: Vec<_> = tables.gather::<Result<_>>()?;
        tables.retain(|(_, entries)| access_moved || !entries.is_empty());
        // A sight of its own: the client asked for other scopes until just before what came since.
        let asked_otherwise = self.wanted.before.differs().then_some(cursor - 1);
        let ends = asked_otherwise.into_iter().chain(stamps).gather();
        let Some(mut delta) = Delta::of(self.collection, &tables, cursor, ends) else {
            return Ok(Some(Cause::OldRows));
        };
        if !delta.look_back([0])? {
            return Ok(Some(Cause::Access));
        }
        let Some(scopes) = self.scopes_before(&delta)? else { return Ok(Some(Cause::Access)) };
        let Some(of_sights) = self.all_scopes(scopes.as_deref(), &mut delta)? else { return Ok(Some(Cause::Access)) };
        let (all_scopes, steady_scopes) = match of_sights {
            Some(SightScopes { all, steady }) => (Some(all), Some(steady)),
            None => (None, scopes.clone()),
        };
        // A client that was ended after it took an answer and before it kept the cursor has what came into view since, and went again. So
        // every sight counts.
        let several = delta.sights_before() > 1;
        if several && !(delta.is_quick(false) && delta.look_back(1..delta.sights_before())?) {
            return Ok(Some(Cause::Access));
        }
        let read = match &all_scopes {
            // (Else the client may know another order of what happened than that of the stamps.)
            None if access_moved && !self.basis.exact => None,
            None if access_moved => derived::scopes_of_sights(self.collection, &delta, reach)?,
            None => self.derived(reach, Patience::Pull)?.scopes,
            all => all.clone(),
        };
        let Some(entries) = self.entries_in(read.as_deref(), reach)? else { return Ok(Some(Cause::Filter)) };
        // The snapshot of such a cursor has seen some of these changes, maybe, and not the one of access; or the other way round. Or a row
        // that came since is with the client already, which asks for other scopes now.
        if !self.basis.exact && !entries.is_empty() {
            return Ok(Some(if access_moved { Cause::Overlap } else { Cause::Filter }));
        }
        if several && !delta.is_quick(entries.are_many()) {
            return Ok(Some(Cause::Access));
        }
        let now = if entries.have_images() { reach.judge_after(delta.last_end(), self.collection)? } else { None };
        let own = self.keys_of(&entries)?;
        // Each of the other rows would be looked for among them.
        if access_moved && own.count() > OWN {
            return Ok(Some(Cause::Access));
        }
        let (scopes, all_scopes, steady_scopes) = (scopes.as_deref(), all_scopes.as_deref(), steady_scopes.as_deref());
        let before = out.mark();
        let written = subxact::run(|| {
            durable::saw_rows();
            if access_moved && delta.sights_before() > 1 {
                self.compare(&delta, scopes != all_scopes)?;
            }
            let Some(links) = self.links_of(&delta, &tables, access_moved)? else { return Ok(Some(Cause::Access)) };
            let now = now.as_ref();
            let moved = Moved { delta: &delta, access_moved, now, scopes, all_scopes, steady_scopes, own: &own, links };
            self.write_changes(&entries, &Past::Moved(&moved), out)
        });
        let cause = policy::or_unknown(written)?.unwrap_or(Some(Cause::Access));
        if cause.is_some() {
            out.back_to(before);
        }
        Ok(cause)
    }

    /// Why so many changes of access cannot be told by what they moved, as far as the call itself says.
    fn not_by_delta(&self, changes: usize) -> Option<Cause> {
        // Rows with such a value, and those that came into view, would be told twice.
        if !self.new_columns.is_empty() {
            return Some(Cause::Columns);
        }
        // Of one change the client knows or does not; of several it may know any.
        if !self.basis.exact && changes > 1 {
            return Some(Cause::Overlap);
        }
        // Or it knows that one by what it asked for until now: a state that is none of those looked back at.
        let unknown = !self.basis.exact && self.wanted.before.differs();
        // Between the cursor and now the client asked for what the owner gave it then, which it may have pulled, or pushed into.
        let given = matches!(self.wanted.before, LastScopes::Owners { named_now: true });
        (changes > 0 && (unknown || given)).then_some(Cause::Filter)
    }

    /// The keys of the rows that have entries of their own, or word for the caller: `changes` tells of these. Word for others says nothing of
    /// the row, nor does an id that the server writes otherwise.
    fn keys_of(&self, entries: &Entries) -> Result<Keys<'_>> {
        let mut own = Keys::named(self.collection, Cow::Borrowed(OWN_KEYS))?;
        let (mut last, mut word) = (None::<String>, Word::default());
        entries.each(&mut |id, changes| {
            let is_told = |word: &mut Word| {
                Ok::<_, SyncError>(word.is_told(changes, self)? && lookup::is_as_written(self.collection, id)?)
            };
            let another = last.as_deref() != Some(id);
            if another && (!changes.iter().all(|entry| entry.is_notice()) || is_told(&mut word)?) {
                own.add(id)?;
                last = Some(id.to_string());
            }
            Ok(true)
        })?;
        Ok(own)
    }

    /// The links of all sights before now; None where one of them cannot be told and it would take too long to look at all rows.
    fn links_of(&self, delta: &Delta, tables: &Tables, access_moved: bool) -> Result<Option<Vec<Option<Vec<Linked>>>>> {
        let mut links = Vec::new();
        for sight in 0..delta.sights_before() {
            let asked = access_moved && (delta.may_lose(sight) || delta.may_gain(sight));
            links.push(if asked { self.links(sight, delta)? } else { Some(Vec::new()) });
        }
        // Each row would be asked of each changed one, or in each sight.
        let dear = || !delta.are_few() || tables.iter().any(|(_, entries)| entries.are_more_than(UNLINKED));
        if links.iter().any(Option::is_none) && dear() {
            return Ok(None);
        }
        self.linked(links).map(Some)
    }

    /// The scopes that the client's rows are of. None when that cannot be told.
    fn scopes_before(&self, delta: &Delta) -> Result<Option<Option<Vec<String>>>> {
        match (&self.wanted.before, &self.collection.scope_values) {
            (LastScopes::Given { scopes, .. }, _) => Ok(Some(scopes.clone())),
            (LastScopes::Owners { .. }, Some(expression)) => {
                let before = subxact::run(|| scope::values_during(0, self.collection, expression, delta));
                Ok(policy::or_unknown(before)?.map(Some))
            }
            _ => Ok(Some(self.wanted.scopes.clone())),
        }
    }

    /// Those of any sight: these of the first, those between and those of now; a client may have pushed into each of them. And those of all
    /// but now. None when that cannot be told; no scopes where it would take too long, so that all entries are read.
    fn all_scopes(&self, before: Option<&[String]>, delta: &mut Delta) -> Result<Option<Option<SightScopes>>> {
        let Some((before, now)) = before.zip(self.scopes()) else { return Ok(Some(None)) };
        let mut all: BTreeSet<String> = before.iter().chain(now).cloned().gather();
        let mut steady: BTreeSet<String> = before.iter().cloned().gather();
        let moves = self.wanted.before.moves() && delta.sights_before() > 1;
        if let Some(expression) = self.collection.scope_values.as_ref().filter(|_| moves) {
            if !delta.is_quick(false) {
                return Ok(Some(None));
            }
            if !delta.look_back(1..delta.sights_before())? {
                return Ok(None);
            }
            for sight in 1..delta.sights_before() {
                let values = subxact::run(|| scope::values_during(sight, self.collection, expression, delta));
                let Some(values) = policy::or_unknown(values)? else { return Ok(None) };
                let values: BTreeSet<String> = values.into_iter().gather();
                steady.retain(|scope| values.contains(scope));
                memory::extend(&mut all, values);
            }
        }
        Ok(Some(Some(SightScopes { all: all.into_iter().gather(), steady: steady.into_iter().gather() })))
    }

    /// Which rows of these ids policies show during a sight (None: now, in the scopes of the cursor), as they stand now.
    fn there_during(&self, ids: &[&str], sight: Option<usize>, moved: &Moved) -> Result<HashSet<String>> {
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        let _scratch = pg::Scratch::new(c"snapsync sight");
        let scopes = if sight.is_none_or(|sight| sight == 0) { moved.scopes } else { moved.all_scopes };
        let keys = Keys::of(self.collection, ids)?;
        let mut args = Vec::new();
        let conditions = self.conditions(scopes, &mut args, false);
        let conditions: String = conditions.iter().map(|c| format!(" AND ({c}) IS TRUE")).gather();
        let sql = format!("SELECT {} FROM {}{conditions}", self.key_texts(), keys.join());
        let mut there = HashSet::new();
        let statement = self.statement(&[keys.relation()], &sql, &args, &self.hidden())?;
        let mut each = |slot| {
            there.insert(wire_id_of(slot));
            true
        };
        match sight {
            Some(sight) => moved.delta.run(statement, Seen::During(sight), &mut each)?,
            None => statement.each(&mut each)?,
        }
        Ok(there)
    }

    /// The key's columns as texts, in an array.
    fn key_texts(&self) -> String {
        let texts = self.collection.key.iter().map(|k| format!("t.{}::pg_catalog.text", k.ident));
        format!("pg_catalog.array_to_json(ARRAY[{}])", texts.gather::<Vec<_>>().join(", "))
    }

    /// Which sights count, and what may they cost?
    fn compare(&self, delta: &Delta, apart: bool) -> Result<()> {
        let mut args = Vec::new();
        let conditions = self.conditions(self.scopes(), &mut args, false);
        let conditions: String = conditions.iter().map(|c| format!(" AND ({c})")).gather();
        let sql = format!("SELECT 1 FROM {} AS t WHERE true{conditions}", self.collection.from);
        let hidden = self.hidden();
        delta.compare(|| self.statement(&[], &sql, &args, &hidden), apart)
    }

    /// The rows that can have moved between a sight and now.
    fn links(&self, sight: usize, delta: &Delta) -> Result<Option<Vec<Link>>> {
        let sql = format!("SELECT 1 FROM {} AS t", self.collection.from);
        delta.links(sight, Statement::analyze_beside(&[], &sql, &[])?)
    }

    /// The links of each sight, for statements; and behind them those of all.
    fn linked(&self, links: Vec<Option<Vec<Link>>>) -> Result<Vec<Option<Vec<Linked>>>> {
        let columns = catalog::columns(self.collection.relation)?;
        let of_sight = |links: &[Link]| -> Result<Option<Vec<Linked>>> {
            let mut linked = Vec::new();
            for (i, link) in links.iter().enumerate() {
                let Some(column) = columns.iter().find(|c| c.attnum == link.attnum) else { return Ok(None) };
                let name = spi::c_string(&format!("snapsync_moved_{i}"))?;
                let values = TextStore::of(column.facts.base, &link.values)?;
                linked.push(Linked { attnum: link.attnum, column: column.ident.clone(), name, values });
            }
            Ok(Some(linked))
        };
        let mut any: Option<BTreeMap<i16, BTreeSet<&String>>> = Some(BTreeMap::new());
        for links in &links {
            any = any.zip(links.as_ref()).map(|(mut any, links)| {
                links.iter().for_each(|link| memory::extend(any.entry(link.attnum).or_default(), &link.values));
                any
            });
        }
        let any = any.map(|any| {
            let link = |(attnum, values): (i16, BTreeSet<&String>)| Link {
                attnum,
                values: values.into_iter().cloned().gather(),
            };
            any.into_iter().map(link).gather::<Vec<_>>()
        });
        let each = links.iter().chain([&any]).map(|links| links.as_ref().map_or(Ok(None), |links| of_sight(links)));
        each.gather::<Result<Vec<_>>>()
    }

    /// A statement that reads the rows without entries of their own, in this part of the scopes; with the number of a link of a sight only
    /// those of it, and of none before it.
    fn without_own<'s>(
        &self,
        select: &str,
        part: &ScopePart,
        (sight, link): (usize, Option<usize>),
        moved: &Moved,
        args: &'s mut Vec<spi::Arg>,
    ) -> Result<Statement<'s>> {
        let own = &moved.own;
        let mut conditions = self.conditions(part.only.as_deref(), args, false);
        if let (Some(scope), Some(but)) = (&self.collection.scope, &part.but) {
            args.push(spi::arg(but.clone()));
            conditions.push(format!("({}) IS NOT TRUE", policy::in_scopes("t", scope, args.len())));
        }
        if let Some(keys) = &self.wanted.keys {
            conditions.push(keys::in_keys(self.collection, &keys.stayed, args));
        }
        let (mut beside, mut hidden): (Vec<NamedRelation>, Vec<i16>) = (Vec::new(), self.hidden());
        let links = moved.links.get(sight).into_iter().flatten().flatten();
        for (i, linked) in links.enumerate().filter(|(i, _)| link.is_some_and(|link| *i <= link)) {
            beside.push(linked.values.relation(&linked.name));
            // It chooses none but those that policies let in or out.
            memory::extend(
                &mut hidden,
                Some(linked.attnum).filter(|attnum| !pg::may_select(self.collection.relation, *attnum)),
            );
            let (column, name) = (&linked.column, linked.name.to_string_lossy());
            let is_of_it = format!("t.{column} OPERATOR(pg_catalog.=) ANY (SELECT r.v FROM {name} AS r)");
            if link != Some(i) {
                conditions.push(format!("({is_of_it}) IS NOT TRUE"));
                continue;
            }
            // By the first the planner can begin with an index; the second is asked of each row before the policies (`Delta::change`).
            conditions.push(format!("t.{column} OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT r.v FROM {name} AS r))"));
            memory::extend(&mut conditions, linked.values.fit_into_hash_table().then_some(is_of_it));
        }
        if own.count() > 0 {
            beside.push(own.relation());
            conditions.push(own.without());
        }
        let condition =
            if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        let sql = format!("SELECT {select} FROM {} AS t{condition}", self.collection.from);
        self.statement(&beside, &sql, args, &hidden)
    }
}

/// The wire id of a row of `key_texts`.
fn wire_id_of(slot: *mut pg_sys::TupleTableSlot) -> String {
    // SAFETY: the executor's slot, of one column.
    let json = unsafe { statement::first_as_text(slot) }.unwrap_or_default();
    let texts: Vec<String> = serde_json::from_str(&json).unwrap_or_default();
    let parts: Vec<&str> = texts.iter().map(String::as_str).gather();
    wire_id::encode(&parts).into_owned()
}

impl Past<'_> {
    /// For each image: could the caller see the row while it was so? None when that cannot be told.
    pub(super) fn saw(&self, pull: &CollectionPull, images: &[Image], of: &[ImageOf]) -> Result<Option<Vec<Saw>>> {
        match self {
            Past::Steady(judge) => {
                let seen = policy::synced(pull.collection, images, pull.scopes(), |asked| judge.of(asked))?;
                Ok(seen.map(|seen| seen.into_iter().map(|seen| if seen { Saw::AtCursor } else { Saw::No }).gather()))
            }
            Past::Moved(moved) => moved.saw(pull, images, of),
        }
    }

    /// What no image says of these rows, of which there are no more entries.
    pub(super) fn settle(&self, pull: &CollectionPull, rows: &mut [Changed]) -> Result<()> {
        match self {
            Past::Steady(_) => Ok(()),
            Past::Moved(moved) => moved.settle(pull, rows),
        }
    }
}

impl Moved<'_> {
    fn saw(&self, pull: &CollectionPull, images: &[Image], of: &[ImageOf]) -> Result<Option<Vec<Saw>>> {
        let mut saw = memory::filled(Saw::No, images.len());
        let sights = |of: &ImageOf| self.delta.sights(of.from, Some(of.until));
        let last = of.iter().map(|of| sights(of).end).max().unwrap_or(0);
        // A row that goes from one scope to another has an entry in each; only the running transaction has seen its own states.
        let own = journal::own_stamp();
        let is_state = |of: &ImageOf| of.from != Some(of.until) || own == Some(of.until);
        let is_now = |of: &ImageOf| is_state(of) && self.delta.is_now(of.until);
        for sight in 0..=last {
            let now = sight == last;
            let counts = |of: &ImageOf| self.delta.counts_among(sight, &sights(of));
            let asked = |of: &ImageOf| if now { is_now(of) } else { counts(of) };
            let asked: Vec<usize> = (0..images.len()).filter(|&i| saw[i] == Saw::No && asked(&of[i])).gather();
            if asked.is_empty() {
                continue;
            }
            let shown: Vec<Image> = asked.iter().map(|&i| images[i].clone()).gather();
            let scopes = if sight == 0 && !now { self.scopes } else { self.all_scopes };
            let seen = if now {
                let Some(judge) = self.now else { return Ok(None) };
                policy::synced(pull.collection, &shown, scopes, |asked| judge.of(asked))?
            } else {
                self.delta.visible(sight, &shown, scopes)?
            };
            let Some(seen) = seen else { return Ok(None) };
            let when = if sight == 0 && !now { Saw::AtCursor } else { Saw::Since };
            asked.into_iter().zip(seen).filter(|(_, seen)| *seen).for_each(|(i, _)| saw[i] = when);
        }
        Ok(Some(saw))
    }

    fn settle(&self, pull: &CollectionPull, rows: &mut [Changed]) -> Result<()> {
        // Nothing that policies read of these has changed: as they are they were at the cursor and ever since.
        let same = |row: &Changed| !row.has_images && !row.inserted;
        let all = 0..self.delta.sights_before();
        for sight in all.clone().filter(|sight| self.delta.counts_among(*sight, &all)) {
            let ids: Vec<&str> =
                rows.iter().filter(|row| same(row) && (sight == 0 || !row.seen)).map(|row| &*row.id).gather();
            let there = pull.there_during(&ids, Some(sight), self)?;
            for row in rows.iter_mut().filter(|row| same(row)) {
                if sight == 0 {
                    row.first_seen = Some(there.contains(&row.id));
                }
                row.seen |= there.contains(&row.id);
            }
        }
        // Others may be the client's own: it knows them if they could be seen when they came to be as they are.
        // So it does others' that came when it had deleted its own, which it must hear of then.
        let known = |row: &Changed| row.deleted || row.seen && row.life != Life::Others;
        let sights = |row: &Changed| match known(row) {
            true => 0..0,
            false => row.since.map_or(0..0, |since| self.delta.sights(Some(since), None)),
        };
        let last = rows.iter().map(|row| sights(row).end).max().unwrap_or(0);
        for sight in 0..last {
            let counts = |row: &Changed| self.delta.counts_among(sight, &sights(row));
            let ids: Vec<&str> = rows.iter().filter(|row| counts(row)).map(|row| &*row.id).gather();
            let there = pull.there_during(&ids, Some(sight), self)?;
            rows.iter_mut().filter(|row| there.contains(&row.id)).for_each(|row| {
                row.seen = true;
                row.life = row.life.others_seen();
            });
        }
        // What the client asked for until now it may have pushed since the cursor. Who sees the row may be told its id.
        if pull.wanted.before.differs() {
            let ids: Vec<&str> = rows.iter().filter(|row| !row.seen && !row.deleted).map(|row| &*row.id).gather();
            let there = pull.there_during(&ids, None, self)?;
            rows.iter_mut().filter(|row| there.contains(&row.id)).for_each(|row| row.seen = true);
        }
        Ok(())
    }

    /// Of the first scopes the part in the second, too, and the one in the first alone.
    fn parts_of(first: Option<&[String]>, second: Option<&[String]>) -> (ScopePart, ScopePart) {
        match (first, second) {
            (Some(first), Some(second)) => {
                let second: HashSet<&String> = second.iter().gather();
                let (both, only) = first.iter().cloned().gather_parts(|scope| second.contains(scope));
                (ScopePart::of(Some(both)), ScopePart::of(Some(only)))
            }
            (None, Some(second)) => (
                ScopePart::of(Some(second.iter().cloned().gather())),
                ScopePart { only: None, but: Some(second.iter().cloned().gather()) },
            ),
            (first, None) => (ScopePart::of(first.map(<[String]>::to_vec)), ScopePart::of(Some(Vec::new()))),
        }
    }

    /// The parts that rows which can have moved since a sight are read in: link by link, or all at once.
    fn parts(&self, sight: usize) -> impl Iterator<Item = (usize, Option<usize>)> {
        let links = self.links.get(sight).and_then(Option::as_ref);
        let (links, all) = links.map_or((0, Some(None)), |links| (links.len(), None));
        (0..links).map(Some).chain(all).map(move |link| (sight, link))
    }

    /// Is there more than the cursor's sight and that of now?
    pub(super) fn has_several(&self) -> bool {
        self.delta.sights_before() > 1
    }

    /// The rows that came into view, since the cursor or later: a client may have been told meanwhile that they went.
    pub(super) fn read_gained(
        &self,
        pull: &CollectionPull,
        select: &str,
        spec: &RowSpec,
        sink: &mut dyn RowSink,
    ) -> Result<()> {
        let (both, only) = Self::parts_of(pull.scopes(), self.steady_scopes);
        let any = self.delta.sights_before();
        let mut write = |part: &ScopePart, link: (usize, Option<usize>), seen: Option<Seen>| -> Result<()> {
            let _scratch = pg::Scratch::new(c"snapsync gained rows");
            let mut args = Vec::new();
            let statement = pull.without_own(select, part, link, self, &mut args)?;
            let mut writer = json::RowWriter::new(spec, &mut *sink);
            // SAFETY: the one query below.
            let mut each = |slot| unsafe { writer.row(slot) };
            match seen {
                Some(seen) => self.delta.run(statement, seen, &mut each),
                None => statement.each(&mut each),
            }
        };
        if self.access_moved && !both.is_empty() && (0..any).any(|sight| self.delta.may_gain(sight)) {
            self.parts(any).try_for_each(|link| write(&both, link, Some(Seen::OnlyNow)))?;
        }
        if !only.is_empty() {
            write(&only, (any, None), None)?;
        }
        Ok(())
    }

    /// The ids of the rows that went out of view, each once: what was seen at the cursor or since.
    pub(super) fn read_lost(&self, pull: &CollectionPull, gone: &mut dyn FnMut(&str)) -> Result<()> {
        let select = pull.key_texts();
        let several = self.delta.sights_before() > 1;
        let mut named = HashSet::new();
        let mut write = |part: &ScopePart, link: (usize, Option<usize>), seen: Seen| -> Result<()> {
            let _scratch = pg::Scratch::new(c"snapsync lost rows");
            let mut args = Vec::new();
            let statement = pull.without_own(&select, part, link, self, &mut args)?;
            self.delta.run(statement, seen, &mut |slot| {
                let id = wire_id_of(slot);
                if !several || !named.contains(&id) {
                    gone(&id);
                    memory::extend(&mut named, several.then_some(id));
                }
                true
            })
        };
        let all = 0..self.delta.sights_before();
        for sight in all.clone() {
            let scopes = if sight == 0 { self.scopes } else { self.all_scopes };
            let (both, only) = Self::parts_of(scopes, pull.scopes());
            if self.access_moved && !both.is_empty() && self.delta.may_lose(sight) {
                self.parts(sight).try_for_each(|link| write(&both, link, Seen::OnlyDuring(sight)))?;
            }
            if !only.is_empty() && self.delta.counts_among(sight, &all) {
                write(&only, (sight, None), Seen::During(sight))?;
            }
        }
        // A client that did not keep the cursor has what came into view since by the scopes that it asked for until now, too.
        let (_, only) = Self::parts_of(self.all_scopes, pull.scopes());
        if self.access_moved && !only.is_empty() && all.clone().any(|sight| self.delta.may_gain(sight)) {
            self.parts(all.end).try_for_each(|link| write(&only, link, Seen::OnlyNow))?;
        }
        Ok(())
    }
}
