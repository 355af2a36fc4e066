//! Plays a case on a fresh database and checks every pull.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex};

use anyhow::{anyhow, Context, Result};
use postgres::error::SqlState;
use postgres::{Client, NoTls};
use serde_json::{json, Map, Value};

use crate::cluster::Cluster;
use crate::postgrest::{rpc, Pull, PUSH_TYPES};
use crate::replica::{Applied, Replica, Spec};

use super::causes::Causes;
use super::hostile::{self, DECOY};
use super::kind::OpKind;
use super::ops::Op;
use super::oracle::Timeline;
use super::plant::Plant;
use super::schema::{actor, Ask, Table, World, ACTORS, ROLES, ROLES_AS_MADE, TEMPLATE};
use super::settings::Settings;
use super::sight::{denied, Sight};
use super::{Abilities, Case};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// the replica is not what the role may SELECT
    Difference,
    /// an id was sent that the role could not see since its cursor
    Leak,
    /// SQL that somebody had planted ran, and saw what it was called with
    Decoy,
    /// an answer of the wrong form
    Contract,
    /// an error that nothing in the operations explains
    Unexpected,
    /// the schema's statements failed
    World,
}

#[derive(Clone, Debug)]
pub struct Failure {
    pub kind: Kind,
    pub text: String,
    /// the operation that showed it
    pub at: usize,
}

#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub steps: u64,
    pub pulls: u64,
    pub first: u64,
    pub pulls_with_reset: u64,
    /// answers whose cursor was not kept
    pub went_back: u64,
    pub applied: Applied,
    pub ids_sent: u64,
    pub ineffective_ops: u64,
    /// pulls of roles that may not read a table, or what its policies read
    pub denied: u64,
    pub pushes: u64,
    pub causes: Causes,
    /// collections at first, and those of them whose policies divide their rows
    pub collections: u64,
    pub divided: u64,
    /// tables that are only tracked because policies read them, and those of them whose rows these divide
    pub read: u64,
    pub read_divided: u64,
}

/// Of each collection the rows that a client shall hold; None where its role may not read it.
type WantedRows<'a> = Vec<(&'a Table, Option<Vec<String>>)>;

impl std::ops::AddAssign for Stats {
    fn add_assign(&mut self, o: Self) {
        self.steps += o.steps;
        self.pulls += o.pulls;
        self.first += o.first;
        self.pulls_with_reset += o.pulls_with_reset;
        self.went_back += o.went_back;
        self.applied += o.applied;
        self.ids_sent += o.ids_sent;
        self.ineffective_ops += o.ineffective_ops;
        self.denied += o.denied;
        self.pushes += o.pushes;
        self.causes.add(&o.causes);
        self.collections += o.collections;
        self.divided += o.divided;
        self.read += o.read;
        self.read_divided += o.read_divided;
    }
}

pub const TEMPLATE_DATABASE: &str = "fuzz_template";

/// Makes the roles and the template database, and says what the extension offers.
pub fn prepare(cluster: &Cluster) -> Result<Abilities> {
    let mut postgres = cluster.connect("postgres")?;
    postgres.batch_execute(ROLES)?;
    postgres.batch_execute(&format!("CREATE DATABASE {TEMPLATE_DATABASE} TEMPLATE template0"))?;
    let mut template = cluster.connect(TEMPLATE_DATABASE)?;
    template.batch_execute(TEMPLATE)?;
    template.batch_execute(hostile::TEMPLATE)?;
    let has = |client: &mut Client, function: &str, argument: &str| -> Result<bool> {
        Ok(client
            .query_one(
                "SELECT coalesce(bool_or($2 = ANY(proargnames)), false) FROM pg_proc WHERE proname = $1",
                &[&function, &argument],
            )?
            .get(0))
    };
    Ok(Abilities {
        access_tables: has(&mut template, "enable", "access_tables")?,
        scopes: has(&mut template, "enable", "scope_column")? && has(&mut template, "pull_changes", "filter")?,
        whole_row: true,
        hostile: true,
        nested: 0.3,
        own_members: 0.3,
    })
}

/// Plays a case; `Ok(Err(failure))` is a finding, `Err` a trouble of the harness.
pub fn play(cluster: &Cluster, case: &Case, plant: Option<Plant>) -> Result<(Stats, Option<Failure>)> {
    static COUNTER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let database = format!("fuzz_{}", COUNTER.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    let mut postgres = cluster.connect("postgres")?;
    postgres.batch_execute(ROLES_AS_MADE)?;
    postgres.batch_execute(&format!("CREATE DATABASE {database} TEMPLATE {TEMPLATE_DATABASE}"))?;
    let mut player = match Player::new(cluster, &database, &case.world) {
        Ok(player) => player,
        Err(e) => {
            cluster.drop_database(&database)?;
            return Ok((Stats::default(), Some(Failure { kind: Kind::World, text: format!("{e:#}"), at: 0 })));
        }
    };
    player.plant = plant;
    let mut failure = None;
    for (at, op) in case.ops.iter().enumerate() {
        if let Err(Found { kind, text }) = player.step(op) {
            failure = Some(Failure { kind, text, at });
            break;
        }
    }
    let stats = std::mem::take(&mut player.stats);
    drop(player);
    cluster.drop_database(&database)?;
    Ok((stats, failure))
}

struct Found {
    kind: Kind,
    text: String,
}

impl<E: Into<anyhow::Error>> From<E> for Found {
    fn from(error: E) -> Self {
        Self { kind: Kind::Unexpected, text: format!("{:#}", error.into()) }
    }
}

/// A client of the world: who it is, what it asks for and what it holds.
struct Holder {
    actor: usize,
    asks: Ask,
    /// the filter that its cursor came with
    asked: Option<Value>,
    /// the ids in it
    named: BTreeSet<(String, String)>,
    replica: Replica,
    /// as the server knows it
    client_id: String,
    /// what happened since its last pull
    since: BTreeSet<OpKind>,
    /// what it pushed since then
    pushed: HashSet<(String, String)>,
}

struct Player<'a> {
    world: &'a World,
    admin: Client,
    app: Client,
    replicas: Vec<Holder>,
    /// per actor; only those with a replica have entries
    timelines: Vec<Timeline>,
    sight: Sight,
    stats: Stats,
    plant: Option<Plant>,
    clock: i64,
    /// what decoys said
    decoys: Arc<Mutex<Vec<String>>>,
}

impl<'a> Player<'a> {
    fn new(cluster: &Cluster, database: &str, world: &'a World) -> Result<Self> {
        let decoys: Arc<Mutex<Vec<String>>> = Arc::default();
        let connect = |user: &str| {
            let heard = Arc::clone(&decoys);
            let mut config = cluster.config(database);
            config.user(user).notice_callback(move |notice| {
                if notice.message().starts_with(DECOY) {
                    heard.lock().unwrap_or_else(|e| e.into_inner()).push(notice.message().to_owned());
                }
            });
            config.connect(NoTls)
        };
        let mut admin = connect("postgres")?;
        for (settings, statement) in world.ddl() {
            admin.batch_execute(&settings.sql(false))?;
            admin.batch_execute(&statement).with_context(|| statement.clone())?;
        }
        admin.batch_execute(&Settings::default().sql(false))?;
        let specs: Vec<Spec> = world.collections().map(|t| t.spec()).collect();
        let replicas = world
            .replicas
            .iter()
            .enumerate()
            .map(|(at, def)| Holder {
                actor: def.actor,
                asks: Ask { orgs: def.filter.clone(), ids: def.ids.clone() },
                asked: None,
                named: BTreeSet::new(),
                replica: Replica::new(&specs).leaving_out(if world.hostile { &hostile::LOOKS } else { &[] }),
                client_id: format!("replica-{at}"),
                since: BTreeSet::new(),
                pushed: HashSet::new(),
            })
            .collect();
        let app = connect("authenticator")?;
        let timelines = ACTORS.iter().map(|_| Timeline::default()).collect();
        let sight = Sight::of(&mut admin, world)?;
        let row = admin.query_one(
            "SELECT count(name), count(found_scope) FILTER (WHERE name IS NOT NULL), count(*) - count(name), \
                 count(found_scope) FILTER (WHERE name IS NULL) FROM snapsync.collection",
            &[],
        )?;
        let count = |at: usize| row.get::<_, i64>(at) as u64;
        let (collections, divided, read, read_divided) = (count(0), count(1), count(2), count(3));
        let stats = Stats { collections, divided, read, read_divided, ..Stats::default() };
        let mut player = Self { world, admin, app, replicas, timelines, sight, stats, plant: None, clock: 0, decoys };
        player.look().map_err(|f| anyhow!(f.text))?;
        Ok(player)
    }

    fn step(&mut self, op: &Op) -> Result<(), Found> {
        self.stats.steps += 1;
        let done = self.act(op);
        // First, as the rest follows from it.
        let heard = std::mem::take(&mut *self.decoys.lock().unwrap_or_else(|e| e.into_inner()));
        match heard.first() {
            None => done,
            Some(first) => Err(Found { kind: Kind::Decoy, text: format!("{first} (and {} more)", heard.len() - 1) }),
        }
    }

    fn act(&mut self, op: &Op) -> Result<(), Found> {
        match op {
            Op::Write { by, statements, commit, settings } => {
                if self.write(*by, statements, *commit, settings)? && *commit {
                    self.happened(op)?;
                }
                self.look()
            }
            Op::Ddl { sql, settings } => {
                if self.execute(sql, settings)? {
                    self.happened(op)?;
                }
                self.look()
            }
            Op::Pull { replica, repeatable_read, number, asks, between, settings } => {
                if let Some(asks) = asks {
                    self.replicas[*replica].asks = asks.clone();
                }
                self.pull(*replica, *repeatable_read, *number, between, settings)
            }
            Op::Push { replica, table, id, values } => {
                if self.push(*replica, *table, *id, values)? {
                    self.happened(op)?;
                }
                self.look()
            }
            Op::Forget { replica } => {
                self.replicas[*replica].replica.forget();
                self.replicas[*replica].asked = None;
                Ok(())
            }
        }
    }

    fn happened(&mut self, op: &Op) -> Result<()> {
        let kinds = op.kinds();
        if kinds.iter().any(|k| *k < OpKind::Truncate) {
            self.sight.forget(&mut self.admin)?;
        }
        for replica in &mut self.replicas {
            replica.since.extend(kinds.iter().filter(|k| **k <= OpKind::Push));
        }
        Ok(())
    }

    fn write(
        &mut self,
        by: Option<usize>,
        statements: &[String],
        commit: bool,
        under: &Settings,
    ) -> Result<bool, Found> {
        let mut sql = "BEGIN; ".to_owned();
        if let Some(by) = by {
            let caller = actor(by);
            sql += &format!(
                "SELECT set_config('role', '{}', true), set_config('request.jwt.claims', '{}', true); ",
                caller.role, caller.claims
            );
        }
        sql += &statements.join("; ");
        sql += if commit { "; COMMIT" } else { "; ROLLBACK" };
        self.execute(&sql, under)
    }

    /// Errors that random operations meet by themselves count as operations without effect (false).
    fn execute(&mut self, sql: &str, under: &Settings) -> Result<bool, Found> {
        if under.is_empty() {
            return self.attempt(sql);
        }
        // In a message of its own: the whole of one is read under the settings that stood before it.
        self.admin.batch_execute(&under.sql(false))?;
        let done = self.attempt(sql)?;
        self.admin.batch_execute(&Settings::default().sql(false))?;
        Ok(done)
    }

    fn attempt(&mut self, sql: &str) -> Result<bool, Found> {
        const OWN: [SqlState; 18] = [
            SqlState::UNIQUE_VIOLATION,
            SqlState::FOREIGN_KEY_VIOLATION,
            SqlState::NOT_NULL_VIOLATION,
            SqlState::INSUFFICIENT_PRIVILEGE,
            SqlState::UNDEFINED_OBJECT,
            SqlState::DUPLICATE_OBJECT,
            SqlState::CARDINALITY_VIOLATION,
            SqlState::S_E_INVALID_SPECIFICATION,
            SqlState::FEATURE_NOT_SUPPORTED,
            SqlState::UNDEFINED_COLUMN,
            SqlState::DUPLICATE_COLUMN,
            SqlState::UNDEFINED_TABLE,
            SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
            SqlState::CHECK_VIOLATION,
            SqlState::WRONG_OBJECT_TYPE,
            SqlState::DATATYPE_MISMATCH,
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        ];
        match self.admin.batch_execute(sql) {
            Ok(()) => Ok(true),
            Err(e) if e.code().is_some_and(|c| OWN.contains(c)) => {
                self.stats.ineffective_ops += 1;
                self.admin.batch_execute("ROLLBACK")?;
                Ok(false)
            }
            Err(e) => Err(Found { kind: Kind::Unexpected, text: format!("{:#} in: {sql}", anyhow!(e)) }),
        }
    }

    /// Notes what everybody with a replica sees now.
    fn look(&mut self) -> Result<(), Found> {
        let clock: i64 = self.admin.query_one("SELECT last_value FROM snapsync.clock", &[])?.get(0);
        if let Some(plant) = self.plant {
            self.admin.execute(plant.sql(), &[&self.clock])?;
        }
        self.clock = clock;
        for at in 0..ACTORS.len() {
            if !self.replicas.iter().any(|r| r.actor == at) {
                continue;
            }
            let visible = self.sight.ids(&mut self.admin, &mut self.app, &actor(at), self.world)?;
            self.timelines[at].push(clock, visible);
        }
        Ok(())
    }

    /// What a client shall hold, of each collection; None where its role may not read it.
    fn wanted(&mut self, at: usize) -> Result<WantedRows<'a>, Found> {
        let client = &self.replicas[at];
        let (world, caller) = (self.world, actor(client.actor));
        let mut wanted = Vec::new();
        for table in world.collections() {
            wanted.push((table, self.sight.rows(&mut self.admin, &mut self.app, &caller, table, &client.asks)?));
        }
        Ok(wanted)
    }

    fn pull(
        &mut self,
        at: usize,
        repeatable_read: bool,
        number: bool,
        between: &[String],
        under: &Settings,
    ) -> Result<(), Found> {
        let mut wanted = self.wanted(at)?;
        let client = &self.replicas[at];
        let caller = actor(client.actor);
        let mut filter = Map::new();
        // What it names itself it may be told of.
        let mut named = client.named.clone();
        for table in self.world.collections() {
            let mut of = Map::new();
            if let Some(orgs) = client.asks.orgs.as_ref().filter(|_| table.scoped) {
                let column = self.sight.scope(&mut self.admin, &caller.role, table)?;
                of.insert(column, json!(orgs.iter().map(i64::to_string).collect::<Vec<_>>()));
            }
            if let Some(ids) = &client.asks.ids {
                let ids: Vec<String> = ids.iter().map(|id| table.wire_id(*id)).collect();
                named.extend(ids.iter().map(|id| (table.name.clone(), id.clone())));
                of.insert("id".into(), json!(ids));
            }
            if !of.is_empty() {
                filter.insert(table.name.clone(), Value::Object(of));
            }
        }
        let asked = json!(filter);
        let filter = (!filter.is_empty()).then_some(filter);
        let last_filter = client.asked.clone().filter(|last| *last != asked || self.clock % 4 == 0);
        let (names, client_id) = (client.replica.names().to_vec(), client.client_id.clone());
        let cursor = client.replica.cursor();
        // Every other replica pulls in pages, small ones. (What a role may not read it hears of on the page that comes to it.)
        let paged = at % 2 == 1 && !under.row_security_off() && wanted.iter().all(|(_, rows)| rows.is_some());
        let request = Pull {
            collections: &names,
            last_pulled_at: cursor,
            cursor_as_number: number,
            filter: filter.clone().map(Value::Object),
            last_filter: last_filter.clone(),
            page_size: paged.then_some(1 + (self.clock % 5) as i32),
            client_id: Some(&client_id),
            ..Pull::default()
        };
        let mut tx = caller.begin(&mut self.app, true, repeatable_read)?;
        if !under.is_empty() {
            tx.batch_execute(&under.sql(true))?;
        }
        let answer = match request.run(&mut tx) {
            Ok(answer) => answer,
            // An error rather than a part of the rows is what that setting is for.
            Err(e) if under.row_security_off() && e.downcast_ref().is_some_and(denied) => {
                self.stats.denied += 1;
                return Ok(tx.rollback()?);
            }
            Err(e) if wanted.iter().any(|(_, rows)| rows.is_none()) && e.downcast_ref().is_some_and(denied) => {
                self.stats.denied += 1;
                tx.rollback()?;
                // Those that the role may read must come all the same when they are asked for alone.
                let readable: Vec<String> =
                    wanted.iter().filter(|(_, rows)| rows.is_some()).map(|(t, _)| t.name.clone()).collect();
                let filter = filter.clone().map(|mut f| {
                    f.retain(|name, _| readable.contains(name));
                    Value::Object(f)
                });
                let request = Pull { collections: &readable, last_pulled_at: cursor, filter, ..Pull::default() };
                let mut tx = caller.begin(&mut self.app, true, repeatable_read)?;
                request.run(&mut tx).with_context(|| format!("pull of {readable:?} with cursor {cursor:?}"))?;
                return Ok(tx.rollback()?);
            }
            Err(e) => {
                return Err(Found { kind: Kind::Unexpected, text: format!("{e:#}: pull with cursor {cursor:?}") })
            }
        };
        tx.rollback()?;
        let mut sent = Vec::new();
        let mut take = |replica: &mut Replica, answer: &str| {
            replica
                .apply(answer, |table, id| sent.push((table.to_owned(), id.to_owned())))
                .map_err(|e| Found { kind: Kind::Contract, text: format!("{e:#}: {answer}") })
        };
        let client = &mut self.replicas[at];
        // (Where others get a replacement, a set of keys is sent as it stands: its cursor is not bound to the one before either.)
        client.replica.may_step_back(client.asks.ids.is_some() || repeatable_read && last_filter.is_some());
        let mut applied = take(&mut client.replica, &answer)?;
        let (mut in_pages, mut between) = (client.replica.next().is_some(), between.iter());
        // (Of a transaction that keeps its snapshot the pages' cursor can be smaller; the pull after them begins there.)
        let mut since = cursor.unwrap_or(0);
        while in_pages {
            if let Some(statement) = between.next() {
                self.act(&Op::write(None, vec![statement.clone()], true))?;
                wanted = self.wanted(at)?;
            }
            let client = &mut self.replicas[at];
            let next = client.replica.next().map(str::to_owned);
            in_pages = next.is_some();
            since = client.replica.cursor().map_or(since, |c| c.min(since));
            let request = Pull {
                collections: &names,
                last_pulled_at: client.replica.cursor(),
                filter: filter.clone().map(Value::Object),
                // (When the pages are all there, the client holds the rows of the filter that they had.)
                last_filter: last_filter.clone().filter(|_| in_pages),
                // What later pages leave to the next pull comes with that, in one answer.
                page_size: in_pages.then_some(1 + (self.clock % 5) as i32),
                next: next.as_deref(),
                client_id: Some(&client_id),
                ..Pull::default()
            };
            let mut tx = caller.begin(&mut self.app, true, repeatable_read)?;
            if !under.is_empty() {
                tx.batch_execute(&under.sql(true))?;
            }
            let answer = request.run(&mut tx).with_context(|| format!("a page after cursor {cursor:?}"))?;
            tx.rollback()?;
            applied += take(&mut client.replica, &answer)?;
        }
        self.stats.pulls += 1;
        self.stats.first += u64::from(cursor.is_none());
        self.stats.pulls_with_reset += u64::from(applied.resets > 0);
        self.stats.applied += applied;
        self.stats.ids_sent += sent.len() as u64;
        let client = &mut self.replicas[at];
        if cursor.is_some() {
            self.stats.causes.note(&client.since, names.len() as u64, applied.resets, client.replica.reasons());
        }
        // (With another filter than before it would not know which one to go on with.)
        let same = client.asked.as_ref().is_none_or(|before| *before == asked);
        if let Some(cursor) = cursor.filter(|_| same && !repeatable_read && self.clock % 7 == 0) {
            client.replica.go_back_to(cursor);
            self.stats.went_back += 1;
        }
        client.asked = Some(asked);
        let timeline = &self.timelines[client.actor];
        named.extend(client.pushed.iter().cloned());
        let is_leak = |id: &&(String, String)| !named.contains(*id) && !timeline.saw_since(since & !3, id);
        if let Some((table, id)) = sent.iter().find(is_leak) {
            let text = format!("{} {} was sent {table} {id}, cursor {cursor:?}: {answer}", caller.role, caller.claims);
            return Err(Found { kind: Kind::Leak, text });
        }
        // What the new cursor does not lie behind may come again.
        if client.replica.cursor().map(|c| c & !3) > Some(self.clock) {
            client.since.clear();
            client.pushed.clear();
        }
        if let Some(ids) = &client.asks.ids {
            let of = |table: &Table| ids.iter().map(|id| (table.name.clone(), table.wire_id(*id))).collect::<Vec<_>>();
            client.named = self.world.collections().flat_map(of).collect();
        }
        for (table, rows) in wanted {
            let Some(rows) = rows else { continue };
            let difference = client.replica.compare(&table.name, rows.into_iter())?;
            if !difference.is_empty() {
                let text = format!(
                    "{} {}, cursor {cursor:?}: lost {}, ghosts {}, wrong {}: {}\n  answer: {answer}",
                    caller.role,
                    caller.claims,
                    difference.lost,
                    difference.ghosts,
                    difference.wrong,
                    difference.samples.join("; ")
                );
                return Err(Found { kind: Kind::Difference, text });
            }
        }
        Ok(())
    }

    /// A new row of a client that has pulled before: false where the server refuses it, or the client knows better.
    fn push(&mut self, at: usize, table: usize, id: i64, values: &[(String, String)]) -> Result<bool, Found> {
        let (table, client) = (&self.world.tables[table], &self.replicas[at]);
        let key = if table.text_key { format!("k {id}/é") } else { id.to_string() };
        let mut record = Map::new();
        record.insert("id".into(), if table.text_key { json!(key) } else { json!(id) });
        for (column, value) in values {
            record.insert(column.clone(), serde_json::from_str(value)?);
        }
        let Some(cursor) = client.replica.cursor() else { return Ok(false) };
        // (What is outside of its filter a client knows itself; not these.)
        if client.replica.holds(&table.name, &key) || self.world.asks(at) {
            return Ok(false);
        }
        let changes = json!({ table.name.clone(): { "created": [record], "updated": [], "deleted": [] } });
        let body = json!({ "changes": changes, "last_pulled_at": cursor.to_string(), "client_id": client.client_id });
        let Value::Object(body) = body else { unreachable!() };
        let mut tx = actor(client.actor).begin(&mut self.app, false, false)?;
        match rpc(&mut tx, "push_changes", &body, PUSH_TYPES) {
            Ok(_) => tx.commit()?,
            // As a client's SQL would be: no privilege, no policy, no such parent, a row that is there.
            Err(_) => {
                self.stats.ineffective_ops += 1;
                tx.rollback()?;
                return Ok(false);
            }
        }
        self.stats.pushes += 1;
        let client = &mut self.replicas[at];
        client.replica.hold(&table.name, &key, &changes[&table.name]["created"][0].to_string());
        client.pushed.insert((table.name.clone(), key));
        Ok(true)
    }
}
