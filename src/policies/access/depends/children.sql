-- The tables that inherit from one of the tables $1, at any depth. (Temporary ones count in their own session only.)
WITH RECURSIVE tree(oid, is_below) AS (
    SELECT named.oid, false FROM unnest($1::oid[]) AS named(oid)
    UNION
    SELECT i.inhrelid, true FROM tree CROSS JOIN LATERAL (SELECT FROM pg_class WHERE oid = tree.oid AND relkind = 'r' OFFSET 0) AS p
    CROSS JOIN LATERAL (SELECT inhrelid FROM pg_inherits WHERE inhparent = tree.oid OFFSET 0) AS i
    CROSS JOIN LATERAL (SELECT FROM pg_class WHERE oid = i.inhrelid AND relpersistence <> 't' OFFSET 0) AS child)
SELECT oid FROM tree WHERE is_below
