-- A pull reads the rows that changed, not all rows of the user, though policy and scope have an index of their own, by which the
-- planner expects few (it takes the two for independent).
\set ECHO none
\set test regress_pull_plans
\cd `echo "$PG_ABS_SRCDIR"`
\i support.psql

CREATE ROLE plans_owner;
CREATE ROLE plans_other;
CREATE TABLE by_uuid (id uuid PRIMARY KEY, owner text NOT NULL, title text, gone boolean NOT NULL DEFAULT false);
CREATE TABLE by_text (id text COLLATE "C" PRIMARY KEY, owner text NOT NULL, title text, gone boolean NOT NULL DEFAULT false);
CREATE TABLE by_two (a text, b int, owner text NOT NULL, title text, gone boolean NOT NULL DEFAULT false, PRIMARY KEY (a, b));
INSERT INTO by_uuid SELECT md5(n::text)::uuid, CASE n % 2 WHEN 0 THEN 'plans_owner' ELSE 'plans_other' END, n FROM generate_series(1, 20000) n;
INSERT INTO by_text SELECT id::text, owner, title FROM by_uuid;
INSERT INTO by_two SELECT title, title::int, owner, title FROM by_uuid;
-- As many others as make the planner think that this user has one row.
INSERT INTO by_uuid SELECT md5(n::text)::uuid, n, n FROM generate_series(20001, 100000) n;
-- Of a tenant and an owner, taken for independent, it expects one row as well.
CREATE TABLE by_pair (id uuid PRIMARY KEY, tenant text NOT NULL, owner text NOT NULL, title text, gone boolean NOT NULL DEFAULT false);
INSERT INTO by_pair SELECT id, owner, owner, title FROM by_uuid;
CREATE INDEX ON by_pair (tenant, owner);
-- What a policy's subquery costs (nothing here, but the planner takes it for dear) is no reason to read the whole table.
CREATE SCHEMA apart;
CREATE TABLE apart.members (who text, team text);
INSERT INTO apart.members SELECT n, n FROM generate_series(1, 100) n;
INSERT INTO apart.members VALUES ('plans_owner', 'plans_owner');
CREATE FUNCTION apart.dear(who text) RETURNS text STABLE COST 1000000 LANGUAGE plpgsql AS $$ BEGIN RETURN who; END $$;
CREATE TABLE by_team (id int PRIMARY KEY, team text NOT NULL, owner text NOT NULL, title text, gone boolean NOT NULL DEFAULT false);
INSERT INTO by_team SELECT title::int, owner, owner, title FROM by_uuid WHERE title::int <= 30000;
GRANT USAGE ON SCHEMA apart TO plans_owner;
GRANT SELECT ON by_uuid, by_text, by_two, by_pair, by_team, apart.members TO plans_owner;
DO $$
DECLARE t regclass;
BEGIN
  FOREACH t IN ARRAY '{by_uuid,by_text,by_two,by_pair,by_team}'::regclass[] LOOP
    EXECUTE format('CREATE INDEX ON %s (owner)', t);
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', t);
    EXECUTE format('CREATE POLICY own ON %s USING (owner = (SELECT current_user::text))', t);
    PERFORM snapsync.enable(t, scope_column => 'owner', soft_delete_column => 'gone');
  END LOOP;
END $$;
ALTER POLICY own ON by_pair USING (tenant = (SELECT current_user::text) AND owner = (SELECT current_user::text));
ALTER POLICY own ON by_team USING (team IN (SELECT team FROM apart.members WHERE apart.dear(who) = current_user));
ANALYZE by_uuid, by_text, by_two, by_pair, by_team, apart.members;

-- Changes so many of the user's rows; a pull of his finds how many, and how many rows does it read?
CREATE FUNCTION reads(name text, changed int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE cursor text := public.pull_changes('{}') ->> 'timestamp'; before bigint; came json; reads bigint; most bigint := 0;
BEGIN
  EXECUTE format('UPDATE %I SET title = title || ''.'' WHERE ctid = ANY (ARRAY(SELECT ctid FROM %1$I WHERE owner = ''plans_owner'' ORDER BY ctid LIMIT %s))',
                 name, changed);
  SET LOCAL ROLE plans_owner;
  -- More often than PostgreSQL plans anew before it thinks of keeping a plan.
  FOR n IN 1 .. 8 LOOP
    SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) INTO before FROM pg_stat_xact_user_tables WHERE schemaname = 'public';
    came := public.pull_changes(ARRAY[name], cursor, filter => json_build_object(name, '{"owner": ["plans_owner"]}'::json)::jsonb);
    SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) - before INTO reads FROM pg_stat_xact_user_tables WHERE schemaname = 'public';
    most := greatest(most, reads);
  END LOOP;
  RESET ROLE;
  RETURN format('%s came, %s', json_array_length(came -> 'changes' -> name -> 'updated'),
                CASE WHEN most <= changed THEN 'no more were read' ELSE format('%s were read', most) END);
END $$;
-- Each in a transaction of its own.
SELECT format('SELECT %L AS "table", %s AS changed, reads(%1$L, %2$s)', name, changed)
FROM unnest('{by_uuid,by_text,by_two,by_pair,by_team}'::text[]) name, unnest('{1,10,100,101,1000}'::int[]) changed
ORDER BY name, changed
\gexec

-- More are looked up in a large table; and whatever the session has set for the planner.
SELECT reads('by_uuid', 1900);
SET enable_nestloop = off;
SELECT reads('by_uuid', 10), reads('by_team', 10), reads('by_team', 101);
RESET enable_nestloop;

-- Beside many changes of others, too: neither is the table read once for each thousand of them, nor what the policy's subquery reads.
CREATE TABLE two_ways (id int PRIMARY KEY, team text NOT NULL, owner text NOT NULL, title text);
INSERT INTO two_ways SELECT id, team, owner, title FROM by_team;
CREATE INDEX ON two_ways (team);
ALTER TABLE two_ways ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON two_ways USING (owner = (SELECT current_user::text) OR team IN (SELECT team FROM apart.members WHERE apart.dear(who) = current_user));
GRANT SELECT ON two_ways TO plans_owner;
SELECT snapsync.enable('two_ways');
ANALYZE two_ways;
CREATE FUNCTION reads_beside(others int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE cursor text := public.pull_changes('{}') ->> 'timestamp'; before bigint; scans bigint; came json; reads bigint;
BEGIN
  UPDATE two_ways SET title = title || '.' WHERE id IN (SELECT id FROM two_ways WHERE owner <> 'plans_owner' LIMIT others);
  UPDATE two_ways SET title = title || '.' WHERE id IN (SELECT id FROM two_ways WHERE owner = 'plans_owner' LIMIT 1);
  SET LOCAL ROLE plans_owner;
  SELECT seq_tup_read + idx_tup_fetch INTO before FROM pg_stat_xact_user_tables WHERE relname = 'two_ways';
  scans := (SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relid = 'apart.members'::regclass);
  came := public.pull_changes('{two_ways}', cursor);
  SELECT seq_tup_read + idx_tup_fetch - before INTO reads FROM pg_stat_xact_user_tables WHERE relname = 'two_ways';
  scans := (SELECT seq_scan - scans FROM pg_stat_xact_user_tables WHERE relid = 'apart.members'::regclass);
  RESET ROLE;
  RETURN format('%s came, %s, %s', json_array_length(came #> '{changes,two_ways,updated}'),
                CASE WHEN reads <= 4 * 30000 THEN 'the table was read a few times at most' ELSE format('%s rows were read', reads) END,
                CASE WHEN scans <= 6 THEN 'the subquery a few times' ELSE format('the subquery %s times', scans) END);
END $$;
SELECT reads_beside(12000);

-- Old rows are judged by the parents that they hung on, not by all that the user has; also if policies name these twice.
CREATE TABLE projects (id int PRIMARY KEY, owner text NOT NULL, rank int NOT NULL DEFAULT 0);
CREATE TABLE tasks (id int PRIMARY KEY, project_id int NOT NULL REFERENCES projects ON DELETE CASCADE);
INSERT INTO projects SELECT n, CASE WHEN n % 10 = 0 THEN n::text ELSE 'plans_owner' END FROM generate_series(1, 20000) n;
INSERT INTO tasks SELECT n, n / 10 + 1 FROM generate_series(1, 20000) n;
CREATE INDEX ON projects (owner);
CREATE INDEX ON tasks (project_id);
ALTER TABLE projects ENABLE ROW LEVEL SECURITY;
ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON projects USING (owner = (SELECT current_user::text));
CREATE POLICY low ON tasks USING (EXISTS (SELECT FROM projects AS p WHERE p.id = project_id AND p.rank < 1));
CREATE POLICY high ON tasks USING (EXISTS (SELECT FROM projects AS p WHERE p.id = project_id AND p.rank >= 1));
GRANT SELECT ON projects, tasks TO plans_owner;
SELECT snapsync.enable('projects'), snapsync.enable('tasks');
ANALYZE projects, tasks;
CREATE FUNCTION deletion_reads(gone int[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE cursor text := public.pull_changes('{}') ->> 'timestamp'; before bigint; came json; reads bigint;
BEGIN
  DELETE FROM projects WHERE id = ANY (gone);
  SET LOCAL ROLE plans_owner;
  SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) INTO before FROM pg_stat_xact_user_tables WHERE schemaname = 'public';
  came := public.pull_changes('{projects,tasks}', cursor);
  SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) - before INTO reads FROM pg_stat_xact_user_tables WHERE schemaname = 'public';
  RESET ROLE;
  RETURN format('%s projects and %s tasks gone, %s', json_array_length(came #> '{changes,projects,deleted}'),
                json_array_length(came #> '{changes,tasks,deleted}'),
                CASE WHEN reads < 100 THEN 'few rows were read' ELSE format('%s were read', reads) END);
END $$;
SELECT deletion_reads('{1,2}');
SELECT deletion_reads('{11,12,13}');
-- Also where the planner makes a join of it, and whatever the parents' own policy costs.
CREATE FUNCTION t.is_mine(owner text) RETURNS bool STABLE LANGUAGE plpgsql AS $$ BEGIN RETURN owner = current_user; END $$;
ALTER POLICY own ON projects USING (t.is_mine(owner));
DROP POLICY low ON tasks;
DROP POLICY high ON tasks;
CREATE POLICY via ON tasks USING (project_id IN (SELECT id FROM projects));
SELECT deletion_reads('{21,22}');
SELECT deletion_reads('{31,32,33,34,35,36,37,38,39,41,42,43,44,45,46,47,48,49}');

-- Boards come into view in bulk, of whomever: which of them concern the caller is asked of hundreds at once, and of none once their change is known to. What is counted is how often
-- the policy's subquery is run.
CREATE TABLE boards (id int PRIMARY KEY, team text NOT NULL, hidden boolean NOT NULL DEFAULT true, rank int NOT NULL DEFAULT 0);
CREATE TABLE cards (id int PRIMARY KEY, board int NOT NULL REFERENCES boards ON DELETE CASCADE);
INSERT INTO boards SELECT n, CASE WHEN n % 10 = 7 THEN 'plans_owner' ELSE 'plans_other' END FROM generate_series(1, 3000) n;
INSERT INTO cards SELECT n, n FROM generate_series(1, 3000) n;
CREATE INDEX ON cards (board);
ALTER TABLE boards ENABLE ROW LEVEL SECURITY;
ALTER TABLE cards ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON boards USING (NOT hidden AND rank < 10 AND team IN (SELECT team FROM apart.members WHERE who = current_user));
CREATE POLICY via ON cards USING (board IN (SELECT id FROM boards));
GRANT SELECT ON boards, cards TO plans_owner;
SELECT snapsync.enable('boards'), snapsync.enable('cards');
ANALYZE boards, cards;
CREATE FUNCTION asks(since text, enough int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE scans bigint; came json;
BEGIN
  scans := (SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relid = 'apart.members'::regclass);
  came := public.pull_changes('{cards}', since);
  scans := (SELECT seq_scan - scans FROM pg_stat_xact_user_tables WHERE relid = 'apart.members'::regclass);
  RETURN format('%s came and %s went%s, the subquery was run %s',
                json_array_length(came #> '{changes,cards,created}') + json_array_length(came #> '{changes,cards,updated}'),
                json_array_length(came #> '{changes,cards,deleted}'), ', replaced because of ' || (came #>> '{reason,cards}'),
                CASE WHEN scans <= enough THEN 'a few times' ELSE format('%s times', scans) END);
END $$;
SELECT public.pull_changes('{}') ->> 'timestamp' AS since \gset
UPDATE boards SET hidden = false WHERE id <= 1500;
SET ROLE plans_owner; SELECT asks(:'since', 10); RESET ROLE;
-- In transactions of their own, of which each has one that concerns the caller; and in such that have none, where each batch is asked about once as they were and once as they are.
SELECT public.pull_changes('{}') ->> 'timestamp' AS since \gset
DO $$ BEGIN FOR n IN 0 .. 149 LOOP UPDATE boards SET hidden = false WHERE id > 1500 AND id / 10 = 150 + n; COMMIT; END LOOP; END $$;
SET ROLE plans_owner; SELECT asks(:'since', 12); RESET ROLE;
SELECT public.pull_changes('{}') ->> 'timestamp' AS since \gset
UPDATE boards SET rank = 1 WHERE team = 'plans_other';
SET ROLE plans_owner; SELECT asks(:'since', 14); RESET ROLE;
-- Deleted rows of theirs beside them.
SELECT public.pull_changes('{}') ->> 'timestamp' AS since \gset
DELETE FROM boards WHERE id % 100 = 7;
UPDATE boards SET rank = 10 WHERE team = 'plans_owner';
UPDATE boards SET rank = 2;
SET ROLE plans_owner; SELECT asks(:'since', 20); RESET ROLE;

-- Ten tables that hang on boards in the same way: it is asked once whom the changes of these concern.
DO $$ BEGIN
    FOR n IN 1 .. 10 LOOP
        EXECUTE format('CREATE TABLE pins%s (id int PRIMARY KEY, board int NOT NULL REFERENCES boards ON DELETE CASCADE)', n);
        EXECUTE format('ALTER TABLE pins%s ENABLE ROW LEVEL SECURITY', n);
        EXECUTE format('CREATE POLICY via ON pins%s USING (board IN (SELECT id FROM boards))', n);
        EXECUTE format('GRANT SELECT ON pins%s TO plans_owner', n);
        PERFORM snapsync.enable(('pins' || n)::regclass);
    END LOOP;
END $$;
CREATE FUNCTION asks_of_all(since text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE scans bigint; came json;
BEGIN
  scans := (SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relid = 'apart.members'::regclass);
  came := public.pull_changes(ARRAY(SELECT 'pins' || n FROM generate_series(1, 10) AS n), since);
  scans := (SELECT seq_scan - scans FROM pg_stat_xact_user_tables WHERE relid = 'apart.members'::regclass);
  RETURN format('%s, the subquery was run %s', coalesce(came ->> 'reason', 'no replacement'), CASE WHEN scans <= 20 THEN 'a few times' ELSE format('%s times', scans) END);
END $$;
SELECT public.pull_changes('{}') ->> 'timestamp' AS since \gset
UPDATE boards SET rank = 3 WHERE team = 'plans_other';
SET ROLE plans_owner; SELECT asks_of_all(:'since'); RESET ROLE;

-- With a change of a role plans are made anew, and those from before are not kept.
CREATE FUNCTION pull_after_changes(n int) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1 .. n LOOP
    EXECUTE format('ALTER ROLE plans_other CONNECTION LIMIT %s', i);
    PERFORM public.pull_changes('{by_uuid,by_two,projects,tasks}');
  END LOOP;
  RETURN (SELECT count(*) FROM pg_backend_memory_contexts WHERE name IN ('SPI Plan', 'CachedPlanSource', 'CachedPlan'));
END $$;
SELECT pull_after_changes(3) AS contexts \gset
SELECT pull_after_changes(30) <= :contexts + 10 AS few_more;

SET client_min_messages = warning;
DO $$ BEGIN FOR n IN 1 .. 10 LOOP EXECUTE format('DROP TABLE pins%s', n); END LOOP; END $$;
DROP TABLE by_uuid, by_text, by_two, by_pair, by_team, two_ways, tasks, projects, cards, boards;
DROP SCHEMA apart CASCADE;
DROP OWNED BY plans_owner;
DROP ROLE plans_owner, plans_other;
