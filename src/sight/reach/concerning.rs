//! Which changes of an access table move the caller's view of what hangs on it.

use std::rc::Rc;

use pgrx::pg_sys;

use super::batch::{add_concerning, AccessBatch, AccessRow};
use super::part::{condition_of, AccessPart};
use super::Reach;
use crate::collections::catalog::{Access, Collection};
use crate::log::change::Op;
use crate::log::journal;
use crate::policies::access::{self, Concerns};
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::server::{pg, spi};
use crate::sight::ends::Ends;
use crate::sight::policy::Judge;

/// What is asked of the changes of a table: twenty tables that hang on one in the same way ask it once.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Question {
    table: u32,
    part: Option<Vec<String>>,
    parent: bool,
    concerns: Concerns,
    /// With whose rights names in conditions are looked up, and whether that one may judge all rows.
    judged_for: Option<(u32, bool)>,
}

impl Question {
    fn of(edge: &AccessReading, part: &AccessPart) -> Result<Question> {
        let (table, concerns) = (edge.table.relation, edge.access.reading.concerns.clone());
        let judged_for = match &concerns {
            Concerns::Satisfying { .. } => {
                Some((spi::owner(edge.reader)?.to_u32(), access::may_judge_all(edge.reader, table)))
            }
            Concerns::Everybody | Concerns::WhoSees => None,
        };
        let part = part.values().map(|values| values.iter().cloned().gather());
        Ok(Question { table: table.to_u32(), part, parent: edge.access.parent, concerns, judged_for })
    }
}

impl Reach<'_> {
    /// The stamps of changes of this access table of `reader` that move the caller's view of what hangs on it.
    pub(super) fn concerning(
        &mut self,
        table: &Rc<Collection>,
        access: &Access,
        reader: pg_sys::Oid,
        part: &AccessPart,
    ) -> Result<Rc<Ends>> {
        if self.entries_of_access(table.relation, part.values())?.is_empty() {
            return Ok(Rc::default());
        }
        let edge = AccessReading { table, access, reader };
        let question = Question::of(&edge, part)?;
        if let Some(known) = self.answers.get(&question) {
            return Ok(Rc::clone(known));
        }
        let found = Rc::new(self.find_concerning(&edge, part)?);
        self.answers.insert(question, Rc::clone(&found));
        Ok(found)
    }

    fn find_concerning(&mut self, edge: &AccessReading, part: &AccessPart) -> Result<Ends> {
        let AccessReading { table, access, .. } = *edge;
        let (mut found, own, births) = (Ends::default(), journal::own_stamp(), self.births);
        let entries = self.entries_of_access(table.relation, part.values())?;
        let mut asked = None;
        let mut scratch = pg::Scratch::new(c"snapsync access");
        let (mut batch, mut row) = (AccessBatch::default(), AccessRow::default());
        entries.each(&mut |key, changes| {
            if row.id != key {
                row = AccessRow { id: key.to_string(), ..AccessRow::default() };
            }
            // What comes once a row was deleted is another row, and concerns whom its own states concern. One of which no state concerns the caller
            // changes nothing that policies say to him: it ends no sight of his, though he saw the row before it. That one, put back as a
            // shadow, is none to what hangs on the new one (`judge`). Where anything else moved, all new parents end sights (`add_unjudged`).
            if row.deleted.zip(changes.first()).is_some_and(|(deleted, entry)| deleted < entry.stamp) {
                row = AccessRow { id: std::mem::take(&mut row.id), life: row.life + 1, ..AccessRow::default() };
            }
            for entry in changes {
                memory::extend(&mut row.images, entry.image.clone());
                let counts = match entry.op {
                    Op::Update => entry.image.is_some(),
                    // The same key again is another row to those that hang on it.
                    Op::Insert => !access.parent || births || row.life > 0 || row.deleted.is_some(),
                    Op::Delete | Op::Reset => !access.parent,
                };
                if counts && row.stamps.last() != Some(&entry.stamp) {
                    row.stamps.push(entry.stamp);
                }
                row.deleted = (entry.op == Op::Delete).then_some(entry.stamp);
            }
            if row.adds_to(&found, own) {
                batch.add(&mut row);
            } else if !row.stamps.is_empty() {
                row.images.clear();
            }
            if batch.is_full() {
                self.concerning_of(edge, &mut asked, &mut scratch, &mut batch, &mut found)?;
            }
            Ok(true)
        })?;
        self.concerning_of(edge, &mut asked, &mut scratch, &mut batch, &mut found)?;
        Ok(found)
    }

    /// Of a batch: the stamps of rows that, as they were or as they are, concern the caller.
    fn concerning_of(
        &mut self,
        edge: &AccessReading,
        asked: &mut Option<Tellers>,
        scratch: &mut pg::Scratch,
        batch: &mut AccessBatch,
        found: &mut Ends,
    ) -> Result<()> {
        if batch.rows.is_empty() {
            return Ok(());
        }
        let asked = match asked {
            Some(asked) => asked,
            none => none.insert(scratch.outside(|| self.ask(edge.table, edge.access, edge.reader))?),
        };
        let (rows, own) = (std::mem::take(batch).rows, journal::own_stamp());
        match asked {
            Tellers::Everybody => rows.iter().for_each(|row| row.add_to(found, own)),
            Tellers::Judges(judges) => add_concerning(judges, &rows, own, found)?,
        }
        scratch.reset();
        Ok(())
    }

    /// Who tells whether changes of this access table concern the caller.
    fn ask(&mut self, table: &Rc<Collection>, read: &Access, reader: pg_sys::Oid) -> Result<Tellers> {
        Ok(match &read.reading.concerns {
            Concerns::Everybody => Tellers::Everybody,
            _ if !access::owns_all_parts(table.relation)? => Tellers::Everybody,
            Concerns::WhoSees if !pg::rls_active(table.relation) => Tellers::Everybody,
            Concerns::WhoSees => match self.judge(table)? {
                Some(judge) => Tellers::Judges(vec![judge]),
                None => Tellers::Everybody,
            },
            Concerns::Satisfying { .. } if !access::may_judge_all(reader, table.relation) => Tellers::Everybody,
            Concerns::Satisfying { trees, texts, calls, .. } => {
                let mut judges: Vec<Judge> = trees.iter().map(|tree| Judge::by_condition(table, tree)).gather();
                for text in texts {
                    match condition_of(table.relation, text, calls, reader)? {
                        Some(tree) => judges.push(Judge::by_condition(table, &tree)),
                        None => return Ok(Tellers::Everybody),
                    }
                }
                Tellers::Judges(judges)
            }
        })
    }
}

/// A table that policies of another one read.
struct AccessReading<'a> {
    table: &'a Rc<Collection>,
    access: &'a Access,
    reader: pg_sys::Oid,
}

/// Who tells whether changes concern the caller.
enum Tellers {
    Everybody,
    Judges(Vec<Judge>),
}
