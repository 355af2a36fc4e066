//! Walking a policy's parsed tree, or an expression's for scopes: which tables it reads, tied by which foreign keys, under which
//! conditions of their own.

use std::ffi::{CStr, CString};

use pgrx::{pg_sys, FromDatum, IntoDatum};

use super::tree::{self, conjuncts, equality, strip, sublinks, vars};
use crate::server::error::Result;
use crate::server::spi::{self, pointers};

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

pub(super) struct Analysis<'a> {
    pub(super) relation: pg_sys::Oid,
    pub(super) occurrences: &'a mut Vec<Occurrence>,
    /// Which foreign keys the policies follow is asked, too.
    pub(super) ties: bool,
}

/// A column of a table, seen from some place in the tree.
type ColumnRef = (pg_sys::Oid, i16);

impl Analysis<'_> {
    /// Looks at the subqueries of an expression that stands inside `levels`.
    ///
    /// # Safety
    /// The nodes are NULL or of an analyzed policy or expression, and the levels are those around them.
    pub(super) unsafe fn expression(&mut self, node: *mut pg_sys::Node, levels: &[Level]) -> Result<()> {
        // SAFETY: nodes of a tree that nobody changes.
        unsafe {
            for link in sublinks(node) {
                self.query((*link).subselect.cast(), Some(link), levels)?;
            }
        }
        Ok(())
    }

    /// # Safety
    /// The nodes are NULL or of an analyzed policy or expression, and the levels are those around them.
    pub(super) unsafe fn query(
        &mut self,
        query: *mut pg_sys::Query,
        link: Option<*mut pg_sys::SubLink>,
        outer: &[Level],
    ) -> Result<()> {
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
            let link = link.filter(|_| inner_only && tree::returns_rows_as_they_are(query));
            let tied = if self.ties { self.tied(query, link, &levels, &conditions) } else { Vec::new() };
            let whole = tree::whole_rows(query);
            for (i, rte) in pointers::<pg_sys::RangeTblEntry>((*query).rtable).into_iter().enumerate() {
                match (*rte).rtekind {
                    pg_sys::RTEKind::RTE_RELATION => {
                        let predicate = self.local_predicate(i + 1, (*rte).relid, &conditions)?;
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
        &self,
        query: *mut pg_sys::Query,
        link: Option<*mut pg_sys::SubLink>,
        levels: &[Level],
        conditions: &[*mut pg_sys::Node],
    ) -> Vec<usize> {
        // SAFETY: as above.
        unsafe {
            // Equalities between two columns, each with the entry it belongs to here (None: the policy's table).
            let mut equal: Vec<(Option<usize>, ColumnRef, Option<usize>, ColumnRef)> = Vec::new();
            for &condition in conditions {
                if let Some((left, right)) = equality(condition) {
                    if let (Some(l), Some(r)) = (self.column(left, levels), self.column(right, levels)) {
                        equal.push((l.0, l.1, r.0, r.1));
                    }
                }
            }
            if let Some(link) = link.filter(|l| (**l).subLinkType == pg_sys::SubLinkType::ANY_SUBLINK) {
                // `x IN (SELECT y ...)`: the test compares x, one level up, with the query's output.
                if let Some((left, right)) = equality((*link).testexpr) {
                    let target = pointers::<pg_sys::TargetEntry>((*query).targetList).into_iter().next();
                    let output = target.and_then(|t| self.column(strip((*t).expr.cast()), levels));
                    let is_output = (*right).type_ == pg_sys::NodeTag::T_Param;
                    let outside = &levels[..levels.len() - 1];
                    if let (true, Some(o), Some(x)) = (is_output, output, self.column(left, outside)) {
                        if x.0.is_none() && matches!(outside.last(), Some(Level::Policy)) {
                            equal.push((None, x.1, o.0, o.1));
                        }
                    }
                }
            }
            let mut tied: Vec<usize> = Vec::new();
            loop {
                let before = tied.len();
                for &(a, a_column, b, b_column) in &equal {
                    for (from, from_column, to, to_column) in [(a, a_column, b, b_column), (b, b_column, a, a_column)] {
                        let anchored = from.is_none_or(|f| tied.contains(&f));
                        if let Some(to) = to.filter(|t| anchored && !tied.contains(t)) {
                            if references(from_column, to_column) {
                                tied.push(to);
                            }
                        }
                    }
                }
                if tied.len() == before {
                    return tied;
                }
            }
        }
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
                    let rte =
                        pointers::<pg_sys::RangeTblEntry>((*query).rtable).into_iter().nth(var.varno as usize - 1)?;
                    ((*rte).rtekind == pg_sys::RTEKind::RTE_RELATION)
                        .then(|| (Some(var.varno as usize), ((*rte).relid, var.varattno)))
                }
                _ => None,
            }
        }
    }

    /// The conditions on this entry alone.
    ///
    /// # Safety
    /// The nodes are NULL or of an analyzed policy or expression, and the levels are those around them.
    unsafe fn local_predicate(
        &self,
        entry: usize,
        relation: pg_sys::Oid,
        conditions: &[*mut pg_sys::Node],
    ) -> Result<Option<Predicate>> {
        let (mut parts, mut trees) = (Vec::new(), std::ptr::null_mut());
        // SAFETY: as above; each condition is copied before its Vars are renumbered.
        unsafe {
            for &condition in conditions {
                // A condition that could let values out (in an error, or through a function of somebody's own) must not
                // be run on rows that the caller may not see.
                if pg_sys::contain_leaked_vars(condition) {
                    continue;
                }
                let only_this = vars(condition)
                    .iter()
                    .all(|v| (**v).varlevelsup == 0 && (**v).varno as usize == entry && (**v).varattno > 0);
                if !only_this || vars(condition).is_empty() || !sublinks(condition).is_empty() {
                    continue;
                }
                let copy = pg_sys::copyObjectImpl(condition.cast()).cast::<pg_sys::Node>();
                pg_sys::ChangeVarNodes(copy, entry as i32, 1, 0);
                trees = pg_sys::lappend(trees, copy.cast());
                let tree = CStr::from_ptr(pg_sys::nodeToString(copy.cast())).to_string_lossy().into_owned();
                let text = pgrx::direct_function_call_as_datum(
                    pg_sys::pg_get_expr,
                    &[tree.into_datum(), relation.into_datum()],
                );
                if let Some(text) = text.and_then(|d| String::from_datum(d, false)) {
                    parts.push(format!("({text})"));
                }
            }
            if parts.is_empty() {
                return Ok(None);
            }
            let all = match &*pointers::<pg_sys::Node>(trees) {
                [one] => *one,
                _ => pg_sys::makeBoolExpr(pg_sys::BoolExprType::AND_EXPR, trees, -1).cast(),
            };
            let tree = CStr::from_ptr(pg_sys::nodeToString(all.cast())).to_owned();
            Ok(Some(Predicate { text: format!("({})", parts.join(" AND ")), tree }))
        }
    }
}

/// Is `from` a column with a foreign key to `to`, which is what rows of that table are known by in the log, and has it been enforced
/// since it was made? Not with its triggers disabled, nor with session_replication_role = replica (shape/unenforced.rs), nor by
/// logical replication, nor for tables that inherit. Another key of the row would come and go unnoticed while the row is there; and
/// so would one that equals another of a different text (numeric, or a collation that is not deterministic).
fn references(from: ColumnRef, to: ColumnRef) -> bool {
    spi::owner_query(
        "SELECT 1 FROM pg_constraint AS f JOIN pg_attribute AS a ON a.attrelid = $2 AND a.attnum = $4 \
                  JOIN pg_type AS y ON y.oid = a.atttypid \
         WHERE contype = 'f' AND convalidated AND conrelid = $1 AND confrelid = $2 \
         AND conkey = ARRAY[$3] AND confkey = ARRAY[$4] \
         AND coalesce(nullif(y.typbasetype, 0), y.oid) = ANY ('{uuid,text,varchar,smallint,integer,bigint}'::regtype[]) \
         AND (a.attcollation = 0 OR EXISTS (SELECT FROM pg_collation AS k WHERE k.oid = a.attcollation AND k.collisdeterministic)) \
         AND coalesce((SELECT c.key FROM snapsync.collection AS c WHERE c.relation = $2 AND c.key <> '{}'), \
                      (SELECT array_agg(k.attname) FROM pg_index AS i \
                         JOIN pg_attribute AS k ON k.attrelid = i.indrelid AND k.attnum = ANY (i.indkey) \
                        WHERE i.indrelid = $2 AND i.indisprimary)) = ARRAY[a.attname] \
         AND NOT EXISTS (SELECT FROM pg_trigger AS g WHERE g.tgconstraint = f.oid AND g.tgenabled IN ('D', 'R')) \
         AND NOT EXISTS (SELECT FROM snapsync.collection AS c WHERE c.relation = f.conrelid AND c.shape -> 'unenforced' ? f.oid::text) \
         AND NOT EXISTS (SELECT FROM pg_inherits JOIN pg_class AS p ON p.oid = inhparent WHERE inhparent = $2 AND p.relkind = 'r') \
         AND NOT EXISTS (SELECT FROM pg_subscription AS s JOIN pg_database AS d ON d.oid = s.subdbid WHERE d.datname = current_database())",
        &[spi::arg(from.0), spi::arg(to.0), spi::arg(from.1), spi::arg(to.1)],
    )
    .is_ok_and(|rows| !rows.is_empty())
}
