//! SQL that a table's owner gives: `scope_values`, and the predicates of `access_tables`.
//!
//! It is read once, when `enable` is given it: with the rights of the table's owner and no more, whoever calls, and none of it is planned
//! or run there, not even to read a literal (statement/literals.rs). Its names mean what they mean to whoever gives it. What is stored is
//! written anew from the parsed tree, under settings that are always the same and with every name qualified, and must read back as the
//! very same tree. From then on it means the same to every session. It is read with the owner's rights again, and planned and run only as
//! the caller who pulls.

use std::collections::BTreeSet;
use std::ffi::{c_void, CStr};

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::policies::access::depends;
use crate::policies::access::tree::{relations_read, walk};
use crate::server::error::{code, in_sql_of, Result, SyncError};
use crate::server::spi::{self, pointers};
use crate::server::statement::{raw_expression_tree_walker, Statement};
use crate::server::{pg, subxact};

/// What such a text is for.
pub enum Purpose {
    /// An expression whose value is an array of texts: scopes.
    Scopes,
    /// A condition on the rows of this table.
    Rows(pg_sys::Oid),
}

impl Purpose {
    /// The statement that the text is part of. Whatever it ends with, a comment say, does not reach beyond its line.
    fn statement(&self, text: &str) -> Result<String> {
        match self {
            Purpose::Scopes => Ok(format!("SELECT pg_catalog.to_json((\n{text}\n)::pg_catalog.text[])")),
            Purpose::Rows(relation) => {
                let (table, relname) = pg::qualified_name(*relation).ok_or_else(|| {
                    SyncError::new(code::UNDEFINED_TABLE, format!("relation {} has vanished", relation.to_u32()))
                })?;
                Ok(format!("SELECT FROM {table} AS {} WHERE (\n{text}\n)", pg::ident(&relname)))
            }
        }
    }

    /// A condition is put to rows as they were, which have no system columns (the planner would look for them beyond its arrays), and
    /// in subqueries it would see other rows as they are: a row whose deletion puts its user out would not be his any more.
    fn check(&self, statement: &Statement, what: &str) -> Result<()> {
        let Purpose::Rows(relation) = self else { return Ok(()) };
        // SAFETY: the tree of an analyzed statement on one table, which is only read.
        let read =
            unsafe { pointers::<pg_sys::RangeTblEntry>((*statement.tree()).rtable).first().map(|e| (**e).relid) };
        if read != Some(*relation) {
            return Err(SyncError::new(code::NOT_IN_STATE, format!("the table of {what} is being renamed"))
                .detail("Another table is called as it was.")
                .hint("Try again."));
        }
        let mut system_column = false;
        // SAFETY: the tree of an analyzed statement, which is only read; nodes with this tag are of this type.
        let subquery = unsafe {
            let condition = (*(*statement.tree()).jointree).quals;
            walk(condition, &mut |node, _| {
                if (*node).type_ == pg_sys::NodeTag::T_Var {
                    system_column |= (*node.cast::<pg_sys::Var>()).varattno < 0;
                }
            });
            !relations_read(condition).is_empty()
        };
        let refused = |looks_at: &str, hint: &str| {
            let message = format!("{what} cannot have {looks_at}");
            Err(SyncError::new(code::FEATURE_NOT_SUPPORTED, message).hint(hint))
        };
        match (subquery, system_column) {
            (true, _) => refused(
                "subqueries that read tables",
                "It speaks of one row, as it is or was: give a condition on the row's columns, or null, so that each change concerns everybody.",
            ),
            (_, true) => refused("system columns", "Old rows have none: give a condition on the table's own columns."),
            _ => Ok(()),
        }
    }

    /// The text's part of the tree, as text under the present settings.
    ///
    /// # Safety
    /// The tree of an analyzed `statement`, which is changed.
    unsafe fn written(&self, tree: *mut pg_sys::Query) -> Result<String> {
        let gone = || SyncError::new(code::INTERNAL, "an owner's SQL has no tree");
        // SAFETY: see above.
        unsafe { show_casts(tree) };
        // SAFETY: the tree of a statement with one target, the call of a function with one argument; or with a condition on one table.
        unsafe {
            let (node, context) = match self {
                Purpose::Scopes => {
                    let target =
                        pointers::<pg_sys::TargetEntry>((*tree).targetList).first().copied().ok_or_else(gone)?;
                    let call = (*target).expr.cast::<pg_sys::FuncExpr>();
                    let argument = pointers::<pg_sys::Node>((*call).args).first().copied().ok_or_else(gone)?;
                    (argument, std::ptr::null_mut())
                }
                Purpose::Rows(relation) => {
                    let (_, relname) = pg::qualified_name(*relation).ok_or_else(gone)?;
                    let relname = spi::c_string(&relname)?;
                    ((*(*tree).jointree).quals, pg_sys::deparse_context_for(relname.as_ptr(), *relation))
                }
            };
            let text = pg_sys::deparse_expression(node, context, false, false);
            Ok(CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    }
}

/// Reads a text that is given now for `table`; returns how it is stored. `what` is its name in errors. `look` is shown the tree, with
/// the rights of the table's owner and under pinned settings.
pub fn take(
    table: pg_sys::Oid,
    purpose: &Purpose,
    text: &str,
    what: &str,
    look: impl FnOnce(*mut pg_sys::Query) -> Result<()>,
) -> Result<String> {
    let path = path()?;
    check_length(text, what)?;
    let stored = in_sql_of(
        || format!("It is in {what}."),
        || {
            check_is_one_expression(text, what)?;
            let given = purpose.statement(text)?;
            let given = spi::as_author(table, &path, || Statement::analyze(&given))?;
            purpose.check(&given, what)?;
            spi::as_table_owner(table, || {
                // SAFETY: the tree of this purpose's statement; a copy, because writing changes what it writes (PostgreSQL 18 flattens
                // what is grouped by).
                let stored = unsafe { purpose.written(pg_sys::copyObjectImpl(given.tree().cast()).cast()) }?;
                check_lasts(&given, &stored, what)?;
                let statement = purpose.statement(&stored)?;
                let read = subxact::run(|| {
                    let again = Statement::analyze(&statement)?;
                    // SAFETY: two analyzed trees.
                    Ok(unsafe { is_same(given.tree(), again.tree()) })
                });
                match read {
                    Ok(true) => {}
                    Ok(false) => return Err(not_to_be_stored(what, &stored, None)),
                    Err(e) if subxact::is_transient(&e) => return Err(e),
                    Err(e) => return Err(not_to_be_stored(what, &stored, Some(&e))),
                }
                look(given.tree())?;
                Ok(stored)
            })
        },
    )?;
    check_length(&stored, what)?;
    Ok(stored)
}

/// So many bytes an owner's SQL has at most, as it is given and as it is stored: whoever's command looks at the table reads all of it.
const LONGEST: usize = 64 << 10;

/// Is it short enough to be stored?
pub fn check_length(text: &str, what: &str) -> Result<()> {
    if text.len() <= LONGEST {
        return Ok(());
    }
    Err(SyncError::new(code::INVALID_PARAMETER, format!("{what} cannot be so long"))
        .detail(format!("Written with all names and casts it has {} bytes or more, {LONGEST} at most.", text.len()))
        .hint("Put what is long into a table, or into a function, and name that."))
}

/// Analyzes a stored text, with the rights of the owner of the table that it was given for. It may call the functions with these
/// signatures: another than when it was given would be one that somebody has made since, in a schema that is not only the owner's, whose
/// arguments fit better (policies keep the function itself). And it may name what belongs to these owners, or to who may act as the table's:
/// what is dropped leaves its name to others.
pub fn read(
    table: pg_sys::Oid,
    purpose: &Purpose,
    stored: &str,
    calls: &BTreeSet<String>,
) -> Result<Statement<'static>> {
    let statement = purpose.statement(stored)?;
    let statement = spi::as_table_owner(table, || Statement::analyze(&statement))?;
    purpose.check(&statement, "a predicate")?;
    // SAFETY: the tree of an analyzed statement, which is only read.
    let called = depends::signatures(&unsafe { depends::functions_called(statement.tree().cast()) })?;
    if let Some(other) = called.difference(calls).next() {
        return Err(SyncError::new("42725", format!("{other} is not what this SQL called when it was given"))
            .detail("A function or operator of the same name fits its arguments better since then, or has taken the place of another.")
            .hint("Give it anew with snapsync.enable(), with arguments cast to the types that the function is declared with; or drop the other."));
    }
    // SAFETY: as above; the statement's table is no part of a condition on its rows.
    let named = unsafe {
        depends::objects_named(match purpose {
            Purpose::Scopes => statement.tree().cast(),
            Purpose::Rows(_) => (*(*statement.tree()).jointree).quals,
        })
    };
    if let Some(other) = depends::owners(&named, Some(table))?.difference(calls).next() {
        return Err(SyncError::new(
            code::NOT_IN_STATE,
            format!("{other} is not what this SQL named when it was given"),
        )
        .detail("It has another owner now, or somebody else has made one of the same name in its place.")
        .hint("If it is meant, give the SQL anew with snapsync.enable()."));
    }
    Ok(statement)
}

/// Casts of arguments that go without saying are written, too, where a function is not the system's: a call with arguments of just the
/// types that the function is declared with is never another's, whatever overloads somebody makes. (One that leaves arguments to their
/// defaults, or whose function takes any type or any number, may be; then `read` refuses it.)
///
/// # Safety
/// An analyzed tree, which is changed.
unsafe fn show_casts(tree: *mut pg_sys::Query) {
    use pg_sys::NodeTag::*;
    // SAFETY: nodes with these tags are of these types; DistinctExpr and NullIfExpr are OpExprs by another name.
    unsafe {
        walk(tree.cast(), &mut |node, _| {
            let (function, arguments) = match (*node).type_ {
                T_FuncExpr => ((*node.cast::<pg_sys::FuncExpr>()).funcid, (*node.cast::<pg_sys::FuncExpr>()).args),
                T_OpExpr | T_DistinctExpr | T_NullIfExpr => {
                    let call = &*node.cast::<pg_sys::OpExpr>();
                    (pg_sys::get_opcode(call.opno), call.args)
                }
                T_Aggref => ((*node.cast::<pg_sys::Aggref>()).aggfnoid, (*node.cast::<pg_sys::Aggref>()).args),
                T_WindowFunc => {
                    ((*node.cast::<pg_sys::WindowFunc>()).winfnoid, (*node.cast::<pg_sys::WindowFunc>()).args)
                }
                _ => return,
            };
            if function.to_u32() >= pg_sys::FirstNormalObjectId {
                pointers::<pg_sys::Node>(arguments).into_iter().for_each(|argument| show_cast(argument));
            }
        });
    }
}

/// # Safety
/// A node of an analyzed tree, which is changed.
unsafe fn show_cast(argument: *mut pg_sys::Node) {
    use pg_sys::NodeTag::*;
    // SAFETY: nodes with these tags are of these types.
    unsafe {
        let form = match (*argument).type_ {
            T_TargetEntry => return show_cast((*argument.cast::<pg_sys::TargetEntry>()).expr.cast()),
            T_NamedArgExpr => return show_cast((*argument.cast::<pg_sys::NamedArgExpr>()).arg.cast()),
            T_FuncExpr => &mut (*argument.cast::<pg_sys::FuncExpr>()).funcformat,
            T_RelabelType => &mut (*argument.cast::<pg_sys::RelabelType>()).relabelformat,
            T_CoerceViaIO => &mut (*argument.cast::<pg_sys::CoerceViaIO>()).coerceformat,
            T_ArrayCoerceExpr => &mut (*argument.cast::<pg_sys::ArrayCoerceExpr>()).coerceformat,
            T_ConvertRowtypeExpr => &mut (*argument.cast::<pg_sys::ConvertRowtypeExpr>()).convertformat,
            T_CoerceToDomain => &mut (*argument.cast::<pg_sys::CoerceToDomain>()).coercionformat,
            _ => return,
        };
        if *form == pg_sys::CoercionForm::COERCE_IMPLICIT_CAST {
            *form = pg_sys::CoercionForm::COERCE_EXPLICIT_CAST;
        }
    }
}

fn not_to_be_stored(what: &str, stored: &str, e: Option<&SyncError>) -> SyncError {
    let reason = e.map_or("It reads back as something else".to_string(), |e| e.message.clone());
    SyncError::new(code::FEATURE_NOT_SUPPORTED, format!("{what} cannot be stored"))
        .detail(format!("With every name in full it is: {stored}. {reason}."))
        .hint(
            "CASE x WHEN, NULLIF, IS DISTINCT FROM, row comparisons, JOIN USING and x IN (SELECT ...) have operators that cannot be \
             named in full: for types whose operators are not the system's, write OPERATOR(schema.=) or cast.",
        )
}

/// The schemas that the session searches, those of the system first and temporary ones last.
fn path() -> Result<String> {
    let mut path = Vec::new();
    // SAFETY: a palloc'd list of oids; the names are palloc'd copies or NULL.
    unsafe {
        let schemas = pg_sys::fetch_search_path(false);
        let length = if schemas.is_null() { 0 } else { (*schemas).length as usize };
        for schema in (0..length).map(|i| (*(*schemas).elements.add(i)).oid_value) {
            let name = pg_sys::get_namespace_name(schema);
            if !name.is_null() && !pg_sys::isAnyTempNamespace(schema) {
                path.push(pg::ident(&CStr::from_ptr(name).to_string_lossy()));
            }
        }
    }
    path.push("pg_temp".into());
    Ok(path.join(", "))
}

/// Is the text, put in parentheses, an expression and nothing else: no second statement or target, no clause of its own?
fn check_is_one_expression(text: &str, what: &str) -> Result<()> {
    let refused = || {
        SyncError::new("42601", format!("{what} must be one SQL expression"))
            .hint("Give an expression, with subqueries in parentheses if it has any.")
    };
    let statement = spi::c_string(&format!("SELECT (\n{text}\n)"))?;
    // SAFETY: raw trees; nodes with these tags are of these types.
    unsafe {
        let statements = pointers::<pg_sys::RawStmt>(pg_sys::pg_parse_query(statement.as_ptr()));
        let [only] = statements[..] else { return Err(refused()) };
        let select = (*only).stmt;
        if (*select).type_ != pg_sys::NodeTag::T_SelectStmt {
            return Err(refused());
        }
        let s = &*select.cast::<pg_sys::SelectStmt>();
        let lists = [
            s.distinctClause,
            s.fromClause,
            s.groupClause,
            s.windowClause,
            s.valuesLists,
            s.sortClause,
            s.lockingClause,
        ];
        let nodes = [s.whereClause, s.havingClause, s.limitOffset, s.limitCount];
        let plain = s.op == pg_sys::SetOperation::SETOP_NONE
            && s.intoClause.is_null()
            && s.withClause.is_null()
            && lists.iter().all(|l| l.is_null())
            && nodes.iter().all(|n| n.is_null());
        match pointers::<pg_sys::ResTarget>(s.targetList)[..] {
            [target] if plain && (*target).name.is_null() && (*target).indirection.is_null() => Ok(()),
            _ => Err(refused()),
        }
    }
}

/// Refuses what is gone with the session: temporary tables, types and functions, whose names mean another's in other sessions.
fn check_lasts(given: &Statement, stored: &str, what: &str) -> Result<()> {
    let mut lasts = !stored.contains("pg_temp");
    let text = spi::c_string(&format!("SELECT {stored}"))?;
    // SAFETY: an analyzed tree and a raw one, which are only read.
    unsafe {
        walk(given.tree().cast(), &mut |node, _| {
            if (*node).type_ == pg_sys::NodeTag::T_Query {
                for entry in pointers::<pg_sys::RangeTblEntry>((*node.cast::<pg_sys::Query>()).rtable) {
                    lasts &= (*entry).rtekind != pg_sys::RTEKind::RTE_RELATION
                        || !pg_sys::isAnyTempNamespace(pg_sys::get_rel_namespace((*entry).relid));
                }
            }
        });
        for statement in pointers::<pg_sys::RawStmt>(pg_sys::pg_parse_query(text.as_ptr())) {
            lasts &= names_lasting_types((*statement).stmt);
        }
    }
    if lasts {
        return Ok(());
    }
    Err(SyncError::new(code::FEATURE_NOT_SUPPORTED, format!("{what} cannot name temporary objects"))
        .hint("Other sessions do not have them: name permanent ones."))
}

/// Is each type that a raw tree names without its schema one of the system's? Written under pinned settings, any other is temporary.
///
/// # Safety
/// A raw tree.
unsafe fn names_lasting_types(node: *mut pg_sys::Node) -> bool {
    /// # Safety
    /// Called by `raw_expression_tree_walker` with nodes of the tree.
    #[pg_guard]
    unsafe extern "C-unwind" fn is_temporary(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
        // SAFETY: nodes with this tag are TypeNames, whose names are strings.
        unsafe {
            if node.is_null() {
                return false;
            }
            if (*node).type_ == pg_sys::NodeTag::T_TypeName {
                let names = (*node.cast::<pg_sys::TypeName>()).names;
                if !names.is_null() && (*names).length == 1 {
                    let name = pg_sys::Datum::from(string(pointers::<pg_sys::Node>(names)[0]));
                    let system = pg_sys::Datum::from(pg_sys::PG_CATALOG_NAMESPACE);
                    let zero = pg_sys::Datum::from(0);
                    let cache = pg_sys::SysCacheIdentifier::TYPENAMENSP as i32;
                    return !pg_sys::SearchSysCacheExists(cache, name, system, zero, zero);
                }
            }
            raw_expression_tree_walker(node, is_temporary, context)
        }
    }
    // SAFETY: see above; an ERROR in the walk unwinds.
    unsafe { !pg_sys::ffi::pg_guard_ffi_boundary(|| is_temporary(node, std::ptr::null_mut())) }
}

/// # Safety
/// A String node.
unsafe fn string(node: *mut pg_sys::Node) -> *mut std::ffi::c_char {
    // SAFETY: see above.
    unsafe { (*node.cast::<pg_sys::String>()).sval }
}

/// Do two analyzed trees mean the same? They do when they are equal but for the names that they give to what they read: writing a tree
/// as text adds some.
///
/// # Safety
/// Two analyzed trees.
unsafe fn is_same(a: *mut pg_sys::Query, b: *mut pg_sys::Query) -> bool {
    // SAFETY: copies are made, so that nobody else's tree is changed.
    unsafe { pg_sys::equal(nameless(a).cast(), nameless(b).cast()) }
}

/// # Safety
/// An analyzed tree.
unsafe fn nameless(tree: *mut pg_sys::Query) -> *mut pg_sys::Query {
    use std::ptr::null_mut;
    // SAFETY: a copy of its own; nodes with these tags are of these types, and none of these fields is needed to walk on.
    unsafe {
        let copy: *mut pg_sys::Query = pg_sys::copyObjectImpl(tree.cast()).cast();
        walk(copy.cast(), &mut |node, _| match (*node).type_ {
            pg_sys::NodeTag::T_Query => {
                let query = &mut *node.cast::<pg_sys::Query>();
                (query.stmt_location, query.stmt_len) = (0, 0);
                for entry in pointers::<pg_sys::RangeTblEntry>(query.rtable) {
                    ((*entry).alias, (*entry).eref) = (null_mut(), null_mut());
                }
            }
            pg_sys::NodeTag::T_TargetEntry => (*node.cast::<pg_sys::TargetEntry>()).resname = null_mut(),
            pg_sys::NodeTag::T_JoinExpr => (*node.cast::<pg_sys::JoinExpr>()).alias = null_mut(),
            pg_sys::NodeTag::T_SubLink => (*node.cast::<pg_sys::SubLink>()).operName = null_mut(),
            _ => {}
        });
        copy
    }
}
