-- How table $1 of database $2 of cluster $3 is read, and what its log is worth (catalog.rs, `TableRead`).
SELECT row_to_json(s)
FROM (SELECT r.relkind = 'p' AS partitioned,
             md5(c.shape::text) AS shape,
             -- The rows of a partition that is being detached concurrently are gone; the event trigger hears of it in the end only.
             -- Nobody has looked at a table here whose shape is of another database (shape/unseen.rs).
             c.shape ->> 'identity' IS DISTINCT FROM concat_ws(' ', $3::text, $2::oid, c.relation::oid)
                 OR EXISTS (SELECT FROM snapsync.dependency AS d WHERE d.relation = c.relation AND d.classid = 0)
                 OR EXISTS (SELECT FROM snapsync.parts(c.relation) AS part(oid)
                            WHERE EXISTS (SELECT FROM pg_inherits WHERE inhparent = part.oid AND inhdetachpending OFFSET 0))
                 OR EXISTS (SELECT FROM snapsync.owners_moved(c.relation)) OR EXISTS (SELECT FROM snapsync.lost_unseen(c.relation)) AS due,
             EXISTS (WITH RECURSIVE read(oid) AS (
                         SELECT c.relation
                         UNION SELECT a.access FROM read JOIN snapsync.access AS a ON a.relation = read.oid AND NOT a.untracked)
                     SELECT FROM read
                     -- (What is read may be tracked no more, and nobody could say so here: edges.rs.)
                     WHERE EXISTS (SELECT FROM snapsync.access AS a WHERE a.relation = read.oid
                                   AND (a.untracked OR NOT EXISTS (SELECT FROM snapsync.collection WHERE relation = a.access OFFSET 0)))
                        OR EXISTS (SELECT FROM snapsync.dependency WHERE relation = read.oid AND classid = 0 OFFSET 0)
                        OR EXISTS (SELECT FROM snapsync.collection AS k WHERE k.relation = read.oid
                                   AND k.shape ->> 'identity' IS DISTINCT FROM concat_ws(' ', $3::text, $2::oid, k.relation::oid))
                        OR EXISTS (SELECT FROM snapsync.parts(read.oid) AS part(oid)
                                   WHERE EXISTS (SELECT FROM pg_inherits WHERE inhparent = part.oid AND inhdetachpending OFFSET 0))
                        OR EXISTS (SELECT FROM snapsync.owners_moved(read.oid)) OR EXISTS (SELECT FROM snapsync.lost_unseen(read.oid))
                        OR read.oid <> c.relation AND EXISTS (SELECT FROM snapsync.switched_off(read.oid))) AS unsure,
             (SELECT coalesce(json_agg(row_to_json(a)), '[]')
              FROM (SELECT access::oid::int8, predicate, whole,
                           -- (A key that it may follow was not enforced, and nobody has looked since: unenforced.rs.)
                           kind = 'parent' AND NOT EXISTS (SELECT FROM snapsync.dependency
                               WHERE relation = $1 AND classid = 'pg_constraint'::regclass AND name = 'unenforced') AS parent,
                           untracked OR access <> relation AND EXISTS (SELECT FROM snapsync.switched_off(access)) AS untracked
                    FROM snapsync.access WHERE relation = $1) AS a) AS access
      FROM snapsync.collection AS c JOIN pg_class AS r ON r.oid = c.relation WHERE c.relation = $1) AS s
