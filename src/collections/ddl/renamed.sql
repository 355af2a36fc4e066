-- The tracked tables that have got column $2 in the place of $1 by a command just now, and whose columns nobody knows by their numbers: no one has
-- looked at them in this database. With them, tables that inherit from these or are of these types.
WITH RECURSIVE reached(oid) AS (
    SELECT objid FROM pg_event_trigger_ddl_commands() WHERE classid = 'pg_class'::regclass
    UNION
    SELECT k.oid
    FROM reached CROSS JOIN LATERAL (
        SELECT i.inhrelid FROM pg_inherits AS i WHERE i.inhparent = reached.oid
        UNION ALL
        SELECT d.objid FROM (SELECT reltype FROM pg_class WHERE oid = reached.oid OFFSET 0) AS y
        CROSS JOIN LATERAL (SELECT objid FROM pg_depend WHERE refclassid = 'pg_type'::regclass AND refobjid = y.reltype
                               AND classid = 'pg_class'::regclass AND objsubid = 0 OFFSET 0) AS d) AS k(oid))
SELECT c.relation::oid
FROM reached JOIN snapsync.collection AS c ON c.relation = reached.oid
WHERE EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.relation AND attname = $2::name AND attnum > 0 AND NOT attisdropped)
  AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.relation AND attname = $1::name AND attnum > 0 AND NOT attisdropped)
  AND NOT snapsync.is_seen_here(c.relation)
