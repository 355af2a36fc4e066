-- Records that are left as the row stands: their client hears of it if no pull would send the row, and others hear of nothing that the pusher
-- may not do.
\set ECHO none
\set test regress_push_left
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET client_min_messages = warning;
CREATE TABLE notes (id int PRIMARY KEY, room text, body text, version int NOT NULL DEFAULT 0);
CREATE TABLE likes (id int PRIMARY KEY, body text, version int NOT NULL DEFAULT 0, gone timestamptz);
GRANT ALL ON notes, likes TO alice, bob;
-- A push, and what the client's next pull brings.
CREATE FUNCTION t.told(collection text, changes text, cursor text DEFAULT current_setting('t.cursor')) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text;
    answer json;
BEGIN
    BEGIN
        said := public.push_changes(json_build_object(collection, changes::json), cursor, client_id => 'device');
    EXCEPTION WHEN OTHERS THEN
        said := SQLSTATE || ' ' || SQLERRM;
    END;
    answer := public.pull_changes(ARRAY[collection], current_setting('t.cursor'), client_id => 'device');
    PERFORM set_config('t.cursor', answer ->> 'timestamp', false);
    RETURN said || ' ' || coalesce((SELECT string_agg(a.key || ' ' || coalesce(i.value ->> 'id', i.value #>> '{}'), ', ')
        FROM json_each(answer #> ARRAY['changes', collection]) AS a, json_array_elements(a.value) AS i), 'nothing');
END
$$;
\set ECHO all
-- A scope that scope_values do not give: the second time the row stands as it is sent.
SELECT snapsync.enable('notes', scope_column => 'room', scope_values => $$ARRAY['mine']$$);
SELECT t.catch_up('notes');
SET ROLE alice;
SELECT t.told('notes', '{"created": [{"id": 1, "room": "other", "body": "x"}, {"id": 2, "room": "mine", "body": "y"}]}');
SELECT t.told('notes', '{"created": [{"id": 1, "room": "other", "body": "x"}, {"id": 2, "room": "mine", "body": "y"}]}');
RESET ROLE;
-- Or the stored one is newer.
SELECT snapsync.enable('notes', scope_column => 'room', scope_values => $$ARRAY['mine']$$, conflict => 'last_write_wins', version_column => 'version');
UPDATE notes SET version = 5;
SELECT t.catch_up('notes');
SET ROLE alice;
SELECT t.told('notes', '{"created": [{"id": 1, "room": "mine", "version": 1}], "updated": [{"id": 2, "body": "older", "version": 1}]}');
RESET ROLE;
-- A tombstone that is sent as it stands.
SELECT snapsync.enable('likes', soft_delete_column => 'gone');
SELECT t.catch_up('likes');
INSERT INTO likes VALUES (1, 'x', 0, now());
SET ROLE alice;
SELECT t.told('likes', '{"created": [{"id": 1, "body": "x", "version": 0}]}');
RESET ROLE;
-- An edit of one that the client knew of is an error, as it is of a row that is gone.
SELECT snapsync.enable('likes', soft_delete_column => 'gone', conflict => 'last_write_wins', version_column => 'version');
UPDATE likes SET gone = now();
SELECT t.catch_up('likes');
SET ROLE alice;
SELECT t.told('likes', '{"updated": [{"id": 1, "body": "z", "version": 9}]}');
SELECT t.told('likes', '{"deleted": ["1"]}');
RESET ROLE;

-- Who only reads a row makes nobody else get it again.
TRUNCATE notes, likes;
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY reads ON notes FOR SELECT USING (true);
CREATE POLICY writes ON notes FOR UPDATE USING (current_user = 'bob');
SELECT snapsync.enable('notes', scope_values => '', conflict => 'last_write_wins', version_column => 'version');
INSERT INTO notes VALUES (1, 'mine', 'x', 5);
SELECT t.catch_up('notes');
SELECT count(*) > 0 FROM t.log();
SET ROLE alice;
SELECT t.told('notes', '{"updated": [{"id": 1, "body": "older", "version": 1}]}', NULL);
SELECT t.told('notes', '{"created": [{"id": 1, "body": "older", "version": 1}]}', NULL);
SELECT t.told('notes', '{"deleted": [{"id": 1, "version": 1}]}', NULL);
RESET ROLE;
SELECT * FROM t.log();
SET ROLE bob;
SELECT t.told('notes', '{"updated": [{"id": 1, "body": "older", "version": 1}]}', NULL);
RESET ROLE;
SELECT op FROM t.log();
-- A trigger that may keep a deletion off is not what did: no policy lets alice delete.
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF TG_OP = 'DELETE' THEN RETURN old; END IF; new.version := new.version; RETURN new; END $$;
CREATE TRIGGER stamp BEFORE UPDATE OR DELETE ON notes FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE TRIGGER stamp BEFORE UPDATE OR DELETE ON likes FOR EACH ROW EXECUTE FUNCTION stamp();
ALTER TABLE likes ENABLE ROW LEVEL SECURITY;
CREATE POLICY reads ON likes FOR SELECT USING (true);
SELECT snapsync.enable('notes', conflict => 'reject'), snapsync.enable('likes', conflict => 'reject', soft_delete_column => 'gone');
INSERT INTO likes VALUES (1, 'x');
SELECT t.catch_up('notes', 'likes');
SELECT count(*) > 0 FROM t.log();
SET ROLE alice;
SELECT t.told('likes', '{"deleted": ["1"]}');
SELECT t.told('notes', '{"deleted": ["1"]}');
RESET ROLE;
SELECT "table", op FROM t.log();
SELECT t.catch_up('notes', 'likes');
SET ROLE bob;
SELECT t.pull_ids('notes');
RESET ROLE;

-- Nor does one who may not change a row send it to others by an edit of columns that nobody may write.
CREATE TABLE facts (id int PRIMARY KEY, body text, served text);
GRANT ALL ON facts TO alice, bob;
ALTER TABLE facts ENABLE ROW LEVEL SECURITY;
CREATE POLICY reads ON facts FOR SELECT USING (true);
CREATE POLICY writes ON facts FOR UPDATE USING (current_user = 'bob');
SELECT snapsync.enable('facts', conflict => 'client_wins', readonly => '{served}');
INSERT INTO facts VALUES (1, 'x', 's');
SELECT pull_changes('{facts}') ->> 'timestamp' AS old \gset
UPDATE facts SET body = 'y';
SELECT pull_changes('{facts}') ->> 'timestamp' AS new \gset
SET ROLE alice;
SELECT push_changes('{"facts": {"updated": [{"id": 1, "served": "q"}]}}', :'old', client_id => 'device');
SELECT pull_changes('{facts}', :'new', client_id => 'device') #> '{changes,facts}' AS hers;
SET ROLE bob;
SELECT pull_changes('{facts}', :'new') #> '{changes,facts}' AS his;
RESET ROLE;

-- A row that its client edited before it went to another scope, and kept for that edit when the collection was replaced.
CREATE TABLE memos (id int PRIMARY KEY, room text, body text);
GRANT ALL ON memos TO alice, bob;
SELECT snapsync.enable('memos', scope_column => 'room', scope_values => $$ARRAY['mine']$$);
INSERT INTO memos VALUES (1, 'theirs', 'x'), (2, 'mine', 'x');
SELECT t.catch_up('memos');
SET ROLE alice;
SELECT t.told('memos', '{"updated": [{"id": 1, "body": "edited"}, {"id": 2, "body": "edited"}]}');
SELECT t.told('memos', '{"updated": [{"id": 1, "body": "edited"}, {"id": 2, "body": "edited"}]}');
SET ROLE bob;
SELECT t.pull_ids('memos');
RESET ROLE;
TABLE memos;

-- What policies refuse is refused, also where another row of the same statement hides it from its user (a membership that ends, a key that follows), and whatever triggers there are.
CREATE TABLE members (room text, who name, PRIMARY KEY (room, who));
CREATE TABLE items (id text PRIMARY KEY, room text, above text REFERENCES items ON DELETE SET NULL, owner name, body text);
CREATE FUNCTION t.passes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN coalesce(new, old); END $$;
CREATE TRIGGER passes BEFORE UPDATE OR DELETE ON items FOR EACH ROW EXECUTE FUNCTION t.passes();
CREATE FUNCTION t.leaves() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN DELETE FROM public.members AS m WHERE m.who = old.owner AND m.room = old.room; RETURN NULL; END $$;
CREATE TRIGGER leaves AFTER UPDATE OR DELETE ON items FOR EACH ROW WHEN (old.id = 'last') EXECUTE FUNCTION t.leaves();
ALTER TABLE items ENABLE ROW LEVEL SECURITY;
CREATE POLICY sees ON items FOR SELECT USING (owner = current_user OR above IS NOT NULL OR room IN (SELECT room FROM members WHERE who = current_user));
CREATE POLICY edits ON items FOR UPDATE USING (owner = current_user);
CREATE POLICY deletes ON items FOR DELETE USING (owner = current_user);
GRANT ALL ON members, items TO alice, bob;
INSERT INTO members VALUES ('a', 'alice');
INSERT INTO items VALUES ('last', 'a', NULL, 'alice', 'x'), ('mine', 'b', NULL, 'alice', 'x'), ('in a', 'a', NULL, 'bob', 'x'), ('below', 'b', 'mine', 'bob', 'x');
SELECT snapsync.enable('items');
SELECT pull_changes('{items}') ->> 'timestamp' AS cursor \gset
SET ROLE alice;
SELECT push_changes('{"items": {"updated": [{"id": "last", "body": "y"}, {"id": "in a", "body": "y"}]}}', :'cursor');
SELECT push_changes('{"items": {"deleted": ["last", "in a"]}}', :'cursor');
SELECT push_changes('{"items": {"deleted": ["mine", "below"]}}', :'cursor');
SELECT push_changes('{"items": {"updated": [{"id": "last", "body": "y"}, {"id": "in a", "body": "y"}], "deleted": ["mine", "below"]}}', :'cursor', on_rejected => 'report');
RESET ROLE;
SELECT * FROM items ORDER BY id;
ALTER TABLE items DROP above CASCADE;
INSERT INTO members VALUES ('a', 'alice');
CREATE POLICY sees ON items FOR SELECT USING (owner = current_user OR room IN (SELECT room FROM members WHERE who = current_user));
SET ROLE alice;
SELECT push_changes('{"items": {"deleted": ["last", "in a"]}}');
SELECT push_changes('{"items": {"deleted": ["in a", "last"]}}', on_rejected => 'report') ->> 'experimentalRejectedIds' AS rejected;
RESET ROLE;
SELECT * FROM items ORDER BY id;

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_push_left;
