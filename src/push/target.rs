//! One collection of a push: its rows as the payload has them, and which of their columns are written.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use pgrx::pg_sys;

use super::payload::{Group, IdField, Plan, RawCollection, Record, Source, TableFacts};
use crate::collections::catalog::{Collection, Column};
use crate::collections::facts::{Facts, INSERT};
use crate::collections::tombstone;
use crate::server::error::{Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::pg::{self, Privilege};
use crate::values::conflict::ConflictPolicy;
use crate::values::device::Device;
use crate::values::dialect::Dialect;

mod blame;
mod columns;
mod decode;
pub mod moved;
mod spelling;
mod stored;

pub use columns::{json_arg, Columns};
use spelling::KeyForm;
pub use stored::Stored;

/// What a row of the Drift client says of the installation that it comes from.
const INSTANCE: &str = "instance_id";

pub struct Target<'a> {
    /// The collection's name as the client wrote it.
    pub asked: &'a str,
    pub collection: Rc<Collection>,
    pub plan: Plan<'a>,
    pub dialect: Dialect,
    /// Whose times these are.
    pub device: Device,
    /// These rows are what a conflict function made of two: they are written without asking again.
    pub settled: bool,
    /// The records by the columns that are written where the row exists already.
    pub updates: Vec<Group<'a>>,
    /// The client that sent these rows may ask later which of them were stored as it sent them.
    pub echoes: bool,
    /// The records that name columns which are not synced, where they are to be reported.
    pub misfits: HashMap<String, SyncError>,
    /// Where each id stands in the payload.
    sources: OnceCell<HashMap<String, Source>>,
    /// The number of each record's group in `updates`.
    update_groups: OnceCell<Vec<u32>>,
    /// The ids that were sent otherwise, by what the server makes of them.
    spellings: OnceCell<HashMap<String, String>>,
}

impl<'a> Target<'a> {
    pub fn resolve(
        raw: &'a RawCollection<'_>,
        collection: Rc<Collection>,
        (dialect, device): (Dialect, Device),
        settled: bool,
        echoes: bool,
    ) -> Result<Target<'a>> {
        let key_columns = collection.key_names();
        let drift = dialect == Dialect::Drift;
        // Whole rows carry what a client cannot write; it is taken off.
        let computed = collection.columns.iter().filter(|c| c.generated || c.identity_always);
        // The Drift client puts it into every row, for a filter of Supabase's; a table need not have it.
        let instance = (drift && collection.column(INSTANCE).is_none()).then_some(INSTANCE);
        let readonly = computed.map(|c| c.name.as_str()).chain(collection.readonly.iter().map(String::as_str));
        let readonly: Vec<&str> = readonly.chain(instance).gather();
        let forms: Vec<KeyForm> = collection.key.iter().map(|k| KeyForm::of(&collection, k)).gather();
        let canonical = |part: usize, text: &str| forms[part].canonical(text);
        let doubtful = |part: usize, text: &str| forms[part].is_doubtful(text);
        // (A flag that is false marks nothing, and is not null.)
        let marks = collection.soft_delete.as_ref().filter(|mark| drift && decode::is_time(mark));
        let numbers: Vec<bool> = collection.key.iter().map(|k| is_number(dialect, &collection, k)).gather();
        let table = TableFacts {
            key_columns: &key_columns,
            readonly: &readonly,
            id_field: id_field(dialect, &collection),
            canonical: Some(&canonical),
            doubtful: Some(&doubtful),
            numbers: &numbers,
            tombstone: marks.map(|mark| &*mark.name),
        };
        let plan = raw.resolve(&table)?;
        let whole = settled || collection.conflict == ConflictPolicy::LastWriteWins;
        let mut changed = ChangedNames::default();
        let updates = plan.regroup(|record, column| whole || changed.has(&plan, record, column));
        Ok(Target {
            asked: raw.name(),
            collection,
            plan,
            dialect,
            device,
            settled,
            updates,
            echoes,
            misfits: HashMap::new(),
            sources: OnceCell::new(),
            update_groups: OnceCell::new(),
            spellings: OnceCell::new(),
        })
    }

    pub fn id_field(&self) -> IdField {
        id_field(self.dialect, &self.collection)
    }

    pub fn is_empty(&self) -> bool {
        self.plan.records.is_empty() && self.plan.deletions.is_empty()
    }

    /// Every column must be one that is synced: a misspelt one would be lost silently. With `report` that is the fault of each
    /// record that has another: an old version of an app goes on sending a column that was dropped.
    pub fn check_columns(&mut self, report: bool) -> Result<()> {
        let known: HashSet<&str> = self.collection.columns.iter().map(|c| c.name.as_str()).gather();
        let mut misfits = HashMap::new();
        for group in &self.plan.groups {
            memory::heed();
            let Some(name) = group.columns.iter().find(|name| !known.contains(*name)) else { continue };
            for row in &group.rows {
                memory::heed();
                let record = &self.plan.records[*row as usize];
                let error = self.no_column(name, record);
                if !report {
                    return Err(error);
                }
                misfits.insert(record.id.to_string(), error);
            }
        }
        self.misfits = misfits;
        Ok(())
    }

    /// Are all rows created ones, of a caller who could tell whether they exist? (A row in `created` that exists is updated.)
    pub fn is_all_new(&self) -> bool {
        self.plan.deletions.is_empty() && self.plan.records.iter().all(|r| r.created) && self.may_read_key()
    }

    /// Can one UPDATE lock all there is in key order, and change it? Only where every row is an update in the same columns that
    /// asks for nothing of the stored row.
    pub fn can_lock_itself(&self) -> bool {
        let collection = &self.collection;
        self.plan.deletions.is_empty()
            && self.plan.records.iter().all(|r| !r.created)
            && matches!(&self.updates[..], [group] if !group.columns.is_empty())
            && collection.conflict != ConflictPolicy::LastWriteWins
            && collection.soft_delete.is_none()
            && collection.from.starts_with("ONLY ")
            && self.may_read_key()
            && pg::may_select(collection.relation, pg_sys::SelfItemPointerAttributeNumber as i16)
            && self.may(Privilege::Update)
    }

    /// All ids, records first.
    pub fn ids(&self) -> Vec<&str> {
        let written = self.plan.records.iter().map(|r| &*r.id);
        written.chain(self.plan.deletions.iter().map(|d| &*d.id)).gather()
    }

    /// The number of a record's group in `updates`.
    pub fn group_of_update(&self, row: u32) -> u32 {
        self.update_groups.get_or_init(|| groups_of(&self.updates, self.plan.records.len()))[row as usize]
    }

    /// Does the record set the mark of deletion, by what it has of it?
    pub fn sets_mark(&self, row: u32) -> bool {
        let Some(mark) = &self.collection.soft_delete else { return false };
        let raw = self.plan.raw(&self.plan.records[row as usize], &mark.name);
        raw.is_some_and(|raw| tombstone::is_set_by(mark, raw))
    }

    /// Does it mark an existing row, where the columns of this group of `updates` are written?
    pub fn marks(&self, row: u32, group: u32) -> bool {
        let mark = self.collection.soft_delete.as_ref();
        let is_written = |mark: &Column| self.updates[group as usize].columns.contains(&mark.name.as_str());
        mark.is_some_and(is_written) && self.sets_mark(row)
    }

    pub fn may(&self, privilege: Privilege) -> bool {
        pg::may(self.collection.relation, privilege)
    }

    /// May policies let the caller insert rows that he does not see then?
    pub fn may_hide_inserted(&self) -> Result<bool> {
        Ok(pg::rls_active(self.collection.relation) && !Facts::of(&self.collection)?.shows_inserted)
    }

    /// Does it depend on more of a stored row than that it is there, what becomes of a created one?
    pub fn weighs_stored(&self) -> bool {
        self.collection.conflict == ConflictPolicy::LastWriteWins || self.collection.soft_delete.is_some()
    }

    /// May a rule have something else done in place of this (`facts::INSERT`, ...)?
    pub fn is_ruled(&self, event: i16) -> Result<bool> {
        Ok(Facts::of(&self.collection)?.instead & event != 0)
    }

    /// May a trigger or a rule have an INSERT do nothing, or something else, of which the caller could see what stands?
    pub fn may_suppress_inserts(&self) -> Result<bool> {
        Ok(Facts::of(&self.collection)?.vetoes & INSERT != 0 && self.may_read_key())
    }

    pub fn may_read_key(&self) -> bool {
        self.collection.key.iter().all(|k| pg::may_select(self.collection.relation, k.attnum))
    }

    /// The columns that the client changed in a record: `_changed`, or those sent.
    pub fn changed_columns(&self, record: &Record<'a>) -> Vec<&'a str> {
        let mut changed = ChangedNames::default();
        let fields = self.plan.fields(record).map(|(name, _)| name);
        fields.filter(|name| changed.has(&self.plan, record, name)).gather()
    }
}

/// Which columns of an updated record are to be written. WatermelonDB sends whole rows and says in `_changed` what of them the
/// user changed: the rest is what the client last saw, perhaps without the digits that JavaScript cannot hold. A created
/// record, and one that says nothing, counts with all it has.
#[derive(Default)]
struct ChangedNames<'p> {
    /// Of the record that was asked about last: a client may send thousands of names with thousands of columns.
    names: HashSet<&'p str>,
    of: Option<usize>,
}

impl<'p> ChangedNames<'p> {
    fn has<'a>(&mut self, plan: &'p Plan<'a>, record: &Record<'a>, column: &str) -> bool {
        match plan.changed(record) {
            Some(changed) if !record.created && !changed.is_empty() => {
                let of = Some(changed.as_ptr() as usize);
                if self.of != of {
                    self.names = changed.iter().map(|name| &**name).gather();
                    self.of = of;
                }
                self.names.contains(column)
            }
            _ => true,
        }
    }
}

/// By row: the number of its group.
pub fn groups_of(groups: &[Group], rows: usize) -> Vec<u32> {
    let mut of = memory::filled(0, rows);
    for (number, group) in (0..).zip(groups) {
        group.rows.iter().for_each(|row| of[*row as usize] = number);
    }
    of
}

/// What a record's field `id` is.
fn id_field(dialect: Dialect, collection: &Collection) -> IdField {
    let own_id = collection.column("id").is_some() && !collection.key_is_id();
    match dialect {
        Dialect::Postgrest if own_id => IdField::Column,
        _ => IdField::WireId,
    }
}

/// Does a pull write this column of the key as a number? Wire ids are texts.
fn is_number(dialect: Dialect, collection: &Collection, key: &Column) -> bool {
    let numbers = [pg_sys::INT2OID, pg_sys::INT4OID, pg_sys::INT8OID, pg_sys::NUMERICOID];
    numbers.contains(&key.facts.base) && !(dialect.has_wire_ids() && collection.key_is_id())
}
