//! What is kept of the log, and how long.

use crate::server::error::{code, Result, SyncError};
use crate::server::{pg, spi};

const PRUNE: &str = include_str!("retention/prune.sql");
const COMPACT: &str = include_str!("retention/compact.sql");

/// Drops what happened before `keep` ago from the log; returns how many entries. Clients whose cursor is older are reset by
/// an entry that takes the place of what is dropped: it is part of the log, so every snapshot sees one or the other.
pub fn prune(keep: pgrx::datum::Interval) -> Result<i64> {
    check_owner("prune")?;
    let keep = spi::arg(keep);
    let rows = spi::owner_query(
        "SELECT max(snapmin), $1 < interval '0' FROM snapsync.horizon WHERE at <= now() - $1",
        &[keep],
    )?;
    if rows.first().is_some_and(|r| r.bool(1)) {
        return Err(SyncError::new(code::INVALID_PARAMETER, "keep must not be negative")
            .hint("Pass how much to keep: '30 days'."));
    }
    let Some(mark) = rows.first().and_then(|r| r.i64(0)) else { return Ok(0) };
    one_at_a_time()?;
    let dropped = spi::owner_maintain(PRUNE, &[spi::arg(mark)])?;
    // What stands for the number of entries that were left (another transaction is dropping them, and may not) stays as well.
    spi::owner_maintain(
        "DELETE FROM snapsync.early AS e WHERE stamp < $1 AND NOT EXISTS (SELECT FROM snapsync.change WHERE stamp = e.early)",
        &[spi::arg(mark)],
    )?;
    spi::owner_maintain("DELETE FROM snapsync.horizon WHERE snapmin < $1", &[spi::arg(mark)])?;
    // A client that was not heard of for so long begins anew, with its first mutation: what failed then goes with it.
    spi::owner_maintain(
        "WITH forgotten AS (DELETE FROM snapsync.mutation_client WHERE ctid = ANY (ARRAY( \
             SELECT ctid FROM snapsync.mutation_client WHERE at < now() - $1 FOR UPDATE SKIP LOCKED)) RETURNING who, client_id) \
         DELETE FROM snapsync.mutation_failure AS f USING forgotten AS c WHERE f.who = c.who AND f.client_id = c.client_id",
        &[keep],
    )?;
    Ok(dropped.first().and_then(|r| r.i64(0)).unwrap_or(0))
}

/// Drops entries that later ones say as well, and returns how many: of a key that was updated a million times one entry is
/// left. No pull and no push answers otherwise for it, whatever its cursor.
///
/// *Why.* An UPDATE without image says: this row changed, and nobody's view of it did. A later entry of the same key in the same
/// scope says so to every cursor that the earlier one concerns, if it keeps what else the earlier one says: that somebody
/// else than its pusher did it (`origin`), which columns it touched (none noted: any), and that it is not as sent. Exception:
/// if the same transaction logged inner images (`u`, `d`) of this key, the entry also proves that the row existed before the
/// transaction, which read.rs needs; so it is kept. So is word for one client (`columns` is `{0}`), which says that a row is gone.
pub fn compact() -> Result<i64> {
    check_owner("compact")?;
    one_at_a_time()?;
    let dropped = spi::owner_maintain(COMPACT, &[])?;
    Ok(dropped.first().and_then(|r| r.i64(0)).unwrap_or(0))
}

fn check_owner(what: &str) -> Result<()> {
    let allowed = spi::owner_query(
        "SELECT pg_has_role($1, relowner, 'USAGE') FROM pg_class WHERE oid = 'snapsync.change'::regclass",
        &[spi::arg(pg::current_user())],
    )?;
    if allowed.first().is_some_and(|r| r.bool(0)) {
        return Ok(());
    }
    Err(SyncError::new(code::INSUFFICIENT_PRIVILEGE, format!("must be owner of extension snapsync to {what} its log"))
        .hint("Call it as a superuser."))
}

/// Two would each see the other's old entries.
fn one_at_a_time() -> Result<()> {
    spi::owner_execute("LOCK TABLE snapsync.horizon IN SHARE UPDATE EXCLUSIVE MODE", &[]).map(|_| ())
}
