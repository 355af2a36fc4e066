-- A row where the conflict function of table $1 is the one that was named: its owner's who had it then, or of who may act as the table's owner, who decides
-- what is called, by any name. Where it is gone an overload would take its calls.
SELECT 1
FROM snapsync.collection AS c JOIN pg_class AS r ON r.oid = c.relation
JOIN pg_proc AS f ON f.oid = to_regprocedure(c.conflict_function) JOIN pg_roles AS o ON o.oid = f.proowner
WHERE c.relation = $1 AND (o.rolname = c.conflict_owner OR pg_has_role(o.oid, r.relowner, 'USAGE'))
