//! The result of stage 2, and how it becomes the parameters of statements.

use std::borrow::Cow;
use std::collections::HashMap;

use super::{field_path, small, source_path, Check, Source};
use crate::server::memory::{self, Gather};
use crate::values::json::Writer;
use crate::values::wire_id;

/// What to do in one collection: the result of [`RawCollection::resolve`](super::RawCollection::resolve).
#[derive(Debug)]
pub struct Plan<'a> {
    /// The rows to delete, each once, in the order of the payload.
    pub deletions: Vec<Deletion<'a>>,
    /// The rows to write, each once, none of them in `deletions`; in the order of the payload, those in `created` first.
    pub records: Vec<Record<'a>>,
    /// The records by the columns they carry, in order of first appearance. Every record is in one group.
    pub groups: Vec<Group<'a>>,
    pub(super) collection: &'a str,
    pub(super) key_len: usize,
    /// All names of columns, also those in deleted records, in order.
    pub(super) names: Vec<&'a str>,
    /// By shape: its columns (rank in `names`, position among the record's values), in order of name.
    pub(super) columns: Vec<Vec<(u32, u32)>>,
    /// By shape: the columns that were taken off because clients cannot write them.
    pub(super) readonly: Vec<Vec<&'a str>>,
    pub(super) values: &'a [&'a str],
    /// The values of records that were merged.
    pub(super) merged: Vec<&'a str>,
    pub(super) changed: Vec<Cow<'a, str>>,
    /// The ids that were sent otherwise than the server writes them, or may have been.
    pub spellings: Vec<Spelling<'a>>,
    pub(super) check: Check,
}

/// An id as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spelling<'a> {
    /// The record's index; None: of a deletion.
    pub record: Option<u32>,
    pub id: Cow<'a, str>,
    pub sent: Cow<'a, str>,
}

/// A row to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion<'a> {
    /// Its wire id.
    pub id: Cow<'a, str>,
    /// Where it stands first.
    pub source: Source,
    /// Index into `columns`; none of them, where only the id stands there.
    pub(super) shape: Option<u32>,
    /// Where its values begin.
    pub(super) start: u32,
}

/// A row to write.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// Its wire id.
    pub id: Cow<'a, str>,
    /// Where it stands; the last place where it stands more than once.
    pub source: Source,
    /// Whether it stands in `created` and not in `updated`.
    pub created: bool,
    /// Index into `columns`.
    pub(super) shape: u32,
    /// Where its values begin, in `merged` if `is_merged`.
    pub(super) start: u32,
    pub(super) is_merged: bool,
    /// The columns in `_changed`: a range of `changed`.
    pub(super) changed: Option<(u32, u32)>,
    /// What stands there of the id and the key stands there as a pull writes it. (Not known of merged records.)
    pub exact_key: bool,
    /// All of the key stands there.
    pub whole_key: bool,
}

/// Records that carry the same columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group<'a> {
    /// The columns in order of name, without those of the key.
    pub columns: Vec<&'a str>,
    /// Indexes into [`Plan::records`], ascending.
    pub rows: Vec<u32>,
    ranks: Box<[u32]>,
}

impl<'a> Plan<'a> {
    /// Where an element stands, for error messages: `changes.todos.created[3]`.
    pub fn path(&self, source: Source) -> String {
        source_path(self.collection, source)
    }

    /// Where a field stands, for error messages: `changes.todos.created[3].title`.
    pub fn field_path(&self, source: Source, field: &str) -> String {
        field_path(self.collection, source, field)
    }

    /// The parts of the key in a wire id of this plan, one per column of the key.
    pub fn key_parts(&self, id: &str) -> Vec<String> {
        wire_id::decode(id, self.key_len).expect("an id that resolve checked")
    }

    /// What the client says it changed in the record, from `_changed`; `None` where it does not say.
    pub fn changed(&self, record: &Record<'a>) -> Option<&[Cow<'a, str>]> {
        record.changed.map(|(from, to)| &self.changed[from as usize..to as usize])
    }

    /// The columns of the record that clients cannot write.
    pub fn readonly(&self, record: &Record<'a>) -> &[&'a str] {
        self.readonly.get(record.shape as usize).map_or(&[], Vec::as_slice)
    }

    /// The value of a column as JSON, as it was sent; `None` where the record does not have it.
    pub fn raw(&self, record: &Record<'a>, column: &str) -> Option<&'a str> {
        let columns = &self.columns[record.shape as usize];
        let at = columns.binary_search_by(|(rank, _)| self.names[*rank as usize].cmp(column)).ok()?;
        Some(self.values_of(record)[columns[at].1 as usize])
    }

    /// The same of a deletion that was sent as a record.
    pub fn raw_of_deletion(&self, deletion: &Deletion<'a>, column: &str) -> Option<&'a str> {
        let columns = &self.columns[deletion.shape? as usize];
        let at = columns.binary_search_by(|(rank, _)| self.names[*rank as usize].cmp(column)).ok()?;
        Some(self.values[(deletion.start + columns[at].1) as usize])
    }

    /// Does this hold for all values of the group's column of this index?
    pub fn all(&self, group: &Group<'a>, column: usize, test: impl Fn(&str) -> bool) -> bool {
        let rank = group.ranks[column];
        let (mut shape, mut position) = (None, 0);
        group.rows.iter().all(|row| {
            let record = &self.records[*row as usize];
            if shape != Some(record.shape) {
                let columns = &self.columns[record.shape as usize];
                let Ok(at) = columns.binary_search_by_key(&rank, |(rank, _)| *rank) else { return false };
                (shape, position) = (Some(record.shape), columns[at].1 as usize);
            }
            test(self.values_of(record)[position])
        })
    }

    /// The columns of a record in order of name, with their values as JSON.
    pub fn fields<'s>(&'s self, record: &Record<'a>) -> impl Iterator<Item = (&'a str, &'a str)> + 's {
        let values = self.values_of(record);
        let columns = self.columns[record.shape as usize].iter();
        columns.map(move |(rank, position)| (self.names[*rank as usize], values[*position as usize]))
    }

    /// The record as one JSON object under its own column names, without the key: for a conflict function's `incoming`.
    pub fn object(&self, record: &Record<'a>) -> String {
        let mut json = Writer::new(Vec::new());
        json.object();
        for (name, value) in self.fields(record) {
            json.name(name);
            json.raw(value);
        }
        json.end_object();
        json.into_text()
    }

    fn values_of(&self, record: &Record<'a>) -> &[&'a str] {
        let all = if record.is_merged { &self.merged[..] } else { self.values };
        &all[record.start as usize..]
    }

    /// Groups anew, leaving out the columns that `keep(record, column)` refuses: for merging by column, where each record is
    /// written in the columns that its client changed.
    pub fn regroup(&self, mut keep: impl FnMut(&Record<'a>, &'a str) -> bool) -> Vec<Group<'a>> {
        self.group(0..small(self.records.len()), |_, record, column| keep(record, column))
    }

    /// Groups these records, with those of their columns that `keep(row, record, column)` wants.
    pub fn group(
        &self,
        rows: impl Iterator<Item = u32>,
        mut keep: impl FnMut(u32, &Record<'a>, &'a str) -> bool,
    ) -> Vec<Group<'a>> {
        let mut groups: Vec<Group<'a>> = Vec::new();
        let mut index: HashMap<Box<[u32]>, usize> = HashMap::new();
        let mut ranks: Vec<u32> = Vec::new();
        let mut last = None;
        for row in rows {
            (self.check)();
            ranks.clear();
            let record = &self.records[row as usize];
            let columns = self.columns[record.shape as usize].iter().map(|(rank, _)| *rank);
            memory::extend(&mut ranks, columns.filter(|rank| keep(row, record, self.names[*rank as usize])));
            let group = match last {
                Some(last) if *groups[last as usize].ranks == *ranks => last as usize,
                _ => *index.entry(ranks.clone().into_boxed_slice()).or_insert_with_key(|ranks| {
                    let columns = ranks.iter().map(|rank| self.names[*rank as usize]).gather();
                    groups.push(Group { columns, rows: Vec::new(), ranks: ranks.clone() });
                    groups.len() - 1
                }),
            };
            groups[group].rows.push(row);
            last = Some(small(group));
        }
        groups
    }

    /// Some of a group's rows as one JSON array, the parameter of a statement that reads it with `json_to_recordset`:
    ///
    /// ```json
    /// [{"n":0,"k0":"7f1c","c0":"Buy milk","c1":false}]
    /// ```
    ///
    /// `n` is the index into [`Plan::records`], `k0`, `k1`, ... the columns of the key as text, `c0`, `c1`, ... the group's columns
    /// in its order, with their values as they were sent. Numbers for names, because no name of a column can then collide
    /// with anything, and because they are shorter.
    pub fn render_rows(&self, group: &Group<'a>, rows: &[u32]) -> String {
        self.render_rows_without(group, rows, &|_| None)
    }

    /// The same with NULL for those of a row's columns that are to be left out.
    pub fn render_rows_without<'c>(
        &self,
        group: &Group<'a>,
        rows: &[u32],
        left_out: &dyn Fn(u32) -> Option<&'c [String]>,
    ) -> String {
        let labels: Vec<String> = (0..group.ranks.len()).map(|i| format!("\"c{i}\":")).gather();
        // Where the group's columns are in records of a shape: most often that of the record before.
        let mut shape = None;
        let mut positions: Vec<u32> = memory::list(labels.len());
        self.numbered(rows, 32 + 16 * labels.len(), |json, row| {
            let record = &self.records[row as usize];
            if shape != Some(record.shape) {
                shape = Some(record.shape);
                positions.clear();
                let mut wanted = group.ranks.iter().peekable();
                for (rank, position) in &self.columns[record.shape as usize] {
                    if wanted.next_if_eq(&rank).is_some() {
                        positions.push(*position);
                    }
                }
                debug_assert_eq!(positions.len(), labels.len());
            }
            self.key(json, &record.id);
            let (values, left_out) = (self.values_of(record), left_out(row));
            for (column, (label, position)) in labels.iter().zip(&positions).enumerate() {
                let is_left_out = left_out.is_some_and(|names| names.iter().any(|name| *name == group.columns[column]));
                json.label(label);
                json.raw(if is_left_out { "null" } else { values[*position as usize] });
            }
        })
    }

    /// The keys of some deletions, `[{"n":0,"k0":"7f1c"}]`; `n` is the index into [`Plan::deletions`].
    pub fn render_deletions_of(&self, rows: &[u32]) -> String {
        self.numbered(rows, 32, |json, row| self.key(json, &self.deletions[row as usize].id))
    }

    /// The same with a column that each of them carries, as `c0`.
    pub fn render_deletions_with(&self, rows: &[u32], column: &str) -> String {
        self.numbered(rows, 48, |json, row| {
            let deletion = &self.deletions[row as usize];
            self.key(json, &deletion.id);
            json.label("\"c0\":");
            json.raw(self.raw_of_deletion(deletion, column).unwrap_or("null"));
        })
    }

    /// An array of objects that begin with their number. `size` is a guess at what each takes.
    fn numbered(&self, rows: &[u32], size: usize, mut members: impl FnMut(&mut Writer<Vec<u8>>, u32)) -> String {
        let mut json = Writer::new(memory::list(rows.len().saturating_mul(size)));
        json.array();
        for row in rows {
            (self.check)();
            json.object();
            json.label("\"n\":");
            number(&mut json, *row as usize);
            members(&mut json, *row);
            json.end_object();
        }
        json.end_array();
        json.into_text()
    }

    /// `"k0":"7f1c"`
    fn key(&self, json: &mut Writer<Vec<u8>>, id: &str) {
        if self.key_len == 1 {
            json.label("\"k0\":");
            json.text(id);
            return;
        }
        for (i, part) in self.key_parts(id).iter().enumerate() {
            json.name(&format!("k{i}"));
            json.text(part);
        }
    }
}

fn number(json: &mut Writer<Vec<u8>>, n: usize) {
    use std::io::Write as _;
    let _ = write!(json.value(), "{n}");
}
