-- Objects $2 of the catalogs $1, each with its owner, as text: those of who may not act as the owner of table $3, if one is given.
SELECT concat_ws(' ', i.type, i.identity, 'of', o.rolname)
FROM (SELECT class, object, CASE class WHEN 'pg_proc'::regclass THEN (SELECT proowner FROM pg_proc WHERE oid = object)
                                       WHEN 'pg_type'::regclass THEN (SELECT typowner FROM pg_type WHERE oid = object)
                                       ELSE (SELECT relowner FROM pg_class WHERE oid = object) END AS owner
      FROM unnest($1::oid[], $2::oid[]) AS named(class, object)) AS n
CROSS JOIN LATERAL (SELECT oid, rolname FROM pg_roles WHERE oid = n.owner OFFSET 0) AS o
CROSS JOIN LATERAL pg_identify_object(n.class, n.object, 0) AS i
WHERE $3::oid IS NULL OR NOT pg_has_role(o.oid, (SELECT relowner FROM pg_class WHERE oid = $3), 'USAGE')
