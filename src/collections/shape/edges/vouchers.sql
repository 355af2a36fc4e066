-- Who vouches for the triggers on each of the tables $2, which policies of table $1 read: a role with the TRIGGER privilege. $3: who makes
-- a policy, or calls enable. Where that table's owner has taken its tracking away (edges.rs, `refuse`), that one alone, who knows what he does.
WITH noted AS MATERIALIZED (
    SELECT objid, name FROM snapsync.dependency WHERE relation = $1 AND classid = 'pg_class'::regclass AND name IN ('refused', 'forgotten'))
SELECT m.oid, CASE WHEN m.oid = r.oid THEN o.rolname
                   WHEN EXISTS (SELECT FROM snapsync.untrackable(m.oid)) THEN NULL
                   WHEN has_table_privilege(o.oid, m.oid, 'TRIGGER') AND NOT refused.so THEN o.rolname
                   WHEN has_table_privilege(v.oid, m.oid, 'TRIGGER') THEN v.rolname
                   WHEN has_table_privilege(a.oid, m.oid, 'TRIGGER') THEN a.rolname END, refused.so
FROM pg_class AS r JOIN pg_roles AS o ON o.oid = r.relowner CROSS JOIN unnest($2::oid[]) AS read(oid)
JOIN pg_class AS m ON m.oid = read.oid
LEFT JOIN snapsync.access AS x ON x.relation = r.oid AND x.access = m.oid
-- (What could not be written into snapsync.access then: edges.rs, `note`.)
CROSS JOIN LATERAL (SELECT coalesce(x.refused OR bool_or(name = 'refused'), false), count(*) > 0
                    FROM noted WHERE noted.objid = m.oid) AS refused(so, noted)
LEFT JOIN pg_roles AS v ON v.rolname = x.voucher AND NOT refused.noted LEFT JOIN pg_roles AS a ON a.oid = $3
WHERE r.oid = $1
