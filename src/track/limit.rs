//! Rows whose image is too long for the log. Their changes reset the table, for everybody. Whoever decides about the table may do that; others'
//! rows must cost nobody anything, so they are refused when they are written.

use pgrx::pg_sys;

use super::text::{has_image, write_image};
use super::{TrackedColumn, Tracker};
use crate::log::journal;
use crate::server::error::{code, Result, SyncError};
use crate::server::slot::{value, Slot};
use crate::server::{pg, spi};

pub(super) mod nesting;

use nesting::{DEEPEST, LONGEST};

/// Can the new version of a row be logged when it changes later? Returns false where the table has been reset instead. Looks at more than
/// headers only where the text may be too long.
///
/// # Safety
/// The slot holds a row of the tracker's relation. The buffer is written to.
pub(super) unsafe fn check(t: &Tracker, new: Slot, buffer: &mut Vec<u8>) -> Result<bool> {
    // SAFETY: see above.
    unsafe {
        let fits = has_image(t, new);
        let may_be_deep =
            t.image.iter().any(|c| nesting_value(c, new).is_some_and(|d| nesting::may_be_deep(c.type_oid, d)));
        if fits && !may_be_deep && is_short(t, new) {
            return Ok(true);
        }
        if pg::has_rights_of(spi::owner(t.root)?) {
            return if fits { Ok(true) } else { journal::reset(t.root).map(|()| false) };
        }
        if may_be_deep && fits && t.image.iter().any(|column| is_deep(column, new)) {
            return Err(too_deep(t.root));
        }
        match fits && write_image(t, new, buffer) {
            true => Ok(true),
            false => Err(too_long(t.root)),
        }
    }
}

fn too_long(table: pg_sys::Oid) -> SyncError {
    let name = pg::qualified_name(table).map(|(name, _)| name).unwrap_or_default();
    SyncError::new(code::PROGRAM_LIMIT, format!("row of table {name} is too long in columns that decide who sees it"))
        .detail("As text they may have 16 MB together: snapsync logs their old values when the row changes.")
        .hint("Only the table's owner can write such a row.")
}

fn too_deep(table: pg_sys::Oid) -> SyncError {
    let name = pg::qualified_name(table).map(|(name, _)| name).unwrap_or_default();
    let message = format!("a value is nested too deep in a row of table {name}, in columns that decide who sees it");
    SyncError::new(code::PROGRAM_LIMIT, message)
        .detail(format!(
            "JSON may have {DEEPEST} levels, also in arrays and rows; a jsonpath, a tsquery or a range of JSON {LONGEST} bytes: snapsync logs \
             old values when the row changes, and reads them back."
        ))
        .hint("Only the table's owner can write such a row.")
}

/// The value, if the column has one that may nest.
///
/// # Safety
/// The slot holds a row of the column's relation.
unsafe fn nesting_value(column: &TrackedColumn, slot: Slot) -> Option<pg_sys::Datum> {
    // SAFETY: see above.
    unsafe { value(slot, column.attnum).filter(|_| column.nests) }
}

/// # Safety
/// As above.
unsafe fn is_deep(column: &TrackedColumn, slot: Slot) -> bool {
    // SAFETY: a datum of this column.
    unsafe { nesting_value(column, slot).is_some_and(|datum| nesting::is_deep(column.type_oid, datum)) }
}

/// What short values of any type may become as text is less than an image may have: a number of few bytes has up to 150,000 digits.
const SHORT: usize = 1_000;

/// Is the text of these columns short, whatever is in them?
///
/// # Safety
/// The slot holds a row of the tracker's relation.
unsafe fn is_short(t: &Tracker, slot: Slot) -> bool {
    // SAFETY: see above.
    let lengths = t.image.iter().map(|column| unsafe { value(slot, column.attnum).map_or(0, |d| length(column, d)) });
    lengths.fold(0, usize::saturating_add) <= SHORT
}

/// In so many bytes of any type the text of this value would have room.
///
/// # Safety
/// A non-null datum of this column.
unsafe fn length(column: &TrackedColumn, datum: pg_sys::Datum) -> usize {
    match column.type_oid {
        // Of more than 127 it is no text.
        pg_sys::CHAROID => SHORT + 1,
        _ if column.length != -1 => 0,
        // Escaped in JSON, a character takes six times its room.
        // SAFETY: a varlena datum (typlen -1); looks at its header only.
        pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID | pg_sys::JSONOID | pg_sys::BYTEAOID => unsafe {
            pg_sys::toast_raw_datum_size(datum) / 1_000
        },
        // SAFETY: as above.
        _ => unsafe { pg_sys::toast_raw_datum_size(datum) },
    }
}
