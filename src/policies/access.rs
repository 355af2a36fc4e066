//! Which other tables decide who sees a table's rows, and how: read from the policies' parsed trees.
//!
//! Two kinds. A *parent* is a table d to which t has a foreign key, and wherever a policy of t reads d it asks for the row
//! that the foreign key names (`project_id IN (SELECT id FROM projects ...)`, `EXISTS (... p.id = t.project_id ...)`). A
//! row of t then always has its row of d, so a new row of d brings only new rows of t and a deleted one takes its rows of t
//! with it or changes them, if no trigger or rule of t can keep them from it: inserts and deletes in d are told by t's own entries.
//! Anything else is a *grant*.
//!
//! For a grant, conditions that a subquery puts on d alone (`members.user_id = auth.uid()`) say which of its rows can
//! matter to the caller at all; they become its predicate.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use pgrx::pg_sys;
use serde_json::Value;

use crate::policies::owned::{self, Purpose};
use crate::server::error::{code, Result, SyncError};
use crate::server::memory;
use crate::server::session::{self, Cached, Event};
use crate::server::{pg, spi};

mod analysis;
mod concerns;
pub mod depends;
mod owned_reads;
pub mod tree;

use analysis::{Analysis, ForeignKeys, Level, Occurrence};
pub use concerns::{Concerns, Readings, TableReading};
pub use owned_reads::{bounds, calls, take_scope_values, without_scopes};
use owned_reads::{OwnedReads, PredicateReads};
use tree::{vars, walk};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Grant,
    Parent,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Grant => "grant",
            Kind::Parent => "parent",
        }
    }
}

#[derive(Clone, Debug)]
pub struct AccessFinding {
    pub access: pg_sys::Oid,
    pub kind: Kind,
    /// Which rows concern the caller; `true` for all, None for those that he may see.
    pub predicate: Option<String>,
    /// All its columns are logged: a whole row is read, or any column may be; or a system column is, which no image has.
    pub whole: bool,
    /// The columns that are logged besides those that policies depend on.
    pub columns: BTreeSet<String>,
}

/// Do all partitions of a table belong to its owner, or to who may act as him? They may change hands by themselves, and a part that is partitioned may get
/// others from who owns it, so nothing of it is kept.
pub fn owns_all_parts(table: pg_sys::Oid) -> Result<bool> {
    // SAFETY: a syscache look-up.
    if unsafe { pg_sys::get_rel_relkind(table) } as u8 != pg_sys::RELKIND_PARTITIONED_TABLE {
        return Ok(true);
    }
    const OTHERS: &str = "SELECT 1 FROM (SELECT relowner FROM pg_class WHERE oid = $1 OFFSET 0) AS r \
         CROSS JOIN LATERAL snapsync.parts($1) AS part(oid) \
         CROSS JOIN LATERAL (SELECT relowner FROM pg_class WHERE oid = part.oid OFFSET 0) AS p \
         WHERE p.relowner <> r.relowner AND NOT pg_has_role(p.relowner, r.relowner, 'USAGE') LIMIT 1";
    Ok(spi::read_now(OTHERS, &[spi::arg(table)])?.is_empty())
}

/// Conditions are put to all rows of `access` that change, past row-level security: they count only while the owner of `relation`, who
/// gave them or made the policies, may read all of these. Tables change hands, and roles lose others, without a look at who reads them.
pub fn may_judge_all(relation: pg_sys::Oid, access: pg_sys::Oid) -> bool {
    thread_local! {
        static KNOWN: Cached<HashMap<(u32, u32, u64), bool>> = Cached::until(Event::Role);
    }
    let key = (relation.to_u32(), access.to_u32(), session::count(Event::Definition));
    KNOWN.with(|known| {
        if let Some(may) = known.look(|k| k.get(&key).copied()) {
            return may;
        }
        let now = known.now();
        let may = depends::may_read_all(relation, &[access]).is_ok_and(|may| !may.is_empty());
        known.remember(now, |k| {
            // What was known before the last change of a definition is never asked for again.
            k.retain(|(.., definition), _| *definition == key.2);
            k.insert(key, may);
        });
        may
    })
}

/// Where the policies name tables, as far as the analysis comes; and how often they do.
fn occurrences(relation: pg_sys::Oid) -> Result<(Vec<Occurrence>, BTreeMap<u32, usize>)> {
    let (mut occurrences, mut keys) = (Vec::new(), ForeignKeys::default());
    let mut read: BTreeMap<u32, usize> = BTreeMap::new();
    for_each_policy(relation, |node| {
        // SAFETY: a policy's tree, which is only read.
        unsafe {
            tree::relations_read(node).into_iter().for_each(|(oid, n)| *read.entry(oid).or_insert(0) += n);
            Analysis::of(relation, &mut occurrences, Some(&mut keys)).expression(node, &[Level::Policy])
        }
    })?;
    Ok((occurrences, read))
}

type Found = BTreeMap<u32, AccessFinding>;

/// The access tables of `relation`, by its SELECT policies, by what its `scope_values` read and by what its owner declared.
pub fn find(relation: pg_sys::Oid, declared: Option<&str>, owned_reads: Option<&str>) -> Result<Vec<AccessFinding>> {
    let (mut found, mut in_functions) = (Found::new(), Found::new());
    let undeclared = find_in_policies(relation, &mut found, &mut in_functions)?;
    let owned_reads = OwnedReads::stored(owned_reads);
    let unbounded = find_in_scopes(relation, &owned_reads, &mut found)?;
    let declared = Declared::of(declared)?.0;
    // The owner knows better than the analysis what functions read. (Of what policies read themselves, all of a row may count all the same.)
    let roots: HashSet<u32> = declared.iter().map(|(access, _)| pg::root_of(*access).to_u32()).collect();
    in_functions.into_iter().filter(|(root, _)| !roots.contains(root)).for_each(|(_, new)| merge(&mut found, new));
    let whole: HashSet<u32> =
        roots.into_iter().filter(|root| found.remove(root).is_some_and(|found| found.whole)).collect();
    // Hidden in a function, which may well read past the table's row-level security: without a predicate nothing says whom
    // a change does not concern, nor a change of what that table's policies read.
    let past = declared.iter().filter(|(_, said)| said.predicate.is_none());
    let (bounded, past): (Vec<_>, Vec<_>) = past.partition(|(_, said)| said.columns.is_some());
    let past: Vec<_> = past.into_iter().map(|(access, _)| *access).collect();
    everything_under(&past, &mut found, |_| true)?;
    // Of their own columns the owner says which.
    let bounded: Vec<_> = bounded.into_iter().map(|(access, _)| *access).collect();
    everything_under(&bounded, &mut found, |table| !bounded.contains(&table))?;
    // Rows of tables that inherit from one are read with its own, and its predicate is not put to them.
    let named: Vec<_> = declared.iter().map(|(access, _)| *access).collect();
    depends::children(&named)?.into_iter().for_each(|child| merge(&mut found, everybody(child)));
    for (access, Declaration { predicate, columns }) in declared {
        memory::heed();
        // One that names something that is gone cannot be read any more.
        let read = predicate.as_deref().map(|predicate| owned_reads.read_by(predicate, access)).transpose()?.flatten();
        let predicate = Some(predicate.filter(|_| read.is_some()).unwrap_or_else(|| "true".into()));
        let columns = match columns {
            Some(columns) if depends::missing_column(access, &columns)?.is_none() => Some(columns),
            _ => None,
        };
        let whole = columns.is_none() || whole.contains(&pg::root_of(access).to_u32());
        let columns = columns.into_iter().flatten().chain(read.into_iter().flatten()).collect();
        merge(&mut found, AccessFinding { access, kind: Kind::Grant, predicate, whole, columns });
        // Nor does he speak for what stands in `scope_values`.
        if unbounded.contains(&pg::root_of(access)) {
            merge(&mut found, everybody(access));
        }
    }
    // Not what the policies read of it without one, in a way that the analysis does not understand.
    undeclared.into_iter().for_each(|access| merge(&mut found, everybody(access)));
    // Triggers are not given virtual columns (PostgreSQL 18): what is read of the row may change with any of its others.
    for access in depends::with_virtual_columns(found.keys().copied())? {
        merge(&mut found, everybody(access));
    }
    Ok(found.into_values().collect())
}

/// Adds what the policies depend on, and apart what functions read that they call. Those of these that they read themselves in a way that the analysis does not
/// understand.
fn find_in_policies(relation: pg_sys::Oid, found: &mut Found, in_functions: &mut Found) -> Result<Vec<pg_sys::Oid>> {
    let (occurrences, read) = occurrences(relation)?;
    // What the analysis did not come across, in one place or another, counts for everybody.
    let mut undeclared = Vec::new();
    let mut at: HashMap<u32, Vec<&Occurrence>> = HashMap::new();
    occurrences.iter().for_each(|o| at.entry(o.relation).or_default().push(o));
    let by_policies = depends::read_by_policies(relation)?;
    let tables: Vec<_> = by_policies.iter().map(|r| r.oid).collect();
    let may = depends::may_read_all(relation, &tables)?;
    for depends::Read { oid, direct, in_function } in by_policies {
        memory::heed();
        let all = at.get(&oid.to_u32()).map_or(&[][..], Vec::as_slice);
        // A view or a function may read with its owner's rights, a partition under policies of its own, and a table that inherits
        // has its own.
        if !direct || all.is_empty() || read.get(&oid.to_u32()).is_some_and(|n| *n > all.len()) {
            merge(if in_function { &mut *in_functions } else { &mut *found }, everybody(oid));
            undeclared.extend((!in_function).then_some(oid));
            continue;
        }
        let kind = if all.iter().all(|o| o.tied) { Kind::Parent } else { Kind::Grant };
        let predicate = any_of(all.iter().map(|o| o.predicate.as_ref().map(|p| &*p.text)));
        // It is run over rows that the caller may not see: only for a table's owner who could look at them himself.
        let predicate = predicate.filter(|_| may.contains(&oid));
        let whole = all.iter().any(|o| o.whole);
        merge(found, AccessFinding { access: oid, kind, predicate, whole, columns: BTreeSet::new() });
    }
    Ok(undeclared)
}

/// Adds what `scope_values` read. The tables that they read without a condition on these alone.
fn find_in_scopes(relation: pg_sys::Oid, owned_reads: &OwnedReads, found: &mut Found) -> Result<HashSet<pg_sys::Oid>> {
    let mut unbounded: HashSet<pg_sys::Oid> = HashSet::new();
    let there = depends::by_name(owned_reads.tables.keys())?;
    let read = owned_reads.tables.iter().filter_map(|(name, predicate)| Some((*there.get(name)?, predicate)));
    let read: Vec<_> = read.collect();
    let tables: Vec<_> = read.iter().filter(|(called, _)| called.is_table).map(|(called, _)| called.oid).collect();
    let may = depends::may_read_all(relation, &tables)?;
    let mut past = Vec::new();
    for (depends::Called { oid: access, is_table, is_view }, predicate) in read {
        memory::heed();
        if is_view {
            past.push(access);
        }
        if !is_table {
            continue;
        }
        // No dependency says which of its columns are read.
        let all = predicate.as_deref() == Some("true");
        let predicate = predicate.clone().filter(|_| all || may.contains(&access));
        if all || predicate.is_none() {
            unbounded.insert(pg::root_of(access));
        }
        if all || pg::root_of(access) != access {
            past.push(access);
        }
        merge(found, AccessFinding { predicate, ..everybody(access) });
    }
    depends::children(&tables)?.into_iter().for_each(|child| merge(found, everybody(child)));
    unbounded.extend(everything_under(&past, found, |_| true)?);
    Ok(unbounded)
}

fn everybody(access: pg_sys::Oid) -> AccessFinding {
    let predicate = Some("true".into());
    AccessFinding { access, kind: Kind::Grant, predicate, whole: true, columns: BTreeSet::new() }
}

/// Adds those of these tables, and of all that they, and these views, rest on, that are `wanted`, for everybody; which these are.
fn everything_under(
    read: &[pg_sys::Oid],
    found: &mut Found,
    wanted: impl Fn(pg_sys::Oid) -> bool,
) -> Result<Vec<pg_sys::Oid>> {
    let tables: Vec<_> = depends::tables_under(read)?.into_iter().filter(|table| wanted(*table)).collect();
    tables.iter().for_each(|table| merge(found, everybody(*table)));
    Ok(tables.into_iter().map(pg::root_of).collect())
}

/// One of these conditions; None where one of them is none.
fn any_of<'p>(predicates: impl Iterator<Item = Option<&'p str>>) -> Option<String> {
    let mut predicates = predicates.collect::<Option<Vec<&str>>>()?;
    predicates.sort_unstable();
    predicates.dedup();
    (!predicates.is_empty()).then(|| predicates.join(" OR "))
}

/// Adds what was found; of two ways to read the same table the one that concerns more people counts. A partition is tracked
/// on its root, with all columns, whose numbers differ there.
fn merge(found: &mut Found, mut new: AccessFinding) {
    let root = pg::root_of(new.access);
    new.whole |= root != new.access;
    new.access = root;
    match found.entry(root.to_u32()) {
        std::collections::btree_map::Entry::Vacant(slot) => {
            slot.insert(new);
        }
        std::collections::btree_map::Entry::Occupied(mut slot) => {
            let old = slot.get_mut();
            old.whole |= new.whole;
            old.columns.append(&mut new.columns);
            if new.kind == Kind::Grant {
                old.kind = Kind::Grant;
            }
            old.predicate = match (old.predicate.take(), new.predicate) {
                // Read past the caller's rights by one of the ways: what he may see does not bound it.
                (Some(all), _) | (_, Some(all)) if all == "true" => Some(all),
                (Some(a), Some(b)) if a == b => Some(a),
                (Some(a), Some(b)) => Some(format!("{a} OR {b}")),
                _ => None,
            };
        }
    }
}

/// What in a table's own policies decides how its images can be judged.
#[derive(Default, Clone, Copy, Debug)]
pub struct Traits {
    /// A policy reads the row as a whole: all columns are logged.
    pub whole_row: bool,
    /// A policy reads a column that images do not have: a system column, or (from PostgreSQL 18 on) a virtual one, which triggers are
    /// not given. With one of the latter every change of the row counts as one of who sees it.
    pub unlogged_column: bool,
}

pub fn traits(relation: pg_sys::Oid) -> Result<Traits> {
    let mut traits = Traits::default();
    let is_virtual = spi::owner_query(
        "SELECT attnum FROM pg_attribute WHERE attrelid = $1 AND attgenerated = 'v' AND NOT attisdropped",
        &[spi::arg(relation)],
    )?;
    let is_virtual: Vec<i64> = is_virtual.iter().filter_map(|r| r.i64(0)).collect();
    let read = |traits: &mut Traits, attnum: i16| {
        let is_virtual = is_virtual.contains(&i64::from(attnum));
        traits.whole_row |= attnum == 0 || is_virtual;
        traits.unlogged_column |= attnum < 0 || is_virtual;
    };
    for_each_policy(relation, |node| {
        // SAFETY: a policy's tree, which is only read.
        unsafe {
            for var in vars(node) {
                read(&mut traits, (*var).varattno);
            }
            walk(node, &mut |inner, depth| {
                // References to the policy's row from inside subqueries.
                if (*inner).type_ == pg_sys::NodeTag::T_Var {
                    let var = &*inner.cast::<pg_sys::Var>();
                    if var.varlevelsup == depth && depth > 0 {
                        read(&mut traits, var.varattno);
                    }
                }
            });
        }
        Ok(())
    })?;
    Ok(traits)
}

fn for_each_policy(relation: pg_sys::Oid, mut each: impl FnMut(*mut pg_sys::Node) -> Result<()>) -> Result<()> {
    let policies = spi::owner_query(
        "SELECT p.polqual::text FROM pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid \
         WHERE p.polrelid = $1 AND c.relrowsecurity AND p.polcmd IN ('*', 'r') AND p.polqual IS NOT NULL",
        &[spi::arg(relation)],
    )?;
    for policy in &policies {
        let tree = spi::c_string(&policy.string(0))?;
        spi::as_owner(|| {
            // SAFETY: pg_policy.polqual is a node tree of this server's version.
            each(unsafe { pg_sys::stringToNode(tree.as_ptr()).cast() })
        })?;
    }
    Ok(())
}

/// What an owner says of a table that functions read.
struct Declaration {
    /// It bounds whom changes concern.
    predicate: Option<String>,
    /// The columns that they read; None: any.
    columns: Option<BTreeSet<String>>,
}

/// The tables that an owner has named, because functions read them.
struct Declared(Vec<(pg_sys::Oid, Declaration)>);

impl Declared {
    /// Stored with full names; a table that was dropped since decides nothing any more.
    fn of(stored: Option<&str>) -> Result<Declared> {
        let declared = declarations(stored)?;
        let there = depends::by_name(declared.iter().map(|(name, _)| name))?;
        let declared = declared.into_iter().filter_map(|(name, said)| Some((there.get(&name)?.oid, said)));
        Ok(Declared(declared.collect()))
    }
}

fn malformed(what: impl Into<String>) -> SyncError {
    SyncError::new(code::INVALID_PARAMETER, "malformed access_tables").detail(what).hint(
        "Name the tables, [\"app.members\"], or each with a predicate, {\"app.members\": \"user_id = auth.uid()\"}, and with the columns that functions read, \
         {\"app.members\": {\"predicate\": \"user_id = auth.uid()\", \"columns\": [\"team_id\", \"user_id\"]}}.",
    )
}

/// `["app.members"]`, `{"app.members": "user_id = auth.uid()", "app.plans": null}` or, in the place of a predicate, [`Declaration::of`].
fn declarations(declared: Option<&str>) -> Result<Vec<(String, Declaration)>> {
    let Some(declared) = declared else { return Ok(Vec::new()) };
    let value: Value = serde_json::from_str(declared).map_err(|e| malformed(e.to_string()))?;
    let none = || Declaration { predicate: None, columns: None };
    Ok(match value {
        Value::Null => Vec::new(),
        Value::Array(names) => names
            .into_iter()
            .map(|n| n.as_str().map(|n| (n.to_string(), none())).ok_or_else(|| malformed("An element is no text.")))
            .collect::<Result<_>>()?,
        Value::Object(entries) => {
            entries.into_iter().map(|(name, said)| Ok((name, Declaration::of(said)?))).collect::<Result<_>>()?
        }
        _ => return Err(malformed("It is neither an array nor an object.")),
    })
}

impl Declaration {
    /// Of a predicate, null, or `{"predicate": "user_id = auth.uid()", "columns": ["team_id", "user_id"]}`, of which each may be left out.
    fn of(said: Value) -> Result<Declaration> {
        let of_predicate = |predicate: Value| match predicate {
            Value::Null => Ok(None),
            Value::String(predicate) => Ok(Some(predicate)),
            _ => Err(malformed("A predicate is neither a text nor null.")),
        };
        let Value::Object(mut said) = said else {
            return Ok(Declaration { predicate: of_predicate(said)?, columns: None });
        };
        let predicate = said.remove("predicate").map_or(Ok(None), of_predicate)?;
        let columns = match said.remove("columns") {
            None | Some(Value::Null) => None,
            Some(columns) => {
                Some(serde_json::from_value(columns).map_err(|_| malformed("Columns are no array of texts."))?)
            }
        };
        match said.keys().next() {
            Some(other) => Err(malformed(format!("\"{other}\" is neither \"predicate\" nor \"columns\"."))),
            None => Ok(Declaration { predicate, columns }),
        }
    }

    /// As it is stored.
    fn written(self) -> Value {
        match self.columns {
            None => self.predicate.map_or(Value::Null, Value::String),
            Some(columns) => serde_json::json!({"predicate": self.predicate, "columns": columns}),
        }
    }

    /// With columns that this table has.
    fn check_columns(&self, table: pg_sys::Oid, name: &str) -> Result<()> {
        let Some(column) = depends::missing_column(table, self.columns.iter().flatten())? else { return Ok(()) };
        Err(SyncError::new(
            code::UNDEFINED_COLUMN,
            format!("column \"{column}\" of access table {name} does not exist"),
        )
        .hint("Name the columns that functions read of it, or leave \"columns\" out where they may read any."))
    }
}

/// The declarations for `reader`, as they are stored: with the tables' full names, and with predicates as `owned.rs` keeps them; and what is
/// stored of what these read, beside what was stored of other SQL.
pub fn normalize(reader: pg_sys::Oid, declared: &str, beside: Option<&str>) -> Result<(String, Option<String>)> {
    const WHAT: &str = "access_tables";
    owned::check_length(declared, WHAT)?;
    let (mut out, mut reads) = (serde_json::Map::new(), BTreeMap::new());
    for (name, said) in declarations(Some(declared))? {
        let sql = "SELECT pg_catalog.to_regclass($1)::pg_catalog.oid";
        let relation = spi::query(sql, &[spi::arg(name.as_str())], spi::Mode::Write)?.first().map(|r| r.oid(0));
        let named = relation.and_then(|r| Some((r, pg::qualified_name(r)?.0)));
        let Some((relation, table)) = named else {
            return Err(SyncError::new(code::UNDEFINED_TABLE, format!("access table \"{name}\" does not exist"))
                .hint("Write its name with its schema."));
        };
        // The predicate sees all rows of the table, so only its owner may give one.
        table_may_be_declared(relation, &table)?;
        let what = format!("the predicate of access table {table}");
        let mut read = PredicateReads::default();
        let take = |given: String| {
            owned::take(reader, &Purpose::Rows(relation), &given, &what, |tree| {
                // SAFETY: the tree of such a condition.
                read = unsafe { PredicateReads::of(relation, tree) }?;
                Ok(())
            })
        };
        said.check_columns(relation, &table)?;
        let predicate = said.predicate.map(take).transpose()?;
        predicate.iter().for_each(|p| _ = reads.insert(p.clone(), std::mem::take(&mut read)));
        out.insert(table, Declaration { predicate, ..said }.written());
    }
    let stored = Value::Object(out).to_string();
    owned::check_length(&stored, WHAT)?;
    Ok((stored, owned_reads::with_predicates(beside, reads)?))
}

fn table_may_be_declared(relation: pg_sys::Oid, table: &str) -> Result<()> {
    let rows = spi::read_now(
        "SELECT pg_has_role($2, relowner, 'USAGE'), relkind IN ('r', 'p'), relpersistence = 'p' FROM pg_class WHERE oid = $1",
        &[spi::arg(relation), spi::arg(pg::current_user())],
    )?;
    let Some(row) = rows.first() else { return Ok(()) };
    if !row.bool(0) {
        return Err(SyncError::new(code::INSUFFICIENT_PRIVILEGE, format!("must be owner of access table {table}"))
            .hint("Let the owner of both tables call snapsync.enable()."));
    }
    if !row.bool(1) || !row.bool(2) {
        return Err(SyncError::new(code::WRONG_OBJECT_TYPE, format!("cannot track access table {table}"))
            .detail("It is not an ordinary, permanent table.")
            .hint("Name the tables that hold the rows."));
    }
    Ok(())
}
