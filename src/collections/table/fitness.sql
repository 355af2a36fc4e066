-- What decides whether table $1 can be synced (table.rs, `Fitness`). Not by pg_partition_tree(), which sees what is there now, whatever the
-- snapshot.
WITH RECURSIVE part(oid) AS (
    SELECT $1 UNION SELECT i.inhrelid FROM part CROSS JOIN LATERAL (SELECT inhrelid FROM pg_inherits WHERE inhparent = part.oid OFFSET 0) AS i),
parts AS (
    SELECT p.* FROM part CROSS JOIN LATERAL (SELECT * FROM pg_class WHERE oid = part.oid OFFSET 0) AS p)
SELECT json_build_object(
    'kind', relkind,
    'persistence', relpersistence,
    'partition', relispartition,
    'inherited', relkind = 'r' AND EXISTS (SELECT FROM (SELECT inhrelid FROM pg_inherits WHERE inhparent = c.oid OFFSET 0) AS i
                                             CROSS JOIN LATERAL (SELECT relpersistence FROM pg_class WHERE oid = i.inhrelid OFFSET 0) AS k
                                             WHERE k.relpersistence <> 't'),
    'inherits', EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid) AND NOT relispartition,
    'other_method', EXISTS (SELECT FROM parts AS p JOIN pg_am AS m ON m.oid = p.relam WHERE p.relkind = 'r' AND m.amname <> 'heap'),
    'unlogged_part', EXISTS (SELECT FROM parts AS p WHERE p.relpersistence = 'u' AND p.relispartition),
    'foreign_part', EXISTS (SELECT FROM parts AS p WHERE p.relkind = 'f' AND p.relispartition))
FROM pg_class AS c WHERE oid = $1
