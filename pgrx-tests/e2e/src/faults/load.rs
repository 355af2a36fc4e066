//! Writers and devices, which go on while servers come and go.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use postgres::Client;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::app::{Address, Device, ROLES};

/// What writers do.
#[derive(Clone, Copy)]
pub struct Mix {
    /// of a transaction: PREPARE TRANSACTION
    pub prepared: f64,
    /// of a transaction: more rows than it keeps in memory
    pub bulk: f64,
    /// of a change: a membership, which resets clients and so hides what they have lost
    pub members: f64,
    pub asynchronous: bool,
}

impl Default for Mix {
    fn default() -> Self {
        Self { prepared: 0.02, bulk: 0.03, members: 0.002, asynchronous: false }
    }
}

pub struct Load {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<u64>>,
    pullers: Vec<JoinHandle<Vec<Device>>>,
}

const WRITERS: u64 = 3;
const PULLERS: usize = 6;
/// Frozen replicas of one device.
const FROZEN: usize = 60;

impl Load {
    /// Devices pull where `pulls` says, each from one of them at random.
    pub fn start(writes: &Address, pulls: &[Address], seed: u64, mix: Mix) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let writers = (0..WRITERS).map(|i| {
            let (address, stop, random) = (writes.clone(), stop.clone(), StdRng::seed_from_u64(seed * 1000 + i));
            std::thread::spawn(move || Writer { address, random, mix, name: seed * 10 + i, done: 0 }.run(&stop))
        });
        let writers = writers.collect();
        let pullers = (0..PULLERS).map(|i| {
            let (stop, addresses) = (stop.clone(), pulls.to_vec());
            let mut random = StdRng::seed_from_u64(seed * 1000 + 500 + i as u64);
            std::thread::spawn(move || keep(&addresses, ROLES[i % 3], &mut random, &stop))
        });
        let pullers = pullers.collect();
        Self { stop, writers, pullers }
    }

    /// Ends it: how many transactions there were, and all devices, also the frozen ones.
    pub fn end(self) -> (u64, Vec<Device>) {
        self.stop.store(true, Ordering::Relaxed);
        let done = self.writers.into_iter().map(|w| w.join().expect("a writer")).sum();
        (done, self.pullers.into_iter().flat_map(|p| p.join().expect("a puller")).collect())
    }
}

struct Writer {
    address: Address,
    random: StdRng,
    mix: Mix,
    name: u64,
    done: u64,
}

impl Writer {
    fn run(mut self, stop: &AtomicBool) -> u64 {
        let mut connection = None;
        while !stop.load(Ordering::Relaxed) {
            // A server that has gone takes its transactions along; so it is.
            if self.step(&mut connection).is_err() {
                let alive = connection.as_mut().is_some_and(|c: &mut Client| c.batch_execute("ROLLBACK").is_ok());
                if !alive {
                    connection = None;
                    pause(100);
                }
            }
        }
        self.done
    }

    fn step(&mut self, connection: &mut Option<Client>) -> Result<()> {
        if connection.is_none() {
            let mut client = self.address.connect("postgres")?;
            client.batch_execute("SET lock_timeout = '2s'")?;
            if self.mix.asynchronous {
                client.batch_execute("SET synchronous_commit = off")?;
            }
            *connection = Some(client);
        }
        let client = connection.as_mut().expect("just made");
        client.batch_execute("BEGIN")?;
        if self.random.random_bool(self.mix.bulk) {
            let n: i64 = self.random.random_range(1..1 << 40);
            client.batch_execute(&format!(
                "SET LOCAL snapsync.flush_threshold = 20; UPDATE items SET n = {n} WHERE id % 3 = {}; \
                 UPDATE notes SET n = {n} WHERE id % 5 = {}",
                self.random.random_range(0..3),
                self.random.random_range(0..5)
            ))?;
            pause(self.random.random_range(0..50));
        }
        for _ in 0..self.random.random_range(1..4) {
            if self.random.random_bool(0.15) {
                let undone = if self.random.random_bool(0.5) { "ROLLBACK TO s" } else { "RELEASE s" };
                let change = self.change();
                client.batch_execute(&format!("SAVEPOINT s; {change}; {undone}"))?;
            } else {
                client.batch_execute(&self.change())?;
            }
        }
        if self.random.random_bool(0.1) {
            client.batch_execute("ROLLBACK")?;
        } else if self.random.random_bool(self.mix.prepared) {
            let name = format!("{}_{}", self.name, self.done);
            client.batch_execute(&format!("PREPARE TRANSACTION '{name}'"))?;
            pause(self.random.random_range(0..100));
            let end = if self.random.random_bool(0.7) { "COMMIT" } else { "ROLLBACK" };
            client.batch_execute(&format!("{end} PREPARED '{name}'"))?;
        } else {
            client.batch_execute("COMMIT")?;
        }
        self.done += 1;
        Ok(())
    }

    fn change(&mut self) -> String {
        let r = &mut self.random;
        let (id, n) = (r.random_range(1..300), r.random_range(1i64..1 << 40));
        if r.random_bool(self.mix.members) {
            let (who, team) = (ROLES[r.random_range(0..3)], r.random_range(4..6));
            return if r.random_bool(0.5) {
                format!("INSERT INTO members VALUES ('{who}', {team}) ON CONFLICT DO NOTHING")
            } else {
                format!("DELETE FROM members WHERE who = '{who}' AND team = {team}")
            };
        }
        let (table, column, value) = match r.random_range(0..3) {
            0 => ("items", "v", format!("'v{n}'")),
            1 => ("notes", "owner", format!("'{}'", ROLES[r.random_range(0..3)])),
            _ => ("docs", "team", format!("{}", r.random_range(1..6))),
        };
        match r.random_range(0..4) {
            0 => format!(
                "INSERT INTO {table} (id, {column}, n) VALUES ({id}, {value}, {n}) \
                 ON CONFLICT (id) DO UPDATE SET {column} = excluded.{column}, n = excluded.n"
            ),
            1 => format!("DELETE FROM {table} WHERE id = {id}"),
            2 => format!("UPDATE {table} SET n = {n} WHERE id = {id}"),
            _ => format!("UPDATE {table} SET n = {n}, {column} = {value} WHERE id = {id}"),
        }
    }
}

/// Keeps a device up to date, and freezes a copy of it now and then.
fn keep(addresses: &[Address], role: &'static str, random: &mut StdRng, stop: &AtomicBool) -> Vec<Device> {
    let mut device = Device::new(role);
    let mut frozen = Vec::new();
    let mut connections: Vec<Option<Client>> = addresses.iter().map(|_| None).collect();
    let lazy = random.random_range(20..150);
    while !stop.load(Ordering::Relaxed) {
        let at = random.random_range(0..addresses.len());
        if let Err(e) = pull_once(&mut device, &addresses[at], &mut connections[at], random) {
            // A server may be gone; an answer that breaks the contract is another matter.
            let server = e.chain().any(|c| c.downcast_ref::<postgres::Error>().is_some());
            assert!(server, "{role}: {e:#}");
            connections[at] = None;
            pause(100);
        } else if frozen.len() < FROZEN && random.random_bool(0.05) {
            frozen.push(device.clone());
        }
        pause(random.random_range(0..lazy));
    }
    frozen.push(device);
    frozen
}

fn pull_once(
    device: &mut Device,
    address: &Address,
    connection: &mut Option<Client>,
    random: &mut StdRng,
) -> Result<()> {
    if connection.is_none() {
        *connection = Some(address.connect(device.role)?);
    }
    let client = connection.as_mut().expect("just made");
    if random.random_bool(0.1) {
        client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM pg_class LIMIT 1")?;
        pause(random.random_range(0..50));
        pull(device, client, random)?;
        client.batch_execute("COMMIT")?;
        return Ok(());
    }
    pull(device, client, random)
}

fn pull(device: &mut Device, client: &mut Client, random: &mut StdRng) -> Result<()> {
    if random.random_bool(0.1) {
        return device.migrate(client);
    }
    device.pull(client)
}

pub fn pause(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}
