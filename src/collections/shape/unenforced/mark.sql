-- Foreign keys from table $1 and to it are remembered as not enforced, in the shapes of the tables that have the keys.
UPDATE snapsync.collection AS c
SET shape = c.shape || jsonb_build_object('unenforced', coalesce(nullif(c.shape -> 'unenforced', 'null'), '[]') || keys.new)
FROM (SELECT k.relation, jsonb_agg(f.oid::text) AS new
      FROM (SELECT oid, conrelid FROM pg_constraint WHERE conrelid = $1 AND contype = 'f'
            UNION
            SELECT f.oid, f.conrelid
            FROM pg_depend AS d JOIN pg_constraint AS f ON f.oid = d.objid AND f.contype = 'f'
            WHERE d.classid = 'pg_constraint'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = $1) AS f
      JOIN snapsync.collection AS k ON k.relation = f.conrelid
      WHERE NOT coalesce(k.shape -> 'unenforced' ? f.oid::text, false)
      GROUP BY k.relation) AS keys
WHERE keys.relation = c.relation
