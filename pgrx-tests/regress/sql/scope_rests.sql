-- What an owner's scope_values rest on, behind the first name; parents that are tied by something else than the key's equality; functions of a
-- session's own. (t.sync() complains if a device ends up with anything but what its role may SELECT.)
\set ECHO none
\set test regress_scope_rests
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET client_min_messages = warning;
\set ECHO all
CREATE TABLE chosen (tenant text PRIMARY KEY);
INSERT INTO chosen VALUES ('a');
CREATE MATERIALIZED VIEW kept AS SELECT tenant FROM chosen;
CREATE VIEW shown AS SELECT 'a'::text AS tenant;
CREATE TYPE tenant AS ENUM ('a', 'b');
CREATE FUNCTION inner_one() RETURNS text LANGUAGE sql STABLE BEGIN ATOMIC SELECT 'a'::text; END;
CREATE FUNCTION nested() RETURNS text LANGUAGE sql STABLE BEGIN ATOMIC SELECT inner_one(); END;
CREATE FUNCTION labelled() RETURNS text LANGUAGE sql STABLE BEGIN ATOMIC SELECT 'a'::tenant::text; END;
CREATE FUNCTION last_one(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'a' $$;
CREATE AGGREGATE latest(text) (SFUNC = last_one, STYPE = text, INITCOND = '');
GRANT SELECT ON kept, shown TO PUBLIC;
-- A device of alice's, whose scope is a: its rows are those of the scopes that she has now.
CREATE FUNCTION t.scoped(name text, scopes text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE %I (id int PRIMARY KEY, tenant text)', name);
    EXECUTE format('GRANT SELECT ON %I TO PUBLIC', name);
    EXECUTE format('INSERT INTO %I VALUES (1, ''a''), (2, ''b'')', name);
    PERFORM snapsync.enable(name::regclass, scope_column => 'tenant', scope_values => scopes);
END
$$;
SELECT t.scoped('of_matview', '(SELECT array_agg(tenant) FROM kept)'), t.scoped('of_view', '(SELECT array_agg(tenant) FROM shown)'),
       t.scoped('of_nested', 'ARRAY[nested()]'), t.scoped('of_label', 'ARRAY[labelled()]'), t.scoped('of_aggregate', 'ARRAY[(SELECT latest(''x''))]');
SELECT t.pull_ids('of_matview');
UPDATE chosen SET tenant = 'b';
SELECT t.pull_ids('of_matview');
REFRESH MATERIALIZED VIEW kept;
SELECT t.pull_ids('of_matview');
SET t.cursor = '';
SELECT t.pull_ids('of_view');
CREATE OR REPLACE VIEW shown AS SELECT 'b'::text AS tenant;
SELECT t.pull_ids('of_view');
SET t.cursor = '';
SELECT t.pull_ids('of_nested');
CREATE OR REPLACE FUNCTION inner_one() RETURNS text LANGUAGE sql STABLE BEGIN ATOMIC SELECT 'b'::text; END;
SELECT t.pull_ids('of_nested');
SELECT t.pull_ids('of_nested');
SET t.cursor = '';
SELECT t.pull_ids('of_label');
ALTER TYPE tenant RENAME VALUE 'b' TO 'c';
ALTER TYPE tenant RENAME VALUE 'a' TO 'b';
SELECT t.pull_ids('of_label');
SET t.cursor = '';
SELECT t.pull_ids('of_aggregate');
CREATE OR REPLACE FUNCTION last_one(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'b' $$;
SELECT t.pull_ids('of_aggregate');

-- They know what they name by names: what is dropped and made anew goes on being followed. (A superuser pulls all scopes: here it shows whether the clients are reset.)
CREATE FUNCTION t.said(name text, says text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN EXECUTE format('CREATE OR REPLACE FUNCTION %s RETURNS text LANGUAGE sql STABLE AS %L', name, format('SELECT %L::text', says)); END $$;
CREATE SCHEMA own_a; CREATE SCHEMA own_b;
GRANT USAGE ON SCHEMA own_a, own_b TO PUBLIC;
SELECT t.said('own_a.chosen()', 'a');
SELECT t.scoped('by_name', 'ARRAY[own_a.chosen()]');
SET t.cursor = ''; SELECT t.pull_ids('by_name');
DROP FUNCTION own_a.chosen();
CREATE FUNCTION own_a.chosen() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'a' $$;
SELECT t.pull_ids('by_name');
SELECT t.said('own_a.chosen()', 'b');
SELECT t.pull_ids('by_name');
-- In one transaction; and once more.
BEGIN; DROP FUNCTION own_a.chosen(); CREATE FUNCTION own_a.chosen() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'a' $$; COMMIT;
SELECT t.pull_ids('by_name');
BEGIN; DROP FUNCTION own_a.chosen(); CREATE FUNCTION own_a.chosen() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'b' $$; COMMIT;
SELECT t.pull_ids('by_name');
SELECT t.pull_ids('by_name');
-- Another one gets the name: by being renamed, by another schema, and by its schema's being renamed.
SELECT t.said('own_a.other()', 'a');
ALTER FUNCTION own_a.chosen() RENAME TO former;
ALTER FUNCTION own_a.other() RENAME TO chosen;
SELECT t.pull_ids('by_name');
SELECT t.said('own_a.chosen()', 'b');
SELECT t.pull_ids('by_name');
DROP FUNCTION own_a.chosen();
SELECT t.said('own_b.chosen()', 'a');
ALTER FUNCTION own_b.chosen() SET SCHEMA own_a;
SELECT t.pull_ids('by_name');
SELECT t.said('own_a.chosen()', 'b');
SELECT t.pull_ids('by_name');
ALTER SCHEMA own_a RENAME TO own_c;
SELECT t.said('own_b.chosen()', 'a');
ALTER SCHEMA own_b RENAME TO own_a;
SELECT t.pull_ids('by_name');
SELECT t.said('own_a.chosen()', 'b');
SELECT t.pull_ids('by_name');
-- An aggregate.
SET t.cursor = ''; SELECT t.pull_ids('of_aggregate');
DROP AGGREGATE latest(text);
CREATE AGGREGATE latest(text) (SFUNC = last_one, STYPE = text, INITCOND = '');
SELECT t.pull_ids('of_aggregate');
CREATE OR REPLACE FUNCTION last_one(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'a' $$;
SELECT t.pull_ids('of_aggregate');
-- A type, whose labels are the scopes, and an array of it. A label that comes gives scopes.
CREATE TYPE labels AS ENUM ('a');
SELECT t.scoped('of_type', 'enum_range(NULL::labels)::text[]');
SET t.cursor = ''; SELECT t.pull_ids('of_type');
ALTER TYPE labels ADD VALUE 'b';
SELECT t.pull_ids('of_type');
DROP TYPE labels;
CREATE TYPE labels AS ENUM ('a');
SELECT t.pull_ids('of_type');
ALTER TYPE labels ADD VALUE 'b';
SELECT t.pull_ids('of_type');
SELECT t.pull_ids('of_type');
-- A row type comes with its table, and another one gets its name so, too.
CREATE TABLE rated (v numeric);
SELECT t.scoped('of_row', $$ARRAY[(jsonb_populate_record(NULL::rated, '{"v": "8.4"}')).v::text]$$);
SET t.cursor = ''; SELECT t.pull_ids('of_row');
DROP TABLE rated;
CREATE TABLE rated (v numeric);
SELECT t.pull_ids('of_row');
ALTER TABLE rated ALTER v TYPE numeric(3, 0);
SELECT t.pull_ids('of_row');
ALTER TABLE rated RENAME TO rated_before;
ALTER TABLE rated_before RENAME TO rated;
SELECT t.pull_ids('of_row');
ALTER TABLE rated ALTER v TYPE numeric(4, 1);
SELECT t.pull_ids('of_row');
-- A type that stands only in the column list of a function in FROM: followed, and another owner's is not taken for it.
CREATE DOMAIN rate AS numeric;
SELECT t.scoped('of_list', $$(SELECT array_agg(x.v::text) FROM json_to_record('{"v": "8.4"}') AS x(v rate))$$),
       t.scoped('of_rows', $$(SELECT array_agg(x.v::text) FROM ROWS FROM (json_to_record('{"v": "8.4"}') AS (v rate), generate_series(1, 1)) AS x(v, n))$$);
SET t.cursor = ''; SELECT t.pull_ids('of_list');
DROP DOMAIN rate;
CREATE DOMAIN rate AS numeric(3, 0);
SELECT t.pull_ids('of_list');
SELECT t.pull_ids('of_list');
DROP DOMAIN rate;
SET ROLE bob;
CREATE FUNCTION checks(numeric) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'runs as %', current_user; RETURN true; END $$;
CREATE DOMAIN rate AS numeric CHECK (checks(VALUE));
SET ROLE alice;
SELECT * FROM t.error($$ SELECT pull_changes('{of_list}') $$);
SELECT * FROM t.error($$ SELECT pull_changes('{of_rows}') $$);
RESET ROLE;
DROP DOMAIN rate;
DROP FUNCTION checks;
-- The functions that make ranges come with their type.
CREATE TYPE labels_range AS RANGE (SUBTYPE = text);
SELECT t.scoped('of_range', 'ARRAY[lower(labels_range(''a'', ''z''))]');
SET t.cursor = ''; SELECT t.pull_ids('of_range');
DROP TYPE labels_range CASCADE;
CREATE TYPE labels_range AS RANGE (SUBTYPE = text);
SELECT t.pull_ids('of_range');
CREATE OR REPLACE FUNCTION labels_range(text, text) RETURNS labels_range LANGUAGE sql IMMUTABLE AS $$ SELECT '[b,z)'::labels_range $$;
SELECT t.pull_ids('of_range');
-- A table, by its schema's being renamed.
CREATE SCHEMA own_t; CREATE SCHEMA own_u;
GRANT USAGE ON SCHEMA own_t, own_u TO PUBLIC;
CREATE TABLE own_t.mine (id int PRIMARY KEY, tenant text); INSERT INTO own_t.mine VALUES (1, 'a'); GRANT SELECT ON own_t.mine TO PUBLIC;
SELECT t.scoped('of_table', '(SELECT array_agg(m.tenant) FROM own_t.mine AS m)');
DROP TABLE own_t.mine;
DROP SCHEMA own_t;
CREATE TABLE own_u.mine (id int PRIMARY KEY, tenant text); INSERT INTO own_u.mine VALUES (1, 'a'); GRANT SELECT ON own_u.mine TO PUBLIC;
ALTER SCHEMA own_u RENAME TO own_t;
SELECT access, untracked FROM snapsync.access WHERE relation = 'of_table'::regclass;
SET ROLE alice;
SET t.cursor = ''; SELECT t.pull_ids('of_table');
RESET ROLE; UPDATE own_t.mine SET tenant = 'b'; SET ROLE alice;
SELECT t.pull_ids('of_table');
RESET ROLE;
-- The function that a predicate calls: while it is not there each change concerns everybody, and then no more.
CREATE TABLE crews (id int PRIMARY KEY, who text, team int);
CREATE FUNCTION is_mine(text) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT $1 = current_user $$;
CREATE FUNCTION teams() RETURNS SETOF int LANGUAGE sql STABLE SECURITY DEFINER AS $$ SELECT team FROM crews WHERE who = current_setting('role') $$;
SELECT t.secured('jobs', ', team int', 'team IN (SELECT teams())');
SELECT snapsync.enable('jobs', access_tables => '{"crews": "is_mine(who)"}');
DROP FUNCTION is_mine(text);
SELECT predicate FROM snapsync.access WHERE relation = 'jobs'::regclass;
CREATE FUNCTION is_mine(text) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT $1 = current_user $$;
SELECT predicate FROM snapsync.access WHERE relation = 'jobs'::regclass;

-- Each key of the parents is one to text; to character, of which blanks at the end are none, two are the same; and what is called = may be anything.
CREATE TABLE projects (id text PRIMARY KEY, who name);
INSERT INTO projects VALUES ('a', 'alice'), ('b', 'bob');
GRANT SELECT ON projects TO PUBLIC;
CREATE SCHEMA own;
CREATE FUNCTION own.is_same(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT lower($1) OPERATOR(pg_catalog.=) lower($2) $$;
CREATE OPERATOR own.= (LEFTARG = text, RIGHTARG = text, FUNCTION = own.is_same);
SELECT t.secured('blanks', ', project text REFERENCES projects ON DELETE CASCADE', 'EXISTS (SELECT FROM projects AS p WHERE p.id::bpchar = project::bpchar AND p.who = current_user)'),
       t.secured('among', ', project text REFERENCES projects ON DELETE CASCADE', 'project::bpchar IN (SELECT id::bpchar FROM projects WHERE who = current_user)'),
       t.secured('own_same', ', project text REFERENCES projects ON DELETE CASCADE', 'EXISTS (SELECT FROM projects AS p WHERE p.id OPERATOR(own.=) project AND p.who = current_user)'),
       t.secured('by_key', ', project varchar REFERENCES projects ON DELETE CASCADE', 'EXISTS (SELECT FROM projects AS p WHERE p.id = project AND p.who = current_user)');
INSERT INTO blanks VALUES (1, 'a'), (2, 'b');
INSERT INTO among TABLE blanks;
INSERT INTO own_same TABLE blanks;
INSERT INTO by_key TABLE blanks;
SELECT relation, kind FROM snapsync.access WHERE access = 'projects'::regclass ORDER BY relation::text;
CREATE FUNCTION t.all() RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws('; ', t.sync('alice', 'blanks'), t.sync('alice', 'among'), t.sync('alice', 'own_same'), t.sync('alice', 'by_key')) $$;
SELECT t.all();
INSERT INTO projects VALUES ('b ', 'alice'), ('B', 'alice');
SELECT t.all();
DELETE FROM projects WHERE id IN ('b ', 'B');
SELECT t.all();

-- A policy may call a function of a session's own, by its number.
CREATE FUNCTION pg_temp.chosen() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'alice' $$;
SELECT t.secured('calls', ', tenant text', 'tenant = pg_temp.chosen()');
INSERT INTO calls VALUES (1, 'alice'), (2, 'bob');
SELECT t.sync('alice', 'calls');
CREATE OR REPLACE FUNCTION pg_temp.chosen() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'bob' $$;
SELECT t.sync('alice', 'calls');

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_scope_rests;
