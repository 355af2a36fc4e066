-- A batch that comes again under its push_id is not carried out again. What its client may believe wrongly of its rows then comes with the next pull,
-- to that client alone.
\set ECHO none
\set test regress_push_again
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE FUNCTION t.stamp(collection text, client text) RETURNS text LANGUAGE sql AS $$
    SELECT public.pull_changes(ARRAY[collection], client_id => client) ->> 'timestamp'
$$;
CREATE FUNCTION t.changes(collection text, cursor text, client text) RETURNS json LANGUAGE sql AS $$
    SELECT public.pull_changes(ARRAY[collection], cursor, client_id => client, skip_echoes => client IS NOT NULL) -> 'changes' -> collection
$$;
CREATE TABLE todo (id text PRIMARY KEY, title text);
INSERT INTO todo VALUES ('t1', 'old'), ('t2', 'old'), ('t4', 'old');
GRANT ALL ON todo TO alice, bob;
SELECT snapsync.enable('todo');
SET ROLE alice;
SELECT t.stamp('todo', 'A') AS a \gset
\set batch '{"todo": {"created": [{"id": "t3", "title": "mine"}, {"id": "t5", "title": "mine"}], "updated": [{"id": "t1", "title": "mine"}, {"id": "t4", "title": "mine"}], "deleted": ["t2"]}}'
SELECT push_changes(:'batch', :'a', client_id => 'A', push_id => '00000000-0000-0000-0000-000000000001');
-- Its answer is lost, and it comes again at once: there is nothing to say.
SELECT push_changes(:'batch', :'a', client_id => 'A', push_id => '00000000-0000-0000-0000-000000000001');
SELECT t.changes('todo', :'a', 'A');
-- Another device changes, deletes and brings back.
SELECT t.stamp('todo', 'B') AS b \gset
SELECT push_changes('{"todo": {"created": [{"id": "t2", "title": "again"}], "updated": [{"id": "t1", "title": "theirs"}, {"id": "t3", "title": "theirs"}], "deleted": ["t5"]}}', :'b', client_id => 'B');
-- The first one pulls, keeps its own edits, which it has still to push, and pushes them.
SELECT t.changes('todo', :'a', 'A');
SELECT t.stamp('todo', 'A') AS a \gset
SELECT t.stamp('todo', 'B') AS b \gset
SELECT push_changes(:'batch', :'a', client_id => 'A', push_id => '00000000-0000-0000-0000-000000000001');
SELECT t.changes('todo', :'b', 'B') AS nobody_else;
SELECT t.changes('todo', :'a', 'A');
-- Each time, for the answer may be lost each time; also where the batch comes with the cursor that it had first.
SELECT t.stamp('todo', 'A') AS a \gset
SELECT push_changes(:'batch', '1', client_id => 'A', push_id => '00000000-0000-0000-0000-000000000001');
SELECT t.changes('todo', :'a', 'A');
-- In a transaction that keeps its snapshot, and in that of the first push.
SELECT t.stamp('todo', 'A') AS a \gset
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM todo;
-- (What others have done since its snapshot, a pull of the client's may have told of.)
\set a `"$SNAPSYNC_PG_BIN/psql" -X -A -t -q -d regress_push_again -c "UPDATE todo SET title = 'later' WHERE id = 't4'" -c "SELECT pull_changes('{todo}') ->> 'timestamp'"`
SELECT push_changes(:'batch', :'a', client_id => 'A', push_id => '00000000-0000-0000-0000-000000000001');
COMMIT;
SELECT t.changes('todo', :'a', 'A');
SELECT t.stamp('todo', 'A') AS a \gset
BEGIN;
SELECT push_changes('{"todo": {"updated": [{"id": "t4", "title": "one"}]}}', client_id => 'A', push_id => '00000000-0000-0000-0000-000000000002');
SELECT push_changes('{"todo": {"updated": [{"id": "t4", "title": "one"}]}}', client_id => 'A', push_id => '00000000-0000-0000-0000-000000000002');
COMMIT;
SELECT t.changes('todo', :'a', 'A');
-- A client without a client_id cannot be told what of it is its own: it gets all of the batch.
SELECT push_changes('{"todo": {"updated": [{"id": "t4", "title": "two"}], "deleted": ["t5"]}}', push_id => '00000000-0000-0000-0000-000000000003');
SELECT t.stamp('todo', NULL) AS a \gset
SELECT push_changes('{"todo": {"updated": [{"id": "t4", "title": "two"}], "deleted": ["t5"]}}', push_id => '00000000-0000-0000-0000-000000000003');
SELECT t.changes('todo', :'a', NULL);
-- Where clients were reset, what the log has is not all.
SELECT t.stamp('todo', 'A') AS a \gset
\set batch '{"todo": {"updated": [{"id": "t4", "title": "mine once more"}]}}'
SELECT push_changes(:'batch', :'a', client_id => 'A', push_id => '00000000-0000-0000-0000-000000000007');
RESET ROLE;
SELECT snapsync.reset('todo');
SET ROLE alice;
SELECT t.stamp('todo', 'A') AS a \gset
SELECT push_changes(:'batch', :'a', client_id => 'A', push_id => '00000000-0000-0000-0000-000000000007');
SELECT t.changes('todo', :'a', 'A');
-- One that writes nothing.
SELECT push_changes('{}', :'a', client_id => 'A', push_id => '00000000-0000-0000-0000-000000000008');
SELECT push_changes('{}', :'a', client_id => 'A', push_id => '00000000-0000-0000-0000-000000000008');
RESET ROLE;

-- What the server made otherwise, or did not take, the client has heard before it sent the batch again; so it is with ids. Of a record that the answer
-- names nothing is said.
CREATE TABLE notes (id uuid PRIMARY KEY, title varchar(12) CHECK (title <> 'bad'));
CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.title = 'nothing' THEN RETURN NULL; END IF;
    NEW.title := upper(NEW.title);
    RETURN NEW;
END $$;
CREATE TRIGGER shouting BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION shout();
GRANT ALL ON notes TO alice;
SELECT snapsync.enable('notes');
SET ROLE alice;
SELECT t.stamp('notes', 'A') AS a \gset
\set batch '{"notes": {"created": [{"id": "00000000-0000-0000-0000-00000000000a", "title": "loud"}, {"id": "00000000-0000-0000-0000-00000000000B", "title": "LOUD"}, {"id": "00000000-0000-0000-0000-00000000000c", "title": "nothing"}, {"id": "00000000-0000-0000-0000-00000000000d", "title": "too long to be stored"}, {"id": "none", "title": "x"}]}}'
SELECT push_changes(:'batch', :'a', client_id => 'A', push_id => '00000000-0000-0000-0000-000000000004', on_rejected => 'report') -> 'experimentalRejectedIds';
SELECT t.changes('notes', :'a', 'A');
SELECT t.stamp('notes', 'A') AS a \gset
SELECT push_changes(:'batch', :'a', client_id => 'A', push_id => '00000000-0000-0000-0000-000000000004', on_rejected => 'report') -> 'experimentalRejectedIds';
SELECT t.changes('notes', :'a', 'A');
RESET ROLE;

-- What the user does not see any more is gone for him.
CREATE TABLE shared (id int PRIMARY KEY, list int);
CREATE TABLE lists (id int, member name, PRIMARY KEY (id, member));
INSERT INTO lists VALUES (1, 'alice'), (2, 'alice');
ALTER TABLE shared ENABLE ROW LEVEL SECURITY;
CREATE POLICY members ON shared USING (list IN (SELECT id FROM lists WHERE member = current_user));
GRANT ALL ON shared TO alice;
GRANT SELECT ON lists TO alice;
SELECT snapsync.enable('shared');
SET ROLE alice;
SELECT t.stamp('shared', 'A') AS a \gset
SELECT push_changes('{"shared": {"created": [{"id": 1, "list": 1}, {"id": 2, "list": 2}]}}', :'a', client_id => 'A', push_id => '00000000-0000-0000-0000-000000000005');
RESET ROLE;
DELETE FROM lists WHERE id = 1;
SET ROLE alice;
SELECT t.stamp('shared', 'A') AS a \gset
SELECT push_changes('{"shared": {"created": [{"id": 1, "list": 1}, {"id": 2, "list": 2}]}}', :'a', client_id => 'A', push_id => '00000000-0000-0000-0000-000000000005');
SELECT t.changes('shared', :'a', 'A');
RESET ROLE;
-- Nor is all looked at, where others have done much.
INSERT INTO shared SELECT i, 3 FROM generate_series(3, 11000) AS i;
DELETE FROM shared WHERE list = 3;
SET ROLE alice;
SELECT t.stamp('shared', 'A') AS a \gset
SELECT push_changes('{"shared": {"created": [{"id": 1, "list": 1}, {"id": 2, "list": 2}]}}', :'a', client_id => 'A', push_id => '00000000-0000-0000-0000-000000000005');
SELECT t.changes('shared', :'a', 'A');
RESET ROLE;

-- Ids that never were are no word, however often they are sent.
SET ROLE alice;
SELECT push_changes('{"shared": {"deleted": ["99901", "99902"]}}', client_id => 'A', push_id => '00000000-0000-0000-0000-000000000006');
RESET ROLE;
SELECT count(*) FROM snapsync.change WHERE key IN ('99901', '99902');
SET ROLE alice;
SELECT push_changes('{"shared": {"deleted": ["99901", "99902"]}}', client_id => 'A', push_id => '00000000-0000-0000-0000-000000000006');
RESET ROLE;
SELECT count(*) FROM snapsync.change WHERE key IN ('99901', '99902');

-- Without a push_id: what else the push did makes a trigger refuse what it has written, when it is sent once more. What stands as it is sent is done.
CREATE TABLE albums (id text PRIMARY KEY, archived boolean NOT NULL DEFAULT false);
CREATE TABLE photos (id text PRIMARY KEY, album text NOT NULL REFERENCES albums, title text, seen timestamptz);
CREATE TABLE invoices (id text PRIMARY KEY, status text NOT NULL, note text);
CREATE FUNCTION is_open() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF EXISTS (SELECT FROM albums WHERE id IN (OLD.album, NEW.album) AND archived) THEN RAISE 'the album is archived'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER open BEFORE INSERT OR UPDATE ON photos FOR EACH ROW EXECUTE FUNCTION is_open();
CREATE FUNCTION is_final() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.status = 'final' THEN RAISE 'final'; END IF; RETURN NEW; END $$;
CREATE TRIGGER final BEFORE UPDATE ON invoices FOR EACH ROW EXECUTE FUNCTION is_final();
GRANT ALL ON albums, photos, invoices TO alice;
SELECT snapsync.enable('albums'), snapsync.enable('photos'), snapsync.enable('invoices', conflict => 'merge');
INSERT INTO albums VALUES ('a'), ('b');
INSERT INTO photos VALUES ('p', 'a', 'old'), ('q', 'b', 'old');
INSERT INTO invoices VALUES ('i', 'draft');
\set edits '{"albums": {"updated": [{"id": "a", "archived": true}]}, "photos": {"updated": [{"id": "p", "title": "new"}, {"id": "q", "album": "a"}]}, "invoices": {"updated": [{"id": "i", "status": "final"}]}}'
SET ROLE alice;
SELECT t.stamp('photos', 'A') AS a \gset
SELECT push_changes(:'edits', :'a', client_id => 'A');
SELECT push_changes(:'edits', :'a', client_id => 'A');
SELECT push_changes(:'edits', :'a', client_id => 'A', on_rejected => 'report');
-- Something else is no less refused, and hides nothing.
\set more '{"albums": {"updated": [{"id": "a", "archived": true}, {"id": "b", "archived": true}]}, "photos": {"updated": [{"id": "p", "title": "new"}, {"id": "q", "album": "a", "title": "newer"}]}, "invoices": {"updated": [{"id": "i", "status": "final", "note": "x"}]}}'
SELECT push_changes(:'more', :'a', client_id => 'A');
SELECT push_changes(:'more', :'a', client_id => 'A', on_rejected => 'report');
RESET ROLE;
TABLE albums; TABLE photos; TABLE invoices;
-- Two clients that changed it alike are in conflict all the same.
SET ROLE alice;
SELECT push_changes('{"invoices": {"updated": [{"id": "i", "status": "final"}]}}', :'a', client_id => 'B');
SELECT push_changes('{"photos": {"updated": [{"id": "p", "title": "new"}]}}', :'a', client_id => 'B');
RESET ROLE;

-- Where the row is not just what was sent (a number is rounded, a column is read-only), its client gets it with the next pull.
CREATE TABLE amounts (id text PRIMARY KEY, n numeric(3,1), by_server text);
INSERT INTO amounts VALUES ('a', 1.3, 'server'), ('b', 1.3, 'server'), ('c', 1.3, 'server');
CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
CREATE TRIGGER no BEFORE UPDATE ON amounts FOR EACH ROW EXECUTE FUNCTION no();
GRANT ALL ON amounts TO alice;
SELECT snapsync.enable('amounts', readonly => '{by_server}');
SET ROLE alice;
SELECT t.stamp('amounts', 'A') AS a \gset
SELECT push_changes('{"amounts": {"updated": [{"id": "a", "n": 1.25}, {"id": "b", "n": 1.3, "by_server": "mine"}, {"id": "c", "n": 1.3}]}}', :'a', client_id => 'A');
SELECT t.changes('amounts', :'a', 'A');
RESET ROLE;
-- What fails, and what the push writes meanwhile: it is asked in the end whether it stands as it was sent.
CREATE TABLE gates (id text PRIMARY KEY, g text, n int);
INSERT INTO gates VALUES ('a', 'A', 1), ('b', 'B', 2);
CREATE FUNCTION not_yet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.id = 'a' AND (SELECT n FROM gates WHERE id = 'b') = 2 THEN RAISE 'not yet'; END IF; RETURN NEW; END $$;
CREATE FUNCTION set_other() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE gates SET g = 'C' WHERE id = 'a' AND NEW.id = 'b'; RETURN NULL; END $$;
CREATE TRIGGER not_yet BEFORE UPDATE ON gates FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION not_yet();
CREATE TRIGGER set_other AFTER UPDATE ON gates FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION set_other();
GRANT ALL ON gates TO alice;
SELECT snapsync.enable('gates');
SET ROLE alice;
SELECT push_changes('{"gates": {"updated": [{"id": "a", "g": "A"}, {"id": "b", "n": 3}]}}', client_id => 'A');
RESET ROLE;
TABLE gates;

-- The answer is the first one's, whatever has become of the tables, and of what their user may do.
ALTER TABLE todo RENAME COLUMN title TO name;
SET ROLE alice;
SELECT push_changes('{"todo": {"updated": [{"id": "t4", "title": "one"}]}}', client_id => 'A', push_id => '00000000-0000-0000-0000-000000000002');
RESET ROLE;
REVOKE ALL ON todo FROM alice;
SET ROLE alice;
SELECT push_changes('{"todo": {"updated": [{"id": "t4", "title": "one"}]}}', client_id => 'A', push_id => '00000000-0000-0000-0000-000000000002');
RESET ROLE;
DELETE FROM notes;
ALTER TABLE notes ALTER COLUMN id TYPE int USING 1;
SET ROLE alice;
SELECT t.stamp('notes', 'A') AS a \gset
SELECT push_changes(:'batch', :'a', client_id => 'A', push_id => '00000000-0000-0000-0000-000000000004', on_rejected => 'report') -> 'experimentalRejectedIds';
SELECT t.changes('notes', :'a', 'A');
RESET ROLE;
DROP TABLE todo, notes;
SET ROLE alice;
SELECT push_changes('{"todo": {"updated": [{"id": "t4", "title": "one"}]}}', client_id => 'A', push_id => '00000000-0000-0000-0000-000000000002');
SELECT push_changes(:'batch', :'a', client_id => 'A', push_id => '00000000-0000-0000-0000-000000000004', on_rejected => 'report') -> 'experimentalRejectedIds';
RESET ROLE;
