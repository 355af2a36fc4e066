-- What a push must know of table $1 (facts.rs, `Facts`). What is in catalogs is looked up one by one (OFFSET 0), here and in the other statements: a
-- plan that begins with all that others have made may look cheaper to the planner. Bits of tgtype: 1 ROW, 2 BEFORE, 4 INSERT, 8 DELETE, 16 UPDATE, 64 INSTEAD OF.
-- Triggers are those of the table and its partitions, without ours and those of foreign keys; rules count as triggers of every event.
WITH tree AS (
    SELECT relid FROM snapsync.parts($1) AS part(relid)),
own AS (
    SELECT g.tgtype, g.tgdeferrable, g.tginitdeferred
    FROM tree CROSS JOIN LATERAL (SELECT * FROM pg_trigger WHERE tgrelid = tree.relid OFFSET 0) AS g
    WHERE NOT g.tgisinternal AND g.tgenabled <> 'D' AND g.tgfoid <> 'snapsync.track()'::regprocedure),
ruled AS (
    SELECT EXISTS (SELECT FROM tree WHERE EXISTS (SELECT FROM pg_rewrite WHERE ev_class = tree.relid OFFSET 0)) AS r),
-- By the triggers of such keys: no index has confrelid. (They may refer to a partition itself, or be one's.)
foreign_key AS (
    SELECT coalesce(pg_partition_root(f.conrelid)::oid, f.conrelid) AS conrelid, f.confrelid, f.confkey, f.confupdtype
    FROM tree
    CROSS JOIN LATERAL (SELECT DISTINCT tgconstraint FROM pg_trigger WHERE tgrelid = tree.relid AND tgisinternal OFFSET 0) AS g
    CROSS JOIN LATERAL (SELECT * FROM pg_constraint WHERE oid = g.tgconstraint OFFSET 0) AS f
    WHERE f.contype = 'f' AND f.confrelid = tree.relid AND f.conparentid = 0),
-- The trees but for where in a text each part stood. (To write them as SQL would lock the tables that they read, whoever the policies are for.)
policy AS (
    SELECT polpermissive AS permissive, polcmd AS cmd, polroles AS roles, q.tree AS qual, coalesce(c.tree, q.tree) AS test
    FROM pg_policy
         CROSS JOIN LATERAL (SELECT regexp_replace(polqual::text, ':(location|stmt_location|stmt_len) -?[0-9]+', '', 'g')) AS q(tree)
         CROSS JOIN LATERAL (SELECT regexp_replace(polwithcheck::text, ':(location|stmt_location|stmt_len) -?[0-9]+', '', 'g')) AS c(tree)
    WHERE polrelid = $1),
writing AS (
    SELECT * FROM policy WHERE cmd IN ('a', '*')),
reading AS (
    SELECT * FROM policy WHERE cmd IN ('r', '*'))
SELECT json_build_object(
    'referenced_by', (SELECT coalesce(json_agg(DISTINCT conrelid::oid::int8), '[]') FROM foreign_key),
    'needs', (SELECT coalesce(json_agg(DISTINCT coalesce(pg_partition_root(k.confrelid)::oid, k.confrelid)::int8), '[]')
              FROM tree CROSS JOIN LATERAL (SELECT conrelid, confrelid, conkey FROM pg_constraint WHERE conrelid = tree.relid AND contype = 'f' OFFSET 0) AS k
              WHERE NOT EXISTS (SELECT FROM unnest(k.conkey) AS c(attnum)
                                CROSS JOIN LATERAL (SELECT attnotnull FROM pg_attribute WHERE attrelid = k.conrelid AND attnum = c.attnum OFFSET 0) AS a
                                WHERE NOT a.attnotnull)),
    'read_by_policies', (
        SELECT coalesce(json_agg(DISTINCT coalesce(pg_partition_root(d.refobjid)::oid, d.refobjid)::int8), '[]')
        FROM (SELECT oid FROM pg_policy WHERE polrelid = $1 OFFSET 0) AS p
        CROSS JOIN LATERAL (SELECT refobjid FROM pg_depend
                            WHERE classid = 'pg_policy'::regclass AND objid = p.oid AND refclassid = 'pg_class'::regclass OFFSET 0) AS d),
    -- (The key's own columns no update changes.)
    'followed', EXISTS (SELECT FROM foreign_key AS f CROSS JOIN LATERAL unnest(f.confkey) AS k(attnum)
                        CROSS JOIN LATERAL (SELECT attname FROM pg_attribute WHERE attrelid = f.confrelid AND attnum = k.attnum OFFSET 0) AS a
                        WHERE f.confupdtype IN ('c', 'n', 'd')
                          AND a.attname <> ALL (coalesce((SELECT key FROM snapsync.collection WHERE relation = $1), '{}'))),
    'follows', EXISTS (SELECT FROM tree CROSS JOIN LATERAL (SELECT confdeltype, confupdtype FROM pg_constraint WHERE conrelid = tree.relid OFFSET 0) AS k
                       WHERE k.confdeltype IN ('n', 'd') OR k.confupdtype IN ('c', 'n', 'd')),
    'referring', (SELECT coalesce(json_agg(DISTINCT jsonb_build_array(a.attname, coalesce(pg_partition_root(k.confrelid)::oid, k.confrelid)::int8)), '[]')
                  FROM tree CROSS JOIN LATERAL (SELECT conkey, contype, confrelid FROM pg_constraint WHERE conrelid = tree.relid OFFSET 0) AS k
                  CROSS JOIN LATERAL unnest(k.conkey) AS c(attnum)
                  CROSS JOIN LATERAL (SELECT attname FROM pg_attribute WHERE attrelid = tree.relid AND attnum = c.attnum OFFSET 0) AS a
                  WHERE k.contype = 'f'),
    'fires', CASE WHEN (SELECT r FROM ruled) THEN -1 ELSE coalesce((SELECT bit_or(tgtype) FROM own), 0) END,
    'fires_late', coalesce((SELECT bit_or(tgtype) FROM own WHERE tgdeferrable), 0),
    -- (One that waits for the commit finds all there is.)
    'after_rows', coalesce((SELECT bit_or(tgtype) FROM own WHERE tgtype & 67::int2 = 1 AND NOT tginitdeferred), 0),
    'vetoes', CASE WHEN (SELECT r FROM ruled) THEN -1 ELSE coalesce((SELECT bit_or(tgtype) FROM own WHERE tgtype & 3::int2 = 3), 0) END,
    'ruled', (SELECT r FROM ruled),
    -- (A rule of a part's is for who names the part.)
    'instead', (SELECT coalesce(bit_or(CASE ev_type WHEN '2' THEN 16 WHEN '3' THEN 4 WHEN '4' THEN 8 ELSE 0 END), 0)
                FROM pg_rewrite WHERE ev_class = $1 AND is_instead AND ev_enabled IN ('O', 'A')),
    -- Every permissive policy for INSERT has one for SELECT that asks the same of the same roles, and every restrictive one for SELECT
    -- one for INSERT.
    'shows_inserted',
        NOT EXISTS (SELECT FROM writing AS w WHERE permissive AND NOT EXISTS (
            SELECT FROM reading AS r WHERE r.permissive AND r.qual = w.test AND (r.roles @> w.roles OR 0 = ANY (r.roles))))
        AND NOT EXISTS (SELECT FROM reading AS r WHERE NOT permissive AND NOT EXISTS (
            SELECT FROM writing AS w WHERE NOT w.permissive AND r.qual = w.test AND (w.roles @> r.roles OR 0 = ANY (w.roles)))))
