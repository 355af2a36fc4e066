//! SELECTs that SPI cannot run: trees that are built and not parsed (policies over old rows, policy/query.rs), and texts whose names are
//! looked up with other rights than they run with (an owner's SQL, owned.rs).
//!
//! A tree is rewritten (this applies row-level security), planned and run by the caller, with his rights on tables and functions and under
//! his search path. SPI takes texts only, and analyzes a plan's again when it finds another role than before.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};

use pgrx::pg_sys;

use crate::server::error::{code, Remembering, Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::node::{list, node};
use crate::server::pg::ActiveSnapshot;
use crate::server::receiver::{Each, EachRow};
use crate::server::session::{self, Event};
use crate::server::spi::{self, pointers, Arg};
use crate::server::talk::Unheard;

pub mod by_place;
pub mod folded;
pub mod kept;
mod literals;
pub use literals::raw_expression_tree_walker;

/// Does reading a value of this type from its text run no code that somebody has made, as the type is now? Nor may it look up in arrays or rows what objects
/// are called: they may have got other names since.
pub fn input_runs_nothing(type_: pg_sys::Oid) -> bool {
    input_beside_runs_nothing(type_, &mut BTreeSet::new())
}

/// `seen`: types of which that was asked already. (Each may be made of the one below twice over.)
fn input_beside_runs_nothing(type_: pg_sys::Oid, seen: &mut BTreeSet<u32>) -> bool {
    memory::descend();
    if !seen.insert(type_.to_u32()) {
        return true;
    }
    // SAFETY: catalog look-ups of an existing type; the descriptor of a composite one is released.
    unsafe {
        let (whole, mut type_) = (type_, type_);
        while pg_sys::get_element_type(type_) != pg_sys::InvalidOid {
            type_ = pg_sys::get_element_type(type_);
        }
        if pg_sys::get_typtype(type_) as u8 != pg_sys::TYPTYPE_COMPOSITE {
            let is_inside = type_ != whole || seen.len() > 1;
            let looks_up = is_inside && crate::server::pg::is_object_name(type_);
            return !looks_up && literals::runs_nothing(type_) && pg_sys::getBaseType(type_) == type_;
        }
        let descriptor = pg_sys::lookup_rowtype_tupdesc_copy(type_, -1);
        let mut fields = (0..(*descriptor).natts as usize).map(|i| crate::server::pg::attribute(descriptor, i));
        fields.all(|field| field.attisdropped || input_beside_runs_nothing(field.atttypid, seen))
    }
}

/// One SELECT, analyzed.
pub struct Statement<'a> {
    text: CString,
    args: &'a [Arg],
    tree: *mut pg_sys::Query,
    environment: *mut pg_sys::QueryEnvironment,
    _connection: spi::Connection,
    _depth: spi::DepthGuard,
    _remembering: Remembering<'static>,
}

impl<'a> Statement<'a> {
    /// Parses and analyzes `sql`, a SELECT that somebody gave, as the current role and under the current search path. None of it runs:
    /// what literals are of types whose input may run somebody's code raise an ERROR (literals.rs).
    pub fn analyze(sql: &str) -> Result<Statement<'static>> {
        // SAFETY: what the closure is given.
        Statement::of(sql, &[], &[], |statement, text, environment| unsafe {
            literals::analyze(statement, text, environment)
        })
    }

    /// The same for a statement of ours, with parameters, and with these named relations beside the tables.
    pub fn analyze_beside(relations: &[spi::NamedRelation], sql: &str, args: &'a [Arg]) -> Result<Self> {
        let types: Vec<pg_sys::Oid> = args.iter().map(|a| a.oid).collect();
        let count = types.len() as i32;
        // SAFETY: what the closure is given; the types are only read.
        Self::of(sql, args, relations, |statement, text, environment| unsafe {
            pg_sys::parse_analyze_fixedparams(statement, text.as_ptr(), types.as_ptr(), count, environment)
        })
    }

    /// `analyze` is given the raw tree of the text, and an environment that lives as long as it.
    fn of(
        sql: &str,
        args: &'a [Arg],
        relations: &[spi::NamedRelation],
        analyze: impl FnOnce(*mut pg_sys::RawStmt, &CStr, *mut pg_sys::QueryEnvironment) -> *mut pg_sys::Query,
    ) -> Result<Self> {
        let (depth, remembering) = (spi::DepthGuard::enter(), Remembering::start());
        let text = spi::c_string(sql)?;
        // SAFETY: the SPI connection brings the memory context that the tree lives in until it is closed. The text outlives the calls.
        unsafe {
            let connection = spi::Connection::open()?;
            let parsed = pointers::<pg_sys::RawStmt>(pg_sys::pg_parse_query(text.as_ptr()));
            let [statement] = parsed[..] else {
                return Err(SyncError::new(code::INTERNAL, "not one statement").detail(sql.to_string()));
            };
            let environment = pg_sys::create_queryEnv();
            relations.iter().for_each(|relation| pg_sys::register_ENR(environment, *relation));
            let tree = analyze(statement, &text, environment);
            Ok(Statement {
                text,
                args,
                tree,
                environment,
                _connection: connection,
                _depth: depth,
                _remembering: remembering,
            })
        }
    }

    /// Its tree.
    pub fn tree(&self) -> *mut pg_sys::Query {
        self.tree
    }

    /// Lets it use these columns of a table that it names itself without the privilege to select them.
    pub fn use_without_privilege(&mut self, relation: pg_sys::Oid, columns: &[i16]) {
        // SAFETY: a tree of our own that nothing else refers to yet. Privileges are asked for by number, counted from the first
        // system column.
        unsafe {
            #[cfg(feature = "pg15")]
            let entries = pointers::<pg_sys::RangeTblEntry>((*self.tree).rtable)
                .into_iter()
                .filter(|e| (**e).rtekind == pg_sys::RTEKind::RTE_RELATION);
            #[cfg(not(feature = "pg15"))]
            let entries = pointers::<pg_sys::RTEPermissionInfo>((*self.tree).rteperminfos).into_iter();
            for entry in entries.filter(|e| (**e).relid == relation) {
                for column in columns {
                    let number = i32::from(*column) - pg_sys::FirstLowInvalidHeapAttributeNumber;
                    (*entry).selectedCols = pg_sys::bms_del_member((*entry).selectedCols, number);
                }
            }
        }
    }

    /// Runs it as the current role, under the active snapshot as it is; gives the first column of each row as text.
    pub fn run(self) -> Result<Vec<Option<String>>> {
        texts(|each| self.each(each))
    }

    /// The same, as `each_changed` does it.
    pub fn run_changed(
        self,
        change: impl FnOnce(*mut pg_sys::Query, *mut pg_sys::QueryEnvironment) -> Result<()>,
    ) -> Result<Vec<Option<String>>> {
        texts(|each| self.each_changed(change, each))
    }

    /// Runs it so and gives rows to `each`, as long as that wants more.
    pub fn each(self, each: Each) -> Result<()> {
        // SAFETY: the tree was analyzed just now, which has locked what it reads; the parameters are those that it was analyzed for.
        unsafe {
            let params = spi::params(self.args);
            let plan = plan(self.tree, &self.text, params, |_| Ok(()))?;
            run(plan, &self.text, params, self.environment, each);
        }
        Ok(())
    }

    /// The same, of what `change` makes of the tree when row-level security is in it. It is also given what the tree's tuplestores are
    /// named in: it may bring rows in that the caller never saw, so nothing is said to him ([`Unheard`]).
    pub fn each_changed(
        self,
        change: impl FnOnce(*mut pg_sys::Query, *mut pg_sys::QueryEnvironment) -> Result<()>,
        each: Each,
    ) -> Result<()> {
        // SAFETY: the tree was analyzed just now, which has locked what it reads; the parameters are those that it was analyzed for.
        unsafe {
            let params = spi::params(self.args);
            let plan = plan(self.tree, &self.text, params, |tree| change(tree, self.environment))?;
            run_unheard(plan, &self.text, params, self.environment, each);
        }
        Ok(())
    }

    /// What the planner expects it to cost, once `look` was given what the rewriter has made of it. It is not run.
    pub fn cost(self, look: impl FnOnce(*mut pg_sys::Query) -> Result<()>) -> Result<f64> {
        // SAFETY: as for `each_changed`.
        unsafe {
            let plan = plan(self.tree, &self.text, spi::params(self.args), look)?;
            Ok((*(*plan).planTree).total_cost)
        }
    }
}

/// The first column of each row that `run` gives, as text.
fn texts(run: impl FnOnce(Each) -> Result<()>) -> Result<Vec<Option<String>>> {
    let mut rows = Vec::new();
    run(&mut |slot| {
        // SAFETY: the executor's slot; there is a column.
        rows.push(unsafe { first_as_text(slot) });
        true
    })?;
    Ok(rows)
}

/// The first column, as text, of the rows of a SELECT without parameters that `read` analyzes; its plan is kept under the key. It runs as
/// the current role, under the active snapshot as it is.
pub fn rows_of(key: kept::Key, read: impl FnOnce() -> Result<Statement<'static>>) -> Result<Vec<Option<String>>> {
    let (no_params, no_environment) = (std::ptr::null_mut(), std::ptr::null_mut());
    const TEXT: &CStr = c"snapsync: an owner's expression";
    let generation = session::count(Event::Plan);
    // SAFETY: a kept plan, which `find` has locked what it reads for; or one made just now. There are no parameters.
    texts(|each| unsafe {
        if let Some(plan) = kept::find(&key) {
            let (_depth, _remembering) = (spi::DepthGuard::enter(), Remembering::start());
            run(plan, TEXT, no_params, no_environment, each);
        } else {
            let (statement, mut key) = (read()?, Some(key));
            let plan = plan(statement.tree, TEXT, no_params, |rewritten| kept::decide(&mut key, rewritten))?;
            kept::keep(key, plan, generation);
            run(plan, TEXT, no_params, no_environment, each);
        }
        Ok(())
    })
}

/// Plans and runs a SELECT of ours as the current role, under the active snapshot as it is, and gives each row to `each`. It is not
/// rewritten: no row-level security is applied to the tables that it reads.
///
/// # Safety
/// A tree that needs no rewriting. What it reads is locked; the text and what the environment names outlive the call.
pub unsafe fn execute_unrewritten(
    tree: *mut pg_sys::Query,
    text: &CStr,
    environment: *mut pg_sys::QueryEnvironment,
    each: Each,
) {
    let no_params = std::ptr::null_mut();
    // SAFETY: see above.
    unsafe {
        let plan = pg_sys::pg_plan_query(tree, text.as_ptr(), 0, no_params);
        run(plan, text, no_params, environment, each);
    }
}

/// Rewrites and plans an analyzed SELECT for the current role, and for these very parameters, of which there are often few. `change` is
/// given what the rewriter has made of it, with row-level security and views.
///
/// # Safety
/// What the tree reads is locked; the text and the parameters outlive the call.
pub unsafe fn plan(
    tree: *mut pg_sys::Query,
    text: &CStr,
    params: pg_sys::ParamListInfo,
    change: impl FnOnce(*mut pg_sys::Query) -> Result<()>,
) -> Result<*mut pg_sys::PlannedStmt> {
    // SAFETY: see above.
    unsafe {
        let query = rewritten(tree)?;
        change(query)?;
        Ok(pg_sys::pg_plan_query(query, text.as_ptr(), 0, params))
    }
}

/// The same without parameters; None where views and policies bring in a volatile function. The key is taken where the plan cannot be kept.
///
/// # Safety
/// What the tree reads is locked; the text outlives the call.
pub unsafe fn plan_steady(
    tree: *mut pg_sys::Query,
    text: &CStr,
    key: &mut Option<kept::Key>,
    change: impl FnOnce(*mut pg_sys::Query) -> Result<()>,
) -> Result<Option<*mut pg_sys::PlannedStmt>> {
    // SAFETY: see above.
    unsafe {
        let query = rewritten(tree)?;
        if pg_sys::contain_volatile_functions(query.cast()) {
            return Ok(None);
        }
        change(query)?;
        kept::decide(key, query)?;
        Ok(Some(pg_sys::pg_plan_query(query, text.as_ptr(), 0, std::ptr::null_mut())))
    }
}

/// Calls this very function as the current role, who must be allowed to, under a new snapshot: by its number, for another one may have got its
/// name. A set that it returns is read to its end, as by `SELECT function(...)`.
pub fn call(function: pg_sys::Oid, args: &[Arg]) -> Result<()> {
    const TEXT: &CStr = c"snapsync: a call";
    let (_depth, _remembering) = (spi::DepthGuard::enter(), Remembering::told(""));
    // SAFETY: nodes of our own, `SELECT function(constants)`, which need no rewriting; the function has these arguments (callers).
    unsafe {
        let constants: Vec<*mut pg_sys::Const> = args.iter().map(|arg| constant(arg)).gather();
        let (collation, call) = (pg_sys::DEFAULT_COLLATION_OID, pg_sys::CoercionForm::COERCE_EXPLICIT_CALL);
        let result = pg_sys::get_func_rettype(function);
        let call = pg_sys::makeFuncExpr(function, result, list(&constants), pg_sys::InvalidOid, collation, call);
        let call = call.cast::<pg_sys::FuncExpr>();
        (*call).funcretset = pg_sys::get_func_retset(function);
        let query: *mut pg_sys::Query = node(pg_sys::NodeTag::T_Query);
        (*query).commandType = pg_sys::CmdType::CMD_SELECT;
        (*query).hasTargetSRFs = (*call).funcretset;
        (*query).canSetTag = true;
        let name = pg_sys::pstrdup(c"result".as_ptr());
        (*query).targetList = list(&[pg_sys::makeTargetEntry(call.cast(), 1, name, false)]);
        (*query).jointree = pg_sys::makeFromExpr(std::ptr::null_mut(), std::ptr::null_mut());
        pg_sys::CommandCounterIncrement();
        let _snapshot = ActiveSnapshot::take();
        execute_unrewritten(query, TEXT, pg_sys::create_queryEnv(), &mut |_| true);
        pg_sys::CommandCounterIncrement();
    }
    Ok(())
}

/// # Safety
/// Of an existing type.
unsafe fn constant(arg: &Arg) -> *mut pg_sys::Const {
    let (mut length, mut by_value) = (0, false);
    let value = arg.datum.unwrap_or(pg_sys::Datum::null());
    // SAFETY: see above.
    unsafe {
        pg_sys::get_typlenbyval(arg.oid, &mut length, &mut by_value);
        let collation = pg_sys::get_typcollation(arg.oid);
        pg_sys::makeConst(arg.oid, -1, collation, length.into(), value, arg.datum.is_none(), by_value)
    }
}

/// # Safety
/// As for `plan`.
unsafe fn rewritten(tree: *mut pg_sys::Query) -> Result<*mut pg_sys::Query> {
    // SAFETY: see above.
    let rewritten = unsafe { pointers::<pg_sys::Query>(pg_sys::pg_rewrite_query(tree)) };
    let [query] = rewritten[..] else {
        return Err(SyncError::new(code::INTERNAL, "a rule made other than one statement"));
    };
    Ok(query)
}

/// Runs a plan as the current role, under the active snapshot as it is, and gives each row to `each`.
///
/// # Safety
/// What the plan reads is locked, and it is not freed meanwhile; the text, the parameters and what the environment names outlive the call.
pub unsafe fn run(
    plan: *mut pg_sys::PlannedStmt,
    text: &CStr,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    each: Each,
) {
    let mut rows = EachRow::new(each);
    // SAFETY: the order of calls is that of _SPI_pquery; the parameters and the plan (callers) and `rows` outlive the execution. On an ERROR the abort
    // releases what it holds.
    unsafe {
        let description = pg_sys::CreateQueryDesc(
            plan,
            text.as_ptr(),
            pg_sys::GetActiveSnapshot(),
            std::ptr::null_mut(),
            rows.dest(),
            params,
            environment,
            0,
        );
        pg_sys::ExecutorStart(description, 0);
        run_to_completion(description);
        pg_sys::ExecutorFinish(description);
        pg_sys::ExecutorEnd(description);
        pg_sys::FreeQueryDesc(description);
    }
}

/// The same of rows that the caller may never have seen.
///
/// # Safety
/// As for `run`.
pub unsafe fn run_unheard(
    plan: *mut pg_sys::PlannedStmt,
    text: &CStr,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    each: Each,
) {
    let _unheard = Unheard::start();
    // SAFETY: see above.
    unsafe { run(plan, text, params, environment, each) }
}

/// # Safety
/// A started query.
unsafe fn run_to_completion(description: *mut pg_sys::QueryDesc) {
    let forward = pg_sys::ScanDirection::ForwardScanDirection;
    // SAFETY: a started query.
    unsafe {
        #[cfg(feature = "pg18")]
        pg_sys::ExecutorRun(description, forward, 0);
        #[cfg(not(feature = "pg18"))]
        pg_sys::ExecutorRun(description, forward, 0, true);
    }
}

/// The first column's text.
///
/// # Safety
/// The executor's slot, of at least one column.
pub unsafe fn first_as_text(slot: *mut pg_sys::TupleTableSlot) -> Option<String> {
    // SAFETY: see above; the output function's palloc'd text is copied and freed.
    unsafe {
        let datum = crate::server::slot::value(slot, 1)?;
        let (mut output, mut varlena) = (pg_sys::InvalidOid, false);
        let type_oid = crate::server::pg::attribute((*slot).tts_tupleDescriptor, 0).atttypid;
        pg_sys::getTypeOutputInfo(type_oid, &mut output, &mut varlena);
        let text = pg_sys::OidOutputFunctionCall(output, datum);
        let copy = memory::text(&CStr::from_ptr(text).to_string_lossy());
        pg_sys::pfree(text.cast());
        Some(copy)
    }
}
