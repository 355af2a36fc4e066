//! What the catalog says about a table that a push must know beyond [`Collection`]: looked up once and forgotten with it, when
//! Postgres says that some relation changed. Constraints and triggers do not come without such a message; asking for them
//! took 100 us of each push.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::rc::Rc;

use pgrx::pg_sys;
use serde::Deserialize;

use crate::collections::catalog::Collection;
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::server::spi;

#[derive(Deserialize, Debug)]
pub struct Facts {
    /// The tables whose foreign keys refer to it.
    pub referenced_by: Vec<u32>,
    /// The tables to which keys of its own refer whose columns are never NULL.
    pub needs: Vec<u32>,
    /// The tables that its policies read, also those for writing.
    pub read_by_policies: Vec<u32>,
    /// Such a key follows an update, of a column that updates may change.
    pub followed: bool,
    /// Columns of it change by keys of its own ([`followed_by`]).
    pub follows: bool,
    /// The columns of its own keys, and the tables to which these refer.
    pub referring: Vec<(String, u32)>,
    /// The events on which triggers or rules of its owner run, as `tgtype` has them.
    pub fires: i16,
    /// Those on which such a trigger may run only when the transaction commits.
    pub fires_late: i16,
    /// Those on which a trigger of its owner runs for each row, when the statement has written all of them, and may look at the table.
    after_rows: i16,
    /// Those on which one, or a policy, may look before each row at what such triggers have done, once somebody asks.
    #[serde(skip)]
    before_rows: OnceCell<i16>,
    /// Those at which such a trigger or rule may veto the change of a row, and do another.
    pub vetoes: i16,
    /// There are rules.
    pub ruled: bool,
    /// Those for which a rule may have something else done instead.
    pub instead: i16,
    /// Whoever the policies let insert a row may see it: they ask the same of new rows as of those that are selected.
    pub shows_inserted: bool,
}

// Bits of tgtype (catalog/pg_trigger.h).
pub const INSERT: i16 = 4;
pub const DELETE: i16 = 8;
pub const UPDATE: i16 = 16;
// ROW alone, and with BEFORE.
const AFTER_ROW: i16 = 1;
const BEFORE_ROW: i16 = 3;

const FACTS: &str = include_str!("facts/facts.sql");
const LOOKS: &str = include_str!("facts/looks.sql");
const STORES: &str = include_str!("facts/stores.sql");
const REFERS: &str = include_str!("facts/refers.sql");
const FOLLOWS: &str = include_str!("facts/follows.sql");

/// A table to which keys of another one refer that change columns of that one: they become NULL, or their default, or follow.
pub struct Followed {
    pub table: pg_sys::Oid,
    /// Where a row of it is deleted.
    pub deleted: bool,
    /// Where one is updated, in columns that updates may change.
    pub updated: bool,
}

/// The tables that columns of this one follow. (Not kept: what is another collection's key hangs on that one's settings.)
pub fn followed_by(table: pg_sys::Oid) -> Result<Vec<Followed>> {
    let rows = spi::query_now(FOLLOWS, &[spi::arg(table)])?;
    Ok(rows.iter().map(|r| Followed { table: r.oid(0), deleted: r.bool(1), updated: r.bool(2) }).gather())
}

/// The foreign keys of these tables, and of those that they refer to, and so on: who is referred to, and by whom. Roots for partitions. None where
/// there are more keys and partitions than `most`.
///
/// What lies between two of these tables is found from either end. From this one nobody is asked but those whom the owners of the tables refer to
/// themselves: whoever may refer to a table can hang any number of his own on it. Kept it is not: that would take word of all these tables.
pub fn referred_to(tables: Vec<pg_sys::Oid>, most: usize) -> Result<Option<Vec<(u32, u32)>>> {
    let mut known: HashSet<pg_sys::Oid> = tables.iter().copied().gather();
    let (mut open, mut keys, mut left) = (tables, Vec::new(), most);
    while !open.is_empty() {
        let rows = spi::query_now(REFERS, &[spi::arg(std::mem::take(&mut open)), spi::arg(left as i64 + 1)])?;
        let Some(still) = left.checked_sub(rows.len()) else { return Ok(None) };
        left = still;
        for (child, parent) in rows.iter().map(|row| (row.oid(0), row.oid(1))) {
            if parent != pg_sys::InvalidOid {
                memory::push(&mut keys, (parent.to_u32(), child.to_u32()))?;
                if known.insert(parent) {
                    memory::push(&mut open, parent)?;
                }
            }
        }
    }
    Ok(Some(keys))
}

/// The events on which triggers of this timing may look at the table.
fn looking(collection: &Collection, triggers: i16) -> Result<i16> {
    let rows = spi::query_now(LOOKS, &[spi::arg(collection.relation), spi::arg(triggers)])?;
    rows.first().map_or(Ok(-1), |row| row.json(0))
}

impl Facts {
    pub fn of(collection: &Collection) -> Result<&Facts> {
        if let Some(known) = collection.facts.get() {
            return Ok(known);
        }
        let rows = spi::query_now(FACTS, &[spi::arg(collection.relation)])?;
        let Some(row) = rows.first() else { return Ok(collection.facts.get_or_init(Facts::of_what_is_gone)) };
        let mut facts: Facts = row.json(0)?;
        // (Few tables have such triggers, and it takes 1 ms.)
        if facts.after_rows != 0 {
            facts.after_rows = looking(collection, AFTER_ROW)?;
        }
        Ok(collection.facts.get_or_init(|| facts))
    }

    /// May the same written by one statement, and row by row, come to different things?
    pub fn fires_after_rows(&self, event: i16) -> bool {
        self.after_rows & event != 0
    }

    /// Do triggers look at this table's rows while a statement changes them, which hang on each other? They are changed in turn.
    pub fn goes_in_turn(&self, event: i16, table: pg_sys::Oid) -> bool {
        self.fires & event != 0 && self.referring.iter().any(|(_, to)| *to == table.to_u32())
    }

    /// May a trigger or a policy look, before a row, at what triggers after the rows before it have done?
    pub fn looks_before_rows(&self, collection: &Collection, event: i16) -> Result<bool> {
        if self.before_rows.get().is_none() {
            // (Rules are triggers of every event.)
            let found = if self.ruled { -1 } else { looking(collection, BEFORE_ROW)? };
            _ = self.before_rows.set(found);
        }
        Ok(self.before_rows.get().is_none_or(|events| events & event != 0))
    }

    /// Nothing is ruled out.
    fn of_what_is_gone() -> Facts {
        Facts {
            referenced_by: Vec::new(),
            needs: Vec::new(),
            read_by_policies: Vec::new(),
            followed: true,
            follows: true,
            referring: Vec::new(),
            fires: -1,
            fires_late: -1,
            after_rows: -1,
            before_rows: OnceCell::new(),
            vetoes: -1,
            ruled: true,
            instead: -1,
            shows_inserted: false,
        }
    }
}

/// What a statement that writes the table stores, besides what the statement says: for who skips the echoes of his own pushes. The
/// query takes 0.3 ms, as long as writing a row.
#[derive(Deserialize, Debug)]
pub struct Stores {
    /// An inserted row is what the statement says, but for defaults.
    pub inserts: bool,
    /// An updated row is the old one with what the statement sets.
    pub updates: bool,
    /// Columns that get a value when none is given.
    pub filled: Vec<String>,
    /// Columns whose type has a cast to json, by which pulls write it.
    pub cast: Vec<String>,
}

impl Stores {
    /// None for a table that is no more.
    pub fn of(collection: &Collection) -> Result<Option<Rc<Stores>>> {
        if let Some(known) = collection.stores.get() {
            return Ok(Some(Rc::clone(known)));
        }
        let rows = spi::query_now(STORES, &[spi::arg(collection.relation)])?;
        let found = rows.first().map(|row| row.json::<Stores>(0)).transpose()?;
        Ok(found.map(|found| Rc::clone(collection.stores.get_or_init(|| Rc::new(found)))))
    }
}
