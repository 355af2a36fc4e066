//! The faults. Each makes a server, has it worked with, does to it what its name says, and gives what the devices hold in the end.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{ensure, Result};
use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::app::{self, check, Address, Device, Outcome, DATABASE};
use super::load::{pause, Load, Mix};
use crate::cluster::Cluster;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// the log's index is rebuilt CONCURRENTLY, again and again
    #[value(alias = "A")]
    Reindex,
    /// an older copy of the data directory takes its place
    #[value(alias = "B")]
    Copy,
    /// three servers begin from one base backup, with the same timeline
    #[value(alias = "C")]
    Siblings,
    /// pg_restore --clean into the database that was dumped
    #[value(alias = "D")]
    RestoreInPlace,
    /// setval() on the clock
    #[value(alias = "E")]
    SetBack,
    /// synchronous_commit = off, and a crash
    #[value(alias = "F")]
    Asynchronous,
    /// a standby that lags behind is promoted
    FailOver,
    /// kill -9 of all processes
    Kill,
    /// the server is only started anew: nobody is reset
    Restart,
    /// a snapshot of the volume is put back: the files are the same ones
    Volume,
    /// a backend gets no more memory; counted are statements, and wrong is what ends otherwise than well or with an ERROR for want of it
    #[value(alias = "H")]
    Memory,
}

/// Those of `make test`.
pub const SELECTION: [Fault; 7] =
    [Fault::Reindex, Fault::Copy, Fault::Siblings, Fault::SetBack, Fault::Asynchronous, Fault::FailOver, Fault::Kill];

pub fn run(fault: Fault, seed: u64) -> Result<Outcome> {
    let random = &mut StdRng::seed_from_u64(seed);
    match fault {
        Fault::Reindex => reindex(seed),
        Fault::Copy => copy(seed, random),
        Fault::Siblings => siblings(seed),
        Fault::RestoreInPlace => restore_in_place(seed),
        Fault::SetBack => set_back(seed, random),
        Fault::Asynchronous => asynchronous(seed, random),
        Fault::FailOver => fail_over(seed, random),
        Fault::Kill => kill(seed, random),
        Fault::Restart => restart(seed, random),
        Fault::Volume => volume(seed),
        Fault::Memory => memory(random),
    }
}

/// A membership resets those whom it concerns, which hides what they have lost.
const STEADY: Mix = Mix { members: 0.0, prepared: 0.02, bulk: 0.03, asynchronous: false };

fn server(settings: &[(&str, &str)]) -> Result<(Cluster, Address)> {
    let cluster = Cluster::start(settings)?;
    app::make(&cluster)?;
    let address = Address::of(&cluster, DATABASE);
    Ok((cluster, address))
}

/// Some load for so long; all devices in the end.
fn load(address: &Address, seed: u64, mix: Mix, millis: u64) -> (u64, Vec<Device>) {
    let load = Load::start(address, std::slice::from_ref(address), seed, mix);
    pause(millis);
    load.end()
}

/// What was prepared by writers that are gone.
fn resolve(address: &Address) -> Result<()> {
    let mut owner = address.connect("postgres")?;
    for row in owner.query("SELECT gid FROM pg_prepared_xacts", &[])? {
        owner.batch_execute(&format!("COMMIT PREPARED '{}'", row.get::<_, String>(0)))?;
    }
    Ok(())
}

fn path(path: &Path) -> &str {
    path.to_str().expect("the state directory's path is UTF-8")
}

fn must(result: std::result::Result<(), String>) -> Result<()> {
    result.map_err(anyhow::Error::msg)
}

fn reindex(seed: u64) -> Result<Outcome> {
    let (cluster, address) = server(&[])?;
    let load = Load::start(&address, std::slice::from_ref(&address), seed, Mix { bulk: 0.08, ..STEADY });
    let mut owner = cluster.connect(DATABASE)?;
    for _ in 0..6 {
        pause(300);
        owner.batch_execute("REINDEX INDEX CONCURRENTLY snapsync.change_relation_bucket_stamp")?;
    }
    let (_, devices) = load.end();
    resolve(&address)?;
    check(&address, devices)
}

fn copy(seed: u64, random: &mut StdRng) -> Result<Outcome> {
    let (mut cluster, address) = server(&[])?;
    load(&address, seed, STEADY, 500);
    resolve(&address)?;
    let (data, copied) = (cluster.data(), cluster.data().with_extension("copy"));
    if random.random_bool(0.5) {
        cluster.halt()?;
        must(cluster.run("cp", &["-a", path(&data), path(&copied)])?)?;
        cluster.start_again()?;
    } else {
        must(cluster.run("pg_basebackup", &["-D", path(&copied), "-X", "stream", "-c", "fast"])?)?;
    }
    let (_, lost) = load(&address, seed + 1, STEADY, 1500);
    cluster.crash()?;
    fs::remove_dir_all(&data)?;
    fs::rename(&copied, &data)?;
    cluster.start_again()?;
    resolve(&address)?;
    let (_, devices) = load(&address, seed + 2, STEADY, 3000);
    resolve(&address)?;
    check(&address, [lost, devices].concat())
}

fn siblings(seed: u64) -> Result<Outcome> {
    let (cluster, address) = server(&[])?;
    load(&address, seed, STEADY, 500);
    resolve(&address)?;
    let backup = cluster.data().with_extension("backup");
    must(cluster.run("pg_basebackup", &["-D", path(&backup), "-X", "stream", "-c", "fast"])?)?;
    fs::write(backup.join("standby.signal"), "")?;
    let (_, mut devices) = load(&address, seed + 1, STEADY, 1000);
    resolve(&address)?;
    let begin = || -> Result<(Cluster, Address)> {
        let sibling = Cluster::start_from(|data| must(cluster.run("cp", &["-a", path(&backup), path(data)])?))?;
        let address = Address::of(&sibling, DATABASE);
        sibling.connect("postgres")?.execute("SELECT pg_promote()", &[])?;
        Ok((sibling, address))
    };
    // At the same time, and each is worked with for a while.
    let three = [begin()?, begin()?, begin()?];
    for (i, (_, address)) in three.iter().enumerate() {
        let mut owner = address.connect("postgres")?;
        let timeline: i32 = owner.query_one("SELECT timeline_id FROM pg_control_checkpoint()", &[])?.get(0);
        ensure!(timeline <= 2, "timeline {timeline}: the siblings have nothing in common");
        let (_, mut own) = load(address, seed + 2 + i as u64, STEADY, 1200);
        resolve(address)?;
        devices.append(&mut own);
    }
    // All of them end on each of the three.
    let mut outcome = Outcome::default();
    for (_, address) in &three {
        outcome.add(check(address, devices.clone())?);
    }
    Ok(outcome)
}

fn restore_in_place(seed: u64) -> Result<Outcome> {
    let (cluster, address) = server(&[])?;
    let dump = cluster.data().with_extension("dump");
    let load_before = Load::start(&address, std::slice::from_ref(&address), seed, STEADY);
    pause(1000);
    must(cluster.run("pg_dump", &["-Fc", "-f", path(&dump), DATABASE])?)?;
    pause(1500);
    let (_, lost) = load_before.end();
    resolve(&address)?;
    // (What it cannot drop it says, and goes on.)
    if let Err(text) = cluster.run("pg_restore", &["--clean", "--if-exists", "-d", DATABASE, path(&dump)])? {
        println!("  pg_restore --clean: {} errors", text.matches("pg_restore: error:").count());
    }
    let (_, devices) = load(&address, seed + 1, STEADY, 3500);
    resolve(&address)?;
    check(&address, [lost, devices].concat())
}

fn set_back(seed: u64, random: &mut StdRng) -> Result<Outcome> {
    let (cluster, address) = server(&[])?;
    let load = Load::start(&address, std::slice::from_ref(&address), seed, STEADY);
    let mut owner = cluster.connect(DATABASE)?;
    for _ in 0..6 {
        pause(400);
        let by = random.random_range(1..300);
        owner.batch_execute(&format!("SELECT setval('snapsync.clock', last_value - {by}) FROM snapsync.clock"))?;
    }
    pause(500);
    let (_, devices) = load.end();
    resolve(&address)?;
    check(&address, devices)
}

fn asynchronous(seed: u64, random: &mut StdRng) -> Result<Outcome> {
    // Nothing is written but by those who flush.
    let (mut cluster, address) = server(&[
        ("wal_writer_delay", "10s"),
        ("wal_writer_flush_after", "1GB"),
        ("autovacuum", "off"),
        ("bgwriter_lru_maxpages", "0"),
        ("checkpoint_timeout", "1h"),
    ])?;
    let mix = Mix { asynchronous: true, prepared: 0.0, ..Mix::default() };
    let load = Load::start(&address, std::slice::from_ref(&address), seed, mix);
    for _ in 0..3 {
        pause(random.random_range(400..1000));
        cluster.crash()?;
        cluster.start_again()?;
    }
    pause(300);
    let (_, devices) = load.end();
    check(&address, devices)
}

fn fail_over(seed: u64, random: &mut StdRng) -> Result<Outcome> {
    let (mut primary, address) = server(&[])?;
    let arguments = |data: &Path| ["-D", path(data), "-X", "stream", "-c", "fast", "-R"].map(str::to_owned);
    let standby = Cluster::start_from(|data| {
        let arguments = arguments(data);
        must(primary.run("pg_basebackup", &arguments.each_ref().map(String::as_str))?)
    })?;
    let there = Address::of(&standby, DATABASE);
    let load = Load::start(&address, &[address.clone(), address.clone(), there.clone()], seed, Mix::default());
    pause(1500);
    let mut owner = standby.connect("postgres")?;
    // It may have received more than it shows, when the primary is lost.
    let replays_late = random.random_bool(0.5);
    if replays_late {
        owner.batch_execute("SELECT pg_wal_replay_pause()")?;
        pause(random.random_range(400..800));
    }
    owner.batch_execute("ALTER SYSTEM SET primary_conninfo = 'host=/nowhere'")?;
    owner.batch_execute("SELECT pg_reload_conf()")?;
    // (Whose startup process pauses ends no receiver.)
    for row in owner.query("SELECT pid::text FROM pg_stat_wal_receiver", &[])? {
        Command::new("kill").arg(row.get::<_, String>(0)).status()?;
    }
    pause(random.random_range(200..1200));
    primary.crash()?;
    if replays_late {
        pause(200);
        owner.batch_execute("SELECT pg_wal_replay_resume()")?;
    }
    owner.execute("SELECT pg_promote()", &[])?;
    resolve(&there)?;
    // (What writers write afterwards would put right what devices have of lost commits.)
    if replays_late {
        pause(300);
    } else {
        address.move_to(&standby, DATABASE);
        pause(3000);
    }
    let (_, devices) = load.end();
    resolve(&there)?;
    check(&there, devices)
}

fn kill(seed: u64, random: &mut StdRng) -> Result<Outcome> {
    let (mut cluster, address) = server(&[("wal_writer_delay", "200ms")])?;
    let load = Load::start(&address, std::slice::from_ref(&address), seed, Mix::default());
    for _ in 0..3 {
        pause(random.random_range(500..1200));
        cluster.crash()?;
        cluster.start_again()?;
        resolve(&address)?;
    }
    pause(300);
    let (_, devices) = load.end();
    resolve(&address)?;
    check(&address, devices)
}

fn restart(seed: u64, random: &mut StdRng) -> Result<Outcome> {
    let (mut cluster, address) = server(&[])?;
    let load = Load::start(&address, std::slice::from_ref(&address), seed, STEADY);
    for _ in 0..3 {
        pause(random.random_range(300..800));
        if random.random_bool(0.5) {
            cluster.halt()?;
        } else {
            cluster.crash()?;
        }
        cluster.start_again()?;
        resolve(&address)?;
    }
    let (_, devices) = load.end();
    resolve(&address)?;
    let before: u64 = devices.iter().map(|d| d.replaced).sum();
    let mut outcome = check(&address, devices)?;
    outcome.replaced += before;
    ensure!(outcome.replaced == 0, "{} collections were replaced: a restart resets nobody", outcome.replaced);
    Ok(outcome)
}

fn volume(seed: u64) -> Result<Outcome> {
    let (mut cluster, address) = server(&[])?;
    load(&address, seed, STEADY, 500);
    resolve(&address)?;
    let (data, saved) = (cluster.data(), cluster.data().with_extension("saved"));
    cluster.halt()?;
    must(cluster.run("cp", &["-a", path(&data), path(&saved)])?)?;
    cluster.start_again()?;
    let (_, lost) = load(&address, seed + 1, STEADY, 1500);
    cluster.crash()?;
    // What a copied directory is known by stays: cp writes into a file that is there.
    let born = fs::metadata(data.join("global/pg_control"))?.created()?;
    let others = ["-mindepth", "1", "!", "-path", "*/global", "!", "-path", "*/global/pg_control", "-delete"];
    must(cluster.run("find", &[&[path(&data)][..], &others[..]].concat())?)?;
    must(cluster.run("cp", &["-a", &format!("{}/.", path(&saved)), path(&data)])?)?;
    ensure!(fs::metadata(data.join("global/pg_control"))?.created()? == born, "the file is another one");
    cluster.start_again()?;
    let (_, devices) = load(&address, seed + 2, STEADY, 3000);
    resolve(&address)?;
    check(&address, [lost, devices].concat())
}

/// So many kB more than it has may a backend's memory become, at least and at most. Each statement gets a limit of its own, small ones as often
/// as large ones.
const KILOBYTES: (f64, f64) = (500.0, 150_000.0);

/// How often each statement is run.
const LIMITS: usize = 4;

fn memory(random: &mut StdRng) -> Result<Outcome> {
    let (cluster, address) = server(&[("jit", "off")])?;
    let mut owner = cluster.connect(DATABASE)?;
    owner.batch_execute(
        "CREATE TABLE big (id int PRIMARY KEY, t text); GRANT ALL ON big TO PUBLIC; SELECT snapsync.enable('big'); \
         INSERT INTO big SELECT i, repeat('x', 100) FROM generate_series(1, 200000) AS i",
    )?;
    let cursor: String = owner.query_one("SELECT pull_changes('{items}') ->> 'timestamp'", &[])?.get(0);
    owner.batch_execute("UPDATE big SET t = t || 'q' WHERE id < 100000")?;
    let push = "SELECT push_changes(json_build_object('big', json_build_object('created', (SELECT json_agg(json_build_object( \
                'id', i + 1000000, 't', repeat('y', 100))) FROM generate_series(1, 50000) AS i), 'updated', '[]'::json, 'deleted', '[]'::json)))";
    let statements = [
        ("first pull", "SELECT length(pull_changes('{big}')::text)".to_owned()),
        ("pull of 100,000 changes", format!("SELECT length(pull_changes('{{big}}', '{cursor}')::text)")),
        ("push of 50,000 rows", push.to_owned()),
        ("UPDATE of 200,000 rows", "UPDATE big SET t = t || 'z'".to_owned()),
        ("the same in memory", "SET snapsync.flush_threshold = 2000000000; UPDATE big SET t = t || 'z'".to_owned()),
        ("compact()", "SELECT snapsync.compact()".to_owned()),
    ];
    let mut outcome = Outcome::default();
    for _ in 0..LIMITS {
        for (name, statement) in &statements {
            let mut client = cluster.connect(DATABASE)?;
            client
                .batch_execute("LOAD 'snapsync'; SELECT 1 FROM snapsync.collection; SET statement_timeout = '60s'")?;
            let kilobytes = random.random_range(KILOBYTES.0.ln()..KILOBYTES.1.ln()).exp() as u64;
            limit(&cluster, client.query_one("SELECT pg_backend_pid()", &[])?.get(0), kilobytes)?;
            let end = match client.batch_execute(statement) {
                Ok(()) => "done".to_owned(),
                Err(e) => match e.as_db_error() {
                    Some(e) => format!("{} {}: {}", e.severity(), e.code().code(), e.message()),
                    None => e.to_string(),
                },
            };
            println!("  {name}, {kilobytes} kB more: {end}");
            outcome.devices += 1;
            // (A session that ends says so, and this client loses the message where it finds the end of the connection right behind it.)
            let refused = ["done", "ERROR 53200"].iter().any(|good| end.starts_with(good));
            outcome.wrong += usize::from(!refused);
            if !refused {
                println!("{}", cluster.log_tail(5));
            }
        }
    }
    ensure!(!cluster.crashed(), "the server went down\n{}", cluster.log_tail(5));
    outcome.add(check(&address, app::ROLES.map(Device::new).to_vec())?);
    Ok(outcome)
}

/// Lets a backend's address space grow by so much, and no more.
fn limit(cluster: &Cluster, pid: i32, kilobytes: u64) -> Result<()> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let size =
        status.lines().find_map(|line| line.strip_prefix("VmSize:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let most = (size.unwrap_or(0) + kilobytes) * 1024;
    must(cluster.run("prlimit", &["--pid", &pid.to_string(), &format!("--as={most}")])?)
}
