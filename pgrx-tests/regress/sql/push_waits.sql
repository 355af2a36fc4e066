-- What is deferred runs at the commit, as whom PostgreSQL runs it then. A push fires it before, to tell of what would fail, but only what is its own, and
-- only where it runs as at the commit. Each trigger here tells as whom it runs, and when.
\set ECHO none
\set test regress_push_waits
\set roles '{waits_app}'
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE SCHEMA app AUTHORIZATION waits_app;
GRANT USAGE ON SCHEMA app TO PUBLIC;
SET ROLE waits_app;
CREATE TABLE app.lists (id int PRIMARY KEY);
INSERT INTO app.lists VALUES (1);
CREATE TABLE app.secrets (secret text);
INSERT INTO app.secrets VALUES ('of bob');
-- (What fires at the commit was queued as the owner of a function, or as whoever calls it: since PostgreSQL 18 the server remembers.)
CREATE FUNCTION app.tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE '%: % at the %, path %', TG_TABLE_NAME, CASE WHEN current_setting('t.at') = 'commit' THEN 'somebody' ELSE current_user END,
        current_setting('t.at'), current_setting('search_path');
    IF new.body = 'bad' THEN RAISE 'bad' USING ERRCODE = 'ZZ001'; END IF;
    RETURN NULL;
END $$;
CREATE TABLE app.todos (id text PRIMARY KEY, body text);
CREATE CONSTRAINT TRIGGER tell AFTER INSERT ON app.todos DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.tell();
-- Of the server's own triggers only.
CREATE TABLE app.items (id text PRIMARY KEY, list int CONSTRAINT on_list REFERENCES app.lists DEFERRABLE INITIALLY DEFERRED,
    place int CONSTRAINT one_place UNIQUE DEFERRABLE INITIALLY DEFERRED);
-- An exclusion that calls a function of the owner's.
CREATE FUNCTION app.told(place int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF current_setting('t.at') = 'commit' THEN RAISE NOTICE 'exclusion at the commit'; ELSE RAISE NOTICE 'exclusion: as % at the %', current_user, current_setting('t.at'); END IF;
    RETURN place;
END $$;
CREATE TABLE app.seats (id text PRIMARY KEY, n int, CONSTRAINT one_seat EXCLUDE (app.told(n) WITH =) DEFERRABLE INITIALLY DEFERRED);
GRANT SELECT, INSERT, UPDATE, DELETE ON app.todos, app.items, app.seats TO PUBLIC;
SELECT snapsync.enable('app.todos', name => 'todos'), snapsync.enable('app.items', name => 'items'), snapsync.enable('app.seats', name => 'seats');
CREATE FUNCTION app.push(changes json) RETURNS json LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$ SELECT public.push_changes(changes, on_rejected => 'report') $$;
CREATE FUNCTION app.push_as_owner(changes json) RETURNS json LANGUAGE plpgsql SECURITY DEFINER
    AS $$ BEGIN RETURN public.push_changes(changes, on_rejected => 'report'); END $$;
CREATE FUNCTION app.push_with_path(changes json) RETURNS json LANGUAGE plpgsql SET search_path = ''
    AS $$ BEGIN RETURN public.push_changes(changes, on_rejected => 'report'); END $$;
-- What a savepoint or a function of another kind does not change.
CREATE FUNCTION app.push_plainly(changes json) RETURNS json LANGUAGE plpgsql
    AS $$ BEGIN RETURN public.push_changes(changes, on_rejected => 'report'); EXCEPTION WHEN division_by_zero THEN RETURN NULL; END $$;
CREATE FUNCTION app.mutate(args json) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$ BEGIN PERFORM public.push_changes(args); END $$;
RESET ROLE;
SELECT snapsync.register_mutator('push', 'app.mutate(json)');

SET ROLE alice;
CREATE TEMP TABLE bait (i int);
CREATE FUNCTION pg_temp.loot() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE 'as % at the %, path %: %', current_user, current_setting('t.at'), current_setting('search_path'), (SELECT string_agg(secret, ',') FROM app.secrets);
    RETURN NULL;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'as % at the %, path %: %', current_user, current_setting('t.at'), current_setting('search_path'), SQLERRM;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER loot AFTER INSERT ON bait DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION pg_temp.loot();
SET client_min_messages = notice;
SET t.at = 'push';
\set commit 'SET t.at = ''commit''; COMMIT; SET t.at = ''push'''
\set ECHO all
-- Hers, from before the push: at the commit, as alice, whoever pushes.
BEGIN;
INSERT INTO bait VALUES (1);
SELECT app.push('{"items": {"created": [{"id": "a"}]}}');
SELECT app.push_as_owner('{"items": {"created": [{"id": "b"}]}}');
SELECT app.push_with_path('{"items": {"created": [{"id": "c"}]}}');
SELECT push_changes('{"items": {"created": [{"id": "d"}]}}');
SELECT push_mutations('[{"id": 1, "name": "push", "args": {"items": {"created": [{"id": "e"}]}}}]', 'phone');
:commit;
-- From a savepoint that is there, or gone.
BEGIN;
SAVEPOINT one;
INSERT INTO bait VALUES (1);
RELEASE one;
SELECT app.push('{"items": {"created": [{"id": "f"}]}}');
:commit;
BEGIN;
SAVEPOINT one;
INSERT INTO bait VALUES (1);
ROLLBACK TO one;
SELECT push_changes('{"todos": {"created": [{"id": "a", "body": "bad"}, {"id": "b"}]}}', on_rejected => 'report');
:commit;

-- What the push itself leaves, a function of the table's owner: as the caller, as it would at the commit; or there only.
SELECT push_changes('{"todos": {"created": [{"id": "c", "body": "bad"}]}}', on_rejected => 'report');
BEGIN;
SELECT app.push_plainly('{"todos": {"created": [{"id": "d"}]}}');
:commit;
BEGIN;
SELECT app.push('{"todos": {"created": [{"id": "e"}]}}');
:commit;
BEGIN;
SELECT app.push_as_owner('{"todos": {"created": [{"id": "f"}]}}');
:commit;
BEGIN;
SELECT app.push_with_path('{"todos": {"created": [{"id": "g"}]}}');
:commit;
SELECT app.push_with_path('{"todos": {"created": [{"id": "h", "body": "bad"}]}}');
-- A mutator's push: when all are done.
BEGIN;
SELECT push_mutations('[{"id": 2, "name": "push", "args": {"todos": {"created": [{"id": "i"}]}}}, {"id": 3, "name": "push", "args": {"todos": {"created": [{"id": "j", "body": "bad"}]}}}]', 'phone');
:commit;
SELECT string_agg(id, ' ' ORDER BY id) FROM app.todos;

-- Constraints are looked at wherever: the server's own triggers do as at the commit.
SELECT app.push('{"items": {"created": [{"id": "g", "list": 1, "place": 1}, {"id": "h", "list": 2}, {"id": "i", "place": 1}]}}');
SELECT app.push_as_owner('{"items": {"created": [{"id": "j", "list": 2}]}}');
SELECT app.push_with_path('{"items": {"created": [{"id": "k", "place": 1}, {"id": "l", "place": 2}]}}');
-- But not one whose index calls a function: that runs when the rows are written, and then at the commit.
SELECT push_changes('{"seats": {"created": [{"id": "a", "n": 1}, {"id": "b", "n": 2}]}}');
BEGIN;
SELECT app.push('{"seats": {"updated": [{"id": "a", "n": 2}, {"id": "b", "n": 1}]}}');
:commit;
SELECT push_changes('{"seats": {"updated": [{"id": "a", "n": 1}, {"id": "b", "n": 2}]}}');

-- Pushes one after the other: what one has left was looked at, and is in no other's way. What a statement in between has left is.
BEGIN;
SELECT push_changes('{"items": {"created": [{"id": "m", "list": 1}]}}', on_rejected => 'report');
SELECT push_changes('{"items": {"created": [{"id": "n", "list": 2}, {"id": "o", "list": 1}]}}', on_rejected => 'report');
SELECT push_mutations('[{"id": 4, "name": "push", "args": {"items": {"created": [{"id": "p", "list": 2}]}}}]', 'phone') FROM (SELECT app.push('{"items": {"created": [{"id": "q", "list": 1}]}}')) AS s;
INSERT INTO bait VALUES (1);
SELECT push_changes('{"todos": {"created": [{"id": "k"}]}}', on_rejected => 'report');
SELECT push_changes('{"todos": {"created": [{"id": "l"}]}}', on_rejected => 'report');
:commit;
-- Not of one that was not looked at.
BEGIN;
SELECT app.push('{"todos": {"created": [{"id": "m"}]}}');
SELECT push_changes('{"todos": {"created": [{"id": "n"}]}}', on_rejected => 'report');
:commit;
-- Nor what a statement has written that is not at its end.
BEGIN;
WITH b AS (INSERT INTO bait VALUES (1), (2) RETURNING i) SELECT push_changes(format('{"todos": {"created": [{"id": "o%s"}]}}', i)::json, on_rejected => 'report') FROM b;
:commit;

-- What one role has left, another's push does not run.
BEGIN;
SELECT push_changes('{"todos": {"created": [{"id": "p"}]}}', on_rejected => 'report');
SET LOCAL ROLE bob;
SELECT push_changes('{"items": {"created": [{"id": "r", "list": 1}]}}', on_rejected => 'report');
SELECT push_changes('{"todos": {"created": [{"id": "q"}]}}', on_rejected => 'report');
SET LOCAL ROLE alice;
SELECT push_changes('{"items": {"created": [{"id": "s", "list": 1}]}}', on_rejected => 'report');
:commit;

-- A trigger that can be deferred, and refuses what is not there yet, waits for the rest of the push; not if somebody else's waits already.
RESET ROLE;
SET ROLE waits_app;
CREATE FUNCTION app.paired() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM app.pairs WHERE id <> new.id) THEN RAISE 'alone' USING ERRCODE = '23514', SCHEMA = 'app', TABLE = 'pairs', CONSTRAINT = 'paired'; END IF;
    RETURN NULL;
END $$;
CREATE TABLE app.pairs (id text PRIMARY KEY, v int, w int);
CREATE CONSTRAINT TRIGGER paired AFTER INSERT ON app.pairs DEFERRABLE FOR EACH ROW EXECUTE FUNCTION app.paired();
GRANT SELECT, INSERT ON app.pairs TO PUBLIC;
SELECT snapsync.enable('app.pairs', name => 'pairs');
RESET ROLE;
SET ROLE alice;
\set pair '\'{"pairs": {"created": [{"id": "a", "v": 1}, {"id": "b", "w": 1}]}}\''
BEGIN;
INSERT INTO bait VALUES (1);
SELECT * FROM t.error(format('SELECT push_changes(%L)', :pair));
:commit;
SELECT push_changes(:pair);
RESET ROLE;

-- Nor is one believed that is named by somebody's code in a cascade, where it would run with the rights of the function around the push.
RESET ROLE;
SET ROLE waits_app;
CREATE TABLE app.boards (id int PRIMARY KEY);
INSERT INTO app.boards VALUES (1), (2);
GRANT SELECT, REFERENCES ON app.boards TO alice;
SELECT snapsync.enable('app.boards', name => 'boards');
RESET ROLE;
GRANT CREATE ON SCHEMA public TO alice;
SET ROLE alice;
CREATE TABLE public.queued (id int);
CREATE FUNCTION public.tell_queued() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'queued: as % at the %', current_user, current_setting('t.at'); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER queued AFTER INSERT ON public.queued DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.tell_queued();
CREATE TABLE public.pins (id int PRIMARY KEY, board int REFERENCES app.boards ON DELETE CASCADE);
INSERT INTO public.pins VALUES (1, 1), (2, 2);
CREATE FUNCTION public.complain() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.queued VALUES (1);
    RAISE 'no' USING ERRCODE = CASE current_setting('t.names') WHEN 'queued' THEN '23514' ELSE '23P01' END, SCHEMA = 'public', TABLE = 'queued', CONSTRAINT = current_setting('t.names');
END $$;
CREATE TRIGGER complain BEFORE DELETE ON public.pins FOR EACH ROW EXECUTE FUNCTION public.complain();
SET t.names = 'queued';
SELECT app.push('{"boards": {"deleted": ["1"]}}');
CREATE FUNCTION public.tell_place(id int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN IF current_setting('t.at') = 'push' THEN RAISE NOTICE 'place: as %', current_user; END IF; RETURN id; END $$;
SET t.at = 'commit';
CREATE TABLE public.placed (id int, CONSTRAINT placed_one EXCLUDE (public.tell_place(id) WITH =) DEFERRABLE INITIALLY DEFERRED);
BEGIN;
INSERT INTO public.placed VALUES (1), (1);
DELETE FROM public.placed WHERE ctid = '(0,1)';
SET t.at = 'push';
SET t.names = 'placed_one';
SELECT app.push('{"boards": {"deleted": ["1"]}}');
:commit;
RESET ROLE;

-- What a trigger sets is set, for as long as it says: a push has no setting of its own that comes back, or is what comes back.
CREATE TABLE sets (id int PRIMARY KEY, command text);
CREATE FUNCTION public.on_sets() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE NEW.command; RETURN NEW; END $$;
CREATE TRIGGER on_sets BEFORE INSERT ON sets FOR EACH ROW EXECUTE FUNCTION public.on_sets();
SELECT snapsync.enable('sets');
SET jit = on;
SELECT push_changes('{"sets": {"created": [{"id": 1, "command": "SET LOCAL jit = on"}]}}'), current_setting('jit') AS meanwhile;
SHOW jit;
SELECT push_changes('{"sets": {"created": [{"id": 2, "command": "SET jit = off"}]}}'), current_setting('jit') AS meanwhile;
SHOW jit;
RESET jit;

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_push_waits;
DROP ROLE waits_app;
