-- Collations under which different texts are equal: only a server that was built with ICU has them. (Without: icu_1.out.)
\set ECHO none
SELECT count(*) = 0 AS skip FROM pg_collation WHERE collprovider = 'i' AND collname <> 'unicode' \gset
\if :skip
\echo skipped: this server was built without ICU
\quit
\endif
\set test regress_icu
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

-- Different texts that are equal would be one id, or one scope.
CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE texts (id text COLLATE caseless PRIMARY KEY, n int UNIQUE NOT NULL, scope text COLLATE caseless);
SELECT * FROM t.error('SELECT snapsync.enable(''texts'')');
SELECT * FROM t.error('SELECT snapsync.enable(''texts'', key => ''{n}'', scope_column => ''scope'')');
SELECT snapsync.enable('texts', key => '{n}');

-- Columns with a collation of their own.
CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE owned (id int PRIMARY KEY, owner text COLLATE nocase);
CREATE TABLE kept_from (id int PRIMARY KEY, who text COLLATE nocase);
CREATE TABLE invited (id int PRIMARY KEY, who text COLLATE nocase);
CREATE TABLE parties (id int PRIMARY KEY);
ALTER TABLE owned ENABLE ROW LEVEL SECURITY;
ALTER TABLE kept_from ENABLE ROW LEVEL SECURITY;
ALTER TABLE parties ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON owned USING (owner = current_setting('test.me'));
CREATE POLICY p ON kept_from USING (who <> current_setting('test.me'));
CREATE POLICY p ON parties USING (id IN (SELECT id FROM invited WHERE who = current_setting('test.me')));
GRANT SELECT ON owned, kept_from, invited, parties TO alice;
SET test.me = 'alice';
SELECT snapsync.enable('owned'), snapsync.enable('kept_from'), snapsync.enable('parties');
INSERT INTO owned VALUES (1, 'ALICE'), (2, 'alice'), (3, 'bob');
INSERT INTO kept_from VALUES (1, 'ALICE'), (2, 'bob');
INSERT INTO parties VALUES (1), (2);
INSERT INTO invited VALUES (1, 'Alice'), (2, 'bob');
SELECT t.sync('alice', 'owned'), t.sync('alice', 'kept_from'), t.sync('alice', 'parties');
DELETE FROM owned;
DELETE FROM kept_from;
DELETE FROM invited;
SELECT t.sync('alice', 'owned'), t.sync('alice', 'kept_from'), t.sync('alice', 'parties');

-- Nor does such a column, or such a comparison, bound the caller's scopes.
CREATE TABLE bounded (id int PRIMARY KEY, owner text COLLATE nocase, plain text);
ALTER TABLE bounded ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON bounded USING (owner = current_setting('test.me'));
SELECT snapsync.enable('bounded');
SELECT found_scope, no_scope FROM snapsync.collection WHERE relation = 'bounded'::regclass;
ALTER POLICY p ON bounded USING (plain = current_setting('test.me') COLLATE nocase);
SELECT found_scope, no_scope FROM snapsync.collection WHERE relation = 'bounded'::regclass;
