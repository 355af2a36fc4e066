-- Conditions that owners give for rows of access tables are put to rows as they were and as they are: only such as can be, and only while
-- their owner may read all of these rows. Otherwise every change concerns everybody.
\set ECHO none
\set test regress_owner_conditions
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET client_min_messages = warning;
CREATE SCHEMA mallory AUTHORIZATION alice;
GRANT USAGE ON SCHEMA mallory TO PUBLIC;

-- Of one row, and no more.
SET ROLE alice;
CREATE TABLE mallory.other (t xid);
CREATE TABLE mallory.mem (id int PRIMARY KEY, who name, grp int);
CREATE TABLE mallory.docs (id int PRIMARY KEY, grp int);
CREATE FUNCTION mallory.groups(who name) RETURNS SETOF int LANGUAGE sql STABLE SECURITY DEFINER AS $$ SELECT grp FROM mallory.mem AS m WHERE m.who = $1 $$;
ALTER TABLE mallory.docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON mallory.docs USING (grp IN (SELECT mallory.groups(current_user)));
GRANT SELECT ON mallory.docs, mallory.mem TO bob, carol;
INSERT INTO mallory.mem VALUES (1, 'bob', 7), (2, 'carol', 7);
INSERT INTO mallory.docs VALUES (1, 7);
SELECT v, (SELECT string_agg(error, ' ') FROM t.error(format('SELECT snapsync.enable(''mallory.docs'', access_tables => %L)', jsonb_build_object('mallory.mem', v))))
FROM unnest(ARRAY['grp IN (SELECT x.grp FROM mallory.mem AS x WHERE x.who = current_user)', 'EXISTS (SELECT FROM mallory.other WHERE other.t = mem.xmin)',
                  'ARRAY(SELECT xmin) IS NULL', 'tableoid = ''mallory.mem''::regclass', 'ctid IS NOT NULL AND who = current_user']) AS v;
-- A subquery without tables reads no other row.
SELECT snapsync.enable('mallory.docs', access_tables => '{"mallory.mem": "who = (SELECT current_user)"}');
RESET ROLE;
SELECT t.sync('bob', 'mallory.docs'), t.sync('carol', 'mallory.docs');
DELETE FROM mallory.mem WHERE who = 'bob';
SELECT t.sync('bob', 'mallory.docs'), t.sync('carol', 'mallory.docs');
-- Such as were stored before: then a change concerns everybody.
UPDATE snapsync.collection SET access_tables = '{"mallory.mem": "(grp IN ( SELECT x.grp FROM mallory.mem x WHERE (x.who = CURRENT_USER)))"}' WHERE relation = 'mallory.docs'::regclass;
\connect
SET client_min_messages = warning;
SELECT t.sync('carol', 'mallory.docs');
DELETE FROM mallory.mem WHERE who = 'carol';
SELECT t.sync('carol', 'mallory.docs');
UPDATE snapsync.collection SET access_tables = '{"mallory.mem": "(EXISTS ( SELECT FROM mallory.other WHERE (other.t = mem.xmin)))"}' WHERE relation = 'mallory.docs'::regclass;
\connect
SET client_min_messages = warning;
SELECT t.sync('carol', 'mallory.docs');
INSERT INTO mallory.mem VALUES (3, 'x', 1), (4, 'carol', 7);
DELETE FROM mallory.mem WHERE id = 3;
SELECT t.sync('carol', 'mallory.docs');

-- A partition that a policy names has columns in an order of its own.
SET ROLE alice;
CREATE TABLE mallory.pmem (id int PRIMARY KEY, who text, note text) PARTITION BY RANGE (id);
CREATE TABLE mallory.pmem_1 (id int NOT NULL PRIMARY KEY, note text, who text);
ALTER TABLE mallory.pmem ATTACH PARTITION mallory.pmem_1 FOR VALUES FROM (0) TO (1000000);
CREATE TABLE mallory.pdocs (id int PRIMARY KEY);
ALTER TABLE mallory.pdocs ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON mallory.pdocs USING (EXISTS (SELECT FROM mallory.pmem_1 WHERE pmem_1.who = current_user));
GRANT SELECT ON mallory.pdocs, mallory.pmem, mallory.pmem_1 TO bob;
INSERT INTO mallory.pdocs VALUES (1);
SELECT snapsync.enable('mallory.pdocs', access_tables => '{"mallory.pmem": "false"}');
RESET ROLE;
SELECT access, kind, predicate, untracked FROM snapsync.access WHERE relation = 'mallory.pdocs'::regclass;
SELECT t.sync('bob', 'mallory.pdocs');
INSERT INTO mallory.pmem VALUES (1, 'bob', 'x');
SELECT t.sync('bob', 'mallory.pdocs');
DELETE FROM mallory.pmem;
SELECT t.sync('bob', 'mallory.pdocs');

-- The access table passes to another owner, or the owner of the condition leaves the role that owns it: her function sees no more rows.
CREATE ROLE regress_team;
GRANT regress_team TO alice;
CREATE TABLE t.seen (who name, row text);
GRANT INSERT ON t.seen TO PUBLIC;
CREATE TABLE staff (id int PRIMARY KEY, usr name, salary int);
ALTER TABLE staff OWNER TO regress_team;
ALTER TABLE staff ENABLE ROW LEVEL SECURITY;
SET ROLE alice;
CREATE TABLE mallory.mine (id int PRIMARY KEY, who name);
ALTER TABLE mallory.mine ENABLE ROW LEVEL SECURITY;
ALTER TABLE mallory.mine FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON mallory.mine USING (who = current_user);
CREATE FUNCTION mallory.peek(r staff) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t.seen VALUES (current_user, r::text); RETURN false; END $$;
SELECT snapsync.enable('mallory.mine', access_tables => '{"public.staff": "mallory.peek(staff)"}');
RESET ROLE;
SELECT t.sync('alice', 'mallory.mine');
INSERT INTO staff VALUES (1, 'carol', 100);
SELECT t.sync('alice', 'mallory.mine');
SELECT DISTINCT * FROM t.seen;
TRUNCATE t.seen;
REVOKE regress_team FROM alice;
INSERT INTO staff VALUES (2, 'carol', 200);
SELECT t.sync('alice', 'mallory.mine');
INSERT INTO staff VALUES (3, 'carol', 300);
SELECT t.sync('alice', 'mallory.mine');
SELECT * FROM t.seen;
GRANT regress_team TO alice;
INSERT INTO staff VALUES (4, 'carol', 400);
SELECT t.sync('alice', 'mallory.mine');
INSERT INTO staff VALUES (5, 'carol', 500);
SELECT t.sync('alice', 'mallory.mine');
SELECT DISTINCT * FROM t.seen WHERE row ~ '500';
TRUNCATE t.seen;
-- By the table's owner, with somebody else standing up for it.
ALTER TABLE staff OWNER TO carol;
SELECT snapsync.enable('mallory.mine');
SELECT t.sync('alice', 'mallory.mine');
INSERT INTO staff VALUES (6, 'carol', 600);
UPDATE staff SET salary = 700 WHERE id = 6;
SELECT t.sync('alice', 'mallory.mine');
SELECT * FROM t.seen;
-- The same of a condition that was found in scope_values, and of those in policies.
ALTER TABLE staff OWNER TO regress_team;
SET ROLE alice;
CREATE TABLE mallory.scoped (id int PRIMARY KEY, org text);
CREATE TABLE mallory.policed (id int PRIMARY KEY);
RESET ROLE;
CREATE FUNCTION mallory.peek(salary int) RETURNS boolean LANGUAGE plpgsql LEAKPROOF AS $$ BEGIN INSERT INTO t.seen VALUES (current_user, salary::text); RETURN false; END $$;
SET ROLE alice;
SELECT snapsync.enable('mallory.scoped', scope_column => 'org', scope_values => 'ARRAY(SELECT usr::text FROM public.staff WHERE mallory.peek(salary))');
ALTER TABLE mallory.policed ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON mallory.policed USING (EXISTS (SELECT FROM public.staff WHERE mallory.peek(salary)));
SELECT snapsync.enable('mallory.policed');
RESET ROLE;
GRANT SELECT ON staff, mallory.scoped, mallory.policed TO bob;
SELECT relation, predicate FROM snapsync.access WHERE relation IN ('mallory.scoped'::regclass, 'mallory.policed'::regclass) ORDER BY relation::regclass::text;
SELECT t.sync('bob', 'mallory.scoped'), t.sync('bob', 'mallory.policed');
REVOKE regress_team FROM alice;
INSERT INTO staff VALUES (8, 'carol', 800);
SELECT t.sync('bob', 'mallory.scoped'), t.sync('bob', 'mallory.policed');
INSERT INTO staff VALUES (9, 'carol', 900);
SELECT t.sync('bob', 'mallory.scoped'), t.sync('bob', 'mallory.policed');
SELECT * FROM t.seen WHERE row ~ '800|900';
DROP TABLE staff CASCADE;
DROP SCHEMA mallory CASCADE;
DROP ROLE regress_team;
