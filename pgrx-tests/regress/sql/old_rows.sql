-- Old rows are judged by policies as they are stored, parsed: what the session has set, its search path and whatever stands in it have no
-- say in it. What cannot be judged is a replacement, never an error. The log is read as a stream.
\set ECHO none
\set test regress_old_rows
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
\set ECHO none
SET client_min_messages = warning;
CREATE ROLE old_rows_mallory;
CREATE SCHEMA mallory AUTHORIZATION old_rows_mallory;
GRANT USAGE ON SCHEMA mallory TO PUBLIC;
-- A table of which mallory sees what the policy lets her, and alice all.
CREATE FUNCTION t.shared(name text, columns text, policy text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE %I (id text PRIMARY KEY, %s)', name, columns);
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('CREATE POLICY p ON %I USING (%s OR current_user = ''alice'')', name, policy);
    EXECUTE format('GRANT ALL ON %I TO PUBLIC', name);
    PERFORM snapsync.enable(name::regclass);
END
$$;
SELECT t.shared('geo', 'lvl float8', 'lvl < ''1.51''::float8'),
       t.shared('news', 'at timestamptz', 'at < ''2026-01-01 00:00+00''::timestamptz'),
       t.shared('arr', 'o text', 'o <> ALL (''{hidden,NULL}''::text[])'),
       t.shared('spans', 'i interval', 'i < interval ''-1 days +02:00:00'''),
       t.shared('raw', 'b bytea', 'b <> ''\x5c78''::bytea');
INSERT INTO geo VALUES ('warm', 1);
\set ECHO all

-- The caller's settings.
SELECT t.catch_up('geo', 'news', 'arr', 'spans', 'raw');
INSERT INTO geo VALUES ('SECRET', 1.8), ('seen', 1.5);
INSERT INTO news VALUES ('SECRET', '2026-01-01 10:00+00'), ('seen', '2025-12-31 23:59:59.999999+00');
INSERT INTO arr VALUES ('SECRET', 'z');
INSERT INTO spans VALUES ('SECRET', '1 day'), ('seen', '-1 days -02:00');
INSERT INTO raw VALUES ('SECRET', '\x5c78'), ('seen', '\x5c');
SET datestyle = 'SQL, DMY';
SET timezone = 'Asia/Shanghai';
SET intervalstyle = 'sql_standard';
SET extra_float_digits = -15;
SET bytea_output = 'escape';
DELETE FROM geo WHERE id <> 'warm';
DELETE FROM news;
DELETE FROM arr;
DELETE FROM spans;
DELETE FROM raw;
RESET datestyle;
RESET timezone;
RESET intervalstyle;
RESET extra_float_digits;
RESET bytea_output;
SET ROLE old_rows_mallory;
\set pull 'SELECT what, item FROM t.pull(''{geo,news,arr,spans,raw}'', :''from'')'
SELECT current_setting('t.cursor') AS from \gset
:pull;
SET extra_float_digits = -15;
SET datestyle = 'Postgres, DMY';
SET timezone = 'Asia/Shanghai';
SET intervalstyle = 'sql_standard';
SET array_nulls = off;
SET bytea_output = 'escape';
SET quote_all_identifiers = on;
SET standard_conforming_strings = off;
:pull;
RESET ALL;
SET client_min_messages = warning;

-- A function over a domain, with the caller's own one beside it.
SET ROLE NONE;
CREATE DOMAIN user_name AS text;
CREATE FUNCTION is_me(u user_name) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT u::text = current_user::text';
CREATE OPERATOR === (FUNCTION = texteq, LEFTARG = text, RIGHTARG = text);
SELECT t.shared('docs', 'owner user_name', 'is_me(owner)'), t.shared('cases', 'owner text', 'owner === current_user::text'),
       t.shared('kinds', 'owner text', 'CASE owner WHEN current_user::text THEN true ELSE owner IS NOT DISTINCT FROM ''all'' END');
INSERT INTO docs VALUES ('warm', 'alice');
SELECT t.catch_up('docs', 'cases', 'kinds');
INSERT INTO docs VALUES ('SECRET', 'alice'), ('mine', 'old_rows_mallory');
INSERT INTO cases VALUES ('SECRET', 'alice'), ('mine', 'old_rows_mallory');
INSERT INTO kinds VALUES ('SECRET', 'alice'), ('mine', 'old_rows_mallory'), ('any', 'all');
DELETE FROM docs WHERE id <> 'warm';
DELETE FROM cases;
DELETE FROM kinds;
SET ROLE old_rows_mallory;
SET client_min_messages = notice;
CREATE FUNCTION mallory.is_me(u text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'sees owner %', u; RETURN true; END $$;
CREATE FUNCTION mallory.yes(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'sees % and %', $1, $2; RETURN true; END $$;
CREATE OPERATOR mallory.=== (FUNCTION = mallory.yes, LEFTARG = text, RIGHTARG = text);
SELECT current_setting('t.cursor') AS from \gset
SET search_path = mallory, pg_catalog, public;
SELECT what, item FROM t.pull('{docs,cases}', :'from');
CREATE OPERATOR mallory.= (FUNCTION = mallory.yes, LEFTARG = text, RIGHTARG = text);
SELECT what, item FROM t.pull('{kinds}', :'from');
RESET search_path;
SET ROLE NONE;
SET client_min_messages = warning;

-- A row that a policy cannot take, and one nested too deep for the caller's stack.
SELECT t.shared('rates', 'owner text, n int', 'owner = current_user::text AND 10 / n > 1'),
       t.shared('metas', 'owner text, shared jsonb', 'owner = current_user::text OR shared ? current_user::text');
INSERT INTO rates VALUES ('warm', 'alice', 1);
SELECT t.sync('bob', 'rates'), t.sync('bob', 'metas'), t.sync('old_rows_mallory', 'metas');
INSERT INTO rates VALUES ('zero', 'bob', 0);
INSERT INTO metas VALUES ('deep', 'old_rows_mallory', (repeat('[', 3000) || repeat(']', 3000))::jsonb);
DELETE FROM rates WHERE id = 'zero';
DELETE FROM metas;
SELECT t.sync('bob', 'rates');
SET max_stack_depth = '200kB';
SELECT t.sync('bob', 'metas');
RESET max_stack_depth;

-- The settings of who writes and of who pulls, for a condition on an access table.
SET datestyle = 'SQL, DMY';
CREATE TABLE members (id int PRIMARY KEY, doc int, who name, since date);
CREATE TABLE papers (id int PRIMARY KEY);
ALTER TABLE papers ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON papers USING (EXISTS (SELECT FROM members WHERE doc = papers.id AND who = current_user AND since <= date '01/02/2025'));
GRANT SELECT ON papers, members TO PUBLIC;
SELECT snapsync.enable('papers');
RESET datestyle;
INSERT INTO papers VALUES (1), (2);
SELECT t.sync('bob', 'papers'), t.sync('alice', 'papers');
INSERT INTO members VALUES (1, 1, 'bob', '2025-01-15');
SELECT t.sync('bob', 'papers'), t.sync('alice', 'papers');
SET datestyle = 'SQL, MDY';
UPDATE members SET since = '2025-02-15';
SELECT t.sync('bob', 'papers'), t.sync('alice', 'papers');
RESET datestyle;

-- More entries than are kept in memory, nearly all of others: of rows, and of memberships.
CREATE TABLE items (id int PRIMARY KEY, who name, n int);
ALTER TABLE items ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON items USING (who = current_user);
GRANT ALL ON items TO PUBLIC;
SELECT snapsync.enable('items');
INSERT INTO items SELECT i, CASE WHEN i % 1000 = 0 THEN 'bob' ELSE 'carol' END, 0 FROM generate_series(1, 12000) AS i;
SELECT t.sync('bob', 'items');
UPDATE items SET n = 1;
UPDATE items SET who = 'carol' WHERE id = 1000;
UPDATE items SET who = 'bob' WHERE id IN (1, 12);
DELETE FROM items WHERE id IN (2000, 2001, 3000, 3001);
INSERT INTO items VALUES (12001, 'bob', 0), (12002, 'carol', 0);
INSERT INTO items VALUES (20000, 'bob', 0);
DELETE FROM items WHERE id = 20000;
DELETE FROM items WHERE id BETWEEN 5001 AND 5999;
SELECT t.sync('bob', 'items');
-- A transaction that is written in parts, too.
SET snapsync.flush_threshold = 1000;
BEGIN;
UPDATE items SET n = 2;
UPDATE items SET who = 'bob' WHERE id IN (13, 14);
UPDATE items SET who = 'carol' WHERE id IN (14, 4000);
INSERT INTO items VALUES (30000, 'bob', 0);
DELETE FROM items WHERE id = 30000;
UPDATE items SET n = 3;
COMMIT;
RESET snapsync.flush_threshold;
SELECT t.sync('bob', 'items');
INSERT INTO members SELECT i, 3, 'carol', '2020-01-01' FROM generate_series(10, 12000) AS i;
UPDATE members SET doc = 4 WHERE id > 1;
SELECT t.sync('bob', 'papers'), t.sync('alice', 'papers');
UPDATE members SET doc = 5 WHERE id > 1;
UPDATE members SET who = 'bob' WHERE id = 11999;
UPDATE members SET who = 'carol' WHERE id = 11999;
SELECT t.sync('bob', 'papers'), t.sync('alice', 'papers');

-- A policy that asks for what no entry has, and an UPDATE that leaves no old state.
CREATE TABLE places (id int PRIMARY KEY, v int);
ALTER TABLE places ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON places USING (ctid <> '(0,3)');
GRANT SELECT ON places TO PUBLIC;
SELECT snapsync.enable('places');
INSERT INTO places VALUES (1, 1), (2, 1);
SELECT t.sync('bob', 'places');
UPDATE places SET v = 2 WHERE id = 1;
SELECT t.sync('bob', 'places');

-- Columns that decide and that the role may not read: it gets rows without them.
CREATE TABLE drawers (id int PRIMARY KEY, org int, gone timestamptz, t text);
GRANT SELECT (id, t), INSERT, UPDATE ON drawers TO bob;
SELECT snapsync.enable('drawers', soft_delete_column => 'gone', scope_column => 'org', scope_values => 'ARRAY[''7'']');
INSERT INTO drawers VALUES (1, 7, NULL, 'a'), (2, 8, NULL, 'b'), (3, 7, now(), 'c');
SET ROLE bob;
SELECT set_config('t.cursor', '', false);
SELECT what, item FROM t.pull('{drawers}');
RESET ROLE;
UPDATE drawers SET t = 'd';
UPDATE drawers SET gone = now() WHERE id = 1;
UPDATE drawers SET gone = NULL WHERE id = 3;
SET ROLE bob;
SELECT what, item FROM t.pull('{drawers}');
SELECT public.push_changes('{"drawers": {"updated": [{"id": 3, "t": "e"}]}}', client_id => 'd');
SELECT public.pull_changes('{drawers}', current_setting('t.cursor'), client_id => 'd', skip_echoes => true) -> 'changes';
SELECT id, gone FROM drawers;
RESET ROLE;

\set ECHO none
SET client_min_messages = error;
DROP OWNED BY old_rows_mallory CASCADE;
DROP ROLE old_rows_mallory;
