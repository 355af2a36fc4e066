-- The columns of table $1 whose types bound.rs can compare. A virtual column (PostgreSQL 18) is not given to triggers.
SELECT json_build_object('name', a.attname, 'attnum', a.attnum)
FROM pg_attribute AS a
JOIN pg_type AS y ON y.oid = a.atttypid
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'
  AND coalesce(nullif(y.typbasetype, 0), y.oid) = ANY ('{uuid,text,varchar,smallint,integer,bigint}'::regtype[])
  AND (a.attcollation = 0 OR EXISTS (SELECT FROM pg_collation AS k WHERE k.oid = a.attcollation AND k.collisdeterministic))
ORDER BY a.attnum
