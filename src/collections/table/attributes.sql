-- The columns of table $1 (table.rs, `Attribute`). OFFSET 0: looked up by index for each column, not hashed, which would read all
-- constraints of the database.
SELECT json_build_object(
    'name', attname,
    'not_null', attnotnull AND NOT EXISTS (SELECT FROM pg_constraint AS n WHERE n.contype = 'n' AND n.conrelid = attrelid
                                              AND n.conkey = ARRAY[attnum] AND NOT n.convalidated OFFSET 0),
    'type_oid', atttypid::int8,
    'type_name', format_type(atttypid, atttypmod),
    'deterministic', NOT EXISTS (SELECT FROM pg_collation AS l WHERE l.oid = attcollation AND NOT l.collisdeterministic OFFSET 0),
    'divides', EXISTS (SELECT FROM pg_partitioned_table AS d WHERE d.partrelid = attrelid AND attnum = ANY (d.partattrs) OFFSET 0),
    'is_virtual', attgenerated = 'v')
FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum
