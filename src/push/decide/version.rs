//! The policy `last_write_wins`: which of the pushed rows are older than what is stored.

use std::collections::{HashMap, HashSet};

use super::fates::Deciding;
use crate::collections::catalog::Column;
use crate::collections::lookup;
use crate::push::payload::Group;
use crate::push::target::{json_arg, Target};
use crate::server::error::{code, Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::pg;
use crate::server::spi::{self, Mode};
use crate::server::subxact;
use crate::values::dialect::Dialect;

/// What the versions say, by row.
#[derive(Default)]
pub(super) struct Versions {
    /// The records that are older than what is stored, and those (with an error) that do not say how old they are.
    pub records: HashMap<u32, Option<SyncError>>,
    /// The same of the deletions that carry a version.
    pub deletions: HashMap<u32, Option<SyncError>>,
    /// Which do.
    pub with_version: HashSet<u32>,
}

/// Where versions are sent.
#[derive(Clone, Copy)]
enum Sent<'s, 'a> {
    Records(&'s Group<'a>),
    Deletions(&'s str),
}

impl Deciding<'_, '_> {
    pub(super) fn versions(&self) -> Result<Versions> {
        let mut versions = Versions::default();
        if let Some(version) = &self.target.collection.version {
            self.records(version, &mut versions.records)?;
            self.deletions(version, &mut versions)?;
        }
        Ok(versions)
    }

    fn records(&self, version: &Column, older: &mut HashMap<u32, Option<SyncError>>) -> Result<()> {
        let target = self.target;
        let mark = target.version_and_mark().map(|(_, mark)| mark.name.as_str());
        for group in target.plan.regroup(|_, column| column == version.name || mark == Some(column)) {
            let record = |row: &u32| &target.plan.records[*row as usize];
            let rows: Vec<u32> = group.rows.iter().copied().filter(|r| self.stored[*r as usize].visible).gather();
            let (sent, silent): (Vec<u32>, Vec<u32>) = rows
                .into_iter()
                .gather_parts(|r| target.plan.raw(record(r), &version.name).is_some_and(|v| v != "null"));
            for row in silent {
                let error = SyncError::new(code::NULL_NOT_ALLOWED, format!("the record has no {}", version.ident))
                    .detail(format!("It is about {}.", target.plan.path(record(&row).source)))
                    .hint("Under last_write_wins every pushed record carries its version.");
                older.insert(row, Some(error));
            }
            if !sent.is_empty() {
                let columns = target.columns_over_stored(&group);
                let value = group.columns.iter().position(|c| *c == version.name).map_or("", |at| &columns.values[at]);
                // Two rows of one time are told apart by nobody: the Drift client gets the stored one, which must be one for all.
                let operator = if target.dialect == Dialect::Drift { ">=" } else { ">" };
                let sql = later_stored(target, version, operator, &columns.declared, value);
                older_of(target, &sql, Sent::Records(&group), &sent, older)?;
            }
        }
        Ok(())
    }

    /// A deletion may come as a whole row.
    fn deletions(&self, version: &Column, versions: &mut Versions) -> Result<()> {
        let target = self.target;
        let first = target.plan.records.len();
        let rows = (0..).zip(&target.plan.deletions).filter(|(row, deletion)| {
            let raw = target.plan.raw_of_deletion(deletion, &version.name);
            self.stored[first + *row as usize].visible && raw.is_some_and(|raw| raw != "null")
        });
        let rows: Vec<u32> = rows.map(|(row, _)| row).gather();
        if rows.is_empty() {
            return Ok(());
        }
        memory::extend(&mut versions.with_version, rows.iter().copied());
        let (declared, value) = target.value_over_stored(version, "c0");
        let sql = later_stored(target, version, ">", &[declared], &value);
        older_of(target, &sql, Sent::Deletions(&version.name), &rows, &mut versions.deletions)
    }
}

/// SQL for the rows of which a later version than the one sent is stored.
fn later_stored(target: &Target, version: &Column, operator: &str, declared: &[String], value: &str) -> String {
    let stored = match target.version_and_mark() {
        Some((version, mark)) => format!("GREATEST(t.{}, t.{})", version.ident, mark.ident),
        None => format!("t.{}", version.ident),
    };
    format!(
        "SELECT r.n FROM {} WHERE {stored} OPERATOR(pg_catalog.{operator}) ({value})",
        lookup::join(&target.collection, &target.recordset(1, declared))
    )
}

/// The rows that `sql` finds to be older than what is stored.
fn older_of<'a>(
    target: &Target<'a>,
    sql: &str,
    sent: Sent<'_, 'a>,
    rows: &[u32],
    older: &mut HashMap<u32, Option<SyncError>>,
) -> Result<()> {
    let find = |rows: &[u32]| {
        let payload = match sent {
            Sent::Records(group) => target.plan.render_rows(group, rows),
            Sent::Deletions(column) => target.plan.render_deletions_with(rows, column),
        };
        let _now = pg::ActiveSnapshot::take();
        spi::numbers(sql, &[json_arg(&payload)], Mode::Read)
    };
    subxact::in_halves(rows, &find, &mut |tried| {
        match tried {
            Ok(found) => memory::extend(older, found.into_iter().map(|(n, _)| (n, None))),
            Err((row, e)) => {
                let id = match sent {
                    Sent::Records(_) => &target.plan.records[row as usize].id,
                    Sent::Deletions(_) => &target.plan.deletions[row as usize].id,
                };
                older.insert(row, Some(target.about(id, e)));
            }
        }
        Ok(true)
    })?;
    Ok(())
}
