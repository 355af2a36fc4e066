//! The writers: every way a transaction can begin, wait, fail and end.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{bail, Context, Result};
use postgres::error::SqlState;
use postgres::Client;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::statements::{Abilities, Statements};
use super::tables::Numbers;

/// What the writers share.
pub struct Shared {
    pub wanted: u64,
    pub numbers: Numbers,
    pub abilities: Abilities,
    pub counts: Counts,
    /// transactions prepared by one writer, to be resolved by another
    prepared: Mutex<VecDeque<String>>,
    gid: AtomicU64,
    /// a writer or a puller met an error that ends the check: nobody need go on
    pub failed: AtomicBool,
}

#[derive(Default)]
pub struct Counts {
    pub committed: AtomicU64,
    pub rolled_back: AtomicU64,
    /// ended by a lock time-out, a deadlock, a unique violation and the like
    pub failed: AtomicU64,
    pub prepared: AtomicU64,
    pub bulk: AtomicU64,
    pub truncates: AtomicU64,
    pub idle: AtomicU64,
}

impl Shared {
    pub fn new(wanted: u64, abilities: Abilities) -> Self {
        Self {
            wanted,
            numbers: Numbers::default(),
            abilities,
            counts: Counts::default(),
            prepared: Mutex::default(),
            gid: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        }
    }

    fn more(&self) -> bool {
        self.counts.committed.load(Ordering::Relaxed) < self.wanted && !self.failed.load(Ordering::Relaxed)
    }

    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

pub struct Writer<'a> {
    client: Client,
    rng: StdRng,
    shared: &'a Shared,
}

impl<'a> Writer<'a> {
    pub fn new(mut client: Client, seed: u64, shared: &'a Shared) -> Result<Self> {
        let mut rng = StdRng::seed_from_u64(seed);
        // Waiting long for a row that a prepared or idle transaction holds would only slow the check down.
        client.batch_execute("SET lock_timeout = '40ms'; SET deadlock_timeout = '20ms'")?;
        // Tables grow from nothing faster than autovacuum looks at them: by its statistics, every key would be sought by reading
        // them whole, which took three quarters of the check's time.
        client.batch_execute("SET enable_seqscan = off")?;
        if rng.random_bool(0.5) {
            client.batch_execute("SET synchronous_commit = off")?;
        }
        Ok(Self { client, rng, shared })
    }

    fn statements(&self) -> Statements<'a> {
        Statements { numbers: &self.shared.numbers, abilities: self.shared.abilities }
    }

    fn statement(&mut self) -> String {
        self.statements().random(&mut self.rng)
    }

    fn several(&mut self, most: usize) -> String {
        let n = self.rng.random_range(1..=most);
        (0..n).map(|_| self.statement()).collect::<Vec<_>>().join("; ")
    }

    /// Writes until enough transactions have committed.
    pub fn run(&mut self) -> Result<()> {
        while self.shared.more() {
            let kind = self.rng.random_range(0..1000);
            let done = match kind {
                0..450 => self.single(),
                450..700 => self.batch(),
                700..790 => self.savepoints(),
                790..840 => self.abort(),
                840..930 => self.interactive(),
                930..960 if self.shared.abilities.prepare => self.prepare(),
                960..975 => self.copy(),
                975..990 => self.other_isolation(),
                990..993 => self.bulk(),
                993..996 => self.truncate(),
                996..998 => self.vacuum(),
                _ => self.single(),
            };
            self.settle(done)?;
            if self.rng.random_bool(0.06) {
                self.resolve_one()?;
            }
        }
        Ok(())
    }

    /// An idle-in-transaction session: writes, then leaves the transaction open for long, by a client's measure.
    pub fn run_idle(&mut self) -> Result<()> {
        while self.shared.more() {
            let statement = self.statement();
            let done = self.client.batch_execute(&format!("BEGIN; {statement}"));
            if done.is_ok() {
                Shared::count(&self.shared.counts.idle);
                std::thread::sleep(Duration::from_millis(self.rng.random_range(20..600)));
            }
            let end = match done {
                Ok(()) if self.rng.random_bool(0.5) => {
                    let more = self.statement();
                    self.client.batch_execute(&more).and_then(|()| self.client.batch_execute("COMMIT"))
                }
                Ok(()) if self.rng.random_bool(0.2) => self.client.batch_execute("ROLLBACK"),
                Ok(()) => self.client.batch_execute("COMMIT"),
                Err(e) => Err(e),
            };
            self.settle(end)?;
        }
        Ok(())
    }

    /// Counts how a transaction ended; an error that the workload does not bring about by itself ends the check.
    fn settle(&mut self, done: Result<(), postgres::Error>) -> Result<()> {
        let Err(error) = done else {
            return Ok(());
        };
        let expected = [
            SqlState::UNIQUE_VIOLATION,
            SqlState::FOREIGN_KEY_VIOLATION,
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::CARDINALITY_VIOLATION,
            SqlState::CONFIGURATION_LIMIT_EXCEEDED,
            // "maximum number of prepared transactions reached"
            SqlState::OUT_OF_MEMORY,
        ];
        match error.code() {
            Some(code) if expected.contains(code) => {
                Shared::count(&self.shared.counts.failed);
                self.client.batch_execute("ROLLBACK")?;
                Ok(())
            }
            _ => Err(error).context("a writer met an error that its statements do not explain"),
        }
    }

    fn committed(&self) {
        Shared::count(&self.shared.counts.committed);
    }

    fn single(&mut self) -> Result<(), postgres::Error> {
        let statement = self.statement();
        // The extended protocol now and then: another path through the server.
        if self.rng.random_bool(0.1) {
            self.client.execute(&statement, &[])?;
        } else {
            self.client.batch_execute(&statement)?;
        }
        self.committed();
        Ok(())
    }

    fn batch(&mut self) -> Result<(), postgres::Error> {
        let statements = self.several(4);
        self.client.batch_execute(&format!("BEGIN; {statements}; COMMIT"))?;
        self.committed();
        Ok(())
    }

    fn savepoints(&mut self) -> Result<(), postgres::Error> {
        let mut sql = format!("BEGIN; {}", self.several(2));
        for depth in 0..self.rng.random_range(1..4) {
            let inner = self.several(2);
            sql += &format!("; SAVEPOINT s{depth}; {inner}");
            if self.rng.random_bool(0.05) {
                // Past the threshold inside a subtransaction: what was flushed early must go with it.
                sql += &format!("; {}", self.statements().bulk(&mut self.rng));
            }
            match self.rng.random_range(0..4) {
                0 => sql += &format!("; ROLLBACK TO s{depth}"),
                1 => sql += &format!("; RELEASE s{depth}"),
                2 => sql += &format!("; ROLLBACK TO s{depth}; {}; RELEASE s{depth}", self.statement()),
                // Stays open: the next one nests in it.
                _ => {}
            }
        }
        sql += &format!("; {}; COMMIT", self.statement());
        self.client.batch_execute(&sql)?;
        self.committed();
        Ok(())
    }

    fn abort(&mut self) -> Result<(), postgres::Error> {
        let statements = self.several(4);
        self.client.batch_execute(&format!("BEGIN; {statements}; ROLLBACK"))?;
        Shared::count(&self.shared.counts.rolled_back);
        Ok(())
    }

    /// A transaction of several round trips, which others overtake.
    fn interactive(&mut self) -> Result<(), postgres::Error> {
        self.client.batch_execute("BEGIN")?;
        for _ in 0..self.rng.random_range(1..4) {
            let statement = self.statement();
            self.client.batch_execute(&statement)?;
            if self.rng.random_bool(0.3) {
                std::thread::sleep(Duration::from_micros(self.rng.random_range(50..4000)));
            }
        }
        self.client.batch_execute("COMMIT")?;
        self.committed();
        Ok(())
    }

    fn other_isolation(&mut self) -> Result<(), postgres::Error> {
        let level = if self.rng.random_bool(0.5) { "SERIALIZABLE" } else { "REPEATABLE READ" };
        let statements = self.several(3);
        self.client.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}; {statements}; COMMIT"))?;
        self.committed();
        Ok(())
    }

    fn copy(&mut self) -> Result<(), postgres::Error> {
        let lines = self.statements().copy_lines(&mut self.rng);
        let mut sink = self.client.copy_in("COPY counters FROM STDIN")?;
        // Buffered by the driver: an error of the connection shows at finish.
        let _ = sink.write_all(lines.as_bytes());
        sink.finish()?;
        self.committed();
        Ok(())
    }

    /// Makes room in front: rows that change move there.
    fn vacuum(&mut self) -> Result<(), postgres::Error> {
        let table = ["notes", "lines", "counters", "docs"][self.rng.random_range(0..4)];
        self.client.batch_execute(&format!("VACUUM {table}"))
    }

    fn bulk(&mut self) -> Result<(), postgres::Error> {
        let statement = self.statements().bulk(&mut self.rng);
        let others = self.several(2);
        self.client.batch_execute(&format!("BEGIN; {statement}"))?;
        if self.rng.random_bool(0.5) {
            // Flushed, not committed: pulls that come by now must neither see nor skip it.
            std::thread::sleep(Duration::from_millis(self.rng.random_range(1..40)));
        }
        let end = if self.rng.random_bool(0.2) { "ROLLBACK" } else { "COMMIT" };
        self.client.batch_execute(&format!("{others}; {end}"))?;
        Shared::count(&self.shared.counts.bulk);
        Shared::count(if end == "COMMIT" { &self.shared.counts.committed } else { &self.shared.counts.rolled_back });
        Ok(())
    }

    fn truncate(&mut self) -> Result<(), postgres::Error> {
        if !self.shared.abilities.truncate || self.rng.random_bool(0.8) {
            return self.single();
        }
        let before = self.statement();
        let fill: Vec<String> =
            (0..3).map(|_| self.statements().insert(super::tables::Table::Small, &mut self.rng)).collect();
        let end = if self.rng.random_bool(0.2) { "ROLLBACK" } else { "COMMIT" };
        self.client.batch_execute(&format!("BEGIN; {before}; TRUNCATE small; {}; {end}", fill.join("; ")))?;
        Shared::count(&self.shared.counts.truncates);
        Shared::count(if end == "COMMIT" { &self.shared.counts.committed } else { &self.shared.counts.rolled_back });
        Ok(())
    }

    fn prepare(&mut self) -> Result<(), postgres::Error> {
        let gid = format!("g{}", self.shared.gid.fetch_add(1, Ordering::Relaxed));
        let mut statements = self.several(3);
        if self.rng.random_bool(0.03) {
            statements = format!("{statements}; {}", self.statements().bulk(&mut self.rng));
        }
        self.client.batch_execute(&format!("BEGIN; {statements}; PREPARE TRANSACTION '{gid}'"))?;
        Shared::count(&self.shared.counts.prepared);
        self.shared.prepared.lock().unwrap().push_back(gid);
        Ok(())
    }

    /// Ends a prepared transaction, usually another writer's. The oldest first: a prepared transaction has its stamp, so
    /// cursors wait for it and everything after it is sent again. One in twenty is passed over and waits longer.
    fn resolve_one(&mut self) -> Result<()> {
        let gid = {
            let mut queue = self.shared.prepared.lock().unwrap();
            let at = usize::from(queue.len() > 1 && self.rng.random_bool(0.05));
            let Some(gid) = queue.remove(at) else {
                return Ok(());
            };
            gid
        };
        let commit = self.rng.random_bool(0.75);
        let verb = if commit { "COMMIT" } else { "ROLLBACK" };
        self.client.batch_execute(&format!("{verb} PREPARED '{gid}'"))?;
        Shared::count(if commit { &self.shared.counts.committed } else { &self.shared.counts.rolled_back });
        Ok(())
    }

    /// Ends all that is still prepared, for the closing comparison.
    pub fn resolve_all(&mut self) -> Result<()> {
        while !self.shared.prepared.lock().unwrap().is_empty() {
            self.resolve_one()?;
        }
        let left: i64 = self
            .client
            .query_one("SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()", &[])?
            .get(0);
        if left > 0 {
            bail!("{left} prepared transactions are left over");
        }
        Ok(())
    }
}
