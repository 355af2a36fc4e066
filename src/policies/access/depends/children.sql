-- The tables that inherit from table $1, at any depth. (Temporary ones count in their own session only.)
WITH RECURSIVE tree(oid) AS (
    SELECT $1 UNION
    SELECT i.inhrelid FROM tree CROSS JOIN LATERAL (SELECT FROM pg_class WHERE oid = tree.oid AND relkind = 'r' OFFSET 0) AS p
    CROSS JOIN LATERAL (SELECT inhrelid FROM pg_inherits WHERE inhparent = tree.oid OFFSET 0) AS i
    CROSS JOIN LATERAL (SELECT FROM pg_class WHERE oid = i.inhrelid AND relpersistence <> 't' OFFSET 0) AS child)
SELECT oid FROM tree WHERE oid <> $1
