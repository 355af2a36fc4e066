//! Under which snapshot a statement runs.

use pgrx::pg_sys;

/// Makes a snapshot active until dropped. All SQL of a pull runs under one of these.
pub struct ActiveSnapshot(pg_sys::Snapshot);

impl ActiveSnapshot {
    /// In READ COMMITTED a new snapshot, otherwise the transaction's.
    pub fn take() -> Self {
        // SAFETY: inside a transaction; Push registers a copy that Pop in `drop` releases.
        unsafe {
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            ActiveSnapshot(pg_sys::GetActiveSnapshot())
        }
    }
    /// What is committed at this instant, also in REPEATABLE READ. For snapsync's own settings and catalogs only.
    pub fn latest() -> Self {
        // SAFETY: as above.
        unsafe {
            pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
            ActiveSnapshot(pg_sys::GetActiveSnapshot())
        }
    }
    /// What was there before this transaction began to write: what others have committed, and nothing of its own.
    pub fn before_transaction() -> Self {
        // SAFETY: as above. The copy is ours, and its command counter says which of the transaction's own changes it sees: none.
        unsafe {
            pg_sys::PushCopiedSnapshot(pg_sys::GetLatestSnapshot());
            let snapshot = pg_sys::GetActiveSnapshot();
            (*snapshot).curcid = 0;
            ActiveSnapshot(snapshot)
        }
    }
    /// What stood there when this transaction's commands had come to this one, as far as it is about its own changes.
    pub fn before_command(command: pg_sys::CommandId) -> Self {
        // SAFETY: as above.
        unsafe {
            pg_sys::PushCopiedSnapshot(pg_sys::GetTransactionSnapshot());
            let snapshot = pg_sys::GetActiveSnapshot();
            (*snapshot).curcid = command;
            ActiveSnapshot(snapshot)
        }
    }
    /// The oldest transaction that is under way to it, a standby's too; where there is none, the first that it cannot see.
    pub fn oldest_under_way(&self) -> u64 {
        // SAFETY: an active snapshot of transactions.
        full_xid(unsafe { (*self.0).xmin }, next_full_xid())
    }
    pub fn raw(&self) -> pg_sys::Snapshot {
        self.0
    }
}

/// The number of this transaction's command that comes next: a larger one whenever something was written since.
pub fn next_command() -> pg_sys::CommandId {
    // SAFETY: inside a transaction, in a function that may write.
    unsafe {
        pg_sys::CommandCounterIncrement();
        pg_sys::GetCurrentCommandId(false)
    }
}

/// The next transaction's number with the epoch.
pub fn next_full_xid() -> u64 {
    // SAFETY: reads a shared counter.
    unsafe { pg_sys::ReadNextFullTransactionId().value }
}

/// A transaction's number with the epoch, so that it is no other's ever: below the next one.
pub fn full_xid(xid: pg_sys::TransactionId, next: u64) -> u64 {
    let (xid, epoch) = (xid.into_inner(), next >> 32);
    (if xid > next as u32 { epoch.saturating_sub(1) } else { epoch }) << 32 | u64::from(xid)
}

/// What was committed at one instant, to be asked later what has come since.
pub struct KeptSnapshot(pg_sys::Snapshot);

impl KeptSnapshot {
    /// Of this instant, also in REPEATABLE READ.
    pub fn latest() -> Self {
        // SAFETY: inside a transaction; released in `drop`.
        KeptSnapshot(unsafe { pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot()) })
    }

    /// Had this transaction ended by then?
    pub fn sees(&self, xid: pg_sys::TransactionId) -> bool {
        // SAFETY: a snapshot of this kind.
        unsafe { !pg_sys::XidInMVCCSnapshot(xid, self.0) }
    }
}

impl Drop for KeptSnapshot {
    fn drop(&mut self) {
        // While an ERROR unwinds through us the abort releases it.
        if !std::thread::panicking() {
            // SAFETY: registered in `latest`, in the same subtransaction.
            unsafe { pg_sys::UnregisterSnapshot(self.0) }
        }
    }
}

impl Drop for ActiveSnapshot {
    fn drop(&mut self) {
        // While an ERROR unwinds through us the abort pops the snapshots of the (sub)transaction itself.
        if !std::thread::panicking() {
            // SAFETY: the snapshot pushed in `take` is on top again: everything in between is balanced.
            unsafe { pg_sys::PopActiveSnapshot() }
        }
    }
}

/// How a table of the extension's own is scanned.
///
/// In SERIALIZABLE a scan under a snapshot of transactions leaves predicate locks, and whoever writes there would be taken for a conflict with all who
/// have read, though what we remember is no data of theirs. So there all versions are scanned, which leaves none, and the snapshot is asked
/// about each.
#[derive(Clone, Copy)]
pub struct Beheld {
    scanned: pg_sys::Snapshot,
    asked: Option<pg_sys::Snapshot>,
}

impl Beheld {
    /// What this snapshot sees.
    pub fn under(snapshot: pg_sys::Snapshot) -> Beheld {
        // SAFETY: reads a backend-local variable.
        let leaves_locks = unsafe { pg_sys::XactIsoLevel } == pg_sys::XACT_SERIALIZABLE as i32;
        match leaves_locks {
            true => Beheld { asked: Some(snapshot), ..Beheld::all() },
            false => Beheld { scanned: snapshot, asked: None },
        }
    }

    /// What a dirty snapshot sees, which leaves no locks.
    pub fn dirty(snapshot: pg_sys::Snapshot) -> Beheld {
        Beheld { scanned: snapshot, asked: None }
    }

    /// All versions.
    pub fn all() -> Beheld {
        Beheld { scanned: &raw mut pg_sys::SnapshotAnyData, asked: None }
    }

    pub fn scanned(self) -> pg_sys::Snapshot {
        self.scanned
    }

    /// Does a row count that the scan has found?
    ///
    /// # Safety
    /// The snapshot is valid, and the slot has a row of the relation, as the scan has put it there.
    pub unsafe fn sees(self, relation: pg_sys::Relation, slot: *mut pg_sys::TupleTableSlot) -> bool {
        // SAFETY: see above.
        self.asked.is_none_or(|asked| unsafe { pg_sys::table_tuple_satisfies_snapshot(relation, slot, asked) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_below_the_next_one() {
        let full_xid = |xid: u32, next| full_xid(xid.into(), next);
        assert_eq!(full_xid(700, 701), 700);
        assert_eq!(full_xid(700, 5 << 32 | 701), 5 << 32 | 700);
        assert_eq!(full_xid(u32::MAX, 5 << 32 | 701), 4 << 32 | u64::from(u32::MAX));
    }
}
