//! What `snapsync.doctor()` needs besides SQL (`sql/07_doctor.sql`).

use pgrx::pg_sys;

use crate::policies::{early, wide};
use crate::server::error::Result;
use crate::server::spi::{self, Mode, Row};
use crate::server::{pg, statement, subxact};

/// What there is to say to the calling role: the one that the call is made with, whoever opened the session.
pub fn findings() -> Result<Vec<Row>> {
    let who = pg::current_user();
    spi::as_owner(|| spi::query("SELECT * FROM snapsync.findings($1)", &[spi::arg(who)], Mode::Read))
}

/// What a policy asks for, as SQL. None where that cannot be had: nested too deep, say, or long to write, or while another session keeps a table to
/// itself that the policy reads. One table's policy must not keep the owners of others from their findings.
pub fn policy_text(policy: pg_sys::Oid) -> Result<Option<String>> {
    let locked = spi::owner_query(
        "SELECT polrelid FROM pg_policy WHERE oid = $1 UNION SELECT refobjid FROM pg_depend \
          WHERE classid = 'pg_policy'::regclass AND objid = $1 AND refclassid = 'pg_class'::regclass",
        &[spi::arg(policy)],
    )?;
    let text = subxact::try_out(|| {
        if !locked.iter().all(|r| pg::lock_without_waiting(r.oid(0))) {
            return Ok(None);
        }
        const STORED: &str = "SELECT polqual::text, polrelid FROM pg_policy WHERE oid = $1";
        for stored in &spi::owner_query(STORED, &[spi::arg(policy)])? {
            if stored.text(0).map_or(Ok(false), |tree| wide::is_wide(tree, stored.oid(1)))? {
                return Ok(None);
            }
        }
        const TEXT: &str = "SELECT pg_get_expr(polqual, polrelid) FROM pg_policy WHERE oid = $1";
        let rows = spi::owner_query(TEXT, &[spi::arg(policy)])?;
        Ok(rows.first().and_then(|r| r.text(0)).map(str::to_string))
    });
    match text {
        Err(e) if e.is_cancellation() => Err(e),
        text => Ok(text.ok().flatten()),
    }
}

/// The functions in a policy that planning it calls, as the text of an array of oids. None where that cannot be had.
pub fn planned_calls(policy: pg_sys::Oid) -> Result<Option<String>> {
    const STORED: &str = "SELECT polqual::text FROM pg_policy WHERE oid = $1";
    let stored = spi::owner_query(STORED, &[spi::arg(policy)])?;
    let Some(tree) = stored.first().and_then(|r| r.text(0)) else { return Ok(None) };
    match subxact::try_out(|| early::calls_in(tree)) {
        Err(e) if e.is_cancellation() => Err(e),
        calls => Ok(calls.ok().map(|oids| format!("{{{}}}", oids.join(",")))),
    }
}

/// Are old values of columns of this type read (sight/old_rows.rs)? Where that cannot be had, the type is gone, and the column with it.
pub fn reads_back(type_: pg_sys::Oid) -> Result<bool> {
    match subxact::try_out(|| Ok(statement::input_runs_nothing(pg::base_type(type_)))) {
        Err(e) if e.is_cancellation() => Err(e),
        known => Ok(known.unwrap_or(true)),
    }
}
