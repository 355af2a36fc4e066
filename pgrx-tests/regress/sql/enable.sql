-- snapsync.enable, disable and reset: what they do and what they refuse.
\set ECHO none
\set test regress_enable
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

-- Nothing but two triggers is added to the table, and both fire whatever session_replication_role says.
CREATE TABLE todos (id int PRIMARY KEY, title text, done boolean NOT NULL DEFAULT false);
INSERT INTO todos SELECT i, 'todo ' || i FROM generate_series(1, 3) AS i;
SELECT snapsync.enable('todos');
SELECT attname FROM pg_attribute WHERE attrelid = 'todos'::regclass AND attnum > 0 ORDER BY attnum;
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'todos'::regclass AND NOT tgisinternal ORDER BY tgname;
SELECT name, "table", key, columns, exclude, conflict, row_security, state FROM snapsync.status;
-- The rows that were there before count.
SELECT * FROM t.pull('{todos}');

-- A second call that changes nothing is no event for clients.
SELECT snapsync.enable('todos');
SELECT * FROM t.pull('{todos}');
-- One that changes what is synced is.
SELECT snapsync.enable('todos', exclude => '{done}');
SELECT * FROM t.pull('{todos}');
-- Arguments left out keep what is set.
SELECT snapsync.enable('todos', name => 'tasks');
SELECT name, columns, exclude FROM snapsync.status;
SELECT * FROM t.error($$ SELECT pull_changes('{todos}') $$);
SELECT snapsync.enable('todos', name => 'todos', columns => '{id,done}');
SELECT name, columns, exclude FROM snapsync.status;
SELECT * FROM t.pull('{todos}');
SELECT snapsync.enable('todos', exclude => '{}');
SELECT name, columns, exclude FROM snapsync.status;
-- The key is synced in any case.
SELECT snapsync.enable('todos', columns => '{title}');
SELECT * FROM t.pull('{todos}');
SELECT snapsync.enable('todos', exclude => '{}');

-- reset: every client takes the collection anew with its next pull, once.
SELECT t.catch_up('todos');
SELECT snapsync.reset('todos');
SELECT * FROM t.pull('{todos}');
SELECT * FROM t.pull('{todos}');

-- disable: the triggers and the log are gone, clients get an error; enabled again, whatever they have is replaced.
SELECT snapsync.disable('todos');
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'todos'::regclass;
SELECT count(*) FROM snapsync.change;
SELECT * FROM t.error($$ SELECT pull_changes('{todos}') $$);
SELECT * FROM t.error($$ SELECT snapsync.disable('todos') $$);
SELECT * FROM t.error($$ SELECT snapsync.reset('todos') $$);
DELETE FROM todos WHERE id = 1;
SELECT snapsync.enable('todos');
SELECT * FROM t.pull('{todos}');

-- Outside public a collection's name has the schema in it.
CREATE SCHEMA app;
CREATE TABLE app.todos (id int PRIMARY KEY);
SELECT snapsync.enable('app.todos');
CREATE TABLE app."Wörter & so" ("Der Schlüssel" text PRIMARY KEY, "a""b" int);
SELECT snapsync.enable('app."Wörter & so"');
INSERT INTO app."Wörter & so" VALUES ('ä', 1);
SELECT name, "table", key FROM snapsync.status ORDER BY name COLLATE "C";
SELECT * FROM t.pull('{app.todos,"app.Wörter & so"}');

-- The owner may, who is no superuser and has no right to anything of snapsync.
SET ROLE alice;
CREATE TABLE alices (id uuid PRIMARY KEY);
SELECT snapsync.enable('alices');
INSERT INTO alices VALUES ('00000000-0000-0000-0000-00000000000a');
SELECT * FROM t.pull('{alices}');
SELECT name FROM snapsync.status;
SELECT snapsync.reset('alices');
-- Others may not.
SET ROLE bob;
SELECT name FROM snapsync.status;
SELECT * FROM t.error($$ SELECT snapsync.enable('public.alices') $$);
SELECT * FROM t.error($$ SELECT snapsync.disable('public.alices') $$);
SELECT * FROM t.error($$ SELECT snapsync.reset('public.alices') $$);
SELECT * FROM t.error($$ SELECT snapsync.enable('app.todos', name => 'x') $$);
-- A function of theirs is not shown what the view hides, however cheap it says it is.
CREATE FUNCTION pg_temp.peep(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS 'BEGIN RAISE NOTICE ''%'', $1; RETURN true; END';
SELECT name FROM snapsync.status WHERE pg_temp.peep(name);
RESET ROLE;
GRANT alice TO bob;
SET ROLE bob;
SELECT snapsync.disable('alices');
RESET ROLE;
REVOKE alice FROM bob;
-- Nobody reads or writes the log and the settings.
SET ROLE bob;
SELECT * FROM t.error($$ SELECT * FROM snapsync.change $$);
SELECT * FROM t.error($$ SELECT * FROM snapsync.collection $$);
SELECT * FROM t.error($$ SELECT * FROM snapsync.horizon $$);
SELECT * FROM t.error($$ SELECT * FROM snapsync.epoch $$);
SELECT * FROM t.error($$ SELECT nextval('snapsync.clock') $$);
SELECT * FROM t.error($$ SELECT last_value FROM snapsync.clock $$);
SELECT * FROM t.error($$ DELETE FROM snapsync.change $$);
RESET ROLE;

-- Refused, each with the reason.
CREATE TABLE base (id int PRIMARY KEY, n int, code text);
CREATE VIEW a_view AS SELECT * FROM base;
SELECT * FROM t.error($$ SELECT snapsync.enable('a_view') $$);
CREATE MATERIALIZED VIEW a_matview AS SELECT * FROM base;
SELECT * FROM t.error($$ SELECT snapsync.enable('a_matview') $$);
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere;
CREATE FOREIGN TABLE a_foreign (id int) SERVER nowhere;
SELECT * FROM t.error($$ SELECT snapsync.enable('a_foreign') $$);
CREATE TEMP TABLE a_temp (id int PRIMARY KEY);
SELECT * FROM t.error($$ SELECT snapsync.enable('a_temp') $$);
CREATE UNLOGGED TABLE an_unlogged (id int PRIMARY KEY);
SELECT * FROM t.error($$ SELECT snapsync.enable('an_unlogged') $$);
CREATE SEQUENCE a_sequence;
SELECT * FROM t.error($$ SELECT snapsync.enable('a_sequence') $$);
SELECT * FROM t.error($$ SELECT snapsync.enable('base_pkey') $$);
CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
SELECT * FROM t.error($$ SELECT snapsync.enable('parted_1') $$);
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
SELECT * FROM t.error($$ SELECT snapsync.enable('parent') $$);
SELECT * FROM t.error($$ SELECT snapsync.enable('child') $$);
SELECT * FROM t.error($$ SELECT snapsync.enable('pg_catalog.pg_class') $$);
SELECT * FROM t.error($$ SELECT snapsync.enable('snapsync.change') $$);
SELECT * FROM t.error($$ SELECT snapsync.enable('information_schema.sql_features') $$);
SELECT * FROM t.error($$ SELECT snapsync.enable('nowhere') $$);
SELECT * FROM t.error($$ SELECT snapsync.enable(0) $$);
SELECT * FROM t.error($$ SELECT snapsync.enable(NULL) $$);

-- Keys.
CREATE TABLE no_key (id int);
SELECT * FROM t.error($$ SELECT snapsync.enable('no_key') $$);
SELECT * FROM t.error($$ SELECT snapsync.enable('base', key => '{}') $$);
SELECT * FROM t.error($$ SELECT snapsync.enable('base', key => '{NULL}') $$);
SELECT * FROM t.error($$ SELECT snapsync.enable('base', key => '{nope}') $$);
SELECT * FROM t.error($$ SELECT snapsync.enable('base', key => '{n}') $$);
ALTER TABLE base ALTER n SET NOT NULL, ALTER code SET NOT NULL;
SELECT * FROM t.error($$ SELECT snapsync.enable('base', key => '{n}') $$);
SELECT * FROM t.error($$ SELECT snapsync.enable('base', key => '{id,id}') $$);
SELECT * FROM t.error($$ SELECT snapsync.enable('base', key => '{ctid}') $$);
CREATE UNIQUE INDEX base_partial ON base (n) WHERE n > 0;
SELECT * FROM t.error($$ SELECT snapsync.enable('base', key => '{n}') $$);
CREATE UNIQUE INDEX base_expression ON base (lower(code));
SELECT * FROM t.error($$ SELECT snapsync.enable('base', key => '{code}') $$);
ALTER TABLE base ADD CONSTRAINT base_deferrable UNIQUE (n) DEFERRABLE INITIALLY IMMEDIATE;
SELECT * FROM t.error($$ SELECT snapsync.enable('base', key => '{n}') $$);
CREATE INDEX base_plain ON base (n);
SELECT * FROM t.error($$ SELECT snapsync.enable('base', key => '{n}') $$);
CREATE UNIQUE INDEX base_more ON base (n, code);
SELECT * FROM t.error($$ SELECT snapsync.enable('base', key => '{n}') $$);
-- The columns of a unique key in another order are a key; what an index INCLUDEs is not part of it.
SELECT snapsync.enable('base', key => '{code,n}');
SELECT snapsync.disable('base');
CREATE UNIQUE INDEX base_include ON base (n) INCLUDE (code);
SELECT snapsync.enable('base', key => '{n}');
SELECT key FROM snapsync.status WHERE name = 'base';
SELECT snapsync.disable('base');
CREATE TABLE timed (at timestamptz PRIMARY KEY);
SELECT * FROM t.error($$ SELECT snapsync.enable('timed') $$);
-- Of a table that is partitioned by a date there is no other key.
CREATE TABLE monthly (id int, on_day date, PRIMARY KEY (id, on_day)) PARTITION BY RANGE (on_day);
SELECT * FROM t.error($$ SELECT snapsync.enable('monthly') $$);
DROP TABLE monthly;
CREATE TABLE floating (x float8 PRIMARY KEY);
SELECT * FROM t.error($$ SELECT snapsync.enable('floating') $$);
CREATE TABLE padded (x char(5) PRIMARY KEY);
SELECT * FROM t.error($$ SELECT snapsync.enable('padded') $$);
CREATE TABLE truthy (x boolean PRIMARY KEY);
SELECT * FROM t.error($$ SELECT snapsync.enable('truthy') $$);
CREATE TABLE listed (x int[] PRIMARY KEY);
SELECT * FROM t.error($$ SELECT snapsync.enable('listed') $$);
CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE);
SELECT * FROM t.error($$ SELECT snapsync.enable('deferred') $$);

-- Columns, names, policies.
SELECT * FROM t.error($$ SELECT snapsync.enable('base', columns => '{id,nope}') $$);
SELECT * FROM t.error($$ SELECT snapsync.enable('base', exclude => '{nope}') $$);
SELECT * FROM t.error($$ SELECT snapsync.enable('base', exclude => '{id}') $$);
-- As many names as a table has columns, with dropped ones; each counts once.
SELECT e.*
FROM unnest('{key,columns,exclude,readonly}'::text[]) AS setting
CROSS JOIN LATERAL t.error(format('SELECT snapsync.enable(''base'', %s => (SELECT array_agg(n::text) FROM generate_series(1, 1601) AS n))', setting)) AS e;
SELECT snapsync.enable('base', exclude => array_fill('n'::text, ARRAY[100000]), readonly => '{n,id,n}');
SELECT exclude, readonly FROM snapsync.collection WHERE relation = 'base'::regclass;
SELECT snapsync.disable('base');
SELECT * FROM t.error($$ SELECT snapsync.enable('base', columns => '{id}', exclude => '{n}') $$);
SELECT * FROM t.error($$ SELECT snapsync.enable('base', name => 'todos') $$);
SELECT * FROM t.error($$ SELECT snapsync.enable('base', name => '') $$);
SELECT * FROM t.error($$ SELECT snapsync.enable('base', conflict => 'whatever') $$);
-- Versions are compared, so their type has an order, and that of its parts; a domain has its base's.
CREATE TYPE moods AS ENUM ('bad', 'good');
CREATE TYPE pair AS (a int, b json);
CREATE DOMAIN version AS int[];
CREATE TABLE versioned (id int PRIMARY KEY, json json, jsonb jsonb, point point, box box, xid xid, jsons json[], pair pair, text text, mood moods, ints int[],
    domain version, range int4range, float float8, timestamptz timestamptz, uuid uuid, xid8 xid8);
SELECT attname, e.* FROM pg_attribute
CROSS JOIN LATERAL t.error(format('SELECT snapsync.enable(''versioned'', conflict => ''last_write_wins'', version_column => %L)', attname)) AS e
WHERE attrelid = 'versioned'::regclass AND attnum > 1 ORDER BY attnum;
SET client_min_messages = warning;
-- Nor does a version column get such a type afterwards.
SELECT snapsync.enable('versioned', conflict => 'last_write_wins', version_column => 'text');
ALTER TABLE versioned ALTER text TYPE json USING to_json(text);
ALTER TABLE versioned ALTER text TYPE int USING text::int;
DROP TABLE versioned;
RESET client_min_messages;
-- A refusal leaves nothing behind.
SELECT name FROM snapsync.status ORDER BY name COLLATE "C";
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'base'::regclass AND NOT tgisinternal;

-- Triggers that somebody switched off: the state says so, enable() switches them on again, and clients take everything anew.
CREATE TABLE off (id int PRIMARY KEY);
SELECT snapsync.enable('off');
SELECT t.catch_up('off');
ALTER TABLE off DISABLE TRIGGER ALL;
INSERT INTO off VALUES (1);
SELECT state FROM snapsync.status WHERE name = 'off';
SELECT * FROM t.pull('{off}');
SELECT snapsync.enable('off');
SELECT state FROM snapsync.status WHERE name = 'off';
SELECT * FROM t.pull('{off}');
INSERT INTO off VALUES (2);
SELECT * FROM t.pull('{off}');
SET client_min_messages = error;
ALTER TABLE off DISABLE TRIGGER "00_snapsync_truncate";
RESET client_min_messages;
SELECT state FROM snapsync.status WHERE name = 'off';
-- Triggers without their collection, as a dump without data leaves them.
DELETE FROM snapsync.collection WHERE relation = 'off'::regclass;
SELECT severity, collection, finding, fix FROM snapsync.doctor() WHERE finding LIKE '%is not synced, as%';
-- In WatermelonDB's rows "id" is the key's text.
CREATE TABLE with_id (code text PRIMARY KEY, id int);
SELECT snapsync.enable('with_id');
SELECT snapsync.enable('with_id', conflict => 'merge');
SELECT snapsync.enable('with_id', key => '{code}', exclude => '{id}');
CREATE TABLE without_id (code text PRIMARY KEY, id int, n int);
SELECT snapsync.enable('without_id', columns => '{code,n}');
SET client_min_messages = error;
DROP TABLE off, with_id, without_id;
RESET client_min_messages;

-- The extension's functions may live in a schema of the user's choice, and everything goes with DROP EXTENSION.
DROP EXTENSION snapsync;
-- Also after changes that it would have logged.
BEGIN;
INSERT INTO todos VALUES (8);
DROP EXTENSION snapsync CASCADE;
COMMIT;
SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%snapsync%';
SELECT count(*) FROM pg_namespace WHERE nspname = 'snapsync';
INSERT INTO todos VALUES (9);
CREATE SCHEMA api;
CREATE EXTENSION snapsync SCHEMA api;
SELECT pronamespace::regnamespace, proname FROM pg_proc WHERE proname IN ('pull_changes', 'push_changes') ORDER BY 2;
SELECT snapsync.enable('todos');
SELECT regexp_replace(api.pull_changes('{todos}')::text, '"timestamp":\d+', '"timestamp":n');
