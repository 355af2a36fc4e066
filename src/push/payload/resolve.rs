//! Stage 2: from records to rows, once the table is known.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashMap;

use super::parse::Element;
use super::plan::{Deletion, Plan, Record, Spelling};
use super::{field_path, kind, small, source_path, Array, BatchError, RawCollection, Source};
use crate::server::checked::Fitting;
use crate::server::memory::{self, Gather};
use crate::values::excerpt::{cut, NAME, VALUE};
use crate::values::wire_id;

/// What the field `id` of a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IdField {
    /// The wire id, whatever the columns are called (dialect `watermelondb`, and every table without a column `id`).
    #[default]
    WireId,
    /// The column `id`, which need not be the key (dialect `postgrest`, tables that have such a column).
    Column,
}

/// What [`RawCollection::resolve`] must know about the table.
#[derive(Clone, Copy, Default)]
pub struct TableFacts<'t> {
    /// The columns of the sync key, in the order of the wire id's parts.
    pub key_columns: &'t [&'t str],
    /// Columns that a client cannot write (generated, identity always, `readonly` of `enable`): whole rows carry them, so they
    /// are taken off without a word. A column of the key is never taken off.
    pub readonly: &'t [&'t str],
    /// What a field `id` means. With a key of one column named `id` both are the same.
    pub id_field: IdField,
    /// Turns the text of a key part (by its index) into the text that the column's type writes, `None` where it is that already:
    /// an upper-case uuid and the lower-case one are one row. See [`wire_id::canonical_uuid`], [`wire_id::canonical_integer`].
    pub canonical: Option<&'t Canonical<'t>>,
    /// May the server write this text of a key part, which `canonical` leaves as it is, otherwise all the same?
    pub doubtful: Option<&'t Doubtful<'t>>,
    /// Which columns of the key pulls write as numbers.
    pub numbers: &'t [bool],
    /// A record in `deleted` in which this column is not null is the row as it is to be: one more record that is updated.
    pub tombstone: Option<&'t str>,
}

/// See [`TableFacts::canonical`].
pub type Canonical<'t> = dyn Fn(usize, &str) -> Option<String> + 't;

/// See [`TableFacts::doubtful`].
pub type Doubtful<'t> = dyn Fn(usize, &str) -> bool + 't;

/// What the fields of one name are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// A column, with the rank of its name.
    Column(u32),
    Id,
    Key(usize),
    Changed,
    Readonly,
    Ignored,
}

/// Where a shape's records have what (positions among the record's values).
#[derive(Debug, Default)]
struct Layout {
    id: Option<u32>,
    keys: Vec<Option<u32>>,
    changed: Option<u32>,
    tombstone: Option<u32>,
}

/// By shape: layouts, columns, and columns that are taken off.
type Layouts<'a> = (Vec<Layout>, Vec<Vec<(u32, u32)>>, Vec<Vec<&'a str>>);

/// In bytes. The log may have to keep an id as it was sent, which can be a short key at great length (`000…01`), for others to read past.
/// An index has room for 2,700, and for more only of what compresses well.
const LONGEST_ID: usize = 8_000;

fn not_long(id: Cow<'_, str>) -> Result<Cow<'_, str>, String> {
    match id.len() {
        ..=LONGEST_ID => Ok(id),
        length => Err(format!("an id of {length} bytes; {LONGEST_ID} at most")),
    }
}

impl<'a> RawCollection<'a> {
    /// Works out ids, merges what stands there twice, groups by columns. The id of a record is
    ///
    /// - its `id`, a text or a number (WatermelonDB: always there), where that is the wire id; columns of the key that
    ///   are there as well, and not null, must say the same;
    /// - else its columns of the key, each a text or a number.
    ///
    /// A number is taken as it is written, so an exponent is refused: `1e3` and `1000` would be two rows. An empty id is
    /// refused; a part of an id of several parts may be empty. So is one of more than [`LONGEST_ID`] bytes.
    pub fn resolve<'p>(&'p self, table: &TableFacts<'_>) -> Result<Plan<'p>, BatchError> {
        let (roles, names) = self.roles(table);
        let (layouts, columns, readonly) = self.layouts(table, &roles);
        let slots = memory::table(self.entries.iter().map(Vec::len).sum());
        let mut resolver = Resolver {
            raw: self,
            table,
            layouts,
            slots,
            repeats: Vec::new(),
            otherwise: Cell::new(false),
            plan: Plan {
                deletions: memory::list(self.len(Array::Deleted)),
                records: memory::list(self.len(Array::Created) + self.len(Array::Updated)),
                groups: Vec::new(),
                collection: &self.name,
                key_len: table.key_columns.len(),
                names,
                columns,
                readonly,
                values: &self.values,
                merged: Vec::new(),
                changed: Vec::new(),
                spellings: Vec::new(),
                check: self.check,
            },
        };
        resolver.deletions()?;
        resolver.records(Array::Created)?;
        resolver.records(Array::Updated)?;
        resolver.records(Array::Deleted)?;
        resolver.merge();
        let mut plan = resolver.plan;
        plan.groups = plan.regroup(|_, _| true);
        Ok(plan)
    }

    /// What each name is, and the names of columns in order.
    fn roles(&self, table: &TableFacts<'_>) -> (Vec<Role>, Vec<&str>) {
        let is_wire_id = table.id_field == IdField::WireId || table.key_columns == ["id"];
        let role = |name: &str| {
            (self.check)();
            if name == "id" && is_wire_id {
                Role::Id
            } else if let Some(part) = table.key_columns.iter().position(|k| *k == name) {
                Role::Key(part)
            } else if name == "_changed" {
                Role::Changed
            } else if table.readonly.contains(&name) {
                Role::Readonly
            } else if name == "_status" {
                Role::Ignored
            } else {
                Role::Column(0)
            }
        };
        let mut roles: Vec<Role> = self.names.iter().map(|name| role(name)).gather();
        let mut columns: Vec<usize> = (0..roles.len()).filter(|i| matches!(roles[*i], Role::Column(_))).gather();
        columns.sort_unstable_by(|a, b| self.names[*a].cmp(&self.names[*b]));
        for (rank, name) in columns.iter().enumerate() {
            roles[*name] = Role::Column(small(rank));
        }
        (roles, columns.into_iter().map(|name| &*self.names[name]).gather())
    }

    fn layouts(&self, table: &TableFacts<'_>, roles: &[Role]) -> Layouts<'_> {
        let mut all = Layouts::default();
        for shape in &self.shapes {
            (self.check)();
            let mut layout = Layout { keys: memory::filled(None, table.key_columns.len()), ..Layout::default() };
            let mut columns = memory::list(shape.len());
            let mut readonly = Vec::new();
            for (position, name) in shape.iter().enumerate() {
                let position = small(position);
                if table.tombstone == Some(&*self.names[*name as usize]) {
                    layout.tombstone = Some(position);
                }
                match roles[*name as usize] {
                    Role::Column(rank) => columns.push((rank, position)),
                    Role::Id => layout.id = Some(position),
                    Role::Key(part) => layout.keys[part] = Some(position),
                    Role::Changed => layout.changed = Some(position),
                    Role::Readonly => readonly.push(&*self.names[*name as usize]),
                    Role::Ignored => {}
                }
            }
            // A field that stands there twice: the last one counts.
            columns.sort_unstable_by_key(|(rank, position)| (*rank, std::cmp::Reverse(*position)));
            columns.dedup_by_key(|(rank, _)| *rank);
            all.0.push(layout);
            all.1.push(columns);
            all.2.push(readonly);
        }
        all
    }
}

/// A row that stands in the batch.
#[derive(Clone, Copy)]
enum BatchSlot {
    Deleted,
    Record(u32),
}

/// What [`RawCollection::resolve`] has so far.
struct Resolver<'p, 'a, 't> {
    raw: &'p RawCollection<'a>,
    table: &'t TableFacts<'t>,
    layouts: Vec<Layout>,
    slots: HashMap<Cow<'p, str>, BatchSlot>,
    /// Records whose id stood there before: (index of the first, the later one).
    repeats: Vec<(u32, Record<'p>)>,
    /// The server writes the id that was read last otherwise, or may.
    otherwise: Cell<bool>,
    plan: Plan<'p>,
}

impl<'p> Resolver<'p, '_, '_> {
    fn deletions(&mut self) -> Result<(), BatchError> {
        let raw = self.raw;
        for (index, entry) in raw.entries[Array::Deleted as usize].iter().enumerate() {
            (raw.check)();
            if self.is_tombstone(*entry) {
                continue;
            }
            let source = Source { array: Array::Deleted, index: small(index) };
            let id = self.id(*entry, source)?;
            if self.otherwise.take() {
                self.note_spelling(*entry, id.clone(), None);
            }
            if self.slots.insert(id.clone(), BatchSlot::Deleted).is_none() {
                let Element { shape, start } = *entry;
                let shape = (shape != Element::BARE).then_some(shape);
                self.plan.deletions.push(Deletion { id, source, shape, start });
            }
        }
        Ok(())
    }

    fn records(&mut self, array: Array) -> Result<(), BatchError> {
        let raw = self.raw;
        for (index, entry) in raw.entries[array as usize].iter().enumerate() {
            (raw.check)();
            if array == Array::Deleted && !self.is_tombstone(*entry) {
                continue;
            }
            let source = Source { array, index: small(index) };
            let id = self.id(*entry, source)?;
            let new = small(self.plan.records.len());
            let otherwise = self.otherwise.take();
            let slot = *self.slots.entry(id.clone()).or_insert(BatchSlot::Record(new));
            let BatchSlot::Record(slot) = slot else { continue };
            if otherwise {
                self.note_spelling(*entry, id.clone(), Some(slot));
            }
            let changed = self.changed(*entry, source)?;
            let created = array == Array::Created;
            let Element { shape, start } = *entry;
            let (exact_key, whole_key) = self.sent_key(*entry, &id);
            let record = Record { id, source, created, shape, start, is_merged: false, changed, exact_key, whole_key };
            if slot == new {
                self.plan.records.push(record);
            } else {
                self.repeats.push((slot, record));
            }
        }
        Ok(())
    }

    /// Is this element of `deleted` a row that is marked as deleted?
    fn is_tombstone(&self, entry: Element) -> bool {
        let layout = (entry.shape != Element::BARE).then(|| &self.layouts[entry.shape as usize]);
        layout.and_then(|layout| layout.tombstone).is_some_and(|position| self.value(entry, position) != "null")
    }

    fn value(&self, entry: Element, position: u32) -> &'p str {
        self.raw.values[(entry.start + position) as usize]
    }

    /// Remembers how an id was sent.
    fn note_spelling(&mut self, entry: Element, id: Cow<'p, str>, record: Option<u32>) {
        let position = match entry.shape {
            Element::BARE => Some(0),
            shape => self.layouts[shape as usize].id,
        };
        let text = |position: u32| scalar(self.value(entry, position)).unwrap_or_default();
        let sent = match position {
            Some(position) => text(position),
            None => {
                let keys = self.layouts[entry.shape as usize].keys.iter();
                encode(&keys.map(|position| position.map_or(Cow::Borrowed(""), text)).gather::<Vec<_>>())
            }
        };
        memory::extend(&mut self.plan.spellings, [Spelling { record, id, sent }]);
    }

    /// The wire id of an element.
    fn id(&self, entry: Element, source: Source) -> Result<Cow<'p, str>, BatchError> {
        if entry.shape == Element::BARE {
            let bad = |problem| BatchError::BadId { path: source_path(&self.raw.name, source), problem };
            return self.wire_id(self.value(entry, 0)).map_err(bad);
        }
        let layout = &self.layouts[entry.shape as usize];
        let Some(position) = layout.id else { return self.id_from_key(entry, source, layout) };
        let bad = |problem| BatchError::BadId { path: field_path(&self.raw.name, source, "id"), problem };
        let id = self.wire_id(self.value(entry, position)).map_err(bad)?;
        if layout.keys.iter().any(Option::is_some) {
            self.check_agreement(&id, entry, source, layout)?;
        }
        Ok(id)
    }

    /// A wire id as it came, made canonical.
    fn wire_id(&self, raw: &'p str) -> Result<Cow<'p, str>, String> {
        let id = not_long(scalar(raw)?)?;
        if id.is_empty() {
            return Err("an id must not be empty".to_owned());
        }
        let parts = self.table.key_columns.len();
        if parts == 1 {
            return Ok(self.canonical(0, id, raw.starts_with('"')));
        }
        let parts = wire_id::decode(&id, parts).map_err(|error| error.to_string())?;
        if self.table.canonical.is_none() {
            return Ok(id);
        }
        let parts: Vec<_> = parts.into_iter().enumerate().map(|(i, p)| self.canonical(i, Cow::Owned(p), true)).gather();
        Ok(encode(&parts))
    }

    /// A part of a key, made canonical. To who sent a number it is the same one, however the server writes it.
    fn canonical<'s>(&self, part: usize, text: Cow<'s, str>, is_text: bool) -> Cow<'s, str> {
        match self.table.canonical.and_then(|canonical| canonical(part, &text)) {
            Some(canonical) => {
                let is_same = || wire_id::comparable_number(&text) == wire_id::comparable_number(&canonical);
                if is_text || !is_same() {
                    self.otherwise.set(true);
                }
                Cow::Owned(canonical)
            }
            None => {
                if is_text && self.table.doubtful.is_some_and(|doubtful| doubtful(part, &text)) {
                    self.otherwise.set(true);
                }
                text
            }
        }
    }

    /// A column of the key as it came, made canonical.
    fn key_part(&self, part: usize, entry: Element, source: Source, position: u32) -> Result<Cow<'p, str>, BatchError> {
        let raw = self.value(entry, position);
        let text = scalar(raw).and_then(not_long).map_err(|problem| {
            let path = field_path(&self.raw.name, source, self.table.key_columns[part]);
            BatchError::BadId { path, problem }
        })?;
        Ok(self.canonical(part, text, raw.starts_with('"')))
    }

    fn id_from_key(&self, entry: Element, source: Source, layout: &Layout) -> Result<Cow<'p, str>, BatchError> {
        let mut parts = memory::list(layout.keys.len());
        for (part, position) in layout.keys.iter().enumerate() {
            let Some(position) = *position else { return Err(self.no_id(source, layout)) };
            parts.push(self.key_part(part, entry, source, position)?);
        }
        match parts.len() {
            1 if parts[0].is_empty() => Err(BatchError::BadId {
                path: field_path(&self.raw.name, source, self.table.key_columns[0]),
                problem: "an id must not be empty".to_owned(),
            }),
            _ => Ok(encode(&parts)),
        }
    }

    /// [`Record::exact_key`] and [`Record::whole_key`] of a record with this id.
    fn sent_key(&self, entry: Element, id: &str) -> (bool, bool) {
        let numbers = self.table.numbers;
        if numbers.is_empty() {
            return (false, false);
        }
        let layout = &self.layouts[entry.shape as usize];
        let is_exact = |position: u32, text: &str, number: bool| {
            let raw = self.value(entry, position);
            if number {
                raw == text
            } else {
                raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')) == Some(text)
            }
        };
        let key_is_id = self.table.key_columns == ["id"];
        // Most keys have one.
        let several = if numbers.len() > 1 { self.plan.key_parts(id) } else { Vec::new() };
        let key_part = |part: usize| several.get(part).map_or(id, String::as_str);
        let mut exact = layout.id.is_none_or(|position| is_exact(position, id, key_is_id && numbers[0]));
        let mut whole = true;
        for (part, position) in layout.keys.iter().enumerate() {
            match position.filter(|position| self.value(entry, *position) != "null") {
                Some(position) => exact &= is_exact(position, key_part(part), numbers[part]),
                None => whole = key_is_id,
            }
        }
        (exact, whole)
    }

    fn no_id(&self, source: Source, layout: &Layout) -> BatchError {
        let missing = self.table.key_columns.iter().zip(&layout.keys).filter(|(_, position)| position.is_none());
        let missing: Vec<String> = missing.map(|(name, _)| format!("\"{}\"", cut(name, NAME))).gather();
        let mut missing = missing.join(" and ");
        if self.table.id_field == IdField::WireId && self.table.key_columns != ["id"] {
            missing = format!("\"id\" (or {missing})");
        }
        BatchError::NoId { path: source_path(&self.raw.name, source), missing }
    }

    /// `id` is there: columns of the key that are there as well must say the same. Null says nothing: a client that has a column
    /// for the server's key does not know its value before the first pull.
    fn check_agreement(&self, id: &str, entry: Element, source: Source, layout: &Layout) -> Result<(), BatchError> {
        let parts = self.plan.key_parts(id);
        for (part, position) in layout.keys.iter().enumerate() {
            let Some(position) = *position else { continue };
            if self.value(entry, position) == "null" {
                continue;
            }
            let value = self.key_part(part, entry, source, position)?;
            if value != parts[part] {
                return Err(BatchError::IdMismatch {
                    path: source_path(&self.raw.name, source),
                    id: cut(id, VALUE),
                    column: format!("\"{}\"", cut(self.table.key_columns[part], NAME)),
                    value: cut(&value, VALUE),
                });
            }
        }
        Ok(())
    }

    /// Reads `_changed` into the plan's list. Null or missing: not known.
    fn changed(&mut self, entry: Element, source: Source) -> Result<Option<(u32, u32)>, BatchError> {
        let Some(position) = self.layouts[entry.shape as usize].changed else { return Ok(None) };
        let raw = self.value(entry, position);
        let wrong = || BatchError::Shape {
            path: field_path(&self.raw.name, source, "_changed"),
            found: kind(raw),
            expected: "names of columns with commas between them",
        };
        let out = &mut self.plan.changed;
        let start = small(out.len());
        match raw.as_bytes().first() {
            Some(b'n') => return Ok(None),
            Some(b'"') => match string(raw) {
                Cow::Borrowed(text) => memory::extend(out, changed_names(text).map(Cow::Borrowed)),
                Cow::Owned(text) => memory::extend(out, changed_names(&text).map(|name| Cow::Owned(name.to_owned()))),
            },
            Some(b'[') => {
                let names: Vec<Fitting<String>> = serde_json::from_str(raw).map_err(|_| wrong())?;
                memory::extend(out, names.into_iter().map(|Fitting(name)| Cow::Owned(name)));
            }
            _ => return Err(wrong()),
        }
        Ok(Some((start, small(out.len()))))
    }

    /// Puts records with the same id together. All occurrences of an id are gone through once, in order, so that a hostile
    /// batch that repeats one id a million times costs no more than any other of its size.
    fn merge(&mut self) {
        let mut repeats = std::mem::take(&mut self.repeats);
        memory::sort_by(&mut repeats, |(a, _), (b, _)| a.cmp(b));
        let plan = &mut self.plan;
        // By rank: where in `columns` the column is, valid if the number of the run is this one's.
        let mut seen: Vec<(u32, usize)> = memory::filled((0, 0), plan.names.len());
        for (run, same) in repeats.chunk_by(|a, b| a.0 == b.0).enumerate() {
            let run = small(run + 1);
            let slot = same[0].0 as usize;
            let first = plan.records[slot].clone();
            let mut columns: Vec<(u32, &'p str)> = Vec::new();
            let mut changed = Some(Vec::new());
            for record in std::iter::once(&first).chain(same.iter().map(|(_, record)| record)) {
                (plan.check)();
                for (rank, position) in &plan.columns[record.shape as usize] {
                    let value = plan.values[(record.start + position) as usize];
                    match &mut seen[*rank as usize] {
                        (r, at) if *r == run => columns[*at].1 = value,
                        place => {
                            *place = (run, columns.len());
                            columns.push((*rank, value));
                        }
                    }
                }
                changed = match (changed, record.changed) {
                    (Some(mut names), Some((from, to))) => {
                        memory::extend(&mut names, from..to);
                        Some(names)
                    }
                    // One of them does not say what it changed: not known of the merged one, either.
                    _ => None,
                };
            }
            columns.sort_unstable_by_key(|(rank, _)| *rank);
            let changed = changed.map(|names| {
                let start = small(plan.changed.len());
                for name in names {
                    plan.changed.push(plan.changed[name as usize].clone());
                }
                (start, small(plan.changed.len()))
            });
            let last = &same[same.len() - 1].1;
            plan.records[slot] = Record {
                id: first.id,
                source: last.source,
                created: first.created && last.created,
                shape: small(plan.columns.len()),
                start: small(plan.merged.len()),
                is_merged: true,
                changed,
                exact_key: false,
                whole_key: false,
            };
            memory::extend(&mut plan.merged, columns.iter().map(|(_, value)| *value));
            plan.columns.push(columns.iter().enumerate().map(|(i, (rank, _))| (*rank, small(i))).gather());
            let shapes = std::iter::once(first.shape).chain(same.iter().map(|(_, record)| record.shape));
            let mut readonly: Vec<&str> = shapes.flat_map(|s| plan.readonly[s as usize].iter().copied()).gather();
            readonly.sort_unstable();
            readonly.dedup();
            plan.readonly.push(readonly);
        }
    }
}

fn changed_names(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty())
}

fn encode(parts: &[Cow<'_, str>]) -> Cow<'static, str> {
    let parts: Vec<&str> = parts.iter().map(|part| &**part).gather();
    Cow::Owned(wire_id::encode(&parts).into_owned())
}

/// The text of a JSON string.
fn string(raw: &str) -> Cow<'_, str> {
    let inner = &raw[1..raw.len() - 1];
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    // Its escapes have been looked through by `inspect`.
    Cow::Owned(serde_json::from_str(raw).expect("a checked JSON string"))
}

/// The text of a string or number that is (part of) an id.
fn scalar(raw: &str) -> Result<Cow<'_, str>, String> {
    match raw.as_bytes().first() {
        Some(b'"') => Ok(string(raw)),
        Some(b'-' | b'0'..=b'9') if raw.contains(['e', 'E']) => {
            Err(format!("the number {} has an exponent; send a large id as a text", cut(raw, VALUE)))
        }
        Some(b'-') if raw.bytes().all(|b| matches!(b, b'-' | b'0' | b'.')) => Ok(Cow::Borrowed(&raw[1..])),
        Some(b'-' | b'0'..=b'9') => Ok(Cow::Borrowed(raw)),
        _ => Err(format!("found {}, expected an id: a text or a number", kind(raw))),
    }
}
