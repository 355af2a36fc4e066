-- What apps must know of the collections, version by version (src/collections/shape/versions.rs).

CREATE TABLE snapsync.schema_version (
    version             integer,
    name                text COLLATE "C",
    document            jsonb,
    ord                 integer NOT NULL DEFAULT 0,
    CONSTRAINT schema_version_version_key UNIQUE (version)
);
COMMENT ON TABLE snapsync.schema_version IS 'Each change of what clients can pull: columns, types, keys, references';
COMMENT ON COLUMN snapsync.schema_version.version IS 'Number, in the order of commits; NULL until the transaction commits. 1 is the empty schema';
COMMENT ON COLUMN snapsync.schema_version.name IS 'The collection that changed, by the name that clients use';
COMMENT ON COLUMN snapsync.schema_version.document IS 'What it is since; NULL: it is no more';
COMMENT ON COLUMN snapsync.schema_version.ord IS 'Order within the transaction';
ALTER TABLE snapsync.schema_version REPLICA IDENTITY FULL;
CREATE INDEX schema_version_name ON snapsync.schema_version (name, version);
INSERT INTO snapsync.schema_version (version) VALUES (1);

SELECT pg_catalog.pg_extension_config_dump('snapsync.schema_version', 'WHERE version OPERATOR(pg_catalog.>) 1');
REVOKE ALL ON snapsync.schema_version FROM PUBLIC;
CREATE TRIGGER snapsync_emptied BEFORE TRUNCATE ON snapsync.schema_version EXECUTE FUNCTION snapsync.emptied();
ALTER TABLE snapsync.schema_version ENABLE ALWAYS TRIGGER snapsync_emptied;

CREATE FUNCTION @extschema@.pull_schema(
    collections             text[],
    dialect                 text DEFAULT NULL,
    schema_version          integer DEFAULT NULL
) RETURNS json
LANGUAGE c STABLE PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'snapsync_pull_schema';
COMMENT ON FUNCTION @extschema@.pull_schema(text[], text, integer) IS
'What the calling role can pull of these collections: columns, types, keys, references, and a version that rises with each change; in the dialect watermelondb a schema for the app, and the steps of its migration from schema_version on';
