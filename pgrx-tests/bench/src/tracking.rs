//! What the trigger costs writers.

use std::time::Duration;

use anyhow::{ensure, Result};

use crate::pull::thousands;
use crate::report::{Goal, Report, Row, Unit};
use crate::request::{self, Access};
use crate::sample::{interleave, timed, Contestant};
use crate::wire::Wire;
use crate::world::{rows_sql, Kind, World, COLUMNS, SHORT};
use crate::Sizes;
use snapsync_e2e::cluster::Cluster;

/// Rows of the tables whose rows are updated one by one.
const ROWS: u64 = 100_000;

/// What people add to wake other clients.
const NOTIFY_TRIGGER: &str = r"
CREATE FUNCTION notify_clients() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_notify('sync', ''); RETURN NULL; END $$;
CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON notifying FOR EACH STATEMENT EXECUTE FUNCTION notify_clients();
";

/// The least that an AFTER trigger of each row costs.
const EMPTY_TRIGGER: &str = r"
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER nothing AFTER INSERT OR UPDATE OR DELETE ON triggered FOR EACH ROW EXECUTE FUNCTION nothing();
";

/// A client's sessions; in each the update of a row is prepared under the table's name.
struct Updater {
    /// Row-level security would only make both sides slower, and the ratio look better.
    owner: Wire,
    /// As an application does it.
    requester: Wire,
}

/// One update of a row of this table, by its id.
type Update = fn(&mut Updater, &str, &str) -> Result<()>;

/// Two clients, each in its own half of the table: locks on rows are not what is measured.
pub fn updates(cluster: &Cluster, sizes: &Sizes, report: &mut Report) -> Result<()> {
    const TABLES: [(&str, Kind); 5] = [
        ("tracked", Kind::Tracked),
        ("plain", Kind::Plain),
        ("notifying", Kind::Tracked),
        ("logged", Kind::Plain),
        ("triggered", Kind::Plain),
    ];
    let mut world = World::new(cluster, "updates")?;
    for (table, kind) in TABLES {
        world.table(table, ROWS, SHORT, kind)?;
    }
    world.admin.run(NOTIFY_TRIGGER)?;
    world.admin.run(EMPTY_TRIGGER)?;
    world.admin.run(LOG_TRIGGER)?;
    world.admin.run(&log_changes_of("logged"))?;
    let ids = world.admin.column(&format!("SELECT nth_id(n) FROM generate_series(1, {ROWS}) n"))?;
    let halves: Vec<&[String]> = ids.chunks(ids.len() / 2).collect();
    let mut clients = Vec::new();
    for _ in &halves {
        let (mut owner, mut requester) = (world.owner()?, world.session()?);
        for (table, _) in TABLES {
            let update = format!("UPDATE {table} SET priority = priority + 1 WHERE id = $1");
            owner.prepare(table, &update)?;
            let counted =
                format!("WITH source AS ({update} RETURNING 1) SELECT count(*) AS page_total FROM source AS _");
            requester.prepare(table, &counted)?;
        }
        request::prepare(&mut requester)?;
        clients.push(Updater { owner, requester });
    }
    let mut state = (world, clients);
    let alone: Update = |client, table, id| client.owner.execute(table, &[id]).map(drop);
    let in_request: Update = |client, table, id| request::send(&mut client.requester, Access::ReadWrite, table, &[id]);
    let work = "1-row UPDATE transactions, 2 clients";
    let request = "the same in PostgREST's transaction of four statements";
    let goal = Goal::AtLeast { reach: 0.90, aim: 0.97 };
    for (update, tables, work, baseline, goal) in [
        (alone, ["tracked", "plain"], work, "untracked", goal),
        (in_request, ["tracked", "plain"], request, "untracked", Goal::Report),
        (alone, ["tracked", "logged"], work, "with a plpgsql log trigger", Goal::Report),
        (
            alone,
            ["triggered", "plain"],
            "1-row UPDATEs with a plpgsql trigger that does nothing",
            "without",
            Goal::Report,
        ),
        (alone, ["notifying", "tracked"], "1-row UPDATEs with a NOTIFY each", "without", Goal::Report),
    ] {
        let slice = |(world, clients): &mut (World, Vec<Updater>), table: &str, run: usize| -> Result<f64> {
            world.vacuum(table)?;
            let done = std::thread::scope(|scope| -> Result<u64> {
                let threads: Vec<_> = clients
                    .iter_mut()
                    .zip(&halves)
                    .map(|(client, ids)| scope.spawn(move || run_updates(client, update, table, ids, run, sizes.slice)))
                    .collect();
                threads.into_iter().map(|t| t.join().expect("a client does not panic")).sum()
            })?;
            Ok(done as f64 / sizes.slice.as_secs_f64())
        };
        let contestants: [Contestant<_>; 2] =
            [&|state, run| slice(state, tables[0], run), &|state, run| slice(state, tables[1], run)];
        let samples = interleave(sizes.runs, &mut state, &contestants)?;
        report.row(Row::new("updates", work, baseline, Unit::PerSecond, (&samples[0], &samples[1]), goal));
    }
    Ok(())
}

/// How many updates there were in this time.
fn run_updates(
    client: &mut Updater,
    update: Update,
    table: &str,
    ids: &[String],
    run: usize,
    time: Duration,
) -> Result<u64> {
    repeat_over(client, |client, id| update(client, table, id), ids, run, time)
}

fn repeat_over<C>(
    client: &mut C,
    update: impl Fn(&mut C, &str) -> Result<()>,
    ids: &[String],
    run: usize,
    time: Duration,
) -> Result<u64> {
    let begin = std::time::Instant::now();
    let mut done = 0;
    // A stride without a common factor: all over the pages, each run from another row.
    while begin.elapsed() < time {
        let id = &ids[(run * 1009 + done as usize * 7919) % ids.len()];
        update(client, id)?;
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

fn log_changes_of(table: &str) -> String {
    format!("CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION log_change()")
}

pub fn bulk(cluster: &Cluster, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut world = World::new(cluster, "bulk")?;
    world.admin.run(LOG_TRIGGER)?;
    for way in WAYS {
        let kind = if way == "tracked" { Kind::Tracked } else { Kind::Plain };
        world.table(way, sizes.bulk, SHORT, kind)?;
        world.table(&format!("{way}_target"), 0, SHORT, kind)?;
    }
    for table in ["logged", "logged_target"] {
        world.admin.run(&log_changes_of(table))?;
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
