//! `push-histories`: what a device did offline, as the one push that its client makes of it, against a push for each edit.
//!
//! A world has lists, members, todos and notes with keys, policies and triggers at random, twice. In the first schema a device
//! pushes edit by edit; what is refused it did not do. In the second one all of them come as one push, in which a record stands
//! once, as it was left, and the order is gone. A push that is accepted leaves the same rows, and one that is refused none.
//! Where the edits only open (lists that are opened or made, memberships that are gained) or only close, and no value is free
//! in between only, the push is accepted: docs/how-it-works.md has what else can be refused.

use std::collections::HashSet;
use std::fmt::{self, Display, Formatter};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use postgres::error::SqlState;
use postgres::Client;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{json, Map, Value};
use snapsync_e2e::cluster::Cluster;
use snapsync_e2e::verdict::Verdict;

#[derive(Parser)]
struct Arguments {
    /// Schemas with their policies.
    #[arg(long, default_value_t = 12)]
    worlds: u64,
    /// Offline times in each world.
    #[arg(long, default_value_t = 40)]
    histories: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const TABLES: [&str; 4] = ["lists", "members", "todos", "notes"];
/// Where the edits come one by one, and where they come as one push.
const SCHEMAS: [&str; 2] = ["single", "whole"];

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let cluster = Cluster::start(&[("log_min_messages", "fatal")])?;
    cluster.connect("postgres")?.batch_execute("CREATE ROLE ann LOGIN")?;
    let mut verdict = Verdict::default();
    let mut seen = Seen::default();
    let mut problems = Vec::new();
    for nth in 0..arguments.worlds {
        let mut rng = StdRng::seed_from_u64(arguments.seed * 10_000 + nth);
        let database = cluster.create_database("histories")?;
        let mut world = World::make(&cluster, &database, &mut rng)?;
        for history in 0..arguments.histories {
            let outcome = world.history(&mut rng).with_context(|| format!("world {nth}, history {history}"))?;
            if let Some(problem) = seen.count(outcome) {
                problems.push(format!("world {nth}, history {history}: {problem}\n{}", world.sql));
            }
        }
        drop(world);
        cluster.drop_database(&database)?;
    }
    println!(
        "        {} accepted, {} refused of those that may be; of {} edits",
        seen.accepted, seen.refused, seen.edits
    );
    problems.iter().take(3).for_each(|problem| println!("        {problem}"));
    verdict
        .check(problems.is_empty(), format!("one push does what a push for each edit does ({} wrong)", problems.len()));
    verdict.check(seen.accepted > 20 * arguments.worlds, "most histories have edits, and are accepted");
    verdict.check(!cluster.crashed(), "no backend died");
    drop(cluster);
    Ok(verdict.close())
}

#[derive(Default)]
struct Seen {
    accepted: u64,
    refused: u64,
    edits: usize,
}

impl Seen {
    fn count(&mut self, outcome: Outcome) -> Option<String> {
        match outcome {
            Outcome::Accepted(edits) => {
                self.accepted += 1;
                self.edits += edits;
            }
            Outcome::Refused => self.refused += 1,
            Outcome::Nothing => {}
            Outcome::Wrong(problem) => return Some(problem),
        }
        None
    }
}

enum Outcome {
    /// After so many edits.
    Accepted(usize),
    /// A push that the documentation does not promise to accept.
    Refused,
    /// None of the edits was possible.
    Nothing,
    Wrong(String),
}

/// What the edits of a history may do to lists and memberships.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Direction {
    Opens,
    Closes,
    Both,
}

/// How an edit stands in a push.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Created,
    Updated,
    Deleted,
}

#[derive(Clone)]
struct Edit {
    table: &'static str,
    kind: Kind,
    /// The columns that are edited, with `id`.
    record: Map<String, Value>,
}

impl Display for Edit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "    {} {:?} {}", self.table, self.kind, Value::Object(self.record.clone()))
    }
}

impl Edit {
    fn new(table: &'static str, kind: Kind, record: Value) -> Self {
        let Value::Object(record) = record else { unreachable!("a record is an object") };
        Self { table, kind, record }
    }

    fn id(&self) -> &str {
        self.record["id"].as_str().expect("ids are strings")
    }
}

struct World {
    admin: Client,
    device: Client,
    cursors: [Option<String>; 2],
    sql: String,
}

impl World {
    fn make(cluster: &Cluster, database: &str, rng: &mut StdRng) -> Result<Self> {
        let mut admin = cluster.connect(database)?;
        let sql = tables(rng);
        admin.batch_execute("CREATE EXTENSION snapsync")?;
        for schema in SCHEMAS {
            admin
                .batch_execute(&format!(
                    "CREATE SCHEMA {schema}; GRANT USAGE ON SCHEMA {schema} TO ann; SET search_path = {schema}, public; {sql}"
                ))
                .with_context(|| sql.clone())?;
            for table in TABLES {
                admin.batch_execute(&format!(
                    "SELECT snapsync.enable('{schema}.{table}', name => '{schema}_{table}')"
                ))?;
            }
        }
        admin.batch_execute("RESET search_path")?;
        Ok(Self { admin, device: cluster.connect_as(database, "ann")?, cursors: [None, None], sql })
    }

    fn history(&mut self, rng: &mut StdRng) -> Result<Outcome> {
        let direction = *[Direction::Opens, Direction::Closes, Direction::Both].choose(rng).expect("there are three");
        for (nth, schema) in SCHEMAS.iter().enumerate() {
            self.admin.batch_execute(&format!("SET search_path = {schema}; {}", begin(direction)))?;
            self.pull(nth)?;
        }
        let before = self.state("whole")?;
        let done = self.edit_by_edit(direction, rng)?;
        if done.is_empty() {
            return Ok(Outcome::Nothing);
        }
        let changes = payload("whole", &net(&done));
        let report = rng.random_bool(0.3);
        let told = |what: &str| {
            format!(
                "{what} ({direction:?})\npush {changes}\nedits\n{}",
                done.iter().map(|edit| format!("{edit}\n")).collect::<String>()
            )
        };
        match self.push(1, &changes, report) {
            Ok(answer) if answer == json!({}) => {
                let (single, whole) = (self.state("single")?, self.state("whole")?);
                let same = single == whole;
                Ok(if same {
                    Outcome::Accepted(done.len())
                } else {
                    Outcome::Wrong(told(&format!("{single}\n{whole}")))
                })
            }
            Ok(_) if report && direction == Direction::Both => Ok(Outcome::Refused),
            Ok(answer) => Ok(Outcome::Wrong(told(&format!("answered {answer}")))),
            Err(e) if self.state("whole")? != before => Ok(Outcome::Wrong(told(&format!("{e} left something")))),
            Err(_) if direction == Direction::Both => Ok(Outcome::Refused),
            Err(e) => Ok(Outcome::Wrong(told(&e))),
        }
    }

    /// The edits that a push of its own was accepted for.
    fn edit_by_edit(&mut self, direction: Direction, rng: &mut StdRng) -> Result<Vec<Edit>> {
        let tries = if rng.random_bool(0.1) { 120 } else { rng.random_range(6..30) };
        let mut done: Vec<Edit> = Vec::new();
        // A value that is there in between only is not found again; so a column of a row is edited once.
        let mut edited: HashSet<(String, String)> = HashSet::new();
        let mut has: HashSet<(&str, String)> = HashSet::new();
        for table in TABLES {
            let ids = self.device.query(&format!("SELECT id FROM single.{table}"), &[])?;
            has.extend(ids.iter().map(|row| (table, row.get(0))));
        }
        for _ in 0..tries {
            let edit = edit(direction, rng);
            let again = |c: &String| c != "id" && edited.contains(&(edit.id().to_string(), c.clone()));
            if edited.contains(&(edit.id().to_string(), "deleted".into())) || edit.record.keys().any(again) {
                continue;
            }
            // Offline, a device edits what it had, or made, and makes ids that nobody has.
            let key = (edit.table, edit.id().to_string());
            if (edit.kind == Kind::Created) == has.contains(&key) {
                continue;
            }
            // What the device has lost sight of, it is told of here, and is not when all comes as one. And an edit changes something.
            let differs = format!(
                "SELECT NOT to_jsonb(stored) @> $2::text::jsonb OR $3 FROM single.{} AS stored WHERE id = $1",
                edit.table
            );
            let record = Value::Object(edit.record.clone()).to_string();
            let deletes = edit.kind == Kind::Deleted;
            let seen = self.device.query_opt(&differs, &[&edit.id(), &record, &deletes])?;
            if edit.kind != Kind::Created && !seen.is_some_and(|row| row.get(0)) {
                continue;
            }
            let changes = payload("single", std::slice::from_ref(&edit));
            if self.push(0, &changes, false).is_ok_and(|answer| answer == json!({})) {
                self.pull(0)?;
                has.insert(key);
                let marks = edit.record.keys().filter(|_| edit.kind == Kind::Updated).cloned();
                let mark = if edit.kind == Kind::Deleted { Some("deleted".to_string()) } else { None };
                edited.extend(marks.chain(mark).map(|column| (edit.id().to_string(), column)));
                done.push(edit);
            }
        }
        Ok(done)
    }

    fn pull(&mut self, nth: usize) -> Result<()> {
        let names: Vec<String> = TABLES.iter().map(|table| format!("{}_{table}", SCHEMAS[nth])).collect();
        let pull = "SELECT pull_changes($1, $2::text, client_id => 'phone')::jsonb ->> 'timestamp'";
        self.cursors[nth] = self.device.query_one(pull, &[&names, &self.cursors[nth]])?.get(0);
        Ok(())
    }

    /// The answer, or the error's text.
    fn push(&mut self, nth: usize, changes: &Value, report: bool) -> std::result::Result<Value, String> {
        let on_rejected = if report { "report" } else { "abort" };
        let push = "SELECT push_changes($1::text::json, $2::text, client_id => 'phone', on_rejected => $3)::text";
        match self.device.query_one(push, &[&changes.to_string(), &self.cursors[nth], &on_rejected]) {
            Ok(row) => serde_json::from_str(row.get(0)).map_err(|e| e.to_string()),
            Err(e) => {
                let of =
                    |db: &postgres::error::DbError| (db.code() != &SqlState::INTERNAL_ERROR).then(|| db.to_string());
                Err(e.as_db_error().and_then(of).unwrap_or_else(|| format!("{e:?}")))
            }
        }
    }

    fn state(&mut self, schema: &str) -> Result<Value> {
        let mut state = Map::new();
        for table in TABLES {
            let rows = format!(
                "SELECT coalesce(jsonb_agg(to_jsonb(stored) ORDER BY id), '[]')::text FROM {schema}.{table} AS stored"
            );
            state.insert(table.into(), serde_json::from_str(self.admin.query_one(&rows, &[])?.get(0))?);
        }
        Ok(Value::Object(state))
    }
}

fn tables(rng: &mut StdRng) -> String {
    let mut one_of = |texts: &[&'static str]| *texts.choose(rng).expect("there are some");
    let mut sql = format!(
        "CREATE TABLE lists (id text PRIMARY KEY, name text {}, open bool NOT NULL DEFAULT true, main text);
         CREATE TABLE members (id text PRIMARY KEY, list_id text {}, usr text, UNIQUE (list_id, usr));
         CREATE TABLE todos (id text PRIMARY KEY, list_id text REFERENCES lists {}, p text {}, t text,
             pos int CHECK (pos < 90) {});
         CREATE TABLE notes (id text PRIMARY KEY, todo_id text REFERENCES todos {}, t text);
         ALTER TABLE lists {};
         GRANT ALL ON lists, members, todos, notes TO ann;\n",
        one_of(&["", "UNIQUE"]),
        one_of(&["", "REFERENCES lists ON DELETE CASCADE"]),
        one_of(&["", "ON DELETE CASCADE", "ON DELETE SET NULL"]),
        one_of(&["", "REFERENCES todos", "REFERENCES todos ON DELETE CASCADE"]),
        one_of(&["", ", UNIQUE (list_id, pos) DEFERRABLE", ", UNIQUE (list_id, pos)"]),
        one_of(&["", "ON DELETE CASCADE"]),
        one_of(&[
            "ALTER main DROP DEFAULT",
            "ADD FOREIGN KEY (main) REFERENCES todos",
            "ADD FOREIGN KEY (main) REFERENCES todos DEFERRABLE",
            "ADD FOREIGN KEY (main) REFERENCES todos DEFERRABLE INITIALLY DEFERRED",
        ]),
    );
    const MINE: &str = "IN (SELECT list_id FROM members WHERE usr = current_user)";
    let on_lists = format!("CREATE POLICY s ON lists USING (id {MINE}) WITH CHECK (true);");
    let on_todos = match one_of(&["none", "members", "open", "write"]) {
        "none" => None,
        "members" => Some(format!("CREATE POLICY s ON todos USING (list_id {MINE});")),
        "open" => Some(
            "CREATE POLICY s ON todos USING (list_id IN (SELECT id FROM lists))
                 WITH CHECK (list_id IN (SELECT id FROM lists WHERE open));"
                .to_string(),
        ),
        _ => Some(format!(
            "CREATE POLICY s ON todos FOR SELECT USING (true);
             CREATE POLICY i ON todos FOR INSERT WITH CHECK (list_id {MINE});
             CREATE POLICY u ON todos FOR UPDATE USING (list_id {MINE});
             CREATE POLICY d ON todos FOR DELETE USING (list_id {MINE});"
        )),
    };
    if let Some(on_todos) = on_todos {
        sql += &format!(
            "ALTER TABLE lists ENABLE ROW LEVEL SECURITY; ALTER TABLE todos ENABLE ROW LEVEL SECURITY; {on_lists} {on_todos}\n"
        );
    }
    if one_of(&["", "", "triggers"]) == "triggers" {
        sql += "CREATE FUNCTION is_open() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
            BEGIN
                IF NOT (SELECT open FROM lists WHERE id = NEW.list_id) THEN
                    RAISE 'the list is closed' USING ERRCODE = '23514';
                END IF;
                RETURN NEW;
            END $$;
            CREATE TRIGGER is_open BEFORE INSERT OR UPDATE ON todos FOR EACH ROW EXECUTE FUNCTION is_open();\n";
    }
    if one_of(&["", "triggers"]) == "triggers" {
        sql += "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END; END $$;\n";
        for table in TABLES {
            sql += &format!("CREATE TRIGGER touch BEFORE INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION touch();\n");
        }
    }
    sql
}

/// The rows that a history begins with; what it opens is closed before.
fn begin(direction: Direction) -> String {
    let (open, of) = match direction {
        Direction::Opens => ("i < 2", "i < 3"),
        _ => ("i < 4", "true"),
    };
    format!(
        "UPDATE lists SET main = NULL; DELETE FROM notes; DELETE FROM todos; DELETE FROM members; DELETE FROM lists;
         INSERT INTO lists (id, name) SELECT 'l' || i, 'n' || i FROM generate_series(0, 4) AS i;
         INSERT INTO members SELECT 'm' || i, 'l' || i, 'ann' FROM generate_series(0, 4) AS i WHERE {of};
         INSERT INTO todos SELECT 't' || i, 'l' || i % 5, NULL, 'x', i FROM generate_series(0, 14) AS i;
         INSERT INTO notes SELECT 'o' || i, 't' || i, 'x' FROM generate_series(0, 9) AS i;
         UPDATE lists AS l SET main = 't' || substr(id, 2), open = {open} FROM generate_series(0, 4) AS i WHERE l.id = 'l' || i;"
    )
}

fn edit(direction: Direction, rng: &mut StdRng) -> Edit {
    match rng.random_range(0..8) {
        0..2 => of_list(direction, rng),
        2 => of_membership(direction, rng),
        3..6 => of_todo(rng),
        _ => of_note(rng),
    }
}

fn of_list(direction: Direction, rng: &mut StdRng) -> Edit {
    let id = format!("l{}", rng.random_range(0..7));
    if id == "l5" || id == "l6" {
        return Edit::new("lists", Kind::Created, json!({"id": id, "name": format!("n{}", rng.random_range(0..10))}));
    }
    let open = match direction {
        Direction::Opens => true,
        Direction::Closes => false,
        Direction::Both => rng.random(),
    };
    let record = match rng.random_range(0..5) {
        0 => json!({"id": id, "name": format!("n{}", rng.random_range(0..10))}),
        1 => json!({"id": id, "main": format!("t{}", rng.random_range(0..20))}),
        2 if direction != Direction::Opens => return Edit::new("lists", Kind::Deleted, json!({"id": id})),
        _ => json!({"id": id, "open": open}),
    };
    Edit::new("lists", Kind::Updated, record)
}

fn of_membership(direction: Direction, rng: &mut StdRng) -> Edit {
    let list = format!("l{}", rng.random_range(0..7));
    let gained = |rng: &mut StdRng| {
        let id = format!("m{}", rng.random_range(5..12));
        Edit::new("members", Kind::Created, json!({"id": id, "list_id": list, "usr": "ann"}))
    };
    let id = format!("m{}", rng.random_range(0..5));
    match (direction, rng.random_range(0..3)) {
        (Direction::Opens, _) | (Direction::Both, 0) => gained(rng),
        (Direction::Closes, _) | (Direction::Both, 1) => Edit::new("members", Kind::Deleted, json!({"id": id})),
        _ => Edit::new("members", Kind::Updated, json!({"id": id, "list_id": list})),
    }
}

fn of_todo(rng: &mut StdRng) -> Edit {
    let nth = rng.random_range(0..26);
    let (id, list) = (format!("t{nth}"), format!("l{}", rng.random_range(0..7)));
    let parent = format!("t{}", rng.random_range(0..30));
    if nth > 14 {
        let parent = rng.random_bool(0.3).then_some(parent);
        let pos = rng.random_range(0..95);
        return Edit::new(
            "todos",
            Kind::Created,
            json!({"id": id, "list_id": list, "p": parent, "t": "y", "pos": pos}),
        );
    }
    let record = match rng.random_range(0..6) {
        0 => json!({"id": id, "t": "z"}),
        1 => json!({"id": id, "pos": rng.random_range(0..30)}),
        2 => json!({"id": id, "list_id": list}),
        3 => json!({"id": id, "p": parent}),
        _ => return Edit::new("todos", Kind::Deleted, json!({"id": id})),
    };
    Edit::new("todos", Kind::Updated, record)
}

fn of_note(rng: &mut StdRng) -> Edit {
    let nth = rng.random_range(0..15);
    let (id, todo) = (format!("o{nth}"), format!("t{}", rng.random_range(0..26)));
    if nth > 9 {
        return Edit::new("notes", Kind::Created, json!({"id": id, "todo_id": todo, "t": "q"}));
    }
    match rng.random_range(0..3) {
        0 => Edit::new("notes", Kind::Updated, json!({"id": id, "t": "w"})),
        1 => Edit::new("notes", Kind::Updated, json!({"id": id, "todo_id": todo})),
        _ => Edit::new("notes", Kind::Deleted, json!({"id": id})),
    }
}

/// Each record once, as the edits left it.
fn net(edits: &[Edit]) -> Vec<Edit> {
    let mut records: Vec<Edit> = Vec::new();
    for edit in edits {
        let stands = records.iter().position(|r| r.table == edit.table && r.id() == edit.id());
        match (stands, edit.kind) {
            (None, _) => records.push(edit.clone()),
            (Some(at), Kind::Deleted) if records[at].kind == Kind::Created => drop(records.remove(at)),
            (Some(at), Kind::Deleted) => records[at] = edit.clone(),
            (Some(at), _) => records[at].record.extend(edit.record.clone()),
        }
    }
    records
}

fn payload(schema: &str, edits: &[Edit]) -> Value {
    let mut changes = Map::new();
    for edit in edits {
        let collection = changes
            .entry(format!("{schema}_{}", edit.table))
            .or_insert_with(|| json!({"created": [], "updated": [], "deleted": []}));
        let (kind, value) = match edit.kind {
            Kind::Created => ("created", Value::Object(edit.record.clone())),
            Kind::Updated => ("updated", Value::Object(edit.record.clone())),
            Kind::Deleted => ("deleted", json!(edit.id())),
        };
        collection[kind].as_array_mut().expect("a list").push(value);
    }
    Value::Object(changes)
}
