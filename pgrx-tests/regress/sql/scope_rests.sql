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
