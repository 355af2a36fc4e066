-- Triggers that run after each row find the rows that were sent before it, and none that were sent after it: a push comes to what its rows come to one by one.
\set ECHO none
\set test regress_push_rows
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET client_min_messages = warning;
-- What the table has after these rows were pushed at once, and after they were pushed one after the other. Both are undone.
CREATE FUNCTION t.come_to(collection text, kind text, rows jsonb, shown text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    how jsonb;
    changes jsonb;
    came text[] := '{}';
    now text;
BEGIN
    FOREACH how IN ARRAY ARRAY[jsonb_build_array(rows), (SELECT jsonb_agg(jsonb_build_array(r)) FROM jsonb_array_elements(rows) AS r)] LOOP
        BEGIN
            SET LOCAL ROLE alice;
            FOR changes IN SELECT jsonb_build_object(collection, jsonb_build_object(kind, part)) FROM jsonb_array_elements(how) AS part LOOP
                now := coalesce(now || ' ', '') || (public.push_changes(changes::json, client_id => 'c', on_rejected => 'report')::jsonb -> 'experimentalRejectedIds' -> collection)::text;
            END LOOP;
            RESET ROLE;
            EXECUTE format('SELECT concat(string_agg(concat_ws('' '', %s), '', '' ORDER BY id), '' but '' || $1) FROM %I', shown, collection) INTO now USING now;
            RAISE 'undone' USING ERRCODE = 'TT000';
        EXCEPTION WHEN SQLSTATE 'TT000' THEN NULL;
        END;
        came := came || now;
        now := NULL;
    END LOOP;
    RETURN CASE WHEN came[1] = came[2] THEN came[1] ELSE format('at once: %s; one by one: %s', came[1], came[2]) END;
END
$$;
\set ECHO all
-- The latest of several versions; the price that is open; the default.
CREATE TABLE versions (id text PRIMARY KEY, doc int NOT NULL, is_latest boolean NOT NULL DEFAULT true);
CREATE FUNCTION latest() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE versions SET is_latest = false WHERE doc = NEW.doc AND id <> NEW.id AND is_latest; RETURN NULL; END $$;
CREATE TRIGGER latest AFTER INSERT ON versions FOR EACH ROW EXECUTE FUNCTION latest();
CREATE TABLE prices (id text PRIMARY KEY, price int, from_day int, to_day int);
CREATE FUNCTION close_last() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE prices SET to_day = NEW.from_day WHERE id <> NEW.id AND to_day IS NULL; RETURN NULL; END $$;
CREATE TRIGGER close_last AFTER INSERT ON prices FOR EACH ROW EXECUTE FUNCTION close_last();
CREATE TABLE addresses (id text PRIMARY KEY, is_default boolean NOT NULL DEFAULT false, street text);
CREATE FUNCTION unset_others() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE addresses SET is_default = false WHERE id <> NEW.id AND is_default; RETURN NULL; END $$;
CREATE TRIGGER unset_others AFTER INSERT OR UPDATE OF is_default ON addresses FOR EACH ROW WHEN (NEW.is_default) EXECUTE FUNCTION unset_others();
INSERT INTO versions VALUES ('v1', 1);
INSERT INTO prices VALUES ('p1', 10, 1);
INSERT INTO addresses VALUES ('a1', true), ('a2', false), ('a3', false);
GRANT ALL ON versions, prices, addresses TO alice;
SELECT snapsync.enable('versions', readonly => '{is_latest}'), snapsync.enable('prices', readonly => '{to_day}'), snapsync.enable('addresses');
SELECT t.come_to('versions', 'created', '[{"id": "v3", "doc": 1}, {"id": "v2", "doc": 1}]', 'id, is_latest');
SELECT t.come_to('prices', 'created', '[{"id": "p2", "price": 11, "from_day": 5}, {"id": "p3", "price": 12, "from_day": 9}]', 'id, from_day, to_day');
SELECT t.come_to('addresses', 'created', '[{"id": "a5", "is_default": true}, {"id": "a4", "is_default": true}]', 'id, is_default');
-- Also where they come with other columns each, and are changed.
SELECT t.come_to('addresses', 'created', '[{"id": "a6", "is_default": true}, {"id": "a5", "is_default": true, "street": "x"}, {"id": "a4", "is_default": true}]', 'id, is_default');
SELECT t.come_to('addresses', 'updated', '[{"id": "a3", "is_default": true}, {"id": "a2", "is_default": true}]', 'id, is_default');

-- Places in a list, which closes behind what is taken out.
CREATE TABLE items (id text PRIMARY KEY, place int NOT NULL);
CREATE FUNCTION shift() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE items SET place = place + 1 WHERE id <> NEW.id AND place >= NEW.place; RETURN NULL; END $$;
CREATE FUNCTION close_gap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE items SET place = place - 1 WHERE place > OLD.place; RETURN NULL; END $$;
CREATE TRIGGER shift AFTER INSERT ON items FOR EACH ROW EXECUTE FUNCTION shift();
CREATE TRIGGER close_gap AFTER DELETE ON items FOR EACH ROW EXECUTE FUNCTION close_gap();
ALTER TABLE items DISABLE TRIGGER shift;
INSERT INTO items SELECT 'i' || n, n FROM generate_series(0, 4) AS n;
ALTER TABLE items ENABLE TRIGGER shift;
GRANT ALL ON items TO alice;
SELECT snapsync.enable('items');
SELECT t.come_to('items', 'created', '[{"id": "k", "place": 0}, {"id": "j", "place": 0}]', 'id, place');
SELECT t.come_to('items', 'deleted', '["i1", "i3"]', 'id, place');
SELECT t.come_to('items', 'deleted', '["i3", "i1"]', 'id, place');

-- A balance that is looked up before a row and changed after it, and what has no room left. A trigger that waits for the commit finds all there is.
CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL, entries int NOT NULL DEFAULT 0);
CREATE TABLE ledger (id text PRIMARY KEY, account int NOT NULL REFERENCES accounts, amount int NOT NULL, balance_after int);
CREATE FUNCTION look_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    SELECT balance + NEW.amount INTO NEW.balance_after FROM accounts WHERE id = NEW.account;
    IF NEW.balance_after < 0 THEN RAISE 'no money'; END IF;
    RETURN NEW;
END $$;
CREATE FUNCTION book() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE accounts SET balance = balance + NEW.amount, entries = entries + 1 WHERE id = NEW.account; RETURN NULL; END $$;
CREATE FUNCTION is_booked() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF (SELECT entries FROM accounts WHERE id = NEW.account) <> (SELECT count(*) FROM ledger WHERE account = NEW.account) THEN RAISE 'not booked'; END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER look_up BEFORE INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION look_up();
CREATE TRIGGER book AFTER INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION book();
CREATE CONSTRAINT TRIGGER is_booked AFTER INSERT ON ledger DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION is_booked();
INSERT INTO accounts VALUES (1, 100);
GRANT ALL ON ledger TO alice;
GRANT SELECT, UPDATE ON accounts TO alice;
SELECT snapsync.enable('ledger', readonly => '{balance_after}');
SELECT t.come_to('ledger', 'created', '[{"id": "l1", "account": 1, "amount": -30}, {"id": "l2", "account": 1, "amount": -20}, {"id": "l3", "account": 1, "amount": -60}]', 'id, amount, balance_after');
-- The same where a policy asks for the counter.
CREATE TABLE events (id int PRIMARY KEY, room int NOT NULL, taken int NOT NULL DEFAULT 0);
CREATE TABLE seats (id text PRIMARY KEY, event int NOT NULL REFERENCES events);
CREATE FUNCTION take() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN UPDATE events SET taken = taken + 1 WHERE id = NEW.event; RETURN NULL; END $$;
CREATE TRIGGER take AFTER INSERT ON seats FOR EACH ROW EXECUTE FUNCTION take();
INSERT INTO events VALUES (1, 2);
ALTER TABLE seats ENABLE ROW LEVEL SECURITY;
CREATE POLICY shown ON seats FOR SELECT USING (true);
CREATE POLICY room ON seats FOR INSERT WITH CHECK ((SELECT taken < room FROM events WHERE id = event));
GRANT ALL ON seats TO alice;
GRANT SELECT ON events TO alice;
SELECT snapsync.enable('seats');
SELECT t.come_to('seats', 'created', '[{"id": "s1", "event": 1}, {"id": "s2", "event": 1}, {"id": "s3", "event": 1}]', 'id');

-- A row that a trigger takes along is not refused when its own turn comes.
CREATE TABLE pairs (id text PRIMARY KEY, other text);
CREATE FUNCTION take_both() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM pairs WHERE id = OLD.other; RETURN NULL; END $$;
CREATE TRIGGER take_both AFTER DELETE ON pairs FOR EACH ROW EXECUTE FUNCTION take_both();
INSERT INTO pairs VALUES ('x', 'y'), ('y', 'x'), ('z', NULL);
GRANT ALL ON pairs TO alice;
SELECT snapsync.enable('pairs');
SELECT t.come_to('pairs', 'deleted', '["x", "y"]', 'id');

-- Where a table refers to itself, each row comes after those that it hangs on, for triggers to look at: whatever the order in which they are sent, and the columns that they have.
CREATE TABLE folders (id text PRIMARY KEY, parent text REFERENCES folders ON DELETE CASCADE, name text NOT NULL, path text, note text);
CREATE FUNCTION set_path() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.path := concat((SELECT path || '/' FROM folders WHERE id = NEW.parent), NEW.name); RETURN NEW; END $$;
CREATE TRIGGER set_path BEFORE INSERT OR UPDATE OF parent, name ON folders FOR EACH ROW EXECUTE FUNCTION set_path();
INSERT INTO folders (id, parent, name) VALUES ('r', NULL, 'root'), ('a', 'r', 'a'), ('b', 'a', 'b');
GRANT ALL ON folders TO alice;
SELECT snapsync.enable('folders', readonly => '{path}');
CREATE FUNCTION t.paths(changes json, rejected text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    now text;
BEGIN
    SET LOCAL ROLE alice;
    now := public.push_changes(json_build_object('folders', changes), client_id => 'c', on_rejected => rejected)::jsonb - 'rejected';
    RESET ROLE;
    now := format('%s %s', now, (SELECT string_agg(path, ', ' ORDER BY id) FROM folders));
    RAISE 'undone' USING ERRCODE = 'TT000';
EXCEPTION WHEN SQLSTATE 'TT000' THEN RETURN now;
END
$$;
SELECT t.paths('{"created": [{"id": "n", "parent": "r", "name": "new"}], "updated": [{"id": "a", "parent": "n"}]}', how),
       t.paths('{"created": [{"id": "z", "parent": "y", "name": "z"}, {"id": "y", "parent": "x", "name": "y", "note": "!"}, {"id": "x", "name": "x"}], "updated": [{"id": "b", "parent": "z", "note": "!"}]}', how)
FROM unnest('{abort,report}'::text[]) AS how;
-- Two that are there are moved, the one into the other, against the order of their ids.
SELECT t.paths('{"updated": [{"id": "a", "parent": "b"}, {"id": "b", "parent": "r"}]}', how), t.paths('{"updated": [{"id": "b", "parent": "r"}, {"id": "a", "parent": "b"}, {"id": "o", "parent": "nowhere"}]}', 'report')
FROM unnest('{abort,report}'::text[]) AS how;
-- One in the other are renamed, and nothing is said of what they hang on.
INSERT INTO folders (id, parent, name) VALUES ('0', 'b', '0');
SELECT t.paths('{"updated": [{"id": "0", "name": "zero"}, {"id": "b", "name": "bee"}, {"id": "a", "name": "ay"}]}', how) FROM unnest('{abort,report}'::text[]) AS how;
DELETE FROM folders WHERE id = '0';
-- Beside one that hangs on nothing.
SELECT t.paths('{"created": [{"id": "o", "parent": "nowhere", "name": "o"}, {"id": "n", "parent": "r", "name": "new"}], "updated": [{"id": "a", "parent": "n"}]}', 'report');
-- Two that hang on each other.
SELECT t.paths('{"created": [{"id": "n", "parent": "m", "name": "n"}, {"id": "m", "parent": "n", "name": "m"}, {"id": "o", "name": "o"}]}', 'report');
-- So it is with tables that refer to each other, where their rows do not.
CREATE TABLE lists (id text PRIMARY KEY, color text, n int NOT NULL DEFAULT 0);
CREATE TABLE todos (id text PRIMARY KEY, list text NOT NULL REFERENCES lists ON DELETE CASCADE, color text);
ALTER TABLE lists ADD pinned text REFERENCES todos ON DELETE SET NULL;
CREATE FUNCTION set_color() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.color := (SELECT color FROM lists WHERE id = NEW.list); UPDATE lists SET n = n + 1 WHERE id = NEW.list; RETURN NEW; END $$;
CREATE TRIGGER set_color BEFORE INSERT OR UPDATE OF list ON todos FOR EACH ROW EXECUTE FUNCTION set_color();
INSERT INTO lists VALUES ('l', 'red');
INSERT INTO todos VALUES ('t', 'l');
GRANT ALL ON lists, todos TO alice;
SELECT snapsync.enable('lists', readonly => '{n}'), snapsync.enable('todos', readonly => '{color}');
SET ROLE alice;
SELECT push_changes('{"lists": {"created": [{"id": "m", "color": "blue"}]}, "todos": {"created": [{"id": "u", "list": "m"}], "updated": [{"id": "t", "list": "m"}]}}', client_id => 'c');
RESET ROLE;
TABLE lists; TABLE todos;
-- A long chain against the order in which it is sent, beside one that hangs on nothing: only that one is refused.
CREATE TABLE links (id int PRIMARY KEY, next int REFERENCES links);
GRANT ALL ON links TO alice;
SELECT snapsync.enable('links');
SET ROLE alice;
SELECT push_changes(json_build_object('links', json_build_object('created', (SELECT json_agg(json_build_object('id', n, 'next', CASE WHEN n < 400 THEN n + 1 END)) FROM generate_series(0, 400) AS n)
                                                                 )), client_id => 'c'), (SELECT count(*) FROM links);
SELECT push_changes(json_build_object('links', json_build_object('created', (SELECT json_agg(json_build_object('id', n, 'next', CASE n WHEN 1777 THEN 9999 WHEN 1400 THEN NULL ELSE n + 1 END))
                                                                             FROM generate_series(1000, 1777) AS n WHERE n <= 1400 OR n = 1777))), client_id => 'c', on_rejected => 'report') -> 'experimentalRejectedIds';
RESET ROLE;
SELECT count(*) FROM links;
-- Also where triggers run after each row, and whatever the order in which they are sent.
CREATE FUNCTION nothing_more() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER nothing_more AFTER INSERT ON links FOR EACH ROW EXECUTE FUNCTION nothing_more();
SET ROLE alice;
SELECT push_changes(json_build_object('links', json_build_object('created', (SELECT json_agg(json_build_object('id', n, 'next', CASE n WHEN 2777 THEN 9999 WHEN 2400 THEN NULL ELSE n + 1 END) ORDER BY n * 7919 % 1009)
                                                                             FROM generate_series(2000, 2777) AS n WHERE n <= 2400 OR n = 2777))), client_id => 'c', on_rejected => 'report') -> 'experimentalRejectedIds';
RESET ROLE;
SELECT count(*) FROM links;

-- What a trigger checks of several rows holds when all are there: that one is the default, that entries balance.
CREATE TABLE shelves (id text PRIMARY KEY, main boolean NOT NULL, v int);
CREATE FUNCTION one_main() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF (SELECT count(*) FROM shelves WHERE main) <> 1 THEN RAISE 'one is the main one'; END IF; RETURN NULL; END $$;
INSERT INTO shelves VALUES ('a', true), ('b', false);
CREATE TRIGGER one_main AFTER INSERT OR UPDATE ON shelves FOR EACH ROW EXECUTE FUNCTION one_main();
GRANT ALL ON shelves TO alice;
SELECT snapsync.enable('shelves');
SET ROLE alice;
SELECT push_changes('{"shelves": {"updated": [{"id": "b", "main": true}, {"id": "a", "main": false}]}}', client_id => 'c');
SELECT push_changes('{"shelves": {"updated": [{"id": "a", "main": true}, {"id": "b", "main": false}], "created": [{"id": "c", "main": false, "v": "x"}]}}', client_id => 'c', on_rejected => 'report') -> 'experimentalRejectedIds';
SELECT push_changes('{"shelves": {"updated": [{"id": "b", "main": true}]}}', client_id => 'c');
RESET ROLE;
TABLE shelves;
-- So beside a trigger that looks at nothing but its row before it (nearly every table has one). One that looks at the table keeps them from being tried.
ALTER TABLE shelves ADD touched int NOT NULL DEFAULT 0;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.touched := OLD.touched + 1; RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE UPDATE ON shelves FOR EACH ROW EXECUTE FUNCTION touch();
SET ROLE alice;
SELECT push_changes('{"shelves": {"updated": [{"id": "b", "main": true}, {"id": "a", "main": false}]}}', client_id => 'c');
RESET ROLE;
TABLE shelves;
CREATE OR REPLACE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.touched := (SELECT max(touched) FROM shelves) + 1; RETURN NEW; END $$;
SET ROLE alice;
SELECT push_changes('{"shelves": {"updated": [{"id": "a", "main": true}, {"id": "b", "main": false}]}}', client_id => 'c');
RESET ROLE;
-- Circles by values that are changed, beside a row that is wrong.
CREATE TABLE labels (id text PRIMARY KEY, name text NOT NULL UNIQUE, up text REFERENCES labels (name), note text CHECK (length(note) < 5));
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
INSERT INTO labels VALUES ('p', 'A'), ('q', 'D');
GRANT ALL ON labels TO alice;
SELECT snapsync.enable('labels');
\set circle '{"labels": {"created": [{"id": "b", "name": "b", "note": "too long"}], "updated": [{"id": "q", "name": "Z", "up": "E"}, {"id": "p", "name": "E", "up": "Z"}]}}'
BEGIN; SET LOCAL ROLE alice;
SELECT push_changes(:'circle', client_id => 'c', on_rejected => 'report') -> 'experimentalRejectedIds';
ROLLBACK;
CREATE TRIGGER nothing AFTER INSERT OR UPDATE ON labels FOR EACH ROW EXECUTE FUNCTION nothing();
SET ROLE alice;
SELECT push_changes(:'circle', client_id => 'c', on_rejected => 'report') -> 'experimentalRejectedIds';
RESET ROLE;
TABLE labels;

-- Of a conversation the last message does not come first because the conversation names it.
CREATE TABLE chats (id text PRIMARY KEY);
CREATE TABLE messages (id text PRIMARY KEY, chat text NOT NULL REFERENCES chats, n int, latest boolean NOT NULL DEFAULT true);
ALTER TABLE chats ADD last text REFERENCES messages;
CREATE FUNCTION number() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.n := 1 + (SELECT count(*) FROM messages WHERE chat = NEW.chat); RETURN NEW; END $$;
CREATE FUNCTION not_latest() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE messages SET latest = false WHERE chat = NEW.chat AND id <> NEW.id AND latest; RETURN NULL; END $$;
CREATE TRIGGER number BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION number();
INSERT INTO chats VALUES ('c');
GRANT ALL ON chats, messages TO alice;
SELECT snapsync.enable('chats'), snapsync.enable('messages', readonly => '{n,latest}');
SET ROLE alice;
SELECT push_changes('{"chats": {"updated": [{"id": "c", "last": "3"}], "created": [{"id": "d", "last": "6"}]}, "messages": {"created": [{"id": "1", "chat": "c"}, {"id": "2", "chat": "c"}, {"id": "3", "chat": "c"}, {"id": "4", "chat": "d"}, {"id": "5", "chat": "d"}, {"id": "6", "chat": "d"}]}}', client_id => 'c');
RESET ROLE;
SELECT id, chat, n FROM messages ORDER BY id;
CREATE TRIGGER not_latest AFTER INSERT ON messages FOR EACH ROW EXECUTE FUNCTION not_latest();
SET ROLE alice;
SELECT push_changes('{"chats": {"updated": [{"id": "c", "last": "9"}]}, "messages": {"created": [{"id": "7", "chat": "c"}, {"id": "8", "chat": "c"}, {"id": "9", "chat": "c"}]}}', client_id => 'c');
RESET ROLE;
SELECT id, n, latest FROM messages WHERE chat = 'c' ORDER BY id;

-- Where no trigger can look at the table after a row, one statement writes all rows: so many statements run for three new rows, three updates, three deletions.
CREATE TABLE purses (id int PRIMARY KEY, balance int NOT NULL DEFAULT 0);
CREATE TABLE things (id int PRIMARY KEY, purse int NOT NULL DEFAULT 1 REFERENCES purses ON DELETE CASCADE, n int NOT NULL DEFAULT 1);
CREATE TABLE audits (id serial PRIMARY KEY, what jsonb);
CREATE TABLE statements (id serial PRIMARY KEY);
CREATE FUNCTION count_statement() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN INSERT INTO statements DEFAULT VALUES; RETURN NULL; END $$;
CREATE TRIGGER count_statement AFTER INSERT OR UPDATE OR DELETE ON things FOR EACH STATEMENT EXECUTE FUNCTION count_statement();
CREATE FUNCTION after_row() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER after_row AFTER INSERT OR UPDATE OR DELETE ON things FOR EACH ROW EXECUTE FUNCTION after_row();
INSERT INTO purses VALUES (1);
GRANT ALL ON things TO alice;
GRANT SELECT, REFERENCES ON purses TO alice;
SELECT snapsync.enable('things');
CREATE FUNCTION t.statements(collection text DEFAULT 'things') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    changes json;
    came text;
BEGIN
    TRUNCATE statements;
    SET LOCAL ROLE alice;
    FOREACH changes IN ARRAY ARRAY['{"created": [{"id": 1, "n": 1}, {"id": 2, "n": 2}, {"id": 3, "n": 3}]}', '{"updated": [{"id": 1, "n": 4}, {"id": 2, "n": 5}, {"id": 3, "n": 6}]}', '{"deleted": ["1", "2", "3"]}']::json[] LOOP
        PERFORM public.push_changes(json_build_object(collection, changes), client_id => 'c');
        RESET ROLE;
        came := concat_ws(' ', came, (SELECT count(*) FROM statements));
        TRUNCATE statements;
        SET LOCAL ROLE alice;
    END LOOP;
    RESET ROLE;
    RETURN came;
END
$$;
CREATE FUNCTION t.statements_if(body text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE OR REPLACE FUNCTION after_row() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS %L', 'BEGIN ' || body || '; RETURN NULL; END');
    RETURN t.statements();
END
$$;
SELECT t.statements();
\set audit 'INSERT INTO audits (what) VALUES (to_jsonb(coalesce(NEW, OLD)))'
SELECT t.statements_if(:'audit');
SELECT t.statements_if($$EXECUTE format('SET LOCAL test.topic TO %L', 'topic'); INSERT INTO audits (what) VALUES (to_jsonb(TG_OP)); PERFORM pg_notify('topic', 'x')$$);
SELECT t.statements_if('UPDATE purses SET balance = balance + coalesce(NEW.n, 0) - coalesce(OLD.n, 0) WHERE id = coalesce(NEW.purse, OLD.purse)');
TABLE purses;
-- In whatever way it can: by its name, by a part of a statement that is quoted, by a statement that is put together.
SELECT t.statements_if('PERFORM FROM Things');
SELECT t.statements_if('PERFORM FROM public."things"');
SELECT t.statements_if($$EXECUTE 'SELECT FROM thing' || 's'$$);
SELECT t.statements_if('EXECUTE $q$SELECT FROM things$q$');
-- By functions: two calls deep, one with a parsed body, one that the trigger's condition calls.
CREATE FUNCTION deeper() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM things';
CREATE FUNCTION deep() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN deeper(); END';
SELECT t.statements_if('PERFORM deep()');
CREATE FUNCTION parsed() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM things; END;
SELECT t.statements_if('PERFORM parsed()');
CREATE FUNCTION is_first() RETURNS boolean LANGUAGE sql AS 'SELECT NOT EXISTS (SELECT FROM things)';
CREATE FUNCTION nothing_else() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
SELECT t.statements_if(:'audit');
CREATE TRIGGER conditional AFTER UPDATE ON things FOR EACH ROW WHEN (is_first()) EXECUTE FUNCTION nothing_else();
SELECT t.statements();
DROP TRIGGER conditional ON things;
CREATE TRIGGER together AFTER INSERT ON things REFERENCING NEW TABLE AS all_of_them FOR EACH ROW EXECUTE FUNCTION nothing_else();
SELECT t.statements();
DROP TRIGGER together ON things;
-- By what is there for other tables: triggers, policies, views, what a key takes along.
CREATE FUNCTION look_back() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM FROM things; RETURN NEW; END';
SELECT t.statements();
CREATE TRIGGER look_back BEFORE UPDATE ON audits FOR EACH ROW EXECUTE FUNCTION look_back();
SELECT t.statements();
DROP TRIGGER look_back ON audits;
CREATE TRIGGER look_back BEFORE INSERT ON audits FOR EACH ROW EXECUTE FUNCTION look_back();
SELECT t.statements();
DROP TRIGGER look_back ON audits;
CREATE POLICY look_back ON audits USING (EXISTS (SELECT FROM things));
SELECT t.statements();
DROP POLICY look_back ON audits;
CREATE VIEW seen AS SELECT 1 AS one;
SELECT t.statements_if('PERFORM FROM seen');
CREATE OR REPLACE VIEW seen AS SELECT n AS one FROM things;
SELECT t.statements();
SELECT t.statements_if('DELETE FROM purses WHERE id = 2');
CREATE TABLE kept (purse int REFERENCES purses ON DELETE CASCADE);
CREATE TRIGGER look_back AFTER DELETE ON kept FOR EACH ROW EXECUTE FUNCTION look_back();
SELECT t.statements();
DROP TABLE kept;
-- A counter that is asked for before the next row: by a trigger, by a policy. (Not one that nobody asks for.)
CREATE FUNCTION ask() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF (SELECT balance > 100 FROM purses WHERE id = NEW.purse) THEN RAISE 'too much'; END IF; RETURN NEW; END $$;
SELECT t.statements_if('UPDATE purses SET balance = balance + coalesce(NEW.n, 0) - coalesce(OLD.n, 0) WHERE id = coalesce(NEW.purse, OLD.purse)');
CREATE TRIGGER ask BEFORE INSERT ON things FOR EACH ROW EXECUTE FUNCTION ask();
SELECT t.statements();
DROP TRIGGER ask ON things;
ALTER TABLE things ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON things USING (purse IN (SELECT id FROM purses));
SELECT t.statements();
CREATE POLICY not_full ON things AS RESTRICTIVE FOR INSERT WITH CHECK ((SELECT balance FROM purses WHERE id = purse) <= 100);
SELECT t.statements();
ALTER TABLE things DISABLE ROW LEVEL SECURITY;
-- Partitions, and a name that must be quoted.
CREATE TABLE parted (id int, n int NOT NULL DEFAULT 1, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE TABLE "The ""Heirs""" (id int PRIMARY KEY, n int NOT NULL DEFAULT 1);
CREATE TRIGGER count_statement AFTER INSERT OR UPDATE OR DELETE ON parted FOR EACH STATEMENT EXECUTE FUNCTION count_statement();
CREATE TRIGGER after_row AFTER INSERT OR UPDATE OR DELETE ON parted FOR EACH ROW EXECUTE FUNCTION after_row();
CREATE TRIGGER count_statement AFTER INSERT OR UPDATE OR DELETE ON "The ""Heirs""" FOR EACH STATEMENT EXECUTE FUNCTION count_statement();
CREATE TRIGGER after_row AFTER INSERT OR UPDATE OR DELETE ON "The ""Heirs""" FOR EACH ROW EXECUTE FUNCTION after_row();
GRANT ALL ON parted, "The ""Heirs""" TO alice;
SELECT snapsync.enable('parted'), snapsync.enable('"The ""Heirs"""', name => 'heirs');
SELECT looked, t.statements_if(looked) AS things, t.statements('parted') AS parted, t.statements('heirs') AS heirs
FROM (VALUES (:'audit'), ('PERFORM FROM part'), ('PERFORM FROM parted'), ('PERFORM FROM things'), ('/* 12" */ PERFORM FROM "The ""Heirs"""')) AS l(looked);

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_push_rows;
