//! Pushes, against the one statement that a function written by hand would run: into a twin of the table that snapsync does
//! not know, as the same role under the same policy. That is what one has without snapsync; the same statement into the
//! synced table, which pays for the trigger but looks for no conflict, is reported beside it.

use anyhow::{ensure, Result};

use crate::pull::thousands;
use crate::report::{Goal, Report, Row, Unit};
use crate::sample::{interleave, timed, timed_each, Contestant};
use crate::wire::Wire;
use crate::world::{cursor, rows_sql, Kind, World, SHORT};
use crate::Sizes;
use snapsync_e2e::cluster::Cluster;

const PUSH: &str = "push";
const PLAIN: &str = "plain";
const TRACKED: &str = "tracked";

/// Statements of one row each in a sample; pushes as well, unless that would take longer than `SAMPLE` seconds.
const SINGLE: u64 = 100;
const SAMPLE: f64 = 0.5;

/// Two tables of the same rows, `todos` synced and `plain` not, and a user's session with the three statements.
struct Twins<'c> {
    world: World<'c>,
    wire: Wire,
    /// The last row that `payload` has made.
    last: u64,
    /// Since which a push's conflicts count.
    cursor: i64,
    /// Pushes in a sample.
    pushes: u64,
    /// Rows written to `todos` and to `plain`.
    written: [u64; 2],
}

impl<'c> Twins<'c> {
    fn new(cluster: &'c Cluster, name: &str, rows: u64, statement: impl Fn(&str) -> String) -> Result<Self> {
        let mut world = World::new(cluster, name)?;
        world.table("todos", rows, SHORT, Kind::Tracked)?;
        world.table("plain", rows, SHORT, Kind::Plain)?;
        let mut wire = world.session()?;
        wire.prepare(PUSH, "SELECT push_changes($1, $2)")?;
        wire.prepare(PLAIN, &statement("plain"))?;
        wire.prepare(TRACKED, &statement("todos"))?;
        Ok(Twins { world, wire, last: rows, cursor: 0, pushes: 3, written: [0, 0] })
    }

    /// Rows `from` to `to` as a JSON array.
    fn rows(&mut self, from: u64, to: u64) -> Result<String> {
        let rows = rows_sql(&from.to_string(), &to.to_string(), SHORT);
        self.world.admin.text(&format!("SELECT json_agg(row_to_json(x)) FROM (SELECT {rows}) x"))
    }

    /// Rows that no table has.
    fn new_rows(&mut self, many: u64) -> Result<String> {
        self.last += many;
        self.rows(self.last - many + 1, self.last)
    }

    fn push(&mut self, verb: &str, rows: &str, cursor: i64) -> Result<()> {
        let changes = format!("{{\"todos\":{{\"{verb}\":{rows}}}}}");
        let answer = self.wire.execute_text(PUSH, &[&changes, &cursor.to_string()])?;
        ensure!(answer == "{}", "the push was answered with {answer}");
        Ok(())
    }

    fn count(&mut self, table: &str, condition: &str) -> Result<u64> {
        Ok(self.world.admin.text(&format!("SELECT count(*) FROM {table} WHERE {condition}"))?.parse()?)
    }

    /// The client pulls before it pushes: what it does not know yet would be a conflict.
    fn pulled(&mut self) -> Result<()> {
        self.cursor = cursor(&mut self.wire)?;
        Ok(())
    }
}

fn insert(table: &str) -> String {
    format!("INSERT INTO {table} SELECT * FROM json_populate_recordset(NULL::{table}, $1)")
}

fn update(table: &str) -> String {
    let columns = ["user_id", "title", "done", "priority", "amount", "created_at", "updated_at"];
    let set: Vec<String> = columns.iter().map(|c| format!("{c} = r.{c}")).collect();
    format!(
        "UPDATE {table} t SET {} FROM json_populate_recordset(NULL::{table}, $1) r WHERE t.id = r.id",
        set.join(", ")
    )
}

/// The two rows of a comparison.
fn add(
    report: &mut Report,
    group: &'static str,
    work: &str,
    statement: &str,
    samples: &[crate::sample::Sample],
    goal: Goal,
) {
    let baseline = format!("{statement} json_populate_recordset");
    report.row(Row::new(group, work, baseline.as_str(), Unit::Seconds, (&samples[0], &samples[1]), goal));
    let tracked = format!("{baseline}, tracked");
    report.row(Row::new(group, work, tracked, Unit::Seconds, (&samples[0], &samples[2]), Goal::Report));
}

/// New rows, many at once.
pub fn many(cluster: &Cluster, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut twins = Twins::new(cluster, "push", sizes.big, insert)?;
    let n = sizes.push;
    let contestants: [Contestant<Twins>; 3] = [
        &|t, _| {
            let rows = t.new_rows(n)?;
            t.pulled()?;
            timed(|| t.push("created", &rows, t.cursor))
        },
        &|t, _| {
            let rows = t.new_rows(n)?;
            timed(|| t.wire.execute(PLAIN, &[&rows]).map(drop))
        },
        &|t, _| {
            let rows = t.new_rows(n)?;
            timed(|| t.wire.execute(TRACKED, &[&rows]).map(drop))
        },
    ];
    let samples = interleave(sizes.runs, &mut twins, &contestants)?;
    let added = (sizes.runs as u64 + 1) * n;
    let (todos, plain) = (twins.count("todos", "true")?, twins.count("plain", "true")?);
    ensure!(todos == sizes.big + 2 * added && plain == sizes.big + added, "{todos} and {plain} rows are there");
    let work = format!("push of {} new rows into {}", thousands(n), thousands(sizes.big));
    let goal = Goal::AtMost { reach: 1.4, aim: 1.15 };
    add(report, "push", &work, "INSERT ... FROM", &samples, goal);
    Ok(())
}

/// New rows, one by one.
pub fn one(cluster: &Cluster, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut twins = Twins::new(cluster, "push_one", sizes.big, insert)?;
    let singles = |t: &mut Twins, many: u64| -> Result<Vec<String>> {
        let from = t.last + 1;
        t.last += many;
        let rows = rows_sql(&from.to_string(), &t.last.to_string(), SHORT);
        t.world.admin.column(&format!("SELECT json_build_array(row_to_json(x)) FROM (SELECT {rows}) x"))
    };
    let statement = |t: &mut Twins, name: &str, table: usize| -> Result<f64> {
        let rows = singles(t, SINGLE)?;
        t.written[table] += SINGLE;
        timed_each(rows.len(), |i| t.wire.execute(name, &[&rows[i]]).map(drop))
    };
    let contestants: [Contestant<Twins>; 3] = [
        &|t, run| {
            let rows = singles(t, t.pushes)?;
            t.written[0] += t.pushes;
            t.pulled()?;
            // Each push moves the clock on by four, so these are the cursors of pulls in between.
            let seconds = timed_each(rows.len(), |i| t.push("created", &rows[i], t.cursor + 4 * i as i64))?;
            let expected = t.cursor + 4 * rows.len() as i64;
            t.pulled()?;
            ensure!(t.cursor == expected, "the clock stands at {}, not {expected}", t.cursor);
            if run == 0 {
                t.pushes = ((SAMPLE / seconds) as u64).clamp(3, SINGLE);
            }
            Ok(seconds)
        },
        &|t, _| statement(t, PLAIN, 1),
        &|t, _| statement(t, TRACKED, 0),
    ];
    let samples = interleave(sizes.runs.max(11), &mut twins, &contestants)?;
    let written = [twins.count("todos", "true")?, twins.count("plain", "true")?];
    ensure!(written == twins.written.map(|n| n + sizes.big), "{written:?} rows are there, {:?} new", twins.written);
    let work = format!("push of 1 new row into {}", thousands(sizes.big));
    let goal = Goal::AtMost { reach: 2.0, aim: 1.4 };
    add(report, "push-one", &work, "INSERT ... FROM", &samples, goal);
    Ok(())
}

/// Changes of rows that are there, all columns of each.
pub fn updates(cluster: &Cluster, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut twins = Twins::new(cluster, "push_updates", sizes.big, update)?;
    let n = sizes.push;
    // Other rows in each run, scattered by their ids; their priority tells that they were written.
    let rows = |t: &mut Twins, run: usize, way: u64| -> Result<String> {
        let from = (run as u64 * 3 + way) * n % sizes.big + 1;
        let rows = t.rows(from, (from + n - 1).min(sizes.big))?;
        Ok(rows.replace("\"priority\":", "\"priority\":7777"))
    };
    let contestants: [Contestant<Twins>; 3] = [
        &|t, run| {
            let rows = rows(t, run, 0)?;
            t.pulled()?;
            timed(|| t.push("updated", &rows, t.cursor))
        },
        &|t, run| {
            let rows = rows(t, run, 1)?;
            timed(|| t.wire.execute(PLAIN, &[&rows]).map(drop))
        },
        &|t, run| {
            let rows = rows(t, run, 2)?;
            timed(|| t.wire.execute(TRACKED, &[&rows]).map(drop))
        },
    ];
    let samples = interleave(sizes.runs, &mut twins, &contestants)?;
    let written = (sizes.runs as u64 + 1) * n;
    let condition = "priority >= 77770";
    let (todos, plain) = (twins.count("todos", condition)?, twins.count("plain", condition)?);
    ensure!(todos == 2 * written && plain == written, "{todos} and {plain} rows were updated, not {written}");
    let work = format!("push of {} updates of {} rows", thousands(n), thousands(sizes.big));
    let goal = Goal::AtMost { reach: 1.4, aim: 1.15 };
    add(report, "push-updates", &work, "UPDATE ... FROM", &samples, goal);
    Ok(())
}
