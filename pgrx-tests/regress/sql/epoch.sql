-- A database that continues from a copy (a restored backup, a promoted standby) may hand out stamps again that the lost
-- branch of history had used. Cursors that may come from that branch are reset; older ones go on. The copy here is made with
-- CREATE DATABASE ... TEMPLATE: to the clock it is what a restored dump is.
\set ECHO none
\set test regress_epoch
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
\set ECHO none
\i pages.psql
\set ECHO all

CREATE TABLE todos (id int PRIMARY KEY, title text);
SELECT snapsync.enable('todos');
INSERT INTO todos VALUES (1, 'one');
-- The first write leaps ahead of all that an extension that was here before can have handed out.
SELECT (last_value / 2 ^ 20 - extract(epoch FROM now()) + 1577836800) / 3600 BETWEEN 1 AND 20 AS hours FROM snapsync.clock;
SELECT pull_changes('{todos}') ->> 'timestamp' AS early \gset
-- (Of the last 0.2 s before a branch, nothing is believed.)
INSERT INTO todos VALUES (2, 'two'); SELECT pg_sleep(0.05);
INSERT INTO todos VALUES (3, 'three'); SELECT pg_sleep(0.3);
INSERT INTO todos VALUES (4, 'four');
SELECT pull_changes('{todos}') ->> 'timestamp' AS late \gset
-- (A client in the midst of its pages.)
SELECT c.page('midst', '{todos}', 1);
\connect postgres
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_epoch_copy;
CREATE DATABASE regress_epoch_copy TEMPLATE regress_epoch;
-- The lost branch: changes that the copy does not have.
\connect regress_epoch
INSERT INTO todos VALUES (5, 'lost'); DELETE FROM todos WHERE id = 1; INSERT INTO todos VALUES (6, 'lost');
SELECT pull_changes('{todos}') ->> 'timestamp' AS lost \gset
SELECT t.pull_ids('todos') FROM set_config('t.cursor', :'late', false);

\connect regress_epoch_copy
-- Before anybody has written: a cursor ahead of the clock is reset; an early one is good, but nobody has looked at the table in this database.
SELECT * FROM t.pull('{todos}', :'lost');
SELECT * FROM t.pull('{todos}', :'early');
-- Pages have an end, also of a pull that was begun before the copy.
SELECT c.pages('first', '{todos}', 1), c.pages('midst', '{todos}', 1);
SELECT count(*) FROM c.wrong('first', 'todos') UNION ALL SELECT count(*) FROM c.wrong('midst', 'todos');
SELECT c.pages('first', '{todos}', 1);
SELECT c.page('late', '{todos}', 1);
-- What the copy hands out before its first write must be good afterwards.
SELECT pull_changes('{todos}') ->> 'timestamp' AS between \gset
INSERT INTO todos VALUES (7, 'new branch'); UPDATE todos SET title = 'ONE' WHERE id = 1;
-- The clock has leapt past all that the lost branch can have handed out.
SELECT (pull_changes('{todos}') ->> 'timestamp')::bigint - :lost::bigint > 2 ^ 31 AS leapt;
SELECT * FROM t.pull('{todos}', :'lost');
SELECT * FROM t.pull('{todos}', :'early');
SELECT c.page('late', '{todos}', 1);
SELECT count(c.pages(who, '{todos}', 1)) FROM c.client;
SELECT count(*) FROM c.client AS k, c.wrong(k.who, 'todos');
SELECT bool_or(item LIKE '%new branch%') FROM t.pull('{todos}', :'late');
SELECT bool_or(item LIKE '%new branch%') AND bool_or(item LIKE '%ONE%') FROM t.pull('{todos}', :'between');
SELECT * FROM t.pull('{todos}');
INSERT INTO todos VALUES (8, 'newer');
SELECT * FROM t.pull('{todos}');
-- A push from a cursor of the lost branch: what has changed since cannot be told.
SELECT push_changes('{"todos": {"updated": [{"id": 8, "title": "x"}]}}', last_pulled_at => :'lost');
\echo :SQLSTATE
-- Only once per history.
SELECT count(*) FROM snapsync.epoch;
\connect regress_epoch_copy
INSERT INTO todos VALUES (9, 'newest');
SELECT count(*) FROM snapsync.epoch;
-- The original goes on as it was.
\connect regress_epoch
INSERT INTO todos VALUES (10, 'original');
SELECT * FROM t.pull('{todos}', :'lost');
SELECT count(*) FROM snapsync.epoch;
\connect postgres
DROP DATABASE regress_epoch_copy;
