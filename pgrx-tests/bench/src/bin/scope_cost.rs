//! `scope-cost`: what a scoped pull costs in a database of many tenants, against the same pull in a database of one.
//! A measurement: it fails only when an answer is wrong.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{ensure, Result};
use clap::Parser;
use postgres::Client;
use serde_json::{json, Value};
use snapsync_e2e::cluster::Cluster;
use snapsync_e2e::postgrest::{Caller, Pull};
use snapsync_e2e::verdict::Verdict;

#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value_t = 1_000)]
    tenants: i64,
    /// changes since the cursor, of all tenants
    #[arg(long, default_value_t = 1_000_000)]
    changes: i64,
    /// pulls measured in each place; a quarter as many (7 at least) of the unscoped
    #[arg(long, default_value_t = 41)]
    pulls: usize,
}

/// The caller's changes: 80 updates, 10 inserts, 10 deletions.
const MINE: i64 = 100;
/// Rows of a tenant beforehand.
const ROWS: i64 = 1_000;
/// Who pulls, and his tenant.
const ME: i64 = 7;

const DDL: &str = r"
CREATE EXTENSION snapsync;
CREATE FUNCTION me() RETURNS int STABLE LANGUAGE sql AS
  $$ SELECT (nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub')::int $$;
CREATE TABLE members (org int NOT NULL, usr int NOT NULL, PRIMARY KEY (usr, org));
CREATE TABLE todos (id bigint PRIMARY KEY, org int NOT NULL, n int NOT NULL, title text NOT NULL, done boolean NOT NULL DEFAULT false);
CREATE INDEX ON todos (n);
CREATE INDEX ON todos (org);
CREATE POLICY members ON todos USING (org IN (SELECT m.org FROM members m WHERE m.usr = me()));
ALTER TABLE todos ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON todos, members TO app;
SELECT snapsync.enable('todos', scope_column => 'org');
";

/// A database of these tenants, with their rows; afterwards the cursor, and so many changes since.
fn make(cluster: &Cluster, name: &str, tenants: &[i64], changes: i64) -> Result<(String, i64)> {
    let database = cluster.create_database(name)?;
    let mut admin = cluster.connect(&database)?;
    admin.batch_execute(DDL)?;
    admin.execute("INSERT INTO members SELECT o, o FROM unnest($1::bigint[]) o", &[&tenants])?;
    admin.execute(
        "INSERT INTO todos SELECT o * 1000000 + i, o, i, 'to do ' || i FROM unnest($1::bigint[]) o, generate_series(1, $2::bigint) i",
        &[&tenants, &ROWS],
    )?;
    let cursor = pull(&mut cluster.connect_as(&database, "authenticator")?, None, true)?.0;
    // Interleaved, as tenants work: each transaction touches one row of each of the others, over and over.
    let others = tenants.len() as i64 - 1;
    let mut left = changes - MINE;
    let mut round = 0;
    let mut mine = 0;
    while left > 0 || mine < MINE {
        if left > 0 {
            let many = left.min(others);
            left -= admin.execute(
                "UPDATE todos SET title = 'changed ' || $1 WHERE n = $2 AND org <> $3 AND org <= \
                 (SELECT max(org) FROM (SELECT DISTINCT org FROM members WHERE org <> $3 ORDER BY org LIMIT $4) t)",
                &[&round.to_string(), &((round % ROWS + 1) as i32), &(ME as i32), &many],
            )? as i64;
        }
        // Evenly among them.
        while mine < MINE && (left <= 0 || mine * (changes - MINE) <= MINE * (changes - MINE - left)) {
            let id = ME * 1_000_000 + mine + 1;
            let statement = match mine % 10 {
                8 => format!("INSERT INTO todos VALUES ({}, {ME}, 0, 'new')", id + 500_000),
                9 => format!("DELETE FROM todos WHERE id = {id}"),
                _ => format!("UPDATE todos SET title = 'mine' WHERE id = {id}"),
            };
            ensure!(admin.execute(statement.as_str(), &[])? == 1, "{statement}");
            mine += 1;
        }
        round += 1;
    }
    admin.batch_execute("VACUUM ANALYZE")?;
    admin.batch_execute("CHECKPOINT")?;
    let counted: i64 =
        admin.query_one("SELECT coalesce(sum(coalesce(cardinality(keys), 1)), 0)::bigint FROM snapsync.change WHERE stamp >= $1 AND op <> 'R'", &[&cursor])?.get(0);
    ensure!(counted == changes, "{database} has {counted} changes, not {changes}");
    Ok((database, cursor))
}

/// The timestamp and how many ids came.
fn pull(client: &mut Client, cursor: Option<i64>, scoped: bool) -> Result<(i64, usize)> {
    let caller = Caller::new("app", &ME.to_string());
    let mut tx = caller.begin(client, true, false)?;
    let names = ["todos".to_owned()];
    let filter = scoped.then(|| json!({ "todos": { "org": [ME.to_string()] } }));
    let answer = Pull { collections: &names, last_pulled_at: cursor, filter, ..Pull::default() }.run(&mut tx)?;
    tx.rollback()?;
    let answer: Value = serde_json::from_str(&answer)?;
    ensure!(cursor.is_none() || answer.get("experimentalStrategy").is_none(), "the pull was a reset");
    let todos = &answer["changes"]["todos"];
    let ids = ["created", "updated", "deleted"].iter().map(|k| todos[k].as_array().map_or(0, Vec::len)).sum();
    Ok((answer["timestamp"].as_i64().unwrap_or_default(), ids))
}

struct Measured {
    median: f64,
    least: f64,
    most: f64,
    pulls: usize,
}

/// In milliseconds, after three pulls that only warm up.
fn measure(client: &mut Client, cursor: i64, scoped: bool, pulls: usize) -> Result<Measured> {
    let mut times = Vec::with_capacity(pulls);
    for n in 0..pulls + 3 {
        let begin = Instant::now();
        let (_, ids) = pull(client, Some(cursor), scoped)?;
        let time = begin.elapsed().as_secs_f64() * 1000.0;
        ensure!(ids as i64 == MINE, "{ids} ids came, not {MINE}");
        if n >= 3 {
            times.push(time);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(Measured { median: times[pulls / 2], least: times[0], most: times[pulls - 1], pulls })
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let cluster = Cluster::start(&[])?;
    cluster.connect("postgres")?.batch_execute(
        "CREATE ROLE app NOLOGIN; CREATE ROLE authenticator LOGIN NOINHERIT; GRANT app TO authenticator",
    )?;
    let begin = Instant::now();
    let one = make(&cluster, "one", &[ME], MINE)?;
    let everybody: Vec<i64> = (1..=arguments.tenants).collect();
    let many = make(&cluster, "many", &everybody, arguments.changes)?;
    println!(
        "{} tenants, {} changes since the cursor, {MINE} of them mine; made in {:.0} s",
        arguments.tenants,
        arguments.changes,
        begin.elapsed().as_secs_f64()
    );
    let mut verdict = Verdict::default();
    println!("{:<28} {:>6} {:>12} {:>10} {:>10}", "", "pulls", "median ms", "least", "most");
    let mut medians = Vec::new();
    let fewer = (arguments.pulls / 4).max(7);
    for (what, (database, cursor), scoped, pulls) in [
        ("one tenant, scoped", &one, true, arguments.pulls),
        ("many tenants, scoped", &many, true, arguments.pulls),
        ("one tenant, unscoped", &one, false, arguments.pulls),
        ("many tenants, unscoped", &many, false, fewer),
    ] {
        let mut client = cluster.connect_as(database, "authenticator")?;
        let m = measure(&mut client, *cursor, scoped, pulls.max(7))?;
        println!("{what:<28} {:>6} {:>12.2} {:>10.2} {:>10.2}", m.pulls, m.median, m.least, m.most);
        medians.push(m.median);
    }
    println!(
        "scoped, many to one: {:.2}x; unscoped, many to one: {:.0}x",
        medians[1] / medians[0],
        medians[3] / medians[2]
    );
    verdict.check(true, "every pull brought the caller's own changes and no others");
    drop(cluster);
    Ok(verdict.close())
}
