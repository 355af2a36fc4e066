-- The columns of table $1 whose old values are logged; $2: a policy reads its rows as a whole (image.rs).
WITH tree(relid) AS (SELECT * FROM snapsync.parts($1)),
     -- (Of a table that is not synced any more such a row may be left: registry.rs, `forget`.)
     access AS (SELECT a.relation, a.whole, a.columns FROM snapsync.access AS a JOIN snapsync.collection AS c ON c.relation = a.relation WHERE a.access = $1 AND NOT a.untracked),
     reader AS (SELECT relid FROM tree UNION SELECT relation FROM access),
     policy AS (SELECT p.oid FROM reader CROSS JOIN LATERAL (SELECT oid FROM pg_policy WHERE polrelid = reader.relid OFFSET 0) AS p),
     reading AS (SELECT a.attname FROM policy AS p
                 CROSS JOIN LATERAL (SELECT refobjid, refobjsubid FROM pg_depend
                                      WHERE classid = 'pg_policy'::regclass AND objid = p.oid AND refclassid = 'pg_class'::regclass OFFSET 0) AS d
                 JOIN tree ON tree.relid = d.refobjid
                 CROSS JOIN LATERAL (SELECT attname FROM pg_attribute WHERE attrelid = d.refobjid AND attnum = d.refobjsubid OFFSET 0) AS a),
     read AS (SELECT EXISTS (SELECT FROM reading)
                     OR EXISTS (SELECT FROM access) AS r),
     whole AS (SELECT $2 OR EXISTS (SELECT FROM access AS x WHERE x.whole) AS w)
SELECT a.attname FROM pg_attribute AS a, snapsync.collection AS c, whole, read
WHERE c.relation = $1 AND a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
  AND (w OR a.attname IN (SELECT attname FROM reading) OR EXISTS (SELECT FROM access WHERE a.attname = ANY (access.columns)) OR a.attname IN (c.scope_column, c.found_scope) OR a.attname = c.soft_delete_column
    OR a.attname = ANY (c.key) AND (r OR c.scope_column IS NOT NULL OR c.found_scope IS NOT NULL OR c.soft_delete_column IS NOT NULL))
ORDER BY a.attnum
