-- A row where the owner of table $1 may read all rows of table $2.
SELECT 1 FROM pg_class AS r JOIN pg_roles AS o ON o.oid = r.relowner, pg_class AS a
WHERE r.oid = $1 AND a.oid = $2
  AND (pg_has_role(o.oid, a.relowner, 'USAGE')
       OR has_table_privilege(o.oid, a.oid, 'SELECT') AND (NOT a.relrowsecurity OR o.rolsuper OR o.rolbypassrls))
