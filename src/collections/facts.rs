//! What the catalog says about a table that a push must know beyond [`Collection`]: looked up once and forgotten with it, when
//! Postgres says that some relation changed. Constraints and triggers do not come without such a message; asking for them
//! took 100 us of each push.

use std::rc::Rc;

use crate::collections::catalog::Collection;
use crate::server::error::Result;
use crate::server::spi;

#[derive(Debug)]
pub struct Facts {
    /// The tables whose foreign keys refer to it.
    pub referenced_by: Vec<u32>,
    /// It has constraint triggers that may fire later than their statement.
    pub deferrable: bool,
    /// The events on which triggers or rules of its owner run, as `tgtype` has them.
    pub fires: i16,
    /// Those at which such a trigger may veto the change of a row.
    pub vetoes: i16,
    /// Whoever the policies let insert a row may see it: they ask the same of new rows as of those that are selected.
    pub shows_inserted: bool,
}

// Bits of tgtype (catalog/pg_trigger.h).
pub const INSERT: i16 = 4;
pub const DELETE: i16 = 8;
pub const UPDATE: i16 = 16;

/// The triggers of a table and its partitions (1 ROW, 2 BEFORE), without ours and those of foreign keys; rules count as triggers of
/// every event.
const TRIGGERS: &str = "\
    WITH tree AS (SELECT relid FROM pg_partition_tree($1) UNION SELECT $1), \
         own AS (SELECT tgtype FROM pg_trigger JOIN tree ON relid = tgrelid \
                 WHERE NOT tgisinternal AND tgenabled <> 'D' AND tgfoid <> 'snapsync.track()'::regprocedure) \
    SELECT CASE WHEN EXISTS (SELECT FROM pg_rewrite JOIN tree ON relid = ev_class) THEN -1 \
                ELSE coalesce((SELECT bit_or(tgtype) FROM own), 0) END, \
           coalesce((SELECT bit_or(tgtype) FROM own WHERE tgtype & 3::int2 = 3), 0), \
           EXISTS (SELECT FROM pg_trigger WHERE tgrelid = $1 AND tgdeferrable)";

/// Does every permissive policy for INSERT have one for SELECT that asks the same of the same roles, and every restrictive one for
/// SELECT one for INSERT?
const SHOWS_INSERTED: &str = "\
    WITH policy AS (SELECT polpermissive AS permissive, polcmd AS cmd, polroles AS roles, pg_get_expr(polqual, polrelid) AS qual, \
                           coalesce(pg_get_expr(polwithcheck, polrelid), pg_get_expr(polqual, polrelid)) AS test \
                    FROM pg_policy WHERE polrelid = $1), \
         writing AS (SELECT * FROM policy WHERE cmd IN ('a', '*')), \
         reading AS (SELECT * FROM policy WHERE cmd IN ('r', '*')) \
    SELECT NOT EXISTS (SELECT FROM writing AS w WHERE permissive AND NOT EXISTS ( \
               SELECT FROM reading AS r WHERE r.permissive AND r.qual = w.test AND (r.roles @> w.roles OR 0 = ANY (r.roles)))) \
       AND NOT EXISTS (SELECT FROM reading AS r WHERE NOT permissive AND NOT EXISTS ( \
               SELECT FROM writing AS w WHERE NOT w.permissive AND r.qual = w.test AND (w.roles @> r.roles OR 0 = ANY (w.roles))))";

impl Facts {
    pub fn of(collection: &Collection) -> Result<&Facts> {
        if let Some(known) = collection.facts.get() {
            return Ok(known);
        }
        let relation = [spi::arg(collection.relation)];
        let keys = spi::query_now(
            "SELECT DISTINCT conrelid FROM pg_constraint WHERE contype = 'f' AND confrelid = $1",
            &relation,
        )?;
        let triggers = spi::query_now(TRIGGERS, &relation)?;
        let bits = |column: usize| triggers.first().and_then(|r| r.i64(column)).map_or(-1, |bits| bits as i16);
        let policies = spi::query_now(SHOWS_INSERTED, &relation)?;
        let facts = Facts {
            referenced_by: keys.iter().map(|r| r.oid(0).to_u32()).collect(),
            deferrable: triggers.first().is_none_or(|r| r.bool(2)),
            fires: bits(0),
            vetoes: bits(1),
            shows_inserted: policies.first().is_some_and(|r| r.bool(0)),
        };
        Ok(collection.facts.get_or_init(|| facts))
    }
}

/// What a statement that writes the table stores, besides what the statement says: for who skips the echoes of his own pushes. The
/// query takes 0.3 ms, as long as writing a row.
#[derive(Debug)]
pub struct Stores {
    /// An inserted row is what the statement says, but for defaults.
    pub inserts: bool,
    /// An updated row is the old one with what the statement sets.
    pub updates: bool,
    /// Columns that get a value when none is given.
    pub filled: Vec<String>,
    /// Columns whose type has a cast to json, by which pulls write it.
    pub cast: Vec<String>,
}

impl Stores {
    /// None for a table that is no more.
    pub fn of(collection: &Collection) -> Result<Option<Rc<Stores>>> {
        if let Some(known) = collection.stores.get() {
            return Ok(Some(Rc::clone(known)));
        }

        // tgtype (catalog/pg_trigger.h): 1 ROW, 2 BEFORE, 4 INSERT, 16 UPDATE.
        let rows = spi::query_now(
            "WITH tree AS (SELECT relid FROM pg_partition_tree($1) UNION SELECT $1), \
                  before AS (SELECT coalesce(bit_or(tgtype), 0::int2) AS events FROM pg_trigger JOIN tree ON relid = tgrelid \
                             WHERE tgtype & 3::int2 = 3 AND tgenabled <> 'D'), \
                  ruled AS (SELECT EXISTS (SELECT FROM pg_rewrite WHERE ev_class = $1) AS r), \
                  attribute AS (SELECT a.attname, a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL AS filled, \
                                       EXISTS (SELECT FROM pg_cast WHERE castsource = t.oid AND casttarget = 'json'::regtype) AS has_cast \
                                FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid WHERE a.attrelid = $1 AND a.attnum > 0) \
             SELECT events & 4::int2 = 0 AND NOT r, events & 16::int2 = 0 AND NOT r, \
                    (SELECT to_json(array_agg(attname)) FROM attribute WHERE filled), \
                    (SELECT to_json(array_agg(attname)) FROM attribute WHERE has_cast) \
             FROM before, ruled",
            &[spi::arg(collection.relation)],
        )?;
        let found = rows.first().map(|row| Stores {
            inserts: row.bool(0),
            updates: row.bool(1),
            filled: row.list(2).unwrap_or_default(),
            cast: row.list(3).unwrap_or_default(),
        });
        Ok(found.map(|found| Rc::clone(collection.stores.get_or_init(|| Rc::new(found)))))
    }
}
