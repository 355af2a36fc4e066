-- Functions of a table's owner run in the middle of a pull. They cannot alter what the pull has read the definition of: the old rows
-- would be read as values of another type.
\set ECHO none
\set test regress_altered_meanwhile
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
\set ECHO none
SET client_min_messages = warning;
\set ECHO all

-- The collection itself, by its scopes.
CREATE TABLE notes (id bigint PRIMARY KEY, who text);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
ALTER TABLE notes FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON notes USING (who = current_user);
INSERT INTO notes VALUES (4242, 'alice'), (1, 'alice');
ALTER TABLE notes OWNER TO alice;
CREATE FUNCTION scopes() RETURNS text[] LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('t.go', true) <> '' THEN
        EXECUTE current_setting('t.go');
    END IF;
    RETURN '{alice}';
END $$;
SELECT snapsync.enable('notes', scope_column => 'who', scope_values => 'scopes()');
SET ROLE alice;
SELECT pull_changes('{notes}') ->> 'timestamp' AS cursor \gset
DELETE FROM notes WHERE id = 4242;
SET t.go = 'ALTER TABLE notes ALTER COLUMN id TYPE text USING id::text';
SELECT pull_changes('{notes}', :'cursor') -> 'changes';
SET t.go = 'ALTER TABLE notes ALTER COLUMN id TYPE uuid USING gen_random_uuid()';
SELECT pull_changes('{notes}', :'cursor') -> 'changes';
SET t.go = 'DROP TABLE notes';
SELECT pull_changes('{notes}', :'cursor') -> 'changes';
SET t.go = '';
SELECT pull_changes('{notes}', :'cursor') -> 'changes';
RESET ROLE;

-- A table that its policies read, by a function of a policy: while old rows of it are judged, and between two batches of these.
CREATE TABLE members (id bigint PRIMARY KEY, who text, pad text);
CREATE TABLE teams (id int PRIMARY KEY, lead bigint);
ALTER TABLE members OWNER TO alice;
CREATE FUNCTION watch(bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('t.go', true) <> '' AND $1 % 1500 = 0 THEN
        EXECUTE current_setting('t.go');
    END IF;
    RETURN true;
END $$;
ALTER TABLE members ENABLE ROW LEVEL SECURITY;
ALTER TABLE members FORCE ROW LEVEL SECURITY;
ALTER TABLE teams ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON members USING (watch(id));
CREATE POLICY p ON teams USING (lead IN (SELECT id FROM members));
GRANT SELECT ON teams TO PUBLIC;
INSERT INTO members SELECT n, 'alice' FROM generate_series(1, 3000) AS n;
INSERT INTO teams VALUES (1, 1);
SELECT snapsync.enable('teams');
SET ROLE alice;
SELECT pull_changes('{teams}') ->> 'timestamp' AS cursor \gset
UPDATE members SET who = 'bob';
DELETE FROM members WHERE id > 1;
SET t.go = 'ALTER TABLE members ALTER COLUMN id TYPE text USING id::text';
SELECT pull_changes('{teams}', :'cursor') -> 'experimentalStrategy';
SELECT attname, atttypid::regtype FROM pg_attribute WHERE attrelid = 'members'::regclass AND attname = 'id';
RESET ROLE;

-- A migration that has rows of its own to be checked at its end, or a cursor open, tracks what its policies read, and lets go of it later.
RESET ROLE;
SET client_min_messages = warning;
CREATE TABLE orgs (id int PRIMARY KEY);
SELECT t.secured('todos', ', org int', 'org = 0');
INSERT INTO orgs VALUES (1);
INSERT INTO todos VALUES (1, 1), (2, 2);
SELECT t.sync('alice', 'todos');
CREATE VIEW due AS SELECT name FROM snapsync.dependency WHERE classid = 0 AND relation = 'todos'::regclass;
BEGIN;
CREATE TABLE joined (id int PRIMARY KEY, who name, org int REFERENCES orgs DEFERRABLE INITIALLY DEFERRED);
GRANT SELECT ON joined TO PUBLIC;
INSERT INTO joined VALUES (1, 'alice', 1);
CREATE POLICY joined ON todos USING (org IN (SELECT org FROM joined WHERE who = current_user));
INSERT INTO joined VALUES (2, 'bob', 1);
COMMIT;
TABLE due;
SELECT t.sync('alice', 'todos'), t.sync('bob', 'todos');
DELETE FROM joined WHERE id = 1;
SELECT t.sync('alice', 'todos'), t.sync('bob', 'todos');
BEGIN;
INSERT INTO joined VALUES (1, 'alice', 1);
DROP POLICY joined ON todos;
COMMIT;
TABLE due;
SELECT t.sync('alice', 'todos'), t.sync('bob', 'todos');
BEGIN;
DECLARE c CURSOR FOR SELECT * FROM joined;
FETCH c;
CREATE POLICY joined ON todos USING (org IN (SELECT org FROM joined WHERE who = current_user));
COMMIT;
TABLE due;
SELECT t.sync('alice', 'todos'), t.sync('bob', 'todos');
BEGIN;
DECLARE c CURSOR FOR SELECT * FROM joined;
FETCH c;
DROP POLICY joined ON todos;
COMMIT;
TABLE due;
-- A statement that makes one itself, in its midst.
CREATE FUNCTION opens(int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    IF $1 = 1 THEN CREATE POLICY joined ON todos USING (org IN (SELECT org FROM joined WHERE who = current_user)); END IF;
    RETURN 2;
END $$;
UPDATE joined SET org = opens(id);
ALTER TABLE joined DROP CONSTRAINT joined_org_fkey;
UPDATE joined SET org = opens(id);
TABLE due;
SELECT t.sync('alice', 'todos'), t.sync('bob', 'todos');

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_altered_meanwhile;
