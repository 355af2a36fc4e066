//! What each tracked table rests on, by object: DDL that touches one of these objects is a reason to look at the table again, and
//! no other DDL is. The rows are written when a table is looked at.
//!
//! Whatever may begin to matter does so by a change of something that is there already: a view reads another table after CREATE OR
//! REPLACE VIEW, a partition comes with its parent. Only what is named in texts (tables, functions, types) may come out of nowhere, also in the
//! place of what was dropped, so names are kept, too.

use std::collections::{BTreeMap, BTreeSet};

use pgrx::pg_sys;

use super::unenforced;
use crate::server::error::Result;
use crate::server::pg::{self, OwnTable, WrittenBy, REGTABLE};
use crate::server::{memory, spi};

/// An object: its catalog, its Oid, is it a part of the table, the name by which the settings know it, and who owns it, since when.
pub type Object = (u32, u32, bool, Option<String>, Option<String>);

// Column numbers, in the order of sql/02_tables.sql.
pub const TABLE: OwnTable = OwnTable {
    name: c"dependency",
    columns: &[(REGTABLE, false), (pg_sys::OIDOID, false), (pg_sys::OIDOID, false)],
    written: WrittenBy::Statements,
};
const RELATION: i16 = 1;
const CLASSID: i16 = 2;
const OBJID: i16 = 3;

mod beside;

const RESTS_ON: &str = include_str!("dependency/rests_on.sql");

fn rows_of(rows: &[spi::Row]) -> BTreeSet<Object> {
    let text = |text: Option<&str>| text.map(str::to_string);
    rows.iter().map(|r| (r.oid(0).to_u32(), r.oid(1).to_u32(), r.bool(2), text(r.text(3)), text(r.text(4)))).collect()
}

/// What the table rests on now.
pub fn wanted(relation: pg_sys::Oid, read: &[pg_sys::Oid]) -> Result<BTreeSet<Object>> {
    let [database, _] = database();
    let rows = spi::read_now(RESTS_ON, &[spi::arg(relation), spi::arg(read.to_vec()), database])?;
    Ok(rows_of(&rows))
}

/// What it rested on when it was looked at last.
pub fn known(relation: pg_sys::Oid) -> Result<BTreeSet<Object>> {
    const SQL: &str = "SELECT classid, objid, own, name, owner FROM snapsync.dependency WHERE relation = $1";
    Ok(rows_of(&spi::read_now(SQL, &[spi::arg(relation)])?))
}

/// Writes what differs. With it goes what is said of a look that is due.
pub fn store(relation: pg_sys::Oid, known: &BTreeSet<Object>, wanted: &BTreeSet<Object>) -> Result<()> {
    let (due, gone): (Vec<_>, Vec<_>) = known.difference(wanted).partition(|o| o.0 == 0);
    if !due.is_empty() {
        // Those that another transaction is about to put together stay: what it has changed was not looked at.
        spi::owner_execute(
            "DELETE FROM snapsync.dependency WHERE ctid = ANY (ARRAY( \
                 SELECT ctid FROM snapsync.dependency WHERE relation = $1 AND classid = 0 AND (owner IS NULL OR owner = ANY ($2)) FOR UPDATE SKIP LOCKED))",
            &[spi::arg(relation), spi::arg(due.iter().map(|o| o.4.clone()).collect::<Vec<Option<String>>>())],
        )?;
    }
    for (objects, sql) in [
        (
            gone,
            // (Somebody may be taking all of them away that are another database's: `adopt`.)
            "DELETE FROM snapsync.dependency WHERE ctid = ANY (ARRAY( \
                 SELECT d.ctid FROM snapsync.dependency AS d JOIN unnest($2::int8[], $3::int8[], $4::bool[], $5::text[], $6::text[]) AS o(classid, objid, own, name, owner) \
                   ON d.classid = o.classid::oid AND d.objid = o.objid::oid AND d.own = o.own AND d.name IS NOT DISTINCT FROM o.name \
                      AND d.owner IS NOT DISTINCT FROM o.owner \
                 WHERE d.relation = $1 FOR UPDATE OF d SKIP LOCKED))",
        ),
        (
            wanted.difference(known).collect(),
            "INSERT INTO snapsync.dependency (relation, classid, objid, own, name, owner) \
             SELECT $1, o.classid::oid, o.objid::oid, o.own, o.name, o.owner \
             FROM unnest($2::int8[], $3::int8[], $4::bool[], $5::text[], $6::text[]) AS o(classid, objid, own, name, owner)",
        ),
    ] {
        if objects.is_empty() {
            continue;
        }
        // As numbers: an Oid of 0 would become NULL.
        let oids = |of: fn(&Object) -> u32| objects.iter().map(|o| i64::from(of(o))).collect::<Vec<_>>();
        spi::owner_execute(
            sql,
            &[
                spi::arg(relation),
                spi::arg(oids(|o| o.0)),
                spi::arg(oids(|o| o.1)),
                spi::arg(objects.iter().map(|o| o.2).collect::<Vec<bool>>()),
                spi::arg(objects.iter().map(|o| o.3.clone()).collect::<Vec<Option<String>>>()),
                spi::arg(objects.iter().map(|o| o.4.clone()).collect::<Vec<Option<String>>>()),
            ],
        )?;
    }
    Ok(())
}

/// Has something got another owner between two looks, maybe without an event? Then nothing is sure of what was logged meanwhile.
pub fn owners_moved(known: &BTreeSet<Object>, wanted: &BTreeSet<Object>) -> bool {
    let owners = |objects: &BTreeSet<Object>| -> BTreeMap<(u32, u32), String> {
        objects.iter().filter_map(|(class, object, .., owner)| Some(((*class, *object), owner.clone()?))).collect()
    };
    let wanted = owners(wanted);
    owners(known).iter().any(|(object, owner)| wanted.get(object).is_some_and(|now| now != owner))
}

/// Has the table lost something without an event? (With its session's temporary objects.)
pub fn lost_unseen(relation: pg_sys::Oid) -> Result<bool> {
    let rows = spi::read_now("SELECT EXISTS (SELECT FROM snapsync.lost_unseen($1))", &[spi::arg(relation)])?;
    Ok(rows.first().is_some_and(|r| r.bool(0)))
}

/// Why a look could not be had.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Due {
    /// It failed, or would take long: DDL on the table itself, or `enable`, tries again.
    Failed = 0,
    /// Somebody else was at it, or it was not for who gave the command: the next DDL of its owner's, or a superuser's, tries again; a superuser's
    /// not at once where the last one's was in vain.
    Busy = 1,
}

/// So many marks of one kind a table has, and those that are not committed yet.
const MARKS: i64 = 16;

const TOGETHER: &str = include_str!("dependency/together.sql");

/// A look at the table is due that could not be had: until it is had, what is derived may be wrong, and every pull is a
/// replacement. It is a row of its own, which waits for nobody.
///
/// One for each transaction: a look that is under way beside this one takes the others away, and has not seen what this one has changed.
/// It stands for those of earlier ones, too, as soon as it is committed; so where these are many they are taken away. How often that was tried
/// in vain it takes over from them.
pub fn mark_due(relation: pg_sys::Oid, due: Due, reason: &str) -> Result<()> {
    spi::owner_execute(
        "INSERT INTO snapsync.dependency (relation, classid, objid, own, name, owner, tried, tries) \
         SELECT $1, 0, $2::oid, false, $3, pg_current_xact_id()::text, d.tried, d.tries \
         FROM (SELECT max(tried), max(tries) FROM snapsync.dependency WHERE relation = $1 AND classid = 0) AS d(tried, tries) \
         WHERE NOT EXISTS (SELECT FROM snapsync.dependency WHERE relation = $1 AND classid = 0 AND objid = $2::oid AND name = $3 \
                              AND owner = pg_current_xact_id()::text)",
        &[spi::arg(relation), spi::arg(due as i64), spi::arg(reason)],
    )?;
    if !pg::transaction_snapshot_is_fixed() {
        spi::owner_execute(TOGETHER, &[spi::arg(relation), spi::arg(due as i64), spi::arg(MARKS)])?;
    }
    Ok(())
}

/// Is a look at the table due?
pub fn is_due(relation: pg_sys::Oid) -> Result<bool> {
    const SQL: &str = "SELECT 1 FROM snapsync.dependency WHERE relation = $1 AND classid = 0 LIMIT 1";
    Ok(!spi::read_now(SQL, &[spi::arg(relation)])?.is_empty())
}

/// A look that is due is not tried with each command any more. Waits for nobody.
pub fn give_up(relation: pg_sys::Oid) -> Result<()> {
    if pg::transaction_snapshot_is_fixed() {
        // What was changed since cannot be written; another command will.
        return Ok(());
    }
    spi::owner_execute(
        "UPDATE snapsync.dependency SET objid = 0 WHERE ctid = ANY (ARRAY( \
             SELECT ctid FROM snapsync.dependency WHERE relation = $1 AND classid = 0 AND objid = 1 FOR UPDATE SKIP LOCKED))",
        &[spi::arg(relation)],
    )?;
    Ok(())
}

/// Is the session's role a superuser, and the table not his?
pub fn is_strangers(relation: pg_sys::Oid) -> Result<bool> {
    const SQL: &str = "SELECT 1 FROM pg_class AS r JOIN pg_roles AS me ON me.oid = $2 \
         WHERE r.oid = $1 AND r.relowner <> me.oid AND me.rolsuper";
    Ok(!spi::read_now(SQL, &[spi::arg(relation), spi::arg(pg::current_user())])?.is_empty())
}

/// A superuser's command has tried in vain to have the look that is due at a stranger's table: no superuser's tries it again at once
/// (concerned.sql). Waits for nobody.
pub fn tried_in_vain(relation: pg_sys::Oid) -> Result<()> {
    if pg::transaction_snapshot_is_fixed() {
        return Ok(());
    }
    spi::owner_execute(
        "UPDATE snapsync.dependency SET tried = clock_timestamp(), tries = least(coalesce(tries, 0) + 1, 11) WHERE ctid = ANY (ARRAY( \
             SELECT ctid FROM snapsync.dependency WHERE relation = $1 AND classid = 0 AND objid = 1 FOR UPDATE SKIP LOCKED))",
        &[spi::arg(relation)],
    )?;
    Ok(())
}

/// The tables that transactions make rest on one of these objects which have not ended yet, or not when this snapshot was taken: who has looked since for those
/// that rest on it did not find them. Their rows are seen as they are being written.
pub fn being_made(objects: &[(pg_sys::Oid, pg_sys::Oid)], since: &pg::KeptSnapshot) -> Result<Vec<pg_sys::Oid>> {
    let mut found = Vec::new();
    for (classid, objid) in objects {
        memory::heed();
        pg::made_since(&TABLE, c"dependency_object", &[(CLASSID, *classid), (OBJID, *objid)], since, |row| {
            found.extend(row.column::<pg_sys::Oid>(RELATION));
        })?;
    }
    found.sort_unstable_by_key(|r| r.to_u32());
    found.dedup();
    Ok(found)
}

/// Does a transaction of another session's that has not ended yet change what the table rests on, or has one done so that this snapshot does not see? What was looked
/// at since then may be as it was before. (Whoever changes one of these from now on sees that the table rests on it.)
///
/// What is a part of the table itself is not asked about: DDL on it waits for its settings, or has them (`shape.rs`).
pub fn is_being_changed(relation: pg_sys::Oid, since: &pg::KeptSnapshot) -> Result<bool> {
    let rows = spi::read_now(
        "SELECT DISTINCT classid, objid FROM snapsync.dependency WHERE relation = $1 AND classid <> 0 AND objid <> 0 AND NOT own",
        &[spi::arg(relation)],
    )?;
    for row in &rows {
        memory::heed();
        if beside::is_changed(row.oid(0), row.oid(1), since) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Do settings of any table name a function that is not there?
pub fn misses_functions() -> Result<bool> {
    let (functions, none) = (pg_sys::ProcedureRelationId, pg_sys::InvalidOid);
    pg::has_row_with(&TABLE, c"dependency_object", &[(CLASSID, functions), (OBJID, none)])
}

/// Which database of which cluster the Oids are of: those of a restored dump, or of an upgraded cluster, are others. So nothing is
/// known until all tables have been looked at once.
pub fn database() -> [spi::Arg; 2] {
    let (database, system) = pg::database();
    [spi::arg(database), spi::arg(system.to_string())]
}

/// Are the rows of another database, while there is anything that they should be about?
pub fn are_foreign() -> Result<bool> {
    const SQL: &str = "SELECT 1 WHERE EXISTS (SELECT FROM snapsync.collection) \
         AND NOT EXISTS (SELECT FROM snapsync.dependency WHERE classid = 0 AND objid = $1 AND relation::oid = 0 AND name = $2)";
    Ok(!spi::read_now(SQL, &database())?.is_empty())
}

/// From here on they are of this one: all has been looked at. What is due stays due. Whoever is doing the same is not waited for.
pub fn adopt() -> Result<()> {
    // But for what nobody could find out anew.
    spi::owner_execute(
        "DELETE FROM snapsync.dependency WHERE ctid = ANY (ARRAY( \
             SELECT ctid FROM snapsync.dependency WHERE relation::oid = 0 \
                OR classid <> 0 AND name IS DISTINCT FROM 'unenforced' AND NOT snapsync.is_seen_here(relation) FOR UPDATE SKIP LOCKED))",
        &[],
    )?;
    unenforced::find_keys_anew()?;
    spi::owner_execute(
        "INSERT INTO snapsync.dependency (relation, classid, objid, own, name) VALUES (0::oid::regclass, 0, $1, false, $2)",
        &database(),
    )?;
    Ok(())
}

/// Is there a table that nobody has looked at in this database, nor tried to? (It may be one that is not there.)
pub fn any_unseen() -> Result<bool> {
    const SQL: &str = "SELECT 1 FROM snapsync.collection AS c \
         WHERE NOT snapsync.is_seen_here(c.relation) \
           AND NOT EXISTS (SELECT FROM snapsync.dependency AS d WHERE d.relation = c.relation AND d.classid = 0) LIMIT 1";
    Ok(!spi::read_now(SQL, &[])?.is_empty())
}

/// Has nobody looked at this table here?
pub fn is_unseen(relation: pg_sys::Oid) -> Result<bool> {
    Ok(spi::read_now("SELECT 1 WHERE snapsync.is_seen_here($1)", &[spi::arg(relation)])?.is_empty())
}

/// Those that are there, and whose owner the session's role may act for.
pub fn own_unseen() -> Result<Vec<pg_sys::Oid>> {
    const SQL: &str = "SELECT c.relation::oid FROM snapsync.collection AS c \
         CROSS JOIN LATERAL (SELECT relowner FROM pg_class WHERE oid = c.relation OFFSET 0) AS r \
         WHERE NOT snapsync.is_seen_here(c.relation) AND pg_has_role($1, r.relowner, 'USAGE') ORDER BY 1";
    Ok(spi::read_now(SQL, &[spi::arg(pg::current_user())])?.iter().map(|row| row.oid(0)).collect())
}

/// What one table rested on in another database, but for what nobody could find out anew.
pub fn forget_foreign(relation: pg_sys::Oid) -> Result<()> {
    const SQL: &str = "DELETE FROM snapsync.dependency WHERE ctid = ANY (ARRAY( \
             SELECT ctid FROM snapsync.dependency \
              WHERE relation = $1 AND classid <> 0 AND name IS DISTINCT FROM 'unenforced' FOR UPDATE SKIP LOCKED))";
    spi::owner_execute(SQL, &[spi::arg(relation)]).map(|_| ())
}
