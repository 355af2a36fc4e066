//! The catalogue of bad input.

use super::{Call, Case, Hint};

const ID: &str = "20000000-0000-4000-8000-000000000002";

fn case(name: impl Into<String>, call: Call, codes: &'static [&'static str], hint: Hint) -> Case {
    Case { name: name.into(), call, codes, hint }
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    pull_collections(&mut cases);
    pull_cursors(&mut cases);
    push_shapes(&mut cases);
    push_values(&mut cases);
    push_refusals(&mut cases);
    enable(&mut cases);
    cases
}

fn pull_collections(cases: &mut Vec<Case>) {
    for name in [
        "nothing",
        "plain",
        "__proto__",
        "pg_catalog.pg_class",
        "",
        "todos; drop table todos",
        "snapsync.change",
        "TODOS",
    ] {
        let body = format!(r#"{{"collections":["todos","{name}"]}}"#);
        cases.push(case(format!("pull of {name:?}"), Call::Pull(body), &["42P01"], Hint::Needed));
    }
    let long = "x".repeat(100_000);
    let body = format!(r#"{{"collections":["{long}"]}}"#);
    cases.push(case("pull of a name of 100,000 letters", Call::Pull(body), &["42P01"], Hint::Needed));
    for (name, body) in
        [("collections null", r#"{"collections":null}"#), ("a null collection", r#"{"collections":["todos",null]}"#)]
    {
        cases.push(case(name, Call::Pull(body.into()), &["22004", "22023", "42P01"], Hint::Needed));
    }
    for (name, body) in [
        ("a table without SELECT", r#"{"collections":["secrets"]}"#),
        (
            "a table without SELECT among others, with a cursor",
            r#"{"collections":["todos","secrets"],"last_pulled_at":"1"}"#,
        ),
    ] {
        cases.push(case(name, Call::Pull(body.into()), &["42501"], Hint::Needed));
    }
    let dialect = r#"{"collections":["todos"],"dialect":"klingon"}"#;
    cases.push(case("unknown dialect", Call::Pull(dialect.into()), &["22023"], Hint::Needed));
    let echoes = r#"{"collections":["todos"],"skip_echoes":true}"#;
    cases.push(case("skip_echoes without a client_id", Call::Pull(echoes.into()), &["22023"], Hint::Needed));
    // Two-dimensional arrays unnest to names that are known: refusing or flattening would both be defensible, silence is not.
    let nul = r#"{"collections":["to\u0000dos"]}"#;
    cases.push(case(
        "a NUL in a collection's name",
        Call::Pull(nul.into()),
        &["22P05", "22P02", "42P01"],
        Hint::Native,
    ));
    cases.push(case("the request is no JSON", Call::Pull("{\"collections\":".into()), &["22P02"], Hint::Native));
    cases.push(case("the request is no object", Call::Pull("[1]".into()), &["22023", "22004", "22P02"], Hint::Native));
}

fn pull_cursors(cases: &mut Vec<Case>) {
    let long = "9".repeat(100_000);
    for cursor in [
        "abc",
        "-1",
        "1.5",
        "1e3",
        "99999999999999999999",
        "9223372036854775808",
        "0x10",
        "1_000",
        "+7",
        "1;2",
        "NaN",
        "infinity",
        "now",
        "2024-13-01T00:00:00Z",
        "2024-02-30T00:00:00Z",
        "2024-01-01T25:00:00Z",
        "24-01-01",
        "2024-01-01T00:00:00+99:00",
        "99999-01-01T00:00:00Z",
        "１２",
        "1\\u00a0",
        "{}",
        "[]",
        "' OR 1=1 --",
        long.as_str(),
    ] {
        let shown: String = cursor.chars().take(30).collect();
        let body = format!(r#"{{"collections":["todos"],"last_pulled_at":"{cursor}"}}"#);
        cases.push(case(format!("pull with cursor {shown}"), Call::Pull(body), &["22023"], Hint::Needed));
    }
    let body = r#"{"changes":{"todos":{"created":[],"updated":[],"deleted":[]}},"last_pulled_at":"abc"}"#;
    cases.push(case("push with a malformed cursor", Call::Push(body.into()), &["22023"], Hint::Needed));
}

fn push(changes: &str) -> Call {
    Call::Push(format!(r#"{{"changes":{changes}}}"#))
}

fn push_shapes(cases: &mut Vec<Case>) {
    for changes in [
        "[]",
        "\"x\"",
        "1",
        "true",
        r#"{"todos":null}"#,
        r#"{"todos":[]}"#,
        r#"{"todos":"x"}"#,
        r#"{"todos":1}"#,
        r#"{"todos":{"created":{}}}"#,
        r#"{"todos":{"created":"x"}}"#,
        r#"{"todos":{"created":1}}"#,
        r#"{"todos":{"created":[1]}}"#,
        r#"{"todos":{"created":["x"]}}"#,
        r#"{"todos":{"created":[[]]}}"#,
        r#"{"todos":{"created":[null]}}"#,
        r#"{"todos":{"updated":[true]}}"#,
        r#"{"todos":{"deleted":{}}}"#,
        r#"{"todos":{"deleted":[[]]}}"#,
        r#"{"todos":{"deleted":[null]}}"#,
        r#"{"todos":{"deleted":[true]}}"#,
        r#"{"todos":{"deleted":[{}]}}"#,
        r#"{"todos":{"created":[{}]}}"#,
        r#"{"todos":{"created":[{"title":"no id"}]}}"#,
        r#"{"todos":{"created":[{"id":null,"title":"x"}]}}"#,
        r#"{"todos":{"created":[{"id":["a"],"title":"x"}]}}"#,
        r#"{"todos":{"created":[{"id":{},"title":"x"}]}}"#,
        r#"{"todos":{"creatd":[]}}"#,
        r#"{"todos":{"created":[],"created":[]}}"#,
        r#"{"todos":{"created":[]},"todos":{"created":[]}}"#,
        r#"{"pairs":{"created":[{"id":"1","v":1}]}}"#,
        r#"{"pairs":{"deleted":["1.x.y"]}}"#,
        r#"{"pairs":{"deleted":["1.%zz"]}}"#,
    ] {
        // A good record before the bad one: it must not stay.
        let mixed = changes.strip_prefix('{').filter(|_| !changes.contains("lists")).map(|rest| {
            format!(r#"{{"lists":{{"created":[{{"id":"10000000-0000-4000-8000-0000000000aa","name":"good"}}]}},{rest}"#)
        });
        let sent = mixed.unwrap_or_else(|| changes.to_owned());
        cases.push(case(format!("push {changes}"), push(&sent), &["22023"], Hint::Needed));
    }
    cases.push(case("push null", push("null"), &["22023", "22004"], Hint::Needed));
    let unknown = r#"{"nothing":{"created":[]}}"#;
    cases.push(case("push to an unknown collection", push(unknown), &["42P01"], Hint::Needed));
    let plain = r#"{"plain":{"created":[{"id":1}]}}"#;
    cases.push(case("push to a table that is not enabled", push(plain), &["42P01"], Hint::Needed));
    for depth in [1_000usize, 5_000] {
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let codes = &["22023", "54000", "54001"];
        cases.push(case(format!("changes nested {depth} deep"), push(&nested), codes, Hint::Needed));
        let inside = format!(r#"{{"todos":{{"created":[{{"id":"{ID}","title":"x","doc":{nested}}}]}}}}"#);
        cases.push(case(format!("a value nested {depth} deep"), push(&inside), codes, Hint::Needed));
    }
    let bottomless = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    cases.push(case("changes nested a million deep", push(&bottomless), &["54001", "54000"], Hint::Native));
    cases.push(case("push of text that is no JSON", push("{\"todos\":{"), &["22P02"], Hint::Native));
    let raw = r"SELECT push_changes(E'{\x22todos\x22: {}}, \xff'::json)";
    cases.push(case("invalid UTF-8", Call::App(raw.into()), &["22021"], Hint::Native));
    let no_json = "SELECT push_changes('{''a'':1}'::json)";
    cases.push(case("single-quoted JSON", Call::App(no_json.into()), &["22P02"], Hint::Native));
}

/// The same without PostgREST's `json_to_record`, which decodes every string and refuses some before snapsync sees them.
fn direct(changes: &str) -> Call {
    Call::App(format!("SELECT push_changes($json${changes}$json$::json)"))
}

/// One record with one bad member.
fn value(cases: &mut Vec<Case>, column: &str, json: &str, codes: &'static [&'static str]) {
    let shown: String = json.chars().take(40).collect();
    for (list, id) in [("created", ID), ("updated", "20000000-0000-4000-8000-000000000001")] {
        let changes = format!(
            r#"{{"lists":{{"created":[{{"id":"10000000-0000-4000-8000-0000000000bb","name":"good"}}]}},"todos":{{"{list}":[{{"id":"{id}","title":"t","{column}":{json}}}]}}}}"#
        );
        let name = format!("{list} with {column} = {shown}");
        let escape = json.contains("\\u") || column.contains("\\u");
        let hint = if escape { Hint::Native } else { Hint::Needed };
        cases.push(case(name.clone(), push(&changes), codes, hint));
        if escape {
            cases.push(case(format!("{name}, directly"), direct(&changes), codes, Hint::Needed));
        }
    }
}

fn push_values(cases: &mut Vec<Case>) {
    value(cases, "nonsense", "1", &["42703"]);
    value(cases, "ctid", "\"(0,1)\"", &["42703"]);
    value(cases, "n", "\"abc\"", &["22P02"]);
    value(cases, "n", "1.5", &["22P02"]);
    value(cases, "n", "{}", &["22P02", "22023"]);
    value(cases, "n", "3000000000", &["22003"]);
    value(cases, "n", "1e400", &["22P02", "22003"]);
    value(cases, "small", "70000", &["22003"]);
    value(cases, "big", "9223372036854775808", &["22003"]);
    value(cases, "amount", "12345678901.00", &["22003"]);
    value(cases, "free", "1e1000000", &["22003", "22P02"]);
    value(cases, "free", "\"1,5\"", &["22P02"]);
    let digits = "9".repeat(200_000);
    value(cases, "free", &digits, &["22003", "22P02"]);
    value(cases, "big", &digits, &["22003", "22P02"]);
    value(cases, "at", "\"yesterday-ish\"", &["22007", "22P02"]);
    value(cases, "at", "\"2024-02-30T00:00:00Z\"", &["22008"]);
    value(cases, "at", "1e30", &["22008", "22003", "22007", "22P02", "22023"]);
    value(cases, "at", "999999999999999999999", &["22008", "22003", "22007", "22P02", "22023"]);
    value(cases, "day", "\"2024-13-01\"", &["22008", "22007"]);
    value(cases, "flag", "\"perhaps\"", &["22P02"]);
    value(cases, "mood", "\"angry\"", &["22P02"]);
    value(cases, "share", "101", &["23514"]);
    value(cases, "tags", "\"not an array\"", &["22P02"]);
    value(cases, "code", "\"far too long\"", &["22001"]);
    value(cases, "title", "null", &["23502"]);
    value(cases, "title", "\"a\\u0000b\"", &["22P05", "22P02", "22021"]);
    value(cases, "doc", "{\"a\\u0000\":1}", &["22P05", "22P02", "22021"]);
    value(cases, "title", "\"\\ud800\"", &["22P02"]);
    value(cases, "title", "\"\\udc00\\ud800\"", &["22P02"]);
    value(cases, "ti\\u0000tle", "1", &["22P05", "22P02", "22021", "42703"]);
    value(cases, "list", "\"not-a-uuid\"", &["22P02"]);
    for (name, id) in [("no uuid", "\"abc\""), ("a number", "12"), ("empty", "\"\"")] {
        let codes: &[&str] = &["22P02", "22023", "22P05"];
        let created = format!(r#"{{"todos":{{"created":[{{"id":{id},"title":"x"}}]}}}}"#);
        cases.push(case(format!("created with an id that is {name}"), push(&created), codes, Hint::Needed));
        let deleted = format!(r#"{{"todos":{{"deleted":[{id}]}}}}"#);
        cases.push(case(format!("deleted with an id that is {name}"), push(&deleted), codes, Hint::Needed));
    }
}

fn push_refusals(cases: &mut Vec<Case>) {
    let good = r#""lists":{"created":[{"id":"10000000-0000-4000-8000-0000000000cc","name":"good"}]}"#;
    let mut refused = |name: &str, changes: &str, codes: &'static [&'static str]| {
        cases.push(case(name, push(&format!("{{{good},{changes}}}")), codes, Hint::Needed));
    };
    refused("no INSERT privilege", r#""readonly":{"created":[{"id":5,"v":"x"}]}"#, &["42501"]);
    refused("no UPDATE privilege", r#""readonly":{"updated":[{"id":1,"v":"x"}]}"#, &["42501"]);
    refused("no DELETE privilege", r#""readonly":{"deleted":[1]}"#, &["42501"]);
    refused("no privilege at all", r#""secrets":{"updated":[{"id":1,"v":"x"}]}"#, &["42501"]);
    refused("a row for somebody else", r#""guarded":{"created":[{"id":7,"owner":2,"v":"x"}]}"#, &["42501"]);
    refused("a row given to somebody else", r#""guarded":{"updated":[{"id":1,"owner":2,"v":"x"}]}"#, &["42501"]);
    refused(
        "the id of somebody else's row",
        r#""guarded":{"created":[{"id":2,"owner":1,"v":"x"}]}"#,
        &["42501", "23505"],
    );
    refused("a check constraint", &format!(r#""todos":{{"created":[{{"id":"{ID}","title":"x","n":0}}]}}"#), &["23514"]);
    let list = "10000000-0000-4000-8000-00000000ffff";
    let orphan = format!(r#""todos":{{"created":[{{"id":"{ID}","title":"x","list":"{list}"}}]}}"#);
    refused("a foreign key to nothing", &orphan, &["23503"]);
    refused("a missing NOT NULL column", &format!(r#""todos":{{"created":[{{"id":"{ID}"}}]}}"#), &["23502"]);
    let pull = "SELECT pull_changes('{todos}', dialect => 'x')";
    cases.push(case("unknown dialect in SQL", Call::App(pull.into()), &["22023"], Hint::Needed));
    cases.push(case("the log is not readable", Call::App("TABLE snapsync.change".into()), &["42501"], Hint::Native));
    cases.push(case(
        "the clock cannot be moved",
        Call::App("SELECT setval('snapsync.clock', 1)".into()),
        &["42501"],
        Hint::Native,
    ));
    cases.push(case(
        "the log cannot be written",
        Call::App("DELETE FROM snapsync.change".into()),
        &["42501"],
        Hint::Native,
    ));
}

fn enable(cases: &mut Vec<Case>) {
    let mut refused = |name: &str, sql: &str, codes: &'static [&'static str]| {
        cases.push(case(name, Call::Admin(sql.into()), codes, Hint::Needed));
    };
    for relation in ["a_view", "a_matview", "a_sequence", "a_foreign", "a_temp", "lists_pkey"] {
        refused(&format!("enable on {relation}"), &format!("SELECT snapsync.enable('{relation}')"), &["42809"]);
    }
    for relation in ["pg_catalog.pg_class", "snapsync.change", "information_schema.sql_features"] {
        let codes = &["42809", "42501", "42P16", "0A000"];
        refused(&format!("enable on {relation}"), &format!("SELECT snapsync.enable('{relation}')"), codes);
    }
    for relation in ["keyless", "nullable_key", "partial_key", "expression_key"] {
        refused(&format!("enable on {relation}"), &format!("SELECT snapsync.enable('{relation}')"), &["42P16"]);
    }
    refused("enable on a partition", "SELECT snapsync.enable('child')", &["42809"]);
    refused("key that is not unique", "SELECT snapsync.enable('two_columns', key => '{a}')", &["42P16"]);
    refused("key that is nullable", "SELECT snapsync.enable('nullable_key', key => '{v}')", &["42P16"]);
    refused("key column that is not there", "SELECT snapsync.enable('plain', key => '{nope}')", &["42703"]);
    refused("key with a null", "SELECT snapsync.enable('plain', key => ARRAY[NULL::text])", &["22004"]);
    refused("column that is not there", "SELECT snapsync.enable('plain', columns => '{id,nope}')", &["42703"]);
    refused("excluded column that is not there", "SELECT snapsync.enable('plain', exclude => '{nope}')", &["42703"]);
    refused("the key excluded", "SELECT snapsync.enable('plain', exclude => '{id}')", &["42P16", "22023"]);
    refused("unknown conflict policy", "SELECT snapsync.enable('plain', conflict => 'hope')", &["22023"]);
    refused("a name that is taken", "SELECT snapsync.enable('plain', name => 'todos')", &["42710", "22023"]);
    refused("an empty name", "SELECT snapsync.enable('plain', name => '')", &["22023"]);
    refused("table null", "SELECT snapsync.enable(NULL)", &["22004"]);
    refused("no such oid", "SELECT snapsync.enable(4000000000::oid::regclass)", &["42P01"]);
    refused("disable of a table that is not enabled", "SELECT snapsync.disable('plain')", &["42P01", "55000"]);
    refused("reset of a table that is not enabled", "SELECT snapsync.reset('plain')", &["42P01", "55000"]);
    let unknown = "SELECT snapsync.enable('no_such_table')";
    cases.push(case("enable on a table that is not there", Call::Admin(unknown.into()), &["42P01"], Hint::Native));
    for function in ["enable", "disable", "reset"] {
        let sql = format!("SELECT snapsync.{function}('lists')");
        cases.push(case(format!("{function} on somebody else's table"), Call::App(sql), &["42501"], Hint::Native));
    }
    let by_hand = "CREATE TRIGGER t AFTER INSERT ON plain FOR EACH ROW EXECUTE FUNCTION snapsync.track(); INSERT INTO plain VALUES (1)";
    cases.push(case(
        "the trigger function made by hand",
        Call::Admin(by_hand.into()),
        &["39P01", "55000", "22023", "0A000"],
        Hint::Needed,
    ));
    let call = "SELECT snapsync.track()";
    cases.push(case("the trigger function called", Call::Admin(call.into()), &["0A000", "39P01"], Hint::Native));
}
