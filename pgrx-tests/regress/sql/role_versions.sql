-- What of a role counts: what a standing is made of, not which version of its row says so. And what a session knows of records holds for these records.
\set ECHO none
\set test regress_role_versions
\set roles '{users5,clerk5}'
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
GRANT users5 TO clerk5;
CREATE FUNCTION t.page(next text, size int DEFAULT 2) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer json := public.pull_changes('{todos}', page_size => size, next => next);
BEGIN
    PERFORM set_config('t.next', answer ->> 'next', false), set_config('t.cursor', answer ->> 'timestamp', false);
    RETURN concat_ws(' ', answer -> 'changes', answer -> 'reason');
END $$;
CREATE FUNCTION t.roles() RETURNS TABLE (roles bigint, marks bigint) LANGUAGE sql AS $$
    SELECT count(*) FILTER (WHERE role IN ('', 'alice', 'clerk5')), count(*) FILTER (WHERE role > 'pg_ ' AND role < 'pg_!') FROM snapsync.role $$;
\set ECHO all
CREATE TABLE todos (id int PRIMARY KEY);
INSERT INTO todos SELECT generate_series(1, 6);
GRANT SELECT ON todos TO users5;
SELECT snapsync.enable('todos');
INSERT INTO todos VALUES (7);
-- A member of a role may give it another password. Pages go on.
SET ROLE clerk5;
SELECT t.page(NULL);
SET ROLE users5;
ALTER ROLE users5 PASSWORD NULL;
SET ROLE clerk5;
ALTER ROLE clerk5 PASSWORD NULL;
SELECT t.page(current_setting('t.next'));
RESET ROLE;
ALTER ROLE users5 SET work_mem = '8MB';
COMMENT ON ROLE users5 IS 'all of them';
ALTER ROLE users5 CONNECTION LIMIT 3;
SET ROLE clerk5;
SELECT t.page(current_setting('t.next'), 1);
-- What a standing is made of begins them anew, also a membership that came and went.
RESET ROLE;
REVOKE users5 FROM clerk5;
GRANT users5 TO clerk5;
SET ROLE clerk5;
SELECT t.page(current_setting('t.next'), 3);
-- Not an attribute: no page was pulled meanwhile, and who wrote has recorded it.
RESET ROLE;
ALTER ROLE clerk5 NOINHERIT;
ALTER ROLE clerk5 INHERIT;
SET ROLE clerk5;
SELECT t.page(current_setting('t.next'), 3);
RESET ROLE;
ALTER ROLE clerk5 BYPASSRLS;
SET ROLE clerk5;
SELECT t.page(current_setting('t.next'), 3);
RESET ROLE;
ALTER ROLE clerk5 NOBYPASSRLS;

-- A session that has recorded the roles does so once more where the extension was created anew, or its table emptied.
INSERT INTO todos VALUES (8);
SELECT * FROM t.roles();
DROP EXTENSION snapsync CASCADE;
CREATE EXTENSION snapsync;
SELECT snapsync.enable('todos');
INSERT INTO todos VALUES (9);
SELECT * FROM t.roles();
SELECT count(*) FROM snapsync.epoch;
TRUNCATE snapsync.role;
INSERT INTO todos VALUES (10);
SELECT * FROM t.roles();
TRUNCATE snapsync.epoch;
INSERT INTO todos VALUES (11);
SELECT count(*) FROM snapsync.epoch;
BEGIN;
TRUNCATE snapsync.role;
INSERT INTO todos VALUES (12);
SELECT count(*) > 0 FROM pull_changes('{todos}');
ROLLBACK;
INSERT INTO todos VALUES (13);
SELECT * FROM t.roles();
-- Which somebody has altered, where event triggers are off, it is written by nobody.
ALTER EVENT TRIGGER snapsync_index DISABLE;
CREATE INDEX altered ON snapsync.role (upper(standing));
GRANT carol TO clerk5;
INSERT INTO todos VALUES (14);
DROP INDEX snapsync.altered;
ALTER EVENT TRIGGER snapsync_index ENABLE ALWAYS;
INSERT INTO todos VALUES (14);
SELECT * FROM t.roles();

-- A mark that a writer has left, which could not record the roles, is found by the next one, and goes. No role can have such a name.
INSERT INTO snapsync.role VALUES ('pg_ 1', '', 1);
\c -
INSERT INTO todos VALUES (15);
SELECT * FROM t.roles();
SELECT * FROM t.error('CREATE ROLE "pg_ 7"');

\set ECHO none
\connect postgres
SET client_min_messages = warning;
DROP DATABASE regress_role_versions;
DROP ROLE users5, clerk5;
