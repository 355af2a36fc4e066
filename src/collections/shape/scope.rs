//! The column that the policies divide a collection's rows by, where its owner has named none; and of a table that is only tracked because
//! policies read it, the one that these divide its rows by.

use pgrx::pg_sys;

use super::definition;
use crate::collections::registry::{self, Right, StoredSettings};
use crate::collections::triggers;
use crate::policies::access::{self, Concerns, Readings};
use crate::policies::scope::read::{Conditions, Readers};
use crate::policies::scope::{self, ScopeFinding};
use crate::server::error::{Result, SyncError};
use crate::server::memory::{self, Gather};
use crate::server::{pg, spi};

/// What was found when the table was looked at last.
pub fn known(relation: pg_sys::Oid) -> Result<ScopeFinding> {
    const SQL: &str = "SELECT found_scope, no_scope FROM snapsync.collection WHERE relation = $1";
    let rows = spi::read_now(SQL, &[spi::arg(relation)])?;
    let text = |column| rows.first().and_then(|r| r.text(column)).map(str::to_string);
    Ok(ScopeFinding { column: text(0), reason: text(1) })
}

/// What is to be found now. Which column the log's entries have is the triggers' to say: whoever may not change these leaves it as it is.
pub fn wanted(relation: pg_sys::Oid, stored: &StoredSettings) -> Result<ScopeFinding> {
    wanted_by(None, relation, stored)
}

/// The same after a change of how this table reads it.
fn wanted_by(reader: Option<pg_sys::Oid>, relation: pg_sys::Oid, stored: &StoredSettings) -> Result<ScopeFinding> {
    if let Some(named) = &stored.scope_column {
        // The entries carry this one. Where nothing says which of its values are the caller's, another might have served better.
        return match (&stored.name, &stored.scope_values) {
            (Some(_), None) => scope::beside(relation, named),
            _ => Ok(ScopeFinding::default()),
        };
    }
    let known = known(relation)?;
    let found = match stored.name {
        Some(_) => scope::find(relation)?,
        None => {
            let column = column_read(reader, relation, known.column.as_deref())?;
            ScopeFinding { column, reason: None }
        }
    };
    let fixed =
        || Ok::<bool, SyncError>(triggers::is_installed(relation)? && !registry::may(relation, Right::Trigger)?);
    if found.column != known.column && fixed()? {
        return Ok(known);
    }
    Ok(found)
}

/// So many that read a table are asked which column serves them. A thousand may read it, and DDL on one of them does not pay for the others.
const ASKED: usize = 16;

/// The column that serves who reads it. Which one that is decides what a pull reads, never what it says: so the known one stays where nobody
/// has to be asked, or too many would have to be. But for one that is gone, or cannot be it any more: then some are asked again.
fn column_read(reader: Option<pg_sys::Oid>, relation: pg_sys::Oid, known: Option<&str>) -> Result<Option<String>> {
    let kept = match known {
        Some(known) if scope::read::can_be(relation, known)? => Some(known),
        _ => None,
    };
    let is_lost = known.is_some() && kept.is_none();
    let known = kept;
    if let Some(reader) = reader.filter(|_| !is_lost) {
        let its = scope::read::column(relation, &readers(reader, relation, 1)?.0, known)?;
        if known.is_none() || its.as_deref() == known {
            return Ok(its);
        }
    }
    let (asked, all) = readers(reader.unwrap_or(pg_sys::InvalidOid), relation, ASKED)?;
    match known {
        Some(known) if !all => Ok(Some(known.to_string())),
        _ => scope::read::column(relation, &asked, known),
    }
}

/// So many of those that read this table, this one first, and how; whether there are no more. A stranger's policies may take as long to
/// look at as he likes: such do not count.
fn readers(first: pg_sys::Oid, relation: pg_sys::Oid, most: usize) -> Result<(Readers, bool)> {
    const SQL: &str = "SELECT relation::oid, predicate FROM snapsync.access \
         WHERE access = $1 AND kind = 'grant' AND NOT untracked AND predicate IS DISTINCT FROM 'true' \
         ORDER BY relation::oid <> $2, relation::oid LIMIT $3";
    let mut readers = Readers::default();
    let mut any_unasked = false;
    let rows = spi::read_now(SQL, &[spi::arg(relation), spi::arg(first), spi::arg(most as i64 + 1)])?;
    for row in rows.iter().take(most) {
        memory::heed();
        let reader = row.oid(0);
        if pg::qualified_name(reader).is_none() || definition::is_large(reader)? {
            continue;
        }
        let Some(stored) = registry::load(reader)? else { continue };
        let (declared, owned_reads) = (stored.access_tables.as_deref(), stored.scope_reads.as_deref());
        for reading in Readings::of(reader, declared, owned_reads)?.of_table(relation, row.text(1))? {
            match reading.concerns {
                Concerns::Satisfying { trees, texts, .. } => {
                    let texts = texts.iter().map(|text| access::bounds(owned_reads, text)).gather();
                    memory::extend(&mut readers.conditions, [Conditions { trees, texts }]);
                }
                Concerns::WhoSees => any_unasked = true,
                Concerns::Everybody => {}
            }
        }
    }
    if any_unasked && !definition::is_large(relation)? {
        readers.own = scope::find(relation)?.column;
    }
    Ok((readers, rows.len() <= most))
}

/// Brings up to date what the entries of a table carry that is only tracked because policies read it. True when they carry another column's
/// values from now on. It was looked at how `reader` reads it.
pub fn settle(reader: pg_sys::Oid, relation: pg_sys::Oid) -> Result<bool> {
    let Some(stored) = registry::load(relation)?.filter(|stored| stored.name.is_none()) else { return Ok(false) };
    let (known, wanted) = (known(relation)?, wanted_by(Some(reader), relation, &stored)?);
    store(relation, &known, &wanted)?;
    if known != wanted {
        registry::changed(relation);
    }
    Ok(known.column.is_some() && known.column != wanted.column)
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

/// Takes the column's new name over: it is the same column. One that is dropped stays known until another is looked for.
pub fn follow(relation: pg_sys::Oid, renamed: impl Fn(&String) -> Option<String>) -> Result<()> {
    let known = known(relation)?;
    let column = known.column.as_ref().and_then(renamed).or(known.column.clone());
    store(relation, &known, &ScopeFinding { column, ..known.clone() })
}
