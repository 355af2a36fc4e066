//! The rules, one by one.

use super::*;
use crate::values::wire_id;

impl<'a> RawCollection<'a> {
    /// For a table whose `id` in records is the wire id (or a column of a key of several, where the key has one named so), and
    /// ids whose text the client does not vary.
    pub(super) fn by_key<'p>(&'p self, key_columns: &[&str], readonly: &[&str]) -> Result<Plan<'p>, BatchError> {
        let among_several = key_columns.len() > 1 && key_columns.contains(&"id");
        let id_field = if among_several { IdField::Column } else { IdField::WireId };
        self.resolve(&TableFacts { key_columns, readonly, id_field, ..TableFacts::default() })
    }

    fn is_empty(&self) -> bool {
        [Array::Created, Array::Updated, Array::Deleted].iter().all(|array| self.len(*array) == 0)
    }
}

impl<'a> Plan<'a> {
    pub(super) fn render(&self, group: &Group<'a>) -> String {
        self.render_rows(group, &group.rows)
    }

    /// The keys of all records.
    pub(super) fn render_keys(&self) -> String {
        self.regroup(|_, _| false).first().map_or("[]".into(), |all| self.render(all))
    }

    /// The keys of all deletions.
    pub(super) fn render_deletions(&self) -> String {
        self.render_deletions_of(&(0..small(self.deletions.len())).collect::<Vec<_>>())
    }

    /// The names of all columns that the records carry, in order.
    pub(super) fn columns(&self) -> Vec<&'a str> {
        let columns: std::collections::BTreeSet<&str> = self.groups.iter().flat_map(|g| g.columns.clone()).collect();
        columns.into_iter().collect()
    }
}

/// Parses a payload of one collection.
pub(super) fn one(text: &str) -> RawCollection<'_> {
    let mut collections = parse(text, || ()).unwrap();
    assert_eq!(collections.len(), 1);
    collections.pop().unwrap()
}

pub(super) fn refused(text: &str) -> String {
    parse(text, || ()).expect_err(text).to_string()
}

/// Wraps created records.
pub(super) fn created(records: &str) -> String {
    format!(r#"{{"t":{{"created":{records}}}}}"#)
}

/// The message with which a table refuses the payload.
pub(super) fn unresolved(text: &str, key: &[&str]) -> String {
    one(text).by_key(key, &[]).expect_err(text).to_string()
}

pub(super) fn ids<'p>(plan: &'p Plan<'_>) -> Vec<&'p str> {
    plan.records.iter().map(|record| &*record.id).collect()
}

pub(super) fn deleted_ids<'p>(plan: &'p Plan<'_>) -> Vec<&'p str> {
    plan.deletions.iter().map(|deletion| &*deletion.id).collect()
}

#[test]
fn a_watermelondb_batch() {
    let text = r#"{
        "todos": {
            "created": [{"id":"a1","_status":"created","_changed":"","title":"Milk","done":false}],
            "updated": [{"id":"b2","_status":"updated","_changed":"title,done","title":"Bread","done":true}],
            "deleted": ["c3"]
        },
        "projects": {"created": [], "updated": [], "deleted": []}
    }"#;
    let collections = parse(text, || ()).unwrap();
    assert_eq!(collections.iter().map(RawCollection::name).collect::<Vec<_>>(), ["todos", "projects"]);
    assert!(collections[1].is_empty());
    let todos = &collections[0];
    assert!(!todos.is_empty());
    assert_eq!(Array::ALL.map(|array| todos.len(array)), [1, 1, 1]);
    assert_eq!(todos.path(), "changes.todos");

    let plan = todos.by_key(&["id"], &[]).unwrap();
    assert_eq!(deleted_ids(&plan), ["c3"]);
    assert_eq!(ids(&plan), ["a1", "b2"]);
    assert_eq!(plan.records.iter().map(|r| r.created).collect::<Vec<_>>(), [true, false]);
    assert_eq!(plan.changed(&plan.records[0]).unwrap(), &[] as &[&str]);
    assert_eq!(plan.changed(&plan.records[1]).unwrap(), ["title", "done"]);
    assert_eq!(plan.columns(), ["done", "title"]);
    assert_eq!(plan.groups.len(), 1);
    assert_eq!(plan.groups[0].columns, ["done", "title"]);
    assert_eq!(
        plan.render(&plan.groups[0]),
        r#"[{"n":0,"k0":"a1","c0":false,"c1":"Milk"},{"n":1,"k0":"b2","c0":true,"c1":"Bread"}]"#
    );
    assert_eq!(plan.render_rows(&plan.groups[0], &[1]), r#"[{"n":1,"k0":"b2","c0":true,"c1":"Bread"}]"#);
    assert_eq!(plan.render_rows(&plan.groups[0], &[]), "[]");
    assert_eq!(plan.render_keys(), r#"[{"n":0,"k0":"a1"},{"n":1,"k0":"b2"}]"#);
    assert_eq!(plan.render_deletions(), r#"[{"n":0,"k0":"c3"}]"#);
    assert_eq!(plan.path(plan.records[1].source), "changes.todos.updated[0]");
    assert_eq!(plan.field_path(plan.records[1].source, "done"), "changes.todos.updated[0].done");
    assert_eq!(plan.raw(&plan.records[1], "title"), Some("\"Bread\""));
    assert_eq!(plan.raw(&plan.records[1], "_changed"), None);
    assert_eq!(plan.raw(&plan.records[1], "nope"), None);
    assert_eq!(plan.object(&plan.records[0]), r#"{"done":false,"title":"Milk"}"#);
}

#[test]
fn a_drift_batch() {
    // Rows in `deleted`, the same row also in another array, and created rows that were sent before.
    let text = r#"{"public.task": {
        "created": [{"id":"a","name":"x"}, {"id":"b","name":"y"}],
        "updated": [{"id":"a","name":"z"}],
        "deleted": [{"id":"b","name":"y","instance_id":"i","deleted_at":"2026-11-21T07:50:00"}]
    }}"#;
    let raw = one(text);
    assert_eq!(raw.path(), "changes[\"public.task\"]");
    let plan = raw.by_key(&["id"], &[]).unwrap();
    assert_eq!(deleted_ids(&plan), ["b"]);
    assert_eq!(ids(&plan), ["a"]);
    assert!(!plan.records[0].created);
    assert_eq!(plan.path(plan.records[0].source), "changes[\"public.task\"].updated[0]");
    assert_eq!(plan.render(&plan.groups[0]), r#"[{"n":0,"k0":"a","c0":"z"}]"#);
    assert_eq!(plan.columns(), ["name"], "what a deleted row carries does not matter");
}

#[test]
fn a_row_that_is_marked_is_a_record() {
    let text = r#"{"public.task": {
        "created": [{"id":"a","name":"x","deleted_at":"2026-01-01"}, {"id":"b","name":"y","deleted_at":null}],
        "updated": [],
        "deleted": [{"id":"a","name":"z","deleted_at":"2026-01-02"}, {"id":"b","name":"y","deleted_at":null}, "c", {"id":"d","name":"w"},
                    {"id":"e","name":"v","deleted_at":"2026-01-03"}]
    }}"#;
    let raw = one(text);
    let table = TableFacts { key_columns: &["id"], tombstone: Some("deleted_at"), ..TableFacts::default() };
    let plan = raw.resolve(&table).unwrap();
    assert_eq!(deleted_ids(&plan), ["b", "c", "d"]);
    assert_eq!(ids(&plan), ["a", "e"]);
    assert!(plan.records.iter().all(|record| !record.created));
    assert_eq!(plan.object(&plan.records[0]), r#"{"deleted_at":"2026-01-02","name":"z"}"#);
    assert_eq!(plan.path(plan.records[1].source), "changes[\"public.task\"].deleted[4]");
}

#[test]
fn values_survive_digit_by_digit() {
    let values = [
        "12345678901234567890.12345",
        "1.10",
        "-0.0",
        "1e400",
        "1E+999999",
        "null",
        "true",
        r#""a\"\\\/\b\u00e4\ud83d\ude00""#,
        "{ \"a\" : [ 1 , 2.50 ] }",
        "\"\u{7f}\u{2028}\"",
    ];
    let fields: Vec<String> = values.iter().enumerate().map(|(i, v)| format!("\"f{i}\" : {v} ")).collect();
    let text = created(&format!("[ {{ \"id\" : 1 , {} }} ]", fields.join(",")));
    let raw = one(&text);
    let plan = raw.by_key(&["id"], &[]).unwrap();
    for (i, value) in values.iter().enumerate() {
        assert_eq!(plan.raw(&plan.records[0], &format!("f{i}")), Some(*value));
        assert!(plan.render(&plan.groups[0]).contains(value));
    }
}

#[test]
fn missing_and_null_arrays_are_empty() {
    assert!(parse("{}", || ()).unwrap().is_empty());
    for text in [r#"{"t":{}}"#, r#"{"t":{"created":null,"updated":[],"deleted":null}}"#] {
        let raw = one(text);
        assert!(raw.is_empty());
        let plan = raw.by_key(&["id"], &[]).unwrap();
        assert!(plan.records.is_empty() && plan.deletions.is_empty() && plan.groups.is_empty());
        assert_eq!((plan.render_keys(), plan.render_deletions()), ("[]".into(), "[]".into()));
    }
}

#[test]
fn wrong_shapes_are_named_with_their_path() {
    for (text, message) in [
        ("null", "changes: found null, expected an object"),
        ("[]", "changes: found an array, expected an object"),
        ("\"x\"", "changes: found a string, expected an object"),
        ("\"\\u0041\"", "changes: found a string, expected an object"),
        ("17", "changes: found a number, expected an object"),
        ("-1.5e3", "changes: found a number, expected an object"),
        ("-1", "changes: found a number, expected an object"),
        ("true", "changes: found a boolean, expected an object"),
        (r#"{"t":[]}"#, "changes.t: found an array, expected an object"),
        (r#"{"t":null}"#, "changes.t: found null, expected an object"),
        (r#"{"t":{"created":{}}}"#, "changes.t.created: found an object, expected an array"),
        (r#"{"t":{"updated":"a"}}"#, "changes.t.updated: found a string, expected an array"),
        (r#"{"t":{"deleted":false}}"#, "changes.t.deleted: found a boolean, expected an array"),
        (r#"{"t":{"created":[{"id":1},"a"]}}"#, "changes.t.created[1]: found a string, expected an object"),
        (r#"{"t":{"updated":[null]}}"#, "changes.t.updated[0]: found null, expected an object"),
        (r#"{"t":{"updated":[[]]}}"#, "changes.t.updated[0]: found an array, expected an object"),
        (r#"{"t":{"deleted":["a",null]}}"#, "changes.t.deleted[1]: found null, expected an id or an object with an id"),
        (
            r#"{"t":{"deleted":[true]}}"#,
            "changes.t.deleted[0]: found a boolean, expected an id or an object with an id",
        ),
        (
            r#"{"t":{"deleted":[["a"]]}}"#,
            "changes.t.deleted[0]: found an array, expected an id or an object with an id",
        ),
        (r#"{"t":{"create":[]}}"#, "changes.t: unknown key \"create\""),
        (r#"{"t":{"Created":[]}}"#, "changes.t: unknown key \"Created\""),
        (r#"{"t":{},"t":{}}"#, "changes.t stands there twice"),
        (r#"{"t":{},"\u0074":{}}"#, "changes.t stands there twice"),
        (r#"{"t":{"created":[],"created":[]}}"#, "changes.t.created stands there twice"),
    ] {
        assert_eq!(refused(text), message);
        let error = parse(text, || ()).unwrap_err();
        assert_eq!(error.sqlstate(), "22023");
        assert!(!error.hint().is_empty());
    }
}

#[test]
fn syntax_errors_are_named_with_their_path() {
    for (text, path) in [
        ("", "changes:"),
        ("{", "changes:"),
        ("{} {}", "changes:"),
        (r#"{"t":{"created":[{"id":1},}]}}"#, "changes.t.created[1]:"),
        (r#"{"t":{"created":[{"id":01}]}}"#, "changes.t.created[0]:"),
        (r#"{"t":{"created":[{"id":1}],"#, "changes.t:"),
        (r#"{"t":{"deleted":["\x"]}}"#, "changes.t.deleted[0]:"),
        ("{\"t\":{\"deleted\":[\"\n\"]}}", "changes.t.deleted[0]:"),
        (r#"{"t":{"created":[{"\ud800":1}]}}"#, "changes.t.created[0]:"),
        (r#"{"t":{"deleted":["a",{"\ud800":1}]}}"#, "changes.t.deleted[1]:"),
        (r#"{"\udc00":{}}"#, "changes:"),
        (r#"{"t":{"created":1e999}}"#, "changes.t:"),
    ] {
        let error = parse(text, || ()).unwrap_err();
        assert_eq!(error.sqlstate(), "22P02", "{text}");
        assert!(error.to_string().starts_with(&format!("{path} invalid JSON: ")), "{text}: {error}");
        assert!(!error.to_string().contains("refused"), "{text}: {error}");
    }
}

#[test]
fn text_that_cannot_be_stored() {
    for (value, message) in [
        (r#""\u0000""#, "\\u0000 cannot be stored in text"),
        (r#""a\\\u0000""#, "\\u0000 cannot be stored in text"),
        (r#"{"a":["\u0000"]}"#, "\\u0000 cannot be stored in text"),
        (r#"{"\u0000":1}"#, "\\u0000 cannot be stored in text"),
        (r#""\ud83d""#, "\\ud83d is half of a surrogate pair, which is no character"),
        (r#""\uD83Dx""#, "\\ud83d is half of a surrogate pair, which is no character"),
        (r#""\ud83d\n""#, "\\ud83d is half of a surrogate pair, which is no character"),
        (r#""\ud83d\u0041""#, "\\ud83d is half of a surrogate pair, which is no character"),
        (r#""\ud83d\ud83d\ude00""#, "\\ud83d is half of a surrogate pair, which is no character"),
        (r#""\ude00""#, "\\ude00 is half of a surrogate pair, which is no character"),
        (r#"["\ud83d\ude00\ude00"]"#, "\\ude00 is half of a surrogate pair, which is no character"),
    ] {
        let record = format!(r#"{{"id":1,"no te":{value}}}"#);
        assert_eq!(refused(&created(&format!("[{record}]"))), format!("changes.t.created[0][\"no te\"]: {message}"));
        let text = format!(r#"{{"t":{{"deleted":["a",{record}]}}}}"#);
        assert_eq!(refused(&text), format!("changes.t.deleted[1][\"no te\"]: {message}"));
    }
    for value in [r#""\\u0000""#, r#""\\\\ud83d""#, r#""\ud83d\ude00""#, r#""\u0001\uffff""#, r#"{"\\":"\"\\u0000"}"#] {
        assert!(parse(&created(&format!(r#"[{{"id":1,"x":{value}}}]"#)), || ()).is_ok(), "{value}");
    }
    assert_eq!(refused(r#"{"t":{"deleted":["\u0000"]}}"#), "changes.t.deleted[0]: \\u0000 cannot be stored in text");
    assert_eq!(refused(&created(r#"[{"a\u0000":1}]"#)), "changes.t.created[0]: \\u0000 cannot be stored in text");
    assert_eq!(refused(r#"{"\u0000":{}}"#), "changes: \\u0000 cannot be stored in text");
    assert_eq!(parse(&created(r#"[{"a":"\u0000"}]"#), || ()).unwrap_err().sqlstate(), "22P05");
    assert_eq!(parse(&created(r#"[{"a":"\udddd"}]"#), || ()).unwrap_err().sqlstate(), "22P02");
}

#[test]
fn nesting_has_a_limit() {
    let nested = |open: &str, close: &str, depth: usize| {
        created(&format!(r#"[{{"id":1,"deep":{}1{}}}]"#, open.repeat(depth), close.repeat(depth)))
    };
    for depth in [1, 100, 128, MAX_DEPTH] {
        let text = nested("[", "]", depth);
        assert_eq!(one(&text).by_key(&["id"], &[]).unwrap().records.len(), 1);
        assert!(parse(&nested("{\"a\":", "}", depth), || ()).is_ok());
    }
    for depth in [MAX_DEPTH + 1, 1000, 2_000_000] {
        let message = "changes.t.created[0].deep: nested deeper than 512 levels";
        assert_eq!(refused(&nested("[", "]", depth)), message);
        assert_eq!(refused(&nested("{\"a\":", "}", depth)), message);
    }
    assert_eq!(parse(&nested("[", "]", 1000), || ()).unwrap_err().sqlstate(), "54000");
    // Brackets in strings are no nesting, and neither are siblings.
    assert!(parse(&created(&format!(r#"[{{"id":1,"a":["\"{}"]}}]"#, "[".repeat(1000))), || ()).is_ok());
    assert!(parse(&created(&format!(r#"[{{"id":1,"a":[{}1]}}]"#, "[],".repeat(1000))), || ()).is_ok());
    // Anywhere else it is the shape that is wrong.
    for text in ["[".repeat(1_000_000), format!(r#"{{"t":{}"#, "[".repeat(1_000_000))] {
        assert!(refused(&text).contains("found an array"));
    }
    assert!(refused(&"{\"a\":".repeat(1_000_000)).contains("unknown key \"a\""));
    assert!(refused(&format!(r#"{{"t":{{"deleted":[{}"#, "[".repeat(1_000_000))).contains("invalid JSON"));
}

#[test]
fn names_are_data() {
    let text = r#"{"__proto__":{"created":[{"id":"constructor","__proto__":1,"":2,"n":3,"k0":4,"c0":5,"\"":6}]}}"#;
    let raw = one(text);
    assert_eq!(raw.name(), "__proto__");
    let plan = raw.by_key(&["id"], &[]).unwrap();
    assert_eq!(plan.groups[0].columns, ["", "\"", "__proto__", "c0", "k0", "n"]);
    assert_eq!(
        plan.render(&plan.groups[0]),
        r#"[{"n":0,"k0":"constructor","c0":2,"c1":6,"c2":1,"c3":5,"c4":4,"c5":3}]"#
    );
    assert_eq!(plan.object(&plan.records[0]), r#"{"":2,"\"":6,"__proto__":1,"c0":5,"k0":4,"n":3}"#);
}

#[test]
fn the_last_of_equal_fields_counts() {
    let text = created(r#"[{"id":"x","a":1,"b":2,"a":3,"id":"y","\u0061":4}]"#);
    let raw = one(&text);
    let plan = raw.by_key(&["id"], &[]).unwrap();
    assert_eq!(ids(&plan), ["y"]);
    assert_eq!(plan.render(&plan.groups[0]), r#"[{"n":0,"k0":"y","c0":4,"c1":2}]"#);
}

#[test]
fn ids_are_texts_or_numbers() {
    let text = created(
        r#"[{"id":"a"},{"id":17},{"id":-5},{"id":-0},{"id":1.50},{"id":"ä\u00e4\n"},{"id":12345678901234567890}]"#,
    );
    let raw = one(&text);
    let plan = raw.by_key(&["id"], &[]).unwrap();
    assert_eq!(ids(&plan), ["a", "17", "-5", "0", "1.50", "ää\n", "12345678901234567890"]);
    assert!(plan.render_keys().contains(r#"{"n":5,"k0":"ää\n"}"#));
    for (id, problem) in [
        ("null", ".id: found null, expected an id: a text or a number"),
        ("true", ".id: found a boolean, expected an id: a text or a number"),
        ("{}", ".id: found an object, expected an id: a text or a number"),
        ("[1]", ".id: found an array, expected an id: a text or a number"),
        ("\"\"", ".id: an id must not be empty"),
        ("1e3", ".id: the number 1e3 has an exponent; send a large id as a text"),
        ("1E+21", ".id: the number 1E+21 has an exponent; send a large id as a text"),
    ] {
        let record = format!(r#"[{{"id":"ok"}},{{"id":{id}}}]"#);
        assert_eq!(unresolved(&created(&record), &["id"]), format!("changes.t.created[1]{problem}"));
        assert!(unresolved(&created(&record), &["a", "b"]).starts_with("changes.t.created[0].id: id \"ok\" has 1 part"));
    }
    let long = "1".repeat(8_001);
    let problem = |batch: String, key| unresolved(&batch, &[key]).replace(&long, "");
    let expected = "an id of 8001 bytes; 8000 at most";
    for (record, key) in
        [(format!(r#""id":"{long}""#), "id"), (format!(r#""id":{long}"#), "id"), (format!(r#""k":{long}"#), "k")]
    {
        assert_eq!(
            problem(created(&format!("[{{{record}}}]")), key),
            format!("changes.t.created[0].{key}: {expected}")
        );
    }
    assert_eq!(unresolved(&created("[{}]"), &["id"]), "changes.t.created[0]: \"id\" is missing");
    assert_eq!(unresolved(&created(r#"[{"ID":1}]"#), &["id"]), "changes.t.created[0]: \"id\" is missing");
    assert_eq!(unresolved(r#"{"t":{"deleted":[""]}}"#, &["id"]), "changes.t.deleted[0]: an id must not be empty");
    assert_eq!(unresolved(r#"{"t":{"deleted":["a",{"x":1}]}}"#, &["id"]), "changes.t.deleted[1]: \"id\" is missing");
}

#[test]
fn a_key_that_is_not_called_id() {
    let text = r#"{"t":{
        "created":[{"uuid":"a","x":1},{"id":"b","x":2},{"id":"c","uuid":"c","x":3},{"id":"d","uuid":null},{"uuid":7}],
        "deleted":["e",{"uuid":"f"},{"id":"g"}]}}"#;
    let raw = one(text);
    let plan = raw.by_key(&["uuid"], &[]).unwrap();
    assert_eq!(ids(&plan), ["a", "b", "c", "d", "7"]);
    assert_eq!(deleted_ids(&plan), ["e", "f", "g"]);
    assert_eq!(plan.columns(), ["x"]);

    let key = ["uuid"];
    assert_eq!(unresolved(&created("[{}]"), &key), "changes.t.created[0]: \"id\" (or \"uuid\") is missing");
    assert_eq!(
        unresolved(&created(r#"[{"uuid":null}]"#), &key),
        "changes.t.created[0].uuid: found null, expected an id: a text or a number"
    );
    assert_eq!(unresolved(&created(r#"[{"uuid":""}]"#), &key), "changes.t.created[0].uuid: an id must not be empty");
    assert_eq!(
        unresolved(&created(r#"[{"id":"a","uuid":"b"}]"#), &key),
        "changes.t.created[0]: id \"a\" does not agree with the key column \"uuid\", which is \"b\""
    );
}

#[test]
fn an_id_that_is_a_column_beside_the_key() {
    let text = r#"{"t":{"created":[{"id":5,"uuid":"a"}],"deleted":["b",{"id":6,"uuid":"c"}]}}"#;
    let raw = one(text);
    let table = TableFacts { key_columns: &["uuid"], id_field: IdField::Column, ..TableFacts::default() };
    let plan = raw.resolve(&table).unwrap();
    assert_eq!(ids(&plan), ["a"]);
    assert_eq!(deleted_ids(&plan), ["b", "c"]);
    assert_eq!(plan.render(&plan.groups[0]), r#"[{"n":0,"k0":"a","c0":5}]"#);
    let text = created(r#"[{"id":5}]"#);
    assert_eq!(one(&text).resolve(&table).unwrap_err().to_string(), "changes.t.created[0]: \"uuid\" is missing");
}

#[test]
fn keys_of_several_columns() {
    let text = r#"{"t":{
        "created":[{"org":"a b","no":7,"x":1},{"id":"o.8","x":1},{"id":"o.9","org":"o","no":9,"x":1},{"org":"","no":""}],
        "deleted":["a%2Eb.1",{"org":"z","no":2}]}}"#;
    let raw = one(text);
    let plan = raw.by_key(&["org", "no"], &[]).unwrap();
    assert_eq!(ids(&plan), ["a%20b.7", "o.8", "o.9", "."]);
    assert_eq!(deleted_ids(&plan), ["a%2Eb.1", "z.2"]);
    assert_eq!(plan.key_parts("a%2Eb.1"), ["a.b", "1"]);
    assert_eq!(plan.render_deletions(), r#"[{"n":0,"k0":"a.b","k1":"1"},{"n":1,"k0":"z","k1":"2"}]"#);
    assert!(plan.render(&plan.groups[0]).starts_with(r#"[{"n":0,"k0":"a b","k1":"7","c0":1},"#));

    let key = ["org", "no"];
    assert_eq!(unresolved(&created(r#"[{"org":"a"}]"#), &key), "changes.t.created[0]: \"id\" (or \"no\") is missing");
    assert!(unresolved(&created(r#"[{"id":"a.1.2"}]"#), &key).contains("has 3 part(s)"));
    assert!(
        unresolved(r#"{"t":{"deleted":["a%2e.1"]}}"#, &key).starts_with("changes.t.deleted[0]: id \"a%2e.1\" contains")
    );
    assert!(unresolved(&created(r#"[{"id":"a.1","no":2}]"#), &key)
        .ends_with("id \"a.1\" does not agree with the key column \"no\", which is \"2\""));

    // `id` as a column of the key, and as the wire id.
    let text = created(r#"[{"org":"a","id":7}]"#);
    assert_eq!(ids(&one(&text).by_key(&["org", "id"], &[]).unwrap()), ["a.7"]);
    let text = created(r#"[{"org":"a","id":"a.7"}]"#);
    let table = TableFacts { key_columns: &["org", "id"], ..TableFacts::default() };
    assert_eq!(ids(&one(&text).resolve(&table).unwrap()), ["a.7"]);
}

#[test]
fn ids_are_made_canonical() {
    let canonical = |part: usize, text: &str| match part {
        0 => wire_id::canonical_uuid(text),
        _ => wire_id::canonical_integer(text),
    };
    let table = TableFacts { key_columns: &["id"], canonical: Some(&canonical), ..TableFacts::default() };
    let text = r#"{"t":{
        "created":[{"id":"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11","x":1}, {"id":"none"}],
        "deleted":["a0eebc999c0b4ef8bb6d6bb9bd380a11"]}}"#;
    let raw = one(text);
    let plan = raw.resolve(&table).unwrap();
    assert_eq!(deleted_ids(&plan), ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]);
    assert_eq!(ids(&plan), ["none"]);

    let table = TableFacts { key_columns: &["a", "b"], canonical: Some(&canonical), ..TableFacts::default() };
    let text = created(r#"[{"a":"x","b":"07"},{"id":"x.07"},{"id":"x.7","b":"007"}]"#);
    assert_eq!(ids(&one(&text).resolve(&table).unwrap()), ["x.7"]);
}

#[test]
fn spellings_are_remembered() {
    let canonical = |part: usize, text: &str| match part {
        0 => wire_id::canonical_uuid(text),
        _ => wire_id::canonical_numeric(text, Some(1)),
    };
    let doubtful = |_: usize, text: &str| text == "0.5";
    let facts = TableFacts { canonical: Some(&canonical), doubtful: Some(&doubtful), ..TableFacts::default() };
    let sent = |text: &str, table: &TableFacts| -> Vec<(Option<u32>, String)> {
        let raw = one(text);
        raw.resolve(table).unwrap().spellings.iter().map(|s| (s.record, s.sent.to_string())).collect()
    };
    let plain = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
    let text = format!(
        r#"{{"t":{{"created":[{{"id":"none"}},{{"id":"{}"}},{{"id":"{plain}"}}],"deleted":["{{{}}}"]}}}}"#,
        plain.to_uppercase(),
        plain.replace('a', "b")
    );
    let table = TableFacts { key_columns: &["id"], ..facts };
    assert_eq!(
        sent(&text, &table),
        [(None, format!("{{{}}}", plain.replace('a', "b"))), (Some(1), plain.to_uppercase())]
    );
    // To who sends a number it is the same one.
    let table = TableFacts { key_columns: &["a", "b"], ..facts };
    let text =
        created(r#"[{"a":"x","b":"1.50"},{"a":"x","b":2.50},{"a":"x","b":2.55},{"id":"x.0%2E5"},{"a":"x","b":0.5}]"#);
    let expected = [(0, "x.1%2E50"), (2, "x.2%2E55"), (3, "x.0%2E5")].map(|(at, id)| (Some(at), id.to_string()));
    assert_eq!(sent(&text, &table), expected);
}

#[test]
fn the_same_id_twice_is_merged() {
    let text = r#"{"t":{
        "updated":[{"id":"a","_changed":"x","x":2},{"id":"d","x":0},{"id":"a","_changed":"y","y":3}],
        "created":[{"id":"c","x":9},{"id":"a","_changed":"","x":1,"z":[1]},{"id":"b","x":5},{"id":"b","y":6},{"id":1},{"id":"1"}],
        "deleted":["d","e","d",{"id":"e"}]}}"#;
    let raw = one(text);
    let plan = raw.by_key(&["id"], &[]).unwrap();
    assert_eq!(deleted_ids(&plan), ["d", "e"]);
    assert_eq!(ids(&plan), ["c", "a", "b", "1"]);
    let find = |id: &str| plan.records.iter().find(|r| r.id == id).unwrap();
    assert_eq!(plan.object(find("a")), r#"{"x":2,"y":3,"z":[1]}"#);
    assert!(!find("a").created);
    assert_eq!(plan.changed(find("a")).unwrap(), ["x", "y"]);
    assert_eq!(plan.path(find("a").source), "changes.t.updated[2]");
    assert_eq!(plan.object(find("b")), r#"{"x":5,"y":6}"#);
    assert!(find("b").created);
    assert_eq!(plan.changed(find("b")), None);
    assert_eq!(plan.object(find("1")), "{}");
    assert_eq!(plan.raw(find("a"), "y"), Some("3"));
    let groups: Vec<_> = plan.groups.iter().map(|g| (g.columns.join(","), g.rows.clone())).collect();
    assert_eq!(
        groups,
        [("x".into(), vec![0]), ("x,y,z".into(), vec![1]), ("x,y".into(), vec![2]), (String::new(), vec![3])]
    );
    assert_eq!(plan.render(&plan.groups[3]), r#"[{"n":3,"k0":"1"}]"#);
}

#[test]
fn what_is_not_known_to_be_changed_stays_so() {
    for (first, second) in [("\"x\"", "null"), ("null", "\"x\"")] {
        let text = created(&format!(r#"[{{"id":1,"_changed":{first}}},{{"id":1,"_changed":{second}}}]"#));
        let raw = one(&text);
        let plan = raw.by_key(&["id"], &[]).unwrap();
        assert_eq!(plan.changed(&plan.records[0]), None);
    }
}

#[test]
fn changed_is_a_list_of_names() {
    let names = |value: &str| {
        let text = created(&format!(r#"[{{"id":1,"_changed":{value},"_status":{{}}}}]"#));
        let raw = one(&text);
        let plan = raw.by_key(&["id"], &[])?;
        let names = plan.changed(&plan.records[0]).map(|names| names.join("|"));
        Ok::<_, BatchError>(names)
    };
    assert_eq!(names("null"), Ok(None));
    assert_eq!(names("\"\""), Ok(Some(String::new())));
    assert_eq!(names("\"a,b_c, d ,,\""), Ok(Some("a|b_c|d".into())));
    assert_eq!(names(r#""\u0061,b""#), Ok(Some("a|b".into())));
    assert_eq!(names(r#"["a","b,c"]"#), Ok(Some("a|b,c".into())));
    for (value, found) in [("1", "a number"), ("true", "a boolean"), ("{}", "an object"), ("[1]", "an array")] {
        let message =
            format!("changes.t.created[0]._changed: found {found}, expected names of columns with commas between them");
        assert_eq!(names(value).unwrap_err().to_string(), message);
    }
}

#[test]
fn readonly_columns_are_taken_off() {
    let text = created(r#"[{"id":"a","x":1,"total":2,"created_at":3},{"id":"b","x":1}]"#);
    let raw = one(&text);
    let plan = raw.by_key(&["id"], &["total", "created_at", "id"]).unwrap();
    assert_eq!(ids(&plan), ["a", "b"]);
    assert_eq!(plan.groups.len(), 1);
    assert_eq!(plan.columns(), ["x"]);
}

#[test]
fn groups_do_not_depend_on_the_order_of_fields() {
    let text = created(r#"[{"id":1,"a":1,"b":2},{"b":4,"a":3,"id":2},{"a":5,"id":3},{"a":6,"x":null,"id":4,"b":7}]"#);
    let raw = one(&text);
    let plan = raw.by_key(&["id"], &["x"]).unwrap();
    assert_eq!(plan.groups.len(), 2);
    assert_eq!(plan.groups[0].rows, [0, 1, 3]);
    assert_eq!(
        plan.render(&plan.groups[0]),
        r#"[{"n":0,"k0":"1","c0":1,"c1":2},{"n":1,"k0":"2","c0":3,"c1":4},{"n":3,"k0":"4","c0":6,"c1":7}]"#
    );
    let groups = plan.regroup(|record, column| record.id != "2" && column == "b");
    assert_eq!(groups.len(), 2);
    assert_eq!((&groups[0].columns[..], &groups[0].rows[..]), (&["b"][..], &[0, 3][..]));
    assert_eq!((&groups[1].columns[..], &groups[1].rows[..]), (&[][..], &[1, 2][..]));
    assert_eq!(plan.render(&groups[0]), r#"[{"n":0,"k0":"1","c0":2},{"n":3,"k0":"4","c0":7}]"#);
}

#[test]
fn messages_repeat_little() {
    let long = "ä".repeat(1_000_000);
    for text in [
        long.clone(),
        format!("\"{long}\""),
        format!("{{\"{long}\":1}}"),
        format!("{{\"t\":{{\"{long}\":1}}}}"),
        format!("{{\"{long}\":{{\"{long}\":1}}}}"),
        created(&format!("[{{\"{long}\":\"\\u0000\"}}]")),
        created(&format!("[\"{long}\"]")),
        created(&format!("[{{\"id\":\"{long}\",\"id\":\"{long}")),
    ] {
        assert!(refused(&text).chars().count() < 250, "{}", refused(&text));
    }
    for text in [created(&format!("[{{\"id\":\"{long}\"}}]")), format!("{{\"{long}\":{{\"deleted\":[\"{long}\"]}}}}")] {
        assert!(unresolved(&text, &["a", "b"]).chars().count() < 250);
    }
    let text = created(&format!("[{{\"id\":\"{long}\",\"k\":\"{long}x\"}}]"));
    assert!(unresolved(&text, &["k"]).chars().count() < 250);
    let text = created(&format!("[{{\"id\":{}e1}}]", "1".repeat(1_000_000)));
    assert!(unresolved(&text, &["id"]).chars().count() < 250);
}
