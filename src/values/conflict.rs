//! What happens to a pushed record that somebody else has changed on the server since the client's cursor: the policies,
//! and the part of the decision that needs no database.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::server::memory::Gather;

/// A collection's answer to conflicts, given to `snapsync.enable` as `conflict`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ConflictPolicy {
    /// Nothing of the batch is applied; the client pulls, merges and pushes again. WatermelonDB's rule for backends:
    /// "if the record was changed on the server after `lastPulledAt`, abort the push".
    #[default]
    Reject,
    /// The record with the later `version_column` stands; an older one that is pushed is ignored.
    LastWriteWins,
    /// What was pushed stands.
    ClientWins,
    /// What is stored stands; the pushed record's id is returned in `experimentalRejectedIds`.
    ServerWins,
    /// Column by column: see [`merge`].
    Merge,
    /// A function of the application decides.
    Custom,
}

/// `conflict` names no policy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown conflict policy \"{0}\"")]
pub struct ConflictPolicyError(String);

impl ConflictPolicyError {
    /// The policies there are, for the HINT of the error.
    pub const HINT: &'static str =
        "The policies are reject, last_write_wins, client_wins, server_wins, merge and custom.";
}

impl ConflictPolicy {
    /// All policies, in the order of the documentation.
    pub const ALL: [ConflictPolicy; 6] = [
        ConflictPolicy::Reject,
        ConflictPolicy::LastWriteWins,
        ConflictPolicy::ClientWins,
        ConflictPolicy::ServerWins,
        ConflictPolicy::Merge,
        ConflictPolicy::Custom,
    ];

    /// The name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            ConflictPolicy::Reject => "reject",
            ConflictPolicy::LastWriteWins => "last_write_wins",
            ConflictPolicy::ClientWins => "client_wins",
            ConflictPolicy::ServerWins => "server_wins",
            ConflictPolicy::Merge => "merge",
            ConflictPolicy::Custom => "custom",
        }
    }

    /// The policy with this name, written exactly so.
    pub fn parse(name: &str) -> Result<Self, ConflictPolicyError> {
        let found = Self::ALL.into_iter().find(|policy| policy.name() == name);
        found.ok_or_else(|| ConflictPolicyError(crate::values::excerpt::cut(name, crate::values::excerpt::NAME)))
    }
}

/// What changed in a stored row since the client's cursor, as far as the log knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerChange<'a> {
    /// These columns, and the row is there. Empty: the row was touched, but nothing in it is different.
    Columns(BTreeSet<&'a str>),
    /// Something, but the log does not say which columns (an entry of an older version, or the row came into being).
    Unknown,
    /// The row was deleted.
    Deleted,
}

/// What becomes of a pushed record under [`ConflictPolicy::Merge`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merge<'a> {
    /// Write the columns that the client changed; leave all others as they are stored.
    Apply,
    /// Both sides changed these columns, in order of name. Empty: what the server changed is not known, or the row is gone.
    Conflict(Vec<&'a str>),
}

/// Merges by column: a conflict only where both sides changed the same column. `by_client` is WatermelonDB's `_changed`,
/// or the columns sent where there is none.
///
/// Not knowing is a conflict: writing over a change that nobody has seen is what this policy exists to prevent. A client
/// that changed nothing conflicts with nothing, except with a deletion, which leaves no row to leave as it is.
pub fn merge<'a>(by_client: impl IntoIterator<Item = &'a str>, on_server: &ServerChange<'_>) -> Merge<'a> {
    let mut by_client = by_client.into_iter().peekable();
    let both = match on_server {
        ServerChange::Deleted => return Merge::Conflict(Vec::new()),
        ServerChange::Unknown if by_client.peek().is_none() => return Merge::Apply,
        ServerChange::Unknown => return Merge::Conflict(Vec::new()),
        ServerChange::Columns(columns) => by_client.filter(|c| columns.contains(c)).gather::<BTreeSet<_>>(),
    };
    if both.is_empty() {
        Merge::Apply
    } else {
        Merge::Conflict(both.into_iter().gather())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_round_trip() {
        for policy in ConflictPolicy::ALL {
            assert_eq!(ConflictPolicy::parse(policy.name()), Ok(policy));
            assert!(ConflictPolicyError::HINT.contains(policy.name()));
        }
        assert_eq!(ConflictPolicy::default(), ConflictPolicy::Reject);
        assert_eq!(ConflictPolicy::parse("Reject").unwrap_err().to_string(), "unknown conflict policy \"Reject\"");
        assert!(ConflictPolicy::parse(&"x".repeat(1000)).unwrap_err().to_string().len() < 100);
    }

    fn columns<'a>(names: &[&'a str]) -> ServerChange<'a> {
        ServerChange::Columns(names.iter().copied().collect())
    }

    #[test]
    fn merges_by_column() {
        assert_eq!(merge(["title"], &columns(&["done"])), Merge::Apply);
        assert_eq!(merge(["title"], &columns(&[])), Merge::Apply);
        assert_eq!(merge([], &columns(&["done"])), Merge::Apply);
        assert_eq!(merge(["title", "done"], &columns(&["done", "x"])), Merge::Conflict(vec!["done"]));
        assert_eq!(merge(["b", "a", "b"], &columns(&["b", "a"])), Merge::Conflict(vec!["a", "b"]));
    }

    #[test]
    fn not_knowing_is_a_conflict() {
        assert_eq!(merge(["title"], &ServerChange::Unknown), Merge::Conflict(vec![]));
        assert_eq!(merge([], &ServerChange::Unknown), Merge::Apply);
        assert_eq!(merge(["title"], &ServerChange::Deleted), Merge::Conflict(vec![]));
        assert_eq!(merge([], &ServerChange::Deleted), Merge::Conflict(vec![]));
    }

    proptest! {
        #[test]
        fn conflicts_are_the_intersection(
            client in prop::collection::btree_set("[a-e]", 0..5),
            server in prop::collection::btree_set("[a-e]", 0..5),
        ) {
            let on_server = ServerChange::Columns(server.iter().map(String::as_str).collect());
            let both: Vec<&str> = client.intersection(&server).map(String::as_str).collect();
            match merge(client.iter().map(String::as_str), &on_server) {
                Merge::Apply => prop_assert!(both.is_empty()),
                Merge::Conflict(columns) => prop_assert!(!columns.is_empty() && columns == both),
            }
        }
    }
}
