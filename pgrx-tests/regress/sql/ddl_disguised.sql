-- DDL by commands that are named after another kind of object than the one they change, functions that are replaced by such as look the same, and
-- DROP ... CASCADE by strangers. (t.sync() complains if a device ends up with anything but what its role may SELECT.)
\set ECHO none
\set test regress_ddl_disguised
\set roles '{disguised_own,disguised_vic}'
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET client_min_messages = warning;
\set ECHO all

-- Columns of a table, renamed as if it was something else.
SELECT t.secured('items', ', owner name, secret text, v text', 'owner = current_user');
SELECT snapsync.enable('items', exclude => '{secret}');
INSERT INTO items VALUES (1, 'alice', 's', 'x'), (2, 'bob', 's', 'y'), (3, 'alice', 's', 'z');
SELECT t.pull_ids('items');
CREATE FUNCTION t.sent() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(c, ' ' ORDER BY c) FROM (
        SELECT DISTINCT jsonb_object_keys(r) AS c FROM jsonb_path_query(public.pull_changes('{items}')::jsonb, '$.changes.items.created[*]') AS r) AS k
$$;
SELECT t.sent();
SET t.cursor = '';
SELECT t.pull_ids('items');
ALTER FOREIGN TABLE items RENAME COLUMN v TO v2;
SELECT t.pull_ids('items');
ALTER VIEW items RENAME COLUMN v2 TO v3;
SELECT t.pull_ids('items');
ALTER MATERIALIZED VIEW items RENAME COLUMN v3 TO v4;
SELECT t.pull_ids('items');
ALTER TYPE items RENAME ATTRIBUTE v4 TO v5;
SELECT t.pull_ids('items');
ALTER TABLE items RENAME v5 TO v4;
SELECT t.pull_ids('items');
-- What is excluded stays so.
ALTER FOREIGN TABLE items RENAME COLUMN secret TO hidden;
SELECT t.sent();
SELECT exclude FROM snapsync.collection WHERE name = 'items';
-- Names that change places.
CREATE FUNCTION t.both() RETURNS text LANGUAGE sql AS $$ SELECT concat_ws('; ', t.sync('alice', 'own_items'), t.sync('bob', 'own_items')) $$;
SELECT t.secured('own_items', ', owner name, v text', 'owner = current_user');
INSERT INTO own_items VALUES (1, 'alice', 'bob'), (2, 'bob', 'alice'), (3, 'alice', 'bob');
SELECT t.both();
ALTER FOREIGN TABLE own_items RENAME COLUMN owner TO q;
ALTER FOREIGN TABLE own_items RENAME COLUMN v TO owner;
ALTER FOREIGN TABLE own_items RENAME COLUMN q TO v;
DELETE FROM own_items WHERE id = 3;
SELECT t.both();

-- A table renamed as an index is: one that a function reads by name.
CREATE TABLE member (usr name PRIMARY KEY);
CREATE TABLE member2 (usr name PRIMARY KEY);
GRANT SELECT ON member, member2 TO PUBLIC;
INSERT INTO member VALUES ('alice');
INSERT INTO member2 VALUES ('alice');
CREATE FUNCTION may() RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN EXISTS (SELECT FROM public.member WHERE usr = current_user); END $$;
SELECT t.secured('hidden', '', 'may()');
SELECT snapsync.enable('hidden', access_tables => '{"member": "usr = current_user"}');
INSERT INTO hidden VALUES (1);
SELECT t.sync('alice', 'hidden');
ALTER INDEX member RENAME TO member_old;
ALTER INDEX member2 RENAME TO member;
SELECT access FROM snapsync.access WHERE relation = 'hidden'::regclass ORDER BY access::text;
SELECT t.sync('alice', 'hidden');
DELETE FROM member;
SELECT t.sync('alice', 'hidden');
-- The name by which clients know a table.
ALTER INDEX own_items RENAME TO own_items_old;
CREATE TABLE aside (id int PRIMARY KEY);
SET client_min_messages = notice;
ALTER INDEX aside RENAME TO own_items;
SET client_min_messages = warning;
DROP TABLE own_items;
ALTER INDEX own_items_old RENAME TO own_items;

-- A child that is a foreign table.
CREATE FOREIGN DATA WRAPPER disguised;
CREATE SERVER disguised FOREIGN DATA WRAPPER disguised;
SELECT * FROM t.error('CREATE TABLE child () INHERITS (items)');
SELECT * FROM t.error('CREATE FOREIGN TABLE child () INHERITS (items) SERVER disguised');
CREATE FOREIGN TABLE child (id int NOT NULL, owner name, hidden text, v4 text) SERVER disguised;
SELECT * FROM t.error('ALTER FOREIGN TABLE child INHERIT items');
SELECT * FROM t.error('CREATE SCHEMA in_schema CREATE TABLE child () INHERITS (public.items)');

-- Commands that change nothing of a table are no more than that.
SET t.cursor = '';
SELECT t.pull_ids('items');
CREATE INDEX items_v ON items (v4);
ALTER INDEX items_v RENAME TO items_v4;
ALTER INDEX items_pkey RENAME TO items_key;
COMMENT ON TABLE items IS 'Things';
CREATE STATISTICS items_s ON owner, v4 FROM items;
CREATE SEQUENCE items_n OWNED BY items.v4;
CREATE INDEX CONCURRENTLY items_c ON items (owner);
REINDEX TABLE items;
DROP INDEX items_v4;
SELECT t.pull_ids('items');

-- A column of a join that has an alias, in a policy.
CREATE TABLE team (id int PRIMARY KEY, usr name);
CREATE TABLE seat (id int PRIMARY KEY, team int, item int);
GRANT SELECT ON team, seat TO PUBLIC;
INSERT INTO team VALUES (1, 'alice');
INSERT INTO seat VALUES (1, 1, 2);
SELECT t.secured('seated', '', $$EXISTS (SELECT FROM (seat JOIN team ON team.id = seat.team) AS j(s, t, item, id, usr) WHERE j.usr = current_user AND j.item = seated.id)$$);
SELECT access, predicate FROM snapsync.access WHERE relation = 'seated'::regclass ORDER BY access::text;
INSERT INTO seated VALUES (1), (2);
SELECT t.sync('alice', 'seated');
UPDATE team SET usr = 'bob';
SELECT t.sync('alice', 'seated');

-- Functions replaced by such as have the same body.
CREATE FUNCTION is_mine(who name, also text DEFAULT 'bob') RETURNS boolean LANGUAGE sql STABLE AS 'SELECT who = current_user OR who = also';
SELECT t.secured('by_default', ', owner name', 'is_mine(owner)');
INSERT INTO by_default VALUES (1, 'alice'), (2, 'bob');
SELECT t.sync('alice', 'by_default');
CREATE OR REPLACE FUNCTION is_mine(who name, also text DEFAULT 'nobody') RETURNS boolean LANGUAGE sql STABLE AS 'SELECT who = current_user OR who = also';
SELECT t.sync('alice', 'by_default');
CREATE OR REPLACE FUNCTION is_mine(who name, also text DEFAULT 'nobody') RETURNS boolean LANGUAGE sql STABLE AS 'SELECT who = current_user OR who = also';
SELECT t.sync('alice', 'by_default');
-- Behind another function.
CREATE FUNCTION outer_mine(who name) RETURNS boolean LANGUAGE sql STABLE BEGIN ATOMIC SELECT public.is_mine(who); END;
SELECT t.secured('by_outer', ', owner name', 'outer_mine(owner)');
INSERT INTO by_outer TABLE by_default;
SELECT t.sync('alice', 'by_outer');
CREATE OR REPLACE FUNCTION is_mine(who name, also text DEFAULT 'bob') RETURNS boolean LANGUAGE sql STABLE AS 'SELECT who = current_user OR who = also';
SELECT t.sync('alice', 'by_outer');
-- Aggregates: another state, another function for moving frames.
CREATE FUNCTION step(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $2';
CREATE AGGREGATE newest(int) (sfunc = step, stype = int, msfunc = step, minvfunc = step, mstype = int, initcond = '0');
SELECT t.secured('by_aggregate', '', 'id = (SELECT newest(x) FROM generate_series(1, 2) AS x)');
INSERT INTO by_aggregate VALUES (1), (2), (3);
SELECT t.sync('alice', 'by_aggregate');
CREATE FUNCTION step3(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 3';
CREATE OR REPLACE AGGREGATE newest(int) (sfunc = step3, stype = int, msfunc = step, minvfunc = step, mstype = int, initcond = '0');
SELECT t.sync('alice', 'by_aggregate');
CREATE OR REPLACE AGGREGATE newest(int) (sfunc = step3, stype = int, msfunc = step3, minvfunc = step3, mstype = int, initcond = '0');
SELECT t.sync('alice', 'by_aggregate');
-- Types that only a policy names.
CREATE TYPE phase AS ENUM ('draft', 'out');
SELECT t.secured('by_label', ', said text', 'said = ANY (enum_range(NULL::phase)::text[])');
INSERT INTO by_label VALUES (1, 'out'), (2, 'gone');
SELECT t.sync('alice', 'by_label');
ALTER TYPE phase ADD VALUE 'gone';
SELECT t.sync('alice', 'by_label');
ALTER TYPE phase RENAME VALUE 'out' TO 'public';
SELECT t.sync('alice', 'by_label');
CREATE TYPE job AS ENUM ('user', 'admin');
CREATE FUNCTION my_job() RETURNS job LANGUAGE sql STABLE BEGIN ATOMIC SELECT 'admin'::public.job; END;
SELECT t.secured('by_job', '', 'my_job()::text = ''admin''');
INSERT INTO by_job VALUES (1);
SELECT t.sync('alice', 'by_job');
ALTER TYPE job RENAME VALUE 'admin' TO 'boss';
SELECT t.sync('alice', 'by_job');
CREATE TYPE pair AS (a int, b int);
CREATE FUNCTION my_pair() RETURNS pair LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN (1, 2)::public.pair; END $$;
SELECT t.secured('by_pair', '', 'to_json(my_pair()) ->> ''b'' = ''2''');
INSERT INTO by_pair VALUES (1);
SELECT t.sync('alice', 'by_pair');
ALTER TYPE pair RENAME ATTRIBUTE b TO c;
SELECT t.sync('alice', 'by_pair');

-- Strangers drop what is theirs, and a synced table's column goes along.
CREATE SCHEMA own AUTHORIZATION disguised_own;
CREATE SCHEMA vic AUTHORIZATION disguised_vic;
GRANT USAGE ON SCHEMA own, vic TO PUBLIC;
CREATE FUNCTION t.of_types() RETURNS void LANGUAGE plpgsql SET client_min_messages = error AS $$
BEGIN
    DROP TABLE IF EXISTS own.t, own.reader;
    DROP DOMAIN IF EXISTS vic.d;
    DROP TYPE IF EXISTS vic.e;
    SET LOCAL ROLE disguised_vic;
    CREATE DOMAIN vic.d AS text;
    CREATE TYPE vic.e AS ENUM ('a');
    SET LOCAL ROLE disguised_own;
    CREATE TABLE own.t (id vic.d PRIMARY KEY, s vic.e);
    CREATE TABLE own.reader (id int PRIMARY KEY);
    ALTER TABLE own.reader ENABLE ROW LEVEL SECURITY;
    CREATE POLICY p ON own.reader USING (EXISTS (SELECT FROM own.t));
    GRANT SELECT ON own.t, own.reader TO PUBLIC;
    PERFORM snapsync.enable('own.t');
    PERFORM snapsync.enable('own.reader');
    RESET ROLE;
END
$$;
CREATE FUNCTION t.left() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', relation::regclass, name) FROM snapsync.collection WHERE relation::text LIKE 'own.%' ORDER BY 1 $$;
SELECT t.of_types();
SET ROLE disguised_vic;
DROP TYPE vic.e CASCADE;
SELECT * FROM t.error('DROP DOMAIN vic.d');
RESET ROLE;
SELECT t.left();
SET ROLE disguised_vic;
DROP DOMAIN vic.d CASCADE;
RESET ROLE;
SELECT t.left();
SELECT tgname FROM pg_trigger WHERE tgrelid = 'own.t'::regclass AND tgname = '00_snapsync_track';
SELECT * FROM t.error($$SELECT pull_changes('{own.t}')$$);
SELECT what FROM t.pull('{own.reader}', '');
-- With the schema, with all that a role owns; also by a superuser.
SELECT t.of_types();
SET ROLE disguised_vic;
DROP SCHEMA vic CASCADE;
RESET ROLE;
SELECT t.left();
CREATE SCHEMA vic AUTHORIZATION disguised_vic;
GRANT USAGE ON SCHEMA vic TO PUBLIC;
SELECT t.of_types();
DROP OWNED BY disguised_vic CASCADE;
SELECT t.left();
-- What the owner drops of the table itself is refused as ever.
CREATE SCHEMA vic AUTHORIZATION disguised_vic;
GRANT USAGE ON SCHEMA vic TO PUBLIC;
SELECT t.of_types();
SET ROLE disguised_own;
SELECT * FROM t.error('ALTER TABLE own.t DROP COLUMN id CASCADE');
SELECT * FROM t.error('ALTER TABLE own.t DROP CONSTRAINT t_pkey');
RESET ROLE;
SELECT * FROM t.error('ALTER TABLE own.t DROP COLUMN id CASCADE');
SELECT t.left();

-- A policy, or a column, that goes with its session's temporary objects.
SELECT t.secured('temporary', ', v text', 'true');
INSERT INTO temporary VALUES (1, 'a'), (2, 'b');
CREATE FUNCTION pg_temp.f(int) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT $1 = 1';
CREATE POLICY r ON temporary AS RESTRICTIVE USING (pg_temp.f(id));
SELECT t.sync('alice', 'temporary'), t.sync('bob', 'temporary');
SELECT t.sync('alice', 'temporary');
DISCARD TEMP;
SELECT finding, fix FROM snapsync.doctor() WHERE collection = 'temporary' AND severity = 'error';
SELECT t.sync('alice', 'temporary');
SELECT snapsync.enable('temporary');
SELECT t.sync('alice', 'temporary'), t.sync('bob', 'temporary');
SELECT t.sync('alice', 'temporary'), t.sync('bob', 'temporary');
CREATE DOMAIN pg_temp.d AS text;
ALTER TABLE temporary ADD COLUMN c pg_temp.d DEFAULT 'q';
SELECT t.sync('alice', 'temporary');
DISCARD TEMP;
ALTER TABLE temporary ADD COLUMN c text;
SELECT t.sync('alice', 'temporary');
SELECT t.sync('alice', 'temporary');
CREATE DOMAIN pg_temp.d AS int;
CREATE TABLE temporary_key (id pg_temp.d PRIMARY KEY);
SELECT snapsync.enable('temporary_key');
DISCARD TEMP;
SELECT * FROM t.error($$SELECT pull_changes('{temporary_key}')$$);

-- A table that another owner's policies read, with its triggers off.
CREATE TABLE own.roster (id int PRIMARY KEY, usr name);
ALTER TABLE own.roster OWNER TO disguised_own;
GRANT SELECT ON own.roster TO PUBLIC;
INSERT INTO own.roster VALUES (1, 'alice');
SELECT t.secured('by_roster', '', 'EXISTS (SELECT FROM own.roster WHERE usr = current_user)');
INSERT INTO by_roster VALUES (1);
SELECT t.sync('alice', 'by_roster');
SELECT t.sync('alice', 'by_roster');
SET ROLE disguised_own;
ALTER TABLE own.roster DISABLE TRIGGER USER;
RESET ROLE;
SELECT t.sync('alice', 'by_roster');
DELETE FROM own.roster;
SELECT t.sync('alice', 'by_roster');
SELECT severity, finding, hint, fix FROM snapsync.doctor() WHERE collection = 'by_roster' AND severity = 'error';
ALTER TABLE own.roster ENABLE TRIGGER USER;
SELECT t.sync('alice', 'by_roster');
SELECT t.sync('alice', 'by_roster');

-- Who makes the policy stands up for what it reads, and nobody for the policies of others.
CREATE TABLE ledger (id int PRIMARY KEY, usr name);
GRANT SELECT ON ledger TO PUBLIC;
SET ROLE disguised_own;
CREATE TABLE own.u (id int PRIMARY KEY);
ALTER TABLE own.u ENABLE ROW LEVEL SECURITY;
SELECT snapsync.enable('own.u');
CREATE POLICY p ON own.u USING (EXISTS (SELECT FROM public.ledger WHERE usr = current_user));
RESET ROLE;
GRANT SELECT ON own.u TO alice;
ALTER TABLE own.u ADD COLUMN v text;
SELECT access, untracked FROM snapsync.access WHERE relation = 'own.u'::regclass;
ALTER POLICY p ON own.u USING (EXISTS (SELECT FROM public.ledger WHERE usr = current_user AND id > 0));
SELECT access, untracked FROM snapsync.access WHERE relation = 'own.u'::regclass;
