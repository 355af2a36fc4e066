-- What followed a key to a table is gone, and the table is still read otherwise: its triggers say more than they must, and a dump of them is
-- restored, as one transaction.
\set ECHO none
\set test regress_dump_untied
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_dump_untied_copy;
CREATE DATABASE regress_dump_untied_copy TEMPLATE template0 ENCODING 'UTF8';
\set load '\\! "$SNAPSYNC_PG_BIN/pg_dump" regress_dump_untied | "$SNAPSYNC_PG_BIN/psql" -X -q -1 -v ON_ERROR_STOP=1 -o /dev/null -d regress_dump_untied_copy 2>&1 | grep -c ERROR'
\set ECHO all
CREATE TABLE projects (id int PRIMARY KEY, who name);
GRANT SELECT ON projects TO PUBLIC;
SELECT t.secured('tied', ', project int REFERENCES projects ON DELETE CASCADE', 'project IN (SELECT id FROM projects WHERE who = current_user)'),
       t.secured('untied', ', project int', 'project IN (SELECT id FROM projects WHERE who = current_user)');
INSERT INTO projects VALUES (1, 'alice'), (2, 'bob');
INSERT INTO untied VALUES (1, 1), (2, 2);
SELECT snapsync.disable('tied');
:load
\c regress_dump_untied_copy
SELECT tgname, tgenabled, encode(tgargs, 'escape') ~ 'parent' FROM pg_trigger WHERE tgrelid = 'projects'::regclass AND tgname ~ '^00' ORDER BY 1;
SELECT finding FROM snapsync.doctor() WHERE severity = 'error';
SELECT t.sync('alice', 'untied');
UPDATE projects SET who = 'alice' WHERE id = 2;
SELECT t.sync('alice', 'untied');

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_dump_untied;
DROP DATABASE regress_dump_untied_copy;
