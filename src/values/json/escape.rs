//! Bytes into a JSON buffer.

use super::output::Buffer;

/// Appends `text` as a JSON string, exactly as PostgreSQL's escape_json(): `\b \f \n \r \t \" \\`, other bytes below 0x20 as
/// `\u00xx`, everything else (0x7f too) as it is.
#[inline]
pub fn escape_json(out: &mut impl Buffer, text: &[u8]) {
    // In pieces, so that the room asked for, which is for the worst case, is never absurd.
    let (first, mut rest) = text.split_at(text.len().min(PIECE));
    out.room(first.len() * LONGEST_ESCAPE + BLOCK + 2);
    out.put(b"\"");
    // SAFETY: there is room for each byte's longest escape and for a block beyond.
    unsafe { write_escaped(out, first) };
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(PIECE));
        rest = after;
        out.room(piece.len() * LONGEST_ESCAPE + BLOCK + 1);
        // SAFETY: as above.
        unsafe { write_escaped(out, piece) };
    }
    out.put(b"\"");
}

const PIECE: usize = 1 << 16;
const LONGEST_ESCAPE: usize = 6;
const BLOCK: usize = 16;

/// Copies blocks of 16, 8, 4 and 1 bytes as they are and takes back what follows the first byte that needs an escape.
///
/// # Safety
/// `out` has room for `LONGEST_ESCAPE * text.len() + BLOCK` bytes.
unsafe fn write_escaped(out: &mut impl Buffer, text: &[u8]) {
    // SAFETY: a block is only read where the text has that many bytes left. What was written is at most LONGEST_ESCAPE
    // times what was read, so the room holds a block more. At the end all bytes before `to` have been written.
    unsafe {
        let mut from = text.as_ptr();
        let end = from.add(text.len());
        let start = out.end();
        let mut to = start;
        loop {
            let (clean, block) = match end.offset_from_unsigned(from) {
                16.. => {
                    let block = from.cast::<[u8; 16]>().read();
                    to.cast::<[u8; 16]>().write(block);
                    (clean_of_16(&block), 16)
                }
                8.. => {
                    let block = from.cast::<[u8; 8]>().read();
                    to.cast::<[u8; 8]>().write(block);
                    (clean_of_8(u64::from_le_bytes(block)), 8)
                }
                4.. => {
                    let block = from.cast::<[u8; 4]>().read();
                    to.cast::<[u8; 4]>().write(block);
                    (clean_of_8(u64::from(u32::from_le_bytes(block)) | SPACES << 32).min(4), 4)
                }
                1.. => {
                    *to = *from;
                    (usize::from(!matches!(*from, 0..0x20 | b'"' | b'\\')), 1)
                }
                0 => break,
            };
            from = from.add(clean);
            to = to.add(clean);
            if clean < block {
                let escape = &ESCAPES[usize::from(*from)];
                to.cast::<[u8; 8]>().write(escape.bytes);
                to = to.add(escape.length);
                from = from.add(1);
            }
        }
        out.advance(to.offset_from_unsigned(start));
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x80 * ONES;
const SPACES: u64 = 0x20 * ONES;

/// How many bytes from the first (lowest) need no escape.
#[inline(always)]
fn clean_of_8(word: u64) -> usize {
    // No carry crosses a byte: the high bit of each says exactly whether that byte is below 0x20, `"` or `\`.
    let low = word & !HIGH;
    let not_control = low + 0x60 * ONES;
    let not_quote = (low ^ (ONES * b'"' as u64)) + 0x7f * ONES;
    let not_backslash = (low ^ (ONES * b'\\' as u64)) + 0x7f * ONES;
    let special = !((not_control & not_quote & not_backslash) | word) & HIGH;
    special.trailing_zeros() as usize / 8
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn clean_of_16(block: &[u8; 16]) -> usize {
    use std::arch::x86_64::*;
    // SAFETY: SSE2 belongs to every x86-64; 16 bytes are read from an array of 16.
    let special = unsafe {
        let block = _mm_loadu_si128(block.as_ptr().cast());
        let control = _mm_cmpeq_epi8(_mm_min_epu8(block, _mm_set1_epi8(0x1f)), block);
        let quote = _mm_cmpeq_epi8(block, _mm_set1_epi8(b'"' as i8));
        let backslash = _mm_cmpeq_epi8(block, _mm_set1_epi8(b'\\' as i8));
        _mm_movemask_epi8(_mm_or_si128(control, _mm_or_si128(quote, backslash)))
    };
    (special | 1 << 16).trailing_zeros() as usize
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn clean_of_16(block: &[u8; 16]) -> usize {
    let word = u128::from_le_bytes(*block);
    match clean_of_8(word as u64) {
        8 => 8 + clean_of_8((word >> 64) as u64),
        clean => clean,
    }
}

/// What stands for a byte; only the first `length` bytes count.
#[derive(Copy, Clone)]
struct Escape {
    bytes: [u8; 8],
    length: usize,
}

static ESCAPES: [Escape; 256] = {
    let mut escapes = [Escape { bytes: [0; 8], length: 0 }; 256];
    let mut i = 0;
    while i < 256 {
        let short = match i as u8 {
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            b'"' => b'"',
            b'\\' => b'\\',
            _ => 0,
        };
        escapes[i] = if short != 0 {
            Escape { bytes: [b'\\', short, 0, 0, 0, 0, 0, 0], length: 2 }
        } else {
            Escape { bytes: [b'\\', b'u', b'0', b'0', HEX[i >> 4], HEX[i & 15], 0, 0], length: 6 }
        };
        i += 1;
    }
    escapes
};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Two hexadecimal digits for each byte.
static HEX_PAIRS: [[u8; 2]; 256] = {
    let mut pairs = [[0; 2]; 256];
    let mut i = 0;
    while i < 256 {
        pairs[i] = [HEX[i >> 4], HEX[i & 15]];
        i += 1;
    }
    pairs
};

static PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut i = 0;
    while i < 100 {
        pairs[i] = [b'0' + (i / 10) as u8, b'0' + (i % 10) as u8];
        i += 1;
    }
    pairs
};

/// Two decimal digits of a number below 100.
#[inline(always)]
pub fn digits_2(number: u32) -> [u8; 2] {
    PAIRS[number as usize]
}

/// A uuid as uuid_out writes it.
#[inline]
pub fn format_uuid(uuid: &[u8; 16], text: &mut [u8; 36]) {
    const AT: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    for (byte, at) in uuid.iter().zip(AT) {
        text[at..at + 2].copy_from_slice(&HEX_PAIRS[*byte as usize]);
    }
    for at in [8, 13, 18, 23] {
        text[at] = b'-';
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Byte by byte, as json.c says.
    fn plain(text: &[u8]) -> Vec<u8> {
        let mut out = vec![b'"'];
        for &b in text {
            match b {
                8 => out.extend(b"\\b"),
                12 => out.extend(b"\\f"),
                b'\n' => out.extend(b"\\n"),
                b'\r' => out.extend(b"\\r"),
                b'\t' => out.extend(b"\\t"),
                b'"' => out.extend(b"\\\""),
                b'\\' => out.extend(b"\\\\"),
                0..=0x1f => out.extend(format!("\\u{b:04x}").bytes()),
                _ => out.push(b),
            }
        }
        out.push(b'"');
        out
    }

    fn escaped(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        escape_json(&mut out, text);
        out
    }

    #[test]
    fn escapes_each_byte_at_each_place() {
        for byte in 0..=255 {
            for len in 1..40 {
                for at in 0..len {
                    let mut text = vec![b'x'; len];
                    text[at] = byte;
                    assert_eq!(escaped(&text), plain(&text), "{byte} at {at} of {len}");
                }
            }
        }
        assert_eq!(escaped(b""), b"\"\"");
    }

    #[test]
    fn escapes_what_stands_together() {
        const BYTES: &[u8] = b"\"\\\n\x01\x1f\x7f\x80\xff !ab{}:,";
        let mut seed = 1u64;
        for _ in 0..20_000 {
            let mut text = Vec::new();
            for _ in 0..seed % 60 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                text.push(BYTES[(seed >> 20) as usize % BYTES.len()]);
            }
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            assert_eq!(escaped(&text), plain(&text));
        }
    }

    #[test]
    fn escapes_more_than_a_piece() {
        for extra in [0, 1, PIECE] {
            let text: Vec<u8> = (0..PIECE + extra).map(|i| (i % 251) as u8).collect();
            assert_eq!(escaped(&text), plain(&text));
        }
    }

    #[test]
    fn formats_uuids() {
        let mut text = [0; 36];
        format_uuid(&std::array::from_fn(|i| (i * 17) as u8), &mut text);
        assert_eq!(&text, b"00112233-4455-6677-8899-aabbccddeeff");
    }
}
