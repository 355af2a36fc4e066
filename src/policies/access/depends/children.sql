-- The tables that inherit from table $1, at any depth. (Temporary ones count in their own session only.)
WITH RECURSIVE tree(oid) AS (
    SELECT $1 UNION
    SELECT i.inhrelid FROM tree JOIN pg_inherits AS i ON i.inhparent = tree.oid JOIN pg_class AS p ON p.oid = i.inhparent AND p.relkind = 'r'
    JOIN pg_class AS child ON child.oid = i.inhrelid AND child.relpersistence <> 't')
SELECT oid FROM tree WHERE oid <> $1
