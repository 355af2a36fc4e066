//! `push_id`: a push is carried out once per user and id, also when its answer was lost or when it comes twice at a time.
//!
//! A row of `snapsync.push` with a unique key is the lock: the second call waits for the first one's end, then finds its
//! answer, or nothing if the first one failed. The row says of what payload the id was, by its digest: an id that comes
//! with another payload is a mistake (or somebody guessing), and must get neither silence nor another's answer.

use std::collections::HashMap;

use serde_json::value::RawValue;

use super::Request;
use crate::error::{code, Result, SyncError};
use crate::registry::{owner_execute, owner_query};
use crate::{settings, spi};

pub enum Claim {
    /// Nobody has carried it out yet.
    First(Pending),
    Answered(String),
}

/// A claim that has to be answered.
pub struct Pending {
    push_id: String,
    who: String,
}

/// How many outdated answers a call removes on its way.
const PRUNED_AT_ONCE: i32 = 100;

pub fn claim(push_id: &str, request: &Request) -> Result<Claim> {
    let who = who()?;
    let args = [spi::arg(who.as_str()), spi::arg(push_id), spi::arg(request.changes)];
    // Without last_pulled_at: who lost the answer may have pulled before he sends the batch again.
    const DIGEST: &str = "sha256(convert_to($3, 'UTF8'))";
    let claimed = owner_query(
        &format!(
            "INSERT INTO snapsync.push (who, push_id, digest, at) VALUES ($1, $2::uuid, {DIGEST}, now()) \
             ON CONFLICT (who, push_id) DO NOTHING RETURNING true"
        ),
        &args,
    )?;
    if !claimed.is_empty() {
        prune()?;
        return Ok(Claim::First(Pending { push_id: push_id.to_string(), who }));
    }
    let answers = owner_query(
        &format!("SELECT digest = {DIGEST}, answer FROM snapsync.push WHERE who = $1 AND push_id = $2::uuid"),
        &args,
    )?;
    match answers.first() {
        Some(row) if row.bool(0) => Ok(Claim::Answered(row.text(1).unwrap_or("{}").to_string())),
        Some(_) => Err(SyncError::new(code::INVALID_PARAMETER, "push_id was used for other changes")
            .hint("Make a new push_id for every batch; send the same one only with the same batch.")),
        // It was pruned between the two statements.
        None => Err(SyncError::new("40001", "push_id is being forgotten").hint("Push again.")),
    }
}

impl Pending {
    pub fn answer(self, answer: &str) -> Result<()> {
        owner_execute(
            "UPDATE snapsync.push SET answer = $3 WHERE who = $1 AND push_id = $2::uuid",
            &[spi::arg(self.who.as_str()), spi::arg(self.push_id.as_str()), spi::arg(answer)],
        )?;
        Ok(())
    }
}

/// Whose call this is: the calling role, and where all users share one (PostgREST), which of them signed in. Otherwise a device
/// that somebody else signs in on would have his mutations taken for those of the one before.
pub fn who() -> Result<String> {
    let claims = "SELECT CURRENT_USER::pg_catalog.text, pg_catalog.current_setting('request.jwt.claims', true)";
    let rows = spi::query(claims, &[], spi::Mode::Read)?;
    Ok(rows.first().map(|row| identity(&row.string(0), row.text(1))).unwrap_or_default())
}

/// `["role"]` or `["role",sub]`, the `sub` of the claims being of any JSON type: a number is not the text of its digits, and keeps
/// all of them.
fn identity(role: &str, claims: Option<&str>) -> String {
    let claims: HashMap<String, Box<RawValue>> = claims.and_then(|c| serde_json::from_str(c).ok()).unwrap_or_default();
    let role = serde_json::Value::from(role).to_string();
    match claims.get("sub").map(|sub| sub.get()).filter(|sub| *sub != "null") {
        // One text can be written in several ways.
        Some(sub) if sub.starts_with('"') => {
            let text: Option<String> = serde_json::from_str(sub).ok();
            format!("[{role},{}]", text.map_or(sub.to_string(), |t| serde_json::Value::from(t).to_string()))
        }
        Some(sub) => format!("[{role},{sub}]"),
        None => format!("[{role}]"),
    }
}

/// Deletes answers older than `snapsync.push_retention`, a few at a time, skipping rows that another session is deleting.
pub fn prune() -> Result<()> {
    for table in ["push", "mutation_failure"] {
        owner_execute(
            &format!(
                "DELETE FROM snapsync.{table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM snapsync.{table} \
                 WHERE at < now() - $1 * interval '1 second' ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED))"
            ),
            &[spi::arg(f64::from(settings::push_retention_seconds())), spi::arg(PRUNED_AT_ONCE)],
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::identity;

    #[test]
    fn nobody_is_somebody_else() {
        assert_eq!(identity("alice", None), r#"["alice"]"#);
        assert_eq!(identity("a", Some(r#"{"role": "a", "sub": "A"}"#)), r#"["a","A"]"#);
        assert_eq!(identity("a/A", None), r#"["a/A"]"#);
        assert_eq!(identity("a\",\"A", None), r#"["a\",\"A"]"#);
        assert_eq!(identity("a", Some(r#"{"sub": 7}"#)), r#"["a",7]"#);
        assert_eq!(identity("a", Some(r#"{"sub": "7"}"#)), r#"["a","7"]"#);
        assert_eq!(identity("a", Some(r#"{"sub": 9007199254740993}"#)), r#"["a",9007199254740993]"#);
        assert_eq!(identity("a", Some(r#"{"sub": "\u0041", "sub": "\u0042"}"#)), r#"["a","B"]"#);
        for none in [r#"{"sub": null}"#, "{}", "", "no JSON", "[]"] {
            assert_eq!(identity("a", Some(none)), r#"["a"]"#);
        }
    }
}
