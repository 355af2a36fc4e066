-- What others do to rows that a pusher never saw decides nothing that he could tell: not the command either that writes his own rows.
\set ECHO none
\set test regress_push_hidden
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE notes (id text PRIMARY KEY, owner name NOT NULL DEFAULT current_user, slug text, UNIQUE (owner, slug));
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON notes USING (owner = current_user);
GRANT ALL ON notes TO alice, bob;
SELECT snapsync.enable('notes');
INSERT INTO notes VALUES ('mine', 'alice', 'mine'), ('theirs', 'bob', 'x');

-- The command that has written a row, in a push of this record and of one that nobody has ever touched.
SET ROLE alice;
SELECT pull_changes('{notes}') ->> 'timestamp' AS cursor \gset
RESET ROLE;
INSERT INTO notes VALUES ('was', 'bob', 'y');
DELETE FROM notes WHERE id = 'was';
UPDATE notes SET slug = 'z' WHERE id = 'theirs';
SET ROLE alice;
CREATE FUNCTION pg_temp.written(changes json, cursor text, written text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    answer json;
BEGIN
    answer := push_changes(json_build_object('notes', changes), cursor);
    RETURN QUERY SELECT answer || ' ' || n.id || ' in command ' || n.cmin FROM notes AS n WHERE n.id = written;
END
$$;
BEGIN;
SELECT pg_temp.written('{"created": [{"id": "was"}]}', :'cursor', 'was');
ROLLBACK;
BEGIN;
SELECT pg_temp.written('{"created": [{"id": "never"}]}', :'cursor', 'never');
ROLLBACK;
-- Updates lock their own rows.
BEGIN;
SELECT pg_temp.written('{"updated": [{"id": "mine", "slug": "a"}]}', :'cursor', 'mine');
ROLLBACK;
BEGIN;
SELECT pg_temp.written('{"created": [{"id": "was"}], "updated": [{"id": "mine", "slug": "a"}]}', :'cursor', 'mine');
ROLLBACK;
BEGIN;
SELECT pg_temp.written('{"created": [{"id": "never"}], "updated": [{"id": "mine", "slug": "a"}]}', :'cursor', 'mine');
ROLLBACK;
-- What he could see is a conflict as ever.
RESET ROLE;
UPDATE notes SET slug = 'b' WHERE id = 'mine';
SET ROLE alice;
SELECT * FROM t.error(format($$SELECT push_changes('{"notes": {"created": [{"id": "was"}], "updated": [{"id": "mine", "slug": "a"}]}}', %L)$$, :'cursor'));
RESET ROLE;

-- Nor do the rows that he has made since tell that there had been another of the id: by no conflict, and by no row that he has as he sent it.
-- (Such a policy leaves no scope.)
ALTER POLICY own ON notes USING (lower(owner::text) = current_user::text);
SELECT snapsync.enable('notes', exclude => '{owner}');
SET ROLE alice;
SELECT pull_changes('{notes}', NULL, client_id => 'phone') ->> 'timestamp' AS cursor \gset
RESET ROLE;
INSERT INTO notes (id, owner) VALUES ('gone', 'bob');
SELECT pull_changes('{notes}') ->> 'timestamp' AS hers \gset
DELETE FROM notes WHERE id = 'gone';
SET ROLE alice;
SELECT push_changes('{"notes": {"created": [{"id": "gone"}, {"id": "never"}]}}', :'cursor', client_id => 'phone');
SELECT pull_changes('{notes}', :'hers', client_id => 'phone', skip_echoes => true) #> '{changes,notes}' AS notes;
SELECT pull_changes('{notes}', :'hers', client_id => 'tablet', skip_echoes => true) #> '{changes,notes}' AS notes;
SELECT push_changes('{"notes": {"updated": [{"id": "gone", "slug": "p"}, {"id": "never", "slug": "q"}]}}', :'hers', client_id => 'phone');
SELECT pull_changes('{notes}', :'hers', client_id => 'phone', skip_echoes => true) #> '{changes,notes}' AS notes;
SELECT push_changes('{"notes": {"deleted": ["gone", "never"]}}', :'hers', client_id => 'phone');
-- (To another device it is one.)
SELECT push_changes('{"notes": {"created": [{"id": "gone"}, {"id": "never"}]}}', :'hers', client_id => 'phone');
SELECT push_changes('{"notes": {"updated": [{"id": "gone", "slug": "p"}, {"id": "never", "slug": "q"}]}}', :'hers', client_id => 'tablet', on_rejected => 'report') -> 'experimentalRejectedIds' AS rejected;
RESET ROLE;
-- So it is within one transaction.
INSERT INTO notes (id, owner) VALUES ('before', 'bob');
SELECT pull_changes('{notes}') ->> 'timestamp' AS hers \gset
DELETE FROM notes WHERE id = 'before';
SET ROLE alice;
BEGIN;
INSERT INTO notes (id, owner) VALUES ('before', 'alice'), ('after', 'alice');
SELECT push_changes('{"notes": {"updated": [{"id": "before", "slug": "r"}, {"id": "after", "slug": "s"}]}}', :'hers', on_rejected => 'report');
ROLLBACK;
RESET ROLE;

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_push_hidden;
