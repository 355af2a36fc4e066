-- The tables that the views among $1 read, or the policies of the tables among $1, with these and those that inherit from them; for who reads $1 with
-- other rights than the caller's. Not the system's, nor our own.
WITH RECURSIVE read AS (
    SELECT objid FROM snapsync.rests_on(NULL, indirectly => $1) WHERE classid = 'pg_class'::regclass),
tree(oid) AS (
    SELECT * FROM read
    UNION
    SELECT i.inhrelid FROM tree CROSS JOIN LATERAL (SELECT FROM pg_class WHERE oid = tree.oid AND relkind = 'r' OFFSET 0) AS p
    CROSS JOIN LATERAL (SELECT inhrelid FROM pg_inherits WHERE inhparent = tree.oid OFFSET 0) AS i
    CROSS JOIN LATERAL (SELECT FROM pg_class WHERE oid = i.inhrelid AND relpersistence <> 't' OFFSET 0) AS child)
SELECT tree.oid FROM tree CROSS JOIN LATERAL (SELECT relkind, relnamespace FROM pg_class WHERE oid = tree.oid OFFSET 0) AS t
WHERE t.relkind IN ('r', 'p') AND t.relnamespace::regnamespace::text <> ALL ('{snapsync,pg_catalog,information_schema}')
