-- What an attacker found in deltas, scopes and pages: ids that the caller could never select, rows that he keeps.
\set ECHO none
\set test regress_access_attacks
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
\set ECHO none
SET client_min_messages = warning;
CREATE TABLE members (id int PRIMARY KEY, org int NOT NULL, who name NOT NULL);
CREATE TABLE projects (id int PRIMARY KEY, org int NOT NULL);
CREATE TABLE tasks (id int PRIMARY KEY, org int NOT NULL, title text);
CREATE TABLE steps (id int PRIMARY KEY, project int NOT NULL REFERENCES projects ON DELETE CASCADE);
ALTER TABLE members ENABLE ROW LEVEL SECURITY;
ALTER TABLE projects ENABLE ROW LEVEL SECURITY;
ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
ALTER TABLE steps ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON members USING (who = current_user);
CREATE POLICY mine ON projects USING (org IN (SELECT m.org FROM members AS m WHERE m.who = current_user));
CREATE POLICY mine ON tasks USING (org IN (SELECT m.org FROM members AS m WHERE m.who = current_user));
CREATE POLICY mine ON steps USING (EXISTS (SELECT FROM projects AS p WHERE p.id = steps.project));
GRANT ALL ON members, projects, tasks, steps TO alice;
SELECT snapsync.enable('tasks'), snapsync.enable('members'), snapsync.enable('projects'), snapsync.enable('steps');
INSERT INTO members VALUES (1, 1, 'alice'), (9, 9, 'bob');
INSERT INTO tasks VALUES (1, 1, 'a'), (2, 1, 'b'), (3, 1, 'c'), (20, 2, 'd'), (21, 2, 'e');
-- What a call of alice's gives, without its timestamp and token.
CREATE FUNCTION t.alice(call text) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    answer json;
BEGIN
    SET ROLE alice;
    EXECUTE 'SELECT ' || call INTO answer;
    RESET ROLE;
    PERFORM set_config('t.cursor', coalesce(answer ->> 'timestamp', current_setting('t.cursor', true)), false),
            set_config('t.next', coalesce(answer ->> 'next', ''), false);
    RETURN answer;
END $$;
CREATE FUNCTION t.told(call text) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', p.answer -> 'changes', p.answer -> 'reason') FROM (SELECT t.alice(call) AS answer) AS p $$;
\set ECHO all
-- Rows that were born after she had left, and went.
INSERT INTO members VALUES (2, 2, 'alice');
SELECT t.alice($$pull_changes('{tasks}')$$) IS NULL;
DELETE FROM members WHERE id = 2;
INSERT INTO tasks VALUES (7777, 2, 'born after she left'), (8001, 2, 'born after she left');
DELETE FROM tasks WHERE id = 7777;
UPDATE tasks SET org = 9 WHERE id = 8001;
SELECT t.told(format($$pull_changes('{tasks}', %L)$$, current_setting('t.cursor')));

-- Rows that she pushed together with what lets her see them.
SELECT t.alice($$push_changes('{"members": {"created": [{"id": 2, "org": 2, "who": "alice"}]}, "tasks": {"created": [{"id": 10, "org": 2}, {"id": 11, "org": 2}]}}', client_id => 'a')$$);
DELETE FROM tasks WHERE id = 10;
UPDATE tasks SET org = 9 WHERE id = 11;
SELECT t.told(format($$pull_changes('{tasks}', %L, client_id => 'a')$$, current_setting('t.cursor')));
SELECT t.alice($$pull_changes('{projects,steps}')$$) IS NULL;
SELECT t.alice($$push_changes('{"projects": {"created": [{"id": 5, "org": 1}]}, "steps": {"created": [{"id": 50, "project": 5}]}}', client_id => 'a')$$);
DELETE FROM members WHERE id = 1;
SELECT t.told(format($$pull_changes('{projects,steps}', %L, client_id => 'a')$$, current_setting('t.cursor')));
INSERT INTO members VALUES (1, 1, 'alice');

-- A membership that comes between two pages: what the client has of it nobody knows.
DELETE FROM members WHERE id = 2;
SELECT t.alice($$pull_changes('{tasks}', page_size => 2)$$) IS NULL;
INSERT INTO members VALUES (2, 2, 'alice');
SELECT t.told(format($$pull_changes('{tasks}', page_size => 100, next => %L)$$, current_setting('t.next')));
DELETE FROM tasks WHERE id = 20;
UPDATE tasks SET org = 9 WHERE id = 21;
SELECT t.told(format($$pull_changes('{tasks}', %L)$$, current_setting('t.cursor')));
-- A token that is made up says that her access was looked at until now, and goes back to where she began (token.rs has the form).
CREATE FUNCTION t.forge(token text, began bigint, now bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    bytes bytea := decode(rpad(translate(token, '-_', '+/'), (length(token) + 3) / 4 * 4, '='), 'base64');
    hash numeric := 14695981039346656037;
    low bigint;
BEGIN
    bytes := overlay(bytes PLACING int8send(now) || int8send(now) || int8send(now) FROM 2 FOR 24);
    bytes := overlay(bytes PLACING int8send(began) || int8send(now) FROM 56 FOR 16);
    bytes := substr(bytes, 1, length(bytes) - 8);
    FOR i IN 0 .. length(bytes) - 1 LOOP
        low := mod(hash, 256)::bigint;
        hash := mod((hash - low + (low # get_byte(bytes, i))) * 1099511628211, 18446744073709551616);
    END LOOP;
    bytes := bytes || int8send((CASE WHEN hash >= 9223372036854775808 THEN hash - 18446744073709551616 ELSE hash END)::bigint);
    RETURN translate(encode(bytes, 'base64'), E'+/=\n', '-_');
END $$;
DELETE FROM members WHERE id = 2;
SELECT t.alice($$pull_changes('{tasks}')$$) IS NULL;
SELECT current_setting('t.cursor') AS began \gset
INSERT INTO tasks VALUES (30, 2, 'f'), (7778, 2, 'g');
DELETE FROM tasks WHERE id IN (30, 7778);
UPDATE tasks SET title = upper(title) WHERE org = 1;
SELECT t.alice(format($$pull_changes('{tasks}', %L, page_size => 1)$$, :'began')) IS NULL;
SELECT current_setting('t.next') AS token \gset
INSERT INTO members VALUES (2, 2, 'alice');
SELECT t.alice($$pull_changes('{projects}')$$) IS NULL;
SELECT t.forge(:'token', :began & ~1::bigint, current_setting('t.cursor')::bigint & ~1::bigint) AS forged \gset
SELECT t.told(format($$pull_changes('{tasks}', %L, page_size => 100, next => %L)$$, :'began', :'token')) AS honest;
SELECT t.told(format($$pull_changes('{tasks}', %L, page_size => 100, next => %L)$$, :'began', :'forged')) AS forged;

-- The cursor of one collection is later than that of another.
SELECT t.alice($$pull_changes('{tasks}')$$) IS NULL;
SELECT current_setting('t.cursor') AS early \gset
DELETE FROM members WHERE id = 2;
SELECT t.alice(format($$pull_changes('{tasks}', %L)$$, :'early')) IS NULL;
SELECT t.alice(format($$pull_changes('{tasks,projects}', since => '{"tasks": %s, "projects": %s}')$$, current_setting('t.cursor'), :early)) ->> 'timestamp' >= current_setting('t.cursor') AS not_back;

-- Others' memberships do not make a pull slow: many of them, and a policy whose rows cannot be looked up by them.
CREATE TABLE notes (id int PRIMARY KEY, org int NOT NULL);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON notes USING (current_user IN (SELECT m.who FROM members AS m WHERE m.org = notes.org));
GRANT SELECT ON notes TO alice;
SELECT snapsync.enable('notes');
INSERT INTO notes SELECT i, 1 FROM generate_series(1, 3) AS i;
SELECT t.alice($$pull_changes('{notes}')$$) IS NULL;
INSERT INTO members SELECT i, 9, 'bob' FROM generate_series(1000, 1200) AS i;
INSERT INTO members VALUES (2000, 3, 'alice');
SELECT t.told(format($$pull_changes('{notes}', %L)$$, current_setting('t.cursor')));

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_access_attacks;
