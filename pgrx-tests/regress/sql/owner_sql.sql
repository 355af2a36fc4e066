-- SQL that a table's owner gives is one expression, read with the owner's rights and never run by whoever enables; what is stored
-- means the same in every session.
\set ECHO none
\set test regress_owner_sql
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

-- Who ever runs code of mallory's, who owns a schema and nothing else.
CREATE TABLE t.ran (who name, how text);
GRANT INSERT ON t.ran TO PUBLIC;
CREATE SCHEMA mallory AUTHORIZATION alice;
GRANT USAGE ON SCHEMA mallory TO PUBLIC;
SET ROLE alice;
CREATE FUNCTION mallory.pwn(how text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO t.ran VALUES (current_user, how);
    RETURN true;
END
$$;
CREATE DOMAIN mallory.evil AS text CHECK (mallory.pwn(VALUE));
CREATE FUNCTION mallory.imm(how text) RETURNS text[] LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    PERFORM mallory.pwn(how);
    RETURN '{1}';
END
$$;
CREATE TABLE mallory.t (id int PRIMARY KEY, org text);
CREATE TABLE mallory.m (org text PRIMARY KEY, who name, since date, at timestamptz);
GRANT SELECT ON mallory.t, mallory.m TO bob;
INSERT INTO mallory.t VALUES (1, '1'), (2, '2');

-- A domain's check does not run where the text is read (owner_literals has more), but where a statement is planned: as who pulls.
SELECT error FROM t.error($q$SELECT snapsync.enable('mallory.t', scope_column => 'org', scope_values => $$('{domain}'::mallory.evil[])::text[]$$)$q$);
SELECT snapsync.enable('mallory.t', name => 't', scope_column => 'org', scope_values => $$ARRAY['1'::mallory.evil]::text[]$$);
RESET ROLE;
SELECT snapsync.enable('mallory.t', scope_values => $$ARRAY['2'::mallory.evil]::text[]$$);
SELECT * FROM t.ran;
SET ROLE bob;
SELECT pull_changes('{t}') #> '{changes,t,created}';
RESET ROLE;
SELECT DISTINCT * FROM t.ran;
TRUNCATE t.ran;
-- An immutable function, too. Enabled again by a DBA, or altered, nothing runs at all.
SET ROLE alice;
SELECT snapsync.enable('mallory.t', scope_values => $$mallory.imm('immutable')$$);
RESET ROLE;
SELECT snapsync.enable('mallory.t');
ALTER TABLE mallory.t ADD COLUMN n int;
SELECT snapsync.reset('mallory.t');
SELECT count(*) FROM snapsync.doctor() WHERE finding ~ 'immutable';
SELECT * FROM t.ran;
SET ROLE bob;
SELECT pull_changes('{t}') #> '{changes,t,created}';
RESET ROLE;
SELECT * FROM t.ran;
TRUNCATE t.ran;
-- A predicate, too, and at nobody's DDL.
SET ROLE alice;
SELECT snapsync.enable('mallory.t', access_tables => $${"mallory.m": "org = 'x'::mallory.evil AND mallory.imm('predicate') IS NOT NULL"}$$);
RESET ROLE;
SELECT DISTINCT * FROM t.ran;
TRUNCATE t.ran;
CREATE FUNCTION t.other() RETURNS int LANGUAGE sql AS 'SELECT 1';
ALTER TABLE mallory.t ADD COLUMN k int;
SELECT DISTINCT * FROM t.ran WHERE who <> 'alice';
SET ROLE alice;
SELECT snapsync.enable('mallory.t', access_tables => '[]');
RESET ROLE;
TRUNCATE t.ran;

-- One expression and nothing else.
SET ROLE alice;
SELECT t.error($$SELECT snapsync.enable('mallory.t', scope_values => $v$ '{}'); DO 'BEGIN PERFORM mallory.pwn(''second''); END'; SELECT ('{}' $v$)$$);
SELECT t.error($$SELECT snapsync.enable('mallory.t', scope_values => $v$ '{}')::text[]); DO 'BEGIN PERFORM mallory.pwn(''second''); END'; SELECT (('{}')$v$)$$);
SELECT t.error(format('SELECT snapsync.enable(''mallory.t'', scope_values => %L)', v))
FROM unnest(ARRAY['1, 2', '''{}'') AS a, (''{}''', '''{}'') FROM mallory.t WHERE (true', '''{}'') UNION SELECT (''{}''', '''{}'' /*', 'org', '7',
                  '(SELECT pg_catalog.array_agg(org) FROM mallory.gone)', '$1']) AS v;
SELECT t.error(format('SELECT snapsync.enable(''mallory.t'', access_tables => %L)', jsonb_build_object('mallory.m', v)))
FROM unnest(ARRAY['true; DROP TABLE mallory.m', 'true) OR (false', 'true) LIMIT (1', 'org', 'gone']) AS v;
-- A comment ends with its line.
SELECT snapsync.enable('mallory.t', scope_column => 'org', scope_values => $$'{a,b}' -- all$$);
RESET ROLE;
SELECT scope_values FROM snapsync.collection WHERE name = 't';

-- Names mean what they mean to the author, and are stored in full.
CREATE SCHEMA decoy;
GRANT USAGE ON SCHEMA decoy TO PUBLIC;
CREATE TABLE decoy.m (org text, who name);
INSERT INTO decoy.m VALUES ('2', 'bob');
GRANT SELECT ON decoy.m TO PUBLIC;
CREATE FUNCTION decoy.array_agg_text(text) RETURNS text[] LANGUAGE sql AS $$ SELECT '{2}'::text[] $$;
INSERT INTO mallory.m VALUES ('1', 'bob', '2025-02-01', '2025-02-01 12:00+00');
SET search_path = mallory, public;
SELECT snapsync.enable('t', scope_column => 'org', scope_values => $$ARRAY(SELECT org FROM m WHERE who = current_user)$$);
RESET search_path;
SELECT scope_values FROM snapsync.collection WHERE name = 't';
SET ROLE bob;
SET search_path = decoy, public;
SELECT pull_changes('{t}') #> '{changes,t,created}';
SET search_path = decoy, pg_catalog, public;
SELECT public.pull_changes('{t}') #> '{changes,t,created}';
RESET search_path;
RESET ROLE;

-- Literals mean what they mean to the author, whatever the settings of who pulls.
SET datestyle = 'SQL, DMY';
SET standard_conforming_strings = off;
SET escape_string_warning = off;
SELECT snapsync.enable('mallory.t', scope_values => $$ARRAY(SELECT org FROM mallory.m WHERE since <= '01/02/2025' AND at >= '01/02/2025 12:00 UTC' AND 'a\\b' = E'a\\b')$$);
RESET ALL;
SELECT scope_values FROM snapsync.collection WHERE name = 't';
SET ROLE bob;
SELECT pull_changes('{t}') #> '{changes,t,created}';
SET datestyle = 'SQL, DMY';
SET timezone = 'Asia/Tokyo';
SET standard_conforming_strings = off;
SET transform_null_equals = on;
SELECT pull_changes('{t}') #> '{changes,t,created}';
RESET ALL;
RESET ROLE;
-- Those of a predicate, as well: who joined in January is concerned by what the author means by the first of February.
CREATE TABLE mallory.d (id int PRIMARY KEY);
INSERT INTO mallory.d VALUES (1);
ALTER TABLE mallory.d ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION mallory.member() RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (SELECT FROM mallory.m WHERE who = current_user AND since <= date '2025-02-01');
END
$$;
CREATE POLICY p ON mallory.d USING (mallory.member());
GRANT SELECT ON mallory.d TO carol;
GRANT USAGE ON SCHEMA mallory TO carol;
GRANT SELECT ON mallory.m TO carol;
SET datestyle = 'SQL, DMY';
SELECT snapsync.enable('mallory.d', access_tables => $${"mallory.m": "who = current_user AND since <= '01/02/2025'"}$$);
RESET datestyle;
SELECT predicate FROM snapsync.access WHERE relation = 'mallory.d'::regclass;
SELECT t.sync('carol', 'mallory.d');
INSERT INTO mallory.m VALUES ('9', 'carol', '2025-01-15');
SET datestyle = 'SQL, MDY';
SET standard_conforming_strings = off;
SET quote_all_identifiers = on;
SELECT t.sync('carol', 'mallory.d');
RESET ALL;
DELETE FROM mallory.m WHERE org = '9';
-- How values are written, too.
SELECT snapsync.enable('mallory.t', scope_values => $$ARRAY(SELECT since::text FROM mallory.m)$$);
INSERT INTO mallory.t VALUES (3, '2025-02-01');
SET ROLE bob;
SET datestyle = 'SQL, DMY';
SELECT pull_changes('{t}') #> '{changes,t,created}';
RESET ALL;
RESET ROLE;

-- What cannot be stored so that it keeps its meaning is refused.
CREATE SCHEMA own;
GRANT USAGE ON SCHEMA own TO PUBLIC;
CREATE FUNCTION own.same(name, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE OPERATOR own.= (FUNCTION = own.same, LEFTARG = name, RIGHTARG = text);
SET search_path = own, pg_catalog, public;
SELECT t.error($$SELECT snapsync.enable('mallory.t', scope_values => 'ARRAY(SELECT org FROM mallory.m WHERE who IS NOT DISTINCT FROM org)')$$);
SELECT t.error($$SELECT snapsync.enable('mallory.t', scope_values => 'CASE current_user WHEN ''x''::text THEN ARRAY[''1''] ELSE ARRAY[''2''] END')$$);
SELECT snapsync.enable('mallory.t', scope_values => 'ARRAY(SELECT org FROM mallory.m WHERE who = ''x''::text)');
RESET search_path;
SELECT scope_values FROM snapsync.collection WHERE name = 't';
CREATE TEMP TABLE mine (org text);
CREATE DOMAIN pg_temp.d AS text;
CREATE FUNCTION pg_temp.f() RETURNS text[] LANGUAGE sql AS $$ SELECT '{1}'::text[] $$;
SELECT t.error(format('SELECT snapsync.enable(''mallory.t'', scope_values => %L)', v))
FROM unnest(ARRAY['ARRAY(SELECT org FROM mine)', 'ARRAY[(''1''::d)::text]', 'pg_temp.f()', '(SELECT array_agg(x::text) FROM (VALUES (NULL::mine)) AS v(x))']) AS v;

-- What is read back is what was given, however it is written.
CREATE FUNCTION t.stored(scope_values text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM snapsync.enable('mallory.t', scope_values => scope_values);
    RETURN (SELECT c.scope_values FROM snapsync.collection AS c WHERE name = 't');
END
$$;
SELECT t.stored(v) FROM unnest(ARRAY[
    '(SELECT array_agg(x) FROM unnest(ARRAY[''1'', ''2'']) AS x)',
    'string_to_array(current_setting(''app.orgs'', true), '','')',
    'ARRAY(SELECT DISTINCT a.org FROM mallory.m AS a JOIN mallory.m AS b USING (org) LEFT JOIN mallory.t ON t.org = a.org ORDER BY 1 LIMIT 10)',
    '(WITH w AS (SELECT org, row_number() OVER (PARTITION BY who ORDER BY since DESC) AS n FROM mallory.m) SELECT array_agg(org) FROM w WHERE n = 1)',
    'ARRAY(SELECT org FROM mallory.m WHERE (who, since) IN (SELECT who, max(since) FROM mallory.m GROUP BY who HAVING count(*) > 0) UNION ALL SELECT ''x'' EXCEPT SELECT ''y'')',
    'ARRAY(SELECT j ->> ''org'' FROM jsonb_array_elements(coalesce(nullif(current_setting(''request.jwt.claims'', true), ''''), ''[]'')::jsonb) AS j)',
    'ARRAY(SELECT org FROM mallory.m WHERE at > now() - interval ''1 mon -2 days 03:04:05.6'' AND since BETWEEN ''2025-01-01'' AND ''infinity'' AND org LIKE ''%'' AND who IN (''bob'', ''alice'') AND NOT EXISTS (SELECT FROM mallory.t WHERE t.org = m.org AND t.* IS NULL))',
    'CASE WHEN current_user = ''bob'' THEN ARRAY[1, -2, 3000000000]::text[] ELSE NULL END'
]) AS v;

-- A NULL is nobody's scope, and no list of scopes is none.
CREATE TABLE public.o (id int PRIMARY KEY, org int);
INSERT INTO public.o VALUES (1, 7), (2, 8), (3, NULL);
GRANT SELECT ON public.o TO bob;
CREATE FUNCTION t.scoped(scope_values text) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    answer json;
BEGIN
    PERFORM snapsync.enable('public.o', scope_column => 'org', scope_values => scope_values);
    SET LOCAL ROLE bob;
    answer := public.pull_changes('{o}') #> '{changes,o,created}';
    RESET ROLE;
    RETURN answer;
END
$$;
SELECT t.scoped(v) FROM unnest(ARRAY['ARRAY[''7'', NULL]', 'ARRAY[NULL, ''8'', ''7'']', 'ARRAY[NULL]::text[]', 'NULL', '''{}''', 'ARRAY[[''7'', ''8''], [NULL, NULL]]', '(SELECT ARRAY[''7''] WHERE false)']) AS v;

-- Whoever's command looks at the table reads its settings: what is given has a longest length, and so has what is stored of it.
SELECT * FROM t.error($$SELECT snapsync.enable('mallory.t', scope_column => 'org', scope_values => 'ARRAY[''' || repeat('x', 65536) || ''']')$$);
SELECT * FROM t.error($$SELECT snapsync.enable('mallory.t', scope_column => 'org', scope_values => 'ARRAY[' || repeat('1,', 20000) || '1]::text[]')$$);
SELECT * FROM t.error($$SELECT snapsync.enable('mallory.t', access_tables => jsonb_build_object('mallory.m', 'org <> ''' || repeat('x', 65536) || ''''))$$);
SELECT * FROM t.error($$SELECT snapsync.enable('mallory.t', access_tables => jsonb_build_object('mallory.m', 'org IN (''1''' || repeat(',''1''', 12000) || ')'))$$);
SELECT * FROM t.error($$SELECT snapsync.enable('mallory.t', access_tables => to_jsonb(array_fill('mallory.m'::text, ARRAY[10000])))$$);
SELECT snapsync.enable('mallory.t', scope_column => 'org', scope_values => 'ARRAY[''1'', ''' || repeat('x', 65000) || ''']');
-- One that an older version has stored is read, and stays while others are set.
UPDATE snapsync.collection SET scope_values = format('ARRAY[''2''::text, %L::text]', repeat('x', 100000)) WHERE name = 't';
SELECT snapsync.enable('mallory.t', readonly => '{org}');
SELECT length(scope_values) FROM snapsync.collection WHERE name = 't';
SET ROLE bob;
SELECT pull_changes('{t}') #> '{changes,t,created}';
RESET ROLE;
SELECT snapsync.enable('mallory.t', scope_values => '', readonly => '{}');

-- Functions that decide conflicts, and mutators, are known by their full names; who names one may call it.
CREATE FUNCTION own.settle(text, text, jsonb, jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $4';
CREATE FUNCTION own.mutate(json) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION pg_temp.settle(text, text, jsonb, jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $3';
CREATE FUNCTION pg_temp.mutate(json) RETURNS void LANGUAGE sql AS '';
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA own FROM PUBLIC;
SELECT t.error($$SELECT snapsync.enable('mallory.t', conflict => 'custom', conflict_function => 'own.settle(text,text,jsonb,jsonb)')$$);
SELECT regexp_replace(error, 'pg_temp_\d+', 'pg_temp')
FROM t.error($$SELECT snapsync.enable('mallory.t', conflict => 'custom', conflict_function => 'pg_temp.settle(text,text,jsonb,jsonb)')$$);
SELECT regexp_replace(error, 'pg_temp_\d+', 'pg_temp') FROM t.error($$SELECT snapsync.register_mutator('m', 'pg_temp.mutate(json)')$$);
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA own TO alice;
SET search_path = own, public;
SET quote_all_identifiers = on;
SELECT snapsync.enable('mallory.t', conflict => 'custom', conflict_function => 'settle(text,text,jsonb,jsonb)');
SELECT snapsync.register_mutator('m', 'mutate(json)');
RESET ALL;
SELECT conflict_function FROM snapsync.collection WHERE name = 't';
SELECT function FROM snapsync.mutator;
SET client_min_messages = warning;
DROP SCHEMA mallory, own CASCADE;
