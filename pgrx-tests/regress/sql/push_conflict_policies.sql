-- Conflict policies: what becomes of a row that both sides changed.
\set ECHO none
\set test regress_push_conflict_policies
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET timezone = 'UTC';

CREATE FUNCTION decide(collection text, id text, stored jsonb, incoming jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    CASE incoming ->> 'a'
        WHEN 'reject' THEN RETURN NULL;
        WHEN 'delete' THEN RETURN 'null';
        WHEN 'fail' THEN RAISE EXCEPTION 'undecided' USING ERRCODE = 'ZZ123';
        WHEN 'text' THEN RETURN '"a text"';
        ELSE RETURN jsonb_build_object('a', concat_ws(' and ', stored ->> 'a', coalesce(incoming ->> 'a', 'its deletion')));
    END CASE;
END
$$;
CREATE FUNCTION decide_wrongly(text, text) RETURNS jsonb LANGUAGE sql AS $$ SELECT NULL::jsonb $$;
DO $$
BEGIN
    FOR i IN 1 .. 6 LOOP
        EXECUTE format('CREATE TABLE %I (id text PRIMARY KEY, a text, b text, at timestamptz)',
                       ('{reject,client_wins,server_wins,merge,last_write_wins,custom}'::text[])[i]);
    END LOOP;
END
$$;
SELECT snapsync.enable('reject'), snapsync.enable('client_wins', conflict => 'client_wins'),
       snapsync.enable('server_wins', conflict => 'server_wins'), snapsync.enable('merge', conflict => 'merge');
SELECT snapsync.enable('last_write_wins', conflict => 'last_write_wins', version_column => 'at');
SELECT snapsync.enable('custom', conflict => 'custom', conflict_function => 'decide(text, text, jsonb, jsonb)');
SELECT name, conflict FROM snapsync.status ORDER BY name;
-- Settings that do not make sense.
SELECT * FROM t.error($$SELECT snapsync.enable('reject', conflict => 'first_come')$$);
SELECT * FROM t.error($$SELECT snapsync.enable('reject', conflict => 'last_write_wins')$$);
SELECT * FROM t.error($$SELECT snapsync.enable('reject', conflict => 'last_write_wins', version_column => 'version')$$);
SELECT * FROM t.error($$SELECT snapsync.enable('reject', conflict => 'custom')$$);
SELECT * FROM t.error($$SELECT snapsync.enable('reject', conflict => 'custom', conflict_function => 'decide_wrongly(text, text)')$$);

-- In each table: 1 and 2 change on the server, 3 does not, 4 is deleted there.
CREATE PROCEDURE t.both(name text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('DELETE FROM %I', name);
    EXECUTE format('INSERT INTO %I SELECT i::text, ''old'', ''old'', ''2020-01-01 00:00:00.123456Z'' FROM generate_series(1, 5) AS i', name);
    COMMIT;
    PERFORM t.catch_up(name);
    EXECUTE format('UPDATE %I SET a = ''server'', at = ''2021-01-01Z'' WHERE id IN (''1'', ''2'')', name);
    EXECUTE format('DELETE FROM %I WHERE id = ''4''', name);
    COMMIT;
END
$$;
CREATE FUNCTION t.push(changes text, report boolean DEFAULT false, client_id text DEFAULT NULL) RETURNS TABLE (answer text) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT public.push_changes(changes::json, current_setting('t.cursor'), client_id => client_id,
                                            on_rejected => CASE WHEN report THEN 'report' ELSE 'abort' END)::text;
EXCEPTION WHEN OTHERS THEN
    RETURN QUERY SELECT * FROM t.error(format('SELECT public.push_changes(%L, %L, client_id => %L)', changes, current_setting('t.cursor'), client_id));
END
$$;

-- reject: one conflict refuses all, and all conflicts are named; also where both sides did the same (2).
CALL t.both('reject');
SELECT * FROM t.push('{"reject": {"updated": [{"id": "1", "a": "client"}, {"id": "2", "a": "server"}, {"id": "3", "a": "client"}, {"id": "4", "a": "client"}], "deleted": ["5"]}}');
SELECT id, a, b FROM reject ORDER BY id;
SELECT * FROM t.push('{"reject": {"updated": [{"id": "1", "a": "client"}, {"id": "2", "a": "server"}, {"id": "3", "a": "client"}, {"id": "4", "a": "client"}], "deleted": ["5"]}}', true);
SELECT id, a, b FROM reject ORDER BY id;
-- A deletion against a change, a deletion against a deletion.
CALL t.both('reject');
SELECT * FROM t.push('{"reject": {"deleted": ["1", "3", "4"]}}');
SELECT * FROM t.push('{"reject": {"deleted": ["3", "4"]}}');
SELECT id, a, b FROM reject ORDER BY id;

-- client_wins: what was pushed stands, also over a deletion.
CALL t.both('client_wins');
SELECT * FROM t.push('{"client_wins": {"updated": [{"id": "1", "a": "client"}, {"id": "3", "a": "client"}, {"id": "4", "a": "client"}], "deleted": ["2"]}}');
SELECT id, a, b FROM client_wins ORDER BY id;

-- server_wins: what is stored stands, the others are applied.
CALL t.both('server_wins');
SELECT * FROM t.push('{"server_wins": {"updated": [{"id": "1", "a": "client"}, {"id": "3", "a": "client"}, {"id": "4", "a": "client"}], "deleted": ["2", "5"]}}');
SELECT id, a, b FROM server_wins ORDER BY id;

-- merge: by column. WatermelonDB says in _changed what of a whole row it changed; others send what they changed.
CALL t.both('merge');
SELECT * FROM t.push('{"merge": {"updated": [{"id": "1", "a": "old", "b": "client", "_changed": "b", "_status": "updated"}, {"id": "2", "b": "client"}, {"id": "3", "a": "client", "b": "client"}]}}');
SELECT id, a, b FROM merge ORDER BY id;
SELECT * FROM t.push('{"merge": {"updated": [{"id": "1", "a": "client", "b": "again", "_changed": "b,a"}, {"id": "2", "a": "server"}, {"id": "4", "b": "client"}], "deleted": ["1", "5"]}}', true);
SELECT * FROM t.push('{"merge": {"updated": [{"id": "1", "a": "client", "b": "again", "_changed": "b,a"}, {"id": "2", "a": "server"}, {"id": "4", "b": "client"}], "deleted": ["5"]}}');
SELECT id, a, b FROM merge ORDER BY id;
-- What the server changed in several transactions counts together, whoever else pushed it.
CALL t.both('merge');
UPDATE merge SET b = 'server' WHERE id = '1';
SELECT * FROM t.push('{"merge": {"updated": [{"id": "1", "b": "client"}]}}');
SELECT * FROM t.push('{"merge": {"updated": [{"id": "1", "at": "2023-01-01T00:00:00Z"}]}}');
SELECT op, key, columns FROM snapsync.change WHERE relation = 'merge'::regclass AND key = '1' ORDER BY stamp DESC, ord LIMIT 2;

-- last_write_wins: by version, whatever the cursor. A version in ms stands for all of the millisecond.
CALL t.both('last_write_wins');
SELECT * FROM t.push('{"last_write_wins": {"updated": [{"id": "1", "a": "older", "at": "2020-06-01T00:00:00Z"}, {"id": "2", "a": "newer", "at": "2022-01-01T00:00:00Z"}, {"id": "3", "a": "the same version", "at": 1577836800123}]}}');
SELECT id, a, b, at FROM last_write_wins ORDER BY id;
SELECT push_changes('{"last_write_wins": {"updated": [{"id": "2", "a": "older", "at": "2021-01-01T00:00:00Z"}], "created": [{"id": "3", "a": "newest", "at": "2023-01-01T00:00:00Z"}, {"id": "6", "a": "new"}]}}');
SELECT id, a, b, at FROM last_write_wins ORDER BY id;
-- A deletion has no version: the change stands. A record without one is refused, and a deleted row stays deleted.
CALL t.both('last_write_wins');
SELECT * FROM t.push('{"last_write_wins": {"updated": [{"id": "3", "a": "when?"}, {"id": "4", "a": "gone", "at": "2023-01-01T00:00:00Z"}], "deleted": ["1", "5"]}}', true);
SELECT * FROM t.push('{"last_write_wins": {"updated": [{"id": "3", "a": "when?"}]}}');
SELECT id, a, b, at FROM last_write_wins ORDER BY id;
-- Whose record was too old gets the stored one again, though it had it.
SELECT t.catch_up('last_write_wins');
SELECT * FROM t.push('{"last_write_wins": {"updated": [{"id": "3", "a": "older", "at": "2019-01-01T00:00:00Z"}]}}', client_id => 'me');
SELECT * FROM t.pull('{last_write_wins}', client_id => 'me');

-- custom: a function decides.
CALL t.both('custom');
SELECT * FROM t.push('{"custom": {"updated": [{"id": "1", "a": "client"}, {"id": "3", "a": "client"}, {"id": "4", "a": "client"}], "deleted": ["2"]}}');
SELECT id, a, b FROM custom ORDER BY id;
CALL t.both('custom');
SELECT * FROM t.push('{"custom": {"updated": [{"id": "1", "a": "delete"}, {"id": "2", "a": "reject"}, {"id": "3", "a": "reject"}]}}', true);
SELECT id, a, b FROM custom ORDER BY id;
SELECT * FROM t.push('{"custom": {"updated": [{"id": "2", "a": "reject"}]}}');
SELECT * FROM t.push('{"custom": {"updated": [{"id": "2", "a": "fail"}]}}');
SELECT * FROM t.push('{"custom": {"updated": [{"id": "2", "a": "text"}]}}');
SELECT * FROM t.push('{"custom": {"updated": [{"id": "2", "a": "fail"}, {"id": "3", "a": "client"}]}}', true);
SELECT id, a, b FROM custom ORDER BY id;

-- Where "id" is one of several key columns, that is what the function is given and returns by that name, though the client's "id" is the whole key.
CREATE TABLE events (org int, id int, a text, b text, PRIMARY KEY (org, id));
CREATE FUNCTION both_sides(collection text, id text, stored jsonb, incoming jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT coalesce(stored || incoming, stored, incoming) $$;
SELECT snapsync.enable('events', conflict => 'custom', conflict_function => 'both_sides(text, text, jsonb, jsonb)');
INSERT INTO events VALUES (1, 7, 'old', 'old'), (1, 8, 'old', 'old');
SELECT pull_changes('{events}', dialect => 'watermelondb') ->> 'timestamp' AS c \gset
UPDATE events SET a = 'server';
SELECT push_changes('{"events": {"updated": [{"id": "1.7", "b": "client"}], "deleted": ["1.8"]}}', :'c', dialect => 'watermelondb');
SELECT * FROM events ORDER BY id;
-- So it is where "id" is a column beside the key.
CREATE TABLE pages (id serial PRIMARY KEY, slug text NOT NULL UNIQUE, a text, b text);
SELECT snapsync.enable('pages', key => '{slug}', conflict => 'custom', conflict_function => 'both_sides(text, text, jsonb, jsonb)');
INSERT INTO pages (slug, a, b) VALUES ('x', 'old', 'old');
SELECT pull_changes('{pages}', dialect => 'watermelondb') ->> 'timestamp' AS c \gset
UPDATE pages SET a = 'server';
SELECT push_changes('{"pages": {"updated": [{"id": "x", "b": "client"}]}}', :'c', dialect => 'watermelondb');
SELECT * FROM pages ORDER BY id;

-- A repeated push without push_id, from the same cursor: the rows are stored already. By the same client also if they differ.
SELECT t.catch_up('reject');
SELECT * FROM t.push('{"reject": {"created": [{"id": "n", "a": "new", "b": "new"}]}}');
SELECT * FROM t.push('{"reject": {"created": [{"id": "n", "a": "new", "b": "new"}]}}');
SELECT * FROM t.push('{"reject": {"created": [{"id": "n", "a": "newer", "b": "new"}]}}');
SELECT * FROM t.push('{"reject": {"created": [{"id": "m", "a": "mine"}]}}', client_id => 'me');
SELECT * FROM t.push('{"reject": {"updated": [{"id": "m", "a": "mine again"}]}}', client_id => 'me');
SELECT * FROM t.push('{"reject": {"updated": [{"id": "m", "a": "theirs"}]}}', client_id => 'you');
SELECT id, a, b FROM reject WHERE id > '9' ORDER BY id;

-- A row that the push moves, and of which the stored one stands, is not deleted with its former parent: the deletion is left out as well, and the rest is written.
CREATE TABLE folders (id text PRIMARY KEY, name text UNIQUE);
CREATE TABLE lists (id text PRIMARY KEY, folder text REFERENCES folders ON DELETE CASCADE);
CREATE TABLE todos (id text PRIMARY KEY, list text REFERENCES lists ON DELETE CASCADE, a text CHECK (a <> 'bad'), at timestamptz DEFAULT '2020-01-01Z');
SELECT snapsync.enable('folders'), snapsync.enable('lists');
-- Two folders with a list each, and two todos in list 1, the first of which changes on the server; then this push, and what stands then.
CREATE FUNCTION t.stored() RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', (SELECT string_agg(id, ' ' ORDER BY id) FROM folders), (SELECT string_agg(id || ':' || folder, ' ' ORDER BY id) FROM lists),
                     (SELECT string_agg(concat(id, ':', list, ':', a), ' ' ORDER BY id) FROM todos)) $$;
CREATE PROCEDURE t.change(policy text) LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM folders;
    DELETE FROM todos;
    EXECUTE format('SELECT snapsync.enable(''todos'', conflict => %L%s)', policy, CASE policy
        WHEN 'last_write_wins' THEN ', version_column => ''at''' WHEN 'custom' THEN ', conflict_function => ''decide(text, text, jsonb, jsonb)''' ELSE '' END);
    INSERT INTO folders VALUES ('f', 'home'), ('g', 'work');
    INSERT INTO lists VALUES ('1', 'f'), ('2', 'g');
    INSERT INTO todos VALUES ('T', '1', 'old'), ('U', '1', 'old');
    COMMIT;
    PERFORM t.catch_up('folders', 'lists', 'todos');
    UPDATE todos SET a = 'server', at = '2021-01-01Z' WHERE id = 'T';
    COMMIT;
END
$$;
\set moves '"todos": {"updated": [{"id": "T", "list": "2", "a": "client", "at": "2020-06-01T00:00:00Z"}, {"id": "U", "list": "2", "at": "2022-01-01T00:00:00Z"}], "created": [{"id": "N", "list": "2", "at": "2022-01-01T00:00:00Z"}]}'
CALL t.change('server_wins');
SELECT * FROM t.push('{"lists": {"deleted": ["1"]}, ' || :'moves' || '}');
SELECT t.stored();
-- Once it has pulled, its client moves the row again, or does not.
SELECT t.catch_up('todos');
SELECT * FROM t.push('{"lists": {"deleted": ["1"]}, "todos": {"updated": [{"id": "T", "list": "2"}]}}');
SELECT t.stored();
-- From farther above. What hangs on nothing of it is deleted.
CALL t.change('server_wins');
SELECT * FROM t.push('{"folders": {"deleted": ["f"]}, ' || :'moves' || '}');
SELECT t.stored();
CALL t.change('server_wins');
SELECT * FROM t.push('{"folders": {"deleted": ["f"]}, "lists": {"updated": [{"id": "1", "folder": "g"}], "deleted": ["2"]}, "todos": {"updated": [{"id": "T", "list": "2", "a": "client"}]}}');
SELECT t.stored();
CALL t.change('server_wins');
SELECT * FROM t.push('{"lists": {"deleted": ["1", "2"]}, "todos": {"updated": [{"id": "T", "list": "2", "a": "client"}]}}');
SELECT t.stored();
-- What fails only since the other one stands waits as well, and aborts nothing: a value that is not given up. Another failure does.
CALL t.change('server_wins');
SELECT * FROM t.push('{"folders": {"deleted": ["f"], "created": [{"id": "h", "name": "home"}]}, ' || :'moves' || '}');
SELECT t.stored();
SELECT * FROM t.push('{"lists": {"deleted": ["1"]}, "todos": {"updated": [{"id": "T", "list": "2", "a": "client"}], "created": [{"id": "B", "a": "bad"}]}}');
SELECT t.stored();
SELECT * FROM t.push('{"lists": {"deleted": ["1"]}, "todos": {"updated": [{"id": "T", "list": "2", "a": "client"}], "created": [{"id": "B", "a": "bad"}]}}', true);
SELECT t.stored();
-- Who edits a todo and deletes its list means it to go with that.
CALL t.change('server_wins');
SELECT * FROM t.push('{"lists": {"deleted": ["1"]}, "todos": {"updated": [{"id": "T", "a": "client"}]}}');
SELECT t.stored();
CALL t.change('server_wins');
SELECT * FROM t.push('{"lists": {"deleted": ["1"]}, "todos": {"updated": [{"id": "T", "list": "1", "a": "client"}]}}');
SELECT t.stored();
CALL t.change('server_wins');
SELECT * FROM t.push('{"lists": {"deleted": ["1"]}, "todos": {"updated": [{"id": "T", "list": "2", "a": "client", "_changed": "a"}]}}');
SELECT t.stored();
-- The other policies.
CALL t.change('reject');
SELECT * FROM t.push('{"lists": {"deleted": ["1"]}, ' || :'moves' || '}');
SELECT * FROM t.push('{"lists": {"deleted": ["1"]}, ' || :'moves' || '}', true);
SELECT t.stored();
CALL t.change('merge');
SELECT * FROM t.push('{"lists": {"deleted": ["1"]}, ' || :'moves' || '}', true);
SELECT t.stored();
CALL t.change('client_wins');
SELECT * FROM t.push('{"lists": {"deleted": ["1"]}, ' || :'moves' || '}');
SELECT t.stored();
CALL t.change('last_write_wins');
SELECT * FROM t.push('{"lists": {"deleted": ["1"]}, ' || :'moves' || '}');
SELECT t.stored();
CALL t.change('custom');
SELECT * FROM t.push('{"lists": {"deleted": ["1"]}, "todos": {"updated": [{"id": "T", "list": "2", "a": "reject"}, {"id": "U", "list": "2"}]}}', true);
SELECT t.stored();
-- What the function returns does not move it either; the function deletes it.
CALL t.change('custom');
SELECT * FROM t.push('{"lists": {"deleted": ["1"]}, "todos": {"updated": [{"id": "T", "list": "2", "a": "client"}]}}');
SELECT t.stored();
CALL t.change('custom');
SELECT * FROM t.push('{"lists": {"deleted": ["1"]}, "todos": {"updated": [{"id": "T", "list": "2", "a": "delete"}]}}');
SELECT t.stored();
-- A key that makes the column NULL deletes nothing.
ALTER TABLE todos DROP CONSTRAINT todos_list_fkey, ADD FOREIGN KEY (list) REFERENCES lists ON DELETE SET NULL;
CALL t.change('server_wins');
SELECT * FROM t.push('{"lists": {"deleted": ["1"]}, ' || :'moves' || '}');
SELECT t.stored();
-- A trigger that deletes, and one that marks, also where policies hide marked rows.
ALTER TABLE todos DROP CONSTRAINT todos_list_fkey, ADD gone boolean NOT NULL DEFAULT false;
ALTER TABLE todos ADD FOREIGN KEY (list) REFERENCES lists DEFERRABLE INITIALLY DEFERRED;
CREATE FUNCTION along() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM todos WHERE list = old.id; RETURN NULL; END $$;
CREATE TRIGGER along AFTER DELETE ON lists FOR EACH ROW EXECUTE FUNCTION along();
CALL t.change('server_wins');
SELECT * FROM t.push('{"lists": {"deleted": ["1"]}, ' || :'moves' || '}');
SELECT t.stored();
DROP TRIGGER along ON lists;
ALTER TABLE lists ADD gone boolean NOT NULL DEFAULT false;
CREATE OR REPLACE FUNCTION along() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE todos SET gone = true WHERE list = old.id; RETURN NULL; END $$;
CREATE TRIGGER along AFTER UPDATE ON lists FOR EACH ROW WHEN (new.gone) EXECUTE FUNCTION along();
SELECT snapsync.enable('lists', soft_delete_column => 'gone');
CREATE OR REPLACE PROCEDURE t.change_marked() LANGUAGE plpgsql AS $$
BEGIN
    CALL t.change('server_wins');
    PERFORM snapsync.enable('todos', conflict => 'server_wins', soft_delete_column => 'gone');
    COMMIT;
    PERFORM t.catch_up('folders', 'lists', 'todos');
    UPDATE todos SET a = 'server again' WHERE id = 'T';
    COMMIT;
END
$$;
CALL t.change_marked();
SELECT * FROM t.push('{"lists": {"deleted": ["1"]}, ' || :'moves' || '}');
SELECT t.stored(), (SELECT array_agg(id ORDER BY id) FROM todos WHERE gone), (SELECT array_agg(id ORDER BY id) FROM lists WHERE gone);
CALL t.change_marked();
SELECT * FROM t.push('{"lists": {"updated": [{"id": "1", "gone": true}]}, ' || :'moves' || '}');
SELECT t.stored(), (SELECT array_agg(id ORDER BY id) FROM todos WHERE gone), (SELECT array_agg(id ORDER BY id) FROM lists WHERE gone);
CALL t.change_marked();
ALTER TABLE todos ENABLE ROW LEVEL SECURITY;
CREATE POLICY s ON todos USING (NOT gone) WITH CHECK (true);
ALTER FUNCTION along SECURITY DEFINER;
GRANT ALL ON lists, todos TO alice;
SELECT t.catch_up('folders', 'lists', 'todos');
UPDATE todos SET a = 'server once more' WHERE id = 'T';
SET ROLE alice;
SELECT push_changes(('{"lists": {"updated": [{"id": "1", "gone": true}]}, ' || :'moves' || '}')::json, current_setting('t.cursor'));
RESET ROLE;
SELECT t.stored(), (SELECT array_agg(id ORDER BY id) FROM todos WHERE gone), (SELECT array_agg(id ORDER BY id) FROM lists WHERE gone);
