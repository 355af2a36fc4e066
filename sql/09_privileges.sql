-- Whoever creates the extension may have rules for what he makes (ALTER DEFAULT PRIVILEGES), and by these others may read the log, write the settings, or
-- make a trigger on a table of ours that runs as its owner. What is not meant is taken from them: the last act, for what comes after it would not be. A dump
-- has what was granted since (pg_init_privs), and no more.
SET LOCAL search_path = pg_catalog, pg_temp;
DO $$
DECLARE
    command text;
BEGIN
    FOR command IN SELECT o.revoke FROM snapsync.opened(at_first => true) AS o LOOP
        EXECUTE command;
    END LOOP;
END
$$;
