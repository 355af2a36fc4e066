//! What this backend remembers from one call to the next, and what makes it forget.
//!
//! The server's callbacks (callbacks.rs) may come at any moment, also while something remembered is in use. So they only count, and
//! whoever looks at something remembered compares the count with that of the moment when it was remembered.

use std::cell::{Cell, RefCell};

/// What happens to a backend that outdates what it remembers.
#[derive(Clone, Copy)]
pub enum Event {
    /// A relation, a type, a cast, a function or a schema changed.
    Definition,
    /// Something changed on which a plan may depend: a definition, a function, an operator, a schema.
    Plan,
    /// A function.
    Function,
    /// A role, or a membership.
    Role,
    /// A transaction ended.
    End,
    /// A subtransaction was rolled back.
    Rollback,
}

const EVENTS: usize = 6;

thread_local! {
    static COUNTS: [Cell<u64>; EVENTS] = const { [const { Cell::new(1) }; EVENTS] };
}

/// Counts an event.
pub fn happened(event: Event) {
    COUNTS.with(|c| c[event as usize].set(c[event as usize].get() + 1));
}

/// How many there were so far: what was remembered at the same count is still right.
pub fn count(event: Event) -> u64 {
    COUNTS.with(|c| c[event as usize].get())
}

/// What was found out, for as long as no such event happens.
pub struct Cached<T> {
    outdated_by: Event,
    held: RefCell<(u64, T)>,
}

impl<T: Default> Cached<T> {
    pub fn until(outdated_by: Event) -> Self {
        Cached { outdated_by, held: RefCell::default() }
    }

    /// Looks at what is remembered: nothing, if that is outdated.
    pub fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        let now = count(self.outdated_by);
        let mut held = self.held.borrow_mut();
        if held.0 != now {
            *held = (now, T::default());
        }
        look(&held.1)
    }

    /// Remembers more, which was found out when the count was `then`: unless that is outdated already.
    pub fn remember(&self, then: u64, add: impl FnOnce(&mut T)) {
        if then == count(self.outdated_by) {
            let mut held = self.held.borrow_mut();
            if held.0 != then {
                *held = (then, T::default());
            }
            add(&mut held.1);
        }
    }

    /// The count to pass to `remember`, of the moment before something is found out.
    pub fn now(&self) -> u64 {
        count(self.outdated_by)
    }
}

/// What holds for the running transaction.
pub struct PerTransaction<T> {
    /// A subtransaction that is rolled back takes it along.
    undone: bool,
    held: RefCell<([u64; 2], T)>,
}

impl<T: Default> PerTransaction<T> {
    /// Until the transaction ends.
    pub fn until_end() -> Self {
        PerTransaction { undone: false, held: RefCell::default() }
    }

    /// Until the transaction ends or a part of it is rolled back.
    pub fn until_rollback() -> Self {
        PerTransaction { undone: true, held: RefCell::default() }
    }

    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let now = [count(Event::End), if self.undone { count(Event::Rollback) } else { 0 }];
        let mut held = self.held.borrow_mut();
        if held.0 != now {
            *held = (now, T::default());
        }
        work(&mut held.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_outdated_is_forgotten() {
        let cached: Cached<Vec<i32>> = Cached::until(Event::Role);
        let found_out_at = cached.now();
        cached.remember(found_out_at, |v| v.push(1));
        assert_eq!(cached.look(Vec::len), 1);
        happened(Event::Plan);
        assert_eq!(cached.look(Vec::len), 1);
        happened(Event::Role);
        assert_eq!(cached.look(Vec::len), 0);
        cached.remember(found_out_at, |v| v.push(2));
        assert_eq!(cached.look(Vec::len), 0, "it was found out before the event");
    }

    #[test]
    fn a_transaction_forgets_at_its_end() {
        let (kept, undone) = (PerTransaction::until_end(), PerTransaction::until_rollback());
        let set = || (kept.with(|k| std::mem::replace(k, true)), undone.with(|u| std::mem::replace(u, true)));
        assert_eq!(set(), (false, false));
        assert_eq!(set(), (true, true));
        happened(Event::Rollback);
        assert_eq!(set(), (true, false));
        happened(Event::End);
        assert_eq!(set(), (false, false));
    }
}
