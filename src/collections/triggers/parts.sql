-- Table $1 and its partitions with the state of our triggers on them (triggers.rs, `Part`, `State`); these are right if they have the
-- argument $2. $3 and $4 are the names of the row's and the statement's. (Each part's are looked up by themselves: joined, there are as many
-- pairs as the square of the parts.)
-- tgtype: 29 is AFTER ROW INSERT, DELETE, UPDATE, and 32 AFTER STATEMENT TRUNCATE (catalog/pg_trigger.h).
SELECT json_build_object('oid', c.oid::int8, 'root', c.oid = $1, 'row', coalesce(r.state, '"missing"'), 'truncate', coalesce(s.state, '"missing"'))
FROM snapsync.parts($1) AS t(oid)
CROSS JOIN LATERAL (SELECT oid FROM pg_class WHERE oid = t.oid AND relkind IN ('r', 'p') OFFSET 0) AS c
LEFT JOIN LATERAL (
    SELECT json_build_object(
               CASE WHEN g.tgtype <> 29 OR g.tgfoid <> 'snapsync.track'::regproc OR g.tgqual IS NOT NULL OR g.tgattr <> '' OR g.tgconstraint <> 0 THEN 'forged'
                    WHEN g.tgargs = convert_to($2, 'UTF8') || '\x00'::bytea THEN 'right'
                    ELSE 'wrong' END, g.tgenabled)
    FROM pg_trigger AS g WHERE g.tgrelid = t.oid AND g.tgname = $3::name OFFSET 0) AS r(state) ON true
LEFT JOIN LATERAL (
    SELECT json_build_object(
               CASE WHEN g.tgtype <> 32 OR g.tgfoid <> 'snapsync.track'::regproc OR g.tgqual IS NOT NULL OR g.tgattr <> '' OR g.tgconstraint <> 0 THEN 'forged'
                    WHEN g.tgargs = convert_to($2, 'UTF8') || '\x00'::bytea THEN 'right'
                    ELSE 'wrong' END, g.tgenabled)
    FROM pg_trigger AS g WHERE g.tgrelid = t.oid AND g.tgname = $4::name OFFSET 0) AS s(state) ON true
ORDER BY c.oid <> $1, c.oid
