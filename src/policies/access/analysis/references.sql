-- The columns of table $1 with a foreign key to a column of table $2 that has always been enforced, and takes its rows along, each with that column
-- (analysis.rs). What kept_by() says of table $1 are $3 and $4.
SELECT f.conkey[1]::bigint, f.confkey[1]::bigint
FROM (SELECT * FROM pg_constraint WHERE conrelid = $1 AND contype = 'f' OFFSET 0) AS f
CROSS JOIN LATERAL (SELECT * FROM pg_attribute WHERE attrelid = $2 AND attnum = f.confkey[1] OFFSET 0) AS a
CROSS JOIN LATERAL (SELECT oid, typbasetype FROM pg_type WHERE oid = a.atttypid OFFSET 0) AS y
WHERE f.convalidated AND f.confrelid = $2
AND cardinality(f.conkey) = 1
AND coalesce(nullif(y.typbasetype, 0), y.oid) = ANY ('{uuid,text,varchar,smallint,integer,bigint}'::regtype[])
AND (a.attcollation = 0 OR EXISTS (SELECT FROM pg_collation AS k WHERE k.oid = a.attcollation AND k.collisdeterministic OFFSET 0))
AND coalesce((SELECT c.key FROM snapsync.collection AS c WHERE c.relation = $2 AND c.key <> '{}'),
             (SELECT array_agg(k.attname)
              FROM (SELECT indkey FROM pg_index WHERE indrelid = $2 AND indisprimary OFFSET 0) AS i
              CROSS JOIN LATERAL (SELECT attname FROM pg_attribute WHERE attrelid = $2 AND attnum = ANY (i.indkey) OFFSET 0) AS k)) = ARRAY[a.attname]
AND NOT EXISTS (SELECT FROM snapsync.keys_off(f.oid))
-- (What was once is remembered of whole tables, and of what is a key of theirs.)
AND NOT EXISTS (SELECT FROM pg_class AS p WHERE p.oid IN ($1, $2) AND p.relispartition OFFSET 0)
AND NOT snapsync.can_keep_rows(f.confdeltype, f.confupdtype, $3, $4)
AND NOT snapsync.was_unenforced(f.oid)
AND NOT (EXISTS (SELECT FROM pg_inherits WHERE inhparent = $2 OFFSET 0) AND (SELECT relkind FROM pg_class WHERE oid = $2) = 'r')
AND NOT EXISTS (SELECT FROM pg_subscription AS s JOIN pg_database AS d ON d.oid = s.subdbid WHERE d.datname = current_database())
