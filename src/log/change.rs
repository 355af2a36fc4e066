//! A change of a row, on its way from the trigger to whoever reads the log: what happened, when in its transaction, the row's old
//! values, and where each of these stands in `snapsync.change`.

use std::rc::Rc;

use pgrx::pg_sys;

use crate::server::error::Result;
use crate::server::memory;
use crate::server::pg::{OwnTable, WrittenBy, REGTABLE};
use crate::values::siphash::siphash;

/// Column numbers of `snapsync.change`, in the order of sql/02_tables.sql.
pub mod column {
    pub const RELATION: i16 = 1;
    pub const ORD: i16 = 2;
    pub const STAMP: i16 = 3;
    pub const OP: i16 = 4;
    pub const BUCKET: i16 = 5;
    pub const SCOPE: i16 = 6;
    pub const KEY: i16 = 7;
    pub const IMAGE: i16 = 8;
    pub const ORIGIN: i16 = 9;
    pub const TOUCHED: i16 = 10;
    pub const AS_SENT: i16 = 11;
    pub const KEYS: i16 = 12;
    pub const COUNT: usize = 12;
}

/// Those of `snapsync.early`.
pub mod early {
    pub const NUMBER: i16 = 1;
    pub const STAMP: i16 = 2;
    pub const CLASS: i16 = 3;

    /// So many bits of the distance between number and stamp make one class.
    pub const CLASS_BITS: u32 = 8;

    /// What class they are of: by how many bytes the distance is written, less one.
    pub fn class_of(number: i64, stamp: i64) -> i16 {
        let distance = stamp.saturating_sub(number).max(1);
        (distance.ilog2() / CLASS_BITS) as i16
    }
}

pub const LOG: OwnTable = OwnTable {
    name: c"change",
    columns: &[
        (REGTABLE, false),
        (pg_sys::INT4OID, false),
        (pg_sys::INT8OID, false),
        (pg_sys::CHAROID, false),
        (pg_sys::INT2OID, false),
        (pg_sys::TEXTOID, true),
        (pg_sys::TEXTOID, true),
        (pg_sys::JSONBOID, true),
        (pg_sys::TEXTOID, true),
        (pg_sys::INT2ARRAYOID, true),
        (pg_sys::BOOLOID, true),
        (pg_sys::TEXTARRAYOID, true),
    ],
    written: WrittenBy::Catalog,
};
/// What its indexes are on.
pub const BY_BUCKET: [i16; 3] = [column::RELATION, column::BUCKET, column::STAMP];
pub const BY_STAMP: [i16; 2] = [column::RELATION, column::STAMP];

pub const EARLY: OwnTable = OwnTable {
    name: c"early",
    columns: &[(pg_sys::INT8OID, false), (pg_sys::INT8OID, false), (pg_sys::INT2OID, false)],
    written: WrittenBy::Catalog,
};

/// The bucket of entries without a scope, which are read in all.
pub const NO_BUCKET: i16 = -1;
/// The others. The index leads from a bucket to its entries since a cursor: whoever reads one scope passes over few of others, and whoever
/// reads all of them has few buckets to look into, however many scopes there are.
pub const BUCKETS: u32 = 1024;

/// What buckets hang on besides the scope (salt.rs).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Salt(pub i64);

/// Where entries of this scope stand. Whoever chooses scopes chooses no bucket by that.
pub fn bucket(Salt(salt): Salt, scope: &str) -> i16 {
    (siphash([salt as u64, 0], scope.as_bytes()) % u64::from(BUCKETS)) as i16
}

/// Where word for this user stands: beside the scopes, below [`NO_BUCKET`], so that who reads his scopes does not read what is told to others.
pub fn notice_bucket(salt: Salt, who: &str) -> i16 {
    NO_BUCKET - 1 - bucket(salt, who)
}

/// What happened to a key. `Reset`: forget the whole collection (TRUNCATE, policy DDL, `snapsync.reset()`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Op {
    Insert = b'I',
    Update = b'U',
    Delete = b'D',
    Reset = b'R',
}

impl Op {
    /// As `snapsync.change` holds it. In lower case: of an inner state (see journal/net.rs).
    pub fn byte(self, inner: bool) -> u8 {
        let byte = self as u8;
        if inner {
            byte.to_ascii_lowercase()
        } else {
            byte
        }
    }

    /// What this byte says, and whether of an inner state.
    pub fn from_byte(byte: u8) -> Option<(Op, bool)> {
        let all = [Op::Insert, Op::Update, Op::Delete, Op::Reset];
        let op = all.into_iter().find(|op| *op as u8 == byte.to_ascii_uppercase())?;
        Some((op, byte.is_ascii_lowercase()))
    }
}

/// What an entry that is only for the client which its `origin` names has for the numbers of its columns: no column has this one.
/// See push/standing.rs.
pub const NOTICE: [i16; 1] = [0];

/// What a caller appends; the journal copies it.
pub struct Change<'a> {
    pub relation: pg_sys::Oid,
    pub op: Op,
    pub key: &'a [u8],
    pub image: Option<&'a [u8]>,
    pub scope: Option<&'a [u8]>,
    pub scope_before: Option<Option<&'a [u8]>>,
    pub when: When,
    pub touched: Option<&'a [u8]>,
}

impl<'a> Change<'a> {
    /// Without any of what only some changes have.
    pub fn of(relation: pg_sys::Oid, op: Op, key: &'a [u8], when: When) -> Self {
        let (image, scope, scope_before) = (None, None, None);
        Change { relation, op, key, image, scope, scope_before, when, touched: None }
    }
}

/// Where in its transaction a change happened: what journal/net.rs puts the changes of one key in order by. Triggers do not fire in that order
/// (those of a statement inside another one fire first), nor do the numbers of commands say it (the outer one goes on after the inner one).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct When {
    pub old: OldVersion,
    /// The command that did it.
    pub command: u32,
    pub new: New,
}

/// The row version that was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OldVersion {
    /// There was none.
    None,
    /// It was there before the transaction: this is the key's first change.
    Found,
    /// This command of the transaction itself had made it. Nobody outside ever saw it.
    MadeBy(u32),
}

/// What has become of the row, under this key, by the time that the trigger fires.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum New {
    /// It is as the change left it.
    Stands,
    /// Its version has another one after it.
    Changed,
    Gone,
}

impl When {
    /// Of what is said of a whole table.
    pub const RESET: When = When { old: OldVersion::Found, command: 0, new: New::Gone };
    /// Of what is no change: after all that are.
    pub const SAID: When = When { old: OldVersion::MadeBy(u32::MAX), command: u32::MAX, new: New::Stands };

    /// Is it of a statement's change of a row?
    pub fn is_of_command(self) -> bool {
        self != When::RESET && self != When::SAID
    }
}

/// Old values of a row, as the log holds them: a jsonb object of texts (track.rs). It owns its bytes: memory contexts come and go while
/// old rows are judged.
#[derive(Clone)]
pub struct Image {
    words: Rc<Vec<u64>>,
    /// The row was so until this stamp.
    pub until: i64,
}

impl Image {
    /// A copy.
    ///
    /// # Safety
    /// A jsonb, toasted or not.
    pub unsafe fn of(jsonb: pg_sys::Datum, until: i64) -> Result<Image> {
        let stored: *mut pg_sys::varlena = jsonb.cast_mut_ptr();
        let mut words = Vec::new();
        // SAFETY: see above; what detoasting has allocated is freed here.
        unsafe {
            let plain = pg_sys::pg_detoast_datum(stored);
            let size = pgrx::varlena::varsize_any(plain);
            memory::room(&mut words, size.div_ceil(8))?;
            words.resize(size.div_ceil(8), 0u64);
            plain.cast::<u8>().copy_to_nonoverlapping(words.as_mut_ptr().cast(), size);
            if plain != stored {
                pg_sys::pfree(plain.cast());
            }
        }
        Ok(Image { words: Rc::new(words), until })
    }

    /// The jsonb, for as long as this lives.
    pub fn datum(&self) -> pg_sys::Datum {
        pg_sys::Datum::from(self.words.as_ptr())
    }

    /// In bytes, more or less.
    pub fn size(&self) -> usize {
        self.words.len() * 8
    }

    /// The text of a column's value; None for NULL, and for a column that the image does not have.
    pub fn text(&self, column: &str) -> Option<&[u8]> {
        // SAFETY: a detoasted jsonb object; the text that is found points into it.
        unsafe {
            let stored: *mut pg_sys::Jsonb = self.datum().cast_mut_ptr();
            let mut value = pg_sys::JsonbValue::default();
            let root = &raw mut (*stored).root;
            let found =
                pg_sys::getKeyJsonValueFromContainer(root, column.as_ptr().cast(), column.len() as i32, &mut value);
            if found.is_null() || value.type_ != pg_sys::jbvType::jbvString {
                return None;
            }
            let text = value.val.string;
            Some(std::slice::from_raw_parts(text.val.cast::<u8>(), text.len as usize))
        }
    }
}

#[cfg(test)]
impl Image {
    /// One that is known by this number.
    pub fn numbered(number: u64) -> Image {
        Image { words: Rc::new(vec![number]), until: 0 }
    }

    pub fn number(&self) -> u64 {
        self.words[0]
    }
}

#[cfg(test)]
mod tests {
    use super::early::class_of;

    #[test]
    fn a_distance_has_its_class() {
        assert_eq!([1, 255, 256, 65_535, 65_536].map(|distance| class_of(7, 7 + distance)), [0, 0, 1, 1, 2]);
        assert_eq!((class_of(7, 7), class_of(0, i64::MAX)), (0, 7));
    }
}
