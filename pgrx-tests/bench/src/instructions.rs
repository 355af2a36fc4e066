//! How many instructions a pull takes for each row, counted by valgrind: no clock, so a busy machine counts the same.
//!
//! A single-user backend answers from a small and from a large table; what it needs more for the large one, by the rows
//! that it has more, is the cost of a row without that of starting a backend (which is most of the count).

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{anyhow, ensure, Context, Result};
use serde_json::{json, Value};

use crate::world::{Kind, World, COLUMNS, ME, SHORT};
use snapsync_e2e::cluster::Cluster;

/// Enough that what a backend does at times (a buffer that grows, a cache that is filled) is small beside the rows, and
/// little enough for valgrind, which is fifty times slower.
const FEW: u64 = 2_000;
const MANY: u64 = 12_000;

/// What is counted: a name, and the statement for table `t`.
fn works(table: &str) -> Vec<(&'static str, String)> {
    vec![
        ("reading the rows (EXPLAIN ANALYZE)", format!("EXPLAIN (ANALYZE, TIMING OFF) SELECT {COLUMNS} FROM {table}")),
        ("pull_changes", format!("SELECT pg_column_size(pull_changes('{{{table}}}'))")),
        (
            "pull_changes, watermelondb",
            format!("SELECT pg_column_size(pull_changes('{{{table}}}', dialect => 'watermelondb'))"),
        ),
        ("json_agg(row_to_json(t))", format!("SELECT pg_column_size(json_agg(row_to_json(t))) FROM {table} t")),
    ]
}

pub struct Counted {
    pub what: &'static str,
    pub per_row: f64,
    /// Of the answer; none where there is no answer to speak of.
    pub per_byte: Option<f64>,
}

pub fn count(cluster: &mut Cluster) -> Result<Vec<Counted>> {
    let database = {
        let mut world = World::new(cluster, "instructions")?;
        world.table("few", FEW, SHORT, Kind::Tracked)?;
        world.table("many", MANY, SHORT, Kind::Tracked)?;
        world.admin.run("CHECKPOINT")?;
        world.database
    };
    cluster.halt()?;
    let mut counted = Vec::new();
    for ((what, few), (_, many)) in works("few").into_iter().zip(works("many")) {
        let (few, many) = (run(cluster, &database, &few)?, run(cluster, &database, &many)?);
        let instructions = (many.instructions - few.instructions) as f64;
        let bytes = many.bytes.zip(few.bytes).map(|(many, few)| (many - few) as f64);
        counted.push(Counted {
            what,
            per_row: instructions / (MANY - FEW) as f64,
            per_byte: bytes.map(|bytes| instructions / bytes),
        });
    }
    Ok(counted)
}

struct Run {
    instructions: i64,
    /// What the statement says of its answer's size.
    bytes: Option<i64>,
}

fn run(cluster: &Cluster, database: &str, sql: &str) -> Result<Run> {
    let runner = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--vgdb=no", "-q", "-v"];
    let mut backend = cluster.single_user(&runner, database);
    let mut child = backend
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run valgrind")?;
    let claims = format!("{{\"role\":\"app\",\"sub\":\"{ME}\"}}");
    let input = format!("SET ROLE app\nSELECT set_config('request.jwt.claims', '{claims}', false)\n{sql}\n");
    child.stdin.take().ok_or_else(|| anyhow!("no input"))?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let (out, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success() && !log.contains("ERROR:"), "the backend failed:\n{log}");
    let collected = log.lines().find_map(|l| l.split_once("Collected : "));
    let instructions = collected.and_then(|(_, n)| n.trim().parse().ok());
    // `	 1: pg_column_size = "286041"	(typeid = 23, ...)`
    let bytes =
        out.lines().rev().find_map(|l| l.split_once("pg_column_size = \"")).and_then(|(_, l)| l.split_once('"'));
    Ok(Run {
        instructions: instructions.ok_or_else(|| anyhow!("valgrind counted nothing:\n{log}"))?,
        bytes: bytes.map(|(n, _)| n.parse()).transpose()?,
    })
}

pub fn table(counted: &[Counted]) -> String {
    let mut out = format!("{:<40} {:>20} {:>20}\n", "", "instructions a row", "a byte of the answer");
    for c in counted {
        let per_byte = c.per_byte.map_or(String::new(), |n| format!("{n:.1}"));
        out += &format!("{:<40} {:>20.0} {per_byte:>20}\n", c.what, c.per_row);
    }
    out
}

pub fn markdown(counted: &[Counted]) -> String {
    let mut out = String::from("| | instructions a row | a byte of the answer |\n| --- | ---: | ---: |\n");
    for c in counted {
        let per_byte = c.per_byte.map_or(String::new(), |n| format!("{n:.1}"));
        out += &format!("| {} | {:.0} | {per_byte} |\n", c.what, c.per_row);
    }
    out
}

pub fn as_json(counted: &[Counted]) -> Value {
    counted.iter().map(|c| json!({ "what": c.what, "per_row": c.per_row, "per_byte": c.per_byte })).collect()
}
