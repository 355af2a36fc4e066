//! All rows of a collection: for a client that has nothing, or whose copy is replaced.

use super::pages::Page;
use super::{CollectionPull, Start};
use crate::collections::order::KeyOrder;
use crate::log::clock::durable;
use crate::server::error::{code, Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::spi::{self, Planned};
use crate::server::{pg, subxact};
use crate::values::json::{Output, RowSink, Writer};
use crate::values::token::RowsPlace;
use crate::values::wire_id;

impl CollectionPull<'_> {
    /// Every visible row: `created` for a client that has nothing, otherwise `updated`, so that WatermelonDB leaves alone
    /// what was deleted locally and not pushed yet (a created row would come back to life).
    pub(super) fn write_all(&self, from: Start, out: &mut Writer<Output>) -> Result<()> {
        let created = self.begin_all(from, out);
        let (select, spec) = self.select(false)?;
        let mut sink = All { out: &mut *out };
        let mut args = Vec::new();
        let conditions = self.conditions(self.scopes(), &mut args, false);
        let condition =
            if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        let sql = format!("SELECT {select} FROM {} AS t{condition}", self.collection.from);
        self.stream(&[], &sql, &args, Planned::ByCost, &spec, &mut sink)?;
        self.end_all(created, out);
        Ok(())
    }

    /// As many of them as the page has room for, in the order of their keys, from this place on; or from the first on, where that is a
    /// place in another order. Gives the next one's place if there are more.
    pub(super) fn write_some(
        &self,
        from: Start,
        place: Option<&RowsPlace>,
        page: &mut Page,
        out: &mut Writer<Output>,
    ) -> Result<Option<RowsPlace>> {
        let created = self.begin_all(from, out);
        let (select, spec) = self.select(true)?;
        let order = KeyOrder::of(self.collection);
        let columns = order.columns();
        let mut args = Vec::new();
        let mut conditions = self.conditions(self.scopes(), &mut args, false);
        if let Some(place) = place.filter(|place| place.order == order.digest()) {
            let first = args.len() + 1;
            memory::extend(&mut args, self.key(&order, &place.after)?);
            let places: Vec<String> = (first..=args.len()).map(|n| format!("${n}")).gather();
            conditions.push(match (&columns[..], &places[..]) {
                ([column], [place]) => format!("{column} OPERATOR(pg_catalog.>) {place}"),
                _ => format!("ROW({}) OPERATOR(pg_catalog.>) ROW({})", columns.join(", "), places.join(", ")),
            });
        }
        let condition =
            if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        // One more tells whether there are more.
        args.push(spi::arg(i64::try_from(page.rows).unwrap_or(i64::MAX).saturating_add(1)));
        let sql = format!(
            "SELECT {select} FROM {} AS t{condition} ORDER BY {} LIMIT ${}",
            self.collection.from,
            columns.join(", "),
            args.len()
        );
        let mut sink = UntilFull { out: &mut *out, page, last: String::new(), more: false };
        // For few rows of many a plan is good that is bad for all of them.
        self.stream(&[], &sql, &args, Planned::Anew, &spec, &mut sink)?;
        let (last, more) = (sink.last, sink.more);
        self.end_all(created, out);
        Ok(more.then(|| RowsPlace { order: order.digest(), after: last }))
    }

    /// True if they are `created`.
    pub(super) fn begin_all(&self, from: Start, out: &mut Writer<Output>) -> bool {
        durable::saw_rows();
        let created = from == Start::Nothing && !self.request.send_created_as_updated;
        out.object();
        out.name("created");
        if !created {
            out.empty_array();
            out.name("updated");
        }
        out.array();
        created
    }

    pub(super) fn end_all(&self, created: bool, out: &mut Writer<Output>) {
        out.end_array();
        if created {
            out.name("updated");
            out.empty_array();
        }
        out.name("deleted");
        out.empty_array();
        out.end_object();
    }

    /// The key of the row with this id, in this order, as parameters.
    fn key(&self, order: &KeyOrder, id: &str) -> Result<Vec<spi::Arg>> {
        let unfit = || {
            SyncError::new(code::INVALID_PARAMETER, "malformed next")
                .detail(format!("It goes on from no key of collection \"{}\".", self.collection.name))
                .hint("Pass the next of the page before as it was, or leave it out to begin anew.")
        };
        let parts = wire_id::decode(id, self.collection.key.len()).map_err(|_| unfit())?;
        let parts = order.parts(self.collection, &parts);
        // A token can be made up.
        let lasting = pg::Lasting::here();
        let read = || parts.iter().map(|(base, part)| spi::input(*base, part)).gather::<Result<Vec<_>>>();
        let read = subxact::run(|| lasting.run(read));
        read.map_err(|e| if subxact::is_transient(&e) { e } else { unfit() })
    }
}

/// All rows into one array.
struct All<'a> {
    out: &'a mut Writer<Output>,
}

impl RowSink for All<'_> {
    fn row(&mut self, _id: &str) -> &mut Output {
        self.out.value()
    }
}

/// Rows into one array, until the page is full.
pub(super) struct UntilFull<'a, 'p> {
    pub out: &'a mut Writer<Output>,
    pub page: &'a mut Page<'p>,
    /// The id of the last one.
    pub last: String,
    pub more: bool,
}

impl RowSink for UntilFull<'_, '_> {
    fn is_full(&mut self) -> bool {
        self.more = self.page.is_full(self.out.length());
        self.more
    }

    fn row(&mut self, id: &str) -> &mut Output {
        self.page.holds(1);
        self.last.clear();
        self.last.push_str(id);
        self.out.value()
    }
}
