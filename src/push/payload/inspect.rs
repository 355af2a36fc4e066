//! What serde_json lets pass in a raw value and PostgreSQL does not: text that cannot be stored, and deep nesting.

use super::{BatchError, MAX_DEPTH};

/// What makes a value unfit although it is JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    TooDeep,
    Nul,
    Surrogate(u16),
}

impl Flaw {
    pub(super) fn at(self, path: String) -> BatchError {
        match self {
            Flaw::TooDeep => BatchError::TooDeep { path },
            Flaw::Nul => BatchError::Nul { path },
            Flaw::Surrogate(unit) => BatchError::Surrogate { path, unit },
        }
    }
}

/// Looks for what serde_json lets pass in a raw value and PostgreSQL does not. `raw` is valid JSON without white space
/// around it.
pub(super) fn inspect(raw: &str) -> Result<(), Flaw> {
    let bytes = raw.as_bytes();
    match bytes.first() {
        Some(b'"') => {}
        Some(b'{' | b'[') => inspect_depth(bytes)?,
        _ => return Ok(()),
    }
    if bytes.contains(&b'\\') {
        inspect_escapes(bytes)?;
    }
    Ok(())
}

fn inspect_depth(bytes: &[u8]) -> Result<(), Flaw> {
    let (mut depth, mut in_string, mut escaped) = (0, false, false);
    for byte in bytes {
        if escaped {
            escaped = false;
        } else if in_string {
            match byte {
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
        } else {
            match byte {
                b'"' => in_string = true,
                b'{' | b'[' => {
                    depth += 1;
                    if depth > MAX_DEPTH {
                        return Err(Flaw::TooDeep);
                    }
                }
                b'}' | b']' => depth -= 1,
                _ => {}
            }
        }
    }
    Ok(())
}

/// In valid JSON a backslash stands in strings only, and four hexadecimal digits follow `\u`.
fn inspect_escapes(bytes: &[u8]) -> Result<(), Flaw> {
    let unit = |digits: &[u8]| {
        let text = std::str::from_utf8(digits).ok()?;
        u16::from_str_radix(text, 16).ok()
    };
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|b| *b == b'\\') {
        if rest.get(at + 1) != Some(&b'u') {
            rest = rest.get(at + 2..).unwrap_or_default();
            continue;
        }
        let first = rest.get(at + 2..at + 6).and_then(unit).unwrap_or_default();
        rest = rest.get(at + 6..).unwrap_or_default();
        match first {
            0 => return Err(Flaw::Nul),
            0xD800..=0xDBFF => {
                let second = rest.strip_prefix(b"\\u").and_then(|r| r.get(..4)).and_then(unit);
                if !matches!(second, Some(0xDC00..=0xDFFF)) {
                    return Err(Flaw::Surrogate(first));
                }
                rest = &rest[6..];
            }
            0xDC00..=0xDFFF => return Err(Flaw::Surrogate(first)),
            _ => {}
        }
    }
    Ok(())
}
