-- Of the tables $2, those all of whose rows the owner of table $1 may read.
SELECT a.oid FROM (SELECT relowner FROM pg_class WHERE oid = $1 OFFSET 0) AS r
CROSS JOIN LATERAL (SELECT oid, rolsuper, rolbypassrls FROM pg_roles WHERE oid = r.relowner OFFSET 0) AS o
CROSS JOIN unnest($2::oid[]) AS read(oid)
CROSS JOIN LATERAL (SELECT oid, relowner, relrowsecurity FROM pg_class WHERE oid = read.oid OFFSET 0) AS a
WHERE (pg_has_role(o.oid, a.relowner, 'USAGE')
       OR has_table_privilege(o.oid, a.oid, 'SELECT') AND (NOT a.relrowsecurity OR o.rolsuper OR o.rolbypassrls))
