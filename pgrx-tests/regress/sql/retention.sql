-- compact(): fewer entries, the same answers for every cursor.
\set ECHO none
\set test regress_retention
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE todos (id int PRIMARY KEY, owner text NOT NULL, n int);
CREATE TABLE merged (id int PRIMARY KEY, a int, b int);
ALTER TABLE todos ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON todos USING (owner = current_user);
GRANT SELECT ON todos TO alice;
SELECT snapsync.enable('todos');
SELECT snapsync.enable('merged', conflict => 'merge');
CREATE TABLE cursors (stamp text);
CREATE PROCEDURE t.remember() LANGUAGE sql AS $$ INSERT INTO cursors SELECT public.pull_changes('{todos}') ->> 'timestamp' $$;
CREATE FUNCTION t.size() RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FROM snapsync.change AS c, unnest(coalesce(c.keys, ARRAY[c.key])) AS k WHERE c.op <> 'R'
$$;

INSERT INTO todos SELECT i, 'alice', 0 FROM generate_series(1, 20) AS i;
INSERT INTO merged SELECT i, 0, 0 FROM generate_series(1, 20) AS i;
CALL t.remember();
UPDATE todos SET n = 1;
CALL t.remember();
UPDATE todos SET n = 2 WHERE id <= 10;
UPDATE todos SET owner = 'bob' WHERE id = 3;
CALL t.remember();
UPDATE todos SET n = 3 WHERE id <= 5;
DELETE FROM todos WHERE id = 4;
CALL t.remember();
UPDATE todos SET n = 4 WHERE id IN (1, 3);
INSERT INTO todos VALUES (4, 'alice', 4);
CALL t.remember();
SELECT push_changes('{"merged": {"updated": [{"id": 1, "a": 1}]}}', client_id => 'one');
UPDATE merged SET b = 1 WHERE id = 1;
SELECT push_changes('{"merged": {"updated": [{"id": 1, "a": 2}]}}', client_id => 'two');
UPDATE merged SET a = 3, b = 3 WHERE id = 1;

-- What a client of each cursor is told.
CREATE VIEW t.told AS SELECT c.stamp, public.pull_changes('{todos,merged}', c.stamp)::jsonb - 'timestamp' AS all_rows FROM cursors AS c;
CREATE VIEW t.told_alice AS SELECT c.stamp, public.pull_changes('{todos}', c.stamp)::jsonb - 'timestamp' AS own_rows FROM cursors AS c;
GRANT USAGE ON SCHEMA t TO alice; GRANT SELECT ON cursors TO alice;
CREATE TEMP TABLE before AS SELECT * FROM t.told;
GRANT TEMP ON DATABASE regress_retention TO alice;
SET ROLE alice;
CREATE TEMP TABLE before_alice AS SELECT c.stamp, public.pull_changes('{todos}', c.stamp)::jsonb - 'timestamp' AS own_rows FROM cursors AS c;
RESET ROLE;
SELECT t.size();
SELECT snapsync.compact();
SELECT t.size();
SELECT snapsync.compact();
SELECT count(*), count(*) FILTER (WHERE b = t) AS same FROM before AS b JOIN t.told AS t USING (stamp);
SET ROLE alice;
SELECT count(*), count(*) FILTER (WHERE b.own_rows = public.pull_changes('{todos}', b.stamp)::jsonb - 'timestamp') AS same FROM before_alice AS b;
RESET ROLE;
-- What only `one` did, or touched other columns, is still told apart.
SELECT op, key, origin, columns FROM snapsync.change WHERE relation = 'merged'::regclass AND keys IS NULL AND op <> 'R' ORDER BY stamp, ord;
-- A row that is updated over and over is one entry.
DO $$ BEGIN FOR i IN 1..100 LOOP UPDATE todos SET n = i WHERE id = 20; COMMIT; END LOOP; END $$;
SELECT snapsync.compact();
-- Only the extension's owner may.
SET ROLE alice;
SELECT * FROM t.error($$ SELECT snapsync.compact() $$);
SELECT * FROM t.error($$ SELECT snapsync.prune('1 day') $$);
RESET ROLE;
