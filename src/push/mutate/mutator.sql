-- The function that is registered under the name $1 (mutators.rs, `Mutator`); no row where there is none.
SELECT json_build_object('call', format('%I.%I', n.nspname, p.proname), 'argument', p.proargtypes[0]::oid::bigint)
FROM snapsync.mutator AS m JOIN pg_proc AS p ON p.oid = to_regprocedure(m.function) JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE m.name = $1
