//! Times as JsonEncodeDateTime() writes them: ordinary ones here, the rest by itself.

use std::ffi::{c_char, CStr};

use pgrx::pg_sys;

use super::escape::digits_2;
use super::output::Buffer;

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
const MICROS_PER_DAY: i64 = SECONDS_PER_DAY * MICROS_PER_SECOND;
/// From 1970-01-01 to 2000-01-01, from which Postgres counts.
const EPOCH_DAYS: i64 = 10_957;
/// From 2000-01-01 to the first day of the year 1 and to the last of the year 9999: those are written here.
const FIRST_DAY: i64 = -730_119;
const LAST_DAY: i64 = 2_921_939;
/// The first and last instant of a JavaScript Date: infinity.
const LAST_MILLIS: i64 = 8_640_000_000_000_000;

/// Milliseconds since 1970-01-01 UTC, rounded down.
pub fn timestamp_millis(micros: i64) -> i64 {
    match micros {
        i64::MAX => LAST_MILLIS,
        i64::MIN => -LAST_MILLIS,
        _ => micros.div_euclid(1000) + EPOCH_DAYS * SECONDS_PER_DAY * 1000,
    }
}

/// Milliseconds since 1970-01-01 UTC of the day's first instant.
pub fn date_millis(days: i32) -> i64 {
    match days {
        i32::MAX => LAST_MILLIS,
        i32::MIN => -LAST_MILLIS,
        _ => (i64::from(days) + EPOCH_DAYS) * SECONDS_PER_DAY * 1000,
    }
}

/// Appends a date.
pub fn write_date(out: &mut impl Buffer, days: i32) {
    if !(FIRST_DAY..=LAST_DAY).contains(&i64::from(days)) {
        return write_any(out, pg_sys::Datum::from(days), pg_sys::DATEOID);
    }
    let mut text = [b'"'; 12];
    write_day(&mut text[1..11], i64::from(days));
    out.put(&text);
}

/// Appends a timestamp; with a zone, one with time zone.
pub fn write_timestamp(out: &mut impl Buffer, micros: i64, zone: Option<&mut Zone>) {
    let with_zone = zone.is_some();
    let offset = match zone {
        Some(zone) => zone.offset(micros.div_euclid(MICROS_PER_SECOND)),
        None => Some(0),
    };
    // (A session may set one of more than 99 hours.)
    let offset = offset.filter(|offset| offset.unsigned_abs() < 100 * 3600);
    let local = offset.and_then(|offset| micros.checked_add(i64::from(offset) * MICROS_PER_SECOND));
    let (Some(offset), Some(local)) = (offset, local) else {
        return write_any(out, pg_sys::Datum::from(micros), type_of(with_zone));
    };
    let (day, mut micros_of_day) = (local.div_euclid(MICROS_PER_DAY), local.rem_euclid(MICROS_PER_DAY) as u64);
    if !(FIRST_DAY..=LAST_DAY).contains(&day) {
        return write_any(out, pg_sys::Datum::from(micros), type_of(with_zone));
    }
    let mut text = [b'"'; 40];
    write_day(&mut text[1..11], day);
    let micros = (micros_of_day % 1_000_000) as u32;
    micros_of_day /= 1_000_000;
    let seconds = micros_of_day as u32;
    text[11] = b'T';
    pair(&mut text[12..14], seconds / 3600);
    text[14] = b':';
    pair(&mut text[15..17], seconds / 60 % 60);
    text[17] = b':';
    pair(&mut text[18..20], seconds % 60);
    let mut end = 20;
    if micros != 0 {
        text[20] = b'.';
        pair(&mut text[21..23], micros / 10_000);
        pair(&mut text[23..25], micros / 100 % 100);
        pair(&mut text[25..27], micros % 100);
        end = 27;
        while text[end - 1] == b'0' {
            end -= 1;
        }
    }
    if with_zone {
        text[end] = if offset < 0 { b'-' } else { b'+' };
        let offset = offset.unsigned_abs();
        pair(&mut text[end + 1..end + 3], offset / 3600);
        text[end + 3] = b':';
        pair(&mut text[end + 4..end + 6], offset / 60 % 60);
        end += 6;
        if offset % 60 != 0 {
            text[end] = b':';
            pair(&mut text[end + 1..end + 3], offset % 60);
            end += 3;
        }
    }
    text[end] = b'"';
    out.put(&text[..=end]);
}

/// Appends a timestamp of either kind in UTC, within the years 1 to 9999.
pub fn write_timestamp_utc(out: &mut impl Buffer, micros: i64) {
    write_timestamp(out, micros.clamp(FIRST_DAY * MICROS_PER_DAY, (LAST_DAY + 1) * MICROS_PER_DAY - 1), None);
    out.truncate(out.length() - 1);
    out.put(b"Z\"");
}

/// Appends a date within the years 1 to 9999.
pub fn write_date_utc(out: &mut impl Buffer, days: i32) {
    write_date(out, i64::from(days).clamp(FIRST_DAY, LAST_DAY) as i32);
}

fn type_of(with_zone: bool) -> pg_sys::Oid {
    if with_zone {
        pg_sys::TIMESTAMPTZOID
    } else {
        pg_sys::TIMESTAMPOID
    }
}

/// Appends what is infinite, before the year 1 or after 9999, or in a zone that is very far off.
#[cold]
#[inline(never)]
fn write_any(out: &mut impl Buffer, value: pg_sys::Datum, type_oid: pg_sys::Oid) {
    // MAXDATELEN is 128.
    let mut text: [c_char; 160] = [0; 160];
    // SAFETY: writes a NUL-terminated text of at most MAXDATELEN bytes.
    let text = unsafe {
        pg_sys::JsonEncodeDateTime(text.as_mut_ptr(), value, type_oid, std::ptr::null());
        CStr::from_ptr(text.as_ptr()).to_bytes()
    };
    out.room(text.len() + 2);
    out.put(b"\"");
    out.put(text);
    out.put(b"\"");
}

#[inline(always)]
fn pair(text: &mut [u8], number: u32) {
    text.copy_from_slice(&digits_2(number));
}

/// `YYYY-MM-DD` of a day of the years 1 to 9999, counted from 2000-01-01.
#[inline(always)]
fn write_day(text: &mut [u8], day: i64) {
    let (year, month, day) = civil(day);
    pair(&mut text[..2], year / 100);
    pair(&mut text[2..4], year % 100);
    text[4] = b'-';
    pair(&mut text[5..7], month);
    text[7] = b'-';
    pair(&mut text[8..10], day);
}

/// Year, month and day in the proleptic Gregorian calendar.
#[inline(always)]
fn civil(day: i64) -> (u32, u32, u32) {
    // Days since 0000-03-01: a leap day is a year's last. 400 years have 146097 days.
    let days = (day + 730_425) as u32;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Five months from March on always have 153 days.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let january_or_february = month >= 10;
    let year = era * 400 + year_of_era + u32::from(january_or_february);
    (year, if january_or_february { month - 9 } else { month + 3 }, day)
}

/// The session's time zone, as far as it is known: its offset does not change between two of its transitions.
pub struct Zone {
    zone: *mut pg_sys::pg_tz,
    spans: [Span; SPANS],
    next: usize,
}

const SPANS: usize = 4;

#[derive(Copy, Clone)]
struct Span {
    /// Seconds since 2000-01-01 UTC: from this one, up to but not including that one.
    from: i64,
    until: i64,
    offset: i32,
}

const NOTHING: Span = Span { from: 0, until: 0, offset: 0 };

impl Default for Zone {
    fn default() -> Self {
        Zone { zone: std::ptr::null_mut(), spans: [NOTHING; SPANS], next: 0 }
    }
}

impl Zone {
    /// Seconds east of UTC at this instant; None where only PostgreSQL can tell.
    #[inline]
    fn offset(&mut self, seconds: i64) -> Option<i32> {
        // SAFETY: reads a backend-local variable. Time zones are loaded once and never freed: the pointer tells them apart.
        if self.zone == unsafe { pg_sys::session_timezone } {
            for span in &self.spans {
                if span.from <= seconds && seconds < span.until {
                    return Some(span.offset);
                }
            }
        }
        self.look_up(seconds)
    }

    #[cold]
    #[inline(never)]
    fn look_up(&mut self, seconds: i64) -> Option<i32> {
        // Far outside of what is written here, and infinity.
        if !((FIRST_DAY - 2) * SECONDS_PER_DAY..(LAST_DAY + 3) * SECONDS_PER_DAY).contains(&seconds) {
            return None;
        }
        const EPOCH: i64 = EPOCH_DAYS * SECONDS_PER_DAY;
        let time = seconds + EPOCH;
        // SAFETY: both functions read the zone, which is never freed, and write to locals; pg_localtime returns NULL or a
        // static struct.
        let (offset, until) = unsafe {
            let zone = pg_sys::session_timezone;
            if self.zone != zone {
                *self = Zone { zone, ..Zone::default() };
            }
            let local = pg_sys::pg_localtime(&time, zone);
            if local.is_null() {
                return None;
            }
            let offset = (*local).tm_gmtoff as i32;
            let (mut before, mut is_dst, mut boundary) = (0, 0, 0);
            let (mut after, mut after_is_dst) = (0, 0);
            let found = pg_sys::pg_next_dst_boundary(
                &time,
                &mut before,
                &mut is_dst,
                &mut boundary,
                &mut after,
                &mut after_is_dst,
                zone,
            );
            match found {
                0 => (offset, i64::MAX),
                1 => (offset, boundary - EPOCH),
                _ => (offset, seconds + 1),
            }
        };
        if let Some(span) = self.spans.iter_mut().find(|s| s.until == until && s.offset == offset && s.from > seconds) {
            span.from = seconds;
        } else {
            self.spans[self.next] = Span { from: seconds, until, offset };
            self.next = (self.next + 1) % SPANS;
        }
        Some(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{Datelike, NaiveDate};

    #[test]
    fn knows_every_day_of_the_calendar() {
        let start = NaiveDate::from_ymd_opt(2000, 1, 1).unwrap();
        for day in FIRST_DAY..=LAST_DAY {
            let expected = start + chrono::Duration::days(day);
            assert_eq!(civil(day), (expected.year() as u32, expected.month(), expected.day()));
        }
        assert_eq!(civil(FIRST_DAY), (1, 1, 1));
        assert_eq!(civil(LAST_DAY), (9999, 12, 31));
    }

    #[test]
    fn rounds_milliseconds_down() {
        let epoch = -EPOCH_DAYS * MICROS_PER_DAY;
        for (micros, millis) in [(0, 0), (999, 0), (1000, 1), (-1, -1), (-1000, -1), (-1001, -2)] {
            assert_eq!(timestamp_millis(epoch + micros), millis);
        }
        assert_eq!(timestamp_millis(i64::MAX), 8_640_000_000_000_000);
        assert_eq!(timestamp_millis(i64::MIN), -8_640_000_000_000_000);
        assert_eq!(timestamp_millis(i64::MAX - 1) / 1000, (i64::MAX - 1) / 1_000_000 + 946_684_800);
        assert_eq!(date_millis(0), 946_684_800_000);
        assert_eq!(date_millis(-10_958), -86_400_000);
        assert_eq!(date_millis(i32::MAX), 8_640_000_000_000_000);
        assert_eq!(date_millis(i32::MIN), -8_640_000_000_000_000);
    }

    #[test]
    fn writes_times_in_utc_that_dart_reads() {
        let text = |micros| {
            let mut out = Vec::new();
            write_timestamp_utc(&mut out, micros);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(0), "\"2000-01-01T00:00:00Z\"");
        assert_eq!(text(86_399_120_000), "\"2000-01-01T23:59:59.12Z\"");
        for beyond in [i64::MAX, (LAST_DAY + 1) * MICROS_PER_DAY] {
            assert_eq!(text(beyond), "\"9999-12-31T23:59:59.999999Z\"");
        }
        for beyond in [i64::MIN, FIRST_DAY * MICROS_PER_DAY - 1] {
            assert_eq!(text(beyond), "\"0001-01-01T00:00:00Z\"");
        }
        let date = |days| {
            let mut out = Vec::new();
            write_date_utc(&mut out, days);
            String::from_utf8(out).unwrap()
        };
        assert_eq!((date(i32::MAX), date(i32::MIN)), ("\"9999-12-31\"".into(), "\"0001-01-01\"".into()));
    }

    #[test]
    fn writes_timestamps() {
        let text = |micros| {
            let mut out = Vec::new();
            write_timestamp(&mut out, micros, None);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(0), "\"2000-01-01T00:00:00\"");
        assert_eq!(text(-1), "\"1999-12-31T23:59:59.999999\"");
        assert_eq!(text(86_399_120_000), "\"2000-01-01T23:59:59.12\"");
        assert_eq!(text(FIRST_DAY * MICROS_PER_DAY), "\"0001-01-01T00:00:00\"");
        assert_eq!(text((LAST_DAY + 1) * MICROS_PER_DAY - 1), "\"9999-12-31T23:59:59.999999\"");
    }
}
