//! Puts writers and pullers on one database and sums up.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{anyhow, Result};

use crate::cluster::Cluster;
use crate::naive;
use crate::verdict::Verdict;

use super::pullers::{Habits, Puller, Report};
use super::statements::Abilities;
use super::tables;
use super::writers::{Shared, Writer};

pub struct Options {
    pub transactions: u64,
    pub seed: u64,
    pub writers: usize,
    pub pullers: usize,
    pub cursor: naive::Cursor,
    /// whether some transactions are prepared and resolved later
    pub prepare: bool,
}

pub struct Summary {
    pub reports: Vec<Report>,
    pub seconds: f64,
}

pub fn run(cluster: &Cluster, options: &Options, verdict: &mut Verdict) -> Result<Summary> {
    let database = cluster.create_database("model")?;
    let mut admin = cluster.connect(&database)?;
    tables::install(&mut admin, options.cursor)?;
    let version: i32 = admin.query_one("SELECT current_setting('server_version_num')::int", &[])?.get(0);
    let snapsync = options.cursor == naive::Cursor::Snapsync;
    if snapsync {
        // Low, so that ordinary bulk statements cross it.
        admin.batch_execute(&format!("ALTER DATABASE {database} SET snapsync.flush_threshold = 100"))?;
    }
    let shared = Shared::new(
        options.transactions,
        Abilities { merge: version >= 150_000, truncate: snapsync, prepare: options.prepare },
    );
    let ended = AtomicBool::new(false);
    let started = Instant::now();
    let seed = |n: usize| options.seed.wrapping_mul(1_000_003).wrapping_add(n as u64);

    let (writers, reports) = std::thread::scope(|scope| {
        let pullers: Vec<_> = (0..options.pullers)
            .map(|i| {
                let (ended, database, failed) = (&ended, &database, &shared.failed);
                scope.spawn(move || -> Result<Report> {
                    let puller = || {
                        let client = cluster.connect_as(database, "authenticator")?;
                        Puller::new(client, seed(1000 + i), habits(i, snapsync)).run(ended)
                    };
                    puller().inspect_err(|_| failed.store(true, Ordering::Relaxed))
                })
            })
            .collect();
        let writers: Vec<_> = (0..options.writers + 2)
            .map(|i| {
                let (shared, database) = (&shared, &database);
                scope.spawn(move || -> Result<()> {
                    let mut writer = Writer::new(cluster.connect(database)?, seed(i), shared)?;
                    let ran = if i < options.writers { writer.run() } else { writer.run_idle() };
                    ran.inspect_err(|_| shared.failed.store(true, Ordering::Relaxed))
                })
            })
            .collect();
        let writers: Vec<Result<()>> = writers.into_iter().map(|w| join(w.join())).collect();
        let resolved = cluster
            .connect(&database)
            .and_then(|client| Writer::new(client, seed(999), &shared))
            .and_then(|mut w| w.resolve_all());
        ended.store(true, Ordering::Release);
        let reports: Vec<Result<Report>> = pullers.into_iter().map(|p| join(p.join())).collect();
        (writers.into_iter().chain([resolved]).collect::<Vec<_>>(), reports)
    });
    for writer in writers {
        if let Err(e) = writer {
            verdict.check(false, format!("a writer: {e:#}"));
        }
    }
    let mut good = Vec::new();
    for report in reports {
        match report {
            Ok(r) => good.push(r),
            Err(e) => verdict.check(false, format!("a puller: {e:#}")),
        }
    }
    if cluster.crashed() {
        verdict.check(false, format!("the server crashed:\n{}", cluster.log_tail(20)));
    }
    print_writers(&shared);
    let seconds = started.elapsed().as_secs_f64();
    drop(admin);
    Ok(Summary { reports: good, seconds })
}

/// The pullers differ: plain ones, ones in REPEATABLE READ, a slow one, one that starts anew now and then.
fn habits(i: usize, snapsync: bool) -> Habits {
    // A naive cursor promises nothing in REPEATABLE READ; there the plain form is measured.
    let repeatable_read = if snapsync { [0.0, 0.5, 1.0, 0.2][i % 4] } else { 0.0 };
    Habits {
        repeatable_read,
        forgetful: if i % 4 == 3 { 0.01 } else { 0.0 },
        pause: [10, 25, 25, 120][i % 4],
        pages: if snapsync { [0.0, 0.7, 0.3, 1.0][i % 4] } else { 0.0 },
        exact: snapsync,
    }
}

fn join<T>(result: std::thread::Result<Result<T>>) -> Result<T> {
    result.unwrap_or_else(|_| Err(anyhow!("a thread panicked")))
}

fn print_writers(shared: &Shared) {
    let n = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let c = &shared.counts;
    println!(
        "transactions {}, rolled back {}, ended by an error {}, prepared {}, bulk {}, truncates {}, idle in transaction {}",
        n(&c.committed),
        n(&c.rolled_back),
        n(&c.failed),
        n(&c.prepared),
        n(&c.bulk),
        n(&c.truncates),
        n(&c.idle)
    );
}
