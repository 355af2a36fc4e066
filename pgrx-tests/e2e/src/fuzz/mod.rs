//! Differential fuzz of row-level security: random schemas, policies and operations; after each pull a replica must equal
//! its role's own SELECT, and every id sent must have been visible to that role since its cursor.
//!
//! One session does everything in order, so that a run repeats exactly and a failure shrinks to a few statements; what
//! concurrency does is the model check's business.

pub mod causes;
pub mod chain;
pub mod hostile;
pub mod kind;
pub mod ops;
pub mod oracle;
pub mod plant;
pub mod play;
pub mod policy_grammar;
pub mod schema;
pub mod settings;
pub mod shrink;
pub mod sight;

use serde::{Deserialize, Serialize};

/// How much of the grammar a run uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize)]
pub enum Level {
    /// policies that read single columns of their own table, and stay as they are
    Rows,
    /// and whole-row references, and policy DDL
    Own,
    /// and policies with subqueries on memberships and parents
    Membership,
    /// and functions that hide the tables they read (`access_tables`), views, scopes, soft deletes, partitions; and changes
    /// of columns, grants and roles
    All,
}

/// A whole case: what a run is made from and what a failure is written down as.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Case {
    pub world: schema::World,
    pub ops: Vec<ops::Op>,
}

/// What the extension under test offers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Abilities {
    pub access_tables: bool,
    pub scopes: bool,
    /// policies that refer to the whole row
    pub whole_row: bool,
    /// random session settings, what they matter to, and decoys
    pub hostile: bool,
    /// the share of schemas in which another table decides what is seen of the members table
    pub nested: f64,
    /// the share of schemas in which policies ask for the caller's own memberships wherever they ask for any
    pub own_members: f64,
}
