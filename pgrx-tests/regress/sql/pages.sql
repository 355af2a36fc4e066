-- Pages: page_size and next.
\set ECHO none
\set test regress_pages
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

\i pages.psql
\set ECHO queries

-- An answer has the next page's token or the cursor, never both, and all collections, each with three arrays.
CREATE TABLE todos (id text PRIMARY KEY, title text);
CREATE TABLE lists (id int PRIMARY KEY, name text);
SELECT snapsync.enable('todos'), snapsync.enable('lists');
INSERT INTO todos SELECT 't' || n, 'todo ' || n FROM generate_series(1, 5) AS n;
INSERT INTO lists SELECT n, 'list ' || n FROM generate_series(1, 4) AS n;
SELECT regexp_replace(pull_changes('{todos,lists}', page_size => 3)::text, '"next":"[A-Za-z0-9_-]+"', '"next":"n"');
SELECT c.page('a', '{todos,lists}', 3) FROM generate_series(1, 3);
SELECT * FROM c.wrong('a', 'todos') UNION ALL SELECT * FROM c.wrong('a', 'lists');
-- As many pages as it takes, and none is empty; what fits into one page is one.
SELECT size, c.pages('size ' || size, '{todos,lists}', size) FROM generate_series(1, 10) AS size;
SELECT count(*) FROM generate_series(1, 10) AS size, c.wrong('size ' || size, 'todos');
SELECT json_object_keys(pull_changes('{todos,lists}', page_size => 9));
SELECT json_object_keys(pull_changes('{todos,lists}', page_size => 2000000000));
-- Without page_size: the rest.
DELETE FROM c.kept; INSERT INTO c.kept SELECT pull_changes('{todos,lists}', page_size => 8) ->> 'next';
SELECT a #> '{changes,lists,created}', a ->> 'timestamp' IS NOT NULL FROM pull_changes('{todos,lists}', next => (SELECT next FROM c.kept)) AS a;
-- A page may be asked for again, also in another size and read-only; in a transaction that keeps its snapshot rows begin anew, in the order of
-- their keys.
SELECT a #> '{changes,lists,created}', a ->> 'timestamp' IS NOT NULL FROM pull_changes('{todos,lists}', page_size => 5, next => (SELECT next FROM c.kept)) AS a;
BEGIN TRANSACTION READ ONLY ISOLATION LEVEL REPEATABLE READ;
SELECT a #> '{changes,lists,created}', a ->> 'timestamp' IS NOT NULL FROM pull_changes('{todos,lists}', page_size => 5, next => (SELECT next FROM c.kept)) AS a;
COMMIT;

-- In the order of the key, whatever it is made of. (That is so in a transaction that keeps its snapshot.)
CREATE TABLE words (word text COLLATE "C" NOT NULL, n int NOT NULL, id uuid NOT NULL, big numeric NOT NULL, PRIMARY KEY (n, word));
CREATE UNIQUE INDEX words_id ON words (id);
CREATE UNIQUE INDEX words_big ON words (big, word);
INSERT INTO words SELECT chr(65 + n % 26) || chr(97 + n * 7 % 26) || ' .%' || n, n / 5, md5(n::text)::uuid, n / 7.0 FROM generate_series(1, 60) AS n;
CREATE FUNCTION t.order_of_pages(collection text, size int) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    answer json;
    rows jsonb := '[]';
BEGIN
    LOOP
        answer := pull_changes(ARRAY[collection], page_size => size, next => answer ->> 'next');
        rows := rows || (answer #> ARRAY['changes', collection, 'created'])::jsonb;
        EXIT WHEN answer ->> 'next' IS NULL;
    END LOOP;
    RETURN rows;
END
$$;
SELECT snapsync.enable('words');
BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT t.order_of_pages('words', 7) = (SELECT jsonb_agg(to_jsonb(w) ORDER BY n, word) FROM words AS w); COMMIT;
-- The unique index of another order and collation serves as well as the primary key.
SELECT snapsync.enable('words', key => '{word,big}');
BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT t.order_of_pages('words', 1) = (SELECT jsonb_agg(to_jsonb(w) ORDER BY big, word) FROM words AS w); COMMIT;
SELECT snapsync.enable('words', key => '{id}');
BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT t.order_of_pages('words', 60) = (SELECT jsonb_agg(to_jsonb(w) ORDER BY id) FROM words AS w); COMMIT;
CREATE TABLE names (name text NOT NULL, v int);
CREATE UNIQUE INDEX ON names (name COLLATE "POSIX");
ALTER TABLE names ALTER name TYPE varchar COLLATE "C";
INSERT INTO names SELECT chr(65 + n % 2 * 32) || n, n FROM generate_series(1, 30) AS n;
SELECT snapsync.enable('names', key => '{name}');
BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT t.order_of_pages('names', 4) = (SELECT jsonb_agg(to_jsonb(w) ORDER BY name) FROM names AS w); COMMIT;
CREATE TABLE parted (at int, id bigint, v text, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE TABLE parted_2 (v text, id bigint NOT NULL, at int NOT NULL);
ALTER TABLE parted ATTACH PARTITION parted_2 FOR VALUES FROM (10) TO (20);
INSERT INTO parted SELECT n, 100 - n, 'v' FROM generate_series(0, 19) AS n;
SELECT snapsync.enable('parted');
BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT t.order_of_pages('parted', 3) = (SELECT jsonb_agg(to_jsonb(p) ORDER BY at, id) FROM parted AS p); COMMIT;
-- By the key's index, under row-level security, too.
ALTER TABLE words ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON words USING (n <> 3);
GRANT SELECT ON words TO alice;
SET ROLE alice;
SELECT jsonb_array_length(t.order_of_pages('words', 8)), count(*) FROM words;
RESET ROLE;

-- Rows that change, go, come and move between pages: the pull after the last page brings it.
TRUNCATE todos;
INSERT INTO todos SELECT 't' || n, 'todo ' || n FROM generate_series(1, 9) AS n;
SELECT c.page('b', '{todos}', 3);
UPDATE todos SET title = 'changed' WHERE id IN ('t1', 't5');
DELETE FROM todos WHERE id IN ('t2', 't6');
INSERT INTO todos VALUES ('t0', 'new'), ('t65', 'new');
UPDATE todos SET id = 't00' WHERE id = 't7';
UPDATE todos SET id = 't99' WHERE id = 't3';
SELECT c.page('b', '{todos}', 3);
UPDATE todos SET title = 'twice' WHERE id = 't5';
DELETE FROM todos WHERE id = 't4';
SELECT c.pages('b', '{todos}', 3) > 0;
SELECT cursor IS NOT NULL AND next IS NULL FROM c.client WHERE who = 'b';
SELECT c.page('b', '{todos}', 100);
SELECT * FROM c.wrong('b', 'todos');

-- Who may see what moves between pages.
CREATE TABLE teams (id int, who text, PRIMARY KEY (id, who));
CREATE TABLE notes (id int PRIMARY KEY, team int, body text);
GRANT SELECT ON teams, notes TO alice, bob;
ALTER TABLE teams ENABLE ROW LEVEL SECURITY;
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON teams USING (who = current_user);
CREATE POLICY p ON notes USING (team IN (SELECT id FROM teams));
SELECT snapsync.enable('notes');
INSERT INTO teams VALUES (1, 'alice'), (2, 'alice'), (1, 'bob');
INSERT INTO notes SELECT n, n % 2 + 1, 'note' FROM generate_series(1, 12) AS n;
SET ROLE alice;
SELECT c.page('alice', '{notes}', 4);
RESET ROLE;
DELETE FROM teams WHERE id = 1 AND who = 'alice';
SET ROLE alice;
SELECT c.page('alice', '{notes}', 4) FROM generate_series(1, 2);
SELECT count(*) > 0 FROM c.wrong('alice', 'notes');
SELECT c.pages('alice', '{notes}', 4) > 0;
SELECT * FROM c.wrong('alice', 'notes');
RESET ROLE;

-- Changes: a page ends where its rows are enough, within a transaction or behind it.
SELECT c.pages('d', '{todos,lists}', 100);
UPDATE todos SET title = title || '!';
INSERT INTO todos SELECT 'n' || n, 'new' FROM generate_series(1, 3) AS n;
DELETE FROM todos WHERE id IN ('n2', 't00');
UPDATE lists SET name = 'same';
DELETE FROM lists WHERE id = 2;
SELECT c.page('d', '{todos,lists}', 4) FROM generate_series(1, 5);
SELECT * FROM c.wrong('d', 'todos') UNION ALL SELECT * FROM c.wrong('d', 'lists');
-- They change on the way, and there are more of them.
UPDATE todos SET title = 'again';
SELECT c.page('d', '{todos,lists}', 2);
UPDATE todos SET title = 'and again' WHERE id LIKE 'n%' OR id = 't9';
DELETE FROM todos WHERE id IN ('n1', 't8');
INSERT INTO lists VALUES (9, 'nine');
SELECT c.page('d', '{todos,lists}', 2) FROM generate_series(1, 6);
SELECT c.pages('d', '{todos,lists}', 2) > 0;
SELECT * FROM c.wrong('d', 'todos') UNION ALL SELECT * FROM c.wrong('d', 'lists');
-- With nothing to tell there is one page.
SELECT c.page('d', '{todos,lists}', 1);

-- A long backlog, of many transactions and of one, mostly others', in scopes and without.
CREATE TABLE items (id int PRIMARY KEY, org int NOT NULL, v int);
ALTER TABLE items ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON items USING (org = 7 OR current_user = 'bob');
GRANT SELECT ON items TO alice, bob;
SELECT snapsync.enable('items', scope_column => 'org');
INSERT INTO items SELECT n, n % 20, 0 FROM generate_series(1, 3000) AS n;
SET ROLE alice; SELECT c.pages('e', '{items}', 70), c.pages('f', '{items}', 70, filter => '{"items": {"org": ["7"]}}'); RESET ROLE;
SET ROLE bob; SELECT c.pages('g', '{items}', 700, filter => '{"items": {"org": [3, 7]}}'); RESET ROLE;
SET snapsync.flush_threshold = 500;
UPDATE items SET v = 1;
DO $$ BEGIN FOR n IN 1 .. 40 LOOP UPDATE items SET v = v + 1 WHERE id % 40 = n - 1; COMMIT; END LOOP; END $$;
-- An image of another scope, and deletions.
UPDATE items SET org = 8 WHERE org = 7 AND id < 500;
UPDATE items SET org = 7 WHERE org = 3 AND id < 500;
DELETE FROM items WHERE id BETWEEN 1000 AND 1500;
RESET snapsync.flush_threshold;
SET ROLE alice; SELECT c.pages('e', '{items}', 70), c.pages('f', '{items}', 70, filter => '{"items": {"org": ["7"]}}');
SELECT count(*) FROM c.wrong('e', 'items'); SELECT count(*) FROM c.wrong('f', 'items'); RESET ROLE;
SET ROLE bob; SELECT c.pages('g', '{items}', 33, filter => '{"items": {"org": [3, 7]}}');
SELECT count(*) FROM c.wrong('g', 'items', condition => 'org IN (3, 7)'); RESET ROLE;
-- What others changed leaves nothing behind in a token, and no id.
DO $$ BEGIN FOR n IN 1 .. 30 LOOP UPDATE items SET v = v - 1 WHERE id % 3 = n % 3; COMMIT; END LOOP; END $$;
SET ROLE alice; SELECT c.pages('e', '{items}', 50) BETWEEN 3 AND 12; SELECT count(*) FROM c.wrong('e', 'items'); RESET ROLE;

-- A transaction that pulls after it has written is no window of its own: not to who pulls another table, or another scope.
CREATE PROCEDURE t.write_and_pull(times int, change text) LANGUAGE plpgsql AS $$
BEGIN
    FOR n IN 1 .. times LOOP
        EXECUTE replace(change, '$n', n::text);
        PERFORM pull_changes('{items}', (SELECT last_value::text FROM snapsync.clock));
        COMMIT;
    END LOOP;
END
$$;
SELECT c.pages('q', '{lists}', 100);
SET ROLE bob; SELECT c.pages('g', '{items}', 1000, filter => '{"items": {"org": [3, 7]}}') > 0; RESET ROLE;
SET ROLE alice; SELECT c.pages('f', '{items}', 1000, filter => '{"items": {"org": ["7"]}}') > 0; RESET ROLE;
CALL t.write_and_pull(60, 'UPDATE items SET v = v + 1 WHERE id = 3 + 20 * ($n % 20)');
UPDATE lists SET name = name || '!'; UPDATE lists SET name = left(name, -1);
SELECT c.pages('q', '{lists}', 100);
SELECT * FROM c.wrong('q', 'lists');
SET ROLE alice; SELECT c.pages('f', '{items}', 100, filter => '{"items": {"org": ["7"]}}'); SELECT count(*) FROM c.wrong('f', 'items'); RESET ROLE;
-- Nor to those who hear of it: few rows each come in one page, many in more.
SET ROLE bob; SELECT c.pages('g', '{items}', 100, filter => '{"items": {"org": [3, 7]}}');
SELECT count(*) FROM c.wrong('g', 'items', condition => 'org IN (3, 7)'); RESET ROLE;
CALL t.write_and_pull(20, 'UPDATE items SET v = v + 1 WHERE id % 3 = $n % 3');
SET ROLE bob; SELECT c.pages('g', '{items}', 10, filter => '{"items": {"org": [3, 7]}}') > 20;
SELECT count(*) FROM c.wrong('g', 'items', condition => 'org IN (3, 7)'); RESET ROLE;

-- Replacements: marked where they begin, and only there.
SELECT snapsync.reset('todos'), snapsync.reset('lists');
SELECT c.page('d', '{todos,lists}', 4) FROM generate_series(1, 4);
SELECT * FROM c.wrong('d', 'todos') UNION ALL SELECT * FROM c.wrong('d', 'lists');
-- In the middle of a backlog.
UPDATE todos SET title = 'before the reset';
SELECT c.page('d', '{todos,lists}', 4);
SELECT snapsync.reset('todos');
DELETE FROM todos WHERE id = 't1';
SELECT c.pages('d', '{todos,lists}', 4) > 1;
SELECT * FROM c.wrong('d', 'todos') UNION ALL SELECT * FROM c.wrong('d', 'lists');

-- Bytes: a page ends with the row that makes it long; there is always one.
SET snapsync.page_bytes = '10kB';
CREATE TABLE docs (id int PRIMARY KEY, body text);
SELECT snapsync.enable('docs');
INSERT INTO docs SELECT n, repeat('x', 3000) FROM generate_series(1, 10) AS n;
INSERT INTO docs VALUES (11, repeat('x', 3000000));
SELECT c.page('h', '{docs,lists}', 1000) FROM generate_series(1, 4);
SELECT count(*) FROM c.wrong('h', 'docs');
UPDATE docs SET body = body || 'y';
SELECT c.page('h', '{docs,lists}', 1000) FROM generate_series(1, 5);
SELECT count(*) FROM c.wrong('h', 'docs');
SET snapsync.page_bytes = 1;
SELECT c.pages('one by one', '{docs,lists}', 1000);
UPDATE docs SET body = 'short';
SELECT c.pages('one by one', '{docs,lists}', 1000);
SELECT count(*) FROM c.wrong('one by one', 'docs');
-- Not without page_size.
SELECT json_array_length(pull_changes('{docs}') #> '{changes,docs,created}');
RESET snapsync.page_bytes;

-- Columns that the caller may not read, rows that are marked as deleted, the other dialect, created as updated.
CREATE TABLE marked (id int PRIMARY KEY, org int, gone boolean NOT NULL DEFAULT false);
GRANT SELECT (id) ON marked TO alice;
SELECT snapsync.enable('marked', scope_column => 'org', scope_values => $$ARRAY['1']$$, soft_delete_column => 'gone');
INSERT INTO marked SELECT n, n % 2, n % 5 = 0 FROM generate_series(1, 20) AS n;
SET ROLE alice;
SELECT c.page('i', '{marked}', 3) FROM generate_series(1, 3);
RESET ROLE;
UPDATE marked SET gone = true WHERE id < 10;
SET ROLE alice;
SELECT c.page('i', '{marked}', 3) FROM generate_series(1, 2);
SELECT string_agg(id, ' ' ORDER BY id::int) FROM c.held WHERE who = 'i';
RESET ROLE;
SELECT a -> 'changes' FROM pull_changes('{lists}', dialect => 'watermelondb', send_created_as_updated => true, page_size => 2) AS a;
DELETE FROM c.kept; INSERT INTO c.kept SELECT pull_changes('{lists}', dialect => 'watermelondb', page_size => 2) ->> 'next';
SELECT a -> 'changes' FROM pull_changes('{lists}', dialect => 'watermelondb', page_size => 2, next => (SELECT next FROM c.kept)) AS a;

-- Echoes are no rows of a page.
SELECT c.pages('j', '{lists}', 2, client_id => 'dev') > 0;
SELECT push_changes('{"lists": {"created": [{"id": 21, "name": "a"}, {"id": 22, "name": "b"}, {"id": 23, "name": "c"}], "updated": [], "deleted": []}}', client_id => 'dev');
INSERT INTO lists VALUES (24, 'other');
SELECT c.page('j', '{lists}', 2, client_id => 'dev', skip_echoes => true);

-- A token is refused where it is not the caller's, or not for this call.
DELETE FROM c.kept; INSERT INTO c.kept SELECT pull_changes('{todos,lists}', page_size => 2) ->> 'next';
SELECT pull_changes('{todos,lists}', page_size => 2, next => 'nonsense');
SELECT pull_changes('{todos,lists}', page_size => 2, next => 'a b');
SELECT pull_changes('{todos,lists}', page_size => 2, next => '');
SELECT pull_changes('{todos,lists}', page_size => 2, next => left((SELECT next FROM c.kept), -1));
SELECT pull_changes('{lists,todos}', page_size => 2, next => (SELECT next FROM c.kept));
SELECT pull_changes('{todos,lists}', '17', page_size => 2, next => (SELECT next FROM c.kept));
SELECT pull_changes('{todos,lists}', dialect => 'watermelondb', page_size => 2, next => (SELECT next FROM c.kept));
SELECT pull_changes('{todos,lists}', filter => '{"todos": {}}', page_size => 2, next => (SELECT next FROM c.kept));
SELECT pull_changes('{todos,lists}', client_id => 'x', page_size => 2, next => (SELECT next FROM c.kept));
SET request.jwt.claims = '{"sub": "somebody else"}';
SELECT pull_changes('{todos,lists}', page_size => 2, next => (SELECT next FROM c.kept));
RESET request.jwt.claims;
SELECT pull_changes('{todos}', page_size => 0);
SELECT pull_changes('{todos}', page_size => -1);

-- Where what it rests on has moved, the pull begins anew, as a replacement. DDL:
SELECT c.page('k', '{todos,lists}', 3), c.page('l', '{todos,lists}', 3);
ALTER TABLE lists ADD COLUMN note text;
DELETE FROM todos WHERE id = (SELECT min(id) FROM c.held WHERE who = 'k' AND name = 'todos');
SELECT c.page('k', '{todos,lists}', 3);
SELECT c.pages('k', '{todos,lists}', 3) > 1;
SELECT * FROM c.wrong('k', 'todos') UNION ALL SELECT * FROM c.wrong('k', 'lists');
-- Also the collections that were not begun yet: the client may have had some of them before.
SELECT count(*) FROM c.held WHERE who = 'l' AND name = 'lists';
INSERT INTO c.held VALUES ('l', 'lists', 'left over', '{}');
SELECT c.pages('l', '{todos,lists}', 3) > 1;
SELECT * FROM c.wrong('l', 'lists');
-- The role:
CREATE ROLE pages_user; CREATE ROLE pages_team;
GRANT SELECT ON teams, notes TO pages_user;
INSERT INTO teams VALUES (1, 'pages_user');
SET ROLE pages_user; SELECT c.page('m', '{notes}', 2); RESET ROLE;
GRANT pages_team TO pages_user;
SET ROLE pages_user; SELECT c.page('m', '{notes}', 2); RESET ROLE;
-- (There and back is another version, too.)
REVOKE pages_team FROM pages_user;
SET ROLE pages_user; SELECT c.page('m', '{notes}', 2); SELECT c.pages('m', '{notes}', 2) > 0;
SELECT * FROM c.wrong('m', 'notes', condition => 'team = 1'); RESET ROLE;
-- A role of which nothing is recorded ends its pages, too.
SELECT c.page('n', '{lists}', 1);
-- The log was pruned:
UPDATE lists SET note = 'one';
DELETE FROM lists WHERE id = 1;
INSERT INTO snapsync.horizon SELECT last_value + 1, now() - interval '2 days' FROM snapsync.clock;
INSERT INTO lists VALUES (30, 'after');
SELECT snapsync.prune('1 day') > 0;
SELECT c.page('n', '{lists}', 1);
SELECT c.pages('n', '{lists}', 3) > 1;
SELECT * FROM c.wrong('n', 'lists');
-- The clock runs on another history:
SELECT c.page('o', '{lists}', 2);
SELECT setval('snapsync.clock', last_value - 1000) < 0 FROM snapsync.clock;
SELECT c.page('o', '{lists}', 2);
INSERT INTO lists VALUES (31, 'later');
SELECT c.pages('o', '{lists}', 2) > 1;
SELECT c.pages('o', '{lists}', 2) > 0;
SELECT * FROM c.wrong('o', 'lists');

-- A transaction that has written pulls in pages as well, and sees what it wrote.
SELECT c.pages('p', '{todos}', 100);
BEGIN;
SET LOCAL snapsync.flush_threshold = 2;
UPDATE todos SET title = 'mine';
SELECT c.pages('p', '{todos}', 2) > 1;
SELECT * FROM c.wrong('p', 'todos');
DELETE FROM todos WHERE id LIKE 'n%';
SELECT c.pages('p', '{todos}', 2) > 0;
SELECT * FROM c.wrong('p', 'todos');
COMMIT;
SELECT c.pages('p', '{todos}', 2) > 0;
SELECT * FROM c.wrong('p', 'todos');

-- Pages go on in another session, whatever that has set.
CREATE TABLE c.token AS SELECT pull_changes('{todos}', page_size => 2) ->> 'next' AS next;
\connect
SET quote_all_identifiers = on;
SET search_path = pg_catalog;
SELECT public.pull_changes('{todos}', page_size => 2, next => (SELECT next FROM c.token)) ->> 'reason' AS begun_anew;

DROP OWNED BY pages_user; DROP ROLE pages_user, pages_team;
