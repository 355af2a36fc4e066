//! Whether a user's view of a collection moved without its rows changing, and whether he could see rows that are gone.
//!
//! Both need the tables that the collection's policies read (`access.rs`), as they were. For a *grant* (a membership) a
//! change that concerns the caller resets what hangs on it for him. For a *parent* (a project) only an update of the
//! columns that policies read does; its deleted rows are put back while old rows of its children are judged, because a
//! cascade takes both at once.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::rc::Rc;

use pgrx::pg_sys;

use crate::collections::catalog::{self, Access, Collection};
use crate::log::change::{Image, Op};
use crate::log::read::{Entries, Log, Scopes};
use crate::policies::access::{self, Concerns};
use crate::policies::owned::{self, Purpose};
use crate::server::error::Result;
use crate::server::{pg, subxact};
use crate::sight::policy::{self, Judge, Shadow};

/// What happened since a cursor, as one user sees it. Lives as long as one pull or push.
pub struct Reach<'a> {
    from: i64,
    snapshot: &'a pg::ActiveSnapshot,
    /// Opened when it is first read.
    log: Option<Log<'a>>,
    entries: HashMap<u32, Rc<Entries>>,
    reset: HashMap<u32, bool>,
    /// By reading and read table.
    concerned: HashMap<(u32, u32), bool>,
    /// Tables whose deleted rows are being judged: to find a circle of policies.
    judging: HashSet<u32>,
}

impl<'a> Reach<'a> {
    pub fn since(from: i64, snapshot: &'a pg::ActiveSnapshot) -> Self {
        Reach {
            from,
            snapshot,
            log: None,
            entries: HashMap::new(),
            reset: HashMap::new(),
            concerned: HashMap::new(),
            judging: HashSet::new(),
        }
    }

    /// Must the caller's copy of this collection be replaced: has the log no answer, or did the caller's access change? A change of
    /// access propagates: if a table's visibility changed, so did that of every table whose policies read it. With scopes, only
    /// entries in these are read here.
    pub fn moved(&mut self, collection: &Rc<Collection>, scoped: bool) -> Result<bool> {
        let mut open = vec![Rc::clone(collection)];
        let mut seen: HashSet<u32> = HashSet::new();
        while let Some(table) = open.pop() {
            if !seen.insert(table.relation.to_u32()) {
                continue;
            }
            if table.due || self.was_reset(&table, scoped && table.relation == collection.relation)? {
                return Ok(true);
            }
            // Access tables also tell when `scope_values` gives other scopes, which it does to those whom policies spare too.
            let scoped = table.scope_values.is_some() && !pg::bypasses_policies();
            if !pg::rls_active(table.relation) && !scoped {
                continue;
            }
            for access in &table.access {
                if access.untracked {
                    return Ok(true);
                }
                let Some(read) = catalog::tracked(access.relation)? else { return Ok(true) };
                let edge = (table.relation.to_u32(), read.relation.to_u32());
                let concerned = match self.concerned.get(&edge) {
                    Some(&known) => known,
                    None => {
                        let found = self.is_concerned(&read, access, table.relation)?;
                        self.concerned.insert(edge, found);
                        found
                    }
                };
                if concerned {
                    return Ok(true);
                }
                open.push(read);
            }
        }
        Ok(false)
    }

    /// The caller has looked for resets of this collection since the cursor, and there are none: to find that out here takes all entries.
    pub fn was_not_reset(&mut self, collection: &Collection) {
        self.reset.insert(collection.relation.to_u32(), false);
    }

    /// Is there a reset entry? (Those concern every scope.)
    fn was_reset(&mut self, table: &Collection, scoped: bool) -> Result<bool> {
        if let Some(&known) = self.reset.get(&table.relation.to_u32()) {
            return Ok(known);
        }
        let reset = if scoped {
            self.entries_in(table.relation, &[])?.was_reset()
        } else {
            self.entries(table.relation)?.was_reset()
        };
        self.reset.insert(table.relation.to_u32(), reset);
        Ok(reset)
    }

    /// The entries of a table since the cursor.
    pub fn entries(&mut self, relation: pg_sys::Oid) -> Result<Rc<Entries>> {
        if let Some(known) = self.entries.get(&relation.to_u32()) {
            return Ok(Rc::clone(known));
        }
        let read = Rc::new(self.read(relation, Scopes::All)?);
        self.entries.insert(relation.to_u32(), Rc::clone(&read));
        Ok(read)
    }

    /// Those in these scopes.
    pub fn entries_in(&mut self, relation: pg_sys::Oid, scopes: &[String]) -> Result<Entries> {
        self.read(relation, Scopes::Only(scopes))
    }

    fn read(&mut self, relation: pg_sys::Oid, scopes: Scopes) -> Result<Entries> {
        let log = match &mut self.log {
            Some(log) => log,
            none => none.insert(Log::open(self.snapshot)?),
        };
        log.since(relation, self.from, scopes)
    }

    /// Did this access table of `reader` change in a way that moves the caller's view of what hangs on it?
    fn is_concerned(&mut self, table: &Rc<Collection>, access: &Access, reader: pg_sys::Oid) -> Result<bool> {
        let entries = self.entries(table.relation)?;
        if entries.was_reset() {
            return Ok(true);
        }
        let mut asked = None;
        let mut scratch = pg::Scratch::new(c"snapsync access");
        let (mut batch, mut row) = (AccessBatch::default(), AccessRow::default());
        let mut concerned = false;
        entries.each(&mut |key, changes| {
            if row.id != key {
                row = AccessRow { id: key.to_string(), ..AccessRow::default() };
            }
            for entry in changes {
                row.images.extend(entry.image.clone());
                row.counts |= match entry.op {
                    Op::Update => entry.image.is_some(),
                    // The same key again is another row to those that hang on it.
                    Op::Insert => !access.parent || row.deleted,
                    Op::Delete | Op::Reset => !access.parent,
                };
                row.deleted |= entry.op == Op::Delete;
            }
            if row.counts {
                batch.add(&row.id, &mut row.images);
            }
            if batch.is_full() {
                concerned = self.concerns_caller(&mut asked, &mut scratch, &mut batch, table, access, reader)?;
            }
            Ok(!concerned)
        })?;
        Ok(concerned || self.concerns_caller(&mut asked, &mut scratch, &mut batch, table, access, reader)?)
    }

    /// Is a row of these, as it was or as it is, one that concerns the caller?
    fn concerns_caller(
        &mut self,
        asked: &mut Option<Asked>,
        scratch: &mut pg::Scratch,
        batch: &mut AccessBatch,
        table: &Rc<Collection>,
        access: &Access,
        reader: pg_sys::Oid,
    ) -> Result<bool> {
        if batch.ids.is_empty() {
            return Ok(false);
        }
        let asked = match asked {
            Some(asked) => asked,
            none => none.insert(scratch.outside(|| self.ask(table, access, reader))?),
        };
        let Asked::Judges(judges) = asked else { return Ok(true) };
        let ids: Vec<&str> = batch.ids.iter().map(String::as_str).collect();
        for judge in judges {
            let of_past = judge.of(&batch.images)?.is_none_or(|seen| seen.contains(&true));
            if of_past || judge.any_present(&ids)? != Some(false) {
                return Ok(true);
            }
        }
        *batch = AccessBatch::default();
        scratch.reset();
        Ok(false)
    }

    /// Who tells whether changes of this access table concern the caller.
    fn ask(&mut self, table: &Rc<Collection>, read: &Access, reader: pg_sys::Oid) -> Result<Asked> {
        Ok(match &read.concerns {
            Concerns::Everybody => Asked::Everybody,
            Concerns::WhoSees if !pg::rls_active(table.relation) => Asked::Everybody,
            Concerns::WhoSees => match self.judge(table)? {
                Some(judge) => Asked::Judges(vec![judge]),
                None => Asked::Everybody,
            },
            Concerns::Satisfying { .. } if !access::may_judge_all(reader, table.relation) => Asked::Everybody,
            Concerns::Satisfying { trees, texts, calls } => {
                let mut judges: Vec<Judge> = trees.iter().map(|tree| Judge::by_condition(table, tree)).collect();
                for text in texts {
                    match condition_of(table, text, calls, reader)? {
                        Some(tree) => judges.push(Judge::by_condition(table, &tree)),
                        None => return Ok(Asked::Everybody),
                    }
                }
                Asked::Judges(judges)
            }
        })
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
        synced(&judge, collection, images, scopes)
    }

    /// Who tells which old rows of this table the caller could see, in the company of others that are gone. None when that cannot be
    /// told.
    pub fn judge(&mut self, collection: &Rc<Collection>) -> Result<Option<Judge>> {
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
                match self.shadow(table, access.whole)? {
                    Told::Cannot => return Ok(None),
                    Told::Nothing => {}
                    Told::Gone(shadow) => shadows.push(shadow),
                }
            }
        }
        Ok(Judge::by_policies(collection, shadows))
    }

    /// The rows of a parent table that are gone and that the caller could see.
    fn shadow(&mut self, table: Rc<Collection>, whole: bool) -> Result<Told> {
        let entries = self.entries(table.relation)?;
        if table.image.is_empty() {
            return Ok(Told::Nothing);
        }
        let mut gone = Gone::default();
        let mut scratch = pg::Scratch::new(c"snapsync parents");
        let mut told = true;
        entries.each(&mut |_, changes| {
            gone.batch.extend(changes.iter().filter(|e| e.op == Op::Delete).filter_map(|e| e.image.clone()));
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
        let Some(could_see) = judge.of(&gone.batch)? else { return Ok(false) };
        gone.seen.extend(gone.batch.drain(..).zip(could_see).filter(|(_, s)| *s).map(|(image, _)| image));
        scratch.reset();
        Ok(true)
    }
}

/// So many images are judged at a time, and so many bytes of them.
pub const BATCH: usize = 1_000;
pub const BATCH_BYTES: usize = 4 << 20;

/// Changed rows of an access table.
#[derive(Default)]
struct AccessBatch {
    ids: Vec<String>,
    images: Vec<Image>,
    bytes: usize,
}

impl AccessBatch {
    fn add(&mut self, id: &str, images: &mut Vec<Image>) {
        if self.ids.last().is_none_or(|last| last != id) {
            self.ids.push(id.to_string());
        }
        self.bytes += id.len() + images.iter().map(Image::size).sum::<usize>();
        self.images.append(images);
    }

    fn is_full(&self) -> bool {
        self.ids.len() + self.images.len() >= BATCH || self.bytes >= BATCH_BYTES
    }
}

/// What happened to one row of an access table, as far as it was read.
#[derive(Default)]
struct AccessRow {
    id: String,
    images: Vec<Image>,
    counts: bool,
    deleted: bool,
}

/// Who tells whether changes concern the caller.
enum Asked {
    Everybody,
    Judges(Vec<Judge>),
}

/// Rows of a parent table that are gone.
#[derive(Default)]
struct Gone {
    judge: Option<Judge>,
    batch: Vec<Image>,
    seen: Vec<Image>,
}

enum Told {
    /// It cannot be told which ones the caller could see.
    Cannot,
    /// None.
    Nothing,
    Gone(Shadow),
}

/// The condition that an owner has given in `access_tables` or `scope_values` for rows of this table, as a tree: nodeToString of an
/// expression over range table entry 1. Its names are looked up with the rights of the owner of `reader`. None where it cannot be read.
fn condition_of(
    table: &Collection,
    text: &str,
    calls: &BTreeSet<String>,
    reader: pg_sys::Oid,
) -> Result<Option<CString>> {
    let read = subxact::run(|| {
        let statement = owned::read(reader, &Purpose::Rows(table.relation), text, calls)?;
        // SAFETY: an analyzed SELECT from one table, which is range table entry 1.
        Ok(unsafe { CStr::from_ptr(pg_sys::nodeToString((*(*statement.tree()).jointree).quals.cast())).to_owned() })
    });
    match read {
        Ok(condition) => Ok(Some(condition)),
        Err(e) if subxact::is_transient(&e) => Err(e),
        Err(_) => Ok(None),
    }
}

/// For each image: is it one that this judge lets the caller see, in these scopes and not soft-deleted?
pub fn synced(
    judge: &Judge,
    collection: &Collection,
    images: &[Image],
    scopes: Option<&[String]>,
) -> Result<Option<Vec<bool>>> {
    let in_question: Vec<usize> =
        (0..images.len()).filter(|&i| policy::is_synced(collection, scopes, &images[i])).collect();
    let asked: Vec<Image> = in_question.iter().map(|&i| images[i].clone()).collect();
    let Some(seen) = judge.of(&asked)? else { return Ok(None) };
    let mut all = vec![false; images.len()];
    in_question.into_iter().zip(seen).for_each(|(i, seen)| all[i] = seen);
    Ok(Some(all))
}
