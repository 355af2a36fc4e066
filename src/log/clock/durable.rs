//! A pull shows nothing that a crash can take back.
//!
//! A transaction with `synchronous_commit = off` is visible before its commit is on disk. If the server crashes now, it never was; a
//! client that has pulled its changes would keep them until those rows change again. So before a pull answers, it flushes the log up to
//! the commits that it has seen. Others are flushed already: a commit that waits for the disk becomes visible afterwards. Of those who
//! wrote the entries that it read, `pg_xact` knows how far the log must be flushed (it keeps that for its own pages); a pull that sends
//! whole collections flushes all there is.

use std::cell::Cell;

use pgrx::pg_sys;

use crate::server::pg;

thread_local! {
    /// Up to here the log must be flushed before this pull answers.
    static SEEN: Cell<pg_sys::XLogRecPtr> = const { Cell::new(0) };
}

/// At the beginning of a pull.
pub fn start() {
    SEEN.with(|s| s.set(0));
}

fn see(up_to: pg_sys::XLogRecPtr) {
    SEEN.with(|s| s.set(s.get().max(up_to)));
}

/// A row of the log was read that the snapshot sees.
///
/// # Safety
/// A tuple of a heap that holds a lock on its page, or a copy.
pub unsafe fn saw(tuple: pg_sys::HeapTuple) {
    // SAFETY: a heap tuple's header; who made it has committed, or is this transaction.
    unsafe {
        let header = (*tuple).t_data;
        let frozen = pg_sys::HEAP_XMIN_FROZEN as u16;
        if (*header).t_infomask & frozen != frozen && !pg::in_recovery() {
            see(pg_sys::TransactionIdGetCommitLSN((*header).t_choice.t_heap.t_xmin));
        }
    }
}

/// Rows were read of whom nobody asked who made them.
pub fn saw_rows() {
    if !pg::in_recovery() {
        // SAFETY: reads shared state.
        let (at, segment) = unsafe { (pg_sys::GetXLogInsertRecPtr(), pg_sys::wal_segment_size) };
        see(end_of_log(at, segment as u64));
    }
}

/// Where the log ends if the next record begins here: on a page's first place after its header, nothing is there yet.
fn end_of_log(next: pg_sys::XLogRecPtr, segment: u64) -> pg_sys::XLogRecPtr {
    // SizeOfXLogShortPHD and SizeOfXLogLongPHD (access/xlog_internal.h).
    const SHORT_HEADER: u64 = 24;
    const LONG_HEADER: u64 = 40;
    match (next % u64::from(pg_sys::XLOG_BLCKSZ), next % segment) {
        (_, LONG_HEADER) => next - LONG_HEADER,
        (SHORT_HEADER, _) => next - SHORT_HEADER,
        _ => next,
    }
}

/// Before a pull answers.
pub fn flush() {
    let seen = SEEN.with(|s| s.replace(0));
    if cfg!(feature = "naive-flush") {
        return;
    }
    // SAFETY: not in recovery, where nothing was noted; up to a place that the log has reached.
    unsafe {
        if seen != 0 && pg_sys::XLogNeedsFlush(seen) {
            pg_sys::XLogFlush(seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_s_header_is_not_the_log_s_end() {
        let segment = 16 << 20;
        assert_eq!(end_of_log(3 * 8192 + 24, segment), 3 * 8192);
        assert_eq!(end_of_log(segment + 40, segment), segment);
        assert_eq!(end_of_log(3 * 8192 + 40, segment), 3 * 8192 + 40);
        assert_eq!(end_of_log(3 * 8192 + 4096, segment), 3 * 8192 + 4096);
    }
}
