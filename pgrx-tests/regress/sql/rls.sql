-- Row-level security: a pull is exactly SELECT, and a deletion says nothing about rows that the caller never saw.
\set ECHO none
\set test regress_rls
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

-- Each of these clients pulls as its role, with a cursor of its own.
CREATE FUNCTION t.as(who text, collections text[]) RETURNS TABLE (what text, item text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('t.cursor', current_setting('t.cursor_' || who, true), false);
    EXECUTE format('SET ROLE %I', who);
    RETURN QUERY SELECT * FROM t.pull(collections);
    RESET ROLE;
    PERFORM set_config('t.cursor_' || who, current_setting('t.cursor'), false);
END
$$;

CREATE TABLE notes (id int PRIMARY KEY, owner name NOT NULL, title text, shared boolean NOT NULL DEFAULT false);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON notes USING (owner = current_user);
CREATE POLICY shared ON notes FOR SELECT USING (shared);
GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO alice, bob;
GRANT SELECT ON notes TO service_role;
SELECT snapsync.enable('notes');
INSERT INTO notes VALUES (1, 'alice', 'a1', false), (2, 'bob', 'b2', false), (3, 'alice', 'a3', true), (4, 'bob', 'b4', false), (5, 'bob', 'b5', false);
SELECT * FROM t.as('alice', '{notes}');
SELECT * FROM t.as('bob', '{notes}');
-- Policies do not apply to a role with BYPASSRLS, nor to the table's owner.
SELECT count(*) FROM t.as('service_role', '{notes}');
SELECT count(*) FROM t.pull('{notes}', NULL);

-- Changes, as each of them sees it. No id of bob's rows reaches alice.
UPDATE notes SET title = title || '!' WHERE id IN (1, 2);
DELETE FROM notes WHERE id IN (4);
INSERT INTO notes VALUES (6, 'bob', 'b6'), (7, 'alice', 'a7');
SELECT * FROM t.as('alice', '{notes}');
SELECT * FROM t.as('bob', '{notes}');
SELECT * FROM t.as('service_role', '{notes}');

-- A row that becomes visible is created, one that becomes invisible is deleted, one that stays so is neither.
UPDATE notes SET shared = true WHERE id = 5;
UPDATE notes SET shared = false WHERE id = 3;
UPDATE notes SET owner = 'alice' WHERE id = 6;
SELECT * FROM t.as('alice', '{notes}');
SELECT * FROM t.as('bob', '{notes}');
-- Became visible and was deleted between two pulls; was visible, became invisible, was deleted; never was.
UPDATE notes SET shared = true WHERE id = 2; DELETE FROM notes WHERE id = 2;
UPDATE notes SET shared = false WHERE id = 5; DELETE FROM notes WHERE id = 5;
INSERT INTO notes VALUES (8, 'bob', 'b8'); UPDATE notes SET title = 'x' WHERE id = 8; DELETE FROM notes WHERE id = 8;
SELECT * FROM t.as('alice', '{notes}') WHERE item <> '"2"';
-- There and back in one transaction: nobody saw anything in between.
SELECT * FROM t.as('bob', '{notes}') \g /dev/null
INSERT INTO notes VALUES (9, 'bob', 'b9');
SELECT * FROM t.as('alice', '{notes}'); SELECT * FROM t.as('bob', '{notes}');
BEGIN; UPDATE notes SET shared = true WHERE id = 9; UPDATE notes SET shared = false WHERE id = 9; COMMIT;
BEGIN; UPDATE notes SET shared = true WHERE id = 9; DELETE FROM notes WHERE id = 9; COMMIT;
SELECT * FROM t.as('alice', '{notes}');
SELECT * FROM t.as('bob', '{notes}');
-- A key that was another's before.
INSERT INTO notes VALUES (10, 'bob', 'bob''s');
SELECT * FROM t.as('alice', '{notes}'); SELECT * FROM t.as('bob', '{notes}');
BEGIN; DELETE FROM notes WHERE id = 10; INSERT INTO notes VALUES (10, 'alice', 'alice''s'); COMMIT;
SELECT * FROM t.as('alice', '{notes}');
SELECT * FROM t.as('bob', '{notes}');

-- Restrictive policies are AND-ed, policies for other roles and other commands do not count.
CREATE POLICY no_secrets ON notes AS RESTRICTIVE FOR SELECT USING (title IS DISTINCT FROM 'secret');
CREATE POLICY for_carol ON notes FOR SELECT TO carol USING (true);
CREATE POLICY insert_any ON notes FOR INSERT WITH CHECK (true);
SELECT snapsync.enable('notes');
SELECT * FROM t.as('alice', '{notes}');
SELECT * FROM t.as('bob', '{notes}') \g /dev/null
INSERT INTO notes VALUES (11, 'alice', 'secret'), (12, 'alice', 'plain'), (13, 'bob', 'plain');
SELECT * FROM t.as('alice', '{notes}');
UPDATE notes SET title = 'secret' WHERE id = 12;
UPDATE notes SET title = 'told' WHERE id = 11;
SELECT * FROM t.as('alice', '{notes}');
DELETE FROM notes WHERE id IN (11, 12, 13);
SELECT * FROM t.as('alice', '{notes}');
SELECT * FROM t.as('bob', '{notes}');

-- What pulls gave is what SELECT gives.
SET ROLE alice;
SELECT count(*) = (SELECT count(*) FROM notes) FROM t.pull('{notes}', NULL);
RESET ROLE;

-- A policy with a subquery: members see a project's tasks.
CREATE TABLE members (project int, who name, PRIMARY KEY (project, who));
CREATE TABLE tasks (id int PRIMARY KEY, project int, title text);
GRANT SELECT ON members, tasks TO alice, bob;
ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
CREATE POLICY member ON tasks USING (EXISTS (SELECT FROM members AS m WHERE m.project = tasks.project AND m.who = current_user));
SET client_min_messages = warning;
SELECT snapsync.enable('tasks');
RESET client_min_messages;
INSERT INTO members VALUES (1, 'alice'), (2, 'bob'), (3, 'alice'), (3, 'bob');
INSERT INTO tasks VALUES (1, 1, 'one'), (2, 2, 'two'), (3, 3, 'three');
SELECT * FROM t.as('alice', '{tasks}');
SELECT * FROM t.as('bob', '{tasks}');
DELETE FROM tasks WHERE id IN (1, 2);
UPDATE tasks SET title = 'THREE' WHERE id = 3;
INSERT INTO tasks VALUES (4, 1, 'four');
SELECT * FROM t.as('alice', '{tasks}');
SELECT * FROM t.as('bob', '{tasks}');
-- The project decides, the row moves.
UPDATE tasks SET project = 2;
SELECT * FROM t.as('alice', '{tasks}');
SELECT * FROM t.as('bob', '{tasks}');

-- Column privileges: a role gets the columns it may read, and needs the key. No privilege at all is an error, also when there
-- is nothing new.
CREATE TABLE staff (id int PRIMARY KEY, name text, salary int);
GRANT SELECT (id, name) ON staff TO alice;
GRANT SELECT (name) ON staff TO bob;
SELECT snapsync.enable('staff');
INSERT INTO staff VALUES (1, 'Eve', 100);
SELECT * FROM t.as('alice', '{staff}');
UPDATE staff SET salary = 200;
SELECT * FROM t.as('alice', '{staff}');
SELECT * FROM t.as('service_role', '{staff}');
SET ROLE bob;
SELECT * FROM t.error($$ SELECT pull_changes('{staff}') $$);
SET ROLE carol;
SELECT * FROM t.error($$ SELECT pull_changes('{staff}') $$);
SELECT * FROM t.error($$ SELECT pull_changes('{staff}', '1') $$);
SELECT * FROM t.error($$ SELECT pull_changes('{staff}', '9007199254740991') $$);
SELECT * FROM t.error($$ SELECT push_changes('{"staff": {"created": [{"id": 2}]}}') $$);
SELECT * FROM t.error($$ SELECT push_changes('{"staff": {"updated": [{"id": 1, "name": "x"}]}}') $$);
SELECT * FROM t.error($$ SELECT push_changes('{"staff": {"deleted": ["1"]}}') $$);
RESET ROLE;
-- A schema that the role may not enter.
CREATE SCHEMA closed;
CREATE TABLE closed.things (id int PRIMARY KEY);
GRANT SELECT ON closed.things TO alice;
SELECT snapsync.enable('closed.things');
SET ROLE alice;
SELECT * FROM t.error($$ SELECT pull_changes('{closed.things}') $$);
RESET ROLE;

-- Attack: a role puts operators and functions of its own before pg_catalog's. Its functions run when it reads what it may see;
-- they must never be handed values of rows that it may not see.
CREATE TABLE letters (id int PRIMARY KEY, owner text NOT NULL, tag text);
ALTER TABLE letters ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON letters USING (owner = current_user::text AND tag IS DISTINCT FROM 'x' AND tag = ANY (ARRAY['t', 'u']) AND length(owner) > 0);
GRANT SELECT, INSERT, UPDATE, DELETE ON letters TO alice, bob;
SELECT snapsync.enable('letters');
INSERT INTO letters VALUES (1, 'alice', 't'), (2, 'bob', 't');
SELECT * FROM t.as('alice', '{letters}');
UPDATE letters SET tag = 'u'; DELETE FROM letters;
INSERT INTO letters VALUES (3, 'bob', 'u'), (4, 'alice', 'u');
CREATE SCHEMA mallory AUTHORIZATION alice;
SET ROLE alice;
CREATE FUNCTION mallory.spy(text, text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RAISE WARNING 'spied on % and %', $1, $2;
    RETURN pg_catalog.texteq($1, $2);
END $$;
CREATE FUNCTION mallory.length(text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'spied on the length of %', $1; RETURN 1; END $$;
CREATE FUNCTION mallory.spy_int(int, int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'spied on the number %', $1; RETURN pg_catalog.int4eq($1, $2); END $$;
CREATE OPERATOR mallory.= (LEFTARG = text, RIGHTARG = text, FUNCTION = mallory.spy);
CREATE OPERATOR mallory.= (LEFTARG = int, RIGHTARG = int, FUNCTION = mallory.spy_int);
CREATE TYPE mallory.text AS (x int);
CREATE FUNCTION mallory.unnest(anyarray) RETURNS SETOF anyelement LANGUAGE sql AS $$ SELECT NULL WHERE false $$;
CREATE FUNCTION mallory.jsonb_to_record(jsonb) RETURNS record LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'spied on the image %', $1; RETURN NULL; END $$;
CREATE TABLE mallory.letters (id int, owner text, tag text);
CREATE TABLE mallory.pg_policy (polrelid oid);
RESET ROLE;
SET ROLE alice;
SELECT set_config('t.cursor', current_setting('t.cursor_alice'), false) IS NOT NULL;
SET search_path = mallory, pg_catalog, public;
SELECT public.pull_changes('{letters}', pg_catalog.current_setting('t.cursor')) -> 'changes';
SELECT public.pull_changes('{letters}') -> 'changes';
SELECT public.push_changes('{"letters": {"created": [{"id": 5, "owner": "alice", "tag": "t"}], "updated": [{"id": 4, "tag": "t"}], "deleted": ["3"]}}');
SELECT public.push_changes('{"letters": {"updated": [{"id": 2, "tag": "t"}]}}', last_pulled_at => pg_catalog.current_setting('t.cursor'));
SELECT public.push_changes('{"letters": {"updated": [{"id": 3, "tag": "t"}]}}', last_pulled_at => pg_catalog.current_setting('t.cursor'));
RESET ROLE;
RESET search_path;
SELECT * FROM letters ORDER BY id;
-- A temporary table of the same name is no cover either.
SET ROLE alice;
CREATE TEMP TABLE letters (id int PRIMARY KEY, owner text, tag text);
INSERT INTO letters VALUES (99, 'alice', 'temp');
SELECT * FROM t.pull('{letters}', NULL);
RESET ROLE;
-- Nor does the owner's search path at enable matter to policies.
SET search_path = pg_catalog;
SELECT * FROM t.as('bob', '{letters}');
RESET search_path;

-- FORCE ROW LEVEL SECURITY: the owner is under the policies, too.
CREATE SCHEMA owned AUTHORIZATION alice;
SET ROLE alice;
CREATE TABLE owned.forced (id int PRIMARY KEY, who name);
ALTER TABLE owned.forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY mine ON owned.forced USING (who = current_user);
SELECT snapsync.enable('owned.forced');
RESET ROLE;
INSERT INTO owned.forced VALUES (1, 'alice'), (2, 'bob');
SELECT * FROM t.as('alice', '{owned.forced}');
SELECT t.catch_up('owned.forced');
DELETE FROM owned.forced;
SELECT * FROM t.as('alice', '{owned.forced}');
SELECT * FROM t.pull('{owned.forced}');
-- RLS enabled without any policy: nobody sees anything, and nobody hears of deletions.
CREATE TABLE dark (id int PRIMARY KEY);
ALTER TABLE dark ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON dark TO alice;
SELECT snapsync.enable('dark');
INSERT INTO dark VALUES (1), (2);
SELECT * FROM t.as('alice', '{dark}') WHERE item IS NOT NULL;
UPDATE dark SET id = 3 WHERE id = 1; DELETE FROM dark WHERE id = 2;
SELECT * FROM t.as('alice', '{dark}');
-- row_security = off makes a query that policies would filter fail; a pull must not answer without them.
SET ROLE alice;
SET row_security = off;
SELECT * FROM t.error($$ SELECT pull_changes('{notes}') $$);
SELECT * FROM t.error($$ SELECT pull_changes('{notes}', '1') $$);
RESET row_security;
RESET ROLE;

-- A policy of a role that the caller is given between two pulls of one session: no plan of the first may serve the second.
CREATE ROLE reader NOLOGIN;
CREATE TABLE papers (id int PRIMARY KEY);
ALTER TABLE papers ENABLE ROW LEVEL SECURITY;
CREATE POLICY readers ON papers FOR SELECT TO reader USING (true);
GRANT SELECT ON papers TO alice;
SELECT snapsync.enable('papers');
INSERT INTO papers VALUES (1);
SET ROLE alice;
SELECT pull_changes('{papers}') -> 'changes';
RESET ROLE;
GRANT reader TO alice;
SET ROLE alice;
SELECT pull_changes('{papers}') -> 'changes';
RESET ROLE;
DROP TABLE papers;
DROP ROLE reader;
