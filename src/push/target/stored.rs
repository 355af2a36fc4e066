//! What the database says now about the rows of a target: locked, visible, in the log.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashMap;

use pgrx::pg_sys;

use super::Target;
use crate::collections::catalog::Column;
use crate::collections::{lookup, tombstone};
use crate::log::read::{self, Logged};
use crate::server::error::{Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::pg::{self, Privilege};
use crate::server::spi::{self, Mode, Planned};
use crate::server::statement::Statement;
use crate::server::subxact;
use crate::sight::policy;
use crate::values::wire_id;

/// A row of the payload as it is stored now.
#[derive(Clone, Copy, Default)]
pub struct Stored {
    /// The caller can see it.
    pub visible: bool,
    /// It is locked, so the caller may update it.
    pub locked: bool,
    /// It is marked as deleted.
    pub deleted: bool,
}

/// So many ids that cannot be read are named one by one, each at the price of a few statements. More of them are no mistakes of
/// some records: all are refused.
const MOST_UNREADABLE: usize = 1_000;

impl Target<'_> {
    /// One text for all ids of one row, by which an id and a key of the log compare: numeric keeps the zeros that it was given,
    /// so `1.0` finds the row that was stored as `1`.
    pub fn comparable<'k>(&self, id: &'k str) -> Cow<'k, str> {
        let key = &self.collection.key;
        if key.iter().all(|k| k.facts.base != pg_sys::NUMERICOID) {
            return Cow::Borrowed(id);
        }
        // An entry from before the key was another one has no such parts, and is about no row of now.
        let Ok(mut parts) = wire_id::decode(id, key.len()) else { return Cow::Borrowed(id) };
        for (part, _) in parts.iter_mut().zip(key).filter(|(_, k)| k.facts.base == pg_sys::NUMERICOID) {
            *part = wire_id::comparable_number(part);
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).gather();
        Cow::Owned(wire_id::encode(&parts).into_owned())
    }

    /// What the log says of these ids from this stamp on, with the ids as the keys. (Not what it says to one client, nor that a row is to be
    /// sent once more.)
    pub fn logged(&self, ids: &[&str], from: i64, snapshot: &pg::ActiveSnapshot) -> Result<Vec<Logged>> {
        // Not made where there are no entries.
        let by_key: OnceCell<HashMap<Cow<str>, &str>> = OnceCell::new();
        let by_key = || by_key.get_or_init(|| ids.iter().map(|id| (self.comparable(id), *id)).gather());
        let wanted = |key: &str| by_key().contains_key(&self.comparable(key));
        let mut entries = read::since_of(self.collection.relation, from, &wanted, snapshot)?;
        entries.retain(|e| !e.is_notice() && !e.is_touch());
        for entry in &mut entries {
            if let Some(id) = by_key().get(&self.comparable(&entry.key)).filter(|id| **id != entry.key) {
                entry.key = id.to_string();
            }
        }
        Ok(entries)
    }

    /// Does the caller see a row of this id that the transaction's snapshot does not (REPEATABLE READ)? Somebody has created it since. (What he
    /// sees in neither, the log is not asked about: he must not hear that there was a row.)
    pub fn is_seen_later(&self, id: &str) -> Result<bool> {
        Ok(!self.visible_in(&[id], &pg::ActiveSnapshot::latest())?.is_empty())
    }

    /// The ids that cannot be read as the key's types, with the error.
    pub fn unreadable_ids(&self) -> Result<HashMap<String, SyncError>> {
        let texts = [pg_sys::TEXTOID, pg_sys::VARCHAROID];
        let mut bad = HashMap::new();
        if self.collection.key.iter().any(|k| !texts.contains(&k.facts.base)) {
            let mut doubtful = self.ids();
            // Not worth a statement in a subtransaction: a uuid shows that it is one.
            if let [key] = &self.collection.key[..] {
                doubtful.retain(|id| key.facts.base != pg_sys::UUIDOID || !wire_id::is_canonical_uuid(id));
            }
            if !doubtful.is_empty() {
                self.find_unreadable(&doubtful, &mut bad)?;
            }
        }
        Ok(bad)
    }

    fn find_unreadable(&self, ids: &[&str], bad: &mut HashMap<String, SyncError>) -> Result<()> {
        let read = |ids: &[&str]| {
            let (rows, args) = self.id_rows(ids);
            spi::query(&format!("SELECT pg_catalog.count(*) FROM {rows}"), &args, Mode::Read)
        };
        subxact::in_halves(ids, &read, &mut |tried| match tried {
            Err((_, e)) if bad.len() == MOST_UNREADABLE => {
                let name = &self.collection.name;
                Err(e
                    .detail(format!("More than {MOST_UNREADABLE} ids of collection \"{name}\" cannot be read."))
                    .hint("Nothing was applied. Send ids as pull_changes writes them."))
            }
            Err((id, e)) => {
                bad.insert(id.to_string(), e);
                Ok(true)
            }
            Ok(_) => Ok(true),
        })?;
        Ok(())
    }

    /// Locks the rows that are there, in key order, all of them at once: two pushes cannot wait for each other. A role that
    /// may only insert locks nothing: it changes no row. Returns the places of those locked, and whether each is marked as
    /// deleted.
    pub fn lock(&self, ids: &[&str]) -> Result<Vec<(usize, bool)>> {
        if ids.is_empty() || !self.may_read_key() || !self.may(Privilege::Update) {
            return Ok(Vec::new());
        }
        let (rows, args) = self.id_rows(ids);
        let sql = format!(
            "SELECT r.n, {} FROM {} ORDER BY {} FOR NO KEY UPDATE OF t",
            self.is_deleted(),
            lookup::join(&self.collection, &rows),
            lookup::order(&self.collection)
        );
        let found = spi::numbers(&sql, &args, Mode::Write)?;
        Ok(found.into_iter().map(|(n, deleted)| (n as usize - 1, deleted)).gather())
    }

    /// Which of these ids the caller can see now, by their places, and whether each is marked as deleted.
    pub fn visible_now(&self, ids: &[&str]) -> Result<Vec<(usize, bool)>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.visible_in(ids, &pg::ActiveSnapshot::take())
    }

    /// The same in this snapshot, which is the active one.
    fn visible_in(&self, ids: &[&str], _snapshot: &pg::ActiveSnapshot) -> Result<Vec<(usize, bool)>> {
        if ids.is_empty() || !self.may_read_key() {
            return Ok(Vec::new());
        }
        let (rows, args) = self.id_rows(ids);
        let sql = format!("SELECT r.n, {} FROM {}", self.is_deleted(), lookup::join(&self.collection, &rows));
        let found = spi::numbers(&sql, &args, Mode::Read)?;
        Ok(found.into_iter().map(|(n, deleted)| (n as usize - 1, deleted)).gather())
    }

    /// Which of these ids a pull would send the caller now, by their places: those that he sees in these scopes (None: in all), and that
    /// are not marked as deleted.
    pub fn synced_now(&self, ids: &[&str], scopes: Option<&[String]>) -> Result<Vec<usize>> {
        let (relation, mark) = (self.collection.relation, self.collection.soft_delete.as_ref());
        let is_hidden = |column: &&Column| !pg::may_select(relation, column.attnum);
        let Some((scope, scopes)) = self.collection.scope.as_ref().zip(scopes) else {
            if mark.as_ref().is_none_or(|mark| !is_hidden(mark)) {
                let visible = self.visible_now(ids)?.into_iter();
                return Ok(visible.filter(|(_, deleted)| !deleted).map(|(place, _)| place).gather());
            }
            return self.among_synced(ids, None, &is_hidden);
        };
        self.among_synced(ids, Some((scope, scopes)), &is_hidden)
    }

    /// The same, where columns that the caller may not select decide, too, as they do in his pulls.
    fn among_synced(
        &self,
        ids: &[&str],
        scopes: Option<(&Column, &[String])>,
        is_hidden: &dyn Fn(&&Column) -> bool,
    ) -> Result<Vec<usize>> {
        if ids.is_empty() || !self.may_read_key() {
            return Ok(Vec::new());
        }
        let (rows, mut args) = self.id_rows(ids);
        let mut conditions = Vec::new();
        if let Some((scope, scopes)) = scopes {
            args.push(spi::arg(scopes.iter().cloned().gather::<Vec<String>>()));
            conditions.push(policy::in_scopes("t", scope, args.len()));
        }
        let mark = self.collection.soft_delete.as_ref();
        memory::extend(&mut conditions, mark.map(tombstone::is_unmarked));
        let conditions: String = conditions.iter().map(|c| format!(" AND ({c}) IS TRUE")).gather();
        let sql = format!("SELECT r.n FROM {}{conditions}", lookup::join(&self.collection, &rows));
        let _now = pg::ActiveSnapshot::take();
        let mut statement = Statement::analyze_beside(&[], &sql, &args)?;
        let deciding = scopes.map(|(scope, _)| scope).into_iter().chain(mark);
        let hidden: Vec<i16> = deciding.filter(is_hidden).map(|column| column.attnum).gather();
        statement.use_without_privilege(self.collection.relation, &hidden);
        let places = statement.run()?.into_iter().flatten().filter_map(|n| n.parse::<usize>().ok());
        Ok(places.map(|n| n - 1).gather())
    }

    /// The scopes of these rows as the log has them, by their places, of those that the caller sees now; None where the collection has no scope.
    /// He need not be allowed to read the column: he is not told.
    pub fn logged_scopes_now(&self, ids: &[&str]) -> Result<Option<HashMap<usize, Option<String>>>> {
        let Some(scope) = &self.collection.logged_scope else { return Ok(None) };
        if ids.is_empty() || !self.may_read_key() {
            return Ok(Some(HashMap::new()));
        }
        let (rows, args) = self.id_rows(ids);
        // (Of the types that a scope can have, none is written by the session's settings.)
        let row = format!("pg_catalog.json_build_array(r.n, t.{}::pg_catalog.text)", scope.ident);
        let sql = format!("SELECT {row} FROM {}", lookup::join(&self.collection, &rows));
        let _now = pg::ActiveSnapshot::take();
        let found: Vec<(usize, Option<String>)> = if pg::may_select(self.collection.relation, scope.attnum) {
            spi::typed(&spi::query_planned(&sql, &args, Mode::Read, Planned::Once)?)?
        } else {
            let mut statement = Statement::analyze_beside(&[], &sql, &args)?;
            statement.use_without_privilege(self.collection.relation, &[scope.attnum]);
            let rows = statement.run()?;
            rows.iter().flatten().filter_map(|row| serde_json::from_str(row).ok()).gather()
        };
        Ok(Some(found.into_iter().map(|(n, scope)| (n - 1, scope)).gather()))
    }

    /// SQL that says whether `t` is marked as deleted.
    fn is_deleted(&self) -> String {
        match &self.collection.soft_delete {
            Some(mark) if pg::may_select(self.collection.relation, mark.attnum) => tombstone::is_marked(mark),
            _ => "false".into(),
        }
    }
}
