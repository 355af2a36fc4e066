//! Many connections: pullers and writers at once, and idle ones in the lock table's way.

use std::time::{Duration, Instant};

use anyhow::{ensure, Result};

use crate::report::{Goal, Report, Row, Unit};
use crate::sample::{interleave, timed_each, Contestant, Sample};
use crate::wire::Wire;
use crate::world::{count, cursor, rows_sql, Kind, World, SHORT};
use crate::Sizes;
use snapsync_e2e::cluster::Cluster;

/// Rows of each user, and how many of a puller's have changed since its cursor.
const ROWS: u64 = 1_000;
const CHANGED: u64 = 10;

/// How often a paced puller pulls: all together they take a small part of a machine, as clients that poll do.
const PACE: Duration = Duration::from_millis(500);

/// What the other connections do while the writers write.
#[derive(Clone, Copy, PartialEq)]
enum Others {
    Nothing,
    /// Pull, one after the other without a pause.
    Pull,
    /// Read the same rows by their ids, likewise.
    Select,
    /// Pull, with a pause.
    PullAtPace,
}

/// What a slice has found.
#[derive(Default)]
struct Found {
    /// Seconds of each call of the others.
    latencies: Vec<f64>,
    /// Of each writer.
    written: Vec<u64>,
}

struct Crowd {
    pullers: Vec<Puller>,
    writers: Vec<(Wire, Vec<String>)>,
    found: Vec<Found>,
}

struct Puller {
    wire: Wire,
    cursor: String,
    filter: String,
    ids: String,
}

fn user(n: usize) -> String {
    format!("00000000-0000-4000-8000-{n:012x}")
}

/// Every user has rows of his own, and the table is scoped by user: a pull reads its user's ten entries of the log while
/// the writers add to it.
pub fn connections(cluster: &Cluster, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut world = World::new(cluster, "connections")?;
    world.table("todos", 0, SHORT, Kind::Tracked)?;
    let users = sizes.pullers + sizes.writers;
    for n in 0..users {
        let (from, to) = (n as u64 * ROWS + 1, (n as u64 + 1) * ROWS);
        let rows = rows_sql(&from.to_string(), &to.to_string(), SHORT).replace(crate::world::ME, &user(n));
        world.admin.run(&format!("INSERT INTO todos SELECT {rows}"))?;
    }
    world.admin.run("SELECT snapsync.enable('todos', scope_column => 'user_id')")?;
    let since = cursor(&mut world.admin)?.to_string();
    world.admin.prepare("touch", "UPDATE todos SET priority = priority + 1 WHERE id = $1")?;
    let mut crowd = Crowd { pullers: Vec::new(), writers: Vec::new(), found: Vec::new() };
    for n in 0..users {
        let mut wire = world.session_of(&user(n))?;
        let many = if n < sizes.pullers { CHANGED } else { ROWS };
        let first = n as u64 * ROWS + 1;
        let ids = world.admin.column(&format!("SELECT nth_id({first} + n) FROM generate_series(0, {many} - 1) n"))?;
        if n >= sizes.pullers {
            wire.prepare("write", "UPDATE todos SET priority = priority + 1 WHERE id = $1")?;
            crowd.writers.push((wire, ids));
            continue;
        }
        for id in &ids {
            world.admin.execute("touch", &[id])?;
        }
        wire.prepare("pull", "SELECT pull_changes('{todos}', $1, filter => $2)")?;
        wire.prepare("select", "SELECT json_agg(row_to_json(t)) FROM todos t WHERE id = ANY ($1)")?;
        let filter = serde_json::json!({ "todos": { "user_id": [user(n)] } }).to_string();
        let ids = format!("{{{}}}", ids.join(","));
        crowd.pullers.push(Puller { wire, cursor: since.clone(), filter, ids });
    }
    world.vacuum("todos")?;
    world.vacuum("snapsync.change")?;
    for p in &mut crowd.pullers {
        let came = count(&p.wire.execute_text("pull", &[&p.cursor, &p.filter])?, "todos")?;
        ensure!(came as u64 == CHANGED, "{came} changes came");
    }

    let slice = |crowd: &mut Crowd, others: Others| -> Result<f64> {
        // Bloat of the slice before, and its entries in the log, are the same for all.
        world_vacuum(cluster, &world.database)?;
        let found = crowd.slice(others, sizes.slice)?;
        let total = found.written.iter().sum::<u64>() as f64 / sizes.slice.as_secs_f64();
        crowd.found.push(found);
        Ok(total)
    };
    let contestants: [Contestant<Crowd>; 4] = [
        &|c, _| slice(c, Others::Pull),
        &|c, _| slice(c, Others::Select),
        &|c, _| slice(c, Others::Nothing),
        &|c, _| slice(c, Others::PullAtPace),
    ];
    let written = interleave(sizes.runs, &mut crowd, &contestants)?;
    let found = std::mem::take(&mut crowd.found);
    // As they were taken: in turns of four, every other turn from the back; the first was the warm-up.
    let of = |which: usize| -> Vec<&Found> {
        found
            .chunks(contestants.len())
            .enumerate()
            .skip(1)
            .map(|(run, turn)| &turn[if run % 2 == 0 { which } else { turn.len() - 1 - which }])
            .collect()
    };
    let quantile = |which: usize, q: f64| -> Sample {
        Sample(of(which).iter().map(|f| Sample(f.latencies.clone()).quantile(q)).collect())
    };

    let (pullers, writers) = (sizes.pullers, sizes.writers);
    let mut row = |work: String, baseline: &str, unit, pair: (&Sample, &Sample), goal| {
        report.row(Row::new("connections", work, baseline, unit, pair, goal));
    };
    let (p50, p99) = (quantile(0, 0.5), quantile(0, 0.99));
    let at_once = format!("{pullers} pulling without pause, {writers} writing");
    row(format!("{at_once}: p99 of a pull"), "p50 of a pull", Unit::Seconds, (&p99, &p50), Goal::below(8.0));
    let (selects_50, selects_99) = (quantile(1, 0.5), quantile(1, 0.99));
    let reading = format!("{pullers} reading by id instead");
    row(format!("{reading}: p99"), "p50", Unit::Seconds, (&selects_99, &selects_50), Goal::Report);
    let paced = format!("{pullers} pulling every {} ms", PACE.as_millis());
    let (paced_50, paced_99) = (quantile(3, 0.5), quantile(3, 0.99));
    row(format!("{paced}: p99 of a pull"), "p50 of a pull", Unit::Seconds, (&paced_99, &paced_50), Goal::Report);
    // Writers' times per transaction: how much slower, not how many fewer.
    let each = |which: usize| written[which].map(|tps| writers as f64 / tps);
    let beside = |of: &str| format!("a write, {of}");
    row(beside("pullers without pause"), "beside readers by id", Unit::Seconds, (&each(0), &each(1)), Goal::below(1.1));
    row(beside("pullers every 500 ms"), "alone", Unit::Seconds, (&each(3), &each(2)), Goal::below(1.1));
    row(beside("pullers without pause"), "alone", Unit::Seconds, (&each(0), &each(2)), Goal::Report);
    let fewest = |f: &Found| f.written.iter().min().copied().unwrap_or(0) as f64;
    let mean = |f: &Found| f.written.iter().sum::<u64>() as f64 / f.written.len() as f64;
    let unfair = Sample(of(0).iter().map(|f| mean(f) / fewest(f)).collect());
    report.note(format!(
        "{at_once}: {:.0} pulls/s; the slowest writer is {:.2} times slower than the mean. The machine has {} processors \
         for {} busy backends and as many clients: what waits there waits for a processor, which readers by id do as well",
        of(0).iter().map(|f| f.latencies.len() as f64).sum::<f64>() / (of(0).len() as f64 * sizes.slice.as_secs_f64()),
        unfair.median(),
        std::thread::available_parallelism().map_or(0, usize::from),
        pullers + writers,
    ));
    Ok(())
}

fn world_vacuum(cluster: &Cluster, database: &str) -> Result<()> {
    let mut admin = Wire::connect(&cluster.config(database))?;
    admin.run("VACUUM (ANALYZE) todos")?;
    Ok(())
}

impl Crowd {
    /// All of them until the time is over.
    fn slice(&mut self, others: Others, time: Duration) -> Result<Found> {
        let end = Instant::now() + time;
        std::thread::scope(|scope| -> Result<Found> {
            let writers: Vec<_> =
                self.writers.iter_mut().map(|(wire, ids)| scope.spawn(move || write(wire, ids, end))).collect();
            let pullers: Vec<_> = self
                .pullers
                .iter_mut()
                .enumerate()
                .filter(|_| others != Others::Nothing)
                .map(|(nth, p)| scope.spawn(move || p.run(nth, others, end)))
                .collect();
            let mut found = Found::default();
            for thread in writers {
                found.written.push(thread.join().expect("a writer does not panic")?);
            }
            for thread in pullers {
                found.latencies.extend(thread.join().expect("a puller does not panic")?);
            }
            Ok(found)
        })
    }
}

fn write(wire: &mut Wire, ids: &[String], end: Instant) -> Result<u64> {
    let mut done = 0;
    while Instant::now() < end {
        wire.execute("write", &[&ids[done as usize % ids.len()]])?;
        done += 1;
    }
    Ok(done)
}

impl Puller {
    fn run(&mut self, nth: usize, others: Others, end: Instant) -> Result<Vec<f64>> {
        let mut latencies = Vec::new();
        // Evenly over the period, and no more of them than fit.
        let mut next = Instant::now() + PACE * (nth as u32 % 64) / 64;
        loop {
            if others == Others::PullAtPace {
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
                next += PACE;
            }
            let begin = Instant::now();
            if begin >= end {
                return Ok(latencies);
            }
            if others == Others::Select {
                self.wire.execute("select", &[&self.ids])?;
            } else {
                self.wire.execute("pull", &[&self.cursor, &self.filter])?;
            }
            latencies.push(begin.elapsed().as_secs_f64());
        }
    }
}

/// A reader looks through the lock table for writers that are committing: its time goes with the connections that may be
/// there (`max_connections`), and with the locks that are held.
pub fn idle(cluster: &Cluster, sizes: &Sizes, report: &mut Report) -> Result<()> {
    const CALLS: usize = 500;
    let mut world = World::new(cluster, "idle")?;
    world.table("todos", 1_000, SHORT, Kind::Tracked)?;
    let mut wire = world.session()?;
    let since = cursor(&mut wire)?.to_string();
    wire.prepare("pull", "SELECT pull_changes('{todos}', $1)")?;
    // The same look at the lock table, with a row made of each lock.
    wire.prepare("scan", "SELECT count(*) FROM pg_lock_status()")?;
    wire.prepare("one", "SELECT 1")?;
    struct Looker {
        wire: Wire,
        /// The time of "scan" less that of "one", of each of the contestants below.
        looks: [Sample; 3],
    }
    // Beside this many, with their transactions left open or not.
    let beside = |l: &mut Looker, run: usize, which: usize, idle: usize, begin: &str| -> Result<f64> {
        gone(&mut l.wire)?;
        let mut others = (0..idle).map(|_| world.session()).collect::<Result<Vec<_>>>()?;
        for other in &mut others {
            other.run(begin)?;
        }
        let mut each = |statement: &str, parameters: &[&str]| {
            timed_each(CALLS, |_| l.wire.execute(statement, parameters).map(drop))
        };
        // The machine is still busy with processes that start or end: the first ones are not counted.
        each("pull", &[&since])?;
        let pull = each("pull", &[&since])?;
        let look = each("scan", &[])? - each("one", &[])?;
        if run > 0 {
            l.looks[which].0.push(look);
        }
        Ok(pull)
    };
    let n = sizes.idle;
    let contestants: [Contestant<Looker>; 3] =
        [&|l, run| beside(l, run, 0, n, ""), &|l, run| beside(l, run, 1, 0, ""), &|l, run| {
            beside(l, run, 2, n, "BEGIN; SELECT 1 FROM todos LIMIT 1")
        }];
    let mut looker = Looker { wire, looks: Default::default() };
    let samples = interleave(sizes.runs, &mut looker, &contestants)?;
    let work = "pull with nothing changed, 1 collection";
    for (sample, what) in [(&samples[0], "idle"), (&samples[2], "idle in transaction")] {
        report.row(Row::new(
            "idle",
            format!("{work}, beside {n} {what}"),
            "with no other connection",
            Unit::Seconds,
            (sample, &samples[1]),
            Goal::Report,
        ));
    }
    let [idle, none, open] = looker.looks.map(|l| Unit::Seconds.show(l.median().max(0.0)));
    report.note(format!(
        "a look at the lock table takes at most {none} with no other connection, {idle} beside {n} idle ones, {open} beside {n} \
         that are idle in a transaction (`pg_lock_status()` less `SELECT 1`: that also makes a row of each lock)"
    ));
    Ok(())
}

/// Until no other client is connected to this database; a closed connection's backend ends a moment later.
fn gone(wire: &mut Wire) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(30);
    // The superuser's connection, which made the tables, stays.
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'authenticator' \
               AND pid <> pg_backend_pid()";
    while wire.text(sql)? != "0" {
        ensure!(Instant::now() < end, "connections that were closed are still there");
    }
    Ok(())
}
