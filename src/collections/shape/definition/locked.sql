-- The tables that are locked to write the trees as SQL: those that they read, and whose columns they name.
WITH read AS MATERIALIZED (SELECT * FROM snapsync.rests_on($1, scopes => true))
SELECT DISTINCT k.oid
FROM (SELECT objid FROM read WHERE classid = 'pg_class'::regclass
      UNION ALL
      SELECT relid FROM snapsync.parts($1) AS t(relid)
      UNION ALL
      SELECT d.refobjid
      FROM snapsync.parts($1) AS t(relid)
      CROSS JOIN LATERAL (SELECT oid FROM pg_policy WHERE polrelid = t.relid OFFSET 0) AS p
      CROSS JOIN LATERAL (SELECT refobjid FROM pg_depend
                          WHERE classid = 'pg_policy'::regclass AND objid = p.oid AND refclassid = 'pg_class'::regclass OFFSET 0) AS d
      UNION ALL
      SELECT d.refobjid
      FROM snapsync.made_of($1) AS m(oid)
      CROSS JOIN LATERAL (SELECT castfunc FROM pg_cast WHERE castsource = m.oid AND casttarget = 'json'::regtype OFFSET 0) AS k
      CROSS JOIN LATERAL (SELECT refobjid FROM pg_depend
                          WHERE classid = 'pg_proc'::regclass AND objid = k.castfunc AND refclassid = 'pg_class'::regclass OFFSET 0) AS d) AS named(oid)
CROSS JOIN LATERAL (SELECT oid, relkind FROM pg_class WHERE oid = named.oid OFFSET 0) AS k
WHERE k.relkind <> 'i'
