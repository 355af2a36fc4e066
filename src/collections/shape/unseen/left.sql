-- A table that nobody has looked at in database $1 of cluster $2, and that has its triggers $3 and $4, on all of its parts: in the middle of a
-- restore nothing is sure of it. Not one of $5, nor one with which somebody has failed. (unseen.rs)
SELECT c.relation::oid
FROM snapsync.collection AS c
WHERE c.shape ->> 'identity' IS DISTINCT FROM concat_ws(' ', $2::text, $1::oid, c.relation::oid)
  AND c.relation::oid <> ALL ($5::oid[])
  AND EXISTS (SELECT FROM pg_class AS r WHERE r.oid = c.relation AND NOT r.relispartition)
  AND NOT EXISTS (SELECT FROM snapsync.dependency AS d WHERE d.relation = c.relation AND d.classid = 0)
  AND NOT EXISTS (
    SELECT FROM snapsync.parts(c.relation) AS part(oid) JOIN pg_class AS r ON r.oid = part.oid AND r.relkind IN ('r', 'p')
    WHERE (SELECT count(*) FROM pg_trigger AS g WHERE g.tgrelid = r.oid AND g.tgname IN ($3::name, $4::name)) < 2)
LIMIT 1
