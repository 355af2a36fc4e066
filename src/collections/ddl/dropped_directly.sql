-- Has the command dropped a part of table $1 (a column, a key) itself, and not for the sake of something else? Not by CASCADE, that is.
SELECT 1
FROM pg_event_trigger_dropped_objects() AS o
WHERE o.original
  AND (EXISTS (SELECT FROM snapsync.dependency AS d WHERE d.classid = o.classid AND d.objid = o.objid AND d.relation = $1 AND d.own)
       OR o.classid = 'pg_class'::regclass AND o.objid = $1)
LIMIT 1
