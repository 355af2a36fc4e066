-- The two functions as PostgREST calls them: named arguments out of a JSON body, SET LOCAL ROLE, claims, READ ONLY for pull.
\set ECHO none
\set test regress_postgrest_shape
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE TABLE tasks (id uuid PRIMARY KEY, owner text NOT NULL DEFAULT current_setting('request.jwt.claims', true)::json ->> 'sub', title text, due timestamptz);
ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tasks TO authenticated
    USING (owner = current_setting('request.jwt.claims', true)::json ->> 'sub')
    WITH CHECK (owner = current_setting('request.jwt.claims', true)::json ->> 'sub');
GRANT SELECT, INSERT, UPDATE, DELETE ON tasks TO authenticated;
SELECT snapsync.enable('tasks');

-- POST /rpc/push_changes as ann.
SET SESSION AUTHORIZATION authenticator;
BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
SELECT set_config('search_path', '"public", "extensions"', true), set_config('role', 'authenticated', true),
       set_config('request.jwt.claims', '{"sub":"ann","role":"authenticated"}', true), set_config('request.method', 'POST', true),
       set_config('request.path', '/rpc/push_changes', true) \g /dev/null
WITH pgrst_source AS (
    SELECT "public"."push_changes"("changes" := pgrst_args."changes", "last_pulled_at" := pgrst_args."last_pulled_at") AS pgrst_scalar
    FROM (SELECT '{"changes":{"tasks":{"created":[{"id":"00000000-0000-0000-0000-00000000000a","title":"Ann''s","due":"2026-11-21T07:50:00Z"}],"updated":[],"deleted":[]}},"last_pulled_at":null}'::json AS json_data) AS pgrst_payload,
         LATERAL (SELECT "changes", "last_pulled_at" FROM json_to_record(pgrst_payload.json_data) AS _("changes" json, "last_pulled_at" text) LIMIT 1) AS pgrst_args)
SELECT null::bigint AS total_result_set, 1 AS page_total, coalesce((json_agg(_postgrest_t.pgrst_scalar)->0)::text, 'null') AS body
FROM (SELECT pgrst_source.* FROM pgrst_source) AS _postgrest_t;
COMMIT;

-- POST /rpc/pull_changes as ann: STABLE, so READ ONLY. A number and a string are one cursor.
BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY;
SELECT set_config('search_path', '"public", "extensions"', true), set_config('role', 'authenticated', true),
       set_config('request.jwt.claims', '{"sub":"ann","role":"authenticated"}', true) \g /dev/null
WITH pgrst_source AS (
    SELECT "public"."pull_changes"("collections" := pgrst_args."collections", "last_pulled_at" := pgrst_args."last_pulled_at") AS pgrst_scalar
    FROM (SELECT '{"collections":["tasks"],"last_pulled_at":null}'::json AS json_data) AS pgrst_payload,
         LATERAL (SELECT "collections", "last_pulled_at" FROM json_to_record(pgrst_payload.json_data) AS _("collections" text[], "last_pulled_at" text) LIMIT 1) AS pgrst_args)
SELECT regexp_replace(coalesce((json_agg(_postgrest_t.pgrst_scalar)->0)::text, 'null'), '"timestamp":\d+', '"timestamp":n') AS body,
       set_config('t.cursor', (json_agg(_postgrest_t.pgrst_scalar)->0) ->> 'timestamp', false) IS NOT NULL
FROM (SELECT pgrst_source.* FROM pgrst_source) AS _postgrest_t;
COMMIT;
BEGIN READ ONLY;
SET LOCAL ROLE authenticated;
SELECT set_config('request.jwt.claims', '{"sub":"ann"}', true) \g /dev/null
SELECT count(DISTINCT pull_changes(collections, last_pulled_at)::text)
FROM json_array_elements(json_build_array(
         json_build_object('collections', '{tasks}'::text[], 'last_pulled_at', current_setting('t.cursor')::bigint),
         json_build_object('collections', '{tasks}'::text[], 'last_pulled_at', current_setting('t.cursor')))) AS body,
     json_to_record(body) AS _(collections text[], last_pulled_at text);
COMMIT;

-- bob sees nothing of hers, anon may not ask at all, the service role sees everything.
BEGIN READ ONLY;
SET LOCAL ROLE authenticated;
SELECT set_config('request.jwt.claims', '{"sub":"bob"}', true) \g /dev/null
SELECT pull_changes('{tasks}') -> 'changes';
COMMIT;
BEGIN READ ONLY;
SET LOCAL ROLE anon;
SELECT pull_changes('{tasks}') -> 'changes';
\echo :LAST_ERROR_SQLSTATE
COMMIT;
RESET SESSION AUTHORIZATION;
GRANT SELECT ON tasks TO service_role;
SET SESSION AUTHORIZATION authenticator;
BEGIN READ ONLY;
SET LOCAL ROLE service_role;
SELECT pull_changes('{tasks}') -> 'changes';
COMMIT;
-- Without claims the policy's setting is '' or missing: an error of the policy's own, or nothing.
BEGIN READ ONLY;
SET LOCAL ROLE authenticated;
SELECT * FROM t.error($$ SELECT pull_changes('{tasks}') $$);
COMMIT;

-- The same session serves one user after the other: nothing is kept from one to the next.
BEGIN; SET LOCAL ROLE authenticated; SELECT set_config('request.jwt.claims', '{"sub":"bob"}', true) \g /dev/null
SELECT push_changes('{"tasks": {"created": [{"id": "00000000-0000-0000-0000-00000000000b", "title": "Bob''s"}]}}');
COMMIT;
BEGIN; SET LOCAL ROLE authenticated; SELECT set_config('request.jwt.claims', '{"sub":"ann"}', true) \g /dev/null
SELECT pull_changes('{tasks}', current_setting('t.cursor')) -> 'changes';
COMMIT;
BEGIN; SET LOCAL ROLE authenticated; SELECT set_config('request.jwt.claims', '{"sub":"bob"}', true) \g /dev/null
SELECT pull_changes('{tasks}', current_setting('t.cursor')) -> 'changes';
COMMIT;
-- bob may not take ann's row, not update it, not delete it, not make one for her. That an id is taken cannot be hidden, what
-- is in the row can.
BEGIN; SET LOCAL ROLE authenticated; SELECT set_config('request.jwt.claims', '{"sub":"bob"}', true) \g /dev/null
SELECT * FROM t.error($$ SELECT push_changes('{"tasks": {"created": [{"id": "00000000-0000-0000-0000-00000000000a", "title": "taken"}]}}') $$);
SELECT * FROM t.error($$ SELECT push_changes('{"tasks": {"updated": [{"id": "00000000-0000-0000-0000-00000000000a", "title": "taken"}]}}') $$);
SELECT * FROM t.error($$ SELECT push_changes('{"tasks": {"deleted": ["00000000-0000-0000-0000-00000000000a"]}}') $$);
SELECT * FROM t.error($$ SELECT push_changes('{"tasks": {"created": [{"id": "00000000-0000-0000-0000-00000000000c", "owner": "ann"}]}}') $$);
COMMIT;
-- A push in a READ ONLY transaction is PostgreSQL's error.
BEGIN READ ONLY; SET LOCAL ROLE authenticated; SELECT set_config('request.jwt.claims', '{"sub":"ann"}', true) \g /dev/null
SELECT push_changes('{"tasks": {"updated": [{"id": "00000000-0000-0000-0000-00000000000a", "title": "x"}]}}');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
RESET SESSION AUTHORIZATION;
SELECT id, owner, title FROM tasks ORDER BY id;
-- Overloads are told apart by argument names only: every argument has one, and of the two push_changes one wants _changes, the other changes.
SELECT proname, count(*), bool_and(array_length(proargnames, 1) >= pronargs AND NOT '' = ANY (proargnames)) FROM pg_proc
WHERE proname IN ('pull_changes', 'push_changes') GROUP BY 1 ORDER BY 1;

-- What PostgREST 12 and later find when they look for handlers of media types: domains named as one, or as any, which a function
-- of a served schema returns. The handler is called by the domain's schema and name.
SELECT t.typnamespace::regnamespace, t.typname, p.pronamespace::regnamespace, p.proname
FROM pg_type AS t JOIN pg_proc AS p ON p.prorettype = t.oid
WHERE t.typbasetype <> 0 AND (t.typname ~* '^[A-Za-z0-9.-]+/[A-Za-z0-9.\+-]+$' OR t.typname = '*/*') AND NOT p.proretset AND p.prokind = 'f'
ORDER BY p.proname;
-- For all others it is json: on the wire, to operators and functions, and in what functions of theirs return.
SELECT pull_changes('{}') AS answer \gdesc
CREATE FUNCTION wrapped() RETURNS json LANGUAGE sql STABLE BEGIN ATOMIC SELECT pull_changes('{}'); END;
CREATE FUNCTION wrapped_text() RETURNS text LANGUAGE plpgsql STABLE AS 'BEGIN RETURN pull_changes(''{}''); END';
SELECT json_typeof(pull_changes('{}')), json_typeof(wrapped()), json_typeof(wrapped_text()::json), pull_changes('{}')::jsonb -> 'changes',
       jsonb_typeof(to_jsonb(pull_changes('{}'))), json_typeof(json_agg(pull_changes('{}')) -> 0), row_to_json(row(pull_changes('{}'))) #> '{f1,changes}';

-- Nobody can put a function in the handler's place: not into a schema of his own, which is not looked at, and not into this one.
SET ROLE bob;
CREATE FUNCTION public."*/*"(json) RETURNS json LANGUAGE sql AS $$ SELECT '{"planted": true}'::json $$;
CREATE FUNCTION public."*/*"(snapsync."*/*") RETURNS json LANGUAGE sql AS $$ SELECT '{"planted": true}'::json $$;
SELECT * FROM t.error($$ CREATE FUNCTION snapsync."*/*"(json) RETURNS json LANGUAGE sql AS 'SELECT $1' $$);
RESET ROLE;

-- What each release sends for POST /rpc/pull_changes, and what it gets: the answer, and its type among the headers.
CREATE FUNCTION t.rpc(body text, request text, path text DEFAULT '/rpc/pull_changes', headers text DEFAULT '')
RETURNS TABLE (answer text, response_headers text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('role', 'authenticated', true), set_config('request.jwt.claims', '{"sub":"ann"}', true),
            set_config('request.method', 'POST', true), set_config('request.path', path, true),
            set_config('response.headers', headers, true);
    RETURN QUERY EXECUTE format($sql$
        WITH pgrst_source AS (
            SELECT pgrst_call.pgrst_scalar
            FROM (SELECT $1::json AS json_data) pgrst_payload,
                 LATERAL (SELECT "collections", "dialect" FROM json_to_record(pgrst_payload.json_data) AS _("collections" text[], "dialect" text) LIMIT 1) pgrst_body,
                 LATERAL (SELECT "public"."pull_changes"("collections" := pgrst_body."collections", "dialect" := pgrst_body."dialect") pgrst_scalar) pgrst_call)
        SELECT regexp_replace((%s)::text, '"timestamp":\d+', '"timestamp":n'),
               nullif(current_setting('response.headers', true), '') AS response_headers
        FROM (SELECT "pull_changes".* FROM "pgrst_source" AS "pull_changes") _postgrest_t $sql$, body) USING request;
END
$$;
GRANT USAGE ON SCHEMA t TO authenticated;
\set request '{"collections":["tasks"],"dialect":"watermelondb"}'
-- 11 and before, and later ones for "application/vnd.pgrst.object+json" (.single()): an aggregate of one.
SELECT * FROM t.rpc($$ coalesce(json_agg(_postgrest_t.pgrst_scalar)->0, 'null') $$, :'request');
-- 12 to 14, for "*/*", "application/json" and whatever else.
SELECT * FROM t.rpc($$ "snapsync"."*/*"(_postgrest_t.pgrst_scalar) $$, :'request');
-- A type of PostgREST's own keeps its name.
SELECT set_config('request.headers', '{"accept": "application/vnd.pgrst.object+json"}', false) \g /dev/null
SELECT response_headers FROM t.rpc($$ coalesce(json_agg(_postgrest_t.pgrst_scalar)->0, 'null') $$, :'request');
RESET "request.headers";
-- Headers that a db-pre-request function has set stay.
SELECT response_headers FROM t.rpc($$ "snapsync"."*/*"(_postgrest_t.pgrst_scalar) $$, :'request', headers => '[{"Cache-Control": "no-store"}]');
SELECT response_headers FROM t.rpc($$ "snapsync"."*/*"(_postgrest_t.pgrst_scalar) $$, :'request', headers => '[{"content-type": "text/plain"}]');
SELECT response_headers FROM t.rpc($$ "snapsync"."*/*"(_postgrest_t.pgrst_scalar) $$, :'request', headers => 'none');
-- A function of somebody's that calls pull_changes says itself what it answers; and outside PostgREST nothing is said.
SELECT response_headers FROM t.rpc($$ "snapsync"."*/*"(_postgrest_t.pgrst_scalar) $$, :'request', '/rpc/my_pull_changes');
SELECT response_headers FROM t.rpc($$ "snapsync"."*/*"(_postgrest_t.pgrst_scalar) $$, :'request', '');
-- The plan has neither an aggregate nor a cast: the value is the answer.
BEGIN READ ONLY;
EXPLAIN (VERBOSE, COSTS OFF)
WITH pgrst_source AS (SELECT pgrst_call.pgrst_scalar FROM (SELECT public.pull_changes('{}') pgrst_scalar) pgrst_call)
SELECT null::bigint AS total_result_set, 1 AS page_total, "snapsync"."*/*"(_postgrest_t.pgrst_scalar) AS body FROM (SELECT "pull_changes".* FROM "pgrst_source" AS "pull_changes") _postgrest_t;
COMMIT;
