-- A cursor for each collection: clients that get further tables with a new version of the app, or pull some more often than others.
\set ECHO none
\set test regress_since
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET client_min_messages = warning;
-- What comes of each collection, and what is replaced.
CREATE FUNCTION t.since(collections text[], since jsonb, last_pulled_at text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer json := public.pull_changes(collections, last_pulled_at, since => since);
BEGIN
    PERFORM set_config('t.cursor', answer ->> 'timestamp', false);
    RETURN (SELECT string_agg(format('%s: created %s updated %s deleted %s%s', c.key,
                       (SELECT json_agg(r -> 'id') FROM json_array_elements(c.value -> 'created') AS r),
                       (SELECT json_agg(r -> 'id') FROM json_array_elements(c.value -> 'updated') AS r), c.value -> 'deleted',
                       coalesce(' ' || (answer #>> ARRAY['experimentalStrategy', 'override', c.key]), '')), '; ')
            FROM json_each(answer -> 'changes') AS c);
END
$$;
\set ECHO all
SELECT t.secured('projects', ', who name DEFAULT ''alice''', 'who = current_user'), t.secured('tasks', ', who name DEFAULT ''alice''', 'who = current_user');
INSERT INTO projects VALUES (1), (2); INSERT INTO tasks VALUES (1), (2);
SET ROLE alice;
SELECT t.since('{projects}', NULL);
SELECT current_setting('t.cursor') AS a \gset
RESET ROLE;
INSERT INTO projects VALUES (3); INSERT INTO tasks VALUES (3);
SET ROLE alice;
-- null: the client has nothing of it. So has it of what is not named, unless last_pulled_at says other.
SELECT t.since('{projects,tasks}', format('{"projects": %s, "tasks": null}', :'a')::jsonb);
SELECT t.since('{projects,tasks}', format('{"projects": %s}', :'a')::jsonb);
SELECT t.since('{projects,tasks}', '{"tasks": null}', :'a');
SELECT t.since('{projects,tasks}', '{}', :'a');
SELECT t.since('{projects,tasks}', 'null', :'a');
-- As text, as a time, as 0; of a collection that is not pulled now.
SELECT t.since('{projects,tasks}', format('{"projects": "%s", "tasks": 0, "others": 17}', :'a')::jsonb);
SELECT t.since('{projects}', '{"projects": "2020-01-01T00:00:00Z"}');
-- The one timestamp stands for all of them.
SELECT t.since('{projects,tasks}', format('{"projects": %s}', :'a')::jsonb);
SELECT current_setting('t.cursor') AS b \gset
RESET ROLE;
DELETE FROM projects WHERE id = 1; UPDATE tasks SET who = 'bob' WHERE id = 1;
SET ROLE alice;
SELECT t.since('{projects,tasks}', format('{"projects": %s, "tasks": %s}', :'a', :'b')::jsonb);
SELECT t.since('{projects,tasks}', NULL, :'b');
SELECT current_setting('t.cursor') AS c \gset
SELECT t.since('{projects,tasks}', format('{"projects": %s, "tasks": %s}', :'b', :'c')::jsonb);
SELECT :b <= :c, current_setting('t.cursor')::bigint >= :b;
-- A cursor that the server cannot continue from replaces its collection, and no other.
SELECT t.since('{projects,tasks}', format('{"projects": %s, "tasks": %s}', :'c', '7')::jsonb);
SELECT t.since('{projects,tasks}', format('{"projects": %s, "tasks": %s}', :'c', '4503599627370496')::jsonb);
SELECT current_setting('t.cursor')::bigint < 4503599627370496;

-- A table that is enabled after the client's cursor was given: its rows come, as a replacement, for clients that know one cursor.
RESET ROLE;
CREATE TABLE labels (id int PRIMARY KEY);
INSERT INTO labels VALUES (1), (2);
GRANT SELECT ON labels TO PUBLIC;
SELECT snapsync.enable('labels');
SET ROLE alice;
SELECT t.since('{projects,labels}', NULL, :'c');
SELECT t.since('{projects,labels}', format('{"projects": %s, "labels": null}', :'c')::jsonb);
RESET ROLE;
SELECT snapsync.disable('labels');
INSERT INTO labels VALUES (3);
SELECT snapsync.enable('labels');
SET ROLE alice;
SELECT t.since('{labels}', NULL, :'c');
-- By its two names.
SELECT t.since('{public.projects}', format('{"public.projects": %s, "projects": null}', :'c')::jsonb);
-- In READ ONLY and REPEATABLE READ transactions.
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT t.since('{projects,tasks}', format('{"projects": %s, "tasks": null}', :'a')::jsonb);
COMMIT;

-- In pages: each collection from its own cursor on, and the token belongs to these.
CREATE FUNCTION pg_temp.pages(since jsonb, migration jsonb DEFAULT NULL, size int DEFAULT 1) RETURNS TABLE (page text) LANGUAGE plpgsql AS $$
DECLARE
    answer json;
BEGIN
    LOOP
        answer := public.pull_changes('{projects,tasks}', since => since, migration => migration, page_size => size, next => answer ->> 'next');
        RETURN QUERY SELECT concat(answer -> 'changes', answer #> '{experimentalStrategy,override}');
        EXIT WHEN answer ->> 'next' IS NULL;
    END LOOP;
    PERFORM set_config('t.cursor', answer ->> 'timestamp', false);
END
$$;
SELECT * FROM pg_temp.pages(format('{"projects": %s, "tasks": null}', :'a')::jsonb);
SELECT t.since('{projects,tasks}', NULL, current_setting('t.cursor'));
SELECT pull_changes('{projects,tasks}', since => format('{"projects": %s}', :'a')::jsonb, page_size => 1) ->> 'next' AS next \gset
SELECT set_config('t.next', :'next', false) IS NOT NULL;
SELECT * FROM t.error($$ SELECT pull_changes('{projects,tasks}', since => '{}', page_size => 1, next => current_setting('t.next')) $$);
-- New columns in pages: the rows that did not change are in no part of the log, so the collection comes whole.
SELECT * FROM pg_temp.pages(format('{"projects": %s, "tasks": %1$s}', :'b')::jsonb, '{"tables": [], "columns": [{"table": "tasks", "columns": ["who"]}]}', 2);
SELECT t.since('{projects,tasks}', NULL, current_setting('t.cursor'));

-- Bad input.
SELECT * FROM t.error($$ SELECT pull_changes('{projects}', since => '[]') $$);
SELECT * FROM t.error($$ SELECT pull_changes('{projects}', since => '17') $$);
SELECT * FROM t.error($$ SELECT pull_changes('{projects}', since => '{"projects": [1]}') $$);
SELECT * FROM t.error($$ SELECT pull_changes('{projects}', since => '{"projects": true}') $$);
SELECT * FROM t.error($$ SELECT pull_changes('{projects}', since => '{"projects": 1.5}') $$);
SELECT * FROM t.error($$ SELECT pull_changes('{projects}', since => '{"projects": -1}') $$);
SELECT * FROM t.error($$ SELECT pull_changes('{projects}', since => '{"others": "soon"}') $$);
