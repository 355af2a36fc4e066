//! Where in the WAL a pull stands, for who reads the WAL as well: a replication stream that goes on where the pull ends.
//!
//! The order in which commits stand in the WAL is not the one in which they become visible. A transaction whose commit is in the WAL may
//! be invisible for long, while it waits for a disk or a standby, and one that commits later becomes visible before it. So no position
//! divides what a snapshot sees from what it does not. A pull gives two things instead: the snapshot, as `pg_current_snapshot` writes it,
//! and a position of which holds
//!
//! > Every transaction that changed something synced, and whose commit ends at or before the position, is seen by the snapshot.
//!
//! *Position.* A reader takes the end of what is flushed, `x`, and then reads the clock as `n`. A transaction whose commit ends at or before
//! x had drawn its stamp before it wrote that, so its stamp is at most n. If the pull's snapmin is greater than n, it is greater than
//! that stamp, and what has a smaller stamp than the snapmin is visible (clock.rs). So x will do where nobody was committing. Else, or for
//! an older snapshot, such a pair from before will: writers leave them in `snapsync.horizon`, and the newest whose n is below the snapmin is
//! taken; nothing, if there is none. A standby shows a commit before it says that it has replayed it, so what it says before the snapshot will do.
//!
//! Flushed, because a crash may take the rest back and write other commits in its place. And a clock that somebody else has set back says
//! nothing (`Reading::newest`).
//!
//! *Merging.* A client that has applied an answer, and then applies, in the order of the stream, the transactions behind the position that
//! the snapshot does not see, misses none and never goes back: who changes a row that another has changed waits until that one
//! is visible, so of two changes of a row the stream has the older one first, and no snapshot sees the newer one alone. Of what it
//! has applied from a stream, which may be ahead of visibility, it keeps what is behind the last position, and applies that again
//! upon the next answer in so far as its snapshot does not see it. `make e2e T=stream-merge` does all that.

use pgrx::pg_sys;

use super::{horizon, Reading};
use crate::server::error::Result;
use crate::server::memory::Gather;
use crate::server::pg;

/// A place in the WAL.
pub type Lsn = pg_sys::XLogRecPtr;

/// Where the WAL is safe up to, or replayed up to. To be asked before the clock is read.
pub fn reached() -> Lsn {
    // SAFETY: reads shared state.
    unsafe {
        if pg::in_recovery() {
            pg_sys::GetXLogReplayRecPtr(std::ptr::null_mut())
        } else {
            pg_sys::GetFlushRecPtr(std::ptr::null_mut())
        }
    }
}

/// The position of a pull with this snapmin, which has read the clock so (None: its snapshot is older, or a standby's), and had asked
/// before. The pull's snapshot is active.
pub fn of_pull(reached: Lsn, clock: Option<Reading>, snapmin: i64) -> Result<Lsn> {
    let known = match clock {
        Some(reading) => reading.snapmin > reading.newest,
        None => pg::in_recovery() && !pg::transaction_snapshot_is_fixed(),
    };
    if known {
        return Ok(reached);
    }
    horizon::position_before(snapmin)
}

/// As PostgreSQL writes it.
pub fn text(lsn: Lsn) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn as u32)
}

/// As `pg_current_snapshot` writes it: `xmin:xmax:` and the transactions between that it does not see. That function knows nothing
/// of those that a standby has still to see the end of.
pub fn text_of(snapshot: &pg::ActiveSnapshot) -> String {
    // SAFETY: a snapshot of transactions, whose arrays are as long as it says.
    let (xmin, xmax, unseen, next) = unsafe {
        let snapshot = &*snapshot.raw();
        let (list, count) = match snapshot.takenDuringRecovery {
            true => (snapshot.subxip, snapshot.subxcnt.max(0) as u32),
            false => (snapshot.xip, snapshot.xcnt),
        };
        let unseen: &[_] = if count == 0 { &[] } else { std::slice::from_raw_parts(list, count as usize) };
        (snapshot.xmin, snapshot.xmax, unseen, pg::next_full_xid())
    };
    let full = |xid| pg::full_xid(xid, next);
    let mut unseen: Vec<u64> = unseen.iter().map(|xid| full(*xid)).filter(|xid| *xid < full(xmax)).gather();
    unseen.sort_unstable();
    unseen.dedup();
    let unseen: Vec<String> = unseen.iter().map(u64::to_string).gather();
    format!("{}:{}:{}", full(xmin), full(xmax), unseen.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_written_as_postgresql_does() {
        assert_eq!(text(0), "0/0");
        assert_eq!(text(0x16_B374_D848), "16/B374D848");
    }
}
