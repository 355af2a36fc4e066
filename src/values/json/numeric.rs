//! numeric's stored form to text, as numeric_out() writes it.
//!
//! The stored form (NumericData in utils/adt/numeric.c, the same in PostgreSQL 14 to 18): a 16-bit header that is either
//! short (sign, display scale and weight in it) or long (a 16-bit weight follows) or says NaN or infinity; then digits in
//! base 10000, the first worth 10000^weight.

use super::escape::digits_2;
use super::output::Buffer;

/// Appends a finite number; None, and nothing appended, for NaN and infinity. `stored` is the value without its varlena
/// header.
pub fn write_numeric(out: &mut impl Buffer, stored: &[u8]) -> Option<()> {
    let (halves, _) = stored.as_chunks::<2>();
    let header = u16::from_ne_bytes(*halves.first()?);
    let (negative, scale, weight, digits) = match header & 0xc000 {
        0xc000 => return None,
        // Seven bits of weight, the highest its sign.
        0x8000 => (header & 0x2000 != 0, header >> 7 & 0x3f, (header << 9) as i16 >> 9, &halves[1..]),
        sign => (sign == 0x4000, header & 0x3fff, i16::from_ne_bytes(*halves.get(1)?), &halves[2..]),
    };
    let (scale, weight) = (usize::from(scale), i32::from(weight));
    let digit = |i: i32| usize::try_from(i).ok().and_then(|i| digits.get(i)).map_or(0, |d| u16::from_ne_bytes(*d));
    out.room((weight.max(0) as usize + 1) * 4 + scale + 2);
    if negative {
        out.put(b"-");
    }
    if weight < 0 {
        out.put(b"0");
    } else {
        let first = four(digit(0));
        let zeros = first.iter().position(|&d| d != b'0').unwrap_or(3);
        out.put(&first[zeros..]);
        for i in 1..=weight {
            out.put(&four(digit(i)));
        }
    }
    if scale > 0 {
        out.put(b".");
        let (whole, rest) = (scale / 4, scale % 4);
        for i in 0..whole {
            out.put(&four(digit(weight + 1 + i as i32)));
        }
        out.put(&four(digit(weight + 1 + whole as i32))[..rest]);
    }
    Some(())
}

/// A digit in base 10000.
#[inline(always)]
fn four(digit: u16) -> [u8; 4] {
    // A digit over 9999 would be a broken value: wrong text, but no panic.
    let [[a, b], [c, d]] = [digits_2(u32::from(digit / 100 % 100)), digits_2(u32::from(digit % 100))];
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(halves: &[u16]) -> Option<String> {
        let stored: Vec<u8> = halves.iter().flat_map(|h| h.to_ne_bytes()).collect();
        let mut out = Vec::new();
        write_numeric(&mut out, &stored).map(|()| String::from_utf8(out).unwrap())
    }

    fn short(negative: bool, scale: u16, weight: i16) -> u16 {
        0x8000 | u16::from(negative) << 13 | scale << 7 | (weight as u16 & 0x7f)
    }

    #[test]
    fn writes_short_and_long_forms() {
        assert_eq!(text(&[short(false, 0, 0)]).unwrap(), "0");
        assert_eq!(text(&[short(false, 2, 0)]).unwrap(), "0.00");
        assert_eq!(text(&[short(true, 0, 0), 7]).unwrap(), "-7");
        assert_eq!(text(&[short(false, 2, 1), 1, 2345, 6700]).unwrap(), "12345.67");
        assert_eq!(text(&[short(false, 5, -1), 1230]).unwrap(), "0.12300");
        assert_eq!(text(&[short(false, 7, -2), 1200]).unwrap(), "0.0000120");
        assert_eq!(text(&[short(false, 0, 3), 10]).unwrap(), "10000000000000");
        assert_eq!(text(&[0x4000 | 3, 0, 9999, 9990]).unwrap(), "-9999.999");
        assert_eq!(text(&[100, (-20i16) as u16, 1]).unwrap(), format!("0.{}1{}", "0".repeat(79), "0".repeat(20)));
    }

    #[test]
    fn leaves_what_is_not_finite() {
        for special in [0xc000, 0xd000, 0xf000] {
            assert_eq!(text(&[special]), None);
        }
        assert_eq!(text(&[]), None);
    }
}
