-- The foreign keys below the tables $1, as facts.sql finds them: pairs of the table that is referred to and the one that refers to it.
WITH RECURSIVE below(parent, child) AS (
    SELECT NULL::oid, oid FROM unnest($1) AS t(oid)
    UNION
    SELECT b.child, coalesce(pg_partition_root(f.conrelid)::oid, f.conrelid)
    FROM below AS b CROSS JOIN LATERAL snapsync.parts(b.child) AS tree(relid)
    CROSS JOIN LATERAL (SELECT DISTINCT tgconstraint FROM pg_trigger WHERE tgrelid = tree.relid AND tgisinternal OFFSET 0) AS g
    CROSS JOIN LATERAL (SELECT * FROM pg_constraint WHERE oid = g.tgconstraint OFFSET 0) AS f
    WHERE f.contype = 'f' AND f.confrelid = tree.relid)
SELECT coalesce(json_agg(json_build_array(parent::int8, child::int8)), '[]') FROM below WHERE parent IS NOT NULL
