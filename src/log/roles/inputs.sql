-- A digest of what all roles' standings are made of (standings.sql). Memberships that came and went have other rows; who turned an attribute of a
-- role on and off was recorded meanwhile, or never.
SELECT md5(concat_ws('|',
    (SELECT string_agg(concat_ws(' ', oid, quote_literal(rolname), rolsuper, rolinherit, rolbypassrls), ',' ORDER BY oid) FROM pg_roles),
    (SELECT string_agg(concat_ws(' ', m.xmin, m::text), ',' ORDER BY m.roleid, m.member, m.grantor) FROM pg_auth_members AS m),
    (SELECT datdba FROM pg_database WHERE datname = current_database()))) AS inputs
