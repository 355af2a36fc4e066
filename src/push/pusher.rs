//! Who pushes, and what of the others' changes he can not have seen.

use crate::log::read::Logged;
use crate::log::{clock, journal};
use crate::server::error::{code, Result, SyncError};
use crate::values::cursor::{self, Cursor};
use crate::values::settings;

/// From where on a change on the server conflicts with the client's.
#[derive(Clone, Copy)]
pub enum Baseline {
    /// The client makes no claim about what it has seen: nothing conflicts.
    None,
    Stamp(i64),
    /// The client's state is older than the log reaches: everything may have changed.
    Unknown,
}

/// What holds for the whole push.
pub struct Pusher<'p> {
    pub baseline: Baseline,
    pub client_id: Option<&'p str>,
    pub report: bool,
}

impl Pusher<'_> {
    /// Is this entry of the log somebody else's, neither this transaction's nor this client's?
    pub fn is_by_others(&self, e: &Logged) -> bool {
        Some(e.stamp) != journal::own_stamp() && !(e.origin.is_some() && e.origin.as_deref() == self.client_id)
    }
}

pub fn cursor(last_pulled_at: Option<&str>) -> Result<Cursor> {
    cursor::parse(last_pulled_at).map_err(|e| {
        SyncError::new(code::INVALID_PARAMETER, "malformed last_pulled_at")
            .detail(e.to_string())
            .hint("Pass the timestamp of the last pull, an ISO 8601 time, or null to overwrite whatever changed.")
    })
}

/// Of a push that has something to write.
pub fn baseline(cursor: Cursor) -> Result<Baseline> {
    Ok(match cursor {
        Cursor::Start => Baseline::None,
        Cursor::Stamp(cursor) => {
            clock::catch_up()?;
            let stamp = clock::stamp_of(cursor);
            if clock::history::cursor_is_of_this_history(stamp)? {
                Baseline::Stamp(stamp)
            } else {
                Baseline::Unknown
            }
        }
        Cursor::At { micros_since_unix_epoch } => {
            let cursor = clock::horizon::cursor_at(micros_since_unix_epoch, settings::timestamp_slack_micros())?;
            cursor.map_or(Baseline::Unknown, Baseline::Stamp)
        }
    })
}
