-- What subtransaction $4 has written of what tables rest on: DROP OWNED takes roles out of policies and privileges, and lists none of it. It comes
-- after REASSIGN OWNED, of which nobody hears: those of role $3 that this has given away, or what they rest on. With concerned.sql.
WITH object(classid, objid) AS MATERIALIZED (
    SELECT 'pg_class'::regclass::oid, oid FROM pg_class WHERE xmin = $4::xid
    UNION
    SELECT 'pg_class'::regclass, attrelid FROM pg_attribute WHERE xmin = $4::xid
    UNION
    SELECT 'pg_class'::regclass, polrelid FROM pg_policy WHERE xmin = $4::xid
    UNION
    SELECT 'pg_proc'::regclass, oid FROM pg_proc WHERE xmin = $4::xid
    UNION
    SELECT 'pg_class'::regclass, c.relation
    FROM snapsync.collection AS c CROSS JOIN LATERAL (SELECT relowner FROM pg_class WHERE oid = c.relation OFFSET 0) AS r
    WHERE pg_has_role($3, r.relowner, 'USAGE') AND EXISTS (SELECT FROM snapsync.owners_moved(c.relation)))
