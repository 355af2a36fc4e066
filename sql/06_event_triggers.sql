-- DDL on tracked tables: the settings follow renames, the logged columns follow the policies, and the clients are reset
-- where changes of rows cannot say what happened.

-- pg_partition_tree() would lock the partitions, and wait for whoever has them.
CREATE FUNCTION snapsync.parts(root oid) RETURNS SETOF oid
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH RECURSIVE part(oid) AS (
        SELECT root
        UNION ALL
        -- (Each by itself: joined, all partitions of the database may be read for each one.)
        SELECT i.inhrelid FROM part
        CROSS JOIN LATERAL (SELECT inhrelid FROM pg_catalog.pg_inherits
                            WHERE inhparent OPERATOR(pg_catalog.=) part.oid AND NOT inhdetachpending OFFSET 0) AS i
        CROSS JOIN LATERAL (SELECT FROM pg_catalog.pg_class WHERE oid OPERATOR(pg_catalog.=) i.inhrelid AND relispartition OFFSET 0) AS c
    )
    SELECT oid FROM part;
END;
COMMENT ON FUNCTION snapsync.parts(oid) IS 'A table and its partitions, at all levels, without a lock on any';
REVOKE EXECUTE ON FUNCTION snapsync.parts(oid) FROM PUBLIC;

-- The server evaluates what is constant in such a key when it first looks at the table, in whatever session and with whatever rights that is. That runs no
-- more than the system's functions, maybe; but among these is one that opens any table and evaluates the key of that (satisfies_hash_partition). So none is.
CREATE FUNCTION snapsync.has_expression_key(root oid) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT EXISTS (
        SELECT FROM snapsync.parts(root) AS part(oid)
        CROSS JOIN LATERAL (SELECT FROM pg_catalog.pg_partitioned_table
                            WHERE partrelid OPERATOR(pg_catalog.=) part.oid AND partexprs IS NOT NULL OFFSET 0) AS k);
END;
COMMENT ON FUNCTION snapsync.has_expression_key(oid) IS 'Is there an expression in the partition key of a table, or of a part of it?';
REVOKE EXECUTE ON FUNCTION snapsync.has_expression_key(oid) FROM PUBLIC;

CREATE FUNCTION snapsync.has_foreign_part(root oid) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT EXISTS (
        SELECT FROM snapsync.parts(root) AS part(oid)
        CROSS JOIN LATERAL (SELECT FROM pg_catalog.pg_class
                            WHERE oid OPERATOR(pg_catalog.=) part.oid AND relkind OPERATOR(pg_catalog.=) 'f' AND relispartition OFFSET 0) AS c);
END;
COMMENT ON FUNCTION snapsync.has_foreign_part(oid) IS 'Is a part of a table a foreign table, of whose changes nobody tells?';
REVOKE EXECUTE ON FUNCTION snapsync.has_foreign_part(oid) FROM PUBLIC;

-- The bodies below are parsed here and now: nothing but the system's operators is meant.
SET LOCAL search_path = pg_catalog, pg_temp;

-- (Before PostgreSQL 16 to_regprocedure() raises an ERROR where a type of an argument is gone.)
CREATE FUNCTION snapsync.procedure_of(signature text) RETURNS SETOF oid
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT f.oid
    FROM (SELECT parse_ident($1, false) AS names OFFSET 0) AS n
    CROSS JOIN LATERAL (SELECT oid FROM pg_namespace
                        WHERE nspname = CASE cardinality(n.names) WHEN 1 THEN 'pg_catalog' ELSE n.names[1]::name END OFFSET 0) AS s
    CROSS JOIN LATERAL (SELECT oid FROM pg_proc WHERE proname = n.names[cardinality(n.names)]::name AND pronamespace = s.oid OFFSET 0) AS f
    WHERE f.oid::regprocedure::text = $1;
END;
COMMENT ON FUNCTION snapsync.procedure_of(text) IS
'The function with this signature, as it is written where pg_catalog is the search path; no row: it, or a type of its arguments, is gone';
REVOKE EXECUTE ON FUNCTION snapsync.procedure_of(text) FROM PUBLIC;

-- textoctetlen reads the header of whatever has one, and fetches nothing.
CREATE FUNCTION snapsync.raw_length(value anyarray) RETURNS integer
LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'textoctetlen';
COMMENT ON FUNCTION snapsync.raw_length(anyarray) IS 'How many bytes an array has before it is compressed; it is not read for that';
REVOKE EXECUTE ON FUNCTION snapsync.raw_length(anyarray) FROM PUBLIC;

CREATE FUNCTION snapsync.raw_length(value jsonb) RETURNS integer
LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'textoctetlen';
COMMENT ON FUNCTION snapsync.raw_length(jsonb) IS 'The same of a document';
REVOKE EXECUTE ON FUNCTION snapsync.raw_length(jsonb) FROM PUBLIC;

-- These two become part of the statements that call them, whose plans are kept (no SET: a function with one is planned with each call).
-- What is looked up one by one stands in subqueries with OFFSET 0: of catalogs without statistics, or whose statistics know no policies,
-- the planner expects that there are none, and would begin with all that there are in the database; and of an EXISTS it would make a hash
-- table of all that there are.
-- scopes: begins with what the owner's scope_values name, too; indirectly: with these tables and views themselves, all at once, for many of them may rest
-- on the same.
CREATE FUNCTION snapsync.rests_on(relation oid, scopes boolean DEFAULT false, indirectly oid[] DEFAULT '{}')
RETURNS TABLE (classid oid, objid oid, direct boolean, in_function boolean)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH RECURSIVE read(classid, objid, direct, in_function) AS (
        (SELECT 'pg_class'::regclass::oid, begun.oid, false, false FROM unnest($3) AS begun(oid)
         UNION ALL
         -- What its policies name. A partition's are not those of who reads its root.
         SELECT d.refclassid, d.refobjid, NOT coalesce(c.relispartition AND c.oid <> $1, false), false
         FROM (SELECT oid FROM pg_policy WHERE polrelid = $1 AND polcmd IN ('*', 'r') OFFSET 0) AS p
         CROSS JOIN LATERAL (SELECT refclassid, refobjid FROM pg_depend WHERE classid = 'pg_policy'::regclass AND objid = p.oid OFFSET 0) AS d
         LEFT JOIN LATERAL (SELECT oid, relispartition FROM pg_class WHERE d.refclassid = 'pg_class'::regclass AND oid = d.refobjid OFFSET 0) AS c ON true
         WHERE d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_operator'::regclass, 'pg_ts_config'::regclass, 'pg_ts_dict'::regclass)
         UNION ALL
         SELECT s.classid, s.objid, s.direct, false
         FROM (SELECT scope_reads FROM snapsync.collection WHERE relation = $1 AND $2 OFFSET 0) AS c
         CROSS JOIN LATERAL (
             SELECT 'pg_proc'::regclass::oid, p.oid, false
             FROM jsonb_array_elements_text(c.scope_reads -> 'functions') AS f(signature) CROSS JOIN LATERAL snapsync.procedure_of(f.signature) AS p(oid)
             UNION ALL
             SELECT 'pg_class'::regclass, to_regclass(name)::oid, true FROM jsonb_object_keys(c.scope_reads -> 'tables') AS t(name)) AS s(classid, objid, direct)
         WHERE s.objid IS NOT NULL)
        UNION
        -- What a view, function or operator depends on, and what the policies of an indirectly read table do. (A table that is read
        -- directly is judged by what the caller sees.)
        SELECT d.refclassid, d.refobjid, false, r.in_function OR r.classid <> 'pg_class'::regclass
        FROM read AS r
        CROSS JOIN LATERAL (
            SELECT 'pg_rewrite'::regclass::oid AS classid, w.oid AS objid
            FROM (SELECT oid FROM pg_rewrite WHERE r.classid = 'pg_class'::regclass AND ev_class = r.objid AND ev_type = '1' OFFSET 0) AS w
            UNION ALL
            SELECT 'pg_policy'::regclass, p.oid
            FROM (SELECT FROM pg_class WHERE r.classid = 'pg_class'::regclass AND NOT r.direct AND oid = r.objid AND relrowsecurity OFFSET 0) AS c
            CROSS JOIN LATERAL (SELECT oid FROM pg_policy WHERE polrelid = r.objid AND polcmd IN ('*', 'r') OFFSET 0) AS p
            UNION ALL
            SELECT r.classid, r.objid WHERE r.classid <> 'pg_class'::regclass) AS via
        CROSS JOIN LATERAL (
            SELECT refclassid, refobjid FROM (SELECT * FROM pg_depend WHERE classid = via.classid AND objid = via.objid OFFSET 0) AS named
            UNION ALL
            -- The planner may put these in its place. No dependency says so.
            SELECT via.classid, other.oid
            FROM (SELECT oprnegate, oprcom FROM pg_operator WHERE via.classid = 'pg_operator'::regclass AND oid = via.objid OFFSET 0) AS o,
                 LATERAL (VALUES (o.oprnegate), (o.oprcom)) AS other(oid)
            WHERE other.oid <> 0) AS d
        WHERE d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_operator'::regclass, 'pg_ts_config'::regclass, 'pg_ts_dict'::regclass)
    )
    SELECT classid, objid, direct, in_function FROM read;
END;
COMMENT ON FUNCTION snapsync.rests_on(oid, boolean, oid[]) IS
'What the SELECT policies of a table rest on, also behind views and functions, as far as pg_depend knows; direct: the policies name it themselves and read it under its own policies; in_function: a function or an operator stands between. And, indirectly, what views and tables do, for who reads them with other rights than the caller''s';
REVOKE EXECUTE ON FUNCTION snapsync.rests_on(oid, boolean, oid[]) FROM PUBLIC;

CREATE FUNCTION snapsync.made_of(relation oid) RETURNS SETOF oid
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH RECURSIVE made_of(oid) AS (
        SELECT atttypid FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped
        UNION
        SELECT part.oid
        FROM made_of AS m CROSS JOIN LATERAL (SELECT oid, typbasetype, typelem, typrelid FROM pg_type WHERE oid = m.oid OFFSET 0) AS y
        CROSS JOIN LATERAL (
            SELECT y.typbasetype UNION ALL SELECT y.typelem
            -- (Apart: no index serves for both.)
            UNION ALL (SELECT rngsubtype FROM pg_range WHERE rngtypid = y.oid OFFSET 0)
            UNION ALL (SELECT rngsubtype FROM pg_range WHERE rngmultitypid = y.oid OFFSET 0)
            UNION ALL (SELECT atttypid FROM pg_attribute WHERE attrelid = y.typrelid AND attnum > 0 AND NOT attisdropped OFFSET 0)) AS part(oid)
        WHERE part.oid <> 0
    )
    SELECT oid FROM made_of;
END;
COMMENT ON FUNCTION snapsync.made_of(oid) IS 'The types of a table''s columns, and what these are made of: domains, arrays, ranges, composite types';
REVOKE EXECUTE ON FUNCTION snapsync.made_of(oid) FROM PUBLIC;

-- A label is a text to whoever turns one into the other. (Of types that columns are made of the shape has all by itself.)
CREATE FUNCTION snapsync.types_named(relation oid) RETURNS SETOF oid
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH RECURSIVE read AS MATERIALIZED (SELECT r.classid, r.objid FROM snapsync.rests_on($1, scopes => true) AS r),
    says(classid, objid) AS (
        SELECT 'pg_policy'::regclass::oid, p.oid
        FROM (SELECT part.oid FROM snapsync.parts($1) AS part(oid)
              UNION SELECT objid FROM read WHERE classid = 'pg_class'::regclass) AS t
        CROSS JOIN LATERAL (SELECT oid FROM pg_policy WHERE polrelid = t.oid AND polcmd IN ('*', 'r') OFFSET 0) AS p
        UNION ALL
        SELECT 'pg_rewrite'::regclass, w.oid
        FROM read CROSS JOIN LATERAL (SELECT oid FROM pg_rewrite WHERE ev_class = read.objid AND ev_type = '1' OFFSET 0) AS w
        WHERE read.classid = 'pg_class'::regclass
        UNION ALL
        SELECT classid, objid FROM read WHERE classid = 'pg_proc'::regclass),
    named(oid) AS (
        SELECT d.refobjid
        FROM says CROSS JOIN LATERAL (SELECT refclassid, refobjid FROM pg_depend WHERE classid = says.classid AND objid = says.objid OFFSET 0) AS d
        WHERE d.refclassid = 'pg_type'::regclass AND d.refobjid >= 16384
        UNION
        SELECT to_regtype(y.name)::oid
        FROM (SELECT scope_reads FROM snapsync.collection WHERE relation = $1 OFFSET 0) AS c
        CROSS JOIN LATERAL jsonb_array_elements_text(c.scope_reads -> 'types') AS y(name)
        WHERE to_regtype(y.name) IS NOT NULL
        UNION
        SELECT part.oid
        FROM named CROSS JOIN LATERAL (SELECT typbasetype, typelem, typrelid FROM pg_type WHERE oid = named.oid OFFSET 0) AS y
        CROSS JOIN LATERAL (SELECT y.typbasetype UNION ALL SELECT y.typelem
                            UNION ALL SELECT atttypid FROM pg_attribute WHERE attrelid = y.typrelid AND attnum > 0 AND NOT attisdropped) AS part(oid)
        WHERE part.oid >= 16384)
    SELECT oid FROM named;
END;
COMMENT ON FUNCTION snapsync.types_named(oid) IS
'The types that somebody has made and the SELECT policies of a table name, or scope_values, or the views and functions behind them, as far as pg_depend knows; and what these are made of';
REVOKE EXECUTE ON FUNCTION snapsync.types_named(oid) FROM PUBLIC;

-- What a foreign key does to rows (ON DELETE CASCADE, and so on) goes through the triggers and rules of their table, which may leave them as they are.
-- In tgtype 1 is ROW, 2 BEFORE, 8 DELETE, 16 UPDATE (catalog/pg_trigger.h). (An update that moves a row to another partition is a deletion there.)
CREATE FUNCTION snapsync.kept_by(relation oid, OUT deletes boolean, OUT updates boolean)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT coalesce(bool_or(does.deletes), false), coalesce(bool_or(does.updates), false)
    FROM (SELECT g.tgtype & 8 <> 0, g.tgtype & 16 <> 0 OR g.tgtype & 8 <> 0 AND (SELECT relkind FROM pg_class WHERE oid = $1) = 'p'
          FROM snapsync.parts($1) AS part(oid)
          CROSS JOIN LATERAL (SELECT tgtype FROM pg_trigger WHERE tgrelid = part.oid AND tgenabled <> 'D' OFFSET 0) AS g
          WHERE g.tgtype & 3 = 3
          UNION ALL
          SELECT w.ev_type = '4', w.ev_type = '2'
          FROM (SELECT ev_type, is_instead, ev_enabled FROM pg_rewrite WHERE ev_class = $1 OFFSET 0) AS w
          WHERE w.is_instead AND w.ev_enabled <> 'D') AS does(deletes, updates);
END;
COMMENT ON FUNCTION snapsync.kept_by(oid) IS 'May triggers or rules of this table keep rows from being deleted, or updated? Asked once of a table, however many keys it has';
CREATE FUNCTION snapsync.can_keep_rows(confdeltype "char", confupdtype "char", deletes boolean, updates boolean) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT $1 = 'c' AND $3 OR ($1 IN ('n', 'd') OR $2 IN ('c', 'n', 'd')) AND $4;
END;
COMMENT ON FUNCTION snapsync.can_keep_rows("char", "char", boolean, boolean) IS
'Can a trigger or a rule keep rows from following the row that this foreign key names, when that one is deleted or gets another key? With what kept_by() says of its table';
REVOKE EXECUTE ON FUNCTION snapsync.kept_by(oid), snapsync.can_keep_rows("char", "char", boolean, boolean) FROM PUBLIC;

-- PostgreSQL makes keys of its own for the partitions of both tables, with triggers of their own: one side's may be off while the whole's are on.
CREATE FUNCTION snapsync.keys_off(key oid) RETURNS SETOF oid
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH RECURSIVE part(oid) AS (
        SELECT $1
        UNION ALL
        SELECT below.oid FROM part CROSS JOIN LATERAL (SELECT oid FROM pg_constraint WHERE conparentid = part.oid OFFSET 0) AS below)
    SELECT part.oid
    FROM part CROSS JOIN LATERAL (SELECT FROM pg_trigger WHERE tgconstraint = part.oid AND tgenabled IN ('D', 'R') OFFSET 0) AS g;
END;
COMMENT ON FUNCTION snapsync.keys_off(oid) IS
'Of this foreign key and those that it has for partitions, of both tables and at all levels, the ones that are not enforced now: with a trigger that is off';
REVOKE EXECUTE ON FUNCTION snapsync.keys_off(oid) FROM PUBLIC;

CREATE FUNCTION snapsync.identity_of(relation oid) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT concat_ws(' ', (SELECT system_identifier FROM pg_control_system()),
                     (SELECT oid FROM pg_database WHERE datname = current_database()), $1);
END;
COMMENT ON FUNCTION snapsync.identity_of(oid) IS 'Which table of which database of which cluster this is: only there do the numbers in a shape mean anything';
REVOKE EXECUTE ON FUNCTION snapsync.identity_of(oid) FROM PUBLIC;

CREATE FUNCTION snapsync.untrackable(relation oid) RETURNS TABLE (reason text, because text, hint text)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT 'it is unlogged', NULL, format('ALTER TABLE %s SET LOGGED first.', $1::regclass)
    FROM pg_class WHERE oid = $1 AND relpersistence <> 'p'
    UNION ALL
    SELECT 'its partition key has an expression', 'The server would run functions in it whenever it looks at the table.',
           'Partition it by columns.'
    WHERE snapsync.has_expression_key($1)
    UNION ALL
    SELECT 'a foreign table is a partition of it', 'What changes in a foreign table is not seen here.',
           'Detach it, or keep what decides in tables of this database.'
    WHERE snapsync.has_foreign_part($1);
END;
COMMENT ON FUNCTION snapsync.untrackable(oid) IS 'Why a table that policies read cannot be tracked, whoever may make triggers on it; no row: it can';
REVOKE EXECUTE ON FUNCTION snapsync.untrackable(oid) FROM PUBLIC;

CREATE FUNCTION snapsync.columns_of(relation oid) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT jsonb_object_agg(attnum, jsonb_build_array(attname, format_type(atttypid, atttypmod), attcollation::regcollation::text))
    FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped;
END;
COMMENT ON FUNCTION snapsync.columns_of(oid) IS 'Name, type and collation of each column, by its number, as a shape has them';
REVOKE EXECUTE ON FUNCTION snapsync.columns_of(oid) FROM PUBLIC;

CREATE FUNCTION snapsync.is_seen_here(relation oid) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT EXISTS (SELECT FROM snapsync.collection AS c WHERE c.relation = $1 AND c.shape ->> 'identity' = snapsync.identity_of($1));
END;
COMMENT ON FUNCTION snapsync.is_seen_here(oid) IS
'Has somebody looked at this table in this database? What is known of one in a restored, copied or upgraded database may be about another one''s objects';
REVOKE EXECUTE ON FUNCTION snapsync.is_seen_here(oid) FROM PUBLIC;

-- The next three give a row or none, and no boolean: functions in FROM become part of the statements that call them, whose plans are kept, while
-- one that is called in an expression, and has subqueries, is planned with each statement.

-- REASSIGN OWNED fires no event trigger. The owner's row in pg_shdepend is another whenever the owner changes, also there and back. (There is
-- none for the role that has made the cluster, whose objects REASSIGN OWNED refuses to give away.)
CREATE FUNCTION snapsync.owners_moved(relation oid) RETURNS SETOF oid
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT $1 WHERE CASE WHEN EXISTS (
        SELECT FROM (SELECT classid, objid, owner FROM snapsync.dependency
                     WHERE relation = $1 AND classid IN ('pg_class'::regclass, 'pg_proc'::regclass) OFFSET 0) AS d
        WHERE nullif(concat_ws(' ', CASE d.classid WHEN 'pg_class'::regclass THEN (SELECT relowner FROM pg_class WHERE oid = d.objid)
                                                   ELSE (SELECT proowner FROM pg_proc WHERE oid = d.objid) END,
                               (SELECT s.xmin FROM pg_shdepend AS s
                                WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
                                  AND s.classid = d.classid AND s.objid = d.objid AND s.objsubid = 0 AND s.deptype = 'o')), '') <> d.owner)
        THEN snapsync.is_seen_here($1) END;
END;
COMMENT ON FUNCTION snapsync.owners_moved(oid) IS 'This table, if it, or something that it rests on, has got another owner since it was looked at';
REVOKE EXECUTE ON FUNCTION snapsync.owners_moved(oid) FROM PUBLIC;

-- What rests on a temporary function or type goes at the end of its session, or with DISCARD, without an event. (Not asked of indexes, which
-- REINDEX CONCURRENTLY makes anew without one.)
CREATE FUNCTION snapsync.lost_unseen(relation oid) RETURNS SETOF oid
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT $1 WHERE CASE WHEN EXISTS (
        SELECT FROM (SELECT classid, objid FROM snapsync.dependency
                     WHERE relation = $1 AND classid IN ('pg_policy'::regclass, 'pg_constraint'::regclass, 'pg_proc'::regclass) AND objid <> 0 OFFSET 0) AS d
        WHERE CASE d.classid WHEN 'pg_policy'::regclass THEN NOT EXISTS (SELECT FROM pg_policy WHERE oid = d.objid OFFSET 0)
                             WHEN 'pg_proc'::regclass THEN NOT EXISTS (SELECT FROM pg_proc WHERE oid = d.objid OFFSET 0)
                             ELSE NOT EXISTS (SELECT FROM pg_constraint WHERE oid = d.objid OFFSET 0) END
        UNION ALL
        -- (Counted, as many as are known: a look-up for each costs more, and a join of both the square of them.)
        SELECT FROM (SELECT shape -> 'columns' AS columns FROM snapsync.collection WHERE relation = $1 OFFSET 0) AS c
        WHERE CASE jsonb_typeof(c.columns) WHEN 'object' THEN
                  (SELECT count(*) FROM jsonb_object_keys(c.columns))
                  > (SELECT count(*) FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped AND c.columns ? attnum::text) END)
        THEN snapsync.is_seen_here($1) END;
END;
COMMENT ON FUNCTION snapsync.lost_unseen(oid) IS 'This table, if it has lost a column, a key or a policy, or something that it rests on, since it was looked at';
REVOKE EXECUTE ON FUNCTION snapsync.lost_unseen(oid) FROM PUBLIC;

-- Whoever owns a table may switch our triggers on it off, also where others' policies read it.
CREATE FUNCTION snapsync.switched_off(relation oid) RETURNS SETOF oid
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT $1 WHERE CASE WHEN EXISTS (
        SELECT FROM snapsync.parts($1) AS part(oid)
        CROSS JOIN LATERAL (SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = part.oid OFFSET 0) AS g
        WHERE g.tgname IN ('00_snapsync_track', '00_snapsync_truncate') AND g.tgenabled <> 'A') THEN true END;
END;
COMMENT ON FUNCTION snapsync.switched_off(oid) IS 'This table, if a trigger of snapsync on it, or on a part of it, does not fire always';
REVOKE EXECUTE ON FUNCTION snapsync.switched_off(oid) FROM PUBLIC;

-- Elsewhere the Oids are other ones. (pg_upgrade takes the keys over unchecked; a restored dump may, too.)
CREATE FUNCTION snapsync.was_unenforced(key oid) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT EXISTS (
        -- By a mark that no look has taken over yet.
        SELECT FROM snapsync.dependency AS d WHERE d.classid = 'pg_constraint'::regclass AND d.objid = $1 AND d.name = 'unenforced')
    OR EXISTS (
        SELECT FROM (SELECT oid, conname, conrelid FROM pg_constraint WHERE oid = $1 AND contype = 'f' OFFSET 0) AS f
        JOIN snapsync.collection AS c ON c.relation = f.conrelid AND jsonb_typeof(c.shape -> 'unenforced') = 'array'
        WHERE CASE WHEN c.shape ->> 'identity' = snapsync.identity_of(f.conrelid) THEN c.shape -> 'unenforced' ? f.oid::text
                   ELSE c.shape -> 'unenforced_names' ? f.conname::text END);
END;
COMMENT ON FUNCTION snapsync.was_unenforced(oid) IS
'Was this foreign key not enforced for a time, or did it not take all rows along, as far as is known of the table that has it?';
REVOKE EXECUTE ON FUNCTION snapsync.was_unenforced(oid) FROM PUBLIC;

CREATE FUNCTION snapsync.reached(relations oid[], role oid) RETURNS SETOF oid
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH RECURSIVE reached(oid) AS (
        SELECT unnest($1)
        UNION
        SELECT k.oid
        FROM reached CROSS JOIN LATERAL (
            SELECT i.inhrelid FROM pg_inherits AS i WHERE i.inhparent = reached.oid
            UNION ALL
            SELECT d.objid FROM (SELECT reltype FROM pg_class WHERE oid = reached.oid OFFSET 0) AS y
            CROSS JOIN LATERAL (SELECT objid FROM pg_depend WHERE refclassid = 'pg_type'::regclass AND refobjid = y.reltype
                                   AND classid = 'pg_class'::regclass AND objsubid = 0 OFFSET 0) AS d) AS next(oid)
        CROSS JOIN LATERAL (SELECT oid FROM pg_class WHERE oid = next.oid AND NOT relispartition AND pg_has_role($2, relowner, 'USAGE') OFFSET 0) AS k)
    SELECT oid FROM reached;
END;
COMMENT ON FUNCTION snapsync.reached(oid[], oid) IS
'These relations, with the tables that inherit from them or are of their types: a command reaches them, too, if the role that gives it may alter them';
REVOKE EXECUTE ON FUNCTION snapsync.reached(oid[], oid) FROM PUBLIC;

CREATE FUNCTION snapsync.on_command_end() RETURNS event_trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'snapsync_on_command_end';
COMMENT ON FUNCTION snapsync.on_command_end() IS 'Event trigger: looks again at tracked tables after DDL';

CREATE FUNCTION snapsync.on_drop() RETURNS event_trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'snapsync_on_drop';
COMMENT ON FUNCTION snapsync.on_drop() IS 'Event trigger: forgets dropped tables';

-- Whatever the command is called: ALTER FOREIGN TABLE renames columns of tables, ALTER INDEX renames tables, and more. What matters is what it touched.
CREATE EVENT TRIGGER snapsync_command_end ON ddl_command_end
EXECUTE FUNCTION snapsync.on_command_end();
COMMENT ON EVENT TRIGGER snapsync_command_end IS 'Keeps tracking right under DDL';

-- Whatever is dropped: with CASCADE, anything may take a policy or a column along.
CREATE EVENT TRIGGER snapsync_drop ON sql_drop
EXECUTE FUNCTION snapsync.on_drop();
COMMENT ON EVENT TRIGGER snapsync_drop IS 'Keeps tracking right under DROP';

CREATE FUNCTION snapsync.on_rewrite() RETURNS event_trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'snapsync_on_rewrite';
COMMENT ON FUNCTION snapsync.on_rewrite() IS 'Event trigger: resets clients of a table whose rows ALTER TABLE rewrites';

CREATE EVENT TRIGGER snapsync_rewrite ON table_rewrite
EXECUTE FUNCTION snapsync.on_rewrite();

CREATE FUNCTION snapsync.before_index() RETURNS event_trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'snapsync_before_index';
COMMENT ON FUNCTION snapsync.before_index() IS 'Event trigger: refuses an index that snapsync''s own tables cannot have, and to drop one of theirs CONCURRENTLY';

-- (What drops tables, too: so the library is loaded before that, and sees whether a partition that goes has rows. shape/parts.rs)
CREATE EVENT TRIGGER snapsync_index ON ddl_command_start WHEN TAG IN ('CREATE INDEX', 'DROP INDEX', 'DROP TABLE', 'DROP SCHEMA', 'DROP OWNED')
EXECUTE FUNCTION snapsync.before_index();
COMMENT ON EVENT TRIGGER snapsync_index IS 'Keeps the log writable, and is there before partitions are dropped';
-- Row triggers fire also where session_replication_role is replica; DDL must be followed there, too.
ALTER EVENT TRIGGER snapsync_command_end ENABLE ALWAYS;
ALTER EVENT TRIGGER snapsync_drop ENABLE ALWAYS;
ALTER EVENT TRIGGER snapsync_rewrite ENABLE ALWAYS;
ALTER EVENT TRIGGER snapsync_index ENABLE ALWAYS;
REVOKE EXECUTE ON FUNCTION snapsync.on_command_end(), snapsync.on_drop(), snapsync.on_rewrite(), snapsync.before_index() FROM PUBLIC;
COMMENT ON EVENT TRIGGER snapsync_rewrite IS 'Notices changes that no row trigger sees';

-- What TRUNCATE takes is gone for everybody, under any snapshot. Without these, entries of the log cannot be found or told apart any more: clients are
-- reset. The others cannot be made up for.
CREATE FUNCTION snapsync.emptied() RETURNS trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'snapsync_emptied';
COMMENT ON FUNCTION snapsync.emptied() IS 'Trigger on snapsync''s own tables: TRUNCATE resets all clients, or is refused';
REVOKE EXECUTE ON FUNCTION snapsync.emptied() FROM PUBLIC;

DO $$
DECLARE
    "table" text;
    "when" text;
BEGIN
    FOR "table", "when" IN
        SELECT unnest('{change,early,salt,epoch}'::text[]), 'AFTER'
        UNION ALL SELECT unnest('{collection,access,dependency,compaction,push,mutator,mutation_client,mutation_failure}'::text[]), 'BEFORE'
    LOOP
        EXECUTE format('CREATE TRIGGER snapsync_emptied %s TRUNCATE ON snapsync.%I EXECUTE FUNCTION snapsync.emptied()', "when", "table");
        EXECUTE format('ALTER TABLE snapsync.%I ENABLE ALWAYS TRIGGER snapsync_emptied', "table");
    END LOOP;
END
$$;
