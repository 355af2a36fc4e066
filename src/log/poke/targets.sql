-- The collections whose pokes changes of table $1 are a reason for: its own, and those whose policies read it, maybe through others. parent:
-- only updates of what policies read move who sees the rows there (poke.rs).
WITH RECURSIVE reader(relation, own, parent) AS (
    SELECT $1::regclass, true, false
    UNION
    SELECT a.relation, false, CASE WHEN r.own THEN a.kind = 'parent' AND NOT EXISTS (SELECT FROM snapsync.dependency AS d
               WHERE d.relation = a.relation AND d.classid = 'pg_constraint'::regclass AND d.name = 'unenforced') ELSE r.parent END
    FROM reader AS r JOIN snapsync.access AS a ON a.access = r.relation AND NOT a.untracked
)
SELECT row_to_json(t)
FROM (SELECT c.name, c.relation::oid::int8 AS relation, c.notify, r.own, bool_and(r.parent) AS parent
      FROM reader AS r JOIN snapsync.collection AS c ON c.relation = r.relation
      WHERE c.name IS NOT NULL AND c.notify <> 'none'
      GROUP BY c.name, c.relation, c.notify, r.own) AS t
