//! The columns whose old values are logged.

use pgrx::pg_sys;

use crate::policies::access;
use crate::server::error::Result;
use crate::server::spi;

const COLUMNS: &str = include_str!("image/columns.sql");

/// The columns of the table whose old values are logged: those that policies read (`pg_depend` knows them by number), its own and
/// those of the tables for whose sake it is tracked, the scope (named or found) and the soft-delete column, what an access predicate may read, and
/// with any of these the key; all where a policy reads the row as a whole, which PostgreSQL records no dependency for, but the
/// parsed tree shows.
pub fn columns(relation: pg_sys::Oid) -> Result<Vec<String>> {
    let rows = spi::read_now(COLUMNS, &[spi::arg(relation), spi::arg(access::traits(relation)?.whole_row)])?;
    Ok(rows.iter().map(|r| r.string(0)).collect())
}
