-- A row where column $2 of table $1 is NOT NULL, and no row of before is excepted from that (analysis.rs).
SELECT 1 FROM pg_attribute AS a WHERE attrelid = $1 AND attnum = $2 AND attnotnull
AND NOT EXISTS (SELECT FROM pg_constraint AS n WHERE n.contype = 'n' AND n.conrelid = attrelid AND n.conkey = ARRAY[attnum] AND NOT n.convalidated OFFSET 0)
