//! What a poke says: that rows of a collection changed, in which scope and how. Never a row, an id or a scope's value.

use serde::Deserialize;
use thiserror::Error;

use crate::values::excerpt;
use crate::values::token::seal;

/// Who is poked, given to `snapsync.enable` as `notify`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Notify {
    #[default]
    None,
    /// Who listens to the channel.
    #[serde(rename = "notify")]
    Channel,
    /// Who has joined a topic of Supabase Realtime.
    Realtime,
    Both,
}

/// `notify` names no way.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown way to notify \"{0}\"")]
pub struct NotifyError(String);

impl NotifyError {
    /// The ways there are, for the HINT of the error.
    pub const HINT: &'static str = "The ways are none, notify, realtime and both.";
}

impl Notify {
    const ALL: [Notify; 4] = [Notify::None, Notify::Channel, Notify::Realtime, Notify::Both];

    /// The name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Notify::None => "none",
            Notify::Channel => "notify",
            Notify::Realtime => "realtime",
            Notify::Both => "both",
        }
    }

    /// The way with this name, written exactly so.
    pub fn parse(name: &str) -> Result<Self, NotifyError> {
        let found = Self::ALL.into_iter().find(|way| way.name() == name);
        found.ok_or_else(|| NotifyError(excerpt::cut(name, excerpt::NAME)))
    }

    pub fn by_channel(self) -> bool {
        matches!(self, Notify::Channel | Notify::Both)
    }

    pub fn by_realtime(self) -> bool {
        matches!(self, Notify::Realtime | Notify::Both)
    }
}

/// What happened to rows: a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Actions(u8);

impl Actions {
    pub const INSERT: Actions = Actions(1);
    pub const UPDATE: Actions = Actions(2);
    pub const DELETE: Actions = Actions(4);
    /// Other rows changed that decide who sees them.
    pub const ACCESS: Actions = Actions(8);
    pub const INSERT_OR_DELETE: Actions = Actions(5);
    /// All that can happen to rows: after a TRUNCATE or the like.
    pub const ANY: Actions = Actions(7);

    pub fn add(&mut self, more: Actions) {
        self.0 |= more.0;
    }

    pub fn has(self, any_of: Actions) -> bool {
        self.0 & any_of.0 != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn names(self) -> Vec<&'static str> {
        let all = [
            (Actions::INSERT, "insert"),
            (Actions::UPDATE, "update"),
            (Actions::DELETE, "delete"),
            (Actions::ACCESS, "access"),
        ];
        all.into_iter().filter(|(action, _)| self.has(*action)).map(|(_, name)| name).collect()
    }
}

/// The payload of a poke: JSON. Without a scope it concerns every one.
pub fn payload(collection: &str, actions: Actions, stamp: i64, scope: Option<&str>) -> String {
    let mut payload = serde_json::json!({ "collection": collection, "actions": actions.names(), "stamp": stamp });
    if let Some(scope) = scope {
        payload["scope"] = scope.into();
    }
    payload.to_string()
}

/// What a poke calls a scope: nobody who does not know the key learns from it which one it is, or could find out by trying.
pub fn scope_hash(key: &[u8; 32], database: u32, collection: &str, scope: &str) -> String {
    let mut bytes = b"snapsync poke".to_vec();
    bytes.extend(database.to_be_bytes());
    bytes.extend((collection.len() as u64).to_be_bytes());
    bytes.extend(collection.as_bytes());
    bytes.extend(scope.as_bytes());
    seal(&bytes, key).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_has_a_name() {
        for way in Notify::ALL {
            assert_eq!(Notify::parse(way.name()), Ok(way));
            assert_eq!(serde_json::from_str::<Notify>(&format!("\"{}\"", way.name())).ok(), Some(way));
            assert_eq!(way == Notify::None, !way.by_channel() && !way.by_realtime());
        }
        assert!(Notify::parse("Both").is_err());
    }

    #[test]
    fn a_poke_says_no_more_than_it_must() {
        let mut actions = Actions::INSERT;
        actions.add(Actions::DELETE);
        assert_eq!(
            payload("a\"b", actions, 8, None),
            r#"{"actions":["insert","delete"],"collection":"a\"b","stamp":8}"#
        );
        let scope = scope_hash(&[7; 32], 5, "todos", "acme");
        assert_eq!(scope.len(), 32);
        assert!(payload("todos", Actions::ANY, 8, Some(&scope)).contains(&scope));
        assert_eq!(scope, scope_hash(&[7; 32], 5, "todos", "acme"));
        for other in [
            scope_hash(&[8; 32], 5, "todos", "acme"),
            scope_hash(&[7; 32], 6, "todos", "acme"),
            scope_hash(&[7; 32], 5, "todo", "sacme"),
            scope_hash(&[7; 32], 5, "todos", "acm"),
        ] {
            assert_ne!(scope, other);
        }
    }

    #[test]
    fn the_longest_poke_fits_a_notification() {
        let name = "\u{1}".repeat(255);
        let mut all = Actions::ANY;
        all.add(Actions::ACCESS);
        assert!(payload(&name, all, i64::MAX, Some(&"f".repeat(32))).len() < 8000);
    }
}
