//! The id of a row as clients see it: one text, whatever the sync key consists of.
//!
//! - A key of one column: that column's text, as it is. A client's own id (WatermelonDB's `[A-Za-z0-9_.-]`, a uuid, a
//!   number) goes through untouched.
//! - A key of several columns: each part percent-encoded outside `[A-Za-z0-9_-]` (upper-case hexadecimal of the UTF-8
//!   bytes) and the parts joined with `.`: `("a b", "7")` is `a%20b.7`. An empty part is written as nothing: `("a", "")`
//!   is `a.`.
//!
//! [`decode`] is the exact inverse of [`encode`] and accepts nothing else: every row has one id only. Were `%2d` or `%41`
//! accepted as well, one row could stand twice in a batch without anybody noticing.

use std::borrow::Cow;

use thiserror::Error;

use crate::server::memory::{self, Gather};
use crate::values::excerpt::{cut, VALUE};

/// Why a text is not the id of a row whose key has several columns.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WireIdError {
    /// The id has more or fewer parts than the key has columns.
    #[error("id \"{id}\" has {found} part(s) where the key has {expected} columns")]
    Parts {
        /// The id, cut.
        id: String,
        /// How many parts, separated by `.`, it has.
        found: usize,
        /// How many columns the key has.
        expected: usize,
    },
    /// A character that [`encode`] would have percent-encoded.
    #[error("id \"{id}\" contains \"{found}\", which must be percent-encoded in the id of a key of several columns")]
    Character {
        /// The id, cut.
        id: String,
        /// The character.
        found: String,
    },
    /// `%` without two upper-case hexadecimal digits after it.
    #[error("id \"{id}\" contains a \"%\" that is not followed by two hexadecimal digits in upper case")]
    Escape {
        /// The id, cut.
        id: String,
    },
    /// A percent-encoded character that needs no encoding, so that the row would have two ids.
    #[error("id \"{id}\" percent-encodes \"{found}\", which must be written as it is")]
    NotCanonical {
        /// The id, cut.
        id: String,
        /// The character.
        found: char,
    },
    /// The decoded bytes are no text: not UTF-8, or with a zero byte.
    #[error("id \"{id}\" does not decode to valid UTF-8 text")]
    Text {
        /// The id, cut.
        id: String,
    },
}

/// `[A-Za-z0-9_-]`: stands for itself.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// The wire id of a key: one part as it is; several percent-encoded and joined with `.`.
pub fn encode<'a>(parts: &[&'a str]) -> Cow<'a, str> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    if let [only] = parts {
        return Cow::Borrowed(only);
    }
    let mut out = memory::text_of(parts.iter().map(|p| p.len() + 1).sum());
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            out.push('.');
        }
        for byte in part.bytes() {
            if is_plain(byte) {
                out.push(char::from(byte));
            } else {
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
    Cow::Owned(out)
}

/// The key parts of a wire id: the exact inverse of [`encode`] for a key of `parts` columns. One part: as it is, any text
/// is an id. Several: anything that [`encode`] would not have written is refused, with the reason.
pub fn decode(id: &str, parts: usize) -> Result<Vec<String>, WireIdError> {
    if parts == 1 {
        return Ok(vec![id.to_owned()]);
    }
    // Counted first, so that an id of a million dots costs nothing.
    let found = id.bytes().filter(|b| *b == b'.').count() + 1;
    if found != parts {
        return Err(WireIdError::Parts { id: cut(id, VALUE), found, expected: parts });
    }
    id.split('.').map(|part| decode_part(id, part)).gather()
}

fn decode_part(id: &str, part: &str) -> Result<String, WireIdError> {
    let mut out = memory::list(part.len());
    let mut rest = part.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if is_plain(byte) {
            out.push(byte);
            rest = after;
        } else if byte == b'%' {
            let hex = |i: usize| match after.get(i) {
                Some(digit @ b'0'..=b'9') => Some(digit - b'0'),
                Some(digit @ b'A'..=b'F') => Some(digit - b'A' + 10),
                _ => None,
            };
            let (Some(high), Some(low)) = (hex(0), hex(1)) else {
                return Err(WireIdError::Escape { id: cut(id, VALUE) });
            };
            let decoded = high << 4 | low;
            if is_plain(decoded) {
                return Err(WireIdError::NotCanonical { id: cut(id, VALUE), found: char::from(decoded) });
            }
            out.push(decoded);
            rest = &after[2..];
        } else {
            // All bytes so far were ASCII, so this is the first byte of a character.
            let found = part[part.len() - rest.len()..].chars().next().map(|c| cut(c.encode_utf8(&mut [0; 4]), 1));
            return Err(WireIdError::Character { id: cut(id, VALUE), found: found.unwrap_or_default() });
        }
    }
    match String::from_utf8(out) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(WireIdError::Text { id: cut(id, VALUE) }),
    }
}

/// Is it a uuid as Postgres writes it?
pub fn is_canonical_uuid(text: &str) -> bool {
    let is_canonical = |(i, byte): (usize, u8)| match i {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    };
    text.len() == 36 && text.bytes().enumerate().all(is_canonical)
}

/// The text that PostgreSQL's `uuid` writes for a uuid that `text` spells in one of the forms its input takes (any case,
/// braces, a hyphen after any group of four digits or none); `None` where `text` is that already, or is no uuid (then
/// the cast reports it). A batch may spell one id in two ways: only the canonical text tells that it is one row.
pub fn canonical_uuid(text: &str) -> Option<String> {
    if is_canonical_uuid(text) {
        return None;
    }
    let bare = match text.strip_prefix('{') {
        Some(inner) => inner.strip_suffix('}')?,
        None => text,
    };
    let mut out = memory::text_of(36);
    let (mut digits, mut after_hyphen) = (0, false);
    for byte in bare.bytes() {
        if byte == b'-' {
            if digits == 0 || digits == 32 || digits % 4 != 0 || after_hyphen {
                return None;
            }
            after_hyphen = true;
            continue;
        }
        if !byte.is_ascii_hexdigit() || digits == 32 {
            return None;
        }
        if matches!(digits, 8 | 12 | 16 | 20) {
            out.push('-');
        }
        out.push(char::from(byte.to_ascii_lowercase()));
        digits += 1;
        after_hyphen = false;
    }
    (digits == 32).then_some(out)
}

/// The text that PostgreSQL's `smallint`, `integer` and `bigint` write for the decimal integer that `text` spells (spaces
/// around it, a sign, leading zeros); `None` where `text` is that already, or is no such integer (then the cast reports
/// it).
pub fn canonical_integer(text: &str) -> Option<String> {
    let trimmed = text.trim_matches(|c: char| c == ' ' || ('\t'..='\r').contains(&c));
    let (negative, digits) = match trimmed.as_bytes().first()? {
        b'-' => (true, &trimmed[1..]),
        b'+' => (false, &trimmed[1..]),
        _ => (false, trimmed),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let significant = digits.trim_start_matches('0');
    let out = match (significant, negative) {
        ("", _) => "0".to_owned(),
        (value, true) => format!("-{value}"),
        (value, false) => value.to_owned(),
    };
    (out != text).then_some(out)
}

/// Is it a whole number as Postgres writes it?
pub fn is_canonical_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    text == "0" || !digits.is_empty() && !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
}

/// The text that a `varchar(length)` makes of this one: what is too long loses the blanks at its end. `None` where it stays as it is, or
/// does not fit (then the cast reports it).
pub fn canonical_varchar(text: &str, length: usize) -> Option<String> {
    let (end, _) = text.char_indices().nth(length)?;
    text[end..].bytes().all(|b| b == b' ').then(|| text[..end].to_owned())
}

/// The text that a `numeric` writes for the decimal number that `text` spells, with so many digits behind the point, if its type says how
/// many; `None` where `text` is that already, or is no such number.
pub fn canonical_numeric(text: &str, scale: Option<usize>) -> Option<String> {
    let trimmed = text.trim_matches(|c: char| c == ' ' || ('\t'..='\r').contains(&c));
    let (negative, unsigned) = match trimmed.as_bytes().first()? {
        b'-' => (true, &trimmed[1..]),
        b'+' => (false, &trimmed[1..]),
        _ => (false, trimmed),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let is_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let scale = scale.unwrap_or(fraction.len());
    let kept = fraction.len().min(scale);
    let mut digits: Vec<u8> = [b"0", whole.as_bytes(), &fraction.as_bytes()[..kept]].concat();
    if fraction.as_bytes().get(scale).is_some_and(|digit| *digit >= b'5') {
        // (The zero before the first digit stops it.)
        let at = digits.iter().rposition(|digit| *digit != b'9').unwrap_or(0);
        digits[at] += 1;
        digits[at + 1..].fill(b'0');
    }
    digits.resize(digits.len() + scale - kept, b'0');
    let is_zero = digits.iter().all(|digit| *digit == b'0');
    let digits = String::from_utf8(digits).unwrap_or_default();
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    let sign = if negative && !is_zero { "-" } else { "" };
    let point = if scale > 0 { "." } else { "" };
    let out = format!("{sign}{whole}{point}{fraction}");
    (out != text).then_some(out)
}

/// One text for all ways to write a number, such that two are equal if and only if their texts are: `1`, `01.0` and `10e-1` are
/// `1e0`. What is no decimal number (NaN, Infinity, or nothing that Postgres would take) is its own text in lower case.
pub fn comparable_number(text: &str) -> String {
    fn decimal(text: &str) -> Option<String> {
        let (sign, unsigned) = match text.as_bytes().first()? {
            b'-' => ("-", &text[1..]),
            b'+' => ("", &text[1..]),
            _ => ("", text),
        };
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let significant = digits.trim_end_matches('0');
        let exponent = exponent.checked_add((digits.len() - significant.len()) as i64 - fraction.len() as i64)?;
        Some(match significant.trim_start_matches('0') {
            "" => "0e0".to_owned(),
            significant => format!("{sign}{significant}e{exponent}"),
        })
    }
    let text = text.trim_matches(|c: char| c == ' ' || ('\t'..='\r').contains(&c)).replace('_', "");
    decimal(&text).unwrap_or_else(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_part_is_itself() {
        for text in ["", "a", "a.b", "100%", "ä/ö", "%41"] {
            assert!(matches!(encode(&[text]), Cow::Borrowed(t) if t == text));
            assert_eq!(decode(text, 1).unwrap(), [text]);
        }
    }

    #[test]
    fn several_parts_are_encoded_and_joined() {
        assert_eq!(encode(&["a b", "7"]), "a%20b.7");
        assert_eq!(encode(&["a", ""]), "a.");
        assert_eq!(encode(&["", ""]), ".");
        assert_eq!(encode(&["a.b", "c%d"]), "a%2Eb.c%25d");
        assert_eq!(encode(&["ä", "😀", "x_-9Z"]), "%C3%A4.%F0%9F%98%80.x_-9Z");
        assert_eq!(decode("a%20b.7", 2).unwrap(), ["a b", "7"]);
        assert_eq!(decode(".", 2).unwrap(), ["", ""]);
        assert_eq!(decode("..", 3).unwrap(), ["", "", ""]);
    }

    #[test]
    fn refuses_what_encode_never_writes() {
        let message = |id: &str| decode(id, 2).unwrap_err().to_string();
        assert_eq!(message("a"), "id \"a\" has 1 part(s) where the key has 2 columns");
        assert_eq!(message("a.b.c"), "id \"a.b.c\" has 3 part(s) where the key has 2 columns");
        assert_eq!(message(""), "id \"\" has 1 part(s) where the key has 2 columns");
        assert!(message("a b.c").contains("contains \" \", which must be percent-encoded"));
        assert!(message("a.bä").contains("contains \"ä\""));
        assert!(message("a\u{1}.b").contains("contains \"?\""));
        for id in ["a%.b", "a.b%", "a.b%2", "a.%2e", "a.%c3%a4", "a.%GG", "a.%ä"] {
            assert!(message(id).contains("two hexadecimal digits"), "{id}");
        }
        assert!(message("%41.b").contains("percent-encodes \"A\""));
        assert!(message("%2D.b").contains("percent-encodes \"-\""));
        for id in ["a.%C3", "%FF.b", "%ED%A0%80.b", "%C0%80.b", "a.%00"] {
            assert!(message(id).contains("valid UTF-8"), "{id}");
        }
        assert!(message(&"é".repeat(100_000)).len() < 300);
    }

    #[test]
    fn uuids_have_one_text() {
        let canonical = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        for text in [
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
            "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
        ] {
            assert_eq!(canonical_uuid(text).as_deref(), Some(canonical), "{text}");
        }
        for text in [
            canonical,
            "",
            "x",
            "{a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0eebc999c0b4ef8bb6d6bb9bd380a1",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11-",
            "a0eebc999c0b4ef8bb6d6bb9bd380a112",
            "a0e-ebc999c0b4ef8bb6d6bb9bd380a11",
            "a0ee--bc999c0b4ef8bb6d6bb9bd380a11",
        ] {
            assert_eq!(canonical_uuid(text), None, "{text}");
        }
    }

    #[test]
    fn integers_have_one_text() {
        for (text, canonical) in [("007", "7"), (" 7\n", "7"), ("+7", "7"), ("-07", "-7"), ("-0", "0"), ("000", "0")] {
            assert_eq!(canonical_integer(text).as_deref(), Some(canonical), "{text:?}");
        }
        for text in ["0", "7", "-7", "", "-", "+", "7.0", "1e3", "0x10", "1_000", "x", "٣"] {
            assert_eq!(canonical_integer(text), None, "{text:?}");
        }
    }

    #[test]
    fn varchars_lose_blanks_that_have_no_room() {
        for (text, canonical) in [("abc ", "abc"), ("abc   ", "abc"), ("äöü ", "äöü"), ("ab  ", "ab ")] {
            assert_eq!(canonical_varchar(text, 3).as_deref(), Some(canonical), "{text:?}");
        }
        for text in ["", "ab ", "abc", "abcd", "abc d", "abc\t", "äöüß"] {
            assert_eq!(canonical_varchar(text, 3), None, "{text:?}");
        }
    }

    #[test]
    fn numerics_have_one_text() {
        for (text, scale, canonical) in [
            ("1.5", Some(2), "1.50"),
            ("1.005", Some(2), "1.01"),
            ("1.0049", Some(2), "1.00"),
            ("-9.995", Some(2), "-10.00"),
            ("999.5", Some(0), "1000"),
            ("-0.004", Some(2), "0.00"),
            (" +.5\n", Some(1), "0.5"),
            ("5.", None, "5"),
            ("-0", None, "0"),
            ("007.10", None, "7.10"),
        ] {
            assert_eq!(canonical_numeric(text, scale).as_deref(), Some(canonical), "{text:?}");
        }
        for (text, scale) in [("1.50", Some(2)), ("0", None), ("-1.5", None), ("0.00", Some(2))] {
            assert_eq!(canonical_numeric(text, scale), None, "{text:?}");
        }
        for text in ["", "-", ".", "x", "1e3", "NaN", "1_000", "1.2.3", "٣"] {
            assert_eq!(canonical_numeric(text, Some(2)), None, "{text:?}");
        }
    }

    #[test]
    fn numbers_compare_by_value() {
        for same in [
            &["1", "1.0", "01", "+1.00", " 1 ", "10e-1", "0.1E1", "1.", "1e0", "1e+0"][..],
            &["0", "-0", "0.000", "0e9", ".0"],
            &["-1200", "-1.2e3", "-1_200.0", "-12e2"],
            &["nan", "NaN"],
        ] {
            for text in same {
                assert_eq!(comparable_number(text), comparable_number(same[0]), "{text:?}");
            }
        }
        for (a, b) in [("1", "-1"), ("1", "10"), ("1", "0.1"), ("10", "100"), ("1.05", "1.5"), ("x", "1"), ("", "0")] {
            assert_ne!(comparable_number(a), comparable_number(b), "{a:?} {b:?}");
        }
    }

    /// Texts that are likely to hurt: dots, percents, hexadecimal digits, everything else without NUL.
    fn part() -> impl Strategy<Value = String> {
        prop_oneof!["[^\\x00]{0,8}", "[.%A-Fa-f0-9_-]{0,8}"]
    }

    proptest! {
        #[test]
        fn round_trips(parts in prop::collection::vec(part(), 1..5)) {
            let refs: Vec<&str> = parts.iter().map(String::as_str).collect();
            let id = encode(&refs);
            prop_assert_eq!(decode(&id, refs.len()).unwrap(), parts.clone());
            if refs.len() > 1 {
                prop_assert!(id.bytes().all(|b| is_plain(b) || b == b'.' || b == b'%'));
            }
        }

        #[test]
        fn numbers_of_one_value_have_one_text(n in -1_000_000i64..1_000_000, scale in 0u32..6, zeros in 0usize..4) {
            let whole = n / 10i64.pow(scale);
            let sign = if n < 0 && whole == 0 { "-" } else { "" };
            let fraction = format!("{:0width$}", (n % 10i64.pow(scale)).abs(), width = scale as usize);
            let fraction = if scale == 0 { String::new() } else { fraction };
            let written = format!("{sign}{whole}.{fraction}{}", "0".repeat(zeros));
            prop_assert_eq!(comparable_number(&written), comparable_number(&format!("{n}e-{scale}")));
        }

        #[test]
        fn a_numeric_of_that_scale_stays(n in -1_000_000i64..1_000_000, scale in 0usize..6, more in 0usize..4) {
            let text = |n: i64, digits: usize| {
                let all = format!("{:0width$}", n.abs(), width = digits + 1);
                let (whole, fraction) = all.split_at(all.len() - digits);
                format!("{}{whole}{}{fraction}", if n < 0 { "-" } else { "" }, if digits > 0 { "." } else { "" })
            };
            let canonical = text(n, scale);
            prop_assert_eq!(canonical_numeric(&canonical, Some(scale)), None);
            let longer = text(n * 10i64.pow(more as u32), scale + more);
            prop_assert_eq!(canonical_numeric(&longer, Some(scale)).unwrap_or(longer), canonical);
        }

        #[test]
        fn what_decodes_is_what_encode_writes(id in "[a.%20-9A-F-]{0,12}", parts in 1usize..4) {
            if let Ok(decoded) = decode(&id, parts) {
                let refs: Vec<&str> = decoded.iter().map(String::as_str).collect();
                prop_assert_eq!(encode(&refs), id);
            }
        }

        #[test]
        fn never_panics(id in ".*", parts in 0usize..5) {
            let _ = decode(&id, parts);
            let _ = canonical_uuid(&id);
            let _ = canonical_integer(&id);
            let _ = canonical_varchar(&id, parts);
            let _ = canonical_numeric(&id, Some(parts));
            prop_assert!(!is_canonical_integer(&id) || canonical_integer(&id).is_none());
            let _ = comparable_number(&id);
        }
    }
}
