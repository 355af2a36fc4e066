//! Tables that the settings and the log are about, and that are not there: a restore has left them out, or could not create them.
//!
//! A dump has their names. To read one that is unknown must not fail, for then the whole COPY does, and everybody's settings or log with
//! it; so it becomes a number that no table has. Those are forgotten, as if each table had been dropped, before anything is derived in
//! the new database (unseen.rs), and before a name is given to a table (`enable`), which may be the one that is gone.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;

use pgrx::pg_sys;

use crate::collections::registry;
use crate::server::error::Result;
use crate::server::memory;
use crate::server::{pg, spi, subxact};

const LOST: &str = include_str!("lost/lost.sql");
const LOGGED: &str = include_str!("lost/logged.sql");

/// Names that were unknown, and what they were taken for.
struct Unknown {
    numbers: HashMap<String, u32>,
    last: u32,
}

/// A name that has been forgotten gets another number, which does no harm.
const REMEMBERED: usize = 1000;

thread_local! {
    static UNKNOWN: RefCell<Unknown> = RefCell::new(Unknown { numbers: HashMap::new(), last: u32::MAX });
}

/// The table of this name, as a dump has it, or a number that no table has. (A name is quoted where it begins with a digit: one that does
/// not is the number of a table that was gone by the time of the dump.)
pub fn read_name(name: &CStr) -> Result<pg_sys::Oid> {
    let is_number = name.to_bytes().first().is_none_or(|b| b.is_ascii_digit() || *b == b'-');
    if !is_number {
        let found = pg::table_of_name(name);
        if let Some(found) = found {
            return Ok(found);
        }
    }
    let name = name.to_string_lossy();
    UNKNOWN.with(|unknown| {
        let unknown = &mut *unknown.borrow_mut();
        if let Some(number) = unknown.numbers.get(&*name) {
            return Ok((*number).into());
        }
        while pg::qualified_name(unknown.last.into()).is_some() {
            memory::heed();
            unknown.last -= 1;
        }
        if unknown.numbers.len() >= REMEMBERED {
            unknown.numbers.clear();
        }
        unknown.numbers.insert(name.into_owned(), unknown.last);
        unknown.last -= 1;
        Ok((unknown.last + 1).into())
    })
}

/// Forgets the collections and tracked tables that are not there. Whoever is just doing so is not waited for. Who restores a dump is told; who comes by later
/// is not told what others' collections were called.
pub fn forget() -> Result<()> {
    let is_told = pg::owner_is_connected()?;
    for row in &spi::read_now(LOST, &[])? {
        memory::heed();
        if let (true, true, Some(name)) = (forget_one(row.oid(0))?, is_told, row.text(1)) {
            pgrx::warning!("collection \"{name}\" is forgotten: its table is not in this database");
        }
    }
    Ok(())
}

fn forget_one(lost: pg_sys::Oid) -> Result<bool> {
    if registry::load(lost)?.is_some() && !registry::lock(lost, false)? {
        return Ok(false);
    }
    unless_busy(|| super::forget_dropped(lost))
}

/// What was left of a table when it was dropped, because a stranger had it locked. It is nobody's command's business: the next one tries again.
pub fn forget_left(relation: pg_sys::Oid) -> Result<()> {
    match subxact::run(|| forget_one(relation)) {
        Err(e) if e.is_cancellation() => Err(e),
        _ => Ok(()),
    }
}

/// False if another session had locked what it takes.
fn unless_busy(work: impl FnOnce() -> Result<()>) -> Result<bool> {
    match subxact::run(|| spi::without_waiting(work)) {
        Err(e) if e.is_lock_timeout() => Ok(false),
        done => done.map(|()| true),
    }
}

/// The same, and what else the log has of such tables.
pub fn forget_all() -> Result<()> {
    forget()?;
    for row in &spi::read_now(LOGGED, &[])? {
        memory::heed();
        unless_busy(|| registry::forget(row.oid(0)).map(drop))?;
    }
    Ok(())
}
