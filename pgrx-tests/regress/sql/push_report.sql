-- on_rejected => 'report', and how 'abort' names the culprit.
\set ECHO none
\set test regress_push_report
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET timezone = 'UTC';

CREATE TABLE lists (id text PRIMARY KEY, owner name NOT NULL DEFAULT CURRENT_USER, name varchar(10) NOT NULL CONSTRAINT not_bad CHECK (name <> 'bad'));
CREATE TABLE items (id uuid PRIMARY KEY, list text REFERENCES lists, n int, code text UNIQUE);
ALTER TABLE lists ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON lists USING (owner = CURRENT_USER);
CREATE POLICY readable ON lists FOR SELECT USING (name LIKE 'public%');
GRANT SELECT, INSERT, UPDATE, DELETE ON lists, items TO alice;
GRANT SELECT ON lists TO bob;
SELECT snapsync.enable('lists'), snapsync.enable('items');
INSERT INTO lists VALUES ('a', 'alice', 'mine'), ('b', 'bob', 'theirs'), ('p', 'bob', 'public');
CREATE FUNCTION t.report(changes text) RETURNS TABLE (answer text) LANGUAGE sql AS $$
    SELECT concat_ws(' ', e ->> 'collection', e ->> 'id', e ->> 'code', e ->> 'message', '(' || (e ->> 'constraint') || ')')
    FROM public.push_changes(changes::json, on_rejected => 'report') AS a, json_array_elements(a -> 'rejected') AS e
$$;

SET ROLE alice;
-- Every kind of refusal at once; the rest is applied.
SELECT * FROM t.report('{
  "lists": {"created": [{"id": "n", "name": "new"}, {"id": "x", "name": "bad"}, {"id": "y", "name": "far too long"}, {"id": "z"}, {"id": "o", "owner": "bob", "name": "given"}, {"id": "b", "name": "taken"}],
            "updated": [{"id": "a", "name": "renamed"}, {"id": "p", "name": "public!"}], "deleted": ["p"]},
  "items": {"created": [{"id": "00000000-0000-0000-0000-000000000001", "list": "n", "n": 1}, {"id": "00000000-0000-0000-0000-000000000002", "list": "x"},
                        {"id": "00000000-0000-0000-0000-000000000003", "n": "many"}, {"id": "00000000-0000-0000-0000-000000000004", "code": "c"},
                        {"id": "00000000-0000-0000-0000-000000000005", "code": "c"}, {"id": "no uuid"}]}}');
SELECT * FROM lists ORDER BY id;
SELECT right(id::text, 1) AS id, list, n, code FROM items ORDER BY 1;
-- As WatermelonDB reads it.
SELECT push_changes('{"lists": {"created": [{"id": "x", "name": "bad"}], "updated": [{"id": "p", "name": "public!"}]}, "items": {"updated": [{"id": "no uuid", "n": 1}]}}', on_rejected => 'report');
SELECT push_changes('{"lists": {"updated": [{"id": "a", "name": "fine"}]}}', on_rejected => 'report');
-- An old version of the app goes on sending a column that was dropped: that is each record's.
SELECT * FROM t.report('{"lists": {"created": [{"id": "w", "title": "?"}], "updated": [{"id": "a", "title": "?", "name": "not written"}, {"id": "n", "name": "written"}]}}');
SELECT * FROM t.error($$SELECT push_changes('{"lists": {"updated": [{"id": "a", "title": "?"}]}}')$$);
-- Nothing of it is the shape of a batch: that is no record's fault.
SELECT * FROM t.error($$SELECT push_changes('{"lists": {"updated": [{"name": "?"}]}}', on_rejected => 'report')$$);
SELECT * FROM t.error($$SELECT push_changes('{}', on_rejected => 'ignore')$$);

-- 'abort' names the record.
SELECT * FROM t.error($$SELECT push_changes('{"lists": {"created": [{"id": "1", "name": "1"}, {"id": "2", "name": "2"}, {"id": "x", "name": "bad"}]}}')$$);
SELECT * FROM t.error($$SELECT push_changes('{"lists": {"updated": [{"id": "a", "name": "1"}, {"id": "n", "name": "far too long"}]}}')$$);
SELECT * FROM t.error($$SELECT push_changes('{"lists": {"updated": [{"id": "p", "name": "1"}]}}')$$);
SELECT * FROM t.error($$SELECT push_changes('{"lists": {"created": [{"id": "b", "name": "1"}, {"id": "q", "name": "1"}]}}')$$);
SELECT * FROM t.error($$SELECT push_changes('{"items": {"created": [{"id": "00000000-0000-0000-0000-000000000009", "list": "nowhere"}]}}')$$);
SELECT * FROM t.error($$SELECT push_changes('{"items": {"updated": [{"id": "no uuid", "n": 1}]}}')$$);
-- The first of the push, where there are several.
SELECT DISTINCT e.* FROM generate_series(1, 10), t.error($$SELECT push_changes('{"items": {"created": [{"id": "no uuid 3"}, {"id": "no uuid 1"}, {"id": "no uuid 5"}, {"id": "no uuid 8"}], "updated": [{"id": "no uuid 2"}, {"id": "no uuid 7"}], "deleted": ["no uuid 4", "no uuid 6"]}}')$$) AS e ORDER BY 1;
SELECT * FROM lists ORDER BY id;
RESET ROLE;

-- A role without the right at all.
SET ROLE bob;
SELECT * FROM t.error($$SELECT push_changes('{"lists": {"created": [{"id": "1", "name": "1"}, {"id": "2", "name": "2"}]}}')$$);
SELECT * FROM t.report('{"lists": {"created": [{"id": "1", "name": "1"}, {"id": "2", "name": "2"}]}}');
RESET ROLE;

-- Deferred constraints are looked at before the answer, and who violates them is left out.
CREATE TABLE seats (id text PRIMARY KEY, place int CONSTRAINT one_each UNIQUE DEFERRABLE INITIALLY DEFERRED, beside text CONSTRAINT neighbour REFERENCES seats DEFERRABLE INITIALLY DEFERRED);
SELECT snapsync.enable('seats');
SELECT push_changes('{"seats": {"created": [{"id": "a", "place": 1, "beside": "b"}, {"id": "b", "place": 2, "beside": "a"}]}}');
SELECT push_changes('{"seats": {"updated": [{"id": "a", "place": 2}, {"id": "b", "place": 1}]}}');
SELECT * FROM t.error($$SELECT push_changes('{"seats": {"created": [{"id": "c", "place": 3}, {"id": "d", "place": 1}]}}')$$);
SELECT * FROM t.report('{"seats": {"created": [{"id": "c", "place": 3}, {"id": "d", "place": 1}, {"id": "e", "beside": "nobody"}, {"id": "f", "beside": "c"}], "updated": [{"id": "a", "beside": null}]}}');
SELECT * FROM seats ORDER BY id;

-- Where a deletion violates such a key, the error names the table that refers to the row: none of its rows is to blame, however many are pushed with it.
CREATE TABLE labels (id text PRIMARY KEY);
CREATE TABLE notes (id int PRIMARY KEY, label text REFERENCES labels DEFERRABLE, t text);
INSERT INTO labels VALUES ('red'), ('blue');
INSERT INTO notes SELECT i, CASE i WHEN 0 THEN 'red' END, 'x' FROM generate_series(0, 600) AS i;
SELECT snapsync.enable('labels'), snapsync.enable('notes');
GRANT ALL ON labels, notes TO alice;
SET ROLE alice;
SELECT * FROM t.report('{"notes": {"updated": [{"id": 1, "t": "y"}, {"id": 2, "label": "green"}, {"id": 3, "label": "blue"}]}, "labels": {"deleted": ["red"]}}');
SELECT * FROM notes WHERE id < 4 ORDER BY id;
SELECT * FROM t.error($$SELECT push_changes('{"notes": {"updated": [{"id": 1, "t": "y"}]}, "labels": {"deleted": ["red"]}}')$$);
SELECT * FROM t.report((SELECT json_build_object('notes', json_build_object('updated', json_agg(json_build_object('id', i, 't', 'z'))), 'labels', '{"deleted": ["red"]}'::json)::text FROM generate_series(1, 600) AS i));
SELECT t, count(*) FROM notes GROUP BY t ORDER BY t;
-- The same where what is deferred is not to be looked at in the middle of the call: it would fire with the rights of the function around it.
RESET ROLE;
CREATE FUNCTION report_for(changes json) RETURNS json LANGUAGE sql SECURITY DEFINER AS $$ SELECT push_changes(changes, on_rejected => 'report') -> 'experimentalRejectedIds' $$;
SET ROLE alice;
SELECT report_for('{"notes": {"updated": [{"id": 1, "t": "for"}, {"id": 2, "label": "green"}]}, "labels": {"deleted": ["red"]}}');
RESET ROLE;

-- Rows that pass only together are written beside others that do not, in whatever order they are sent.
CREATE FUNCTION t.orders(list jsonb) RETURNS SETOF jsonb LANGUAGE sql AS $$
    WITH RECURSIVE begun (chosen, rest) AS (
        SELECT '[]'::jsonb, list
        UNION ALL
        SELECT chosen || jsonb_build_array(rest -> i), rest - i FROM begun CROSS JOIN LATERAL generate_series(0, jsonb_array_length(rest) - 1) AS i)
    SELECT chosen FROM begun WHERE rest = '[]' $$;
-- What is rejected in how many orders.
CREATE FUNCTION t.rejected(collection text, kind text, list jsonb, others jsonb DEFAULT '{}') RETURNS TABLE (rejected text, orders bigint) LANGUAGE plpgsql AS $$
DECLARE
    one jsonb;
    answers text[];
BEGIN
    FOR one IN SELECT * FROM t.orders(list) LOOP
        BEGIN
            answers := answers || (push_changes((jsonb_build_object(collection, jsonb_build_object(kind, one)) || others)::json, on_rejected => 'report') -> 'experimentalRejectedIds')::text;
            RAISE SQLSTATE 'TT000';
        EXCEPTION WHEN SQLSTATE 'TT000' THEN NULL;
        END;
    END LOOP;
    RETURN QUERY SELECT a, count(*) FROM unnest(answers) AS a GROUP BY a ORDER BY a;
END
$$;
CREATE TABLE tags (id text PRIMARY KEY, tag text UNIQUE DEFERRABLE);
INSERT INTO tags VALUES ('a', 'A'), ('b', 'B'), ('c', 'C'), ('d', 'D'), ('e', 'E');
SELECT snapsync.enable('tags');
SELECT * FROM t.rejected('tags', 'updated', '[{"id": "a", "tag": "B"}, {"id": "b", "tag": "A"}, {"id": "d", "tag": "C"}]');
SELECT * FROM t.rejected('tags', 'updated', '[{"id": "a", "tag": "B"}, {"id": "b", "tag": "A"}, {"id": "d", "tag": "C"}, {"id": "e", "tag": "C"}]');
ALTER TABLE tags DROP CONSTRAINT tags_tag_key, ADD UNIQUE (tag) DEFERRABLE INITIALLY DEFERRED;
SELECT * FROM t.rejected('tags', 'updated', '[{"id": "a", "tag": "B"}, {"id": "b", "tag": "A"}, {"id": "d", "tag": "C"}, {"id": "e", "tag": "C"}]');
-- Each conversation has its last message, and each message its conversation.
CREATE TABLE chats (id text PRIMARY KEY, last text);
CREATE TABLE messages (id text PRIMARY KEY, chat text NOT NULL REFERENCES chats DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE chats ADD FOREIGN KEY (last) REFERENCES messages DEFERRABLE INITIALLY DEFERRED;
SELECT snapsync.enable('chats'), snapsync.enable('messages');
SELECT * FROM t.rejected('messages', 'created', '[{"id": "1", "chat": "A"}, {"id": "2", "chat": "B"}, {"id": "3", "chat": "A"}, {"id": "4", "chat": "gone"}]', '{"chats": {"created": [{"id": "A", "last": "1"}, {"id": "B", "last": "2"}]}}');
SELECT * FROM t.rejected('messages', 'created', '[{"id": "1", "chat": "A"}, {"id": "2", "chat": "B"}, {"id": "3", "chat": "A"}, {"id": "4", "chat": "gone"}]', '{"chats": {"created": [{"id": "B", "last": "5"}, {"id": "A", "last": "1"}]}}');

-- A row that hangs on what the same push deletes later is written before that, whatever another one violates.
CREATE TABLE places (id text PRIMARY KEY);
CREATE TABLE flags (id text PRIMARY KEY, place text REFERENCES places ON DELETE SET NULL DEFERRABLE, flag text UNIQUE DEFERRABLE INITIALLY DEFERRED);
INSERT INTO places VALUES ('1'), ('2');
INSERT INTO flags VALUES ('t', '2', 'T'), ('z', '1', 'Z');
SELECT snapsync.enable('places'), snapsync.enable('flags');
BEGIN;
SELECT push_changes('{"flags": {"created": [{"id": "n", "place": "2", "flag": "T"}, {"id": "x", "place": "1", "flag": "Z"}], "deleted": ["t"]}, "places": {"deleted": ["2"]}}', on_rejected => 'report') -> 'experimentalRejectedIds' AS rejected;
SELECT * FROM flags ORDER BY id;
ROLLBACK;

-- What the caller set for his transaction is as it was.
BEGIN;
SELECT push_changes('{"seats": {"updated": [{"id": "a", "place": 9}]}}');
UPDATE seats SET place = 1 WHERE id = 'c';
UPDATE seats SET place = 3 WHERE id = 'b';
COMMIT;
SELECT * FROM seats ORDER BY id;

-- Five thousand rows, three of them wrong.
CREATE TABLE many (id int PRIMARY KEY, n int CHECK (n >= 0));
SELECT snapsync.enable('many');
SELECT json_array_length(a -> 'rejected') AS rejected, a #> '{experimentalRejectedIds,many}' AS ids
FROM push_changes((SELECT json_build_object('many', json_build_object('created', json_agg(json_build_object('id', i, 'n', CASE WHEN i IN (1, 2500, 5000) THEN -1 ELSE i END))))
                   FROM generate_series(1, 5000) AS i), on_rejected => 'report') AS a;
SELECT count(*) FROM many;

-- What a trigger tells in DETAIL stays as it is where it is JSON; then HINT names the record.
CREATE TABLE told (id int PRIMARY KEY);
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    says text := (ARRAY['{"limit": 3}', '["a"]', 'prose', ''])[new.id];
BEGIN
    RAISE EXCEPTION 'no' USING DETAIL = says, HINT = CASE new.id WHEN 2 THEN 'Buy more.' ELSE '' END;
END
$$;
CREATE TRIGGER tell BEFORE INSERT ON told FOR EACH ROW EXECUTE FUNCTION tell();
SELECT snapsync.enable('told');
SELECT i, e.* FROM generate_series(1, 4) AS i, t.error(format('SELECT push_changes(%L)', json_build_object('told', json_build_object('created', json_build_array(json_build_object('id', i)))))) AS e;
