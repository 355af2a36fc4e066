-- snapsync.doctor(): what it finds, and that its fixes can be run as they are, whatever things are called.
\set ECHO none
\set test regress_doctor
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET client_min_messages = warning;
SELECT format('CREATE ROLE %I', r) FROM (VALUES (E'doctor_"\n; CREATE TABLE public.pwned () --')) AS v(r)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) \gexec
CREATE SCHEMA auth;
CREATE FUNCTION auth.uid() RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_setting('request.jwt.claims', true)::json ->> 'sub' $$;
CREATE FUNCTION auth.jwt() RETURNS json LANGUAGE sql STABLE AS $$ SELECT current_setting('request.jwt.claims', true)::json $$;
GRANT USAGE ON SCHEMA auth TO PUBLIC;
-- A table with an id, an owner and what else, all privileges, row-level security, and these policies: name, then `FOR ... USING ...`.
CREATE FUNCTION t.table(name text, columns text DEFAULT '', VARIADIC policies text[] DEFAULT '{}') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE %I (id int PRIMARY KEY, owner text%s)', name, columns);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO authenticated', name);
    FOR i IN 1 .. cardinality(policies) LOOP
        EXECUTE format('CREATE POLICY p%s ON %I %s', i, name, policies[i]);
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    END LOOP;
END
$$;
-- What the doctor says of a collection.
CREATE FUNCTION t.doctor(name text) RETURNS TABLE (severity text, finding text, fix text) LANGUAGE sql AS $$
    SELECT severity, finding, fix FROM snapsync.doctor() WHERE collection = name OR collection IS NULL AND name IS NULL
$$;

-- Nothing to say of a table in order.
SELECT t.table('good', '', 'USING (owner = (SELECT auth.uid()))');
CREATE INDEX ON good (owner);
SELECT snapsync.enable('good');
SELECT * FROM snapsync.doctor();

-- Row-level security: to be switched on only where policies show somebody something.
SELECT t.table('open');
SELECT snapsync.enable('open');
SELECT severity, finding, hint, fix FROM snapsync.doctor() WHERE collection = 'open';
CREATE POLICY w ON open FOR UPDATE USING (true);
SELECT * FROM t.doctor('open');
CREATE POLICY r ON open FOR SELECT USING (true);
SELECT * FROM t.doctor('open');
ALTER TABLE public.open ENABLE ROW LEVEL SECURITY;
SELECT * FROM t.doctor('open');
DROP POLICY r ON open;
SELECT * FROM t.doctor('open');
DROP TABLE open;

-- Privileges. Nobody but the owner may do anything; only select; columns only; a key that is not among them.
SELECT t.table('priv', '', 'USING (true)');
SELECT snapsync.enable('priv');
REVOKE ALL ON priv FROM authenticated;
SELECT * FROM t.doctor('priv');
GRANT SELECT, INSERT (id) ON priv TO authenticated;
SELECT * FROM t.doctor('priv');
REVOKE SELECT ON priv FROM authenticated;
GRANT SELECT (owner), UPDATE, DELETE ON priv TO authenticated, PUBLIC;
SELECT severity, finding, hint, fix FROM snapsync.doctor() WHERE collection = 'priv';
GRANT SELECT (id) ON public.priv TO authenticated;
GRANT SELECT (id) ON public.priv TO PUBLIC;
SELECT * FROM t.doctor('priv');
DROP TABLE priv;
-- What policies read and call, they do with the rights of the role that syncs. Those of other roles do not count.
CREATE TABLE members (id int PRIMARY KEY, team int, who text, secret text);
ALTER TABLE members ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION may() RETURNS boolean LANGUAGE sql AS 'SELECT true';
SELECT t.table('reads', '', 'TO authenticated USING (id IN (SELECT team FROM members WHERE who = current_user) AND (SELECT may()))',
               'TO service_role USING (id IN (SELECT length(secret) FROM members))', 'TO carol USING (id IN (SELECT length(secret) FROM members))');
SELECT snapsync.enable('reads');
SELECT * FROM t.doctor('reads');
REVOKE EXECUTE ON FUNCTION may FROM PUBLIC;
GRANT SELECT (who, id) ON members TO authenticated;
GRANT SELECT ON reads TO PUBLIC;
SELECT * FROM t.doctor('reads');
DROP TABLE reads, members;

-- Policies that look at what is no row, and calls for every row.
SELECT t.table('timed', ', till timestamptz', 'FOR SELECT USING (till > now())', 'FOR SELECT USING (till::date >= CURRENT_DATE)', 'USING (owner = ''now()'')');
CREATE FUNCTION open_now() RETURNS boolean LANGUAGE sql AS 'SELECT date_part(''hour'', clock_timestamp()) > 8';
SELECT t.table('hours', '', 'USING ((SELECT open_now()))');
SELECT t.table('claims', '', 'USING (owner = current_setting(''request.jwt.claims'')::json ->> ''org'')', 'USING (((SELECT auth.jwt()) ->> ''role'') = ''admin'')',
               'USING (((SELECT auth.jwt()) ->> ''sub'') = owner)', 'USING (owner = (SELECT current_setting(''request.jwt.claim.sub'')))', 'USING ((SELECT auth.uid()) = owner)');
SELECT t.table('calls', '', 'USING (owner = auth.uid())', 'USING (owner = (SELECT (auth.uid())::text))', 'USING (id IN (SELECT g.id FROM good AS g WHERE g.owner = auth.uid()))',
               'USING (owner = current_setting(''x.sub''))', 'USING (owner = (SELECT coalesce(current_setting(''x.sub''), ''nobody'')))');
SELECT t.table('locks', '', 'USING (id IN (SELECT g.id FROM good AS g FOR KEY SHARE))', 'USING (owner = ''FOR SHARE'')');
SELECT snapsync.enable('timed'), snapsync.enable('hours'), snapsync.enable('claims'), snapsync.enable('calls'), snapsync.enable('locks');
SELECT collection, severity, finding, fix FROM snapsync.doctor() WHERE collection IN ('timed', 'hours', 'claims', 'calls', 'locks') AND finding !~ 'index';
DROP TABLE timed, hours, claims, calls, locks;

-- Scopes narrower than the policies.
SELECT t.table('scoped', ', org int', 'USING (org IN (SELECT id FROM good))', 'USING (owner = ''all'')', 'AS RESTRICTIVE USING (owner <> ''none'')');
SELECT snapsync.enable('scoped', scope_column => 'org', scope_values => 'ARRAY[''1'']');
SELECT * FROM t.doctor('scoped') WHERE finding ~ 'scope';
SELECT snapsync.enable('scoped', scope_values => '');
SELECT * FROM t.doctor('scoped') WHERE finding ~ 'scope';
DROP TABLE scoped;
-- A named column in the place of the one that the policies compare: a pull without a filter reads all changes, unless something says which are the caller's.
SELECT t.table('named', ', org int', 'USING (owner = (SELECT auth.uid()))');
SELECT snapsync.enable('named', scope_column => 'org');
SELECT severity, finding, hint, fix FROM snapsync.doctor() WHERE collection = 'named' AND finding ~ 'scope';
SELECT snapsync.enable('named', scope_values => 'ARRAY[''1'']');
SELECT * FROM t.doctor('named') WHERE finding ~ 'takes the place';
SELECT snapsync.enable('named', scope_values => '');
ALTER POLICY p1 ON named USING (owner = (SELECT auth.uid()) AND org = (SELECT auth.uid())::int);
SELECT * FROM t.doctor('named') WHERE finding ~ 'takes the place';
ALTER POLICY p1 ON named USING (owner LIKE (SELECT auth.uid()));
SELECT * FROM t.doctor('named') WHERE finding ~ 'takes the place';
ALTER POLICY p1 ON named USING (owner = (SELECT auth.uid()));
SELECT * FROM t.doctor('named') WHERE finding ~ 'takes the place';
SELECT snapsync.enable('named', scope_column => '');
SELECT * FROM t.doctor('named') WHERE finding ~ 'scope';
DROP TABLE named;

-- Roles whose policies go by another column than the one that was found.
SELECT t.table('marks', ', teacher text, student text', 'TO authenticated USING (teacher = (SELECT auth.uid()))', 'TO anon USING (student = (SELECT auth.uid()))');
SELECT snapsync.enable('marks');
SELECT severity, finding, hint, fix FROM snapsync.doctor() WHERE collection = 'marks' AND finding ~ 'scope';
SELECT scope, scope_from, no_scope FROM snapsync.status WHERE name = 'marks';
ALTER POLICY p2 ON marks USING (teacher = (SELECT auth.uid()) AND student = (SELECT auth.uid()));
SELECT * FROM t.doctor('marks') WHERE finding ~ 'scope';
SELECT scope, scope_from, no_scope FROM snapsync.status WHERE name = 'marks';
DROP TABLE marks;

-- Memberships, in each way that the documentation has: nobody's pull reads what others do to theirs, and doctor() says no such thing.
CREATE FUNCTION t.mates(policy text, own text, settings text) RETURNS text LANGUAGE plpgsql SET client_min_messages = warning AS $$
DECLARE answer text;
BEGIN
    CREATE TABLE mates (who text, org int, PRIMARY KEY (who, org));
    CREATE FUNCTION my_orgs() RETURNS SETOF int STABLE SECURITY DEFINER LANGUAGE sql AS 'SELECT org FROM public.mates WHERE who = auth.uid()';
    GRANT SELECT ON mates TO authenticated;
    IF own <> '' THEN
        EXECUTE format('CREATE POLICY own ON mates USING (%s)', own);
        ALTER TABLE mates ENABLE ROW LEVEL SECURITY;
    END IF;
    PERFORM t.table('members_only', ', org int', format('USING (%s)', policy));
    EXECUTE format('SELECT snapsync.enable(''members_only''%s)', settings);
    SELECT coalesce(found_scope, '-') INTO answer FROM snapsync.collection WHERE relation = 'mates'::regclass;
    SELECT concat_ws('; ', answer, string_agg(finding, '; ' ORDER BY finding)) INTO answer
    FROM snapsync.doctor() WHERE collection = 'members_only' AND finding ~ 'every user|all users';
    DROP TABLE members_only, mates CASCADE;
    DROP FUNCTION my_orgs;
    RETURN answer;
END $$;
SELECT own, settings <> '' AS more, t.mates(policy, own, settings), count(*)
FROM unnest('{org IN (SELECT org FROM mates WHERE who = auth.uid()),org IN (SELECT m.org FROM mates AS m WHERE m.who = (SELECT auth.uid())),'
            'org = ANY (ARRAY(SELECT m.org FROM mates AS m WHERE m.who = (SELECT auth.uid()))),'
            'EXISTS (SELECT FROM mates AS m WHERE m.org = members_only.org AND m.who = (SELECT auth.jwt() ->> $$sub$$))}'::text[]) AS policy,
     unnest('{"",who = auth.uid(),who = (SELECT auth.uid())}'::text[]) AS own,
     unnest(ARRAY['', $$, scope_column => 'org', scope_values => '(SELECT array_agg(org::text) FROM mates WHERE who = auth.uid())'$$,
                  $$, access_tables => '{"mates": "who = (SELECT auth.uid())"}'$$]) AS settings
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
SELECT t.mates('org IN (SELECT my_orgs())', own, settings)
FROM unnest('{"",who = auth.uid()}'::text[]) AS own,
     unnest(ARRAY[$$, access_tables => '{"mates": "who = auth.uid()"}'$$, $$, scope_column => 'org', scope_values => '(SELECT array_agg(org::text) FROM mates WHERE who = (SELECT auth.uid()))', access_tables => '{"mates": "who = (SELECT auth.uid())"}'$$]) AS settings;
-- Where it is so, the hint says what there is to do.
SELECT t.mates('org IN (SELECT m.org FROM mates AS m WHERE m.who LIKE (SELECT auth.uid()))', '', '');
SELECT t.mates('org IN (SELECT m.org FROM mates AS m WHERE m.who > (SELECT auth.uid()))', '', '');

-- Soft deletion: an UPDATE, after which the row must pass a policy for SELECT.
SELECT t.table('soft', ', gone timestamptz', 'FOR SELECT USING (gone IS NULL)', 'FOR UPDATE USING (true)', 'FOR INSERT WITH CHECK (true)');
REVOKE DELETE ON soft FROM authenticated;
SELECT snapsync.enable('soft', soft_delete_column => 'gone');
INSERT INTO soft VALUES (1);
SELECT * FROM t.doctor('soft');
SET ROLE authenticated;
SELECT * FROM t.error($$ SELECT push_changes('{"soft": {"deleted": ["1"]}}') $$);
RESET ROLE;
CREATE POLICY too ON soft FOR SELECT USING (owner IS NULL);
SELECT * FROM t.doctor('soft') WHERE finding !~ 'index';
SET ROLE authenticated;
SELECT push_changes('{"soft": {"deleted": ["1"]}}');
RESET ROLE;
CREATE POLICY never ON soft AS RESTRICTIVE FOR SELECT USING (gone IS NULL);
DROP POLICY p2 ON soft; REVOKE UPDATE ON soft FROM authenticated;
SELECT * FROM t.doctor('soft') WHERE finding !~ 'index';
DROP TABLE soft;

-- Tracking: switched off in part, with event triggers off; taken away.
CREATE TABLE mates (id int PRIMARY KEY, who text);
SELECT t.table('tracked', '', 'USING (id IN (SELECT id FROM mates WHERE who = current_user))');
GRANT SELECT ON mates TO authenticated;
CREATE INDEX ON tracked (owner);
SELECT snapsync.enable('tracked');
ALTER EVENT TRIGGER snapsync_command_end DISABLE;
ALTER TABLE tracked ENABLE TRIGGER "00_snapsync_track";
ALTER TABLE mates DISABLE TRIGGER "00_snapsync_track";
ALTER EVENT TRIGGER snapsync_drop DISABLE;
DROP TRIGGER "00_snapsync_truncate" ON mates;
SELECT severity, collection, finding, fix FROM snapsync.doctor() WHERE collection IN ('tracked', 'public.mates') OR collection IS NULL;
SELECT fix FROM snapsync.doctor() WHERE collection = 'public.mates' OR collection IS NULL ORDER BY fix \gexec
SELECT fix FROM snapsync.doctor() WHERE collection = 'tracked' ORDER BY fix \gexec
SELECT severity, collection, finding, fix FROM snapsync.doctor() WHERE collection IN ('tracked', 'public.mates') OR collection IS NULL;
DROP TABLE tracked, mates;
-- A predicate speaks for functions only: not for scope_values that read the table without a condition of their own, nor for what reads it without a predicate. One
-- that cannot be read is another matter.
SELECT t.table('blocks', ', notebook_id int', 'USING (true)'), t.table('notebooks', '', 'USING (owner = current_user)'),
       t.table('teams', '', 'USING (id IN (SELECT id FROM notebooks))');
SELECT snapsync.enable('blocks', scope_column => 'notebook_id', scope_values => '(SELECT array_agg(n.id) FROM notebooks AS n)',
                       access_tables => '{"notebooks": "owner = current_user"}');
CREATE VIEW t.said AS SELECT severity, finding, hint FROM snapsync.doctor() WHERE collection = 'blocks' AND finding ~ 'predicate';
SELECT * FROM t.said;
SELECT snapsync.enable('blocks', scope_values => '(SELECT array_agg(n.id) FROM notebooks AS n WHERE n.owner = current_user)');
SELECT * FROM t.said;
SELECT snapsync.enable('blocks', access_tables => '{"notebooks": "owner = current_user", "teams": null}');
SELECT * FROM t.said;
SELECT snapsync.enable('blocks', access_tables => '{"notebooks": "owner = current_user"}');
ALTER TABLE notebooks DISABLE ROW LEVEL SECURITY;
ALTER TABLE notebooks RENAME owner TO who;
SELECT * FROM t.said;
DROP VIEW t.said;
DROP TABLE blocks, notebooks, teams;
ALTER EVENT TRIGGER snapsync_command_end DISABLE;
ALTER TABLE good SET UNLOGGED;
ALTER EVENT TRIGGER snapsync_command_end ENABLE ALWAYS;
SELECT * FROM t.doctor('good');
ALTER TABLE public.good SET LOGGED;

-- Another table in the place of a renamed one; its name taken by somebody else.
SELECT t.table('orders', ', "secret ''s" text', 'USING (true)'), t.table('orders_new', ', "secret ''s" text', 'USING (true)');
SELECT snapsync.enable('orders', exclude => '{"secret ''s"}', readonly => '{owner}', conflict => 'merge');
ALTER TABLE orders RENAME TO orders_old; ALTER TABLE orders_new RENAME TO orders;
SELECT severity, finding, hint, fix FROM snapsync.doctor() WHERE collection = 'orders';
-- (Not with settings that name what the other one has not.)
ALTER TABLE orders RENAME "secret 's" TO other;
SELECT hint, fix FROM snapsync.doctor() WHERE collection = 'orders';
ALTER TABLE orders RENAME other TO "secret 's";
INSERT INTO orders VALUES (1, 'o', 's');
SELECT fix FROM t.doctor('orders') \gexec
SELECT name, qualified_name, relation, key, columns, exclude, readonly, conflict FROM snapsync.collection WHERE name = 'orders';
SELECT * FROM t.doctor('orders');
SELECT pull_changes('{orders}') -> 'changes';
DROP TABLE orders, orders_old;
-- Not with the settings of another owner, whose SQL would run as whoever pulls; nor does anybody but the owner give predicates again,
-- which see all rows of a table, or the TRIGGER privilege on somebody else's.
CREATE SCHEMA two;
GRANT CREATE, USAGE ON SCHEMA two TO alice;
SET ROLE alice;
CREATE TABLE two.orders (id int PRIMARY KEY, who text);
CREATE TABLE two.hidden (id int PRIMARY KEY);
CREATE TABLE two.gone (id int PRIMARY KEY);
SELECT snapsync.enable('two.orders', scope_column => 'who', scope_values => $$ array['mine'] $$, access_tables => '{"two.hidden": "id > 0", "two.gone": null}');
ALTER TABLE two.orders RENAME TO orders_old;
DROP TABLE two.gone;
RESET ROLE;
CREATE TABLE two.orders (id int PRIMARY KEY, who text);
SELECT severity, finding, hint, fix FROM snapsync.doctor() WHERE collection = 'two.orders' AND finding ~ 'another table|access table';
SET ROLE alice;
SELECT severity, finding, hint, fix FROM snapsync.doctor() WHERE collection = 'two.orders' AND finding ~ 'another table|access table';
RESET ROLE;
ALTER TABLE two.orders OWNER TO alice;
SELECT fix FROM snapsync.doctor() WHERE collection = 'two.orders' AND finding ~ 'another table';
SET ROLE alice;
SELECT fix FROM snapsync.doctor() WHERE collection = 'two.orders' AND finding ~ 'another table';
RESET ROLE;
-- It answers for who calls it, whoever opened the session: code of bob's that runs where others analyze his table is told of his tables.
CREATE SCHEMA spy AUTHORIZATION bob;
SET ROLE bob;
CREATE TABLE spy.loot (caller text, tables bigint);
CREATE FUNCTION spy.ask() RETURNS void LANGUAGE plpgsql AS $$
BEGIN INSERT INTO spy.loot SELECT current_user, count(*) FROM snapsync.doctor() WHERE collection IS NOT NULL; END $$;
CREATE FUNCTION spy.ask(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM spy.ask(); RETURN $1; END $$;
CREATE TABLE spy.bait (id int);
INSERT INTO spy.bait VALUES (1), (2);
CREATE INDEX ON spy.bait (spy.ask(id));
RESET ROLE;
TRUNCATE spy.loot;
ANALYZE spy.bait;
SELECT DISTINCT * FROM spy.loot;
SET ROLE bob;
SELECT * FROM t.error($$ SELECT * FROM snapsync.findings('postgres'::regrole) $$);
RESET ROLE;
DROP SCHEMA two, spy CASCADE;
-- One owner's function that is too long for a regular expression keeps nobody from the rest.
CREATE TABLE small (id int PRIMARY KEY);
CREATE FUNCTION big() RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN true; END';
UPDATE pg_proc SET prosrc = repeat('x', 270000000) WHERE oid = 'big'::regproc;
SELECT t.table('long', '', 'USING (big())');
SELECT snapsync.enable('long'), snapsync.enable('small');
SELECT severity, finding FROM t.doctor('small') WHERE severity = 'error';
DROP TABLE long, small;
DROP FUNCTION big;
CREATE SCHEMA bobs AUTHORIZATION bob;
SET ROLE bob;
CREATE TABLE bobs.squat (id int PRIMARY KEY);
SELECT snapsync.enable('bobs.squat', name => 'bills');
RESET ROLE;
SELECT t.table('bills', '', 'USING (true)');
SELECT snapsync.enable('bills');
SELECT severity, finding, hint, fix FROM snapsync.doctor() WHERE collection = 'public.bills';
DROP TABLE bills, bobs.squat;

-- A prepared transaction, whose lock has the session's virtual transaction until the server is restarted; another one that wrote nothing synced.
BEGIN; INSERT INTO good VALUES (1); PREPARE TRANSACTION E'doctor_it''s\n; CREATE TABLE public.pwned () --';
BEGIN; CREATE TABLE unsynced (); PREPARE TRANSACTION 'doctor_other';
SELECT regexp_replace(finding, '\d{4}-\S* \S*', 'TIME'), hint, fix FROM snapsync.doctor() WHERE finding ~ 'prepared';
ROLLBACK PREPARED E'doctor_it''s\n; CREATE TABLE public.pwned () --'; ROLLBACK PREPARED 'doctor_other';
SELECT count(*) FROM snapsync.doctor();
-- The clock behind what it has given out.
BEGIN;
SELECT setval('snapsync.clock', (SELECT max(snapmin) FROM snapsync.horizon) - 2) IS NOT NULL;
SELECT severity, regexp_replace(finding, '\d+', 'N', 'g'), hint, fix FROM snapsync.doctor();
SELECT setval('snapsync.clock', (SELECT max(snapmin) FROM snapsync.horizon) + 2) IS NOT NULL;
ROLLBACK;
SELECT count(*) FROM snapsync.doctor();

-- The system's catalogs: who may do what, and who is a member of what. Of the calling role that is followed.
CREATE VIEW members AS SELECT m.member::regrole::name AS member FROM pg_auth_members AS m;
CREATE FUNCTION atomic(who text) RETURNS boolean LANGUAGE sql STABLE BEGIN ATOMIC SELECT EXISTS (SELECT FROM information_schema.enabled_roles WHERE role_name = who); END;
CREATE FUNCTION text(who text) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = who) OR has_table_privilege(who, 'asks', 'SELECT') OR pg_has_role(who, 'alice', 'MEMBER') $$;
CREATE FUNCTION own(who text) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT pg_has_role(current_user, who, 'MEMBER') OR pg_has_role(who, 'MEMBER') $$;
SELECT t.table('asks', '', 'USING (has_table_privilege(owner, ''SELECT'') AND pg_has_role(owner, ''alice'', ''MEMBER''))',
               'USING (EXISTS (SELECT FROM pg_auth_members AS m JOIN pg_roles AS r ON r.oid = m.member WHERE r.rolname = owner))',
               'USING (owner IN (SELECT member FROM members))', 'USING (atomic(owner))', 'USING (text(owner))',
               'USING (pg_has_role(current_user, owner, ''MEMBER'') OR pg_has_role(owner::name, ''USAGE'') OR own(owner))');
GRANT SELECT ON members TO authenticated;
CREATE INDEX ON asks (owner);
SELECT snapsync.enable('asks', access_tables => '[]');
SELECT severity, finding, hint FROM snapsync.doctor() WHERE collection = 'asks' AND finding ~ 'catalogs';
DROP TABLE asks;
DROP FUNCTION text(text), atomic(text), own(text);
DROP VIEW members;

-- What a body calls that is a text. A body in standard SQL is followed, and so is what policies call themselves.
CREATE FUNCTION inner_text(who text) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT true $$;
CREATE FUNCTION inner_atomic(who text) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT true $$;
CREATE FUNCTION outer_text(who text) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT Inner_Text(who) AND length(who) > 0 AND auth.uid() = who $$;
CREATE FUNCTION outer_atomic(who text) RETURNS boolean LANGUAGE sql STABLE BEGIN ATOMIC SELECT inner_atomic(who); END;
SELECT t.table('calls', '', 'USING (outer_text(owner) AND outer_atomic(owner) AND owner = (SELECT auth.uid()))');
CREATE INDEX ON calls (owner);
SELECT snapsync.enable('calls', access_tables => '[]');
SELECT severity, finding, hint FROM snapsync.doctor() WHERE collection = 'calls';
DROP TABLE calls;
DROP FUNCTION outer_text(text), outer_atomic(text), inner_text(text), inner_atomic(text);

-- Names that end a quotation, a comment or a line. Every fix is one statement and does what it says; nothing else is run.
SELECT E'x"\'\\\n; CREATE TABLE public.pwned (); --' AS bad, E'doctor_"\n; CREATE TABLE public.pwned () --' AS role \gset
CREATE SCHEMA :"bad";
CREATE TABLE :"bad".:"bad" (:"bad" int PRIMARY KEY, :"role" int REFERENCES :"bad".:"bad", gone boolean);
GRANT SELECT (gone) ON :"bad".:"bad" TO :"role";
CREATE TABLE :"bad".access (id int PRIMARY KEY, :"bad" int);
CREATE POLICY :"bad" ON :"bad".:"bad" USING (:"role" IN (SELECT a.:"bad" FROM :"bad".access AS a));
ALTER TABLE :"bad".:"bad" ENABLE ROW LEVEL SECURITY;
CREATE POLICY :"bad" ON :"bad".access USING (true);
SELECT snapsync.enable(format('%I.%I', :'bad', :'bad')::regclass, exclude => ARRAY[:'role'], soft_delete_column => 'gone', access_tables => '[]');
ALTER EVENT TRIGGER snapsync_command_end DISABLE;
ALTER TABLE :"bad".:"bad" ENABLE TRIGGER "00_snapsync_track";
ALTER EVENT TRIGGER snapsync_drop DISABLE;
DROP TRIGGER "00_snapsync_track" ON :"bad".access;
ALTER TABLE :"bad".:"bad" RENAME TO renamed;
CREATE TABLE :"bad".:"bad" (LIKE :"bad".renamed INCLUDING ALL);
CREATE TABLE t.fixes AS SELECT row_number() OVER () AS n, * FROM snapsync.doctor();
SELECT n, severity, finding FROM t.fixes ORDER BY n;
SELECT n, fix FROM t.fixes WHERE fix IS NOT NULL ORDER BY n;
-- Outside of quotes there is no second statement, no comment and no line break.
SELECT n, fix FROM t.fixes WHERE regexp_replace(fix, $r$"([^"]|"")*"|'([^']|'')*'$r$, 'q', 'g') !~ '^[^;\n\\]*;$' OR fix ~ '--' AND fix !~ 'pwned';
-- Nor does the report depend on the session's settings, or hints on names.
SET quote_all_identifiers = on; SET standard_conforming_strings = off; SET escape_string_warning = off; SET search_path = public, t;
SELECT count(*) FROM snapsync.doctor() AS d JOIN t.fixes AS f ON (d.severity, d.finding, d.hint, d.fix) IS NOT DISTINCT FROM (f.severity, f.finding, f.hint, f.fix);
RESET quote_all_identifiers; RESET standard_conforming_strings; RESET escape_string_warning; RESET search_path;
SELECT count(*) FROM t.fixes WHERE hint ~ 'pwned' OR finding ~ '\n';
-- They do what they say, and nobody has made that table.
SELECT fix FROM t.fixes WHERE fix IS NOT NULL ORDER BY fix !~ 'EVENT', fix ~ 'disable', n \gexec
SELECT severity, finding, fix FROM snapsync.doctor();
SELECT to_regclass('public.pwned');

-- Everybody hears of his own tables only; of what concerns the database, who has any.
SET SESSION AUTHORIZATION alice;
SELECT * FROM snapsync.doctor();
CREATE TABLE alices (id int PRIMARY KEY);
SELECT snapsync.enable('alices');
SELECT DISTINCT collection FROM snapsync.doctor();
SELECT * FROM t.error('SELECT snapsync.policy_text(0)');
RESET SESSION AUTHORIZATION;
-- A policy too deep to be read keeps nobody from his findings.
DO $$ BEGIN EXECUTE format('CREATE POLICY deep ON alices USING (%s id %s > 0)', repeat('abs(', 1800), repeat(')', 1800)); END $$;
ALTER TABLE alices ENABLE ROW LEVEL SECURITY;
RESET SESSION AUTHORIZATION;
SET max_stack_depth = '600kB';
SELECT count(*) > 0 FROM snapsync.doctor() WHERE collection = 'alices';
RESET max_stack_depth;
DROP TABLE alices;

-- Who may run which fix: every finding that has one, asked by a superuser, by a member of the owner's role, and by the owner. What they are given they can
-- run as it is; nothing of the owner's runs in their names, and nobody stands up for triggers on a third one's table. alice owns all; bob.v is not hers.
GRANT alice TO carol;
CREATE ROLE doctor_leaves;
CREATE SCHEMA a AUTHORIZATION alice;
CREATE SCHEMA b AUTHORIZATION bob;
GRANT USAGE ON SCHEMA a, b TO PUBLIC;
SET ROLE bob;
CREATE TABLE b.v (id int PRIMARY KEY, doc jsonb);
GRANT SELECT ON b.v TO alice;
RESET ROLE;
CREATE FUNCTION b.left() RETURNS boolean LANGUAGE sql STABLE AS 'SELECT true';
ALTER FUNCTION b.left OWNER TO doctor_leaves;
SET ROLE bob;
CREATE TYPE b.e AS ENUM ('1', '2');
CREATE FUNCTION b.cast_e(b.e) RETURNS int LANGUAGE sql AS 'SELECT $1::text::int';
CREATE CAST (b.e AS int) WITH FUNCTION b.cast_e(b.e) AS IMPLICIT;
CREATE FUNCTION b.mine() RETURNS text[] LANGUAGE sql STABLE AS $$ SELECT '{}'::text[] $$;
CREATE TABLE b.vouched (id int PRIMARY KEY);
RESET ROLE;
SET SESSION AUTHORIZATION alice;
CREATE FUNCTION a.tell() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    IF current_user <> 'alice' THEN RAISE WARNING 'alice''s SQL runs as %', current_user; END IF; END $$;
CREATE TYPE a.e AS ENUM ('1', '2');
CREATE FUNCTION a.cast_e(a.e) RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM a.tell(); RETURN $1::text::int; END $$;
CREATE CAST (a.e AS int) WITH FUNCTION a.cast_e(a.e) AS IMPLICIT;
CREATE TABLE a.mates (id int PRIMARY KEY, who text);
-- Policies that read what is hers, and what is bob's, who lets her put no triggers there.
CREATE FUNCTION a.make(name text, own text DEFAULT 'id IN (SELECT id FROM a.mates WHERE who = current_user)', more text DEFAULT '') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE a.%I (id int PRIMARY KEY, who text%s)', name, more);
    EXECUTE format('GRANT SELECT ON a.%I TO authenticated', name);
    PERFORM snapsync.enable(format('a.%I', name));
    EXECUTE format('CREATE POLICY p ON a.%I USING (%s)', name, own);
    EXECUTE format('ALTER TABLE a.%I ENABLE ROW LEVEL SECURITY', name);
END $$;
SELECT a.make(n) FROM unnest('{closed,due,forged,missing,off,renamed}'::text[]) AS n;
SELECT a.make(n, 'id IN (SELECT id FROM b.v WHERE doc IS NOT NULL)') FROM unnest('{others,others_due,others_missing}'::text[]) AS n;
SELECT a.make('vouched', 'id IN (SELECT id FROM b.vouched)');
CREATE TABLE a.between (id int PRIMARY KEY);
CREATE POLICY p ON a.between USING (id IN (SELECT id FROM b.v));
ALTER TABLE a.between ENABLE ROW LEVEL SECURITY;
SELECT a.make('indexed', 'who = (SELECT current_user::text)'), a.make('left', '(SELECT b.left())');
ALTER TABLE a.closed DISABLE ROW LEVEL SECURITY;
ALTER TABLE a.others DISABLE ROW LEVEL SECURITY;
CREATE TABLE a.granted (id int PRIMARY KEY, who text);
GRANT SELECT (who) ON a.granted TO authenticated;
SELECT snapsync.enable('a.granted');
CREATE TABLE a.parent (id int PRIMARY KEY, who text);
CREATE TABLE a.child (id int PRIMARY KEY, pid a.e NOT NULL REFERENCES a.parent ON DELETE CASCADE);
ALTER TABLE a.child ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON a.child USING (pid::int IN (SELECT id FROM a.parent WHERE who = current_user));
GRANT SELECT ON a.child TO authenticated;
INSERT INTO a.parent VALUES (1, 'alice');
INSERT INTO a.child VALUES (1, '1');
CREATE TABLE a.child_too (id int PRIMARY KEY, pid b.e NOT NULL REFERENCES a.parent ON DELETE CASCADE);
ALTER TABLE a.child_too ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON a.child_too USING (pid::int IN (SELECT id FROM a.parent WHERE who = current_user));
GRANT SELECT ON a.child_too TO authenticated;
SELECT snapsync.enable('a.child'), snapsync.enable('a.child_too');
CREATE FUNCTION a.keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';
CREATE TRIGGER keep BEFORE DELETE ON a.child FOR EACH ROW EXECUTE FUNCTION a.keep();
DROP TRIGGER keep ON a.child;
CREATE TRIGGER keep BEFORE DELETE ON a.child_too FOR EACH ROW EXECUTE FUNCTION a.keep();
DROP TRIGGER keep ON a.child_too;
CREATE TABLE a.gone (id int PRIMARY KEY);
CREATE TABLE a.hides (id int PRIMARY KEY);
CREATE TABLE a.orders (id int PRIMARY KEY, who text);
CREATE FUNCTION a.mine() RETURNS text[] LANGUAGE plpgsql STABLE AS $$ BEGIN PERFORM a.tell(); RETURN '{}'; END $$;
GRANT SELECT ON a.hides, a.orders TO authenticated;
SELECT snapsync.enable('a.hides', access_tables => '{"a.mates": "id > 0", "a.gone": null}'), snapsync.enable('a.orders', scope_column => 'who', scope_values => 'a.mine()');
DROP TABLE a.gone;
ALTER TABLE a.orders RENAME TO orders_old;
CREATE TABLE a.orders (id int PRIMARY KEY, who text);
-- What somebody else has made in the place of a function that the settings name is not trusted with a fix.
CREATE TABLE a.bills (id int PRIMARY KEY, who text);
SELECT snapsync.enable('a.bills', scope_column => 'who', scope_values => 'b.mine()');
ALTER TABLE a.bills RENAME TO bills_old;
CREATE TABLE a.bills (id int PRIMARY KEY, who text);
CREATE FUNCTION pg_temp.f() RETURNS boolean LANGUAGE sql AS 'SELECT true';
SELECT a.make('lost', 'pg_temp.f()');
RESET SESSION AUTHORIZATION;
DISCARD TEMP;
DROP FUNCTION b.mine;
CREATE FUNCTION b.mine() RETURNS text[] LANGUAGE sql STABLE AS $$ SELECT '{}'::text[] $$;
ALTER FUNCTION b.mine OWNER TO authenticated;
-- A superuser's own table, which reads one of alice's; and one of hers for which a superuser has stood up.
CREATE TABLE t.supers (id int PRIMARY KEY);
SELECT snapsync.enable('t.supers'), snapsync.enable('a.vouched');
CREATE POLICY p ON t.supers USING (id IN (SELECT id FROM a.between));
REASSIGN OWNED BY doctor_leaves TO bob;
INSERT INTO snapsync.dependency (relation, classid, objid, own, name) SELECT format('a.%I', n)::regclass, 0, 0, false, 'a test' FROM unnest('{due,others_due,vouched}'::text[]) AS n;
-- What no event tells of.
ALTER EVENT TRIGGER snapsync_command_end DISABLE;
ALTER EVENT TRIGGER snapsync_drop DISABLE;
SET SESSION AUTHORIZATION alice;
DROP TRIGGER "00_snapsync_track" ON a.missing;
DROP TRIGGER "00_snapsync_track" ON a.others_missing;
DROP TRIGGER "00_snapsync_track" ON a.forged;
CREATE TRIGGER "00_snapsync_track" BEFORE DELETE ON a.forged FOR EACH ROW EXECUTE FUNCTION a.keep();
ALTER TABLE a.off DISABLE TRIGGER "00_snapsync_track";
ALTER TABLE a.mates DISABLE TRIGGER "00_snapsync_track";
DROP TRIGGER "00_snapsync_truncate" ON a.mates;
CREATE TABLE a.root (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE a.leaf (id int PRIMARY KEY);
SELECT snapsync.enable('a.leaf');
ALTER TABLE a.root ATTACH PARTITION a.leaf FOR VALUES FROM (1) TO (2);
CREATE TABLE a.unlogged (id int PRIMARY KEY);
SELECT snapsync.enable('a.unlogged');
ALTER TABLE a.unlogged SET UNLOGGED;
RESET SESSION AUTHORIZATION;
-- (A file of nothing, so that the log seems to be large.)
\set ECHO none
SELECT format('COPY (SELECT) TO PROGRAM %L', format('cat > /dev/null; truncate -s 1100M %s_init', pg_relation_filepath('snapsync.change'))) \gexec
\set ECHO all
CREATE TABLE t.asked (who text DEFAULT current_user, severity text, collection text, finding text, hint text, fix text);
GRANT INSERT, SELECT ON t.asked TO alice, carol;
SET ROLE alice;
INSERT INTO t.asked SELECT current_user, * FROM snapsync.doctor();
SET ROLE carol;
INSERT INTO t.asked SELECT current_user, * FROM snapsync.doctor();
RESET ROLE;
INSERT INTO t.asked SELECT 'super', * FROM snapsync.doctor() WHERE collection ~ '^a[.]|supers' OR collection IS NULL;
-- What each is told of the same, where somebody is given a fix, or not all the same hint.
CREATE VIEW t.told AS
SELECT collection, regexp_replace(left(finding, 75), '\d+ MB', 'N MB') AS finding, hint, fix, string_agg(who, ', ' ORDER BY who) AS who
FROM t.asked AS a WHERE EXISTS (SELECT FROM t.asked AS o WHERE (o.collection, o.finding) IS NOT DISTINCT FROM (a.collection, a.finding)
                                   AND (o.fix IS NOT NULL OR o.hint IS DISTINCT FROM a.hint))
   OR collection IN ('a.bills', 't.supers') AND finding ~ 'another table|security is off'
GROUP BY 1, 2, 3, 4;
SELECT who, collection, finding, fix FROM t.told WHERE fix IS NOT NULL ORDER BY who <> 'alice, carol, super', collection COLLATE "C", finding COLLATE "C", who;
SELECT who, collection, finding, hint FROM t.told WHERE fix IS NULL ORDER BY collection COLLATE "C", finding COLLATE "C", who;
-- Everybody runs his.
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT fix FROM t.asked WHERE who = 'super' ORDER BY fix !~ 'EVENT', fix \gexec
SELECT DISTINCT fix FROM t.told WHERE who LIKE '%super%' AND fix IN (SELECT fix FROM snapsync.doctor());
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgrelid = 'b.v'::regclass;
ROLLBACK;
BEGIN;
SET LOCAL SESSION AUTHORIZATION carol;
SELECT fix FROM t.asked WHERE who = 'carol' ORDER BY fix \gexec
SELECT DISTINCT fix FROM t.asked WHERE who = 'carol' AND fix IN (SELECT fix FROM snapsync.doctor());
ROLLBACK;
SELECT fix FROM t.asked WHERE who = 'super' AND fix ~ 'EVENT' ORDER BY fix \gexec
SET SESSION AUTHORIZATION alice;
SELECT fix FROM t.asked WHERE who = 'alice' ORDER BY fix \gexec
SELECT DISTINCT fix FROM t.asked WHERE who = 'alice' AND fix IN (SELECT fix FROM snapsync.doctor());
RESET SESSION AUTHORIZATION;
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgrelid = 'b.v'::regclass;
\unset ON_ERROR_ROLLBACK
\set ECHO none
SELECT format('COPY (SELECT) TO PROGRAM %L', format('cat > /dev/null; rm %s_init', pg_relation_filepath('snapsync.change'))) \gexec
\set ECHO all
DROP TABLE t.supers;
DROP SCHEMA a, b CASCADE;
DROP ROLE doctor_leaves;
REVOKE alice FROM carol;

-- A fix that enables a table anew says whom that is left to, where the owner of what policies read has taken his triggers away.
SET ROLE bob;
CREATE TABLE left_members (id int PRIMARY KEY, who name);
GRANT SELECT, TRIGGER ON left_members TO carol;
SET ROLE carol;
CREATE TABLE left_extra (id int PRIMARY KEY);
CREATE TABLE left_out (id int PRIMARY KEY, who name);
ALTER TABLE left_out ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON left_out USING (who IN (SELECT who FROM left_members));
SET client_min_messages = warning;
SELECT snapsync.enable('left_out', access_tables => '["left_extra"]');
RESET client_min_messages;
SET ROLE bob;
SELECT snapsync.disable('left_members');
SET ROLE carol;
DROP TABLE left_extra;
SELECT finding, fix, hint FROM snapsync.doctor() WHERE collection = 'left_out' AND finding ~ 'does not exist';
RESET ROLE;

-- So does one that adds a key again, which has the planner evaluate what indexes of the other table compute.
SET ROLE bob;
CREATE TABLE left_projects (id int PRIMARY KEY, who name);
GRANT SELECT, REFERENCES, TRIGGER ON left_projects TO carol;
SET ROLE carol;
CREATE TABLE left_tasks (id int PRIMARY KEY, project int NOT NULL CONSTRAINT on_project REFERENCES left_projects ON DELETE CASCADE);
ALTER TABLE left_tasks ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON left_tasks USING (project IN (SELECT id FROM left_projects WHERE who = current_user));
SET client_min_messages = warning;
SELECT snapsync.enable('left_tasks');
RESET client_min_messages;
CREATE FUNCTION left_keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';
CREATE TRIGGER keep BEFORE DELETE ON left_tasks FOR EACH ROW EXECUTE FUNCTION left_keep();
DROP TRIGGER keep ON left_tasks;
SELECT finding, fix, hint FROM snapsync.doctor() WHERE collection = 'left_tasks' AND finding ~ 'enforced';
RESET ROLE;

-- And where a column is of a domain, an array or a range over what somebody else has made: PostgreSQL looks casts up for what is below.
SET ROLE bob;
CREATE TYPE left_kind AS ENUM ('a', 'b');
SET ROLE carol;
CREATE DOMAIN left_list AS left_kind[];
CREATE DOMAIN left_lists AS left_list;
CREATE TYPE left_span AS RANGE (SUBTYPE = left_kind);
CREATE TABLE left_roots (kind left_lists UNIQUE, span left_span UNIQUE, own int UNIQUE, who name);
CREATE TABLE left_leaves (id int PRIMARY KEY, kind left_lists CONSTRAINT on_kind REFERENCES left_roots (kind) ON DELETE CASCADE,
    span left_span CONSTRAINT on_span REFERENCES left_roots (span) ON DELETE CASCADE, own int CONSTRAINT on_own REFERENCES left_roots (own) ON DELETE CASCADE);
ALTER TABLE left_leaves ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON left_leaves USING (EXISTS (SELECT FROM left_roots AS r WHERE r.kind = left_leaves.kind AND r.who = current_user));
SET client_min_messages = warning;
SELECT snapsync.enable('left_leaves');
RESET client_min_messages;
CREATE TRIGGER keep BEFORE DELETE ON left_leaves FOR EACH ROW EXECUTE FUNCTION left_keep();
DROP TRIGGER keep ON left_leaves;
SELECT left(finding, 20) AS finding, fix IS NOT NULL AS has_fix FROM snapsync.doctor() WHERE collection = 'left_leaves' AND finding ~ 'enforced';
RESET ROLE;

-- Old values whose reading would run what somebody has made: who deletes a row that nobody else has seen resets everybody.
CREATE DOMAIN left_email AS text CHECK (VALUE LIKE '%@%');
CREATE TYPE left_hours AS RANGE (SUBTYPE = time);
CREATE TYPE left_contact AS (mail left_email);
CREATE TABLE left_admins (id int PRIMARY KEY, who name, hours left_hours);
GRANT SELECT ON left_admins TO PUBLIC;
SELECT t.secured('left_mails', ', who name, readers left_email[], contact left_contact, mail left_email, names text[], unread left_email[]',
    $$who = current_user OR current_user || '@x' = ANY (readers) OR (contact).mail = current_user || '@x' OR mail = current_user || '@x' OR current_user = ANY (names)
        OR EXISTS (SELECT FROM left_admins AS a WHERE a.who = current_user AND a.hours @> '10:00'::time)$$);
SELECT severity, collection, finding, hint, fix FROM snapsync.doctor() WHERE finding ~ 'read back';
INSERT INTO left_mails VALUES (1, 'alice'), (2, 'bob');
SELECT t.sync('alice', 'left_mails');
UPDATE left_mails SET unread = '{a@x}' WHERE id = 2;
SELECT t.sync('alice', 'left_mails');
UPDATE left_mails SET readers = '{b@x}' WHERE id = 2;
SELECT t.sync('alice', 'left_mails');
DELETE FROM left_mails WHERE id = 2;
SELECT t.sync('alice', 'left_mails');
SELECT t.secured('left_plain', '', $$EXISTS (SELECT FROM left_admins AS a WHERE a.who = current_user AND a.hours @> '10:00'::time)$$);
SELECT t.sync('alice', 'left_plain'), t.sync('alice', 'left_plain');
INSERT INTO left_admins VALUES (1, 'bob'), (2, 'bob');
SELECT t.sync('alice', 'left_plain');
UPDATE left_admins SET hours = '[09:00,10:00]' WHERE id = 1;
SELECT t.sync('alice', 'left_plain');
DELETE FROM left_admins;
SELECT t.sync('alice', 'left_plain');

-- A number of the key that a row and "deleted" have in different words, to JavaScript.
CREATE DOMAIN amount AS numeric(10, 2);
CREATE TABLE amounts (id amount, n int, PRIMARY KEY (id, n));
SELECT snapsync.enable('amounts');
SELECT severity, finding, hint, fix FROM snapsync.doctor() WHERE collection = 'amounts' AND finding ~ 'numeric';

-- Each function's body is searched once, however many tables' policies rest on it.
CREATE SCHEMA many AUTHORIZATION bob;
SET ROLE bob;
SET client_min_messages = warning;
DO $$ BEGIN
    FOR i IN 1..15 LOOP
        EXECUTE format('CREATE FUNCTION many.f%s(int) RETURNS boolean LANGUAGE plpgsql STABLE AS %L', i,
            'BEGIN RETURN true; END --' || repeat('from x join now () has_a_privilege( pg_has_role ( current_setting ', 500));
    END LOOP;
    FOR j IN 1..15 LOOP
        EXECUTE format('CREATE TABLE many.t%s (id int PRIMARY KEY)', j);
        EXECUTE format('ALTER TABLE many.t%s ENABLE ROW LEVEL SECURITY', j);
        EXECUTE format('CREATE POLICY p ON many.t%s USING (%s)', j, (SELECT string_agg(format('many.f%s(id)', i), ' AND ') FROM generate_series(1, 15) AS i));
        PERFORM snapsync.enable(format('many.t%s', j)::regclass);
    END LOOP;
END $$;
RESET client_min_messages;
RESET ROLE;
SET statement_timeout = '30s';
SELECT f.finding, count(*) FROM (SELECT regexp_replace(finding, '\mf\d+\M', 'f_', 'g') AS finding FROM snapsync.doctor() WHERE collection ~ '^many\.' AND finding ~ 'function') AS f GROUP BY 1 ORDER BY f.finding COLLATE "C";
RESET statement_timeout;
SET client_min_messages = warning;
DROP SCHEMA many CASCADE;
RESET client_min_messages;

-- A function that reads a table, in a policy of a table that another collection's policy reads: somebody has to name it, for the one or for the other.
CREATE TABLE far_members (id int PRIMARY KEY, place int, who name);
CREATE FUNCTION far_has(place int) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER AS $$ SELECT EXISTS (SELECT FROM far_members AS m WHERE m.place = $1 AND m.who = session_user) $$;
CREATE TABLE far_places (id int PRIMARY KEY);
CREATE TABLE far_rooms (id int PRIMARY KEY, place int);
CREATE TABLE far_beds (id int PRIMARY KEY, room int);
ALTER TABLE far_places ENABLE ROW LEVEL SECURITY;
ALTER TABLE far_rooms ENABLE ROW LEVEL SECURITY;
ALTER TABLE far_beds ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON far_places USING (far_has(id));
CREATE POLICY p ON far_rooms USING (place IN (SELECT id FROM far_places));
CREATE POLICY p ON far_beds USING (room IN (SELECT id FROM far_rooms));
SET client_min_messages = warning;
SELECT snapsync.enable('far_rooms'), snapsync.enable('far_beds');
RESET client_min_messages;
SELECT severity, collection, finding, hint FROM snapsync.doctor() WHERE collection ~ '^far_' AND finding ~ 'hide';
SET client_min_messages = warning;
SELECT snapsync.enable('far_rooms', access_tables => '{"far_members": "who = session_user"}'), snapsync.enable('far_beds', access_tables => '{"far_members": "who = session_user"}');
RESET client_min_messages;
SELECT count(*) FROM snapsync.doctor() WHERE collection ~ '^far_' AND finding ~ 'hide';
SET client_min_messages = warning;
SELECT snapsync.disable('far_rooms'), snapsync.disable('far_beds');
SELECT snapsync.enable('far_places', access_tables => '{"far_members": "who = session_user"}'), snapsync.enable('far_rooms'), snapsync.enable('far_beds');
RESET client_min_messages;
SELECT count(*) FROM snapsync.doctor() WHERE collection ~ '^far_' AND finding ~ 'hide';

\set ECHO none
\c postgres
