-- Keys of all types: what the wire id is, and that a changed row is found again by it.
\set ECHO none
\set test regress_keys
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

-- Puts rows in, and shows what a client sees of them, each step in a transaction of its own: created, updated, gone.
CREATE TABLE t.seen (n serial, what text, item text);
CREATE PROCEDURE t.life(name text, VARIADIC rows text[]) LANGUAGE plpgsql AS $$
DECLARE
    r text;
BEGIN
    TRUNCATE t.seen;
    PERFORM snapsync.enable(name::regclass);
    COMMIT;
    PERFORM t.catch_up(name);
    FOREACH r IN ARRAY rows LOOP
        EXECUTE format('INSERT INTO %s VALUES (%s, ''new'')', name, r);
    END LOOP;
    COMMIT;
    INSERT INTO t.seen (what, item) SELECT * FROM t.pull(ARRAY[name], dialect => 'watermelondb');
    EXECUTE format('UPDATE %s SET note = ''old''', name);
    COMMIT;
    INSERT INTO t.seen (what, item) SELECT * FROM t.pull(ARRAY[name]);
    EXECUTE format('DELETE FROM %s', name);
    COMMIT;
    INSERT INTO t.seen (what, item) SELECT * FROM t.pull(ARRAY[name]);
END
$$;
CREATE FUNCTION t.seen() RETURNS TABLE (what text, item text) LANGUAGE sql AS $$ SELECT what, item FROM t.seen ORDER BY n $$;

CREATE TABLE uuids (id uuid PRIMARY KEY, note text);
CALL t.life('uuids', '''A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11''', '''{00000000000000000000000000000000}''');
SELECT * FROM t.seen();
CREATE TABLE texts (id text PRIMARY KEY, note text);
CALL t.life('texts', $$'abc'$$, $$''$$, $$'a.b/c d%é"\'$$, $$E'\t\x01'$$, $$'  spaces  '$$, $$'NULL'$$, $$'{}'$$);
SELECT * FROM t.seen();
CREATE TABLE varchars (id varchar(20) PRIMARY KEY, note text);
CALL t.life('varchars', $$'abc'$$, $$'x   '$$);
SELECT * FROM t.seen();
CREATE TABLE int2s (id int2 PRIMARY KEY, note text);
CALL t.life('int2s', '-32768', '0', '32767');
SELECT * FROM t.seen();
CREATE TABLE int4s (id int4 PRIMARY KEY, note text);
CALL t.life('int4s', '-2147483648', '2147483647');
SELECT * FROM t.seen();
CREATE TABLE int8s (id int8 PRIMARY KEY, note text);
CALL t.life('int8s', '-9223372036854775808', '9223372036854775807', '9007199254740993');
SELECT * FROM t.seen();
CREATE TABLE numerics (id numeric PRIMARY KEY, note text);
CALL t.life('numerics', '12345678901234567890.12345', '1.10', '-0.000001', '100', '1e20');
SELECT * FROM t.seen();
CREATE TABLE numerics2 (id numeric(6,2) PRIMARY KEY, note text);
CALL t.life('numerics2', '7', '7.5');
SELECT * FROM t.seen();
CREATE DOMAIN code AS text CHECK (value <> '');
CREATE DOMAIN code2 AS code;
CREATE TABLE domains (id code2 PRIMARY KEY, note text);
CALL t.life('domains', $$'x-1'$$);
SELECT * FROM t.seen();

-- Several columns: each part percent-encoded outside [A-Za-z0-9_-], joined with a dot.
CREATE TABLE pairs (a text, b int, note text, PRIMARY KEY (a, b));
CALL t.life('pairs', $$'plain_-09Az', 1$$, $$'a.b', -2$$, $$'100%', 3$$, $$'é ü', 4$$, $$'', 5$$, $$'a%2Eb', 6$$, $$E'\n', 7$$);
SELECT * FROM t.seen();
CREATE TABLE triples (c uuid, a varchar(9), b numeric, note text, PRIMARY KEY (a, b, c));
CALL t.life('triples', $$'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'x', 1.50$$);
SELECT * FROM t.seen();

-- A chosen unique key, and columns not named id.
CREATE TABLE chosen (id serial PRIMARY KEY, tenant int NOT NULL, "Code nr." text NOT NULL, UNIQUE (tenant, "Code nr."), note text);
SELECT snapsync.enable('chosen', key => '{tenant,Code nr.}');
SELECT t.catch_up('chosen');
INSERT INTO chosen (tenant, "Code nr.") VALUES (1, 'a'), (1, 'b/c'), (2, 'a');
SELECT * FROM t.pull('{chosen}');
UPDATE chosen SET note = 'x' WHERE tenant = 1;
DELETE FROM chosen WHERE tenant = 2;
-- WatermelonDB's id is the wire id, whatever a column of that name holds.
SELECT * FROM t.pull('{chosen}', dialect => 'watermelondb');
UPDATE chosen SET id = id + 100 WHERE "Code nr." = 'a';
SELECT * FROM t.pull('{chosen}');
-- The other order is another id.
SELECT snapsync.enable('chosen', key => '{"Code nr.",tenant}');
SELECT * FROM t.pull('{chosen}', dialect => 'watermelondb');
CREATE TABLE "select" ("from" text PRIMARY KEY, "a""b" int);
SELECT snapsync.enable('"select"');
INSERT INTO "select" VALUES ('1', 2);
SELECT * FROM t.pull('{select}', NULL);
SELECT * FROM t.pull('{select}', NULL, dialect => 'watermelondb');
UPDATE "select" SET "a""b" = 3;
SELECT * FROM t.pull('{select}');

-- Another key is another row to a client: gone under the old id, new under the new one.
INSERT INTO texts VALUES ('before', 'n'), ('other', 'n');
INSERT INTO pairs VALUES ('p', 1, 'n'), ('p', 2, 'n');
SELECT t.catch_up('texts', 'pairs');
UPDATE texts SET id = 'after' WHERE id = 'before';
UPDATE pairs SET b = 3 WHERE b = 2;
SELECT * FROM t.pull('{texts,pairs}');
-- Two rows swap their keys: both are there before and after.
BEGIN;
UPDATE texts SET id = 'tmp' WHERE id = 'after';
UPDATE texts SET id = 'after', note = 'was other' WHERE id = 'other';
UPDATE texts SET id = 'other', note = 'was after' WHERE id = 'tmp';
COMMIT;
SELECT * FROM t.pull('{texts}');
-- There and back again in one transaction.
BEGIN;
UPDATE texts SET id = 'away' WHERE id = 'after';
UPDATE texts SET id = 'after' WHERE id = 'away';
COMMIT;
SELECT what, item FROM t.pull('{texts}');
-- 1.10 and 1.1 are equal, so they are one key, but they are two texts.
INSERT INTO numerics VALUES (1.10, 'n');
INSERT INTO triples VALUES ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12', 'y', 1.50, 'n');
SELECT t.catch_up('numerics', 'triples');
UPDATE numerics SET id = 1.1;
SELECT * FROM t.pull('{numerics}');
UPDATE triples SET b = 1.5;
SELECT * FROM t.pull('{triples}');
UPDATE numerics SET id = 1.100, note = 'x';
DELETE FROM numerics WHERE id = 1.1;
SELECT * FROM t.pull('{numerics}');

-- The session's output settings leave no trace in ids.
SET extra_float_digits = -10; SET DateStyle = 'German'; SET IntervalStyle = 'iso_8601'; SET bytea_output = 'escape';
INSERT INTO numerics VALUES (3.14159265358979, 'n');
RESET ALL;
SELECT * FROM t.pull('{numerics}', '1');

-- A number may be written with other zeros than it was stored with: it is the row that somebody else changed all the same.
CREATE TABLE amounts (id numeric PRIMARY KEY, note text);
SELECT snapsync.enable('amounts');
INSERT INTO amounts VALUES (1, 'a'), (2.50, 'b'), (300, 'c');
SELECT t.catch_up('amounts');
UPDATE amounts SET note = 'theirs' WHERE id IN (1, 2.5);
DELETE FROM amounts WHERE id = 300;
SELECT * FROM t.error(format($$ SELECT push_changes('{"amounts": {"updated": [{"id": 1.0, "note": "mine"}, {"id": "2.5", "note": "mine"}]}}', %L) $$, current_setting('t.cursor')));
SELECT * FROM t.error(format($$ SELECT push_changes('{"amounts": {"updated": [{"id": "3e2", "note": "mine"}]}}', %L) $$, current_setting('t.cursor')));
SELECT * FROM t.error(format($$ SELECT push_changes('{"amounts": {"deleted": ["01"]}}', %L) $$, current_setting('t.cursor')));
SELECT * FROM amounts ORDER BY id;
