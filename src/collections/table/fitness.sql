-- What decides whether table $1 can be synced (table.rs, `Fitness`). Not by pg_partition_tree(), which sees what is there now, whatever the
-- snapshot.
WITH RECURSIVE part(oid) AS (
    SELECT $1 UNION SELECT i.inhrelid FROM part JOIN pg_inherits AS i ON i.inhparent = part.oid),
parts AS (
    SELECT p.* FROM part JOIN pg_class AS p ON p.oid = part.oid)
SELECT json_build_object(
    'kind', relkind,
    'persistence', relpersistence,
    'partition', relispartition,
    'inherited', relkind = 'r' AND EXISTS (SELECT FROM pg_inherits AS i JOIN pg_class AS k ON k.oid = i.inhrelid
                                             WHERE i.inhparent = c.oid AND k.relpersistence <> 't'),
    'inherits', EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid) AND NOT relispartition,
    'other_method', EXISTS (SELECT FROM parts AS p JOIN pg_am AS m ON m.oid = p.relam WHERE p.relkind = 'r' AND m.amname <> 'heap'),
    'unlogged_part', EXISTS (SELECT FROM parts AS p WHERE p.relpersistence = 'u' AND p.relispartition),
    'foreign_part', EXISTS (SELECT FROM parts AS p WHERE p.relkind = 'f' AND p.relispartition))
FROM pg_class AS c WHERE oid = $1
