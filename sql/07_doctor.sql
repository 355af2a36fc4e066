-- What is wrong or could be better. A `fix` is one statement that can be run as it is, whatever tables and roles are called:
-- it has no comments, and names stand in it as quoted identifiers or literals only. Where somebody has to decide or to fill
-- something in, there is no fix, and the `hint`, a constant text, says what to do.
--
-- Who asks need not be the table's owner, but a member of his role, or a superuser. So each fix says whether it is `left_to` somebody
-- else, who is told in the hint: it may take other rights, run SQL of the owner's in the name of who gives it, or make him stand up for
-- what the owner may not do (triggers on others' tables, others' functions). SET ROLE is no way around: a function can RESET it.
--
-- Nothing here runs what users can give: catalogs are read, and policies are deparsed. Of long texts the beginning is looked at, and each
-- is searched once, however many policies rest on it: one owner's function of 256 MB, or a hundred of them in the policies of a hundred
-- tables, must not keep the others from their findings.

CREATE FUNCTION snapsync.policy_text(policy oid) RETURNS text
LANGUAGE c STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'snapsync_policy_text';
COMMENT ON FUNCTION snapsync.policy_text(oid) IS
'What a policy asks for, as text; NULL where that fails, or where it would have to wait for a lock. For doctor()';

CREATE FUNCTION snapsync.planned_calls(policy oid) RETURNS text
LANGUAGE c STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'snapsync_planned_calls';
COMMENT ON FUNCTION snapsync.planned_calls(oid) IS
'The functions in a policy, an array of oids as text, that are called when it is planned: IMMUTABLE, with nothing of a row. For doctor()';
REVOKE EXECUTE ON FUNCTION snapsync.planned_calls(oid) FROM PUBLIC;

CREATE FUNCTION snapsync.reads_back(type oid) RETURNS boolean
LANGUAGE c STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'snapsync_reads_back';
COMMENT ON FUNCTION snapsync.reads_back(oid) IS
'Are old values of columns of this type read back from the log? Of those that take code of somebody''s to read they are not. For doctor()';
REVOKE EXECUTE ON FUNCTION snapsync.reads_back(oid) FROM PUBLIC;

CREATE FUNCTION snapsync.trigger_argument("table" oid) RETURNS text
LANGUAGE c STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'snapsync_trigger_argument';
COMMENT ON FUNCTION snapsync.trigger_argument(oid) IS 'What the triggers of a tracked table are told. For doctor()';
REVOKE EXECUTE ON FUNCTION snapsync.policy_text(oid), snapsync.trigger_argument(oid) FROM PUBLIC;

CREATE FUNCTION snapsync.read_or_named(relation oid, enabled boolean) RETURNS SETOF oid
LANGUAGE sql STABLE PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT r.objid
    FROM snapsync.rests_on($1, scopes => true) AS r
    WHERE r.classid = 'pg_class'::regclass AND ($2 OR (SELECT relrowsecurity FROM pg_class WHERE oid = $1))
    UNION
    -- What the settings name, with what that rests on.
    SELECT r.objid
    FROM (SELECT access_tables AS named, scope_reads -> 'tables' AS read FROM snapsync.collection WHERE relation = $1 OFFSET 0) AS c
    CROSS JOIN LATERAL (SELECT jsonb_object_keys(c.named) UNION SELECT jsonb_object_keys(c.read)) AS k(name)
    CROSS JOIN LATERAL snapsync.rests_on(NULL, indirectly => ARRAY[to_regclass(k.name)::oid]) AS r
    WHERE r.classid = 'pg_class'::regclass AND r.objid IS NOT NULL;
END;
COMMENT ON FUNCTION snapsync.read_or_named(oid, boolean) IS
'What a table reads, by policies (if they count, or will) or settings: beyond_owners()';
REVOKE EXECUTE ON FUNCTION snapsync.read_or_named(oid, boolean) FROM PUBLIC;

-- Every edge that one finds in the policies and settings is among these, and maybe one too many: then its owner is asked.
CREATE FUNCTION snapsync.beyond_owners(relation oid) RETURNS TABLE (reader oid, read oid)
LANGUAGE sql STABLE PARALLEL UNSAFE
BEGIN ATOMIC
    -- (What one reads is asked for once when it is found, and once more for the pairs: pairs that went on to others would ask for each way to a table.)
    WITH RECURSIVE found(oid) AS (
        SELECT $1
        UNION
        SELECT coalesce(pg_partition_root(via.read), via.read)
        FROM found CROSS JOIN LATERAL (
            SELECT t.read FROM snapsync.read_or_named(found.oid, found.oid = $1) AS t(read)
            UNION ALL
            SELECT inhrelid FROM pg_inherits WHERE inhparent = found.oid) AS via(read)
    ),
    edge AS (
        SELECT DISTINCT found.oid AS reader, coalesce(pg_partition_root(tree.oid), tree.oid) AS read
        FROM found CROSS JOIN LATERAL snapsync.read_or_named(found.oid, found.oid = $1) AS t(read)
        CROSS JOIN LATERAL (
            WITH RECURSIVE tree(oid) AS (
                SELECT t.read
                UNION
                SELECT i.inhrelid FROM tree CROSS JOIN LATERAL (SELECT FROM pg_class WHERE oid = tree.oid AND relkind <> 'p' OFFSET 0) AS p
                CROSS JOIN LATERAL (SELECT inhrelid FROM pg_inherits WHERE inhparent = tree.oid OFFSET 0) AS i)
            SELECT oid FROM tree) AS tree
    )
    SELECT e.reader, e.read
    FROM edge AS e
    JOIN pg_class AS r ON r.oid = e.reader AND r.relkind IN ('r', 'p')
    JOIN pg_class AS m ON m.oid = e.read AND m.relkind IN ('r', 'p') AND m.relpersistence <> 't'
    LEFT JOIN snapsync.access AS x ON x.relation = e.reader AND x.access = e.read
    -- (What could not be written there yet: edges.rs, `note`.)
    CROSS JOIN LATERAL (SELECT coalesce(bool_or(n.name = 'refused'), false), count(*) > 0
                        FROM snapsync.dependency AS n
                        WHERE n.relation = e.reader AND n.classid = 'pg_class'::regclass AND n.objid = e.read AND n.name IN ('refused', 'forgotten')) AS noted(refused, is_there)
    LEFT JOIN pg_roles AS v ON v.rolname = x.voucher AND NOT noted.is_there
    WHERE e.reader <> e.read AND m.relnamespace::regnamespace::text <> ALL ('{snapsync,pg_catalog,information_schema}')
      AND (x.refused IS TRUE OR noted.refused OR NOT (has_table_privilege(r.relowner, m.oid, 'TRIGGER') OR coalesce(has_table_privilege(v.oid, m.oid, 'TRIGGER'), false)));
END;
COMMENT ON FUNCTION snapsync.beyond_owners(oid) IS
'Where a table is enabled: which table reads another, by policies or settings, on which its owner may make no triggers, or whose owner wants none. Whoever enables it stands up for these';

CREATE FUNCTION snapsync.enabling_is_left_to(relation oid, who oid) RETURNS text
LANGUAGE sql STABLE PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT CASE WHEN NOT EXISTS (SELECT FROM snapsync.beyond_owners($1)) THEN NULL WHEN relowner = $2 THEN 'voucher' ELSE 'owner' END
    FROM pg_class WHERE oid = $1;
END;
COMMENT ON FUNCTION snapsync.enabling_is_left_to(oid, oid) IS 'Who else than this role is to enable a table: findings()';

-- (Types that its columns are of, and what these are made of: casts are looked up for what is below a domain or an array. Extensions' are everybody's.)
CREATE FUNCTION snapsync.key_is_left_to(key oid, who oid) RETURNS text
LANGUAGE sql STABLE PARALLEL UNSAFE
BEGIN ATOMIC
    WITH RECURSIVE made_of(oid) AS (
        SELECT t.atttypid
        FROM pg_constraint AS f JOIN pg_attribute AS t
          ON t.attrelid = f.conrelid AND t.attnum = ANY (f.conkey) OR t.attrelid = f.confrelid AND t.attnum = ANY (f.confkey)
        WHERE f.oid = $1
        UNION
        SELECT below.oid
        FROM made_of AS m JOIN pg_type AS y ON y.oid = m.oid
        CROSS JOIN LATERAL (SELECT y.typbasetype UNION ALL SELECT y.typelem
                            UNION ALL SELECT rngsubtype FROM pg_range WHERE y.oid IN (rngtypid, rngmultitypid)
                            UNION ALL SELECT atttypid FROM pg_attribute WHERE attrelid = y.typrelid AND attnum > 0 AND NOT attisdropped) AS below(oid)
        WHERE below.oid <> 0
    )
    SELECT CASE WHEN r.relowner <> $2 THEN 'owner'
                WHEN NOT (has_table_privilege($2, f.confrelid, 'REFERENCES')
                          OR (SELECT bool_and(has_column_privilege($2, f.confrelid, attnum, 'REFERENCES')) FROM unnest(f.confkey) AS attnum))
                  -- The check is a query, for which the planner evaluates what indexes of both tables, and of their parts, compute.
                  OR EXISTS (SELECT FROM (VALUES (f.conrelid), (f.confrelid)) AS ends(oid) CROSS JOIN LATERAL snapsync.parts(ends.oid) AS part(oid)
                             CROSS JOIN LATERAL (SELECT relowner FROM pg_class WHERE oid = part.oid OFFSET 0) AS p
                             JOIN pg_roles AS o ON o.oid = p.relowner AND o.oid <> $2 AND NOT o.rolsuper)
                  OR EXISTS (SELECT FROM made_of AS t JOIN pg_type AS y ON y.oid = t.oid AND y.oid >= 16384
                             JOIN pg_roles AS o ON o.oid = y.typowner AND o.oid <> $2 AND NOT o.rolsuper
                             WHERE NOT EXISTS (SELECT FROM pg_depend AS e WHERE e.classid = 'pg_type'::regclass AND e.objid = y.oid AND e.deptype = 'e'))
                THEN 'key' END
    FROM pg_constraint AS f JOIN pg_class AS r ON r.oid = f.conrelid WHERE f.oid = $1;
END;
COMMENT ON FUNCTION snapsync.key_is_left_to(oid, oid) IS
'Who else than this role is to add a foreign key anew, which runs in his name casts and operators of its columns'' types, and what indexes compute: findings()';

CREATE FUNCTION snapsync.named_otherwise(relation oid) RETURNS SETOF text
LANGUAGE sql STABLE PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT n.name
    FROM snapsync.collection AS c JOIN pg_class AS r ON r.oid = c.relation
    CROSS JOIN LATERAL (SELECT c.scope_reads AS reads UNION ALL SELECT p.value FROM jsonb_each(c.scope_reads -> 'predicates') AS p) AS s
    CROSS JOIN LATERAL (
        SELECT f.signature, 'pg_proc'::regclass::oid, (SELECT p.oid FROM snapsync.procedure_of(f.signature) AS p(oid))
        FROM jsonb_array_elements_text(s.reads -> 'functions') AS f(signature)
        UNION ALL
        SELECT t.name, 'pg_class'::regclass, to_regclass(t.name)::oid FROM jsonb_object_keys(s.reads -> 'tables') AS t(name)) AS n(name, class, object)
    CROSS JOIN LATERAL (SELECT CASE WHEN n.class = 'pg_proc'::regclass THEN (SELECT proowner FROM pg_proc WHERE oid = n.object)
                                    ELSE (SELECT relowner FROM pg_class WHERE oid = n.object) END AS owner) AS h
    WHERE c.relation = $1
      AND (h.owner IS NULL
           -- As depends/owners.sql writes them. (Of the system's none is.)
           OR n.object >= 16384 AND NOT pg_has_role(h.owner, r.relowner, 'USAGE')
              AND NOT coalesce(s.reads -> 'owners' ? (SELECT concat_ws(' ', i.type, i.identity, 'of', o.rolname)
                                                      FROM pg_identify_object(n.class, n.object, 0) AS i, pg_roles AS o WHERE o.oid = h.owner), false));
END;
COMMENT ON FUNCTION snapsync.named_otherwise(oid) IS
'The functions and tables that a table''s scope_values and predicates name, and that are gone, or another owner''s than when they were given, who may not act as the table''s';

-- To name a function anew is to trust whoever owns it now.
CREATE FUNCTION snapsync.conflict_function_stands(relation oid) RETURNS boolean
LANGUAGE sql STABLE PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT c.conflict_function IS NULL OR EXISTS (
        SELECT FROM pg_proc AS f JOIN pg_roles AS o ON o.oid = f.proowner
        WHERE f.oid = to_regprocedure(c.conflict_function) AND (o.rolname = c.conflict_owner OR pg_has_role(o.oid, r.relowner, 'USAGE')))
    FROM snapsync.collection AS c JOIN pg_class AS r ON r.oid = c.relation WHERE c.relation = $1;
END;
COMMENT ON FUNCTION snapsync.conflict_function_stands(oid) IS
'Is a table''s conflict function, if it has one, still the one that was named, or of who may act as the table''s owner?';
CREATE FUNCTION snapsync.settings_stand(relation oid) RETURNS boolean
LANGUAGE sql STABLE PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT snapsync.conflict_function_stands($1) AND NOT EXISTS (SELECT FROM snapsync.named_otherwise($1));
END;
COMMENT ON FUNCTION snapsync.settings_stand(oid) IS
'Are the functions and tables that a table''s settings name still those that they meant, or of who may act as its owner?';
REVOKE EXECUTE ON FUNCTION snapsync.beyond_owners(oid), snapsync.enabling_is_left_to(oid, oid), snapsync.key_is_left_to(oid, oid),
    snapsync.named_otherwise(oid), snapsync.conflict_function_stands(oid), snapsync.settings_stand(oid) FROM PUBLIC;

-- ALTER DEFAULT PRIVILEGES of whoever creates the extension gives others what it makes; and a superuser may grant what he should not. (What clients call, in
-- the schema that CREATE EXTENSION names, is whose those rules say.) To take a privilege on a table takes that on its columns, too.
CREATE FUNCTION snapsync.opened(at_first boolean) RETURNS TABLE (object text, grantee text, privileges text, revoke text)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH own AS (
        SELECT d.classid, d.objid FROM pg_extension AS e
        JOIN pg_depend AS d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e' WHERE e.extname = 'snapsync'
    ), has(object, owner, acl, everybodys, by_hand) AS (
        SELECT 'SCHEMA snapsync', n.nspowner, n.nspacl, 'USAGE', false
        FROM own AS w JOIN pg_namespace AS n ON w.classid = 'pg_namespace'::regclass AND n.oid = w.objid
        UNION ALL
        SELECT format('%s snapsync.%I', CASE r.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, r.relname), r.relowner, a.acl,
               CASE r.relkind WHEN 'v' THEN 'SELECT' END, false
        FROM own AS w JOIN pg_class AS r ON w.classid = 'pg_class'::regclass AND r.oid = w.objid
        CROSS JOIN LATERAL (SELECT r.relacl AS acl UNION ALL SELECT attacl FROM pg_attribute WHERE attrelid = r.oid AND attacl IS NOT NULL) AS a
        UNION ALL
        SELECT format('TYPE snapsync.%I', y.typname), y.typowner, y.typacl, CASE y.typtype WHEN 'd' THEN 'USAGE' END, false
        FROM own AS w JOIN pg_type AS y ON w.classid = 'pg_type'::regclass AND y.oid = w.objid
        UNION ALL
        SELECT format('ROUTINE %s', f.oid::regprocedure), f.proowner, f.proacl,
               CASE WHEN f.proname ~ '^regtable_' OR f.proname = ANY ('{track,enable,disable,reset,prune,compact,register_mutator,doctor,wait_for_changes}')
                    THEN 'EXECUTE' END, f.proname = 'poke_scope'
        FROM own AS w JOIN pg_proc AS f ON w.classid = 'pg_proc'::regclass AND f.oid = w.objid AND f.pronamespace = 'snapsync'::regnamespace
    ), may AS (
        SELECT h.object, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(o.rolname) END AS grantee,
               string_agg(DISTINCT a.privilege_type, ', ' ORDER BY a.privilege_type) AS privileges
        FROM has AS h CROSS JOIN LATERAL aclexplode(h.acl) AS a LEFT JOIN pg_roles AS o ON o.oid = a.grantee
        WHERE a.grantee <> h.owner AND a.privilege_type IS DISTINCT FROM h.everybodys
          AND ($1 OR a.grantee = 0 OR NOT (h.by_hand OR pg_has_role(a.grantee, h.owner, 'USAGE')))
        GROUP BY h.object, a.grantee, o.rolname
    )
    SELECT object, grantee, privileges, format('REVOKE %s ON %s FROM %s CASCADE;', privileges, object, grantee) FROM may;
END;
COMMENT ON FUNCTION snapsync.opened(boolean) IS
'What others than the owner may do with snapsync''s own tables and internal functions. Nothing of that is meant, but what is granted by hand later: poke_scope()';
REVOKE EXECUTE ON FUNCTION snapsync.opened(boolean) FROM PUBLIC;

CREATE FUNCTION snapsync.findings(who oid)
RETURNS TABLE (severity text, collection text, finding text, hint text, fix text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET standard_conforming_strings = on
SET quote_all_identifiers = off
SET transform_null_equals = off
SET DateStyle = 'ISO, MDY'
SET IntervalStyle = postgres
SET jit = off
AS $$
WITH RECURSIVE own AS NOT MATERIALIZED (
    -- The names that tables have for clients: names.rs.
    SELECT r.oid, r.relowner, n.nspname, CASE WHEN n.nspname ~ '[."]' THEN '"' || replace(n.nspname, '"', '""') || '"' ELSE n.nspname END || '.' || r.relname AS own_name
    FROM pg_class AS r JOIN pg_namespace AS n ON n.oid = r.relnamespace WHERE r.relkind IN ('r', 'p')
), mine AS MATERIALIZED (
    SELECT c.*, c.relation::text AS tab, r.relrowsecurity, r.relacl, r.relowner, r.relkind, r.relname, o.nspname, o.own_name,
           snapsync.trigger_argument(c.relation) AS argument
    FROM snapsync.collection AS c
    JOIN pg_class AS r ON r.oid = c.relation
    JOIN own AS o ON o.oid = r.oid
    WHERE pg_has_role(who, r.relowner, 'USAGE')
), synced AS MATERIALIZED (
    -- With the arguments that give another table the same settings.
    SELECT m.*, concat(', key => ' || quote_literal(m.key::text),
                       ', columns => ' || quote_literal(m.columns::text),
                       ', exclude => ' || quote_literal(nullif(m.exclude, '{}')::text),
                       ', readonly => ' || quote_literal(nullif(m.readonly, '{}')::text),
                       ', scope_column => ' || quote_literal(m.scope_column::text),
                       ', scope_values => ' || quote_literal(m.scope_values),
                       ', access_tables => ' || quote_literal(m.access_tables::text),
                       ', conflict => ' || quote_literal(nullif(m.conflict, 'reject')),
                       ', notify => ' || quote_literal(nullif(m.notify, 'none')),
                       ', version_column => ' || quote_literal(m.version_column::text),
                       ', conflict_function => ' || quote_literal(m.conflict_function),
                       ', soft_delete_column => ' || quote_literal(m.soft_delete_column::text)) AS settings,
           -- Who gives them again stands for the SQL in them (a predicate sees all rows of a table), for the name, and for what policies read.
           m.relowner = who AND snapsync.settings_stand(m.relation) AS passes
    FROM mine AS m WHERE m.name IS NOT NULL
), part AS MATERIALIZED (
    SELECT m.relation, m.argument, m.tab AS root, coalesce(m.name, m.tab) AS name, m.name IS NOT NULL AS synced, p.relid, r.relowner
    FROM mine AS m CROSS JOIN LATERAL (SELECT part::regclass AS relid FROM snapsync.parts(m.relation) AS part) AS p
    -- (A foreign table has none of our triggers.)
    JOIN pg_class AS r ON r.oid = p.relid AND r.relkind <> 'f'
), verb(cmd, word, consequence) AS (
    VALUES ('a', 'INSERT', 'created rows'), ('w', 'UPDATE', 'updated rows'), ('d', 'DELETE', 'deletions')
), granted(relation, privilege, grantee) AS MATERIALIZED (
    SELECT s.relation, a.privilege_type, a.grantee FROM synced AS s, aclexplode(s.relacl) AS a WHERE a.grantee <> s.relowner
    UNION
    SELECT s.relation, a.privilege_type, a.grantee
    FROM synced AS s JOIN pg_attribute AS t ON t.attrelid = s.relation AND NOT t.attisdropped, aclexplode(t.attacl) AS a
    WHERE a.grantee <> s.relowner
), policy AS MATERIALIZED (
    -- The policies that decide what is read; their text, and the same without literals.
    SELECT s.relation, s.name, p.oid, p.polname, p.polpermissive, p.polroles, q.qual, regexp_replace(q.qual, $r$'(?:[^']|'')*'$r$, '', 'g') AS code
    FROM synced AS s JOIN pg_policy AS p ON p.polrelid = s.relation AND p.polcmd IN ('*', 'r')
    CROSS JOIN LATERAL (SELECT left(snapsync.policy_text(p.oid), 100000) AS qual OFFSET 0) AS q
    WHERE s.relrowsecurity
), reader(relation, oid, role, called) AS MATERIALIZED (
    -- Who syncs, as far as privileges tell; those whom policies name, where everybody may select.
    SELECT g.relation, g.grantee, CASE g.grantee WHEN 0 THEN 'public' ELSE r.rolname END,
           CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END
    FROM (SELECT relation, grantee FROM granted WHERE privilege = 'SELECT'
          UNION SELECT p.relation, role FROM policy AS p, unnest(p.polroles) AS role
                 WHERE EXISTS (SELECT FROM granted AS g WHERE g.relation = p.relation AND g.privilege = 'SELECT' AND g.grantee = 0)) AS g
    LEFT JOIN pg_roles AS r ON r.oid = g.grantee
    WHERE g.grantee = 0 OR NOT (r.rolsuper OR r.rolbypassrls)
), called AS MATERIALIZED (
    SELECT p.oid AS policy, f.oid AS fn, format('%I.%I(', n.nspname, f.proname) AS opening, f.pronargs = 0 AND f.provolatile = 's' AS once
    FROM policy AS p
    JOIN pg_depend AS d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_proc'::regclass
    JOIN pg_proc AS f ON f.oid = d.refobjid JOIN pg_namespace AS n ON n.oid = f.pronamespace
), judging(oid) AS (
    -- The tables whose policies run where those of a synced one do: what these read as their caller has policies of its own for him.
    SELECT relation::regclass FROM synced WHERE relrowsecurity
    UNION
    SELECT c.oid::regclass
    FROM judging AS j CROSS JOIN LATERAL snapsync.rests_on(j.oid) AS r
    JOIN pg_class AS c ON c.oid = r.objid AND c.relrowsecurity WHERE r.classid = 'pg_class'::regclass AND r.direct
), read_by(relation, classid, objid, direct) AS MATERIALIZED (
    SELECT j.oid, r.classid, r.objid, r.direct FROM judging AS j CROSS JOIN LATERAL snapsync.rests_on(j.oid) AS r
), read(relation, classid, objid, direct) AS MATERIALIZED (
    SELECT r.relation, r.classid, r.objid, r.direct FROM read_by AS r WHERE r.relation IN (SELECT relation::regclass FROM synced)
), beyond(name, relation, other) AS (
    -- Which of these tables a synced one's policies read, at whatever depth.
    SELECT s.name, s.relation::regclass, s.relation::regclass FROM synced AS s WHERE s.access_tables IS NULL
    UNION
    SELECT b.name, b.relation, c.oid::regclass
    FROM beyond AS b JOIN read_by AS r ON r.relation = b.other AND r.classid = 'pg_class'::regclass AND r.direct
    JOIN pg_class AS c ON c.oid = r.objid AND c.relrowsecurity
), in_scopes(name, fn) AS MATERIALIZED (
    SELECT DISTINCT s.name, named.oid
    FROM synced AS s, jsonb_array_elements_text(s.scope_reads -> 'functions') AS called(signature)
    CROSS JOIN LATERAL snapsync.procedure_of(called.signature) AS named(oid)
    WHERE s.access_tables IS NULL
), body(oid, fn, body) AS NOT MATERIALIZED (
    SELECT f.oid, f.oid::regprocedure::text, b.body
    FROM (SELECT objid FROM read_by WHERE classid = 'pg_proc'::regclass UNION SELECT fn FROM called UNION SELECT fn FROM in_scopes) AS d(oid)
    JOIN pg_proc AS f ON f.oid = d.oid CROSS JOIN LATERAL (SELECT left(f.prosrc, 100000) AS body OFFSET 0) AS b
), searched(oid, fn, reads, looks_at_time, claims) AS MATERIALIZED (
    -- What bodies seem to do. (No dependency says what they read; of bodies in standard SQL, which are no texts, one does.)
    SELECT b.oid, b.fn, b.body ~* '\m(?:from|join)\M',
           b.body ~* '\m(?:now|transaction_timestamp|statement_timestamp|clock_timestamp|timeofday) *\('
               OR b.body ~* '\m(?:current_date|current_time|current_timestamp|localtime|localtimestamp)\M',
           regexp_count(b.body, 'current_setting') > regexp_count(b.body, '\msub\M')
    FROM body AS b
), hidden AS (
    -- Functions among these that seem to read tables.
    SELECT s.name, f.fn, bool_or(r.direct) AS direct
    FROM synced AS s
    JOIN read AS r ON r.relation = s.relation AND r.classid = 'pg_proc'::regclass
    JOIN searched AS f ON f.oid = r.objid AND f.reads
    WHERE s.access_tables IS NULL
    GROUP BY 1, 2
), hidden_beyond AS (
    -- And in the policies of tables that its policies read, unless somebody has named what is hidden there for these.
    -- (One finding for each collection, however many there are. Those that its own policies rest on are told already.)
    SELECT h.name, count(*) AS functions, (array_agg(f.fn ORDER BY f.fn COLLATE "C"))[1:3] AS first, min(h.other) AS other
    FROM (SELECT e.relation, e.objid, min(e.name) AS name, min(e.other) AS other
          FROM (SELECT b.relation, r.objid, b.name, b.other::text COLLATE "C" AS other, false AS own
                FROM beyond AS b JOIN read_by AS r ON r.relation = b.other AND r.classid = 'pg_proc'::regclass
                WHERE b.other <> b.relation AND NOT EXISTS (SELECT FROM snapsync.collection AS n WHERE n.relation = b.other AND n.access_tables IS NOT NULL)
                UNION ALL
                SELECT o.relation, o.objid, NULL, NULL, true FROM read AS o WHERE o.classid = 'pg_proc'::regclass) AS e
          GROUP BY 1, 2 HAVING NOT bool_or(e.own)) AS h
    JOIN searched AS f ON f.oid = h.objid AND f.reads
    GROUP BY 1
), hidden_scope AS (
    SELECT c.name, f.fn
    FROM in_scopes AS c JOIN searched AS f ON f.oid = c.fn
    WHERE f.reads OR EXISTS (SELECT FROM pg_depend AS b WHERE b.classid = 'pg_proc'::regclass AND b.objid = f.oid AND b.refclassid = 'pg_class'::regclass)
), overloaded AS (
    -- Functions that somebody else has made beside one that an owner's SQL calls, under the same name, where that one takes arguments of
    -- any type, or leaves some to their defaults. (The casts of all others are stored: nothing fits better.)
    SELECT DISTINCT s.name, f.oid::regprocedure::text AS fn, o.oid::regprocedure::text AS other
    FROM synced AS s
    CROSS JOIN LATERAL (SELECT jsonb_array_elements_text(s.scope_reads -> 'functions') AS signature
                        UNION SELECT jsonb_array_elements_text(p.value -> 'functions') FROM jsonb_each(s.scope_reads -> 'predicates') AS p) AS called
    JOIN pg_proc AS f ON f.oid >= 16384 AND f.oid::regprocedure::text = called.signature
     AND (f.pronargdefaults > 0 OR EXISTS (SELECT FROM unnest(f.proargtypes) AS a(oid) JOIN pg_type AS y ON y.oid = a.oid AND y.typtype = 'p'))
    JOIN pg_proc AS o ON o.pronamespace = f.pronamespace AND o.proname = f.proname AND o.oid <> f.oid AND o.proowner NOT IN (f.proowner, s.relowner)
), tree(classid, objid, place, tree) AS MATERIALIZED (
    -- What decides, as the catalogs store it: literals in it are bytes, and names have no spaces, so nothing in it is taken for another thing.
    SELECT 'pg_policy'::regclass::oid, q.oid, format('policy %I', q.polname), left(q.polqual::text, 1000000) FROM pg_policy AS q WHERE q.oid IN (SELECT oid FROM policy)
    UNION ALL
    SELECT 'pg_class'::regclass, w.ev_class, 'view ' || w.ev_class::regclass, left(w.ev_action::text, 1000000)
    FROM pg_rewrite AS w WHERE w.ev_class IN (SELECT objid FROM read WHERE classid = 'pg_class'::regclass) AND w.ev_type = '1' AND w.ev_class >= 16384
    UNION ALL
    SELECT 'pg_proc'::regclass, f.oid, 'function ' || f.oid::regprocedure, left(f.prosqlbody::text, 1000000)
    FROM pg_proc AS f WHERE f.oid IN (SELECT objid FROM read WHERE classid = 'pg_proc'::regclass) AND f.prosqlbody IS NOT NULL
), asks(classid, objid, place, what) AS MATERIALIZED (
    -- Of the roles, only what the calling one is a member of is followed.
    SELECT t.classid, t.objid, t.place, k.oid::regclass::text
    FROM tree AS t CROSS JOIN LATERAL regexp_matches(t.tree, ':rtekind 0 :relid (\d{1,5}) ', 'g') AS m(relid)
    JOIN pg_class AS k ON k.oid = m.relid[1]::oid AND k.oid < 16384
    UNION
    SELECT t.classid, t.objid, t.place, f.proname || '()'
    FROM tree AS t
    CROSS JOIN LATERAL regexp_matches(t.tree, ':funcid (\d{1,5}) [^{}()]*:args \((\{SQLVALUEFUNCTION :op (?:9|10|11) )?', 'g') AS m(called)
    JOIN pg_proc AS f ON f.oid = m.called[1]::oid AND f.oid < 16384 AND f.proname ~ '^(?:has_[a-z_]+_privilege|pg_has_role)$'
    WHERE NOT (f.proname = 'pg_has_role' AND (f.pronargs = 2 OR m.called[2] IS NOT NULL))
    UNION
    SELECT 'pg_proc'::regclass, b.oid, 'function ' || b.fn, lower(coalesce(m.found[1] || '()', m.found[2] || '()', m.found[3]))
    FROM body AS b
    CROSS JOIN LATERAL regexp_matches(b.body, '\m(has_[a-z_]+_privilege)\s*\('
        '|\m(pg_has_role)\s*\(\s*(?!current_user|current_role)(?=[^(),]*,[^(),]*,)'
        '|\m(?:from|join)\s+((?:pg_catalog\.)?pg_\w+|information_schema\.\w+)', 'gi') AS m(found)
), system(name, place, what) AS (
    SELECT p.name, a.place, a.what FROM policy AS p JOIN asks AS a ON a.classid = 'pg_policy'::regclass AND a.objid = p.oid
    UNION
    SELECT s.name, a.place, a.what
    FROM synced AS s JOIN read AS r ON r.relation = s.relation JOIN asks AS a ON a.classid = r.classid AND a.objid = r.objid
), names(oid, fn, other) AS MATERIALIZED (
    -- Functions that a body names, which is a text: those that the asking role can replace, and no extension brings.
    SELECT b.oid, b.fn, g.oid
    FROM body AS b JOIN pg_proc AS f ON f.oid = b.oid AND f.prosqlbody IS NULL
    CROSS JOIN LATERAL (SELECT DISTINCT spelt.name
                        FROM regexp_matches(b.body, '\m([[:alpha:]_][\w$]{0,62})"?\s*\(', 'g') AS m CROSS JOIN LATERAL (VALUES (m[1]), (lower(m[1]))) AS spelt(name)) AS named
    JOIN pg_proc AS g ON g.proname = named.name AND g.oid >= 16384 AND g.oid <> b.oid AND pg_has_role(who, g.proowner, 'USAGE')
    WHERE NOT EXISTS (SELECT FROM pg_depend AS e WHERE e.classid = 'pg_proc'::regclass AND e.objid = g.oid AND e.deptype = 'e')
), by_name AS (
    SELECT DISTINCT s.name, n.fn, n.other::regprocedure::text AS other
    FROM synced AS s JOIN read AS r ON r.relation = s.relation AND r.classid = 'pg_proc'::regclass JOIN names AS n ON n.oid = r.objid
    WHERE NOT EXISTS (SELECT FROM read AS o WHERE o.relation = s.relation AND o.classid = 'pg_proc'::regclass AND o.objid = n.other)
), declared AS (
    SELECT s.name, s.tab, s.relation, s.passes, d.key AS access, d.value AS said, p.predicate, to_regclass(d.key) AS oid,
           s.scope_reads -> 'predicates' -> p.predicate AS reads
    FROM synced AS s, jsonb_each(s.access_tables) AS d,
         LATERAL (SELECT CASE jsonb_typeof(d.value) WHEN 'object' THEN d.value ->> 'predicate' ELSE d.value #>> '{}' END AS predicate) AS p
), predicate AS (
    -- With what counts as the access table, and whether the predicate can be read (owned_reads.rs, `read_by`).
    SELECT d.*, coalesce(pg_partition_root(d.oid), d.oid) AS root,
           d.reads IS NOT NULL
           AND NOT EXISTS (SELECT FROM jsonb_array_elements_text(d.reads -> 'columns') AS c(name)
                           WHERE NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = d.oid AND attname = c.name AND attnum > 0 AND NOT attisdropped))
           AND NOT EXISTS (SELECT FROM jsonb_array_elements_text(d.reads -> 'functions') AS f(signature)
                           WHERE NOT EXISTS (SELECT FROM snapsync.procedure_of(f.signature))) AS can_be_read
    FROM declared AS d WHERE d.oid IS NOT NULL AND d.predicate <> 'true'
), gone_column AS (
    SELECT d.name, d.relation, d.access, c.name AS gone
    FROM declared AS d
    CROSS JOIN LATERAL jsonb_array_elements_text(CASE jsonb_typeof(d.said) WHEN 'object' THEN nullif(d.said -> 'columns', 'null') END) AS c(name)
    WHERE d.oid IS NOT NULL AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = d.oid AND attname = c.name AND attnum > 0 AND NOT attisdropped)
), writing AS (
    -- Registrations of writers that have not committed: see clock.rs. Of a prepared transaction there is also the lock on its own number.
    SELECT l.pid, (SELECT t.transactionid FROM pg_locks AS t WHERE l.pid IS NULL AND t.locktype = 'transactionid' AND t.pid IS NULL
                      AND t.virtualtransaction = l.virtualtransaction AND t.mode = 'ExclusiveLock' LIMIT 1) AS prepared
    FROM pg_locks AS l
    WHERE l.locktype = 'advisory' AND l.objsubid = 3 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND EXISTS (SELECT FROM mine)
), found(severity, collection, finding, hint, fix, left_to) AS (
    -- Row-level security and privileges
    SELECT CASE WHEN can THEN 'error' ELSE 'warning' END, name,
           'row-level security is off' || CASE WHEN can THEN ', so its policies do nothing' ELSE '' END
               || ': every role that may select the table syncs every row',
           CASE WHEN NOT can THEN 'First write policies that let users select their rows: switched on without any, row-level security '
               'hides every row. Then ALTER TABLE ... ENABLE ROW LEVEL SECURITY.' END,
           CASE WHEN can THEN format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY;', tab) END,
           CASE WHEN can AND EXISTS (SELECT FROM snapsync.beyond_owners(relation) AS b WHERE relowner <> who OR b.reader <> relation)
                THEN CASE relowner WHEN who THEN 'voucher' ELSE 'owner' END END
    FROM (SELECT s.name, s.tab, s.relation, s.relowner, EXISTS (SELECT FROM pg_policy WHERE polrelid = s.relation AND polpermissive AND polcmd IN ('*', 'r')) AS can
          FROM synced AS s WHERE NOT s.relrowsecurity) AS off
    UNION ALL
    SELECT 'error', name, 'row-level security is on, but no policy lets anybody select a row',
           'CREATE POLICY ... FOR SELECT USING (user_id = (SELECT auth.uid())), or what else says whose a row is.', NULL, NULL
    FROM synced AS s WHERE relrowsecurity AND NOT EXISTS (SELECT FROM policy AS p WHERE p.relation = s.relation AND p.polpermissive)
    UNION ALL
    SELECT 'info', s.name, format('no policy for %s: pushed %s are refused', v.word, v.consequence || more.too),
           'If clients shall do this: CREATE POLICY ... FOR ' || v.word || CASE v.cmd WHEN 'a' THEN ' WITH CHECK' ELSE ' USING' END
               || ' (user_id = (SELECT auth.uid())).', NULL, NULL
    FROM synced AS s CROSS JOIN verb AS v
    CROSS JOIN LATERAL (SELECT CASE WHEN v.cmd = 'w' AND s.soft_delete_column IS NOT NULL THEN ' and deletions' ELSE '' END AS too) AS more
    WHERE s.relrowsecurity AND NOT (v.cmd = 'd' AND s.soft_delete_column IS NOT NULL)
      AND NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = s.relation AND polpermissive AND polcmd::text IN ('*', v.cmd))
    UNION ALL
    SELECT 'error', s.name, 'no role but its owner may select the table',
           'GRANT SELECT, and what else clients shall do, to the role that syncs.', NULL, NULL
    FROM synced AS s WHERE NOT EXISTS (SELECT FROM granted AS g WHERE g.relation = s.relation AND g.privilege = 'SELECT')
    UNION ALL
    SELECT 'info', s.name, format('no role but its owner has the privilege %s: pushed %s are refused', v.word, v.consequence || more.too),
           'If clients shall do this, GRANT it to the role that syncs.', NULL, NULL
    FROM synced AS s CROSS JOIN verb AS v
    CROSS JOIN LATERAL (SELECT CASE WHEN v.cmd = 'w' AND s.soft_delete_column IS NOT NULL THEN ' and deletions' ELSE '' END AS too) AS more
    WHERE NOT (v.cmd = 'd' AND s.soft_delete_column IS NOT NULL)
      AND EXISTS (SELECT FROM granted AS g WHERE g.relation = s.relation AND g.privilege = 'SELECT')
      AND NOT EXISTS (SELECT FROM granted AS g WHERE g.relation = s.relation AND g.privilege = v.word)
    UNION ALL
    SELECT 'error', s.name, format('role %s may not select %s, of the key: its pulls are refused', r.called,
                                  string_agg(quote_ident(t.attname), ', ' ORDER BY t.attnum)),
           'Rows are known by their key, so whoever syncs must be able to read it.',
           format('GRANT SELECT (%s) ON %s TO %s;', string_agg(quote_ident(t.attname), ', ' ORDER BY t.attnum), s.tab, r.called), NULL
    FROM synced AS s JOIN reader AS r ON r.relation = s.relation
    JOIN pg_attribute AS t ON t.attrelid = s.relation AND t.attnum > 0 AND t.attname = ANY (s.key)
    WHERE EXISTS (SELECT FROM granted AS g WHERE g.relation = s.relation AND g.privilege = 'SELECT' AND g.grantee = r.oid)
      AND NOT has_column_privilege(r.role, s.relation, t.attnum, 'SELECT')
    GROUP BY s.name, s.tab, r.called
    UNION ALL
    SELECT DISTINCT 'error', p.name,
           CASE d.refclassid WHEN 'pg_proc'::regclass
                THEN format('role %s may not execute function %s, which policy %I calls: its calls fail',
                            r.called, d.refobjid::regprocedure, p.polname)
                ELSE format('role %s may not select %s of %s, which policy %I reads: its calls fail',
                            r.called, coalesce('column ' || quote_ident(t.attname), 'rows'), k.oid::regclass, p.polname) END,
           'Policies read other tables and call functions with the rights of the role that syncs: GRANT them. Mind that a table '
           'without row-level security then shows it all its rows; a SECURITY DEFINER function need not.', NULL, NULL
    FROM policy AS p JOIN reader AS r ON r.relation = p.relation
    JOIN pg_depend AS d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid
    LEFT JOIN pg_class AS k ON d.refclassid = 'pg_class'::regclass AND k.oid = d.refobjid AND k.relkind IN ('r', 'p', 'v', 'm', 'f')
    LEFT JOIN pg_attribute AS t ON t.attrelid = k.oid AND t.attnum = d.refobjsubid AND d.refobjsubid <> 0
    WHERE d.refobjid <> p.relation AND (0 = ANY (p.polroles) OR r.oid <> 0 AND EXISTS (
              SELECT FROM unnest(p.polroles) AS role WHERE role <> 0 AND pg_has_role(r.oid, role, 'USAGE')))
      AND CASE WHEN d.refclassid = 'pg_proc'::regclass THEN NOT has_function_privilege(r.role, d.refobjid, 'EXECUTE')
               WHEN k.oid IS NULL THEN false
               WHEN t.attnum IS NULL THEN NOT (has_table_privilege(r.role, k.oid, 'SELECT') OR has_any_column_privilege(r.role, k.oid, 'SELECT'))
               ELSE NOT has_column_privilege(r.role, k.oid, t.attnum, 'SELECT') END
    -- What policies say
    UNION ALL
    SELECT 'info', p.name, format('policy %I was not read: it is nested too deep, or another session keeps a table to itself that it reads', p.polname),
           'Call doctor() again later.', NULL, NULL
    FROM policy AS p WHERE p.qual IS NULL AND EXISTS (SELECT FROM pg_policy WHERE oid = p.oid AND polqual IS NOT NULL)
    UNION ALL
    SELECT 'info', p.name, format('policy %I calls %s) for every row', p.polname, c.opening),
           'Write (SELECT ...) around the call, and = ANY ((SELECT ...)::type[]) where it returns an array: it is then made once for each statement.', NULL, NULL
    FROM policy AS p
    CROSS JOIN LATERAL (SELECT regexp_replace(p.code, ' SELECT (?:\(|[\w.]+\()+', ' SELECT ', 'g') AS bare OFFSET 0) AS without
    JOIN (SELECT policy, opening FROM called WHERE once UNION SELECT oid, 'current_setting(' FROM policy) AS c
      ON c.policy = p.oid AND strpos(without.bare, c.opening) > 0
    UNION ALL
    SELECT 'warning', name, format('policy %I looks at the time: no change tells a client that time alone has shown or hidden a row', polname),
           'What is changed or deleted after time has hidden it is told to nobody. Let a job write what the time decides into a column, and the policy read that instead of the time; or let clients start from a null cursor from time to time.', NULL, NULL
    FROM policy
    WHERE code ~ '\m(?:now|transaction_timestamp|statement_timestamp|clock_timestamp|timeofday)\('
       OR code ~ '\m(?:CURRENT_DATE|CURRENT_TIME|CURRENT_TIMESTAMP|LOCALTIME|LOCALTIMESTAMP)\M'
    UNION ALL
    SELECT 'error', name, format('policy %I locks rows of what it reads: every pull is refused', polname),
           'A pull writes nothing, and locks no rows. Leave FOR SHARE, FOR UPDATE and the like out of the policy.', NULL, NULL
    FROM policy WHERE code ~ '\mFOR (?:UPDATE|NO KEY UPDATE|SHARE|KEY SHARE)\M'
    UNION ALL
    SELECT DISTINCT 'warning', s.name,
           format('function %s in a policy looks at the time: no change tells a client that time alone has shown or hidden a row', f.fn),
           'What is changed or deleted after time has hidden it is told to nobody. Let a job write what the time decides into a column, and the policy read that instead of the time; or let clients start from a null cursor from time to time.', NULL, NULL
    FROM synced AS s JOIN read AS r ON r.relation = s.relation AND r.classid = 'pg_proc'::regclass JOIN searched AS f ON f.oid = r.objid AND f.looks_at_time
    UNION ALL
    -- A setting or a claim that says who the user is (sub) is the same for as long as a cursor is good.
    SELECT 'info', p.name,
           format('policy %I asks for a setting or a claim of the token: no change tells a client that another value shows or hides rows', p.polname),
           'Let clients start from a null cursor when the value changes, or keep it in a table, which is noticed.', NULL, NULL
    FROM policy AS p
    LEFT JOIN (SELECT p.oid, sum((length(p.qual) - length(replace(p.qual, c.opening, ''))) / length(c.opening)) AS times
               FROM policy AS p JOIN called AS c ON c.policy = p.oid JOIN searched AS f ON f.oid = c.fn AND f.claims GROUP BY p.oid) AS asks ON asks.oid = p.oid
    WHERE regexp_count(p.qual, '\mcurrent_setting\(') + coalesce(asks.times, 0) > regexp_count(p.qual, $r$\msub'$r$)
    UNION ALL
    SELECT 'warning', p.name,
           format('policy %I does not look at the scope column %I: rows that it shows outside of what scope_values gives are not synced',
                  p.polname, s.scope_column),
           'Let scope_values give every scope in which the caller may see rows, or leave it out.', NULL, NULL
    FROM policy AS p JOIN synced AS s ON s.relation = p.relation AND s.scope_values IS NOT NULL
    JOIN pg_attribute AS t ON t.attrelid = s.relation AND t.attname = s.scope_column
    WHERE p.polpermissive AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_policy'::regclass AND d.objid = p.oid
                                             AND d.refclassid = 'pg_class'::regclass AND d.refobjid = s.relation AND d.refobjsubid = t.attnum)
    UNION ALL
    SELECT 'warning', s.name,
           format('policy %s reads the soft-delete column %I: if it hides rows that are marked, PostgreSQL refuses to mark one, '
                  'and so every pushed deletion', string_agg(quote_ident(p.polname), ' and policy ' ORDER BY p.polname), s.soft_delete_column),
           'Take the condition out of the policies for SELECT: pulls leave marked rows out by themselves, and an UPDATE must leave '
           'a row that may be selected.', NULL, NULL
    FROM synced AS s
    JOIN pg_attribute AS t ON t.attrelid = s.relation AND t.attname = s.soft_delete_column
    JOIN policy AS p ON p.relation = s.relation
    WHERE EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_policy'::regclass AND d.objid = p.oid
                     AND d.refclassid = 'pg_class'::regclass AND d.refobjid = s.relation AND d.refobjsubid = t.attnum)
    GROUP BY s.relation, s.name, s.soft_delete_column
    HAVING bool_or(NOT p.polpermissive)
        OR count(*) FILTER (WHERE p.polpermissive) = (SELECT count(*) FROM policy AS a WHERE a.relation = s.relation AND a.polpermissive)
    -- Tracking
    UNION ALL
    SELECT 'error', p.name, format('trigger %s of %s is missing', want.trigger, p.relid),
           'Call snapsync.enable() for the table, or for one whose policies read it.',
           'SELECT snapsync.enable(' || quote_literal(by.tab) || ');', by.left_to
    FROM part AS p CROSS JOIN (VALUES ('00_snapsync_track'), ('00_snapsync_truncate')) AS want(trigger)
    LEFT JOIN LATERAL (
        SELECT s.tab, snapsync.enabling_is_left_to(s.relation, who) AS left_to FROM synced AS s
        WHERE CASE WHEN p.synced THEN s.relation = p.relation ELSE EXISTS (SELECT FROM snapsync.access AS a WHERE a.access = p.relation AND a.relation = s.relation) END
        ORDER BY left_to NULLS FIRST, tab LIMIT 1) AS by ON true
    WHERE NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = p.relid AND tgname = want.trigger)
    UNION ALL
    -- (tgtype: AFTER ROW INSERT, DELETE, UPDATE, and AFTER STATEMENT TRUNCATE; triggers.rs.)
    SELECT 'error', p.name, format('trigger %s of %s is not as snapsync makes it: changes are lost', t.tgname, p.relid),
           CASE WHEN NOT p.synced THEN 'Call snapsync.disable() and snapsync.enable() for those whose policies read it.' END,
           CASE WHEN p.synced THEN format('SELECT snapsync.enable(%L);', p.root) END, snapsync.enabling_is_left_to(p.relation, who)
    FROM part AS p JOIN pg_trigger AS t ON t.tgrelid = p.relid
    WHERE t.tgname IN ('00_snapsync_track', '00_snapsync_truncate')
      AND NOT (t.tgfoid = 'snapsync.track'::regproc AND t.tgtype = CASE t.tgname WHEN '00_snapsync_track' THEN 29 ELSE 32 END
               AND t.tgqual IS NULL AND t.tgattr = '' AND t.tgconstraint = 0
               -- It may still tell of parents, although nobody hangs on these any more (triggers.rs, are_ours).
               AND t.tgargs IN (convert_to(p.argument, 'UTF8') || '\x00'::bytea,
                                convert_to(left(p.argument, -1) || ',"parent":true}', 'UTF8') || '\x00'::bytea))
    UNION ALL
    SELECT 'error', p.name, format('trigger %s of %s does not fire always: changes are lost', t.tgname, p.relid),
           'Enabled again it fires always, and the clients are reset.',
           CASE WHEN p.synced THEN format('SELECT snapsync.enable(%L);', p.root)
                ELSE format('ALTER TABLE %s ENABLE TRIGGER %I;', p.relid, t.tgname) END,
           CASE WHEN p.synced THEN snapsync.enabling_is_left_to(p.relation, who) WHEN p.relowner <> who THEN 'switch' END
    FROM part AS p JOIN pg_trigger AS t ON t.tgrelid = p.relid
    WHERE t.tgname IN ('00_snapsync_track', '00_snapsync_truncate') AND t.tgenabled <> 'A'
    UNION ALL
    SELECT 'error', NULL, format('event trigger %I does not fire always: DDL is not followed', evtname),
           'Afterwards call snapsync.enable() for the tables that were altered meanwhile, and snapsync.reset() where clients see it.',
           format('ALTER EVENT TRIGGER %I ENABLE ALWAYS;', evtname),
           CASE WHEN NOT pg_has_role(who, evtowner, 'USAGE') THEN 'superuser' END
    FROM pg_event_trigger WHERE evtname IN ('snapsync_command_end', 'snapsync_drop', 'snapsync_rewrite', 'snapsync_index') AND evtenabled <> 'A'
      AND EXISTS (SELECT FROM mine)
    UNION ALL
    SELECT DISTINCT 'error', root.tab,
           'it has snapsync''s triggers but is not synced, as after a restore without data: its changes fill the log for nobody',
           'Call snapsync.enable() for it, with the settings that it had.', NULL, NULL
    FROM pg_trigger AS t
    JOIN pg_class AS r ON r.oid = t.tgrelid
    CROSS JOIN LATERAL (SELECT coalesce(pg_partition_root(t.tgrelid), t.tgrelid) AS oid) AS top
    CROSS JOIN LATERAL (SELECT top.oid::regclass::text AS tab) AS root
    WHERE t.tgfoid = 'snapsync.track'::regproc AND pg_has_role(who, r.relowner, 'USAGE')
      AND NOT EXISTS (SELECT FROM snapsync.collection AS c WHERE c.relation = top.oid)
    UNION ALL
    -- (Only a superuser may learn of tables that are nobody's.)
    SELECT 'error', c.name, 'its table is not in this database, as after a restore that left it out or could not create it',
           'Nobody can pull it. The next DDL on a synced table, or enable() for any, forgets it with its log; if the table comes back, call '
           'enable() for it, with the settings that snapsync.collection has until then.', NULL, NULL
    FROM snapsync.collection AS c
    WHERE c.name IS NOT NULL AND NOT EXISTS (SELECT FROM pg_class WHERE oid = c.relation)
      AND pg_has_role(who, (SELECT relowner FROM pg_class WHERE oid = 'snapsync.collection'::regclass), 'USAGE')
    UNION ALL
    SELECT 'error', p.name, format('%s is unlogged: a crash empties it without a trace, and clients keep its rows', p.relid), NULL,
           format('ALTER TABLE %s SET LOGGED;', p.relid), CASE WHEN p.relowner <> who THEN 'logged' END
    FROM part AS p JOIN pg_class AS r ON r.oid = p.relid WHERE r.relpersistence = 'u'
    UNION ALL
    SELECT 'error', name, format('it has become a partition of %s, which is not synced: its changes are lost', pg_partition_root(relation)),
           'Sync the partitioned table in its place.',
           CASE WHEN settled THEN format('SELECT snapsync.disable(%L), snapsync.enable(%L%s);', tab, pg_partition_root(relation), settings) END, snapsync.enabling_is_left_to(relation, who)
    FROM synced CROSS JOIN LATERAL (SELECT passes AND (SELECT r.relowner FROM pg_class AS r WHERE r.oid = pg_partition_root(relation)) = relowner AS settled) AS may
    WHERE pg_partition_root(relation) <> relation
    UNION ALL
    SELECT 'error', s.name,
           format('conflict function %s is gone, or another owner''s than the one that was named, and nothing is called in its place', s.conflict_function),
           'If it is meant, name it again: enable(..., conflict_function => ...).', NULL, NULL
    FROM synced AS s
    WHERE NOT snapsync.conflict_function_stands(s.relation)
    UNION ALL
    SELECT 'error', s.name,
           format('what scope_values or predicates name is gone, or another owner''s than when they were given: %s', other.names),
           'Pulls fail, or each change of the access table concerns everybody. If it is meant, give them again: enable(..., scope_values => ..., access_tables => ...).',
           NULL, NULL
    FROM synced AS s CROSS JOIN LATERAL (SELECT string_agg(DISTINCT n.name, ', ') AS names FROM snapsync.named_otherwise(s.relation) AS n(name)) AS other
    WHERE other.names IS NOT NULL
    UNION ALL
    SELECT 'warning', s.name, 'tables inherit from it: their rows are not synced', 'Use a partitioned table.', NULL, NULL
    FROM synced AS s WHERE s.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = s.relation)
    -- Names
    UNION ALL
    SELECT 'warning', s.name,
           format('it was called %s when it got its name, and another table is called so now: clients go on with this one', s.qualified_name),
           CASE WHEN fit.fits
                THEN 'To sync that table in its place, with the same settings, run the fix; or give this one another name.'
                ELSE 'Give this one another name; or call snapsync.disable() for it, and let the other table''s owner call snapsync.enable().' END,
           CASE WHEN fit.fits AND NOT EXISTS (SELECT FROM snapsync.collection AS c WHERE c.relation = other.oid AND c.name IS NOT NULL)
                THEN format('SELECT snapsync.disable(%L), snapsync.enable(%L, name => %L%s);', s.tab, other.oid::regclass, s.name, s.settings) END, snapsync.enabling_is_left_to(s.relation, who)
    FROM synced AS s JOIN own AS other ON other.own_name = s.qualified_name AND other.oid <> s.relation
    CROSS JOIN LATERAL (SELECT s.passes AND other.relowner = s.relowner AND NOT EXISTS (
        SELECT FROM unnest(s.key || s.columns || s.exclude || s.readonly || ARRAY[s.scope_column, s.version_column, s.soft_delete_column]) AS c(named)
        WHERE c.named IS NOT NULL
          AND NOT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = other.oid AND a.attname = c.named AND NOT a.attisdropped)) AS fits) AS fit
    WHERE s.qualified_name <> s.own_name
    UNION ALL
    SELECT 'warning', s.name, format('clients know %s as %I, which is this table''s own name', o.relation, o.name),
           'Let clients ask for this table by its name with the schema; or let a superuser give the other one another name, and then '
           'this one its own: enable(..., name => ...).', NULL, NULL
    FROM synced AS s JOIN snapsync.collection AS o ON o.name = s.relname AND o.relation <> s.relation
    WHERE s.nspname = 'public' AND s.name = s.own_name
    -- Looks after DDL (shape.rs)
    UNION ALL
    SELECT 'info', coalesce(m.name, m.tab),
           'nobody has looked at it since this database was restored, copied or upgraded: every pull replaces it',
           'Transactions that write to synced tables look at some of them each, any DDL command of a superuser''s at all, of others at their own.',
           -- It is his already: nothing is changed.
           CASE WHEN r.rolsuper
                THEN (SELECT format('ALTER SCHEMA snapsync OWNER TO %I;', pg_get_userbyid(nspowner)) FROM pg_namespace WHERE nspname = 'snapsync')
                WHEN m.name IS NOT NULL THEN format('SELECT snapsync.enable(%L);', m.tab) END,
           CASE WHEN NOT r.rolsuper THEN snapsync.enabling_is_left_to(m.relation, who) END
    FROM mine AS m JOIN pg_roles AS r ON r.oid = who WHERE NOT snapsync.is_seen_here(m.relation)
    UNION ALL
    SELECT DISTINCT 'error', coalesce(m.name, m.tab),
           format('a change of its definition, or of what it rests on, could not be followed (%s): every pull replaces it', d.name),
           CASE WHEN m.name IS NULL THEN 'Call snapsync.enable() for a table whose policies read it.' END,
           CASE WHEN m.name IS NOT NULL THEN format('SELECT snapsync.enable(%L);', m.tab) END, snapsync.enabling_is_left_to(m.relation, who)
    FROM mine AS m JOIN snapsync.dependency AS d ON d.relation = m.relation AND d.classid = 0
    UNION ALL
    SELECT 'error', coalesce(m.name, m.tab),
           'REASSIGN OWNED has given it, or something that it rests on, another owner: every pull replaces it',
           CASE WHEN m.name IS NULL THEN 'Call snapsync.enable() for a table whose policies read it.' END,
           CASE WHEN m.name IS NOT NULL THEN format('SELECT snapsync.enable(%L);', m.tab) END, snapsync.enabling_is_left_to(m.relation, who)
    FROM mine AS m WHERE EXISTS (SELECT FROM snapsync.owners_moved(m.relation))
    UNION ALL
    SELECT 'error', coalesce(m.name, m.tab),
           'it, or something that it rests on, has lost a part without an event, as what rests on temporary objects does with its session: every pull replaces it',
           CASE WHEN m.name IS NULL THEN 'Call snapsync.enable() for a table whose policies read it.' END,
           CASE WHEN m.name IS NOT NULL THEN format('SELECT snapsync.enable(%L);', m.tab) END, snapsync.enabling_is_left_to(m.relation, who)
    FROM mine AS m WHERE EXISTS (SELECT FROM snapsync.lost_unseen(m.relation))
    -- Access tables
    UNION ALL
    SELECT 'warning', coalesce(m.name, m.tab),
           format('table %s, which decides who sees a row, is not tracked, because %s: every pull replaces the collection', a.access,
                  coalesce(why.reason, CASE WHEN a.refused THEN 'its owner has called snapsync.disable() for it'
                                             ELSE 'nobody with the TRIGGER privilege on it stands up for this' END)),
           coalesce(why.hint, CASE WHEN a.refused THEN 'If its owner lets it be tracked again, let somebody who has the TRIGGER privilege on it call snapsync.enable() for this one.' END,
                    'Let its owner decide: GRANT TRIGGER ON that table to who owns this one lets triggers be made on it, any triggers; or let '
           'somebody who has the privilege call snapsync.enable().'), NULL, NULL
    FROM mine AS m JOIN snapsync.access AS a ON a.relation = m.relation AND a.untracked
    LEFT JOIN LATERAL (SELECT * FROM snapsync.untrackable(a.access) LIMIT 1) AS why ON true
    UNION ALL
    SELECT 'error', coalesce(m.name, m.tab),
           format('triggers of snapsync on table %s, which decides who sees a row, are off: every pull replaces the collection', a.access),
           'Let its owner switch them on: ALTER TABLE ... ENABLE TRIGGER; or call snapsync.enable() for it, if it is synced.', NULL, NULL
    FROM mine AS m JOIN snapsync.access AS a ON a.relation = m.relation AND NOT a.untracked AND a.access <> a.relation
    WHERE EXISTS (SELECT FROM snapsync.switched_off(a.access))
    UNION ALL
    SELECT DISTINCT 'warning', p.name,
           format('function %s in policy %I is marked IMMUTABLE and gets nothing of a row: pulls and pushes are planned anew each time', f.oid::regprocedure, p.polname),
           'If it says who asks, or reads a setting or a table, declare it STABLE (ALTER FUNCTION). PostgreSQL, too, keeps its answer in plans.', NULL, NULL
    FROM policy AS p CROSS JOIN LATERAL (SELECT snapsync.planned_calls(p.oid) AS calls OFFSET 0) AS c
    JOIN pg_proc AS f ON f.oid = ANY (c.calls::oid[])
    WHERE NOT EXISTS (SELECT FROM pg_depend AS e WHERE e.classid = 'pg_proc'::regclass AND e.objid = f.oid AND e.deptype = 'e')
    UNION ALL
    SELECT 'warning', coalesce(m.name, m.tab),
           format('old values of column %I (%s), which decides who sees a row, are not read back: every row that is %sdeleted, or changed in a column that decides, resets everybody%s',
                  t.attname, format_type(t.atttypid, t.atttypmod),
                  -- (Whom a new row of such a table concerns is asked with the old ones.)
                  CASE WHEN EXISTS (SELECT FROM snapsync.access AS a WHERE a.access = m.relation AND a.kind = 'grant' AND a.relation <> m.relation) THEN 'created, ' ELSE '' END,
                  ' of its ' || quote_ident(coalesce(m.scope_column, m.found_scope))),
           'Reading one would run what somebody has made: a check of a domain within an array or a row, or what makes ranges of one''s own type; or it would look objects up (regclass in an array) that may be called otherwise by now. Let the column be an '
           'array of plain values, with a CHECK of the table''s own in the domain''s place, or keep what decides in a table of its own, a row for each value.', NULL, NULL
    FROM mine AS m JOIN pg_attribute AS t ON t.attrelid = m.relation AND t.attname = ANY (m.image) AND t.attnum > 0 AND NOT t.attisdropped
    WHERE NOT snapsync.reads_back(t.atttypid)
    UNION ALL
    SELECT 'warning', name, format('function %s %s a policy may hide tables that decide who sees a row; changes in them go unnoticed',
                                   fn, CASE WHEN direct THEN 'in' ELSE 'behind' END),
           'Name them: enable(..., access_tables => ''{"schema.table": "user_id = auth.uid()"}''), or ''[]'' if it reads none.', NULL, NULL
    FROM hidden
    UNION ALL
    SELECT 'warning', name,
           CASE functions WHEN 1 THEN format('function %s in or behind a policy of %s, which a policy reads, may hide tables that decide who sees a row; changes in them go unnoticed', first[1], other)
           ELSE format('%s functions in or behind policies of tables that a policy reads (%s, ...) may hide tables that decide who sees a row; changes in them go unnoticed', functions, array_to_string(first, ', ')) END,
           'Name them for this collection: enable(..., access_tables => ''{"schema.table": "user_id = auth.uid()"}''), or ''[]'' if it reads none.', NULL, NULL
    FROM hidden_beyond
    UNION ALL
    SELECT 'warning', name, format('%s asks the system''s catalogs (%s): no change there is noticed', place,
                                   string_agg(what, ', ' ORDER BY what COLLATE "C")),
           'Call snapsync.reset() after GRANT, REVOKE or ALTER ROLE; or let tables say who may see what. What the calling role itself is a member '
           'of is noticed: pg_has_role(current_user, ...).', NULL, NULL
    FROM system GROUP BY name, place
    UNION ALL
    SELECT 'info', name, format('function %s, which policies rest on, calls %s: whoever replaces that resets nobody', fn,
                                string_agg(other, ' and ' ORDER BY other COLLATE "C")),
           'Call snapsync.reset() afterwards; or write the body in standard SQL (BEGIN ATOMIC), of which PostgreSQL knows what it calls.', NULL, NULL
    FROM by_name GROUP BY name, fn
    UNION ALL
    SELECT 'warning', name, format('function %s in scope_values may hide tables that decide a user''s scopes; changes in them go unnoticed', fn),
           'Name them: enable(..., access_tables => ''{"schema.table": "user_id = auth.uid()"}''), or ''[]'' if it reads none.', NULL, NULL
    FROM hidden_scope
    UNION ALL
    SELECT 'warning', name, format('%s, which another role has made, may be taken for %s, which scope_values or a predicate calls: it is not run, but '
                                   'pulls fail, or every change resets every user', other, fn),
           'Let nobody else create functions in that schema, or call one whose arguments all have types of their own (no anyelement, no defaults).', NULL, NULL
    FROM overloaded
    UNION ALL
    SELECT DISTINCT 'warning', s.name, format('a policy reads the foreign table %s: changes there go unnoticed', f.oid::regclass),
           'Call snapsync.reset() after each change there; better, keep what decides in a table of this database.', NULL, NULL
    FROM synced AS s JOIN read AS r ON r.relation = s.relation AND r.classid = 'pg_class'::regclass
    JOIN pg_class AS f ON f.oid = r.objid AND f.relkind = 'f'
    UNION ALL
    SELECT 'error', d.name, format('access table %s does not exist: what a function reads in its place goes unnoticed', d.access),
           'Name access_tables anew, without it: enable(..., access_tables => ...).',
           -- (What cannot be given again as it stands is another finding.)
           CASE WHEN d.passes AND NOT EXISTS (SELECT FROM predicate AS p WHERE p.relation = d.relation AND NOT p.can_be_read)
                     AND NOT EXISTS (SELECT FROM gone_column AS g WHERE g.relation = d.relation)
                THEN format('SELECT snapsync.enable(%L, access_tables => %L);', d.tab,
                  (SELECT coalesce(jsonb_object_agg(o.access, o.said), '{}') FROM declared AS o
                    WHERE o.relation = d.relation AND o.oid IS NOT NULL)) END, snapsync.enabling_is_left_to(d.relation, who)
    FROM declared AS d WHERE d.oid IS NULL
    UNION ALL
    SELECT 'warning', name, format('the predicate of access table %s cannot be read any more: every change there resets every user', access),
           'Give it anew: enable(..., access_tables => ''{"schema.table": "user_id = auth.uid()"}'').', NULL, NULL
    FROM predicate WHERE NOT can_be_read
    UNION ALL
    SELECT 'warning', name, format('columns that functions are said to read of access table %s are gone, so all of its columns count: %s', access, string_agg(gone, ', ' ORDER BY gone)),
           'Name those that they read now: enable(..., access_tables => ''{"schema.table": {"predicate": "user_id = auth.uid()", "columns": ["user_id"]}}'').', NULL, NULL
    FROM gone_column GROUP BY name, access
    UNION ALL
    -- (What else access.rs, `find`, finds of such a table.)
    SELECT 'warning', p.name,
           format('every change in %s concerns every user, whatever its predicate says: %s', p.access,
                  CASE why.place WHEN 'column' THEN 'it has a virtual column' WHEN 'declared' THEN 'an access table without a predicate rests on it'
                                 ELSE 'scope_values read it without a condition on its rows alone, or a policy by a view, as a partition or in a way that is not understood' END),
           CASE why.place
               WHEN 'column' THEN 'Triggers are not given virtual columns. Let them be STORED.'
               WHEN 'declared' THEN 'Give each table in access_tables a predicate: enable(..., access_tables => ''{"schema.table": "user_id = auth.uid()"}'').'
               ELSE 'A predicate speaks for functions. Let scope_values ask for the caller''s rows by a condition on plain columns of the table alone: SELECT id FROM schema.table '
                    'WHERE user_id = auth.uid(), also where the table''s own policies say so. Let policies read the table itself.' END, NULL, NULL
    FROM predicate AS p JOIN snapsync.access AS a ON a.relation = p.relation AND a.access = p.root AND a.predicate = 'true'
    CROSS JOIN LATERAL (
        SELECT CASE WHEN EXISTS (SELECT FROM pg_attribute WHERE attrelid = p.root AND attgenerated = 'v' AND NOT attisdropped) THEN 'column'
                    WHEN EXISTS (SELECT FROM (SELECT array_agg(o.oid::oid) AS oids FROM declared AS o WHERE o.relation = p.relation AND o.predicate IS NULL) AS past
                                 CROSS JOIN LATERAL snapsync.rests_on(NULL, indirectly => past.oids) AS r
                                 WHERE r.classid = 'pg_class'::regclass AND coalesce(pg_partition_root(r.objid), r.objid) = p.root) THEN 'declared' END) AS why(place)
    WHERE NOT EXISTS (SELECT FROM predicate AS o WHERE o.relation = p.relation AND o.root = p.root AND NOT o.can_be_read)
    UNION ALL
    SELECT 'warning', s.name,
           CASE WHEN p.columns IS NULL
                THEN format('table %s, which decides who sees a row, has no primary key: any change in it resets everybody', a.access)
                ELSE format('table %s, which decides who sees a row, has a primary key that cannot name one (%s): any change in it resets everybody',
                            a.access, p.columns) END,
           'Give it a primary key of uuid, text, varchar, smallint, integer, bigint or numeric columns.', NULL, NULL
    FROM synced AS s JOIN snapsync.access AS a ON a.relation = s.relation JOIN snapsync.collection AS k ON k.relation = a.access,
         -- The columns of the primary key that are of other types than a key may have (admin.rs), domains looked through.
         LATERAL (SELECT string_agg(format('%I %s', t.attname, format_type(t.atttypid, t.atttypmod)), ', ' ORDER BY t.attnum) AS columns
                  FROM pg_index AS i JOIN pg_attribute AS t ON t.attrelid = i.indrelid AND t.attnum = ANY (i.indkey)
                  JOIN pg_type AS y ON y.oid = t.atttypid
                  WHERE i.indrelid = a.access AND i.indisprimary AND coalesce(nullif(y.typbasetype, 0), y.oid)
                      <> ALL ('{uuid,text,varchar,smallint,integer,bigint,numeric}'::regtype[])) AS p
    WHERE k.key = '{}'
    UNION ALL
    SELECT 'info', s.name, format('every change in %s concerns every user: it has no row-level security and no predicate', a.access),
           'Give it policies; or let each policy that reads it ask for the caller''s rows, through no view and by a condition on plain columns of it alone, as in user_id = '
           '(SELECT auth.uid()). For functions that read it a predicate speaks: enable(..., access_tables => ''{"schema.table": "user_id = auth.uid()"}'').', NULL, NULL
    FROM synced AS s JOIN snapsync.access AS a ON a.relation = s.relation JOIN pg_class AS r ON r.oid = a.access
    WHERE a.kind = 'grant' AND NOT r.relrowsecurity AND coalesce(a.predicate, 'true') = 'true'
      AND NOT EXISTS (SELECT FROM predicate AS p WHERE p.relation = s.relation AND p.root = a.access)
    UNION ALL
    -- (access.rs, owns_all_parts.)
    SELECT 'info', s.name, format('every change in %s concerns every user: %s, a part of it, belongs to another role', a.access, others.part),
           'Rows of it are read with its owner''s rights to learn whom a change concerns, and whoever owns a part could have SQL of his run with these. Let all '
           'its parts belong to its owner, or to members of that role: ALTER TABLE ... OWNER TO.', NULL, NULL
    FROM synced AS s JOIN snapsync.access AS a ON a.relation = s.relation AND a.kind = 'grant' AND NOT a.untracked
    JOIN pg_class AS r ON r.oid = a.access AND (r.relrowsecurity OR coalesce(a.predicate, 'true') <> 'true')
    CROSS JOIN LATERAL (SELECT min(p.oid::regclass::text COLLATE "C") AS part
                        FROM snapsync.parts(a.access) AS part(oid) CROSS JOIN LATERAL (SELECT oid, relowner FROM pg_class WHERE oid = part.oid OFFSET 0) AS p
                        WHERE p.relowner <> r.relowner AND NOT pg_has_role(p.relowner, r.relowner, 'USAGE')) AS others
    WHERE others.part IS NOT NULL
    UNION ALL
    SELECT 'warning', coalesce(m.name, m.tab),
           format('foreign key %I was not enforced for a time, or did not take all rows along: rows may hang on none, so new rows of %s reset those whom they concern',
                  f.conname, f.confrelid::regclass), NULL,
           format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s;', m.tab, f.conname, f.conname, pg_get_constraintdef(f.oid)),
           snapsync.key_is_left_to(f.oid, who)
    FROM mine AS m JOIN pg_constraint AS f ON f.contype = 'f' AND f.conrelid = m.relation AND snapsync.was_unenforced(f.oid)
    CROSS JOIN LATERAL (SELECT * FROM snapsync.kept_by(m.relation) OFFSET 0) AS kept
    WHERE NOT snapsync.can_keep_rows(f.confdeltype, f.confupdtype, kept.deletes, kept.updates) AND EXISTS (SELECT FROM snapsync.access WHERE access = f.confrelid AND NOT untracked)
    UNION ALL
    SELECT 'info', coalesce(m.name, m.tab),
           format('a trigger or a rule of %s can keep rows from following foreign key %I, so rows of %s that come and go are looked for by themselves',
                  m.tab, f.conname, f.confrelid::regclass),
           'That costs more. A key that changes no rows itself (ON DELETE NO ACTION) needs none of it; nor does one that is dropped and added again without that trigger.', NULL, NULL
    FROM mine AS m CROSS JOIN LATERAL (SELECT * FROM snapsync.kept_by(m.relation) OFFSET 0) AS kept
    JOIN pg_constraint AS f ON f.contype = 'f' AND f.conrelid = m.relation
    WHERE snapsync.can_keep_rows(f.confdeltype, f.confupdtype, kept.deletes, kept.updates) AND EXISTS (SELECT FROM snapsync.access WHERE access = f.confrelid AND NOT untracked)
    -- What makes it slow
    UNION ALL
    SELECT 'warning', s.name,
           format('key column %I is numeric: row-level security keeps its index from being used, so pulls and pushes read the whole table',
                  t.attname),
           'ALTER TABLE ... ALTER COLUMN ... TYPE bigint, if its values are whole numbers.', NULL, NULL
    FROM synced AS s JOIN pg_attribute AS t ON t.attrelid = s.relation AND t.attname = ANY (s.key) JOIN pg_type AS y ON y.oid = t.atttypid
    WHERE s.relrowsecurity AND coalesce(nullif(y.typbasetype, 0), y.oid) = 'numeric'::regtype
    UNION ALL
    SELECT 'info', s.name, format('key column %I is numeric: a row''s number need not read as its id does in "deleted" (4.00, and 4 in JavaScript)', t.attname),
           'In the dialect postgrest let clients compare both as numbers, or use the dialect watermelondb, where a row''s id is a text, too (docs/clients.md, Ids).', NULL, NULL
    FROM synced AS s JOIN pg_attribute AS t ON t.attrelid = s.relation AND t.attname = ANY (s.key) JOIN pg_type AS y ON y.oid = t.atttypid
    WHERE coalesce(nullif(y.typbasetype, 0), y.oid) = 'numeric'::regtype
    UNION ALL
    SELECT 'info', s.name, format('column %I is read by a policy and leads no index', t.attname), NULL,
           format('CREATE INDEX ON %s (%I);', s.tab, t.attname), CASE WHEN NOT has_schema_privilege(who, s.nspname, 'CREATE') THEN 'schema' END
    FROM synced AS s
    JOIN pg_attribute AS t ON t.attrelid = s.relation JOIN pg_type AS y ON y.oid = t.atttypid
    -- (Of two values, or nearly: an index would not be used.)
    WHERE s.relrowsecurity AND t.attnum > 0 AND t.attgenerated <> 'v' AND t.attname IS DISTINCT FROM s.soft_delete_column
      AND coalesce(nullif(y.typbasetype, 0), y.oid) <> 'bool'::regtype
      AND EXISTS (SELECT FROM policy AS p JOIN pg_depend AS d ON d.objid = p.oid
                  WHERE p.relation = s.relation AND d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_class'::regclass
                    AND d.refobjid = s.relation AND d.refobjsubid = t.attnum)
      AND (y.typcategory IN ('A', 'E', 'R') OR EXISTS (SELECT FROM pg_opclass AS o JOIN pg_am AS m ON m.oid = o.opcmethod AND m.amname = 'btree'
               WHERE o.opcdefault AND o.opcintype IN (coalesce(nullif(y.typbasetype, 0), y.oid),
                                                       CASE WHEN y.typcategory = 'S' THEN 'text'::regtype END)))
      AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = s.relation AND indkey[0] = t.attnum)
    UNION ALL
    SELECT 'info', s.name, format('it has no scope (%s): a pull reads the changes of all users, about 5 us for each', s.no_scope),
           'Where every policy asks that the same column equal something of the caller''s, as in user_id = (SELECT auth.uid()) or org_id IN '
           '(SELECT ...), it is found by itself. Or name one: enable(..., scope_column => ..., scope_values => ...).', NULL, NULL
    FROM synced AS s WHERE s.relrowsecurity AND s.scope_column IS NULL AND s.found_scope IS NULL AND s.no_scope IS NOT NULL
    UNION ALL
    SELECT 'info', s.name, format('its scope %s: a pull of theirs reads the changes of all users, about 5 us for each', s.no_scope),
           'Where the policies of all roles ask that the same column equal something of the caller''s, it serves them all. Or name one: '
           'enable(..., scope_column => ..., scope_values => ...).', NULL, NULL
    FROM synced AS s WHERE s.relrowsecurity AND s.scope_column IS NULL AND s.found_scope IS NOT NULL AND s.no_scope IS NOT NULL
    UNION ALL
    SELECT 'info', s.name, s.no_scope || ': a pull without filter reads the changes of all users, about 5 us for each',
           'Let scope_values say which of its values are the caller''s: enable(..., scope_values => ...). Or take it away, if clients need not filter by it: '
           'enable(..., scope_column => '''').', NULL, NULL
    FROM synced AS s WHERE s.relrowsecurity AND s.scope_column IS NOT NULL AND s.scope_values IS NULL AND s.no_scope IS NOT NULL
    UNION ALL
    SELECT 'info', s.name, format('a pull reads the changes that all users make in %s, which decides who sees a row, 10 to 20 us for each', a.access),
           CASE WHEN k.name IS NULL
                THEN 'Where everything that reads it (policies, scope_values, predicates of access_tables) asks that the same column, a uuid, a text or an integer, '
                     'equal something of the caller''s, as in user_id = (SELECT auth.uid()), it reads those of his own rows only. So it does where its own '
                     'policies ask that, and those that read it ask for no row in particular. What it equals has to be STABLE, and no view may stand between.'
                ELSE 'It is synced itself, so it goes by the column that its own policies compare with something of the caller''s, as in user_id = '
                     '(SELECT auth.uid()). Where these compare none, name one for it: enable(..., scope_column => ...).' END, NULL, NULL
    FROM synced AS s JOIN snapsync.access AS a ON a.relation = s.relation AND a.kind = 'grant' AND NOT a.untracked AND a.access <> a.relation
    JOIN snapsync.collection AS k ON k.relation = a.access
    JOIN pg_class AS r ON r.oid = a.access AND (r.relrowsecurity OR coalesce(a.predicate, 'true') <> 'true')
    WHERE s.relrowsecurity AND coalesce(s.scope_column, s.found_scope) IS NOT NULL AND k.scope_column IS NULL AND k.found_scope IS NULL
    -- The log and the clock
    UNION ALL
    SELECT 'error', NULL, format('%s has %s on %s', o.grantee, o.privileges, lower(split_part(o.object, ' ', 1)) || substr(o.object, strpos(o.object, ' '))),
           'What snapsync has for itself names rows of all users, and SQL that runs when they pull and push. Default privileges may have given it away, '
           'or a superuser: GRANT ... ON ALL TABLES IN SCHEMA.', o.revoke,
           CASE WHEN NOT pg_has_role(who, (SELECT relowner FROM pg_class WHERE oid = 'snapsync.collection'::regclass), 'USAGE') THEN 'superuser' END
    FROM snapsync.opened(false) AS o WHERE EXISTS (SELECT FROM mine)
    UNION ALL
    SELECT 'warning', NULL, format('trigger snapsync_emptied of %s does not fire always: clients may not hear of a TRUNCATE', t.tgrelid::regclass),
           'pg_restore --disable-triggers leaves it so.', format('ALTER TABLE %s ENABLE ALWAYS TRIGGER snapsync_emptied;', t.tgrelid::regclass),
           CASE WHEN NOT pg_has_role(who, r.relowner, 'USAGE') THEN 'superuser' END
    FROM pg_class AS r CROSS JOIN LATERAL (SELECT tgrelid, tgname, tgenabled FROM pg_trigger WHERE tgrelid = r.oid OFFSET 0) AS t
    WHERE r.relnamespace = 'snapsync'::regnamespace AND t.tgname = 'snapsync_emptied' AND t.tgenabled <> 'A' AND EXISTS (SELECT FROM mine)
    UNION ALL
    SELECT 'error', NULL, format('role %s, which owns the extension, is no superuser: no trigger can be made, so enable() fails, and a look after DDL that needs one', quote_ident(rolname)),
           'Make it a superuser again; or let a superuser take over what it owns in this database: REASSIGN OWNED.', NULL, NULL
    FROM pg_roles
    WHERE oid = (SELECT relowner FROM pg_class WHERE oid = 'snapsync.collection'::regclass) AND NOT rolsuper AND EXISTS (SELECT FROM mine)
    UNION ALL
    SELECT 'warning', NULL, format('the log takes %s', pg_size_pretty(pg_total_relation_size('snapsync.change'))),
           'Clients that stayed away for longer than prune() keeps take everything anew.', 'SELECT snapsync.prune(''30 days'');',
           CASE WHEN NOT pg_has_role(who, (SELECT relowner FROM pg_class WHERE oid = 'snapsync.change'::regclass), 'USAGE') THEN 'superuser' END
    WHERE pg_total_relation_size('snapsync.change') > 1024::bigint * 1024 * 1024 AND EXISTS (SELECT FROM mine)
    UNION ALL
    SELECT 'warning', NULL,
           format('prepared transaction %L of %s holds every cursor back: changes since then are sent again with every pull', x.gid, x.prepared),
           'COMMIT PREPARED or ROLLBACK PREPARED it.', NULL, NULL
    FROM pg_prepared_xacts AS x WHERE x.transaction IN (SELECT prepared FROM writing)
    UNION ALL
    SELECT 'info', NULL,
           format('process %s has been writing its changes for %s; until it commits, changes are sent again',
                  w.pid, date_trunc('second', now() - a.xact_start)),
           'Wait for it, or end it with pg_terminate_backend().', NULL, NULL
    FROM writing AS w JOIN pg_stat_activity AS a ON a.pid = w.pid WHERE a.xact_start < now() - interval '1 minute'
    UNION ALL
    SELECT 'warning', NULL, format('the clock stands at %s, but has been at %s: a script or a restore has set it back', clock.now, clock.was),
           'The next change of a synced table makes it leap past all that it has been. Until then, clients that have seen more take '
           'everything anew with each pull.', NULL, NULL
    FROM (SELECT (SELECT last_value FROM snapsync.clock) AS now, (SELECT max(snapmin) FROM snapsync.horizon) - 1 AS was) AS clock
    WHERE clock.now < clock.was AND EXISTS (SELECT FROM mine)
)
-- A name with a line break in it must not look like a line of the report.
SELECT severity, collection, regexp_replace(finding, '[[:cntrl:]]', '?', 'g'),
       nullif(concat_ws(' ', hint, CASE WHEN fix IS NOT NULL THEN CASE left_to
           WHEN 'owner' THEN 'Not for you to mend: let its owner ask doctor(), in a session of his own, and run the fix that he is given.'
           WHEN 'switch' THEN 'Let its owner do that, in a session of his own: ALTER TABLE ... ENABLE TRIGGER.'
           WHEN 'logged' THEN 'Let its owner mend that, in a session of his own: ALTER TABLE ... SET LOGGED.'
           WHEN 'voucher' THEN 'Whoever calls snapsync.enable() for it, or switches row-level security on, stands up for triggers on the tables that its policies '
                'or settings read. That takes the TRIGGER privilege on each, and one''s owner may have taken them away: call it if you know that you may.'
           WHEN 'key' THEN 'Drop it and add it again. That takes the REFERENCES privilege on the other table, and runs in your name what others have made to '
                'compare and cast the types of its columns, and what indexes of their tables compute.'
           WHEN 'schema' THEN 'CREATE INDEX, by who may create in its schema.'
           WHEN 'superuser' THEN 'Let a superuser ask doctor(), who is given the fix.' END END), ''),
       CASE WHEN left_to IS NULL THEN fix END
FROM found
ORDER BY array_position('{error,warning,info}', severity), collection COLLATE "C", finding COLLATE "C", fix COLLATE "C"
$$;
COMMENT ON FUNCTION snapsync.findings(oid) IS 'What doctor() says to a role';
REVOKE EXECUTE ON FUNCTION snapsync.findings(oid) FROM PUBLIC;

-- It asks findings() for the role that calls it, as its owner: nobody else reads snapsync's tables, and each role is told about its own
-- tables only. SECURITY DEFINER would know the session's user and who has called SET ROLE, and neither need be who calls: code of a
-- stranger's runs in others' sessions, in an index that they analyze.
CREATE FUNCTION snapsync.doctor()
RETURNS TABLE (severity text, collection text, finding text, hint text, fix text)
LANGUAGE c STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'snapsync_doctor';
COMMENT ON FUNCTION snapsync.doctor() IS
'Findings about the synced tables of the current role, each with its severity (error: wrong now; warning; info), what to do about it, and where nothing is to be decided the statement that does it';
