//! The database under test: a table for everybody, one with an owner in each row, one whose rows belong to teams.

use std::sync::{Arc, Mutex};

use anyhow::Result;
use postgres::{Client, Config, NoTls};

use crate::cluster::Cluster;
use crate::replica::{Difference, Replica, Spec};

pub const DATABASE: &str = "app";
pub const ROLES: [&str; 3] = ["u1", "u2", "u3"];
pub const TABLES: [&str; 3] = ["items", "notes", "docs"];

const SCHEMA: &str = "
    CREATE EXTENSION snapsync;
    CREATE TABLE items (id int PRIMARY KEY, v text, n bigint);
    CREATE TABLE notes (id int PRIMARY KEY, owner text NOT NULL, n bigint);
    CREATE TABLE members (who text, team int, PRIMARY KEY (who, team));
    CREATE TABLE docs (id int PRIMARY KEY, team int NOT NULL, n bigint);
    ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
    ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON notes USING (owner = current_user);
    CREATE POLICY team ON docs USING (team IN (SELECT team FROM members WHERE who = current_user));
    GRANT SELECT, INSERT, UPDATE, DELETE ON items, notes, docs TO u1, u2, u3;
    GRANT SELECT ON members TO u1, u2, u3;
    CREATE INDEX ON notes (owner);
    CREATE INDEX ON docs (team);
    SELECT snapsync.enable('items'), snapsync.enable('notes'), snapsync.enable('docs');
    INSERT INTO items SELECT i, 'first', i FROM generate_series(1, 200) AS i;
    INSERT INTO notes SELECT i, 'u' || 1 + i % 3, i FROM generate_series(1, 200) AS i;
    INSERT INTO members VALUES ('u1', 1), ('u2', 2), ('u3', 3), ('u1', 4), ('u2', 4);
    INSERT INTO docs SELECT i, 1 + i % 5, i FROM generate_series(1, 200) AS i;";

pub fn make(cluster: &Cluster) -> Result<()> {
    let mut client = cluster.connect("postgres")?;
    for role in ROLES {
        client.batch_execute(&format!("CREATE ROLE {role} LOGIN"))?;
    }
    client.batch_execute(&format!("CREATE DATABASE {DATABASE} TEMPLATE template0"))?;
    let mut owner = cluster.connect(DATABASE)?;
    owner.batch_execute(SCHEMA)?;
    // A horizon from after enable(): a first pull under an old snapshot would take that for news.
    std::thread::sleep(std::time::Duration::from_millis(20));
    Ok(owner.batch_execute("UPDATE items SET n = n + 1 WHERE id = 1")?)
}

/// Where clients find the server now; a fault may move it.
#[derive(Clone)]
pub struct Address(Arc<Mutex<Config>>);

impl Address {
    pub fn of(cluster: &Cluster, database: &str) -> Self {
        Self(Arc::new(Mutex::new(cluster.config(database))))
    }

    pub fn move_to(&self, cluster: &Cluster, database: &str) {
        *self.0.lock().unwrap() = cluster.config(database);
    }

    pub fn connect(&self, role: &str) -> Result<Client> {
        let mut config = self.0.lock().unwrap().clone();
        Ok(config.user(role).connect_timeout(std::time::Duration::from_secs(5)).connect(NoTls)?)
    }
}

/// A device: the role that it is signed in as, and what it has.
#[derive(Clone)]
pub struct Device {
    pub role: &'static str,
    pub replica: Replica,
    pub replaced: u64,
}

impl Device {
    pub fn new(role: &'static str) -> Self {
        Self { role, replica: Replica::new(&TABLES.map(|t| Spec::new(t, &["id"]))), replaced: 0 }
    }

    pub fn pull(&mut self, client: &mut Client) -> Result<()> {
        self.pull_with(client, None)
    }

    /// The same of a device whose app was updated: it gets rows that have not changed, as whatever snapshot has them.
    pub fn migrate(&mut self, client: &mut Client) -> Result<()> {
        self.pull_with(client, Some(r#"{"from": 1, "tables": [], "columns": [{"table": "items", "columns": ["v"]}]}"#))
    }

    fn pull_with(&mut self, client: &mut Client, migration: Option<&str>) -> Result<()> {
        let names: Vec<&str> = TABLES.to_vec();
        let cursor = self.replica.cursor().map(|c| c.to_string());
        let migration = cursor.as_ref().and(migration);
        self.replica.may_step_back(migration.is_some());
        let sql = "SELECT pull_changes($1, $2, migration => $3::text::jsonb)::text";
        let row = client.query_one(sql, &[&names, &cursor, &migration])?;
        self.replaced += self.replica.apply(row.get(0), |_, _| ())?.resets;
        Ok(())
    }

    pub fn compare(&self, client: &mut Client) -> Result<Difference> {
        let mut all = Difference::default();
        for table in TABLES {
            let rows = client.query(&format!("SELECT row_to_json(t)::text FROM {table} AS t"), &[])?;
            all.add(self.replica.compare(table, rows.into_iter().map(|r| r.get(0)))?);
        }
        Ok(all)
    }
}

/// What the devices hold after all.
#[derive(Default)]
pub struct Outcome {
    pub devices: usize,
    pub wrong: usize,
    /// collections that were sent whole
    pub replaced: u64,
    pub difference: Difference,
}

impl Outcome {
    pub fn add(&mut self, other: Outcome) {
        self.devices += other.devices;
        self.wrong += other.wrong;
        self.replaced += other.replaced;
        self.difference.add(other.difference);
    }
}

/// After a write, every device pulls, and then must hold what its role may SELECT.
pub fn check(address: &Address, devices: Vec<Device>) -> Result<Outcome> {
    let mut owner = address.connect("postgres")?;
    owner.execute("UPDATE items SET n = n + 1 WHERE id = (SELECT min(id) FROM items)", &[])?;
    let mut outcome = Outcome { devices: devices.len(), ..Outcome::default() };
    for role in ROLES {
        let mut client = address.connect(role)?;
        for mut device in devices.iter().filter(|d| d.role == role).cloned() {
            let before = device.replaced;
            device.pull(&mut client)?;
            outcome.replaced += device.replaced - before;
            device.pull(&mut client)?;
            let difference = device.compare(&mut client)?;
            outcome.wrong += usize::from(!difference.is_empty());
            outcome.difference.add(difference);
        }
    }
    Ok(outcome)
}
