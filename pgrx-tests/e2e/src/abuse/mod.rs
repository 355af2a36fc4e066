//! Bad input: each case must be refused with the expected SQLSTATE, a clear message and a hint, change nothing, and leave
//! the backend alive.

mod catalogue;

use anyhow::{bail, Result};
use postgres::{Client, SimpleQueryMessage};

use crate::cluster::Cluster;
use crate::postgrest::{rpc_text, Caller, PULL_TYPES, PUSH_TYPES};
use crate::verdict::Verdict;

/// How a case reaches the server.
pub enum Call {
    /// `POST /rpc/pull_changes` with this body
    Pull(String),
    /// `POST /rpc/push_changes` with this body
    Push(String),
    /// a statement by a superuser
    Admin(String),
    /// a statement by the role `app`, outside PostgREST's form
    App(String),
}

/// Whether the error must say what to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    Needed,
    /// PostgreSQL's own input functions raise it, before snapsync sees anything
    Native,
}

pub struct Case {
    pub name: String,
    pub call: Call,
    /// the SQLSTATEs that would be right
    pub codes: &'static [&'static str],
    pub hint: Hint,
}

const DDL: &str = r"
CREATE EXTENSION snapsync;
CREATE EXTENSION file_fdw;
CREATE ROLE app NOLOGIN;
CREATE ROLE nobody_here NOLOGIN;
CREATE ROLE authenticator LOGIN NOINHERIT;
GRANT app, nobody_here TO authenticator;
CREATE TYPE mood AS ENUM ('happy', 'sad');
CREATE DOMAIN percent AS int CHECK (VALUE BETWEEN 0 AND 100);
CREATE TABLE lists (id uuid PRIMARY KEY, name text NOT NULL);
CREATE TABLE todos (id uuid PRIMARY KEY, list uuid REFERENCES lists, title text NOT NULL, n int, big bigint, small smallint,
  amount numeric(12, 2), free numeric, at timestamptz, day date, flag boolean, mood mood, share percent, doc jsonb,
  raw json, tags text[], code varchar(5), bin bytea, CONSTRAINT positive CHECK (n > 0));
CREATE TABLE pairs (a int, b text, v int, PRIMARY KEY (a, b));
CREATE TABLE secrets (id int PRIMARY KEY, v text);
CREATE TABLE readonly (id int PRIMARY KEY, v text);
CREATE TABLE guarded (id int PRIMARY KEY, owner int NOT NULL, v text);
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON guarded TO app USING (owner = 1);
CREATE TABLE plain (id int PRIMARY KEY);
SELECT snapsync.enable(t) FROM unnest('{lists,todos,pairs,secrets,readonly,guarded}'::regclass[]) t;
GRANT SELECT, INSERT, UPDATE, DELETE ON lists, todos, pairs, guarded, plain TO app;
GRANT SELECT ON readonly TO app;
INSERT INTO lists VALUES ('10000000-0000-4000-8000-000000000001', 'first');
INSERT INTO todos (id, title, n) VALUES ('20000000-0000-4000-8000-000000000001', 'kept', 1);
INSERT INTO guarded VALUES (1, 1, 'mine'), (2, 2, 'theirs');
INSERT INTO pairs VALUES (1, 'x', 1);
INSERT INTO secrets VALUES (1, 's');
INSERT INTO readonly VALUES (1, 'r');

CREATE VIEW a_view AS SELECT * FROM lists;
CREATE MATERIALIZED VIEW a_matview AS SELECT * FROM lists;
CREATE SEQUENCE a_sequence;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE a_foreign (line text) SERVER files OPTIONS (filename '/dev/null');
CREATE TEMP TABLE a_temp (id int PRIMARY KEY);
CREATE TABLE keyless (v int);
CREATE TABLE nullable_key (v int UNIQUE);
CREATE TABLE partial_key (v int NOT NULL);
CREATE UNIQUE INDEX ON partial_key (v) WHERE v > 0;
CREATE TABLE expression_key (v text NOT NULL);
CREATE UNIQUE INDEX ON expression_key (lower(v));
CREATE TABLE two_columns (a int NOT NULL, b int NOT NULL, UNIQUE (a, b));
CREATE TABLE parent (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
CREATE TABLE child PARTITION OF parent FOR VALUES FROM (0) TO (10);
";

/// All that a refused call might have changed.
const STATE: &str = r"
SELECT md5(concat(
  (SELECT json_agg(l ORDER BY l) FROM lists l), (SELECT json_agg(t ORDER BY t.id) FROM todos t),
  (SELECT json_agg(p ORDER BY p) FROM pairs p), (SELECT json_agg(s ORDER BY s) FROM secrets s),
  (SELECT json_agg(r ORDER BY r) FROM readonly r), (SELECT json_agg(g ORDER BY g) FROM guarded g),
  (SELECT json_agg(c ORDER BY c.relation) FROM snapsync.collection c),
  (SELECT count(*) FROM snapsync.change), (SELECT json_agg(t.tgname ORDER BY t.oid) FROM pg_trigger t)))";

struct Refusal {
    code: String,
    message: String,
    detail: String,
    hint: String,
}

pub fn run(cluster: &Cluster, verdict: &mut Verdict) -> Result<()> {
    let database = cluster.create_database("abuse")?;
    // The temporary table of the catalogue lives in this connection.
    let mut admin = cluster.connect(&database)?;
    admin.batch_execute(DDL)?;
    let mut app = cluster.connect_as(&database, "authenticator")?;
    let pids = (pid(&mut admin)?, pid(&mut app)?);
    let mut before = state(&mut admin)?;

    for case in catalogue::cases() {
        let refusal = match call(&case.call, &mut admin, &mut app) {
            Ok(refusal) => refusal,
            Err(e) => {
                verdict.check(false, format!("{}: {e:#}", case.name));
                admin = reconnect(admin, cluster, &database, "postgres")?;
                app = reconnect(app, cluster, &database, "authenticator")?;
                continue;
            }
        };
        let after = state(&mut admin)?;
        let complaint = match &refusal {
            None => Some("it was accepted".to_owned()),
            Some(r) => complaint(r, &case),
        };
        let unchanged = before == after;
        before = after;
        let ok = complaint.is_none() && unchanged;
        let mut line = format!("{}: ", case.name);
        if let Some(r) = &refusal {
            line += &format!("{} {}", r.code, clip(&r.message));
        }
        if let Some(complaint) = complaint {
            line += &format!("\n        {complaint}");
        }
        if !unchanged {
            line += "\n        it changed something";
        }
        if let (false, Some(r)) = (ok, &refusal) {
            line += &format!("\n        detail: {}\n        hint: {}", clip(&r.detail), clip(&r.hint));
        }
        verdict.check(ok, line);
    }
    verdict.check((pid(&mut admin)?, pid(&mut app)?) == pids, "the backends are the same as before");
    verdict.check(!cluster.crashed(), "no backend crashed");
    accepted(&mut app, verdict)
}

fn reconnect(mut client: Client, cluster: &Cluster, database: &str, user: &str) -> Result<Client> {
    if client.simple_query("SELECT 1").is_ok() {
        return Ok(client);
    }
    cluster.connect_as(database, user)
}

fn complaint(r: &Refusal, case: &Case) -> Option<String> {
    if !case.codes.contains(&r.code.as_str()) {
        return Some(format!("expected {}", case.codes.join(" or ")));
    }
    if r.message.chars().next().is_some_and(char::is_uppercase) {
        return Some("the message begins with a capital letter".to_owned());
    }
    if r.message.len() > 2000 || r.detail.len() > 4000 {
        return Some("message or detail is endless".to_owned());
    }
    if case.hint == Hint::Needed && r.hint.is_empty() {
        return Some("there is no hint".to_owned());
    }
    if r.message.contains("panicked") || r.detail.contains(".rs:") || r.detail.contains("backtrace") {
        return Some("it shows the program's inside".to_owned());
    }
    None
}

fn pid(client: &mut Client) -> Result<i32> {
    Ok(client.query_one("SELECT pg_backend_pid()", &[])?.get(0))
}

fn state(client: &mut Client) -> Result<String> {
    Ok(client.query_one(STATE, &[])?.get(0))
}

/// `None`: the server accepted it.
fn call(call: &Call, admin: &mut Client, app: &mut Client) -> Result<Option<Refusal>> {
    let outcome = match call {
        Call::Admin(sql) => admin.batch_execute(sql).map_err(anyhow::Error::from),
        Call::App(sql) => {
            app.batch_execute(&format!("BEGIN; SET LOCAL ROLE app; {sql}; COMMIT")).map_err(anyhow::Error::from)
        }
        Call::Pull(body) => request(app, "pull_changes", body, PULL_TYPES, true),
        Call::Push(body) => request(app, "push_changes", body, PUSH_TYPES, false),
    };
    let Err(error) = outcome else {
        return Ok(None);
    };
    if matches!(call, Call::App(_)) {
        app.batch_execute("ROLLBACK")?;
    }
    let Some(db) = error.downcast_ref::<postgres::Error>().and_then(postgres::Error::as_db_error) else {
        bail!("the connection broke: {error:#}");
    };
    Ok(Some(Refusal {
        code: db.code().code().to_owned(),
        message: db.message().to_owned(),
        detail: db.detail().unwrap_or_default().to_owned(),
        hint: db.hint().unwrap_or_default().to_owned(),
    }))
}

/// Sends the arguments that the body names; a body that is no JSON object gets the two usual ones.
fn request(client: &mut Client, function: &str, body: &str, types: &[(&str, &str)], read_only: bool) -> Result<()> {
    let present: Vec<&str> = types.iter().map(|(n, _)| *n).filter(|n| body.contains(&format!("\"{n}\":"))).collect();
    let arguments = if present.is_empty() { vec![types[0].0, "last_pulled_at"] } else { present };
    let mut tx = Caller::new("app", "1").begin(client, read_only, false)?;
    rpc_text(&mut tx, function, body, &arguments, types)?;
    // A refusal may come at commit as well.
    Ok(tx.commit()?)
}

/// What looks bad and must be taken all the same.
fn accepted(app: &mut Client, verdict: &mut Verdict) -> Result<()> {
    let id = "20000000-0000-4000-8000-000000000009";
    let twice = format!(
        r#"{{"changes":{{"todos":{{"created":[{{"id":"{id}","title":"a"}}],"updated":[{{"id":"{id}","title":"b"}}],"deleted":[]}}}}}}"#
    );
    let done = request(app, "push_changes", &twice, PUSH_TYPES, false);
    verdict.check(done.is_ok(), format!("the same id twice in a batch is merged {}", told(&done)));
    let answers = [
        (
            "a cursor ahead of the clock is a reset",
            r#"{"collections":["todos"],"last_pulled_at":"900719925474099"}"#,
            "replacement",
        ),
        ("no collections, no changes", r#"{"collections":[]}"#, r#""changes":{}"#),
        ("cursor null", r#"{"collections":["todos"],"last_pulled_at":null}"#, "created"),
        ("cursor 0", r#"{"collections":["todos"],"last_pulled_at":0}"#, "created"),
        ("empty cursor", r#"{"collections":["todos"],"last_pulled_at":""}"#, "created"),
        ("a time as cursor", r#"{"collections":["todos"],"last_pulled_at":"2000-01-01T00:00:00.000Z"}"#, "timestamp"),
        ("a nested document", r#"{"collections":["todos"],"last_pulled_at":"2999-01-01T00:00:00"}"#, "timestamp"),
    ];
    for (name, body, part) in answers {
        let answer = pull_text(app, body);
        let ok = answer.as_ref().is_ok_and(|a| a.contains(part));
        verdict.check(ok, format!("{name} {}", if ok { String::new() } else { format!("{answer:?}") }));
    }
    let found = app.simple_query("SELECT 1")?;
    verdict.check(found.iter().any(|m| matches!(m, SimpleQueryMessage::Row(_))), "the backend answers at the end");
    Ok(())
}

fn pull_text(app: &mut Client, body: &str) -> Result<String> {
    let arguments: Vec<&str> =
        PULL_TYPES.iter().map(|(n, _)| *n).filter(|n| body.contains(&format!("\"{n}\":"))).collect();
    let mut tx = Caller::new("app", "1").begin(app, true, false)?;
    let answer = rpc_text(&mut tx, "pull_changes", body, &arguments, PULL_TYPES)?;
    Ok(answer)
}

fn told(result: &Result<()>) -> String {
    result.as_ref().err().map(|e| format!("({e:#})")).unwrap_or_default()
}

fn clip(text: &str) -> String {
    let mut short: String = text.chars().take(160).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
