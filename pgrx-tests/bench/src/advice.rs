//! What a schema can do for its pulls: the figures behind the advice in docs/performance.md. Both sides are pulls.

use anyhow::{ensure, Result};

use crate::pull::thousands;
use crate::report::{Goal, Report, Row, Unit};
use crate::sample::{interleave, timed_each, Contestant};
use crate::wire::Wire;
use crate::world::{count, Kind, World, SHORT};
use crate::Sizes;
use snapsync_e2e::cluster::Cluster;

/// Another user, who has one row in a thousand.
const OTHER: &str = "00000000-0000-4000-8000-00000000000b";

pub fn advice(cluster: &Cluster, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut world = World::new(cluster, "advice")?;
    for table in ["wrapped", "bare"] {
        world.table(table, sizes.bulk, SHORT, Kind::Tracked)?;
        // With it, the planner asks the index, once, in either form; conditions that are not as simple have no such way out.
        world.admin.run(&format!("DROP INDEX {table}_user_id_idx"))?;
    }
    world.admin.run("ALTER POLICY own ON bare USING (user_id = auth.uid())")?;
    let mut wire = world.session()?;
    let [bare, wrapped] = ["bare", "wrapped"].map(|t| format!("SELECT pull_changes('{{{t}}}')"));
    compare(
        (&mut wire, sizes.runs, 1),
        report,
        format!("first pull, {} rows, no index, policy `user_id = auth.uid()`", thousands(sizes.bulk)),
        "policy `user_id = (SELECT auth.uid())`",
        [&bare, &wrapped],
    )?;

    for table in ["indexed", "unindexed"] {
        world.table(table, sizes.big, SHORT, Kind::Tracked)?;
        // Evenly over the table; its priority is the row's number modulo 1000.
        world.admin.run(&format!("UPDATE {table} SET user_id = '{OTHER}' WHERE priority = 7"))?;
        world.vacuum(table)?;
    }
    world.admin.run("DROP INDEX unindexed_user_id_idx")?;
    let mut wire = world.session_of(OTHER)?;
    let [unindexed, indexed] = ["unindexed", "indexed"].map(|t| format!("SELECT pull_changes('{{{t}}}')"));
    for (sql, table) in [(&unindexed, "unindexed"), (&indexed, "indexed")] {
        let came = count(&wire.text(sql)?, table)? as u64;
        ensure!(came == sizes.big / 1000, "{came} rows of {table} came");
    }
    compare(
        (&mut wire, sizes.runs, 3),
        report,
        format!("first pull, {} rows of {}, no index on user_id", thousands(sizes.big / 1000), thousands(sizes.big)),
        "with the index",
        [&unindexed, &indexed],
    )?;

    // The user is a member of one group of a thousand.
    let member = "SELECT m.priority FROM members AS m WHERE m.user_id = (SELECT auth.uid())";
    world.admin.run(&format!(
        "CREATE TABLE members (user_id uuid NOT NULL, priority int NOT NULL, PRIMARY KEY (user_id, priority)); \
         INSERT INTO members VALUES ('{OTHER}', 7); \
         GRANT SELECT ON members TO app; \
         CREATE INDEX ON unindexed (priority); \
         CREATE INDEX ON indexed (priority); \
         SET client_min_messages = warning; \
         ALTER POLICY own ON unindexed USING (EXISTS ({member} AND m.priority = unindexed.priority)); \
         ALTER POLICY own ON indexed USING (priority = ANY (ARRAY({member})))"
    ))?;
    for (sql, table) in [(&unindexed, "unindexed"), (&indexed, "indexed")] {
        world.vacuum(table)?;
        let came = count(&wire.text(sql)?, table)? as u64;
        ensure!(came == sizes.big / 1000, "{came} rows of {table} came");
    }
    compare(
        (&mut wire, sizes.runs, 3),
        report,
        format!(
            "first pull, {} rows of {}, policy `EXISTS (... members ...)`",
            thousands(sizes.big / 1000),
            thousands(sizes.big)
        ),
        "policy `... = ANY (ARRAY(SELECT ... members ...))`",
        [&unindexed, &indexed],
    )
}

fn compare(
    (wire, runs, calls): (&mut Wire, usize, usize),
    report: &mut Report,
    work: String,
    baseline: &str,
    [without, with]: [&String; 2],
) -> Result<()> {
    let contestants: [Contestant<Wire>; 2] =
        [&|wire, _| timed_each(calls, |_| wire.run(without).map(drop)), &|wire, _| {
            timed_each(calls, |_| wire.run(with).map(drop))
        }];
    let samples = interleave(runs, wire, &contestants)?;
    report.row(Row::new("advice", work, baseline, Unit::Seconds, (&samples[0], &samples[1]), Goal::Report));
    Ok(())
}
