//! `pull_changes`: what changed for this user since a cursor, in one snapshot, as one JSON document.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::collections::catalog::{self, Collection};
use crate::collections::lookup::Keys;
use crate::log::clock::{self, durable, history, horizon};
use crate::log::read::Entries;
use crate::log::{client, journal, roles};
use crate::server::error::{code, Result, SyncError};
use crate::server::pg;
use crate::server::spi::{self, Planned};
use crate::server::statement::Statement;
use crate::sight::cause::Cause;
use crate::sight::policy::{self, Judge};
use crate::sight::reach::{Movement, Reach};
use crate::sight::scope;
use crate::values::cursor::{self, Cursor};
use crate::values::dialect::{self, Dialect, SelectAs};
use crate::values::json::{self, Buffer, Field, KeyPart, Output, RowSink, RowSpec};
use crate::values::settings;

mod changes;
mod delta;
mod echo;
mod exact;

use changes::Changed;
use delta::Past;

/// The arguments of `pull_changes`.
pub struct Request<'a> {
    pub collections: Vec<Option<String>>,
    pub last_pulled_at: Option<&'a str>,
    pub dialect: Option<&'a str>,
    /// JSON text: `{"todos": {"org_id": ["42"]}}`.
    pub filter: Option<String>,
    pub client_id: Option<&'a str>,
    pub send_created_as_updated: bool,
    /// Leave out what the client itself pushed and nobody has changed.
    pub skip_echoes: bool,
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

/// How often a pull begins anew because the caller's role was changed while it ran.
const ATTEMPTS: usize = 3;

/// Statements are planned with the roles as they are at that moment. So all of them count only if the caller's role has stood the same from
/// the first to the last.
pub fn pull(request: &Request) -> Result<Output> {
    for _ in 0..ATTEMPTS {
        let version = roles::version()?;
        let answer = pull_once(request)?;
        if roles::version()? == version {
            return Ok(answer);
        }
    }
    Err(SyncError::new("40001", "the role was changed again and again while the pull ran").hint("Pull again."))
}

fn pull_once(request: &Request) -> Result<Output> {
    let dialect = settings::dialect(request.dialect)?;
    client::check(request.client_id)?;
    let names = names(&request.collections)?;
    if request.skip_echoes && request.client_id.is_none() {
        return Err(echo::whose());
    }
    let cursor = cursor::parse(request.last_pulled_at).map_err(|e| {
        SyncError::new(code::INVALID_PARAMETER, "malformed last_pulled_at")
            .detail(e.to_string())
            .hint("Pass the timestamp of the previous pull, an ISO 8601 time, or null for the first pull.")
    })?;
    journal::flush_before_reading()?;
    // Locks the tables: DDL under way is waited for before the snapshot is taken, not while it is held.
    for name in &names {
        catalog::collection(name)?;
    }

    // Clock, then snapshot: the order that the proof in clock.rs rests on.
    let old_snapshot = pg::in_recovery() || pg::transaction_snapshot_is_fixed();
    durable::start();
    let (seen_by_clock, snapshot) = if old_snapshot {
        (None, pg::ActiveSnapshot::take())
    } else {
        let (reading, snapshot) = clock::observe()?;
        (Some(reading), snapshot)
    };
    let snapmin = match seen_by_clock {
        Some(clock) => clock.snapmin,
        None => horizon::snapmin_of_old_snapshot()?,
    };
    // Settings, functions and privileges change without a lock on the table. Who did so with a stamp below snapmin has sent
    // his invalidations before he released it, so before step 2: what is read from now on is as new as the snapshot.
    pg::accept_invalidations();
    let collections = names.iter().map(|n| catalog::collection(n)).collect::<Result<Vec<_>>>()?;
    let _in_use: Vec<pg::InUse> = collections.iter().map(|c| pg::InUse::mark(c.relation)).collect();
    let standing = roles::standing(&snapshot)?;
    let from = match start(cursor)? {
        // What the role may see has changed otherwise than by changes of rows.
        Start::Stamp(stamp) if !standing.held_since(stamp) => Start::Anything(Cause::Role),
        other => other,
    };
    // An older snapshot's snapmin can be less than the cursor; what lies between, the client has already.
    let timestamp = match from {
        Start::Stamp(c) => snapmin.max(c),
        _ => standing.limit(snapmin)?,
    };
    let timestamp = exact::cursor(timestamp, cursor, snapmin, seen_by_clock, &collections, &snapshot)?;

    // No stamp since the cursor has been handed out: there is nothing in the log, of any collection.
    // (But for what this transaction has written itself, under a number from before.)
    let nothing_since = journal::own_stamp().is_none()
        && matches!((from, seen_by_clock), (Start::Stamp(c), Some(clock)) if clock.newest < c);

    let filter = scope::Filter::parse(request.filter.as_deref())?;
    filter.check(&names, &collections)?;
    let mut reach = match from {
        Start::Stamp(stamp) => Some(Reach::since(stamp, &snapshot)),
        _ => None,
    };
    let is_exact = exact::is_exact(cursor);

    let mut out = Output::new();
    out.put(b"{\"changes\":{");
    let mut replaced: Vec<(&str, Cause)> = Vec::new();
    for (i, (name, collection)) in names.iter().zip(&collections).enumerate() {
        if i > 0 {
            out.put(b",");
        }
        json::escape_json(&mut out, name.as_bytes());
        out.put(b":");
        if nothing_since && !collection.unsure && !filter.names(name) {
            may_read(collection)?;
            out.put(NOTHING);
            continue;
        }
        let scopes = filter.scopes(name, collection)?;
        let pull = CollectionPull { collection, dialect, request, scopes, filtered: filter.names(name), is_exact };
        if let Some(cause) = pull.write(from, reach.as_mut(), &mut out)? {
            replaced.push((name, cause));
        }
    }
    out.put(format!("}},\"timestamp\":{timestamp}").as_bytes());
    say_replaced(&replaced, &mut out);
    out.put(b"}");
    durable::flush();
    Ok(out)
}

/// Says which collections replace what the client has, and why.
fn say_replaced(replaced: &[(&str, Cause)], out: &mut Output) {
    if replaced.is_empty() {
        return;
    }
    let mut object = |before: &str, value: &dyn Fn(Cause) -> &'static str| {
        out.put(before.as_bytes());
        for (i, (name, cause)) in replaced.iter().enumerate() {
            out.put(if i > 0 { b"," } else { b"{" });
            json::escape_json(out, name.as_bytes());
            out.put(format!(":\"{}\"", value(*cause)).as_bytes());
        }
        out.put(b"}");
    };
    object(",\"experimentalStrategy\":{\"default\":\"incremental\",\"override\":", &|_| "replacement");
    object("},\"reason\":", &Cause::name);
}

/// The names asked for, each once, in order.
fn names(asked: &[Option<String>]) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    let mut seen: HashSet<&str> = HashSet::new();
    for name in asked {
        pgrx::check_for_interrupts!();
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

fn start(cursor: Cursor) -> Result<Start> {
    match cursor {
        Cursor::Start => Ok(Start::Nothing),
        Cursor::Stamp(cursor) => {
            let stamp = cursor & !1;
            Ok(if history::cursor_is_of_this_history(stamp)? { Start::Stamp(stamp) } else { Start::Anything(Cause::Cursor) })
        }
        Cursor::At { micros_since_unix_epoch } => {
            let cursor = horizon::cursor_at(micros_since_unix_epoch, settings::timestamp_slack_micros())?;
            Ok(cursor.map_or(Start::Anything(Cause::Cursor), Start::Stamp))
        }
    }
}

/// The part of a collection without changes.
const NOTHING: &[u8] = b"{\"created\":[],\"updated\":[],\"deleted\":[]}";

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
    request: &'a Request<'a>,
    /// The scopes to pull; None for all rows.
    scopes: Option<Vec<String>>,
    /// The client asked for these, whatever its own are.
    filtered: bool,
    /// Its cursor says what it knows of memberships and the like.
    is_exact: bool,
}

/// The ids in `deleted`.
struct Gone<'a> {
    out: &'a mut Output,
    any: bool,
}

impl Gone<'_> {
    fn put(&mut self, id: &str) {
        if std::mem::replace(&mut self.any, true) {
            self.out.put(b",");
        }
        json::escape_json(self.out, id.as_bytes());
    }
}

/// A statement that reads rows by their keys.
struct ByKeys<'a> {
    sql: String,
    args: Vec<spi::Arg>,
    keys: Keys<'a>,
}

impl CollectionPull<'_> {
    /// Appends `{"created":[...],"updated":[...],"deleted":[...]}`; says why when it replaces what the client has.
    fn write(&self, from: Start, reach: Option<&mut Reach>, out: &mut Output) -> Result<Option<Cause>> {
        let cause = match (from, reach) {
            (Start::Stamp(stamp), Some(reach)) => match self.write_since(stamp, reach, out)? {
                None => return Ok(None),
                cause => cause,
            },
            (Start::Anything(cause), _) => Some(cause),
            _ => None,
        };
        self.write_all(cause.is_none(), out)?;
        Ok(cause)
    }

    /// The changes since this stamp; says why, with nothing written, when the client must replace what it has.
    fn write_since(&self, stamp: i64, reach: &mut Reach, out: &mut Output) -> Result<Option<Cause>> {
        let relation = self.collection.relation;
        let (stamps, tables) = match reach.movement(self.collection, self.scopes.is_some())? {
            Movement::Untold(cause) => return Ok(Some(cause)),
            Movement::Access { stamps, tables } => (stamps, tables),
            Movement::None => {
                let entries = match &self.scopes {
                    Some(scopes) => Rc::new(reach.entries_in(relation, scopes)?),
                    None => reach.entries(relation)?,
                };
                let judge = match entries.have_images() {
                    true => reach.judge(self.collection)?,
                    false => Some(Judge::of_none(self.collection)),
                };
                let Some(judge) = judge else { return Ok(Some(Cause::OldRows)) };
                return self.write_changes(&entries, &Past::Steady(&judge), out);
            }
        };
        self.write_moved(stamp, stamps, &tables, reach, out)
    }

    /// Every visible row: `created` for a client that is `new`, and has nothing; otherwise `updated`, so that WatermelonDB leaves alone
    /// what was deleted locally and not pushed yet (a created row would come back to life).
    fn write_all(&self, new: bool, out: &mut Output) -> Result<()> {
        durable::saw_rows();
        let created = new && !self.request.send_created_as_updated;
        out.put(if created { b"{\"created\":[" } else { b"{\"created\":[],\"updated\":[" });
        let (select, spec) = self.select(false)?;
        let mut sink = All { out, any: false };
        let mut args = Vec::new();
        let conditions = self.conditions(self.scopes.as_deref(), &mut args, false);
        let condition =
            if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        let sql = format!("SELECT {select} FROM {} AS t{condition}", self.collection.from);
        self.stream(&[], &sql, &args, Planned::ByCost, &spec, &mut sink)?;
        out.put(if created { b"],\"updated\":[],\"deleted\":[]}" } else { b"],\"deleted\":[]}" });
        Ok(())
    }

    /// What every row sent must satisfy besides row-level security, in these scopes; with `marked`, rows that are marked as deleted do,
    /// too.
    fn conditions(&self, scopes: Option<&[String]>, args: &mut Vec<spi::Arg>, marked: bool) -> Vec<String> {
        let mut conditions = Vec::new();
        if let (Some(scope), Some(scopes)) = (&self.collection.scope, scopes) {
            args.push(spi::arg(scopes.to_vec()));
            conditions.push(policy::in_scopes("t", scope, args.len()));
        }
        if let Some(column) = self.collection.soft_delete.as_ref().filter(|_| !marked) {
            conditions.push(policy::not_deleted("t", column));
        }
        conditions
    }

    /// The changes that these entries stand for; says why, with nothing written, when the client must replace what it has.
    fn write_changes(&self, entries: &Entries, past: &Past, out: &mut Output) -> Result<Option<Cause>> {
        if entries.is_empty() && matches!(past, Past::Steady(_)) {
            // The caller must learn of a missing privilege now, not with the first change.
            may_read(self.collection)?;
            out.put(NOTHING);
            return Ok(None);
        }
        let (select, spec) = self.select(true)?;
        let Some(mut rows) = self.changed(entries, past)? else { return Ok(Some(Cause::OldRows)) };
        if self.request.skip_echoes {
            self.leave_out_echoes(&mut rows, past)?;
        }
        let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
        let by_keys = self.by_keys(&select, &ids, false)?;
        out.put(b"{\"created\":[");
        let mut sink = Changes {
            at: ids.iter().enumerate().map(|(at, id)| (&**id, at)).collect(),
            rows: &mut rows,
            all_updated: self.request.send_created_as_updated,
            created: out,
            any_created: false,
            updated: Output::new(),
        };
        let beside = [by_keys.keys.relation()];
        self.stream(&beside, &by_keys.sql, &by_keys.args, by_keys.keys.planned(), &spec, &mut sink)?;
        if let Past::Moved(moved) = past {
            moved.write_gained(self, &select, &spec, &mut sink)?;
        }
        let updated = sink.updated;
        out.put(b"],\"updated\":[");
        out.put(updated.bytes());
        out.put(b"],\"deleted\":[");
        // Gone, and seen before: only then may the id leave. A row that the caller never could see is not mentioned.
        let mut gone = Gone { out, any: false };
        rows.iter().filter(|row| !row.returned && row.seen).for_each(|row| gone.put(&row.id));
        if let Past::Moved(moved) = past {
            moved.write_lost(self, &mut gone)?;
        }
        out.put(b"]}");
        Ok(None)
    }

    /// The select list of the columns that the caller may read, and how its rows become JSON. With `keys`, the key's
    /// columns come first, for the sink to know each row by.
    fn select(&self, keys: bool) -> Result<(String, RowSpec)> {
        let collection = self.collection;
        let with_id = self.dialect == Dialect::WatermelonDb;
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
            // WatermelonDB's id is the wire id, whatever a column of that name holds.
            if with_id && column.name == "id" {
                continue;
            }
            let (select, encoder) = dialect::encoder_for(self.dialect, &column.facts);
            let name = format!("t.{}", column.ident);
            list.push(match select {
                SelectAs::Column => name,
                SelectAs::ToJson => format!("pg_catalog.to_json({name})"),
            });
            spec.fields.push(Field { name: column.name.clone(), encoder });
        }
        Ok((list.join(", "), spec))
    }

    /// The rows of these keys that the caller sees.
    ///
    /// Few are looked up (lookup.rs). Otherwise the planner, which takes policy and scope for independent, may read all rows of the
    /// user by their index (1,000: 190 us instead of 50), and as no plan for unknown keys looks as good to it, it makes one anew
    /// for each pull (300 us).
    fn by_keys<S: AsRef<str>>(&self, select: &str, ids: &[S], marked: bool) -> Result<ByKeys<'_>> {
        let mut args = Vec::new();
        // No index shall serve these: what they leave over is little already.
        let conditions = self.conditions(self.scopes.as_deref(), &mut args, marked);
        let conditions: String = conditions.iter().map(|c| format!(" AND ({c}) IS TRUE")).collect();
        let keys = Keys::of(self.collection, ids)?;
        let (from, on, table) = (keys.from(), keys.on(), &self.collection.from);
        let sql = format!("SELECT {select} FROM {from} JOIN {table} AS t ON {on}{conditions}");
        Ok(ByKeys { sql, args, keys })
    }

    fn stream(
        &self,
        beside: &[spi::NamedRelation],
        sql: &str,
        args: &[spi::Arg],
        planned: Planned,
        spec: &RowSpec,
        sink: &mut dyn RowSink,
    ) -> Result<()> {
        let mut writer = json::RowWriter::new(spec, sink);
        // SAFETY: the one query below.
        let mut each = |slot| unsafe { writer.row(slot) };
        let hidden = self.hidden();
        if hidden.is_empty() {
            return spi::stream(beside, sql, args, planned, &mut each).map(drop);
        }
        self.statement(beside, sql, args, &hidden)?.each(&mut each)
    }

    /// The columns that decide what is sent and that the caller may not select: whether a row is marked as deleted, and its scope. That
    /// much he learns of them.
    fn hidden(&self) -> Vec<i16> {
        let deciding = [&self.collection.scope, &self.collection.soft_delete].into_iter().flatten();
        deciding.map(|c| c.attnum).filter(|attnum| !pg::may_select(self.collection.relation, *attnum)).collect()
    }

    /// A statement of ours that uses such columns.
    fn statement<'s>(
        &self,
        beside: &[spi::NamedRelation],
        sql: &str,
        args: &'s [spi::Arg],
        hidden: &[i16],
    ) -> Result<Statement<'s>> {
        let mut statement = Statement::analyze_beside(beside, sql, args)?;
        statement.use_without_privilege(self.collection.relation, hidden);
        Ok(statement)
    }
}

/// All rows into one array.
struct All<'a> {
    out: &'a mut Output,
    any: bool,
}

impl RowSink for All<'_> {
    fn row(&mut self, _id: &str) -> &mut Output {
        if std::mem::replace(&mut self.any, true) {
            self.out.put(b",");
        }
        self.out
    }
}

/// Changed rows into `created` or `updated`.
struct Changes<'a, 'k> {
    /// The place of each id in `rows`.
    at: HashMap<&'k str, usize>,
    rows: &'a mut [Changed],
    all_updated: bool,
    created: &'a mut Output,
    any_created: bool,
    updated: Output,
}

impl RowSink for Changes<'_, '_> {
    fn row(&mut self, id: &str) -> &mut Output {
        let mut created = !self.all_updated;
        if let Some(row) = self.at.get(id).map(|&at| &mut self.rows[at]) {
            row.returned = true;
            // New to this user: inserted, or first seen through a change of the row.
            created &= !row.own && (row.inserted || row.first_seen == Some(false));
        }
        if created {
            if std::mem::replace(&mut self.any_created, true) {
                self.created.put(b",");
            }
            self.created
        } else {
            if !self.updated.is_empty() {
                self.updated.put(b",");
            }
            &mut self.updated
        }
    }
}
