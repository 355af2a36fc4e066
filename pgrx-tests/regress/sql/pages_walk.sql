-- Pages of all rows, in the order in which they stand in the table.
\set ECHO none
\set test regress_pages_walk
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
\i pages.psql
\set ECHO queries

-- As they stand, where the planner would read the whole table; as their keys come, where it would not.
CREATE TABLE stand (id int PRIMARY KEY, owner int NOT NULL, v text);
GRANT SELECT ON stand TO alice;
GRANT SELECT (id, v) ON stand TO bob;
SELECT snapsync.enable('stand');
INSERT INTO stand SELECT n, n % 100, repeat('x', 100) FROM generate_series(5000, 1, -1) AS n;
CREATE INDEX ON stand (owner);
ANALYZE stand;
CREATE FUNCTION c.order_of(collection text, size int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer json;
    ids int[] := '{}';
BEGIN
    LOOP
        answer := pull_changes(ARRAY[collection], page_size => size, next => answer ->> 'next');
        ids := ids || ARRAY(SELECT (r ->> 'id')::int FROM json_array_elements(answer #> ARRAY['changes', collection, 'created']) AS r);
        EXIT WHEN answer ->> 'next' IS NULL;
    END LOOP;
    RETURN cardinality(ids) || CASE ids WHEN ARRAY(SELECT i FROM unnest(ids) AS i ORDER BY i) THEN ' up'
                                        WHEN ARRAY(SELECT i FROM unnest(ids) AS i ORDER BY i DESC) THEN ' down' ELSE '' END;
END
$$;
SELECT c.order_of('stand', 700), c.order_of('stand', 5000);
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ;
SELECT c.order_of('stand', 700);
COMMIT;
SET ROLE alice; SELECT c.order_of('stand', 700); RESET ROLE;
-- Who may not read where rows stand does not get it in a token.
SET ROLE bob; SELECT c.order_of('stand', 700); RESET ROLE;
ALTER TABLE stand ENABLE ROW LEVEL SECURITY;
CREATE POLICY one ON stand TO alice USING (owner = 7);
CREATE POLICY half ON stand TO bob USING (owner < 50);
GRANT SELECT ON stand TO bob;
SET ROLE alice; SELECT c.order_of('stand', 7); RESET ROLE;
SET ROLE bob; SELECT c.order_of('stand', 700); RESET ROLE;
-- With a condition that is asked once for all rows.
CREATE FUNCTION c.may() RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT current_user = 'bob' $$;
DROP POLICY half ON stand;
CREATE POLICY half ON stand TO bob USING (c.may());
SET ROLE bob; SELECT c.order_of('stand', 1700); RESET ROLE;
-- Partitions, and what inherits:
CREATE TABLE parts (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (50);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (50) TO (101);
INSERT INTO parts SELECT n, 'v' FROM generate_series(100, 1, -1) AS n;
SELECT snapsync.enable('parts');
SELECT c.order_of('parts', 30);

-- A row that moves to blocks which were read, by an UPDATE that leaves no entry.
CREATE TABLE moved (id int PRIMARY KEY, note text);
SELECT snapsync.enable('moved');
INSERT INTO moved SELECT n, repeat('x', 200) FROM generate_series(1, 2000) AS n;
DELETE FROM moved WHERE id <= 1000;
VACUUM ANALYZE moved;
SELECT c.page('a', '{moved}', 200);
UPDATE moved SET note = note WHERE id > 1900;
SELECT min((ctid::text::point)[0]) = 0 FROM moved WHERE id > 1900;
SELECT c.page('a', '{moved}', 200) FROM generate_series(1, 4);
SELECT * FROM c.wrong('a', 'moved');
SELECT c.page('a', '{moved}', 200);
-- One moves while those that have moved are sent, and those come in several pages.
SELECT c.page('b', '{moved}', 200);
UPDATE moved SET note = note WHERE id BETWEEN 1001 AND 1700;
SELECT c.page('b', '{moved}', 200) FROM generate_series(1, 3);
UPDATE moved SET note = note WHERE id BETWEEN 1600 AND 1800;
SELECT c.pages('b', '{moved}', 200) > 1;
SELECT count(*) FROM c.wrong('b', 'moved');
-- All rows move: the walk begins anew.
SELECT c.page('d', '{moved}', 200), c.page('d', '{moved}', 200);
DELETE FROM moved WHERE id BETWEEN 1101 AND 1150;
VACUUM FULL moved;
SELECT c.page('d', '{moved}', 200);
SELECT c.pages('d', '{moved}', 200);
SELECT c.page('d', '{moved}', 200);
SELECT count(*) FROM c.wrong('d', 'moved');
-- In a transaction that keeps its snapshot: from the first row on, in the order of the keys, and so also after it.
SELECT c.page('e', '{moved}', 200), c.page('e', '{moved}', 200);
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ;
SELECT c.page('e', '{moved}', 200);
COMMIT;
UPDATE moved SET note = note WHERE id > 1900;
SELECT c.pages('e', '{moved}', 200);
SELECT count(*) FROM c.wrong('e', 'moved');
-- In a transaction that writes.
BEGIN;
UPDATE moved SET note = note WHERE id > 1950;
SELECT c.page('f', '{moved}', 200);
UPDATE moved SET note = note WHERE id > 1900;
UPDATE moved SET note = 'mine' WHERE id = 1300;
SELECT c.pages('f', '{moved}', 200) > 1;
COMMIT;
SELECT c.pages('f', '{moved}', 200) > 0;
SELECT count(*) FROM c.wrong('f', 'moved');

-- Somebody's transaction lasts that has many savepoints, so that of later ones nobody knows whether they are its own: what these have made
-- comes twice, and once more in the order of the keys, but not in each round.
CREATE TABLE late (id int PRIMARY KEY, v text);
CREATE TABLE others (i int);
SELECT snapsync.enable('late');
INSERT INTO late SELECT n, 'before' FROM generate_series(1, 100) AS n;
BEGIN;
DO $$ BEGIN FOR i IN 1..70 LOOP BEGIN INSERT INTO others VALUES (i); EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $$;
PREPARE TRANSACTION 'walk lasts';
INSERT INTO late SELECT n, 'x' FROM generate_series(1000, 101, -1) AS n;
ANALYZE late;
SELECT c.order_of('late', 100);
ROLLBACK PREPARED 'walk lasts';
SELECT c.order_of('late', 100);

-- A transaction of very many changes: a page reads about as many entries as it sends, with images and without, of one scope and of all.
CREATE TABLE big (id int PRIMARY KEY, org int NOT NULL, tag text);
ALTER TABLE big ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON big USING (org = 1 AND tag <> '');
GRANT SELECT ON big TO alice, bob;
SELECT snapsync.enable('big', scope_column => 'org');
INSERT INTO big SELECT n, 1 + n % 2, repeat('t', 1000) FROM generate_series(1, 8000) AS n;
ANALYZE big;
-- The most blocks that one of the pages looked at.
CREATE FUNCTION c.blocks(who text, name text, size int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    c c.client;
    plan json;
    answer json;
    most int := 0;
    pages int := 0;
BEGIN
    SELECT * INTO c FROM c.client WHERE client.who = blocks.who;
    LOOP
        EXECUTE format('EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT pull_changes(ARRAY[%L], %L, page_size => %s, next => %L)', name, c.cursor, size, c.next) INTO plan;
        most := greatest(most, (plan #>> '{0,Plan,Shared Hit Blocks}')::int + (plan #>> '{0,Plan,Shared Read Blocks}')::int);
        pages := pages + 1;
        answer := pull_changes(ARRAY[name], c.cursor, page_size => size, next => c.next);
        EXIT WHEN answer ->> 'next' IS NULL OR pages > 20;
        c.next := answer ->> 'next';
    END LOOP;
    RETURN most;
END
$$;
INSERT INTO c.held SELECT 'g', 'big', id::text, to_jsonb(b) FROM big AS b WHERE org = 1;
SET ROLE alice; INSERT INTO c.client SELECT 'g', pull_changes('{big}') ->> 'timestamp'; RESET ROLE;
DELETE FROM big WHERE id > 200;
UPDATE big SET tag = 'changed' WHERE id <= 10;
SET ROLE alice;
SELECT c.page('g', '{big}', 100);
SELECT c.blocks('g', 'big', 100) < 900;
SELECT c.pages('g', '{big}', 100);
SELECT count(*) FROM c.wrong('g', 'big');
RESET ROLE;
-- Written in several parts, and rows that were changed in more than one of them; small transactions before and behind it; the log gets another file.
SET snapsync.flush_threshold = 1000;
INSERT INTO big SELECT n, 1 + n % 2, 'new' FROM generate_series(10001, 10010) AS n;
BEGIN;
INSERT INTO big SELECT n, 1 + n % 2, 'new' FROM generate_series(1001, 4000) AS n;
UPDATE big SET tag = 'twice' WHERE id BETWEEN 901 AND 1100;
UPDATE big SET org = 3 - org WHERE id BETWEEN 1501 AND 1600;
DELETE FROM big WHERE id BETWEEN 3001 AND 3100;
COMMIT;
INSERT INTO big SELECT n, 1 + n % 2, 'new' FROM generate_series(10011, 10020) AS n;
RESET snapsync.flush_threshold;
SET ROLE alice;
SELECT c.page('g', '{big}', 50) FROM generate_series(1, 5);
RESET ROLE;
VACUUM FULL snapsync.change;
SET ROLE alice;
SELECT c.pages('g', '{big}', 50) > 20;
SELECT count(*) FROM c.wrong('g', 'big');
RESET ROLE;
