//! `retry-drill`: a client whose connection is cut at random points of its pushes, and that repeats what it got no answer to.
//!
//! In the end the server has exactly what the client believes to have pushed: with a `push_id` also when triggers count what
//! happens, without one by the rows.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use postgres::Client;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{json, Value};
use snapsync_e2e::cluster::Cluster;
use snapsync_e2e::verdict::Verdict;

#[derive(Parser)]
struct Arguments {
    /// Batches per mode.
    #[arg(long, default_value_t = 150)]
    batches: u32,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    PushId,
    ClientId,
    Neither,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let cluster = Cluster::start(&[])?;
    let mut verdict = Verdict::default();
    for (mode, name) in
        [(Mode::PushId, "with push_id"), (Mode::ClientId, "with client_id"), (Mode::Neither, "with neither")]
    {
        drill(&cluster, mode, name, &arguments, &mut verdict)?;
    }
    verdict.check(!cluster.crashed(), "no backend died of itself");
    drop(cluster);
    Ok(verdict.close())
}

fn drill(cluster: &Cluster, mode: Mode, name: &str, arguments: &Arguments, verdict: &mut Verdict) -> Result<()> {
    let database = cluster.create_database("drill")?;
    let mut admin = cluster.connect(&database)?;
    admin.batch_execute(
        "CREATE EXTENSION snapsync;
         CREATE TABLE t (id text PRIMARY KEY, n int NOT NULL);
         CREATE TABLE counted (batch text, id text);
         CREATE FUNCTION tally() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             -- Time for the connection to be cut in the middle.
             PERFORM pg_sleep(random() / 2000);
             INSERT INTO counted VALUES (current_setting('drill.batch'), NEW.id);
             RETURN NEW;
         END $$;
         CREATE TRIGGER tally AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION tally();
         SELECT snapsync.enable('t')",
    )?;
    let mut rng = StdRng::seed_from_u64(arguments.seed);
    let mut model: BTreeMap<String, i32> = BTreeMap::new();
    let mut client = cluster.connect(&database)?;
    let (mut cut, mut lost, mut pushed, mut conflicts, mut written) = (0, 0, 0, 0, 0);
    for batch in 0..arguments.batches {
        let mut cursor = pull(cluster, &database, &mut client)?;
        let (mut created, mut updated, mut deleted) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..rng.random_range(1..5) {
            let id = format!("{batch}-{i}");
            created.push(json!({ "id": id, "n": 0 }));
            model.insert(id, 0);
        }
        let known: Vec<String> = model.keys().filter(|k| !k.starts_with(&format!("{batch}-"))).cloned().collect();
        for id in known {
            if rng.random_bool(0.05) {
                let n = model[&id] + 1;
                updated.push(json!({ "id": id, "n": n }));
                model.insert(id, n);
            } else if rng.random_bool(0.01) {
                model.remove(&id);
                deleted.push(id);
            }
        }
        written += created.len() + updated.len();
        let changes = json!({ "t": { "created": created, "updated": updated, "deleted": deleted } });
        let push_id = format!("00000000-0000-0000-0000-{batch:012}");
        loop {
            pushed += 1;
            let attempt = Attempt { batch, changes: &changes, cursor: &cursor, push_id: &push_id, mode };
            match attempt.push(cluster, &database, &mut client, &mut admin, &mut rng) {
                // The answer is lost on its way.
                Ok(()) if rng.random_bool(0.2) => {
                    lost += 1;
                    client = cluster.connect(&database)?;
                }
                Ok(()) => break,
                Err(e) if e.is_closed() || e.code().is_some_and(|c| c.code() == "57P01") || e.code().is_none() => {
                    cut += 1;
                    client = cluster.connect(&database)?;
                }
                // Without an id its own rows look like somebody else's: pull, and push again.
                Err(e) if mode == Mode::Neither && e.code().is_some_and(|c| c.code() == "PT409") => {
                    conflicts += 1;
                    cursor = pull(cluster, &database, &mut client)?;
                }
                Err(e) => {
                    verdict.check(false, format!("{name}: batch {batch}: {e:?}"));
                    return Ok(());
                }
            }
        }
    }
    let rows = admin.query("SELECT id, n FROM t ORDER BY id COLLATE \"C\"", &[])?;
    let stored: BTreeMap<String, i32> = rows.iter().map(|r| (r.get(0), r.get(1))).collect();
    println!(
        "        {name}: {} batches, {pushed} pushes, {cut} connections cut, {lost} answers lost, {conflicts} conflicts",
        arguments.batches
    );
    verdict.check(cut > 10, format!("{name}: connections were cut"));
    verdict.check(stored == model, format!("{name}: the server has what the client pushed ({} rows)", model.len()));
    if mode == Mode::PushId {
        let counted = admin.query_one("SELECT count(*), count(DISTINCT (batch, id)) FROM counted", &[])?;
        let (all, distinct): (i64, i64) = (counted.get(0), counted.get(1));
        verdict.check(all == distinct && all as usize == written, format!("{name}: everything happened once ({all})"));
    }
    Ok(())
}

fn pull(cluster: &Cluster, database: &str, client: &mut Client) -> Result<String> {
    loop {
        match client.query_one("SELECT pull_changes('{t}')->>'timestamp'", &[]) {
            Ok(row) => return Ok(row.get(0)),
            Err(_) => *client = cluster.connect(database)?,
        }
    }
}

struct Attempt<'a> {
    batch: u32,
    changes: &'a Value,
    cursor: &'a str,
    push_id: &'a str,
    mode: Mode,
}

impl Attempt<'_> {
    fn push(
        &self,
        cluster: &Cluster,
        database: &str,
        client: &mut Client,
        admin: &mut Client,
        rng: &mut StdRng,
    ) -> Result<(), postgres::Error> {
        client.execute("SELECT set_config('drill.batch', $1, false)", &[&self.batch.to_string()])?;
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[])?.get(0);
        let push_id = (self.mode == Mode::PushId).then_some(self.push_id);
        let client_id = (self.mode != Mode::Neither).then_some("phone");
        let wait = Duration::from_micros(rng.random_range(0..9000));
        let cut = rng.random_bool(0.5);
        // Sometimes the answer is on its way, and sometimes a second, identical call is made while the first one runs.
        let twice = self.mode == Mode::PushId && rng.random_bool(0.2);
        std::thread::scope(|scope| {
            if cut {
                scope.spawn(move || {
                    std::thread::sleep(wait);
                    let _ = admin.execute("SELECT pg_terminate_backend($1)", &[&pid]);
                });
            }
            if twice {
                scope.spawn(move || {
                    if let Ok(mut other) = cluster.connect(database) {
                        let _ =
                            other.execute("SELECT set_config('drill.batch', $1, false)", &[&self.batch.to_string()]);
                        let _ = self.call(&mut other, push_id, client_id);
                    }
                });
            }
            self.call(client, push_id, client_id)
        })
    }

    fn call(&self, client: &mut Client, push_id: Option<&str>, client_id: Option<&str>) -> Result<(), postgres::Error> {
        let sql = "SELECT push_changes($1::text::json, $2, push_id => $3::text::uuid, client_id => $4)::text";
        client.query_one(sql, &[&self.changes.to_string(), &self.cursor, &push_id, &client_id]).map(|_| ())
    }
}
