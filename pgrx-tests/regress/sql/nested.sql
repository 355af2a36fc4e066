-- Statements inside statements: BEFORE triggers and functions that change the rows which the outer statement changes, too. Devices of two users have in the
-- end what these see, whatever came inside of what. Triggers fire in another order than the changes happened.
\set ECHO none
\set test regress_nested
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
\set ECHO all
CREATE TABLE readings (id int PRIMARY KEY, owner name, v int);
ALTER TABLE readings ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON readings USING (owner = current_user);
GRANT SELECT ON readings TO alice, bob;
SELECT snapsync.enable('readings');
CREATE FUNCTION t.replaces() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM readings WHERE id = new.id; RETURN new; END $$;
CREATE TRIGGER replaces BEFORE INSERT ON readings FOR EACH ROW EXECUTE FUNCTION t.replaces();

-- The last one wins: a key twice in one command, of a row that is new and of one that was there.
INSERT INTO readings VALUES (9, 'alice', 0);
SELECT t.sync('alice', 'readings'), t.sync('bob', 'readings');
COPY readings FROM stdin (FORMAT csv);
1,alice,10
2,alice,20
1,alice,11
\.
SELECT t.sync('alice', 'readings'), t.sync('bob', 'readings');
INSERT INTO readings VALUES (3, 'alice', 1), (3, 'bob', 2), (1, 'bob', 1), (1, 'alice', 2), (2, 'alice', 1), (2, 'bob', 2);
SELECT t.sync('alice', 'readings'), t.sync('bob', 'readings');
SELECT count(*) FROM t.log();
-- What is there for a moment only is nothing.
CREATE FUNCTION t.vanishes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF new.v = 0 THEN RETURN NULL; END IF; RETURN new; END $$;
CREATE TRIGGER vanishes BEFORE INSERT ON readings FOR EACH ROW EXECUTE FUNCTION t.vanishes();
INSERT INTO readings VALUES (20, 'alice', 1), (20, 'alice', 0);
SELECT * FROM t.log();
-- A row of which an UPDATE that changes nothing has made another version, and that is then replaced inside of the statement that inserts it.
CREATE FUNCTION t.stays() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE readings SET v = v WHERE id = new.id; RETURN new; END $$;
CREATE TRIGGER a_stays BEFORE INSERT ON readings FOR EACH ROW EXECUTE FUNCTION t.stays();
INSERT INTO readings VALUES (3, 'alice', 5);
SELECT t.sync('alice', 'readings'), t.sync('bob', 'readings');
DROP TRIGGER replaces ON readings;
DROP TRIGGER vanishes ON readings;
DROP TRIGGER a_stays ON readings;

-- At random: what triggers and functions do to a row of three, also in subtransactions that are rolled back.
CREATE FUNCTION t.what(most int) RETURNS int LANGUAGE sql AS $$ SELECT floor(random() * most)::int $$;
CREATE FUNCTION t.does(depth int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    row_id int := 1 + t.what(3);
    who name := (ARRAY['alice', 'bob', 'carol'])[1 + t.what(3)];
BEGIN
    PERFORM set_config('t.depth', depth::text, true);
    CASE t.what(11)
        WHEN 0 THEN INSERT INTO readings VALUES (row_id, who, t.what(99)), (row_id, who, t.what(99)) ON CONFLICT (id) DO NOTHING;
        WHEN 1 THEN INSERT INTO readings SELECT row_id, who, t.what(99) FROM generate_series(1, 2) ON CONFLICT (id) DO UPDATE SET owner = excluded.owner;
        WHEN 2 THEN UPDATE readings SET v = t.what(99), owner = who WHERE id <> row_id;
        WHEN 3 THEN UPDATE readings SET v = t.what(99) WHERE id = row_id;
        WHEN 4 THEN UPDATE readings SET v = v;
        WHEN 5 THEN DELETE FROM readings WHERE id = row_id;
        WHEN 6 THEN UPDATE readings SET id = row_id WHERE id = 1 + t.what(3);
        WHEN 7 THEN MERGE INTO readings AS r USING (VALUES (1, t.what(2)), (2, t.what(2)), (3, t.what(2))) AS s (id, v) ON r.id = s.id
                    WHEN MATCHED AND s.v = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET v = t.what(99), owner = who
                    WHEN NOT MATCHED AND s.v = 1 THEN INSERT VALUES (s.id, who, s.v);
        WHEN 8 THEN INSERT INTO readings SELECT row_id, who, t.what(9) WHERE t.does(least(depth + 1, 4)) >= 0;
        WHEN 9 THEN WITH gone AS (DELETE FROM readings WHERE id = row_id RETURNING id) INSERT INTO readings SELECT 1 + id % 3, who, 1 FROM gone;
        ELSE DELETE FROM readings WHERE id = row_id; INSERT INTO readings VALUES (row_id, who, t.what(99));
    END CASE;
    IF t.what(12) = 0 THEN
        PERFORM public.pull_changes('{readings}');
    END IF;
    RETURN depth;
END $$;
CREATE FUNCTION t.interferes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    depth int := current_setting('t.depth')::int;
BEGIN
    IF depth < 3 AND t.what(4) = 0 THEN
        BEGIN
            PERFORM t.does(depth + 1);
            IF t.what(4) = 0 THEN
                RAISE division_by_zero;
            END IF;
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
        PERFORM set_config('t.depth', depth::text, true);
    END IF;
    RETURN CASE WHEN tg_when = 'AFTER' OR t.what(9) = 0 THEN NULL WHEN tg_op = 'DELETE' THEN old ELSE new END;
END $$;
CREATE TRIGGER before_it BEFORE INSERT OR UPDATE OR DELETE ON readings FOR EACH ROW EXECUTE FUNCTION t.interferes();
CREATE TRIGGER after_it AFTER INSERT OR UPDATE OR DELETE ON readings FOR EACH ROW EXECUTE FUNCTION t.interferes();
CREATE TABLE t.said (said text);
CREATE PROCEDURE t.tries(rounds int) LANGUAGE plpgsql AS $$
BEGIN
    FOR n IN 1 .. rounds LOOP
        FOR m IN 1 .. 3 LOOP
            BEGIN
                PERFORM t.does(0);
            EXCEPTION WHEN OTHERS THEN
                NULL;
            END;
        END LOOP;
        COMMIT;
        INSERT INTO t.said SELECT n || ' ' || t.sync('alice', 'readings') UNION ALL SELECT n || ' ' || t.sync('bob', 'readings');
        COMMIT;
    END LOOP;
END $$;
SELECT setseed(0.27) IS NOT NULL;
CALL t.tries(100);
SELECT said FROM t.said WHERE said LIKE '%BUT HAS%' LIMIT 3;
SELECT count(*) > 50 FROM t.said WHERE said NOT LIKE '%nothing';
-- (Where the test of it has failed, by a pull in the midst of a statement.)
SELECT setseed(-0.33) IS NOT NULL;
CALL t.tries(15);
SELECT said FROM t.said WHERE said LIKE '%BUT HAS%' LIMIT 3;
-- So it is of transactions that are written in parts.
SET snapsync.flush_threshold = 6;
SELECT setseed(0.72) IS NOT NULL;
CALL t.tries(100);
SELECT said FROM t.said WHERE said LIKE '%BUT HAS%' LIMIT 3;
DROP TRIGGER before_it ON readings;
DROP TRIGGER after_it ON readings;

-- A row that passes from one to the other in one transaction, with a savepoint that is written before what was there already. Carol never saw one.
CREATE TABLE cards (id int PRIMARY KEY, owner name, note text);
CREATE TABLE others (id int PRIMARY KEY, v int);
ALTER TABLE cards ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON cards USING (owner = current_user);
GRANT SELECT ON cards TO PUBLIC;
SELECT snapsync.enable('cards'), snapsync.enable('others');
INSERT INTO cards SELECT i, 'bob' FROM generate_series(1, 5) AS i;
INSERT INTO others SELECT i FROM generate_series(1, 9) AS i;
SET snapsync.flush_threshold = 7;
SELECT t.sync('alice', 'cards'), t.sync('bob', 'cards'), t.sync('carol', 'cards');
BEGIN;
UPDATE cards SET owner = 'carol' WHERE id <= 3;
SAVEPOINT s;
UPDATE cards SET owner = 'alice';
UPDATE others SET v = 1;
RELEASE s;
UPDATE cards SET note = 'assigned' WHERE id <= 2;
COMMIT;
SELECT t.sync('alice', 'cards'), t.sync('bob', 'cards'), t.sync('carol', 'cards');
-- The same with another version of each row, of which nothing is logged.
BEGIN;
UPDATE cards SET note = note;
UPDATE cards SET owner = 'carol' WHERE id <= 3;
SAVEPOINT s;
UPDATE cards SET owner = 'bob';
UPDATE others SET v = 2;
RELEASE s;
UPDATE cards SET note = 'again' WHERE id <= 2;
COMMIT;
SELECT t.sync('alice', 'cards'), t.sync('bob', 'cards'), t.sync('carol', 'cards');
-- Deleted before the savepoint, and there again.
BEGIN;
DELETE FROM cards WHERE id <= 3;
SAVEPOINT s;
INSERT INTO cards SELECT i, 'carol' FROM generate_series(1, 3) AS i;
UPDATE others SET v = 3;
RELEASE s;
UPDATE cards SET note = 'new', owner = 'alice' WHERE id <= 3;
COMMIT;
SELECT t.sync('alice', 'cards'), t.sync('bob', 'cards'), t.sync('carol', 'cards');
-- A membership.
CREATE TABLE players (id int PRIMARY KEY, who name, team int);
INSERT INTO players VALUES (1, 'bob', 7);
SELECT t.secured('games', ', team int', 'team IN (SELECT team FROM players WHERE who = current_user)');
GRANT SELECT ON players TO PUBLIC;
INSERT INTO games SELECT i, 7 FROM generate_series(1, 3) AS i;
SELECT t.sync('alice', 'games'), t.sync('bob', 'games'), t.sync('carol', 'games');
BEGIN;
UPDATE players SET who = 'carol';
SAVEPOINT s;
UPDATE players SET who = 'dave';
UPDATE others SET v = 4;
RELEASE s;
UPDATE players SET who = 'alice';
COMMIT;
SELECT t.sync('alice', 'games'), t.sync('bob', 'games'), t.sync('carol', 'games');
-- A trigger of one row's that changes the next, of which the same statement has something to log.
CREATE FUNCTION t.back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE cards SET owner = 'alice' WHERE id = new.id + 1; RETURN NULL; END $$;
CREATE TRIGGER back AFTER UPDATE ON cards FOR EACH ROW WHEN (new.owner = 'carol') EXECUTE FUNCTION t.back();
SET snapsync.flush_threshold = 3;
BEGIN;
UPDATE cards SET owner = 'alice';
UPDATE cards SET owner = 'carol' WHERE id < 5;
COMMIT;
SELECT t.sync('alice', 'cards'), t.sync('bob', 'cards'), t.sync('carol', 'cards');
BEGIN;
UPDATE cards SET note = note;
UPDATE cards SET owner = 'carol' WHERE id < 5;
COMMIT;
SELECT t.sync('alice', 'cards'), t.sync('bob', 'cards'), t.sync('carol', 'cards');
-- A savepoint that was written and is rolled back leaves the rest in one piece.
SET snapsync.flush_threshold = 20;
CREATE TABLE loose (id int PRIMARY KEY, owner name);
ALTER TABLE loose ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON loose USING (lower(owner) = current_user::text);
GRANT SELECT ON loose TO PUBLIC;
SELECT snapsync.enable('loose');
INSERT INTO loose VALUES (1, 'alice');
SELECT t.sync('alice', 'loose'), t.sync('bob', 'loose');
BEGIN;
UPDATE loose SET owner = owner;
INSERT INTO loose SELECT i, 'carol' FROM generate_series(11, 20) AS i;
DELETE FROM loose WHERE id = 1;
SAVEPOINT s;
INSERT INTO loose SELECT i, 'carol' FROM generate_series(101, 140) AS i;
ROLLBACK TO s;
INSERT INTO loose VALUES (1, 'bob');
COMMIT;
SELECT t.sync('alice', 'loose'), t.sync('bob', 'loose');
SET snapsync.flush_threshold = 3;
-- What a cascade does is logged behind what the triggers of the parents have done in between.
CREATE TABLE parents (id int PRIMARY KEY);
CREATE TABLE children (id int PRIMARY KEY, owner name, parent int REFERENCES parents ON DELETE CASCADE);
ALTER TABLE children ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON children USING (lower(owner) = current_user::text);
GRANT SELECT ON children TO PUBLIC;
CREATE FUNCTION t.keeps() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO children VALUES (old.id * 10, 'bob'); RETURN NULL; END $$;
CREATE TRIGGER z_keeps AFTER DELETE ON parents FOR EACH ROW EXECUTE FUNCTION t.keeps();
SELECT snapsync.enable('parents'), snapsync.enable('children');
INSERT INTO parents VALUES (1), (2), (3);
INSERT INTO children VALUES (10, 'alice', 1), (20, 'alice', 2), (30, 'alice', 3);
SELECT t.sync('alice', 'children'), t.sync('bob', 'children');
BEGIN;
UPDATE children SET owner = owner;
DELETE FROM parents;
COMMIT;
SELECT t.sync('alice', 'children'), t.sync('bob', 'children');
\set ECHO none
\connect postgres
SET client_min_messages = warning;
DROP DATABASE regress_nested;
