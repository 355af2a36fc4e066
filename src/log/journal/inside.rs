//! Statements inside statements, and when a part of the journal may be written.
//!
//! What a statement does inside another one (in a trigger, in a function) is logged before what the outer one did before it (net.rs). Entries of one key
//! that are written in several parts say in which order to read them by when they were logged. So a part ends where no outer statement may still have
//! something to log about its keys:
//! - Our own trigger is not fired inside of another one.
//! - Of no table a statement has logged something and then an earlier one has, as long as that one may go on. When a later statement logs outside of all triggers,
//!   it is over.
//!
//! Such a statement may go on for ever, and the outer one may be of a table that is not tracked. So a part of several times the length is written all the same:
//! what a transaction keeps in memory is bounded. (Nor is seen what a statement does in a function that another one calls in its expressions, until that logs
//! itself.) Readers may then take a state that was there in between for the one that was found. docs/how-it-works.md says so.

use std::collections::{BTreeSet, HashMap};

use crate::log::change::Change;
use crate::server::trigger;

/// So many times as much is kept inside of statements.
const INSIDE: usize = 4;

#[derive(Default)]
pub(super) struct Statements {
    /// The table of the change before, and the largest command that has changed it.
    last: Option<(u32, u32)>,
    /// The same of other tables.
    others: HashMap<u32, u32>,
    /// The largest command of all.
    newest: u32,
    /// Tables of which an earlier statement has logged something after a later one.
    open: BTreeSet<u32>,
}

impl Statements {
    /// A change is logged.
    pub fn add(&mut self, change: &Change) {
        // (What is said of a row is no change of a statement's.)
        if !change.when.is_of_command() {
            return;
        }
        let (relation, command) = (change.relation.to_u32(), change.when.command);
        let known = match self.last {
            Some((last, known)) if last == relation => known,
            last => {
                if let Some((table, command)) = last {
                    self.others.insert(table, command);
                }
                self.others.get(&relation).copied().unwrap_or(0)
            }
        };
        if command < known {
            self.open.insert(relation);
        }
        self.last = Some((relation, known.max(command)));
        if command > self.newest {
            self.newest = command;
            if !self.open.is_empty() && trigger::depth() == 1 {
                self.open.clear();
            }
        }
    }

    /// May a part of this length be written, where `most` is what one has? `outside`: how deep triggers are fired inside of triggers where none is inside of another.
    pub fn is_settled(&self, length: usize, most: usize, outside: i32) -> bool {
        length >= most && (length >= most.saturating_mul(INSIDE) || self.open.is_empty() && trigger::depth() <= outside)
    }
}
