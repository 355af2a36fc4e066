-- A table that nobody has looked at in this database, and that has its triggers $1 and $2, on all of its parts: in the middle of a
-- restore nothing is sure of it. Not one of $3, nor one with which somebody has failed. (unseen.rs)
SELECT c.relation::oid
FROM snapsync.collection AS c
WHERE NOT snapsync.is_seen_here(c.relation)
  AND c.relation::oid <> ALL ($3::oid[])
  AND EXISTS (SELECT FROM pg_class AS r WHERE r.oid = c.relation AND NOT r.relispartition OFFSET 0)
  AND NOT EXISTS (SELECT FROM snapsync.dependency AS d WHERE d.relation = c.relation AND d.classid = 0)
  AND NOT EXISTS (
    SELECT FROM snapsync.parts(c.relation) AS part(oid)
    CROSS JOIN LATERAL (SELECT oid FROM pg_class WHERE oid = part.oid AND relkind IN ('r', 'p') OFFSET 0) AS r
    WHERE (SELECT count(*) FROM pg_trigger AS g WHERE g.tgrelid = r.oid AND g.tgname IN ($1::name, $2::name)) < 2)
LIMIT 1
