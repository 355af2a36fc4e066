-- Table $1 and its partitions with the state of our triggers on them (triggers.rs, `Part`, `State`); these are right if they have the
-- argument $2. $3 and $4 are the names of the row's and the statement's. (Each part's are looked up by themselves: joined, there are as many
-- pairs as the square of the parts.)
-- tgtype: 29 is AFTER ROW INSERT, DELETE, UPDATE, and 32 AFTER STATEMENT TRUNCATE (catalog/pg_trigger.h).
SELECT json_build_object('oid', c.oid::int8, 'root', c.oid = $1, 'row', coalesce(g.states -> $3, '"missing"'), 'truncate', coalesce(g.states -> $4, '"missing"'))
FROM snapsync.parts($1) AS t(oid)
CROSS JOIN LATERAL (SELECT oid FROM pg_class WHERE oid = t.oid AND relkind IN ('r', 'p') OFFSET 0) AS c
CROSS JOIN LATERAL (
    SELECT json_object_agg(tgname, json_build_object(
               CASE WHEN tgtype <> CASE tgname WHEN $3::name THEN 29 ELSE 32 END OR tgfoid <> 'snapsync.track'::regproc
                         OR tgqual IS NOT NULL OR tgattr <> '' OR tgconstraint <> 0 THEN 'forged'
                    WHEN tgargs = convert_to($2, 'UTF8') || '\x00'::bytea THEN 'right'
                    ELSE 'wrong' END, tgenabled)) AS states
    FROM pg_trigger WHERE tgrelid = t.oid AND tgname IN ($3::name, $4::name) OFFSET 0) AS g
ORDER BY c.oid <> $1, c.oid
