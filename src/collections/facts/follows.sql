-- The tables to which keys of table $1, or of parts of it, refer (roots of partitions), as far as columns of $1 change by these keys: where a row is deleted, and where one is updated. (Of a
-- collection's own key no update changes columns.)
SELECT r.oid, bool_or(f.confdeltype IN ('n', 'd')),
       bool_or(f.confupdtype IN ('c', 'n', 'd') AND EXISTS (
           SELECT FROM unnest(f.confkey) AS k(attnum)
           CROSS JOIN LATERAL (SELECT attname FROM pg_attribute WHERE attrelid = f.confrelid AND attnum = k.attnum OFFSET 0) AS a
           WHERE a.attname <> ALL (coalesce((SELECT key FROM snapsync.collection WHERE relation = r.oid), '{}'))))
FROM snapsync.parts($1) AS tree(relid)
CROSS JOIN LATERAL (SELECT * FROM pg_constraint WHERE conrelid = tree.relid AND contype = 'f' OFFSET 0) AS f
CROSS JOIN LATERAL (SELECT coalesce(pg_partition_root(f.confrelid)::oid, f.confrelid)) AS r(oid)
WHERE f.confdeltype IN ('n', 'd') OR f.confupdtype IN ('c', 'n', 'd')
GROUP BY r.oid
