//! Which rows a push would move: by the columns with which they refer to others.

use std::collections::HashSet;

use super::{json_arg, ChangedNames, Columns, Target};
use crate::collections::facts::Facts;
use crate::collections::{lookup, tombstone};
use crate::push::payload::Group;
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::server::pg;
use crate::server::spi::{self, Mode};
use crate::server::subxact;
use crate::values::conflict::ConflictPolicy;

impl<'a> Target<'a> {
    /// Those of these records that would change a column of a foreign key to one of these tables (None: to any), of rows that the caller sees and that are not marked as
    /// deleted. (Where a value cannot be read, the record was to move its row all the same.)
    pub fn moved(&self, records: &[u32], from: Option<&HashSet<u32>>) -> Result<Vec<u32>> {
        let keys = &Facts::of(&self.collection)?.referring;
        let keys = keys.iter().filter(|(_, to)| from.is_none_or(|tables| tables.contains(to)));
        let referring: HashSet<&str> = keys.map(|(column, _)| column.as_str()).gather();
        if records.is_empty() || referring.is_empty() || !self.may_read_key() {
            return Ok(Vec::new());
        }
        let whole = self.settled || self.collection.conflict == ConflictPolicy::LastWriteWins;
        let mut changed = ChangedNames::default();
        let refers = |name: &str| referring.contains(name) && self.collection.column(name).is_some();
        let groups = self.plan.regroup(|record, name| refers(name) && (whole || changed.has(&self.plan, record, name)));
        let wanted: HashSet<u32> = records.iter().copied().gather();
        let (mut moved, mut doubtful) = (Vec::new(), Vec::new());
        for group in groups.iter().filter(|group| !group.columns.is_empty()) {
            let rows: Vec<u32> = group.rows.iter().copied().filter(|row| wanted.contains(row)).gather();
            match self.may_select_all(group) {
                true => self.moved_of(group, &rows, &mut moved, &mut doubtful)?,
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

    fn moved_of(&self, group: &Group<'a>, rows: &[u32], moved: &mut Vec<u32>, doubtful: &mut Vec<u32>) -> Result<()> {
        let Columns { declared, names, values } = self.columns_over_stored(group);
        let columns = group.columns.iter().filter_map(|name| self.collection.column(name));
        let typed = columns.zip(&values).map(|(column, value)| format!("({value})::{}", column.type_name));
        let stored: Vec<String> = names.iter().map(|name| format!("t.{name}")).gather();
        let mark = self.collection.soft_delete.as_ref();
        let mark = mark.filter(|mark| pg::may_select(self.collection.relation, mark.attnum));
        // As in decide/stored.rs: no operator of anybody's is called.
        let sql = format!(
            "SELECT r.n FROM {} WHERE NOT ROW({})::pg_catalog.record OPERATOR(pg_catalog.*=) ROW({})::pg_catalog.record{}",
            lookup::join(&self.collection, &self.recordset(1, &declared)),
            stored.join(", "),
            typed.gather::<Vec<String>>().join(", "),
            mark.map_or_else(String::new, |mark| format!(" AND {}", tombstone::is_unmarked(mark)))
        );
        let find = |rows: &[u32]| {
            let _now = pg::ActiveSnapshot::take();
            spi::numbers(&sql, &[json_arg(&self.plan.render_rows(group, rows))], Mode::Read)
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
