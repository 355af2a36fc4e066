//! What a table looked like when clients last got a consistent view of it: columns, policies, partitions, readers. Compared
//! after DDL that touched something that it rests on (`shape/dependency.rs`); a difference updates what is derived from it
//! (image columns, access tables, triggers) and resets the clients, since entries cannot say it.
//!
//! *Locks.* A look that finds nothing different takes none. Otherwise it locks the table's row in `snapsync.collection`, looks again
//! as everything is by then, and writes. Nobody waits there for a stranger: a look that comes from DDL on something else (a function,
//! a table that is read) and finds the row locked, or would have to put triggers where the session's role may not, is put down as due
//! (`dependency::mark_due`). Until the table's owner, or a superuser, has had it, the table is replaced with every pull. DDL on the table itself
//! waits, for a while (`look_at`), but never to get rid of something: rows that are to go, and that a stranger has locked, are passed over.
//! Of a table that the policies read, the row is locked by who may put triggers there, for what is logged of it is computed from all who read
//! it. Who may not would keep its owner waiting, for something that he cannot change. He finds logged what he needs. Should somebody
//! else be letting that go, one of the two sees the other (`settle`), and the reading table is due. Where nobody vouches for the reading
//! (edges.rs) nothing is logged for it, and nothing locked.
//!
//! *Errors.* Only `enable`, and DDL on the table itself that takes away what it cannot be without, fail. What goes wrong otherwise is a
//! WARNING, and the look is due.

use std::collections::BTreeSet;

use pgrx::pg_sys;

use crate::collections::registry::{self, StoredSettings};
use crate::collections::{table, triggers};
use crate::log::journal;
use crate::policies::scope::ScopeFinding;
use crate::server::error::{code, Result, SyncError};
use crate::server::memory;
use crate::server::{pg, spi, subxact};

mod columns;
mod declared;
pub mod definition;
pub mod dependency;
mod edges;
mod follow;
mod image;
pub mod lost;
pub mod parts;
mod put_off;
mod scope;
pub mod unenforced;
pub mod unseen;
pub mod versions;

use dependency::Due;
use edges::{Edges, Ended};
use put_off::{is_left_to_its_owner, not_had, put_off_as, put_off_readers};
pub use put_off::{only_briefly, put_off, put_off_others};

/// Why a table is looked at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Because {
    /// A look is due, whatever the command was.
    Due,
    /// A command changed something that it rests on.
    Elsewhere,
    /// A command changed the table itself, or a part of it.
    Altered,
    /// A command changed what the table's policies read: who gave it stands up for that (edges.rs).
    Vouched,
    /// `snapsync.enable` changed settings; it decides about the reset itself.
    Enabled,
}

impl Because {
    /// Is it about another table than the command? Then nobody waits, and nothing is refused.
    fn is_aside(self) -> bool {
        self <= Because::Elsewhere
    }

    fn is_altered(self) -> bool {
        matches!(self, Because::Altered | Because::Vouched)
    }
}

/// The code of an error that never leaves: somebody else has the table's row.
const BUSY: &str = "BUSY";

/// Looks at these tables after DDL.
pub fn look_again(concerned: &[(pg_sys::Oid, Because)]) -> Result<()> {
    let mut in_vain = false;
    for &(relation, why) in concerned {
        memory::heed();
        // A superuser does not go through all of a stranger's that cannot be had.
        if in_vain && why == Because::Due && dependency::is_strangers(relation)? {
            continue;
        }
        in_vain |= look_at(relation, why)?;
    }
    Ok(())
}

/// Looks at all of them, after DDL of which is not known what it touched; where nobody has looked yet, at those that are for the session's role.
pub fn look_at_all() -> Result<()> {
    if dependency::are_foreign()? {
        return unseen::look_at_own();
    }
    registry::tracked()?.into_iter().try_for_each(|relation| {
        memory::heed();
        look_at(relation, Because::Elsewhere).map(|_| ())
    })
}

/// Can the table go on being synced, as it is now? Nothing stays of the question.
///
/// No is what `follow` says itself. An error that PostgreSQL raises meanwhile is no answer: whoever has left it too little stack could
/// end the syncing of a stranger's table so.
pub fn is_fit(relation: pg_sys::Oid) -> Result<bool> {
    match subxact::try_out(|| Ok(follow::follow(relation)))? {
        Ok(_) => Ok(true),
        Err(e) if e.code == code::INTERNAL => Err(e),
        Err(_) => Ok(false),
    }
}

/// True if a look was due that is not to be tried again at once, because the table is a stranger's.
fn look_at(relation: pg_sys::Oid, why: Because) -> Result<bool> {
    let is_gone = pg::qualified_name(relation).is_none();
    if is_gone && why == Because::Due {
        lost::forget_left(relation)?;
    }
    // In the middle of a restore nothing is there yet.
    if is_gone || !triggers::is_installed(relation)? {
        return Ok(false);
    }
    // Became a partition behind our back (ddl.rs refuses it), which no other command is to fail for.
    if pg::root_of(relation) != relation {
        return Ok(false);
    }
    // What a stranger has made of his table fails nobody else's command.
    if why.is_aside() {
        match subxact::run(|| is_left_to_its_owner(relation, why)) {
            Ok(true) => return Ok(false),
            Ok(false) => {}
            Err(e) => return not_had(relation, why, e),
        }
    }
    let rekeyed = match why {
        Because::Altered => {
            let detail = "This command changes columns, or a key, by which snapsync knows it.";
            only_briefly(relation, detail, || follow::follow(relation))?
        }
        _ => why.is_altered() && follow::follow(relation)?,
    };
    let derive = || {
        // Before all else: others' commands pay for it.
        if why == Because::Due && !(registry::lock(relation, false)? && edges::can_be_tracked_now(relation)?) {
            return Err(SyncError::new(BUSY, "the table's row, or a table that it reads, is locked"));
        }
        derive_all(relation, why, rekeyed)
    };
    let look = || match why {
        _ if why.is_aside() => spi::without_waiting(derive),
        // Everybody waits behind the lock that this command has on the table, and a stranger's transaction may take as long as he likes.
        Because::Altered => spi::waiting_briefly(derive),
        _ => derive(),
    };
    match subxact::run(look) {
        Ok(()) => versions::note(relation).map(|()| false),
        Err(e) => not_had(relation, why, e),
    }
}

/// A column was renamed: settings of tables that nobody has looked at in this database go by the new name.
pub fn rename(relation: pg_sys::Oid, old: &str, new: &str) -> Result<()> {
    follow::rename(relation, old, new)
}

/// After `enable`: looks at the table, at what its policies read, and at those that read it.
pub fn refresh(relation: pg_sys::Oid) -> Result<()> {
    let foreign = dependency::are_foreign()?;
    if foreign {
        unenforced::find_keys_anew()?;
        look_at_all()?;
    }
    derive_all(relation, Because::Enabled, false)?;
    if foreign {
        unseen::adopt_if_all_are_seen()?;
    }
    versions::note(relation)?;
    look_at_readers(relation)
}

/// After a table has got another key: those whose policies read it.
fn look_at_readers(relation: pg_sys::Oid) -> Result<()> {
    look_again(&readers(relation)?.into_iter().map(|reader| (reader, Because::Elsewhere)).collect::<Vec<_>>())
}

/// The tables whose policies or settings read this one.
pub fn readers(relation: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>> {
    let rows = spi::read_now(
        "SELECT DISTINCT c.relation::oid FROM snapsync.dependency AS d JOIN snapsync.collection AS c ON c.relation = d.relation \
         WHERE d.classid = 'pg_class'::regclass AND d.objid = $1 AND d.relation <> $1 \
         UNION SELECT relation::oid FROM snapsync.access WHERE access = $1 AND relation <> $1 ORDER BY 1",
        &[spi::arg(relation)],
    )?;
    Ok(rows.iter().map(|r| r.oid(0)).collect())
}

/// Forgets a table, and stops tracking what was tracked only for it. What its policies read.
pub fn forget(relation: pg_sys::Oid) -> Result<()> {
    let read: Vec<pg_sys::Oid> = edges::known(relation)?.keys().map(|a| pg_sys::Oid::from(*a)).collect();
    if let Some(name) = registry::load(relation)?.and_then(|stored| stored.name) {
        versions::gone(&name)?;
    }
    let is_left = registry::forget(relation)?;
    put_off_readers(&edges::being_made(relation)?)?;
    let locked = registry::forget_readers(relation)?;
    put_off_readers(&locked)?;
    edges::note(Ended::Forgotten, relation, &locked)?;
    if is_left && pg::qualified_name(relation).is_none() {
        // The next command forgets it (`look_at`), for the number may be another table's one day.
        dependency::mark_due(
            relation,
            Due::Busy,
            "the table is gone, but another session had locked what is known of it",
        )?;
    }
    edges::abandon(read)
}

/// Stops tracking a table that is no collection, although others' policies read it: its owner wants it so. These are replaced with every pull.
///
/// Its settings are locked. So they are by who is making a policy upon it, and may make triggers there (`store`); others are seen as they write.
pub fn stop_tracking(relation: pg_sys::Oid) -> Result<()> {
    let read = edges::known(relation)?.into_keys().map(pg_sys::Oid::from).collect();
    let mut others = edges::being_made(relation)?;
    let (readers, locked) = edges::refuse(relation)?;
    others.extend(locked);
    edges::note(Ended::Refused, relation, &others)?;
    put_off_readers(&others)?;
    registry::forget(relation)?;
    for reader in readers.into_iter().filter(|r| pg::qualified_name(*r).is_some()) {
        memory::heed();
        registry::changed(reader);
    }
    edges::abandon(read)
}

/// Forgets a table that is no more.
pub fn forget_dropped(relation: pg_sys::Oid) -> Result<()> {
    // What a function of theirs read is no more, or another table under its name soon; no policy may have gone with it.
    let readers = spi::read_now(
        "SELECT a.relation::oid FROM snapsync.access AS a \
         WHERE a.access = $1 AND a.relation <> $1 AND EXISTS (SELECT FROM snapsync.collection WHERE relation = a.relation OFFSET 0) \
           AND EXISTS (SELECT FROM pg_class WHERE oid = a.relation OFFSET 0)",
        &[spi::arg(relation)],
    )?;
    forget(relation)?;
    readers.iter().try_for_each(|reader| journal::reset(reader.oid(0)))
}

/// Brings up to date what is derived from a table, and looks at the tables that are tracked from now on for its sake.
fn derive_all(relation: pg_sys::Oid, why: Because, rekeyed: bool) -> Result<()> {
    let mut open = vec![(relation, why, rekeyed)];
    while let Some((relation, why, rekeyed)) = open.pop() {
        memory::heed();
        let fresh = derive(relation, why, rekeyed)?;
        for access in fresh {
            // Changes of before are unknown.
            journal::reset(access)?;
            open.push((access, if why == Because::Vouched { Because::Enabled } else { why }, false));
        }
        if rekeyed {
            put_off_readers(&edges::being_made(relation)?)?;
            look_at_readers(relation)?;
        }
    }
    Ok(())
}

/// A table as it is, and as it was when it was looked at last.
struct Look {
    stored: StoredSettings,
    old_shape: String,
    shape: String,
    known: Edges,
    edges: Edges,
    known_scope: ScopeFinding,
    scope: ScopeFinding,
    known_objects: BTreeSet<dependency::Object>,
    objects: BTreeSet<dependency::Object>,
    /// It lost something without an event, and nobody has looked since: `enable` does not compare.
    lost: bool,
}

impl Look {
    fn at(relation: pg_sys::Oid, why: Because) -> Result<Option<Look>> {
        let Some(stored) = registry::load(relation)? else { return Ok(None) };
        // First: marks that come later, which stay, say that the rest may have come too early.
        let known_objects = dependency::known(relation)?;
        // Whoever acts stands up for the tables that a table of his own reads, not for those that strangers' tables do.
        let acting = (why >= Because::Vouched).then(pg::current_user);
        let edges = edges::wanted(relation, &stored, acting)?;
        let read: Vec<pg_sys::Oid> = edges.keys().map(|a| pg_sys::Oid::from(*a)).collect();
        let old = spi::read_now("SELECT shape FROM snapsync.collection WHERE relation = $1", &[spi::arg(relation)])?;
        let old_shape = old.first().map(|r| r.string(0)).unwrap_or_default();
        Ok(Some(Look {
            shape: definition::read(relation, &old_shape, is_for_owner(relation, why)?)?,
            old_shape,
            known: edges::known(relation)?,
            edges,
            known_scope: scope::known(relation)?,
            scope: scope::wanted(relation, &stored)?,
            known_objects,
            objects: dependency::wanted(relation, &read)?,
            lost: why == Because::Enabled && dependency::lost_unseen(relation)?,
            stored,
        }))
    }

    fn is_settled(&self) -> bool {
        self.known == self.edges
            && self.known_scope == self.scope
            && self.known_objects == self.objects
            && definition::parsed(&self.old_shape) == definition::parsed(&self.shape)
    }

    /// Was a look due, so that nothing is sure of what was logged since?
    fn was_due(&self) -> bool {
        self.known_objects.iter().any(|(class, .., name, _)| *class == 0 || unenforced::is_mark(name.as_deref()))
            || dependency::owners_moved(&self.known_objects, &self.objects)
            || self.lost
    }
}

/// Is it the table's owner who has the look, or a superuser who changes the table itself? Strangers are all others, also a superuser whose command is about
/// something else.
fn is_for_owner(relation: pg_sys::Oid, why: Because) -> Result<bool> {
    Ok(registry::may(relation, registry::Right::Own)? && !(why.is_aside() && dependency::is_strangers(relation)?))
}

/// Brings up to date what is derived from one table; returns the tables that are tracked from now on for its sake.
fn derive(relation: pg_sys::Oid, why: Because, rekeyed: bool) -> Result<Vec<pg_sys::Oid>> {
    let installed = triggers::is_installed(relation)?;
    if why != Because::Enabled {
        let Some(now) = Look::at(relation, why)? else { return Ok(Vec::new()) };
        if now.stored.name.is_none() && !edges::is_needed(relation)? {
            return edges::abandon(vec![relation]).map(|()| Vec::new());
        }
        if !rekeyed && now.is_settled() && image::columns(relation)? == registry::image(relation)? {
            // The triggers may have been changed by hand.
            if why.is_altered() && triggers::sync(relation, true)? {
                registry::changed(relation);
                journal::reset(relation)?;
            }
            return Ok(Vec::new());
        }
    }
    if !registry::lock(relation, !why.is_aside())? {
        return Err(SyncError::new(BUSY, "the table's row is locked"));
    }
    // As everything is now that nobody else changes it.
    if why != Because::Enabled {
        declared::follow_names(relation)?;
    }
    let since = pg::KeptSnapshot::latest();
    let Some(now) = Look::at(relation, why)? else { return Ok(Vec::new()) };
    let EdgesWritten { fresh, touched, is_edge_left } = store(relation, &now, why)?;
    // Entries of before carry another column's values.
    let rescoped = installed && now.known_scope.column.is_some() && now.known_scope.column != now.scope.column;
    let (old, new) = (definition::parsed(&now.old_shape), definition::parsed(&now.shape));
    // So do old values, which are logged by their columns' names.
    let renamed = columns::are_other(&registry::image(relation)?, &old, &new);
    let gap = settle(relation, why)?;
    for access in touched.into_iter().filter(|a| *a != relation && !fresh.contains(a)) {
        let is_read = now.edges.get(&access.to_u32()).is_some_and(|e| e.voucher.is_some());
        settle_read(relation, access, is_read, why)?;
    }
    edges::abandon(edges::let_go(&now.known, &now.edges))?;
    // Entries of before were judged, and logged, by what was known then.
    let unlike = !edges::same_for_clients(&now.known, &now.edges) || now.was_due();
    let told = why != Because::Enabled && definition::clients_must_know(relation, &old, &new)?;
    if is_edge_left || dependency::is_being_changed(relation, &since)? {
        dependency::mark_due(relation, Due::Busy, "another session was changing what it rests on")?;
    }
    if gap || rekeyed || rescoped || installed && (unlike || renamed) || told {
        journal::reset(relation)?;
    }
    Ok(fresh)
}

/// What has become of the tables that a table reads.
struct EdgesWritten {
    /// Tracked from now on.
    fresh: Vec<pg_sys::Oid>,
    /// Those whose rôle for this one has changed.
    touched: Vec<pg_sys::Oid>,
    /// See `edges::store`.
    is_edge_left: bool,
}

/// Writes what a look has found.
fn store(relation: pg_sys::Oid, now: &Look, why: Because) -> Result<EdgesWritten> {
    if why == Because::Enabled {
        edges::refuse_untracked(relation, &now.edges)?;
    }
    let policies = |shape: &str| definition::parsed(shape)["trees"]["policies"].clone();
    // Where a look was due, somebody may have let go what they read.
    let reread = policies(&now.old_shape) != policies(&now.shape) || now.was_due();
    let mut fresh = Vec::new();
    let mut touched = Vec::new();
    let mut unlocked = Vec::new();
    for (&access, edge) in &now.edges {
        let differs = now.known.get(&access) != Some(edge);
        let access = pg_sys::Oid::from(access);
        if access == relation || edge.voucher.is_none() || !differs && !reread {
            continue;
        }
        touched.push(access);
        let stored = registry::load(access)?;
        if !registry::may(access, registry::Right::Trigger)? {
            if stored.is_none() {
                return Err(triggers::not_allowed(access));
            }
            unlocked.push(access);
            continue;
        }
        match stored {
            // In two transactions that make policies upon the same table, the second one waits for what the first has found.
            Some(stored) if registry::lock(access, !why.is_aside())? => {
                if stored.name.is_none() && stored.key.is_empty() && table::find_key_for_access(access, &stored, None)?
                {
                    fresh.push(access);
                }
            }
            Some(_) if registry::load(access)?.is_some() => {
                return Err(SyncError::new(BUSY, "the table's row is locked"))
            }
            _ => {
                table::track_for_access(access)?;
                fresh.push(access);
            }
        }
    }
    let is_edge_left = edges::store(relation, &now.known, &now.edges, &unlocked)?;
    touched.extend(edges::let_go(&now.known, &now.edges));
    touched.sort_unstable_by_key(|t| t.to_u32());
    touched.dedup();
    spi::owner_execute(
        "UPDATE snapsync.collection SET shape = $2::jsonb WHERE relation = $1 AND shape <> $2::jsonb",
        &[spi::arg(relation), spi::arg(now.shape.as_str())],
    )?;
    scope::store(relation, &now.known_scope, &now.scope)?;
    // Not for a stranger, who would wait for that table's locks. Where it is not tracked the trigger does nothing.
    if !why.is_aside() {
        drop_triggers_of_lost_parts(relation, now)?;
    }
    dependency::store(relation, &now.known_objects, &now.objects)?;
    registry::changed(relation);
    Ok(EdgesWritten { fresh, touched, is_edge_left })
}

/// Partitions that were detached keep the trigger for TRUNCATE, which is their own.
fn drop_triggers_of_lost_parts(relation: pg_sys::Oid, now: &Look) -> Result<()> {
    let class = pg_sys::RelationRelationId.to_u32();
    for (_, part, ..) in now.known_objects.difference(&now.objects).filter(|(c, _, own, ..)| *own && *c == class) {
        let part = pg_sys::Oid::from(*part);
        let is_lost = || Ok(pg::root_of(part) != relation && registry::load(pg::root_of(part))?.is_none());
        if part != relation && is_lost()? {
            triggers::drop(part, is_lost)?;
        }
    }
    Ok(())
}

/// The same for a table that this one's policies read.
fn settle_read(relation: pg_sys::Oid, access: pg_sys::Oid, is_read: bool, why: Because) -> Result<()> {
    if registry::load(access)?.is_none() {
        return Ok(());
    }
    // Whoever may do nothing to it locks nothing of it. What he needs is there already, or he has no look (`settle`).
    if !registry::may(access, registry::Right::Trigger)? {
        if !is_read {
            return Ok(());
        }
        // (In this order: whoever has ended in between is seen in the columns; who begins from now on sees this edge.)
        let changes = registry::is_being_changed(access)?;
        settle(access, why)?;
        if changes {
            dependency::mark_due(relation, Due::Busy, "another session was changing what it rests on")?;
        }
        return Ok(());
    }
    let settle = || {
        let rescoped = scope::settle(relation, access)?;
        if settle(access, why)? || rescoped {
            journal::reset(access)?;
        }
        Ok(())
    };
    // Its columns are computed from who reads it: not beside somebody who is making that more.
    if is_read {
        if !registry::lock(access, !why.is_aside())? && registry::load(access)?.is_some() {
            return Err(SyncError::new(BUSY, "the table's row is locked"));
        }
        return settle();
    }
    // Whoever gets rid of a table does not wait for those who are at work on it. More is logged than must be then, until its owner's next DDL.
    let let_go = || if registry::lock(access, false)? { settle() } else { Ok(()) };
    match subxact::run(|| spi::without_waiting(let_go)) {
        Err(e) if e.is_lock_timeout() => Ok(()),
        done => done,
    }
}

/// Makes image columns and triggers of a table what they must be. True when changes may have gone unnoticed.
fn settle(relation: pg_sys::Oid, why: Because) -> Result<bool> {
    // (In this order: who begins to read it without a lock is seen here, or in the columns, or sees that they are being changed.)
    let readers = edges::being_made(relation)?;
    let (image, old) = (image::columns(relation)?, registry::image(relation)?);
    let shrinks = image.iter().all(|column| old.contains(column));
    if !registry::may(relation, registry::Right::Trigger)? {
        if triggers::is_installed(relation)? && shrinks && old.iter().all(|column| pg::has_column(relation, column)) {
            // More is logged than must be, until somebody comes who may change it. (While a column is logged that is gone, each row that is
            // written resets everybody.) What is there has to be complete.
            return triggers::sync(relation, why.is_altered());
        }
        return Err(triggers::not_allowed(relation));
    }
    if shrinks && image != old {
        put_off_readers(&readers)?;
    }
    if image != old {
        spi::owner_execute(
            "UPDATE snapsync.collection SET image = $2::name[] WHERE relation = $1",
            &[spi::arg(relation), spi::arg(image)],
        )?;
        registry::changed(relation);
    }
    triggers::sync(relation, why.is_altered())
}
