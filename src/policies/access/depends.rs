//! What policies and views rest on, as far as the catalogs know.

use std::collections::{BTreeSet, HashMap, HashSet};

use pgrx::pg_sys;
use pgrx::prelude::*;
use serde::Deserialize;

use crate::server::error::Result;
use crate::server::spi::{self, pointers, read_now};

const OWNERS: &str = include_str!("depends/owners.sql");
const READ_BY_POLICIES: &str = include_str!("depends/read_by_policies.sql");
const TABLES_UNDER: &str = include_str!("depends/tables_under.sql");
const CHILDREN: &str = include_str!("depends/children.sql");
const BY_NAME: &str = include_str!("depends/by_name.sql");
const MAY_READ_ALL: &str = include_str!("depends/may_read_all.sql");

/// A table that policies rest on.
#[derive(Deserialize)]
struct FoundRead {
    oid: u32,
    direct: bool,
    in_function: bool,
}

pub struct Read {
    pub oid: pg_sys::Oid,
    /// The policies name it themselves.
    pub direct: bool,
    /// A function that they call reads it.
    pub in_function: bool,
}

/// The tables among what the table's policies rest on, with those that inherit from them. (No views.)
pub fn read_by_policies(relation: pg_sys::Oid) -> Result<Vec<Read>> {
    let found = spi::typed::<FoundRead>(&read_now(READ_BY_POLICIES, &[spi::arg(relation)])?)?;
    let read = |f: FoundRead| Read { oid: f.oid.into(), direct: f.direct, in_function: f.in_function };
    Ok(found.into_iter().map(read).collect())
}

/// The tables that views read, or that tables' policies do, with these and those that inherit from them; for who reads them with other rights than the
/// caller's. Asked for all at once: they may rest on the same.
pub fn tables_under(relations: &[pg_sys::Oid]) -> Result<Vec<pg_sys::Oid>> {
    if relations.is_empty() {
        return Ok(Vec::new());
    }
    Ok(read_now(TABLES_UNDER, &[spi::arg(relations.to_vec())])?.iter().map(|r| r.oid(0)).collect())
}

/// The tables that inherit from one of these, at any depth.
pub fn children(relations: &[pg_sys::Oid]) -> Result<Vec<pg_sys::Oid>> {
    if relations.is_empty() {
        return Ok(Vec::new());
    }
    Ok(read_now(CHILDREN, &[spi::arg(relations.to_vec())])?.iter().map(|r| r.oid(0)).collect())
}

/// Of these tables, those all of whose rows the owner of `relation` may read.
pub fn may_read_all(relation: pg_sys::Oid, tables: &[pg_sys::Oid]) -> Result<HashSet<pg_sys::Oid>> {
    if tables.is_empty() {
        return Ok(HashSet::new());
    }
    Ok(read_now(MAY_READ_ALL, &[spi::arg(relation), spi::arg(tables.to_vec())])?.iter().map(|r| r.oid(0)).collect())
}

/// Of these tables, those that have virtual columns.
pub fn with_virtual_columns(tables: impl Iterator<Item = u32>) -> Result<Vec<pg_sys::Oid>> {
    const SQL: &str = "SELECT t.oid FROM unnest($1::oid[]) AS t(oid) WHERE EXISTS (SELECT FROM pg_attribute \
         WHERE attrelid = t.oid AND attgenerated = 'v' AND NOT attisdropped OFFSET 0)";
    if !cfg!(feature = "pg18") {
        return Ok(Vec::new());
    }
    let tables: Vec<pg_sys::Oid> = tables.map(pg_sys::Oid::from).collect();
    Ok(read_now(SQL, &[spi::arg(tables)])?.iter().map(|r| r.oid(0)).collect())
}

/// What is called by a name.
#[derive(Clone, Copy)]
pub struct Called {
    pub oid: pg_sys::Oid,
    pub is_table: bool,
    pub is_view: bool,
}

/// What is called by these full names. One that is not there is gone.
pub fn by_name<'n>(names: impl Iterator<Item = &'n String>) -> Result<HashMap<String, Called>> {
    let names: Vec<String> = names.cloned().collect();
    if names.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = read_now(BY_NAME, &[spi::arg(names)])?;
    let called = |row: &spi::Row| {
        let is = |kinds: &[&str]| row.text(2).is_some_and(|kind| kinds.contains(&kind));
        Called { oid: row.oid(1), is_table: is(&["r", "p"]), is_view: is(&["v", "m"]) }
    };
    Ok(rows.iter().map(|row| (row.string(0), called(row))).collect())
}

/// The functions that a tree calls, by name, by an operator or to sort and group: not those of the system, nor those that read and write
/// the texts of types.
///
/// # Safety
/// The node is NULL or of a parsed tree.
pub unsafe fn functions_called(node: *mut pg_sys::Node) -> Vec<pg_sys::Oid> {
    /// # Safety
    /// Called by `check_functions_in_node`, with the list.
    #[pg_guard]
    unsafe extern "C-unwind" fn add(function: pg_sys::Oid, called: *mut std::ffi::c_void) -> bool {
        // SAFETY: see above.
        unsafe { (*called.cast::<Vec<pg_sys::Oid>>()).push(function) };
        false
    }
    let mut called: Vec<pg_sys::Oid> = Vec::new();
    // SAFETY: nodes of the tree, which are of the types that their tags say and are only read (but that an operator's function is looked up).
    unsafe {
        super::walk(node, &mut |node, _| match (*node).type_ {
            pg_sys::NodeTag::T_CoerceViaIO => {}
            pg_sys::NodeTag::T_Query => {
                let query = &*node.cast::<pg_sys::Query>();
                let windows = pointers::<pg_sys::WindowClause>(query.windowClause).into_iter();
                let windows = windows.flat_map(|w| [(*w).partitionClause, (*w).orderClause]);
                for list in windows.chain([query.sortClause, query.groupClause, query.distinctClause]) {
                    for by in pointers::<pg_sys::SortGroupClause>(list) {
                        let operators = [(*by).eqop, (*by).sortop].into_iter().filter(|o| *o != pg_sys::InvalidOid);
                        called.extend(operators.map(|o| pg_sys::get_opcode(o)));
                    }
                }
            }
            _ => _ = pg_sys::check_functions_in_node(node, Some(add), (&raw mut called).cast()),
        });
    }
    called.retain(|f| f.to_u32() >= pg_sys::FirstNormalObjectId);
    called.sort_unstable_by_key(|f| f.to_u32());
    called.dedup();
    called
}

/// What a tree names that somebody has made, by catalog and Oid: the functions that it calls, the relations that it reads, and the types
/// that it makes values of (a domain's checks call functions).
///
/// # Safety
/// The node is NULL or of a parsed tree.
pub unsafe fn objects_named(node: *mut pg_sys::Node) -> BTreeSet<(u32, u32)> {
    use pg_sys::NodeTag::*;
    let mut types = BTreeSet::new();
    // SAFETY: nodes with these tags are expressions.
    unsafe {
        super::walk(node, &mut |node, _| {
            let makes = [
                T_Const,
                T_FuncExpr,
                T_OpExpr,
                T_Aggref,
                T_CoerceViaIO,
                T_CoerceToDomain,
                T_RelabelType,
                T_ArrayCoerceExpr,
                T_ConvertRowtypeExpr,
                T_ArrayExpr,
                T_RowExpr,
                #[cfg(any(feature = "pg16", feature = "pg17", feature = "pg18"))]
                T_JsonConstructorExpr,
                #[cfg(any(feature = "pg17", feature = "pg18"))]
                T_JsonExpr,
            ];
            // The column list of a function in FROM, and of XMLTABLE or JSON_TABLE.
            let columns = match (*node).type_ {
                T_RangeTblFunction => (*node.cast::<pg_sys::RangeTblFunction>()).funccoltypes,
                T_TableFunc => (*node.cast::<pg_sys::TableFunc>()).coltypes,
                _ => std::ptr::null_mut(),
            };
            for column in pgrx::PgList::<pg_sys::Oid>::from_pg(columns).iter_oid() {
                types.insert(column.to_u32());
            }
            if makes.contains(&(*node).type_) {
                types.insert(pg_sys::exprType(node).to_u32());
            }
        });
        let functions = functions_called(node).into_iter().map(|f| (pg_sys::ProcedureRelationId.to_u32(), f.to_u32()));
        let relations = super::tree::relations_read(node).into_keys().map(|r| (pg_sys::RelationRelationId.to_u32(), r));
        let types = types.into_iter().map(|t| (pg_sys::TypeRelationId.to_u32(), t));
        let named = functions.chain(relations).chain(types);
        named.filter(|(_, object)| *object >= pg_sys::FirstNormalObjectId).collect()
    }
}

/// These objects, each with its owner, as what is stored of a text keeps them: a name may pass to others. `but_for`: without those of who
/// may act as the owner of this table, who decides about it anyway.
pub fn owners(objects: &BTreeSet<(u32, u32)>, but_for: Option<pg_sys::Oid>) -> Result<BTreeSet<String>> {
    if objects.is_empty() {
        return Ok(BTreeSet::new());
    }
    let classes: Vec<pg_sys::Oid> = objects.iter().map(|(class, _)| pg_sys::Oid::from(*class)).collect();
    let ids: Vec<pg_sys::Oid> = objects.iter().map(|(_, object)| pg_sys::Oid::from(*object)).collect();
    let table = but_for.map_or(spi::Arg { oid: pg_sys::OIDOID, datum: None }, spi::arg);
    Ok(read_now(OWNERS, &[spi::arg(classes), spi::arg(ids), table])?.iter().map(|r| r.string(0)).collect())
}

/// The signatures of functions, with full names: what a text that calls them keeps of them, for a dump carries no oids.
pub fn signatures(functions: &[pg_sys::Oid]) -> Result<BTreeSet<String>> {
    if functions.is_empty() {
        return Ok(BTreeSet::new());
    }
    let rows = read_now("SELECT f::regprocedure::text FROM unnest($1::oid[]) AS f", &[spi::arg(functions.to_vec())])?;
    Ok(rows.iter().map(|r| r.string(0)).collect())
}

/// Are there functions of all these signatures?
pub fn are_there(signatures: &BTreeSet<String>) -> Result<bool> {
    if signatures.is_empty() {
        return Ok(true);
    }
    let found = read_now(
        "SELECT p.oid FROM unnest($1::text[]) AS s CROSS JOIN LATERAL snapsync.procedure_of(s) AS p(oid)",
        &[spi::arg(signatures.iter().cloned().collect::<Vec<_>>())],
    )?;
    Ok(found.len() == signatures.len())
}

/// The full names of the types among these objects; of arrays those of their elements.
pub fn types(objects: &BTreeSet<(u32, u32)>) -> Result<BTreeSet<String>> {
    let types = objects.iter().filter(|(class, _)| *class == pg_sys::TypeRelationId.to_u32());
    let types: Vec<pg_sys::Oid> = types.map(|(_, oid)| pg_sys::Oid::from(*oid)).collect();
    if types.is_empty() {
        return Ok(BTreeSet::new());
    }
    let rows = read_now(
        "SELECT coalesce(e.oid, y.oid)::regtype::text FROM unnest($1::oid[]) AS named(oid) \
           CROSS JOIN LATERAL (SELECT oid, typelem FROM pg_type WHERE oid = named.oid OFFSET 0) AS y \
           LEFT JOIN LATERAL (SELECT oid FROM pg_type WHERE oid = y.typelem AND typarray = y.oid OFFSET 0) AS e ON true",
        &[spi::arg(types)],
    )?;
    Ok(rows.iter().map(|r| r.string(0)).collect())
}

/// The first of these names that no column of the table has.
pub fn missing_column<'n>(
    relation: pg_sys::Oid,
    columns: impl IntoIterator<Item = &'n String>,
) -> Result<Option<String>> {
    let columns: Vec<String> = columns.into_iter().cloned().collect();
    if columns.is_empty() {
        return Ok(None);
    }
    let rows = read_now(
        "SELECT name FROM unnest($2::text[]) WITH ORDINALITY AS c(name, n) \
         WHERE NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = $1 AND attname = c.name AND attnum > 0 AND NOT attisdropped) \
         ORDER BY n LIMIT 1",
        &[spi::arg(relation), spi::arg(columns)],
    )?;
    Ok(rows.first().map(|row| row.string(0)))
}
