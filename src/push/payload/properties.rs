//! Random batches against an oracle, damaged ones, and hostile ones.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{json, Map, Value};

use super::inspect::inspect;
use super::tests::{created, deleted_ids, one};
use super::*;

/// Hostile batches of a given size, each the worst case of something.
fn hostile(n: usize) -> Vec<String> {
    let list = |item: &dyn Fn(usize) -> String| (0..n).map(item).collect::<Vec<_>>().join(",");
    vec![
        // as many rows as fit; one id again and again; a shape of its own for each record
        created(&format!("[{}]", list(&|i| format!("{{\"id\":{i},\"a\":1}}")))),
        created(&format!("[{}]", list(&|_| "{\"id\":1,\"a\":1}".into()))),
        created(&format!("[{}]", list(&|i| format!("{{\"id\":{i},\"c{i}\":1}}")))),
        // the same with one id: the merged record grows with each
        created(&format!("[{}]", list(&|i| format!("{{\"id\":1,\"_changed\":\"c{i}\",\"c{i}\":1}}")))),
        // one record with many fields, and then many for the same row
        created(&format!("[{{\"id\":1,{}}},{}]", list(&|i| format!("\"c{i}\":1")), list(&|_| "{\"id\":1}".into()))),
        created(&format!("[{{\"id\":1,{}}}]", list(&|_| "\"c\":1".into()))),
        created(&format!("[{{\"id\":1,\"_changed\":[{}]}}]", list(&|i| format!("\"c{i}\"")))),
        created(&format!("[{{\"id\":1,\"a\":\"{}\"}}]", "\\\\u0000".repeat(n))),
        format!("{{\"t\":{{\"deleted\":[{}]}}}}", list(&|i| format!("{{\"id\":{i},\"c{i}\":1}}"))),
        format!("{{{}}}", list(&|i| format!("\"t{i}\":{{\"created\":[{{\"id\":1}}]}}"))),
    ]
}

fn decode_all(text: &str) -> usize {
    let mut size = 0;
    for collection in &parse(text, || ()).unwrap() {
        let plan = collection.by_key(&["id"], &["r"]).unwrap();
        size += plan.groups.iter().map(|group| plan.render(group).len()).sum::<usize>();
        size += plan.render_deletions().len() + plan.columns().len();
    }
    size
}

#[test]
fn hostile_batches_take_linear_time() {
    // No clock decides here: quadratic work on 50,000 pieces is 10^9 steps and more for each of these, minutes, and nobody would wait
    // for this test again.
    for text in hostile(50_000) {
        decode_all(&text);
    }
}

thread_local! {
    static CHECKS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Whatever takes long can be interrupted: there is a check for each piece of a payload, in each stage.
#[test]
fn every_piece_is_checked() {
    fn count() {
        CHECKS.set(CHECKS.get() + 1);
    }
    let checks = |work: &mut dyn FnMut()| {
        CHECKS.set(0);
        work();
        CHECKS.get()
    };
    let pieces = 500;
    for text in hostile(pieces) {
        let one_value = text.contains("\\\\u0000") || text.contains(r#""_changed":["#);
        let mut collections = Vec::new();
        assert!(checks(&mut || collections = parse(&text, count).unwrap()) >= pieces || one_value, "{text:.80}");
        let records: usize = collections.iter().map(|c| Array::ALL.iter().map(|a| c.len(*a)).sum::<usize>()).sum();
        let mut plans = Vec::new();
        let resolving = checks(&mut || plans.extend(collections.iter().map(|c| c.by_key(&["id"], &["r"]).unwrap())));
        assert!(resolving >= records, "{text:.80}");
        let rows: usize = plans.iter().map(|p| p.records.len() + p.deletions.len()).sum();
        let rendering = checks(&mut || {
            for plan in &plans {
                plan.groups.iter().for_each(|group| drop(plan.render(group)));
                plan.render_deletions();
            }
        });
        assert!(rendering >= rows, "{text:.80}");
    }
}

// The oracle: the rules on serde_json's own values, one record after the other.

type OracleRows = BTreeMap<String, (bool, BTreeMap<String, Value>, Option<Vec<String>>)>;

fn oracle(collection: &Value) -> (Vec<String>, OracleRows) {
    let id_of = |value: &Value| match value {
        Value::Object(record) => record["id"].clone(),
        other => other.clone(),
    };
    let text = |id: Value| id.as_str().map_or_else(|| id.to_string(), str::to_owned);
    let mut deleted: Vec<String> = Vec::new();
    for element in collection["deleted"].as_array().unwrap() {
        let id = text(id_of(element));
        if !deleted.contains(&id) {
            deleted.push(id);
        }
    }
    let mut rows = OracleRows::new();
    for array in ["created", "updated"] {
        for record in collection[array].as_array().unwrap() {
            let id = text(id_of(record));
            if deleted.contains(&id) {
                continue;
            }
            let changed = record.get("_changed").and_then(Value::as_str);
            let changed =
                changed.map(|c| c.split(',').filter(|n| !n.is_empty()).map(str::to_owned).collect::<Vec<_>>());
            let is_new = !rows.contains_key(&id);
            let row = rows.entry(id).or_insert((true, BTreeMap::new(), Some(Vec::new())));
            row.0 &= array == "created";
            for (name, value) in record.as_object().unwrap() {
                if !matches!(name.as_str(), "id" | "_status" | "_changed" | "ro") {
                    row.1.insert(name.clone(), value.clone());
                }
            }
            row.2 = match (row.2.take(), changed) {
                (_, changed) if is_new => changed,
                (Some(mut a), Some(b)) => {
                    a.extend(b);
                    Some(a)
                }
                _ => None,
            };
        }
    }
    (deleted, rows)
}

fn id() -> impl Strategy<Value = Value> {
    prop_oneof![
        (0..6).prop_map(|n| json!(n)),
        "[a-c\"ä]{1,2}".prop_map(Value::from),
        (0..6).prop_map(|n: i32| json!(n.to_string()))
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[^\\x00]{0,5}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec(("[a\"\\\\]{0,2}", inner), 0..3).prop_map(|f| Value::Object(f.into_iter().collect())),
        ]
    })
}

fn record() -> impl Strategy<Value = Value> {
    let changed = prop::option::of("[a-e]?(,[a-e])?");
    (id(), prop::collection::vec(("[a-e]|ro|n|k0|c0|_status", value()), 0..5), changed).prop_map(
        |(id, fields, changed)| {
            let mut record: Map<String, Value> = fields.into_iter().collect();
            record.insert("id".into(), id);
            if let Some(changed) = changed {
                record.insert("_changed".into(), changed.into());
            }
            Value::Object(record)
        },
    )
}

fn collection() -> impl Strategy<Value = Value> {
    let records = || prop::collection::vec(record(), 0..8);
    (records(), records(), prop::collection::vec(prop_oneof![id(), record()], 0..3))
        .prop_map(|(created, updated, deleted)| json!({"created": created, "updated": updated, "deleted": deleted}))
}

proptest! {
    #[test]
    fn agrees_with_the_oracle(collection in collection(), pretty in any::<bool>()) {
        let payload = json!({ "t": collection });
        let text = if pretty { serde_json::to_string_pretty(&payload).unwrap() } else { payload.to_string() };
        let raw = one(&text);
        let plan = raw.by_key(&["id"], &["ro"]).unwrap();
        let (deleted, rows) = oracle(&payload["t"]);
        prop_assert_eq!(deleted_ids(&plan), deleted);

        let mut seen = vec![false; plan.records.len()];
        let mut got = OracleRows::new();
        for group in &plan.groups {
            prop_assert!(group.columns.is_sorted());
            let rendered: Value = serde_json::from_str(&plan.render(group)).unwrap();
            prop_assert_eq!(rendered.as_array().unwrap().len(), group.rows.len());
            for (object, row) in rendered.as_array().unwrap().iter().zip(&group.rows) {
                let object = object.as_object().unwrap();
                prop_assert_eq!(&object["n"], *row);
                prop_assert_eq!(object.len(), 2 + group.columns.len());
                prop_assert!(!std::mem::replace(&mut seen[*row as usize], true));
                let record = &plan.records[*row as usize];
                prop_assert_eq!(&object["k0"], &*record.id);
                let named: Value = serde_json::from_str(&plan.object(record)).unwrap();
                let mut fields = BTreeMap::new();
                for (i, column) in group.columns.iter().enumerate() {
                    prop_assert_eq!(&object[&format!("c{i}")], &named[column]);
                    fields.insert((*column).to_owned(), named[column].clone());
                }
                let changed = plan.changed(record).map(|names| names.iter().map(|n| n.to_string()).collect());
                got.insert(record.id.to_string(), (record.created, fields, changed));
            }
        }
        prop_assert!(seen.into_iter().all(|seen| seen));
        prop_assert_eq!(got, rows);
    }

    #[test]
    fn every_source_is_where_it_says(collection in collection()) {
        let payload = json!({ "t": collection });
        let text = payload.to_string();
        let raw = one(&text);
        let plan = raw.by_key(&["id"], &[]).unwrap();
        let sources = plan.records.iter().map(|r| (&r.id, r.source)).chain(plan.deletions.iter().map(|d| (&d.id, d.source)));
        for (id, source) in sources {
            let element = &payload["t"][source.array.name()][source.index as usize];
            let there = element.get("id").unwrap_or(element);
            prop_assert_eq!(there.as_str().map_or_else(|| there.to_string(), str::to_owned), id.to_string());
        }
    }

    /// Damaged payloads: refused with a short message or decoded, and what is decoded is JSON by serde_json's own measure.
    #[test]
    fn survives_damage(
        collection in collection(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(vec![
            "", "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u0000", "\\ud800", "null", "1e999", "-", "0", "ä", "\u{0}", "\n",
            "\"id\":", "\"created\":", "{\"id\":1},", "true",
        ]), any::<bool>()), 1..4),
    ) {
        let mut text = json!({ "t": collection }).to_string();
        for (at, piece, replace) in damage {
            let mut at = at.index(text.len() + 1);
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            let end = text[at..].chars().next().filter(|_| replace).map_or(at, |c| at + c.len_utf8());
            text.replace_range(at..end, piece);
        }
        match parse(&text, || ()) {
            Err(error) => prop_assert!(error.to_string().chars().count() < 250),
            Ok(collections) => {
                prop_assert!(serde_json::from_str::<Value>(&text.replace("1e999", "1")).is_ok(), "{}", text);
                for key in [&["id"][..], &["k0"], &["a", "b"]] {
                    for collection in &collections {
                        match collection.by_key(key, &[]) {
                            Err(error) => prop_assert!(error.to_string().chars().count() < 250),
                            Ok(plan) => for group in &plan.groups {
                                prop_assert!(serde_json::from_str::<Vec<&RawValue>>(&plan.render(group)).is_ok());
                            },
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn strings_are_written_as_json(text in "[^\\x00]*|[\"\\\\\\x01-\\x1f]*") {
        let out = crate::values::json::text(&text);
        prop_assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
    }

    /// `inspect` refuses exactly the strings that have no text, and NUL.
    #[test]
    fn escapes_are_judged_as_serde_json_does(text in r#"(\\u[dD][89a-cA-C][0-9a-f]{2}|\\u[dD][c-fC-F][0-9a-f]{2}|\\u00[04]0|\\\\|\\"|u|x|é){0,6}"#) {
        let raw = format!("\"{text}\"");
        let is_text = serde_json::from_str::<String>(&raw).is_ok_and(|text| !text.contains('\0'));
        prop_assert_eq!(inspect(&raw).is_ok(), is_text);
    }

    #[test]
    fn keys_of_several_columns_round_trip(parts in prop::collection::vec("[^\\x00]{0,5}", 2..4)) {
        let names: Vec<String> = (0..parts.len()).map(|i| format!("p{i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let record: Map<String, Value> = names.iter().zip(&parts).map(|(n, p)| (n.to_string(), p.as_str().into())).collect();
        let text = json!({"t": {"created": [record]}}).to_string();
        let raw = one(&text);
        let plan = raw.by_key(&names, &[]).unwrap();
        prop_assert_eq!(plan.key_parts(&plan.records[0].id), parts.clone());
        let keys: Value = serde_json::from_str(&plan.render_keys()).unwrap();
        for (i, part) in parts.iter().enumerate() {
            prop_assert_eq!(&keys[0][&format!("k{i}")], part);
        }
    }
}
