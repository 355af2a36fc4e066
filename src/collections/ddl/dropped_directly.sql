-- Has the command dropped a part of table $1 (a column, a key) itself, and not for the sake of something else? Not by CASCADE, that is.
SELECT 1
FROM pg_event_trigger_dropped_objects() AS o
CROSS JOIN LATERAL (SELECT FROM snapsync.dependency AS d
                    WHERE d.classid = o.classid AND d.objid = o.objid AND d.relation = $1 AND d.own OFFSET 0) AS d
WHERE o.original LIMIT 1
