//! Rows that were pushed, or that the log names, are looked up in the table by their key, whatever the planner makes of its other
//! indexes.
//!
//! Policies have an index as well, and plans are made for unknown users and numbers of rows. So the planner would read all rows of
//! the user, who may have thousands of times more than others (10 updates of a user with 200,000 of 1M rows: 46 ms instead of
//! 0.6), or all partitions. Telling it that there are few keys does not help where it expects one row of the user, too (tenant
//! and user, which it takes for independent): the user's index looks as cheap as the key's, and each key is compared with each of
//! the user's rows (a nested loop of 1,000 and 20,000: 6 s). In these statements it therefore hears of no other index than the key's.
//!
//! The keys that a pull looks up are those of rows that others have changed, too. So they are no parameters, which a plan made for
//! them holds as constants and settings like debug_print_plan show to the caller, but rows of a named tuplestore.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{c_char, CStr};

use pgrx::{pg_guard, pg_sys};

use crate::collections::catalog::Collection;
use crate::server::error::Result;
use crate::server::heap;
use crate::server::memory::{self, Gather};
use crate::server::pg;
use crate::server::spi::{self, Planned};
use crate::values::wire_id;

pub mod paths;

/// A source of keys has this alias in our SQL, by which the planner's hook knows statements that look rows up.
const KEYS_OF: &CStr = c"snapsync_keys";

/// One of more keys than are looked up, whatever is cheaper.
const MANY_KEYS: &CStr = c"snapsync_many_keys";

/// A smaller table is planned for as if it had so many pages and rows: few rows would be read from one end to the other, for
/// each key, and the plan stays when there are more.
const PAGES: u32 = 10_000;
const ROWS: f64 = 1_000_000.0;

thread_local! {
    /// The columns of the keys of the collections whose rows this backend has looked up.
    static KEYS: RefCell<HashMap<pg_sys::Oid, Vec<String>>> = RefCell::new(HashMap::new());
}

static mut NEXT_HOOK: pg_sys::get_relation_info_hook_type = None;

/// Whose turn it is after `on_relation`.
///
/// # Safety
/// Called once, by who hooks it in.
pub unsafe fn chain(next: pg_sys::get_relation_info_hook_type) {
    // SAFETY: a backend has one thread.
    unsafe { NEXT_HOOK = next };
}

/// The keys that a function gives, as rows `r(columns)` to join with the collection's table: it is looked up by its key.
pub fn keys(collection: &Collection, function: &str, columns: &str) -> String {
    keys_with(collection, function, columns, "")
}

/// The same with what is joined to them.
pub fn keys_with(collection: &Collection, function: &str, columns: &str, joined: &str) -> String {
    know(collection);
    format!("(SELECT * FROM {function} AS {}({columns}) {joined}) AS r", KEYS_OF.to_string_lossy())
}

/// The keys that a function gives, for which the planner may choose any index.
pub fn many_keys(function: &str, columns: &str) -> String {
    format!("(SELECT * FROM {function} AS {}({columns})) AS r", MANY_KEYS.to_string_lossy())
}

/// The collection's rows `t` of the keys that `rows` gives as `r(k0, k1, ...)`, for the FROM clause.
pub fn join(collection: &Collection, rows: &str) -> String {
    format!("{rows} JOIN {} AS t ON {}", collection.from, on(collection))
}

/// `t.id = r.k0`, for all parts of the key.
pub fn on(collection: &Collection) -> String {
    let key = collection.key.iter().enumerate();
    key.map(|(i, k)| format!("t.{} OPERATOR(pg_catalog.=) r.k{i}", k.ident)).collect::<Vec<_>>().join(" AND ")
}

/// `t.id`, for all parts of the key: the order in which rows are locked.
pub fn order(collection: &Collection) -> String {
    collection.key.iter().map(|k| format!("t.{}", k.ident)).collect::<Vec<_>>().join(", ")
}

/// Tells the planner's hook by which columns the collection's rows are looked up.
pub fn know(collection: &Collection) {
    KEYS.with_borrow_mut(|keys| {
        let names = collection.key_names();
        if keys.get(&collection.relation).is_none_or(|known| *known != names) {
            keys.insert(collection.relation, names.into_iter().map(str::to_string).collect());
        }
    });
}

/// Up to so many rows are looked up (6.6 ms for 1,000 of a user's 200,000, where any other plan takes 13), and of a large table up to one in
/// `ONE_IN`, if they are no more than `MOST_LOOKED_UP`; for more, PostgreSQL chooses. It takes a page for read from the disk, so it would read all of
/// the table for one row in 190, which takes ten times as long as a look-up of one in 50.
const LOOKED_UP: usize = 1000;
const ONE_IN: usize = 50;
const MOST_LOOKED_UP: usize = 10_000;

/// Are so many keys looked up, whatever PostgreSQL would choose?
fn are_looked_up(collection: &Collection, count: usize) -> bool {
    if !(LOOKED_UP + 1..=MOST_LOOKED_UP).contains(&count) {
        return count <= LOOKED_UP;
    }
    pg::lock_for_reading(collection.relation);
    (count * ONE_IN) as f64 <= heap::rows_then(collection.relation)
}

/// Up to so many under a plan made once. For more it is worth its 0.3 ms to plan for just so many: a policy's table without an index is
/// then read once for all of them, and not once for each.
const PLANNED_ONCE: usize = 100;

/// For so many rows plans that are made once are made.
const ROWS_PLANNED_FOR: f64 = 10.0;

/// Keys of a collection's rows, as a relation `r(k0, k1, ...)` that a statement can join with the table.
pub struct Keys<'a> {
    collection: &'a Collection,
    name: Cow<'static, CStr>,
    store: *mut pg_sys::Tuplestorestate,
    descriptor: pg_sys::TupleDesc,
    inputs: Vec<(pg_sys::FmgrInfo, pg_sys::Oid)>,
    /// So many ids were given, and so many of them are in the store.
    given: usize,
    count: usize,
    /// For what is made of a key to be put into the store.
    per_row: pg::PerRow,
}

impl<'a> Keys<'a> {
    /// The rows of these wire ids, in this order.
    pub fn of<S: AsRef<str>>(collection: &'a Collection, ids: &[S]) -> Result<Keys<'a>> {
        Keys::filled(collection, ids, false)
    }

    /// The same with a column behind the key's: the place of the id among these.
    pub fn numbered<S: AsRef<str>>(collection: &'a Collection, ids: &[S]) -> Result<Keys<'a>> {
        Keys::filled(collection, ids, true)
    }

    fn filled<S: AsRef<str>>(collection: &'a Collection, ids: &[S], numbered: bool) -> Result<Keys<'a>> {
        // numeric's comparison is not leakproof, so under row-level security to look up is to read the table each time.
        let equal_texts = collection.key.iter().any(|k| k.facts.has_equal_texts());
        let few = are_looked_up(collection, ids.len()) && !(equal_texts && pg::rls_active(collection.relation));
        let mut keys = Keys::empty(collection, Cow::Borrowed(if few { KEYS_OF } else { MANY_KEYS }), numbered)?;
        ids.iter().try_for_each(|id| keys.add(id.as_ref()))?;
        Ok(keys)
    }

    /// None yet, under a name that the planner's hook does not know.
    pub fn named(collection: &'a Collection, name: Cow<'static, CStr>) -> Result<Keys<'a>> {
        Keys::empty(collection, name, false)
    }

    fn empty(collection: &'a Collection, name: Cow<'static, CStr>, numbered: bool) -> Result<Keys<'a>> {
        // SAFETY: the descriptor has as many attributes as are filled. What is allocated here lives in the current memory context.
        unsafe {
            let columns = collection.key.len();
            let descriptor = pg_sys::CreateTemplateTupleDesc(columns as i32 + i32::from(numbered));
            let mut inputs = Vec::with_capacity(columns);
            for (i, column) in collection.key.iter().enumerate() {
                let label = spi::c_string(&format!("k{i}"))?;
                let base = column.facts.base;
                pg_sys::TupleDescInitEntry(descriptor, i as i16 + 1, label.as_ptr(), base, -1, 0);
                let (mut function, mut parameter) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
                pg_sys::getTypeInputInfo(base, &mut function, &mut parameter);
                let mut input = pg_sys::FmgrInfo::default();
                pg_sys::fmgr_info(function, &mut input);
                inputs.push((input, parameter));
            }
            if numbered {
                let place = columns as i16 + 1;
                pg_sys::TupleDescInitEntry(descriptor, place, c"place".as_ptr(), pg_sys::INT8OID, -1, 0);
            }
            let store = pg_sys::tuplestore_begin_heap(false, false, pg_sys::work_mem);
            let per_row = pg::PerRow::new(c"snapsync key");
            Ok(Keys { collection, name, store, descriptor, inputs, given: 0, count: 0, per_row })
        }
    }

    /// Adds the row of a wire id. It is the trigger's, so it reads back; an entry of a key that has since changed its columns was reset.
    pub fn add(&mut self, id: &str) -> Result<()> {
        memory::heed();
        let (columns, place) = (self.inputs.len(), self.given);
        self.given += 1;
        let Ok(parts) = wire_id::decode(id, columns) else { return Ok(()) };
        let mut nulls = vec![false; columns + 1];
        let mut values = Vec::with_capacity(columns + 1);
        let (store, descriptor, inputs) = (self.store, self.descriptor, &mut self.inputs);
        // SAFETY: the arrays have a place for each attribute of the descriptor. The store copies the row; what an input function keeps lives where
        // it was looked up.
        unsafe {
            self.per_row.run(|| -> Result<()> {
                for (part, (input, parameter)) in parts.iter().zip(inputs) {
                    let part = spi::c_string(part)?;
                    values.push(pg_sys::InputFunctionCall(input, part.as_ptr().cast_mut(), *parameter, -1));
                }
                // (It is not looked at where the descriptor has no column for it.)
                values.push(pg_sys::Datum::from(place as i64));
                pg_sys::tuplestore_putvalues(store, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
                Ok(())
            })?;
        }
        self.count += 1;
        Ok(())
    }

    pub fn name(&self) -> &CStr {
        if *self.name == *KEYS_OF {
            know(self.collection);
        }
        &self.name
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// The rows of these keys, for the FROM clause.
    pub fn join(&self) -> String {
        let name = self.name().to_string_lossy();
        // numeric: a row comes once, also if its key was written in two ways.
        if self.collection.key.iter().any(|k| k.facts.has_equal_texts()) {
            return join(self.collection, &format!("(SELECT DISTINCT * FROM {name}) AS r"));
        }
        join(self.collection, &format!("{name} AS r"))
    }

    /// The condition that the collection's row `t` has none of these keys. (A hash table of them is made once, wherever it is asked; by NOT EXISTS
    /// the planner would compare each row with each key where it expects one row, also where there are many.)
    pub fn without(&self) -> String {
        let (name, key) = (self.name().to_string_lossy(), &self.collection.key);
        if !self.fit_into_hash_table() {
            return format!("NOT EXISTS (SELECT FROM {name} AS r WHERE {})", on(self.collection));
        }
        let own: Vec<String> = key.iter().map(|k| format!("t.{}", k.ident)).gather();
        let keys: Vec<String> = (0..key.len()).map(|i| format!("r.k{i}")).gather();
        format!("NOT ({}) OPERATOR(pg_catalog.=) ANY (SELECT {} FROM {name} AS r)", own.join(", "), keys.join(", "))
    }

    /// Does the planner let a hash table of them be made?
    pub fn fit_into_hash_table(&self) -> bool {
        fit_into_hash_table(self.collection.key.iter().map(|k| k.facts.base), self.count)
    }

    pub fn planned(&self) -> Planned {
        if *self.name == *KEYS_OF && self.count <= PLANNED_ONCE {
            Planned::Once
        } else {
            Planned::Anew
        }
    }

    /// What a statement that names it needs beside the tables.
    pub fn relation(&self) -> spi::NamedRelation {
        let rows = if self.planned() == Planned::Once { ROWS_PLANNED_FOR } else { self.count as f64 };
        spi::named_relation(&self.name, self.descriptor, self.store, rows)
    }
}

impl Drop for Keys<'_> {
    fn drop(&mut self) {
        // While an ERROR unwinds through us the abort closes its files, and the memory goes with its context.
        if !std::thread::panicking() {
            // SAFETY: no statement reads it any more.
            unsafe { pg_sys::tuplestore_end(self.store) }
        }
    }
}

/// Is this id, which reads back, written as the server writes it?
pub fn is_as_written(collection: &Collection, id: &str) -> Result<bool> {
    let Ok(parts) = wire_id::decode(id, collection.key.len()) else { return Ok(false) };
    let _scratch = pg::Scratch::new(c"snapsync id");
    for (part, column) in parts.iter().zip(&collection.key) {
        let (mut function, mut is_varlena) = (pg_sys::InvalidOid, false);
        let Some(value) = spi::input(column.facts.base, part)?.datum else { return Ok(false) };
        // SAFETY: a value of an existing type, whose output function gives a text that ends with a zero.
        let text = unsafe {
            pg_sys::getTypeOutputInfo(column.facts.base, &mut function, &mut is_varlena);
            CStr::from_ptr(pg_sys::OidOutputFunctionCall(function, value))
        };
        if text.to_bytes() != part.as_bytes() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Does the planner let a hash table of so many rows of these types be made? (As subplan_is_hashable in plan/subselect.c estimates it, and twice that.) Where it does
/// not, it has them read one by one for each row that it asks about.
fn fit_into_hash_table(types: impl Iterator<Item = pg_sys::Oid>, count: usize) -> bool {
    const HEADER: usize = 24;
    // SAFETY: look-ups.
    unsafe {
        let width: usize = types.map(|base| pg_sys::get_typavgwidth(base, -1) as usize + 8).sum();
        count.saturating_mul(2 * (HEADER + width)) <= pg_sys::get_hash_memory_limit()
    }
}

/// Values of one type as a relation with the column `v`.
pub struct TextStore {
    store: *mut pg_sys::Tuplestorestate,
    descriptor: pg_sys::TupleDesc,
    count: usize,
}

impl TextStore {
    /// From their texts, which read back.
    pub fn of(base: pg_sys::Oid, texts: &[String]) -> Result<TextStore> {
        // SAFETY: as for `Keys`.
        unsafe {
            let descriptor = pg_sys::CreateTemplateTupleDesc(1);
            pg_sys::TupleDescInitEntry(descriptor, 1, c"v".as_ptr(), base, -1, 0);
            let (mut function, mut parameter) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
            pg_sys::getTypeInputInfo(base, &mut function, &mut parameter);
            let store = pg_sys::tuplestore_begin_heap(false, false, pg_sys::work_mem);
            let values = TextStore { store, descriptor, count: texts.len() };
            let per_row = pg::PerRow::new(c"snapsync text");
            for text in texts {
                memory::heed();
                let text = spi::c_string(text)?;
                per_row.run(|| {
                    let mut value = pg_sys::OidInputFunctionCall(function, text.as_ptr().cast_mut(), parameter, -1);
                    pg_sys::tuplestore_putvalues(store, descriptor, &mut value, &mut false);
                });
            }
            Ok(values)
        }
    }

    /// Does the planner let a hash table of them be made?
    pub fn fit_into_hash_table(&self) -> bool {
        // SAFETY: a descriptor of one column.
        let base = unsafe { pg::attribute(self.descriptor, 0) }.atttypid;
        fit_into_hash_table([base].into_iter(), self.count)
    }

    /// What a statement that names it so needs beside the tables.
    pub fn relation(&self, name: &CStr) -> spi::NamedRelation {
        spi::named_relation(name, self.descriptor, self.store, self.count as f64)
    }
}

impl Drop for TextStore {
    fn drop(&mut self) {
        // As for `Keys`.
        if !std::thread::panicking() {
            // SAFETY: no statement reads it any more.
            unsafe { pg_sys::tuplestore_end(self.store) }
        }
    }
}

/// The planner has read what it has to know of a relation.
///
/// # Safety
/// Called by the planner.
#[pg_guard]
pub unsafe extern "C-unwind" fn on_relation(
    root: *mut pg_sys::PlannerInfo,
    relation: pg_sys::Oid,
    inhparent: bool,
    rel: *mut pg_sys::RelOptInfo,
) {
    // SAFETY: the planner's structures, in the planner; the lists hold what their names say.
    unsafe {
        if let Some(next) = NEXT_HOOK {
            next(root, relation, inhparent, rel);
        }
        // (Only in statements of ours: others may have such an alias.)
        if !spi::is_any() {
            return;
        }
        let Some(key) = KEYS.with_borrow(|keys| keys.get(&collection_of(root, rel)).cloned()) else { return };
        if !names_any((*(*root).parse).rtable, &|name| name == KEYS_OF) {
            return;
        }
        let mut kept: *mut pg_sys::List = std::ptr::null_mut();
        for index in spi::pointers::<pg_sys::IndexOptInfo>((*rel).indexlist) {
            if is_of_key(relation, index, &key) {
                kept = pg_sys::lappend(kept, index.cast());
            }
        }
        // A foreign table that is a partition has none.
        if !kept.is_null() {
            (*rel).indexlist = kept;
            (*rel).pages = (*rel).pages.max(PAGES);
            (*rel).tuples = (*rel).tuples.max(ROWS);
        }
    }
}

/// Is the name of one of our sources among these, or in a subquery among them (rows that are locked, to be updated by their ctid)?
///
/// # Safety
/// The range table of a query.
unsafe fn names_any(rtable: *mut pg_sys::List, is_ours: &dyn Fn(&CStr) -> bool) -> bool {
    // SAFETY: a list of RangeTblEntry, whose aliases the parser has made.
    unsafe {
        spi::pointers::<pg_sys::RangeTblEntry>(rtable).into_iter().any(|rte| match (*rte).rtekind {
            pg_sys::RTEKind::RTE_FUNCTION => is_ours(CStr::from_ptr((*(*rte).eref).aliasname)),
            pg_sys::RTEKind::RTE_NAMEDTUPLESTORE => is_ours(CStr::from_ptr((*rte).enrname)),
            pg_sys::RTEKind::RTE_SUBQUERY => {
                !(*rte).subquery.is_null() && names_any((*(*rte).subquery).rtable, is_ours)
            }
            _ => false,
        })
    }
}

/// The table that the query names, of which this one may be a partition.
///
/// # Safety
/// The planner's structures.
unsafe fn collection_of(root: *mut pg_sys::PlannerInfo, rel: *mut pg_sys::RelOptInfo) -> pg_sys::Oid {
    // SAFETY: the arrays have a place for each relation of the query; append_rel_array is NULL where nothing is inherited.
    unsafe {
        let (parents, mut at) = ((*root).append_rel_array, (*rel).relid);
        while !parents.is_null() && !(*parents.add(at as usize)).is_null() {
            at = (**parents.add(at as usize)).parent_relid;
        }
        (**(*root).simple_rte_array.add(at as usize)).relid
    }
}

/// Is this a unique index on just these columns? (By name: those of a partition may stand in another order.)
///
/// # Safety
/// An index of this relation, as the planner knows it.
unsafe fn is_of_key(relation: pg_sys::Oid, index: *mut pg_sys::IndexOptInfo, key: &[String]) -> bool {
    let collation = |attnum| {
        let (mut oid, mut modifier, mut collation) = (pg_sys::InvalidOid, 0, pg_sys::InvalidOid);
        // SAFETY: a column that an index is on.
        unsafe { pg_sys::get_atttypetypmodcoll(relation, attnum, &mut oid, &mut modifier, &mut collation) };
        collation
    };
    // SAFETY: `indexkeys` and `indexcollations` have a place for each key column; 0 is an expression.
    unsafe {
        let index = &*index;
        let is_key_column = |at: usize| {
            let attnum = *index.indexkeys.add(at) as i16;
            attnum > 0 && {
                let name = pg_sys::get_attname(relation, attnum, true);
                !name.is_null()
                    && key.iter().any(|k| k.as_bytes() == CStr::from_ptr(name as *const c_char).to_bytes())
                    // An index in another collation does not serve `=`.
                    && *index.indexcollations.add(at) == collation(attnum)
            }
        };
        index.unique
            && index.immediate
            && index.indpred.is_null()
            && index.nkeycolumns as usize == key.len()
            && (0..key.len()).all(is_key_column)
    }
}
