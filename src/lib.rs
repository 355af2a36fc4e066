//! snapsync: offline-first sync inside PostgreSQL.
//!
//! The path of the data is the order to read in: [`track`] (the trigger; [`row`] compares versions) -> [`journal`] (the
//! transaction's log and its flush) -> [`clock`] (stamps and cursors, with the proof) -> [`log`] (reading it back) -> [`reach`]
//! (did a user's access move?) -> [`pull`] and [`push`].
//! What a collection is: [`admin`], [`names`], [`registry`], [`catalog`], [`access`] (tables that policies read), [`shape`] and [`ddl`]
//! (following changes of definition), [`roles`], [`scope`], [`owned`] (SQL that owners give), [`retention`], [`settings`].
//! Row-level security over old rows: [`policy`], [`old_rows`] (rows again, in a tuplestore) and [`judge`] (runs such queries).
//! Values: [`json`] and [`dialect`] to JSON, [`batch`] and [`decode`] from it, [`conflict`], [`cursor`] and [`wire_id`] (pure
//! decisions). The server: [`spi`], [`lookup`] (rows by their key), [`subxact`], [`pg`], [`error`], [`memory`].

// An error is made once, raised and gone; boxing its texts would only add an allocation.
#![allow(clippy::result_large_err)]

use pgrx::prelude::*;

mod access;
mod admin;
mod batch;
mod callbacks;
mod catalog;
mod change;
mod client;
mod clock;
mod conflict;
mod cursor;
mod ddl;
mod decode;
mod dialect;
mod error;
mod excerpt;
mod facts;
mod functions;
mod journal;
mod json;
mod judge;
mod log;
mod lookup;
mod memory;
mod names;
mod old_rows;
mod owned;
mod pg;
mod policy;
mod pull;
mod push;
mod reach;
mod registry;
mod retention;
mod roles;
mod scope;
mod session;
mod settings;
mod shape;
mod slot;
mod spi;
mod subxact;
mod table;
#[cfg(any(test, feature = "pg_test"))]
mod tests;
mod track;
mod triggers;
mod wire_id;

::pgrx::pg_module_magic!(name, version);

// The install script is plain SQL in ordered files; `make install` concatenates the same files.
extension_sql_file!("../sql/01_schema.sql", name = "schema", bootstrap);
extension_sql_file!("../sql/02_tables.sql", name = "tables", requires = ["schema"]);
extension_sql_file!("../sql/03_functions.sql", name = "functions", requires = ["tables"]);
extension_sql_file!("../sql/04_push.sql", name = "push", requires = ["functions"]);
extension_sql_file!("../sql/05_views.sql", name = "views", requires = ["push"]);
extension_sql_file!("../sql/06_event_triggers.sql", name = "event_triggers", requires = ["views"]);
extension_sql_file!("../sql/07_doctor.sql", name = "doctor", requires = ["event_triggers"], finalize);

#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    memory::refill();
    error::without_backtraces();
    settings::register();
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
