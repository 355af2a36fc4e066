-- How far back a push knows that a row was deleted: so many changes, whatever the log's size, for anybody may push an edit of a row that is
-- not there.
\set ECHO none
\set test regress_push_remembers
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
\set ECHO none
-- A push of edits in one transaction: the SQLSTATE, or the answer, and whether more than 25,000 entries of the log were read for it.
CREATE FUNCTION t.edit(collection text, VARIADIC ids int[]) RETURNS TABLE (said text, "read" text) LANGUAGE plpgsql AS $$
DECLARE
    -- One statement's snapshot of the counters, of a session that has reported before.
    before bigint := pg_stat_get_xact_tuples_fetched('snapsync.change_relation_stamp'::regclass);
    rows json := (SELECT json_agg(json_build_object('id', id, 'v', 'edited')) FROM unnest(ids) AS id);
BEGIN
    BEGIN
        said := public.push_changes(json_build_object(collection, json_build_object('updated', rows)), current_setting('t.cursor'));
    EXCEPTION WHEN SQLSTATE 'PT409' THEN
        said := SQLERRM;
    END;
    "read" := CASE WHEN pg_stat_get_xact_tuples_fetched('snapsync.change_relation_stamp'::regclass) - before > 25000 THEN 'too much' ELSE 'little' END;
    RETURN NEXT;
END
$$;
GRANT EXECUTE ON FUNCTION pg_stat_get_xact_tuples_fetched TO PUBLIC;
\set ECHO all
CREATE TABLE notes (id int PRIMARY KEY, v text);
CREATE TABLE quiet (id int PRIMARY KEY, v text);
CREATE TABLE team (org int, who name, PRIMARY KEY (org, who));
CREATE TABLE shared (id int PRIMARY KEY, v text, org int DEFAULT 1);
ALTER TABLE shared ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON shared USING (org IN (SELECT org FROM team WHERE who = current_user));
GRANT ALL ON notes, quiet, team, shared TO PUBLIC;
SELECT snapsync.enable('notes'), snapsync.enable('quiet'), snapsync.enable('shared');
INSERT INTO team VALUES (1, 'alice');
INSERT INTO notes SELECT i, 'x' FROM generate_series(1, 60000) AS i;
INSERT INTO quiet VALUES (1, 'x'), (2, 'x');
INSERT INTO shared VALUES (1, 'x'), (2, 'x'), (3, 'x');
DELETE FROM notes WHERE id = 1;
DELETE FROM quiet WHERE id = 1;
DELETE FROM shared WHERE id = 1;
SET ROLE alice;
SELECT t.catch_up('notes', 'quiet', 'shared');
SELECT * FROM t.edit('notes', 1);
SELECT * FROM t.edit('quiet', 1);
SELECT * FROM t.edit('shared', 1);
RESET ROLE;

-- Others change much: what is further back in that collection is as if it had never been. In other collections it is not.
DELETE FROM notes WHERE id > 20000;
DELETE FROM notes WHERE id = 2;
SET ROLE alice;
SELECT t.catch_up('notes', 'quiet', 'shared');
SELECT * FROM t.edit('notes', 2);
SELECT * FROM t.edit('notes', 1);
SELECT * FROM t.edit('notes', 90001, 90002);
SELECT * FROM t.edit('quiet', 1);
RESET ROLE;
-- It is nobody's to forget what was deleted since the cursor.
SET ROLE alice;
SELECT t.catch_up('notes');
RESET ROLE;
DELETE FROM notes WHERE id = 3;
DELETE FROM notes WHERE id BETWEEN 5000 AND 20000;
SET ROLE alice;
SELECT said FROM t.edit('notes', 3);
RESET ROLE;

-- A transaction that wrote before it committed counts for its end. What it deletes stands behind what others did meanwhile.
BEGIN;
SET LOCAL snapsync.flush_threshold = 1000;
DELETE FROM notes WHERE id BETWEEN 4 AND 2000;
COMMIT;
SET ROLE alice;
SELECT t.catch_up('notes', 'quiet', 'shared');
SELECT * FROM t.edit('notes', 4);
RESET ROLE;
BEGIN;
SET LOCAL snapsync.flush_threshold = 1000;
INSERT INTO notes SELECT i, 'x' FROM generate_series(100000, 140000) AS i;
DELETE FROM notes WHERE id > 100000;
COMMIT;
SET ROLE alice;
SELECT t.catch_up('notes', 'quiet', 'shared');
SELECT * FROM t.edit('notes', 4);
RESET ROLE;

-- Whether he knew the row his memberships say, and these may have changed much, too.
INSERT INTO team SELECT i, 'bob' FROM generate_series(1, 60000) AS i;
DELETE FROM shared WHERE id = 2;
DELETE FROM team WHERE who = 'bob' AND org > 5;
SET ROLE alice;
SELECT t.catch_up('notes', 'quiet', 'shared');
SELECT * FROM t.edit('shared', 2);
RESET ROLE;
DELETE FROM shared WHERE id = 3;
SET ROLE alice;
SELECT t.catch_up('notes', 'quiet', 'shared');
SELECT * FROM t.edit('shared', 3);
RESET ROLE;

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_push_remembers;
