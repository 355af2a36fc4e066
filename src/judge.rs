//! Statements whose names are looked up with other rights than they run with.
//!
//! A policy is stored parsed: whoever runs it needs no right on the schemas that it names. Where its text is run over images, that
//! must hold too. So the text is parsed and analyzed by a role that may look those names up, and what comes of it is rewritten
//! (this applies row-level security), planned and run by the caller, with his rights on tables and functions and under his search
//! path. SPI cannot serve here: it analyzes a plan again when it finds another role than before.

use std::ffi::{CStr, CString};

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::error::{code, Remembering, Result, SyncError};
use crate::spi::{self, pointers, Arg};

/// One SELECT, analyzed.
pub struct Statement<'a> {
    text: CString,
    args: &'a [Arg],
    tree: *mut pg_sys::Query,
    _connection: spi::Connection,
    _depth: spi::DepthGuard,
    _remembering: Remembering,
}

impl<'a> Statement<'a> {
    /// Parses and analyzes `sql`, a SELECT, as the current role and under the current search path. Types' input functions may run
    /// here (for literals), and so may checks of domains: the role must not be one whose rights their owners should not have.
    pub fn analyze(sql: &str, args: &'a [Arg]) -> Result<Self> {
        let (depth, remembering) = (spi::DepthGuard::enter(), Remembering::start());
        let text = spi::c_string(sql)?;
        let types: Vec<pg_sys::Oid> = args.iter().map(|a| a.oid).collect();
        // SAFETY: the SPI connection brings the memory context that the tree lives in until it is closed. `text` and `types`
        // outlive the calls.
        unsafe {
            let connection = spi::Connection::open()?;
            let parsed = pointers::<pg_sys::RawStmt>(pg_sys::pg_parse_query(text.as_ptr()));
            let [statement] = parsed[..] else {
                return Err(SyncError::new(code::INTERNAL, "not one statement").detail(sql.to_string()));
            };
            let tree = analyze(statement, &text, &types);
            Ok(Statement { text, args, tree, _connection: connection, _depth: depth, _remembering: remembering })
        }
    }

    /// How often the statement itself names this relation, in subqueries too.
    pub fn mentions(&self, relation: pg_sys::Oid) -> usize {
        let (mut relations, mut others, mut secured) = (std::ptr::null_mut(), std::ptr::null_mut(), false);
        // SAFETY: reads the tree; one entry per range table entry.
        unsafe {
            pg_sys::extract_query_dependencies(self.tree.cast(), &mut relations, &mut others, &mut secured);
            let length = if relations.is_null() { 0 } else { (*relations).length as usize };
            (0..length).filter(|&i| (*(*relations).elements.add(i)).oid_value == relation).count()
        }
    }

    /// Lets the statement read the tables that it names itself by this role's rights, as a view of that role's would. Only those
    /// rights: no code runs as that role.
    pub fn read_by_rights_of(&mut self, role: pg_sys::Oid) {
        // SAFETY: a tree of our own that nothing else refers to yet.
        unsafe {
            #[cfg(feature = "pg15")]
            for entry in pointers::<pg_sys::RangeTblEntry>((*self.tree).rtable) {
                if (*entry).rtekind == pg_sys::RTEKind::RTE_RELATION {
                    (*entry).checkAsUser = role;
                }
            }
            #[cfg(not(feature = "pg15"))]
            for permission in pointers::<pg_sys::RTEPermissionInfo>((*self.tree).rteperminfos) {
                (*permission).checkAsUser = role;
            }
        }
    }

    /// Runs it as the current role, under the active snapshot as it is; gives the first column of each row as text.
    pub fn run(self) -> Result<Vec<Option<String>>> {
        let mut receiver = Receiver::new();
        // SAFETY: the order of calls is that of _SPI_pquery; the parameters, the plan and the receiver outlive the execution. On an
        // ERROR the abort releases what it holds.
        unsafe {
            let rewritten = pointers::<pg_sys::Query>(pg_sys::pg_rewrite_query(self.tree));
            let [query] = rewritten[..] else {
                return Err(SyncError::new(code::INTERNAL, "a rule made other than one statement"));
            };
            let params = spi::params(self.args);
            // Planned for these very parameters, of which there are often few.
            let plan = pg_sys::pg_plan_query(query, self.text.as_ptr(), 0, params);
            let description = pg_sys::CreateQueryDesc(
                plan,
                self.text.as_ptr(),
                pg_sys::GetActiveSnapshot(),
                std::ptr::null_mut(),
                receiver.dest(),
                params,
                std::ptr::null_mut(),
                0,
            );
            pg_sys::ExecutorStart(description, 0);
            run_to_completion(description);
            pg_sys::ExecutorFinish(description);
            pg_sys::ExecutorEnd(description);
            pg_sys::FreeQueryDesc(description);
        }
        Ok(receiver.rows)
    }
}

/// # Safety
/// Within an SPI connection; text and types outlive what is returned.
unsafe fn analyze(statement: *mut pg_sys::RawStmt, text: &CStr, types: &[pg_sys::Oid]) -> *mut pg_sys::Query {
    let (count, no_environment) = (types.len() as i32, std::ptr::null_mut());
    // SAFETY: see `Statement::analyze`; the types are only read.
    unsafe { pg_sys::parse_analyze_fixedparams(statement, text.as_ptr(), types.as_ptr(), count, no_environment) }
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

/// A `DestReceiver` that keeps the first column's text.
#[repr(C)]
struct Receiver {
    /// What the executor sees; must be first.
    dest: pg_sys::DestReceiver,
    /// The type's output function, known when the query starts.
    output: pg_sys::Oid,
    rows: Vec<Option<String>>,
}

impl Receiver {
    fn new() -> Self {
        let dest = pg_sys::DestReceiver {
            receiveSlot: Some(receive),
            rStartup: Some(startup),
            rShutdown: Some(shutdown),
            rDestroy: Some(shutdown),
            mydest: pg_sys::CommandDest::DestNone,
        };
        Receiver { dest, output: pg_sys::InvalidOid, rows: Vec::new() }
    }

    /// Valid while the receiver is neither moved nor touched.
    fn dest(&mut self) -> *mut pg_sys::DestReceiver {
        std::ptr::from_mut(self).cast()
    }
}

/// # Safety
/// Called by the executor, with what `Receiver::dest` gave it.
#[pg_guard]
unsafe extern "C-unwind" fn startup(dest: *mut pg_sys::DestReceiver, _operation: i32, columns: pg_sys::TupleDesc) {
    // SAFETY: `dest` is what `Receiver::dest` returned and the executor's call is its only use at this time; the result has
    // a column.
    unsafe {
        let mut varlena = false;
        let type_oid = crate::catalog::attribute(columns, 0).atttypid;
        pg_sys::getTypeOutputInfo(type_oid, &mut (*dest.cast::<Receiver>()).output, &mut varlena);
    }
}

/// # Safety
/// Called by the executor, with what `Receiver::dest` gave it.
#[pg_guard]
unsafe extern "C-unwind" fn receive(slot: *mut pg_sys::TupleTableSlot, dest: *mut pg_sys::DestReceiver) -> bool {
    // SAFETY: as in `startup`, which the executor calls first; the output function's palloc'd text is copied and freed.
    unsafe {
        let receiver = &mut *dest.cast::<Receiver>();
        if (*slot).tts_nvalid < 1 {
            pg_sys::slot_getsomeattrs_int(slot, 1);
        }
        let text = (!*(*slot).tts_isnull).then(|| {
            let text = pg_sys::OidOutputFunctionCall(receiver.output, *(*slot).tts_values);
            let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
            pg_sys::pfree(text.cast());
            copy
        });
        receiver.rows.push(text);
    }
    true
}

/// # Safety
/// Called by the executor.
#[pg_guard]
unsafe extern "C-unwind" fn shutdown(_dest: *mut pg_sys::DestReceiver) {
    // The rows go with the receiver.
}
