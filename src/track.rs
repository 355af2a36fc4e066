//! The trigger function `snapsync.track()`: what changed in a row, appended to the journal.
//!
//! It runs once per changed row, so in the usual case there is no SPI, no query and no allocation here beyond the journal's own. What
//! to look at (key, image and scope columns) stands in the trigger's argument, a JSON object that `collections/triggers.rs` writes: the
//! relation cache carries it, invalidates it, and `\d` shows it. Parsed once per relation and backend.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;
use std::rc::Rc;

use pgrx::pg_sys;

use crate::collections::registry;
use crate::collections::triggers::{Spec, ROW_TRIGGER, TRUNCATE_TRIGGER};
use crate::log::change::{Change, New, OldVersion, Op, When};
use crate::log::journal;
use crate::server::error::{code, Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::pg;
use crate::server::session::{Cached, Event};
use crate::server::slot::{self, value, Slot};
use crate::values::wire_id;

mod limit;
mod text;
mod version;

use text::{write_image, write_text, OutputSettings};
use version::{made_by, old, taken_by, Left};

/// A column of the relation that fires, which may be a partition with another column order than the root.
struct TrackedColumn {
    attnum: i16,
    type_oid: pg_sys::Oid,
    output: pg_sys::Oid,
    settings: OutputSettings,
    by_value: bool,
    length: i16,
    /// Can its values nest as deep as whoever writes them likes?
    nests: bool,
    /// There are times with zones of their own in its values.
    zoned: bool,
    /// Its number in the root of the partition tree.
    root_attnum: i16,
    /// `"name":` ready for an image.
    json_key: Vec<u8>,
}

struct Tracker {
    /// The relation that changes are logged under: the root of a partition tree.
    root: pg_sys::Oid,
    key: Vec<TrackedColumn>,
    image: Vec<TrackedColumn>,
    scope: Option<TrackedColumn>,
    /// Synced columns that are neither key nor image: a change in one of them makes an entry.
    rest: Vec<TrackedColumn>,
    /// The largest number of these columns.
    last: i16,
    touched: bool,
    parent: bool,
    /// Is it a tracked table's? (A restore without data leaves triggers behind; and whoever may make triggers may make these.)
    tracked: bool,
}

thread_local! {
    static TRACKERS: Cached<HashMap<(u32, u32), Rc<Tracker>>> = Cached::until(Event::Definition);
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers::default());
}

#[derive(Default)]
struct Buffers {
    key: Vec<u8>,
    new_key: Vec<u8>,
    image: Vec<u8>,
    scope: Vec<u8>,
    new_scope: Vec<u8>,
    parts: Vec<String>,
    touched: Vec<u8>,
}

impl Buffers {
    /// An image may have 16 MB, which are not kept for the rest of the session.
    fn give_back(&mut self) {
        const KEPT: usize = 64 << 10;
        for buffer in [&mut self.key, &mut self.new_key, &mut self.image, &mut self.scope, &mut self.new_scope] {
            if buffer.capacity() > KEPT {
                *buffer = Vec::new();
            }
        }
        if self.parts.capacity() * size_of::<String>() + self.parts.iter().map(String::capacity).sum::<usize>() > KEPT {
            self.parts = Vec::new();
        }
    }
}

/// The trigger function.
///
/// # Safety
/// `fcinfo` is a function call's.
pub unsafe fn track(fcinfo: pg_sys::FunctionCallInfo) -> Result<()> {
    // SAFETY: the context says whether this is a trigger call (CALLED_AS_TRIGGER). If so, the trigger manager keeps
    // relation, trigger and slots valid during the call; which slots are set follows from the event (commands/trigger.h).
    unsafe {
        let context = (*fcinfo).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
            return Err(SyncError::new("39P01", "snapsync.track() was not called by a trigger")
                .hint("Call snapsync.enable('your_table'), which creates the trigger."));
        }
        let data = &*context.cast::<pg_sys::TriggerData>();
        let event = data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK;
        let after = data.tg_event & pg_sys::TRIGGER_EVENT_TIMINGMASK == pg_sys::TRIGGER_EVENT_AFTER;
        let by_row = data.tg_event & pg_sys::TRIGGER_EVENT_ROW != 0;
        // Only then are the slots set that are read below.
        if !after || by_row == (event == pg_sys::TRIGGER_EVENT_TRUNCATE) {
            return Err(SyncError::new("39P01", "snapsync.track() was called by a trigger of the wrong kind")
                .detail("It must fire AFTER each ROW, or AFTER a TRUNCATE statement.")
                .hint("Call snapsync.enable('your_table'), which creates the triggers."));
        }
        let tracker = tracker(data)?;
        if !tracker.tracked {
            return Ok(());
        }
        let replica = pg_sys::SessionReplicationRole == pg_sys::SESSION_REPLICATION_ROLE_REPLICA as i32;
        if replica {
            crate::collections::shape::unenforced::changed_by_replica(tracker.root)?;
        }
        // Without a key to tell rows apart (a table that only policies read) any change may concern anybody.
        if event == pg_sys::TRIGGER_EVENT_TRUNCATE || tracker.key.is_empty() {
            return journal::reset(tracker.root);
        }
        if tracker.parent && replica {
            // Foreign keys are not enforced now: rows that hang on this one may have been there before it, or stay after it.
            let comes_or_goes =
                event != pg_sys::TRIGGER_EVENT_UPDATE || differs(&tracker.key, data.tg_trigslot, data.tg_newslot);
            if comes_or_goes {
                journal::reset(tracker.root)?;
            }
        }
        BUFFERS.with(|buffers| {
            let b = &mut *buffers.borrow_mut();
            let logged = match event {
                pg_sys::TRIGGER_EVENT_INSERT => inserted(&tracker, data, b),
                pg_sys::TRIGGER_EVENT_DELETE => deleted(&tracker, data, b),
                _ => updated(&tracker, data, b),
            };
            b.give_back();
            logged
        })
    }
}

/// # Safety
/// The call's data, for a row of the tracker's relation that was inserted.
unsafe fn inserted(t: &Tracker, data: &pg_sys::TriggerData, b: &mut Buffers) -> Result<()> {
    let new = data.tg_trigslot;
    // SAFETY: `new` is the inserted row (caller).
    unsafe {
        write_key(&t.key, new, &mut b.key, &mut b.parts);
        let scope = write_scope(t, new, &mut b.scope).then_some(b.scope.as_slice());
        if !limit::check(t, new, &mut b.image)? {
            return Ok(());
        }
        let when = When { old: OldVersion::None, command: made_by(data.tg_trigtuple), new: left(t, data, &b.key) };
        journal::append(Change { scope, ..Change::of(t.root, Op::Insert, &b.key, when) })
    }
}

/// # Safety
/// The call's data, for a row of the tracker's relation that was deleted.
unsafe fn deleted(t: &Tracker, data: &pg_sys::TriggerData, b: &mut Buffers) -> Result<()> {
    let row = data.tg_trigslot;
    // SAFETY: `row` is the deleted row (caller).
    unsafe {
        write_key(&t.key, row, &mut b.key, &mut b.parts);
        if !write_image(t, row, &mut b.image) {
            return journal::reset(t.root);
        }
        let scope = write_scope(t, row, &mut b.scope).then_some(b.scope.as_slice());
        let when = When { old: old(data.tg_trigtuple), command: taken_by(data.tg_trigtuple), new: New::Gone };
        journal::append(Change { image: Some(&b.image), scope, ..Change::of(t.root, Op::Delete, &b.key, when) })
    }
}

/// # Safety
/// The call's data, for a row of the tracker's relation that was updated.
unsafe fn updated(t: &Tracker, data: &pg_sys::TriggerData, b: &mut Buffers) -> Result<()> {
    let (row, new) = (data.tg_trigslot, data.tg_newslot);
    // SAFETY: both versions of the row (caller).
    unsafe {
        slot::read(row, t.last);
        slot::read(new, t.last);
        let image_changed = differs(&t.image, row, new);
        let key_changed = differs(&t.key, row, new);
        if !image_changed && !key_changed && !differs(&t.rest, row, new) {
            let command = made_by(data.tg_newtuple);
            journal::fires(command);
            if journal::is_sending(command) {
                write_key(&t.key, row, &mut b.key, &mut b.parts);
                let scope = write_scope(t, new, &mut b.new_scope).then_some(b.new_scope.as_slice());
                journal::stays(t.root, &b.key, scope)?;
            }
            return Ok(());
        }
        write_key(&t.key, row, &mut b.key, &mut b.parts);
        write_touched(t, row, new, &mut b.touched);
        let scope = write_scope(t, new, &mut b.new_scope).then_some(b.new_scope.as_slice());
        let moved = key_changed && {
            write_key(&t.key, new, &mut b.new_key, &mut b.parts);
            b.key != b.new_key
        };
        let key = if moved { &b.new_key } else { &b.key };
        let (old, command) = (old(data.tg_trigtuple), made_by(data.tg_newtuple));
        let when = When { old, command, new: left(t, data, key) };
        let touched = t.touched.then_some(b.touched.as_slice());
        let update = Change { scope, touched, ..Change::of(t.root, Op::Update, &b.key, when) };
        if !image_changed && !key_changed {
            return journal::append(update);
        }
        let scope_before = write_scope(t, row, &mut b.scope).then_some(b.scope.as_slice());
        if !limit::check(t, new, &mut b.image)? {
            return Ok(());
        }
        if !write_image(t, row, &mut b.image) {
            return journal::reset(t.root);
        }
        let image = Some(b.image.as_slice());
        if moved {
            // Another key is another row to every client.
            let gone = Change::of(t.root, Op::Delete, &b.key, When { new: New::Gone, ..when });
            journal::append(Change { image, scope: scope_before, ..gone })?;
            let come = Change::of(t.root, Op::Insert, &b.new_key, When { old: OldVersion::None, ..when });
            return journal::append(Change { scope, ..come });
        }
        journal::append(Change { image, scope_before: Some(scope_before), ..update })
    }
}

/// What has become of the row that a change has made, under this key.
///
/// # Safety
/// The call's data, for a row of the tracker's relation that was inserted or updated.
unsafe fn left(t: &Tracker, data: &pg_sys::TriggerData, key: &[u8]) -> New {
    // SAFETY: see above; what is looked at are versions of rows of the same table.
    unsafe {
        let tuple = if data.tg_newtuple.is_null() { data.tg_trigtuple } else { data.tg_newtuple };
        match Left::of(tuple) {
            Left::Stands => New::Stands,
            Left::Gone => New::Gone,
            Left::Changed(next) => {
                let (mut other, mut parts) = (Vec::new(), Vec::new());
                let there = version::is_there(data.tg_relation, next, |slot| {
                    write_key(&t.key, slot, &mut other, &mut parts);
                    other == key
                });
                if there {
                    New::Changed
                } else {
                    New::Gone
                }
            }
        }
    }
}

/// The numbers of the columns that differ, where the collection's conflict policy needs them.
///
/// # Safety
/// The slots hold two versions of a row of the tracker's relation.
unsafe fn write_touched(t: &Tracker, old: Slot, new: Slot, out: &mut Vec<u8>) {
    out.clear();
    if !t.touched {
        return;
    }
    for column in t.image.iter().chain(&t.rest) {
        // SAFETY: both versions of the row (caller).
        if unsafe { differs(std::slice::from_ref(column), old, new) } {
            memory::append(out, &column.root_attnum.to_ne_bytes());
        }
    }
}

/// Is any of these columns different, byte for byte (as IS DISTINCT FROM would say for a type whose equality is identity)?
///
/// # Safety
/// The slots hold two versions of a row that has these columns.
unsafe fn differs(columns: &[TrackedColumn], old: Slot, new: Slot) -> bool {
    columns.iter().any(|c| {
        // SAFETY: datums of this column's type from both row versions.
        unsafe {
            match (value(old, c.attnum), value(new, c.attnum)) {
                (None, None) => false,
                (Some(a), Some(b)) => !slot::same(a, b, c.by_value, c.length),
                _ => true,
            }
        }
    })
}

/// The wire id of the row: the key's text form.
///
/// # Safety
/// The slot holds a row that has these columns.
unsafe fn write_key(key: &[TrackedColumn], slot: Slot, out: &mut Vec<u8>, parts: &mut Vec<String>) {
    out.clear();
    // SAFETY: key columns are NOT NULL (enable); a NULL that gets here all the same becomes an empty part.
    unsafe {
        if let [column] = key {
            if let Some(datum) = value(slot, column.attnum) {
                write_text(column, datum, out);
            }
            return;
        }
        parts.clear();
        for column in key {
            let mut part = Vec::new();
            if let Some(datum) = value(slot, column.attnum) {
                write_text(column, datum, &mut part);
            }
            parts.push(String::from_utf8_unchecked(part));
        }
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).gather();
    memory::append(out, wire_id::encode(&parts).as_bytes());
}

/// The scope's text; false for NULL or none.
///
/// # Safety
/// The slot holds a row of the tracker's relation.
unsafe fn write_scope(t: &Tracker, slot: Slot, out: &mut Vec<u8>) -> bool {
    out.clear();
    let Some(column) = &t.scope else { return false };
    // SAFETY: as in write_key.
    unsafe {
        match value(slot, column.attnum) {
            Some(datum) => {
                write_text(column, datum, out);
                true
            }
            None => false,
        }
    }
}

/// # Safety
/// A trigger call's data.
unsafe fn tracker(data: &pg_sys::TriggerData) -> Result<Rc<Tracker>> {
    // SAFETY: the trigger manager's relation is open and locked.
    let relation = unsafe { &*data.tg_relation };
    // SAFETY: tg_trigger is valid during the call.
    let key = unsafe { (relation.rd_id.to_u32(), (*data.tg_trigger).tgoid.to_u32()) };
    let then = TRACKERS.with(Cached::now);
    if let Some(tracker) = TRACKERS.with(|t| t.look(|trackers| trackers.get(&key).cloned())) {
        return Ok(tracker);
    }
    // SAFETY: tg_trigger is valid during the call.
    let tracker = Rc::new(unsafe { Tracker::new(relation, &*data.tg_trigger)? });
    TRACKERS.with(|t| t.remember(then, |trackers| _ = trackers.insert(key, Rc::clone(&tracker))));
    Ok(tracker)
}

impl Tracker {
    /// # Safety
    /// An open relation, and a trigger of it.
    unsafe fn new(relation: &pg_sys::RelationData, trigger: &pg_sys::Trigger) -> Result<Tracker> {
        // SAFETY: an open relation and its trigger.
        unsafe {
            let name = CStr::from_ptr(trigger.tgname).to_string_lossy();
            if ![ROW_TRIGGER, TRUNCATE_TRIGGER].contains(&&*name) {
                return Err(SyncError::new(code::NOT_IN_STATE, format!("trigger \"{name}\" is none of snapsync's"))
                    .detail("What it would say is not what the table's settings say.")
                    .hint("Drop it, and call snapsync.enable('your_table'), which creates the triggers."));
            }
            let argument = (trigger.tgnargs == 1).then(|| CStr::from_ptr(*trigger.tgargs).to_string_lossy());
            let spec: Spec = argument.and_then(|a| serde_json::from_str(&a).ok()).ok_or_else(|| {
                SyncError::new(code::NOT_IN_STATE, format!("trigger \"{name}\" does not say what to track"))
                    .hint("Call snapsync.enable() for the table again.")
            })?;
            let columns =
                |names: &[String]| names.iter().map(|n| TrackedColumn::named(relation, n)).gather::<Result<Vec<_>>>();
            let scope = spec.scope.as_ref().map(|s| TrackedColumn::named(relation, s)).transpose();
            // A change of the table that nobody has followed is none of the writer's: without a key every change is a reset.
            let (key, mut image, scope) = match (columns(&spec.key), columns(&spec.image), scope) {
                (Ok(key), Ok(image), Ok(scope)) => (key, image, scope),
                _ => (Vec::new(), Vec::new(), None),
            };
            let mut rest = Vec::new();
            // Triggers are not given virtual columns (PostgreSQL 18), which change with any of the others.
            let virtual_ones = (0..(*relation.rd_att).natts as usize)
                .any(|i| crate::server::pg::attribute(relation.rd_att, i).attgenerated as u8 == b'v');
            for i in 0..(*relation.rd_att).natts {
                let column = match TrackedColumn::at(relation, i as usize) {
                    Some(column) => column,
                    None => continue,
                };
                let name = column.name();
                let synced = spec.columns.as_ref().is_none_or(|c| c.contains(&name)) && !spec.exclude.contains(&name);
                if (synced || virtual_ones) && !spec.key.contains(&name) && !spec.image.contains(&name) {
                    rest.push(column);
                }
            }
            let root = pg::root_of(relation.rd_id);
            let tracked = pg::has_row_of(&registry::TABLE, c"collection_pkey", root)?;
            if root != relation.rd_id {
                // A partition may number its columns otherwise than the root does.
                for column in image.iter_mut().chain(&mut rest) {
                    let name = crate::server::spi::c_string(&column.name())?;
                    column.root_attnum = pg_sys::get_attnum(root, name.as_ptr());
                }
            }
            let last = key.iter().chain(&image).chain(&scope).chain(&rest).map(|c| c.attnum).max().unwrap_or(0);
            Ok(Tracker { root, key, image, scope, rest, last, touched: spec.touched, parent: spec.parent, tracked })
        }
    }
}

impl TrackedColumn {
    /// Column number `i` (from 0); None when it was dropped.
    ///
    /// # Safety
    /// An open relation, with so many columns.
    unsafe fn at(relation: &pg_sys::RelationData, i: usize) -> Option<TrackedColumn> {
        // SAFETY: i < natts (callers); the descriptor lives as long as the relation is open.
        unsafe {
            let attribute = crate::server::pg::attribute(relation.rd_att, i);
            if attribute.attisdropped {
                return None;
            }
            let name = CStr::from_ptr(attribute.attname.data.as_ptr()).to_string_lossy();
            let (mut output, mut varlena) = (pg_sys::InvalidOid, false);
            pg_sys::getTypeOutputInfo(attribute.atttypid, &mut output, &mut varlena);
            let mut json_key = Vec::new();
            crate::values::json::escape_json(&mut json_key, name.as_bytes());
            json_key.push(b':');
            let type_oid = pg_sys::getBaseType(attribute.atttypid);
            Some(TrackedColumn {
                attnum: attribute.attnum,
                root_attnum: attribute.attnum,
                type_oid,
                output,
                settings: OutputSettings::of(type_oid),
                by_value: attribute.attbyval,
                length: attribute.attlen,
                nests: limit::nesting::nests(type_oid),
                zoned: limit::nesting::has_zones(type_oid),
                json_key,
            })
        }
    }

    /// # Safety
    /// An open relation.
    unsafe fn named(relation: &pg_sys::RelationData, name: &str) -> Result<TrackedColumn> {
        // SAFETY: as in `at`.
        unsafe {
            (0..(*relation.rd_att).natts as usize)
                .filter_map(|i| TrackedColumn::at(relation, i))
                .find(|c| c.name() == name)
                .ok_or_else(|| {
                    SyncError::new(code::UNDEFINED_COLUMN, format!("tracked column \"{name}\" does not exist"))
                        .hint("Call snapsync.enable() for the table again to tell it about the columns it has now.")
                })
        }
    }

    fn name(&self) -> String {
        serde_json::from_slice(&self.json_key[..self.json_key.len() - 1]).unwrap_or_default()
    }
}
