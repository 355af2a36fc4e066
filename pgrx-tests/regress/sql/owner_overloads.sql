-- What an owner's SQL calls is what it called when it was given, as in a policy: in a schema where others may make functions, too, an
-- overload that fits better takes nobody's call.
\set ECHO none
\set test regress_owner_overloads
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET client_min_messages = warning;
CREATE TABLE t.ran (who name, what text);
GRANT INSERT ON t.ran TO PUBLIC;
CREATE SCHEMA shared;
GRANT USAGE ON SCHEMA shared TO PUBLIC;
CREATE SCHEMA victim AUTHORIZATION carol;
GRANT USAGE ON SCHEMA victim TO PUBLIC;
GRANT CREATE ON SCHEMA shared TO carol, alice;
SET ROLE carol;
CREATE FUNCTION shared.any_of(anyelement) RETURNS text[] LANGUAGE sql STABLE AS 'SELECT ARRAY[$1::text]';
CREATE FUNCTION shared.text_of(text) RETURNS text[] LANGUAGE sql STABLE AS 'SELECT ARRAY[$1]';
CREATE FUNCTION shared.as_of(as_of date DEFAULT current_date) RETURNS text[] LANGUAGE sql STABLE AS 'SELECT ARRAY[current_user::text]';
CREATE FUNCTION shared.list(VARIADIC text[]) RETURNS text[] LANGUAGE sql STABLE AS 'SELECT $1';
CREATE FUNCTION shared.same(text, text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT $1 = $2';
CREATE OPERATOR shared.=== (FUNCTION = shared.same, LEFTARG = text, RIGHTARG = text);
CREATE FUNCTION shared.least(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT CASE WHEN $1 < $2 THEN $1 ELSE $2 END';
CREATE AGGREGATE shared.first(text) (SFUNC = shared.least, STYPE = text);
CREATE TABLE victim.s (id int PRIMARY KEY, org text);
CREATE TABLE victim.orgs (org varchar(20) PRIMARY KEY, who name);
GRANT SELECT ON victim.s, victim.orgs TO bob;
INSERT INTO victim.s VALUES (1, 'bob'), (2, 'x');
INSERT INTO victim.orgs VALUES ('bob', 'bob');
RESET ROLE;
\set ECHO all
-- Casts of arguments are stored, so most calls are nobody else's.
CREATE FUNCTION t.given(scope_values text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    PERFORM snapsync.enable('victim.s', scope_column => 'org', scope_values => scope_values);
    SET LOCAL ROLE bob;
    BEGIN
        answer := public.pull_changes('{victim.s}') #>> '{changes,victim.s,created}';
    EXCEPTION WHEN OTHERS THEN
        answer := SQLSTATE || ': ' || SQLERRM;
    END;
    RESET ROLE;
    RETURN (SELECT c.scope_values FROM snapsync.collection AS c WHERE relation = 'victim.s'::regclass) || ' -> ' || answer;
END
$$;
CREATE TABLE t.texts (text text PRIMARY KEY, stored text, reads jsonb);
INSERT INTO t.texts SELECT v FROM unnest(ARRAY[
    'shared.any_of(current_user)', 'shared.text_of(current_user)', 'shared.as_of()', 'shared.list(''bob'', current_user)', 'shared.list(VARIADIC ARRAY[''bob''])',
    'ARRAY(SELECT org FROM victim.orgs WHERE who OPERATOR(shared.===) current_user)', '(SELECT ARRAY[shared.first(org)] FROM victim.orgs)']) AS v;
SELECT t.given(text) FROM t.texts ORDER BY text;
CREATE FUNCTION t.keep() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    r t.texts;
BEGIN
    FOR r IN SELECT * FROM t.texts LOOP
        PERFORM snapsync.enable('victim.s', scope_column => 'org', scope_values => r.text);
        UPDATE t.texts AS x SET (stored, reads) = (SELECT c.scope_values, c.scope_reads FROM snapsync.collection AS c WHERE relation = 'victim.s'::regclass)
        WHERE x.text = r.text;
    END LOOP;
END
$$;
SELECT t.keep();
-- Somebody else makes overloads.
SET ROLE alice;
CREATE FUNCTION shared.tell(text) RETURNS text[] LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t.ran VALUES (current_user, $1); RETURN '{x}'; END $$;
CREATE FUNCTION shared.any_of(name) RETURNS text[] LANGUAGE sql AS $$ SELECT shared.tell('any_of') $$;
CREATE FUNCTION shared.text_of(name) RETURNS text[] LANGUAGE sql AS $$ SELECT shared.tell('text_of') $$;
CREATE FUNCTION shared.as_of() RETURNS text[] LANGUAGE sql AS $$ SELECT shared.tell('as_of') $$;
CREATE FUNCTION shared.list(text, text) RETURNS text[] LANGUAGE sql AS $$ SELECT shared.tell('list') $$;
CREATE FUNCTION shared.list(text, name) RETURNS text[] LANGUAGE sql AS $$ SELECT shared.tell('list') $$;
CREATE FUNCTION shared.same(name, name) RETURNS boolean LANGUAGE sql AS $$ SELECT shared.tell('same') IS NOT NULL $$;
CREATE OPERATOR shared.=== (FUNCTION = shared.same, LEFTARG = name, RIGHTARG = name);
CREATE FUNCTION shared.least(varchar, varchar) RETURNS varchar LANGUAGE sql AS $$ SELECT (shared.tell('least'))[1] $$;
CREATE AGGREGATE shared.first(varchar) (SFUNC = shared.least, STYPE = varchar);
RESET ROLE;
CREATE FUNCTION t.pulled(r t.texts) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    m text; d text; h text; answer text;
BEGIN
    UPDATE snapsync.collection SET scope_values = r.stored, scope_reads = r.reads WHERE relation = 'victim.s'::regclass;
    ALTER TABLE victim.s ALTER org SET STATISTICS 10;
    SET LOCAL ROLE bob;
    BEGIN
        answer := public.pull_changes('{victim.s}') #>> '{changes,victim.s,created}';
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
        answer := concat_ws(E'\n  ', SQLSTATE || ': ' || m, d, h);
    END;
    RESET ROLE;
    RETURN r.text || ' -> ' || answer;
END
$$;
SELECT t.pulled(r) FROM t.texts AS r ORDER BY r.text;
SELECT * FROM t.ran;
SELECT severity, finding FROM snapsync.doctor() WHERE collection = 'victim.s' AND finding ~ 'another role' ORDER BY finding COLLATE "C";

-- A predicate: then a change concerns everybody. DDL reads no text: it waits for nobody who has locked what he has named there.
SET ROLE carol;
CREATE FUNCTION shared.is_me(anyelement) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT $1 = current_user';
CREATE TABLE victim.members (id int PRIMARY KEY, who name);
CREATE TABLE victim.docs (id int PRIMARY KEY);
CREATE FUNCTION victim.member() RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT EXISTS (SELECT FROM victim.members WHERE who = session_user)';
ALTER TABLE victim.docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON victim.docs USING (victim.member());
GRANT SELECT ON victim.docs, victim.members TO bob;
SELECT snapsync.enable('victim.docs', access_tables => '{"victim.members": "shared.is_me(who) AND id > 0"}');
RESET ROLE;
SELECT access_tables, scope_reads FROM snapsync.collection WHERE relation = 'victim.docs'::regclass;
SELECT t.sync('bob', 'victim.docs');
INSERT INTO victim.members VALUES (1, 'carol');
SELECT t.sync('bob', 'victim.docs');
SET ROLE alice;
CREATE FUNCTION shared.is_me(name) RETURNS boolean LANGUAGE sql AS $$ SELECT shared.tell('is_me') IS NOT NULL $$;
RESET ROLE;
INSERT INTO victim.members VALUES (2, 'carol');
SELECT t.sync('bob', 'victim.docs');
SELECT * FROM t.ran;
SELECT severity, finding FROM snapsync.doctor() WHERE collection = 'victim.docs' AND finding ~ 'another role';
DROP FUNCTION shared.is_me(name);
INSERT INTO victim.members VALUES (3, 'carol');
SELECT t.sync('bob', 'victim.docs');
-- Settings are kept apart: given anew is what is given.
SELECT snapsync.enable('victim.docs', scope_column => 'id', scope_values => 'shared.as_of(current_date)');
SELECT scope_reads FROM snapsync.collection WHERE relation = 'victim.docs'::regclass;
SELECT snapsync.enable('victim.docs', access_tables => '["victim.members"]');
SELECT scope_reads FROM snapsync.collection WHERE relation = 'victim.docs'::regclass;
SELECT snapsync.enable('victim.docs', access_tables => '{"victim.members": "who = current_user"}');
SELECT snapsync.enable('victim.docs', scope_values => '');
SELECT scope_reads FROM snapsync.collection WHERE relation = 'victim.docs'::regclass;
DROP SCHEMA victim, shared CASCADE;
