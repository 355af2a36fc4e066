-- pull_changes: cursors, arrays, names, dialects.
\set ECHO none
\set test regress_pull
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE todos (id text PRIMARY KEY, title text, done boolean NOT NULL DEFAULT false);
CREATE TABLE lists (id int PRIMARY KEY, name text);
CREATE SCHEMA app;
CREATE TABLE app.tags (id uuid PRIMARY KEY, word text);
SELECT snapsync.enable('todos'), snapsync.enable('lists'), snapsync.enable('app.tags');

-- The answer, its stamp put aside. It is a JSON number, larger than 0 and safe in JavaScript.
CREATE FUNCTION t.answer(a json) RETURNS text LANGUAGE sql AS $$
    SELECT regexp_replace(a::text, '"timestamp":\d+', '"timestamp":n')
$$;
-- Empty collections: all three arrays.
SELECT t.answer(pull_changes('{todos,lists}'));
SELECT json_typeof(a -> 'timestamp'), (a ->> 'timestamp')::numeric BETWEEN 1 AND 2::numeric ^ 53 - 1 FROM pull_changes('{todos}') AS a;
SELECT pg_typeof(pull_changes('{todos}'));

-- A first pull: null, '', 0 and the text null are the same.
INSERT INTO todos VALUES ('a', 'first', false), ('b', 'second', true);
INSERT INTO lists VALUES (1, 'groceries');
SELECT t.answer(pull_changes('{todos,lists}'));
SELECT count(DISTINCT t.answer(pull_changes('{todos,lists}', c))) FROM unnest('{NULL,"",0,null," 0 "}'::text[]) AS c;
SELECT FROM t.pull('{todos,lists}');

-- Incremental: created, updated, deleted; each once; then nothing.
UPDATE todos SET title = 'FIRST' WHERE id = 'a';
INSERT INTO todos VALUES ('c', 'third');
DELETE FROM todos WHERE id = 'b';
UPDATE todos SET done = true WHERE id = 'c';
SELECT * FROM t.pull('{todos,lists}');
SELECT * FROM t.pull('{todos,lists}');
SELECT t.answer(pull_changes('{todos,lists}', current_setting('t.cursor')));
-- Inserted and deleted between two pulls, in two transactions: an id too many is harmless, a row is not there.
INSERT INTO todos VALUES ('d'); DELETE FROM todos WHERE id = 'd';
SELECT * FROM t.pull('{todos}') WHERE what <> 'todos.deleted';
-- Deleted and inserted again: the client knows the row.
DELETE FROM todos WHERE id = 'c'; INSERT INTO todos VALUES ('c', 'reborn');
SELECT * FROM t.pull('{todos}');
-- A cursor may be used again: the same comes again.
SELECT current_setting('t.cursor') AS kept \gset
INSERT INTO todos VALUES ('e', 'fifth');
SELECT * FROM t.pull('{todos}', :'kept');
SELECT * FROM t.pull('{todos}', :'kept');
-- An unchanged database gives the same cursor; a change moves it.
SELECT a ->> 'timestamp' = current_setting('t.cursor') FROM pull_changes('{todos}', current_setting('t.cursor')) AS a;
INSERT INTO lists VALUES (2, 'other');
SELECT (a ->> 'timestamp')::bigint > current_setting('t.cursor')::bigint FROM pull_changes('{todos}', current_setting('t.cursor')) AS a;

-- One snapshot for all collections, and collections may be asked for one by one with cursors of their own.
SELECT t.catch_up('todos', 'lists');
BEGIN; INSERT INTO lists VALUES (3, 'both'); INSERT INTO todos VALUES ('f', 'both'); COMMIT;
SELECT * FROM t.pull('{lists,todos}');

-- Names: the keys are what the caller wrote. public. may stand before, outside public it must be there.
SELECT t.answer(pull_changes('{public.todos,app.tags}', current_setting('t.cursor')));
SELECT t.answer(pull_changes('{todos,public.todos}', current_setting('t.cursor')));
SELECT t.answer(pull_changes('{todos,todos}', current_setting('t.cursor')));
SELECT * FROM t.error($$ SELECT pull_changes('{tags}') $$);
SELECT * FROM t.error($$ SELECT pull_changes('{app.todos}') $$);
SELECT * FROM t.error($$ SELECT pull_changes('{TODOS}') $$);
SELECT t.answer(pull_changes('{}'));

-- Resets: all that is there, in place of what the client has.
SELECT t.catch_up('todos', 'lists');
TRUNCATE lists;
INSERT INTO lists VALUES (7, 'after');
INSERT INTO todos VALUES ('g', 'as usual');
SELECT t.answer(pull_changes('{todos,lists}', current_setting('t.cursor')));
SELECT * FROM t.pull('{todos,lists}');
SELECT * FROM t.pull('{todos,lists}');
-- A cursor ahead of the clock comes from another history; one that is larger than JavaScript's numbers as well.
SELECT * FROM t.pull('{lists}', '9007199254740991');
SELECT * FROM t.pull('{lists}', '9223372036854775807');
SELECT * FROM t.pull('{lists}');
-- The clock's next value is what a client without news has: no reset.
SELECT t.answer(pull_changes('{lists}', ((last_value | 3) + 1)::text)) FROM snapsync.clock;
SELECT t.answer(pull_changes('{lists}', ((last_value | 3) + 5)::text)) FROM snapsync.clock;

-- A wall-clock cursor: what is known to be older than it by the slack, so it may bring more than needed, never less.
SELECT * FROM t.pull('{lists}', '2000-01-01T00:00:00.000Z');
SELECT count(*) >= 0 FROM t.pull('{lists}', '9999-12-31T23:59:59Z');
SET snapsync.timestamp_slack = 0;
SELECT pg_sleep(0.05);
INSERT INTO lists VALUES (8, 'before');
SELECT pg_sleep(0.05);
SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS now \gset
SELECT pg_sleep(0.05);
INSERT INTO lists VALUES (9, 'after');
SELECT item FROM t.pull('{lists}', :'now') WHERE item ~ ':9,';
-- 'before' may come again; with nothing since, nothing is missed either.
SELECT count(*) FROM t.pull('{lists}', :'now') WHERE item ~ ':7,';
RESET snapsync.timestamp_slack;

-- send_created_as_updated: for clients that do not tell the two apart.
SELECT t.catch_up('todos');
INSERT INTO todos VALUES ('h', 'eighth');
UPDATE todos SET title = 'x' WHERE id = 'a';
DELETE FROM todos WHERE id = 'e';
SELECT * FROM t.pull('{todos}', current_setting('t.cursor'), send_created_as_updated => true);
SELECT what, count(*) FROM t.pull('{todos}', NULL, send_created_as_updated => true) GROUP BY what;

-- client_id: what a client has pushed itself never comes back to it as created.
SELECT t.catch_up('todos');
SELECT push_changes('{"todos": {"created": [{"id": "i", "title": "mine"}], "updated": [{"id": "a", "title": "mine"}], "deleted": ["f"]}}',
                    last_pulled_at => current_setting('t.cursor'), client_id => 'phone');
INSERT INTO todos VALUES ('j', 'somebody else''s');
SELECT current_setting('t.cursor') AS kept \gset
SELECT * FROM t.pull('{todos}', :'kept', client_id => 'phone');
SELECT * FROM t.pull('{todos}', :'kept', client_id => 'tablet');
SELECT * FROM t.pull('{todos}', :'kept');
-- Changed by others since: the news comes, still not as created.
UPDATE todos SET title = 'changed' WHERE id = 'i';
SELECT * FROM t.pull('{todos}', :'kept', client_id => 'phone') WHERE item ~ '"i"';
-- What it has deleted, and somebody else has made anew since, is new to it, until it has pushed it itself; to others it is the row that they had.
INSERT INTO todos VALUES ('f', 'made anew');
SELECT * FROM t.pull('{todos}', :'kept', client_id => 'phone') WHERE item ~ '"f"';
SELECT * FROM t.pull('{todos}', :'kept', client_id => 'tablet') WHERE item ~ '"f"';
UPDATE todos SET title = 'and changed' WHERE id = 'f';
SELECT * FROM t.pull('{todos}', :'kept', client_id => 'phone') WHERE item ~ '"f"';
SELECT push_changes('{"todos": {"updated": [{"id": "f", "title": "mine"}], "deleted": ["i"]}}', client_id => 'phone');
SELECT * FROM t.pull('{todos}', :'kept', client_id => 'phone') WHERE item ~ '"[fi]"';
INSERT INTO todos VALUES ('i', 'made anew');
SELECT * FROM t.pull('{todos}', :'kept', client_id => 'phone') WHERE item ~ '"i"';
SELECT * FROM t.pull('{todos}', :'kept', client_id => 'tablet') WHERE item ~ '"i"';
-- The same where a deletion marks the row.
CREATE TABLE marked (id text PRIMARY KEY, title text, gone boolean NOT NULL DEFAULT false);
SELECT snapsync.enable('marked', soft_delete_column => 'gone');
INSERT INTO marked VALUES ('a', 'mine', false), ('b', 'theirs', false), ('c', 'edited', false), ('d', 'both', false);
SELECT t.catch_up('marked');
SELECT current_setting('t.cursor') AS kept \gset
SELECT push_changes('{"marked": {"deleted": ["a", "d"], "updated": [{"id": "c", "title": "mine"}]}}', :'kept', client_id => 'phone');
UPDATE marked SET gone = true WHERE id IN ('b', 'c');
UPDATE marked SET title = 'while it was gone';
SELECT * FROM t.pull('{marked}', :'kept', client_id => 'phone');
UPDATE marked SET gone = false;
SELECT push_changes('{"marked": {"updated": [{"id": "d", "title": "mine"}]}}', client_id => 'phone');
SELECT * FROM t.pull('{marked}', :'kept', client_id => 'phone');
SELECT * FROM t.pull('{marked}', :'kept', client_id => 'tablet');

-- Dialects: by argument, by setting; the argument wins.
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TYPE point3 AS (x int, y text);
CREATE TABLE typed (
    id bigint PRIMARY KEY, at timestamptz, local timestamp, day date, doc json, docb jsonb, list int[], texts text[], comp point3,
    n numeric, big int8, f float8, ok boolean, m mood, tod time, span interval, bytes bytea, u uuid, r int4range
);
SELECT snapsync.enable('typed');
INSERT INTO typed VALUES (9007199254740993, '2026-11-21 07:50:00.123456+00', '2026-11-21 07:50:00.5', '2026-11-21', '{"a":  [1, 1.10]}', '{"b": null}',
    '{1,NULL,3}', '{"a,b",NULL,"\"q\""}', '(1,"x,y")', 12345678901234567890.12345, 9223372036854775807, 0.1, true, 'good', '07:50', '1 day 2 hours',
    '\xdeadbeef', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '[1,5)'), (2, 'infinity', '-infinity', '1969-12-31', NULL, NULL, NULL, NULL, NULL, 'NaN', 0, 'NaN', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SET timezone = 'UTC';
SELECT item FROM t.pull('{typed}', NULL, dialect => 'postgrest');
SELECT item FROM t.pull('{typed}', NULL, dialect => 'watermelondb');
-- Numbers do not depend on the session's settings.
SET timezone = 'Asia/Tokyo'; SET DateStyle = 'SQL, DMY'; SET IntervalStyle = 'iso_8601'; SET extra_float_digits = -5; SET bytea_output = 'escape';
SELECT item::json -> 'at', item::json -> 'local', item::json -> 'day' FROM t.pull('{typed}', NULL, dialect => 'watermelondb');
RESET ALL;
SET timezone = 'UTC';
SET snapsync.dialect = 'watermelondb';
SELECT item FROM t.pull('{lists}', NULL) LIMIT 1;
SELECT item FROM t.pull('{lists}', NULL, dialect => 'postgrest') LIMIT 1;
SET snapsync.dialect = 'nonsense';
RESET snapsync.dialect;
SELECT * FROM t.error($$ SELECT pull_changes('{lists}', dialect => 'Postgrest') $$);
SELECT * FROM t.error($$ SELECT pull_changes('{lists}', dialect => '') $$);

-- Pull writes nothing.
BEGIN READ ONLY; SELECT t.answer(pull_changes('{lists}', current_setting('t.cursor'))); COMMIT;
SELECT provolatile, proparallel, prosecdef FROM pg_proc WHERE proname = 'pull_changes';
-- In a query with other things, in a function, for several cursors at once.
SELECT json_array_length(pull_changes('{lists}', c) #> '{changes,lists,created}') FROM unnest(ARRAY[NULL, '0', current_setting('t.cursor')]) AS c;
CREATE FUNCTION api_pull() RETURNS json LANGUAGE sql STABLE AS $$ SELECT pull_changes('{lists}', '0') $$;
SELECT json_array_length(api_pull() #> '{changes,lists,created}');
PREPARE p(text) AS SELECT json_array_length(pull_changes('{lists}', $1) #> '{changes,lists,created}');
EXECUTE p(NULL); EXECUTE p(NULL); EXECUTE p('0'); EXECUTE p(NULL); EXECUTE p(NULL); EXECUTE p(NULL);
