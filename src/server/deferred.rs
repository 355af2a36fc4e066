//! What waits for the commit to be looked at: constraints that are deferred, and triggers of users that are.

use pgrx::pg_sys;

use crate::server::error::{Remembering, Result};
use crate::server::subxact;

/// Fires it now, while an error can still be told apart from others and answered; then it is put back, to fire at commit as usual, and what the
/// transaction has set by SET CONSTRAINTS is as it was. All of that is what rolling back does.
///
/// It is `SET CONSTRAINTS ALL IMMEDIATE` without the parser: where nothing waits, a few microseconds.
pub fn try_out() -> Result<()> {
    subxact::try_out(|| {
        let _remembering = Remembering::start();
        let mut all_immediate = pg_sys::ConstraintsSetStmt {
            type_: pg_sys::NodeTag::T_ConstraintsSetStmt,
            constraints: std::ptr::null_mut(),
            deferred: false,
        };
        // SAFETY: inside a transaction; the statement is only read. Triggers see what was written until now.
        unsafe {
            pg_sys::CommandCounterIncrement();
            pg_sys::AfterTriggerSetState(&mut all_immediate);
        }
        Ok(())
    })
}
