//! While writers run: a role's pull equals its own SELECT under row-level security, and no id reaches a role that could
//! never see the row.
//!
//! What was ever visible is known from a history that deferred triggers write: they fire at commit, so they record each
//! row as other transactions came to see it, never a state in between.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{anyhow, Result};
use postgres::error::SqlState;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::postgrest::{select_rows, Caller, Pull};
use crate::replica::{Applied, Difference, Replica, Spec};
use crate::verdict::Verdict;

const USERS: i64 = 6;
const TABLES: [&str; 4] = ["items", "parts", "shared", "open"];

const DDL: &str = r"
CREATE EXTENSION snapsync;
DO $$ BEGIN CREATE ROLE app NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN CREATE ROLE auditor NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN CREATE ROLE authenticator LOGIN NOINHERIT; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
GRANT app, auditor TO authenticator;
CREATE FUNCTION me() RETURNS int STABLE LANGUAGE sql AS
  $$ SELECT (nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub')::int $$;

CREATE TABLE items (id text PRIMARY KEY, owner int NOT NULL, n int, body text);
CREATE TABLE parts (id bigint PRIMARY KEY, owner int NOT NULL, n int) PARTITION BY HASH (id);
CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE shared (id bigint PRIMARY KEY, owner int NOT NULL, n int, public boolean NOT NULL DEFAULT false,
                     hidden boolean NOT NULL DEFAULT false);
CREATE TABLE open (id bigint PRIMARY KEY, owner int NOT NULL, n int);

ALTER TABLE items ENABLE ROW LEVEL SECURITY;
ALTER TABLE parts ENABLE ROW LEVEL SECURITY;
ALTER TABLE shared ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON items FOR ALL TO app USING (owner = me());
CREATE POLICY audit ON items FOR SELECT TO auditor USING (n % 2 = 0);
CREATE POLICY mine ON parts USING (owner = me());
CREATE POLICY mine ON shared TO app USING (owner = me());
CREATE POLICY everybody ON shared FOR SELECT USING (public);
CREATE POLICY visible ON shared AS RESTRICTIVE USING (NOT hidden);
GRANT SELECT ON items, parts, shared, open TO app, auditor;

CREATE TABLE history (tbl text, id text, row jsonb);
CREATE FUNCTION record() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE state jsonb;
BEGIN
  EXECUTE format('SELECT to_jsonb(whole) FROM %I whole WHERE id = ($1).id', TG_ARGV[0]) INTO state USING NEW;
  IF state IS NOT NULL THEN INSERT INTO history VALUES (TG_ARGV[0], state ->> 'id', state); END IF;
  RETURN NULL;
END $$;
";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum User {
    App(i64),
    Auditor,
}

impl User {
    fn caller(self) -> Caller {
        match self {
            Self::App(n) => Caller::new("app", &n.to_string()),
            Self::Auditor => Caller::new("auditor", "99"),
        }
    }

    /// The policies above, once more in Rust.
    fn sees(self, table: &str, row: &Value) -> bool {
        let mine = matches!(self, Self::App(n) if row["owner"] == n);
        match table {
            "items" if self == Self::Auditor => row["n"].as_i64().is_some_and(|n| n % 2 == 0),
            "items" | "parts" => mine,
            "shared" => (mine || row["public"] == true) && row["hidden"] == false,
            _ => true,
        }
    }
}

#[derive(Default)]
struct Report {
    user: Option<User>,
    pulls: u64,
    compared: u64,
    first: u64,
    difference: Difference,
    applied: Applied,
    sent: HashSet<(String, String)>,
}

pub fn run(cluster: &Cluster, transactions: u64, seed: u64, verdict: &mut Verdict) -> Result<()> {
    let database = cluster.create_database("rls")?;
    let mut admin = cluster.connect(&database)?;
    admin.batch_execute(DDL)?;
    for table in TABLES {
        admin.batch_execute(&format!(
            "SELECT snapsync.enable('{table}');
             CREATE CONSTRAINT TRIGGER record AFTER INSERT OR UPDATE ON {table} DEFERRABLE INITIALLY DEFERRED
               FOR EACH ROW EXECUTE FUNCTION record('{table}')"
        ))?;
    }
    let committed = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let ended = AtomicBool::new(false);
    let numbers = AtomicU64::new(0);
    let mut users: Vec<User> = (0..USERS).map(User::App).collect();
    users.push(User::Auditor);

    let (writers, pullers) = std::thread::scope(|scope| {
        let (committed, failed, ended, numbers, database) = (&committed, &failed, &ended, &numbers, &database);
        let pullers: Vec<_> = users
            .iter()
            .enumerate()
            .map(|(i, user)| {
                scope.spawn(move || {
                    let seed = seed.wrapping_add(7000 + i as u64);
                    pull_until(cluster, database, *user, seed, ended)
                        .inspect_err(|_| failed.store(true, Ordering::Relaxed))
                })
            })
            .collect();
        let writers: Vec<_> = (0..4u64)
            .map(|i| {
                scope.spawn(move || {
                    let goal = |n: u64| n < transactions && !failed.load(Ordering::Relaxed);
                    write_while(cluster, database, seed.wrapping_add(i), committed, numbers, goal)
                        .inspect_err(|_| failed.store(true, Ordering::Relaxed))
                })
            })
            .collect();
        let writers: Vec<Result<()>> = writers.into_iter().map(join).collect();
        ended.store(true, Ordering::Release);
        (writers, pullers.into_iter().map(join).collect::<Vec<Result<Report>>>())
    });
    for e in writers.into_iter().filter_map(Result::err) {
        verdict.check(false, format!("a writer: {e:#}"));
    }
    judge(&mut admin, pullers, verdict)?;
    verdict.check(!cluster.crashed(), "no backend crashed");
    Ok(())
}

fn join<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| Err(anyhow!("a thread panicked")))
}

fn judge(admin: &mut postgres::Client, pullers: Vec<Result<Report>>, verdict: &mut Verdict) -> Result<()> {
    let mut ever: Vec<(String, String, Value)> = Vec::new();
    for row in admin.query("SELECT tbl, id, row::text FROM history", &[])? {
        ever.push((row.get(0), row.get(1), serde_json::from_str(row.get(2))?));
    }
    let (mut difference, mut applied) = (Difference::default(), Applied::default());
    let (mut pulls, mut compared, mut first, mut sent, mut leaks) = (0, 0, 0, 0, Vec::new());
    for puller in pullers {
        let report = match puller {
            Ok(report) => report,
            Err(e) => {
                verdict.check(false, format!("a puller: {e:#}"));
                continue;
            }
        };
        let user = report.user.expect("set by every puller");
        let visible: HashSet<(&str, &str)> =
            ever.iter().filter(|(t, _, row)| user.sees(t, row)).map(|(t, id, _)| (t.as_str(), id.as_str())).collect();
        for (table, id) in &report.sent {
            if !visible.contains(&(table.as_str(), id.as_str())) {
                leaks.push(format!("{user:?} was sent {table} {id}"));
            }
        }
        sent += report.sent.len();
        pulls += report.pulls;
        compared += report.compared;
        first += report.first;
        applied += report.applied;
        difference.add(report.difference);
    }
    println!(
        "pulls {pulls} ({first} first syncs, {compared} compared with SELECT), ids sent {sent}, rows {}, deletions {}, resets {}",
        applied.rows, applied.deleted, applied.resets
    );
    for line in difference.samples.iter().chain(leaks.iter().take(8)) {
        println!("  {line}");
    }
    verdict.check(
        difference.is_empty() && compared > 0,
        format!("every pull equals the role's SELECT (differences: {})", difference.total()),
    );
    verdict.check(
        leaks.is_empty() && sent > 0,
        format!("no id reached a role that could never see it (leaks: {})", leaks.len()),
    );
    Ok(())
}

fn pull_until(cluster: &Cluster, database: &str, user: User, seed: u64, ended: &AtomicBool) -> Result<Report> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut client = cluster.connect_as(database, "authenticator")?;
    let caller = user.caller();
    let specs: Vec<Spec> = TABLES.iter().map(|t| Spec::new(t, &["id"])).collect();
    let mut replica = Replica::new(&specs);
    let mut report = Report { user: Some(user), ..Report::default() };
    loop {
        let last = ended.load(Ordering::Acquire);
        // READ COMMITTED pulls in between: their cursors come from the lock table.
        let compare = last || rng.random_bool(0.6);
        let mut tx = caller.begin(&mut client, true, compare)?;
        let names = replica.names().to_vec();
        let request = Pull { collections: &names, last_pulled_at: replica.cursor(), ..Pull::default() };
        report.first += u64::from(replica.cursor().is_none());
        let answer = request.run(&mut tx)?;
        report.applied += replica.apply(&answer, |table, id| {
            report.sent.insert((table.to_owned(), id.to_owned()));
        })?;
        report.pulls += 1;
        if compare {
            for name in &names {
                let found = replica.compare(name, select_rows(&mut tx, name)?.into_iter())?;
                report.difference.add(found);
            }
            report.compared += 1;
        }
        tx.rollback()?;
        if last {
            return Ok(report);
        }
        if rng.random_bool(0.05) {
            replica.forget();
        }
        std::thread::sleep(Duration::from_millis(rng.random_range(0..15)));
    }
}

fn write_while(
    cluster: &Cluster,
    database: &str,
    seed: u64,
    committed: &AtomicU64,
    numbers: &AtomicU64,
    goal: impl Fn(u64) -> bool,
) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut client = cluster.connect(database)?;
    client.batch_execute("SET lock_timeout = '100ms'; SET deadlock_timeout = '20ms'")?;
    while goal(committed.load(Ordering::Relaxed)) {
        let statements: Vec<String> = (0..rng.random_range(1..4)).map(|_| statement(&mut rng, numbers)).collect();
        let mut sql = format!("BEGIN; {}", statements.join("; "));
        if rng.random_bool(0.15) {
            let lost = statement(&mut rng, numbers);
            sql += &format!("; SAVEPOINT s; {lost}; ROLLBACK TO s");
        }
        if rng.random_bool(0.1) {
            client.batch_execute(&sql)?;
            std::thread::sleep(Duration::from_millis(rng.random_range(1..10)));
            sql = "SELECT 1".to_owned();
        }
        sql += if rng.random_bool(0.1) { "; ROLLBACK" } else { "; COMMIT" };
        match client.batch_execute(&sql) {
            Ok(()) => {
                committed.fetch_add(1, Ordering::Relaxed);
            }
            Err(e) if e.code().is_some_and(|c| ACCIDENTS.contains(c)) => client.batch_execute("ROLLBACK")?,
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

const ACCIDENTS: [SqlState; 3] =
    [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::UNIQUE_VIOLATION];

fn statement(rng: &mut StdRng, numbers: &AtomicU64) -> String {
    let table = TABLES[rng.random_range(0..TABLES.len())];
    let last = numbers.load(Ordering::Relaxed).max(1);
    let id = rng.random_range(last.saturating_sub(150).max(1)..=last);
    let (owner, n) = (rng.random_range(0..USERS), rng.random_range(0..1000));
    let quoted = |id: u64| {
        if table == "items" {
            format!("'item {id}'")
        } else {
            id.to_string()
        }
    };
    let columns = if table == "items" { "id, owner, n, body" } else { "id, owner, n" };
    let body = if table == "items" { ", 'text'" } else { "" };
    let insert = |id: u64, owner: i64| {
        format!("INSERT INTO {table} ({columns}) VALUES ({}, {owner}, {n}{body}) ON CONFLICT DO NOTHING", quoted(id))
    };
    let key = quoted(id);
    match rng.random_range(0..100) {
        0..40 => insert(numbers.fetch_add(1, Ordering::Relaxed) + 1, owner),
        40..55 => format!("UPDATE {table} SET n = {n} WHERE id = {key}"),
        55..68 => format!("UPDATE {table} SET owner = {owner} WHERE id = {key}"),
        // Passes through a third owner's hands, who must not hear of it.
        68..74 => format!(
            "UPDATE {table} SET owner = {} WHERE id = {key}; UPDATE {table} SET owner = {owner} WHERE id = {key}",
            rng.random_range(0..USERS)
        ),
        74..84 => format!("DELETE FROM {table} WHERE id = {key}"),
        // Deleted and born again as somebody else's.
        84..88 => format!("DELETE FROM {table} WHERE id = {key}; {}", insert(id, owner)),
        88..92 => format!("UPDATE shared SET public = NOT public WHERE id = {id}"),
        92..96 => format!("UPDATE shared SET hidden = NOT hidden WHERE id = {id}"),
        96..98 => format!("UPDATE {table} SET owner = {owner} WHERE n BETWEEN {n} AND {}", n + 15),
        _ => format!("DELETE FROM {table} WHERE n BETWEEN {n} AND {}", n + 15),
    }
}
