-- Where in the WAL an answer stands (lsn => true), for who goes on with a replication stream.
\set ECHO none
\set test regress_lsn
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
CREATE TABLE notes (id int PRIMARY KEY, body text);
GRANT SELECT ON notes TO alice;
SELECT snapsync.enable('notes');
INSERT INTO notes VALUES (1, 'a');
\set ECHO queries

-- Only on request, beside the cursor.
SELECT json_object_keys(pull_changes('{notes}'));
SELECT json_object_keys(pull_changes('{notes}', lsn => true));
SELECT json_object_keys(pull_changes('{}', lsn => true));
-- Anybody who pulls may have it. It is not ahead of what is flushed.
SET ROLE alice;
SELECT (pull_changes('{notes}', lsn => true) ->> 'lsn')::pg_lsn BETWEEN '0/1' AND pg_current_wal_flush_lsn();
RESET ROLE;
-- The snapshot is the one that the rows were read under.
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT pg_current_snapshot()::text = answer ->> 'snapshot', (answer ->> 'lsn')::pg_lsn IS NOT NULL FROM pull_changes('{notes}', lsn => true) AS answer;
COMMIT;

-- While a transaction is prepared, the position lies before its commit, wherever that will be; others do not move it.
BEGIN;
INSERT INTO notes VALUES (2, 'prepared');
PREPARE TRANSACTION 'regress_lsn';
SELECT set_config('t.prepared', pg_current_wal_insert_lsn()::text, false) IS NOT NULL;
INSERT INTO notes VALUES (3, 'c');
INSERT INTO notes VALUES (4, 'd');
SELECT (pull_changes('{notes}', lsn => true) ->> 'lsn')::pg_lsn <= current_setting('t.prepared')::pg_lsn, (pull_changes('{notes}', lsn => true) ->> 'lsn')::pg_lsn > '0/0';
COMMIT PREPARED 'regress_lsn';
SELECT (pull_changes('{notes}', lsn => true) ->> 'lsn')::pg_lsn > current_setting('t.prepared')::pg_lsn;
-- In a transaction that has written, its own commit is yet to come.
BEGIN;
INSERT INTO notes VALUES (5, 'e');
SELECT (pull_changes('{notes}', lsn => true) ->> 'lsn')::pg_lsn <= pg_current_wal_insert_lsn();
ROLLBACK;
-- A dump brings horizons along that speak of another system's WAL.
UPDATE snapsync.horizon SET system = 0;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT pull_changes('{notes}', lsn => true) ->> 'lsn';
COMMIT;

-- Pages have a snapshot each.
\set VERBOSITY default
SELECT pull_changes('{notes}', lsn => true, page_size => 1);
SELECT pull_changes('{notes}', lsn => true, next => 'x');
