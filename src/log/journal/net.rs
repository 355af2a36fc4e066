//! What a transaction's log amounts to: one entry per key, however often the row was changed.

use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use foldhash::fast::RandomState;
use pgrx::pg_sys;

use super::Journal;
use crate::log::change::{bucket, notice_bucket, Op, Salt, When, NOTICE, NO_BUCKET};
use crate::log::poke::WrittenKey;
use crate::server::error::Result;
use crate::server::memory;
use crate::server::memory::Gather;

/// The net effect of a transaction on one key, as nobody outside can see anything in between: the first old state, the last
/// new one.
pub struct Net {
    first: usize,
    last: usize,
    image: Option<(When, Range<usize>)>,
    /// All of it was one client's push (or nobody's).
    one_origin: bool,
    /// The union of the columns touched; None: not known.
    touched: Option<Vec<u8>>,
    /// Nothing happened to the key but what its client sent.
    as_sent: bool,
    /// The transaction made the row, and what it did to it afterwards may stand in a part that is written already. By this entry readers know
    /// that nobody saw the states told there.
    made_before: bool,
}

impl Net {
    /// Of one entry.
    fn of(at: usize, image: Option<(When, Range<usize>)>, touched: Option<&[u8]>, as_sent: bool) -> Net {
        let touched = touched.map(<[u8]>::to_vec);
        Net { first: at, last: at, image, one_origin: true, touched, as_sent, made_before: false }
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
    for (i, entry) in entries.iter().enumerate().skip(from) {
        memory::heed();
        memory::check()?;
        let relation = entry.relation.to_u32();
        if entry.op != Op::Reset && !reset.is_empty() && reset.contains(&relation) {
            continue;
        }
        let touched = entry.touched.as_ref().map(|t| &journal.arena[t.clone()]);
        // It says nothing about the row to anybody else.
        if touched == Some(&NOTICE[0].to_ne_bytes()) {
            nets.push(Net::of(i, None, touched, false));
            continue;
        }
        let image = entry.image.clone().map(|image| (entry.when, image));
        match at.entry((relation, &journal.arena[entry.key.clone()])) {
            Vacant(slot) => {
                slot.insert(nets.len());
                nets.push(Net::of(i, image, touched, entry.as_sent));
            }
            Occupied(slot) => {
                let net = &mut nets[*slot.get()];
                let order = entry.when.order();
                if order < entries[net.first].when.order() {
                    net.first = i;
                }
                let last = &entries[net.last];
                // Where the row is then, its changes say. A touch says where it was.
                let is_later = match (entry.is_touch(), last.is_touch()) {
                    (false, false) => order > last.when.order(),
                    (touches, touched) => touched || !touches,
                };
                if is_later {
                    net.last = i;
                }
                // The earliest: changes without an image left the image's columns alone.
                if let Some((when, _)) = &image {
                    if net.image.as_ref().is_none_or(|(known, _)| when.order() < known.order()) {
                        net.image = image;
                    }
                }
                // Two changes: even if both are the client's, what it has in between is not known here.
                net.as_sent = false;
                net.one_origin &= entry.origin == entries[net.first].origin;
                net.touched = match (net.touched.take(), &entry.touched) {
                    (Some(mut before), Some(now)) => {
                        memory::append(&mut before, &journal.arena[now.clone()]);
                        Some(before)
                    }
                    _ => None,
                };
            }
        }
    }
    nets.retain_mut(|net| {
        let (first, last) = (&entries[net.first], &entries[net.last]);
        if first.op == Op::Insert {
            // What the row was in between, nobody else could see; and inserted and deleted again, it never was.
            net.image = None;
            net.made_before = first.number < journal.flushed;
            return last.op != Op::Delete || net.made_before;
        }
        true
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
        let op = match (first.op, last.op) {
            (Op::Reset, _) => Op::Reset,
            (Op::Insert, _) => Op::Insert,
            (_, Op::Delete) => Op::Delete,
            _ => Op::Update,
        };
        let ord = if last.when == When::First { i32::MIN + last.number } else { last.number };
        let row = |scope: Option<&Range<usize>>| Effect {
            ord,
            relation: first.relation,
            op,
            inner: matches!(op, Op::Update | Op::Delete) && first.when != When::First,
            scope: scope.map(|s| journal.text(s)),
            key: journal.text(&first.key),
            image: net.image.as_ref().map(|(_, i)| journal.text(i)),
            origin: if net.one_origin { first.origin.as_deref() } else { None },
            touched: net.touched.as_deref(),
            as_sent: net.as_sent,
        };
        let before = match &first.scope_before {
            Some(before) => before.as_ref(),
            None => first.scope.as_ref(),
        };
        let after = if op == Op::Delete { before } else { last.scope.as_ref() };
        let moved = before.map(|s| journal.text(s)) != after.map(|s| journal.text(s));
        // A row that moved between scopes concerns both.
        let moved = moved && (op == Op::Update || net.made_before);
        std::iter::once(row(after)).chain(moved.then(|| row(before)))
    })
}
