-- What transactions that write and then pull leave behind is read by those whom it concerns: beside many of them, others' pulls and pushes read none.
\set ECHO none
\set test regress_early_load
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE todos (id int PRIMARY KEY, title text);
CREATE TABLE others (id int PRIMARY KEY, title text);
SELECT snapsync.enable('todos'), snapsync.enable('others');
INSERT INTO todos VALUES (1, 'one');
SELECT pull_changes('{todos}') ->> 'timestamp' AS c \gset
-- (Of others: each as far apart as a sync that pushes and pulls makes it, and some that took long.)
SELECT count(nextval('snapsync.clock')) FROM generate_series(1, 400000);
SELECT last_value - 400000 AS base FROM snapsync.clock \gset
INSERT INTO snapsync.early SELECT :base + 4 * n + 1, :base + 4 * n + 8, 0 FROM generate_series(1, 95000) AS n;
INSERT INTO snapsync.early SELECT :base + 4 * n + 1, :base + 4 * n + 1001, 1 FROM generate_series(1, 90000, 100) AS n;
VACUUM ANALYZE snapsync.early;
CREATE FUNCTION t.reads() RETURNS bigint LANGUAGE sql AS $$
    SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_all_tables WHERE relid = 'snapsync.early'::regclass $$;
CREATE FUNCTION t.few(what text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before bigint := t.reads();
    answer text;
BEGIN
    EXECUTE 'SELECT ' || what INTO answer;
    RETURN format('%s; %s', answer, CASE WHEN t.reads() - before < 400 THEN 'few read' ELSE format('%s read', t.reads() - before) END);
END $$;
UPDATE todos SET title = 'ONE';
SELECT t.few(format('pull_changes(''{todos}'', %L) #> ''{changes,todos}''', :'c'));
SELECT t.few(format('pull_changes(''{todos}'', %L) #> ''{changes,todos}''', :base + 200000));
-- An edit of a row that is not there looks far back into the log.
SELECT pull_changes('{todos}') ->> 'timestamp' AS c \gset
SELECT t.few(format('push_changes(''{"todos": {"updated": [{"id": 7, "title": "x"}]}}'', %L)', :'c'));
