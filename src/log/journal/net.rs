//! What a transaction's log amounts to: one entry per key, however often the row was changed.
//!
//! The changes of a key are not logged in the order in which they happened: a statement inside another one (in a trigger, in a function) logs
//! before the outer one does, which may have changed the row before and may do so after it. Nor do their commands say it: the inner one has the
//! larger number. What is needed of the order is found like this.
//!
//! *What the server grants.* (1) A command changes only versions that commands before it have made (`HeapTupleSatisfiesUpdate`). So along a row's
//! versions the numbers grow. (2) Of one key there is one row at a time. (3) A statement's triggers fire at its end, in the order of its changes. So what is
//! done inside a statement while it changes rows is logged before all that it changes itself. (4) While an inner statement runs, the outer one changes
//! nothing.
//!
//! *The first state.* (5) Of two changes that took a version away (UPDATE, DELETE), the one with the smaller command came first (`first_taken`). Else the larger
//! one came inside the smaller one, before it, and took another version away. The one that the smaller took was made after that (2), by a command with a number still
//! smaller (1), which is outside of both, and so it could not have been made then (4). What was there before the transaction was made before all commands.
//!
//! *The last state.* The changes are gone through as they were logged. Each, b of command m, says where the row is then (`newest`, if it `stands`):
//! - (6) b finds its version standing. Then this is the row (2).
//! - (7) b finds that it has versions after it, and the last one stands. If `newest` so far is of a larger command than m, and nothing that is logged has taken its
//!   row away, then it made one of these versions. (Had it been made before b's version, then inside of m. So had it been taken away, and that were logged, by (3).)
//!   Else none of those after b's is known, and b says where the row is.
//! - (8) b finds the row gone. It is not by b.
//! - (9) b is a DELETE. It took away the row by `newest`, if the version that it took was made by the command of `newest` or a later one. For it happened after
//!   that: had it happened before, then inside of it, and it had been logged before (3). If that version was made by an earlier command, it is none of those from
//!   `newest` on (1).
//!
//! Updates that change nothing which is synced are not logged. They make versions, but the row stays there, and its image and scope stay as they were: none of the
//! above needs them.
//!
//! All of this goes for changes of which all are there. Of a transaction that is written in parts each part is one such, for no statement goes on
//! from one to the next (as far as inside.rs waits for its end), and what comes before and after a savepoint that is written already is not put together. So the parts are one
//! after the other, and readers find first what leads from the row as it was found.
//!
//! *Was there a row?* (10) If a change found one, yes. (11) Also if the first one took a version away that is older than any INSERT's here, for it is of none of
//! these (1). (So it may be in a part that ends inside of a statement: a pull in a trigger has one written.) (12) Else there were as many as at the end, less those
//! inserted, and those deleted besides (`balance`).

use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use foldhash::fast::RandomState;
use pgrx::pg_sys;

use super::{Entry, Journal};
use crate::log::change::{bucket, notice_bucket, New, OldVersion, Op, Salt, When, NOTICE, NO_BUCKET};
use crate::log::poke::WrittenKey;
use crate::server::error::Result;
use crate::server::memory;
use crate::server::memory::Gather;

/// The net effect of a transaction on one key, as nobody outside can see anything in between: the first old state, the last
/// new one.
pub struct Net {
    op: Op,
    first: usize,
    last: usize,
    /// The change that has the first old state.
    image: Option<usize>,
    /// All of it was one client's push (or nobody's).
    one_origin: bool,
    /// The union of the columns touched; None: not known.
    touched: Option<Vec<u8>>,
    /// Nothing happened to the key but what its client sent.
    as_sent: bool,
    /// The transaction made the row, and what it did to it afterwards may stand in a part that is written already. By this entry readers know
    /// that nobody saw the states told there.
    made_before: bool,
    /// Where it was changed more than once.
    course: Option<Box<Course>>,
}

/// What is known of a key while its changes are gone through. Numbers in brackets are those above.
#[derive(Default)]
struct Course {
    /// The first INSERT that was logged.
    first_inserted: Option<usize>,
    /// The smallest command of any (11).
    inserted_by: Option<u32>,
    /// What took the first version away (5).
    first_taken: Option<usize>,
    /// The DELETE of the largest command: what took the last row away.
    last_deleted: Option<usize>,
    /// What made the newest row that is known, and whether that is still there (6-9).
    newest: Option<usize>,
    stands: bool,
    /// So many more were inserted than deleted (12).
    balance: i32,
}

impl Course {
    /// Of one change.
    fn of(at: usize, entries: &[Entry]) -> Course {
        let mut course = Course::default();
        course.add(at, entries);
        course
    }

    /// The next change, as it was logged; see above.
    fn add(&mut self, at: usize, entries: &[Entry]) {
        let entry = &entries[at];
        // It says where the row was; where it is, its changes say.
        if entry.is_touch() {
            return;
        }
        let (when, command) = (entry.when, |at: usize| entries[at].when.command);
        match entry.op {
            Op::Insert => {
                self.first_inserted = self.first_inserted.or(Some(at));
                self.inserted_by = Some(self.inserted_by.map_or(when.command, |known| known.min(when.command)));
                self.balance += 1;
            }
            Op::Update | Op::Delete => {
                // (5)
                let order = |when: When| (when.old != OldVersion::Found, when.command);
                if self.first_taken.is_none_or(|known| order(when) < order(entries[known].when)) {
                    self.first_taken = Some(at);
                }
            }
            Op::Reset => {}
        }
        if entry.op == Op::Delete {
            self.balance -= 1;
            if self.last_deleted.is_none_or(|known| command(known) < when.command) {
                self.last_deleted = Some(at);
            }
            // (9)
            if let (OldVersion::MadeBy(made_by), Some(newest)) = (when.old, self.newest) {
                self.stands &= made_by < command(newest);
            }
            return;
        }
        let is_newest = match when.new {
            // (6)
            New::Stands => true,
            // (7)
            New::Changed => !(self.stands && self.newest.is_some_and(|newest| command(newest) > when.command)),
            // (8)
            New::Gone => false,
        };
        if is_newest {
            (self.newest, self.stands) = (Some(at), true);
        }
    }

    /// What comes of it, and which entries say how the row was found, and how it is left. Of a part of the changes, where others are written
    /// already, too. `only`: what there is where nothing was changed.
    fn end(&self, only: usize, entries: &[Entry]) -> (Op, usize, usize, bool) {
        let found = self.first_taken.is_some_and(|at| entries[at].when.old == OldVersion::Found);
        // (Only where a key may stand twice for a while, as a deferred one, is it there without being known to be.)
        let is_there = self.stands || found && self.balance >= 0 && self.last_deleted.is_some();
        let is_older = |made_by| self.inserted_by.is_none_or(|inserted| made_by < inserted);
        let is_before = |at: usize| matches!(entries[at].when.old, OldVersion::MadeBy(made_by) if is_older(made_by));
        // (10), none was made here, (11), (12)
        let was_there = found
            || self.first_inserted.is_none()
            || self.first_taken.is_some_and(is_before)
            || i32::from(is_there) > self.balance;
        let first = if was_there { self.first_taken } else { self.first_inserted };
        let last = if is_there { self.newest.or(self.first_inserted) } else { self.last_deleted };
        let (first, last) = (first.unwrap_or(only), last.unwrap_or(only));
        let op = match (was_there, is_there || self.last_deleted.is_none()) {
            (true, true) => Op::Update,
            (true, false) => Op::Delete,
            (false, _) => Op::Insert,
        };
        (op, first, last, was_there || is_there || self.balance != 0)
    }
}

impl Net {
    /// Of one entry.
    fn of(at: usize, image: Option<usize>, touched: Option<&[u8]>, as_sent: bool) -> Net {
        let touched = touched.map(<[u8]>::to_vec);
        let (op, course) = (Op::Update, None);
        Net { op, first: at, last: at, image, one_origin: true, touched, as_sent, made_before: false, course }
    }
}

/// Savepoints that are written already.
struct WrittenInside<'a> {
    parts: std::iter::Peekable<std::slice::Iter<'a, (i32, i32)>>,
    before: i32,
}

impl WrittenInside<'_> {
    /// What was logged before the number that is returned, and what was at this one, were not one after the other: changes in between are written.
    fn before(&mut self, number: i32) -> i32 {
        while let Some((first, _)) = self.parts.next_if(|(_, after)| *after <= number) {
            self.before = self.before.max(*first);
        }
        self.before
    }
}

/// The net effects of the entries from this one on, in the order of the keys' first appearance.
pub(super) fn effects(journal: &Journal, from: usize) -> Result<Vec<Net>> {
    let entries = &journal.entries;
    let mut at: HashMap<(u32, &[u8]), usize, RandomState> = HashMap::default();
    // One change needs no map; that is most transactions.
    if entries.len() - from > 1 {
        let room = memory::asking(|| at.try_reserve(entries.len() - from));
        room.map_err(|_| memory::out_of_memory("for what a transaction has changed"))?;
    }
    let mut nets: Vec<Net> = Vec::new();
    memory::room(&mut nets, entries.len() - from)?;
    // A reset says all there is to say about its relation.
    let resets = entries[from..].iter().filter(|e| e.op == Op::Reset);
    let reset: BTreeSet<u32> = resets.map(|e| e.relation.to_u32()).gather();
    let mut inside = WrittenInside { parts: journal.written_inside.iter().peekable(), before: 0 };
    for (i, entry) in entries.iter().enumerate().skip(from) {
        memory::heed();
        memory::check()?;
        let before = inside.before(entry.number);
        let relation = entry.relation.to_u32();
        if entry.op != Op::Reset && !reset.is_empty() && reset.contains(&relation) {
            continue;
        }
        let touched = entry.texts.touched().map(|t| &journal.arena[t]);
        // It says nothing about the row to anybody else.
        if touched == Some(&NOTICE[0].to_ne_bytes()) {
            nets.push(Net::of(i, None, touched, false));
            continue;
        }
        let image = entry.texts.image().map(|_| i);
        match at.entry((relation, &journal.arena[entry.texts.key()])) {
            Vacant(slot) => {
                slot.insert(nets.len());
                nets.push(Net::of(i, image, touched, entry.as_sent));
            }
            Occupied(mut slot) if entries[nets[*slot.get()].last].number < before => {
                slot.insert(nets.len());
                nets.push(Net::of(i, image, touched, entry.as_sent));
            }
            Occupied(slot) => {
                let net = &mut nets[*slot.get()];
                net.course.get_or_insert_with(|| Box::new(Course::of(net.first, entries))).add(i, entries);
                net.last = i;
                // The earliest: changes without an image left the image's columns alone.
                let is_earlier = |known: usize| entry.when.command < entries[known].when.command;
                if image.is_some() && net.image.is_none_or(is_earlier) {
                    net.image = image;
                }
                // Two changes: even if both are the client's, what it has in between is not known here.
                net.as_sent = false;
                net.one_origin &= entry.origin == entries[net.first].origin;
                net.touched = match (net.touched.take(), touched) {
                    (Some(mut before), Some(now)) => {
                        memory::append(&mut before, now);
                        Some(before)
                    }
                    _ => None,
                };
            }
        }
    }
    nets.retain_mut(|net| {
        if entries[net.first].op == Op::Reset {
            net.op = Op::Reset;
            return true;
        }
        let course = net.course.take().map_or_else(|| Course::of(net.first, entries), |course| *course);
        let is_told;
        (net.op, net.first, net.last, is_told) = course.end(net.first, entries);
        if net.op == Op::Insert {
            // What the row was in between, nobody else could see; and inserted and deleted again, it never was.
            net.image = None;
            net.made_before = entries[net.first].number < journal.flushed;
        }
        is_told || net.made_before
    });
    Ok(nets)
}

/// An entry of snapsync.change.
pub struct Effect<'a> {
    /// Its place among the entries of the same key, also those that another flush writes: by when what it says was over. A change of what
    /// the transaction found comes before all others, which triggers do not always fire in the order of.
    pub ord: i32,
    pub relation: pg_sys::Oid,
    pub op: Op,
    /// The first change in this entry was made to a row version that this same transaction had created; another flush, an earlier or a
    /// later one, may tell how the row was found. Nobody else ever saw that version, so its image must not be used to judge visibility (read.rs).
    pub inner: bool,
    pub scope: Option<&'a str>,
    pub key: &'a str,
    pub image: Option<&'a str>,
    pub origin: Option<&'a str>,
    pub touched: Option<&'a [u8]>,
    pub as_sent: bool,
}

impl<'a> Effect<'a> {
    /// Does it say nothing to anybody but one client?
    pub fn is_notice(&self) -> bool {
        self.touched == Some(&NOTICE[0].to_ne_bytes())
    }

    /// Where in the log it stands. Without salt, where everybody looks.
    pub fn bucket(&self, salt: Option<Salt>) -> i16 {
        match self.scope.zip(salt) {
            Some((who, salt)) if self.is_notice() => notice_bucket(salt, who),
            Some((scope, salt)) => bucket(salt, scope),
            None => NO_BUCKET,
        }
    }

    /// What who is poked hears of it.
    pub fn written(self) -> WrittenKey<'a> {
        WrittenKey { relation: self.relation, op: self.op, scope: self.scope, has_image: self.image.is_some() }
    }
}

/// What is to be written of them.
pub(super) fn entries<'a>(journal: &'a Journal, nets: &'a [Net]) -> impl Iterator<Item = Effect<'a>> + 'a {
    nets.iter().flat_map(move |net| {
        let (first, last) = (&journal.entries[net.first], &journal.entries[net.last]);
        let op = net.op;
        let ord = if last.when.old == OldVersion::Found { i32::MIN + last.number } else { last.number };
        let row = |scope: Option<&'a str>| Effect {
            ord,
            relation: first.relation,
            op,
            inner: matches!(op, Op::Update | Op::Delete) && first.when.old != OldVersion::Found,
            scope,
            key: journal.text(first.texts.key()),
            image: net.image.and_then(|at| journal.entries[at].texts.image()).map(|image| journal.text(image)),
            origin: if net.one_origin { first.origin.as_deref() } else { None },
            touched: net.touched.as_deref(),
            as_sent: net.as_sent,
        };
        let text = |range: Option<Range<usize>>| range.map(|range| journal.text(range));
        let before = text(first.texts.scope_before().unwrap_or_else(|| first.texts.scope()));
        let after = if op == Op::Delete { before } else { text(last.texts.scope()) };
        // A row that moved between scopes concerns both.
        let moved = before != after && (op == Op::Update || net.made_before);
        std::iter::once(row(after)).chain(moved.then(|| row(before)))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::change::Change;
    use crate::log::journal::Texts;

    /// A version of the row with our key, as the server would have it.
    #[derive(Clone)]
    struct Version {
        maker: Option<u32>,
        ended: bool,
        next: Option<usize>,
        image: usize,
        scope: usize,
    }

    /// A transaction that runs statements inside statements, in which rows of one key come and go.
    struct World {
        choices: std::vec::IntoIter<u8>,
        versions: Vec<Version>,
        alive: Option<usize>,
        journal: Journal,
        command: u32,
        logged: i32,
    }

    /// A change whose trigger has not fired yet.
    struct Queued {
        op: Op,
        old: Option<usize>,
        new: Option<usize>,
        command: u32,
    }

    impl World {
        fn new(choices: Vec<u8>, found: bool) -> World {
            let row = Version { maker: None, ended: false, next: None, image: 0, scope: 0 };
            let (versions, alive) = if found { (vec![row], Some(0)) } else { (Vec::new(), None) };
            let choices = choices.into_iter();
            World { choices, versions, alive, journal: Journal::default(), command: 0, logged: 0 }
        }

        fn choose(&mut self, of: u8) -> u8 {
            self.choices.next().map_or(0, |choice| choice % of)
        }

        fn make(&mut self, command: u32, image: usize, scope: usize) -> usize {
            self.versions.push(Version { maker: Some(command), ended: false, next: None, image, scope });
            self.alive = Some(self.versions.len() - 1);
            self.versions.len() - 1
        }

        fn statement(&mut self, depth: u8) {
            let command = self.command;
            self.command += 1;
            let mut queue = Vec::new();
            for _ in 0..self.choose(5) {
                self.step(command, depth, &mut queue);
            }
            for change in queue {
                self.fire(&change);
                if self.choose(6) == 1 {
                    self.inner(depth);
                }
            }
        }

        /// A statement in a trigger or function, maybe in a subtransaction that is rolled back.
        fn inner(&mut self, depth: u8) {
            if depth == 0 {
                return;
            }
            let before = (self.versions.clone(), self.alive, self.journal.entries.len());
            let rolled_back = self.choose(5) == 1;
            self.statement(depth - 1);
            if rolled_back {
                (self.versions, self.alive) = (before.0, before.1);
                self.journal.entries.truncate(before.2);
            }
        }

        fn step(&mut self, command: u32, depth: u8, queue: &mut Vec<Queued>) {
            let seen = self.alive.filter(|at| self.versions[*at].maker.is_none_or(|maker| maker < command));
            match (self.choose(8), seen) {
                (1 | 2, _) => self.inner(depth),
                (3 | 4, _) if self.alive.is_none() => {
                    let (image, scope) = (self.versions.len() + 1, usize::from(self.choose(3)));
                    let new = Some(self.make(command, image, scope));
                    queue.push(Queued { op: Op::Insert, old: None, new, command });
                }
                (5, Some(at)) => {
                    (self.versions[at].ended, self.alive) = (true, None);
                    queue.push(Queued { op: Op::Delete, old: Some(at), new: None, command });
                }
                (what @ (6 | 7), Some(at)) => {
                    let Version { image, scope, .. } = self.versions[at];
                    // Another image, and maybe another scope, or the same; or nothing that is synced.
                    let (image, scope) = match (what, self.choose(2)) {
                        (6, 0) => (self.versions.len() + 1, usize::from(self.choose(3))),
                        _ => (image, scope),
                    };
                    let new = self.make(command, image, scope);
                    (self.versions[at].ended, self.versions[at].next) = (true, Some(new));
                    if what == 6 {
                        queue.push(Queued { op: Op::Update, old: Some(at), new: Some(new), command });
                    }
                }
                _ => {}
            }
        }

        fn fire(&mut self, change: &Queued) {
            let old = change.old.map(|at| self.versions[at].clone());
            let new = change.new.map(|at| self.versions[at].clone());
            let left = |world: &World, mut at: usize| {
                let changed = world.versions[at].ended;
                while let Some(next) = world.versions[at].next {
                    at = next;
                }
                match (world.versions[at].ended, changed) {
                    (true, _) => New::Gone,
                    (_, true) => New::Changed,
                    _ => New::Stands,
                }
            };
            let when = When {
                old: old
                    .as_ref()
                    .map_or(OldVersion::None, |old| old.maker.map_or(OldVersion::Found, OldVersion::MadeBy)),
                command: change.command,
                new: change.new.map_or(New::Gone, |at| left(self, at)),
            };
            let has_image = match (&old, &new) {
                (Some(old), Some(new)) => old.image != new.image,
                (Some(_), None) => true,
                _ => false,
            };
            let scope = new.as_ref().or(old.as_ref()).map(|v| v.scope).unwrap_or_default();
            let scope = format!("s{scope}");
            let before = format!("s{}", old.as_ref().map_or(0, |old| old.scope));
            let image = old.filter(|_| has_image).map(|old| format!("i{}", old.image));
            let (relation, op) = (pg_sys::Oid::from(1), change.op);
            let logged = Change {
                image: image.as_deref().map(str::as_bytes),
                scope: Some(scope.as_bytes()),
                scope_before: (op == Op::Update && has_image).then_some(Some(before.as_bytes())),
                ..Change::of(relation, op, b"k", when)
            };
            let texts = Texts::store(&mut self.journal.arena, &logged);
            let (number, origin, as_sent) = (self.logged, None, false);
            self.journal.entries.push(Entry { relation, op, texts, when, number, origin, as_sent });
            self.logged += 1;
        }

        /// Op, scopes and image of what is to be told.
        fn told(&self, found: bool) -> Option<(Op, BTreeSet<String>, Option<String>)> {
            let scope = |at: usize| format!("s{}", self.versions[at].scope);
            let (first, last) = (found.then_some(0), self.alive);
            let scopes = first.into_iter().chain(last).map(scope).collect();
            let op = match (first, last) {
                (None, None) => return None,
                (None, Some(_)) => Op::Insert,
                (Some(_), None) => Op::Delete,
                (Some(_), Some(_)) => Op::Update,
            };
            let has_images = self.journal.entries.iter().any(|entry| entry.texts.image().is_some());
            (!self.journal.entries.is_empty()).then(|| (op, scopes, (found && has_images).then(|| "i0".to_string())))
        }
    }

    fn check(choices: Vec<u8>, found: bool) {
        let mut world = World::new(choices, found);
        for _ in 0..3 {
            world.statement(3);
        }
        let nets = effects(&world.journal, 0).expect("memory");
        let effects: Vec<Effect> = entries(&world.journal, &nets).collect();
        let scopes: Vec<&str> = effects.iter().filter_map(|effect| effect.scope).collect();
        let told = effects.first().map(|effect| {
            (effect.op, scopes.iter().map(ToString::to_string).collect(), effect.image.map(str::to_string))
        });
        let course: Vec<_> = world.journal.entries.iter().map(|e| (e.op, e.when)).collect();
        assert_eq!(told, world.told(found), "{course:?}");
        assert_eq!(scopes.len(), scopes.iter().collect::<BTreeSet<_>>().len(), "{course:?}");
    }

    #[test]
    fn inserted_twice_by_one_command() {
        // Inserted; inside of that deleted; inserted again.
        check(vec![3, 3, 0, 1, 0, 1, 5, 0, 3, 1], false);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]
        #[test]
        fn statements_inside_statements(choices in proptest::collection::vec(0u8..=255, 0..120), found: bool) {
            check(choices, found);
        }
    }
}
