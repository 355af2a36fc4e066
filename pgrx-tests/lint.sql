-- One line for each finding in what the extension makes.
CREATE EXTENSION snapsync;

-- Everything that a person can meet has a comment.
SELECT pg_catalog.format('%s has no COMMENT', pg_catalog.pg_describe_object(d.classid, d.objid, 0))
FROM pg_catalog.pg_depend AS d
WHERE d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
  AND d.refobjid = (SELECT oid FROM pg_catalog.pg_extension WHERE extname = 'snapsync')
  AND d.deptype = 'e'
  AND d.classid IN ('pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_class'::pg_catalog.regclass,
                    'pg_catalog.pg_namespace'::pg_catalog.regclass, 'pg_catalog.pg_event_trigger'::pg_catalog.regclass)
  AND pg_catalog.obj_description(d.objid, (SELECT relname FROM pg_catalog.pg_class WHERE oid = d.classid)) IS NULL
ORDER BY 1;

CREATE TEMPORARY VIEW extension_function AS
SELECT p.*, l.lanname,
       EXISTS (SELECT FROM pg_catalog.unnest(p.proconfig) AS setting
               WHERE pg_catalog.regexp_replace(setting, '["[:space:]]', '', 'g') IN
                     ('search_path=pg_catalog,pg_temp', 'search_path=pg_catalog,snapsync,pg_temp')) AS pinned
FROM pg_catalog.pg_proc AS p
JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang
JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e'
WHERE d.refobjid = (SELECT oid FROM pg_catalog.pg_extension WHERE extname = 'snapsync');

-- With its caller's search_path, it would run its caller's functions and operators with its owner's rights.
SELECT pg_catalog.format('%s is SECURITY DEFINER without SET search_path = pg_catalog, pg_temp', oid::pg_catalog.regprocedure)
FROM extension_function WHERE prosecdef AND NOT pinned ORDER BY 1;

-- A text body is parsed when it runs, with the search_path of that moment. BEGIN ATOMIC is parsed here and now.
SELECT pg_catalog.format('%s (%s) has a text body without SET search_path = pg_catalog, pg_temp', oid::pg_catalog.regprocedure, lanname)
FROM extension_function WHERE lanname NOT IN ('c', 'internal') AND prosqlbody IS NULL AND NOT pinned ORDER BY 1;

-- The log and the bookkeeping are nobody's to read or to write but the owner's, save what is meant to be seen.
SELECT pg_catalog.format('PUBLIC may %s %s', a.privilege_type, c.oid::pg_catalog.regclass)
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = 'snapsync'
CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS a
WHERE a.grantee = 0 AND NOT (a.privilege_type = 'SELECT' AND c.relkind = 'v')
ORDER BY 1;

-- A view that leaves rows out must do so before its reader's own functions see them.
SELECT pg_catalog.format('%s is a view without security_barrier', c.oid::pg_catalog.regclass)
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = 'snapsync'
WHERE c.relkind = 'v' AND NOT coalesce(c.reloptions && '{security_barrier,security_barrier=true,security_barrier=on}', false)
ORDER BY 1;
