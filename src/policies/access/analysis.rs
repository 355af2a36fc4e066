//! Walking a policy's parsed tree, or an expression's for scopes: which tables it reads, tied by which foreign keys, under which
//! conditions of their own.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{CStr, CString};

use pgrx::pg_sys;

use super::tree::{self, conjuncts, equality, strip, sublinks, vars};
use crate::server::error::Result;
use crate::server::memory;
use crate::server::spi::{self, pointers};

mod keys;

pub(super) use keys::ForeignKeys;

/// One place in a policy where a table is read.
pub(super) struct Occurrence {
    pub(super) relation: u32,
    pub(super) tied: bool,
    pub(super) predicate: Option<Predicate>,
    pub(super) whole: bool,
}

/// The conditions on a table's rows alone, at one place where it is read.
pub(super) struct Predicate {
    /// For people, and to see whether it changed.
    pub(super) text: String,
    /// nodeToString of an expression over the table's columns as range table entry 1.
    pub(super) tree: CString,
}

/// What a Var of some level refers to, innermost last.
#[derive(Clone, Copy)]
pub(super) enum Level {
    /// The policy's own table (varno 1).
    Policy,
    Query(*mut pg_sys::Query),
}

/// A subquery, and what asks it.
#[derive(Clone, Copy)]
pub(super) struct AskedLink {
    link: *mut pg_sys::SubLink,
    /// Whether it says false or nothing is the same.
    asserted: bool,
}

pub(super) struct Analysis<'a> {
    relation: pg_sys::Oid,
    occurrences: &'a mut Vec<Occurrence>,
    /// Which foreign keys the policies follow is asked, too.
    keys: Option<&'a mut ForeignKeys>,
}

/// A column of a table, seen from some place in the tree.
pub(super) type ColumnRef = (pg_sys::Oid, i16);

impl<'a> Analysis<'a> {
    pub(super) fn of(
        relation: pg_sys::Oid,
        occurrences: &'a mut Vec<Occurrence>,
        keys: Option<&'a mut ForeignKeys>,
    ) -> Analysis<'a> {
        Analysis { relation, occurrences, keys }
    }

    /// Looks at the subqueries of an expression that stands inside `levels`.
    ///
    /// # Safety
    /// The nodes are NULL or of an analyzed policy or expression, and the levels are those around them.
    pub(super) unsafe fn expression(&mut self, node: *mut pg_sys::Node, levels: &[Level]) -> Result<()> {
        // SAFETY: nodes of a tree that nobody changes.
        unsafe {
            let asserted = tree::asserted(node);
            for link in sublinks(node) {
                let asked = AskedLink { link, asserted: asserted.contains(&link) };
                self.query((*link).subselect.cast(), Some(asked), levels)?;
            }
        }
        Ok(())
    }

    /// # Safety
    /// The nodes are NULL or of an analyzed policy or expression, and the levels are those around them.
    pub(super) unsafe fn query(
        &mut self,
        query: *mut pg_sys::Query,
        asked: Option<AskedLink>,
        outer: &[Level],
    ) -> Result<()> {
        memory::descend();
        // SAFETY: as above.
        unsafe {
            let mut levels = outer.to_vec();
            levels.push(Level::Query(query));
            let mut conditions = Vec::new();
            let inner_only = !(*query).jointree.is_null() && conjuncts((*query).jointree.cast(), &mut conditions);
            // Joins other than inner ones: a row may matter by its absence.
            if !inner_only {
                conditions.clear();
            }
            // What chooses among the rows after the comparison of `IN` was made with one of them lets others matter.
            let asked = asked.filter(|_| inner_only && tree::returns_rows_as_they_are(query));
            let tied = self.tied(query, asked, &levels, &conditions)?;
            let whole = tree::whole_rows(query);
            let local = local_conditions(&conditions);
            for (i, rte) in pointers::<pg_sys::RangeTblEntry>((*query).rtable).into_iter().enumerate() {
                memory::heed();
                match (*rte).rtekind {
                    pg_sys::RTEKind::RTE_RELATION => {
                        let predicate = local.get(&(i + 1)).and_then(|conditions| all_of(conditions, (*rte).relid));
                        self.occurrences.push(Occurrence {
                            relation: (*rte).relid.to_u32(),
                            tied: tied.contains(&(i + 1)),
                            predicate,
                            whole: whole.contains(&(i + 1)),
                        });
                    }
                    pg_sys::RTEKind::RTE_SUBQUERY => self.query((*rte).subquery, None, &levels)?,
                    pg_sys::RTEKind::RTE_FUNCTION => self.expression((*rte).functions.cast(), &levels)?,
                    pg_sys::RTEKind::RTE_VALUES => self.expression((*rte).values_lists.cast(), &levels)?,
                    // What is read in another way is found by pg_depend and counts for everybody.
                    _ => {}
                }
            }
            for cte in pointers::<pg_sys::CommonTableExpr>((*query).cteList) {
                self.query((*cte).ctequery.cast(), None, &levels)?;
            }
            for target in pointers::<pg_sys::TargetEntry>((*query).targetList) {
                self.expression((*target).expr.cast(), &levels)?;
            }
            self.expression((*query).jointree.cast(), &levels)?;
            self.expression((*query).havingQual, &levels)
        }
    }

    /// Range table entries (from 1) of which the query can only ever see the row that a foreign key names: of the policy's
    /// table, or of an entry that is tied itself.
    ///
    /// # Safety
    /// The nodes are NULL or of an analyzed policy or expression, and the levels are those around them.
    unsafe fn tied(
        &mut self,
        query: *mut pg_sys::Query,
        asked: Option<AskedLink>,
        levels: &[Level],
        conditions: &[*mut pg_sys::Node],
    ) -> Result<BTreeSet<usize>> {
        if self.keys.is_none() {
            return Ok(BTreeSet::new());
        }
        // SAFETY: as above.
        unsafe {
            // Equalities between two columns, each with the entry it belongs to here (None: the policy's table).
            let mut equal: Vec<(Option<usize>, ColumnRef, Option<usize>, ColumnRef)> = Vec::new();
            for &condition in conditions {
                memory::heed();
                if let Some((left, right)) = equality(condition) {
                    if let (Some(l), Some(r)) = (self.column(left, levels), self.column(right, levels)) {
                        equal.push((l.0, l.1, r.0, r.1));
                    }
                }
            }
            if let Some(AskedLink { link, asserted }) = asked {
                if let Some((x, to, output)) = self.compared(query, link, levels) {
                    // Of NULL it says something else where there is no row at all than where there is one, whichever that is.
                    if asserted || never_null(x)? {
                        equal.push((None, x, Some(to), output));
                    }
                }
            }
            // From each entry, where an equality leads. Each is asked about once, however many lead to the next.
            let mut leading: HashMap<Option<usize>, Vec<(ColumnRef, usize, ColumnRef)>> = HashMap::new();
            for (a, a_column, b, b_column) in equal {
                for (from, from_column, to, to_column) in [(a, a_column, b, b_column), (b, b_column, a, a_column)] {
                    let to = to.map(|to| (from_column, to, to_column));
                    leading.entry(from).or_default().extend(to);
                }
            }
            let (mut tied, mut open) = (BTreeSet::new(), vec![None]);
            while let Some(from) = open.pop() {
                for (from_column, to, to_column) in leading.remove(&from).unwrap_or_default() {
                    memory::heed();
                    if !tied.contains(&to) && self.references(from_column, to_column)? {
                        tied.insert(to);
                        open.push(Some(to));
                    }
                }
            }
            Ok(tied)
        }
    }

    /// `x IN (SELECT y ...)`, x being a column of the policy's table: the test compares it, one level up, with the query's output. Both, and
    /// the entry that the second is of.
    ///
    /// # Safety
    /// The nodes are of an analyzed policy or expression, and the levels are those around what the query reads.
    unsafe fn compared(
        &self,
        query: *mut pg_sys::Query,
        link: *mut pg_sys::SubLink,
        levels: &[Level],
    ) -> Option<(ColumnRef, usize, ColumnRef)> {
        // SAFETY: as above.
        unsafe {
            let (_, outside) = levels.split_last()?;
            if (*link).subLinkType != pg_sys::SubLinkType::ANY_SUBLINK || !matches!(outside.last(), Some(Level::Policy))
            {
                return None;
            }
            let (left, right) = equality((*link).testexpr)?;
            let target = pointers::<pg_sys::TargetEntry>((*query).targetList).into_iter().next()?;
            let (to, output) = self.column(strip((*target).expr.cast()), levels)?;
            let (None, x) = self.column(left, outside)? else { return None };
            ((*right).type_ == pg_sys::NodeTag::T_Param).then_some((x, to?, output))
        }
    }

    fn references(&mut self, from: ColumnRef, to: ColumnRef) -> Result<bool> {
        self.keys.as_mut().map_or(Ok(false), |keys| keys.lead(from, to))
    }

    /// The table column behind a Var: with its entry number if it is of this query, None if it is the policy's table.
    ///
    /// # Safety
    /// The nodes are NULL or of an analyzed policy or expression, and the levels are those around them.
    unsafe fn column(&self, node: *mut pg_sys::Node, levels: &[Level]) -> Option<(Option<usize>, ColumnRef)> {
        // SAFETY: as above.
        unsafe {
            if node.is_null() || (*node).type_ != pg_sys::NodeTag::T_Var {
                return None;
            }
            let var = &*node.cast::<pg_sys::Var>();
            let at = levels.len().checked_sub(1 + var.varlevelsup as usize)?;
            if var.varattno <= 0 {
                return None;
            }
            match levels[at] {
                Level::Policy if var.varno as u32 == 1 => Some((None, (self.relation, var.varattno))),
                Level::Query(query) if var.varlevelsup == 0 => {
                    let entries = (*query).rtable;
                    let at = (var.varno as usize).checked_sub(1).filter(|at| *at < (*entries).length as usize)?;
                    let rte = (*(*entries).elements.add(at)).ptr_value.cast::<pg_sys::RangeTblEntry>();
                    ((*rte).rtekind == pg_sys::RTEKind::RTE_RELATION)
                        .then(|| (Some(var.varno as usize), ((*rte).relid, var.varattno)))
                }
                _ => None,
            }
        }
    }
}

/// The conditions on one entry alone, by entry (from 1).
///
/// # Safety
/// The nodes are of an analyzed policy or expression.
unsafe fn local_conditions(conditions: &[*mut pg_sys::Node]) -> HashMap<usize, Vec<*mut pg_sys::Node>> {
    let mut local: HashMap<usize, Vec<*mut pg_sys::Node>> = HashMap::new();
    for &condition in conditions {
        memory::heed();
        // SAFETY: as above.
        unsafe {
            let vars = vars(condition);
            let Some(entry) = vars.first().map(|v| (**v).varno as usize) else { continue };
            let mut all = vars.iter();
            if !all.all(|v| (**v).varlevelsup == 0 && (**v).varno as usize == entry && (**v).varattno > 0) {
                continue;
            }
            // A condition that could let values out (in an error, or through a function of somebody's own) must not be run on
            // rows that the caller may not see. `(SELECT auth.uid())` is as good as `auth.uid()`.
            if !tree::may_let_out(condition) {
                local.entry(entry).or_default().push(condition);
            }
        }
    }
    local
}

/// These conditions, which are on one entry alone, a table.
///
/// # Safety
/// The nodes are of an analyzed policy or expression; there is one at least.
unsafe fn all_of(conditions: &[*mut pg_sys::Node], table: pg_sys::Oid) -> Option<Predicate> {
    let (mut parts, mut trees) = (Vec::new(), std::ptr::null_mut());
    // SAFETY: as above; each condition is copied before its Vars are renumbered, and copied to be written, which may change it.
    unsafe {
        let named = conditions.iter().flat_map(|condition| vars(*condition)).map(|var| (*var).varattno).collect();
        let context = naming(table, &named);
        let entry = (*vars(*conditions.first()?).first().copied()?).varno;
        for &condition in conditions {
            let copy = pg_sys::copyObjectImpl(condition.cast()).cast::<pg_sys::Node>();
            pg_sys::ChangeVarNodes(copy, entry, 1, 0);
            // What a Var was written as, by the alias of a join that is not here: who writes it as SQL would go by that.
            for var in vars(copy) {
                ((*var).varnosyn, (*var).varattnosyn) = ((*var).varno as _, (*var).varattno);
            }
            trees = pg_sys::lappend(trees, copy.cast());
            let written = pg_sys::copyObjectImpl(copy.cast()).cast();
            let text = pg_sys::deparse_expression(written, context, false, false);
            parts.push(format!("({})", CStr::from_ptr(text).to_string_lossy()));
        }
        let all = match &*pointers::<pg_sys::Node>(trees) {
            [one] => *one,
            _ => pg_sys::makeBoolExpr(pg_sys::BoolExprType::AND_EXPR, trees, -1).cast(),
        };
        let tree = CStr::from_ptr(pg_sys::nodeToString(all.cast())).to_owned();
        Some(Predicate { text: format!("({})", parts.join(" AND ")), tree })
    }
}

/// What these columns of a table are called, for writing an expression over it as SQL. PostgreSQL's own way to learn that locks the
/// table, and waits for whoever keeps it to himself.
///
/// # Safety
/// In a transaction; what it returns lives in the current memory context.
unsafe fn naming(relation: pg_sys::Oid, named: &BTreeSet<i16>) -> *mut pg_sys::List {
    // SAFETY: nodes made here, of names that the catalog cache copies. An entry that is no relation is called as its alias says.
    unsafe {
        let mut columns = std::ptr::null_mut();
        // The server compares each name with all others. Those that nobody asks for are said to be dropped.
        for attnum in 1..=named.last().copied().unwrap_or(0) {
            let name = if named.contains(&attnum) {
                pg_sys::get_attname(relation, attnum, true)
            } else {
                std::ptr::null_mut()
            };
            let name = if name.is_null() { pg_sys::pstrdup(c"".as_ptr()) } else { name };
            columns = pg_sys::lappend(columns, pg_sys::makeString(name).cast());
        }
        let entry = pg_sys::palloc0(std::mem::size_of::<pg_sys::RangeTblEntry>()).cast::<pg_sys::RangeTblEntry>();
        (*entry).type_ = pg_sys::NodeTag::T_RangeTblEntry;
        (*entry).rtekind = pg_sys::RTEKind::RTE_NAMEDTUPLESTORE;
        (*entry).eref = pg_sys::makeAlias(c"r".as_ptr(), columns);
        let mut statement = pg_sys::PlannedStmt {
            type_: pg_sys::NodeTag::T_PlannedStmt,
            rtable: pg_sys::lappend(std::ptr::null_mut(), entry.cast()),
            ..Default::default()
        };
        let names = pg_sys::lappend(std::ptr::null_mut(), pg_sys::pstrdup(c"r".as_ptr()).cast());
        pg_sys::deparse_context_for_plan_tree(&mut statement, names)
    }
}

const NEVER_NULL: &str = include_str!("analysis/never_null.sql");

/// Has every row a value in this column?
fn never_null(column: ColumnRef) -> Result<bool> {
    Ok(!spi::read_now(NEVER_NULL, &[spi::arg(column.0), spi::arg(column.1)])?.is_empty())
}
