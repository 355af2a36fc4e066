-- A row where a unique index of table $1 has exactly the columns $2: not partial, not deferrable, without expressions.
SELECT 1 FROM pg_index AS i WHERE i.indrelid = $1 AND i.indisunique AND i.indimmediate AND i.indisvalid
AND i.indpred IS NULL AND i.indexprs IS NULL
AND (SELECT array_agg(a.attname ORDER BY a.attname) FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n)
     CROSS JOIN LATERAL (SELECT attname FROM pg_attribute WHERE attrelid = i.indrelid AND attnum = k.attnum OFFSET 0) AS a WHERE k.n <= i.indnkeyatts)
  = (SELECT array_agg(k ORDER BY k) FROM unnest($2::name[]) AS k)
