//! The shape of a tracked table, as text that compares: what of its definition clients would have to know of.

use std::collections::BTreeSet;

use pgrx::pg_sys;

use super::{columns, parts};
use crate::policies::wide;
use crate::server::error::Result;
use crate::server::{heap, memory, pg, spi, subxact};

/// What is compared always, by names that are the same after a dump and restore.
const SHAPE: &str = include_str!("definition/shape.sql");

/// Policies, views and functions with their trees. As the catalogs have them, they compare within one database only. A tree as it is stored
/// can be looked at without a lock. To write it out as SQL takes a lock on each table that it reads, where whoever owns one of these could
/// keep everybody waiting.
const TREES: &str = include_str!("definition/trees.sql");
const LOCKED: &str = include_str!("definition/locked.sql");
const STORED: &str = include_str!("definition/stored.sql");
/// How much all of it is, and what else a look reads.
const SIZE: &str = include_str!("definition/size.sql");

/// In bytes, as they are before they are compressed: many times what people write. To read a megabyte of trees takes half a second.
const LARGE: i64 = 256 << 10;

/// What is looked up one by one (an object, a label of an enum) counts as so many.
const ONE: i64 = 64;

/// Does it take long to look at the table: to read its policies, what they rest on, and its settings?
pub fn is_large(relation: pg_sys::Oid) -> Result<bool> {
    let args = [spi::arg(relation), spi::arg(ONE), spi::arg(LARGE / ONE + 1)];
    Ok(spi::read_now(SIZE, &args)?.first().and_then(|r| r.i64(0)).is_some_and(|size| size > LARGE))
}

/// What the table looks like, as JSON text. Trees are written as SQL for their owner: whoever comes by from elsewhere does not pay for somebody
/// else's policies. In another database they are for everybody, if there is anything to compare them with.
pub fn read(relation: pg_sys::Oid, old: &str, for_owner: bool) -> Result<String> {
    let shape = spi::read_now(SHAPE, &[spi::arg(relation)])?;
    let mut shape = parsed(shape.first().and_then(|r| r.text(0)).unwrap_or_default());
    let trees = spi::read_now(TREES, &[spi::arg(relation), spi::arg(false)])?;
    if let (Some(shape), Some(trees)) = (shape.as_object_mut(), trees.first().and_then(|r| r.text(0))) {
        shape.insert("trees".into(), parsed(trees));
    }
    let old = parsed(old);
    let here = old["identity"] == shape["identity"];
    let is_written = for_owner || !here && !old["texts"].is_null();
    let texts = match if is_written { texts(relation)? } else { None } {
        Some(texts) => parsed(&texts),
        None if here && old["trees"] == shape["trees"] => old["texts"].clone(),
        None => serde_json::Value::Null,
    };
    let dropped = columns::dropped_since(&old, &shape);
    if let Some(shape) = shape.as_object_mut() {
        shape.insert("dropped".into(), dropped);
        shape.insert("texts".into(), texts);
    }
    Ok(shape.to_string())
}

/// The trees as SQL, which another database can compare; None while another session keeps a table that they read to itself, or if all of them
/// take long to be written. What is locked for it is let go.
fn texts(relation: pg_sys::Oid) -> Result<Option<String>> {
    let locked = spi::read_now(LOCKED, &[spi::arg(relation)])?;
    let locked: Vec<pg_sys::Oid> = locked.iter().map(|r| r.oid(0)).collect();
    subxact::try_out(|| {
        if !locked.into_iter().all(pg::lock_without_waiting) {
            return Ok(None);
        }
        let mut effort = wide::Effort::default();
        for tree in spi::read_now(STORED, &[spi::arg(relation)])? {
            if tree.text(0).map_or(Ok(false), |text| effort.grows_long(text, tree.oid(1)))? {
                return Ok(None);
            }
        }
        Ok(spi::read_now(TREES, &[spi::arg(relation), spi::arg(true)])?.first().map(|r| r.string(0)))
    })
}

/// Did something change that entries cannot say?
pub fn clients_must_know(relation: pg_sys::Oid, old: &serde_json::Value, new: &serde_json::Value) -> Result<bool> {
    let differs = |part: &str| old[part] != new[part];
    let here = old["identity"] == new["identity"];
    // In another database, what could not be had may have been anything.
    let untold = !here && (old["texts"].is_null() || new["texts"].is_null());
    // A restore computes anew what a dump leaves out, and another order of texts may compare them otherwise.
    let anew = !here && (differs("collation") || computes_anew(relation)?);
    // Devices have what a dump did not take along, or a restore left out.
    let empty = !here && is_empty(relation)?;
    let always = ["off", "security", "composites", if here { "trees" } else { "texts" }];
    if untold
        || anew
        || empty
        || always.into_iter().any(differs)
        || parts::differ(old, new)
        || columns::readers(old, new) != columns::readers(new, old)
    {
        return Ok(true);
    }
    // A label of an enum that is no more was renamed; a new one changes no row.
    let labels = |shape: &serde_json::Value| -> BTreeSet<String> {
        shape["labels"].as_array().into_iter().flatten().filter_map(|l| l.as_str().map(str::to_string)).collect()
    };
    if !labels(old).is_subset(&labels(new)) {
        return Ok(true);
    }
    columns::differ(relation, old, new)
}

/// Has the table, or one that its policies read, stored generated columns, or is one of these a materialized view?
fn computes_anew(relation: pg_sys::Oid) -> Result<bool> {
    let rows = spi::read_now(
        "SELECT 1 FROM (SELECT part.oid FROM snapsync.parts($1) AS part(oid) \
                        UNION SELECT objid FROM snapsync.rests_on($1, scopes => true) WHERE classid = 'pg_class'::regclass \
                        UNION SELECT access::oid FROM snapsync.access WHERE relation = $1) AS t \
         CROSS JOIN LATERAL (SELECT oid, relkind FROM pg_class WHERE oid = t.oid OFFSET 0) AS r \
         WHERE r.relkind = 'm' \
            OR EXISTS (SELECT FROM pg_attribute WHERE attrelid = r.oid AND attgenerated = 's' AND NOT attisdropped OFFSET 0) LIMIT 1",
        &[spi::arg(relation)],
    )?;
    Ok(!rows.is_empty())
}

/// Has the table no row, in none of its parts? True also where another session keeps one to itself. No code of anybody's runs for it.
pub(super) fn is_empty(relation: pg_sys::Oid) -> Result<bool> {
    const PARTS: &str = "SELECT part.oid FROM snapsync.parts($1) AS part(oid) \
         CROSS JOIN LATERAL (SELECT FROM pg_class WHERE oid = part.oid AND relkind <> 'p' OFFSET 0) AS r";
    let parts = spi::read_now(PARTS, &[spi::arg(relation)])?;
    let parts: Vec<pg_sys::Oid> = parts.iter().map(|r| r.oid(0)).collect();
    // What is locked for it is let go.
    subxact::try_out(|| {
        let snapshot = pg::ActiveSnapshot::latest();
        for part in parts {
            memory::heed();
            if pg::lock_without_waiting(part) && !heap::is_empty(part, &snapshot) {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

/// A shape's text, for comparing.
pub fn parsed(shape: &str) -> serde_json::Value {
    serde_json::from_str(shape).unwrap_or_default()
}
