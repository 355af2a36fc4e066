//! Changed rows, as they are now, into the three arrays of a collection.

use std::collections::{HashMap, HashSet};

use super::changes::{Changed, PushedByClient};
use super::drift::GoneRow;
use super::pages::Page;
use super::CollectionPull;
use crate::log::clock::durable;
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::server::spi::Planned;
use crate::values::json::{Buffer, Output, RowSink, RowSpec, Writer};

/// `{"created":[...],"updated":[...],"deleted":[...]}`, on its way into the answer.
pub(super) struct Arrays<'a> {
    select: String,
    spec: RowSpec,
    /// The answer, which ends with the created ones.
    created: &'a mut Writer<Output>,
    updated: Writer<Output>,
    deleted: Writer<Output>,
    /// The ids that are in one of them, in a page.
    said: HashSet<String>,
    /// Rows that are gone travel as rows, among the updated ones.
    gone_row: Option<GoneRow>,
}

/// What comes of rows that are put in.
pub(super) enum Added {
    All,
    /// The page has no room for those after this id; None: not even for the first.
    UpTo(Option<String>),
}

impl<'a> Arrays<'a> {
    pub fn begin(pull: &CollectionPull, out: &'a mut Writer<Output>) -> Result<Arrays<'a>> {
        let (select, spec) = pull.select(true)?;
        out.object();
        out.name("created");
        out.array();
        let (updated, deleted) = (Writer::new(Output::new()), Writer::new(Output::new()));
        Ok(Arrays { select, spec, created: out, updated, deleted, said: HashSet::new(), gone_row: pull.gone_row() })
    }

    pub fn end(self) {
        let out = self.created;
        out.end_array();
        for (name, rows) in [("updated", self.updated), ("deleted", self.deleted)] {
            out.name(name);
            out.array();
            out.value().put(rows.done().bytes());
            out.end_array();
        }
        out.end_object();
    }

    /// Puts in the rows that `read` reads with this select list, which are new to the client.
    pub fn add_new(
        &mut self,
        pull: &CollectionPull,
        read: impl FnOnce(&str, &RowSpec, &mut dyn RowSink) -> Result<()>,
    ) -> Result<()> {
        let mut sink = Sink {
            at: HashMap::new(),
            rows: &mut [],
            all_updated: pull.request.send_created_as_updated,
            created: &mut *self.created,
            updated: &mut self.updated,
            is_long: &|_, _| false,
            was_long: false,
        };
        read(&self.select, &self.spec, &mut sink)
    }

    /// Puts in the id of a row that is gone.
    pub fn add_gone(&mut self, id: &str) {
        match &self.gone_row {
            Some(row) => row.write(id, &mut self.updated),
            None => self.deleted.text(id),
        }
    }

    /// How long the answer has become.
    pub fn length(&self) -> usize {
        self.created.length() + self.updated.length() + self.deleted.length()
    }

    /// Puts in these rows, as long as the page has room for them. Those that are in already stand as they are: they were read under the
    /// same snapshot.
    pub fn add(&mut self, pull: &CollectionPull, rows: &mut Vec<Changed>, page: Option<&mut Page>) -> Result<Added> {
        let Some(page) = page else {
            self.put(pull, rows, &|_| false)?;
            return Ok(Added::All);
        };
        rows.retain(|row| !self.said.contains(&row.id));
        let (mut last, mut done, mut at_a_time) = (None, 0, usize::MAX);
        while done < rows.len() {
            memory::heed();
            if page.is_full(self.length()) {
                return Ok(Added::UpTo(last));
            }
            let few = (rows.len() - done).min(page.rows).min(at_a_time);
            let part = &mut rows[done..done + few];
            let is_long = |length| few > 1 && page.is_long(length);
            if !self.put(pull, part, &is_long)? {
                if !page.is_empty() {
                    return Ok(Added::UpTo(last));
                }
                // All at once they are too long, and a page has at least one.
                at_a_time = few / 2;
                continue;
            }
            let said: Vec<&Changed> = part.iter().filter(|row| row.returned || row.seen).gather();
            page.holds(said.len());
            last = said.last().map(|row| row.id.clone()).or(last);
            memory::extend(&mut self.said, said.into_iter().map(|row| row.id.clone()));
            done += few;
        }
        Ok(Added::All)
    }

    /// Puts in, as updated, the rows with a value in a column that the client has only just got, but for these, which are in already.
    pub fn add_those_with_new_columns(&mut self, pull: &CollectionPull, rows: &[Changed]) -> Result<()> {
        durable::saw_rows();
        let mut args = Vec::new();
        let mut conditions = pull.conditions(pull.scopes(), &mut args, false);
        // (Not IS NOT NULL, which a composite value with an empty field is not.)
        let set: Vec<String> = pull.new_columns.iter().map(|c| format!("t.{} IS DISTINCT FROM NULL", c.ident)).gather();
        conditions.push(format!("({})", set.join(" OR ")));
        let (select, from) = (&self.select, &pull.collection.from);
        let sql = format!("SELECT {select} FROM {from} AS t WHERE {}", conditions.join(" AND "));
        let said = rows.iter().map(|row| &*row.id).gather();
        let mut sink = Others { said, updated: &mut self.updated, waste: Output::new() };
        pull.stream(&[], &sql, &args, Planned::ByCost, &self.spec, &mut sink)
    }

    /// Puts in all of these; false, with none of them in, if the answer gets so long before the last one.
    fn put(&mut self, pull: &CollectionPull, rows: &mut [Changed], is_long: &dyn Fn(usize) -> bool) -> Result<bool> {
        let before = (self.created.mark(), self.updated.mark());
        let asked = rows.iter().enumerate().filter(|(_, row)| !row.unasked);
        let asked: Vec<(usize, String)> = asked.map(|(at, row)| (at, row.id.clone())).gather();
        let ids: Vec<&str> = asked.iter().map(|(_, id)| &**id).gather();
        let by_keys = pull.by_keys(&self.select, &ids, false)?;
        let beside = [by_keys.keys.relation()];
        let length = self.deleted.length();
        let mut sink = Sink {
            at: asked.iter().map(|(at, id)| (&**id, *at)).gather(),
            rows: &mut *rows,
            all_updated: pull.request.send_created_as_updated,
            created: &mut *self.created,
            updated: &mut self.updated,
            is_long: &|created, updated| is_long(length + created + updated),
            was_long: false,
        };
        pull.stream(&beside, &by_keys.sql, &by_keys.args, by_keys.keys.planned(), &self.spec, &mut sink)?;
        let was_long = sink.was_long;
        if was_long {
            self.created.back_to(before.0);
            self.updated.back_to(before.1);
            rows.iter_mut().for_each(|row| row.returned = false);
            return Ok(false);
        }
        // Gone, and seen before: only then may the id leave. A row that the caller never could see is not mentioned.
        for row in rows.iter().filter(|row| !row.returned && row.seen) {
            self.add_gone(&row.id);
        }
        Ok(true)
    }
}

/// Rows that were not said yet.
struct Others<'a> {
    said: HashSet<&'a str>,
    updated: &'a mut Writer<Output>,
    waste: Output,
}

impl RowSink for Others<'_> {
    fn row(&mut self, id: &str) -> &mut Output {
        if self.said.contains(id) {
            self.waste.truncate(0);
            return &mut self.waste;
        }
        self.updated.value()
    }
}

/// Changed rows into `created` or `updated`.
struct Sink<'a, 'k> {
    /// The place of each id in `rows`.
    at: HashMap<&'k str, usize>,
    rows: &'a mut [Changed],
    all_updated: bool,
    created: &'a mut Writer<Output>,
    updated: &'a mut Writer<Output>,
    /// Is that too long, and are more rows to come?
    is_long: &'a dyn Fn(usize, usize) -> bool,
    was_long: bool,
}

impl RowSink for Sink<'_, '_> {
    fn is_full(&mut self) -> bool {
        self.was_long = (self.is_long)(self.created.length(), self.updated.length());
        self.was_long
    }

    fn row(&mut self, id: &str) -> &mut Output {
        let mut created = !self.all_updated;
        if let Some(row) = self.at.get(id).map(|&at| &mut self.rows[at]) {
            row.returned = true;
            // New to this user: inserted, or first seen through a change of the row. Or new to the client, which has deleted it.
            created &= match row.own {
                None => row.inserted || row.first_seen == Some(false),
                Some(own) => own == PushedByClient::Gone,
            };
        }
        if created {
            self.created.value()
        } else {
            self.updated.value()
        }
    }
}
