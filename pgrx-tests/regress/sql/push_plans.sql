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
CREATE TABLE plans.small (id bigint PRIMARY KEY, owner text NOT NULL DEFAULT current_user, title text);
CREATE TABLE plans.by_two (a text, b int, owner text NOT NULL DEFAULT current_user, title text, PRIMARY KEY (a, b));
INSERT INTO plans.by_uuid SELECT md5(n::text)::uuid, 'plans_user', n FROM generate_series(1, 10000) n;
INSERT INTO plans.by_number SELECT n, 'plans_user', n FROM generate_series(1, 10000) n;
INSERT INTO plans.small SELECT n, 'plans_user', n FROM generate_series(1, 10) n;
INSERT INTO plans.by_two SELECT n, n, 'plans_user', n FROM generate_series(1, 10000) n;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA plans TO plans_user;
DO $$
DECLARE t regclass;
BEGIN
  FOREACH t IN ARRAY '{plans.by_uuid,plans.by_number,plans.small,plans.by_two}'::regclass[] LOOP
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', t);
    EXECUTE format('CREATE POLICY own ON %s USING (owner = (SELECT current_user::text))', t);
    PERFORM snapsync.enable(t);
  END LOOP;
END $$;
ANALYZE plans.by_uuid, plans.by_number, plans.small, plans.by_two;

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
-- A table that is cheaper to read whole may have grown before the plan is made anew.
SELECT plans.scans('plans.small', '{"updated": [{"id": 1, "title": "x"}, {"id": 2, "title": "x"}]}');
SELECT plans.scans('plans.small', '{"updated": [{"id": 1, "title": "y"}], "deleted": [2, 3]}');
SELECT id, title FROM plans.by_uuid WHERE id < '00000000-0000-0000-0000-00000000000f' ORDER BY id;
SELECT id, title FROM plans.by_number WHERE id < 4 OR id > 10000 ORDER BY id;
SELECT a, b, title FROM plans.by_two WHERE a IN ('1', 'x');
RESET ROLE;

-- A user who has thousands of times more rows than others. The planner, which does not know whose push it is, expects him to
-- have as few, and to find them by the policy's index as fast as by the key.
CREATE TABLE plans.reject (id uuid PRIMARY KEY, part int NOT NULL DEFAULT 0, owner text NOT NULL DEFAULT 'plans_user',
  tenant text NOT NULL DEFAULT 'plans_user', v int NOT NULL DEFAULT 0, gone boolean NOT NULL DEFAULT false, CONSTRAINT positive CHECK (v >= 0));
INSERT INTO plans.reject SELECT md5(n::text)::uuid, n, who, who FROM generate_series(1, 40000) AS n, LATERAL (SELECT CASE WHEN n <= 20000 THEN 'plans_user' ELSE n::text END AS who) AS w;
CREATE FUNCTION plans.skewed(name text, conflict text, key text DEFAULT 'id', partitioned text DEFAULT '', policy text[] DEFAULT '{owner}', soft_delete text DEFAULT NULL, scope text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF name <> 'reject' THEN
    EXECUTE format('CREATE TABLE plans.%I (LIKE plans.reject INCLUDING DEFAULTS INCLUDING CONSTRAINTS, PRIMARY KEY (%s)) %s', name, key, partitioned);
    FOR i IN 0 .. 19 LOOP
      EXIT WHEN partitioned = '';
      EXECUTE format('CREATE TABLE plans.%I PARTITION OF plans.%I FOR VALUES WITH (MODULUS 20, REMAINDER %s)', name || i, name, i);
    END LOOP;
    EXECUTE format('INSERT INTO plans.%I SELECT * FROM plans.reject', name);
  END IF;
  EXECUTE format('CREATE INDEX ON plans.%I (%s)', name, array_to_string(policy, ', '));
  EXECUTE format('ALTER TABLE plans.%I ENABLE ROW LEVEL SECURITY', name);
  EXECUTE format('CREATE POLICY own ON plans.%I USING (%s)', name, (SELECT string_agg(c || ' = (SELECT current_user::text COLLATE "default")', ' AND ') FROM unnest(policy) AS c));
  EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON plans.%I TO plans_user', name);
  EXECUTE format('ANALYZE plans.%I', name);
  PERFORM snapsync.enable(format('plans.%I', name)::regclass, name => name, conflict => conflict, soft_delete_column => soft_delete, scope_column => scope,
                          version_column => CASE conflict WHEN 'last_write_wins' THEN 'v' END);
END $$;
SELECT plans.skewed('reject', 'reject');
SELECT plans.skewed('merge', 'merge');
SELECT plans.skewed('latest', 'last_write_wins');
SELECT plans.skewed('server', 'server_wins');
SELECT plans.skewed('scoped', 'client_wins', soft_delete => 'gone', scope => 'owner');
SELECT plans.skewed('parts', 'reject', partitioned => 'PARTITION BY HASH (id)');
SELECT plans.skewed('tenants', 'reject', key => 'id, part', policy => '{tenant,owner}');
-- A policy whose subquery the planner takes for dear. (What that reads is not counted.)
CREATE SCHEMA plans_apart;
CREATE TABLE plans_apart.members (who text, team text);
INSERT INTO plans_apart.members SELECT n, n FROM generate_series(1, 100) n;
INSERT INTO plans_apart.members VALUES ('plans_user', 'plans_user');
CREATE FUNCTION plans_apart.dear(who text) RETURNS text STABLE COST 1000000 LANGUAGE plpgsql AS $$ BEGIN RETURN who; END $$;
GRANT USAGE ON SCHEMA plans_apart TO plans_user;
GRANT SELECT ON plans_apart.members TO plans_user;
ANALYZE plans_apart.members;
SELECT plans.skewed('teams', 'reject');
ALTER POLICY own ON plans.teams USING (tenant IN (SELECT team FROM plans_apart.members WHERE plans_apart.dear(who) = current_user));

-- Pushes so many rows eight times, more often than PostgreSQL plans anew before it thinks of keeping a plan, each time others and
-- undone. How many rows were read for each pushed one, at most? (Where one is refused, the others are written in halves of
-- halves.) The first 1,000 are in conflict.
CREATE FUNCTION plans.reads(name text, what text, rows int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE before bigint; most bigint := 0; conflict boolean := what LIKE '%in conflict'; base int := CASE WHEN conflict THEN 0 ELSE 1000 END; cursor text; old json; new json; changes json; answer json; rejected int;
BEGIN
  SET LOCAL ROLE plans_user;
  cursor := CASE WHEN conflict THEN current_setting('plans.cursor') ELSE public.pull_changes('{}') ->> 'timestamp' END;
  FOR i IN 1 .. 8 LOOP
    SELECT json_agg(json_build_object('id', md5(n::text)::uuid, 'part', n, 'v', CASE WHEN what = 'one refused' AND n % rows = 0 THEN -1 ELSE 1 END)),
           json_agg(json_build_object('id', md5('new' || n)::uuid, 'part', n, 'v', 1))
    INTO old, new FROM generate_series(base + i * rows + 1, base + (i + 1) * rows) AS n;
    changes := CASE regexp_replace(what, ' in conflict|created that ', '', 'g') WHEN 'created' THEN json_build_object('created', new) WHEN 'exist' THEN json_build_object('created', old)
                         WHEN 'deleted' THEN json_build_object('deleted', old) WHEN 'mixed' THEN json_build_object('created', new, 'updated', old)
                         ELSE json_build_object('updated', old) END;
    BEGIN
      SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) INTO before FROM pg_stat_xact_user_tables WHERE schemaname = 'plans';
      answer := public.push_changes(json_build_object(name, changes), cursor, on_rejected => 'report');
      RAISE EXCEPTION USING ERRCODE = 'UNDO0';
    EXCEPTION WHEN SQLSTATE 'UNDO0' THEN
      SELECT greatest(most, sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) - before) INTO most FROM pg_stat_xact_user_tables WHERE schemaname = 'plans';
    END;
  END LOOP;
  RESET ROLE;
  rejected := json_array_length(answer -> 'rejected');
  RETURN format('%s: %s%s', rows, CASE WHEN most <= 4 * rows THEN '4 or less' WHEN most <= 8 * rows THEN '8 or less' ELSE ceil(most::float / rows)::text END, ', ' || rejected || ' rejected');
END $$;
SELECT set_config('plans.cursor', public.pull_changes('{}') ->> 'timestamp', false) \g /dev/null
SELECT format('UPDATE plans.%I SET v = 5 WHERE part <= 1000', name) FROM unnest('{reject,merge,latest,server,scoped,parts,tenants,teams}'::text[]) AS name
\gexec
-- Each in a transaction of its own.
SELECT format('SELECT %L, %L, plans.reads(%1$L, %2$L, 1), plans.reads(%1$L, %2$L, 10), plans.reads(%1$L, %2$L, 100)', name, what)
FROM unnest('{reject,merge,latest,server,scoped,parts,tenants,teams}'::text[]) WITH ORDINALITY AS c(name, i),
     unnest('{updated,deleted,created,created that exist,mixed,one refused,updated in conflict,deleted in conflict,created that exist in conflict}'::text[]) WITH ORDINALITY AS w(what, o)
ORDER BY i, o
\gexec
SET client_min_messages = warning;
DROP SCHEMA plans, plans_apart CASCADE;
DROP OWNED BY plans_user;
DROP ROLE plans_user;
