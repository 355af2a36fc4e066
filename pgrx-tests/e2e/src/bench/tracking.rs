//! What the trigger costs writers.

use std::time::Duration;

use anyhow::{ensure, Result};

use super::pull::thousands;
use super::report::{Goal, Report, Row, Unit};
use super::sample::{interleave, timed, Contestant};
use super::wire::Wire;
use super::world::{rows_sql, Kind, World, COLUMNS, SHORT};
use super::Sizes;
use crate::cluster::Cluster;

/// Rows of the tables whose rows are updated one by one.
const ROWS: u64 = 100_000;

/// Two clients, each in its own half of the table: locks on rows are not what is measured.
pub fn updates(cluster: &Cluster, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut world = World::new(cluster, "updates")?;
    world.table("tracked", ROWS, SHORT, Kind::Tracked)?;
    world.table("plain", ROWS, SHORT, Kind::Plain)?;
    let ids = world.admin.column(&format!("SELECT nth_id(n) FROM generate_series(1, {ROWS}) n"))?;
    let halves: Vec<&[String]> = ids.chunks(ids.len() / 2).collect();
    // As the owner: row-level security would only make both sides slower, and the ratio look better.
    let mut clients = Vec::new();
    for _ in &halves {
        let mut wire = world.owner()?;
        for table in ["tracked", "plain"] {
            wire.prepare(table, &format!("UPDATE {table} SET priority = priority + 1 WHERE id = $1"))?;
        }
        clients.push(wire);
    }
    let mut state = (world, clients);
    let slice = |(world, clients): &mut (World, Vec<Wire>), table: &str, run: usize| -> Result<f64> {
        world.vacuum(table)?;
        let done = std::thread::scope(|scope| -> Result<u64> {
            let threads: Vec<_> = clients
                .iter_mut()
                .zip(&halves)
                .map(|(wire, ids)| scope.spawn(move || updater(wire, table, ids, run, sizes.slice)))
                .collect();
            threads.into_iter().map(|t| t.join().expect("a client does not panic")).sum()
        })?;
        Ok(done as f64 / sizes.slice.as_secs_f64())
    };
    let tracked: Contestant<_> = &|state, run| slice(state, "tracked", run);
    let plain: Contestant<_> = &|state, run| slice(state, "plain", run);
    let samples = interleave(sizes.runs, &mut state, &[tracked, plain])?;
    report.row(Row::new(
        "updates",
        "1-row UPDATE transactions, 2 clients",
        "untracked",
        Unit::PerSecond,
        (&samples[0], &samples[1]),
        Goal::AtLeast { reach: 0.90, aim: 0.97 },
    ));
    Ok(())
}

/// How many updates there were in this time.
fn updater(wire: &mut Wire, statement: &str, ids: &[String], run: usize, time: Duration) -> Result<u64> {
    let begin = std::time::Instant::now();
    let mut done = 0;
    // A stride without a common factor: all over the pages, each run from another row.
    while begin.elapsed() < time {
        let id = &ids[(run * 1009 + done as usize * 7919) % ids.len()];
        wire.execute(statement, &[id])?;
        done += 1;
    }
    Ok(done)
}

/// Each of these has a table `*_target`, empty before an INSERT.
const WAYS: [&str; 3] = ["tracked", "plain", "logged"];

/// What people write instead, as cheap as it can be: one row into an append-only table for each change.
const LOG_TRIGGER: &str = r"
CREATE SEQUENCE log_version;
CREATE TABLE log (version bigint NOT NULL DEFAULT nextval('log_version'), at timestamptz NOT NULL DEFAULT now(),
                  relation text NOT NULL, op text NOT NULL, key uuid NOT NULL);
CREATE INDEX ON log (relation, version);
CREATE FUNCTION log_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO log (relation, op, key) VALUES (TG_TABLE_NAME, TG_OP, coalesce(NEW.id, OLD.id));
  RETURN NULL;
END $$;
";

pub fn bulk(cluster: &Cluster, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut world = World::new(cluster, "bulk")?;
    world.admin.run(LOG_TRIGGER)?;
    for way in WAYS {
        let kind = if way == "tracked" { Kind::Tracked } else { Kind::Plain };
        world.table(way, sizes.bulk, SHORT, kind)?;
        world.table(&format!("{way}_target"), 0, SHORT, kind)?;
    }
    for table in ["logged", "logged_target"] {
        world.admin.run(&format!(
            "CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION log_change()"
        ))?;
    }
    world.admin.run(&format!("CREATE TABLE staging AS SELECT {}", rows_sql("1", &sizes.bulk.to_string(), SHORT)))?;
    world.vacuum("staging")?;

    let update = |world: &mut World, way: &str| -> Result<f64> {
        world.vacuum(way)?;
        timed(|| {
            let taken = world.admin.run(&format!("UPDATE {way} SET priority = priority + 1"))?;
            ensure!(taken.rows == 0, "an UPDATE returned rows");
            Ok(())
        })
    };
    let insert = |world: &mut World, way: &str| -> Result<f64> {
        world.admin.run(&format!("TRUNCATE {way}_target"))?;
        timed(|| {
            world.admin.run(&format!("INSERT INTO {way}_target ({COLUMNS}) SELECT {COLUMNS} FROM staging"))?;
            Ok(())
        })
    };
    for (verb, work) in [("UPDATE", &update as &dyn Fn(&mut World, &str) -> Result<f64>), ("INSERT", &insert)] {
        world.admin.run("CHECKPOINT")?;
        let before = entries(&mut world)?;
        let contestants: [Contestant<World>; 3] =
            [&|world, _| work(world, WAYS[0]), &|world, _| work(world, WAYS[1]), &|world, _| work(world, WAYS[2])];
        let samples = interleave(sizes.runs, &mut world, &contestants)?;
        let logged = entries(&mut world)? - before;
        ensure!(logged == (sizes.runs as u64 + 1) * sizes.bulk, "{logged} changes were logged by {verb}");
        let rows = thousands(sizes.bulk);
        let work = format!("{rows}-row {verb}, one transaction");
        let goal = Goal::AtMost { reach: 1.2, aim: 1.08 };
        report.row(Row::new("bulk", work.clone(), "untracked", Unit::Seconds, (&samples[0], &samples[1]), goal));
        let trigger = "with a plpgsql log trigger";
        report.row(Row::new("bulk", work, trigger, Unit::Seconds, (&samples[0], &samples[2]), Goal::Report));
        report.row(Row::new(
            "bulk",
            format!("{rows}-row {verb} {trigger}"),
            "untracked",
            Unit::Seconds,
            (&samples[2], &samples[1]),
            Goal::Report,
        ));
    }
    Ok(())
}

/// Changed rows in snapsync's log.
fn entries(world: &mut World) -> Result<u64> {
    Ok(world
        .admin
        .text("SELECT coalesce(sum(coalesce(cardinality(keys), 1)), 0) FROM snapsync.change WHERE op <> 'R'")?
        .parse()?)
}
