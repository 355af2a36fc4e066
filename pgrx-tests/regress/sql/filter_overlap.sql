-- A client narrows its scopes after a pull that had seen a change of access behind its cursor (another transaction was just committing): what that change had brought goes, too.
\set ECHO none
\set test regress_filter_overlap
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE projects (id int PRIMARY KEY, private bool);
CREATE TABLE todos (id int PRIMARY KEY, project int REFERENCES projects, owner text);
CREATE TABLE other (id int PRIMARY KEY);
GRANT ALL ON projects, todos TO alice;
ALTER TABLE todos ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON todos USING (owner = 'me' OR project IN (SELECT id FROM projects WHERE NOT private));
SELECT snapsync.enable('todos', scope_column => 'owner'), snapsync.enable('other');
INSERT INTO projects VALUES (1, false), (2, true);
INSERT INTO todos VALUES (1, 1, 'you'), (2, 1, 'me'), (3, 2, 'you'), (4, 2, 'me');
-- What a device has: ids, and its cursor.
CREATE TABLE t.device (rows int[], cursor text, filter json);
INSERT INTO t.device VALUES ('{}', NULL, '{}');
GRANT USAGE ON SCHEMA t TO alice;
GRANT ALL ON t.device TO alice;
CREATE FUNCTION t.device_pulls(filter json) RETURNS int[] LANGUAGE plpgsql AS $$
DECLARE
    had t.device := (SELECT d FROM t.device AS d);
    answer json := public.pull_changes('{todos}', had.cursor, filter => filter::jsonb, last_filter => had.filter::jsonb);
    came int[] := (SELECT array_agg((r.value ->> 'id')::int) FROM json_each(answer #> '{changes,todos}') AS c, json_array_elements(c.value) AS r WHERE c.key <> 'deleted');
    went int[] := (SELECT array_agg((r #>> '{}')::int) FROM json_array_elements(answer #> '{changes,todos,deleted}') AS r);
BEGIN
    IF answer #> '{experimentalStrategy,override,todos}' IS NOT NULL THEN
        had.rows := '{}';
    END IF;
    UPDATE t.device AS d SET filter = device_pulls.filter, cursor = answer ->> 'timestamp',
           rows = ARRAY(SELECT id FROM unnest(had.rows || came) AS id WHERE id <> ALL (coalesce(went, '{}')) GROUP BY id ORDER BY id);
    RETURN (SELECT d.rows FROM t.device AS d);
END $$;
\set mine '{"todos": {"owner": ["me"]}}'
SET ROLE alice;
SELECT t.device_pulls('{}');
RESET ROLE;
BEGIN;
INSERT INTO other VALUES (1);
PREPARE TRANSACTION 'regress_filter_overlap';
UPDATE projects SET private = false WHERE id = 2;
SET ROLE alice;
SELECT t.device_pulls('{}');
SELECT t.device_pulls(:'mine');
RESET ROLE;
COMMIT PREPARED 'regress_filter_overlap';
SET ROLE alice;
SELECT t.device_pulls(:'mine');
RESET ROLE;
UPDATE projects SET private = true WHERE id = 2;
SET ROLE alice;
SELECT t.device_pulls(:'mine');
SELECT t.device_pulls('{}'), (SELECT array_agg(id ORDER BY id) FROM todos) AS there;
RESET ROLE;
-- So does what came with a cursor that was not kept, when the client goes on from the one before: what came into view since, and the client has by what it asked for until now.
SELECT cursor AS kept FROM t.device \gset
UPDATE projects SET private = false WHERE id = 2;
SET ROLE alice;
SELECT t.device_pulls('{}');
UPDATE t.device SET cursor = :'kept';
SELECT t.device_pulls(:'mine');
SELECT t.device_pulls('{}');
RESET ROLE;
SELECT cursor AS kept FROM t.device \gset
UPDATE projects SET private = true;
UPDATE projects SET private = false WHERE id = 1;
SET ROLE alice;
SELECT t.device_pulls('{}');
UPDATE t.device SET cursor = :'kept';
SELECT t.device_pulls(:'mine');
RESET ROLE;
-- So does what came by the scopes that the owner gives, when the client had asked for others until then and makes the same call again: they have moved twice since its cursor.
CREATE TABLE follows (owner text PRIMARY KEY);
INSERT INTO follows VALUES ('you');
INSERT INTO todos VALUES (5, 1, 'they');
GRANT SELECT ON follows TO alice;
DROP POLICY p ON todos;
CREATE POLICY p ON todos USING (true);
SELECT snapsync.enable('todos', scope_column => 'owner', scope_values => 'ARRAY(SELECT owner FROM follows)');
UPDATE t.device SET cursor = NULL, rows = '{}', filter = '{}';
SET ROLE alice;
SELECT t.device_pulls(:'mine');
RESET ROLE;
SELECT cursor AS kept FROM t.device \gset
INSERT INTO follows VALUES ('they');
SET ROLE alice;
SELECT t.device_pulls('{}');
UPDATE t.device SET cursor = :'kept', filter = :'mine';
RESET ROLE;
DELETE FROM follows WHERE owner = 'they';
INSERT INTO follows VALUES ('me');
SET ROLE alice;
SELECT t.device_pulls('{}');
RESET ROLE;
-- Who sees a membership that is younger than a change which is prepared knows another order than that of the stamps: the scopes of his sights do not do.
CREATE TABLE crew (id int PRIMARY KEY, org int, who name);
CREATE TABLE yards (id int PRIMARY KEY, org int);
CREATE TABLE ships (id int PRIMARY KEY, yard int NOT NULL REFERENCES yards ON DELETE CASCADE);
ALTER TABLE yards ENABLE ROW LEVEL SECURITY;
ALTER TABLE ships ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON yards USING (org IN (SELECT c.org FROM crew AS c WHERE c.who = current_user));
CREATE POLICY p ON ships USING (yard IN (SELECT y.id FROM yards AS y));
GRANT SELECT ON crew, yards, ships TO alice;
INSERT INTO crew VALUES (1, 1, 'alice');
INSERT INTO yards VALUES (1, 1), (2, 2);
INSERT INTO ships SELECT n, 2 FROM generate_series(1000, 1199) AS n;
SELECT snapsync.enable('ships');
SELECT t.sync('alice', 'ships');
BEGIN;
DELETE FROM yards WHERE id = 2;
PREPARE TRANSACTION 'filter_overlap';
INSERT INTO crew VALUES (2, 2, 'alice');
SELECT length(t.sync('alice', 'ships'));
COMMIT PREPARED 'filter_overlap';
SELECT t.sync('alice', 'ships');
