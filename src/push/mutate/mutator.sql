-- The function that is registered under the name $1 (mutators.rs, `Mutator`), for role $2; no row where there is none. Whoever may act as the owner
-- of the database decides what is called, by any name.
SELECT json_build_object(
    'function', p.oid::bigint, 'argument', p.proargtypes[0]::oid::bigint,
    'hidden_in', (SELECT nspname FROM pg_namespace WHERE oid = p.pronamespace AND NOT has_schema_privilege($2, oid, 'USAGE')),
    'stranger', o.rolname <> m.owner
        AND NOT pg_has_role(o.oid, (SELECT datdba FROM pg_database WHERE datname = current_database()), 'USAGE'))
FROM snapsync.mutator AS m JOIN pg_proc AS p ON p.oid = to_regprocedure(m.function)
JOIN pg_roles AS o ON o.oid = p.proowner
WHERE m.name = $1
