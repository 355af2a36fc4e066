-- Each role, or that of Oid $1, with a digest of its standing, and one of the versions of the catalogs' rows that say so (roles.rs).
-- Whoever owns the database is a member of pg_database_owner, which no row says. (Not pg_authid, which only superusers may read: the extension's owner
-- need not be one any more. Versions of roles are asked for of one role only, whose names they go with.)
WITH RECURSIVE owner AS MATERIALIZED (
    SELECT d.datdba AS member, g.oid AS roleid, false AS admin_option, '{"inherit_option": true, "set_option": true}'::jsonb AS options, d.xmin
    FROM pg_database AS d, pg_roles AS g WHERE d.datname = current_database() AND g.rolname = 'pg_database_owner'),
reached(role, via, how, version) AS (
    SELECT oid, oid, rolname::text, CASE WHEN $1::oid IS NOT NULL THEN snapsync.role_version(oid) END FROM pg_roles WHERE $1::oid IS NULL OR oid = $1
    UNION
    SELECT r.role, m.roleid, concat_ws(' ', g.rolname, u.rolname, u.rolinherit, m.admin_option,
                                       m.options ->> 'inherit_option', m.options ->> 'set_option'),
           concat_ws(' ', m.xmin, CASE WHEN $1::oid IS NOT NULL THEN snapsync.role_version(u.oid) END,
                     CASE WHEN $1::oid IS NOT NULL THEN snapsync.role_version(g.oid) END)
    FROM reached AS r
         CROSS JOIN LATERAL (
             SELECT m.member, m.roleid, m.admin_option, to_jsonb(m) AS options, m.xmin FROM pg_auth_members AS m WHERE m.member = r.via
             UNION ALL SELECT * FROM owner WHERE owner.member = r.via) AS m
         JOIN pg_roles AS u ON u.oid = m.member
         JOIN pg_roles AS g ON g.oid = m.roleid)
SELECT a.rolname, md5(concat_ws(' ', a.rolsuper, a.rolbypassrls, string_agg(r.how, ',' ORDER BY r.how))) AS standing,
       md5(string_agg(r.version, ',' ORDER BY r.version)) AS version
FROM pg_roles AS a JOIN reached AS r ON r.role = a.oid
GROUP BY a.oid, a.rolname, a.rolsuper, a.rolbypassrls
