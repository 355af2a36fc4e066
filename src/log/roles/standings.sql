-- Each role, or that of Oid $1, with a digest of its standing; of one role also a digest that tells memberships which came anew, and the roles that it is a
-- member of (roles.rs). Of whom a row in pg_authid says more than that, his password say, is not asked: he may change it himself.
-- Whoever owns the database is a member of pg_database_owner, which no row says. (Not pg_authid, which only superusers may read: the extension's owner
-- need not be one any more.)
WITH RECURSIVE owner AS MATERIALIZED (
    SELECT d.datdba AS member, g.oid AS roleid, false AS admin_option, '{"inherit_option": true, "set_option": true}'::jsonb AS options, NULL::xid AS made
    FROM pg_database AS d, pg_roles AS g WHERE d.datname = current_database() AND g.rolname = 'pg_database_owner'),
reached(role, via) AS (
    -- (Apart: with OR all roles would be gone through for one.)
    (SELECT oid, oid FROM pg_roles WHERE $1::oid IS NULL
     UNION ALL SELECT oid, oid FROM pg_roles WHERE oid = $1)
    UNION
    SELECT r.role, m.roleid
    FROM reached AS r CROSS JOIN LATERAL (
        SELECT roleid FROM pg_auth_members WHERE member = r.via
        UNION ALL SELECT roleid FROM owner WHERE owner.member = r.via) AS m),
-- (Behind it, each once: what went on from these would go each way to a role.)
granted(role, via, how, made) AS (
    SELECT r.role, r.role, quote_literal(a.rolname), NULL::text FROM reached AS r JOIN pg_roles AS a ON a.oid = r.role WHERE r.via = r.role
    UNION
    SELECT r.role, m.roleid, concat_ws(' ', quote_literal(g.rolname), quote_literal(u.rolname), u.rolinherit, m.admin_option,
                                       m.options ->> 'inherit_option', m.options ->> 'set_option'), m.made::text
    FROM reached AS r
         CROSS JOIN LATERAL (
             SELECT m.member, m.roleid, m.admin_option, to_jsonb(m) AS options, m.xmin AS made FROM pg_auth_members AS m WHERE m.member = r.via
             UNION ALL SELECT * FROM owner WHERE owner.member = r.via) AS m
         JOIN pg_roles AS u ON u.oid = m.member
         JOIN pg_roles AS g ON g.oid = m.roleid)
SELECT a.rolname, md5(concat_ws(' ', a.rolsuper, a.rolbypassrls, string_agg(r.how, ',' ORDER BY r.how))) AS standing,
       md5(string_agg(concat_ws(' ', r.how, r.made), ',' ORDER BY r.how, r.made) FILTER (WHERE $1::oid IS NOT NULL)) AS memberships,
       to_json(array_agg(r.via::text) FILTER (WHERE $1::oid IS NOT NULL))::text AS roles, a.oid
FROM pg_roles AS a JOIN granted AS r ON r.role = a.oid
GROUP BY a.oid, a.rolname, a.rolsuper, a.rolbypassrls
