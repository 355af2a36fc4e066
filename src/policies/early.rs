//! The functions in a policy that PostgreSQL calls when it plans, and not for each row.

use pgrx::pg_sys;

use crate::server::error::Result;
use crate::server::spi;
use crate::server::statement::folded;

/// Their oids. The tree is in the form in which catalogs store it.
pub fn calls_in(tree: &str) -> Result<Vec<String>> {
    let tree = spi::c_string(tree)?;
    // SAFETY: a stored tree, of which this is the only copy.
    let found = unsafe { folded::named_in(pg_sys::stringToNode(tree.as_ptr()).cast())? };
    Ok(found.into_iter().map(|oid| oid.to_string()).collect())
}
