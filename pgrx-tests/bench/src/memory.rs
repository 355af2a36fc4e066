//! How much memory a backend takes for a large first pull.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure, Result};

use crate::pull::{request_of, thousands};
use crate::report::{Goal, Report, Row, Unit};
use crate::sample::{interleave, Contestant, Sample};
use crate::world::{Kind, World, LONG};
use crate::Sizes;
use snapsync_e2e::cluster::Cluster;
use snapsync_e2e::postgrest::Release;

/// Most of what a pull takes comes and goes in pieces of 100 MB that live for tens of milliseconds: a look every half
/// millisecond misses no more than what fills up within one.
const LOOK_EVERY: Duration = Duration::from_micros(500);

pub fn memory(cluster: &Cluster, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut world = World::new(cluster, "memory")?;
    world.table("notes", sizes.memory, LONG, Kind::Tracked)?;
    let counted =
        world.session()?.text("SELECT json_array_length(pull_changes('{notes}') #> '{changes,notes,created}')")?;
    ensure!(counted == sizes.memory.to_string(), "the pull brings {counted} rows, not {}", sizes.memory);
    let size = world.session()?.run("SELECT pull_changes('{notes}')")?.bytes as f64;
    // The time stands beside it: from 256 MB on, an answer is compressed for a moment to need less room.
    let mut state = (world, [Sample(Vec::new()), Sample(Vec::new()), Sample(Vec::new())]);
    let look = |(world, times): &mut (World, [Sample; 3]), run: usize, which: usize, sql: &str| -> Result<f64> {
        let (bytes, seconds) = peak(world, sql)?;
        // The first is the warm-up.
        if run > 0 {
            times[which].0.push(seconds);
        }
        Ok(bytes as f64)
    };
    let pull: Contestant<_> = &|state, run| look(state, run, 0, "SELECT pull_changes('{notes}')");
    let aggregate: Contestant<_> = &|state, run| look(state, run, 1, "SELECT json_agg(row_to_json(t)) FROM notes t");
    let request = request_of(Release::Twelve, "notes");
    let over_postgrest: Contestant<_> = &|state, run| look(state, run, 2, &request);
    let peaks = interleave(sizes.runs, &mut state, &[pull, aggregate, over_postgrest])?;
    let (_, times) = state;
    let rows = thousands(sizes.memory);
    let output = Sample(vec![size; sizes.runs]);
    let goal = Goal::AtMost { reach: 2.5, aim: 1.3 };
    let work = format!("first pull of {rows} rows: peak memory");
    report.row(Row::new("memory", work, "size of the answer", Unit::Bytes, (&peaks[0], &output), goal));
    let work = format!("first pull over PostgREST's SQL of {rows} rows: peak memory");
    let goal = Goal::AtMost { reach: 2.5, aim: 2.3 };
    report.row(Row::new("memory", work, "size of the answer", Unit::Bytes, (&peaks[2], &output), goal));
    let work = format!("json_agg(row_to_json(t)) of {rows} rows: peak memory");
    report.row(Row::new("memory", work, "size of the answer", Unit::Bytes, (&peaks[1], &output), Goal::Report));
    let work = format!("first pull of {rows} rows");
    let baseline = "json_agg(row_to_json(t))";
    report.row(Row::new("memory", work, baseline, Unit::Seconds, (&times[0], &times[1]), Goal::Report));
    Ok(())
}

/// The most anonymous memory that a fresh backend held while it answered, in bytes, beyond what it had before; and how many
/// seconds that took.
fn peak(world: &mut World, sql: &str) -> Result<(u64, f64)> {
    let mut wire = world.session()?;
    // Catalog caches and the library are not what grows with the answer.
    wire.run(
        "SELECT pull_changes('{}'), pg_column_size(json_agg(row_to_json(t))) FROM (SELECT * FROM notes LIMIT 1) t",
    )?;
    let pid = wire.pid;
    let before = Status::of(pid)?.anonymous;
    let (done, most) = (AtomicBool::new(false), AtomicU64::new(0));
    let seconds = std::thread::scope(|scope| -> Result<f64> {
        scope.spawn(|| {
            // Bounded by the query's end: the flag is set whatever its result is.
            while !done.load(Ordering::Relaxed) {
                if let Ok(status) = Status::of(pid) {
                    most.fetch_max(status.anonymous, Ordering::Relaxed);
                }
                std::thread::sleep(LOOK_EVERY);
            }
        });
        let begin = Instant::now();
        let result = wire.run(sql);
        let seconds = begin.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        result.map(|_| seconds)
    })?;
    // The kernel's own high-water mark counts the pages of shared_buffers and of programs that the backend has touched.
    // Those only grow, so what is left without all of them is surely anonymous: a lower bound that misses no moment.
    let after = Status::of(pid)?;
    let kernels = after.high_water.saturating_sub(after.shared + after.files);
    Ok((most.into_inner().max(kernels).saturating_sub(before), seconds))
}

/// Of /proc/PID/status, in bytes.
struct Status {
    anonymous: u64,
    shared: u64,
    files: u64,
    high_water: u64,
}

impl Status {
    fn of(pid: u32) -> Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| -> Result<u64> {
            let line = text.lines().find_map(|l| l.strip_prefix(name)).ok_or_else(|| anyhow!("no {name} there"))?;
            Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
        };
        Ok(Status {
            anonymous: field("RssAnon:")?,
            shared: field("RssShmem:")?,
            files: field("RssFile:")?,
            high_water: field("VmHWM:")?,
        })
    }
}
