-- Rows under an id that the server writes otherwise: the client ends with one row, under the server's id.
\set ECHO none
\set test regress_push_spelling
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE notes (id uuid PRIMARY KEY, t text);
CREATE TABLE counts (id int PRIMARY KEY, t text);
CREATE TABLE codes (id varchar(3) PRIMARY KEY, t text);
CREATE TABLE prices (id numeric(6,2) PRIMARY KEY, t text);
CREATE TABLE loose (id numeric PRIMARY KEY, t text);
CREATE TABLE pairs (owner uuid, n int, t text, PRIMARY KEY (owner, n));
CREATE DOMAIN code AS varchar(3);
CREATE TABLE domains (id code PRIMARY KEY, t text);
SELECT snapsync.enable(c) FROM unnest('{notes,counts,codes,prices,loose,pairs,domains}'::regclass[]) AS c;
GRANT ALL ON notes, counts, codes, prices, loose, pairs, domains TO alice;
-- A device that keeps rows by the text of their id, as the README has it: a push, a pull, and what it has then.
CREATE TABLE t.device (name text, collection text, id text, t text, PRIMARY KEY (name, collection, id));
CREATE TABLE t.cursors (name text, collection text, cursor text, before text, PRIMARY KEY (name, collection));
GRANT ALL ON t.device, t.cursors TO alice;
CREATE FUNCTION t.id(r json) RETURNS text LANGUAGE sql AS $$
    -- (JavaScript's numbers have no zeros at their end.)
    SELECT coalesce(CASE json_typeof(r -> 'id') WHEN 'number' THEN trim_scale((r ->> 'id')::numeric)::text ELSE r ->> 'id' END, (r ->> 'owner') || '.' || (r ->> 'n'))
$$;
CREATE FUNCTION t.push(c text, changes text, client text DEFAULT 'ios', dialect text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer json;
    a record;
BEGIN
    answer := public.push_changes(json_build_object(c, changes::json), (SELECT cursor FROM t.cursors WHERE name = client AND collection = c),
                                  client_id => client, dialect => dialect);
    FOR a IN SELECT t.id(i.value) AS id, i.value ->> 't' AS t FROM json_each(changes::json) AS k, json_array_elements(k.value) AS i WHERE k.key <> 'deleted' LOOP
        INSERT INTO t.device VALUES (client, c, a.id, a.t) ON CONFLICT (name, collection, id) DO UPDATE SET t = excluded.t;
    END LOOP;
    DELETE FROM t.device WHERE name = client AND collection = c AND id IN (SELECT json_array_elements_text(changes::json -> 'deleted'));
    RETURN answer;
END
$$;
CREATE FUNCTION t.pulls(c text, client text DEFAULT 'ios', dialect text DEFAULT NULL, again boolean DEFAULT false) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer json;
    a record;
    said text;
BEGIN
    answer := public.pull_changes(ARRAY[c], (SELECT CASE WHEN again THEN before ELSE cursor END FROM t.cursors WHERE name = client AND collection = c),
                                  client_id => client, dialect => dialect, skip_echoes => true);
    INSERT INTO t.cursors VALUES (client, c, answer ->> 'timestamp')
        ON CONFLICT (name, collection) DO UPDATE SET before = CASE WHEN again THEN t.cursors.before ELSE t.cursors.cursor END, cursor = excluded.cursor;
    answer := answer #> ARRAY['changes', c];
    FOR a IN SELECT t.id(i.value) AS id, i.value ->> 't' AS t FROM json_each(answer) AS k, json_array_elements(k.value) AS i WHERE k.key <> 'deleted' LOOP
        INSERT INTO t.device VALUES (client, c, a.id, a.t) ON CONFLICT (name, collection, id) DO UPDATE SET t = excluded.t;
    END LOOP;
    DELETE FROM t.device WHERE name = client AND collection = c AND id IN (SELECT json_array_elements_text(answer -> 'deleted'));
    RETURN format('deleted %s; has %s', answer -> 'deleted',
                  (SELECT json_object_agg(id, d.t ORDER BY id) FROM t.device AS d WHERE name = client AND collection = c));
END
$$;
SELECT count(t.pulls(c)), count(t.pulls(c, 'other')) FROM unnest('{notes,counts,codes,prices,loose,pairs,domains}'::text[]) AS c;

-- A uuid in capitals, without hyphens, in braces.
SELECT t.push('notes', '{"created": [{"id": "E621E1F8-C36C-495A-93FC-0C247A3E6E5F", "t": "mine"}, {"id": "{00000000-0000-4000-8000-000000000001}", "t": "braces"}, {"id": "00000000-0000-4000-8000-000000000002", "t": "plain"}]}');
SELECT t.pulls('notes');
-- As often as the same cursor comes; to nobody else.
SELECT t.pulls('notes', again => true);
SELECT t.pulls('notes', 'other');
-- In pages each row comes once.
DO $$
DECLARE
    c text := (SELECT before FROM t.cursors WHERE name = 'ios' AND collection = 'notes');
    answer json;
BEGIN
    LOOP
        answer := pull_changes('{notes}', c, client_id => 'ios', page_size => 2, next => answer ->> 'next');
        RAISE NOTICE '%', answer #> '{changes,notes}';
        EXIT WHEN answer ->> 'next' IS NULL;
    END LOOP;
END
$$;
-- An edit under the id as it was sent, of which the client did not hear yet; one that changes nothing; a deletion.
SELECT t.push('notes', '{"updated": [{"id": "E621E1F8-C36C-495A-93FC-0C247A3E6E5F", "t": "edited"}]}');
SELECT t.pulls('notes');
SELECT t.push('notes', '{"updated": [{"id": "E621E1F8-C36C-495A-93FC-0C247A3E6E5F", "t": "edited"}, {"id": "00000000-0000-4000-8000-000000000002", "t": "plain"}]}');
SELECT t.pulls('notes');
-- The push is repeated, for its answer was lost.
SELECT t.push('notes', '{"created": [{"id": "0000000A-0000-4000-8000-000000000003", "t": "again"}]}');
SELECT t.push('notes', '{"created": [{"id": "0000000A-0000-4000-8000-000000000003", "t": "again"}]}');
SELECT t.pulls('notes');
-- Created, and there for long.
SELECT t.push('notes', '{"created": [{"id": "0000000A-0000-4000-8000-000000000003", "t": "again"}]}');
SELECT t.pulls('notes');
SELECT t.push('notes', '{"deleted": ["0000000A-0000-4000-8000-000000000003", "E621E1F8-C36C-495A-93FC-0C247A3E6E5F"]}');
SELECT t.pulls('notes');
-- Twice in a batch, in two ways: one row.
SELECT t.push('notes', '{"created": [{"id": "0000000B-0000-4000-8000-000000000004", "t": "one"}, {"id": "0000000b000040008000000000000004", "t": "two"}]}');
SELECT t.pulls('notes');
-- What is refused stays with its client, whose id is named as it sent it.
SELECT push_changes('{"notes": {"created": [{"id": "0000000C-0000-4000-8000-000000000005", "x": 1}, {"id": "0000000D-0000-4000-8000-000000000006"}]}}', client_id => 'ios', on_rejected => 'report') -> 'experimentalRejectedIds';
SELECT t.pulls('notes');
-- It is known to be deleted, by any spelling.
DELETE FROM notes;
SELECT * FROM t.error($$SELECT t.push('notes', '{"updated": [{"id": "0000000B-0000-4000-8000-000000000004", "t": "x"}]}')$$);
SELECT right(t.pulls('notes'), 6);
-- A savepoint that is rolled back takes the word along, a trigger's veto leaves both.
BEGIN;
SAVEPOINT s;
SELECT t.push('notes', '{"created": [{"id": "0000000A-0000-4000-8000-000000000003", "t": "x"}]}');
ROLLBACK TO s;
COMMIT;
SELECT t.pulls('notes');
CREATE FUNCTION veto() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN new.t <> 'veto' THEN new END; END $$;
CREATE TRIGGER veto BEFORE INSERT OR UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION veto();
SELECT t.push('notes', '{"created": [{"id": "0000000A-0000-4000-8000-000000000003", "t": "veto"}, {"id": "0000000A-0000-4000-8000-000000000004", "t": "x"}]}');
SELECT t.pulls('notes');
SELECT t.push('notes', '{"updated": [{"id": "0000000A-0000-4000-8000-000000000004", "t": "veto"}]}');
SELECT t.pulls('notes');

-- Integers.
SELECT t.push('counts', '{"created": [{"id": "007", "t": "x"}, {"id": "+8", "t": "x"}, {"id": 9, "t": "x"}, {"id": "10", "t": "x"}]}');
SELECT t.pulls('counts');
SELECT t.push('counts', '{"updated": [{"id": "007", "t": "y"}, {"id": "010", "t": "x"}]}', dialect => 'watermelondb');
SELECT t.pulls('counts', dialect => 'watermelondb');

-- varchar(n) loses blanks at its end. The push can be repeated, and the row is known to be deleted.
SELECT t.push('codes', '{"created": [{"id": "abc ", "t": "mine"}, {"id": "ab ", "t": "fits"}, {"id": "äöü  ", "t": "letters"}]}');
SELECT t.push('codes', '{"created": [{"id": "abc ", "t": "mine"}, {"id": "ab ", "t": "fits"}, {"id": "äöü  ", "t": "letters"}]}');
SELECT t.pulls('codes');
SELECT t.push('codes', '{"updated": [{"id": "abc  ", "t": "edited"}]}');
SELECT t.pulls('codes');
DELETE FROM codes;
SELECT * FROM t.error($$SELECT t.push('codes', '{"updated": [{"id": "abc ", "t": "x"}]}')$$);
SELECT * FROM t.error($$SELECT t.push('codes', '{"updated": [{"id": "abcd", "t": "x"}]}')$$);
SELECT t.push('domains', '{"created": [{"id": "abc ", "t": "mine"}]}');
SELECT t.push('domains', '{"created": [{"id": "abc ", "t": "mine"}]}');
SELECT t.pulls('domains');

-- numeric: a number is the same number however it is written; a text is not. What is rounded is another number.
SELECT t.push('prices', '{"created": [{"id": 1.5, "t": "number"}, {"id": "2.5", "t": "text"}, {"id": 3.005, "t": "rounded"}, {"id": "04.5", "t": "zero"}]}');
SELECT t.pulls('prices');
SELECT t.push('prices', '{"created": [{"id": "2.5", "t": "text"}, {"id": 3.005, "t": "rounded"}]}');
SELECT t.pulls('prices');
SELECT t.push('loose', '{"created": [{"id": 1.5, "t": "number"}, {"id": "2.50", "t": "text"}, {"id": "03", "t": "zero"}]}');
SELECT t.pulls('loose');
SELECT t.push('loose', '{"updated": [{"id": "1.50", "t": "text"}, {"id": 2.5, "t": "number"}]}');
SELECT t.pulls('loose');

-- A key of several columns: the id as its client makes it of them.
SELECT t.push('pairs', '{"created": [{"owner": "E621E1F8-C36C-495A-93FC-0C247A3E6E5F", "n": "01", "t": "x"}, {"owner": "00000000-0000-4000-8000-000000000001", "n": 2, "t": "x"}]}');
SELECT t.pulls('pairs');
SELECT t.push('pairs', '{"updated": [{"id": "E621E1F8-C36C-495A-93FC-0C247A3E6E5F.1", "t": "y"}]}', dialect => 'watermelondb');
SELECT t.pulls('pairs', dialect => 'watermelondb');

-- The Drift client hears of it by a row that is deleted.
CREATE TABLE tasks (id uuid PRIMARY KEY, t text, updated_at timestamptz NOT NULL, deleted_at timestamptz);
SELECT snapsync.enable('tasks', conflict => 'last_write_wins', version_column => 'updated_at', soft_delete_column => 'deleted_at');
SELECT pull_changes('{tasks}') ->> 'timestamp' AS c \gset
SELECT pg_typeof(push_changes(_changes => '{"tasks": {"created": [{"id": "E621E1F8-C36C-495A-93FC-0C247A3E6E5F", "t": "x", "updated_at": "2026-01-01T10:00:00.000Z", "deleted_at": null}]}}', last_pulled_at => '"2026-01-01T00:00:00.000"'));
SELECT r ->> 'id' AS id, r ->> 't' AS t, r ->> 'deleted_at' IS NOT NULL AS deleted
FROM json_each(pull_changes('{tasks}', :'c', dialect => 'drift') #> '{changes,tasks}') AS a, json_array_elements(a.value) AS r ORDER BY r ->> 'id' COLLATE "C";
-- What a conflict function returns is in the place of what was sent, under the id as that was.
RESET ROLE;
CREATE FUNCTION theirs(collection text, id text, stored jsonb, incoming jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT CASE WHEN incoming ->> 'title' <> 'none' THEN incoming - 'id' ELSE 'null' END $$;
CREATE TABLE asked (id uuid PRIMARY KEY, title text CHECK (title <> 'bad'));
GRANT ALL ON asked TO alice;
SELECT snapsync.enable('asked', conflict => 'custom', conflict_function => 'theirs(text,text,jsonb,jsonb)');
SET ROLE alice;
SELECT pull_changes('{asked}', NULL, client_id => 'a') ->> 'timestamp' AS c \gset
SELECT push_changes('{"asked": {"created": [{"id": "AAAAAAAA-0000-4000-8000-00000000000A", "title": "one"}, {"id": "AAAAAAAA-0000-4000-8000-00000000000B", "title": "one"}, {"id": "AAAAAAAA-0000-4000-8000-00000000000C", "title": "one"}]}}', :'c', client_id => 'a');
SELECT push_changes('{"asked": {"created": [{"id": "AAAAAAAA-0000-4000-8000-00000000000A", "title": "two"}, {"id": "AAAAAAAA-0000-4000-8000-00000000000B", "title": "bad"}, {"id": "AAAAAAAA-0000-4000-8000-00000000000C", "title": "none"}]}}', :'c', client_id => 'b', on_rejected => 'report') ->> 'experimentalRejectedIds' AS rejected;
SELECT * FROM t.pull('{asked}', :'c', client_id => 'b');
SELECT push_changes('{"asked": {"created": [{"id": "AAAAAAAA-0000-4000-8000-00000000000B", "title": "bad"}]}}', :'c', client_id => 'b');
RESET ROLE;
