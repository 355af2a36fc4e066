-- The columns of table $1 whose types bound.rs can compare. A virtual column (PostgreSQL 18) is not given to triggers.
SELECT json_build_object('name', a.attname, 'attnum', a.attnum)
FROM (SELECT * FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped AND attgenerated <> 'v' OFFSET 0) AS a
CROSS JOIN LATERAL (SELECT oid, typbasetype FROM pg_type WHERE oid = a.atttypid OFFSET 0) AS y
WHERE coalesce(nullif(y.typbasetype, 0), y.oid) = ANY ('{uuid,text,varchar,smallint,integer,bigint}'::regtype[])
  AND (a.attcollation = 0 OR EXISTS (SELECT FROM pg_collation AS k WHERE k.oid = a.attcollation AND k.collisdeterministic OFFSET 0))
ORDER BY a.attnum
