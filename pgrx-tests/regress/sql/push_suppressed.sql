-- Triggers and rules that do something else than a push's statement asks for, with no error: an insert that finds the row there and does nothing, a
-- deletion that marks the row, and hides it.
\set ECHO none
\set test regress_push_suppressed
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET client_min_messages = warning;
-- A push of this device, and what its next pull brings.
CREATE FUNCTION t.told(collection text, changes json, rejected text DEFAULT 'abort') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text;
    answer json;
BEGIN
    PERFORM t.catch_up(collection);
    BEGIN
        said := public.push_changes(CASE WHEN changes -> collection IS NULL THEN json_build_object(collection, changes) ELSE changes END,
                                    current_setting('t.cursor'), client_id => 'device', on_rejected => rejected);
    EXCEPTION WHEN OTHERS THEN
        said := SQLSTATE || ' ' || SQLERRM;
    END;
    answer := public.pull_changes(ARRAY[collection], current_setting('t.cursor'), client_id => 'device');
    said := concat_ws(' ', said, answer #>> ARRAY['experimentalStrategy', 'override', collection]);
    answer := answer #> ARRAY['changes', collection];
    RETURN said || ' ' || coalesce((SELECT string_agg(a.key || ' ' || i.value, ', ' ORDER BY a.key, i.value::text COLLATE "C")
                                    FROM json_each(answer) AS a, json_array_elements(a.value) AS i), 'nothing');
END
$$;
-- Whoever may see the rows or not.
CREATE FUNCTION t.rows(name text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    found text;
BEGIN
    EXECUTE format('SELECT string_agg(r::text, '' '' ORDER BY r::text COLLATE "C") FROM %I AS r', name) INTO found;
    RETURN found;
END
$$;
-- A synced table that anybody may write.
CREATE FUNCTION t.table(name text, columns text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE %I (%s)', name, columns);
    EXECUTE format('GRANT ALL ON %I TO alice, bob', name);
    PERFORM snapsync.enable(name::regclass);
END
$$;
\set ECHO all
-- A created row that is there is updated, also where a trigger, or a rule, keeps the INSERT from failing.
CREATE FUNCTION once() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    found boolean;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT FROM %I WHERE id = $1.id)', TG_TABLE_NAME) USING new INTO found;
    RETURN CASE WHEN found THEN NULL ELSE new END;
END
$$;
SELECT t.table('once', 'id text PRIMARY KEY, title text');
CREATE TRIGGER once BEFORE INSERT ON once FOR EACH ROW EXECUTE FUNCTION once();
SELECT t.table('ruled', 'id text PRIMARY KEY, title text');
CREATE RULE once AS ON INSERT TO ruled WHERE EXISTS (SELECT FROM ruled AS r WHERE r.id = new.id) DO INSTEAD NOTHING;
SET ROLE alice;
SELECT t.told('once', '{"created": [{"id": "x", "title": "a"}]}');
SELECT t.told('once', '{"created": [{"id": "x", "title": "b"}, {"id": "y", "title": "y"}]}');
SELECT t.told('once', '{"created": [{"id": "x", "title": "b"}]}');
SELECT t.told('once', '{"created": [{"id": "x", "title": "c"}, {"id": "z", "title": "z"}], "updated": [{"id": "y", "title": "y2"}]}', 'report');
SELECT t.rows('once');
SELECT t.told('ruled', '{"created": [{"id": "x", "title": "a"}]}');
SELECT t.told('ruled', '{"created": [{"id": "x", "title": "b"}, {"id": "y", "title": "y"}]}');
SELECT t.rows('ruled');
RESET ROLE;
-- One that makes another row of it.
CREATE FUNCTION aside() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM aside WHERE id = new.id) THEN new.id := new.id || ' again'; END IF;
    RETURN new;
END
$$;
SELECT t.table('aside', 'id text PRIMARY KEY, title text');
CREATE TRIGGER aside BEFORE INSERT ON aside FOR EACH ROW EXECUTE FUNCTION aside();
SELECT t.told('aside', '{"created": [{"id": "x", "title": "a"}]}');
SELECT t.told('aside', '{"created": [{"id": "x", "title": "b"}]}');
SELECT t.rows('aside');
-- One that writes the row itself is let alone: here the first title stays, and its client gets it.
CREATE FUNCTION itself() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO itself VALUES (new.*) ON CONFLICT (id) DO UPDATE SET n = excluded.n;
    RETURN NULL;
END
$$;
SELECT t.table('itself', 'id text PRIMARY KEY, title text, n int');
CREATE TRIGGER itself BEFORE INSERT ON itself FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION itself();
SELECT t.told('itself', '{"created": [{"id": "x", "title": "a", "n": 1}]}');
SELECT t.told('itself', '{"created": [{"id": "x", "title": "b", "n": 2}]}');
SELECT t.rows('itself');
-- What it takes back is not written.
CREATE FUNCTION tries() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE tries SET title = 'tried' WHERE id = new.id;
    IF FOUND THEN RAISE 'there'; END IF;
    RETURN new;
EXCEPTION WHEN raise_exception THEN RETURN NULL;
END
$$;
SELECT t.table('tries', 'id text PRIMARY KEY, title text');
CREATE TRIGGER tries BEFORE INSERT ON tries FOR EACH ROW EXECUTE FUNCTION tries();
SELECT t.told('tries', '{"created": [{"id": "x", "title": "a"}]}');
SELECT t.told('tries', '{"created": [{"id": "x", "title": "b"}, {"id": "y", "title": "y"}]}');
SELECT t.rows('tries');
-- Of several statements that run as one, and of partitions.
SELECT t.table('tree', 'id text PRIMARY KEY, parent text REFERENCES tree, title text');
CREATE TRIGGER once BEFORE INSERT ON tree FOR EACH ROW EXECUTE FUNCTION once();
SELECT t.told('tree', '{"created": [{"id": "x", "title": "a"}, {"id": "y", "parent": "x"}]}');
SELECT t.told('tree', '{"created": [{"id": "x", "title": "b"}, {"id": "y", "parent": "z"}, {"id": "z", "title": "z"}]}');
SELECT t.rows('tree');
CREATE TABLE parts (id text PRIMARY KEY, title text) PARTITION BY LIST (id);
CREATE TABLE parts_x PARTITION OF parts FOR VALUES IN ('x');
CREATE TABLE parts_y PARTITION OF parts DEFAULT;
CREATE TRIGGER once BEFORE INSERT ON parts_x FOR EACH ROW EXECUTE FUNCTION once();
SELECT snapsync.enable('parts');
SELECT t.told('parts', '{"created": [{"id": "x", "title": "a"}, {"id": "y", "title": "a"}]}');
SELECT t.told('parts', '{"created": [{"id": "x", "title": "b"}, {"id": "z", "title": "b"}]}');
SELECT t.rows('parts');
-- A number is another text of the same row.
CREATE FUNCTION zeros() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.id := trim_scale(new.id); RETURN new; END $$;
SELECT t.table('numbers', 'id numeric PRIMARY KEY, title text');
CREATE TRIGGER zeros BEFORE INSERT ON numbers FOR EACH ROW EXECUTE FUNCTION zeros();
CREATE TRIGGER once BEFORE INSERT ON numbers FOR EACH ROW EXECUTE FUNCTION once();
SELECT t.told('numbers', '{"created": [{"id": "1.0", "title": "a"}, {"id": "2", "title": "a"}]}');
SELECT t.told('numbers', '{"created": [{"id": "1.00", "title": "b"}]}');
SELECT t.rows('numbers');
-- A row that the same push has made, by a trigger of another one's.
CREATE FUNCTION twin() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO twins VALUES (new.twin, 'made'); RETURN new; END $$;
SELECT t.table('makers', 'id text PRIMARY KEY, twin text');
SELECT t.table('twins', 'id text PRIMARY KEY, title text');
CREATE TRIGGER twin AFTER INSERT ON makers FOR EACH ROW EXECUTE FUNCTION twin();
CREATE TRIGGER once BEFORE INSERT ON twins FOR EACH ROW EXECUTE FUNCTION once();
SELECT t.told('twins', '{"makers": {"created": [{"id": "m", "twin": "x"}]}, "twins": {"created": [{"id": "x", "title": "sent"}, {"id": "y", "title": "sent"}]}}');
SELECT t.rows('twins');
-- Of a row that alice does not see nothing is said but that hers is not there.
SELECT t.table('rooms', 'id text PRIMARY KEY, owner name DEFAULT CURRENT_USER, title text');
CREATE TRIGGER once BEFORE INSERT ON rooms FOR EACH ROW EXECUTE FUNCTION once();
ALTER TABLE rooms ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON rooms USING (owner = CURRENT_USER);
INSERT INTO rooms VALUES ('x', 'bob', 'his');
SET ROLE alice;
SELECT t.told('rooms', '{"created": [{"id": "x", "title": "mine"}, {"id": "y", "title": "mine"}]}');
SELECT t.told('rooms', '{"created": [{"id": "y", "title": "mine 2"}]}');
SELECT t.rows('rooms');
-- One that is there, and that no policy lets her write so, is an error.
RESET ROLE;
ALTER POLICY own ON rooms WITH CHECK (title <> 'mine 3');
SET ROLE alice;
SELECT t.told('rooms', '{"created": [{"id": "y", "title": "mine 3"}, {"id": "z", "title": "mine"}]}', 'report');
RESET ROLE;
SELECT t.rows('rooms');
-- Who may only insert gets back what stands, and nobody else does; without such a trigger it is an error.
SELECT t.table('events', 'id text PRIMARY KEY, title text');
REVOKE ALL ON events FROM alice, bob;
GRANT SELECT, INSERT ON events TO alice, bob;
CREATE TRIGGER once BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION once();
SET ROLE alice;
SELECT t.told('events', '{"created": [{"id": "x", "title": "a"}]}');
SELECT t.told('events', '{"created": [{"id": "x", "title": "a"}, {"id": "y", "title": "y"}]}');
SELECT t.told('events', '{"created": [{"id": "x", "title": "b"}, {"id": "z", "title": "z"}]}');
SELECT t.told('events', '{"created": [{"id": "x", "title": "b"}]}', 'report');
RESET ROLE;
SET ROLE bob;
SELECT * FROM t.pull('{events}', client_id => 'device');
RESET ROLE;
SELECT t.rows('events');
ALTER TABLE events DISABLE TRIGGER once;
SET ROLE alice;
SELECT t.told('events', '{"created": [{"id": "x", "title": "b"}, {"id": "z2", "title": "z"}]}', 'report');
RESET ROLE;
ALTER TABLE events ENABLE TRIGGER once;
CREATE OR REPLACE FUNCTION stamps() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
DROP TRIGGER once ON events;
CREATE TRIGGER stamps BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION stamps();
SET ROLE alice;
SELECT t.told('events', '{"created": [{"id": "x", "title": "b"}, {"id": "z3", "title": "z"}]}');
SELECT t.told('events', '{"created": [{"id": "x", "title": "b"}, {"id": "z3", "title": "z"}]}', 'report');
RESET ROLE;
SELECT t.rows('events');
-- While the table is not tracked nothing says what a statement has written: what is there only with it, it has.
ALTER TABLE once DISABLE TRIGGER "00_snapsync_track";
SELECT push_changes('{"once": {"created": [{"id": "off", "title": "o"}, {"id": "off 2", "title": "o"}]}}', client_id => 'device');
ALTER TABLE once ENABLE ALWAYS TRIGGER "00_snapsync_track";
SELECT t.rows('once');

-- A deletion that marks the row, which policies hide then.
CREATE FUNCTION mark() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    EXECUTE format('UPDATE %I SET gone = true WHERE id = $1.id', TG_TABLE_NAME) USING old;
    RETURN NULL;
END
$$;
SELECT t.table('marked', 'id text PRIMARY KEY, title text, gone boolean NOT NULL DEFAULT false');
ALTER TABLE marked ENABLE ROW LEVEL SECURITY;
CREATE POLICY there ON marked USING (NOT gone);
CREATE TRIGGER mark BEFORE DELETE ON marked FOR EACH ROW EXECUTE FUNCTION mark();
INSERT INTO marked SELECT i, 't' FROM generate_series(1, 5) AS i;
SET ROLE alice;
SELECT t.told('marked', '{"deleted": ["1"]}');
SELECT t.told('marked', '{"deleted": ["2", "1"], "created": [{"id": "new", "title": "n"}]}', 'report');
RESET ROLE;
SELECT t.rows('marked');
-- What hides it need not stand in the row.
CREATE TABLE trash (id text PRIMARY KEY);
GRANT SELECT ON trash TO alice, bob;
CREATE FUNCTION throw() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN INSERT INTO trash VALUES (old.id); RETURN NULL; END $$;
SELECT t.table('things', 'id text PRIMARY KEY, title text');
ALTER TABLE things ENABLE ROW LEVEL SECURITY;
CREATE POLICY there ON things USING (id NOT IN (SELECT t.id FROM trash AS t));
CREATE TRIGGER throw BEFORE DELETE ON things FOR EACH ROW EXECUTE FUNCTION throw();
INSERT INTO things SELECT i, 't' FROM generate_series(1, 5) AS i;
SET ROLE alice;
SELECT t.told('things', '{"deleted": ["1"]}');
SELECT t.told('things', '{"deleted": ["2", "3"], "updated": [{"id": "4", "title": "t4"}, {"id": "5", "title": "t5"}]}');
RESET ROLE;
SELECT t.rows('things');
-- An edit that a trigger takes for something else.
CREATE FUNCTION archive() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF new.title <> 'done' OR pg_trigger_depth() > 1 THEN RETURN new; END IF;
    UPDATE archived SET gone = true WHERE id = old.id;
    RETURN NULL;
END
$$;
SELECT t.table('archived', 'id text PRIMARY KEY, title text, gone boolean NOT NULL DEFAULT false');
ALTER TABLE archived ENABLE ROW LEVEL SECURITY;
CREATE POLICY there ON archived USING (NOT gone);
CREATE TRIGGER archive BEFORE UPDATE ON archived FOR EACH ROW EXECUTE FUNCTION archive();
INSERT INTO archived SELECT i, 't' FROM generate_series(1, 5) AS i;
SET ROLE alice;
SELECT t.told('archived', '{"updated": [{"id": "1", "title": "done"}, {"id": "2", "title": "t2"}]}');
SELECT t.told('archived', '{"updated": [{"id": "3", "title": "done"}], "created": [{"id": "n", "title": "n"}, {"id": "4", "title": "t4"}]}', 'report');
RESET ROLE;
SELECT t.rows('archived');
-- Marked along with another row, of this table or another, before its own deletion.
CREATE FUNCTION along() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    UPDATE leaves SET gone = true WHERE parent = old.id OR id = old.id;
    RETURN CASE WHEN TG_TABLE_NAME = 'leaves' THEN NULL ELSE old END;
END
$$;
SELECT t.table('leaves', 'id text PRIMARY KEY, parent text, gone boolean NOT NULL DEFAULT false');
SELECT t.table('boughs', 'id text PRIMARY KEY');
ALTER TABLE leaves ENABLE ROW LEVEL SECURITY;
CREATE POLICY there ON leaves USING (NOT gone);
CREATE TRIGGER along BEFORE DELETE ON leaves FOR EACH ROW EXECUTE FUNCTION along();
CREATE TRIGGER along BEFORE DELETE ON boughs FOR EACH ROW EXECUTE FUNCTION along();
INSERT INTO leaves VALUES ('a', NULL), ('b', 'a'), ('c', NULL), ('d', 'bough'), ('e', 'bough 2');
INSERT INTO boughs VALUES ('bough'), ('bough 2');
SET ROLE alice;
SELECT t.told('leaves', '{"deleted": ["a", "b"]}');
SELECT t.told('leaves', '{"boughs": {"deleted": ["bough"]}, "leaves": {"deleted": ["d"]}}');
SELECT t.told('leaves', '{"leaves": {"deleted": ["e", "c"]}, "boughs": {"deleted": ["bough 2"]}}');
RESET ROLE;
SELECT t.rows('leaves');
-- What the push itself takes out of its sight is refused as ever, whatever triggers the table has: the edit would be lost.
CREATE TABLE members (id text PRIMARY KEY, list text, who name);
CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN coalesce(new, old); END $$;
SELECT t.table('entries', 'id text PRIMARY KEY, list text, title text');
GRANT ALL ON members TO alice, bob;
SELECT snapsync.enable('members');
ALTER TABLE entries ENABLE ROW LEVEL SECURITY;
CREATE POLICY lists ON entries USING (list IN (SELECT m.list FROM members AS m WHERE m.who = CURRENT_USER));
CREATE TRIGGER touched BEFORE UPDATE OR DELETE ON entries FOR EACH ROW EXECUTE FUNCTION touched();
CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN DELETE FROM members WHERE who = 'alice'; RETURN NULL; END $$;
SELECT t.table('leavers', 'id text PRIMARY KEY');
CREATE TRIGGER leave AFTER INSERT ON leavers FOR EACH ROW EXECUTE FUNCTION leave();
INSERT INTO members VALUES ('1', 'l', 'alice'), ('2', 'l', 'bob');
INSERT INTO entries SELECT i, 'l', 't' FROM generate_series(1, 3) AS i;
SET ROLE alice;
SELECT t.told('entries', '{"leavers": {"created": [{"id": "1"}]}, "entries": {"updated": [{"id": "1", "title": "edited first"}]}}');
-- Where the edit of one row takes the others away, those go first. No order helps where each does.
RESET ROLE;
CREATE TRIGGER leave AFTER UPDATE ON entries FOR EACH ROW WHEN (new.title = 'leave') EXECUTE FUNCTION leave();
INSERT INTO members VALUES ('1', 'l', 'alice');
SET ROLE alice;
SELECT t.told('entries', '{"entries": {"updated": [{"id": "2", "title": "leave"}, {"id": "3", "title": "lost", "list": "l"}]}}');
RESET ROLE;
INSERT INTO members VALUES ('1', 'l', 'alice');
SET ROLE alice;
SELECT t.told('entries', '{"entries": {"updated": [{"id": "1", "title": "leave"}, {"id": "3", "title": "leave", "list": "l"}]}}');
SELECT t.told('entries', '{"entries": {"updated": [{"id": "1", "title": "leave"}, {"id": "3", "title": "leave", "list": "l"}]}}', 'report');
RESET ROLE;
SELECT t.rows('entries');

-- A rule that does more, and before: it hides the rows, or what it does to them keeps them.
SELECT t.table('also', 'id text PRIMARY KEY, title text, gone boolean NOT NULL DEFAULT false');
ALTER TABLE also ENABLE ROW LEVEL SECURITY;
CREATE POLICY there ON also USING (NOT gone);
CREATE POLICY keeps ON also AS RESTRICTIVE FOR DELETE USING (title <> 'kept');
CREATE RULE marks AS ON DELETE TO also DO ALSO UPDATE also SET gone = old.id <> '3', title = 'kept' WHERE id = old.id;
INSERT INTO also SELECT i, 't' FROM generate_series(1, 4) AS i;
SET ROLE alice;
SELECT t.told('also', '{"deleted": ["1"]}');
SELECT t.told('also', '{"deleted": ["2", "3"]}', 'report');
RESET ROLE;
SELECT t.rows('also');

-- A trigger of another row's may change the one that was not inserted.
SELECT t.table('counted', 'id text PRIMARY KEY, title text, n int DEFAULT 0');
CREATE FUNCTION ignores() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF EXISTS (SELECT FROM counted WHERE id = new.id) THEN RETURN NULL; END IF; RETURN new; END $$;
CREATE FUNCTION counts() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE counted SET n = n + 1 WHERE id <> new.id; RETURN NULL; END $$;
CREATE TRIGGER ignores BEFORE INSERT ON counted FOR EACH ROW EXECUTE FUNCTION ignores();
CREATE TRIGGER counts AFTER INSERT ON counted FOR EACH ROW EXECUTE FUNCTION counts();
INSERT INTO counted VALUES ('x', 'a');
SET ROLE alice;
SELECT t.told('counted', '{"created": [{"id": "x", "title": "b"}, {"id": "y", "title": "c"}]}');
RESET ROLE;
SELECT t.rows('counted');

-- Where the stored row has a version, or a mark, it is looked at before a trigger that does it in its own way.
SELECT t.table('versioned', 'id text PRIMARY KEY, title text, version int');
SELECT snapsync.enable('versioned', conflict => 'last_write_wins', version_column => 'version');
CREATE FUNCTION upserts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE versioned SET title = new.title, version = new.version WHERE id = new.id;
    IF FOUND THEN RETURN NULL; END IF;
    RETURN new;
END
$$;
CREATE TRIGGER upserts BEFORE INSERT ON versioned FOR EACH ROW EXECUTE FUNCTION upserts();
INSERT INTO versioned VALUES ('x', 'newer', 5);
SET ROLE alice;
SELECT t.told('versioned', '{"created": [{"id": "x", "title": "older", "version": 2}, {"id": "y", "title": "new", "version": 1}]}');
SELECT t.told('versioned', '{"created": [{"id": "x", "title": "latest", "version": 6}]}');
RESET ROLE;
SELECT t.rows('versioned');

-- Who may only insert hears of a conflict where such a trigger would change the row for him.
SELECT t.table('theirs', 'id text PRIMARY KEY, title text');
REVOKE UPDATE, DELETE ON theirs FROM alice;
CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    UPDATE theirs SET title = new.title WHERE id = new.id;
    IF FOUND THEN RETURN NULL; END IF;
    RETURN new;
END
$$;
CREATE TRIGGER theirs BEFORE INSERT ON theirs FOR EACH ROW EXECUTE FUNCTION theirs();
INSERT INTO theirs VALUES ('x', 'a');
SELECT t.catch_up('theirs');
SELECT current_setting('t.cursor') AS c \gset
UPDATE theirs SET title = 'by bob';
SET ROLE alice;
SELECT * FROM t.error(format($$SELECT push_changes('{"theirs": {"created": [{"id": "x", "title": "mine"}]}}', %L, client_id => 'device')$$, :'c'));
RESET ROLE;
SELECT t.rows('theirs');

-- A rule that does something else instead: PostgreSQL tells nobody which rows that were, so such a row cannot be pushed, and others can.
SELECT t.table('instead', 'id text PRIMARY KEY, title text, gone boolean NOT NULL DEFAULT false');
SELECT t.table('returns', 'id text PRIMARY KEY, title text, gone boolean NOT NULL DEFAULT false');
CREATE RULE marks AS ON DELETE TO instead DO INSTEAD UPDATE instead SET gone = true WHERE id = old.id;
CREATE RULE marks AS ON DELETE TO returns DO INSTEAD UPDATE returns SET gone = true WHERE id = old.id RETURNING returns.*;
CREATE RULE stays AS ON UPDATE TO returns WHERE old.title = 'kept' DO INSTEAD NOTHING;
CREATE RULE twice AS ON INSERT TO instead WHERE EXISTS (SELECT FROM instead WHERE id = new.id) DO INSTEAD NOTHING;
INSERT INTO instead SELECT i, 't' FROM generate_series(1, 2) AS i;
INSERT INTO returns SELECT i, 't' FROM generate_series(1, 2) AS i;
SET ROLE alice;
SELECT t.told('instead', '{"deleted": ["1"]}');
SELECT t.told('instead', '{"created": [{"id": "3"}, {"id": "2", "title": "u"}], "deleted": ["1"]}', 'report');
SELECT t.told('returns', '{"updated": [{"id": "1", "title": "u"}]}');
SELECT t.told('returns', '{"created": [{"id": "3"}], "updated": [{"id": "1", "title": "u"}], "deleted": ["2"]}', 'report');
RESET ROLE;
SELECT t.rows('instead'), t.rows('returns');

-- A policy lets nobody change what is closed already. A trigger that closes the row in place of deleting or changing it was let do so all the same.
CREATE FUNCTION closes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR new.title = 'close' THEN
        UPDATE closing SET closed = true, title = 'closed' WHERE id = old.id;
        RETURN NULL;
    END IF;
    RETURN new;
END
$$;
SELECT t.table('closing', 'id text PRIMARY KEY, title text, closed boolean NOT NULL DEFAULT false');
ALTER TABLE closing ENABLE ROW LEVEL SECURITY;
CREATE POLICY s ON closing FOR SELECT USING (true);
CREATE POLICY u ON closing FOR UPDATE USING (NOT closed) WITH CHECK (true);
CREATE POLICY d ON closing FOR DELETE USING (NOT closed);
CREATE TRIGGER closes BEFORE UPDATE OR DELETE ON closing FOR EACH ROW EXECUTE FUNCTION closes();
INSERT INTO closing SELECT i, 't' FROM generate_series(1, 4) AS i;
SET ROLE alice;
SELECT t.told('closing', '{"deleted": ["1"]}');
SELECT t.told('closing', '{"deleted": ["1", "2"]}', 'report');
SELECT t.told('closing', '{"updated": [{"id": "3", "title": "close"}]}');
SELECT t.told('closing', '{"updated": [{"id": "3", "title": "close"}, {"id": "4", "title": "x"}]}', 'report');
RESET ROLE;
SELECT t.rows('closing');
-- What a policy asks of system columns is not told afterwards: their client hears of the rows, as of others that a trigger kept.
CREATE TABLE seen (x xid);
GRANT SELECT ON seen TO alice;
DROP POLICY d ON closing;
CREATE POLICY d ON closing FOR DELETE USING (EXISTS (SELECT FROM seen AS s WHERE s.x = closing.xmin) OR tableoid = 'closing'::regclass);
SET ROLE alice;
SELECT t.told('closing', '{"deleted": ["4"]}');
RESET ROLE;

-- In whatever order a push is tried, its client hears of what was kept in the one that counts, and others hear of nothing else.
SELECT t.table('books', 'id text PRIMARY KEY, open boolean NOT NULL DEFAULT true');
SELECT t.table('pages', 'id text PRIMARY KEY, book text, title text');
CREATE FUNCTION if_open() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RETURN CASE WHEN (SELECT open FROM books WHERE id = coalesce(new.book, old.book)) THEN coalesce(new, old) END;
END
$$;
INSERT INTO books VALUES ('1', true), ('2', false), ('3', true);
INSERT INTO pages VALUES ('a', '1', 't'), ('b', '1', 't'), ('c', '2', 't'), ('d', '3', 't');
CREATE TRIGGER if_open BEFORE INSERT OR UPDATE OR DELETE ON pages FOR EACH ROW EXECUTE FUNCTION if_open();
SET ROLE alice;
SELECT t.told('pages', '{"books": {"updated": [{"id": "1", "open": false}]}, "pages": {"updated": [{"id": "a", "title": "u"}, {"id": "c", "title": "u"}], "created": [{"id": "n", "book": "1"}, {"id": "m", "book": "2"}], "deleted": ["b"]}}');
SELECT t.told('pages', '{"pages": {"updated": [{"id": "c", "title": "v"}], "created": [{"id": "m", "book": "2"}]}, "books": {"updated": [{"id": "3", "open": false}]}}', 'report');
RESET ROLE;
SELECT t.rows('pages');
\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_push_suppressed;
