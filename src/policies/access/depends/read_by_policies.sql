-- The tables that policies of table $1 rest on (depends.rs, `Read`), with those that inherit from them. Not the system's, nor our own.
WITH RECURSIVE read AS (
    SELECT objid, direct, in_function FROM snapsync.rests_on($1) WHERE classid = 'pg_class'::regclass AND (objid <> $1 OR NOT direct)),
tree(oid, direct, in_function) AS (
    SELECT * FROM read
    UNION
    SELECT i.inhrelid, false, in_function FROM tree JOIN pg_inherits AS i ON i.inhparent = tree.oid
    JOIN pg_class AS p ON p.oid = i.inhparent AND p.relkind = 'r'
    JOIN pg_class AS child ON child.oid = i.inhrelid AND child.relpersistence <> 't')
SELECT json_build_object('oid', tree.oid::int8, 'direct', direct, 'in_function', in_function)
FROM tree JOIN pg_class AS c ON c.oid = $1 AND c.relrowsecurity JOIN pg_class AS t ON t.oid = tree.oid
WHERE t.relnamespace::regnamespace::text <> ALL ('{snapsync,pg_catalog,information_schema}')
