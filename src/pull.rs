//! `pull_changes`: what changed for this user since a cursor, in one snapshot, as one JSON document.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use crate::collections::catalog::{self, Collection, Column};
use crate::collections::tombstone;
use crate::log::clock::{self, durable, history, horizon, position};
use crate::log::read::Entries;
use crate::log::{client, journal, roles};
use crate::server::error::{code, Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::pg;
use crate::server::spi;
use crate::server::time;
use crate::sight::cause::Cause;
use crate::sight::policy::{self, Judge};
use crate::sight::reach::{Movement, Reach};
use crate::sight::scope::derived::{self, Derived, Patience};
use crate::values::cursor::Cursor;
use crate::values::dialect::{self, Dialect, SelectAs};
use crate::values::json::{Field, KeyPart, Output, RowSpec, Writer};
use crate::values::settings;
use crate::values::token::Place;

mod arrays;
mod backlog;
mod by_key;
mod changes;
mod delta;
mod drift;
mod echo;
mod exact;
mod length;
mod life;
mod look;
mod next_cursor;
mod pages;
mod rows;
pub mod schema;
mod since;
mod statements;
pub mod wait;
mod walk;
mod wanted;

use arrays::Arrays;
use delta::Past;
use exact::Basis;
use next_cursor::{Extent, NextCursor};
use pages::{Asked, Page};
use since::Since;
use wanted::{Filters, WantedRows};

/// The arguments of `pull_changes`.
#[derive(Default)]
pub struct PullRequest<'a> {
    pub collections: Vec<Option<String>>,
    pub last_pulled_at: Option<&'a str>,
    pub dialect: Option<&'a str>,
    /// JSON text: `{"todos": {"org_id": ["42"]}}`.
    pub filter: Option<String>,
    pub client_id: Option<&'a str>,
    /// Word for any of the caller's devices counts: which one asks is not said.
    pub any_device: bool,
    pub send_created_as_updated: bool,
    /// Leave out what the client itself pushed and nobody has changed.
    pub skip_echoes: bool,
    /// Pull in pages of so many rows.
    pub page_size: Option<i32>,
    /// What the page before gave as `next`.
    pub next: Option<&'a str>,
    /// The version of the app's schema.
    pub schema_version: Option<i32>,
    /// JSON text: what the client's tables and columns have become since its last pull.
    pub migration: Option<String>,
    /// JSON text: cursors of single collections.
    pub since: Option<String>,
    /// JSON text: the `filter` of the client's last pull, if it was another one.
    pub last_filter: Option<String>,
    /// Say where in the WAL the answer stands.
    pub lsn: bool,
}

/// What a collection's pull starts from.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Start {
    /// The client has nothing: every visible row is new to it.
    Nothing,
    /// The client's rows cannot be mended by changes: every visible row replaces what it has.
    Anything(Cause),
    /// Changes from this stamp on.
    Stamp(i64),
}

impl Start {
    fn or_anew_if(self, so: bool, cause: Cause) -> Start {
        match self {
            Start::Stamp(_) if so => Start::Anything(cause),
            other => other,
        }
    }

    fn cause(self) -> Option<Cause> {
        match self {
            Start::Anything(cause) => Some(cause),
            _ => None,
        }
    }
}

/// What happened since the cursors of collections, by these. Collections share what is read for that.
type Reaches<'a> = BTreeMap<i64, Reach<'a>>;

/// How often a pull begins anew because the caller's role was changed while it ran.
const ATTEMPTS: usize = 3;

/// Statements are planned with the roles as they are at that moment. So all of them count only if the caller's role has stood the same from
/// the first to the last.
pub fn pull(request: &PullRequest) -> Result<Output> {
    for _ in 0..ATTEMPTS {
        let watch = roles::RoleWatch::begin()?;
        let answer = pull_once(request, watch.version())?;
        if watch.held()? {
            return Ok(answer);
        }
    }
    Err(SyncError::new("40001", "the role was changed again and again while the pull ran").hint("Pull again."))
}

fn pull_once(request: &PullRequest, role: &str) -> Result<Output> {
    let (dialect, names, since) = parsed(request)?;
    journal::flush_before_reading()?;
    // Locks the tables: DDL under way is waited for before the snapshot is taken, not while it is held.
    for name in &names {
        catalog::collection(name)?;
    }

    let observed = observe(request.lsn)?;
    let (snapshot, snapmin, seen_by_clock) = (&observed.snapshot, observed.snapmin, observed.seen_by_clock);
    // Settings, functions and privileges change without a lock on the table. Who did so with a stamp below snapmin has sent
    // his invalidations before he released it, so before step 2: what is read from now on is as new as the snapshot.
    pg::accept_invalidations();
    let collections = names.iter().map(|n| catalog::collection(n)).gather::<Result<Vec<_>>>()?;
    let _in_use: Vec<pg::InUse> = collections.iter().map(|c| pg::InUse::mark(c.relation)).gather();
    let standing = roles::standing(snapshot)?;
    let asked = Asked { request, names: &names, cursor: since.cursor, dialect, collections: &collections, role };
    let mut page = Page::begin(&asked, snapshot, snapmin, seen_by_clock.is_some())?;
    let new_columns: Vec<_> = names.iter().zip(&collections).map(|(n, c)| since.new_columns(n, c)).gather();
    let begin = |cursor, new: &[Column]| begin(cursor, new, &standing, snapmin, page.as_ref());
    let starts = names.iter().zip(&new_columns).map(|(name, new)| begin(since.of(name), new));
    let starts: Vec<(Start, i64)> = starts.gather::<Result<_>>()?;
    let earliest = starts.iter().map(|(_, timestamp)| *timestamp).min();
    let earliest = if let Some(earliest) = earliest { earliest } else { begin(since.cursor, &[])?.1 };
    let mut next = NextCursor::begin(earliest, &since, (request, &names), &observed, &collections, page.as_mut())?;
    let filters = Filters::parse(request, dialect)?;
    filters.check(&names, &collections)?;
    let (mut reaches, mut replaced): (Reaches, Vec<(&str, Cause)>) = Default::default();
    let mut out = begun();
    for (at, (name, collection)) in names.iter().zip(&collections).enumerate() {
        out.name(name);
        let place = page.as_mut().map_or(Some(Place::Begin), |page| page.place(at));
        let ((from, _), new_columns) = (starts[at], &new_columns[at]);
        let resumed = page.as_ref().is_some_and(|page| page.resumed);
        let may_differ = resumed || !new_columns.is_empty() || collection.unsure || filters.name(name);
        let nothing = !may_differ && is_log_empty(from, seen_by_clock);
        let Some(place) = place.filter(|_| !nothing) else {
            may_read(collection)?;
            out.raw(NOTHING);
            continue;
        };
        let wanted = filters.wanted(name, collection)?;
        let basis = Basis::of(from, since.of(name), &observed);
        let from = wanted.start(from, page.is_some(), basis.may_lack);
        // (They may not be known here yet.)
        let from = from.or_anew_if(basis.older && since.names_columns(name), Cause::Columns);
        let pull = CollectionPull { collection, dialect, request, wanted, new_columns, basis };
        let told = length::explained(request, name, || match (&mut page, from) {
            (Some(page), _) => pull.write_page(from, (place, at), page, &mut reaches, &mut out),
            (None, Start::Stamp(stamp)) => {
                let reach = reaches.entry(stamp).or_insert_with(|| Reach::since(stamp, snapshot));
                pull.write(from, Some(reach), &mut out)
            }
            (None, _) => pull.write(from, None, &mut out),
        })?;
        next.tell(from, &told, page.as_mut());
        memory::extend(&mut replaced, told.cause().map(|cause| (&**name, cause)));
        if let Some(page) = &mut page {
            page.cut_before(at + 1, names.len(), out.length());
        }
    }
    out.end_object();
    let timestamp = next.end(standing, &starts, page.as_ref());
    end(page.map_or(Ok(None), Page::next)?, timestamp, observed.place, &replaced, &mut out);
    durable::flush();
    Ok(out.done())
}

/// An answer, as far as its changes.
fn begun() -> Writer<Output> {
    let mut out = Writer::new(Output::new());
    out.object();
    out.name("changes");
    out.object();
    out
}

/// The arguments that are texts.
fn parsed(request: &PullRequest) -> Result<(Dialect, Vec<String>, Since)> {
    let dialect = settings::dialect(request.dialect)?;
    client::check(request.client_id)?;
    let names = names(&request.collections)?;
    if request.skip_echoes && request.client_id.is_none() {
        return Err(echo::whose());
    }
    if request.lsn && (request.page_size.is_some() || request.next.is_some()) {
        return Err(SyncError::new(code::INVALID_PARAMETER, "lsn cannot be had in pages")
            .detail(
                "Each page is read under a snapshot of its own, so there is no one place in the WAL that all stand at.",
            )
            .hint("Pull in pages first, and then once more in one answer, with lsn."));
    }
    Ok((dialect, names, Since::parse(request)?))
}

/// No stamp since the cursor has been handed out: then there is nothing in the log, of any collection. (But for what this transaction
/// has written itself, under a number from before.)
fn is_log_empty(from: Start, clock: Option<clock::Reading>) -> bool {
    journal::own_stamp().is_none() && matches!((from, clock), (Start::Stamp(c), Some(clock)) if clock.newest < c)
}

/// What stands behind the changes.
fn end(
    next: Option<String>,
    timestamp: i64,
    place: Option<(String, String)>,
    replaced: &[(&str, Cause)],
    out: &mut Writer<Output>,
) {
    match next {
        Some(next) => {
            out.name("next");
            out.text(&next);
        }
        None => {
            out.name("timestamp");
            out.raw(&timestamp.to_string());
        }
    }
    if let Some((lsn, snapshot)) = place {
        out.name("lsn");
        out.text(&lsn);
        out.name("snapshot");
        out.text(&snapshot);
    }
    if !replaced.is_empty() {
        strategy(replaced, out);
    }
    out.end_object();
}

/// Under which snapshot a pull reads, and what it knows of it.
struct Observed {
    /// None: the snapshot is older than a reading of the clock would be.
    seen_by_clock: Option<clock::Reading>,
    snapshot: pg::ActiveSnapshot,
    snapmin: i64,
    /// Where in the WAL it stands, and the snapshot as text.
    place: Option<(String, String)>,
}

/// Clock, then snapshot: the order that the proof in clock.rs rests on. The clock is not asked where the snapshot is older.
fn observe(lsn: bool) -> Result<Observed> {
    let old_snapshot = pg::in_recovery() || pg::transaction_snapshot_is_fixed();
    durable::start();
    // (Before all: position.rs, and history.rs.)
    let reached = lsn.then(position::reached);
    let replayed = (pg::in_recovery() && !pg::transaction_snapshot_is_fixed()).then(position::reached);
    let (seen_by_clock, snapshot) = if old_snapshot {
        (None, pg::ActiveSnapshot::take())
    } else {
        let (reading, snapshot) = clock::observe()?;
        (Some(reading), snapshot)
    };
    let snapmin = match seen_by_clock {
        Some(clock) => clock.snapmin,
        None => history::past_gap(horizon::snapmin_of_old_snapshot()?, replayed, &snapshot)?,
    };
    let lsn = reached.map(|reached| position::of_pull(reached, seen_by_clock, snapmin)).transpose()?;
    let place = lsn.map(|lsn| (position::text(lsn), position::text_of(&snapshot)));
    Ok(Observed { seen_by_clock, snapshot, snapmin, place })
}

/// Which collections replace what the client has, and why.
fn strategy(replaced: &[(&str, Cause)], out: &mut Writer<Output>) {
    out.name("experimentalStrategy");
    out.object();
    out.name("default");
    out.text("incremental");
    out.name("override");
    out.object();
    for (name, _) in replaced {
        out.name(name);
        out.text("replacement");
    }
    out.end_object();
    out.end_object();
    out.name("reason");
    out.object();
    for (name, cause) in replaced {
        out.name(name);
        out.text(cause.name());
    }
    out.end_object();
}

/// The names asked for, each once, in order.
fn names(asked: &[Option<String>]) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    let mut seen: HashSet<&str> = HashSet::new();
    for name in asked {
        memory::heed();
        let Some(name) = name else {
            return Err(SyncError::new(code::NULL_NOT_ALLOWED, "collections must not contain null")
                .hint("Pass the names of the collections to pull, for example '{todos,lists}'."));
        };
        if seen.insert(name) {
            names.push(name.clone());
        }
    }
    Ok(names)
}

/// Where a collection begins, and the cursor that the client could get of it.
fn begin(
    cursor: Cursor,
    new_columns: &[Column],
    standing: &roles::Standing,
    snapmin: i64,
    page: Option<&Page>,
) -> Result<(Start, i64)> {
    let start = match start(cursor)? {
        // What the role may see has changed otherwise than by changes of rows.
        Start::Stamp(stamp) if !standing.held_since(stamp) => Start::Anything(Cause::Role),
        other => other,
    };
    // Rows that did not change come in no window of the log.
    let start = start.or_anew_if(page.is_some() && !new_columns.is_empty(), Cause::Pages);
    let start = page.map_or(start, |page| page.start(start));
    // An older snapshot's snapmin can be less than the cursor; what lies between, the client has already.
    let timestamp = match start {
        Start::Stamp(c) => snapmin.max(c),
        _ => snapmin,
    };
    Ok((start, timestamp))
}

fn start(cursor: Cursor) -> Result<Start> {
    match cursor {
        Cursor::Start => Ok(Start::Nothing),
        Cursor::Stamp(cursor) => {
            let stamp = clock::stamp_of(cursor);
            Ok(match history::cursor_is_of_this_history(stamp)? {
                true if cursor - stamp == clock::UNRECORDED => Start::Anything(Cause::Role),
                true if cursor - stamp == clock::WENT_BACK => Start::Anything(Cause::Cursor),
                true => Start::Stamp(stamp),
                false => Start::Anything(Cause::Cursor),
            })
        }
        Cursor::At { micros_since_unix_epoch } => {
            let slack = settings::timestamp_slack_micros();
            // By a clock that is ahead by more than that: when the client last pulled is not known.
            if micros_since_unix_epoch.saturating_sub(slack) > time::now() {
                return Ok(Start::Anything(Cause::Cursor));
            }
            let cursor = horizon::cursor_at(micros_since_unix_epoch, slack)?;
            Ok(cursor.map_or(Start::Anything(Cause::Cursor), Start::Stamp))
        }
    }
}

/// The part of a collection without changes.
const NOTHING: &str = "{\"created\":[],\"updated\":[],\"deleted\":[]}";

/// The caller must be able to read the key, or hear so; of the other columns he gets those that he may read.
fn may_read(collection: &Collection) -> Result<()> {
    let Some(hidden) = collection.key.iter().find(|k| !pg::may_select(collection.relation, k.attnum)) else {
        return Ok(());
    };
    Err(SyncError::new(
        code::INSUFFICIENT_PRIVILEGE,
        format!("permission denied for collection \"{}\"", collection.name),
    )
    .detail(format!("The role may not read the key column \"{}\".", hidden.name))
    .hint(format!("GRANT SELECT ON {} TO the role that syncs.", collection.table)))
}

/// One collection's part of a pull.
struct CollectionPull<'a> {
    collection: &'a Rc<Collection>,
    dialect: Dialect,
    request: &'a PullRequest<'a>,
    /// Which rows.
    wanted: WantedRows,
    basis: Basis,
    /// The columns that the client has only just got: rows that have a value there come besides those that changed.
    new_columns: &'a [Column],
}

impl CollectionPull<'_> {
    /// Appends `{"created":[...],"updated":[...],"deleted":[...]}`.
    fn write(&self, from: Start, reach: Option<&mut Reach>, out: &mut Writer<Output>) -> Result<Extent> {
        if let Some(keys) = &self.wanted.keys {
            return self.write_keys(from, keys, reach, out);
        }
        let from = match (from, reach) {
            (Start::Stamp(stamp), Some(reach)) => match self.write_since(stamp, reach, out)? {
                None => return Ok(Extent::Changes),
                Some(cause) => Start::Anything(cause),
            },
            (from, _) => from,
        };
        self.write_all(from, out)?;
        Ok(Extent::All(from.cause()))
    }

    /// The changes since this stamp; says why, with nothing written, when the client must replace what it has.
    fn write_since(&self, stamp: i64, reach: &mut Reach, out: &mut Writer<Output>) -> Result<Option<Cause>> {
        let (stamps, tables) = match reach.movement(self.collection, self.collection.logged_scope.is_some())? {
            Movement::Untold(cause) => return Ok(Some(cause)),
            Movement::Access { stamps, tables } => (stamps, tables),
            Movement::None { tables } if self.wanted.before.differs() => (Vec::new(), tables),
            Movement::None { .. } => {
                let (entries, judge) = self.entries(reach)?;
                let judge = match judge {
                    None if self.needs_judge(&entries) => reach.judge(self.collection)?,
                    None => Some(Judge::of_none(self.collection)),
                    known => known,
                };
                let Some(judge) = judge else { return Ok(Some(Cause::OldRows)) };
                return self.write_changes(&entries, &Past::Steady(&judge), out);
            }
        };
        self.write_moved(stamp, stamps, &tables, reach, out)
    }

    /// What happened in the caller's scopes: those that he or the table's owner names, else those that the policies leave him. And who
    /// judges old rows, where that had to be found out for it.
    fn entries(&self, reach: &mut Reach) -> Result<(Rc<Entries>, Option<Judge>)> {
        let Derived { scopes, judge } = self.derived(reach, Patience::Pull)?;
        let entries = match self.scopes().or(scopes.as_deref()) {
            Some(scopes) => Rc::new(reach.entries_in(self.collection.relation, scopes)?),
            None => reach.entries(self.collection.relation)?,
        };
        Ok((entries, judge))
    }

    /// The scopes to pull; None for all rows.
    fn scopes(&self) -> Option<&[String]> {
        self.wanted.scopes.as_deref()
    }

    /// The scopes that the policies leave the caller, where nobody has named any.
    fn derived(&self, reach: &mut Reach, patience: Patience) -> Result<Derived> {
        match self.wanted.scopes {
            Some(_) => Ok(Derived::default()),
            None => derived::scopes(self.collection, reach, patience),
        }
    }

    /// What every row sent must satisfy besides row-level security, in these scopes; with `marked`, and where they are shown, rows that are
    /// marked as deleted do, too.
    fn conditions(&self, scopes: Option<&[String]>, args: &mut Vec<spi::Arg>, marked: bool) -> Vec<String> {
        let mut conditions = Vec::new();
        if let (Some(scope), Some(scopes)) = (&self.collection.scope, scopes) {
            args.push(spi::arg(scopes.iter().cloned().gather::<Vec<String>>()));
            conditions.push(policy::in_scopes("t", scope, args.len()));
        }
        if let Some(column) = self.collection.soft_delete.as_ref().filter(|_| !marked && self.shown_mark().is_none()) {
            conditions.push(tombstone::is_unmarked(column));
        }
        conditions
    }

    /// The changes that these entries stand for; says why, with nothing written, when the client must replace what it has.
    fn write_changes(&self, entries: &Entries, past: &Past, out: &mut Writer<Output>) -> Result<Option<Cause>> {
        if entries.is_empty() && self.new_columns.is_empty() && matches!(past, Past::Steady(_)) {
            // The caller must learn of a missing privilege now, not with the first change.
            may_read(self.collection)?;
            out.raw(NOTHING);
            return Ok(None);
        }
        let Some((mut rows, _)) = self.changed(entries, past, None, usize::MAX)? else {
            return Ok(Some(Cause::OldRows));
        };
        if self.request.skip_echoes {
            self.leave_out_echoes(&mut rows, past)?;
        }
        let mut arrays = Arrays::begin(self, out)?;
        if let Some(keys) = &self.wanted.keys {
            self.add_asked_otherwise(keys, true, &mut rows);
        }
        arrays.add(self, &mut rows, None)?;
        if let Past::Moved(moved) = past {
            arrays.add_new(self, |select, spec, sink| moved.read_gained(self, select, spec, sink))?;
            moved.read_lost(self, &mut |id| arrays.add_gone(id))?;
        }
        if !self.new_columns.is_empty() {
            arrays.add_those_with_new_columns(self, &rows)?;
        }
        arrays.end();
        Ok(None)
    }

    /// Do these entries have old states, or may they lack some that policies ask for?
    fn needs_judge(&self, entries: &Entries) -> bool {
        entries.have_images() || self.collection.traits.unlogged_column
    }

    /// The select list of the columns that the caller may read, and how its rows become JSON. With `keys`, the key's
    /// columns come first, for the sink to know each row by.
    fn select(&self, keys: bool) -> Result<(String, RowSpec)> {
        let collection = self.collection;
        let with_id = self.dialect.has_wire_ids();
        let needs_key = keys || with_id;
        may_read(collection)?;
        let mut list: Vec<String> = Vec::new();
        let mut spec = RowSpec { key: Vec::new(), fields: Vec::new(), inject_id: with_id };
        if needs_key {
            for column in &collection.key {
                spec.key.push(KeyPart::new(&column.facts));
                list.push(format!("t.{}", column.ident));
            }
        }
        for column in collection.columns.iter().filter(|c| pg::may_select(collection.relation, c.attnum)) {
            // There the id is the wire id, whatever a column of that name holds.
            if with_id && column.name == "id" {
                continue;
            }
            let (select, encoder) = dialect::encoder_for(self.dialect, &column.facts);
            let name = self.shown_version(column).unwrap_or_else(|| format!("t.{}", column.ident));
            list.push(match select {
                SelectAs::Column => name,
                SelectAs::ToJson => format!("pg_catalog.to_json({name})"),
            });
            spec.fields.push(Field { name: column.name.clone(), encoder });
        }
        Ok((list.join(", "), spec))
    }
}
