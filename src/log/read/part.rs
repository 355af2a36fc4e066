//! A transaction's entries block by block of the log: so a page of one that has written very many reads few of them. The index has all of
//! them under one key, and nothing to go on from.

use std::collections::{BTreeMap, HashSet};

use pgrx::pg_sys;

use super::{stamp_is, Entries, EntryFilter, Log, Picked, Scopes};
use crate::log::change::{self, column, Op};
use crate::log::clock::durable;
use crate::server::error::Result;
use crate::server::heap::Tid;
use crate::server::pg::{OwnTable, WrittenBy};
use crate::server::{memory, pg};
use crate::values::token::LogPart;

/// So many blocks at most are read at a time: between a transaction's entries there may be others'.
const BLOCKS: u32 = 2_000;

const COMPACTION: OwnTable =
    OwnTable { name: c"compaction", columns: &[(pg_sys::INT8OID, false)], written: WrittenBy::Statements };

impl Log<'_> {
    /// The file that the log is in, and how often compact() has moved entries in it: as long as both are the same, entries stay where they are.
    /// (The number is of the snapshot that the entries are read under.)
    pub fn places(&self) -> Result<(u32, i64)> {
        // SAFETY: the relation is open.
        let file = unsafe { (*(*self.relation).rd_rel).relfilenode.to_u32() };
        let compactions = pg::only_row(&COMPACTION, self.snapshot, |row| row.column(1))?;
        Ok((file, compactions.flatten().unwrap_or(0)))
    }

    /// The entries of the transaction with this stamp in these scopes, if they are more than so many.
    pub fn large(&self, relation: pg_sys::Oid, stamp: i64, scopes: Scopes, many: usize) -> Result<Option<LogPart>> {
        let number = self.number_of(stamp)?.unwrap_or(stamp);
        let (file, compactions) = self.places()?;
        let mut part = LogPart { file, compactions, number, block: u32::MAX, last: 0, inner: false };
        let mut count = 0;
        self.each_bucket(scopes, &mut |bucket, _| {
            self.tuples(relation, bucket, vec![stamp_is(number)], |tuple| {
                // SAFETY: a tuple of snapsync.change, and its place.
                unsafe {
                    count += self.size_of(tuple);
                    let op = self.value(tuple, column::OP).and_then(|op| Op::from_byte(op.value() as u8));
                    part.inner |= op.is_some_and(|(_, inner)| inner);
                    let block = Tid::from((*tuple).t_self).block;
                    (part.block, part.last) = (part.block.min(block), part.last.max(block));
                }
                Ok(true)
            })
        })?;
        Ok((count > many).then_some(part))
    }

    /// So many of these entries, or some more, from the part's first block on, but for those of row versions that the transaction had made
    /// before; and the block behind them.
    pub fn part(
        &self,
        relation: pg_sys::Oid,
        stamp: i64,
        part: &LogPart,
        scopes: Scopes,
        enough: usize,
    ) -> Result<(Entries, u32)> {
        let mut buckets: BTreeMap<i16, Option<HashSet<&str>>> = BTreeMap::new();
        let mut all = false;
        self.each_bucket(scopes, &mut |bucket, _| {
            all |= bucket.is_none();
            memory::extend(&mut buckets, bucket.map(|bucket| (bucket, None)));
            Ok(())
        })?;
        if let Scopes::Only(scopes) = scopes {
            for (salt, scope) in self.salts()?.iter().flat_map(|salt| scopes.iter().map(move |scope| (*salt, scope))) {
                memory::heed();
                let here = buckets.entry(change::bucket(salt, scope)).or_default();
                here.get_or_insert_default().insert(scope);
            }
        }
        let mut entries = Entries::new();
        let (mut found, mut count) = (Vec::new(), 0);
        let per_row = pg::PerRow::new(c"snapsync log row");
        let end = self.in_blocks(part.block, part.last, &mut |tuple, is_next| {
            // SAFETY: a tuple of snapsync.change; entries own what is in them.
            unsafe {
                if is_next && count >= enough {
                    return Ok(false);
                }
                let number = |column| self.value(tuple, column).map_or(0, |d| d.value() as i64);
                if number(column::STAMP) != part.number || number(column::RELATION) as u32 != relation.to_u32() {
                    return Ok(true);
                }
                let scopes = buckets.get(&(number(column::BUCKET) as i16));
                if !all && scopes.is_none() {
                    return Ok(true);
                }
                let scopes = scopes.and_then(Option::as_ref);
                let longest = scopes.into_iter().flatten().map(|s| s.len()).max().unwrap_or(0);
                let picked = Picked { scopes, longest, filter: EntryFilter::default() };
                per_row.run(|| self.decode(tuple, picked, &mut found))?;
                count += found.len();
                for mut entry in found.drain(..).filter(|entry| !entry.inner) {
                    entry.stamp_with(stamp);
                    entries.add(entry, self)?;
                }
            }
            Ok(true)
        })?;
        entries.complete();
        Ok((entries, end))
    }

    /// Calls `each` for the tuples in these blocks, and says whether a new block has begun, until it says false there or enough blocks are
    /// read. The block that comes next.
    fn in_blocks(
        &self,
        first: u32,
        last: u32,
        each: &mut dyn FnMut(pg_sys::HeapTuple, bool) -> Result<bool>,
    ) -> Result<u32> {
        let end = last.saturating_add(1).min(first.saturating_add(BLOCKS));
        // SAFETY: the log is open; on an ERROR the resource owner lets go of the scan's buffer. Tuples are valid until the next one.
        unsafe {
            let blocks = pg_sys::RelationGetNumberOfBlocksInFork(self.relation, pg_sys::ForkNumber::MAIN_FORKNUM);
            if first >= blocks.min(end) {
                return Ok(end);
            }
            let flags = pg_sys::ScanOptions::SO_TYPE_SEQSCAN | pg_sys::ScanOptions::SO_ALLOW_PAGEMODE;
            let none = std::ptr::null_mut();
            let scan = pg_sys::heap_beginscan(self.relation, self.snapshot.raw(), 0, none, std::ptr::null_mut(), flags);
            pg_sys::heap_setscanlimits(scan, first, blocks.min(end) - first);
            let (mut block, mut next) = (first, end);
            loop {
                memory::heed();
                let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
                if tuple.is_null() {
                    break;
                }
                memory::check()?;
                durable::saw(tuple);
                let at = Tid::from((*tuple).t_self).block;
                if !each(tuple, at != std::mem::replace(&mut block, at))? {
                    next = at;
                    break;
                }
            }
            pg_sys::heap_endscan(scan);
            Ok(next)
        }
    }
}
