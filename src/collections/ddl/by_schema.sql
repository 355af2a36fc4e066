-- What is in a schema that was renamed: names in texts are others now. With concerned.sql.
WITH schema AS MATERIALIZED (
    SELECT objid AS oid FROM pg_event_trigger_ddl_commands() WHERE classid = 'pg_namespace'::regclass),
object(classid, objid) AS (
    SELECT 'pg_class'::regclass::oid, r.oid FROM schema JOIN pg_class AS r ON r.relnamespace = schema.oid
    UNION ALL
    SELECT 'pg_proc'::regclass, f.oid FROM schema JOIN pg_proc AS f ON f.pronamespace = schema.oid
    UNION ALL
    SELECT 'pg_type'::regclass, y.oid FROM schema JOIN pg_type AS y ON y.typnamespace = schema.oid)
-- And what has got a name that texts know.
SELECT d.relation::oid, 'elsewhere'
FROM (SELECT 'pg_class'::regclass::oid AS classid, format('%I.%I', n.nspname, r.relname) AS name
      FROM schema JOIN pg_namespace AS n ON n.oid = schema.oid JOIN pg_class AS r ON r.relnamespace = n.oid WHERE r.relkind IN ('r', 'p', 'v', 'm', 'f')
      UNION ALL
      SELECT 'pg_proc'::regclass, f.oid::regprocedure::text FROM schema JOIN pg_proc AS f ON f.pronamespace = schema.oid
      UNION ALL
      SELECT 'pg_type'::regclass, y.oid::regtype::text FROM schema JOIN pg_type AS y ON y.typnamespace = schema.oid) AS t
CROSS JOIN LATERAL (SELECT relation, classid FROM snapsync.dependency WHERE name = t.name AND name IS NOT NULL OFFSET 0) AS d
WHERE d.classid = t.classid
UNION ALL
