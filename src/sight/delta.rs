//! A user's access to a collection that moved because rows of other tables did: what he could see before, between and now.
//!
//! Between two changes that concern him the tables that the policies read say the same. So from the cursor on he had one sight after the
//! other, each told by these tables as they were before the change that ended it (`policy/former.rs`).

use std::cell::{Cell, OnceCell};
use std::collections::btree_map::{BTreeMap, Entry};
use std::ops::Range;
use std::rc::Rc;

use pgrx::pg_sys::{self, NodeTag};

use crate::collections::catalog::Collection;
use crate::log::change::Image;
use crate::log::read::Entries;
use crate::policies::access::tree::and_parts;
use crate::server::error::{code, Result, SyncError};
use crate::server::heap;
use crate::server::memory::Gather;
use crate::server::node::list;
use crate::server::receiver::Each;
use crate::server::spi::pointers;
use crate::server::statement::Statement;
use crate::sight::policy::{self, Former, Judge};

mod grows;
mod links;
mod steps;

use links::Costs;
pub use links::Link;
use steps::Steps;

/// So many sights are told apart.
pub(super) const SIGHTS: usize = 64;

/// So many where each takes long: the changes do not fit into memory, say.
const LONG_SIGHTS: usize = 4;

/// Of tables in all sights' policies: so many are planned soon (each takes a quarter of a millisecond), and more than so many never.
const LIGHT: f64 = 400.0;
const HEAVY: f64 = 8_000.0;

/// To send so many rows anew takes as long as to plan for one of these tables.
const ROWS_A_TABLE: f64 = 100.0;

/// Where several sights are asked, what all of them are asked may cost so many times what reading all rows anew does, as the planner sees it; or so
/// much (some 0.2 s).
const TIMES: f64 = 8.0;
const LITTLE: f64 = 30_000.0;

/// What policies ask, as of now and of a sight, is asked so often for each: for its links, and for what came and went.
const ASKED: f64 = 2.0;

/// The tables that decide, with their entries since the cursor.
pub type Tables = [(Rc<Collection>, Rc<Entries>)];

pub struct Delta<'a> {
    collection: &'a Rc<Collection>,
    tables: &'a Tables,
    cursor: i64,
    /// Of the changes that ended a sight, in order. Each sight is known by its number in here; the one after the last is that of now.
    ends: Vec<i64>,
    /// Those that were looked back to; None where that cannot be told.
    sights: BTreeMap<usize, Option<Former<'a>>>,
    judge: Judge,
    /// Once they were compared; none where each of them counts.
    steps: OnceCell<Steps>,
    /// Once they were compared.
    anew: Cell<Option<Anew>>,
}

/// What reading all rows anew costs, as the planner sees it.
#[derive(Clone, Copy)]
struct Anew {
    all: f64,
    /// Without what policies ask.
    scan: f64,
}

impl<'a> Delta<'a> {
    /// None where old rows of the collection cannot be judged.
    pub fn of(collection: &'a Rc<Collection>, tables: &'a Tables, cursor: i64, ends: Vec<i64>) -> Option<Delta<'a>> {
        let judge = Judge::by_policies(collection, Vec::new())?;
        let (sights, steps, anew) = (BTreeMap::new(), OnceCell::new(), Cell::new(None));
        Some(Delta { collection, tables, cursor, ends, sights, judge, steps, anew })
    }

    /// Finds out which sights count, and what it costs to read all rows anew, which is what the statement does. It is not run. `apart`: the
    /// first sight is asked about in other scopes than those after it.
    pub fn compare<'s>(&self, anew: impl Fn() -> Result<Statement<'s>>, apart: bool) -> Result<()> {
        let (steps, changed) = Steps::of(&self.ends, self.tables, apart)?;
        let mut grows = false;
        let all = anew()?.cost(|tree| {
            // SAFETY: a rewritten tree of our own, which is only read.
            grows = unsafe { grows::grows((*self.entry(tree)?.1).securityQuals.cast(), &changed) };
            Ok(())
        })?;
        let scan = anew()?.cost(|tree| {
            // SAFETY: another one. (Without any condition of policies the planner would put operators of whoever made them to values in its statistics.)
            unsafe {
                let anything = [pg_sys::makeBoolConst(true, false)];
                (*self.entry(tree)?.1).securityQuals = list(&anything);
            }
            Ok(())
        })?;
        self.anew.set(Some(Anew { all, scan }));
        if grows {
            _ = self.steps.set(steps);
        }
        Ok(())
    }

    /// Must rows be looked for that this sight showed, and now does not?
    pub fn may_lose(&self, sight: usize) -> bool {
        self.steps.get().is_none_or(|steps| steps.is_large(sight, &(0..self.ends.len()), true))
    }

    /// Must rows be looked for that now shows, and this sight did not?
    pub fn may_gain(&self, sight: usize) -> bool {
        self.steps.get().is_none_or(|steps| steps.is_small(sight))
    }

    /// Must this sight be asked to know what any of these showed? (The first one always: that is what the client knows.)
    pub fn counts_among(&self, sight: usize, among: &Range<usize>) -> bool {
        let is_large = || self.steps.get().is_none_or(|steps| steps.is_large(sight, among, false));
        among.contains(&sight) && (sight == 0 || is_large())
    }

    /// So many sights are asked what moved.
    fn counting(&self) -> usize {
        (0..self.ends.len()).filter(|&sight| self.may_lose(sight) || self.may_gain(sight)).count()
    }

    /// Are they so few that each may take long?
    pub fn are_few(&self) -> bool {
        self.counting() <= LONG_SIGHTS
    }

    /// An error where to ask all sights what this one is asked costs more than to take the collection anew. (For EXISTS the planner tells what it takes to ask each
    /// row, also where it asks once. What policies ask is part of what a reading takes, and then no more than once.) One sight is asked whatever it costs.
    fn afford(&self, costs: &Costs) -> Result<()> {
        let (Some(anew), sights @ 2..) = (self.anew.get(), self.counting()) else { return Ok(()) };
        let anew = anew.all.min(anew.scan + costs.now);
        match (costs.before + costs.now) * ASKED * sights as f64 > (anew * TIMES).max(LITTLE) {
            true => Err(SyncError::new(code::PROGRAM_LIMIT, "access changed too often to be asked about each time")),
            false => Ok(()),
        }
    }

    /// The sights before now, by number, that a state fell into which came to be with the stamp `from` (None: before the cursor) and
    /// ended with the stamp `until` (None: it lasts).
    pub fn sights(&self, from: Option<i64>, until: Option<i64>) -> Range<usize> {
        sights(&self.ends, from, until)
    }

    /// Did a state that ended with the stamp `until` fall into the sight of now?
    pub fn is_now(&self, until: i64) -> bool {
        self.ends.last().is_none_or(|end| *end < until)
    }

    /// Finds out what was so during these sights. Each takes as long as what has changed since the cursor. False where one cannot be told.
    pub fn look_back(&mut self, sights: impl IntoIterator<Item = usize>) -> Result<bool> {
        let mut told = true;
        for sight in sights.into_iter().filter(|sight| *sight < self.ends.len().min(SIGHTS)) {
            let before = if sight == 0 { self.cursor } else { self.ends[sight - 1] + 1 };
            let former = match self.sights.entry(sight) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(none) => none.insert(Former::before(before, self.tables)?),
            };
            told &= former.is_some();
        }
        Ok(told)
    }

    /// The tables as they were during a sight that was looked back to.
    pub(in crate::sight) fn former(&self, sight: usize) -> Result<&Former<'a>> {
        let known = self.sights.get(&sight).and_then(Option::as_ref);
        known.ok_or_else(|| SyncError::new(code::PROGRAM_LIMIT, "access changed too often to be told apart"))
    }

    /// For each image: could the caller see it during this sight? In these scopes, not soft-deleted. None where that cannot be told.
    pub fn visible(&self, sight: usize, images: &[Image], scopes: Option<&[String]>) -> Result<Option<Vec<bool>>> {
        let former = self.former(sight)?;
        policy::synced(self.collection, images, scopes, |asked| self.judge.of_before(asked, former))
    }

    /// Finds out which rows can have moved between a sight and now: those with such links, or any (None). The statement reads the
    /// collection; it is not run.
    pub fn links(&self, sight: usize, statement: Statement) -> Result<Option<Vec<Link>>> {
        let former = self.former(sight)?;
        let mut links = None;
        let look = |tree: *mut pg_sys::Query, environment| {
            former.register(environment);
            // SAFETY: a rewritten tree of our own.
            unsafe {
                let (number, entry) = self.entry(tree)?;
                self.weigh(sight, (*entry).securityQuals.cast())?;
                let mut all = Costs { before: 0.0, now: 0.0 };
                links = links::of((*entry).securityQuals, number, former, environment, &mut |one| {
                    (all.before, all.now) = (all.before + one.before, all.now + one.now);
                    self.afford(&all)
                })?;
                (*(*tree).jointree).quals = pg_sys::makeBoolConst(false, false);
            }
            Ok(())
        };
        statement.each_changed(look, &mut |_| true)?;
        Ok(links)
    }

    /// An error where to ask this of each sight takes longer than to take the collection anew. Policies that chain through many tables are planned
    /// with two copies of what each of them asks, at each level, and that is most of what a sight takes then. (Of the first sight: since then most
    /// tables have changed.)
    ///
    /// # Safety
    /// A part of a rewritten tree, which is only read.
    unsafe fn weigh(&self, sight: usize, part: *mut pg_sys::Node) -> Result<()> {
        if sight > 0 {
            return Ok(());
        }
        let former = self.former(sight)?;
        // SAFETY: see above; the collection's table is locked.
        let (weight, rows) = unsafe { (former.weight(part), heap::rows_then(self.collection.relation)) };
        let sights = self.counting().min(SIGHTS) as f64;
        match weight * sights > (rows / ROWS_A_TABLE).clamp(LIGHT, HEAVY) {
            true => Err(SyncError::new(
                code::PROGRAM_LIMIT,
                "access changed too often for policies that read so many tables",
            )),
            false => Ok(()),
        }
    }

    /// The collection's entry in a statement of ours, and its number.
    ///
    /// # Safety
    /// A tree.
    unsafe fn entry(&self, tree: *mut pg_sys::Query) -> Result<(i32, *mut pg_sys::RangeTblEntry)> {
        // SAFETY: see above.
        let entries = unsafe { pointers::<pg_sys::RangeTblEntry>((*tree).rtable) };
        let is_collection = |entry: &*mut pg_sys::RangeTblEntry| {
            // SAFETY: as above.
            let entry = unsafe { &**entry };
            entry.rtekind == pg_sys::RTEKind::RTE_RELATION && entry.relid == self.collection.relation
        };
        match entries.iter().position(is_collection) {
            Some(at) => Ok((at as i32 + 1, entries[at])),
            None => Err(SyncError::new(code::INTERNAL, "the statement does not read its collection")),
        }
    }

    /// Runs a statement of ours over the collection, of which each row is seen as `sight` says.
    pub fn run(&self, statement: Statement, seen: Seen, each: Each) -> Result<()> {
        let change = |tree, environment| self.change(tree, environment, seen);
        statement.each_changed(change, each)
    }

    fn change(&self, tree: *mut pg_sys::Query, environment: *mut pg_sys::QueryEnvironment, seen: Seen) -> Result<()> {
        // SAFETY: a rewritten tree of our own. Its entry of the collection has the policies as conditions of its own.
        unsafe {
            let (_, entry) = self.entry(tree)?;
            let (link, without) = (take(tree, |part| is_link(part)), take(tree, |part| is_without(part)));
            let now = (*entry).securityQuals;
            match seen {
                Seen::OnlyNow => {
                    let mut before = std::ptr::null_mut();
                    for sight in (0..self.ends.len()).filter(|sight| self.may_gain(*sight)) {
                        before = pg_sys::list_concat(before, self.during(sight, now, environment)?);
                    }
                    and_not(tree, before);
                    ask_before(entry, without);
                }
                Seen::During(sight) | Seen::OnlyDuring(sight) => {
                    let during = self.during(sight, now, environment)?;
                    // What a row says now that was written since, its user may not have been able to see in any state.
                    (*entry).securityQuals = pg_sys::list_concat(without, during);
                    if matches!(seen, Seen::OnlyDuring(_)) {
                        and_not(tree, now);
                    }
                }
            }
            ask_before(entry, link);
        }
        Ok(())
    }

    /// The policies as they were during a sight.
    ///
    /// # Safety
    /// Those of now, of a rewritten tree.
    unsafe fn during(
        &self,
        sight: usize,
        now: *mut pg_sys::List,
        environment: *mut pg_sys::QueryEnvironment,
    ) -> Result<*mut pg_sys::List> {
        let former = self.former(sight)?;
        former.register(environment);
        // SAFETY: a copy that nobody else refers to.
        unsafe {
            let during = pg_sys::copyObjectImpl(now.cast()).cast::<pg_sys::List>();
            former.put_into(during.cast(), environment)?;
            Ok(during)
        }
    }

    /// How many sights there were before the one of now.
    pub fn sights_before(&self) -> usize {
        self.ends.len()
    }

    /// Can all of them be looked back to, and soon? `long`: each takes long.
    pub fn is_quick(&self, long: bool) -> bool {
        let long = long || self.tables.iter().any(|(_, entries)| entries.are_many());
        self.ends.len() <= if long { LONG_SIGHTS } else { SIGHTS }
    }

    /// When the sight of now began: with the change of this stamp.
    pub fn last_end(&self) -> i64 {
        self.ends.last().copied().unwrap_or(self.cursor - 1)
    }

    /// The values of an owner's expression, as it was during a sight.
    pub fn rows_during(
        &self,
        sight: usize,
        read: impl FnOnce() -> Result<Statement<'static>>,
    ) -> Result<Vec<Option<String>>> {
        let former = self.former(sight)?;
        read()?.run_changed(|tree, environment| {
            former.register(environment);
            // SAFETY: a tree that was made for this.
            unsafe {
                self.weigh(sight, tree.cast())?;
                former.put_into(tree.cast(), environment)
            }
        })
    }
}

/// Sight n ends with the change that has stamp n of these, and the next one begins.
fn sights(ends: &[i64], from: Option<i64>, until: Option<i64>) -> Range<usize> {
    let first = from.map_or(0, |from| ends.partition_point(|end| *end <= from));
    let last = until.map_or(ends.len(), |until| ends.partition_point(|end| *end < until) + 1);
    first..last.clamp(first, ends.len().max(first))
}

/// Which rows a statement reads.
#[derive(Clone, Copy)]
pub enum Seen {
    /// Those that policies showed during a sight, past what they show now: nothing but their keys may leave.
    During(usize),
    /// Those that policies show now and did not during some sight.
    OnlyNow,
    /// Those that they showed during a sight and do not now: nothing but their keys may leave.
    OnlyDuring(usize),
}

/// Is it `NOT EXISTS (...)` or `NOT key = ANY (...)` (`Keys::without`), which rows have no entry of their own?
///
/// # Safety
/// A part of what a rewritten query of ours asks for.
unsafe fn is_without(part: *mut pg_sys::Node) -> bool {
    // SAFETY: see above; nodes with these tags are what they say.
    unsafe {
        let negated = (*part).type_ == NodeTag::T_BoolExpr
            && (*part.cast::<pg_sys::BoolExpr>()).boolop == pg_sys::BoolExprType::NOT_EXPR;
        let asks = |inner: &*mut pg_sys::Node| (**inner).type_ == NodeTag::T_SubLink;
        negated && pointers::<pg_sys::Node>((*part.cast::<pg_sys::BoolExpr>()).args).first().is_some_and(asks)
    }
}

/// Is it `column = ANY (SELECT ... FROM moved values)` (`without_own`)?
///
/// # Safety
/// As above.
unsafe fn is_link(part: *mut pg_sys::Node) -> bool {
    // SAFETY: as above.
    unsafe {
        (*part).type_ == NodeTag::T_SubLink
            && (*part.cast::<pg_sys::SubLink>()).subLinkType == pg_sys::SubLinkType::ANY_SUBLINK
    }
}

/// Takes such parts out of what the query asks for.
///
/// # Safety
/// A rewritten tree of our own.
unsafe fn take(tree: *mut pg_sys::Query, is: impl Fn(*mut pg_sys::Node) -> bool) -> *mut pg_sys::List {
    // SAFETY: see above.
    unsafe {
        let mut parts = Vec::new();
        and_parts((*(*tree).jointree).quals, &mut parts);
        let (taken, left): (Vec<_>, Vec<_>) = parts.into_iter().gather_parts(|part| is(*part));
        if !taken.is_empty() {
            (*(*tree).jointree).quals = pg_sys::make_ands_explicit(list(&left)).cast();
        }
        list(&taken)
    }
}

/// Lets each row be asked this, too, where the first of the policies is asked, of which it takes less time. Else, where the planner reads the whole
/// table, each row would be put to all policies first, as they are and as they were, and hardly one has a value that moved. (In the place of the first: that
/// may be the one with an index.)
///
/// # Safety
/// The entry of a rewritten tree of our own, and conditions over it that nobody else refers to.
unsafe fn ask_before(entry: *mut pg_sys::RangeTblEntry, conditions: *mut pg_sys::List) {
    // SAFETY: see above.
    unsafe {
        let all = (*entry).securityQuals;
        if let (false, Some(first)) = (conditions.is_null(), pointers::<pg_sys::Node>(all).first()) {
            let asked = pg_sys::lappend(conditions, first.cast());
            (*(*all).elements).ptr_value = pg_sys::make_ands_explicit(asked).cast();
        }
    }
}

/// Adds to what the query asks for: not all of these are true.
///
/// # Safety
/// A rewritten tree, and conditions over its entries.
unsafe fn and_not(tree: *mut pg_sys::Query, conditions: *mut pg_sys::List) {
    // SAFETY: nodes of our own.
    unsafe {
        let size = std::mem::size_of::<pg_sys::BooleanTest>();
        let test: *mut pg_sys::BooleanTest = pg_sys::palloc0(size).cast();
        (*test).xpr.type_ = NodeTag::T_BooleanTest;
        (*test).arg = pg_sys::make_ands_explicit(conditions);
        (*test).booltesttype = pg_sys::BoolTestType::IS_NOT_TRUE;
        (*test).location = -1;
        let from = (*tree).jointree;
        (*from).quals = pg_sys::make_and_qual((*from).quals, test.cast());
        (*tree).hasSubLinks |= pg_sys::checkExprHasSubLink(test.cast());
    }
}

#[cfg(test)]
mod tests {
    use super::sights;

    #[test]
    fn a_state_falls_into_the_sights_between_its_beginning_and_its_end() {
        // Access changed with 10, 20 and 30: sight 0 up to 10, 1 up to 20, 2 up to 30, then comes now.
        let ends = [10, 20, 30];
        assert_eq!(sights(&ends, None, Some(4)), 0..1);
        assert_eq!(sights(&ends, None, Some(14)), 0..2);
        assert_eq!(sights(&ends, Some(12), Some(14)), 1..2);
        assert_eq!(sights(&ends, Some(12), None), 1..3);
        assert_eq!(sights(&ends, Some(32), None), 3..3);
        assert_eq!(sights(&ends, Some(32), Some(40)), 3..3);
    }

    #[test]
    fn what_changes_with_access_itself_is_of_one_sight_only() {
        let ends = [10, 20];
        assert_eq!(sights(&ends, None, Some(10)), 0..1, "it ended when the sight did");
        assert_eq!(sights(&ends, Some(10), Some(20)), 1..2);
        assert_eq!(sights(&ends, Some(20), None), 2..2);
        assert_eq!(sights(&[], None, None), 0..0);
    }
}
