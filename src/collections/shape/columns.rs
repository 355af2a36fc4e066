//! Columns that came or went: which of it clients must be sent their rows anew for.
//!
//! A client that knows nothing of a column has it as NULL, so one that is NULL in every row changes nothing for him, and what is gone
//! from the table may stay with him: no client reads it. All else is in the rows, and no entry says so.

use std::collections::{BTreeMap, BTreeSet};

use pgrx::pg_sys;
use serde_json::Value;

use crate::policies::access;
use crate::server::error::Result;
use crate::server::spi;

/// The number of each column, by its name.
fn numbers(shape: &Value) -> BTreeMap<&str, &str> {
    let columns = shape["columns"].as_object().into_iter().flatten();
    columns.filter_map(|(n, c)| Some((c[0].as_str()?, n.as_str()))).collect()
}

/// Are some of these names those of other columns now, or of none? (Numbers mean something in one database only.)
pub fn are_other(names: &[String], old: &Value, new: &Value) -> bool {
    let here = old["identity"] == new["identity"];
    let (before, now) = (numbers(old), numbers(new));
    names.iter().map(String::as_str).any(|name| match (before.get(name), now.get(name)) {
        (Some(before), Some(now)) => here && before != now,
        (before, now) => before.is_some() != now.is_some(),
    })
}

/// Number and type of each synced column, by its name.
fn synced(shape: &Value) -> BTreeMap<&str, (Option<&str>, &str)> {
    let numbers = numbers(shape);
    let columns = shape["synced"].as_array().into_iter().flatten();
    columns.filter_map(|c| Some((c[0].as_str()?, (numbers.get(c[0].as_str()?).copied(), c[1].as_str()?)))).collect()
}

/// Names of columns that clients were sent and that are no more: they may have its values still.
fn dropped(shape: &Value) -> BTreeSet<&str> {
    shape["dropped"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// What the new shape has to remember of the old one.
pub fn dropped_since(old: &Value, new: &Value) -> Value {
    let (before, now) = (synced(old), synced(new));
    let gone = before.keys().copied().chain(dropped(old)).filter(|name| !now.contains_key(name));
    gone.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Must clients take their rows anew for the columns that differ?
pub fn differ(relation: pg_sys::Oid, old: &Value, new: &Value) -> Result<bool> {
    let here = old["identity"] == new["identity"];
    let (before, now) = (synced(old), synced(new));
    // A column dropped and added anew under its old name is another column; numbers mean that only in one database.
    let same = |name: &str| match (before.get(name), now.get(name)) {
        (Some((old, was)), Some((new, is))) => was == is && (!here || old == new),
        _ => true,
    };
    if !before.keys().all(|name| same(name)) {
        return Ok(true);
    }
    // So it is of the scope and the mark of deletion. Which columns these are is a setting, about which `enable` decides.
    let (decided, decides) = (&old["deciding"], &new["deciding"]);
    let names = decides.as_object().into_iter().flat_map(|columns| columns.keys());
    if here && names.into_iter().any(|name| !decided[name].is_null() && decided[name] != decides[name]) {
        return Ok(true);
    }
    let added: Vec<&str> = now.keys().copied().filter(|name| !before.contains_key(name)).collect();
    let gone = before.keys().any(|name| !now.contains_key(name));
    if (gone || !added.is_empty()) && !here {
        return Ok(true);
    }
    // Who sees a row may hang on all of its columns, also on those that are not synced.
    if here && old["columns"] != new["columns"] && is_read_whole(relation)? {
        return Ok(true);
    }
    // Renamed, or synced only now: its values are there already. Or old values of another column of this name are with clients.
    let known = |name: &&str| {
        now.get(*name).and_then(|(number, _)| *number).is_none_or(|number| !old["columns"][number].is_null())
            || dropped(old).contains(*name)
    };
    Ok(added.iter().any(known) || !added.is_empty() && have_values(relation, &added)?)
}

/// Does a policy read a row as a whole? (One for which nobody stands up does not count: who gets its table is sent everything with each pull.)
fn is_read_whole(relation: pg_sys::Oid) -> Result<bool> {
    const BY_OTHERS: &str = "SELECT 1 FROM snapsync.access WHERE access = $1 AND whole AND NOT untracked LIMIT 1";
    Ok(access::traits(relation)?.whole_row || !spi::read_now(BY_OTHERS, &[spi::arg(relation)])?.is_empty())
}

/// Have rows that were there before these columns a value in one of them? A default that takes no rewriting of the table is its
/// catalog's, for each partition; rewriting logs a reset by itself (ddl.rs). A generated column has values in any case.
fn have_values(relation: pg_sys::Oid, added: &[&str]) -> Result<bool> {
    let names: Vec<String> = added.iter().map(|name| name.to_string()).collect();
    let rows = spi::read_now(
        "SELECT 1 FROM snapsync.parts($1) AS part(oid) \
         CROSS JOIN LATERAL (SELECT * FROM pg_attribute WHERE attrelid = part.oid AND attname = ANY ($2::name[]) OFFSET 0) AS a \
         WHERE a.attnum > 0 AND NOT a.attisdropped \
           AND (a.atthasmissing OR a.attgenerated <> '' OR a.attidentity <> '') LIMIT 1",
        &[spi::arg(relation), spi::arg(names)],
    )?;
    Ok(!rows.is_empty())
}

/// Who may read what, without what is said of columns that are gone on either side.
pub fn readers(shape: &Value, other: &Value) -> BTreeSet<String> {
    let (before, now) = (synced(shape), synced(other));
    let gone: Vec<String> =
        before.keys().filter(|name| !now.contains_key(*name)).map(|name| format!("{name} ")).collect();
    let readers = shape["readers"].as_array().into_iter().flatten().filter_map(Value::as_str);
    readers.filter(|reader| !gone.iter().any(|name| reader.starts_with(name))).map(str::to_string).collect()
}
