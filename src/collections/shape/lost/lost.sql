-- The tables that settings are about, and that are not there; with the collection's name, where it is one.
SELECT lost.relation, max(lost.name)
FROM (SELECT relation::oid, name FROM snapsync.collection
      UNION ALL SELECT relation::oid, NULL FROM snapsync.access
      UNION ALL SELECT access::oid, NULL FROM snapsync.access
      UNION ALL SELECT relation::oid, NULL FROM snapsync.dependency WHERE relation::oid <> 0 AND classid = 0) AS lost
WHERE NOT EXISTS (SELECT FROM pg_class WHERE oid = lost.relation)
GROUP BY lost.relation ORDER BY 2, 1
