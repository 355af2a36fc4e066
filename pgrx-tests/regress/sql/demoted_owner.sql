-- The role that made the extension is no superuser any more: PostgreSQL says nothing, and there is no ALTER EXTENSION ... OWNER. What does not take a superuser
-- goes on: writes, pulls, pushes, also after changes of roles. doctor() says what is wrong.
\set ECHO none
\set test regress_demoted_owner
\set roles '{demoted_dba,demoted_ann,demoted_team}'
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET client_min_messages = warning;
DROP EXTENSION snapsync CASCADE;
ALTER ROLE demoted_dba SUPERUSER;
SET SESSION AUTHORIZATION demoted_dba;
CREATE EXTENSION snapsync;
RESET SESSION AUTHORIZATION;
\set ECHO all
CREATE TABLE todos (id int PRIMARY KEY, who name, t text);
ALTER TABLE todos OWNER TO demoted_ann;
SET SESSION AUTHORIZATION demoted_ann;
ALTER TABLE todos ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON todos USING (pg_has_role(current_user, who, 'MEMBER'));
GRANT ALL ON todos TO alice, demoted_team;
SELECT snapsync.enable('todos');
RESET SESSION AUTHORIZATION;
ALTER ROLE demoted_dba NOSUPERUSER;
INSERT INTO todos VALUES (1, 'alice', 'a superuser''s'), (2, 'demoted_team', 'the team''s');
SET SESSION AUTHORIZATION alice;
SELECT t.catch_up('todos');
SELECT push_changes('{"todos": {"created": [{"id": 3, "who": "alice", "t": "pushed"}]}}');
SELECT * FROM t.pull('{todos}');
RESET SESSION AUTHORIZATION;
-- Roles are followed, there and back.
GRANT demoted_team TO alice;
INSERT INTO todos VALUES (4, 'alice', 'x');
SET SESSION AUTHORIZATION alice;
SELECT * FROM t.pull('{todos}');
SELECT * FROM t.pull('{todos}');
RESET SESSION AUTHORIZATION;
REVOKE demoted_team FROM alice;
SET SESSION AUTHORIZATION alice;
SELECT * FROM t.pull('{todos}');
RESET SESSION AUTHORIZATION;
INSERT INTO todos VALUES (5, 'alice', 'y');
SET SESSION AUTHORIZATION alice;
SELECT * FROM t.pull('{todos}');
SELECT * FROM t.pull('{todos}');
RESET SESSION AUTHORIZATION;
-- What is told: to whoever has a synced table, and with no fix, which would make a superuser.
SELECT severity, collection, finding, hint, fix FROM snapsync.doctor() WHERE collection IS NULL;
SET SESSION AUTHORIZATION demoted_ann;
SELECT severity, collection, finding, hint, fix FROM snapsync.doctor() WHERE collection IS NULL;
SET SESSION AUTHORIZATION alice;
SELECT severity, collection, finding, hint, fix FROM snapsync.doctor();
RESET SESSION AUTHORIZATION;
-- DDL and enable() go as far as they make no triggers.
SET SESSION AUTHORIZATION demoted_ann;
ALTER TABLE todos ADD COLUMN more int;
CREATE TABLE another (id int PRIMARY KEY);
SELECT * FROM t.error($$ SELECT snapsync.enable('another') $$);
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION alice;
SELECT * FROM t.pull('{todos}');
SELECT * FROM t.pull('{todos}');
RESET SESSION AUTHORIZATION;
-- A superuser takes over.
REASSIGN OWNED BY demoted_dba TO CURRENT_USER;
SELECT severity, finding FROM snapsync.doctor() WHERE collection IS NULL;
SET SESSION AUTHORIZATION demoted_ann;
SELECT snapsync.enable('another');
RESET SESSION AUTHORIZATION;
INSERT INTO todos VALUES (6, 'alice', 'z');
SET SESSION AUTHORIZATION alice;
SELECT * FROM t.pull('{todos}');
RESET SESSION AUTHORIZATION;
\set ECHO none
\c postgres
DROP DATABASE regress_demoted_owner;
DROP ROLE demoted_dba, demoted_ann, demoted_team;
