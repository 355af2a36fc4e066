-- The policies of table $1 that decide which rows can be selected, with their trees.
SELECT json_build_object('name', p.polname, 'permissive', p.polpermissive, 'roles', array_to_json(p.polroles::int8[]), 'condition', p.polqual::text)
FROM pg_policy AS p
JOIN pg_class AS c ON c.oid = p.polrelid
WHERE p.polrelid = $1 AND c.relrowsecurity AND p.polcmd IN ('*', 'r') AND p.polqual IS NOT NULL
ORDER BY p.polname
