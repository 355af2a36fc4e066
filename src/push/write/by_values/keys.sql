-- The keys within the tables $1 (by_values.rs, `ValueKey`), each looked up by its table (OFFSET 0), as in facts.sql. Of partitions those of the root. What excludes by other operators, by
-- expressions, or some rows only, is no key: rows of one room would all be tied to each other.
SELECT json_build_object('child', c.conrelid::int8, 'parent', CASE c.contype WHEN 'f' THEN c.confrelid ELSE c.conrelid END::int8,
    'columns', own.names, 'referenced', CASE c.contype WHEN 'f' THEN referenced.names ELSE own.names END, 'unique', c.contype <> 'f',
    'cascades', c.confdeltype = 'c', 'filled', coalesce(own.filled, '[]'), 'filled_there', coalesce(referenced.filled, '[]'),
    'numbers', own.numbers, 'numbers_there', CASE c.contype WHEN 'f' THEN referenced.numbers ELSE own.numbers END)
FROM (SELECT * FROM pg_constraint WHERE conrelid = ANY ($1) OFFSET 0) AS c
CROSS JOIN LATERAL (SELECT json_agg(attname ORDER BY k.n) AS names, json_agg(k.attnum ORDER BY k.n) AS numbers, json_agg(attname) FILTER (WHERE atthasdef OR attidentity <> '') AS filled
                    FROM unnest(c.conkey) WITH ORDINALITY AS k(attnum, n)
                    JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.attnum) AS own
CROSS JOIN LATERAL (SELECT json_agg(attname ORDER BY k.n) AS names, json_agg(k.attnum ORDER BY k.n) AS numbers, json_agg(attname) FILTER (WHERE atthasdef OR attidentity <> '') AS filled
                    FROM unnest(c.confkey) WITH ORDINALITY AS k(attnum, n)
                    JOIN pg_attribute AS a ON a.attrelid = c.confrelid AND a.attnum = k.attnum) AS referenced
WHERE c.contype = 'f' AND c.confrelid = ANY ($1)
   OR c.contype IN ('u', 'p', 'x') AND 0 <> ALL (c.conkey)
      AND NOT EXISTS (SELECT FROM unnest(c.conexclop) AS e(operator) JOIN pg_operator AS o ON o.oid = e.operator WHERE o.oprname <> '=')
      AND NOT EXISTS (SELECT FROM pg_index WHERE indexrelid = c.conindid AND indpred IS NOT NULL)
ORDER BY c.oid
