-- What an app must know of the collection that table $1 is (versions.rs, `Document`), and whether it is what is known as its last version.
SELECT c.name, d.document::text,
       d.document IS DISTINCT FROM (SELECT v.document FROM snapsync.schema_version AS v WHERE v.name = c.name
                                    ORDER BY v.version DESC NULLS FIRST, v.ord DESC LIMIT 1)
FROM snapsync.collection AS c
CROSS JOIN LATERAL (SELECT jsonb_build_object(
    'key', c.key,
    'columns', (SELECT coalesce(json_agg(json_build_object(
                    'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod), 'nullable', NOT (a.attnotnull OR base.not_null),
                    'readonly', a.attname = ANY (c.readonly) OR a.attgenerated <> '' OR a.attidentity = 'a',
                    'watermelondb', CASE WHEN base.oid = 'bool'::regtype THEN 'boolean'
                                         WHEN base.oid = ANY ('{int2,int4,int8,float4,float8,numeric,date,timestamp,timestamptz}'::regtype[])
                                         THEN 'number' ELSE 'string' END) ORDER BY a.attnum), '[]')
                FROM pg_attribute AS a
                CROSS JOIN LATERAL (
                    WITH RECURSIVE under(oid) AS (
                        SELECT a.atttypid
                        UNION ALL SELECT y.typbasetype
                        FROM under CROSS JOIN LATERAL (SELECT typbasetype FROM pg_type WHERE oid = under.oid OFFSET 0) AS y WHERE y.typbasetype <> 0)
                    SELECT max(y.oid) FILTER (WHERE y.typbasetype = 0) AS oid, bool_or(y.typnotnull) AS not_null
                    FROM under CROSS JOIN LATERAL (SELECT oid, typbasetype, typnotnull FROM pg_type WHERE oid = under.oid OFFSET 0) AS y) AS base
                WHERE a.attrelid = c.relation AND a.attnum > 0 AND NOT a.attisdropped
                  AND (a.attname = ANY (c.key) OR (c.columns IS NULL OR a.attname = ANY (c.columns)) AND a.attname <> ALL (c.exclude))),
    'references', (SELECT coalesce(json_agg(json_build_object(
                       'columns', (SELECT json_agg(a.attname ORDER BY k.n) FROM unnest(f.conkey) WITH ORDINALITY AS k(attnum, n)
                                   CROSS JOIN LATERAL (SELECT attname FROM pg_attribute WHERE attrelid = f.conrelid AND attnum = k.attnum OFFSET 0) AS a),
                       'table', format('%I.%I', n.nspname, r.relname),
                       'to', (SELECT json_agg(a.attname ORDER BY k.n) FROM unnest(f.confkey) WITH ORDINALITY AS k(attnum, n)
                              CROSS JOIN LATERAL (SELECT attname FROM pg_attribute WHERE attrelid = f.confrelid AND attnum = k.attnum OFFSET 0) AS a)) ORDER BY f.conname), '[]')
                   FROM (SELECT * FROM pg_constraint WHERE conrelid = c.relation OFFSET 0) AS f
                   CROSS JOIN LATERAL (SELECT relname, relnamespace FROM pg_class WHERE oid = f.confrelid OFFSET 0) AS r
                   CROSS JOIN LATERAL (SELECT nspname FROM pg_namespace WHERE oid = r.relnamespace OFFSET 0) AS n
                   WHERE f.contype = 'f' AND f.conparentid = 0))) AS d(document)
WHERE c.relation = $1 AND c.name IS NOT NULL
