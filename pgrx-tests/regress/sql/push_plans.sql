-- Under row-level security a push finds its rows by the key's index: a condition that is not leakproof (a cast of the key from
-- text) would make PostgreSQL read the whole table first.
\set ECHO none
\set test regress_push_plans
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE SCHEMA plans;
CREATE ROLE plans_user;
GRANT USAGE ON SCHEMA plans TO plans_user;
CREATE TABLE plans.by_uuid (id uuid PRIMARY KEY, owner text NOT NULL DEFAULT current_user, title text);
CREATE TABLE plans.by_number (id bigint PRIMARY KEY, owner text NOT NULL DEFAULT current_user, title text);
CREATE TABLE plans.by_two (a text, b int, owner text NOT NULL DEFAULT current_user, title text, PRIMARY KEY (a, b));
INSERT INTO plans.by_uuid SELECT md5(n::text)::uuid, 'plans_user', n FROM generate_series(1, 10000) n;
INSERT INTO plans.by_number SELECT n, 'plans_user', n FROM generate_series(1, 10000) n;
INSERT INTO plans.by_two SELECT n, n, 'plans_user', n FROM generate_series(1, 10000) n;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA plans TO plans_user;
DO $$
DECLARE t regclass;
BEGIN
  FOREACH t IN ARRAY '{plans.by_uuid,plans.by_number,plans.by_two}'::regclass[] LOOP
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', t);
    EXECUTE format('CREATE POLICY own ON %s USING (owner = (SELECT current_user::text))', t);
    PERFORM snapsync.enable(t);
  END LOOP;
END $$;
ANALYZE plans.by_uuid, plans.by_number, plans.by_two;

-- Pushes, and says how often a table was read from one end to the other.
CREATE FUNCTION plans.scans(name text, changes text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE cursor text := public.pull_changes('{}') ->> 'timestamp'; before bigint; answer json;
BEGIN
  SELECT sum(seq_scan) INTO before FROM pg_stat_xact_user_tables WHERE schemaname = 'plans';
  answer := public.push_changes(format('{%s: %s}', to_json(name), changes)::json, cursor);
  RETURN format('%s, %s scans', answer, (SELECT sum(seq_scan) - before FROM pg_stat_xact_user_tables WHERE schemaname = 'plans'));
END $$;
SET ROLE plans_user;
SELECT plans.scans('plans.by_uuid', '{"created": [{"id": "00000000-0000-0000-0000-000000000001", "title": "new"}]}');
-- Again: it exists.
SELECT plans.scans('plans.by_uuid', '{"created": [{"id": "00000000-0000-0000-0000-000000000001", "title": "again"}]}');
SELECT plans.scans('plans.by_uuid', '{"updated": [{"id": "00000000-0000-0000-0000-000000000001", "title": "changed"}]}');
SELECT plans.scans('plans.by_uuid', '{"updated": [{"id": "00000000-0000-0000-0000-000000000002", "title": "unknown"}]}');
SELECT plans.scans('plans.by_uuid', '{"created": [{"id": "00000000-0000-0000-0000-000000000003"}],
  "updated": [{"id": "00000000-0000-0000-0000-000000000001", "title": "all"}], "deleted": ["00000000-0000-0000-0000-000000000002"]}');
SELECT plans.scans('plans.by_number', '{"created": [{"id": 20001}]}');
SELECT plans.scans('plans.by_number', '{"updated": [{"id": 1, "title": "one"}, {"id": 20001, "title": "two"}]}');
SELECT plans.scans('plans.by_number', '{"updated": [{"id": 2, "title": "x"}], "deleted": [1, 20001]}');
SELECT plans.scans('plans.by_two', '{"updated": [{"a": "1", "b": 1, "title": "x"}]}');
SELECT plans.scans('plans.by_two', '{"created": [{"a": "x", "b": 1}], "deleted": [{"a": "1", "b": 1}]}');
SELECT id, title FROM plans.by_uuid WHERE id < '00000000-0000-0000-0000-00000000000f' ORDER BY id;
SELECT id, title FROM plans.by_number WHERE id < 4 OR id > 10000 ORDER BY id;
SELECT a, b, title FROM plans.by_two WHERE a IN ('1', 'x');
RESET ROLE;
SET client_min_messages = warning;
DROP SCHEMA plans CASCADE;
DROP OWNED BY plans_user;
DROP ROLE plans_user;
