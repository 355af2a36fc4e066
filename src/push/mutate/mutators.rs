//! The functions that clients may call by a name, and who may say so.

use pgrx::pg_sys;
use serde::Deserialize;

use crate::server::error::{code, Result, SyncError};
use crate::server::{pg, spi};

const MUTATOR: &str = include_str!("mutator.sql");
const CANDIDATE: &str = include_str!("candidate.sql");

/// A function that is registered.
#[derive(Deserialize)]
pub struct Mutator {
    pub function: u32,
    /// The type of what it takes.
    argument: u32,
    /// The schema that it is in, where the caller could not call it by its name.
    pub hidden_in: Option<String>,
    /// It is another owner's than the one that was registered.
    pub stranger: bool,
}

/// A function that somebody wants to register.
#[derive(Deserialize)]
struct Candidate {
    /// With its schema and arguments.
    name: String,
    owner: String,
    /// A mutator is called so.
    fits: bool,
    may_execute: bool,
}

impl Mutator {
    pub fn of(name: &str) -> Result<Option<Mutator>> {
        let args = [spi::arg(name), spi::arg(pg::current_user())];
        spi::owner_query(MUTATOR, &args)?.first().map(|row| row.json(0)).transpose()
    }

    pub fn takes_jsonb(&self) -> bool {
        self.argument == pg_sys::JSONBOID.to_u32()
    }
}

/// Registers a function under a name that clients use; without a function, forgets the name. Whoever can do this decides
/// what code runs as every client, so it takes the owner of the database.
pub fn register(name: &str, function: Option<pg_sys::Oid>) -> Result<()> {
    let owner = spi::read_now(
        "SELECT pg_has_role($1, datdba, 'USAGE') FROM pg_database WHERE datname = current_database()",
        &[spi::arg(pg::current_user())],
    )?;
    if !owner.first().is_some_and(|r| r.bool(0)) {
        return Err(SyncError::new(code::INSUFFICIENT_PRIVILEGE, "must be owner of the database to register mutators")
            .hint("A mutator runs as every client that calls it; let the database's owner register it."));
    }
    if name.is_empty() {
        return Err(SyncError::new(code::INVALID_PARAMETER, "the mutator's name must not be empty")
            .hint("Pass the name that clients send: snapsync.register_mutator('like_quote', 'like_quote(json)')."));
    }
    let Some(function) = function else {
        spi::owner_execute("DELETE FROM snapsync.mutator WHERE name = $1", &[spi::arg(name)])?;
        return Ok(());
    };
    let rows = spi::owner_query(CANDIDATE, &[spi::arg(function), spi::arg(pg::current_user())])?;
    let row = rows.first().ok_or_else(|| SyncError::new("42883", "the function does not exist"))?;
    let candidate: Candidate = row.json(0)?;
    if !candidate.fits {
        return Err(SyncError::new(code::INVALID_PARAMETER, format!("{} cannot be a mutator", candidate.name))
            .hint("Write it as function(args json) or function(args jsonb), returning anything."));
    }
    if !candidate.may_execute {
        let message = format!("permission denied for function {}", candidate.name);
        return Err(SyncError::new(code::INSUFFICIENT_PRIVILEGE, message)
            .hint("Register a function that you may execute yourself."));
    }
    // By its full name, because a dump carries no oids and the search path of who sends mutations decides nothing; with its owner, because
    // the name may pass to others.
    spi::owner_execute(
        "INSERT INTO snapsync.mutator (name, function, owner) VALUES ($1, $2, $3) \
         ON CONFLICT (name) DO UPDATE SET function = excluded.function, owner = excluded.owner",
        &[spi::arg(name), spi::arg(candidate.name), spi::arg(candidate.owner)],
    )?;
    Ok(())
}
