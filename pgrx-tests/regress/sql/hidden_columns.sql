-- Columns that decide what is sent (the soft-delete column, the scope) though the role that pulls may not read them.
\set ECHO none
\set test regress_hidden_columns
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
-- A pull of one collection by authenticated, in one line.
CREATE FUNCTION t.as_client(collection text, client_id text DEFAULT NULL, skip_echoes boolean DEFAULT false, dialect text DEFAULT 'postgrest') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer json;
BEGIN
    SET LOCAL ROLE authenticated;
    answer := public.pull_changes(ARRAY[collection], current_setting('t.cursor', true), dialect, NULL, client_id, false, skip_echoes);
    RESET ROLE;
    PERFORM set_config('t.cursor', answer ->> 'timestamp', false);
    RETURN (SELECT json_object_agg(a.key, coalesce((SELECT json_agg(i ORDER BY i::text) FROM json_array_elements(a.value) AS i), '[]'))
            FROM json_each(answer -> 'changes' -> collection) AS a)::text || coalesce(' by ' || (answer #>> ARRAY['experimentalStrategy', 'override', collection]), '');
END
$$;

-- The mark.
CREATE TABLE notes (id int PRIMARY KEY, body text, gone timestamptz);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON notes USING (body <> 'not for you');
GRANT SELECT (id, body), INSERT (id, body), UPDATE ON notes TO authenticated;
SELECT snapsync.enable('notes', soft_delete_column => 'gone');
INSERT INTO notes VALUES (1, 'one', NULL), (2, 'two', now()), (3, 'not for you', NULL);
SELECT t.as_client('notes');
UPDATE notes SET gone = now() WHERE id IN (1, 3);
INSERT INTO notes VALUES (4, 'four', NULL), (5, 'five', now());
SELECT t.as_client('notes');
UPDATE notes SET gone = NULL;
SELECT t.as_client('notes', dialect => 'watermelondb');
DELETE FROM notes WHERE id IN (2, 3);
SELECT t.as_client('notes');
SELECT snapsync.reset('notes');
SELECT t.as_client('notes');
-- Many keys: other plans.
INSERT INTO notes SELECT i, 'many', CASE WHEN i % 2 = 0 THEN now() END FROM generate_series(1001, 3500) AS i;
SELECT json_array_length(t.as_client('notes')::json -> 'created');
DELETE FROM notes WHERE id > 1000;
SELECT json_array_length(t.as_client('notes')::json -> 'deleted');
-- What the client pushed itself.
SET ROLE authenticated;
SELECT push_changes('{"notes": {"created": [{"id": 6, "body": "six"}]}}', client_id => 'c');
RESET ROLE;
UPDATE notes SET body = 'others' WHERE id = 4;
-- (With an image: the client's own row may be out of its sight.)
SET ROLE authenticated;
SELECT push_changes('{"notes": {"updated": [{"id": 1, "body": "one of mine"}]}}', client_id => 'c');
RESET ROLE;
SELECT t.as_client('notes', 'c', true);
-- The privilege is nowhere else: the column is not sent, and not to be selected. Granted and revoked, the same statement goes on.
SET ROLE authenticated;
SELECT * FROM t.error('SELECT count(*) FROM notes WHERE gone IS NULL');
RESET ROLE;
GRANT SELECT (gone) ON notes TO authenticated;
UPDATE notes SET gone = '2026-01-01Z' WHERE id = 6;
SELECT t.as_client('notes');
UPDATE notes SET body = 'one and all' WHERE id = 1;
SELECT t.as_client('notes');
REVOKE SELECT (gone) ON notes FROM authenticated;
SELECT t.as_client('notes');
UPDATE notes SET body = 'more' WHERE id = 1;
SELECT t.as_client('notes');

-- The scope: what the owner's expression gives the caller. A scope of his own choice would tell him of values that he may not read.
CREATE TABLE tasks (id int, part int, org int, title text, gone boolean, PRIMARY KEY (id, part)) PARTITION BY RANGE (part);
CREATE TABLE tasks_1 PARTITION OF tasks FOR VALUES FROM (0) TO (10);
GRANT SELECT (id, part, title) ON tasks TO authenticated;
SELECT snapsync.enable('tasks', scope_column => 'org', scope_values => 'ARRAY[''1'']', soft_delete_column => 'gone');
INSERT INTO tasks VALUES (1, 1, 1, 'mine', NULL), (2, 1, 2, 'theirs', NULL), (3, 1, 1, 'mine, gone', true);
SELECT set_config('t.cursor', '', false);
SELECT t.as_client('tasks');
UPDATE tasks SET org = 3 - org;
SELECT t.as_client('tasks');
UPDATE tasks SET org = 3 - org, gone = false;
SELECT t.as_client('tasks');
SET ROLE authenticated;
SELECT * FROM t.error($$ SELECT pull_changes('{tasks}', filter => '{"tasks": {"org": ["2"]}}') $$);
SELECT * FROM t.error($$ SELECT pull_changes('{tasks}', current_setting('t.cursor'), filter => '{"tasks": {"org": ["1"]}}') $$);
RESET ROLE;
-- The key must be readable.
REVOKE SELECT (part) ON tasks FROM authenticated;
SELECT * FROM t.error($$ SELECT t.as_client('tasks') $$);
