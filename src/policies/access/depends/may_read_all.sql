-- A row where the owner of table $1 may read all rows of table $2.
SELECT 1 FROM (SELECT relowner FROM pg_class WHERE oid = $1 OFFSET 0) AS r
CROSS JOIN LATERAL (SELECT oid, rolsuper, rolbypassrls FROM pg_roles WHERE oid = r.relowner OFFSET 0) AS o
CROSS JOIN (SELECT oid, relowner, relrowsecurity FROM pg_class WHERE oid = $2 OFFSET 0) AS a
WHERE (pg_has_role(o.oid, a.relowner, 'USAGE')
       OR has_table_privilege(o.oid, a.oid, 'SELECT') AND (NOT a.relrowsecurity OR o.rolsuper OR o.rolbypassrls))
