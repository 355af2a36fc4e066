-- Foreign keys from table $1 and to it that are not known yet not to have been enforced, of tracked tables, and of those that have marks: $2 all, or those
-- that are `off` now, or made `anew` without a word in the place of one that was not enforced (its name is known, and its Oid is nobody's any more); with each table that has the key
-- or whose policies may follow it: this one, the key, is it the table's own, the key's name, the tables at both ends, and does the former read the latter.
WITH key AS MATERIALIZED (
    SELECT f.oid, f.conname, f.conrelid, f.confrelid
    -- (Those of others by their triggers here: all that is made upon the table depends on it, the views of strangers, too.)
    FROM (SELECT oid FROM pg_constraint WHERE conrelid = $1 AND contype = 'f'
          UNION
          SELECT tgconstraint FROM pg_trigger WHERE tgrelid = $1 AND tgisinternal) AS c
    CROSS JOIN LATERAL (SELECT * FROM pg_constraint WHERE oid = c.oid OFFSET 0) AS f
    LEFT JOIN LATERAL (SELECT true AS is_tracked, shape FROM snapsync.collection WHERE relation = f.conrelid OFFSET 0) AS k ON true
    WHERE (k.is_tracked OR $2 = 'anew') AND f.contype = 'f' AND f.conparentid = 0 AND NOT snapsync.was_unenforced(f.oid)
      AND CASE $2
          WHEN 'off' THEN EXISTS (SELECT FROM snapsync.keys_off(f.oid))
          WHEN 'anew' THEN
              -- (The name that is known is of before, if nobody could look since.)
              CASE WHEN jsonb_typeof(k.shape -> 'unenforced') = 'array'
                        AND (k.shape -> 'unenforced_names' ? f.conname::text
                             OR EXISTS (SELECT FROM snapsync.dependency WHERE relation = f.conrelid AND classid = 0 OFFSET 0))
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
CROSS JOIN LATERAL (SELECT FROM snapsync.collection WHERE relation = a.relation OFFSET 0) AS c
WHERE a.relation <> key.conrelid
  AND EXISTS (SELECT FROM snapsync.access AS b WHERE b.relation = a.relation AND b.access = key.conrelid)
ORDER BY 1, 2
