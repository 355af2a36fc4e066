-- prune() and compact() read each table once, whatever the session has set for its own plans: beside many transactions that wrote and pulled,
-- prune() compared each entry with each of them.
\set ECHO none
\set test regress_retention_load
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE todos (id int PRIMARY KEY, n int);
SELECT snapsync.enable('todos');
INSERT INTO todos VALUES (1, 0);
SELECT last_value AS base FROM snapsync.clock \gset
-- Old entries, and as many newer ones of transactions that were written to before they had their stamp.
CREATE PROCEDURE t.fill() LANGUAGE plpgsql AS $$
DECLARE base bigint := (SELECT min(stamp) FROM snapsync.change);
BEGIN
    INSERT INTO snapsync.change (relation, ord, stamp, op, key) SELECT 'todos', 0, base - 10000 + n, 'U', n FROM generate_series(1, 2000) AS n;
    INSERT INTO snapsync.early SELECT base - 10000 + n, base + 10000 + n, 1 FROM generate_series(1901, 22000) AS n;
    INSERT INTO snapsync.horizon SELECT base, now() - interval '2 days';
END $$;
CREATE FUNCTION t.reads() RETURNS bigint LANGUAGE sql AS $$
    SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_all_tables WHERE schemaname = 'snapsync' $$;
CREATE FUNCTION t.maintain(what text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before bigint;
    done bigint;
    rows bigint := (SELECT count(*) FROM snapsync.change) + (SELECT count(*) FROM snapsync.early) + (SELECT count(*) FROM snapsync.horizon);
BEGIN
    before := t.reads();
    EXECUTE 'SELECT ' || what INTO done;
    RETURN format('%s dropped, %s', done, CASE WHEN t.reads() - before < 10 * rows THEN 'all read a few times'
                                              ELSE format('%s read of %s', t.reads() - before, rows) END);
END $$;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET enable_material = off;
SET enable_indexscan = off;
SET enable_bitmapscan = off;
SET work_mem = '64kB';
SET seq_page_cost = 1e15;
SET random_page_cost = 0;
SET cpu_operator_cost = 1e9;
CALL t.fill();
SELECT t.maintain('snapsync.compact()');
SELECT t.maintain($$ snapsync.prune('1 day') $$);
-- The rest.
UPDATE snapsync.horizon SET snapmin = snapmin + 40000;
SELECT t.maintain($$ snapsync.prune('1 day') $$);
SELECT count(*) FROM snapsync.early;
