-- Goes after one of the others: the tracked tables that rest on objects(classid, objid), and whether one of these is the table itself, or a
-- part of it; those with this name (name); and those at which a look is due (dependency.rs, `Due::Busy`). Relation 0 stands for all: nothing
-- is known yet of what they rest on in database $1 of cluster $2.
SELECT d.relation::oid, bool_or(d.own)
FROM object AS o CROSS JOIN LATERAL (
    SELECT relation, own FROM snapsync.dependency AS d WHERE d.classid = o.classid AND d.objid = o.objid AND o.classid <> 0 OFFSET 0) AS d
GROUP BY 1
UNION ALL
SELECT relation::oid, false FROM snapsync.dependency WHERE classid = 0 AND objid = 1 AND relation::oid <> 0
UNION ALL
SELECT 0, false WHERE EXISTS (SELECT FROM snapsync.collection)
    AND NOT EXISTS (SELECT FROM snapsync.dependency WHERE classid = 0 AND objid = $1 AND relation::oid = 0 AND name = $2)
