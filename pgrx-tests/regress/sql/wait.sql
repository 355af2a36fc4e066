-- wait_for_changes: which changes end a wait, for whom. (With a timeout of nothing it says whether it would have waited.)
\set ECHO none
\set test regress_wait
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE members (org text, who text, PRIMARY KEY (org, who));
CREATE TABLE todos (id int PRIMARY KEY, org text, n int, gone boolean NOT NULL DEFAULT false);
ALTER TABLE todos ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON todos USING (org IN (SELECT org FROM members WHERE who = current_user));
CREATE TABLE notes (id int PRIMARY KEY, n int);
GRANT SELECT ON members, todos, notes TO alice, bob;
SELECT snapsync.enable('todos', scope_column => 'org', soft_delete_column => 'gone'), snapsync.enable('notes');
INSERT INTO members VALUES ('a', 'alice'), ('c', 'alice'), ('b', 'bob');
INSERT INTO todos VALUES (1, 'a', 1), (2, 'b', 1), (3, 'c', 1);

-- What somebody does; and whose wait for what that ends.
CREATE PROCEDURE t.does(command text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('t.since', public.pull_changes('{todos,notes}') ->> 'timestamp', false);
    EXECUTE command;
END
$$;
CREATE FUNCTION t.ended() RETURNS TABLE (who name, where_ text, ended_by text) LANGUAGE plpgsql AS $$
DECLARE
    since text := current_setting('t.since');
    f jsonb;
BEGIN
    FOREACH who IN ARRAY '{alice,bob}'::name[] LOOP
        FOREACH f IN ARRAY ARRAY[NULL, '{"todos": {"org": ["a"]}}', '{"todos": {"org": ["b"]}}']::jsonb[] LOOP
            EXECUTE format('SET LOCAL ROLE %I', who);
            SELECT string_agg(a, ' ' ORDER BY n) INTO ended_by
            FROM unnest('{inserts,updates,deletes,collection,changes}'::text[]) WITH ORDINALITY AS v(a, n)
            WHERE public.wait_for_changes('{todos,notes}', since, f, a, '0')::jsonb <> '{"changed": []}';
            RESET ROLE;
            where_ := coalesce(f #>> '{todos,org,0}', 'any');
            RETURN NEXT;
        END LOOP;
    END LOOP;
END
$$;
\set ended 'SELECT who, where_, coalesce(ended_by, $$nothing$$) FROM t.ended();'
CALL t.does($$INSERT INTO todos VALUES (4, 'a', 1)$$);
:ended
CALL t.does($$UPDATE todos SET n = 2 WHERE id = 1$$);
:ended
CALL t.does($$DELETE FROM todos WHERE id = 4$$);
:ended
CALL t.does($$INSERT INTO todos VALUES (5, 'b', 1)$$);
:ended
CALL t.does($$UPDATE todos SET n = 3 WHERE id IN (1, 2)$$);
:ended
-- From one to the other.
CALL t.does($$UPDATE todos SET org = 'b' WHERE id = 1$$);
:ended
-- Where nobody is.
CALL t.does($$INSERT INTO todos VALUES (6, 'z', 1)$$);
:ended
CALL t.does($$DELETE FROM todos WHERE id = 6$$);
:ended
-- Marked as deleted, and back.
CALL t.does($$UPDATE todos SET gone = true WHERE id = 2$$);
:ended
CALL t.does($$UPDATE todos SET gone = false WHERE id = 2$$);
:ended
-- Access that comes and goes.
CALL t.does($$INSERT INTO members VALUES ('b', 'alice')$$);
:ended
CALL t.does($$DELETE FROM members WHERE org = 'b' AND who = 'alice'$$);
:ended
CALL t.does($$INSERT INTO members VALUES ('y', 'carol')$$);
:ended
-- Everything.
CALL t.does($$SELECT snapsync.reset('todos')$$);
:ended
CALL t.does($$SELECT 1$$);
:ended

-- Of which collections.
SELECT pull_changes('{todos,notes}') ->> 'timestamp' AS cursor \gset
INSERT INTO notes VALUES (1, 1);
SET ROLE alice;
SELECT wait_for_changes('{todos,notes}', :'cursor', timeout => '0');
SELECT wait_for_changes('{todos}', :'cursor', timeout => '0');
-- A first pull is due.
SELECT wait_for_changes('{notes,todos,notes}');
SELECT wait_for_changes('{}', timeout => '1 ms');
-- The longest that may be.
RESET ROLE;
SET snapsync.wait_timeout = 1;
SET ROLE alice;
SELECT wait_for_changes('{todos}', :'cursor', timeout => '1 day');
SELECT wait_for_changes('{todos}', :'cursor');
SELECT * FROM t.error($$SET snapsync.wait_timeout = 2$$);
-- What is not said.
SELECT * FROM t.error($$SELECT wait_for_changes(NULL)$$);
SELECT * FROM t.error($$SELECT wait_for_changes('{nothing}')$$);
SELECT * FROM t.error($$SELECT wait_for_changes('{todos}', 'x')$$);
SELECT * FROM t.error($$SELECT wait_for_changes('{todos}', actions => 'everything')$$);
SELECT * FROM t.error($$SELECT wait_for_changes('{todos}', timeout => '-1 s')$$);
SELECT * FROM t.error($$SELECT wait_for_changes('{todos}', filter => '{"todos": {"n": ["1"]}}')$$);
\set ON_ERROR_STOP off
BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT wait_for_changes('{todos}', :'cursor'); ROLLBACK;
RESET ROLE;
REVOKE SELECT ON notes FROM alice;
SET ROLE alice;
SELECT wait_for_changes('{notes}', :'cursor', timeout => '0');
-- READ ONLY, in a transaction that goes on: no lock stays.
BEGIN READ ONLY;
SELECT wait_for_changes('{todos}', :'cursor', timeout => '10 ms');
SELECT relation::regclass, mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation::regclass::text !~ '^pg_';
SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory';
COMMIT;
-- In a transaction that has written, its own changes count, and stay.
RESET ROLE;
BEGIN;
INSERT INTO todos VALUES (10, 'a', 1);
SELECT wait_for_changes('{todos}', :'cursor', timeout => '0');
COMMIT;
SELECT pull_changes('{todos}', :'cursor')::jsonb #>> '{changes,todos,created,0,id}';

-- The procedure.
CALL snapsync.wait_for_changes('{todos}', :'cursor');
SELECT pull_changes('{todos}') ->> 'timestamp' AS cursor \gset
CALL snapsync.wait_for_changes('{todos}', :'cursor', timeout => '10 ms');
BEGIN; CALL snapsync.wait_for_changes('{todos}', :'cursor'); ROLLBACK;
DO $$ DECLARE said json; BEGIN CALL snapsync.wait_for_changes('{todos}', NULL, answer => said); RAISE NOTICE '%', said; END $$;

-- In the client's dialect, as an argument or by the setting: what its filter names, and what its pull would bring.
CREATE TABLE coded (code text PRIMARY KEY, id text, v text);
CREATE TABLE cards (id uuid PRIMARY KEY, title text, updated_at timestamptz NOT NULL DEFAULT now(), deleted_at timestamptz);
GRANT SELECT ON coded, cards TO alice;
SET client_min_messages = warning;
SELECT snapsync.enable('coded'), snapsync.enable('cards', soft_delete_column => 'deleted_at', version_column => 'updated_at', conflict => 'last_write_wins');
RESET client_min_messages;
INSERT INTO coded VALUES ('a', 'other', 'x'), ('b', 'other', 'x');
INSERT INTO cards VALUES ('00000000-0000-4000-8000-000000000001', 'a', now(), now()), ('00000000-0000-4000-8000-000000000002', 'a', now(), NULL);
SELECT pull_changes('{coded,cards}') ->> 'timestamp' AS cursor \gset
UPDATE coded SET v = 'y' WHERE code = 'a';
UPDATE cards SET title = 'b' WHERE deleted_at IS NOT NULL;
SET ROLE alice;
SELECT wait_for_changes('{coded}', :'cursor', filter => '{"coded": {"id": ["a"]}}', dialect => 'watermelondb', timeout => '0'),
       wait_for_changes('{coded}', :'cursor', filter => '{"coded": {"id": ["b"]}}', dialect => 'watermelondb', timeout => '0');
SELECT * FROM t.error(format($$SELECT wait_for_changes('{coded}', %L, filter => '{"coded": {"id": ["a"]}}')$$, :'cursor'));
SELECT d AS dialect, wait_for_changes('{cards}', :'cursor', dialect => d, timeout => '0'), pull_changes('{cards}', :'cursor', dialect => d) #>> '{changes,cards,updated,0,title}' AS came
FROM unnest('{postgrest,watermelondb,drift}'::text[]) AS d;
SET snapsync.dialect = 'drift';
SELECT a AS actions, wait_for_changes('{cards}', :'cursor', actions => a, timeout => '0') FROM unnest('{inserts,updates,deletes,collection,changes}'::text[]) AS a;
CALL snapsync.wait_for_changes('{cards}', :'cursor', timeout => '0');
CALL snapsync.wait_for_changes('{cards}', :'cursor', timeout => '0', dialect => 'postgrest');
RESET snapsync.dialect;
SELECT * FROM t.error($$SELECT wait_for_changes('{cards}', dialect => 'klingon')$$);
RESET ROLE;

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_wait;
