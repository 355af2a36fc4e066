-- What a push leaves behind: answers by push_id, and which mutations of which client were carried out. Only snapsync's own
-- code reads and writes these.

CREATE TABLE snapsync.push (
    who                 text COLLATE "C" NOT NULL,
    push_id             uuid NOT NULL,
    digest              bytea NOT NULL,
    since               bigint NOT NULL,
    at                  timestamptz NOT NULL,
    answer              text,
    CONSTRAINT push_pkey PRIMARY KEY (who, push_id)
);
COMMENT ON TABLE snapsync.push IS 'Pushes that were carried out, by push_id; kept for snapsync.push_retention';
COMMENT ON COLUMN snapsync.push.who IS 'JSON array: the role that pushed, and which signed-in user (sub of request.jwt.claims), if PostgREST said so; a digest of both where they are long';
COMMENT ON COLUMN snapsync.push.push_id IS 'The client''s id of the batch';
COMMENT ON COLUMN snapsync.push.digest IS 'SHA-256 of the batch';
COMMENT ON COLUMN snapsync.push.since IS 'From which stamp on the log has what it changed, and what was changed after it';
COMMENT ON COLUMN snapsync.push.at IS 'When';
COMMENT ON COLUMN snapsync.push.answer IS 'What was answered; NULL where that had more than 1 MB';
CREATE INDEX push_at ON snapsync.push (at);

CREATE TABLE snapsync.mutator (
    name                text COLLATE "C" NOT NULL,
    function            text NOT NULL,
    owner               name NOT NULL,
    CONSTRAINT mutator_pkey PRIMARY KEY (name)
);
COMMENT ON TABLE snapsync.mutator IS 'Functions that push_mutations calls; written by snapsync.register_mutator()';
COMMENT ON COLUMN snapsync.mutator.name IS 'The name clients use';
COMMENT ON COLUMN snapsync.mutator.function IS 'The function''s signature';
COMMENT ON COLUMN snapsync.mutator.owner IS 'Who owned it when it was registered: another owner''s of the same name is not called';

CREATE TABLE snapsync.mutation_client (
    who                 text COLLATE "C" NOT NULL,
    client_id           text COLLATE "C" NOT NULL,
    last_id             bigint NOT NULL,
    at                  timestamptz NOT NULL,
    CONSTRAINT mutation_client_pkey PRIMARY KEY (who, client_id)
);
COMMENT ON TABLE snapsync.mutation_client IS 'How far each client''s mutations were carried out';
COMMENT ON COLUMN snapsync.mutation_client.who IS 'JSON array: the role that pushed, and which signed-in user (sub of request.jwt.claims), if PostgREST said so';
COMMENT ON COLUMN snapsync.mutation_client.client_id IS 'The client';
COMMENT ON COLUMN snapsync.mutation_client.last_id IS 'Its last mutation that was carried out, or failed';
COMMENT ON COLUMN snapsync.mutation_client.at IS 'When';

CREATE TABLE snapsync.mutation_failure (
    who                 text COLLATE "C" NOT NULL,
    client_id           text COLLATE "C" NOT NULL,
    id                  bigint NOT NULL,
    name                text NOT NULL,
    code                text NOT NULL,
    message             text NOT NULL,
    constraint_name     text,
    at                  timestamptz NOT NULL,
    CONSTRAINT mutation_failure_pkey PRIMARY KEY (who, client_id, id)
);
COMMENT ON TABLE snapsync.mutation_failure IS 'Mutations that failed and were skipped: the newest 1,000 of each client; kept for snapsync.push_retention';
COMMENT ON COLUMN snapsync.mutation_failure.who IS 'JSON array: the role that pushed, and which signed-in user (sub of request.jwt.claims), if PostgREST said so';
COMMENT ON COLUMN snapsync.mutation_failure.client_id IS 'The client';
COMMENT ON COLUMN snapsync.mutation_failure.id IS 'The mutation';
COMMENT ON COLUMN snapsync.mutation_failure.name IS 'Its mutator';
COMMENT ON COLUMN snapsync.mutation_failure.code IS 'SQLSTATE';
COMMENT ON COLUMN snapsync.mutation_failure.message IS 'The error''s message';
COMMENT ON COLUMN snapsync.mutation_failure.constraint_name IS 'The constraint that refused it';
COMMENT ON COLUMN snapsync.mutation_failure.at IS 'When';
CREATE INDEX mutation_failure_at ON snapsync.mutation_failure (at);

SELECT pg_catalog.pg_extension_config_dump('snapsync.push', '');
SELECT pg_catalog.pg_extension_config_dump('snapsync.mutator', '');
SELECT pg_catalog.pg_extension_config_dump('snapsync.mutation_client', '');
SELECT pg_catalog.pg_extension_config_dump('snapsync.mutation_failure', '');

REVOKE ALL ON snapsync.push, snapsync.mutator, snapsync.mutation_client, snapsync.mutation_failure FROM PUBLIC;

CREATE FUNCTION @extschema@.push_changes(
    changes                 json,
    last_pulled_at          text DEFAULT NULL,
    dialect                 text DEFAULT NULL,
    client_id               text DEFAULT NULL,
    push_id                 uuid DEFAULT NULL,
    on_rejected             text DEFAULT 'abort'
) RETURNS json
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', 'snapsync_push_changes';
COMMENT ON FUNCTION @extschema@.push_changes(json, text, text, text, uuid, text) IS
'Applies a client''s changes, {"todos": {"created": [...], "updated": [...], "deleted": [...]}}, as the calling role; a pushed row that changed since last_pulled_at is a conflict. All or nothing (PT409 for conflicts), or with on_rejected => ''report'' all but what is refused';

-- For a client that calls it so and cannot be changed. Both arguments are json and none has a default: a call by place, or with a text, is
-- always the other function's, of whose second argument an unknown literal is a text first.
CREATE FUNCTION @extschema@.push_changes(
    _changes                json,
    last_pulled_at          json
) RETURNS timestamptz
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', 'snapsync_push_from_drift';
COMMENT ON FUNCTION @extschema@.push_changes(json, json) IS
'The same for the Drift/Supabase client, which calls it with _changes and its own local time: of two changes of a row the one with the later version_column stands; returns the time to pull from next';

CREATE FUNCTION @extschema@.push_mutations(
    mutations               json,
    client_id               text
) RETURNS json
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', 'snapsync_push_mutations';
COMMENT ON FUNCTION @extschema@.push_mutations(json, text) IS
'Carries out a client''s mutations, [{"id": 1, "name": "like_quote", "args": {...}}, ...], in order and each once, as the calling role; answers {"last_id": n, "failures": [...]}';

CREATE FUNCTION snapsync.register_mutator(
    name                    text,
    function                regprocedure
) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'snapsync_register_mutator';
COMMENT ON FUNCTION snapsync.register_mutator(text, regprocedure) IS
'Lets clients call a function(json) or function(jsonb) by this name through push_mutations; NULL takes the name away. For the database''s owner';
