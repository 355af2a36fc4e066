-- DDL on tracked tables: the settings follow renames, the logged columns follow the policies, and the clients are reset
-- where changes of rows cannot say what happened.

-- pg_partition_tree() would lock the partitions, and wait for whoever has them.
CREATE FUNCTION snapsync.parts(root oid) RETURNS SETOF oid
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH RECURSIVE part(oid) AS (
        SELECT root
        UNION ALL
        SELECT i.inhrelid FROM part
        JOIN pg_catalog.pg_inherits AS i ON i.inhparent OPERATOR(pg_catalog.=) part.oid AND NOT i.inhdetachpending
        JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) i.inhrelid AND c.relispartition
    )
    SELECT oid FROM part;
END;
COMMENT ON FUNCTION snapsync.parts(oid) IS 'A table and its partitions, at all levels, without a lock on any';
REVOKE EXECUTE ON FUNCTION snapsync.parts(oid) FROM PUBLIC;

-- The server evaluates such a key when it first looks at the table, in whatever session and with whatever rights that is.
CREATE FUNCTION snapsync.calls_in_key(root oid) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT EXISTS (
        SELECT FROM snapsync.parts(root) AS part(oid)
        JOIN pg_catalog.pg_partitioned_table AS k ON k.partrelid OPERATOR(pg_catalog.=) part.oid AND k.partexprs IS NOT NULL
        JOIN pg_catalog.pg_depend AS d ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
             AND d.objid OPERATOR(pg_catalog.=) part.oid AND d.refobjid OPERATOR(pg_catalog.>=) 16384::oid
             AND d.refclassid OPERATOR(pg_catalog.=)
                 ANY ('{pg_catalog.pg_proc,pg_catalog.pg_operator}'::pg_catalog.regclass[]::oid[]));
END;
COMMENT ON FUNCTION snapsync.calls_in_key(oid) IS 'Does the partition key of a table, or of a part of it, call a function that somebody has made?';
REVOKE EXECUTE ON FUNCTION snapsync.calls_in_key(oid) FROM PUBLIC;

CREATE FUNCTION snapsync.on_command_end() RETURNS event_trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'snapsync_on_command_end';
COMMENT ON FUNCTION snapsync.on_command_end() IS 'Event trigger: looks again at tracked tables after DDL';

CREATE FUNCTION snapsync.on_drop() RETURNS event_trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'snapsync_on_drop';
COMMENT ON FUNCTION snapsync.on_drop() IS 'Event trigger: forgets dropped tables';

CREATE EVENT TRIGGER snapsync_command_end ON ddl_command_end
WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE POLICY', 'ALTER POLICY', 'GRANT', 'REVOKE', 'CREATE FUNCTION',
             'ALTER FUNCTION', 'ALTER ROUTINE', 'CREATE AGGREGATE', 'CREATE TRIGGER', 'ALTER TRIGGER', 'ALTER MATERIALIZED VIEW', 'CREATE VIEW', 'ALTER VIEW', 'CREATE RULE', 'REFRESH MATERIALIZED VIEW',
             'CREATE SCHEMA', 'ALTER SCHEMA', 'ALTER TYPE', 'ALTER DOMAIN', 'DROP OWNED', 'CREATE SUBSCRIPTION',
             'DROP SUBSCRIPTION')
EXECUTE FUNCTION snapsync.on_command_end();
COMMENT ON EVENT TRIGGER snapsync_command_end IS 'Keeps tracking right under DDL';

-- Whatever is dropped: with CASCADE, anything may take a policy or a column along.
CREATE EVENT TRIGGER snapsync_drop ON sql_drop
EXECUTE FUNCTION snapsync.on_drop();
COMMENT ON EVENT TRIGGER snapsync_drop IS 'Keeps tracking right under DROP';

CREATE FUNCTION snapsync.on_rewrite() RETURNS event_trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'snapsync_on_rewrite';
COMMENT ON FUNCTION snapsync.on_rewrite() IS 'Event trigger: resets clients of a table whose rows ALTER TABLE rewrites';

CREATE EVENT TRIGGER snapsync_rewrite ON table_rewrite
EXECUTE FUNCTION snapsync.on_rewrite();
-- Row triggers fire also where session_replication_role is replica; DDL must be followed there, too.
ALTER EVENT TRIGGER snapsync_command_end ENABLE ALWAYS;
ALTER EVENT TRIGGER snapsync_drop ENABLE ALWAYS;
ALTER EVENT TRIGGER snapsync_rewrite ENABLE ALWAYS;
REVOKE EXECUTE ON FUNCTION snapsync.on_command_end(), snapsync.on_drop(), snapsync.on_rewrite() FROM PUBLIC;
COMMENT ON EVENT TRIGGER snapsync_rewrite IS 'Notices changes that no row trigger sees';
