-- Keys that come again. A row that policies read is deleted, and somebody else makes one of the same key: to who saw the former one and never sees the new
-- one nothing has happened but the deletion. He hears of nothing that hangs on the new one, and all of what hung on the former.
\set ECHO none
\set test regress_access_again
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET client_min_messages = warning;
-- What alice hears from the cursor on: all at once, and in pages.
CREATE FUNCTION t.hears(since text, size int DEFAULT NULL, collections text[] DEFAULT '{projects,lists,todos}', client text DEFAULT NULL)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer json;
    said text[] := '{}';
    token text;
BEGIN
    SET ROLE alice;
    LOOP
        answer := public.pull_changes(collections, since, page_size => size, next => token, client_id => client, skip_echoes => client IS NOT NULL);
        said := said || ARRAY(SELECT format('%s %s.%s', a.key, c.key, coalesce(i.value ->> 'id', i.value #>> '{}'))
                              FROM json_each(answer -> 'changes') AS c, json_each(c.value) AS a, json_array_elements(a.value) AS i);
        said := said || ARRAY(SELECT format('%s by %s', r.key, r.value) FROM json_each_text(answer -> 'reason') AS r);
        token := answer ->> 'next';
        EXIT WHEN token IS NULL;
    END LOOP;
    RESET ROLE;
    RETURN coalesce((SELECT string_agg(DISTINCT s, ', ' ORDER BY s) FROM unnest(said) AS s), 'nothing');
END
$$;
CREATE FUNCTION t.cursor() RETURNS text LANGUAGE sql AS $$ SELECT public.pull_changes('{}') ->> 'timestamp' $$;
-- What a push of alice's from that cursor is told.
CREATE FUNCTION t.pushes(since text, changes json) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text;
BEGIN
    SET ROLE alice;
    BEGIN
        said := public.push_changes(changes, since);
        RAISE SQLSTATE 'UNDO0';
    EXCEPTION
        WHEN SQLSTATE 'UNDO0' THEN NULL;
        WHEN OTHERS THEN GET STACKED DIAGNOSTICS said = PG_EXCEPTION_DETAIL;
    END;
    RESET ROLE;
    RETURN said;
END
$$;
CREATE TABLE projects (id text PRIMARY KEY, owner text NOT NULL);
CREATE TABLE lists (id text PRIMARY KEY, project text NOT NULL REFERENCES projects ON DELETE CASCADE);
CREATE TABLE todos (id text PRIMARY KEY, list text NOT NULL REFERENCES lists ON DELETE CASCADE, n int);
ALTER TABLE projects ENABLE ROW LEVEL SECURITY;
ALTER TABLE lists ENABLE ROW LEVEL SECURITY;
ALTER TABLE todos ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON projects USING (owner = current_user);
CREATE POLICY own ON lists USING (project IN (SELECT id FROM projects));
CREATE POLICY own ON todos USING (list IN (SELECT id FROM lists));
GRANT ALL ON projects, lists, todos TO alice, bob;
SELECT count(snapsync.enable(c)) FROM unnest('{projects,lists,todos}'::regclass[]) AS c;
INSERT INTO projects VALUES ('a', 'alice'), ('a2', 'alice'), ('b', 'bob');
INSERT INTO lists VALUES ('home', 'a'), ('work', 'a'), ('work2', 'a2');
INSERT INTO todos VALUES ('h', 'home'), ('w1', 'work'), ('w2', 'work'), ('w3', 'work2');
\set ECHO all

-- A list goes with what was in it. Bob makes one of that name, with a todo that goes, one that moves and one that stays.
SELECT t.cursor() AS c \gset
DELETE FROM lists WHERE id = 'work';
SELECT t.hears(:'c'), t.hears(:'c', 100), t.hears(:'c', 1);
SELECT t.pushes(:'c', '{"todos": {"updated": [{"id": "w1", "n": 1}, {"id": "never", "n": 1}]}}');
INSERT INTO lists VALUES ('work', 'b'), ('bobs', 'b');
INSERT INTO todos VALUES ('b1', 'work'), ('b2', 'work'), ('b3', 'work');
DELETE FROM todos WHERE id = 'b1';
UPDATE todos SET list = 'bobs' WHERE id = 'b2';
SELECT t.hears(:'c'), t.hears(:'c', 100), t.hears(:'c', 1);
SELECT t.pushes(:'c', '{"todos": {"updated": [{"id": "w1", "n": 1}, {"id": "never", "n": 1}, {"id": "b1", "n": 1}]}}');
DELETE FROM lists WHERE id = 'work';
SELECT t.hears(:'c'), t.hears(:'c', 100), t.hears(:'c', 1);
-- What came and went before, and what happens since, in what she sees.
UPDATE todos SET list = 'work2' WHERE id = 'h';
DELETE FROM lists WHERE id = 'work2';
INSERT INTO lists VALUES ('work', 'b'), ('work2', 'b'); INSERT INTO todos VALUES ('b4', 'work2'), ('b5', 'work'); DELETE FROM lists WHERE id LIKE 'work%';
SELECT t.hears(:'c'), t.hears(:'c', 100), t.hears(:'c', 1);
SELECT t.pushes(:'c', '{"todos": {"updated": [{"id": "w3", "n": 1}, {"id": "b4", "n": 1}, {"id": "b5", "n": 1}]}}');
-- A project above it.
INSERT INTO projects VALUES ('p', 'alice'); INSERT INTO lists VALUES ('one', 'p'); INSERT INTO todos VALUES ('o', 'one');
SELECT t.cursor() AS c \gset
DELETE FROM projects WHERE id = 'p';
SELECT t.hears(:'c'), t.hears(:'c', 100), t.hears(:'c', 1);
INSERT INTO projects VALUES ('p', 'bob'); INSERT INTO lists VALUES ('two', 'p'), ('one', 'p'); INSERT INTO todos VALUES ('b6', 'two'), ('b7', 'one'), ('o', 'two');
DELETE FROM todos WHERE id IN ('b6', 'o'); DELETE FROM lists WHERE id = 'two';
SELECT t.hears(:'c'), t.hears(:'c', 100), t.hears(:'c', 1);
DELETE FROM projects WHERE id = 'p';
SELECT t.hears(:'c'), t.hears(:'c', 100), t.hears(:'c', 1);
-- One that she sees, at last or for a while, is hers: what hung on it is told, of her sight then.
INSERT INTO projects VALUES ('p', 'alice'); INSERT INTO lists VALUES ('one', 'p'); INSERT INTO todos VALUES ('mine', 'one');
SELECT t.hears(:'c'), t.hears(:'c', 100);
UPDATE projects SET owner = 'bob' WHERE id = 'p';
SELECT t.hears(:'c'), t.hears(:'c', 100);
DELETE FROM projects WHERE id = 'p';
SELECT t.hears(:'c');
-- Beside an access that moved otherwise.
INSERT INTO projects VALUES ('q', 'alice'); INSERT INTO lists VALUES ('three', 'q'); INSERT INTO todos VALUES ('t', 'three');
SELECT t.cursor() AS c \gset
DELETE FROM lists WHERE id = 'three';
INSERT INTO lists VALUES ('three', 'b'); INSERT INTO todos VALUES ('b8', 'three'); DELETE FROM todos WHERE id = 'b8';
UPDATE projects SET owner = 'bob' WHERE id = 'q';
INSERT INTO todos VALUES ('b9', 'three'); DELETE FROM lists WHERE id = 'three';
SELECT t.hears(:'c');
-- Many keys that come again, and more than are told apart.
INSERT INTO projects VALUES ('m', 'alice');
INSERT INTO lists SELECT 'l' || i, 'm' FROM generate_series(1, 17) AS i; INSERT INTO todos SELECT 't' || i, 'l' || i FROM generate_series(1, 17) AS i;
SELECT t.cursor() AS c \gset
\set ECHO none
SELECT s.* FROM generate_series(1, 16) AS i, LATERAL (VALUES (format('DELETE FROM lists WHERE id = ''l%s''', i)), (format('INSERT INTO lists VALUES (''l%s'', ''b'')', i)),
    (format('INSERT INTO todos VALUES (''x%s'', ''l%s'')', i, i)), (format('DELETE FROM todos WHERE id = ''x%s''', i))) AS s \gexec
\set ECHO all
SELECT t.hears(:'c'), t.hears(:'c', 100) = t.hears(:'c') AS same;
DELETE FROM lists WHERE id = 'l17'; INSERT INTO lists VALUES ('l17', 'b');
SELECT t.hears(:'c') LIKE '%by old_rows%' AS replaced;

-- A membership, which is no parent: the key that comes again is another's.
CREATE TABLE members (id int PRIMARY KEY, room int NOT NULL, who text NOT NULL, boss text);
CREATE TABLE papers (id text PRIMARY KEY, room int NOT NULL);
ALTER TABLE members ENABLE ROW LEVEL SECURITY;
ALTER TABLE papers ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON members USING (who = current_user OR boss = current_user);
CREATE POLICY room ON papers USING (room IN (SELECT room FROM members));
GRANT ALL ON members, papers TO alice, bob;
SELECT count(snapsync.enable(c)) FROM unnest('{members,papers}'::regclass[]) AS c;
INSERT INTO members VALUES (1, 1, 'alice'), (2, 2, 'alice'); INSERT INTO papers VALUES ('p1', 1), ('p2', 2);
SELECT t.cursor() AS c \gset
SET ROLE alice;
SELECT push_changes('{"papers": {"created": [{"id": "p3", "room": 1}]}}', :'c', client_id => 'device');
RESET ROLE;
DELETE FROM members WHERE id = 2;
SELECT t.hears(:'c', collections => '{members,papers}'), t.hears(:'c', collections => '{papers}', client => 'device');
INSERT INTO members VALUES (2, 2, 'bob'); UPDATE members SET room = 1 WHERE id = 2; DELETE FROM members WHERE id = 2;
SELECT t.hears(:'c', collections => '{members,papers}'), t.hears(:'c', collections => '{papers}', client => 'device');

-- Parents of parents of parents that come again: so many judges are made, and no more (it were 17 to the power of the depth).
CREATE TABLE teams (id text PRIMARY KEY, parent text NOT NULL);
INSERT INTO teams VALUES ('mine', 'alice'), ('other', 'bob');
ALTER TABLE teams ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON teams USING (parent = current_user);
CREATE TABLE d0 (LIKE teams INCLUDING ALL, FOREIGN KEY (parent) REFERENCES teams ON DELETE CASCADE);
CREATE TABLE d1 (LIKE teams INCLUDING ALL, FOREIGN KEY (parent) REFERENCES d0 ON DELETE CASCADE);
CREATE TABLE d2 (LIKE teams INCLUDING ALL, FOREIGN KEY (parent) REFERENCES d1 ON DELETE CASCADE);
CREATE TABLE d3 (LIKE teams INCLUDING ALL, FOREIGN KEY (parent) REFERENCES d2 ON DELETE CASCADE);
CREATE TABLE d4 (LIKE teams INCLUDING ALL, FOREIGN KEY (parent) REFERENCES d3 ON DELETE CASCADE);
CREATE PROCEDURE t.deep() LANGUAGE plpgsql AS $$
DECLARE
    parents text[] := '{teams,d0,d1,d2,d3,d4}';
BEGIN
    FOR i IN 2 .. 6 LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', parents[i]);
        EXECUTE format('CREATE POLICY p ON %I USING (parent IN (SELECT id FROM %I))', parents[i], parents[i - 1]);
        EXECUTE format('GRANT ALL ON %I TO alice', parents[i]);
        PERFORM snapsync.enable(parents[i]::regclass);
        EXECUTE format('INSERT INTO %I SELECT %L || n, %L FROM generate_series(1, 20) AS n', parents[i], 'k', CASE i WHEN 2 THEN 'mine' ELSE 'k20' END);
        EXECUTE format('INSERT INTO %I VALUES (%L, %L)', parents[i], 'other', 'other');
    END LOOP;
    COMMIT;
    PERFORM set_config('t.deep', t.cursor(), false);
    COMMIT;
    FOR i IN REVERSE 5 .. 2 LOOP
        FOR n IN 1 .. 16 LOOP
            EXECUTE format('DELETE FROM %I WHERE id = %L', parents[i], 'k' || n);
            COMMIT;
            EXECUTE format('INSERT INTO %I VALUES (%L, %L)', parents[i], 'k' || n, 'other');
            COMMIT;
        END LOOP;
    END LOOP;
    FOR i IN REVERSE 6 .. 2 LOOP
        EXECUTE format('DELETE FROM %I WHERE id = %L', parents[i], 'k19');
        COMMIT;
    END LOOP;
END $$;
GRANT ALL ON teams TO alice;
SELECT snapsync.enable('teams');
CALL t.deep();
SET statement_timeout = '5s';
SELECT t.hears(current_setting('t.deep'), collections => '{d4}');
RESET statement_timeout;
\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_access_again;
