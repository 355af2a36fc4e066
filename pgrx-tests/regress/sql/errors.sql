-- Bad input: each a clear error with SQLSTATE, detail and hint; nothing is applied, and the backend lives.
\set ECHO none
\set test regress_errors
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE todos (id int PRIMARY KEY, title text, doc jsonb, at timestamptz, u uuid);
INSERT INTO todos VALUES (1, 'one');
CREATE TABLE unsynced (id int PRIMARY KEY);
SELECT snapsync.enable('todos');
SELECT pg_backend_pid() AS pid \gset

-- Collections.
SELECT pull_changes('{nope}');
\echo :SQLSTATE
SELECT pull_changes('{unsynced}');
\echo :SQLSTATE
SELECT pull_changes('{""}');
\echo :SQLSTATE
SELECT pull_changes('{__proto__}');
\echo :SQLSTATE
SELECT pull_changes(ARRAY['todos; DROP TABLE todos']);
\echo :SQLSTATE
SELECT pull_changes(ARRAY[repeat('x', 1000)]);
\echo :SQLSTATE
SELECT pull_changes(ARRAY['todos', NULL]);
\echo :SQLSTATE
SELECT pull_changes(NULL);
\echo :SQLSTATE
SELECT pull_changes('{{todos},{todos}}') IS NOT NULL;
\echo :SQLSTATE
SELECT pull_changes('todos');
\echo :SQLSTATE

-- Cursors.
SELECT pull_changes('{todos}', 'yesterday');
\echo :SQLSTATE
SELECT pull_changes('{todos}', '-1');
\echo :SQLSTATE
SELECT pull_changes('{todos}', '1.5');
\echo :SQLSTATE
SELECT pull_changes('{todos}', '1e3');
\echo :SQLSTATE
SELECT pull_changes('{todos}', '0x10');
\echo :SQLSTATE
SELECT pull_changes('{todos}', '9223372036854775808');
\echo :SQLSTATE
SELECT pull_changes('{todos}', repeat('9', 100000));
\echo :SQLSTATE
SELECT pull_changes('{todos}', '2026-13-01T00:00:00Z');
\echo :SQLSTATE
SELECT pull_changes('{todos}', '2026-02-30');
\echo :SQLSTATE
SELECT pull_changes('{todos}', '2026-11-21T07:50:00 02:00');
\echo :SQLSTATE
SELECT pull_changes('{todos}', 'undefined');
\echo :SQLSTATE
SELECT pull_changes('{todos}', '{"timestamp":17}');
\echo :SQLSTATE
SELECT pull_changes('{todos}', dialect => 'klingon');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"deleted": ["1"]}}', last_pulled_at => 'yesterday');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"deleted": ["1"]}}', dialect => 'klingon');
\echo :SQLSTATE

-- The shape of a push.
SELECT push_changes(NULL);
\echo :SQLSTATE
SELECT push_changes('');
\echo :SQLSTATE
SELECT push_changes('{');
\echo :SQLSTATE
SELECT push_changes('[]');
\echo :SQLSTATE
SELECT push_changes('"todos"');
\echo :SQLSTATE
SELECT push_changes('null');
\echo :SQLSTATE
SELECT push_changes('1e999999');
\echo :SQLSTATE
SELECT push_changes('{"todos": []}');
\echo :SQLSTATE
SELECT push_changes('{"todos": null}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"created": {}}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"created": ["1"]}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"created": [null]}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"created": [[]]}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"deleted": [null]}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"deleted": [true]}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"deleted": "1"}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"upserted": []}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"deleted": [], "deleted": ["1"]}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"deleted": []}, "todos": {"deleted": ["1"]}}');
\echo :SQLSTATE
SELECT push_changes('{"unsynced": {"deleted": ["1"]}}');
\echo :SQLSTATE
SELECT push_changes('{"__proto__": {"deleted": ["1"]}}');
\echo :SQLSTATE

-- Records and ids.
SELECT push_changes('{"todos": {"created": [{}]}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"created": [{"title": "no id"}]}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"created": [{"id": null}]}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"created": [{"id": {"a": 1}}]}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"created": [{"id": "not a number"}]}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"created": [{"id": 99999999999}]}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"created": [{"id": 1.5}]}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"deleted": ["not a number"]}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"deleted": [{"title": "no id"}]}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"created": [{"id": 2}, {"id": 3, "nope": 1}]}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"created": [{"id": 2, "__proto__": {"polluted": true}}]}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"created": [{"id": 2, "ctid": "(0,1)"}]}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"created": [{"id": 2, "title\" = (SELECT 1) --": "x"}]}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"updated": [{"id": 1, "at": "not a time"}]}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"updated": [{"id": 1, "at": 1e300}]}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"updated": [{"id": 1, "at": true}]}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"updated": [{"id": 1, "u": "xyz"}]}}');
\echo :SQLSTATE

-- Text that PostgreSQL cannot hold.
SELECT push_changes('{"todos": {"updated": [{"id": 1, "title": "nul \u0000"}]}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"updated": [{"id": 1, "doc": {"deep": ["\u0000"]}}]}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"updated": [{"id": 1, "doc": {"\u0000": 1}}]}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"updated": [{"id": 1, "title": "half \ud83d"}]}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"updated": [{"id": 1, "title": "half \udc00 \ud83d\ude00"}]}}');
\echo :SQLSTATE
SELECT push_changes('{"to\u0000dos": {}}');
\echo :SQLSTATE
SELECT push_changes('{"todos": {"deleted": ["\u0000"]}}');
\echo :SQLSTATE
SELECT push_changes(convert_from('\x7b22ff227d', 'UTF8')::json);
\echo :SQLSTATE

-- Size and depth.
SELECT push_changes(('{"todos": {"updated": [{"id": 1, "doc": ' || repeat('[', 1000) || repeat(']', 1000) || '}]}}')::json);
\echo :SQLSTATE
SELECT push_changes(('{"todos": {"updated": [{"id": 1, "doc": ' || repeat('{"a":', 1000) || '1' || repeat('}', 1000) || '}]}}')::json);
\echo :SQLSTATE
SELECT push_changes((repeat('[', 1000) || repeat(']', 1000))::json);
\echo :SQLSTATE
SELECT push_changes(('{"todos": {"updated": [{"id": 1, "doc": 1' || repeat('0', 200000) || '}]}}')::json);
\echo :SQLSTATE
SELECT push_changes(('{"todos": {"updated": [{"id": 1, "' || repeat('x', 100000) || '": 1}]}}')::json);
\echo :SQLSTATE
SELECT push_changes(('{"' || repeat('x', 100000) || '": {}}')::json);
\echo :SQLSTATE
SELECT push_changes(('{"todos": {"deleted": ["' || repeat('1', 100) || '"]}}')::json);
\echo :SQLSTATE

-- Nothing was applied, this is the session that began, and it works; inside a transaction an error leaves it to be rolled back.
SELECT * FROM todos;
SELECT pg_backend_pid() = :pid;
BEGIN;
INSERT INTO todos VALUES (2, 'two');
SAVEPOINT a;
SELECT pull_changes('{nope}');
ROLLBACK TO a;
SELECT push_changes('{"todos": {"updated": [{"id": 2, "title": "TWO"}]}}');
SAVEPOINT b;
SELECT push_changes('{"todos": {"updated": [{"id": 1, "title": "ONE"}, {"id": 2, "nope": 1}]}}');
ROLLBACK TO b;
COMMIT;
SELECT id, title FROM todos ORDER BY 1;
SELECT * FROM t.pull('{todos}', '1') WHERE item IS NOT NULL;
-- A trigger of the application that raises an error with a code of its own: the client gets that.
CREATE FUNCTION t.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'no more todos' USING ERRCODE = 'PT402', DETAIL = 'The plan allows two.', HINT = 'Upgrade.';
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON todos FOR EACH ROW EXECUTE FUNCTION t.refuse();
SELECT push_changes('{"todos": {"created": [{"id": 3}]}}');
\echo :SQLSTATE
DROP TRIGGER refuse ON todos;
-- Constraints keep their names.
ALTER TABLE todos ADD CONSTRAINT short CHECK (length(title) < 10);
SELECT push_changes('{"todos": {"created": [{"id": 3, "title": "much too long a title"}]}}');
\echo :SQLSTATE
-- So it is where no statement of snapsync's is under way at all: an error of planning, say.
CREATE FUNCTION t.folded(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'not to be planned' USING ERRCODE = 'PT402', DETAIL = 'It is folded.', HINT = 'Do not plan.', TABLE = 'todos', CONSTRAINT = 'short';
END $$;
DO $$
DECLARE c text; s text;
BEGIN
    PERFORM id FROM todos WHERE id = t.folded(1);
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS c = CONSTRAINT_NAME;
    RAISE NOTICE '% % %', SQLSTATE, SQLERRM, c;
END $$;
-- Nor is it less where a user's function fails while an answer is written.
CREATE TYPE tea AS ENUM ('black', 'green');
CREATE FUNCTION t.brew(tea) RETURNS json LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE 'no coffee' USING ERRCODE = 'PT418', HINT = 'Ask a coffee pot.'; END $$;
CREATE CAST (tea AS json) WITH FUNCTION t.brew(tea);
CREATE TABLE teas (id int PRIMARY KEY, tea tea);
SELECT snapsync.enable('teas');
INSERT INTO teas VALUES (1, 'green');
SELECT pull_changes('{teas}');
\echo :SQLSTATE
-- What is remembered of an error to be answered is gone with the answer.
ALTER TABLE todos ALTER title SET NOT NULL;
SELECT format('{"todos": {"created": [%s]}}', string_agg(format('{"id": %s}', n), ',')) AS untitled FROM generate_series(100, 3099) AS n \gset
SELECT length(push_changes(:'untitled', on_rejected => 'report')::text) > 100000 AS told;
SELECT total_bytes AS before FROM pg_backend_memory_contexts WHERE name = 'TopMemoryContext' \gset
SELECT length(push_changes(:'untitled', on_rejected => 'report')::text) > 100000 AS told;
SELECT total_bytes - :before < 100000 AS nothing_is_left FROM pg_backend_memory_contexts WHERE name = 'TopMemoryContext';
-- Where it arose is told as of a statement of the caller's own: the function, its line, and its statement that fails; nothing of the statements that snapsync runs.
CREATE FUNCTION t.names_what_is_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM gone WHERE id = NEW.id;
    RETURN NEW;
END $$;
CREATE TRIGGER names_what_is_gone BEFORE INSERT ON teas FOR EACH ROW EXECUTE FUNCTION t.names_what_is_gone();
\set SHOW_CONTEXT errors
SELECT push_changes('{"teas": {"created": [{"id": 2}]}}');
DO $$
DECLARE c text;
BEGIN
    PERFORM push_changes('{"teas": {"created": [{"id": 2}]}}');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS c = PG_EXCEPTION_CONTEXT;
    RAISE NOTICE '%', c;
END $$;
DROP TRIGGER names_what_is_gone ON teas;
-- Of the owner's SQL it is not.
CREATE TABLE scoped (id int PRIMARY KEY, org int);
CREATE FUNCTION t.orgs() RETURNS int[] STABLE LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('t.fails', true) = '1' THEN EXECUTE format('SELECT %L::int', 'a secret of the owner'); END IF;
    RETURN '{1}';
END $$;
SELECT snapsync.enable('scoped', scope_column => 'org', scope_values => 't.orgs()');
GRANT ALL ON scoped TO alice;
SET t.fails = 1;
SET ROLE alice;
SELECT pull_changes('{scoped}') #> '{changes,scoped}';
RESET ROLE;
-- What somebody's code has caught is forgotten. A later error of the same words, which everybody can raise, says nothing of the rows that the first one was about.
CREATE FUNCTION t.careful(text) RETURNS json IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN $1::json; EXCEPTION WHEN OTHERS THEN RETURN NULL; END $$;
CREATE TABLE docs (id int PRIMARY KEY, meta text);
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON docs USING (t.careful(meta) ->> 'owner' = current_user);
CREATE TABLE echoed (id int PRIMARY KEY);
CREATE FUNCTION t.says_the_same() RETURNS bool STABLE LANGUAGE plpgsql AS $$
BEGIN
    RAISE 'invalid input syntax for type json' USING ERRCODE = 'internal_error';
END $$;
ALTER TABLE echoed ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON echoed USING (t.says_the_same());
GRANT ALL ON docs, echoed TO alice;
SELECT snapsync.enable('docs'), snapsync.enable('echoed');
INSERT INTO docs VALUES (1, '{"owner": "bob", "iban": "DE89 3704", x');
INSERT INTO echoed VALUES (1);
SET ROLE alice;
SELECT pull_changes('{docs}') #> '{changes,docs}';
SELECT pull_changes('{echoed}');
\echo :SQLSTATE
-- Nor within one statement.
RESET ROLE;
DROP POLICY p ON echoed;
CREATE POLICY p ON echoed USING (t.careful('{"owner": "bob", x') IS NOT NULL OR t.says_the_same());
SET ROLE alice;
SELECT pull_changes('{echoed}');
\echo :SQLSTATE
RESET ROLE;
-- What no handler was for is raised again, with its own code and names.
CREATE FUNCTION t.handles_others() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        RAISE 'no coffee' USING ERRCODE = 'PT418', HINT = 'Ask a coffee pot.', CONSTRAINT = 'tea_only';
    EXCEPTION WHEN division_by_zero THEN NULL;
    END;
END $$;
CREATE TRIGGER handles_others BEFORE INSERT ON docs FOR EACH ROW EXECUTE FUNCTION t.handles_others();
SELECT push_changes('{"docs": {"created": [{"id": 2}]}}');
\echo :SQLSTATE
-- Where old rows are judged within a statement of which its user may be told, that is not told all the same.
CREATE TABLE gone (id int PRIMARY KEY, kind text);
CREATE TABLE kinds (kind text);
CREATE FUNCTION t.by_kind(kind text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN EXECUTE format('INSERT INTO kinds VALUES (%L)', kind); RETURN true; END $$;
ALTER TABLE gone ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON gone USING (t.by_kind(kind));
CREATE TABLE pulls (id int PRIMARY KEY, since text);
CREATE FUNCTION t.pulls() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    c text;
BEGIN
    PERFORM set_config('transaction_read_only', 'on', true);
    PERFORM pull_changes('{gone}', NEW.since);
    RETURN NEW;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS c = PG_EXCEPTION_CONTEXT;
    RAISE NOTICE 'CONTEXT of %: %', SQLERRM, c;
    RAISE;
END $$;
CREATE TRIGGER pulls BEFORE INSERT ON pulls FOR EACH ROW EXECUTE FUNCTION t.pulls();
GRANT ALL ON gone, kinds, pulls TO alice;
SELECT snapsync.enable('gone'), snapsync.enable('pulls');
SET ROLE alice;
SELECT pull_changes('{gone}') ->> 'timestamp' AS c \gset
RESET ROLE;
INSERT INTO gone VALUES (1, 'a secret');
DELETE FROM gone;
SET ROLE alice;
BEGIN READ ONLY;
SELECT pull_changes('{gone}', :'c');
ROLLBACK;
SELECT push_changes(json_build_object('pulls', json_build_object('created', json_build_array(json_build_object('id', 1, 'since', :'c')))));
RESET ROLE;
-- What a function raises of old rows is nothing but unknown, whatever code it takes.
CREATE OR REPLACE FUNCTION t.by_kind(kind text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'locked: %', kind USING ERRCODE = 'lock_not_available'; END $$;
SET ROLE alice;
SELECT pull_changes('{gone}') ->> 'timestamp' AS c \gset
RESET ROLE;
INSERT INTO gone VALUES (2, 'a secret');
DELETE FROM gone;
SET ROLE alice;
SELECT pull_changes('{gone}', :'c') #> '{reason}';
RESET ROLE;
\set SHOW_CONTEXT never
SELECT pg_backend_pid() = :pid;
