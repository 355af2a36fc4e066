-- What a role can pull, and the versions of it.
\set ECHO none
\set test regress_pull_schema
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
SET client_min_messages = warning;
CREATE FUNCTION t.version() RETURNS bigint LANGUAGE sql AS $$ SELECT (public.pull_schema('{}') ->> 'version')::bigint $$;
-- The steps of the migration, one line per version.
CREATE FUNCTION t.steps(collections text[], since int) RETURNS TABLE (version text, steps text) LANGUAGE plpgsql AS $$
DECLARE
    answer json := public.pull_schema(collections, 'watermelondb', since);
BEGIN
    RETURN QUERY SELECT m ->> 'toVersion', m ->> 'steps' FROM json_array_elements(nullif((answer -> 'migrations')::text, 'null')::json) AS m;
    IF NOT FOUND THEN
        RETURN QUERY SELECT (answer -> 'migrations')::text, NULL;
    END IF;
END
$$;
\set ECHO all
SELECT pull_schema('{}'), pull_schema('{}', 'watermelondb');
CREATE DOMAIN title AS text NOT NULL;
CREATE TABLE projects (id uuid PRIMARY KEY, name title, owner_id int NOT NULL);
CREATE TABLE tasks (id uuid PRIMARY KEY, project_id uuid NOT NULL REFERENCES projects, done boolean NOT NULL DEFAULT false, due timestamptz(3), day date,
                    tags text[], extra jsonb, price numeric(10,2), made timestamptz GENERATED ALWAYS AS (due) STORED, nr bigint GENERATED ALWAYS AS IDENTITY, at_time time);
CREATE TABLE pairs (a int, b varchar(20), c bit, PRIMARY KEY (a, b));
GRANT SELECT ON projects, tasks, pairs TO PUBLIC;
SELECT snapsync.enable('projects', exclude => '{owner_id}');
SELECT snapsync.enable('tasks', readonly => '{price}');
SELECT snapsync.enable('pairs', 'couples');
SET ROLE alice;
SELECT jsonb_pretty(pull_schema('{projects,tasks,couples}')::jsonb);
SELECT pull_schema('{projects,tasks,couples}', 'watermelondb');
RESET ROLE;

-- The version rises with what changes a schema, and with nothing else.
SELECT t.version();
ALTER TABLE tasks ADD COLUMN colour text;
SELECT t.version();
ALTER TABLE tasks ALTER COLUMN colour SET NOT NULL;
ALTER TABLE tasks ALTER COLUMN colour SET DEFAULT 'red';
SELECT t.version();
ALTER TABLE tasks ADD COLUMN other uuid CONSTRAINT refers REFERENCES projects;
SELECT t.version();
ALTER TABLE tasks DROP CONSTRAINT refers;
SELECT t.version();
ALTER TABLE projects ADD COLUMN hidden int; SELECT snapsync.enable('projects', exclude => '{owner_id,hidden}');
SELECT t.version();
ALTER TABLE projects DROP COLUMN hidden;
CREATE INDEX ON tasks (day); CREATE POLICY p ON tasks USING (true); COMMENT ON TABLE tasks IS 'x';
CREATE TABLE unsynced (id int); ALTER TABLE unsynced ADD COLUMN x int;
SELECT t.version();
BEGIN; ALTER TABLE tasks ADD COLUMN undone int; SELECT t.version(); ROLLBACK;
SELECT t.version();
-- Several in one transaction, with one undone.
BEGIN; ALTER TABLE tasks ADD COLUMN one int; SAVEPOINT s; ALTER TABLE tasks ADD COLUMN undone int; ROLLBACK TO s;
ALTER TABLE projects ADD COLUMN two int; ALTER TABLE tasks ADD COLUMN three int; SELECT t.version(); COMMIT;
SELECT t.version();
SELECT version, name FROM snapsync.schema_version WHERE version > 7 ORDER BY 1;
SET session_replication_role = replica; ALTER TABLE tasks ADD COLUMN four int; RESET session_replication_role;
SELECT count(*), count(version), max(version) FROM snapsync.schema_version;

-- The steps of an app that has an older one; columns that are gone again are in none, and so are those that it cannot see.
SELECT * FROM t.steps('{projects,tasks,couples}', 1);
SELECT * FROM t.steps('{projects,tasks,couples}', 4);
ALTER TABLE tasks DROP COLUMN one;
SELECT * FROM t.steps('{tasks}', 9);
SELECT * FROM t.steps('{tasks}', t.version()::int);
SELECT * FROM t.steps('{tasks}', 1000000);
-- What a device cannot be led to: another type, another key, a column or table that was away. Those that came after it can.
ALTER TABLE tasks ADD COLUMN one int;
SELECT * FROM t.steps('{tasks}', 9);
SELECT * FROM t.steps('{tasks}', 2);
SELECT * FROM t.steps('{tasks}', (t.version() - 1)::int);
SELECT * FROM t.steps('{tasks}', t.version()::int);
ALTER TABLE projects ALTER COLUMN two TYPE bigint;
SELECT * FROM t.steps('{projects}', (t.version() - 1)::int);
ALTER TABLE projects ALTER COLUMN two TYPE text;
SELECT * FROM t.steps('{projects}', (t.version() - 1)::int);
SELECT snapsync.disable('pairs');
SELECT t.version();
SELECT * FROM t.error($$ SELECT pull_schema('{couples}') $$);
SELECT snapsync.enable('pairs', 'couples');
SELECT * FROM t.steps('{couples}', (t.version() - 1)::int);
SELECT * FROM t.steps('{couples}', t.version()::int);
SELECT snapsync.enable('pairs', 'pairs');
SELECT * FROM t.steps('{pairs}', (t.version() - 1)::int);
DROP TABLE pairs;
SELECT name, document IS NULL AS gone FROM snapsync.schema_version WHERE name IN ('couples', 'pairs') ORDER BY version;

-- A caller learns of what he may select, and of no reference to what he may not.
CREATE TABLE secrets (id int PRIMARY KEY, shown text, secret text, UNIQUE (id, secret));
CREATE TABLE notes (id int PRIMARY KEY, secret_id int REFERENCES secrets, project uuid REFERENCES projects, s text, FOREIGN KEY (secret_id, s) REFERENCES secrets (id, secret));
GRANT SELECT (id, shown) ON secrets TO alice; GRANT SELECT ON notes TO alice, bob; GRANT SELECT (shown) ON secrets TO carol;
SELECT snapsync.enable('secrets'), snapsync.enable('notes');
ALTER TABLE secrets ADD COLUMN secret_too text;
SET ROLE alice; SELECT pull_schema('{secrets,notes}') -> 'collections'; SELECT pull_schema('{secrets}', 'watermelondb') #> '{schema,tables}';
SELECT version, steps FROM t.steps('{secrets}', 20) WHERE steps <> '[]';
SET ROLE bob; SELECT pull_schema('{notes}') #> '{collections,notes,references}';
SELECT * FROM t.error($$ SELECT pull_schema('{secrets}') $$);
SET ROLE carol; SELECT * FROM t.error($$ SELECT pull_schema('{secrets}') $$);
SELECT * FROM t.error($$ SELECT * FROM snapsync.schema_version $$);
RESET ROLE;
-- READ ONLY; bad input.
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT json_object_keys(pull_schema('{projects}') -> 'collections'); COMMIT;
SELECT * FROM t.error($$ SELECT pull_schema('{nothing}') $$);
SELECT * FROM t.error($$ SELECT pull_schema(NULL) $$);
SELECT * FROM t.error($$ SELECT pull_schema('{tasks}', 'sqlite') $$);
SELECT * FROM t.error($$ SELECT pull_schema('{tasks}', schema_version => 0) $$);
-- A prepared transaction would keep everybody's next version waiting.
BEGIN; ALTER TABLE tasks ADD COLUMN later int; PREPARE TRANSACTION 'regress_pull_schema';
SELECT count(*) FROM snapsync.schema_version WHERE version IS NULL;
-- The extension can be dropped in a transaction that has made versions.
BEGIN; ALTER TABLE tasks ADD COLUMN last int; DROP EXTENSION snapsync CASCADE; COMMIT;
