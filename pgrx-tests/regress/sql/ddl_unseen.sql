-- What changes who sees a row, or what a table is called inside, and fires no event trigger of its own, or one on another object.
\set ECHO none
\set test regress_ddl_unseen
\set roles '{unseen_ann,unseen_ben,unseen_cat}'
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET client_min_messages = warning;
GRANT unseen_cat TO bob;
\set ECHO all

-- REASSIGN OWNED: a view's owner, a function's, the table's own.
CREATE TABLE member (id int PRIMARY KEY, org int, of name);
ALTER TABLE member ENABLE ROW LEVEL SECURITY;
CREATE POLICY ann ON member TO unseen_ann USING (of = 'ann');
CREATE POLICY ben ON member TO unseen_ben USING (of = 'ben');
GRANT SELECT ON member TO unseen_ann, unseen_ben, unseen_cat;
INSERT INTO member VALUES (1, 1, 'ann'), (2, 2, 'ben');
CREATE VIEW mine AS SELECT * FROM member;
ALTER VIEW mine OWNER TO unseen_ann;
CREATE FUNCTION in_mine(int) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT EXISTS (SELECT FROM member WHERE org = $1)';
ALTER FUNCTION in_mine(int) OWNER TO unseen_ann;
GRANT SELECT ON mine TO alice, bob;
SELECT t.secured('by_view', ', org int', 'org IN (SELECT org FROM mine)');
SELECT t.secured('by_function', ', org int', 'in_mine(org)');
SELECT snapsync.enable('by_function', access_tables => '["member"]');
SELECT t.secured('by_owner', ', org int', 'org = 1');
SELECT t.secured('beside', ', org int', 'org = 1');
INSERT INTO by_view SELECT i, i FROM generate_series(1, 3) AS i;
INSERT INTO by_function TABLE by_view;
INSERT INTO by_owner TABLE by_view;
INSERT INTO beside TABLE by_view;
ALTER TABLE by_owner OWNER TO unseen_ann;
CREATE FUNCTION t.all(who name) RETURNS SETOF text LANGUAGE sql AS
    $$ SELECT x || ': ' || t.sync(who, x) FROM unnest('{by_view,by_function,by_owner,beside}'::text[]) AS x $$;
SELECT t.all('bob');
SELECT t.all('bob');
REASSIGN OWNED BY unseen_ann TO unseen_cat;
SELECT t.all('bob');
-- Until somebody looks; there and back is no less.
SELECT collection, finding, fix FROM snapsync.doctor() WHERE finding LIKE 'REASSIGN%';
REASSIGN OWNED BY unseen_cat TO unseen_ben;
SELECT t.all('bob');
ALTER ROLE unseen_ann SET work_mem = '1MB';
REASSIGN OWNED BY unseen_ben TO unseen_ann;
SELECT t.all('bob');
SELECT snapsync.enable(x::regclass) FROM unnest('{by_view,by_function,by_owner}'::text[]) AS x;
SELECT t.all('bob');
SELECT t.all('bob');
REASSIGN OWNED BY unseen_ann TO unseen_ben;
-- Which looks at all.
DROP OWNED BY unseen_ann;
SELECT t.all('bob');
SELECT t.all('bob');
SELECT collection, finding FROM snapsync.doctor() WHERE finding LIKE 'REASSIGN%';
-- Other tables' owners are nothing to it.
CREATE TABLE other (id int);
ALTER TABLE other OWNER TO unseen_ben;
REASSIGN OWNED BY unseen_ann TO unseen_ben;
SELECT t.all('bob');

-- The owner of the database is a member of pg_database_owner.
SELECT t.secured('of_owner', '', 'id = 1');
CREATE POLICY owner ON of_owner TO pg_database_owner USING (true);
INSERT INTO of_owner VALUES (1), (2);
SELECT t.sync('alice', 'of_owner');
ALTER DATABASE :"test" OWNER TO alice;
SELECT t.sync('alice', 'of_owner');
SELECT t.sync('alice', 'of_owner');
ALTER DATABASE :"test" OWNER TO SESSION_USER;
SELECT t.sync('alice', 'of_owner');
SELECT t.sync('alice', 'of_owner');

-- A rename that reaches tables that inherit: one that policies read, and synced ones.
CREATE TABLE base (id int PRIMARY KEY, org int, who name);
CREATE TABLE middle (PRIMARY KEY (id)) INHERITS (base);
CREATE TABLE leaf (PRIMARY KEY (id)) INHERITS (middle);
GRANT SELECT ON base TO alice;
SELECT t.secured('reads_base', ', org int', 'org IN (SELECT org FROM base WHERE who = current_user)');
INSERT INTO reads_base VALUES (1, 1), (2, 2), (3, 3);
INSERT INTO leaf VALUES (1, 1, 'alice');
SELECT t.sync('alice', 'reads_base');
ALTER TABLE base RENAME COLUMN org TO org_id;
ALTER TABLE base RENAME COLUMN who TO whom;
INSERT INTO leaf VALUES (2, 2, 'alice');
SELECT t.sync('alice', 'reads_base');
UPDATE leaf SET org_id = 3 WHERE id = 1;
SELECT t.sync('alice', 'reads_base');
-- A key that is dropped through the parent.
ALTER TABLE leaf DROP CONSTRAINT leaf_pkey;
ALTER TABLE leaf ADD PRIMARY KEY (id, org_id);
SELECT t.sync('alice', 'reads_base');
ALTER TABLE base ALTER COLUMN org_id TYPE bigint;
DELETE FROM leaf WHERE id = 2;
SELECT t.sync('alice', 'reads_base');

-- Also without DDL: what comes and goes in tables that inherit is what policies read in the one that they name.
CREATE TABLE heard (id int PRIMARY KEY, org int);
CREATE TABLE heard_below (PRIMARY KEY (id)) INHERITS (heard);
CREATE TABLE heard_beside (id int PRIMARY KEY, org int);
GRANT SELECT ON heard, heard_beside TO alice;
SELECT t.secured('hears', ', org int', 'org IN (SELECT org FROM heard) OR org IN (SELECT org FROM heard_beside)');
INSERT INTO hears VALUES (1, 1), (2, 2), (3, 3);
SELECT t.sync('alice', 'hears');
INSERT INTO heard_below VALUES (1, 1);
SELECT t.sync('alice', 'hears');
UPDATE heard_below SET org = 2;
SELECT t.sync('alice', 'hears');
INSERT INTO heard_beside VALUES (1, 3);
SELECT t.sync('alice', 'hears');
DELETE FROM heard_below;
SELECT t.sync('alice', 'hears');

-- One that reaches tables of a type.
CREATE TYPE row_type AS (id int, org int, n int);
CREATE TABLE typed OF row_type (PRIMARY KEY (id));
ALTER TABLE typed ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON typed USING (org = 1);
GRANT SELECT ON typed TO alice;
SELECT snapsync.enable('typed');
INSERT INTO typed VALUES (1, 1, 1);
SELECT t.sync('alice', 'typed');
ALTER TYPE row_type RENAME ATTRIBUTE org TO team CASCADE;
INSERT INTO typed VALUES (2, 1, 1);
SELECT t.sync('alice', 'typed');
ALTER TYPE row_type ADD ATTRIBUTE more int CASCADE;
UPDATE typed SET more = 1 WHERE id = 1;
SELECT t.sync('alice', 'typed');
SELECT t.error('ALTER TYPE row_type DROP ATTRIBUTE id CASCADE');

-- Whoever may not alter a table that inherits stands up for nothing that it reads.
CREATE SCHEMA theirs;
GRANT ALL ON SCHEMA theirs TO PUBLIC;
CREATE TABLE theirs.up (id int, org int);
CREATE TABLE theirs.down (PRIMARY KEY (id)) INHERITS (theirs.up);
CREATE TABLE theirs.read (id int PRIMARY KEY);
GRANT SELECT, TRIGGER ON theirs.read TO unseen_ann;
ALTER TABLE theirs.up OWNER TO unseen_ann;
ALTER TABLE theirs.down OWNER TO unseen_ben;
GRANT SELECT ON theirs.read TO unseen_ben, alice;
SELECT t.secured('reads_down', '', 'EXISTS (SELECT FROM theirs.down AS d WHERE d.id = reads_down.id)');
ALTER TABLE theirs.down ENABLE ROW LEVEL SECURITY;
SET ROLE unseen_ben;
CREATE POLICY p ON theirs.down USING (id IN (SELECT id FROM theirs.read));
RESET ROLE;
SELECT access, untracked FROM snapsync.access WHERE relation = 'theirs.down'::regclass;
SET ROLE unseen_ann;
ALTER TABLE theirs.up ALTER org SET STATISTICS 10;
ALTER TABLE ONLY theirs.up ALTER org SET DEFAULT 1;
RESET ROLE;
SELECT access, untracked, voucher FROM snapsync.access WHERE relation = 'theirs.down'::regclass;

-- Text search: what a configuration finds, and what a dictionary says.
CREATE TEXT SEARCH DICTIONARY words (TEMPLATE = snowball, language = english);
CREATE TEXT SEARCH CONFIGURATION finds (COPY = pg_catalog.simple);
ALTER TEXT SEARCH CONFIGURATION finds ALTER MAPPING FOR asciiword WITH words;
CREATE FUNCTION hit(text) RETURNS boolean LANGUAGE sql STABLE BEGIN ATOMIC SELECT to_tsvector('finds', $1) @@ to_tsquery('finds', 'run'); END;
SELECT t.secured('found', ', said text', 'to_tsvector(''finds'', said) @@ to_tsquery(''finds'', ''run'')');
SELECT t.secured('found_by', ', said text', 'hit(said)');
SELECT t.secured('english', ', said text', 'to_tsvector(''english'', said) @@ to_tsquery(''english'', ''run'')');
INSERT INTO found VALUES (1, 'run'), (2, 'running');
INSERT INTO found_by TABLE found;
INSERT INTO english TABLE found;
SELECT t.sync('alice', x) FROM unnest('{found,found_by,english}'::text[]) AS x;
ALTER TEXT SEARCH CONFIGURATION finds ALTER MAPPING FOR asciiword WITH simple;
SELECT t.sync('alice', x) FROM unnest('{found,found_by,english}'::text[]) AS x;
ALTER TEXT SEARCH CONFIGURATION finds ALTER MAPPING FOR asciiword WITH words;
SELECT t.sync('alice', x) FROM unnest('{found,found_by,english}'::text[]) AS x;
ALTER TEXT SEARCH DICTIONARY words (language = german);
SELECT t.sync('alice', x) FROM unnest('{found,found_by,english}'::text[]) AS x;
ALTER TEXT SEARCH CONFIGURATION pg_catalog.english ALTER MAPPING FOR asciiword WITH simple;
SELECT t.sync('alice', x) FROM unnest('{found,found_by,english}'::text[]) AS x;

-- A cast to json: how clients get a value.
CREATE TYPE colour AS ENUM ('red', 'blue');
CREATE TABLE painted (id int PRIMARY KEY, c colour);
GRANT SELECT ON painted TO alice;
SELECT snapsync.enable('painted');
INSERT INTO painted VALUES (1, 'red');
CREATE FUNCTION t.told() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    SET LOCAL ROLE alice;
    RETURN (SELECT string_agg(item, ' ') FROM t.pull('{painted}'));
END
$$;
SELECT set_config('t.cursor', '', false);
SELECT t.told();
SELECT t.told();
CREATE FUNCTION as_json(colour) RETURNS json LANGUAGE sql IMMUTABLE AS $$ SELECT json_build_object('colour', $1::text) $$;
CREATE CAST (colour AS json) WITH FUNCTION as_json(colour);
SELECT t.told();
CREATE OR REPLACE FUNCTION as_json(colour) RETURNS json LANGUAGE sql IMMUTABLE AS $$ SELECT json_build_object('color', $1::text) $$;
SELECT t.told();
DROP CAST (colour AS json);
SELECT t.told();
SELECT t.told();

-- Whether something was lost is asked whenever something in the catalogs has changed: with a look-up for each thing that is known, not with all policies and keys
-- that there are, nor with all columns for each column.
SELECT format('CREATE TABLE wide (id int PRIMARY KEY, owner name, %s)', string_agg('c' || i || ' int', ', ')) FROM generate_series(1, 300) AS i \gexec
ALTER TABLE wide ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON wide USING (owner = current_user);
SELECT snapsync.enable('wide');
DO $$ BEGIN FOR i IN 1..100 LOOP EXECUTE format('CREATE TABLE t.beside%s (id int PRIMARY KEY REFERENCES wide)', i); EXECUTE format('CREATE POLICY p ON t.beside%s USING (id > 0)', i); END LOOP; END $$;
ANALYZE pg_attribute, pg_policy, pg_constraint, pg_proc, snapsync.dependency, snapsync.collection;
CREATE FUNCTION t.plan(statement text) RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN ' || statement; END $$;
SET plan_cache_mode = force_generic_plan;
SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
PREPARE lost(oid) AS SELECT FROM snapsync.lost_unseen($1);
SELECT line FROM t.plan($$ EXECUTE lost('wide'::regclass) $$) AS line WHERE line ~ 'hashed|Anti Join|Materialize';
DEALLOCATE lost;
RESET plan_cache_mode; RESET enable_seqscan; RESET enable_hashjoin; RESET enable_mergejoin;
SELECT count(*) FROM snapsync.lost_unseen('wide'::regclass);
UPDATE pg_attribute SET attisdropped = true WHERE attrelid = 'wide'::regclass AND attname = 'c7';
SELECT count(*) FROM snapsync.lost_unseen('wide'::regclass);
UPDATE pg_attribute SET attisdropped = false WHERE attrelid = 'wide'::regclass AND attname = 'c7';
SELECT count(*) FROM snapsync.lost_unseen('wide'::regclass);
\set ECHO none
REVOKE unseen_cat FROM bob;
