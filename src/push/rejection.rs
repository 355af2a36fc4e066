//! A row of the push that is left out.

use crate::server::error::SyncError;

/// A row that is not applied.
#[derive(Clone)]
pub struct Rejection {
    pub target: usize,
    pub id: String,
    pub error: SyncError,
    /// The collection's policy wants it so (`server_wins`): no reason to abort.
    pub expected: bool,
}
