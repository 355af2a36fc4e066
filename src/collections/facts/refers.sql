-- The foreign keys of the tables $1, or of parts of them, with the table that each refers to (the root of a partition). A part without one counts, too: $2 rows
-- at most are looked for.
SELECT t.oid, coalesce(pg_partition_root(f.confrelid)::oid, f.confrelid)
FROM unnest($1) AS t(oid) CROSS JOIN LATERAL snapsync.parts(t.oid) AS tree(relid)
LEFT JOIN LATERAL (SELECT confrelid FROM pg_constraint WHERE conrelid = tree.relid AND contype = 'f' AND conparentid = 0 OFFSET 0) AS f ON true
LIMIT $2
