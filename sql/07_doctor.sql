-- What is wrong or could be better, each with the SQL that fixes it, or a template for it (`-- adapt:`).

CREATE FUNCTION snapsync.doctor()
RETURNS TABLE (severity text, collection text, finding text, fix text)
LANGUAGE sql STABLE SECURITY DEFINER PARALLEL UNSAFE
-- As its owner, because nobody else reads snapsync's tables; each role is told about its own tables only.
SET search_path = pg_catalog, pg_temp
AS $$
WITH RECURSIVE mine AS (
    SELECT c.*, c.relation::text AS tab, r.relrowsecurity, r.relacl, r.relowner, r.relkind
    FROM snapsync.collection AS c
    JOIN pg_class AS r ON r.oid = c.relation
    WHERE pg_has_role(session_user, r.relowner, 'USAGE')
), synced AS (
    SELECT * FROM mine WHERE name IS NOT NULL
), part AS (
    SELECT m.tab AS root, coalesce(m.name, m.tab) AS name, p.relid
    FROM mine AS m, LATERAL (SELECT relid FROM pg_partition_tree(m.relation) UNION SELECT m.relation) AS p
), verb(cmd, word, consequence) AS (
    VALUES ('a', 'INSERT', 'created rows'), ('w', 'UPDATE', 'updated rows'), ('d', 'DELETE', 'deletions')
), read(relation, classid, objid, direct) AS (
    -- What policies rest on, also behind views, operators and functions with bodies in standard SQL.
    SELECT s.relation, d.refclassid, d.refobjid, true
    FROM synced AS s
    JOIN pg_policy AS p ON p.polrelid = s.relation AND p.polcmd IN ('*', 'r')
    JOIN pg_depend AS d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid
    WHERE s.relrowsecurity AND d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_operator'::regclass)
    UNION
    SELECT r.relation, d.refclassid, d.refobjid, false
    FROM read AS r
    LEFT JOIN pg_rewrite AS w ON r.classid = 'pg_class'::regclass AND w.ev_class = r.objid AND w.ev_type = '1'
    JOIN pg_depend AS d ON d.classid = CASE r.classid WHEN 'pg_class'::regclass THEN 'pg_rewrite'::regclass ELSE r.classid END
                       AND d.objid = CASE r.classid WHEN 'pg_class'::regclass THEN w.oid ELSE r.objid END
    WHERE d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_operator'::regclass)
), hidden AS (
    -- Functions among these that seem to read tables: no dependency says which (of bodies in standard SQL, one does).
    SELECT s.name, s.tab, f.oid::regprocedure::text AS fn, bool_or(r.direct) AS direct
    FROM synced AS s
    JOIN read AS r ON r.relation = s.relation AND r.classid = 'pg_proc'::regclass
    JOIN pg_proc AS f ON f.oid = r.objid
    WHERE s.access_tables IS NULL AND f.prosrc ~* '\m(from|join)\M'
    GROUP BY 1, 2, 3
), hidden_scope AS (
    SELECT DISTINCT s.name, s.tab, f.oid::regprocedure::text AS fn
    FROM synced AS s, jsonb_array_elements_text(s.scope_reads -> 'functions') AS called(signature)
    JOIN pg_proc AS f ON f.oid = to_regprocedure(called.signature)
    WHERE s.access_tables IS NULL
      AND (f.prosrc ~* '\m(from|join)\M'
           OR EXISTS (SELECT FROM pg_depend AS b WHERE b.classid = 'pg_proc'::regclass AND b.objid = f.oid
                         AND b.refclassid = 'pg_class'::regclass))
), declared AS (
    SELECT s.name, s.tab, s.relation, d.key AS access, d.value AS predicate, to_regclass(d.key) AS oid
    FROM synced AS s, jsonb_each_text(s.access_tables) AS d
)
SELECT 'warning', name, 'row-level security is off: every role that may select the table syncs every row',
       format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY;', tab)
FROM synced WHERE NOT relrowsecurity
UNION ALL
SELECT 'error', name, 'row-level security is on, but no policy lets anybody select a row',
       format('-- adapt: CREATE POLICY read_own ON %s FOR SELECT USING (user_id = (SELECT auth.uid()));', tab)
FROM synced AS s WHERE relrowsecurity
 AND NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = s.relation AND polpermissive AND polcmd IN ('*', 'r'))
UNION ALL
SELECT 'info', s.name, format('no policy for %s: pushed %s are refused', v.word, v.consequence),
       format('-- adapt: CREATE POLICY %s_own ON %s FOR %s %s (user_id = (SELECT auth.uid()));', lower(v.word), s.tab, v.word,
              CASE v.cmd WHEN 'a' THEN 'WITH CHECK' ELSE 'USING' END)
FROM synced AS s, verb AS v WHERE s.relrowsecurity
 AND NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = s.relation AND polpermissive AND polcmd::text IN ('*', v.cmd))
UNION ALL
SELECT 'error', name, 'no role but its owner may select the table',
       format('-- adapt: GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO authenticated;', tab)
FROM synced AS s
WHERE NOT EXISTS (SELECT FROM aclexplode(s.relacl) AS a WHERE a.grantee <> s.relowner AND a.privilege_type = 'SELECT')
  AND NOT EXISTS (SELECT FROM pg_attribute AS t, aclexplode(t.attacl) AS a WHERE t.attrelid = s.relation AND a.privilege_type = 'SELECT')
UNION ALL
SELECT 'error', p.name, format('trigger %s of %s is missing', want.trigger, p.relid::text),
       coalesce((SELECT format('SELECT snapsync.enable(%L);', p.root) FROM synced WHERE tab = p.root),
                format('SELECT snapsync.enable(%L); -- any synced table whose policies read %s', (SELECT min(tab) FROM synced), p.root))
FROM part AS p CROSS JOIN (VALUES ('00_snapsync_track'), ('00_snapsync_truncate')) AS want(trigger)
WHERE NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = p.relid AND tgname = want.trigger)
UNION ALL
SELECT 'error', p.name, format('trigger %s of %s does not fire always: changes are lost', t.tgname, p.relid::text),
       format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I; SELECT snapsync.reset(%L);', p.relid::text, t.tgname, p.root)
FROM part AS p JOIN pg_trigger AS t ON t.tgrelid = p.relid
WHERE t.tgname IN ('00_snapsync_track', '00_snapsync_truncate') AND t.tgenabled <> 'A'
UNION ALL
SELECT DISTINCT 'error', root.tab,
       'it has snapsync''s triggers but is not synced, as after a restore without data: its changes fill the log for nobody',
       format('-- adapt: SELECT snapsync.enable(%L, ...); with the settings that it had', root.tab)
FROM pg_trigger AS t
JOIN pg_class AS r ON r.oid = t.tgrelid
CROSS JOIN LATERAL (SELECT coalesce(pg_partition_root(t.tgrelid), t.tgrelid) AS oid) AS top
CROSS JOIN LATERAL (SELECT top.oid::regclass::text AS tab) AS root
WHERE t.tgfoid = 'snapsync.track'::regproc AND pg_has_role(session_user, r.relowner, 'USAGE')
  AND NOT EXISTS (SELECT FROM snapsync.collection AS c WHERE c.relation = top.oid)
UNION ALL
SELECT 'error', name, format('it has become a partition of %s, which is not synced: its changes are lost', pg_partition_root(relation)::text),
       format('SELECT snapsync.disable(%L); SELECT snapsync.enable(%L);', tab, pg_partition_root(relation)::text)
FROM synced WHERE pg_partition_root(relation) <> relation
UNION ALL
SELECT 'error', coalesce(name, tab), 'the table has another owner since REASSIGN OWNED, which nobody was told of',
       format('SELECT snapsync.enable(%L); SELECT snapsync.reset(%L);', tab, tab)
FROM mine WHERE shape #>> '{security,2}' <> relowner::regrole::text AND name IS NOT NULL
UNION ALL
SELECT 'warning', name, format('function %s %s a policy may hide tables that decide who sees a row; changes in them go unnoticed',
                               fn, CASE WHEN direct THEN 'in' ELSE 'behind' END),
       format('-- adapt: SELECT snapsync.enable(%L, access_tables => ''{"schema.table": "user_id = auth.uid()"}''); or ''[]'' if it reads none', tab)
FROM hidden
UNION ALL
SELECT 'warning', name, format('function %s in scope_values may hide tables that decide a user''s scopes; changes in them go unnoticed', fn),
       format('-- adapt: SELECT snapsync.enable(%L, access_tables => ''{"schema.table": "user_id = auth.uid()"}''); or ''[]'' if it reads none', tab)
FROM hidden_scope
UNION ALL
SELECT DISTINCT 'warning', s.name, format('a policy reads the foreign table %s: changes there go unnoticed', f.oid::regclass),
       format('SELECT snapsync.reset(%L); -- after each change there; better, keep what decides in a table of this database', s.tab)
FROM synced AS s JOIN read AS r ON r.relation = s.relation AND r.classid = 'pg_class'::regclass
JOIN pg_class AS f ON f.oid = r.objid AND f.relkind = 'f'
UNION ALL
SELECT 'error', d.name, format('access table %s does not exist: what a function reads in its place goes unnoticed', d.access),
       format('SELECT snapsync.enable(%L, access_tables => %L);', d.tab,
              (SELECT coalesce(jsonb_object_agg(o.access, o.predicate), '{}') FROM declared AS o WHERE o.relation = d.relation AND o.oid IS NOT NULL))
FROM declared AS d WHERE d.oid IS NULL
UNION ALL
SELECT 'warning', d.name, format('the predicate of access table %s cannot be read any more: every change there resets every user', d.access),
       format('-- adapt: SELECT snapsync.enable(%L, access_tables => %L);', d.tab, jsonb_build_object(d.access, 'user_id = auth.uid()'))
FROM declared AS d JOIN snapsync.access AS a ON a.relation = d.relation AND a.access = coalesce(pg_partition_root(d.oid), d.oid)
WHERE d.predicate <> 'true' AND a.predicate = 'true'
UNION ALL
SELECT 'warning', s.name,
       CASE WHEN p.columns IS NULL
            THEN format('table %s, which decides who sees a row, has no primary key: any change in it resets everybody', a.access::text)
            ELSE format('table %s, which decides who sees a row, has a primary key that cannot name one (%s): any change in it resets everybody',
                        a.access::text, p.columns) END,
       format(CASE WHEN p.columns IS NULL THEN '-- adapt: ALTER TABLE %s ADD PRIMARY KEY (...);' ELSE 'ALTER TABLE %s %s;' END, a.access::text, p.mend)
FROM synced AS s JOIN snapsync.access AS a ON a.relation = s.relation JOIN snapsync.collection AS k ON k.relation = a.access,
     -- The columns of the primary key that are of other types than a key may have (admin.rs), domains looked through.
     LATERAL (SELECT string_agg(format('%I %s', t.attname, format_type(t.atttypid, t.atttypmod)), ', ' ORDER BY t.attnum) AS columns,
                     string_agg(format('ALTER COLUMN %I TYPE text', t.attname), ', ' ORDER BY t.attnum) AS mend
              FROM pg_index AS i JOIN pg_attribute AS t ON t.attrelid = i.indrelid AND t.attnum = ANY (i.indkey)
              JOIN pg_type AS y ON y.oid = t.atttypid
              WHERE i.indrelid = a.access AND i.indisprimary AND coalesce(nullif(y.typbasetype, 0), y.oid)
                  <> ALL ('{uuid,text,varchar,smallint,integer,bigint,numeric}'::regtype[])) AS p
WHERE k.key = '{}'
UNION ALL
SELECT 'info', s.name, format('every change in %s resets every user: it has no row-level security and no predicate', a.access::text),
       format('-- adapt: SELECT snapsync.enable(%L, access_tables => %L);', s.tab, jsonb_build_object(a.access::text, 'user_id = auth.uid()'))
FROM synced AS s JOIN snapsync.access AS a ON a.relation = s.relation JOIN pg_class AS r ON r.oid = a.access
WHERE a.kind = 'grant' AND NOT r.relrowsecurity AND coalesce(a.predicate, 'true') = 'true'
UNION ALL
SELECT 'warning', coalesce(m.name, m.tab),
       format('foreign key %I was not enforced for a time: rows may hang on none, so new rows of %s reset those whom they concern', f.conname, f.confrelid::regclass),
       format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s;', m.tab, f.conname, f.conname, pg_get_constraintdef(f.oid))
FROM mine AS m JOIN pg_constraint AS f ON f.contype = 'f' AND f.conrelid = m.relation AND m.shape -> 'unenforced' ? f.oid::text
WHERE EXISTS (SELECT FROM snapsync.access WHERE access = f.confrelid)
UNION ALL
SELECT 'warning', s.name,
       format('key column %s is numeric: row-level security keeps its index from being used, so pulls and pushes read the whole table', t.attname),
       format('-- adapt: ALTER TABLE %s ALTER COLUMN %I TYPE bigint;', s.tab, t.attname)
FROM synced AS s JOIN pg_attribute AS t ON t.attrelid = s.relation AND t.attname = ANY (s.key) JOIN pg_type AS y ON y.oid = t.atttypid
WHERE s.relrowsecurity AND coalesce(nullif(y.typbasetype, 0), y.oid) = 'numeric'::regtype
UNION ALL
SELECT 'info', s.name, format('column %s is read by a policy and leads no index', t.attname),
       format('CREATE INDEX ON %s (%I);', s.tab, t.attname)
FROM synced AS s
JOIN pg_attribute AS t ON t.attrelid = s.relation
WHERE s.relrowsecurity AND t.attnum > 0
  AND EXISTS (SELECT FROM pg_depend AS d JOIN pg_policy AS p ON p.oid = d.objid
              WHERE d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = s.relation
                AND d.refobjsubid = t.attnum AND p.polrelid = s.relation)
  AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = s.relation AND indkey[0] = t.attnum)
UNION ALL
SELECT 'warning', s.name, 'tables inherit from it: their rows are not synced', format('SELECT snapsync.disable(%L);', s.tab)
FROM synced AS s WHERE s.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = s.relation)
UNION ALL
SELECT 'warning', NULL, format('the log takes %s', pg_size_pretty(pg_total_relation_size('snapsync.change'))),
       'SELECT snapsync.prune(''30 days''); -- clients that stayed away longer take everything anew'
WHERE pg_total_relation_size('snapsync.change') > 1024::bigint * 1024 * 1024 AND EXISTS (SELECT FROM mine)
UNION ALL
SELECT 'warning', NULL,
       format('prepared transaction %L of %s holds every cursor back: changes since then are sent again with every pull', x.gid, x.prepared),
       format('COMMIT PREPARED %L; -- or ROLLBACK PREPARED %L', x.gid, x.gid)
FROM pg_prepared_xacts AS x
WHERE x.database = current_database() AND EXISTS (SELECT FROM mine)
  AND EXISTS (SELECT FROM pg_locks AS l WHERE l.locktype = 'advisory' AND l.objsubid = 3 AND l.virtualtransaction = '-1/' || x.transaction)
UNION ALL
SELECT 'info', NULL, format('process %s has been writing its changes for %s; until it commits, changes are sent again', l.pid, now() - a.xact_start),
       format('SELECT pg_terminate_backend(%s); -- or wait', l.pid)
FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.objsubid = 3 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND a.xact_start < now() - interval '1 minute' AND EXISTS (SELECT FROM mine)
$$;
COMMENT ON FUNCTION snapsync.doctor() IS
'Findings about the synced tables of the user who opened the session (SET ROLE changes nothing), each with its severity (error: wrong now; warning; info) and the SQL that fixes it, or a template for it (-- adapt: ...)';
