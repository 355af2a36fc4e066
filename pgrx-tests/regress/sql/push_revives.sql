-- A record over a tombstone: where it is written and does not say itself what becomes of the mark, the row lives again.
\set ECHO none
\set test regress_push_revives
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
CREATE TABLE likes (id int PRIMARY KEY, note text DEFAULT 'd', kept text, version int NOT NULL DEFAULT 0, gone timestamptz);
CREATE TABLE flags (id int PRIMARY KEY, note text DEFAULT 'd', gone boolean NOT NULL DEFAULT false);
SELECT snapsync.enable('likes', soft_delete_column => 'gone'), snapsync.enable('flags', soft_delete_column => 'gone');
GRANT SELECT, INSERT, UPDATE ON likes, flags TO alice, bob;
GRANT SELECT ON likes TO carol;
-- A push by this client: its answer (or error), what is stored then, and what the client's next pull brings, unless it does not pull.
CREATE FUNCTION t.step(collection text, changes text, client text DEFAULT 'device', pulls boolean DEFAULT true) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text;
    answer json;
BEGIN
    BEGIN
        said := public.push_changes(json_build_object(collection, changes::json), current_setting('t.cursor'), client_id => client);
    EXCEPTION WHEN OTHERS THEN
        said := SQLSTATE || ' ' || SQLERRM;
    END;
    EXECUTE format($q$SELECT $1 || '; stored ' || coalesce(string_agg(concat_ws(' ', id, note, CASE WHEN coalesce(to_jsonb(l) ->> 'gone', 'false') = 'false' THEN 'lives' ELSE 'gone' END), ', ' ORDER BY id), 'nothing') FROM %I AS l$q$, collection) INTO said USING said;
    IF pulls THEN
        answer := public.pull_changes(ARRAY[collection], current_setting('t.cursor'), client_id => client, skip_echoes => true);
        PERFORM set_config('t.cursor', answer ->> 'timestamp', false);
        said := said || '; pulls ' || coalesce((SELECT string_agg(concat_ws(' ', a.key, coalesce(i.value ->> 'id', i.value #>> '{}'), i.value ->> 'note'), ', ')
            FROM json_each(answer #> ARRAY['changes', collection]) AS a, json_array_elements(a.value) AS i), 'nothing');
    END IF;
    RETURN said;
END
$$;
SELECT t.catch_up('likes', 'flags');
\set ECHO all
SET ROLE alice;
-- Liked, not liked, liked again: with a pull after each push, and without.
SELECT t.step('likes', '{"created": [{"id": 1}]}');
SELECT t.step('likes', '{"deleted": ["1"]}');
SELECT t.step('likes', '{"created": [{"id": 1}]}');
SELECT t.step('likes', '{"updated": [{"id": 1, "note": "n"}]}');
SELECT t.step('likes', '{"deleted": ["1"]}');
SELECT t.step('likes', '{"created": [{"id": 1, "note": "again"}]}', pulls => false);
SELECT t.step('likes', '{"deleted": ["1"]}', pulls => false);
SELECT t.step('likes', '{"created": [{"id": 1}, {"id": 2}], "updated": [{"id": 3, "note": "new"}]}', pulls => false);
SELECT t.step('likes', '{"deleted": ["2", "3"]}');
SELECT t.step('flags', '{"created": [{"id": 1}]}');
SELECT t.step('flags', '{"deleted": ["1"]}');
SELECT t.step('flags', '{"created": [{"id": 1}]}');
-- An edit of a row that is known to be deleted is a conflict; a record that says what becomes of the mark is an edit like any other.
SELECT t.step('likes', '{"updated": [{"id": 2, "note": "edited"}]}');
SELECT t.step('likes', '{"updated": [{"id": 2, "note": "edited", "gone": null}]}');
SELECT t.step('likes', '{"created": [{"id": 3, "note": "kept as it is", "gone": "2026-01-01"}]}');
-- What another one deleted since the cursor is a conflict for a created record, too; after a pull it is not, nor is a first push.
SELECT t.step('likes', '{"deleted": ["2"]}', 'another', false);
SELECT t.step('likes', '{"created": [{"id": 2, "note": "mine"}]}');
SELECT t.step('likes', '{"created": [{"id": 2, "note": "mine"}]}');
SELECT t.step('likes', '{"deleted": ["2"]}', 'another');
SELECT push_changes('{"likes": {"created": [{"id": 2, "note": "first"}], "updated": [{"id": 3, "note": "first"}]}}');
SELECT id, note, gone IS NULL AS lives FROM likes ORDER BY id;
SELECT t.step('likes', '{"deleted": ["2", "3"]}');
SELECT t.step('likes', '{"deleted": ["2", "3"]}');
-- What is not sent is as the tombstone has it, and comes with the next pull.
RESET ROLE;
UPDATE likes SET kept = 'secretly' WHERE id = 3;
SET ROLE alice;
SELECT t.catch_up('likes', 'flags');
SELECT t.step('likes', '{"created": [{"id": 3, "note": "back"}]}', pulls => false);
SELECT * FROM t.pull('{likes}', client_id => 'device');
-- Who may not update gets no row back.
RESET ROLE;
SET ROLE carol;
SELECT t.step('likes', '{"created": [{"id": 1, "note": "carol"}]}');
SELECT t.step('likes', '{"created": [{"id": 2, "note": "carol"}]}');
RESET ROLE;
-- The other policies. client_wins: edits as well.
SELECT snapsync.enable('likes', soft_delete_column => 'gone', conflict => 'client_wins');
SET ROLE alice;
SELECT t.catch_up('likes', 'flags');
SELECT t.step('likes', '{"updated": [{"id": 2, "note": "edited"}]}');
SELECT t.step('likes', '{"deleted": ["2"]}', 'another', false);
SELECT t.step('likes', '{"updated": [{"id": 2, "note": "edited again"}]}');
RESET ROLE;
-- merge: the deletion of another one is a change of the mark alone, and stands beside what is edited.
SELECT snapsync.enable('likes', soft_delete_column => 'gone', conflict => 'merge');
SET ROLE alice;
SELECT t.catch_up('likes', 'flags');
SELECT t.step('likes', '{"deleted": ["2"]}', 'another', false);
SELECT t.step('likes', '{"updated": [{"id": 2, "note": "merged"}]}');
SELECT t.step('likes', '{"created": [{"id": 2, "note": "merged"}]}');
RESET ROLE;
-- last_write_wins: the deletion of another one since the cursor stands against what is older, and gives way to what is later.
SELECT snapsync.enable('likes', soft_delete_column => 'gone', conflict => 'last_write_wins', version_column => 'version');
SET ROLE alice;
SELECT t.catch_up('likes', 'flags');
SELECT t.step('likes', '{"deleted": ["2"]}', 'another', false);
SELECT t.step('likes', '{"updated": [{"id": 2, "note": "later", "version": 5}]}');
SELECT t.step('likes', '{"created": [{"id": 2, "note": "older", "version": 1}]}');
SELECT t.step('likes', '{"created": [{"id": 2, "note": "later", "version": 6}]}');
SELECT t.catch_up('likes', 'flags');
SELECT t.step('likes', '{"deleted": ["2"]}', 'another', false);
SELECT t.step('likes', '{"updated": [{"id": 2, "note": "older", "version": 5}]}');
SELECT t.step('likes', '{"updated": [{"id": 2, "note": "known to be gone", "version": 7}]}');
SELECT t.step('likes', '{"created": [{"id": 2, "note": "later", "version": 7}]}');
SELECT t.catch_up('likes', 'flags');
SELECT t.step('likes', '{"deleted": [{"id": 2, "version": 9}]}', 'another', false);
SELECT t.step('likes', '{"created": [{"id": 2, "note": "older", "version": 6}]}', pulls => false);
SELECT t.step('likes', '{"created": [{"id": 2, "note": "latest", "version": 10}]}');
SELECT t.catch_up('likes', 'flags');
SELECT t.step('likes', '{"deleted": ["2"]}', 'another', false);
SELECT t.step('likes', '{"updated": [{"id": 2, "note": "stays gone", "version": 11, "gone": "2026-01-01"}]}');
RESET ROLE;
-- custom: what the function returns lives.
CREATE FUNCTION pick(collection text, id text, stored jsonb, incoming jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT incoming';
SELECT snapsync.enable('likes', soft_delete_column => 'gone', conflict => 'custom', conflict_function => 'pick(text, text, jsonb, jsonb)');
SET ROLE alice;
SELECT t.catch_up('likes', 'flags');
SELECT t.step('likes', '{"deleted": ["2"]}', 'another', false);
SELECT t.step('likes', '{"updated": [{"id": 2, "note": "picked"}]}');
RESET ROLE;
-- What it returns with the mark stays deleted, which the client hears.
CREATE OR REPLACE FUNCTION pick(collection text, id text, stored jsonb, incoming jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT stored || incoming || '{"version": 0}' $$;
SET ROLE alice;
SELECT t.step('likes', '{"deleted": ["2"]}');
SELECT t.step('likes', '{"updated": [{"id": 2, "note": "merged"}]}');
RESET ROLE;
UPDATE likes SET gone = NULL WHERE id = 2;
SELECT t.catch_up('likes', 'flags');
-- Or it leaves the row deleted.
CREATE OR REPLACE FUNCTION pick(collection text, id text, stored jsonb, incoming jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT 'null'::jsonb $$;
SET ROLE alice;
SELECT t.step('likes', '{"deleted": ["2"]}');
SELECT t.step('likes', '{"updated": [{"id": 2, "note": "picked"}]}');
RESET ROLE;
-- A trigger that keeps the mark: the client hears that the row is not there.
CREATE FUNCTION keep_gone() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.gone := old.gone; RETURN new; END $$;
CREATE TRIGGER keep_gone BEFORE UPDATE ON flags FOR EACH ROW WHEN (old.gone) EXECUTE FUNCTION keep_gone();
SET ROLE alice;
SELECT t.step('flags', '{"deleted": ["1"]}');
SELECT t.step('flags', '{"created": [{"id": 1}]}');
RESET ROLE;
-- Where the role may not read the mark: what is written into a tombstone is not there for the client.
CREATE TABLE hidden (id int PRIMARY KEY, note text, gone timestamptz);
SELECT snapsync.enable('hidden', soft_delete_column => 'gone', exclude => '{gone}');
INSERT INTO hidden VALUES (1, 'x');
GRANT SELECT (id, note), INSERT (id, note), UPDATE (note) ON hidden TO alice;
SELECT t.catch_up('hidden');
UPDATE hidden SET gone = now();
SELECT t.catch_up('hidden');
SET ROLE alice;
SELECT push_changes('{"hidden": {"updated": [{"id": 1, "note": "edited"}]}}', current_setting('t.cursor'), client_id => 'device');
SELECT * FROM t.pull('{hidden}', client_id => 'device');
RESET ROLE;
\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_push_revives;
