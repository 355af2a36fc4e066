-- What the commands that role $3 has just run have touched, and the tables $4, whose privileges they have changed. With concerned.sql.
-- Nothing rests on temporary tables, and nobody pays for them. Policies and owners' SQL may call a session's own functions, by their numbers, and read its
-- views, which hold no rows and so work in every session; and columns may be of its types, of which an altered row type is called by its relation.
WITH touched AS MATERIALIZED (
    SELECT classid, objid, CASE classid WHEN 'pg_proc'::regclass THEN objid::regprocedure::text WHEN 'pg_type'::regclass THEN objid::regtype::text
                                        ELSE object_identity END AS name FROM pg_event_trigger_ddl_commands()
    WHERE classid IS NOT NULL
      AND (schema_name IS DISTINCT FROM 'pg_temp'
           OR classid IN ('pg_proc'::regclass, 'pg_type'::regclass, 'pg_operator'::regclass, 'pg_ts_config'::regclass, 'pg_ts_dict'::regclass)
           OR classid = 'pg_class'::regclass AND (SELECT relkind FROM pg_class WHERE oid = objid OFFSET 0) IN ('v', 'c'))
    UNION ALL
    SELECT 'pg_class'::regclass, oid, NULL FROM unnest($4::oid[]) AS oid),
relation(oid) AS (
    SELECT objid FROM touched WHERE classid = 'pg_class'::regclass
    UNION
    SELECT p.polrelid FROM touched CROSS JOIN LATERAL (SELECT polrelid FROM pg_policy WHERE oid = objid OFFSET 0) AS p
    WHERE classid = 'pg_policy'::regclass
    UNION
    SELECT w.ev_class FROM touched CROSS JOIN LATERAL (SELECT ev_class FROM pg_rewrite WHERE oid = objid OFFSET 0) AS w
    WHERE classid = 'pg_rewrite'::regclass
    UNION
    SELECT f.conrelid FROM touched CROSS JOIN LATERAL (SELECT conrelid FROM pg_constraint WHERE oid = objid OFFSET 0) AS f
    WHERE classid = 'pg_constraint'::regclass
    UNION
    -- BEFORE ROW DELETE or UPDATE (catalog/pg_trigger.h): it may keep rows from going along with a parent.
    SELECT g.tgrelid FROM touched CROSS JOIN LATERAL (SELECT tgrelid, tgtype FROM pg_trigger WHERE oid = objid OFFSET 0) AS g
    WHERE classid = 'pg_trigger'::regclass AND g.tgtype & 3 = 3 AND g.tgtype & 24 <> 0),
-- (From a column, not from a subquery in its place: the function becomes a part of this statement.)
reached(oid) AS (SELECT r.* FROM (SELECT array_agg(oid) AS oids FROM relation) AS own CROSS JOIN LATERAL snapsync.reached(own.oids, $3) AS r),
object(classid, objid) AS (
    SELECT 'pg_class'::regclass::oid, oid FROM reached
    UNION
    SELECT 'pg_class'::regclass, i.inhparent
    FROM relation CROSS JOIN LATERAL (SELECT inhparent FROM pg_inherits WHERE inhrelid = oid OFFSET 0) AS i
    UNION
    SELECT 'pg_class'::regclass, pg_partition_root(oid) FROM relation
    UNION
    SELECT 'pg_class'::regclass, p.relid FROM relation, snapsync.parts(oid) AS p(relid)
    UNION
    SELECT 'pg_type'::regclass, k.castsource
    FROM touched CROSS JOIN LATERAL (SELECT castsource FROM pg_cast WHERE oid = objid AND casttarget = 'json'::regtype OFFSET 0) AS k
    WHERE classid = 'pg_cast'::regclass
    UNION
    -- A new operator makes itself the negator or the commutator of another, which the event does not name.
    SELECT classid, other.oid
    FROM touched CROSS JOIN LATERAL (SELECT oprnegate, oprcom FROM pg_operator WHERE oid = objid OFFSET 0) AS o
    CROSS JOIN LATERAL (VALUES (o.oprnegate), (o.oprcom)) AS other(oid)
    WHERE classid = 'pg_operator'::regclass AND other.oid <> 0
    UNION
    SELECT classid, objid FROM touched
    WHERE classid IN ('pg_proc'::regclass, 'pg_type'::regclass, 'pg_operator'::regclass, 'pg_ts_config'::regclass, 'pg_ts_dict'::regclass))
SELECT d.relation::oid, 'elsewhere'
FROM (SELECT classid, name FROM touched WHERE classid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_type'::regclass)
      UNION ALL
      -- What comes with a relation, a range, or a type.
      SELECT 'pg_type'::regclass, y.oid::regtype::text
      FROM touched CROSS JOIN LATERAL (SELECT reltype FROM pg_class WHERE oid = objid OFFSET 0) AS r
      CROSS JOIN LATERAL (SELECT typarray FROM pg_type WHERE pg_type.oid = r.reltype OFFSET 0) AS a
      CROSS JOIN LATERAL (VALUES (r.reltype), (a.typarray)) AS y(oid)
      WHERE touched.classid = 'pg_class'::regclass AND y.oid <> 0
      UNION ALL
      SELECT 'pg_type'::regclass, y.oid::regtype::text
      FROM touched CROSS JOIN LATERAL (SELECT typarray FROM pg_type WHERE pg_type.oid = objid OFFSET 0) AS a
      LEFT JOIN LATERAL (SELECT rngmultitypid FROM pg_range WHERE rngtypid = objid OFFSET 0) AS g ON true
      CROSS JOIN LATERAL (VALUES (a.typarray), (g.rngmultitypid)) AS y(oid)
      WHERE touched.classid = 'pg_type'::regclass AND y.oid <> 0
      UNION ALL
      -- What makes values of a range comes with its type.
      SELECT 'pg_proc'::regclass, f.objid::regprocedure::text
      FROM touched CROSS JOIN LATERAL (SELECT rngtypid, rngmultitypid FROM pg_range WHERE rngtypid = objid OFFSET 0) AS g
      CROSS JOIN LATERAL (VALUES (g.rngtypid), (g.rngmultitypid)) AS y(oid)
      CROSS JOIN LATERAL (SELECT objid FROM pg_depend WHERE refclassid = 'pg_type'::regclass AND refobjid = y.oid
                             AND classid = 'pg_proc'::regclass AND deptype = 'i' OFFSET 0) AS f
      WHERE touched.classid = 'pg_type'::regclass) AS t
CROSS JOIN LATERAL (SELECT relation, classid FROM snapsync.dependency WHERE name = t.name AND name IS NOT NULL OFFSET 0) AS d
WHERE d.classid = t.classid
UNION ALL
-- With a key's type PostgreSQL makes the foreign keys of other tables anew that refer to it, and lists none of it, neither as dropped nor as made.
SELECT f.conrelid, 'elsewhere'
FROM (SELECT oid FROM reached UNION SELECT part.oid FROM reached, snapsync.parts(reached.oid) AS part(oid)) AS t
CROSS JOIN LATERAL (SELECT DISTINCT objid FROM pg_depend
                    WHERE refclassid = 'pg_class'::regclass AND refobjid = t.oid AND classid = 'pg_constraint'::regclass OFFSET 0) AS d
CROSS JOIN LATERAL (SELECT oid, conrelid FROM pg_constraint WHERE oid = d.objid AND contype = 'f' AND confrelid = t.oid AND conparentid = 0 OFFSET 0) AS f
CROSS JOIN LATERAL (SELECT FROM snapsync.collection WHERE relation = f.conrelid OFFSET 0) AS c
WHERE CASE WHEN NOT EXISTS (SELECT FROM snapsync.dependency
                            WHERE classid = 'pg_constraint'::regclass AND objid = f.oid AND relation = f.conrelid AND name IS NULL OFFSET 0)
           THEN snapsync.is_seen_here(f.conrelid) END
UNION ALL
