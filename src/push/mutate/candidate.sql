-- Function $1, which role $2 wants to register as a mutator (mutators.rs, `Candidate`); no row where there is none.
SELECT json_build_object(
    'name', p.oid::regprocedure::text,
    'owner', (SELECT rolname FROM pg_roles WHERE oid = p.proowner),
    'fits', p.prokind = 'f' AND p.pronargs = 1 AND p.proargtypes[0] IN ('json'::regtype, 'jsonb'::regtype)
            AND NOT starts_with(p.pronamespace::regnamespace::text, 'pg_temp_'),
    'may_execute', has_function_privilege($2, p.oid, 'EXECUTE'))
FROM pg_proc AS p WHERE p.oid = $1
