//! Who waits for changes, and how a writer wakes him.
//!
//! A session that waits is *present* at some places of the lock table: the tables that it watches, and of one whose scopes it knows the
//! buckets of these (change.rs). A writer that commits looks there, once it has its stamp; and when its commit is visible it wakes whom it
//! found, which is a few stores to shared memory and cannot fail.
//!
//! *Why nobody is missed.* A waiter (1) is present, (2) reads the clock as n, (3) sleeps, unless a transaction may have changed since its
//! last look what that look did not see. Let t be a writer whose change the look did not see. Either t drew its stamp after 2: then it looked
//! for waiters after 1, and wakes this one after its commit. Or stamp(t) <= n: then t was registered at 2, or had committed after the look;
//! of both the clock tells ([`crate::pull::wait`]), and the waiter looks again before it sleeps.
//!
//! A prepared transaction wakes nobody: who finishes it knows nothing of it. Waiters look at the clock once in a while.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use crate::log::change::{bucket, notice_bucket, Salt, NO_BUCKET};
use crate::log::journal::Effect;
use crate::log::salt;
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::server::pg;
use crate::server::signal::{Present, Sleeper, WaitingPlace};
use crate::values::token::seal;

/// `field4` of these advisory locks; the clock has 3 (clock.rs).
const CLASS: u16 = 4;

/// Parts of a table's place: who knows no scopes of his; who does, for what concerns every scope; from then on the buckets.
const ALL: u32 = 0;
const EVERY: u32 = 1;
const BUCKETS: u32 = 2;

/// Everybody is here.
const ANYBODY: WaitingPlace = WaitingPlace { relation: 0, part: 0 };
/// Who watches more than is worth telling apart.
const MUCH: WaitingPlace = WaitingPlace { relation: 0, part: 1 };

/// A waiter is at so many places, besides: they take room in the lock table.
const PLACES: usize = 16;

/// Whoever writes to more buckets of a table wakes all who watch it.
const BUCKETS_WRITTEN: usize = 64;

thread_local! {
    /// What this transaction has written: of each table to which buckets; None: to any.
    static WRITTEN: RefCell<BTreeMap<u32, Option<BTreeSet<i16>>>> = const { RefCell::new(BTreeMap::new()) };
    static SLEEPERS: Cell<Vec<Sleeper>> = const { Cell::new(Vec::new()) };
}

/// What a session watches: tables, and of each the scopes; None: all.
pub type Watched = BTreeMap<u32, Option<BTreeSet<i16>>>;

/// The buckets of these scopes, and of word for this user; None: any, as long as nobody has written of a scope.
pub fn buckets_of(scopes: &[String], who: &str) -> Result<Option<BTreeSet<i16>>> {
    let salts = salt::known(&pg::ActiveSnapshot::latest())?;
    let of = |salt: &Salt| {
        let salt = *salt;
        scopes.iter().map(move |scope| bucket(salt, scope)).chain([notice_bucket(salt, who)])
    };
    Ok((!salts.is_empty()).then(|| salts.iter().flat_map(of).gather()))
}

/// Where somebody waits, until this is dropped.
pub struct Waiting {
    _at: Vec<Present>,
}

impl Waiting {
    pub fn begin(watched: &Watched) -> Waiting {
        let places = |(relation, buckets): (&u32, &Option<BTreeSet<i16>>)| {
            let parts: Vec<u32> = match buckets {
                None => vec![ALL],
                Some(buckets) => std::iter::once(EVERY).chain(buckets.iter().map(|b| part_of(*relation, *b))).gather(),
            };
            let relation = *relation;
            parts.into_iter().map(move |part| WaitingPlace { relation, part })
        };
        let mut at: Vec<WaitingPlace> = watched.iter().flat_map(places).take(PLACES + 1).gather();
        if at.len() > PLACES {
            at = watched
                .keys()
                .map(|relation| WaitingPlace { relation: *relation, part: ALL })
                .take(PLACES + 1)
                .gather();
        }
        if at.len() > PLACES {
            at = vec![MUCH];
        }
        at.push(ANYBODY);
        Waiting { _at: at.into_iter().map(|place| Present::at(place, CLASS)).gather() }
    }
}

/// Everybody can read the lock table: it must not show whose scope somebody waits in. So it is under a key, and who waits for scopes that he
/// names himself is not told from who waits for all (pull/look.rs): he would have the places of any.
fn part_of(relation: u32, bucket: i16) -> u32 {
    let mut bytes = b"snapsync wait".to_vec();
    bytes.extend(pg::database().0.to_u32().to_be_bytes());
    bytes.extend(relation.to_be_bytes());
    bytes.extend(bucket.to_be_bytes());
    let [a, b, c, d, ..] = seal(&bytes, &pg::secret());
    u32::from_be_bytes([a, b, c, d]).max(BUCKETS)
}

fn is_anybody_there() -> bool {
    let mut sleepers = Vec::new();
    ANYBODY.add_sleepers(CLASS, &mut sleepers);
    !sleepers.is_empty()
}

/// A writer has its stamp, and this is what it writes at its end.
pub fn wrote<'a>(written: impl Iterator<Item = Effect<'a>>, salt: Option<Salt>) {
    if is_anybody_there() {
        wrote_early(written, salt);
    }
}

/// This is what it has written before: who is there then, who knows.
pub fn wrote_early<'a>(written: impl Iterator<Item = Effect<'a>>, salt: Option<Salt>) {
    WRITTEN.with(|w| {
        let all = &mut *w.borrow_mut();
        let mut last: Option<(u32, Option<&str>, bool)> = None;
        for effect in written {
            memory::heed();
            let relation = effect.relation.to_u32();
            let this = Some((relation, effect.scope, effect.is_notice()));
            if std::mem::replace(&mut last, this) == this {
                continue;
            }
            let buckets = all.entry(relation).or_insert_with(|| Some(BTreeSet::new()));
            if let Some(some) = buckets {
                some.insert(effect.bucket(salt));
                if some.contains(&NO_BUCKET) || some.len() > BUCKETS_WRITTEN {
                    *buckets = None;
                }
            }
        }
    });
}

#[cfg(feature = "pg_test")]
pub fn written() -> BTreeMap<u32, Option<BTreeSet<i16>>> {
    WRITTEN.with_borrow(BTreeMap::clone)
}

/// It is about to commit, and has its stamp: finds who is to be woken.
pub fn find_sleepers() {
    let written = WRITTEN.with(|w| std::mem::take(&mut *w.borrow_mut()));
    let mut sleepers = Vec::new();
    if written.is_empty() || !is_anybody_there() {
        return;
    }
    let mut look = |relation, part| WaitingPlace { relation, part }.add_sleepers(CLASS, &mut sleepers);
    look(MUCH.relation, MUCH.part);
    for (relation, buckets) in &written {
        memory::heed();
        look(*relation, ALL);
        match buckets {
            None => look(*relation, EVERY),
            Some(buckets) => buckets.iter().for_each(|bucket| look(*relation, part_of(*relation, *bucket))),
        }
    }
    SLEEPERS.set(sleepers);
}

/// Its commit is visible. Cannot fail.
pub fn wake() {
    SLEEPERS.take().iter().for_each(Sleeper::wake);
}

/// The transaction has ended, however.
pub fn forget() {
    drop(SLEEPERS.take());
    WRITTEN.with(|w| {
        if let Ok(mut written) = w.try_borrow_mut() {
            written.clear();
        }
    });
}
