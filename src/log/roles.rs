//! Roles: what a role may do can change without any table changing (GRANT role TO role, ALTER ROLE ... BYPASSRLS), and no
//! event trigger fires for it.
//!
//! So each role's standing (its memberships, inherited or not, and whether it bypasses row-level security) is
//! recorded in `snapsync.role` by writers, with their stamp, whenever they find it changed. A pull compares: its role's
//! standing now against the recorded one, and its cursor against that record's stamp.
//!
//! *Why this is enough.* A pull whose role does not stand as recorded replaces everything, and says so in the cursor that it hands out
//! (`clock::UNRECORDED`): the next pull replaces everything, too, however the role stands by then. One whose role is not recorded replaces
//! everything, and its cursor is no larger than the stamp s of the record that comes (by the clock's invariant). So a later pull with a cursor > s that does
//! not say so has been given it by a pull that saw the record and stood as recorded; if it still does, nothing has changed.
//!
//! A push goes by the stamp of the cursor, however the role stood: this is the snapmin of the pull that gave it, so all that the client has not seen has
//! that stamp or a later one. (What a role may see is asked anew with each push.)
//!
//! *Within a pull.* Its statements are planned one after the other, each with the roles as they are then. So it counts only if its role has stood the same
//! all the time, not there and back either ([`RoleWatch`]). Of what happens to a role only that counts which a standing is made of: any role may give
//! itself another password, and each of its members in its name.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString};

use pgrx::{pg_sys, IntoDatum};

use crate::log::clock::{self, horizon};
use crate::log::RECORDING_ROLES;
use crate::server::error::Result;
use crate::server::memory::{self, Gather};
use crate::server::pg::{self, OwnTable, WrittenBy};
use crate::server::session::{self, Cached, Event, PerTransaction};
use crate::server::spi::{self, Mode};

/// Every role with a digest of its standing: all its memberships, also those that it does not inherit, which a policy may ask
/// for (`pg_has_role(team, 'MEMBER')`), and how it has each.
const STANDINGS: &str = include_str!("roles/standings.sql");

/// Columns of that, behind its name, its standing and its memberships.
const ROLES: usize = 3;
const OID: usize = 4;

/// Of all that standings are made of. It stands beside the records, under the name that no role has: to compare it takes a small part of the time that
/// comparing all standings takes, which each session's first write would pay otherwise, and each after some role has changed its own password.
const INPUTS: &str = include_str!("roles/inputs.sql");

thread_local! {
    /// The table whose records are known to be right.
    static RECORDED: Cached<Option<pg::OwnFile>> = Cached::until(Event::Role);
    /// This transaction is recording and may still abort: nothing may be remembered from it. How many subtransactions had been
    /// rolled back by then.
    static RECORDING: PerTransaction<Option<u64>> = PerTransaction::until_end();
    /// By role (a pooled session has several in turn).
    static OWN: Cached<BTreeMap<u32, Own>> = Cached::until(Event::Role);
}

/// Must this transaction record once more, before it commits: may what it recorded have been rolled back with a subtransaction?
pub fn record_was_undone() -> bool {
    let now = session::count(Event::Rollback);
    RECORDING.with(|r| r.with(|then| then.as_mut().is_some_and(|then| std::mem::replace(then, now) != now)))
}

/// A writer's duty, once its stamp is known: records the standings that have changed.
///
/// The roles are looked at as they are now, and so are the records, whatever the transaction's snapshot. They are written past the SQL layer, which
/// would not let a transaction with an older snapshot write over what others have recorded since; in SERIALIZABLE nobody is in conflict about them.
pub fn record(stamp: i64) -> Result<()> {
    // Who changed a role before we took our stamp has been heard of.
    pg::accept_invalidations();
    let then = RECORDED.with(Cached::now);
    let table = pg::own_file(c"role")?;
    if RECORDED.with(|r| r.look(|recorded| *recorded == Some(table))) {
        return Ok(());
    }
    let (right, digested) = {
        let now = pg::ActiveSnapshot::latest();
        let recorded = recorded_inputs(&now)?;
        let digested = recorded.is_some() && recorded == inputs()?;
        (digested || Differences::find(&now)?.are_none(), digested)
    };
    if right {
        if RECORDING.with(|r| r.with(|then| then.is_none())) {
            RECORDED.with(|r| r.remember(then, |recorded| *recorded = Some(table)));
        }
        // The next one need not compare them.
        if digested {
            return Ok(());
        }
    }
    // Whoever records now may be long (a bulk transaction) or prepared: nobody waits for him, and the next writer finds what he lacks.
    if RECORDING_ROLES.try_take() {
        begin_recording();
        write(stamp)?;
    }
    Ok(())
}

fn begin_recording() {
    horizon::want();
    RECORDING.with(|r| r.with(|then| then.get_or_insert_with(|| session::count(Event::Rollback)).to_owned()));
}

/// What was recorded of all that standings are made of.
fn recorded_inputs(now: &pg::ActiveSnapshot) -> Result<Option<String>> {
    Ok(pg::row_by_name(&TABLE, c"role_pkey", c"", now, |row| row.column(STANDING))?.flatten())
}

/// Of what all standings are made now. The active snapshot is of this moment.
fn inputs() -> Result<Option<String>> {
    let rows = spi::as_owner(|| spi::query(INPUTS, &[], Mode::Read))?;
    Ok(rows.first().map(|row| row.string(0)))
}

/// What the records lack.
struct Differences {
    /// Each role that stands otherwise than recorded, with its standing and the record's place.
    changed: Vec<(CString, String, Option<pg_sys::ItemPointerData>)>,
    /// Records of roles that are gone.
    gone: Vec<pg_sys::ItemPointerData>,
}

impl Differences {
    /// The snapshot, of this moment, is the active one.
    fn find(now: &pg::ActiveSnapshot) -> Result<Differences> {
        let mut known: HashMap<CString, (String, pg_sys::ItemPointerData)> = HashMap::new();
        pg::each_row(&TABLE, now, |row| {
            let (role, standing) = (row.column::<&CStr>(ROLE), row.column::<String>(STANDING));
            known.insert(role.unwrap_or_default().into(), (standing.unwrap_or_default(), row.place()));
        })?;
        known.remove(c"");
        let nobody = spi::Arg { oid: pg_sys::OIDOID, datum: None };
        let mut changed = Vec::new();
        for row in spi::as_owner(|| spi::query(STANDINGS, &[nobody], Mode::Read))? {
            memory::heed();
            let (role, standing) = (name_of(&row)?, row.string(1));
            match known.remove(&role) {
                Some((recorded, _)) if recorded == standing => {}
                record => memory::push(&mut changed, (role, standing, record.map(|(_, place)| place)))?,
            }
        }
        Ok(Differences { changed, gone: known.into_values().map(|(_, place)| place).gather() })
    }

    fn are_none(&self) -> bool {
        self.changed.is_empty() && self.gone.is_empty()
    }
}

/// A role's name, byte by byte: one that was made in a database of another encoding need not be a text here.
fn name_of(row: &spi::Row) -> Result<CString> {
    match row.text(0) {
        Some(name) if !name.contains(char::REPLACEMENT_CHARACTER) => spi::c_string(name),
        _ => pg::role_name(row.oid(OID)),
    }
}

/// Writes the standings that have changed, and of what all are made, as one snapshot has both. For whoever has his turn: what others have recorded
/// before, this snapshot sees.
fn write(stamp: i64) -> Result<()> {
    let now = pg::ActiveSnapshot::latest();
    let (differences, inputs) = (Differences::find(&now)?, inputs()?.unwrap_or_default());
    let digest = pg::row_by_name(&TABLE, c"role_pkey", c"", &now, |row| (row.column(STANDING), row.place()))?;
    let mut table = pg::OwnWriter::open(&TABLE)?;
    for (role, standing, record) in &differences.changed {
        memory::heed();
        put(&mut table, *record, role.as_bytes(), standing, stamp);
    }
    match digest {
        Some((recorded, _)) if recorded.as_ref() == Some(&inputs) => {}
        digest => put(&mut table, digest.map(|(_, place)| place), b"", &inputs, stamp),
    }
    for place in differences.gone {
        table.take_out(place);
    }
    table.close();
    Ok(())
}

/// Writes a record, in the place of another one or beside them.
fn put(
    table: &mut pg::OwnWriter,
    in_place_of: Option<pg_sys::ItemPointerData>,
    role: &[u8],
    standing: &str,
    stamp: i64,
) {
    // A name's datum is as long as any name may be.
    let mut name = [0u8; pg_sys::NAMEDATALEN as usize];
    let length = role.len().min(name.len() - 1);
    name[..length].copy_from_slice(&role[..length]);
    let standing = standing.into_datum().unwrap_or(pg_sys::Datum::null());
    let values = [pg_sys::Datum::from(name.as_ptr()), standing, pg_sys::Datum::from(stamp)];
    // SAFETY: the columns of snapsync.role (sql/02_tables.sql), checked by a test.
    unsafe { table.write(in_place_of, &values.map(Some)) }
}

/// How the calling role stands, against the record.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Standing {
    /// As recorded with this stamp.
    Since(i64),
    /// Otherwise than recorded.
    Changed,
    /// Not recorded.
    Unknown,
}

impl Standing {
    /// Can changes alone bring a client with this cursor up to date?
    pub fn held_since(self, cursor: i64) -> bool {
        matches!(self, Standing::Since(stamp) if cursor > stamp)
    }

    /// The cursor that a pull hands out.
    pub fn mark(self, cursor: i64) -> i64 {
        match self {
            Standing::Changed => clock::stamp_of(cursor) + clock::UNRECORDED,
            _ => cursor,
        }
    }
}

/// The caller's standing, by the record that this snapshot sees.
pub fn standing(snapshot: &pg::ActiveSnapshot) -> Result<Standing> {
    let role = pg::current_user();
    let now = own(role)?.standing;
    // Each pull comes by here: an index look-up takes 3 us where a query took 30.
    let recorded = pg::row_by_name(&TABLE, c"role_pkey", &pg::role_name(role)?, snapshot, |row| {
        let standing: Option<String> = row.column(STANDING);
        (standing.as_deref() == Some(&now), row.column(STAMP).unwrap_or(clock::FIRST))
    })?;
    Ok(match recorded {
        None => Standing::Unknown,
        Some((true, stamp)) => Standing::Since(stamp),
        Some((false, _)) => Standing::Changed,
    })
}

// Column numbers of snapsync.role, in the order of sql/02_tables.sql.
const ROLE: i16 = 1;
const STANDING: i16 = 2;
const STAMP: i16 = 3;

pub const TABLE: OwnTable = OwnTable {
    name: c"role",
    columns: &[(pg_sys::NAMEOID, false), (pg_sys::TEXTOID, false), (pg_sys::INT8OID, false)],
    written: WrittenBy::Catalog,
};

/// A role as it is now.
#[derive(Clone)]
struct Own {
    standing: String,
    /// The same, and which memberships came anew.
    version: String,
    /// Itself, and all that it is a member of.
    roles: Vec<u32>,
}

fn own(role: pg_sys::Oid) -> Result<Own> {
    let then = OWN.with(Cached::now);
    if let Some(own) = OWN.with(|o| o.look(|own| own.get(&role.to_u32()).cloned())) {
        return Ok(own);
    }
    // As the roles are now, as the executor will see them, whatever the transaction's snapshot; and by indexes, however many there are.
    let rows = spi::query_now(STANDINGS, &[spi::arg(role)])?;
    let text = |column| rows.first().map(|r| r.string(column)).unwrap_or_default();
    let roles = rows.first().and_then(|r| r.list(ROLES)).unwrap_or_default();
    let roles = roles.iter().filter_map(|oid| oid.parse().ok()).gather();
    let found = Own { standing: text(1), version: text(1) + &text(2), roles };
    OWN.with(|o| o.remember(then, |own| _ = own.insert(role.to_u32(), found.clone())));
    Ok(found)
}

/// The calling role, watched while a pull runs.
///
/// *Why nothing is missed.* Who changed a role has sent an invalidation. If one was heard of since the pull began, the role is looked at again. Where it
/// stands as it did, it may still have stood otherwise in between. Then a row of a catalog that says so came or went since, and is still in its table:
/// the snapshot of the beginning, which is held, keeps it from being removed. So these versions are looked at. (To compare the
/// versions that there are would do for that, too; but then whoever may change a password decides that no pull of that role counts.)
pub struct RoleWatch {
    role: pg_sys::Oid,
    own: Own,
    heard: u64,
    begun: pg::ActiveSnapshot,
}

impl RoleWatch {
    pub fn begin() -> Result<RoleWatch> {
        let begun = pg::ActiveSnapshot::latest();
        pg::accept_invalidations();
        let (heard, role) = (session::count(Event::Role), pg::current_user());
        Ok(RoleWatch { role, own: own(role)?, heard, begun })
    }

    /// The version that the role stands in. Two that are equal mean that it has the same memberships, and the same attributes.
    pub fn version(&self) -> &str {
        &self.own.version
    }

    /// Has it stood the same all the time?
    pub fn held(&self) -> Result<bool> {
        pg::accept_invalidations();
        if session::count(Event::Role) == self.heard {
            return Ok(true);
        }
        Ok(own(self.role)?.version == self.own.version && !self.moved()?)
    }

    /// Did it stand otherwise, and stands again as it did?
    fn moved(&self) -> Result<bool> {
        let roles = (pg_sys::AuthIdRelationId, pg_sys::AuthIdOidIndexId.into(), pg_sys::Anum_pg_authid_oid);
        let memberships = (MEMBERSHIPS.into(), BY_MEMBER.into(), MEMBER);
        let databases = (pg_sys::DatabaseRelationId, pg_sys::DatabaseOidIndexId.into(), pg_sys::Anum_pg_database_oid);
        let mut came = false;
        for role in &self.own.roles {
            memory::heed();
            let role = pg_sys::Oid::from(*role);
            pg::versions_since(memberships, role, &self.begun, |_| came = true)?;
            if came || self.differ(roles, role, attributes)? {
                return Ok(true);
            }
        }
        // Its owner is a member of pg_database_owner.
        let (database, _) = pg::database();
        self.differ(databases, database, |row| row.column::<pg_sys::Oid>(pg_sys::Anum_pg_database_datdba as i16))
    }

    /// Do versions of a catalog's row that came or went since differ in this?
    fn differ<T: PartialEq>(
        &self,
        catalog: pg::CatalogIndex,
        oid: pg_sys::Oid,
        in_what: impl Fn(&pg::OwnRow) -> T,
    ) -> Result<bool> {
        let (mut first, mut differ) = (None, false);
        pg::versions_since(catalog, oid, &self.begun, |row| {
            let what = in_what(row);
            differ |= *first.get_or_insert_with(|| in_what(row)) != what;
        })?;
        Ok(differ)
    }
}

/// pg_auth_members, its index by member, and the number of that column (catalog/pg_auth_members.h). PostgreSQL 16 put another one before it.
const MEMBERSHIPS: u32 = 1261;
const BY_MEMBER: u32 = 2695;
const MEMBER: u32 = if cfg!(feature = "pg15") { 2 } else { 3 };

/// What of its row in pg_authid a role's standing is made of, and of those that it is a member of.
fn attributes(row: &pg::OwnRow) -> (Option<CString>, [Option<bool>; 3]) {
    let name = row.column::<&CStr>(pg_sys::Anum_pg_authid_rolname as i16).map(CString::from);
    let columns =
        [pg_sys::Anum_pg_authid_rolsuper, pg_sys::Anum_pg_authid_rolinherit, pg_sys::Anum_pg_authid_rolbypassrls];
    (name, columns.map(|column| row.column(column as i16)))
}
