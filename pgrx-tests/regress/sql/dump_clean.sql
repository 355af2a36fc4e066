-- A dump with --clean is loaded over the database that it is of, in one transaction: it drops our triggers before the tables. (Not one
-- with partitioned tables, whose inherited constraints such a dump of PostgreSQL 15 cannot drop.)
\set ECHO none
\set test regress_dump_clean
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
\set load '\\! db=regress_dump_clean; dump=$("$SNAPSYNC_PG_BIN/pg_dump" --clean --if-exists $db) && printf "%s\\n" "$dump" | "$SNAPSYNC_PG_BIN/psql" -X -q -o /dev/null -1 -v ON_ERROR_STOP=1 -d $db && echo loaded'

CREATE TABLE members (org int, who name, PRIMARY KEY (org, who));
CREATE TABLE docs (id int PRIMARY KEY, org int, title text);
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON docs USING (org IN (SELECT org FROM members WHERE who = current_user));
CREATE TABLE notes (id int PRIMARY KEY, doc int REFERENCES docs, v text);
GRANT SELECT ON docs, members, notes TO alice;
SELECT snapsync.enable('docs', exclude => '{title}', notify => 'notify'), snapsync.enable('notes');
INSERT INTO members VALUES (1, 'alice');
INSERT INTO docs VALUES (1, 1, 'a'), (2, 2, 'b');
INSERT INTO notes VALUES (1, 1, 'a');
:load
SELECT name, relation, exclude, image, notify FROM snapsync.collection ORDER BY relation::text;
SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger WHERE tgfoid = 'snapsync.track'::regproc ORDER BY tgrelid::regclass::text, 2;
SELECT severity, collection, finding FROM snapsync.doctor() WHERE severity = 'error' AND finding !~ 'role';
-- The first writer records that history goes on from the dump; cursors that are handed out before may be in doubt.
INSERT INTO members VALUES (2, 'bob');
SELECT * FROM t.pull('{docs,notes}', NULL);
-- It goes on: what is written is logged, and DDL is followed.
INSERT INTO docs VALUES (3, 1, 'c');
SELECT t.pull_ids('docs');
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
SELECT count(*) > 0 FROM snapsync.dependency;
SELECT t.pull_ids('docs');
CREATE POLICY q ON docs USING (id = f());
SELECT t.pull_ids('docs');
CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2';
SELECT t.pull_ids('docs');
-- Once more, over what a load has left.
:load
SELECT name FROM snapsync.collection ORDER BY 1;
-- Nobody drops them otherwise.
SELECT * FROM t.error('DROP TRIGGER "00_snapsync_track" ON docs');
SELECT * FROM t.error('DROP TRIGGER "00_snapsync_truncate" ON notes');
-- Nor with a dump's settings who owns no more than a partition.
CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (100);
ALTER TABLE part OWNER TO bob;
SELECT snapsync.enable('parted');
SET ROLE bob;
SET check_function_bodies = off;
SET row_security = off;
SELECT * FROM t.error('DROP TRIGGER "00_snapsync_truncate" ON part');
SELECT * FROM t.error('CREATE OR REPLACE TRIGGER "00_snapsync_truncate" AFTER TRUNCATE ON part EXECUTE FUNCTION snapsync.track()');
RESET check_function_bodies;
RESET row_security;
RESET ROLE;
SELECT name FROM snapsync.collection ORDER BY 1;
SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger WHERE tgrelid IN ('parted'::regclass, 'part'::regclass) ORDER BY 1, 2;

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_dump_clean;
