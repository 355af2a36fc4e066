//! `stream-merge`: clients that pull, and read a replication stream (pgoutput) that goes on where the pull ends.
//!
//! Writers do what parts the order of commits in the WAL from the one in which they become visible: long transactions, rollbacks,
//! savepoints, prepared transactions, and commits that stand in the WAL and wait for a standby that never comes, until somebody
//! cancels the wait. The stream is slow. No client may go back in time: a row's number only grows, and a row that is gone stays so. In
//! the end, with the stream read to its end and no further pull, each must hold what SELECT says.
//!
//! How the clients merge is chosen with `--merge`. `pull` takes `lsn` and `snapshot` as the answer has them. The others are what one does
//! without: the WAL's position asked for after the pull, or before it, and every transaction behind that applied.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use anyhow::{anyhow, ensure, Context, Result};
use clap::{Parser, ValueEnum};
use postgres::Client;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Deserialize;
use snapsync_e2e::cluster::Cluster;
use snapsync_e2e::pgoutput::{Change, Reader, Transaction};
use snapsync_e2e::verdict::Verdict;

#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 2_000)]
    transactions: u64,
    #[arg(long, default_value_t = 4)]
    writers: u64,
    #[arg(long, default_value_t = 4)]
    clients: u64,
    #[arg(long, value_enum, default_value_t = Merge::Pull)]
    merge: Merge,
    /// Succeed if a client misses a row or goes back in time.
    #[arg(long)]
    expect_losses: bool,
}

#[derive(Clone, Copy, PartialEq, Debug, ValueEnum)]
enum Merge {
    /// by the lsn and the snapshot in the answer
    Pull,
    /// by pg_current_wal_lsn(), asked after the pull
    After,
    /// by pg_current_wal_lsn(), asked before the pull
    Before,
}

const SCHEMA: &str = "\
    CREATE EXTENSION snapsync;
    CREATE TABLE tasks (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n bigint NOT NULL DEFAULT 0);
    INSERT INTO tasks (n) SELECT 0 FROM generate_series(1, 40);
    SELECT snapsync.enable('tasks');
    CREATE PUBLICATION merged FOR TABLE tasks;";

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    println!("seed {}", arguments.seed);
    // Only who asks for it waits for that standby.
    let cluster = Cluster::start(&[("synchronous_standby_names", "nobody"), ("synchronous_commit", "local")])?;
    let database = cluster.create_database("merge")?;
    let mut admin = cluster.connect(&database)?;
    admin.batch_execute(SCHEMA)?;
    admin.batch_execute("SELECT pg_create_logical_replication_slot('merged', 'pgoutput')")?;
    let run = Run {
        arguments: &arguments,
        cluster: &cluster,
        database: &database,
        stream: RwLock::default(),
        left: AtomicU64::new(arguments.transactions),
        writing: AtomicBool::new(true),
        reading: AtomicBool::new(true),
        failures: Mutex::default(),
        counts: Mutex::default(),
    };
    run.all()?;

    let failures = run.failures.into_inner().map_err(|_| anyhow!("a client panicked"))?;
    let counts = run.counts.into_inner().map_err(|_| anyhow!("a client panicked"))?;
    println!("{counts:?}");
    for failure in failures.iter().take(5) {
        println!("        {failure}");
    }
    let mut verdict = Verdict::default();
    let kinds = ["applied from the stream", "seen by the snapshot", "applied again after a pull", "waited invisibly"];
    // (Clients that know nothing of the snapshot do less.)
    for kind in kinds.into_iter().filter(|_| arguments.merge == Merge::Pull) {
        verdict.check(counts.get(kind).is_some_and(|n| *n > 0), format!("transactions {kind}"));
    }
    if arguments.expect_losses {
        verdict.check(!failures.is_empty(), format!("merging {:?} loses ({} times)", arguments.merge, failures.len()));
    } else {
        verdict.check(failures.is_empty(), format!("no client misses a row or goes back ({} did)", failures.len()));
    }
    verdict.check(!cluster.crashed(), "no backend died");
    Ok(verdict.close())
}

struct Run<'a> {
    arguments: &'a Arguments,
    cluster: &'a Cluster,
    database: &'a str,
    /// all that was read of the stream so far: a gateway keeps it for its clients
    stream: RwLock<Vec<Transaction>>,
    left: AtomicU64,
    writing: AtomicBool,
    reading: AtomicBool,
    failures: Mutex<Vec<String>>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl Run<'_> {
    fn all(&self) -> Result<()> {
        std::thread::scope(|scope| {
            let seed = self.arguments.seed.wrapping_mul(1_000);
            let writers: Vec<_> =
                (0..self.arguments.writers).map(|n| scope.spawn(move || self.write(seed + n))).collect();
            let canceller = scope.spawn(|| self.cancel());
            let gateway = scope.spawn(move || self.read(seed + 500));
            let clients: Vec<_> =
                (0..self.arguments.clients).map(|n| scope.spawn(move || self.client(seed + 900 + n))).collect();
            let mut outcome = Ok(());
            for writer in writers {
                outcome = outcome.and(writer.join().unwrap_or_else(|_| Err(anyhow!("a writer panicked"))));
            }
            self.writing.store(false, Ordering::SeqCst);
            outcome = outcome.and(canceller.join().unwrap_or_else(|_| Err(anyhow!("the canceller panicked"))));
            outcome = outcome.and(gateway.join().unwrap_or_else(|_| Err(anyhow!("the gateway panicked"))));
            self.reading.store(false, Ordering::SeqCst);
            for client in clients {
                outcome = outcome.and(client.join().unwrap_or_else(|_| Err(anyhow!("a client panicked"))));
            }
            outcome
        })
    }

    fn connect(&self) -> Result<Client> {
        self.cluster.connect(self.database)
    }

    fn count(&self, what: &'static str, times: u64) {
        *self.counts.lock().unwrap_or_else(|e| e.into_inner()).entry(what).or_default() += times;
    }

    fn fail(&self, what: String) {
        self.failures.lock().unwrap_or_else(|e| e.into_inner()).push(what);
    }

    fn write(&self, seed: u64) -> Result<()> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut session = self.connect()?;
        // Two that change several rows must not wait for each other for ever.
        session.batch_execute("SET deadlock_timeout = '20ms'; SET lock_timeout = '500ms'")?;
        let next = || self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        let mut nth = 0;
        while next() {
            nth += 1;
            let mut sql = "BEGIN; ".to_owned();
            for _ in 0..rng.random_range(1..4) {
                sql += &statement(&mut rng);
                if rng.random_bool(0.1) {
                    sql += "SELECT pg_sleep(0.02); ";
                }
            }
            if rng.random_bool(0.15) {
                sql += &format!("SAVEPOINT s; {} ", statement(&mut rng));
                sql += if rng.random_bool(0.5) { "ROLLBACK TO s; " } else { "" };
            }
            let name = format!("w{seed}_{nth}");
            let done = match rng.random_range(0..20) {
                0..12 => session.batch_execute(&(sql + "COMMIT")),
                12..14 => session.batch_execute(&(sql + "ROLLBACK")),
                // In the WAL, and invisible until the wait is cancelled.
                14..17 => session.batch_execute(&(sql + "SET LOCAL synchronous_commit = on; COMMIT")),
                _ => {
                    let end = if rng.random_bool(0.7) { "COMMIT" } else { "ROLLBACK" };
                    session.batch_execute(&format!("{sql} PREPARE TRANSACTION '{name}'")).and_then(|()| {
                        session.batch_execute("SELECT pg_sleep(0.01)")?;
                        session.batch_execute(&format!("{end} PREPARED '{name}'"))
                    })
                }
            };
            if done.is_err() {
                // A deadlock, or a wait for one that waits for a standby.
                session.batch_execute("ROLLBACK")?;
                let _ = session.batch_execute(&format!("ROLLBACK PREPARED '{name}'"));
            }
        }
        Ok(())
    }

    /// Lets those go that wait for a standby, after they have waited a while.
    fn cancel(&self) -> Result<()> {
        let mut session = self.connect()?;
        let waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        let mut known: HashMap<i32, u32> = HashMap::new();
        while self.writing.load(Ordering::SeqCst) {
            let pids: Vec<i32> = session.query(waiting, &[])?.iter().map(|row| row.get(0)).collect();
            known.retain(|pid, _| pids.contains(pid));
            for pid in pids {
                let looks = known.entry(pid).or_default();
                *looks += 1;
                if *looks >= 3 {
                    session.execute("SELECT pg_cancel_backend($1)", &[&pid])?;
                    self.count("waited invisibly", 1);
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Reads the stream, a little at a time, until nothing is left of it.
    fn read(&self, seed: u64) -> Result<()> {
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut session, mut reader) = (self.connect()?, Reader::default());
        loop {
            let last = !self.writing.load(Ordering::SeqCst);
            let few: i32 = if last || rng.random_bool(0.5) { 100_000 } else { rng.random_range(1..20) };
            let rows = session.query(
                "SELECT data FROM pg_logical_slot_get_binary_changes('merged', NULL, $1, 'proto_version', '1', 'publication_names', 'merged')",
                &[&few],
            )?;
            for row in &rows {
                if let Some(transaction) = reader.take(row.get(0))? {
                    self.stream.write().unwrap_or_else(|e| e.into_inner()).push(transaction);
                }
            }
            if last && rows.is_empty() {
                return Ok(());
            }
            if rng.random_bool(0.2) {
                std::thread::sleep(Duration::from_millis(rng.random_range(0..60)));
            }
        }
    }

    fn client(&self, seed: u64) -> Result<()> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut session = self.connect()?;
        let mut client = Device { merge: self.arguments.merge, ..Device::default() };
        client.pull(self, &mut session, false)?;
        while self.reading.load(Ordering::SeqCst) {
            // The last word is the stream's.
            let pulls = self.left.load(Ordering::SeqCst) > self.arguments.transactions / 10;
            match rng.random_range(0..20) {
                0..2 if pulls => client.pull(self, &mut session, rng.random_bool(0.2))?,
                // Another device.
                2 if pulls && rng.random_bool(0.2) => {
                    client = Device { merge: self.arguments.merge, ..Device::default() };
                    client.pull(self, &mut session, false)?;
                }
                _ => client.follow(self, rng.random_range(1..10)),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        client.follow(self, usize::MAX);
        let rows = session.query("SELECT id, n FROM tasks", &[])?;
        let stored: BTreeMap<i64, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        if stored != client.rows {
            let missed = stored.iter().filter(|(id, n)| client.rows.get(id) != Some(n)).count();
            let ghosts = client.rows.keys().filter(|id| !stored.contains_key(id)).count();
            self.fail(format!("in the end {missed} rows are missing or old, and {ghosts} should not be there"));
        }
        Ok(())
    }
}

fn statement(rng: &mut StdRng) -> String {
    // Those that change often are the ones that were made last.
    let some = |rng: &mut StdRng| {
        format!("(SELECT id FROM tasks ORDER BY id DESC OFFSET {} LIMIT 1)", rng.random_range(0..40))
    };
    match rng.random_range(0..10) {
        0 => "INSERT INTO tasks DEFAULT VALUES; ".to_owned(),
        1 if rng.random_bool(0.7) => format!("DELETE FROM tasks WHERE id = {}; ", some(rng)),
        _ => format!("UPDATE tasks SET n = n + 1 WHERE id = {}; ", some(rng)),
    }
}

#[derive(Deserialize)]
struct Answer {
    changes: HashMap<String, Arrays>,
    timestamp: i64,
    lsn: String,
    snapshot: String,
}

#[derive(Deserialize)]
struct Arrays {
    created: Vec<Task>,
    updated: Vec<Task>,
    deleted: Vec<String>,
}

#[derive(Deserialize)]
struct Task {
    id: i64,
    n: i64,
}

/// `xmin:xmax:xip,xip`
#[derive(Default)]
struct Snapshot {
    xmax: u64,
    unseen: HashSet<u64>,
}

impl Snapshot {
    fn parse(text: &str) -> Result<Self> {
        let mut parts = text.split(':');
        let _xmin: u64 = parts.next().context("no xmin")?.parse()?;
        let xmax = parts.next().context("no xmax")?.parse()?;
        let unseen = parts.next().context("no list")?.split(',').filter(|xid| !xid.is_empty());
        Ok(Self { xmax, unseen: unseen.map(str::parse).collect::<Result<_, _>>()? })
    }

    /// The cluster is young: its transactions are of the first epoch.
    fn sees(&self, xid: u32) -> bool {
        u64::from(xid) < self.xmax && !self.unseen.contains(&xid.into())
    }
}

fn lsn(text: &str) -> Result<u64> {
    let (high, low) = text.split_once('/').with_context(|| format!("no position: {text}"))?;
    Ok(u64::from_str_radix(high, 16)? << 32 | u64::from_str_radix(low, 16)?)
}

struct Device {
    merge: Merge,
    rows: BTreeMap<i64, i64>,
    cursor: Option<i64>,
    /// up to here it needs nothing of the stream any more
    lsn: u64,
    snapshot: Snapshot,
    /// so much of the stream it has read
    read: usize,
    /// what it has shown of each row; i64::MAX for one that was gone
    shown: HashMap<i64, i64>,
}

impl Default for Device {
    fn default() -> Self {
        Self {
            merge: Merge::Pull,
            rows: BTreeMap::new(),
            cursor: None,
            lsn: 0,
            snapshot: Snapshot::default(),
            read: 0,
            shown: HashMap::new(),
        }
    }
}

impl Device {
    fn pull(&mut self, run: &Run, session: &mut Client, repeatable_read: bool) -> Result<()> {
        let position = "SELECT pg_current_wal_flush_lsn()::text";
        let mut asked = None;
        if self.merge == Merge::Before {
            asked = Some(session.query_one(position, &[])?.get::<_, String>(0));
        }
        let level = if repeatable_read { "REPEATABLE READ" } else { "READ COMMITTED" };
        // In REPEATABLE READ the snapshot is there before the function is called.
        session.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM tasks"))?;
        let cursor = self.cursor.map(|c| c.to_string());
        let sql = "SELECT pull_changes('{tasks}', $1, lsn => true)::text";
        let answer: Answer = serde_json::from_str(&session.query_one(sql, &[&cursor])?.get::<_, String>(0))?;
        session.batch_execute("COMMIT")?;
        if self.merge == Merge::After {
            asked = Some(session.query_one(position, &[])?.get::<_, String>(0));
        }
        let arrays = answer.changes.get("tasks").context("no changes of tasks")?;
        for task in arrays.created.iter().chain(&arrays.updated) {
            self.rows.insert(task.id, task.n);
        }
        for id in &arrays.deleted {
            self.rows.remove(&id.parse()?);
        }
        self.cursor = Some(answer.timestamp);
        self.lsn = lsn(asked.as_ref().unwrap_or(&answer.lsn))?;
        ensure!(self.lsn > 0, "an answer without a position");
        self.snapshot = Snapshot::parse(&answer.snapshot)?;
        // What it had read already, in so far as the answer does not have it.
        let stream = run.stream.read().unwrap_or_else(|e| e.into_inner());
        let again = stream[..self.read].iter().filter(|t| self.applies(t)).collect::<Vec<_>>();
        if self.merge == Merge::Pull {
            again.iter().for_each(|transaction| apply(&mut self.rows, transaction));
            run.count("applied again after a pull", again.len() as u64);
        }
        drop(stream);
        run.count("pulls", 1);
        self.show(run, "a pull");
        Ok(())
    }

    /// Is it to be applied on top of the last answer?
    fn applies(&self, transaction: &Transaction) -> bool {
        transaction.end > self.lsn && (self.merge != Merge::Pull || !self.snapshot.sees(transaction.xid))
    }

    /// Reads on in the stream.
    fn follow(&mut self, run: &Run, few: usize) {
        let stream = run.stream.read().unwrap_or_else(|e| e.into_inner());
        let end = self.read.saturating_add(few).min(stream.len());
        for transaction in &stream[self.read..end] {
            if self.applies(transaction) {
                apply(&mut self.rows, transaction);
                run.count("applied from the stream", 1);
            } else if transaction.end > self.lsn {
                run.count("seen by the snapshot", 1);
            }
            self.show(run, "the stream");
        }
        self.read = end;
    }

    /// What the user sees now must not be older than what he saw before.
    fn show(&mut self, run: &Run, by: &str) {
        let gone: Vec<i64> = self.shown.keys().filter(|id| !self.rows.contains_key(id)).copied().collect();
        for (id, n) in &self.rows {
            let before = self.shown.insert(*id, *n);
            match before {
                Some(i64::MAX) => run.fail(format!("by {by}, row {id} came back")),
                Some(before) if before > *n => run.fail(format!("by {by}, row {id} went from {before} to {n}")),
                _ => {}
            }
        }
        self.shown.extend(gone.into_iter().map(|id| (id, i64::MAX)));
    }
}

fn apply(rows: &mut BTreeMap<i64, i64>, transaction: &Transaction) {
    let number = |text: &Option<String>| text.as_deref().and_then(|t| t.parse::<i64>().ok());
    for change in &transaction.changes {
        match change {
            Change::Put(columns) => {
                if let [Some(id), Some(n)] = [number(&columns[0]), number(&columns[1])] {
                    rows.insert(id, n);
                }
            }
            Change::Delete(columns) => {
                if let Some(id) = number(&columns[0]) {
                    rows.remove(&id);
                }
            }
        }
    }
}
