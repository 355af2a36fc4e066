//! Where the texts of an entry stand in the journal's arena: one behind the other, so that their lengths say it. (A range for each made entries twice as
//! large, and a bulk transaction has one for each row.)

use std::ops::Range;

use crate::log::change::Change;
use crate::server::memory;

/// Of SQL NULL. No text of PostgreSQL's is so long.
const NULL: u32 = u32::MAX;

/// Of what is not said at all.
const UNSAID: u32 = u32::MAX - 1;

#[derive(Clone, Copy)]
pub(super) struct Texts {
    start: usize,
    key: u32,
    image: u32,
    scope: u32,
    scope_before: u32,
    touched: u32,
}

impl Texts {
    /// Copies a change's texts to the end of the arena.
    pub fn store(arena: &mut Vec<u8>, change: &Change) -> Texts {
        let start = arena.len();
        let mut store = |text: Option<&[u8]>| {
            text.map_or(NULL, |text| {
                memory::append(arena, text);
                text.len() as u32
            })
        };
        Texts {
            start,
            key: store(Some(change.key)),
            image: store(change.image),
            scope: store(change.scope),
            scope_before: change.scope_before.map_or(UNSAID, &mut store),
            touched: store(change.touched),
        }
    }

    pub fn key(&self) -> Range<usize> {
        self.start..self.start + self.key as usize
    }

    /// The old row's part that decides who could see it, as JSON text.
    pub fn image(&self) -> Option<Range<usize>> {
        behind(&[self.key], self.start, self.image)
    }

    pub fn scope(&self) -> Option<Range<usize>> {
        behind(&[self.key, self.image], self.start, self.scope)
    }

    /// Where the row's scope was before an UPDATE that moved it.
    pub fn scope_before(&self) -> Option<Option<Range<usize>>> {
        let before = || behind(&[self.key, self.image, self.scope], self.start, self.scope_before);
        (self.scope_before != UNSAID).then(before)
    }

    /// The columns that an UPDATE touched, as int2 numbers of the root table in native byte order; None where nobody asked
    /// (see `Spec::touched`) or where the row came into being.
    pub fn touched(&self) -> Option<Range<usize>> {
        behind(&[self.key, self.image, self.scope, self.scope_before], self.start, self.touched)
    }
}

/// The place of a text of this length behind texts of these lengths.
fn behind(others: &[u32], start: usize, length: u32) -> Option<Range<usize>> {
    let size = |length: u32| if length < UNSAID { length as usize } else { 0 };
    let start = others.iter().fold(start, |at, length| at + size(*length));
    (length < UNSAID).then(|| start..start + length as usize)
}

#[cfg(test)]
mod tests {
    use pgrx::pg_sys;

    use super::*;
    use crate::log::change::{Op, When};

    #[test]
    fn each_text_is_found_where_it_was_stored() {
        let mut arena = b"others".to_vec();
        let some = [None, Some(&b""[..]), Some(&b"xyz"[..])];
        for (image, scope, touched) in some.iter().flat_map(|a| some.map(|b| some.map(|c| (*a, b, c)))).flatten() {
            for scope_before in [None, Some(None), Some(Some(&b"before"[..]))] {
                let of = Change::of(pg_sys::Oid::from(1), Op::Update, b"key", When::SAID);
                let texts = Texts::store(&mut arena, &Change { image, scope, scope_before, touched, ..of });
                let get = |range: Range<usize>| &arena[range];
                assert_eq!(get(texts.key()), b"key");
                assert_eq!(texts.image().map(get), image);
                assert_eq!(texts.scope().map(get), scope);
                assert_eq!(texts.scope_before().map(|before| before.map(get)), scope_before);
                assert_eq!(texts.touched().map(get), touched);
            }
        }
    }
}
