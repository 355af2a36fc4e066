-- All that is written comes by pushes: then a push is the first write after a move (a fail-over, a restore, a copy, an upgrade), and it is the one that begins the new
-- history. It is refused once, and the next pull is good for the next push.
\set ECHO none
\set test regress_push_moved
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE todos (id int PRIMARY KEY, title text);
SELECT snapsync.enable('todos');
INSERT INTO todos VALUES (1, 'one'), (2, 'two');
SELECT pull_changes('{todos}') ->> 'timestamp' AS c \gset
\connect postgres
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_push_moved_copy;
CREATE DATABASE regress_push_moved_copy TEMPLATE regress_push_moved;

\connect regress_push_moved_copy
\set batch '{"todos": {"created": [{"id": 3, "title": "mine"}], "updated": [{"id": 1, "title": "mine"}]}}'
SELECT pull_changes('{todos}', :'c') ->> 'timestamp' AS c \gset
SELECT push_changes(:'batch', :'c');
\echo :SQLSTATE
SELECT pull_changes('{todos}', :'c') ->> 'timestamp' AS c \gset
SELECT push_changes(:'batch', :'c');
SELECT * FROM todos ORDER BY id;

-- So does one that reports, with every record.
UPDATE snapsync.epoch SET place = '';
\connect
SELECT pull_changes('{todos}', :'c') ->> 'timestamp' AS c \gset
SELECT r ->> 'id' AS id, r ->> 'code' AS code FROM json_array_elements(push_changes(:'batch', :'c', on_rejected => 'report') -> 'rejected') AS r;
SELECT pull_changes('{todos}', :'c') ->> 'timestamp' AS c \gset
SELECT push_changes(:'batch', :'c', on_rejected => 'report');

-- And where somebody has set the clock back.
SELECT FROM setval('snapsync.clock', 1000);
SELECT pull_changes('{todos}', :'c') ->> 'timestamp' AS c \gset
SELECT push_changes('{"todos": {"updated": [{"id": 2, "title": "mine"}]}}', :'c');
\echo :SQLSTATE
SELECT pull_changes('{todos}', :'c') ->> 'timestamp' AS c \gset
SELECT push_changes('{"todos": {"updated": [{"id": 2, "title": "mine"}]}}', :'c');
SELECT * FROM todos ORDER BY id;

-- Also where each transaction keeps its snapshot: the history says what it began with.
UPDATE snapsync.epoch SET place = '';
\connect
SET default_transaction_isolation = 'repeatable read';
\set batch '{"todos": {"updated": [{"id": 2, "title": "mine again"}]}}'
SELECT pull_changes('{todos}', :'c') ->> 'timestamp' AS c \gset
SELECT push_changes(:'batch', :'c');
\echo :SQLSTATE
SELECT pull_changes('{todos}', :'c') ->> 'timestamp' AS c \gset
SELECT push_changes(:'batch', :'c');
-- And after another move, before anybody has committed on the first one.
UPDATE snapsync.epoch SET place = '';
\connect
SET default_transaction_isolation = 'repeatable read';
SELECT push_changes(:'batch', :'c');
UPDATE snapsync.epoch SET place = '';
\connect
SET default_transaction_isolation = 'repeatable read';
SELECT push_changes(:'batch', :'c');
SELECT pull_changes('{todos}', :'c') ->> 'timestamp' AS c \gset
SELECT push_changes(:'batch', :'c');
RESET default_transaction_isolation;

-- Transactions that have begun since the move do not matter, whatever they write. (Prepared here, to have them beside this session.) One that was prepared before may be of
-- the history that has ended: nothing is believed beside it.
UPDATE snapsync.epoch SET place = '';
\connect
SET default_transaction_isolation = 'repeatable read';
SELECT push_changes(:'batch', :'c');
BEGIN;
SELECT pg_current_xact_id() IS NOT NULL AS writes;
PREPARE TRANSACTION 'regress_push_moved';
-- (Others end; to snapshots from now on that one is under way.)
SELECT pg_current_xact_id() IS NOT NULL AS writes;
SELECT pull_changes('{todos}', :'c') ->> 'timestamp' AS c \gset
SELECT push_changes('{"todos": {"updated": [{"id": 2, "title": "mine for the third time"}]}}', :'c');
UPDATE snapsync.epoch SET place = '';
\connect
SET default_transaction_isolation = 'repeatable read';
SELECT push_changes(:'batch', :'c');
SELECT pull_changes('{todos}', :'c') ->> 'timestamp' AS c \gset
SELECT push_changes(:'batch', :'c');
\echo :SQLSTATE
COMMIT PREPARED 'regress_push_moved';
SELECT pull_changes('{todos}', :'c') ->> 'timestamp' AS c \gset
SELECT push_changes(:'batch', :'c');

-- Who may not write begins nothing, nor who has nothing to write or no collection.
UPDATE snapsync.epoch SET place = '';
\connect
BEGIN READ ONLY;
SELECT push_changes('{"todos": {"updated": [{"id": 2, "title": "mine"}]}}', '1000000000000');
\echo :SQLSTATE
ROLLBACK;
BEGIN READ ONLY;
SELECT snapsync.reset('todos');
ROLLBACK;
SELECT push_changes('{"todos": {"updated": []}}', '5');
SELECT push_changes('{"nonsense": {"updated": [{"id": 2}]}}', '5');
SELECT count(*) FROM snapsync.epoch WHERE place <> '';
\connect postgres
DROP DATABASE regress_push_moved_copy;
