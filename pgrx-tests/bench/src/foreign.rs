//! What other users' changes cost a pull: a table of many users, under a policy and nothing else, against the same pull where nobody else
//! has changed anything.

use anyhow::{ensure, Result};

use crate::pull::thousands;
use crate::report::{Goal, Report, Row, Unit};
use crate::sample::{interleave, timed_each, Contestant};
use crate::wire::Wire;
use crate::world::{count, cursor, Kind, World, ME, SHORT};
use crate::Sizes;
use snapsync_e2e::cluster::Cluster;

/// The puller's own changes.
const MINE: u64 = 10;
const USERS: u64 = 1_000;

/// A table where each user has as many rows, and the caller's session with the cursor from which so many rows of others have changed, each
/// in a transaction of its own, and `MINE` of the caller's.
fn crowd(cluster: &Cluster, name: &str, rows: u64, foreign: u64) -> Result<(Wire, String)> {
    let mut world = World::new(cluster, name)?;
    world.table("todos", rows, SHORT, Kind::Tracked)?;
    world.admin.run(&format!(
        "ALTER TABLE todos DISABLE TRIGGER \"00_snapsync_track\"; \
         UPDATE todos SET user_id = md5('user ' || n % {USERS})::uuid FROM generate_series(1, {rows}) AS n \
          WHERE id = nth_id(n) AND n % {USERS} <> 0; \
         ALTER TABLE todos ENABLE ALWAYS TRIGGER \"00_snapsync_track\""
    ))?;
    world.vacuum("todos")?;
    let since = cursor(&mut world.admin)?;
    world.admin.prepare("touch", "UPDATE todos SET priority = priority + 1 WHERE id = nth_id($1::bigint)")?;
    let mine = |n: u64| (n * USERS).to_string();
    for n in 0..foreign {
        // Never one of the caller's.
        let row = n % (rows / USERS) * USERS + n / (rows / USERS) % (USERS - 1) + 1;
        world.admin.execute("touch", &[&row.to_string()])?;
        if n % (foreign / MINE) == 0 {
            world.admin.execute("touch", &[&mine(n / (foreign / MINE) + 1)])?;
        }
    }
    if foreign == 0 {
        (1..=MINE).try_for_each(|n| world.admin.execute("touch", &[&mine(n)]).map(drop))?;
    }
    world.vacuum("todos")?;
    world.vacuum("snapsync.change")?;
    let mut wire = world.session_of(ME)?;
    wire.prepare("pull", "SELECT pull_changes('{todos}', $1)")?;
    let came = count(&wire.execute_text("pull", &[&since.to_string()])?, "todos")?;
    ensure!(came == MINE as usize, "{came} rows came, not {MINE}");
    Ok((wire, since.to_string()))
}

pub fn foreign(cluster: &Cluster, sizes: &Sizes, report: &mut Report) -> Result<()> {
    const CALLS: usize = 50;
    let rows = (USERS * MINE).max(sizes.bulk);
    let mut both = (crowd(cluster, "crowd", rows, sizes.foreign)?, crowd(cluster, "alone", rows, 0)?);
    type Both = ((Wire, String), (Wire, String));
    let contestants: [Contestant<Both>; 2] = [
        &|((wire, since), _), _| timed_each(CALLS, |_| wire.execute("pull", &[since.as_str()]).map(drop)),
        &|(_, (wire, since)), _| timed_each(CALLS, |_| wire.execute("pull", &[since.as_str()]).map(drop)),
    ];
    let samples = interleave(sizes.runs, &mut both, &contestants)?;
    report.row(Row::new(
        "foreign",
        format!("pull of {MINE} changes beside {} of {} other users", thousands(sizes.foreign), thousands(USERS - 1)),
        format!("of those {MINE} alone"),
        Unit::Seconds,
        (&samples[0], &samples[1]),
        Goal::AtMost { reach: 3.0, aim: 1.5 },
    ));
    Ok(())
}
