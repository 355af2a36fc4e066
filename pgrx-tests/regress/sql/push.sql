-- push_changes: the rules that WatermelonDB gives for backends, exact values, conflicts, all or nothing.
\set ECHO none
\set test regress_push
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE lists (id uuid PRIMARY KEY, name text NOT NULL);
CREATE TABLE items (
    id uuid PRIMARY KEY,
    list uuid REFERENCES lists ON DELETE CASCADE,
    title text,
    n numeric DEFAULT 7,
    big bigint,
    at timestamptz,
    local timestamp,
    day date,
    doc jsonb,
    raw json,
    tags text[],
    ok boolean NOT NULL DEFAULT true,
    twice numeric GENERATED ALWAYS AS (n * 2) STORED,
    serial bigint GENERATED ALWAYS AS IDENTITY,
    secret text DEFAULT 'kept'
);
SELECT snapsync.enable('lists'), snapsync.enable('items', exclude => '{secret}');
SET timezone = 'UTC';

-- A client pushes from its cursor (t.cursor) and reads the answer, or the error with its detail.
CREATE FUNCTION t.push(changes text, dialect text DEFAULT NULL, client_id text DEFAULT NULL) RETURNS TABLE (answer text) LANGUAGE sql AS $$
    SELECT * FROM t.error(format('DO %L', format('BEGIN PERFORM public.push_changes(%L, %L, dialect => %L, client_id => %L); END',
                                                 changes, current_setting('t.cursor', true), dialect, client_id)))
$$;

-- Created, with the parent after the child in the payload.
SELECT push_changes('{
  "items": {"created": [{"id": "00000000-0000-0000-0000-000000000001", "list": "00000000-0000-0000-0000-00000000000a", "title": "one"},
                        {"id": "00000000-0000-0000-0000-000000000002", "list": "00000000-0000-0000-0000-00000000000a", "title": "two", "ok": false}],
            "updated": [], "deleted": []},
  "lists": {"created": [{"id": "00000000-0000-0000-0000-00000000000a", "name": "groceries"}], "updated": [], "deleted": []}
}');
SELECT right(id::text, 1) AS id, right(list::text, 1) AS list, title, n, ok, twice, secret FROM items ORDER BY 1;
SELECT set_config('t.cursor', pull_changes('{items,lists}') ->> 'timestamp', false) IS NOT NULL;
-- The same again, as after a lost answer: from the cursor before it, by the same client. From null there is no conflict.
SELECT push_changes('{"items": {"created": [{"id": "00000000-0000-0000-0000-000000000001", "title": "one again"}]}}');
SELECT title, n FROM items WHERE title LIKE 'one%';
SELECT t.catch_up('items');

-- Updated: absent columns keep their values, nulls are written.
SELECT * FROM t.push('{"items": {"updated": [{"id": "00000000-0000-0000-0000-000000000001", "n": null}, {"id": "00000000-0000-0000-0000-000000000002", "title": null, "ok": true}]}}');
SELECT right(id::text, 1) AS id, title, n, ok FROM items ORDER BY 1;
SELECT t.catch_up('items');
-- Updated, but missing: created. Created, but there: updated. Deleted, but missing: ignored.
SELECT * FROM t.push('{"items": {"updated": [{"id": "00000000-0000-0000-0000-000000000003", "title": "three"}], "created": [{"id": "00000000-0000-0000-0000-000000000002", "title": "two"}],
                                 "deleted": ["00000000-0000-0000-0000-00000000dead"]}}');
SELECT right(id::text, 1) AS id, title, n, ok FROM items ORDER BY 1;
-- Nothing in it.
SELECT push_changes('{}'), push_changes('{"items": {}}'), push_changes('{"items": {"created": [], "updated": [], "deleted": []}}'), push_changes('{"items": {"created": null}}');
SELECT pg_typeof(push_changes('{}'));

-- WatermelonDB's own fields are no columns.
SELECT t.catch_up('items');
SELECT * FROM t.push('{"items": {"updated": [{"id": "00000000-0000-0000-0000-000000000003", "title": "w", "_status": "updated", "_changed": "title,ok"}], "deleted": ["00000000-0000-0000-0000-000000000002"]}}');
SELECT right(id::text, 1) AS id, title FROM items ORDER BY 1;

-- Exact numbers: not one digit is lost, no zero is added or taken.
CREATE TABLE exact (id text PRIMARY KEY, n numeric, b bigint, f float8, r real, m numeric(30,2));
SELECT snapsync.enable('exact');
SELECT push_changes('{"exact": {"created": [
    {"id": "a", "n": 12345678901234567890.12345, "b": 9223372036854775807, "f": 0.1, "r": 1.5e-3, "m": 1.10},
    {"id": "b", "n": 1.10, "b": -9223372036854775808, "f": 1e308, "r": 16777217, "m": 12345678901234567890.12},
    {"id": "c", "n": 0.000000000000000000000000000000000001, "b": 9007199254740993, "f": -0.0, "m": 1e20},
    {"id": "d", "n": "1.10", "b": "9007199254740993", "f": "NaN", "m": "3"}]}}');
SELECT id, n, b, f, r, m FROM exact ORDER BY id;
SELECT item FROM t.pull('{exact}', NULL) ORDER BY 1;

-- Times: ISO 8601 or ms since the epoch, in every dialect, in whatever time zone the session is.
SET timezone = 'Asia/Tokyo';
SELECT push_changes('{"items": {"created": [
    {"id": "00000000-0000-0000-0000-0000000000t1", "title": "bad"}]}}');
SELECT push_changes('{"items": {"created": [
    {"id": "00000000-0000-0000-0000-0000000000a1", "at": 1795247400123, "local": 1795247400123, "day": 1795247400123},
    {"id": "00000000-0000-0000-0000-0000000000a2", "at": "2026-11-21T07:50:00.123456Z", "local": "2026-11-21T07:50:00.123", "day": "2026-11-21"},
    {"id": "00000000-0000-0000-0000-0000000000a3", "at": -1, "local": -1, "day": -1},
    {"id": "00000000-0000-0000-0000-0000000000a4", "at": 8640000000000000, "local": -8640000000000000, "day": null},
    {"id": "00000000-0000-0000-0000-0000000000a5", "at": 1795247400123.75, "local": "infinity", "day": "-infinity"},
    {"id": "00000000-0000-0000-0000-0000000000a6", "at": "2026-11-21T07:50:00+05:30", "local": 0, "day": 0}]}}');
SET timezone = 'UTC';
SELECT right(id::text, 2), at::text, local::text, day::text FROM items WHERE id::text LIKE '%a_' ORDER BY 1;

-- JSON and arrays: nested in the default dialect, text in a string in watermelondb; there nested is read as well.
SELECT push_changes('{"items": {"created": [{"id": "00000000-0000-0000-0000-0000000000b1", "doc": {"a": [1, 2.50]}, "raw": {"a":  1}, "tags": ["x", "y,z"]},
                                            {"id": "00000000-0000-0000-0000-0000000000b2", "doc": "a string", "raw": null, "tags": null},
                                            {"id": "00000000-0000-0000-0000-0000000000b3", "doc": null, "raw": "\"text\"", "tags": []}]}}');
SELECT push_changes('{"items": {"created": [{"id": "00000000-0000-0000-0000-0000000000b4", "doc": "{\"a\": [1, 2.50]}", "raw": "{\"a\":  1}", "tags": "[\"x\", \"y,z\"]"},
                                            {"id": "00000000-0000-0000-0000-0000000000b5", "doc": "\"a string\"", "raw": null, "tags": null},
                                            {"id": "00000000-0000-0000-0000-0000000000b6", "doc": {"nested": true}, "raw": [1], "tags": ["x"]},
                                            {"id": "00000000-0000-0000-0000-0000000000b7", "doc": "null", "raw": "[]", "tags": "{x,y}"}]}}', dialect => 'watermelondb');
SELECT right(id::text, 2), doc, raw, tags FROM items WHERE id::text LIKE '%b_' ORDER BY 1;
SELECT * FROM t.push('{"items": {"created": [{"id": "00000000-0000-0000-0000-0000000000b8", "doc": "not json"}]}}', 'watermelondb');

-- Generated columns and identity columns are skipped: whole rows carry them.
SELECT t.catch_up('items');
SELECT * FROM t.push('{"items": {"updated": [{"id": "00000000-0000-0000-0000-000000000001", "n": 21, "twice": 1, "serial": 4711}]}}');
SELECT n, twice, serial <> 4711 FROM items WHERE title LIKE 'one%';

-- Each of these is refused, and nothing of it is applied.
SELECT t.catch_up('items', 'lists');
CREATE FUNCTION t.state() RETURNS text LANGUAGE sql AS $$
    SELECT md5(string_agg(i::text, ',' ORDER BY id) || (SELECT string_agg(l::text, ',' ORDER BY id) FROM lists AS l)) FROM items AS i
$$;
SELECT t.state() AS before \gset
SELECT * FROM t.push('{"lists": {"created": [{"id": "00000000-0000-0000-0000-00000000000b", "name": "good"}]}, "items": {"updated": [{"id": "00000000-0000-0000-0000-000000000001", "titel": "x"}]}}');
SELECT * FROM t.push('{"lists": {"created": [{"id": "00000000-0000-0000-0000-00000000000b", "name": "good"}]}, "items": {"updated": [{"id": "00000000-0000-0000-0000-000000000001", "secret": "x"}]}}');
SELECT * FROM t.push('{"lists": {"created": [{"id": "00000000-0000-0000-0000-00000000000b", "name": "good"}]}, "items": {"updated": [{"id": "00000000-0000-0000-0000-000000000001", "n": "many"}]}}');
SELECT * FROM t.push('{"lists": {"created": [{"id": "00000000-0000-0000-0000-00000000000b", "name": "good"}]}, "items": {"updated": [{"id": "00000000-0000-0000-0000-000000000001", "at": "yesterday noon"}]}}');
SELECT * FROM t.push('{"lists": {"created": [{"id": "00000000-0000-0000-0000-00000000000b", "name": "good"}]}, "items": {"updated": [{"id": "00000000-0000-0000-0000-000000000001", "big": 1e19}]}}');
SELECT * FROM t.push('{"lists": {"created": [{"id": "00000000-0000-0000-0000-00000000000b", "name": "good"}]}, "items": {"updated": [{"id": "00000000-0000-0000-0000-000000000001", "ok": null}]}}');
SELECT * FROM t.push('{"lists": {"created": [{"id": "00000000-0000-0000-0000-00000000000b"}]}}');
SELECT * FROM t.push('{"items": {"created": [{"id": "00000000-0000-0000-0000-0000000000c1", "list": "00000000-0000-0000-0000-00000000dead"}]}, "lists": {"created": [{"id": "00000000-0000-0000-0000-00000000000b", "name": "good"}]}}');
SELECT * FROM t.push('{"lists": {"created": [{"id": "00000000-0000-0000-0000-00000000000b", "name": "good"}]}, "nope": {"created": []}}');
SELECT t.state() = :'before' AS "nothing applied";

-- Conflicts: a row that somebody else has changed or deleted since.
UPDATE items SET title = 'server' WHERE id = '00000000-0000-0000-0000-000000000001';
DELETE FROM items WHERE id = '00000000-0000-0000-0000-000000000003';
SELECT t.state() AS before \gset
SELECT * FROM t.push('{"lists": {"created": [{"id": "00000000-0000-0000-0000-00000000000b", "name": "good"}]}, "items": {"updated": [{"id": "00000000-0000-0000-0000-000000000001", "title": "client"}, {"id": "00000000-0000-0000-0000-0000000000a1", "title": "no conflict"}]}}');
SELECT * FROM t.push('{"items": {"updated": [{"id": "00000000-0000-0000-0000-000000000003", "title": "client"}, {"id": "00000000-0000-0000-0000-000000000001", "title": "client"}]}}');
SELECT * FROM t.push('{"items": {"deleted": ["00000000-0000-0000-0000-000000000001"]}}');
SELECT * FROM t.push('{"items": {"created": [{"id": "00000000-0000-0000-0000-000000000001", "title": "client"}]}}');
SELECT t.state() = :'before' AS "nothing applied";
-- An error of the server, as PostgREST gets it: SQLSTATE PT409 becomes HTTP 409.
SELECT push_changes('{"items": {"updated": [{"id": "00000000-0000-0000-0000-000000000001", "title": "client"}]}}', last_pulled_at => current_setting('t.cursor'));
\echo :LAST_ERROR_SQLSTATE
-- Deleted on both sides is none; nor is a row that nobody touched; after a pull it is none.
SELECT * FROM t.push('{"items": {"deleted": ["00000000-0000-0000-0000-000000000003"], "updated": [{"id": "00000000-0000-0000-0000-0000000000a1", "title": "fine"}]}}');
SELECT t.catch_up('items');
SELECT * FROM t.push('{"items": {"updated": [{"id": "00000000-0000-0000-0000-000000000001", "title": "client"}]}}');
SELECT title FROM items WHERE title IN ('client', 'fine') ORDER BY 1;
-- An update of a row that was deleted long ago does not bring it back, also when the deletion has been pulled.
SELECT t.catch_up('items');
SELECT * FROM t.push('{"items": {"updated": [{"id": "00000000-0000-0000-0000-000000000003", "title": "zombie"}]}}');
-- A creation under that id is a creation.
SELECT * FROM t.push('{"items": {"created": [{"id": "00000000-0000-0000-0000-000000000003", "title": "new life"}]}}');
-- A change that leaves a row as it was is no conflict; a client's own push is none for itself.
SELECT t.catch_up('items');
UPDATE items SET title = title, secret = 'unsynced';
SELECT * FROM t.push('{"items": {"updated": [{"id": "00000000-0000-0000-0000-000000000001", "title": "again"}]}}', client_id => 'phone');
SELECT * FROM t.push('{"items": {"updated": [{"id": "00000000-0000-0000-0000-000000000001", "title": "and again"}]}}', client_id => 'phone');
SELECT * FROM t.push('{"items": {"updated": [{"id": "00000000-0000-0000-0000-000000000001", "title": "mine"}]}}', client_id => 'tablet');
-- A cursor that says nothing (ahead of the clock, before the collection was reset): everything may have changed.
SELECT set_config('t.cursor', '9007199254740991', false) IS NOT NULL;
SELECT * FROM t.push('{"items": {"updated": [{"id": "00000000-0000-0000-0000-000000000001", "title": "x"}]}}');
SELECT t.catch_up('items');
SELECT snapsync.reset('items');
SELECT * FROM t.push('{"items": {"updated": [{"id": "00000000-0000-0000-0000-000000000001", "title": "x"}]}}');

-- The same id twice: deleted wins, then updated over created; a record object may stand in deleted.
SELECT t.catch_up('lists');
SELECT * FROM t.push('{"lists": {
    "created": [{"id": "00000000-0000-0000-0000-0000000000d1", "name": "c"}, {"id": "00000000-0000-0000-0000-0000000000d2", "name": "c"}, {"id": "00000000-0000-0000-0000-0000000000D3", "name": "c"}],
    "updated": [{"id": "00000000-0000-0000-0000-0000000000d1", "name": "u"}, {"id": "00000000-0000-0000-0000-0000000000d3", "name": "u"}, {"id": "00000000-0000-0000-0000-0000000000d3", "name": "u2"}],
    "deleted": [{"id": "00000000-0000-0000-0000-0000000000d2", "name": "c", "junk": 1}, "00000000-0000-0000-0000-0000000000d2"]}}');
SELECT right(id::text, 2), name FROM lists WHERE id::text LIKE '%d_' ORDER BY 1;

-- Order: children leave before parents, parents come before children, a child moves to a new parent while the old one goes.
CREATE TABLE folders (id int PRIMARY KEY, parent int REFERENCES folders DEFERRABLE INITIALLY DEFERRED, name text UNIQUE);
CREATE TABLE files (id int PRIMARY KEY, folder int NOT NULL REFERENCES folders ON DELETE CASCADE, name text, UNIQUE (folder, name));
CREATE TABLE parts (file int REFERENCES files, n int, data text, PRIMARY KEY (file, n));
SELECT snapsync.enable('folders'), snapsync.enable('files'), snapsync.enable('parts');
SELECT push_changes('{"parts": {"created": [{"id": "1.1", "data": "p"}, {"file": 1, "n": 2, "data": "q"}]}, "files": {"created": [{"id": 1, "folder": 2, "name": "f"}]},
                      "folders": {"created": [{"id": 2, "parent": 3}, {"id": 3, "parent": null}]}}');
SELECT file, n, data FROM parts ORDER BY 1, 2;
SELECT t.catch_up('folders', 'files', 'parts');
SELECT * FROM t.push('{"folders": {"created": [{"id": 4}], "deleted": ["2", 3]}, "files": {"updated": [{"id": "1", "folder": 4}]}}');
SELECT * FROM folders; SELECT * FROM files; SELECT count(*) FROM parts;
SELECT t.catch_up('folders', 'files', 'parts');
SELECT * FROM t.push('{"folders": {"deleted": [4]}, "files": {"deleted": [1]}, "parts": {"deleted": ["1.1", {"file": 1, "n": 2}]}}');
SELECT (SELECT count(*) FROM folders), (SELECT count(*) FROM files), (SELECT count(*) FROM parts);
-- A unique value moves from a deleted row to a new one.
CREATE TABLE slots (id int PRIMARY KEY, name text UNIQUE);
SELECT snapsync.enable('slots');
SELECT push_changes('{"slots": {"created": [{"id": 7, "name": "x"}]}}');
SELECT t.catch_up('slots');
SELECT * FROM t.push('{"slots": {"created": [{"id": 8, "name": "x"}], "deleted": [7]}}');
SELECT * FROM slots;

-- Row-level security: checks and refusals, with nothing applied.
CREATE TABLE own (id int PRIMARY KEY, owner name NOT NULL DEFAULT current_user, title text, fixed text DEFAULT 'f');
ALTER TABLE own ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON own USING (owner = current_user);
CREATE POLICY readable ON own FOR SELECT USING (title = 'public');
GRANT SELECT, INSERT, DELETE ON own TO alice, bob;
GRANT UPDATE (owner, title) ON own TO alice, bob;
SELECT snapsync.enable('own');
INSERT INTO own VALUES (1, 'bob', 'private'), (2, 'bob', 'public');
SET ROLE alice;
SELECT t.catch_up('own');
SELECT * FROM t.push('{"own": {"created": [{"id": 3, "title": "a"}, {"id": 4, "title": "b"}]}}');
SELECT t.catch_up('own');
SELECT * FROM t.push('{"own": {"created": [{"id": 5, "title": "a"}, {"id": 6, "owner": "bob"}]}}');
SELECT * FROM t.push('{"own": {"created": [{"id": 5}], "updated": [{"id": 2, "title": "stolen"}]}}');
SELECT * FROM t.push('{"own": {"created": [{"id": 5}], "updated": [{"id": 1, "title": "stolen"}]}}');
SELECT * FROM t.push('{"own": {"created": [{"id": 5}], "deleted": ["2"]}}');
SELECT * FROM t.push('{"own": {"created": [{"id": 5}], "updated": [{"id": 3, "owner": "bob"}]}}');
SELECT * FROM t.push('{"own": {"created": [{"id": 5}], "updated": [{"id": 3, "fixed": "x"}]}}');
-- A row that he cannot see is not there for a deletion, and its changes are no conflict of his.
SELECT * FROM t.push('{"own": {"deleted": ["1"], "updated": [{"id": 3, "title": "ok"}]}}');
RESET ROLE;
UPDATE own SET title = 'still private' WHERE id = 1;
SET ROLE alice;
SELECT * FROM t.push('{"own": {"deleted": ["1"]}}');
SELECT * FROM t.push('{"own": {"updated": [{"id": 1, "title": "x"}]}}');
RESET ROLE;
SELECT * FROM own ORDER BY id;
-- A trigger of the application may veto or change a row without being called a refusal.
CREATE FUNCTION t.soft() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE own SET title = 'soft-deleted' WHERE id = old.id; RETURN NULL; END $$;
CREATE TRIGGER soft BEFORE DELETE ON own FOR EACH ROW EXECUTE FUNCTION t.soft();
SET ROLE alice;
SELECT t.catch_up('own');
SELECT * FROM t.push('{"own": {"deleted": ["4"]}}');
RESET ROLE;
SELECT title FROM own WHERE id = 4;
-- What triggers change in pushed rows is for the client to pull.
CREATE FUNCTION t.upper() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.title := upper(new.title); RETURN new; END $$;
CREATE TRIGGER upper BEFORE INSERT OR UPDATE ON own FOR EACH ROW EXECUTE FUNCTION t.upper();
SET ROLE alice;
SELECT t.catch_up('own');
SELECT * FROM t.push('{"own": {"created": [{"id": 9, "title": "loud"}], "updated": [{"id": 3, "title": "louder"}]}}');
SELECT * FROM t.pull('{own}');
RESET ROLE;
-- A role that may only insert.
REVOKE ALL ON own FROM bob; GRANT INSERT, SELECT ON own TO bob;
SET ROLE bob;
SELECT t.catch_up('own');
SELECT * FROM t.push('{"own": {"created": [{"id": 20, "title": "x"}]}}');
SELECT t.catch_up('own');
SELECT * FROM t.push('{"own": {"updated": [{"id": 20, "title": "y"}]}}');
SELECT * FROM t.push('{"own": {"deleted": ["20"]}}');
RESET ROLE;

-- An identity key: what the client chose is kept.
CREATE TABLE numbered (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text);
SELECT snapsync.enable('numbered');
SELECT push_changes('{"numbered": {"created": [{"id": 1000, "title": "x"}, {"id": "1001", "title": "y"}]}}');
SELECT * FROM numbered ORDER BY 1;
-- public. may stand before names; one collection under two names is one collection twice.
SELECT push_changes('{"public.numbered": {"updated": [{"id": 1000, "title": "X"}]}}');
SELECT * FROM t.error($$ SELECT push_changes('{"public.numbered": {"deleted": [1000]}, "numbered": {"deleted": [1001]}}') $$);
SELECT * FROM numbered ORDER BY 1;
