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
-- (Those only came, so that the first sight and now say it all. What comes and changes takes each of them.)
SELECT i.* FROM generate_series(4, 12) AS n, LATERAL (VALUES (format('UPDATE sites SET org = 4 WHERE id = %s', n)), (format('INSERT INTO houses VALUES (%s, %s)', 100 + n, n))) AS i \gexec
SET ROLE alice;
SELECT answer -> 'changes' AS changes, answer -> 'reason' AS reason FROM pull_changes('{doors,houses}', :'kept') AS answer;
RESET ROLE;
-- Moves that only let rows in, or only out, are told as one, however many there are and whatever each takes: here each reads all parents. Where they come and go, a
-- few are told apart; where many would take longer than to send all rows, these are sent.
CREATE TABLE boards (board int, who text, PRIMARY KEY (board, who));
CREATE TABLE cards (id int PRIMARY KEY, board int NOT NULL);
CREATE TABLE remarks (id int PRIMARY KEY, card int NOT NULL REFERENCES cards ON DELETE CASCADE);
CREATE TABLE files (id int PRIMARY KEY, card int NOT NULL REFERENCES cards ON DELETE CASCADE);
CREATE TABLE stars (id int PRIMARY KEY, board int NOT NULL);
CREATE INDEX ON cards (board); CREATE INDEX ON remarks (card); CREATE INDEX ON files (card);
ALTER TABLE boards ENABLE ROW LEVEL SECURITY; ALTER TABLE cards ENABLE ROW LEVEL SECURITY; ALTER TABLE remarks ENABLE ROW LEVEL SECURITY;
ALTER TABLE files ENABLE ROW LEVEL SECURITY; ALTER TABLE stars ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON boards USING (who = current_user);
CREATE POLICY p ON cards USING (board IN (SELECT b.board FROM boards AS b WHERE b.who = current_user));
CREATE POLICY p ON remarks USING (card IN (SELECT c.id FROM cards AS c));
CREATE POLICY p ON files USING (EXISTS (SELECT FROM cards AS c WHERE c.id = card));
CREATE POLICY p ON stars USING (board NOT IN (SELECT b.board FROM boards AS b WHERE b.who = current_user));
GRANT SELECT ON boards, cards, remarks, files, stars TO alice;
SET client_min_messages = warning;
SELECT count(snapsync.enable(c)) FROM unnest('{cards,remarks,files,stars}'::regclass[]) AS c;
RESET client_min_messages;
INSERT INTO cards SELECT n, n % 500 FROM generate_series(1, 20000) AS n;
INSERT INTO remarks SELECT n, n FROM generate_series(1, 20000) AS n; INSERT INTO files SELECT n, n FROM generate_series(1, 20000) AS n;
INSERT INTO stars SELECT n, n FROM generate_series(100, 200) AS n;
INSERT INTO boards SELECT n, 'alice' FROM generate_series(0, 9) AS n;
ANALYZE boards, cards, remarks, files, stars;
CREATE FUNCTION t.counts(collection text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer json := public.pull_changes(ARRAY[collection], current_setting('t.cursor'));
    c json := answer -> 'changes' -> collection;
BEGIN
    RETURN format('%s: created %s, updated %s, deleted %s%s', collection, json_array_length(c -> 'created'), json_array_length(c -> 'updated'),
                  json_array_length(c -> 'deleted'), ', replaced because of ' || (answer #>> ARRAY['reason', collection]));
END
$$;
SET ROLE alice; SELECT t.catch_up('cards', 'remarks', 'files', 'stars'); RESET ROLE;
DO $$ BEGIN FOR i IN 100..159 LOOP INSERT INTO boards VALUES (i, 'alice'); COMMIT; END LOOP; END $$;
SET ROLE alice; SELECT t.counts(c) FROM unnest('{cards,remarks,files,stars}'::text[]) AS c;
SELECT t.catch_up('cards', 'remarks', 'files', 'stars'); RESET ROLE;
DO $$ BEGIN FOR i IN 100..159 LOOP DELETE FROM boards WHERE board = i; COMMIT; END LOOP; END $$;
SET ROLE alice; SELECT t.counts(c) FROM unnest('{cards,remarks,files,stars}'::text[]) AS c;
SELECT t.catch_up('cards', 'remarks', 'files', 'stars'); RESET ROLE;
DO $$ BEGIN FOR i IN 100..119 LOOP INSERT INTO boards VALUES (i, 'alice'); COMMIT; END LOOP; FOR i IN 100..109 LOOP DELETE FROM boards WHERE board = i; COMMIT; END LOOP; END $$;
SET ROLE alice; SELECT t.counts(c) FROM unnest('{cards,remarks,files,stars}'::text[]) AS c;
SELECT t.catch_up('cards', 'remarks', 'files', 'stars'); RESET ROLE;
DO $$ BEGIN FOR i IN 200..229 LOOP INSERT INTO boards VALUES (i, 'alice'); COMMIT; DELETE FROM boards WHERE board = CASE WHEN i < 210 THEN i - 90 ELSE i - 10 END; COMMIT; END LOOP; END $$;
SET ROLE alice; SELECT t.counts(c) FROM unnest('{cards,remarks,files,stars}'::text[]) AS c;
SELECT t.catch_up('cards', 'remarks', 'files', 'stars'); RESET ROLE;
DO $$ BEGIN FOR i IN 300..301 LOOP INSERT INTO boards VALUES (i, 'alice'); COMMIT; DELETE FROM boards WHERE board = i - 80; COMMIT; END LOOP; END $$;
SET ROLE alice; SELECT t.counts(c) FROM unnest('{cards,remarks,files,stars}'::text[]) AS c; RESET ROLE;

-- Which policies show the more the more there is, and which do not: whatever they ask, a device that was ended before it kept its cursor has in the end what it should.
CREATE TABLE seats (room int, who text, PRIMARY KEY (room, who));
CREATE VIEW own_seats WITH (security_invoker) AS SELECT room FROM seats WHERE who = current_user;
GRANT SELECT ON seats, own_seats TO alice;
SET client_min_messages = warning;
SELECT count(t.secured('by_' || f.name, ', r int', f.policy)) FROM (VALUES
    ('in', 'r IN (SELECT room FROM own_seats)'),
    ('array', 'r = ANY (ARRAY(SELECT DISTINCT room FROM own_seats))'),
    ('scalar', 'current_user = (SELECT s.who FROM seats AS s WHERE s.room = r AND s.who = current_user)'),
    ('union', 'r > 4 OR r IN (SELECT room FROM own_seats UNION SELECT room + 2 FROM own_seats)'),
    ('with', 'EXISTS (WITH own AS (SELECT room FROM own_seats) SELECT FROM own WHERE room = r)'),
    ('not', 'NOT EXISTS (SELECT FROM own_seats WHERE room = r)'),
    ('false', '(r IN (SELECT room FROM own_seats)) IS FALSE'),
    ('except', 'r IN (SELECT g FROM generate_series(1, 5) AS g EXCEPT SELECT room FROM own_seats)'),
    ('count', 'r > (SELECT count(*) FROM own_seats)'),
    ('limit', 'r IN (SELECT room FROM own_seats ORDER BY room DESC LIMIT 1)'),
    ('left', 'EXISTS (SELECT FROM generate_series(1, 5) AS g LEFT JOIN own_seats AS s ON s.room = g WHERE g = r AND s.room IS NULL)'),
    ('all', 'r > ALL (SELECT room FROM own_seats)')) AS f (name, policy);
RESET client_min_messages;
CREATE TABLE forms AS SELECT relname::text AS name FROM pg_class WHERE relname ~ '^by_[a-z]+$' AND relkind = 'r' ORDER BY oid;
SELECT format('INSERT INTO %I SELECT n, n FROM generate_series(1, 5) AS n', name) FROM forms \gexec
SELECT t.sync('alice', name) FROM forms;
CREATE PROCEDURE t.moves(VARIADIC moves int[]) LANGUAGE plpgsql AS $$
DECLARE
    move int;
BEGIN
    FOREACH move IN ARRAY moves LOOP
        IF move > 0 THEN INSERT INTO seats VALUES (move, 'alice'); ELSE DELETE FROM seats WHERE room = -move; END IF;
        COMMIT;
    END LOOP;
END $$;
CREATE FUNCTION t.keep() RETURNS void LANGUAGE sql AS $$
    SELECT set_config('t.kept_' || name, current_setting('t.cursor_alice_' || name), false) FROM forms
$$;
CREATE FUNCTION t.again() RETURNS void LANGUAGE sql AS $$
    SELECT t.end_before_keeping('alice', name, current_setting('t.kept_' || name)) FROM forms
$$;
-- Seats come; the device takes that, forgets its cursor, and more come; then they go, and some of each.
SELECT t.keep();
CALL t.moves(1, 2);
SELECT name, t.sync('alice', name) FROM forms;
SELECT t.again();
CALL t.moves(3, 4);
SELECT name, t.sync('alice', name) FROM forms;
SELECT t.keep();
CALL t.moves(-1, -2);
SELECT name, t.sync('alice', name) FROM forms;
SELECT t.again();
CALL t.moves(-3);
SELECT name, t.sync('alice', name) FROM forms;
SELECT t.again();
CALL t.moves(1, 5, -4, -1);
SELECT name, t.sync('alice', name) FROM forms;
SELECT t.again();
CALL t.moves(2, -2, 3);
SELECT name, t.sync('alice', name) FROM forms;
-- Rows with changes of their own beside them.
SELECT t.keep();
CALL t.moves(1, 2);
SELECT format('UPDATE %I SET r = 2 WHERE id = 4', name) FROM forms \gexec
SELECT name, t.sync('alice', name) FROM forms;
SELECT t.again();
SELECT format('DELETE FROM %I WHERE id = 1', name) FROM forms \gexec
CALL t.moves(-1, -2);
SELECT format('UPDATE %I SET r = 4 WHERE id = 4', name) FROM forms \gexec
SELECT name, t.sync('alice', name) FROM forms;
