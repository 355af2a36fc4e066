-- Rows that a push leaves as they are and that come once more: it is told in the row's scope, as any change of it is.
\set ECHO none
\set test regress_push_touches
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE todos (id int PRIMARY KEY, owner text NOT NULL DEFAULT current_user, title text, price numeric(10,1) DEFAULT 1.0, plan text DEFAULT 'free', version int DEFAULT 1);
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF new.title = 'veto' THEN RETURN NULL; END IF; RETURN new; END $$;
CREATE TRIGGER keep BEFORE UPDATE ON todos FOR EACH ROW EXECUTE FUNCTION keep();
ALTER TABLE todos ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON todos USING (owner = current_user);
GRANT SELECT, INSERT, UPDATE, DELETE ON todos TO alice, bob, carol;
SELECT snapsync.enable('todos', readonly => '{plan}', notify => 'notify');
SELECT scope, scope_from FROM snapsync.status;
INSERT INTO todos (id, owner) SELECT i, 'alice' FROM generate_series(1, 20) AS i;
INSERT INTO todos (id, owner) VALUES (100, 'bob');
-- How many rows of the log a pull of bob's reads.
CREATE FUNCTION t.bob_reads(collection text, cursor text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE before bigint; after bigint;
BEGIN
  SET LOCAL ROLE bob;
  SELECT coalesce(idx_tup_fetch, 0) + coalesce(seq_tup_read, 0) INTO before FROM pg_stat_xact_all_tables WHERE relid = 'snapsync.change'::regclass;
  PERFORM public.pull_changes(ARRAY[collection], cursor);
  SELECT coalesce(idx_tup_fetch, 0) + coalesce(seq_tup_read, 0) - before INTO after FROM pg_stat_xact_all_tables WHERE relid = 'snapsync.change'::regclass;
  RESET ROLE;
  RETURN after;
END $$;
-- A push of alice's: what it answers and brings her, whom it pokes, what bob reads of it, and in which scopes it is told.
CREATE FUNCTION t.told(role name, collection text, changes text, client text DEFAULT 'device') RETURNS TABLE (answer text, pusher text, bob bigint, told text) LANGUAGE plpgsql AS $$
DECLARE c text;
BEGIN
  EXECUTE format('SET LOCAL ROLE %I', role);
  c := public.pull_changes(ARRAY[collection]) ->> 'timestamp';
  answer := public.push_changes(changes::json, NULL, client_id => client, on_rejected => 'report');
  SELECT coalesce(string_agg(a.key || ' ' || coalesce(i.value ->> 'id', i.value #>> '{}'), ', ' ORDER BY coalesce(i.value ->> 'id', i.value #>> '{}')), 'nothing') INTO pusher
  FROM public.pull_changes(ARRAY[collection], c, client_id => client, skip_echoes => true) AS p, json_each(p #> ARRAY['changes', collection]) AS a, json_array_elements(a.value) AS i;
  RESET ROLE;
  bob := t.bob_reads(collection, c);
  SELECT string_agg(format('%s %s %s', op, coalesce(scope, 'everybody'), coalesce(key, cardinality(keys) || ' keys')), ', ' ORDER BY stamp, scope, key) INTO told
  FROM snapsync.change WHERE relation = collection::regclass AND stamp >= c::bigint;
  RETURN NEXT;
END $$;
\setenv SCOPES 's/"stamp":[0-9]+/"stamp":N/; s/"scope":"[0-9a-f]+"/"scope":"?"/; s/ received from.*//; s/Asynchronous notification "snapsync" with payload/ poke/'
LISTEN snapsync;
\o | sed -E "$SCOPES" | tac | tac
\set pushed 'SELECT * FROM t.told($$alice$$, $$todos$$, '
\qecho a value is rounded to the stored one; a column cannot be written; alone, beside others, and of a row that is created; a trigger vetoes
:pushed '{"todos": {"updated": [{"id": 1, "price": 1.04}]}}');
:pushed '{"todos": {"updated": [{"id": 1, "plan": "pro"}]}}');
:pushed '{"todos": {"updated": [{"id": 1, "plan": "pro", "price": 1.0}]}}');
:pushed '{"todos": {"created": [{"id": 1, "price": 1.04}]}}');
:pushed '{"todos": {"updated": [{"id": 1, "title": "veto"}]}}');
\qecho many at once share entries
SELECT json_build_object('todos', json_build_object('created', json_agg(json_build_object('id', id, 'plan', 'pro')))) AS many FROM todos WHERE owner = 'alice' \gset
:pushed :'many');
\qecho by halves, where one cannot be written
:pushed '{"todos": {"updated": [{"id": 1, "price": 1.04}, {"id": 2, "price": "x"}, {"id": 3, "plan": "pro"}, {"id": 4, "title": "veto"}]}}');
\qecho just as it stands: nobody is told
UPDATE todos SET plan = NULL, price = NULL WHERE id = 1;
:pushed '{"todos": {"created": [{"id": 1, "owner": "alice", "title": null, "version": 1}]}}');
\qecho an older version than the stored one
SELECT snapsync.enable('todos', conflict => 'last_write_wins', version_column => 'version');
:pushed '{"todos": {"updated": [{"id": 1, "title": "old", "version": 0}], "created": [{"id": 2, "title": "old", "version": 0}]}}');
\qecho a row that has no scope concerns all
ALTER TABLE todos ALTER owner DROP NOT NULL;
CREATE POLICY nobodys ON todos USING (owner = 'nobody' OR owner IS NULL);
SELECT snapsync.enable('todos', conflict => 'reject', scope_column => 'owner');
INSERT INTO todos (id, owner) VALUES (50, NULL);
:pushed '{"todos": {"updated": [{"id": 50, "price": 1.04}, {"id": 1, "price": 1.04}]}}');
\qecho the caller may not read the column
REVOKE SELECT ON todos FROM alice;
GRANT SELECT (id, title, price, plan) ON todos TO alice;
:pushed '{"todos": {"updated": [{"id": 1, "price": 1.04}, {"id": 2, "plan": "pro"}]}}');
GRANT SELECT ON todos TO alice;
\qecho it moves, in the same transaction, after that or before: it is told where it was and where it is
BEGIN;
SELECT pull_changes('{todos}') ->> 'timestamp' AS c \gset
SELECT push_changes('{"todos": {"updated": [{"id": 1, "price": 1.04}]}}');
UPDATE todos SET owner = 'carol' WHERE id = 1;
COMMIT;
SELECT op, scope, key FROM snapsync.change WHERE stamp >= :c ORDER BY scope;
BEGIN;
SELECT pull_changes('{todos}') ->> 'timestamp' AS c \gset
UPDATE todos SET owner = 'alice' WHERE id = 1;
SELECT push_changes('{"todos": {"updated": [{"id": 1, "price": 1.04}]}}');
COMMIT;
SELECT op, scope, key FROM snapsync.change WHERE stamp >= :c ORDER BY scope;
\qecho it is deleted after that: a deletion
BEGIN;
SELECT pull_changes('{todos}') ->> 'timestamp' AS c \gset
SELECT push_changes('{"todos": {"updated": [{"id": 1, "price": 1.04}]}}');
DELETE FROM todos WHERE id = 1;
COMMIT;
SELECT op, scope, key FROM snapsync.change WHERE stamp >= :c ORDER BY scope;
\qecho inserted before that
BEGIN;
SELECT pull_changes('{todos}') ->> 'timestamp' AS c \gset
INSERT INTO todos (id, owner) VALUES (60, 'alice');
SELECT push_changes('{"todos": {"updated": [{"id": 60, "price": 1.04}]}}');
COMMIT;
SELECT op, scope, key FROM snapsync.change WHERE stamp >= :c ORDER BY scope;
\qecho the pusher leaves the list in the same push: only he is told
CREATE TABLE members (list text, who text, PRIMARY KEY (list, who));
CREATE TABLE items (id int PRIMARY KEY, list text NOT NULL, plan text);
ALTER TABLE items ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON items USING (list IN (SELECT list FROM members WHERE who = current_user));
GRANT SELECT, INSERT, UPDATE, DELETE ON members, items TO alice, bob;
SELECT snapsync.enable('members'), snapsync.enable('items', readonly => '{plan}');
INSERT INTO members VALUES ('a', 'alice'), ('b', 'bob');
INSERT INTO items VALUES (1, 'a'), (2, 'b');
SELECT * FROM t.told('alice', 'items', '{"items": {"updated": [{"id": 1, "plan": "pro"}]}}');
SELECT pull_changes('{items}') ->> 'timestamp' AS c \gset
SET ROLE alice;
SELECT pull_changes('{items}') ->> 'timestamp' AS mine \gset
SELECT push_changes('{"items": {"updated": [{"id": 1, "plan": "pro"}]}, "members": {"deleted": ["a.alice"]}}', client_id => 'device') ->> 'rejected' IS NULL AS all_written;
SELECT pull_changes('{items}', :'mine', client_id => 'device') #> '{changes,items}' AS pusher;
RESET ROLE;
SELECT op, scope, key, columns FROM snapsync.change WHERE relation = 'items'::regclass AND stamp >= :c;
\o
UNLISTEN snapsync;

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_push_touches;
