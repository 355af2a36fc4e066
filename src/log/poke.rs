//! Pokes: who listens is told that a collection changed, in which scope and how, when the transaction commits. What changed a pull says.
//!
//! What a flush of the journal writes is noted here, by table and scope, and taken back with the savepoint that it is in. The transaction's
//! last flush is followed by the pokes: the server itself holds notifications until the commit. A prepared transaction sends none, because
//! PREPARE refuses whoever has notified; the log has its changes all the same.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::CStr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pgrx::pg_sys;
use serde::Deserialize;

use crate::log::change::Op;
use crate::server::error::Result;
use crate::server::memory;
use crate::server::session::{Cached, Event};
use crate::server::{pg, signal, spi};
use crate::values::notify::{payload, scope_hash, Actions, Notify};

pub mod realtime;

/// The channel that all pokes of a database come by.
const CHANNEL: &CStr = c"snapsync";

/// So many scopes of a collection are named; a transaction that touches more pokes once for all.
const SCOPES: usize = 64;

/// A scope whose value is longer is not told from others.
const LONGEST_SCOPE: usize = 255;

/// A collection that is to be poked.
#[derive(Deserialize, Debug)]
struct PokeTarget {
    name: String,
    relation: u32,
    notify: Notify,
    /// The rows that changed are its own; otherwise its policies read them.
    own: bool,
    parent: bool,
}

const TARGETS: &str = include_str!("poke/targets.sql");

thread_local! {
    static KNOWN: Cached<HashMap<u32, Rc<Vec<PokeTarget>>>> = Cached::until(Event::Definition);
    /// When it was last asked whether the queue of notifications is nearly full, and what was found.
    static QUEUE: Cell<Option<(Instant, bool)>> = const { Cell::new(None) };
    static TOUCHED: RefCell<Vec<Touched>> = const { RefCell::new(Vec::new()) };
    /// How many notes the last merge has left.
    static AFTER_MERGE: Cell<usize> = const { Cell::new(0) };
}

/// The collections that changes of this table are a reason to poke.
fn targets(relation: u32) -> Result<Rc<Vec<PokeTarget>>> {
    let then = KNOWN.with(Cached::now);
    if let Some(known) = KNOWN.with(|k| k.look(|all| all.get(&relation).cloned())) {
        return Ok(known);
    }
    let rows = spi::query_now(TARGETS, &[spi::arg(pg_sys::Oid::from(relation))])?;
    let targets = Rc::new(spi::typed(&rows)?);
    KNOWN.with(|k| k.remember(then, |all| _ = all.insert(relation, Rc::clone(&targets))));
    Ok(targets)
}

/// What a transaction did to the rows of a table in one scope, or in any.
#[derive(Clone, Default)]
struct Touched {
    relation: u32,
    scope: Option<String>,
    actions: Actions,
    /// Rows changed in what policies read.
    differs: bool,
}

impl Touched {
    fn add(&mut self, other: &Touched) {
        self.actions.add(other.actions);
        self.differs |= other.differs;
    }
}

/// Which of these tables' changes are to be noted.
pub fn watched(relations: impl IntoIterator<Item = u32>) -> Result<BTreeSet<u32>> {
    let mut watched = BTreeSet::new();
    for relation in relations {
        if !targets(relation)?.is_empty() {
            watched.insert(relation);
        }
    }
    Ok(watched)
}

/// What is written of a key.
pub struct WrittenKey<'a> {
    pub relation: pg_sys::Oid,
    pub op: Op,
    pub scope: Option<&'a str>,
    /// It has old values of what policies read.
    pub has_image: bool,
}

/// Notes what is written of these tables. What is noted from `from` on stays or vanishes together.
pub fn note<'a>(watched: &BTreeSet<u32>, from: usize, written: impl Iterator<Item = WrittenKey<'a>>) {
    if watched.is_empty() {
        return;
    }
    let mut found: HashMap<(u32, Option<&str>), Touched> = HashMap::new();
    let mut scopes: HashMap<u32, usize> = HashMap::new();
    for WrittenKey { relation, op, scope, has_image } in written {
        memory::heed();
        let relation = relation.to_u32();
        if !watched.contains(&relation) {
            continue;
        }
        let actions = match op {
            Op::Insert => Actions::INSERT,
            Op::Update => Actions::UPDATE,
            Op::Delete => Actions::DELETE,
            Op::Reset => Actions::ANY,
        };
        let differs = op == Op::Reset || op == Op::Update && has_image;
        let mut scope = scope.filter(|scope| scope.len() <= LONGEST_SCOPE);
        if scope.is_some() && !found.contains_key(&(relation, scope)) {
            let scopes = scopes.entry(relation).or_default();
            *scopes += 1;
            if *scopes > SCOPES {
                scope = None;
            }
        }
        let touched = Touched { relation, scope: None, actions, differs };
        found.entry((relation, scope)).or_default().add(&touched);
    }
    let is_many = |relation: u32| scopes.get(&relation).is_some_and(|scopes| *scopes > SCOPES);
    TOUCHED.with(|all| {
        let all = &mut *all.borrow_mut();
        let found = found.into_iter().map(|((relation, scope), touched)| {
            let scope = scope.filter(|_| !is_many(relation)).map(str::to_string);
            Touched { relation, scope, ..touched }
        });
        memory::extend(all, found);
    });
    merge(from, MERGED);
}

/// From so many notes on that vanish together they are merged, and then when they have doubled.
const MERGED: usize = 256;

/// Merges the notes from this one on, if there are so many: a transaction that flushes often has the same ones over and over.
pub fn merge(from: usize, least: usize) {
    TOUCHED.with(|all| {
        let all = &mut *all.borrow_mut();
        let notes = all.len().saturating_sub(from);
        if notes < least.max(2 * AFTER_MERGE.get()) {
            return;
        }
        let mut merged: BTreeMap<(u32, Option<String>), Touched> = BTreeMap::new();
        for touched in all.drain(from..) {
            memory::heed();
            merged.entry((touched.relation, touched.scope.clone())).or_default().add(&touched);
        }
        let mut scopes: HashMap<u32, usize> = HashMap::new();
        for (relation, scope) in merged.keys() {
            *scopes.entry(*relation).or_default() += usize::from(scope.is_some());
        }
        // One for all scopes, where they are many.
        let mut left: BTreeMap<(u32, Option<String>), Touched> = BTreeMap::new();
        for ((relation, scope), touched) in merged {
            memory::heed();
            let scope = scope.filter(|_| scopes[&relation] <= SCOPES);
            left.entry((relation, scope)).or_default().add(&touched);
        }
        AFTER_MERGE.set(left.len());
        memory::extend(
            all,
            left.into_iter().map(|((relation, scope), touched)| Touched { relation, scope, ..touched }),
        );
    });
}

/// How much is noted, for a savepoint to go back to.
pub fn mark() -> usize {
    TOUCHED.with(|all| all.try_borrow().map_or(0, |all| all.len()))
}

pub fn back_to(mark: usize) {
    AFTER_MERGE.set(0);
    TOUCHED.with(|all| {
        if let Ok(mut all) = all.try_borrow_mut() {
            all.truncate(mark);
        }
    });
}

/// The pokes of one collection.
struct Pokes {
    relation: u32,
    notify: Notify,
    scopes: BTreeMap<Option<String>, Actions>,
}

impl Pokes {
    fn add(&mut self, scope: Option<String>, actions: Actions) {
        if !actions.is_empty() {
            self.scopes.entry(scope).or_default().add(actions);
        }
    }

    /// One for all scopes, where they are many.
    fn bounded(self) -> Self {
        if self.scopes.keys().flatten().count() <= SCOPES {
            return self;
        }
        let mut all = Actions::default();
        self.scopes.values().for_each(|actions| all.add(*actions));
        Pokes { scopes: BTreeMap::from([(None, all)]), ..self }
    }
}

/// The transaction that has this stamp is about to commit: pokes whom what is noted concerns.
pub fn send(stamp: i64) -> Result<()> {
    let touched = TOUCHED.with(|all| std::mem::take(&mut *all.borrow_mut()));
    let mut pokes: BTreeMap<String, Pokes> = BTreeMap::new();
    for touched in touched {
        memory::heed();
        for target in targets(touched.relation)?.iter() {
            let (relation, notify) = (target.relation, target.notify);
            let new = || Pokes { relation, notify, scopes: BTreeMap::new() };
            let pokes = pokes.entry(target.name.clone()).or_insert_with(new);
            if target.own {
                pokes.add(touched.scope.clone(), touched.actions);
            } else if touched.differs || !target.parent && touched.actions.has(COMES_OR_GOES) {
                pokes.add(None, Actions::ACCESS);
            }
        }
    }
    let mut broadcasting = Duration::ZERO;
    for (name, pokes) in pokes {
        let Pokes { relation, notify, scopes } = pokes.bounded();
        if notify.by_channel() {
            for (scope, actions) in &scopes {
                let scope = scope.as_deref().map(|scope| hash(&name, scope));
                channel(&payload(&name, *actions, stamp, scope.as_deref()))?;
            }
        }
        if notify.by_realtime() {
            let begun = Instant::now();
            realtime::send(relation.into(), &name, stamp, &scopes, realtime::LONGEST.saturating_sub(broadcasting))?;
            broadcasting += begun.elapsed();
        }
    }
    Ok(())
}

/// Changes that move who sees what, if they are of a grant. (With a new parent nothing hangs on it yet.)
const COMES_OR_GOES: Actions = Actions::INSERT_OR_DELETE;

/// A scope's name in pokes.
pub fn hash(collection: &str, scope: &str) -> String {
    scope_hash(&pg::secret(), pg::database().0.to_u32(), collection, scope)
}

/// A write must not fail because somebody listens and does not read: where the queue is nearly full nobody is poked.
fn channel(payload: &str) -> Result<()> {
    if queue_is_full() {
        return Ok(());
    }
    signal::notify(CHANNEL, &spi::c_string(payload)?);
    Ok(())
}

const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(1);
const NEARLY_FULL: f64 = 0.9;

fn queue_is_full() -> bool {
    if let Some((_, full)) = QUEUE.get().filter(|(at, _)| at.elapsed() < ASKED_AGAIN_AFTER) {
        return full;
    }
    let full = signal::notification_queue_usage() > NEARLY_FULL;
    if full {
        pgrx::warning!("the queue of notifications is nearly full: nobody is notified of changes");
    }
    QUEUE.set(Some((Instant::now(), full)));
    full
}
