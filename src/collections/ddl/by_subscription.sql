-- No table rests on a subscription by an object, but whether foreign keys count does (access/analysis/references.sql). With concerned.sql.
WITH object(classid, objid) AS MATERIALIZED (
    SELECT 'pg_class'::regclass::oid, relation::oid FROM snapsync.access
    WHERE kind = 'parent' OR access IN (SELECT confrelid FROM pg_constraint WHERE contype = 'f'))
