-- The trees that are written as SQL for table $1 (trees.sql, with the same objects), as they are stored, each with the table by whose columns it is written.
WITH read AS MATERIALIZED (SELECT * FROM snapsync.rests_on($1, scopes => true)),
function(oid) AS (
    SELECT objid FROM read WHERE classid = 'pg_proc'::regclass
    UNION
    SELECT k.castfunc
    FROM snapsync.made_of($1) AS m(oid)
    CROSS JOIN LATERAL (SELECT castfunc FROM pg_cast WHERE castsource = m.oid AND casttarget = 'json'::regtype OFFSET 0) AS k)
SELECT p.polqual::text, t.relid::oid
FROM snapsync.parts($1) AS t(relid)
CROSS JOIN LATERAL (SELECT FROM pg_class WHERE oid = t.relid AND (oid = $1 OR relrowsecurity) OFFSET 0) AS k
CROSS JOIN LATERAL (SELECT polqual FROM pg_policy WHERE polrelid = t.relid AND polcmd IN ('*', 'r') AND polqual IS NOT NULL OFFSET 0) AS p
UNION ALL
SELECT w.ev_action::text, NULL
FROM read CROSS JOIN LATERAL (SELECT ev_action FROM pg_rewrite WHERE ev_class = read.objid AND ev_type = '1' OFFSET 0) AS w
WHERE read.classid = 'pg_class'::regclass
UNION ALL
SELECT tree::text, NULL
FROM function CROSS JOIN LATERAL (SELECT prosqlbody, proargdefaults FROM pg_proc WHERE oid = function.oid OFFSET 0) AS f
CROSS JOIN LATERAL (VALUES (f.prosqlbody), (f.proargdefaults)) AS written(tree)
WHERE tree IS NOT NULL
UNION ALL
SELECT e.adbin::text, t.oid
FROM (SELECT objid FROM read WHERE classid = 'pg_class'::regclass UNION SELECT oid FROM snapsync.parts($1) AS part(oid)) AS t(oid)
CROSS JOIN LATERAL (SELECT attnum FROM pg_attribute WHERE attrelid = t.oid AND attgenerated = 'v' AND NOT attisdropped OFFSET 0) AS a
CROSS JOIN LATERAL (SELECT adbin FROM pg_attrdef WHERE adrelid = t.oid AND adnum = a.attnum OFFSET 0) AS e
