-- The tables in the log that are not there: from one to the next by the index, however many entries each has.
WITH RECURSIVE logged(relation) AS (
    (SELECT relation::oid FROM snapsync.change ORDER BY relation LIMIT 1)
    UNION ALL
    SELECT (SELECT c.relation::oid FROM snapsync.change AS c WHERE c.relation > l.relation ORDER BY c.relation LIMIT 1)
    FROM logged AS l WHERE l.relation IS NOT NULL)
SELECT relation FROM logged WHERE relation IS NOT NULL AND NOT EXISTS (SELECT FROM pg_class WHERE oid = relation)
