-- The tracked tables that have got column $2 in the place of $1 by a command of role $3 just now, and whose columns nobody knows by their numbers: no
-- one has looked at them in this database.
SELECT c.relation::oid
FROM (SELECT array_agg(objid) AS oids FROM pg_event_trigger_ddl_commands() WHERE classid = 'pg_class'::regclass) AS own
CROSS JOIN LATERAL snapsync.reached(own.oids, $3) AS reached(oid)
JOIN snapsync.collection AS c ON c.relation = reached.oid
WHERE EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.relation AND attname = $2::name AND attnum > 0 AND NOT attisdropped)
  AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.relation AND attname = $1::name AND attnum > 0 AND NOT attisdropped)
  AND NOT snapsync.is_seen_here(c.relation)
