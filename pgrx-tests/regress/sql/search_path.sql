-- Policies run over rows that the caller must not see. Whatever he puts into his search_path, no operator of his gets to see
-- their values.
\set ECHO none
\set test regress_search_path
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
\set ECHO none
SET client_min_messages = warning;
CREATE TYPE kind AS ENUM ('open', 'closed');
CREATE TABLE members (who name, team varchar(20), PRIMARY KEY (who, team));
CREATE TABLE docs (id int PRIMARY KEY, team varchar(20));
CREATE TABLE pairs (id int PRIMARY KEY, who name, team varchar(20));
CREATE TABLE cases (id int PRIMARY KEY, kind kind);
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
ALTER TABLE pairs ENABLE ROW LEVEL SECURITY;
ALTER TABLE cases ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON docs FOR SELECT USING (team IN (SELECT m.team FROM members AS m WHERE m.who = current_user));
CREATE POLICY p ON pairs FOR SELECT USING ((who, team) IN (SELECT m.who, m.team FROM members AS m WHERE m.who = current_user));
CREATE POLICY p ON cases FOR SELECT USING (CASE kind WHEN 'open' THEN true ELSE current_user = 'alice' END);
GRANT SELECT ON members, docs, pairs, cases TO alice, bob;
GRANT CREATE ON DATABASE regress_search_path TO bob;
SELECT snapsync.enable('docs'), snapsync.enable('pairs'), snapsync.enable('cases');
INSERT INTO members VALUES ('alice', 'red'), ('bob', 'blue');
INSERT INTO docs VALUES (1, 'red'), (2, 'blue');
INSERT INTO pairs VALUES (1, 'alice', 'red'), (2, 'bob', 'blue');
INSERT INTO cases VALUES (1, 'closed'), (2, 'open');
RESET client_min_messages;
\set ECHO all

SET ROLE bob;
CREATE SCHEMA evil;
CREATE FUNCTION evil.look(text, varchar) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN RAISE WARNING 'saw % %', $1, $2; RETURN true; END $$;
CREATE FUNCTION evil.look(varchar, varchar) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN RAISE WARNING 'saw % %', $1, $2; RETURN true; END $$;
CREATE FUNCTION evil.look(public.kind, public.kind) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN RAISE WARNING 'saw % %', $1, $2; RETURN true; END $$;
CREATE OPERATOR evil.= (FUNCTION = evil.look, LEFTARG = text, RIGHTARG = varchar);
CREATE OPERATOR evil.= (FUNCTION = evil.look, LEFTARG = varchar, RIGHTARG = varchar);
CREATE OPERATOR evil.= (FUNCTION = evil.look, LEFTARG = public.kind, RIGHTARG = public.kind);
SELECT t.catch_up('docs', 'pairs', 'cases');
RESET ROLE;
DELETE FROM docs;
DELETE FROM pairs;
DELETE FROM cases;
SET ROLE bob;
SET search_path = evil, public;
SELECT what, item FROM t.pull('{docs,pairs,cases}', current_setting('t.cursor'));
RESET search_path;

-- Nor where he has no right any more to create there what he created before.
RESET ROLE;
INSERT INTO docs VALUES (1, 'red'), (2, 'blue');
INSERT INTO pairs VALUES (1, 'alice', 'red'), (2, 'bob', 'blue');
INSERT INTO cases VALUES (1, 'closed'), (2, 'open');
SET ROLE bob;
REVOKE CREATE ON SCHEMA evil FROM bob;
SELECT t.catch_up('docs', 'pairs', 'cases');
RESET ROLE;
DELETE FROM docs;
DELETE FROM pairs;
DELETE FROM cases;
SET ROLE bob;
SET search_path = evil, public;
SELECT what, item FROM t.pull('{docs,pairs,cases}', current_setting('t.cursor'));

-- Nor does one say what is stored: a push names its operators, also where the system's come after somebody's.
RESET ROLE;
RESET search_path;
CREATE SCHEMA told AUTHORIZATION bob;
GRANT USAGE ON SCHEMA told TO PUBLIC;
SET ROLE bob;
DO $$
DECLARE
    type text;
BEGIN
    FOREACH type IN ARRAY '{text,int4,bool,name,oid,numeric,int8}'::text[] LOOP
        EXECUTE format('CREATE FUNCTION told.look(%1$s, %1$s) RETURNS bool LANGUAGE plpgsql AS $f$ BEGIN RAISE WARNING ''%%: %%, %%'', current_user, $1, $2; RETURN false; END $f$', 'pg_catalog.' || type);
        EXECUTE format('CREATE OPERATOR told.= (FUNCTION = told.look, LEFTARG = %1$s, RIGHTARG = %1$s)', 'pg_catalog.' || type);
        EXECUTE format('CREATE OPERATOR told.<> (FUNCTION = told.look, LEFTARG = %1$s, RIGHTARG = %1$s)', 'pg_catalog.' || type);
    END LOOP;
END $$;
RESET ROLE;
CREATE TABLE values_of (id int PRIMARY KEY, doc jsonb, at timestamptz, day date, tags text[], n int, gone boolean);
CREATE FUNCTION t.theirs(text, text, jsonb, jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $4';
GRANT USAGE ON SCHEMA t TO PUBLIC;
GRANT ALL ON values_of TO alice;
SELECT snapsync.enable('values_of', conflict => 'custom', conflict_function => 't.theirs(text,text,jsonb,jsonb)', soft_delete_column => 'gone');
SELECT format('CREATE TABLE wide (id int PRIMARY KEY, %s)', string_agg(format('c%s int', i), ', ')) FROM generate_series(1, 1590) AS i \gexec
GRANT ALL ON wide TO alice;
SELECT snapsync.enable('wide');
SET ROLE alice;
SELECT pull_changes('{values_of}') ->> 'timestamp' AS c \gset
SET search_path = told, pg_catalog, public;
SELECT push_changes('{"values_of": {"created": [{"id": 1, "doc": "{\"a\": 1}", "at": 1700000000000, "day": 1700000000000, "tags": "[\"x\"]", "n": 1}, {"id": 2, "doc": {"a": 2}, "at": "2026-01-01T00:00:00Z", "tags": "{y}"}]}}', :'c', 'watermelondb');
SELECT push_changes('{"values_of": {"updated": [{"id": 1, "n": 2}]}}', :'c', 'postgrest');
SELECT push_changes(json_build_object('wide', json_build_object('created', json_build_array((SELECT json_object_agg(name, 1) FROM (SELECT 'id' AS name UNION ALL SELECT 'c' || i FROM generate_series(1, 1590) AS i) AS x))))) ;
SELECT pull_changes('{values_of}', :'c', 'watermelondb') #> '{changes,values_of}';
RESET search_path;
SELECT id, doc, at AT TIME ZONE 'UTC' AS at, day, tags, n, gone FROM values_of ORDER BY id;
SELECT id, c1, c1590 FROM wide;
RESET ROLE;
