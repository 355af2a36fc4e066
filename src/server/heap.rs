//! Rows by the place where they stand in their table's file.

use pgrx::pg_sys;

use crate::server::memory::{self, Gather};
use crate::server::pg;

/// Of the column `ctid`, which says where a row stands.
pub const NUMBER: i16 = pg_sys::SelfItemPointerAttributeNumber as i16;

/// Where a row version stands: in which block, at which line. Lines count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tid {
    pub block: u32,
    pub line: u16,
}

impl Tid {
    /// Before all of them.
    pub const START: Tid = Tid { block: 0, line: 0 };

    /// # Safety
    /// A datum of type tid.
    pub unsafe fn of(datum: pg_sys::Datum) -> Tid {
        // SAFETY: see above.
        unsafe { *datum.cast_mut_ptr::<pg_sys::ItemPointerData>() }.into()
    }

    /// A datum of type tid, in the current memory context.
    pub fn datum(self) -> pg_sys::Datum {
        // SAFETY: palloc'd room for one.
        unsafe {
            let tid = pg_sys::palloc0(std::mem::size_of::<pg_sys::ItemPointerData>()).cast::<pg_sys::ItemPointerData>();
            (*tid).ip_blkid.bi_hi = (self.block >> 16) as u16;
            (*tid).ip_blkid.bi_lo = self.block as u16;
            (*tid).ip_posid = self.line;
            tid.into()
        }
    }
}

impl From<pg_sys::ItemPointerData> for Tid {
    fn from(tid: pg_sys::ItemPointerData) -> Tid {
        let block = u32::from(tid.ip_blkid.bi_hi) << 16 | u32::from(tid.ip_blkid.bi_lo);
        Tid { block, line: tid.ip_posid }
    }
}

/// The file that an ordinary table's rows stand in, and how many blocks it has. A row version stays where it is as long as the file is the
/// same. None where rows stand elsewhere (partitions, foreign tables) or nobody knows what a place means.
pub fn file_of(table: pg_sys::Oid) -> Option<(u32, u32)> {
    // SAFETY: the table is locked (callers).
    unsafe {
        let open = pg_sys::relation_open(table, pg_sys::NoLock as i32);
        let form = &*(*open).rd_rel;
        let plain = form.relkind as u8 == pg_sys::RELKIND_RELATION
            && (*open).rd_tableam == pg_sys::GetHeapamTableAmRoutine()
            && form.relfilenode != pg_sys::InvalidOid;
        let file = plain.then(|| {
            let blocks = pg_sys::RelationGetNumberOfBlocksInFork(open, pg_sys::ForkNumber::MAIN_FORKNUM);
            (form.relfilenode.to_u32(), blocks)
        });
        pg_sys::relation_close(open, pg_sys::NoLock as i32);
        file
    }
}

/// So many blocks of a table are read to find a row.
const FEW: u32 = 64;

/// Does a table have no row that others have put there, as far as this snapshot sees? Only its beginning is read: where nobody sees a row of that, the table
/// counts as empty. (Of one whose rows stand elsewhere nobody knows.)
pub fn is_empty(table: pg_sys::Oid, snapshot: &pg::ActiveSnapshot) -> bool {
    let Some((_, blocks)) = file_of(table) else { return false };
    if blocks == 0 {
        return true;
    }
    // SAFETY: a heap (file_of), which is locked (callers). On an ERROR the resource owner lets go of the scan's buffer. A tuple is valid until the next one.
    unsafe {
        let open = pg_sys::relation_open(table, pg_sys::NoLock as i32);
        let flags = pg_sys::ScanOptions::SO_TYPE_SEQSCAN | pg_sys::ScanOptions::SO_ALLOW_PAGEMODE;
        let none = std::ptr::null_mut();
        let scan = pg_sys::heap_beginscan(open, snapshot.raw(), 0, none, std::ptr::null_mut(), flags);
        pg_sys::heap_setscanlimits(scan, 0, blocks.min(FEW));
        let mut found = false;
        while !found {
            memory::heed();
            let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
            if tuple.is_null() {
                break;
            }
            found = !is_own(&*(*tuple).t_data);
        }
        pg_sys::heap_endscan(scan);
        pg_sys::relation_close(open, pg_sys::NoLock as i32);
        !found
    }
}

/// What is looked for in a table that may be empty.
#[derive(Clone, Copy)]
pub enum Remnant<'s> {
    /// A row version, whoever sees it: to an older snapshot, here or on a standby, a deleted row is there until VACUUM has taken it away.
    Version,
    /// A row that this snapshot sees.
    Row(&'s pg::ActiveSnapshot),
}

/// So many blocks are searched for a row: 2 MB of dead ones.
const SEARCHED: u32 = 256;

/// Is nothing of that kind left in a table that this session keeps to itself? False as well where that is not known: others may write there, rows stand
/// elsewhere, or the file is long. No code of anybody's runs for it, and no predicate lock stays.
pub fn has_no(remnant: Remnant, table: pg_sys::Oid) -> bool {
    let alone = pg_sys::AccessExclusiveLock as i32;
    // SAFETY: a look into this backend's list of locks.
    if !unsafe { pg_sys::CheckRelationOidLockedByMe(table, alone, true) } {
        return false;
    }
    let Some((_, blocks)) = file_of(table).filter(|(_, blocks)| *blocks <= SEARCHED) else { return false };
    let mut found = false;
    // SAFETY: a heap (file_of), which is locked. Each buffer is pinned and locked while its page is read, and let go of before anything else happens; on an
    // ERROR the resource owner does it.
    unsafe {
        let open = pg_sys::relation_open(table, pg_sys::NoLock as i32);
        for block in 0..blocks {
            memory::heed();
            let buffer = pg_sys::ReadBuffer(open, block);
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
            found = is_on_page(remnant, table, block, buffer);
            pg_sys::UnlockReleaseBuffer(buffer);
            if found {
                break;
            }
        }
        pg_sys::relation_close(open, pg_sys::NoLock as i32);
    }
    !found
}

/// # Safety
/// The buffer has this block of the heap, and is pinned and locked.
unsafe fn is_on_page(remnant: Remnant, table: pg_sys::Oid, block: u32, buffer: pg_sys::Buffer) -> bool {
    // SAFETY: see above. Line pointers below the largest number are on the page, and normal ones point to a tuple of that length. A snapshot is asked about a
    // tuple under the buffer's lock.
    unsafe {
        let page = pg_sys::BufferGetPage(buffer);
        (1..=pg_sys::PageGetMaxOffsetNumber(page)).any(|line| {
            let item = pg_sys::PageGetItemId(page, line);
            if (*item).lp_flags() != pg_sys::LP_NORMAL {
                return false;
            }
            let Remnant::Row(snapshot) = remnant else { return true };
            let ip_blkid = pg_sys::BlockIdData { bi_hi: (block >> 16) as u16, bi_lo: block as u16 };
            let mut tuple = pg_sys::HeapTupleData {
                t_len: (*item).lp_len(),
                t_self: pg_sys::ItemPointerData { ip_blkid, ip_posid: line },
                t_tableOid: table,
                t_data: pg_sys::PageGetItem(page, item).cast(),
            };
            pg_sys::HeapTupleSatisfiesVisibility(&mut tuple, snapshot.raw(), buffer)
        })
    }
}

/// Has this transaction made the row version?
fn is_own(header: &pg_sys::HeapTupleHeaderData) -> bool {
    let frozen = (pg_sys::HEAP_XMIN_COMMITTED | pg_sys::HEAP_XMIN_INVALID) as u16;
    // SAFETY: a heap tuple's header says who made it; the rest reads variables of this backend.
    unsafe {
        header.t_infomask & frozen != frozen
            && pg_sys::TransactionIdIsCurrentTransactionId(header.t_choice.t_heap.t_xmin)
    }
}

/// How many rows a table had when it was last vacuumed or analyzed. Less than nothing where that is not known.
pub fn rows_then(table: pg_sys::Oid) -> f64 {
    // SAFETY: the table is locked (callers).
    unsafe {
        let open = pg_sys::relation_open(table, pg_sys::NoLock as i32);
        let rows = (*(*open).rd_rel).reltuples;
        pg_sys::relation_close(open, pg_sys::NoLock as i32);
        f64::from(rows)
    }
}

/// Which transactions a snapshot does not see: those from a number on (with the epoch, so that it is no other's ever), and some before it, which
/// were running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unseen {
    pub from: u64,
    pub running: Vec<u32>,
}

/// Of more that are running, those from the next one on count as unseen.
const RUNNING: usize = 32;

impl Unseen {
    /// Those of a snapshot; and whether no more than these count, because all that were running are known and few.
    pub fn by(snapshot: &pg::ActiveSnapshot) -> (Unseen, bool) {
        // SAFETY: an active snapshot, whose lists, where it has them, are as long as it says; a shared counter, and this transaction's number.
        let (first, end, mut running, known, next, own) = unsafe {
            let snapshot = &*snapshot.raw();
            let numbers = |numbers: *mut pg_sys::TransactionId, count: usize| -> Vec<u32> {
                (0..count).map(|i| (*numbers.add(i)).into_inner()).gather()
            };
            let mut running = numbers(snapshot.xip, snapshot.xcnt as usize);
            // Of those that are too many there is a number without a list: a copy of a snapshot leaves it out (snapmgr.c).
            if !snapshot.suboverflowed {
                memory::extend(&mut running, numbers(snapshot.subxip, snapshot.subxcnt.max(0) as usize));
            }
            let next = pg::next_full_xid();
            let own = pg_sys::GetTopTransactionIdIfAny();
            (snapshot.xmin, snapshot.xmax, running, !snapshot.suboverflowed, next, own)
        };
        // Of this transaction it sees what it has done up to now; of too many subtransactions nobody knows whose they are.
        let end = match (own, known) {
            (pg_sys::TransactionId::INVALID, true) => end,
            _ => first,
        };
        let with_epoch = |number: u32| pg::full_xid(number.into(), next);
        let mut from = with_epoch(end.into_inner());
        running.retain(|number| with_epoch(*number) < from);
        running.sort_unstable_by_key(|number| with_epoch(*number));
        let few = running.len() <= RUNNING;
        if let Some(next) = running.get(RUNNING) {
            from = with_epoch(*next);
            running.truncate(RUNNING);
        }
        (Unseen { from, running }, known && few)
    }

    fn has(&self, transaction: u32) -> bool {
        // Numbers go in a circle, half of which is past.
        transaction.wrapping_sub(self.from as u32) as i32 >= 0 || self.running.contains(&transaction)
    }
}

/// The places behind `after` and up to `upto` (None: to the end) of row versions that these transactions have made, in order: so many, or
/// some more, or all there are. Whether anybody sees them, whoever reads them finds out.
pub fn made_by(table: pg_sys::Oid, after: Tid, upto: Option<Tid>, unseen: &Unseen, enough: usize) -> Vec<Tid> {
    let mut found = Vec::new();
    // SAFETY: the table is locked (callers). Each buffer is pinned and locked while its page is read, and let go of before anything else
    // happens; on an ERROR the resource owner does it. Line pointers below the largest number are on the page, and normal ones point to a
    // tuple's header there.
    unsafe {
        let open = pg_sys::relation_open(table, pg_sys::NoLock as i32);
        let strategy = pg_sys::GetAccessStrategy(pg_sys::BufferAccessStrategyType::BAS_BULKREAD);
        let main = pg_sys::ForkNumber::MAIN_FORKNUM;
        let blocks = pg_sys::RelationGetNumberOfBlocksInFork(open, main);
        let end = upto.map_or(blocks, |upto| blocks.min(upto.block.saturating_add(1)));
        for block in after.block..end {
            memory::heed();
            if found.len() >= enough {
                break;
            }
            let mode = pg_sys::ReadBufferMode::RBM_NORMAL;
            let buffer = pg_sys::ReadBufferExtended(open, main, block, mode, strategy);
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
            let page = pg_sys::BufferGetPage(buffer);
            for line in 1..=pg_sys::PageGetMaxOffsetNumber(page) {
                let item = pg_sys::PageGetItemId(page, line);
                let place = Tid { block, line };
                if (*item).lp_flags() != pg_sys::LP_NORMAL || place <= after || upto.is_some_and(|upto| place > upto) {
                    continue;
                }
                // (As it was written: VACUUM marks old ones as frozen beside it.)
                let header = pg_sys::PageGetItem(page, item).cast::<pg_sys::HeapTupleHeaderData>();
                if unseen.has((*header).t_choice.t_heap.t_xmin.into_inner()) {
                    found.push(place);
                }
            }
            pg_sys::UnlockReleaseBuffer(buffer);
        }
        pg_sys::FreeAccessStrategy(strategy);
        pg_sys::relation_close(open, pg_sys::NoLock as i32);
    }
    found
}
