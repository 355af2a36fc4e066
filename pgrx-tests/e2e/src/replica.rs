//! A client's local copy, built from the answers of `pull_changes` and nothing else.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{anyhow, bail, ensure, Context, Result};
use serde::Deserialize;
use serde_json::value::RawValue;

/// What a client knows of a collection beforehand: its name, and which members of a row make the wire id.
#[derive(Clone, Debug)]
pub struct Spec {
    pub name: String,
    pub key: Vec<String>,
}

impl Spec {
    pub fn new(name: &str, key: &[&str]) -> Self {
        Self { name: name.to_owned(), key: key.iter().map(|k| (*k).to_owned()).collect() }
    }

    /// The wire id of a row: one key part as it is, several percent-encoded and joined with a dot.
    pub fn id_of(&self, row: &str) -> Result<String> {
        let members: HashMap<Cow<'_, str>, &RawValue> =
            serde_json::from_str(row).with_context(|| format!("not an object of plain members: {row}"))?;
        let part = |key: &String| -> Result<String> {
            let raw =
                members.get(key.as_str()).ok_or_else(|| anyhow!("{}: no key member {key} in {row}", self.name))?;
            let text = raw.get();
            Ok(if text.starts_with('"') { serde_json::from_str(text)? } else { text.to_owned() })
        };
        if let [only] = self.key.as_slice() {
            return part(only);
        }
        let parts = self.key.iter().map(|k| Ok(percent(&part(k)?))).collect::<Result<Vec<_>>>()?;
        Ok(parts.join("."))
    }
}

fn percent(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer<'a> {
    #[serde(borrow)]
    changes: BTreeMap<Cow<'a, str>, Arrays<'a>>,
    /// not while there is a next page
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
    next: Option<Cow<'a, str>>,
    #[serde(rename = "experimentalStrategy")]
    strategy: Option<Strategy>,
    #[serde(default)]
    reason: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arrays<'a> {
    #[serde(borrow)]
    created: Vec<&'a RawValue>,
    #[serde(borrow)]
    updated: Vec<&'a RawValue>,
    deleted: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Strategy {
    default: String,
    #[serde(rename = "override")]
    overrides: BTreeMap<String, String>,
}

/// What one answer did to the replica.
#[derive(Clone, Copy, Debug, Default)]
pub struct Applied {
    /// rows in `created` and `updated`
    pub rows: u64,
    /// of these, the ones that no reset sent and that the replica did not hold exactly so already
    pub effective: u64,
    /// rows in `created` that the replica held already (a WatermelonDB client logs an error for each)
    pub created_again: u64,
    pub deleted: u64,
    /// ids in `deleted` that the replica did not hold
    pub deleted_unknown: u64,
    /// collections sent with the strategy `replacement`
    pub resets: u64,
    /// rows sent because of these resets
    pub reset_rows: u64,
}

impl std::ops::AddAssign for Applied {
    fn add_assign(&mut self, o: Self) {
        self.rows += o.rows;
        self.effective += o.effective;
        self.created_again += o.created_again;
        self.deleted += o.deleted;
        self.deleted_unknown += o.deleted_unknown;
        self.resets += o.resets;
        self.reset_rows += o.reset_rows;
    }
}

/// How a replica differs from what the server would answer to a plain SELECT.
#[derive(Clone, Debug, Default)]
pub struct Difference {
    /// in the table, not in the replica
    pub lost: u64,
    /// in the replica, not in the table
    pub ghosts: u64,
    /// in both, with other values
    pub wrong: u64,
    /// a few examples for the report
    pub samples: Vec<String>,
}

impl Difference {
    pub fn is_empty(&self) -> bool {
        self.lost + self.ghosts + self.wrong == 0
    }

    pub fn total(&self) -> u64 {
        self.lost + self.ghosts + self.wrong
    }

    pub fn add(&mut self, other: Difference) {
        self.lost += other.lost;
        self.ghosts += other.ghosts;
        self.wrong += other.wrong;
        self.samples.extend(other.samples);
        self.samples.truncate(MOST_SAMPLES);
    }

    fn sample(&mut self, text: impl FnOnce() -> String) {
        if self.samples.len() < MOST_SAMPLES {
            self.samples.push(text());
        }
    }
}

const MOST_SAMPLES: usize = 8;

#[derive(Clone, Debug)]
struct Collection {
    spec: Spec,
    rows: HashMap<String, Box<str>>,
}

#[derive(Clone, Debug)]
pub struct Replica {
    collections: Vec<Collection>,
    names: Vec<String>,
    cursor: Option<i64>,
    /// why the last answer replaced collections, for each that it did
    reasons: Vec<String>,
    /// of a pull in pages that has not come to its end
    next: Option<String>,
    /// collections that this pull has replaced so far
    replaced: HashSet<String>,
    /// members of rows that are not kept
    left_out: &'static [&'static str],
    /// the next cursor may be an older one
    steps_back: bool,
}

impl Replica {
    pub fn new(specs: &[Spec]) -> Self {
        Self {
            collections: specs.iter().map(|spec| Collection { spec: spec.clone(), rows: HashMap::new() }).collect(),
            names: specs.iter().map(|s| s.name.clone()).collect(),
            cursor: None,
            reasons: Vec::new(),
            next: None,
            replaced: HashSet::new(),
            left_out: &[],
            steps_back: false,
        }
    }

    /// Rows that come whole without having changed, under an old snapshot, come with a cursor that is as old.
    pub fn may_step_back(&mut self, may: bool) {
        self.steps_back = may;
    }

    /// Neither keeps nor compares these members: their text is the session's business.
    pub fn leaving_out(mut self, members: &'static [&'static str]) -> Self {
        self.left_out = members;
        self
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub fn reasons(&self) -> &[String] {
        &self.reasons
    }

    pub fn cursor(&self) -> Option<i64> {
        self.cursor
    }

    /// The client was ended after it took an answer and before it kept the cursor: it goes on from the one before.
    pub fn go_back_to(&mut self, cursor: i64) {
        self.cursor = Some(cursor);
    }

    pub fn next(&self) -> Option<&str> {
        self.next.as_deref()
    }

    pub fn len(&self) -> usize {
        self.collections.iter().map(|c| c.rows.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets everything, as a reinstalled app does.
    pub fn forget(&mut self) {
        (self.cursor, self.next) = (None, None);
        self.replaced.clear();
        self.collections.iter_mut().for_each(|c| c.rows.clear());
    }

    /// Whether it has this row.
    pub fn holds(&self, name: &str, id: &str) -> bool {
        self.collections.iter().any(|c| c.spec.name == name && c.rows.contains_key(id))
    }

    /// Keeps a row that it has pushed.
    pub fn hold(&mut self, name: &str, id: &str, row: &str) {
        for collection in self.collections.iter_mut().filter(|c| c.spec.name == name) {
            collection.rows.insert(id.to_owned(), row.into());
        }
    }

    /// Takes an answer in, and refuses one that breaks the contract. `sent` hears of every id that the answer names.
    pub fn apply(&mut self, answer: &str, mut sent: impl FnMut(&str, &str)) -> Result<Applied> {
        let answer: Answer<'_> =
            serde_json::from_str(answer).with_context(|| format!("an answer of the wrong shape: {}", clip(answer)))?;
        ensure!(
            answer.changes.len() == self.collections.len(),
            "asked for {:?}, got {:?}",
            self.names,
            answer.changes.keys().collect::<Vec<_>>()
        );
        // What was begun may have to be begun anew.
        let first = self.cursor.is_none() && self.next.is_none();
        let mut replaced = HashSet::new();
        if let Some(strategy) = &answer.strategy {
            ensure!(strategy.default == "incremental", "strategy default is {}", strategy.default);
            for (name, value) in &strategy.overrides {
                ensure!(value == "replacement", "strategy of {name} is {value}");
                ensure!(answer.changes.contains_key(name.as_str()), "strategy for {name}, which is not in changes");
                replaced.insert(name.as_str());
            }
        }
        let overrides = answer.strategy.iter().flat_map(|s| s.overrides.keys());
        ensure!(overrides.eq(answer.reason.keys()), "reasons of {:?}", answer.reason);
        self.reasons = answer.reason.values().cloned().collect();
        self.replaced.extend(replaced.iter().map(|name| (*name).to_owned()));
        let cursor = match (&answer.next, answer.timestamp) {
            (Some(_), None) => self.cursor,
            // Only an answer that replaces everything may hand out an older cursor (the role stands otherwise than recorded).
            (None, Some(timestamp)) => {
                let replaces_all = self.replaced.len() == self.collections.len();
                Some(read_cursor(timestamp.get(), self.cursor.filter(|_| !replaces_all && !self.steps_back))?)
            }
            _ => bail!("an answer has either next or timestamp"),
        };
        let mut applied = Applied::default();
        for collection in &mut self.collections {
            let name = collection.spec.name.as_str();
            let arrays = answer.changes.get(name).ok_or_else(|| anyhow!("no changes for {name}"))?;
            let reset = replaced.contains(name);
            if first {
                ensure!(
                    arrays.updated.is_empty() && arrays.deleted.is_empty(),
                    "{name}: a first sync with updated or deleted rows"
                );
            }
            applied += collection.apply(arrays, reset, self.left_out, &mut sent)?;
        }
        self.cursor = cursor;
        self.next = answer.next.map(Cow::into_owned);
        if self.next.is_none() {
            self.replaced.clear();
        }
        Ok(applied)
    }

    /// Takes the rows of a page in and is killed before it stores where it was: that page comes again.
    pub fn apply_rows(&mut self, answer: &str) -> Result<()> {
        let before = (self.cursor, self.next.clone());
        self.apply(answer, |_, _| ())?;
        if before == (None, None) {
            // Who begins with nothing must have nothing.
            self.forget();
        }
        (self.cursor, self.next) = before;
        Ok(())
    }

    /// Compares one collection with the rows of a plain SELECT (`row_to_json` texts).
    pub fn compare(&self, name: &str, rows: impl Iterator<Item = String>) -> Result<Difference> {
        let collection =
            self.collections.iter().find(|c| c.spec.name == name).ok_or_else(|| anyhow!("no collection {name}"))?;
        let mut difference = Difference::default();
        let mut seen = 0usize;
        let mut found = HashSet::with_capacity(collection.rows.len());
        for row in rows {
            seen += 1;
            let id = collection.spec.id_of(&row)?;
            let row = without(&row, self.left_out)?;
            match collection.rows.get(&id) {
                None => {
                    difference.lost += 1;
                    difference.sample(|| format!("{name}: lost {}", clip(&row)));
                }
                Some(held) if !is_same(held, &row)? => {
                    difference.wrong += 1;
                    difference.sample(|| format!("{name}: held {} but it is {}", clip(held), clip(&row)));
                    found.insert(id);
                }
                Some(_) => {
                    found.insert(id);
                }
            }
        }
        if found.len() < collection.rows.len() {
            for (id, row) in &collection.rows {
                if !found.contains(id) {
                    difference.ghosts += 1;
                    difference.sample(|| format!("{name}: ghost {}", clip(row)));
                }
            }
        }
        if seen < found.len() {
            bail!("{name}: the SELECT returned one id twice");
        }
        Ok(difference)
    }
}

fn read_cursor(text: &str, before: Option<i64>) -> Result<i64> {
    let timestamp: i64 = text.parse().map_err(|_| anyhow!("timestamp is not an integer number: {text}"))?;
    ensure!(timestamp > 0, "timestamp {timestamp} is not above 0: WatermelonDB takes it for a first sync");
    ensure!(timestamp < 1 << 53, "timestamp {timestamp} is beyond 2^53 - 1: JavaScript rounds it");
    if let Some(before) = before {
        ensure!(timestamp >= before, "the timestamp went back from {before} to {timestamp}");
    }
    Ok(timestamp)
}

impl Collection {
    fn apply(
        &mut self,
        arrays: &Arrays<'_>,
        reset: bool,
        left_out: &[&str],
        sent: &mut impl FnMut(&str, &str),
    ) -> Result<Applied> {
        let name = self.spec.name.as_str();
        let mut applied = Applied::default();
        let mut ids: HashSet<String> = HashSet::with_capacity(arrays.created.len() + arrays.updated.len());
        let old = if reset { std::mem::take(&mut self.rows) } else { HashMap::new() };
        for (list, created) in [(&arrays.created, true), (&arrays.updated, false)] {
            for row in list {
                let id = self.spec.id_of(row.get())?;
                sent(name, &id);
                ensure!(ids.insert(id.clone()), "{name}: id {id} stands twice in one answer");
                let before = if reset { old.get(&id) } else { self.rows.get(&id) };
                let row = without(row.get(), left_out)?;
                applied.rows += 1;
                applied.effective += u64::from(before.is_none_or(|b| **b != *row));
                applied.created_again += u64::from(created && before.is_some());
                self.rows.insert(id, row.into());
            }
        }
        for id in &arrays.deleted {
            sent(name, id);
            ensure!(ids.insert(id.clone()), "{name}: id {id} stands twice in one answer");
            applied.deleted += 1;
            applied.deleted_unknown += u64::from(self.rows.remove(id).is_none());
        }
        if reset {
            applied.resets = 1;
            applied.reset_rows = applied.rows;
            applied.effective = 0;
        }
        Ok(applied)
    }
}

/// The object's text without some of its members; the others stay as they are and where they are.
fn without<'a>(row: &'a str, members: &[&str]) -> Result<Cow<'a, str>> {
    if members.is_empty() {
        return Ok(row.into());
    }
    let Members(all) = serde_json::from_str(row)?;
    let kept: Vec<String> = all
        .iter()
        .filter(|(name, _)| !members.contains(&name.as_ref()))
        .map(|(name, value)| format!("{}:{}", serde_json::Value::from(name.as_ref()), value.get()))
        .collect();
    Ok(format!("{{{}}}", kept.join(",")).into())
}

/// Is what is held of a row what the row is now? A column that is new and NULL was not sent; one that is gone is still there.
fn is_same(held: &str, row: &str) -> Result<bool> {
    if held == row {
        return Ok(true);
    }
    let (Members(held), Members(row)) = (serde_json::from_str(held)?, serde_json::from_str(row)?);
    let held: HashMap<&str, &str> = held.iter().map(|(name, value)| (name.as_ref(), value.get())).collect();
    Ok(row.iter().all(|(name, value)| held.get(name.as_ref()).copied().unwrap_or("null") == value.get()))
}

/// An object's members in their order.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(member) = map.next_entry::<Cow<'de, str>, &'de RawValue>()? {
                    all.push(member);
                }
                Ok(Members(all))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

fn clip(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(240) {
        Some((at, _)) => format!("{}...", &text[..at]).into(),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_ids() {
        let one = Spec::new("a", &["id"]);
        assert_eq!(one.id_of(r#"{"id":17,"x":"y"}"#).unwrap(), "17");
        assert_eq!(one.id_of(r#"{"id":"a/b.c"}"#).unwrap(), "a/b.c");
        let two = Spec::new("a", &["t", "c"]);
        assert_eq!(two.id_of(r#"{"c":"a/é.b","t":-1}"#).unwrap(), "-1.a%2F%C3%A9%2Eb");
    }

    #[test]
    fn applies_and_compares() {
        let mut r = Replica::new(&[Spec::new("a", &["id"])]);
        let first = r#"{"changes":{"a":{"created":[{"id":1},{"id":2}],"updated":[],"deleted":[]}},"timestamp":5}"#;
        r.apply(first, |_, _| ()).unwrap();
        let next = r#"{"changes":{"a":{"created":[],"updated":[{"id":1,"v":2}],"deleted":["2","9"]}},"timestamp":6}"#;
        let applied = r.apply(next, |_, _| ()).unwrap();
        assert_eq!((applied.effective, applied.deleted_unknown), (1, 1));
        let rows = |v: &[&str]| v.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>().into_iter();
        assert!(r.compare("a", rows(&[r#"{"id":1,"v":2}"#])).unwrap().is_empty());
        let d = r.compare("a", rows(&[r#"{"id":3}"#])).unwrap();
        assert_eq!((d.lost, d.ghosts, d.wrong), (1, 1, 0));
        let d = r.compare("a", rows(&[r#"{"id":1,"v":3}"#])).unwrap();
        assert_eq!((d.lost, d.ghosts, d.wrong), (0, 0, 1));
    }

    #[test]
    fn pages() {
        let mut r = Replica::new(&[Spec::new("a", &["id"])]);
        let page = r#"{"changes":{"a":{"created":[{"id":1}],"updated":[],"deleted":[]}},"next":"n"}"#;
        r.apply(page, |_, _| ()).unwrap();
        assert_eq!((r.cursor(), r.next(), r.len()), (None, Some("n"), 1));
        let last = r#"{"changes":{"a":{"created":[{"id":2}],"updated":[],"deleted":[]}},"timestamp":5}"#;
        r.apply(last, |_, _| ()).unwrap();
        assert_eq!((r.cursor(), r.next(), r.len()), (Some(5), None, 2));
    }

    #[test]
    fn columns_come_and_go() {
        let held = r#"{"id":1,"a":"x","gone":2}"#;
        assert!(is_same(held, r#"{"id":1,"a":"x","new":null}"#).unwrap());
        assert!(is_same(held, r#"{"a":"x","id":1}"#).unwrap());
        assert!(!is_same(held, r#"{"id":1,"a":"x","new":0}"#).unwrap());
        assert!(!is_same(held, r#"{"id":1,"a":null}"#).unwrap());
    }

    #[test]
    fn leaves_members_out() {
        let row = r#"{"id":1,"at":"x","b":[1, 2],"lvl":1.50}"#;
        assert_eq!(without(row, &["at", "lvl"]).unwrap(), r#"{"id":1,"b":[1, 2]}"#);
        assert_eq!(without(row, &[]).unwrap(), row);
    }

    #[test]
    fn refuses_broken_answers() {
        let fresh = || Replica::new(&[Spec::new("a", &["id"])]);
        for bad in [
            r#"{"changes":{"a":{"created":[],"updated":[]}},"timestamp":5}"#,
            r#"{"changes":{"a":{"created":[{"id":1},{"id":1}],"updated":[],"deleted":[]}},"timestamp":5}"#,
            r#"{"changes":{"a":{"created":[],"updated":[],"deleted":[]}},"timestamp":"5"}"#,
            r#"{"changes":{"a":{"created":[],"updated":[],"deleted":[]}},"timestamp":5,"x":1}"#,
            r#"{"changes":{},"timestamp":5}"#,
            r#"{"changes":{"a":{"created":[],"updated":[],"deleted":[]}}}"#,
            r#"{"changes":{"a":{"created":[],"updated":[],"deleted":[]}},"timestamp":5,"next":"x"}"#,
        ] {
            assert!(fresh().apply(bad, |_, _| ()).is_err(), "{bad}");
        }
    }
}
