-- Foreign keys from table $1 and to it that are not known yet not to have been enforced, of tracked tables: $2 all, or those that are `off` now, or made
-- `anew` without a word in the place of one that was not enforced (its name is known, and its Oid is nobody's any more); with each table that has the key
-- or whose policies may follow it: this one, the key, is it the table's own, the key's name, the tables at both ends, and does the former read the latter.
WITH key AS MATERIALIZED (
    SELECT f.oid, f.conname, f.conrelid, f.confrelid
    FROM (SELECT oid FROM pg_constraint WHERE conrelid = $1 AND contype = 'f'
          UNION
          SELECT objid FROM pg_depend WHERE classid = 'pg_constraint'::regclass AND refclassid = 'pg_class'::regclass AND refobjid = $1) AS c
    JOIN pg_constraint AS f ON f.oid = c.oid AND f.contype = 'f'
    JOIN snapsync.collection AS k ON k.relation = f.conrelid
    WHERE f.conparentid = 0 AND NOT snapsync.was_unenforced(f.oid)
      AND CASE $2
          WHEN 'off' THEN EXISTS (SELECT FROM snapsync.keys_off(f.oid))
          WHEN 'anew' THEN
              CASE WHEN jsonb_typeof(k.shape -> 'unenforced') = 'array' AND k.shape -> 'unenforced_names' ? f.conname::text
                   THEN EXISTS (SELECT FROM jsonb_array_elements_text(k.shape -> 'unenforced') AS was(oid)
                                WHERE NOT EXISTS (SELECT FROM pg_constraint WHERE oid = was.oid::oid OFFSET 0)) ELSE false END
              OR EXISTS (SELECT FROM (SELECT objid, classid, own, owner FROM snapsync.dependency
                                      WHERE relation = f.conrelid AND name = 'unenforced' OFFSET 0) AS d
                         WHERE d.classid = 'pg_constraint'::regclass AND d.own AND substr(d.owner, strpos(d.owner, ' ') + 1) = f.conname::text
                           AND NOT EXISTS (SELECT FROM pg_constraint WHERE oid = d.objid OFFSET 0))
          ELSE true END)
SELECT key.conrelid AS relation, key.oid, true, key.conname, key.conrelid, key.confrelid,
       EXISTS (SELECT FROM snapsync.access AS a WHERE a.relation = key.conrelid AND a.access = key.confrelid)
FROM key
UNION ALL
SELECT a.relation::oid, key.oid, false, key.conname, key.conrelid, key.confrelid, true
FROM key CROSS JOIN LATERAL (SELECT relation FROM snapsync.access WHERE access = key.confrelid OFFSET 0) AS a
JOIN snapsync.collection AS c ON c.relation = a.relation
WHERE a.relation <> key.conrelid
  AND EXISTS (SELECT FROM snapsync.access AS b WHERE b.relation = a.relation AND b.access = key.conrelid)
ORDER BY 1, 2
