//! The data that is measured on: a database for each group, tables of eight columns as an application has them.

use anyhow::{ensure, Result};
use serde_json::Value;

use crate::wire::Wire;
use snapsync_e2e::cluster::Cluster;

/// The user whose rows they are.
pub const ME: &str = "00000000-0000-4000-8000-00000000000a";

/// What differs from a cluster as initdb makes it; the report quotes it.
pub const SETTINGS: &[(&str, &str)] = &[
    ("shared_buffers", "2GB"),
    ("max_connections", "620"),
    ("wal_level", "replica"),
    ("max_wal_size", "16GB"),
    ("checkpoint_timeout", "1h"),
    // Its visits would fall on one side of a comparison or the other; tables are vacuumed between the runs instead.
    ("autovacuum", "off"),
    ("synchronous_commit", "off"),
];

/// The columns after the key, which stands first.
pub const COLUMNS: &str = "id, user_id, title, done, priority, amount, created_at, updated_at";

/// How many characters titles have: as to-dos are, and so that 900,000 rows make an answer of 430 MB.
pub const SHORT: usize = 40;
pub const LONG: usize = 230;

const DDL: &str = r#"
CREATE EXTENSION snapsync;
CREATE SCHEMA auth;
-- As Supabase has it.
CREATE FUNCTION auth.uid() RETURNS uuid STABLE LANGUAGE sql AS $$
  SELECT coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''),
                  (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid
$$;
GRANT USAGE ON SCHEMA auth TO app;
-- Row number n of a table; ids as random as version 4's.
CREATE FUNCTION nth_id(n bigint) RETURNS uuid IMMUTABLE LANGUAGE sql AS $$ SELECT md5('row ' || n)::uuid $$;
CREATE FUNCTION nth_title(n bigint, width int) RETURNS text IMMUTABLE LANGUAGE sql AS $$
  SELECT rpad((ARRAY['Call the plumber about the kitchen tap', 'Reply to Ann: the offer for the roof',
                     'Buy milk, bread and "the good" coffee', 'Grüße an Jörg, wegen Samstag anrufen',
                     'Read chapter on transactions again', 'Book the train to Lyon, window seat'])[n % 6 + 1] || ' ' || n, width, '.')
$$;
"#;

/// A database with the extension, and a superuser's connection to it.
pub struct World<'c> {
    cluster: &'c Cluster,
    pub database: String,
    pub admin: Wire,
}

/// What a table is for.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Tracked,
    /// The same, and snapsync does not know it.
    Plain,
}

impl<'c> World<'c> {
    pub fn new(cluster: &'c Cluster, name: &str) -> Result<Self> {
        let database = cluster.create_database(name)?;
        let mut admin = Wire::connect(&cluster.config(&database))?;
        admin.run(DDL)?;
        Ok(World { cluster, database, admin })
    }

    /// The roles that sessions use, once for the cluster.
    pub fn roles(cluster: &Cluster) -> Result<()> {
        Wire::connect(&cluster.config("postgres"))?
            .run("CREATE ROLE app NOLOGIN; CREATE ROLE authenticator LOGIN NOINHERIT; GRANT app TO authenticator")?;
        Ok(())
    }

    /// A table of so many rows, all of them of `ME`, under row-level security, vacuumed and analyzed.
    pub fn table(&mut self, name: &str, rows: u64, width: usize, kind: Kind) -> Result<()> {
        self.admin.run(&format!(
            "CREATE TABLE {name} (id uuid PRIMARY KEY, user_id uuid NOT NULL, title text NOT NULL, done boolean NOT NULL, \
             priority int NOT NULL, amount numeric(12,2) NOT NULL, created_at timestamptz NOT NULL, \
             updated_at timestamptz NOT NULL); \
             INSERT INTO {name} SELECT {}; \
             CREATE INDEX ON {name} (user_id); \
             CREATE POLICY own ON {name} USING (user_id = (SELECT auth.uid())); \
             ALTER TABLE {name} ENABLE ROW LEVEL SECURITY; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON {name} TO app",
            rows_sql("1", &rows.to_string(), width)
        ))?;
        if kind == Kind::Tracked {
            self.admin.run(&format!("SELECT snapsync.enable('{name}')"))?;
        }
        self.vacuum(name)
    }

    /// Not in one with other statements: VACUUM wants a transaction of its own.
    pub fn vacuum(&mut self, table: &str) -> Result<()> {
        self.admin.run(&format!("VACUUM (ANALYZE) {table}"))?;
        Ok(())
    }

    /// A session of the user, as PostgREST has it within a transaction: role `app`, the claims set.
    pub fn session(&self) -> Result<Wire> {
        self.session_of(ME)
    }

    pub fn session_of(&self, user: &str) -> Result<Wire> {
        let mut wire = Wire::connect(self.cluster.config(&self.database).user("authenticator"))?;
        wire.run(&format!(
            "SET ROLE app; SELECT set_config('request.jwt.claims', '{{\"role\":\"app\",\"sub\":\"{user}\"}}', false)"
        ))?;
        Ok(wire)
    }

    /// A superuser's, who owns the tables: no row-level security.
    pub fn owner(&self) -> Result<Wire> {
        Wire::connect(&self.cluster.config(&self.database))
    }
}

/// `SELECT` rows `from` to `to` (SQL expressions), in the order of the columns.
pub fn rows_sql(from: &str, to: &str, width: usize) -> String {
    format!(
        "nth_id(n) AS id, '{ME}'::uuid AS user_id, nth_title(n, {width}) AS title, n % 3 = 0 AS done, \
         (n % 1000)::int AS priority, ((n * 7919) % 1000000 / 100.0)::numeric(12,2) AS amount, \
         '2026-01-01T08:00:00.123456Z'::timestamptz + n * '1.000123s'::interval AS created_at, \
         '2026-03-01T09:30:00.654321Z'::timestamptz + n * '1.000077s'::interval AS updated_at \
         FROM generate_series({from}::bigint, {to}::bigint) n"
    )
}

/// The cursor of a client that is up to date. It belongs to no collection, so none needs to be pulled for it.
pub fn cursor(wire: &mut Wire) -> Result<i64> {
    Ok(wire.text("SELECT pull_changes('{}') ->> 'timestamp'")?.parse()?)
}

/// How many rows of a collection an answer brings.
pub fn count(answer: &str, collection: &str) -> Result<usize> {
    let answer: Value = serde_json::from_str(answer)?;
    ensure!(answer.get("experimentalStrategy").is_none(), "the pull was a reset");
    let changes = &answer["changes"][collection];
    Ok(["created", "updated", "deleted"].iter().map(|k| changes[k].as_array().map_or(0, Vec::len)).sum())
}
