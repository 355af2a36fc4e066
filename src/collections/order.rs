//! In which order a collection's rows are read page by page: in that of the unique index on its key, which then serves it.

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::collections::catalog::{Collection, Column};
use crate::server::pg;
use crate::values::token::digest;

/// A column of the key, as the index has it.
struct Ordered<'a> {
    column: &'a Column,
    /// Where this is not the column's own.
    collation: Option<String>,
}

/// The order of a collection's keys.
pub struct KeyOrder<'a>(Vec<Ordered<'a>>);

impl<'a> KeyOrder<'a> {
    /// The caller has locked the table. Where no such index is left, in the order of the columns.
    pub fn of(collection: &'a Collection) -> KeyOrder<'a> {
        let key = &collection.key;
        let own = || key.iter().map(|column| Ordered { column, collation: None }).collect();
        // SAFETY: the table is locked (caller); its indexes are locked and open while they are looked at.
        let found = unsafe {
            let table = pg_sys::relation_open(collection.relation, pg_sys::NoLock as i32);
            let indexes = pg_sys::RelationGetIndexList(table);
            let oids = (0..if indexes.is_null() { 0 } else { (*indexes).length as usize })
                .map(|i| (*(*indexes).elements.add(i)).oid_value);
            let found = oids.filter_map(|oid| {
                let index = pg_sys::index_open(oid, pg_sys::AccessShareLock as i32);
                let order = order_of(index, key);
                pg_sys::index_close(index, pg_sys::AccessShareLock as i32);
                order
            });
            // The same one whenever it is there, and rather one that needs no word about collations.
            let found = found.min_by_key(|order| {
                let said = order.iter().filter(|o| o.collation.is_some()).count();
                (said, order.iter().map(|o| place_in(key, o)).collect::<Vec<_>>(), text_of(order))
            });
            pg_sys::relation_close(table, pg_sys::NoLock as i32);
            found
        };
        KeyOrder(found.unwrap_or_else(own))
    }

    /// The columns of row `t`, for ORDER BY and to compare.
    pub fn columns(&self) -> Vec<String> {
        self.0.iter().map(|o| format!("t.{}{}", o.column.ident, o.collation.as_deref().unwrap_or(""))).collect()
    }

    /// The same for orders that are the same.
    pub fn digest(&self) -> u64 {
        digest(text_of(&self.0).as_bytes())
    }

    /// Of the key's parts, which stand as the collection has them, those of each column, with its type.
    pub fn parts<'p>(&self, collection: &Collection, parts: &'p [String]) -> Vec<(pg_sys::Oid, &'p str)> {
        let part = |o: &Ordered| {
            let at = place_in(&collection.key, o)?;
            parts.get(at).map(|part| (o.column.facts.base, part.as_str()))
        };
        self.0.iter().filter_map(part).collect()
    }
}

fn place_in(key: &[Column], ordered: &Ordered) -> Option<usize> {
    key.iter().position(|c| c.attnum == ordered.column.attnum)
}

/// The columns by their numbers, with their types and collations.
fn text_of(order: &[Ordered]) -> String {
    let part =
        |o: &Ordered| format!("{} {}{}", o.column.attnum, o.column.type_name, o.collation.as_deref().unwrap_or(""));
    order.iter().map(part).collect::<Vec<_>>().join(", ")
}

/// How this index orders the key, if it is unique on just its columns.
///
/// # Safety
/// An open index.
unsafe fn order_of<'a>(index: pg_sys::Relation, key: &'a [Column]) -> Option<Vec<Ordered<'a>>> {
    // SAFETY: an open index has its row of pg_index; `indkey` and `rd_indcollation` have a place for each key column.
    unsafe {
        let form = &*(*index).rd_index;
        let serves = form.indisunique && form.indimmediate && form.indisvalid && form.indnkeyatts as usize == key.len();
        if !serves || !pg_sys::RelationGetIndexPredicate(index).is_null() {
            return None;
        }
        let numbers = form.indkey.values.as_slice(key.len());
        let order = numbers.iter().enumerate().map(|(at, number)| {
            let column = key.iter().find(|c| c.attnum == *number)?;
            let collation = *(*index).rd_indcollation.add(at);
            let mut own = (pg_sys::InvalidOid, 0, pg_sys::InvalidOid);
            let table = form.indrelid;
            pg_sys::get_atttypetypmodcoll(table, *number, &mut own.0, &mut own.1, &mut own.2);
            let collation = if collation == own.2 { None } else { Some(collate(collation)?) };
            Some(Ordered { column, collation })
        });
        order.collect()
    }
}

/// ` COLLATE schema.name`
fn collate(collation: pg_sys::Oid) -> Option<String> {
    // SAFETY: syscache look-ups; what is found is copied before it is released.
    unsafe {
        let id = pg_sys::SysCacheIdentifier::COLLOID as i32;
        let tuple = pg_sys::SearchSysCache1(id, pg_sys::Datum::from(collation));
        if tuple.is_null() {
            return None;
        }
        let form = &*(pg_sys::GETSTRUCT(tuple) as pg_sys::Form_pg_collation);
        let name = CStr::from_ptr(form.collname.data.as_ptr()).to_string_lossy().into_owned();
        let schema = pg_sys::get_namespace_name(form.collnamespace);
        pg_sys::ReleaseSysCache(tuple);
        if schema.is_null() {
            return None;
        }
        let schema = CStr::from_ptr(schema).to_string_lossy();
        Some(format!(" COLLATE {}.{}", pg::ident(&schema), pg::ident(&name)))
    }
}
