-- Table $1 and its partitions with the state of our triggers on them (triggers.rs, `Part`, `State`); these are right if they have the
-- argument $2. $3 and $4 are the names of the row's and the statement's.
-- tgtype: 29 is AFTER ROW INSERT, DELETE, UPDATE, and 32 AFTER STATEMENT TRUNCATE (catalog/pg_trigger.h).
WITH ours AS (
    SELECT g.tgrelid, g.tgname, json_build_object(
               CASE WHEN g.tgtype <> CASE g.tgname WHEN $3::name THEN 29 ELSE 32 END OR g.tgfoid <> 'snapsync.track'::regproc
                         OR g.tgqual IS NOT NULL OR g.tgattr <> '' OR g.tgconstraint <> 0 THEN 'forged'
                    WHEN g.tgargs = convert_to($2, 'UTF8') || '\x00'::bytea THEN 'right'
                    ELSE 'wrong' END, g.tgenabled) AS state
    FROM snapsync.parts($1) AS t(oid) CROSS JOIN LATERAL (
        SELECT * FROM pg_trigger WHERE tgrelid = t.oid AND tgname IN ($3::name, $4::name) OFFSET 0) AS g)
SELECT json_build_object(
    'oid', c.oid::int8,
    'root', c.oid = $1,
    'row', coalesce((SELECT state FROM ours WHERE tgrelid = c.oid AND tgname = $3::name), '"missing"'),
    'truncate', coalesce((SELECT state FROM ours WHERE tgrelid = c.oid AND tgname = $4::name), '"missing"'))
FROM snapsync.parts($1) AS t(oid) JOIN pg_class AS c ON c.oid = t.oid AND c.relkind IN ('r', 'p')
ORDER BY c.oid <> $1, c.oid
