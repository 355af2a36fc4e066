//! What is kept of the log, and how long.

use crate::server::error::{code, Result, SyncError};
use crate::server::{pg, spi};

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
    let dropped = spi::owner_query(
        // What `disable` is just dropping is not waited for.
        "WITH old AS (SELECT ctid FROM snapsync.change WHERE stamp < $1 \
                          AND stamp NOT IN (SELECT early FROM snapsync.early WHERE stamp >= $1) FOR UPDATE SKIP LOCKED), \
              dropped AS (DELETE FROM snapsync.change AS c USING old WHERE c.ctid = old.ctid RETURNING c.relation, c.op, c.stamp), \
              marks AS (INSERT INTO snapsync.change (relation, ord, stamp, op, key) \
                        SELECT DISTINCT relation, 0, $1 - 1, 'R'::\"char\", '' FROM dropped) \
         SELECT count(*) FROM dropped WHERE NOT (op = 'R' AND stamp = $1 - 1)",
        &[spi::arg(mark)],
    )?;
    spi::owner_execute("DELETE FROM snapsync.early WHERE stamp < $1", &[spi::arg(mark)])?;
    spi::owner_execute("DELETE FROM snapsync.horizon WHERE snapmin < $1", &[spi::arg(mark)])?;
    // A client that was not heard of for so long begins anew, with its first mutation: what failed then goes with it.
    spi::owner_execute(
        "WITH forgotten AS (DELETE FROM snapsync.mutation_client WHERE at < now() - $1 RETURNING who, client_id) \
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
/// transaction, which log.rs needs; so it is kept. So is word for one client (`columns` is `{0}`), which says that a row is gone.
pub fn compact() -> Result<i64> {
    check_owner("compact")?;
    one_at_a_time()?;
    let dropped = spi::owner_query(
        "WITH entry AS ( \
             SELECT c.ctid AS place, e.key, upper(c.op::text) = 'U' AND c.image IS NULL AND lead(c.stamp) OVER later IS NOT NULL \
                    AND NOT (c.op = 'U' AND bool_or(c.op IN ('u', 'd') AND c.image IS NOT NULL) OVER same_stamp) \
                    AND coalesce(lead(c.origin) OVER later = c.origin, lead(c.origin) OVER later IS NULL) \
                    AND coalesce(c.columns <@ lead(c.columns) OVER later, lead(c.columns) OVER later IS NULL) \
                    AND NOT (lead(c.as_sent) OVER later IS NOT NULL AND c.as_sent IS NULL) \
                    AND c.columns IS DISTINCT FROM '{0}' AS superseded \
             FROM snapsync.change AS c LEFT JOIN snapsync.early AS w ON w.early = c.stamp \
                  CROSS JOIN LATERAL unnest(coalesce(c.keys, ARRAY[c.key])) AS e(key) \
             WHERE c.op <> 'R' \
             WINDOW later AS (PARTITION BY c.relation, c.scope, e.key ORDER BY coalesce(w.stamp, c.stamp), c.ord), \
                    same_stamp AS (PARTITION BY c.relation, c.scope, e.key, c.stamp)), \
         thinned AS ( \
             SELECT place, array_agg(key) FILTER (WHERE NOT superseded) AS keys, count(*) FILTER (WHERE superseded) AS dropped \
             FROM entry GROUP BY place HAVING bool_or(superseded)), \
         ours AS (SELECT t.* FROM thinned AS t JOIN snapsync.change AS c ON c.ctid = t.place FOR UPDATE OF c SKIP LOCKED), \
         emptied AS (DELETE FROM snapsync.change AS c USING ours AS t WHERE c.ctid = t.place AND t.keys IS NULL), \
         left_over AS (UPDATE snapsync.change AS c SET keys = t.keys FROM ours AS t WHERE c.ctid = t.place AND t.keys IS NOT NULL) \
         SELECT coalesce(sum(dropped), 0) FROM ours",
        &[],
    )?;
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
