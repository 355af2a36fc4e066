-- snapsync.horizon beside an old snapshot, which keeps what writers have dropped in its indexes: they look at a bounded part of that, one at a
-- time. And a wall clock that is behind makes it no longer.
\set ECHO none
\set test regress_horizon_load
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE todos (id int PRIMARY KEY, n int);
CREATE TABLE plain (id int);
SELECT snapsync.enable('todos');
INSERT INTO todos VALUES (1, 0);
BEGIN;
INSERT INTO plain VALUES (1);
PREPARE TRANSACTION 'snapsync_horizon_load';
-- As commits leave it in 100 minutes, twenty each second, and thinned as writers do.
INSERT INTO snapsync.horizon SELECT s, now() - interval '100 minutes' + s * interval '0.05 s' FROM generate_series(1, 119900) AS s;
CREATE PROCEDURE t.drop_all_but_last(part text, from_ interval) LANGUAGE sql AS $$
    DELETE FROM snapsync.horizon WHERE at < now() - from_ AND (date_trunc(part, at), at) NOT IN
        (SELECT date_trunc(part, at), max(at) FROM snapsync.horizon WHERE at < now() - from_ GROUP BY 1) $$;
CALL t.drop_all_but_last('second', '10 s');
CALL t.drop_all_but_last('minute', '1 hour');
CREATE FUNCTION t.entries_read() RETURNS bigint LANGUAGE sql AS $$ SELECT idx_tup_read FROM pg_stat_all_indexes WHERE indexrelname = 'horizon_at' $$;
SELECT pg_stat_force_next_flush();
\c -
\set ECHO none
SET client_min_messages = warning;
SELECT t.entries_read() AS before \gset
\set ECHO all
-- The first write of a session.
UPDATE todos SET n = n + 1;
\set ECHO none
SELECT pg_stat_force_next_flush();
\set ECHO all
SELECT CASE WHEN t.entries_read() - :before < 20000 THEN 'few' ELSE (t.entries_read() - :before)::text END AS entries_read;
-- Those of others, right afterwards.
\set ECHO none
SELECT t.entries_read() AS before \gset
\c -
UPDATE todos SET n = n + 1;
SELECT pg_stat_force_next_flush();
\c -
UPDATE todos SET n = n + 1;
SELECT pg_stat_force_next_flush();
\c -
UPDATE todos SET n = n + 1;
SELECT pg_stat_force_next_flush();
\c -
UPDATE todos SET n = n + 1;
SELECT pg_stat_force_next_flush();
\c -
UPDATE todos SET n = n + 1;
SELECT pg_stat_force_next_flush();
\c -
UPDATE todos SET n = n + 1;
SELECT pg_stat_force_next_flush();
\set ECHO all
SELECT CASE WHEN t.entries_read() - :before < 50000 THEN 'few' ELSE (t.entries_read() - :before)::text END AS entries_read;
ROLLBACK PREPARED 'snapsync_horizon_load';

-- Of rows of one time, as they are after the wall clock was set back, the first and the last count.
DELETE FROM snapsync.horizon;
INSERT INTO snapsync.horizon SELECT s, now() - interval '1 minute' FROM generate_series(1, 20) AS s;
\c -
UPDATE todos SET n = n + 1;
SELECT array_agg(snapmin ORDER BY snapmin) AS kept FROM snapsync.horizon WHERE snapmin <= 20;
-- So it is while it is still behind.
DELETE FROM snapsync.horizon;
INSERT INTO snapsync.horizon SELECT s, now() + interval '1 hour' FROM generate_series(1, 200) AS s;
\c -
UPDATE todos SET n = n + 1;
SELECT array_agg(snapmin ORDER BY snapmin) FILTER (WHERE snapmin <= 200) AS kept, count(*) AS with_the_new_one FROM snapsync.horizon;
\c -
UPDATE todos SET n = n + 1;
\c -
UPDATE todos SET n = n + 1;
SELECT min(snapmin), count(*) FROM snapsync.horizon;
DELETE FROM snapsync.horizon;
