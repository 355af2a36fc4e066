-- The trees that are written as SQL for table $1 (trees.sql), as they are stored.
WITH read AS MATERIALIZED (SELECT * FROM snapsync.rests_on($1, scopes => true))
SELECT p.polqual::text
FROM snapsync.parts($1) AS t(relid)
CROSS JOIN LATERAL (SELECT polqual FROM pg_policy WHERE polrelid = t.relid AND polcmd IN ('*', 'r') AND polqual IS NOT NULL OFFSET 0) AS p
UNION ALL
SELECT w.ev_action::text
FROM read JOIN pg_rewrite AS w ON w.ev_class = read.objid AND w.ev_type = '1'
WHERE read.classid = 'pg_class'::regclass
UNION ALL
SELECT f.prosqlbody::text
FROM read JOIN pg_proc AS f ON f.oid = read.objid AND f.prosqlbody IS NOT NULL
WHERE read.classid = 'pg_proc'::regclass
