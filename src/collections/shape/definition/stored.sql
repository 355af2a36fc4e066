-- The trees that are written as SQL for table $1 (trees.sql), as they are stored.
WITH read AS MATERIALIZED (SELECT * FROM snapsync.rests_on($1, scopes => true))
SELECT p.polqual::text
FROM snapsync.parts($1) AS t(relid)
CROSS JOIN LATERAL (SELECT polqual FROM pg_policy WHERE polrelid = t.relid AND polcmd IN ('*', 'r') AND polqual IS NOT NULL OFFSET 0) AS p
UNION ALL
SELECT w.ev_action::text
FROM read CROSS JOIN LATERAL (SELECT ev_action FROM pg_rewrite WHERE ev_class = read.objid AND ev_type = '1' OFFSET 0) AS w
WHERE read.classid = 'pg_class'::regclass
UNION ALL
SELECT f.prosqlbody::text
FROM read CROSS JOIN LATERAL (SELECT prosqlbody FROM pg_proc WHERE oid = read.objid AND prosqlbody IS NOT NULL OFFSET 0) AS f
WHERE read.classid = 'pg_proc'::regclass
