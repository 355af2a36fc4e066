//! The column that the policies divide a collection's rows by, where its owner has named none.

use pgrx::pg_sys;

use crate::collections::registry::{self, Right, StoredSettings};
use crate::collections::triggers;
use crate::policies::scope::{self, ScopeFinding};
use crate::server::error::{Result, SyncError};
use crate::server::spi;

/// What was found when the table was looked at last.
pub fn known(relation: pg_sys::Oid) -> Result<ScopeFinding> {
    const SQL: &str = "SELECT found_scope, no_scope FROM snapsync.collection WHERE relation = $1";
    let rows = spi::read_now(SQL, &[spi::arg(relation)])?;
    let text = |column| rows.first().and_then(|r| r.text(column)).map(str::to_string);
    Ok(ScopeFinding { column: text(0), reason: text(1) })
}

/// What is to be found now. Which column the log's entries have is the triggers' to say: whoever may not change these leaves it as it is.
pub fn wanted(relation: pg_sys::Oid, stored: &StoredSettings) -> Result<ScopeFinding> {
    if stored.name.is_none() || stored.scope_column.is_some() {
        return Ok(ScopeFinding::default());
    }
    let (found, known) = (scope::find(relation)?, known(relation)?);
    let fixed =
        || Ok::<bool, SyncError>(triggers::is_installed(relation)? && !registry::may(relation, Right::Trigger)?);
    if found.column != known.column && fixed()? {
        return Ok(known);
    }
    Ok(found)
}

pub fn store(relation: pg_sys::Oid, known: &ScopeFinding, found: &ScopeFinding) -> Result<()> {
    if known == found {
        return Ok(());
    }
    spi::owner_execute(
        "UPDATE snapsync.collection SET found_scope = $2::name, no_scope = $3 WHERE relation = $1",
        &[spi::arg(relation), spi::arg(found.column.as_deref()), spi::arg(found.reason.as_deref())],
    )?;
    Ok(())
}

/// Takes the column's new name over: it is the same column. One that is dropped is looked for anew.
pub fn follow(relation: pg_sys::Oid, renamed: impl Fn(&String) -> Option<String>) -> Result<()> {
    let known = known(relation)?;
    let column = known.column.as_ref().and_then(renamed).or(known.column.clone());
    store(relation, &known, &ScopeFinding { column, ..known.clone() })
}
