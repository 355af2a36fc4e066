-- Times in which nothing was logged, and columns that are others than before, where the table's definition looks the same afterwards. (t.sync()
-- complains if a device ends up with anything but what its role may SELECT.)
\set ECHO none
\set test regress_ddl_gaps
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET client_min_messages = error;
\set ECHO all
-- Triggers that are switched off, and on again as they must be: on a table that a policy reads, and on a synced one.
CREATE TABLE members (room int, who name, PRIMARY KEY (room, who));
GRANT SELECT ON members TO PUBLIC;
SELECT t.secured('notes', ', room int', 'room IN (SELECT room FROM members WHERE who = current_user)');
INSERT INTO members VALUES (1, 'alice'), (2, 'alice');
INSERT INTO notes VALUES (1, 1), (2, 2), (3, 2);
SELECT t.sync('alice', 'notes');
ALTER TABLE members DISABLE TRIGGER USER;
SELECT t.sync('alice', 'notes');
DELETE FROM members WHERE room = 1;
ALTER TABLE members ENABLE ALWAYS TRIGGER "00_snapsync_track", ENABLE ALWAYS TRIGGER "00_snapsync_truncate";
SELECT t.sync('alice', 'notes');
SELECT t.sync('alice', 'notes');
BEGIN;
ALTER TABLE notes DISABLE TRIGGER USER;
DELETE FROM notes WHERE id = 3;
ALTER TABLE notes ENABLE ALWAYS TRIGGER "00_snapsync_track", ENABLE ALWAYS TRIGGER "00_snapsync_truncate";
COMMIT;
SELECT t.sync('alice', 'notes');
SELECT t.sync('alice', 'notes');
ALTER TABLE notes ADD COLUMN body text;
SELECT t.sync('alice', 'notes');

-- The mark of deletion, and the scope, dropped and added anew in one command, where neither is synced.
CREATE TABLE marked (id int PRIMARY KEY, gone boolean NOT NULL DEFAULT false);
CREATE TABLE scoped (id int PRIMARY KEY, room text DEFAULT 'a');
GRANT SELECT ON marked, scoped TO PUBLIC;
SELECT snapsync.enable('marked', soft_delete_column => 'gone', exclude => '{gone}'),
       snapsync.enable('scoped', scope_column => 'room', scope_values => 'ARRAY[''a'']', exclude => '{room}');
INSERT INTO marked VALUES (1), (2);
INSERT INTO scoped VALUES (1), (2);
SELECT t.catch_up('marked', 'scoped');
ALTER TABLE marked DROP COLUMN gone, ADD COLUMN gone boolean NOT NULL DEFAULT true;
SELECT t.pull_ids('marked');
SELECT t.catch_up('marked', 'scoped');
ALTER TABLE scoped DROP COLUMN room, ADD COLUMN room text DEFAULT 'b';
SELECT t.pull_ids('scoped');
SELECT t.pull_ids('scoped');

-- Another collation, of a column that a function compares which takes the row.
SELECT t.secured('words', ', word text COLLATE "C"', 'false');
CREATE FUNCTION is_late(words) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT $1.word > 'Z' $$;
CREATE POLICY late ON words FOR SELECT USING (is_late(words));
INSERT INTO words VALUES (1, 'a'), (2, 'B');
SELECT t.sync('alice', 'words');
ALTER TABLE words ALTER COLUMN word TYPE text COLLATE "POSIX";
SELECT t.sync('alice', 'words');

-- What followed a key to a table is gone, which is still read otherwise: its triggers say more than they must, and are ours all the same.
CREATE TABLE projects (id int PRIMARY KEY, who name);
GRANT SELECT ON projects TO PUBLIC;
SELECT t.secured('tied', ', project int REFERENCES projects ON DELETE CASCADE', 'project IN (SELECT id FROM projects WHERE who = current_user)'),
       t.secured('untied', ', project int', 'project IN (SELECT id FROM projects WHERE who = current_user)');
SELECT snapsync.disable('tied');
SELECT finding FROM snapsync.doctor() WHERE finding ~ 'trigger';
SELECT tgname, encode(tgargs, 'escape') ~ 'parent' FROM pg_trigger WHERE tgrelid = 'projects'::regclass AND tgname ~ 'track';

-- JSON that is nested too deep to be read back, in a column that decides who sees the row: for the owner alone.
SELECT t.secured('documents', ', owner name, acl jsonb', 'owner = current_user OR acl ? current_user');
GRANT ALL ON documents TO PUBLIC;
CREATE POLICY writes ON documents FOR INSERT WITH CHECK (true);
SET ROLE alice;
INSERT INTO documents VALUES (1, 'alice', (repeat('[', 1000) || repeat(']', 1000))::jsonb);
SELECT * FROM t.error($$ INSERT INTO documents VALUES (2, 'alice', (repeat('[', 1001) || repeat(']', 1001))::jsonb) $$);
SELECT * FROM t.error($$ INSERT INTO documents VALUES (3, 'alice', jsonb_build_object('a', repeat('[', 5000))) $$);
RESET ROLE;
-- So it is with JSON in arrays, rows and ranges, however well it is packed there, and with what else nests.
CREATE TYPE titled AS (title text, body jsonb);
CREATE DOMAIN titles AS titled[];
CREATE TYPE from_to AS RANGE (subtype = jsonb);
SELECT t.secured('nested', ', owner name, tags jsonb[], one titled, many titles, span from_to, spans from_to_multirange, path jsonpath, q tsquery',
                 $$owner = current_user OR '"p"' = ANY (tags) OR (one).title = 'p' OR (many[1]).title = 'p' OR span = 'empty' OR spans IS NULL OR path::text = '$' OR q = 'p'$$);
GRANT ALL ON nested TO PUBLIC;
CREATE POLICY writes ON nested FOR INSERT WITH CHECK (true);
CREATE FUNCTION levels(n int) RETURNS jsonb LANGUAGE sql AS $$ SELECT (repeat('[', n) || repeat(']', n))::jsonb $$;
SET ROLE alice;
CREATE TEMP TABLE packed AS SELECT levels(5000) AS body;
INSERT INTO nested VALUES (1, 'alice', ARRAY[levels(1000), levels(1000)], ROW('a', levels(1000)), ARRAY[ROW('a', levels(1000))::titled],
                           from_to('[1]', levels(500)), from_to_multirange(from_to('[1]', levels(500))), ('$' || repeat('.a', 400))::jsonpath, (repeat('a|', 200) || 'b')::tsquery);
INSERT INTO nested (id, owner, tags, path) SELECT 2, 'alice', array_agg(jsonb_build_object('a', n)), '$' FROM generate_series(1, 5000) AS n;
SELECT * FROM t.error($$ INSERT INTO nested (id, owner, tags) VALUES (3, 'alice', ARRAY['1', NULL, levels(1001)]) $$);
SELECT * FROM t.error($$ INSERT INTO nested (id, owner, one) SELECT 3, 'alice', ROW('a', body)::titled FROM packed $$);
SELECT * FROM t.error($$ INSERT INTO nested (id, owner, many) SELECT 3, 'alice', ARRAY[ROW('a', body)::titled] FROM packed $$);
SELECT * FROM t.error($$ INSERT INTO nested (id, owner, span) VALUES (3, 'alice', from_to('[1]', levels(1001))) $$);
SELECT * FROM t.error($$ INSERT INTO nested (id, owner, spans) VALUES (3, 'alice', from_to_multirange(from_to('[1]', levels(1001)))) $$);
SELECT * FROM t.error($$ INSERT INTO nested (id, owner, path) VALUES (3, 'alice', ('$' || repeat('.a', 2000))::jsonpath) $$);
SELECT * FROM t.error($$ INSERT INTO nested (id, owner, q) VALUES (3, 'alice', (repeat('(a&(b|', 140) || 'c' || repeat('))', 140))::tsquery) $$);
RESET ROLE;
-- (Types may be as deep as the stack, too. Who writes may have little of it.)
CREATE TYPE deep_0 AS (a int);
DO $$ BEGIN FOR i IN 1..150 LOOP EXECUTE format('CREATE TYPE deep_%s AS (v deep_%s[])', i, i - 1); END LOOP; END $$;
CREATE TABLE deep (id int PRIMARY KEY, v deep_150);
SELECT snapsync.enable('deep');
SET max_stack_depth = '100kB';
SELECT * FROM t.error('INSERT INTO deep VALUES (1)');
RESET max_stack_depth;
INSERT INTO deep VALUES (1);

-- A policy that reads a temporary view, which has no rows of its own, so that every session reads it, and a column of a temporary row type.
CREATE TEMP VIEW seen AS SELECT 1 AS id UNION ALL SELECT 2;
GRANT SELECT ON seen TO PUBLIC;
CREATE TYPE pg_temp.pair AS (x int, y int);
SELECT t.secured('by_view', '', 'id IN (SELECT id FROM pg_temp.seen)'), t.secured('pairs', ', c pg_temp.pair', 'true');
INSERT INTO by_view VALUES (1), (2);
INSERT INTO pairs VALUES (1, (1, 2));
SELECT t.sync('alice', 'by_view'), t.sync('alice', 'pairs');
CREATE OR REPLACE TEMP VIEW seen AS SELECT 1 AS id;
SELECT t.sync('alice', 'by_view');
CREATE OR REPLACE TEMP VIEW seen AS SELECT 1 AS id UNION ALL SELECT 2;
SELECT t.sync('alice', 'by_view');
ALTER TYPE pg_temp.pair RENAME ATTRIBUTE y TO z;
SELECT t.sync('alice', 'pairs');
-- Dictionaries and configurations may be temporary, too.
CREATE TEXT SEARCH DICTIONARY pg_temp.words (TEMPLATE = simple, ACCEPT = true);
CREATE TEXT SEARCH CONFIGURATION pg_temp.word (PARSER = "default");
ALTER TEXT SEARCH CONFIGURATION pg_temp.word ADD MAPPING FOR asciiword WITH pg_temp.words;
SELECT t.secured('texts', ', v text', $$to_tsvector('pg_temp.word', v) <> ''$$);
INSERT INTO texts VALUES (1, 'a');
SELECT t.sync('alice', 'texts');
ALTER TEXT SEARCH DICTIONARY pg_temp.words (ACCEPT = false);
SELECT t.sync('alice', 'texts');
ALTER TEXT SEARCH CONFIGURATION pg_temp.word DROP MAPPING FOR asciiword;
SELECT t.sync('alice', 'texts');
-- (Nothing rests on a temporary table.)
CREATE TEMP TABLE aside (id int PRIMARY KEY);
SELECT t.sync('alice', 'by_view'), t.sync('alice', 'pairs'), t.sync('alice', 'texts');
DISCARD TEMP;

-- An operator that makes itself the negator of one that a policy uses is planned in its place; so is one that goes.
CREATE FUNCTION is_one(text, text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN $1 = $2; END $$;
CREATE FUNCTION is_other(text, text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN true; END $$;
CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = is_one);
SELECT t.secured('negated', ', v text', $$NOT v === 'a'$$);
INSERT INTO negated VALUES (1, 'a'), (2, 'b');
SELECT t.sync('alice', 'negated');
CREATE OPERATOR !=== (LEFTARG = text, RIGHTARG = text, FUNCTION = is_other, NEGATOR = ===);
SELECT t.sync('alice', 'negated');
-- Its function is another.
CREATE OR REPLACE FUNCTION is_other(text, text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN $1 = 'b'; END $$;
SELECT t.sync('alice', 'negated');
CREATE OR REPLACE FUNCTION is_other(text, text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN true; END $$;
SELECT t.sync('alice', 'negated');
DROP OPERATOR !=== (text, text);
SELECT t.sync('alice', 'negated');
-- One that takes the operands the other way round.
CREATE OPERATOR ==== (LEFTARG = text, RIGHTARG = text, FUNCTION = is_one, COMMUTATOR = ===);
SELECT t.sync('alice', 'negated');
-- Others are nobody's.
CREATE OPERATOR #### (LEFTARG = text, RIGHTARG = text, FUNCTION = is_other);
SELECT t.sync('alice', 'negated');

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_ddl_gaps;
