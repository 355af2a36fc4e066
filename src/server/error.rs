//! The one error type. Everything a user can cause becomes a `SyncError`: lower-case message, SQLSTATE, DETAIL, HINT.
//!
//! pgrx carries an ERROR through Rust frames as a panic that knows only the SQLSTATEs of its own list and drops the rest:
//! our `PT409` (which PostgREST turns into HTTP 409), any SQLSTATE that a user's trigger chose, and the constraint's name
//! would come out as XX000. So errors leave by [`raising`], which throws them with `ThrowErrorData` when no Rust frame is
//! left, and what Postgres raised inside a statement of ours is remembered whole by an error context callback.

use std::cell::{Cell, RefCell};
use std::ffi::{c_char, c_void, CStr};
use std::marker::PhantomData;
use std::rc::Rc;

use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel};
use pgrx::pg_sys::AsPgCStr;
use pgrx::prelude::*;
use pgrx::{pg_sys, PgTryBuilder};

use crate::server::{memory, talk};

pub type Result<T> = std::result::Result<T, SyncError>;

/// SQLSTATEs that snapsync raises itself. Everything else keeps the code Postgres gave it.
pub mod code {
    pub const UNDEFINED_TABLE: &str = "42P01";
    pub const UNDEFINED_COLUMN: &str = "42703";
    pub const INSUFFICIENT_PRIVILEGE: &str = "42501";
    pub const INVALID_PARAMETER: &str = "22023";
    pub const NULL_NOT_ALLOWED: &str = "22004";
    pub const WRONG_OBJECT_TYPE: &str = "42809";
    pub const INVALID_TABLE_DEFINITION: &str = "42P16";
    pub const DUPLICATE_OBJECT: &str = "42710";
    pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
    pub const PROGRAM_LIMIT: &str = "54000";
    pub const NOT_IN_STATE: &str = "55000";
    pub const NOT_NULL_VIOLATION: &str = "23502";
    pub const CHECK_VIOLATION: &str = "23514";
    pub const UNIQUE_VIOLATION: &str = "23505";
    pub const EXCLUSION_VIOLATION: &str = "23P01";
    pub const CHANGED_BY_ITS_OWN: &str = "27000";
    pub const GENERATED_ALWAYS: &str = "428C9";
    pub const SERIALIZATION_FAILURE: &str = "40001";
    pub const OUT_OF_MEMORY: &str = "53200";
    pub const STACK_DEPTH: &str = "54001";
    pub const CONFLICT: &str = "PT409";
    pub const INTERNAL: &str = "XX000";
}

/// The server's function that ends a statement or a session where somebody asked for it (tcop/postgres.c).
const INTERRUPTS: &str = "ProcessInterrupts";

/// Where PL/pgSQL's RAISE does.
const RAISE: &str = "exec_stmt_raise";

#[derive(Debug, Clone, Default)]
pub struct SyncError {
    pub code: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// What a constraint violation names: schema, table, column, data type, constraint.
    pub names: [Option<String>; 5],
    /// The server has raised it because of a signal. A code alone says nothing: whoever writes SQL can raise any.
    pub interrupts: bool,
    /// PL/pgSQL's RAISE: somebody's code has chosen its code, and words.
    pub raised: bool,
    /// It would be the same at any other time of the same work.
    pub lasting: bool,
    /// Where it arose, if that is told. (A push that fails may have the same of very many rows.)
    pub origin: Option<Rc<RaisedAt>>,
}

/// What an error of the server says of the code that raised it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RaisedAt {
    /// `PL/pgSQL function f() line 3 at RAISE`.
    context: Option<String>,
    /// A statement of that code, and where in it the fault is.
    query: Option<String>,
    position: i32,
    /// For the server's log only: what others were doing (in a deadlock).
    log: Option<String>,
}

impl SyncError {
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        SyncError { code: code.into(), message: message.into(), ..Default::default() }
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The innermost function that it came out of, of those that say their names ("PL/pgSQL function app.f() line 3 at SQL statement"), where that is told.
    pub fn raised_in(&self) -> Option<&str> {
        let context = self.origin.as_ref()?.context.as_ref()?;
        context.lines().find(|line| line.contains("PL/") || line.starts_with("SQL function "))
    }

    /// Did it come out of code that the statement called (a function, a trigger, a cascade), where that is told?
    pub fn is_of_inner_code(&self) -> bool {
        let Some(origin) = &self.origin else { return false };
        // (That a value is no JSON is told so.)
        let lines = origin.context.iter().flat_map(|context| context.lines());
        origin.query.is_some() || lines.into_iter().any(|line| !line.starts_with("JSON data, line "))
    }

    /// Is it about values and nothing else: that a type does not take them, a column, or a CHECK? (Not what a trigger says so of.)
    pub fn is_of_values_alone(&self) -> bool {
        let codes = [code::NOT_NULL_VIOLATION, code::CHECK_VIOLATION];
        (self.code.starts_with("22") || codes.contains(&&*self.code)) && !self.is_of_inner_code()
    }

    /// Has somebody cancelled the statement, or does the session end?
    pub fn is_cancellation(&self) -> bool {
        self.interrupts && ["57014", "57P01"].contains(&&*self.code)
    }

    /// Was a lock waited for for too long (`lock_timeout`)?
    pub fn is_lock_timeout(&self) -> bool {
        self.interrupts && self.code == "55P03"
    }

    /// Has this very session something in use: an open cursor on a table, or rows for which deferred triggers are still to fire?
    pub fn is_in_use(&self) -> bool {
        self.code == "55006"
    }

    /// The error that Postgres raised, whole where a statement of ours raised it.
    pub fn from_report(report: &ErrorReportWithLevel) -> Self {
        let remembered = REMEMBERED.with(|r| r.borrow_mut().take()).filter(|r| r.is(report));
        let whole = remembered.map(|r| r.error).unwrap_or_else(|| SyncError {
            code: sqlstate_text(report.sql_error_code() as i32),
            message: report.message().to_string(),
            detail: report.detail().map(str::to_string),
            hint: report.hint().map(str::to_string),
            ..Default::default()
        });
        let interrupts = report.function_name() == Some(INTERRUPTS);
        SyncError { interrupts, raised: report.function_name() == Some(RAISE), ..whole }
    }

    /// Raises the error from inside a callback of Postgres, where SQLSTATEs are only standard ones.
    pub fn raise(self) -> ! {
        // SAFETY: palloc'd data made for this call; the guarded binding turns the ERROR into an unwinding panic.
        unsafe { pg_sys::ThrowErrorData(self.into_error_data()) };
        unreachable!("ThrowErrorData returned from an ERROR")
    }

    /// As Postgres's own structure, palloc'd.
    fn into_error_data(self) -> *mut pg_sys::ErrorData {
        let text = |s: Option<String>| s.map_or(std::ptr::null_mut(), |s| s.replace('\0', "\u{fffd}").as_pg_cstr());
        let [schema, table, column, datatype, constraint] = self.names;
        let origin = self.origin.map(Rc::unwrap_or_clone).unwrap_or_default();
        let data = pg_sys::ErrorData {
            elevel: pgrx::PgLogLevel::ERROR as i32,
            sqlerrcode: sqlstate(&self.code),
            message: text(Some(self.message)),
            detail: text(self.detail),
            detail_log: text(origin.log),
            hint: text(self.hint),
            context: text(origin.context),
            internalquery: text(origin.query),
            internalpos: origin.position,
            schema_name: text(schema),
            table_name: text(table),
            column_name: text(column),
            datatype_name: text(datatype),
            constraint_name: text(constraint),
            ..Default::default()
        };
        // SAFETY: palloc'd room for one ErrorData.
        unsafe {
            let place = pg_sys::palloc(std::mem::size_of::<pg_sys::ErrorData>()).cast::<pg_sys::ErrorData>();
            place.write(data);
            place
        }
    }
}

/// Runs a function that SQL called and raises its error, or the one Postgres raised in it.
///
/// # Safety
/// Only as the whole body of an `extern "C-unwind"` function that Postgres calls.
pub unsafe fn raising(body: impl FnOnce() -> Result<pg_sys::Datum>) -> pg_sys::Datum {
    let mut failure: *mut pg_sys::ErrorData = std::ptr::null_mut();
    // SAFETY: the guard turns any panic that is left into an ERROR.
    let datum = unsafe {
        pg_sys::panic::pgrx_extern_c_guard(|| match caught(body) {
            Ok(datum) => datum,
            Err(e) => {
                failure = e.into_error_data();
                pg_sys::Datum::null()
            }
        })
    };
    if !failure.is_null() {
        talk::release_lwlocks();
        // SAFETY: this jumps out over this frame and the caller's, neither of which has anything to drop.
        unsafe { unbound::ThrowErrorData(failure) };
    }
    datum
}

/// Runs `body`; an ERROR that Postgres raises in it becomes an `Err`. Nothing but wording and raising it again may follow:
/// the transaction is not in a state to go on.
pub fn caught<R>(body: impl FnOnce() -> Result<R>) -> Result<R> {
    let body = std::panic::AssertUnwindSafe(body);
    // SAFETY: a variable of this backend.
    let owner = unsafe { pg_sys::CurrentResourceOwner };
    PgTryBuilder::new(move || {
        let body = body;
        relieved(body.0)
    })
    .catch_others(move |cause| {
        // SAFETY: as above. The ERROR may have come from inside a portal; what the caller has opened is closed as what opened it.
        unsafe { pg_sys::CurrentResourceOwner = owner };
        match cause {
            // A panic, too: whoever catches has a subtransaction to end.
            CaughtError::PostgresError(report)
            | CaughtError::ErrorReport(report)
            | CaughtError::RustPanic { ereport: report, .. } => Err(SyncError::from_report(&report)),
        }
    })
    .execute()
}

/// Runs `body`, in which an ERROR for want of memory can be raised. pgrx copies each ERROR on its way through Rust. Where there is no memory
/// for the copy that is the next ERROR, and the next, until Postgres gives up with a PANIC, which takes the server down.
#[inline(always)]
pub fn relieved<R>(body: impl FnOnce() -> R) -> R {
    struct LinkedContext(*mut pg_sys::ErrorContextCallback);
    impl Drop for LinkedContext {
        fn drop(&mut self) {
            // SAFETY: what was there before the callback was linked.
            unsafe { pg_sys::error_context_stack = self.0 }
        }
    }
    // SAFETY: the callback is linked into the stack here, and unlinked before its place is gone, also when unwinding.
    let previous = unsafe { pg_sys::error_context_stack };
    let mut callback = pg_sys::ErrorContextCallback { previous, callback: Some(relieve), arg: std::ptr::null_mut() };
    // SAFETY: as above.
    unsafe { pg_sys::error_context_stack = &mut callback };
    let _linked = LinkedContext(previous);
    body()
}

/// # Safety
/// Called by `errfinish`, while there is an error at hand.
#[pg_guard]
unsafe extern "C-unwind" fn relieve(_arg: *mut c_void) {
    // SAFETY: inside errfinish.
    if unsafe { pg_sys::geterrcode() } == sqlstate(code::OUT_OF_MEMORY) {
        memory::relieve();
    }
}

/// Runs `body`, which runs SQL of the user's; an ERROR in it says which SQL that is.
pub fn in_sql_of<R>(place: impl FnOnce() -> String, body: impl FnOnce() -> Result<R>) -> Result<R> {
    caught(body).map_err(|mut e| {
        let _ = e.detail.get_or_insert_with(place);
        e
    })
}

/// An ERROR passes through Rust as a panic, of which pgrx asks for a backtrace. Where somebody has set RUST_BACKTRACE for the server, that
/// would take milliseconds and stand in the DETAIL of each error that a client sees. std looks at its settings once: now.
pub fn without_backtraces() {
    const SETTING: &str = "RUST_LIB_BACKTRACE";
    let before = std::env::var_os(SETTING);
    std::env::set_var(SETTING, "0");
    drop(std::backtrace::Backtrace::capture());
    match before {
        Some(value) => std::env::set_var(SETTING, value),
        None => std::env::remove_var(SETTING),
    }
}

/// The error that is on its way out of a statement.
struct Remembered {
    error: SyncError,
    /// A subtransaction has been rolled back since. Somebody's code has caught the error, then, which PL/pgSQL raises again where no handler is for it, without a word to
    /// anybody. But what is raised now may as well be another error of the same words, and who raises that is not to know what the first one said of rows.
    caught: bool,
}

thread_local! {
    static REMEMBERED: RefCell<Option<Remembered>> = const { RefCell::new(None) };
}

/// No error is on its way.
pub fn forget() {
    REMEMBERED.with(|r| *r.borrow_mut() = None);
}

/// A subtransaction is rolled back.
pub fn caught_by_somebody() {
    REMEMBERED.with(|r| {
        if let Some(remembered) = &mut *r.borrow_mut() {
            remembered.caught = true;
            remembered.error.origin = None;
        }
    });
}

impl Remembered {
    /// Where it arose only the log is told.
    fn conceal(&mut self) {
        let log = self.error.origin.take().and_then(|origin| origin.log.clone());
        self.error.origin = log.map(|log| Rc::new(RaisedAt { log: Some(log), ..RaisedAt::default() }));
    }

    /// Is it this one that arrives? (Of one that was caught all must be the same that the report has.)
    fn is(&self, report: &ErrorReportWithLevel) -> bool {
        let said = || (self.error.detail.as_deref(), self.error.hint.as_deref()) == (report.detail(), report.hint());
        self.error.message == report.message() && (!self.caught || said())
    }
}

/// While this lives, an ERROR is remembered whole as Postgres reports it.
pub struct Remembering<'s> {
    link: Box<LinkedCallback>,
    statement: PhantomData<&'s str>,
}

struct LinkedCallback {
    callback: pg_sys::ErrorContextCallback,
    /// Whoever runs this statement may be told where in it an error arose.
    told: Option<*const str>,
}

/// The callback of a [`Remembering`].
const UNLINKED: pg_sys::ErrorContextCallback = pg_sys::ErrorContextCallback {
    previous: std::ptr::null_mut(),
    callback: Some(remember),
    arg: std::ptr::null_mut(),
};

impl Remembering<'static> {
    /// But for where it arose: of what runs with another's rights, or on rows that the caller may not see, that could tell more than he may know (the text
    /// of a statement, with its values).
    pub fn start() -> Self {
        Self::link(None)
    }
}

impl<'s> Remembering<'s> {
    /// With where it arose: what is run here is run as the caller, so he is told what any statement of his would tell him, of functions, triggers and
    /// policies. The statement itself is ours, and says nothing to anybody. (Empty: what runs has no text.)
    pub fn told(statement: &'s str) -> Self {
        Self::link(Some(statement))
    }

    fn link(told: Option<*const str>) -> Self {
        // While a statement begins no error is on its way: the server's own code may have caught one, without a subtransaction.
        forget();
        // SAFETY: the callback is linked into the stack here and unlinked in `drop`, also when unwinding; boxed, so that its
        // address stays. The statement lives as long as this.
        unsafe {
            let callback = pg_sys::ErrorContextCallback { previous: pg_sys::error_context_stack, ..UNLINKED };
            let mut link = Box::new(LinkedCallback { callback, told });
            link.callback.arg = (&raw mut *link).cast();
            pg_sys::error_context_stack = &raw mut link.callback;
            Remembering { link, statement: PhantomData }
        }
    }
}

impl Drop for Remembering<'_> {
    fn drop(&mut self) {
        // SAFETY: see `link`.
        unsafe { pg_sys::error_context_stack = self.link.callback.previous }
    }
}

/// Called by errfinish with the error at hand (an error context callback, utils/elog.h).
///
/// # Safety
/// Called by `errfinish`, while there is an error at hand; `link` is a `LinkedCallback`.
#[pg_guard]
unsafe extern "C-unwind" fn remember(link: *mut c_void) {
    // Without memory there is nothing to copy it into: that would be the next error, and the next, until Postgres gives up.
    // SAFETY: inside errfinish, there is an error at hand.
    if unsafe { pg_sys::geterrcode() } == sqlstate(code::OUT_OF_MEMORY) {
        return forget();
    }
    // SAFETY: a `LinkedCallback`, which is linked into the stack.
    let (is_first, told) = unsafe { (is_innermost(link), (*link.cast::<LinkedCallback>()).told.map(|told| &*told)) };
    // What runs within this has remembered it already, with no more than may be told of that. Where something is run for whoever may know less, he is told less.
    if !is_first {
        if told.is_none() {
            REMEMBERED.with(|r| r.borrow_mut().iter_mut().for_each(Remembered::conceal));
        }
        return;
    }
    // SAFETY: inside errfinish CopyErrorData copies the error being reported; it must not do so into ErrorContext. Some of what it
    // copies FreeErrorData leaves (file, function, domain), because in an error that was not copied it is constant.
    unsafe {
        let context = pg_sys::MemoryContextSwitchTo(copies());
        let data = pg_sys::CopyErrorData();
        pg_sys::MemoryContextSwitchTo(context);
        let text = |s: *const c_char| (!s.is_null()).then(|| CStr::from_ptr(s).to_string_lossy().into_owned());
        let e = &*data;
        if e.elevel >= pgrx::PgLogLevel::ERROR as i32 {
            let error = SyncError {
                code: sqlstate_text(e.sqlerrcode),
                message: text(e.message).unwrap_or_default(),
                detail: text(e.detail),
                hint: text(e.hint),
                names: [e.schema_name, e.table_name, e.column_name, e.datatype_name, e.constraint_name]
                    .map(|n| text(n)),
                interrupts: false,
                raised: false,
                lasting: false,
                origin: origin(told, e),
            };
            // What a frame of Rust's within the statement carries on (a receiver's, say) comes once more, as less.
            let is_again = |before: &Remembered| {
                !before.caught && error.code == code::INTERNAL && before.error.message == error.message
            };
            if !REMEMBERED.with(|r| r.borrow().as_ref().is_some_and(is_again)) {
                REMEMBERED.with(|r| *r.borrow_mut() = Some(Remembered { error, caught: false }));
            }
        }
        pg_sys::MemoryContextReset(copies());
    }
}

/// Is no other one linked within this one? The server calls the innermost first, for one error, with the CONTEXT that has come together so far.
///
/// # Safety
/// A linked `LinkedCallback`.
unsafe fn is_innermost(link: *mut c_void) -> bool {
    let is_ours = |callback: pg_sys::ErrorContextCallback| {
        callback.callback.zip(UNLINKED.callback).is_some_and(|(one, ours)| std::ptr::fn_addr_eq(one, ours))
    };
    // SAFETY: the stack of callbacks, in which this one is.
    unsafe {
        let mut inner = pg_sys::error_context_stack;
        while !inner.is_null() && !is_ours(*inner) {
            inner = (*inner).previous;
        }
        inner.is_null() || (*inner).arg == link
    }
}

/// Where an error arose, if that is told to who runs the statement; what only the log is told, in any case.
///
/// # Safety
/// The error is valid.
unsafe fn origin(told: Option<&str>, e: &pg_sys::ErrorData) -> Option<Rc<RaisedAt>> {
    thread_local! {
        static LAST: RefCell<Option<Rc<RaisedAt>>> = const { RefCell::new(None) };
    }
    // SAFETY: see above.
    let text = |s: *const c_char| unsafe { (!s.is_null()).then(|| CStr::from_ptr(s).to_string_lossy()) };
    let mut origin = RaisedAt { log: text(e.detail_log).map(|log| shortened(&log)), ..RaisedAt::default() };
    if let Some(statement) = told {
        origin.context = text(e.context).map(|c| shortened(above(&c, statement))).filter(|c| !c.is_empty());
        if let Some(query) = text(e.internalquery).filter(|query| query != statement) {
            origin.query = Some(shortened(&query));
            let is_there = query.chars().nth(MOST).is_none() || e.internalpos <= MOST as i32;
            origin.position = if is_there { e.internalpos } else { 0 };
        }
    }
    if origin == RaisedAt::default() {
        return None;
    }
    LAST.with(|last| {
        let mut last = last.borrow_mut();
        if last.as_deref() != Some(&origin) {
            *last = Some(Rc::new(origin));
        }
        last.clone()
    })
}

/// The lines of a context above the last one, if that is `SQL statement "..."` with this statement in it, in whatever language and its quotes.
fn above<'c>(context: &'c str, statement: &str) -> &'c str {
    const LONGEST_QUOTE: usize = 4;
    let end = context.len();
    let ends = (end.saturating_sub(LONGEST_QUOTE)..=end).filter_map(|end| context.get(..end));
    match ends.filter(|_| !statement.is_empty()).find_map(|c| c.strip_suffix(statement)) {
        Some(before) => &before[..before.rfind('\n').unwrap_or(0)],
        None => context,
    }
}

/// How many characters of each text of an error's origin are told: its beginning, what is innermost.
const MOST: usize = 2000;

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

/// What holds a copy of an error for a moment.
fn copies() -> pg_sys::MemoryContext {
    thread_local! {
        static COPIES: Cell<pg_sys::MemoryContext> = const { Cell::new(std::ptr::null_mut()) };
    }
    COPIES.with(|copies| {
        if copies.get().is_null() {
            // SAFETY: a context for the life of this backend.
            copies.set(unsafe {
                pg_sys::AllocSetContextCreateInternal(
                    pg_sys::TopMemoryContext,
                    c"snapsync: an error's copy".as_ptr(),
                    pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
                    pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
                    pg_sys::ALLOCSET_SMALL_MAXSIZE as usize,
                )
            });
        }
        copies.get()
    })
}

mod unbound {
    use pgrx::pg_sys;

    // SAFETY: as in utils/elog.h.
    unsafe extern "C-unwind" {
        /// Without pgrx's guard around it: the jump must not become a panic again.
        pub fn ThrowErrorData(data: *mut pg_sys::ErrorData);
    }
}

/// Postgres packs the five characters of an SQLSTATE into 30 bits (MAKE_SQLSTATE in utils/elog.h).
fn sqlstate(code: &str) -> i32 {
    code.bytes()
        .take(5)
        .enumerate()
        .fold(0, |packed, (i, b)| packed | ((i32::from(b) - i32::from(b'0')) & 0x3f) << (6 * i))
}

fn sqlstate_text(packed: i32) -> String {
    (0..5).map(|i| char::from(((packed >> (6 * i)) & 0x3f) as u8 + b'0')).collect()
}

/// `"a", "b" and "c"` for messages.
pub fn listed<S: AsRef<str>>(names: &[S]) -> String {
    names.iter().map(|n| format!("\"{}\"", n.as_ref())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_sqlstates_as_postgres_does() {
        assert_eq!(sqlstate("23505"), pgrx::PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION as i32);
        assert_eq!(sqlstate("XX000"), pgrx::PgSqlErrorCode::ERRCODE_INTERNAL_ERROR as i32);
        for code in ["23505", "XX000", "PT409", "P0001", "0A000"] {
            assert_eq!(sqlstate_text(sqlstate(code)), code);
        }
    }

    #[test]
    fn leaves_our_own_statement_out_of_the_context() {
        let ours = "INSERT INTO t\nSELECT 1";
        assert_eq!(above("SQL statement \"INSERT INTO t\nSELECT 1\"", ours), "");
        assert_eq!(
            above("function f() line 3\nSQL statement \"INSERT INTO t\nSELECT 1\"", ours),
            "function f() line 3"
        );
        assert_eq!(above("Funktion f()\nSQL-Anweisung »INSERT INTO t\nSELECT 1«", ours), "Funktion f()");
        let theirs = "SQL statement \"INSERT INTO t\nSELECT 1\"\nfunction f() line 3";
        assert_eq!(above(theirs, ours), theirs);
        assert_eq!(above("", ours), "");
        assert_eq!(above("function f() line 3", ""), "function f() line 3");
        assert_eq!(above("ü", ours), "ü");
    }

    #[test]
    fn keeps_the_beginning_of_long_texts() {
        assert_eq!(shortened("short\ntext"), "short\ntext");
        assert_eq!(shortened(&"ü".repeat(MOST)), "ü".repeat(MOST));
        assert_eq!(shortened(&"ü".repeat(MOST + 1)).chars().count(), MOST + 1);
    }
}
