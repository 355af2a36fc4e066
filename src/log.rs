//! What changed, and when: from the journal of a transaction to who reads the log under a snapshot.

pub mod change;
pub mod client;
pub mod clock;
pub mod journal;
pub mod poke;
pub mod read;
pub mod retention;
pub mod roles;
pub mod wake;
