//! Random session settings: of those who write and change the schema, and of those who pull. None may change what a policy, a predicate
//! or a scope means.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::Rng;
use serde::{Deserialize, Serialize};

/// Name, what a session has unless told otherwise, and what bites.
const VALUES: [(&str, &str, &[&str]); 9] = [
    ("DateStyle", "ISO, MDY", &["ISO, DMY", "SQL, MDY", "SQL, DMY", "German", "Postgres, MDY", "Postgres, DMY"]),
    // CST and IST mean other zones to who reads them.
    ("TimeZone", "UTC", &["Europe/Berlin", "Asia/Shanghai", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe"]),
    ("IntervalStyle", "postgres", &["postgres_verbose", "sql_standard", "iso_8601"]),
    ("extra_float_digits", "1", &["-15", "-3", "0", "3"]),
    ("array_nulls", "on", &["off"]),
    ("quote_all_identifiers", "off", &["on"]),
    ("standard_conforming_strings", "on", &["off"]),
    ("bytea_output", "hex", &["escape"]),
    ("row_security", "on", &["off"]),
];

const SEARCH_PATH: &str = "search_path";
const OWN_PATH: &str = "public";

/// Whose session it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Names in its statements mean what they say: no schema of others comes first.
    Writes,
    /// Its names are qualified: any path.
    Pulls,
}

impl Side {
    fn paths(self) -> &'static [&'static str] {
        match self {
            Self::Writes => &["public, lib", "lib, public", "public, sneak", "public, lib, sneak"],
            Self::Pulls => &[
                "sneak, public",
                "sneak, pg_catalog, public",
                "sneak, lib, public",
                "sneak, pg_catalog, lib, public",
                "public, sneak",
                "lib, public",
                "",
            ],
        }
    }
}

/// What a session has set other than usual.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Settings(Vec<(String, String)>);

impl Settings {
    pub fn random(rng: &mut StdRng, side: Side) -> Self {
        let mut set = Vec::new();
        if rng.random_bool(0.3) {
            return Self(set);
        }
        for (name, _, others) in VALUES {
            let share = if name == "row_security" { 0.02 } else { 0.3 };
            if rng.random_bool(share) {
                set.push((name.to_owned(), (*others.choose(rng).expect("not empty")).to_owned()));
            }
        }
        if rng.random_bool(0.4) {
            set.push((SEARCH_PATH.to_owned(), (*side.paths().choose(rng).expect("not empty")).to_owned()));
        }
        Self(set)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// One less.
    pub fn without(&self, at: usize) -> Self {
        let mut fewer = self.0.clone();
        fewer.remove(at);
        Self(fewer)
    }

    /// With the search path that the statement's own names need.
    pub fn with_own_path(&self) -> Self {
        Self(self.0.iter().filter(|(name, _)| name != SEARCH_PATH).cloned().collect())
    }

    pub fn row_security_off(&self) -> bool {
        self.0.iter().any(|(name, value)| name == "row_security" && value == "off")
    }

    /// Sets all that this module knows, for the transaction or the session.
    pub fn sql(&self, local: bool) -> String {
        let value = |name: &str, usual: &'static str| {
            let set = self.0.iter().find(|(n, _)| n == name).map_or(usual, |(_, value)| value.as_str());
            format!("pg_catalog.set_config('{name}', '{set}', {local})")
        };
        let mut all: Vec<String> = VALUES.iter().map(|(name, usual, _)| value(name, usual)).collect();
        all.push(value(SEARCH_PATH, OWN_PATH));
        format!("SELECT {}", all.join(", "))
    }

    /// As a person would type it, for the report.
    pub fn describe(&self) -> String {
        self.0.iter().map(|(name, value)| format!("SET {name} = {}; ", quoted(value))).collect()
    }
}

fn quoted(value: &str) -> String {
    // A list of schemas is not one string.
    if value.is_empty() || !value.contains("public") {
        format!("'{value}'")
    } else {
        value.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_set() {
        let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let some = Settings(vec![set("DateStyle", "SQL, DMY"), set("search_path", "sneak, public")]);
        assert_eq!(some.describe(), "SET DateStyle = 'SQL, DMY'; SET search_path = sneak, public; ");
        let sql = some.sql(true);
        assert!(sql.contains("set_config('DateStyle', 'SQL, DMY', true)") && sql.contains("'sneak, public'"), "{sql}");
        assert!(sql.contains("set_config('TimeZone', 'UTC', true)"), "{sql}");
        assert!(some.with_own_path().sql(false).contains("set_config('search_path', 'public', false)"));
        assert_eq!(some.without(0).describe(), "SET search_path = sneak, public; ");
    }
}
