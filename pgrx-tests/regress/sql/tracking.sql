-- What a change leaves in the log, and what leaves nothing.
\set ECHO none
\set test regress_tracking
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE notes (id int PRIMARY KEY, title text, body text, secret text, at timestamptz);
SELECT snapsync.enable('notes', exclude => '{secret,at}');
SELECT FROM t.log();

INSERT INTO notes VALUES (1, 'a', 'x', 's', now()), (2, 'b', 'x', 's', now());
SELECT * FROM t.log();
UPDATE notes SET title = 'A' WHERE id = 1;
SELECT * FROM t.log();
DELETE FROM notes WHERE id = 2;
SELECT * FROM t.log();

-- Nothing: the same values, an excluded column, a row inserted and deleted, a transaction rolled back, no row.
UPDATE notes SET title = title, body = body, id = id;
UPDATE notes SET secret = 'other', at = now();
BEGIN; INSERT INTO notes VALUES (3); UPDATE notes SET title = 'c' WHERE id = 3; DELETE FROM notes WHERE id = 3; COMMIT;
BEGIN; INSERT INTO notes VALUES (3); DELETE FROM notes WHERE id = 1; ROLLBACK;
UPDATE notes SET title = 'z' WHERE id = 99;
DELETE FROM notes WHERE id = 99;
SELECT * FROM t.log();
-- NULL, '' and a value are three things.
UPDATE notes SET body = NULL; UPDATE notes SET body = ''; UPDATE notes SET body = 'x';
SELECT count(*) FROM t.log();

-- One entry per key and transaction: its net effect.
BEGIN;
UPDATE notes SET title = '1'; UPDATE notes SET title = '2'; UPDATE notes SET title = '3';
INSERT INTO notes VALUES (4, 'n'); UPDATE notes SET title = 'm' WHERE id = 4;
COMMIT;
SELECT * FROM t.log();
-- Updated, then deleted: deleted. Deleted, then inserted again: there, and known to the client.
BEGIN; UPDATE notes SET title = 'bye' WHERE id = 4; DELETE FROM notes WHERE id = 4; COMMIT;
SELECT * FROM t.log();
BEGIN; DELETE FROM notes WHERE id = 1; INSERT INTO notes VALUES (1, 'again'); COMMIT;
SELECT * FROM t.log();
-- Another key is a row gone and a row new.
UPDATE notes SET id = 10 WHERE id = 1;
SELECT * FROM t.log();

-- TRUNCATE is a reset, whatever else the transaction did to the table.
BEGIN; INSERT INTO notes VALUES (11), (12); TRUNCATE notes; INSERT INTO notes VALUES (13); COMMIT;
SELECT * FROM t.log();
BEGIN; TRUNCATE notes; ROLLBACK;
SELECT * FROM t.log();
SELECT t.catch_up('notes');
TRUNCATE notes;
INSERT INTO notes VALUES (14);
SELECT * FROM t.pull('{notes}');
SELECT * FROM t.pull('{notes}');

-- COPY, INSERT ON CONFLICT, UPDATE FROM, DELETE USING, WITH.
SELECT FROM t.log();
COPY notes (id, title) FROM stdin;
20	copied
21	\N
\.
SELECT * FROM t.log();
INSERT INTO notes (id, title) VALUES (20, 'dup'), (22, 'new') ON CONFLICT DO NOTHING;
SELECT * FROM t.log();
INSERT INTO notes (id, title) VALUES (20, 'dup'), (23, 'new') ON CONFLICT (id) DO UPDATE SET title = excluded.title;
SELECT * FROM t.log();
INSERT INTO notes (id, title) VALUES (20, 'dup') ON CONFLICT (id) DO UPDATE SET title = excluded.title;
SELECT * FROM t.log();
WITH gone AS (DELETE FROM notes WHERE id = 23 RETURNING title), new AS (INSERT INTO notes SELECT 24, title FROM gone)
UPDATE notes SET title = 'w' WHERE id = 22;
SELECT * FROM t.log();
UPDATE notes SET title = v.t FROM (VALUES (22, 'f'), (20, 'dup')) AS v(i, t) WHERE id = v.i;
DELETE FROM notes USING (VALUES (24), (25)) AS v(i) WHERE id = v.i;
SELECT * FROM t.log();

-- MERGE, which PostgreSQL 14 has not yet.
DO $do$
BEGIN
    IF current_setting('server_version_num')::int >= 150000 THEN
        EXECUTE $$ MERGE INTO notes AS n USING (VALUES (20, 'merged'), (21, NULL), (26, 'merged in')) AS v(id, title) ON n.id = v.id
                   WHEN MATCHED AND v.title IS NULL THEN DELETE
                   WHEN MATCHED THEN UPDATE SET title = v.title
                   WHEN NOT MATCHED THEN INSERT (id, title) VALUES (v.id, v.title) $$;
    ELSE
        DELETE FROM notes WHERE id = 21;
        UPDATE notes SET title = 'merged' WHERE id = 20;
        INSERT INTO notes (id, title) VALUES (26, 'merged in');
    END IF;
END
$do$;
SELECT * FROM t.log();

-- Foreign keys: cascades, SET NULL, deferred.
CREATE TABLE parents (id int PRIMARY KEY);
CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents ON DELETE CASCADE ON UPDATE CASCADE,
                       other int REFERENCES parents ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED);
SELECT snapsync.enable('parents'), snapsync.enable('children');
INSERT INTO parents VALUES (1), (2), (3);
INSERT INTO children VALUES (1, 1, 2), (2, 2, 1), (3, 3, 2);
SELECT FROM t.log();
UPDATE parents SET id = 30 WHERE id = 3;
UPDATE parents SET id = 31 WHERE id = 30;
SELECT * FROM t.log();
SELECT * FROM children ORDER BY id;
DELETE FROM parents WHERE id = 1;
SELECT * FROM t.log();

-- Triggers of the table's owner: BEFORE changes the row or drops it, AFTER changes it again.
CREATE FUNCTION t.before() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.title = 'no' THEN RETURN NULL; END IF;
    new.body := upper(new.title);
    RETURN new;
END $$;
CREATE FUNCTION t.after() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE notes SET body = body || '!' WHERE id = new.id;
    RETURN NULL;
END $$;
CREATE TRIGGER a_before BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION t.before();
CREATE TRIGGER a_after AFTER INSERT ON notes FOR EACH ROW EXECUTE FUNCTION t.after();
INSERT INTO notes VALUES (40, 'yes'), (41, 'no');
SELECT * FROM t.log();
DROP TRIGGER a_before ON notes;
DROP TRIGGER a_after ON notes;

-- Tracked whatever the session says: the apply worker of logical replication runs as 'replica'.
SET session_replication_role = replica;
INSERT INTO notes VALUES (50); UPDATE notes SET title = 'r' WHERE id = 50; TRUNCATE children;
RESET session_replication_role;
SELECT * FROM t.log();

-- lastval() belongs to the session: PDO's lastInsertId() reads it after the commit.
CREATE TABLE numbered (id serial PRIMARY KEY, x int);
SELECT snapsync.enable('numbered');
INSERT INTO numbered (x) VALUES (1), (2), (3);
SELECT lastval();
BEGIN; INSERT INTO numbered (x) VALUES (1); SELECT pull_changes('{numbered}') IS NOT NULL; SELECT lastval(); COMMIT;
SELECT lastval();

-- An out-of-line value: touched or not.
CREATE TABLE big (id int PRIMARY KEY, n int, doc text);
ALTER TABLE big ALTER doc SET STORAGE EXTERNAL;
SELECT snapsync.enable('big');
INSERT INTO big VALUES (1, 1, repeat('x', 100000));
SELECT FROM t.log();
UPDATE big SET n = n; UPDATE big SET doc = repeat('x', 100000); UPDATE big SET doc = doc || '';
SELECT * FROM t.log();
SELECT t.catch_up('big');
UPDATE big SET n = 2;
SELECT what, length(item) FROM t.pull('{big}');
UPDATE big SET doc = repeat('x', 99999) || 'y';
SELECT what, length(item), right(item, 3) FROM t.pull('{big}');

-- A table's columns may come and go between changes.
ALTER TABLE notes DROP COLUMN body;
ALTER TABLE notes ADD COLUMN colour text DEFAULT 'red';
SELECT FROM t.log();
UPDATE notes SET colour = 'blue' WHERE id = 50;
SELECT "table", op, key FROM t.log();
SELECT item FROM t.pull('{notes}', NULL) WHERE item LIKE '%:50,%';

-- READ ONLY is said after the write, and a role has changed: roles are recorded as the entries are.
CREATE ROLE regress_tracking_other;
BEGIN; UPDATE notes SET colour = 'green' WHERE id = 50; SET TRANSACTION READ ONLY; COMMIT;
SELECT "table", op, key FROM t.log();
SHOW transaction_read_only;
BEGIN; UPDATE notes SET colour = 'red' WHERE id = 50; SET LOCAL client_min_messages = error; SET TRANSACTION READ ONLY; COMMIT;
SHOW client_min_messages;
DROP ROLE regress_tracking_other;

-- Who gives the log another name does not get writers who go on without it.
ALTER EVENT TRIGGER snapsync_command_end DISABLE;
ALTER TABLE snapsync.change RENAME TO change_old;
UPDATE notes SET colour = 'grey' WHERE id = 50;
ALTER TABLE snapsync.change_old RENAME TO change;
ALTER EVENT TRIGGER snapsync_command_end ENABLE ALWAYS;
SELECT colour FROM notes WHERE id = 50;
