-- Where table $1 has more than $3 marks of kind $2 that a look is due: all but the running transaction's, and others' that are under way. Waits for nobody.
DELETE FROM snapsync.dependency WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM snapsync.dependency
    WHERE relation = $1 AND classid = 0 AND objid = $2::oid AND owner IS DISTINCT FROM pg_current_xact_id()::text
      AND (SELECT count(*) FROM (SELECT FROM snapsync.dependency WHERE relation = $1 AND classid = 0 AND objid = $2::oid LIMIT $3 + 1) AS marks) > $3
    FOR UPDATE SKIP LOCKED))
