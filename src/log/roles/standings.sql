-- Each role, or that of Oid $1, with a digest of its standing, and one of the versions of the catalogs' rows that say so (roles.rs).
WITH RECURSIVE reached(role, via, how, version) AS (
    SELECT oid, oid, rolname::text, xmin::text FROM pg_authid WHERE $1::oid IS NULL OR oid = $1
    UNION
    SELECT r.role, m.roleid, concat_ws(' ', g.rolname, u.rolname, u.rolinherit, m.admin_option,
                                       to_jsonb(m) ->> 'inherit_option', to_jsonb(m) ->> 'set_option'),
           concat_ws(' ', m.xmin, u.xmin, g.xmin)
    FROM reached AS r
         JOIN pg_auth_members AS m ON m.member = r.via
         JOIN pg_authid AS u ON u.oid = m.member
         JOIN pg_authid AS g ON g.oid = m.roleid)
SELECT a.rolname, md5(concat_ws(' ', a.rolsuper, a.rolbypassrls, string_agg(r.how, ',' ORDER BY r.how))) AS standing,
       md5(string_agg(r.version, ',' ORDER BY r.version)) AS version
FROM pg_authid AS a JOIN reached AS r ON r.role = a.oid
GROUP BY a.oid, a.rolname, a.rolsuper, a.rolbypassrls
