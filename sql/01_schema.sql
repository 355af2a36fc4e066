-- snapsync: the schema that holds everything but the functions that clients call.

DO $$
BEGIN
    IF pg_catalog.current_setting('server_encoding') OPERATOR(pg_catalog.<>) 'UTF8' THEN
        RAISE EXCEPTION 'snapsync needs a database in UTF8, this one is in %', pg_catalog.current_setting('server_encoding')
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'JSON travels in UTF8. Create the database with ENCODING ''UTF8''.';
    END IF;
END
$$;

CREATE SCHEMA snapsync;
COMMENT ON SCHEMA snapsync IS 'Administration and log of snapsync, offline-first sync';
GRANT USAGE ON SCHEMA snapsync TO PUBLIC;
