//! Whether a user's view of a collection moved without its rows changing, and whether he could see rows that are gone.
//!
//! Both need the tables that the collection's policies read (`access.rs`), as they were. For a *grant* (a membership) a
//! change that concerns the caller resets what hangs on it for him. For a *parent* (a project) only an update of the
//! columns that policies read does; its deleted rows are put back while old rows of its children are judged, because a
//! cascade takes both at once.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use crate::collections::catalog::{self, Access, Collection};
use crate::log::change::{Image, Op};
use crate::log::read::{Entries, Log};
use crate::policies::access::Concerns;
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::server::pg;
use crate::sight::cause::Cause;
use crate::sight::ends::{Ends, Unjudged};
use crate::sight::policy::{self, Judge, Shadow};
use crate::values::spans::Spans;
use crate::values::token::ParentsGone;

mod batch;
mod concerning;
mod part;
mod reading;

use concerning::Question;
use part::AccessPart;
pub use part::ReadTable;
use reading::Reads;

/// What happened since a cursor, as one user sees it. Lives as long as one pull or push.
pub struct Reach<'a> {
    from: i64,
    snapshot: &'a pg::ActiveSnapshot,
    /// Opened when it is first read.
    log: Option<Log<'a>>,
    entries: HashMap<u32, Rc<Entries>>,
    /// Of tables, or these parts of them, what says who sees what.
    of_access: HashMap<(u32, Option<Vec<String>>), Rc<Entries>>,
    reset: HashMap<u32, bool>,
    /// By reading table, and the place among what it reads.
    concerned: HashMap<(u32, usize), (Rc<Ends>, AccessPart)>,
    answers: HashMap<Question, Rc<Ends>>,
    /// By read table, and what counts of it.
    unjudged: HashMap<(u32, Unjudged), Rc<Ends>>,
    /// Tables whose deleted rows are being judged: to find a circle of policies.
    judging: HashSet<u32>,
    /// So many more may be judged by what is left of them, here and in all that this one asks (see `judge`).
    left: Rc<Cell<usize>>,
    /// What of deleted parents need not be read again.
    told: Option<ParentsGone>,
    /// When parents went that the caller could see, and when their keys came again: of all that are judged here, and in all that this one asks.
    gone: Rc<RefCell<Spans>>,
    /// New parents count as if their keys came again.
    births: bool,
}

impl<'a> Reach<'a> {
    pub fn since(from: i64, snapshot: &'a pg::ActiveSnapshot) -> Self {
        Reach {
            from,
            snapshot,
            log: None,
            entries: HashMap::new(),
            of_access: HashMap::new(),
            reset: HashMap::new(),
            concerned: HashMap::new(),
            answers: HashMap::new(),
            unjudged: HashMap::new(),
            judging: HashSet::new(),
            left: Rc::new(Cell::new(LATER)),
            told: None,
            gone: Rc::default(),
            births: false,
        }
    }

    /// The same since a later stamp.
    pub fn after(&self, stamp: i64) -> Reach<'a> {
        Reach { told: self.told.clone(), gone: Rc::clone(&self.gone), ..Reach::since(stamp + 1, self.snapshot) }
    }

    /// For judges of old rows: nobody asks whether access moved. With what was found out of deleted parents under an earlier snapshot,
    /// if access did not move since then.
    pub fn knowing(self, told: Option<ParentsGone>) -> Reach<'a> {
        Reach { told, ..self }
    }

    /// What lies before is known to have moved nothing, but not which keys it deleted: so a new parent that the caller sees may have the key of
    /// one that he did not.
    pub fn with_births(self) -> Reach<'a> {
        Reach { births: true, ..self }
    }

    /// Of all judges that were made: which parents went that the caller could see, with stamps below this one, of which the snapshot shows all.
    pub fn gone_below(&self, below: i64) -> ParentsGone {
        ParentsGone { spans: self.gone.borrow().below(below), below }
    }

    /// Did the caller's access change, or has the log no answer?
    pub fn moved(&mut self, collection: &Rc<Collection>, scoped: bool) -> Result<bool> {
        Ok(!matches!(self.movement(collection, scoped)?, Movement::None { .. }))
    }

    /// What happened to the caller's access to this collection. A change of access propagates: if a table's visibility changed, so did
    /// that of every table whose policies read it. With scopes, only entries in these are read here.
    pub fn movement(&mut self, collection: &Rc<Collection>, scoped: bool) -> Result<Movement> {
        let mut open = vec![Rc::clone(collection)];
        let mut seen: HashSet<u32> = HashSet::new();
        let mut ends = Ends::default();
        let (mut readings, mut tables) = (Vec::new(), Vec::new());
        while let Some(table) = open.pop() {
            if !seen.insert(table.relation.to_u32()) {
                continue;
            }
            let itself = table.relation == collection.relation;
            if table.due {
                return Ok(Movement::Untold(Cause::Unsettled));
            }
            // Of an access table that has a scope no more is read than must be; of another one all is read for whom its changes concern.
            let reads = match (itself, if itself { scoped } else { table.logged_scope.is_some() }) {
                (_, true) => Reads::NoScope,
                (true, false) => Reads::Rows,
                (false, false) => Reads::Access,
            };
            if self.was_reset(&table, reads)? {
                return Ok(Movement::Untold(if itself { Cause::Reset } else { Cause::AccessReset }));
            }
            // Access tables also tell when `scope_values` gives other scopes, which it does to those whom policies spare too.
            let scoped = table.scope_values.is_some() && !pg::bypasses_policies();
            if !pg::rls_active(table.relation) && !scoped {
                continue;
            }
            for (at, access) in table.access.iter().enumerate() {
                let read = if access.untracked { None } else { catalog::tracked(access.relation)? };
                let Some(read) = read else { return Ok(Movement::Untold(Cause::Untracked)) };
                let edge = (table.relation.to_u32(), at);
                let (concerning, part) = match self.concerned.get(&edge) {
                    Some(known) => known.clone(),
                    None => {
                        let part = AccessPart::of(&read, access, &table, self)?;
                        let found = self.concerning(&read, access, table.relation, &part)?;
                        self.concerned.insert(edge, (Rc::clone(&found), part.clone()));
                        (found, part)
                    }
                };
                ends.add_all(&concerning);
                tables.push(ReadTable { table: Rc::clone(&read), part });
                let moves = !concerning.is_empty();
                readings.push(VisitedReading { reader: Rc::clone(&table), at, read: Rc::clone(&read), moves });
                open.push(read);
            }
        }
        let tables = ReadTable::merged(tables);
        if ends.is_empty() {
            return Ok(Movement::None { tables });
        }
        let moved = moved(&readings);
        if readings.iter().any(|r| r.access().reading.hidden && (r.moves || moved.contains(&r.read.relation.to_u32())))
        {
            return Ok(Movement::Untold(Cause::Function));
        }
        for reading in &readings {
            self.add_unjudged(reading, &moved, &mut ends)?;
        }
        // Its pulls have seen states between its statements, which are nobody else's.
        if ends.has_own() {
            return Ok(Movement::Untold(Cause::Overlap));
        }
        Ok(Movement::Access { stamps: ends.stamps(), tables })
    }

    /// Adds what could not be asked about, now that the caller's view moved at all.
    ///
    /// A new parent moves nobody's view of rows that were there. But what was so before and after it came has to be told apart: of any
    /// parent, for whom it concerned then cannot be asked now. No more can it be asked of any row whose change concerns those who see it, where
    /// that moved, too: what showed the row then may be gone.
    fn add_unjudged(&mut self, reading: &VisitedReading, moved: &HashSet<u32>, ends: &mut Ends) -> Result<()> {
        let access = reading.access();
        let any =
            matches!(access.reading.concerns, Concerns::WhoSees) && moved.contains(&reading.read.relation.to_u32());
        let counts = match (any, access.parent) {
            (true, false) => Unjudged::All,
            (true, true) => Unjudged::OfParent,
            (false, true) => Unjudged::Births,
            (false, false) => return Ok(()),
        };
        let key = (reading.read.relation.to_u32(), counts);
        let found = match self.unjudged.get(&key) {
            Some(known) => Rc::clone(known),
            None => {
                let entries = self.entries_of_access(reading.read.relation, None)?;
                let found = Rc::new(counts.of(&entries)?);
                self.unjudged.insert(key, Rc::clone(&found));
                found
            }
        };
        ends.add_all(&found);
        Ok(())
    }

    /// For each image of a row of this collection: could the caller see it, in these scopes and not soft-deleted? None when
    /// that cannot be told.
    pub fn visible(
        &mut self,
        collection: &Rc<Collection>,
        images: &[Image],
        scopes: Option<&[String]>,
    ) -> Result<Option<Vec<bool>>> {
        if images.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let Some(judge) = self.judge(collection)? else { return Ok(None) };
        policy::synced(collection, images, scopes, |asked| judge.of(asked))
    }

    /// Who tells which old rows of this table the caller could see, in the company of others that are gone. None when that cannot be
    /// told.
    ///
    /// A parent that was deleted with stamp d is company to states that ended with d or before: what hung on its key had to go, or to change, with it or
    /// before. The key may come again with a later stamp e, as a row that the caller never sees. What hangs on that one has seen it committed, or came with
    /// it, so states of that end after e; and between d and e nothing hangs on the key. So with each such e begins another judge, for what
    /// ended after it: by the parents that went after it, which all that could be company to these did. Up to the first e all that are gone serve.
    pub fn judge(&mut self, collection: &Rc<Collection>) -> Result<Option<Judge>> {
        let mut again = BTreeSet::new();
        let Some(mut judge) = self.judge_before(collection, &mut again)? else { return Ok(None) };
        if again.len() > AGAIN {
            return Ok(None);
        }
        for stamp in again {
            memory::heed();
            let left = self.left.get();
            if left == 0 {
                return Ok(None);
            }
            self.left.set(left - 1);
            let mut since = Reach { left: Rc::clone(&self.left), ..self.after(stamp) };
            let Some(later) = since.judge_before(collection, &mut BTreeSet::new())? else { return Ok(None) };
            judge.add_later(stamp, later);
        }
        Ok(Some(judge))
    }

    /// Of what ended before parents' keys came again; adds when they did.
    fn judge_before(&mut self, collection: &Rc<Collection>, again: &mut BTreeSet<i64>) -> Result<Option<Judge>> {
        let mut shadows = Vec::new();
        if pg::rls_active(collection.relation) {
            // Rows of other tables that are gone only matter where rows hang on them: a deleted grant that concerns the caller
            // has moved him.
            let parents = collection.access.iter().filter(|a| a.parent && a.relation != collection.relation);
            for access in parents {
                if access.untracked {
                    return Ok(None);
                }
                let Some(table) = catalog::tracked(access.relation)? else { return Ok(None) };
                match self.shadow(table, access.whole, again)? {
                    Told::Cannot => return Ok(None),
                    Told::Nothing => {}
                    Told::Gone(shadow) => shadows.push(shadow),
                }
            }
        }
        Ok(Judge::by_policies(collection, shadows))
    }

    /// The same of old rows that came to be after this stamp: what was gone by then is no company of theirs.
    pub fn judge_after(&self, stamp: i64, collection: &Rc<Collection>) -> Result<Option<Judge>> {
        self.after(stamp).judge(collection)
    }

    /// The rows of a parent table that are gone and that the caller could see; adds when their keys came again.
    fn shadow(&mut self, table: Rc<Collection>, whole: bool, again: &mut BTreeSet<i64>) -> Result<Told> {
        let entries = self.entries_of_access(table.relation, None)?;
        if table.image.is_empty() {
            return Ok(Told::Nothing);
        }
        let mut gone = Gone::default();
        let mut scratch = pg::Scratch::new(c"snapsync parents");
        let mut told = true;
        entries.each(&mut |key, changes| {
            let deleted = changes.iter().filter(|e| e.op == Op::Delete).filter_map(|e| e.image.clone());
            memory::extend(&mut gone.batch, deleted.map(|image| (key.to_string(), image)));
            if gone.batch.len() >= BATCH {
                told = self.see(&table, whole, &mut gone, &mut scratch)?;
            }
            Ok(told)
        })?;
        if !told || !self.see(&table, whole, &mut gone, &mut scratch)? {
            return Ok(Told::Cannot);
        }
        drop(scratch);
        if gone.seen.is_empty() {
            return Ok(Told::Nothing);
        }
        let mut last = None::<String>;
        let mut noted = self.gone.borrow_mut();
        entries.each(&mut |key, changes| {
            for entry in changes.iter().filter(|entry| !entry.is_notice()) {
                if entry.op == Op::Insert && last.take_if(|deleted| deleted == key).is_some() {
                    again.insert(entry.stamp);
                    noted.add(entry.stamp);
                }
                if entry.op == Op::Delete && gone.keys.contains(&(key.to_string(), entry.stamp)) {
                    last = Some(key.to_string());
                    noted.add(entry.stamp);
                }
            }
            Ok(again.len() <= AGAIN)
        })?;
        Ok(Shadow::of(table, &gone.seen)?.map_or(Told::Cannot, Told::Gone))
    }

    /// Moves those of a batch that the caller could see to `seen`; false when that cannot be told.
    fn see(&mut self, table: &Rc<Collection>, whole: bool, gone: &mut Gone, scratch: &mut pg::Scratch) -> Result<bool> {
        if gone.batch.is_empty() {
            return Ok(true);
        }
        // A row that comes out of a union is not of the table's type, and has none of what only stored rows have.
        if whole {
            return Ok(false);
        }
        if gone.judge.is_none() {
            // In a circle of policies nothing can be said of rows that are gone.
            if !self.judging.insert(table.relation.to_u32()) {
                return Ok(false);
            }
            let made = scratch.outside(|| self.judge(table));
            self.judging.remove(&table.relation.to_u32());
            gone.judge = made?;
        }
        let Some(judge) = &gone.judge else { return Ok(false) };
        let images: Vec<Image> = gone.batch.iter().map(|(_, image)| image.clone()).gather();
        let Some(could_see) = judge.of(&images)? else { return Ok(false) };
        for ((key, image), _) in gone.batch.drain(..).zip(could_see).filter(|(_, seen)| *seen) {
            memory::extend(&mut gone.keys, Some((key, image.until)));
            memory::push(&mut gone.seen, image)?;
        }
        scratch.reset();
        Ok(true)
    }
}

/// So many images are judged at a time, and so many bytes of them.
pub const BATCH: usize = 1_000;
pub const BATCH_BYTES: usize = 4 << 20;

/// Of parents that the caller could see so many keys may come again as rows that do not concern him, before old rows cannot be judged.
const AGAIN: usize = 16;

/// And so many judges are made for that, at all depths together: parents of parents come again, too.
const LATER: usize = 64;

/// A table whose policies, or `scope_values`, read another one.
struct VisitedReading {
    reader: Rc<Collection>,
    /// The place among what it reads.
    at: usize,
    read: Rc<Collection>,
    /// Changes of that one concern the caller.
    moves: bool,
}

impl VisitedReading {
    fn access(&self) -> &Access {
        &self.reader.access[self.at]
    }
}

/// The tables of which the caller may have come to see other rows.
fn moved(readings: &[VisitedReading]) -> HashSet<u32> {
    let mut moved = HashSet::new();
    loop {
        let before = moved.len();
        for reading in readings {
            if reading.moves || moved.contains(&reading.read.relation.to_u32()) {
                moved.insert(reading.reader.relation.to_u32());
            }
        }
        if moved.len() == before {
            return moved;
        }
    }
}

/// Rows of a parent table that are gone.
#[derive(Default)]
struct Gone {
    judge: Option<Judge>,
    /// With their keys.
    batch: Vec<(String, Image)>,
    seen: Vec<Image>,
    /// The keys of these, and when they were deleted.
    keys: HashSet<(String, i64)>,
}

/// What happened to a user's access since a cursor.
pub enum Movement {
    /// Nothing, by these tables.
    None { tables: Vec<ReadTable> },
    /// Something that his copy must be replaced for.
    Untold(Cause),
    /// Rows changed that decide what he sees, with these stamps, in some of these tables.
    Access { stamps: Vec<i64>, tables: Vec<ReadTable> },
}

enum Told {
    /// It cannot be told which ones the caller could see.
    Cannot,
    /// None.
    Nothing,
    Gone(Shadow),
}
