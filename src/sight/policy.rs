//! Which old rows the caller could see: row-level security applied to images.
//!
//! A row that is gone cannot be selected any more, so its logged image (the old values of all columns that the policies read) is made a
//! row again (`old_rows.rs`), and the table's SELECT policies are put to it as PostgreSQL has them stored, parsed, for the caller
//! (`query.rs`). Rows of other tables that are gone too are put back where the policies read those tables.
//!
//! What cannot be judged so (None) is nobody's error: the client takes the collection anew.

use std::ffi::{CStr, CString};
use std::rc::Rc;

use pgrx::{pg_sys, FromDatum};

use crate::collections::catalog::{Collection, Column};
use crate::collections::lookup::Keys;
use crate::collections::tombstone;
use crate::log::change::Image;
use crate::policies::access;
use crate::server::error::{Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::node::list;
use crate::server::spi::{self, pointers};
use crate::server::statement::kept::Key;
use crate::server::{pg, subxact};
use crate::sight::old_rows::OldRows;

mod former;
pub(in crate::sight) mod query;
mod whole;

pub use former::Former;

/// Deleted rows of a table that policies read, to be seen again while old rows are judged: those that the caller could see.
pub struct Shadow {
    pub table: Rc<Collection>,
    pub rows: OldRows,
}

impl Shadow {
    /// None when an image does not read back.
    pub fn of(table: Rc<Collection>, images: &[Image]) -> Result<Option<Shadow>> {
        let Some(rows) = or_unknown(OldRows::of(&table))? else { return Ok(None) };
        let mut shadow = Shadow { rows, table };
        let filled = subxact::run(|| spi::pinned(|| images.iter().try_for_each(|image| shadow.rows.add(image))));
        Ok(or_unknown(filled)?.map(|()| shadow))
    }
}

/// Judges old rows of one table for the calling role.
pub struct Judge {
    table: Rc<Collection>,
    condition: Condition,
    /// The condition's text, where it is not that of the table's policies.
    text: Option<CString>,
    shadows: Vec<Shadow>,
    /// Who judges states that ended after these stamps, in order: of what was put back by then some has come again, as another row.
    later: Vec<(i64, Judge)>,
    _in_use: pg::InUse,
}

/// What is done to a row that stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum RowCommand {
    Update,
    Delete,
}

/// Which rows satisfy.
pub(in crate::sight) enum Condition {
    All,
    None,
    /// Those for which these hold: expressions over the columns of range table entry 1. Each is put only to rows that pass those before.
    Where(*mut pg_sys::List),
}

/// Up to so many rows share a plan that is kept, and planned for so many rows: what a policy reads is looked up for each, where there is an index. For more a plan may
/// read that once: all parents that the caller sees, say (20,000 for ten images: 10 ms instead of 1).
const JUDGED_ONE_BY_ONE: usize = 100;
const KEPT_FOR: f64 = 8.0;

impl Judge {
    fn new(table: &Rc<Collection>, condition: Condition, text: Option<CString>, shadows: Vec<Shadow>) -> Judge {
        let (table, later, in_use) = (Rc::clone(table), Vec::new(), pg::InUse::mark(table.relation));
        Judge { table, condition, text, shadows, later, _in_use: in_use }
    }

    /// States that ended after this stamp, and after that of any added before, are this one's to judge.
    pub(in crate::sight) fn add_later(&mut self, stamp: i64, judge: Judge) {
        self.later.push((stamp, judge));
    }

    /// By the policies, as they are now, that let the calling role select. None when rows cannot be judged by them.
    pub fn by_policies(table: &Rc<Collection>, shadows: Vec<Shadow>) -> Option<Judge> {
        if !pg::rls_active(table.relation) {
            return Some(Judge::new(table, Condition::All, None, shadows));
        }
        if table.traits.unlogged_column {
            return None;
        }
        Some(Judge::new(table, selectable(table.relation), None, shadows))
    }

    /// By the policies, as they are now, that let the calling role change rows that stand in the table. (Whether it sees them is not asked.)
    pub fn of_changes(table: &Rc<Collection>, command: RowCommand) -> Judge {
        let (command, text) = match command {
            RowCommand::Update => (UPDATES, c"snapsync: updates"),
            RowCommand::Delete => (DELETES, c"snapsync: deletions"),
        };
        let bound = pg::rls_active(table.relation);
        let condition = if bound { permitted(table.relation, command) } else { Condition::All };
        Judge::new(table, condition, Some(text.to_owned()), Vec::new())
    }

    /// Where there is no old row to judge.
    pub fn of_none(table: &Rc<Collection>) -> Judge {
        Judge::new(table, Condition::None, None, Vec::new())
    }

    /// By a condition over the table's rows: nodeToString of an expression over range table entry 1.
    pub fn by_condition(table: &Rc<Collection>, text: &CStr) -> Judge {
        // SAFETY: the text of a tree that this server wrote, in this session.
        let condition = Condition::Where(unsafe { list(&[pg_sys::stringToNode(text.as_ptr())]) });
        Judge::new(table, condition, Some(text.to_owned()), Vec::new())
    }

    /// The rows of other tables that are put back while it judges.
    pub(in crate::sight) fn shadows(&self) -> &[Shadow] {
        &self.shadows
    }

    /// For each image: does it satisfy? None when that cannot be told.
    pub fn of(&self, images: &[Image]) -> Result<Option<Vec<bool>>> {
        if self.later.is_empty() {
            return self.of_images(images, None);
        }
        let mut seen = memory::filled(false, images.len());
        for number in 0..=self.later.len() {
            let whose = |image: &Image| self.later.partition_point(|(stamp, _)| *stamp < image.until);
            let asked: Vec<usize> = (0..images.len()).filter(|&i| whose(&images[i]) == number).gather();
            let part: Vec<Image> = asked.iter().map(|&i| images[i].clone()).gather();
            let judge = if number == 0 { self } else { &self.later[number - 1].1 };
            let Some(found) = judge.of_images(&part, None)? else { return Ok(None) };
            asked.into_iter().zip(found).for_each(|(i, found)| seen[i] = found);
        }
        Ok(Some(seen))
    }

    /// The same, with the tables that the condition reads as they were.
    pub fn of_before(&self, images: &[Image], former: &Former) -> Result<Option<Vec<bool>>> {
        self.of_images(images, Some(former))
    }

    fn of_images(&self, images: &[Image], former: Option<&Former>) -> Result<Option<Vec<bool>>> {
        let conditions = match self.condition {
            Condition::All => return Ok(Some(memory::filled(true, images.len()))),
            Condition::None => return Ok(Some(memory::filled(false, images.len()))),
            Condition::Where(conditions) => conditions,
        };
        if images.is_empty() {
            return Ok(Some(Vec::new()));
        }
        self.put(conditions, images.len(), former, || {
            let mut rows = OldRows::of(&self.table)?;
            images.iter().try_for_each(|image| rows.add(image))?;
            Ok(rows)
        })
    }

    /// How many of these ids are those of rows that stand in the table and satisfy? None when that cannot be told.
    pub fn count_present(&self, ids: &[&str]) -> Result<Option<usize>> {
        Ok(self.of_present(ids)?.map(|satisfy| satisfy.into_iter().filter(|satisfies| *satisfies).count()))
    }

    /// For each of these ids: is there a row that stands in the table, to the active snapshot, and satisfies? None when that cannot be told.
    ///
    /// The rows are read as the table's owner, for the caller himself may have nothing to do with it: a function that a policy calls does. So they are not
    /// where a part of the table belongs to somebody who is not the owner anyway.
    pub fn of_present(&self, ids: &[&str]) -> Result<Option<Vec<bool>>> {
        if let Some((_, last)) = self.later.last() {
            return last.of_present(ids);
        }
        let conditions = match self.condition {
            Condition::All => return Ok(Some(memory::filled(true, ids.len()))),
            Condition::None => return Ok(Some(memory::filled(false, ids.len()))),
            Condition::Where(conditions) => conditions,
        };
        let table = &self.table;
        if ids.is_empty() {
            return Ok(Some(Vec::new()));
        }
        if !access::owns_all_parts(table.relation)? {
            return Ok(None);
        }
        self.put(conditions, ids.len(), None, || {
            let mut rows = OldRows::present(table)?;
            spi::as_table_owner(table.relation, || query::add_present(&mut rows, table, &Keys::numbered(table, ids)?))?;
            Ok(rows)
        })
    }

    /// Puts the conditions to such rows, which have numbers below this one: does each satisfy?
    fn put(
        &self,
        conditions: *mut pg_sys::List,
        count: usize,
        former: Option<&Former>,
        rows: impl FnOnce() -> Result<OldRows>,
    ) -> Result<Option<Vec<bool>>> {
        let _scratch = pg::Scratch::new(c"snapsync old rows");
        // Shadows are in the plan, and so is what was so before.
        let kept = count <= JUDGED_ONE_BY_ONE && self.shadows.is_empty() && former.is_none();
        let planned_for = if kept { KEPT_FOR } else { count as f64 };
        let found = subxact::run(|| {
            let _depth = spi::DepthGuard::enter();
            let _remembering = crate::server::error::Remembering::start();
            let rows = spi::pinned(rows)?;
            let key = kept.then(|| Key::of(self.table.relation, self.text.as_deref()));
            // SAFETY: policies' conditions on this table, or one that was found in such.
            unsafe { query::satisfying(&rows, planned_for, conditions, &self.shadows, former, key) }
        });
        Ok(or_unknown(found)?.map(|numbers| {
            let mut satisfies = memory::filled(false, count);
            numbers.into_iter().for_each(|n| satisfies[n as usize] = true);
            satisfies
        }))
    }
}

/// How many rows with these ids stand in the table now, whoever may see them? To be asked of rows that the caller could see. They are read in his own
/// name, for he is writing there.
pub fn count_standing(table: &Rc<Collection>, ids: &[&str]) -> Result<usize> {
    if ids.is_empty() {
        return Ok(0);
    }
    let _now = pg::ActiveSnapshot::take();
    let mut rows = OldRows::present(table)?;
    spi::pinned(|| query::add_present(&mut rows, table, &Keys::numbered(table, ids)?))?;
    Ok(rows.count())
}

/// What was found, or None where an error leaves it unknown. An error while old rows are judged is not the caller's: not one that a row is cause
/// of (a value that does not read back, or that a policy cannot take, or is nested too deep), nor one of a policy, which selecting from the
/// table raises as well where it must. Only what says nothing of rows and policies ends the call.
pub fn or_unknown<R>(outcome: Result<R>) -> Result<Option<R>> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(e) if ends_the_call(&e) => Err(e),
        Err(_) => Ok(None),
    }
}

fn ends_the_call(e: &SyncError) -> bool {
    subxact::is_transient(e) && e.code != "XX000" && !e.raised
}

/// Was an old row in these scopes (None: whichever), and not marked as deleted? The log has both columns' values, in the types' own
/// text form.
pub fn is_synced(table: &Collection, scopes: Option<&[String]>, image: &Image) -> bool {
    if let (Some(scope), Some(scopes)) = (&table.scope, scopes) {
        let value = image.text(&scope.name);
        // In order (scope.rs): a client may send very many.
        if value.is_none_or(|v| scopes.binary_search_by(|s| s.as_bytes().cmp(v)).is_err()) {
            return false;
        }
    }
    !table.soft_delete.as_ref().is_some_and(|mark| tombstone::marks(mark, image.text(&mark.name)))
}

/// For each image: is it one that `judge` lets the caller see, in these scopes and not soft-deleted?
pub fn synced(
    collection: &Collection,
    images: &[Image],
    scopes: Option<&[String]>,
    judge: impl FnOnce(&[Image]) -> Result<Option<Vec<bool>>>,
) -> Result<Option<Vec<bool>>> {
    let in_question: Vec<usize> = (0..images.len()).filter(|&i| is_synced(collection, scopes, &images[i])).gather();
    let asked: Vec<Image> = in_question.iter().map(|&i| images[i].clone()).gather();
    let Some(seen) = judge(&asked)? else { return Ok(None) };
    let mut all = memory::filled(false, images.len());
    in_question.into_iter().zip(seen).for_each(|(i, seen)| all[i] = seen);
    Ok(Some(all))
}

/// `todos.org_id = ANY ($n)`.
pub fn in_scopes(alias: &str, scope: &Column, parameter: usize) -> String {
    format!("{alias}.{} OPERATOR(pg_catalog.=) ANY (${parameter}::{}[])", scope.ident, scope.facts.base_type_name())
}

/// Which rows the policies let the calling role select: what each restrictive one asks, then what any of the permissive ones does. As in
/// add_security_quals (rowsecurity.c) each stands before the next, so that a function in a permissive policy is given no row that a
/// restrictive one hides: the function may name another without its schema, which is then the caller's.
pub(in crate::sight) fn selectable(relation: pg_sys::Oid) -> Condition {
    permitted(relation, SELECTS)
}

/// `pg_policy.polcmd`.
const SELECTS: u8 = b'r';
const UPDATES: u8 = b'w';
const DELETES: u8 = b'd';

/// The same of a command that goes by its policies' USING.
fn permitted(relation: pg_sys::Oid, command: u8) -> Condition {
    let role = pg::current_user();
    let (mut permissive, mut all) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: the relation is locked, so its policies stay while it is open; the trees are copied. The lists are palloc'd.
    unsafe {
        let open = pg_sys::relation_open(relation, pg_sys::NoLock as i32);
        let policies = (*open).rd_rsdesc;
        let policies = if policies.is_null() { Vec::new() } else { pointers((*policies).policies) };
        for policy in policies.into_iter().map(|p: *mut pg_sys::RowSecurityPolicy| &*p) {
            let is_for = policy.polcmd as u8 == command || policy.polcmd as u8 == b'*';
            if !is_for || policy.qual.is_null() || !applies(policy, role) {
                continue;
            }
            let copy = pg_sys::copyObjectImpl(policy.qual.cast());
            let list = if policy.permissive { &mut permissive } else { &mut all };
            *list = pg_sys::lappend(*list, copy);
        }
        pg_sys::relation_close(open, pg_sys::NoLock as i32);
        if permissive.is_null() {
            return Condition::None;
        }
        let any = match &*pointers::<pg_sys::Node>(permissive) {
            [one] => *one,
            _ => pg_sys::makeBoolExpr(pg_sys::BoolExprType::OR_EXPR, permissive, -1).cast(),
        };
        Condition::Where(pg_sys::lappend(all, any.cast()))
    }
}

/// Is it a policy for this role? (check_role_for_policy in rowsecurity.c.)
///
/// # Safety
/// A policy of a relation that is open.
unsafe fn applies(policy: &pg_sys::RowSecurityPolicy, role: pg_sys::Oid) -> bool {
    // SAFETY: an oid[] without nulls; a syscache look-up.
    unsafe {
        let roles = Vec::<pg_sys::Oid>::from_datum(pg_sys::Datum::from(policy.roles), false).unwrap_or_default();
        roles.first() == Some(&pg_sys::InvalidOid) || roles.into_iter().any(|r| pg_sys::has_privs_of_role(role, r))
    }
}
