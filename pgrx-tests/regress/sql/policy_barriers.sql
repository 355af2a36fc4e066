-- Old rows go through a table's policies as a SELECT's rows do: each restrictive policy stands before the permissive ones, all of them before
-- what the query asks for. A function in a policy that names another without its schema calls the caller's, which must be given
-- no row that the barrier before it hides.
\set ECHO none
\set test regress_policy_barriers
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
CREATE SCHEMA planted AUTHORIZATION alice;
CREATE FUNCTION planted.lower(text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    -- (What it says goes to nobody.)
    PERFORM pg_catalog.set_config('t.given', pg_catalog.concat_ws(', ', nullif(pg_catalog.current_setting('t.given', true), ''), $1), false);
    RETURN pg_catalog.lower($1);
END
$$;
-- What the owner of a policy writes in good faith. It costs little, so the planner likes to ask it first.
CREATE FUNCTION public.shown(label text) RETURNS boolean LANGUAGE plpgsql STABLE COST 0.0001 AS $$ BEGIN RETURN lower(label) <> 'draft'; END $$;
CREATE PROCEDURE t.pull_planted(collection text, since text) LANGUAGE plpgsql AS $$
DECLARE
    answer json;
BEGIN
    SET LOCAL ROLE alice;
    SET LOCAL search_path = planted, pg_catalog, public;
    PERFORM pg_catalog.set_config('t.given', '', false);
    answer := public.pull_changes(ARRAY[collection], since);
    RAISE NOTICE 'given: %', pg_catalog.current_setting('t.given');
    RAISE NOTICE 'came: %', answer -> 'changes';
    PERFORM pg_catalog.set_config('t.cursor', answer ->> 'timestamp', false);
END
$$;
CREATE FUNCTION t.now() RETURNS text LANGUAGE sql AS $$ SELECT public.pull_changes('{}') ->> 'timestamp' $$;
GRANT USAGE ON SCHEMA public TO alice;
RESET client_min_messages;
\set ECHO all

-- A deleted row of another tenant.
CREATE TABLE members (id int PRIMARY KEY, org int, who name);
CREATE TABLE docs (id int PRIMARY KEY, org int, label text);
INSERT INTO members VALUES (1, 1, 'bob'), (2, 2, 'alice');
INSERT INTO docs VALUES (1, 1, 'BOB''S'), (2, 2, 'OURS');
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON docs AS RESTRICTIVE USING (EXISTS (SELECT FROM members AS m WHERE m.org = docs.org + 0 AND m.who = current_user));
CREATE POLICY shown ON docs USING (shown(label));
GRANT SELECT ON docs, members TO alice;
SELECT snapsync.enable('docs');
SELECT t.now() AS now \gset
DELETE FROM docs;
CALL t.pull_planted('docs', :'now');

-- The same where the row is one of a table that another's policy reads, as it was.
CREATE TABLE rooms (id int PRIMARY KEY, org int, label text);
CREATE TABLE chairs (id int PRIMARY KEY, room int);
INSERT INTO rooms VALUES (1, 1, 'BOB''S ROOM'), (2, 2, 'OUR ROOM');
INSERT INTO chairs VALUES (1, 1), (2, 2);
ALTER TABLE rooms ENABLE ROW LEVEL SECURITY;
ALTER TABLE chairs ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON rooms AS RESTRICTIVE USING (EXISTS (SELECT FROM members AS m WHERE m.org = rooms.org + 0 AND m.who = current_user));
CREATE POLICY shown ON rooms USING (shown(label));
CREATE POLICY room ON chairs USING (room IN (SELECT r.id FROM rooms AS r));
GRANT SELECT ON rooms, chairs TO alice;
SELECT snapsync.enable('chairs');
SELECT t.now() AS now \gset
UPDATE rooms SET org = org + 2;
CALL t.pull_planted('chairs', :'now');

-- A row that its user could see, and that was written after he left: what it says now is not for him.
CREATE TABLE notes (id int PRIMARY KEY, org int, label text);
INSERT INTO notes VALUES (1, 2, 'FOR ALICE'), (2, 2, 'ALSO FOR ALICE');
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notes AS RESTRICTIVE USING (org IN (SELECT m.org FROM members AS m WHERE m.who = current_user));
CREATE POLICY shown ON notes USING (shown(label));
GRANT SELECT ON notes TO alice;
SELECT snapsync.enable('notes');
SELECT t.now() AS now \gset
DELETE FROM members WHERE who = 'alice';
UPDATE notes SET label = 'ABOUT ALICE' WHERE id = 1;
CALL t.pull_planted('notes', :'now');
