-- Function $1, which is to decide conflicts of table $2 (admin.rs, `ConflictFunction`).
SELECT json_build_object(
    'signature', p.oid::regprocedure::text,
    'fits', p.proargtypes = '25 25 3802 3802'::oidvector AND p.prorettype = 'jsonb'::regtype AND p.prokind = 'f' AND NOT p.proretset
            AND NOT starts_with(p.pronamespace::regnamespace::text, 'pg_temp_'),
    'function_owner', (SELECT rolname FROM pg_roles WHERE oid = p.proowner),
    'owner', c.relowner::regrole::text,
    'owner_may_execute', has_function_privilege(c.relowner, p.oid, 'EXECUTE'))
FROM pg_proc AS p, pg_class AS c WHERE p.oid = $1 AND c.oid = $2
