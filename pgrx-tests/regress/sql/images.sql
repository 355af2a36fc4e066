-- Images large and small; and what a table can store, but an image or the log's index cannot: the user's statement never fails for it, and clients end up
-- with what their role may SELECT.
\set ECHO none
\set test regress_images
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE docs (id int PRIMARY KEY, doc json, n numeric, f float8, body text);
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY objects ON docs USING (json_typeof(doc) = 'object' AND n IS DISTINCT FROM 0 AND f IS DISTINCT FROM 0 AND length(body) IS DISTINCT FROM 0);
GRANT SELECT (id), SELECT ON docs TO alice;
SELECT snapsync.enable('docs');
INSERT INTO docs (id, doc) VALUES (1, '{}'), (2, '{"a": "\u0041", "n": 1e300}');
SELECT t.sync('alice', 'docs');
-- Ordinary values, NaN and infinity among them, have their image.
INSERT INTO docs VALUES (3, '{}', 'NaN', 'Infinity', E'\\u0000'), (4, '{}', '-Infinity', 'NaN', repeat('x', 100000));
SELECT t.sync('alice', 'docs');
DELETE FROM docs WHERE id IN (2, 3, 4);
SELECT t.sync('alice', 'docs');
-- No jsonb can be made of these; an image can.
INSERT INTO docs (id, doc) VALUES (5, '{"a": "\u0000"}'), (6, '{"a": "\ud800"}'), (7, '{"a": 1e200000}'), (8, ('{"a": ' || repeat('[', 600) || repeat(']', 600) || '}')::json);
SELECT count(*) FROM docs;
SELECT id FROM docs ORDER BY id;
SELECT op, key FROM snapsync.change WHERE stamp = (SELECT max(stamp) FROM snapsync.change);
-- Changed into one, out of one, and within.
UPDATE docs SET doc = '{"b": "\u0000"}' WHERE id = 1;
SELECT op, key FROM snapsync.change WHERE stamp = (SELECT max(stamp) FROM snapsync.change);
UPDATE docs SET doc = '{}' WHERE id = 1;
SELECT op, key FROM snapsync.change WHERE stamp = (SELECT max(stamp) FROM snapsync.change);
UPDATE docs SET body = 'y' WHERE id = 6;
DELETE FROM docs WHERE id >= 5;
SELECT op, key FROM snapsync.change WHERE stamp = (SELECT max(stamp) FROM snapsync.change);
SELECT t.sync('alice', 'docs');
-- Too large.
INSERT INTO docs (id, doc, body) VALUES (9, '{}', repeat('x', 20000000));
DELETE FROM docs WHERE id = 9;
SELECT op, key FROM snapsync.change WHERE stamp = (SELECT max(stamp) FROM snapsync.change);
SELECT t.sync('alice', 'docs');

-- Who does not own the table can write no such row: what he did to his own would reset everybody. By the length of the text, however short the value
-- is that it is made of; also of a new version, and in columns that only together are too long.
CREATE TABLE lists (id int PRIMARY KEY, owner name NOT NULL DEFAULT current_user, shared text[] NOT NULL DEFAULT '{}', doc jsonb, bits bytea, n numeric[], body text);
ALTER TABLE lists ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON lists USING (owner = current_user OR current_user = ANY (shared) OR doc = '0' OR bits = '' OR n = '{}');
GRANT ALL ON lists TO alice, bob;
SELECT snapsync.enable('lists');
INSERT INTO lists VALUES (1, 'alice'), (2, 'bob');
SELECT t.sync('alice', 'lists');
SET ROLE bob;
SELECT * FROM t.error($$INSERT INTO lists (id, shared) SELECT 3, array_fill('x'::text, ARRAY[8600000])$$);
SELECT * FROM t.error($$INSERT INTO lists (id, bits) VALUES (3, decode(repeat('00', 9000000), 'hex'))$$);
SELECT * FROM t.error($$INSERT INTO lists (id, bits, shared) VALUES (3, decode(repeat('00', 5000000), 'hex'), ARRAY[repeat('x', 8000000)])$$);
SELECT * FROM t.error($$INSERT INTO lists (id, n) SELECT 3, array_fill('1e131000'::numeric, ARRAY[200])$$);
SELECT * FROM t.error($$UPDATE lists SET doc = to_jsonb(repeat('x', 17000000))$$);
SELECT * FROM t.error($$SELECT push_changes(json_build_object('lists', json_build_object('created', ARRAY[json_build_object('id', 4, 'owner', 'bob', 'shared', ARRAY[repeat('x', 17000000)]), json_build_object('id', 3)])))$$);
SELECT a #>> '{rejected,0,id}' AS id, a #>> '{rejected,0,code}' AS code
FROM push_changes(json_build_object('lists', json_build_object('created', ARRAY[json_build_object('id', 4, 'owner', 'bob', 'shared', ARRAY[repeat('x', 17000000)]), json_build_object('id', 3, 'owner', 'bob', 'shared', ARRAY[]::text[])])), on_rejected => 'report') AS a;
-- What has room is written, and a column that no policy reads has no limit.
INSERT INTO lists (id, shared, n, body) SELECT 5, array_fill('x'::text, ARRAY[100000]), array_fill('1e131000'::numeric, ARRAY[50]), repeat('x', 20000000);
DELETE FROM lists WHERE id = 5;
RESET ROLE;
SELECT op, count(*) FROM snapsync.change WHERE relation = 'lists'::regclass GROUP BY op ORDER BY op;
SELECT t.sync('alice', 'lists');
-- The owner can; and what he has written others may change otherwise.
INSERT INTO lists (id, owner, shared) VALUES (6, 'bob', ARRAY[repeat('x', 17000000)]);
SELECT t.sync('alice', 'lists');
SET ROLE bob;
UPDATE lists SET body = 'y' WHERE id = 6;
RESET ROLE;
SELECT t.sync('alice', 'lists');

-- In a table that decides who sees another's rows.
CREATE TABLE grants (id int PRIMARY KEY, who name, doc json);
CREATE TABLE notes (id int PRIMARY KEY, n int);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY granted ON notes USING (EXISTS (SELECT FROM grants AS g WHERE g.id = notes.n AND g.who = current_user AND json_typeof(g.doc) = 'object'));
GRANT SELECT ON notes, grants TO alice;
SET client_min_messages = warning;
SELECT snapsync.enable('notes');
RESET client_min_messages;
INSERT INTO notes VALUES (1, 1), (2, 2);
SELECT t.sync('alice', 'notes');
INSERT INTO grants VALUES (1, 'alice', '{"a": "\u0000"}'), (2, 'alice', '[]');
SELECT t.sync('alice', 'notes');
UPDATE grants SET doc = '{"b": "\u0000"}' WHERE id = 2;
SELECT t.sync('alice', 'notes');
DELETE FROM grants WHERE id = 1;
SELECT t.sync('alice', 'notes');

-- A scope that no index holds.
CREATE TABLE scoped (id int PRIMARY KEY, org text, n int);
SELECT snapsync.enable('scoped', scope_column => 'org');
SELECT t.catch_up('scoped');
INSERT INTO scoped SELECT 1, string_agg(md5(i::text), ''), 1 FROM generate_series(1, 200) AS i;
INSERT INTO scoped VALUES (2, 'short', 2);
SELECT pull_changes('{scoped}', current_setting('t.cursor'), filter => json_build_object('scoped', json_build_object('org', (SELECT org FROM scoped WHERE id = 1)))::jsonb) #>> '{changes,scoped,created,0,id}';
SELECT pull_changes('{scoped}', current_setting('t.cursor'), filter => '{"scoped": {"org": "short"}}') #> '{changes,scoped}';
SELECT t.catch_up('scoped');
UPDATE scoped SET org = 'short' WHERE id = 1;
SELECT pull_changes('{scoped}', current_setting('t.cursor'), filter => '{"scoped": {"org": "short"}}') #> '{changes,scoped}';

-- Entries that are toasted, among others that are not.
CREATE TABLE mixed (id int PRIMARY KEY, body text);
ALTER TABLE mixed ENABLE ROW LEVEL SECURITY;
CREATE POLICY written ON mixed USING (body <> '');
GRANT SELECT ON mixed TO alice;
SELECT snapsync.enable('mixed');
INSERT INTO mixed SELECT i, CASE WHEN i % 3 = 0 THEN repeat(md5(i::text), i) ELSE 'x' END FROM generate_series(1, 300) AS i;
SELECT t.sync('alice', 'mixed') ~ 'BUT HAS';
DELETE FROM mixed WHERE id % 2 = 0;
UPDATE mixed SET body = '' WHERE id % 7 = 0;
SELECT t.sync('alice', 'mixed') ~ 'BUT HAS';

-- The writer's time zone, of whatever offset, changes no image. (A timetz brings its zone along: what PostgreSQL reads back as another one is
-- unreadable, as what it does not read back is.)
CREATE TABLE visits (id int PRIMARY KEY, at timestamptz, times timestamptz[], clock timetz, clocks timetz[]);
ALTER TABLE visits ENABLE ROW LEVEL SECURITY;
CREATE POLICY late ON visits USING (at >= '2026-01-10 00:00+00' AND times[1] IS NOT NULL);
GRANT ALL ON visits TO alice;
SELECT snapsync.enable('visits');
INSERT INTO visits SELECT i, '2026-01-11 00:00+00', '{2026-01-11 00:00+00}' FROM generate_series(1, 5) AS i;
INSERT INTO visits SELECT i, '2026-01-09 00:00+00', '{2026-01-09 00:00+00}' FROM generate_series(6, 9) AS i;
SELECT t.sync('alice', 'visits');
SET TimeZone = '<X>+100'; DELETE FROM visits WHERE id IN (1, 6);
SET TimeZone = '<X>-100'; DELETE FROM visits WHERE id IN (2, 7);
SET TimeZone = '<X>-50'; DELETE FROM visits WHERE id IN (3, 8);
SET TimeZone = 'Asia/Kathmandu'; DELETE FROM visits WHERE id IN (4, 9);
RESET TimeZone;
SELECT DISTINCT image ->> 'at' AS at, image ->> 'times' AS times FROM snapsync.change WHERE relation = 'visits'::regclass AND image IS NOT NULL;
SELECT t.sync('alice', 'visits');
SET TimeZone = '<X>+100';
SELECT pull_changes('{visits}') #>> '{changes,visits,created,0,at}' AS at, (SELECT to_json(at) FROM visits) AS as_json;
RESET TimeZone;
CREATE POLICY clock ON visits AS RESTRICTIVE USING (clock < '12:00+00' AND clocks[1] < '12:00+00');
SELECT t.sync('alice', 'visits');
INSERT INTO visits SELECT 10, '2026-01-11 00:00+00', '{2026-01-11 00:00+00}', t, ARRAY[t, NULL] FROM CAST('06:00+15' AS timetz) AS t;
INSERT INTO visits SELECT 11, '2026-01-11 00:00+00', '{2026-01-11 00:00+00}', t, ARRAY[t, NULL] FROM timezone(interval '100 h', CAST('06:00+00' AS timetz)) AS t;
SELECT t.sync('alice', 'visits');
DELETE FROM visits WHERE id = 10;
SELECT image ->> 'clock' AS clock, image ->> 'clocks' AS clocks FROM snapsync.change WHERE key = '10' AND op = 'D';
SELECT t.sync('alice', 'visits');
DELETE FROM visits WHERE id = 11;
SELECT image ->> 'clock' AS clock, image ->> 'clocks' AS clocks FROM snapsync.change WHERE key = '11' AND op = 'D';
SELECT t.sync('alice', 'visits');
-- Also of a thousand hours, and in rows and ranges.
CREATE TYPE slot AS (clock timetz, n int);
CREATE TYPE clock_range AS RANGE (subtype = timetz);
CREATE TABLE slots (id int PRIMARY KEY, clock timetz, slot slot, span clock_range);
ALTER TABLE slots ENABLE ROW LEVEL SECURITY;
CREATE POLICY clock ON slots USING (clock < '12:00+00' OR (slot).clock < '12:00+00' OR '12:00+00' = ANY (ARRAY[lower(span)]));
GRANT SELECT ON slots TO alice;
SELECT snapsync.enable('slots');
INSERT INTO slots VALUES (1, '06:00+15', ROW('06:00+15', -1000)::slot, '[06:00+15,)');
INSERT INTO slots (id, clock) SELECT 2, timezone(interval '1000 h', CAST('06:00+00' AS timetz));
INSERT INTO slots (id, slot) SELECT 3, ROW(timezone(interval '100 h', CAST('06:00+00' AS timetz)), 1)::slot;
INSERT INTO slots (id, span) SELECT 4, clock_range(timezone(interval '100 h', CAST('06:00+00' AS timetz)), NULL);
SELECT key, image IS NOT NULL AS "has an image" FROM snapsync.change WHERE relation = 'slots'::regclass;
DELETE FROM slots WHERE id = 1;
SELECT image FROM snapsync.change WHERE relation = 'slots'::regclass AND key = '1';
SELECT t.catch_up('slots');
DELETE FROM slots WHERE id = 2;
SELECT t.catch_up('slots');
SELECT op, key, image FROM snapsync.change WHERE relation = 'slots'::regclass AND stamp = (SELECT max(stamp) FROM snapsync.change);
DELETE FROM slots WHERE id = 3;
SELECT op, key, image FROM snapsync.change WHERE relation = 'slots'::regclass AND stamp = (SELECT max(stamp) FROM snapsync.change);
DELETE FROM slots WHERE id = 4;
SELECT op, key, image FROM snapsync.change WHERE relation = 'slots'::regclass AND stamp = (SELECT max(stamp) FROM snapsync.change);
-- Objects in arrays and rows have no names that say the same later.
CREATE TABLE named ();
CREATE TYPE of_named AS (tab regclass, n int);
CREATE TABLE tabs (id int PRIMARY KEY, tab regclass, tabs regclass[], one of_named);
ALTER TABLE tabs ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON tabs USING ('named'::regclass = tab OR 'named'::regclass = ANY (tabs) OR (one).tab = 'named'::regclass);
GRANT SELECT ON tabs TO alice;
SELECT snapsync.enable('tabs');
INSERT INTO tabs VALUES (1, 'named', NULL, NULL), (2, NULL, '{named}', NULL), (3, NULL, NULL, ROW('named', 1)::of_named);
SELECT t.sync('alice', 'tabs');
DELETE FROM tabs;
ALTER TABLE named RENAME TO named_before;
CREATE TABLE named ();
SELECT t.sync('alice', 'tabs');
