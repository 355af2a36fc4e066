//! DDL beside many synced tables: what touches none of them costs what it costs beside none, and one table what it costs alone.

use anyhow::Result;

use crate::report::{Goal, Report, Row, Unit};
use crate::sample::{interleave_boxed, timed, timed_each, Boxed, Sample};
use crate::world::World;
use crate::Sizes;
use snapsync_e2e::cluster::Cluster;

/// Commands of a kind in one sample.
const CALLS: usize = 10;

/// Synced tables that decide who sees what by a table of memberships for each ten of them and a function that all call.
fn synced(world: &mut World, tables: usize) -> Result<f64> {
    world.admin.run("CREATE TABLE plain (id int PRIMARY KEY)")?;
    world.admin.run(&format!(
        "DO $$ BEGIN \
           FOR n IN 0 .. {tables} / 10 LOOP \
             EXECUTE format('CREATE TABLE members_%s (id int PRIMARY KEY, who uuid)', n); \
           END LOOP; \
           FOR n IN 1 .. {tables} LOOP \
             EXECUTE format('CREATE TABLE synced_%s (id int PRIMARY KEY, team int, v text)', n); \
             EXECUTE format('ALTER TABLE synced_%s ENABLE ROW LEVEL SECURITY', n); \
             EXECUTE format('CREATE POLICY p ON synced_%s USING (team IN (SELECT m.id FROM members_%s AS m WHERE m.who = auth.uid()))', n, n / 10); \
           END LOOP; \
         END $$"
    ))?;
    world.admin.run("SET client_min_messages = warning")?;
    let enable = format!(
        "SELECT count(snapsync.enable(format('synced_%s', n)::regclass)) FROM generate_series(1, {tables}) AS n"
    );
    let seconds = timed(|| world.admin.run(&enable).map(drop))?;
    world.admin.run("VACUUM (ANALYZE)")?;
    Ok(seconds)
}

/// What is measured: its name, the statements, and whether it needs a synced table.
const COMMANDS: [(&str, &str, bool); 6] = [
    ("CREATE FUNCTION", "CREATE FUNCTION f_{n}() RETURNS int LANGUAGE sql AS 'SELECT 1'", false),
    ("GRANT on another table", "GRANT SELECT ON plain TO app", false),
    ("ALTER of another table", "ALTER TABLE plain ADD c_{n} int", false),
    ("CREATE VIEW, DROP VIEW", "CREATE VIEW w AS SELECT id FROM plain; DROP VIEW w", false),
    ("ALTER of a synced table", "ALTER TABLE synced_1 ADD c_{n} int", true),
    ("GRANT on a synced table", "GRANT SELECT ON synced_1 TO app", true),
];

const EXTENSION: &str = "CREATE EXTENSION btree_gist";

/// Databases with 0, 10, 100 and so on synced tables.
pub fn ddl(cluster: &Cluster, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut worlds = Vec::new();
    for &tables in &sizes.synced {
        let mut world = World::new(cluster, &format!("ddl_{tables}"))?;
        let seconds = synced(&mut world, tables)?;
        if tables > 0 {
            let one = Sample(vec![seconds / tables as f64]);
            let all = Sample(vec![seconds]);
            let work = format!("enable of {tables} tables in one statement");
            report.row(Row::new("ddl", work, "one of them", Unit::Seconds, (&all, &one), Goal::Report));
        }
        worlds.push((tables, world, 0));
    }
    let mut state = worlds;
    for (name, sql, synced) in COMMANDS {
        let contestants: Vec<Boxed<Vec<(usize, World, usize)>>> = (0..sizes.synced.len())
            .filter(|i| !synced || sizes.synced[*i] > 0)
            .map(|i| -> Boxed<Vec<(usize, World, usize)>> {
                Box::new(move |worlds, _run| {
                    let (_, world, n) = &mut worlds[i];
                    timed_each(CALLS, |_| {
                        *n += 1;
                        world.admin.run(&sql.replace("{n}", &n.to_string())).map(drop)
                    })
                })
            })
            .collect();
        let samples = interleave_boxed(sizes.runs, &mut state, &contestants)?;
        let beside: Vec<usize> = sizes.synced.iter().copied().filter(|t| !synced || *t > 0).collect();
        rows(report, name, &beside, &samples);
    }
    if state[0].1.admin.text("SELECT count(*) FROM pg_available_extensions WHERE name = 'btree_gist'")? == "1" {
        let contestants: Vec<Boxed<Vec<(usize, World, usize)>>> = (0..sizes.synced.len())
            .map(|i| -> Boxed<Vec<(usize, World, usize)>> {
                Box::new(move |worlds, _run| {
                    let seconds = timed(|| worlds[i].1.admin.run(EXTENSION).map(drop))?;
                    worlds[i].1.admin.run("DROP EXTENSION btree_gist")?;
                    Ok(seconds)
                })
            })
            .collect();
        let samples = interleave_boxed(sizes.runs, &mut state, &contestants)?;
        rows(report, EXTENSION, &sizes.synced, &samples);
    }
    Ok(())
}

fn rows(report: &mut Report, name: &str, beside: &[usize], samples: &[Sample]) {
    let Some((base, rest)) = samples.split_first() else { return };
    for (tables, sample) in beside[1..].iter().zip(rest) {
        report.row(Row::new(
            "ddl",
            format!("{name}, beside {tables} synced tables"),
            format!("beside {}", beside[0]),
            Unit::Seconds,
            (sample, base),
            Goal::below(1.1),
        ));
    }
}
