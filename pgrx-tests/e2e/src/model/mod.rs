//! The model check: many writers, many pullers that each keep a replica from `pull_changes` alone; at the end every
//! replica must equal the tables.

pub mod pullers;
pub mod run;
pub mod statements;
pub mod tables;
pub mod writers;
