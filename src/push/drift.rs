//! `push_changes(_changes, last_pulled_at)`: as the Drift/Supabase client calls it.
//!
//! Its `last_pulled_at` is what the device's clock says, without an offset, at a moment before its pull. It is no cursor: a clock that is ahead
//! would hide what others changed, one that is behind would make a conflict of everything, the device's own last edit too. So
//! nothing conflicts here. Of two changes of a row the one with the later version stands, whoever comes first, a deletion being one of them
//! (`decide/version.rs`). The client goes on from the time that is answered, in two ways:
//!
//! - It pulls from there. What others commit between its pull and this push comes then, for a pull begins `snapsync.timestamp_slack` earlier.
//! - By its own clock: what it changes from that time on it pushes next. If its clock is behind, the server's time is not reached yet,
//!   and the next changes would never be pushed.
//!
//! So the answer is the time of the latest change that was pushed, which its clock has passed, but not later than now. A millisecond
//! after it, or the client pushes that change once more.

use super::constraints::DeferredBefore;
use super::target::Target;
use super::{carry_out, payload, resolve, PushRequest, Pusher};
use crate::push::pusher::Baseline;
use crate::server::error::{code, Result, SyncError};
use crate::server::{memory, time};
use crate::values::conflict::ConflictPolicy;
use crate::values::device::Device;

/// What the client's clock can tell apart, in microseconds.
const TICK: i64 = 1000;

/// Returns the time to answer, as PostgreSQL counts.
pub fn push(changes: &str, device_time: &str) -> Result<i64> {
    let now = time::now();
    let device = Device::of(device_time, now).map_err(|e| {
        SyncError::new(code::INVALID_PARAMETER, "malformed last_pulled_at")
            .detail(e.to_string())
            .hint("Pass the device's own time as a string in ISO 8601, for example \"2026-11-21T07:50:00.000\".")
    })?;
    let request = PushRequest {
        changes,
        last_pulled_at: None,
        dialect: Some("drift"),
        client_id: None,
        push_id: None,
        on_rejected: None,
        device,
    };
    let pusher = Pusher { baseline: Baseline::None, client_id: None, report: false };
    let raw = payload::parse(changes, memory::heed)?;
    let targets = resolve(&raw, &request, false)?;
    targets.iter().try_for_each(check)?;
    let latest = targets.iter().filter_map(|target| latest(target, device)).max();
    let before = DeferredBefore::look()?;
    carry_out(targets, &pusher, &request, before)?;
    before.leave()?;
    let next = latest.map_or(now, |latest| latest.saturating_add(TICK).min(now));
    Ok(next.saturating_sub(time::EPOCH))
}

/// Its rows must say which is later, and be marked when they are deleted.
fn check(target: &Target) -> Result<()> {
    let collection = &target.collection;
    if collection.conflict == ConflictPolicy::LastWriteWins && target.version_and_mark().is_some() {
        return Ok(());
    }
    Err(SyncError::new(code::NOT_IN_STATE, format!("collection \"{}\" is not set up for this client", collection.name))
        .detail("Of two changes of a row the later one stands, and rows that are deleted are marked.")
        .hint(format!(
            "SELECT snapsync.enable('{}', conflict => 'last_write_wins', version_column => 'updated_at', \
             soft_delete_column => 'deleted_at'), where both columns have the same type, a timestamp.",
            collection.table.replace('\'', "''")
        )))
}

/// When the latest of these records was changed, by the device's clock. Of a row's two times one can be another device's, which is ahead: its last
/// change or its deletion. What cannot be read has its error from the statement that writes it.
fn latest(target: &Target, device: Device) -> Option<i64> {
    let (version, mark) = target.version_and_mark()?;
    let of = |record| {
        memory::heed();
        let raw = [version, mark].into_iter().filter_map(|column| target.plan.raw(record, &column.name));
        raw.filter_map(|raw| device.moment(raw)).min()
    };
    target.plan.records.iter().filter_map(of).max()
}
