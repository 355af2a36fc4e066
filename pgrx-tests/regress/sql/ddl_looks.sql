-- What DDL looks at: the tables that rest on what it touched, and no others; as whom, and what it refuses.
\set ECHO none
\set test regress_ddl_looks
\set roles '{ddl_mallory,ddl_bert}'
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
-- Rows of our own tables that this transaction has locked or written, and locks on tables that others have to wait for.
CREATE FUNCTION t.locks() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT relation::regclass || ' ' || mode FROM pg_locks
    WHERE pid = pg_backend_pid() AND locktype = 'relation' AND mode NOT IN ('AccessShareLock', 'RowExclusiveLock', 'RowShareLock')
      AND relation IN (SELECT oid FROM pg_class WHERE relnamespace IN ('public'::regnamespace, 'snapsync'::regnamespace)) ORDER BY 1
$$;

-- Session settings change nothing about what a policy is.
CREATE TABLE e (id int PRIMARY KEY, at timestamptz, f float8);
ALTER TABLE e ENABLE ROW LEVEL SECURITY;
CREATE POLICY s ON e USING (at >= '2025-01-01Z' AND f < 0.1);
GRANT SELECT ON e TO alice;
SET timezone = 'UTC';
SELECT snapsync.enable('e');
SELECT t.sync('alice', 'e');
SET timezone = 'Europe/Berlin';
SET datestyle = 'German, DMY';
SET quote_all_identifiers = on;
SET extra_float_digits = -3;
SET search_path = pg_catalog, public;
CREATE FUNCTION public.unrelated() RETURNS int LANGUAGE sql AS 'SELECT 1';
ALTER TABLE public.e ALTER at SET STATISTICS 10;
GRANT SELECT ON public.e TO alice;
RESET ALL;
SELECT t.sync('alice', 'e');

-- What a look costs does not grow with the tables and policies of the database, also while the catalogs have no statistics.
CREATE FUNCTION t.read_of_catalogs() RETURNS bigint LANGUAGE sql AS $$
    SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_all_tables
     WHERE relname IN ('pg_policy', 'pg_depend', 'pg_rewrite', 'pg_trigger', 'pg_constraint', 'pg_inherits', 'pg_type', 'collection', 'access', 'dependency')
$$;
DO $$
BEGIN
    FOR i IN 1..300 LOOP
        EXECUTE format('CREATE TABLE many_%s (id int PRIMARY KEY)', i);
        EXECUTE format('CREATE POLICY p ON many_%s USING (id IN (SELECT id FROM e))', i);
    END LOOP;
    PERFORM snapsync.enable(format('many_%s', i)::regclass) FROM generate_series(1, 10) AS i;
END
$$;
BEGIN;
SELECT set_config('t.before', t.read_of_catalogs()::text, true) IS NULL;
ALTER TABLE many_7 ENABLE ROW LEVEL SECURITY;
SELECT snapsync.enable('many_11');
SELECT CASE WHEN n < 900 THEN 'few' ELSE n::text END FROM (SELECT t.read_of_catalogs() - current_setting('t.before')::bigint AS n) AS read;
COMMIT;

-- Nor are the policies of tables read that read the same memberships: DDL on one of them costs hardly more beside 80 than beside 10.
CREATE TABLE roster (team int, who text, PRIMARY KEY (team, who));
SET client_min_messages = warning;
DO $$
BEGIN
    FOR i IN 1..80 LOOP
        EXECUTE format('CREATE TABLE reads_%s (id int PRIMARY KEY, team int)', i);
        EXECUTE format('ALTER TABLE reads_%s ENABLE ROW LEVEL SECURITY', i);
        EXECUTE format('CREATE POLICY p ON reads_%s USING (team IN (SELECT team FROM roster WHERE who = current_user))', i);
    END LOOP;
    PERFORM snapsync.enable(format('reads_%s', i)::regclass) FROM generate_series(1, 10) AS i;
END
$$;
SELECT found_scope FROM snapsync.collection WHERE relation = 'roster'::regclass;
CREATE FUNCTION t.reads_of(command text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE before bigint := t.read_of_catalogs();
BEGIN
    EXECUTE command;
    RETURN t.read_of_catalogs() - before;
END
$$;
SELECT t.reads_of('ALTER POLICY p ON reads_3 USING (team IN (SELECT team FROM roster WHERE who = current_user AND team > 0))') AS beside_10 \gset
SELECT count(snapsync.enable(format('reads_%s', i)::regclass)) FROM generate_series(11, 80) AS i;
SELECT t.reads_of('ALTER POLICY p ON reads_4 USING (team IN (SELECT team FROM roster WHERE who = current_user AND team > 0))') - :beside_10 < 2000 AS few_more;
DROP TABLE roster CASCADE;

-- A new function reads none of them, also while functions are missing that the settings of some name.
SELECT t.reads_of('CREATE FUNCTION made_1() RETURNS int LANGUAGE sql AS ''SELECT 1''') AS beside_none_missed \gset
DO $$
BEGIN
    FOR i IN 12..31 LOOP
        EXECUTE format('CREATE FUNCTION missed_%s() RETURNS text[] LANGUAGE sql STABLE AS ''SELECT ARRAY[''''1'''']''', i);
        EXECUTE format('ALTER TABLE many_%s ADD COLUMN org text', i);
        PERFORM snapsync.enable(format('many_%s', i)::regclass, scope_column => 'org', scope_values => format('missed_%s()', i));
        EXECUTE format('DROP FUNCTION missed_%s()', i);
    END LOOP;
END
$$;
SELECT count(*) FROM snapsync.dependency WHERE classid = 'pg_proc'::regclass AND objid = 0;
CREATE FUNCTION made_2() RETURNS int LANGUAGE sql AS 'SELECT 1';
SELECT t.reads_of('CREATE FUNCTION made_3() RETURNS int LANGUAGE sql AS ''SELECT 1''') - :beside_none_missed < 5 AS as_few;
SELECT t.reads_of('CREATE FUNCTION missed_12() RETURNS text[] LANGUAGE sql STABLE AS ''SELECT ARRAY[''''1'''']''') > :beside_none_missed + 50 AS looks;
SELECT count(*) FROM snapsync.dependency WHERE classid = 'pg_proc'::regclass AND objid = 0;
RESET client_min_messages;

-- Unrelated commands lock nothing of ours.
BEGIN;
CREATE TEMP TABLE mine (); GRANT SELECT ON mine TO PUBLIC; DROP TABLE mine;
CREATE FUNCTION nothing() RETURNS int LANGUAGE sql AS 'SELECT 1'; DROP FUNCTION nothing();
CREATE TABLE u (id int); GRANT SELECT ON u TO PUBLIC; CREATE VIEW uv AS SELECT * FROM u; DROP TABLE u CASCADE;
SELECT t.locks();
SELECT count(*) FROM snapsync.collection WHERE xmax::text::bigint = txid_current() % 4294967296;
COMMIT;

-- What a policy makes fail in the look at its table fails neither that command nor anybody else's: clients have the table replaced.
CREATE TABLE deep (id int PRIMARY KEY, v int);
ALTER TABLE deep ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON deep TO alice;
CREATE POLICY p ON deep USING (true);
SELECT snapsync.enable('deep');
INSERT INTO deep VALUES (1, 1);
SELECT t.sync('alice', 'deep');
SET client_min_messages = error;
DO $$ BEGIN EXECUTE 'CREATE POLICY q ON deep USING (' || repeat('(v=1 OR NOT ', 600) || 'true' || repeat(')', 600) || ')'; END $$;
SET max_stack_depth = '100kB';
GRANT SELECT ON deep TO bob;
RESET client_min_messages;
SELECT DISTINCT relation, objid, name FROM snapsync.dependency WHERE classid = 0 AND relation::oid <> 0;
SELECT severity, collection, finding, hint, fix FROM snapsync.doctor() WHERE finding LIKE '%followed%';
CREATE FUNCTION innocent() RETURNS int LANGUAGE sql AS 'SELECT 1';
RESET max_stack_depth;
DROP POLICY q ON deep;
SELECT count(*) FROM snapsync.dependency WHERE classid = 0 AND relation::oid <> 0;
SELECT t.sync('alice', 'deep');
SELECT t.sync('alice', 'deep');

-- Nor what code of its owner's raises in the look: any SQLSTATE can be raised, those of a cancelled or repeated statement, too.
CREATE TABLE meant (id int PRIMARY KEY, v int);
SELECT snapsync.enable('meant');
CREATE SCHEMA raising AUTHORIZATION ddl_mallory;
GRANT SELECT ON meant TO ddl_mallory;
SET ROLE ddl_mallory;
SET client_min_messages = warning;
CREATE FUNCTION raising.may(int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RETURN true; END $$;
CREATE DOMAIN raising.d AS int CHECK (raising.may(value));
CREATE TABLE raising.mine (id int PRIMARY KEY);
CREATE TABLE raising.t (id int PRIMARY KEY);
ALTER TABLE raising.t ENABLE ROW LEVEL SECURITY;
SELECT snapsync.enable('raising.t', access_tables => $${"raising.mine": "raising.may(id)"}$$);
CREATE POLICY p ON raising.t USING (EXISTS (SELECT FROM meant));
CREATE OR REPLACE FUNCTION raising.may(int) RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
    IF current_user <> current_setting('role') THEN
        RAISE 'no' USING ERRCODE = current_setting('raising.code');
    END IF;
    RETURN true;
END $$;
RESET ROLE;
SET client_min_messages = error;
SET raising.code = '40001';
ALTER TABLE meant ADD a int;
SET raising.code = '57014';
GRANT SELECT ON meant TO bob;
SET raising.code = '53200';
CREATE POLICY p ON meant USING (true);
SET raising.code = '55P03';
SELECT snapsync.enable('meant');
SET raising.code = '25006';
DROP TABLE meant CASCADE;
RESET raising.code;
DROP SCHEMA raising CASCADE;
RESET client_min_messages;

-- A policy with thousands of equalities, which lead from one table to the next, is looked at in no more time than it takes to read it.
CREATE TABLE chain (id int PRIMARY KEY, up int REFERENCES chain);
CREATE TABLE chained (id int PRIMARY KEY, up int REFERENCES chain);
ALTER TABLE chained ENABLE ROW LEVEL SECURITY;
SELECT snapsync.enable('chained');
SET statement_timeout = '30s';
DO $$
DECLARE
    k int := 200;
    n int := 1000;
BEGIN
    EXECUTE 'CREATE POLICY p ON chained USING (EXISTS (SELECT FROM '
        || (SELECT string_agg('chain c' || i, ', ' ORDER BY i) FROM generate_series(0, k) AS i) || ', '
        || (SELECT string_agg('e e' || i, ', ' ORDER BY i) FROM generate_series(1, n) AS i) || ' WHERE '
        || (SELECT string_agg(format('c%s.id = c%s.up', i, i - 1), ' AND ' ORDER BY i DESC) FROM generate_series(1, k) AS i)
        || ' AND c0.id = chained.up AND '
        || (SELECT string_agg(format('e%s.id = chained.id AND e%s.f > 0', i, i), ' AND ' ORDER BY i) FROM generate_series(1, n) AS i) || '))';
END
$$;
GRANT SELECT ON e TO carol;
RESET statement_timeout;
SELECT access, kind FROM snapsync.access WHERE relation = 'chained'::regclass ORDER BY 1;
DROP TABLE chained, chain;

-- A table that a policy reads is tracked where its author, or who enables, may put triggers on it.
CREATE SCHEMA bert AUTHORIZATION ddl_bert;
GRANT USAGE ON SCHEMA bert TO PUBLIC;
CREATE SCHEMA mallory AUTHORIZATION ddl_mallory;
SET ROLE ddl_bert;
CREATE TABLE bert.hot (id int PRIMARY KEY, v text);
GRANT SELECT ON bert.hot TO ddl_mallory;
RESET ROLE;
SET ROLE ddl_mallory;
CREATE TABLE mallory.w (id int PRIMARY KEY);
ALTER TABLE mallory.w ENABLE ROW LEVEL SECURITY;
SELECT snapsync.enable('mallory.w');
BEGIN;
CREATE POLICY p ON mallory.w USING (EXISTS (SELECT FROM bert.hot WHERE v = 'x'));
SELECT relation::regclass, mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'bert.hot'::regclass;
COMMIT;
RESET ROLE;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'bert.hot'::regclass;
SELECT relation, access, untracked, voucher FROM snapsync.access WHERE relation = 'mallory.w'::regclass;
SELECT severity, collection, finding, hint, fix FROM snapsync.doctor() WHERE finding LIKE '%TRIGGER%';
-- It is replaced with every pull.
SET ROLE ddl_mallory;
ALTER TABLE mallory.w FORCE ROW LEVEL SECURITY;
SELECT t.catch_up('mallory.w');
SELECT * FROM t.pull('{mallory.w}');
SELECT * FROM t.pull('{mallory.w}');
SELECT snapsync.disable('mallory.w');
SELECT * FROM t.error($$ SELECT snapsync.enable('mallory.w') $$);
-- What is tracked for its own sake is not changed for a stranger's, nor kept.
SET ROLE ddl_bert;
SELECT snapsync.enable('bert.hot');
RESET ROLE;
SET ROLE ddl_mallory;
DROP POLICY p ON mallory.w;
SELECT snapsync.enable('mallory.w');
CREATE POLICY p ON mallory.w USING (EXISTS (SELECT FROM bert.hot WHERE v = 'x'));
RESET ROLE;
SELECT image FROM snapsync.collection WHERE relation = 'bert.hot'::regclass;
SET ROLE ddl_bert;
SELECT snapsync.disable('bert.hot');
RESET ROLE;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'bert.hot'::regclass;
-- With the privilege it is, until it is taken away.
SET ROLE ddl_bert;
GRANT TRIGGER, SELECT ON bert.hot TO ddl_mallory;
SET ROLE ddl_mallory;
SELECT snapsync.enable('mallory.w');
RESET ROLE;
SELECT relation, access, untracked, voucher FROM snapsync.access WHERE relation = 'mallory.w'::regclass;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'bert.hot'::regclass ORDER BY 1;
SET ROLE ddl_mallory;
SELECT t.catch_up('mallory.w');
SELECT * FROM t.pull('{mallory.w}');
SET ROLE ddl_bert;
REVOKE TRIGGER ON bert.hot FROM ddl_mallory;
RESET ROLE;
SELECT relation, access, untracked, voucher FROM snapsync.access WHERE relation = 'mallory.w'::regclass;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'bert.hot'::regclass ORDER BY 1;
SELECT relation FROM snapsync.collection WHERE relation = 'bert.hot'::regclass;
-- A superuser who enables it stands up for it, also later.
SELECT snapsync.enable('mallory.w');
SELECT access, untracked, voucher = session_user FROM snapsync.access WHERE relation = 'mallory.w'::regclass;
SET ROLE ddl_bert;
GRANT SELECT ON bert.hot TO alice;
SET ROLE ddl_mallory;
GRANT SELECT ON mallory.w TO alice;
RESET ROLE;
SELECT access, untracked, voucher = session_user FROM snapsync.access WHERE relation = 'mallory.w'::regclass;
-- Its owner takes that away again, whoever has stood up for it and owns what reads it. That is replaced with every pull then, also after DDL on it, until somebody who
-- may make triggers there stands up for it once more.
CREATE TABLE supers (id int PRIMARY KEY);
ALTER TABLE supers ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON supers USING (EXISTS (SELECT FROM bert.hot WHERE v = 'x'));
GRANT SELECT ON supers TO ddl_mallory;
SELECT snapsync.enable('supers');
SET ROLE ddl_bert;
SELECT * FROM t.error($$ ALTER TABLE bert.hot SET UNLOGGED $$);
SELECT * FROM t.error($$ DROP TRIGGER "00_snapsync_track" ON bert.hot $$);
SET ROLE ddl_mallory;
SELECT t.catch_up('mallory.w');
SELECT * FROM t.pull('{mallory.w}');
SELECT * FROM t.error($$ SELECT snapsync.disable('bert.hot') $$);
SET ROLE ddl_bert;
SELECT snapsync.disable('bert.hot');
SELECT * FROM t.error($$ SELECT snapsync.disable('bert.hot') $$);
ALTER TABLE bert.hot SET UNLOGGED;
ALTER TABLE bert.hot SET LOGGED;
RESET ROLE;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'bert.hot'::regclass;
SELECT relation FROM snapsync.collection WHERE relation = 'bert.hot'::regclass;
ALTER TABLE supers ADD COLUMN c int;
SET ROLE ddl_bert;
ALTER TABLE bert.hot ADD COLUMN c int;
GRANT TRIGGER ON bert.hot TO ddl_mallory;
SET ROLE ddl_mallory;
GRANT SELECT ON mallory.w TO bob;
SELECT * FROM t.pull('{mallory.w}');
SELECT * FROM t.pull('{mallory.w}');
RESET ROLE;
SELECT relation, untracked, refused, voucher FROM snapsync.access WHERE access = 'bert.hot'::regclass ORDER BY relation::text;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'bert.hot'::regclass;
SELECT collection, finding, hint, fix FROM snapsync.doctor() WHERE finding ~ 'bert.hot' AND finding ~ 'tracked' ORDER BY 1;
-- No fix stands up for it by the way, not even her own: doctor() was told of a look that is due.
INSERT INTO snapsync.dependency (relation, classid, objid, own, name) SELECT n::regclass, 0, 0, false, 'a test' FROM unnest('{mallory.w,supers}'::text[]) AS n;
SELECT collection, hint, fix FROM snapsync.doctor() WHERE finding ~ 'a test' ORDER BY 1;
SET ROLE ddl_mallory;
SELECT collection, hint, fix FROM snapsync.doctor() WHERE finding ~ 'a test' ORDER BY 1;
SELECT snapsync.enable('mallory.w');
RESET ROLE;
SELECT relation, untracked, refused, voucher FROM snapsync.access WHERE access = 'bert.hot'::regclass ORDER BY relation::text;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'bert.hot'::regclass ORDER BY 1;
SET ROLE ddl_mallory;
SELECT * FROM t.pull('{mallory.w}');
SELECT * FROM t.pull('{mallory.w}');
RESET ROLE;
-- What else it was tracked for goes, too: a table that its own policies read.
CREATE TABLE bert.below (id int PRIMARY KEY);
ALTER TABLE bert.below OWNER TO ddl_bert;
ALTER TABLE bert.hot ENABLE ROW LEVEL SECURITY;
SET ROLE ddl_bert;
CREATE POLICY p ON bert.hot USING (id IN (SELECT id FROM bert.below));
RESET ROLE;
SELECT relation FROM snapsync.collection WHERE relation IN ('bert.hot'::regclass, 'bert.below'::regclass) ORDER BY 1;
SET ROLE ddl_bert;
SELECT snapsync.disable('bert.hot');
RESET ROLE;
SELECT relation FROM snapsync.collection WHERE relation IN ('bert.hot'::regclass, 'bert.below'::regclass) ORDER BY 1;
SELECT tgname FROM pg_trigger WHERE tgrelid IN ('bert.hot'::regclass, 'bert.below'::regclass);
-- One that is a collection itself goes on for those that read it, where they may; called once more, it does not.
SET ROLE ddl_bert;
SELECT snapsync.enable('bert.hot');
SELECT snapsync.disable('bert.hot');
RESET ROLE;
SELECT relation, untracked, refused FROM snapsync.access WHERE access = 'bert.hot'::regclass ORDER BY relation::text;
SET ROLE ddl_bert;
SELECT snapsync.disable('bert.hot');
RESET ROLE;
SELECT relation, untracked, refused FROM snapsync.access WHERE access = 'bert.hot'::regclass ORDER BY relation::text;
SELECT tgname FROM pg_trigger WHERE tgrelid IN ('bert.hot'::regclass, 'bert.below'::regclass);
DROP TABLE supers;
-- Unlogged: a crash would empty it without a trace.
CREATE UNLOGGED TABLE volatile (id int PRIMARY KEY);
CREATE TABLE upon (id int PRIMARY KEY);
ALTER TABLE upon ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON upon USING (id IN (SELECT id FROM volatile));
SELECT * FROM t.error($$ SELECT snapsync.enable('upon') $$);
ALTER TABLE volatile SET LOGGED;
SELECT snapsync.enable('upon');
SELECT * FROM t.error($$ ALTER TABLE volatile SET UNLOGGED $$);

-- The owner, who is no superuser, adds partitions.
SET ROLE ddl_mallory;
CREATE TABLE mallory.parted (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
SELECT snapsync.enable('mallory.parted');
CREATE TABLE mallory.parted_1 PARTITION OF mallory.parted FOR VALUES FROM (0) TO (10);
CREATE TABLE mallory.parted_2 (id int NOT NULL, v text);
ALTER TABLE mallory.parted ATTACH PARTITION mallory.parted_2 FOR VALUES FROM (10) TO (20);
SELECT t.catch_up('mallory.parted');
INSERT INTO mallory.parted VALUES (1), (11);
SELECT * FROM t.pull('{mallory.parted}');
TRUNCATE mallory.parted_2;
SELECT * FROM t.pull('{mallory.parted}');
-- Detached, a partition has no trigger of ours left.
ALTER TABLE mallory.parted DETACH PARTITION mallory.parted_2;
ALTER TABLE mallory.parted DETACH PARTITION mallory.parted_1;
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgrelid IN ('mallory.parted_1'::regclass, 'mallory.parted_2'::regclass);
-- Nor is one taken that could not be synced.
SELECT * FROM t.error($$ CREATE UNLOGGED TABLE mallory.parted_3 PARTITION OF mallory.parted FOR VALUES FROM (20) TO (30) $$);
CREATE UNLOGGED TABLE mallory.parted_3 (id int NOT NULL, v text);
SELECT * FROM t.error($$ ALTER TABLE mallory.parted ATTACH PARTITION mallory.parted_3 FOR VALUES FROM (20) TO (30) $$);
ALTER TABLE mallory.parted_3 SET LOGGED;
ALTER TABLE mallory.parted ATTACH PARTITION mallory.parted_3 FOR VALUES FROM (20) TO (30);
SELECT * FROM t.error($$ ALTER TABLE mallory.parted_3 SET UNLOGGED $$);
RESET ROLE;
CREATE TABLE w (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE UNLOGGED TABLE w1 PARTITION OF w DEFAULT;
SELECT * FROM t.error($$ SELECT snapsync.enable('w') $$);
CREATE TABLE heir (id int PRIMARY KEY, v text);
SELECT snapsync.enable('heir');
SELECT * FROM t.error($$ ALTER TABLE heir SET UNLOGGED $$);
SELECT * FROM t.error($$ CREATE TABLE heirs_child () INHERITS (heir) $$);
-- What was done behind our back fails no other command.
ALTER EVENT TRIGGER snapsync_command_end DISABLE;
ALTER TABLE heir SET UNLOGGED;
ALTER EVENT TRIGGER snapsync_command_end ENABLE ALWAYS;
ALTER TABLE heir ADD w int;
ALTER TABLE heir SET LOGGED;

-- Settings that protect go by name, and outlive the column.
CREATE TABLE x (id int PRIMARY KEY, pin text, mark text, note text);
SELECT snapsync.enable('x', exclude => '{pin}', readonly => '{mark}');
ALTER TABLE x DROP pin, DROP mark;
ALTER TABLE x ADD pin varchar(9), ADD mark int;
INSERT INTO x VALUES (1, 'note', 'secret', 7);
SELECT * FROM t.pull('{x}', NULL);
SELECT exclude, readonly FROM snapsync.collection WHERE relation = 'x'::regclass;
ALTER TABLE x DROP pin;
SELECT snapsync.enable('x');
SELECT * FROM t.error($$ SELECT snapsync.enable('x', exclude => '{pin,nothing}') $$);
ALTER TABLE x RENAME note TO pin;
SELECT * FROM t.pull('{x}', NULL);
ALTER TABLE x RENAME pin TO note;
SELECT exclude FROM snapsync.collection WHERE relation = 'x'::regclass;
CREATE TABLE few (id int PRIMARY KEY, a int, b int);
SELECT snapsync.enable('few', columns => '{a}');
ALTER TABLE few DROP a;
ALTER TABLE few ADD a text;
INSERT INTO few VALUES (1, 2, 'a');
SELECT * FROM t.pull('{few}', NULL);

-- The version column is followed, and cannot be dropped.
CREATE TABLE l (id int PRIMARY KEY, at timestamptz);
SELECT snapsync.enable('l', conflict => 'last_write_wins', version_column => 'at');
ALTER TABLE l RENAME at TO modified;
SELECT version_column FROM snapsync.collection WHERE relation = 'l'::regclass;
SELECT * FROM t.pull('{l}', NULL);
SELECT * FROM t.error($$ ALTER TABLE l DROP modified $$);

-- Triggers are known by their names. A disabled one is said once, and only where its table is concerned.
SELECT * FROM t.error($$ ALTER TRIGGER "00_snapsync_track" ON l RENAME TO harmless $$);
-- Nobody puts another one in their place, nor lets one go with something else, whoever may make triggers on the table.
SELECT * FROM t.error($$ CREATE OR REPLACE TRIGGER "00_snapsync_track" AFTER INSERT ON l FOR EACH ROW WHEN (false) EXECUTE FUNCTION snapsync.track('{}') $$);
SELECT * FROM t.error($$ CREATE OR REPLACE TRIGGER "00_snapsync_truncate" AFTER TRUNCATE ON l EXECUTE FUNCTION snapsync.track('{"key": []}') $$);
SELECT * FROM t.error($$ ALTER TRIGGER "00_snapsync_track" ON l DEPENDS ON EXTENSION plpgsql $$);
SET check_function_bodies = off;
SET row_security = off;
SELECT * FROM t.error($$ CREATE OR REPLACE TRIGGER "00_snapsync_track" AFTER INSERT OR UPDATE OR DELETE ON l FOR EACH ROW WHEN (false) EXECUTE FUNCTION snapsync.track('{"key":["id"]}') $$);
SELECT * FROM t.error($$ CREATE OR REPLACE TRIGGER "00_snapsync_track" AFTER INSERT OR UPDATE OR DELETE ON l FOR EACH ROW EXECUTE FUNCTION snapsync.track('{"key":["modified"]}') $$);
-- As a dump does; it fires always, still.
CREATE OR REPLACE TRIGGER "00_snapsync_track" AFTER INSERT OR UPDATE OR DELETE ON l FOR EACH ROW EXECUTE FUNCTION snapsync.track('{"key":["id"]}');
RESET check_function_bodies;
RESET row_security;
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'l'::regclass AND tgname ~ 'snapsync' ORDER BY 1;
-- On a table that is not tracked it is nobody's business.
CREATE TABLE untracked (id int);
CREATE TRIGGER "00_snapsync_track" AFTER INSERT ON untracked FOR EACH ROW WHEN (false) EXECUTE FUNCTION snapsync.track('{}');
SELECT * FROM t.error($$ ALTER TRIGGER "00_snapsync_track" ON untracked RENAME TO harmless $$);
DROP TABLE untracked;
-- One that was put there behind our back is found by the next look, and clients start anew.
ALTER EVENT TRIGGER snapsync_command_end DISABLE;
ALTER EVENT TRIGGER snapsync_drop DISABLE;
DROP TRIGGER "00_snapsync_truncate" ON l;
CREATE CONSTRAINT TRIGGER "00_snapsync_truncate" AFTER INSERT ON l DEFERRABLE FOR EACH ROW EXECUTE FUNCTION snapsync.track('{"key":["id"]}');
ALTER EVENT TRIGGER snapsync_command_end ENABLE ALWAYS;
ALTER EVENT TRIGGER snapsync_drop ENABLE ALWAYS;
SELECT severity, collection, finding, hint, fix FROM snapsync.doctor() WHERE collection = 'l' AND finding ~ 'trigger';
SELECT t.catch_up('l');
ALTER TABLE l ALTER modified SET STATISTICS 10;
SELECT * FROM t.pull('{l}');
SELECT tgname, tgtype, tgenabled, tgconstraint <> 0 AS is_constraint FROM pg_trigger WHERE tgrelid = 'l'::regclass AND tgname ~ 'snapsync' ORDER BY 1;
CREATE FUNCTION nop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER theirs AFTER INSERT ON l EXECUTE FUNCTION nop();
ALTER TRIGGER theirs ON l RENAME TO others;
ALTER TABLE l DISABLE TRIGGER "00_snapsync_track";
CREATE OR REPLACE FUNCTION nop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';
GRANT SELECT ON e TO bob;
ALTER TABLE l ADD v int;
ALTER TABLE l ENABLE TRIGGER "00_snapsync_track";

-- Settings like a dump's are no dump: who drops our trigger under them stops syncing the table, and those whose policies read it are looked
-- at, as with disable().
CREATE TABLE circle (id int PRIMARY KEY, usr text);
GRANT SELECT ON circle TO alice;
SELECT t.secured('docs', ', body text', 'EXISTS (SELECT FROM circle WHERE usr = current_user)');
INSERT INTO docs VALUES (1, 'hello');
SELECT t.sync('alice', 'docs');
SET check_function_bodies = off;
SET row_security = off;
DROP TRIGGER "00_snapsync_track" ON circle;
RESET check_function_bodies;
RESET row_security;
SELECT access, kind FROM snapsync.access WHERE relation = 'docs'::regclass;
SELECT t.sync('alice', 'docs');
INSERT INTO circle VALUES (1, 'alice');
SELECT t.sync('alice', 'docs');

-- A new version of a table that was filled aside takes its name: clients go on with the old one.
CREATE TABLE swap (id int PRIMARY KEY);
SELECT snapsync.enable('swap');
CREATE TABLE swap_new (id int PRIMARY KEY);
ALTER TABLE swap RENAME TO swap_old;
ALTER TABLE swap_new RENAME TO swap;

-- An aggregate and a function in scope_values, replaced.
CREATE FUNCTION plus(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + $2';
CREATE FUNCTION minus(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 - $2';
CREATE AGGREGATE total(int) (SFUNC = plus, STYPE = int, INITCOND = '0');
CREATE TABLE nums (n int PRIMARY KEY);
INSERT INTO nums VALUES (1), (2);
GRANT SELECT ON nums TO PUBLIC;
SELECT t.secured('by_total', '', 'id = (SELECT total(n) FROM nums)');
INSERT INTO by_total VALUES (3), (-3);
SELECT t.sync('alice', 'by_total');
CREATE OR REPLACE AGGREGATE total(int) (SFUNC = minus, STYPE = int, INITCOND = '0');
SELECT t.sync('alice', 'by_total');
CREATE FUNCTION my_scopes() RETURNS text[] LANGUAGE sql STABLE AS 'SELECT ARRAY[''1'']';
CREATE TABLE scoped (id int PRIMARY KEY, org int);
GRANT SELECT ON scoped TO alice;
SELECT snapsync.enable('scoped', scope_column => 'org', scope_values => 'public.my_scopes()', access_tables => '[]');
INSERT INTO scoped VALUES (1, 1), (2, 2);
SET ROLE alice;
SELECT t.catch_up('scoped');
RESET ROLE;
CREATE OR REPLACE FUNCTION my_scopes() RETURNS text[] LANGUAGE sql STABLE AS 'SELECT ARRAY[''2'']';
SET ROLE alice;
SELECT t.pull_ids('scoped');
RESET ROLE;

-- A policy that takes long to be written as SQL is not: who replaces a function that it calls would wait for that. In another database,
-- where only SQL compares, its clients begin anew.
CREATE FUNCTION may_see() RETURNS boolean STABLE LANGUAGE sql AS 'SELECT true';
DO $$
BEGIN
    FOR n IN 1..3 LOOP
        EXECUTE format('CREATE TABLE wide_%s (id%s int PRIMARY KEY, %s)', n, n, (SELECT string_agg(format('c%s int', i), ', ') FROM generate_series(1, 1500) AS i));
    END LOOP;
END
$$;
CREATE TABLE growing (id1 int PRIMARY KEY);
GRANT SELECT ON growing, wide_1, wide_2, wide_3 TO alice;
INSERT INTO wide_1 VALUES (1);
INSERT INTO wide_2 VALUES (1);
INSERT INTO wide_3 VALUES (1);
INSERT INTO growing VALUES (1);
SET client_min_messages = warning;
SELECT t.secured('narrow', '', 'EXISTS (SELECT FROM wide_1 AS a JOIN growing AS b ON a.id1 = b.id1 WHERE a.id1 = narrow.id AND may_see())'),
       t.secured('wide', '', 'EXISTS (SELECT FROM (wide_1 AS a CROSS JOIN wide_2 AS b CROSS JOIN wide_3 AS c) AS j WHERE j.id1 = wide.id AND may_see())'),
       t.secured('grown', '', 'EXISTS (SELECT FROM (growing AS a CROSS JOIN growing AS b CROSS JOIN growing AS c) AS j (i, k, l) WHERE j.i = grown.id AND may_see())');
RESET client_min_messages;
INSERT INTO narrow VALUES (1), (2);
INSERT INTO wide VALUES (1), (2);
INSERT INTO grown VALUES (1), (2);
DO $$ BEGIN EXECUTE (SELECT 'ALTER TABLE growing ' || string_agg(format('ADD c%s int', i), ', ') FROM generate_series(1, 900) AS i); END $$;
SELECT t.sync('alice', c) FROM unnest('{narrow,wide,grown}'::text[]) AS c;
SELECT c.name, c.shape -> 'texts' = 'null' AS "no SQL", snapsync.policy_text(p.oid) IS NULL AS "nor for doctor"
FROM snapsync.collection AS c JOIN pg_policy AS p ON p.polrelid = c.relation WHERE c.name IN ('narrow', 'wide', 'grown') ORDER BY c.name;
SELECT t.sync('alice', c) FROM unnest('{narrow,wide,grown}'::text[]) AS c;
CREATE OR REPLACE FUNCTION may_see() RETURNS boolean STABLE LANGUAGE sql AS 'SELECT current_user <> ''alice''';
SELECT t.sync('alice', c) FROM unnest('{narrow,wide,grown}'::text[]) AS c;
UPDATE snapsync.collection SET shape = jsonb_set(shape, '{identity}', '"another"') WHERE name IN ('narrow', 'wide');
ALTER TABLE narrow ALTER id SET STATISTICS 10;
ALTER TABLE wide ALTER id SET STATISTICS 10;
SELECT t.sync('alice', c) FROM unnest('{narrow,wide}'::text[]) AS c;
ALTER TABLE wide ALTER id SET STATISTICS 11;
SELECT t.sync('alice', 'wide');
-- So it is with columns of one name.
SELECT t.secured('alike', '', format('EXISTS (SELECT FROM wide_1 AS a (%s) WHERE a1500 > 0)', (SELECT string_agg(CASE n WHEN 1500 THEN 'a1500' ELSE 'a' END, ', ') FROM generate_series(1, 1500) AS n)));
SELECT c.shape -> 'texts' = 'null' AS "no SQL", snapsync.policy_text(p.oid) IS NULL AS "nor for doctor"
FROM snapsync.collection AS c JOIN pg_policy AS p ON p.polrelid = c.relation WHERE c.name = 'alike';
ALTER POLICY p ON alike USING (true);
SELECT c.shape -> 'texts' = 'null' AS "no SQL" FROM snapsync.collection AS c WHERE c.name = 'alike';
-- (Not what was dropped.)
CREATE TABLE fewer (id int PRIMARY KEY);
DO $$ BEGIN
    EXECUTE 'ALTER TABLE fewer ' || (SELECT string_agg(format('ADD c%s int', i), ', ') FROM generate_series(1, 400) AS i);
    EXECUTE 'ALTER TABLE fewer ' || (SELECT string_agg(format('DROP c%s', i), ', ') FROM generate_series(1, 400) AS i);
END $$;
ALTER POLICY p ON alike USING (EXISTS (SELECT FROM fewer AS a JOIN fewer AS b ON a.id = b.id JOIN fewer AS c ON c.id = b.id));
SELECT c.shape -> 'texts' = 'null' AS "no SQL" FROM snapsync.collection AS c WHERE c.name = 'alike';
-- (Few are enough where many are called as they would be then.)
DO $$ BEGIN EXECUTE format('ALTER POLICY p ON alike USING (EXISTS (SELECT FROM wide_1 AS a (%s) WHERE a1500 > 0))', (SELECT string_agg(CASE WHEN n < 1341 THEN 'a_' || n WHEN n < 1500 THEN 'a' ELSE 'a1500' END, ', ' ORDER BY n) FROM generate_series(1, 1500) AS n)); END $$;
SELECT c.shape -> 'texts' = 'null' AS "no SQL" FROM snapsync.collection AS c WHERE c.name = 'alike';
DO $$ BEGIN EXECUTE format('ALTER POLICY p ON alike USING (EXISTS (SELECT FROM (may_see() AS x CROSS JOIN wide_1) AS j (%s) WHERE a1500 > 0))', (SELECT string_agg(CASE n WHEN 1500 THEN 'a1500' ELSE 'a' END, ', ') FROM generate_series(1, 1500) AS n)); END $$;
SELECT c.shape -> 'texts' = 'null' AS "no SQL" FROM snapsync.collection AS c WHERE c.name = 'alike';
-- And with fields whose names are looked for in what gives the row.
ALTER POLICY p ON alike USING (EXISTS (SELECT FROM (SELECT ROW(1, 2) AS r) AS x WHERE (x.r).f1 > 0));
SELECT c.shape -> 'texts' = 'null' AS "no SQL" FROM snapsync.collection AS c WHERE c.name = 'alike';
-- So it is with what is long only together, and with the body of a function that makes JSON of a column.
ALTER POLICY p ON alike USING (EXISTS (SELECT FROM wide_1, wide_2));
SELECT c.shape -> 'texts' = 'null' AS "no SQL" FROM snapsync.collection AS c WHERE c.name = 'alike';
CREATE POLICY q ON alike USING (EXISTS (SELECT FROM wide_1, wide_3));
SELECT c.shape -> 'texts' = 'null' AS "no SQL", bool_or(snapsync.policy_text(p.oid) IS NULL) AS "nor for doctor"
FROM snapsync.collection AS c JOIN pg_policy AS p ON p.polrelid = c.relation WHERE c.name = 'alike' GROUP BY 1;
DROP POLICY q ON alike;
SELECT c.shape -> 'texts' = 'null' AS "no SQL" FROM snapsync.collection AS c WHERE c.name = 'alike';
CREATE TYPE told AS (a int);
ALTER TABLE alike ADD v told;
DO $$ BEGIN EXECUTE format('CREATE FUNCTION tell(told) RETURNS json LANGUAGE sql BEGIN ATOMIC SELECT ''1''::json WHERE EXISTS (SELECT FROM wide_1 AS a (%s)); END', (SELECT string_agg('a', ', ') FROM generate_series(1, 1500))); END $$;
CREATE CAST (told AS json) WITH FUNCTION tell(told);
SELECT c.shape -> 'texts' = 'null' AS "no SQL" FROM snapsync.collection AS c WHERE c.name = 'alike';
DROP TYPE told CASCADE;
SELECT c.shape -> 'texts' = 'null' AS "no SQL" FROM snapsync.collection AS c WHERE c.name = 'alike';

-- For a stranger's command nothing is written at all: what was written stands while its tree is the same. A stranger is also a superuser, unless he changes the
-- table itself.
SET ROLE ddl_bert;
CREATE FUNCTION bert.asks() RETURNS boolean STABLE LANGUAGE sql AS 'SELECT true';
CREATE TABLE bert.asked (id int PRIMARY KEY);
GRANT SELECT, TRIGGER ON bert.asked TO ddl_mallory;
GRANT SELECT ON bert.asked TO alice;
RESET ROLE;
CREATE FUNCTION t.texts(of regclass) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce(shape #>> '{texts,policies,0,3}', 'none') FROM snapsync.collection WHERE relation = of
$$;
SET ROLE ddl_mallory;
CREATE TABLE mallory.asking (id int PRIMARY KEY);
ALTER TABLE mallory.asking ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON mallory.asking USING (bert.asks() AND EXISTS (SELECT FROM bert.asked AS a WHERE a.id = asking.id));
SELECT snapsync.enable('mallory.asking');
GRANT SELECT ON mallory.asking TO alice;
GRANT USAGE ON SCHEMA mallory TO alice;
RESET ROLE;
INSERT INTO bert.asked VALUES (1);
INSERT INTO mallory.asking VALUES (1);
SELECT t.texts('mallory.asking');
SET ROLE ddl_bert;
ALTER TABLE bert.asked RENAME id TO uid;
RESET ROLE;
SELECT t.texts('mallory.asking');
ALTER FUNCTION bert.asks() COST 10;
SELECT t.texts('mallory.asking');
SET ROLE ddl_bert;
CREATE OR REPLACE FUNCTION bert.asks() RETURNS boolean STABLE LANGUAGE sql AS 'SELECT NOT false';
RESET ROLE;
SELECT t.texts('mallory.asking');
-- Its owner's next look makes up for it, of which clients hear nothing.
SELECT t.sync('alice', 'mallory.asking');
SELECT t.sync('alice', 'mallory.asking');
SET ROLE ddl_mallory;
ALTER TABLE mallory.asking ALTER id SET STATISTICS 10;
RESET ROLE;
SELECT t.texts('mallory.asking');
SELECT t.sync('alice', 'mallory.asking');
CREATE OR REPLACE FUNCTION bert.asks() RETURNS boolean STABLE LANGUAGE sql AS 'SELECT true';
SELECT t.texts('mallory.asking');
ALTER TABLE mallory.asking ALTER id SET STATISTICS 11;
SELECT t.texts('mallory.asking');
-- In another database, where nothing compares, clients begin anew; what is written is written there for whoever comes first.
CREATE OR REPLACE FUNCTION bert.asks() RETURNS boolean STABLE LANGUAGE sql AS 'SELECT NOT false';
SELECT t.sync('alice', 'mallory.asking');
UPDATE snapsync.collection SET shape = jsonb_set(shape, '{identity}', '"another"') WHERE relation = 'mallory.asking'::regclass;
ALTER FUNCTION bert.asks() COST 11;
SELECT t.texts('mallory.asking');
SELECT t.sync('alice', 'mallory.asking');
ALTER TABLE mallory.asking ALTER id SET STATISTICS 12;
SELECT t.sync('alice', 'mallory.asking');
UPDATE snapsync.collection SET shape = jsonb_set(shape, '{identity}', '"another"') WHERE relation = 'mallory.asking'::regclass;
ALTER FUNCTION bert.asks() COST 12;
SELECT t.texts('mallory.asking');
SELECT t.sync('alice', 'mallory.asking');

-- There a table that came without rows is replaced, for a restore may have left them out. Rows that nobody sees are none (a COPY that failed), nor are those of this
-- transaction.
CREATE TABLE vacant (id int PRIMARY KEY) PARTITION BY LIST (id);
CREATE TABLE vacant_1 PARTITION OF vacant FOR VALUES IN (1, 2) PARTITION BY LIST (id);
CREATE TABLE vacant_1_1 PARTITION OF vacant_1 FOR VALUES IN (1);
CREATE TABLE vacant_1_2 PARTITION OF vacant_1 FOR VALUES IN (2);
GRANT SELECT ON vacant TO alice;
SELECT snapsync.enable('vacant');
SELECT t.sync('alice', 'vacant');
CREATE FUNCTION t.elsewhere(of regclass) RETURNS void LANGUAGE sql AS $$
    UPDATE snapsync.collection SET shape = jsonb_set(shape, '{identity}', '"another"') WHERE relation = of
$$;
BEGIN;
INSERT INTO vacant VALUES (1), (2);
ROLLBACK;
SELECT t.elsewhere('vacant');
ALTER TABLE vacant ALTER id SET STATISTICS 10;
SELECT t.sync('alice', 'vacant');
SELECT t.elsewhere('vacant');
BEGIN;
INSERT INTO vacant VALUES (2);
ALTER TABLE vacant ALTER id SET STATISTICS 11;
COMMIT;
SELECT t.sync('alice', 'vacant');
SELECT t.elsewhere('vacant');
ALTER TABLE vacant ALTER id SET STATISTICS 12;
SELECT t.sync('alice', 'vacant');
DROP TABLE vacant;

-- Whether triggers keep rows of a table that is read is asked once, however many columns are compared with others; and who is a stranger does not
-- pay for many of them.
SET ROLE ddl_mallory;
SET client_min_messages = warning;
DO $$ BEGIN EXECUTE (SELECT 'CREATE TABLE mallory.one (id int PRIMARY KEY, ' || string_agg(format('c%s int', i), ', ') || ')' FROM generate_series(1, 9) AS i); END $$;
CREATE TABLE mallory.other (LIKE mallory.one INCLUDING ALL);
CREATE TABLE mallory.keyed (id int PRIMARY KEY, one int REFERENCES mallory.one);
ALTER TABLE mallory.keyed ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION mallory.stay() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
DO $$ BEGIN FOR i IN 1..600 LOOP EXECUTE format('CREATE TRIGGER x%s BEFORE UPDATE ON mallory.one FOR EACH ROW EXECUTE FUNCTION mallory.stay()', i); END LOOP; END $$;
CREATE POLICY p ON mallory.keyed USING (bert.asks() AND EXISTS (SELECT FROM mallory.one AS a, mallory.other AS b WHERE a.id = one AND a.c1 = b.c1));
SELECT snapsync.enable('mallory.keyed');
RESET client_min_messages;
RESET ROLE;
SELECT t.reads_of('ALTER TABLE mallory.keyed ALTER one SET STATISTICS 10') AS for_one \gset
DO $$ BEGIN
    EXECUTE 'ALTER POLICY p ON mallory.keyed USING (bert.asks() AND EXISTS (SELECT FROM mallory.one AS a, mallory.other AS b WHERE a.id = one AND '
        || (SELECT string_agg(format('a.c%s = b.c%s', i, j), ' AND ') FROM generate_series(1, 9) AS i, generate_series(1, 9) AS j) || '))';
END $$;
SELECT t.reads_of('ALTER TABLE mallory.keyed ALTER one SET STATISTICS 11') - :for_one < 500 AS few_more;
SET ROLE ddl_mallory;
DO $$ BEGIN EXECUTE format('CREATE FUNCTION mallory.long() RETURNS bool STABLE LANGUAGE sql AS %L', 'SELECT true --' || repeat('x', 250000)); END $$;
ALTER POLICY p ON mallory.keyed USING (bert.asks() AND mallory.long() AND EXISTS (SELECT FROM mallory.other AS a WHERE a.id = one));
SET ROLE ddl_bert;
ALTER FUNCTION bert.asks() COST 13;
RESET ROLE;
SELECT name FROM snapsync.dependency WHERE relation = 'mallory.keyed'::regclass AND classid = 0;
SET ROLE ddl_mallory;
ALTER POLICY p ON mallory.keyed USING (bert.asks() AND mallory.long() AND EXISTS (SELECT FROM mallory.one AS a WHERE a.id = one));
SET ROLE ddl_bert;
ALTER FUNCTION bert.asks() COST 14;
RESET ROLE;
SELECT name FROM snapsync.dependency WHERE relation = 'mallory.keyed'::regclass AND classid = 0;
DROP TABLE mallory.keyed, mallory.one, mallory.other, mallory.asking, bert.asked;
DROP FUNCTION mallory.long(), mallory.stay(), bert.asks();

-- In REPEATABLE READ a command looks at what is there now.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) > 0 FROM snapsync.collection;
ALTER TABLE e ADD g int;
COMMIT;
SELECT t.sync('alice', 'e');

-- What takes long to read a stranger's command does not read: who alters the table does.
RESET ROLE;
CREATE TABLE looked (id int PRIMARY KEY);
ALTER TABLE looked OWNER TO ddl_bert;
GRANT SELECT, TRIGGER ON looked TO ddl_mallory;
SET ROLE ddl_mallory;
CREATE TABLE large (id int PRIMARY KEY, v text);
ALTER TABLE large ENABLE ROW LEVEL SECURITY;
DO $$ BEGIN EXECUTE format('CREATE POLICY p ON large USING (v <> %L AND EXISTS (SELECT FROM looked))', repeat('x', 300000)); END $$;
SET client_min_messages = warning;
SELECT snapsync.enable('large');
RESET client_min_messages;
SET ROLE ddl_bert;
ALTER TABLE looked ADD COLUMN a int;
CREATE TABLE unrelated (id int);
RESET ROLE;
CREATE TABLE unrelated_too (id int);
-- However many commands that were.
SET ROLE ddl_bert;
\set ECHO none
SELECT format('ALTER TABLE looked ALTER a SET STATISTICS %s', n) FROM generate_series(1, 60) AS n \gexec
\set ECHO queries
RESET ROLE;
SELECT relation, objid, name, count(*) BETWEEN 1 AND 17 AS few FROM snapsync.dependency WHERE classid = 0 AND relation::oid <> 0 GROUP BY 1, 2, 3;
SELECT severity, collection, finding, hint, fix FROM snapsync.doctor() WHERE finding LIKE '%followed%';
SET ROLE ddl_mallory;
ALTER TABLE large ALTER id SET STATISTICS 10;
RESET ROLE;
SELECT count(*) FROM snapsync.dependency WHERE classid = 0 AND relation::oid <> 0;
DROP TABLE large, looked, unrelated, unrelated_too;

-- So it is with what is long and no tree: bodies, settings and defaults of functions, what an aggregate begins with, labels of a type, partitions, also of what is read, the
-- collection's settings (which an older version has taken at any length). However well it compresses.
CREATE TABLE looked (id int PRIMARY KEY);
INSERT INTO looked VALUES (1);
ALTER TABLE looked OWNER TO ddl_bert;
GRANT SELECT, TRIGGER ON looked TO ddl_mallory, alice;
CREATE SCHEMA long AUTHORIZATION ddl_mallory;
SET ROLE ddl_mallory;
SET client_min_messages = warning;
SET search_path = long, public, t;
GRANT USAGE ON SCHEMA long TO alice;
DO $do$
DECLARE
    long text := repeat('x', 300000);
    said text;
    condition text;
BEGIN
    EXECUTE format('CREATE FUNCTION long_body() RETURNS bool STABLE LANGUAGE sql AS %L', 'SELECT true --' || long);
    EXECUTE format('CREATE FUNCTION long_code() RETURNS bool STABLE LANGUAGE plpgsql AS %L', 'BEGIN RETURN true; END --' || long);
    EXECUTE format('CREATE FUNCTION long_setting() RETURNS bool STABLE LANGUAGE sql SET application_name = %L AS %L', long, 'SELECT true');
    EXECUTE format('CREATE FUNCTION long_default(text DEFAULT %L) RETURNS bool STABLE LANGUAGE sql AS %L', long, 'SELECT true');
    EXECUTE format('CREATE AGGREGATE long_beginning(text) (SFUNC = textcat, STYPE = text, INITCOND = %L)', long);
    EXECUTE format('CREATE TYPE long_type AS ENUM (%s)', (SELECT string_agg(format('%L', n), ', ') FROM generate_series(1, 5000) AS n));
    EXECUTE format('CREATE FUNCTION short_body() RETURNS bool STABLE LANGUAGE sql AS %L', 'SELECT true --' || left(long, 100000));
    FOR said, condition IN VALUES
        ('long_body', 'long_body()'), ('long_code', 'long_code()'), ('long_setting', 'long_setting()'), ('long_default', 'long_default()'),
        ('long_beginning', $$(SELECT long_beginning('') FROM looked) <> ''$$), ('long_labels', $$'1'::long_type < '2'::long_type$$),
        ('long_scopes', 'true'), ('long_predicate', 'true'), ('long_list', 'true'), ('short_body', 'short_body()')
    LOOP
        said := 'of_' || said;
        EXECUTE format('CREATE TABLE %I (id int PRIMARY KEY, v text)', said);
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', said);
        EXECUTE format('CREATE POLICY p ON %I USING (%s AND EXISTS (SELECT FROM looked))', said, condition);
        EXECUTE format('GRANT SELECT ON %I TO alice', said);
        PERFORM snapsync.enable(said::regclass, name => said, scope_column => 'v', scope_values => $$ARRAY['a']$$);
    END LOOP;
    -- (With the policy, which is not too long without them.)
    CREATE TABLE of_many_parts (id int PRIMARY KEY) PARTITION BY LIST (id);
    FOR n IN 1 .. 700 LOOP
        EXECUTE format('CREATE TABLE part_%s PARTITION OF of_many_parts FOR VALUES IN (%1$s)', n);
    END LOOP;
    ALTER TABLE of_many_parts ENABLE ROW LEVEL SECURITY;
    EXECUTE format('CREATE POLICY p ON of_many_parts USING (current_user::text <> %L AND EXISTS (SELECT FROM looked))', left(long, 35000));
    PERFORM snapsync.enable('of_many_parts', name => 'of_many_parts');
    CREATE TABLE many (id int) PARTITION BY LIST (id);
    FOR n IN 1 .. 700 LOOP
        EXECUTE format('CREATE TABLE many_%s PARTITION OF many FOR VALUES IN (%1$s)', n);
    END LOOP;
    CREATE TABLE of_many_read (id int PRIMARY KEY);
    ALTER TABLE of_many_read ENABLE ROW LEVEL SECURITY;
    EXECUTE format('CREATE POLICY p ON of_many_read USING (current_user::text <> %L AND EXISTS (SELECT FROM looked) AND EXISTS (SELECT FROM many))', left(long, 56000));
    PERFORM snapsync.enable('of_many_read', name => 'of_many_read');
END
$do$;
INSERT INTO of_long_body VALUES (1, 'a');
RESET ROLE;
UPDATE snapsync.collection SET scope_values = format('ARRAY[''a''::text, %L::text]', repeat('x', 300000)) WHERE name = 'of_long_scopes';
UPDATE snapsync.collection SET access_tables = jsonb_build_object('public.looked', repeat('x', 300000)) WHERE name = 'of_long_predicate';
UPDATE snapsync.collection SET readonly = array_fill('x'::name, ARRAY[5000]) WHERE name = 'of_long_list';
SELECT t.sync('alice', 'of_long_body');
SELECT t.sync('alice', 'of_long_body');
SET ROLE ddl_bert;
ALTER TABLE looked ADD COLUMN a int;
RESET ROLE;
SELECT relation, objid, name FROM snapsync.dependency WHERE classid = 0 AND relation::oid <> 0 ORDER BY relation::text COLLATE "C";
SELECT t.sync('alice', 'of_long_body');
SELECT t.sync('alice', 'of_long_body');
-- A superuser's command reads them.
UPDATE snapsync.collection SET scope_values = $$ARRAY['a'::text]$$, access_tables = NULL, readonly = '{}' WHERE name IN ('of_long_scopes', 'of_long_predicate', 'of_long_list');
ALTER TABLE looked ADD COLUMN b int;
SELECT count(*) FROM snapsync.dependency WHERE classid = 0 AND relation::oid <> 0;
SELECT t.sync('alice', 'of_long_body');
SELECT t.sync('alice', 'of_long_body');
-- So does their owner's.
SET ROLE ddl_bert;
ALTER TABLE looked ADD COLUMN c int;
SET ROLE ddl_mallory;
ALTER TABLE of_long_body ALTER id SET STATISTICS 10;
RESET ROLE;
SELECT relation FROM snapsync.dependency WHERE classid = 0 AND relation = 'of_long_body'::regclass;
SELECT t.sync('alice', 'of_long_body');
SELECT t.sync('alice', 'of_long_body');
DROP TABLE looked CASCADE;
DROP SCHEMA long CASCADE;
RESET search_path;
RESET client_min_messages;
-- So it is with what access_tables and scope_values name, and what that rests on: each of it is looked at once, however many of these tables rest on it.
CREATE TABLE looked (id int PRIMARY KEY);
CREATE TABLE looked_too (id int PRIMARY KEY);
ALTER TABLE looked OWNER TO ddl_bert;
ALTER TABLE looked_too OWNER TO ddl_bert;
GRANT SELECT, TRIGGER ON looked, looked_too TO ddl_mallory;
CREATE SCHEMA named AUTHORIZATION ddl_mallory;
SET ROLE ddl_mallory;
SET client_min_messages = warning;
DO $do$
BEGIN
    CREATE TABLE named.much (id int PRIMARY KEY);
    ALTER TABLE named.much ENABLE ROW LEVEL SECURITY;
    FOR n IN 1 .. 4200 LOOP
        EXECUTE format('CREATE FUNCTION named.f_%s() RETURNS bool STABLE LANGUAGE sql AS %L', n, 'SELECT true');
    END LOOP;
    EXECUTE (SELECT format('CREATE POLICY p ON named.much USING (%s)', string_agg(format('named.f_%s()', n), ' AND ')) FROM generate_series(1, 4200) AS n);
    CREATE TABLE named.link_0 (id int PRIMARY KEY);
    FOR n IN 1 .. 40 LOOP
        EXECUTE format('CREATE TABLE named.link_%s (id int PRIMARY KEY)', n);
        EXECUTE format('ALTER TABLE named.link_%s ENABLE ROW LEVEL SECURITY', n);
        EXECUTE format('CREATE POLICY p ON named.link_%s USING (EXISTS (SELECT FROM named.link_%s))', n, n - 1);
    END LOOP;
    CREATE TABLE named.by_links (id int PRIMARY KEY, who int);
    ALTER TABLE named.by_links ENABLE ROW LEVEL SECURITY;
    CREATE POLICY p ON named.by_links USING (EXISTS (SELECT FROM looked_too));
    CREATE TABLE named.by_much (LIKE named.by_links INCLUDING ALL);
    ALTER TABLE named.by_much ENABLE ROW LEVEL SECURITY;
    CREATE POLICY p ON named.by_much USING (EXISTS (SELECT FROM looked));
    CREATE TABLE named.by_scopes (LIKE named.by_links INCLUDING ALL);
    ALTER TABLE named.by_scopes ENABLE ROW LEVEL SECURITY;
    CREATE POLICY p ON named.by_scopes USING (EXISTS (SELECT FROM looked));
    CREATE VIEW named.shown AS SELECT id FROM named.much;
END
$do$;
SELECT snapsync.enable('named.by_links', access_tables => (SELECT jsonb_agg('named.link_' || n) FROM generate_series(0, 40) AS n));
SELECT snapsync.enable('named.by_much', access_tables => '["named.much"]');
SELECT snapsync.enable('named.by_scopes', scope_column => 'who', scope_values => '(SELECT array_agg(id) FROM named.shown)');
RESET ROLE;
SET ROLE ddl_bert;
ALTER TABLE looked ADD COLUMN a int;
BEGIN;
SELECT set_config('looks.before', pg_stat_get_xact_numscans('pg_depend_depender_index'::regclass)::text, true) IS NOT NULL AS counted;
ALTER TABLE looked_too ADD COLUMN a int;
SELECT pg_stat_get_xact_numscans('pg_depend_depender_index'::regclass) - current_setting('looks.before')::int < 500 AS few;
COMMIT;
RESET ROLE;
SELECT relation, objid, name FROM snapsync.dependency WHERE classid = 0 AND relation::oid <> 0 ORDER BY relation::text COLLATE "C";
DROP TABLE looked, looked_too CASCADE;
DROP SCHEMA named CASCADE;
RESET client_min_messages;

-- What a stranger's settings name is gone, with the type of its argument: nobody else's command fails.
CREATE TABLE looked (id int PRIMARY KEY, who text);
ALTER TABLE looked OWNER TO ddl_bert;
SET ROLE ddl_mallory;
CREATE TABLE named (id int PRIMARY KEY, who text);
ALTER TABLE named ENABLE ROW LEVEL SECURITY;
CREATE TYPE gone AS ENUM ('x');
CREATE FUNCTION gone(gone) RETURNS text[] STABLE LANGUAGE sql AS 'SELECT ARRAY[current_user::text]';
SELECT snapsync.enable('named', scope_column => 'who', scope_values => 'gone(NULL::gone)');
SET client_min_messages = warning;
CREATE POLICY p ON named USING (who IN (SELECT who FROM looked));
DROP FUNCTION gone;
DROP TYPE gone;
SET ROLE ddl_bert;
ALTER TABLE looked ADD COLUMN a int;
GRANT SELECT ON looked TO PUBLIC;
RESET ROLE;
SELECT severity, collection, finding, hint, fix FROM snapsync.doctor() WHERE collection = 'named' AND finding LIKE '%scope_values%';
INSERT INTO snapsync.dependency (relation, classid, objid, own, name, owner) VALUES ('named', 0, 1, false, 'made up', '3');
CREATE VIEW other AS SELECT 1;
SET ROLE ddl_bert;
DROP TABLE looked CASCADE;
RESET ROLE;
RESET client_min_messages;
DROP VIEW other;
DROP TABLE named;
-- Who leaves a look no stack has an error of his own, and has put off nobody's table.
CREATE TABLE crew (org int, who text, PRIMARY KEY (org, who));
CREATE TABLE papers (id int PRIMARY KEY, org int);
ALTER TABLE papers ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON papers USING (org IN (SELECT org FROM crew WHERE who = current_user));
GRANT SELECT ON crew, papers TO ddl_mallory;
SELECT snapsync.enable('papers');
-- (A new session: what it has planned before takes little.)
\c -
SET ROLE ddl_mallory;
SET client_min_messages = error;
CREATE FUNCTION pg_temp.down(n int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF n > 0 THEN PERFORM pg_temp.down(n - 1); ELSE EXECUTE 'GRANT SELECT ON crew TO ddl_mallory'; END IF;
END $$;
DO $$
DECLARE
    low int := 0;
    high int := 4000;
    mid int;
BEGIN
    WHILE high - low > 1 LOOP
        mid := (low + high) / 2;
        BEGIN
            PERFORM pg_temp.down(mid);
            low := mid;
        EXCEPTION WHEN statement_too_complex THEN
            high := mid;
        END;
    END LOOP;
END $$;
RESET client_min_messages;
RESET ROLE;
SELECT relation, name FROM snapsync.dependency WHERE classid = 0 AND relation::oid <> 0;

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_ddl_looks;
DROP ROLE ddl_mallory, ddl_bert;
