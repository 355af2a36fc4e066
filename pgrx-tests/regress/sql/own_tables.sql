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
BEGIN;
TRUNCATE snapsync.change;
ALTER TABLE snapsync.change ALTER COLUMN origin SET NOT NULL;
ROLLBACK;
\d snapsync.change
:write;

-- Indexes and constraints of theirs do not go, and what code knows by its name keeps it. (Each index that there is: which of them could be dropped?)
SELECT c.relname, e.error
FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid LEFT JOIN pg_constraint AS k ON k.conindid = c.oid AND k.contype IN ('p', 'u')
CROSS JOIN LATERAL t.error(CASE WHEN k.oid IS NULL THEN format('DROP INDEX snapsync.%I', c.relname)
                                ELSE format('ALTER TABLE %s DROP CONSTRAINT %I', i.indrelid::regclass, k.conname) END) AS e
WHERE c.relnamespace = 'snapsync'::regnamespace AND e.error !~ '^(55000: index ".*" of snapsync''s own cannot be dropped|detail: |hint: )';
SELECT * FROM t.error('DROP INDEX snapsync.change_relation_bucket_stamp');
SELECT * FROM t.error('ALTER TABLE snapsync.role DROP CONSTRAINT role_pkey');
DROP INDEX CONCURRENTLY snapsync.change_relation_stamp;
SELECT indisvalid, indisready, indislive FROM pg_index WHERE indexrelid = 'snapsync.change_relation_stamp'::regclass;
SELECT * FROM t.error('DROP TRIGGER snapsync_emptied ON snapsync.change');
SELECT * FROM t.error('ALTER INDEX snapsync.change_relation_stamp RENAME TO mine');
SELECT * FROM t.error('ALTER TABLE snapsync.early_stamp RENAME TO mine');
SELECT * FROM t.error('ALTER TABLE snapsync.role RENAME CONSTRAINT role_pkey TO mine');
SELECT c.relname, e.error
FROM pg_class AS c CROSS JOIN LATERAL t.error(format('ALTER TABLE snapsync.%I RENAME TO mine', c.relname)) AS e
WHERE c.relnamespace = 'snapsync'::regnamespace AND c.relkind <> 'i'
  AND e.error !~ '^(55000: what snapsync has made for itself keeps its name and its schema|detail: |hint: )';
SELECT * FROM t.error('ALTER TABLE snapsync.change RENAME TO mine');
SELECT * FROM t.error('ALTER TABLE snapsync.collection RENAME TO mine');
SELECT * FROM t.error('ALTER SEQUENCE snapsync.clock RENAME TO mine');
SELECT * FROM t.error('ALTER VIEW snapsync.status RENAME TO mine');
SELECT * FROM t.error('ALTER TYPE snapsync.regtable RENAME TO mine');
SELECT * FROM t.error('ALTER FUNCTION snapsync.parts(oid) RENAME TO mine');
SELECT * FROM t.error('ALTER TRIGGER snapsync_emptied ON snapsync.change RENAME TO mine');
SELECT * FROM t.error('ALTER SCHEMA snapsync RENAME TO mine');
SELECT * FROM t.error('ALTER TABLE snapsync.change SET SCHEMA t');
SELECT * FROM t.error('ALTER TABLE snapsync.collection SET SCHEMA t');
SELECT * FROM t.error('ALTER SEQUENCE snapsync.clock SET SCHEMA t');
SELECT * FROM t.error('ALTER FUNCTION snapsync.parts(oid) SET SCHEMA t');
-- An index is built anew under its name. Somebody's own go, and so do functions that clients call.
REINDEX INDEX CONCURRENTLY snapsync.change_relation_stamp;
REINDEX TABLE CONCURRENTLY snapsync.change;
REINDEX INDEX CONCURRENTLY snapsync.role_pkey;
CREATE INDEX mine ON snapsync.change (stamp);
ALTER INDEX snapsync.mine RENAME TO mine_too;
DROP INDEX snapsync.mine_too;
BEGIN;
CREATE SCHEMA api;
ALTER FUNCTION pull_schema SET SCHEMA api;
ROLLBACK;
:write;
:read;

-- TRUNCATE: of the log, and of what its entries cannot be found without, resets the clients.
\set next 'UPDATE notes SET owner = owner WHERE id = 1; SELECT pull_changes(\'{notes}\')::json ->> \'timestamp\' AS began \\gset'
\set told 'SELECT j ->> \'reason\' AS reason, json_array_length(j #> \'{changes,notes,updated}\') AS updated FROM CAST(pull_changes(\'{notes}\', :\'began\') AS json) AS j'
:next
UPDATE notes SET owner = 'bob' WHERE id = 3;
TRUNCATE snapsync.change;
:told;
:next
:told;
SET session_replication_role = replica;
TRUNCATE snapsync.change;
RESET session_replication_role;
:told;
:next
BEGIN;
TRUNCATE snapsync.change;
ROLLBACK;
:told;
TRUNCATE snapsync.early;
:told;
:next
TRUNCATE snapsync.salt;
:told;
:next
TRUNCATE snapsync.epoch;
:told;
-- What stands for itself: who does not find it begins anew.
:next
TRUNCATE snapsync.horizon;
TRUNCATE snapsync.role;
:told;
-- The rest stays.
SELECT c.relname, e.error
FROM pg_class AS c CROSS JOIN LATERAL t.error(format('TRUNCATE snapsync.%I', c.relname)) AS e
WHERE c.relnamespace = 'snapsync'::regnamespace AND c.relkind = 'r' AND c.relname NOT IN ('change', 'early', 'salt', 'epoch', 'horizon', 'role')
  AND e.error NOT LIKE 'detail:%'
ORDER BY c.relname COLLATE "C", e.error COLLATE "C";
-- As pg_restore --disable-triggers leaves it.
ALTER TABLE snapsync.change DISABLE TRIGGER ALL;
ALTER TABLE snapsync.change ENABLE TRIGGER ALL;
SELECT severity, finding, hint, fix FROM snapsync.doctor() WHERE finding ~ 'emptied';
SELECT fix FROM snapsync.doctor() WHERE finding ~ 'emptied' \gexec
SELECT tgenabled FROM pg_trigger WHERE tgrelid = 'snapsync.change'::regclass AND tgname = 'snapsync_emptied';
CREATE TRIGGER mine AFTER TRUNCATE ON notes EXECUTE FUNCTION snapsync.emptied();
TRUNCATE notes;
DROP TRIGGER mine ON notes;
SELECT * FROM t.error('SELECT snapsync.emptied()');
:write;
SELECT pull_changes('{notes}')::json ->> 'timestamp' AS cursor \gset
:write;
:read;
-- Tables of others' that are called so are theirs.
CREATE SCHEMA theirs;
CREATE TABLE theirs.change (id int);
CREATE INDEX ON theirs.change ((id + 1)) WHERE id > 1;
ALTER TABLE theirs.change ADD COLUMN more int;

-- With event triggers off.
ALTER EVENT TRIGGER snapsync_command_end DISABLE;
ALTER EVENT TRIGGER snapsync_drop DISABLE;
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
ALTER TABLE snapsync.role DROP CONSTRAINT role_pkey;
:write;
ALTER TABLE snapsync.role ADD CONSTRAINT role_pkey PRIMARY KEY (role);
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
ALTER EVENT TRIGGER snapsync_command_end ENABLE ALWAYS;
ALTER SEQUENCE snapsync.former RENAME TO clock;
ALTER EVENT TRIGGER snapsync_command_end DISABLE;
ALTER TABLE snapsync.collection RENAME TO former;
ALTER EVENT TRIGGER snapsync_command_end ENABLE ALWAYS;
ALTER TABLE notes RENAME COLUMN owner TO "user";
ALTER TABLE snapsync.former RENAME TO collection;
ALTER EVENT TRIGGER snapsync_command_end DISABLE;
-- The history of another server, as far as this one can tell: it is written anew.
UPDATE snapsync.epoch SET place = '';
CREATE INDEX bad ON snapsync.epoch (number);
:write;
DROP INDEX snapsync.bad;
ALTER TABLE snapsync.epoch ADD COLUMN note text;
:write;
ALTER TABLE snapsync.epoch DROP COLUMN note;
:write;

-- (Of the last 0.2 s before that beginning of history no cursor is believed.)
SELECT pull_changes('{notes}')::json ->> 'timestamp' AS cursor \gset
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
ALTER EVENT TRIGGER snapsync_drop ENABLE ALWAYS;
ALTER EVENT TRIGGER snapsync_index ENABLE ALWAYS;
SELECT severity, finding FROM snapsync.doctor() WHERE severity = 'error';

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_own_tables;
