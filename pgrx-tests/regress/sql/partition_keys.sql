-- The server evaluates expressions in a partition key when it first looks at the table, in whatever session that is. Such a key
-- makes the table one that is not tracked, so that nobody else's session ever runs functions in it for us.
\set ECHO none
\set test regress_partition_keys
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
\set ECHO all
CREATE TABLE t.ran (who name);
GRANT INSERT ON t.ran TO PUBLIC;
CREATE SCHEMA mallory AUTHORIZATION alice;
SET ROLE alice;
CREATE FUNCTION mallory.tell() RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t.ran VALUES (current_user); END $$;
CREATE FUNCTION mallory.zero(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM mallory.tell(); RETURN 0; END $$;
CREATE TABLE mallory.grp (id int, usr text) PARTITION BY RANGE ((id + mallory.zero(0)));
CREATE TABLE mallory.plain (id int, usr text) PARTITION BY RANGE (id);
CREATE TABLE mallory.plain_1 PARTITION OF mallory.plain FOR VALUES FROM (0) TO (10) PARTITION BY RANGE ((id + mallory.zero(0)));
CREATE TABLE mallory.other (id int) PARTITION BY HASH ((id + mallory.zero(0)));
-- (A function of the system's that opens another table, and has the key of that evaluated.)
SELECT 'mallory.other'::regclass::oid AS other \gset
\set ECHO none
CREATE TABLE mallory.systems (id int, usr text) PARTITION BY LIST ((CASE WHEN satisfies_hash_partition(:other::oid, 2, 0, 1) THEN id ELSE 0 END));
\set ECHO all
CREATE TABLE mallory.simple (id int, usr text) PARTITION BY RANGE (id, usr);
CREATE TABLE mallory.a (id int PRIMARY KEY);
CREATE TABLE mallory.b (id int PRIMARY KEY);
CREATE TABLE mallory.c (id int PRIMARY KEY);
CREATE TABLE mallory.d (id int PRIMARY KEY);
ALTER TABLE mallory.a ENABLE ROW LEVEL SECURITY;
ALTER TABLE mallory.b ENABLE ROW LEVEL SECURITY;
ALTER TABLE mallory.c ENABLE ROW LEVEL SECURITY;
ALTER TABLE mallory.d ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON mallory.a USING (EXISTS (SELECT FROM mallory.grp WHERE usr = current_user));
CREATE POLICY p ON mallory.b USING (EXISTS (SELECT FROM mallory.plain WHERE usr = current_user));
CREATE POLICY p ON mallory.c USING (EXISTS (SELECT FROM mallory.simple WHERE usr = current_user));
CREATE POLICY p ON mallory.d USING (EXISTS (SELECT FROM mallory.systems WHERE usr = current_user));
RESET ROLE;
TRUNCATE t.ran;
-- Neither by a DBA nor by its owner.
\set VERBOSITY default
SELECT snapsync.enable('mallory.a');
SELECT snapsync.enable('mallory.b');
SELECT snapsync.enable('mallory.c');
SELECT snapsync.enable('mallory.d');
SET ROLE alice;
SELECT snapsync.enable('mallory.a');
SELECT snapsync.enable('mallory.d');
RESET ROLE;
SELECT DISTINCT who FROM t.ran;
TRUNCATE t.ran;
-- A policy that comes to read such a table later: replacements, and nothing runs.
CREATE POLICY q ON mallory.c USING (EXISTS (SELECT FROM mallory.grp WHERE usr = 'x'));
SELECT access, untracked FROM snapsync.access WHERE relation = 'mallory.c'::regclass ORDER BY access::text;
-- Of what changes in a foreign table nobody tells, so a table with such a part is not tracked either.
CREATE FOREIGN DATA WRAPPER elsewhere;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER elsewhere;
CREATE TABLE grants (usr name, tenant text) PARTITION BY LIST (tenant);
CREATE TABLE grants_a PARTITION OF grants FOR VALUES IN ('a');
CREATE TABLE grants_b PARTITION OF grants FOR VALUES IN ('b') PARTITION BY LIST (usr);
CREATE FOREIGN TABLE grants_c PARTITION OF grants_b FOR VALUES IN ('c') SERVER elsewhere;
CREATE TABLE reader (id int PRIMARY KEY, tenant text);
ALTER TABLE reader ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON reader USING (EXISTS (SELECT FROM grants AS g WHERE g.usr = current_user AND g.tenant = reader.tenant));
GRANT SELECT ON reader, grants TO PUBLIC;
SELECT snapsync.enable('reader');
ALTER TABLE grants_b DETACH PARTITION grants_c;
SELECT snapsync.enable('reader');
CREATE FUNCTION t.told() RETURNS TABLE (severity text, finding text, hint text) LANGUAGE sql AS $$
    SELECT severity, finding, hint FROM snapsync.doctor() WHERE finding ~ 'tracked|trigger' AND collection IN ('reader', 'grants') $$;
SELECT * FROM t.told();
-- It comes later.
ALTER TABLE grants_b ATTACH PARTITION grants_c FOR VALUES IN ('c');
SELECT access, untracked FROM snapsync.access WHERE relation = 'reader'::regclass;
SELECT * FROM t.told();
ALTER TABLE grants_b DETACH PARTITION grants_c;
SELECT access, untracked FROM snapsync.access WHERE relation = 'reader'::regclass;
SELECT * FROM t.told();
CREATE FOREIGN TABLE grants_d PARTITION OF grants FOR VALUES IN ('d') SERVER elsewhere;
SELECT access, untracked FROM snapsync.access WHERE relation = 'reader'::regclass;
DROP FOREIGN TABLE grants_d;
SELECT access, untracked FROM snapsync.access WHERE relation = 'reader'::regclass;
SELECT * FROM t.told();

-- A part that is somebody else's: who owns it may make an index there, whose expression the planner evaluates. Nobody but him and who asks runs that: a pull
-- reads an access table's rows as its owner only where that is the owner of all.
CREATE TABLE members (org int, usr text, PRIMARY KEY (org, usr)) PARTITION BY LIST (org);
CREATE TABLE members_1 PARTITION OF members FOR VALUES IN (1);
CREATE TABLE members_2 PARTITION OF members FOR VALUES IN (2);
CREATE TABLE docs (id int PRIMARY KEY, org int);
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON docs USING (EXISTS (SELECT FROM members AS m WHERE m.org = docs.org AND m.usr = current_user));
GRANT SELECT ON docs, members TO alice, bob;
SELECT snapsync.enable('docs');
INSERT INTO docs VALUES (1, 1), (2, 2);
INSERT INTO members VALUES (1, 'bob');
ALTER TABLE members_2 SET SCHEMA mallory;
ALTER TABLE mallory.members_2 OWNER TO alice;
SET ROLE alice;
CREATE FUNCTION mallory.nothing(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM mallory.tell(); RETURN ''; END $$;
SELECT t.pull('{docs}', NULL);
INSERT INTO mallory.members_2 VALUES (2, 'alice');
-- (A session evaluates it once.)
CREATE INDEX ON mallory.members_2 ((usr || mallory.nothing('')));
RESET ROLE;
TRUNCATE t.ran;
SET ROLE alice;
SELECT * FROM t.pull('{docs}');
RESET ROLE;
SELECT DISTINCT who FROM t.ran;
TRUNCATE t.ran;
-- What changes there concerns everybody, then, and its owner is told so.
CREATE FUNCTION t.said() RETURNS TABLE (severity text, finding text, hint text, fix text) LANGUAGE sql AS $$
    SELECT severity, finding, hint, fix FROM snapsync.doctor() WHERE finding ~ 'concerns every user' AND collection = 'docs' $$;
SELECT * FROM t.said();
SELECT t.sync('bob', 'docs');
INSERT INTO members VALUES (2, 'carol');
SELECT t.sync('bob', 'docs');
DELETE FROM members;
SELECT t.sync('bob', 'docs');
ALTER TABLE mallory.members_2 OWNER TO CURRENT_USER;
SELECT * FROM t.said();
\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_partition_keys;
