//! The pullers: each keeps a replica from pull answers alone, and now and then proves it exact in the middle of the run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use postgres::{Client, Transaction};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::postgrest::{select_rows, Caller, Pull};
use crate::replica::{Applied, Difference, Replica};

use super::tables;

/// How a puller behaves.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// the share of its pulls in REPEATABLE READ (the cursor then comes from the log, not from the lock table)
    pub repeatable_read: f64,
    /// the share of pulls after which it forgets all and starts from null
    pub forgetful: f64,
    /// the longest pause between two pulls, in milliseconds
    pub pause: u64,
    /// the share of its pulls that are pages; of these some are lost on their way, and come again
    pub pages: f64,
    /// whether it compares itself with the tables during the run (only where the cursor promises that)
    pub exact: bool,
}

#[derive(Default)]
pub struct Report {
    pub pulls: u64,
    pub pulls_repeatable_read: u64,
    pub pages: u64,
    pub pages_lost: u64,
    /// all answers but first syncs
    pub applied: Applied,
    pub first_sync_rows: u64,
    pub exact_checks: u64,
    pub exact: Difference,
    /// after the writers have ended
    pub closing: Difference,
    pub rows: usize,
    pub slowest: Duration,
}

pub struct Puller {
    client: Client,
    rng: StdRng,
    caller: Caller,
    habits: Habits,
    replica: Replica,
    report: Report,
    exact_time: Duration,
}

impl Puller {
    pub fn new(client: Client, seed: u64, habits: Habits) -> Self {
        Self {
            client,
            rng: StdRng::seed_from_u64(seed),
            caller: Caller::new("app", "1"),
            habits,
            replica: Replica::new(&tables::specs()),
            report: Report::default(),
            exact_time: Duration::ZERO,
        }
    }

    /// Pulls until the writers have ended, once more after that, and compares.
    pub fn run(mut self, writers_ended: &AtomicBool) -> Result<Report> {
        let started = Instant::now();
        while !writers_ended.load(Ordering::Acquire) {
            let repeatable = self.rng.random_bool(self.habits.repeatable_read);
            // Reading whole tables is dear: no more than a fifth of this puller's time.
            let exact = self.replica.next().is_none()
                && repeatable
                && self.habits.exact
                && self.exact_time < started.elapsed() / 5
                && self.rng.random_bool(0.3);
            self.pull(repeatable, exact, true).with_context(|| format!("pull {} failed", self.report.pulls + 1))?;
            if self.rng.random_bool(self.habits.forgetful) {
                self.replica.forget();
            }
            std::thread::sleep(Duration::from_millis(self.rng.random_range(0..=self.habits.pause)));
        }
        self.pull(false, false, false).context("the closing pull failed")?;
        // What is left of a pull in pages, and what changed meanwhile.
        self.pull_all()?;
        self.pull_all()?;
        let mut tx = self.caller.begin(&mut self.client, true, true)?;
        for name in self.replica.names() {
            self.report.closing.add(compare(&mut tx, &self.replica, name)?);
        }
        tx.rollback()?;
        self.report.rows = self.replica.len();
        Ok(self.report)
    }

    /// Pulls page by page until there is no more; none is lost, so what comes last is there.
    fn pull_all(&mut self) -> Result<()> {
        loop {
            self.pull(false, false, false).context("a closing pull failed")?;
            if self.replica.next().is_none() {
                return Ok(());
            }
        }
    }

    /// `loses`: some pages do not reach the client.
    fn pull(&mut self, repeatable: bool, exact: bool, loses: bool) -> Result<()> {
        let mut tx = self.caller.begin(&mut self.client, true, repeatable)?;
        if repeatable && self.rng.random_bool(0.3) {
            // The snapshot is taken already; let the world move on before the pull.
            std::thread::sleep(Duration::from_millis(self.rng.random_range(0..20)));
        }
        let names = self.replica.names().to_vec();
        let resumes = self.replica.next().is_some();
        // To be exact, all pages come under this snapshot.
        let paged = resumes && !exact || self.rng.random_bool(self.habits.pages);
        let pages = if exact { u32::MAX } else { self.rng.random_range(1..4) };
        for _ in 0..pages {
            let size = paged.then(|| 1 << self.rng.random_range(0..9));
            let request = Pull {
                collections: &names,
                last_pulled_at: self.replica.cursor(),
                cursor_as_number: self.rng.random_bool(0.5),
                page_size: size,
                next: self.replica.next(),
                ..Pull::default()
            };
            let started = Instant::now();
            let answer = request.run(&mut tx)?;
            self.report.slowest = self.report.slowest.max(started.elapsed());
            let first = self.replica.cursor().is_none();
            self.report.pulls += 1;
            self.report.pulls_repeatable_read += u64::from(repeatable);
            self.report.pages += u64::from(paged);
            if paged && loses && self.rng.random_bool(0.1) {
                self.report.pages_lost += 1;
                // Killed before the rows were stored, or before the token was.
                if self.rng.random_bool(0.5) {
                    self.replica.apply_rows(&answer)?;
                }
                continue;
            }
            let applied = self.replica.apply(&answer, |_, _| ())?;
            if first {
                self.report.first_sync_rows += applied.rows;
            } else {
                self.report.applied += applied;
            }
            if self.replica.next().is_none() {
                break;
            }
        }
        if exact && paged {
            // Later pages leave to the next pull what is not before the first one's snapmin.
            let request = Pull { collections: &names, last_pulled_at: self.replica.cursor(), ..Pull::default() };
            let answer = request.run(&mut tx)?;
            self.replica.apply(&answer, |_, _| ())?;
        }
        if exact {
            let started = Instant::now();
            // Not the table that is truncated: TRUNCATE is not MVCC-safe, a SELECT in an older snapshot finds it empty.
            let names: Vec<&String> = names.iter().filter(|n| *n != tables::Table::Small.name()).collect();
            let name = names[self.rng.random_range(0..names.len())];
            let difference = compare(&mut tx, &self.replica, name)?;
            self.report.exact.add(difference);
            self.report.exact_checks += 1;
            self.exact_time += started.elapsed();
        }
        tx.rollback()?;
        Ok(())
    }
}

fn compare(tx: &mut Transaction<'_>, replica: &Replica, name: &str) -> Result<Difference> {
    replica.compare(name, select_rows(tx, name)?.into_iter())
}
