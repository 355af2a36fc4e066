//! What the caller sees, and what the caller saw: policies over rows as they were.

pub mod cause;
pub mod delta;
mod ends;
pub mod keys;
pub mod old_rows;
pub mod policy;
pub mod reach;
pub mod scope;
