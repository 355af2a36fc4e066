//! Rows that a pull asks for by their keys: one, or a set that grows and shrinks from call to call.
//!
//! The client names the ids, so to say of one that it is not there says nothing of what the caller may not see: a row that does not exist
//! and one that is somebody else's have the same answer.

use std::collections::BTreeSet;

use crate::collections::catalog::{Collection, Column};
use crate::collections::lookup;
use crate::server::error::{code, in_sql_of, Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::spi::{self, Mode};
use crate::sight::scope::is_own_text;
use crate::values::dialect::Dialect;
use crate::values::{excerpt, wire_id};

/// Does a filter name the key so? By its only column, or as `id`, which means the row's id as it stands in `deleted`. In the dialect that
/// writes rows as they are, `id` is no such name where a column beside the key is called so.
pub fn is_key(collection: &Collection, column: &str, dialect: Dialect) -> bool {
    if collection.key.iter().any(|k| k.facts.has_equal_texts()) {
        return false;
    }
    if let [key] = &collection.key[..] {
        if key.name == column {
            return true;
        }
    }
    column == "id" && may_mean_key(collection, dialect)
}

fn may_mean_key(collection: &Collection, dialect: Dialect) -> bool {
    let of_key = || collection.key.iter().any(|k| k.name == "id");
    dialect == Dialect::WatermelonDb || of_key() || collection.column("id").is_none()
}

/// By which names it can be filtered, for people.
pub fn called(collection: &Collection, dialect: Dialect) -> String {
    let mut names: Vec<String> = Vec::new();
    if let Some(scope) = &collection.scope {
        names.push(format!("its scope column \"{}\"", scope.name));
    }
    if collection.key.iter().any(|k| k.facts.has_equal_texts()) {
        let by = if names.is_empty() { "nothing".to_string() } else { names.join(", ") };
        return format!("It can be filtered by {by}; not by its key, of type numeric, because equal numbers can be written differently.");
    }
    match &collection.key[..] {
        [key] => names.push(format!("its key \"{}\"", key.name)),
        _ if may_mean_key(collection, dialect) => names.push("\"id\", the ids of its rows".to_string()),
        _ => names.push("\"id\" in the dialect watermelondb, the ids of its rows".to_string()),
    }
    format!("It can be filtered by {}.", names.join(" and by "))
}

/// These ids, each once, in order, as the server writes them.
pub fn own_ids(name: &str, collection: &Collection, given: &[String]) -> Result<Vec<String>> {
    let key = &collection.key;
    let mut parts: Vec<Vec<String>> = key.iter().map(|_| memory::list(given.len())).gather();
    for id in given {
        memory::heed();
        let decoded = wire_id::decode(id, key.len()).map_err(|e| {
            SyncError::new(code::INVALID_PARAMETER, "malformed filter")
                .detail(format!("Of \"{}\": {e}.", excerpt::name(name)))
                .hint("Pass ids as the server writes them in deleted.")
        })?;
        parts.iter_mut().zip(decoded).for_each(|(texts, part)| texts.push(part));
    }
    let own = parts.into_iter().zip(key).map(|(texts, column)| {
        let place = || format!("It is a key of collection \"{name}\", of its column \"{}\".", column.name);
        in_sql_of(place, || own_parts(column, texts))
    });
    let own = own.gather::<Result<Vec<_>>>()?;
    let mut ids = BTreeSet::new();
    for row in 0..given.len() {
        memory::heed();
        let parts: Vec<&str> = own.iter().map(|texts| texts[row].as_str()).gather();
        ids.insert(wire_id::encode(&parts).into_owned());
    }
    Ok(ids.into_iter().gather())
}

/// These values of a column in its own text form, each in its place.
fn own_parts(column: &Column, given: Vec<String>) -> Result<Vec<String>> {
    if given.iter().all(|v| is_own_text(column.facts.base, v)) {
        return Ok(given);
    }
    let sql = format!(
        "SELECT pg_catalog.to_json(ARRAY(SELECT u.v::pg_catalog.text FROM pg_catalog.unnest($1::{}[]) WITH ORDINALITY AS u (v, n) \
         ORDER BY u.n))",
        column.facts.base_type_name()
    );
    let rows = spi::query(&sql, &[spi::arg(given)], Mode::Read)?;
    Ok(rows.first().and_then(|r| r.list(0)).unwrap_or_default())
}

/// The rows that a pull asks for, and what became of the set since the client's last one. All in the order of their ids.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KeySet {
    /// Asked for then and now.
    pub stayed: Vec<String>,
    /// Newly asked for: they come whole.
    pub gained: Vec<String>,
    /// Asked for then only: they are named as gone.
    pub lost: Vec<String>,
}

impl KeySet {
    /// Of two sets, each in order.
    pub fn of(before: Vec<String>, now: Vec<String>) -> KeySet {
        let mut set = KeySet::default();
        let mut before = before.into_iter().peekable();
        for id in now {
            while before.peek().is_some_and(|last| *last < id) {
                memory::extend(&mut set.lost, before.next());
            }
            match before.next_if_eq(&id) {
                Some(_) => set.stayed.push(id),
                None => set.gained.push(id),
            }
        }
        memory::extend(&mut set.lost, before);
        set
    }

    /// So many are asked for.
    pub fn count(&self) -> usize {
        self.stayed.len() + self.gained.len()
    }

    /// Was this one asked for then, and is it now?
    pub fn has_stayed(&self, id: &str) -> bool {
        self.stayed.binary_search_by(|known| known.as_str().cmp(id)).is_ok()
    }
}

/// `t.id = ANY ($n)`: the rows of these ids; adds what the parameters are.
pub fn in_keys(collection: &Collection, ids: &[String], args: &mut Vec<spi::Arg>) -> String {
    let mut parts: Vec<Vec<String>> = collection.key.iter().map(|_| memory::list(ids.len())).gather();
    for id in ids {
        let decoded = wire_id::decode(id, parts.len()).unwrap_or_default();
        parts.iter_mut().zip(decoded).for_each(|(texts, part)| texts.push(part));
    }
    let mut places = Vec::new();
    for (texts, column) in parts.into_iter().zip(&collection.key) {
        args.push(spi::arg(texts));
        places.push(format!("${}::{}[]", args.len(), column.facts.base_type_name()));
    }
    if let ([column], [place]) = (&collection.key[..], &places[..]) {
        return format!("t.{} OPERATOR(pg_catalog.=) ANY ({place})", column.ident);
    }
    let lists: Vec<String> = places.iter().map(|place| format!("pg_catalog.unnest({place})")).gather();
    let names: Vec<String> = (0..lists.len()).map(|i| format!("k{i}")).gather();
    let keys = lookup::many_keys(&format!("ROWS FROM ({})", lists.join(", ")), &names.join(", "));
    format!("EXISTS (SELECT FROM {keys} WHERE {})", lookup::on(collection))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_set_is_divided_by_what_was_asked_for(before: BTreeSet<u8>, now: BTreeSet<u8>) {
            let texts = |set: &BTreeSet<u8>| set.iter().map(|n| format!("{n:03}")).collect::<Vec<_>>();
            let set = KeySet::of(texts(&before), texts(&now));
            prop_assert_eq!(&set.stayed, &texts(&(&before & &now)));
            prop_assert_eq!(&set.gained, &texts(&(&now - &before)));
            prop_assert_eq!(&set.lost, &texts(&(&before - &now)));
            for n in 0..=255u8 {
                prop_assert_eq!(set.has_stayed(&format!("{n:03}")), before.contains(&n) && now.contains(&n));
            }
        }
    }
}
