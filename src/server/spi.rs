//! The only way to run SQL from here: prepared plans kept per backend, parameters as datums, results as text.
//!
//! A thin layer of our own over SPI because pgrx's client decides by itself whether a statement is read-only (it depends on
//! what ran before), and a pull must never be anything else: it runs in PostgREST's READ ONLY transactions and on hot
//! standbys, with exactly the snapshot that `pull.rs` pushed.

use std::cell::Cell;
use std::ffi::{CStr, CString};

use pgrx::pg_sys;
use pgrx::IntoDatum;
use serde::de::DeserializeOwned;

use crate::server::checked::Checked;
use crate::server::error::{code, Remembering, Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::receiver::{Each, EachRow};

mod guard;
pub mod jit;
mod own;
mod planner;
mod plans;

pub use guard::{as_author, as_owner, as_table_owner, owner, pinned, pinned_but_path};
pub use guard::{quietly, waiting_briefly, without_waiting};
pub use own::{owner_execute, owner_maintain, owner_query, query_now, read_as_before, read_now};

/// A statement parameter: a type and a datum (None is SQL NULL).
#[derive(Clone, Copy)]
pub struct Arg {
    pub oid: pg_sys::Oid,
    pub datum: Option<pg_sys::Datum>,
}

pub fn arg<T: IntoDatum>(value: T) -> Arg {
    Arg { oid: T::type_oid(), datum: value.into_datum() }
}

/// A value of this type from its text, as the type's input function reads it.
pub fn input(oid: pg_sys::Oid, text: &str) -> Result<Arg> {
    let text = c_string(text)?;
    // SAFETY: an existing type, whose input function copies what it needs.
    let datum = unsafe {
        let (mut function, mut parameter) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
        pg_sys::getTypeInputInfo(oid, &mut function, &mut parameter);
        pg_sys::OidInputFunctionCall(function, text.as_ptr().cast_mut(), parameter, -1)
    };
    Ok(Arg { oid, datum: Some(datum) })
}

/// A text datum under another text-like type, for example json.
pub fn text_as(oid: pg_sys::Oid, value: &str) -> Arg {
    Arg { oid, datum: value.into_datum() }
}

/// A jsonb datum from JSON text that Postgres wrote.
pub fn jsonb(text: &str) -> Result<pg_sys::Datum> {
    let text = c_string(text)?;
    // SAFETY: jsonb_in takes one cstring and copies what it needs.
    unsafe { pgrx::direct_function_call_as_datum(pg_sys::jsonb_in, &[text.as_c_str().into_datum()]) }
        .ok_or_else(|| SyncError::new(code::INTERNAL, "jsonb_in returned null"))
}

/// Rows of one column each, JSON text, as the struct that they are made for.
pub fn typed<T: DeserializeOwned>(rows: &[Row]) -> Result<Vec<T>> {
    rows.iter().map(|row| row.json(0)).gather()
}

/// One result row, every value in its text form.
#[derive(Debug)]
pub struct Row(Vec<Option<String>>);

impl Row {
    pub fn text(&self, column: usize) -> Option<&str> {
        self.0[column].as_deref()
    }
    pub fn string(&self, column: usize) -> String {
        self.0[column].clone().unwrap_or_default()
    }
    pub fn bool(&self, column: usize) -> bool {
        self.text(column) == Some("t")
    }
    pub fn i64(&self, column: usize) -> Option<i64> {
        self.text(column).and_then(|t| t.parse().ok())
    }
    pub fn oid(&self, column: usize) -> pg_sys::Oid {
        self.text(column).and_then(|t| t.parse::<u32>().ok()).map_or(pg_sys::InvalidOid, pg_sys::Oid::from)
    }
    /// A column with JSON text, as the struct that it is made for.
    pub fn json<T: DeserializeOwned>(&self, column: usize) -> Result<T> {
        serde_json::from_str(self.text(column).unwrap_or("null"))
            .map_err(|e| SyncError::new(code::INTERNAL, "unexpected row").detail(e.to_string()))
    }
    /// A list column: the SQL side says `to_json(list)::text`, which no separator inside a value can break.
    pub fn list(&self, column: usize) -> Option<Vec<String>> {
        let list: Vec<Checked<String>> = serde_json::from_str(self.text(column)?).ok()?;
        Some(list.into_iter().map(|Checked(text)| text).gather())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Uses the active snapshot as it is and refuses statements that write.
    Read,
    Write,
}

/// An SPI connection, closed when it is dropped.
pub struct Connection(());

impl Connection {
    pub fn open() -> Result<Self> {
        // SAFETY: inside a transaction.
        if unsafe { pg_sys::SPI_connect() } != pg_sys::SPI_OK_CONNECT as i32 {
            return Err(SyncError::new(code::INTERNAL, "could not connect to SPI"));
        }
        Ok(Connection(()))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // While an ERROR unwinds through us the (sub)transaction's abort closes it.
        if !std::thread::panicking() {
            // SAFETY: the innermost connection is this one: those opened since are closed.
            unsafe { pg_sys::SPI_finish() };
        }
    }
}

/// Runs `sql` and returns its rows as text.
pub fn query(sql: &str, args: &[Arg], mode: Mode) -> Result<Vec<Row>> {
    query_planned(sql, args, mode, Planned::ByCost)
}

/// The same under a plan of this kind.
pub fn query_planned(sql: &str, args: &[Arg], mode: Mode, planned: Planned) -> Result<Vec<Row>> {
    run(sql, args, &[], mode, planned, std::ptr::null_mut(), |_| collect())
}

/// Reads, with these named relations beside the tables.
pub fn query_beside(relations: &[NamedRelation], sql: &str, args: &[Arg], planned: Planned) -> Result<Vec<Row>> {
    run(sql, args, relations, Mode::Read, planned, std::ptr::null_mut(), |_| collect())
}

/// Runs a push's statement, whose rows are a number and perhaps a boolean, under a plan made once for any parameters.
///
/// A plan made for 10,000 keys prefers reading the whole table (1M rows: 600 ms) to as many look-ups in its index (25 ms), and
/// planning anew, which Postgres does five times before it thinks of keeping a plan, takes longer than writing one row.
pub fn numbers(sql: &str, args: &[Arg], mode: Mode) -> Result<Vec<(u32, bool)>> {
    run(sql, args, &[], mode, Planned::Once, std::ptr::null_mut(), |_| collect_numbers())
}

/// Runs `sql` and returns how many rows it touched.
pub fn execute(sql: &str, args: &[Arg], mode: Mode) -> Result<u64> {
    run(sql, args, &[], mode, Planned::ByCost, std::ptr::null_mut(), |processed| processed)
}

/// Runs `sql` with these named relations beside the tables, and gives rows to `each`, as long as that wants more, instead of collecting them.
pub fn stream(relations: &[NamedRelation], sql: &str, args: &[Arg], planned: Planned, each: Each) -> Result<u64> {
    run(sql, args, relations, Mode::Read, planned, EachRow::new(each).dest(), |processed| processed)
}

/// A tuplestore that a statement can name.
pub type NamedRelation = pg_sys::EphemeralNamedRelation;

/// A tuplestore as a relation that statements can name: a name without schema means it before any table. What it holds is no part of
/// the statement, as parameters are once a plan is made for them: settings that print plans and parameters print none of it.
pub fn named_relation(
    name: &CStr,
    descriptor: pg_sys::TupleDesc,
    store: *mut pg_sys::Tuplestorestate,
    rows: f64,
) -> NamedRelation {
    // SAFETY: palloc'd room for one; the name and the descriptor outlive it, as the store does (callers).
    unsafe {
        let size = std::mem::size_of::<pg_sys::EphemeralNamedRelationData>();
        let relation: NamedRelation = pg_sys::palloc0(size).cast();
        (*relation).md = pg_sys::EphemeralNamedRelationMetadataData {
            name: name.as_ptr().cast_mut(),
            reliddesc: pg_sys::InvalidOid,
            tupdesc: descriptor,
            enrtype: pg_sys::EphemeralNameRelationType::ENR_NAMED_TUPLESTORE,
            enrtuples: rows,
        };
        (*relation).reldata = store.cast();
        relation
    }
}

/// Runs a utility command (DDL).
pub fn utility(command: &str) -> Result<()> {
    let text = c_string(command)?;
    let _remembering = Remembering::start();
    // SAFETY: as in `run`; nothing is kept.
    unsafe {
        let _connection = Connection::open()?;
        let status = pg_sys::SPI_execute(text.as_ptr(), false, 0);
        if status < 0 {
            return Err(SyncError::new(code::INTERNAL, format!("SPI returned {status}")).detail(command.to_string()));
        }
    }
    Ok(())
}

/// The members of a Postgres list of pointers.
///
/// # Safety
/// `list` is NULL or a List of pointers to `T`.
pub unsafe fn pointers<T>(list: *mut pg_sys::List) -> Vec<*mut T> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: a List of pointers with `length` valid cells.
    unsafe { (0..(*list).length as usize).map(|i| (*(*list).elements.add(i)).ptr_value.cast()).gather() }
}

/// How long a plan serves.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Planned {
    /// Postgres decides by itself (plancache.c).
    ByCost,
    /// Whatever the parameters are.
    Once,
    /// For these parameters, each time.
    Anew,
}

thread_local! {
    /// Statements under way: a user's trigger may call us again from inside one of ours.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

fn run<R>(
    sql: &str,
    args: &[Arg],
    relations: &[NamedRelation],
    mode: Mode,
    planned: Planned,
    dest: *mut pg_sys::DestReceiver,
    finish: impl FnOnce(u64) -> R,
) -> Result<R> {
    let _depth = DepthGuard::enter();
    let _remembering = if guard::is_callers() { Remembering::told(sql) } else { Remembering::start() };
    // SAFETY: plain use of SPI within a connection.
    unsafe {
        let _connection = Connection::open()?;
        for relation in relations {
            if pg_sys::SPI_register_relation(*relation) < 0 {
                return Err(SyncError::new(code::INTERNAL, "could not name a relation"));
            }
        }
        // How many rows a named relation has is told when a plan is made, so such a plan serves once. And where there are no parameters
        // Postgres has no other plan than the one for any, whatever it is asked for.
        let kept = planned != Planned::Anew || relations.is_empty() && !args.is_empty();
        let plan = if kept { plans::plan(sql, args, planned)? } else { plans::prepare(sql, args, planned)? };
        let options = pg_sys::SPIExecuteOptions {
            params: params(args),
            read_only: mode == Mode::Read,
            dest,
            ..Default::default()
        };
        let status = pg_sys::SPI_execute_plan_extended(plan, &options);
        if status < 0 {
            return Err(SyncError::new(code::INTERNAL, format!("SPI returned {status}")).detail(sql.to_string()));
        }
        Ok(finish(pg_sys::SPI_processed))
    }
}

/// Depth of nested statements; reset by unwinding too.
pub struct DepthGuard(());

impl DepthGuard {
    pub fn enter() -> Self {
        DEPTH.with(|d| d.set(d.get() + 1));
        DepthGuard(())
    }
}

impl Drop for DepthGuard {
    fn drop(&mut self) {
        DEPTH.with(|d| d.set(d.get() - 1));
    }
}

/// Is no statement of ours around the one that runs?
pub fn is_outermost() -> bool {
    DEPTH.with(|d| d.get() == 1)
}

/// Is a statement of ours under way?
pub fn is_any() -> bool {
    DEPTH.with(|d| d.get() > 0)
}

/// The parameters' values, for a plan.
///
/// # Safety
/// The list lives in the current memory context and refers to the arguments' datums.
pub unsafe fn params(args: &[Arg]) -> pg_sys::ParamListInfo {
    if args.is_empty() {
        return std::ptr::null_mut();
    }
    // SAFETY: makeParamList allocates room for exactly this many parameters in the current (SPI) memory context.
    unsafe {
        let list = pg_sys::makeParamList(args.len() as i32);
        let slots = (*list).params.as_mut_slice(args.len());
        for (slot, arg) in slots.iter_mut().zip(args) {
            slot.value = arg.datum.unwrap_or(pg_sys::Datum::null());
            slot.isnull = arg.datum.is_none();
            slot.pflags = pg_sys::PARAM_FLAG_CONST as u16;
            slot.ptype = arg.oid;
        }
        list
    }
}

fn collect_numbers() -> Vec<(u32, bool)> {
    // SAFETY: as in `collect`; the columns are an int4 or int8, and a bool.
    unsafe {
        let table = pg_sys::SPI_tuptable;
        if table.is_null() {
            return Vec::new();
        }
        let two = (*(*table).tupdesc).natts > 1;
        (0..pg_sys::SPI_processed as usize)
            .map(|i| {
                let (tuple, mut null) = (*(*table).vals.add(i), false);
                let number = pg_sys::SPI_getbinval(tuple, (*table).tupdesc, 1, &mut null);
                let flag = two && pg_sys::SPI_getbinval(tuple, (*table).tupdesc, 2, &mut null).value() as u8 != 0;
                (number.value() as u32, flag)
            })
            .gather()
    }
}

fn collect() -> Vec<Row> {
    // SAFETY: called right after a successful execution, before SPI_finish: SPI_tuptable is this statement's result (or NULL).
    unsafe {
        let table = pg_sys::SPI_tuptable;
        if table.is_null() {
            return Vec::new();
        }
        let natts = (*(*table).tupdesc).natts;
        (0..pg_sys::SPI_processed as usize)
            .map(|i| {
                let tuple = *(*table).vals.add(i);
                Row((1..=natts)
                    .map(|column| {
                        let text = pg_sys::SPI_getvalue(tuple, (*table).tupdesc, column);
                        (!text.is_null()).then(|| memory::text(&CStr::from_ptr(text).to_string_lossy()))
                    })
                    .gather())
            })
            .gather()
    }
}

pub fn c_string(text: &str) -> Result<CString> {
    let mut bytes = memory::list(text.len() + 1);
    memory::append(&mut bytes, text.as_bytes());
    CString::new(bytes).map_err(|_| SyncError::new(code::INVALID_PARAMETER, "text contains a NUL character"))
}

/// The transactions of a procedure, which it may end.
pub struct Transactions(());

impl Transactions {
    /// In a procedure whose caller lets it.
    pub fn begin() -> Transactions {
        // SAFETY: inside a transaction; closed in `drop`, or by the abort.
        unsafe { pg_sys::SPI_connect_ext(pg_sys::SPI_OPT_NONATOMIC as i32) };
        Transactions(())
    }

    /// Commits, and begins the next one, which has no snapshot until it needs one.
    pub fn commit(&self) {
        // SAFETY: the innermost connection is ours; nothing of ours holds a snapshot, a lock or a pin.
        unsafe { pg_sys::SPI_commit() }
    }
}

impl Drop for Transactions {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: opened in `begin`.
            unsafe { pg_sys::SPI_finish() };
        }
    }
}
