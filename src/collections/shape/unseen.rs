//! Tables that nobody has looked at in this database: a dump was restored into it, it is a copy, or its cluster was upgraded.
//!
//! A shape says in which database it was taken (`identity`). While that is another one, the table is due: every pull replaces it
//! (catalog/read.sql). DDL of its owner's or of a superuser's looks at it ([`look_at_own`]; a stranger would keep its settings locked until his
//! transaction ends), but there may be none for years. So whoever writes to a tracked table looks, too: at a few of them in each transaction, before
//! its stamp, until all have had their look. No writer waits for anybody, and none fails: what goes wrong with a look is put down with its table.

use std::cell::Cell;
use std::time::{Duration, Instant};

use pgrx::pg_sys;

use super::dependency::{self, Due};
use super::put_off::is_for_want;
use super::{definition, derive_all, lost, put_off_as, unenforced, versions, Because, BUSY};
use crate::collections::triggers::{ROW_TRIGGER, TRUNCATE_TRIGGER};
use crate::log::journal;
use crate::server::error::Result;
use crate::server::memory;
use crate::server::{pg, spi, subxact};

const LEFT: &str = include_str!("unseen/left.sql");
const NEXT: &str = concat!(include_str!("unseen/left.sql"), " FOR UPDATE OF c SKIP LOCKED");

/// A transaction looks at so many tables at most, and begins with none after so long.
const AT_ONCE: usize = 8;
const AT_MOST: Duration = Duration::from_millis(500);

thread_local! {
    /// There is nothing for this backend to look at; of which extension that is known (it may be created anew, or its tables emptied).
    static SETTLED: Cell<Option<pg::OwnFile>> = const { Cell::new(None) };
}

/// A transaction that has logged something is about to commit, or to be prepared, which looks at none.
pub fn look_at_some(prepared: bool) -> Result<()> {
    // First, for processes without a database commit, too, where the library is preloaded. They cannot read catalogs.
    if !journal::has_logged() {
        return Ok(());
    }
    // (The extension itself may be gone by now.)
    if pg::relation_if_created(c"dependency")?.is_none() {
        return Ok(());
    }
    let home = pg::own_file(c"dependency")?;
    if SETTLED.get() == Some(home) {
        return Ok(());
    }
    // A dump is being loaded, maybe; or, in REPEATABLE READ, others' looks since its snapshot would be in its way.
    if pg::has_setting_of_dumps() || pg::transaction_snapshot_is_fixed() {
        return Ok(());
    }
    // No command is under way any more that has one.
    let _snapshot = pg::ActiveSnapshot::latest();
    if !dependency::are_foreign()? {
        SETTLED.set(Some(home));
        return Ok(());
    }
    // (What cannot be had now is as if nobody had written: a later look may find his rows.)
    _ = subxact::run(|| spi::quietly(|| spi::without_waiting(reset_empty)));
    if prepared {
        return Ok(());
    }
    // Nothing of this is the writer's fault, nor his wish: not even a `statement_timeout` is an error of his commit.
    match subxact::run(|| spi::quietly(|| spi::without_waiting(look))) {
        Ok(false) => {}
        // Somebody else is at it, or the writer has no more time.
        Err(e) if e.is_lock_timeout() || e.is_cancellation() => {}
        Ok(true) | Err(_) => SETTLED.set(Some(home)),
    }
    Ok(())
}

/// At DDL: looks at those for whose owner the session's role may act, and waits for nobody who is at it.
pub fn look_at_own() -> Result<()> {
    match subxact::run(|| spi::without_waiting(unenforced::find_keys_anew)) {
        Err(e) if e.is_lock_timeout() => return Ok(()),
        found => found?,
    }
    lost::forget_all()?;
    for relation in dependency::own_unseen()? {
        memory::heed();
        dependency::forget_foreign(relation)?;
        _ = super::look_at(relation, Because::Elsewhere)?;
    }
    adopt_if_all_are_seen()
}

pub fn adopt_if_all_are_seen() -> Result<()> {
    match dependency::any_unseen()? {
        true => Ok(()),
        false => dependency::adopt(),
    }
}

/// True if nothing is left to look at.
fn look() -> Result<bool> {
    let args = |but: &[pg_sys::Oid]| [spi::arg(ROW_TRIGGER), spi::arg(TRUNCATE_TRIGGER), spi::arg(but.to_vec())];
    unenforced::find_keys_anew()?;
    let began = Instant::now();
    let mut busy = Vec::new();
    for _ in 0..AT_ONCE {
        memory::heed();
        let next = spi::owner_query(NEXT, &args(&busy))?;
        let Some(relation) = next.first().map(|row| row.oid(0)) else {
            let settled = spi::read_now(LEFT, &args(&[]))?.is_empty();
            if settled {
                adopt_if_all_are_seen()?;
            }
            return Ok(settled);
        };
        match look_at(relation) {
            Ok(true) => {}
            Ok(false) => busy.push(relation),
            // The writer has no more time for it: that says nothing of the table. What was looked at stays so.
            Err(e) if e.is_cancellation() => break,
            Err(e) => return Err(e),
        }
        if began.elapsed() > AT_MOST {
            break;
        }
    }
    Ok(false)
}

/// Of the tables where this transaction has written, and at which nobody has looked: where no other row came along, devices have what a restore left out. His
/// own would stand for them in a later look (definition.rs), whoever is at the table now.
fn reset_empty() -> Result<()> {
    const UNSEEN: &str = "SELECT relation::oid FROM snapsync.collection AS c WHERE relation::oid = ANY ($1) AND NOT snapsync.is_seen_here(relation)";
    for row in &spi::read_now(UNSEEN, &[spi::arg(journal::tables())])? {
        memory::heed();
        if definition::is_empty(row.oid(0))? {
            journal::reset(row.oid(0))?;
        }
    }
    Ok(())
}

/// False if somebody else was at it: another transaction tries again.
fn look_at(relation: pg_sys::Oid) -> Result<bool> {
    let looked = subxact::run(|| {
        // A stranger's transaction pays.
        if definition::is_large(relation)? {
            return put_off_as(relation, Due::Failed, "what its policies say takes long to read");
        }
        dependency::forget_foreign(relation)?;
        derive_all(relation, Because::Elsewhere, false)?;
        versions::note(relation)
    });
    match looked {
        Ok(()) => Ok(true),
        Err(e) if e.code == BUSY || e.is_lock_timeout() || e.code.starts_with("40") => Ok(false),
        Err(e) if is_for_want(&e) => Ok(false),
        Err(e) if e.is_cancellation() => Err(e),
        Err(e) => put_off_as(relation, Due::Failed, &e.message).map(|()| true),
    }
}
