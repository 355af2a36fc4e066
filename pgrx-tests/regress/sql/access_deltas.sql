-- What a user sees moves because other rows moved: a pull tells what came into view, with its rows, and what went out of it, by its ids, and
-- nothing of the rest. t.sync() says so where a device does not have then what its role may SELECT.
\set ECHO none
\set test regress_access_deltas
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
-- How many of what came, and why if all did.
CREATE FUNCTION t.counts(collection text, filter json DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer json := public.pull_changes(ARRAY[collection], current_setting('t.cursor', true), filter => filter::jsonb);
    c json := answer -> 'changes' -> collection;
BEGIN
    PERFORM set_config('t.cursor', answer ->> 'timestamp', false);
    RETURN format('created %s, updated %s, deleted %s%s', json_array_length(c -> 'created'), json_array_length(c -> 'updated'),
                  json_array_length(c -> 'deleted'), ', replaced because of ' || (answer #>> ARRAY['reason', collection]));
END
$$;
\set ECHO all
-- One of 21 projects is joined, and left.
CREATE TABLE members (id int PRIMARY KEY, project int NOT NULL, who name NOT NULL, role text NOT NULL DEFAULT 'member');
CREATE TABLE tasks (id int PRIMARY KEY, project int NOT NULL, hidden boolean NOT NULL DEFAULT false, title text);
ALTER TABLE members ENABLE ROW LEVEL SECURITY;
ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON members USING (who = current_user);
CREATE POLICY member ON tasks USING (NOT hidden AND project IN (SELECT m.project FROM members AS m WHERE m.who = current_user)
    OR EXISTS (SELECT FROM members AS m WHERE m.who = current_user AND m.project = tasks.project AND m.role = 'admin'));
GRANT SELECT ON members, tasks TO alice, bob;
SET client_min_messages = warning;
SELECT snapsync.enable('tasks');
RESET client_min_messages;
INSERT INTO tasks SELECT 100 * p + n, p, n = 10 FROM generate_series(1, 21) AS p, generate_series(1, 10) AS n;
INSERT INTO members SELECT p, p, 'alice' FROM generate_series(1, 20) AS p;
SET ROLE alice; SELECT t.counts('tasks'); RESET ROLE;
INSERT INTO members VALUES (21, 21, 'alice');
SET ROLE alice; SELECT t.counts('tasks'); SELECT t.counts('tasks'); RESET ROLE;
DELETE FROM members WHERE id = 21;
SET ROLE alice; SELECT t.counts('tasks'); SELECT t.counts('tasks'); RESET ROLE;
-- Another role in a project: hidden rows come and go.
UPDATE members SET role = 'admin' WHERE id = 3;
SET ROLE alice; SELECT * FROM t.pull('{tasks}'); RESET ROLE;
UPDATE members SET role = 'member' WHERE id = 3;
SET ROLE alice; SELECT * FROM t.pull('{tasks}'); RESET ROLE;
-- There and back between two pulls: what was in view meanwhile is named, what was out of it comes again; for a device may have taken an
-- answer and not have kept the cursor.
INSERT INTO members VALUES (21, 21, 'alice'); DELETE FROM members WHERE id = 21;
SET ROLE alice; SELECT * FROM t.pull('{tasks}'); RESET ROLE;
DELETE FROM members WHERE id = 4; INSERT INTO members VALUES (4, 4, 'alice');
SET ROLE alice; SELECT * FROM t.pull('{tasks}'); RESET ROLE;
UPDATE members SET role = 'admin' WHERE id = 5; UPDATE members SET role = 'member' WHERE id = 5;
SET ROLE alice; SELECT * FROM t.pull('{tasks}'); RESET ROLE;
-- Rows with changes of their own: each comes once, or its id.
SELECT t.sync('alice', 'tasks') LIKE 'alice: created 1001,%' AS first;
BEGIN; DELETE FROM members WHERE id = 1; UPDATE tasks SET title = 'left' WHERE id = 101; DELETE FROM tasks WHERE id = 102;
UPDATE tasks SET project = 2 WHERE id = 103; INSERT INTO tasks VALUES (199, 1, false, 'new, and never seen'); COMMIT;
SELECT t.sync('alice', 'tasks');
INSERT INTO members VALUES (1, 1, 'alice');
UPDATE tasks SET title = 'joined' WHERE id = 101; UPDATE tasks SET project = 22 WHERE id = 104; UPDATE tasks SET project = 1 WHERE id = 201;
SELECT t.sync('alice', 'tasks');
-- Everything at once, of others: not a word to her.
INSERT INTO members VALUES (31, 21, 'bob'); UPDATE tasks SET title = 'bob''s' WHERE project = 21;
SELECT t.sync('alice', 'tasks'), t.sync('bob', 'tasks');

-- Through two tables: members of an organization see its projects, and the tasks in these; and groups are members of others.
CREATE TABLE groups (id int PRIMARY KEY, inside int);
CREATE TABLE people (id int PRIMARY KEY, "group" int NOT NULL, who name NOT NULL);
CREATE TABLE projects (id int PRIMARY KEY, "group" int NOT NULL);
CREATE TABLE items (id int PRIMARY KEY, project int NOT NULL REFERENCES projects ON DELETE CASCADE);
ALTER TABLE groups ENABLE ROW LEVEL SECURITY;
ALTER TABLE people ENABLE ROW LEVEL SECURITY;
ALTER TABLE projects ENABLE ROW LEVEL SECURITY;
ALTER TABLE items ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON people USING (who = current_user);
CREATE POLICY inside ON groups USING (id IN (SELECT "group" FROM people) OR inside IN (SELECT "group" FROM people));
CREATE POLICY ingroup ON projects USING ("group" IN (SELECT id FROM groups));
CREATE POLICY project ON items USING (EXISTS (SELECT FROM projects AS p WHERE p.id = project));
GRANT SELECT ON groups, people, projects, items TO alice, bob;
SET client_min_messages = warning;
SELECT snapsync.enable('projects'), snapsync.enable('items');
RESET client_min_messages;
INSERT INTO groups VALUES (1, NULL), (2, 1), (3, NULL);
INSERT INTO projects VALUES (10, 1), (20, 2), (30, 3);
INSERT INTO items SELECT p * 10 + n, p FROM unnest('{10,20,30}'::int[]) AS p, generate_series(1, 2) AS n;
SELECT t.sync('alice', 'projects'), t.sync('alice', 'items');
INSERT INTO people VALUES (1, 1, 'alice');
SELECT t.sync('alice', 'projects'), t.sync('alice', 'items');
UPDATE groups SET inside = 1 WHERE id = 3;
SELECT t.sync('alice', 'projects'), t.sync('alice', 'items');
UPDATE groups SET inside = NULL WHERE id IN (2, 3);
SELECT t.sync('alice', 'projects'), t.sync('alice', 'items');
-- A parent changes hands; one is deleted with its rows while another comes.
UPDATE projects SET "group" = 3 WHERE id = 10; UPDATE projects SET "group" = 1 WHERE id = 30;
SELECT t.sync('alice', 'projects'), t.sync('alice', 'items');
BEGIN; DELETE FROM projects WHERE id = 30; UPDATE projects SET "group" = 1 WHERE id = 20; COMMIT;
SELECT t.sync('alice', 'projects'), t.sync('alice', 'items');
DELETE FROM people;
SELECT t.sync('alice', 'projects'), t.sync('alice', 'items');

-- What others write into rows that decide about hers, where no policy asks for it, is not among the changes that each row is asked of.
CREATE TABLE shelves (id int PRIMARY KEY, who name NOT NULL, label text);
CREATE TABLE books (id int PRIMARY KEY, shelf int NOT NULL);
ALTER TABLE shelves ENABLE ROW LEVEL SECURITY;
ALTER TABLE books ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON shelves USING (who = current_user);
CREATE POLICY shelf ON books USING (EXISTS (SELECT FROM shelves AS s WHERE s.id BETWEEN shelf AND shelf));
GRANT SELECT ON shelves, books TO alice, bob;
SET client_min_messages = warning;
SELECT snapsync.enable('shelves'), snapsync.enable('books');
RESET client_min_messages;
INSERT INTO shelves SELECT i, 'bob' FROM generate_series(1, 300) AS i;
INSERT INTO books SELECT i, i FROM generate_series(1, 300) AS i;
SELECT t.sync('alice', 'shelves'), t.sync('alice', 'books');
SET ROLE alice; SELECT t.counts('books'); RESET ROLE;
UPDATE shelves SET label = 'tidied' WHERE id <= 200; UPDATE shelves SET who = 'alice' WHERE id = 7;
SET ROLE alice; SELECT t.counts('books'); RESET ROLE;
SELECT t.sync('alice', 'shelves'), t.sync('alice', 'books');
-- In parts of one transaction, which tell together what it found.
SET snapsync.flush_threshold = 50;
BEGIN; UPDATE shelves SET label = 'again'; UPDATE shelves SET label = 'and again', who = 'carol' WHERE id IN (7, 8); UPDATE shelves SET who = 'alice' WHERE id IN (8, 9); COMMIT;
RESET snapsync.flush_threshold;
SELECT t.sync('alice', 'shelves'), t.sync('alice', 'books');

-- Restrictive policies, an aggregate, NOT IN, a view: whatever the query, it is put to what was there.
CREATE TABLE banned (id int PRIMARY KEY, who name NOT NULL, topic int NOT NULL);
CREATE TABLE topics (id int PRIMARY KEY, least int NOT NULL DEFAULT 0);
CREATE VIEW bans WITH (security_invoker) AS SELECT who, topic FROM banned;
ALTER TABLE topics ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON topics USING (true);
CREATE POLICY not_banned ON topics AS RESTRICTIVE USING (id NOT IN (SELECT topic FROM bans WHERE who = current_user));
CREATE POLICY enough ON topics AS RESTRICTIVE USING (least <= (SELECT count(*) FROM banned AS b WHERE b.who <> current_user));
GRANT SELECT ON banned, topics, bans TO alice, bob;
SET client_min_messages = warning;
SELECT snapsync.enable('topics');
RESET client_min_messages;
INSERT INTO topics VALUES (1, 0), (2, 0), (3, 2);
SELECT t.sync('alice', 'topics');
INSERT INTO banned VALUES (1, 'alice', 1), (2, 'bob', 1);
SELECT t.sync('alice', 'topics');
INSERT INTO banned VALUES (3, 'bob', 2);
SELECT t.sync('alice', 'topics'), t.sync('bob', 'topics');
DELETE FROM banned WHERE id IN (1, 3);
SELECT t.sync('alice', 'topics'), t.sync('bob', 'topics');

-- Partitions, keys of several columns, rows that are marked as deleted, columns that are not synced or may not be read.
CREATE TABLE notes (team int, n int, gone boolean NOT NULL DEFAULT false, secret text DEFAULT 's', body text, PRIMARY KEY (team, n)) PARTITION BY LIST (team);
CREATE TABLE notes_1 PARTITION OF notes FOR VALUES IN (1);
CREATE TABLE notes_2 PARTITION OF notes DEFAULT;
CREATE TABLE teams (id int, who text, PRIMARY KEY (id, who)) PARTITION BY HASH (id);
CREATE TABLE teams_1 PARTITION OF teams FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE teams_2 PARTITION OF teams FOR VALUES WITH (MODULUS 2, REMAINDER 1);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY team ON notes USING (team IN (SELECT id FROM teams WHERE who = current_user));
GRANT SELECT (team, n, body) ON notes TO alice;
GRANT SELECT ON teams TO alice;
SET client_min_messages = warning;
SELECT snapsync.enable('notes', exclude => '{secret}', soft_delete_column => 'gone', scope_column => 'team');
RESET client_min_messages;
INSERT INTO notes SELECT team, n, n = 3 FROM generate_series(1, 3) AS team, generate_series(1, 3) AS n;
INSERT INTO teams VALUES (2, 'alice');
SET ROLE alice; SELECT t.catch_up('notes'); RESET ROLE;
INSERT INTO teams VALUES (1, 'alice'); DELETE FROM teams WHERE id = 2;
SET ROLE alice; SELECT * FROM t.pull('{notes}'); RESET ROLE;
UPDATE notes SET gone = true WHERE (team, n) = (1, 1); UPDATE notes SET gone = false WHERE (team, n) = (2, 3); INSERT INTO teams VALUES (2, 'alice');
SET ROLE alice; SELECT * FROM t.pull('{notes}'); RESET ROLE;
-- A filter is the client's: what is not of its scopes does not come, nor go.
GRANT SELECT ON notes TO alice;
DELETE FROM teams; INSERT INTO teams VALUES (3, 'alice');
SET ROLE alice;
SELECT t.counts('notes', '{"notes": {"team": [1, 3]}}');
RESET ROLE;
INSERT INTO teams VALUES (1, 'alice'), (2, 'alice'); DELETE FROM teams WHERE id = 3;
SET ROLE alice;
SELECT t.counts('notes', '{"notes": {"team": [1, 3]}}');
RESET ROLE;

-- What policies ask of a row need not be readable.
REVOKE SELECT ON notes FROM alice; GRANT SELECT (team, n) ON notes TO alice;
CREATE TABLE lists (id int PRIMARY KEY, team int NOT NULL, title text);
ALTER TABLE lists ENABLE ROW LEVEL SECURITY;
CREATE POLICY team ON lists USING (team IN (SELECT id FROM teams WHERE who = current_user));
GRANT SELECT (id, title) ON lists TO alice;
SET client_min_messages = warning;
SELECT snapsync.enable('lists');
RESET client_min_messages;
INSERT INTO lists SELECT n, n, 'list ' || n FROM generate_series(1, 3) AS n;
SET ROLE alice; SELECT t.catch_up('lists'); RESET ROLE;
INSERT INTO teams VALUES (3, 'alice'); DELETE FROM teams WHERE id = 1;
SET ROLE alice; SELECT * FROM t.pull('{lists}'); RESET ROLE;
DELETE FROM teams WHERE id = 3; INSERT INTO teams VALUES (1, 'alice');

-- Scopes that follow memberships.
CREATE TABLE docs (id int PRIMARY KEY, team int NOT NULL);
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY team ON docs USING (team IN (SELECT t.id FROM teams AS t WHERE t.who = current_user));
GRANT SELECT ON docs TO alice;
SET client_min_messages = warning;
SELECT snapsync.enable('docs', scope_column => 'team',
                       scope_values => 'ARRAY(SELECT t.id FROM public.teams AS t WHERE t.who = current_user)');
RESET client_min_messages;
INSERT INTO docs SELECT n, n % 4 FROM generate_series(1, 8) AS n;
SELECT t.sync('alice', 'docs');
INSERT INTO teams VALUES (3, 'alice'); DELETE FROM teams WHERE id = 1;
SELECT t.sync('alice', 'docs');
UPDATE docs SET team = 1 WHERE id = 3; UPDATE docs SET team = 2 WHERE id = 1; INSERT INTO teams VALUES (1, 'alice'); DELETE FROM teams WHERE id = 2;
SELECT t.sync('alice', 'docs');

-- What a client has pushed itself it knows, also when it may not see it any more; what others did meanwhile it never knew.
GRANT INSERT, UPDATE ON tasks TO alice;
SELECT t.sync('alice', 'tasks');
INSERT INTO members VALUES (41, 41, 'alice');
SET ROLE alice;
SELECT push_changes('{"tasks": {"created": [{"id": 4101, "project": 41, "hidden": false, "title": "mine"}], "updated": [], "deleted": []}}');
RESET ROLE;
DELETE FROM members WHERE id = 41;
INSERT INTO tasks VALUES (4102, 41, false, 'never seen');
SELECT t.sync('alice', 'tasks');
-- The running transaction's own changes.
BEGIN;
INSERT INTO members VALUES (42, 21, 'alice');
SELECT t.sync('alice', 'tasks') LIKE 'alice: replacement, updated%' AS replaced;
DELETE FROM members WHERE id = 42;
SELECT t.sync('alice', 'tasks') LIKE 'alice: replacement, updated%' AS replaced;
COMMIT;
SELECT t.sync('alice', 'tasks') NOT LIKE '%BUT HAS%' AS has_what_it_should;

-- Word that a pushed row is not there, because another one of that key is: what joining then shows comes once, under either spelling of the key.
CREATE TABLE crews (id int, who text, PRIMARY KEY (id, who));
CREATE TABLE posts (id int PRIMARY KEY, crew int NOT NULL, title text);
CREATE FUNCTION keep_first() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
$$ BEGIN RETURN CASE WHEN EXISTS (SELECT FROM public.posts WHERE id = new.id) THEN NULL ELSE new END; END $$;
CREATE TRIGGER keep_first BEFORE INSERT ON posts FOR EACH ROW EXECUTE FUNCTION keep_first();
ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
CREATE POLICY crew ON posts FOR SELECT USING (crew IN (SELECT c.id FROM crews AS c WHERE c.who = current_user));
CREATE POLICY anybody ON posts FOR INSERT WITH CHECK (true);
GRANT SELECT, INSERT ON posts TO alice, bob;
GRANT SELECT ON crews TO alice, bob;
SET client_min_messages = warning;
SELECT snapsync.enable('posts');
RESET client_min_messages;
INSERT INTO posts VALUES (1, 7, 'first'), (2, 7, 'first'), (11, 7, 'first'), (12, 8, 'first');
SELECT t.sync('alice', 'posts');
SET ROLE alice; SELECT push_changes('{"posts": {"created": [{"id": 1, "crew": 7}, {"id": "011", "crew": 7}, {"id": 12, "crew": 7}], "updated": [], "deleted": []}}');
SET ROLE bob; SELECT push_changes('{"posts": {"created": [{"id": 2, "crew": 7}], "updated": [], "deleted": []}}');
RESET ROLE;
INSERT INTO crews VALUES (7, 'alice');
SELECT t.sync('alice', 'posts');

-- A key that is an empty text is one like all others.
CREATE TABLE slips (id text PRIMARY KEY, crew int NOT NULL, title text);
ALTER TABLE slips ENABLE ROW LEVEL SECURITY;
CREATE POLICY crew ON slips USING (crew IN (SELECT c.id FROM crews AS c WHERE c.who = current_user));
GRANT SELECT ON slips TO alice;
SET client_min_messages = warning;
SELECT snapsync.enable('slips');
RESET client_min_messages;
INSERT INTO slips VALUES ('', 1), ('b', 1);
SELECT t.sync('alice', 'slips');
UPDATE slips SET title = 'changed'; INSERT INTO crews VALUES (1, 'alice');
SELECT t.sync('alice', 'slips');
UPDATE slips SET title = 'again'; DELETE FROM crews WHERE id = 1;
SELECT t.sync('alice', 'slips');
-- What comes into the crew when she has left it is none of hers.
UPDATE slips SET crew = 2; INSERT INTO crews VALUES (1, 'alice');
SELECT t.sync('alice', 'slips');
DELETE FROM crews WHERE id = 1; UPDATE slips SET crew = 1;
SELECT t.sync('alice', 'slips');

-- What cannot be told so is replaced, and the answer says why.
CREATE TABLE ways (id int PRIMARY KEY, what text NOT NULL);
SELECT t.secured('by_system_column', ', x int', 'EXISTS (SELECT FROM ways AS w WHERE w.what = current_user AND w.xmin IS NOT NULL)');
SELECT t.secured('by_whole_row', ', x int', 'EXISTS (SELECT FROM ways AS w WHERE w = row(1, current_user::text)::ways)');
SELECT t.secured('by_function', ', x int', 'false');
CREATE FUNCTION t.way() RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER AS $$ SELECT EXISTS (SELECT FROM public.ways) $$;
GRANT SELECT ON ways TO alice;
SET client_min_messages = warning;
DROP POLICY p ON by_function;
CREATE POLICY p ON by_function USING (t.way());
SELECT snapsync.enable('by_function', access_tables => '["ways"]');
RESET client_min_messages;
INSERT INTO by_system_column VALUES (1); INSERT INTO by_whole_row VALUES (1); INSERT INTO by_function VALUES (1);
SET ROLE alice; SELECT t.catch_up('by_system_column', 'by_whole_row', 'by_function'); RESET ROLE;
INSERT INTO ways VALUES (1, 'alice');
SET ROLE alice;
SELECT pull_changes('{by_system_column,by_function}', current_setting('t.cursor')) -> 'reason' AS reason;
SELECT t.counts('by_whole_row');
RESET ROLE;
DELETE FROM ways;
SET ROLE alice;
SELECT t.counts('by_whole_row');
SELECT t.catch_up('by_function');
RESET ROLE;
SELECT snapsync.reset('by_function');
SET ROLE alice; SELECT t.counts('by_function'); SELECT t.counts('by_function'); RESET ROLE;

-- Thousands of projects are shared with somebody at once, and taken away. By its statistics the planner expects hardly a row that policies show now and did not
-- show then, and takes the time for each row for nothing: so nothing there may be rows times changes.
CREATE TABLE shares (id int PRIMARY KEY, project int NOT NULL, who name NOT NULL);
CREATE TABLE sheets (id int PRIMARY KEY, project int NOT NULL, owner name NOT NULL);
CREATE INDEX ON shares (who);
CREATE INDEX ON shares (project);
CREATE INDEX ON sheets (project);
CREATE INDEX ON sheets (owner);
ALTER TABLE shares ENABLE ROW LEVEL SECURITY;
ALTER TABLE sheets ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON shares USING (who = current_user);
CREATE POLICY p ON sheets USING (EXISTS (SELECT FROM shares AS s WHERE s.project = sheets.project AND s.who = current_user) OR owner = current_user);
GRANT SELECT ON shares, sheets TO alice;
SET client_min_messages = warning;
SELECT snapsync.enable('sheets'), snapsync.enable('shares');
RESET client_min_messages;
INSERT INTO sheets SELECT n, n % 100, 'alice' FROM generate_series(1, 50000) AS n;
INSERT INTO shares SELECT p, p, 'alice' FROM generate_series(0, 99) AS p;
ANALYZE sheets;
ANALYZE shares;
INSERT INTO sheets SELECT n, 1000 + n % 4000, 'bob' FROM generate_series(50001, 60000) AS n;
SET statement_timeout = '8s';
SET ROLE alice; SELECT t.catch_up('sheets'); RESET ROLE;
INSERT INTO shares SELECT 1000 + p, 1000 + p, 'alice' FROM generate_series(0, 7999) AS p;
SET ROLE alice; SELECT t.counts('sheets'); SELECT t.counts('sheets'); RESET ROLE;
DELETE FROM shares WHERE id >= 1000;
SET ROLE alice; SELECT t.counts('sheets'); SELECT t.counts('sheets'); RESET ROLE;
RESET statement_timeout;

-- Thousands of rooms come into view, pass from house to house and go out of it again, some in one transaction and some in several: whose they are, and which of the
-- changes concern whom, is asked of many at once.
CREATE TABLE houses (id int PRIMARY KEY, who name NOT NULL);
CREATE TABLE rooms (id int PRIMARY KEY, house int NOT NULL, hidden boolean NOT NULL DEFAULT true);
CREATE TABLE things (id int PRIMARY KEY, room int NOT NULL REFERENCES rooms ON DELETE CASCADE);
CREATE INDEX ON things (room);
ALTER TABLE houses ENABLE ROW LEVEL SECURITY;
ALTER TABLE rooms ENABLE ROW LEVEL SECURITY;
ALTER TABLE things ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON houses USING (who = current_user);
CREATE POLICY open ON rooms USING (NOT hidden AND house IN (SELECT h.id FROM houses AS h));
CREATE POLICY via ON things USING (room IN (SELECT r.id FROM rooms AS r));
GRANT SELECT ON houses, rooms, things TO alice, bob, carol;
SET client_min_messages = warning;
SELECT snapsync.enable('rooms'), snapsync.enable('things');
RESET client_min_messages;
INSERT INTO houses SELECT n, CASE n WHEN 3 THEN 'alice' WHEN 4 THEN 'bob' WHEN 14 THEN 'bob' ELSE 'nobody' END FROM generate_series(0, 19) AS n;
INSERT INTO rooms SELECT n, n % 20 FROM generate_series(1, 3000) AS n;
INSERT INTO things SELECT n, (n - 1) % 3000 + 1 FROM generate_series(1, 3300) AS n;
CREATE FUNCTION t.told(who name) RETURNS text LANGUAGE plpgsql AS $$
DECLARE told text := t.sync(who, 'things');
BEGIN
    RETURN format('%s: %s%s created, %s updated, %s deleted%s', who, substring(told, 'replacement, '), regexp_count(told, 'created'),
                  regexp_count(told, 'updated'), regexp_count(told, 'deleted'), substring(told, ', BUT HAS'));
END
$$;
SELECT t.told('alice'), t.told('bob'), t.told('carol');
-- One transaction, of everybody's.
UPDATE rooms SET hidden = false WHERE id <= 2000;
SELECT t.told('alice'), t.told('bob'), t.told('carol');
-- Two of others, in which a few of hers come and go.
UPDATE rooms SET hidden = house <> 3 OR id % 100 <> 3 WHERE id > 2000;
UPDATE rooms SET house = (house + 10) % 20 WHERE house <> 3 AND house <> 13;
SELECT t.told('alice'), t.told('bob'), t.told('carol');
-- Three, which change the same ones: some come and stay, some come and go again, some come by the second or the third.
UPDATE rooms SET hidden = id % 5 = 0, house = (house + 1) % 20 WHERE id <= 1500;
UPDATE rooms SET hidden = id % 7 = 0 WHERE id BETWEEN 1000 AND 2500;
UPDATE rooms SET house = (house + 1) % 20 WHERE id BETWEEN 500 AND 2000;
SELECT t.told('alice'), t.told('bob'), t.told('carol');
-- A hundred, of which each changes rooms of everybody that others have changed, too; a house passes on, and a hundred more.
DO $$ BEGIN
    FOR n IN 0 .. 99 LOOP
        UPDATE rooms SET hidden = (id + n) % 3 = 0, house = (house + n) % 20 WHERE id % 100 IN (n, (n * 7 + 1) % 100, (n * 13 + 2) % 100);
        COMMIT;
    END LOOP;
END $$;
SELECT t.told('alice'), t.told('bob');
UPDATE houses SET who = 'carol' WHERE who = 'alice';
DO $$ BEGIN
    FOR n IN 0 .. 99 LOOP
        UPDATE rooms SET hidden = (id + n) % 2 = 0, house = (house + n * 3) % 20 WHERE id % 100 IN (n, (n * 7 + 1) % 100);
        IF n % 10 = 4 THEN DELETE FROM rooms WHERE id % 500 = n; END IF;
        COMMIT;
    END LOOP;
END $$;
SELECT t.told('alice'), t.told('bob'), t.told('carol');
-- Between two pulls they come, and are gone again.
UPDATE rooms SET hidden = false;
SELECT t.told('bob'), t.told('carol');
UPDATE rooms SET house = (house + 10) % 20;
UPDATE rooms SET hidden = true WHERE id % 2 = 0;
UPDATE rooms SET house = (house + 10) % 20;
UPDATE rooms SET hidden = true;
SELECT t.told('alice'), t.told('bob'), t.told('carol');
-- The running transaction's own changes.
BEGIN;
UPDATE rooms SET hidden = false WHERE id <= 1500;
SELECT t.told('bob');
COMMIT;
SELECT t.told('bob'), t.told('carol');
