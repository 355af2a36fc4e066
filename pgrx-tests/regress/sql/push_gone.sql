-- Rows that were pushed without an error and are not there: their client hears so, and nobody else hears of them.
\set ECHO none
\set test regress_push_gone
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET timezone = 'UTC';

CREATE TABLE inbox (id int PRIMARY KEY, what text, n int);
CREATE TABLE archive (id int PRIMARY KEY, what text);
CREATE FUNCTION before() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    CASE new.what
        WHEN 'veto' THEN RETURN NULL;
        WHEN 'rekey' THEN new.id := new.id + 1000;
        WHEN 'move' THEN INSERT INTO archive VALUES (new.id, new.what); RETURN NULL;
        ELSE
    END CASE;
    RETURN new;
END
$$;
CREATE FUNCTION after() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM inbox WHERE id = new.id AND what = 'consume';
    RETURN NULL;
END
$$;
CREATE TRIGGER before BEFORE INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION before();
CREATE TRIGGER consume AFTER INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION after();
SELECT snapsync.enable('inbox'), snapsync.enable('archive');
GRANT ALL ON inbox, archive TO alice, bob, authenticated;
SELECT t.catch_up('inbox') IS NULL;
SELECT current_setting('t.cursor') AS c \gset
SELECT push_changes('{"inbox": {"created": [{"id": 1, "what": "veto"}, {"id": 2, "what": "rekey"}, {"id": 3, "what": "move"}, {"id": 4, "what": "consume"}, {"id": 5, "what": "stay"}]}}', :'c', client_id => 'phone');
SELECT * FROM t.pull('{inbox,archive}', :'c', client_id => 'phone');
-- The same with skip_echoes, and as often as the same cursor comes.
SELECT pull_changes('{inbox}', :'c', 'watermelondb', client_id => 'phone', skip_echoes => true) #> '{changes,inbox}' AS changes;
-- Another device, and somebody else who knows the device's id, hear nothing.
SELECT * FROM t.pull('{inbox}', :'c', client_id => 'tablet');
SELECT * FROM t.pull('{inbox}', :'c');
SET ROLE bob;
SELECT * FROM t.pull('{inbox}', :'c', client_id => 'phone');
RESET ROLE;
-- It is no conflict to anybody, and does not outlive the row's coming.
SELECT push_changes('{"inbox": {"updated": [{"id": 1, "what": "now it stays"}]}}', :'c', client_id => 'tablet');
SELECT * FROM t.pull('{inbox}', :'c', client_id => 'phone');
SELECT push_changes('{"inbox": {"updated": [{"id": 1, "what": "and is changed"}]}}', :'c', client_id => 'tablet');
-- A client without an id is known by its user, and users of one role by what signed them in.
SELECT t.catch_up('inbox') IS NULL;
SELECT current_setting('t.cursor') AS c \gset
SET ROLE authenticated;
SET request.jwt.claims = '{"sub": "ann"}';
SELECT push_changes('{"inbox": {"created": [{"id": 11, "what": "veto"}]}}', :'c');
SELECT * FROM t.pull('{inbox}', :'c');
SET request.jwt.claims = '{"sub": "ben"}';
SELECT * FROM t.pull('{inbox}', :'c');
RESET ROLE;
RESET request.jwt.claims;
-- compact() keeps the word, and one who reports hears of the others as ever.
SELECT t.catch_up('inbox') IS NULL;
SELECT current_setting('t.cursor') AS c \gset
SELECT push_changes('{"inbox": {"created": [{"id": 21, "what": "veto"}, {"id": 22, "n": "x"}, {"id": 23, "what": "stay"}]}}', :'c', client_id => 'phone', on_rejected => 'report');
SELECT push_changes('{"inbox": {"created": [{"id": 21, "what": "veto"}]}}', :'c', client_id => 'phone');
SELECT push_changes('{"inbox": {"created": [{"id": 21, "what": "veto"}]}}', :'c', client_id => 'phone');
SELECT snapsync.compact() >= 0;
SELECT * FROM t.pull('{inbox}', :'c', client_id => 'phone');
-- A savepoint that is rolled back takes the word along.
SELECT t.catch_up('inbox') IS NULL;
SELECT current_setting('t.cursor') AS c \gset
BEGIN;
SAVEPOINT s;
SELECT push_changes('{"inbox": {"created": [{"id": 31, "what": "veto"}]}}', :'c', client_id => 'phone');
ROLLBACK TO s;
COMMIT;
SELECT * FROM t.pull('{inbox}', :'c', client_id => 'phone');

-- A cascade of the same push, and a trigger of another table.
CREATE TABLE folders (id int PRIMARY KEY);
CREATE TABLE files (id int PRIMARY KEY, folder int REFERENCES folders ON DELETE CASCADE);
CREATE TABLE orders (id int PRIMARY KEY, cancels int);
CREATE FUNCTION cancel() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM files WHERE id = new.cancels; RETURN NULL; END $$;
CREATE TRIGGER cancel AFTER UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION cancel();
SELECT snapsync.enable('folders'), snapsync.enable('files'), snapsync.enable('orders');
INSERT INTO folders VALUES (1), (2);
INSERT INTO orders VALUES (1);
SELECT t.catch_up('folders', 'files', 'orders') IS NULL;
SELECT current_setting('t.cursor') AS c \gset
SELECT push_changes('{"folders": {"deleted": [1]}, "files": {"created": [{"id": 1, "folder": 1}, {"id": 2, "folder": 2}, {"id": 3}]}, "orders": {"updated": [{"id": 1, "cancels": 3}]}}', :'c', client_id => 'phone');
SELECT * FROM t.pull('{folders,files,orders}', :'c', client_id => 'phone');

-- A row that no policy shows to who inserted it.
CREATE TABLE letters (id int PRIMARY KEY, sender name DEFAULT CURRENT_USER, addressee name);
ALTER TABLE letters ENABLE ROW LEVEL SECURITY;
CREATE POLICY send ON letters FOR INSERT WITH CHECK (sender = CURRENT_USER);
CREATE POLICY receive ON letters FOR SELECT USING (addressee = CURRENT_USER);
GRANT ALL ON letters TO alice, bob;
SELECT snapsync.enable('letters');
SELECT t.catch_up('letters') IS NULL;
SELECT current_setting('t.cursor') AS c \gset
SET ROLE alice;
SELECT push_changes('{"letters": {"created": [{"id": 1, "addressee": "bob"}, {"id": 2, "addressee": "alice"}]}}', :'c', client_id => 'phone');
SELECT * FROM t.pull('{letters}', :'c', client_id => 'phone');
SET ROLE bob;
SELECT * FROM t.pull('{letters}', :'c', client_id => 'phone');
RESET ROLE;

-- A row of a scope that is not among the user's, or of none, and one that is created as deleted: no pull would send them.
CREATE TABLE scoped (id text PRIMARY KEY, org int DEFAULT 2, gone timestamptz);
CREATE FUNCTION moved() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF new.org = 7 THEN new.org := 8; END IF; RETURN new; END $$;
SELECT snapsync.enable('scoped', scope_column => 'org', scope_values => 'ARRAY[''1'', ''7'']', soft_delete_column => 'gone');
GRANT SELECT (id, org), INSERT ON scoped TO alice;
GRANT SELECT, INSERT ON scoped TO bob;
SET ROLE alice;
SELECT t.catch_up('scoped') IS NULL;
SELECT current_setting('t.cursor') AS c \gset
SELECT push_changes('{"scoped": {"created": [{"id": "in", "org": 1}, {"id": "in, as text", "org": "1"}, {"id": "out", "org": 2}, {"id": "default"}, {"id": "null", "org": null},
    {"id": "marked", "org": 1, "gone": "2025-01-01"}, {"id": "not marked", "org": 1, "gone": null}]}}', :'c', client_id => 'phone');
SELECT t.catch_up('scoped') IS NULL;
SELECT pull_changes('{scoped}', :'c', client_id => 'phone') #> '{changes,scoped}' AS changes;
-- Nobody else hears of them; who asks for a scope by a filter has the rows that are in it.
SELECT pull_changes('{scoped}', :'c', client_id => 'tablet') #> '{changes,scoped}' AS changes;
SELECT pull_changes('{scoped}', :'c', client_id => 'phone', filter => '{"scoped": {"org": [2]}}') #> '{changes,scoped}' AS changes;
RESET ROLE;
SET ROLE bob;
SELECT pull_changes('{scoped}', :'c', client_id => 'phone') #> '{changes,scoped}' AS changes;
RESET ROLE;
-- A trigger gives it another scope.
CREATE TRIGGER moved BEFORE INSERT ON scoped FOR EACH ROW EXECUTE FUNCTION moved();
SET ROLE bob;
SELECT t.catch_up('scoped') IS NULL;
SELECT current_setting('t.cursor') AS c \gset
SELECT push_changes('{"scoped": {"created": [{"id": "moved", "org": 7}, {"id": "stays", "org": 1}]}}', :'c', client_id => 'desk');
SELECT pull_changes('{scoped}', :'c', client_id => 'desk') #> '{changes,scoped}' AS changes;
RESET ROLE;
-- One that is new to its client, and there already in another scope.
SET ROLE bob;
SELECT t.catch_up('scoped') IS NULL;
SELECT current_setting('t.cursor') AS c \gset
RESET ROLE;
GRANT UPDATE ON scoped TO bob;
SET ROLE bob;
SELECT push_changes('{"scoped": {"created": [{"id": "out", "org": 3}, {"id": "null", "org": 1}]}}', :'c', client_id => 'desk');
SELECT pull_changes('{scoped}', :'c', client_id => 'desk') #> '{changes,scoped}' AS changes;
RESET ROLE;
-- Where the expression fails, the push stands, and the pull says why.
CREATE TABLE secret (org int);
SELECT snapsync.enable('scoped', scope_column => 'org', scope_values => 'ARRAY(SELECT s.org::text FROM secret AS s)', soft_delete_column => 'gone') \g /dev/null
SET ROLE bob;
SELECT push_changes('{"scoped": {"created": [{"id": "stands", "org": 1}]}}', client_id => 'desk');
SELECT * FROM t.error($$SELECT pull_changes('{scoped}')$$);
RESET ROLE;

-- A trigger that waits for the commit takes rows away, or hands them over: their client hears of that, too. What stays comes once more.
CREATE TABLE buys (id int PRIMARY KEY, qty int, owner name DEFAULT current_user);
ALTER TABLE buys ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON buys USING (owner = current_user);
GRANT ALL ON buys TO alice;
CREATE FUNCTION settle_buys() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    DELETE FROM buys WHERE id = new.id AND qty > 10;
    UPDATE buys SET owner = 'bob' WHERE id = new.id AND qty = 7;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER settle AFTER INSERT ON buys DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION settle_buys();
SELECT snapsync.enable('buys');
SET ROLE alice;
SELECT pull_changes('{buys}') ->> 'timestamp' AS c \gset
SELECT push_changes('{"buys": {"created": [{"id": 1, "qty": 11}, {"id": 2, "qty": 7}, {"id": 3, "qty": 1}]}}', :'c', client_id => 'phone');
SELECT pull_changes('{buys}', :'c', client_id => 'phone') #> '{changes,buys}' AS changes;
SELECT pull_changes('{buys}', :'c', client_id => 'phone', skip_echoes => true) #> '{changes,buys}' AS changes;
SELECT pull_changes('{buys}', :'c', client_id => 'tablet') #> '{changes,buys}' AS changes;
RESET ROLE;
-- So it is with one of another table, to which a trigger writes at once.
CREATE TABLE checks (buy int);
CREATE TABLE offers (id int PRIMARY KEY, body text);
GRANT ALL ON offers TO alice;
CREATE FUNCTION to_check() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN INSERT INTO checks VALUES (new.id); RETURN NULL; END $$;
CREATE FUNCTION check_offers() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN DELETE FROM offers WHERE id = new.buy AND body = 'spam'; RETURN NULL; END $$;
CREATE TRIGGER to_check AFTER INSERT ON offers FOR EACH ROW EXECUTE FUNCTION to_check();
CREATE CONSTRAINT TRIGGER check_offers AFTER INSERT ON checks DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION check_offers();
SELECT snapsync.enable('offers');
SET ROLE alice;
SELECT pull_changes('{offers}') ->> 'timestamp' AS c \gset
SELECT push_changes('{"offers": {"created": [{"id": 1, "body": "spam"}, {"id": 2, "body": "ham"}]}}', :'c', client_id => 'phone');
SELECT pull_changes('{offers}', :'c', client_id => 'phone') #> '{changes,offers}' AS changes;
RESET ROLE;
-- What shows the row follows, by its key, a column that the same push changes.
CREATE TABLE teams (id int PRIMARY KEY, code text UNIQUE, lead text UNIQUE);
CREATE TABLE joined (id int PRIMARY KEY, team text REFERENCES teams (code) ON UPDATE CASCADE, lead text REFERENCES teams (lead) ON UPDATE SET NULL);
CREATE TABLE cards (id int PRIMARY KEY, team text, lead text);
INSERT INTO teams VALUES (1, 'a', 'ann'), (2, 'b', 'ben');
INSERT INTO joined VALUES (1, 'a', 'ann'), (2, 'b', 'ben');
ALTER TABLE cards ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON cards USING (team IN (SELECT team FROM joined) OR lead IN (SELECT lead FROM joined));
GRANT ALL ON cards, teams, joined TO alice;
SELECT snapsync.enable('cards'), snapsync.enable('teams');
SET ROLE alice;
SELECT pull_changes('{cards,teams}') ->> 'timestamp' AS c \gset
SELECT push_changes('{"cards": {"created": [{"id": 1, "team": "a"}, {"id": 2, "team": "b"}]}, "teams": {"updated": [{"id": 1, "code": "c"}]}}', :'c', client_id => 'phone');
SELECT pull_changes('{cards,teams}', :'c', client_id => 'phone') #> '{changes,cards}' AS changes;
SELECT pull_changes('{cards,teams}') ->> 'timestamp' AS c \gset
SELECT push_changes('{"cards": {"created": [{"id": 3, "lead": "ann"}, {"id": 4, "lead": "ben"}]}, "teams": {"updated": [{"id": 2, "lead": "bob"}]}}', :'c', client_id => 'phone');
SELECT pull_changes('{cards,teams}', :'c', client_id => 'phone') #> '{changes,cards}' AS changes;
RESET ROLE;
-- So it is with keys that refer to a partition itself.
CREATE TABLE halls (id int PRIMARY KEY, code text) PARTITION BY RANGE (id);
CREATE TABLE halls_1 PARTITION OF halls (UNIQUE (code)) DEFAULT;
CREATE TABLE seats (id int PRIMARY KEY, hall int REFERENCES halls_1 ON DELETE CASCADE, code text REFERENCES halls_1 (code) ON UPDATE CASCADE);
CREATE TABLE tickets (id int PRIMARY KEY, code text);
INSERT INTO halls VALUES (1, 'a'), (2, 'b');
INSERT INTO seats VALUES (1, 1, 'a'), (2, 2, 'b'), (7, 1, NULL);
ALTER TABLE tickets ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tickets USING (code IN (SELECT code FROM seats));
GRANT ALL ON halls, seats, tickets TO alice;
SELECT snapsync.enable('tickets'), snapsync.enable('halls'), snapsync.enable('seats');
SET ROLE alice;
SELECT pull_changes('{tickets,halls,seats}') ->> 'timestamp' AS c \gset
SELECT push_changes('{"tickets": {"created": [{"id": 1, "code": "a"}, {"id": 2, "code": "b"}]}, "halls": {"updated": [{"id": 1, "code": "c"}]}}', :'c', client_id => 'phone');
SELECT pull_changes('{tickets,halls}', :'c', client_id => 'phone') #> '{changes,tickets}' AS changes;
SELECT pull_changes('{tickets,halls,seats}') ->> 'timestamp' AS c \gset
-- (What goes with a row that is deleted, and was moved elsewhere before, stays.)
SELECT push_changes('{"seats": {"updated": [{"id": 7, "hall": 2}]}, "halls": {"deleted": ["1"]}}', :'c', client_id => 'phone');
SELECT id, hall FROM seats ORDER BY id;
RESET ROLE;
-- What a trigger of the push's has taken along is gone also where old rows are not read (an array of a domain, by which it is decided who sees them).
CREATE DOMAIN tag AS text CHECK (length(value) < 20);
CREATE TABLE topics (id int PRIMARY KEY);
CREATE TABLE remarks (id int PRIMARY KEY, topic int, tags tag[], n int);
CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN DELETE FROM public.remarks WHERE topic = old.id; RETURN NULL; END $$;
CREATE TRIGGER leave AFTER DELETE ON topics FOR EACH ROW EXECUTE FUNCTION leave();
INSERT INTO topics VALUES (1), (2);
INSERT INTO remarks VALUES (10, 1, '{public}'), (11, 1, '{public}'), (20, 2, '{public}');
ALTER TABLE remarks ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON remarks USING ('public' = ANY (tags::text[]));
GRANT ALL ON topics, remarks TO alice;
SELECT snapsync.enable('topics'), snapsync.enable('remarks');
SET ROLE alice;
SELECT pull_changes('{topics,remarks}') ->> 'timestamp' AS c \gset
SELECT push_changes('{"topics": {"deleted": ["1"]}, "remarks": {"updated": [{"id": 11, "n": 5}], "deleted": ["10"]}}', :'c', client_id => 'phone');
SELECT id FROM remarks ORDER BY id;
RESET ROLE;
