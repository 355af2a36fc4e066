-- What table $1 rests on, by object (dependency.rs); $2: the tables that its policies read, as access.rs found them. What texts name, by name, too.
WITH read AS MATERIALIZED (SELECT * FROM snapsync.rests_on($1, scopes => true)),
made_of(oid) AS MATERIALIZED (SELECT * FROM snapsync.made_of($1)),
part(oid) AS (SELECT * FROM snapsync.parts($1)),
named(classid, name) AS (
    SELECT 'pg_class'::regclass::oid, jsonb_object_keys(access_tables) FROM snapsync.collection WHERE relation = $1 AND jsonb_typeof(access_tables) = 'object'
    UNION SELECT 'pg_class'::regclass, jsonb_object_keys(scope_reads -> 'tables') FROM snapsync.collection WHERE relation = $1
    UNION SELECT 'pg_proc'::regclass, jsonb_array_elements_text(scope_reads -> 'functions') FROM snapsync.collection WHERE relation = $1
    UNION SELECT 'pg_proc'::regclass, jsonb_array_elements_text(p.value -> 'functions')
           FROM snapsync.collection AS c CROSS JOIN LATERAL jsonb_each(c.scope_reads -> 'predicates') AS p WHERE c.relation = $1
    UNION SELECT 'pg_type'::regclass, jsonb_array_elements_text(scope_reads -> 'types') FROM snapsync.collection WHERE relation = $1),
object(classid, objid, own, name) AS (
    SELECT 'pg_class'::regclass::oid, oid, true, NULL::text FROM part
    UNION SELECT 'pg_policy'::regclass, p.oid, true, NULL FROM part
           CROSS JOIN LATERAL (SELECT oid FROM pg_policy WHERE polrelid = part.oid OFFSET 0) AS p
    UNION SELECT 'pg_class'::regclass, indexrelid, true, NULL FROM pg_index WHERE indrelid = $1 AND indisunique
    UNION SELECT 'pg_constraint'::regclass, oid, true, NULL FROM pg_constraint WHERE conrelid = $1 AND contype IN ('f', 'p', 'u')
    -- (Those of initdb, too, may be altered.)
    UNION SELECT classid, objid, false, NULL FROM read
           WHERE (objid >= 16384 OR classid IN ('pg_ts_config'::regclass, 'pg_ts_dict'::regclass)) AND objid <> $1
    UNION SELECT x.classid, x.objid, false, NULL FROM made_of
           CROSS JOIN LATERAL (SELECT oid, castfunc FROM pg_cast WHERE castsource = made_of.oid AND casttarget = 'json'::regtype OFFSET 0) AS k
           CROSS JOIN LATERAL (VALUES ('pg_cast'::regclass::oid, k.oid), ('pg_proc'::regclass, k.castfunc)) AS x(classid, objid)
           WHERE x.objid >= 16384
    UNION SELECT 'pg_policy'::regclass, p.oid, false, NULL FROM read
           CROSS JOIN LATERAL (SELECT oid FROM pg_policy WHERE polrelid = read.objid OFFSET 0) AS p
           WHERE read.classid = 'pg_class'::regclass AND NOT read.direct AND read.objid <> $1
    UNION SELECT 'pg_type'::regclass, oid, false, NULL FROM made_of WHERE oid >= 16384
    UNION SELECT 'pg_type'::regclass, named.oid, false, NULL FROM snapsync.types_named($1) AS named(oid)
    UNION SELECT 'pg_class'::regclass, y.typrelid, false, NULL FROM snapsync.types_named($1) AS named(oid)
           CROSS JOIN LATERAL (SELECT typrelid FROM pg_type WHERE oid = named.oid OFFSET 0) AS y WHERE y.typrelid NOT IN (0, $1)
    UNION SELECT 'pg_class'::regclass, y.typrelid, false, NULL FROM made_of
           CROSS JOIN LATERAL (SELECT typrelid FROM pg_type WHERE oid = made_of.oid OFFSET 0) AS y WHERE y.typrelid <> 0
    UNION SELECT 'pg_class'::regclass, a.oid, false, NULL FROM unnest($2::oid[]) AS a(oid) WHERE a.oid <> $1
    -- (While one of these is a part of a table, that one is not tracked.)
    UNION SELECT 'pg_class'::regclass, p.oid, false, NULL FROM unnest($2::oid[]) AS a(oid), snapsync.parts(a.oid) AS p(oid)
           CROSS JOIN LATERAL (SELECT relkind FROM pg_class WHERE oid = p.oid OFFSET 0) AS k
           WHERE k.relkind = 'f' AND p.oid <> a.oid
    -- (0: there is nothing of this name now.)
    UNION SELECT classid, coalesce(CASE classid WHEN 'pg_class'::regclass THEN to_regclass(name)::oid WHEN 'pg_type'::regclass THEN to_regtype(name)::oid
                                                ELSE (SELECT f.oid FROM snapsync.procedure_of(name) AS f(oid)) END, 0), false, name FROM named)
-- With the owner of what has one, as snapsync.owners_moved() compares it.
SELECT o.classid, o.objid, o.own, o.name,
       nullif(concat_ws(' ', CASE o.classid WHEN 'pg_class'::regclass THEN (SELECT relowner FROM pg_class WHERE oid = o.objid)
                                            WHEN 'pg_proc'::regclass THEN (SELECT proowner FROM pg_proc WHERE oid = o.objid) END,
                        CASE WHEN o.classid IN ('pg_class'::regclass, 'pg_proc'::regclass) THEN
                            (SELECT xmin FROM pg_shdepend WHERE dbid = $3 AND classid = o.classid AND objid = o.objid AND objsubid = 0 AND deptype = 'o') END), '')
FROM object AS o
