//! jsonb's stored form to JSON text, as jsonb_out() writes it.
//!
//! The stored form (utils/jsonb.h, the same in PostgreSQL 14 to 18): a container is a 32-bit header (kind and count), an
//! array of 32-bit entries (type, and length or end) and the children's data, numbers and containers aligned to 4 bytes
//! in it. An object's entries are its keys, then its values. A scalar is an array of one with a flag.

use super::escape::escape_json;
use super::numeric::write_numeric;
use super::output::Buffer;

const COUNT: u32 = 0x0fff_ffff;
const SCALAR: u32 = 0x1000_0000;
const OBJECT: u32 = 0x2000_0000;
const ARRAY: u32 = 0x4000_0000;

const LENGTH_OR_END: u32 = 0x0fff_ffff;
const IS_END: u32 = 0x8000_0000;
const TYPE: u32 = 0x7000_0000;
const STRING: u32 = 0;
const NUMERIC: u32 = 0x1000_0000;
const FALSE: u32 = 0x2000_0000;
const TRUE: u32 = 0x3000_0000;
const NULL: u32 = 0x4000_0000;
const CONTAINER: u32 = 0x5000_0000;

/// How deep this goes; PostgreSQL's own writer does not use the stack.
const MAX_DEPTH: u32 = 100;

/// Appends a jsonb value, given without its varlena header. None, and something appended, where only PostgreSQL knows:
/// nested too deep, or a form that is not known here.
pub fn write_jsonb(out: &mut impl Buffer, stored: &[u8]) -> Option<()> {
    if cfg!(target_endian = "big") {
        return None;
    }
    container(out, stored, 0)
}

fn container(out: &mut impl Buffer, stored: &[u8], depth: u32) -> Option<()> {
    let header = u32::from_ne_bytes(*stored.first_chunk()?);
    let count = (header & COUNT) as usize;
    let entries = if header & OBJECT != 0 { count.checked_mul(2)? } else { count };
    let (entries, data) = stored[4..].split_at_checked(entries.checked_mul(4)?)?;
    let (entries, _) = entries.as_chunks::<4>();
    if depth > MAX_DEPTH {
        return None;
    }
    match header & (OBJECT | ARRAY) {
        ARRAY => {
            let mut values = Children { entries, data, end: 0 };
            if header & SCALAR != 0 {
                return values.write_next(out, depth);
            }
            bracket(out, b'[');
            for i in 0..count {
                separate(out, i);
                values.write_next(out, depth)?;
            }
            bracket(out, b']');
        }
        OBJECT => {
            let (keys, values) = entries.split_at(count);
            // Values begin where keys end.
            let end = keys.iter().fold(0, |end, entry| end_of(u32::from_ne_bytes(*entry), end));
            let mut values = Children { entries: values, data, end };
            let mut keys = Children { entries: keys, data, end: 0 };
            bracket(out, b'{');
            for i in 0..count {
                separate(out, i);
                let (_, start, end) = keys.next()?;
                escape_json(out, data.get(start..end)?);
                out.room(2);
                out.put(b": ");
                values.write_next(out, depth)?;
            }
            bracket(out, b'}');
        }
        _ => return None,
    }
    Some(())
}

fn bracket(out: &mut impl Buffer, bracket: u8) {
    out.room(1);
    out.put(&[bracket]);
}

fn separate(out: &mut impl Buffer, i: usize) {
    if i > 0 {
        out.room(2);
        out.put(b", ");
    }
}

/// Where a child ends, the one before it having ended at `start`.
#[inline(always)]
fn end_of(entry: u32, start: usize) -> usize {
    let number = (entry & LENGTH_OR_END) as usize;
    if entry & IS_END != 0 {
        number
    } else {
        start + number
    }
}

/// The children of a container, one after the other.
struct Children<'a> {
    entries: &'a [[u8; 4]],
    data: &'a [u8],
    /// Where the last one ended.
    end: usize,
}

impl Children<'_> {
    /// Type, start and end of the next child.
    #[inline(always)]
    fn next(&mut self) -> Option<(u32, usize, usize)> {
        let (entry, rest) = self.entries.split_first()?;
        self.entries = rest;
        let entry = u32::from_ne_bytes(*entry);
        let start = self.end;
        self.end = end_of(entry, start);
        Some((entry & TYPE, start, self.end))
    }

    fn write_next(&mut self, out: &mut impl Buffer, depth: u32) -> Option<()> {
        let (kind, start, end) = self.next()?;
        match kind {
            STRING => escape_json(out, self.data.get(start..end)?),
            NUMERIC => write_numeric(out, without_header(self.data.get(start.next_multiple_of(4)..end)?)?)?,
            CONTAINER => container(out, self.data.get(start.next_multiple_of(4)..end)?, depth + 1)?,
            _ => {
                out.room(5);
                match kind {
                    TRUE => out.put(b"true"),
                    FALSE => out.put(b"false"),
                    NULL => out.put(b"null"),
                    _ => return None,
                }
            }
        }
        Some(())
    }
}

/// The content of a varlena that is in memory as it is, on a little-endian machine: a header of one byte or of four.
fn without_header(varlena: &[u8]) -> Option<&[u8]> {
    let first = *varlena.first()?;
    if first & 1 == 1 {
        varlena.get(1..usize::from(first >> 1))
    } else if first & 3 == 0 {
        varlena.get(4..(u32::from_le_bytes(*varlena.first_chunk()?) >> 2) as usize)
    } else {
        None
    }
}
