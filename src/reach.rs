//! Whether a user's view of a collection moved without its rows changing, and whether he could see rows that are gone.
//!
//! Both need the tables that the collection's policies read (`access.rs`), as they were. For a *grant* (a membership) a
//! change that concerns the caller resets what hangs on it for him. For a *parent* (a project) only an update of the
//! columns that policies read does; its deleted rows are put back while old rows of its children are judged, because a
//! cascade takes both at once.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use pgrx::pg_sys;

use crate::catalog::{self, Access, Collection};
use crate::error::Result;
use crate::journal::Op;
use crate::judge::Statement;
use crate::log::{Log, Logged, Scopes};
use crate::policy::{self, Rows, Shadow};
use crate::{pg, spi, wire_id};

/// What happened since a cursor, as one user sees it. Lives as long as one pull or push.
pub struct Reach<'a> {
    from: i64,
    snapshot: &'a pg::ActiveSnapshot,
    /// Opened when it is first read.
    log: Option<Log<'a>>,
    entries: HashMap<u32, Rc<Vec<Logged>>>,
    reset: HashMap<u32, bool>,
    /// By reading and read table.
    concerned: HashMap<(u32, u32), bool>,
    /// Tables whose deleted rows are being judged: to find a circle of policies.
    judging: HashSet<u32>,
}

impl<'a> Reach<'a> {
    pub fn since(from: i64, snapshot: &'a pg::ActiveSnapshot) -> Self {
        Reach {
            from,
            snapshot,
            log: None,
            entries: HashMap::new(),
            reset: HashMap::new(),
            concerned: HashMap::new(),
            judging: HashSet::new(),
        }
    }

    /// Must the caller's copy of this collection be replaced: has the log no answer, or did the caller's access change? A change of
    /// access propagates: if a table's visibility changed, so did that of every table whose policies read it. With scopes, only
    /// entries in these are read here.
    pub fn moved(&mut self, collection: &Rc<Collection>, scoped: bool) -> Result<bool> {
        let mut open = vec![Rc::clone(collection)];
        let mut seen: HashSet<u32> = HashSet::new();
        while let Some(table) = open.pop() {
            if !seen.insert(table.relation.to_u32()) {
                continue;
            }
            if table.due || self.was_reset(&table, scoped && table.relation == collection.relation)? {
                return Ok(true);
            }
            // Access tables also tell when `scope_values` gives other scopes, which it does to those whom policies spare too.
            let scoped = table.scope_values.is_some() && !pg::bypasses_policies();
            if !pg::rls_active(table.relation) && !scoped {
                continue;
            }
            for access in &table.access {
                if access.untracked {
                    return Ok(true);
                }
                let Some(read) = catalog::tracked(access.relation)? else { return Ok(true) };
                let edge = (table.relation.to_u32(), read.relation.to_u32());
                let concerned = match self.concerned.get(&edge) {
                    Some(&known) => known,
                    None => {
                        let found = self.is_concerned(&read, access, table.relation)?;
                        self.concerned.insert(edge, found);
                        found
                    }
                };
                if concerned {
                    return Ok(true);
                }
                open.push(read);
            }
        }
        Ok(false)
    }

    /// Is there a reset entry? (Those concern every scope.)
    fn was_reset(&mut self, table: &Collection, scoped: bool) -> Result<bool> {
        if let Some(&known) = self.reset.get(&table.relation.to_u32()) {
            return Ok(known);
        }
        let is_reset = |entries: &[Logged]| entries.iter().any(|e| e.op == Op::Reset);
        let reset = if scoped {
            is_reset(&self.entries_in(table.relation, &[])?)
        } else {
            is_reset(&self.entries(table.relation)?)
        };
        self.reset.insert(table.relation.to_u32(), reset);
        Ok(reset)
    }

    /// The entries of a table since the cursor.
    pub fn entries(&mut self, relation: pg_sys::Oid) -> Result<Rc<Vec<Logged>>> {
        if let Some(known) = self.entries.get(&relation.to_u32()) {
            return Ok(Rc::clone(known));
        }
        let read = Rc::new(self.read(relation, Scopes::All)?);
        self.entries.insert(relation.to_u32(), Rc::clone(&read));
        Ok(read)
    }

    /// Those in these scopes.
    pub fn entries_in(&mut self, relation: pg_sys::Oid, scopes: &[String]) -> Result<Vec<Logged>> {
        self.read(relation, Scopes::Only(scopes))
    }

    fn read(&mut self, relation: pg_sys::Oid, scopes: Scopes) -> Result<Vec<Logged>> {
        let log = match &mut self.log {
            Some(log) => log,
            none => none.insert(Log::open(self.snapshot)?),
        };
        log.since(relation, self.from, scopes)
    }

    /// Did this access table of `reader` change in a way that moves the caller's view of what hangs on it?
    fn is_concerned(&mut self, table: &Collection, access: &Access, reader: pg_sys::Oid) -> Result<bool> {
        let entries = self.entries(table.relation)?;
        let mut keys: Vec<&str> = Vec::new();
        let mut images: Vec<pg_sys::Datum> = Vec::new();
        let mut deleted: HashSet<&str> = HashSet::new();
        for entry in entries.iter() {
            let counts = match entry.op {
                Op::Update => entry.image.is_some(),
                // The same key again is another row to those that hang on it.
                Op::Insert => !access.parent || deleted.contains(entry.key.as_str()),
                Op::Delete => {
                    deleted.insert(&entry.key);
                    !access.parent
                }
                Op::Reset => return Ok(true),
            };
            if counts {
                keys.push(&entry.key);
            }
        }
        if keys.is_empty() {
            return Ok(false);
        }
        if access.predicate.as_deref() == Some("true") {
            return Ok(true);
        }
        let wanted: HashSet<&str> = keys.iter().copied().collect();
        images.extend(entries.iter().filter(|e| wanted.contains(e.key.as_str())).filter_map(|e| e.image));
        keys.sort_unstable();
        keys.dedup();
        images.extend(present(table, &keys)?);
        match &access.predicate {
            Some(predicate) => {
                Ok(policy::matching(table, &images, predicate, reader)?.is_none_or(|m| m.contains(&true)))
            }
            None if !pg::rls_active(table.relation) => Ok(true),
            None => Ok(self.could_see(table, &images, Rows::Selected)?.is_none_or(|v| v.contains(&true))),
        }
    }

    /// For each image of a row of this collection: could the caller see it, in these scopes and not soft-deleted? None when
    /// that cannot be told.
    pub fn visible(
        &mut self,
        collection: &Collection,
        images: &[pg_sys::Datum],
        scopes: Option<&[String]>,
    ) -> Result<Option<Vec<bool>>> {
        self.could_see(collection, images, Rows::Synced(scopes))
    }

    fn could_see(
        &mut self,
        collection: &Collection,
        images: &[pg_sys::Datum],
        rows: Rows,
    ) -> Result<Option<Vec<bool>>> {
        if images.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let mut shadows = Vec::new();
        if pg::rls_active(collection.relation) {
            // Rows of other tables that are gone only matter where rows hang on them: a deleted grant that concerns the caller
            // has moved him.
            let parents = collection.access.iter().filter(|a| a.parent && a.relation != collection.relation);
            for access in parents {
                if access.untracked {
                    return Ok(None);
                }
                let Some(table) = catalog::tracked(access.relation)? else { return Ok(None) };
                let entries = self.entries(table.relation)?;
                let gone: Vec<pg_sys::Datum> =
                    entries.iter().filter(|e| e.op == Op::Delete).filter_map(|e| e.image).collect();
                if gone.is_empty() || table.image.is_empty() {
                    continue;
                }
                // A common table expression's row is not of the table's type.
                if access.whole {
                    return Ok(None);
                }
                // In a circle of policies nothing can be said of rows that are gone.
                if !self.judging.insert(table.relation.to_u32()) {
                    return Ok(None);
                }
                let seen = self.could_see(&table, &gone, Rows::Selected)?;
                self.judging.remove(&table.relation.to_u32());
                let Some(seen) = seen else { return Ok(None) };
                let images: Vec<pg_sys::Datum> = gone.iter().zip(&seen).filter(|(_, s)| **s).map(|(i, _)| *i).collect();
                if !images.is_empty() {
                    shadows.push(Shadow { table, images });
                }
            }
        }
        policy::visible(collection, images, rows, &shadows)
    }
}

/// At most this many columns per call: each takes two arguments, and FUNC_MAX_ARGS is 100.
const COLUMNS_AT_ONCE: usize = 40;

/// The present rows of these keys as images, read past the caller's rights: what he learns of them is only whether any
/// concerns him.
fn present(table: &Collection, keys: &[&str]) -> Result<Vec<pg_sys::Datum>> {
    if table.image.is_empty() {
        return Ok(Vec::new());
    }
    let mut parts: Vec<Vec<String>> = vec![Vec::new(); table.key.len()];
    for key in keys {
        if let Ok(values) = wire_id::decode(key, table.key.len()) {
            parts.iter_mut().zip(values).for_each(|(part, value)| part.push(value));
        }
    }
    let n = table.key.len();
    // Texts by output function, as the trigger writes them: a cast could be somebody's own function.
    let field = |c: &catalog::Column| {
        let column = format!("t.{}", c.ident);
        let number = if pg::is_object_name(c.facts.base) { "::oid" } else { "" };
        format!("{}, CASE WHEN num_nulls({column}) = 0 THEN concat({column}{number}) END", pg::literal(&c.name))
    };
    let fields: Vec<String> = table.image.iter().map(field).collect();
    let objects: Vec<String> =
        fields.chunks(COLUMNS_AT_ONCE).map(|some| format!("jsonb_build_object({})", some.join(", "))).collect();
    let arrays: Vec<String> = table
        .key
        .iter()
        .enumerate()
        .map(|(i, k)| format!("unnest(${}::{}[])", i + 1, k.facts.base_type_name()))
        .collect();
    let names: Vec<String> = (0..n).map(|i| format!("k{i}")).collect();
    let on: Vec<String> = table.key.iter().enumerate().map(|(i, k)| format!("t.{} = k.k{i}", k.ident)).collect();
    let sql = format!(
        "SELECT {} FROM ROWS FROM ({}) AS k({}) JOIN {} AS t ON {}",
        objects.join(" || "),
        arrays.join(", "),
        names.join(", "),
        table.from,
        on.join(" AND ")
    );
    let args: Vec<spi::Arg> = parts.into_iter().map(spi::arg).collect();
    // The table's owner may lack the right to look into its schema, or to read it; but what code its types, indexes and
    // constraints bring along must not run with more rights than his.
    let statement = spi::as_owner(|| {
        let mut statement = Statement::analyze(&sql, &args)?;
        statement.read_by_rights_of(pg::current_user());
        Ok(statement)
    })?;
    let rows = spi::as_table_owner(table.relation, || statement.run())?;
    rows.iter().flatten().map(|image| spi::jsonb(image)).collect()
}
