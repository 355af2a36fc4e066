//! What changed, and when: from the journal of a transaction to who reads the log under a snapshot.

use crate::server::turn::Turn;

pub mod change;
pub mod client;
pub mod clock;
pub mod journal;
pub mod poke;
pub mod read;
pub mod retention;
pub mod roles;
pub mod salt;
pub mod wake;

/// What one session does at a time (server/turn.rs).
const RECORDING_HISTORY: Turn = Turn(1);
const RECORDING_ROLES: Turn = Turn(2);
const TIDYING_THE_LOG: Turn = Turn(3);
const THINNING_HORIZONS: Turn = Turn(4);
const MAKING_SALT: Turn = Turn(5);
