-- The Drift/Supabase demo client, which knows two calls: pull_changes(collections, last_pulled_at: time) and
-- push_changes(_changes, last_pulled_at: the device's clock), which answers with a time.
\set ECHO none
\set test regress_drift
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE SCHEMA app;
GRANT USAGE ON SCHEMA app TO PUBLIC;
CREATE FUNCTION app.me() RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_user::text $$;
CREATE TABLE app.note (
    id uuid PRIMARY KEY,
    user_id text NOT NULL,
    title text NOT NULL,
    stars int NOT NULL DEFAULT 0,
    due timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz
);
ALTER TABLE app.note ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON app.note USING (user_id = app.me());
GRANT SELECT, INSERT, UPDATE, DELETE ON app.note TO alice, bob;
SELECT snapsync.enable('app.note', conflict => 'last_write_wins', version_column => 'updated_at', soft_delete_column => 'deleted_at');

-- What the setting says for all calls of an app, which pass no dialect.
SET snapsync.dialect = 'drift';
SET timezone = 'America/St_Johns';
-- As PostgREST calls it. The time of the answer is the test's business only where it does not depend on the clock.
CREATE FUNCTION t.push(changes json, device text DEFAULT '2026-01-01T00:00:00.000') RETURNS timestamptz LANGUAGE sql AS
    $$ SELECT push_changes(_changes => changes, last_pulled_at => to_json(device)) $$;
-- What a pull from the year 2000 gives: everything, as far as times are those of the test.
CREATE FUNCTION t.rows(since text DEFAULT '1999-12-31T23:00:00.000Z') RETURNS SETOF text LANGUAGE sql AS $$
    SELECT a.key || ' ' || r::text
    FROM json_each(pull_changes('{app.note}', since) -> 'changes' -> 'app.note') AS a, json_array_elements(a.value) AS r
    ORDER BY a.key, r ->> 'title', r ->> 'id' $$;

\echo
\echo -- One function is not taken for the other, by place, by name, in any type.
SELECT push_changes('{}');
SELECT push_changes('{}', '7');
SELECT push_changes('{}', null);
SELECT push_changes('{}', last_pulled_at => '7');
SELECT push_changes('{}'::json, '7'::text);
SELECT push_changes(changes => '{}', last_pulled_at => '7');
PREPARE pushes AS SELECT push_changes($1, $2);
EXECUTE pushes('{}', '7');
SELECT pg_typeof(push_changes(_changes => '{}', last_pulled_at => '"2026-01-01T00:00:00.000"'));

\echo
\echo -- Whole rows in all arrays, times with and without Z, instance_id although there is no such column.
SET ROLE alice;
SELECT t.push('{"app.note": {
    "created": [{"id": "00000000-0000-4000-8000-000000000001", "user_id": "alice", "title": "one", "stars": 1, "due": null, "instance_id": "i",
                 "created_at": "2026-01-01T10:00:00.000Z", "updated_at": "2026-01-01T10:00:00.000001Z", "deleted_at": null},
                {"id": "00000000-0000-4000-8000-000000000002", "user_id": "alice", "title": "two", "stars": 2, "due": "2026-02-01T08:00:00.000", "instance_id": "i",
                 "created_at": "2026-01-01T10:00:00.000Z", "updated_at": "2026-01-01T10:00:00.000", "deleted_at": null}],
    "updated": [], "deleted": []}}') AT TIME ZONE 'UTC';
SELECT t.rows();
\echo -- It repeats. Nothing is different, and the time is the same.
SELECT t.push('{"app.note": {
    "created": [{"id": "00000000-0000-4000-8000-000000000001", "user_id": "alice", "title": "one", "stars": 1, "due": null, "instance_id": "i",
                 "created_at": "2026-01-01T10:00:00.000Z", "updated_at": "2026-01-01T10:00:00.000001Z", "deleted_at": null}],
    "updated": [], "deleted": []}}') AT TIME ZONE 'UTC';
SELECT t.rows();
\echo -- An edit, which needs no pull between; null is a value. An older one is not written. The same time with other values: what is stored stands.
SELECT t.push('{"app.note": {"created": [], "updated": [{"id": "00000000-0000-4000-8000-000000000002", "user_id": "alice", "title": "two, edited", "stars": 2, "due": null, "instance_id": "i",
                 "created_at": "2026-01-01T10:00:00.000Z", "updated_at": "2026-01-01T10:05:00.000Z", "deleted_at": null}], "deleted": []}}') AT TIME ZONE 'UTC';
SELECT t.push('{"app.note": {"created": [], "updated": [{"id": "00000000-0000-4000-8000-000000000002", "user_id": "alice", "title": "two, before", "stars": 2, "due": null,
                 "created_at": "2026-01-01T10:00:00.000Z", "updated_at": "2026-01-01T10:04:00.000Z", "deleted_at": null},
                {"id": "00000000-0000-4000-8000-000000000001", "user_id": "alice", "title": "one, at once", "stars": 1, "due": null,
                 "created_at": "2026-01-01T10:00:00.000Z", "updated_at": "2026-01-01T10:00:00.000001Z", "deleted_at": null}], "deleted": []}}') AT TIME ZONE 'UTC';
SELECT t.rows();

\echo
\echo -- A deletion is the row with deleted_at; updated_at may be as before, and the row may stand in another array, too. It is as late as deleted_at.
SELECT t.push('{"app.note": {
    "created": [],
    "updated": [{"id": "00000000-0000-4000-8000-000000000001", "user_id": "alice", "title": "one", "stars": 1, "due": null,
                 "created_at": "2026-01-01T10:00:00.000Z", "updated_at": "2026-01-01T10:00:00.000002Z", "deleted_at": "2026-01-01T11:00:00.000Z"}],
    "deleted": [{"id": "00000000-0000-4000-8000-000000000001", "user_id": "alice", "title": "one", "stars": 1, "due": null,
                 "created_at": "2026-01-01T10:00:00.000Z", "updated_at": "2026-01-01T10:00:00.000002Z", "deleted_at": "2026-01-01T11:00:00.000Z"}]}}') AT TIME ZONE 'UTC';
SELECT t.rows();
\echo -- An edit from before it is not written, a later one brings the row back.
SELECT t.push('{"app.note": {"created": [], "updated": [{"id": "00000000-0000-4000-8000-000000000001", "user_id": "alice", "title": "one, before", "stars": 1, "due": null,
                 "created_at": "2026-01-01T10:00:00.000Z", "updated_at": "2026-01-01T10:59:00.000Z", "deleted_at": null}], "deleted": []}}') AT TIME ZONE 'UTC';
SELECT t.rows();
SELECT t.push('{"app.note": {"created": [], "updated": [{"id": "00000000-0000-4000-8000-000000000001", "user_id": "alice", "title": "one, again", "stars": 1, "due": null,
                 "created_at": "2026-01-01T10:00:00.000Z", "updated_at": "2026-01-01T11:01:00.000Z", "deleted_at": null}], "deleted": []}}') AT TIME ZONE 'UTC';
SELECT t.rows();
\echo -- A deletion from before the edit: the edit stands.
SELECT t.push('{"app.note": {"created": [], "updated": [], "deleted": [{"id": "00000000-0000-4000-8000-000000000001", "user_id": "alice", "title": "one", "stars": 1, "due": null,
                 "created_at": "2026-01-01T10:00:00.000Z", "updated_at": "2026-01-01T10:00:00.000002Z", "deleted_at": "2026-01-01T11:00:30.000Z"}]}}') AT TIME ZONE 'UTC';
\echo -- Made and deleted before it was ever pushed.
SELECT t.push('{"app.note": {
    "created": [{"id": "00000000-0000-4000-8000-000000000003", "user_id": "alice", "title": "three", "stars": 3, "due": null,
                 "created_at": "2026-01-01T12:00:00.000Z", "updated_at": "2026-01-01T12:00:00.000Z", "deleted_at": "2026-01-01T12:01:00.000Z"}],
    "updated": [],
    "deleted": [{"id": "00000000-0000-4000-8000-000000000003", "user_id": "alice", "title": "three", "stars": 3, "due": null,
                 "created_at": "2026-01-01T12:00:00.000Z", "updated_at": "2026-01-01T12:00:00.000Z", "deleted_at": "2026-01-01T12:01:00.000Z"}]}}') AT TIME ZONE 'UTC';
SELECT t.rows();
\echo -- An id alone, as generated code of the client sends it: deleted now.
SELECT t.push('{"app.note": {"created": [], "updated": [], "deleted": ["00000000-0000-4000-8000-000000000001"]}}') > now() - interval '1 minute';
SELECT title, deleted_at = updated_at, deleted_at > now() - interval '1 minute' FROM app.note WHERE id = '00000000-0000-4000-8000-000000000001';

\echo
\echo -- Times without Z are local ones where the device is, of which its clock tells.
RESET ROLE;
SELECT push_changes(_changes => format('{"app.note": {"created": [{"id": "00000000-0000-4000-8000-000000000004", "user_id": "alice", "title": "four", "stars": 0,
        "due": "2026-03-01T12:00:00.000", "created_at": "2026-01-01T12:00:00.000Z", "updated_at": "2026-01-01T12:00:00.000", "deleted_at": null}]}}')::json,
    last_pulled_at => to_json(to_char(now() AT TIME ZONE 'UTC' + interval '5 hours 30 minutes', 'YYYY-MM-DD"T"HH24:MI:SS.US'))) AT TIME ZONE 'UTC';
SELECT due AT TIME ZONE 'UTC' AS due, updated_at AT TIME ZONE 'UTC' AS updated_at FROM app.note WHERE title = 'four';
\echo -- A clock that is ahead: the answer is the time of the server.
SELECT push_changes(_changes => format('{"app.note": {"created": [{"id": "00000000-0000-4000-8000-000000000005", "user_id": "alice", "title": "five", "stars": 0, "due": null,
        "created_at": "2926-01-01T12:00:00.000Z", "updated_at": "2926-01-01T12:00:00.000Z", "deleted_at": null}]}}')::json,
    last_pulled_at => '"2926-01-01T12:00:00.000"') BETWEEN now() AND clock_timestamp();

\echo
\echo -- Marked as deleted by somebody else, with updated_at as it was; gone for good; moved out of sight. The client must take the row for newer.
UPDATE app.note SET deleted_at = '2026-06-01 00:00+00' WHERE title = 'four';
CREATE FUNCTION t.cursor() RETURNS text LANGUAGE sql AS $$ SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') $$;
-- (Times are told apart by what writers leave every 5 ms.)
SET snapsync.timestamp_slack = 0;
UPDATE app.note SET stars = stars WHERE title = 'five' AND pg_sleep(0.02) IS NOT NULL;
SELECT t.cursor() AS c FROM pg_sleep(0.02) \gset
SELECT pg_sleep(0.02) \g /dev/null
INSERT INTO app.note VALUES ('00000000-0000-4000-8000-00000000000f', 'bob', 'never seen', 0, null, now(), now(), null);
DELETE FROM app.note WHERE title IN ('two, edited', 'never seen');
UPDATE app.note SET user_id = 'bob' WHERE title = 'four';
SET ROLE alice;
SELECT a.key, r ->> 'id' AS id, r ->> 'title' AS title, r ->> 'user_id' AS user_id, r ->> 'stars' AS stars, r ->> 'due' AS due,
       (r ->> 'deleted_at')::timestamptz BETWEEN now() - interval '1 s' AND clock_timestamp(), (r ->> 'updated_at')::timestamptz >= now() - interval '1 s', r ->> 'created_at' = r ->> 'deleted_at',
       r ->> 'updated_at' LIKE '%Z'
FROM json_each(pull_changes('{app.note}', :'c') -> 'changes' -> 'app.note') AS a, json_array_elements(a.value) AS r WHERE r ->> 'id' ~ '[24]$' ORDER BY a.key, id;
\echo -- An edit of what is gone: it does not come back, and the next pull says so once more.
UPDATE app.note SET stars = stars WHERE title = 'five' AND pg_sleep(0.02) IS NOT NULL;
SELECT t.cursor() AS c FROM pg_sleep(0.02) \gset
SELECT pg_sleep(0.02) \g /dev/null
SELECT t.push('{"app.note": {"created": [], "updated": [{"id": "00000000-0000-4000-8000-000000000002", "user_id": "alice", "title": "two, later", "stars": 2, "due": null,
                 "created_at": "2026-01-01T10:00:00.000Z", "updated_at": "2026-01-01T10:06:00.000Z", "deleted_at": null}], "deleted": []}}') AT TIME ZONE 'UTC';
SELECT count(*) FROM app.note WHERE title LIKE 'two%';
SELECT a.key, r ->> 'id' AS id, r ->> 'title' AS title, r ->> 'deleted_at' IS NOT NULL
FROM json_each(pull_changes('{app.note}', :'c') -> 'changes' -> 'app.note') AS a, json_array_elements(a.value) AS r WHERE r ->> 'id' ~ '[24]$' ORDER BY a.key, id;
\echo -- Bob hears nothing of that, and sees what is his.
SET ROLE bob;
SELECT pull_changes('{app.note}', :'c')::text LIKE '%000000000002%';
SELECT a.key, r ->> 'title' AS title
FROM json_each(pull_changes('{app.note}', '2000-01-01T00:00:00.000Z') -> 'changes' -> 'app.note') AS a, json_array_elements(a.value) AS r ORDER BY a.key, title;
\echo -- A cursor that has not come yet: by more than a clock may be ahead nobody knows when that was.
SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC' + interval '1 hour', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS c \gset
SELECT json_array_length(pull_changes('{app.note}', :'c') -> 'changes' -> 'app.note' -> 'updated'), pull_changes('{app.note}', :'c') ->> 'reason';
SET snapsync.timestamp_slack = '2h';
SELECT json_array_length(pull_changes('{app.note}', :'c') -> 'changes' -> 'app.note' -> 'updated');
RESET snapsync.timestamp_slack;
RESET ROLE;

\echo
\echo -- Settings of the collection that the client needs; rights; bad times.
CREATE TABLE plain (id uuid PRIMARY KEY, updated_at timestamptz);
SELECT snapsync.enable('plain');
SELECT * FROM t.error($$SELECT t.push('{"plain": {"created": [{"id": "00000000-0000-4000-8000-000000000001", "updated_at": null}]}}')$$);
SELECT * FROM t.error($$SELECT push_changes(_changes => '{}', last_pulled_at => '"yesterday"')$$);
SELECT * FROM t.error($$SELECT push_changes(_changes => '{}', last_pulled_at => '17')$$);
SELECT * FROM t.error($$SELECT push_changes(_changes => null, last_pulled_at => '"2026-01-01T00:00:00.000"')$$);
SELECT * FROM t.error($$SELECT t.push('{"app.note": {"created": [{"id": "00000000-0000-4000-8000-000000000006", "user_id": "alice", "title": "x",
    "created_at": "2026-01-01T12:00:00.000Z", "updated_at": "soon", "deleted_at": null}]}}')$$);
SET ROLE bob;
SELECT * FROM t.error($$SELECT t.push('{"app.note": {"created": [{"id": "00000000-0000-4000-8000-000000000006", "user_id": "alice", "title": "x",
    "created_at": "2026-01-01T12:00:00.000Z", "updated_at": "2026-01-01T12:00:00.000Z", "deleted_at": null}]}}')$$);
RESET ROLE;

\echo
\echo -- What Dart cannot read is not sent: infinity, years of five digits, offsets with seconds.
INSERT INTO app.note VALUES
    ('00000000-0000-4000-8000-0000000000a1', 'carol', 'a', 0, 'infinity', '-infinity', 'infinity', null),
    ('00000000-0000-4000-8000-0000000000a2', 'carol', 'b', 0, '1800-01-01 00:00+00', '20000-01-01 00:00+00', '294276-12-31 23:59:59.999999+00', null);
GRANT SELECT ON app.note TO carol;
SET ROLE carol;
SELECT t.rows();
RESET ROLE;

\echo
\echo -- So it is in columns without a zone, whose times are those of UTC, in whatever zone the session is, and the mark of a deletion as well.
CREATE TABLE app.plain (id text PRIMARY KEY, title text, due timestamp, created_at timestamp NOT NULL DEFAULT now(), updated_at timestamp NOT NULL DEFAULT now(), deleted_at timestamp);
GRANT ALL ON app.plain TO alice;
SELECT snapsync.enable('app.plain', conflict => 'last_write_wins', version_column => 'updated_at', soft_delete_column => 'deleted_at');
SET TimeZone = 'America/New_York';
SELECT push_changes(_changes => '{"app.plain": {"created": [
        {"id": "1", "title": "local", "due": "2026-03-01T12:00:00.000", "created_at": "2026-01-01T12:00:00.000Z", "updated_at": "2026-01-01T12:00:00.000", "deleted_at": null},
        {"id": "2", "title": "other", "due": "2026-03-01T12:00:00+02:00", "created_at": "2026-01-01T12:00:00.000-05:00", "updated_at": "2026-01-01T12:00:00.000", "deleted_at": null}]}}'::json,
    last_pulled_at => to_json(to_char(now() AT TIME ZONE 'UTC' + interval '5 hours 30 minutes', 'YYYY-MM-DD"T"HH24:MI:SS.US'))) IS NOT NULL;
SELECT title, due, created_at, updated_at FROM app.plain ORDER BY id;
SELECT push_changes('{"app.plain": {"deleted": ["1"]}}', NULL, 'watermelondb');
SELECT deleted_at BETWEEN timezone('UTC', now() - interval '1 minute') AND timezone('UTC', now() + interval '1 minute') AS now FROM app.plain WHERE id = '1';
RESET TimeZone;

\echo
\echo -- What was deleted before comes back with its list, although a trigger of the list has touched it by then.
CREATE TABLE app.lists (id text PRIMARY KEY, created_at timestamptz, updated_at timestamptz, deleted_at timestamptz);
CREATE TABLE app.todos (id text PRIMARY KEY, list_id text, hidden boolean NOT NULL DEFAULT false, created_at timestamptz, updated_at timestamptz, deleted_at timestamptz);
CREATE FUNCTION app.hide() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN UPDATE app.todos SET hidden = new.deleted_at IS NOT NULL WHERE list_id = new.id; RETURN NULL; END $$;
CREATE TRIGGER hide AFTER UPDATE OF deleted_at ON app.lists FOR EACH ROW EXECUTE FUNCTION app.hide();
ALTER TABLE app.todos ENABLE ROW LEVEL SECURITY;
CREATE POLICY s ON app.todos FOR SELECT USING (true);
CREATE POLICY u ON app.todos FOR UPDATE USING (NOT hidden);
INSERT INTO app.lists VALUES ('1', '2026-01-01', '2026-01-02', '2026-01-02');
INSERT INTO app.todos VALUES ('a', '1', true, '2026-01-01', '2026-01-02', '2026-01-02');
GRANT SELECT, INSERT, UPDATE ON app.lists, app.todos TO alice;
SELECT snapsync.enable('app.lists', conflict => 'last_write_wins', version_column => 'updated_at', soft_delete_column => 'deleted_at'),
    snapsync.enable('app.todos', conflict => 'last_write_wins', version_column => 'updated_at', soft_delete_column => 'deleted_at', readonly => '{hidden}');
SET ROLE alice;
SELECT t.push('{"app.lists": {"created": [], "updated": [{"id": "1", "created_at": "2026-01-01T10:00:00.000Z", "updated_at": "2026-01-03T10:00:00.000Z", "deleted_at": null}], "deleted": []},
    "app.todos": {"created": [], "updated": [{"id": "a", "list_id": "1", "created_at": "2026-01-01T10:00:00.000Z", "updated_at": "2026-01-03T10:00:00.000Z", "deleted_at": null}], "deleted": []}}', '2026-01-03T10:00:00.000') IS NOT NULL AS pushed;
RESET ROLE;
SELECT l.deleted_at IS NULL AND t.deleted_at IS NULL AND NOT hidden AS back FROM app.lists AS l, app.todos AS t;

\echo
\echo -- A list that is deleted takes along what was created in it or moved to it before that, by a trigger.
CREATE TABLE lists (id text PRIMARY KEY, created_at timestamptz, updated_at timestamptz, deleted_at timestamptz);
CREATE TABLE todos (id text PRIMARY KEY, list text REFERENCES lists, created_at timestamptz, updated_at timestamptz, deleted_at timestamptz);
CREATE FUNCTION mark() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE todos SET deleted_at = new.deleted_at WHERE list = new.id AND deleted_at IS NULL; RETURN NULL; END $$;
CREATE TRIGGER mark AFTER UPDATE ON lists FOR EACH ROW WHEN (new.deleted_at IS NOT NULL AND old.deleted_at IS NULL) EXECUTE FUNCTION mark();
GRANT ALL ON lists, todos TO alice;
INSERT INTO lists SELECT n, '2026-01-01', '2026-01-01' FROM unnest('{1,2,3}'::text[]) AS n;
INSERT INTO todos SELECT 'of ' || n, n, '2026-01-01', '2026-01-01' FROM unnest('{1,2}'::text[]) AS n;
SELECT snapsync.enable(n::regclass, conflict => 'last_write_wins', version_column => 'updated_at', soft_delete_column => 'deleted_at') FROM unnest('{lists,todos}'::text[]) AS n;
CREATE FUNCTION t.row(id text, list text DEFAULT NULL, deleted text DEFAULT NULL) RETURNS json LANGUAGE sql AS $$
    SELECT json_strip_nulls(json_build_object('id', id, 'list', list, 'created_at', '2026-01-01T00:00:00.000Z', 'updated_at', '2026-01-01T10:00:00.000Z', 'deleted_at', deleted)) $$;
CREATE FUNCTION t.push_rows(list json, created json, updated json) RETURNS timestamptz LANGUAGE sql AS $$
    SELECT t.push(json_build_object('lists', json_build_object('updated', json_build_array(list)),
                                    'todos', json_build_object('created', json_build_array(created), 'updated', json_build_array(updated)))) $$;
SET ROLE alice;
SELECT t.push_rows(t.row('1', deleted => '2026-01-01T11:00:00.000Z'), t.row('new', '1'), t.row('of 2', '1')) IS NOT NULL;
SELECT id, list, deleted_at IS NOT NULL AS deleted FROM todos ORDER BY id;
\echo -- Where it was moved off the list, and the stored one is later and stays, it does not go with the list: the push fails, until its client has taken the stored one.
RESET ROLE;
INSERT INTO todos VALUES ('of 3', '3', '2026-01-01', '2026-01-01 12:00:00Z');
SET ROLE alice;
SELECT * FROM t.error($$SELECT t.push_rows(t.row('3', deleted => '2026-01-01T11:00:00.000Z'), t.row('newer', '2'), t.row('of 3', '2'))$$);
SELECT t.push_rows(t.row('3', deleted => '2026-01-01T11:00:00.000Z'), t.row('newer', '2'), t.row('of 3', '3')) IS NOT NULL;
SELECT id, list, deleted_at IS NOT NULL AS deleted FROM todos ORDER BY id;
RESET ROLE;

\connect postgres
SET client_min_messages = warning;
DROP DATABASE regress_drift;
