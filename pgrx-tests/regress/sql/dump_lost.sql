-- A table that a restore leaves out, or cannot create, takes nothing along but itself.
\set ECHO none
\set test regress_dump_lost
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_dump_lost_copy;
CREATE DATABASE regress_dump_lost_copy TEMPLATE template0 ENCODING 'UTF8';
\set load '\\! "$SNAPSYNC_PG_BIN/pg_dump" --exclude-table=public.left_out regress_dump_lost | "$SNAPSYNC_PG_BIN/psql" -X -q -o /dev/null -d regress_dump_lost_copy 2>&1 | grep -c \'snapsync\\|COPY\''

CREATE TABLE members (org int, who name, PRIMARY KEY (org, who));
CREATE TABLE docs (id int PRIMARY KEY, org int);
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON docs USING (org IN (SELECT org FROM members WHERE who = current_user));
-- What a function reads of is left out, too.
CREATE TABLE left_out (id int PRIMARY KEY, who name);
CREATE TABLE cards (id int PRIMARY KEY);
ALTER TABLE cards ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION sees() RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$ BEGIN IF to_regclass('public.left_out') IS NULL THEN RETURN true; END IF; RETURN EXISTS (SELECT FROM public.left_out); END $$;
CREATE POLICY p ON cards USING (sees());
GRANT SELECT ON docs, members, cards, left_out TO alice;
-- One owner makes a default that cannot be read before the function's table is there.
CREATE SCHEMA o AUTHORIZATION bob;
SET ROLE bob;
CREATE TABLE o.there (x int);
CREATE FUNCTION o.here(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM 'o.there'::regclass; RETURN true; END $$;
CREATE DOMAIN o.d AS int CHECK (o.here(VALUE));
CREATE TABLE o.broken (id int PRIMARY KEY, c o.d[] DEFAULT '{1}'::o.d[]);
SELECT snapsync.enable('o.broken');
RESET ROLE;
SELECT snapsync.enable('docs'), snapsync.enable('left_out'), snapsync.enable('cards', access_tables => '["left_out"]');
INSERT INTO members VALUES (1, 'alice');
INSERT INTO docs VALUES (1, 1), (2, 2);
INSERT INTO left_out VALUES (1, 'alice');
INSERT INTO cards VALUES (1);
INSERT INTO o.broken (id) VALUES (1);
UPDATE docs SET org = 1 WHERE id = 2;
SELECT count(*) AS logged FROM snapsync.change WHERE relation IN ('docs'::regclass, 'members'::regclass, 'cards'::regclass) \gset
:load
\c regress_dump_lost_copy
SET client_min_messages = warning;
SELECT to_regclass('left_out') IS NULL, to_regclass('o.broken') IS NULL;
SELECT name, relation IN (SELECT oid FROM pg_class) AS there FROM snapsync.collection WHERE name IS NOT NULL ORDER BY 1;
SELECT count(*) = :logged FROM snapsync.change WHERE relation IN ('docs'::regclass, 'members'::regclass, 'cards'::regclass);
SELECT count(DISTINCT relation) FROM snapsync.change WHERE relation NOT IN (SELECT oid FROM pg_class);
-- The doctor says so, to a superuser; a pull, that there is no such collection.
SELECT severity, collection, finding FROM snapsync.doctor() WHERE finding ~ 'not in this database';
SET ROLE bob;
SELECT count(*) FROM snapsync.doctor() WHERE finding ~ 'not in this database';
RESET ROLE;
SELECT * FROM t.error($$SELECT pull_changes('{left_out}')$$);
SELECT "table" FROM snapsync.status ORDER BY name;
-- What is there goes on.
INSERT INTO docs VALUES (3, 1);
SET ROLE alice;
SELECT * FROM t.pull('{docs,cards}', NULL);
RESET ROLE;
UPDATE docs SET org = 1 WHERE id = 1;
DELETE FROM docs WHERE id = 2;
SET ROLE alice;
SELECT t.pull_ids('docs');
RESET ROLE;
-- The first DDL forgets what is not there.
CREATE VIEW v AS SELECT 1;
SELECT name, relation IN (SELECT oid FROM pg_class) AS there FROM snapsync.collection WHERE name IS NOT NULL ORDER BY 1;
SELECT count(*) FROM snapsync.change WHERE relation NOT IN (SELECT oid FROM pg_class);
SELECT count(*) FROM snapsync.access WHERE access NOT IN (SELECT oid FROM pg_class);
SELECT collection, finding FROM snapsync.doctor() WHERE finding ~ 'not in this database|does not exist';
SELECT pull_schema('{docs,cards}') -> 'collections' IS NOT NULL;
-- So does enable(), for a table that is made in the place of one: the name is free.
DROP EXTENSION snapsync CASCADE;
DROP SCHEMA o CASCADE;
DROP TABLE docs, cards, members;
DROP FUNCTION sees();
DROP SCHEMA t CASCADE;
DROP VIEW v;
:load
ALTER EVENT TRIGGER snapsync_command_end DISABLE;
CREATE TABLE left_out (id int PRIMARY KEY, who name);
ALTER EVENT TRIGGER snapsync_command_end ENABLE ALWAYS;
SELECT snapsync.enable('left_out');
INSERT INTO left_out VALUES (1, 'alice');
SELECT * FROM t.pull('{left_out}', NULL);
SELECT name, relation IN (SELECT oid FROM pg_class) AS there FROM snapsync.collection WHERE name IS NOT NULL ORDER BY 1;
-- Something was left of a table that was dropped, and its number becomes another's: that means nothing of the new one.
SELECT 'left_out'::regclass::oid::int8 AS newest \gset
INSERT INTO snapsync.collection (relation, key) SELECT oid, '{id}' FROM generate_series(:newest + 1, :newest + 1000) AS n, oid(n) WHERE oid NOT IN (SELECT oid FROM pg_class);
CREATE TABLE another (id int PRIMARY KEY);
SELECT 'another'::regclass::oid::int8 - :newest BETWEEN 1 AND 1000 AS has_such_a_number, count(*) FROM snapsync.collection WHERE relation = 'another'::regclass;
DELETE FROM snapsync.collection WHERE relation NOT IN (SELECT oid FROM pg_class);
-- The type itself: what it reads, and who may use it.
SELECT 'public.docs'::snapsync.regtable = 'docs'::regclass, 'docs'::snapsync.regtable, 'no.such'::snapsync.regtable = 'no.such'::snapsync.regtable,
       'no.such'::snapsync.regtable = 'no.other'::snapsync.regtable, '1259'::snapsync.regtable = 1259::oid, 'v'::snapsync.regtable IN (SELECT oid FROM pg_class),
       '-'::snapsync.regtable <> 0::oid;
SELECT relation = 'docs'::regclass FROM snapsync.collection WHERE relation::regclass::text = 'docs';
SET ROLE bob;
SELECT * FROM t.error('CREATE TABLE mine (r snapsync.regtable)');
RESET ROLE;

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_dump_lost_copy;
DROP DATABASE regress_dump_lost;
