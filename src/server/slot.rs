//! Row versions in slots: their values, and whether two are the same.
//!
//! A trigger asks several times for each changed row, where crossing over to C and back (with a guard against its `longjmp`) takes
//! longer than what is asked there: what macros and inline functions of the server's headers do is done here.

use pgrx::pg_sys;
use pgrx::varlena::{varatt_is_1b_e, varatt_is_4b_c, vardata_any, varsize_any, varsize_any_exhdr};

use crate::server::pg;

pub type Slot = *mut pg_sys::TupleTableSlot;

/// Makes the columns up to this number ready for `value`, in one go.
///
/// # Safety
/// The slot holds a row of at least so many columns.
pub unsafe fn read(slot: Slot, last: i16) {
    // SAFETY: see above.
    unsafe {
        if (*slot).tts_nvalid < last {
            pg_sys::slot_getsomeattrs_int(slot, i32::from(last));
        }
    }
}

/// The value of a column; None for NULL.
///
/// # Safety
/// The slot holds a row that has this column.
pub unsafe fn value(slot: Slot, attnum: i16) -> Option<pg_sys::Datum> {
    // SAFETY: see above; `read` makes both arrays so long.
    unsafe {
        read(slot, attnum);
        let i = attnum as usize - 1;
        (!*(*slot).tts_isnull.add(i)).then(|| *(*slot).tts_values.add(i))
    }
}

/// Are two datums of one type the same, byte for byte after detoasting?
///
/// # Safety
/// Both are non-null datums of a type with this typbyval and typlen.
pub unsafe fn same(a: pg_sys::Datum, b: pg_sys::Datum, by_value: bool, length: i16) -> bool {
    if by_value {
        return a.value() == b.value();
    }
    // SAFETY: see above.
    unsafe {
        match length {
            1.. => bytes(a, length as usize) == bytes(b, length as usize),
            -1 => same_varlena(a, b),
            _ => pg::datum_image_eq(a, b, by_value, length),
        }
    }
}

/// # Safety
/// Both are varlenas.
unsafe fn same_varlena(a: pg_sys::Datum, b: pg_sys::Datum) -> bool {
    // SAFETY: see above; each macro's result is of the header that the test before it found.
    unsafe {
        let (v, w): (*mut pg_sys::varlena, *mut pg_sys::varlena) = (a.cast_mut_ptr(), b.cast_mut_ptr());
        let toasted = |v| varatt_is_1b_e(v) || varatt_is_4b_c(v);
        if !toasted(v) && !toasted(w) {
            let (n, m) = (varsize_any_exhdr(v), varsize_any_exhdr(w));
            return n == m && bytes(vardata_any(v).into(), n) == bytes(vardata_any(w).into(), m);
        }
        // An untouched value that stands elsewhere keeps its pointer: then it need not be fetched.
        let (n, m) = (varsize_any(v), varsize_any(w));
        n == m && bytes(a, n) == bytes(b, m) || pg::datum_image_eq(a, b, false, -1)
    }
}

/// # Safety
/// The datum is a pointer to so many bytes.
unsafe fn bytes<'a>(datum: pg_sys::Datum, length: usize) -> &'a [u8] {
    // SAFETY: see above.
    unsafe { std::slice::from_raw_parts(datum.cast_mut_ptr(), length) }
}
