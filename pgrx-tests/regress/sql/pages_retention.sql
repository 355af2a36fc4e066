-- The log is pruned or compacted while a client pulls in pages.
\set ECHO none
\set test regress_pages_retention
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
\i pages.psql
\set ECHO queries

CREATE TABLE notes (id int PRIMARY KEY, v int, w int);
GRANT SELECT ON notes TO alice;
SELECT snapsync.enable('notes');
INSERT INTO notes SELECT n, 0, 0 FROM generate_series(1, 3000) AS n;
SELECT c.pages(who, '{notes}', 5000) FROM unnest('{a,b,c,d}'::text[]) AS who;

-- What is pruned stands before the first page's snapshot, and a part of it is still to be sent: the next page begins a replacement.
UPDATE notes SET v = 1 WHERE id <= 200;
DELETE FROM notes WHERE id BETWEEN 201 AND 210;
INSERT INTO snapsync.horizon SELECT last_value + 1, now() - interval '2 days' FROM snapsync.clock;
UPDATE notes SET v = 2 WHERE id = 200;
SELECT c.page('a', '{notes}', 10);
SELECT c.page('b', '{notes}', 500);
SELECT snapsync.prune('1 day');
SELECT c.page('a', '{notes}', 10);
SELECT c.pages('a', '{notes}', 1000) > 0;
SELECT * FROM c.wrong('a', 'notes');
-- All of it was sent already.
SELECT c.page('b', '{notes}', 500);
SELECT * FROM c.wrong('b', 'notes');

-- What is left of entries that are compacted stands elsewhere in the log. Pages of a large transaction are read by places: they begin anew.
SELECT c.pages(who, '{notes}', 5000) > 0 FROM unnest('{c,d}'::text[]) AS who;
UPDATE notes SET v = 3;
UPDATE notes SET v = 4 WHERE id % 30 = 7;
SELECT c.page('c', '{notes}', 20), c.page('d', '{notes}', 20);
SELECT c.page('c', '{notes}', 20), c.page('d', '{notes}', 20);
SELECT snapsync.compact() > 0;
SELECT c.pages('c', '{notes}', 1000) > 0;
SELECT * FROM c.wrong('c', 'notes');
-- Twice, and with a page in between.
UPDATE notes SET v = 5 WHERE id % 30 = 8;
SELECT c.page('d', '{notes}', 20);
SELECT snapsync.compact() > 0;
SELECT c.pages('d', '{notes}', 1000) > 0;
-- (What was changed since the first page comes with the next pull.)
SELECT c.pages('d', '{notes}', 1000);
SELECT * FROM c.wrong('d', 'notes');
-- Nothing is left to compact, and nothing begins anew for it.
SELECT number, snapsync.compact() FROM snapsync.compaction;
SELECT number FROM snapsync.compaction;

-- A publication of all tables, snapsync's own among them: all that deletes or updates there goes on. (Subscribers should not take them.)
CREATE PUBLICATION everything FOR ALL TABLES;
SELECT relname FROM pg_class WHERE relnamespace = 'snapsync'::regnamespace AND relkind = 'r' AND relreplident = 'd'
    AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = pg_class.oid AND indisprimary);
ALTER TABLE notes ADD COLUMN x text;
CREATE TABLE more (id int PRIMARY KEY);
ALTER TABLE more ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON more USING (id IN (SELECT id FROM notes));
SELECT snapsync.enable('more');
INSERT INTO more VALUES (1);
UPDATE notes SET v = 6 WHERE id = 7;
SELECT snapsync.compact() > 0;
INSERT INTO snapsync.horizon SELECT last_value + 1, now() - interval '2 days' FROM snapsync.clock;
UPDATE notes SET v = 7 WHERE id = 7;
SELECT snapsync.prune('1 day') > 0;
DROP POLICY p ON more;
SELECT snapsync.disable('more');
DROP TABLE notes;
SELECT count(*) FROM snapsync.collection;
