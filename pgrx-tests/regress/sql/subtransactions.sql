-- Savepoints, exception blocks, prepared transactions, early flushes and pulls in the middle of a transaction: what was
-- rolled back leaves nothing, what was not is there.
\set ECHO none
\set test regress_subtransactions
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE r (id int PRIMARY KEY, v int);
SELECT snapsync.enable('r');

-- A client with a replica of its own, fed by pulls alone.
CREATE TABLE replica (id int PRIMARY KEY, v int);
CREATE FUNCTION t.sync() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text := '';
    got record;
BEGIN
    FOR got IN SELECT * FROM t.pull('{r}') LOOP
        said := said || ', ' || CASE WHEN got.item IS NULL THEN 'replacement'
                                     ELSE substr(got.what, 3) || ' ' || coalesce(got.item::jsonb ->> 'id', got.item::jsonb #>> '{}') END;
        IF got.what = 'r by replacement' THEN
            DELETE FROM replica;
        ELSIF got.what = 'r.deleted' THEN
            DELETE FROM replica WHERE id = (got.item::jsonb #>> '{}')::int;
        ELSE
            INSERT INTO replica SELECT * FROM json_populate_record(NULL::replica, got.item::json)
            ON CONFLICT (id) DO UPDATE SET v = excluded.v;
        END IF;
    END LOOP;
    IF EXISTS (TABLE r EXCEPT TABLE replica) OR EXISTS (TABLE replica EXCEPT TABLE r) THEN
        said := said || ', AND THE REPLICA DIFFERS';
    END IF;
    RETURN coalesce(nullif(substr(said, 3), ''), 'nothing');
END
$$;

-- With everything kept in memory until the commit.
\set threshold 50000
\i savepoints.psql
-- With an early flush after every third change, and after every change: the same.
\set ECHO none
\set threshold 3
\i savepoints.psql
\set threshold 1
\i savepoints.psql

-- A loop that catches errors begins a subtransaction for each row: none has enough for a flush of its own, all together have.
SET snapsync.flush_threshold = 100;
BEGIN;
DO $$
BEGIN
    FOR n IN 1001 .. 1250 LOOP
        BEGIN
            INSERT INTO r VALUES (n, n);
        EXCEPTION WHEN unique_violation THEN
            NULL;
        END;
    END LOOP;
END $$;
SELECT count(*) AS entries, sum(coalesce(cardinality(keys), 1)) AS keys FROM snapsync.change
WHERE EXISTS (SELECT FROM unnest(coalesce(keys, ARRAY[key])) AS k WHERE k ~ '^1...$');
ROLLBACK;
SELECT t.sync();

-- A pull inside a savepoint writes what was changed before it: once, if the savepoint ends well.
RESET snapsync.flush_threshold;
CREATE FUNCTION t.written() RETURNS text LANGUAGE sql AS $$
    SELECT format('%s entries of %s keys', CASE WHEN count(*) < 200 THEN 'few' ELSE count(*)::text END, sum(coalesce(cardinality(keys), 1)))
    FROM snapsync.change WHERE EXISTS (SELECT FROM unnest(coalesce(keys, ARRAY[key])) AS k WHERE k ~ '^2....$') $$;
BEGIN;
INSERT INTO r SELECT n, n FROM generate_series(20001, 21000) AS n;
DO $$
BEGIN
    FOR n IN 1 .. 20 LOOP
        BEGIN
            PERFORM public.pull_changes('{r}', current_setting('t.cursor'));
            INSERT INTO r VALUES (21000 + n, n);
            BEGIN
                PERFORM public.pull_changes('{r}', current_setting('t.cursor'));
                UPDATE r SET v = -1 WHERE id = 20000 + n;
                PERFORM public.pull_changes('{r}', current_setting('t.cursor'));
            EXCEPTION WHEN division_by_zero THEN
                NULL;
            END;
        EXCEPTION WHEN division_by_zero THEN
            NULL;
        END;
    END LOOP;
END $$;
SELECT t.written();
SELECT count(*) FROM t.pull('{r}', current_setting('t.cursor'));
ROLLBACK;
-- Several pulls in it; and what is rolled back is written anew, packed.
BEGIN;
INSERT INTO r SELECT n, n FROM generate_series(20001, 21000) AS n;
DO $$
BEGIN
    FOR n IN 1 .. 3 LOOP
        BEGIN
            PERFORM public.pull_changes('{r}', current_setting('t.cursor'));
            PERFORM 1 / 0;
        EXCEPTION WHEN division_by_zero THEN
            NULL;
        END;
    END LOOP;
END $$;
SAVEPOINT a;
DO $$
BEGIN
    FOR n IN 1 .. 20 LOOP
        DELETE FROM r WHERE id = 20000 + n;
        PERFORM public.pull_changes('{r}', current_setting('t.cursor'));
    END LOOP;
END $$;
SAVEPOINT b;
UPDATE r SET v = -2 WHERE id = 20100;
SELECT count(*) FROM t.pull('{r}', current_setting('t.cursor'));
ROLLBACK TO SAVEPOINT b;
SELECT t.written();
RELEASE SAVEPOINT a;
SELECT t.written();
COMMIT;
SELECT t.written();
SELECT length(t.sync()) > 1000;
-- Rolled back after all.
BEGIN;
DELETE FROM r WHERE id > 20500;
SAVEPOINT a;
UPDATE r SET v = -3 WHERE id = 20500;
SELECT count(*) FROM t.pull('{r}', current_setting('t.cursor'));
SAVEPOINT b;
UPDATE r SET v = -4 WHERE id = 20499;
SELECT count(*) FROM t.pull('{r}', current_setting('t.cursor'));
RELEASE SAVEPOINT b;
ROLLBACK TO SAVEPOINT a;
COMMIT;
SELECT count(*) FILTER (WHERE what LIKE '%deleted'), count(*) FILTER (WHERE what NOT LIKE '%deleted') FROM t.pull('{r}', current_setting('t.cursor'));
