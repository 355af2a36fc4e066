//! How much of what a client sent may stand in an error message: little, on one line, never half a character.
//!
//! A push can be hundreds of megabytes in one string, and error messages end up in server logs and in HTTP answers.

/// Longest piece of a *value* (an id, a cursor) that an error message repeats, in characters.
pub const VALUE: usize = 40;

/// Longest piece of a *name* that an error message repeats, in characters: a PostgreSQL identifier has 63 bytes at most.
pub const NAME: usize = 63;

/// The first `limit` characters of `text`, with `…` where something was cut off. Control characters become `?`, so
/// that a message stays on one line whatever was sent.
pub fn cut(text: &str, limit: usize) -> String {
    let mut chars = text.chars();
    let mut out: String = chars.by_ref().take(limit).map(|c| if c.is_control() { '?' } else { c }).collect();
    if chars.next().is_some() {
        out.push('…');
    }
    out
}

/// As much of what a client sent in place of a name.
pub fn name(text: &str) -> String {
    cut(text, NAME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cuts_at_character_boundaries() {
        assert_eq!(cut("", 3), "");
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "abc…");
        assert_eq!(cut("äöüß", 3), "äöü…");
        assert_eq!(cut("a\nb\0c", 9), "a?b?c");
    }

    proptest! {
        #[test]
        fn is_never_longer_than_the_limit(text in ".*", limit in 0usize..50) {
            let out = cut(&text, limit);
            prop_assert!(out.chars().count() <= limit + 1);
            prop_assert!(!out.chars().any(char::is_control));
        }
    }
}
