-- Old rows are judged as a SELECT would have judged them: whatever their types, whatever the caller may not look up, and whether or
-- not a table that decides about them has soft deletion.
\set ECHO none
\set test regress_judged_images
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
\set ECHO none
SET client_min_messages = warning;
DROP ROLE IF EXISTS judged_images_owner, judged_images_doomed;
CREATE ROLE judged_images_owner;
\set ECHO all

-- A policy's subquery sees soft-deleted rows as it sees any.
CREATE TABLE folders (id int PRIMARY KEY, secret boolean, gone boolean);
CREATE TABLE files (id int PRIMARY KEY, folder int REFERENCES folders ON DELETE CASCADE);
INSERT INTO folders VALUES (1, true, true), (2, false, true), (3, true, false);
INSERT INTO files VALUES (1, 1), (2, 2), (3, 3);
ALTER TABLE files ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON files USING (NOT EXISTS (SELECT FROM folders WHERE folders.id = files.folder AND folders.secret));
GRANT SELECT ON folders, files TO alice;
SELECT snapsync.enable('folders', soft_delete_column => 'gone'), snapsync.enable('files');
SELECT t.sync('alice', 'files');
DELETE FROM folders;
SELECT t.sync('alice', 'files');
CREATE TABLE lists (id int PRIMARY KEY, who name, gone boolean);
CREATE TABLE items (id int PRIMARY KEY, list int REFERENCES lists ON DELETE CASCADE);
INSERT INTO lists VALUES (1, 'alice', true), (2, 'alice', false), (3, 'bob', true);
INSERT INTO items VALUES (1, 1), (2, 2), (3, 3);
ALTER TABLE lists ENABLE ROW LEVEL SECURITY;
ALTER TABLE items ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON lists USING (who = current_user);
CREATE POLICY p ON items USING (list IN (SELECT id FROM lists));
GRANT SELECT ON lists, items TO alice;
SELECT snapsync.enable('lists', soft_delete_column => 'gone'), snapsync.enable('items');
SELECT t.sync('alice', 'items');
DELETE FROM lists WHERE id <> 2;
SELECT t.sync('alice', 'items');
-- The collection's own are never told of.
UPDATE lists SET gone = true;
SELECT pull_changes('{lists}') #> '{changes,lists,updated}';
-- A grant that is soft-deleted is a grant.
CREATE TABLE members (id int PRIMARY KEY, org int, who name, gone boolean);
CREATE TABLE notes (id int PRIMARY KEY, org int);
INSERT INTO members VALUES (1, 1, 'alice', true), (2, 2, 'alice', false);
INSERT INTO notes VALUES (1, 1), (2, 2);
ALTER TABLE members ENABLE ROW LEVEL SECURITY;
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON members USING (who = current_user);
CREATE POLICY p ON notes USING (org IN (SELECT org FROM members));
GRANT SELECT ON members, notes TO alice;
SELECT snapsync.enable('members', soft_delete_column => 'gone'), snapsync.enable('notes');
SELECT t.sync('alice', 'notes');
DELETE FROM members WHERE id = 1;
SELECT t.sync('alice', 'notes');

-- Policies name a schema that the caller may not look into: functions, tables, types, and a parent whose rows are gone.
CREATE SCHEMA hidden;
CREATE FUNCTION hidden.is_me(name) RETURNS boolean LANGUAGE sql SECURITY DEFINER AS 'SELECT $1 IN (''alice'', session_user)';
CREATE FUNCTION hidden.me() RETURNS name LANGUAGE sql AS 'SELECT current_user';
CREATE TYPE hidden.kind AS ENUM ('open', 'closed');
CREATE TABLE mine (id int PRIMARY KEY, who name, kind hidden.kind);
ALTER TABLE mine ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON mine USING (hidden.is_me(who) AND kind = 'open');
GRANT SELECT ON mine TO alice;
SELECT snapsync.enable('mine');
INSERT INTO mine VALUES (1, 'alice', 'open'), (2, 'bob', 'open'), (3, 'alice', 'closed');
SELECT t.sync('alice', 'mine');
DELETE FROM mine;
SELECT t.sync('alice', 'mine');
CREATE TABLE hidden.projects (id int PRIMARY KEY, who name);
CREATE TABLE tasks (id int PRIMARY KEY, project int REFERENCES hidden.projects ON DELETE CASCADE);
ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON tasks USING (EXISTS (SELECT FROM hidden.projects AS p WHERE p.id = tasks.project AND p.who = hidden.me()));
GRANT SELECT ON hidden.projects, tasks TO alice;
SELECT snapsync.enable('tasks');
INSERT INTO hidden.projects VALUES (1, 'alice'), (2, 'bob'), (3, 'alice');
INSERT INTO tasks VALUES (1, 1), (2, 2), (3, 3);
SELECT t.sync('alice', 'tasks');
DELETE FROM hidden.projects WHERE id < 3;
SELECT t.sync('alice', 'tasks');
CREATE TABLE teams (id int PRIMARY KEY, who name);
CREATE TABLE pages (id int PRIMARY KEY);
ALTER TABLE pages ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON pages USING (id IN (SELECT id FROM teams WHERE who = hidden.me()));
GRANT SELECT ON teams, pages TO alice;
SELECT snapsync.enable('pages');
INSERT INTO pages VALUES (1);
SELECT t.sync('alice', 'pages');
INSERT INTO teams VALUES (1, 'bob');
SELECT t.sync('alice', 'pages');
UPDATE teams SET who = 'alice';
SELECT t.sync('alice', 'pages');
-- What he may not run or read he cannot here either.
REVOKE EXECUTE ON FUNCTION hidden.is_me(name) FROM PUBLIC;
INSERT INTO mine VALUES (4, 'alice', 'open');
SELECT t.error($$SELECT t.sync('alice', 'mine')$$);
DELETE FROM mine;
SELECT t.error($$SELECT t.sync('alice', 'mine')$$);

-- The owner of an access table may not look into its schema, nor read it.
CREATE TABLE hidden.grants (id int PRIMARY KEY, who name);
ALTER TABLE hidden.grants OWNER TO judged_images_owner;
ALTER TABLE hidden.grants ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON hidden.grants USING (who = current_user);
GRANT SELECT ON hidden.grants TO alice;
REVOKE SELECT ON hidden.grants FROM judged_images_owner;
CREATE TABLE sheets (id int PRIMARY KEY);
ALTER TABLE sheets ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON sheets USING (id IN (SELECT id FROM hidden.grants));
GRANT SELECT ON sheets TO alice;
SELECT snapsync.enable('sheets');
INSERT INTO sheets VALUES (1), (2);
SELECT t.sync('alice', 'sheets');
INSERT INTO hidden.grants VALUES (1, 'bob');
SELECT t.sync('alice', 'sheets');
INSERT INTO hidden.grants VALUES (2, 'alice');
SELECT t.sync('alice', 'sheets');
-- Nobody's code gets to run as a superuser because of that: not a domain's check, of a literal in a policy; not a function in an
-- index or a constraint, which the planner calls.
GRANT CREATE ON SCHEMA public TO judged_images_owner;
SET ROLE judged_images_owner;
CREATE FUNCTION no_superuser(int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN RAISE EXCEPTION 'run by %', current_user; END IF;
    RETURN true;
END $$;
CREATE DOMAIN checked AS int CHECK (no_superuser(VALUE));
CREATE TABLE staff (id int PRIMARY KEY, who name, CHECK (no_superuser(1)));
CREATE TABLE plans (id int PRIMARY KEY);
ALTER TABLE staff ENABLE ROW LEVEL SECURITY;
ALTER TABLE plans ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON staff USING (who = current_user);
CREATE POLICY p ON plans USING (id = ANY ('{1,2}'::checked[]) AND id IN (SELECT id FROM staff));
GRANT SELECT ON staff, plans TO alice;
SELECT snapsync.enable('plans');
INSERT INTO plans VALUES (1), (2), (3);
RESET ROLE;
SELECT t.sync('alice', 'plans');
SET ROLE judged_images_owner;
INSERT INTO staff VALUES (1, 'alice'), (2, 'bob');
CREATE INDEX ON staff ((no_superuser(1) AND id > 0));
RESET ROLE;
SET constraint_exclusion = on;
SELECT t.sync('alice', 'plans');
DELETE FROM plans;
SELECT t.sync('alice', 'plans');
RESET constraint_exclusion;
-- Not as the owner of another table either, which a policy reads.
CREATE TABLE crew (id int PRIMARY KEY, job int);
CREATE TABLE ships (id int PRIMARY KEY);
ALTER TABLE ships OWNER TO judged_images_owner;
ALTER TABLE ships ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON crew TO alice, judged_images_owner;
GRANT SELECT ON ships TO alice;
SET ROLE judged_images_owner;
CREATE POLICY p ON ships USING (id IN (SELECT id FROM crew WHERE job = ANY ('{7}'::checked[])));
RESET ROLE;
SELECT snapsync.enable('ships');
SELECT predicate FROM snapsync.access WHERE relation = 'ships'::regclass;
INSERT INTO ships VALUES (1), (2);
SELECT t.sync('alice', 'ships');
INSERT INTO crew VALUES (1, 8);
SELECT t.sync('alice', 'ships');
INSERT INTO crew VALUES (2, 7);
SELECT t.sync('alice', 'ships');
-- The owner of the policies' table may not look up what they name; policies are stored as what it is.
CREATE POLICY p2 ON ships AS RESTRICTIVE USING (hidden.me() = 'alice' OR id > 1);
SELECT t.sync('alice', 'ships');
DELETE FROM ships WHERE id = 1;
SELECT t.sync('alice', 'ships');

-- SQL's null and JSON's; json as it was written, also what jsonb cannot hold.
CREATE TABLE secrets (id int PRIMARY KEY, secret jsonb);
CREATE TABLE shown (id int PRIMARY KEY, shown jsonb);
CREATE TABLE numbers (id int PRIMARY KEY, doc json);
CREATE TABLE whole (id int PRIMARY KEY, doc jsonb, text json, code char(3));
ALTER TABLE secrets ENABLE ROW LEVEL SECURITY;
ALTER TABLE shown ENABLE ROW LEVEL SECURITY;
ALTER TABLE numbers ENABLE ROW LEVEL SECURITY;
ALTER TABLE whole ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION may_see(whole) RETURNS boolean LANGUAGE sql AS $$ SELECT $1.doc IS NULL AND $1.text::text = '{"n":  1e2}' AND $1.code = 'a' $$;
CREATE POLICY p ON secrets USING (secret IS NULL);
CREATE POLICY p ON shown USING (shown IS NOT NULL);
CREATE POLICY p ON numbers USING (doc ->> 'n' = '1e2');
CREATE POLICY p ON whole USING (may_see(whole));
GRANT SELECT ON secrets, shown, numbers, whole TO alice;
SELECT snapsync.enable('secrets'), snapsync.enable('shown'), snapsync.enable('numbers'), snapsync.enable('whole');
INSERT INTO secrets VALUES (1, NULL), (2, 'null'), (3, '{}');
INSERT INTO shown SELECT * FROM secrets;
INSERT INTO numbers VALUES (1, '{"n":1e2}'), (2, '{"n":100}'), (3, '{"n":5, "x":1e200000}');
INSERT INTO whole VALUES (1, NULL, '{"n":  1e2}', 'a'), (2, 'null', '{"n":  1e2}', 'a'), (3, NULL, '{"n": 1e2}', 'a'), (4, NULL, '{"n":  1e2}', 'ab');
SELECT t.sync('alice', 'secrets'), t.sync('alice', 'shown'), t.sync('alice', 'numbers'), t.sync('alice', 'whole');
DELETE FROM secrets;
DELETE FROM shown;
DELETE FROM numbers;
DELETE FROM whole;
SELECT t.sync('alice', 'secrets'), t.sync('alice', 'shown'), t.sync('alice', 'numbers'), t.sync('alice', 'whole');

-- Types whose name without a modifier is another type; arrays of them.
CREATE TABLE codes (id int PRIMARY KEY, code char(3), flags bit(3), many char(3)[]);
ALTER TABLE codes ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON codes USING (code = 'abc' OR flags = '111' OR many[1] = 'abc');
GRANT SELECT ON codes TO alice;
SELECT snapsync.enable('codes');
INSERT INTO codes VALUES (1, 'abc', '000', NULL), (2, 'a', '111', NULL), (3, 'xyz', '101', NULL), (4, 'ab', '000', '{abc}'), (5, 'ab', '000', '{a}');
SELECT t.sync('alice', 'codes');
DELETE FROM codes;
SELECT t.sync('alice', 'codes');
-- In a READ ONLY transaction as well, and where judging fails (below).
INSERT INTO codes VALUES (6, 'abc', '000', NULL);
SELECT t.sync('alice', 'codes');
DELETE FROM codes;
BEGIN READ ONLY;
SELECT t.sync('alice', 'codes');
COMMIT;

-- An access table with many columns, all of them logged.
SELECT format('CREATE TABLE wide (id int PRIMARY KEY, who name, %s)', string_agg(format('c%s int', i), ', ')) FROM generate_series(1, 120) AS i \gexec
CREATE FUNCTION is_in() RETURNS boolean LANGUAGE sql SECURITY DEFINER AS $$ SELECT EXISTS (SELECT FROM public.wide WHERE who = 'alice' AND c120 IS NULL) $$;
CREATE TABLE rooms (id int PRIMARY KEY);
ALTER TABLE rooms ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON rooms USING (is_in());
GRANT SELECT ON rooms TO alice;
SELECT snapsync.enable('rooms', access_tables => '{"wide": "who = current_user AND c120 IS NULL"}');
INSERT INTO rooms VALUES (1);
SELECT t.sync('alice', 'rooms');
INSERT INTO wide (id, who, c120) VALUES (1, 'alice', 1), (2, 'bob', NULL);
SELECT t.sync('alice', 'rooms');
UPDATE wide SET c120 = NULL WHERE id = 1;
SELECT t.sync('alice', 'rooms');

-- Names of objects, out of the search path or dropped. Where they are told by name, in arrays, nothing can be said of the rows.
CREATE SCHEMA elsewhere;
CREATE TABLE elsewhere.thing (id int);
CREATE ROLE judged_images_doomed;
CREATE TABLE things (id int PRIMARY KEY, thing regclass, who regrole);
CREATE TABLE lists_of (id int PRIMARY KEY, who regrole[]);
ALTER TABLE things ENABLE ROW LEVEL SECURITY;
ALTER TABLE lists_of ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON things USING (thing = 'elsewhere.thing'::regclass OR who = current_user::regrole);
CREATE POLICY p ON lists_of USING (current_user::regrole = ANY (who));
GRANT SELECT ON things, lists_of TO alice;
SELECT snapsync.enable('things'), snapsync.enable('lists_of');
INSERT INTO things VALUES (1, 'elsewhere.thing', NULL), (2, NULL, 'judged_images_doomed'), (3, NULL, 'alice'), (4, 'things', '-');
INSERT INTO lists_of VALUES (1, '{judged_images_doomed}'), (2, '{alice}');
SELECT t.sync('alice', 'things'), t.sync('alice', 'lists_of');
SET search_path = elsewhere, public;
DELETE FROM things;
DELETE FROM lists_of;
RESET search_path;
DROP ROLE judged_images_doomed;
SELECT t.sync('alice', 'things'), t.sync('alice', 'lists_of');

-- A policy has a common table expression of a parent's name; one that names the parent; a system column of it.
CREATE TABLE roots (id int PRIMARY KEY, secret boolean);
CREATE TABLE leaves (id int PRIMARY KEY, root int REFERENCES roots ON DELETE CASCADE);
CREATE TABLE twigs (id int PRIMARY KEY, root int REFERENCES roots ON DELETE CASCADE);
ALTER TABLE leaves ENABLE ROW LEVEL SECURITY;
ALTER TABLE twigs ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON leaves USING (NOT EXISTS (WITH roots AS (SELECT q.id FROM public.roots AS q WHERE q.id = leaves.root AND q.secret) SELECT FROM roots));
CREATE POLICY p ON twigs USING (EXISTS (SELECT FROM roots AS q WHERE q.id = twigs.root AND q.tableoid = 'roots'::regclass AND NOT q.secret));
GRANT SELECT ON roots, leaves, twigs TO alice;
SELECT snapsync.enable('leaves'), snapsync.enable('twigs');
INSERT INTO roots VALUES (1, true), (2, false);
INSERT INTO leaves VALUES (1, 1), (2, 2);
INSERT INTO twigs SELECT * FROM leaves;
SELECT t.sync('alice', 'leaves'), t.sync('alice', 'twigs');
DELETE FROM roots;
BEGIN READ ONLY;
SELECT t.sync('alice', 'leaves'), t.sync('alice', 'twigs');
COMMIT;

-- A predicate calls a function that relies on the caller's search path.
CREATE TABLE users (id int PRIMARY KEY, name name);
INSERT INTO users VALUES (7, 'alice');
CREATE FUNCTION my_id() RETURNS int LANGUAGE sql STABLE AS 'SELECT id FROM users WHERE name = current_user';
CREATE TABLE seats (id int PRIMARY KEY, usr int);
CREATE TABLE trips (id int PRIMARY KEY);
ALTER TABLE trips ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON trips USING (id IN (SELECT id FROM seats WHERE usr = my_id()));
GRANT SELECT ON users, seats, trips TO alice;
SELECT snapsync.enable('trips');
INSERT INTO trips VALUES (1);
SELECT t.sync('alice', 'trips');
INSERT INTO seats VALUES (1, 7);
SELECT t.sync('alice', 'trips');

-- What a policy's function says of old rows is said to nobody: who pulls may never have seen them. Nor is what it says of former rows of access tables.
CREATE TABLE calls (id int PRIMARY KEY, who name, topic text);
CREATE TABLE circles (id int PRIMARY KEY, who name, open boolean DEFAULT true);
CREATE TABLE talks (id int PRIMARY KEY);
CREATE FUNCTION t.is_asked(text, name) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE INFO 'asked of %', $1; RETURN $2 = current_user; END $$;
ALTER TABLE calls ENABLE ROW LEVEL SECURITY;
ALTER TABLE talks ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON calls USING (t.is_asked(topic, who));
CREATE POLICY p ON talks USING (EXISTS (SELECT FROM circles AS c WHERE t.is_asked('circle ' || c.id, c.who) AND c.open));
GRANT SELECT ON calls, circles, talks TO alice;
SELECT snapsync.enable('calls'), snapsync.enable('talks');
INSERT INTO talks VALUES (1);
SELECT t.sync('alice', 'calls'), t.sync('alice', 'talks');
INSERT INTO calls VALUES (1, 'bob', 'a secret'), (2, 'bob', 'what bob says now'); DELETE FROM calls WHERE id = 1;
INSERT INTO circles VALUES (1, 'bob'), (2, 'alice'); DELETE FROM circles WHERE id = 1;
SELECT t.sync('alice', 'calls'), t.sync('alice', 'talks');
DELETE FROM calls; UPDATE circles SET open = false;
SELECT t.sync('alice', 'calls'), t.sync('alice', 'talks');

\set ECHO none
SET client_min_messages = error;
DROP OWNED BY judged_images_owner CASCADE;
DROP ROLE judged_images_owner;
