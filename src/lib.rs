//! snapsync: offline-first sync inside PostgreSQL.
//!
//! Rooms, from the top floor down; each imports from those below it only (`tests/floors.rs`):
//!
//! - [`callbacks`] and [`functions`]: what the server calls.
//! - [`push`] and [`pull`]: a client's changes applied, and what changed for a user.
//! - [`sight`]: what a user sees or saw. Row-level security over old rows.
//! - [`track`]: the trigger. A changed row becomes an entry.
//! - [`collections`]: what is synced, and how; following DDL.
//! - [`policies`]: what policies and owners' SQL read.
//! - [`log`]: the journal of a transaction, the clock with the proof, reading back.
//! - [`values`]: to JSON, and from clients.
//! - [`server`]: SPI, errors, memory, sessions.
//!
//! The path of a change is the order to read in: [`track`] -> [`log::journal`] -> [`log::clock`] -> [`log::read`] ->
//! [`sight::reach`] -> [`pull`].

// An error is made once, raised and gone; boxing its texts would only add an allocation.
#![allow(clippy::result_large_err)]

use pgrx::prelude::*;

mod callbacks;
mod collections;
mod functions;
mod log;
mod policies;
mod pull;
mod push;
mod server;
mod sight;
#[cfg(any(test, feature = "pg_test"))]
mod tests;
mod track;
mod values;

::pgrx::pg_module_magic!(name, version);

// The install script is plain SQL in ordered files; `make install` concatenates the same files.
extension_sql_file!("../sql/01_schema.sql", name = "schema", bootstrap);
extension_sql_file!("../sql/02_tables.sql", name = "tables", requires = ["schema"]);
extension_sql_file!("../sql/03_functions.sql", name = "functions", requires = ["tables"]);
extension_sql_file!("../sql/04_push.sql", name = "push", requires = ["functions"]);
extension_sql_file!("../sql/05_views.sql", name = "views", requires = ["push"]);
extension_sql_file!("../sql/06_event_triggers.sql", name = "event_triggers", requires = ["views"]);
extension_sql_file!("../sql/07_doctor.sql", name = "doctor", requires = ["event_triggers"]);
extension_sql_file!("../sql/08_schema_versions.sql", name = "schema_versions", requires = ["doctor"]);
extension_sql_file!("../sql/09_privileges.sql", name = "privileges", requires = ["schema_versions"], finalize);

#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    server::memory::refill();
    server::error::without_backtraces();
    values::settings::register();
    callbacks::register();
}

/// What `cargo pgrx test` asks of the crate root.
#[cfg(test)]
pub mod pg_test {
    pub fn setup(_options: Vec<&str>) {}

    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec!["max_prepared_transactions = 16", "wal_level = logical"]
    }
}
