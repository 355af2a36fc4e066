-- What settings keep by its name stays with whoever owned it: a name that somebody else has taken, after the object was dropped, calls nothing.
\set ECHO none
\set test regress_names_passed
\set roles '{passed_owner,passed_lib,passed_mallory}'
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET client_min_messages = warning;
CREATE TABLE t.ran (who name, what text);
GRANT INSERT ON t.ran TO PUBLIC;
CREATE SCHEMA shared;
GRANT CREATE, USAGE ON SCHEMA shared TO passed_owner, passed_lib, passed_mallory;
GRANT USAGE ON SCHEMA shared TO PUBLIC;
CREATE SCHEMA theirs AUTHORIZATION passed_owner;
GRANT USAGE ON SCHEMA theirs TO PUBLIC;
CREATE FUNCTION t.made(who name, says text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    tell text := format('INSERT INTO t.ran VALUES (current_user, %L)', says || ' of ' || who);
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', who);
    EXECUTE format('CREATE FUNCTION shared.%I', says) || CASE says
        WHEN 'decide' THEN '(text, text, jsonb, jsonb) RETURNS jsonb LANGUAGE plpgsql AS ' || quote_literal('BEGIN ' || tell || '; RETURN $4; END')
        WHEN 'orgs' THEN '() RETURNS text[] LANGUAGE plpgsql AS ' || quote_literal('BEGIN ' || tell || '; RETURN ARRAY[''a'']; END')
        WHEN 'checks' THEN '(text) RETURNS boolean LANGUAGE plpgsql AS ' || quote_literal('BEGIN ' || tell || '; RETURN true; END')
        WHEN 'same' THEN '(text, text) RETURNS boolean LANGUAGE plpgsql AS ' || quote_literal('BEGIN ' || tell || '; RETURN $1 = $2; END')
        ELSE '(json) RETURNS void LANGUAGE plpgsql AS ' || quote_literal('BEGIN ' || tell || '; END') END;
    RESET ROLE;
END
$$;
\set ECHO all
CREATE TABLE theirs.s (id text PRIMARY KEY, org text, v int);
ALTER TABLE theirs.s OWNER TO passed_owner;
GRANT SELECT, INSERT, UPDATE, DELETE ON theirs.s TO bob;
SELECT t.made('passed_lib', x) FROM unnest('{decide,orgs,checks,same,mutate}'::text[]) AS x;
SELECT snapsync.enable('theirs.s', name => 's', scope_column => 'org', scope_values => 'shared.orgs()', conflict => 'custom',
                       conflict_function => 'shared.decide(text,text,jsonb,jsonb)');
SELECT conflict_function, conflict_owner, scope_reads FROM snapsync.collection WHERE name = 's';
SELECT snapsync.register_mutator('mutate', 'shared.mutate(json)');
INSERT INTO theirs.s VALUES ('r', 'a', 1);
-- What each of them does for bob: the answer's rows, or the error.
CREATE FUNCTION t.all_of_them() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    n int := 0;
BEGIN
    DELETE FROM t.ran;
    PERFORM set_config('t.n', (coalesce(nullif(current_setting('t.n', true), ''), '0')::int + 1)::text, false);
    n := current_setting('t.n')::int;
    SET LOCAL ROLE bob;
    RETURN QUERY SELECT 'pull: ' || coalesce(string_agg(e.error, ' / '), '') FROM t.error('SELECT public.pull_changes(''{s}'')') AS e;
    RETURN QUERY SELECT 'push: ' || coalesce(string_agg(e.error, ' / '), '')
        FROM t.error(format('SELECT public.push_changes(%L, %L, client_id => %L)', '{"s":{"created":[],"updated":[{"id":"r","v":9}],"deleted":[]}}', current_setting('t.early'), 'd')) AS e;
    RETURN QUERY SELECT 'mutation: ' || (public.push_mutations(format('[{"id":%s,"name":"mutate","args":{}}]', n)::json, 'd')::json ->> 'failures');
    RESET ROLE;
    RETURN QUERY SELECT DISTINCT r.who || ' ran ' || what FROM t.ran AS r ORDER BY 1;
END
$$;
SELECT set_config('t.early', public.pull_changes('{s}') ->> 'timestamp', false) IS NULL;
UPDATE theirs.s SET v = 2;
SELECT t.all_of_them();
-- Dropped, and made anew by somebody else who may create there.
DROP FUNCTION shared.decide, shared.orgs, shared.mutate;
SELECT t.made('passed_mallory', x) FROM unnest('{decide,orgs,mutate}'::text[]) AS x;
UPDATE theirs.s SET v = 3;
SELECT t.all_of_them();
SELECT severity, collection, finding, hint FROM snapsync.doctor() WHERE finding LIKE '%function%';
-- DDL on the table changes nothing about that, nor does enable() with other settings.
ALTER TABLE theirs.s ADD COLUMN more int;
SELECT snapsync.enable('theirs.s', readonly => '{more}');
UPDATE theirs.s SET v = 4;
SELECT t.all_of_them();
-- Nor is an overload of its name meant, where it is gone.
DROP FUNCTION shared.decide;
SET ROLE passed_mallory;
CREATE FUNCTION shared.decide(text, text, jsonb, anyelement) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO t.ran VALUES (current_user, 'an overload');
    RETURN $3;
END
$$;
RESET ROLE;
UPDATE theirs.s SET v = 4;
SELECT t.all_of_them();
SELECT severity, collection, finding, hint FROM snapsync.doctor() WHERE finding LIKE '%function%';
-- By the same owner, or by the table's: these are meant.
DROP FUNCTION shared.decide, shared.orgs, shared.mutate;
SELECT t.made('passed_lib', x) FROM unnest('{decide,mutate}'::text[]) AS x;
SELECT t.made('passed_owner', 'orgs');
UPDATE theirs.s SET v = 5;
SELECT t.all_of_them();
-- Or named anew.
DROP FUNCTION shared.decide, shared.orgs, shared.mutate;
SELECT t.made('passed_mallory', x) FROM unnest('{decide,orgs,mutate}'::text[]) AS x;
SELECT snapsync.enable('theirs.s', scope_values => 'shared.orgs()', conflict_function => 'shared.decide(text,text,jsonb,jsonb)');
SELECT snapsync.register_mutator('mutate', 'shared.mutate(json)');
UPDATE theirs.s SET v = 6;
SELECT t.all_of_them();

-- Without any function's having changed since a session knows them: schemas swap names, and a role loses the rights of the table's owner.
CREATE SCHEMA lib; CREATE SCHEMA ready;
GRANT CREATE, USAGE ON SCHEMA lib TO passed_lib; GRANT CREATE, USAGE ON SCHEMA ready TO passed_mallory; GRANT USAGE ON SCHEMA lib, ready TO PUBLIC;
CREATE FUNCTION t.settles(who name, signature text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', who);
    EXECUTE format('CREATE FUNCTION %s RETURNS jsonb LANGUAGE plpgsql AS %L', signature, format('BEGIN INSERT INTO t.ran VALUES (current_user, ''%s of %s''); RETURN $4; END', signature, who));
    RESET ROLE;
END
$$;
SELECT t.settles('passed_lib', 'lib.settle(text, text, jsonb, jsonb)'), t.settles('passed_mallory', 'ready.settle(text, text, jsonb, jsonb)');
CREATE TABLE theirs.c (id text PRIMARY KEY, v int);
INSERT INTO theirs.c VALUES ('r', 1);
ALTER TABLE theirs.c OWNER TO passed_owner;
GRANT SELECT, INSERT, UPDATE, DELETE ON theirs.c TO bob;
SELECT snapsync.enable('theirs.c', name => 'c', conflict => 'custom', conflict_function => 'lib.settle(text,text,jsonb,jsonb)');
CREATE FUNCTION t.settled() RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM t.ran;
    SET LOCAL ROLE bob;
    RETURN QUERY SELECT 'push: ' || coalesce(string_agg(e.error, ' / '), '')
        FROM t.error(format('SELECT public.push_changes(%L, %L, client_id => %L)', '{"c":{"created":[],"updated":[{"id":"r","v":9}],"deleted":[]}}', current_setting('t.early'), 'd')) AS e;
    RESET ROLE;
    RETURN QUERY SELECT DISTINCT r.who || ' ran ' || what FROM t.ran AS r ORDER BY 1;
END
$$;
SELECT set_config('t.early', public.pull_changes('{c}') ->> 'timestamp', false) IS NULL;
UPDATE theirs.c SET v = 2;
SELECT t.settled();
ALTER SCHEMA lib RENAME TO former; ALTER SCHEMA ready RENAME TO lib;
SELECT t.settled();
GRANT passed_owner TO passed_mallory;
SELECT t.settled();
REVOKE passed_owner FROM passed_mallory;
SELECT t.settled();
-- So it is with the table's schema.
CREATE SCHEMA bait AUTHORIZATION passed_mallory;
GRANT USAGE ON SCHEMA bait TO bob;
SET ROLE passed_mallory;
CREATE TABLE bait.c (id text PRIMARY KEY, v int);
INSERT INTO bait.c VALUES ('of mallory', 1);
GRANT ALL ON bait.c TO bob;
RESET ROLE;
SET ROLE bob; SET t.cursor = ''; SELECT t.pull_ids('c'); RESET ROLE;
ALTER SCHEMA theirs RENAME TO former_theirs; ALTER SCHEMA bait RENAME TO theirs;
SET ROLE bob; SET t.cursor = ''; SELECT t.pull_ids('c');
SELECT public.push_changes('{"c":{"created":[{"id":"new","v":1}],"updated":[],"deleted":[]}}', NULL); RESET ROLE;
SELECT id FROM theirs.c; SELECT id FROM former_theirs.c ORDER BY 1;
ALTER SCHEMA theirs RENAME TO bait; ALTER SCHEMA former_theirs RENAME TO theirs;

-- The same of what scope_values name otherwise: a domain, an operator's function, a relation.
CREATE FUNCTION t.scoped(scope_values text, remake text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM snapsync.enable('theirs.s', scope_values => scope_values, conflict => 'reject');
    DELETE FROM t.ran;
    SET LOCAL ROLE bob;
    RETURN QUERY SELECT 'before: ' || coalesce(string_agg(e.error, ' / '), '') FROM t.error('SELECT public.pull_changes(''{s}'')') AS e;
    RESET ROLE;
    EXECUTE remake;
    SET LOCAL ROLE bob;
    RETURN QUERY SELECT 'after: ' || coalesce(string_agg(e.error, ' / '), '') FROM t.error('SELECT public.pull_changes(''{s}'')') AS e;
    RESET ROLE;
    RETURN QUERY SELECT DISTINCT r.who || ' ran ' || what FROM t.ran AS r ORDER BY 1;
END
$$;
SELECT t.made('passed_mallory', 'of_mallory');
SET ROLE passed_mallory;
CREATE FUNCTION shared.planted(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t.ran VALUES (current_user, 'planted'); RETURN true; END $$;
SET ROLE passed_lib;
CREATE DOMAIN shared.org AS text;
CREATE TABLE shared.list (org text, who name);
GRANT SELECT ON shared.list TO bob;
INSERT INTO shared.list VALUES ('a', 'bob');
RESET ROLE;
SELECT t.scoped('ARRAY[current_setting(''t.early'')::shared.org]',
                'DROP DOMAIN shared.org; SET LOCAL ROLE passed_mallory; CREATE DOMAIN shared.org AS text CHECK (shared.planted(VALUE)); RESET ROLE');
SELECT t.scoped('ARRAY(SELECT org FROM shared.list)',
                'DROP TABLE shared.list; SET LOCAL ROLE passed_mallory; '
                'CREATE VIEW shared.list AS SELECT ''a''::text AS org, ''bob''::name AS who WHERE shared.planted(''x''); GRANT SELECT ON shared.list TO bob; RESET ROLE');
-- A predicate is put to nobody's rows then: every change concerns everybody.
CREATE TABLE theirs.member (id int PRIMARY KEY, org text, who text);
CREATE TABLE theirs.doc (id int PRIMARY KEY, org text);
ALTER TABLE theirs.member OWNER TO passed_owner;
ALTER TABLE theirs.doc OWNER TO passed_owner;
GRANT SELECT ON theirs.member, theirs.doc TO bob;
ALTER TABLE theirs.doc ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION theirs.has(text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN EXISTS (SELECT FROM theirs.member WHERE org = $1); END $$;
CREATE POLICY p ON theirs.doc USING (theirs.has(org));
INSERT INTO theirs.doc VALUES (1, 'a'), (2, 'b');
SET ROLE passed_owner;
SELECT snapsync.enable('theirs.doc', access_tables => '{"theirs.member": "shared.checks(who)"}');
RESET ROLE;
DELETE FROM t.ran;
SELECT t.sync('bob', 'theirs.doc');
INSERT INTO theirs.member VALUES (1, 'a', 'bob');
SELECT t.sync('bob', 'theirs.doc');
SELECT DISTINCT * FROM t.ran;
DROP FUNCTION shared.checks;
SELECT t.made('passed_mallory', 'checks');
DELETE FROM t.ran;
INSERT INTO theirs.member VALUES (2, 'b', 'bob');
SELECT t.sync('bob', 'theirs.doc');
SELECT DISTINCT * FROM t.ran;
