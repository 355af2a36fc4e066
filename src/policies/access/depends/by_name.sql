-- What is called by the full names $1, if anything is: by name, with its kind.
SELECT n.name, r.oid, r.relkind
FROM unnest($1::text[]) AS n(name) CROSS JOIN LATERAL (SELECT oid, relkind FROM pg_class WHERE oid = to_regclass(n.name) OFFSET 0) AS r
