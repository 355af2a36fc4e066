//! Values as the log has them: texts that read back as the same values, whatever the sessions' settings were.

use std::cell::Cell;
use std::ffi::CStr;

use pgrx::{pg_sys, FromDatum};

use super::{TrackedColumn, Tracker};
use crate::server::error::SyncError;
use crate::server::slot::{value, Slot};
use crate::server::{memory, pg, spi, statement, subxact};
use crate::values::json::{escape_json, format_uuid};

/// The image: a JSON object of the columns' text forms, which read back as the same values. json and jsonb values are stored as text
/// too: nested as jsonb, JSON null would become SQL NULL and numbers would be rewritten. False where there can be no image: what a
/// table can store and jsonb cannot must not make the statement fail, nor the commit. Then every client takes the table anew.
///
/// # Safety
/// The slot holds a row of the tracker's relation.
pub(super) unsafe fn write_image(t: &Tracker, slot: Slot, out: &mut Vec<u8>) -> bool {
    out.clear();
    out.push(b'{');
    let mut text = Vec::new();
    for (i, column) in t.image.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        memory::append(out, &column.json_key);
        // SAFETY: as in write_key.
        match unsafe { value(slot, column.attnum) } {
            None => memory::append(out, b"null"),
            Some(datum) => {
                // SAFETY: a datum of this column.
                unsafe {
                    if !is_small(column, datum) {
                        return false;
                    }
                    write_image_text(column, datum, &mut text);
                }
                // "char" of more than 127, before PostgreSQL 16.
                if std::str::from_utf8(&text).is_err() || column.zoned && changes_zones(column, &text) {
                    return false;
                }
                escape_json(out, &text);
            }
        }
        if out.len() > LARGEST_IMAGE {
            return false;
        }
    }
    out.push(b'}');
    true
}

/// jsonb holds 256 MB, and an array of small numbers takes eight times the room of its text.
const LARGEST_IMAGE: usize = 16 << 20;

/// Could this row be logged as an image later? Checked when the row is written because `reach::present` also builds images from
/// current rows.
///
/// # Safety
/// The slot holds a row of the tracker's relation.
pub(super) unsafe fn has_image(t: &Tracker, slot: Slot) -> bool {
    // SAFETY: as in write_image.
    t.image.iter().all(|column| unsafe { value(slot, column.attnum).is_none_or(|datum| is_small(column, datum)) })
}

/// Is the value, detoasted, small enough for an image?
///
/// # Safety
/// A non-null datum of this column.
unsafe fn is_small(column: &TrackedColumn, datum: pg_sys::Datum) -> bool {
    // SAFETY: a varlena datum (typlen -1); looks at its header only.
    column.length != -1 || unsafe { pg_sys::toast_raw_datum_size(datum) } <= LARGEST_IMAGE
}

/// A value's text form that reads back as the same value later: an object is told by its number, for it may be renamed, dropped, or
/// not be found under another search path.
///
/// # Safety
/// A non-null datum of this column.
unsafe fn write_image_text(column: &TrackedColumn, datum: pg_sys::Datum, out: &mut Vec<u8>) {
    out.clear();
    if pg::is_object_name(column.type_oid) {
        memory::append(out, itoa::Buffer::new().format(datum.value() as u32).as_bytes());
    } else {
        // SAFETY: a datum of this column (caller).
        unsafe { write_text(column, datum, out) };
    }
}

/// A value's text form, the same whatever the session's settings say.
///
/// # Safety
/// A non-null datum of this column.
pub(super) unsafe fn write_text(column: &TrackedColumn, datum: pg_sys::Datum, out: &mut Vec<u8>) {
    // SAFETY: the datum is of the column's type; output functions return a palloc'd cstring that we copy and free.
    unsafe {
        match column.type_oid {
            pg_sys::INT4OID => memory::append(out, itoa::Buffer::new().format(datum.value() as i32).as_bytes()),
            pg_sys::INT8OID => memory::append(out, itoa::Buffer::new().format(datum.value() as i64).as_bytes()),
            pg_sys::INT2OID => memory::append(out, itoa::Buffer::new().format(datum.value() as i16).as_bytes()),
            pg_sys::UUIDOID => {
                let mut text = [0; 36];
                format_uuid(&*datum.cast_mut_ptr::<[u8; 16]>(), &mut text);
                memory::append(out, &text);
            }
            pg_sys::TEXTOID | pg_sys::VARCHAROID => {
                let text: Option<&str> = <&str>::from_datum(datum, false);
                memory::append(out, text.unwrap_or("").as_bytes());
            }
            _ => {
                let mut write = || {
                    let text = pg_sys::OidOutputFunctionCall(column.output, datum);
                    memory::append(out, CStr::from_ptr(text).to_bytes());
                    pg_sys::pfree(text.cast());
                    Ok(())
                };
                let written = match column.settings {
                    OutputSettings::None => write(),
                    OutputSettings::Some => {
                        let _iso = IsoOutput::set();
                        write()
                    }
                    OutputSettings::Any => spi::pinned(write),
                };
                written.unwrap_or_else(|e: SyncError| e.raise());
            }
        }
    }
}

/// A `timetz` has a zone of its own, which may be more than 99 hours off: `+100`, that PostgreSQL reads back as `+01:00`. Is that what this text, of a column
/// with such times, comes to?
fn changes_zones(column: &TrackedColumn, text: &[u8]) -> bool {
    let is_far = |zone: &[u8]| matches!(zone[0], b'+' | b'-') && zone[1..].iter().all(u8::is_ascii_digit);
    if !text.windows(4).any(is_far) {
        return false;
    }
    let Ok(text) = std::str::from_utf8(text) else { return true };
    // (A check of a domain's may be in the way, which is not run for this.)
    if !statement::input_runs_nothing(column.type_oid) {
        return true;
    }
    let same = subxact::try_out(|| {
        spi::pinned(|| {
            let value = spi::input(column.type_oid, text)?.datum.unwrap_or(pg_sys::Datum::null());
            // SAFETY: a value of the column's type, whose output function returns a palloc'd cstring.
            Ok(unsafe {
                CStr::from_ptr(pg_sys::OidOutputFunctionCall(column.output, value)).to_bytes() == text.as_bytes()
            })
        })
    });
    match same {
        Ok(same) => !same,
        Err(e) if e.is_cancellation() => e.raise(),
        Err(_) => true,
    }
}

/// Which settings a type's text form depends on.
#[derive(Clone, Copy)]
pub(super) enum OutputSettings {
    None,
    /// Those that [`IsoOutput`] sets, which takes a tenth of the time that all take.
    Some,
    /// Any, as far as is known here: those of its elements, of another extension's type.
    Any,
}

impl OutputSettings {
    pub(super) fn of(type_oid: pg_sys::Oid) -> OutputSettings {
        match type_oid {
            pg_sys::BOOLOID
            | pg_sys::CHAROID
            | pg_sys::NAMEOID
            | pg_sys::BPCHAROID
            | pg_sys::NUMERICOID
            | pg_sys::OIDOID
            | pg_sys::JSONOID
            | pg_sys::JSONBOID
            | pg_sys::INETOID => OutputSettings::None,
            pg_sys::DATEOID
            | pg_sys::TIMEOID
            | pg_sys::TIMETZOID
            | pg_sys::TIMESTAMPOID
            | pg_sys::TIMESTAMPTZOID
            | pg_sys::INTERVALOID
            | pg_sys::FLOAT4OID
            | pg_sys::FLOAT8OID => OutputSettings::Some,
            // SAFETY: a syscache look-up.
            _ if unsafe { pg_sys::get_typtype(type_oid) } as u8 == pg_sys::TYPTYPE_ENUM => OutputSettings::None,
            _ => OutputSettings::Any,
        }
    }
}

/// Output settings under which these types' text forms read back as the same value under pinned ones (spi/guard.rs). The time zone is one of them:
/// a session's may be further off than what is read back.
struct IsoOutput {
    zone: *mut pg_sys::pg_tz,
    date_style: i32,
    interval_style: i32,
    float_digits: i32,
}

impl IsoOutput {
    fn set() -> Self {
        // SAFETY: backend-local variables, restored in `drop`, also when an ERROR unwinds.
        unsafe {
            let saved = IsoOutput {
                zone: pg_sys::session_timezone,
                date_style: pg_sys::DateStyle,
                interval_style: pg_sys::IntervalStyle,
                float_digits: pg_sys::extra_float_digits,
            };
            pg_sys::DateStyle = pg_sys::USE_ISO_DATES as i32;
            pg_sys::IntervalStyle = pg_sys::INTSTYLE_POSTGRES as i32;
            pg_sys::extra_float_digits = 1;
            pg_sys::session_timezone = greenwich();
            saved
        }
    }
}

impl Drop for IsoOutput {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe {
            pg_sys::DateStyle = self.date_style;
            pg_sys::IntervalStyle = self.interval_style;
            pg_sys::extra_float_digits = self.float_digits;
            pg_sys::session_timezone = self.zone;
        }
    }
}

thread_local! {
    static GREENWICH: Cell<*mut pg_sys::pg_tz> = const { Cell::new(std::ptr::null_mut()) };
}

/// The zone that the server has without files of zones. (None is ever freed.)
fn greenwich() -> *mut pg_sys::pg_tz {
    if GREENWICH.get().is_null() {
        // SAFETY: a name that ends with a zero; this one is always found.
        GREENWICH.set(unsafe { pg_sys::pg_tzset(c"GMT".as_ptr()) });
    }
    GREENWICH.get()
}
