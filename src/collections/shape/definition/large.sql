-- A row where what trees.sql would write out as SQL for table $1 is longer than $2 bytes, as it is stored.
WITH read AS MATERIALIZED (SELECT * FROM snapsync.rests_on($1))
SELECT 1
WHERE (SELECT sum(octet_length(tree))
       FROM (SELECT p.polqual::text
             FROM snapsync.parts($1) AS part(oid)
             CROSS JOIN LATERAL (SELECT polqual FROM pg_policy WHERE polrelid = part.oid AND polcmd IN ('*', 'r') OFFSET 0) AS p
             UNION ALL
             SELECT w.ev_action::text
             FROM read CROSS JOIN LATERAL (SELECT ev_action FROM pg_rewrite WHERE ev_class = read.objid AND ev_type = '1' OFFSET 0) AS w
             WHERE read.classid = 'pg_class'::regclass
             UNION ALL
             SELECT f.prosqlbody::text
             FROM read CROSS JOIN LATERAL (SELECT prosqlbody FROM pg_proc WHERE oid = read.objid OFFSET 0) AS f
             WHERE read.classid = 'pg_proc'::regclass) AS trees(tree)) > $2
