//! What a pull in pages gives as `next`: where its next page begins.
//!
//! A token says where to go on, and row-level security decides what of it the caller gets, as in any pull; it holds no id that the caller
//! was not sent. But it also says what earlier pages have found out: that the caller's access did not move, nor was anything reset. So it
//! bears a seal (HMAC-SHA256 under a key that only the cluster has). With another cluster's, or without one, the pull begins anew. A
//! checksum tells by itself what was cut off or changed on the way; digests, whose pull it belongs to and what has to stand as it stood.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use thiserror::Error;

use crate::server::heap::{Tid, Unseen};
use crate::server::memory::{self, Gather};
use crate::values::spans::Spans;

/// Where the next page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The smallest snapmin of the pages so far: the cursor that the last one gives.
    pub snapmin: i64,
    /// The largest one: the client has rows that were so by then.
    pub newest: i64,
    /// No changes with a stamp from here on are sent: the clock's next one when the first page had its snapshot.
    pub until: i64,
    /// Nothing says that the log since then was pruned. (Where something did on the very page that gave the cursor, it says nothing.)
    pub whole: bool,
    /// All rows of a collection were begun to be sent: what the client has of it is neither what it had at its cursor nor all.
    pub begun: bool,
    /// The pull has begun anew after that: everything is replaced.
    pub again: bool,
    /// Of some collection nothing but changes was sent.
    pub changes: bool,
    /// Of the call's arguments, which stay the same.
    pub arguments: u64,
    /// Of the caller.
    pub caller: u64,
    /// Of what the pages rest on: if it moved, the pull begins anew.
    pub state: u64,
    /// The collection that comes next, counted from 0. Those before it are done.
    pub at: u32,
    pub place: Place,
}

/// Where in that collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Nothing of it was sent.
    Begin,
    /// All its rows are being sent, in the order in which they stand.
    Walk(WalkPlace),
    /// All its rows are being sent, in the order of their keys. None: they begin.
    Rows(Option<RowsPlace>),
    Changes(Changes),
}

/// How far rows in the order of their keys have come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowsPlace {
    /// A digest of that order: another index may serve the next page.
    pub order: u64,
    /// The row with this id was sent, and those before it.
    pub after: String,
}

/// How far the walk through a table has come (pull/walk.rs).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalkPlace {
    /// The file that is walked through.
    pub file: u32,
    /// How often it came to the end of it.
    pub round: u8,
    /// What stands behind this comes next.
    pub after: Tid,
    /// But for the first round: rows count that these transactions have made, which the first snapshot of the round before did not see.
    pub before: Unseen,
    /// Those that the first snapshot of this round does not see.
    pub first: Unseen,
}

/// The changes since the cursor are being sent, those with stamps below `from` were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    pub from: i64,
    /// Nothing with a stamp below this moved the caller's access, or reset the collection, since the cursor.
    pub held: i64,
    /// None: it was not asked for.
    pub parents: Option<ParentsGone>,
    /// A transaction with very many changes has the stamp `from`; where what is left of them is.
    pub part: Option<LogPart>,
    /// Of those from `from` on and below this, ids up to this one were sent; with a part, of those from its block on and below this one.
    /// None: nothing from there on was.
    pub within: Option<(i64, String)>,
}

/// Which rows went that policies look up (parents), and that the caller could see: of all stamps that are below `below`, and not below `Changes::from`, they went
/// with ones in these spans, and so did their keys come again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentsGone {
    pub spans: Spans,
    pub below: i64,
}

/// What is left of a transaction in the log (log/read/part.rs).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPart {
    /// The log's file, and how often entries were moved in it.
    pub file: u32,
    pub compactions: i64,
    pub number: i64,
    pub block: u32,
    pub last: u32,
    pub inner: bool,
}

/// Why a text is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TokenError {
    /// No key is so long.
    #[error("it is longer than any token")]
    Long,
    /// A character that tokens do not have.
    #[error("there is a character in it that no token has")]
    Character,
    /// Too short, or the checksum differs.
    #[error("it is not whole, or was changed on its way")]
    Damaged,
    /// Of another version of the extension.
    #[error("another version of the extension made it")]
    Version,
}

/// A token ends in an id, which stands in an index: in 2,700 bytes there, or in what these hold compressed. A text of this length takes
/// some 20 ms, in which nothing can be cancelled.
const LONGEST: usize = 4 << 20;

/// The form of a token. Another one gets another number.
const VERSION: u8 = 3;

/// FNV-1a: the same on every server and in every version.
pub fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

const SEAL: usize = 16;

/// What only who knows the key can say of these bytes. (They begin with what they are for: no seal is taken for another one's.)
pub fn seal(bytes: &[u8], key: &[u8; 32]) -> [u8; SEAL] {
    let mut seal = [0; SEAL];
    seal.copy_from_slice(&sealing(bytes, key).finalize().into_bytes()[..SEAL]);
    seal
}

fn sealing(bytes: &[u8], key: &[u8; 32]) -> Hmac<Sha256> {
    // HMAC fills a short key up to a block of the hash with zeros.
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    mac.update(bytes);
    mac
}

impl Token {
    /// Text that stands unquoted in a URL.
    pub fn encode(&self, key: &[u8; 32]) -> String {
        let mut bytes = vec![VERSION];
        memory::append(&mut bytes, &self.snapmin.to_be_bytes());
        memory::append(&mut bytes, &self.newest.to_be_bytes());
        memory::append(&mut bytes, &self.until.to_be_bytes());
        bytes.push(
            u8::from(self.whole) | u8::from(self.begun) << 1 | u8::from(self.again) << 2 | u8::from(self.changes) << 3,
        );
        for digest in [self.arguments, self.caller, self.state] {
            memory::append(&mut bytes, &digest.to_be_bytes());
        }
        memory::append(&mut bytes, &self.at.to_be_bytes());
        match &self.place {
            Place::Begin => bytes.push(0),
            Place::Rows(None) => bytes.push(5),
            Place::Rows(Some(rows)) => {
                bytes.push(1);
                memory::append(&mut bytes, &rows.order.to_be_bytes());
                memory::append(&mut bytes, rows.after.as_bytes());
            }
            Place::Walk(walk) => {
                bytes.push(4);
                memory::append(&mut bytes, &walk.file.to_be_bytes());
                bytes.push(walk.round);
                memory::append(&mut bytes, &walk.after.block.to_be_bytes());
                memory::append(&mut bytes, &walk.after.line.to_be_bytes());
                for unseen in [&walk.before, &walk.first] {
                    memory::append(&mut bytes, &unseen.from.to_be_bytes());
                    bytes.push(unseen.running.len() as u8);
                    unseen.running.iter().for_each(|number| memory::append(&mut bytes, &number.to_be_bytes()));
                }
            }
            Place::Changes(changes) => {
                let (within, part) = (changes.within.is_some(), changes.part.is_some());
                bytes.push(2 | u8::from(within) | u8::from(part) << 2 | u8::from(changes.parents.is_some()) << 3);
                memory::append(&mut bytes, &changes.from.to_be_bytes());
                memory::append(&mut bytes, &changes.held.to_be_bytes());
                if let Some(parents) = &changes.parents {
                    memory::append(&mut bytes, &parents.below.to_be_bytes());
                    bytes.push(parents.spans.0.len() as u8);
                    for stamp in parents.spans.0.iter().flat_map(|(first, last)| [first, last]) {
                        memory::append(&mut bytes, &stamp.to_be_bytes());
                    }
                }
                if let Some(part) = &changes.part {
                    memory::append(&mut bytes, &part.file.to_be_bytes());
                    memory::append(&mut bytes, &part.compactions.to_be_bytes());
                    memory::append(&mut bytes, &part.number.to_be_bytes());
                    memory::append(&mut bytes, &part.block.to_be_bytes());
                    memory::append(&mut bytes, &part.last.to_be_bytes());
                    bytes.push(u8::from(part.inner));
                }
                if let Some((below, after)) = &changes.within {
                    memory::append(&mut bytes, &below.to_be_bytes());
                    memory::append(&mut bytes, after.as_bytes());
                }
            }
        }
        let seal = sealing(&bytes, key).finalize().into_bytes();
        memory::append(&mut bytes, &seal[..SEAL]);
        let checksum = digest(&bytes);
        memory::append(&mut bytes, &checksum.to_be_bytes());
        to_text(&bytes)
    }

    /// The token; and whether it was made under this key.
    pub fn decode(text: &str, key: &[u8; 32]) -> Result<(Token, bool), TokenError> {
        if text.len() > LONGEST {
            return Err(TokenError::Long);
        }
        let bytes = from_text(text.trim_matches(|c: char| c.is_ascii_whitespace()))?;
        let (bytes, checksum) = bytes.split_last_chunk::<8>().ok_or(TokenError::Damaged)?;
        if u64::from_be_bytes(*checksum) != digest(bytes) {
            return Err(TokenError::Damaged);
        }
        let (bytes, found) = bytes.split_last_chunk::<SEAL>().ok_or(TokenError::Damaged)?;
        let mut rest = Rest(bytes);
        if rest.byte() != Some(VERSION) {
            return Err(TokenError::Version);
        }
        let own = sealing(bytes, key).verify_truncated_left(found).is_ok();
        rest.token().map(|token| (token, own)).ok_or(TokenError::Damaged)
    }
}

/// What of a token's bytes is not read yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*chunk)
    }

    fn byte(&mut self) -> Option<u8> {
        self.chunk::<1>().map(|[byte]| byte)
    }

    fn stamp(&mut self) -> Option<i64> {
        self.chunk().map(i64::from_be_bytes)
    }

    fn digest(&mut self) -> Option<u64> {
        self.chunk().map(u64::from_be_bytes)
    }

    fn text(&mut self) -> Option<String> {
        std::str::from_utf8(std::mem::take(&mut self.0)).ok().map(str::to_string)
    }

    fn part(&mut self) -> Option<LogPart> {
        let file = self.chunk().map(u32::from_be_bytes)?;
        let (compactions, number) = (self.stamp()?, self.stamp()?);
        let (block, last) = (self.chunk().map(u32::from_be_bytes)?, self.chunk().map(u32::from_be_bytes)?);
        let inner = self.byte().filter(|inner| *inner < 2)? == 1;
        Some(LogPart { file, compactions, number, block, last, inner })
    }

    fn parents(&mut self) -> Option<ParentsGone> {
        let (below, count) = (self.stamp()?, self.byte()?);
        let spans = (0..count).map(|_| Some((self.stamp()?, self.stamp()?))).gather::<Option<_>>()?;
        Some(ParentsGone { spans: Spans(spans), below })
    }

    fn walk(&mut self) -> Option<WalkPlace> {
        let (file, round) = (self.chunk().map(u32::from_be_bytes)?, self.byte()?);
        let (block, line) = (self.chunk().map(u32::from_be_bytes)?, self.chunk().map(u16::from_be_bytes)?);
        let (before, first) = (self.unseen()?, self.unseen()?);
        Some(WalkPlace { file, round, after: Tid { block, line }, before, first })
    }

    fn unseen(&mut self) -> Option<Unseen> {
        let (from, count) = (self.digest()?, self.byte()?);
        let running = (0..count).map(|_| self.chunk().map(u32::from_be_bytes)).gather::<Option<_>>()?;
        Some(Unseen { from, running })
    }

    fn token(mut self) -> Option<Token> {
        let (snapmin, newest, until) = (self.stamp()?, self.stamp()?, self.stamp()?);
        let flags = self.byte().filter(|flags| *flags < 16)?;
        let [whole, begun, again, changes] = [1, 2, 4, 8].map(|flag| flags & flag != 0);
        let (arguments, caller, state) = (self.digest()?, self.digest()?, self.digest()?);
        let at = self.chunk().map(u32::from_be_bytes)?;
        let place = match self.byte()? {
            0 => Place::Begin,
            1 => Place::Rows(Some(RowsPlace { order: self.digest()?, after: self.text()? })),
            4 => Place::Walk(self.walk()?),
            5 => Place::Rows(None),
            kind @ (2 | 3 | 6 | 7 | 10 | 11 | 14 | 15) => {
                let (from, held) = (self.stamp()?, self.stamp()?);
                let parents = if kind & 8 != 0 { Some(self.parents()?) } else { None };
                let part = if kind & 4 != 0 { Some(self.part()?) } else { None };
                let within = if kind & 1 != 0 { Some((self.stamp()?, self.text()?)) } else { None };
                Place::Changes(Changes { from, held, parents, part, within })
            }
            _ => return None,
        };
        let token = Token { snapmin, newest, until, whole, begun, again, changes, arguments, caller, state, at, place };
        self.0.is_empty().then_some(token)
    }
}

/// base64url (RFC 4648, section 5), without padding.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn to_text(bytes: &[u8]) -> String {
    let mut text = memory::text_of(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, i| bits << 8 | u32::from(three.get(i).copied().unwrap_or(0)));
        for i in 0..=three.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * i)) as usize & 63]));
        }
    }
    text
}

fn from_text(text: &str) -> Result<Vec<u8>, TokenError> {
    let mut bytes = memory::list(text.len() / 4 * 3 + 2);
    for four in text.as_bytes().chunks(4) {
        let mut bits = 0;
        for i in 0..4 {
            let digit = match four.get(i) {
                None => 0,
                Some(byte @ b'A'..=b'Z') => byte - b'A',
                Some(byte @ b'a'..=b'z') => byte - b'a' + 26,
                Some(byte @ b'0'..=b'9') => byte - b'0' + 52,
                Some(b'-') => 62,
                Some(b'_') => 63,
                Some(_) => return Err(TokenError::Character),
            };
            bits = bits << 6 | u32::from(digit);
        }
        memory::append(&mut bytes, &bits.to_be_bytes()[1..four.len()]);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: [u8; 32] = [7; 32];

    fn unseen() -> impl Strategy<Value = Unseen> {
        (any::<u64>(), proptest::collection::vec(any::<u32>(), 0..40))
            .prop_map(|(from, running)| Unseen { from, running })
    }

    fn place() -> impl Strategy<Value = Place> {
        let part = (any::<[u32; 3]>(), any::<[i64; 2]>(), any::<bool>()).prop_map(
            |([file, block, last], [compactions, number], inner)| LogPart {
                file,
                compactions,
                number,
                block,
                last,
                inner,
            },
        );
        let within = proptest::option::of((any::<i64>(), ".{0,40}"));
        let spans = proptest::collection::vec(any::<(i64, i64)>(), 0..20);
        let parents = (spans, any::<i64>()).prop_map(|(spans, below)| ParentsGone { spans: Spans(spans), below });
        let parents = proptest::option::of(parents);
        let changes = (any::<i64>(), any::<i64>(), parents, proptest::option::of(part), within);
        prop_oneof![
            Just(Place::Begin),
            proptest::option::of((any::<u64>(), ".{0,300}"))
                .prop_map(|rows| Place::Rows(rows.map(|(order, after)| RowsPlace { order, after }))),
            (any::<[u32; 2]>(), any::<(u8, u16)>(), [unseen(), unseen()]).prop_map(
                |([file, block], (round, line), [before, first])| {
                    Place::Walk(WalkPlace { file, round, after: Tid { block, line }, before, first })
                }
            ),
            changes.prop_map(|(from, held, parents, part, within)| {
                Place::Changes(Changes { from, held, parents, part, within })
            }),
        ]
    }

    fn token() -> impl Strategy<Value = Token> {
        (any::<[i64; 3]>(), any::<[bool; 4]>(), any::<[u64; 3]>(), any::<u32>(), place()).prop_map(
            |([snapmin, newest, until], [whole, begun, again, changes], [arguments, caller, state], at, place)| Token {
                snapmin,
                newest,
                until,
                whole,
                begun,
                again,
                changes,
                arguments,
                caller,
                state,
                at,
                place,
            },
        )
    }

    proptest! {
        #[test]
        fn a_token_reads_back(token in token()) {
            let text = token.encode(&KEY);
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{text}");
            prop_assert_eq!(Token::decode(&text, &KEY), Ok((token.clone(), true)));
            prop_assert_eq!(Token::decode(&format!(" {text}\n"), &KEY), Ok((token.clone(), true)));
            // Another cluster's.
            prop_assert_eq!(Token::decode(&text, &[8; 32]), Ok((token, false)));
        }

        #[test]
        fn what_was_cut_off_or_changed_is_found(token in token(), at in any::<prop::sample::Index>(), digit in 0usize..64) {
            let text = token.encode(&KEY);
            let at = at.index(text.len());
            prop_assert_eq!(Token::decode(&text[..at], &KEY), Err(TokenError::Damaged));
            let mut changed = text.clone().into_bytes();
            changed[at] = DIGITS[digit];
            let changed = String::from_utf8(changed).expect("ASCII");
            // The last digit may have bits to spare.
            if changed[..text.len() - 1] != text[..text.len() - 1] {
                prop_assert_eq!(Token::decode(&changed, &KEY), Err(TokenError::Damaged));
            }
        }

        #[test]
        fn no_text_is_a_panic(text in any::<String>(), bytes in any::<Vec<u8>>()) {
            let _ = Token::decode(&text, &KEY);
            prop_assert_eq!(from_text(&to_text(&bytes)), Ok(bytes.clone()));
            // Whatever has a right checksum.
            let whole = [&bytes[..], &digest(&bytes).to_be_bytes()[..]].concat();
            if let Ok((token, true)) = Token::decode(&to_text(&whole), &KEY) {
                prop_assert_eq!(token.encode(&KEY), to_text(&whole));
            }
        }
    }

    #[test]
    fn refused_for_a_reason() {
        let token = Token {
            snapmin: 7,
            newest: 9,
            until: 11,
            whole: true,
            begun: false,
            again: false,
            changes: false,
            arguments: 1,
            caller: 2,
            state: 3,
            at: 0,
            place: Place::Begin,
        };
        assert_eq!(Token::decode("", &KEY), Err(TokenError::Damaged));
        assert_eq!(Token::decode("null", &KEY), Err(TokenError::Damaged));
        assert_eq!(Token::decode(&"A".repeat(LONGEST + 1), &KEY), Err(TokenError::Long));
        assert_eq!(Token::decode(&"A".repeat(LONGEST), &KEY), Err(TokenError::Damaged));
        assert_eq!(Token::decode("a+b/", &KEY), Err(TokenError::Character));
        assert_eq!(Token::decode("é", &KEY), Err(TokenError::Character));
        let mut bytes = from_text(&token.encode(&KEY)).expect("text of ours");
        bytes.truncate(bytes.len() - 8);
        bytes[0] = VERSION + 1;
        let checksum = digest(&bytes);
        bytes.extend(checksum.to_be_bytes());
        assert_eq!(Token::decode(&to_text(&bytes), &KEY), Err(TokenError::Version));
    }
}
