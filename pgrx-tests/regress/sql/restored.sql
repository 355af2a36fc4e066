-- A database that was restored from a dump, copied or upgraded: until a table has been looked at there, nothing is taken for right.
\set ECHO none
\set test regress_restored
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
\set again '\\connect postgres \\\\ SET client_min_messages = error; DROP DATABASE IF EXISTS regress_restored_copy; CREATE DATABASE regress_restored_copy TEMPLATE template0 ENCODING ''UTF8'';'
\set load '\\! "$SNAPSYNC_PG_BIN/pg_dump" regress_restored | "$SNAPSYNC_PG_BIN/psql" -X -q -1 -v ON_ERROR_STOP=1 -o /dev/null -d regress_restored_copy 2>&1 | grep -c ERROR'
\set there '\\connect regress_restored_copy \\\\ SET client_min_messages = warning;'
\set ECHO all
GRANT CREATE ON SCHEMA public TO carol;
CREATE TABLE members (id int PRIMARY KEY, who name);
GRANT SELECT ON members TO PUBLIC;
INSERT INTO members VALUES (1, 'alice');
CREATE VIEW v AS SELECT who FROM members;
ALTER VIEW v OWNER TO bob;
GRANT SELECT ON v TO PUBLIC;
CREATE MATERIALIZED VIEW held AS SELECT id, who FROM members;
GRANT SELECT ON held TO PUBLIC;
SELECT t.secured('docs', ', secret text, mark bool, org int', 'EXISTS (SELECT FROM v WHERE who = current_user)'),
       t.secured('plain', ', org int', 'true'),
       t.secured('cards', '', 'id IN (SELECT id FROM held WHERE who = current_user)');
SELECT snapsync.enable('docs', exclude => '{secret}', soft_delete_column => 'mark', scope_column => 'org', readonly => '{secret}', scope_values => 'ARRAY[''7'']');
INSERT INTO docs VALUES (1, 's1', false, 7);
INSERT INTO plain VALUES (1, 1);
INSERT INTO cards VALUES (1), (2);
CREATE TABLE parted (id int, k int, secret text, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
GRANT SELECT ON parted TO PUBLIC;
SELECT snapsync.enable('parted', exclude => '{secret}');
INSERT INTO parted VALUES (1, 1, 'p1');
CREATE TABLE ticks (id int PRIMARY KEY, n int);
INSERT INTO ticks VALUES (1, 0);
SELECT snapsync.enable('ticks');
-- Each of these transactions looks at one table at least, until all are looked at.
CREATE PROCEDURE t.write(times int DEFAULT 20) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..times LOOP
        UPDATE ticks SET n = n + 1;
        COMMIT;
    END LOOP;
END $$;
CREATE FUNCTION t.unseen() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM snapsync.collection AS c WHERE NOT snapsync.is_seen_here(c.relation)';
SELECT pull_changes('{docs,plain,cards}') ->> 'timestamp' AS cursor \gset
-- (Of the last 0.2 s before a branch, nothing is believed.)
INSERT INTO plain VALUES (2, 1); SELECT pg_sleep(0.05);
INSERT INTO plain VALUES (3, 1); SELECT pg_sleep(0.3);
INSERT INTO plain VALUES (4, 1);

-- The first DDL renames columns that the settings name: they are followed, and what is excluded stays at home.
:again
:load
:there
ALTER TABLE docs RENAME COLUMN secret TO private;
ALTER TABLE docs RENAME COLUMN id TO uid;
ALTER TABLE docs RENAME COLUMN mark TO gone;
ALTER TABLE docs RENAME COLUMN org TO part;
ALTER TABLE parted RENAME COLUMN secret TO private;
SELECT relation, key, exclude, readonly, soft_delete_column, scope_column FROM snapsync.collection WHERE relation IN ('docs'::regclass, 'parted'::regclass) ORDER BY 1::text;
INSERT INTO docs VALUES (3, 's3', false, 7);
SET ROLE alice;
SELECT * FROM t.pull('{docs,parted}', NULL);
RESET ROLE;
-- In turn, with names that have passed from one column to another.
:again
:load
:there
SET check_function_bodies = off;
SET row_security = off;
ALTER TABLE parted RENAME COLUMN secret TO passing;
ALTER TABLE parted RENAME COLUMN k TO secret;
ALTER TABLE parted RENAME COLUMN passing TO k;
RESET check_function_bodies;
RESET row_security;
SELECT key, exclude FROM snapsync.collection WHERE relation = 'parted'::regclass;
-- What a collection cannot be without is not taken from it.
:again
:load
:there
SELECT * FROM t.error('ALTER TABLE docs SET UNLOGGED');
SELECT * FROM t.error('ALTER TABLE docs DROP COLUMN id');
SELECT * FROM t.error('ALTER TABLE docs DROP CONSTRAINT docs_pkey');
SELECT name FROM snapsync.collection WHERE relation = 'docs'::regclass;

-- Until somebody has looked, all is replaced. Who writes looks: what is as it was goes on from older cursors.
:again
:load
:there
SELECT * FROM t.pull('{plain}', :'cursor');
SELECT severity, finding FROM snapsync.doctor() WHERE collection = 'plain' AND finding ~ 'looked';
INSERT INTO plain VALUES (5, 1);
CALL t.write();
SELECT severity, finding FROM snapsync.doctor() WHERE collection = 'plain' AND finding ~ 'looked';
SELECT * FROM t.pull('{plain}', :'cursor');
SELECT count(*) FROM snapsync.dependency WHERE classid = 0;
-- At eight in a transaction, whatever it writes to. Not under an old snapshot.
\connect regress_restored
SELECT count(t.secured('more_' || i, '', 'id > ' || i)) FROM generate_series(1, 10) AS i;
:again
:load
:there
SELECT t.unseen() = count(*) FROM snapsync.collection;
BEGIN ISOLATION LEVEL REPEATABLE READ;
INSERT INTO plain VALUES (6, 1);
COMMIT;
SELECT t.unseen() = count(*) FROM snapsync.collection;
CALL t.write(1);
SELECT t.unseen() - count(*) BETWEEN -8 AND -1 FROM snapsync.collection;
CALL t.write();
SELECT t.unseen();
SELECT count(*) FROM snapsync.dependency WHERE classid = 0;
-- doctor() gives the statement that looks: an owner's at his table, a superuser's at all. It can be given again, and leaves nothing behind.
\connect regress_restored
SET ROLE carol;
CREATE TABLE hers (id int PRIMARY KEY);
SELECT snapsync.enable('hers');
RESET ROLE;
:again
:load
:there
SET ROLE carol;
SELECT collection, hint, fix FROM snapsync.doctor() WHERE finding ~ 'looked';
SELECT fix FROM snapsync.doctor() WHERE finding ~ 'looked' \gexec
SELECT fix FROM snapsync.doctor() WHERE finding ~ 'looked';
RESET ROLE;
SELECT DISTINCT hint, fix FROM snapsync.doctor() WHERE finding ~ 'looked';
SELECT DISTINCT fix FROM snapsync.doctor() WHERE finding ~ 'looked' \gexec
SELECT t.unseen();
ALTER SCHEMA snapsync OWNER TO CURRENT_USER;
\connect regress_restored
DROP TABLE hers;
-- What ends a look, a writer's statement_timeout, says nothing of the table.
:again
:load
:there
\! for ms in $(seq 4 40); do "$SNAPSYNC_PG_BIN/psql" -X -q -d regress_restored_copy -c "SET statement_timeout = $ms" -c "CALL t.write(1)" >/dev/null 2>&1; done
SELECT DISTINCT name FROM snapsync.dependency WHERE classid = 0 AND relation::oid <> 0;
CALL t.write();
SELECT t.unseen();
SELECT count(*) FROM snapsync.dependency WHERE classid = 0;
\connect regress_restored
SELECT count(snapsync.disable(('more_' || i)::regclass)) FROM generate_series(1, 10) AS i;
-- The restore has made the rows of a materialized view anew.
\connect regress_restored
UPDATE members SET id = 2;
SELECT t.sync('alice', 'cards');
:again
:load
:there
CALL t.write();
SELECT t.unseen();
SELECT * FROM t.pull('{cards}', :'cursor');
SELECT * FROM t.pull('{cards}');
\connect regress_restored
UPDATE members SET id = 1;
-- Owners are as they were when it was looked at: what REASSIGN OWNED gives away is replaced until somebody looks.
:again
:load
:there
CALL t.write();
SELECT * FROM t.pull('{docs}', :'cursor');
REASSIGN OWNED BY bob TO carol;
SELECT * FROM t.pull('{docs}');
-- A look that is due is part of a dump.
\connect regress_restored
INSERT INTO snapsync.dependency (relation, classid, objid, own, name) VALUES ('plain'::regclass, 0, 1, false, 'another session was changing it');
:again
:load
:there
CALL t.write();
SELECT relation, name FROM snapsync.dependency WHERE classid = 0 AND relation::oid <> 0;
SELECT t.pull_ids('plain') FROM set_config('t.cursor', :'cursor', false);
SELECT t.pull_ids('plain');
CREATE VIEW w AS SELECT 1;
SELECT t.pull_ids('plain');
SELECT t.pull_ids('plain');
\connect regress_restored
DELETE FROM snapsync.dependency WHERE relation = 'plain'::regclass AND classid = 0;
-- So is that a foreign key was not enforced, which nobody has looked at yet: in the copy it is found by its name.
CREATE TABLE projects (id int PRIMARY KEY, who name);
GRANT SELECT ON projects TO PUBLIC;
SELECT t.secured('tasks', ', project int REFERENCES projects', 'EXISTS (SELECT FROM projects AS p WHERE p.id = project AND p.who = current_user)');
INSERT INTO projects VALUES (1, 'alice');
SELECT kind FROM snapsync.access WHERE relation = 'tasks'::regclass;
SET session_replication_role = replica;
INSERT INTO tasks VALUES (1, 1);
RESET session_replication_role;
SELECT count(*) FROM snapsync.dependency WHERE name = 'unenforced';
:again
:load
:there
CALL t.write();
SELECT t.unseen();
SELECT count(*) FROM snapsync.dependency WHERE name = 'unenforced';
SELECT kind FROM snapsync.access WHERE relation = 'tasks'::regclass;
\connect regress_restored
DROP TABLE tasks, projects;
-- Another order of texts may say otherwise what a policy says; a generated column is computed anew.
:again
:load
:there
UPDATE snapsync.collection SET shape = shape || '{"collation": "another"}' WHERE relation = 'plain'::regclass;
CALL t.write();
SELECT t.unseen();
SELECT t.pull_ids('plain') FROM set_config('t.cursor', :'cursor', false);
SELECT t.pull_ids('plain');
\connect regress_restored
ALTER TABLE plain ADD COLUMN twice int GENERATED ALWAYS AS (org * 2) STORED;
SELECT pull_changes('{plain}') ->> 'timestamp' AS later \gset
UPDATE ticks SET n = n + 1; SELECT pg_sleep(0.05);
UPDATE ticks SET n = n + 1; SELECT pg_sleep(0.3);
UPDATE ticks SET n = n + 1;
:again
:load
:there
CALL t.write();
SELECT t.unseen();
SELECT t.pull_ids('plain') FROM set_config('t.cursor', :'later', false);
SELECT t.pull_ids('plain');
\connect regress_restored
ALTER TABLE plain DROP COLUMN twice;
-- A table whose rows the restore has left out is replaced, whether clients have it or policies read it, whoever writes there first.
ALTER TABLE parted ADD v int;
CREATE TABLE lefts (id int PRIMARY KEY, who name);
GRANT SELECT ON lefts TO PUBLIC;
INSERT INTO lefts VALUES (1, 'alice');
SELECT t.secured('asides', '', 'EXISTS (SELECT FROM lefts WHERE who = current_user)');
INSERT INTO asides VALUES (1);
-- (Roles come in another order from a dump.)
CREATE POLICY of_some ON asides AS RESTRICTIVE TO carol, bob, alice USING (id > 0);
INSERT INTO parted VALUES (2, 1, 'p2');
SET ROLE alice;
SELECT pull_changes('{plain,parted,asides}') ->> 'timestamp' AS latest \gset
RESET ROLE;
UPDATE ticks SET n = n + 1; SELECT pg_sleep(0.05);
UPDATE ticks SET n = n + 1; SELECT pg_sleep(0.3);
UPDATE ticks SET n = n + 1;
CREATE FUNCTION t.all_since(cursor text) RETURNS TABLE (collection text, pulled text) LANGUAGE sql AS $$
    SELECT c, (SELECT t.pull_ids(c) FROM set_config('t.cursor', $1 || left(c, 0), false)) FROM unnest('{plain,parted,asides}'::text[]) AS c
$$;
:again
:load
:there
CALL t.write();
SELECT t.unseen();
SET ROLE alice;
SELECT * FROM t.all_since(:'latest');
RESET ROLE;
\set load '\\! "$SNAPSYNC_PG_BIN/pg_dump" --exclude-table-data=plain --exclude-table-data=parted* --exclude-table-data=lefts regress_restored | "$SNAPSYNC_PG_BIN/psql" -X -q -1 -v ON_ERROR_STOP=1 -o /dev/null -d regress_restored_copy 2>&1 | grep -c ERROR'
:again
:load
:there
CALL t.write();
SELECT t.unseen();
SET ROLE alice;
SELECT * FROM t.all_since(:'latest');
SELECT * FROM t.all_since(current_setting('t.cursor'));
RESET ROLE;
-- (His own rows say nothing of those that should have come along.)
:again
:load
:there
INSERT INTO plain VALUES (8, 1);
CALL t.write();
SET ROLE alice;
SELECT * FROM t.all_since(:'latest');
RESET ROLE;
\connect regress_restored
DROP TABLE asides, lefts;
-- Nor do they where he has written to more tables than one transaction looks at.
DO $$ BEGIN
    FOR i IN 1 .. 10 LOOP
        EXECUTE format('CREATE TABLE many_%s (id int PRIMARY KEY)', i);
        EXECUTE format('GRANT SELECT ON many_%s TO alice', i);
        EXECUTE format('INSERT INTO many_%s VALUES (1)', i);
        PERFORM snapsync.enable(format('many_%s', i));
    END LOOP;
END $$;
SELECT array_agg('many_' || i) AS many FROM generate_series(1, 10) AS i \gset
SET ROLE alice;
SELECT pull_changes(:'many') ->> 'timestamp' AS latest \gset
RESET ROLE;
UPDATE ticks SET n = n + 1; SELECT pg_sleep(0.05);
UPDATE ticks SET n = n + 1; SELECT pg_sleep(0.3);
UPDATE ticks SET n = n + 1;
\set load '\\! "$SNAPSYNC_PG_BIN/pg_dump" --exclude-table-data=many_* regress_restored | "$SNAPSYNC_PG_BIN/psql" -X -q -1 -v ON_ERROR_STOP=1 -o /dev/null -d regress_restored_copy 2>&1 | grep -c ERROR'
:again
:load
:there
DO $$ BEGIN FOR i IN 1 .. 10 LOOP EXECUTE format('INSERT INTO many_%s VALUES (2)', i); END LOOP; END $$;
CALL t.write();
SELECT t.unseen();
SET ROLE alice;
SELECT count(*) FROM json_each(pull_changes(:'many', :'latest') #> '{experimentalStrategy,override}');
RESET ROLE;
\connect regress_restored
SELECT format('DROP TABLE many_%s', i) FROM generate_series(1, 10) AS i \gexec
-- A dump that says that row-level security stays on loads as any other.
\set load '\\! "$SNAPSYNC_PG_BIN/pg_dump" --enable-row-security regress_restored | "$SNAPSYNC_PG_BIN/psql" -X -q -1 -v ON_ERROR_STOP=1 -o /dev/null -d regress_restored_copy 2>&1 | grep -c ERROR'
:again
:load
:there
SELECT tgname, count(*), min(tgenabled), max(tgenabled) FROM pg_trigger WHERE tgname ~ '^00' GROUP BY 1 ORDER BY 1;
SELECT finding FROM snapsync.doctor() WHERE severity = 'error';
-- A copied database.
\connect postgres
SET client_min_messages = warning;
DROP DATABASE regress_restored_copy;
CREATE DATABASE regress_restored_copy TEMPLATE regress_restored;
:there
ALTER TABLE docs RENAME COLUMN secret TO private;
SELECT exclude FROM snapsync.collection WHERE relation = 'docs'::regclass;
-- Who has a dump's settings loads no dump where a table was enabled.
\connect postgres
SET client_min_messages = warning;
DROP DATABASE regress_restored_copy;
CREATE DATABASE regress_restored_copy TEMPLATE template0 ENCODING 'UTF8';
:there
SET check_function_bodies = off;
SET row_security = off;
CREATE EXTENSION snapsync;
CREATE TABLE members (id int PRIMARY KEY, who name);
CREATE TABLE docs (id int PRIMARY KEY, secret text);
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON docs, members TO alice;
SELECT snapsync.enable('docs', exclude => '{secret}');
CREATE POLICY p ON docs USING (EXISTS (SELECT FROM members WHERE who = current_user));
ALTER TABLE docs RENAME COLUMN secret TO private;
SELECT relation, access, kind FROM snapsync.access;
SELECT exclude FROM snapsync.collection WHERE relation = 'docs'::regclass;
-- A partition that has not its triggers yet puts off the look, not the names.
CREATE TABLE parted (id int, k int, secret text, other text, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
SELECT snapsync.enable('parted', exclude => '{secret}');
INSERT INTO docs VALUES (1, 's');
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
ALTER TABLE parted RENAME COLUMN secret TO passing;
ALTER TABLE parted RENAME COLUMN other TO secret;
ALTER TABLE parted RENAME COLUMN passing TO other;
SELECT exclude FROM snapsync.collection WHERE relation = 'parted'::regclass;
DO $$ BEGIN ALTER TABLE parted DROP CONSTRAINT parted_pkey; EXCEPTION WHEN OTHERS THEN RAISE WARNING '%', SQLERRM; END $$;
RESET check_function_bodies;
RESET row_security;
ALTER TABLE parted ALTER COLUMN other SET STATISTICS 10;
SELECT exclude FROM snapsync.collection WHERE relation = 'parted'::regclass;

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_restored_copy;
DROP DATABASE regress_restored;
