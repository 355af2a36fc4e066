//! What a table looked like when clients last got a consistent view of it: columns, policies, partitions, readers. Compared
//! after every DDL that may have changed it; a difference updates what is derived from it (image columns, access tables,
//! triggers) and resets the clients, since entries cannot say it.

use std::collections::{BTreeMap, BTreeSet};

use pgrx::pg_sys;

use crate::error::Result;
use crate::registry::{self, owner_execute, owner_query, Stored};
use crate::{access, admin, ddl, spi, track};

mod declared;
pub mod unenforced;

/// Why things are looked at.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Because {
    /// `snapsync.enable` changed settings; it decides about the reset itself.
    Enabled,
    /// A command changed something.
    Ddl,
}

/// The shape as JSON text. Names and definitions: what decides about a reset must compare equal after a dump and restore, so Oids
/// are only in `identity`, `declared` and `unenforced`. (A materialized view's row in pg_class is written anew by every REFRESH.)
const SHAPE: &str = "'labels', (SELECT json_agg(DISTINCT concat(e.enumtypid::regtype, ' ', e.enumlabel)) \
               FROM made_of AS m JOIN pg_enum AS e ON e.enumtypid = m.oid), \
    'composites', (SELECT json_agg(json_build_array(y.oid::regtype::text, a.attname, format_type(a.atttypid, a.atttypmod)) \
                                   ORDER BY y.oid::regtype::text, a.attnum) \
                   FROM made_of AS m JOIN pg_type AS y ON y.oid = m.oid AND y.typtype = 'c' \
                   JOIN pg_attribute AS a ON a.attrelid = y.typrelid AND a.attnum > 0 AND NOT a.attisdropped), \
    'declared', (SELECT json_object_agg(n.name, to_regclass(n.name)::oid::text) FROM jsonb_object_keys(c.access_tables) AS n(name)), \
    'views', (SELECT json_agg(DISTINCT md5(concat(v.oid::regclass, pg_get_viewdef(v.oid), v.relowner::regrole, v.reloptions, \
                                                  CASE v.relkind WHEN 'm' THEN v.xmin::text END))) \
              FROM read JOIN pg_class AS v ON v.oid = read.objid AND v.relkind IN ('v', 'm') \
              WHERE read.classid = 'pg_class'::regclass), \
    'columns', (SELECT json_object_agg(a.attnum, json_build_array(a.attname, format_type(a.atttypid, a.atttypmod)) ORDER BY a.attnum) \
                FROM pg_attribute AS a WHERE a.attrelid = c.relation AND a.attnum > 0 AND NOT a.attisdropped), \
    'synced', (SELECT json_agg(json_build_array(a.attname, format_type(a.atttypid, a.atttypmod)) ORDER BY a.attnum) \
               FROM pg_attribute AS a WHERE a.attrelid = c.relation AND a.attnum > 0 AND NOT a.attisdropped \
                AND (c.columns IS NULL OR a.attname = ANY (c.columns) OR a.attname = ANY (c.key)) AND a.attname <> ALL (c.exclude)), \
    'security', json_build_array(r.relrowsecurity, r.relforcerowsecurity, r.relowner::regrole::text), \
    'policies', (SELECT json_agg(json_build_array(p.polname, p.polpermissive, \
                        (SELECT json_agg(CASE role WHEN 0 THEN 'public' ELSE role::regrole::text END ORDER BY 1) FROM unnest(p.polroles) AS role), \
                        pg_get_expr(p.polqual, p.polrelid)) ORDER BY p.polname) \
                 FROM pg_policy AS p WHERE p.polrelid = c.relation AND p.polcmd IN ('*', 'r')), \
    'partition_policies', (SELECT json_agg(json_build_array(k.oid::regclass::text, k.relforcerowsecurity, k.relowner::regrole::text, \
                                  (SELECT json_agg(json_build_array(p.polname, p.polpermissive, p.polroles::regrole[]::text, \
                                                                    pg_get_expr(p.polqual, p.polrelid)) ORDER BY p.polname) \
                                     FROM pg_policy AS p WHERE p.polrelid = k.oid AND p.polcmd IN ('*', 'r'))) ORDER BY k.oid::regclass::text) \
                 FROM pg_partition_tree(c.relation) AS t JOIN pg_class AS k ON k.oid = t.relid WHERE t.level > 0 AND k.relrowsecurity), \
    'functions', (SELECT json_agg(DISTINCT md5(concat(f.oid::regprocedure, f.prosrc, f.probin, f.proconfig, f.prosecdef, \
                                                      f.proisstrict, f.proowner::regrole, pg_get_function_sqlbody(f.oid)))) \
                  FROM read JOIN pg_proc AS f ON f.oid = read.objid WHERE read.classid = 'pg_proc'::regclass), \
    'partitions', (SELECT json_agg(t.relid::text ORDER BY t.relid::text) FROM pg_partition_tree(c.relation) AS t WHERE t.isleaf AND t.level > 0), \
    'readers', (SELECT json_agg(reader ORDER BY reader) FROM \
                (SELECT CASE x.grantee WHEN 0 THEN 'public' ELSE x.grantee::regrole::text END AS reader \
                   FROM aclexplode(r.relacl) AS x WHERE x.privilege_type = 'SELECT' \
                 UNION SELECT a.attname || ' ' || CASE x.grantee WHEN 0 THEN 'public' ELSE x.grantee::regrole::text END \
                   FROM pg_attribute AS a, aclexplode(a.attacl) AS x \
                  WHERE a.attrelid = c.relation AND x.privilege_type = 'SELECT' AND NOT a.attisdropped) AS readers)) \
  FROM snapsync.collection AS c JOIN pg_class AS r ON r.oid = c.relation WHERE c.relation = $1";

/// Which table of which database of which cluster `c` is: only there do the shape's numbers mean anything.
const IDENTITY: &str = "concat_ws(' ', (SELECT system_identifier FROM pg_control_system()), \
    (SELECT oid FROM pg_database WHERE datname = current_database()), c.relation::oid)";

/// The types of table $1's columns and what they are made of: domains, arrays, ranges, composite types.
const MADE_OF: &str = "made_of(oid) AS ( \
        SELECT atttypid FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped \
      UNION \
        SELECT part.oid FROM made_of AS m JOIN pg_type AS y ON y.oid = m.oid CROSS JOIN LATERAL ( \
                SELECT y.typbasetype UNION ALL SELECT y.typelem \
                UNION ALL SELECT g.rngsubtype FROM pg_range AS g WHERE y.oid IN (g.rngtypid, g.rngmultitypid) \
                UNION ALL SELECT a.atttypid FROM pg_attribute AS a \
                           WHERE a.attrelid = y.typrelid AND a.attnum > 0 AND NOT a.attisdropped) AS part(oid) \
         WHERE part.oid <> 0)";

fn shape_query() -> String {
    let rest_on = access::depends::policies_rest_on();
    let unenforced = unenforced::UNENFORCED;
    format!(
        "WITH RECURSIVE {rest_on}, {MADE_OF} SELECT json_build_object('identity', {IDENTITY}, {unenforced}, {SHAPE}"
    )
}

/// Looks at every tracked table.
pub fn refresh_all(why: Because) -> Result<()> {
    if why == Because::Ddl {
        declared::follow_names()?;
    }
    sync_access_only()?;
    for relation in registry::tracked()? {
        refresh_one(relation, why)?;
    }
    Ok(())
}

/// Looks at one table after `enable`, and at what its policies read.
pub fn refresh(relation: pg_sys::Oid, why: Because) -> Result<()> {
    sync_access_only()?;
    refresh_one(relation, why)?;
    // A table that was tracked already may have got readers in this one's policies.
    for other in registry::tracked()? {
        if other != relation {
            refresh_one(other, why)?;
        }
    }
    Ok(())
}

fn refresh_one(relation: pg_sys::Oid, why: Because) -> Result<()> {
    // In the middle of a restore nothing is there yet; tables that `enable` has just stored get their trigger here.
    if why == Because::Ddl && !registry::is_installed(relation)? {
        return Ok(());
    }
    // Became a partition behind our back (ddl.rs refuses it), which no other command is to fail for.
    if why == Because::Ddl && crate::pg::root_of(relation) != relation {
        return Ok(());
    }
    let rows = owner_query("SELECT shape FROM snapsync.collection WHERE relation = $1", &[spi::arg(relation)])?;
    let old: serde_json::Value =
        rows.first().and_then(|r| r.text(0)).and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default();
    let rekeyed = why == Because::Ddl && follow_columns(relation, &old)?;
    let rows = owner_query(&shape_query(), &[spi::arg(relation)])?;
    let text = rows.first().map(|r| r.string(0)).unwrap_or_default();
    let new: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let image = image_columns(relation)?;
    owner_execute(
        "UPDATE snapsync.collection SET shape = $2::jsonb, image = $3::name[] WHERE relation = $1 \
         AND (shape <> $2::jsonb OR image <> $3::name[])",
        &[spi::arg(relation), spi::arg(text.as_str()), spi::arg(image)],
    )?;
    let gap = registry::sync_triggers(relation)?;
    registry::changed(relation);
    if gap || rekeyed || why == Because::Ddl && clients_must_know(&old, &new) {
        track::reset(relation)?;
    }
    Ok(())
}

/// Did something change that entries cannot say?
fn clients_must_know(old: &serde_json::Value, new: &serde_json::Value) -> bool {
    let differs = |part: &str| old[part] != new[part];
    let parts = [
        "synced",
        "security",
        "policies",
        "partition_policies",
        "functions",
        "views",
        "partitions",
        "readers",
        "composites",
    ];
    if parts.into_iter().any(differs) {
        return true;
    }
    // A label of an enum that is no more was renamed; a new one changes no row.
    let labels = |shape: &serde_json::Value| -> BTreeSet<String> {
        shape["labels"].as_array().into_iter().flatten().filter_map(|l| l.as_str().map(str::to_string)).collect()
    };
    if !labels(old).is_subset(&labels(new)) {
        return true;
    }
    // A column dropped and added anew under its old name is another column; numbers mean that only in one database.
    let numbers = |shape: &serde_json::Value| -> BTreeMap<String, String> {
        let columns = shape["columns"].as_object().into_iter().flatten();
        let synced: BTreeSet<&str> =
            shape["synced"].as_array().into_iter().flatten().filter_map(|c| c[0].as_str()).collect();
        columns
            .filter_map(|(n, c)| Some((c[0].as_str()?.to_string(), n.clone())))
            .filter(|(name, _)| synced.contains(name.as_str()))
            .collect()
    };
    old["identity"] == new["identity"] && numbers(old) != numbers(new)
}

/// Columns are known by name; when one is renamed the settings follow, by its number in the old shape. True if the rows of a table
/// that is no collection are told apart by other columns now.
fn follow_columns(relation: pg_sys::Oid, old: &serde_json::Value) -> Result<bool> {
    let Some(stored) = registry::load(relation)? else { return Ok(false) };
    // A restored dump numbers columns anew: the numbers of another database say nothing.
    let identity = format!("SELECT {IDENTITY} FROM snapsync.collection AS c WHERE c.relation = $1");
    let rows = owner_query(&identity, &[spi::arg(relation)])?;
    if rows.first().and_then(|r| r.text(0)) != old["identity"].as_str() {
        return Ok(false);
    }
    let rows = owner_query(
        "SELECT attnum, attname FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped",
        &[spi::arg(relation)],
    )?;
    let now: BTreeMap<String, String> = rows.iter().map(|r| (r.string(0), r.string(1))).collect();
    let before: BTreeMap<&str, &str> = old["columns"]
        .as_object()
        .map(|o| o.iter().filter_map(|(n, c)| Some((c[0].as_str()?, n.as_str()))).collect())
        .unwrap_or_default();
    // None: dropped. A name that the old shape does not know is taken as it is.
    let follow = |name: &String| match before.get(name.as_str()) {
        // Dropped and added anew in one command: still the column of that name.
        Some(number) => now.get(*number).or_else(|| now.values().find(|n| *n == name)).cloned(),
        None => Some(name.clone()),
    };
    // The key of an access table was not chosen by a user, so its columns may be dropped.
    if stored.name.is_none() {
        let key = stored.key.iter().map(follow).collect();
        return admin::find_key_for_access(relation, &stored, key);
    }
    let table = || crate::pg::qualified_name(relation).map(|(_, name)| name).unwrap_or_default();
    let needed = |name: &String, role: &str| follow(name).ok_or_else(|| ddl::refuse_loss(&table(), name, role));
    let list = |names: &[String]| names.iter().filter_map(follow).collect::<Vec<_>>();
    let followed = Stored {
        key: stored.key.iter().map(|k| needed(k, "part of the key")).collect::<Result<_>>()?,
        columns: stored.columns.as_deref().map(list),
        exclude: list(&stored.exclude),
        readonly: list(&stored.readonly),
        scope_column: stored.scope_column.as_ref().map(|c| needed(c, "the scope column")).transpose()?,
        soft_delete_column: stored
            .soft_delete_column
            .as_ref()
            .map(|c| needed(c, "the soft-delete column"))
            .transpose()?,
        ..stored.clone()
    };
    if followed != stored {
        registry::store(relation, &followed)?;
    }
    if !admin::is_unique(relation, &followed.key)? {
        return Err(ddl::refuse_loss(&table(), &followed.key.join(", "), "the key, which must stay unique,"));
    }
    admin::check_columns(relation, &followed)?;
    Ok(false)
}

/// The columns whose old values are logged: those that any policy in the database reads (`pg_depend` knows them by number),
/// the scope and the soft-delete column, what an access predicate may read, and with any of these the key; all where a
/// policy reads the row as a whole, which PostgreSQL records no dependency for, but the parsed tree shows.
fn image_columns(relation: pg_sys::Oid) -> Result<Vec<String>> {
    let rows = owner_query(
        "WITH tree AS (SELECT relid FROM pg_partition_tree($1) UNION SELECT $1), \
              reading AS (SELECT a.attname FROM pg_depend AS d JOIN tree ON tree.relid = d.refobjid \
                          JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid \
                          WHERE d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_class'::regclass), \
              read AS (SELECT EXISTS (SELECT FROM reading) OR EXISTS (SELECT FROM snapsync.access WHERE access = $1) AS r), \
              whole AS (SELECT $2 OR EXISTS (SELECT FROM snapsync.access AS x WHERE x.access = $1 AND x.whole) AS w) \
         SELECT a.attname FROM pg_attribute AS a, snapsync.collection AS c, whole, read \
         WHERE c.relation = $1 AND a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped \
           AND (w OR a.attname IN (SELECT attname FROM reading) OR a.attname = c.scope_column OR a.attname = c.soft_delete_column \
             OR a.attname = ANY (c.key) AND (r OR c.scope_column IS NOT NULL OR c.soft_delete_column IS NOT NULL)) \
         ORDER BY a.attnum",
        &[spi::arg(relation), spi::arg(access::traits(relation)?.whole_row)],
    )?;
    Ok(rows.iter().map(|r| r.string(0)).collect())
}

/// Finds the access tables of all collections anew, and theirs, and tracks those that are not tracked yet.
fn sync_access_only() -> Result<()> {
    // One at a time; statements after this see what the one before has committed.
    owner_execute("LOCK TABLE snapsync.access IN SHARE ROW EXCLUSIVE MODE", &[])?;
    let mut wanted: BTreeMap<(u32, u32), access::Found> = BTreeMap::new();
    let mut open: Vec<pg_sys::Oid> = Vec::new();
    let mut done: BTreeSet<u32> = BTreeSet::new();
    let collections: BTreeSet<u32> =
        owner_query("SELECT relation::oid FROM snapsync.collection WHERE name IS NOT NULL", &[])?
            .iter()
            .map(|r| r.oid(0).to_u32())
            .collect();
    open.extend(collections.iter().map(|c| pg_sys::Oid::from(*c)));
    while let Some(relation) = open.pop() {
        if !done.insert(relation.to_u32()) || crate::pg::qualified_name(relation).is_none() {
            continue;
        }
        let stored = registry::load(relation)?.unwrap_or_default();
        for mut found in access::find(relation, stored.access_tables.as_deref(), stored.scope_reads.as_deref())? {
            // Texts that somebody gave, which DDL does not keep right.
            if (stored.access_tables.is_some() || stored.scope_reads.is_some())
                && !declared::makes_sense(relation, &found)?
            {
                (found.predicate, found.whole) = (Some("true".into()), true);
            }
            open.push(found.access);
            wanted.insert((relation.to_u32(), found.access.to_u32()), found);
        }
    }
    let rows = owner_query("SELECT relation::oid, access::oid, kind, predicate, whole FROM snapsync.access", &[])?;
    let known: BTreeMap<(u32, u32), (String, Option<String>, bool)> = rows
        .iter()
        .map(|r| ((r.oid(0).to_u32(), r.oid(1).to_u32()), (r.string(2), r.text(3).map(str::to_string), r.bool(4))))
        .collect();
    let now: BTreeMap<(u32, u32), (String, Option<String>, bool)> =
        wanted.iter().map(|(k, f)| (*k, (f.kind.name().to_string(), f.predicate.clone(), f.whole))).collect();
    if known != now {
        owner_execute("DELETE FROM snapsync.access", &[])?;
    }
    for ((relation, access), (kind, predicate, whole)) in now.iter().filter(|_| known != now) {
        let (relation, access) = (pg_sys::Oid::from(*relation), pg_sys::Oid::from(*access));
        owner_execute(
            "INSERT INTO snapsync.access (relation, access, kind, predicate, whole) VALUES ($1, $2, $3, $4, $5)",
            &[
                spi::arg(relation),
                spi::arg(access),
                spi::arg(kind.as_str()),
                spi::arg(predicate.as_deref()),
                spi::arg(*whole),
            ],
        )?;
    }
    // Entries of before were judged, and logged, by what was known then.
    let of = |relation: u32, all: &BTreeMap<(u32, u32), (String, Option<String>, bool)>| {
        all.range((relation, 0)..=(relation, u32::MAX)).map(|(k, v)| (*k, v.clone())).collect::<Vec<_>>()
    };
    for relation in registry::tracked()? {
        let changed = of(relation.to_u32(), &known) != of(relation.to_u32(), &now);
        if changed && registry::is_installed(relation)? {
            registry::changed(relation);
            track::reset(relation)?;
        }
    }
    // Tables that no policy reads any more and that are no collections themselves need no tracking.
    let needed: BTreeSet<u32> = now.keys().map(|(_, access)| *access).chain(collections.iter().copied()).collect();
    for relation in registry::tracked()? {
        if !needed.contains(&relation.to_u32()) {
            registry::drop_triggers(relation)?;
            registry::forget(relation)?;
        }
    }
    for access in needed.difference(&collections) {
        let access = pg_sys::Oid::from(*access);
        let fresh = match registry::load(access)? {
            None => {
                admin::track_for_access(access)?;
                true
            }
            Some(stored) => stored.key.is_empty() && admin::find_key_for_access(access, &stored, None)?,
        };
        if fresh {
            refresh_one(access, Because::Enabled)?;
            // Changes of before are unknown.
            track::reset(access)?;
        }
    }
    Ok(())
}
