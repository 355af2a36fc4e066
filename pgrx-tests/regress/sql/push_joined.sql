-- Created rows that exist, and that their pusher sees only since the same push let him join who sees them: the collection's policy decides, as if he had seen them before.
\set ECHO none
\set test regress_push_joined
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE joined (id text PRIMARY KEY, who name DEFAULT current_user, team text);
CREATE TABLE boards (id text PRIMARY KEY, team text, title text, body text, v int, gone boolean NOT NULL DEFAULT false);
ALTER TABLE boards ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON boards USING (EXISTS (SELECT FROM joined AS j WHERE j.team = boards.team AND j.who = current_user)) WITH CHECK (true);
GRANT ALL ON joined, boards TO alice, bob;
SELECT snapsync.enable('boards'), snapsync.enable('joined');

-- Bob's rows; those whose id begins with "c" change after alice's cursor.
CREATE PROCEDURE t.begin_with(policy text, VARIADIC others text[]) LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM joined;
    DELETE FROM boards;
    EXECUTE format('SELECT snapsync.enable(''boards'', conflict => %L %s)', policy, array_to_string(others, ' '));
    INSERT INTO joined VALUES ('2', 'bob', 't');
    INSERT INTO boards VALUES ('a', 't', 'old', 'old', 9, false), ('b', 't', 'old', 'old', 1, false), ('n', 't', 'old', 'old', 1, false), ('t', 't', 'old', 'old', 9, true), ('u', 't', 'old', 'old', 1, true);
    INSERT INTO boards SELECT 'c' || n, 't', 'old', 'old', v FROM (VALUES (1, 9), (2, 1)) AS r(n, v);
    COMMIT;
    PERFORM t.catch_up('boards');
    UPDATE boards SET title = 'by bob' WHERE id LIKE 'c%';
    COMMIT;
END
$$;
CREATE FUNCTION t.push(changes text) RETURNS text LANGUAGE sql AS $$
    SELECT public.push_changes(changes::json, nullif(current_setting('t.cursor'), ''), on_rejected => 'report')::text $$;
GRANT USAGE ON SCHEMA t TO alice;
\set batch '{"joined": {"created": [{"id": "3", "team": "t"}]}, "boards": {"created": [{"id": "a", "team": "t", "title": "mine", "v": 5}, {"id": "b", "team": "t", "title": "mine", "v": 5}, {"id": "c1", "team": "t", "title": "mine", "v": 5}, {"id": "c2", "team": "t", "title": "mine", "v": 5}, {"id": "n", "team": "t", "title": "mine"}, {"id": "t", "team": "t", "title": "mine", "v": 5}, {"id": "u", "team": "t", "title": "mine", "v": 5}]}}'

\echo The larger version wins, whatever the cursor, and a record without one is refused.
CALL t.begin_with('last_write_wins', ', version_column => ''v'', soft_delete_column => ''gone''');
SET ROLE alice;
SELECT t.push(:'batch');
SELECT id, title, v, gone FROM boards ORDER BY id;
SELECT c.key, jsonb_agg(coalesce(r ->> 'id', r #>> '{}') ORDER BY coalesce(r ->> 'id', r #>> '{}')) FROM jsonb_each(public.pull_changes('{boards}', current_setting('t.cursor'))::jsonb #> '{changes,boards}') AS c(key, rows), jsonb_array_elements(c.rows) AS r GROUP BY 1 ORDER BY 1;
RESET ROLE;

\echo So is it without a cursor.
CALL t.begin_with('last_write_wins', ', version_column => ''v'', soft_delete_column => ''gone''');
SELECT set_config('t.cursor', NULL, false);
SET ROLE alice;
SELECT t.push(:'batch');
SELECT id, title, v, gone FROM boards ORDER BY id;
RESET ROLE;

\echo Two that changed other columns are merged.
CALL t.begin_with('merge', ', soft_delete_column => ''gone''');
SET ROLE alice;
SELECT t.push('{"joined": {"created": [{"id": "3", "team": "t"}]}, "boards": {"updated": [{"id": "c1", "body": "mine"}, {"id": "c2", "title": "mine"}]}}');
SELECT id, title, body FROM boards WHERE id LIKE 'c%' ORDER BY id;
RESET ROLE;

\echo All conflicts are named, where nothing is reported.
CALL t.begin_with('reject', ', soft_delete_column => ''gone''');
SET ROLE alice;
SELECT * FROM t.error(format('SELECT push_changes(%L, current_setting(''t.cursor''))', :'batch'));
RESET ROLE;

\echo A row that a conflict function makes, and the same push creates.
CREATE TABLE logs (id text PRIMARY KEY, a text);
CREATE TABLE files (id text PRIMARY KEY, a text);
GRANT ALL ON logs, files TO alice;
CREATE FUNCTION noted(collection text, id text, stored jsonb, incoming jsonb) RETURNS jsonb LANGUAGE sql AS $$
    INSERT INTO logs VALUES ('log', 'by the function');
    SELECT incoming || '{"a": "both"}' $$;
SELECT snapsync.enable('logs'), snapsync.enable('files', conflict => 'custom', conflict_function => 'noted(text, text, jsonb, jsonb)');
INSERT INTO files VALUES ('1', 'old');
SELECT t.catch_up('files');
UPDATE files SET a = 'server';
SET ROLE alice;
SELECT t.push('{"logs": {"created": [{"id": "log", "a": "mine"}]}, "files": {"updated": [{"id": "1", "a": "mine"}]}}');
SELECT 'logs' AS of, * FROM logs UNION ALL SELECT 'files', * FROM files;
RESET ROLE;

\echo A row that comes into sight is given another parent before its former one is deleted, with what hangs on it.
RESET ROLE;
CREATE TABLE lists (id text PRIMARY KEY);
CREATE TABLE todos (id text PRIMARY KEY, list text REFERENCES lists ON DELETE CASCADE, team text, pos int, UNIQUE (team, pos) DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE todos ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON todos USING (team IN (SELECT team FROM joined WHERE who = current_user)) WITH CHECK (true);
GRANT ALL ON lists, todos TO alice, bob;
SELECT snapsync.enable('lists'), snapsync.enable('todos');
INSERT INTO lists VALUES ('1'), ('2');
INSERT INTO todos VALUES ('x', '1', 't', 1), ('z', '2', 't', 2);
DELETE FROM joined;
SELECT t.catch_up('todos');
SET ROLE alice;
BEGIN;
SELECT t.push('{"joined": {"created": [{"id": "3", "team": "t"}]}, "todos": {"created": [{"id": "x", "list": "2", "team": "t", "pos": 5}]}, "lists": {"deleted": ["1"]}}');
SELECT * FROM todos ORDER BY id;
ROLLBACK;

\echo Among those that violate a deferred constraint is one that comes into sight.
BEGIN;
SELECT t.push('{"joined": {"created": [{"id": "3", "team": "t"}]}, "todos": {"created": [{"id": "x", "list": "2", "team": "t", "pos": 2}, {"id": "n", "team": "t", "pos": 7}]}}');
SELECT * FROM todos ORDER BY id;
ROLLBACK;
BEGIN;
SELECT t.push('{"joined": {"created": [{"id": "3", "team": "t"}]}, "todos": {"created": [{"id": "x", "list": "1", "team": "t", "pos": 3}, {"id": "y", "team": "t", "pos": 1}, {"id": "w", "team": "t", "pos": 2}]}}');
SELECT * FROM todos ORDER BY id;
ROLLBACK;
RESET ROLE;


\echo What a project has is seen while the project is open. It is opened again, and its todos are ticked, written and deleted by the same push.
CREATE TABLE projects (id text PRIMARY KEY, archived boolean NOT NULL DEFAULT false);
CREATE TABLE tasks (id text PRIMARY KEY, project text NOT NULL REFERENCES projects, title text NOT NULL, done boolean NOT NULL DEFAULT false, gone boolean NOT NULL DEFAULT false);
ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
CREATE POLICY open ON tasks USING (project IN (SELECT id FROM projects WHERE NOT archived));
GRANT ALL ON projects, tasks TO alice;
SELECT snapsync.enable('projects'), snapsync.enable('tasks');
CREATE PROCEDURE t.archive(others text) LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE projects, tasks;
    EXECUTE format('SELECT snapsync.enable(''tasks'' %s)', others);
    INSERT INTO projects VALUES ('p', true), ('q', true);
    INSERT INTO tasks SELECT n || p, p, 'old' FROM generate_series(1, 4) AS n, unnest('{p,q}'::text[]) AS p;
    COMMIT;
    PERFORM t.catch_up('tasks');
    UPDATE tasks SET title = 'by bob' WHERE id LIKE '4%';
    COMMIT;
END
$$;
CREATE FUNCTION t.try(tasks text, on_rejected text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text;
BEGIN
    SET LOCAL ROLE alice;
    said := public.push_changes(format('{"projects": {"updated": [{"id": "p", "archived": false}]}, "tasks": %s}', tasks)::json, nullif(current_setting('t.cursor'), ''), client_id => 'c', on_rejected => on_rejected)::jsonb - 'rejected';
    RESET ROLE;
    said := concat(said, '; ', (SELECT string_agg(concat_ws(' ', id, title, CASE WHEN done THEN 'done' END, CASE WHEN gone THEN 'gone' END), ', ' ORDER BY id) FROM tasks WHERE project = 'p'));
    RAISE 'undone' USING ERRCODE = 'TT000';
EXCEPTION WHEN SQLSTATE 'TT000' THEN RETURN said;
WHEN OTHERS THEN RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
CALL t.archive('');
SELECT how, t.try(tasks, how) FROM unnest('{abort,report}'::text[]) AS how,
    (VALUES ('{"updated": [{"id": "1p", "done": true}, {"id": "2p", "project": "p", "title": "mine"}]}'), ('{"deleted": ["1p", "2p", "none"]}'),
            ('{"updated": [{"id": "1p", "done": true}], "deleted": ["2p"], "created": [{"id": "3p", "project": "p", "title": "mine"}]}')) AS t(tasks);
\echo What somebody else has changed since is a conflict there; and what is not opened stays as it is.
SELECT how, t.try(tasks, how) FROM unnest('{abort,report}'::text[]) AS how,
    (VALUES ('{"updated": [{"id": "4p", "done": true}, {"id": "1p", "done": true}]}'), ('{"deleted": ["4p", "1p"]}'),
            ('{"deleted": ["1q", "1p"], "updated": [{"id": "2q", "done": true}]}')) AS t(tasks);
CALL t.archive(', conflict => ''server_wins''');
SELECT how, t.try('{"deleted": ["4p", "1p"], "updated": [{"id": "2p", "done": true}]}', how) FROM unnest('{abort,report}'::text[]) AS how;
CALL t.archive(', conflict => ''reject'', soft_delete_column => ''gone''');
SELECT how, t.try(tasks, how) FROM unnest('{abort,report}'::text[]) AS how,
    (VALUES ('{"deleted": ["4p", "1p"], "updated": [{"id": "2p", "done": true}]}'), ('{"deleted": ["1p"], "updated": [{"id": "2p", "gone": true}, {"id": "3p", "done": true}]}')) AS t(tasks);
\echo Where the deletion is refused, it is said.
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'kept' USING ERRCODE = 'KE001'; END $$;
CALL t.archive(', soft_delete_column => ''''');
CREATE TRIGGER keep BEFORE DELETE ON tasks FOR EACH ROW WHEN (old.id = '1p') EXECUTE FUNCTION keep();
SELECT how, t.try('{"deleted": ["1p", "2p"], "updated": [{"id": "3p", "done": true}]}', how) FROM unnest('{abort,report}'::text[]) AS how;

\echo A row that a trigger of the push makes is there, also for who may not make it himself.
CREATE TABLE channels (id text PRIMARY KEY, name text);
CREATE TABLE members (channel text REFERENCES channels, who text, role text NOT NULL DEFAULT 'member', muted boolean NOT NULL DEFAULT false, PRIMARY KEY (channel, who));
CREATE FUNCTION join_own() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN INSERT INTO public.members VALUES (NEW.id, current_setting('role'), 'owner'); RETURN NULL; END $$;
CREATE TRIGGER join_own AFTER INSERT ON channels FOR EACH ROW EXECUTE FUNCTION join_own();
ALTER TABLE members ENABLE ROW LEVEL SECURITY;
CREATE POLICY see ON members FOR SELECT USING (who = current_user);
CREATE POLICY mute ON members FOR UPDATE USING (who = current_user);
CREATE POLICY leave ON members FOR DELETE USING (who = current_user);
GRANT ALL ON channels, members TO alice;
SELECT snapsync.enable('channels'), snapsync.enable('members', readonly => '{role}');
SET ROLE alice;
SELECT push_changes('{"channels": {"created": [{"id": "1", "name": "one"}]}, "members": {"updated": [{"channel": "1", "who": "alice", "muted": true}]}}', client_id => 'c');
SELECT push_changes('{"channels": {"created": [{"id": "2"}, {"id": "3"}]}, "members": {"created": [{"channel": "2", "who": "alice", "muted": true}, {"channel": "none", "who": "alice"}, {"channel": "1", "who": "bob"}], "deleted": ["3.alice"]}}', client_id => 'c', on_rejected => 'report') -> 'experimentalRejectedIds';
RESET ROLE;
TABLE members;

\echo What else the push does waits for that, and that for what else it does: as whoever did one after the other.
CREATE TABLE spaces (id text PRIMARY KEY, archived boolean NOT NULL DEFAULT false);
CREATE TABLE plans (id text PRIMARY KEY, space text REFERENCES spaces, archived boolean NOT NULL DEFAULT false);
CREATE TABLE guests (id text PRIMARY KEY, plan text REFERENCES plans, who name NOT NULL);
CREATE TABLE sections (id text PRIMARY KEY, plan text REFERENCES plans);
CREATE TABLE items (id text PRIMARY KEY, plan text REFERENCES plans, section text REFERENCES sections, title text NOT NULL, done boolean NOT NULL DEFAULT false, UNIQUE (plan, title));
CREATE TABLE subitems (id text PRIMARY KEY, item text NOT NULL REFERENCES items ON DELETE CASCADE, title text);
CREATE TABLE notes (id text PRIMARY KEY, item text REFERENCES items);
ALTER TABLE plans ENABLE ROW LEVEL SECURITY;
ALTER TABLE items ENABLE ROW LEVEL SECURITY;
ALTER TABLE subitems ENABLE ROW LEVEL SECURITY;
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON plans USING (space IN (SELECT id FROM spaces WHERE NOT archived));
CREATE POLICY p ON items USING (plan IN (SELECT id FROM plans WHERE NOT archived) AND plan IN (SELECT plan FROM guests WHERE who = current_user));
CREATE POLICY p ON subitems USING (item IN (SELECT id FROM items));
CREATE POLICY p ON notes USING (item IN (SELECT id FROM items));
GRANT ALL ON spaces, plans, guests, sections, items, subitems, notes TO alice;
SELECT count(snapsync.enable(c::regclass)) FROM unnest('{spaces,plans,guests,sections,items,subitems,notes}'::text[]) AS c;
CREATE FUNCTION t.plan(changes text, on_rejected text, shown text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text;
    now text;
BEGIN
    SET LOCAL ROLE alice;
    said := public.push_changes(changes::json, nullif(current_setting('t.cursor'), ''), client_id => 'c', on_rejected => on_rejected)::jsonb - 'rejected';
    RESET ROLE;
    EXECUTE shown INTO now;
    RAISE 'undone' USING ERRCODE = 'TT000';
EXCEPTION WHEN SQLSTATE 'TT000' THEN RETURN concat(said, '; ', now);
WHEN OTHERS THEN RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
INSERT INTO spaces VALUES ('s', true);
INSERT INTO plans VALUES ('p', 's', true);
INSERT INTO guests VALUES ('g', 'p', 'alice');
INSERT INTO sections VALUES ('1', 'p'), ('2', 'p');
INSERT INTO items SELECT n, 'p', '1', 'item ' || n FROM unnest('{a,b,c}'::text[]) AS n;
INSERT INTO subitems VALUES ('u', 'a', 'old'), ('v', 'a', 'old');
INSERT INTO notes VALUES ('n', 'b');
SELECT t.catch_up('subitems');
UPDATE subitems SET title = 'by bob' WHERE id = 'v';
\set shown 'SELECT concat_ws(\'; \', (SELECT string_agg(concat_ws(\' \', id, section, title, CASE WHEN done THEN \'done\' END), \', \' ORDER BY id) FROM items), (SELECT string_agg(concat_ws(\' \', id, item, title), \', \' ORDER BY id) FROM subitems), (SELECT string_agg(concat_ws(\' \', id, item), \', \' ORDER BY id) FROM notes))'
SELECT how, t.plan(format('{"spaces": {"updated": [{"id": "s", "archived": false}]}, "plans": {"updated": [{"id": "p", "archived": false}]}, %s}', changes), how, :'shown') FROM unnest('{abort,report}'::text[]) AS how,
    (VALUES ('"items": {"deleted": ["b"]}, "notes": {"deleted": ["n"]}'), ('"notes": {"updated": [{"id": "n", "item": "a"}]}, "items": {"deleted": ["b"]}'),
            ('"items": {"deleted": ["c"], "created": [{"id": "d", "plan": "p", "section": "2", "title": "item c"}], "updated": [{"id": "a", "done": true}]}'),
            ('"items": {"updated": [{"id": "c", "title": "other"}], "created": [{"id": "d", "plan": "p", "title": "item c"}]}'),
            ('"items": {"updated": [{"id": "a", "section": "2"}, {"id": "b", "section": "2"}, {"id": "c", "section": null}]}, "sections": {"deleted": ["1"]}'),
            ('"items": {"deleted": ["c"], "updated": [{"id": "a", "done": true}]}, "guests": {"deleted": ["g"]}'),
            ('"subitems": {"updated": [{"id": "u", "item": "b"}]}, "items": {"deleted": ["a"]}'),
            ('"subitems": {"updated": [{"id": "u", "item": "b"}, {"id": "v", "item": "b"}]}, "items": {"deleted": ["a"]}')) AS c(changes);
INSERT INTO items SELECT n, 'p', '1', 'item ' || n FROM generate_series(1, 2000) AS n;
SELECT t.catch_up('items');
SELECT t.plan(json_build_object('spaces', '{"updated": [{"id": "s", "archived": false}]}'::json, 'plans', '{"updated": [{"id": "p", "archived": false}]}'::json,
                                'items', json_build_object('updated', (SELECT json_agg(json_build_object('id', n::text, 'done', true)) FROM generate_series(1, 2000) AS n)))::text,
              how, 'SELECT count(*) FROM items WHERE done') FROM unnest('{abort,report}'::text[]) AS how;

\echo Who could join only until the commit learns nothing by that.
CREATE TABLE clubs (id text PRIMARY KEY, who text, club text);
CREATE TABLE talks (id text PRIMARY KEY, club text, title text);
ALTER TABLE talks ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON talks USING (club IN (SELECT club FROM clubs WHERE who = current_user));
GRANT ALL ON clubs, talks TO alice;
CREATE FUNCTION no_guests() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'members only' USING ERRCODE = 'KE002'; END $$;
CREATE CONSTRAINT TRIGGER no_guests AFTER INSERT ON clubs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION no_guests();
SELECT snapsync.enable('clubs'), snapsync.enable('talks');
SELECT t.catch_up('talks');
INSERT INTO talks VALUES ('secret', 'c', 'by bob');
SELECT how, id, t.plan(format('{"clubs": {"created": [{"id": "1", "who": "alice", "club": "c"}]}, "talks": {"deleted": [%1$s], "updated": [{"id": "none", "title": "mine"}]}}', to_json(id)), how, 'SELECT count(*) FROM talks')
FROM unnest('{abort,report}'::text[]) AS how, unnest('{secret,nothing}'::text[]) AS id;
