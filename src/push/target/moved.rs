//! Which rows a push would move: by the columns with which they refer to others.

use std::collections::{HashMap, HashSet};

use super::{json_arg, ChangedNames, Columns, Target};
use crate::collections::catalog::Column;
use crate::collections::facts::Facts;
use crate::collections::{lookup, tombstone};
use crate::push::payload::Group;
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::server::pg;
use crate::server::spi::{self, Mode};
use crate::server::subxact;
use crate::values::conflict::ConflictPolicy;

/// What a push deletes.
pub struct Endangered {
    /// Of these tables it may delete rows: those that it names, and what hangs on them. None: of any.
    pub tables: Option<HashSet<u32>>,
    /// The ids that it names, by their table.
    pub named: HashMap<u32, Vec<String>>,
}

impl Endangered {
    /// It is not known what it deletes.
    pub fn any() -> Endangered {
        Endangered { tables: None, named: HashMap::new() }
    }
}

impl<'a> Target<'a> {
    /// Those of these records that would change a column of a foreign key to one of these tables, of rows that the caller sees and that are not marked as deleted. But what hangs on a
    /// row that is named, and stays there, goes with it. (Where a value cannot be read, the record was to move its row all the same.)
    pub fn moved(&self, records: &[u32], from: &Endangered) -> Result<Vec<u32>> {
        let keys = &Facts::of(&self.collection)?.referring;
        let keys = keys.iter().filter(|(_, to)| from.tables.as_ref().is_none_or(|tables| tables.contains(to)));
        let referring: HashMap<&str, u32> = keys.map(|(column, to)| (column.as_str(), *to)).gather();
        if records.is_empty() || referring.is_empty() || !self.may_read_key() {
            return Ok(Vec::new());
        }
        let whole = self.settled || self.collection.conflict == ConflictPolicy::LastWriteWins;
        let mut changed = ChangedNames::default();
        let refers = |name: &str| referring.contains_key(name) && self.collection.column(name).is_some();
        let groups = self.plan.regroup(|record, name| refers(name) && (whole || changed.has(&self.plan, record, name)));
        let wanted: HashSet<u32> = records.iter().copied().gather();
        let may_read = |attnum| pg::may_select(self.collection.relation, attnum);
        let hangs = |(column, to): (&&str, &u32)| {
            let column = self.collection.column(column).filter(|column| may_read(column.attnum))?;
            Some((column, from.named.get(to)?.as_slice()))
        };
        let hangs: Vec<(&Column, &[String])> = referring.iter().filter_map(hangs).gather();
        let (mut moved, mut doubtful) = (Vec::new(), Vec::new());
        for group in groups.iter().filter(|group| !group.columns.is_empty()) {
            let rows: Vec<u32> = group.rows.iter().copied().filter(|row| wanted.contains(row)).gather();
            match self.may_select_all(group) {
                true => self.moved_of(group, &rows, &hangs, &mut moved, &mut doubtful)?,
                false => memory::extend(&mut doubtful, rows),
            }
        }
        let ids: Vec<&str> = doubtful.iter().map(|row| &*self.plan.records[*row as usize].id).gather();
        let standing = self.visible_now(&ids)?.into_iter().filter(|(_, marked)| !marked);
        memory::extend(&mut moved, standing.map(|(place, _)| doubtful[place]));
        Ok(moved)
    }

    fn may_select_all(&self, group: &Group) -> bool {
        let column = |name: &&str| self.collection.column(name);
        group.columns.iter().filter_map(column).all(|c| pg::may_select(self.collection.relation, c.attnum))
    }

    fn moved_of(
        &self,
        group: &Group<'a>,
        rows: &[u32],
        hangs: &[(&Column, &[String])],
        moved: &mut Vec<u32>,
        doubtful: &mut Vec<u32>,
    ) -> Result<()> {
        let Columns { declared, names, values } = self.columns_over_stored(group);
        let columns = group.columns.iter().filter_map(|name| self.collection.column(name));
        let typed = columns.zip(&values).map(|(column, value)| format!("({value})::{}", column.type_name));
        let typed: Vec<String> = typed.gather();
        let stored: Vec<String> = names.iter().map(|name| format!("t.{name}")).gather();
        let mark = self.collection.soft_delete.as_ref();
        let mark = mark.filter(|mark| pg::may_select(self.collection.relation, mark.attnum));
        // As in decide/stored.rs: no operator of anybody's is called.
        let mut sql = format!(
            "SELECT r.n FROM {} WHERE NOT ROW({})::pg_catalog.record OPERATOR(pg_catalog.*=) ROW({})::pg_catalog.record{}",
            lookup::join(&self.collection, &self.recordset(1, &declared)),
            stored.join(", "),
            typed.join(", "),
            mark.map_or_else(String::new, |mark| format!(" AND {}", tombstone::is_unmarked(mark)))
        );
        for (i, (column, _)) in hangs.iter().enumerate() {
            let sent = group.columns.iter().position(|name| *name == column.name).map(|at| &typed[at]);
            let stays = sent.map_or_else(String::new, |value| {
                format!(
                    " AND ROW(t.{})::pg_catalog.record OPERATOR(pg_catalog.*=) ROW({value})::pg_catalog.record",
                    column.ident
                )
            });
            sql += &format!(
                " AND (t.{}::pg_catalog.text OPERATOR(pg_catalog.=) ANY (${}){stays}) IS NOT TRUE",
                column.ident,
                i + 2
            );
        }
        let find = |rows: &[u32]| {
            let _now = pg::ActiveSnapshot::take();
            let named = hangs.iter().map(|(_, ids)| spi::arg(ids.iter().cloned().gather::<Vec<String>>()));
            let args: Vec<spi::Arg> = [json_arg(&self.plan.render_rows(group, rows))].into_iter().chain(named).gather();
            spi::numbers(&sql, &args, Mode::Read)
        };
        subxact::in_halves(rows, &find, &mut |tried| {
            match tried {
                Ok(found) => memory::extend(moved, found.into_iter().map(|(row, _)| row)),
                Err((row, _)) => doubtful.push(row),
            }
            Ok(true)
        })?;
        Ok(())
    }
}
