//! A user joins one of many projects, or leaves one: the rows of that project come, or their ids, and nothing of the others.

use anyhow::{ensure, Result};
use serde_json::Value;

use crate::pull::thousands;
use crate::report::{Goal, Report, Row, Unit};
use crate::sample::{interleave, timed_each, Contestant};
use crate::wire::Wire;
use crate::world::{cursor, Kind, World, ME, SHORT};
use crate::Sizes;
use snapsync_e2e::cluster::Cluster;

/// The projects of a user, the one that he joins or leaves included.
const PROJECTS: u64 = 21;

/// Who leaves a project; `ME` joins one.
const LEAVER: &str = "00000000-0000-4000-8000-00000000000b";

/// A session, and the cursor of before.
type Device = (Wire, String);

pub fn access(cluster: &Cluster, sizes: &Sizes, report: &mut Report) -> Result<()> {
    const CALLS: usize = 10;
    let each = sizes.bulk / 100;
    let mut world = World::new(cluster, "access")?;
    world.table("tasks", PROJECTS * each, SHORT, Kind::Plain)?;
    world.admin.run(&format!(
        "CREATE TABLE members (project int, member uuid, PRIMARY KEY (project, member)); \
         ALTER TABLE tasks ADD COLUMN project int; \
         UPDATE tasks SET project = n % {PROJECTS} FROM generate_series(1, {}) AS n WHERE id = nth_id(n); \
         CREATE INDEX ON tasks (project); \
         INSERT INTO members SELECT p, u FROM generate_series(0, {} - 1) AS p, unnest('{{{ME}, {LEAVER}}}'::uuid[]) AS u; \
         INSERT INTO members SELECT p, nth_id(n) FROM generate_series(0, {} - 1) AS p, generate_series(1, 50) AS n; \
         GRANT SELECT ON members TO app; \
         ALTER TABLE members ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY own ON members USING (member = (SELECT auth.uid())); \
         DROP POLICY own ON tasks; \
         CREATE POLICY member ON tasks USING (project IN (SELECT m.project FROM members AS m WHERE m.member = (SELECT auth.uid()))); \
         DELETE FROM members WHERE project = 7 AND member = '{ME}'; \
         SELECT snapsync.enable('tasks')",
        PROJECTS * each,
        PROJECTS,
        PROJECTS,
    ))?;
    world.vacuum("tasks")?;
    world.vacuum("members")?;
    let since = cursor(&mut world.admin)?.to_string();
    world.admin.run(&format!(
        "INSERT INTO members VALUES (7, '{ME}'); DELETE FROM members WHERE project = 7 AND member = '{LEAVER}'"
    ))?;
    let device = |user: &str| -> Result<Device> {
        let mut wire = world.session_of(user)?;
        wire.prepare("pull", "SELECT pull_changes('{tasks}', $1)")?;
        Ok((wire, since.clone()))
    };
    let mut both = (device(ME)?, device(LEAVER)?);
    let (joined, left) = (told(&mut both.0)?, told(&mut both.1)?);
    ensure!(joined == [each as usize, 0, 0], "to who has joined a project of {each} came {joined:?}");
    ensure!(left == [0, 0, each as usize], "to who has left a project of {each} came {left:?}");
    // Who has left sees the rows no more, who has joined does.
    let mut baseline = world.session_of(ME)?;
    baseline.prepare("rows", "SELECT json_agg(row_to_json(t)) FROM tasks AS t WHERE project = 7")?;
    baseline.prepare("ids", "SELECT json_agg(id) FROM tasks AS t WHERE project = 7")?;
    let mut state = (both.0, both.1, baseline);
    type State = (Device, Device, Wire);
    let contestants: [Contestant<State>; 4] = [
        &|((wire, since), _, _), _| timed_each(CALLS, |_| wire.execute("pull", &[since.as_str()]).map(drop)),
        &|(_, _, wire), _| timed_each(CALLS, |_| wire.execute("rows", &[]).map(drop)),
        &|(_, (wire, since), _), _| timed_each(CALLS, |_| wire.execute("pull", &[since.as_str()]).map(drop)),
        &|(_, _, wire), _| timed_each(CALLS, |_| wire.execute("ids", &[]).map(drop)),
    ];
    let samples = interleave(sizes.runs, &mut state, &contestants)?;
    let projects = format!("one of {PROJECTS} projects of {}", thousands(each));
    for (work, baseline, at) in [
        (format!("pull after joining {projects}"), "json_agg(row_to_json(t)) of its rows", 0),
        (format!("pull after leaving {projects}"), "json_agg of its ids", 2),
    ] {
        let pair = (&samples[at], &samples[at + 1]);
        report.row(Row::new("access", work, baseline, Unit::Seconds, pair, Goal::Report));
    }
    Ok(())
}

/// How many rows came as created, updated and deleted.
fn told((wire, since): &mut Device) -> Result<[usize; 3]> {
    let answer: Value = serde_json::from_str(&wire.execute_text("pull", &[since.as_str()])?)?;
    ensure!(answer.get("experimentalStrategy").is_none(), "a moved membership is a replacement");
    let changes = &answer["changes"]["tasks"];
    Ok(["created", "updated", "deleted"].map(|kind| changes[kind].as_array().map_or(0, Vec::len)))
}
