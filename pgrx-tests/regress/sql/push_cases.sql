-- What a push must not guess: what exists, what equals what is sent, what a statement did, whose error it is.
\set ECHO none
\set test regress_push_cases
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET timezone = 'UTC';
CREATE FUNCTION t.push(changes text, report boolean DEFAULT false, client_id text DEFAULT NULL) RETURNS TABLE (answer text) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT public.push_changes(changes::json, nullif(current_setting('t.cursor', true), ''), client_id => client_id,
                                            on_rejected => CASE WHEN report THEN 'report' ELSE 'abort' END)::text;
EXCEPTION WHEN OTHERS THEN
    RETURN QUERY SELECT * FROM t.error(format('SELECT public.push_changes(%L, nullif(current_setting(''t.cursor'', true), ''''), client_id => %L, on_rejected => %L)',
                                              changes, client_id, CASE WHEN report THEN 'report' ELSE 'abort' END));
END
$$;

-- A created row that no SELECT policy shows can be inserted, whatever else the push has.
CREATE TABLE outbox (id int PRIMARY KEY, body text);
ALTER TABLE outbox ENABLE ROW LEVEL SECURITY;
CREATE POLICY s ON outbox FOR SELECT USING (id < 9);
CREATE POLICY i ON outbox FOR INSERT WITH CHECK (true);
CREATE POLICY u ON outbox FOR UPDATE USING (true);
GRANT ALL ON outbox TO alice;
SELECT snapsync.enable('outbox');
INSERT INTO outbox VALUES (1, 'a');
SET ROLE alice;
SELECT * FROM t.push('{"outbox": {"created": [{"id": 10}]}}');
SELECT * FROM t.push('{"outbox": {"created": [{"id": 11}], "updated": [{"id": 1, "body": "b"}]}}');
SELECT * FROM t.push('{"outbox": {"created": [{"id": 12}, {"id": "bad"}]}}', true);
RESET ROLE;
SELECT * FROM outbox ORDER BY id;

-- Columns that are only inserted need no UPDATE privilege, also beside an update.
CREATE TABLE authored (id int PRIMARY KEY, author text, body text);
GRANT SELECT, INSERT, UPDATE (body) ON authored TO alice;
SELECT snapsync.enable('authored');
INSERT INTO authored VALUES (1, 'x', 'y');
SET ROLE alice;
SELECT * FROM t.push('{"authored": {"created": [{"id": 2, "author": "a"}], "updated": [{"id": 1, "body": "z"}]}}');
-- Its answer is lost, and it comes again.
SELECT * FROM t.push('{"authored": {"created": [{"id": 2, "author": "a"}], "updated": [{"id": 1, "author": "x", "body": "z"}]}}');
SELECT * FROM t.push('{"authored": {"created": [{"id": 2, "author": "b"}], "updated": [{"id": 1, "author": "b"}, {"id": 2, "body": "fine"}]}}', true);
RESET ROLE;
SELECT * FROM authored ORDER BY id;

-- Append only, by privilege and by policy: what comes again and stands is done, and what differs is refused.
CREATE TABLE events (id int PRIMARY KEY, t text, at timestamptz);
GRANT SELECT, INSERT ON events TO alice;
CREATE TABLE votes (id int PRIMARY KEY, t text);
ALTER TABLE votes ENABLE ROW LEVEL SECURITY;
CREATE POLICY s ON votes FOR SELECT USING (true);
CREATE POLICY i ON votes FOR INSERT WITH CHECK (true);
GRANT ALL ON votes TO alice;
SELECT snapsync.enable('events'), snapsync.enable('votes');
SELECT t.catch_up('events', 'votes');
SET ROLE alice;
SELECT * FROM t.push('{"events": {"created": [{"id": 1, "t": "x", "at": 1700000000123}, {"id": 2, "t": "y"}]}, "votes": {"created": [{"id": 1, "t": "x"}]}}', client_id => 'd');
SELECT * FROM t.push('{"events": {"created": [{"id": 1, "t": "x", "at": 1700000000123}, {"id": 2, "t": "y"}]}, "votes": {"created": [{"id": 1, "t": "x"}]}}', client_id => 'd');
SELECT * FROM t.push('{"events": {"created": [{"id": 3, "t": "new"}], "updated": [{"id": 1, "t": "x"}]}, "votes": {"updated": [{"id": 1, "t": "x"}]}}', client_id => 'd');
SELECT * FROM t.push('{"events": {"created": [{"id": 1, "t": "other"}, {"id": 2, "t": "y"}], "updated": [{"id": 3, "at": "no time"}], "deleted": ["2"]}, "votes": {"updated": [{"id": 1, "t": "other"}], "deleted": [1]}}', true, 'd');
SELECT * FROM t.push('{"events": {"created": [{"id": 1, "t": "other"}]}}', client_id => 'd');
RESET ROLE;
SELECT * FROM events ORDER BY id;
SELECT * FROM votes;
-- Nothing was written a second time.
SELECT op, key, keys FROM snapsync.change WHERE relation IN ('events'::regclass, 'votes'::regclass) ORDER BY stamp, ord;

-- An internal error (elog) of a type's input function is that record's, and so is a limit that one row exceeds.
CREATE EXTENSION hstore;
CREATE TABLE attributes (id int PRIMARY KEY, h hstore);
CREATE TABLE indexed (id int PRIMARY KEY, code text UNIQUE);
SELECT snapsync.enable('attributes'), snapsync.enable('indexed');
SELECT t.catch_up('attributes', 'indexed');
SELECT * FROM t.push('{"attributes": {"created": [{"id": 1}, {"id": 2, "h": {"a": "1"}}]}}', true);
SELECT * FROM t.push('{"attributes": {"created": [{"id": 3}, {"id": 4, "h": {"a": "1"}}]}}');
SELECT right(a::text, 130) FROM push_changes(json_build_object('indexed', json_build_object('created', json_build_array(
    json_build_object('id', 1), json_build_object('id', 2, 'code', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 400) AS i))))), on_rejected => 'report') AS a;
SELECT * FROM attributes;
-- What says nothing about the record ends the call, also from inside one record's statement.
CREATE TABLE fragile (id int PRIMARY KEY, code text);
CREATE FUNCTION t.fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.code <> '' THEN
        RAISE EXCEPTION 'failed' USING ERRCODE = new.code, CONSTRAINT = 'fragile_pkey', SCHEMA = 'public', TABLE = 'fragile';
    END IF;
    RETURN new;
END
$$;
CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON fragile FOR EACH ROW EXECUTE FUNCTION t.fail();
SELECT snapsync.enable('fragile');
SELECT t.catch_up('fragile');
SELECT code, a FROM (VALUES ('XX000'), ('54001'), ('23505'), ('SS001'), ('SS002'), ('SS003'), ('XX001'), ('40001'), ('53100'), ('57P03')) AS v(code),
    t.push(format('{"fragile": {"created": [{"id": 1}, {"id": 2, "code": "%s"}]}}', code), true) AS a;
SELECT * FROM fragile;
-- Nor does any SQLSTATE of a deferred trigger mean something to the push.
CREATE TABLE late (id int PRIMARY KEY, code text);
CREATE CONSTRAINT TRIGGER fail AFTER INSERT OR UPDATE ON late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION t.fail();
SELECT snapsync.enable('late');
SELECT t.catch_up('late');
SELECT code, a FROM (VALUES ('SS001'), ('SS002'), ('SS003'), ('PT409')) AS v(code),
    t.push(format('{"late": {"created": [{"id": 1}, {"id": 2, "code": "%s"}]}}', code), true) AS a;
SELECT code, a FROM (VALUES ('SS001'), ('SS002'), ('SS003'), ('PT409')) AS v(code),
    t.push(format('{"late": {"created": [{"id": 3}, {"id": 4, "code": "%s"}]}}', code)) AS a;
SELECT * FROM late;

-- Two rows swap a unique value: in one statement, in two with different columns, in an insert and a deletion.
CREATE TABLE slots (id int PRIMARY KEY, pos int CONSTRAINT taken UNIQUE DEFERRABLE, t text, under int CONSTRAINT parent REFERENCES slots DEFERRABLE);
SELECT snapsync.enable('slots');
INSERT INTO slots VALUES (1, 1), (2, 2);
SELECT t.catch_up('slots');
SELECT * FROM t.push('{"slots": {"updated": [{"id": 1, "pos": 2}, {"id": 2, "pos": 1}]}}', client_id => 'd');
SELECT * FROM t.push('{"slots": {"updated": [{"id": 1, "pos": 1}, {"id": 2, "pos": 2, "t": "x"}]}}', client_id => 'd');
SELECT * FROM t.push('{"slots": {"created": [{"id": 3, "pos": 1, "under": 2}], "updated": [{"id": 2, "pos": 9}], "deleted": ["1"]}}', client_id => 'd');
SELECT * FROM slots ORDER BY id;
-- With others that are really in the way.
SELECT * FROM t.push('{"slots": {"created": [{"id": 4, "pos": 1}, {"id": 5, "pos": 5}, {"id": 6, "under": 7}], "updated": [{"id": 3, "pos": 9, "t": "swapped"}, {"id": 2, "pos": 1}]}}', true, 'd');
SELECT * FROM t.push('{"slots": {"created": [{"id": 8, "pos": 5}], "updated": [{"id": 3, "pos": 1}, {"id": 2, "pos": 9, "t": "swapped"}]}}', client_id => 'd');
SELECT * FROM slots ORDER BY id;
-- What the caller's transaction had is as it was: IMMEDIATE, or DEFERRED.
BEGIN;
SELECT * FROM t.push('{"slots": {"updated": [{"id": 3, "pos": 1}, {"id": 2, "pos": 9, "t": "x"}]}}', client_id => 'd');
UPDATE slots SET pos = 5 WHERE id = 3;
ROLLBACK;
BEGIN;
SET CONSTRAINTS taken DEFERRED;
SELECT * FROM t.push('{"slots": {"updated": [{"id": 3, "pos": 1}, {"id": 2, "pos": 9, "t": "x"}]}}', client_id => 'd');
UPDATE slots SET pos = 5 WHERE id = 3;
UPDATE slots SET pos = 1 WHERE id = 5;
COMMIT;
SELECT * FROM slots ORDER BY id;

-- Two devices without an id are not one device.
CREATE TABLE k (id int PRIMARY KEY, t text);
SELECT snapsync.enable('k');
SELECT * FROM t.error($$SELECT push_changes('{"k": {"created": [{"id": 1, "t": "A"}]}}', client_id => '')$$);
SELECT * FROM t.error($$SELECT pull_changes('{k}', client_id => '')$$);
SELECT * FROM t.error($$SELECT push_mutations('[]', '')$$);

-- Where it cannot be told whether somebody could see a row that is gone, no conflict tells him that there was one.
CREATE TABLE riddles (id int PRIMARY KEY, owner name, t text);
ALTER TABLE riddles ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION may_see(riddles) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT $1.owner = CURRENT_USER $$;
CREATE POLICY p ON riddles USING (may_see(riddles) AND tableoid IS NOT NULL);
GRANT ALL ON riddles TO alice, bob;
SELECT snapsync.enable('riddles');
INSERT INTO riddles VALUES (1, 'bob', 'x'), (2, 'alice', 'y');
SELECT t.catch_up('riddles');
DELETE FROM riddles WHERE id = 1;
SET ROLE alice;
SELECT * FROM t.push('{"riddles": {"updated": [{"id": 1, "owner": "alice", "t": "mine"}, {"id": 3, "owner": "alice", "t": "mine"}]}}');
RESET ROLE;
SELECT * FROM riddles ORDER BY id;

-- last_write_wins: a deletion that says how old it is, is decided by that; of one that does not, and loses, the client hears.
CREATE TABLE dated (id int PRIMARY KEY, t text, at timestamptz);
SELECT snapsync.enable('dated', conflict => 'last_write_wins', version_column => 'at');
INSERT INTO dated SELECT i, 'old', '2020-01-01Z' FROM generate_series(1, 8) AS i;
SELECT t.catch_up('dated');
UPDATE dated SET t = 'server', at = '2021-01-01Z' WHERE id < 6;
SELECT * FROM t.push('{"dated": {"deleted": [{"id": 1, "at": "2020-06-01T00:00:00Z"}, {"id": 2, "t": "x", "at": 1612137600000}, 3, {"id": 4, "at": null}, {"id": 6, "at": "2019-01-01T00:00:00Z"}, "7", {"id": 99, "at": "2022-01-01T00:00:00Z"}]}}');
SELECT * FROM dated ORDER BY id;
SELECT * FROM t.push('{"dated": {"deleted": [{"id": 5, "at": "when?"}, 8]}}', true);
SELECT * FROM t.push('{"dated": {"deleted": [{"id": 5, "at": "when?"}]}}');
-- Whose deletion was too old gets the row again.
SELECT t.catch_up('dated');
SELECT * FROM t.push('{"dated": {"deleted": [{"id": 1, "at": "2020-06-01T00:00:00Z"}]}}', client_id => 'd');
SELECT * FROM t.pull('{dated}', client_id => 'd');
