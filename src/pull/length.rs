//! An answer that is too long.

use super::PullRequest;
use crate::server::error::{self, code, Result, SyncError};
use crate::values::json::TOO_LARGE;

/// Writes a collection's part of an answer. Where it becomes too long, the error says what the caller can do.
pub(super) fn explained<R>(request: &PullRequest, collection: &str, write: impl FnOnce() -> Result<R>) -> Result<R> {
    error::caught(write).map_err(|e| if is_too_long(&e) { explain(e, request, collection) } else { e })
}

fn is_too_long(e: &SyncError) -> bool {
    e.code == code::PROGRAM_LIMIT && e.message == TOO_LARGE
}

fn explain(e: SyncError, request: &PullRequest, collection: &str) -> SyncError {
    // It is one row's length, and its hint the only one.
    if e.hint.is_some() {
        let row = e.detail.clone().unwrap_or_default();
        return e.detail(format!("In collection \"{collection}\": {row}"));
    }
    match (request.page_size, request.collections.len()) {
        (Some(_), _) => e.hint("Pass a smaller page_size."),
        (None, 1) => e.hint("Pull in pages: page_size => 1000."),
        (None, _) => e.hint("Pull in pages (page_size => 1000), or fewer collections per call."),
    }
}
