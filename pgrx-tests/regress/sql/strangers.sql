-- Whatever strangers have made in this database, no call reads it: of each catalog less than a half of what they have there is gone through, with
-- all that PostgreSQL itself reads. (Roles are left out: they are the cluster's. doctor() reads all.)
\set ECHO none
\set test regress_strangers
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
\set ECHO none

-- How many rows each catalog has.
CREATE FUNCTION t.rows_of(catalog regclass) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM %s', catalog) INTO n;
    RETURN n;
END $$;
CREATE TABLE t.catalog AS
SELECT oid::regclass AS catalog, t.rows_of(oid) AS made FROM pg_class
WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r' AND NOT relisshared AND relname <> 'pg_largeobject';

-- carol's things: 600 of each kind, at least.
GRANT CREATE ON DATABASE regress_strangers TO bob, carol;
SET ROLE carol;
CREATE SCHEMA c;
CREATE TABLE c.guarded (a int);
CREATE TABLE c.parent (a int);
SET client_min_messages = error;
CREATE TABLE c.referred (a int PRIMARY KEY);
CREATE PROCEDURE c.make() LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. 600 LOOP
        EXECUTE format('CREATE TYPE c.t%s AS (a int)', i);
        EXECUTE format('CREATE TYPE c.r%s AS RANGE (subtype = int4)', i);
        EXECUTE format('CREATE FUNCTION c.f%s(c.t%1$s, int) RETURNS boolean LANGUAGE sql AS ''SELECT true''', i);
        EXECUTE format('CREATE OPERATOR c.=== (LEFTARG = c.t%s, RIGHTARG = int, FUNCTION = c.f%1$s)', i);
        EXECUTE format('CREATE FUNCTION c.j%s(c.t%1$s) RETURNS json LANGUAGE sql AS ''SELECT NULL::json''', i);
        EXECUTE format('CREATE CAST (c.t%s AS json) WITH FUNCTION c.j%1$s', i);
        EXECUTE format('CREATE AGGREGATE c.a%s(int) (SFUNC = int4pl, STYPE = int)', i);
        EXECUTE format('CREATE TEXT SEARCH DICTIONARY c.d%s (TEMPLATE = simple)', i);
        EXECUTE format('CREATE TEXT SEARCH CONFIGURATION c.s%s (PARSER = "default")', i);
        EXECUTE format('ALTER TEXT SEARCH CONFIGURATION c.s%s ADD MAPPING FOR word WITH simple', i);
        EXECUTE format('CREATE VIEW c.v%s AS SELECT 1 AS a', i);
        EXECUTE format('CREATE POLICY p%s ON c.guarded USING (a = %1$s)', i);
        EXECUTE format('CREATE TABLE c.k%s (a int DEFAULT 1 PRIMARY KEY) INHERITS (c.parent)', i);
        IF i % 100 = 0 THEN COMMIT; END IF;
    END LOOP;
    EXECUTE (SELECT format('CREATE TYPE c.e AS ENUM (%s)', string_agg(quote_literal(i), ', ')) FROM generate_series(1, 600) AS i);
    EXECUTE (SELECT format('CREATE TABLE c.checked (a int, %s)', string_agg(format('CHECK (a > %s)', i), ', ')) FROM generate_series(1, 600) AS i);
    -- (With two triggers each on both tables.)
    EXECUTE (SELECT format('CREATE TABLE c.referring (a int, %s)', string_agg(format('c%s int REFERENCES c.referred DEFERRABLE', i), ', '))
             FROM generate_series(1, 150) AS i);
END $$;
CALL c.make();
RESET ROLE;
UPDATE t.catalog SET made = t.rows_of(catalog) - made;

-- bob's tables: with all that a policy may rest on.
SET ROLE bob;
CREATE SCHEMA b;
SET search_path = b, public;
CREATE TABLE members (org int, who name, PRIMARY KEY (org, who));
CREATE TABLE orgs (id int PRIMARY KEY, name text);
CREATE TABLE notes (id int PRIMARY KEY, org int REFERENCES orgs ON DELETE CASCADE, body text);
CREATE POLICY p ON notes USING (org IN (SELECT m.org FROM members AS m WHERE who = current_user));
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TYPE pair AS (x int, y mood);
CREATE TYPE span AS RANGE (subtype = int4);
CREATE VIEW mine AS SELECT org FROM members WHERE who = current_user;
CREATE FUNCTION mine_too() RETURNS SETOF int LANGUAGE sql STABLE BEGIN ATOMIC SELECT org FROM members WHERE who = current_user; END;
CREATE TABLE parts (id int PRIMARY KEY, m mood, p pair, s span, a int[], note int CONSTRAINT to_note REFERENCES notes DEFERRABLE INITIALLY DEFERRED)
    PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (1000);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (1000) TO (2000);
CREATE POLICY p ON parts USING (id IN (SELECT org FROM mine) OR id IN (SELECT mine_too()) OR m = 'good' AND to_tsvector('simple', m::text) @@ 'good'::tsquery);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
ALTER TABLE parts ENABLE ROW LEVEL SECURITY;
CREATE TABLE plain (id int PRIMARY KEY, body text);
CREATE TABLE other (a int);
CREATE TYPE spare AS (a int);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE FUNCTION push(changes json) RETURNS json LANGUAGE sql SECURITY DEFINER SET search_path = '' AS 'SELECT public.push_changes(changes)';
GRANT USAGE ON SCHEMA b TO PUBLIC;
GRANT ALL ON ALL TABLES IN SCHEMA b TO PUBLIC;
INSERT INTO members VALUES (1, 'alice'), (1, 'bob');
INSERT INTO orgs VALUES (1, 'one');
SELECT snapsync.enable('notes'), snapsync.enable('parts', notify => 'notify'), snapsync.enable('orgs');
RESET ROLE;

CREATE TABLE t.calls (n int GENERATED ALWAYS AS IDENTITY, who name, call text, keep boolean, error text, reads text);
INSERT INTO t.calls (who, keep, call)
SELECT 'alice', true, call FROM unnest(ARRAY[
    $$ SELECT pull_changes('{b.notes,b.parts}') $$,
    $$ SELECT pull_changes('{b.notes,b.orgs}', (pull_changes('{b.orgs}') ->> 'timestamp')) $$,
    $$ SELECT wait_for_changes('{b.notes}', (pull_changes('{b.notes}') ->> 'timestamp'), timeout => '0') $$,
    $$ SELECT pull_schema('{b.notes,b.parts}') $$,
    $$ INSERT INTO b.notes VALUES (10, 1, '') $$,
    $$ UPDATE b.notes SET body = 'x' WHERE id = 10 $$,
    $$ DELETE FROM b.notes WHERE id = 10 $$,
    $$ INSERT INTO b.members VALUES (2, 'carol') $$,
    $$ SELECT push_changes('{"b.notes": {"created": [{"id": 1, "org": 1, "body": "a"}], "updated": [], "deleted": []}}') $$,
    $$ SELECT push_changes('{"b.notes": {"created": [], "updated": [{"id": 1, "org": 1, "body": "b"}], "deleted": []}}',
                           pull_changes('{b.notes}') ->> 'timestamp') $$,
    $$ SELECT push_changes('{"b.notes": {"created": [], "updated": [], "deleted": ["1"]}}', client_id => 'one') $$,
    $$ SELECT push_changes('{"b.orgs": {"created": [{"id": 2, "name": "two"}], "updated": [], "deleted": []}}') $$,
    $$ SELECT push_changes('{"b.parts": {"created": [{"id": 1, "m": "good"}], "updated": [], "deleted": []}}') $$,
    $$ SELECT b.push('{"b.notes": {"created": [{"id": 2, "org": 1, "body": "a"}], "updated": [], "deleted": []}}') $$,
    $$ INSERT INTO b.parts VALUES (2, 'good');
       SELECT b.push('{"b.parts": {"created": [{"id": 3, "m": "good"}], "updated": [], "deleted": []}}') $$,
    $$ SELECT push_mutations('[]', 'one') $$]) AS call;
INSERT INTO t.calls (who, keep, call)
SELECT 'bob', false, call FROM unnest(ARRAY[
    'ALTER TABLE notes ADD COLUMN more int', 'ALTER TABLE notes DROP COLUMN body', 'ALTER TABLE notes RENAME COLUMN body TO text',
    'ALTER TABLE notes RENAME TO jottings', 'ALTER TABLE notes ALTER body TYPE varchar(9)', 'ALTER TABLE notes ADD CHECK (org > 0)',
    'ALTER TABLE notes DISABLE TRIGGER "00_snapsync_track"', 'ALTER TABLE orgs DISABLE TRIGGER USER', 'ALTER TABLE parts ADD COLUMN more int',
    'ALTER TABLE members ADD COLUMN more int', 'ALTER TABLE members ADD UNIQUE (who, org)', 'ALTER TABLE parts DROP CONSTRAINT to_note',
    'CREATE TABLE parts_3 PARTITION OF parts FOR VALUES FROM (2000) TO (3000)', 'ALTER TABLE parts DETACH PARTITION parts_2',
    'ALTER POLICY p ON notes USING (org IN (SELECT org FROM mine))', 'ALTER POLICY p ON parts USING (id > 0)', 'CREATE POLICY q ON parts USING (true)',
    'DROP POLICY p ON notes', 'CREATE TRIGGER note BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION note()', 'CREATE INDEX ON notes (org)',
    'GRANT SELECT ON notes TO carol', 'REVOKE SELECT ON members FROM PUBLIC', 'CREATE OR REPLACE VIEW mine AS SELECT org FROM members',
    $$ ALTER TYPE mood RENAME VALUE 'good' TO 'fine' $$, 'ALTER TYPE pair ADD ATTRIBUTE z int',
    'CREATE OR REPLACE FUNCTION mine_too() RETURNS SETOF int LANGUAGE sql STABLE BEGIN ATOMIC SELECT org FROM mine; END',
    'ALTER SCHEMA b RENAME TO bb', 'DROP TABLE notes CASCADE', 'CREATE TABLE new (id int)', 'CREATE TEMP TABLE new (id int)', 'CREATE TYPE new AS (a int)',
    'CREATE TYPE new AS RANGE (subtype = int4)', $$ CREATE TYPE new AS ENUM ('a') $$, 'CREATE VIEW new AS SELECT 1 AS a',
    $$ CREATE FUNCTION new() RETURNS int LANGUAGE sql AS 'SELECT 1' $$, 'CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)',
    'ALTER TABLE other ADD COLUMN b int', 'ALTER TABLE other RENAME TO others', 'CREATE INDEX ON other (a)', 'DROP TABLE other', 'DROP TYPE spare',
    'DROP FUNCTION note()', 'GRANT SELECT ON other TO alice', $$ SELECT snapsync.enable('notes') $$, $$ SELECT snapsync.enable('notes', exclude => '{body}') $$,
    $$ SELECT snapsync.enable('plain') $$, $$ SELECT snapsync.reset('notes') $$, $$ SELECT snapsync.disable('notes') $$, $$ SELECT snapsync.disable('parts') $$]) AS call;
INSERT INTO t.calls (who, keep, call)
SELECT 'postgres', true, call FROM unnest(ARRAY[
    $$ SET LOCAL session_replication_role = replica; INSERT INTO b.notes VALUES (20, 5, ''); DELETE FROM b.orgs WHERE id = 2 $$,
    $$ CREATE SUBSCRIPTION s CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false, slot_name = NONE) $$, 'DROP SUBSCRIPTION s',
    $$ SELECT snapsync.prune('1 day') $$, 'SELECT snapsync.compact()']) AS call;

-- Makes each call, after somebody has made a temporary table, which outdates what sessions remember; and counts what has been read of each catalog by
-- its indexes or without, also at the commit.
CREATE FUNCTION t.read_of(catalogs oid[]) RETURNS bigint[] LANGUAGE sql AS $$
    SELECT array_agg(coalesce(pg_stat_get_xact_tuples_returned(c), 0) ORDER BY n) FROM unnest(catalogs) WITH ORDINALITY AS u(c, n) $$;
CREATE PROCEDURE t.count() LANGUAGE plpgsql AS $$
DECLARE
    c t.calls;
    -- Those that carol has filled, and their indexes.
    catalogs oid[] := (SELECT array_agg(catalog ORDER BY catalog)
                       FROM (SELECT catalog FROM t.catalog WHERE made > 500
                             UNION ALL SELECT indexrelid FROM pg_index JOIN t.catalog ON indrelid = catalog AND made > 500) AS c);
    before bigint[];
    failed text;
BEGIN
    FOR c IN SELECT * FROM t.calls ORDER BY n LOOP
        CREATE TEMP TABLE temporary ();
        DROP TABLE temporary;
        COMMIT;
        failed := NULL;
        before := t.read_of(catalogs);
        PERFORM set_config('role', c.who, false), set_config('search_path', CASE c.who WHEN 'bob' THEN 'b, public' ELSE 'public' END, false);
        BEGIN
            EXECUTE c.call;
        EXCEPTION WHEN others THEN
            failed := concat_ws(' ', sqlstate, sqlerrm);
        END;
        IF c.keep THEN COMMIT; ELSE ROLLBACK; END IF;
        RESET ROLE;
        RESET search_path;
        UPDATE t.calls SET error = failed, reads = (
            SELECT string_agg(r.catalog::regclass::text, ', ' ORDER BY r.catalog::regclass::text)
            FROM unnest(catalogs, before, t.read_of(catalogs)) AS r(catalog, before, after)
            JOIN t.catalog AS k ON k.catalog = coalesce((SELECT indrelid FROM pg_index WHERE indexrelid = r.catalog), r.catalog)
            WHERE r.after - r.before > k.made / 2)
        WHERE n = c.n;
    END LOOP;
END $$;

\c
SET client_min_messages = error;
CALL t.count();
\set ECHO queries
-- Where the server has no statistics of the catalogs,
SELECT regexp_replace(btrim(call), '\s+', ' ', 'g') AS call, error, reads FROM t.calls ORDER BY n;
-- and where it has.
\set ECHO none
ANALYZE;
\c
SET client_min_messages = error;
DELETE FROM b.notes; DELETE FROM b.parts; DELETE FROM b.orgs WHERE id = 2; DELETE FROM b.members WHERE org = 2;
CALL t.count();
\set ECHO queries
SELECT regexp_replace(btrim(call), '\s+', ' ', 'g') AS call, error, reads FROM t.calls WHERE error IS NOT NULL OR reads IS NOT NULL ORDER BY n;

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_strangers;
