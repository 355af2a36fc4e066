-- Goes after one of the others: the tracked tables that rest on object(classid, objid), and why they are to be looked at (`own`: one of these is
-- the table itself, or a part of it); and some of those at which a look is due (dependency.rs, `Due::Busy`), if role $3 may act for their
-- owner: others neither do that work nor could they finish it. What a superuser's command has tried in vain no superuser's tries again for a minute, then
-- for two, and so on up to some hours, unless the table is his. Who makes temporary tables has nothing to do with it. Relation 0 stands for
-- all: nothing is known yet of what they rest on in database $1 of cluster $2. And the objects themselves, with their catalogs.
SELECT d.relation::oid, CASE WHEN bool_or(d.own) THEN 'own' ELSE 'elsewhere' END
FROM object AS o CROSS JOIN LATERAL (
    SELECT relation, own FROM snapsync.dependency AS d WHERE d.classid = o.classid AND d.objid = o.objid AND o.classid <> 0 OFFSET 0) AS d
GROUP BY 1
UNION ALL
-- Also where nothing is known of what it rests on.
SELECT c.relation::oid, 'own'
FROM object AS o CROSS JOIN LATERAL (SELECT relation FROM snapsync.collection WHERE relation = o.objid AND o.classid = 'pg_class'::regclass OFFSET 0) AS c
UNION ALL
(SELECT due.relation::oid, 'due'
 FROM (SELECT relation FROM snapsync.dependency WHERE classid = 0 AND objid = 1 AND relation::oid <> 0 AND EXISTS (SELECT FROM object)
       ORDER BY random() LIMIT 256) AS due
  LEFT JOIN LATERAL (SELECT relowner FROM pg_class WHERE oid = due.relation OFFSET 0) AS r ON true
  -- (What was left of a table that is gone, anybody's command takes away.)
  WHERE r.relowner IS NULL
     OR pg_has_role($3, r.relowner, 'USAGE')
        AND (r.relowner = $3 OR NOT (SELECT rolsuper FROM pg_roles WHERE oid = $3)
             OR NOT EXISTS (SELECT FROM snapsync.dependency
                            WHERE relation = due.relation AND classid = 0 AND tried <= clock_timestamp()
                              AND tried + (1 << (tries - 1)) * interval '1 minute' > clock_timestamp() OFFSET 0))
 GROUP BY 1 LIMIT 8)
UNION ALL
SELECT 0, 'elsewhere' WHERE EXISTS (SELECT FROM snapsync.collection)
    AND NOT EXISTS (SELECT FROM snapsync.dependency WHERE classid = 0 AND objid = $1 AND relation::oid = 0 AND name = $2)
UNION ALL
SELECT DISTINCT objid, classid::oid::text
FROM object
WHERE objid <> 0 AND classid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_policy'::regclass, 'pg_type'::regclass, 'pg_cast'::regclass,
                                 'pg_operator'::regclass, 'pg_ts_config'::regclass, 'pg_ts_dict'::regclass)
