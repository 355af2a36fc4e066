//! Where JSON text is written to.
//!
//! An answer can be hundreds of megabytes, so [`Output`] makes it where it will lie as a Postgres value: in memory of the
//! function's own context, behind room for a varlena's header. Copying it there in the end cost 8 % of a first pull of 60 MB.

use std::alloc::Layout;

use pgrx::pg_sys;

use crate::server::error::{code, SyncError};
use crate::server::memory;
use crate::server::spi::{self, Mode};
use crate::values::excerpt;

/// The longest answer. A Postgres value ends at MaxAllocSize; the message that carries it to the client ends there too, and
/// has a few bytes of its own.
const MAX_OUTPUT: usize = 0x3fff_ffff - 1024;

/// A text that grows.
pub trait Buffer {
    /// Makes room for `n` more bytes.
    fn room(&mut self, n: usize);
    /// Appends bytes.
    fn put(&mut self, bytes: &[u8]);
    /// Where the next byte goes.
    fn end(&mut self) -> *mut u8;
    /// # Safety
    /// The `n` bytes at the end, for which there is room, have been written.
    unsafe fn advance(&mut self, n: usize);
    fn length(&self) -> usize;
    fn truncate(&mut self, length: usize);
}

impl Buffer for Vec<u8> {
    #[inline(always)]
    fn room(&mut self, n: usize) {
        if let Err(e) = memory::room(self, n) {
            e.raise();
        }
    }
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        self.room(bytes.len());
        self.extend_from_slice(bytes);
    }
    #[inline(always)]
    fn end(&mut self) -> *mut u8 {
        self.spare_capacity_mut().as_mut_ptr().cast()
    }
    /// # Safety
    /// So many bytes have been written behind the end, within what was reserved.
    #[inline(always)]
    unsafe fn advance(&mut self, n: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.set_len(self.len() + n) }
    }
    fn length(&self) -> usize {
        self.len()
    }
    fn truncate(&mut self, length: usize) {
        Vec::truncate(self, length);
    }
}

/// A text of up to a gigabyte, in the memory context that was current when it was made.
pub struct Output {
    context: pg_sys::MemoryContext,
    /// The header's address; null as long as there is no text.
    value: *mut u8,
    length: usize,
    capacity: usize,
    /// The row that is being written: where it begins, and its id.
    row: Option<(usize, *const [u8])>,
}

const HEADER: usize = pg_sys::VARHDRSZ;

/// From here on the answer is compressed. Whoever sends it has three copies of it at once: the value, its output function's and
/// the message. Compressed, ours takes a quarter to a half: sending 430 MB peaked at 2.0 times its size instead of 3.0.
const COMPRESS_FROM: usize = 1 << 28;

// How TOAST marks a value in memory as compressed (varattrib_4b.va_compressed on a little-endian machine, toast_compression.h):
// its size with a mark, then the text's size with the method.
const COMPRESSED_HEADER: usize = 8;
const COMPRESSED: usize = 2;
const LZ4: u32 = 1;

/// Can this server read values compressed with LZ4? It is built with it or not.
pub fn toast_has_lz4() -> bool {
    const METHODS: &str = "SELECT 'lz4' OPERATOR(pg_catalog.=) ANY (enumvals) FROM pg_catalog.pg_settings \
                           WHERE name OPERATOR(pg_catalog.=) 'default_toast_compression'";
    let methods = spi::query(METHODS, &[], Mode::Read);
    cfg!(target_endian = "little") && methods.is_ok_and(|rows| rows.first().is_some_and(|r| r.bool(0)))
}

/// So many zeros, whose pages are not there before they are written to; None without the memory, which must not end the backend
/// as it would with `vec!`.
fn zeros(size: usize) -> Option<Vec<u8>> {
    let layout = Layout::array::<u8>(size).ok().filter(|_| size > 0)?;
    // SAFETY: of a size that is not zero; the vector gets what was allocated for it, as it would have allocated it.
    unsafe {
        let start = memory::asking(|| std::alloc::alloc_zeroed(layout));
        (!start.is_null()).then(|| Vec::from_raw_parts(start, size, size))
    }
}

/// Most answers say that nothing has changed, and are shorter.
const FIRST_CAPACITY: usize = 1000;

impl Default for Output {
    fn default() -> Self {
        Output::new()
    }
}

impl Output {
    /// In the current memory context.
    pub fn new() -> Self {
        // SAFETY: reads a backend-local variable.
        let context = unsafe { pg_sys::CurrentMemoryContext };
        Output { context, value: std::ptr::null_mut(), length: 0, capacity: 0, row: None }
    }

    pub fn bytes(&self) -> &[u8] {
        if self.value.is_null() {
            return b"";
        }
        // SAFETY: so many bytes have been written behind the header.
        unsafe { std::slice::from_raw_parts(self.value.add(HEADER), self.length) }
    }

    /// The text as a Postgres value of type text or json.
    pub fn into_datum(mut self) -> pg_sys::Datum {
        self.room(0);
        if self.length >= COMPRESS_FROM && toast_has_lz4() {
            if let Some(compressed) = self.compressed() {
                return compressed;
            }
        }
        // SAFETY: there is room for the header, and the size fits into its 30 bits (MAX_OUTPUT). What Postgres now owns is not
        // freed here any more.
        unsafe {
            pgrx::varlena::set_varsize_4b(self.value.cast(), (HEADER + self.length) as i32);
            let value = std::mem::replace(&mut self.value, std::ptr::null_mut());
            pg_sys::Datum::from(value)
        }
    }

    /// The text as an inline compressed value, as TOAST makes them; None where that is hardly shorter.
    pub fn compressed(&self) -> Option<pg_sys::Datum> {
        let text = self.bytes();
        let mut room = zeros(lz4_flex::block::get_maximum_output_size(text.len()))?;
        let size = lz4_flex::block::compress_into(text, &mut room).ok().filter(|&size| size < text.len() / 2)?;
        let header = [((COMPRESSED_HEADER + size) << 2 | COMPRESSED) as u32, text.len() as u32 | LZ4 << 30];
        // SAFETY: so many bytes are allocated, and Postgres's from then on.
        unsafe {
            let value = pg_sys::MemoryContextAllocHuge(self.context, COMPRESSED_HEADER + size).cast::<u8>();
            value.cast::<[u32; 2]>().write_unaligned(header);
            std::ptr::copy_nonoverlapping(room.as_ptr(), value.add(COMPRESSED_HEADER), size);
            Some(pg_sys::Datum::from(value))
        }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, n: usize) {
        // What is asked for is an upper bound, so a little more than a value can hold is not an error yet.
        if self.length > MAX_OUTPUT || n > MAX_OUTPUT {
            self.too_large(n).raise();
        }
        let capacity = (self.length + n).max(self.capacity * 2).max(FIRST_CAPACITY);
        // SAFETY: the context lives (Output is never kept beyond the call); no memory is an ERROR like any other. Above 1 GB
        // because `n` is for the worst case. Large pieces are moved by the kernel, not copied.
        unsafe {
            self.value = if self.value.is_null() {
                pg_sys::MemoryContextAllocHuge(self.context, HEADER + capacity).cast()
            } else {
                pg_sys::repalloc_huge(self.value.cast(), HEADER + capacity).cast()
            };
        }
        self.capacity = capacity;
    }

    /// A row begins here.
    ///
    /// # Safety
    /// Its id is not touched before `end_row`.
    #[inline(always)]
    pub unsafe fn begin_row(&mut self, id: &[u8]) {
        self.row = Some((self.length, std::ptr::from_ref(id)));
    }

    /// It ends. Raises an error when the text has become longer than a value can be.
    #[inline(always)]
    pub fn end_row(&mut self) {
        if self.length > MAX_OUTPUT {
            self.too_large(0).raise();
        }
        self.row = None;
    }

    /// A result too large for one Postgres value, with so many bytes more. (What helps, who has made the request knows.)
    #[cold]
    fn too_large(&self, more: usize) -> SyncError {
        let error = SyncError::new(code::PROGRAM_LIMIT, TOO_LARGE);
        match self.row {
            Some((begin, id)) if self.length - begin + more > MAX_OUTPUT => {
                // SAFETY: the promise of `begin_row`.
                let id = unsafe { &*id };
                // Not every statement gives ids. But most rows begin with theirs.
                let text = if id.is_empty() { &self.bytes()[begin..] } else { id };
                let text = String::from_utf8_lossy(&text[..text.len().min(LONGEST_NAMED)]);
                error
                    .detail(format!("Row {} alone takes that much.", excerpt::cut(&text, excerpt::VALUE)))
                    .hint("Let it be shorter, or leave its long column out: exclude, of snapsync.enable().")
            }
            _ => error.detail("A PostgreSQL value holds at most 1 GB."),
        }
    }
}

/// So many bytes of a row are looked at to say which it is.
const LONGEST_NAMED: usize = 4 * (excerpt::VALUE + 1);

/// The message of that error.
pub const TOO_LARGE: &str = "pull result exceeds 1 GB";

impl Buffer for Output {
    #[inline(always)]
    fn room(&mut self, n: usize) {
        if self.capacity - self.length < n || self.value.is_null() {
            self.grow(n);
        }
    }
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        self.room(bytes.len());
        // SAFETY: there is room now.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.end(), bytes.len());
            self.advance(bytes.len());
        }
    }
    #[inline(always)]
    fn end(&mut self) -> *mut u8 {
        self.value.wrapping_add(HEADER + self.length)
    }
    /// # Safety
    /// So many bytes have been written behind the end, within what was reserved.
    #[inline(always)]
    unsafe fn advance(&mut self, n: usize) {
        self.length += n;
    }
    fn length(&self) -> usize {
        self.length
    }
    fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // While an ERROR unwinds, the memory goes with its context.
        if !self.value.is_null() && !std::thread::panicking() {
            // SAFETY: allocated by `grow` and not given away.
            unsafe { pg_sys::pfree(self.value.cast()) }
        }
    }
}
