//! How soon a client has what somebody else has committed, what pokes cost who commits, and what those cost who wait.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{ensure, Result};

use crate::report::{Goal, Report, Row, Unit};
use crate::sample::{interleave, timed_each, Contestant, Sample};
use crate::wire::Wire;
use crate::world::{cursor, Kind, World, ME, SHORT};
use crate::Sizes;
use snapsync_e2e::cluster::Cluster;

/// How often a client polls that does not wait.
const POLL: Duration = Duration::from_millis(500);

/// Commits whose way is measured, each time.
const COMMITS: usize = 40;

/// Sessions that wait.
const WAITERS: usize = 200;

/// A client of `ME`, until it has seen this value.
struct Client {
    wire: Wire,
    cursor: String,
}

impl Client {
    fn new(world: &World) -> Result<Client> {
        let mut wire = world.session()?;
        wire.prepare("pull", "SELECT pull_changes('{todos}', $1)")?;
        wire.prepare("wait", "SELECT wait_for_changes('{todos}', $1)")?;
        let cursor = cursor(&mut wire)?.to_string();
        Ok(Client { wire, cursor })
    }

    /// Pulls; how many rows came.
    fn pull(&mut self) -> Result<usize> {
        let answer: serde_json::Value =
            serde_json::from_str(&self.wire.execute_text("pull", &[self.cursor.as_str()])?)?;
        self.cursor = answer["timestamp"].to_string();
        Ok(answer["changes"]["todos"]["updated"].as_array().map_or(0, Vec::len))
    }

    fn wait(&mut self) -> Result<()> {
        self.wire.execute("wait", &[self.cursor.as_str()]).map(drop)
    }
}

/// From before a commit to behind the pull that brings it: the seconds of each.
fn delays(world: &World, waits: bool) -> Result<Vec<f64>> {
    let mut client = Client::new(world)?;
    let mut writer = world.session()?;
    writer.prepare("touch", "UPDATE todos SET priority = priority + 1 WHERE id = nth_id($1::bigint)")?;
    let mut delays = Vec::new();
    for nth in 0..COMMITS {
        let (mut begun, mut ended) = (Instant::now(), Instant::now());
        thread::scope(|scope| -> Result<()> {
            let client = &mut client;
            let puller = scope.spawn(move || -> Result<Instant> {
                loop {
                    match waits {
                        true => client.wait()?,
                        false => thread::sleep(POLL),
                    }
                    if client.pull()? > 0 {
                        return Ok(Instant::now());
                    }
                }
            });
            // At any time of its period; and it sleeps by then.
            thread::sleep(Duration::from_millis(30 + (nth as u64 * 137) % POLL.as_millis() as u64));
            begun = Instant::now();
            writer.execute("touch", &[&(nth % 100 + 1).to_string()])?;
            ended = puller.join().expect("a puller does not panic")?;
            Ok(())
        })?;
        delays.push(ended.duration_since(begun).as_secs_f64());
    }
    Ok(delays)
}

pub fn live(cluster: &Cluster, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut world = World::new(cluster, "live")?;
    world.table("todos", 1_000, SHORT, Kind::Tracked)?;
    let runs = sizes.runs.min(5);
    let (mut waiting, mut polling) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        waiting.push(Sample(delays(&world, true)?));
        polling.push(Sample(delays(&world, false)?));
    }
    let quantile = |of: &[Sample], q: f64| Sample(of.iter().map(|sample| sample.quantile(q)).collect());
    for (name, q) in [("median", 0.5), ("p99", 0.99)] {
        report.row(Row::new(
            "live",
            format!("from a commit to the end of another session's pull, with wait_for_changes: {name}"),
            format!("with a pull every {} ms", POLL.as_millis()),
            Unit::Seconds,
            (&quantile(&waiting, q), &quantile(&polling, q)),
            Goal::Report,
        ));
    }
    notify(&mut world, sizes, report)?;
    waiters(&mut world, sizes, report)
}

/// So many transactions by so many writers; the seconds of one.
fn transactions(writers: &mut [Wire], each: usize) -> Result<f64> {
    let begun = Instant::now();
    let count = writers.len() * each;
    thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = writers
            .iter_mut()
            .enumerate()
            .map(|(w, wire)| {
                scope.spawn(move || -> Result<()> {
                    (0..each).try_for_each(|n| wire.execute("touch", &[&(w * 100 + n % 100 + 1).to_string()]).map(drop))
                })
            })
            .collect();
        threads.into_iter().try_for_each(|t| t.join().expect("a writer does not panic"))
    })?;
    Ok(begun.elapsed().as_secs_f64() / count as f64)
}

/// As Supabase has it, as far as commits pay for it: a row in a table.
const REALTIME: &str = "CREATE SCHEMA realtime; \
    CREATE TABLE realtime.messages (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), topic text NOT NULL, extension text NOT NULL, payload jsonb, \
        event text, private boolean, updated_at timestamp NOT NULL DEFAULT now(), inserted_at timestamp NOT NULL DEFAULT now()); \
    CREATE FUNCTION realtime.send(payload jsonb, event text, topic text, private boolean DEFAULT true) RETURNS void LANGUAGE plpgsql AS $$ \
    BEGIN INSERT INTO realtime.messages (payload, event, topic, private, extension) VALUES (payload, event, topic, private, 'broadcast'); END $$; \
    GRANT USAGE ON SCHEMA realtime TO PUBLIC; GRANT INSERT ON realtime.messages TO PUBLIC";

/// What pokes cost: alone, and where those who notify wait for each other's commits.
fn notify(world: &mut World, sizes: &Sizes, report: &mut Report) -> Result<()> {
    const EACH: usize = 500;
    world.admin.run(REALTIME)?;
    let ways = [("that pokes", "notify"), ("that broadcasts", "realtime")];
    for ((what, way), writers) in ways.into_iter().flat_map(|way| [1, sizes.writers].map(|writers| (way, writers))) {
        let touch = "UPDATE todos SET priority = priority + 1 WHERE id = nth_id($1::bigint)";
        let mut all = (0..writers).map(|_| world.session()).collect::<Result<Vec<_>>>()?;
        all.iter_mut().try_for_each(|wire| wire.prepare("touch", touch))?;
        let set = |admin: &mut Wire, notify: &str| -> Result<()> {
            admin.run(&format!("SELECT snapsync.enable('todos', notify => '{notify}')"))?;
            admin.run("VACUUM todos")?;
            Ok(())
        };
        let mut state = (&mut world.admin, all);
        let contestants: [Contestant<(&mut Wire, Vec<Wire>)>; 2] = [
            &|(admin, all), _| {
                set(admin, way)?;
                transactions(all, EACH)
            },
            &|(admin, all), _| {
                set(admin, "none")?;
                transactions(all, EACH)
            },
        ];
        let samples = interleave(sizes.runs, &mut state, &contestants)?;
        report.row(Row::new(
            "live",
            format!("a transaction {what}, {writers} writing at once"),
            "that does not",
            Unit::Seconds,
            (&samples[0], &samples[1]),
            Goal::Report,
        ));
    }
    Ok(())
}

/// Processor time of these processes, in seconds.
fn processor_time(pids: &[String]) -> f64 {
    let ticks = pids.iter().filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        Some(fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?)
    });
    // SAFETY: asks for a constant of the system.
    ticks.sum::<f64>() / unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64
}

/// Memory that is these processes' own, each, in bytes.
fn own_memory(pids: &[String]) -> f64 {
    let own = |pid: &String| -> Option<f64> {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let lines = rollup.lines().filter(|line| line.starts_with("Private_"));
        Some(lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok()).sum::<f64>() * 1024.0)
    };
    pids.iter().filter_map(own).sum::<f64>() / pids.len() as f64
}

fn user(n: usize) -> String {
    format!("00000000-0000-4000-8000-{n:012x}")
}

/// Many that wait, each for a user of his own, beside a writer whom none of them sees, or all of one table without scopes.
fn waiters(world: &mut World, sizes: &Sizes, report: &mut Report) -> Result<()> {
    const EACH: usize = 2_000;
    let stop = AtomicBool::new(false);
    let mut writer = vec![world.session_of(ME)?];
    writer[0].prepare("touch", "UPDATE todos SET priority = priority + 1 WHERE id = nth_id($1::bigint)")?;
    world.admin.run("SELECT snapsync.enable('todos', notify => 'none')")?;
    let mut alone = Sample::default();
    for _ in 0..sizes.runs {
        alone.0.push(transactions(&mut writer, EACH)?);
    }
    let since = cursor(&mut world.admin)?.to_string();
    let mut waiting = (1..=WAITERS).map(|n| world.session_of(&user(n))).collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| -> Result<()> {
        for wire in &mut waiting {
            let (stop, since) = (&stop, &since);
            scope.spawn(move || {
                let _ = wire.prepare("wait", "SELECT wait_for_changes('{todos}', $1, timeout => '5 s')");
                while !stop.load(Ordering::SeqCst) && wire.execute("wait", &[since.as_str()]).is_ok() {}
            });
        }
        let measured = (|| -> Result<()> {
            let there = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT wait_for_changes%' AND wait_event = 'Extension'";
            let begun = Instant::now();
            let mut pids = Vec::new();
            while pids.len() < WAITERS {
                ensure!(begun.elapsed() < Duration::from_secs(60), "only {} wait", pids.len());
                pids = world.admin.column(there)?;
            }
            let share = |seconds: f64, since: Instant| 100.0 * seconds / since.elapsed().as_secs_f64();
            let (before, begun) = (processor_time(&pids), Instant::now());
            thread::sleep(Duration::from_secs(4));
            let quiet = share(processor_time(&pids) - before, begun);
            let (before, begun) = (processor_time(&pids), Instant::now());
            let mut beside = Sample::default();
            for _ in 0..sizes.runs {
                beside.0.push(transactions(&mut writer, EACH)?);
            }
            let busy = share(processor_time(&pids) - before, begun);
            let held =
                "SELECT max(age(backend_xmin))::text FROM pg_stat_activity WHERE query LIKE 'SELECT wait_for_changes%'";
            let held = world.admin.text(held)?;
            report.row(Row::new(
                "live",
                format!("a write beside {WAITERS} that wait for others' rows"),
                "alone",
                Unit::Seconds,
                (&beside, &alone),
                Goal::Report,
            ));
            report.note(format!(
                "{WAITERS} that wait take {quiet:.1} % of a processor while nobody writes, {busy:.1} % beside a writer of {:.0} transactions a second \
                 that none of them sees, and {:.1} MB each; the oldest snapshot among them (waits of 5 s) was {held} transactions old",
                1.0 / beside.median(),
                own_memory(&pids) / 1e6,
            ));
            Ok(())
        })();
        stop.store(true, Ordering::SeqCst);
        measured
    })?;
    let mut client = Client::new(world)?;
    let calls = timed_each(200, |_| client.wire.execute("wait", &["0"]).map(drop))?;
    report.note(format!("a call of wait_for_changes that does not have to wait takes {:.0} us", calls * 1e6));
    Ok(())
}
