//! From one session to others, and sleeping until somebody has something to say.

use std::cell::OnceCell;
use std::ffi::{c_int, CStr};
use std::time::{Duration, Instant};

use pgrx::pg_sys;

use crate::server::memory;

/// Server functions that pgrx's bindings leave out (commands/async.h, storage/sinvaladt.h, utils/timeout.h).
mod unbound {
    use std::ffi::{c_char, c_int};

    // SAFETY: as in these headers.
    unsafe extern "C-unwind" {
        pub fn Async_Notify(channel: *const c_char, payload: *const c_char);
        pub fn RegisterTimeout(id: c_int, handler: Option<unsafe extern "C" fn()>) -> c_int;
        pub fn enable_timeout_after(id: c_int, milliseconds: c_int);
        pub fn disable_timeout(id: c_int, keep_indicator: bool);
        pub fn get_timeout_indicator(id: c_int, reset: bool) -> bool;
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        pub fn BackendIdGetProc(backend: c_int) -> *mut pgrx::pg_sys::PGPROC;
    }
}

/// Notifies who listens, when the transaction commits. Equal ones are sent once.
pub fn notify(channel: &CStr, payload: &CStr) {
    // SAFETY: both are copied; the boundary turns an ERROR (too long a text) into an unwinding panic.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| unbound::Async_Notify(channel.as_ptr(), payload.as_ptr()));
    }
}

/// How much of the queue of notifications is in use, of all databases: 0 to 1.
pub fn notification_queue_usage() -> f64 {
    // SAFETY: a function of the server without arguments.
    unsafe { pgrx::direct_function_call(pg_sys::pg_notification_queue_usage, &[]) }.unwrap_or(0.0)
}

/// A session that waits, as others find it in the lock table: it shares an advisory lock that nobody takes for himself. So it holds nobody
/// up, and is gone with the transaction.
pub struct Present(pg_sys::LOCKTAG);

impl Present {
    /// `class` is what SQL's own advisory locks have 1 or 2 in.
    pub fn at(place: WaitingPlace, class: u16) -> Present {
        let tag = place.tag(class);
        // SAFETY: a share lock, not waited for; it is the transaction's.
        unsafe {
            pg_sys::LockAcquire(&tag, pg_sys::ShareLock as i32, false, true);
        }
        Present(tag)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        // On an ERROR the abort gives it back.
        if !std::thread::panicking() {
            // SAFETY: what `at` took, in the same transaction.
            unsafe { pg_sys::LockRelease(&self.0, pg_sys::ShareLock as i32, false) };
        }
    }
}

/// Where sessions wait.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct WaitingPlace {
    pub relation: u32,
    pub part: u32,
}

impl WaitingPlace {
    fn tag(self, class: u16) -> pg_sys::LOCKTAG {
        pg_sys::LOCKTAG {
            // SAFETY: set once at backend start.
            locktag_field1: unsafe { pg_sys::MyDatabaseId }.into(),
            locktag_field2: self.relation,
            locktag_field3: self.part,
            locktag_field4: class,
            locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
            locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
        }
    }

    /// Adds who waits there, but for this session.
    pub fn add_sleepers(self, class: u16, sleepers: &mut Vec<Sleeper>) {
        let tag = self.tag(class);
        // SAFETY: a look-up in the lock table, whose result is a palloc'd list.
        unsafe {
            let mut count = 0;
            let holders = pg_sys::GetLockConflicts(&tag, pg_sys::ExclusiveLock as i32, &mut count);
            for at in 0..count as usize {
                let process = process_of(&*holders.add(at));
                if !process.is_null() {
                    sleepers.push(Sleeper(&raw mut (*process).procLatch));
                }
            }
            pg_sys::pfree(holders.cast());
        }
    }
}

/// # Safety
/// What GetLockConflicts has said.
unsafe fn process_of(holder: &pg_sys::VirtualTransactionId) -> *mut pg_sys::PGPROC {
    // SAFETY: a look-up in shared memory; null where the session has ended.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        return pg_sys::ffi::pg_guard_ffi_boundary(|| unbound::BackendIdGetProc(holder.backendId));
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        return pg_sys::ProcNumberGetProc(holder.procNumber);
    }
}

/// A session that may sleep.
pub struct Sleeper(*mut pg_sys::Latch);

impl Sleeper {
    /// Cannot fail. Who has ended meanwhile, or another one in his place, is woken for nothing.
    pub fn wake(&self) {
        // SAFETY: a process's latch is in shared memory, as long as the server runs.
        unsafe { pg_sys::SetLatch(self.0) }
    }
}

/// Forgets that somebody has woken this session. Whoever does so next is noticed by `sleep`.
pub fn stay_awake() {
    // SAFETY: the session's own latch.
    unsafe { pg_sys::ResetLatch(pg_sys::MyLatch) };
    memory::heed();
}

/// Sleeps so long, or until somebody wakes this session, which is what comes back.
pub fn sleep(time: Duration) -> bool {
    let millis = time.as_millis().clamp(1, i32::MAX as u128) as i64;
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    // SAFETY: the session's own latch; a signal sets it, too.
    let woken = unsafe { pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, millis, pg_sys::PG_WAIT_EXTENSION) };
    memory::heed();
    woken as u32 & pg_sys::WL_LATCH_SET != 0
}

/// Sleeps so long, whoever calls; but not much longer than until the statement is cancelled.
pub fn sleep_on(time: Duration) {
    let begun = Instant::now();
    while let Some(left) = time.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
        let events = pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
        let millis = left.min(Duration::from_millis(50)).as_millis().max(1) as i64;
        // SAFETY: without a latch only the time ends it.
        unsafe { pg_sys::WaitLatch(std::ptr::null_mut(), events as i32, millis, pg_sys::PG_WAIT_EXTENSION) };
        memory::heed();
    }
}

/// A bound on how long something takes: while this lives, the end of that time is as if somebody cancelled the statement.
pub struct Limit(c_int);

/// USER_TIMEOUT of utils/timeout.h: this and what follows is given out by RegisterTimeout. Each major has another number.
#[cfg(any(feature = "pg15", feature = "pg16"))]
const FREE: c_int = 12;
#[cfg(any(feature = "pg17", feature = "pg18"))]
const FREE: c_int = 13;

thread_local! {
    /// The timeout's number, once there is one.
    static TIMEOUT: OnceCell<c_int> = const { OnceCell::new() };
}

/// # Safety
/// Called by the handler of SIGALRM, which has set the latch: it sets two variables of this backend.
unsafe extern "C" fn is_over() {
    // SAFETY: see above.
    unsafe {
        pg_sys::QueryCancelPending = 1;
        pg_sys::InterruptPending = 1;
    }
}

impl Limit {
    pub fn of(time: Duration) -> Limit {
        let millis = time.as_millis().clamp(1, i32::MAX as u128) as c_int;
        // SAFETY: registered once in this backend; the boundary turns an ERROR (no number is left) into an unwinding panic.
        unsafe {
            let register = || pg_sys::ffi::pg_guard_ffi_boundary(|| unbound::RegisterTimeout(FREE, Some(is_over)));
            let id = TIMEOUT.with(|id| *id.get_or_init(register));
            pg_sys::ffi::pg_guard_ffi_boundary(|| unbound::enable_timeout_after(id, millis));
            Limit(id)
        }
    }

    /// Has the time run out?
    pub fn is_over(&self) -> bool {
        // SAFETY: reads a variable of this backend.
        unsafe { unbound::get_timeout_indicator(self.0, false) }
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        // SAFETY: enabled in `of`; both set variables of this backend, and the first a timer. (None of it can fail.) What ran out too late
        // to be noticed must not cancel the next statement.
        unsafe {
            unbound::disable_timeout(self.0, true);
            if unbound::get_timeout_indicator(self.0, true) {
                pg_sys::QueryCancelPending = 0;
            }
        }
    }
}

/// Lets go of the catalogs' snapshot, which is taken anew when one is needed: it would keep rows from being vacuumed.
pub fn let_go_of_catalogs() {
    // SAFETY: nothing is being read.
    unsafe { pg_sys::InvalidateCatalogSnapshot() }
}

/// How far a standby has replayed the primary's log.
pub fn replayed() -> u64 {
    // SAFETY: reads shared memory.
    unsafe { pg_sys::GetXLogReplayRecPtr(std::ptr::null_mut()) }
}
