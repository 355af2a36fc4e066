-- Writers whose transactions keep their snapshot (REPEATABLE READ, SERIALIZABLE), as a database's or a role's standing setting.
\set ECHO none
\set test regress_fixed_snapshots
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
CREATE TABLE todos (id int PRIMARY KEY, t text);
CREATE TABLE ticks (n int PRIMARY KEY);
INSERT INTO ticks VALUES (0);
GRANT SELECT, INSERT, UPDATE ON todos TO alice;
-- Writes until a commit has left a horizon: one does each 5 ms.
CREATE PROCEDURE t.tick() LANGUAGE plpgsql AS $$
DECLARE
    before bigint;
BEGIN
    FOR i IN 1..500 LOOP
        before := (SELECT coalesce(max(snapmin), 0) FROM snapsync.horizon);
        UPDATE ticks SET n = n + 1;
        COMMIT;
        EXIT WHEN (SELECT max(snapmin) FROM snapsync.horizon) > before;
    END LOOP;
END $$;
CREATE FUNCTION t.records() RETURNS TABLE (horizons boolean, roles bigint, marks bigint, isolation text) LANGUAGE sql AS $$
    SELECT EXISTS (SELECT FROM snapsync.horizon), count(*) FILTER (WHERE role IN ('', 'alice')), count(*) FILTER (WHERE role > ' ' AND role < '!'),
           current_setting('transaction_isolation')
    FROM snapsync.role $$;
\set ECHO all
ALTER DATABASE regress_fixed_snapshots SET default_transaction_isolation = 'repeatable read';
\connect regress_fixed_snapshots
SET client_min_messages = warning;
SELECT snapsync.enable('todos'), snapsync.enable('ticks');
INSERT INTO todos SELECT g, 'x' FROM generate_series(1, 3) AS g;
CALL t.tick();
SELECT * FROM t.records();
SET ROLE alice;
SELECT * FROM t.pull('{todos}', NULL);
SELECT * FROM t.pull('{todos}');
SELECT push_changes('{"todos": {"updated": [{"id": 1, "t": "mine"}]}}', current_setting('t.cursor'));
RESET ROLE;
CALL t.tick();
SET ROLE alice;
SELECT * FROM t.pull('{todos}');
SELECT * FROM t.pull('{todos}');
RESET ROLE;
-- What the last commit has changed is known to who has seen it: to edit it is no conflict.
UPDATE todos SET t = 'server' WHERE id = 2;
CALL t.tick();
SET ROLE alice;
SELECT * FROM t.pull('{todos}');
SELECT push_changes('{"todos": {"updated": [{"id": 2, "t": "mine, too"}]}}', current_setting('t.cursor'));
RESET ROLE;
-- Whoever pulls under a new snapshot beside such writers is not replaced either.
BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL ROLE alice; SELECT count(*) FROM t.pull('{todos}'); COMMIT;
UPDATE todos SET t = 'server' WHERE id = 3;
BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL ROLE alice; SELECT * FROM t.pull('{todos}'); COMMIT;
-- A role changes: who writes next records it.
GRANT carol TO alice;
CALL t.tick();
SET ROLE alice;
SELECT what FROM t.pull('{todos}');
SELECT * FROM t.pull('{todos}');
RESET ROLE;
REVOKE carol FROM alice;
BEGIN;
SAVEPOINT s;
INSERT INTO todos VALUES (4, 'four');
SELECT count(*) > 0 FROM pull_changes('{todos}');
ROLLBACK TO s;
INSERT INTO todos VALUES (5, 'five');
COMMIT;
SELECT * FROM t.records();
-- The log is pruned.
UPDATE snapsync.horizon SET at = at - interval '2 days';
SELECT snapsync.prune('1 day') > 0;
-- The same in SERIALIZABLE.
ALTER DATABASE regress_fixed_snapshots SET default_transaction_isolation = 'serializable';
\connect regress_fixed_snapshots
TRUNCATE snapsync.horizon, snapsync.role;
CALL t.tick();
SELECT * FROM t.records();
SET ROLE alice;
SELECT count(*) FROM t.pull('{todos}', NULL);
SELECT * FROM t.pull('{todos}');
RESET ROLE;
UPDATE todos SET t = 'last' WHERE id = 1;
CALL t.tick();
SET ROLE alice;
SELECT * FROM t.pull('{todos}');
SELECT push_changes('{"todos": {"updated": [{"id": 1, "t": "mine"}]}}', current_setting('t.cursor'));
RESET ROLE;
-- Horizons are thinned. (By a writer that has left none within 5 ms: it is due before its stamp, and after it.)
\connect regress_fixed_snapshots
DELETE FROM snapsync.horizon;
INSERT INTO snapsync.horizon SELECT s, now() - interval '1 minute' FROM generate_series(1, 20) AS s;
CALL t.tick();
SELECT bool_or(snapmin = 20) AS newest, count(*) < 5 AS thinned FROM snapsync.horizon WHERE at < now() - interval '30 s';
ALTER DATABASE regress_fixed_snapshots RESET default_transaction_isolation;

-- A standing setting that dumps begin by making is no dump.
\connect regress_fixed_snapshots
DROP EXTENSION snapsync CASCADE;
ALTER DATABASE regress_fixed_snapshots SET check_function_bodies = off;
\connect regress_fixed_snapshots
SET client_min_messages = warning;
CREATE EXTENSION snapsync;
SELECT snapsync.enable('todos'), snapsync.enable('ticks');
CALL t.tick();
SELECT * FROM t.records();
SELECT count(*) FROM snapsync.epoch;
SET ROLE alice;
SELECT count(*) FROM t.pull('{todos}', NULL);
SELECT * FROM t.pull('{todos}');
RESET ROLE;
-- Nor is a session that has it, where a table was enabled: nobody's dump could be loaded here.
ALTER DATABASE regress_fixed_snapshots RESET check_function_bodies;
\connect regress_fixed_snapshots
DROP EXTENSION snapsync CASCADE;
SET check_function_bodies = off;
CREATE EXTENSION snapsync;
SELECT snapsync.enable('todos'), snapsync.enable('ticks');
CALL t.tick();
SELECT * FROM t.records();
RESET check_function_bodies;
