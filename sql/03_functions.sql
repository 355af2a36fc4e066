-- The functions. pull_changes and push_changes go to the schema that CREATE EXTENSION names (public unless told
-- otherwise), where PostgREST finds them; the rest to snapsync. None is SECURITY DEFINER: all run as the caller, and what
-- they do past the caller's rights (reading and writing the log and the settings) they do inside, in Rust.

-- PostgREST, from 12 on, takes the value of a domain that is named as a media type for the answer itself. Of json it would make an
-- aggregate and parse the whole of it again. The name is that of any type: most clients send "Accept: */*", which a domain
-- "application/json" does not serve. In this schema, because PostgREST writes snapsync."*/*"(value), which a function of that name
-- would answer. To everybody else the value is json: a domain without constraints has its base type on the wire.
CREATE DOMAIN snapsync."*/*" AS json;
COMMENT ON DOMAIN snapsync."*/*" IS 'JSON that PostgREST passes on as it is, whatever a client accepts';

CREATE FUNCTION @extschema@.pull_changes(
    collections             text[],
    last_pulled_at          text DEFAULT NULL,
    dialect                 text DEFAULT NULL,
    filter                  jsonb DEFAULT NULL,
    client_id               text DEFAULT NULL,
    send_created_as_updated boolean DEFAULT false,
    skip_echoes             boolean DEFAULT false,
    page_size               integer DEFAULT NULL,
    next                    text DEFAULT NULL,
    schema_version          integer DEFAULT NULL,
    migration               jsonb DEFAULT NULL,
    since                   jsonb DEFAULT NULL,
    last_filter             jsonb DEFAULT NULL,
    lsn                     boolean DEFAULT false
) RETURNS snapsync."*/*"
LANGUAGE c STABLE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', 'snapsync_pull_changes';
COMMENT ON FUNCTION @extschema@.pull_changes(text[], text, text, jsonb, text, boolean, boolean, integer, text, integer, jsonb, jsonb, jsonb, boolean) IS
'What changed in these collections for the calling role since last_pulled_at (the timestamp of its previous pull; null for the first), as {"changes": {...}, "timestamp": n}; in pages of page_size rows, all but the last with "next" in place of "timestamp"';

CREATE FUNCTION @extschema@.wait_for_changes(
    collections             text[],
    last_pulled_at          text DEFAULT NULL,
    filter                  jsonb DEFAULT NULL,
    actions                 text DEFAULT 'changes',
    timeout                 interval DEFAULT NULL,
    dialect                 text DEFAULT NULL
) RETURNS json
LANGUAGE c STABLE PARALLEL UNSAFE COST 10000
AS 'MODULE_PATHNAME', 'snapsync_wait_for_changes';
COMMENT ON FUNCTION @extschema@.wait_for_changes(text[], text, jsonb, text, interval, text) IS
'Waits until a pull of these collections from last_pulled_at on would bring something: {"changed": [name, ...]}, with none when the time is up. actions: inserts, updates, deletes, collection (inserts and deletes), changes';

-- For connections of one's own: between looks it keeps no row from being vacuumed.
CREATE PROCEDURE snapsync.wait_for_changes(
    collections             text[],
    last_pulled_at          text DEFAULT NULL,
    filter                  jsonb DEFAULT NULL,
    actions                 text DEFAULT 'changes',
    timeout                 interval DEFAULT NULL,
    dialect                 text DEFAULT NULL,
    INOUT answer            json DEFAULT NULL
)
LANGUAGE c
AS 'MODULE_PATHNAME', 'snapsync_wait_and_let_go';
COMMENT ON PROCEDURE snapsync.wait_for_changes(text[], text, jsonb, text, interval, text, json) IS
'The same as the function, in transactions of its own; not inside a transaction block';

CREATE FUNCTION snapsync.track() RETURNS trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'snapsync_track';
COMMENT ON FUNCTION snapsync.track() IS
'Trigger that logs changed rows; made by snapsync.enable(), its argument says which columns are the key and which decide who sees a row';
-- Whoever adds a partition to a tracked table makes a trigger like the table's, for which PUBLIC must be able to execute it. It does
-- nothing in a trigger of any other name, nor for a table that is not tracked.

CREATE FUNCTION snapsync.enable(
    "table"                 regclass,
    name                    text DEFAULT NULL,
    key                     text[] DEFAULT NULL,
    columns                 text[] DEFAULT NULL,
    exclude                 text[] DEFAULT NULL,
    scope_column            text DEFAULT NULL,
    scope_values            text DEFAULT NULL,
    access_tables           jsonb DEFAULT NULL,
    conflict                text DEFAULT NULL,
    soft_delete_column      text DEFAULT NULL,
    readonly                text[] DEFAULT NULL,
    version_column          text DEFAULT NULL,
    conflict_function       regprocedure DEFAULT NULL,
    notify                  text DEFAULT NULL
) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'snapsync_enable';
COMMENT ON FUNCTION snapsync.enable(regclass, text, text[], text[], text[], text, text, jsonb, text, text, text[], text, regprocedure, text) IS
'Syncs a table, or changes how; for the table''s owner. Arguments left out keep what is set';

CREATE FUNCTION snapsync.disable("table" regclass) RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'snapsync_disable';
COMMENT ON FUNCTION snapsync.disable(regclass) IS
'Stops syncing a table and forgets its log; for the table''s owner';

CREATE FUNCTION snapsync.reset("table" regclass) RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'snapsync_reset';
COMMENT ON FUNCTION snapsync.reset(regclass) IS
'Makes every client take this collection anew with its next pull; for the table''s owner';

CREATE FUNCTION snapsync.prune(keep interval) RETURNS bigint
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'snapsync_prune';
COMMENT ON FUNCTION snapsync.prune(interval) IS
'Drops log entries older than this and returns how many; clients that have not pulled for longer take everything anew. For the owner of the extension';

CREATE FUNCTION snapsync.compact() RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'snapsync_compact';
COMMENT ON FUNCTION snapsync.compact() IS
'Drops log entries that later entries of the same rows say as well, and returns how many; no client notices. For the owner of the extension';

CREATE FUNCTION snapsync.poke_scope(collection text, value text) RETURNS text
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'snapsync_poke_scope';
COMMENT ON FUNCTION snapsync.poke_scope(text, text) IS
'What pokes on the channel snapsync call this scope of a collection. For gateways: GRANT EXECUTE to the role that listens, and to nobody who must not know who is active';
REVOKE EXECUTE ON FUNCTION snapsync.poke_scope(text, text) FROM PUBLIC;
