//! No memory is an ERROR like any other, or ends this session; never the server.
//!
//! Rust ends the process where an allocation fails, and a backend that ends like that takes all others with it. So what grows with data asks
//! for room first ([`Gather`], [`push`], [`room`], [`list`], [`text`]) and gets an ERROR; `tests/memory.rs` holds that. For everything else,
//! small and everywhere, there is a reserve. If it has to be broken into, the next [`heed`] or [`check`] raises that ERROR: every loop over data
//! has one.
//!
//! What libraries make (a parser's list, a hash table of std) grows by doubling. So the reserve is at least three times as large as the largest
//! piece that was allocated without asking: that and all that comes between two looks at the reserve is there. It costs addresses, not memory.
//! If not even that is enough, the session ends by PostgreSQL's own means.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::{c_char, c_int};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

use crate::server::error::{code, Result, SyncError};

mod gather;

use gather::Grows;
pub use gather::{extend, Gather};

struct Careful;

#[global_allocator]
static ALLOCATOR: Careful = Careful;

/// Memory that nobody uses, until there is no other. It begins with its size.
static RESERVE: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
/// The reserve is large enough for pieces up to this size.
static COVERED: AtomicUsize = AtomicUsize::new(usize::MAX);
/// The same for the end of the session, which cleans up and must not fail in turn: errors within errors take the server down.
static LAST: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());

thread_local! {
    /// The reserve was broken into, and nobody has been told. (A backend has one thread; unit tests have several.)
    static SHORT: Cell<bool> = const { Cell::new(false) };
    /// Whoever is asking can take no for an answer.
    static ASKING: Cell<bool> = const { Cell::new(false) };
}

/// The reserve where nothing large was allocated. An ERROR of the server's is copied on its way through Rust (`error::relieved`), into the
/// memory context of the moment, and perhaps into another one; a context that has grown takes no block of less than 1 MB (aset.c).
const RESERVED: usize = 5 << 19;

/// So many times as large as the largest piece: while that doubles there are both, and something else is wanted, too.
const TIMES: usize = 3;

// SAFETY: all is System's, whose layouts are the callers'.
unsafe impl GlobalAlloc for Careful {
    /// # Safety
    /// As for the trait.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let ask = || unsafe { System.alloc(layout) };
        or_else(ask(), layout.size(), ask)
    }
    /// # Safety
    /// As for the trait.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let ask = || unsafe { System.alloc_zeroed(layout) };
        or_else(ask(), layout.size(), ask)
    }
    /// # Safety
    /// As for the trait.
    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise; what could not be enlarged is as it was.
        let ask = || unsafe { System.realloc(place, layout, size) };
        or_else(ask(), size, ask)
    }
    /// # Safety
    /// As for the trait.
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(place, layout) }
    }
}

#[inline(always)]
fn or_else(place: *mut u8, size: usize, again: impl FnOnce() -> *mut u8) -> *mut u8 {
    if place.is_null() {
        return without_memory(again);
    }
    if size > COVERED.load(Relaxed) && !ASKING.get() {
        cover(size);
    }
    place
}

/// Makes the reserve large enough for a piece of this size, or raises an ERROR soon.
#[cold]
#[inline(never)]
pub fn cover(size: usize) {
    if size <= COVERED.load(Relaxed) || !take_back() {
        return;
    }
    if !set_aside(size.saturating_mul(TIMES)) {
        SHORT.set(true);
        set_aside(RESERVED);
    }
    COVERED.store(size, Relaxed);
}

/// Sets so much aside, where nothing is.
fn set_aside(size: usize) -> bool {
    let Ok(layout) = Layout::from_size_align(size, align_of::<usize>()) else { return false };
    // SAFETY: of a size that is not zero, and that has room for itself.
    unsafe {
        let place = System.alloc(layout);
        if place.is_null() {
            return false;
        }
        place.cast::<usize>().write(size);
        // (Only tests have several threads.)
        free(RESERVE.swap(place, Relaxed));
    }
    COVERED.store(size / TIMES, Relaxed);
    true
}

/// Frees the reserve; was there one?
fn take_back() -> bool {
    COVERED.store(usize::MAX, Relaxed);
    // SAFETY: nobody else has it any more.
    unsafe { free(RESERVE.swap(std::ptr::null_mut(), Relaxed)) }
}

/// # Safety
/// A reserve of `set_aside`, or NULL.
unsafe fn free(reserve: *mut u8) -> bool {
    if !reserve.is_null() {
        // SAFETY: it was allocated with this layout.
        unsafe {
            let size = reserve.cast::<usize>().read();
            System.dealloc(reserve, Layout::from_size_align_unchecked(size, align_of::<usize>()));
        }
    }
    !reserve.is_null()
}

#[cold]
#[inline(never)]
fn without_memory(again: impl FnOnce() -> *mut u8) -> *mut u8 {
    if ASKING.get() {
        return std::ptr::null_mut();
    }
    if take_back() {
        SHORT.set(true);
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
    // SAFETY: in a backend, whose only thread this is; the texts are constants. Postgres keeps memory for an error of this kind.
    unsafe {
        free(LAST.swap(std::ptr::null_mut(), Relaxed));
        if errstart(pgrx::PgLogLevel::FATAL as c_int, std::ptr::null()) {
            errcode(pgrx::PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY as c_int);
            errmsg(c"out of memory".as_ptr());
        }
        errfinish(c"memory.rs".as_ptr(), line!() as c_int, c"end_session".as_ptr());
    }
    std::process::abort()
}

/// Provides for bad times; called when the library is loaded, and between transactions. What has come to its end in the meantime was short
/// of memory, if it was; what comes next is not.
pub fn refill() {
    SHORT.set(false);
    if COVERED.load(Relaxed) != RESERVED / TIMES {
        take_back();
        set_aside(RESERVED);
    }
    if LAST.load(Relaxed).is_null() {
        // The other one, for a moment.
        let reserve = RESERVE.swap(std::ptr::null_mut(), Relaxed);
        if set_aside(RESERVED) {
            // SAFETY: nobody else has it any more.
            unsafe { free(LAST.swap(RESERVE.swap(std::ptr::null_mut(), Relaxed), Relaxed)) };
        }
        RESERVE.store(reserve, Relaxed);
    }
}

/// Gives the reserve to who must copy an error, for want of memory, to raise it.
pub fn relieve() {
    take_back();
}

/// Heeds what ends a call: somebody has asked for its end, or there is hardly any memory left. For every loop over data. It raises the ERROR
/// as the server does, for it is called in places that have no `Result`.
#[inline(always)]
pub fn heed() {
    pgrx::check_for_interrupts!();
    heed_memory();
}

/// The same, and whether there is stack left: for what goes down into what users make (types, expressions), as deep as they made it. That they could make
/// it says nothing of how much stack is left here, nor of how much each level takes.
#[inline(always)]
pub fn descend() {
    // SAFETY: compares addresses, or raises an ERROR.
    unsafe { pgrx::pg_sys::check_stack_depth() };
    heed();
}

/// As [`heed`] where no server is that could ask for it.
#[inline(always)]
pub fn heed_memory() {
    must(check());
}

/// An `Err` for want of memory as an ERROR.
#[inline(always)]
fn must<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(e) => raise(e),
    }
}

#[cold]
#[inline(never)]
fn raise(e: SyncError) -> ! {
    relieve();
    e.raise()
}

/// An ERROR if there is hardly any memory left.
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

/// A list with room for so many; an ERROR without the memory.
pub fn list<T>(most: usize) -> Vec<T> {
    let mut list = Vec::new();
    must(room(&mut list, most));
    list
}

/// A table with room for so many; an ERROR without the memory.
pub fn table<K: Eq + std::hash::Hash, V>(most: usize) -> HashMap<K, V> {
    let mut table = HashMap::new();
    table.make_room(most);
    table
}

/// A list of so many that are the same; an ERROR without the memory.
pub fn filled<T: Clone>(value: T, count: usize) -> Vec<T> {
    let mut list = list(count);
    list.resize(count, value);
    list
}

/// Sorts; an ERROR without the memory that std sorts in.
pub fn sort_by<T>(list: &mut [T], order: impl FnMut(&T, &T) -> std::cmp::Ordering) {
    drop(self::list::<T>(list.len()));
    list.sort_by(order);
}

/// A text with room for so many bytes; an ERROR without the memory.
pub fn text_of(most: usize) -> String {
    String::from_utf8(list(most)).unwrap_or_default()
}

/// Adds these bytes; an ERROR without the memory.
#[inline(always)]
pub fn append(bytes: &mut Vec<u8>, more: &[u8]) {
    must(room(bytes, more.len()));
    bytes.extend_from_slice(more);
}

/// A copy of a text of any length; an ERROR without the memory. Pieces as large may be made of it.
pub fn text(text: &str) -> String {
    cover(text.len());
    let mut copy = String::new();
    must(asking(|| copy.try_reserve_exact(text.len())).map_err(|_| out_of_memory("for a text")));
    copy.push_str(text);
    copy
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

    /// (The reserve itself is the process's: `make faults` breaks into it.)
    #[test]
    fn it_is_told_once_that_the_reserve_was_broken_into() {
        SHORT.set(true);
        assert!(check().is_err());
        assert!(check().is_ok());
        SHORT.set(true);
        refill();
        assert!(check().is_ok(), "that was another transaction");
    }
}
