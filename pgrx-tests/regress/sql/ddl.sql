-- DDL on synced tables: after it every device still ends up with what its role may SELECT. (t.sync() says so if not.)
\set ECHO none
\set test regress_ddl
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE items (id int PRIMARY KEY, owner name DEFAULT 'alice', title text, n int DEFAULT 1);
ALTER TABLE items ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON items USING (owner = current_user);
GRANT SELECT, INSERT, UPDATE, DELETE ON items TO alice, bob;
SELECT snapsync.enable('items');
INSERT INTO items VALUES (1, 'alice', 'a'), (2, 'bob', 'b'), (3, 'alice', 'c');
SELECT t.sync('alice', 'items'); SELECT t.sync('bob', 'items');

-- Columns come, go, change their type and their name.
ALTER TABLE items ADD COLUMN colour text DEFAULT 'red';
SELECT t.sync('alice', 'items');
UPDATE items SET colour = 'blue' WHERE id = 1;
SELECT t.sync('alice', 'items');
ALTER TABLE items DROP COLUMN n;
SELECT t.sync('alice', 'items');
ALTER TABLE items RENAME COLUMN colour TO color;
SELECT t.sync('alice', 'items');
ALTER TABLE items ALTER COLUMN title TYPE varchar(50) USING upper(title);
SELECT t.sync('alice', 'items');
UPDATE items SET color = 'green', title = 'x' WHERE id = 3;
SELECT t.sync('alice', 'items');
-- Of the key and of what a policy reads.
ALTER TABLE items RENAME COLUMN owner TO whose;
UPDATE items SET title = 'y' WHERE id = 3;
SELECT t.sync('alice', 'items');
UPDATE items SET whose = 'bob' WHERE id = 3;
SELECT t.sync('alice', 'items'); SELECT t.sync('bob', 'items');
ALTER TABLE items ALTER COLUMN id TYPE bigint;
SELECT t.sync('alice', 'items');
INSERT INTO items (id, whose, title) VALUES (3000000000, 'alice', 'big');
SELECT t.sync('alice', 'items');
ALTER TABLE items RENAME COLUMN id TO nr;
ALTER TABLE items RENAME COLUMN nr TO id;
DELETE FROM items WHERE id = 3000000000;
SELECT t.sync('alice', 'items'); SELECT t.sync('bob', 'items');

-- Policies come and go and change; RLS is switched off and on.
CREATE POLICY public ON items FOR SELECT USING (title = 'public');
UPDATE items SET title = 'public' WHERE id = 2;
SELECT t.sync('alice', 'items');
UPDATE items SET title = 'b' WHERE id = 2;
SELECT t.sync('alice', 'items');
ALTER POLICY public ON items USING (color = 'red');
SELECT t.sync('alice', 'items');
UPDATE items SET color = 'pink' WHERE id = 2;
SELECT t.sync('alice', 'items');
ALTER POLICY public ON items TO bob;
DROP POLICY public ON items;
SELECT t.sync('alice', 'items');
ALTER TABLE items DISABLE ROW LEVEL SECURITY;
SELECT t.sync('alice', 'items');
ALTER TABLE items ENABLE ROW LEVEL SECURITY;
SELECT t.sync('alice', 'items'); SELECT t.sync('bob', 'items');
DELETE FROM items WHERE id = 2;
SELECT t.sync('alice', 'items'); SELECT t.sync('bob', 'items');
-- Rolled back: nothing happened.
BEGIN; DROP POLICY own ON items; ALTER TABLE items DROP COLUMN color; ROLLBACK;
INSERT INTO items VALUES (4, 'alice', 'd');
SELECT t.sync('alice', 'items');

-- The table moves and is renamed: clients go on with the name that they know.
ALTER TABLE items RENAME TO things;
INSERT INTO things VALUES (5, 'alice', 'e');
SELECT what, item FROM t.pull('{items}', current_setting('t.cursor_alice_items'));
SELECT name, "table" FROM snapsync.status;
CREATE SCHEMA moved;
GRANT USAGE ON SCHEMA moved TO alice;
ALTER TABLE things SET SCHEMA moved;
UPDATE moved.things SET title = 'E' WHERE id = 5;
SET ROLE alice;
SELECT what, item FROM t.pull('{items}', current_setting('t.cursor_alice_items'));
RESET ROLE;
ALTER TABLE moved.things SET SCHEMA public;
ALTER TABLE things RENAME TO items;
SELECT t.sync('alice', 'items');

-- VACUUM FULL, CLUSTER, a new index: nothing for clients.
VACUUM FULL items;
CREATE INDEX ON items (title);
CLUSTER items USING items_pkey;
SELECT t.sync('alice', 'items');
-- A key column goes: the collection cannot do without.
SELECT * FROM t.error('ALTER TABLE items DROP COLUMN id');
-- The owner changes, the new one administers.
ALTER TABLE items OWNER TO carol;
SET ROLE carol; SELECT snapsync.reset('items'); RESET ROLE;
SELECT t.sync('alice', 'items');

-- Dropped: the collection is gone, and its name is free again.
DROP TABLE items;
SELECT * FROM t.error($$ SELECT pull_changes('{items}') $$);
SELECT count(*) FROM snapsync.status;
SELECT count(*) FROM snapsync.collection;
SELECT count(*) FROM snapsync.change;
CREATE TABLE items (id int PRIMARY KEY);
GRANT SELECT ON items TO alice;
SELECT snapsync.enable('items');
INSERT INTO items VALUES (1);
-- A device that knew the old table has its rows replaced.
SELECT t.sync('alice', 'items');
-- Also when a whole schema goes, and when the owner drops what he owns.
CREATE SCHEMA gone CREATE TABLE one (id int PRIMARY KEY) CREATE TABLE two (id int PRIMARY KEY);
SELECT snapsync.enable('gone.one'), snapsync.enable('gone.two');
SET client_min_messages = warning;
DROP SCHEMA gone CASCADE;
RESET client_min_messages;
SELECT name FROM snapsync.status;
SELECT count(*) FROM snapsync.change WHERE relation::oid NOT IN (SELECT oid FROM pg_class);

-- snapsync's triggers go with snapsync.disable() only; where one was lost all the same, enable() resets.
CREATE TABLE kept (id int PRIMARY KEY, code text NOT NULL, UNIQUE (code));
GRANT SELECT ON kept TO PUBLIC;
SELECT snapsync.enable('kept');
SELECT t.sync('alice', 'kept');
SELECT * FROM t.error('DROP TRIGGER "00_snapsync_track" ON kept');
ALTER EVENT TRIGGER snapsync_drop DISABLE;
DROP TRIGGER "00_snapsync_track" ON kept;
ALTER EVENT TRIGGER snapsync_drop ENABLE;
INSERT INTO kept VALUES (1, 'one');
SELECT snapsync.enable('kept');
SELECT t.sync('alice', 'kept');

-- The key stays what enable() takes for one.
SELECT snapsync.enable('kept', key => '{code}');
SELECT * FROM t.error('ALTER TABLE kept ALTER code DROP NOT NULL');
SELECT * FROM t.error('ALTER TABLE kept ALTER code TYPE float8 USING id');
SELECT * FROM t.error('ALTER TABLE kept DROP CONSTRAINT kept_code_key');
CREATE UNIQUE INDEX other_key ON kept (code);
ALTER TABLE kept DROP CONSTRAINT kept_code_key;
SELECT * FROM t.error('DROP INDEX other_key');
