-- Declared tables of table $1 that were renamed are declared under the new name, too.
UPDATE snapsync.collection AS c
SET access_tables = c.access_tables || renamed.now
FROM (SELECT c.relation, jsonb_object_agg(format('%I.%I', n.nspname, r.relname), c.access_tables -> d.key) AS now
      FROM snapsync.collection AS c
      CROSS JOIN LATERAL jsonb_each_text(coalesce(nullif(c.shape -> 'declared', 'null'), '{}')) AS d
      JOIN pg_class AS r ON r.oid = d.value::oid
      JOIN pg_namespace AS n ON n.oid = r.relnamespace
      WHERE c.relation = $1 AND c.shape ->> 'identity' = snapsync.identity_of(c.relation) AND c.access_tables ? d.key
        AND NOT c.access_tables ? format('%I.%I', n.nspname, r.relname)
      GROUP BY c.relation) AS renamed
WHERE renamed.relation = c.relation
