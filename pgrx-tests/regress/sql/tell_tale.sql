-- Wherever an owner can put SQL stands a function that tells on whom it runs as. It runs as its owner and as who pulls or pushes,
-- never as whoever administers, nor as the extension's owner.
\set ECHO none
\set test regress_tell_tale
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE t.ran (who name, place text);
-- Counts what a rolled back subtransaction would hide.
CREATE SEQUENCE t.leaks;
GRANT INSERT, SELECT ON t.ran TO PUBLIC;
GRANT USAGE ON SEQUENCE t.leaks TO PUBLIC;
SELECT set_config('t.caller', 'nobody', false);
CREATE FUNCTION t.tell(place text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF current_user NOT IN ('alice', current_setting('t.caller')) THEN
        PERFORM nextval('t.leaks');
        RAISE WARNING 'as %: %', current_user, place;
    END IF;
    IF NOT EXISTS (SELECT FROM t.ran AS r WHERE r.who = current_user AND r.place = tell.place) THEN
        INSERT INTO t.ran VALUES (current_user, place);
    END IF;
    RETURN true;
END
$$;
CREATE SCHEMA theirs AUTHORIZATION alice;
GRANT USAGE ON SCHEMA theirs TO PUBLIC;

SET ROLE alice;
SET search_path = theirs, public;
CREATE FUNCTION imm(place text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN t.tell(place); END $$;
CREATE FUNCTION imm(x anyelement, place text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN t.tell(place); END $$;
CREATE FUNCTION scopes(place text) RETURNS text[] LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM t.tell(place); RETURN '{a,b}'; END $$;
CREATE FUNCTION trg() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM t.tell(TG_ARGV[0]); RETURN NEW; END $$;
-- Types: domains for keys, scopes and others; a composite type and an enum with casts.
CREATE DOMAIN id AS int CHECK (t.tell('domain of a key'));
CREATE DOMAIN scope AS text CHECK (t.tell('domain of a scope'));
CREATE DOMAIN word AS text CHECK (t.tell('domain'));
CREATE TYPE pair AS (a int, b word);
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE FUNCTION to_text(mood) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM t.tell('cast'); RETURN 'x'; END $$;
CREATE CAST (mood AS text) WITH FUNCTION to_text(mood) AS IMPLICIT;
CREATE FUNCTION to_json_(mood) RETURNS json LANGUAGE plpgsql AS $$ BEGIN PERFORM t.tell('cast to json'); RETURN '"x"'; END $$;
CREATE CAST (mood AS json) WITH FUNCTION to_json_(mood);
-- Decoys for what statements of snapsync's use: whoever administers has this schema first in his path.
CREATE FUNCTION eq(name, name) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN t.tell('operator'); END $$;
CREATE FUNCTION eq(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN t.tell('operator'); END $$;
CREATE FUNCTION eq(oid, oid) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN t.tell('operator'); END $$;
CREATE FUNCTION eq(int, int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN t.tell('operator'); END $$;
CREATE FUNCTION eq(mood, mood) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN t.tell('operator'); END $$;
CREATE OPERATOR = (FUNCTION = eq, LEFTARG = name, RIGHTARG = name);
CREATE OPERATOR = (FUNCTION = eq, LEFTARG = text, RIGHTARG = text);
CREATE OPERATOR = (FUNCTION = eq, LEFTARG = oid, RIGHTARG = oid);
CREATE OPERATOR = (FUNCTION = eq, LEFTARG = int, RIGHTARG = int);
CREATE OPERATOR = (FUNCTION = eq, LEFTARG = mood, RIGHTARG = mood);
CREATE FUNCTION to_regclass(text) RETURNS regclass LANGUAGE plpgsql AS $$ BEGIN PERFORM t.tell('function'); RETURN NULL; END $$;
CREATE FUNCTION pg_has_role(oid, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN t.tell('function'); END $$;
CREATE FUNCTION format(text, text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM t.tell('function'); RETURN NULL; END $$;
CREATE FUNCTION current_schemas(boolean) RETURNS name[] LANGUAGE plpgsql AS $$ BEGIN PERFORM t.tell('function'); RETURN '{}'; END $$;
RESET search_path;

CREATE TABLE theirs.members (org theirs.scope, who name, note theirs.word, PRIMARY KEY (org, who), CHECK (theirs.imm(who, 'check of an access table')));
CREATE TABLE theirs.projects (id theirs.id PRIMARY KEY, org theirs.scope, note theirs.word);
CREATE TABLE theirs.hidden (id int PRIMARY KEY, who name, n theirs.word, m theirs.mood);
CREATE VIEW theirs.v AS SELECT * FROM theirs.members WHERE t.tell('view');
CREATE RULE r AS ON INSERT TO theirs.hidden DO ALSO SELECT t.tell('rule');
CREATE FUNCTION theirs.sees() RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN t.tell('function in a policy') AND EXISTS (SELECT FROM theirs.hidden WHERE who OPERATOR(pg_catalog.=) current_user);
END
$$;
CREATE TABLE theirs.docs (
    id      theirs.id PRIMARY KEY,
    org     theirs.scope,
    project theirs.id REFERENCES theirs.projects ON DELETE CASCADE,
    p       theirs.pair DEFAULT '(1,x)',
    m       theirs.mood DEFAULT 'good',
    d       boolean DEFAULT t.tell('default'),
    g       boolean GENERATED ALWAYS AS (theirs.imm('generated column')) STORED,
    v       int,
    CHECK (theirs.imm('check'))
);
CREATE INDEX ON theirs.docs (theirs.imm(v, 'index'));
CREATE INDEX ON theirs.docs (v) WHERE theirs.imm('predicate of an index');
CREATE TRIGGER a BEFORE INSERT OR UPDATE OR DELETE ON theirs.docs FOR EACH ROW EXECUTE FUNCTION theirs.trg('trigger');
CREATE CONSTRAINT TRIGGER b AFTER INSERT OR UPDATE ON theirs.docs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION theirs.trg('deferred trigger');
DROP TRIGGER a ON theirs.docs;
CREATE TRIGGER a BEFORE INSERT OR UPDATE ON theirs.docs FOR EACH ROW EXECUTE FUNCTION theirs.trg('trigger');
ALTER TABLE theirs.docs ENABLE ROW LEVEL SECURITY;
ALTER TABLE theirs.projects ENABLE ROW LEVEL SECURITY;
ALTER TABLE theirs.members ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON theirs.members USING (t.tell('policy of an access table') AND (who OPERATOR(pg_catalog.=) current_user OR note = 'x'));
CREATE POLICY p ON theirs.projects USING (org IN (SELECT org FROM theirs.v));
CREATE POLICY p ON theirs.docs USING (t.tell('policy') AND theirs.imm('immutable in a policy') AND (m::text = 'x' OR v > 0)
    AND project IN (SELECT id FROM theirs.projects WHERE note = 'x') AND org IN (SELECT org FROM theirs.members WHERE note = 'x'::theirs.word))
    WITH CHECK (t.tell('check of a policy'));
CREATE TABLE theirs.parts (id theirs.id, k theirs.scope NOT NULL, PRIMARY KEY (id, k), CHECK (theirs.imm(k, 'check of a partitioned table'))) PARTITION BY LIST (k);
CREATE TABLE theirs.part PARTITION OF theirs.parts FOR VALUES IN ('a');
CREATE TRIGGER a BEFORE INSERT ON theirs.part FOR EACH ROW EXECUTE FUNCTION theirs.trg('trigger of a partition');
ALTER TABLE theirs.parts ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON theirs.parts USING (theirs.sees() AND t.tell('policy of a partitioned table'));
CREATE FUNCTION theirs.settle(collection text, id text, stored jsonb, incoming jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.tell('conflict function');
    RETURN incoming;
END
$$;
CREATE FUNCTION theirs.mutate(args json) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM t.tell('mutator'); END $$;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA theirs TO bob;

-- The owner enables.
SET client_min_messages = warning;
SELECT snapsync.enable('theirs.docs', name => 'docs', scope_column => 'org', conflict => 'custom', conflict_function => 'theirs.settle(text,text,jsonb,jsonb)',
    scope_values => $$theirs.scopes('scope_values') || ARRAY['domain in scope_values'::theirs.word, (SELECT max(org) FROM theirs.members WHERE note = 'x'::theirs.word AND theirs.imm('immutable in scope_values'))]$$);
SELECT snapsync.enable('theirs.parts', name => 'parts', access_tables =>
    $${"theirs.hidden": "who = current_user AND n = 'domain in a predicate'::theirs.word AND theirs.imm('immutable in a predicate') AND m OPERATOR(theirs.=) 'good'"}$$);
SELECT snapsync.enable('theirs.projects', name => 'projects');
RESET client_min_messages;
INSERT INTO theirs.members VALUES ('a', 'bob', 'x');
INSERT INTO theirs.projects VALUES (1, 'a', 'x'), (2, 'a', 'x');
INSERT INTO theirs.docs VALUES (1, 'a', 1), (2, 'a', 1), (3, 'a', 2);
INSERT INTO theirs.parts VALUES (1, 'a'), (2, 'a');
INSERT INTO theirs.hidden VALUES (1, 'bob', 'domain in a predicate', 'good');
RESET ROLE;
SELECT string_agg(who, ' ') FROM (SELECT DISTINCT who FROM t.ran) AS r;

-- Somebody pulls, and pulls again after changes of rows, of access tables and of both.
SELECT set_config('t.caller', 'bob', false);
CREATE FUNCTION t.pulls(who name) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer json;
BEGIN
    PERFORM set_config('t.caller', who, false);
    EXECUTE format('SET ROLE %I', who);
    answer := public.pull_changes('{docs,projects,parts}', current_setting('t.cursor_' || who, true));
    RESET ROLE;
    PERFORM set_config('t.cursor_' || who, answer ->> 'timestamp', false), set_config('t.caller', 'nobody', false);
    RETURN (SELECT string_agg(format('%s %s %s/%s/%s', c.key, coalesce(answer #>> ARRAY['experimentalStrategy', 'override', c.key], ''),
                                     json_array_length(c.value -> 'created'), json_array_length(c.value -> 'updated'),
                                     json_array_length(c.value -> 'deleted')), ', ' ORDER BY c.key)
            FROM json_each(answer -> 'changes') AS c);
END
$$;
SELECT t.pulls('bob');
SET ROLE alice;
UPDATE theirs.docs SET v = 1 WHERE id OPERATOR(pg_catalog.=) 1;
DELETE FROM theirs.docs WHERE id OPERATOR(pg_catalog.=) 2;
DELETE FROM theirs.parts WHERE id OPERATOR(pg_catalog.=) 1;
UPDATE theirs.docs SET m = 'bad' WHERE id OPERATOR(pg_catalog.=) 3;
RESET ROLE;
SELECT t.pulls('bob');
SET ROLE alice;
DELETE FROM theirs.projects WHERE id OPERATOR(pg_catalog.=) 2;
INSERT INTO theirs.members VALUES ('b', 'carol', 'x');
INSERT INTO theirs.hidden VALUES (2, 'carol', 'y', 'bad');
UPDATE theirs.projects SET note = 'y' WHERE id OPERATOR(pg_catalog.=) 1;
RESET ROLE;
SELECT t.pulls('bob');
SET ROLE alice;
UPDATE theirs.projects SET note = 'x';
UPDATE theirs.members SET note = 'y' WHERE who OPERATOR(pg_catalog.=) 'carol';
UPDATE theirs.hidden SET n = 'z';
DELETE FROM theirs.docs WHERE id OPERATOR(pg_catalog.=) 1;
RESET ROLE;
SELECT t.pulls('bob');
-- A superuser who pulls runs what the owner gave, as when selecting.
SELECT t.pulls('postgres');
SET ROLE alice;
INSERT INTO theirs.docs VALUES (1, 'a', 1), (2, 'a', 1);
UPDATE theirs.docs SET v = 2;
DELETE FROM theirs.docs WHERE id OPERATOR(pg_catalog.=) 2;
RESET ROLE;
SELECT t.pulls('postgres');
SELECT count(*) FROM t.ran WHERE who = 'postgres' AND place ~ 'scope_values|predicate$';
DELETE FROM t.ran WHERE who = 'postgres';

-- Somebody pushes: rows, a conflict, mutations.
SELECT snapsync.register_mutator('m', 'theirs.mutate(json)');
SELECT count(*) FROM (SELECT set_config('t.caller', 'bob', false), set_config('t.old', current_setting('t.cursor_bob'), false)) AS s;
SET ROLE bob;
SELECT push_changes('{"docs": {"created": [{"id": 7, "org": "a", "project": 1, "v": 1}], "updated": [{"id": 1, "v": 9, "m": "bad"}]}}', current_setting('t.old'));
SELECT push_changes('{"docs": {"updated": [{"id": 7, "v": 3}], "deleted": ["1"]}, "parts": {"created": [{"id": 5, "k": "a"}]}}');
SELECT push_mutations('[{"id": 1, "name": "m", "args": {}}]', 'device');
RESET ROLE;
SELECT set_config('t.caller', 'nobody', false);

-- For later.
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_tell_tale_restored;
CREATE DATABASE regress_tell_tale_restored TEMPLATE template0;
RESET client_min_messages;
\! export PGOPTIONS="-c t.caller=nobody -c client_min_messages=error"; "$SNAPSYNC_PG_BIN/pg_dump" --dbname=regress_tell_tale | "$SNAPSYNC_PG_BIN/psql" --no-psqlrc --quiet --output=/dev/null --dbname=regress_tell_tale_restored 2>/dev/null

-- Whoever administers, with the owner's schema first in his path.
SELECT set_config('client_min_messages', 'warning', false);
SET search_path = theirs, pg_catalog, public, t;
SELECT snapsync.enable('theirs.docs');
SELECT snapsync.enable('theirs.docs', readonly => '{v}', exclude => '{g}');
SELECT snapsync.enable('theirs.parts', columns => '{id,k}');
SELECT snapsync.enable('theirs.projects', name => 'projects');
SELECT snapsync.reset('theirs.docs');
SELECT count(*) > 0 FROM snapsync.doctor();
SELECT count(*) > 0 FROM snapsync.status;
SELECT snapsync.compact() >= 0;
ALTER TABLE theirs.docs ADD COLUMN more int;
ALTER TABLE theirs.hidden ADD COLUMN more int;
CREATE INDEX more ON theirs.docs (more);
DROP INDEX theirs.more;
CREATE FUNCTION public.other() RETURNS int LANGUAGE sql AS 'SELECT 1';
DROP FUNCTION public.other();
CREATE TABLE public.other (id int PRIMARY KEY);
ALTER TABLE public.other ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON public.other USING (true);
DROP TABLE public.other;
DO $$ BEGIN IF EXISTS (SELECT FROM pg_available_extensions WHERE name OPERATOR(pg_catalog.=) 'pgcrypto') THEN CREATE EXTENSION pgcrypto SCHEMA public; END IF; END $$;
GRANT SELECT ON theirs.docs TO carol;
REVOKE SELECT ON theirs.docs FROM carol;
ALTER FUNCTION theirs.sees() STABLE;
CREATE OR REPLACE FUNCTION theirs.settle(collection text, id text, stored jsonb, incoming jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM t.tell('conflict function');
    RETURN incoming;
END
$$;
ALTER TABLE theirs.hidden RENAME COLUMN n TO renamed;
ALTER TABLE theirs.members RENAME TO moved;
SELECT snapsync.prune('0 seconds') >= 0;
SELECT snapsync.disable('theirs.projects');
SELECT snapsync.enable('theirs.projects');
SELECT snapsync.disable('theirs.parts');
SELECT snapsync.disable('theirs.docs');
RESET search_path;
-- Others do.
SET ROLE carol;
CREATE TABLE public.mine (id int PRIMARY KEY);
SELECT snapsync.enable('public.mine');
CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1';
GRANT SELECT ON public.mine TO PUBLIC;
DROP TABLE public.mine;
RESET ROLE;

-- It ran where it was put, and as nobody else.
SELECT who, string_agg(place, ', ' ORDER BY place COLLATE "C") FROM t.ran GROUP BY who ORDER BY who;
SELECT is_called FROM t.leaks;

-- Restored: loading rows is PostgreSQL's, which checks them as whoever loads; nothing that snapsync keeps was run.
\connect regress_tell_tale_restored
SET client_min_messages = warning;
SELECT set_config('t.caller', 'nobody', false);
SELECT string_agg(DISTINCT place, ', ' ORDER BY place) FROM t.ran WHERE who = 'postgres' AND place ~ 'scope_values|a predicate|policy|function';
DELETE FROM t.ran;
ALTER SEQUENCE t.leaks RESTART;
SELECT count(*) > 0 FROM snapsync.doctor();
ALTER TABLE theirs.docs ADD COLUMN more int;
SELECT snapsync.enable('theirs.docs');
SELECT t.pulls('bob');
SELECT who, string_agg(place, ', ' ORDER BY place COLLATE "C") FROM t.ran GROUP BY who ORDER BY who;
SELECT is_called FROM t.leaks;
