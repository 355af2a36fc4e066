//! The mutations that a client sends, as they stand there.

use std::fmt;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::push::payload::Check;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutation<'m> {
    pub id: i64,
    pub name: String,
    #[serde(borrow, default)]
    pub args: Option<&'m RawValue>,
    /// Replicache writes when the client made it; nothing depends on it.
    #[serde(borrow, default)]
    #[allow(dead_code)]
    timestamp: Option<&'m RawValue>,
}

/// Reads the list one by one: `check` is called at each, as it is for each piece of a push.
pub fn parse(text: &str, check: Check) -> serde_json::Result<Vec<Mutation<'_>>> {
    let mut json = serde_json::Deserializer::from_str(text);
    let list = json.deserialize_seq(List(check))?;
    json.end()?;
    Ok(list)
}

struct List(Check);

impl<'m> Visitor<'m> for List {
    type Value = Vec<Mutation<'m>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'m>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(mutation) = elements.next_element()? {
            (self.0)();
            list.push(mutation);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    thread_local! {
        static CHECKS: Cell<usize> = const { Cell::new(0) };
    }

    #[test]
    fn every_mutation_is_checked() {
        let one = |i: usize| format!(r#"{{"id": {i}, "name": "like", "args": [1.10]}}"#);
        let text = format!("[{}]", (1..=500).map(one).collect::<Vec<_>>().join(","));
        let list = super::parse(&text, || CHECKS.set(CHECKS.get() + 1)).expect("a list");
        assert_eq!((list.len(), CHECKS.get()), (500, 500));
        assert_eq!(list[499].args.map(|a| a.get()), Some("[1.10]"));
        assert!(super::parse("[] []", || {}).is_err() && super::parse("{}", || {}).is_err());
    }
}
