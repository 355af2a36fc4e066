-- How many bytes a look at table $1 reads of what may have any length: policies, views and functions, what these say besides their trees, settings.
-- No value is fetched for it: how long one is before it is compressed stands where it is referred to. Of what there may be any number each counts $2
-- bytes, and after the first $3 nothing is looked for any more.
WITH read AS MATERIALIZED (SELECT r.classid, r.objid FROM snapsync.rests_on($1, scopes => true) AS r LIMIT $3),
settings AS MATERIALIZED (
    SELECT CASE jsonb_typeof(access_tables) WHEN 'object' THEN access_tables END AS access_tables, scope_reads -> 'tables' AS scope_tables
    FROM snapsync.collection
    -- (What is longer is too long by itself, and is not fetched.)
    WHERE relation = $1 AND coalesce(snapsync.raw_length(access_tables), 0)::bigint + coalesce(snapsync.raw_length(scope_reads), 0) <= $2 * $3),
-- What settings name, name by name; past: without a predicate that bounds it, so that all counts that it rests on (access.rs, `everything_under`).
by_name(oid, past) AS MATERIALIZED (
    SELECT r.oid, n.past OR n.of_scopes AND (r.relkind IN ('v', 'm') OR r.relispartition)
    FROM (SELECT d.key, CASE jsonb_typeof(d.value) WHEN 'object' THEN d.value ->> 'predicate' ELSE d.value #>> '{}' END IS NULL, false FROM settings CROSS JOIN LATERAL jsonb_each(access_tables) AS d
          UNION ALL
          SELECT t.key, t.value IS NOT DISTINCT FROM 'true', true FROM settings CROSS JOIN LATERAL jsonb_each_text(scope_tables) AS t) AS n(name, past, of_scopes)
    LEFT JOIN LATERAL (SELECT oid, relkind, relispartition FROM pg_class WHERE oid = to_regclass(n.name) OFFSET 0) AS r ON true
    LIMIT $3),
under AS MATERIALIZED (
    SELECT u.classid, u.objid
    FROM (SELECT array_agg(oid) AS oids FROM by_name WHERE past) AS begun CROSS JOIN LATERAL snapsync.rests_on(NULL, indirectly => begun.oids) AS u LIMIT $3),
made_of(oid) AS MATERIALIZED (SELECT m.oid FROM snapsync.made_of($1) AS m(oid) LIMIT $3),
named(oid) AS MATERIALIZED (SELECT n.oid FROM snapsync.types_named($1) AS n(oid) WHERE (SELECT count(*) < $3 FROM read) LIMIT $3),
type(oid) AS MATERIALIZED (SELECT oid FROM made_of UNION SELECT oid FROM named),
function(oid) AS MATERIALIZED (
    SELECT objid FROM read WHERE classid = 'pg_proc'::regclass
    UNION
    SELECT k.castfunc
    FROM made_of CROSS JOIN LATERAL (SELECT castfunc FROM pg_cast WHERE castsource = made_of.oid AND casttarget = 'json'::regtype OFFSET 0) AS k),
part(oid) AS MATERIALIZED (SELECT p.oid FROM snapsync.parts($1) AS p(oid) LIMIT $3),
-- What policies and settings read is read with all that inherits from it, a partition with its whole tree, and asked for its foreign keys and what may keep
-- rows from following them.
top(oid) AS MATERIALIZED (
    SELECT DISTINCT coalesce(pg_partition_root(t.oid), t.oid)
    FROM (SELECT objid FROM read WHERE classid = 'pg_class'::regclass UNION ALL SELECT objid FROM under WHERE classid = 'pg_class'::regclass
          UNION ALL SELECT oid FROM by_name) AS t(oid)
    WHERE t.oid <> $1),
below(oid) AS (
    SELECT child.oid
    FROM top CROSS JOIN LATERAL (
        WITH RECURSIVE tree(oid) AS (
            SELECT top.oid UNION
            SELECT i.inhrelid FROM tree CROSS JOIN LATERAL (SELECT inhrelid FROM pg_inherits WHERE inhparent = tree.oid OFFSET 0) AS i)
        SELECT oid FROM tree LIMIT $3) AS child),
thing AS (
    SELECT 1 FROM read
    UNION ALL SELECT 1 FROM by_name
    UNION ALL SELECT 1 FROM under
    UNION ALL SELECT 1 FROM (SELECT FROM pg_constraint WHERE conrelid = $1 AND contype = 'f' LIMIT $3) AS key
    UNION ALL SELECT 1 FROM (SELECT FROM pg_trigger WHERE tgrelid = $1 LIMIT $3) AS trigger
    UNION ALL SELECT 1 FROM (SELECT FROM pg_index WHERE indrelid = $1 AND indisunique LIMIT $3) AS index
    -- (All that is looked up of a partition, its triggers among it.)
    UNION ALL SELECT 1 FROM part CROSS JOIN (VALUES (1), (2), (3)) AS counts WHERE part.oid <> $1
    -- (A trigger, and a key, is read much faster than all else.)
    UNION ALL SELECT 1 FROM below CROSS JOIN LATERAL (
        SELECT FROM generate_series(0, (
            SELECT count(*) / 4
            FROM (SELECT FROM (SELECT FROM pg_trigger WHERE tgrelid = below.oid OFFSET 0) AS g
                  UNION ALL SELECT FROM (SELECT FROM pg_constraint WHERE conrelid = below.oid AND contype = 'f' OFFSET 0) AS f LIMIT 4 * $3) AS of_it))) AS counts
    UNION ALL SELECT 1 FROM type
    UNION ALL SELECT 1 FROM type CROSS JOIN LATERAL (SELECT FROM pg_enum WHERE enumtypid = type.oid LIMIT $3) AS label
    UNION ALL SELECT 1 FROM type
        CROSS JOIN LATERAL (SELECT typrelid FROM pg_type WHERE pg_type.oid = type.oid AND typrelid <> 0 OFFSET 0) AS y
        CROSS JOIN LATERAL (SELECT FROM pg_attribute WHERE attrelid = y.typrelid AND attnum > 0 OFFSET 0) AS a
    UNION ALL SELECT 1 FROM read
        CROSS JOIN LATERAL (SELECT FROM pg_ts_config_map WHERE mapcfg = read.objid LIMIT $3) AS m
        WHERE read.classid = 'pg_ts_config'::regclass)
SELECT sum(size)
FROM (SELECT $2 * count(*) FROM (SELECT FROM thing LIMIT $3) AS things
      UNION ALL
      -- (What was found is JSON, which is read much faster than a tree.)
      SELECT coalesce(octet_length(scope_values), 0)::bigint + coalesce(snapsync.raw_length(access_tables), 0)
             + coalesce(snapsync.raw_length(scope_reads), 0) + snapsync.raw_length(shape) / 8
             + snapsync.raw_length(key) + coalesce(snapsync.raw_length(columns), 0) + snapsync.raw_length(exclude)
             + snapsync.raw_length(readonly) + snapsync.raw_length(image)
      FROM snapsync.collection WHERE relation = $1
      UNION ALL
      SELECT coalesce(octet_length(p.polqual::text), 0)::bigint + snapsync.raw_length(p.polroles)
      FROM part
      CROSS JOIN LATERAL (SELECT polqual, polroles FROM pg_policy WHERE polrelid = part.oid AND polcmd IN ('*', 'r') OFFSET 0) AS p
      UNION ALL
      -- (Of each that a privilege is given to, the name is looked up and compared.)
      SELECT 4 * (SELECT coalesce(sum(snapsync.raw_length(a.acl)), 0)
                  FROM (SELECT relacl AS acl FROM pg_class WHERE oid = $1
                        UNION ALL SELECT attacl FROM pg_attribute WHERE attrelid = $1 AND attacl IS NOT NULL) AS a)
      UNION ALL
      SELECT octet_length(w.ev_action::text)
      FROM read CROSS JOIN LATERAL (SELECT ev_action FROM pg_rewrite WHERE ev_class = read.objid AND ev_type = '1' OFFSET 0) AS w
      WHERE read.classid = 'pg_class'::regclass
      UNION ALL
      SELECT octet_length(f.prosrc)::bigint + coalesce(octet_length(f.probin), 0) + coalesce(octet_length(f.prosqlbody::text), 0)
             + coalesce(octet_length(f.proargdefaults::text), 0) + coalesce(snapsync.raw_length(f.proargnames), 0)
             + coalesce(snapsync.raw_length(f.proconfig), 0) + coalesce(snapsync.raw_length(f.protrftypes), 0)
             + coalesce(octet_length(g.agginitval), 0) + coalesce(octet_length(g.aggminitval), 0)
      FROM function CROSS JOIN LATERAL (SELECT * FROM pg_proc WHERE pg_proc.oid = function.oid OFFSET 0) AS f
      LEFT JOIN LATERAL (SELECT agginitval, aggminitval FROM pg_aggregate WHERE aggfnoid = function.oid OFFSET 0) AS g ON true
      UNION ALL
      SELECT octet_length(s.dictinitoption)
      FROM read CROSS JOIN LATERAL (SELECT dictinitoption FROM pg_ts_dict WHERE oid = read.objid OFFSET 0) AS s
      WHERE read.classid = 'pg_ts_dict'::regclass
      UNION ALL
      SELECT octet_length(e.adbin::text)
      FROM (SELECT objid FROM read WHERE classid = 'pg_class'::regclass UNION SELECT oid FROM part) AS t(oid)
      CROSS JOIN LATERAL (SELECT attnum FROM pg_attribute WHERE attrelid = t.oid AND attgenerated = 'v' AND NOT attisdropped OFFSET 0) AS a
      CROSS JOIN LATERAL (SELECT adbin FROM pg_attrdef WHERE adrelid = t.oid AND adnum = a.attnum OFFSET 0) AS e) AS stored(size)
