//! What policies and owners' SQL read, found in their parsed trees: no rows.

pub mod access;
pub mod early;
pub mod owned;
pub mod scope;
pub mod wide;
