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
CREATE FUNCTION t.roles() RETURNS TABLE (roles bigint) LANGUAGE sql AS $$
    SELECT count(*) FROM snapsync.role WHERE role IN ('', 'alice', 'clerk5') $$;
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

-- What others wrote is a conflict, however often the role changed since the client pulled: the first who wrote has recorded it, with the stamp that the client
-- has as its cursor.
CREATE TABLE drafts (id int PRIMARY KEY, v text);
INSERT INTO drafts VALUES (1, 'a'), (2, 'a');
GRANT SELECT, INSERT, UPDATE ON drafts TO clerk5;
SELECT snapsync.enable('drafts');
CREATE FUNCTION t.push(id int) RETURNS text LANGUAGE sql AS $$
    SELECT left(error, 8) FROM t.error(format('SET ROLE clerk5; SELECT push_changes(%L, %L)',
        json_build_object('drafts', json_build_object('updated', json_build_array(json_build_object('id', id, 'v', 'pushed')))),
        current_setting('t.cursor'))) LIMIT 1 $$;
CREATE FUNCTION t.pull() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer json;
BEGIN
    SET LOCAL ROLE clerk5;
    answer := pull_changes('{drafts}', nullif(current_setting('t.cursor', true), ''));
    RESET ROLE;
    PERFORM set_config('t.cursor', answer ->> 'timestamp', false);
    RETURN concat_ws(' ', answer #> '{changes,drafts}', answer -> 'reason');
END $$;
SELECT set_config('t.cursor', '', false);
INSERT INTO todos VALUES (16);
SELECT t.pull();
GRANT bob TO clerk5;
UPDATE drafts SET v = 'b' WHERE id = 1;
UPDATE drafts SET v = 'b' WHERE id = 2;
REVOKE bob FROM clerk5;
SELECT t.push(1), t.push(2);
RESET ROLE;
-- It pulls, and pushes, while the role stands otherwise than recorded; as often as it likes.
SELECT t.pull();
SELECT t.push(1);
RESET ROLE;
GRANT bob TO clerk5;
SELECT t.pull();
SELECT t.pull();
SELECT t.push(2);
RESET ROLE;
INSERT INTO todos VALUES (17);
SELECT t.pull();
-- Pulled while it stood otherwise; it stands as recorded again, and somebody writes; and it stands otherwise once more.
ALTER ROLE clerk5 BYPASSRLS;
SELECT t.pull();
ALTER ROLE clerk5 NOBYPASSRLS;
UPDATE drafts SET v = 'c';
ALTER ROLE clerk5 BYPASSRLS;
SELECT t.push(1), t.push(2);
RESET ROLE;
ALTER ROLE clerk5 NOBYPASSRLS;
-- A role that is new, and changes when others have written.
SELECT set_config('t.cursor', '', false);
DROP OWNED BY clerk5;
DROP ROLE clerk5;
CREATE ROLE clerk5;
GRANT SELECT, INSERT, UPDATE ON drafts TO clerk5;
SELECT t.pull();
UPDATE drafts SET v = 'd' WHERE id = 1;
UPDATE drafts SET v = 'd' WHERE id = 2;
GRANT bob TO clerk5;
SELECT t.push(1), t.push(2);
RESET ROLE;
SELECT t.pull();
SELECT t.push(1), t.push(2);
RESET ROLE;
TABLE drafts;

\set ECHO none
\connect postgres
SET client_min_messages = warning;
DROP DATABASE regress_role_versions;
DROP ROLE users5, clerk5;
