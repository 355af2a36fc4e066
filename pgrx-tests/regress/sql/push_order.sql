-- In which order a push is written: whoever worked offline did one thing after the other, and the push does not say which came first. What could be written
-- online, one after the other, is written by one push, whatever the order of the collections, and nothing of it is rejected.
\set ECHO none
\set test regress_push_order
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET client_min_messages = warning;
CREATE TABLE t.tables (name text PRIMARY KEY);
CREATE TABLE t.rows (name text, doc jsonb);
-- What stands now is what each push begins with.
CREATE FUNCTION t.begin_with() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    of text;
BEGIN
    DELETE FROM t.rows;
    FOR of IN SELECT name FROM t.tables LOOP
        EXECUTE format('INSERT INTO t.rows SELECT %L, to_jsonb(r) FROM %I AS r', of, of);
    END LOOP;
END
$$;
CREATE FUNCTION t.tables(VARIADIC names text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    of text;
BEGIN
    DELETE FROM t.tables;
    FOREACH of IN ARRAY names LOOP
        EXECUTE format('GRANT ALL ON %I TO alice', of);
        PERFORM snapsync.enable(of::regclass);
        INSERT INTO t.tables VALUES (of);
    END LOOP;
    PERFORM t.begin_with();
END
$$;
-- The push with its collections in this order or the other, what it answers, and how the rows differ from those that it began with. All is undone.
CREATE FUNCTION t.try(changes jsonb, names text[], rejected text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    payload text;
    answer text;
    of text;
    now text := '';
    line text;
BEGIN
    SELECT '{' || string_agg(format('%s: %s', to_json(n), changes -> n), ', ' ORDER BY ord) || '}' INTO payload
    FROM unnest(names) WITH ORDINALITY AS u(n, ord) WHERE changes ? n;
    BEGIN
        SET LOCAL ROLE alice;
        answer := public.push_changes(payload::json, client_id => 'c', on_rejected => rejected);
        RESET ROLE;
        FOR of IN SELECT name FROM t.tables ORDER BY name LOOP
            EXECUTE format('SELECT string_agg(coalesce(c.doc::text, ''gone '' || (b.doc ->> ''id'')), '' '' ORDER BY coalesce(c.doc, b.doc) ->> ''id'') '
                           'FROM (SELECT doc FROM t.rows WHERE name = %1$L) AS b FULL JOIN (SELECT to_jsonb(r) AS doc FROM %1$I AS r) AS c ON c.doc ->> ''id'' = b.doc ->> ''id'' '
                           'WHERE c.doc IS DISTINCT FROM b.doc', of) INTO line;
            now := now || CASE WHEN length(line) > 400 THEN format(E'\n  %s: %s characters', of, length(line)) ELSE coalesce(format(E'\n  %s: %s', of, line), '') END;
        END LOOP;
        RAISE 'undone' USING ERRCODE = 'TT000';
    EXCEPTION
        WHEN SQLSTATE 'TT000' THEN RETURN left((answer::jsonb - 'rejected')::text, 400) || now;
        WHEN OTHERS THEN RETURN SQLSTATE || ' ' || SQLERRM;
    END;
END
$$;
-- In both orders, with abort and with report: one line where they agree.
CREATE FUNCTION t.push(changes jsonb) RETURNS TABLE (answer text) LANGUAGE sql AS $$
    WITH tried AS (
        SELECT t.try(changes, n, r) AS said, format('%s, %s', w, r) AS how
        FROM (VALUES ('forth', ARRAY(SELECT name FROM t.tables ORDER BY name)), ('back', ARRAY(SELECT name FROM t.tables ORDER BY name DESC))) AS v(w, n),
             unnest('{abort,report}'::text[]) AS r)
    SELECT CASE WHEN count(*) OVER () = 1 THEN said ELSE hows || ': ' || said END
    FROM (SELECT said, string_agg(how, '; ' ORDER BY how) AS hows FROM tried GROUP BY said) AS s ORDER BY hows $$;
\set ECHO all

-- A unique value goes from rows that are deleted to created ones; others refer to the table, so its rows are deleted last.
CREATE TABLE lists (id text PRIMARY KEY, name text UNIQUE);
CREATE TABLE todos (id text PRIMARY KEY, list text REFERENCES lists ON DELETE CASCADE, title text);
INSERT INTO lists SELECT 'o' || n, 'n' || n FROM generate_series(1, 40) AS n;
INSERT INTO todos VALUES ('t', 'o1', 'open');
SELECT t.tables('lists', 'todos');
CREATE FUNCTION t.created(n int) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_agg(jsonb_build_object('id', 'x' || i, 'name', 'n' || i)) FROM generate_series(1, n) AS i $$;
CREATE FUNCTION t.ids(n int) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_agg('o' || i) FROM generate_series(1, n) AS i $$;
SELECT t.push(jsonb_build_object('lists', jsonb_build_object('created', t.created(n), 'deleted', t.ids(n)))) FROM unnest('{3,31,32,40}'::int[]) AS n;
-- From edited ones to created ones.
SELECT t.push(jsonb_build_object('lists', jsonb_build_object('created', t.created(40), 'updated',
    (SELECT jsonb_agg(jsonb_build_object('id', 'o' || i, 'name', 'old ' || i)) FROM generate_series(1, 40) AS i)))) ;
-- Half and half, and a row that hangs on one of the deleted lists moves to one of the created.
SELECT t.push(jsonb_build_object('lists', jsonb_build_object('created', t.created(40), 'deleted', t.ids(20), 'updated',
    (SELECT jsonb_agg(jsonb_build_object('id', 'o' || i, 'name', 'old ' || i)) FROM generate_series(21, 40) AS i)),
    'todos', '{"updated": [{"id": "t", "list": "x40"}]}'::jsonb));
-- It moves off a list that is deleted: no order takes it along.
SELECT t.push(jsonb_build_object('lists', jsonb_build_object('created', t.created(3), 'deleted', t.ids(3)), 'todos', '{"updated": [{"id": "t", "list": "o9"}]}'::jsonb));
-- Between them is a table that the push does not name.
CREATE TABLE parts (id text PRIMARY KEY, todo text REFERENCES todos ON DELETE CASCADE);
CREATE TABLE notes (id text PRIMARY KEY, part text REFERENCES parts ON DELETE CASCADE);
INSERT INTO todos VALUES ('u', 'o9', 'open');
INSERT INTO parts VALUES ('p', 't'), ('q', 'u');
INSERT INTO notes VALUES ('n', 'p');
SELECT t.tables('lists', 'todos', 'notes');
SELECT t.push(jsonb_build_object('lists', jsonb_build_object('created', t.created(3), 'deleted', t.ids(3)), 'notes', '{"updated": [{"id": "n", "part": "q"}]}'::jsonb));
-- With some that nothing helps.
SELECT t.push(jsonb_build_object('lists', jsonb_build_object('created', t.created(40) || '[{"id": "y", "name": "n40"}]', 'deleted', t.ids(40))));
DROP TABLE notes, parts, todos, lists;

-- What somebody did last closes a project to further changes, by what INSERT and UPDATE policies ask.
CREATE TABLE orgs (id text PRIMARY KEY, closed boolean NOT NULL DEFAULT false);
CREATE TABLE projects (id text PRIMARY KEY, org text REFERENCES orgs, archived boolean NOT NULL DEFAULT false);
CREATE TABLE tasks (id text PRIMARY KEY, project text REFERENCES projects ON DELETE CASCADE, title text);
ALTER TABLE projects ENABLE ROW LEVEL SECURITY;
ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
CREATE POLICY s ON projects FOR SELECT USING (true);
CREATE POLICY s ON tasks FOR SELECT USING (true);
CREATE POLICY i ON projects FOR INSERT WITH CHECK (NOT (SELECT closed FROM orgs AS o WHERE o.id = org));
CREATE POLICY u ON projects FOR UPDATE USING (NOT (SELECT closed FROM orgs AS o WHERE o.id = org));
CREATE POLICY d ON projects FOR DELETE USING (NOT (SELECT closed FROM orgs AS o WHERE o.id = org));
CREATE POLICY i ON tasks FOR INSERT WITH CHECK (NOT (SELECT archived FROM projects AS p WHERE p.id = project));
CREATE POLICY u ON tasks FOR UPDATE USING (NOT (SELECT archived FROM projects AS p WHERE p.id = project));
CREATE POLICY d ON tasks FOR DELETE USING (NOT (SELECT archived FROM projects AS p WHERE p.id = project));
INSERT INTO orgs VALUES ('o', false), ('c', true);
INSERT INTO projects VALUES ('p', 'o', false), ('a', 'o', true), ('c', 'c', false), ('d', 'c', true);
INSERT INTO tasks SELECT p || n, p, 'open' FROM generate_series(1, 3) AS n, unnest('{p,a,c,d}'::text[]) AS p;
SELECT t.tables('orgs', 'projects', 'tasks');
\set write '{"tasks": {"created": [{"id": "n", "project": "p"}], "updated": [{"id": "p1", "title": "done"}], "deleted": ["p2"]}}'
\set write_a '{"tasks": {"created": [{"id": "n", "project": "a"}], "updated": [{"id": "a1", "title": "done"}], "deleted": ["a2"]}}'
SELECT t.push(jsonb '{"projects": {"updated": [{"id": "p", "archived": true}]}}' || :'write'::jsonb);
-- He opens it, and writes.
SELECT t.push(jsonb '{"projects": {"updated": [{"id": "a", "archived": false}]}}' || :'write_a'::jsonb);
-- One is closed, and another one opened; a project that is made closed cannot be written to.
SELECT t.push(jsonb '{"projects": {"updated": [{"id": "a", "archived": false}, {"id": "p", "archived": true}]}, "tasks": {"created": [{"id": "n", "project": "p"}, {"id": "m", "project": "a"}], "updated": [{"id": "p1", "title": "done"}, {"id": "a1", "title": "done"}], "deleted": ["p2", "a2"]}}');
SELECT t.push(jsonb '{"projects": {"created": [{"id": "m", "org": "o", "archived": true}], "updated": [{"id": "p", "archived": true}]}, "tasks": {"created": [{"id": "n", "project": "p"}, {"id": "x", "project": "m"}]}}');
-- Beside one that is written in no order.
SELECT t.push(jsonb '{"projects": {"updated": [{"id": "p", "archived": true}]}, "tasks": {"created": [{"id": "n", "project": "p"}, {"id": "x", "project": "nowhere"}], "updated": [{"id": "p1", "title": "done"}], "deleted": ["p2"]}}');
-- Three levels: both are closed; both are opened; one of each.
SELECT t.push(jsonb '{"orgs": {"updated": [{"id": "o", "closed": true}]}, "projects": {"updated": [{"id": "p", "archived": true}], "created": [{"id": "m", "org": "o"}], "deleted": ["a"]}}' || :'write'::jsonb);
SELECT t.push(jsonb '{"orgs": {"updated": [{"id": "c", "closed": false}]}, "projects": {"updated": [{"id": "d", "archived": false}]}, "tasks": {"created": [{"id": "n", "project": "d"}], "updated": [{"id": "d1", "title": "done"}], "deleted": ["d2"]}}');
SELECT t.push(jsonb '{"orgs": {"updated": [{"id": "c", "closed": false}]}, "projects": {"updated": [{"id": "c", "archived": true}]}, "tasks": {"created": [{"id": "n", "project": "c"}], "updated": [{"id": "c1", "title": "done"}], "deleted": ["c2"]}}');
SELECT t.push(jsonb '{"orgs": {"updated": [{"id": "o", "closed": true}]}, "projects": {"updated": [{"id": "a", "archived": false}]}}' || :'write_a'::jsonb);
-- A row whose former parent is deleted has moved before; or it could not move, and would be deleted along.
SELECT t.push(jsonb '{"orgs": {"updated": [{"id": "o", "closed": true}]}, "projects": {"deleted": ["p"], "updated": [{"id": "a", "archived": false}]}, "tasks": {"updated": [{"id": "p1", "project": "a"}]}}');
SELECT t.push(jsonb '{"orgs": {"updated": [{"id": "o", "closed": true}]}, "projects": {"deleted": ["a"]}, "tasks": {"updated": [{"id": "a1", "project": "p"}]}}');
-- Many.
SELECT t.push(jsonb_build_object('projects', '{"updated": [{"id": "p", "archived": true}]}'::jsonb, 'tasks', jsonb_build_object('created',
    (SELECT jsonb_agg(jsonb_build_object('id', 'n' || n, 'project', 'p')) FROM generate_series(1, 100) AS n))));
-- A trigger could veto what a policy refuses; and what is deleted is marked.
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
CREATE TRIGGER stamp BEFORE UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION stamp();
ALTER TABLE tasks ADD COLUMN gone boolean NOT NULL DEFAULT false;
SELECT snapsync.enable('tasks', soft_delete_column => 'gone');
SELECT t.begin_with();
SELECT t.push(jsonb '{"projects": {"updated": [{"id": "p", "archived": true}]}}' || :'write'::jsonb);
SELECT t.push(jsonb '{"projects": {"updated": [{"id": "a", "archived": false}]}}' || :'write_a'::jsonb);
SELECT t.push(jsonb '{"projects": {"updated": [{"id": "a", "archived": false}, {"id": "p", "archived": true}]}, "tasks": {"updated": [{"id": "p1", "title": "done"}, {"id": "a1", "title": "done"}], "deleted": ["p2", "a2"]}}');
SELECT t.push(:'write_a');
SELECT t.push('{"tasks": {"updated": [{"id": "a1", "title": "done"}]}}');
SELECT t.push('{"tasks": {"deleted": ["a2"]}}');
DROP TABLE tasks, projects, orgs;

-- By a trigger that looks at the parent.
CREATE TABLE invoices (id text PRIMARY KEY, status text NOT NULL DEFAULT 'draft');
CREATE TABLE lines (id text PRIMARY KEY, invoice text NOT NULL REFERENCES invoices ON DELETE CASCADE, amount int);
CREATE FUNCTION only_drafts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT status FROM invoices WHERE id = coalesce(new.invoice, old.invoice)) <> 'draft' THEN
        RAISE 'invoice is final' USING ERRCODE = '23514';
    END IF;
    RETURN coalesce(new, old);
END
$$;
CREATE TRIGGER only_drafts BEFORE INSERT OR UPDATE OR DELETE ON lines FOR EACH ROW EXECUTE FUNCTION only_drafts();
INSERT INTO invoices VALUES ('i');
INSERT INTO lines VALUES ('l1', 'i', 1), ('l3', 'i', 1);
SELECT t.tables('invoices', 'lines');
SELECT t.push(jsonb '{"invoices": {"updated": [{"id": "i", "status": "final"}]}, "lines": {"updated": [{"id": "l1", "amount": 2}], "created": [{"id": "l2", "invoice": "i", "amount": 3}], "deleted": ["l3"]}}');
-- No foreign key says that it is the parent.
ALTER TABLE lines DROP CONSTRAINT lines_invoice_fkey;
SELECT t.push(jsonb '{"invoices": {"updated": [{"id": "i", "status": "final"}]}, "lines": {"updated": [{"id": "l1", "amount": 2}], "created": [{"id": "l2", "invoice": "i", "amount": 3}], "deleted": ["l3"]}}');
DROP TABLE lines, invoices;

-- Rows that close: a signature that is made, an assignment that is given up.
CREATE TABLE forms (id text PRIMARY KEY, title text);
CREATE TABLE signatures (id text PRIMARY KEY, form text REFERENCES forms);
CREATE TABLE assigned (id text PRIMARY KEY, form text, who name DEFAULT current_user);
CREATE TABLE answers (id text PRIMARY KEY, form text REFERENCES forms, value text);
ALTER TABLE answers ENABLE ROW LEVEL SECURITY;
CREATE POLICY s ON answers FOR SELECT USING (true);
CREATE POLICY w ON answers USING (NOT EXISTS (SELECT FROM signatures AS s WHERE s.form = answers.form) AND EXISTS (SELECT FROM assigned AS a WHERE a.form = answers.form AND a.who = current_user));
INSERT INTO forms VALUES ('f', 'x');
INSERT INTO assigned VALUES ('a', 'f', 'alice');
INSERT INTO answers VALUES ('1', 'f', 'no'), ('2', 'f', 'no');
SELECT t.tables('forms', 'signatures', 'assigned', 'answers');
\set answer '{"answers": {"updated": [{"id": "1", "value": "yes"}], "created": [{"id": "3", "form": "f"}], "deleted": ["2"]}}'
SELECT t.push(jsonb '{"signatures": {"created": [{"id": "s", "form": "f"}]}}' || :'answer'::jsonb);
SELECT t.push(jsonb '{"assigned": {"deleted": ["a"]}}' || :'answer'::jsonb);
SELECT t.push(jsonb '{"assigned": {"updated": [{"id": "a", "who": "bob"}]}}' || :'answer'::jsonb);
SELECT t.push(jsonb '{"forms": {"updated": [{"id": "f", "title": "y"}]}, "signatures": {"created": [{"id": "s", "form": "f"}]}, "assigned": {"deleted": ["a"]}}' || :'answer'::jsonb);
DELETE FROM assigned;
SELECT t.begin_with();
SELECT t.push(jsonb '{"assigned": {"created": [{"id": "b", "form": "f"}]}}' || :'answer'::jsonb);
-- Which of two other tables opens, and which closes, nothing tells.
SELECT t.push(jsonb '{"signatures": {"created": [{"id": "s", "form": "f"}]}, "assigned": {"created": [{"id": "b", "form": "f"}]}}' || :'answer'::jsonb);
DROP TABLE answers, assigned, signatures, forms;

-- A project is edited and left, where memberships refer to it and show it; it is deleted with its memberships.
CREATE TABLE projects (id text PRIMARY KEY, archived boolean NOT NULL DEFAULT false);
CREATE TABLE members (id text PRIMARY KEY, project text REFERENCES projects ON DELETE CASCADE, who name DEFAULT current_user);
CREATE TABLE tasks (id text PRIMARY KEY, project text REFERENCES projects ON DELETE CASCADE, title text);
ALTER TABLE projects ENABLE ROW LEVEL SECURITY;
ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON projects USING (id IN (SELECT project FROM members WHERE who = current_user)) WITH CHECK (true);
CREATE POLICY s ON tasks FOR SELECT USING (project IN (SELECT project FROM members WHERE who = current_user));
CREATE POLICY i ON tasks FOR INSERT WITH CHECK (NOT (SELECT archived FROM projects AS p WHERE p.id = project));
CREATE POLICY u ON tasks FOR UPDATE USING (NOT (SELECT archived FROM projects AS p WHERE p.id = project));
INSERT INTO projects VALUES ('p'), ('q');
INSERT INTO members VALUES ('m', 'p', 'alice'), ('n', 'q', 'alice');
INSERT INTO tasks VALUES ('1', 'p', 'open'), ('2', 'q', 'open');
SELECT t.tables('projects', 'members', 'tasks');
SELECT t.push(jsonb '{"projects": {"updated": [{"id": "p", "archived": true}]}, "members": {"deleted": ["m"]}, "tasks": {"updated": [{"id": "1", "title": "done"}]}}');
SELECT t.push(jsonb '{"projects": {"deleted": ["p"]}, "members": {"deleted": ["m"]}, "tasks": {"updated": [{"id": "2", "title": "done"}]}}');
SELECT t.push(jsonb '{"projects": {"deleted": ["p"]}, "members": {"updated": [{"id": "m", "project": "q"}]}, "tasks": {"updated": [{"id": "1", "project": "q"}]}}');
-- A new project with its membership and a task, and an old one that is archived after an edit.
SELECT t.push(jsonb '{"projects": {"created": [{"id": "r"}], "updated": [{"id": "p", "archived": true}]}, "members": {"created": [{"id": "o", "project": "r"}]}, "tasks": {"created": [{"id": "3", "project": "r"}], "updated": [{"id": "1", "title": "done"}]}}');
DROP TABLE tasks, members, projects;

-- Tables that refer to themselves.
CREATE TABLE tree (id text PRIMARY KEY, parent text REFERENCES tree ON DELETE CASCADE, name text UNIQUE, locked boolean NOT NULL DEFAULT false);
CREATE TABLE leaves (id text PRIMARY KEY, node text REFERENCES tree ON DELETE CASCADE, v text);
ALTER TABLE leaves ENABLE ROW LEVEL SECURITY;
CREATE POLICY s ON leaves FOR SELECT USING (true);
CREATE POLICY w ON leaves USING (NOT (SELECT locked FROM tree AS n WHERE n.id = node));
INSERT INTO tree VALUES ('r', NULL, 'root'), ('a', 'r', 'A'), ('b', 'a', 'B');
INSERT INTO leaves VALUES ('1', 'a', 'x'), ('2', 'b', 'x');
SELECT t.tables('tree', 'leaves');
SELECT t.push(jsonb '{"tree": {"updated": [{"id": "a", "locked": true}], "created": [{"id": "d", "parent": "c"}, {"id": "c", "parent": "a"}]}, "leaves": {"created": [{"id": "3", "node": "d"}, {"id": "4", "node": "a"}], "updated": [{"id": "1", "v": "y"}], "deleted": ["2"]}}');
SELECT t.push(jsonb '{"tree": {"updated": [{"id": "b", "parent": "r"}, {"id": "r", "locked": true}], "deleted": ["a"], "created": [{"id": "n", "parent": "b", "name": "A"}]}, "leaves": {"created": [{"id": "3", "node": "r"}], "updated": [{"id": "1", "node": "b"}]}}');
DROP TABLE leaves, tree;

-- One list is closed after 40 edits, another one opened before as many: more wait for something than are enough of a kind.
CREATE TABLE lists (id text PRIMARY KEY, open boolean);
CREATE TABLE todos (id text PRIMARY KEY, list text REFERENCES lists, title text CHECK (title <> 'bad'));
ALTER TABLE todos ENABLE ROW LEVEL SECURITY;
CREATE POLICY s ON todos FOR SELECT USING (true);
CREATE POLICY u ON todos FOR UPDATE USING (list IN (SELECT id FROM lists WHERE open));
INSERT INTO lists VALUES ('1', true), ('2', false);
INSERT INTO todos SELECT i, CASE WHEN i <= 40 THEN '2' ELSE '1' END, 'x' FROM generate_series(1, 80) AS i;
SELECT t.tables('lists', 'todos');
SELECT t.push(jsonb_build_object('lists', jsonb '{"updated": [{"id": "1", "open": false}, {"id": "2", "open": true}]}',
    'todos', jsonb_build_object('updated', (SELECT jsonb_agg(jsonb_build_object('id', i, 'title', 'y')) FROM generate_series(1, 80) AS i))));
-- What is wrong with a row is told, and not that the push has closed it by the time that it is tried again.
SELECT t.push(jsonb '{"lists": {"updated": [{"id": "1", "open": false}]}, "todos": {"updated": [{"id": "41", "title": "bad"}, {"id": "42", "title": "y"}]}}');
DROP TABLE todos, lists;

-- Nor that the push has taken it along by then: a value that another row keeps, a trigger's refusal.
CREATE TABLE lists (id text PRIMARY KEY, gone boolean NOT NULL DEFAULT false);
CREATE TABLE todos (id text PRIMARY KEY, list text, title text UNIQUE, gone boolean NOT NULL DEFAULT false);
CREATE FUNCTION mark() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE todos SET gone = true WHERE list = new.id; RETURN NULL; END $$;
CREATE TRIGGER mark AFTER UPDATE OF gone ON lists FOR EACH ROW WHEN (new.gone AND NOT old.gone) EXECUTE FUNCTION mark();
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'todo % is not to be called so', new.id; END $$;
CREATE TRIGGER refuse BEFORE UPDATE OF title ON todos FOR EACH ROW WHEN (new.title = 'so') EXECUTE FUNCTION refuse();
INSERT INTO lists VALUES ('1'), ('2');
INSERT INTO todos SELECT i, '1', i FROM unnest('{a,c,d,e,f,g}'::text[]) AS i;
INSERT INTO todos VALUES ('b', '2', 'b');
SELECT snapsync.enable('lists', soft_delete_column => 'gone'), snapsync.enable('todos', soft_delete_column => 'gone');
SELECT t.tables('lists', 'todos');
SELECT t.push('{"lists": {"deleted": ["1"]}, "todos": {"updated": [{"id": "a", "title": "b"}]}}');
SELECT t.push('{"lists": {"deleted": ["1"]}, "todos": {"updated": [{"id": "a", "list": "2", "title": "b"}]}}');
SELECT t.push('{"lists": {"updated": [{"id": "1", "gone": true}]}, "todos": {"updated": [{"id": "a", "title": "b"}]}}');
SELECT t.push('{"lists": {"updated": [{"id": "1", "gone": true}]}, "todos": {"updated": [{"id": "a", "title": "so"}, {"id": "c", "title": "y"}]}}');
CREATE FUNCTION t.codes(changes jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg((r ->> 'id') || ' ' || (r ->> 'code'), ', ') FROM json_array_elements(public.push_changes(changes::json, on_rejected => 'report') -> 'rejected') AS r $$;
BEGIN;
SELECT t.codes('{"lists": {"updated": [{"id": "1", "gone": true}]}, "todos": {"updated": [{"id": "a", "title": "b"}, {"id": "c", "title": "so"}]}}');
ROLLBACK;
-- Of several that a cascade takes along, 'abort' names the first of the push.
ALTER TABLE todos ADD FOREIGN KEY (list) REFERENCES lists ON DELETE CASCADE;
SELECT snapsync.disable('lists');
SELECT t.tables('lists', 'todos');
SELECT t.push('{"lists": {"deleted": ["1"]}, "todos": {"updated": [{"id": "d", "title": "so"}, {"id": "c", "title": "so"}, {"id": "a", "title": "so"}, {"id": "g", "title": "so"}, {"id": "f", "title": "so"}, {"id": "e", "title": "so"}]}}');
DROP FUNCTION t.codes;
DROP TABLE todos, lists;
DROP FUNCTION mark, refuse;

-- What is closed by tables that refer to each other, which one statement writes.
CREATE TABLE lists (id text PRIMARY KEY, open boolean NOT NULL DEFAULT true, main text);
CREATE TABLE todos (id text PRIMARY KEY, list text REFERENCES lists ON DELETE CASCADE, title text);
ALTER TABLE lists ADD FOREIGN KEY (main) REFERENCES todos DEFERRABLE INITIALLY DEFERRED;
CREATE FUNCTION is_open() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (SELECT open FROM lists WHERE id = new.list) THEN
        RAISE 'the list is closed' USING ERRCODE = '23514';
    END IF;
    RETURN new;
END
$$;
CREATE TRIGGER is_open BEFORE INSERT OR UPDATE ON todos FOR EACH ROW EXECUTE FUNCTION is_open();
INSERT INTO lists VALUES ('1'), ('2');
INSERT INTO todos VALUES ('a', '1', 'x'), ('b', '2', 'x'), ('c', '2', 'x');
UPDATE lists SET open = id = '1', main = CASE id WHEN '1' THEN 'a' ELSE 'b' END;
SELECT t.tables('lists', 'todos');
SELECT t.push('{"lists": {"updated": [{"id": "1", "open": false}]}, "todos": {"updated": [{"id": "a", "title": "y"}]}}');
SELECT t.push('{"lists": {"updated": [{"id": "1", "open": false}, {"id": "2", "open": true}], "created": [{"id": "3", "main": "d"}]}, "todos": {"updated": [{"id": "a", "title": "y"}, {"id": "b", "title": "y"}], "created": [{"id": "d", "list": "3"}, {"id": "e", "list": "1"}]}}');
ALTER TABLE lists DROP COLUMN main;
DROP TABLE todos, lists;

-- A value is free when another row of its table has moved; then what decides is given up.
CREATE TABLE lists (id text PRIMARY KEY, name text UNIQUE, note text);
CREATE TABLE members (id text PRIMARY KEY, list text, who name);
ALTER TABLE lists ENABLE ROW LEVEL SECURITY;
CREATE POLICY s ON lists USING (id IN (SELECT list FROM members WHERE who = current_user));
INSERT INTO lists VALUES ('1', 'one'), ('2', 'two');
INSERT INTO members VALUES ('m', '1', 'alice'), ('n', '2', 'alice');
SELECT t.tables('lists', 'members');
SELECT t.push('{"lists": {"updated": [{"id": "1", "name": "two"}, {"id": "2", "name": "three", "note": "moved"}]}, "members": {"deleted": ["m", "n"]}}');
-- And where a deletion frees it, which comes after that of the membership.
CREATE TABLE todos (id text PRIMARY KEY, list text REFERENCES lists);
ALTER TABLE lists ADD main text REFERENCES todos DEFERRABLE;
SELECT t.tables('lists', 'members', 'todos');
SELECT t.push('{"lists": {"updated": [{"id": "1", "name": "two"}], "deleted": ["2"]}, "members": {"deleted": ["m"]}}');
ALTER TABLE lists DROP COLUMN main;
DROP TABLE todos, lists, members;

-- What moves waits for a place that a deletion makes, and what it leaves is deleted, too: a cascade must not take it. In one table the first of the deletions is the wrong one.
CREATE TABLE lists (id text PRIMARY KEY);
CREATE TABLE todos (id text PRIMARY KEY, list text NOT NULL REFERENCES lists ON DELETE CASCADE, title text CHECK (title <> 'bad'));
CREATE FUNCTION is_full() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM todos AS t WHERE t.list = new.list AND t.id <> new.id) >= 2 THEN
        RAISE 'the list is full' USING ERRCODE = '23514';
    END IF;
    RETURN new;
END
$$;
CREATE TRIGGER is_full BEFORE INSERT OR UPDATE OF list ON todos FOR EACH ROW EXECUTE FUNCTION is_full();
CREATE TABLE tasks (id text PRIMARY KEY, parent text REFERENCES tasks ON DELETE CASCADE, place int, UNIQUE (parent, place));
INSERT INTO lists VALUES ('1'), ('2');
INSERT INTO todos VALUES ('a', '1', 'a'), ('b', '2', 'b'), ('c', '2', 'c');
INSERT INTO tasks VALUES ('p', NULL, 1), ('q', NULL, 2), ('a', 'p', 1), ('b', 'q', 1);
SELECT t.tables('lists', 'todos', 'tasks');
SELECT t.push('{"lists": {"deleted": ["1"]}, "todos": {"updated": [{"id": "a", "list": "2"}], "deleted": ["b"]}}');
SELECT t.push('{"lists": {"deleted": ["1"]}, "todos": {"updated": [{"id": "a", "list": "2"}, {"id": "c", "title": "bad"}], "deleted": ["b"]}}');
SELECT t.push('{"tasks": {"updated": [{"id": "a", "parent": "q", "place": 1}], "deleted": ["b", "p"]}}');
SELECT t.push('{"tasks": {"updated": [{"id": "a", "parent": "q", "place": 1}], "deleted": ["p", "b"]}}');
DROP TABLE tasks, todos, lists;
DROP FUNCTION is_full, is_open;

-- The same where a trigger deletes what hangs on a list, and no key says so.
CREATE TABLE lists (id text PRIMARY KEY);
CREATE TABLE todos (id text PRIMARY KEY, list text, title text);
CREATE FUNCTION cascade() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM todos WHERE list = old.id; RETURN old; END $$;
CREATE TRIGGER cascade AFTER DELETE ON lists FOR EACH ROW EXECUTE FUNCTION cascade();
INSERT INTO lists VALUES ('1'), ('2');
INSERT INTO todos VALUES ('a', '1', 'a'), ('b', '1', 'b'), ('c', '2', 'c');
SELECT t.tables('lists', 'todos');
SELECT t.push('{"lists": {"deleted": ["1"]}, "todos": {"updated": [{"id": "a", "list": "2"}]}}');
SELECT t.push('{"lists": {"deleted": ["1"]}, "todos": {"updated": [{"id": "a", "list": "2"}, {"id": "b", "title": "y"}], "deleted": ["c"]}}');
-- And what was moved to the list before that goes with it.
SELECT t.push('{"lists": {"deleted": ["1"]}, "todos": {"updated": [{"id": "c", "list": "1"}], "created": [{"id": "d", "list": "1"}]}}');
DROP TABLE todos, lists;
DROP FUNCTION cascade;

-- Values that are swapped can be deferred, whatever else is wrong before that.
CREATE TABLE todos (id text PRIMARY KEY, place int UNIQUE DEFERRABLE, title text CHECK (title <> 'bad'));
INSERT INTO todos VALUES ('a', 1, 'a'), ('b', 2, 'b'), ('c', 3, 'c');
SELECT t.tables('todos');
SELECT t.push('{"todos": {"updated": [{"id": "c", "title": "bad"}, {"id": "a", "place": 2}, {"id": "b", "place": 1, "title": "y"}]}}');
DROP TABLE todos;

-- So do two of which one leaves a list that is deleted: that must not take it along before.
CREATE TABLE lists (id text PRIMARY KEY);
CREATE TABLE todos (id text PRIMARY KEY, list text NOT NULL REFERENCES lists ON DELETE CASCADE, tag text UNIQUE DEFERRABLE, title text CHECK (title <> 'bad'));
INSERT INTO lists VALUES ('1'), ('2');
INSERT INTO todos VALUES ('a', '1', 'A', 'a'), ('b', '2', 'B', 'b'), ('c', '2', 'C', 'c');
SELECT t.tables('lists', 'todos');
SELECT t.push('{"lists": {"deleted": ["1"]}, "todos": {"updated": [{"id": "c", "title": "bad"}, {"id": "a", "list": "2", "tag": "B"}, {"id": "b", "tag": "A"}]}}');
SELECT t.push('{"lists": {"deleted": ["1"]}, "todos": {"updated": [{"id": "c", "list": "3"}, {"id": "a", "list": "2", "tag": "B"}, {"id": "b", "tag": "A"}]}}');
DROP TABLE todos, lists;

-- More rows wait for one of their own table, which is the last, than are tried in all rounds.
CREATE TABLE tasks (id text PRIMARY KEY, root text, open boolean, title text);
CREATE FUNCTION is_open() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (SELECT open FROM tasks WHERE id = new.root) THEN
        RAISE 'the task is closed' USING ERRCODE = '23514';
    END IF;
    RETURN new;
END
$$;
INSERT INTO tasks SELECT i, '0', false, 'x' FROM generate_series(0, 400) AS i;
UPDATE tasks SET root = NULL WHERE id = '0';
CREATE TRIGGER is_open BEFORE INSERT OR UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION is_open();
SELECT t.tables('tasks');
SELECT t.push(jsonb_build_object('tasks', jsonb_build_object('updated', (SELECT jsonb_agg(jsonb_build_object('id', i, 'title', 'y')) FROM generate_series(1, 400) AS i) || jsonb '{"id": "0", "open": true}')));
DROP TABLE tasks;
DROP FUNCTION is_open;

-- A deletion that was refused is not done because the push has hidden the row since.
CREATE TABLE lists (id text PRIMARY KEY, open boolean);
CREATE TABLE todos (id text PRIMARY KEY, list text REFERENCES lists);
CREATE TABLE notes (id text PRIMARY KEY, todo text REFERENCES todos ON DELETE SET NULL, author name);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY s ON notes FOR SELECT USING (author = current_user OR todo IN (SELECT id FROM todos));
CREATE POLICY d ON notes FOR DELETE USING (todo IN (SELECT t.id FROM todos AS t JOIN lists AS l ON l.id = t.list WHERE l.open));
INSERT INTO lists VALUES ('1', false);
INSERT INTO todos VALUES ('a', '1');
INSERT INTO notes VALUES ('n', 'a', 'bob');
SELECT t.tables('lists', 'todos', 'notes');
SELECT t.push('{"lists": {"updated": [{"id": "1", "open": true}]}, "todos": {"deleted": ["a"]}, "notes": {"deleted": ["n"]}}');
SELECT t.push('{"todos": {"deleted": ["a"]}, "notes": {"deleted": ["n"]}}');
DROP TABLE notes, todos, lists;

-- Nor where a key further below has hidden it, which a cascade of the push has reached, or a trigger, through tables that are synced or are not; nor a key that follows an update.
CREATE TABLE lists (id text PRIMARY KEY, code text UNIQUE);
CREATE TABLE todos (id text PRIMARY KEY, list text CONSTRAINT todos_list REFERENCES lists ON DELETE CASCADE);
CREATE TABLE notes (id text PRIMARY KEY, todo text REFERENCES todos ON DELETE SET NULL, code text REFERENCES lists (code) ON UPDATE SET NULL, author name, hidden boolean NOT NULL DEFAULT false);
CREATE TABLE pads (id text PRIMARY KEY, v text);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY s ON notes FOR SELECT USING ((author = current_user OR todo IS NOT NULL OR code IS NOT NULL) AND NOT hidden);
CREATE POLICY d ON notes FOR DELETE USING (author = current_user);
CREATE FUNCTION hide() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN UPDATE notes SET hidden = true; RETURN NULL; END $$;
CREATE TRIGGER hide AFTER UPDATE ON pads FOR EACH ROW EXECUTE FUNCTION hide();
INSERT INTO lists VALUES ('1', 'A'), ('2', 'B');
INSERT INTO todos VALUES ('a', '1');
INSERT INTO notes VALUES ('n', 'a', NULL, 'bob'), ('m', NULL, 'B', 'bob');
INSERT INTO pads VALUES ('p', 'x');
SELECT t.tables('lists', 'notes', 'pads');
SELECT t.push('{"lists": {"deleted": ["1"]}, "notes": {"deleted": ["n"]}}');
SELECT t.push('{"lists": {"updated": [{"id": "2", "code": "C"}]}, "notes": {"deleted": ["m"]}}');
SELECT t.tables('lists', 'todos', 'notes', 'pads');
SELECT t.push('{"lists": {"deleted": ["1"]}, "notes": {"deleted": ["n"]}}');
ALTER TABLE todos DROP CONSTRAINT todos_list;
CREATE FUNCTION cascade() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM todos WHERE list = old.id; RETURN old; END $$;
CREATE TRIGGER cascade AFTER DELETE ON lists FOR EACH ROW EXECUTE FUNCTION cascade();
SELECT t.push('{"lists": {"deleted": ["1"]}, "notes": {"deleted": ["n"]}}');
-- A trigger has hidden it, where the push has deleted nothing that such a key refers to.
SELECT t.push('{"pads": {"updated": [{"id": "p", "v": "y"}]}, "notes": {"deleted": ["n"]}}');
DROP TABLE notes, todos, lists, pads;
DROP FUNCTION cascade, hide;
-- In its own table, by the very statement; a trigger could have kept the row.
CREATE TABLE tree (id text PRIMARY KEY, parent text REFERENCES tree ON DELETE SET NULL, author name);
CREATE FUNCTION stay() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN old; END $$;
CREATE TRIGGER stay BEFORE DELETE ON tree FOR EACH ROW EXECUTE FUNCTION stay();
ALTER TABLE tree ENABLE ROW LEVEL SECURITY;
CREATE POLICY s ON tree FOR SELECT USING (author = current_user OR parent IS NOT NULL);
CREATE POLICY d ON tree FOR DELETE USING (author = current_user);
INSERT INTO tree VALUES ('p', NULL, 'alice'), ('c', 'p', 'bob');
SELECT t.tables('tree');
SELECT t.push('{"tree": {"deleted": ["p", "c"]}}');
-- The trigger marks the row instead of deleting it, and deletes what such a key of it refers to.
CREATE TABLE covers (id text PRIMARY KEY);
ALTER TABLE tree ADD cover text REFERENCES covers ON DELETE SET NULL, ADD gone boolean NOT NULL DEFAULT false;
ALTER POLICY s ON tree USING ((author = current_user OR parent IS NOT NULL) AND NOT gone);
CREATE OR REPLACE FUNCTION stay() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    UPDATE tree SET gone = true WHERE id = old.id;
    DELETE FROM covers WHERE id = old.cover;
    RETURN NULL;
END
$$;
INSERT INTO covers VALUES ('p'), ('q');
INSERT INTO tree VALUES ('q', NULL, 'alice', 'q');
UPDATE tree SET cover = 'p' WHERE id = 'p';
SELECT t.tables('tree', 'covers');
SELECT t.push('{"tree": {"deleted": ["p", "q"]}}');
SELECT t.push('{"tree": {"deleted": ["p", "c", "q"]}}');
DROP TABLE tree, covers;
DROP FUNCTION stay;

-- A trigger hides what hangs on a list that is archived, or given up: what the push deletes of it is deleted before that, whatever the order of the collections.
CREATE TABLE lists (id text PRIMARY KEY, archived boolean NOT NULL DEFAULT false);
CREATE TABLE members (id text PRIMARY KEY, list text, who name);
CREATE TABLE todos (id text PRIMARY KEY, list text REFERENCES lists ON DELETE CASCADE, archived boolean NOT NULL DEFAULT false, assignee name);
CREATE TABLE notes (id text PRIMARY KEY, todo text REFERENCES todos ON DELETE CASCADE);
CREATE FUNCTION archive() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN UPDATE todos SET archived = new.archived WHERE list = new.id; RETURN NULL; END $$;
CREATE TRIGGER archive AFTER UPDATE OF archived ON lists FOR EACH ROW EXECUTE FUNCTION archive();
CREATE FUNCTION unassign() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN UPDATE todos SET assignee = NULL WHERE list = old.list AND assignee = old.who; RETURN NULL; END $$;
CREATE TRIGGER unassign AFTER DELETE ON members FOR EACH ROW EXECUTE FUNCTION unassign();
ALTER TABLE todos ENABLE ROW LEVEL SECURITY;
CREATE POLICY s ON todos USING (NOT archived AND (assignee = 'alice' OR list IN (SELECT list FROM members WHERE who = current_user)));
INSERT INTO lists VALUES ('1');
INSERT INTO members VALUES ('m', '1', 'alice');
INSERT INTO todos VALUES ('a', '1', false, 'alice'), ('b', '1', false, 'bob');
SELECT t.tables('lists', 'members', 'todos', 'notes');
SELECT t.push('{"lists": {"updated": [{"id": "1", "archived": true}]}, "todos": {"deleted": ["a"]}}');
SELECT t.push('{"members": {"deleted": ["m"]}, "todos": {"deleted": ["a"]}}');
DROP TABLE notes, todos, members, lists;
DROP FUNCTION archive, unassign;

-- What a trigger marks as deleted along with its list is moved before that, though it has to wait for a place.
CREATE TABLE lists (id text PRIMARY KEY, gone boolean NOT NULL DEFAULT false);
CREATE TABLE todos (id text PRIMARY KEY, list text, gone boolean NOT NULL DEFAULT false);
CREATE FUNCTION mark() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE todos SET gone = true WHERE list = new.id; RETURN NULL; END $$;
CREATE TRIGGER mark AFTER UPDATE OF gone ON lists FOR EACH ROW WHEN (new.gone AND NOT old.gone) EXECUTE FUNCTION mark();
INSERT INTO lists VALUES ('1'), ('2');
INSERT INTO lists VALUES ('3', true);
INSERT INTO todos VALUES ('a', '1'), ('b', '2'), ('c', '2');
SELECT snapsync.enable('lists', soft_delete_column => 'gone'), snapsync.enable('todos', soft_delete_column => 'gone');
SELECT t.tables('lists', 'todos');
SELECT t.push('{"lists": {"deleted": ["1"]}, "todos": {"updated": [{"id": "a", "list": "2"}]}}');
-- A record that marks the list is a deletion like any other: what is created in it, or was moved to it, goes with it, and what was moved away does not.
SELECT t.push('{"lists": {"deleted": ["1"]}, "todos": {"created": [{"id": "n", "list": "1"}], "updated": [{"id": "b", "list": "1"}]}}');
SELECT t.push('{"lists": {"updated": [{"id": "1", "gone": true}]}, "todos": {"created": [{"id": "n", "list": "1"}], "updated": [{"id": "b", "list": "1"}]}}');
SELECT t.push('{"lists": {"created": [{"id": "1", "gone": true}]}, "todos": {"created": [{"id": "n", "list": "1"}], "updated": [{"id": "a", "list": "2", "gone": false}]}}');
-- With another list that is edited, one that is marked already, a todo that is marked by itself, and one that fails.
SELECT t.push('{"lists": {"updated": [{"id": "1", "gone": true}, {"id": "2", "gone": false}, {"id": "3", "gone": true}]}, "todos": {"created": [{"id": "n", "list": "1"}, {"id": "m", "list": "2"}, {"id": "l", "list": "3", "gone": "no sense"}], "updated": [{"id": "b", "list": "1"}, {"id": "c", "gone": true}]}}');
CREATE FUNCTION is_full() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT new.gone AND (SELECT count(*) FROM todos AS t WHERE t.list = new.list AND NOT t.gone AND t.id <> new.id) >= 2 THEN
        RAISE 'the list is full' USING ERRCODE = '23514';
    END IF;
    RETURN new;
END
$$;
CREATE TRIGGER is_full BEFORE INSERT OR UPDATE OF list ON todos FOR EACH ROW EXECUTE FUNCTION is_full();
SELECT t.push('{"lists": {"deleted": ["1"]}, "todos": {"updated": [{"id": "a", "list": "2"}], "deleted": ["b"]}}');
-- An edit before that goes with the list, also where its record has the mark as it was, and waits for a value that is given up.
ALTER TABLE todos ADD title text UNIQUE;
UPDATE todos SET title = id;
SELECT t.begin_with();
SELECT t.push('{"lists": {"deleted": ["1"]}, "todos": {"updated": [{"id": "a", "list": "1", "title": "b", "gone": false}, {"id": "b", "title": "x"}]}}');
-- Where a value is given up, and taken by a todo that is created in the list.
ALTER TABLE todos ADD FOREIGN KEY (list) REFERENCES lists;
SELECT t.push(jsonb_build_object('lists', l, 'todos', '{"created": [{"id": "n", "list": "1", "title": "c"}], "updated": [{"id": "c", "title": "x"}], "deleted": ["b"]}'::jsonb))
FROM unnest(ARRAY['{"deleted": ["1"]}', '{"updated": [{"id": "1", "gone": true}]}']::jsonb[]) AS l;
DROP TABLE todos, lists;
DROP FUNCTION mark, is_full;

-- What was marked before the push comes back with its list, although a trigger has touched it meanwhile; it may be out of sight until then. Of what is in the log already, because there is
-- much of it, the same is known; and so is what the push has marked.
CREATE TABLE lists (id text PRIMARY KEY, gone boolean NOT NULL DEFAULT false);
CREATE TABLE todos (id text PRIMARY KEY, list text, title text, hidden boolean NOT NULL DEFAULT false, gone boolean NOT NULL DEFAULT false);
CREATE FUNCTION hide() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN UPDATE todos SET hidden = new.gone AND list = '1', gone = gone OR new.gone WHERE list = new.id; RETURN NULL; END $$;
CREATE TRIGGER hide AFTER UPDATE OF gone ON lists FOR EACH ROW EXECUTE FUNCTION hide();
ALTER TABLE todos ENABLE ROW LEVEL SECURITY;
CREATE POLICY s ON todos FOR SELECT USING (true);
CREATE POLICY u ON todos FOR UPDATE USING (NOT hidden) WITH CHECK (true);
CREATE POLICY i ON todos FOR INSERT WITH CHECK (true);
INSERT INTO lists VALUES ('1', true), ('2', false);
INSERT INTO todos VALUES ('a', '1', 'x', true, true), ('b', '2', 'x', false, false), ('c', '3', 'x', false, true);
SELECT snapsync.enable('lists', soft_delete_column => 'gone'), snapsync.enable('todos', soft_delete_column => 'gone');
SELECT t.tables('lists', 'todos');
\set undo '{"lists": {"updated": [{"id": "1", "gone": false}]}, "todos": {"updated": [{"id": "a", "title": "y", "gone": false}]}}'
\set more '{"lists": {"created": [{"id": "5"}, {"id": "6"}, {"id": "7"}, {"id": "8"}]}, "todos": {"updated": [{"id": "c", "title": "y", "gone": false}]}}'
\set mark '{"lists": {"created": [{"id": "5"}, {"id": "6"}, {"id": "7"}, {"id": "8"}], "updated": [{"id": "2", "gone": true}]}, "todos": {"updated": [{"id": "b", "list": "2", "gone": false}]}}'
SELECT t.push(:'undo');
SELECT t.push(:'more');
SELECT t.push(:'mark');
SET snapsync.flush_threshold = 2;
SELECT t.push(:'undo');
SELECT t.push(:'more');
SELECT t.push(:'mark');
RESET snapsync.flush_threshold;
ALTER POLICY s ON todos USING (NOT hidden);
SELECT t.push(:'undo');
DROP TABLE todos, lists;
DROP FUNCTION hide;
-- Nor does a cascade take it while it waits: here for another list's deletion.
CREATE TABLE lists (id text PRIMARY KEY);
CREATE TABLE todos (id text PRIMARY KEY, list text REFERENCES lists ON DELETE CASCADE, gone boolean NOT NULL DEFAULT false);
CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM lists WHERE id = '9') THEN
        RAISE 'there is list 9' USING ERRCODE = '23514';
    END IF;
    RETURN new;
END
$$;
INSERT INTO lists VALUES ('1'), ('2'), ('9');
INSERT INTO todos VALUES ('a', '1', false), ('b', '1', true);
CREATE TRIGGER wait BEFORE UPDATE ON todos FOR EACH ROW EXECUTE FUNCTION wait();
SELECT snapsync.enable('todos', soft_delete_column => 'gone');
SELECT t.tables('lists', 'todos');
SELECT t.push('{"lists": {"deleted": ["1", "9"]}, "todos": {"updated": [{"id": "a", "list": "2", "gone": false}]}}');
SELECT t.push('{"lists": {"deleted": ["1", "9"]}, "todos": {"updated": [{"id": "b", "list": "2", "gone": false}]}}');
DROP TABLE todos, lists;
-- And a deletion that waits for that is tried again as soon as the row has moved: before the push gives up what lets its user delete.
CREATE TABLE lists (id text PRIMARY KEY);
CREATE TABLE members (id text PRIMARY KEY, list text REFERENCES lists ON DELETE CASCADE);
CREATE TABLE todos (id text PRIMARY KEY, list text REFERENCES lists ON DELETE CASCADE);
INSERT INTO lists VALUES ('1'), ('2'), ('9');
INSERT INTO members VALUES ('m1', '1'), ('m9', '9');
INSERT INTO todos VALUES ('a', '1');
CREATE TRIGGER wait BEFORE UPDATE ON todos FOR EACH ROW EXECUTE FUNCTION wait();
SELECT t.tables('lists', 'members', 'todos');
ALTER TABLE lists ENABLE ROW LEVEL SECURITY;
CREATE POLICY sees ON lists FOR SELECT USING (true);
CREATE POLICY deletes ON lists FOR DELETE USING (id IN (SELECT list FROM members));
SELECT t.push('{"lists": {"deleted": ["1", "9"]}, "members": {"deleted": ["m1"]}, "todos": {"updated": [{"id": "a", "list": "2"}]}}');
DROP TABLE members, todos, lists;
DROP FUNCTION wait;
-- A row that is to be moved, and cannot be, is not deleted with its former parent, be it by a cascade from farther above; what hangs on nothing of it is.
CREATE TABLE folders (id text PRIMARY KEY);
CREATE TABLE lists (id text PRIMARY KEY, folder text REFERENCES folders ON DELETE CASCADE);
CREATE TABLE todos (id text PRIMARY KEY, list text REFERENCES lists ON DELETE CASCADE, title text UNIQUE CHECK (title <> 'bad'));
INSERT INTO folders VALUES ('f'), ('g');
INSERT INTO lists VALUES ('1', 'f'), ('2', 'g'), ('3', 'g');
INSERT INTO todos VALUES ('a', '1', 'a'), ('b', '1', 'b'), ('c', '2', 'c');
SELECT t.tables('folders', 'lists', 'todos');
SELECT t.push('{"lists": {"deleted": ["1", "3"]}, "todos": {"updated": [{"id": "a", "list": "2", "title": "bad"}, {"id": "b", "title": "x"}]}}');
SELECT t.push('{"lists": {"deleted": ["1", "2"]}, "todos": {"updated": [{"id": "a", "list": "2", "title": "c"}, {"id": "b", "title": "x"}]}}');
SELECT t.push('{"folders": {"deleted": ["f"]}, "todos": {"updated": [{"id": "a", "list": "nowhere"}]}}');
SELECT t.push('{"folders": {"deleted": ["f"]}, "lists": {"updated": [{"id": "1", "folder": "nowhere"}], "deleted": ["3"]}}');
-- Where it fails with another value, or moves nothing, it goes with the list.
SELECT t.push('{"lists": {"deleted": ["1"]}, "todos": {"updated": [{"id": "a", "list": "1", "title": "bad"}]}}');
-- It moves after something else, and is deleted with the list to which it was moved.
SELECT t.push('{"lists": {"deleted": ["1"]}, "todos": {"updated": [{"id": "a", "list": "2", "title": "c"}, {"id": "c", "title": "y"}], "created": [{"id": "z", "title": "bad"}]}}');
SELECT t.push('{"lists": {"deleted": ["1", "2"]}, "todos": {"updated": [{"id": "a", "list": "2"}], "created": [{"id": "z", "title": "bad"}]}}');
-- So it does where it stays in the list and another reference of it is refused.
ALTER TABLE todos ADD above text REFERENCES todos;
SELECT snapsync.enable('todos');
SELECT t.push('{"lists": {"deleted": ["1"]}, "todos": {"updated": [{"id": "a", "above": "nowhere"}, {"id": "b", "list": "1", "title": "b", "above": "nowhere"}]}}');
DROP TABLE todos, lists, folders;

-- New rows that refer to each other are written, whatever is wrong with another one; so are an item's deletion and the closing of its list.
CREATE TABLE lists (id text PRIMARY KEY, open boolean NOT NULL DEFAULT true, main text);
CREATE TABLE todos (id text PRIMARY KEY, list text NOT NULL REFERENCES lists ON DELETE CASCADE, title text CHECK (title <> 'bad'));
ALTER TABLE lists ADD FOREIGN KEY (main) REFERENCES todos ON DELETE SET NULL;
ALTER TABLE todos ENABLE ROW LEVEL SECURITY;
CREATE POLICY s ON todos FOR SELECT USING (true);
CREATE POLICY i ON todos FOR INSERT WITH CHECK (true);
CREATE POLICY u ON todos FOR UPDATE USING (true);
CREATE POLICY d ON todos FOR DELETE USING (list IN (SELECT id FROM lists WHERE open));
INSERT INTO lists VALUES ('1');
INSERT INTO todos VALUES ('a', '1', 'x');
SELECT t.tables('lists', 'todos');
SELECT t.push('{"lists": {"created": [{"id": "2", "main": "b"}, {"id": "3", "main": "c"}]}, "todos": {"created": [{"id": "b", "list": "2"}, {"id": "c", "list": "3"}, {"id": "d", "list": "2"}], "updated": [{"id": "a", "title": "bad"}]}}');
-- Whatever is wrong: a list that is not there, a trigger that refuses, a value that is taken, a policy; one beside whole circles, and one within them.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF new.title = 'no' THEN RAISE 'no'; END IF; RETURN new; END $$;
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON todos FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE POLICY mine ON todos AS RESTRICTIVE FOR INSERT WITH CHECK (title IS DISTINCT FROM 'others');
CREATE UNIQUE INDEX ON todos (title);
SELECT wrong, t.push(jsonb_build_object('lists', '{"created": [{"id": "2", "main": "b"}, {"id": "3", "main": "c"}]}'::jsonb, 'todos', jsonb_build_object('created',
    jsonb_build_array('{"id": "b", "list": "2"}'::jsonb, wrong, '{"id": "c", "list": "3"}'::jsonb, '{"id": "d", "list": "2"}'::jsonb))))
FROM unnest(ARRAY['{"id": "x", "list": "4"}', '{"id": "x", "list": "2", "title": "no"}', '{"id": "x", "list": "2", "title": "x"}', '{"id": "x", "list": "1", "title": "others"}']::jsonb[]) AS wrong;
SELECT t.push('{"lists": {"created": [{"id": "2", "main": "b"}, {"id": "3", "main": "c"}]}, "todos": {"created": [{"id": "b", "list": "2", "title": "no"}, {"id": "c", "list": "3"}, {"id": "d", "list": "2"}]}}');
-- Those that did, and are deleted.
ALTER TABLE lists DROP CONSTRAINT lists_main_fkey, ADD FOREIGN KEY (main) REFERENCES todos;
ALTER TABLE todos DROP CONSTRAINT todos_list_fkey, ADD FOREIGN KEY (list) REFERENCES lists;
INSERT INTO lists VALUES ('7'), ('8'), ('9');
INSERT INTO todos VALUES ('g', '7'), ('h', '8'), ('i', '9');
UPDATE lists SET main = CASE id WHEN '7' THEN 'g' ELSE 'h' END WHERE id IN ('7', '8');
SELECT t.tables('lists', 'todos');
SELECT t.push('{"lists": {"deleted": ["7", "8", "9"]}, "todos": {"deleted": ["h", "g"]}}');
DELETE FROM todos WHERE id = 'i';
UPDATE lists SET main = NULL;
DELETE FROM todos WHERE id IN ('g', 'h');
DELETE FROM lists WHERE id IN ('7', '8', '9');
ALTER TABLE lists DROP CONSTRAINT lists_main_fkey, ADD FOREIGN KEY (main) REFERENCES todos ON DELETE SET NULL;
ALTER TABLE todos DROP CONSTRAINT todos_list_fkey, ADD FOREIGN KEY (list) REFERENCES lists ON DELETE CASCADE;
SELECT t.tables('lists', 'todos');
SELECT t.push('{"lists": {"updated": [{"id": "1", "open": false}]}, "todos": {"deleted": ["a"]}}');
ALTER TABLE lists DROP COLUMN main;
DROP TABLE todos, lists;
DROP FUNCTION refuse;

-- New rows that refer to each other, of which the one's policy or trigger looks for the other: as online, this one is created without its reference, and gets that when the first is there.
CREATE TABLE posts (id text PRIMARY KEY, title text CHECK (title <> 'bad'), owner name NOT NULL DEFAULT current_user, closed boolean NOT NULL DEFAULT false, cover text);
CREATE TABLE images (id text PRIMARY KEY, post text NOT NULL REFERENCES posts ON DELETE CASCADE, path text CHECK (path <> 'bad'));
ALTER TABLE posts ADD FOREIGN KEY (cover) REFERENCES images ON DELETE SET NULL;
ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
ALTER TABLE images ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON posts USING (owner = current_user);
CREATE POLICY p ON images USING (EXISTS (SELECT FROM posts AS p WHERE p.id = post AND NOT p.closed));
INSERT INTO posts VALUES ('1', 'old', 'alice', false), ('2', 'closed', 'alice', true), ('3', 'of others', 'bob', false);
SELECT t.tables('posts', 'images');
\set pair '{"posts": {"created": [{"id": "p", "title": "x", "cover": "i"}]}, "images": {"created": [{"id": "i", "post": "p", "path": "a"}]}}'
SELECT t.push(:'pair');
-- A post may have more than its cover, and none; an old one gets a new cover.
SELECT t.push('{"posts": {"created": [{"id": "p", "cover": "i"}, {"id": "q", "title": "y", "cover": "k"}, {"id": "r", "title": "z", "cover": null}], "updated": [{"id": "1", "cover": "l"}]},
    "images": {"created": [{"id": "j", "post": "p"}, {"id": "i", "post": "p"}, {"id": "k", "post": "q", "path": "b"}, {"id": "l", "post": "1"}, {"id": "m", "post": "r"}]}}');
SELECT t.push(jsonb_build_object('posts', jsonb_build_object('created', (SELECT jsonb_agg(jsonb_build_object('id', 'p' || n, 'cover', 'i' || n)) FROM generate_series(1, 60) AS n)),
    'images', jsonb_build_object('created', (SELECT jsonb_agg(jsonb_build_object('id', 'i' || n, 'post', 'p' || n)) FROM generate_series(1, 60) AS n))));
-- Beside what closes a post, and opens one.
SELECT t.push('{"posts": {"created": [{"id": "p", "cover": "i"}], "updated": [{"id": "1", "closed": true}]}, "images": {"created": [{"id": "i", "post": "p"}, {"id": "l", "post": "1"}]}}');
SELECT t.push('{"posts": {"created": [{"id": "p", "cover": "i"}], "updated": [{"id": "1", "closed": true}, {"id": "2", "closed": false}]}, "images": {"created": [{"id": "i", "post": "p"}, {"id": "l", "post": "1"}, {"id": "m", "post": "2"}]}}');
-- One bad image, post, or reference takes nothing of the others along.
SELECT wrong, t.push(jsonb_build_object('posts', jsonb_build_object('created', '[{"id": "p", "cover": "i"}, {"id": "r", "cover": "m"}]'::jsonb || coalesce(wrong -> 'post', '[]')),
    'images', jsonb_build_object('created', '[{"id": "j", "post": "r"}, {"id": "i", "post": "p"}, {"id": "m", "post": "r"}]'::jsonb || (wrong -> 'image'))))
FROM unnest(ARRAY['{"image": {"id": "x", "post": "p", "path": "bad"}}', '{"image": {"id": "x", "post": "3"}}', '{"post": {"id": "s", "cover": "x"}, "image": {"id": "x", "post": "s", "path": "bad"}}',
    '{"post": {"id": "s", "cover": "x", "title": "bad"}, "image": {"id": "x", "post": "s"}}', '{"post": {"id": "s", "cover": "x"}, "image": {"id": "x", "post": "t"}}',
    '{"post": {"id": "1", "cover": "x"}, "image": {"id": "x", "post": "1"}}']::jsonb[]) AS wrong;
-- Whoever may not change what is set later is told why the row could not be created as it was sent. So it is where he may not see the row.
REVOKE UPDATE ON posts FROM alice;
GRANT UPDATE (title) ON posts TO alice;
SELECT t.push(:'pair');
GRANT UPDATE (cover) ON posts TO alice;
SELECT t.push(:'pair');
GRANT ALL ON posts TO alice;
DROP POLICY p ON posts;
CREATE POLICY i ON posts FOR INSERT WITH CHECK (true);
CREATE POLICY s ON posts FOR SELECT USING (owner = current_user);
SELECT t.push(:'pair');
CREATE POLICY u ON posts FOR UPDATE USING (cover IS NULL) WITH CHECK (true);
SELECT t.push(:'pair');
-- A default does not take the place of what comes later, nor does a trigger; what one puts back stands so.
ALTER TABLE posts ALTER cover SET DEFAULT 'nowhere';
SELECT t.push(:'pair');
CREATE FUNCTION put_back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.cover := OLD.cover; RETURN NEW; END $$;
CREATE TRIGGER put_back BEFORE UPDATE ON posts FOR EACH ROW EXECUTE FUNCTION put_back();
SELECT t.push(:'pair');
CREATE OR REPLACE FUNCTION put_back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
SELECT t.push(:'pair');
DROP TRIGGER put_back ON posts;
-- A trigger that looks for the post, in place of the policy.
ALTER TABLE images DISABLE ROW LEVEL SECURITY;
SELECT t.push(:'pair');
CREATE FUNCTION has_post() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NOT EXISTS (SELECT FROM posts WHERE id = NEW.post AND NOT closed) THEN RAISE 'no open post'; END IF; RETURN NEW; END $$;
CREATE TRIGGER has_post BEFORE INSERT ON images FOR EACH ROW EXECUTE FUNCTION has_post();
SELECT t.push(:'pair');
ALTER FUNCTION has_post STABLE;
SELECT t.push(:'pair');
DROP TRIGGER has_post ON images;
ALTER TABLE images ENABLE ROW LEVEL SECURITY;
-- What is sent with its mark of deletion; and the same push once more.
ALTER TABLE posts ADD gone boolean NOT NULL DEFAULT false;
SELECT snapsync.enable('posts', soft_delete_column => 'gone');
SELECT t.push('{"posts": {"created": [{"id": "p", "cover": "i", "gone": true}, {"id": "q", "cover": "k"}]}, "images": {"created": [{"id": "i", "post": "p"}, {"id": "k", "post": "q"}]}}');
BEGIN;
SET LOCAL ROLE alice;
SELECT push_changes(:'pair', client_id => 'c', push_id => '7b1e7d80-0000-4000-8000-000000000001');
SELECT push_changes(:'pair', client_id => 'c', push_id => '7b1e7d80-0000-4000-8000-000000000001');
SELECT push_changes(:'pair', client_id => 'c');
SELECT push_changes(:'pair', client_id => 'c', on_rejected => 'report');
SELECT id, title, cover FROM posts WHERE cover IS NOT NULL;
ROLLBACK;
-- Where both keys may be NULL, the one that the policy asks for is not left out.
ALTER TABLE images ALTER post DROP NOT NULL;
SELECT snapsync.enable('images');
SELECT t.begin_with();
SELECT t.push(:'pair');
-- Where neither may, nothing can be left out.
ALTER TABLE images ALTER post SET NOT NULL;
DELETE FROM posts;
ALTER TABLE posts ALTER cover SET NOT NULL;
SELECT snapsync.enable('posts', soft_delete_column => 'gone'), snapsync.enable('images');
SELECT t.begin_with();
SELECT t.push(:'pair');
DROP TABLE images, posts CASCADE;
DROP FUNCTION put_back, has_post;
-- What a policy of the circle reads is created by the same push, and may refer to the circle itself: who takes part in a conversation, and what he has read of it.
CREATE TABLE convs (id text PRIMARY KEY, title text, owner name NOT NULL DEFAULT current_user);
CREATE TABLE members (id text PRIMARY KEY, conv text NOT NULL REFERENCES convs ON DELETE CASCADE, who name);
CREATE TABLE msgs (id text PRIMARY KEY, conv text NOT NULL REFERENCES convs ON DELETE CASCADE, body text CHECK (body <> 'bad'));
ALTER TABLE convs ADD last text REFERENCES msgs ON DELETE SET NULL;
CREATE FUNCTION my_convs() RETURNS SETOF text LANGUAGE sql STABLE SECURITY DEFINER AS $$ SELECT conv FROM members WHERE who = session_user OR who = 'alice' $$;
ALTER TABLE convs ENABLE ROW LEVEL SECURITY;
ALTER TABLE members ENABLE ROW LEVEL SECURITY;
ALTER TABLE msgs ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON convs USING (owner = current_user OR id IN (SELECT my_convs()));
CREATE POLICY p ON members USING (who = current_user OR conv IN (SELECT my_convs()));
CREATE POLICY p ON msgs USING (conv IN (SELECT my_convs()));
SELECT t.tables('convs', 'members', 'msgs');
\set chat '{"convs": {"created": [{"id": "c", "last": "m"}]}, "members": {"created": [{"id": "x", "conv": "c", "who": "alice"}, {"id": "y", "conv": "c", "who": "bob"}]}, "msgs": {"created": [{"id": "m", "conv": "c"}, {"id": "l", "conv": "c"}]}}'
SELECT t.push(:'chat');
ALTER POLICY p ON msgs USING (EXISTS (SELECT FROM members AS m WHERE m.conv = msgs.conv AND m.who = current_user));
SELECT t.push(:'chat');
ALTER TABLE members ADD last_read text REFERENCES msgs ON DELETE SET NULL;
SELECT snapsync.enable('members');
SELECT t.push(jsonb_set(:'chat', '{members,created,0,last_read}', '"m"'));
-- Beside a bad message, and a member of another conversation.
SELECT t.push(jsonb_set(:'chat', '{msgs,created,2}', '{"id": "k", "conv": "c", "body": "bad"}'));
SELECT t.push(jsonb_set(:'chat', '{members,created,2}', '{"id": "z", "conv": "d", "who": "alice"}'));
SELECT t.push(jsonb_set(:'chat', '{members,created,0,last_read}', '"m"') || jsonb_set(:'chat', '{msgs,created,2}', '{"id": "k", "conv": "c", "body": "bad"}') - 'members');
DROP TABLE convs, members, msgs CASCADE;
DROP FUNCTION my_convs;
-- Three tables, and a table of its own: a thread that is its own root, two who name each other.
CREATE TABLE sites (id text PRIMARY KEY, home text);
CREATE TABLE pages (id text PRIMARY KEY, site text NOT NULL REFERENCES sites, top text, up text REFERENCES pages);
CREATE TABLE parts (id text PRIMARY KEY, page text NOT NULL REFERENCES pages);
ALTER TABLE sites ADD FOREIGN KEY (home) REFERENCES parts;
ALTER TABLE pages ADD FOREIGN KEY (top) REFERENCES parts;
ALTER TABLE pages ENABLE ROW LEVEL SECURITY;
ALTER TABLE parts ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON pages USING (EXISTS (SELECT FROM sites AS s WHERE s.id = site));
CREATE POLICY p ON parts USING (EXISTS (SELECT FROM pages AS p WHERE p.id = page));
SELECT t.tables('sites', 'pages', 'parts');
SELECT t.push('{"sites": {"created": [{"id": "s", "home": "c"}]}, "pages": {"created": [{"id": "b", "site": "s", "up": "a", "top": "d"}, {"id": "a", "site": "s", "up": "b"}, {"id": "e", "site": "s", "up": "b"}]}, "parts": {"created": [{"id": "c", "page": "a"}, {"id": "d", "page": "b"}, {"id": "f", "page": "e"}]}}');
DROP TABLE sites, pages, parts CASCADE;
CREATE TABLE notes (id text PRIMARY KEY, root text REFERENCES notes, title text);
CREATE FUNCTION is_there(asked text) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER AS $$ SELECT EXISTS (SELECT FROM notes WHERE id = asked) $$;
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON notes USING (root IS NULL OR is_there(root));
SELECT t.tables('notes');
SELECT t.push('{"notes": {"created": [{"id": "a", "root": "a"}, {"id": "b", "root": "a"}, {"id": "c", "root": "d"}, {"id": "d", "root": "c"}, {"id": "e", "root": "b"}]}}');
SELECT t.push('{"notes": {"created": [{"id": "a", "root": "a"}, {"id": "b", "root": "a"}, {"id": "c", "root": "d"}, {"id": "d", "root": "c"}, {"id": "e", "root": "x"}]}}');
DROP TABLE notes;
DROP FUNCTION is_there;

-- Each row takes the next one's value.
CREATE TABLE queue (id text PRIMARY KEY, place int UNIQUE);
INSERT INTO queue SELECT i, i FROM generate_series(1, 60) AS i;
SELECT t.tables('queue');
SELECT t.push(jsonb_build_object('queue', jsonb_build_object('updated', (SELECT jsonb_agg(jsonb_build_object('id', i, 'place', i + 1) ORDER BY i) FROM generate_series(1, 60) AS i))));
DROP TABLE queue;

-- Created rows are inserted in the order of the push: triggers find the parents, and counters count. A chain whose policy asks for the parent is inserted one by one.
CREATE TABLE folders (id text PRIMARY KEY, parent text REFERENCES folders, name text, path text, number int GENERATED ALWAYS AS IDENTITY);
CREATE FUNCTION path() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    new.path := coalesce((SELECT path || '/' FROM folders WHERE id = new.parent), '') || new.name;
    RETURN new;
END
$$;
CREATE TRIGGER path BEFORE INSERT ON folders FOR EACH ROW EXECUTE FUNCTION path();
SELECT snapsync.enable('folders', readonly => '{path}');
SELECT push_changes('{"folders": {"created": [{"id": "z", "name": "a"}, {"id": "y", "parent": "z", "name": "b"}, {"id": "x", "parent": "y", "name": "c"}]}}');
SELECT number, path FROM folders ORDER BY number;
ALTER TABLE folders ENABLE ROW LEVEL SECURITY;
CREATE POLICY s ON folders FOR SELECT USING (true);
CREATE POLICY i ON folders FOR INSERT WITH CHECK (EXISTS (SELECT FROM folders AS p WHERE p.id = folders.parent));
GRANT ALL ON folders TO alice;
SET ROLE alice;
SELECT push_changes(json_build_object('folders', json_build_object('created', (
    SELECT json_agg(json_build_object('id', 100 - i, 'parent', CASE WHEN i = 1 THEN 'z' ELSE (101 - i)::text END, 'name', i) ORDER BY i) FROM generate_series(1, 40) AS i))));
RESET ROLE;
SELECT count(*), max(length(path)) FROM folders;
DROP TABLE folders;

-- A trigger that keeps rows says nothing of it, and may do so because of the order: of all orders the one counts that lacks the fewest. What is edited before its list is closed.
CREATE TABLE lists (id text PRIMARY KEY, open boolean NOT NULL DEFAULT true);
CREATE TABLE todos (id text PRIMARY KEY, list text REFERENCES lists, title text);
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (SELECT open FROM lists WHERE id = coalesce(new.list, old.list)) THEN RETURN NULL; END IF;
    RETURN coalesce(new, old);
END
$$;
CREATE TRIGGER keep BEFORE INSERT OR UPDATE OR DELETE ON todos FOR EACH ROW EXECUTE FUNCTION keep();
INSERT INTO lists VALUES ('1'), ('2');
INSERT INTO todos VALUES ('a', '1', 'x'), ('b', '1', 'x'), ('c', '2', 'x');
UPDATE lists SET open = false WHERE id = '2';
SELECT t.tables('lists', 'todos');
\set keep '{"lists": {"updated": [{"id": "1", "open": false}]}, "todos": {"updated": [{"id": "a", "title": "y"}], "created": [{"id": "n", "list": "1"}], "deleted": ["b"]}}'
SELECT t.push(:'keep');
SELECT t.push('{"lists": {"updated": [{"id": "2", "open": true}]}, "todos": {"updated": [{"id": "c", "title": "y"}], "created": [{"id": "n", "list": "2"}]}}');
-- What is kept in every order is kept, and the others are written.
SELECT t.push('{"lists": {"updated": [{"id": "1", "open": false}]}, "todos": {"updated": [{"id": "a", "title": "y"}, {"id": "c", "title": "y"}]}}');
SELECT t.push('{"lists": {"created": [{"id": "3"}]}, "todos": {"updated": [{"id": "c", "title": "y"}]}}');
-- One that is kept is better than one that fails.
CREATE FUNCTION one_open() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NOT EXISTS (SELECT FROM todos WHERE id = 'b') THEN RAISE 'it has no b'; END IF; RETURN new; END $$;
CREATE TRIGGER one_open BEFORE UPDATE ON lists FOR EACH ROW EXECUTE FUNCTION one_open();
SELECT t.push('{"lists": {"updated": [{"id": "1", "open": false}]}, "todos": {"updated": [{"id": "a", "title": "y"}], "deleted": ["b"]}}');
DROP TRIGGER one_open ON lists;
-- It puts the edit back.
CREATE OR REPLACE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NOT (SELECT open FROM lists WHERE id = old.list) THEN RETURN old; END IF;
    RETURN coalesce(new, old);
END
$$;
SELECT t.push(:'keep');
-- Also where deletions are marks.
ALTER TABLE todos ADD gone boolean NOT NULL DEFAULT false;
SELECT snapsync.enable('todos', soft_delete_column => 'gone');
SELECT t.begin_with();
SELECT t.push('{"lists": {"updated": [{"id": "1", "open": false}]}, "todos": {"deleted": ["b"]}}');
DROP TABLE todos, lists;
DROP FUNCTION keep, one_open;

-- It keeps a row as long as others are there that are deleted, too, and no key between them says so.
CREATE TABLE notes (id text PRIMARY KEY, todo text, v text);
CREATE TABLE todos (id text PRIMARY KEY, title text);
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN TG_TABLE_NAME = 'todos' AND EXISTS (SELECT FROM notes WHERE todo = old.id) THEN NULL ELSE old END; END $$;
CREATE TRIGGER keep BEFORE DELETE ON todos FOR EACH ROW EXECUTE FUNCTION keep();
CREATE TRIGGER keep BEFORE DELETE ON notes FOR EACH ROW EXECUTE FUNCTION keep();
INSERT INTO todos VALUES ('a'), ('b');
INSERT INTO notes VALUES ('n', 'a'), ('m', 'b'), ('o', NULL);
SELECT t.tables('notes', 'todos');
SELECT t.push('{"notes": {"deleted": ["n"]}, "todos": {"deleted": ["a"]}}');
SELECT t.push('{"notes": {"deleted": ["n"], "updated": [{"id": "o", "v": "y"}]}, "todos": {"deleted": ["a", "b"], "updated": [{"id": "b", "title": "y"}]}}');
-- Also where deletions are records that set the mark.
DROP TRIGGER keep ON todos;
DROP TRIGGER keep ON notes;
ALTER TABLE notes ADD gone boolean NOT NULL DEFAULT false;
ALTER TABLE todos ADD gone boolean NOT NULL DEFAULT false;
CREATE OR REPLACE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN TG_TABLE_NAME = 'todos' AND EXISTS (SELECT FROM notes WHERE todo = old.id AND NOT gone) THEN NULL ELSE new END; END $$;
CREATE TRIGGER keep BEFORE UPDATE ON todos FOR EACH ROW EXECUTE FUNCTION keep();
CREATE TRIGGER keep BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION keep();
SELECT snapsync.enable('notes', soft_delete_column => 'gone'), snapsync.enable('todos', soft_delete_column => 'gone');
SELECT t.begin_with();
SELECT t.push('{"notes": {"updated": [{"id": "n", "gone": true}]}, "todos": {"updated": [{"id": "a", "gone": true}]}}');
DROP TABLE notes, todos;
DROP FUNCTION keep;

-- A created row looks for another one, by a key or not.
CREATE TABLE posts (id text PRIMARY KEY, team text);
CREATE TABLE comments (id text PRIMARY KEY, post text, team text);
CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN new.team := (SELECT team FROM posts WHERE id = new.post); RETURN new; END $$;
CREATE TRIGGER fill BEFORE INSERT ON comments FOR EACH ROW EXECUTE FUNCTION fill();
ALTER TABLE comments ENABLE ROW LEVEL SECURITY;
CREATE POLICY s ON comments FOR SELECT USING (team = 'red');
CREATE POLICY i ON comments FOR INSERT WITH CHECK (true);
SELECT t.tables('comments', 'posts');
\set fill '{"posts": {"created": [{"id": "p", "team": "red"}]}, "comments": {"created": [{"id": "c", "post": "p"}]}}'
SELECT t.push(:'fill');
SELECT t.push('{"posts": {"created": [{"id": "p", "team": "blue"}, {"id": "q", "team": "red"}]}, "comments": {"created": [{"id": "c", "post": "p"}, {"id": "d", "post": "q"}]}}');
CREATE OR REPLACE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN new.team := 'red'; RETURN CASE WHEN new.post IN (SELECT id FROM posts) THEN new END; END $$;
SELECT t.push(:'fill');
-- What goes with a parent that is deleted after it was created lacks nothing.
CREATE FUNCTION cascade() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN DELETE FROM comments WHERE post = old.id; RETURN NULL; END $$;
CREATE TRIGGER cascade AFTER DELETE ON posts FOR EACH ROW EXECUTE FUNCTION cascade();
INSERT INTO posts VALUES ('o', 'red');
SELECT t.begin_with();
SELECT t.push('{"posts": {"deleted": ["o"]}, "comments": {"created": [{"id": "c", "post": "o"}]}}');
DROP TABLE comments, posts;

-- Of tables that refer to each other that one is inserted first which the other cannot do without.
CREATE TABLE talks (id text PRIMARY KEY, team text, last text);
CREATE TABLE messages (id text PRIMARY KEY, talk text NOT NULL REFERENCES talks, team text);
ALTER TABLE talks ADD FOREIGN KEY (last) REFERENCES messages;
CREATE OR REPLACE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN new.team := (SELECT team FROM talks WHERE id = new.talk); RETURN new; END $$;
CREATE TRIGGER fill BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION fill();
SELECT t.tables('messages', 'talks');
\set talk '{"talks": {"created": [{"id": "t", "team": "red"}, {"id": "u", "team": "red", "last": "n"}]}, "messages": {"created": [{"id": "m", "talk": "t"}, {"id": "n", "talk": "u"}]}}'
SELECT t.push(:'talk');
CREATE OR REPLACE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN IF new.talk NOT IN (SELECT id FROM talks) THEN RAISE 'it has no talk'; END IF; RETURN new; END $$;
SELECT t.push(:'talk');
-- And deleted last.
INSERT INTO talks VALUES ('t', 'red');
INSERT INTO messages VALUES ('m', 't');
SELECT t.begin_with();
CREATE FUNCTION is_empty() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN old.id NOT IN (SELECT talk FROM messages) THEN old END; END $$;
CREATE TRIGGER is_empty BEFORE DELETE ON talks FOR EACH ROW EXECUTE FUNCTION is_empty();
SELECT t.push('{"talks": {"deleted": ["t"]}, "messages": {"deleted": ["m"]}}');
ALTER TABLE talks DROP COLUMN last;
DROP TABLE messages, talks;
DROP FUNCTION fill, cascade, is_empty;

-- Where keys leave it open which goes first, both are tried, for new rows and for edits.
CREATE TABLE lists (id text PRIMARY KEY, open boolean NOT NULL DEFAULT true, main text);
CREATE TABLE todos (id text PRIMARY KEY, list text REFERENCES lists, title text);
ALTER TABLE lists ADD FOREIGN KEY (main) REFERENCES todos;
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN (SELECT open FROM lists WHERE id = new.list) THEN new END; END $$;
CREATE TRIGGER keep BEFORE INSERT OR UPDATE ON todos FOR EACH ROW EXECUTE FUNCTION keep();
INSERT INTO lists VALUES ('1');
INSERT INTO todos VALUES ('a', '1', 'x');
SELECT t.tables('lists', 'todos');
SELECT t.push('{"lists": {"created": [{"id": "2"}]}, "todos": {"created": [{"id": "b", "list": "2"}]}}');
SELECT t.push('{"lists": {"updated": [{"id": "1", "open": false}]}, "todos": {"updated": [{"id": "a", "title": "y"}]}}');
SELECT t.push('{"lists": {"updated": [{"id": "1", "open": false}]}, "todos": {"created": [{"id": "b", "list": "1"}]}}');
UPDATE lists SET open = false;
SELECT t.begin_with();
SELECT t.push('{"lists": {"updated": [{"id": "1", "open": true}]}, "todos": {"updated": [{"id": "a", "title": "y"}]}}');
ALTER TABLE lists DROP COLUMN main;
DROP TABLE todos, lists;
DROP FUNCTION keep;

-- A value by which rows are referred to passes from one row to another: what the push puts under it hangs on the new one, and does not go with the old one.
CREATE TABLE products (id text PRIMARY KEY, sku text NOT NULL UNIQUE, title text CHECK (length(title) < 5));
CREATE TABLE stock (id text PRIMARY KEY, sku text REFERENCES products (sku) ON UPDATE CASCADE ON DELETE CASCADE, n int);
CREATE TABLE moves (id text PRIMARY KEY, stock text REFERENCES stock ON DELETE CASCADE);
INSERT INTO products VALUES ('p1', 'A', 'old'), ('p2', 'B', 'b');
INSERT INTO stock VALUES ('s1', 'A', 1), ('s2', 'B', 2), ('s3', 'B', 3);
SELECT t.tables('products', 'stock', 'moves');
\set move '{"products": {"created": [{"id": "p9", "sku": "A"}], "deleted": ["p1"]}, "stock": {"updated": [{"id": "s2", "sku": "A"}]}}'
\set create '{"products": {"created": [{"id": "p9", "sku": "A"}], "deleted": ["p1"]}, "stock": {"created": [{"id": "s9", "sku": "A"}], "updated": [{"id": "s3", "n": 4}]}, "moves": {"created": [{"id": "m", "stock": "s9"}]}}'
\set rename '{"products": {"updated": [{"id": "p2", "sku": "A"}], "deleted": ["p1"]}, "stock": {"created": [{"id": "s9", "sku": "A"}]}}'
\set away '{"products": {"created": [{"id": "p9", "sku": "A"}], "updated": [{"id": "p1", "sku": "Z"}]}, "stock": {"created": [{"id": "s9", "sku": "A"}], "updated": [{"id": "s2", "sku": "A"}]}}'
\set swap '{"products": {"updated": [{"id": "p1", "sku": "Z"}, {"id": "p2", "sku": "A"}]}, "stock": {"created": [{"id": "s9", "sku": "A"}], "updated": [{"id": "s1", "sku": "A"}]}}'
SELECT t.push(:'move');
SELECT t.push(:'create');
SELECT t.push(:'rename');
SELECT t.push(:'away');
SELECT t.push(:'swap');
-- Beside what cannot be written.
CREATE FUNCTION t.beside(push jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_set(push, '{products,created}', coalesce(push #> '{products,created}', '[]') || '[{"id": "bad", "sku": "X", "title": "too long"}]') $$;
SELECT t.try(t.beside(p::jsonb), '{products,stock,moves}', 'report') FROM unnest(ARRAY[:'move', :'create', :'rename', :'away', :'swap']) AS p;
-- If the old one stays, what is put under the value is its.
CREATE TABLE kept (id text PRIMARY KEY, sku text REFERENCES products (sku));
INSERT INTO kept VALUES ('k', 'A');
SELECT t.try(p::jsonb, '{products,stock,moves}', 'report') FROM unnest(ARRAY[:'move', :'create']) AS p;
DROP TABLE kept;
-- What hangs on it is moved away before. Without a cascade, too.
\set both '{"products": {"created": [{"id": "p9", "sku": "A"}], "deleted": ["p1"]}, "stock": {"updated": [{"id": "s2", "sku": "A"}, {"id": "s1", "sku": "B"}]}}'
\set deleted '{"products": {"created": [{"id": "p9", "sku": "A"}], "deleted": ["p1"]}, "stock": {"created": [{"id": "s9", "sku": "A"}], "updated": [{"id": "s2", "n": 7}], "deleted": ["s1"]}}'
SELECT t.push(:'both');
ALTER TABLE stock DROP CONSTRAINT stock_sku_fkey, ADD FOREIGN KEY (sku) REFERENCES products (sku);
SELECT t.push(:'both');
SELECT t.push(:'deleted');
SELECT t.try(t.beside(p::jsonb), '{products,stock,moves}', 'report') FROM unnest(ARRAY[:'both', :'deleted']) AS p;
-- Each waits for the next.
\set chain '{"products": {"created": [{"id": "p9", "sku": "A"}, {"id": "p8", "sku": "B"}], "deleted": ["p1", "p2"]}, "stock": {"updated": [{"id": "s1", "sku": "B"}], "deleted": ["s2", "s3"]}}'
SELECT t.push(:'chain');
DROP TABLE moves, stock, products;

-- So it is with a membership that is ended and begun anew, and with a label that others' policies read.
CREATE TABLE members (id text PRIMARY KEY, project text NOT NULL, who text NOT NULL, role text, UNIQUE (project, who));
CREATE TABLE tasks (id text PRIMARY KEY, project text NOT NULL, assignee text, FOREIGN KEY (project, assignee) REFERENCES members (project, who) ON DELETE SET NULL (assignee));
INSERT INTO members VALUES ('1', 'p', 'bob');
INSERT INTO tasks VALUES ('t', 'p', 'bob'), ('u', 'p', NULL);
SELECT t.tables('members', 'tasks');
SELECT t.push('{"members": {"created": [{"id": "9", "project": "p", "who": "bob", "role": "admin"}], "deleted": ["1"]}, "tasks": {"updated": [{"id": "u", "assignee": "bob"}]}}');
DROP TABLE tasks, members;
CREATE TABLE labels (id text PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE notes (id text PRIMARY KEY, label text NOT NULL REFERENCES labels (name) ON UPDATE CASCADE ON DELETE CASCADE);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON notes USING (EXISTS (SELECT FROM labels AS l WHERE l.name = label));
INSERT INTO labels VALUES ('l1', 'work'), ('l2', 'home');
INSERT INTO notes VALUES ('n1', 'work'), ('n2', 'home');
SELECT t.tables('labels', 'notes');
SELECT t.push('{"labels": {"created": [{"id": "l9", "name": "work"}], "updated": [{"id": "l1", "name": "job"}]}, "notes": {"created": [{"id": "n9", "label": "work"}], "updated": [{"id": "n2", "label": "work"}]}}');
DROP TABLE notes, labels;
-- In a table that refers to itself, too, which one statement writes.
CREATE TABLE paths (id text PRIMARY KEY, path text UNIQUE, up text REFERENCES paths (path) ON UPDATE CASCADE ON DELETE CASCADE);
INSERT INTO paths VALUES ('1', 'A', NULL), ('2', 'B', NULL), ('3', 'B1', 'B'), ('4', 'A1', 'A');
SELECT t.tables('paths');
SELECT t.push('{"paths": {"created": [{"id": "9", "path": "A"}, {"id": "8", "path": "A2", "up": "A"}], "updated": [{"id": "1", "path": "Z"}]}}');
SELECT t.push('{"paths": {"created": [{"id": "9", "path": "A"}], "updated": [{"id": "1", "path": "Z"}, {"id": "3", "up": "A"}]}}');
SELECT t.push('{"paths": {"created": [{"id": "8", "path": "A2", "up": "A"}], "updated": [{"id": "1", "path": "Z"}, {"id": "2", "path": "A"}]}}');
SELECT t.push('{"paths": {"created": [{"id": "9", "path": "A"}, {"id": "8", "path": "A2", "up": "A"}], "deleted": ["1"]}}');
SELECT t.push('{"paths": {"created": [{"id": "8", "path": "A2", "up": "A"}], "updated": [{"id": "1", "path": "Z"}]}}');
-- A chain: each waits for the one before it.
INSERT INTO paths VALUES ('5', 'C', NULL);
SELECT t.begin_with();
SELECT t.push('{"paths": {"created": [{"id": "8", "path": "B2", "up": "B"}], "updated": [{"id": "1", "path": "Z"}, {"id": "2", "path": "A"}, {"id": "5", "path": "B"}]}}');
DROP TABLE paths;
-- Two are renamed, in a table that others' policies read.
CREATE TABLE labels (id text PRIMARY KEY, name text NOT NULL UNIQUE, open boolean);
CREATE TABLE notes (id text PRIMARY KEY, label text REFERENCES labels (name) ON UPDATE CASCADE ON DELETE SET NULL, body text);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON notes USING (label IS NULL OR EXISTS (SELECT FROM labels AS l WHERE l.name = label));
INSERT INTO labels VALUES ('l1', 'work'), ('l2', 'home');
INSERT INTO notes VALUES ('n1', 'work'), ('n2', 'home');
SELECT t.tables('labels', 'notes');
\set both '{"labels": {"updated": [{"id": "l1", "name": "job"}, {"id": "l2", "name": "work"}]}, "notes": {"created": [{"id": "n9", "label": "work"}], "updated": [{"id": "n2", "label": "work"}]}}'
SELECT t.push(:'both');
ALTER TABLE notes DISABLE ROW LEVEL SECURITY;
SELECT t.push(:'both');
-- Beside what has to come before the giver's closing.
CREATE FUNCTION is_open() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NOT coalesce((SELECT open FROM labels WHERE name = old.label), true) THEN RAISE 'closed'; END IF; RETURN new; END $$;
CREATE TRIGGER is_open BEFORE UPDATE OF body ON notes FOR EACH ROW EXECUTE FUNCTION is_open();
SELECT t.push('{"labels": {"updated": [{"id": "l1", "name": "job", "open": false}, {"id": "l2", "name": "work"}]}, "notes": {"created": [{"id": "n9", "label": "work"}], "updated": [{"id": "n1", "body": "x"}]}}');
-- What is put under the value that it had already, once more.
SELECT t.push('{"labels": {"updated": [{"id": "l2", "name": "work"}], "deleted": ["l1"]}, "notes": {"updated": [{"id": "n1", "label": "work"}]}}');
SELECT t.push('{"labels": {"created": [{"id": "l9", "name": "work"}], "deleted": ["l1"]}, "notes": {"updated": [{"id": "n1", "label": "work"}]}}');
-- But what a cascade takes along it takes along: a record that leaves its row where it is.
ALTER TABLE notes DROP CONSTRAINT notes_label_fkey, ADD FOREIGN KEY (label) REFERENCES labels (name) ON DELETE CASCADE;
SELECT t.push('{"labels": {"created": [{"id": "l9", "name": "work"}], "deleted": ["l1"]}, "notes": {"updated": [{"id": "n1", "label": "work", "body": "e"}]}}');
-- One giver that stays does not keep another one.
ALTER TABLE notes DROP CONSTRAINT notes_label_fkey, ADD FOREIGN KEY (label) REFERENCES labels (name);
CREATE TABLE kept (id text PRIMARY KEY, label text REFERENCES labels (name));
INSERT INTO kept VALUES ('k', 'home');
DELETE FROM notes WHERE id = 'n2';
SELECT t.begin_with();
SELECT t.try('{"labels": {"created": [{"id": "l9", "name": "work"}, {"id": "l8", "name": "home"}], "deleted": ["l1", "l2"]}, "notes": {"created": [{"id": "n9", "label": "work"}], "updated": [{"id": "n1", "label": "home"}]}}',
             n::text[], 'report') FROM unnest(ARRAY['{labels,notes}', '{notes,labels}']) AS n;
DROP TABLE kept, notes, labels;
DROP FUNCTION is_open;
-- A column that a default fills may have any value; with a key of two columns, and a record of one.
CREATE TABLE members (id text PRIMARY KEY, project text NOT NULL DEFAULT 'p', who text NOT NULL, role text, UNIQUE (project, who));
CREATE TABLE tasks (id text PRIMARY KEY, project text NOT NULL DEFAULT 'p', assignee text, title text, FOREIGN KEY (project, assignee) REFERENCES members (project, who) ON DELETE SET NULL (assignee));
INSERT INTO members VALUES ('1', 'p', 'bob');
INSERT INTO tasks VALUES ('t', 'p', 'bob'), ('u', 'p', NULL), ('v', 'p', NULL);
SELECT t.tables('members', 'tasks');
SELECT t.push('{"members": {"created": [{"id": "9", "who": "bob"}], "deleted": ["1"]}, "tasks": {"created": [{"id": "w", "assignee": "bob"}], "updated": [{"id": "t", "assignee": "bob"}, {"id": "u", "assignee": "bob"}, {"id": "v", "title": "x"}]}}');
DROP TABLE tasks, members;
-- Something else of the push closes what the heir comes to hang on.
CREATE TABLE lists (id text PRIMARY KEY, closed boolean NOT NULL DEFAULT false);
CREATE TABLE tickets (id text PRIMARY KEY, list text REFERENCES lists, code text UNIQUE);
CREATE TABLE notes (id text PRIMARY KEY, code text REFERENCES tickets (code) ON UPDATE CASCADE ON DELETE SET NULL, body text);
CREATE FUNCTION is_open() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF (SELECT closed FROM lists WHERE id = new.list) THEN RAISE 'closed'; END IF; RETURN new; END $$;
CREATE TRIGGER is_open BEFORE INSERT OR UPDATE ON tickets FOR EACH ROW EXECUTE FUNCTION is_open();
INSERT INTO lists VALUES ('a'), ('b');
INSERT INTO tickets VALUES ('t1', 'a', 'E');
INSERT INTO notes VALUES ('n1', 'E');
SELECT t.tables('lists', 'tickets', 'notes');
SELECT t.push('{"lists": {"updated": [{"id": "b", "closed": true}]}, "tickets": {"created": [{"id": "t9", "list": "b", "code": "E"}], "deleted": ["t1"]}, "notes": {"updated": [{"id": "n1", "body": "x"}]}}');
SELECT t.push('{"lists": {"updated": [{"id": "b", "closed": true}]}, "tickets": {"created": [{"id": "t9", "list": "b", "code": "E"}], "updated": [{"id": "t1", "code": "F"}]}, "notes": {"created": [{"id": "n9", "code": "E"}]}}');
INSERT INTO tickets VALUES ('t2', 'b', 'G');
SELECT t.begin_with();
SELECT t.push('{"lists": {"updated": [{"id": "b", "closed": true}]}, "tickets": {"updated": [{"id": "t1", "code": "F"}, {"id": "t2", "code": "E"}]}, "notes": {"created": [{"id": "n9", "code": "E"}]}}');
DROP TABLE notes, tickets, lists;
DROP FUNCTION is_open;
-- What is not sent, and no default fills, is NULL: the new row Z follows nobody.
CREATE TABLE paths (id text PRIMARY KEY, t text NOT NULL DEFAULT 't', path text, up text, UNIQUE (t, path), FOREIGN KEY (t, up) REFERENCES paths (t, path) ON DELETE CASCADE);
CREATE TABLE notes (id text PRIMARY KEY, t text NOT NULL DEFAULT 't', path text, FOREIGN KEY (t, path) REFERENCES paths (t, path) ON DELETE CASCADE);
INSERT INTO paths VALUES ('2', 't', 'C', NULL), ('1', 't', 'B', 'C');
INSERT INTO notes VALUES ('n', 't', 'C');
SELECT t.tables('paths', 'notes');
SELECT t.push('{"paths": {"created": [{"id": "8", "t": "t", "path": "Z"}, {"id": "9", "t": "t", "path": "C"}], "deleted": ["2"]}, "notes": {"updated": [{"id": "n", "t": "t", "path": "Z"}]}}');
-- Nor does a row that names its own column of the key only, and not the row that it refers to.
INSERT INTO paths VALUES ('3', 't', 'A', NULL), ('4', 't', 'D', 'A');
ALTER TABLE paths DROP CONSTRAINT paths_t_up_fkey, ADD FOREIGN KEY (t, up) REFERENCES paths (t, path) ON UPDATE CASCADE;
SELECT t.begin_with();
SELECT t.push('{"paths": {"created": [{"id": "9", "t": "t", "path": "A"}], "updated": [{"id": "3", "t": "t", "path": "D"}, {"id": "4", "t": "t", "path": "E"}]}, "notes": {"created": [{"id": "m", "t": "t", "path": "A"}]}}');
DROP TABLE notes, paths;
-- By two keys a row waits for two heirs.
CREATE TABLE products (id text PRIMARY KEY, sku text UNIQUE);
CREATE TABLE shelves (id text PRIMARY KEY, code text UNIQUE);
CREATE TABLE stock (id text PRIMARY KEY, sku text REFERENCES products (sku) ON DELETE CASCADE, shelf text REFERENCES shelves (code) ON DELETE CASCADE);
CREATE TABLE reserved (id text PRIMARY KEY, sku text REFERENCES products (sku), shelf text REFERENCES shelves (code));
INSERT INTO products VALUES ('p1', 'x'), ('p3', 'y');
INSERT INTO shelves VALUES ('s1', 'k'), ('s3', 'm');
INSERT INTO reserved VALUES ('r', 'x', 'm');
SELECT t.tables('products', 'shelves', 'stock', 'reserved');
SELECT t.push('{"products": {"created": [{"id": "p2", "sku": "x"}], "deleted": ["p1"]}, "shelves": {"created": [{"id": "s2", "code": "k"}], "deleted": ["s1"]}, "stock": {"created": [{"id": "t", "sku": "x", "shelf": "k"}]}, "reserved": {"updated": [{"id": "r", "sku": "y", "shelf": "k"}]}}');
DROP TABLE reserved, stock, shelves, products;

-- What a trigger does for a row may pass at another time, whatever its error is: the CHECK of a table that it writes to, a code that it chooses, a NULL that it
-- fills in.
CREATE TABLE products (id text PRIMARY KEY, price int, stock int NOT NULL DEFAULT 0 CHECK (stock >= 0));
CREATE TABLE orders (id text PRIMARY KEY, closed boolean NOT NULL DEFAULT false);
CREATE TABLE lines (id text PRIMARY KEY, "order" text NOT NULL REFERENCES orders, product text NOT NULL REFERENCES products, qty int NOT NULL CHECK (qty > 0), price int NOT NULL);
CREATE TABLE receipts (id text PRIMARY KEY, product text NOT NULL REFERENCES products, qty int NOT NULL);
CREATE FUNCTION is_open() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF (SELECT closed FROM orders WHERE id = NEW."order") THEN RAISE 'the order is closed'; END IF;
    SELECT price INTO NEW.price FROM products WHERE id = NEW.product;
    RETURN NEW;
END $$;
CREATE TRIGGER open BEFORE INSERT ON lines FOR EACH ROW EXECUTE FUNCTION is_open();
CREATE FUNCTION sold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE products SET stock = stock - NEW.qty WHERE id = NEW.product; RETURN NULL; END $$;
CREATE TRIGGER sold AFTER INSERT ON lines FOR EACH ROW EXECUTE FUNCTION sold();
CREATE FUNCTION received() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE products SET stock = stock + NEW.qty WHERE id = NEW.product; RETURN NULL; END $$;
CREATE TRIGGER received AFTER INSERT ON receipts FOR EACH ROW EXECUTE FUNCTION received();
INSERT INTO products VALUES ('p', 3, 0), ('q', NULL, 9);
INSERT INTO orders VALUES ('o');
SELECT t.tables('lines', 'orders', 'receipts', 'products');
SELECT t.push('{"receipts": {"created": [{"id": "r", "product": "p", "qty": 5}]}, "lines": {"created": [{"id": "l", "order": "o", "product": "p", "qty": 5}]}, "orders": {"updated": [{"id": "o", "closed": true}]}}');
SELECT t.push('{"products": {"updated": [{"id": "q", "price": 7}]}, "lines": {"created": [{"id": "l", "order": "o", "product": "q", "qty": 5}]}, "orders": {"updated": [{"id": "o", "closed": true}]}}');
ALTER TABLE products DROP CONSTRAINT products_stock_check;
CREATE FUNCTION in_stock() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.stock < 0 THEN RAISE 'out of stock' USING ERRCODE = '22023'; END IF; RETURN NEW; END $$;
CREATE TRIGGER in_stock BEFORE UPDATE ON products FOR EACH ROW EXECUTE FUNCTION in_stock();
SELECT t.push('{"receipts": {"created": [{"id": "r", "product": "p", "qty": 5}]}, "lines": {"created": [{"id": "l", "order": "o", "product": "p", "qty": 5}]}, "orders": {"updated": [{"id": "o", "closed": true}]}}');
-- Beside one that is wrong in itself.
SELECT t.push('{"receipts": {"created": [{"id": "r", "product": "p", "qty": 5}]}, "lines": {"created": [{"id": "k", "order": "o", "product": "p", "qty": 0}, {"id": "l", "order": "o", "product": "p", "qty": 5}]}, "orders": {"updated": [{"id": "o", "closed": true}]}}');
DROP TABLE lines, receipts, orders, products;
DROP FUNCTION is_open, sold, received, in_stock;

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_push_order;
