-- Access tables whose rows the policies divide among the users: a pull reads the entries of its caller's rows, and nobody else's. So that it shows
-- which ones were read, entries of others are made such that nobody can read them. (t.sync() complains if a device ends up with anything but
-- what its role may SELECT.)
\set ECHO none
\set test regress_access_parts
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET client_min_messages = warning;
CREATE TABLE members (id int PRIMARY KEY, org int, who text, level int NOT NULL DEFAULT 1, invited text);
CREATE TABLE todos (id int PRIMARY KEY, org int NOT NULL);
ALTER TABLE todos ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON todos USING (org IN (SELECT m.org FROM members AS m WHERE m.who = current_user AND m.level > 0));
GRANT ALL ON members, todos TO alice, bob;
-- The column that the entries of the memberships carry.
CREATE FUNCTION t.parted() RETURNS text LANGUAGE sql AS $$
    SELECT coalesce(found_scope, '-') || ', logged: ' || coalesce(substring(pg_get_triggerdef(g.oid) FROM '"scope":"([^"]*)"'), '-')
    FROM snapsync.collection AS c JOIN pg_trigger AS g ON tgrelid = relation AND tgname = '00_snapsync_track' WHERE relation = 'members'::regclass
$$;
-- Whoever reads an entry of one of these memberships from now on fails.
CREATE FUNCTION t.spoil(int, int) RETURNS boolean LANGUAGE sql AS $$
    WITH spoilt AS (UPDATE snapsync.change SET op = '?' WHERE relation = 'members'::regclass AND op <> 'R'
        AND EXISTS (SELECT FROM unnest(coalesce(keys, ARRAY[key])) AS k WHERE k::int BETWEEN $1 AND $2) RETURNING 1) SELECT count(*) > 0 FROM spoilt
$$;
CREATE FUNCTION t.try(who name, collection text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN t.sync(who, collection);
EXCEPTION WHEN internal_error THEN RETURN who || ': ' || SQLERRM;
END $$;
SELECT snapsync.enable('todos');
RESET client_min_messages;
\set ECHO all
SELECT t.parted();
INSERT INTO todos SELECT n, n FROM generate_series(1, 5) AS n;
INSERT INTO members VALUES (1, 1, 'alice'), (2, 2, 'bob'), (3, 3, 'carol'), (4, 4, NULL);
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;

-- What bob does to his own memberships alice's pulls do not read.
INSERT INTO members SELECT n, 5, 'bob' FROM generate_series(10, 20) AS n; UPDATE members SET level = 2 WHERE id = 10; DELETE FROM members WHERE id > 10;
SELECT t.spoil(10, 20);
SELECT t.try(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
UPDATE todos SET org = org; INSERT INTO members VALUES (30, 3, 'alice');
SELECT t.try('alice', 'todos');
SELECT snapsync.reset('todos');
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;

-- A membership passes from one to the other, and back; by way of others; and under another key.
UPDATE members SET who = 'bob' WHERE id = 30;
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
UPDATE members SET who = 'carol' WHERE id = 30; UPDATE members SET who = 'alice' WHERE id = 30;
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
UPDATE members SET who = 'bob' WHERE id = 30; UPDATE members SET who = 'alice' WHERE id = 30; UPDATE members SET org = 4 WHERE id = 30;
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
BEGIN; UPDATE members SET who = 'bob' WHERE id = 30; UPDATE members SET id = 31 WHERE id = 30; UPDATE members SET who = 'alice', org = 5 WHERE id = 31; COMMIT;
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
UPDATE members SET who = NULL WHERE id = 31;
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
UPDATE members SET who = 'alice' WHERE id IN (4, 31);
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
DELETE FROM members WHERE id = 31; INSERT INTO members VALUES (31, 5, 'bob'); DELETE FROM members WHERE id = 31; INSERT INTO members VALUES (31, 5, 'alice');
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
-- Beside it rows of their own come and go, seen with one membership and not with the next.
UPDATE members SET who = 'bob' WHERE id = 31; INSERT INTO todos VALUES (6, 5); DELETE FROM todos WHERE id = 6; UPDATE members SET who = 'alice' WHERE id = 31;
INSERT INTO todos VALUES (7, 5); DELETE FROM todos WHERE id = 7;
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
-- In a transaction of one's own, with a membership that it has changed before.
BEGIN;
UPDATE members SET who = 'bob' WHERE id = 31;
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
UPDATE members SET who = 'alice' WHERE id = 31;
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
COMMIT;
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
TRUNCATE members;
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;

-- Nor does a pull read what others changed in a scope that none of the caller's sights showed, when his access moves.
INSERT INTO members VALUES (1, 1, 'alice'), (2, 2, 'bob');
INSERT INTO todos SELECT n, 8 + n % 2 FROM generate_series(1000, 1999) AS n;
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
UPDATE todos SET org = org WHERE org IN (8, 9);
-- Whoever reads an entry of one of these todos from now on fails.
CREATE FUNCTION t.spoil_todos(int, int) RETURNS boolean LANGUAGE sql AS $$
    WITH spoilt AS (UPDATE snapsync.change SET op = '?' WHERE relation = 'todos'::regclass AND op <> 'R'
        AND EXISTS (SELECT FROM unnest(coalesce(keys, ARRAY[key])) AS k WHERE k::int BETWEEN $1 AND $2) RETURNING 1) SELECT count(*) > 0 FROM spoilt
$$;
SELECT t.spoil_todos(1000, 1999);
INSERT INTO members VALUES (50, 3, 'alice');
SELECT t.try(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
UPDATE members SET org = 4 WHERE id = 50; UPDATE members SET org = 5 WHERE id = 50; INSERT INTO members VALUES (51, 3, 'bob');
INSERT INTO todos VALUES (20, 4), (21, 5), (22, 3), (23, 6); UPDATE todos SET org = 6 WHERE id = 20; DELETE FROM todos WHERE id = 22;
SELECT t.try(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
DELETE FROM members WHERE id IN (50, 51);
SELECT t.try(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
-- Who joins one of these reads them.
INSERT INTO members VALUES (50, 8, 'alice');
SELECT substr(t.try('alice', 'todos'), 1, 40), t.try('bob', 'todos');
DELETE FROM todos WHERE id >= 20; DELETE FROM members;
SELECT snapsync.reset('todos');
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;

-- Policies that count, and such as ask for none, go by the caller's rows as well.
INSERT INTO members VALUES (1, 1, 'alice'), (2, 2, 'bob');
ALTER POLICY p ON todos USING ((SELECT count(*) FROM members AS m WHERE m.who = current_user) >= id AND org NOT IN (SELECT m.org FROM members AS m WHERE m.who = current_user));
SELECT t.parted();
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
INSERT INTO members SELECT n, 3, 'bob' FROM generate_series(10, 15) AS n;
SELECT t.spoil(10, 15);
SELECT t.try(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
INSERT INTO members VALUES (3, 1, 'alice'), (4, 4, 'alice');
SELECT t.try('alice', 'todos');
SELECT snapsync.reset('todos');
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;

-- One place that asks for others' rows, or in another way, and all are read; what the entries carry stays, and nobody is reset for it.
SET client_min_messages = warning;
SELECT t.secured('teams', ', org int', '(SELECT count(*) FROM members AS m WHERE m.org = teams.org) > 1');
SELECT t.secured('invitations', ', org int', 'org IN (SELECT m.org FROM members AS m WHERE m.invited = current_user)');
RESET client_min_messages;
INSERT INTO teams VALUES (1, 1), (3, 3), (4, 4); INSERT INTO invitations VALUES (1, 1), (2, 2);
SELECT t.parted();
SELECT t.sync('alice', 'teams'), t.sync('alice', 'invitations'), t.sync('alice', 'todos');
UPDATE members SET org = 4 WHERE id = 10; UPDATE members SET invited = 'alice' WHERE id = 2;
SELECT t.sync('alice', 'teams'), t.sync('alice', 'invitations'), t.sync('alice', 'todos');
UPDATE members SET org = 5 WHERE id = 10;
SELECT t.spoil(10, 10);
SELECT t.try('alice', 'teams'), t.try('alice', 'invitations'), t.try('alice', 'todos');
DROP TABLE teams, invitations;
SELECT snapsync.reset('todos');
SELECT t.sync('alice', 'todos');
-- Nor where a function, a view or the owner's own words read it.
CREATE VIEW seen AS SELECT org, who FROM members;
GRANT SELECT ON seen TO PUBLIC;
ALTER POLICY p ON todos USING (org IN (SELECT s.org FROM seen AS s WHERE s.who = current_user) OR org IN (SELECT m.org FROM members AS m WHERE m.who = current_user));
SELECT t.parted();
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
INSERT INTO members VALUES (40, 5, 'alice');
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
INSERT INTO members VALUES (41, 5, 'bob');
SELECT t.spoil(41, 41);
SELECT t.try(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
ALTER POLICY p ON todos USING (org IN (SELECT m.org FROM members AS m WHERE m.who = current_user AND m.level > 0));
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;

-- A policy that asks for no row in particular shows what the table's own policies do: these divide it, if they ask no other table.
ALTER TABLE members ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON members USING (who = current_user AND level > 0);
ALTER POLICY p ON todos USING (org IN (SELECT m.org FROM members AS m));
SELECT t.parted();
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
UPDATE members SET who = 'bob' WHERE id = 40; UPDATE members SET level = 0 WHERE id = 41;
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
UPDATE members SET level = 1 WHERE id = 41; UPDATE members SET who = 'alice' WHERE id = 40; INSERT INTO members VALUES (42, 3, 'bob');
SELECT t.spoil(41, 42);
SELECT t.try(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
SELECT snapsync.reset('todos');
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
-- Where they ask one, all are read: what that said then may have been another thing.
CREATE TABLE circles (who text PRIMARY KEY, of text);
GRANT ALL ON circles TO alice, bob;
ALTER POLICY own ON members USING (who IN (SELECT c.who FROM circles AS c WHERE c.of = current_user));
INSERT INTO circles VALUES ('alice', 'alice'), ('bob', 'bob');
SELECT t.parted();
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
UPDATE circles SET of = 'alice' WHERE who = 'bob';
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
DELETE FROM members WHERE id = 41; UPDATE circles SET of = 'bob' WHERE who = 'bob';
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
INSERT INTO members VALUES (41, 5, 'bob');
SELECT t.spoil(41, 41);
SELECT t.try(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
DROP POLICY own ON members; ALTER TABLE members DISABLE ROW LEVEL SECURITY;
ALTER POLICY p ON todos USING (org IN (SELECT m.org FROM members AS m WHERE m.who = current_user AND m.level > 0));
DROP TABLE circles; DROP VIEW seen;
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;

-- What a subquery gives that stands for itself counts as the bare expression does. By which condition on the memberships the log is divided, and by which column.
SET client_min_messages = warning;
CREATE FUNCTION t.me() RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_user::text $$;
CREATE FUNCTION t.claims() RETURNS json LANGUAGE sql STABLE AS $$ SELECT json_build_object('sub', '00000000-0000-4000-8000-00000000000a', 'name', current_user) $$;
CREATE DOMAIN name_of AS text CHECK (VALUE <> '');
CREATE FUNCTION t.teams() RETURNS int[] LANGUAGE sql STABLE AS $$ SELECT '{1,2}'::int[] $$;
CREATE FUNCTION t.whoever() RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT current_user::text $$;
CREATE FUNCTION t.same(text, text) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT $1 = $2 $$;
CREATE FUNCTION t.divided(policy text) RETURNS text LANGUAGE plpgsql SET client_min_messages = warning AS $$
DECLARE answer text;
BEGIN
    CREATE TABLE mates (id int PRIMARY KEY, org int, who text, u uuid, team int, level int);
    CREATE TABLE others (who text PRIMARY KEY);
    PERFORM t.secured('x', ', org int', policy);
    SELECT coalesce(c.found_scope, '-') || ': ' || coalesce(a.predicate, '-') INTO answer
    FROM snapsync.collection AS c JOIN snapsync.access AS a ON a.access = c.relation WHERE c.relation = 'mates'::regclass;
    DROP TABLE x, mates, others;
    RETURN answer;
END $$;
RESET client_min_messages;
SELECT condition, t.divided(format('org IN (SELECT m.org FROM mates AS m WHERE %s)', condition)) FROM unnest(ARRAY[
  'm.who = t.me()', 'm.who = (SELECT t.me())', '(SELECT current_user) = m.who', 'm.who = (SELECT t.claims() ->> ''name'')', 'm.u = (SELECT t.claims() ->> ''sub'')::uuid',
  'm.u = (SELECT (t.claims() ->> ''sub'')::uuid)', 'm.who = coalesce((SELECT t.me()), (SELECT ''nobody''))', 'm.who = coalesce(t.me(), ''nobody'')', 'm.who = (SELECT t.me())::name_of', 'm.who = (SELECT (SELECT t.me()))', 'm.team = ANY ((SELECT t.teams())::int[])',
  'm.team IN (SELECT unnest(t.teams()))', 'm.team = ANY (ARRAY(SELECT unnest(t.teams())))', 'm.level > (SELECT 0) AND m.who = (SELECT t.me())',
  'm.who = (SELECT t.me()) OR m.who = (SELECT ''everybody'')', 'm.who = (SELECT t.me() WHERE false)', 'm.team = (SELECT 5)', 'm.team = (SELECT (SELECT 5))',
  'm.who = (SELECT t.whoever())', 'm.who = (SELECT o.who FROM others AS o)', 'm.who = (SELECT m.who)', 'm.who = (SELECT t.me() WHERE m.level > 0)', 't.same(m.who, (SELECT t.me()))', '(SELECT t.me()) = coalesce(m.who, ''nobody'')', 'm.who::name_of = (SELECT t.me())', 'm.level / (SELECT 1) = 1',
  'm.who = ANY (SELECT t.me() FROM generate_series(1, 2))', 'm.who = (WITH w AS (SELECT t.me() AS who) SELECT who FROM w)', 'm.who > ALL (SELECT t.me())']) WITH ORDINALITY AS c(condition, n) ORDER BY n;
DROP DOMAIN name_of;
SELECT t.divided('org IN (WITH w AS (SELECT who FROM others) SELECT m.org FROM mates AS m WHERE m.who = (SELECT w.who FROM w))');
SELECT t.divided('EXISTS (SELECT FROM mates AS m WHERE m.org = x.org AND m.who = (SELECT t.me() WHERE x.org > 0))');
-- And what others do is not read.
ALTER POLICY p ON todos USING (org IN (SELECT m.org FROM members AS m WHERE m.who = (SELECT t.me()) AND m.level > (SELECT 0)));
INSERT INTO members VALUES (70, 1, 'alice'), (71, 3, 'bob');
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
INSERT INTO members SELECT n, 2, 'bob' FROM generate_series(72, 75) AS n; DELETE FROM members WHERE id = 75;
SELECT t.spoil(72, 75);
SELECT t.try(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
UPDATE members SET who = 'alice' WHERE id = 71;
SELECT t.try('alice', 'todos');
SELECT snapsync.reset('todos');
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;

-- An owner's words count as the policies do: scope_values, and a predicate that speaks for a function.
SELECT snapsync.enable('todos', scope_column => 'org', scope_values => '(SELECT array_agg(m.org::text) FROM members AS m WHERE m.who = t.me() AND m.level > 0)');
SELECT t.parted();
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
UPDATE members SET org = 4 WHERE id = 72;
SELECT t.spoil(72, 72);
SELECT t.try(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
UPDATE members SET org = 2 WHERE id = 71; INSERT INTO members VALUES (76, 5, 'alice');
SELECT t.try('alice', 'todos');
UPDATE members SET who = 'carol' WHERE id = 76;
SELECT t.try('alice', 'todos');
SELECT snapsync.reset('todos');
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
CREATE FUNCTION t.orgs_of(text) RETURNS SETOF int LANGUAGE sql STABLE SECURITY DEFINER AS $$ SELECT m.org FROM public.members AS m WHERE m.who = $1 $$;
ALTER POLICY p ON todos USING (org IN (SELECT t.orgs_of(t.me())));
SELECT snapsync.enable('todos', scope_column => '', scope_values => '', access_tables => '{"members": "who = (SELECT t.me())"}');
SELECT t.parted();
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
UPDATE members SET org = 5 WHERE id = 72;
SELECT t.spoil(72, 72);
SELECT t.try(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
UPDATE members SET org = 4 WHERE id = 71; INSERT INTO members VALUES (76, 3, 'alice') ON CONFLICT (id) DO UPDATE SET org = 3, who = 'alice';
SELECT t.try('alice', 'todos');
SELECT snapsync.reset('todos');
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
-- All three beside each other: what scope_values read counts, too, where the owner has named the table.
ALTER POLICY p ON todos USING (org IN (SELECT t.orgs_of(t.me())) OR org IN (SELECT m.org FROM members AS m WHERE m.who = (SELECT t.me())));
SELECT snapsync.enable('todos', scope_column => 'org', scope_values => '(SELECT array_agg(m.org::text) FROM members AS m WHERE m.who = (SELECT t.me()))', access_tables => '{"members": "who = t.me() AND level > 1"}');
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
UPDATE members SET org = 1 WHERE id = 72;
SELECT t.spoil(72, 72);
SELECT t.try(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
UPDATE members SET org = 1 WHERE id = 76;
SELECT t.try('alice', 'todos');
SELECT snapsync.reset('todos');
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
-- Where scope_values go by no row in particular, all are read; so they are by a predicate that goes by another column.
SELECT snapsync.enable('todos', scope_values => '(SELECT array_agg(m.org::text) FROM members AS m)');
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
UPDATE members SET org = 2 WHERE id = 72;
SELECT t.spoil(72, 72);
SELECT t.try(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
SELECT snapsync.enable('todos', scope_column => '', scope_values => '', access_tables => '{"members": "who = t.me() OR invited = t.me()"}');
SELECT snapsync.reset('todos');
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
UPDATE members SET org = 3 WHERE id = 72; UPDATE members SET invited = 'alice' WHERE id = 73;
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
UPDATE members SET org = 2 WHERE id = 72;
SELECT t.spoil(72, 72);
SELECT t.try(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
SELECT snapsync.enable('todos', access_tables => '{}');
ALTER POLICY p ON todos USING (org IN (SELECT m.org FROM members AS m WHERE m.who = current_user AND m.level > 0));
DELETE FROM members WHERE id >= 70;
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;

-- The column is followed. With another one all that read the table begin anew, once.
ALTER TABLE members RENAME COLUMN who TO usr;
SELECT t.parted();
UPDATE members SET usr = 'bob' WHERE id = 40;
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
ALTER POLICY p ON todos USING (org IN (SELECT m.org FROM members AS m WHERE m.invited = current_user));
SELECT t.parted();
UPDATE members SET invited = 'alice' WHERE id = 40;
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
INSERT INTO members VALUES (50, 3, 'alice', 1, 'bob');
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
-- A collection of its own right has the column that its own policies divide it by.
ALTER TABLE members ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON members USING (usr = current_user);
SELECT snapsync.enable('members');
SELECT t.parted();
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
UPDATE members SET usr = 'alice', org = 2 WHERE id = 50;
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
ALTER POLICY p ON todos USING (org IN (SELECT m.org FROM members AS m WHERE m.usr = current_user));
SELECT t.sync(who, 'todos'), t.sync(who, 'members') FROM unnest('{alice,bob}'::name[]) AS who;
UPDATE members SET usr = 'bob' WHERE id = 50;
SELECT t.sync(who, 'todos'), t.sync(who, 'members') FROM unnest('{alice,bob}'::name[]) AS who;
INSERT INTO members VALUES (60, 1, 'bob');
SELECT t.spoil(60, 60);
SELECT t.try('alice', 'todos'), t.try('alice', 'members');
SELECT t.try('bob', 'todos');
SELECT snapsync.disable('members');
SELECT t.parted();
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
UPDATE members SET usr = 'alice' WHERE id = 60;
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
-- It is dropped, with the policy that asks for it.
CREATE POLICY q ON todos USING (org IN (SELECT m.org FROM members AS m WHERE m.invited = current_user));
SELECT t.parted();
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
ALTER TABLE members DROP COLUMN usr CASCADE;
SELECT t.parted();
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;
UPDATE members SET invited = 'bob' WHERE id IN (40, 60);
SELECT t.sync(who, 'todos') FROM unnest('{alice,bob}'::name[]) AS who;

-- More read a table than are asked: the column that its entries carry is gone, or of another type. Another one is found.
DROP TABLE todos, members;
CREATE TABLE members (id int PRIMARY KEY, org int NOT NULL, usr text, who text, level int);
CREATE FUNCTION t.policies(condition text) RETURNS void LANGUAGE plpgsql SET client_min_messages = warning AS $$
BEGIN
    FOR i IN 2..20 LOOP
        EXECUTE format('DROP POLICY IF EXISTS p ON todos_%s', i);
        EXECUTE format('CREATE POLICY p ON todos_%s USING (org IN (SELECT m.org FROM members AS m WHERE %s))', i, condition);
    END LOOP;
END
$$;
DO $$
BEGIN
    FOR i IN 1..20 LOOP
        EXECUTE format('CREATE TABLE todos_%s (id int PRIMARY KEY, org int NOT NULL)', i);
        EXECUTE format('ALTER TABLE todos_%s ENABLE ROW LEVEL SECURITY', i);
        EXECUTE format('GRANT SELECT ON todos_%s TO alice, bob', i);
        EXECUTE format('CREATE POLICY p ON todos_%s USING (org IN (SELECT m.org FROM members AS m WHERE m.usr = current_user))', i);
        PERFORM snapsync.enable(format('todos_%s', i)::regclass);
    END LOOP;
END
$$;
GRANT SELECT ON members TO alice, bob;
INSERT INTO todos_2 SELECT n, n FROM generate_series(1, 5) AS n;
SELECT t.parted();
SELECT t.policies('m.who = current_user');
SELECT t.parted();
SELECT t.sync(who, 'todos_2') FROM unnest('{alice,bob}'::name[]) AS who;
SET client_min_messages = warning;
ALTER TABLE members DROP COLUMN usr CASCADE;
RESET client_min_messages;
SELECT t.parted();
SELECT t.sync(who, 'todos_2') FROM unnest('{alice,bob}'::name[]) AS who;
INSERT INTO members (id, org, who) VALUES (1, 1, 'alice'), (2, 2, 'bob');
SELECT t.sync(who, 'todos_2') FROM unnest('{alice,bob}'::name[]) AS who;
UPDATE members SET org = 3 WHERE id = 2;
SELECT t.spoil(2, 2);
SELECT t.try(who, 'todos_2') FROM unnest('{alice,bob}'::name[]) AS who;
SELECT snapsync.reset('todos_2');
SELECT t.sync(who, 'todos_2') FROM unnest('{alice,bob}'::name[]) AS who;
SELECT t.policies('m.level = length(current_user)');
SELECT t.parted();
ALTER TABLE members ALTER COLUMN who TYPE "char";
SELECT t.parted();
SELECT t.sync(who, 'todos_2') FROM unnest('{alice,bob}'::name[]) AS who;
INSERT INTO members (id, org, level) VALUES (3, 4, 5), (4, 5, 3);
SELECT t.sync(who, 'todos_2') FROM unnest('{alice,bob}'::name[]) AS who;
-- Somebody else takes it away, who may not change what is logged: the next command of who may does it.
GRANT CREATE ON SCHEMA public TO carol;
SET ROLE carol;
CREATE DOMAIN level AS int;
RESET ROLE;
ALTER TABLE members ADD COLUMN grade level;
CREATE POLICY p ON todos_1 USING (org IN (SELECT m.org FROM members AS m WHERE m.id > 0));
SELECT t.policies('m.grade = length(current_user)');
SET client_min_messages = warning;
ALTER TABLE members DROP COLUMN level CASCADE;
RESET client_min_messages;
SELECT t.parted();
SET ROLE carol;
SET client_min_messages = warning;
DROP DOMAIN level CASCADE;
RESET client_min_messages;
RESET ROLE;
SELECT t.parted();
SELECT DISTINCT relation, objid FROM snapsync.dependency WHERE classid = 0 AND relation::oid <> 0 AND relation = 'members'::regclass;
CREATE TABLE another (id int);
SELECT t.parted();
-- None is left.
SELECT t.policies('m.org > 4');
SELECT t.parted();
SELECT t.sync(who, 'todos_2') FROM unnest('{alice,bob}'::name[]) AS who;
INSERT INTO members (id, org) VALUES (5, 5);
SELECT t.sync(who, 'todos_2') FROM unnest('{alice,bob}'::name[]) AS who;
UPDATE members SET org = 1 WHERE id = 5;
SELECT t.sync(who, 'todos_2') FROM unnest('{alice,bob}'::name[]) AS who;
\c postgres
DROP DATABASE regress_access_parts;
