-- Access that comes and goes without the row changing: memberships, projects, nested ones. After each pull a device has what
-- its role may SELECT (t.sync() says so if not), and only those are reset whom a change concerns.
\set ECHO none
\set test regress_access
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE members (id int PRIMARY KEY, project int NOT NULL, who name NOT NULL);
CREATE TABLE projects (id int PRIMARY KEY, name text);
CREATE TABLE tasks (id int PRIMARY KEY, project int REFERENCES projects ON DELETE CASCADE, title text);
CREATE TABLE comments (id int PRIMARY KEY, task int REFERENCES tasks ON DELETE CASCADE, body text);
ALTER TABLE members ENABLE ROW LEVEL SECURITY;
ALTER TABLE projects ENABLE ROW LEVEL SECURITY;
ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
ALTER TABLE comments ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON members USING (who = current_user);
CREATE POLICY member ON projects USING (EXISTS (SELECT FROM members AS m WHERE m.project = projects.id));
CREATE POLICY project ON tasks USING (project IN (SELECT id FROM projects));
CREATE POLICY task ON comments USING (EXISTS (SELECT FROM tasks AS t WHERE t.id = comments.task));
GRANT SELECT ON members, projects, tasks, comments TO alice, bob;
SET client_min_messages = warning;
SELECT snapsync.enable('projects'), snapsync.enable('tasks'), snapsync.enable('comments');
RESET client_min_messages;

INSERT INTO projects VALUES (1, 'one'), (2, 'two');
INSERT INTO members VALUES (1, 1, 'alice'), (2, 2, 'bob');
INSERT INTO tasks VALUES (11, 1, 't11'), (12, 1, 't12'), (21, 2, 't21');
INSERT INTO comments VALUES (111, 11, 'c'), (211, 21, 'c');
CREATE FUNCTION t.all() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    w text; c text; said text;
BEGIN
    FOREACH w IN ARRAY '{alice,bob}'::text[] LOOP
        FOREACH c IN ARRAY '{projects,tasks,comments}'::text[] LOOP
            said := t.sync(w, c);
            IF said NOT LIKE '%: nothing' THEN
                RETURN NEXT c || ' for ' || said;
            END IF;
        END LOOP;
    END LOOP;
END
$$;
SELECT t.all();
-- Work in a project: no resets, nothing for others.
INSERT INTO tasks VALUES (13, 1, 't13'); UPDATE tasks SET title = 'T11' WHERE id = 11; INSERT INTO comments VALUES (112, 11, 'cc');
SELECT t.all();
DELETE FROM tasks WHERE id = 11;
SELECT t.all();
-- A new project with its membership and tasks; a project is renamed; one is deleted with all that hangs on it.
BEGIN; INSERT INTO projects VALUES (3, 'three'); INSERT INTO members VALUES (3, 3, 'alice'); INSERT INTO tasks VALUES (31, 3, 't31'); COMMIT;
SELECT t.all();
UPDATE projects SET name = 'THREE' WHERE id = 3;
SELECT t.all();
DELETE FROM projects WHERE id = 3;
SELECT t.all();
-- A membership is granted and revoked: the rows of that project come and go for that user, and nobody else hears of it.
INSERT INTO members VALUES (4, 2, 'alice');
SELECT t.all();
UPDATE tasks SET title = 'both' WHERE id = 21;
SELECT t.all();
DELETE FROM members WHERE id = 4;
SELECT t.all();
UPDATE tasks SET title = 'bob only' WHERE id = 21;
SELECT t.all();
-- Moved from one user to another; gained, used and lost between two pulls.
UPDATE members SET who = 'alice' WHERE id = 2;
SELECT t.all();
INSERT INTO members VALUES (5, 1, 'bob'); UPDATE tasks SET title = 'seen by nobody' WHERE id = 12; DELETE FROM members WHERE id = 5;
SELECT t.all();
-- The last member leaves together with the project.
BEGIN; DELETE FROM projects WHERE id = 1; DELETE FROM members WHERE project = 1; COMMIT;
SELECT t.all();
TRUNCATE members;
SELECT t.all();
-- Rolled back: nothing.
BEGIN; INSERT INTO members VALUES (9, 2, 'bob'); ROLLBACK;
SELECT t.all();
