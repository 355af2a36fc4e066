-- What is in a schema that was renamed: names in texts are others now. With concerned.sql.
WITH schema AS MATERIALIZED (
    SELECT objid AS oid FROM pg_event_trigger_ddl_commands() WHERE classid = 'pg_namespace'::regclass),
object(classid, objid) AS (
    SELECT 'pg_class'::regclass::oid, r.oid FROM schema JOIN pg_class AS r ON r.relnamespace = schema.oid
    UNION ALL
    SELECT 'pg_proc'::regclass, f.oid FROM schema JOIN pg_proc AS f ON f.pronamespace = schema.oid
    UNION ALL
    SELECT 'pg_type'::regclass, y.oid FROM schema JOIN pg_type AS y ON y.typnamespace = schema.oid)
