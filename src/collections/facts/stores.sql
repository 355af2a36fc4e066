-- What a statement that writes table $1 stores besides what it says (facts.rs, `Stores`). Bits of tgtype as in facts.sql.
WITH tree AS (
    SELECT relid FROM snapsync.parts($1) AS part(relid)),
before AS (
    SELECT coalesce(bit_or(g.tgtype), 0::int2) AS events
    FROM tree CROSS JOIN LATERAL (SELECT tgtype, tgenabled FROM pg_trigger WHERE tgrelid = tree.relid OFFSET 0) AS g
    WHERE g.tgtype & 3::int2 = 3 AND g.tgenabled <> 'D'),
ruled AS (
    SELECT EXISTS (SELECT FROM pg_rewrite WHERE ev_class = $1) AS r),
attribute AS (
    SELECT a.attname, a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL AS filled,
           EXISTS (SELECT FROM pg_cast WHERE castsource = t.oid AND casttarget = 'json'::regtype OFFSET 0) AS has_cast
    FROM (SELECT * FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 OFFSET 0) AS a
    CROSS JOIN LATERAL (SELECT oid, typdefault FROM pg_type WHERE oid = a.atttypid OFFSET 0) AS t)
SELECT json_build_object(
    'inserts', events & 4::int2 = 0 AND NOT r,
    'updates', events & 16::int2 = 0 AND NOT r,
    'filled', (SELECT coalesce(json_agg(attname), '[]') FROM attribute WHERE filled),
    'cast', (SELECT coalesce(json_agg(attname), '[]') FROM attribute WHERE has_cast))
FROM before, ruled
