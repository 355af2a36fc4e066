//! Access tables that an owner has named, because functions hide them: names and predicates are texts, which PostgreSQL does not
//! keep right when what they name is renamed.

use pgrx::pg_sys;

use crate::server::error::Result;
use crate::server::spi;

const FOLLOW: &str = include_str!("declared/follow.sql");

/// A declared table is known by its number in the shape. One that has another name now is declared under that one as well, and
/// stays declared under the old: which of the two a function reads that names it in a string, nobody knows, and another table
/// may take its place there (a new version of it that was filled aside). `doctor` tells of names that name nothing.
pub fn follow_names(relation: pg_sys::Oid) -> Result<bool> {
    Ok(spi::owner_execute(FOLLOW, &[spi::arg(relation)])? > 0)
}
