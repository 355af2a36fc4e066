-- Drops entries that later ones say as well (retention.rs says why); gives how many.
WITH entry AS (
    SELECT c.ctid AS place, e.key,
           upper(c.op::text) = 'U' AND c.image IS NULL AND lead(c.stamp) OVER later IS NOT NULL
               AND NOT (c.op = 'U' AND bool_or(c.op IN ('u', 'd') AND c.image IS NOT NULL) OVER same_stamp)
               AND coalesce(lead(c.origin) OVER later = c.origin, lead(c.origin) OVER later IS NULL)
               AND coalesce(c.columns <@ lead(c.columns) OVER later, lead(c.columns) OVER later IS NULL)
               AND NOT (lead(c.as_sent) OVER later IS NOT NULL AND c.as_sent IS NULL)
               AND c.columns IS DISTINCT FROM '{0}' AS superseded
    FROM snapsync.change AS c
         LEFT JOIN snapsync.early AS w ON w.early = c.stamp
         CROSS JOIN LATERAL unnest(coalesce(c.keys, ARRAY[c.key])) AS e(key)
    WHERE c.op <> 'R'
    WINDOW later AS (PARTITION BY c.relation, c.scope, e.key ORDER BY coalesce(w.stamp, c.stamp), c.ord),
           same_stamp AS (PARTITION BY c.relation, c.scope, e.key, c.stamp)),
thinned AS (
    SELECT place, array_agg(key) FILTER (WHERE NOT superseded) AS keys, count(*) FILTER (WHERE superseded) AS dropped
    FROM entry GROUP BY place HAVING bool_or(superseded)),
ours AS (
    SELECT t.* FROM thinned AS t JOIN snapsync.change AS c ON c.ctid = t.place FOR UPDATE OF c SKIP LOCKED),
emptied AS (
    DELETE FROM snapsync.change AS c USING ours AS t WHERE c.ctid = t.place AND t.keys IS NULL),
left_over AS (
    UPDATE snapsync.change AS c SET keys = t.keys FROM ours AS t WHERE c.ctid = t.place AND t.keys IS NOT NULL),
moved AS (
    UPDATE snapsync.compaction SET number = number + 1 WHERE EXISTS (SELECT FROM ours WHERE keys IS NOT NULL))
SELECT coalesce(sum(dropped), 0) FROM ours
