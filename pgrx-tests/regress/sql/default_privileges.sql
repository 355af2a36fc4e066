-- ALTER DEFAULT PRIVILEGES of whoever creates the extension, or restores its dump, opens nothing of it to others; doctor() says what is open.
\set ECHO none
\set test regress_default_privileges
\set roles '{privileged}'
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
\set load '\\! db=regress_default_privileges; "$SNAPSYNC_PG_BIN/pg_dump" $db | "$SNAPSYNC_PG_BIN/psql" -X -q -o /dev/null -v ON_ERROR_STOP=1 -d ${db}_restored && echo loaded'

-- Who else than the owner may do what in the schema, and may execute what clients call.
CREATE VIEW t.open AS
    SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS who, o.object, string_agg(DISTINCT lower(a.privilege_type), ', ') AS may
    FROM (SELECT 'schema snapsync' AS object, nspowner AS owner, coalesce(nspacl, acldefault('n', nspowner)) AS acl FROM pg_namespace WHERE nspname = 'snapsync'
          UNION ALL
          SELECT relname, relowner, coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))
          FROM pg_class WHERE relnamespace = to_regnamespace('snapsync') AND relkind IN ('r', 'v', 'S')
          UNION ALL
          SELECT format('%s.%s', relname, attname), relowner, attacl FROM pg_attribute JOIN pg_class AS r ON r.oid = attrelid WHERE relnamespace = to_regnamespace('snapsync')
          UNION ALL
          SELECT 'type ' || typname, typowner, coalesce(typacl, acldefault('T', typowner)) FROM pg_type WHERE typnamespace = to_regnamespace('snapsync') AND typtype IN ('b', 'd') AND typcategory <> 'A'
          UNION ALL
          SELECT proname || '()', proowner, coalesce(proacl, acldefault('f', proowner)) FROM pg_proc
          WHERE pronamespace = to_regnamespace('snapsync') OR proname ~ '^(pull|push)_' AND pronamespace = 'public'::regnamespace) AS o, aclexplode(o.acl) AS a
    WHERE a.grantee <> o.owner GROUP BY 1, 2;
CREATE TABLE t.before AS SELECT * FROM t.open;
SELECT who, may, string_agg(object, ', ' ORDER BY object COLLATE "C") AS object FROM t.open GROUP BY 1, 2 ORDER BY 1, 2;

DROP EXTENSION snapsync CASCADE;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO anon, PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO anon WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO anon, PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO anon;
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO anon;
\set ECHO all
CREATE EXTENSION snapsync;
-- What is everybody's is theirs; nothing else.
SELECT who, object, may FROM t.open WHERE (object, may) NOT IN (SELECT object, may FROM t.before) ORDER BY who COLLATE "C", object COLLATE "C";
SELECT * FROM t.before EXCEPT SELECT * FROM t.open;
SET ROLE anon;
SELECT * FROM t.error('SELECT * FROM snapsync.change');
SELECT * FROM t.error('UPDATE snapsync.collection SET columns = NULL');
SELECT * FROM t.error('SELECT nextval(''snapsync.clock'')');
SELECT * FROM t.error('SELECT snapsync.poke_scope(''a'', ''b'')');
SELECT * FROM t.error('CREATE TABLE snapsync.mine ()');
RESET ROLE;

-- A dump has what was granted since, and its restore no more, whatever the database's defaults are by then.
CREATE TABLE notes (id int PRIMARY KEY, v text);
SELECT snapsync.enable('notes');
INSERT INTO notes VALUES (1, 'a');
GRANT EXECUTE ON FUNCTION snapsync.poke_scope(text, text) TO privileged;
CREATE DATABASE regress_default_privileges_restored TEMPLATE template0;
\c regress_default_privileges_restored
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO bob;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO bob;
:load
SELECT who, object, may FROM t.open WHERE (object, may) NOT IN (SELECT object, may FROM t.before) ORDER BY who COLLATE "C", object COLLATE "C";
SELECT count(*) FROM snapsync.change;
SELECT finding FROM snapsync.doctor() WHERE finding ~ 'privileged|anon|bob';
\c regress_default_privileges

-- Who takes execution from everybody, and gives it to some, has it so.
SET client_min_messages = warning;
DROP EXTENSION snapsync CASCADE;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO authenticated;
CREATE EXTENSION snapsync;
SELECT may, string_agg(object, ', ' ORDER BY object COLLATE "C") AS object FROM t.open WHERE who = 'authenticated' GROUP BY 1;
SELECT snapsync.enable('notes');
SELECT count(*) FROM snapsync.doctor() WHERE finding ~ 'authenticated';

-- What was opened by hand.
GRANT SELECT, DELETE ON snapsync.change TO carol WITH GRANT OPTION;
GRANT SELECT (key) ON snapsync.change TO bob;
GRANT SELECT ON snapsync.collection, snapsync.status TO PUBLIC;
GRANT UPDATE ON SEQUENCE snapsync.clock TO carol;
GRANT CREATE ON SCHEMA snapsync TO bob;
GRANT EXECUTE ON FUNCTION snapsync.findings(oid), snapsync.enable, snapsync.poke_scope(text, text) TO PUBLIC;
SET ROLE carol;
GRANT SELECT ON snapsync.change TO alice;
RESET ROLE;
SELECT severity, finding, hint, fix FROM snapsync.doctor() WHERE severity = 'error';
SELECT fix FROM snapsync.doctor() WHERE severity = 'error' \gexec
SELECT count(*) FROM snapsync.doctor() WHERE severity = 'error';
SELECT who, object, may FROM t.open WHERE (object, may) NOT IN (SELECT object, may FROM t.before);
-- A table's owner is told, and cannot mend it.
GRANT SELECT ON snapsync.change TO carol;
CREATE TABLE hers (id int PRIMARY KEY);
ALTER TABLE hers OWNER TO alice;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA snapsync TO alice;
SELECT snapsync.enable('hers');
SET ROLE alice;
SELECT finding, hint, fix FROM snapsync.doctor() WHERE finding ~ 'carol';
RESET ROLE;

\set ECHO none
\c postgres
SET client_min_messages = warning;
DROP DATABASE regress_default_privileges;
DROP DATABASE regress_default_privileges_restored;
DROP ROLE privileged;
