-- Foreign keys from table $1 and to it that are not known yet not to have been enforced, of tracked tables; if $2, those alone that are not enforced
-- now; with each table that has the key
-- or whose policies may follow it: this one, the key, is it the table's own, the key's name, the tables at both ends, and does the former read the latter.
WITH key AS MATERIALIZED (
    SELECT f.oid, f.conname, f.conrelid, f.confrelid
    -- (By their triggers: all that is made upon the table depends on it, the views of strangers, too.)
    FROM (SELECT DISTINCT tgconstraint AS oid FROM pg_trigger WHERE tgrelid = $1 AND tgisinternal) AS c
    CROSS JOIN LATERAL (SELECT * FROM pg_constraint WHERE oid = c.oid OFFSET 0) AS f
    CROSS JOIN LATERAL (SELECT FROM snapsync.collection WHERE relation = f.conrelid OFFSET 0) AS k
    WHERE f.contype = 'f' AND f.conparentid = 0 AND NOT snapsync.was_unenforced(f.oid) AND (NOT $2 OR EXISTS (SELECT FROM snapsync.keys_off(f.oid))))
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
