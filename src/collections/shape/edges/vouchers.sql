-- Who vouches for the triggers on each of the tables $2, which policies of table $1 read: a role with the TRIGGER privilege. $3: who makes
-- a policy, or calls enable. Where that table's owner has taken its tracking away (edges.rs, `refuse`), that one alone, who knows what he does.
WITH noted AS MATERIALIZED (
    SELECT objid, name FROM snapsync.dependency WHERE relation = $1 AND classid = 'pg_class'::regclass AND name IN ('refused', 'forgotten'))
SELECT m.oid, CASE WHEN m.oid = r.oid THEN o.rolname
                   WHEN EXISTS (SELECT FROM snapsync.untrackable(m.oid)) THEN NULL
                   WHEN has_table_privilege(o.oid, m.oid, 'TRIGGER') AND NOT refused.so THEN o.rolname
                   WHEN has_table_privilege(v.oid, m.oid, 'TRIGGER') THEN v.rolname
                   WHEN has_table_privilege(a.oid, m.oid, 'TRIGGER') THEN a.rolname END, refused.so
FROM (SELECT oid, relowner FROM pg_class WHERE oid = $1 OFFSET 0) AS r
CROSS JOIN LATERAL (SELECT oid, rolname FROM pg_roles WHERE oid = r.relowner OFFSET 0) AS o CROSS JOIN unnest($2::oid[]) AS read(oid)
CROSS JOIN LATERAL (SELECT oid FROM pg_class WHERE oid = read.oid OFFSET 0) AS m
LEFT JOIN LATERAL (SELECT refused, voucher FROM snapsync.access WHERE relation = r.oid AND access = m.oid OFFSET 0) AS x ON true
-- (What could not be written into snapsync.access then: edges.rs, `note`.)
CROSS JOIN LATERAL (SELECT coalesce(x.refused OR bool_or(name = 'refused'), false), count(*) > 0
                    FROM noted WHERE noted.objid = m.oid) AS refused(so, noted)
LEFT JOIN LATERAL (SELECT oid, rolname FROM pg_roles WHERE rolname = x.voucher AND NOT refused.noted OFFSET 0) AS v ON true
LEFT JOIN LATERAL (SELECT oid, rolname FROM pg_roles WHERE oid = $3 OFFSET 0) AS a ON true
