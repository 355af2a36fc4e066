-- None of an owner's SQL runs while it is read: neither by whoever enables the table again, nor by others' DDL, nor by a pull. What runs as
-- a table's owner, restricted, leaves nothing in the session and sees no rows that row-level security hides.
\set ECHO none
\set test regress_owner_literals
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE t.ran (who name, what text);
GRANT INSERT ON t.ran TO PUBLIC;
CREATE SCHEMA mallory AUTHORIZATION alice;
GRANT USAGE ON SCHEMA mallory TO PUBLIC;
SET ROLE alice;
CREATE FUNCTION mallory.tell(what text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO t.ran VALUES (current_user, what);
    RETURN true;
END
$$;
CREATE DOMAIN mallory.d AS int CHECK (mallory.tell('check'));
CREATE DOMAIN mallory.ds AS mallory.d[];
CREATE TYPE mallory.pair AS (a mallory.d);
CREATE TYPE mallory.mood AS ENUM ('glad', 'sad');
CREATE TYPE mallory.span AS RANGE (subtype = mallory.d, multirange_type_name = mallory.spans);
CREATE FUNCTION mallory.of(mallory.d[]) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION mallory.takes(mallory.d) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE TABLE mallory.t (id int PRIMARY KEY, org text);
CREATE TABLE mallory.m (id int PRIMARY KEY, at mallory.pair, parts mallory.ds);

-- Refused, wherever they stand: what is read so could run code of somebody's.
RESET ROLE;
CREATE FUNCTION t.given(predicate text) RETURNS TABLE (error text) LANGUAGE sql AS $$
    SELECT * FROM t.error(format('SELECT snapsync.enable(''mallory.t'', access_tables => %L)', jsonb_build_object('mallory.m', predicate)))
$$;
SELECT v, (SELECT string_agg(error, ' ') FROM t.given(v)) FROM unnest(ARRAY[
    'id = ANY (''{1}''::mallory.d[])', 'id = ANY (''{1}''::mallory.ds)', '''(1)''::mallory.pair IS NOT NULL', '''{"(1)"}''::mallory.pair[] IS NOT NULL',
    '''[1,2]''::mallory.span IS NOT NULL', '''{[1,2]}''::mallory.spans IS NOT NULL', '''{"[1,2]"}''::mallory.span[] IS NOT NULL',
    'mallory.of(''{1}'')', 'mallory.of(''{1}'' COLLATE "C")', 'at = ''(1)''', 'parts = ''{1}''',
    'at IN (''(1)'', ''(2)'')', 'coalesce(at, ''(1)'') IS NULL', 'cast(''{1}'' AS mallory.d[]) IS NULL', 'mallory.d ''1'' = 1 AND $1 = 1'
]) AS v;
SELECT error FROM t.error($$SELECT snapsync.enable('mallory.t', scope_column => 'org', scope_values =>
    'ARRAY(WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i FROM r) CYCLE i SET mark TO mallory.ds ''{1}'' DEFAULT mallory.ds ''{2}'' USING path SELECT i::text FROM r)')$$);
SELECT error FROM t.error($$SELECT snapsync.enable('mallory.t', scope_column => 'org', scope_values => 'ARRAY(SELECT v::text FROM (VALUES (''{1}''), (NULL::mallory.d[])) AS x(v))')$$);
SELECT error FROM t.error($$SELECT snapsync.enable('mallory.t', scope_column => 'org', scope_values => 'ARRAY(SELECT v::text FROM (SELECT ''{1}'' UNION SELECT NULL::mallory.d[]) AS x(v))')$$);
SELECT * FROM t.ran;
-- No number that SQL can write is a literal's (the number overflows up to PostgreSQL 17).
SELECT bool_or(error ~ 'parameter') AS refused FROM t.given('''1'' = $4294967295');
-- Taken: types that run nothing, and what is made when the SQL runs.
CREATE FUNCTION t.stored(predicate text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM snapsync.enable('mallory.t', access_tables => jsonb_build_object('mallory.m', predicate));
    RETURN (SELECT c.access_tables ->> 'mallory.m' FROM snapsync.collection AS c WHERE relation = 'mallory.t'::regclass);
END
$$;
SET client_min_messages = warning;
SELECT t.stored(v) FROM unnest(ARRAY[
    'id = ''1''', '''1''::mallory.d = id', 'id = ANY (''{1,2}'')', '''{glad}''::mallory.mood[] IS NOT NULL', 'int4range ''[1,2]'' @> id', 'id::mallory.d = ''1''',
    'ARRAY[''1'', ''2'']::mallory.d[] IS NOT NULL', 'ROW(''1'')::mallory.pair IS NOT NULL', 'mallory.span(1::mallory.d, 2::mallory.d) IS NOT NULL', 'mallory.of(ARRAY[1]::mallory.d[]) AND mallory.takes(''1'')',
    'format(''%s %s'', ''a'', id) = ''a 1'' AND json_build_object(''k'', id, ''l'', ''m'') IS NOT NULL AND ''x'' IS NOT NULL',
    'extract(''year'' FROM date ''2025-01-01'') = 2025 AND interval ''1'' day > ''0'' AND ''a'' LIKE ''a%'' ESCAPE ''!'' AND trim(''x'') = ''x''',
    'CASE ''a''::text WHEN ''a'' THEN ''t'' ELSE ''f'' END::boolean AND greatest(''a'', ''b'') COLLATE "C" = ''b'' AND (''a'', 1) = (''a''::text, id)',
    '''2025-01-01'' AT TIME ZONE ''UTC'' IS NOT NULL AND B''1'' = ''1''::bit AND jsonb ''{"a":1}'' -> ''a'' IS NOT NULL'
]) AS v;
-- A server may be built without XML.
DO $$
BEGIN
    ASSERT t.stored('xmlelement(name x, ''y'') IS NOT NULL') = '(XMLELEMENT(NAME x, ''y'') IS NOT NULL)';
EXCEPTION WHEN feature_not_supported THEN
    ASSERT sqlerrm = 'unsupported XML feature', sqlerrm;
END
$$;
RESET client_min_messages;
SELECT * FROM t.ran;

-- A text from before, or out of a dump: nobody reads it so. The next ::text in the session would be mallory's.
SET ROLE alice;
SELECT snapsync.enable('mallory.t', access_tables => '{"mallory.m": "id = 1"}');
CREATE FUNCTION mallory.evil(v text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN mallory.tell('evil'); END $$;
CREATE FUNCTION mallory.plant() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM mallory.tell('planted');
    EXECUTE 'CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (mallory.evil(VALUE))';
    RETURN true;
END
$$;
CREATE DOMAIN mallory.p AS int CHECK (mallory.plant());
ALTER TABLE mallory.t ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON mallory.t USING (true);
GRANT SELECT ON mallory.t TO bob;
RESET ROLE;
UPDATE snapsync.collection SET access_tables = $${"mallory.m": "(id = ANY ('{1}'::mallory.p[]))"}$$ WHERE relation = 'mallory.t'::regclass;
\connect
SET client_min_messages = warning;
SELECT snapsync.enable('mallory.t');
SELECT 'hello'::text;
ALTER TABLE mallory.m ADD COLUMN n int;
CREATE ROLE regress_nobody;
DROP OWNED BY regress_nobody;
DROP ROLE regress_nobody;
SELECT t.sync('bob', 'mallory.t');
INSERT INTO mallory.m VALUES (1);
SELECT t.sync('bob', 'mallory.t');
SELECT 'hello'::text;
SELECT * FROM t.ran;
UPDATE snapsync.collection SET access_tables = NULL, scope_column = 'org', scope_values = $$(ARRAY['1'] || ('{1}'::mallory.p[])::text[])$$ WHERE relation = 'mallory.t'::regclass;
\connect
SET ROLE bob;
SELECT error FROM t.error($$SELECT pull_changes('{mallory.t}')$$);
RESET ROLE;
SELECT * FROM t.ran;

-- Code of an access table's types and indexes runs as its owner where rows are looked up for a pull: it sets nothing for the session, and
-- functions that it calls see what they see otherwise.
CREATE SCHEMA victim AUTHORIZATION carol;
GRANT USAGE ON SCHEMA victim TO PUBLIC;
SET ROLE carol;
CREATE TABLE victim.secret (id int PRIMARY KEY);
ALTER TABLE victim.secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE victim.secret FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON victim.secret USING (false) WITH CHECK (true);
INSERT INTO victim.secret VALUES (1), (2), (3);
CREATE FUNCTION victim.mine() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN RETURN (SELECT count(*) FROM victim.secret); END $$;
SET ROLE alice;
CREATE FUNCTION mallory.one(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    PERFORM mallory.tell(format('carol''s function sees %s rows', victim.mine()));
    PERFORM set_config('search_path', 'mallory, pg_catalog', false);
    RETURN 1;
END
$$;
CREATE TABLE mallory.members (id int PRIMARY KEY, who name);
CREATE TABLE mallory.docs (id int PRIMARY KEY);
CREATE FUNCTION mallory.member() RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER AS $$ SELECT EXISTS (SELECT FROM mallory.members WHERE who = session_user) $$;
ALTER TABLE mallory.docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON mallory.docs USING (mallory.member());
GRANT SELECT ON mallory.docs TO bob;
SELECT snapsync.enable('mallory.docs', access_tables => '{"mallory.members": "who = session_user"}');
CREATE INDEX ON mallory.members ((id + mallory.one(1)));
RESET ROLE;
\connect
SET ROLE bob;
SELECT pull_changes('{mallory.docs}') ->> 'timestamp' AS cursor \gset
RESET ROLE;
INSERT INTO mallory.members VALUES (1, 'bob');
TRUNCATE t.ran;
\connect
-- Settings that are what they are pinned to already.
SET lc_monetary = 'C';
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET intervalstyle = 'postgres';
SET search_path = pg_catalog, pg_temp;
SET ROLE bob;
SELECT public.pull_changes('{mallory.docs}', :'cursor') ->> 'experimentalStrategy';
RESET ROLE;
SHOW search_path;
SELECT DISTINCT * FROM t.ran;
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA mallory, victim CASCADE;
