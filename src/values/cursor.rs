//! What a client sends as `last_pulled_at`.
//!
//! The argument is text, because PostgREST casts a JSON number and a JSON string to it equally. Three things are meant:
//! nothing (a first sync; WatermelonDB sends null, or 0), a stamp (the `timestamp` of the last pull's answer), or the
//! wall-clock time of the last pull, from clients that know no other cursor (the Drift/Supabase client). Anything else is
//! an error: a guessed cursor either loses changes or resends everything, and neither would be noticed.

use chrono::NaiveDate;
use thiserror::Error;

use crate::values::excerpt::{cut, VALUE};

/// Where a client's last pull ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cursor {
    /// The client has nothing yet: send everything.
    Start,
    /// The `timestamp` of a pull's answer, from 1 up. Whether this server ever issued it is not known here.
    Stamp(i64),
    /// A moment on the client's clock.
    At {
        /// Microseconds since 1970-01-01T00:00:00Z, rounded down: an earlier cursor only sends more.
        micros_since_unix_epoch: i64,
    },
}

/// Why a text is no cursor. The message says what was wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CursorError {
    /// Below zero.
    #[error("cursor \"{0}\" is negative")]
    Negative(String),
    /// A number with a fraction or an exponent.
    #[error("cursor \"{0}\" is a number but not a whole one written in digits only")]
    NotWhole(String),
    /// Digits that begin with 0, as no stamp does.
    #[error("cursor \"{0}\" begins with a zero")]
    LeadingZero(String),
    /// More than a stamp can be.
    #[error("cursor \"{0}\" is larger than any stamp")]
    Overflow(String),
    /// A time whose form is right, with a field outside its range.
    #[error("cursor \"{cursor}\": {field} is out of range")]
    OutOfRange {
        /// The cursor, cut.
        cursor: String,
        /// "month", "day", "hour", ...
        field: &'static str,
    },
    /// Neither a stamp nor a time.
    #[error("cursor \"{cursor}\" is neither a stamp nor an ISO 8601 time: {reason}")]
    Malformed {
        /// The cursor, cut.
        cursor: String,
        /// What was expected and where.
        reason: &'static str,
    },
}

/// Reads a cursor.
///
/// | text | cursor |
/// | --- | --- |
/// | none, empty, `0`, `null` | [`Cursor::Start`] |
/// | `1` to `9223372036854775807`, digits only | [`Cursor::Stamp`] |
/// | `2026-11-21`, `2026-11-21T07:50`, `2026-11-21 07:50:00.123456789+02:00` | [`Cursor::At`] |
///
/// Times: the date with four digits for the year (0001 to 9999), then `T` or a space, hours and minutes, optional seconds
/// (60 is a leap second) with up to nine digits of fraction, then `Z`, `+02`, `+0200`, `+02:00`, `+02:00:00` or nothing,
/// which means UTC. (The Drift client sends its local time without an offset when it pushes. UTC is the only reading that
/// does not depend on the server's settings; a pull's cursor has `Z`.) A date alone is its midnight.
///
/// White space around the text is ignored: it carries no meaning, and query strings and shells leave it behind. White space
/// inside is not: a `+` that a query string turned into a space must not move the time by hours.
pub fn parse(text: Option<&str>) -> Result<Cursor, CursorError> {
    let text = text.unwrap_or("").trim_matches(|c: char| c.is_ascii_whitespace());
    if matches!(text, "" | "0" | "null") {
        return Ok(Cursor::Start);
    }
    if text.contains('\0') {
        return Err(malformed(text, "it contains a zero byte"));
    }
    if let Some(rest) = text.strip_prefix('-') {
        if rest.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(CursorError::Negative(cut(text, VALUE)));
        }
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    match (digits, text.as_bytes().get(digits)) {
        (0, _) => Err(malformed(text, "it does not begin with a digit")),
        (_, None) => stamp(text),
        (_, Some(b'.' | b'e' | b'E')) => Err(match text.parse::<f64>() {
            Ok(_) => CursorError::NotWhole(cut(text, VALUE)),
            Err(_) => malformed(text, "there are other characters than digits in the number"),
        }),
        (_, Some(b'-')) => time(text),
        _ => Err(malformed(text, "there are other characters than digits in the number")),
    }
}

fn malformed(text: &str, reason: &'static str) -> CursorError {
    CursorError::Malformed { cursor: cut(text, VALUE), reason }
}

/// `digits` consists of ASCII digits and is not `0`.
fn stamp(digits: &str) -> Result<Cursor, CursorError> {
    if digits.starts_with('0') {
        return Err(CursorError::LeadingZero(cut(digits, VALUE)));
    }
    digits.parse().map(Cursor::Stamp).map_err(|_| CursorError::Overflow(cut(digits, VALUE)))
}

/// Reads fields of a fixed number of digits and the characters between them.
struct TimeFields<'a> {
    whole: &'a str,
    rest: &'a [u8],
}

impl TimeFields<'_> {
    /// Takes the next byte if it is one of `any`.
    fn take(&mut self, any: &[u8]) -> Option<u8> {
        let (&first, after) = self.rest.split_first()?;
        any.contains(&first).then(|| {
            self.rest = after;
            first
        })
    }

    /// Takes a field of exactly `width` digits.
    fn digits(&mut self, width: usize, reason: &'static str) -> Result<u32, CursorError> {
        let field = self.rest.get(..width).filter(|f| f.iter().all(u8::is_ascii_digit));
        let field = field.ok_or_else(|| malformed(self.whole, reason))?;
        self.rest = &self.rest[width..];
        Ok(field.iter().fold(0, |n, b| n * 10 + u32::from(b - b'0')))
    }

    /// Takes a field of two digits that is at most `max`.
    fn two(&mut self, field: &'static str, max: u32, reason: &'static str) -> Result<i64, CursorError> {
        let n = self.digits(2, reason)?;
        if n > max {
            return Err(self.out_of_range(field));
        }
        Ok(i64::from(n))
    }

    fn out_of_range(&self, field: &'static str) -> CursorError {
        CursorError::OutOfRange { cursor: cut(self.whole, VALUE), field }
    }
}

/// `text` begins with digits and a hyphen.
fn time(text: &str) -> Result<Cursor, CursorError> {
    const DATE: &str = "a date is written YYYY-MM-DD";
    const TIME: &str = "a time of day is written HH:MM or HH:MM:SS";
    const OFFSET: &str = "an offset is written Z, +HH, +HHMM, +HH:MM or +HH:MM:SS";
    let mut fields = TimeFields { whole: text, rest: text.as_bytes() };

    let year = fields.digits(4, DATE)?;
    fields.take(b"-").ok_or_else(|| malformed(text, DATE))?;
    let month = fields.digits(2, DATE)?;
    fields.take(b"-").ok_or_else(|| malformed(text, DATE))?;
    let day = fields.digits(2, DATE)?;
    if year == 0 {
        return Err(fields.out_of_range("year"));
    }
    if !(1..=12).contains(&month) {
        return Err(fields.out_of_range("month"));
    }
    // Four digits always fit, and the month is right: what is missing from the calendar is the day.
    let date = NaiveDate::from_ymd_opt(year as i32, month, day).ok_or_else(|| fields.out_of_range("day"))?;
    let mut seconds = date.signed_duration_since(NaiveDate::default()).num_seconds();
    let mut micros = 0;

    if !fields.rest.is_empty() {
        fields.take(b"Tt ").ok_or_else(|| malformed(text, "after the date comes T or a space and the time of day"))?;
        seconds += 3600 * fields.two("hour", 23, TIME)?;
        fields.take(b":").ok_or_else(|| malformed(text, TIME))?;
        seconds += 60 * fields.two("minute", 59, TIME)?;
        if fields.take(b":").is_some() {
            seconds += fields.two("second", 60, TIME)?;
            if fields.take(b".").is_some() {
                micros = fraction(&mut fields)?;
            }
        }
        seconds -= match fields.take(b"Zz+- ") {
            None | Some(b'Z' | b'z') => 0,
            Some(b' ') => {
                return Err(malformed(
                    text,
                    "there is a space where the offset begins (in a query string, + is written %2B)",
                ))
            }
            Some(sign) => {
                // PostgreSQL allows as much.
                let mut offset = 3600 * fields.two("offset", 15, OFFSET)?;
                if fields.take(b":").is_some() {
                    offset += 60 * fields.two("offset", 59, OFFSET)?;
                    if fields.take(b":").is_some() {
                        offset += fields.two("offset", 59, OFFSET)?;
                    }
                } else if !fields.rest.is_empty() {
                    offset += 60 * fields.two("offset", 59, OFFSET)?;
                }
                if sign == b'-' {
                    -offset
                } else {
                    offset
                }
            }
        };
        if !fields.rest.is_empty() {
            return Err(malformed(text, "there is something after the time"));
        }
    }
    // Within a day of 0001 to 9999: about 2.5e17 microseconds at most.
    Ok(Cursor::At { micros_since_unix_epoch: seconds * 1_000_000 + micros })
}

/// One to nine digits after the point, as microseconds, the rest cut off: `seconds` counts up from the past, so this is
/// rounding down before 1970, too.
fn fraction(fields: &mut TimeFields<'_>) -> Result<i64, CursorError> {
    let digits = fields.rest.iter().take_while(|b| b.is_ascii_digit()).count();
    if !(1..=9).contains(&digits) {
        return Err(malformed(fields.whole, "a fraction of a second has one to nine digits"));
    }
    let (field, after) = fields.rest.split_at(digits);
    fields.rest = after;
    let padded = field.iter().map(|b| i64::from(b - b'0')).chain(std::iter::repeat(0));
    Ok(padded.take(6).fold(0, |n, digit| n * 10 + digit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Utc};
    use proptest::prelude::*;

    fn at(text: &str) -> i64 {
        match parse(Some(text)) {
            Ok(Cursor::At { micros_since_unix_epoch }) => micros_since_unix_epoch,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn error(text: &str) -> String {
        parse(Some(text)).expect_err(text).to_string()
    }

    #[test]
    fn a_first_sync() {
        for text in [None, Some(""), Some("0"), Some("null"), Some(" \t\n"), Some(" 0 ")] {
            assert_eq!(parse(text), Ok(Cursor::Start), "{text:?}");
        }
    }

    #[test]
    fn stamps() {
        assert_eq!(parse(Some("1")), Ok(Cursor::Stamp(1)));
        assert_eq!(parse(Some(" 17\n")), Ok(Cursor::Stamp(17)));
        assert_eq!(parse(Some("9007199254740991")), Ok(Cursor::Stamp(9_007_199_254_740_991)));
        assert_eq!(parse(Some("9223372036854775807")), Ok(Cursor::Stamp(i64::MAX)));
        // Eight digits are a stamp, not the date of ISO 8601's basic format.
        assert_eq!(parse(Some("20261121")), Ok(Cursor::Stamp(20_261_121)));
    }

    #[test]
    fn numbers_that_are_no_stamp() {
        assert_eq!(error("9223372036854775808"), "cursor \"9223372036854775808\" is larger than any stamp");
        assert!(error(&"9".repeat(1_000_000)).len() < 200);
        assert_eq!(error("-5"), "cursor \"-5\" is negative");
        assert_eq!(error("-0"), "cursor \"-0\" is negative");
        assert_eq!(error("-1.5e3"), "cursor \"-1.5e3\" is negative");
        assert_eq!(error("007"), "cursor \"007\" begins with a zero");
        assert_eq!(error("00"), "cursor \"00\" begins with a zero");
        for text in ["17.0", "1e3", "1E3", "1.", "1e+21", "0.5", "0e0", "1.7e308", "1e999"] {
            assert!(error(text).contains("not a whole one written in digits only"), "{text}");
        }
    }

    #[test]
    fn times() {
        assert_eq!(at("1970-01-01T00:00:00Z"), 0);
        assert_eq!(at("2000-01-01T00:00:00.000Z"), 946_684_800_000_000);
        let expected = 1_795_240_200_000_000;
        for text in [
            "2026-11-21T05:50:00Z",
            "2026-11-21t05:50:00z",
            "2026-11-21 05:50",
            "2026-11-21T05:50Z",
            "2026-11-21 07:50:00+02",
            "2026-11-21 07:50:00+0200",
            "2026-11-21T07:50:00+02:00",
            "2026-11-21T07:50:00+02:00:00",
            "2026-11-21T00:20:00-05:30",
            "2026-11-20T23:50:00.0-06",
            "  2026-11-21T05:50:00.000000000  ",
        ] {
            assert_eq!(at(text), expected, "{text}");
        }
        // Dart's DateTime.now().toIso8601String(): local, six digits, no offset.
        assert_eq!(at("2026-11-21T05:50:00.123456"), expected + 123_456);
        assert_eq!(at("2026-11-21"), expected - (5 * 3600 + 50 * 60) * 1_000_000);
        assert_eq!(at("2016-12-31T23:59:60Z"), at("2017-01-01T00:00:00Z"));
        assert_eq!(at("2024-02-29"), at("2024-03-01") - 86_400_000_000);
        assert_eq!(at("0001-01-01T00:00:00Z"), -62_135_596_800_000_000);
        assert_eq!(at("9999-12-31T23:59:59.999999999Z"), 253_402_300_799_999_999);
    }

    #[test]
    fn fractions_are_rounded_down() {
        assert_eq!(at("1970-01-01T00:00:00.5Z"), 500_000);
        assert_eq!(at("1970-01-01T00:00:00.000001999Z"), 1);
        assert_eq!(at("1969-12-31T23:59:59.9999999Z"), -1);
        assert_eq!(at("1969-12-31T23:59:59.0000009Z"), -1_000_000);
    }

    #[test]
    fn times_out_of_range() {
        for (text, field) in [
            ("0000-01-01", "year"),
            ("2026-00-01", "month"),
            ("2026-13-01", "month"),
            ("2026-11-00", "day"),
            ("2026-11-31", "day"),
            ("2026-02-29", "day"),
            ("2026-11-21T24:00:00Z", "hour"),
            ("2026-11-21T07:60:00Z", "minute"),
            ("2026-11-21T07:50:61Z", "second"),
            ("2026-11-21T07:50:00+16", "offset"),
            ("2026-11-21T07:50:00+02:60", "offset"),
            ("2026-11-21T07:50:00+02:00:60", "offset"),
        ] {
            assert_eq!(error(text), format!("cursor \"{text}\": {field} is out of range"));
        }
    }

    #[test]
    fn garbage() {
        for (text, reason) in [
            ("abc", "does not begin with a digit"),
            ("+17", "does not begin with a digit"),
            ("\"17\"", "does not begin with a digit"),
            ("NaN", "does not begin with a digit"),
            ("infinity", "does not begin with a digit"),
            ("-infinity", "does not begin with a digit"),
            ("undefined", "does not begin with a digit"),
            ("NULL", "does not begin with a digit"),
            ("١٧", "does not begin with a digit"),
            ("17 18", "other characters than digits"),
            ("0x10", "other characters than digits"),
            ("17n", "other characters than digits"),
            ("1.2.3", "other characters than digits"),
            ("1e", "other characters than digits"),
            ("1\u{0}", "zero byte"),
            ("2026-11-21T07:50:00Z\u{0}", "zero byte"),
            ("2026-1-1", "YYYY-MM-DD"),
            ("26-11-21", "YYYY-MM-DD"),
            ("12026-11-21", "YYYY-MM-DD"),
            ("2026-11", "YYYY-MM-DD"),
            ("2026-11-2", "YYYY-MM-DD"),
            ("2026-W47-6", "YYYY-MM-DD"),
            ("2026-11-21X07:50", "T or a space"),
            ("2026-11-21Z", "T or a space"),
            ("2026-11-21T", "HH:MM"),
            ("2026-11-21T07", "HH:MM"),
            ("2026-11-21T0750", "HH:MM"),
            ("2026-11-21T07:5", "HH:MM"),
            ("2026-11-21T07:50:", "HH:MM:SS"),
            ("2026-11-21T07:50:00.", "one to nine digits"),
            ("2026-11-21T07:50:00.Z", "one to nine digits"),
            ("2026-11-21T07:50:00.1234567890Z", "one to nine digits"),
            ("2026-11-21T07:50:00 02:00", "%2B"),
            ("2026-11-21T07:50:00 Z", "%2B"),
            ("2026-11-21T07:50:00+2", "+HH"),
            ("2026-11-21T07:50:00+020", "+HH"),
            ("2026-11-21T07:50:00+02:", "+HH"),
            ("2026-11-21T07:50:00,5Z", "something after the time"),
            ("2026-11-21T07:50:00ZZ", "something after the time"),
            ("2026-11-21T07:50:00+02:00Z", "something after the time"),
            ("2026-11-21T07:50:00 BC", "%2B"),
        ] {
            assert!(error(text).contains(reason), "{text}: {}", error(text));
        }
        assert!(error(&format!("2026-{}", "é".repeat(100_000))).len() < 300);
    }

    proptest! {
        #[test]
        fn stamps_round_trip(stamp in 1..=i64::MAX) {
            prop_assert_eq!(parse(Some(&stamp.to_string())), Ok(Cursor::Stamp(stamp)));
        }

        #[test]
        fn times_agree_with_chrono(
            micros in -62_135_596_800_000_000i64..253_402_300_800_000_000,
            offset in -15 * 60 - 59..=15 * 60 + 59i64,
            form in 0usize..4,
        ) {
            let utc: DateTime<Utc> = DateTime::from_timestamp_micros(micros).unwrap();
            let text = utc.naive_utc().format("%Y-%m-%dT%H:%M:%S%.6f").to_string();
            let (sign, h, m) = (if offset < 0 { '-' } else { '+' }, offset.abs() / 60, offset.abs() % 60);
            let (text, shift) = match form {
                0 => (text + "Z", 0),
                1 => (text, 0),
                2 => (format!("{text}{sign}{h:02}:{m:02}"), offset),
                _ => (format!("{}{sign}{h:02}{m:02}", text.replace('T', " ")), offset),
            };
            prop_assert_eq!(at(&text), micros - shift * 60_000_000);
        }

        #[test]
        fn never_panics(text in prop_oneof![".*", "[0-9TtZz:. +-]{0,40}", "[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9:.+-]{0,30}"]) {
            if let Err(error) = parse(Some(&text)) {
                prop_assert!(error.to_string().chars().count() < 200);
            }
        }
    }
}
