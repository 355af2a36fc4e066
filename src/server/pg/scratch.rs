//! PostgreSQL frees what it has allocated with the context that this was allocated in, all at once. So whoever does the same thing many times needs a
//! context for each time.

use std::ffi::CStr;

use pgrx::pg_sys;

/// A memory context of its own for what is palloc'd while this lives.
pub struct Scratch {
    context: pg_sys::MemoryContext,
    before: pg_sys::MemoryContext,
}

impl Scratch {
    pub fn new(name: &'static CStr) -> Scratch {
        // SAFETY: a child of the current context, which goes with it on an ERROR; the name is static, as contexts want it.
        unsafe {
            let context = pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurrentMemoryContext,
                name.as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            );
            Scratch { context, before: pg_sys::MemoryContextSwitchTo(context) }
        }
    }
}

impl Scratch {
    /// Frees what was allocated.
    pub fn reset(&mut self) {
        // SAFETY: what was allocated here is not referred to any more (the caller).
        unsafe { pg_sys::MemoryContextReset(self.context) }
    }

    /// Runs `work` in the context that was current before.
    pub fn outside<R>(&self, work: impl FnOnce() -> R) -> R {
        // SAFETY: both contexts live; after an ERROR the handler chooses the context.
        unsafe {
            let inside = pg_sys::MemoryContextSwitchTo(self.before);
            let result = work();
            pg_sys::MemoryContextSwitchTo(inside);
            result
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: what was allocated here is not referred to any more.
            unsafe {
                pg_sys::MemoryContextSwitchTo(self.before);
                pg_sys::MemoryContextDelete(self.context);
            }
        }
    }
}

/// The memory context that is current now: for what outlives a [`Scratch`] or a subtransaction (subxact.rs).
pub struct Lasting(pg_sys::MemoryContext);

impl Lasting {
    pub fn here() -> Lasting {
        // SAFETY: reads a variable of this backend.
        Lasting(unsafe { pg_sys::CurrentMemoryContext })
    }

    /// Runs `work` in that context.
    pub fn run<R>(&self, work: impl FnOnce() -> R) -> R {
        // SAFETY: both contexts live (callers: this one is no longer than that which was current); after an ERROR the handler chooses the context.
        unsafe {
            let before = pg_sys::MemoryContextSwitchTo(self.0);
            let result = work();
            pg_sys::MemoryContextSwitchTo(before);
            result
        }
    }
}

/// A memory context for what one row of many needs.
pub struct PerRow(pg_sys::MemoryContext);

impl PerRow {
    pub fn new(name: &'static CStr) -> PerRow {
        // SAFETY: a child of the current context, which goes with it on an ERROR; the name is static, as contexts want it.
        PerRow(unsafe {
            pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurrentMemoryContext,
                name.as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            )
        })
    }

    /// Does `work`, and frees what `work` has allocated with PostgreSQL.
    ///
    /// # Safety
    /// Nothing that `work` allocates so is referred to afterwards, not by the result either.
    pub unsafe fn run<R>(&self, work: impl FnOnce() -> R) -> R {
        // SAFETY: both contexts live; after an ERROR the handler chooses the context.
        unsafe {
            let before = pg_sys::MemoryContextSwitchTo(self.0);
            let result = work();
            pg_sys::MemoryContextSwitchTo(before);
            pg_sys::MemoryContextReset(self.0);
            result
        }
    }
}

impl Drop for PerRow {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: nothing that was allocated here is referred to (`run`).
            unsafe { pg_sys::MemoryContextDelete(self.0) }
        }
    }
}
