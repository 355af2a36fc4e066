//! `json-fuzz`: mutated payloads through all functions that clients call, as an ordinary role: no crash, no internal error, no partial effect.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use postgres::Client;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{json, Value};
use snapsync_e2e::cluster::Cluster;
use snapsync_e2e::verdict::Verdict;

#[derive(Parser)]
struct Arguments {
    /// Payloads.
    #[arg(long, default_value_t = 6000)]
    payloads: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const SETUP: &str = "
    CREATE EXTENSION snapsync;
    CREATE ROLE app LOGIN;
    CREATE TYPE mood AS ENUM ('ok', 'bad');
    CREATE TYPE pair AS (x int, y text);
    CREATE DOMAIN small AS int CHECK (VALUE < 100);
    CREATE TABLE lists (id text PRIMARY KEY, name text NOT NULL, parent text REFERENCES lists, owner text DEFAULT CURRENT_USER);
    CREATE TABLE items (id uuid PRIMARY KEY, list text REFERENCES lists ON DELETE CASCADE, n numeric, i int, b bigint, f float8, ok boolean,
        at timestamptz, local timestamp, day date, doc jsonb, raw json, tags text[], grid int[], bytes bytea, m mood, p pair, s small, r int4range,
        code text UNIQUE, twice numeric GENERATED ALWAYS AS (n * 2) STORED, deleted boolean NOT NULL DEFAULT false);
    CREATE TABLE pairs (a text, b int, n int CHECK (n > 0), PRIMARY KEY (a, b));
    CREATE TABLE versions (id int PRIMARY KEY, v timestamptz, a text, gone timestamptz);
    ALTER TABLE lists ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON lists USING (owner = CURRENT_USER);
    GRANT ALL ON lists, items, pairs, versions TO app;
    SELECT snapsync.enable('lists'), snapsync.enable('items', conflict => 'merge'), snapsync.enable('pairs', conflict => 'client_wins'),
           snapsync.enable('versions', conflict => 'last_write_wins', version_column => 'v', soft_delete_column => 'gone');
    CREATE FUNCTION add_one(args json) RETURNS void LANGUAGE sql AS $$ UPDATE pairs SET n = n + (args ->> 'n')::int $$;
    SELECT snapsync.register_mutator('add', 'add_one(json)');
    INSERT INTO lists VALUES ('a', 'a', NULL, 'app'), ('b', 'b', 'a', 'app'), ('hidden', 'h', NULL, 'postgres');
    INSERT INTO items (id, list, n) SELECT ('00000000-0000-0000-0000-00000000000' || i)::uuid, 'a', i FROM generate_series(1, 5) AS i;
    INSERT INTO pairs VALUES ('x', 1, 1), ('x.y', 2, 2);
    INSERT INTO versions VALUES (1, '2024-01-01', 'a')";

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let cluster = Cluster::start(&[("log_min_messages", "fatal")])?;
    let mut verdict = Verdict::default();
    let database = cluster.create_database("fuzz")?;
    cluster.connect(&database)?.batch_execute(SETUP)?;
    let mut client = cluster.connect_as(&database, "app")?;
    let mut rng = StdRng::seed_from_u64(arguments.seed);
    let mut codes: BTreeMap<String, u64> = BTreeMap::new();
    let mut bad: Vec<String> = Vec::new();
    let mut before = state(&mut client)?;
    for n in 0..arguments.payloads {
        let call = Call::random(&mut rng);
        // Once in a while for good, to see that an error changes nothing and a success does not spoil what follows.
        let for_good = n % 40 == 0;
        let outcome = call.run(&mut client, for_good);
        let code = match &outcome {
            Ok(()) => "00000".to_string(),
            Err(e) => e.code().map_or_else(|| "no answer".into(), |c| c.code().to_string()),
        };
        if code.starts_with("XX") || code == "no answer" {
            bad.push(format!("{code}: {:?}\n{call:?}", outcome.as_ref().err()));
            if bad.len() >= 5 {
                break;
            }
            if client.is_closed() {
                std::thread::sleep(std::time::Duration::from_secs(1));
                client = cluster.connect_as(&database, "app")?;
            }
        }
        if for_good {
            let after = state(&mut client)?;
            if outcome.is_err() && after != before {
                bad.push(format!("an error changed something: {call:?}"));
            }
            before = after;
        }
        *codes.entry(code).or_default() += 1;
    }
    for problem in &bad {
        println!("        {problem}");
    }
    println!("        {codes:?}");
    verdict.check(
        bad.is_empty(),
        format!("{} payloads: no crash, no internal error, no partial effect", arguments.payloads),
    );
    verdict.check(codes.len() > 8 && codes.contains_key("00000"), "payloads got as far as the tables");
    verdict.check(!cluster.crashed(), "no backend died");
    drop(cluster);
    Ok(verdict.close())
}

fn state(client: &mut Client) -> Result<String> {
    let sql = "SELECT md5(concat((SELECT json_agg(l ORDER BY id) FROM lists AS l), (SELECT json_agg(i ORDER BY id) FROM items AS i), \
               (SELECT json_agg(p ORDER BY a, b) FROM pairs AS p), (SELECT json_agg(v ORDER BY id) FROM versions AS v)))";
    Ok(client.query_one(sql, &[])?.get(0))
}

#[derive(Debug)]
struct Call {
    function: u8,
    payload: String,
    cursor: Option<String>,
    dialect: Option<String>,
    report: bool,
    collections: Vec<String>,
}

impl Call {
    fn random(rng: &mut StdRng) -> Call {
        let function = *[0, 0, 0, 0, 0, 0, 1, 2, 3].choose(rng).unwrap();
        let mut value = match function {
            2 => mutations(rng),
            3 => drift_changes(rng),
            _ => changes(rng),
        };
        for _ in 0..rng.random_range(0..4) {
            mutate(&mut value, rng, 6);
        }
        let mut payload = value.to_string();
        if rng.random_bool(0.15) {
            mutate_text(&mut payload, rng);
        }
        let cursors = [
            "0",
            "1",
            "2",
            "5",
            "",
            "null",
            "-1",
            "1e3",
            "9007199254740993",
            "99999999999999999999",
            "2024-01-01T00:00:00Z",
            "x",
            "\u{7f}",
        ];
        let cursor = rng.random_bool(0.6).then(|| cursors.choose(rng).unwrap().to_string());
        let dialect = rng.random_bool(0.5).then(|| {
            ["postgrest", "watermelondb", "drift", ""].choose_weighted(rng, |d| d.len() + 1).unwrap().to_string()
        });
        let names = ["lists", "items", "pairs", "versions", "public.items", "__proto__", "nothing", "", "a\"b"];
        let collections = (0..rng.random_range(0..4)).map(|_| names.choose(rng).unwrap().to_string()).collect();
        Call { function, payload, cursor, dialect, report: rng.random_bool(0.5), collections }
    }

    fn run(&self, client: &mut Client, for_good: bool) -> Result<(), postgres::Error> {
        let mut transaction = client.transaction()?;
        let mode = if self.report { "report" } else { "abort" };
        match self.function {
            0 => transaction.execute(
                "SELECT push_changes($1::text::json, $2, $3, 'fuzz', on_rejected => $4)",
                &[&self.payload, &self.cursor, &self.dialect, &mode],
            )?,
            1 => transaction
                .execute("SELECT pull_changes($1, $2, $3)", &[&self.collections, &self.cursor, &self.dialect])?,
            2 => transaction.execute("SELECT push_mutations($1::text::json, 'fuzz')", &[&self.payload])?,
            _ => transaction.execute(
                "SELECT push_changes(_changes => $1::text::json, last_pulled_at => coalesce(to_json($2::text), 'null'))",
                &[&self.payload, &self.cursor],
            )?,
        };
        if for_good {
            transaction.commit()
        } else {
            transaction.rollback()
        }
    }
}

fn one<T: Copy>(rng: &mut StdRng, of: &[T]) -> T {
    of[rng.random_range(0..of.len())]
}

fn uuid(rng: &mut StdRng) -> String {
    format!("00000000-0000-0000-0000-00000000000{}", rng.random_range(0..9))
}

fn changes(rng: &mut StdRng) -> Value {
    let mut out = serde_json::Map::new();
    for name in ["lists", "items", "pairs", "versions"] {
        if rng.random_bool(0.4) {
            continue;
        }
        let mut arrays = json!({ "created": [], "updated": [], "deleted": [] });
        for array in ["created", "updated", "deleted"] {
            for _ in 0..rng.random_range(0..4) {
                let record = record(name, rng);
                let entry = if array == "deleted" { record.get("id").cloned().unwrap_or(record) } else { record };
                arrays[array].as_array_mut().unwrap().push(entry);
            }
        }
        out.insert(name.into(), arrays);
    }
    Value::Object(out)
}

fn record(name: &str, rng: &mut StdRng) -> Value {
    match name {
        "lists" => {
            json!({ "id": one(rng, &["a", "b", "c", "d", "hidden"]), "name": "n", "parent": one(rng, &[Some("a"), Some("d"), None]) })
        }
        "pairs" => {
            json!({ "a": one(rng, &["x", "x.y", ""]), "b": rng.random_range(0..4), "n": rng.random_range(0..9) })
        }
        "versions" => json!({ "id": rng.random_range(0..4), "v": one(rng, &["2023-01-01", "2025-01-01"]), "a": "b",
                              "gone": one(rng, &[None, None, Some("2024-01-01T00:00:00.000"), Some("2026-01-01T00:00:00Z")]) }),
        _ => {
            json!({ "id": uuid(rng), "list": one(rng, &["a", "b", "z"]), "n": 1.5, "i": 3, "b": 9_007_199_254_740_993_i64, "f": 0.1, "ok": true,
                     "at": 1_700_000_000_000_i64, "local": "2024-01-01T00:00:00", "day": "2024-01-01", "doc": { "a": [1, null] }, "raw": "\"x\"",
                     "tags": ["a", null], "grid": [[1, 2], [3, 4]], "bytes": "\\x00", "m": "ok", "p": { "x": 1, "y": "z" }, "s": 5, "r": "[1,2)",
                     "code": one(rng, &["c", "d"]), "twice": 1, "_status": "updated", "_changed": "n,i" })
        }
    }
}

/// As the Drift client sends them: whole rows in all arrays.
fn drift_changes(rng: &mut StdRng) -> Value {
    let mut rows = |most| (0..rng.random_range(0..most)).map(|_| record("versions", rng)).collect::<Vec<_>>();
    json!({ "public.versions": { "created": rows(3), "updated": rows(4), "deleted": rows(3) } })
}

fn mutations(rng: &mut StdRng) -> Value {
    let list: Vec<Value> =
        (1..=rng.random_range(0..4)).map(|id| json!({ "id": id, "name": "add", "args": { "n": 1 } })).collect();
    Value::Array(list)
}

fn junk(rng: &mut StdRng) -> Value {
    let texts = [
        "",
        "null",
        "__proto__",
        "\u{1}",
        "\u{10ffff}",
        "'; DROP TABLE lists; --",
        "\\x",
        "{",
        "[1",
        "infinity",
        "NaN",
        "-0",
        "1e400",
        "{1,2}",
        "(1,2)",
    ];
    match rng.random_range(0..12) {
        0 => Value::Null,
        1 => json!(rng.random::<bool>()),
        2 => json!(rng.random::<i64>()),
        3 => json!(rng.random::<f64>() * 1e300),
        4 => json!([]),
        5 => json!({}),
        6 => json!(texts.choose(rng)),
        7 => json!("x".repeat(rng.random_range(0..5000))),
        8 => json!({ "id": { "id": [] } }),
        9 => (0..rng.random_range(1..100)).fold(json!(1), |inner, _| json!([inner])),
        10 => json!([1, "a", null, { "b": [] }]),
        _ => json!(-1),
    }
}

/// Changes something somewhere below.
fn mutate(value: &mut Value, rng: &mut StdRng, depth: u32) {
    if depth == 0 || rng.random_bool(0.15) {
        *value = junk(rng);
        return;
    }
    match value {
        Value::Array(list) if !list.is_empty() => {
            let at = rng.random_range(0..list.len());
            match rng.random_range(0..10) {
                0 => drop(list.remove(at)),
                1 => list.push(list[at].clone()),
                2 => list.push(junk(rng)),
                _ => mutate(&mut list[at], rng, depth - 1),
            }
        }
        Value::Object(map) if !map.is_empty() => {
            let keys: Vec<String> = map.keys().cloned().collect();
            let key = keys.choose(rng).unwrap();
            match rng.random_range(0..10) {
                0 => drop(map.remove(key)),
                1 => drop(map.insert(
                    ["id", "_changed", "_status", "created", "name", "zzz", ""].choose(rng).unwrap().to_string(),
                    junk(rng),
                )),
                _ => mutate(map.get_mut(key).unwrap(), rng, depth - 1),
            }
        }
        other => *other = junk(rng),
    }
}

/// Changes the text itself: no JSON any more, most often, but also escapes, large numbers and the same key twice.
fn mutate_text(text: &mut String, rng: &mut StdRng) {
    let pieces = [
        "\"",
        "\\",
        "\\u0000",
        "\\ud800",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "1e999",
        "-",
        "null",
        "\"id\":1,",
        "\u{feff}",
        " ",
        "00",
    ];
    let at = rng.random_range(0..=text.len());
    let at = (0..=at).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    if rng.random_bool(0.3) {
        text.truncate(at);
    } else {
        text.insert_str(at, pieces.choose(rng).unwrap());
    }
}
