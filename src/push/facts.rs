//! What the catalog says about a table that a push must know beyond [`Collection`]: looked up once and forgotten with it, when
//! Postgres says that some relation changed. Constraints and triggers do not come without such a message; asking for them
//! took 100 us of each push.

use pgrx::pg_sys;

use crate::catalog::Collection;
use crate::error::Result;
use crate::pg;
use crate::spi::{self, Mode};

#[derive(Debug)]
pub struct Facts {
    /// The tables whose foreign keys refer to it.
    pub referenced_by: Vec<u32>,
    /// It has constraint triggers that may fire later than their statement.
    pub deferrable: bool,
}

impl Facts {
    pub fn of(collection: &Collection) -> Result<&Facts> {
        if let Some(known) = collection.facts.get() {
            return Ok(known);
        }
        // As things are, whatever the transaction's snapshot: it is remembered.
        let _now = pg::ActiveSnapshot::latest();
        let relation = [spi::arg(collection.relation)];
        let keys = spi::query(
            "SELECT DISTINCT conrelid FROM pg_catalog.pg_constraint \
             WHERE contype OPERATOR(pg_catalog.=) 'f'::\"char\" AND confrelid OPERATOR(pg_catalog.=) $1",
            &relation,
            Mode::Read,
        )?;
        let deferrable = spi::query(
            "SELECT 1 FROM pg_catalog.pg_trigger WHERE tgrelid OPERATOR(pg_catalog.=) $1 AND tgdeferrable LIMIT 1",
            &relation,
            Mode::Read,
        )?;
        let referenced_by = keys.iter().map(|r| r.oid(0).to_u32()).filter(|r| *r != pg_sys::InvalidOid.to_u32());
        let facts = Facts { referenced_by: referenced_by.collect(), deferrable: !deferrable.is_empty() };
        Ok(collection.facts.get_or_init(|| facts))
    }
}
