-- What a superuser makes of snapsync's own tables. What their writers cannot do with is refused; where event triggers are off, whoever writes or
-- reads is told, and no server ends.
\set ECHO none
\set test regress_own_tables
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
CREATE TABLE notes (id int PRIMARY KEY, owner text);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON notes USING (owner = current_user);
GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO alice;
SELECT snapsync.enable('notes');
INSERT INTO notes VALUES (1, 'alice');
-- New sessions look at all that there is, and write what is due.
\set write '\\c -\\\\ DELETE FROM notes WHERE id > 1; INSERT INTO notes SELECT i, \'alice\' FROM generate_series(2, 12) AS i ON CONFLICT DO NOTHING; INSERT INTO notes VALUES (13, \'alice\') ON CONFLICT DO NOTHING'
SELECT pull_changes('{notes}')::json ->> 'timestamp' AS cursor \gset
\set read 'SELECT sum(json_array_length(a.value)) AS rows FROM json_each(pull_changes(\'{notes}\', :\'cursor\')::json #> \'{changes,notes}\') AS a'
\set ECHO all
-- Indexes of columns, and settings of storage.
CREATE INDEX mine ON snapsync.change (stamp) INCLUDE (op);
CREATE INDEX brin ON snapsync.change USING brin (stamp);
ALTER TABLE snapsync.change SET (autovacuum_vacuum_scale_factor = 0.01), ALTER COLUMN image SET STATISTICS 0;
CREATE INDEX ON snapsync.push ((answer IS NULL)) WHERE answer IS NULL;
:write;
:read;
SET enable_seqscan = off;
SELECT count(*) > 1 FROM snapsync.change WHERE stamp > 0;
RESET enable_seqscan;
DROP INDEX snapsync.mine, snapsync.brin;

-- What is written past the SQL layer takes no expression and no condition; rows of epoch no index.
CREATE INDEX ON snapsync.change ((image ->> 'owner'));
CREATE INDEX CONCURRENTLY ON snapsync.change ((image ->> 'owner'));
CREATE INDEX ON snapsync.change (stamp) WHERE op = 'D';
SET search_path = snapsync;
CREATE INDEX ON horizon ((snapmin + 1));
RESET search_path;
CREATE INDEX ON snapsync.early (early) WHERE stamp > 0;
CREATE INDEX ON snapsync.epoch (number);
ALTER TABLE snapsync.change ADD EXCLUDE USING btree (stamp WITH =);
ALTER TABLE snapsync.epoch ADD PRIMARY KEY (number);
-- Nor other columns. Of no table, for a dump could not be restored.
ALTER TABLE snapsync.horizon ADD COLUMN note text;
ALTER TABLE snapsync.change DROP COLUMN as_sent;
ALTER TABLE snapsync.change ALTER COLUMN ord TYPE bigint;
ALTER TABLE snapsync.change RENAME COLUMN op TO what;
ALTER TABLE snapsync.push ADD COLUMN note text;
ALTER TABLE snapsync.mutator RENAME COLUMN owner TO who;
-- Nor can a crash empty them, or another table give them columns and indexes.
ALTER TABLE snapsync.change SET UNLOGGED;
ALTER TABLE snapsync.push SET UNLOGGED;
ALTER SEQUENCE snapsync.clock SET UNLOGGED;
CREATE TABLE t.parent (LIKE snapsync.change);
ALTER TABLE snapsync.change INHERIT t.parent;
CREATE TABLE t.whole (LIKE snapsync.change) PARTITION BY LIST (op);
ALTER TABLE t.whole ATTACH PARTITION snapsync.change DEFAULT;
DROP TABLE t.parent, t.whole;
TRUNCATE snapsync.change;
ALTER TABLE snapsync.change ALTER COLUMN origin SET NOT NULL;
\d snapsync.change
:write;
-- Tables of others' that are called so are theirs.
CREATE SCHEMA theirs;
CREATE TABLE theirs.change (id int);
CREATE INDEX ON theirs.change ((id + 1)) WHERE id > 1;
ALTER TABLE theirs.change ADD COLUMN more int;

-- With event triggers off.
ALTER EVENT TRIGGER snapsync_command_end DISABLE;
ALTER EVENT TRIGGER snapsync_index DISABLE;
CREATE INDEX bad ON snapsync.change ((image ->> 'owner'));
:write;
DROP INDEX snapsync.bad;
CREATE INDEX bad ON snapsync.change (stamp) WHERE op = 'D';
:write;
DROP INDEX snapsync.bad;
CREATE INDEX bad ON snapsync.horizon ((snapmin + 1));
UPDATE snapsync.horizon SET at = at - interval '1 hour';
:write;
DROP INDEX snapsync.bad;
ALTER TABLE snapsync.horizon ADD COLUMN note text;
:write;
-- (One that was dropped again is none.)
ALTER TABLE snapsync.horizon DROP COLUMN note;
:write;
ALTER TABLE snapsync.change ADD COLUMN note text;
:write;
SELECT push_changes('{"notes": {"updated": [{"id": 1, "owner": "alice"}]}}', :'cursor');
:read;
ALTER TABLE snapsync.change DROP COLUMN note;
:write;
:read;
ALTER TABLE snapsync.early ADD COLUMN note text;
BEGIN;
UPDATE notes SET owner = 'bob' WHERE id = 2;
:read;
COMMIT;
ALTER TABLE snapsync.early DROP COLUMN note;
BEGIN;
DELETE FROM notes WHERE id = 2;
:read;
COMMIT;
ALTER TABLE snapsync.role ALTER COLUMN stamp TYPE text;
\c -
:read;
ALTER TABLE snapsync.role ALTER COLUMN stamp TYPE bigint USING stamp::bigint;
ALTER TABLE snapsync.change ALTER COLUMN stamp TYPE text;
:write;
:read;
ALTER TABLE snapsync.change ALTER COLUMN stamp TYPE bigint USING stamp::bigint;
-- Other indexes in the place of ours; and other things in the place of tables.
DROP INDEX snapsync.change_relation_stamp;
:write;
CREATE INDEX change_relation_stamp ON snapsync.change (relation, stamp DESC);
:write;
DROP INDEX snapsync.change_relation_stamp;
CREATE INDEX change_relation_stamp ON snapsync.change (relation, stamp, ord, op, key);
:write;
:read;
DROP INDEX snapsync.change_relation_stamp;
CREATE INDEX change_relation_stamp ON snapsync.change (relation, stamp);
ALTER TABLE snapsync.early RENAME TO former;
CREATE VIEW snapsync.early AS SELECT 1::bigint AS early, 1::bigint AS stamp;
:read;
DROP VIEW snapsync.early;
ALTER TABLE snapsync.former RENAME TO early;
ALTER TABLE snapsync.change SET UNLOGGED;
:write;
ALTER TABLE snapsync.change SET LOGGED;
ALTER SEQUENCE snapsync.clock RENAME TO former;
CREATE TABLE snapsync.clock (last_value text);
INSERT INTO snapsync.clock VALUES ('x');
:write;
DROP TABLE snapsync.clock;
ALTER SEQUENCE snapsync.former RENAME TO clock;
-- The history of another server, as far as this one can tell: it is written anew.
UPDATE snapsync.epoch SET place = '';
CREATE INDEX bad ON snapsync.epoch (number);
:write;
DROP INDEX snapsync.bad;
ALTER TABLE snapsync.epoch ADD COLUMN note text;
:write;
ALTER TABLE snapsync.epoch DROP COLUMN note;
:write;

-- Triggers, rules, policies and children are a superuser's own matter: they count for statements, and entries of the log are none.
CREATE FUNCTION t.nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '%', TG_TABLE_NAME; RETURN NULL; END $$;
CREATE TRIGGER nothing BEFORE INSERT ON snapsync.change FOR EACH ROW EXECUTE FUNCTION t.nothing();
CREATE RULE nothing AS ON INSERT TO snapsync.change DO INSTEAD NOTHING;
ALTER TABLE snapsync.change ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE TABLE t.child () INHERITS (snapsync.change);
:write;
:read;
SET ROLE alice;
SELECT push_changes('{"notes": {"updated": [{"id": 1, "owner": "alice"}]}}', push_id => '00000000-0000-4000-8000-000000000001');
RESET ROLE;
ALTER EVENT TRIGGER snapsync_command_end ENABLE ALWAYS;
ALTER EVENT TRIGGER snapsync_index ENABLE ALWAYS;
SELECT severity, finding FROM snapsync.doctor() WHERE severity = 'error';

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_own_tables;
