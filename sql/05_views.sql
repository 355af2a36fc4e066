-- What is synced. Everybody sees the tables that they may read: no condition or function of theirs is given other rows.

CREATE VIEW snapsync.status WITH (security_barrier) AS
SELECT c.name,
       c.relation::pg_catalog.regclass AS "table",
       c.key,
       c.columns,
       c.exclude,
       c.conflict,
       c.notify,
       r.relrowsecurity AS row_security,
       coalesce(c.scope_column, c.found_scope) AS scope,
       CASE WHEN c.scope_column IS NOT NULL THEN 'enable' WHEN c.found_scope IS NOT NULL THEN 'policies' END AS scope_from,
       CASE WHEN c.scope_column IS NULL THEN c.no_scope END AS no_scope,
       CASE WHEN t.count OPERATOR(pg_catalog.<) 2 THEN 'trigger missing'
            WHEN t.disabled THEN 'trigger disabled'
            WHEN NOT t.always THEN 'trigger not enabled always'
            ELSE 'tracking'
       END AS state
FROM snapsync.collection AS c
JOIN pg_catalog.pg_class AS r ON r.oid OPERATOR(pg_catalog.=) c.relation::pg_catalog.oid
CROSS JOIN LATERAL (
    -- Of the table and each of its partitions, as snapsync.parts() finds them, which not everybody may call: the one that stands worst. (A foreign
    -- table has none of our triggers.)
    WITH RECURSIVE part(oid, relkind) AS (
        SELECT r.oid, r.relkind
        UNION ALL
        SELECT k.oid, k.relkind
        FROM part CROSS JOIN LATERAL (
            SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i
            WHERE i.inhparent OPERATOR(pg_catalog.=) part.oid AND NOT i.inhdetachpending OFFSET 0) AS i
        CROSS JOIN LATERAL (
            SELECT p.oid, p.relkind FROM pg_catalog.pg_class AS p WHERE p.oid OPERATOR(pg_catalog.=) i.inhrelid AND p.relispartition OFFSET 0) AS k
    )
    SELECT pg_catalog.min(g.count) AS count, pg_catalog.bool_or(g.disabled) AS disabled, pg_catalog.bool_and(g.always) AS always
    FROM part CROSS JOIN LATERAL (
        SELECT pg_catalog.count(*) AS count,
               pg_catalog.bool_or(g.tgenabled OPERATOR(pg_catalog.=) 'D') AS disabled,
               pg_catalog.bool_and(g.tgenabled OPERATOR(pg_catalog.=) 'A') AS always
        FROM pg_catalog.pg_trigger AS g
        WHERE g.tgrelid OPERATOR(pg_catalog.=) part.oid
          AND g.tgname OPERATOR(pg_catalog.=) ANY ('{00_snapsync_track,00_snapsync_truncate}'::pg_catalog.name[])) AS g
    WHERE part.relkind OPERATOR(pg_catalog.<>) 'f'
) AS t
WHERE c.name IS NOT NULL
  AND (pg_catalog.has_table_privilege(r.oid, 'SELECT') OR pg_catalog.has_any_column_privilege(r.oid, 'SELECT'));
COMMENT ON VIEW snapsync.status IS 'The synced tables that the current role may read';
COMMENT ON COLUMN snapsync.status.name IS 'The name clients use';
COMMENT ON COLUMN snapsync.status."table" IS 'The table';
COMMENT ON COLUMN snapsync.status.key IS 'Columns that make a row''s id';
COMMENT ON COLUMN snapsync.status.columns IS 'The only columns synced; NULL for all';
COMMENT ON COLUMN snapsync.status.exclude IS 'Columns not synced';
COMMENT ON COLUMN snapsync.status.conflict IS 'What push_changes does when a row changed on both sides';
COMMENT ON COLUMN snapsync.status.notify IS 'Who is poked when rows change: none, notify, realtime, both';
COMMENT ON COLUMN snapsync.status.row_security IS 'Whether row-level security decides who syncs which row';
COMMENT ON COLUMN snapsync.status.scope IS 'Column that divides the rows: a pull reads only the changes of its caller''s values';
COMMENT ON COLUMN snapsync.status.scope_from IS 'Who says so: enable (scope_column) or the policies';
COMMENT ON COLUMN snapsync.status.no_scope IS 'Why there is none, or which roles the one from policies does not serve, so that their pulls read the changes of all users';
COMMENT ON COLUMN snapsync.status.state IS 'tracking, or what is wrong with its triggers, or with those of a partition';
GRANT SELECT ON snapsync.status TO PUBLIC;
