//! `paged-sync`: a first sync in pages, while writers write, of a device that is killed again and again.
//!
//! Each page has a statement timeout of three seconds. After a kill the device goes on, in another session, with the token that it had stored:
//! sometimes before it had the page, sometimes with the page's rows stored and the token not. In the end it pulls once more and must hold
//! what its user may select; no backend of it may ever have held more than so much memory.

use std::fs;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use clap::Parser;
use postgres::Client;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use snapsync_e2e::cluster::Cluster;
use snapsync_e2e::postgrest::{select_rows, Caller, Pull};
use snapsync_e2e::replica::{Replica, Spec};
use snapsync_e2e::verdict::Verdict;

#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value_t = 100_000)]
    rows: i64,
    #[arg(long, default_value_t = 1_000)]
    page_size: i32,
    #[arg(long, default_value_t = 4)]
    writers: u64,
    /// How often the device is killed, about.
    #[arg(long, default_value_t = 30)]
    kills: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Also all in one answer, and in pages while nobody writes, to compare the times.
    #[arg(long)]
    compare: bool,
    /// Rows stand in the order of their keys.
    #[arg(long)]
    ordered: bool,
    #[arg(long, default_value = "128MB")]
    shared_buffers: String,
    #[arg(long, default_value_t = 64)]
    megabytes: u64,
}

const SCHEMA: &str = "\
    CREATE EXTENSION snapsync;
    CREATE TABLE tasks (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), owner_id int NOT NULL, title text NOT NULL, done boolean NOT NULL DEFAULT false);
    CREATE TABLE notes (list text NOT NULL, n int NOT NULL, owner_id int NOT NULL, body text, PRIMARY KEY (list, n));
    ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
    ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON tasks USING (owner_id = (SELECT (current_setting('request.jwt.claims')::json ->> 'sub')::int));
    CREATE POLICY own ON notes USING (owner_id = (SELECT (current_setting('request.jwt.claims')::json ->> 'sub')::int));
    GRANT SELECT ON tasks, notes TO app;
    SELECT snapsync.enable('tasks'), snapsync.enable('notes');";

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let cluster = Cluster::start(&[("shared_buffers", &arguments.shared_buffers)])?;
    let mut verdict = Verdict::default();
    let database = cluster.create_database("paged")?;
    let mut admin = cluster.connect(&database)?;
    admin.batch_execute("DO $$ BEGIN CREATE ROLE app; EXCEPTION WHEN duplicate_object THEN NULL; END $$")?;
    admin.batch_execute(SCHEMA)?;
    let key = if arguments.ordered { "lpad(to_hex(n), 32, '0')::uuid" } else { "gen_random_uuid()" };
    // A tenth is somebody else's.
    admin.batch_execute(&format!(
        "INSERT INTO tasks (id, owner_id, title) SELECT {key}, 1 + (n % 10 = 0)::int, 'task number ' || n FROM generate_series(1, {}) AS n;
         INSERT INTO notes SELECT 'list ' || n % 50, n, 1 + (n % 10 = 0)::int, repeat('body ', 10) FROM generate_series(1, {}) AS n",
        arguments.rows * 9 / 10,
        arguments.rows / 10
    ))?;
    admin.batch_execute("VACUUM ANALYZE")?;
    if arguments.compare {
        compare_times(&cluster, &database, &arguments)?;
    }
    sync(&cluster, &database, &arguments, &mut verdict)?;
    verdict.check(!cluster.crashed(), "no backend died");
    drop(admin);
    drop(cluster);
    Ok(verdict.close())
}

fn specs() -> [Spec; 2] {
    [Spec::new("tasks", &["id"]), Spec::new("notes", &["list", "n"])]
}

fn caller() -> Caller {
    Caller::new("app", "1")
}

/// A session as an app has it.
fn session(cluster: &Cluster, database: &str) -> Result<Client> {
    let mut client = cluster.connect(database)?;
    client.batch_execute("SET statement_timeout = '3s'")?;
    Ok(client)
}

fn page(client: &mut Client, replica: &Replica, size: Option<i32>) -> Result<String> {
    let names = replica.names().to_vec();
    let (last_pulled_at, next) = (replica.cursor(), replica.next());
    let request = Pull { collections: &names, last_pulled_at, page_size: size, next, ..Pull::default() };
    let mut tx = caller().begin(client, true, false)?;
    let answer = request.run(&mut tx)?;
    tx.rollback()?;
    Ok(answer)
}

fn compare_times(cluster: &Cluster, database: &str, arguments: &Arguments) -> Result<()> {
    let mut client = cluster.connect(database)?;
    let backend: i32 = client.query_one("SELECT pg_backend_pid()", &[])?.get(0);
    let worked = || processor_time(backend).unwrap_or(0);
    for run in 0..4 {
        // Only what the server does, and the way to here: nothing is applied.
        let (begun, before) = (Instant::now(), worked());
        let whole = page(&mut client, &Replica::new(&specs()), None)?.len();
        let (whole_took, whole_worked) = (begun.elapsed(), worked() - before);
        let before = worked();
        let (begun, mut pages, mut length, mut next) = (Instant::now(), 0, 0, None::<String>);
        let (names, mut longest) = (Replica::new(&specs()).names().to_vec(), Duration::ZERO);
        loop {
            let begun_page = Instant::now();
            let page_size = Some(arguments.page_size);
            let request = Pull { collections: &names, page_size, next: next.as_deref(), ..Pull::default() };
            let mut tx = caller().begin(&mut client, true, false)?;
            let answer = request.run(&mut tx)?;
            tx.rollback()?;
            (pages, length, longest) = (pages + 1, length + answer.len(), longest.max(begun_page.elapsed()));
            let token = answer.rfind("\"next\":\"").map(|at| &answer[at + 8..]);
            next = token.and_then(|token| token.split('"').next()).map(str::to_owned);
            if next.is_none() {
                break;
            }
        }
        if run > 0 {
            let paged_took = begun.elapsed();
            println!(
                "whole: {:.2} s for {:.1} MB; in {pages} pages: {:.2} s for {:.1} MB, {:.2} times ({:.2} by the processor's time), the longest {:.0} ms",
                whole_took.as_secs_f64(),
                whole as f64 / 1e6,
                paged_took.as_secs_f64(),
                length as f64 / 1e6,
                paged_took.as_secs_f64() / whole_took.as_secs_f64(),
                (worked() - before) as f64 / whole_worked.max(1) as f64,
                longest.as_secs_f64() * 1e3
            );
        }
    }
    Ok(())
}

fn sync(cluster: &Cluster, database: &str, arguments: &Arguments, verdict: &mut Verdict) -> Result<()> {
    let (ended, backend) = (AtomicBool::new(false), AtomicI32::new(0));
    let (peak, written) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut rng = StdRng::seed_from_u64(arguments.seed);
    let device = std::thread::scope(|scope| -> Result<Device> {
        let writers: Vec<_> = (0..arguments.writers)
            .map(|i| {
                let (ended, written) = (&ended, &written);
                scope.spawn(move || write(cluster, database, arguments.seed + 100 + i, ended, written))
            })
            .collect();
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                peak.fetch_max(anonymous(backend.load(Ordering::Relaxed)).unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let device = Device::run(cluster, database, arguments, &mut rng, &backend);
        ended.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))?.context("a writer")?;
        }
        device
    })?;
    let Device { mut replica, pages, kills, longest } = device;
    let mut client = session(cluster, database)?;
    let mut last = 0;
    while last == 0 || replica.next().is_some() {
        replica.apply(&page(&mut client, &replica, Some(arguments.page_size))?, |_, _| ())?;
        last += 1;
    }
    let megabytes = peak.load(Ordering::Relaxed) >> 20;
    println!(
        "{pages} pages, the longest {:.0} ms; {kills} kills; {} transactions of writers; at most {megabytes} MB; the pull after the last one has {last} pages",
        longest.as_secs_f64() * 1e3,
        written.load(Ordering::Relaxed),
    );
    // The comparison is no client's.
    client.batch_execute("SET statement_timeout = 0")?;
    let mut tx = caller().begin(&mut client, true, true)?;
    for name in replica.names() {
        let difference = replica.compare(name, select_rows(&mut tx, name)?.into_iter())?;
        difference.samples.iter().for_each(|sample| println!("  {sample}"));
        verdict.check(difference.is_empty(), format!("the device holds what its user may select of {name}"));
    }
    tx.rollback()?;
    verdict.check(replica.len() as i64 > arguments.rows / 2, format!("it holds {} rows", replica.len()));
    verdict.check(kills > 0, "it was killed on the way");
    verdict.check(
        megabytes > 0 && megabytes <= arguments.megabytes,
        format!("its backends held at most {} MB", arguments.megabytes),
    );
    Ok(())
}

struct Device {
    replica: Replica,
    pages: u64,
    kills: u64,
    longest: Duration,
}

impl Device {
    fn run(
        cluster: &Cluster,
        database: &str,
        arguments: &Arguments,
        rng: &mut StdRng,
        backend: &AtomicI32,
    ) -> Result<Device> {
        let mut device = Device { replica: Replica::new(&specs()), pages: 0, kills: 0, longest: Duration::ZERO };
        let about = (arguments.rows / i64::from(arguments.page_size)).max(1) as f64;
        let kill = (arguments.kills as f64 / about).min(0.5);
        let connect = || -> Result<Client> {
            let mut client = session(cluster, database)?;
            backend.store(client.query_one("SELECT pg_backend_pid()", &[])?.get(0), Ordering::Relaxed);
            Ok(client)
        };
        let mut client = connect()?;
        loop {
            let begun = Instant::now();
            let answer = page(&mut client, &device.replica, Some(arguments.page_size))?;
            device.longest = device.longest.max(begun.elapsed());
            device.pages += 1;
            ensure!(device.pages < 100_000, "no end of pages");
            // (Killed on the first page, it has nothing.)
            if device.replica.next().is_some() && rng.random_bool(kill) {
                device.kills += 1;
                if rng.random_bool(0.5) {
                    device.replica.apply_rows(&answer)?;
                }
                client = connect()?;
                continue;
            }
            device.replica.apply(&answer, |_, _| ())?;
            if device.replica.next().is_none() {
                return Ok(device);
            }
        }
    }
}

/// Rows of everybody come, change, change hands, move and go.
fn write(cluster: &Cluster, database: &str, seed: u64, ended: &AtomicBool, written: &AtomicU64) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut client = cluster.connect(database)?;
    while !ended.load(Ordering::Relaxed) {
        let owner: i32 = rng.random_range(1..=2);
        let place = format!("'{:08x}-0000-0000-0000-000000000000'::uuid", rng.random::<u32>());
        let one = format!("(SELECT id FROM tasks WHERE id > {place} ORDER BY id LIMIT 1)");
        let (list, n) = (rng.random_range(0..50), rng.random_range(1..20_000));
        let sql = match rng.random_range(0..10) {
            0 => format!("INSERT INTO tasks (owner_id, title) VALUES ({owner}, 'new')"),
            1 => format!("DELETE FROM tasks WHERE id = {one}"),
            2 => format!("UPDATE tasks SET owner_id = {owner} WHERE id = {one}"),
            3 => format!("INSERT INTO notes VALUES ('list {list}', {n}, {owner}, 'new') ON CONFLICT (list, n) DO UPDATE SET owner_id = {owner}"),
            4 => format!("DELETE FROM notes WHERE list = 'list {list}' AND n BETWEEN {n} AND {}", n + 100),
            5 => format!("UPDATE notes SET n = -n WHERE list = 'list {list}' AND n BETWEEN {n} AND {}", n + 50),
            // Nothing that anybody hears of; the row moves.
            6 | 7 => format!("UPDATE tasks SET done = done WHERE id = {one}"),
            8 if rng.random_bool(0.02) => "VACUUM tasks".to_string(),
            _ => format!("UPDATE tasks SET done = NOT done, title = title || '.' WHERE id = {one}"),
        };
        match client.batch_execute(&sql) {
            Ok(()) => written.fetch_add(1, Ordering::Relaxed),
            // A row that another writer had in his hands.
            Err(e) if e.code().is_some() => 0,
            Err(e) => return Err(e.into()),
        };
    }
    Ok(())
}

/// What a backend has taken of the processor, in ticks of the system's clock: the same on a machine that has other things to do.
fn processor_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which may hold anything: utime and stime are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// A backend's own memory, in bytes.
fn anonymous(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kb| kb << 10)
}
