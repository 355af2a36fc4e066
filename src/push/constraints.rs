//! Constraints that can be deferred: two rows of a push may swap a unique value or refer to each other, whichever statements write
//! them. So a constraint that refuses a statement, and can be deferred, is deferred until everything is written.
//!
//! What fails at the commit fails the call as a whole, each time that it is sent. So all that is deferred is looked at before.

use crate::server::error::{Result, SyncError};
use crate::server::memory::Gather;
use crate::server::{deferred, pg, spi, subxact};

/// A constraint's name, with its schema, quoted. It is IMMEDIATE for the caller: it has refused a statement.
#[derive(PartialEq, Eq, Debug)]
pub struct Constraint(String);

/// The constraint that raised this error at the end of a statement, if it can be deferred and is not yet.
pub fn to_defer(e: &SyncError, deferred: &[Constraint]) -> Result<Option<Constraint>> {
    let [Some(schema), _, _, _, Some(name)] = &e.names else { return Ok(None) };
    if !e.code.starts_with("23") {
        return Ok(None);
    }
    // SET CONSTRAINTS means all of that name in the schema: one of another table, which may be deferred already, must be left
    // alone.
    let found = spi::query_now(
        "SELECT c.condeferrable FROM pg_constraint AS c JOIN pg_namespace AS n ON n.oid = c.connamespace \
         WHERE n.nspname = $1 AND c.conname = $2",
        &[spi::arg(schema.as_str()), spi::arg(name.as_str())],
    )?;
    let constraint = Constraint(format!("{}.{}", pg::ident(schema), pg::ident(name)));
    let can_be = matches!(&found[..], [row] if row.bool(0)) && !deferred.contains(&constraint);
    Ok(can_be.then_some(constraint))
}

/// To be called before anything is written, in the subtransaction that writes.
pub fn defer(constraints: &[Constraint]) -> Result<()> {
    set(constraints, "DEFERRED")
}

/// Makes them IMMEDIATE again, as the caller had them. What they have to say was heard by [`DeferredBefore::check`].
pub fn settle(constraints: &[Constraint]) -> Result<()> {
    set(constraints, "IMMEDIATE")
}

fn set(constraints: &[Constraint], to: &str) -> Result<()> {
    if constraints.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = constraints.iter().map(|c| c.0.as_str()).gather();
    spi::utility(&format!("SET CONSTRAINTS {} {to}", names.join(", ")))
}

/// What was deferred before a call, and does not hold, is not of its making: of what is deferred then nothing can be told, and the commit decides.
#[derive(Clone, Copy)]
pub struct DeferredBefore {
    holds: bool,
}

impl DeferredBefore {
    /// Nothing is, or what is holds. (If not, that is found out when something of the call's own does not.)
    pub const HOLDS: DeferredBefore = DeferredBefore { holds: true };

    /// As it is now.
    pub fn look() -> Result<DeferredBefore> {
        match deferred::try_out() {
            Ok(()) => Ok(DeferredBefore { holds: true }),
            Err(e) if subxact::is_transient(&e) => Err(e),
            Err(_) => Ok(DeferredBefore { holds: false }),
        }
    }

    /// Does what is deferred now hold, in whatever tables? Triggers and cascades write to others than those that were pushed. `own`: constraints that
    /// this push has deferred itself.
    pub fn check(self, own: &[Constraint]) -> Result<()> {
        match self.holds {
            true => deferred::try_out(),
            false => subxact::try_out(|| settle(own)),
        }
    }
}
