//! Later pulls: what changed since a cursor, against reading those rows by their ids.

use anyhow::{ensure, Result};

use crate::pull::thousands;
use crate::report::{Goal, Plot, Report, Row, Series, Unit};
use crate::request::{self, Access};
use crate::sample::{interleave, interleave_boxed, timed_each, Boxed, Contestant, Sample};
use crate::wire::Wire;
use crate::world::{count, cursor, Kind, World, SHORT};
use crate::Sizes;
use snapsync_e2e::cluster::Cluster;
use snapsync_e2e::postgrest::{rpc_sql, PULL_TYPES};

/// Changed rows since the cursor, where the table's size is what varies.
const FEW: u64 = 10;

/// Seconds that one sample should take: long enough for the scheduler's doings to even out.
const SAMPLE: f64 = 0.05;

/// One prepared pull and the SELECT of the same rows by their ids, in one session.
struct Pair {
    wire: Wire,
    cursor: String,
    ids: String,
    /// Of each per sample.
    calls: [usize; 2],
}

/// In a session: a pull of this collection, and its rows by ids.
const PULL: &str = "pull";
const SELECT: &str = "by_ids";

impl Pair {
    /// `ids` are those of the rows that changed since the cursor.
    fn new(world: &World, table: &str, cursor: i64, ids: &[String]) -> Result<Self> {
        let mut wire = world.session()?;
        wire.prepare(PULL, &format!("SELECT pull_changes('{{{table}}}', $1)"))?;
        wire.prepare(SELECT, &format!("SELECT json_agg(row_to_json(t)) FROM {table} t WHERE id = ANY ($1)"))?;
        let mut pair = Pair { wire, cursor: cursor.to_string(), ids: format!("{{{}}}", ids.join(",")), calls: [1, 1] };
        let came = count(&pair.wire.execute_text(PULL, &[&pair.cursor])?, table)?;
        ensure!(came == ids.len(), "{came} rows came of {table}, not {}", ids.len());
        // Past the five executions after which a prepared statement may keep its plan.
        for calls in [10, 10] {
            pair.calls = [calls, calls];
            pair.calls =
                [pair.pull(0)?, pair.select(0)?].map(|seconds| (SAMPLE / seconds).ceil().clamp(1.0, 1000.0) as usize);
        }
        Ok(pair)
    }

    fn pull(&mut self, _run: usize) -> Result<f64> {
        timed_each(self.calls[0], |_| self.wire.execute(PULL, &[&self.cursor]).map(drop))
    }

    fn select(&mut self, _run: usize) -> Result<f64> {
        timed_each(self.calls[1], |_| self.wire.execute(SELECT, &[&self.ids]).map(drop))
    }
}

/// Updates these rows in transactions of so many.
fn touch(world: &mut World, table: &str, ids: &[String], together: usize) -> Result<()> {
    world.admin.run("DEALLOCATE ALL")?;
    world.admin.prepare("touch", &format!("UPDATE {table} SET priority = priority + 1 WHERE id = ANY ($1)"))?;
    for chunk in ids.chunks(together) {
        world.admin.execute("touch", &[&format!("{{{}}}", chunk.join(","))])?;
    }
    Ok(())
}

/// Ids of rows that lie all over the table.
fn scattered(world: &mut World, rows: u64, many: u64) -> Result<Vec<String>> {
    world.admin.column(&format!("SELECT nth_id(1 + n * ({rows} / {many})) FROM generate_series(0, {many} - 1) n"))
}

/// Tables of different sizes, the same number of changes.
pub fn sizes(cluster: &Cluster, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut world = World::new(cluster, "sizes")?;
    let mut pairs = Vec::new();
    for rows in &sizes.tables {
        let table = format!("todos_{rows}");
        world.table(&table, *rows, SHORT, Kind::Tracked)?;
        let since = cursor(&mut world.admin)?;
        let ids = scattered(&mut world, *rows, FEW)?;
        touch(&mut world, &table, &ids, 1)?;
        world.vacuum(&table)?;
        pairs.push(Pair::new(&world, &table, since, &ids)?);
    }
    world.vacuum("snapsync.change")?;
    let few: Vec<Sample> = interleave_pairs(sizes.runs, &mut pairs)?;
    let (pulls, selects): (Vec<_>, Vec<_>) = few.chunks(2).map(|c| (c[0].clone(), c[1].clone())).unzip();

    let (big, rows) = (sizes.tables.len() - 1, |i: usize| thousands(sizes.tables[i]));
    report.row(Row::new(
        "sizes",
        format!("pull of {FEW} changes, table of {} rows", rows(big)),
        format!("prepared json_agg(row_to_json(t)) of those {FEW} by id"),
        Unit::Seconds,
        (&pulls[big], &selects[big]),
        Goal::AtMost { reach: 3.0, aim: 2.0 },
    ));
    report.row(Row::new(
        "sizes",
        format!("pull of {FEW} changes, table of {} rows", rows(big)),
        format!("the same, table of {} rows", rows(1)),
        Unit::Seconds,
        (&pulls[big], &pulls[1]),
        Goal::AtMost { reach: 1.2, aim: 1.05 },
    ));

    // What it would cost without a cursor.
    let mut whole: Vec<Sample> = Vec::new();
    for rows in &sizes.tables {
        let calls = (20_000 / rows).max(1) as usize;
        let pull: Contestant<Wire> =
            &|wire, _| timed_each(calls, |_| wire.run(&format!("SELECT pull_changes('{{todos_{rows}}}')")).map(drop));
        let aggregate: Contestant<Wire> = &|wire, _| {
            timed_each(calls, |_| wire.run(&format!("SELECT json_agg(row_to_json(t)) FROM todos_{rows} t")).map(drop))
        };
        whole.extend(interleave(sizes.runs, &mut pairs[0].wire, &[pull, aggregate])?);
    }
    let points = |samples: Vec<Sample>| sizes.tables.iter().map(|x| *x as f64).zip(samples).collect();
    let every_second = |from: usize| whole.iter().skip(from).step_by(2).cloned().collect();
    report.plots.push(Plot {
        name: "bench-table-size",
        title: "Time by the table's size",
        x: "rows in the table",
        series: vec![
            Series { label: "pull of 10 changes", points: points(pulls) },
            Series { label: "those 10 rows by id", points: points(selects) },
            Series { label: "first pull", points: points(every_second(0)) },
            Series { label: "json_agg(row_to_json(t))", points: points(every_second(1)) },
        ],
    });
    Ok(())
}

/// One table, different numbers of changes.
pub fn changes(cluster: &Cluster, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut world = World::new(cluster, "changes")?;
    world.table("todos", sizes.big, SHORT, Kind::Tracked)?;
    let most = sizes.changes.iter().max().copied().unwrap_or(1);
    let ids = scattered(&mut world, sizes.big, most)?;
    // Nested: since the cursor of n changes, the last n of these rows have changed.
    let mut since = Vec::new();
    let mut from = 0;
    for n in sizes.changes.iter().rev() {
        let to = ids.len() - *n as usize;
        touch(&mut world, "todos", &ids[from..to], 10)?;
        since.push((cursor(&mut world.admin)?, *n));
        from = to;
    }
    touch(&mut world, "todos", &ids[from..], 10)?;
    world.vacuum("todos")?;
    world.vacuum("snapsync.change")?;
    let mut pairs = Vec::new();
    for (cursor, n) in since.iter().rev() {
        pairs.push(Pair::new(&world, "todos", *cursor, &ids[ids.len() - *n as usize..])?);
    }
    let samples = interleave_pairs(sizes.runs, &mut pairs)?;
    for (i, n) in sizes.changes.iter().enumerate() {
        let work = format!("pull of {} changes, table of {} rows", thousands(*n), thousands(sizes.big));
        let pair = (&samples[2 * i], &samples[2 * i + 1]);
        report.row(Row::new("changes", work, "those rows by id", Unit::Seconds, pair, Goal::Report));
    }
    let points = |from: usize| {
        sizes.changes.iter().map(|x| *x as f64).zip(samples.iter().skip(from).step_by(2).cloned()).collect()
    };
    report.plots.push(Plot {
        name: "bench-changes",
        title: "Time by the number of changes",
        x: "changed rows",
        series: vec![
            Series { label: "pull", points: points(0) },
            Series { label: "those rows by id", points: points(1) },
        ],
    });
    Ok(())
}

/// Pull, SELECT of the first pair, pull, SELECT of the second, and so on.
fn interleave_pairs(runs: usize, pairs: &mut Vec<Pair>) -> Result<Vec<Sample>> {
    let mut contestants: Vec<Boxed<Vec<Pair>>> = Vec::new();
    for i in 0..pairs.len() {
        contestants.push(Box::new(move |pairs: &mut Vec<Pair>, run| pairs[i].pull(run)));
        contestants.push(Box::new(move |pairs: &mut Vec<Pair>, run| pairs[i].select(run)));
    }
    interleave_boxed(runs, pairs, &contestants)
}

/// What polling costs.
pub fn nothing(cluster: &Cluster, sizes: &Sizes, report: &mut Report) -> Result<()> {
    const CALLS: usize = 300;
    let mut world = World::new(cluster, "nothing")?;
    let tables = ["todos", "lists", "tags", "notes", "comments"];
    for table in tables {
        world.table(table, 10_000.min(sizes.big), SHORT, Kind::Tracked)?;
        let ids = scattered(&mut world, 1_000, 100)?;
        touch(&mut world, table, &ids, 1)?;
        world.vacuum(table)?;
    }
    world.vacuum("snapsync.change")?;
    let mut wire = world.session()?;
    let since = cursor(&mut wire)?.to_string();
    let names = tables.join(",");
    wire.prepare("pull", &format!("SELECT pull_changes('{{{names}}}', $1)"))?;
    wire.prepare("one", "SELECT 1")?;
    let answer = wire.execute_text("pull", &[&since])?;
    for table in tables {
        ensure!(count(&answer, table)? == 0, "something changed: {answer}");
    }
    // The call has its arguments taken from the request's body.
    request::prepare(&mut wire)?;
    wire.prepare("rpc", &rpc_sql("pull_changes", &["collections", "last_pulled_at"], PULL_TYPES))?;
    let body = serde_json::json!({ "collections": tables, "last_pulled_at": since }).to_string();
    let request = |wire: &mut Wire, statement: &str, parameters: &[&str]| {
        request::send(wire, Access::ReadOnly, statement, parameters)
    };
    let contestants: [Contestant<Wire>; 4] = [
        &|wire, _| timed_each(CALLS, |_| wire.execute("pull", &[&since]).map(drop)),
        &|wire, _| timed_each(CALLS, |_| wire.execute("one", &[]).map(drop)),
        &|wire, _| timed_each(CALLS, |_| request(wire, "rpc", &[&body])),
        &|wire, _| timed_each(CALLS, |_| request(wire, "one", &[])),
    ];
    let samples = interleave(sizes.runs.max(11), &mut wire, &contestants)?;
    report.row(Row::new(
        "nothing",
        "pull with nothing changed, 5 collections",
        "SELECT 1, both prepared",
        Unit::Seconds,
        (&samples[0], &samples[1]),
        Goal::AtMost { reach: 4.0, aim: 2.5 },
    ));
    report.row(Row::new(
        "nothing",
        "the same in PostgREST's transaction of four statements",
        "the same transaction with SELECT 1",
        Unit::Seconds,
        (&samples[2], &samples[3]),
        Goal::Report,
    ));
    Ok(())
}
