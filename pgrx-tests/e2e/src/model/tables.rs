//! The tables of the model check: every kind of key, a partitioned table, a toasted column, a cascade.

use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::Result;
use postgres::Client;
use rand::Rng;

use crate::naive;
use crate::replica::Spec;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// uuid key
    Notes,
    /// child of notes, ON DELETE CASCADE
    Lines,
    /// bigint key
    Counters,
    /// composite key with characters that the wire id must encode
    Pairs,
    /// partitioned by list, one partition by hash again; rows move between partitions
    Events,
    /// a toasted column
    Docs,
    /// no primary key: a chosen unique key that is not named id
    Tags,
    /// a small table that is truncated now and then
    Small,
}

pub const ALL: [Table; 8] =
    [Table::Notes, Table::Lines, Table::Counters, Table::Pairs, Table::Events, Table::Docs, Table::Tags, Table::Small];

pub const REGIONS: [&str; 4] = ["eu", "us", "a/b", "ünïcode 'x' .%"];

impl Table {
    pub fn name(self) -> &'static str {
        match self {
            Self::Notes => "notes",
            Self::Lines => "lines",
            Self::Counters => "counters",
            Self::Pairs => "pairs",
            Self::Events => "events",
            Self::Docs => "docs",
            Self::Tags => "tags",
            Self::Small => "small",
        }
    }

    pub fn key(self) -> &'static [&'static str] {
        match self {
            Self::Pairs => &["tenant", "code"],
            Self::Events => &["region", "id"],
            Self::Tags => &["slug"],
            _ => &["id"],
        }
    }

    pub fn spec(self) -> Spec {
        Spec::new(self.name(), self.key())
    }
}

pub fn specs() -> Vec<Spec> {
    ALL.iter().map(|t| t.spec()).collect()
}

/// Rows are numbered per table; a row's key is made from its number, so that any writer can name any other's rows.
#[derive(Default)]
pub struct Numbers {
    next: [AtomicI64; ALL.len()],
}

impl Numbers {
    pub fn fresh(&self, table: Table) -> i64 {
        self.fresh_range(table, 1)
    }

    /// The first of `n` new numbers.
    pub fn fresh_range(&self, table: Table, n: i64) -> i64 {
        self.next[table as usize].fetch_add(n, Ordering::Relaxed) + 1
    }

    /// A number that was given out: often a recent one, so that writers meet, else any, so that a lost row has time to
    /// stay lost before somebody touches it again.
    pub fn known(&self, table: Table, rng: &mut impl Rng) -> i64 {
        let last = self.next[table as usize].load(Ordering::Relaxed).max(1);
        if rng.random_bool(0.7) {
            rng.random_range((last - 300).max(1)..=last)
        } else {
            rng.random_range(1..=last)
        }
    }
}

const DDL: &str = r"
CREATE TABLE notes (id uuid PRIMARY KEY, owner int NOT NULL, title text, n int, done boolean NOT NULL DEFAULT false,
                    made timestamptz NOT NULL DEFAULT now());
CREATE TABLE lines (id bigint PRIMARY KEY, note uuid NOT NULL REFERENCES notes ON DELETE CASCADE, t text, n int);
CREATE INDEX ON lines (note);
CREATE TABLE counters (id bigint PRIMARY KEY, label text, val int);
CREATE TABLE pairs (tenant int, code text, qty numeric, n int, PRIMARY KEY (tenant, code));
CREATE TABLE events (region text, id bigint, payload jsonb, n int, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
CREATE TABLE events_eu PARTITION OF events FOR VALUES IN ('eu');
CREATE TABLE events_us PARTITION OF events FOR VALUES IN ('us');
CREATE TABLE events_other PARTITION OF events DEFAULT PARTITION BY HASH (id);
CREATE TABLE events_other_0 PARTITION OF events_other FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE events_other_1 PARTITION OF events_other FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE docs (id uuid PRIMARY KEY, title text, n int, body text);
ALTER TABLE docs ALTER body SET STORAGE EXTERNAL;
CREATE TABLE tags (label text, n int, slug varchar(80) NOT NULL UNIQUE);
CREATE TABLE small (id int PRIMARY KEY, v text, n int);
";

/// Creates the tables and makes them collections, by the extension or by a naive cursor.
pub fn install(client: &mut Client, cursor: naive::Cursor) -> Result<()> {
    client.batch_execute(
        "DO $$ BEGIN CREATE ROLE app NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
         DO $$ BEGIN CREATE ROLE authenticator LOGIN NOINHERIT; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
         GRANT app TO authenticator;",
    )?;
    client.batch_execute(DDL)?;
    if cursor == naive::Cursor::Snapsync {
        client.batch_execute("CREATE EXTENSION snapsync")?;
        for table in ALL {
            if table == Table::Tags {
                client.execute("SELECT snapsync.enable('tags', key => '{slug}')", &[])?;
            } else {
                client.execute(&format!("SELECT snapsync.enable('{}')", table.name()), &[])?;
            }
        }
    } else {
        let keys: Vec<Vec<String>> = ALL.iter().map(|t| t.key().iter().map(|k| (*k).to_owned()).collect()).collect();
        let tables: Vec<naive::Table<'_>> =
            ALL.iter().zip(&keys).map(|(t, key)| naive::Table { name: t.name(), key }).collect();
        naive::install(client, cursor, &tables)?;
    }
    client.batch_execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO app")?;
    Ok(())
}
