-- schema_version and migration, as WatermelonDB sends them after the app got another version: all rows of tables that the device did not
-- have, and the rows with a value in a column that it did not have.
\set ECHO none
\set test regress_migrations
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET client_min_messages = warning;
CREATE FUNCTION t.migrate(collections text[], migration jsonb, last_pulled_at text, dialect text DEFAULT 'watermelondb', filter jsonb DEFAULT NULL)
RETURNS TABLE (what text, item text) LANGUAGE sql AS $$
    WITH answer AS MATERIALIZED (
        SELECT public.pull_changes(collections, last_pulled_at, dialect, filter, schema_version => 2, migration => migration) AS answer)
    SELECT c.key || '.' || a.key, i.value::text
    FROM answer, json_each(answer -> 'changes') AS c, json_each(c.value) AS a, json_array_elements(a.value) AS i
    UNION ALL
    SELECT s.key || ' by ' || s.value, NULL FROM answer, json_each_text(answer #> '{experimentalStrategy,override}') AS s
    ORDER BY 1, 2
$$;
\set ECHO all
SELECT t.secured('lists', ', who name DEFAULT ''alice'', name text', 'who = current_user');
SELECT t.secured('tasks', ', who name DEFAULT ''alice'', title text', 'who = current_user');
INSERT INTO lists VALUES (1, 'alice', 'a'), (2, 'alice', 'b'), (3, 'bob', 'c'), (4, 'alice', 'd');
INSERT INTO tasks VALUES (1, 'alice', 'a'), (2, 'alice', 'b');
SET ROLE alice;
SELECT t.catch_up('lists');
RESET ROLE;
-- The server's version comes first: with values, for rows that the old app is sent and does not keep them of.
ALTER TABLE lists ADD COLUMN colour text, ADD COLUMN size int;
UPDATE lists SET colour = 'red' WHERE id IN (1, 3);
UPDATE lists SET size = 0 WHERE id = 2;
SET ROLE alice;
SELECT t.pull_ids('lists');
-- The new app. Nothing has changed since; one row has changed, is gone, is new.
\set migration '{"from": 1, "tables": ["tasks", "only_local"], "columns": [{"table": "lists", "columns": ["colour", "size", "only_local"]}, {"table": "only_local", "columns": ["x"]}]}'
SELECT * FROM t.migrate('{lists,tasks}', :'migration', current_setting('t.cursor'));
SELECT * FROM t.migrate('{lists,tasks}', '{"from": 1, "tables": [], "columns": [{"table": "lists", "columns": ["size"]}]}', current_setting('t.cursor'));
SELECT * FROM t.migrate('{lists,tasks}', '{"from": 1, "tables": ["tasks"], "columns": []}', current_setting('t.cursor'), 'postgrest');
RESET ROLE;
UPDATE lists SET name = 'a2' WHERE id = 1; DELETE FROM lists WHERE id = 2; INSERT INTO lists VALUES (5, 'alice', 'e', 'blue'); INSERT INTO tasks VALUES (3);
UPDATE lists SET who = 'alice' WHERE id = 3; UPDATE lists SET who = 'bob' WHERE id = 4;
SET ROLE alice;
SELECT * FROM t.migrate('{lists,tasks}', :'migration', current_setting('t.cursor'));
-- A first pull has all of it anyway; so has a replacement. No migration, and none of what is pulled.
SELECT * FROM t.migrate('{lists}', :'migration', NULL);
SELECT * FROM t.migrate('{lists}', :'migration', '7');
SELECT * FROM t.migrate('{lists}', NULL, current_setting('t.cursor'));
SELECT * FROM t.migrate('{lists}', 'null', current_setting('t.cursor'));
SELECT * FROM t.migrate('{tasks}', '{"from": 1, "tables": ["lists"], "columns": []}', current_setting('t.cursor'));

-- No value leaves of a column that the role may not read: rows do not come for it.
RESET ROLE;
SELECT t.secured('hidden', ', shown int, secret int', 'true');
REVOKE SELECT ON hidden FROM PUBLIC;
GRANT SELECT (id, shown) ON hidden TO PUBLIC;
INSERT INTO hidden VALUES (1, NULL, 1), (2, 2, NULL);
SET ROLE alice;
SELECT t.catch_up('hidden');
SELECT * FROM t.migrate('{hidden}', '{"from": 1, "tables": [], "columns": [{"table": "hidden", "columns": ["shown", "secret"]}]}', current_setting('t.cursor'));
RESET ROLE;
-- Excluded columns, scopes, rows that are marked as deleted, columns of composite types.
CREATE TYPE pair AS (a int, b int);
CREATE TABLE scoped (id int PRIMARY KEY, team int, gone boolean DEFAULT false, note text, p pair, out_of_it int);
INSERT INTO scoped VALUES (1, 1, false, 'x', NULL, 1), (2, 2, false, 'x', NULL, 1), (3, 1, true, 'x', NULL, 1), (4, 1, false, NULL, '(,)', 1), (5, 1, false, NULL, NULL, 1);
GRANT SELECT ON scoped TO PUBLIC;
SELECT snapsync.enable('scoped', scope_column => 'team', soft_delete_column => 'gone', exclude => '{out_of_it}');
SET ROLE alice;
SELECT t.catch_up('scoped');
SELECT * FROM t.migrate('{scoped}', '{"from": 1, "tables": [], "columns": [{"table": "scoped", "columns": ["note", "p", "out_of_it"]}]}', current_setting('t.cursor'), filter => '{"scoped": {"team": 1}}');
-- A new column with a default is in every row, and the device is sent all of them; after that once for the migration.
RESET ROLE;
ALTER TABLE tasks ADD COLUMN done boolean NOT NULL DEFAULT false;
SET ROLE alice;
\set done '{"from": 1, "tables": [], "columns": [{"table": "tasks", "columns": ["done"]}]}'
SELECT what, count(*) FROM t.migrate('{tasks}', :'done', current_setting('t.cursor')) GROUP BY 1 ORDER BY 1;
SELECT t.catch_up('tasks');
SELECT what, count(*) FROM t.migrate('{tasks}', :'done', current_setting('t.cursor')) GROUP BY 1;
BEGIN READ ONLY;
SELECT what, count(*) FROM t.migrate('{lists,tasks}', :'done', current_setting('t.cursor')) GROUP BY 1;
COMMIT;
-- Names are names, never SQL; a key with several columns.
RESET ROLE;
CREATE TABLE "odd ""names" (a int, b int, "c"" OR true --" text, PRIMARY KEY (a, b));
INSERT INTO "odd ""names" VALUES (1, 1, 'x'), (1, 2, NULL), (1, 3, 'z');
GRANT SELECT ON "odd ""names" TO PUBLIC;
SELECT snapsync.enable('"odd ""names"', 'odd');
SET ROLE alice;
SELECT t.catch_up('odd');
RESET ROLE;
UPDATE "odd ""names" SET "c"" OR true --" = 'y' WHERE b = 1;
SET ROLE alice;
SELECT * FROM t.migrate('{odd}', '{"tables": [], "columns": [{"table": "odd", "columns": ["c\" OR true --", "x OR true"]}]}', current_setting('t.cursor'));

-- Bad input.
SELECT * FROM t.error($$ SELECT pull_changes('{lists}', schema_version => 0) $$);
SELECT * FROM t.error($$ SELECT pull_changes('{lists}', migration => '[]') $$);
SELECT * FROM t.error($$ SELECT pull_changes('{lists}', migration => '{"tables": "lists"}') $$);
SELECT * FROM t.error($$ SELECT pull_changes('{lists}', migration => '{"from": 1, "tables": [null], "columns": []}') $$);
SELECT * FROM t.error($$ SELECT pull_changes('{lists}', migration => '{"from": 1, "tables": [], "columns": [{"table": "lists"}]}') $$);
SELECT * FROM t.error($$ SELECT pull_changes('{lists}', migration => '{"from": 1, "table": []}') $$);
