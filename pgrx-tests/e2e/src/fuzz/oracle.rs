//! What each actor could see, and when: an id may be sent only to those who could see it since their cursor.

use std::collections::HashSet;
use std::rc::Rc;

/// The ids that an actor sees, as (collection, wire id).
pub type Visible = HashSet<(String, String)>;

/// One actor's sight over time. `clock` is the clock's value after the transaction that made this sight.
#[derive(Default)]
pub struct Timeline {
    states: Vec<(i64, Rc<Visible>)>,
}

impl Timeline {
    pub fn push(&mut self, clock: i64, visible: Visible) {
        // Most transactions change nothing for most actors: share the set, but keep the time.
        let state = match self.states.last() {
            Some((_, last)) if **last == visible => Rc::clone(last),
            _ => Rc::new(visible),
        };
        self.states.push((clock, state));
    }

    /// Whether the actor saw the row at the cursor or later. The state that the cursor itself stands for is the last one
    /// with a clock below it.
    pub fn saw_since(&self, cursor: i64, id: &(String, String)) -> bool {
        let first = self.states.partition_point(|(clock, _)| *clock < cursor).saturating_sub(1);
        self.states[first..].iter().any(|(_, visible)| visible.contains(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_the_state_at_the_cursor_and_later_ones() {
        let id = |n: &str| ("t".to_owned(), n.to_owned());
        let set = |ids: &[&str]| ids.iter().map(|n| id(n)).collect::<Visible>();
        let mut t = Timeline::default();
        t.push(2, set(&["a"]));
        t.push(4, set(&["b"]));
        t.push(6, set(&["c"]));
        assert!(t.saw_since(5, &id("b")) && t.saw_since(5, &id("c")));
        assert!(!t.saw_since(5, &id("a")));
        assert!(t.saw_since(1, &id("a")));
    }
}
