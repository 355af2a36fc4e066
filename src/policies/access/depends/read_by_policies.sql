-- The tables that policies of table $1 rest on (depends.rs, `Read`), with those that inherit from them. Not the system's, nor our own.
WITH RECURSIVE read AS (
    SELECT objid, direct, in_function FROM snapsync.rests_on($1) WHERE classid = 'pg_class'::regclass AND (objid <> $1 OR NOT direct)),
tree(oid, direct, in_function) AS (
    SELECT * FROM read
    UNION
    SELECT i.inhrelid, false, in_function FROM tree CROSS JOIN LATERAL (SELECT FROM pg_class WHERE oid = tree.oid AND relkind = 'r' OFFSET 0) AS p
    CROSS JOIN LATERAL (SELECT inhrelid FROM pg_inherits WHERE inhparent = tree.oid OFFSET 0) AS i
    CROSS JOIN LATERAL (SELECT FROM pg_class WHERE oid = i.inhrelid AND relpersistence <> 't' OFFSET 0) AS child)
SELECT json_build_object('oid', tree.oid::int8, 'direct', direct, 'in_function', in_function)
FROM tree CROSS JOIN LATERAL (SELECT relkind, relnamespace FROM pg_class WHERE oid = tree.oid OFFSET 0) AS t
WHERE t.relkind IN ('r', 'p') AND (SELECT relrowsecurity FROM pg_class WHERE oid = $1) AND t.relnamespace::regnamespace::text <> ALL ('{snapsync,pg_catalog,information_schema}')
