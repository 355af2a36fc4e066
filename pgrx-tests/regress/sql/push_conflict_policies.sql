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
