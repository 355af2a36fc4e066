-- Tables of one owner that all refer to each other, or whose policies all read each other: what goes from table to table looks at each of them once, not once
-- for each pair.
\set ECHO none
\set test regress_pairs_load
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql
-- What one look reads of the catalogs, in one transaction.
CREATE FUNCTION t.looked_up(tables regclass[]) RETURNS bigint LANGUAGE sql AS $$
    SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_all_tables WHERE relid = ANY (tables) $$;
CREATE PROCEDURE t.measure(command text, tables regclass[], most bigint) LANGUAGE plpgsql AS $$
DECLARE
    before bigint;
    looked bigint;
BEGIN
    COMMIT;
    EXECUTE command; -- (what is kept then is known)
    before := t.looked_up(tables);
    EXECUTE command;
    looked := t.looked_up(tables) - before;
    RAISE INFO '%', CASE WHEN looked <= most THEN 'little' ELSE format('%s rows', looked) END;
END
$$;
\set ECHO all
SET client_min_messages = warning;
-- How often a catalog is looked at is measured, not what the planner thinks of one that has twenty rows: a Seq Scan reads all of them each time.
SET enable_seqscan = off;

-- Whoever may refer to a table has 16 that all refer to each other. A push that fails asks what hangs on what.
CREATE TABLE docs (id int PRIMARY KEY, v int CHECK (v >= 0));
CREATE TABLE notes (id int PRIMARY KEY, doc int REFERENCES docs, v int CHECK (v >= 0));
SELECT snapsync.enable('docs'), snapsync.enable('notes');
INSERT INTO docs VALUES (1, 0), (2, 0);
INSERT INTO notes VALUES (1, 1, 0);
DO $$
BEGIN
    FOR i IN 1..16 LOOP EXECUTE format('CREATE TABLE ring%s (id int PRIMARY KEY)', i); END LOOP;
    FOR i IN 1..16 LOOP
        EXECUTE format('ALTER TABLE ring%s %s', i, (SELECT string_agg(format('ADD FOREIGN KEY (id) REFERENCES ring%s', j), ', ') FROM generate_series(1, 16) AS j WHERE j <> i));
    END LOOP;
END
$$;
ALTER TABLE ring1 ADD COLUMN doc int REFERENCES docs;
CALL t.measure($$ SELECT push_changes('{"docs": {"updated": [{"id": 1, "v": -1}, {"id": 2, "v": 2}]}}', on_rejected => 'report') $$, '{pg_constraint,pg_trigger}', 100);
CALL t.measure($$ SELECT push_changes('{"docs": {"updated": [{"id": 1, "v": -1}]}, "notes": {"updated": [{"id": 1, "v": -1}]}}', on_rejected => 'report') $$, '{pg_constraint,pg_trigger}', 100);
-- What refers to them itself is asked for each of them once.
CREATE TABLE leaves (id int PRIMARY KEY, ring int REFERENCES ring1, v int CHECK (v >= 0));
SELECT snapsync.enable('leaves'), snapsync.enable('ring1');
CALL t.measure($$ SELECT push_changes('{"ring1": {"created": [{"id": 2}]}, "leaves": {"created": [{"id": 1, "ring": 2, "v": -1}]}}', on_rejected => 'report') $$, '{pg_constraint}', 1000);

-- Policies of 20 tables, each of which reads all others; doctor() asks who may enable what reads one of them.
DO $$
BEGIN
    FOR i IN 1..20 LOOP EXECUTE format('CREATE TABLE web%s (id int PRIMARY KEY, x int); ALTER TABLE web%1$s ENABLE ROW LEVEL SECURITY', i); END LOOP;
    FOR i IN 1..20 LOOP
        EXECUTE format('CREATE POLICY p ON web%s USING (%s)', i,
                       (SELECT string_agg(format('EXISTS (SELECT FROM web%s AS y WHERE y.id = web%s.x)', j, i), ' AND ') FROM generate_series(1, 20) AS j WHERE j <> i));
    END LOOP;
END
$$;
CREATE TABLE reader (id int PRIMARY KEY);
CREATE POLICY p ON reader USING (EXISTS (SELECT FROM web1));
CALL t.measure($$ SELECT FROM snapsync.beyond_owners('reader'::regclass) $$, '{pg_policy}', 200);

-- Twenty roles, each a member of all that come after it; a pull asks what the first one is a member of.
DO $$
BEGIN
    FOR i IN 1..20 LOOP EXECUTE format('CREATE ROLE regress_pairs_%s', i); END LOOP;
    FOR i IN 1..19 LOOP
        EXECUTE format('GRANT %s TO regress_pairs_%s', (SELECT string_agg('regress_pairs_' || j, ', ') FROM generate_series(i + 1, 20) AS j), i);
    END LOOP;
END
$$;
GRANT SELECT ON docs TO regress_pairs_1;
CALL t.measure($$ ALTER ROLE regress_pairs_1 CONNECTION LIMIT 9; SET LOCAL ROLE regress_pairs_1; SELECT pull_changes('{docs}'); RESET ROLE $$, '{pg_auth_members}', 800);
DROP OWNED BY regress_pairs_1;
DO $$ BEGIN FOR i IN 1..20 LOOP EXECUTE format('DROP ROLE regress_pairs_%s', i); END LOOP; END $$;
