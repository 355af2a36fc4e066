//! `live`: nobody who listens misses a poke, nobody who waits misses a change, and who was away has all when he comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use clap::Parser;
use fallible_iterator::FallibleIterator;
use postgres::Client;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use snapsync_e2e::cluster::Cluster;
use snapsync_e2e::verdict::Verdict;

#[derive(Parser)]
struct Arguments {
    /// sessions that listen
    #[arg(long, default_value_t = 200)]
    listeners: usize,
    /// pokes a second, at least
    #[arg(long, default_value_t = 1_000)]
    rate: u64,
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// sessions that wait
    #[arg(long, default_value_t = 40)]
    waiters: usize,
    #[arg(long)]
    seed: Option<u64>,
}

const TENANTS: i32 = 20;
const WRITERS: u64 = 4;

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(rand::random);
    println!("live: seed {seed}, {} listeners, {} waiters", arguments.listeners, arguments.waiters);
    let connections = (arguments.listeners + arguments.waiters + 30).to_string();
    let cluster = Cluster::start(&[("max_connections", &connections), ("max_prepared_transactions", "10")])?;
    let mut verdict = Verdict::default();
    pokes(&cluster, &arguments, seed, &mut verdict)?;
    let database = waiting(&cluster, &arguments, seed, &mut verdict)?;
    standby(&cluster, &database, &mut verdict)?;
    verdict.check(!cluster.crashed(), "no backend died");
    drop(cluster);
    Ok(verdict.close())
}

/// Tenants, each of whom sees the rows of his own; who he is stands in a setting.
fn database(cluster: &Cluster) -> Result<(String, Client)> {
    let database = cluster.create_database("live")?;
    let mut admin = cluster.connect(&database)?;
    admin.batch_execute(
        "CREATE EXTENSION snapsync;
         DO $$ BEGIN CREATE ROLE tenant LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
         CREATE TABLE items (id bigint PRIMARY KEY, tenant int NOT NULL, v bigint NOT NULL);
         CREATE SEQUENCE ids;
         ALTER TABLE items ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own ON items USING (tenant = (SELECT current_setting('my.tenant')::int));
         GRANT SELECT ON items TO tenant;
         SELECT snapsync.enable('items', notify => 'notify')",
    )?;
    Ok((database, admin))
}

/// What somebody of a tenant has.
struct Device {
    client: Client,
    cursor: Option<String>,
    rows: BTreeMap<i64, i64>,
}

impl Device {
    fn of(cluster: &Cluster, database: &str, tenant: i32) -> Result<Device> {
        let mut client = cluster.connect_as(database, "tenant")?;
        client.batch_execute(&format!("SET my.tenant = '{tenant}'"))?;
        Ok(Device { client, cursor: None, rows: BTreeMap::new() })
    }

    fn pull(&mut self) -> Result<()> {
        let row = self.client.query_one("SELECT pull_changes('{items}', $1)::text", &[&self.cursor])?;
        let answer: Value = serde_json::from_str(row.get(0))?;
        let changes = &answer["changes"]["items"];
        if answer.get("experimentalStrategy").is_some() {
            self.rows.clear();
        }
        for row in ["created", "updated"].iter().flat_map(|kind| changes[kind].as_array().into_iter().flatten()) {
            let (id, v) = (row["id"].as_i64(), row["v"].as_i64());
            self.rows.insert(id.context("an id")?, v.context("a value")?);
        }
        for id in changes["deleted"].as_array().into_iter().flatten() {
            self.rows.remove(&id.as_str().context("an id")?.parse()?);
        }
        self.cursor = Some(answer["timestamp"].to_string());
        Ok(())
    }
}

fn present(admin: &mut Client, tenant: i32) -> Result<BTreeMap<i64, i64>> {
    let rows = admin.query("SELECT id, v FROM items WHERE tenant = $1", &[&tenant])?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Tenants that a transaction writes for.
const AT_ONCE: i32 = 8;

/// Writes so that at least so many pokes a second come of it, until the time is up; gives how many transactions there were. Writers have rows of
/// their own: none waits for another.
fn write(cluster: &Cluster, database: &str, nth: u64, rate: u64, time: Duration, seed: u64) -> Result<u64> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut client = cluster.connect(database)?;
    let mine = format!("id IN (SELECT id FROM items WHERE id % {WRITERS} = {nth} ORDER BY random() LIMIT {AT_ONCE})");
    let (begun, mut committed, mut pokes) = (Instant::now(), 0, 0);
    while begun.elapsed() < time {
        let due = begun.elapsed().as_micros() as u64 * rate / 1_000_000;
        if pokes > due {
            thread::sleep(Duration::from_micros(500));
            continue;
        }
        let (tenant, v) = (rng.random_range(0..TENANTS), rng.random_range(0..1_000_000i64));
        let mut transaction = client.transaction()?;
        let written = match rng.random_range(0..10) {
            0 => transaction.query(&format!("DELETE FROM items WHERE {mine} RETURNING tenant"), &[])?,
            1 => {
                let sql = format!(
                    "UPDATE items SET v = $1, tenant = (tenant + $2) % {TENANTS} WHERE {mine} RETURNING tenant"
                );
                transaction.query(&sql, &[&v, &tenant])?
            }
            2..=4 => transaction.query(&format!("UPDATE items SET v = $1 WHERE {mine} RETURNING tenant"), &[&v])?,
            _ => {
                let sql = format!(
                    "INSERT INTO items SELECT nextval('ids') * {WRITERS} + {nth}, ($1 + i) % {TENANTS}, $2
                       FROM generate_series(1, {AT_ONCE}) AS i RETURNING tenant"
                );
                transaction.query(&sql, &[&tenant, &v])?
            }
        };
        if rng.random_range(0..20) == 0 {
            transaction.rollback()?;
        } else {
            transaction.commit()?;
            // A row that moved pokes the tenant that it left, too: that one is not counted here.
            pokes += written.iter().map(|row| row.get::<_, i32>(0)).collect::<BTreeSet<_>>().len() as u64;
        }
        committed += 1;
    }
    Ok(committed)
}

fn write_all(cluster: &Cluster, database: &str, arguments: &Arguments, seed: u64) -> Result<u64> {
    let time = Duration::from_secs(arguments.seconds);
    let rate = arguments.rate / WRITERS;
    thread::scope(|scope| {
        let writers: Vec<_> =
            (0..WRITERS).map(|w| scope.spawn(move || write(cluster, database, w, rate, time, seed + w))).collect();
        writers.into_iter().map(|w| w.join().expect("a writer")).sum()
    })
}

/// All notifications until the last one.
fn listen(cluster: &Cluster, database: &str, ready: &AtomicI64) -> Result<Vec<String>> {
    let mut client = cluster.connect(database)?;
    client.batch_execute("LISTEN snapsync")?;
    ready.fetch_add(1, Ordering::SeqCst);
    let mut heard = Vec::new();
    let mut notifications = client.notifications();
    let mut all = notifications.blocking_iter();
    while let Some(notification) = all.next()? {
        if notification.payload() == "end" {
            return Ok(heard);
        }
        heard.push(notification.payload().to_string());
    }
    anyhow::bail!("the connection was lost")
}

/// Pulls when it is poked; is killed now and then, and comes back.
fn poked_device(
    cluster: &Cluster,
    database: &str,
    tenant: i32,
    ready: &AtomicI64,
    kills: &AtomicI64,
) -> Result<BTreeMap<i64, i64>> {
    let mut device = Device::of(cluster, database, tenant)?;
    let mut listener = cluster.connect(database)?;
    let mine: String = listener.query_one("SELECT snapsync.poke_scope('items', $1::int::text)", &[&tenant])?.get(0);
    listener.batch_execute("SET application_name = 'to be killed'; LISTEN snapsync")?;
    device.pull()?;
    ready.fetch_add(1, Ordering::SeqCst);
    loop {
        let heard = listener.notifications().blocking_iter().next();
        match heard {
            Ok(Some(notification)) if notification.payload() == "end" => return Ok(device.rows),
            Ok(Some(notification)) => {
                let poke: Value = serde_json::from_str(notification.payload())?;
                if poke["scope"] == Value::Null || poke["scope"] == mine.as_str() {
                    device.pull()?;
                }
            }
            Ok(None) | Err(_) => {
                kills.fetch_add(1, Ordering::SeqCst);
                listener = cluster.connect(database)?;
                listener.batch_execute("SET application_name = 'to be killed'; LISTEN snapsync")?;
                device.pull()?;
            }
        }
    }
}

fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !holds()? {
        ensure!(begun.elapsed() < Duration::from_secs(60), "{what}");
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn pokes(cluster: &Cluster, arguments: &Arguments, seed: u64, verdict: &mut Verdict) -> Result<()> {
    const DEVICES: i32 = 5;
    let (database, mut admin) = database(cluster)?;
    let (ready, kills, done) = (AtomicI64::new(0), AtomicI64::new(0), AtomicBool::new(false));
    let (heard, devices, written) = thread::scope(|scope| -> Result<_> {
        let (database, ready, kills, done) = (&database, &ready, &kills, &done);
        let listeners: Vec<_> =
            (0..arguments.listeners).map(|_| scope.spawn(move || listen(cluster, database, ready))).collect();
        let devices: Vec<_> = (0..DEVICES)
            .map(|tenant| scope.spawn(move || poked_device(cluster, database, tenant, ready, kills)))
            .collect();
        let all = arguments.listeners as i64 + i64::from(DEVICES);
        until("everybody listens", || Ok(ready.load(Ordering::SeqCst) == all))?;
        let killer = scope.spawn(move || -> Result<()> {
            let mut killer = cluster.connect(database)?;
            let kill = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'to be killed' ORDER BY random() LIMIT 1";
            while !done.load(Ordering::SeqCst) {
                killer.query(kill, &[])?;
                thread::sleep(Duration::from_millis(100));
            }
            Ok(())
        });
        let written = write_all(cluster, database, arguments, seed);
        done.store(true, Ordering::SeqCst);
        killer.join().expect("the killer")?;
        // Who was killed last is back.
        until("everybody is back", || {
            let there = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'to be killed' AND wait_event = 'ClientRead' AND query LIKE '%LISTEN%'";
            Ok(admin.query_one(there, &[])?.get::<_, i64>(0) == i64::from(DEVICES))
        })?;
        admin.batch_execute("NOTIFY snapsync, 'end'")?;
        let heard = listeners.into_iter().map(|l| l.join().expect("a listener")).collect::<Result<Vec<_>>>()?;
        let devices = devices.into_iter().map(|d| d.join().expect("a device")).collect::<Result<Vec<_>>>()?;
        Ok((heard, devices, written?))
    })?;
    // What must have been said: of each transaction, each scope.
    let rows = admin.query(
        "SELECT DISTINCT stamp, snapsync.poke_scope('items', scope) FROM snapsync.change \
         WHERE relation = 'items'::regclass AND op <> 'R'",
        &[],
    )?;
    let said: BTreeSet<(i64, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let parse = |poke: &String| -> Result<(i64, String)> {
        let poke: Value = serde_json::from_str(poke)?;
        Ok((poke["stamp"].as_i64().context("a stamp")?, poke["scope"].as_str().context("a scope")?.to_string()))
    };
    let mut missed = 0;
    for heard in &heard {
        let pokes = heard.iter().map(parse).collect::<Result<BTreeSet<_>>>()?;
        missed += said.symmetric_difference(&pokes).count() + heard.len() - pokes.len();
    }
    let what = format!(
        "{} pokes in {} s, by {written} transactions, each heard once by {} listeners ({missed} were not)",
        said.len(),
        arguments.seconds,
        heard.len()
    );
    verdict.check(missed == 0 && !said.is_empty(), what);
    for (tenant, rows) in devices.iter().enumerate() {
        let there = present(&mut admin, tenant as i32)?;
        verdict.check(*rows == there, format!("poked device {tenant} has its tenant's {} rows", there.len()));
    }
    verdict.check(kills.load(Ordering::SeqCst) > 0, format!("killed {} times", kills.load(Ordering::SeqCst)));
    Ok(())
}

/// Waits and pulls, until its tenant's last row has come.
fn waiting_device(cluster: &Cluster, database: &str, tenant: i32) -> Result<(BTreeMap<i64, i64>, u64, u64)> {
    let mut device = Device::of(cluster, database, tenant)?;
    let (mut ended, mut vain) = (0, 0);
    loop {
        device.pull()?;
        if device.rows.contains_key(&-i64::from(tenant + 1)) {
            return Ok((device.rows, ended, vain));
        }
        let sql = "SELECT wait_for_changes('{items}', $1)::text";
        let said: String = device.client.query_one(sql, &[&device.cursor])?.get(0);
        ended += 1;
        vain += u64::from(said == r#"{"changed":[]}"#);
    }
}

fn waiting(cluster: &Cluster, arguments: &Arguments, seed: u64, verdict: &mut Verdict) -> Result<String> {
    let (database, mut admin) = database(cluster)?;
    let devices = thread::scope(|scope| -> Result<_> {
        let database = database.as_str();
        let devices: Vec<_> = (0..arguments.waiters)
            .map(|nth| scope.spawn(move || waiting_device(cluster, database, nth as i32 % TENANTS)))
            .collect();
        let written = write_all(cluster, database, arguments, seed + 100);
        let end = "INSERT INTO items SELECT -t - 1, t, 0 FROM generate_series(0, $1) AS t";
        admin.execute(end, &[&(TENANTS - 1)])?;
        let devices = devices.into_iter().map(|d| d.join().expect("a device")).collect::<Result<Vec<_>>>()?;
        written.map(|_| devices)
    })?;
    let (mut right, mut ended, mut vain) = (0, 0, 0);
    for (nth, (rows, waits, in_vain)) in devices.iter().enumerate() {
        right += usize::from(*rows == present(&mut admin, nth as i32 % TENANTS)?);
        ended += waits;
        vain += in_vain;
    }
    let what = format!("{right} of {} devices that wait and pull have all; {ended} waits ended", devices.len());
    verdict.check(right == devices.len(), what);
    verdict.check(vain == 0, format!("{vain} of them in vain, while changes were to come"));
    Ok(database)
}

/// On a standby, where nobody wakes who waits.
fn standby(primary: &Cluster, database: &str, verdict: &mut Verdict) -> Result<()> {
    let standby = Cluster::start_from(|data| {
        let data = data.to_str().context("a path in UTF-8")?;
        primary.run("pg_basebackup", &["-D", data, "-X", "stream", "-c", "fast", "-R"])?.map_err(anyhow::Error::msg)
    })?;
    let mut device = Device::of(&standby, database, 1)?;
    let waits = thread::scope(|scope| -> Result<u64> {
        let writer = scope.spawn(|| -> Result<()> {
            let (mut there, mut here) = (standby.connect(database)?, primary.connect(database)?);
            until("it waits", || {
                let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%wait_for_changes%' AND wait_event = 'Extension'";
                Ok(there.query_one(sql, &[])?.get::<_, i64>(0) == 1)
            })?;
            // Another tenant's first.
            Ok(here.batch_execute("INSERT INTO items VALUES (-1000, 2, 0)")?)
                .and_then(|()| Ok(here.batch_execute("INSERT INTO items VALUES (-1001, 1, 0)")?))
        });
        let mut waits = 0;
        device.pull()?;
        while !device.rows.contains_key(&-1001) {
            device.client.query_one("SELECT wait_for_changes('{items}', $1)::text", &[&device.cursor])?;
            device.pull()?;
            waits += 1;
        }
        writer.join().expect("a writer")?;
        Ok(waits)
    })?;
    let there = present(&mut primary.connect(database)?, 1)?;
    verdict
        .check(device.rows == there, format!("on a standby a device has all {} rows after {waits} waits", there.len()));
    Ok(())
}
