-- The function by which Supabase Realtime broadcasts, for table $1: is it a superuser's, in a superuser's schema, and may the table's owner
-- call it.
SELECT row_to_json(f)
FROM (SELECT p.oid::int8 AS function, o.rolsuper AND s.rolsuper AS trusted,
             has_schema_privilege(r.relowner, n.oid, 'USAGE') AND has_function_privilege(r.relowner, p.oid, 'EXECUTE') AS callable,
             CASE WHEN o.rolsuper THEN format('Schema realtime belongs to %s', s.rolname) ELSE format('realtime.send belongs to %s', o.rolname) END AS whose
      FROM pg_class AS r, pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
      JOIN pg_roles AS o ON o.oid = p.proowner JOIN pg_roles AS s ON s.oid = n.nspowner
      WHERE r.oid = $1 AND n.nspname = 'realtime' AND p.proname = 'send' AND p.prokind = 'f'
        AND p.proargtypes = '3802 25 25 16'::oidvector) AS f
