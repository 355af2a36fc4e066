-- Pokes as broadcasts of Supabase Realtime, against a stand-in for its schema. (As there: messages under row-level security, a function that
-- inserts into them as its caller.)
\set ECHO none
\set test regress_realtime
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
DO $$ BEGIN CREATE ROLE supabase_admin SUPERUSER; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN CREATE ROLE mallory; EXCEPTION WHEN duplicate_object THEN NULL; END $$;

CREATE SCHEMA realtime AUTHORIZATION supabase_admin;
SET ROLE supabase_admin;
CREATE TABLE realtime.messages (id bigint GENERATED ALWAYS AS IDENTITY, topic text NOT NULL, extension text NOT NULL, payload jsonb, event text, private boolean);
ALTER TABLE realtime.messages ENABLE ROW LEVEL SECURITY;
GRANT USAGE ON SCHEMA realtime TO PUBLIC;
GRANT SELECT ON realtime.messages TO authenticated;
GRANT INSERT, SELECT ON realtime.messages TO bob;
CREATE POLICY owner ON realtime.messages FOR INSERT TO bob WITH CHECK (true);
CREATE FUNCTION realtime.topic() RETURNS text LANGUAGE sql STABLE AS $$ SELECT nullif(current_setting('realtime.topic', true), '') $$;
CREATE FUNCTION realtime.send(payload jsonb, event text, topic text, private boolean DEFAULT true) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO realtime.messages (payload, event, topic, private, extension) VALUES (payload, event, topic, private, 'broadcast');
END
$$;
RESET ROLE;
-- The table is bob's. Others write.
CREATE TABLE members (org text, who text, PRIMARY KEY (org, who));
SET ROLE bob;
CREATE TABLE todos (id int PRIMARY KEY, org text, n int);
ALTER TABLE todos ENABLE ROW LEVEL SECURITY;
RESET ROLE;
GRANT SELECT, TRIGGER ON members TO bob, authenticated;
SET ROLE bob;
CREATE POLICY p ON todos USING (org IN (SELECT org FROM members WHERE who = current_setting('my.self', true)));
GRANT ALL ON todos TO authenticated;
SELECT snapsync.enable('todos', notify => 'realtime');
RESET ROLE;
INSERT INTO members VALUES ('a', 'ann'), ('b', 'ann');
TRUNCATE realtime.messages;
CREATE FUNCTION t.sent() RETURNS TABLE (topic text, event text, private boolean, actions jsonb, rest text[]) LANGUAGE sql SECURITY DEFINER AS $$
    SELECT topic, event, private, payload -> 'actions', ARRAY(SELECT jsonb_object_keys(payload - 'actions')) FROM realtime.messages ORDER BY id
$$;

SET ROLE authenticated;
SET my.self = 'ann';
INSERT INTO todos VALUES (1, 'a', 1), (2, 'b', 1);
UPDATE todos SET org = 'b' WHERE id = 1;
BEGIN; SAVEPOINT s; DELETE FROM todos; ROLLBACK TO s; COMMIT;
SELECT * FROM t.sent();
-- Who may join: the policy of docs/live.md.
RESET ROLE;
CREATE POLICY pokes ON realtime.messages FOR SELECT TO authenticated USING (
    extension = 'broadcast' AND (realtime.topic() = 'snapsync:todos'
        OR realtime.topic() IN (SELECT 'snapsync:todos:' || m.org FROM members AS m WHERE m.who = current_setting('my.self', true))));
CREATE FUNCTION t.may_join(who text, topic text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('my.self', who, true), set_config('realtime.topic', topic, true);
    RETURN EXISTS (SELECT FROM realtime.messages);
END
$$;
GRANT USAGE ON SCHEMA t TO PUBLIC;
SET ROLE authenticated;
SELECT who, topic, t.may_join(who, topic) FROM (VALUES ('ann', 'snapsync:todos:a'), ('ann', 'snapsync:todos:c'), ('tom', 'snapsync:todos:a'), ('tom', 'snapsync:todos')) AS v(who, topic);
-- What fails there fails no write; a message that is refused neither.
RESET ROLE;
ALTER TABLE realtime.messages ADD CONSTRAINT no CHECK (topic <> 'snapsync:todos:a') NOT VALID;
SET ROLE authenticated;
SET my.self = 'ann';
INSERT INTO todos VALUES (3, 'a', 1);
SELECT count(*) FROM todos WHERE id = 3;
SELECT count(*) FROM t.sent();
RESET ROLE;
ALTER TABLE realtime.messages DROP CONSTRAINT no;
-- Triggers there fire as the owner; none is deferred in a restricted operation.
CREATE FUNCTION t.tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'fires as %', current_user; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON realtime.messages FOR EACH ROW EXECUTE FUNCTION t.tell();
SET ROLE authenticated;
UPDATE todos SET n = 5 WHERE id = 2;
RESET ROLE;
DROP TRIGGER later ON realtime.messages;
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON realtime.messages DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION t.tell();
SET ROLE authenticated;
UPDATE todos SET n = 6 WHERE id = 2;
RESET ROLE;
DROP TRIGGER later ON realtime.messages;
-- What is written there to a synced table is logged like anything else.
CREATE TABLE heard (id serial PRIMARY KEY, topic text);
SELECT snapsync.enable('heard');
SELECT pull_changes('{heard}') ->> 'timestamp' AS cursor \gset
CREATE FUNCTION t.hear() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN INSERT INTO public.heard (topic) VALUES (NEW.topic); RETURN NULL; END $$;
CREATE TRIGGER hear AFTER INSERT ON realtime.messages FOR EACH ROW EXECUTE FUNCTION t.hear();
SET ROLE authenticated;
UPDATE todos SET n = 12 WHERE id = 2;
RESET ROLE;
SELECT * FROM t.pull('{heard}', :'cursor');
DROP TRIGGER hear ON realtime.messages;
-- Nor does it keep more than its own rights: no role is set.
CREATE FUNCTION t.climb() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN SET ROLE supabase_admin; RETURN NULL; END $$;
CREATE TRIGGER climb AFTER INSERT ON realtime.messages FOR EACH ROW EXECUTE FUNCTION t.climb();
SET ROLE authenticated;
UPDATE todos SET n = 7 WHERE id = 2;
SELECT n, current_user FROM todos WHERE id = 2;
RESET ROLE;
DROP TRIGGER climb ON realtime.messages;
-- The function is somebody else's now: it is not run, with whatever rights.
CREATE FUNCTION t.reach() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'runs as %', current_user; END $$;
CREATE OR REPLACE FUNCTION realtime.send(payload jsonb, event text, topic text, private boolean DEFAULT true) RETURNS void LANGUAGE sql AS $$ SELECT t.reach() $$;
ALTER FUNCTION realtime.send OWNER TO mallory;
SET ROLE authenticated;
UPDATE todos SET n = 10 WHERE id = 2;
RESET ROLE;
-- Nor if it only looks like it.
CREATE FUNCTION realtime.send(payload json, event text, topic text, private boolean) RETURNS void LANGUAGE sql AS $$ SELECT t.reach() $$;
DROP FUNCTION realtime.send(jsonb, text, text, boolean);
SET ROLE authenticated;
UPDATE todos SET n = 11 WHERE id = 2;
RESET ROLE;
-- Nor the table owner's own: it would run with a stamp that all wait for, while others commit.
CREATE FUNCTION realtime.send(payload jsonb, event text, topic text, private boolean DEFAULT true) RETURNS void LANGUAGE sql AS $$ SELECT t.reach() $$;
ALTER FUNCTION realtime.send(jsonb, text, text, boolean) OWNER TO bob;
SET ROLE authenticated;
UPDATE todos SET n = 8 WHERE id = 2;
RESET ROLE;
SELECT * FROM t.error($$SELECT snapsync.enable('todos', notify => 'both')$$);
-- Nor a superuser's in a schema whose owner can put there what it writes to.
ALTER FUNCTION realtime.send(jsonb, text, text, boolean) OWNER TO supabase_admin;
ALTER SCHEMA realtime OWNER TO bob;
SET ROLE authenticated;
UPDATE todos SET n = 7 WHERE id = 2;
RESET ROLE;
SELECT * FROM t.error($$SELECT snapsync.enable('todos', notify => 'both')$$);
ALTER SCHEMA realtime OWNER TO supabase_admin;
-- What was found is called, once for each scope; not another's function that has got its name by then.
CREATE SCHEMA decoy AUTHORIZATION mallory;
CREATE FUNCTION decoy.send(payload jsonb, event text, topic text, private boolean) RETURNS void LANGUAGE sql AS $$ SELECT t.reach() $$;
ALTER FUNCTION decoy.send OWNER TO mallory;
GRANT USAGE ON SCHEMA decoy TO PUBLIC;
CREATE OR REPLACE FUNCTION realtime.send(payload jsonb, event text, topic text, private boolean DEFAULT true) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET allow_system_table_mods = on AS $$
BEGIN
    UPDATE pg_namespace SET nspname = 'was' WHERE nspname = 'realtime' AND EXISTS (SELECT FROM pg_namespace WHERE nspname = 'decoy');
    UPDATE pg_namespace SET nspname = 'realtime' WHERE nspname = 'decoy';
    RAISE WARNING 'sends %', topic;
END
$$;
SET ROLE authenticated;
UPDATE todos SET n = 14 WHERE id IN (2, 3);
RESET ROLE;
ALTER SCHEMA realtime RENAME TO decoy;
ALTER SCHEMA was RENAME TO realtime;
CREATE OR REPLACE FUNCTION realtime.send(payload jsonb, event text, topic text, private boolean DEFAULT true) RETURNS void LANGUAGE sql AS $$ SELECT t.reach() $$;
-- A prepared transaction and a read-only one send nothing.
SET ROLE authenticated;
BEGIN; UPDATE todos SET n = 9 WHERE id = 2; PREPARE TRANSACTION 'regress realtime';
COMMIT PREPARED 'regress realtime';
UPDATE todos SET n = 10 WHERE id = 2;
RESET ROLE;
-- Versions of the schema are numbered behind it: nobody's DDL waits meanwhile.
CREATE OR REPLACE FUNCTION t.reach() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    RAISE WARNING 'without a number: %', (SELECT count(*) FROM snapsync.schema_version WHERE version IS NULL);
END
$$;
BEGIN; ALTER TABLE todos ADD COLUMN more text; UPDATE todos SET n = 11 WHERE id = 2; COMMIT;
SELECT count(*) FROM snapsync.schema_version WHERE version IS NULL;
-- What takes too long is ended, and the write stands. There is one second for all of a transaction's.
CREATE TABLE notes (id int PRIMARY KEY);
SELECT snapsync.enable('notes', notify => 'realtime');
CREATE OR REPLACE FUNCTION t.reach() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(600); END $$;
BEGIN; UPDATE todos SET n = 12 WHERE id = 2; INSERT INTO notes VALUES (1); COMMIT;
SELECT n FROM todos WHERE id = 2;
-- The next statement is not.
SELECT pg_sleep(0.001);
SELECT * FROM t.error($$ALTER FUNCTION realtime.send(jsonb, text, text, boolean) OWNER TO mallory; SELECT snapsync.enable('todos', notify => 'both')$$);
REVOKE USAGE ON SCHEMA realtime FROM PUBLIC;
SELECT * FROM t.error($$SELECT snapsync.enable('todos', notify => 'both')$$);

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_realtime;
DROP ROLE supabase_admin;
