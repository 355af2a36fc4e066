-- Tables that only scope_values reads: a change there gives other scopes, so it resets those whom it concerns.
\set ECHO none
\set test regress_scope_values
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE members (id int PRIMARY KEY, org int NOT NULL, who name NOT NULL, active boolean NOT NULL DEFAULT true);
CREATE TABLE todos (id int PRIMARY KEY, org int, n int);
GRANT SELECT ON members, todos TO alice, bob;
INSERT INTO members VALUES (1, 1, 'alice'), (2, 2, 'bob');
INSERT INTO todos VALUES (10, 1, 0), (20, 2, 0), (30, 3, 0);
SELECT snapsync.enable('todos', scope_column => 'org', scope_values => '(SELECT array_agg(m.org::text) FROM members AS m WHERE m.who = current_user AND active)');
SELECT access, kind, predicate, whole FROM snapsync.access WHERE relation = 'todos'::regclass;
SELECT scope_reads - 'owners' FROM snapsync.collection WHERE relation = 'todos'::regclass;
CREATE FUNCTION t.both() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    w name; answer json;
BEGIN
    FOREACH w IN ARRAY '{alice,bob}'::name[] LOOP
        EXECUTE format('SET ROLE %I', w);
        answer := public.pull_changes('{todos}', current_setting('t.' || w, true));
        RESET ROLE;
        PERFORM set_config('t.' || w, answer ->> 'timestamp', false);
        RETURN NEXT concat_ws(' ', w || ':', answer #>> '{experimentalStrategy,override,todos}', answer #> '{changes,todos}');
    END LOOP;
END
$$;
SELECT t.both();
-- Nobody joins or leaves.
UPDATE todos SET n = 1;
SELECT t.both();
-- Somebody does.
INSERT INTO members VALUES (3, 3, 'alice');
SELECT t.both();
UPDATE members SET active = false WHERE id = 1;
SELECT t.both();
DELETE FROM members WHERE id = 3;
SELECT t.both();
-- The names mean what they meant to enable(), whoever looks at them again.
SET search_path = pg_catalog;
ALTER TABLE public.todos ADD COLUMN extra text;
SET search_path = public;
SELECT access, kind, predicate, whole FROM snapsync.access WHERE relation = 'todos'::regclass;
SELECT t.both();

-- Without a condition of its own, the table's policies say whom a row concerns.
ALTER TABLE members ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON members USING (who = current_user);
SELECT snapsync.enable('todos', scope_values => 'ARRAY(SELECT org::text FROM members)');
SELECT access, kind, predicate FROM snapsync.access WHERE relation = 'todos'::regclass;
SELECT t.both();
INSERT INTO members VALUES (4, 1, 'bob');
SELECT t.both();

-- A view reads with its owner's rights, so everybody is concerned; tables of the system concern nobody.
CREATE VIEW my_orgs AS SELECT org FROM members WHERE who = current_user AND EXISTS (SELECT FROM pg_roles);
GRANT SELECT ON my_orgs TO alice, bob;
SELECT snapsync.enable('todos', scope_values => '(SELECT array_agg(org::text) FROM my_orgs)');
SELECT access, kind, predicate FROM snapsync.access WHERE relation = 'todos'::regclass;

-- What a function hides is the doctor's to say, until it is named.
CREATE FUNCTION orgs() RETURNS text[] LANGUAGE sql STABLE SECURITY DEFINER AS $$ SELECT array_agg(org::text) FROM members WHERE who = session_user $$;
CREATE FUNCTION me() RETURNS name LANGUAGE sql STABLE AS $$ SELECT current_user $$;
SELECT snapsync.enable('todos', scope_values => 'CASE me() WHEN ''postgres'' THEN NULL ELSE orgs() END');
SELECT access FROM snapsync.access WHERE relation = 'todos'::regclass;
SELECT severity, finding, fix FROM snapsync.doctor() WHERE collection = 'todos' AND finding ~ 'scope_values';
SELECT snapsync.enable('todos', access_tables => '{"members": "who = current_user"}');
SELECT severity, finding, fix FROM snapsync.doctor() WHERE collection = 'todos' AND finding ~ 'scope_values';
SELECT access, kind, predicate FROM snapsync.access WHERE relation = 'todos'::regclass;
-- Taken away again.
SELECT snapsync.enable('todos', scope_values => '', access_tables => '[]');
SELECT scope_reads - 'owners' FROM snapsync.collection WHERE relation = 'todos'::regclass;
SELECT count(*) FROM snapsync.access;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'members'::regclass;

-- An access table's rows are told apart by its primary key, if that can be one.
CREATE TABLE keyless (who name, org int);
CREATE TABLE named (who name PRIMARY KEY, org int);
GRANT SELECT ON keyless, named TO alice;
SET client_min_messages = warning;
SELECT snapsync.enable('todos', scope_values => 'ARRAY(SELECT org::text FROM keyless AS k JOIN named USING (org) WHERE k.who = current_user)');
RESET client_min_messages;
SELECT finding, fix FROM snapsync.doctor() WHERE finding ~ 'primary key' ORDER BY 1;
ALTER TABLE keyless ADD PRIMARY KEY (who, org);
SELECT finding, fix FROM snapsync.doctor() WHERE finding ~ 'primary key' ORDER BY 1;
ALTER TABLE public.named ALTER COLUMN who TYPE text;
ALTER TABLE public.keyless ALTER COLUMN who TYPE text;
SELECT count(*) FROM snapsync.doctor() WHERE finding ~ 'primary key';
SELECT relation, key FROM snapsync.collection WHERE name IS NULL ORDER BY 1;

-- A filter's numbers keep their digits.
CREATE TABLE exact (id int PRIMARY KEY, org text);
SELECT snapsync.enable('exact', scope_column => 'org');
INSERT INTO exact VALUES (1, '123456789012345678901234567890.10'), (2, '123456789012345678901234567890'), (3, '18446744073709551617');
SELECT pull_changes('{exact}', filter => '{"exact": {"org": [123456789012345678901234567890.10, 18446744073709551617]}}') #> '{changes,exact,created}';
