//! Tables that policies read, as they were: wherever a rewritten query reads one, it reads the rows whose keys have no entry since, and the
//! first image of each key that has one. (A key that was first inserted since was not there.)
//!
//! The trees are those that PostgreSQL's rewriter made: views are subqueries, and each table has the policies that apply to its reader as
//! conditions of its own. So both halves of a table get these conditions, and what they read is as it was, too.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::rc::Rc;

use pgrx::pg_sys::{self, NodeTag};

use super::or_unknown;
use super::query;
use super::whole;
use crate::collections::catalog::Collection;
use crate::collections::lookup::Keys;
use crate::log::change::{Image, Op};
use crate::log::journal;
use crate::log::read::{Entries, Logged};
use crate::policies::access::depends;
use crate::policies::access::tree::{columns_read, relation_entries, relations_read, walk};
use crate::server::error::{code, Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::node::list;
use crate::server::spi::{self, pointers};
use crate::server::{pg, subxact};
use crate::sight::old_rows::OldRows;

/// Tables as they were before a stamp.
pub struct Former<'a> {
    tables: Vec<FormerTable<'a>>,
    /// All tables that count, changed or not.
    known: BTreeSet<u32>,
}

/// One of them that has changed since.
struct FormerTable<'a> {
    table: &'a Rc<Collection>,
    /// Of which nothing counts but their first images.
    changed: Keys<'a>,
    rows: OldRows,
}

/// What a key was before the stamp.
enum Before {
    Unknown,
    Nothing,
    Row(Image),
}

impl<'a> Former<'a> {
    /// As they were before this stamp, by their entries since then or longer. None where an image does not read back.
    pub fn before(stamp: i64, tables: &'a [(Rc<Collection>, Rc<Entries>)]) -> Result<Option<Former<'a>>> {
        let known = tables.iter().map(|(table, _)| table.relation.to_u32()).gather();
        let mut former = Former { tables: Vec::new(), known };
        for (table, entries) in tables {
            // A statement can have those of several sights.
            let name = format!("snapsync changed keys since {stamp} of {}", table.relation.to_u32());
            let name = CString::new(name).unwrap_or_default();
            let changed = Keys::named(table, Cow::Owned(name))?;
            let Some(rows) = or_unknown(OldRows::called(table, &format!("snapsync former rows before {stamp} of")))?
            else {
                return Ok(None);
            };
            let mut made = FormerTable { table, changed, rows };
            if or_unknown(subxact::run(|| spi::pinned(|| made.fill(stamp, entries))))?.is_none() {
                return Ok(None);
            }
            if made.changed.count() > 0 {
                former.tables.push(made);
            }
        }
        Ok(Some(former))
    }

    pub fn register(&self, environment: *mut pg_sys::QueryEnvironment) {
        for table in &self.tables {
            // SAFETY: the tables outlive the environment's query (callers).
            unsafe {
                pg_sys::register_ENR(environment, table.rows.relation(table.rows.count() as f64));
                pg_sys::register_ENR(environment, table.changed.relation());
            }
        }
    }

    /// Lets what stands in this part of a rewritten query read the tables as they were. An error where that cannot be done.
    ///
    /// # Safety
    /// A node that nobody else refers to; the former tables are registered in the environment.
    pub unsafe fn put_into(&self, part: *mut pg_sys::Node, environment: *mut pg_sys::QueryEnvironment) -> Result<()> {
        // SAFETY: see above. The inner ones are changed first: an entry is copied with its conditions.
        unsafe {
            for (query, at) in self.find(part)?.into_iter().rev() {
                let entry = pointers::<pg_sys::RangeTblEntry>((*query).rtable)[at - 1];
                if let Some(table) = self.tables.iter().find(|t| t.table.relation == (*entry).relid) {
                    table.replace(query, at, entry, environment);
                }
            }
        }
        Ok(())
    }

    /// The entries of queries in this part, by number from 1, that are of changed tables. An error where what the part reads cannot be told.
    ///
    /// # Safety
    /// A node of a rewritten tree, which is only read.
    pub unsafe fn find(&self, part: *mut pg_sys::Node) -> Result<Vec<(*mut pg_sys::Query, usize)>> {
        let mut found: Vec<(*mut pg_sys::Query, usize)> = Vec::new();
        let mut told = Ok(());
        // SAFETY: nodes with this tag are queries.
        unsafe {
            if depends::functions_called(part).into_iter().any(has_stored_body) {
                return Err(cannot("a function has a body that reads tables"));
            }
            walk(part, &mut |inner, _| {
                if (*inner).type_ == NodeTag::T_Query && told.is_ok() {
                    told = self.find_in(inner.cast(), &mut found);
                }
            });
        }
        told.map(|()| found)
    }

    /// How many tables this part of a rewritten query reads once it reads them as they were: one that has changed is read twice, and so is
    /// what its policies ask, at each level.
    ///
    /// # Safety
    /// A node of a rewritten tree, which is only read.
    pub unsafe fn weight(&self, part: *mut pg_sys::Node) -> f64 {
        memory::descend();
        // SAFETY: entries of this part.
        unsafe {
            let entries = relation_entries(part);
            let asked = |entry: &*mut pg_sys::RangeTblEntry| relation_entries((**entry).securityQuals.cast());
            let within: BTreeSet<*mut pg_sys::RangeTblEntry> = entries.iter().flat_map(asked).gather();
            let outermost = entries.into_iter().filter(|entry| !within.contains(entry));
            let weight = |entry: *mut pg_sys::RangeTblEntry| {
                let changed = self.tables.iter().any(|t| t.table.relation == (*entry).relid);
                (1.0 + self.weight((*entry).securityQuals.cast())) * if changed { 2.0 } else { 1.0 }
            };
            outermost.map(weight).sum()
        }
    }

    /// Does this part of a rewritten query read a table that has changed?
    ///
    /// # Safety
    /// A node of a parsed tree.
    pub unsafe fn is_read_by(&self, part: *mut pg_sys::Node) -> bool {
        // SAFETY: see above.
        let read = unsafe { relations_read(part) };
        self.tables.iter().any(|t| read.contains_key(&t.table.relation.to_u32()))
    }

    /// Has a table changed that inherits from this one?
    fn has_changed_below(&self, relation: pg_sys::Oid) -> Result<bool> {
        if self.tables.is_empty() {
            return Ok(false);
        }
        let below = depends::children(&[relation])?;
        Ok(self.tables.iter().any(|t| below.contains(&t.table.relation)))
    }

    /// The entries of a query, by number from 1, that are of changed tables.
    ///
    /// # Safety
    /// A query of a rewritten tree.
    unsafe fn find_in(&self, query: *mut pg_sys::Query, found: &mut Vec<(*mut pg_sys::Query, usize)>) -> Result<()> {
        // SAFETY: entries of the query; a look-up of a relation that is locked.
        unsafe {
            let mut columns = None;
            for (i, entry) in pointers::<pg_sys::RangeTblEntry>((*query).rtable).into_iter().enumerate() {
                if (*entry).rtekind != pg_sys::RTEKind::RTE_RELATION
                    || (*entry).relid.to_u32() < pg_sys::FirstNormalObjectId
                {
                    continue;
                }
                let relation = (*entry).relid;
                let kind = (*entry).relkind as u8;
                if !self.known.contains(&relation.to_u32()) {
                    // A partition has the log of its root, a materialized view none.
                    if kind == pg_sys::RELKIND_MATVIEW || pg::root_of(relation) != relation {
                        return Err(cannot("it reads a partition or a materialized view"));
                    }
                    continue;
                }
                let inherits = kind != pg_sys::RELKIND_PARTITIONED_TABLE && (*entry).inh && has_children(relation);
                if inherits && self.has_changed_below(relation)? {
                    return Err(cannot("it reads tables that inherit"));
                }
                let Some(table) = self.tables.iter().find(|t| t.table.relation == relation) else { continue };
                if inherits || !(*entry).tablesample.is_null() || !(*query).rowMarks.is_null() {
                    return Err(cannot("it reads tables that inherit, a sample, or rows that are locked"));
                }
                let columns = columns.get_or_insert_with(|| columns_read(query));
                let has = |attnum: &i16| match attnum {
                    0 => table.rows.are_whole(),
                    _ => table.table.image.iter().any(|column| column.attnum == *attnum),
                };
                if columns.get(&(i + 1)).is_some_and(|read| !read.iter().all(has)) {
                    return Err(cannot("it reads what is not logged"));
                }
                found.push((query, i + 1));
            }
        }
        Ok(())
    }
}

fn cannot(why: &str) -> SyncError {
    SyncError::new(code::FEATURE_NOT_SUPPORTED, "a policy cannot be put to tables as they were").detail(why)
}

/// Does this function have a body in standard SQL (`BEGIN ATOMIC`)? What that reads was found, and is read as it is now.
fn has_stored_body(function: pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::PROCOID as i32, pg_sys::Datum::from(function));
        if tuple.is_null() {
            return true;
        }
        let mut null = false;
        pg_sys::SysCacheGetAttr(
            pg_sys::SysCacheIdentifier::PROCOID as i32,
            tuple,
            pg_sys::Anum_pg_proc_prosqlbody as i16,
            &mut null,
        );
        pg_sys::ReleaseSysCache(tuple);
        !null
    }
}

/// May tables inherit from this one, which is locked?
fn has_children(relation: pg_sys::Oid) -> bool {
    // SAFETY: see above; it is closed again.
    unsafe {
        let open = pg_sys::relation_open(relation, pg_sys::NoLock as i32);
        let has = (*(*open).rd_rel).relhassubclass;
        pg_sys::relation_close(open, pg_sys::NoLock as i32);
        has
    }
}

impl FormerTable<'_> {
    /// Takes the first image of each key that has changed since the stamp.
    fn fill(&mut self, stamp: i64, entries: &Entries) -> Result<()> {
        let (mut id, mut before) = (String::new(), Before::Unknown);
        entries.each(&mut |key, changes| {
            if key != id {
                self.add(&id, std::mem::replace(&mut before, Before::Unknown))?;
                id = key.to_string();
            }
            if matches!(before, Before::Unknown) && changes[0].stamp >= stamp {
                before = first_state(changes)?;
            }
            Ok(true)
        })?;
        self.add(&id, before)
    }

    fn add(&mut self, id: &str, before: Before) -> Result<()> {
        match before {
            Before::Unknown => Ok(()),
            Before::Nothing => self.changed.add(id),
            Before::Row(image) => {
                self.changed.add(id)?;
                self.rows.add(&image)
            }
        }
    }

    /// The entry becomes one of a subquery with the same columns in the same places: `SELECT ... FROM table WHERE key NOT IN changed UNION
    /// ALL SELECT ... FROM former rows`, each under the conditions that the table's policies have put on the entry.
    ///
    /// # Safety
    /// The entry is the one of this number of the query, and of this table; what is read of it is in the images.
    unsafe fn replace(
        &self,
        query: *mut pg_sys::Query,
        at: usize,
        entry: *mut pg_sys::RangeTblEntry,
        environment: *mut pg_sys::QueryEnvironment,
    ) {
        // SAFETY: nodes of our own, and the entry's. Conditions refer to the entry by its number, in the subquery to the first one.
        unsafe {
            let hidden = !(*entry).securityQuals.is_null();
            whole::keep_type(query, entry, &self.rows);
            let conditions = (*entry).securityQuals;
            pg_sys::ChangeVarNodes(conditions.cast(), at as i32, 1, 0);
            let table = pg_sys::copyObjectImpl(entry.cast()).cast::<pg_sys::RangeTblEntry>();
            (*table).lateral = false;
            let present = query::select(&self.rows, table);
            let unchanged = self.not_changed(environment);
            (*(*present).jointree).quals = unchanged;
            (*present).hasSubLinks = true;
            query::move_permission(query, entry, present, table);
            let conditions = whole::as_rows(conditions, &self.rows);
            let past = query::select(&self.rows, query::entry_under(&self.rows, conditions, environment));
            (*past).hasSubLinks = pg_sys::checkExprHasSubLink(conditions.cast());
            query::become_subquery(entry, query::union_of(present, past));
            (*entry).securityQuals = std::ptr::null_mut();
            // The reader's own conditions wait for those of the policies.
            (*entry).security_barrier = hidden;
        }
    }

    /// `NOT table.key = ANY (SELECT FROM changed)`, the table being entry 1. What a policy asks by EXISTS is asked for each row, and NOT EXISTS in there would read
    /// all of the changed keys each time; a hash table of them is made once, if the planner lets it be made. (None of them is NULL.)
    ///
    /// # Safety
    /// The changed keys are registered in the environment.
    unsafe fn not_changed(&self, environment: *mut pg_sys::QueryEnvironment) -> *mut pg_sys::Node {
        // SAFETY: nodes of our own.
        unsafe {
            let keys = query::entry_named(self.changed.name(), environment);
            let changed = query::has_one_of(self.table, &self.rows, keys, self.changed.fit_into_hash_table());
            pg_sys::makeBoolExpr(pg_sys::BoolExprType::NOT_EXPR, list(&[changed]), -1).cast()
        }
    }
}

/// What these entries, of one key and transaction, say of the key before.
fn first_state(changes: &[Logged]) -> Result<Before> {
    let changes = || changes.iter().filter(|entry| !entry.is_notice());
    // The running transaction's entries show its own states.
    if changes().next().is_some_and(|first| first.op == Op::Insert && Some(first.stamp) == journal::own_stamp()) {
        return Ok(Before::Nothing);
    }
    if let Some(image) = changes().find_map(|entry| entry.image.clone()) {
        return Ok(Before::Row(image));
    }
    if changes().any(|entry| entry.op == Op::Insert) {
        return Ok(Before::Nothing);
    }
    match changes().any(|entry| entry.op == Op::Delete) {
        true => Err(cannot("a row's old values are not logged")),
        // What policies read of it is as it was.
        false => Ok(Before::Unknown),
    }
}
