//! No memory is an ERROR like any other, or ends this session; never the server.
//!
//! Rust ends the process where an allocation fails, and a backend that ends like that takes all others with it. So what grows with data asks
//! for room first ([`push`], [`room`]) and gets an ERROR. For everything else, small and everywhere, there is a reserve: if it has to be
//! broken into, the next [`check`] raises that ERROR. If not even that is enough, the session ends by PostgreSQL's own means.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::{c_char, c_int};
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use crate::server::error::{code, Result, SyncError};

struct Careful;

#[global_allocator]
static ALLOCATOR: Careful = Careful;

/// Memory that nobody uses, until there is no other.
static RESERVE: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
/// The same for the end of the session, which cleans up and must not fail in turn: errors within errors take the server down.
static LAST: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());

thread_local! {
    /// The reserve was broken into, and nobody has been told. (A backend has one thread; unit tests have several.)
    static SHORT: Cell<bool> = const { Cell::new(false) };
    /// Whoever is asking can take no for an answer.
    static ASKING: Cell<bool> = const { Cell::new(false) };
}

const RESERVED: Layout = match Layout::from_size_align(1 << 19, 16) {
    Ok(layout) => layout,
    Err(_) => Layout::new::<u8>(),
};

// SAFETY: all is System's, whose layouts are the callers'.
unsafe impl GlobalAlloc for Careful {
    /// # Safety
    /// As for the trait.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        or_else(unsafe { System.alloc(layout) }, || unsafe { System.alloc(layout) })
    }
    /// # Safety
    /// As for the trait.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        or_else(unsafe { System.alloc_zeroed(layout) }, || unsafe { System.alloc_zeroed(layout) })
    }
    /// # Safety
    /// As for the trait.
    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise; what could not be enlarged is as it was.
        or_else(unsafe { System.realloc(place, layout, size) }, || unsafe { System.realloc(place, layout, size) })
    }
    /// # Safety
    /// As for the trait.
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(place, layout) }
    }
}

#[inline(always)]
fn or_else(place: *mut u8, again: impl FnOnce() -> *mut u8) -> *mut u8 {
    if place.is_null() {
        return without_memory(again);
    }
    place
}

#[cold]
#[inline(never)]
fn without_memory(again: impl FnOnce() -> *mut u8) -> *mut u8 {
    if ASKING.get() {
        return std::ptr::null_mut();
    }
    if !RESERVE.load(Relaxed).is_null() {
        SHORT.set(true);
        relieve();
        let place = again();
        if !place.is_null() {
            return place;
        }
    }
    end_session()
}

// SAFETY: as in utils/elog.h.
unsafe extern "C-unwind" {
    fn errstart(level: c_int, domain: *const c_char) -> bool;
    fn errcode(code: c_int) -> c_int;
    fn errmsg(format: *const c_char, ...) -> c_int;
    fn errfinish(file: *const c_char, line: c_int, function: *const c_char);
}

/// FATAL does not return and unwinds nothing: the process runs Postgres's own exit and is gone.
fn end_session() -> ! {
    let last = LAST.swap(std::ptr::null_mut(), Relaxed);
    // SAFETY: in a backend, whose only thread this is; the texts are constants. Postgres keeps memory for an error of this kind. The
    // last reserve was allocated by `refill` with this layout.
    unsafe {
        if !last.is_null() {
            System.dealloc(last, RESERVED);
        }
        if errstart(pgrx::PgLogLevel::FATAL as c_int, std::ptr::null()) {
            errcode(pgrx::PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY as c_int);
            errmsg(c"out of memory".as_ptr());
        }
        errfinish(c"memory.rs".as_ptr(), line!() as c_int, c"end_session".as_ptr());
    }
    std::process::abort()
}

/// Provides for bad times; called when the library is loaded, and between transactions.
pub fn refill() {
    for reserve in [&LAST, &RESERVE] {
        if reserve.load(Relaxed).is_null() {
            // SAFETY: of a size that is not zero.
            reserve.store(unsafe { System.alloc(RESERVED) }, Relaxed);
        }
    }
}

/// Gives the reserve to who must copy an error, for want of memory, to raise it.
pub fn relieve() {
    let reserve = RESERVE.swap(std::ptr::null_mut(), Relaxed);
    if !reserve.is_null() {
        // SAFETY: allocated by `refill` with this layout.
        unsafe { System.dealloc(reserve, RESERVED) };
    }
}

/// An ERROR if there is hardly any memory left. For every loop over data.
#[inline(always)]
pub fn check() -> Result<()> {
    if SHORT.replace(false) {
        return Err(out_of_memory("of the reserve"));
    }
    Ok(())
}

/// An allocation by which `work` can do without: what fails is null, or an `Err` of std's.
pub fn asking<R>(work: impl FnOnce() -> R) -> R {
    let before = ASKING.replace(true);
    let result = work();
    ASKING.set(before);
    result
}

/// Makes room for so many more.
#[inline(always)]
pub fn room<T>(vec: &mut Vec<T>, more: usize) -> Result<()> {
    if vec.capacity() - vec.len() < more {
        return grow(vec, more);
    }
    Ok(())
}

#[cold]
#[inline(never)]
fn grow<T>(vec: &mut Vec<T>, more: usize) -> Result<()> {
    asking(|| vec.try_reserve(more)).map_err(|_| out_of_memory("for a list"))
}

#[inline(always)]
pub fn push<T>(vec: &mut Vec<T>, value: T) -> Result<()> {
    room(vec, 1)?;
    vec.push(value);
    Ok(())
}

/// What a request that failed becomes.
#[cold]
pub fn out_of_memory(what: &str) -> SyncError {
    SyncError::new(code::OUT_OF_MEMORY, "out of memory")
        .detail(format!("Failed on request {what}."))
        .hint("Sync fewer rows or collections per call, or write fewer rows per transaction.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_an_error() {
        let mut list: Vec<u8> = vec![1];
        let error = room(&mut list, isize::MAX as usize / 2).expect_err("so much is not there");
        assert_eq!(error.code, "53200");
        assert_eq!(list, [1]);
        push(&mut list, 2).expect("room for one");
        assert_eq!(list, [1, 2]);
    }

    #[test]
    fn the_reserve_is_told_of_once() {
        refill();
        let place = without_memory(|| std::ptr::NonNull::dangling().as_ptr());
        assert!(!place.is_null());
        assert!(check().is_err());
        assert!(check().is_ok());
        refill();
    }
}
