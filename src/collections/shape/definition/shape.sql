-- The shape of table $1, as JSON: what is compared always, by names that are the same after a dump and restore, so Oids are only in
-- identity, declared and unenforced.
WITH made_of(oid) AS MATERIALIZED (SELECT * FROM snapsync.made_of($1)),
kept AS MATERIALIZED (SELECT * FROM snapsync.kept_by($1)),
unenforced AS MATERIALIZED (
    SELECT f.oid, f.conname
    FROM (SELECT * FROM pg_constraint WHERE conrelid = $1 OFFSET 0) AS f CROSS JOIN kept
    -- (Those for a referenced table's partitions are parts of one for the whole.)
    WHERE f.contype = 'f' AND f.conparentid = 0
      AND (snapsync.was_unenforced(f.oid)
           OR EXISTS (SELECT FROM snapsync.keys_off(f.oid))
           OR snapsync.can_keep_rows(f.confdeltype, f.confupdtype, kept.deletes, kept.updates)))
SELECT json_build_object(
    'identity', snapsync.identity_of(c.relation),
    -- What orders texts where nothing else is said. (The locale's column has another name since 17.)
    'collation', (
        SELECT concat_ws(' ', d.encoding, d.datlocprovider, d.datcollate, d.datctype, to_jsonb(d) ->> 'daticulocale', to_jsonb(d) ->> 'datlocale',
                         pg_database_collation_actual_version(d.oid))
        FROM pg_database AS d WHERE d.datname = current_database()),
    -- Foreign keys that were not enforced for a time, or did not take rows along: unenforced.rs.
    'unenforced', (SELECT json_agg(oid::text ORDER BY oid) FROM unenforced),
    -- pg_upgrade gives them other Oids, and does not check them again.
    'unenforced_names', (SELECT json_agg(conname ORDER BY conname) FROM unenforced),
    -- Nobody tells of what is written meanwhile, however the triggers are switched on again.
    'off', (
        SELECT true
        FROM snapsync.parts($1) AS t(relid)
        CROSS JOIN LATERAL (SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = t.relid OFFSET 0) AS g
        WHERE g.tgname IN ('00_snapsync_track', '00_snapsync_truncate') AND g.tgenabled = 'D' LIMIT 1),
    'labels', (
        SELECT json_agg(DISTINCT concat(e.enumtypid::regtype, ' ', e.enumlabel))
        FROM made_of AS m CROSS JOIN LATERAL (SELECT enumtypid, enumlabel FROM pg_enum WHERE enumtypid = m.oid OFFSET 0) AS e),
    'composites', (
        SELECT json_agg(json_build_array(y.oid::regtype::text, a.attname, format_type(a.atttypid, a.atttypmod), a.attcollation::regcollation::text)
                        ORDER BY y.oid::regtype::text, a.attnum)
        FROM made_of AS m
        CROSS JOIN LATERAL (SELECT oid, typrelid FROM pg_type WHERE oid = m.oid AND typtype = 'c' OFFSET 0) AS y
        CROSS JOIN LATERAL (SELECT * FROM pg_attribute WHERE attrelid = y.typrelid AND attnum > 0 AND NOT attisdropped OFFSET 0) AS a),
    'declared', (
        SELECT json_object_agg(n.name, to_regclass(n.name)::oid::text) FROM jsonb_object_keys(c.access_tables) AS n(name)),
    'columns', snapsync.columns_of(c.relation),
    -- Which rows come hangs on these, also where they are not synced.
    'deciding', (
        SELECT json_object_agg(a.attname, json_build_array(a.attnum::text, format_type(a.atttypid, a.atttypmod)) ORDER BY a.attname)
        FROM pg_attribute AS a
        WHERE a.attrelid = c.relation AND a.attname IN (c.scope_column, c.soft_delete_column) AND NOT a.attisdropped),
    'synced', (
        SELECT json_agg(json_build_array(a.attname, format_type(a.atttypid, a.atttypmod)) ORDER BY a.attnum)
        FROM pg_attribute AS a
        WHERE a.attrelid = c.relation AND a.attnum > 0 AND NOT a.attisdropped
          AND (c.columns IS NULL OR a.attname = ANY (c.columns) OR a.attname = ANY (c.key)) AND a.attname <> ALL (c.exclude)),
    'security', json_build_array(r.relrowsecurity, r.relforcerowsecurity, r.relowner::regrole::text),
    'partitions', (
        SELECT json_agg(k.oid::regclass::text ORDER BY k.oid::regclass::text)
        FROM snapsync.parts($1) AS t(relid) CROSS JOIN LATERAL (SELECT oid, relkind FROM pg_class WHERE oid = t.relid OFFSET 0) AS k
        WHERE k.oid <> $1 AND k.relkind <> 'p'),
    'readers', (
        SELECT json_agg(reader ORDER BY reader)
        FROM (SELECT CASE x.grantee WHEN 0 THEN 'public' ELSE x.grantee::regrole::text END AS reader
              FROM aclexplode(coalesce(r.relacl, acldefault('r', r.relowner))) AS x
              WHERE x.privilege_type = 'SELECT'
              UNION
              SELECT a.attname || ' ' || CASE x.grantee WHEN 0 THEN 'public' ELSE x.grantee::regrole::text END
              FROM pg_attribute AS a, aclexplode(a.attacl) AS x
              WHERE a.attrelid = c.relation AND x.privilege_type = 'SELECT' AND NOT a.attisdropped) AS readers))
FROM snapsync.collection AS c
JOIN pg_class AS r ON r.oid = c.relation
WHERE c.relation = $1
