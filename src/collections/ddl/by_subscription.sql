-- No table rests on a subscription by an object, but whether foreign keys count does (access/analysis/references.sql). With concerned.sql.
WITH object(classid, objid) AS MATERIALIZED (
    SELECT 'pg_class'::regclass::oid, relation::oid FROM snapsync.access
    WHERE kind = 'parent'
       OR EXISTS (SELECT FROM (SELECT tgconstraint FROM pg_trigger WHERE tgrelid = access AND tgisinternal OFFSET 0) AS g
                  CROSS JOIN LATERAL (SELECT confrelid, contype FROM pg_constraint WHERE oid = g.tgconstraint OFFSET 0) AS f
                  WHERE f.contype = 'f' AND f.confrelid = access))
