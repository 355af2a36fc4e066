-- What changes under a collection without a change of its rows, and what a transaction does in several parts: tables attached to
-- others, renamed and replaced, types, functions and keys that become others. (t.sync() complains if a device ends up with
-- anything but what its role may SELECT.)
\set ECHO none
\set test regress_shape_changes
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET client_min_messages = warning;
-- Is this row in that other table? Hidden from pg_depend.
CREATE FUNCTION t.hidden(name text, body text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE OR REPLACE FUNCTION %I(int) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER AS %L',
                   name, 'BEGIN RETURN ' || body || '; END');
END
$$;
\set ECHO all

-- A synced table is not attached to one that is not synced; not even deeper in its tree.
CREATE TABLE attached (id int PRIMARY KEY);
GRANT SELECT ON attached TO PUBLIC;
SELECT snapsync.enable('attached');
CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE branch PARTITION OF root FOR VALUES FROM (0) TO (100) PARTITION BY RANGE (id);
SELECT * FROM t.error('ALTER TABLE root ATTACH PARTITION attached FOR VALUES FROM (100) TO (200)');
SELECT * FROM t.error('ALTER TABLE branch ATTACH PARTITION attached FOR VALUES FROM (0) TO (100)');
CREATE TABLE partitioned (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE partitioned_1 PARTITION OF partitioned FOR VALUES FROM (100) TO (110);
SELECT snapsync.enable('partitioned');
SELECT * FROM t.error('ALTER TABLE root ATTACH PARTITION partitioned FOR VALUES FROM (100) TO (200)');
INSERT INTO attached VALUES (101);
SELECT t.sync('alice', 'attached');
SET session_replication_role = replica;
SELECT * FROM t.error('ALTER TABLE root ATTACH PARTITION attached FOR VALUES FROM (100) TO (200)');
RESET session_replication_role;
-- Done all the same, with event triggers off: other commands do not fail for it, doctor() tells.
ALTER EVENT TRIGGER snapsync_command_end DISABLE;
ALTER TABLE root ATTACH PARTITION attached FOR VALUES FROM (100) TO (200);
ALTER EVENT TRIGGER snapsync_command_end ENABLE ALWAYS;
CREATE TABLE another (id int);
ALTER TABLE partitioned ADD COLUMN note text;
SELECT severity, finding, fix FROM snapsync.doctor() WHERE collection = 'attached' AND finding LIKE '%partition%';
SELECT * FROM t.error('ALTER TABLE root ADD COLUMN note text');
SELECT snapsync.disable('attached'); SELECT snapsync.enable('root');
SELECT t.catch_up('root');
INSERT INTO attached (id) VALUES (102);
SELECT t.pull_ids('root');

-- A table that policies read is attached, detached and attached: it is tracked where it is.
CREATE TABLE members_1 (id int PRIMARY KEY, who name);
SELECT t.secured('by_member', '', 'id IN (SELECT id FROM members_1 WHERE who = current_user)');
GRANT SELECT ON members_1 TO PUBLIC;
INSERT INTO by_member SELECT generate_series(1, 4);
INSERT INTO members_1 VALUES (1, 'alice');
SELECT t.sync('alice', 'by_member');
CREATE TABLE members (id int PRIMARY KEY, who name) PARTITION BY RANGE (id);
ALTER TABLE members ATTACH PARTITION members_1 FOR VALUES FROM (0) TO (100);
SELECT access, kind FROM snapsync.access WHERE relation = 'by_member'::regclass;
SELECT relation FROM snapsync.collection WHERE name IS NULL;
SELECT t.sync('alice', 'by_member');
INSERT INTO members_1 VALUES (2, 'alice');
SELECT t.sync('alice', 'by_member');
ALTER TABLE members DETACH PARTITION members_1;
SELECT relation FROM snapsync.collection WHERE name IS NULL;
INSERT INTO members_1 VALUES (3, 'alice');
SELECT t.sync('alice', 'by_member');
ALTER TABLE members ATTACH PARTITION members_1 FOR VALUES FROM (0) TO (100);
DELETE FROM members WHERE id = 1;
SELECT t.sync('alice', 'by_member');
TRUNCATE members_1;
SELECT t.sync('alice', 'by_member');

-- Written in several parts: what a transaction made and changed again, nobody has seen. By a pull in the middle of it.
SELECT t.secured('inner_states', ', who name DEFAULT ''alice'', note text', 'who = current_user');
SELECT t.sync('alice', 'inner_states'), t.sync('bob', 'inner_states');
BEGIN; INSERT INTO inner_states VALUES (1); SELECT t.pull_ids('inner_states'); UPDATE inner_states SET who = 'bob'; COMMIT;
SELECT t.sync('alice', 'inner_states'), t.sync('bob', 'inner_states');
SELECT op, key, image FROM snapsync.change WHERE relation = 'inner_states'::regclass AND op <> 'R' ORDER BY stamp, ord;
BEGIN; INSERT INTO inner_states VALUES (2); SELECT t.pull_ids('inner_states'); DELETE FROM inner_states WHERE id = 2; COMMIT;
SELECT t.sync('alice', 'inner_states'), t.sync('bob', 'inner_states');
-- The transaction itself is told of its own states.
SELECT t.catch_up('inner_states');
BEGIN; INSERT INTO inner_states VALUES (3); SELECT t.pull_ids('inner_states'); DELETE FROM inner_states WHERE id = 3; SELECT t.pull_ids('inner_states'); COMMIT;
SELECT t.sync('alice', 'inner_states'), t.sync('bob', 'inner_states');
-- In bulk, and by a trigger inside the statement, whose entries come first.
SET snapsync.flush_threshold = 100;
BEGIN; INSERT INTO inner_states SELECT generate_series(1001, 1150); UPDATE inner_states SET who = 'bob' WHERE id > 1000; COMMIT;
SELECT t.sync('alice', 'inner_states');
DELETE FROM inner_states WHERE id > 1000;
SELECT t.sync('alice', 'inner_states'), length(t.sync('bob', 'inner_states')) > 1000;
CREATE FUNCTION gives() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.note = 'give' AND NEW.who = 'alice' THEN
        UPDATE inner_states SET who = 'bob' WHERE note = 'give' AND who = 'alice';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER gives AFTER INSERT OR UPDATE ON inner_states FOR EACH ROW EXECUTE FUNCTION gives();
SET snapsync.flush_threshold = 1;
INSERT INTO inner_states SELECT n, 'alice', 'give' FROM generate_series(11, 13) AS n;
SELECT t.sync('alice', 'inner_states'), t.sync('bob', 'inner_states');
-- What had been there before was seen: first the other columns, then out of sight.
SET snapsync.flush_threshold = 50000;
INSERT INTO inner_states SELECT generate_series(21, 27);
SELECT t.sync('alice', 'inner_states');
BEGIN; UPDATE inner_states SET note = 'x' WHERE id = 21; SELECT t.pull_ids('inner_states') LIKE '%21%'; UPDATE inner_states SET who = 'bob' WHERE id = 21; COMMIT;
SELECT t.sync('alice', 'inner_states'), t.sync('bob', 'inner_states');
-- Out of sight, then anything; out of sight, and in somebody else's; deleted.
BEGIN; UPDATE inner_states SET who = 'bob' WHERE id IN (22, 23, 24); SELECT t.pull_ids('inner_states') LIKE '%22%';
UPDATE inner_states SET note = 'x' WHERE id = 22; UPDATE inner_states SET who = 'carol' WHERE id = 23; DELETE FROM inner_states WHERE id = 24; COMMIT;
SELECT t.sync('alice', 'inner_states'), t.sync('bob', 'inner_states');
-- Deleted and inserted again.
BEGIN; DELETE FROM inner_states WHERE id IN (25, 26); SELECT t.pull_ids('inner_states') LIKE '%25%'; INSERT INTO inner_states VALUES (25, 'alice'), (26, 'bob'); COMMIT;
SELECT t.sync('alice', 'inner_states'), t.sync('bob', 'inner_states');
BEGIN; DELETE FROM inner_states WHERE id IN (25, 26); INSERT INTO inner_states VALUES (25), (26); SELECT t.pull_ids('inner_states') LIKE '%25%';
UPDATE inner_states SET who = 'carol' WHERE id IN (25, 26); COMMIT;
SELECT t.sync('alice', 'inner_states'), t.sync('bob', 'inner_states');
-- compact() keeps what tells that the row was there.
SELECT t.secured('compacted', ', who name DEFAULT ''alice'', note text', 'who = current_user');
INSERT INTO compacted VALUES (1), (2), (3);
SELECT t.sync('alice', 'compacted');
BEGIN; UPDATE compacted SET note = 'x' WHERE id < 3; SELECT t.pull_ids('compacted') LIKE '%1%'; UPDATE compacted SET note = 'y' WHERE id < 3;
SELECT t.pull_ids('compacted') LIKE '%1%'; UPDATE compacted SET who = 'bob' WHERE id = 1; COMMIT;
UPDATE compacted SET note = 'z' WHERE id < 3;
SELECT snapsync.compact() > 0;
SELECT op, coalesce(key, keys::text), image FROM snapsync.change WHERE relation = 'compacted'::regclass AND op <> 'R' ORDER BY stamp, ord;
SELECT t.sync('alice', 'compacted');
-- A row that was there for one transaction only: a push of its id hears nothing of it.
GRANT INSERT, UPDATE, DELETE ON inner_states TO alice;
CREATE POLICY w ON inner_states USING (who = current_user);
SELECT t.catch_up('inner_states');
BEGIN; INSERT INTO inner_states VALUES (31, 'bob'); SELECT t.pull_ids('inner_states') LIKE '%31%'; DELETE FROM inner_states WHERE id = 31; COMMIT;
SET ROLE alice;
SELECT json_object_keys(push_changes('{"inner_states": {"created": [], "updated": [{"id": 31, "note": "mine"}], "deleted": []}}', current_setting('t.cursor')));
RESET ROLE;
SELECT id, who FROM inner_states WHERE id = 31;

-- A label of an enum that is renamed, wherever a column has it from; a composite type.
CREATE TYPE colour AS ENUM ('red', 'green');
CREATE DOMAIN shade AS colour;
CREATE TYPE span AS RANGE (SUBTYPE = colour);
CREATE TYPE pair AS (a shade[], b int);
SELECT t.secured('by_array', ', c colour[] DEFAULT ''{green}''', 'true'), t.secured('by_domain', ', c shade DEFAULT ''green''', 'true'),
       t.secured('by_range', ', c span DEFAULT ''[red,green]''', 'true'), t.secured('by_pair', ', c pair DEFAULT ''({green},1)''', 'true'),
       t.secured('by_image', ', c colour[] DEFAULT ''{green}''', 'cardinality(c) > 0');
INSERT INTO by_array VALUES (1); INSERT INTO by_domain VALUES (1); INSERT INTO by_range VALUES (1); INSERT INTO by_pair VALUES (1); INSERT INTO by_image VALUES (1), (2);
SELECT t.sync('alice', r) FROM unnest('{by_array,by_domain,by_range,by_pair,by_image}'::text[]) AS r;
DELETE FROM by_image WHERE id = 1;
ALTER TYPE colour RENAME VALUE 'green' TO 'lime';
SELECT t.sync('alice', r) FROM unnest('{by_array,by_domain,by_range,by_pair,by_image}'::text[]) AS r;
ALTER TYPE colour ADD VALUE 'blue';
ALTER TYPE pair RENAME ATTRIBUTE b TO c;
SELECT t.sync('alice', r) FROM unnest('{by_array,by_pair}'::text[]) AS r;
ALTER TYPE pair ADD ATTRIBUTE d text;
SELECT t.sync('alice', 'by_pair');

-- A function that a policy calls becomes STRICT.
CREATE FUNCTION is_open(text) RETURNS boolean LANGUAGE sql AS 'SELECT coalesce($1, '''') = ''''';
SELECT t.secured('by_strict', ', lock text', 'is_open(lock)');
INSERT INTO by_strict VALUES (1, NULL), (2, '');
SELECT t.sync('alice', 'by_strict');
ALTER FUNCTION is_open(text) STRICT;
SELECT t.sync('alice', 'by_strict');
ALTER FUNCTION is_open(text) CALLED ON NULL INPUT;
SELECT t.sync('alice', 'by_strict');

-- Access tables that are declared: renamed, and the function with it.
CREATE TABLE guests (id int PRIMARY KEY, who name);
SELECT t.hidden('is_guest', 'EXISTS (SELECT FROM public.guests AS g WHERE g.id = $1)');
SELECT t.secured('parties', '', 'is_guest(id)');
SELECT snapsync.enable('parties', access_tables => '["guests"]');
INSERT INTO parties VALUES (1), (2), (3), (4); INSERT INTO guests VALUES (1);
SELECT t.sync('alice', 'parties');
ALTER TABLE guests RENAME TO visitors;
SELECT t.hidden('is_guest', 'EXISTS (SELECT FROM public.visitors AS g WHERE g.id = $1)');
SELECT access_tables FROM snapsync.collection WHERE relation = 'parties'::regclass;
SELECT severity, finding, fix FROM snapsync.doctor() WHERE collection = 'parties' AND finding LIKE 'access table%';
SELECT t.sync('alice', 'parties');
INSERT INTO visitors VALUES (2);
SELECT t.sync('alice', 'parties');
SELECT snapsync.enable('parties', access_tables => '["visitors"]');
-- Another table takes its place; dropped and made anew; by SELECT INTO.
CREATE TABLE visitors_new (id int PRIMARY KEY);
INSERT INTO visitors_new VALUES (1), (2);
BEGIN; ALTER TABLE visitors RENAME TO visitors_old; ALTER TABLE visitors_new RENAME TO visitors; COMMIT;
SELECT t.sync('alice', 'parties');
INSERT INTO visitors VALUES (3);
SELECT t.sync('alice', 'parties');
DROP TABLE visitors;
SELECT severity, finding FROM snapsync.doctor() WHERE collection = 'parties' AND finding LIKE 'access table%';
CREATE TABLE visitors (id int PRIMARY KEY);
SELECT t.sync('alice', 'parties');
INSERT INTO visitors VALUES (4);
SELECT t.sync('alice', 'parties');
DROP TABLE visitors;
SELECT 1 AS id INTO visitors;
SELECT t.sync('alice', 'parties');
INSERT INTO visitors VALUES (2);
SELECT t.sync('alice', 'parties');
-- Moved, and with its schema.
CREATE SCHEMA house;
ALTER TABLE visitors SET SCHEMA house;
SELECT t.hidden('is_guest', 'EXISTS (SELECT FROM house.visitors AS g WHERE g.id = $1)');
SELECT t.sync('alice', 'parties');
INSERT INTO house.visitors VALUES (3);
SELECT t.sync('alice', 'parties');
ALTER SCHEMA house RENAME TO home;
SELECT t.hidden('is_guest', 'EXISTS (SELECT FROM home.visitors AS g WHERE g.id = $1)');
SELECT t.sync('alice', 'parties');
DELETE FROM home.visitors WHERE id = 2;
SELECT t.sync('alice', 'parties');
-- A declared predicate whose column is renamed: then everybody is concerned.
CREATE TABLE helpers (id int PRIMARY KEY, who name);
SELECT t.hidden('is_helper', 'EXISTS (SELECT FROM public.helpers AS h WHERE h.id = $1)');
SELECT t.secured('jobs', '', 'is_helper(id)');
SELECT snapsync.enable('jobs', access_tables => '{"helpers": "who = current_user"}');
INSERT INTO jobs VALUES (1), (2);
INSERT INTO helpers VALUES (1, 'alice');
SELECT t.sync('alice', 'jobs'), t.sync('bob', 'jobs');
ALTER TABLE helpers RENAME COLUMN who TO helper;
SELECT predicate FROM snapsync.access WHERE relation = 'jobs'::regclass;
SELECT severity, finding FROM snapsync.doctor() WHERE collection = 'jobs' AND finding LIKE '%predicate of%';
INSERT INTO helpers VALUES (2, 'alice');
SELECT t.sync('alice', 'jobs'), t.sync('bob', 'jobs');
ALTER TABLE helpers RENAME COLUMN helper TO who;
SELECT predicate FROM snapsync.access WHERE relation = 'jobs'::regclass;
CREATE FUNCTION me() RETURNS name LANGUAGE sql STABLE AS 'SELECT current_user';
SELECT snapsync.enable('jobs', access_tables => '{"helpers": "who = public.me()"}');
DROP FUNCTION me();
SELECT predicate FROM snapsync.access WHERE relation = 'jobs'::regclass;
SELECT t.sync('alice', 'jobs'), t.sync('bob', 'jobs');

-- Another primary key of a table that only policies read.
CREATE TABLE seats (a int PRIMARY KEY, b int NOT NULL, who name);
GRANT SELECT ON seats TO PUBLIC;
SELECT t.secured('shows', '', 'id IN (SELECT b FROM seats WHERE who = current_user)');
INSERT INTO shows VALUES (1), (2), (3);
ALTER TABLE seats DROP CONSTRAINT seats_pkey, ADD PRIMARY KEY (b);
SELECT key FROM snapsync.collection WHERE relation = 'seats'::regclass;
INSERT INTO seats VALUES (1, 1, 'bob'), (1, 2, 'alice');
SELECT t.sync('alice', 'shows');
BEGIN; DELETE FROM seats WHERE b = 1; DELETE FROM seats WHERE b = 2; COMMIT;
SELECT t.sync('alice', 'shows');
ALTER TABLE seats DROP COLUMN b CASCADE;
SELECT key FROM snapsync.collection WHERE relation = 'seats'::regclass;
SELECT t.secured('shows_2', '', 'id IN (SELECT a FROM seats WHERE who = current_user)');
SELECT key FROM snapsync.collection WHERE relation = 'seats'::regclass;
INSERT INTO shows_2 VALUES (1), (2);
SELECT t.sync('alice', 'shows_2');
INSERT INTO seats VALUES (1, 'alice');
SELECT t.sync('alice', 'shows_2');
ALTER TABLE seats ADD PRIMARY KEY (a);
ALTER TABLE seats RENAME COLUMN a TO nr;
SELECT key FROM snapsync.collection WHERE relation = 'seats'::regclass;
SELECT t.sync('alice', 'shows_2');
UPDATE seats SET nr = 2;
SELECT t.sync('alice', 'shows_2');

-- A change that changes nothing is not logged, but makes a version of the row: what comes after it in the same transaction, also past
-- a flush, is about the row that was there.
CREATE TABLE idle (id int PRIMARY KEY, who name);
GRANT SELECT ON idle TO PUBLIC;
ALTER TABLE idle ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON idle USING (who = current_user);
SELECT snapsync.enable('idle');
INSERT INTO idle VALUES (1, 'alice'), (2, 'alice'), (3, 'alice'), (4, 'alice');
SELECT t.sync('alice', 'idle');
BEGIN; UPDATE idle SET who = who WHERE id = 1; DELETE FROM idle WHERE id = 1; COMMIT;
SELECT t.sync('alice', 'idle');
BEGIN; UPDATE idle SET who = who WHERE id = 2; INSERT INTO idle VALUES (9, 'bob'); SELECT length(pull_changes('{idle}')::text) > 0; UPDATE idle SET who = 'bob' WHERE id = 2; DELETE FROM idle WHERE id = 2; COMMIT;
SELECT t.sync('alice', 'idle');
BEGIN; UPDATE idle SET who = who WHERE id = 3; INSERT INTO idle VALUES (8, 'bob'); SELECT length(pull_changes('{idle}')::text) > 0; DELETE FROM idle WHERE id = 3; INSERT INTO idle VALUES (3, 'bob'); COMMIT;
SELECT t.sync('alice', 'idle'), t.sync('bob', 'idle');

-- A foreign key that was not enforced for a time: by a session that is a replica, and with its triggers disabled. The session only leaves a mark.
CREATE FUNCTION t.kinds(name text) RETURNS TABLE (access regclass, kind text, marked boolean) LANGUAGE sql AS $$
    SELECT a.access, a.kind, EXISTS (SELECT FROM snapsync.dependency AS d WHERE d.relation = $1::regclass AND d.name = 'unenforced')
    FROM snapsync.access AS a WHERE a.relation = $1::regclass ORDER BY a.access::text
$$;
CREATE TABLE parents (id int PRIMARY KEY, who name);
GRANT SELECT ON parents TO PUBLIC;
SELECT t.secured('children', ', parent int REFERENCES parents', 'EXISTS (SELECT FROM parents AS p WHERE p.id = children.parent AND p.who = current_user)');
INSERT INTO parents VALUES (1, 'alice');
INSERT INTO children VALUES (1, 1);
SELECT t.sync('alice', 'children'), t.sync('bob', 'children');
INSERT INTO parents VALUES (2, 'alice');
SELECT t.sync('alice', 'children');
SET session_replication_role = replica;
BEGIN; INSERT INTO children VALUES (9, 9); ROLLBACK;
BEGIN; SAVEPOINT a; INSERT INTO children VALUES (9, 9); ROLLBACK TO a; INSERT INTO children VALUES (3, 3); COMMIT;
RESET session_replication_role;
SELECT * FROM t.kinds('children');
SELECT t.sync('alice', 'children'), t.sync('bob', 'children');
INSERT INTO parents VALUES (3, 'alice');
SELECT t.sync('alice', 'children'), t.sync('bob', 'children');
SELECT severity, finding, fix FROM snapsync.doctor() WHERE collection = 'children' AND finding LIKE 'foreign key%';
ALTER TABLE children DROP CONSTRAINT children_parent_fkey, ADD CONSTRAINT children_parent_fkey FOREIGN KEY (parent) REFERENCES parents(id);
SELECT * FROM t.kinds('children');
SELECT t.sync('alice', 'children'), t.sync('bob', 'children');
ALTER TABLE children DISABLE TRIGGER ALL; INSERT INTO children VALUES (4, 4); ALTER TABLE children ENABLE TRIGGER ALL;
SELECT * FROM t.kinds('children');
SELECT t.sync('alice', 'children');
INSERT INTO parents VALUES (4, 'alice');
SELECT t.sync('alice', 'children');

-- A key that is made anew before anybody has looked at the mark: what came meanwhile has moved who sees what.
CREATE TABLE others (id int PRIMARY KEY, parent int REFERENCES parents);
ALTER TABLE others ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON others USING (EXISTS (SELECT FROM parents AS p WHERE p.id = others.parent AND p.who = current_user));
GRANT SELECT ON others TO PUBLIC;
SELECT snapsync.enable('others');
SELECT * FROM t.kinds('others');
SET session_replication_role = replica;
INSERT INTO others VALUES (7, 7);
RESET session_replication_role;
SELECT * FROM t.kinds('others');
SELECT t.sync('alice', 'others');
INSERT INTO parents VALUES (7, 'alice');
ALTER TABLE others DROP CONSTRAINT others_parent_fkey, ADD CONSTRAINT others_parent_fkey FOREIGN KEY (parent) REFERENCES parents(id);
SELECT * FROM t.kinds('others');
SELECT t.sync('alice', 'others');

-- Such a session reads no policies, whatever these are like: an error in reading them is none of its own.
SET client_min_messages = error;
DO $$ BEGIN EXECUTE 'CREATE POLICY q ON others AS RESTRICTIVE USING (' || repeat('(id = 1 OR NOT ', 600) || 'true' || repeat(')', 600) || ')'; END $$;
SET max_stack_depth = '100kB';
SET session_replication_role = replica;
INSERT INTO parents VALUES (8, 'alice');
RESET session_replication_role;
RESET max_stack_depth;
RESET client_min_messages;
SELECT * FROM t.kinds('others');
DROP TABLE others;

-- A policy that follows two keys, of which the second one is another table's.
SELECT t.secured('grandchildren', ', child int REFERENCES children', 'EXISTS (SELECT FROM children AS c JOIN parents AS p ON p.id = c.parent WHERE c.id = grandchildren.child AND p.who = current_user)');
DELETE FROM children;
ALTER TABLE children DROP CONSTRAINT children_parent_fkey, ADD CONSTRAINT children_parent_fkey FOREIGN KEY (parent) REFERENCES parents(id);
SELECT * FROM t.kinds('grandchildren');
SET session_replication_role = replica;
INSERT INTO children VALUES (6, 6);
RESET session_replication_role;
SELECT * FROM t.kinds('grandchildren');
INSERT INTO grandchildren VALUES (60, 6);
SELECT t.sync('alice', 'grandchildren');
SELECT t.sync('alice', 'grandchildren');
INSERT INTO parents VALUES (6, 'alice');
SELECT t.sync('alice', 'grandchildren');
ALTER TABLE grandchildren ALTER id SET STATISTICS 10;
SELECT * FROM t.kinds('grandchildren');
SELECT * FROM t.kinds('children');
SELECT t.sync('alice', 'grandchildren');

-- doctor() looks behind views, operators and functions in standard SQL.
CREATE TABLE shelf (id int PRIMARY KEY);
CREATE FUNCTION on_shelf() RETURNS SETOF int LANGUAGE sql SECURITY DEFINER AS 'SELECT id FROM public.shelf';
CREATE FUNCTION same_shelf(int, int) RETURNS boolean LANGUAGE sql SECURITY DEFINER AS 'SELECT EXISTS (SELECT FROM public.shelf WHERE id = $1 AND id = $2)';
CREATE OPERATOR ==== (FUNCTION = same_shelf, LEFTARG = int, RIGHTARG = int);
CREATE VIEW shelved AS SELECT on_shelf() AS id;
CREATE FUNCTION atomic_shelf(int) RETURNS boolean LANGUAGE sql BEGIN ATOMIC SELECT same_shelf($1, $1); END;
GRANT SELECT ON shelved TO PUBLIC;
SELECT t.secured('behind_view', '', 'id IN (SELECT id FROM shelved)'), t.secured('behind_operator', '', 'id ==== id'), t.secured('behind_atomic', '', 'atomic_shelf(id)');
SELECT severity, collection, finding FROM snapsync.doctor() WHERE collection LIKE 'behind%' AND finding LIKE '%hide%' ORDER BY 2;

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_shape_changes;
