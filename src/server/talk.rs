//! What is said to the client, and what others wait for meanwhile.
//!
//! A message to the client goes out at once, and where he does not read, that takes as long as he likes. He decides how much is said to
//! him, too (`client_min_messages`, `debug_print_plan`, `trace_notify`). So where something is held that others wait for, nothing is said:
//! from before the stamp until the transaction has given its locks back ([`hush`]), and while somebody has his turn for a moment ([`Brief`]).
//! WARNINGs are said afterwards. Only an ERROR is said at once, and before it what others wait for is given back ([`on_report`]).
//!
//! *Why that can be given back before the abort.* The server calls `emit_log_hook` from EmitErrorReport. For an ERROR that is called by
//! PostgresMain's handler, which holds interrupts off once (ERROR had set that count to 0) and aborts next; whoever catches an ERROR does not
//! report it, or not with interrupts held off. FATAL ends the process. Inside a critical section either is a PANIC.
//!  - *LWLocks*: AbortTransaction, as the end of a process, begins with giving all of them back, before it sets anything right that they
//!    guard. So whoever takes them sees what he would see then. No page is half changed: that is done in critical sections only.
//!  - *The stamp's registration*: it is there for readers that do not see the transaction yet. That transaction is never seen: what can fail
//!    in CommitTransaction comes before the commit's record, and an ERROR after that, before others see it, is a PANIC. Its stamp
//!    is one of those that nobody has written with. (A prepared transaction's locks are not this backend's any more.)
//!  - *A brief turn* guards what stands at once, whatever becomes of the transaction; what was not written is written by the next one.

use std::cell::{Cell, RefCell};
use std::ffi::{c_char, c_int, CStr, CString};
use std::panic::AssertUnwindSafe;

use pgrx::pg_sys;
use pgrx::{PgLogLevel, PgTryBuilder};

use crate::server::turn::{self, Turn};

const ERROR: c_int = PgLogLevel::ERROR as c_int;
const WARNING: c_int = PgLogLevel::WARNING as c_int;
const LOG: c_int = PgLogLevel::LOG as c_int;
const FATAL: c_int = PgLogLevel::FATAL as c_int;
/// Two levels of utils/elog.h that are not for everybody.
const LOG_SERVER_ONLY: c_int = LOG + 1;
const WARNING_CLIENT_ONLY: c_int = WARNING + 1;

/// A lock, and to whom it is charged.
#[derive(Clone, Copy)]
struct Held {
    tag: pg_sys::LOCKTAG,
    mode: pg_sys::LOCKMODE,
    owner: pg_sys::ResourceOwner,
}

/// The session's settings, while nothing is said.
#[derive(Clone, Copy)]
struct Settings {
    client: c_int,
    log: c_int,
    read_only: bool,
}

/// Said when it can be.
struct Warning {
    code: c_int,
    /// Message, detail, hint.
    texts: [Option<String>; 3],
}

/// So many WARNINGs are kept, and so much of each text: they must find room where there is no memory left.
const KEPT: usize = 50;
const LONGEST: usize = 1_000;

thread_local! {
    static HELD: RefCell<Vec<Held>> = const { RefCell::new(Vec::new()) };
    static SETTINGS: Cell<Option<Settings>> = const { Cell::new(None) };
    static KEPT_BACK: RefCell<Vec<Warning>> = const { RefCell::new(Vec::new()) };
    /// There is a client to whom nothing is said ([`Unheard`]).
    static UNHEARD: Cell<bool> = const { Cell::new(false) };
    /// What was at the hook before us.
    static CHAINED: Cell<pg_sys::emit_log_hook_type> = const { Cell::new(None) };
}

pub fn chain(before: pg_sys::emit_log_hook_type) {
    CHAINED.with(|c| c.set(before));
}

/// Others wait for this lock of the top transaction's until it ends, or fails.
pub fn hold(tag: pg_sys::LOCKTAG, mode: u32) {
    // SAFETY: inside a transaction.
    let owner = unsafe { pg_sys::TopTransactionResourceOwner };
    with_held(|held| held.push(Held { tag, mode: mode as pg_sys::LOCKMODE, owner }));
}

/// The transaction has ended.
pub fn forget() {
    with_held(Vec::clear);
}

/// A hook must not panic.
fn with_held<R: Default>(work: impl FnOnce(&mut Vec<Held>) -> R) -> R {
    HELD.with(|held| held.try_borrow_mut().map(|mut held| work(&mut held)).unwrap_or_default())
}

/// Gives back what others wait for: the transaction has failed.
pub fn give_back() {
    release_lwlocks();
    for held in with_held(std::mem::take) {
        held.release();
    }
}

/// While this lives in a part of a transaction that cannot go on if it fails, a failure gives back what others wait for.
pub struct Crucial;

impl Drop for Crucial {
    fn drop(&mut self) {
        if std::thread::panicking() {
            give_back();
        }
    }
}

/// While this lives, a failure gives back LWLocks, as the abort that follows does.
pub struct Unwinding;

impl Drop for Unwinding {
    fn drop(&mut self) {
        if std::thread::panicking() {
            release_lwlocks();
        }
    }
}

/// When an ERROR leaves what of ours has raised it: the hook is not asked about ERRORs that the server's log does not take.
pub fn release_lwlocks() {
    // SAFETY: see above; without any it does nothing.
    unsafe { pg_sys::LWLockReleaseAll() }
}

impl Held {
    /// If it is still there.
    fn release(&self) {
        // SAFETY: a look into the table of the own locks; the owner lives as long as its locks.
        unsafe {
            #[cfg(any(feature = "pg15", feature = "pg16"))]
            let held = pg_sys::LockHeldByMe(&self.tag, self.mode);
            #[cfg(any(feature = "pg17", feature = "pg18"))]
            let held = pg_sys::LockHeldByMe(&self.tag, self.mode, false);
            if held {
                let owner = std::ptr::replace(&raw mut pg_sys::CurrentResourceOwner, self.owner);
                pg_sys::LockRelease(&self.tag, self.mode, false);
                pg_sys::CurrentResourceOwner = owner;
            }
        }
    }
}

/// While this lives, nothing is said to the client but that the backend ends: functions are given rows that he may never have seen, and what they say of these (`RAISE`), and what
/// settings of his have the server print of it (`debug_print_plan`), is not for him. An ERROR is his when it arrives at whoever called.
pub struct Unheard {
    before: pg_sys::CommandDest::Type,
    outer: bool,
}

impl Unheard {
    pub fn start() -> Unheard {
        // SAFETY: where this backend says things.
        let before = unsafe { std::ptr::replace(&raw mut pg_sys::whereToSendOutput, pg_sys::CommandDest::DestNone) };
        let outer = UNHEARD.replace(before == pg_sys::CommandDest::DestRemote || UNHEARD.get());
        Unheard { before, outer }
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        UNHEARD.set(self.outer);
        // SAFETY: as it was before.
        unsafe { pg_sys::whereToSendOutput = self.before }
    }
}

/// A turn that is over in a moment, in which nothing is said.
pub struct Brief {
    held: Held,
    hushed: bool,
}

impl Brief {
    pub fn take(turn: Turn) -> Brief {
        let hushed = hush();
        turn.take();
        // SAFETY: to whom the lock is charged.
        let owner = unsafe { pg_sys::CurrentResourceOwner };
        let held = Held { tag: turn.tag(), mode: turn::MODE as pg_sys::LOCKMODE, owner };
        with_held(|all| all.push(held));
        Brief { held, hushed }
    }
}

impl Drop for Brief {
    fn drop(&mut self) {
        if std::thread::panicking() {
            release_lwlocks();
        }
        with_held(|all| all.pop());
        self.held.release();
        if self.hushed {
            speak_again(!std::thread::panicking());
        }
    }
}

/// From now on nothing but an ERROR is said to the client, until the transaction's end ([`at_release`]); was something said before? It may also write,
/// whatever the client has said since it wrote (`SET TRANSACTION READ ONLY`). All this by the settings' variables, which are as they
/// were before the server puts back what was set in the transaction.
pub fn hush() -> bool {
    if SETTINGS.with(Cell::get).is_some() {
        return false;
    }
    // SAFETY: backend-local settings.
    unsafe {
        let (client, log, read_only) = (pg_sys::client_min_messages, pg_sys::log_min_messages, pg_sys::XactReadOnly);
        SETTINGS.with(|s| s.set(Some(Settings { client, log, read_only })));
        pg_sys::client_min_messages = ERROR;
        // The server asks the hook about what it writes to its log, and about nothing else.
        if !is_logged(WARNING, log) {
            pg_sys::log_min_messages = WARNING;
        }
        pg_sys::XactReadOnly = false;
    }
    true
}

fn speak_again(also_warnings: bool) {
    let Some(before) = SETTINGS.with(Cell::take) else { return };
    // SAFETY: backend-local settings.
    unsafe {
        pg_sys::client_min_messages = before.client;
        pg_sys::log_min_messages = before.log;
        pg_sys::XactReadOnly = before.read_only;
    }
    let warnings = KEPT_BACK.with(|kept| kept.try_borrow_mut().map(|mut kept| std::mem::take(&mut *kept)));
    if also_warnings {
        warnings.unwrap_or_default().into_iter().for_each(Warning::say);
    }
}

/// When an owner of resources gives them back (utils/resowner.h).
pub fn at_release(phase: pg_sys::ResourceReleasePhase::Type, is_commit: bool, is_top: bool) {
    if is_top && phase == pg_sys::ResourceReleasePhase::RESOURCE_RELEASE_AFTER_LOCKS {
        speak_again(is_commit);
    }
}

/// is_log_level_output of elog.c.
fn is_logged(level: c_int, least: c_int) -> bool {
    match level {
        LOG | LOG_SERVER_ONLY => least == LOG || least <= ERROR,
        WARNING_CLIENT_ONLY => false,
        _ if least == LOG => level >= FATAL,
        _ => level >= least,
    }
}

/// Before a message goes to the server's log, and to the client.
///
/// # Safety
/// By `emit_log_hook`.
pub unsafe fn on_report(data: *mut pg_sys::ErrorData) {
    // SAFETY: the message at hand; variables of the backend.
    unsafe {
        let message = &mut *data;
        let for_client = !pg_sys::MyProcPort.is_null() && pg_sys::CritSectionCount == 0;
        match message.elevel {
            ERROR if for_client && pg_sys::InterruptHoldoffCount == 1 => give_back(),
            FATAL if for_client => {
                give_back();
                // (Not to who is gone.) Where that comes from may tell of rows, too.
                if UNHEARD.get() && pg_sys::ClientConnectionLost == 0 {
                    message.output_to_client = true;
                    message.context = std::ptr::null_mut();
                    message.internalquery = std::ptr::null_mut();
                }
            }
            _ => {}
        }
        if let Some(before) = SETTINGS.with(Cell::get) {
            if message.elevel == WARNING && before.client <= WARNING {
                keep(message);
            }
            message.output_to_server = is_logged(message.elevel, before.log);
        }
        if let Some(next) = CHAINED.with(Cell::get).filter(|_| message.output_to_server) {
            next(data);
        }
    }
}

/// # Safety
/// The message at hand.
unsafe fn keep(message: &pg_sys::ErrorData) {
    let texts = [message.message, message.detail, message.hint].map(|text: *mut c_char| {
        // SAFETY: strings, or none.
        let text = (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) })?.to_string_lossy();
        Some(text.chars().take(LONGEST / 4).collect())
    });
    KEPT_BACK.with(|kept| {
        if let Ok(mut kept) = kept.try_borrow_mut() {
            if kept.len() < KEPT {
                kept.push(Warning { code: message.sqlerrcode, texts });
            }
        }
    });
}

impl Warning {
    /// To the client alone: the server's log has it. Nothing may fail here, where the transaction has committed: no text is converted that may
    /// not be convertible, and nothing of this is in a memory context.
    fn say(self) {
        // SAFETY: reads a setting.
        let any = unsafe { pg_sys::pg_get_client_encoding() } == pg_sys::pg_enc::PG_UTF8 as c_int;
        let [message, detail, hint] = self.texts.map(|text| {
            text.and_then(|text| {
                let text = if any { text } else { text.replace(|c: char| !c.is_ascii(), "?") };
                CString::new(text).ok()
            })
        });
        let pointer = |text: &Option<CString>| text.as_ref().map_or(std::ptr::null_mut(), |t| t.as_ptr().cast_mut());
        let mut data = pg_sys::ErrorData {
            elevel: WARNING_CLIENT_ONLY,
            sqlerrcode: self.code,
            message: pointer(&message),
            detail: pointer(&detail),
            hint: pointer(&hint),
            ..Default::default()
        };
        // SAFETY: the server copies it. An ERROR would set the count to 0.
        unsafe {
            let holdoff = pg_sys::InterruptHoldoffCount;
            let said = PgTryBuilder::new(AssertUnwindSafe(|| pg_sys::ThrowErrorData(&raw mut data)));
            said.catch_others(|_| ()).execute();
            pg_sys::InterruptHoldoffCount = holdoff;
        }
    }
}
