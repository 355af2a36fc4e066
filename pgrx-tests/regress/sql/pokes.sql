-- enable(notify => ...): what is sent when a transaction commits. What differs from run to run (stamps, processes, hashes) is taken out.
\set ECHO none
\set test regress_pokes
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE members (org text, who text, note text, PRIMARY KEY (org, who));
CREATE TABLE todos (id int PRIMARY KEY, org text, n int);
CREATE TABLE plain (id int PRIMARY KEY, n int);
CREATE TABLE silent (id int PRIMARY KEY, n int);
ALTER TABLE todos ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON todos USING (org IN (SELECT org FROM members WHERE who = current_user));
GRANT SELECT ON members, todos, plain TO alice;
SELECT snapsync.enable('silent');
SELECT snapsync.enable('plain', name => 'the "plain" one', notify => 'notify');

-- Kept by a second call, and by one that changes something else; taken away; a change resets nobody.
SELECT snapsync.enable('todos', notify => 'notify');
SELECT snapsync.enable('todos', conflict => 'client_wins');
SELECT pull_changes('{todos}') ->> 'timestamp' AS cursor \gset
SELECT snapsync.enable('todos', notify => 'none');
SELECT notify FROM snapsync.status WHERE name = 'todos';
SELECT snapsync.enable('todos', notify => 'notify');
SELECT pull_changes('{todos}', :'cursor')::jsonb - 'timestamp' AS nobody_is_reset;
SELECT name, scope, notify FROM snapsync.status ORDER BY name;
\set ON_ERROR_STOP off
SELECT snapsync.enable('todos', notify => 'both ways');
SELECT snapsync.enable('todos', notify => 'realtime');
SET ROLE alice;
SELECT snapsync.poke_scope('todos', 'a');
RESET ROLE;

-- A scope's name does not show it, and is another one in another collection.
SELECT snapsync.poke_scope('todos', 'a') ~ '^[0-9a-f]{32}$' AS looks_well,
       snapsync.poke_scope('todos', 'a') = snapsync.poke_scope('todos', 'a') AS stays,
       snapsync.poke_scope('todos', 'a') <> snapsync.poke_scope('todos', 'b') AS differs,
       snapsync.poke_scope('todos', 'a') <> snapsync.poke_scope('plain', 'a') AS by_collection;

-- The letters in place of the hashes.
SELECT snapsync.poke_scope('todos', 'a') AS a, snapsync.poke_scope('todos', 'b') AS b, snapsync.poke_scope('todos', 'c') AS c, snapsync.poke_scope('todos', repeat('d', 300)) AS d \gset
\setenv SCOPES 's/':a'/A/; s/':b'/B/; s/':c'/C/; s/':d'/D/; s/"scope":"[0-9a-f]+"/"scope":"?"/; s/"stamp":[0-9]+/"stamp":N/; s/ received from.*//; s/Asynchronous notification "snapsync" with payload/ poke/'
LISTEN snapsync;
\o | sed -E "$SCOPES" | uniq -c | sed 's/^ *1 //; s/^ *//' | tac | tac
\qecho one for each scope, with all that happened there
INSERT INTO todos VALUES (1, 'a', 1), (2, 'b', 1), (3, NULL, 1);
BEGIN; INSERT INTO todos VALUES (4, 'a', 1); UPDATE todos SET n = 2 WHERE id = 1; DELETE FROM todos WHERE id = 2; COMMIT;
\qecho a row that moves
UPDATE todos SET org = 'b' WHERE id = 1;
\qecho a scope with a long name
INSERT INTO todos VALUES (5, repeat('d', 300), 1); DELETE FROM todos WHERE id = 5;
\qecho who may see what: only if it can move somebody
INSERT INTO members VALUES ('a', 'alice');
UPDATE members SET note = 'x';
UPDATE members SET org = 'b';
DELETE FROM members;
\qecho nothing that is synced differs; inserted and deleted again; a table that pokes nobody
UPDATE todos SET n = n;
BEGIN; INSERT INTO todos VALUES (9, 'a', 1); DELETE FROM todos WHERE id = 9; COMMIT;
INSERT INTO silent VALUES (1, 1);
\qecho rolled back, as a whole and to a savepoint, also what was written to the log by then
BEGIN; INSERT INTO todos VALUES (9, 'a', 1); ROLLBACK;
BEGIN; SAVEPOINT s; INSERT INTO todos VALUES (9, 'a', 1); ROLLBACK TO s; INSERT INTO todos VALUES (10, 'b', 1); COMMIT;
SET snapsync.flush_threshold = 1;
BEGIN; SAVEPOINT s; INSERT INTO todos VALUES (11, 'a', 1); ROLLBACK TO s; INSERT INTO todos VALUES (12, 'b', 1); UPDATE todos SET n = 3 WHERE id = 1; COMMIT;
BEGIN; SAVEPOINT s; INSERT INTO todos VALUES (13, 'a', 1); RELEASE s; SAVEPOINT t; INSERT INTO todos VALUES (14, 'b', 1); ROLLBACK TO t; COMMIT;
BEGIN; INSERT INTO todos VALUES (15, 'a', 1); SELECT 1 FROM pull_changes('{todos}'); SAVEPOINT s; INSERT INTO todos VALUES (16, 'c', 1); ROLLBACK TO s; COMMIT;
RESET snapsync.flush_threshold;
\qecho a bulk transaction: one for 64 scopes, and one for more
INSERT INTO todos SELECT 100 + i, 'o' || i, 0 FROM generate_series(1, 64) AS i;
INSERT INTO todos SELECT 200 + i, 'o' || i, 0 FROM generate_series(1, 65) AS i;
SET snapsync.flush_threshold = 10;
INSERT INTO todos SELECT 300 + i, 'p' || i, 0 FROM generate_series(1, 65) AS i;
RESET snapsync.flush_threshold;
\qecho without scopes; a name with quotes
INSERT INTO plain VALUES (1, 1);
\qecho everything
TRUNCATE todos;
SELECT snapsync.reset('todos');
\qecho of others the transaction itself
BEGIN; NOTIFY snapsync, 'mine'; INSERT INTO plain VALUES (2, 2); COMMIT;
\qecho a prepared transaction pokes nobody, and is prepared
BEGIN; INSERT INTO todos VALUES (1, 'a', 1); PREPARE TRANSACTION 'regress pokes';
COMMIT PREPARED 'regress pokes';
\qecho a push is told like any write
SELECT push_changes('{"todos": {"updated": [{"id": 1, "n": 7}]}}', client_id => 'one');
\qecho no more
SELECT snapsync.enable('todos', notify => 'none');
UPDATE todos SET n = 8;
SELECT snapsync.disable('plain');
UPDATE plain SET n = 8;
\o
UNLISTEN snapsync;

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_pokes;
