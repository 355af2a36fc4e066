//! The shape of a tracked table, as text that compares: what of its definition clients would have to know of.

use std::collections::BTreeSet;

use pgrx::pg_sys;

use super::{columns, unenforced};
use crate::server::error::Result;
use crate::server::{pg, spi, subxact};

/// The shape as JSON text: what is compared always, by names that are the same after a dump and restore, so Oids are only in `identity`,
/// `declared` and `unenforced`; and what is compared within one database only, the `trees` of policies, views and functions as the
/// catalogs have them. (A materialized view's row in pg_class is written anew by every REFRESH.)
///
/// A tree as it is stored can be looked at without a lock. To write it out as SQL takes a lock on each table that it reads, where
/// whoever owns one of these could keep everybody waiting.
const SHAPE: &str = "'labels', (SELECT json_agg(DISTINCT concat(e.enumtypid::regtype, ' ', e.enumlabel)) \
               FROM made_of AS m JOIN pg_enum AS e ON e.enumtypid = m.oid), \
    'composites', (SELECT json_agg(json_build_array(y.oid::regtype::text, a.attname, format_type(a.atttypid, a.atttypmod)) \
                                   ORDER BY y.oid::regtype::text, a.attnum) \
                   FROM made_of AS m JOIN pg_type AS y ON y.oid = m.oid AND y.typtype = 'c' \
                   JOIN pg_attribute AS a ON a.attrelid = y.typrelid AND a.attnum > 0 AND NOT a.attisdropped), \
    'declared', (SELECT json_object_agg(n.name, to_regclass(n.name)::oid::text) FROM jsonb_object_keys(c.access_tables) AS n(name)), \
    'columns', (SELECT json_object_agg(a.attnum, json_build_array(a.attname, format_type(a.atttypid, a.atttypmod)) ORDER BY a.attnum) \
                FROM pg_attribute AS a WHERE a.attrelid = c.relation AND a.attnum > 0 AND NOT a.attisdropped), \
    'synced', (SELECT json_agg(json_build_array(a.attname, format_type(a.atttypid, a.atttypmod)) ORDER BY a.attnum) \
               FROM pg_attribute AS a WHERE a.attrelid = c.relation AND a.attnum > 0 AND NOT a.attisdropped \
                AND (c.columns IS NULL OR a.attname = ANY (c.columns) OR a.attname = ANY (c.key)) AND a.attname <> ALL (c.exclude)), \
    'security', json_build_array(r.relrowsecurity, r.relforcerowsecurity, r.relowner::regrole::text), \
    'partitions', (SELECT json_agg(k.oid::regclass::text ORDER BY k.oid::regclass::text) \
                   FROM snapsync.parts($1) AS t(relid) JOIN pg_class AS k ON k.oid = t.relid WHERE k.oid <> $1 AND k.relkind <> 'p'), \
    'readers', (SELECT json_agg(reader ORDER BY reader) FROM \
                (SELECT CASE x.grantee WHEN 0 THEN 'public' ELSE x.grantee::regrole::text END AS reader \
                   FROM aclexplode(r.relacl) AS x WHERE x.privilege_type = 'SELECT' \
                 UNION SELECT a.attname || ' ' || CASE x.grantee WHEN 0 THEN 'public' ELSE x.grantee::regrole::text END \
                   FROM pg_attribute AS a, aclexplode(a.attacl) AS x \
                  WHERE a.attrelid = c.relation AND x.privilege_type = 'SELECT' AND NOT a.attisdropped) AS readers)";

/// Policies, views and functions, each with its tree as {policy}, {view}, {function} and {generated} write it.
const TREES: &str = "'policies', (SELECT json_agg(json_build_array(p.polname, p.polpermissive, \
                        (SELECT json_agg(CASE role WHEN 0 THEN 'public' ELSE role::regrole::text END ORDER BY 1) FROM unnest(p.polroles) AS role), \
                        {policy}) ORDER BY p.polname) \
                 FROM pg_policy AS p WHERE p.polrelid = c.relation AND p.polcmd IN ('*', 'r')), \
    'partition_policies', (SELECT json_agg(json_build_array(k.oid::regclass::text, k.relforcerowsecurity, k.relowner::regrole::text, \
                                  (SELECT json_agg(json_build_array(p.polname, p.polpermissive, p.polroles::regrole[]::text, {policy}) ORDER BY p.polname) \
                                     FROM pg_policy AS p WHERE p.polrelid = k.oid AND p.polcmd IN ('*', 'r'))) ORDER BY k.oid::regclass::text) \
                 FROM snapsync.parts($1) AS t(relid) JOIN pg_class AS k ON k.oid = t.relid WHERE k.oid <> $1 AND k.relrowsecurity), \
    'views', (SELECT json_agg(DISTINCT md5(concat(v.oid::regclass, {view}, v.relowner::regrole, v.reloptions, \
                                                  CASE v.relkind WHEN 'm' THEN v.xmin::text END))) \
              FROM read JOIN pg_class AS v ON v.oid = read.objid AND v.relkind IN ('v', 'm') \
              WHERE read.classid = 'pg_class'::regclass), \
    'functions', (SELECT json_agg(DISTINCT md5(concat(f.oid::regprocedure, f.prosrc, f.probin, f.proconfig, f.prosecdef, \
                                                      f.proisstrict, f.proowner::regrole, {function}, \
                                                      g.aggtransfn, g.aggfinalfn, g.agginitval))) \
                  FROM (SELECT objid FROM read WHERE classid = 'pg_proc'::regclass \
                        UNION SELECT to_regprocedure(called)::oid FROM jsonb_array_elements_text(c.scope_reads -> 'functions') AS called) AS used \
                  JOIN pg_proc AS f ON f.oid = used.objid LEFT JOIN pg_aggregate AS g ON g.aggfnoid = f.oid), \
    'virtual', (SELECT json_agg(json_build_array(a.attrelid::regclass, a.attname, {generated}) ORDER BY a.attrelid::regclass::text, a.attname) \
                FROM (SELECT objid FROM read WHERE classid = 'pg_class'::regclass UNION SELECT relid FROM snapsync.parts($1) AS t(relid)) AS t \
                JOIN pg_attribute AS a ON a.attrelid = t.objid AND a.attgenerated = 'v' AND NOT a.attisdropped \
                JOIN pg_attrdef AS e ON e.adrelid = a.attrelid AND e.adnum = a.attnum)";

/// As they are stored.
const AS_STORED: [(&str, &str); 4] = [
    ("{policy}", "md5(p.polqual::text)"),
    ("{view}", "(SELECT md5(w.ev_action::text) FROM pg_rewrite AS w WHERE w.ev_class = v.oid AND w.ev_type = '1')"),
    ("{function}", "md5(f.prosqlbody::text)"),
    ("{generated}", "md5(e.adbin::text)"),
];

/// As SQL.
const AS_TEXT: [(&str, &str); 4] = [
    ("{policy}", "pg_get_expr(p.polqual, p.polrelid)"),
    ("{view}", "pg_get_viewdef(v.oid)"),
    ("{function}", "pg_get_function_sqlbody(f.oid)"),
    ("{generated}", "pg_get_expr(e.adbin, e.adrelid)"),
];

/// The tables that are locked to write the trees as SQL: those that they read, and whose columns they name.
const LOCKED: &str = "\
    SELECT DISTINCT k.oid FROM ( \
        SELECT objid FROM read WHERE classid = 'pg_class'::regclass \
        UNION ALL SELECT relid FROM snapsync.parts($1) AS t(relid) \
        UNION ALL SELECT d.refobjid FROM snapsync.parts($1) AS t(relid) \
             CROSS JOIN LATERAL (SELECT oid FROM pg_policy WHERE polrelid = t.relid OFFSET 0) AS p \
             CROSS JOIN LATERAL (SELECT refobjid FROM pg_depend \
                                  WHERE classid = 'pg_policy'::regclass AND objid = p.oid AND refclassid = 'pg_class'::regclass OFFSET 0) AS d \
        UNION ALL SELECT d.refobjid FROM snapsync.collection AS c, jsonb_array_elements_text(c.scope_reads -> 'functions') AS called \
             CROSS JOIN LATERAL (SELECT refobjid FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = to_regprocedure(called) \
                                    AND refclassid = 'pg_class'::regclass OFFSET 0) AS d \
                   WHERE c.relation = $1) AS named(oid) \
    JOIN pg_class AS k ON k.oid = named.oid WHERE k.relkind <> 'i'";

/// Which table of which database of which cluster `c` is: only there do the shape's numbers mean anything.
pub const IDENTITY: &str = "concat_ws(' ', (SELECT system_identifier FROM pg_control_system()), \
    (SELECT oid FROM pg_database WHERE datname = current_database()), c.relation::oid)";

/// What the policies of table $1 rest on, and the types of its columns with what they are made of.
const READ: &str = "read AS MATERIALIZED (SELECT * FROM snapsync.rests_on($1))";
const MADE_OF: &str = "made_of(oid) AS MATERIALIZED (SELECT * FROM snapsync.made_of($1))";

fn trees(written: &[(&str, &str)]) -> String {
    written.iter().fold(TREES.to_string(), |sql, (place, by)| sql.replace(place, by))
}

/// What table $1 looks like.
pub fn read(relation: pg_sys::Oid, old: &str) -> Result<String> {
    let (unenforced, as_stored) = (unenforced::UNENFORCED, trees(&AS_STORED));
    let sql = format!(
        "WITH {READ}, {MADE_OF} SELECT json_build_object('identity', {IDENTITY}, {unenforced}, {SHAPE}, \
            'trees', json_build_object({as_stored})) \
         FROM snapsync.collection AS c JOIN pg_class AS r ON r.oid = c.relation WHERE c.relation = $1"
    );
    let shape = spi::read_now(&sql, &[spi::arg(relation)])?;
    let mut shape = parsed(shape.first().and_then(|r| r.text(0)).unwrap_or_default());
    let old = parsed(old);
    let still_so = || old["identity"] == shape["identity"] && old["trees"] == shape["trees"];
    let texts = match texts(relation)? {
        Some(texts) => parsed(&texts),
        None if still_so() => old["texts"].clone(),
        None => serde_json::Value::Null,
    };
    let dropped = columns::dropped_since(&old, &shape);
    if let Some(shape) = shape.as_object_mut() {
        shape.insert("dropped".into(), dropped);
        shape.insert("texts".into(), texts);
    }
    Ok(shape.to_string())
}

/// The trees as SQL, which another database can compare; None while another session keeps a table that they read to itself. What is
/// locked for it is let go.
fn texts(relation: pg_sys::Oid) -> Result<Option<String>> {
    let locked = spi::read_now(&format!("WITH {READ} {LOCKED}"), &[spi::arg(relation)])?;
    let locked: Vec<pg_sys::Oid> = locked.iter().map(|r| r.oid(0)).collect();
    let as_text = trees(&AS_TEXT);
    let sql =
        format!("WITH {READ} SELECT json_build_object({as_text}) FROM snapsync.collection AS c WHERE c.relation = $1");
    subxact::try_out(|| {
        if !locked.into_iter().all(pg::lock_without_waiting) {
            return Ok(None);
        }
        Ok(spi::read_now(&sql, &[spi::arg(relation)])?.first().map(|r| r.string(0)))
    })
}

/// Did something change that entries cannot say?
pub fn clients_must_know(relation: pg_sys::Oid, old: &serde_json::Value, new: &serde_json::Value) -> Result<bool> {
    let differs = |part: &str| old[part] != new[part];
    let here = old["identity"] == new["identity"];
    let parts = ["security", "partitions", "composites", if here { "trees" } else { "texts" }];
    if parts.into_iter().any(differs) || columns::readers(old, new) != columns::readers(new, old) {
        return Ok(true);
    }
    // A label of an enum that is no more was renamed; a new one changes no row.
    let labels = |shape: &serde_json::Value| -> BTreeSet<String> {
        shape["labels"].as_array().into_iter().flatten().filter_map(|l| l.as_str().map(str::to_string)).collect()
    };
    if !labels(old).is_subset(&labels(new)) {
        return Ok(true);
    }
    columns::differ(relation, old, new)
}

/// A shape's text, for comparing.
pub fn parsed(shape: &str) -> serde_json::Value {
    serde_json::from_str(shape).unwrap_or_default()
}
