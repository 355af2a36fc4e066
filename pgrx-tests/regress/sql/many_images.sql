-- More old rows than are kept in memory: they are judged in batches, each of which is told whole, to whom it concerns and to nobody else.
\set ECHO none
\set test regress_many_images
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
\set ECHO none
SET client_min_messages = warning;
CREATE TABLE docs (id int PRIMARY KEY, owner name, shared_with text[]);
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON docs USING (owner = current_user OR current_user = ANY (shared_with));
GRANT SELECT, INSERT, DELETE ON docs TO PUBLIC;
SELECT snapsync.enable('docs');
-- How many ids of deleted rows alice and bob are told, when each of them has so many rows with images of this size.
CREATE PROCEDURE t.delete(n int, size int) LANGUAGE plpgsql AS $$
DECLARE
    cursors text[];
    answer json;
    told text := '';
    wrong int;
BEGIN
    INSERT INTO docs SELECT i, CASE WHEN i % 2 = 0 THEN 'alice' ELSE 'bob' END, (SELECT array_agg(md5(j::text)) FROM generate_series(1, size) AS j)
      FROM generate_series(1, 2 * n) AS i;
    COMMIT;
    SET ROLE alice;
    cursors := ARRAY[public.pull_changes('{docs}') ->> 'timestamp'];
    SET ROLE bob;
    cursors := cursors || (public.pull_changes('{docs}') ->> 'timestamp');
    RESET ROLE;
    COMMIT;
    DELETE FROM docs;
    COMMIT;
    FOR i IN 1 .. 2 LOOP
        EXECUTE format('SET ROLE %I', ('{alice,bob}'::name[])[i]);
        answer := public.pull_changes('{docs}', cursors[i]);
        RESET ROLE;
        SELECT count(*) FILTER (WHERE id::int % 2 <> i - 1) INTO wrong FROM json_array_elements_text(answer #> '{changes,docs,deleted}') AS id;
        told := told || format(' %s (%s foreign)', json_array_length(answer #> '{changes,docs,deleted}'), wrong);
    END LOOP;
    RAISE INFO '% rows each, images of %: told%', n, size, told;
    PERFORM snapsync.compact();
END $$;
\set ECHO all
CALL t.delete(6000, 1);
CALL t.delete(6000, 10);
CALL t.delete(6000, 20);
CALL t.delete(3000, 60);

-- Shared until somebody takes it back, at whatever place in a batch.
CREATE PROCEDURE t.take_back(place int) LANGUAGE plpgsql AS $$
DECLARE
    cursor text;
    answer json;
BEGIN
    INSERT INTO docs SELECT i, 'bob', ARRAY['carol', repeat('x', 500)] FROM generate_series(1, 12000) AS i;
    UPDATE docs SET shared_with = '{alice}' WHERE id = place;
    COMMIT;
    SET ROLE alice;
    cursor := public.pull_changes('{docs}') ->> 'timestamp';
    RESET ROLE;
    COMMIT;
    UPDATE docs SET shared_with = '{nobody}';
    COMMIT;
    SET ROLE alice;
    answer := public.pull_changes('{docs}', cursor);
    RESET ROLE;
    RAISE INFO 'the row at % is taken back: %', place, answer #> '{changes,docs}';
    DELETE FROM docs;
END $$;
CALL t.take_back(1000);
CALL t.take_back(1001);
CALL t.take_back(10001);

-- States that a transaction makes and changes again before it ends are nobody's, also if it has so many that a part of them is written
-- while the first ones are still to come.
SET snapsync.flush_threshold = 3;
SET ROLE alice;
SELECT pull_changes('{docs}') ->> 'timestamp' AS cursor \gset
RESET ROLE;
BEGIN;
INSERT INTO docs SELECT i, 'alice', '{}' FROM generate_series(1, 2) AS i;
SAVEPOINT s;
UPDATE docs SET owner = 'bob' WHERE id <= 2;
INSERT INTO docs SELECT i, 'carol', '{}' FROM generate_series(101, 110) AS i;
RELEASE s;
COMMIT;
SET ROLE alice;
SELECT pull_changes('{docs}', :'cursor') -> 'changes';
RESET ROLE;

-- Nor are those of a row that is inserted and deleted again around such a part, or moves to another scope.
SET snapsync.flush_threshold = 5;
CREATE TABLE notes (id int PRIMARY KEY, org text, v int);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON notes USING (org = current_user AND v > 0);
GRANT SELECT ON notes TO PUBLIC;
SELECT snapsync.enable('notes', scope_column => 'org', scope_values => 'ARRAY[current_user::text]');
SET ROLE alice;
SELECT pull_changes('{docs,notes}') ->> 'timestamp' AS cursor \gset
RESET ROLE;
BEGIN;
INSERT INTO docs VALUES (201, 'alice', '{}');
SAVEPOINT s;
UPDATE docs SET shared_with = '{carol}' WHERE id = 201;
INSERT INTO docs SELECT i, 'carol', '{}' FROM generate_series(111, 124) AS i;
RELEASE s;
DELETE FROM docs WHERE id = 201;
COMMIT;
BEGIN;
INSERT INTO notes VALUES (1, 'alice', 1), (2, 'alice', 1);
SAVEPOINT s;
UPDATE notes SET v = 2;
INSERT INTO notes SELECT i, 'carol', 1 FROM generate_series(11, 23) AS i;
RELEASE s;
UPDATE notes SET org = 'bob' WHERE id = 1;
DELETE FROM notes WHERE id = 2;
COMMIT;
SET ROLE alice;
SELECT pull_changes('{docs,notes}', :'cursor') -> 'changes';
RESET ROLE;

SET snapsync.flush_threshold = 3;
-- The entries of a key stand in the order of its changes, whichever flush writes them, and also where triggers fire in another order.
CREATE FUNCTION t.ops(key int) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(op::text, ' ' ORDER BY ord)
    FROM (SELECT DISTINCT ON (ord) op, ord FROM snapsync.change AS c WHERE relation = 'docs'::regclass AND (c.key = $1::text OR $1::text = ANY (keys))
           AND stamp = (SELECT max(stamp) FROM snapsync.change WHERE relation = 'docs'::regclass)) AS last $$;
DELETE FROM docs;
INSERT INTO docs SELECT i, 'alice', '{}' FROM generate_series(1, 20) AS i;
BEGIN;
DELETE FROM docs WHERE id = 1;
SAVEPOINT s;
INSERT INTO docs VALUES (1, 'alice', '{}'), (101, 'alice', '{}'), (102, 'alice', '{}'), (103, 'alice', '{}');
RELEASE s;
COMMIT;
SELECT t.ops(1);
BEGIN;
UPDATE docs SET owner = 'bob' WHERE id = 2;
SAVEPOINT s;
DELETE FROM docs WHERE id IN (2, 3, 4, 5);
RELEASE s;
COMMIT;
SELECT t.ops(2);
BEGIN;
DELETE FROM docs WHERE id = 6;
UPDATE docs SET id = id - 1 WHERE id > 6;
COMMIT;
SELECT t.ops(7), t.ops(10), t.ops(15);

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_many_images;
