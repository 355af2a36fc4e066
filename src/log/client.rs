//! Who calls: a user, and one of the user's devices.

use std::collections::HashMap;

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::server::error::{code, Result, SyncError};
use crate::server::{http, pg};

/// In bytes. The log keeps the id with every change that was pushed under it; a uuid has 36.
const LONGEST: usize = 200;

/// A device that has no id must not share one with others that have none: their changes would be taken for its own.
pub fn check(client_id: Option<&str>) -> Result<()> {
    match client_id {
        Some("") => {
            Err(malformed("It is empty.").hint("Pass a random uuid that the device keeps, or leave client_id out."))
        }
        Some(id) => check_required(id),
        None => Ok(()),
    }
}

/// Where it cannot be left out.
pub fn check_required(client_id: &str) -> Result<()> {
    let detail = match client_id.len() {
        0 => "It is empty.".to_string(),
        1..=LONGEST => return Ok(()),
        len => format!("It has {len} bytes, {LONGEST} at most."),
    };
    Err(malformed(detail).hint("Pass a random uuid that the device keeps."))
}

fn malformed(detail: impl Into<String>) -> SyncError {
    SyncError::new(code::INVALID_PARAMETER, "malformed client_id").detail(detail)
}

/// Whom a notice in the log is for (push/standing.rs).
pub struct Address {
    pub who: String,
    /// With one of the devices, if it said which.
    pub text: String,
}

impl Address {
    pub fn of(client_id: Option<&str>) -> Result<Address> {
        let who = who()?;
        let text = serde_json::to_string(&(&who, client_id)).unwrap_or_default();
        Ok(Address { who, text })
    }
}

/// What the addresses of all devices of the caller begin with.
pub fn addresses() -> Result<String> {
    let mut text = Address::of(None)?.text;
    // As a list: ["who",null]
    text.truncate(text.len().saturating_sub("null]".len()));
    Ok(text)
}

/// Whose call this is: the calling role, and where all users share one (PostgREST), which of them signed in. Otherwise a device
/// that somebody else signs in on would have his mutations taken for those of the one before.
pub fn who() -> Result<String> {
    let role = pg::role_name(pg::current_user())?.to_string_lossy().into_owned();
    Ok(bounded(&role, identity(&role, http::setting(c"request.jwt.claims").as_deref())))
}

/// A `sub` of any length would make the log's word for its user as long, and others would read past it. With a third part no `sub` comes to
/// the same.
fn bounded(role: &str, identity: String) -> String {
    if identity.len() <= LONGEST {
        return identity;
    }
    let digest = Sha256::digest(identity.as_bytes());
    serde_json::json!([role, "sha256", digest.as_slice()]).to_string()
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

#[cfg(test)]
mod tests {
    use super::{bounded, identity, LONGEST};

    #[test]
    fn nobody_is_longer_than_a_line() {
        let who = |sub: &str| bounded("a", identity("a", Some(&serde_json::json!({ "sub": sub }).to_string())));
        assert_eq!(who("A"), r#"["a","A"]"#);
        let (long, other) = (who(&"x".repeat(5_000_000)), who(&"x".repeat(5_000_001)));
        assert!(long.starts_with(r#"["a","sha256","#) && long.len() <= LONGEST && long != other, "{long}");
    }

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
