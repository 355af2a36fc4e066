-- What is in the log for others takes no memory of a pull: their scopes may be long, and share a bucket with those of the caller.
\set ECHO none
\set test regress_log_memory
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
\set ECHO none
SET client_min_messages = warning;
CREATE TABLE rooms (name text, id int PRIMARY KEY);
-- Scopes in all buckets.
SELECT snapsync.enable('rooms', scope_column => 'name', scope_values => 'ARRAY(SELECT n::text FROM generate_series(1, 10000) AS n)');
ALTER TABLE rooms ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON rooms USING (id = 0);
GRANT SELECT ON rooms TO PUBLIC;
\set ECHO all
SELECT public.pull_changes('{rooms}') ->> 'timestamp' AS from \gset
INSERT INTO rooms SELECT repeat('x', 4000000) || i, i FROM generate_series(1, 60) AS i;
-- As many keys in one entry as it can have, and many of these.
INSERT INTO rooms SELECT 'y', i FROM generate_series(1001, 101000) AS i;
INSERT INTO rooms VALUES ('7', 0);
-- A session of its own; so many MB its own memory has grown, at its highest, in a pull.
\c -
CREATE FUNCTION t.mb() RETURNS int LANGUAGE sql AS $$
    SELECT sum(CASE m[1] WHEN 'VmHWM' THEN m[2]::int ELSE -m[2]::int END)::int / 1024
    FROM regexp_matches(pg_read_file('/proc/self/status'), '(VmHWM|RssFile|RssShmem):\s*(\d+)', 'g') AS m $$;
CREATE PROCEDURE t.pull_as_alice(name text, cursor text) LANGUAGE plpgsql AS $$
DECLARE
    before int := t.mb();
    got json;
BEGIN
    SET ROLE alice;
    got := public.pull_changes(ARRAY[name], cursor) -> 'changes';
    RESET ROLE;
    RAISE INFO '% %', got, CASE WHEN t.mb() - before < 64 THEN 'in little memory' ELSE 'in much memory' END;
END $$;
CALL t.pull_as_alice('rooms', :'from');
-- Nor do the keys of many rows that came since, which are looked for where access moved.
CREATE TABLE members (who text, room int, PRIMARY KEY (who, room));
CREATE TABLE notes (id text PRIMARY KEY, room int);
SELECT snapsync.enable('members'), snapsync.enable('notes');
ALTER TABLE members ENABLE ROW LEVEL SECURITY;
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON members USING (who = current_user);
CREATE POLICY p ON notes USING (room IN (SELECT m.room FROM members AS m));
GRANT SELECT ON members, notes TO PUBLIC;
SELECT public.pull_changes('{notes}') ->> 'timestamp' AS from \gset
INSERT INTO notes SELECT i || repeat('y', 2000), 1 FROM generate_series(1, 60000) AS i;
INSERT INTO members VALUES ('alice', 0);
\c -
CALL t.pull_as_alice('notes', :'from');

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_log_memory;
