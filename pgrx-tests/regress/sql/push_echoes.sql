-- skip_echoes: a client need not hear of rows that stand as it pushed them, and must hear of all others.
\set ECHO none
\set test regress_push_echoes
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET timezone = 'UTC';

-- A device with the client_id `me`: pushes from its cursor; pulls what it does not know itself. t.echo() pulls without
-- keeping the cursor and says what would have come with echoes (beside the ids that did not come: "=").
CREATE FUNCTION t.push(changes text, dialect text DEFAULT NULL, on_rejected text DEFAULT NULL, push_id uuid DEFAULT NULL)
RETURNS text LANGUAGE sql AS $$
    SELECT public.push_changes(changes::json, current_setting('t.cursor'), dialect => dialect, client_id => 'me',
                               on_rejected => on_rejected, push_id => push_id) #>> '{}'
$$;
CREATE FUNCTION t.come(collection text, skip boolean, dialect text) RETURNS TABLE (id text, what text, item text) LANGUAGE sql AS $$
    SELECT CASE WHEN a.key = 'deleted' THEN i.value #>> '{}' ELSE i.value ->> 'id' END, a.key, i.value::text
    FROM public.pull_changes(ARRAY[collection], current_setting('t.cursor'), client_id => 'me', dialect => dialect, skip_echoes => skip) AS p,
         json_each(p #> ARRAY['changes', collection]) AS a, json_array_elements(a.value) AS i
$$;
CREATE FUNCTION t.echo(collection text, dialect text DEFAULT NULL) RETURNS TABLE (id text, comes text) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT l.id, coalesce(s.what || ' ' || s.item, '=')
                 FROM t.come(collection, false, dialect) AS l LEFT JOIN t.come(collection, true, dialect) AS s USING (id) ORDER BY l.id COLLATE "C";
    PERFORM set_config('t.cursor', public.pull_changes(ARRAY[collection], current_setting('t.cursor')) ->> 'timestamp', false);
END
$$;

-- Whose echoes?
SELECT * FROM t.error($$SELECT pull_changes('{}', skip_echoes => true)$$);

-- Values of all kinds, as they come back.
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TABLE todos (
    id text PRIMARY KEY, title text, done boolean, small smallint, n int, big bigint, num numeric, f float8, u uuid, m mood,
    doc jsonb, raw json, at timestamptz, at_ms timestamptz(3), local timestamp, day date, short varchar(5)
);
SELECT snapsync.enable('todos');
SELECT t.catch_up('todos');
SELECT t.push('{"todos": {"created": [
    {"id": "all", "title": "x", "done": true, "small": 1, "n": -2, "big": 9223372036854775807, "num": 1.10, "f": 0.1, "u": "7b1e7d80-0000-4000-8000-00000000000a", "m": "sad",
     "doc": {"a": [1, null]}, "raw": [1,  2], "at": "2026-02-03T04:05:06.789123Z", "at_ms": "2026-02-03T04:05:06.789Z", "local": "2026-02-03T04:05:06", "day": "2026-02-03", "short": "12345"},
    {"id": "few", "title": "x"}, {"id": "none"}, {"id": "nulls", "title": null, "n": null},
    {"id": "text number", "n": "5"}, {"id": "number text", "title": 5}, {"id": "uuid", "u": "7B1E7D80-0000-4000-8000-00000000000A"}, {"id": "blank", "short": "12345 "},
    {"id": "ms", "at": 1700000000123}, {"id": "finer", "at_ms": "2026-02-03T04:05:06.7891Z"}, {"id": "no offset", "at": "2026-02-03T04:05:06"}, {"id": "offset", "local": "2026-02-03T04:05:06Z"},
    {"id": "float", "f": 0.10000000000000001}, {"id": "infinite", "at": "infinity"}]}}');
SELECT id, CASE WHEN comes = '=' THEN comes ELSE 'comes' END FROM t.echo('todos');
SELECT t.push('{"todos": {"updated": [{"id": "all", "title": "y"}, {"id": "few", "num": 1e2, "f": -1.5e-7}, {"id": "ms", "at": "2026-02-03T04:05:06.789123456Z"}], "deleted": ["none", "never"]}}');
SELECT id, CASE WHEN comes = '=' THEN comes ELSE 'comes' END FROM t.echo('todos');
-- WatermelonDB's forms.
SELECT t.push('{"todos": {"created": [{"id": "w", "_status": "created", "_changed": "", "title": "x", "doc": "[\"a\"]", "raw": "{}", "at": 1700000000123, "at_ms": null, "n": 5},
    {"id": "w nested", "doc": ["a"]}, {"id": "w text", "at": "2026-02-03T04:05:06Z"}, {"id": "w half", "at": 1700000000123.5}, {"id": "w day", "day": 1700000000000}],
    "updated": [{"id": "all", "_status": "updated", "_changed": "title", "title": "z", "big": 9223372036854775000, "at": 1770091506789}]}}', 'watermelondb');
SELECT id, CASE WHEN comes = '=' THEN comes ELSE 'comes' END FROM t.echo('todos', 'watermelondb');
SELECT title, big, at FROM todos WHERE id = 'all';

-- Never with a first pull or a replacement, and not without asking.
SELECT t.push('{"todos": {"created": [{"id": "own", "title": "x"}]}}');
SELECT json_array_length(pull_changes('{todos}', NULL, client_id => 'me', skip_echoes => true) #> '{changes,todos,created}') = count(*) FROM todos;
SELECT pull_changes('{todos}', current_setting('t.cursor'), client_id => 'other', skip_echoes => true) #> '{changes,todos,created}';
SELECT snapsync.reset('todos');
SELECT json_array_length(pull_changes('{todos}', current_setting('t.cursor'), client_id => 'me', skip_echoes => true) #> '{changes,todos,updated}') = count(*) FROM todos;
SELECT t.catch_up('todos');

-- What others did to the row meanwhile, before or after.
SELECT t.push('{"todos": {"updated": [{"id": "all", "title": "mine"}, {"id": "few", "title": "mine"}], "deleted": ["w"]}}');
UPDATE todos SET n = 7 WHERE id = 'all';
INSERT INTO todos (id) VALUES ('w');
SELECT id, comes FROM t.echo('todos') WHERE id <> 'all' UNION ALL SELECT 'all', n::text FROM todos WHERE id = 'all';
-- In the same transaction.
BEGIN;
SELECT t.push('{"todos": {"updated": [{"id": "all", "title": "again"}, {"id": "few", "title": "again"}]}}');
UPDATE todos SET n = 8 WHERE id = 'few';
COMMIT;
SELECT id, left(comes, 7) FROM t.echo('todos');
-- Pushed twice: both times the client knew.
SELECT t.push('{"todos": {"updated": [{"id": "few", "title": "once"}]}}');
SELECT t.push('{"todos": {"updated": [{"id": "few", "title": "twice"}], "created": [{"id": "brief"}]}}');
SELECT t.push('{"todos": {"deleted": ["brief"]}}');
SELECT * FROM t.echo('todos');
-- The same push again, by its push_id; and without one.
SELECT t.push('{"todos": {"updated": [{"id": "few", "title": "thrice"}]}}', push_id => '00000000-0000-4000-8000-000000000001');
SELECT t.push('{"todos": {"updated": [{"id": "few", "title": "thrice"}]}}', push_id => '00000000-0000-4000-8000-000000000001');
SELECT * FROM t.echo('todos');
SELECT t.push('{"todos": {"created": [{"id": "lost", "title": "answer"}]}}');
SELECT t.push('{"todos": {"created": [{"id": "lost", "title": "answer"}]}}');
SELECT * FROM t.echo('todos');
-- An id that stands there twice is merged: by rules of the server's.
SELECT t.push('{"todos": {"created": [{"id": "twice", "title": "a"}], "updated": [{"id": "twice", "title": "b"}]}}');
SELECT id, left(comes, 7) FROM t.echo('todos');
-- Without a client_id nobody's.
SELECT push_changes('{"todos": {"created": [{"id": "anonymous"}]}}');
SELECT id, left(comes, 7) FROM t.echo('todos');

-- Defaults, readonly, generated, identity and rounding columns.
CREATE TABLE made (id int PRIMARY KEY, title text, price numeric(10,1), at timestamptz DEFAULT '2026-01-01', stamp text);
CREATE TABLE computed (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED);
CREATE TABLE counted (id int PRIMARY KEY, n int, serial bigint GENERATED ALWAYS AS IDENTITY);
SELECT snapsync.enable('made', readonly => '{stamp}'), snapsync.enable('computed'), snapsync.enable('counted', exclude => '{serial}');
SELECT t.catch_up('made', 'computed', 'counted');
SELECT t.push('{"made": {"created": [{"id": 1, "title": "default"}, {"id": 2, "title": "own time", "at": "2026-02-02T00:00:00Z"}, {"id": 3, "at": null}, {"id": 4, "at": null, "price": 1.25}, {"id": "5", "at": null},
                                     {"id": 6, "at": null, "stamp": "mine"}]}}');
SELECT * FROM t.echo('made');
SELECT t.push('{"made": {"updated": [{"id": 1, "title": "known now"}, {"id": 2, "title": "y", "stamp": "mine"}, {"id": 3, "price": 0.05}, {"id": 4, "_changed": "title", "title": "y", "stamp": "as it was"}]}}');
SELECT * FROM t.echo('made');
SELECT t.push('{"computed": {"created": [{"id": 1, "n": 1}]}, "counted": {"created": [{"id": 1, "n": 1}]}}');
SELECT * FROM t.echo('computed');
SELECT t.push('{"computed": {"updated": [{"id": 1, "n": 2}]}}');
SELECT * FROM t.echo('computed');
-- What a role may not read need not be told.
CREATE TABLE partly (id int PRIMARY KEY, title text, secret text DEFAULT 'x');
GRANT SELECT (id, title), INSERT, UPDATE ON partly TO alice;
SELECT snapsync.enable('partly');
SET ROLE alice;
SELECT t.catch_up('partly');
SELECT t.push('{"partly": {"created": [{"id": 1, "title": "x"}]}}');
SELECT * FROM t.echo('partly');
RESET ROLE;

-- Keys: as a pull writes them, or the row has another id there.
CREATE TABLE things (id uuid PRIMARY KEY, n int);
CREATE TABLE pairs (a int, b text, n int, PRIMARY KEY (b, a));
SELECT snapsync.enable('things'), snapsync.enable('pairs');
SELECT t.catch_up('things', 'pairs');
SELECT t.push('{"things": {"created": [{"id": "00000000-0000-4000-8000-00000000000a", "n": 1}, {"id": "00000000-0000-4000-8000-00000000000B", "n": 1}]}}');
SELECT right(id, 1), right(comes, 50) FROM t.echo('things');
SELECT t.push('{"pairs": {"created": [{"a": 1, "b": "x", "n": 1}, {"a": "2", "b": "x", "n": 1}, {"id": "x.3", "n": 1}], "updated": [{"id": "y.1", "a": 1, "b": "y"}]}}');
SELECT x.item, y.item IS NULL AS skipped FROM t.come('pairs', false, NULL) AS x LEFT JOIN t.come('pairs', true, NULL) AS y USING (item) ORDER BY 1;
SELECT t.catch_up('pairs');
SELECT t.push('{"pairs": {"updated": [{"id": "x.3", "n": 2}], "deleted": ["x.2"]}}');
SELECT * FROM t.come('pairs', true, NULL);

-- Triggers and rules.
CREATE TABLE watched (id int PRIMARY KEY, n int, changed int);
CREATE TABLE quiet (id int PRIMARY KEY, n int);
CREATE TABLE journal (id int PRIMARY KEY, n int);
CREATE FUNCTION bump() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.changed := coalesce(old.changed, 0) + 1; RETURN new; END $$;
CREATE FUNCTION touch_watched() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE watched SET changed = 100 WHERE id = new.id; RETURN NULL; END $$;
CREATE TRIGGER bump BEFORE UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION bump();
SELECT snapsync.enable('watched'), snapsync.enable('quiet'), snapsync.enable('journal');
SELECT t.catch_up('watched');
SELECT t.push('{"watched": {"created": [{"id": 1, "n": 1}, {"id": 2, "n": 1}, {"id": 3, "n": 1}]}}');
SELECT * FROM t.echo('watched');
SELECT t.push('{"watched": {"updated": [{"id": 1, "n": 2}], "deleted": [3]}}');
SELECT * FROM t.echo('watched');
ALTER TABLE watched DISABLE TRIGGER bump;
SELECT t.push('{"watched": {"updated": [{"id": 1, "n": 3}]}}');
SELECT * FROM t.echo('watched');
-- An AFTER trigger of the table itself, or of another, touches the row; before its own statement, or after it; and also where
-- that changes nothing of the row, or its own statement nothing any more.
CREATE TRIGGER after_quiet AFTER INSERT OR UPDATE ON quiet FOR EACH ROW EXECUTE FUNCTION touch_watched();
SELECT t.push('{"quiet": {"created": [{"id": 1, "n": 1}]}, "watched": {"updated": [{"id": 1, "n": 4}, {"id": 2, "n": 4}]}}');
SELECT * FROM t.echo('watched');
UPDATE watched SET changed = 0;
SELECT t.catch_up('watched');
SELECT t.push('{"quiet": {"updated": [{"id": 1, "n": 2}]}, "watched": {"updated": [{"id": 1, "n": 4}]}}');
SELECT * FROM t.echo('watched');
DROP TRIGGER after_quiet ON quiet;
CREATE TRIGGER zz_after AFTER INSERT ON watched FOR EACH ROW EXECUTE FUNCTION touch_watched();
SELECT t.push('{"watched": {"created": [{"id": 4, "n": 1}], "updated": [{"id": 1, "n": 5}]}}');
SELECT * FROM t.echo('watched');
-- One that keeps what was to be deleted, and one that changes what is deleted.
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE journal SET n = -1 WHERE id = old.id; RETURN NULL; END $$;
INSERT INTO journal VALUES (1, 1);
SELECT t.catch_up('journal');
CREATE TRIGGER keep BEFORE DELETE ON journal FOR EACH ROW EXECUTE FUNCTION keep();
SELECT t.push('{"journal": {"deleted": [1], "created": [{"id": 2, "n": 2}]}}');
SELECT * FROM t.echo('journal');
DROP TRIGGER keep ON journal;
CREATE RULE double AS ON INSERT TO journal DO ALSO SELECT 1;
SELECT t.push('{"journal": {"updated": [{"id": 2, "n": 3}]}}');
SELECT * FROM t.echo('journal');
-- A trigger of a partition.
CREATE TABLE parts (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (20);
SELECT snapsync.enable('parts');
SELECT t.catch_up('parts');
SELECT t.push('{"parts": {"created": [{"id": 1, "n": 1}, {"id": 11, "n": 1}]}}');
SELECT * FROM t.echo('parts');
CREATE FUNCTION ten() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.n := 10; RETURN new; END $$;
CREATE TRIGGER ten BEFORE INSERT ON parts_2 FOR EACH ROW EXECUTE FUNCTION ten();
SELECT t.push('{"parts": {"created": [{"id": 2, "n": 1}, {"id": 12, "n": 1}], "updated": [{"id": 1, "n": 2}]}}');
SELECT * FROM t.echo('parts');

-- Foreign keys: rows that go, or change, with another.
CREATE TABLE parents (id int PRIMARY KEY, code text UNIQUE);
CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents ON DELETE CASCADE, code text REFERENCES parents (code) ON UPDATE CASCADE, title text);
SELECT snapsync.enable('parents'), snapsync.enable('children');
INSERT INTO parents VALUES (1, 'a'), (2, 'b');
INSERT INTO children VALUES (1, 1, NULL, 'x'), (2, 1, NULL, 'x'), (3, NULL, 'b', 'x'), (4, NULL, 'b', 'x');
SELECT t.catch_up('parents', 'children');
SELECT t.push('{"parents": {"deleted": [1], "updated": [{"id": 2, "code": "c"}]}, "children": {"deleted": [1], "updated": [{"id": 3, "title": "x"}, {"id": 4, "title": "y"}]}}');
SELECT 'parents', * FROM t.come('parents', true, NULL);
SELECT * FROM t.echo('children');

-- Row-level security: a row that goes out of sight by the client's own push is gone for it.
CREATE TABLE owned (id int PRIMARY KEY, owner name, n int);
ALTER TABLE owned ENABLE ROW LEVEL SECURITY;
CREATE POLICY see ON owned FOR SELECT USING (owner = current_user);
CREATE POLICY change ON owned FOR UPDATE USING (true);
CREATE POLICY add ON owned FOR INSERT WITH CHECK (true);
CREATE POLICY go ON owned FOR DELETE USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON owned TO alice;
SELECT snapsync.enable('owned');
INSERT INTO owned SELECT i, 'alice', i FROM generate_series(1, 4) AS i;
SET ROLE alice;
SELECT t.catch_up('owned');
SELECT * FROM t.error($$SELECT t.push('{"owned": {"updated": [{"id": 1, "owner": "bob"}]}}')$$) LIMIT 1;
SELECT t.push('{"owned": {"updated": [{"id": 2, "n": 20, "owner": "alice"}], "deleted": [3], "created": [{"id": 5, "owner": "alice", "n": 5}]}}');
SELECT * FROM t.echo('owned');
RESET ROLE;
-- (The policy for SELECT also checks new rows, so it takes a function to lose one.)
CREATE FUNCTION is_mine(row_owner name) RETURNS boolean LANGUAGE sql VOLATILE AS $$ SELECT row_owner = current_user OR current_setting('t.lax', true) = 'on' $$;
ALTER POLICY see ON owned USING (is_mine(owner));
SET ROLE alice;
SELECT t.catch_up('owned');
SET t.lax = 'on';
SELECT t.push('{"owned": {"updated": [{"id": 1, "owner": "bob"}, {"id": 2, "n": 21}]}}');
RESET t.lax;
SELECT * FROM t.echo('owned');
-- And one that comes into sight by it comes whole.
RESET ROLE;
UPDATE owned SET n = 111 WHERE id = 1;
SET ROLE alice;
SELECT t.catch_up('owned');
SET t.lax = 'on';
SELECT t.push('{"owned": {"updated": [{"id": 1, "owner": "alice"}]}}');
RESET t.lax;
SELECT * FROM t.echo('owned');
RESET ROLE;

-- A row that the client has deleted, and others' of the same id since: nothing is said unless the caller sees one of these, or could. (Whoever sets
-- such a trap would hear of rows that he never sees.)
CREATE TABLE slugs (id text PRIMARY KEY, owner text NOT NULL DEFAULT current_user, reader text, n int);
ALTER TABLE slugs ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON slugs USING (owner = current_user OR reader = current_user);
GRANT ALL ON slugs TO alice, bob;
CREATE TABLE rooms (room int, who text, PRIMARY KEY (room, who));
CREATE TABLE papers (id text PRIMARY KEY, room int);
ALTER TABLE papers ENABLE ROW LEVEL SECURITY;
CREATE POLICY room ON papers USING (room IN (SELECT r.room FROM rooms AS r WHERE r.who = current_user));
GRANT ALL ON papers, rooms TO alice, bob;
SELECT snapsync.enable('slugs'), snapsync.enable('papers');
INSERT INTO rooms VALUES (1, 'alice'), (2, 'alice'), (3, 'bob');
SET ROLE alice;
SELECT t.catch_up('slugs', 'papers') \g /dev/null
SELECT t.push('{"slugs": {"created": [{"id": "nobody"}, {"id": "kept"}, {"id": "gone"}, {"id": "shown"}, {"id": "shows"}, {"id": "device"}, {"id": "mine"}]},
                "papers": {"created": [{"id": "nobody", "room": 1}, {"id": "kept", "room": 1}, {"id": "gone", "room": 1}, {"id": "shown", "room": 1}, {"id": "shows", "room": 1}]}}');
SELECT t.catch_up('slugs', 'papers') \g /dev/null
SELECT t.push('{"slugs": {"deleted": ["nobody", "kept", "gone", "shown", "shows", "device", "mine"]}, "papers": {"deleted": ["nobody", "kept", "gone", "shown", "shows"]}}');
SELECT current_setting('t.cursor') AS before \gset
RESET ROLE;
INSERT INTO slugs VALUES ('kept', 'bob', NULL), ('gone', 'bob', NULL), ('shown', 'bob', 'alice'), ('shows', 'bob', NULL), ('device', 'alice', NULL), ('mine', 'bob', NULL);
INSERT INTO papers VALUES ('kept', 3), ('gone', 3), ('shown', 2), ('shows', 3);
UPDATE slugs SET n = 1 WHERE id IN ('kept', 'gone');
UPDATE slugs SET reader = NULL WHERE id = 'shown';
UPDATE slugs SET reader = 'alice' WHERE id = 'shows';
DELETE FROM slugs WHERE id IN ('gone', 'device', 'mine');
DELETE FROM papers WHERE id = 'gone';
SET ROLE alice;
SELECT t.push('{"slugs": {"created": [{"id": "mine", "owner": "alice", "reader": null, "n": 2}]}}');
SELECT id, comes FROM t.echo('slugs');
-- So it is where the caller's access has moved.
RESET ROLE;
DELETE FROM rooms WHERE room = 2 AND who = 'alice';
UPDATE papers SET room = 1 WHERE id = 'shows';
SET ROLE alice;
SELECT set_config('t.cursor', :'before', false) \g /dev/null
SELECT id, comes FROM t.echo('papers');
RESET ROLE;

-- Word of a row that was not stored, and that another device makes then: the client has it, whatever others had of that id.
CREATE TABLE vetoed (id text PRIMARY KEY, owner name NOT NULL DEFAULT current_user, n int);
CREATE FUNCTION veto() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN new.n < 0 THEN NULL ELSE new END; END $$;
CREATE TRIGGER veto BEFORE INSERT ON vetoed FOR EACH ROW EXECUTE FUNCTION veto();
ALTER TABLE vetoed ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON vetoed USING (owner = current_user);
GRANT ALL ON vetoed TO alice, bob;
SELECT snapsync.enable('vetoed');
SET ROLE alice;
SELECT t.catch_up('vetoed') \g /dev/null
SET ROLE bob;
INSERT INTO vetoed VALUES ('before');
DELETE FROM vetoed;
SET ROLE alice;
SELECT t.push('{"vetoed": {"created": [{"id": "nobody", "n": -1}, {"id": "before", "n": -1}, {"id": "between", "n": -1}]}}');
SET ROLE bob;
INSERT INTO vetoed VALUES ('between');
DELETE FROM vetoed;
SET ROLE alice;
INSERT INTO vetoed VALUES ('nobody'), ('before'), ('between');
SELECT id, what FROM t.come('vetoed', false, NULL) ORDER BY id;
RESET ROLE;

-- Scopes: a row that moves out of those asked for is gone there.
CREATE TABLE scoped (id int PRIMARY KEY, org int, n int);
SELECT snapsync.enable('scoped', scope_column => 'org');
INSERT INTO scoped VALUES (1, 1, 1), (2, 1, 2), (3, 1, 3);
SELECT t.catch_up('scoped');
SELECT t.push('{"scoped": {"updated": [{"id": 1, "org": 2}, {"id": 2, "n": 22}], "deleted": [3], "created": [{"id": 4, "org": 1}]}}');
SELECT pull_changes('{scoped}', current_setting('t.cursor'), filter => '{"scoped": {"org": 1}}', client_id => 'me', skip_echoes => true) #> '{changes,scoped}';
SELECT pull_changes('{scoped}', current_setting('t.cursor'), filter => '{"scoped": {"org": 2}}', client_id => 'me', skip_echoes => true) #> '{changes,scoped}';
SELECT * FROM t.echo('scoped');

-- Soft deletion: by the list of deleted ids, or by a row that is sent with its mark.
CREATE TABLE soft (id int PRIMARY KEY, n int, gone boolean);
SELECT snapsync.enable('soft', soft_delete_column => 'gone');
SELECT t.catch_up('soft');
SELECT t.push('{"soft": {"created": [{"id": 1, "n": 1, "gone": false}, {"id": 2, "n": 2}, {"id": 3, "gone": true}, {"id": 4, "gone": false}]}}');
SELECT * FROM t.echo('soft');
SELECT t.push('{"soft": {"deleted": [1], "updated": [{"id": 2, "gone": true}]}}');
SELECT t.push('{"soft": {"deleted": [4]}}');
UPDATE soft SET n = 44 WHERE id = 4;
SELECT * FROM t.echo('soft');

-- Conflicts: what the server decides comes back.
CREATE TABLE merged (id int PRIMARY KEY, a int, b int);
CREATE TABLE kept (id int PRIMARY KEY, a int);
CREATE TABLE settled (id int PRIMARY KEY, a int);
CREATE TABLE versioned (id int PRIMARY KEY, a int, v int);
CREATE FUNCTION larger(collection text, id text, stored jsonb, incoming jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('a', greatest(stored -> 'a', incoming -> 'a')) $$;
SELECT snapsync.enable('merged', conflict => 'merge'), snapsync.enable('kept', conflict => 'server_wins'),
       snapsync.enable('settled', conflict => 'custom', conflict_function => 'larger(text, text, jsonb, jsonb)'),
       snapsync.enable('versioned', conflict => 'last_write_wins', version_column => 'v');
INSERT INTO merged VALUES (1, 1, 1), (2, 1, 1); INSERT INTO kept VALUES (1, 1), (2, 1); INSERT INTO settled VALUES (1, 1), (2, 1); INSERT INTO versioned VALUES (1, 1, 1), (2, 1, 1);
SELECT t.catch_up('merged', 'kept', 'settled', 'versioned');
UPDATE merged SET a = 2 WHERE id = 1; UPDATE kept SET a = 2 WHERE id = 1; UPDATE settled SET a = 2 WHERE id = 1; UPDATE versioned SET v = 9 WHERE id = 1;
SELECT t.push('{"merged": {"updated": [{"id": 1, "b": 3}, {"id": 2, "b": 3}]}, "kept": {"updated": [{"id": 1, "a": 3}, {"id": 2, "a": 3}]},
                "settled": {"updated": [{"id": 1, "a": 3}, {"id": 2, "a": 3}]}, "versioned": {"updated": [{"id": 1, "a": 5, "v": 5}, {"id": 2, "a": 5, "v": 5}]}}');
SELECT c, x.id, x.item FROM unnest('{merged,kept,settled,versioned}'::text[]) AS c, t.come(c, true, NULL) AS x;

-- Records that are refused one by one: those that are applied all the same are as sent, the others as they were.
CREATE TABLE checked (id int PRIMARY KEY, n int CHECK (n > 0));
SELECT snapsync.enable('checked');
INSERT INTO checked VALUES (1, 1), (2, 2);
SELECT t.catch_up('checked');
SELECT t.push('{"checked": {"created": [{"id": 3, "n": 3}, {"id": 4, "n": -4}], "updated": [{"id": 1, "n": 10}, {"id": 2, "n": -20}]}}', on_rejected => 'report') LIKE '{"experimentalRejectedIds":{"checked":["2","4"]}%';
SELECT * FROM t.echo('checked');
UPDATE checked SET n = 20 WHERE id = 2;
SELECT t.push('{"checked": {"updated": [{"id": 1, "n": 11}, {"id": 2, "n": -20}]}}', on_rejected => 'report') IS NOT NULL;
SELECT * FROM t.echo('checked');
-- A savepoint that is rolled back takes its marks along.
BEGIN;
SAVEPOINT s;
SELECT t.push('{"checked": {"updated": [{"id": 1, "n": 12}]}}');
ROLLBACK TO s;
UPDATE checked SET n = 13 WHERE id = 1;
COMMIT;
SELECT * FROM t.echo('checked');

-- New rows that refer to each other, and that one statement cannot write: those come that are written in two steps.
CREATE TABLE posts (id text PRIMARY KEY, cover text);
CREATE TABLE images (id text PRIMARY KEY, post text NOT NULL REFERENCES posts);
ALTER TABLE posts ADD FOREIGN KEY (cover) REFERENCES images;
SELECT snapsync.enable('posts'), snapsync.enable('images');
SELECT t.catch_up('posts', 'images');
SELECT t.push('{"posts": {"created": [{"id": "1", "cover": "a"}]}, "images": {"created": [{"id": "a", "post": "1"}]}}');
SELECT * FROM t.echo('posts');
CREATE FUNCTION has_post() RETURNS trigger LANGUAGE plpgsql STABLE AS $$ BEGIN IF NOT EXISTS (SELECT FROM posts WHERE id = NEW.post) THEN RAISE 'no post'; END IF; RETURN NEW; END $$;
CREATE TRIGGER has_post BEFORE INSERT ON images FOR EACH ROW EXECUTE FUNCTION has_post();
SELECT t.push('{"posts": {"created": [{"id": "2", "cover": "b"}, {"id": "3", "cover": null}]}, "images": {"created": [{"id": "b", "post": "2"}]}}');
SELECT * FROM t.echo('posts');
SELECT * FROM posts ORDER BY id;

-- A mutation is an intention, not a row; nor is what a mutator pushes.
CREATE FUNCTION mutate(args json) RETURNS void LANGUAGE sql AS $$
    UPDATE checked SET n = 100 WHERE id = 1;
    SELECT public.push_changes('{"checked": {"updated": [{"id": 2, "n": 200}]}}', client_id => 'me');
$$;
SELECT snapsync.register_mutator('mutate', 'mutate(json)');
SELECT push_mutations('[{"id": 1, "name": "mutate"}]', 'me');
SELECT * FROM t.echo('checked');

-- A bulk push that is written to the log in pieces, and marks in the log.
SET snapsync.flush_threshold = 2;
SELECT t.push((SELECT json_build_object('checked', json_build_object('created', json_agg(json_build_object('id', i, 'n', i))))::text FROM generate_series(11, 15) AS i));
RESET snapsync.flush_threshold;
SELECT * FROM t.echo('checked');
SELECT count(*), count(as_sent), bool_and(as_sent) FROM snapsync.change WHERE relation = 'checked'::regclass AND key > '11' AND length(key) = 2;
