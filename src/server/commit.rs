//! What the server does at the end of a transaction, done before.

use pgrx::pg_sys;

/// Drops and truncates the session's temporary tables, as they ask for (`ON COMMIT`). That takes as long as there are such tables, and may wait
/// for locks. The server does it once more after the PRE_COMMIT callbacks; then a table that is dropped is passed over. So is one that was truncated,
/// unless somebody has used a temporary table meanwhile.
///
/// # Safety
/// In a PRE_COMMIT callback of a transaction that is not prepared, with an active snapshot.
pub unsafe fn run_on_commit_actions() {
    // SAFETY: the server does the same next, in the same state: cursors are closed, deferred triggers have fired.
    unsafe {
        pg_sys::PreCommit_on_commit_actions();
        // By this it knows whether there may be something to truncate. (Whoever prepares is asked about it, too.)
        pg_sys::MyXactFlags &= !(pg_sys::XACT_FLAGS_ACCESSEDTEMPNAMESPACE as i32);
    }
}
