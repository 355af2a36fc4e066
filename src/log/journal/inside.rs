//! Statements inside statements, and when a part of the journal may be written.
//!
//! What a statement does inside another one (in a trigger, in a function) is logged before what the outer one did before it (net.rs), and what a foreign
//! key's trigger does is logged behind all that. Entries of one key that are written in several parts say in which order to read them by when they were
//! logged. So a part ends where no statement that is under way may still have something to log:
//! - Our own trigger is not fired inside of another one.
//! - What logs now is no earlier command than one of which our triggers have fired already. If it was, then until a later command than all of these does as far outside.
//!
//! Such a statement may go on for ever. So a part of several times the length is written all the same: what a transaction keeps in memory is bounded. (Nor is
//! seen what a statement does in a function that another one calls in its expressions, until that logs itself.) Readers may then take a state that was there in
//! between for the one that was found. docs/how-it-works.md says so.

use crate::server::trigger;

/// So many times as much is kept inside of statements.
const INSIDE: usize = 4;

#[derive(Default)]
pub(super) struct Statements {
    /// The latest command whose trigger has fired.
    newest: u32,
    /// An earlier one has since, in a trigger that was so deep inside of others.
    open: Option<i32>,
}

impl Statements {
    /// This command's trigger fires, whether it logs anything or not.
    pub fn fires(&mut self, command: u32) {
        if command == self.newest {
            return;
        }
        if command < self.newest {
            let depth = trigger::depth();
            self.open = Some(self.open.map_or(depth, |open| open.min(depth)));
            return;
        }
        self.newest = command;
        if self.open.is_some_and(|open| trigger::depth() <= open) {
            self.open = None;
        }
    }

    /// No trigger is being fired.
    pub fn none_fires(&mut self) {
        self.open = None;
    }

    /// May a part of this length be written, where `most` is what one has? `outside`: how deep triggers are fired inside of triggers where none is inside of another.
    pub fn is_settled(&self, length: usize, most: usize, outside: i32) -> bool {
        length >= most && (length >= most.saturating_mul(INSIDE) || self.open.is_none() && trigger::depth() <= outside)
    }
}
