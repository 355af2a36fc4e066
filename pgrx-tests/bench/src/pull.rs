//! The first pull: everything that a user may see.

use anyhow::{ensure, Result};
use serde_json::{json, Value};

use crate::report::{Goal, Report, Row, Unit};
use crate::sample::{interleave, interleave_boxed, timed, Boxed, Contestant, Sample};
use crate::wire::Wire;
use crate::world::{Kind, World, COLUMNS, SHORT};
use crate::Sizes;
use snapsync_e2e::cluster::Cluster;
use snapsync_e2e::postgrest::{rpc_sql_of, table_sql, Release, PULL_TYPES};

const PULL: &str = "pull_changes('{todos}')";
const PULL_MILLIS: &str = "pull_changes('{todos}', dialect => 'watermelondb')";
const AGGREGATE: &str = "json_agg(row_to_json(t)) FROM todos t";

/// What people write for WatermelonDB, only with `json` where most have the slower `jsonb`.
const BY_HAND: &str = "json_build_object('changes', json_build_object('todos', json_build_object( \
    'created', coalesce(json_agg(json_build_object('id', t.id, 'user_id', t.user_id, 'title', t.title, 'done', t.done, \
        'priority', t.priority, 'amount', t.amount, \
        'created_at', floor(extract(epoch FROM t.created_at) * 1000)::bigint, \
        'updated_at', floor(extract(epoch FROM t.updated_at) * 1000)::bigint)), '[]'::json), \
    'updated', '[]'::json, 'deleted', '[]'::json)), \
    'timestamp', floor(extract(epoch FROM now()) * 1000)::bigint) FROM todos t";

/// These statements in turn, each answer read to its end.
fn statements(runs: usize, wire: &mut Wire, statements: &[&str]) -> Result<Vec<Sample>> {
    let one = |sql| -> Boxed<Wire> { Box::new(move |wire: &mut Wire, _| timed(|| wire.run(sql).map(drop))) };
    interleave_boxed(runs, wire, &statements.iter().map(|sql| one(*sql)).collect::<Vec<_>>())
}

pub fn first(cluster: &Cluster, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut world = World::new(cluster, "first")?;
    world.table("todos", sizes.first, SHORT, Kind::Tracked)?;
    let mut wire = world.session()?;
    check(&mut wire, sizes.first)?;

    let sent = [
        &format!("SELECT {PULL}"),
        &format!("SELECT {AGGREGATE}"),
        &format!("COPY (SELECT {COLUMNS} FROM todos) TO STDOUT"),
        &format!("SELECT {PULL_MILLIS}"),
        &format!("SELECT {BY_HAND}"),
    ];
    let wired = statements(sizes.runs, &mut wire, &sent.map(String::as_str))?;
    let rows = thousands(sizes.first);
    let row = |work: &str, baseline: &str, pair: (&Sample, &Sample), goal| {
        Row::new("first", format!("first pull, {rows} rows{work}"), baseline, Unit::Seconds, pair, goal)
    };
    let goal = Goal::AtMost { reach: 0.45, aim: 0.30 };
    report.row(row("", "json_agg(row_to_json(t))", (&wired[0], &wired[1]), goal));
    let goal = Goal::AtMost { reach: 2.2, aim: 1.5 };
    report.row(row("", "COPY (SELECT ...) TO STDOUT", (&wired[0], &wired[2]), goal));
    let goal = Goal::AtMost { reach: 0.40, aim: 0.25 };
    report.row(row(", watermelondb", "the same by json_build_object", (&wired[3], &wired[4]), goal));

    over_postgrest(&mut wire, sizes, report)?;

    // Where the time goes. EXPLAIN ANALYZE without timing runs the same plan and throws the rows away.
    let apart = [
        // The size of a value takes no copy of it.
        &format!("SELECT pg_column_size({PULL})"),
        "SELECT pg_column_size(json_agg(row_to_json(t))) FROM todos t",
        &format!("EXPLAIN (ANALYZE, TIMING OFF) SELECT {COLUMNS} FROM todos"),
        &format!("SELECT {PULL}"),
    ];
    let split = statements(sizes.runs, &mut wire, &apart)?;
    let pair = (&split[0], &split[1]);
    report.row(row(", made but not sent", "json_agg(row_to_json(t)), not sent", pair, Goal::Report));
    let [made, _, scanned, sent] = [0, 1, 2, 3].map(|i| split[i].median() * 1e3);
    report.note(format!(
        "of a first pull's {sent:.0} ms: reading the rows {scanned:.0} ms, encoding {:.0} ms, sending and receiving {:.0} ms",
        made - scanned,
        sent - made
    ));
    paged(sizes, &mut wire, report)?;
    let bytes = wire.run(&format!("SELECT {PULL}"))?.bytes;
    report.note(format!("the answer has {:.1} MB, {} bytes a row", bytes as f64 / 1e6, bytes / sizes.first));
    Ok(())
}

/// The rows of a page.
const PAGE: usize = 5_000;

/// The same rows page by page, by a client that only reads the answers.
fn paged(sizes: &Sizes, wire: &mut Wire, report: &mut Report) -> Result<()> {
    let whole: Contestant<Wire> = &|wire, _| timed(|| wire.run(&format!("SELECT {PULL}")).map(drop));
    let pages: Contestant<Wire> = &|wire, _| timed(|| in_pages(wire).map(drop));
    let samples = interleave(sizes.runs, wire, &[pages, whole])?;
    let pages = in_pages(wire)?;
    let rows = thousands(sizes.first);
    let work = format!("first pull, {rows} rows, in {pages} pages");
    let goal = Goal::AtMost { reach: 1.3, aim: 1.1 };
    report.row(Row::new("first", work, "in one answer", Unit::Seconds, (&samples[0], &samples[1]), goal));
    ensure!(pages as u64 >= sizes.first / PAGE as u64, "{pages} pages of {PAGE} rows");
    Ok(())
}

/// In how many.
fn in_pages(wire: &mut Wire) -> Result<usize> {
    let mut next = "NULL".to_string();
    for pages in 1.. {
        let answer = wire.text(&format!("SELECT pull_changes('{{todos}}', page_size => {PAGE}, next => {next})"))?;
        // After all the rows.
        let token = answer.rfind("\"next\":\"").map(|at| &answer[at + 8..]).and_then(|token| token.split('"').next());
        match token {
            Some(token) => next = format!("'{token}'"),
            None => return Ok(pages),
        }
    }
    unreachable!("pages are numbered without end")
}

/// The request that a PostgREST of this release makes of a first pull, as one statement.
pub fn request_of(release: Release, table: &str) -> String {
    let body = json!({ "collections": [table] }).to_string();
    rpc_sql_of(release, "pull_changes", &["collections"], PULL_TYPES).replace("$1::text", &format!("'{body}'"))
}

/// By the statements that PostgREST sends: 12 and later take the answer as it is; those before, and all of them for a table, have
/// PostgreSQL put it together again.
fn over_postgrest(wire: &mut Wire, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let [ours, earlier] = [Release::Twelve, Release::Eleven].map(|release| request_of(release, "todos"));
    let theirs = table_sql("todos");
    let rows =
        |sql: &str| format!("SELECT json_array_length(body #> '{{changes,todos,created}}') FROM ({sql}) AS answer");
    let counted = wire.text(&rows(&ours))?;
    ensure!(
        counted == sizes.first.to_string(),
        "over PostgREST a first pull brings {counted} rows, not {}",
        sizes.first
    );
    let same = wire.text(&format!(
        "SELECT (SELECT body #> '{{changes,todos,created}}' FROM ({ours}) AS a)::jsonb = (SELECT body FROM ({theirs}) AS b)::jsonb"
    ))?;
    ensure!(same == "t", "a pull over PostgREST is not what the table's endpoint gives");
    let samples = statements(sizes.runs, wire, &[&ours, &theirs, &earlier])?;
    let row = |by: &str, pair: (&Sample, &Sample), goal| {
        let work = format!("first pull over PostgREST's SQL{by}, {} rows", thousands(sizes.first));
        Row::new("first", work, "a table endpoint's SQL", Unit::Seconds, pair, goal)
    };
    report.row(row("", (&samples[0], &samples[1]), Goal::AtMost { reach: 0.45, aim: 0.35 }));
    report.row(row(" before 12", (&samples[2], &samples[1]), Goal::Report));
    Ok(())
}

/// Both sides must give the same.
fn check(wire: &mut Wire, rows: u64) -> Result<()> {
    let created = "#> '{changes,todos,created}'";
    let counted = wire.text(&format!("SELECT json_array_length({PULL} {created})"))?;
    ensure!(counted == rows.to_string(), "a first pull brings {counted} rows, not {rows}");
    // As values, so that spaces do not matter; in the table's order, which both have.
    for (ours, theirs) in [
        (format!("({PULL} {created})"), format!("(SELECT {AGGREGATE})")),
        (format!("({PULL_MILLIS} {created})"), format!("(SELECT {BY_HAND}) {created}")),
    ] {
        let same = wire.text(&format!("SELECT {ours}::jsonb = ({theirs})::jsonb"))?;
        ensure!(same == "t", "{ours} is not what {theirs} gives");
    }
    // What is made but not sent is the whole answer.
    let made: usize = wire.text(&format!("SELECT pg_column_size({PULL})"))?.parse()?;
    let answer = wire.text(&format!("SELECT {PULL}"))?;
    ensure!(made == answer.len() + 4, "the answer has {} bytes, not {made}", answer.len());
    serde_json::from_str::<Value>(&answer)?;
    Ok(())
}

/// 300,000 as `300k`.
pub fn thousands(n: u64) -> String {
    match n {
        n if n >= 1_000_000 && n % 1_000_000 == 0 => format!("{}M", n / 1_000_000),
        n if n >= 1_000 && n % 1_000 == 0 => format!("{}k", n / 1_000),
        n => n.to_string(),
    }
}
