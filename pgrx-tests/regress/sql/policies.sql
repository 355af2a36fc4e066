-- What policies rest on, and how that changes: views, functions and operators behind them, what DROP takes along, roles,
-- foreign keys that are not enforced.
\set ECHO none
\set test regress_policies
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
\set ECHO none
SET client_min_messages = warning;
CREATE ROLE policies_drew;
CREATE ROLE policies_dora;
CREATE ROLE policies_team;
CREATE ROLE policies_nina NOINHERIT;
-- A table with rows 1 and 2, and who is let see which of them.
CREATE FUNCTION t.make(name text, policy text, roles text DEFAULT 'public') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE %I (id int PRIMARY KEY)', name);
    EXECUTE format('INSERT INTO %I VALUES (1), (2)', name);
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('CREATE POLICY p ON %I FOR SELECT TO %s USING (%s)', name, roles, policy);
    EXECUTE format('GRANT SELECT ON %I TO PUBLIC', name);
    PERFORM snapsync.enable(name::regclass);
END
$$;
\set ECHO all

-- A function that a function calls, one with a body in standard SQL, and one behind an operator.
CREATE FUNCTION inner_f(int) RETURNS boolean LANGUAGE sql AS 'SELECT $1 = 1';
CREATE FUNCTION outer_f(int) RETURNS boolean LANGUAGE sql BEGIN ATOMIC SELECT inner_f($1); END;
CREATE FUNCTION operator_f(int, int) RETURNS boolean LANGUAGE sql AS 'SELECT $1 = $2';
CREATE OPERATOR === (FUNCTION = operator_f, LEFTARG = int, RIGHTARG = int);
SELECT t.make('by_function', 'outer_f(id)'), t.make('by_operator', 'id === 1');
SELECT t.sync('alice', 'by_function'), t.sync('alice', 'by_operator');
CREATE OR REPLACE FUNCTION inner_f(int) RETURNS boolean LANGUAGE sql AS 'SELECT $1 = 2';
CREATE OR REPLACE FUNCTION operator_f(int, int) RETURNS boolean LANGUAGE sql AS 'SELECT $1 <> $2';
SELECT t.sync('alice', 'by_function'), t.sync('alice', 'by_operator');
CREATE OR REPLACE FUNCTION outer_f(int) RETURNS boolean LANGUAGE sql BEGIN ATOMIC SELECT $1 = 1; END;
SELECT t.sync('alice', 'by_function');

-- A table that a function with such a body reads need not be named; whoever may be concerned is not known.
CREATE TABLE letters (id int PRIMARY KEY);
GRANT SELECT ON letters TO PUBLIC;
CREATE FUNCTION lettered(int) RETURNS boolean LANGUAGE sql BEGIN ATOMIC SELECT EXISTS (SELECT FROM letters WHERE id = $1); END;
SELECT t.make('by_letter', 'lettered(id)');
SELECT t.sync('alice', 'by_letter');
INSERT INTO letters VALUES (1);
SELECT t.sync('alice', 'by_letter');
SELECT severity, finding FROM snapsync.doctor() WHERE collection = 'by_letter' AND finding LIKE '%function%';

-- Views: one behind another one, a rule in place of CREATE OR REPLACE VIEW, another owner, other options, a function in it.
CREATE TABLE base (id int PRIMARY KEY, who name);
ALTER TABLE base ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON base USING (who = current_user);
GRANT SELECT ON base TO PUBLIC;
INSERT INTO base VALUES (1, 'alice'), (2, 'policies_drew');
CREATE VIEW inner_v AS SELECT * FROM base;
CREATE VIEW outer_v AS SELECT * FROM inner_v WHERE inner_f(3 - id) OR true;
GRANT SELECT ON inner_v, outer_v TO PUBLIC;
SELECT t.make('by_view', 'id IN (SELECT id FROM outer_v)');
SELECT t.sync('alice', 'by_view');
ALTER VIEW inner_v OWNER TO policies_drew;
SELECT t.sync('alice', 'by_view');
ALTER VIEW inner_v SET (security_invoker = true);
SELECT t.sync('alice', 'by_view');
CREATE OR REPLACE VIEW inner_v WITH (security_invoker = true) AS SELECT id + 1 AS id, who FROM base;
SELECT t.sync('alice', 'by_view');
CREATE OR REPLACE RULE "_RETURN" AS ON SELECT TO outer_v DO INSTEAD SELECT id - 1 AS id, who FROM inner_v WHERE inner_f(id);
SELECT t.sync('alice', 'by_view');
CREATE OR REPLACE FUNCTION inner_f(int) RETURNS boolean LANGUAGE sql AS 'SELECT false';
SELECT t.sync('alice', 'by_view');
-- A table read by a view of its owner's and, in another policy, by the policy itself: that the caller may not see its row
-- there says nothing of what the view shows him.
CREATE TABLE hidden (id int PRIMARY KEY, who name);
INSERT INTO hidden VALUES (1, 'alice'), (2, 'alice');
ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON hidden TO PUBLIC;
CREATE VIEW shown AS SELECT * FROM hidden;
GRANT SELECT ON shown TO PUBLIC;
SELECT t.make('by_both', 'id IN (SELECT s.id FROM shown AS s WHERE s.who = current_user)');
CREATE POLICY q ON by_both FOR SELECT USING (id IN (SELECT h.id FROM hidden AS h WHERE h.id > 5 AND h.who = current_user));
ALTER TABLE by_both OWNER TO policies_dora;
SELECT t.sync('alice', 'by_both');
DELETE FROM hidden WHERE id = 1;
SELECT t.sync('alice', 'by_both');
SELECT access, kind, predicate FROM snapsync.access WHERE relation = 'by_both'::regclass;

-- A materialized view, which changes when it is refreshed.
CREATE MATERIALIZED VIEW seen AS SELECT id FROM letters;
GRANT SELECT ON seen TO PUBLIC;
CREATE UNIQUE INDEX ON seen (id);
SELECT t.make('by_matview', 'id IN (SELECT id FROM seen)');
SELECT t.sync('alice', 'by_matview');
INSERT INTO letters VALUES (2);
SELECT t.sync('alice', 'by_matview');
REFRESH MATERIALIZED VIEW seen;
SELECT t.sync('alice', 'by_matview');
DELETE FROM letters WHERE id = 1;
SELECT t.sync('alice', 'by_matview');
REFRESH MATERIALIZED VIEW CONCURRENTLY seen;
SELECT t.sync('alice', 'by_matview');

-- What CASCADE takes along.
SELECT t.make('cascades', 'id IN (SELECT id FROM seen)');
CREATE DOMAIN short AS text;
ALTER TABLE cascades ADD v short DEFAULT 'v';
SELECT t.sync('alice', 'cascades');
DROP DOMAIN short CASCADE;
SELECT t.sync('alice', 'cascades');
DROP MATERIALIZED VIEW seen CASCADE;
SELECT t.sync('alice', 'cascades');
DROP OPERATOR === (int, int) CASCADE;
SELECT t.sync('alice', 'by_operator');

-- DROP OWNED takes a role out of policies and privileges, and lists nothing.
SELECT t.make('by_role', 'true', 'alice, policies_dora');
SELECT t.sync('policies_dora', 'by_role');
DROP OWNED BY policies_dora;
SELECT t.sync('policies_dora', 'by_role');

-- REASSIGN OWNED fires no event trigger: the doctor finds it.
CREATE TABLE handed (id int PRIMARY KEY);
ALTER TABLE handed OWNER TO policies_dora;
SELECT snapsync.enable('handed');
REASSIGN OWNED BY policies_dora TO policies_drew;
SELECT finding, fix FROM snapsync.doctor() WHERE collection = 'handed' AND finding LIKE '%another owner%';
SELECT snapsync.enable('handed'), snapsync.reset('handed');
SELECT finding, fix FROM snapsync.doctor() WHERE collection = 'handed' AND finding LIKE '%another owner%';

-- A membership counts for a policy also where it is not inherited.
SELECT t.make('by_member', 'pg_has_role(''policies_team'', ''MEMBER'')');
SELECT t.sync('policies_nina', 'by_member');
SELECT t.sync('policies_nina', 'by_member');
GRANT policies_team TO policies_nina;
SELECT t.sync('policies_nina', 'by_member');
INSERT INTO by_member VALUES (3);
SELECT t.sync('policies_nina', 'by_member');
SELECT t.sync('policies_nina', 'by_member');
REVOKE policies_team FROM policies_nina;
SELECT t.sync('policies_nina', 'by_member');

-- Rows hang on a parent only where foreign keys are enforced. With session_replication_role = replica they may be there first,
-- or stay.
CREATE TABLE projects (id int PRIMARY KEY, who name);
GRANT SELECT ON projects TO PUBLIC;
SELECT t.make('tasks', 'false');
ALTER TABLE tasks ADD project int REFERENCES projects;
ALTER POLICY p ON tasks USING (EXISTS (SELECT FROM projects AS p WHERE p.id = tasks.project AND p.who = current_user));
SELECT kind FROM snapsync.access WHERE relation = 'tasks'::regclass;
SELECT t.sync('alice', 'tasks');
INSERT INTO projects VALUES (1, 'alice');
INSERT INTO tasks VALUES (10, 1);
SELECT t.sync('alice', 'tasks');
SET session_replication_role = replica;
INSERT INTO tasks VALUES (20, 2);
SELECT t.sync('alice', 'tasks');
INSERT INTO projects VALUES (2, 'alice');
SELECT t.sync('alice', 'tasks');
UPDATE projects SET id = 3 WHERE id = 2;
SELECT t.sync('alice', 'tasks');
DELETE FROM projects WHERE id = 1;
SELECT t.sync('alice', 'tasks');
RESET session_replication_role;
-- It may have left rows that hang on none, until the key is made anew.
ALTER TABLE tasks ALTER project SET STATISTICS 10;
SELECT kind FROM snapsync.access WHERE relation = 'tasks'::regclass;
DELETE FROM tasks;
ALTER TABLE tasks DROP CONSTRAINT tasks_project_fkey, ADD CONSTRAINT tasks_project_fkey FOREIGN KEY (project) REFERENCES projects;
SELECT kind FROM snapsync.access WHERE relation = 'tasks'::regclass;

-- The same while their triggers are disabled, and in a database with a subscription, which writes in that way.
ALTER TABLE projects DISABLE TRIGGER ALL;
SELECT kind FROM snapsync.access WHERE relation = 'tasks'::regclass;
DELETE FROM projects;
ALTER TABLE projects ENABLE TRIGGER ALL;
SELECT kind FROM snapsync.access WHERE relation = 'tasks'::regclass;
SELECT t.sync('alice', 'tasks');
DELETE FROM tasks;
ALTER TABLE tasks DROP CONSTRAINT tasks_project_fkey, ADD CONSTRAINT tasks_project_fkey FOREIGN KEY (project) REFERENCES projects;
SELECT kind FROM snapsync.access WHERE relation = 'tasks'::regclass;
SET client_min_messages = error; -- the warning is not the same in all majors
CREATE SUBSCRIPTION policies_sub CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false);
SET client_min_messages = warning;
SELECT kind FROM snapsync.access WHERE relation = 'tasks'::regclass;
ALTER SUBSCRIPTION policies_sub SET (slot_name = NONE);
DROP SUBSCRIPTION policies_sub;
SELECT kind FROM snapsync.access WHERE relation = 'tasks'::regclass;

-- A table that a policy reads comes with those that inherit from it, also later ones.
CREATE TABLE parent (id int PRIMARY KEY, who name);
CREATE TABLE child () INHERITS (parent);
GRANT SELECT ON parent TO PUBLIC;
SELECT t.make('by_inheritance', 'id IN (SELECT id FROM parent WHERE who = current_user)');
SELECT t.sync('alice', 'by_inheritance');
INSERT INTO child VALUES (1, 'alice');
SELECT t.sync('alice', 'by_inheritance');
CREATE TABLE grandchild () INHERITS (child);
INSERT INTO grandchild VALUES (2, 'alice');
SELECT t.sync('alice', 'by_inheritance');
ALTER TABLE grandchild NO INHERIT child;
SELECT t.sync('alice', 'by_inheritance');
SELECT access, kind, predicate FROM snapsync.access WHERE relation = 'by_inheritance'::regclass ORDER BY 1;

-- Nobody gets a trigger onto snapsync's own tables or the system's.
SELECT t.make('by_status', 'EXISTS (SELECT FROM snapsync.status WHERE name = ''x'')');
CREATE POLICY q ON by_status USING (EXISTS (SELECT FROM snapsync.change, information_schema.sql_features));
SELECT access FROM snapsync.access WHERE relation = 'by_status'::regclass;

-- What another server holds changes without anybody hearing of it here.
CREATE FOREIGN DATA WRAPPER policies_elsewhere;
CREATE SERVER policies_elsewhere FOREIGN DATA WRAPPER policies_elsewhere;
CREATE FOREIGN TABLE elsewhere (id int) SERVER policies_elsewhere;
CREATE VIEW elsewhere_v AS SELECT * FROM elsewhere;
SELECT t.make('by_foreign', 'id IN (SELECT id FROM elsewhere_v)');
SELECT severity, finding, fix FROM snapsync.doctor() WHERE collection = 'by_foreign' AND finding LIKE '%foreign table%';

-- Whose table's rows are judged by a predicate, and not by its own policies: only one that the owner may read himself.
CREATE TABLE salaries (id int PRIMARY KEY, amount int);
CREATE SCHEMA drew AUTHORIZATION policies_drew;
SET ROLE policies_drew;
CREATE TABLE drew.spy (id int PRIMARY KEY);
ALTER TABLE drew.spy ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON drew.spy USING (EXISTS (SELECT FROM salaries WHERE amount > 100));
SELECT * FROM t.error('SELECT snapsync.enable(''drew.spy'')');
RESET ROLE;
GRANT TRIGGER ON salaries TO policies_drew;
SET ROLE policies_drew;
SELECT snapsync.enable('drew.spy');
RESET ROLE;
SELECT access, kind, predicate FROM snapsync.access WHERE relation = 'drew.spy'::regclass;
GRANT SELECT ON salaries TO policies_drew;
SELECT access, kind, predicate FROM snapsync.access WHERE relation = 'drew.spy'::regclass;

-- Whoever owns a table that policies read can disable our triggers: until they fire again, nothing is sure of who sees what.
CREATE TABLE crew (who text PRIMARY KEY);
GRANT SELECT ON crew TO PUBLIC;
INSERT INTO crew VALUES ('alice');
CREATE TABLE ships (id int PRIMARY KEY);
ALTER TABLE ships ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON ships USING (EXISTS (SELECT FROM crew WHERE who = current_user));
GRANT SELECT ON ships TO alice;
SELECT snapsync.enable('ships');
INSERT INTO ships VALUES (1);
SELECT t.sync('alice', 'ships');
SELECT t.sync('alice', 'ships');
ALTER TABLE crew DISABLE TRIGGER USER;
SELECT t.sync('alice', 'ships');
DELETE FROM crew;
SELECT t.sync('alice', 'ships');
SELECT finding FROM snapsync.doctor() WHERE collection = 'ships' AND severity = 'error';
ALTER TABLE crew ENABLE TRIGGER USER;
SELECT t.sync('alice', 'ships');
SELECT t.sync('alice', 'ships');
SELECT finding FROM snapsync.doctor() WHERE collection = 'ships' AND severity = 'error';

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_policies;
DROP ROLE policies_drew, policies_dora, policies_team, policies_nina;
