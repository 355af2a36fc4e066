-- A type's cast to json is somebody's own function. It runs as whoever pulls, where a pull writes the value, and nowhere with
-- more rights than the table's owner has.
\set ECHO none
\set test regress_user_casts
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

SET ROLE carol;
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TYPE pair AS (a int, b text);
CREATE FUNCTION mood_json(mood) RETURNS json LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'mood as %', current_user; RETURN to_json($1::text); END $$;
CREATE FUNCTION pair_json(pair) RETURNS json LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'pair as %', current_user; RETURN to_json($1.a); END $$;
CREATE CAST (mood AS json) WITH FUNCTION mood_json(mood);
CREATE CAST (pair AS json) WITH FUNCTION pair_json(pair);
CREATE TABLE grants (id int PRIMARY KEY, who name, m mood, p pair);
CREATE TABLE notes (id int PRIMARY KEY, g int, m mood, p pair);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY granted ON notes USING (m = 'happy' AND (p).a = 1 AND g IN (SELECT x.id FROM grants AS x WHERE x.who = current_user AND x.m = 'happy' AND (x.p).a = 1 AND x IS NOT NULL));
GRANT SELECT, INSERT, UPDATE, DELETE ON notes, grants TO alice;
SET client_min_messages = warning;
SELECT snapsync.enable('notes');
RESET client_min_messages;
-- Writers, and the images that they log.
INSERT INTO grants VALUES (1, 'alice', 'happy', (1, 'x')), (2, 'alice', 'sad', (1, 'x'));
INSERT INTO notes VALUES (1, 1, 'happy', (1, 'x')), (2, 2, 'happy', (1, 'x'));
RESET ROLE;
SET ROLE alice;
SELECT t.catch_up('notes');
UPDATE grants SET m = 'happy' WHERE id = 2;
SELECT pull_changes('{notes}', current_setting('t.cursor')) -> 'changes';
SELECT t.catch_up('notes');
DELETE FROM notes WHERE id = 1;
SELECT pull_changes('{notes}', current_setting('t.cursor')) -> 'changes';
SELECT push_changes('{"notes": {"updated": [{"id": 2, "p": {"a": 1, "b": "y"}, "m": "happy"}]}}', current_setting('t.cursor'), client_id => 'me');
SELECT pull_changes('{notes}', current_setting('t.cursor'), client_id => 'me', skip_echoes => true) -> 'changes';
RESET ROLE;
