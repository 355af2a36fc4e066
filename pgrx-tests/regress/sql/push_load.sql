-- No loop over what a client sends takes more than the time that it takes to read it, or it can be interrupted: each of these is
-- answered, or refused with a reason, before the statement's time is up.
\set ECHO none
\set test regress_push_load
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE notes (id text PRIMARY KEY, title text);
CREATE TABLE readable (id text PRIMARY KEY, a text, b text);
CREATE TABLE numbered (id int PRIMARY KEY, n int);
SELECT snapsync.enable('notes'), snapsync.enable('readable'), snapsync.enable('numbered');
GRANT ALL ON notes, numbered TO alice;
GRANT SELECT, INSERT (id, a), UPDATE (a) ON readable TO alice;
INSERT INTO readable SELECT 'r' || i FROM generate_series(1, 20000) AS i;
CREATE FUNCTION t.count(answer json) RETURNS TABLE (rejected bigint, code text, message text) LANGUAGE sql AS $$
    SELECT count(*), e ->> 'code', e ->> 'message' FROM json_array_elements(answer -> 'rejected') AS e GROUP BY 2, 3
$$;
CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree, c0 int, c1 int, c2 int, c3 int, c4 int, c5 int, c6 int, c7 int, c8 int, c9 int, c10 int);
CREATE TABLE forest (id int PRIMARY KEY, parent int REFERENCES forest, c0 int, c1 int, c2 int, c3 int, c4 int, c5 int, c6 int, c7 int, c8 int, c9 int, c10 int, c11 int, c12 int);
SELECT snapsync.enable('tree'), snapsync.enable('forest');
INSERT INTO tree (id) SELECT generate_series(1, 1500);
DO $$ BEGIN EXECUTE (SELECT format('CREATE TABLE wide (id int PRIMARY KEY, %s)', string_agg('c' || i || ' int', ', ')) FROM generate_series(1, 1500) AS i); END $$;
SELECT snapsync.enable('wide');
GRANT ALL ON tree, forest, wide TO alice;
SET ROLE alice;
-- What is asked is made before the clock runs.
SELECT array_agg('n' || i) AS names FROM generate_series(1, 60000) AS i \gset
SELECT json_build_object('notes', json_build_object('updated', json_build_array(json_object_agg(k, v)))) AS columns
FROM (SELECT 'id', '"x"'::json UNION ALL SELECT '_changed', to_json(string_agg('c' || i, ',')) FROM generate_series(1, 60000) AS i
      UNION ALL SELECT 'c' || i, '1' FROM generate_series(1, 60000) AS i) AS x(k, v) \gset
SELECT json_build_object('notes', json_build_object('updated', json_agg(json_build_object('id', j, 'title', '', '_changed', c)))) AS changed
FROM generate_series(1, 200) AS j, (SELECT string_agg('c' || i, ',') FROM generate_series(1, 10000) AS i) AS x(c) \gset
SELECT json_build_object('readable', json_build_object('created', json_agg(json_build_object('id', lpad(i::text, 6, '0'), 'b', 1)))) AS denied FROM generate_series(1, 60000) AS i \gset
SELECT json_build_object('readable', json_build_object('updated', json_agg(json_build_object('id', 'r' || i, 'b', 1)), 'deleted', json_agg('d' || i))) AS denied_too FROM generate_series(1, 20000) AS i \gset
SELECT json_build_object('numbered', json_build_object('deleted', json_agg('x' || i))) AS unreadable FROM generate_series(1, 60000) AS i \gset
SELECT json_build_object('numbered', json_build_object('deleted', json_agg('x' || i))) AS some_unreadable FROM generate_series(1, 500) AS i \gset
SELECT json_build_object('notes', json_build_object('created', json_agg(json_build_object('id', i, 'gone', 1)))) AS misfits FROM generate_series(1, 60000) AS i \gset
-- Each record has another set of columns, of a table that refers to itself; each row gets the next as its parent.
SELECT json_build_object('tree', json_build_object('updated', json_agg(r))) AS tree
FROM (SELECT (json_object_agg('c' || i, n) FILTER (WHERE n >> i & 1 = 1)::jsonb || jsonb_build_object('id', n, 'parent', n % 1500 + 1)) AS r
      FROM generate_series(1, 1500) AS n, generate_series(0, 10) AS i GROUP BY n) AS x \gset
-- So many that one statement for all would take PostgreSQL some GB, and a time in which nothing ends it; the rows are new, and each has the one before it as its parent.
SELECT json_build_object('forest', json_build_object('created', json_agg(r))) AS forest
FROM (SELECT (json_object_agg('c' || i, n) FILTER (WHERE n >> i & 1 = 1)::jsonb || jsonb_build_object('id', n, 'parent', nullif(n - 1, 0))) AS r
      FROM generate_series(1, 6000) AS n, generate_series(0, 12) AS i GROUP BY n ORDER BY n) AS x \gset
-- Each has another column of a wide table, and every other row has one more, of which the client does not know.
SELECT json_build_object('wide', json_build_object('created', json_agg(json_build_object('id', i, 'c' || i, i)))) AS wide FROM generate_series(1, 1200) AS i \gset
SET statement_timeout = '8s';
\set VERBOSITY terse
SELECT pull_changes(:'names');
SELECT pull_changes(array_fill('notes'::text, '{60000}')) ->> 'changes';
SELECT push_changes(:'columns');
SELECT push_changes(:'columns', on_rejected => 'report') #>> '{rejected,0,message}';
SELECT push_changes(:'changed');
SELECT push_changes(:'denied');
SELECT * FROM t.count(push_changes(:'denied', on_rejected => 'report'));
SELECT push_changes(:'denied_too');
SELECT * FROM t.count(push_changes(:'denied_too', on_rejected => 'report'));
SELECT push_changes(:'unreadable');
SELECT push_changes(:'unreadable', on_rejected => 'report');
SELECT count(*), min(message) FROM t.count(push_changes(:'some_unreadable', on_rejected => 'report'));
SELECT * FROM t.count(push_changes(:'misfits', on_rejected => 'report'));
SELECT push_changes(:'tree');
SELECT count(*) FROM tree WHERE parent = id % 1500 + 1 AND num_nulls(c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10) = 11 - length(replace(id::bit(11)::text, '0', ''));
SELECT push_changes(:'forest');
SELECT count(*), count(parent) FROM forest;
SELECT push_changes(:'wide');
UPDATE wide SET c1500 = 0 WHERE id % 2 = 0;
SELECT pull_changes('{wide}') ->> 'timestamp' AS cursor \gset
SELECT push_changes(:'wide');
SELECT count(*), sum((u ->> 'c1500' IS NULL)::int) AS unknown FROM json_array_elements(pull_changes('{wide}', :'cursor') #> '{changes,wide,updated}') AS u;
-- Whole rows of a table with as many columns as there can be.
DO $$ BEGIN
    EXECUTE (SELECT format('CREATE TABLE broad (id int PRIMARY KEY, %s)', string_agg('c' || i || ' int', ', ' ORDER BY i)) FROM generate_series(1, 1599) AS i);
END $$;
SELECT snapsync.enable('broad');
SELECT json_agg(r) AS created, json_agg(r || '{"c2": 0, "c1599": -1}') AS updated
FROM (SELECT jsonb_object_agg('c' || i, i + n) || jsonb_build_object('id', n) AS r
      FROM generate_series(1, 3) AS n, generate_series(1, 1599) AS i GROUP BY n) AS x \gset
SELECT push_changes(json_build_object('broad', json_build_object('created', :'created'::json)));
SELECT push_changes(json_build_object('broad', json_build_object('created', :'created'::json)));
SELECT id, c1, c2, c1598, c1599 FROM broad ORDER BY id;
SELECT push_changes(json_build_object('broad', json_build_object('updated', :'updated'::json)));
SELECT id, c1, c2, c1598, c1599 FROM broad ORDER BY id;
-- Nor does it take more memory than what is sent: rows that a deferred constraint refuses are found in hundreds of trials, each with much of the push.
RESET ROLE;
CREATE TABLE chapters (id int PRIMARY KEY);
CREATE TABLE pages (id int PRIMARY KEY, chapter int REFERENCES chapters DEFERRABLE INITIALLY DEFERRED, body text);
SELECT snapsync.enable('chapters'), snapsync.enable('pages');
GRANT ALL ON chapters, pages TO alice;
SELECT json_build_object('pages', json_build_object('created', json_agg(json_build_object('id', i, 'chapter', CASE WHEN i % 2 = 1 THEN 1 END, 'body', repeat('x', 80000))))) AS homeless
FROM generate_series(1, 32) AS i \gset
-- A session of its own; so many MB its own memory has grown, at its highest, in a push.
\c -
CREATE FUNCTION t.mb() RETURNS int LANGUAGE sql AS $$
    SELECT sum(CASE m[1] WHEN 'VmHWM' THEN m[2]::int ELSE -m[2]::int END)::int / 1024
    FROM regexp_matches(pg_read_file('/proc/self/status'), '(VmHWM|RssFile|RssShmem):\s*(\d+)', 'g') AS m $$;
CREATE PROCEDURE t.push_as_alice(changes json) LANGUAGE plpgsql AS $$
DECLARE
    before int := t.mb();
    rejected int;
BEGIN
    SET ROLE alice;
    rejected := json_array_length(public.push_changes(changes, on_rejected => 'report') -> 'rejected');
    RESET ROLE;
    RAISE INFO '% are rejected %', rejected, CASE WHEN t.mb() - before < 64 THEN 'in little memory' ELSE 'in much memory' END;
END $$;
CALL t.push_as_alice(:'homeless');
SELECT count(*) FROM pages;
