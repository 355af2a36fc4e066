-- What a push tells, and what it takes: nothing of rows that its caller has no right to, whatever he names; no lock on their table.
\set ECHO none
\set test regress_push_tells
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE FUNCTION t.report(changes text, cursor text) RETURNS TABLE (answer text) LANGUAGE sql AS $$
    SELECT concat_ws(' ', e ->> 'id', e ->> 'code', e ->> 'message')
    FROM public.push_changes(changes::json, cursor, on_rejected => 'report') AS a, json_array_elements(a -> 'rejected') AS e
$$;
CREATE SCHEMA hr;
CREATE TABLE hr.salaries (id int PRIMARY KEY, amount int);
CREATE TABLE pay (id int PRIMARY KEY, amount int);
ALTER TABLE pay ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON pay USING (true);
SELECT snapsync.enable('hr.salaries', name => 'salaries'), snapsync.enable('pay');
INSERT INTO hr.salaries SELECT i, 1 FROM generate_series(1, 5) AS i;
INSERT INTO pay SELECT i, 1 FROM generate_series(1, 5) AS i;
SELECT t.catch_up('salaries') \g /dev/null
DELETE FROM hr.salaries WHERE id IN (2, 4);
DELETE FROM pay WHERE id IN (2, 4);

-- Who may do nothing with the table hears just that, in one way for all ids.
SET ROLE alice;
SELECT * FROM t.error(format($$SELECT push_changes('{"salaries": {"updated": [{"id": 2, "amount": 2}]}}', %L)$$, current_setting('t.cursor')));
SELECT * FROM t.error(format($$SELECT push_changes('{"salaries": {"updated": [{"id": 1, "amount": 2}]}}', %L)$$, current_setting('t.cursor')));
SELECT * FROM t.error(format($$SELECT push_changes('{"salaries": {"updated": [{"id": 2}, {"id": 9, "nothing": 1}], "deleted": [1]}}', %L, on_rejected => 'report')$$, current_setting('t.cursor')));
SELECT * FROM t.error($$SELECT pull_changes('{salaries}')$$);
SELECT * FROM t.error($$SELECT pull_changes('{hr.salaries}', '9007199254740991')$$);
RESET ROLE;
GRANT USAGE ON SCHEMA hr TO alice;
SET ROLE alice;
SELECT * FROM t.error(format($$SELECT push_changes('{"salaries": {"updated": [{"id": 2}]}}', %L, on_rejected => 'report')$$, current_setting('t.cursor')));
SELECT * FROM t.error($$SELECT pull_changes('{salaries}')$$);
-- A policy for everybody is no privilege.
SELECT * FROM t.error(format($$SELECT push_changes('{"pay": {"updated": [{"id": 2}]}}', %L, on_rejected => 'report')$$, current_setting('t.cursor')));
-- Nor does he lock it.
BEGIN;
SELECT * FROM t.error($$SELECT push_changes('{"salaries": {"created": []}}')$$);
SELECT * FROM t.error($$SELECT pull_changes('{salaries}')$$);
SELECT mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'hr.salaries'::regclass;
DO $$
BEGIN
    PERFORM public.push_changes('{"pay": {"deleted": null}}');
EXCEPTION WHEN insufficient_privilege THEN
    NULL;
END
$$;
SELECT mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'pay'::regclass;
COMMIT;
RESET ROLE;

-- Who may write, and not read the key, hears of no conflict. An INSERT of a row that is there fails as PostgreSQL has it.
GRANT INSERT ON hr.salaries, pay TO alice;
GRANT UPDATE (amount) ON hr.salaries, pay TO alice;
INSERT INTO hr.salaries VALUES (2, 1), (4, 1);
INSERT INTO pay VALUES (2, 1), (4, 1);
SELECT t.catch_up('salaries') \g /dev/null
DELETE FROM hr.salaries WHERE id IN (2, 4);
DELETE FROM pay WHERE id IN (2, 4);
SET ROLE alice;
SELECT * FROM t.report('{"salaries": {"updated": [{"id": 1, "amount": 2}, {"id": 2, "amount": 2}, {"id": 9, "amount": 2}], "deleted": ["3", "4", "10"]}}', current_setting('t.cursor'));
SELECT * FROM t.report('{"pay": {"updated": [{"id": 1, "amount": 2}, {"id": 2, "amount": 2}, {"id": 9, "amount": 2}], "deleted": ["3", "4", "10"]}}', current_setting('t.cursor'));
SELECT * FROM t.report('{"salaries": {"created": [{"id": 1, "amount": 2}, {"id": 2, "amount": 2}, {"id": 9, "amount": 2}]}}', current_setting('t.cursor'));
SELECT * FROM t.report('{"pay": {"created": [{"id": 1, "amount": 2}, {"id": 2, "amount": 2}, {"id": 9, "amount": 2}]}}', current_setting('t.cursor'));
-- The same with a cursor that the log does not reach.
SELECT * FROM t.report('{"salaries": {"created": [{"id": 4, "amount": 2}, {"id": 11, "amount": 2}]}}', '1');
RESET ROLE;

-- Who may read and not write: the privilege comes first, under every policy.
REVOKE ALL ON hr.salaries, pay FROM alice;
CREATE TABLE stock (id int PRIMARY KEY, n int, version int, hidden int);
GRANT SELECT, UPDATE (n), DELETE ON stock TO alice;
GRANT SELECT ON stock TO bob;
CREATE FUNCTION settle(text, text, jsonb, jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
DO $$
DECLARE
    policy text;
BEGIN
    FOREACH policy IN ARRAY '{reject,server_wins,merge,last_write_wins,custom}'::text[] LOOP
        PERFORM snapsync.enable('stock', conflict => policy, version_column => CASE policy WHEN 'last_write_wins' THEN 'version' END,
                                conflict_function => CASE policy WHEN 'custom' THEN 'settle(text,text,jsonb,jsonb)' END::regprocedure);
        DELETE FROM stock;
        INSERT INTO stock SELECT i, 1, 5, 1 FROM generate_series(1, 4) AS i;
        COMMIT;
        PERFORM t.catch_up('stock');
        UPDATE stock SET n = 2 WHERE id IN (1, 3);
        DELETE FROM stock WHERE id = 2;
        COMMIT;
        SET ROLE bob;
        RAISE NOTICE '% bob %', policy, (SELECT array_agg(answer ORDER BY answer COLLATE "C") FROM t.report('{"stock": {"updated": [{"id": 1, "n": 3, "version": 1}, {"id": 2, "n": 3, "version": 1}, {"id": 4, "n": 3, "version": 9}, {"id": 9, "n": 3, "version": 1}], "deleted": ["3"]}}', current_setting('t.cursor')));
        SET ROLE alice;
        RAISE NOTICE '% alice %', policy, (SELECT array_agg(answer ORDER BY answer COLLATE "C") FROM t.report('{"stock": {"updated": [{"id": 1, "hidden": 3, "version": 1}, {"id": 2, "n": 3, "version": 1}], "deleted": ["3"]}}', current_setting('t.cursor')));
        RESET ROLE;
        COMMIT;
    END LOOP;
END
$$;

-- Who came later hears nothing of rows that were gone by then, or changed out of his sight: neither by a cursor of after, nor by one
-- of before (cursors are not signed). Of what happened since he hears.
CREATE TABLE members (team int, who text, PRIMARY KEY (team, who));
CREATE TABLE tasks (id text PRIMARY KEY, team int NOT NULL, title text);
ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
CREATE POLICY team ON tasks USING (team IN (SELECT team FROM members WHERE who = CURRENT_USER));
GRANT SELECT ON members TO PUBLIC;
GRANT ALL ON tasks TO alice, bob;
SELECT snapsync.enable('tasks');
INSERT INTO members VALUES (1, 'alice'), (2, 'bob');
INSERT INTO tasks VALUES ('gone', 2, 'secret'), ('moved', 2, 'secret'), ('later', 2, 'x'), ('moves', 2, 'x');
SELECT t.catch_up('tasks') \g /dev/null
SELECT current_setting('t.cursor') AS before \gset
DELETE FROM tasks WHERE id = 'gone';
UPDATE tasks SET team = 3 WHERE id = 'moved';
INSERT INTO members VALUES (2, 'alice');
SET ROLE alice;
SELECT t.catch_up('tasks') \g /dev/null
RESET ROLE;
DELETE FROM tasks WHERE id = 'later';
UPDATE tasks SET team = 3 WHERE id = 'moves';
SET ROLE alice;
BEGIN;
SELECT * FROM t.report('{"tasks": {"updated": [{"id": "gone", "team": 2}, {"id": "never", "team": 2}, {"id": "later", "team": 2}, {"id": "moves", "team": 2}]}}', current_setting('t.cursor'));
SELECT id FROM tasks ORDER BY id;
ROLLBACK;
BEGIN;
SELECT * FROM t.report('{"tasks": {"updated": [{"id": "gone", "team": 2}, {"id": "never", "team": 2}, {"id": "moved", "team": 2}, {"id": "later", "team": 2}, {"id": "moves", "team": 2}]}}', :'before');
ROLLBACK;
BEGIN;
SELECT * FROM t.report('{"tasks": {"created": [{"id": "gone", "team": 2}, {"id": "never", "team": 2}, {"id": "later", "team": 2}]}}', :'before');
ROLLBACK;
RESET ROLE;
-- Bob was there all the time, and hears of all.
SET ROLE bob;
SELECT * FROM t.report('{"tasks": {"updated": [{"id": "gone", "team": 2}, {"id": "never", "team": 2}, {"id": "moved", "team": 2}, {"id": "later", "team": 2}, {"id": "moves", "team": 2}]}}', :'before');
DELETE FROM tasks WHERE id = 'never';
RESET ROLE;
-- Access by a role that one is made a member of.
CREATE TABLE minutes (id text PRIMARY KEY, title text);
ALTER TABLE minutes ENABLE ROW LEVEL SECURITY;
CREATE POLICY board ON minutes USING (pg_has_role(CURRENT_USER, 'push_tells_board', 'MEMBER'));
CREATE ROLE push_tells_board;
GRANT ALL ON minutes TO bob;
SELECT snapsync.enable('minutes');
INSERT INTO minutes VALUES ('gone', 'secret'), ('later', 'x');
SELECT t.catch_up('minutes') \g /dev/null
DELETE FROM minutes WHERE id = 'gone';
GRANT push_tells_board TO bob;
UPDATE minutes SET title = 'y';
DELETE FROM minutes WHERE id = 'later';
SET ROLE bob;
SELECT * FROM t.report('{"minutes": {"updated": [{"id": "gone"}, {"id": "never"}, {"id": "later"}]}}', current_setting('t.cursor'));
RESET ROLE;
REVOKE push_tells_board FROM bob;
DROP TABLE minutes;
DROP ROLE push_tells_board;

-- A client_id is short: every entry of the log that it causes carries it.
SELECT * FROM t.error($$SELECT push_changes('{}', client_id => repeat('x', 201))$$);
SELECT * FROM t.error($$SELECT pull_changes('{tasks}', client_id => repeat('ä', 101))$$);
SELECT * FROM t.error($$SELECT push_mutations('[]', repeat('x', 201))$$);
SELECT push_changes('{}', client_id => repeat('x', 200)), push_mutations('[]', repeat('ä', 100));
