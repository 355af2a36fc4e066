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

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_altered_meanwhile;
