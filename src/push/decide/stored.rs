//! Records that stand as they are pushed: there is nothing to write, so it takes no right to write either. A push is repeated when
//! its answer was lost, perhaps by a role that may insert rows and not update them.

use std::collections::{HashMap, HashSet};

use super::fates::Deciding;
use super::RowHistory;
use crate::collections::catalog::Column;
use crate::collections::lookup;
use crate::push::payload::Group;
use crate::push::target::{json_arg, Columns, Target};
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::server::pg;
use crate::server::spi::{self, Mode};
use crate::server::subxact;
use crate::values::dialect::Dialect;

/// Records whose columns stand as they are sent.
#[derive(Default)]
pub(super) struct Equal {
    pub rows: HashSet<u32>,
    /// Those that are created and were not sent with all that the row has: the client does not know the row, and lacks the rest.
    pub lacking: HashSet<u32>,
}

impl Deciding<'_, '_> {
    /// The records, of those that are compared, whose columns stand as they are sent: created ones that exist, and updated ones
    /// that the caller may not write. (Of the others it costs more to find out than to write them.)
    pub(super) fn stored_already(&self, changed: &HashMap<String, RowHistory>) -> Result<Equal> {
        let mut equal = Equal::default();
        for (number, group) in self.target.updates.iter().enumerate() {
            let rows = group.rows.iter().copied().filter(|row| {
                let (record, stored) = (&self.target.plan.records[*row as usize], self.stored[*row as usize]);
                let in_question = if self.target.dialect == Dialect::Drift {
                    // That client repeats whatever it has, and says of every row whether it is deleted.
                    true
                } else if record.created {
                    // What is marked as deleted does not stand.
                    !stored.deleted || changed.contains_key(&*record.id)
                } else {
                    !(stored.deleted || stored.locked && self.may_update[number])
                };
                stored.visible && in_question
            });
            let rows: Vec<u32> = rows.gather();
            if !rows.is_empty() && may_compare(self.target, group) {
                compare(self.target, group, &sql(self.target, group), &rows, &mut equal)?;
            }
        }
        // Of a row that it updates the client knows the rest.
        equal.lacking.retain(|row| self.target.plan.records[*row as usize].created);
        Ok(equal)
    }
}

/// May the caller read what is to be compared?
fn may_compare(target: &Target, group: &Group) -> bool {
    let collection = &target.collection;
    let readable = |name: &&str| collection.column(name).is_some_and(|c| pg::may_select(collection.relation, c.attnum));
    target.may_read_key() && group.columns.iter().all(readable)
}

fn sql<'a>(target: &Target<'a>, group: &Group<'a>) -> String {
    let Columns { declared, names, values } = target.columns_over_stored(group);
    let collection = &target.collection;
    // `*=` compares the values' bytes: it knows every type, and calls nobody's operator.
    let same = if names.is_empty() {
        "true".to_string()
    } else {
        let stored: Vec<String> = names.iter().map(|n| format!("t.{n}")).gather();
        let typed =
            group.columns.iter().zip(&values).map(|(name, value)| {
                format!("({value})::{}", collection.column(name).map_or("text", |c| &c.type_name))
            });
        format!(
            "ROW({})::pg_catalog.record OPERATOR(pg_catalog.*=) ROW({})::pg_catalog.record",
            stored.join(", "),
            typed.gather::<Vec<_>>().join(", ")
        )
    };
    // (Not IS NOT NULL, which a composite value with an empty field is not.)
    let is_unsent = |c: &&Column| {
        let is_key = collection.key.iter().any(|k| k.attnum == c.attnum);
        !is_key && !group.columns.contains(&&*c.name) && pg::may_select(collection.relation, c.attnum)
    };
    let unsent = collection.columns.iter().filter(is_unsent).map(|c| format!("t.{} IS DISTINCT FROM NULL", c.ident));
    let unsent: Vec<String> = unsent.gather();
    let lacks = if unsent.is_empty() { "false".to_string() } else { unsent.join(" OR ") };
    format!("SELECT r.n, {lacks} FROM {} WHERE {same}", lookup::join(collection, &target.recordset(1, &declared)))
}

/// The rows of the group that `sql` finds stored as they are sent.
fn compare<'a>(target: &Target<'a>, group: &Group<'a>, sql: &str, rows: &[u32], equal: &mut Equal) -> Result<()> {
    let find = |rows: &[u32]| {
        let _now = pg::ActiveSnapshot::take();
        spi::numbers(sql, &[json_arg(&target.plan.render_rows(group, rows))], Mode::Read)
    };
    subxact::in_halves(rows, &find, &mut |tried| {
        // A value that its column cannot hold is not stored.
        if let Ok(found) = tried {
            memory::extend(&mut equal.rows, found.iter().map(|(n, _)| *n));
            memory::extend(&mut equal.lacking, found.into_iter().filter(|(_, lacks)| *lacks).map(|(n, _)| n));
        }
        Ok(true)
    })?;
    Ok(())
}
