//! What the catalog says about a table that a push must know beyond [`Collection`]: looked up once and forgotten with it, when
//! Postgres says that some relation changed. Constraints and triggers do not come without such a message; asking for them
//! took 100 us of each push.

use crate::catalog::{query_now, Collection};
use crate::error::Result;
use crate::spi;

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
        let relation = [spi::arg(collection.relation)];
        let keys =
            query_now("SELECT DISTINCT conrelid FROM pg_constraint WHERE contype = 'f' AND confrelid = $1", &relation)?;
        let deferrable = query_now("SELECT 1 FROM pg_trigger WHERE tgrelid = $1 AND tgdeferrable LIMIT 1", &relation)?;
        let referenced_by = keys.iter().map(|r| r.oid(0).to_u32()).collect();
        let facts = Facts { referenced_by, deferrable: !deferrable.is_empty() };
        Ok(collection.facts.get_or_init(|| facts))
    }
}
