//! Reading `snapsync.change`: a plain index scan under the caller's snapshot, past ACLs. What it returns never leaves the
//! server as it is; `policy.rs` decides what of it the caller may learn.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::ffi::c_int;
use std::rc::Rc;

use pgrx::{pg_sys, FromDatum, IntoDatum};

use crate::log::change::{self, column, Image, Op, Salt, BY_BUCKET, BY_STAMP, LOG, NOTICE, NO_BUCKET};
use crate::log::client;
use crate::log::clock::durable;
use crate::log::journal;
use crate::log::salt;
use crate::server::error::{code, Result, SyncError};
use crate::server::memory;
use crate::server::pg;

mod early;
mod entries;
mod part;
mod window;

use early::Early;
pub use entries::Entries;
pub use window::Window;

/// An entry of the log.
#[derive(Clone)]
pub struct Logged {
    pub stamp: i64,
    pub ord: i32,
    pub op: Op,
    /// Of a row version that the same transaction had made before.
    inner: bool,
    pub key: String,
    /// The row as it was before its transaction.
    pub image: Option<Image>,
    pub origin: Option<Rc<str>>,
    /// The columns that an UPDATE touched, by number; None: not known.
    pub touched: Option<Vec<i16>>,
    /// See [`crate::log::journal::Sending`].
    pub as_sent: bool,
}

impl Logged {
    /// What its number stands for.
    fn stamp_with(&mut self, stamp: i64) {
        self.stamp = stamp;
        self.image.iter_mut().for_each(|image| image.until = stamp);
    }

    /// Is it only for the client that its `origin` names, and not about a change?
    pub fn is_notice(&self) -> bool {
        self.touched.as_deref() == Some(&NOTICE)
    }

    /// Is the row as it was, and only to be sent once more?
    pub fn is_touch(&self) -> bool {
        self.op == Op::Update && self.image.is_none() && self.touched.as_deref() == Some(&[])
    }
}

/// Whose entries to read.
#[derive(Clone, Copy)]
pub enum Scopes<'a> {
    /// All of the collection.
    All,
    /// These scopes, the entries that concern every scope, and word for the caller.
    Only(&'a [String]),
}

/// The entries of `relation` with stamp >= `from` that are about wanted keys, and resets, in the order of their stamps; those of one key
/// also in the order in which they happened.
pub fn since_of(
    relation: pg_sys::Oid,
    from: i64,
    wanted: Wanted,
    snapshot: &pg::ActiveSnapshot,
) -> Result<Vec<Logged>> {
    let mut found = Vec::new();
    let filter = EntryFilter { wanted: Some(wanted), ..EntryFilter::default() };
    Log::open(snapshot)?
        .read(relation, Window::since(from), Scopes::All, filter, &mut |entry| memory::push(&mut found, entry))?;
    memory::sort_by(&mut found, by_key);
    found.chunk_by_mut(|a, b| a.key == b.key).for_each(|key| show_what_was_found(key, journal::own_stamp()));
    memory::sort_by(&mut found, |a, b| (a.stamp, a.ord).cmp(&(b.stamp, b.ord)));
    Ok(found)
}

fn by_key(a: &Logged, b: &Logged) -> std::cmp::Ordering {
    (&a.key, a.stamp, a.ord).cmp(&(&b.key, b.stamp, b.ord))
}

/// From which stamp on there are no more than about so many entries of `relation` to look at.
pub fn newest(relation: pg_sys::Oid, most: usize, snapshot: &pg::ActiveSnapshot) -> Result<i64> {
    Log::open(snapshot)?.newest(relation, most)
}

/// Which keys are looked for.
pub type Wanted<'a> = &'a dyn Fn(&str) -> bool;

/// Takes a bucket, and the scopes to look for in it; None for all of either.
type EachBucket<'a> = dyn FnMut(Option<i16>, Option<&HashSet<&str>>) -> Result<()> + 'a;

/// Which entries are.
#[derive(Clone, Copy, Default)]
struct EntryFilter<'a> {
    wanted: Option<Wanted<'a>>,
    /// So many may still be looked at; None: all there are.
    left: Option<&'a Cell<usize>>,
    /// Without UPDATEs that left alone what policies read.
    only_access: bool,
}

/// Which entries of a bucket are.
#[derive(Clone, Copy)]
struct Picked<'a> {
    scopes: Option<&'a HashSet<&'a str>>,
    /// Of those scopes, in bytes.
    longest: usize,
    filter: EntryFilter<'a>,
}

impl Picked<'_> {
    /// So many more were looked at; false if those are enough.
    fn looked_at(&self, some: usize) -> bool {
        self.filter.left.is_none_or(|left| {
            left.set(left.get().saturating_sub(some));
            left.get() > 0
        })
    }
}

/// The log, open for reading.
pub struct Log<'a> {
    relation: pg_sys::Relation,
    by_bucket: pg_sys::Relation,
    by_stamp: pg_sys::Relation,
    snapshot: &'a pg::ActiveSnapshot,
    salts: OnceCell<Vec<Salt>>,
    /// The number of entries that was last looked up, and its stamp.
    last_early: Cell<Early>,
    /// By stamps: what was under way when they were drawn.
    under_way: RefCell<Vec<(i64, Rc<Vec<Early>>)>>,
}

impl<'a> Log<'a> {
    pub fn open(snapshot: &'a pg::ActiveSnapshot) -> Result<Log<'a>> {
        // SAFETY: they exist; closed in `drop`, or by the abort on ERROR. An index is looked up when there is a lock on its table:
        // REINDEX CONCURRENTLY puts another one in its place.
        unsafe {
            let relation = LOG.open(pg_sys::AccessShareLock)?;
            let by_bucket = pg::own_index(relation, c"change_relation_bucket_stamp", &BY_BUCKET)?;
            let by_stamp = pg::own_index(relation, c"change_relation_stamp", &BY_STAMP)?;
            let [by_bucket, by_stamp] =
                [by_bucket, by_stamp].map(|index| pg_sys::index_open(index, pg_sys::AccessShareLock as c_int));
            let (salts, last_early, under_way) = (OnceCell::new(), Cell::default(), RefCell::default());
            Ok(Log { relation, by_bucket, by_stamp, snapshot, salts, last_early, under_way })
        }
    }

    fn descriptor(&self) -> pg_sys::TupleDesc {
        // SAFETY: the relation is open.
        unsafe { (*self.relation).rd_att }
    }

    /// The entries of `relation` with stamp >= `from`.
    pub fn since(&self, relation: pg_sys::Oid, from: i64, scopes: Scopes) -> Result<Entries> {
        self.gathered(relation, &[Window::since(from)], scopes, false)
    }

    /// What the entries of these windows, which do not overlap, say of whom policies show what: those but for the UPDATEs that left alone what policies read, of
    /// which others may have made many.
    ///
    /// (Such an entry has no image, and tells of a key only that it was there: that counts beside entries of row versions that its transaction had
    /// made, `show_what_was_found`. Where there are any of these, all is read.)
    pub fn of_access(&self, relation: pg_sys::Oid, windows: &[Window], scopes: Scopes) -> Result<Entries> {
        let entries = self.gathered(relation, windows, scopes, true)?;
        match entries.have_inner() {
            true => self.gathered(relation, windows, scopes, false),
            false => Ok(entries),
        }
    }

    fn gathered(
        &self,
        relation: pg_sys::Oid,
        windows: &[Window],
        scopes: Scopes,
        only_access: bool,
    ) -> Result<Entries> {
        let mut entries = Entries::new();
        for window in windows {
            let filter = EntryFilter { only_access, ..EntryFilter::default() };
            self.read(relation, *window, scopes, filter, &mut |entry| entries.add(entry, self))?;
        }
        entries.complete();
        Ok(entries)
    }

    /// Those that are about wanted keys, and resets. None where more than so many would have to be looked at for them.
    pub fn among(
        &self,
        relation: pg_sys::Oid,
        from: i64,
        scopes: Scopes,
        wanted: Wanted,
        most: usize,
    ) -> Result<Option<Entries>> {
        let (mut entries, left) = (Entries::new(), Cell::new(most.saturating_add(1)));
        let window = Window::since(from);
        let filter = EntryFilter { wanted: Some(wanted), left: Some(&left), only_access: false };
        self.read(relation, window, scopes, filter, &mut |entry| entries.add(entry, self))?;
        entries.complete();
        Ok((left.get() > 0).then_some(entries))
    }

    fn read(
        &self,
        relation: pg_sys::Oid,
        window: Window,
        scopes: Scopes,
        filter: EntryFilter,
        each: &mut dyn FnMut(Logged) -> Result<()>,
    ) -> Result<()> {
        let mut beside: Vec<i64> = Vec::new();
        let own = journal::own_stamp().map(|own| (own, own));
        for early in self.under_way(window.from)?.iter().copied().chain(own) {
            memory::extend(&mut beside, window.has_beside(early).then_some(early.0));
        }
        let mut each = |mut entry: Logged| {
            let number = entry.stamp;
            entry.stamp_with(self.stamp_of(number)?);
            match window.has((number, entry.stamp)) {
                true => each(entry),
                false => Ok(()),
            }
        };
        // Of this bucket, or of all: stamps in the window, and those that are such by `early`.
        self.each_bucket(scopes, &mut |bucket, scopes| {
            let longest = scopes.into_iter().flatten().map(|s| s.len()).max().unwrap_or(0);
            let picked = Picked { scopes, longest, filter };
            self.scan(relation, bucket, window.keys(), picked, &mut each)?;
            beside.iter().try_for_each(|number| self.scan(relation, bucket, vec![stamp_is(*number)], picked, &mut each))
        })
    }

    /// What buckets hang on.
    fn salts(&self) -> Result<&[Salt]> {
        if let Some(known) = self.salts.get() {
            return Ok(known);
        }
        let known = salt::known(self.snapshot)?;
        Ok(self.salts.get_or_init(|| known))
    }

    /// Calls `each` for the buckets that entries of these scopes are in, with those to look for there, the one of all scopes last; or once for
    /// all buckets.
    fn each_bucket(&self, scopes: Scopes, each: &mut EachBucket) -> Result<()> {
        match scopes {
            Scopes::Only(scopes) => {
                let who = client::who()?;
                let mut buckets: BTreeMap<i16, HashSet<&str>> = BTreeMap::new();
                for salt in self.salts()? {
                    for scope in scopes {
                        memory::heed();
                        buckets.entry(change::bucket(*salt, scope)).or_default().insert(scope);
                    }
                    buckets.entry(change::notice_bucket(*salt, &who)).or_default().insert(&who);
                }
                buckets.iter().try_for_each(|(bucket, scopes)| each(Some(*bucket), Some(scopes)))?;
                each(Some(NO_BUCKET), None)
            }
            Scopes::All => each(None, None),
        }
    }

    fn scan(
        &self,
        relation: pg_sys::Oid,
        bucket: Option<i16>,
        stamps: Vec<pg_sys::ScanKeyData>,
        picked: Picked,
        each: &mut dyn FnMut(Logged) -> Result<()>,
    ) -> Result<()> {
        let per_row = pg::PerRow::new(c"snapsync log row");
        let mut found = Vec::new();
        self.tuples(relation, bucket, stamps, |tuple| {
            if !picked.looked_at(1) {
                return Ok(false);
            }
            // SAFETY: a tuple of snapsync.change; entries own what is in them. The scan and `each` allocate elsewhere.
            unsafe { per_row.run(|| self.decode(tuple, picked, &mut found)) }?;
            found.drain(..).try_for_each(&mut *each)?;
            Ok(true)
        })
    }

    /// Adds to `found` what a tuple says of the picked keys. It may leave memory behind in the current context.
    ///
    /// # Safety
    /// A tuple of snapsync.change.
    unsafe fn decode(&self, tuple: pg_sys::HeapTuple, picked: Picked, found: &mut Vec<Logged>) -> Result<()> {
        // SAFETY: see above; the columns have these types.
        unsafe {
            if let Some(scopes) = picked.scopes {
                // A foreign scope may have megabytes: one longer than those looked for is not unpacked.
                let scope = self.value(tuple, column::SCOPE);
                let scope = scope.filter(|d| pg_sys::toast_raw_datum_size(*d) - pg_sys::VARHDRSZ <= picked.longest);
                if !scope.and_then(|d| <&str>::from_datum(d, false)).is_some_and(|scope| scopes.contains(scope)) {
                    return Ok(());
                }
            }
            let byte = self.value(tuple, column::OP).map_or(0, |d| d.value() as u8);
            let (op, inner) = Op::from_byte(byte)
                .ok_or_else(|| SyncError::new(code::INTERNAL, format!("snapsync.change has an unknown op {byte}")))?;
            if picked.filter.only_access && op == Op::Update && !inner && self.value(tuple, column::IMAGE).is_none() {
                return Ok(());
            }
            // One for all keys of an entry: clients choose it.
            let origin: OnceCell<Option<Rc<str>>> = OnceCell::new();
            let read_origin =
                || self.value(tuple, column::ORIGIN).and_then(|d| <&str>::from_datum(d, false)).map(Rc::from);
            // Before anything of the entry is copied: a push looks for a few keys among all that others wrote.
            let wanted = |key: &str| op == Op::Reset || picked.filter.wanted.is_none_or(|wanted| wanted(key));
            let entry = |key: String| -> Result<Logged> {
                let stamp = self.value(tuple, column::STAMP).map_or(0, |d| d.value() as i64);
                Ok(Logged {
                    stamp,
                    ord: self.value(tuple, column::ORD).map_or(0, |d| d.value() as i32),
                    op,
                    inner,
                    key,
                    image: self.value(tuple, column::IMAGE).map(|d| Image::of(d, stamp)).transpose()?,
                    origin: origin.get_or_init(read_origin).clone(),
                    touched: self.value(tuple, column::TOUCHED).and_then(|d| Vec::<i16>::from_datum(d, false)),
                    as_sent: self.value(tuple, column::AS_SENT).is_some_and(|d| d.value() as u8 != 0),
                })
            };
            if let Some(key) = self.value(tuple, column::KEY) {
                let key = <&str>::from_datum(key, false).unwrap_or_default();
                if wanted(key) {
                    memory::push(found, entry(key.to_string())?)?;
                }
            } else if let Some(keys) = self.value(tuple, column::KEYS) {
                let keys = Vec::<String>::from_datum(keys, false).unwrap_or_default();
                // To take them apart takes as long as a few entries by themselves.
                picked.looked_at(keys.len() / 10);
                for key in keys {
                    if wanted(&key) {
                        memory::push(found, entry(key)?)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Calls `each` for the tuples with these stamps, in their order, of a bucket or of all, until it says false.
    fn tuples(
        &self,
        relation: pg_sys::Oid,
        bucket: Option<i16>,
        stamps: Vec<pg_sys::ScanKeyData>,
        each: impl FnMut(pg_sys::HeapTuple) -> Result<bool>,
    ) -> Result<()> {
        self.tuples_towards(pg_sys::ScanDirection::ForwardScanDirection, relation, bucket, stamps, each)
    }

    fn tuples_towards(
        &self,
        direction: pg_sys::ScanDirection::Type,
        relation: pg_sys::Oid,
        bucket: Option<i16>,
        stamps: Vec<pg_sys::ScanKeyData>,
        mut each: impl FnMut(pg_sys::HeapTuple) -> Result<bool>,
    ) -> Result<()> {
        let mut keys = vec![relation_is(relation)];
        memory::extend(&mut keys, bucket.map(bucket_is).into_iter().chain(stamps));
        let index = if bucket.is_some() { self.by_bucket } else { self.by_stamp };
        // SAFETY: the scan copies the keys; both relations stay open while it runs; tuples are valid until the next one.
        unsafe {
            let scan = pg_sys::systable_beginscan_ordered(
                self.relation,
                index,
                self.snapshot.raw(),
                keys.len() as c_int,
                keys.as_mut_ptr(),
            );
            loop {
                memory::heed();
                let tuple = pg_sys::systable_getnext_ordered(scan, direction);
                if tuple.is_null() {
                    break;
                }
                memory::check()?;
                durable::saw(tuple);
                if !each(tuple)? {
                    break;
                }
            }
            pg_sys::systable_endscan_ordered(scan);
        }
        Ok(())
    }

    /// # Safety
    /// A tuple of snapsync.change, and a column of it.
    unsafe fn value(&self, tuple: pg_sys::HeapTuple, attnum: i16) -> Option<pg_sys::Datum> {
        let mut is_null = false;
        // SAFETY: attnum is a column of snapsync.change; the descriptor is that of the open relation.
        let datum = unsafe { pg_sys::heap_getattr(tuple, i32::from(attnum), (*self.relation).rd_att, &mut is_null) };
        (!is_null).then_some(datum)
    }
}

impl Drop for Log<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: opened in `open`; on an ERROR the resource owner closes them.
            unsafe {
                pg_sys::index_close(self.by_bucket, pg_sys::AccessShareLock as c_int);
                pg_sys::index_close(self.by_stamp, pg_sys::AccessShareLock as c_int);
                pg_sys::table_close(self.relation, pg_sys::AccessShareLock as c_int);
            }
        }
    }
}

/// A transaction that was written in several parts may have several entries of a key, and their images show states that it made
/// itself and changed again before it ended. Whoever may see such a state never did, and must not hear of the row by it. So all of
/// them get the image of the row as the transaction found it, or none where there was no row.
///
/// An entry that begins with what the transaction found is not `inner`. If it has an image, that is the one. If it has none, or there
/// is no such entry because nothing that is synced differed, the image's columns were left alone, and the first image there is
/// shows what was found; unless the transaction inserted the row. That entry may come later: a statement inside another one logs
/// before it.
///
/// The running transaction itself has seen its states, in the pulls between them.
///
/// The entries are all of one key, in order.
fn show_what_was_found(entries: &mut [Logged], running: Option<i64>) {
    for transaction in entries.chunk_by_mut(|a, b| a.stamp == b.stamp) {
        if !transaction.iter().any(|l| l.inner && Some(l.stamp) != running) {
            continue;
        }
        let (mut image, mut inner_image, mut was_there, mut inserted) = (None, None, false, false);
        for entry in transaction.iter() {
            match entry.op {
                Op::Insert => inserted = true,
                Op::Update | Op::Delete if entry.inner => inner_image = inner_image.or_else(|| entry.image.clone()),
                Op::Update | Op::Delete => {
                    image = image.or_else(|| entry.image.clone());
                    was_there = true;
                }
                Op::Reset => {}
            }
            // What is inserted after that was there before.
            was_there |= entry.op == Op::Delete && !inserted;
        }
        for entry in transaction.iter_mut().filter(|l| l.image.is_some()) {
            entry.image = image.clone().or_else(|| inner_image.clone().filter(|_| was_there || !inserted));
        }
    }
}

fn relation_is(relation: pg_sys::Oid) -> pg_sys::ScanKeyData {
    scan_key(column::RELATION, pg_sys::BTEqualStrategyNumber, pg_sys::F_OIDEQ, relation.into_datum())
}

fn stamp_from(from: i64) -> pg_sys::ScanKeyData {
    scan_key(column::STAMP, pg_sys::BTGreaterEqualStrategyNumber, pg_sys::F_INT8GE, from.into_datum())
}

fn stamp_is(stamp: i64) -> pg_sys::ScanKeyData {
    scan_key(column::STAMP, pg_sys::BTEqualStrategyNumber, pg_sys::F_INT8EQ, stamp.into_datum())
}

fn bucket_is(bucket: i16) -> pg_sys::ScanKeyData {
    scan_key(column::BUCKET, pg_sys::BTEqualStrategyNumber, pg_sys::F_INT2EQ, bucket.into_datum())
}

fn scan_key(column: i16, strategy: u32, procedure: u32, argument: Option<pg_sys::Datum>) -> pg_sys::ScanKeyData {
    let mut key = pg_sys::ScanKeyData::default();
    // SAFETY: fills `key`; the procedure is a built-in comparison of the column's type (collation "C", as the column).
    unsafe {
        pg_sys::ScanKeyInit(
            &mut key,
            column,
            strategy as u16,
            procedure.into(),
            argument.unwrap_or(pg_sys::Datum::null()),
        )
    };
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each entry as `(stamp, op byte, image)`, all of one key; the images that are left, 0 for none.
    fn images(entries: &[(i64, u8, usize)]) -> Vec<usize> {
        let entry = |(ord, (stamp, byte, image)): (usize, &(i64, u8, usize))| {
            let (op, inner) = Op::from_byte(*byte).expect("an op");
            let image = (*image > 0).then(|| Image::numbered(*image as u64));
            let (key, ord, origin, touched) = ("k".to_string(), ord as i32, None, None);
            Logged { stamp: *stamp, ord, op, inner, key, image, origin, touched, as_sent: false }
        };
        let mut entries: Vec<Logged> = entries.iter().enumerate().map(entry).collect();
        show_what_was_found(&mut entries, Some(100));
        entries.iter().map(|l| l.image.as_ref().map_or(0, |i| i.number() as usize)).collect()
    }

    #[test]
    fn a_row_made_by_the_transaction_has_no_image() {
        assert_eq!(images(&[(1, b'I', 0), (1, b'u', 7), (1, b'd', 8)]), [0, 0, 0]);
        // A statement inside another one logs first.
        assert_eq!(images(&[(1, b'u', 7), (1, b'I', 0)]), [0, 0]);
    }

    #[test]
    fn a_row_that_was_there_has_the_image_of_then() {
        assert_eq!(images(&[(1, b'U', 7), (1, b'u', 8), (1, b'd', 9)]), [7, 7, 7]);
        assert_eq!(images(&[(1, b'u', 8), (1, b'U', 7)]), [7, 7]);
        assert_eq!(images(&[(1, b'D', 7), (1, b'I', 0), (1, b'u', 8)]), [7, 0, 7]);
    }

    #[test]
    fn a_first_change_without_image_left_its_columns_alone() {
        assert_eq!(images(&[(1, b'U', 0), (1, b'u', 0), (1, b'd', 8), (1, b'u', 9)]), [0, 0, 8, 8]);
        assert_eq!(images(&[(1, b'd', 8), (1, b'U', 0)]), [8, 0]);
        // Or there was nothing to log of it.
        assert_eq!(images(&[(1, b'd', 8)]), [8]);
        assert_eq!(images(&[(1, b'd', 8), (1, b'I', 0), (1, b'u', 9)]), [8, 0, 8]);
    }

    #[test]
    fn transactions_stand_each_for_itself() {
        assert_eq!(images(&[(1, b'U', 7), (2, b'I', 0), (2, b'u', 8), (3, b'D', 9)]), [7, 0, 0, 9]);
        assert_eq!(images(&[(1, b'U', 7), (1, b'U', 8)]), [7, 8]);
        assert_eq!(images(&[(99, b'I', 0), (99, b'u', 7), (100, b'I', 0), (100, b'u', 8)]), [0, 0, 0, 8]);
    }
}
