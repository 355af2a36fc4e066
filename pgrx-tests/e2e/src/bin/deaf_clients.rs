//! `deaf-clients`: who does not read what the server says to him keeps nobody waiting.
//!
//! Each attack fills its client's socket, then commits, so that the next message to him, an ERROR or some remark, is one that the server
//! cannot send. While it stands there, others must write and pull as ever, in sessions that are new or not, and their cursors move on.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, ensure, Context, Result};
use clap::Parser;
use postgres::Client;
use serde_json::Value;
use snapsync_e2e::cluster::Cluster;
use snapsync_e2e::verdict::Verdict;

#[derive(Parser)]
struct Arguments {
    /// Seconds after which somebody hangs.
    #[arg(long, default_value_t = 20)]
    patience: u64,
}

const DDL: &str = "
CREATE EXTENSION snapsync;
CREATE TABLE notes (id int PRIMARY KEY, owner name NOT NULL, body text);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON notes USING (owner = current_user);
GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO alice, bob;
SELECT snapsync.enable('notes');
INSERT INTO notes SELECT i, 'alice', 'x' FROM generate_series(1, 5) AS i;
INSERT INTO notes SELECT i, 'bob', 'x' FROM generate_series(11, 15) AS i;
SELECT pull_changes('{notes}');
";

/// A client that need not read.
struct Deaf {
    socket: UnixStream,
    pid: i32,
}

impl Deaf {
    fn connect(cluster: &Cluster, database: &str) -> Result<Deaf> {
        let socket = UnixStream::connect(cluster.socket().join(".s.PGSQL.5432"))?;
        let mut deaf = Deaf { socket, pid: 0 };
        let mut startup = 196_608_i32.to_be_bytes().to_vec();
        for text in ["user", "bob", "database", database, ""] {
            startup.extend(text.as_bytes());
            startup.push(0);
        }
        deaf.socket.write_all(&(startup.len() as i32 + 4).to_be_bytes())?;
        deaf.socket.write_all(&startup)?;
        deaf.hear()?;
        Ok(deaf)
    }

    fn say(&mut self, sql: &str) -> Result<()> {
        self.socket.write_all(b"Q")?;
        self.socket.write_all(&(sql.len() as i32 + 5).to_be_bytes())?;
        self.socket.write_all(sql.as_bytes())?;
        Ok(self.socket.write_all(&[0])?)
    }

    /// Reads up to where the server is ready for a query.
    fn hear(&mut self) -> Result<()> {
        loop {
            let mut head = [0; 5];
            self.socket.read_exact(&mut head)?;
            let length = i32::from_be_bytes(head[1..].try_into()?) as usize - 4;
            let mut body = vec![0; length];
            self.socket.read_exact(&mut body)?;
            match head[0] {
                b'K' => self.pid = i32::from_be_bytes(body[..4].try_into()?),
                b'E' => bail!("{}", String::from_utf8_lossy(&body).replace('\0', " ")),
                b'Z' => return Ok(()),
                _ => {}
            }
        }
    }
}

/// Waits until the backend that was told this has something to say that it cannot; false if it has said all.
fn is_stuck(admin: &mut Client, pid: i32, told: &str) -> Result<bool> {
    let begun = Instant::now();
    loop {
        ensure!(begun.elapsed() < Duration::from_secs(60), "the backend neither ends nor waits for its client");
        // (Not pg_stat_activity: the lock table may be full.)
        let row = admin.query_opt("SELECT wait_event, state, query FROM pg_stat_get_activity($1)", &[&pid])?;
        let row = row.context("the backend is gone")?;
        let (event, state, query): (Option<String>, Option<String>, String) = (row.get(0), row.get(1), row.get(2));
        // It may have to wake up first.
        let event = event.filter(|_| query == told);
        match event.as_deref() {
            Some("ClientWrite") => return Ok(true),
            Some("ClientRead") if state.is_some_and(|state| state.starts_with("idle")) => return Ok(false),
            _ => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn rows(count: usize) -> String {
    format!("SELECT repeat('x', 100) FROM generate_series(1, {count})")
}

/// So many rows fill a socket: the next message that must go out at once is stuck. The server sends 8 kB at a time, and keeps what is less, so
/// that more rows would do as well: 73 fit into 8 kB.
fn filling(cluster: &Cluster, database: &str, admin: &mut Client) -> Result<usize> {
    for count in (64..100_000).step_by(24) {
        let mut deaf = Deaf::connect(cluster, database)?;
        let said = format!("{}; SELECT 1 / (pg_advisory_lock(1)::text <> '')::int", rows(count));
        deaf.say(&said)?;
        if is_stuck(admin, deaf.pid, &said)? {
            let locked = "SELECT FROM pg_locks WHERE pid = $1 AND locktype = 'advisory' AND objid = 1";
            ensure!(admin.query_opt(locked, &[&deaf.pid])?.is_some(), "the rows themselves are stuck");
            return Ok(count + 16);
        }
    }
    bail!("the socket takes all")
}

/// A way to have something said while the own commit is under way.
struct Attack {
    name: &'static str,
    /// Heard.
    before: &'static str,
    /// What fills the socket comes after these.
    then: &'static str,
    last: &'static str,
    /// Another session of his, before the last words.
    meanwhile: &'static str,
    /// And afterwards.
    afterwards: &'static str,
    /// Settings that the role has.
    role: &'static str,
}

const ATTACK: Attack = Attack {
    name: "",
    before: "UPDATE notes SET body = body || '.' WHERE id = 11",
    then: "BEGIN; UPDATE notes SET body = body || '!' WHERE id = 12",
    last: "COMMIT",
    meanwhile: "",
    afterwards: "",
    role: "",
};

const ATTACKS: [Attack; 6] = [
    Attack {
        name: "an ERROR because the lock table is full",
        meanwhile: "DO $$ BEGIN FOR i IN 1 .. 1000000 LOOP PERFORM pg_advisory_lock(i); END LOOP; EXCEPTION WHEN OTHERS THEN NULL; END $$",
        afterwards: "SELECT pg_advisory_unlock_all()",
        ..ATTACK
    },
    Attack {
        name: "an ERROR in SERIALIZABLE",
        then: "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM notes; UPDATE notes SET body = body || '!' WHERE id = 12",
        meanwhile: "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM notes; UPDATE notes SET body = body || '!' WHERE id = 13; COMMIT",
        ..ATTACK
    },
    Attack { name: "an ERROR behind the stamp", last: "PREPARE TRANSACTION 'DATABASE'", ..ATTACK },
    Attack {
        name: "the same where the server's log has no ERRORs",
        last: "PREPARE TRANSACTION 'DATABASE'",
        role: "log_min_messages = 'fatal'",
        ..ATTACK
    },
    Attack {
        name: "a remark behind the stamp",
        then: "BEGIN; UPDATE notes SET body = body || '!' WHERE id = 12; NOTIFY something",
        last: "SET LOCAL client_min_messages = debug1; SET LOCAL trace_notify = on; COMMIT",
        ..ATTACK
    },
    Attack {
        name: "a plan that is printed in the first write of a session",
        before: "SELECT",
        last: "SET LOCAL client_min_messages = log; SET LOCAL debug_print_plan = on; COMMIT",
        ..ATTACK
    },
];

/// Pulls and writes in turn; the cursor must move on, past each write.
fn work(client: &mut Client) -> Result<()> {
    client.batch_execute("SET lock_timeout = '15s'; SET statement_timeout = '15s'")?;
    let mut cursor = None::<String>;
    for turn in 0..3 {
        let text: String = client.query_one("SELECT pull_changes('{notes}', $1)::text", &[&cursor])?.get(0);
        let answer: Value = serde_json::from_str(&text)?;
        let changed = answer["changes"]["notes"]["updated"].as_array().map_or(0, Vec::len);
        ensure!(turn == 0 || changed == 1, "a pull brings {changed} rows where one has changed since the last one");
        cursor = Some(answer["timestamp"].to_string());
        client.execute("UPDATE notes SET body = body || '+' WHERE id = $1", &[&(turn + 1)])?;
    }
    Ok(())
}

fn attempt(cluster: &Cluster, attack: &Attack, count: usize, patience: Duration) -> Result<()> {
    let database = cluster.create_database("deaf")?;
    let mut admin = cluster.connect(&database)?;
    admin.batch_execute(DDL)?;
    admin.batch_execute("ALTER ROLE bob RESET ALL")?;
    if !attack.role.is_empty() {
        admin.batch_execute(&format!("ALTER ROLE bob SET {}", attack.role))?;
    }
    admin.batch_execute(&format!("BEGIN; SELECT; PREPARE TRANSACTION '{database}'"))?;
    let mut old = cluster.connect_as(&database, "alice")?;
    work(&mut old)?;
    // It is connected, and has done nothing yet.
    let new = cluster.connect_as(&database, "alice")?;
    let mut other = cluster.connect_as(&database, "bob")?;
    let mut deaf = Deaf::connect(cluster, &database)?;
    deaf.say(attack.before)?;
    deaf.hear()?;
    deaf.say(attack.then)?;
    deaf.hear()?;
    other.batch_execute(attack.meanwhile)?;
    let said = format!("{}; {}", rows(count), attack.last.replace("DATABASE", &database));
    deaf.say(&said)?;
    let stuck = is_stuck(&mut admin, deaf.pid, &said);
    other.batch_execute(attack.afterwards)?;
    ensure!(stuck?, "it could be said");
    // (One after the other: a pull may bring again what the other one is just committing.)
    let (send, receive) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let [mut old, mut new] = [old, new];
        let result = work(&mut old).context("an old session").and_then(|()| work(&mut new).context("a new session"));
        let _ = send.send(result);
    });
    let found = receive.recv_timeout(patience).unwrap_or_else(|_| Err(anyhow!("others hang")));
    let still = is_stuck(&mut admin, deaf.pid, &said)?;
    // Now they go on in any case.
    drop(deaf);
    let _ = thread.join();
    admin.batch_execute(&format!("ROLLBACK PREPARED '{database}'"))?;
    found?;
    ensure!(still, "it could be said in the end");
    Ok(())
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let cluster = Cluster::start(&[])?;
    let mut verdict = Verdict::default();
    let mut admin = cluster.connect("postgres")?;
    admin.batch_execute("CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN")?;
    let count = filling(&cluster, "postgres", &mut admin)?;
    println!("{count} rows fill a socket");
    for attack in &ATTACKS {
        let result = attempt(&cluster, attack, count, Duration::from_secs(arguments.patience));
        verdict.check(
            result.is_ok(),
            format!("{}{}", attack.name, result.err().map_or(String::new(), |e| format!(": {e:#}"))),
        );
    }
    verdict.check(!cluster.crashed(), "no backend died");
    drop(cluster);
    Ok(verdict.close())
}
