-- Access that moves several times between two pulls: each state of a row is judged by what its user could see while it was so, also where
-- the tables that decide about it are themselves decided about by others. t.sync() complains of a row that stays; the ids
-- that it names are those that its user could have selected.
\set ECHO none
\set test regress_access_sights
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
-- The device pushes a new row, and holds it.
CREATE FUNCTION t.push(who name, collection text, new jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    setting text := format('t.rows_%s_%s', who, collection);
    answer json;
BEGIN
    EXECUTE format('SET ROLE %I', who);
    answer := public.push_changes(json_build_object(collection, json_build_object('created', json_build_array(new), 'updated', '[]'::json, 'deleted', '[]'::json)),
                                  current_setting(format('t.cursor_%s_%s', who, collection)));
    RESET ROLE;
    PERFORM set_config(setting, (coalesce(nullif(current_setting(setting, true), ''), '{}')::jsonb || jsonb_build_object(new ->> 'id', new))::text, false);
    RETURN answer;
END
$$;
\set ECHO all

-- Members of an organization see its projects, and the tasks in these.
CREATE TABLE members (id int PRIMARY KEY, org int NOT NULL, who name NOT NULL);
CREATE TABLE projects (id int PRIMARY KEY, org int NOT NULL);
CREATE TABLE tasks (id text PRIMARY KEY, project int NOT NULL REFERENCES projects ON DELETE CASCADE);
ALTER TABLE projects ENABLE ROW LEVEL SECURITY;
ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
CREATE POLICY members ON projects USING (org IN (SELECT m.org FROM members AS m WHERE m.who = current_user));
CREATE POLICY project ON tasks USING (project IN (SELECT p.id FROM projects AS p));
GRANT ALL ON members, projects, tasks TO alice, bob;
SET client_min_messages = warning;
SELECT snapsync.enable('tasks');
RESET client_min_messages;
INSERT INTO members VALUES (1, 1, 'alice'), (2, 2, 'bob'); INSERT INTO projects VALUES (1, 1); INSERT INTO tasks VALUES ('old', 1);
SELECT t.sync('alice', 'tasks');
-- A project moves to another organization, where a task comes and goes; then the membership in the first one goes.
UPDATE projects SET org = 2; INSERT INTO tasks VALUES ('secret', 1); DELETE FROM tasks WHERE id = 'secret'; DELETE FROM members WHERE id = 1;
SELECT t.sync('alice', 'tasks');
-- A project comes, a task is pushed into it, and the membership goes.
INSERT INTO members VALUES (1, 1, 'alice'); INSERT INTO projects VALUES (7, 2);
SELECT t.sync('alice', 'tasks');
UPDATE projects SET org = 1 WHERE id = 7;
SELECT t.push('alice', 'tasks', '{"id": "mine", "project": 7}');
DELETE FROM members WHERE id = 1;
SELECT t.sync('alice', 'tasks');
-- A project is deleted with its tasks and comes again, under the same key, in another organization.
INSERT INTO members VALUES (1, 1, 'alice'); UPDATE projects SET org = 1 WHERE id = 1;
SELECT t.sync('alice', 'tasks');
DELETE FROM projects WHERE id = 1; INSERT INTO projects VALUES (1, 2); INSERT INTO tasks VALUES ('another secret', 1); DELETE FROM tasks WHERE id = 'another secret';
SELECT t.sync('alice', 'tasks');
-- The same beside a membership that went, and the other way round.
INSERT INTO projects VALUES (8, 1); INSERT INTO members VALUES (3, 3, 'alice'); INSERT INTO tasks VALUES ('seen', 8);
SELECT t.sync('alice', 'tasks');
DELETE FROM projects WHERE id = 8; DELETE FROM members WHERE id = 3;
INSERT INTO projects VALUES (8, 2); INSERT INTO tasks VALUES ('a third secret', 8); DELETE FROM tasks WHERE id = 'a third secret';
SELECT t.sync('alice', 'tasks');
DELETE FROM projects WHERE id = 8; INSERT INTO projects VALUES (8, 1);
SELECT t.push('alice', 'tasks', '{"id": "mine too", "project": 8}');
UPDATE projects SET org = 2 WHERE id = 8;
SELECT t.sync('alice', 'tasks');
-- A membership that comes, and one that goes, are told as what came and went.
INSERT INTO members VALUES (4, 2, 'alice');
SELECT t.sync('alice', 'tasks');
DELETE FROM members WHERE id = 4;
SELECT t.sync('alice', 'tasks');

-- Memberships that only their group shows, which is no parent of theirs.
CREATE TABLE groups (id int PRIMARY KEY, who name NOT NULL);
CREATE TABLE grants (id int PRIMARY KEY, org int NOT NULL, "group" int NOT NULL);
CREATE TABLE notes (id text PRIMARY KEY, org int NOT NULL);
ALTER TABLE groups ENABLE ROW LEVEL SECURITY;
ALTER TABLE grants ENABLE ROW LEVEL SECURITY;
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON groups USING (who = current_user);
CREATE POLICY mine ON grants USING (EXISTS (SELECT FROM groups AS g WHERE g.id = "group"));
CREATE POLICY granted ON notes USING (EXISTS (SELECT FROM grants AS g WHERE g.org = notes.org));
GRANT SELECT ON groups, grants TO alice;
GRANT ALL ON notes TO alice;
SET client_min_messages = warning;
SELECT snapsync.enable('notes');
RESET client_min_messages;
INSERT INTO groups VALUES (1, 'alice'); INSERT INTO grants VALUES (1, 1, 1); INSERT INTO notes VALUES ('old', 1);
SELECT t.sync('alice', 'notes');
DELETE FROM grants; INSERT INTO notes VALUES ('secret', 1); DELETE FROM notes WHERE id = 'secret'; DELETE FROM groups;
SELECT t.sync('alice', 'notes');
INSERT INTO groups VALUES (2, 'alice');
SELECT t.sync('alice', 'notes');
INSERT INTO grants VALUES (2, 2, 2);
SELECT t.push('alice', 'notes', '{"id": "mine", "org": 2}');
DELETE FROM groups;
SELECT t.sync('alice', 'notes');
-- More moves than are told apart, most of them others'.
INSERT INTO groups VALUES (3, 'alice'), (4, 'bob'); INSERT INTO grants VALUES (3, 3, 3);
SELECT t.sync('alice', 'notes');
DO $$ BEGIN FOR i IN 10..39 LOOP INSERT INTO grants VALUES (i, i, 4); COMMIT; END LOOP; END $$;
SELECT t.push('alice', 'notes', '{"id": "mine too", "org": 3}');
DELETE FROM groups WHERE id = 3;
SELECT t.sync('alice', 'notes');
-- Pages: a grant comes between two of them, and what shows it goes.
DELETE FROM notes; DELETE FROM grants; DELETE FROM groups;
INSERT INTO groups VALUES (1, 'alice'), (2, 'alice'); INSERT INTO grants VALUES (9, 9, 2);
INSERT INTO notes VALUES ('a', 9), ('b', 9), ('c', 9), ('y', 1), ('z', 1);
SET ROLE alice; SELECT pull_changes('{notes}', page_size => 2) AS page \gset
RESET ROLE;
SELECT :'page'::json -> 'changes' AS first;
INSERT INTO grants VALUES (1, 1, 1);
SET ROLE alice; SELECT pull_changes('{notes}', next => :'page'::json ->> 'next') AS page \gset
RESET ROLE;
SELECT :'page'::json -> 'changes' AS last;
DELETE FROM groups WHERE id = 1;
SET ROLE alice;
SELECT answer -> 'changes' AS changes, answer -> 'reason' AS reason FROM pull_changes('{notes}', :'page'::json ->> 'timestamp') AS answer;
SELECT array_agg(id ORDER BY id) AS selectable FROM notes;
RESET ROLE;

-- A scope that came and went: what was pushed into it goes.
CREATE TABLE teams (org int, who text, PRIMARY KEY (org, who));
CREATE TABLE docs (id text PRIMARY KEY, org int);
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY team ON docs USING (org IN (SELECT t.org FROM teams AS t WHERE t.who = current_user));
GRANT ALL ON docs, teams TO alice;
SET client_min_messages = warning;
SELECT snapsync.enable('docs', scope_column => 'org', scope_values => 'ARRAY(SELECT t.org::text FROM public.teams AS t WHERE t.who = current_user)');
RESET client_min_messages;
INSERT INTO teams VALUES (1, 'alice');
SELECT t.sync('alice', 'docs');
INSERT INTO teams VALUES (3, 'alice');
SELECT t.push('alice', 'docs', '{"id": "mine", "org": 3}');
DELETE FROM teams WHERE org = 3;
SELECT t.sync('alice', 'docs');
-- One that only others had, and one that was never there, say nothing.
INSERT INTO teams VALUES (3, 'alice'); DELETE FROM teams WHERE org = 3; INSERT INTO docs VALUES ('secret', 3), ('other', 4); DELETE FROM docs WHERE id = 'secret';
SELECT t.sync('alice', 'docs');
-- More of them than are told apart.
DO $$ BEGIN FOR i IN 10..39 LOOP INSERT INTO teams VALUES (i, 'alice'); COMMIT; DELETE FROM teams WHERE org = i - 5; COMMIT; END LOOP; END $$;
SELECT t.push('alice', 'docs', '{"id": "mine too", "org": 37}');
DELETE FROM teams WHERE org > 1;
SELECT t.sync('alice', 'docs');

-- A device that was ended after it took an answer and before it kept the cursor goes on from the cursor before: what came into view since and
-- went again is named, with and without an entry of its own. The device has it.
CREATE FUNCTION t.end_before_keeping(who name, collection text, cursor text) RETURNS void LANGUAGE sql AS $$
    SELECT set_config(format('t.cursor_%s_%s', who, collection), cursor, false)
$$;
TRUNCATE members, projects, tasks;
INSERT INTO projects VALUES (7, 7), (8, 8); INSERT INTO tasks VALUES ('seven', 7), ('seven, too', 7), ('eight', 8);
SELECT t.sync('alice', 'tasks');
SELECT current_setting('t.cursor_alice_tasks') AS kept \gset
INSERT INTO members VALUES (7, 7, 'alice');
SELECT t.sync('alice', 'tasks');
SELECT t.end_before_keeping('alice', 'tasks', :'kept');
DELETE FROM members;
SELECT t.sync('alice', 'tasks');
-- Two that come and go, and a third that stays; rows that are changed, deleted and moved meanwhile.
SELECT current_setting('t.cursor_alice_tasks') AS kept \gset
INSERT INTO members VALUES (7, 7, 'alice');
SELECT t.sync('alice', 'tasks');
UPDATE tasks SET id = 'seven, again' WHERE id = 'seven';
INSERT INTO tasks VALUES ('seven, new', 7);
SELECT t.sync('alice', 'tasks');
SELECT t.end_before_keeping('alice', 'tasks', :'kept');
UPDATE tasks SET project = 8 WHERE id = 'seven, too';
UPDATE members SET org = 8;
SELECT t.sync('alice', 'tasks');
SELECT t.end_before_keeping('alice', 'tasks', :'kept');
DELETE FROM tasks WHERE id = 'eight';
UPDATE members SET org = 9;
SELECT t.sync('alice', 'tasks');
-- The other way round: what went and came again comes whole, for the device may have been told that it went.
TRUNCATE members, projects, tasks;
INSERT INTO members VALUES (7, 7, 'alice'); INSERT INTO projects VALUES (7, 7); INSERT INTO tasks VALUES ('seven', 7), ('seven, too', 7);
SELECT t.sync('alice', 'tasks');
SELECT current_setting('t.cursor_alice_tasks') AS kept \gset
DELETE FROM members;
SELECT t.sync('alice', 'tasks');
SELECT t.end_before_keeping('alice', 'tasks', :'kept');
INSERT INTO members VALUES (8, 7, 'alice');
SELECT t.sync('alice', 'tasks');
-- The same of a scope that scope_values gave, did not give and gives again.
SELECT t.sync('alice', 'docs');
INSERT INTO teams VALUES (5, 'alice'); INSERT INTO docs VALUES ('five', 5);
SELECT t.sync('alice', 'docs');
SELECT current_setting('t.cursor_alice_docs') AS kept \gset
DELETE FROM teams WHERE org = 5;
SELECT t.sync('alice', 'docs');
SELECT t.end_before_keeping('alice', 'docs', :'kept');
INSERT INTO teams VALUES (5, 'alice');
SELECT t.sync('alice', 'docs');
-- Policies that ask of many tables what chains through as many: several sights are told apart, and where that takes longer than to send all rows, they are sent.
CREATE TABLE crew (org int, who text, PRIMARY KEY (org, who));
CREATE TABLE sites (id int PRIMARY KEY, org int NOT NULL);
CREATE TABLE houses (id int PRIMARY KEY, site int NOT NULL REFERENCES sites);
CREATE TABLE floors (id int PRIMARY KEY, house int NOT NULL REFERENCES houses);
CREATE TABLE rooms (id int PRIMARY KEY, floor int NOT NULL REFERENCES floors);
CREATE TABLE doors (id int PRIMARY KEY, room int NOT NULL REFERENCES rooms);
ALTER TABLE crew ENABLE ROW LEVEL SECURITY; ALTER TABLE sites ENABLE ROW LEVEL SECURITY; ALTER TABLE houses ENABLE ROW LEVEL SECURITY;
ALTER TABLE floors ENABLE ROW LEVEL SECURITY; ALTER TABLE rooms ENABLE ROW LEVEL SECURITY; ALTER TABLE doors ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON crew USING (who = current_user);
CREATE POLICY p ON sites USING (org IN (SELECT org FROM crew WHERE who = current_user));
CREATE POLICY p ON houses USING (EXISTS (SELECT FROM sites s JOIN crew c ON c.org = s.org WHERE s.id = site AND c.who = current_user));
CREATE POLICY p ON floors USING (EXISTS (SELECT FROM houses h JOIN sites s ON s.id = h.site JOIN crew c ON c.org = s.org WHERE h.id = house AND c.who = current_user));
CREATE POLICY p ON rooms USING (EXISTS (SELECT FROM floors f JOIN houses h ON h.id = f.house JOIN sites s ON s.id = h.site JOIN crew c ON c.org = s.org WHERE f.id = floor AND c.who = current_user));
CREATE POLICY p ON doors USING (EXISTS (SELECT FROM rooms r JOIN floors f ON f.id = r.floor JOIN houses h ON h.id = f.house JOIN sites s ON s.id = h.site JOIN crew c ON c.org = s.org WHERE r.id = room AND c.who = current_user));
GRANT SELECT ON crew, sites, houses, floors, rooms, doors TO alice;
SELECT count(snapsync.enable(c)) FROM unnest('{doors,houses}'::regclass[]) AS c;
INSERT INTO crew VALUES (1, 'alice'); INSERT INTO sites VALUES (1, 1), (2, 2); INSERT INTO houses VALUES (1, 1), (2, 2);
INSERT INTO floors VALUES (1, 1), (2, 2); INSERT INTO rooms VALUES (1, 1), (2, 2); INSERT INTO doors VALUES (1, 1), (2, 2);
SET ROLE alice;
SELECT pull_changes('{doors,houses}') ->> 'timestamp' AS kept \gset
RESET ROLE;
INSERT INTO sites VALUES (3, 3); INSERT INTO houses VALUES (3, 3); INSERT INTO floors VALUES (3, 3); INSERT INTO crew VALUES (2, 'alice');
SET ROLE alice;
SELECT answer -> 'changes' AS changes, answer -> 'reason' AS reason FROM pull_changes('{doors,houses}', :'kept') AS answer;
RESET ROLE;
SELECT i.* FROM generate_series(4, 12) AS n, LATERAL (VALUES (format('INSERT INTO sites VALUES (%s, 3)', n)), (format('INSERT INTO houses VALUES (%s, %s)', n, n)), (format('INSERT INTO floors VALUES (%s, %s)', n, n))) AS i \gexec
SET ROLE alice;
SELECT answer -> 'changes' AS changes, answer -> 'reason' AS reason FROM pull_changes('{doors,houses}', :'kept') AS answer;
RESET ROLE;
