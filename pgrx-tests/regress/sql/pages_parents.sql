-- What pages read of the tables that decide who sees what: on the first page of collections all since the cursor, once for all of them; from then on
-- what came since the page before. And what must not be missed for that.
\set ECHO none
\set test regress_pages_parents
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

\i pages.psql
-- A page, and how much of the log it read: as many entries as `many` are no little.
CREATE FUNCTION t.reads() RETURNS bigint LANGUAGE sql AS $$
    SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_all_tables WHERE schemaname = 'snapsync' AND relname = 'change' $$;
CREATE FUNCTION t.page(who text, collections text[], size int, many int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before bigint := t.reads();
    said text := c.page(who, collections, size);
    reads bigint := t.reads() - before;
BEGIN
    RETURN said || CASE WHEN reads < many THEN ', reads little' WHEN reads < 2 * many THEN ', reads it once' ELSE format(', READS IT %s TIMES', round(reads / many::numeric)) END;
END
$$;
GRANT USAGE ON SCHEMA t TO PUBLIC;
CREATE TABLE members (org int, who text, PRIMARY KEY (org, who));
CREATE TABLE projects (id int PRIMARY KEY, org int NOT NULL, name text, hidden boolean NOT NULL DEFAULT false);
ALTER TABLE members ENABLE ROW LEVEL SECURITY;
ALTER TABLE projects ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON members USING (who = current_user);
CREATE POLICY p ON projects USING (NOT hidden AND org IN (SELECT org FROM members WHERE who = current_user));
GRANT SELECT ON members, projects TO alice;
INSERT INTO members VALUES (1, 'alice'), (2, 'bob');
INSERT INTO projects SELECT n, 1 FROM generate_series(1, 9) AS n;
INSERT INTO projects SELECT n, 2 FROM generate_series(100, 599) AS n;
SET client_min_messages = warning;
DO $$
BEGIN
    FOR n IN 1 .. 8 LOOP
        EXECUTE format('CREATE TABLE things%1$s (id int PRIMARY KEY, project int NOT NULL REFERENCES projects ON DELETE CASCADE, v int);
                        ALTER TABLE things%1$s ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON things%1$s USING (project IN (SELECT id FROM projects));
                        GRANT SELECT ON things%1$s TO alice; CREATE INDEX ON things%1$s (project);
                        INSERT INTO things%1$s SELECT 1000 + n, n %% 9 + 1, 0 FROM generate_series(1, 90) AS n;
                        INSERT INTO things%1$s SELECT 2000 + n, n, 0 FROM generate_series(100, 599) AS n', n);
        PERFORM snapsync.enable(format('things%s', n));
    END LOOP;
END
$$;
RESET client_min_messages;
CREATE FUNCTION t.all() RETURNS text[] LANGUAGE sql AS $$ SELECT array_agg('things' || n ORDER BY n) FROM generate_series(1, 8) AS n $$;
-- Others change what the policy of their projects reads, and (where this is logged, because projects are a collection themselves) what it does not.
CREATE PROCEDURE t.others() LANGUAGE plpgsql AS $$
BEGIN
    UPDATE projects SET hidden = NOT hidden WHERE id >= 200;
    COMMIT;
    FOR n IN 1 .. 100 LOOP UPDATE projects SET name = n WHERE id BETWEEN 100 AND 130; COMMIT; END LOOP;
END
$$;
-- So many entries say of projects what alice has not pulled.
CREATE FUNCTION t.many() RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FROM snapsync.change, c.client WHERE relation = 'projects'::regclass AND stamp >= cursor::bigint - 1 AND who = 'alice' $$;
ANALYZE;
\set ECHO queries
SET ROLE alice; SELECT c.pages('alice', t.all(), 1000); RESET ROLE;

-- Eight collections in a page read it once.
CALL t.others();
UPDATE things1 SET v = 1 WHERE id = 1001;
SELECT t.many() AS many \gset
SELECT :many >= 400 AS enough;
SET ROLE alice; SELECT t.page('alice', t.all(), 1000, :many); SELECT c.wrong('alice', 'things1', condition => 'id < 2000'); RESET ROLE;

-- So does a backlog in pages: the first one reads it, and the others what came since.
UPDATE things1 SET v = v + 1 WHERE id < 2000;
CALL t.others();
SELECT t.many() AS many \gset
SET ROLE alice; SELECT t.page('alice', '{things1,things2}', 30, :many) FROM generate_series(1, 3); SELECT c.pages('alice', '{things1,things2}', 30);
SELECT c.wrong('alice', 'things1', condition => 'id < 2000'); RESET ROLE;

-- Rows of hers that went, with their projects or before them: on the first page, before a page that is to tell of them, and between two.
UPDATE things1 SET v = v + 1 WHERE id < 2000;
DELETE FROM things1 WHERE id IN (1087, 1088, 1089);
CALL t.others();
DELETE FROM projects WHERE id = 7;
CALL t.others();
SELECT t.many() AS many \gset
SET ROLE alice; SELECT t.page('alice', '{things1}', 30, :many); RESET ROLE;
DELETE FROM projects WHERE id = 8;
SET ROLE alice; SELECT t.page('alice', '{things1}', 30, :many / 2); RESET ROLE;
DELETE FROM projects WHERE id = 9;
SET ROLE alice; SELECT t.page('alice', '{things1}', 30, :many / 2); SELECT c.pages('alice', '{things1}', 30), c.pages('alice', '{things1}', 30);
SELECT c.wrong('alice', 'things1', condition => 'id < 2000'); RESET ROLE;

-- A project of others that went with its things comes again between two pages, as one of hers: the things that hung on the old one are none of hers.
UPDATE things1 SET v = v + 1 WHERE id < 2000;
DELETE FROM projects WHERE id = 150;
SET ROLE alice; SELECT c.page('alice', '{things1}', 30); RESET ROLE;
INSERT INTO projects VALUES (150, 1);
SET ROLE alice; SELECT c.page('alice', '{things1}', 30) FROM generate_series(1, 2); SELECT c.pages('alice', '{things1}', 30);
SELECT c.wrong('alice', 'things1', condition => 'id < 2000'); RESET ROLE;

-- One that is new to all, a transaction that makes one itself, and what moves nothing of hers: no page begins anew.
UPDATE things1 SET v = v + 1 WHERE id < 2000;
DELETE FROM projects WHERE id = 151;
SET ROLE alice; SELECT c.page('alice', '{things1}', 30); RESET ROLE;
INSERT INTO projects VALUES (10, 1);
CALL t.others();
SET ROLE alice; SELECT c.page('alice', '{things1}', 10); RESET ROLE;
GRANT INSERT ON projects TO alice;
BEGIN; INSERT INTO projects VALUES (11, 1); SET LOCAL ROLE alice; SELECT c.page('alice', '{things1}', 10); COMMIT;
-- What she is let see, and what she is not any more, does.
INSERT INTO members VALUES (2, 'alice');
SET ROLE alice; SELECT c.page('alice', '{things1}', 10); SELECT c.pages('alice', '{things1}', 100) > 0;
SELECT c.pages('alice', '{things1}', 100) > 0; SELECT count(*) FROM c.wrong('alice', 'things1'); RESET ROLE;
UPDATE things1 SET v = v + 1 WHERE id < 2000;
SET ROLE alice; SELECT c.page('alice', '{things1}', 10); RESET ROLE;
DELETE FROM members WHERE org = 2 AND who = 'alice';
SET ROLE alice; SELECT c.page('alice', '{things1}', 10); SELECT c.pages('alice', '{things1}', 100) > 0;
SELECT c.pages('alice', '{things1}', 100) > 0; SELECT count(*) FROM c.wrong('alice', 'things1', condition => 'id < 2000'); RESET ROLE;

-- The same of a table that is a collection itself: its entries carry scopes, and say what no policy reads.
SELECT snapsync.enable('projects');
SET ROLE alice; SELECT c.pages('alice', t.all(), 1000) > 0; RESET ROLE;
UPDATE things1 SET v = v + 1 WHERE id < 2000;
CALL t.others();
SELECT t.many() AS many \gset
SELECT :many >= 500 AS enough;
SET ROLE alice; SELECT t.page('alice', t.all(), 30, :many) FROM generate_series(1, 3); SELECT c.pages('alice', t.all(), 30); SELECT c.wrong('alice', 'things1', condition => 'id < 2000'); RESET ROLE;
