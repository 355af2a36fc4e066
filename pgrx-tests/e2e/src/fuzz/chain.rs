//! The classic chain, project -> task -> comment: creating, editing and deleting them must reset nobody, and every pull
//! must equal the SELECT all the same.

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::cluster::Cluster;
use crate::postgrest::{select_rows, Caller, Pull};
use crate::replica::{Replica, Spec};
use crate::verdict::Verdict;

use super::schema::TEMPLATE;

/// The same access written in the ways that people write it: with IN, with EXISTS, with a join; who sees a project: its
/// owner, or its members.
const VARIANTS: [(&str, &str, &str, &str); 3] = [
    (
        "owners, IN",
        "owner = me()",
        "project_id IN (SELECT id FROM projects)",
        "task_id IN (SELECT id FROM tasks)",
    ),
    (
        "members, EXISTS",
        "owner = me() OR EXISTS (SELECT 1 FROM members m WHERE m.team = projects.team AND m.usr = me())",
        "EXISTS (SELECT 1 FROM projects p WHERE p.id = tasks.project_id)",
        "EXISTS (SELECT 1 FROM tasks t WHERE t.id = comments.task_id)",
    ),
    (
        "members, joined",
        "team IN (SELECT team FROM members WHERE usr = me())",
        "EXISTS (SELECT 1 FROM projects p JOIN members m ON m.team = p.team WHERE p.id = tasks.project_id AND m.usr = me())",
        "EXISTS (SELECT 1 FROM tasks t JOIN projects p ON p.id = t.project_id JOIN members m ON m.team = p.team \
         WHERE t.id = comments.task_id AND m.usr = me())",
    ),
];

const TABLES: [&str; 3] = ["projects", "tasks", "comments"];
const USERS: i64 = 3;

pub fn run(cluster: &Cluster, seed: u64, steps: usize, verdict: &mut Verdict) -> Result<()> {
    for (name, projects, tasks, comments) in VARIANTS {
        let database = cluster.create_database("chain")?;
        let mut admin = cluster.connect(&database)?;
        admin.batch_execute(TEMPLATE)?;
        admin.batch_execute(&format!(
            "CREATE TABLE members (team int, usr int, PRIMARY KEY (team, usr));
             INSERT INTO members SELECT t, u FROM generate_series(1, 4) t, generate_series(1, {USERS}) u WHERE (t + u) % 3 > 0;
             CREATE TABLE projects (id int PRIMARY KEY, owner int NOT NULL, team int NOT NULL, title text);
             CREATE TABLE tasks (id int PRIMARY KEY, project_id int NOT NULL REFERENCES projects ON DELETE CASCADE, title text);
             CREATE TABLE comments (id int PRIMARY KEY, task_id int NOT NULL REFERENCES tasks ON DELETE CASCADE, title text);
             CREATE POLICY p ON projects USING ({projects});
             CREATE POLICY p ON tasks USING ({tasks});
             CREATE POLICY p ON comments USING ({comments});
             ALTER TABLE projects ENABLE ROW LEVEL SECURITY;
             ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
             ALTER TABLE comments ENABLE ROW LEVEL SECURITY;
             GRANT SELECT ON members, projects, tasks, comments TO app;
             GRANT SELECT ON members, tasks, comments TO auditor;
             GRANT SELECT (id, team) ON projects TO auditor;
             SELECT snapsync.enable(t) FROM unnest('{{projects,tasks,comments}}'::regclass[]) t"
        ))?;
        let mut app = cluster.connect_as(&database, "authenticator")?;
        // The auditor may read only what the policies of tasks read of projects.
        let user = |role: &'static str, number: i64, tables: &'static [&'static str]| {
            let specs: Vec<Spec> = tables.iter().map(|t| Spec::new(t, &["id"])).collect();
            (Caller::new(role, &number.to_string()), tables, Replica::new(&specs))
        };
        let mut users: Vec<_> = (1..=USERS).map(|n| user("app", n, &TABLES)).collect();
        users.push(user("auditor", 1, &TABLES[1..]));
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut pulls, mut resets, mut differences, mut deleted, mut rows) = (0, 0, 0, 0, 0);
        for step in 0..steps {
            let _ = admin.batch_execute(&statement(&mut rng, step as i64 + 1));
            if step % 4 != 3 {
                continue;
            }
            let at = rng.random_range(0..users.len());
            let (caller, tables, replica) = &mut users[at];
            // Not a client's first pull: if its snapshot is old, the cursor may lie before the reset that enable() logged.
            let old_snapshot = rng.random_bool(0.3) && replica.cursor().is_some();
            let mut tx = caller.begin(&mut app, true, old_snapshot)?;
            let names = replica.names().to_vec();
            let request = Pull { collections: &names, last_pulled_at: replica.cursor(), ..Pull::default() };
            let applied = replica.apply(&request.run(&mut tx)?, |_, _| {})?;
            pulls += 1;
            resets += applied.resets;
            deleted += applied.deleted;
            rows += applied.rows;
            for table in *tables {
                differences += replica.compare(table, select_rows(&mut tx, table)?.into_iter())?.total();
            }
            tx.rollback()?;
        }
        let text = format!(
            "{name}: {pulls} pulls, {rows} rows, {deleted} deletions, {resets} resets, {differences} differences"
        );
        verdict.check(
            resets == 0 && differences == 0 && rows > 0 && deleted > 0,
            format!("project, task, comment by {text}"),
        );
        cluster.drop_database(&database)?;
    }
    Ok(())
}

/// Creates (`new` is a key that nobody had before), edits or deletes; one that fails (a parent that is not there) does
/// nothing.
fn statement(rng: &mut StdRng, new: i64) -> String {
    let recent = |rng: &mut StdRng| new - rng.random_range(1..40);
    let (id, parent) = (recent(rng), recent(rng));
    let number = rng.random_range(0..1000);
    let table = TABLES[rng.random_range(0..3)];
    match rng.random_range(0..10) {
        0..5 => match table {
            "projects" => format!(
                "INSERT INTO projects VALUES ({new}, {}, {}, 'p{number}')",
                rng.random_range(1..=USERS),
                rng.random_range(1..5)
            ),
            _ => format!("INSERT INTO {table} VALUES ({new}, {parent}, 't{number}')"),
        },
        // A project, its task and a comment at once.
        5 => format!(
            "INSERT INTO projects VALUES ({new}, {}, {}, 'new'); INSERT INTO tasks VALUES ({new}, {new}, 'new'); \
             INSERT INTO comments VALUES ({new}, {new}, 'new')",
            rng.random_range(1..=USERS),
            rng.random_range(1..5)
        ),
        6..8 => format!("UPDATE {table} SET title = 'e{number}' WHERE id = {id}"),
        _ => format!("DELETE FROM {table} WHERE id = {id}"),
    }
}
