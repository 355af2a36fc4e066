//! Constraints that can be deferred: two rows of a push may swap a unique value or refer to each other, whichever statements write
//! them. So a constraint that refuses a statement, and can be deferred, is deferred until everything is written.
//!
//! What fails at the commit fails the call as a whole, each time that it is sent. So what the call leaves deferred is looked at before: all of it,
//! in whatever tables, for triggers and cascades write to others than those that were pushed.
//!
//! What was deferred before the call is left alone. It is not of the call's making, and it may call functions whose effects no rolling back takes
//! back. Which event is whose nobody tells (trigger.c keeps that to itself), so beside one from before nothing is looked at, and the commit decides.
//! So it does where a trigger would not run as at the commit (server/deferred.rs).

use crate::server::error::{Result, SyncError};
use crate::server::memory::Gather;
use crate::server::{deferred, pg, spi, subxact};

/// A constraint's name, with its schema, quoted. It is IMMEDIATE for the caller: it has refused a statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Constraint(String);

/// The constraint that raised this error at the end of a statement, if it can be deferred and is not yet.
///
/// Who raises an error says what it names. So it is none that calls a function of somebody's where something was deferred before, or where that
/// would not run as at the commit: making it IMMEDIATE again would call it for what waits from before, or was put there meanwhile, and with the rights of
/// whoever owns a function around this.
pub fn to_defer(e: &SyncError, deferred: &[Constraint], before: DeferredBefore) -> Result<Option<Constraint>> {
    let [Some(schema), _, _, _, Some(name)] = &e.names else { return Ok(None) };
    if !e.code.starts_with("23") {
        return Ok(None);
    }
    let may_call = before.nothing && deferred::is_as_at_commit();
    // SET CONSTRAINTS means all of that name in the schema: one of another table, which may be deferred already, must be left
    // alone.
    let found = spi::query_now(
        "SELECT c.condeferrable AND ($3 OR c.contype <> 't' AND NOT EXISTS ( \
             SELECT FROM pg_index AS i WHERE i.indexrelid = c.conindid AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL))) \
         FROM pg_constraint AS c JOIN pg_namespace AS n ON n.oid = c.connamespace WHERE n.nspname = $1 AND c.conname = $2",
        &[spi::arg(schema.as_str()), spi::arg(name.as_str()), spi::arg(may_call)],
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
pub fn undefer(constraints: &[Constraint]) -> Result<()> {
    set(constraints, "IMMEDIATE")
}

/// Makes all constraints IMMEDIATE, where [`DeferredBefore::may_be_immediate`], in a trial that is undone: what is deferred fires, and then it is the statement that
/// writes a row which fails.
pub fn all_immediate() -> Result<()> {
    spi::utility("SET CONSTRAINTS ALL IMMEDIATE")
}

/// And DEFERRED, in such a trial.
pub fn all_deferred() -> Result<()> {
    spi::utility("SET CONSTRAINTS ALL DEFERRED")
}

fn set(constraints: &[Constraint], to: &str) -> Result<()> {
    if constraints.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = constraints.iter().map(|c| c.0.as_str()).gather();
    spi::utility(&format!("SET CONSTRAINTS {} {to}", names.join(", ")))
}

/// Whether something was deferred before a call, but for what other calls before it have left and tried out.
#[derive(Clone, Copy)]
pub struct DeferredBefore {
    nothing: bool,
}

impl DeferredBefore {
    /// To be called before the call writes anything.
    pub fn look() -> Result<DeferredBefore> {
        Ok(DeferredBefore { nothing: !deferred::is_any_waiting()? })
    }

    /// Does what is deferred now hold, as far as it is the call's? `own`: constraints that this push has deferred itself.
    pub fn check(self, own: &[Constraint]) -> Result<()> {
        if self.nothing && deferred::may_be_tried_out()? {
            return deferred::try_out();
        }
        subxact::try_out(|| undefer(own))
    }

    /// May constraints and triggers that are deferred fire in the middle of the call? Nothing else waits for them, and they run as at the commit.
    pub fn may_be_immediate(self) -> bool {
        self.nothing && deferred::is_as_at_commit()
    }

    /// The call is at its end, and what it has left was checked: the next one in the transaction need not take that for somebody else's.
    pub fn leave(self) -> Result<()> {
        if self.nothing && deferred::may_be_tried_out()? {
            deferred::is_tried_out();
        }
        Ok(())
    }
}
