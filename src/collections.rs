//! What is synced, and how: settings, the triggers that follow from them, and what DDL changes about both.

pub mod admin;
pub mod catalog;
pub mod ddl;
pub mod doctor;
pub mod facts;
pub mod lookup;
pub mod names;
pub mod order;
pub mod registry;
pub mod shape;
pub mod table;
pub mod tombstone;
pub mod triggers;
