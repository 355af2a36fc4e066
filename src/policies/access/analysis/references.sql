-- A row where column $3 of table $1 has a foreign key to column $4 of table $2 that has always been enforced, and takes its rows along (analysis.rs).
WITH kept AS MATERIALIZED (SELECT * FROM snapsync.kept_by($1))
SELECT 1 FROM kept CROSS JOIN pg_constraint AS f JOIN pg_attribute AS a ON a.attrelid = $2 AND a.attnum = $4
         JOIN pg_type AS y ON y.oid = a.atttypid
WHERE contype = 'f' AND convalidated AND conrelid = $1 AND confrelid = $2
AND conkey = ARRAY[$3] AND confkey = ARRAY[$4]
AND coalesce(nullif(y.typbasetype, 0), y.oid) = ANY ('{uuid,text,varchar,smallint,integer,bigint}'::regtype[])
AND (a.attcollation = 0 OR EXISTS (SELECT FROM pg_collation AS k WHERE k.oid = a.attcollation AND k.collisdeterministic))
AND coalesce((SELECT c.key FROM snapsync.collection AS c WHERE c.relation = $2 AND c.key <> '{}'),
             (SELECT array_agg(k.attname) FROM pg_index AS i
                JOIN pg_attribute AS k ON k.attrelid = i.indrelid AND k.attnum = ANY (i.indkey)
               WHERE i.indrelid = $2 AND i.indisprimary)) = ARRAY[a.attname]
AND NOT EXISTS (SELECT FROM snapsync.keys_off(f.oid))
-- (What was once is remembered of whole tables, and of what is a key of theirs.)
AND NOT EXISTS (SELECT FROM pg_class AS p WHERE p.oid IN ($1, $2) AND p.relispartition)
AND NOT snapsync.can_keep_rows(f.confdeltype, f.confupdtype, kept.deletes, kept.updates)
AND NOT snapsync.was_unenforced(f.oid)
AND NOT EXISTS (SELECT FROM pg_inherits JOIN pg_class AS p ON p.oid = inhparent WHERE inhparent = $2 AND p.relkind = 'r')
AND NOT EXISTS (SELECT FROM pg_subscription AS s JOIN pg_database AS d ON d.oid = s.subdbid WHERE d.datname = current_database())
