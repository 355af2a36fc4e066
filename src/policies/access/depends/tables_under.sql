-- The tables that view $1 reads, or that the policies of table $1 do, with those that inherit from them; for who reads $1 with other rights
-- than the caller's. Not the system's, nor our own.
WITH RECURSIVE read AS (
    SELECT objid FROM snapsync.rests_on($1, indirectly => true) WHERE classid = 'pg_class'::regclass),
tree(oid) AS (
    SELECT * FROM read
    UNION
    SELECT i.inhrelid FROM tree JOIN pg_inherits AS i ON i.inhparent = tree.oid JOIN pg_class AS p ON p.oid = i.inhparent AND p.relkind = 'r'
    JOIN pg_class AS child ON child.oid = i.inhrelid AND child.relpersistence <> 't')
SELECT tree.oid FROM tree JOIN pg_class AS t ON t.oid = tree.oid
WHERE t.relkind IN ('r', 'p') AND t.relnamespace::regnamespace::text <> ALL ('{snapsync,pg_catalog,information_schema}')
