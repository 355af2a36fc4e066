-- The policies of table $1, and the views and functions that they read, each with its tree: with $2 as SQL, which takes a lock on each table
-- that it reads (of long texts, the digest); else as it is stored; what text search configurations among them do; types that they name; and casts to json. (A materialized view's row in pg_class is written anew by every REFRESH.)
WITH read AS MATERIALIZED (SELECT * FROM snapsync.rests_on($1, scopes => true)),
told_by(type, function) AS MATERIALIZED (
    SELECT castsource, castfunc FROM snapsync.made_of($1) AS m(oid)
    CROSS JOIN LATERAL (SELECT castsource, castfunc FROM pg_cast WHERE castsource = m.oid AND casttarget = 'json'::regtype OFFSET 0) AS k)
SELECT json_build_object(
    'policies', (
        SELECT json_agg(json_build_array(p.polname, p.polpermissive,
                            (SELECT json_agg(r.name ORDER BY r.name)
                             FROM unnest(p.polroles) AS role CROSS JOIN LATERAL (SELECT CASE role WHEN 0 THEN 'public' ELSE role::regrole::text END) AS r(name)),
                            CASE WHEN $2 THEN (SELECT CASE WHEN octet_length(x) > 10000 THEN md5(x) ELSE x END FROM pg_get_expr(p.polqual, p.polrelid) AS x)
                                 ELSE md5(p.polqual::text) END)
                        ORDER BY p.polname)
        FROM pg_policy AS p
        WHERE p.polrelid = c.relation AND p.polcmd IN ('*', 'r')),
    'partition_policies', (
        SELECT json_agg(json_build_array(k.oid::regclass::text, k.relforcerowsecurity, k.relowner::regrole::text,
                            (SELECT json_agg(json_build_array(p.polname, p.polpermissive, (SELECT json_agg(role::regrole::text ORDER BY role::regrole::text) FROM unnest(p.polroles) AS role),
                                                 CASE WHEN $2 THEN (SELECT CASE WHEN octet_length(x) > 10000 THEN md5(x) ELSE x END FROM pg_get_expr(p.polqual, p.polrelid) AS x)
                                 ELSE md5(p.polqual::text) END)
                                             ORDER BY p.polname)
                             FROM pg_policy AS p
                             WHERE p.polrelid = k.oid AND p.polcmd IN ('*', 'r')))
                        ORDER BY k.oid::regclass::text)
        FROM snapsync.parts($1) AS t(relid) CROSS JOIN LATERAL (SELECT * FROM pg_class WHERE oid = t.relid OFFSET 0) AS k
        WHERE k.oid <> $1 AND k.relrowsecurity),
    'views', (
        SELECT json_agg(DISTINCT md5(concat(v.oid::regclass,
                            CASE WHEN $2 THEN pg_get_viewdef(v.oid)
                                 ELSE (SELECT md5(w.ev_action::text) FROM pg_rewrite AS w WHERE w.ev_class = v.oid AND w.ev_type = '1') END,
                            v.relowner::regrole, v.reloptions, CASE v.relkind WHEN 'm' THEN v.xmin::text END)))
        FROM read CROSS JOIN LATERAL (SELECT *, xmin FROM pg_class WHERE oid = read.objid AND relkind IN ('v', 'm') OFFSET 0) AS v
        WHERE read.classid = 'pg_class'::regclass),
    'functions', (
        -- A call has no defaults in its tree: they are filled in when it is planned.
        SELECT json_agg(DISTINCT md5(concat_ws(' ', f.oid::regprocedure, f.prosrc, f.probin, f.proconfig, f.prosecdef, f.proisstrict, f.proowner::regrole,
                            (SELECT lanname FROM pg_language WHERE oid = f.prolang), f.proretset, f.protrftypes::regtype[],
                            CASE WHEN $2 THEN pg_get_function_sqlbody(f.oid) ELSE md5(f.prosqlbody::text) END,
                            CASE WHEN $2 THEN pg_get_function_arguments(f.oid) ELSE md5(f.proargdefaults::text) END,
                            (SELECT json_build_array(
                                g.aggkind, g.aggnumdirectargs, g.aggtransfn, g.aggtranstype::regtype, g.agginitval, g.aggfinalfn, g.aggfinalextra, g.aggfinalmodify,
                                g.aggmtransfn, g.aggminvtransfn, g.aggmtranstype::regtype, g.aggminitval, g.aggmfinalfn, g.aggmfinalextra, g.aggmfinalmodify,
                                g.aggcombinefn, g.aggserialfn, g.aggdeserialfn, g.aggsortop::regoperator)
                             FROM pg_aggregate AS g WHERE g.aggfnoid = f.oid))))
        FROM (SELECT objid FROM read WHERE classid = 'pg_proc'::regclass
              UNION
              SELECT function FROM told_by) AS used
        CROSS JOIN LATERAL (SELECT * FROM pg_proc WHERE oid = used.objid OFFSET 0) AS f),
    -- NOT (a = b) is planned as a <> b where that is its negator, and b = a as a = b.
    'operators', (
        SELECT json_agg(DISTINCT concat_ws(' ', o.oid::regoperator, o.oprcode, o.oprnegate::regoperator, o.oprcom::regoperator))
        FROM read CROSS JOIN LATERAL (SELECT * FROM pg_operator WHERE oid = read.objid OFFSET 0) AS o
        WHERE read.classid = 'pg_operator'::regclass),
    'types', (
        SELECT json_agg(said ORDER BY said)
        FROM snapsync.types_named($1) AS named(oid)
        CROSS JOIN LATERAL (
            SELECT concat_ws(' ', named.oid::regtype, (SELECT json_agg(enumlabel ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = named.oid),
                       (SELECT json_agg(json_build_array(attname, format_type(atttypid, atttypmod)) ORDER BY attnum)
                        FROM pg_attribute WHERE attrelid = y.typrelid AND attnum > 0 AND NOT attisdropped))
            FROM pg_type AS y WHERE y.oid = named.oid OFFSET 0) AS t(said)),
    'casts', (SELECT json_agg(type::regtype::text ORDER BY type::regtype::text) FROM told_by),
    'searches', (
        SELECT json_agg(DISTINCT said)
        FROM (SELECT concat_ws(' ', m.mapcfg::regconfig, m.maptokentype, m.mapseqno, m.mapdict::regdictionary)
              FROM read CROSS JOIN LATERAL (SELECT * FROM pg_ts_config_map WHERE mapcfg = read.objid OFFSET 0) AS m WHERE read.classid = 'pg_ts_config'::regclass
              UNION ALL
              SELECT concat_ws(' ', s.oid::regdictionary, s.dictinitoption)
              FROM read CROSS JOIN LATERAL (SELECT * FROM pg_ts_dict WHERE oid = read.objid OFFSET 0) AS s WHERE read.classid = 'pg_ts_dict'::regclass) AS searches(said)),
    'virtual', (
        SELECT json_agg(json_build_array(a.attrelid::regclass, a.attname,
                            CASE WHEN $2 THEN pg_get_expr(e.adbin, e.adrelid) ELSE md5(e.adbin::text) END)
                        ORDER BY a.attrelid::regclass::text, a.attname)
        FROM (SELECT objid FROM read WHERE classid = 'pg_class'::regclass
              UNION
              SELECT relid FROM snapsync.parts($1) AS t(relid)) AS t
        CROSS JOIN LATERAL (SELECT * FROM pg_attribute WHERE attrelid = t.objid AND attgenerated = 'v' AND NOT attisdropped OFFSET 0) AS a
        CROSS JOIN LATERAL (SELECT * FROM pg_attrdef WHERE adrelid = a.attrelid AND adnum = a.attnum OFFSET 0) AS e))
FROM snapsync.collection AS c
WHERE c.relation = $1
