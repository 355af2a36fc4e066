//! `push-race`: clients that push to the same rows at the same time, and a writer in plain SQL.
//!
//! Under `reject` and `merge` each push adds one to a number that the client has read: the sums must be the number of pushes
//! that were accepted (no lost update). Under `last_write_wins` the newest version pushed must stand in every row.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{bail, Result};
use clap::Parser;
use postgres::Client;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{json, Value};
use snapsync_e2e::cluster::Cluster;
use snapsync_e2e::verdict::Verdict;

#[derive(Parser)]
struct Arguments {
    /// Seconds per policy.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Clients that push.
    #[arg(long, default_value_t = 3)]
    clients: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const ROWS: i32 = 4;

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let cluster = Cluster::start(&[("deadlock_timeout", "100ms")])?;
    let mut verdict = Verdict::default();
    for policy in ["reject", "merge", "last_write_wins"] {
        race(&cluster, policy, &arguments, &mut verdict)?;
    }
    verdict.check(!cluster.crashed(), "no backend died");
    drop(cluster);
    Ok(verdict.close())
}

/// What the clients did, all together.
#[derive(Default)]
struct Done {
    accepted: u64,
    conflicts: u64,
    plain: u64,
    newest: HashMap<i32, i64>,
    other: Vec<String>,
}

fn race(cluster: &Cluster, policy: &str, arguments: &Arguments, verdict: &mut Verdict) -> Result<()> {
    let database = cluster.create_database("race")?;
    let mut admin = cluster.connect(&database)?;
    admin.batch_execute(&format!(
        "CREATE EXTENSION snapsync;
         CREATE TABLE t (id int PRIMARY KEY, a bigint NOT NULL DEFAULT 0, b bigint NOT NULL DEFAULT 0, version bigint NOT NULL DEFAULT 0);
         INSERT INTO t SELECT generate_series(1, {ROWS});
         SELECT snapsync.enable('t', conflict => '{policy}', version_column => 'version')"
    ))?;
    let done = Mutex::new(Done::default());
    let until = Instant::now() + Duration::from_secs(arguments.seconds);
    std::thread::scope(|scope| -> Result<()> {
        let mut threads = Vec::new();
        for n in 0..arguments.clients {
            let (mut client, done) = (cluster.connect(&database)?, &done);
            let mut rng = StdRng::seed_from_u64(arguments.seed * 1000 + n as u64);
            threads.push(scope.spawn(move || -> Result<()> {
                while Instant::now() < until {
                    match policy {
                        "last_write_wins" => push_version(&mut client, &mut rng, n, done)?,
                        _ => push_increment(&mut client, &mut rng, policy, n, done)?,
                    }
                }
                Ok(())
            }));
        }
        if policy != "last_write_wins" {
            let (mut client, done) = (cluster.connect(&database)?, &done);
            let mut rng = StdRng::seed_from_u64(arguments.seed);
            threads.push(scope.spawn(move || -> Result<()> {
                while Instant::now() < until {
                    client.execute("UPDATE t SET a = a + 1 WHERE id = $1", &[&rng.random_range(1..=ROWS)])?;
                    done.lock().unwrap().plain += 1;
                    std::thread::sleep(Duration::from_millis(rng.random_range(0..20)));
                }
                Ok(())
            }));
        }
        for thread in threads {
            match thread.join() {
                Ok(outcome) => outcome?,
                Err(_) => bail!("a client panicked"),
            }
        }
        Ok(())
    })?;
    let done = done.into_inner().unwrap();
    println!(
        "        {policy}: {} pushes accepted, {} refused for conflicts, {} plain updates",
        done.accepted, done.conflicts, done.plain
    );
    for error in done.other.iter().take(3) {
        println!("        {error}");
    }
    verdict.check(done.other.is_empty(), format!("{policy}: no error but conflicts"));
    verdict.check(done.accepted > 50, format!("{policy}: pushes were accepted"));
    if policy == "last_write_wins" {
        let rows = admin.query("SELECT id, a, version FROM t", &[])?;
        let right = rows.iter().all(|r| {
            let newest = done.newest.get(&r.get::<_, i32>(0)).copied().unwrap_or(0);
            r.get::<_, i64>(2) == newest && r.get::<_, i64>(1) == newest
        });
        verdict.check(right, "last_write_wins: the newest version stands in every row, whole");
    } else {
        let sum: i64 = admin.query_one("SELECT sum(a + b)::int8 FROM t", &[])?.get(0);
        verdict.check(sum as u64 == done.accepted + done.plain, format!("{policy}: no lost update ({sum})"));
        verdict.check(done.conflicts > 0, format!("{policy}: there were conflicts to refuse"));
    }
    Ok(())
}

fn push_increment(client: &mut Client, rng: &mut StdRng, policy: &str, n: usize, done: &Mutex<Done>) -> Result<()> {
    let pulled: Value = pull(client)?;
    let rows = pulled["changes"]["t"]["created"].as_array().cloned().unwrap_or_default();
    let mut updated = Vec::new();
    for row in rows {
        if !rng.random_bool(0.4) {
            continue;
        }
        let column = if rng.random_bool(0.5) { "a" } else { "b" };
        let value = row[column].as_i64().unwrap_or(0) + 1;
        // Whole rows with _changed, as WatermelonDB sends them, or only what changed.
        updated.push(if policy == "merge" && rng.random_bool(0.5) {
            let mut whole = row.clone();
            whole[column] = json!(value);
            whole["_changed"] = json!(column);
            whole["_status"] = json!("updated");
            whole
        } else {
            json!({ "id": row["id"], column: value })
        });
    }
    let count = updated.len() as u64;
    // In any order: locks are taken in one.
    if rng.random_bool(0.5) {
        updated.reverse();
    }
    let changes = json!({ "t": { "updated": updated } });
    let cursor = pulled["timestamp"].to_string();
    let outcome = client.query_one(
        "SELECT push_changes($1::text::json, $2, client_id => $3)::text",
        &[&changes.to_string(), &cursor, &format!("{n}-{}", rng.random::<u64>())],
    );
    record(outcome.map(|_| count), done);
    Ok(())
}

fn push_version(client: &mut Client, rng: &mut StdRng, n: usize, done: &Mutex<Done>) -> Result<()> {
    let cursor = if rng.random_bool(0.5) { Some(pull(client)?["timestamp"].to_string()) } else { None };
    // Unique, and not in the order of time.
    let version = rng.random_range(1..1_000_000_000_i64) * 10 + n as i64;
    let ids: Vec<i32> = (1..=ROWS).filter(|_| rng.random_bool(0.5)).collect();
    let rows: Vec<Value> = ids.iter().map(|id| json!({ "id": id, "a": version, "version": version })).collect();
    let array = if rng.random_bool(0.5) { "created" } else { "updated" };
    let changes = json!({ "t": { array: rows } });
    let outcome = client.query_one("SELECT push_changes($1::text::json, $2)::text", &[&changes.to_string(), &cursor]);
    if outcome.is_ok() {
        let mut done = done.lock().unwrap();
        for id in ids {
            let newest = done.newest.entry(id).or_default();
            *newest = version.max(*newest);
        }
    }
    record(outcome.map(|_| 1), done);
    Ok(())
}

fn pull(client: &mut Client) -> Result<Value> {
    let text: String = client.query_one("SELECT pull_changes('{t}')::text", &[])?.get(0);
    Ok(serde_json::from_str(&text)?)
}

fn record(outcome: Result<u64, postgres::Error>, done: &Mutex<Done>) {
    let mut done = done.lock().unwrap();
    match outcome {
        Ok(count) => done.accepted += count,
        Err(e) if e.code().is_some_and(|c| c.code() == "PT409") => done.conflicts += 1,
        Err(e) => done.other.push(format!("{e:?}")),
    }
}
