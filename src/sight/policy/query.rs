//! The query that puts a condition to old rows: built, not parsed. No text is in it, so no setting and no search path has a say in what it
//! means, and no name is looked up that somebody could take in the meantime; nor are the rows in it, so whatever shows queries and plans
//! shows none of them.

use std::ffi::CStr;

use pgrx::pg_sys::{self, NodeTag};

use super::former::Former;
use super::whole;
use super::Shadow;
use crate::collections::catalog::Collection;
use crate::collections::lookup::Keys;
use crate::policies::access::tree::walk;
use crate::server::error::{code, Result, SyncError};
use crate::server::memory;
use crate::server::node::{list, node};
use crate::server::pg;
use crate::server::session::{self, Event};
use crate::server::spi::pointers;
use crate::server::statement::{
    self,
    kept::{self, Key},
};
use crate::sight::old_rows::OldRows;

/// The numbers (`OldRows`) of the rows that satisfy the conditions for the current role, under the active snapshot; each condition is put
/// only to rows that pass those before. With a key, the plan is kept for the next.
///
/// # Safety
/// The conditions are policies' over columns of the rows' table as range table entry 1, locked or not.
pub(super) unsafe fn satisfying(
    rows: &OldRows,
    planned_for: f64,
    conditions: *mut pg_sys::List,
    shadows: &[Shadow],
    former: Option<&Former>,
    mut key: Option<Key>,
) -> Result<Vec<i64>> {
    const TEXT: &CStr = c"snapsync: old rows";
    let mut found = Vec::new();
    // SAFETY: a copy of the conditions that nobody else refers to; the environment outlives the execution.
    unsafe {
        let (environment, no_params) = (pg_sys::create_queryEnv(), std::ptr::null_mut());
        pg_sys::register_ENR(environment, rows.relation(planned_for));
        shadows.iter().for_each(|s| pg_sys::register_ENR(environment, s.rows.relation(s.rows.count() as f64)));
        former.iter().for_each(|former| former.register(environment));
        let plan = match key.as_ref().and_then(kept::find) {
            Some(plan) => plan,
            None => {
                let generation = session::count(Event::Plan);
                let conditions = pg_sys::copyObjectImpl(conditions.cast()).cast();
                let tree = query(rows, conditions, shadows, environment)?;
                let plan = statement::plan(tree, TEXT, no_params, |rewritten| {
                    former.map_or(Ok(()), |former| former.put_into(rewritten.cast(), environment))?;
                    kept::decide(&mut key, rewritten)
                })?;
                kept::keep(key, plan, generation);
                plan
            }
        };
        let mut each = |slot| {
            memory::extend(&mut found, crate::server::slot::value(slot, 1).map(|number| number.value() as i64));
            true
        };
        statement::run_unheard(plan, TEXT, no_params, environment, &mut each);
    }
    Ok(found)
}

/// With which rows of other tables policies' parts are asked, besides those that stand.
#[derive(Clone, Copy, Default)]
pub(in crate::sight) struct Past<'p> {
    /// Put back.
    pub shadows: &'p [Shadow],
    /// In place of those that stand.
    pub former: Option<&'p Former<'p>>,
}

/// What it takes to plan for a table, in the planner's units (a quarter of a millisecond).
const PLANNED: f64 = 25.0;

/// What became of a query.
pub(in crate::sight) enum Put {
    Answered,
    /// There is no kept plan.
    Unplanned,
    /// It would be too dear, or might say something else if it were asked again.
    Declined,
}

/// Gives the rows of a query that was made of a policy's parts (policies/scope/bound.rs) to `each`, as long as that wants more, for the current
/// role, under the active snapshot, with these rows put back, or with tables as they were. `affords` says whether it may cost so much, in the planner's units. (How many rows
/// the planner expects says little: of a condition with a subquery, as policies have them, it expects half of the table to satisfy it.) Where nothing
/// is put back, the plan is kept under the key, if there is one.
///
/// # Safety
/// A query of our own, which is changed; None: there may be a kept plan.
pub(in crate::sight) unsafe fn part(
    part: Option<*mut pg_sys::Query>,
    past: &Past,
    key: Option<Key>,
    affords: &mut dyn FnMut(f64) -> Result<bool>,
    each: &mut dyn FnMut(*mut pg_sys::TupleTableSlot) -> bool,
) -> Result<Put> {
    const TEXT: &CStr = c"snapsync: scopes";
    // SAFETY: a query that nobody else refers to; the environment outlives the execution.
    unsafe {
        let (environment, no_params) = (pg_sys::create_queryEnv(), std::ptr::null_mut());
        let Past { shadows, former } = *past;
        shadows.iter().for_each(|s| pg_sys::register_ENR(environment, s.rows.relation(s.rows.count() as f64)));
        former.iter().for_each(|former| former.register(environment));
        let mut key = key.filter(|_| shadows.is_empty() && former.is_none());
        let kept = key.as_ref().and_then(kept::find);
        let plan = match (kept, part) {
            (Some(plan), _) => plan,
            (None, None) => return Ok(Put::Unplanned),
            (None, Some(query)) => {
                let generation = session::count(Event::Plan);
                shadows.iter().try_for_each(|shadow| put_back(query.cast(), shadow, environment))?;
                pg_sys::AcquireRewriteLocks(query, true, false);
                let change = |rewritten: *mut pg_sys::Query| {
                    let Some(former) = former else { return Ok(()) };
                    // Each level of tables that have changed is planned twice.
                    match affords(former.weight(rewritten.cast()) * PLANNED)? {
                        true => former.put_into(rewritten.cast(), environment),
                        false => Err(SyncError::new(code::PROGRAM_LIMIT, "policies read too many tables")),
                    }
                };
                let Some(plan) = statement::plan_steady(query, TEXT, &mut key, change)? else {
                    return Ok(Put::Declined);
                };
                kept::keep(key, plan, generation);
                plan
            }
        };
        if !affords((*(*plan).planTree).total_cost)? {
            return Ok(Put::Declined);
        }
        statement::run_unheard(plan, TEXT, no_params, environment, each);
        Ok(Put::Answered)
    }
}

/// `SELECT number FROM old rows`, with the conditions where row-level security has them; what they read is locked, as rewriting a stored
/// rule would lock it.
///
/// # Safety
/// As for `satisfying`; the conditions are changed. Rows and shadows are registered in the environment.
unsafe fn query(
    rows: &OldRows,
    conditions: *mut pg_sys::List,
    shadows: &[Shadow],
    environment: *mut pg_sys::QueryEnvironment,
) -> Result<*mut pg_sys::Query> {
    // SAFETY: nodes of our own, and the conditions'.
    unsafe {
        refuse_what_rows_lack(conditions, rows)?;
        shadows.iter().try_for_each(|shadow| put_back(conditions.cast(), shadow, environment))?;
        // Nothing else is asked, so the last of them stands behind the others where the planner can make a join of it, too.
        let conditions = whole::as_rows(conditions, rows);
        let has_sublinks = pg_sys::checkExprHasSubLink(conditions.cast());
        let levels = pointers::<pg_sys::Node>(conditions);
        let (last, before) = levels.split_last().map_or((std::ptr::null_mut(), &[][..]), |(last, rest)| (*last, rest));
        let query = select(rows, entry_under(rows, list(before), environment));
        (*(*query).jointree).quals = last;
        let number = pg_sys::makeVar(1, rows.number_column(), pg_sys::INT8OID, -1, pg_sys::InvalidOid, 0);
        let name = pg_sys::pstrdup(c"number".as_ptr());
        (*query).targetList = list(&[pg_sys::makeTargetEntry(number.cast(), 1, name, false)]);
        (*query).hasSubLinks = has_sublinks;
        pg_sys::AcquireRewriteLocks(query, true, false);
        Ok(query)
    }
}

/// Old rows, and those that are read from the table, have no system columns (the planner would write before its arrays for one), nor virtual ones.
///
/// # Safety
/// Expressions over the columns of the rows' table as range table entry 1, which are only read.
unsafe fn refuse_what_rows_lack(conditions: *mut pg_sys::List, rows: &OldRows) -> Result<()> {
    let mut lacks = false;
    // SAFETY: nodes with this tag are of this type; a syscache look-up of a column that a stored tree names.
    unsafe {
        walk(conditions.cast(), &mut |inner, depth| {
            if (*inner).type_ != NodeTag::T_Var {
                return;
            }
            let var = &*inner.cast::<pg_sys::Var>();
            if var.varno == 1 && var.varlevelsup == depth {
                let is_virtual = |at| pg_sys::get_attgenerated(rows.table(), at) as u8 == b'v';
                lacks |= var.varattno < 0 || var.varattno > 0 && is_virtual(var.varattno);
            }
        });
    }
    if lacks {
        return Err(SyncError::new(code::FEATURE_NOT_SUPPORTED, "a policy reads a column that old rows do not have"));
    }
    Ok(())
}

/// Adds the rows of these keys that stand in the table now, whoever may see them, each under its key's number: what the caller learns is only whether any
/// concerns him. They are read past row-level security, because the tree is not rewritten, and without the privilege to select. What can run is SQL of the table's
/// owner and of those who own parts of it (of an index, of a generated column), as the current role.
pub(super) fn add_present(rows: &mut OldRows, table: &Collection, keys: &Keys) -> Result<()> {
    // SAFETY: nodes of our own. The table is locked (`catalog::tracked`), so it stays what it is while it is open. The environment
    // outlives the execution.
    unsafe {
        let environment = pg_sys::create_queryEnv();
        pg_sys::register_ENR(environment, keys.relation());
        let relation = pg_sys::relation_open(table.relation, pg_sys::NoLock as i32);
        let state = pg_sys::make_parsestate(std::ptr::null_mut());
        let (lock, no_alias) = (pg_sys::AccessShareLock as i32, std::ptr::null_mut());
        let inherited = (*(*relation).rd_rel).relkind as u8 == pg_sys::RELKIND_PARTITIONED_TABLE;
        let entry = (*pg_sys::addRangeTableEntryForRelation(state, relation, lock, no_alias, inherited, true)).p_rte;
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
        #[cfg(feature = "pg15")]
        {
            (*entry).requiredPerms = 0;
        }
        let query = select(rows, entry);
        #[cfg(not(feature = "pg15"))]
        {
            let permission = pg_sys::getRTEPermissionInfo((*state).p_rteperminfos, entry);
            (*permission).requiredPerms = 0;
            (*query).rteperminfos = (*state).p_rteperminfos;
        }
        let number = rows.number_column();
        let place = key_column(2, table.key.len() as i16 + 1, pg_sys::INT8OID);
        let target = pg_sys::makeTargetEntry(place.cast(), number, pg_sys::pstrdup(c"number".as_ptr()), false);
        (*query).targetList = pg_sys::lappend((*query).targetList, target.cast());
        (*query).rtable = list(&[entry, entry_named(keys.name(), environment)]);
        let same = same_key(table, rows, (1, 0), 2);
        (*query).jointree = pg_sys::makeFromExpr(list(&[reference(1), reference(2)]), same);
        let mut each = |slot| {
            rows.add_slot(slot);
            true
        };
        statement::execute_unrewritten(query, c"snapsync: rows by key", environment, &mut each);
        Ok(())
    }
}

/// `table.key = keys.key`, the table being an entry of some query around (number, levels up), the keys an entry of this one.
///
/// # Safety
/// Rows of this table; both are read as entries of these numbers.
unsafe fn same_key(table: &Collection, rows: &OldRows, of_table: (i32, u32), of_keys: i32) -> *mut pg_sys::Node {
    // SAFETY: columns that the keys have; nodes of our own.
    unsafe { key_is(table, rows, of_table, |i, base| key_column(of_keys, i, base).cast()) }
}

/// A column of keys (`Keys`), or their number, which are an entry of this number.
///
/// # Safety
/// A built-in type.
unsafe fn key_column(keys: i32, i: i16, base: pg_sys::Oid) -> *mut pg_sys::Var {
    // SAFETY: a look-up; a node of our own.
    unsafe { pg_sys::makeVar(keys, i, base, -1, pg_sys::get_typcollation(base), 0) }
}

/// The same with what `key` gives for each column of the key, by number from 1 and type.
///
/// # Safety
/// As above.
unsafe fn key_is(
    table: &Collection,
    rows: &OldRows,
    (number, up): (i32, u32),
    key: impl Fn(i16, pg_sys::Oid) -> *mut pg_sys::Expr,
) -> *mut pg_sys::Node {
    let mut same: *mut pg_sys::List = std::ptr::null_mut();
    // SAFETY: columns that the table has; nodes of our own.
    unsafe {
        for (i, column) in table.key.iter().enumerate() {
            let own = pg::attribute(rows.descriptor(), column.attnum as usize - 1);
            let own = pg_sys::makeVar(number, column.attnum, own.atttypid, own.atttypmod, own.attcollation, up);
            let base = column.facts.base;
            same = pg_sys::lappend(same, equal(own, key(i as i16 + 1, base), base).cast());
        }
        pg_sys::make_ands_explicit(same).cast()
    }
}

/// `table.key = ANY (SELECT the keys)`, the table being entry 1 of the query around; or the same by EXISTS, if they are not to be hashed.
///
/// # Safety
/// The keys are a range table entry of this table's.
pub(super) unsafe fn has_one_of(
    table: &Collection,
    rows: &OldRows,
    keys: *mut pg_sys::RangeTblEntry,
    hashed: bool,
) -> *mut pg_sys::Node {
    // SAFETY: nodes of our own.
    unsafe {
        let query: *mut pg_sys::Query = node(NodeTag::T_Query);
        (*query).commandType = pg_sys::CmdType::CMD_SELECT;
        (*query).canSetTag = true;
        (*query).rtable = list(&[keys]);
        let same = if hashed { std::ptr::null_mut() } else { same_key(table, rows, (1, 1), 1) };
        (*query).jointree = pg_sys::makeFromExpr(list(&[reference(1)]), same);
        let link: *mut pg_sys::SubLink = node(NodeTag::T_SubLink);
        (*link).subLinkType = pg_sys::SubLinkType::EXISTS_SUBLINK;
        (*link).subselect = query.cast();
        (*link).location = -1;
        if hashed {
            (*link).subLinkType = pg_sys::SubLinkType::ANY_SUBLINK;
            for (i, column) in (1..).zip(&table.key) {
                let value = key_column(1, i, column.facts.base).cast();
                let target = pg_sys::makeTargetEntry(value, i, std::ptr::null_mut(), false);
                (*query).targetList = pg_sys::lappend((*query).targetList, target.cast());
            }
            (*link).testexpr = key_is(table, rows, (1, 0), |i, base| output(i, base).cast());
        }
        link.cast()
    }
}

/// A column that a subquery gives, in the test of its ANY.
///
/// # Safety
/// A built-in type.
unsafe fn output(i: i16, base: pg_sys::Oid) -> *mut pg_sys::Param {
    let output: *mut pg_sys::Param = node(NodeTag::T_Param);
    // SAFETY: a look-up; just made.
    unsafe {
        (*output).paramkind = pg_sys::ParamKind::PARAM_SUBLINK;
        (*output).paramid = i32::from(i);
        (*output).paramtype = base;
        (*output).paramtypmod = -1;
        (*output).paramcollid = pg_sys::get_typcollation(base);
        (*output).location = -1;
    }
    output
}

/// `own = key`, by the type's own equality.
///
/// # Safety
/// The first is of this type or of a domain over it, the second of this type, which has an equality.
unsafe fn equal(own: *mut pg_sys::Var, key: *mut pg_sys::Expr, base: pg_sys::Oid) -> *mut pg_sys::Expr {
    // SAFETY: look-ups of a built-in type; nodes of our own.
    unsafe {
        let operator = (*pg_sys::lookup_type_cache(base, pg_sys::TYPECACHE_EQ_OPR as i32)).eq_opr;
        let (mut left, mut right) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
        pg_sys::op_input_types(operator, &mut left, &mut right);
        // varchar's equality is that of text.
        let as_input = |value: *mut pg_sys::Expr| -> *mut pg_sys::Expr {
            if pg_sys::exprType(value.cast()) == left {
                return value;
            }
            let implicit = pg_sys::CoercionForm::COERCE_IMPLICIT_CAST;
            let collation = pg_sys::exprCollation(value.cast());
            pg_sys::makeRelabelType(value, left, -1, collation, implicit).cast()
        };
        let collation = (*own).varcollid;
        let (bool, no_collation) = (pg_sys::BOOLOID, pg_sys::InvalidOid);
        pg_sys::make_opclause(operator, bool, false, as_input(own.cast()), as_input(key), no_collation, collation)
    }
}

/// The rows as a range table entry.
///
/// # Safety
/// They are registered in the environment.
pub(super) unsafe fn entry_of(
    rows: &OldRows,
    environment: *mut pg_sys::QueryEnvironment,
) -> *mut pg_sys::RangeTblEntry {
    // SAFETY: see above.
    unsafe { entry_named(rows.name(), environment) }
}

/// The same under conditions of row-level security: each is put only to rows that pass those before, and all of them before whatever
/// else the query asks for.
///
/// # Safety
/// As for `entry_of`; the conditions are nobody else's.
pub(super) unsafe fn entry_under(
    rows: &OldRows,
    conditions: *mut pg_sys::List,
    environment: *mut pg_sys::QueryEnvironment,
) -> *mut pg_sys::RangeTblEntry {
    // SAFETY: see above.
    unsafe {
        let entry = entry_of(rows, environment);
        (*entry).securityQuals = conditions;
        entry
    }
}

/// A named relation as a range table entry.
///
/// # Safety
/// The relation is registered in the environment.
pub(super) unsafe fn entry_named(
    name: &CStr,
    environment: *mut pg_sys::QueryEnvironment,
) -> *mut pg_sys::RangeTblEntry {
    // SAFETY: the parser's own function, with a state that knows the environment.
    unsafe {
        let state = pg_sys::make_parsestate(std::ptr::null_mut());
        (*state).p_queryEnv = environment;
        let name = pg_sys::makeRangeVar(std::ptr::null_mut(), name.as_ptr().cast_mut(), -1);
        (*pg_sys::addRangeTableEntryForENR(state, name, true)).p_rte
    }
}

/// # Safety
/// None: a node of our own.
pub(super) unsafe fn reference(entry: i32) -> *mut pg_sys::RangeTblRef {
    let reference: *mut pg_sys::RangeTblRef = node(NodeTag::T_RangeTblRef);
    // SAFETY: just made.
    unsafe { (*reference).rtindex = entry };
    reference
}

/// Lets the subqueries of the condition read the shadow's table as it was: what stands there, and its rows that are gone.
///
/// # Safety
/// As for `satisfying`; the shadow is registered in the environment.
unsafe fn put_back(
    condition: *mut pg_sys::Node,
    shadow: &Shadow,
    environment: *mut pg_sys::QueryEnvironment,
) -> Result<()> {
    let mut found: Vec<(*mut pg_sys::Query, *mut pg_sys::RangeTblEntry)> = Vec::new();
    // SAFETY: nodes with this tag are queries. They are changed when the walk is over.
    unsafe {
        walk(condition, &mut |inner, _| {
            if (*inner).type_ == NodeTag::T_Query {
                let query = inner.cast::<pg_sys::Query>();
                for entry in pointers::<pg_sys::RangeTblEntry>((*query).rtable) {
                    if (*entry).rtekind == pg_sys::RTEKind::RTE_RELATION && (*entry).relid == shadow.table.relation {
                        found.push((query, entry));
                    }
                }
            }
        });
        for (query, entry) in found {
            // A sample of a table, or rows that are locked, are those of a stored table.
            if !(*entry).tablesample.is_null() || !(*query).rowMarks.is_null() {
                return Err(SyncError::new(code::FEATURE_NOT_SUPPORTED, "old rows cannot be sampled nor locked"));
            }
            become_union(query, entry, shadow, environment);
        }
    }
    Ok(())
}

/// The entry of a table becomes one of a subquery with the same columns in the same places: `SELECT ... FROM table UNION ALL SELECT ...
/// FROM old rows`.
///
/// # Safety
/// As for `put_back`; the entry is of the query.
unsafe fn become_union(
    query: *mut pg_sys::Query,
    entry: *mut pg_sys::RangeTblEntry,
    shadow: &Shadow,
    environment: *mut pg_sys::QueryEnvironment,
) {
    // SAFETY: nodes of our own, of the shapes that the parser gives them.
    unsafe {
        whole::keep_type(query, entry, &shadow.rows);
        let table = pg_sys::copyObjectImpl(entry.cast()).cast::<pg_sys::RangeTblEntry>();
        (*table).lateral = false;
        let present = select(&shadow.rows, table);
        move_permission(query, entry, present, table);
        let past = select(&shadow.rows, entry_of(&shadow.rows, environment));
        become_subquery(entry, union_of(present, past));
        (*entry).security_barrier = false;
    }
}

/// The rights that the policy's author had checked on a table stay on the table: on `table`, the copy of its entry, which is the only entry
/// of `present`.
///
/// # Safety
/// The entry is of the query.
pub(super) unsafe fn move_permission(
    query: *mut pg_sys::Query,
    entry: *mut pg_sys::RangeTblEntry,
    present: *mut pg_sys::Query,
    table: *mut pg_sys::RangeTblEntry,
) {
    // SAFETY: see above.
    unsafe {
        #[cfg(not(feature = "pg15"))]
        {
            let permission = pg_sys::getRTEPermissionInfo((*query).rteperminfos, entry);
            (*present).rteperminfos = list(&[pg_sys::copyObjectImpl(permission.cast())]);
            (*table).perminfoindex = 1;
            (*entry).perminfoindex = 0;
        }
        #[cfg(feature = "pg15")]
        {
            _ = (query, present, table);
            (*entry).requiredPerms = 0;
            (*entry).checkAsUser = pg_sys::InvalidOid;
            (*entry).selectedCols = std::ptr::null_mut();
        }
    }
}

/// `present UNION ALL past`, of the shape that the parser gives it (transformSetOperationTree). The planner keeps the second as a query of its own: only so it finds the
/// rows of a join in both by what is joined (reparameterize_path knows no tuplestores), and need not read all of the table for each row of the other side.
///
/// # Safety
/// Queries of our own with the same columns.
pub(super) unsafe fn union_of(present: *mut pg_sys::Query, past: *mut pg_sys::Query) -> *mut pg_sys::Query {
    // SAFETY: nodes of our own.
    unsafe {
        let both: *mut pg_sys::Query = node(NodeTag::T_Query);
        (*both).commandType = pg_sys::CmdType::CMD_SELECT;
        (*both).canSetTag = true;
        let past = subquery(past);
        (*past).security_barrier = true;
        (*both).rtable = list(&[subquery(present), past]);
        (*both).jointree = pg_sys::makeFromExpr(std::ptr::null_mut(), std::ptr::null_mut());
        let union: *mut pg_sys::SetOperationStmt = node(NodeTag::T_SetOperationStmt);
        (*union).op = pg_sys::SetOperation::SETOP_UNION;
        (*union).all = true;
        (*union).larg = reference(1).cast();
        (*union).rarg = reference(2).cast();
        for target in pointers::<pg_sys::TargetEntry>((*present).targetList) {
            let expression = (*target).expr.cast();
            let (type_, typmod) = (pg_sys::exprType(expression), pg_sys::exprTypmod(expression));
            let collation = pg_sys::exprCollation(expression);
            (*union).colTypes = pg_sys::lappend_oid((*union).colTypes, type_);
            (*union).colTypmods = pg_sys::lappend_int((*union).colTypmods, typmod);
            (*union).colCollations = pg_sys::lappend_oid((*union).colCollations, collation);
            let var = pg_sys::makeVar(1, (*target).resno, type_, typmod, collation, 0);
            let output = pg_sys::makeTargetEntry(var.cast(), (*target).resno, (*target).resname, false);
            (*both).targetList = pg_sys::lappend((*both).targetList, output.cast());
        }
        (*both).setOperations = union.cast();
        both
    }
}

/// # Safety
/// An entry of a table, and a query with its columns in their places.
pub(super) unsafe fn become_subquery(entry: *mut pg_sys::RangeTblEntry, subquery: *mut pg_sys::Query) {
    // SAFETY: see above.
    unsafe {
        (*entry).rtekind = pg_sys::RTEKind::RTE_SUBQUERY;
        (*entry).subquery = subquery;
        (*entry).relid = pg_sys::InvalidOid;
        (*entry).relkind = 0;
        (*entry).rellockmode = 0;
        (*entry).inh = false;
    }
}

/// `SELECT column, ... FROM entry`, with all columns of the shadow's table; those that are dropped are NULL.
///
/// # Safety
/// The entry has the columns of these rows' table.
pub(super) unsafe fn select(rows: &OldRows, entry: *mut pg_sys::RangeTblEntry) -> *mut pg_sys::Query {
    // SAFETY: nodes of our own; the descriptor has so many attributes.
    unsafe {
        let query: *mut pg_sys::Query = node(NodeTag::T_Query);
        (*query).commandType = pg_sys::CmdType::CMD_SELECT;
        (*query).canSetTag = true;
        (*query).rtable = list(&[entry]);
        (*query).jointree = pg_sys::makeFromExpr(list(&[reference(1)]), std::ptr::null_mut());
        for i in 1..rows.number_column() {
            let column = pg::attribute(rows.descriptor(), i as usize - 1);
            let value: *mut pg_sys::Expr = if column.attisdropped {
                pg_sys::makeNullConst(pg_sys::INT4OID, -1, pg_sys::InvalidOid).cast()
            } else {
                pg_sys::makeVar(1, i, column.atttypid, column.atttypmod, column.attcollation, 0).cast()
            };
            let name = pg_sys::pstrdup(column.attname.data.as_ptr());
            let target = pg_sys::makeTargetEntry(value, i, name, false);
            (*query).targetList = pg_sys::lappend((*query).targetList, target.cast());
        }
        query
    }
}

/// # Safety
/// A query of our own.
unsafe fn subquery(query: *mut pg_sys::Query) -> *mut pg_sys::RangeTblEntry {
    // SAFETY: nodes of our own.
    unsafe {
        let entry: *mut pg_sys::RangeTblEntry = node(NodeTag::T_RangeTblEntry);
        (*entry).rtekind = pg_sys::RTEKind::RTE_SUBQUERY;
        (*entry).subquery = query;
        let mut names: *mut pg_sys::List = std::ptr::null_mut();
        for target in pointers::<pg_sys::TargetEntry>((*query).targetList) {
            names = pg_sys::lappend(names, pg_sys::makeString((*target).resname).cast());
        }
        (*entry).eref = pg_sys::makeAlias(SUBQUERY.as_ptr(), names);
        (*entry).inFromCl = true;
        entry
    }
}

const SUBQUERY: &CStr = c"half";
