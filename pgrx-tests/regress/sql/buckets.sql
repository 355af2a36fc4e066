-- Who chooses the values of his scopes chooses no buckets of the log by that: they hang on a number of the database's own, which is dumped with it.
\set ECHO none
\set test regress_buckets
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
\set load '\\! "$SNAPSYNC_PG_BIN/pg_dump" regress_buckets | "$SNAPSYNC_PG_BIN/psql" -X -q -1 -v ON_ERROR_STOP=1 -o /dev/null -d regress_buckets_copy 2>&1 | grep -c ERROR'
\set ECHO all
-- (That of all these tests.)
TRUNCATE snapsync.salt;
CREATE TABLE tasks (id int PRIMARY KEY, project uuid NOT NULL);
SELECT snapsync.enable('tasks', scope_column => 'project', scope_values => 'string_to_array(current_setting(''t.projects''), '','')');
ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tasks USING (project::text = ANY (string_to_array(current_setting('t.projects'), ',')));
GRANT SELECT ON tasks TO alice;
-- (Roles are recorded by somebody who writes.)
CREATE TABLE ticks (id int PRIMARY KEY);
SELECT snapsync.enable('ticks');
INSERT INTO ticks VALUES (1);
SET t.projects = '7b1e7d80-0000-4000-8000-000000000001,a11ce000-0000-4000-8000-000000001601';
SET ROLE alice;
SELECT pull_changes('{tasks}') ->> 'timestamp' AS begin \gset
RESET ROLE;
-- Nobody has written of a scope: where its entries will be is not known yet.
SELECT count(*) FROM snapsync.salt;
-- FNV-1a puts all of these into one bucket of 1,024.
INSERT INTO tasks
SELECT row_number() OVER (), project::uuid
FROM (VALUES ('7b1e7d80-0000-4000-8000-000000000001'),
       ('a11ce000-0000-4000-8000-000000001601'),
       ('a11ce000-0000-4000-8000-000000002628'),
       ('a11ce000-0000-4000-8000-000000003239'),
       ('a11ce000-0000-4000-8000-000000004371'),
       ('a11ce000-0000-4000-8000-000000006513'),
       ('a11ce000-0000-4000-8000-000000006654'),
       ('a11ce000-0000-4000-8000-000000007154'),
       ('a11ce000-0000-4000-8000-000000007204'),
       ('a11ce000-0000-4000-8000-000000008565'),
       ('a11ce000-0000-4000-8000-000000010178'),
       ('a11ce000-0000-4000-8000-000000011626')) AS p(project);
SELECT count(DISTINCT bucket) > 4 AS apart FROM snapsync.change WHERE scope IS NOT NULL;
SELECT count(*) FROM snapsync.salt;
SET ROLE alice;
SELECT * FROM t.pull('{tasks}', :'begin') ORDER BY item;
SELECT * FROM t.error('SELECT salt FROM snapsync.salt');
RESET ROLE;
-- It stays where a savepoint, or the transaction, is rolled back that has made it. (A TRUNCATE of all begins anew.)
SELECT salt AS before FROM snapsync.salt \gset
TRUNCATE snapsync.salt, snapsync.change;
BEGIN;
SAVEPOINT s;
UPDATE tasks SET id = id + 1000;
SELECT pull_changes('{tasks}', :'begin') IS NOT NULL;
ROLLBACK TO s;
SELECT count(*) FROM snapsync.salt WHERE salt <> :before;
ROLLBACK;
SELECT count(*) FROM snapsync.salt WHERE salt <> :before;
UPDATE tasks SET id = id + 100;

-- A dump has it, and the copy goes on with it.
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_buckets_copy;
CREATE DATABASE regress_buckets_copy TEMPLATE template0 ENCODING 'UTF8';
:load
SELECT salt FROM snapsync.salt \gset
\connect regress_buckets_copy
SET client_min_messages = warning;
SET t.projects = '7b1e7d80-0000-4000-8000-000000000001,a11ce000-0000-4000-8000-000000001601';
SELECT count(*), bool_and(salt = :salt) FROM snapsync.salt;
INSERT INTO ticks VALUES (2);
SET ROLE alice;
SELECT pull_changes('{tasks}') ->> 'timestamp' AS begin \gset
RESET ROLE;
UPDATE tasks SET id = id + 100;
SELECT count(DISTINCT bucket) FROM snapsync.change WHERE scope = '7b1e7d80-0000-4000-8000-000000000001';
SELECT count(*) FROM snapsync.salt;
SET ROLE alice;
SELECT * FROM t.pull('{tasks}', :'begin') ORDER BY item;
RESET ROLE;
-- The data of a dump in a database that has a log already: writers use the first, entries of both are found.
CREATE TEMP TABLE dumped AS SELECT * FROM snapsync.salt;
DELETE FROM snapsync.salt;
INSERT INTO snapsync.salt SELECT salt + 1 FROM dumped;
INSERT INTO snapsync.salt SELECT salt FROM dumped;
UPDATE tasks SET id = id + 100;
SELECT bool_or(buckets > 1) AS in_others_too FROM (SELECT count(DISTINCT bucket) AS buckets FROM snapsync.change WHERE stamp >= :begin GROUP BY scope) AS s;
-- By the cursor from before both.
INSERT INTO tasks VALUES (1, '7b1e7d80-0000-4000-8000-000000000001');
SET ROLE alice;
SELECT * FROM t.pull('{tasks}', :'begin') ORDER BY item;
RESET ROLE;
\connect regress_buckets
SET client_min_messages = warning;
DROP DATABASE regress_buckets_copy;
