-- The events, as `tgtype` has them, on which triggers for each row of table $1 may look at what stands there (facts.rs, `looking`; bits of tgtype as in facts.sql): those after the
-- row ($2 = 1), or before it ($2 = 3).
WITH tree AS (
    SELECT relid FROM snapsync.parts($1) AS part(relid)),
-- Who reads one of these may read rows of the table: itself, its partitions, and what it and they inherit from.
family AS (
    WITH RECURSIVE up(oid) AS (
        SELECT relid FROM tree
        UNION
        SELECT i.inhparent FROM up CROSS JOIN LATERAL (SELECT inhparent FROM pg_inherits WHERE inhrelid = up.oid OFFSET 0) AS i)
    SELECT up.oid, c.relname FROM up CROSS JOIN LATERAL (SELECT relname FROM pg_class WHERE oid = up.oid OFFSET 0) AS c),
own AS (
    SELECT t.* FROM tree CROSS JOIN LATERAL (SELECT * FROM pg_trigger WHERE tgrelid = tree.relid OFFSET 0) AS t
    WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgfoid <> 'snapsync.track()'::regprocedure),
-- The columns of other tables, but for their keys, that policies and triggers may ask before each row: what a trigger sets there after the row before, the next row is to find. So who sets
-- one after a row looks, too; and where one does, those before the row do.
asked AS (
    SELECT c.relname, a.attname
    FROM (SELECT d.refobjid, d.refobjsubid
          FROM (SELECT oid FROM pg_policy WHERE polrelid = $1 OFFSET 0) AS p
          CROSS JOIN LATERAL (SELECT refobjid, refobjsubid FROM pg_depend WHERE classid = 'pg_policy'::regclass AND objid = p.oid
                                                                             AND refclassid = 'pg_class'::regclass AND refobjsubid > 0 OFFSET 0) AS d
          UNION
          SELECT c.oid, a.attnum
          FROM (SELECT DISTINCT tgfoid FROM own WHERE tgtype & 67::int2 = 3) AS t
          CROSS JOIN LATERAL (SELECT prosrc FROM pg_proc WHERE oid = t.tgfoid AND prolang NOT IN (12, 13) OFFSET 0) AS p
          CROSS JOIN LATERAL (SELECT array_agg(DISTINCT lower(w.text)::name) AS names FROM regexp_split_to_table(p.prosrc, E'[^a-zA-Z0-9_]+') AS w(text)) AS w
          CROSS JOIN LATERAL unnest(w.names) AS n(name)
          CROSS JOIN LATERAL (SELECT oid FROM pg_class WHERE relname = n.name AND relkind IN ('r', 'p') AND oid >= 16384 OFFSET 0) AS c
          CROSS JOIN LATERAL (SELECT attnum FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND attname = ANY (w.names) OFFSET 0) AS a) AS d(relid, attnum)
    CROSS JOIN LATERAL (SELECT relname FROM pg_class WHERE oid = d.relid OFFSET 0) AS c
    CROSS JOIN LATERAL (SELECT attname FROM pg_attribute WHERE attrelid = d.relid AND attnum = d.attnum OFFSET 0) AS a
    WHERE NOT EXISTS (SELECT FROM family AS f WHERE f.oid = d.relid)
      AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = d.relid AND indisprimary AND d.attnum = ANY (indkey) OFFSET 0)),
-- The triggers, by the functions that they begin with. (Each partition has a copy of them.)
beginning AS (
    SELECT g.called, g.args, g.timing, bit_or(g.tgtype) AS tgtype, bool_or(g.sees_statement) AS sees_statement
    FROM (SELECT t.tgtype, t.tgtype & 67::int2 AS timing, t.tgnewtable IS NOT NULL OR t.tgoldtable IS NOT NULL AS sees_statement,
                 -- (C has no text; what it is to look at, its arguments may tell.)
                 CASE WHEN p.prolang IN (12, 13) THEN lower(encode(t.tgargs, 'escape')) END AS args,
                 CASE WHEN t.tgqual IS NOT NULL
                      THEN ARRAY(SELECT refobjid FROM pg_depend
                                 WHERE classid = 'pg_trigger'::regclass AND objid = t.oid AND refclassid = 'pg_proc'::regclass ORDER BY refobjid)
                 END || t.tgfoid AS called
          FROM own AS t CROSS JOIN LATERAL (SELECT prolang FROM pg_proc WHERE oid = t.tgfoid OFFSET 0) AS p
          -- (One that waits for the commit finds all there is.)
          WHERE t.tgtype & 67::int2 IN (1, $2) AND NOT t.tginitdeferred) AS g
    GROUP BY g.called, g.args, g.timing)
-- Nothing tells what a function reads but its text: each word of it may be the name of a function or a table, in whatever schema, and so on from there, with what runs where
-- such a table is read and written. In doubt it looks, also where there is too much to go through.
SELECT coalesce(bit_or(b.tgtype), 0)
FROM beginning AS b
WHERE b.timing = $2 AND b.sees_statement
   OR b.timing = $2 AND EXISTS (SELECT FROM family AS f WHERE strpos(b.args, lower(encode(convert_to(f.relname::text, getdatabaseencoding()), 'escape'))) > 0)
   OR EXISTS (
    -- (`writes`: what may be done to the table, as bits of tgtype.)
    WITH RECURSIVE reached(kind, oid, writes) AS (
        SELECT 'function', f.oid, 0 FROM unnest(b.called) AS f(oid)
        UNION
        SELECT n.kind, n.oid, n.writes
        FROM reached AS r CROSS JOIN LATERAL (
            SELECT t.kind, t.oid, t.writes
            FROM (SELECT prosrc,
                         -- SQL that is put together as it runs, unless it is a setting. In other languages than SQL and PL/pgSQL it may always be.
                         prosrc ~* E'\\mexecute\\M(?!\\s*((pg_catalog\\.)?format\\s*\\(\\s*)?''\\s*(set|reset|notify)\\M)|\\m(query|table|cursor|schema|database)_to_xml'
                         OR prosrc ~* E'\\m(ts_stat|ts_rewrite|push_changes|pull_changes)\\M'
                         OR prolang <> 14 AND NOT EXISTS (SELECT FROM pg_language WHERE oid = prolang AND lanname = 'plpgsql' OFFSET 0) AS is_open,
                         CASE WHEN prosrc ~* E'\\mmerge\\s+into\\M' THEN 28 ELSE 0 END | CASE WHEN prosrc ~* E'\\minsert\\s+into\\M' THEN 4 ELSE 0 END
                         | CASE WHEN prosrc ~* E'\\mdelete\\s+from\\M' THEN 8 ELSE 0 END | CASE WHEN prosrc ~* E'\\mupdate\\M' THEN 16 ELSE 0 END
                         | CASE WHEN prosrc ~* E'\\mtruncate\\M' THEN 32 ELSE 0 END AS writes
                  FROM pg_proc WHERE oid = r.oid AND r.kind = 'function' AND prolang NOT IN (12, 13) OFFSET 0) AS p
            CROSS JOIN LATERAL (
                SELECT array_agg(DISTINCT n.name::name) AS names
                FROM (SELECT DISTINCT s.text FROM regexp_split_to_table(p.prosrc, E'[\\x01-\\x23\\x25-\\x2f\\x3a-\\x40\\x5b-\\x5e\\x60\\x7b-\\x7f]+') AS s(text)
                      -- What stands between any two quotation marks, whether they belong together or not.
                      UNION ALL
                      SELECT replace(q.text, E'\x01', '"') FROM unnest(string_to_array(replace(p.prosrc, '""', E'\x01'), '"')) AS q(text)) AS w
                -- (Between dollars there may be a quoted statement.)
                CROSS JOIN LATERAL (SELECT w.text UNION ALL SELECT unnest(string_to_array(w.text, '$')) WHERE w.text LIKE '%$%') AS d(text)
                CROSS JOIN LATERAL (SELECT d.text UNION ALL SELECT lower(d.text)) AS n(name)) AS w
            CROSS JOIN LATERAL (
                SELECT 'anything', 0::oid, 0 WHERE p.is_open
                UNION ALL
                SELECT 'asked', 0::oid, 0
                WHERE EXISTS (SELECT FROM asked WHERE p.is_open OR p.writes & 16 <> 0 AND relname = ANY (w.names) AND attname = ANY (w.names))
                UNION ALL
                SELECT o.kind, o.oid, o.writes
                FROM unnest(w.names) AS n(name)
                CROSS JOIN LATERAL (
                    SELECT 'function', oid, 0 FROM (SELECT oid, pronamespace FROM pg_proc WHERE proname = n.name OFFSET 0) AS named
                    WHERE oid >= 16384 AND pronamespace <> 'snapsync'::regnamespace
                    UNION ALL
                    SELECT 'table', oid, p.writes FROM (SELECT oid, relkind, relnamespace FROM pg_class WHERE relname = n.name OFFSET 0) AS named
                    WHERE oid >= 16384 AND relkind IN ('r', 'p', 'v', 'm', 'f') AND relnamespace <> 'snapsync'::regnamespace) AS o(kind, oid, writes)) AS t(kind, oid, writes)
            -- What parsed bodies, rules, policies, defaults, checks and conditions of triggers hang on is known exactly.
            UNION ALL
            SELECT CASE WHEN d.refclassid = 'pg_proc'::regclass THEN 'function' ELSE 'table' END, d.refobjid,
                   CASE WHEN d.refclassid = 'pg_proc'::regclass THEN 0 ELSE o.writes END
            FROM (SELECT 'pg_proc'::regclass, r.oid, 60 WHERE r.kind = 'function'
                  UNION ALL
                  SELECT 'pg_rewrite'::regclass, oid, CASE ev_type WHEN '1' THEN r.writes ELSE 60 END
                  FROM (SELECT oid, ev_type FROM pg_rewrite WHERE ev_class = r.oid AND r.kind = 'table' OFFSET 0) AS o
                  UNION ALL
                  SELECT 'pg_policy'::regclass, oid, 0 FROM (SELECT oid FROM pg_policy WHERE polrelid = r.oid AND r.kind = 'table' OFFSET 0) AS o
                  UNION ALL
                  SELECT 'pg_attrdef'::regclass, oid, NULL
                  FROM (SELECT oid FROM pg_attrdef WHERE adrelid = r.oid AND r.kind = 'table' AND r.writes & 20 <> 0 OFFSET 0) AS o
                  UNION ALL
                  SELECT 'pg_constraint'::regclass, oid, NULL
                  FROM (SELECT oid FROM pg_constraint WHERE conrelid = r.oid AND contype = 'c' AND r.kind = 'table' AND r.writes & 20 <> 0 OFFSET 0) AS o
                  UNION ALL
                  SELECT 'pg_trigger'::regclass, oid, NULL
                  FROM (SELECT oid FROM pg_trigger WHERE tgrelid = r.oid AND NOT tgisinternal AND tgtype & r.writes <> 0 AND r.kind <> 'function' OFFSET 0) AS o)
                 AS o(class, oid, writes)
            CROSS JOIN LATERAL (SELECT refclassid, refobjid FROM pg_depend
                                WHERE classid = o.class AND objid = o.oid AND refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass) OFFSET 0) AS d
            WHERE d.refclassid = 'pg_proc'::regclass OR o.writes IS NOT NULL
            -- What keys take along they do not look at; but triggers run there.
            UNION ALL
            SELECT 'taken along', g.tgconstrrelid, 24
            FROM (SELECT DISTINCT tgconstraint, tgconstrrelid FROM pg_trigger
                  WHERE tgrelid = r.oid AND tgisinternal AND r.kind <> 'function' AND r.writes & 8 <> 0 OFFSET 0) AS g
            CROSS JOIN LATERAL (SELECT confrelid, confdeltype FROM pg_constraint WHERE oid = g.tgconstraint AND contype = 'f' OFFSET 0) AS k
            WHERE k.confrelid = r.oid AND k.confdeltype IN ('c', 'n', 'd') AND NOT EXISTS (SELECT FROM tree AS own_part WHERE own_part.relid = g.tgconstrrelid)) AS n(kind, oid, writes))
    SELECT FROM (SELECT kind, oid, row_number() OVER () AS n FROM reached) AS r
    WHERE b.timing = $2 AND (r.kind = 'anything' OR r.kind = 'table' AND r.oid IN (SELECT oid FROM family))
       OR b.timing = 1 AND r.kind = 'asked'
       OR r.n > 300)
