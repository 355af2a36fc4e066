-- What was dropped. (A transaction that drops its temporary tables must not make others wait.) With concerned.sql.
WITH object AS MATERIALIZED (
    SELECT classid, objid FROM pg_event_trigger_dropped_objects() WHERE NOT is_temporary)
