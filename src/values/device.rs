//! The clock of a device that says what time it has there, as the Drift client does with each push: local time, without an offset.
//!
//! That tells in which time zone it is, and with it what a row's time without `Z` means: the client writes some of them so. Whether its clock is
//! right it does not tell. A device in Berlin has the same time as one in London that is an hour ahead.

use thiserror::Error;

use crate::values::cursor::{self, Cursor, CursorError};

/// In microseconds. Offsets of time zones are whole quarters of an hour.
const QUARTER: i64 = 15 * 60 * 1_000_000;
/// The least and the greatest of them: UTC-12 and UTC+14.
const OFFSETS: std::ops::RangeInclusive<i64> = -12 * 4 * QUARTER..=14 * 4 * QUARTER;

/// Why something is no device's time.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeviceTimeError {
    /// Neither a stamp nor a time.
    #[error("{0}")]
    Malformed(CursorError),
    /// A number, another kind of JSON, or nothing.
    #[error("it is no ISO 8601 time in a string")]
    NoTime,
}

/// What is known of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Device {
    /// How far its time without an offset is from UTC, in microseconds.
    pub offset: i64,
}

impl Device {
    /// Of a device that had this time (JSON, as it was sent) at about that moment, which is in microseconds since 1970.
    pub fn of(time: &str, now: i64) -> Result<Device, DeviceTimeError> {
        let text: Option<String> = serde_json::from_str(time).map_err(|_| DeviceTimeError::NoTime)?;
        let Some(text) = text else { return Ok(Device::default()) };
        match cursor::parse(Some(&text)).map_err(DeviceTimeError::Malformed)? {
            Cursor::At { .. } if has_offset(&text) => Ok(Device::default()),
            Cursor::At { micros_since_unix_epoch } => {
                let ahead = micros_since_unix_epoch.saturating_sub(now);
                let offset = ahead.saturating_add(QUARTER / 2).div_euclid(QUARTER) * QUARTER;
                Ok(Device { offset: if OFFSETS.contains(&offset) { offset } else { 0 } })
            }
            _ => Err(DeviceTimeError::NoTime),
        }
    }

    /// The moment (microseconds since 1970) that a time in JSON means: a number is milliseconds. None where it cannot be read, or is null.
    pub fn moment(&self, json: &str) -> Option<i64> {
        if json.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
            return json.parse::<f64>().ok().map(|millis| (millis * 1000.0).floor() as i64);
        }
        let text: String = serde_json::from_str(json).ok()?;
        match cursor::parse(Some(&text)) {
            Ok(Cursor::At { micros_since_unix_epoch: micros }) if has_offset(&text) => Some(micros),
            Ok(Cursor::At { micros_since_unix_epoch: micros }) => Some(micros.saturating_sub(self.offset)),
            _ => None,
        }
    }
}

/// Does a time, which is one, say how far it is from UTC?
fn has_offset(time: &str) -> bool {
    let behind_the_date = time.trim_start().get(10..).unwrap_or("");
    behind_the_date.contains(['Z', 'z', '+', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_767_268_800_000_000; // 2026-01-01T12:00Z

    fn offset(time: &str) -> i64 {
        Device::of(&format!("\"{time}\""), NOON).unwrap().offset / 60_000_000
    }

    #[test]
    fn where_a_device_is() {
        assert_eq!(offset("2026-01-01T12:00:00.000"), 0);
        assert_eq!(offset("2026-01-01T11:53:00.000"), 0);
        assert_eq!(offset("2026-01-01T12:07:00.000123"), 0);
        assert_eq!(offset("2026-01-01T17:30:02.000"), 330);
        assert_eq!(offset("2026-01-01T08:29:58"), -210);
        assert_eq!(offset("2026-01-02T02:00:00.000"), 14 * 60);
        assert_eq!(offset("2026-01-01T00:00:00.000"), -12 * 60);
        // No place has such a time.
        assert_eq!(offset("2026-01-02T02:15:00.000"), 0);
        assert_eq!(offset("2025-12-01T12:00:00.000"), 0);
        assert_eq!(offset("9999-12-31"), 0);
        // It says itself.
        assert_eq!(offset("2026-01-01T17:30:00.000Z"), 0);
        assert_eq!(offset("2026-01-01T17:30:00.000+05:30"), 0);
        assert_eq!(Device::of("null", NOON), Ok(Device::default()));
    }

    #[test]
    fn what_is_no_time() {
        for json in ["17", "{}", "[]", "true", "\"17\"", "\"\"", "\"0\"", "x", ""] {
            assert_eq!(Device::of(json, NOON), Err(DeviceTimeError::NoTime), "{json}");
        }
        assert!(matches!(Device::of("\"yesterday\"", NOON), Err(DeviceTimeError::Malformed(_))));
    }

    #[test]
    fn moments() {
        let berlin = Device { offset: 4 * QUARTER };
        for (json, moment) in [
            ("\"2026-01-01T12:00:00.000Z\"", Some(NOON)),
            ("\"2026-01-01T13:00:00.000\"", Some(NOON)),
            ("\"2026-01-01T13:00:00.000+01:00\"", Some(NOON)),
            ("\"2026-01-01 13:00\"", Some(NOON)),
            ("\"2026-01-01\"", Some(NOON - 13 * 4 * QUARTER)),
            ("1767268800000", Some(NOON)),
            ("1767268800000.5", Some(NOON + 500)),
            ("null", None),
            ("\"soon\"", None),
            ("true", None),
        ] {
            assert_eq!(berlin.moment(json), moment, "{json}");
        }
    }
}
