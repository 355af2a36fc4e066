//! `push-oracle`: random batches on random schemas against the same changes in plain SQL, row by row.
//!
//! Each round makes tables that refer to each other (and to themselves), with and without constraints, and pushes batches to
//! them; a second schema of the same shape, without snapsync, gets the same changes as statements. A trigger fails from the
//! n-th row on. After a push that was accepted both schemas are equal; after one that failed nothing has changed. With
//! `report` the plain side leaves out what was reported.

use std::collections::HashSet;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use postgres::{Client, Transaction};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{json, Map, Value};
use snapsync_e2e::cluster::Cluster;
use snapsync_e2e::verdict::Verdict;

#[derive(Parser)]
struct Arguments {
    /// Schemas.
    #[arg(long, default_value_t = 12)]
    schemas: u64,
    /// Batches per schema.
    #[arg(long, default_value_t = 40)]
    batches: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A column: its type, and texts that are values of it as JSON (the last one violates something, where there is one).
const COLUMNS: [(&str, &str, &[&str]); 7] = [
    ("title", "text CHECK (title <> 'bad')", &["\"a\"", "\"ü \\\" \\\\\"", "null", "\"bad\""]),
    ("n", "numeric(30, 5) CHECK (n < 1000000)", &["1.10", "12345.67891", "null", "12345678901"]),
    ("big", "bigint", &["9007199254740993", "-1", "null", "1.5"]),
    ("at", "timestamptz", &["\"2024-02-29T12:00:00.123456Z\"", "1709208000123", "null", "\"when?\""]),
    ("doc", "jsonb", &["{\"b\":1.10,\"a\":[null]}", "\"x\"", "[]"]),
    ("tags", "text[]", &["[\"a\",null]", "[]", "null"]),
    ("ok", "boolean NOT NULL DEFAULT true", &["true", "false", "null"]),
];

struct Table {
    name: String,
    columns: Vec<usize>,
    /// Index of the table referred to (perhaps itself), and what happens when its row goes.
    parent: Option<(usize, &'static str)>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let cluster = Cluster::start(&[("log_min_messages", "fatal")])?;
    let mut verdict = Verdict::default();
    let (mut accepted, mut failed, mut reported) = (0, 0, 0);
    let mut problem = None;
    'schemas: for schema in 0..arguments.schemas {
        let mut rng = StdRng::seed_from_u64(arguments.seed * 10_000 + schema);
        let database = cluster.create_database("oracle")?;
        let mut client = cluster.connect(&database)?;
        let tables = make(&mut client, &mut rng)?;

        for batch in 0..arguments.batches {
            match round(&mut client, &tables, &mut rng).with_context(|| format!("schema {schema}, batch {batch}"))? {
                Outcome::Accepted => accepted += 1,
                Outcome::Failed => failed += 1,
                Outcome::Reported => reported += 1,
                Outcome::Wrong(what) => {
                    problem = Some(format!("schema {schema}, batch {batch}: {what}"));
                    break 'schemas;
                }
            }
        }
        drop(client);
        cluster.drop_database(&database)?;
    }
    println!("        {accepted} accepted, {failed} failed, {reported} reported");
    if let Some(problem) = &problem {
        println!("        {problem}");
    }
    verdict.check(problem.is_none(), "the tables are as plain SQL leaves them, or untouched");
    verdict.check(accepted > 20 && failed > 20 && reported > 20, "all outcomes occurred");
    verdict.check(!cluster.crashed(), "no backend died");
    drop(cluster);
    Ok(verdict.close())
}

fn make(client: &mut Client, rng: &mut StdRng) -> Result<Vec<Table>> {
    let mut tables: Vec<Table> = Vec::new();
    for i in 0..rng.random_range(1..4) {
        let columns = (0..COLUMNS.len()).filter(|_| rng.random_bool(0.6)).collect();
        let actions = ["", "ON DELETE CASCADE", "ON DELETE SET NULL"];
        let parent = rng.random_bool(0.8).then(|| (rng.random_range(0..=i), actions[rng.random_range(0..3)]));
        tables.push(Table { name: format!("t{i}"), columns, parent });
    }
    let mut sql = String::from("CREATE EXTENSION snapsync; CREATE SCHEMA plain; CREATE SEQUENCE public.rows;\n");
    for (schema, deferrable) in [("public", ""), ("plain", " DEFERRABLE INITIALLY DEFERRED")] {
        for t in &tables {
            sql += &format!("CREATE TABLE {schema}.{} (id text PRIMARY KEY, parent text", t.name);
            for &c in &t.columns {
                sql += &format!(", {} {}", COLUMNS[c].0, COLUMNS[c].1);
            }
            sql += ");\n";
        }
        for t in &tables {
            if let Some((parent, action)) = t.parent {
                sql += &format!(
                    "ALTER TABLE {schema}.{} ADD FOREIGN KEY (parent) REFERENCES {schema}.{} {action}{deferrable};\n",
                    t.name, tables[parent].name
                );
            }
        }
    }
    // A sequence is not rolled back: from the n-th row on everything fails, however often it is tried.
    sql += "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('public.rows') > current_setting('oracle.fail_after')::int THEN RAISE EXCEPTION 'failed as planned'; END IF;
            IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
            RETURN NEW;
        END $$;\n";
    for t in &tables {
        sql += &format!(
            "CREATE TRIGGER fail {} INSERT OR UPDATE OR DELETE ON public.{} FOR EACH ROW EXECUTE FUNCTION fail();
             SELECT snapsync.enable('public.{}');\n",
            if rng.random_bool(0.5) { "BEFORE" } else { "AFTER" },
            t.name,
            t.name
        );
    }
    client.batch_execute(&sql)?;
    Ok(tables)
}

enum Outcome {
    Accepted,
    Failed,
    Reported,
    Wrong(String),
}

fn round(client: &mut Client, tables: &[Table], rng: &mut StdRng) -> Result<Outcome> {
    let changes = changes(tables, rng);
    let payload = text(&changes);
    let report = rng.random_bool(0.5);
    // With `report` a failure that depends on the order would not be the same one twice.
    let fail_after = if !report && rng.random_bool(0.4) { rng.random_range(0..15) } else { 1_000_000_000 };
    client.batch_execute(&format!("SELECT setval('public.rows', 1, false); SET oracle.fail_after = {fail_after}"))?;
    let before = state(client, tables, "public")?;
    let dialect = if rng.random_bool(0.3) { "watermelondb" } else { "postgrest" };
    let pushed = client.query_one(
        "SELECT push_changes($1::text::json, dialect => $2, on_rejected => $3)::text",
        &[&payload, &dialect, &if report { "report" } else { "abort" }],
    );
    let after = state(client, tables, "public")?;
    let answer: Value = match pushed {
        Ok(row) => serde_json::from_str(row.get(0))?,
        Err(e) => {
            return Ok(if after == before { Outcome::Failed } else { Outcome::Wrong(format!("{e} changed {payload}")) })
        }
    };
    let mut rejected: HashSet<(String, String)> = HashSet::new();
    for (collection, ids) in answer["experimentalRejectedIds"].as_object().into_iter().flatten() {
        let ids = ids.as_array().into_iter().flatten().filter_map(Value::as_str);
        rejected.extend(ids.map(|id| (collection.clone(), id.to_string())));
    }
    let mut transaction = client.transaction()?;
    let plain = apply(&mut transaction, tables, &changes, &rejected, dialect).and_then(|()| Ok(transaction.commit()?));
    if let Err(e) = plain {
        return Ok(Outcome::Wrong(format!(
            "plain SQL fails ({e:?}), the push did not: {payload} {answer}\nbefore {before}\nafter  {after}"
        )));
    }
    let expected = state(client, tables, "plain")?;
    if after != expected {
        return Ok(Outcome::Wrong(format!("{payload}\n{answer}\nis      {after}\nand not {expected}")));
    }
    Ok(if rejected.is_empty() { Outcome::Accepted } else { Outcome::Reported })
}

/// A batch: for each table records as lists of (column, JSON text), and ids to delete.
struct Change {
    table: usize,
    created: Vec<Vec<(String, String)>>,
    updated: Vec<Vec<(String, String)>>,
    deleted: Vec<String>,
}

fn changes(tables: &[Table], rng: &mut StdRng) -> Vec<Change> {
    let mut order: Vec<usize> = (0..tables.len()).collect();
    order.reverse();
    let mut out = Vec::new();
    for table in order {
        // Each id once: what the same id twice means is another test's matter.
        let mut ids: Vec<String> = (0..8).map(|i| format!("r{i}")).collect();
        let mut take = |rng: &mut StdRng| ids.swap_remove(rng.random_range(0..ids.len()));
        let mut change = Change { table, created: Vec::new(), updated: Vec::new(), deleted: Vec::new() };
        for _ in 0..rng.random_range(0..3) {
            let id = take(rng);
            change.created.push(record(&tables[table], &id, rng));
        }
        for _ in 0..rng.random_range(0..3) {
            let id = take(rng);
            change.updated.push(record(&tables[table], &id, rng));
        }
        for _ in 0..rng.random_range(0..2) {
            change.deleted.push(take(rng));
        }
        out.push(change);
    }
    out
}

fn record(table: &Table, id: &str, rng: &mut StdRng) -> Vec<(String, String)> {
    let mut fields = vec![("id".to_string(), json!(id).to_string())];
    if rng.random_bool(0.5) {
        let parent = if rng.random_bool(0.2) { "null".into() } else { format!("\"r{}\"", rng.random_range(0..8)) };
        fields.push(("parent".to_string(), parent));
    }
    for &c in &table.columns {
        if rng.random_bool(0.6) {
            let values = COLUMNS[c].2;
            // The last one is seldom.
            let n = if rng.random_bool(0.06) { values.len() } else { values.len() - 1 };
            fields.push((COLUMNS[c].0.to_string(), values[rng.random_range(0..n)].to_string()));
        }
    }
    fields
}

fn text(changes: &[Change]) -> String {
    let object = |fields: &Vec<(String, String)>| {
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", fields.join(","))
    };
    let collections: Vec<String> = changes
        .iter()
        .map(|c| {
            let created: Vec<String> = c.created.iter().map(object).collect();
            let updated: Vec<String> = c.updated.iter().map(object).collect();
            format!(
                "\"t{}\":{{\"created\":[{}],\"updated\":[{}],\"deleted\":{}}}",
                c.table,
                created.join(","),
                updated.join(","),
                json!(c.deleted)
            )
        })
        .collect();
    format!("{{{}}}", collections.join(","))
}

/// The same in plain SQL, row by row. The order is the one that the documentation promises; foreign keys are deferred here,
/// because a person who writes the statements would find an order that satisfies them.
fn apply(
    transaction: &mut Transaction,
    tables: &[Table],
    changes: &[Change],
    rejected: &HashSet<(String, String)>,
    dialect: &str,
) -> Result<()> {
    let is_parent = |table: usize| tables.iter().any(|t| t.parent.is_some_and(|(p, _)| p == table));
    let delete = |transaction: &mut Transaction, parents: bool| -> Result<()> {
        for change in changes.iter().filter(|c| is_parent(c.table) == parents) {
            for id in
                change.deleted.iter().filter(|id| !rejected.contains(&(format!("t{}", change.table), id.to_string())))
            {
                transaction.execute(&format!("DELETE FROM plain.t{} WHERE id = $1", change.table), &[id])?;
            }
        }
        Ok(())
    };
    delete(transaction, false)?;
    for change in changes.iter().rev() {
        for fields in change.created.iter().chain(&change.updated) {
            let id: String = serde_json::from_str(&fields[0].1)?;
            if rejected.contains(&(format!("t{}", change.table), id.clone())) {
                continue;
            }
            let (mut names, mut values) = (Vec::new(), Vec::new());
            for (name, value) in &fields[1..] {
                names.push(name.as_str());
                values.push(literal(name, value, dialect));
            }
            let table = format!("plain.t{}", change.table);
            let set: Vec<String> = names.iter().zip(&values).map(|(n, v)| format!("{n} = {v}")).collect();
            let set = if set.is_empty() { "id = id".into() } else { set.join(", ") };
            if transaction.execute(&format!("UPDATE {table} SET {set} WHERE id = $1"), &[&id])? == 0 {
                let names: Vec<&str> = std::iter::once("id").chain(names).collect();
                let values: Vec<String> = std::iter::once("$1".to_string()).chain(values).collect();
                let sql = format!("INSERT INTO {table} ({}) VALUES ({})", names.join(", "), values.join(", "));
                transaction.execute(&sql, &[&id])?;
            }
        }
    }
    delete(transaction, true)
}

fn literal(name: &str, json: &str, dialect: &str) -> String {
    if json == "null" {
        return "NULL".into();
    }
    let quoted = json.replace('\'', "''");
    let text = format!("('{quoted}'::json #>> '{{}}')");
    match name {
        // In JSON text of a string, where it is one and parses: only that dialect reads it so.
        "doc" if dialect == "watermelondb" && json.starts_with('"') => format!("{text}::jsonb"),
        "doc" => format!("'{quoted}'::jsonb"),
        "tags" => format!("(SELECT coalesce(array_agg(v ORDER BY n), '{{}}') FROM json_array_elements_text('{quoted}') WITH ORDINALITY AS e(v, n))"),
        "at" if !json.starts_with('"') => {
            // Stored microseconds of the same millisecond stay: there is one such pair among the values.
            format!("to_timestamp({json} / 1000.0)")
        }
        "title" | "parent" => text,
        "n" => format!("{text}::numeric"),
        "big" => format!("{text}::bigint"),
        "at" => format!("{text}::timestamptz"),
        _ => format!("{text}::boolean"),
    }
}

/// All rows; times at the precision of ms, because a push in ms keeps the stored microseconds of that millisecond.
fn state(client: &mut Client, tables: &[Table], schema: &str) -> Result<String> {
    let mut out = Map::new();
    for table in tables {
        let at = if table.columns.iter().any(|c| COLUMNS[*c].0 == "at") {
            " || jsonb_build_object('at', date_trunc('milliseconds', at))"
        } else {
            ""
        };
        let sql = format!(
            "SELECT coalesce(jsonb_agg(to_jsonb(t){at} ORDER BY id), '[]')::text FROM {schema}.{} AS t",
            table.name
        );
        out.insert(table.name.clone(), json!(client.query_one(&sql, &[])?.get::<_, String>(0)));
    }
    Ok(Value::Object(out).to_string())
}
