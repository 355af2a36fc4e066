-- Stamps are never given twice: whoever sets the clock back (a script that copies all sequences, a restore) only makes it leap.
\set ECHO none
\set test regress_clock_set_back
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE todos (id int PRIMARY KEY, title text);
SELECT snapsync.enable('todos');
INSERT INTO todos SELECT i, 'old' FROM generate_series(1, 5) AS i;
SELECT pull_changes('{todos}') ->> 'timestamp' AS early \gset
CREATE PROCEDURE write(times int) LANGUAGE plpgsql AS $$ BEGIN
    FOR i IN 1..times LOOP UPDATE todos SET title = clock_timestamp()::text WHERE id = 1; COMMIT; END LOOP;
END $$;
CALL write(60);
SELECT pull_changes('{todos}') ->> 'timestamp' AS late \gset
SELECT last_value AS before FROM snapsync.clock \gset
SELECT FROM setval('snapsync.clock', :before - 50);
-- Nobody has written yet: a client that has seen more takes everything; what it then has is a cursor like any other.
SELECT id FROM set_config('t.cursor', :'late', false), json_to_recordset(pull_changes('{todos}', :'late') #> '{changes,todos,updated}') AS r(id int);
UPDATE todos SET title = 'new' WHERE id = 2;
SELECT last_value > :before + 2 ^ 28 AS leapt FROM snapsync.clock;
CALL write(100);
UPDATE todos SET title = 'new' WHERE id = 3;
-- Old cursors go on, without a replacement, and miss nothing.
SELECT * FROM t.pull('{todos}', :'late') WHERE item NOT LIKE '%"id":1,%';
SELECT * FROM t.pull('{todos}', :'early') WHERE item NOT LIKE '%"id":1,%';
SELECT pull_changes('{todos}') ->> 'timestamp' AS late \gset
-- ALTER SEQUENCE gives it another file, and nextval() is only an unused stamp.
ALTER SEQUENCE snapsync.clock RESTART;
UPDATE todos SET title = 'newer' WHERE id = 4;
SELECT FROM nextval('snapsync.clock');
UPDATE todos SET title = 'newer' WHERE id = 5;
SELECT * FROM t.pull('{todos}', :'late');
-- Set ahead.
SELECT FROM setval('snapsync.clock', (SELECT last_value + 1000000 FROM snapsync.clock));
UPDATE todos SET title = 'newest' WHERE id = 5;
SELECT * FROM t.pull('{todos}');
-- A wall clock that says nonsense is not believed, and cursors stay exact in JavaScript.
SELECT last_value < 2 ^ 52 AS exact FROM snapsync.clock;
SELECT count(*), bool_or(lost) FROM snapsync.epoch;

-- The wall clock was set back by 40 minutes: who pulled at its first passing of a time gets what came after that.
SET snapsync.timestamp_slack = '1s';
DELETE FROM snapsync.horizon;
SELECT last_value AS base FROM snapsync.clock \gset
INSERT INTO todos SELECT i, 'later' FROM generate_series(6, 90) AS i;
DELETE FROM snapsync.change;
-- A change a minute, of the row with the minute's number.
INSERT INTO snapsync.change (relation, ord, stamp, op, key)
SELECT 'todos', 0, :base + m, 'U', m FROM generate_series(1, 90) AS m;
INSERT INTO snapsync.horizon SELECT :base + m, '2026-05-01 12:00Z'::timestamptz + m * interval '1 minute' FROM generate_series(1, 40) AS m;
-- (What writers say while it is behind: not before what was there.)
INSERT INTO snapsync.horizon SELECT :base + m, '2026-05-01 12:40Z' FROM generate_series(41, 80) AS m;
INSERT INTO snapsync.horizon SELECT :base + m, '2026-05-01 12:00Z'::timestamptz + (m - 40) * interval '1 minute' FROM generate_series(81, 90) AS m;
SELECT FROM setval('snapsync.clock', :base + 100);
SELECT at, (SELECT min(id) FROM json_to_recordset(pull_changes('{todos}', at) #> '{changes,todos,updated}') AS r(id int)) AS "from"
FROM (VALUES ('2026-05-01T12:20:30Z'), ('2026-05-01T12:40:30Z'), ('2026-05-01T12:45:30Z')) AS v(at);

-- Of many horizons, one a second is kept after ten seconds, and one a minute after an hour. (The newest is three seconds old: nobody has
-- thinned them for two.)
DELETE FROM snapsync.horizon;
INSERT INTO snapsync.horizon SELECT s, now() - interval '2 hours' + s * interval '0.2 s' FROM generate_series(1, 35985) AS s;
SELECT FROM pg_sleep(0.01);
UPDATE todos SET title = 'thinned' WHERE id = 1;
\connect regress_clock_set_back
UPDATE todos SET title = 'thinned' WHERE id = 2;
SELECT count(*) FILTER (WHERE at < now() - interval '61 min') BETWEEN 58 AND 61 AS a_minute,
       count(*) FILTER (WHERE at BETWEEN now() - interval '50 min' AND now() - interval '12 s') BETWEEN 2985 AND 2990 AS a_second,
       count(*) FILTER (WHERE at > now() - interval '9 s') > 15 AS all_of_the_last
FROM snapsync.horizon;
